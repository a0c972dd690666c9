"""Cost of value and gradient of the likelihood, in units of one numpy float32 exponential.

The patch is that of the design's section 5.4: 8 sources, 4 bands x 2 exposures of 128 and 63 pixels on a side,
PSFs of 4 Gaussians.  Pairs are counted un-culled: every pixel with every Gaussian of its exposure.

    python tests/benchmarks/bench_kernel.py --json
"""

import argparse
import dataclasses
import json
import os
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from astropy.wcs import WCS
from jax.flatten_util import ravel_pytree

from fphojax import CircularRegion, Exposure, Patcher, PSFMixture, PSFStore, SourceCatalog, default_bounds
from fphojax.core.culling import TOLERANCE

BANDS = {"F115W": (128, 0.031), "F200W": (128, 0.031), "F277W": (63, 0.063), "F444W": (63, 0.063)}
NOISE = 0.055  # nJy per pixel, as in forcepho's reference cases
RA, DEC = 112.566, -33.082
# Half-widths of the box in which the pair lists hold, typical of a posterior: fractions, and arcsec for x and y
BOX = {"flux": 0.2, "x": 0.01, "y": 0.01, "q": 0.2, "pa": 0.2, "sersic": 0.2, "rhalf": 0.2}


def mock_exposures(bands, n_exposure, rng):
    """Noise images with rotated, dithered WCS, so many in each band (a number, or a list)."""
    exposures = []
    numbers = np.broadcast_to(n_exposure, len(bands))
    for (band, (side, scale)), number in zip(bands.items(), numbers, strict=True):
        for i in range(number):
            angle = rng.uniform(0, 2 * np.pi)
            wcs = WCS(naxis=2)
            wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
            wcs.wcs.cunit = "deg", "deg"
            wcs.wcs.crval = RA, DEC
            wcs.wcs.crpix = side / 2 + rng.uniform(-2, 2, 2)
            wcs.wcs.cd = (
                scale / 3600 * np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            )
            err = np.full((side, side), NOISE)
            data = rng.normal(size=err.shape) * err
            exposures.append(Exposure.from_arrays(data, err, wcs, band=band, name=f"{band}-{i}"))
    return exposures


def mock_catalog(bands, n_source, rng):
    """Sources within 1.2 arcsec of the field's centre."""
    offset = rng.uniform(-1.2, 1.2, (2, n_source)) / 3600
    return SourceCatalog.from_columns(
        ra=RA + offset[0] / np.cos(np.deg2rad(DEC)),
        dec=DEC + offset[1],
        flux=rng.uniform(5, 100, (n_source, len(bands))),
        q=rng.uniform(0.4, 0.9, n_source),
        pa=np.rad2deg(rng.uniform(0, np.pi, n_source)),
        sersic=rng.uniform(1, 4, n_source),
        rhalf=rng.uniform(0.1, 0.3, n_source),
        bands=tuple(bands),
    )


def mock_psfs(bands):
    """Four Gaussians, as wide as those of forcepho's reference cases."""
    store = PSFStore()
    for band in bands:
        store.add(
            PSFMixture(
                amplitudes=np.array([0.55, 0.30, 0.12, 0.03]),
                means=np.array([[0.1, -0.15], [-0.2, 0.1], [-0.05, 0.05], [0.0, 0.0]]),
                covariances=np.array([[0.6, 0.7, 0.06], [2.7, 2.4, 0.2], [16, 16, 0.1], [94, 106, -5.0]]),
                includes_pixel=False,
            ),
            band,
        )
    return store


def mock_model(*, bands=BANDS, n_exposure=2, n_source=8, seed=42, pixel_response="variance"):
    """A model with lists for a box around its start, the start, and the numbers of pairs un-culled and listed."""
    rng = np.random.default_rng(seed)
    exposures = mock_exposures(bands, n_exposure, rng)
    catalog = mock_catalog(bands, n_source, rng)
    patcher = Patcher(exposures, mock_psfs(bands), pixel_response=pixel_response)
    patcher.build_patch(CircularRegion(RA, DEC, 60.0), allbands=tuple(bands))
    bounds = default_bounds(catalog, n_pix=4, rhalf_range=(0.03, 1.0), sersic_range=(0.7, 5.5))
    full, start = patcher.prepare_model(active=catalog, bounds=bounds, tolerance=0)
    half = {k: BOX[k] * (1 if k in "xy" else np.abs(v)) for k, v in start.items()}
    lower = {k: np.maximum(v - half[k], 0.6) if k == "sersic" else v - half[k] for k, v in start.items()}
    upper = {k: np.minimum(v + half[k], 1.0) if k == "q" else v + half[k] for k, v in start.items()}
    model = dataclasses.replace(full, tolerance=TOLERANCE).culled(lower, upper)
    n_pair = sum(e.data.size for e in exposures) * len(catalog) * patcher.table.order * 4
    values = {name: jnp.asarray(value) for name, value in start.items()}
    return full, model, values, n_pair


