"""Agreement with forcepho: its kernel to rounding, its posteriors to sampling error.

The folder that ``FPHOJAX_REFERENCE`` names holds one folder per case: images, a catalogue, PSF mixtures, and
what forcepho's C++ kernel and sampler gave for them.
"""

import dataclasses
import os
from pathlib import Path

import arviz
import equinox as eqx
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy.io import fits
from numpyro.distributions import DoublyTruncatedPowerLaw

from fphojax.core.culling import TOLERANCE
from fphojax.inference.importance import importance
from fphojax.inference.optimum import optimize
from fphojax.inference.sampling import sample
from fphojax.inputs.astrometry import CircularRegion, sky_offsets
from fphojax.inputs.bounds import Bounds, default_bounds
from fphojax.inputs.exposures import read_exposures
from fphojax.inputs.patcher import Patcher
from fphojax.inputs.psf_store import PSFStore
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.mixtures.sersic import load_sersic_table

FOLDER = Path(os.environ.get("FPHOJAX_REFERENCE", Path(__file__).parents[1] / "../shared/reference"))
CASES = sorted(path.parent.name for path in FOLDER.glob("*/expected.h5")) or ["none"]
POSTERIORS = ["single", "color_pair", "blend3"]
ONE_OPTIMUM = ["single", "color_pair"]
WIDE = {
    "sqrtq_range": (0.1, 1.0),
    "pa_range": (-3.0, 3.0),
    "n_pix": 10,
    "pixscale": 0.1,
    "rhalf_range": (0.001, 3.0),
    "sersic_range": (0.5, 6.0),
}
# forcepho's numbers in terms of ours: d(ours)/d(theirs) of ra, dec [deg], q -> sqrt(b/a), pa from +RA
ARCSEC_PER_DEGREE = 3600.0


class Case:
    """One reference case, read with the package's own readers."""

    def __init__(self, folder):
        self.folder = folder
        self.catalog = SourceCatalog.read(folder / "catalog.fits")
        self.exposures = read_exposures(sorted(folder.glob("*_[0-9]*.fits")))
        self.region = CircularRegion(self.catalog.ra.mean(), self.catalog.dec.mean(), 60.0)
        self.patcher = Patcher(
            self.exposures,
            PSFStore.open(folder / "psf.h5"),
            table=load_sersic_table(folder.parent / "sersic_fixed_radii.h5"),
            pixel_response="second_order",
        )
        self.patcher.build_patch(self.region, allbands=self.catalog.bands)

    def model(self, bounds=None, priors=None, *, culled=False):
        bounds = default_bounds(self.catalog, **WIDE) if bounds is None else bounds
        model, start = self.patcher.prepare_model(
            active=self.catalog, bounds=bounds, priors=priors, tolerance=0
        )
        jacobian = self.jacobian()
        model = eqx.tree_at(
            lambda m: (m.optics.jacobian, m.merged_optics.jacobian), model, (jacobian, jacobian)
        )
        if culled:
            # a box like a posterior's: a fifth of each parameter, a few milliarcseconds
            half = {k: 0.005 if k in ("x", "y") else 0.2 * np.abs(v) for k, v in start.items()}
            model = dataclasses.replace(model, tolerance=TOLERANCE)
            model = model.culled(*({k: v + sign * half[k] for k, v in start.items()} for sign in (-1, 1)))
        return model, start

    def jacobian(self):
        """d(pixel)/d(arcsec) by forward differences over one pixel, as forcepho takes them.

        The package's own derivative is a central one, right to 1e-9; where the WCS is curved the two differ
        by half a pixel's worth of curvature.
        """
        found = []
        for exposure in self.patcher.frame.exposures:
            positions = zip(self.catalog.ra, self.catalog.dec, strict=True)
            found.append([self._forward_difference(exposure.wcs, *position) for position in positions])
        return jnp.asarray(found)

    def _forward_difference(self, wcs, ra, dec):
        centre = wcs.all_world2pix([[ra, dec]], 0, tolerance=1e-10)[0]
        corners = wcs.all_pix2world(centre + np.array([[0, 0], [1, 0], [0, 1]]), 0)
        offsets = sky_offsets(*corners.T, self.region.ra, self.region.dec)
        return np.linalg.inv((offsets[1:] - offsets[0]).T)


@pytest.fixture(scope="module", params=CASES)
def case(request):
    if not (FOLDER / request.param / "expected.h5").exists():
        pytest.skip(f"no reference cases in {FOLDER} (set FPHOJAX_REFERENCE)")
    return Case(FOLDER / request.param)


