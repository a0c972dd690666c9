"""One-line messages about wrong command lines: option, what was found, what was expected, where help is."""

import difflib
import re
from typing import Any

from fphojax.app.settings.settings_file import shown

__all__ = ["asks_for_help", "usage_line"]


def asks_for_help(error: Exception) -> bool:
    """Return whether the parser only shows the help of a command, as it was called without arguments."""
    return type(error).__name__ == "NoArgsIsHelpError"


def usage_line(error: Any, command: str | None = None) -> str:
    """Describe an error of the parser in one line.

    Parameters
    ----------
    error : UsageError
        What typer's parser raised; its kinds have no public names there, and are told apart by what they hold.
    command : str, optional
        The command that was called, where the error does not know it.
    """
    context = error.ctx
    names = [command] if context is None and command is not None else []
    while context is not None and context.parent is not None:
        names.insert(0, context.info_name)
        context = context.parent
    return f"{': '.join([*names, _message(error)])}; see `{' '.join(['fphojax', *names])} --help`"


def _message(error: Any) -> str:
    kind = type(error).__name__
    if kind == "MissingParameter":
        return f"{_name(error.param)}: found nothing, expected {_uncapitalized(error.param.help)}"
    if kind == "BadParameter":
        return f"{_name(error.param)}: {_value(error)}"
    if kind == "BadOptionUsage":
        return f"{error.option_name}: {_amount(error.message)}"
    if kind == "NoSuchOption":
        params = error.ctx.command.get_params(error.ctx)
        names = [text for param in params for text in (*param.opts, *param.secondary_opts)]
        options = [text for text in names if text.startswith("--")]
        return f"{error.option_name}: unknown option, {_nearest(error.option_name, options)}"
    if more := re.search(r"argument\S* \((.*)\)$", error.message, re.DOTALL):
        return f"found {shown(more[1])} behind the last argument, expected nothing more"
    commands = error.ctx.command.list_commands(error.ctx)
    if unknown := re.match(r"No such command '(.*?)'\.", error.message, re.DOTALL):
        return f"{shown(unknown[1])}: unknown command, {_nearest(unknown[1], commands)}"
    return f"found no command, expected one of {', '.join(commands)}"


def _name(param: Any) -> str:
    """Return the longest name of an option, or an argument's name in capitals, as in the help."""
    return max(param.opts, key=len) if param.param_type_name == "option" else param.name.upper()


def _amount(message: str) -> str:
    """Describe an option with too many or too few values."""
    if "not take" in message:
        return "found a value, expected none"
    several = re.search(r"requires (\d+)", message)
    return (
        "found no value, expected one" if several is None else f"found too few values, expected {several[1]}"
    )


def _value(error: Any) -> str:
    """Describe a value of another type, or out of range."""
    cause = error.__cause__
    if not hasattr(cause, "errors"):
        return _uncapitalized(error.message)
    entry = cause.errors()[0]
    if str(entry["input"]).strip().lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return f"found {shown(entry['input'])}, expected a finite number"
    expected = entry["msg"].removeprefix("Input should be ").partition(", unable")[0]
    return f"found {shown(entry['input'])}, expected {_uncapitalized(expected)}"


def _nearest(name: str, candidates: list[str]) -> str:
    matches = difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)
    return f"did you mean {matches[0]}?" if matches else f"expected one of {', '.join(candidates)}"


def _uncapitalized(sentence: str) -> str:
    """Continue a sentence in lower case; a first word in capitals, such as YAML, stays as it is."""
    rest = sentence.rstrip(".")
    return rest if rest[1:2].isupper() else rest[:1].lower() + rest[1:]
