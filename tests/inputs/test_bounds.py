"""Bounds: forcepho's keywords in our conventions, flux limits, angles, and what is refused."""

import os
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpyro.distributions import Normal, TruncatedNormal, Uniform, VonMises

from fphojax.inputs import InputError
from fphojax.inputs.bounds import PARAMETERS, Bounds, check_pa_prior, default_bounds, wrap_pa
from fphojax.inputs.source_catalog import SourceCatalog

SHARED = Path(__file__).resolve().parents[2] / "../shared"
REFERENCE = Path(os.environ.get("FPHOJAX_REFERENCE", SHARED / "reference"))


def catalog(**changes):
    columns = {
        "ra": [10.0, 10.001, 10.002],
        "dec": [-5.0, -5.001, -5.002],
        "flux": [[1.0, 2.0], [3.0, -4.0], [5.0, 6.0]],
        "q": [0.5, 1.0, 0.7],
        "pa": [6.0, -11.0, 172.0],
        "sersic": [1.0, 4.0, 2.0],
        "rhalf": [0.1, 0.2, 0.3],
        "bands": ("g", "F200W"),
    }
    return SourceCatalog.from_columns(**columns | changes)


def test_forcepho_keywords_become_our_conventions():
    bounds = default_bounds(
        catalog(), sqrtq_range=(0.5, 0.9), pa_range=(-0.2, 0.7), n_pix=3, pixscale=0.06, rhalf_range=(0.02, 2)
    )
    expected = {
        "q": (0.25, 0.81),
        "pa": np.rad2deg([np.pi / 2 - 0.7, np.pi / 2 + 0.2]),
        "x": (-0.18, 0.18),
        "y": (-0.18, 0.18),
        "rhalf": (0.02, 2),
        "sersic": (0.6, 6),
    }
    for name, (low, high) in expected.items():
        np.testing.assert_allclose(bounds.lower[name], [low] * 3, err_msg=name)
        np.testing.assert_allclose(bounds.upper[name], [high] * 3, err_msg=name)
    assert set(bounds.lower) == set(bounds.upper) == set(PARAMETERS)
    assert len(bounds) == 3


def test_half_light_radii_reach_from_stars_to_large_galaxies():
    """Without a range: a tenth of a pixel, and five times the catalogue's radius, at least an arcsec."""
    large = catalog(rhalf=[0.1, 1.2, 40.0])
    bounds = default_bounds(large, pixscale=0.262)
    np.testing.assert_allclose(bounds.lower["rhalf"], 0.0262, rtol=1e-12)
    np.testing.assert_allclose(bounds.upper["rhalf"], [1.0, 6.0, 200.0], rtol=1e-12)
    assert default_bounds(large).lower["rhalf"][0] == pytest.approx(0.003)
    # no more than the pixels that are fitted: a limit that follows the last fit would grow with every round
    faint = large.replace(rhalf=np.array([1.0, 1.2, 40.0]), roi=np.array([1.4, 6.5, 30.0]))
    np.testing.assert_allclose(default_bounds(faint).upper["rhalf"], [1.4, 6.0, 40.0], rtol=1e-12)
    assert bounds.violations(large, ["rhalf"]) == []


def test_flux_bounds_from_uncertainties():
    sources = catalog(flux_err=np.full((3, 2), 0.5))
    bounds = default_bounds(sources, n_sig_flux=4)
    np.testing.assert_allclose(bounds.lower["flux"], sources.flux - 2)
    np.testing.assert_allclose(bounds.upper["flux"], sources.flux + 2)


def test_flux_bounds_where_some_uncertainties_are_not_known():
    flux_err = np.array([[0.5, np.nan], [np.nan, np.nan], [0.5, 0.5]])
    given = default_bounds(catalog(flux_err=np.full((3, 2), 0.5)))
    guessed, mixed = default_bounds(catalog()), default_bounds(catalog(flux_err=flux_err))
    for side in ("lower", "upper"):
        expected = np.where(np.isnan(flux_err), getattr(guessed, side)["flux"], getattr(given, side)["flux"])
        np.testing.assert_array_equal(getattr(mixed, side)["flux"], expected)


