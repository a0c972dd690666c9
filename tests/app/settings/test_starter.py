"""`fphojax init`: files that a user can start from, and templates that an installed package carries along."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import fphojax
from fphojax.app.cli import app
from fphojax.app.settings.schema import Settings
from fphojax.app.settings.starter import _GROUPS, INSTRUMENTS, settings_text, template_folder

ROOT = Path(fphojax.__file__).parents[1]


def start(*arguments):
    return CliRunner().invoke(app, ["init", *map(str, arguments)])


@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_settings_are_valid(tmp_path, instrument):
    """As they are written, and with every comment's # removed, when they say what they said before.

    But for the calibration, which is of stores, and is refused as long as none are named.
    """
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.fits").touch()
    text = settings_text(instrument)
    # prose starts with "# ", nested settings with "#  "
    uncommented = re.sub(r"^#(?=[^ ]|  )", "", text, flags=re.MULTILINE)
    stores = {"pixelstorefile": "pixels.h5", "metastorefile": "meta.json"}
    with_stores = []
    for content in (text, uncommented):
        for key, value in stores.items():
            content = re.sub(rf"^#?{key}:$", f"{key}: {value}", content, flags=re.MULTILINE)
        with_stores.append(content)
    (tmp_path / "run.yml").write_text(text)
    assert Settings.from_yaml(tmp_path / "run.yml").pixelstorefile is None
    found = []
    for name, content in zip(("stores.yml", "all.yml"), with_stores, strict=True):
        (tmp_path / name).write_text(content)
        found.append(Settings.from_yaml(tmp_path / name).model_dump())
    assert set(yaml.safe_load(uncommented)) == set(Settings.model_fields)
    calibration = found[1]["preprocess"].pop("calibration")
    assert calibration == INSTRUMENTS[instrument].calibration
    assert found[0]["preprocess"].pop("calibration") == "none"
    assert found[1].pop("raw_catalog") is not None
    assert found[0].pop("raw_catalog") is None  # sources are found in the images
    assert found[1] == found[0]
    assert found[0]["bandlist"] == list(INSTRUMENTS[instrument].bands)
    assert found[0]["buffer"] == INSTRUMENTS[instrument].buffer > 0


@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_a_star_fits_into_the_bounds(instrument):
    """Every field has some: radii begin at a tenth of the images' pixel, which no range for all cameras replaces."""
    found = yaml.safe_load(settings_text(instrument))
    assert not {"rhalf_range", "pixscale"} & set(found["bounds_kwargs"])
    assert "rhalf" not in found.get("priors", {})


def test_groups_start_with_settings_that_exist():
    assert set(_GROUPS) <= set(Settings.model_fields)


def test_init_writes_settings_and_templates(tmp_path):
    done = start(tmp_path / "new", "--instrument", "HSC")
    assert done.exit_code == 0, done.output
    assert "HSC" in (tmp_path / "new" / "run.yml").read_text()
    copies = sorted(path.name for path in (tmp_path / "new" / "templates").iterdir())
    assert copies == sorted(path.name for path in template_folder().glob("*.ipynb"))


def test_init_replaces_nothing(tmp_path):
    (tmp_path / "run.yml").write_text("mine")
    done = start(tmp_path)
    assert done.exit_code == 2
    assert (tmp_path / "run.yml").read_text() == "mine"
    assert not (tmp_path / "templates").exists()


def test_init_knows_its_instruments(tmp_path):
    done = start(tmp_path / "new", "--instrument", "vlt")
    assert done.exit_code == 2
    assert "found 'vlt', expected one of nircam, hst, hsc, decam, generic" in done.output
    assert not (tmp_path / "new").exists()


def test_wheel_holds_the_templates(tmp_path):
    """An installed package finds them inside; a checkout beside it."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {Path(name).name for name in archive.namelist() if name.startswith("fphojax/templates/")}
    assert packed >= {path.name for path in template_folder().glob("*.ipynb")}
    assert template_folder() == ROOT / "templates"
