"""The list of commands: their groups, their order, and an example of each that can be understood."""

import shlex

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from fphojax.app.cli.program import app

COMMANDS = get_command(app).commands


def test_groups_and_order():
    groups = {}
    for name, command in COMMANDS.items():
        groups.setdefault(command.rich_help_panel, []).append(name)
    assert list(groups.values()) == [
        ["demo", "init", "check", "run", "report"],
        ["psf", "convert", "preprocess", "warm"],
        ["optimize", "background", "noise", "detect", "loop", "postop", "choose", "sample"],
        ["postprocess", "inject"],
        ["mixtures"],
    ]
    shown = CliRunner().invoke(app, ["--help"]).output
    places = [shown.index(group) for group in groups]
    assert places == sorted(places)


@pytest.mark.parametrize("name", [*(name for name in COMMANDS if name != "mixtures"), "mixtures sersic"])
def test_help_ends_with_an_example(name):
    command = COMMANDS["mixtures"].commands["sersic"] if " " in name else COMMANDS[name]
    example = command.epilog.removeprefix("Example: `").removesuffix("`")
    words = shlex.split(example)
    assert words[: 1 + len(name.split())] == ["fphojax", *name.split()]
    with command.make_context(name, words[1 + len(name.split()) :]):  # raises where an option is not known
        pass
    assert example in " ".join(CliRunner().invoke(app, [*name.split(), "--help"]).output.split())


@pytest.mark.parametrize(
    "name", [name for name, command in COMMANDS.items() if any(p.name == "config" for p in command.params)]
)
def test_what_reads_settings_changes_them_and_can_be_silenced(name):
    options = {text for param in COMMANDS[name].params for text in param.opts}
    assert {"--set", "--quiet"} <= options
