"""Model images against exact ones: GalSim's Sersic profiles through PSFs of Gaussians and square pixels.

The whole way of a source is tested: catalogue and WCS, profile table, projection, pixel response and tiles.  Here
a part of the grid is compared; `tests/validation/validate_truth.py` compares all of it.
"""

import warnings
from functools import cache
from itertools import product
from typing import NamedTuple

import equinox as eqx
import numpy as np
import pytest
from astropy.wcs import WCS
from numpy.polynomial.chebyshev import chebpts1, chebvander

from fphojax import CircularRegion, Exposure, Patcher, PSFMixture, PSFStore, SourceCatalog
from fphojax.core.culling import TOLERANCE
from fphojax.inputs.astrometry import local_affine
from fphojax.inputs.bounds import default_bounds
from fphojax.mixtures.sersic import load_sersic_table
from fphojax.simulate.mock_exposures import ExposureSpec, noiseless_image

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its import
    galsim = pytest.importorskip("galsim")

SERSIC = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
RHALF = (0.5, 2.0, 8.0, 30.0)  # pixels
AXIS_RATIO = (0.2, 0.6, 1.0)
FLUX_LIMIT = 2e-3
RA, DEC = 150.1, 2.2
PEAK_SNR = 1000.0


def _circular(sigma):
    return PSFMixture([1.0], [[0.0, 0.0]], [[sigma**2, sigma**2, 0.0]], includes_pixel=False)


PSFS = {
    "0.6": _circular(0.6),
    "1": _circular(1.0),
    "2": _circular(2.0),
    "two": PSFMixture(
        [0.75, 0.25],
        [[0.05, -0.03], [-0.1, 0.08]],
        [[0.62, 0.5, 0.06], [4.4, 3.6, -0.5]],
        includes_pixel=False,
    ),
}


def l2_limit(sersic):
    """Largest relative L2 error that is allowed."""
    return 2e-3 if sersic <= 4 else 3e-3


class Case(NamedTuple):
    """A galaxy, its half-light radius in pixels, and the PSFs through which it is seen."""

    sersic: float
    rhalf: float
    q: float
    psfs: tuple[str, ...] = tuple(PSFS)


class Row(NamedTuple):
    """Errors of one image."""

    sersic: float
    rhalf: float
    q: float
    psf: str
    side: int
    flux: float  # of the model inside the stamp over the exact one, less 1
    l2: float  # norm of the residual over the norm of the exact image


class Stamp(NamedTuple):
    """An exact image, and how it was seen."""

    psf: str
    wcs: WCS
    image: np.ndarray


class Scene(NamedTuple):
    """A galaxy in one exposure per PSF."""

    case: Case
    pixel_scale: float
    pa: float
    stamps: tuple[Stamp, ...]


# --------------------------------------------------------------------------------------------------------
# Exact images


def pixel_scale(rhalf):
    """Arcsec per pixel: 0.03, or the nearest at which the fixed-radii table (0.02" to 0.36") holds r_h."""
    return float(np.clip(0.03 * rhalf, 0.02, 0.36)) / rhalf


# no wide margin against folding, which would need transforms of 10^5 pixels squared for n = 6: see _copies
GALSIM = galsim.GSParams(
    maximum_fft_size=20_000,
    folding_threshold=0.05,
    stepk_minimum_hlr=2.0,
    maxk_threshold=1e-6,
    kvalue_accuracy=1e-6,
)


def galsim_profile(sersic, rhalf, q, pa, jacobian):
    """A galaxy of unit flux on the image, in pixels, as GalSim object.

    Parameters
    ----------
    sersic, rhalf, q, pa : float
        In the conventions of `Sources`.
    jacobian : array (2, 2)
        d(arcsec east, north) / d(pixel x, y).
    """
    profile = galsim.Sersic(sersic, half_light_radius=rhalf, gsparams=GALSIM)
    profile = profile.shear(q=q, beta=(np.pi / 2 - pa) * galsim.radians)
    return galsim.JacobianWCS(*np.ravel(jacobian)).toImage(profile)


def galsim_source(sersic, rhalf, q, pa, jacobian, psf):
    """A galaxy itself (`galsim_profile`), and through the pixel and a PSF, a mixture without the pixel response."""
    profile = galsim_profile(sersic, rhalf, q, pa, jacobian)
    parts = []
    for amplitude, mean, (xx, yy, xy) in zip(psf.amplitudes, psf.means, psf.covariances, strict=True):
        round_one = galsim.Gaussian(sigma=1.0, gsparams=GALSIM)
        stretched = round_one.transform(*np.linalg.cholesky([[xx, xy], [xy, yy]]).ravel())
        parts.append(stretched.withFlux(amplitude).shift(*mean))
    return profile, galsim.Convolve(profile, galsim.Add(parts), galsim.Pixel(1.0), gsparams=GALSIM)


