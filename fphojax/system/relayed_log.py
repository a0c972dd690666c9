"""Lines of the package's log from a process without a terminal, such as a notebook's kernel, by way of a file."""

import logging
import tempfile
import threading
from pathlib import Path

__all__ = ["RelayedLog", "log_to"]

logger = logging.getLogger(__name__)

_PAUSE = 0.5  # seconds between two looks at the file


def log_to(path: str) -> None:
    """Write what the package logs in this process to a file, a message a line."""
    package = logging.getLogger("fphojax")
    package.addHandler(logging.FileHandler(path, encoding="utf-8"))
    package.setLevel(logging.INFO)


class RelayedLog:
    """A context in which lines that another process logs into a file are logged here.

    Attributes
    ----------
    code : str
        What the other process executes to log; empty where nobody listens here.
    """

    def __init__(self) -> None:
        self.code, self._over = "", threading.Event()
        self._folder: tempfile.TemporaryDirectory | None = None

    def __enter__(self) -> "RelayedLog":
        if logger.isEnabledFor(logging.INFO):
            self._folder = tempfile.TemporaryDirectory(prefix="fphojax-", ignore_cleanup_errors=True)
            path = Path(self._folder.name) / "log"
            path.touch()
            self.code = f"__import__({__name__!r}, fromlist=['log_to']).log_to({str(path)!r})"
            self._thread = threading.Thread(target=self._follow, args=(path,), daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._over.set()
            self._thread.join()
            self._folder.cleanup()

    def _follow(self, path: Path) -> None:
        with path.open(encoding="utf-8") as file:
            partial, over = "", False
            while not over:
                over = self._over.wait(_PAUSE)  # once more after the end
                *lines, partial = (partial + file.read()).split("\n")
                for line in lines:
                    logger.info(line)
