"""The demonstration: a mock field, written as a user's files would be, and fitted as a user's field would be."""

from pathlib import Path

from fphojax.field.mocks import demo_field
from fphojax.inputs.catalog import SourceCatalog
from fphojax.outputs.plots import save_figure
from fphojax.outputs.posterior_plots import plot_posterior
from fphojax.simulate import write_exposure

from .config import Settings
from .pipeline import FinishedRun, run

__all__ = ["run_demo", "write_demo"]

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


def write_demo(folder: Path, *, seed: int = 0) -> tuple[Path, SourceCatalog]:
    """Write exposures, PSFs, peak list and settings of the mock field.

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
    """
    field = demo_field(seed)
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    for exposure in field.exposures:
        write_exposure(exposure, images / f"{exposure.name}.fits")
    field.psfs.write(folder / "psfs.h5", overwrite=True)
    field.peaks.write_forcepho(folder / "peaks.fits")
    field.truth.write(folder / "truth.ecsv")
    config = folder / "demo.yml"
    config.write_text(CONFIG)
    return config, field.truth


def run_demo(folder: Path, *, progress: bool = True) -> tuple[FinishedRun, SourceCatalog]:
    """Write the mock field and fit it.

    Parameters
    ----------
    folder : Path
    progress : bool

    Returns
    -------
    finished : FinishedRun
    truth : SourceCatalog
    """
    config, truth = write_demo(folder)
    finished = run(Settings.from_yaml(config), overwrite=True, progress=progress)
    figure = finished.directory.figure_path("truth")
    save_figure(plot_posterior(finished.result, truth), figure)
    finished.figures.append(figure)
    return finished, truth
