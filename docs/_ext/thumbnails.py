"""Pictures for the gallery: the last figure of each executed tutorial, in `docs/pictures`."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

from sphinx.application import Sphinx

_PNG = base64.b64encode(b"\x89PNG")[:5].decode()  # how the text of a PNG image begins
_LEAST = 5_000  # characters; less is an icon


def figures(notebook: dict) -> Iterator[str]:
    """Yield the figures of a notebook as base64: those of its widgets, the largest last, then those of its cells."""
    states = notebook["metadata"].get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {})
    buffers = [b["data"] for widget in states.get("state", {}).values() for b in widget.get("buffers", [])]
    yield from sorted((data for data in buffers if data.startswith(_PNG)), key=len)
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                yield output["data"]["image/png"]


def write(app: Sphinx) -> None:
    """Write a picture for each tutorial."""
    folder = Path(app.srcdir) / "pictures"
    folder.mkdir(exist_ok=True)
    for path in sorted(Path(app.srcdir).glob("tutorials/*.ipynb")):
        found = [figure for figure in figures(json.loads(path.read_text("utf-8"))) if len(figure) > _LEAST]
        (folder / f"{path.stem}.png").write_bytes(base64.b64decode(found[-1]))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
