"""Templates executed by papermill, and what a reader opens afterwards: HTML of all of them, with an index."""

import html
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fphojax.inputs.errors import InputError
from fphojax.inputs.files import replacing

__all__ = ["IndexRow", "execute", "write_html", "write_index"]

_PAGE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font-family: sans-serif; max-width: 60em; margin: 2em auto; }}
td, th {{ text-align: left; padding: 0.3em 1em 0.3em 0; vertical-align: top; border-bottom: 1px solid #ddd; }}
.pass {{ color: #2e7d32; }} .look {{ color: #e65100; }} .failed, .interrupted {{ color: #b71c1c; }}
.out, .not {{ color: #777; }}
</style></head><body>
<h1>{title}</h1>
<table><tr><th>stage</th><th></th><th>verdict</th><th>seconds</th></tr>
{rows}
</table>
{after}
</body></html>
"""


def execute(template: Path, notebook: Path, parameters: Mapping, *, progress: bool = False) -> None:
    """Run a template from top to bottom.

    Parameters
    ----------
    template, notebook : Path
        The executed notebook is written after each cell; after an error it ends with the cell that failed.
    parameters : mapping
        Values for the cell tagged ``parameters``.
    progress : bool
        Show a bar over the cells.

    Raises
    ------
    InputError
        The error of a cell, in one line.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        papermill.execute_notebook(
            template,
            notebook,
            parameters=dict(parameters),
            kernel_name="python3",
            progress_bar=progress,
            cwd=notebook.parent,
            extra_arguments=["--IPKernelApp.log_level=50"],  # what it says is not about the notebook
        )
    except PapermillExecutionError as error:
        said = " ".join(str(error.evalue).split())
        kind = "" if error.ename == "InputError" else f"{error.ename}: "
        raise InputError(f"{notebook}: {kind}{said}") from error


def write_html(notebook: Path) -> Path:
    """The notebook as a page that needs nothing else, beside it."""
    from nbconvert import HTMLExporter

    page, _ = HTMLExporter().from_filename(str(notebook))
    path = notebook.with_suffix(".html")
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


class IndexRow(NamedTuple):
    """A step in the index.

    Attributes
    ----------
    name : str
        Its page, if there is one, is ``PAGE.html``.
    level : str
        "pass", "look at this", "failed", "interrupted", "out of date" or "not run".
    text : str
        Its verdict, or what went wrong.
    time : str
        How long it took, or "unchanged".
    page : str, optional
        The step's name by default.
    """

    name: str
    level: str
    text: str = ""
    time: str = ""
    page: str | None = None


def write_index(path: Path, title: str, rows: Sequence[IndexRow], report: Path | None = None) -> None:
    """The page from which all executed notebooks are reached.

    Parameters
    ----------
    path : Path
        In the folder of the pages.
    title : str
    rows : sequence of IndexRow
        All steps, in order.
    report : Path, optional
        The report of the run, if there is one.
    """
    lines = []
    for row in rows:
        page = f"{row.page or row.name}.html"
        there = (path.parent / page).is_file()
        name = f'<a href="{page}">{row.name}</a>' if there else row.name
        lines.append(
            f'<tr><td>{name}</td><td class="{row.level.split()[0]}">{row.level}</td>'
            f"<td>{html.escape(row.text)}</td><td>{row.time}</td></tr>"
        )
    after = ""
    if report is not None:
        after = f'<p><a href="{os.path.relpath(report, path.parent)}">Results: tables and figures</a></p>'
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        page = _PAGE.format(title=html.escape(title), rows="\n".join(lines), after=after)
        temporary.write_text(page, encoding="utf-8")