FLUXES = arrays(np.float64, (3, 2), elements=st.just(0.0) | st.floats(-1e7, -1e-3) | st.floats(1e-3, 1e7))


@given(FLUXES.filter(lambda flux: (flux != 0).any()), st.floats(1, 20))
def test_flux_bounds_without_uncertainties(flux, factor):
    bounds = default_bounds(catalog(flux=flux), flux_factor=factor)
    low, high = bounds.lower["flux"], bounds.upper["flux"]
    assert (low < flux).all()
    assert (flux < high).all()
    assert (low < 0).all()
    assert (high > 0).all()
    largest = np.abs(flux).max(
        axis=1, keepdims=True
    )  # a band in which a source is not seen has its noise, too
    assert (high >= factor * largest).all()
    assert (low <= -factor * largest).all()


def test_no_flux_at_all():
    with pytest.raises(InputError, match="every flux is zero, expected"):
        default_bounds(catalog(flux=np.zeros((3, 2))))
    assert len(default_bounds(catalog(flux=np.zeros((3, 2)), flux_err=np.ones((3, 2))))) == 3


@given(st.floats(-3000, 3000), st.floats(-230, 230), st.floats(180 + 1e-4, 400))
def test_wrapped_angle_is_the_same_axis_inside_the_range(pa, lower, width):
    wrapped = wrap_pa(pa, lower, lower + width)
    assert lower <= wrapped <= lower + width
    turns = (wrapped - pa) / 180
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-12)
    if lower <= pa <= lower + width:
        assert wrapped == pa


def test_wrapped_angle_that_fits_nowhere():
    np.testing.assert_allclose(wrap_pa([12.0, 178.0, 57.0], 52.0, 63.0), [12.0, -2.0, 57.0])
    lines = default_bounds(catalog(), pa_range=(0.4, 0.5)).violations(catalog())
    assert sum(": pa is" in line for line in lines) == 3


def test_violations():
    sources = catalog(id=[7, 8, 9], rhalf=[0.1, 1.2, 0.3], q=[0.1, 1.0, 0.7], pa=17.0)
    bounds = default_bounds(sources, rhalf_range=(0.03, 1.0))
    assert bounds.violations(sources) == [
        "row 0 (id 7): q is 0.1, expected within [0.16, 1]",
        "row 1 (id 8): rhalf is 1.2, expected within [0.03, 1]",
    ]
    bounds = bounds.replace(rhalf=(0.03, 2), q=(0.05, 1), flux=(-1, 5), x=(0.01, 0.02))
    lines = bounds.violations(sources)
    print(*lines, sep="\n")
    assert lines[:2] == [
        "row 1 (id 8): flux in F200W is -4, expected within [-1, 5]",
        "row 2 (id 9): flux in F200W is 6, expected within [-1, 5]",
    ]
    assert [line for line in lines if ": x is 0" in line] == lines[2:]
    assert len(lines) == 5


def test_indexing_and_replacing():
    bounds = default_bounds(catalog())
    for rows, size in ((1, 1), ([2, 0], 2), (slice(1, None), 2), (np.array([True, False, True]), 2), ([], 0)):
        some = bounds[rows]
        assert isinstance(some, Bounds)
        assert len(some) == size
        assert some.lower["flux"].shape == (size, 2)
    np.testing.assert_array_equal(bounds[[2, 0]].upper["flux"], bounds.upper["flux"][[2, 0]])
    changed = bounds.replace(sersic=([1, 2, 3], 6), flux=(-1, [10, 20]))
    assert changed.lower["sersic"].tolist() == [1, 2, 3]
    assert changed.upper["flux"].tolist() == [[10, 20]] * 3
    assert bounds.upper["sersic"].tolist() == [6, 6, 6]


