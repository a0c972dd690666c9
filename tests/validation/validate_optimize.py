"""Optimisation of a whole mock field: speed, flux pulls, and whether all that failed is flagged.

    python tests/validation/validate_optimize.py [--sources 2000] [--seeds 0 1]

One band, one exposure, galaxies from the package's own profile mixtures (so that the profile table plays no part),
Gaussian noise. The peak list has wrong positions, fluxes and shapes. The stage is run as a user runs it, from files,
on one core; its processor time counts, compilation and writing of results included (with an empty folder as
``JAX_COMPILATION_CACHE_DIR``, else some programs are there already).

It writes optimize.ecsv beside this file, and ends with status 1 if the pulls of fluxes with a signal-to-noise ratio
above 10 are not those of a unit normal, or if one that is not flagged is off by more than 5 standard deviations. What
the speed should be, it only says.

Which sources are bright is told by the errors at the true shapes: those of the fit rise and fall with the fitted
flux, so that a cut on them would prefer sources that came out too faint.  That also takes pulls off centre: with
k = d sd / d flux their mean is -k/2 by the errors of the fit, and k/2 by those of the truth.  Half their sum is, to
second order, the pull in the coordinate in which the error is constant, the integral of d flux / sd: it tells whether
the fluxes themselves are biased.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NPROC", "1")

import numpy as np
import yaml
from astropy.table import Table
from astropy.wcs import WCS
from scipy.special import gammaln

from fphojax.app.settings.schema import Settings
from fphojax.app.stages.optimize import optimize
from fphojax.app.stages.postop import postop
from fphojax.inference.covariance import parameter_covariance, source_covariances
from fphojax.inference.optimum import optimize as optimize_model
from fphojax.inputs.astrometry import local_affine, sky_position
from fphojax.inputs.bounds import default_bounds
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.psf_store import PSFMixture
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.mixtures.sersic import load_sersic_table
from fphojax.results.fitted_patch import open_recipe
from fphojax.results.run_directory import RunDirectory
from fphojax.simulate.mock_exposures import ExposureSpec, write_exposure
from fphojax.system.files import replacing

BAND, RA, DEC, SCALE, NOISE = "F1", 150.0, 2.0, 0.1, 0.1
DENSITY = 0.04  # sources per square arcsec
PSF = PSFMixture([1.0], [[0.0, 0.0]], [[1.7, 1.7, 0.0]], includes_pixel=True)
# surface brightness, over the noise of a pixel, at which a source's circle of influence ends; what others shine into
# it from beyond theirs then moves fluxes by 0.02 of their errors on average, and 0.04 rms
FAINTEST = 0.05
MEAN, SD = 0.05, (0.9, 1.1)  # of the pulls; the mean of 2000 sources is known to 0.03
RESULT = Path(__file__).with_name("optimize.ecsv")
REACH = 8.0  # half-size of a stamp, in standard deviations of a source's widest Gaussians


def mock_field(size: int, seed: int) -> tuple[SourceCatalog, Exposure]:
    """Truth and image."""
    rng = np.random.default_rng(seed)
    side = np.sqrt(size / DENSITY)
    x, y = rng.uniform(-side / 2, side / 2, (2, size))
    ra, dec = sky_position(x, y, RA, DEC)
    rhalf = np.clip(rng.lognormal(np.log(0.18), 0.35, size), 0.08, 0.5)
    truth = SourceCatalog.from_columns(
        ra=ra,
        dec=dec,
        flux=10 ** rng.uniform(0.7, 2.3, size),
        q=rng.uniform(0.3, 0.95, size),
        pa=np.rad2deg(rng.uniform(0, np.pi, size)),
        sersic=rng.uniform(0.8, 4.0, size),
        rhalf=rhalf,
        bands=(BAND,),
    )
    n_pixel = int(side / SCALE) + 40
    spec = ExposureSpec(BAND, "mock", (n_pixel, n_pixel), SCALE, 0.0, RA, DEC, PSF, NOISE)
    wcs = WCS(spec.header())
    image = rng.normal(scale=NOISE, size=spec.shape) + _rendered(truth, wcs, spec.shape)
    half = 8
    psf_image = PSF.render((2 * half + 1, 2 * half + 1), (half, half))
    made = Exposure.from_arrays(
        image,
        np.full(spec.shape, NOISE),
        wcs,
        band=BAND,
        name="mock",
        psf_image=psf_image,
        header=spec.header(),
    )
    return truth, made


def _rendered(truth, wcs, shape):
    """Model image from the mixtures, source by source on stamps."""
    table, image = load_sersic_table(), np.zeros(shape)
    affine = local_affine(wcs, truth.ra, truth.dec, dec0=DEC)
    xx, yy, xy = PSF.covariances[0]
    for s in range(len(truth)):
        amplitudes, variances = (np.asarray(v) for v in table(truth.sersic[s], truth.rhalf[s]))
        sin, cos = np.sin(np.deg2rad(truth.pa[s])), np.cos(np.deg2rad(truth.pa[s]))
        axes = affine.jacobian[s] @ np.array([[sin, cos], [cos, -sin]]).T  # columns: major axis, minor axis
        form = axes @ np.diag([1 / truth.q[s], truth.q[s]]) @ axes.T
        # all but the widest Gaussians, which hold little light, end within the stamp
        half = int(REACH * np.sqrt(np.sort(variances)[-2] * form.max() + xx)) + 2
        cx, cy = affine.pixel[s]
        x = np.arange(max(int(cx) - half, 0), min(int(cx) + half, shape[1]))
        y = np.arange(max(int(cy) - half, 0), min(int(cy) + half, shape[0]))
        dx, dy = x[None] - cx, y[:, None] - cy
        for amplitude, variance in zip(amplitudes, variances, strict=True):
            (a, c), (_, b) = variance * form + [[xx, xy], [xy, yy]]
            det = a * b - c**2
            exponent = (b * dx**2 - 2 * c * dx * dy + a * dy**2) / det
            image[y[0] : y[-1] + 1, x[0] : x[-1] + 1] += (
                truth.flux[s, 0] * amplitude / (2 * np.pi * np.sqrt(det)) * np.exp(-exponent / 2)
            )
    return image


def peak_list(truth: SourceCatalog, seed: int) -> SourceCatalog:
    """What a detection would give: positions to 0.3 pixels, fluxes to 20 %, shapes unknown."""
    rng = np.random.default_rng([seed, 1])
    size = len(truth)
    dx, dy = rng.normal(scale=0.3 * SCALE, size=(2, size)).clip(-0.9 * SCALE, 0.9 * SCALE)
    ra, dec = sky_position(dx, dy, truth.ra, truth.dec)
    return truth.replace(
        ra=ra,
        dec=dec,
        flux=truth.flux * rng.lognormal(0, 0.2, truth.flux.shape),
        q=np.full(size, 0.8),
        pa=np.zeros(size),
        sersic=np.full(size, 1.5),
        rhalf=np.full(size, 0.18),
        roi=np.maximum(isophotal_radius(truth), 0.6),
    )


def isophotal_radius(truth: SourceCatalog) -> np.ndarray:
    """Where a source's surface brightness falls below a fraction of the noise, along its major axis, arcsec.

    Of the exact profile, I_e exp(-b ((r / r_h)^(1/n) - 1)) with b = 2 n - 1/3 (Ciotti & Bertin 1999). What lies
    beyond is nobody's: it adds to the fluxes of the neighbours.
    """
    n, flux = truth.sersic, truth.flux[:, 0]
    b = 2 * n - 1 / 3
    effective = flux / (2 * np.pi * n * truth.rhalf**2 * np.exp(b - 2 * n * np.log(b) + gammaln(2 * n)))
    fall = np.log(effective / (FAINTEST * NOISE / SCALE**2))
    return truth.rhalf / np.sqrt(truth.q) * np.maximum(1 + fall / b, 0) ** n


def validate(size: int, folder: Path, seed: int) -> list[dict]:
    """Run the stage, and judge it: a row for each range of S/N, the figures of the whole field in each."""
    truth, exposure = mock_field(size, seed)
    write_exposure(exposure, folder / "mock.fits")
    peak_list(truth, seed).write(folder / "peaks.ecsv")
    settings = {
        "bandlist": [BAND],
        "fitsfiles": "mock.fits",
        "raw_catalog": "peaks.ecsv",
        "n_gauss_psf": 1,
        "bounds_kwargs": {
            "sersic_range": [0.5, 6.0],
            "sqrtq_range": [0.4, 1.0],
            "rhalf_range": [0.02, 2.0],
            "n_pix": 2,
            "pixscale": SCALE,
        },
    }
    (folder / "field.yml").write_text(yaml.safe_dump(settings))
    settings = Settings.from_yaml(folder / "field.yml")
    began, cpu = time.perf_counter(), time.process_time()
    report = optimize(settings, progress=True)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(report.verdict)
    found = SourceCatalog.read(postop(settings).files["catalog"])
    flagged = set(report.tables["flagged"]["id"].tolist())
    good = np.array([str(i) not in flagged for i in found.id])
    true_err = errors_at_truth(settings, RunDirectory.open(report.files["run"]), truth)
    off = (found.flux - truth.flux)[:, 0]
    pull, true_pull = off / found.flux_err[:, 0], off / true_err
    snr = truth.flux[:, 0] / true_err
    bright = snr > 10
    figures = {
        "sources": size,
        "wall_s": round(seconds, 1),
        "cpu_s": round(cpu, 1),
        "sources_per_cpu_s": round(size / cpu, 2),
        "flagged": len(flagged),
        "beyond_5_sd": int(np.count_nonzero(bright & (np.abs(pull) > 5))),
        "beyond_5_sd_unflagged": int(np.count_nonzero(good & bright & (np.abs(pull) > 5))),
    }
    rows = []
    for low, high in ((10, np.inf), (10, 20), (20, 50), (50, np.inf)):
        of_these = (snr > low) & (snr <= high)
        for name, chosen in (("all", of_these), ("unflagged", of_these & good)):
            row = {"seed": seed, "snr_low": float(low), "snr_high": float(high), "chosen": name}
            row |= {"n": int(chosen.sum())} | _moments("pull", pull[chosen])
            row |= _moments("by_true_error", true_pull[chosen])
            rows.append(row | _moments("of_constant_error", (pull + true_pull)[chosen] / 2) | figures)
    return rows


def faults(row: dict) -> list[str]:
    """What is not as it should be, by the row of all bright sources."""
    found = []
    if abs(row["pull"]) > MEAN:
        found.append(f"seed {row['seed']}: mean pull {row['pull']}, expected at most {MEAN}")
    if not SD[0] < row["pull_sd"] < SD[1]:
        found.append(
            f"seed {row['seed']}: standard deviation of pulls {row['pull_sd']}, expected {SD[0]} to {SD[1]}"
        )
    if row["beyond_5_sd_unflagged"]:
        found.append(
            f"seed {row['seed']}: {row['beyond_5_sd_unflagged']} fluxes off by more than 5 sd and not flagged"
        )
    return found


def _moments(name, pulls):
    """Mean, its standard error, and standard deviation."""
    figures = {"": pulls.mean(), "_error": pulls.std() / np.sqrt(len(pulls)), "_sd": pulls.std()}
    return {name + suffix: round(float(value), 3) for suffix, value in figures.items()}


def errors_at_truth(settings: Settings, run: RunDirectory, truth: SourceCatalog) -> np.ndarray:
    """Flux errors (N,) of the patches as they were fitted, at the true positions and shapes."""
    recipe = open_recipe(run)
    row = {str(identifier): i for i, identifier in enumerate(truth.id)}
    errors = np.full(len(truth), np.nan)
    for number in run.patches():
        patch = run.read_patch(number)
        rows = np.array([row[str(identifier)] for identifier in patch.active.id])
        bounds = default_bounds(truth[rows], **settings.bounds_kwargs.model_dump(exclude_none=True))
        scene = recipe.scene(patch.region, active=truth[rows], bounds=bounds, listed=False)
        model = scene.model
        there = optimize_model(model, scene.start, max_steps=1, tolerance=settings.gtol)
        covariances = source_covariances(parameter_covariance(model, there), there.values)
        errors[rows] = np.sqrt(covariances[:, 0, 0])
    return errors


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sources", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    arguments = parser.parse_args()
    rows, found = [], []
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            of_seed = validate(arguments.sources, Path(folder), seed)
        rows, found = rows + of_seed, found + faults(of_seed[0])
        table = Table(rows)
        with replacing(RESULT) as temporary:
            table.write(temporary, format="ascii.ecsv")
    table.pprint_all()
    print(*found, sep="\n")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
