"""What a command says while it works: bars and lines on a terminal, lines with the time elsewhere, or nothing."""

import logging
import sys

import typer

__all__ = ["bars", "speak"]

logger = logging.getLogger("fphojax")


def bars(quiet: bool) -> bool:
    """Return whether to show progress bars, which belong on a terminal, not in a log."""
    return sys.stderr.isatty() and not quiet


def speak(context: typer.Context, quiet: bool) -> bool:
    """Show what the package logs while a command runs, unless it is to be quiet; the callback of ``--quiet``."""
    if quiet or context.resilient_parsing:
        return quiet
    handler, level = _Lines(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)

    def end():
        logger.removeHandler(handler)
        logger.setLevel(level)

    context.call_on_close(end)
    return quiet


class _Lines(logging.Handler):
    """Lines on the standard error, above the progress bars; with the time where it is no terminal."""

    def emit(self, record):
        from tqdm import tqdm

        where = sys.stderr
        self.setFormatter(
            logging.Formatter("%(message)s" if where.isatty() else "%(asctime)s %(message)s", _TIME)
        )
        try:
            tqdm.write(self.format(record), file=where)
        except Exception:
            self.handleError(record)


_TIME = "%Y-%m-%d %H:%M:%S"
