"""Templates executed by papermill, and what a reader opens afterwards: HTML of all of them, with an index."""

import html
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from fphojax.inputs.errors import InputError
from fphojax.inputs.files import replacing

__all__ = ["execute", "write_html", "write_index"]

_PAGE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font-family: sans-serif; max-width: 60em; margin: 2em auto; }}
td, th {{ text-align: left; padding: 0.3em 1em 0.3em 0; vertical-align: top; border-bottom: 1px solid #ddd; }}
.pass {{ color: #2e7d32; }} .look {{ color: #e65100; }}
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
        The error of a cell, in one line; or a Jupyter kernel that cannot be started, or dies.
    """
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
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
    except (NoSuchKernel, DeadKernelError, CellTimeoutError) as error:
        said = " ".join(str(error).split())
        raise InputError(
            f"{notebook}: no Jupyter kernel that works ({type(error).__name__}: {said}), expected one (the package "
            "ipykernel, and memory enough); --no-notebooks does without"
        ) from error


def write_html(notebook: Path) -> Path:
    """The notebook as a page that needs nothing else, beside it."""
    from nbconvert import HTMLExporter

    page, _ = HTMLExporter().from_filename(str(notebook))
    path = notebook.with_suffix(".html")
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def write_index(
    path: Path, title: str, rows: Sequence[tuple[str, str, str, float]], report: Path | None = None
) -> None:
    """The page from which all executed notebooks are reached.

    Parameters
    ----------
    path : Path
        In the folder of the pages.
    title : str
    rows : sequence of (name, level, verdict, seconds)
        Of each step that ended; the page of a name is ``NAME.html``.
    report : Path, optional
        The report of the run, if there is one.
    """
    lines = [
        f'<tr><td><a href="{name}.html">{name}</a></td><td class="{level.split()[0]}">{level}</td>'
        f"<td>{html.escape(verdict)}</td><td>{seconds:.0f}</td></tr>"
        for name, level, verdict, seconds in rows
    ]
    after = ""
    if report is not None:
        after = f'<p><a href="{os.path.relpath(report, path.parent)}">Results: tables and figures</a></p>'
    with replacing(path) as temporary:
        page = _PAGE.format(title=html.escape(title), rows="\n".join(lines), after=after)
        temporary.write_text(page, encoding="utf-8")