def best_time(function, repeats):
    """Shortest of several runs, seconds; the first, which compiles, is not counted."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def numpy_exp_time():
    """Seconds per element of numpy's float32 exponential, on an array that stays in the cache."""
    x = -10 * np.random.default_rng(0).random(4096, dtype=np.float32)
    out = np.empty_like(x)
    return best_time(lambda: np.exp(x, out=out), 2000) / x.size


@eqx.filter_jit
def value_and_gradient(values, model):
    """Log-likelihood and its gradient by all parameters."""
    return eqx.filter_value_and_grad(model.log_likelihood)(values)


def cost(model, values, repeats):
    """Seconds of one evaluation, and of its compilation."""
    start = time.perf_counter()
    compiled = value_and_gradient.lower(values, model).compile()
    compile_s = time.perf_counter() - start
    return best_time(lambda: jax.block_until_ready(compiled(values, model)), repeats), compile_s


def differences(full, model, values):
    """What culling and merging change: pixels, in units of the noise, and the gradient, over its norm."""
    images = [eqx.filter_jit(lambda m, v: m.images(v))(m, values) for m in (model, full)]
    pixels = float(jnp.max(jnp.abs(images[0] - images[1]) * full.patch.ierr))
    gradients = [ravel_pytree(value_and_gradient(values, m)[1])[0] for m in (model, full)]
    return pixels, float(jnp.linalg.norm(gradients[0] - gradients[1]) / jnp.linalg.norm(gradients[1]))


def scaling():
    """Milliseconds against the numbers of sources, exposures and pixels, other things equal."""
    one = {"F115W": (64, 0.031)}
    tables = {
        "sources": {n: {"bands": one, "n_source": n} for n in (1, 3, 10, 30)},
        "exposures": {n: {"bands": one, "n_exposure": n} for n in (1, 4, 15, 60)},
        "pixels": {side**2: {"bands": {"F115W": (side, 0.031)}} for side in (32, 64, 128, 256, 512)},
    }
    found = {}
    for name, settings in tables.items():
        found[name] = {}
        for n, changes in settings.items():
            _, model, values, _ = mock_model(**changes)
            found[name][n] = 1e3 * cost(model, values, 5)[0]
    return found


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--quick", action="store_true", help="the standard patch alone, without the scaling")
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core; XLA starts its threads later

    full, model, values, n_pair = mock_model()
    seconds, compile_s = cost(model, values, 30)
    unculled, _ = cost(full, values, 10)
    _, quartic, _, _ = mock_model(pixel_response="quartic")
    with_quartic, _ = cost(quartic, values, 10)
    exp = numpy_exp_time()
    pixels, gradient = differences(full, model, values)
    figures = {
        "ns_per_pair": seconds / n_pair * 1e9,
        "numpy_exp_ns": exp * 1e9,
        "ratio": seconds / n_pair / exp,
        "value_and_grad_ms": seconds * 1e3,
        "compile_s": compile_s,
        "ratio_unculled": unculled / n_pair / exp,
        "ratio_quartic": with_quartic / n_pair / exp,
        "listed": model.pairs.n_pair / full.pairs.n_pair,
        "pixel_change_over_noise": pixels,
        "gradient_change": gradient,
    }
    figures = {name: float(f"{value:.4g}") for name, value in figures.items()}
    if not options.quick:
        figures["scaling_ms"] = {
            name: {n: float(f"{ms:.3g}") for n, ms in row.items()} for name, row in scaling().items()
        }
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:24s} {value}")


if __name__ == "__main__":
    main()
