"""What all tests share: JAX on the CPU, one thread for numerical libraries, and where the shared data are."""

import os
from pathlib import Path

import pytest

# Read when JAX and numpy are imported; pytest imports this file first.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
# Compiled programs are shared by the test processes, and not with the user.
CACHE = Path(__file__).resolve().parents[1] / ".pytest_cache" / "compiled"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))

# Fixtures of several wings, in tests/fixtures.
pytest_plugins = ["mock_skies", "small_run"]

SHARED = Path(__file__).resolve().parents[2] / "shared"
CONFIGS = Path(__file__).resolve().parent / "data_configs"


def _shared_folder(variable, name):
    folder = Path(os.environ.get(variable, SHARED / name))
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; set {variable} to the folder that holds it")
    return folder


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch):
    """Tables are as wide as in a log, whatever terminal the tests are run in."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(scope="session")
def make_patcher():
    """Function that makes a `Patcher` for a mock field, and the catalogue of its sources.

    Two bands of different pixel scale and rotation, one exposure each, noise but no source in the pixels;
    PSFs without the pixel response.
    """
    import numpy as np
    from astropy.wcs import WCS

    from fphojax import CircularRegion, Exposure, Patcher, PSFMixture, PSFStore, SourceCatalog

    def mock(*, n_source=2, side=24, sigma=1.3, seed=0, pixel_response="variance", **patcher):
        rng = np.random.default_rng(seed)
        ra, dec = 53.1, -27.8
        exposures, psfs = [], PSFStore()
        for band, scale, angle in (("F1", 0.05, 0.3), ("F2", 0.08, -1.0)):
            wcs = WCS(naxis=2)
            wcs.wcs.ctype, wcs.wcs.cunit = ("RA---TAN", "DEC--TAN"), ("deg", "deg")
            wcs.wcs.crval, wcs.wcs.crpix = (ra, dec), (side / 2 + 0.7, side / 2 - 0.2)
            cos, sin = np.cos(angle), np.sin(angle)
            wcs.wcs.cd = scale / 3600 * np.array([[-cos, sin], [sin, cos]])
            data = rng.normal(size=(side, side))
            exposures.append(Exposure.from_arrays(data, np.ones_like(data), wcs, band=band, name=band))
            shape = sigma**2 * np.array([[1.0, 1.1, 0.1], [5.0, 4.0, -0.3]])
            means = np.array([[0.1, -0.1], [-0.2, 0.1]])
            psfs.add(PSFMixture(np.array([0.7, 0.3]), means, shape, includes_pixel=False), band)
        offset = rng.uniform(-0.3, 0.3, (2, n_source)) / 3600
        catalog = SourceCatalog.from_columns(
            ra=ra + offset[0] / np.cos(np.deg2rad(dec)),
            dec=dec + offset[1],
            flux=rng.uniform(200, 400, (n_source, 2)),
            q=rng.uniform(0.4, 0.8, n_source),
            pa=np.rad2deg(rng.uniform(0.3, 2.8, n_source)),
            sersic=rng.uniform(1.2, 3.5, n_source),
            rhalf=rng.uniform(0.1, 0.25, n_source),
            bands=("F1", "F2"),
        )
        made = Patcher(exposures, psfs, pixel_response=pixel_response, **patcher)
        made.build_patch(CircularRegion(ra, dec, 60.0), allbands=catalog.bands)
        return made, catalog

    return mock


@pytest.fixture(scope="session")
def reference_dir():
    """Folder of forcepho's reference cases."""
    return _shared_folder("FPHOJAX_REFERENCE", "reference")


@pytest.fixture(scope="session")
def data_dir():
    """Folder of real images."""
    return _shared_folder("FPHOJAX_DATA", "data")


@pytest.fixture(scope="session")
def cases():
    """Folder of small inputs that go wrong."""
    return _shared_folder("FPHOJAX_CASES", "cases")


@pytest.fixture
def run_loop(data_dir, tmp_path):
    """Function that runs the loop on one of the sets of real images."""
    from fphojax.app.settings.schema import Settings
    from fphojax.app.stages.loop import loop
    from fphojax.inputs.source_catalog import SourceCatalog

    def run(name, **changes):
        text = (CONFIGS / f"{name}.yml").read_text().replace("../../../shared/data", str(data_dir))
        (tmp_path / f"{name}.yml").write_text(text.replace("../../runs", str(tmp_path / "runs")))
        settings = Settings.from_yaml(tmp_path / f"{name}.yml", changes or None)
        report = loop(settings)
        print(f"\n{name}: {report.verdict}")
        print(report.tables["exposures"])
        print(report.tables["stages"]["stage", "seconds"])
        return settings, report, SourceCatalog.read(report.files["catalog"])

    return run