@eqx.filter_jit
def chi2_and_gradient(values, model, weights):
    return eqx.filter_value_and_grad(lambda v: jnp.sum(model.chi2(v) * weights))(values)


def test_amplitudes(case, capsys):
    with h5py.File(case.folder / "expected.h5") as expected:
        theirs = expected["amplitudes"][:]
    amplitudes, _ = case.patcher.table(case.catalog.sersic, case.catalog.rhalf)
    error = np.abs(np.asarray(amplitudes) - theirs).max()
    with capsys.disabled():
        print(f"\n{case.folder.name}: mixture amplitudes differ by {error:.1e}")
    assert error < 1e-6


# to rounding with every Gaussian on every tile; to 1e-4 with culling and merging at their default tolerance
CULLED = pytest.mark.parametrize(("culled", "limit"), [(False, 0.0), (True, 1e-4)], ids=["all", "culled"])


@CULLED
def test_images(case, culled, limit, capsys):
    model, start = case.model(culled=culled)
    tiles = eqx.filter_jit(lambda m, v: m.images(v))(model, start)
    worst = 0.0
    for e, exposure in enumerate(case.patcher.frame.exposures):
        theirs = fits.getdata(exposure.path, "MODEL")
        ours = case.patcher.frame.image(e, tiles)
        assert np.array_equal(np.isfinite(ours), exposure.ierr > 0)
        worst = max(worst, np.nanmax(np.abs(ours - theirs)) / theirs.max())
    with capsys.disabled():
        print(f"\n{case.folder.name}{' culled' * culled}: images differ by {worst:.1e} of the peak")
    assert worst < max(limit, 1e-5)


@CULLED
def test_chi2_and_derivatives(case, culled, limit, capsys):
    model, start = case.model(culled=culled)
    start = {name: jnp.asarray(value) for name, value in start.items()}
    with h5py.File(case.folder / "expected.h5") as expected:
        bands = list(expected.attrs["bands"])
        their_chi2, theirs = expected["chi2_minus_data2"][:], expected["dchi2"][:]
    frame = case.patcher.frame
    q = case.catalog.q
    cos_dec = np.cos(np.deg2rad(case.region.dec))
    ours, chi2_error = np.empty_like(theirs), 0.0
    for i, band in enumerate(bands):
        mine = np.array([exposure.band == band for exposure in frame.exposures])
        data2 = sum(np.sum((e.data.astype(float) * e.ierr) ** 2) for e in frame.exposures if e.band == band)
        value, gradient = chi2_and_gradient(start, model, jnp.asarray(mine, dtype=float))
        chi2_error = max(chi2_error, abs((float(value) - data2) / their_chi2[i] - 1))
        ours[i] = np.stack(
            [
                gradient["flux"][:, frame.bands.index(band)],
                gradient["x"] * ARCSEC_PER_DEGREE * cos_dec,
                gradient["y"] * ARCSEC_PER_DEGREE,
                gradient["q"] * 2 * np.sqrt(q),
                -gradient["pa"],
                gradient["sersic"],
                gradient["rhalf"],
            ],
            axis=-1,
        )
    error = np.abs(ours - theirs).max(axis=(0, 1)) / np.abs(theirs).max(axis=(0, 1))
    with capsys.disabled():
        print(
            f"\n{case.folder.name}{' culled' * culled}: chi2 differs by {chi2_error:.1e}, "
            f"derivatives by {error.max():.1e}"
        )
    assert chi2_error < max(limit, 1e-6)
    assert (error < 1e-4).all()


def their_box(posterior, catalog, region):
    """forcepho's box as bounds of ours."""
    cos_dec = np.cos(np.deg2rad(region.dec))
    sides = []
    for side, other in (("lower", "upper"), ("upper", "lower")):
        edge = {name: group[side][:] for name, group in posterior.items()}
        sides.append(
            {
                "flux": np.stack([edge[band] for band in catalog.bands], axis=1),
                "x": (edge["ra"] - catalog.ra) * ARCSEC_PER_DEGREE * cos_dec,
                "y": (edge["dec"] - catalog.dec) * ARCSEC_PER_DEGREE,
                "q": edge["q"] ** 2,
                "pa": np.rad2deg(np.pi / 2 - posterior["pa"][other][:]),
                "sersic": edge["sersic"],
                "rhalf": edge["rhalf"],
            }
        )
    return Bounds(*sides, catalog.bands)