def half_light_radius(seen):
    """Radius (pixels) of the circle that holds half of the light: the median over photons, good to 1 %."""
    photons = seen.shoot(20_000, rng=galsim.BaseDeviate(1))
    return np.median(np.hypot(photons.x, photons.y))


def exact_image(profile, seen, position, shape):
    """GalSim's image of a source, without the copies that its Fourier transform implies.

    Parameters
    ----------
    profile, seen : galsim.GSObject
        From `galsim_profile`, and the same seen through PSF and pixel.
    position : array (2,)
        Pixel (x, y) of the source.
    shape : tuple of int
        (ny, nx).

    Returns
    -------
    ndarray (ny, nx)
    """
    # An odd image around a pixel's centre, so that GalSim shifts nothing by itself; twice as wide as asked for,
    # so that the copies stay far.
    ny, nx = shape
    half = max(shape) // 2
    shift = np.asarray(position) - half
    image = galsim.ImageD(4 * half + 1, 4 * half + 1, scale=1.0)
    image.setCenter(0, 0)
    _, period = seen.shift(*shift).drawFFT_makeKImage(image)
    seen.shift(*shift).drawImage(image, method="no_pixel")
    inside = image.array[half : 3 * half + 1, half : 3 * half + 1]
    return (inside - _copies(profile.shift(*shift), period, 2 * half + 1))[:ny, :nx]


def _copies(profile, period, side, *, reach=16, degree=12):
    """Sum of the copies of a profile that lie whole periods away, over a stamp around the origin.

    So far out the PSF changes nothing, and the sum is smooth: a polynomial through few points gives it.
    """
    node = chebpts1(degree + 1)
    values = np.zeros((degree + 1, degree + 1))
    copies = galsim.ImageD(2 * reach + 1, 2 * reach + 1, scale=float(period))
    for i, j in np.ndindex(values.shape):
        profile.shift(-node[j] * side / 2, -node[i] * side / 2).drawImage(copies, method="sb")
        values[i, j] = copies.array.sum() - copies.array[reach, reach]
    to_pixel = chebvander(np.linspace(-1, 1, side) * (1 - 1 / side), degree) @ np.linalg.inv(
        chebvander(node, degree)
    )
    return to_pixel @ values @ to_pixel.T


def make_scene(case):
    """Exact stamps, 16 half-light radii wide, at random sub-pixel offsets and angles."""
    rng = np.random.default_rng([int(100 * value) for value in case[:3]])
    scale, pa = pixel_scale(case.rhalf), rng.uniform(0, np.pi)
    stamps = []
    for name in PSFS:
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.5, 0.5, 2)
        if name not in case.psfs:
            continue
        cos, sin = np.cos(angle), np.sin(angle)
        jacobian = scale * np.array([[-cos, sin], [sin, cos]])
        source = galsim_source(case.sersic, case.rhalf * scale, case.q, pa, jacobian, PSFS[name])
        side = max(32, int(np.ceil(16 * half_light_radius(source[1]))))
        position = (side - 1) / 2 + offset
        wcs = WCS(naxis=2)
        wcs.wcs.ctype, wcs.wcs.cunit = ("RA---TAN", "DEC--TAN"), ("deg", "deg")
        wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cd = (RA, DEC), position + 1, jacobian / 3600
        stamps.append(Stamp(name, wcs, exact_image(*source, position, (side, side))))
    return Scene(case, scale, pa, tuple(stamps))


# --------------------------------------------------------------------------------------------------------
# The package's images


