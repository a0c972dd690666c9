"""The directive `command-tables`: all commands with their options, read from the parser itself."""

from collections.abc import Iterator
from typing import Any

import typer.main
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from fphojax.app.cli import app as command_line


def markdown() -> Iterator[str]:
    """Yield the lines of a section for each command."""
    yield from _group(typer.main.get_command(command_line), "fphojax")


def _group(group: Any, path: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _group(command, f"{path} {name}")
            continue
        yield from (f"## {path} {name}", "", command.help.strip(), "")
        yield from _parameters(command)


def _parameters(command: Any) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    yield from ("| argument or option | meaning |", "| --- | --- |")
    for parameter in arguments:
        yield f"| `{parameter.name.upper()}` | {_cell(parameter)} |"
    for parameter in options:
        names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
        yield f"| {names} | {_cell(parameter)} |"
    yield ""


def _cell(parameter: Any) -> str:
    text = (parameter.help or "").replace("|", "\\|").replace("*", "\\*")
    if isinstance(parameter.default, int | float | str) and not isinstance(parameter.default, bool):
        text += f" Default: `{parameter.default}`."
    return text


class CommandTables(SphinxDirective):
    """A section for each command."""

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes("\n".join(markdown()), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("command-tables", CommandTables)
    return {"parallel_read_safe": True}