@pytest.mark.slow
@pytest.mark.parametrize("name", POSTERIORS)
@pytest.mark.parametrize("method", ["nuts", "importance"])
def test_posterior(name, method, capsys):
    if not (FOLDER / name / "posterior.h5").exists():
        pytest.skip(f"no reference posteriors in {FOLDER} (set FPHOJAX_REFERENCE)")
    case = Case(FOLDER / name)
    catalog, region = case.catalog, case.region
    with h5py.File(case.folder / "posterior.h5") as posterior:
        bounds = their_box(posterior, catalog, region)
        theirs = {key: (group["mean"][:], group["sd"][:]) for key, group in posterior.items()}
    # their prior is uniform in sqrt(b/a): in b/a a power law with exponent -1/2
    prior = DoublyTruncatedPowerLaw(-0.5, bounds.lower["q"], bounds.upper["q"])
    model, start = case.model(bounds, {"q": prior})
    if method == "nuts":
        chains = sample(model, start, draws=500, warmup=100, chains=4, seed=1, progress=False)
    else:
        chains = importance(model, start, draws=1000, chains=4, seed=1)
        assert chains.statistics["trusted"].all()

    cos_dec = np.cos(np.deg2rad(region.dec))
    draws = dict(chains.values)
    ours = {band: draws["flux"][..., i] for i, band in enumerate(catalog.bands)} | {
        "ra": region.ra + draws["x"] / ARCSEC_PER_DEGREE / cos_dec,
        "dec": region.dec + draws["y"] / ARCSEC_PER_DEGREE,
        "q": np.sqrt(draws["q"]),
        "pa": np.pi / 2 - draws["pa"],
        "sersic": draws["sersic"],
        "rhalf": draws["rhalf"],
    }
    shift = {key: (ours[key].mean(axis=(0, 1)) - mean) / sd for key, (mean, sd) in theirs.items()}
    ratio = {key: ours[key].std(axis=(0, 1)) / sd for key, (_, sd) in theirs.items()}
    worst_shift = max(np.abs(value).max() for value in shift.values())
    worst_ratio = max(np.abs(value - 1).max() for value in ratio.values())
    ess = min(
        float(arviz.ess(np.ascontiguousarray(v[..., s]))) for v in ours.values() for s in range(len(catalog))
    )
    with capsys.disabled():
        print(
            f"\n{name}, {method}: means within {worst_shift:.3f} sd, sd within {worst_ratio:.1%}, "
            f"smallest ESS {ess:.0f}, {chains.n_calls} likelihood calls"
        )
    assert worst_shift < 0.15
    assert worst_ratio < 0.10


RANDOM_BOX = {
    "sqrtq_range": (0.4, 1.0),
    "n_pix": 2,
    "pixscale": 0.03,
    "rhalf_range": (0.01, 1.0),
    "sersic_range": (0.6, 6.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_OPTIMUM)
def test_random_starts_end_at_one_optimum(name, capsys):
    """From draws of the prior, with the package's own profile table; forcepho's is flat beyond its grid."""
    if not (FOLDER / name / "expected.h5").exists():
        pytest.skip(f"no reference cases in {FOLDER} (set FPHOJAX_REFERENCE)")
    case = Case(FOLDER / name)
    patcher = Patcher(case.exposures, PSFStore.open(case.folder / "psf.h5"))
    patcher.build_patch(case.region, allbands=case.catalog.bands)
    bounds = default_bounds(case.catalog, **RANDOM_BOX)
    model, start = patcher.prepare_model(active=case.catalog, bounds=bounds, listed=False)
    best = optimize(model, start)
    assert best.converged
    worse = []
    for seed in range(20):
        keys = jax.random.split(jax.random.PRNGKey(seed), len(model.priors))
        drawn = {
            parameter: np.asarray(model.priors[parameter].sample(key))
            for parameter, key in zip(sorted(model.priors), keys, strict=True)
        }
        found = optimize(model, drawn)
        worse.append(found.chi2.sum() - best.chi2.sum())
        assert worse[-1] < 0.1 or not found.converged  # what did not get there is told
    with capsys.disabled():
        print(
            f"\n{name}: chi2 of 20 random starts less that from the catalogue: {np.round(np.sort(worse), 3)}"
        )
    assert np.min(worse) > -0.1
    assert np.count_nonzero(np.abs(worse) < 0.1) >= 19
