"""Real images in stores: patches, models and fits are those from the FITS files, to the last bit."""

import numpy as np
import pytest
import yaml

from fphojax import CircularRegion, Patcher, PSFMixture, PSFStore, SourceCatalog, read_exposures
from fphojax.app.settings.schema import Settings
from fphojax.app.stages.input_checks import check_inputs
from fphojax.app.stages.store_build import preprocess
from fphojax.inference.sampling import sample
from fphojax.inputs.bounds import default_bounds
from fphojax.inputs.stores.stored_exposures import open_stores

pytestmark = pytest.mark.slow

SETS = (
    "decam_g3r2z3",
    "bok_mosaic3_blend",
    "decam_bright_masked",
    "hsc_cosmos35",
    "euclid_q1",
    "decals_coadd",
)
REACH = 8  # radius of the patch in pixels: these fits are about equality, not about galaxies


def settings_of(folder, images, bands):
    path = folder / "run.yml"
    content = {
        "bandlist": bands,
        "raw_catalog": f"{images}/peaks.fits",
        "frame_search_pattern": f"{images}/[!p]*.fits",
        "pixelstorefile": "pixels.h5",
        "metastorefile": "meta.json",
    }
    path.write_text(yaml.safe_dump(content))
    return Settings.from_yaml(path)


def one_gaussian(exposure):
    """A PSF as wide as the core of the exposure's PSF image."""
    image = exposure.psf_image
    y, x = np.indices(image.shape) - (np.array(image.shape) // 2)[:, None, None]
    core = np.where(x**2 + y**2 <= 9, np.maximum(image, 0), 0)
    variance = float((core * (x**2 + y**2)).sum() / (2 * core.sum()))
    return PSFMixture([1.0], [[0.0, 0.0]], [[variance, variance, 0.0]], includes_pixel=True)


def fit(exposures, source, scale):
    """Patch, model and a few draws for one source."""
    psfs = PSFStore()
    for exposure in exposures:
        psfs.add(one_gaussian(exposure), exposure.band, exposure=exposure.name)
    patcher = Patcher(exposures, psfs)
    patch = patcher.build_patch(CircularRegion(source.ra[0], source.dec[0], REACH * scale), source.bands)
    bounds = default_bounds(source, pixscale=scale, rhalf_range=(0.3 * scale, 20 * scale))
    start = source.replace(
        q=np.full(1, 0.7), pa=np.full(1, 11.0), sersic=np.full(1, 2.0), rhalf=np.full(1, 3 * scale)
    )
    model, values = patcher.prepare_model(active=start, bounds=bounds)
    chains = sample(model, values, draws=8, warmup=8, chains=1, max_treedepth=2, seed=5, progress=False)
    return patcher, patch, model, chains


def same(one, other):
    """Equal in every number of every array."""
    import jax

    ours, theirs = jax.tree.leaves(one), jax.tree.leaves(other)
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("name", SETS)
def test_fits_from_stores_are_those_from_files(tmp_path, data_dir, name):
    folder = (data_dir / name).resolve()
    files = sorted(path for path in folder.glob("*.fits") if path.name != "peaks.fits")
    exposures = sorted(read_exposures(files), key=lambda exposure: (exposure.band, exposure.name))
    bands = list(dict.fromkeys(exposure.band for exposure in exposures))
    settings = settings_of(tmp_path, folder, bands)
    report = preprocess(settings, progress=False)
    assert report.n_stored == len(files)
    problems = check_inputs(settings, verify=True).problems
    assert not [line for line in problems if "pixels.h5" in line or "meta.json" in line]
    stored = open_stores(settings.pixelstorefile, settings.metastorefile)
    for a, b in zip(exposures, stored, strict=True):
        np.testing.assert_array_equal(a.psf_image, b.psf_image)
        assert a.psf_includes_pixel == b.psf_includes_pixel

    catalog = SourceCatalog.read(folder / "peaks.fits", bands=bands)
    brightest = int(np.argmax(np.asarray(catalog.flux).sum(axis=1)))
    source = catalog[[brightest]]
    scale = exposures[0].pixel_scale
    (files_patcher, *from_files), (stores_patcher, *from_stores) = (
        fit(each, source, scale) for each in (exposures, stored)
    )
    used = [[(e.band, e.name) for e in p.frame.exposures] for p in (files_patcher, stores_patcher)]
    assert used[0] == used[1]
    patch, _, chains = from_files
    for one, other in zip(from_files[:2], from_stores[:2], strict=True):
        same(one, other)
    theirs = from_stores[2]
    same(chains.values, theirs.values)
    same(chains.statistics, theirs.statistics)
    same(chains.optimum.values, theirs.optimum.values)
    n_pixel = int((np.asarray(patch.ierr) > 0).sum())
    print(
        f"{name}: {len(used[0])} exposures, {n_pixel} pixels, lp {float(chains.statistics['lp'][0, -1]):.6f}: "
        "all numbers equal"
    )
