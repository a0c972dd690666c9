"""Coverage of errors on images with correlated noise, with the noise model and without it.

    python tests/validation/validate_noise.py [-n 60] [--sets white drizzled_0.8 drizzled_1.0 interpolated]

Galaxies drawn from the prior (signal-to-noise ratios up to 100) are put into exposures with white noise, with random
dithers and rotations, and these are made into one image as surveys do:

* `white`: a single exposure, as it is;
* `drizzled_0.8`, `drizzled_1.0`: four exposures, drizzled to pixels of half the size with this pixfrac;
* `interpolated`: four exposures of 0.3" pixels, interpolated to pixels of 0.1" (bilinear), and averaged.

The errors of the image are the true scatter of its pixels.  Its noise is measured as the stage `noise` does, in the
image less the galaxies.  Every galaxy is fitted once, by importance sampling, and its draws before and after the
sandwich give the two halves of the table: how many truths lie in the central 68 and 95 % of the draws, of galaxies
with a signal-to-noise ratio of at least 5.  The PSF is a Gaussian widened by the pixels that the light has gone
through, so that no error of the PSF is part of the test.

Writes noise.md and noise.ecsv beside this file; ends with status 1 where coverage with the noise model is off its
level by more than 3 % and three standard deviations.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.table import Table, vstack
from astropy.wcs import WCS
from drizzle.resample import Drizzle
from scipy.ndimage import map_coordinates

from fphojax.detection.matched_filter import ResidualImage
from fphojax.detection.source_search import noise_of
from fphojax.field.scene_fit import fit, scene_region
from fphojax.inference.methods import Importance
from fphojax.inputs.astrometry import sky_position
from fphojax.inputs.bounds import PARAMETERS, Bounds
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.frame import cut
from fphojax.inputs.noise_model import ExposureNoise, NoiseModel
from fphojax.inputs.psf_store import PSFMixture, PSFStore
from fphojax.inputs.scene import Scene
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.simulate.mock_exposures import ExposureSpec, noiseless_image
from fphojax.system.files import write_text

RA, DEC, BAND, NOISE, SEED = 53.16, -27.79, "g", 1.0, 7
SNR, LEAST_SNR = (5.0, 50.0), 5.0
SHAPES = {"q": (0.3, 1.0), "pa": (-90.0, 90.0), "sersic": (0.7, 4.0)}
LEVELS, ALLOWED = (0.68, 0.95), 0.03
ROWS = ("flux", "x", "y", "rhalf")
HERE = Path(__file__).parent


class Kind(NamedTuple):
    """How an image is made: exposures of some pixels, the pixels of the image, all in arcsec."""

    n_exposure: int
    pixel: float
    fine: float
    psf: float  # standard deviation before pixels
    pixfrac: float | None  # None: interpolated


KINDS = {
    "white": Kind(1, 0.1, 0.1, 0.15, None),
    "drizzled_0.8": Kind(4, 0.1, 0.05, 0.15, 0.8),
    "drizzled_1.0": Kind(4, 0.1, 0.05, 0.15, 1.0),
    "interpolated": Kind(4, 0.3, 0.1, 0.35, None),
}


class Field(NamedTuple):
    """An image, and what is true of it."""

    image: np.ndarray
    error: np.ndarray
    clean: np.ndarray  # without noise
    wcs: WCS
    psf_variance: float  # pixel^2


def draw_galaxies(kind, n, rng):
    """Draw a catalogue from the prior, on a grid; return it, the middles of its boxes, and these."""
    side = int(np.ceil(np.sqrt(n)))
    apart = 45 * kind.psf
    place = (np.stack(np.divmod(np.arange(n), side), axis=1) - (side - 1) / 2) * apart
    sizes = (0.7 * kind.psf, 3 * kind.psf)
    area = 4 * np.pi * (kind.psf**2 + (np.mean(sizes) / 1.18) ** 2) / kind.pixel**2
    snr = np.exp(rng.uniform(*np.log(SNR), n))
    value = (snr * NOISE * np.sqrt(area / kind.n_exposure))[:, None]
    shift = 1.5 * kind.pixel
    ra, dec = sky_position(*place.T, RA, DEC)
    catalog = SourceCatalog.from_columns(
        ra=ra,
        dec=dec,
        flux=value,
        q=np.full(n, 0.7),
        pa=np.zeros(n),
        sersic=np.full(n, 2.0),
        rhalf=np.full(n, np.mean(sizes)),
        roi=np.full(n, 14 * kind.psf),
        bands=(BAND,),
    )
    boxes = {
        "flux": (0 * value, 2 * value),
        "x": (-shift, shift),
        "y": (-shift, shift),
        "rhalf": sizes,
        **SHAPES,
    }
    limits = [
        {
            name: np.broadcast_to(boxes[name][i], value.shape if name == "flux" else n) + 0.0
            for name in PARAMETERS
        }
        for i in (0, 1)
    ]
    bounds = Bounds(*limits, (BAND,))
    drawn = {name: rng.uniform(limits[0][name], limits[1][name]) for name in PARAMETERS}
    ra, dec = sky_position(drawn.pop("x"), drawn.pop("y"), catalog.ra, catalog.dec)
    return catalog.replace(ra=ra, dec=dec, **drawn), catalog, bounds


def make_field(kind, truth, rng):
    """Simulate the exposures of galaxies, and make one image of them."""
    extent = 2 * 3600 * np.abs(truth.dec - DEC).max() + 40 * kind.psf
    psf = PSFMixture([1.0], [[0.0, 0.0]], [[(kind.psf / kind.pixel) ** 2] * 2 + [0.0]], includes_pixel=False)
    exposures = []
    for number in range(kind.n_exposure):
        ra, dec = sky_position(*rng.uniform(-kind.pixel, kind.pixel, 2), RA, DEC)
        n_pixel = int(1.45 * extent / kind.pixel)
        turn = rng.uniform(0, 90)
        spec = ExposureSpec(
            BAND, f"e{number}", (n_pixel,) * 2, kind.pixel, turn, float(ra), float(dec), psf, NOISE
        )
        clean = noiseless_image(truth, spec)
        exposures.append((WCS(spec.header()), clean, rng.normal(scale=NOISE, size=clean.shape)))
    if kind.n_exposure == 1:
        ((wcs, clean, noise),) = exposures
        variance = (kind.psf / kind.pixel) ** 2 + 1 / 12
        return Field(clean + noise, np.full(clean.shape, NOISE), clean, wcs, variance)
    n_fine = int(extent / kind.fine)
    fine = ExposureSpec(BAND, "image", (n_fine,) * 2, kind.fine, 0.0, RA, DEC, psf, NOISE)
    wcs, share = WCS(fine.header()), (kind.fine / kind.pixel) ** 2
    resampled = _drizzled if kind.pixfrac is not None else _interpolated
    clean, noise, weight = resampled(kind, exposures, wcs, n_fine)
    # the light has gone through the exposures' pixels, and the drops and the pixels of the image or the interpolation
    added = [kind.pixel**2] + (
        [2 * kind.pixel**2] if kind.pixfrac is None else [(kind.pixfrac * kind.pixel) ** 2, kind.fine**2]
    )
    variance = (kind.psf**2 + sum(added) / 12) / kind.fine**2
    # a standard deviation of pixels that depends on how often a place was seen
    scatter = np.std(noise * np.sqrt(weight)) / np.sqrt(weight)
    return Field((clean + noise) * share, scatter * share, clean * share, wcs, variance)


def _drizzled(kind, exposures, wcs, n_fine):
    images = []
    for which in (0, 1):
        made = Drizzle(out_shape=(n_fine, n_fine), fillval=0.0, disable_ctx=True)
        for of_exposure, *values in exposures:
            rows, columns = np.indices(values[0].shape)
            sky = of_exposure.pixel_to_world_values(columns.ravel(), rows.ravel())
            pixmap = np.stack(wcs.world_to_pixel_values(*sky), axis=-1).reshape(*values[0].shape, 2)
            made.add_image(values[which].astype(np.float32), 1.0, pixmap, pixfrac=kind.pixfrac)
        images.append(np.array(made.out_img, dtype=np.float64))
    return *images, np.maximum(np.array(made.out_wht, dtype=np.float64), 1e-3)


def _interpolated(kind, exposures, wcs, n_fine):
    rows, columns = np.indices((n_fine, n_fine))
    sky = wcs.pixel_to_world_values(columns.ravel(), rows.ravel())
    images = np.zeros((2, n_fine, n_fine))
    for of_exposure, *values in exposures:
        x, y = of_exposure.world_to_pixel_values(*sky)
        for image, value in zip(images, values, strict=True):
            image += map_coordinates(value, [y, x], order=1).reshape(n_fine, n_fine) / kind.n_exposure
    return *images, np.ones((n_fine, n_fine))


def measured(field):
    """The noise of an image less its galaxies, as the stage measures it."""
    half = int(np.ceil(4 * np.sqrt(field.psf_variance)))
    offset = np.arange(-half, half + 1)
    psf = np.exp(-0.5 * (offset[:, None] ** 2 + offset**2) / field.psf_variance)
    residual = field.image - field.clean
    image = ResidualImage(residual, 1 / field.error, field.clean, field.wcs, BAND, "image", psf / psf.sum())
    found = noise_of([image])[BAND]["image"]
    return ExposureNoise.of(BAND, "image", found.correlation, found.n_pixel)


def study(name, n):
    """Fit the galaxies of an image; return a table with the share of draws below the truth, raw and shown."""
    kind, rng = KINDS[name], np.random.default_rng([SEED, list(KINDS).index(name)])
    truth, catalog, bounds = draw_galaxies(kind, n, rng)
    field = make_field(kind, truth, rng)
    noise = measured(field)
    print(
        f"{name}: scale {noise.scale:.3f}, lags to {len(noise.correlation) // 2}, galaxy of 3 pixels "
        f"{noise.error_factor(3.0):.2f}",
        flush=True,
    )
    psfs = PSFStore()
    covariance = [[field.psf_variance, field.psf_variance, 0.0]]
    psfs.add(PSFMixture([1.0], [[0.0, 0.0]], covariance, includes_pixel=True), BAND)
    exposure = Exposure.from_arrays(field.image, field.error, field.wcs, band=BAND, name="image")
    model, rows = NoiseModel({(BAND, "image"): noise}), []
    for s in range(n):
        one = catalog[[s]]
        limits = Bounds(
            *({k: v[[s]] for k, v in side.items()} for side in (bounds.lower, bounds.upper)), (BAND,)
        )
        frame = cut([exposure], scene_region(one))
        result = fit(Scene(frame, psfs, active=one, bounds=limits, noise=model), Importance(), seed=s).result
        row = {"set": name, "trusted": bool(result.posterior["sample_stats"]["trusted"].all())}
        row["snr"] = float(truth.flux[s, 0] / result.draws["flux"].std())
        row["err_scale"] = result.err_scale.item()
        for which, draws in (("raw", result.raw), ("noise", result.draws)):
            for parameter, column in zip(ROWS, ("flux", "ra", "dec", "rhalf"), strict=True):
                values = draws[column].to_numpy().ravel()
                true = np.ravel(getattr(truth, column)[s])[0]
                row[f"{parameter}_pull_{which}"] = float((values.mean() - true) / values.std())
                row[f"{parameter}_{which}"] = float(np.mean(values < true))
        rows.append(row)
    return Table(rows)


def coverage(ranks, level):
    """Share of truths in the central part of the draws, and its standard deviation."""
    inside = np.abs(np.asarray(ranks) - 0.5) < level / 2
    return inside.mean(), np.sqrt(level * (1 - level) / len(inside))


def document(table):
    """Format coverage as Markdown; also say whether it is as allowed."""
    lines = [
        "# Coverage on images with correlated noise",
        "",
        "Truths in the central 68 % and 95 % of the draws [%], of galaxies with a signal-to-noise ratio of "
        f"{LEAST_SNR:g} to 100, with the errors of the images alone and with the noise model; `err_scale` is the "
        "median factor of flux errors.",
        "",
        "| image | galaxies | err_scale | parameter | 68 %: alone | with the model | 95 %: alone | with the model |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    good = True
    for name in dict.fromkeys(table["set"]):
        rows = table[(table["set"] == name) & (table["snr"] >= LEAST_SNR)]
        for parameter in ROWS:
            cells = []
            for level in LEVELS:
                for which in ("raw", "noise"):
                    share, error = coverage(rows[f"{parameter}_{which}"], level)
                    cells.append(f"{100 * share:.0f} ± {100 * error:.0f}")
                    good &= which == "raw" or abs(share - level) < max(ALLOWED, 3 * error)
            head = f"{name} | {len(rows)} | {np.median(rows['err_scale']):.2f} | {parameter}"
            lines.append(f"| {head} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""]), good


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=300, help="galaxies in each image")
    parser.add_argument("--sets", nargs="+", default=list(KINDS), choices=list(KINDS))
    options = parser.parse_args()
    tables = []
    for name in options.sets:
        began = time.monotonic()
        tables.append(study(name, options.n))
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        text, good = document(vstack(tables))
        write_text(HERE / "noise.md", text)
        vstack(tables).write(HERE / "noise.ecsv", overwrite=True)
    print(text)
    sys.exit(not good)


if __name__ == "__main__":
    main()
