"""What a command says while it works: bars and lines on a terminal, lines with the time elsewhere, or nothing."""

import logging
import sys

import typer

__all__ = ["bars", "speak"]

_FORMATS = {
    True: logging.Formatter("%(message)s"),  # on a terminal
    False: logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"),
}


def bars(quiet: bool) -> bool:
    """Return whether to show progress bars, which belong on a terminal, not in a log."""
    return sys.stderr.isatty() and not quiet


def speak(context: typer.Context, quiet: bool) -> bool:
    """Show what the package logs while a command runs, or warnings alone; the callback of ``--quiet``."""
    if not context.resilient_parsing:  # which the shell asks for, to complete words
        package = logging.getLogger("fphojax")
        level = package.level
        package.addHandler(_lines)  # once, whatever was left by a command line that was refused
        package.setLevel(logging.WARNING if quiet else logging.INFO)

        def end():
            package.removeHandler(_lines)
            package.setLevel(level)

        context.call_on_close(end)
    return quiet


class _Lines(logging.Handler):
    """Lines on the standard error, above the progress bars."""

    def emit(self, record):
        from tqdm import tqdm

        try:
            tqdm.write(_FORMATS[sys.stderr.isatty()].format(record), file=sys.stderr)
        except Exception:
            self.handleError(record)


_lines = _Lines()
