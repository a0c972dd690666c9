"""Errors of the command line: one line each on the standard error, and the status with which a command ends."""

import signal
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from fphojax.errors import InputError, MachineError, StorageError
from fphojax.system.files import storage_fault
from fphojax.system.interrupts import Interruptions

__all__ = ["OneLineErrors", "one_line_error", "report_problems"]

_UsageError: Any = typer.BadParameter.__base__  # typer exports no name for it

# How to resume a command: those that begin anew unless told otherwise, and those that resume by themselves.
_GO_ON = dict.fromkeys(("sample", "optimize"), "with --resume continues")
_GO_ON |= dict.fromkeys(("run", "demo", "preprocess", "psf"), "continues")


class OneLineErrors(TyperGroup):
    """Commands whose errors are one line each, unless --debug asks for the trace.

    The exit status is 2 where the input or the command line is at fault, 130 after Ctrl-C, 143 after SIGTERM and 129
    after SIGHUP, which act like it, and 1 for anything else, such as a full disk. An unexpected exception is a
    fault of the program, and is reported as such.
    """

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the command line of the program."""
        try:
            return super().make_context(*args, **kwargs)
        except _UsageError as error:
            _refuse_usage(error)

    def invoke(self, ctx: Any) -> Any:
        """Run a command, and report its error."""
        with Interruptions(terminations=True) as interruptions:
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt as error:
                interruptions.hold_to_end()
                if ctx.params["debug"]:
                    raise
                report_problems([str(error) or "interrupted"])
                raise typer.Exit(128 + (interruptions.last_signal or signal.SIGINT)) from None
            except _UsageError as error:
                _refuse_usage(error, ctx.invoked_subcommand)
            except (typer.Exit, typer.Abort, BrokenPipeError):
                raise
            except Exception as error:
                if ctx.params["debug"]:
                    raise
                reported = one_line_error(error)
                lines = str(reported).split("\n")
                if isinstance(reported, MachineError):
                    lines[-1] += (
                        f"; the same command {_GO_ON.get(ctx.invoked_subcommand, 'can be run again')}"
                    )
                report_problems(lines)
                raise typer.Exit(
                    1 if reported is not error or isinstance(reported, MachineError) else 2
                ) from None


def _refuse_usage(error: Exception, command: str | None = None) -> NoReturn:
    """Report in one line a command line that cannot be understood; show help where it says nothing at all."""
    from .usage import asks_for_help, usage_line

    if asks_for_help(error):
        raise error
    report_problems([usage_line(error, command)])
    raise typer.Exit(2) from None


def one_line_error(error: Exception) -> Exception:
    """Convert an error to one with a one-line message; a fault of the disk is reported as such."""
    if isinstance(error, InputError):
        return error
    if (fault := storage_fault(error, of_place=True)) is not None:
        name = getattr(error, "filename", None)
        return StorageError(fault if name is None else f"{name}: {fault}")
    message = " ".join(str(error).split())
    return RuntimeError(
        f"internal error: {type(error).__name__}: {message}; please report it; "
        "`fphojax --debug COMMAND` shows the traceback"
    )


def report_problems(problems: list[str]) -> None:
    """Print problems, one line each, to the standard error."""
    for problem in problems:
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in problem)
        typer.echo(f"error: {line}", err=True)
