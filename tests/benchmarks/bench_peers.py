"""Effective draws per second beside pysersic, on pysersic's own kind of problem: one galaxy in one image.

    python tests/benchmarks/bench_peers.py --json
    python tests/benchmarks/bench_peers.py --pysersic ENVIRONMENT/bin/python

A Sersic galaxy made by GalSim (n 2, half-light radius 8 pixels, b/a 0.7) in 121 x 121 pixels with white noise,
through a Gaussian PSF of 1.5 pixels that is given as an image.  Both sample with numpyro's NUTS, two chains of 500
draws after 500 of warm-up; fphojax also with `auto`.  A first fit compiles, a second is timed, all of it.  pysersic
needs an environment of its own (``pip install pysersic 'arviz<1'``), whose Python is named; without it its row is
left out.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import arviz
import galsim
import numpy as np
from astropy.wcs import WCS
from rich.console import Console
from rich.table import Table

import fphojax as fp

SIDE, NOISE, TRUTH = 121, 0.1, {"flux": 1000.0, "sersic": 2.0, "rhalf": 8.0, "q": 0.7}
LENGTH = {"warmup": 500, "draws": 500, "chains": 2}
METHODS = {"nuts": fp.NUTS(**LENGTH), "auto": fp.Auto(**LENGTH)}
# Run in the environment of pysersic: two fits of the arrays of the file that is named, figures of the second as JSON.
PYSERSIC = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import arviz, jax, jax.numpy as jnp, numpy as np, numpyro
numpyro.set_host_device_count(2)
from numpyro.infer import MCMC, NUTS
from pysersic import FitSingle
from pysersic.loss import gaussian_loss
from pysersic.priors import SourceProperties
from pysersic.rendering import HybridRenderer

data = np.load(sys.argv[1])
arrays = {name: jnp.array(data[name]) for name in ("data", "rms", "psf")}
prior = SourceProperties(data["data"]).generate_prior("sersic", sky_type="none")
model = FitSingle(**arrays, prior=prior, loss_func=gaussian_loss, renderer=HybridRenderer).build_model()
chains = MCMC(NUTS(model), num_warmup=500, num_samples=500, num_chains=2, chain_method="parallel", progress_bar=False)
seconds = []
for seed in (0, 1):
    began = time.perf_counter()
    chains.run(jax.random.PRNGKey(seed))
    jax.block_until_ready(chains.get_samples())
    seconds.append(time.perf_counter() - began)
draws = {name: np.array(part) for name, part in chains.get_samples(group_by_chain=True).items()}
draws = {name: part for name, part in draws.items() if part.ndim == 2}
ess = min(float(arviz.ess(part)) for part in draws.values())
posterior = {
    ours: [float(draws[theirs].mean()), float(draws[theirs].std())]
    for ours, theirs in (("flux", "flux"), ("sersic", "n"))
}
print(json.dumps({"first_s": seconds[0], "second_s": seconds[1], "ess": ess, "posterior": posterior}))
"""


def problem() -> dict[str, np.ndarray]:
    """Image, errors and PSF image."""
    psf = galsim.Gaussian(sigma=1.5)
    galaxy = galsim.Sersic(n=TRUTH["sersic"], half_light_radius=TRUTH["rhalf"], flux=TRUTH["flux"])
    galaxy = galaxy.shear(q=TRUTH["q"], beta=0.7 * galsim.radians)
    image = galsim.Convolve(galaxy, psf).drawImage(nx=SIDE, ny=SIDE, scale=1).array
    of_psf = psf.drawImage(nx=43, ny=43, scale=1).array
    noise = np.random.default_rng(0).normal(0, NOISE, image.shape)
    return {"data": image + noise, "rms": np.full(image.shape, NOISE), "psf": of_psf / of_psf.sum()}


def of_fphojax(arrays: dict[str, np.ndarray], method: fp.NUTS) -> dict:
    """Figures of one method."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cunit = ("RA---TAN", "DEC--TAN"), ("deg", "deg")
    wcs.wcs.crval, wcs.wcs.cdelt = (150, 2), (-1 / 3600, 1 / 3600)
    wcs.wcs.crpix = ((SIDE + 1) / 2, (SIDE + 1) / 2)
    exposure = fp.Exposure.from_arrays(arrays["data"], arrays["rms"], wcs, band="r", name="galaxy")
    psfs = fp.PSFStore()
    psfs.add(fp.PSFMixture.from_fit(fp.fit_psf(arrays["psf"])), "r")
    guess = fp.SourceCatalog.from_columns(
        ra=[150], dec=[2], flux=[[900]], q=[0.8], pa=[0], sersic=[1.5], rhalf=[6], roi=[55], bands=["r"]
    )
    bounds = fp.default_bounds(guess, pixscale=1.0, rhalf_range=(0.5, 30), sersic_range=(0.65, 8))
    seconds, fits = [], []
    for seed in (0, 1):
        began = time.perf_counter()
        fits.append(fp.fit_scene([exposure], psfs, guess, method, bounds=bounds, seed=seed))
        seconds.append(time.perf_counter() - began)
    found = fits[1].result
    draws = {name: part.to_numpy().reshape(*part.shape[:2], -1)[..., 0] for name, part in found.draws.items()}
    weights = found.posterior["sample_stats"].get("effective_size")
    ess = min(float(arviz.ess(np.ascontiguousarray(part))) for part in draws.values())
    if weights is not None:  # draws from weighted points are no more than these
        ess = min(ess, float(weights[0, 0]))
    posterior = {name: [float(draws[name].mean()), float(draws[name].std())] for name in ("flux", "sersic")}
    return {"first_s": seconds[0], "second_s": seconds[1], "ess": ess, "posterior": posterior}


def of_pysersic(arrays: dict[str, np.ndarray], python: str) -> dict:
    """Figures of pysersic in its environment."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problem.npz"
        np.savez(path, **{name: array.astype("f4") for name, array in arrays.items()})
        done = subprocess.run(
            [python, "-c", PYSERSIC, str(path)], check=True, stdout=subprocess.PIPE, text=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pysersic", metavar="PYTHON", help="Python of an environment with pysersic")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    arrays = problem()
    figures = {f"fphojax, {name}": of_fphojax(arrays, method) for name, method in METHODS.items()}
    if arguments.pysersic:
        figures["pysersic"] = of_pysersic(arrays, arguments.pysersic)
    for row in figures.values():
        row["ess_per_second"] = row["ess"] / row["second_s"]
    if arguments.json:
        print(json.dumps(figures, indent=1))
        return
    table = Table("", "first fit [s]", "second [s]", "effective draws", "per second", "flux", "Sersic index")
    for name, row in figures.items():
        values = (f"{mean:.4g} +- {sd:.2g}" for mean, sd in row["posterior"].values())
        times = f"{row['first_s']:.1f}", f"{row['second_s']:.2f}"
        table.add_row(name, *times, f"{row['ess']:.0f}", f"{row['ess_per_second']:.1f}", *values)
    Console(width=110).print(table)
    print(f"truth: flux {TRUTH['flux']:.0f}, Sersic index {TRUTH['sersic']:.0f}", file=sys.stderr)


if __name__ == "__main__":
    main()
