"""Cost of value and gradient of the likelihood, in units of one numpy float32 exponential.

The patch is that of the design's section 5.4: 8 sources, 4 bands x 2 exposures of 128 and 63 pixels on a side,
PSFs of 4 Gaussians.  Pairs are counted un-culled: every pixel with every Gaussian of its exposure.

    python tests/benchmarks/bench_kernel.py --json
"""

import argparse
import json
import os
import time



import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from astropy.wcs import WCS

from fphojax import (
    CircularRegion,
    Exposure,
    Patcher,
    PSFMixture,
    PSFStore,
    SourceCatalog,
    default_bounds,
    load_sersic_table,
)

BANDS = {"F115W": (128, 0.031), "F200W": (128, 0.031), "F277W": (63, 0.063), "F444W": (63, 0.063)}
RA, DEC = 112.566, -33.082


def mock_exposures(bands, n_exposure, rng):
    """Noise images with rotated, dithered WCS; the values of the pixels do not matter for the cost."""
    exposures = []
    for band, (side, scale) in bands.items():
        for i in range(n_exposure):
            angle = rng.uniform(0, 2 * np.pi)
            wcs = WCS(naxis=2)
            wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
            wcs.wcs.cunit = "deg", "deg"
            wcs.wcs.crval = RA, DEC
            wcs.wcs.crpix = side / 2 + rng.uniform(-2, 2, 2)
            wcs.wcs.cd = (
                scale / 3600 * np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            )
            data = rng.normal(size=(side, side))
            exposures.append(
                Exposure.from_arrays(data, np.ones_like(data), wcs, band=band, name=f"{band}-{i}")
            )
    return exposures


def mock_catalog(bands, n_source, rng):
    """Sources within 1.2 arcsec of the field's centre."""
    offset = rng.uniform(-1.2, 1.2, (2, n_source)) / 3600
    return SourceCatalog.from_columns(
        ra=RA + offset[0] / np.cos(np.deg2rad(DEC)),
        dec=DEC + offset[1],
        flux=rng.uniform(5, 100, (n_source, len(bands))),
        q=rng.uniform(0.4, 0.9, n_source),
        pa=rng.uniform(0, np.pi, n_source),
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


def standard_model(seed=42):
    """The model of the standard patch, a point of its parameters, and the un-culled number of pairs."""
    rng = np.random.default_rng(seed)
    exposures = mock_exposures(BANDS, 2, rng)
    catalog = mock_catalog(BANDS, 8, rng)
    table = load_sersic_table()
    patcher = Patcher(exposures, mock_psfs(BANDS), table=table)
    patcher.build_patch(CircularRegion(RA, DEC, 60.0), allbands=tuple(BANDS))
    bounds = default_bounds(catalog, n_pix=4, rhalf_range=(0.03, 1.0), sersic_range=(0.7, 5.5))
    model, start = patcher.prepare_model(active=catalog, bounds=bounds)
    n_pair = sum(e.data.size for e in exposures) * len(catalog) * table.order * 4
    return model, {name: jnp.asarray(value) for name, value in start.items()}, n_pair


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


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    as_json = parser.parse_args().json
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core; XLA starts its threads later

    model, values, n_pair = standard_model()
    start = time.perf_counter()
    compiled = value_and_gradient.lower(values, model).compile()
    compile_s = time.perf_counter() - start
    seconds = best_time(lambda: jax.block_until_ready(compiled(values, model)), 30)
    exp = numpy_exp_time()
    figures = {
        "ns_per_pair": seconds / n_pair * 1e9,
        "numpy_exp_ns": exp * 1e9,
        "ratio": seconds / n_pair / exp,
        "value_and_grad_ms": seconds * 1e3,
        "compile_s": compile_s,
    }
    if as_json:
        print(json.dumps({name: float(f"{value:.4g}") for name, value in figures.items()}))
    else:
        for name, value in figures.items():
            print(f"{name:18s} {value:10.4g}")


if __name__ == "__main__":
    main()
