"""Arguments and options that several commands have, and the settings that they lead to."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fphojax.errors import InputError

from .completions import complete_change
from .progress_words import speak

if TYPE_CHECKING:
    from fphojax.app.settings.schema import Settings

__all__ = [
    "Changes",
    "Config",
    "Quiet",
    "Retry",
    "RunFolder",
    "Scheduler",
    "Threshold",
    "Workers",
    "changed_settings",
    "read_settings",
]

logger = logging.getLogger(__name__)

Config = Annotated[Path, typer.Argument(help="YAML file of settings.", show_default=False)]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a setting of the file, or a part of one: nuisance.sky=plane; repeatable.",
        autocompletion=complete_change,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress: neither bars nor lines.", callback=speak)]
RunFolder = Annotated[
    Path | None, typer.Option("--run", help="Folder of the fit; the latest one by default.")
]
Workers = Annotated[
    int | None,
    typer.Option(help="Number of processes on this machine that fit patches in parallel.", min=1, max=1024),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        help="Minimum significance of a detection, in standard deviations; default: see detection in the settings.",
        min=0,
        max=1e6,
    ),
]
Scheduler = Annotated[
    str | None, typer.Option(help="Address of a dask scheduler whose workers fit the patches.")
]
Retry = Annotated[bool, typer.Option("--retry", help="With --resume: retry sources that were given up.")]


def read_settings(
    command: str, config: Path, changes: list[str] | None, options: dict[str, Any] | None = None
) -> "Settings":
    """Read settings, with what the command line changes in them, and announce the command.

    Parameters
    ----------
    command : str
        Its name.
    config : Path
    changes : list of str or None
        KEY=VALUE each, as ``--set`` takes them.
    options : dict of str to (str, value), optional
        By setting: the option of its own that states it, and its value.

    Raises
    ------
    InputError
        One line for each problem; or a setting that both ``--set`` and its own option state.
    """
    from fphojax.app.settings.schema import Settings

    settings = Settings.from_yaml(config, changed_settings(changes, options))
    logger.info("%s: settings %s, results in %s", command, config, settings.outbase)
    return settings


def changed_settings(changes: list[str] | None, options: dict[str, Any] | None = None) -> dict[str, Any]:
    """Parse what the command line changes in the settings; see `read_settings`."""
    from fphojax.app.settings.overrides import assigned
    from fphojax.app.settings.schema import Settings

    values = assigned(changes or [], Settings)
    for key, (option, value) in (options or {}).items():
        if key in values:
            raise InputError(f"--set: found {key} beside {option}, expected one of them")
        values[key] = value
    return values
