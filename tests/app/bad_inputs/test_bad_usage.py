"""Command lines that cannot be understood: what is wrong with an option, in one line, and where help is."""

from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from fphojax.app.cli import app


class Row(NamedTuple):
    command: str  # F stands for the settings
    said: str  # all of the line but the hint, or its beginning
    help: str = ""  # the command whose help is named


INTEGER = "expected a valid integer"
ROWS = [
    Row("unknown F", "'unknown': unknown command, expected one of demo, init, check, run"),
    Row("chek F", "'chek': unknown command, did you mean check?"),
    Row("mixtures sersik", "mixtures: 'sersik': unknown command, did you mean sersic?", "mixtures"),
    Row("--debug", "found no command, expected one of demo, init, check, run"),
    Row("--nothing check F", "--nothing: unknown option, expected one of --version, --debug"),
    Row("--debgu check F", "--debgu: unknown option, did you mean --debug?"),
    Row("--debug=3 check F", "--debug: found a value, expected none"),
    Row("check", "check: CONFIG: found nothing, expected YAML file of settings", "check"),
    Row("--debug check", "check: CONFIG: found nothing, expected YAML file of settings", "check"),
    Row("init", "init: FOLDER: found nothing, expected folder to write to", "init"),
    Row("report", "report: RUN: found nothing, expected folder of a finished run", "report"),
    Row("check F b c", "check: found 'b c' behind the last argument, expected nothing more", "check"),
    Row(
        "check F --nothing",
        "check: --nothing: unknown option, expected one of --set, --quiet, --help",
        "check",
    ),
    Row("run F --no-notbooks", "run: --no-notbooks: unknown option, did you mean --no-notebooks?", "run"),
    Row("run F -q", "run: -q: unknown option, expected one of --set, --stages, --from", "run"),
    Row("run F --set", "run: --set: found no value, expected one", "run"),
    Row("run F --quiet=3", "run: --quiet: found a value, expected none", "run"),
    Row("run F --workers two", f"run: --workers: found 'two', {INTEGER}", "run"),
    Row("run F --workers 1.5", f"run: --workers: found '1.5', {INTEGER}", "run"),
    Row("run F --workers=", f"run: --workers: found '', {INTEGER}", "run"),
    Row(
        "sample F --workers 0", "sample: --workers: found '0', expected greater than or equal to 1", "sample"
    ),
    Row(
        "sample F --workers 10000",
        "sample: --workers: found '10000', expected less than or equal to 1024",
        "sample",
    ),
    Row("detect F --threshold nan", "detect: --threshold: found 'nan', expected a finite number", "detect"),
    Row(
        "detect F --threshold -1",
        "detect: --threshold: found '-1', expected greater than or equal to 0",
        "detect",
    ),
    Row("detect F --threshold high", "detect: --threshold: found 'high', expected a valid number", "detect"),
    Row(
        "detect F --images --background-box 4",
        "detect: --background-box: found '4', expected greater than or equal to 8",
        "detect",
    ),
    Row("loop F --threshold inf", "loop: --threshold: found 'inf', expected a finite number", "loop"),
    Row("loop F --rounds 1000", "loop: --rounds: found '1000', expected less than or equal to 100", "loop"),
    Row(
        "report F --patches -1",
        "report: --patches: found '-1', expected greater than or equal to 0",
        "report",
    ),
    Row(
        "postprocess F --isophote 500",
        "postprocess: --isophote: found '500', expected less than or equal to 100",
        "postprocess",
    ),
    Row("psf F", "psf: --band: found nothing, expected band of the PSF", "psf"),
    Row("psf --band g --out p.h5", "psf: IMAGES: found nothing, expected PSF images (FITS), or one", "psf"),
    Row("psf F --band g", "psf: --out: found nothing, expected store (HDF5) to create or add to", "psf"),
    Row(
        "psf F --band g --out p.h5 --location 1",
        "psf: --location: found too few values, expected 2",
        "psf",
    ),
    Row(
        "psf F --band g --out p.h5 --location 1 x",
        "psf: --location: found 'x', expected a valid number",
        "psf",
    ),
    Row(
        "psf F --band g --out p.h5 --oversample 0.5",
        "psf: --oversample: found '0.5', expected greater than or equal to 1",
        "psf",
    ),
    Row(
        "psf F --band g --out p.h5 --oversample nan",
        "psf: --oversample: found 'nan', expected a finite number",
        "psf",
    ),
    Row(
        "psf F --band g --out p.h5 --pixel-scale -1",
        "psf: --pixel-scale: found '-1', expected greater than or equal to 0.000001",
        "psf",
    ),
    Row("psf F --band g --out p.h5 --ngauss many", f"psf: --ngauss: found 'many', {INTEGER}", "psf"),
    Row(
        "mixtures sersic",
        "mixtures: sersic: --out: found nothing, expected HDF5 file to write",
        "mixtures sersic",
    ),
    Row(
        "mixtures sersic --out s.h5 --order 1",
        "mixtures: sersic: --order: found '1', expected greater than or equal to 2",
        "mixtures sersic",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=[row.command for row in ROWS])
def test_command_line(tiny, row):
    places = {"F": "{}/field.yml", "p.h5": "{}/p.h5", "s.h5": "{}/s.h5"}
    words = [places.get(word, word) for word in row.command.split()]
    before = tiny.listing()
    result = tiny.call(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {row.said}")
    assert line.endswith(f"; see `{' '.join(['fphojax', *row.help.split()])} --help`")
    assert tiny.listing() == before


@pytest.mark.parametrize("command", [[], ["mixtures"], ["--help"], ["check", "--help"], ["--version"]])
def test_help_is_no_error(command):
    result = CliRunner().invoke(app, command)
    assert "error" not in result.stderr
    assert ("fphojax" if "--version" in command else "Usage: ") in result.output


def test_control_characters_are_printed_as_such(tiny):
    result = tiny.call("check", "{}/field.yml", "a\nb\x1b[31m")
    (line,) = result.stderr.splitlines()
    assert line.isprintable()
    assert line.startswith("error: check: found 'a")


def test_completion_of_the_shell_goes_on_to_work():
    shell = {"_FPHOJAX_COMPLETE": "complete_bash", "COMP_WORDS": "fphojax optimize --wor", "COMP_CWORD": "2"}
    result = CliRunner().invoke(app, [], prog_name="fphojax", env=shell)
    assert result.exit_code == 0
    assert result.output.split() == ["--workers"]
