"""Words of tables, verdicts and reports."""

__all__ = ["counted"]


def counted(number: int, noun: str) -> str:
    """Like "1 source", "2 sources", "2 patches"."""
    plural = noun + ("es" if noun.endswith("ch") else "s")
    return f"{number} {noun if number == 1 else plural}"
