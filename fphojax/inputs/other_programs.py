"""Files of GALFIT and SExtractor, told by how they begin."""

import re
from collections.abc import Collection
from pathlib import Path

__all__ = ["has_sextractor_columns", "program_of_text"]

_START = 65536  # bytes: comments may precede GALFIT's first object
_COLUMNS = {"X_IMAGE", "XWIN_IMAGE", "MAG_AUTO", "FLUX_AUTO", "Field Header Card"}


def program_of_text(path: str | Path) -> str | None:
    """Return the program whose text a regular file is: "SExtractor" (ASCII_HEAD) or "GALFIT"; None for any other."""
    with Path(path).open("rb") as file:
        text = file.read(_START).decode("utf-8", "replace")
    if re.match(r"\s*#\s*1\s+[A-Z]", text):
        return "SExtractor"
    return "GALFIT" if re.search(r"^\s*0\)\s*[a-zA-Z]", text, re.MULTILINE) else None


def has_sextractor_columns(names: Collection[str]) -> bool:
    """Return whether a table with these columns is SExtractor's, and not a catalogue of ours."""
    return bool(_COLUMNS.intersection(names)) and "ra" not in names