def test_bands_are_selected_by_name():
    sources = catalog()
    bounds = default_bounds(sources)
    turned = bounds.select_bands(("F200W", "g"))
    np.testing.assert_array_equal(turned.lower["flux"], bounds.lower["flux"][:, ::-1])
    np.testing.assert_array_equal(turned.upper["flux"], bounds.upper["flux"][:, ::-1])
    assert turned[1:].replace(q=(0.1, 1)).bands == ("F200W", "g")
    high = turned.replace(flux=([10, -20], [20, 10]))  # F200W above all fluxes, g around them
    assert len(high.violations(sources)) == 3
    assert all("flux in F200W" in line for line in high.violations(sources))
    with pytest.raises(InputError, match="no bounds of fluxes in r, found g, F200W"):
        bounds.select_bands(("g", "r"))


def test_shapes_are_those_of_the_catalogue():
    bounds = default_bounds(catalog())
    with pytest.raises(InputError, match="bounds: found 1 rows, expected 3, one for each source"):
        bounds[:1].violations(catalog())
    with pytest.raises(InputError, match=r"bounds of flux: found shape \(3, 2\), expected \(3, 1\)"):
        Bounds(bounds.lower, bounds.upper, ("g",))
    with pytest.raises(InputError, match=r"bounds of q: found shape \(1,\), expected \(3,\)"):
        Bounds(bounds.lower, bounds.upper | {"q": np.ones(1)}, bounds.bands)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"sqrtq_range": (1.0, 0.4)},
            r"sqrtq_range is \[1.0, 0.4\], expected two increasing numbers in \[0, 1\]",
        ),
        ({"sqrtq_range": (0.4, 1.2)}, "sqrtq_range"),
        ({"pa_range": (1, 1)}, r"pa_range is \[1, 1\]"),
        ({"rhalf_range": (1.0, np.nan)}, "rhalf_range"),
        ({"sersic_range": (5, 1)}, "sersic_range"),
        ({"rhalf_range": (-0.1, 1)}, r"rhalf_range is \[-0.1, 1\], expected no negative radius"),
        ({"sersic_range": (-1, 5)}, r"sersic_range is \[-1, 5\], expected positive indices"),
        ({"flux_factor": -1}, "flux_factor is -1, expected a positive number"),
        ({"n_pix": 0}, "n_pix . pixscale is 0 arcsec"),
        ({"rhalf_range": (0.1, np.inf)}, r"row 0: bounds of rhalf are \[0.1, inf\]"),
        ({"pixscale": 50}, r"rhalf_range is \[5.0, 1.0\]"),
    ],
)
def test_refusals(kwargs, message):
    with pytest.raises(InputError, match=message):
        default_bounds(catalog(), **kwargs)


def test_replacing_is_checked():
    bounds = default_bounds(catalog())
    with pytest.raises(InputError, match=r"row 1: bounds of rhalf are \[1, 0.5\], expected"):
        bounds.replace(rhalf=([0.1, 1, 0.1], 0.5))
    with pytest.raises(InputError, match="bounds of size, expected among flux, x"):
        bounds.replace(size=(0, 1))


def reference_cases():
    return sorted(REFERENCE.glob("*/posterior.h5"))


@pytest.mark.skipif(not reference_cases(), reason="no ../shared/reference")
def test_posteriors_of_the_reference_lie_within():
    """The default box around the reference catalogues holds forcepho's posterior means."""
    h5py = pytest.importorskip("h5py")
    for path in reference_cases():
        sources = SourceCatalog.read(path.parent / "catalog.fits")
        bounds = default_bounds(sources)
        with h5py.File(path) as posterior:
            mean = {
                name: posterior[name]["mean"][:] for name in ("q", "pa", "sersic", "rhalf", *sources.bands)
            }
        moved = sources.replace(
            q=mean["q"] ** 2,
            pa=np.rad2deg(np.pi / 2 - mean["pa"]),
            sersic=mean["sersic"],
            rhalf=mean["rhalf"],
            flux=np.stack([mean[band] for band in sources.bands], axis=-1),
        )
        assert bounds.violations(moved) == [], path.parent.name


