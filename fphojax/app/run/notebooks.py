"""Execution of templates by papermill, and their pages for a reader: HTML of all of them, with an index."""

import html
import logging
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from fphojax.errors import InputError, MachineError, StorageError
from fphojax.system.files import storage_fault, write_text
from fphojax.system.interrupts import Interruptions
from fphojax.system.relayed_log import RelayedLog

__all__ = ["IndexRow", "execute", "write_html", "write_index"]

_INTERRUPTS, _PATIENCE = 5, 2.0  # times that a kernel is asked to end its cell, and seconds between them

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
        The error of a cell, in one line; or a Jupyter kernel that cannot be started, or dies.
    MachineError
        The error of a cell; or the disk has no room for the notebook.
    KeyboardInterrupt
        After Ctrl-C, once the cell that was running has ended.
    """
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.ERROR)
    interruptions = _KernelInterruptions()
    with interruptions, RelayedLog() as log:
        try:
            papermill.execute_notebook(
                template,
                notebook,
                parameters=dict(parameters),
                kernel_name="python3",
                progress_bar=progress,
                cwd=notebook.parent,
                extra_arguments=[
                    "--IPKernelApp.log_level=50",  # its messages are not about the notebook
                    *([f"--IPKernelApp.exec_lines={log.code}"] if log.code else []),
                ],
                kernel_manager_class=interruptions.kernel_manager(),
                on_cell_start=interruptions.cell_starts,
            )
        except Exception as error:
            if interruptions.last_signal is not None:  # the kernel may have been killed for it
                raise KeyboardInterrupt from None
            if isinstance(error, PapermillExecutionError):
                message = " ".join(str(error.evalue).split())
                if error.ename == "KeyboardInterrupt":
                    raise KeyboardInterrupt(message) from None
                if error.ename in ("MachineError", "StorageError"):
                    raise MachineError(message) from error
                kind = "" if error.ename == "InputError" else f"{error.ename}: "
                raise InputError(f"{notebook}: {kind}{message}") from error
            if (fault := storage_fault(error)) is not None:
                raise StorageError(f"{notebook}: cannot be written ({fault})") from error
            if isinstance(error, NoSuchKernel | DeadKernelError | CellTimeoutError):
                message = " ".join(str(error).split())
                raise InputError(
                    f"{notebook}: no working Jupyter kernel ({type(error).__name__}: {message}), expected one (the "
                    "package ipykernel, and memory enough); --no-notebooks does without"
                ) from error
            raise
    interruptions.raise_if_interrupted()


class _KernelInterruptions(Interruptions):
    """Forwarding of Ctrl-C to the kernel that executes a notebook, which a terminal does not reach.

    The kernel is killed if it has not ended its cell within ten seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self._manager, self._in_cell, self._announced, self._over = None, False, False, threading.Event()

    def __exit__(self, *_) -> None:
        self._over.set()
        super().__exit__(*_)

    def kernel_manager(self):
        """Return the class that makes the manager of the kernel."""
        from jupyter_client import AsyncKernelManager

        def remember(manager):
            self._manager = manager

        class Manager(AsyncKernelManager):
            def __init__(self, **options) -> None:
                super().__init__(**options)
                remember(self)

        return Manager

    def cell_starts(self, **_):
        """Note that a cell is about to be executed."""
        self._in_cell = True

    def _note(self, number, frame):
        if not self._in_cell:
            super()._note(number, frame)
        elif not self._announced:
            self._announced = True
            threading.Thread(target=self._interrupt, daemon=True).start()

    def _interrupt(self):
        """Interrupt the kernel, repeatedly as it is deaf between two cells, and kill it in the end."""
        for _ in range(_INTERRUPTS):
            self._signal(signal.SIGINT)
            if self._over.wait(_PATIENCE):
                return
        self._signal(signal.SIGKILL)

    def _signal(self, number):
        with suppress(ProcessLookupError):
            os.kill(self._manager.provisioner.pid, number)


def write_html(notebook: Path) -> Path:
    """Write a notebook as a self-contained HTML page beside it."""
    from nbconvert import HTMLExporter

    page, _ = HTMLExporter().from_filename(str(notebook))
    path = notebook.with_suffix(".html")
    write_text(path, page)
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
    """Write the page from which all executed notebooks are reached.

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
        exists = (path.parent / page).is_file()
        name = f'<a href="{page}">{row.name}</a>' if exists else row.name
        lines.append(
            f'<tr><td>{name}</td><td class="{row.level.split()[0]}">{row.level}</td>'
            f"<td>{html.escape(row.text)}</td><td>{row.time}</td></tr>"
        )
    after = ""
    if report is not None:
        after = f'<p><a href="{os.path.relpath(report, path.parent)}">Results: tables and figures</a></p>'
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, _PAGE.format(title=html.escape(title), rows="\n".join(lines), after=after))
