"""The demonstration: a mock field, written as a user's files would be and fitted like a user's field."""

import filecmp
import logging
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from fphojax.app.run.run_all import FinishedStages, run_all
from fphojax.app.run.steps import plan
from fphojax.app.settings.schema import Settings
from fphojax.errors import InputError
from fphojax.figures.fit_plots import save_figure
from fphojax.figures.posterior_plots import plot_posterior
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.patch_result import PatchResult
from fphojax.results.run_directory import RunDirectory
from fphojax.simulate.mock_exposures import write_exposure
from fphojax.simulate.mock_fields import MockField, demo_field
from fphojax.system.files import write_text

__all__ = ["DemoRun", "run_demo", "write_demo", "write_field"]

logger = logging.getLogger(__name__)

CONFIG = """\
# Mock field of the demonstration: three blended galaxies, two bands, four exposures.
bandlist: [F150W, F356W]
fitsfiles: images/*.fits
psfstorefile: psfs.h5
raw_catalog: peaks.fits
outbase: run

bounds_kwargs:
  sqrtq_range: [0.4, 1.0]
  rhalf_range: [0.03, 1.0]
  sersic_range: [0.6, 5.5]
  n_pix: 2
  pixscale: 0.031

chains: 4
warmup: 200
sampling_draws: 250
seed: 1
"""
_NAMES = ("demo.yml", "images", "psfs.h5", "peaks.fits", "truth.ecsv", "run")


class DemoRun(NamedTuple):
    """Result of `run_demo`.

    Attributes
    ----------
    settings : Settings
    stages : FinishedStages
    result : PatchResult
    truth : SourceCatalog
    figures : list of Path
    """

    settings: Settings
    stages: FinishedStages
    result: PatchResult
    truth: SourceCatalog
    figures: list[Path]


def write_demo(folder: Path, *, seed: int = 0) -> tuple[Path, SourceCatalog]:
    """Write exposures, PSFs, peak list and settings of the mock field.

    A file that exists already, with the same content, is left as it is, so that its run can be resumed.

    Parameters
    ----------
    folder : Path
        Made if it does not exist.
    seed : int
        Of the noise.

    Returns
    -------
    config : Path
        The file of settings.
    truth : SourceCatalog

    Raises
    ------
    InputError
        Other settings in ``demo.yml``, or a file of one of these names in a folder that is no demonstration's.
    """
    config = folder / "demo.yml"
    if config.is_file():
        if config.read_bytes() != CONFIG.encode():
            raise InputError(
                f"{config}: found other settings than the demonstration's, expected these (`fphojax run {config}` "
                "runs yours, --out names another folder)"
            )
    elif existing := [name for name in _NAMES if os.path.lexists(folder / name)]:
        raise InputError(
            f"{folder / existing[0]}: is not the demonstration's, expected a folder without it (--out names another)"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if not config.is_file():  # first: it marks the others as ours
        write_text(config, CONFIG)
    field = demo_field(seed)
    write_field(folder, field)
    return config, field.truth


def write_field(folder: Path, field: MockField) -> None:
    """Write a mock field as files: ``images/NAME.fits``, ``psfs.h5``, ``peaks.fits`` and ``truth.ecsv``.

    Parameters
    ----------
    folder : Path
        Made if it does not exist. Files in it that have the same content stay untouched.
    field : MockField
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".", ignore_cleanup_errors=True) as temporary:
        new = Path(temporary)
        (new / "images").mkdir()
        for exposure in field.exposures:
            write_exposure(exposure, new / "images" / f"{exposure.name}.fits")
        field.psfs.write(new / "psfs.h5")
        field.peaks.write_forcepho(new / "peaks.fits")
        field.truth.write(new / "truth.ecsv")
        for path in [path for path in sorted(new.rglob("*")) if path.is_file()]:
            target = folder / path.relative_to(new)
            if not (target.is_file() and filecmp.cmp(path, target, shallow=False)):
                path.replace(target)


def run_demo(folder: Path, *, progress: bool = True) -> DemoRun:
    """Write the mock field, and run all stages on it.

    Parameters
    ----------
    folder : Path
    progress : bool

    Raises
    ------
    InputError
        A file is in the way of the folder.
    """
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise InputError(f"--out: found the file {existing}, expected a folder")
    config, truth = write_demo(folder)
    settings = Settings.from_yaml(config)
    logger.info(
        "demo: a mock field of three blended galaxies, in two bands and four exposures, is written to %s. %d stages "
        "fit it, from the check of the inputs to the catalogue, each in a notebook; at the end, fitted and true "
        "values are printed side by side.",
        folder,
        len(plan(settings)),
    )
    logger.info(
        "This takes about 3 minutes on two cores, or 2 where its programs are compiled already. After Ctrl-C the "
        "same command continues."
    )
    stages = run_all(settings, progress=progress)
    directory = RunDirectory(settings.outbase)
    result = directory.read_patch(directory.patches()[0])
    figure = directory.figure_path("truth")
    save_figure(plot_posterior(result, truth), figure)
    return DemoRun(settings, stages, result, truth, [directory.figure_path("patch0_residuals"), figure])