def test_quantities_are_converted():
    sources = catalog()
    plain = default_bounds(
        sources, pa_range=(-0.2, 0.7), n_pix=3, pixscale=0.06, rhalf_range=(0.02, 2), sqrtq_range=(0.5, 0.9)
    )
    given = default_bounds(
        sources,
        pa_range=np.rad2deg([-0.2, 0.7]) * u.deg,
        n_pix=3 * u.pix,
        pixscale=0.001 * u.arcmin,
        rhalf_range=(20 * u.mas, 2 * u.arcsec),
        sqrtq_range=[50, 90] * u.percent,
    )
    for name in PARAMETERS:
        np.testing.assert_allclose(given.lower[name], plain.lower[name], rtol=1e-14, atol=1e-14)
        np.testing.assert_allclose(given.upper[name], plain.upper[name], rtol=1e-14, atol=1e-14)
    changed = plain.replace(
        pa=[-0.5, 1.5] * u.rad, flux=(-1 * u.uJy, [1, 2] * u.nmgy), x=[-0.001, 0.001] * u.arcmin
    )
    assert changed.lower["pa"] == pytest.approx(np.rad2deg([-0.5] * 3))
    assert changed.upper["pa"] == pytest.approx(np.rad2deg([1.5] * 3))
    assert changed.lower["flux"] == pytest.approx(np.full((3, 2), -1000.0))
    assert changed.upper["flux"] == pytest.approx(np.tile([3631.0, 7262.0], (3, 1)))
    assert changed.upper["x"] == pytest.approx([0.06] * 3)
    direct = Bounds(plain.lower | {"pa": [-0.5] * 3 * u.rad}, plain.upper, plain.bands)
    np.testing.assert_allclose(direct.lower["pa"], changed.lower["pa"])


@given(st.floats(-89.9, 89.9), st.floats(0.1, 180))
def test_bounds_of_the_model_are_radians(low, width):
    bounds = default_bounds(catalog()).replace(pa=[low, low + width] * u.deg)
    lower, upper = bounds.of_model()
    assert lower["pa"] == pytest.approx(np.deg2rad([low] * 3))
    assert upper["pa"] == pytest.approx(np.deg2rad([low + width] * 3))
    assert lower["q"] is bounds.lower["q"]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            {"pa": (-np.pi / 2, np.pi / 2)},
            "bounds of pa: found plain numbers that look like radians, such as 1.5708",
        ),
        ({"pa": (0, np.deg2rad(60))}, "look like radians, such as 1.0472, expected degrees: give a Quantity"),
        ({"pa": [1, 2] * u.arcsec / u.s}, "bounds of pa: found unit arcsec / s, expected deg"),
        ({"rhalf": (0.1, 1 * u.kpc)}, "bounds of rhalf: found unit kpc, expected arcsec"),
    ],
)
def test_limits_refused(limits, message):
    with pytest.raises(InputError, match=message):
        default_bounds(catalog()).replace(**limits)


def test_degrees_in_the_place_of_radians():
    with pytest.raises(InputError, match=r"pa_range is \[-90, 90\], expected radians within 2 pi"):
        default_bounds(catalog(), pa_range=(-90, 90))
    with pytest.raises(InputError, match="pa_range: found unit arcsec / s, expected rad"):
        default_bounds(catalog(), pa_range=[-90, 90] * u.arcsec / u.s)
    for prior, found in ((Normal(30.0, 5.0), "loc = 30"), (Uniform(-90.0, 90.0), "low = -90")):
        with pytest.raises(InputError, match=f"prior of pa: found {found}, expected radians"):
            check_pa_prior(prior)
    for prior in (
        Normal(0.5, 5.0),
        Uniform(-np.pi, np.pi),
        TruncatedNormal(1.0, 0.3, low=0.0),
        VonMises(1.0, 2.0),
    ):
        check_pa_prior(prior)