class Model(NamedTuple):
    """A scene as the package sees it."""

    patcher: Patcher
    catalog: SourceCatalog

    @classmethod
    def of(cls, scene, table=None, dtype=np.float32):
        """Exposures of the exact stamps, one band each, with errors of a thousandth of the peak."""
        exposures, psfs = [], PSFStore()
        for stamp in scene.stamps:
            err = np.full(stamp.image.shape, stamp.image.max() / PEAK_SNR)
            exposures.append(
                Exposure.from_arrays(stamp.image, err, stamp.wcs, band=stamp.psf, name=stamp.psf)
            )
            psfs.add(PSFS[stamp.psf], stamp.psf)
        bands = tuple(stamp.psf for stamp in scene.stamps)
        catalog = SourceCatalog.from_columns(
            ra=RA,
            dec=DEC,
            flux=np.ones((1, len(bands))),
            q=scene.case.q,
            pa=np.rad2deg(scene.pa),
            sersic=scene.case.sersic,
            rhalf=scene.case.rhalf * scene.pixel_scale,
            bands=bands,
        )
        patcher = Patcher(exposures, psfs, table=table, pixel_response="quartic", dtype=dtype)
        radius = max(stamp.image.shape[0] for stamp in scene.stamps) * scene.pixel_scale
        patcher.build_patch(CircularRegion(RA, DEC, radius), allbands=bands)
        return cls(patcher, catalog)

    def images(self, tolerance=0.0):
        """Image of every exposure; by default all Gaussians on all tiles."""
        model, start = self._prepared(tolerance)
        # the start was moved off the edges of the box
        values = start | {name: getattr(self.catalog, name) for name in ("q", "sersic", "rhalf")}
        tiles = _images(model, values)
        return [self.patcher.frame.image(e, tiles) for e in range(len(self.patcher.exposures))]

    def n_pair(self, tolerance=0.0):
        """Number of pairs of a Gaussian and a tile."""
        return self._prepared(tolerance)[0].pairs.n_pair

    def _prepared(self, tolerance):
        rhalf = float(self.catalog.rhalf[0])
        bounds = default_bounds(
            self.catalog,
            flux_factor=1.0,
            n_pix=1.0,
            pixscale=self.patcher.exposures[0].pixel_scale,
            sersic_range=(0.5, 6.0),
            rhalf_range=(rhalf / 2, rhalf * 2),
        )
        return self.patcher.prepare_model(active=self.catalog, bounds=bounds, tolerance=tolerance)


@eqx.filter_jit
def _images(model, values):
    return model.images(values)


def errors(scene, images):
    """A `Row` for each stamp."""
    rows = []
    for stamp, image in zip(scene.stamps, images, strict=True):
        exact = stamp.image
        flux = image.sum() / exact.sum() - 1
        l2 = np.linalg.norm(image - exact) / np.linalg.norm(exact)
        rows.append(Row(*scene.case[:3], stamp.psf, len(exact), flux, l2))
    return rows


# --------------------------------------------------------------------------------------------------------
# Tests


def worst(rows, name):
    """The row with the largest absolute error of a kind; None if there are no rows."""
    return max(rows, key=lambda row: abs(getattr(row, name)), default=None)


def summary(by_table):
    """Text: for each n the worst errors of each table, in 1e-3, and where they are (r_h / q / PSF)."""
    lines = ["", f"{'n':>4}" + "".join(f" | {name + ': flux':>32} {'L2':>28}" for name in by_table)]
    for sersic in SERSIC:
        line = f"{sersic:4.1f}"
        for rows in by_table.values():
            rows = [row for row in rows if row.sersic == sersic]
            for name, width in (("flux", 32), ("l2", 28)):
                row = worst(rows, name)
                text = "outside the table"
                if row is not None:
                    place = f"({row.rhalf:g} / {row.q:g} / {row.psf})"
                    text = f"{1e3 * getattr(row, name):8.3f} {place:>18}"
                line += (" | " if name == "flux" else " ") + f"{text:>{width}}"
        lines.append(line)
    return "\n".join(lines)


def load_fixed(reference_dir):
    """The fixed-radii table, and the indices of `SERSIC` that it holds."""
    table = load_sersic_table(reference_dir / "sersic_fixed_radii.h5")
    low, high = table.sersic_range
    return table, [n for n in SERSIC if low <= n <= high]


def part_of_grid():
    """Of small galaxies all; otherwise the extreme q, and of the large ones, which take long, the worst corner."""
    small = [Case(n, 0.5, q) for n, q in product(SERSIC, AXIS_RATIO)]
    middle = [Case(n, rhalf, q) for n, rhalf, q in product(SERSIC, (2.0, 8.0), AXIS_RATIO) if q != 0.6]
    return small + middle + [Case(n, 30.0, 0.2, ("0.6",)) for n in (1.0, 2.0, 4.0, 6.0)]


@cache
def scenes_and_rows():
    """The part of the grid, and the errors of the package's table there."""
    scenes = [make_scene(case) for case in part_of_grid()]
    return scenes, [row for scene in scenes for row in errors(scene, Model.of(scene).images())]


@pytest.mark.slow
def test_grid(capsys):
    _, rows = scenes_and_rows()
    with capsys.disabled():
        print("\nWorst errors in 1e-3 (r_h [pixel] / q / PSF)" + summary({"scale-free": rows}))
    for row in rows:
        assert abs(row.flux) < FLUX_LIMIT, row
        assert row.l2 < l2_limit(row.sersic), row


