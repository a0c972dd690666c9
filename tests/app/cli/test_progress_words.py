"""What commands say while they work: lines of the package's log, with the time where it is no terminal."""

import logging
import re
import sys
from io import StringIO

import pytest
import typer
from typer.testing import CliRunner

from fphojax.app.cli.option_types import Quiet
from fphojax.app.cli.progress_words import bars

logger = logging.getLogger("fphojax.somewhere")


class Terminal(StringIO):
    def isatty(self):
        return True


def command(quiet: Quiet = False):
    logger.info("20 sources")
    logger.debug("details")
    logger.warning("a disk is slow")
    typer.echo(bars(quiet))


app = typer.Typer()
app.command()(command)


def test_lines_have_the_time_where_there_is_no_terminal():
    result = CliRunner().invoke(app, [])
    assert result.stdout == "False\n"
    first, second = result.stderr.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d 20 sources", first)
    assert second.endswith("a disk is slow")


def test_terminal_has_lines_alone(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    app([], standalone_mode=False)
    assert screen.getvalue().splitlines() == ["20 sources", "a disk is slow"]
    assert bars(False)
    assert not bars(True)


def test_quiet_leaves_warnings():
    result = CliRunner().invoke(app, ["--quiet"])
    assert result.stdout == "False\n"
    (line,) = result.stderr.splitlines()
    assert line.endswith("a disk is slow")


@pytest.mark.parametrize("options", [[], ["--quiet"]])
def test_nothing_is_left_behind(options):
    package = logging.getLogger("fphojax")
    before = package.level, list(package.handlers)
    CliRunner().invoke(app, options)
    assert (package.level, list(package.handlers)) == before
