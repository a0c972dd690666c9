"""What the shell completes on Tab: stages, instruments, settings' keys, and words that an option takes.

Settings are read when the shell asks, so that commands start without delay.
"""

import re
from collections.abc import Callable, Iterator
from typing import get_args

__all__ = ["complete_change", "complete_instrument", "complete_stage", "complete_stages", "one_of"]


def one_of(*words: str) -> Callable[[str], list[str]]:
    """Make the completion of an option that takes one of these words."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


def complete_stage(incomplete: str) -> list[str]:
    """Complete the name of a stage."""
    from fphojax.app.stage_list import STAGES

    return one_of(*STAGES)(incomplete)


def complete_stages(incomplete: str) -> list[str]:
    """Complete the last name of a list or range of stages."""
    before = re.match(r"(.*(?:,|\.\.))?", incomplete)
    start = before[0] if before else ""
    return [start + name for name in complete_stage(incomplete.removeprefix(start))]


def complete_instrument(incomplete: str) -> list[tuple[str, str]]:
    """Complete the name of an instrument, and say what it is."""
    from fphojax.app.settings.starter import INSTRUMENTS

    return [(name, entry.title) for name, entry in INSTRUMENTS.items() if name.startswith(incomplete.lower())]


def complete_change(incomplete: str) -> list[tuple[str, str]]:
    """Complete a key of the settings, or of a section of them, and say what it is; then words that it takes."""
    return [pair for pair in _keys() if pair[0].startswith(incomplete) and pair[0] != incomplete]


def _keys() -> Iterator[tuple[str, str]]:
    from fphojax.app.settings.schema import Section, Settings

    def keys(model, prefix) -> Iterator[tuple[str, str]]:
        for name, field in model.model_fields.items():
            if isinstance(field.default, Section):
                yield from keys(type(field.default), f"{prefix}{name}.")
                continue
            yield f"{prefix}{name}=", field.description or ""
            for word in _words(field.annotation):
                yield f"{prefix}{name}={word}", ""

    yield from keys(Settings, "")


def _words(annotation) -> list[str]:
    """List the words that a setting takes, if it takes a choice of them alone."""
    if annotation is bool:
        return ["true", "false"]
    return [word for word in get_args(annotation) if isinstance(word, str)]