def test_beside_fixed_radii(reference_dir, capsys):
    fixed, fixed_sersic = load_fixed(reference_dir)
    scenes, rows = scenes_and_rows()
    others = []
    for scene in scenes:
        if scene.case.sersic in fixed_sersic:
            others += errors(scene, Model.of(scene, fixed).images())
    with capsys.disabled():
        print("\nWorst errors in 1e-3 (r_h [pixel] / q / PSF)", end="")
        print(summary({"scale-free": rows, "fixed radii": others}))
    for sersic in fixed_sersic:
        ours, theirs = (worst([r for r in some if r.sersic == sersic], "l2").l2 for some in (rows, others))
        assert ours < theirs


@pytest.mark.parametrize("case", [Case(0.5, 2.0, 0.6), Case(4.0, 8.0, 0.2), Case(6.0, 8.0, 1.0)])
def test_culling_keeps_the_accuracy(case, capsys):
    scene = make_scene(case)
    model = Model.of(scene)
    plain, listed, culled = model.images(), model.images(1e-12), model.images(TOLERANCE)

    def in_noise(first, second):
        return max(
            PEAK_SNR * np.abs(a - b).max() / stamp.image.max()
            for a, b, stamp in zip(first, second, scene.stamps, strict=True)
        )

    change, quartic = in_noise(culled, listed), in_noise(listed, plain)
    kept = model.n_pair(TOLERANCE) / model.n_pair()
    rows = errors(scene, culled)
    with capsys.disabled():
        print(
            f"\nn = {case.sersic:g}, r_h = {case.rhalf:g}, q = {case.q:g}, peak S/N {PEAK_SNR:g}: "
            f"{kept:.2f} of the pairs; culling and merging change pixels by "
            f"{change:.1e} of the noise, the quartic term left out above 1.2 pixels by {quartic:.1e}; "
            f"worst flux error {worst(rows, 'flux').flux:.1e}, L2 {worst(rows, 'l2').l2:.1e}"
        )
    assert change < TOLERANCE
    assert abs(worst(rows, "flux").flux) < FLUX_LIMIT
    assert worst(rows, "l2").l2 < l2_limit(case.sersic)


def test_single_precision_suffices(capsys):
    scene = make_scene(Case(4.0, 8.0, 0.6))
    single, double = Model.of(scene).images(), Model.of(scene, dtype=np.float64).images()
    rounding = max(np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(single, double, strict=True))
    with capsys.disabled():
        print(f"\nfloat32 differs from float64 by {rounding:.1e} (relative L2); errors in 1e-3:")
        for a, b in zip(errors(scene, single), errors(scene, double), strict=True):
            pairs = (
                f"flux {1e3 * a.flux:.4f} and {1e3 * b.flux:.4f}, L2 {1e3 * a.l2:.4f} and {1e3 * b.l2:.4f}"
            )
            print(f"  PSF {a.psf}: {pairs}")
    assert rounding < 1e-6


@pytest.mark.parametrize(("sersic", "psf"), [(0.5, "0.6"), (1.0, "2"), (4.0, "1"), (6.0, "two")])
def test_exact_images_are_exact(sersic, psf, capsys):
    """GalSim's images against those of `simulate.mock_exposures`, which knows another transform of the profile."""
    side, factor = 64, 8  # its Fourier transforms imply copies too, here far away
    spec = ExposureSpec("F", "F", (side * factor, side * factor), 0.03, 25.0, RA, DEC, PSFS[psf], 1.0)
    columns = {"ra": RA + 1e-6, "dec": DEC - 2e-6, "flux": [[1.0]], "bands": ("F",)}
    source = SourceCatalog.from_columns(sersic=sersic, rhalf=0.06, q=0.5, pa=np.rad2deg(0.7), **columns)
    corner = side * (factor - 1) // 2
    window = np.s_[corner : corner + side, corner : corner + side]
    other = noiseless_image(source, spec)[window]

    affine = local_affine(WCS(spec.header()), source.ra, source.dec, dec0=DEC)
    jacobian = np.linalg.inv(affine.jacobian[0])
    objects = galsim_source(sersic, 0.06, 0.5, 0.7, jacobian, PSFS[psf])
    image = exact_image(*objects, affine.pixel[0] - corner, (side, side))
    l2, flux = np.linalg.norm(image - other) / np.linalg.norm(other), image.sum() / other.sum() - 1
    with capsys.disabled():
        print(f"\nn = {sersic:g}: GalSim and noiseless_image differ by {l2:.1e} (L2), {flux:.1e} in flux")
    assert l2 < 2e-6
    assert abs(flux) < 1e-5
