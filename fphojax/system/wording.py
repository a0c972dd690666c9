"""Wording of tables, verdicts and reports."""

__all__ = ["counted"]


def counted(number: int, noun: str) -> str:
    """Format a number with its noun, like "1 source", "2 sources", "2 patches", "2 fluxes"."""
    plural = noun + ("es" if noun.endswith(("ch", "x")) else "s")
    return f"{number} {noun if number == 1 else plural}"
