"""The box of the priors where settings leave it to the images."""

import re
from types import SimpleNamespace

import numpy as np
from typer.testing import CliRunner

from fphojax.app.cli import app
from fphojax.app.settings.boxes import bounds_options
from fphojax.app.settings.schema import BoundsSettings, Settings
from fphojax.app.stages.input_checks import check_inputs

CAMERAS = [SimpleNamespace(pixel_scale=scale) for scale in (0.262, 0.1, 0.168)]


def options(exposures, **given):
    return bounds_options(SimpleNamespace(bounds_kwargs=BoundsSettings(**given)), exposures)


def test_the_pixel_is_that_of_the_finest_exposure():
    assert options(CAMERAS, flux_factor=30.0) == {"flux_factor": 30.0, "pixscale": 0.1}
    assert options((), n_pix=3.0) == {"n_pix": 3.0}


def test_what_is_given_is_taken():
    given = {"pixscale": 0.5, "rhalf_range": (0.2, 3.0)}
    assert options(CAMERAS, **given) == given


def test_the_box_of_a_run(tiny, tmp_path):
    """Two pixels of 0.1 arcsec, and a tenth of one; not those of another camera."""
    path = tiny.write_field(tmp_path, bounds_kwargs={})
    bounds = check_inputs(Settings.from_yaml(path)).bounds
    np.testing.assert_allclose(bounds.upper["x"], 0.2, rtol=1e-5)
    np.testing.assert_allclose(bounds.lower["rhalf"], 0.01, rtol=1e-5)
    shown = CliRunner().invoke(app, ["check", str(path)]).output
    (line,) = [line for line in shown.splitlines() if "offset, arcsec" in line]
    assert [float(number) for number in re.findall(r"-?[\d.]+", line)] == [0, 0, 0, -0.2, 0.2]
