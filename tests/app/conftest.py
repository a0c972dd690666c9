"""What tests of faults share: a tiny field that the command line fits for real."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from astropy.io import fits
from standard_error import problems

from fphojax.results.run_directory import RunDirectory
from fphojax.simulate.mock_exposures import write_exposure
from fphojax.simulate.mock_fields import MockCamera, mock_field, mock_galaxies


def write_field(folder: Path, n_source: int = 3, **changes) -> Path:
    """A row of isolated galaxies, one patch each; the file of settings."""
    x = 2.0 * np.arange(n_source)
    truth = mock_galaxies(x=x - x.mean(), y=0 * x, flux={"F": 50 + x}, q=0.7, pa=30.0, sersic=1.5, rhalf=0.12)
    camera = MockCamera("F", pixel_scale=0.1, fwhm=0.2, noise=0.3, width=2.0 * n_source)
    field = mock_field(truth, [camera], seed=1)
    write_exposure(field.exposures[0], folder / "image.fits")
    field.psfs.write(folder / "psfs.h5")
    field.peaks.write(folder / "peaks.ecsv")
    settings = {
        "bandlist": ["F"],
        "fitsfiles": "image.fits",
        "psfstorefile": "psfs.h5",
        "raw_catalog": "peaks.ecsv",
        "bounds_kwargs": {"n_pix": 3, "pixscale": 0.1},
        "chains": 2,
        "warmup": 20,
        "sampling_draws": 20,
        "rounds": 0,
        "seed": 2,
    }
    path = folder / "field.yml"
    path.write_text(yaml.safe_dump(settings | changes))
    return path


# The command line itself sets the limit: a fork of the process of the tests, in which JAX has threads, might hang.
LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
runpy.run_module("fphojax", run_name="__main__", alter_sys=True)
"""


def write_copies(folder: Path, n_image: int) -> None:
    """Copies of the image of a field, ``image0.fits`` and so on, each an exposure by itself."""
    for number in range(n_image):
        with fits.open(folder / "image.fits") as hdus:
            for hdu in hdus:
                if "EXPID" in hdu.header:
                    hdu.header["EXPID"] = f"image{number}"
            hdus.writeto(folder / f"image{number}.fits")


def start(*arguments, most: int | None = None) -> subprocess.Popen:
    """The command line, in a session of its own; no file may grow beyond `most` bytes."""
    command = ["-m", "fphojax"] if most is None else ["-c", LIMITED, str(most)]
    return subprocess.Popen(
        [sys.executable, *command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )


def ended(process: subprocess.Popen, seconds: float = 300) -> tuple[int, list[str]]:
    """Status of a command, and the lines of its errors; it is killed after a time."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    _, errors = process.communicate()
    timer.cancel()
    return process.returncode, problems(errors)


def run(*arguments, most: int | None = None) -> tuple[int, list[str]]:
    """`ended` of `start`."""
    return ended(start(*arguments, most=most))


def assert_same_run(one: Path, other: Path) -> None:
    """Two folders hold the same draws of the same sources, and the same scene; none was given up."""
    one, other = RunDirectory.open(one), RunDirectory.open(other)
    assert one.patches() == other.patches()
    scenes = [run.read_scene() for run in (one, other)]
    for name in ("flux", "ra", "dec", "q", "pa", "sersic", "rhalf"):
        np.testing.assert_array_equal(getattr(scenes[0], name), getattr(scenes[1], name))
    assert all(scenes[0].extra["fit_flag"] == "")
    for number in one.patches():
        first, second = one.read_patch(number), other.read_patch(number)
        assert first.active.id.tolist() == second.active.id.tolist()
        np.testing.assert_array_equal(first.draws["flux"], second.draws["flux"])
    assert not list(one.path.rglob(".*"))


@pytest.fixture(scope="session")
def tiny():
    """These functions."""
    return SimpleNamespace(
        write_field=write_field,
        write_copies=write_copies,
        start=start,
        ended=ended,
        run=run,
        assert_same_run=assert_same_run,
    )
