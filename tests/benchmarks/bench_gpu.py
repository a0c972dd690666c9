"""What an accelerator is worth: tests against references, then kernel and samplers for batches of patches.

    python tests/benchmarks/bench_gpu.py [--batches 1 16 256] [--minutes 8] [--out gpu.ecsv]

It runs on the device that JAX finds, a CPU too, and says which; the reference tests come first, as a fast wrong
number is worth nothing. The kernel is that of `bench_kernel.py`: its patch, at as many points as the batch has. The
samplers get as many patches of one galaxy in two bands, alike but for their noise, in one call. No batch is begun
after the minutes, so that a machine that is lent for a while is given back in time; the table has what was measured.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from astropy.table import Table

sys.path.insert(0, str(Path(__file__).parent))
from bench_kernel import best_time, mock_model

from fphojax import CircularRegion, MockCamera, Patcher, default_bounds, mock_field, mock_galaxies
from fphojax.core.model import SceneModel
from fphojax.inference.methods import NUTS, Importance, Optimum

ROOT = Path(__file__).resolve().parents[2]
BANDS = ("g", "r")
SNR, SIDE = 50.0, 32  # of the galaxy, of its patches in pixels
DRAWS = {"draws": 100, "chains": 4}
METHODS = {
    "optimum": Optimum(barriers=True),
    "importance": Importance(**DRAWS),
    "nuts": NUTS(warmup=100, max_treedepth=7, **DRAWS),
}
SPREAD = 0.01  # relative, of the points at which the kernel is evaluated


def reference_tests() -> str:
    """The last line of the tests against references and truths, on this device."""
    tests = [str(ROOT / "tests" / name) for name in ("test_reference.py", "test_truth.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "not slow", *tests]
    # without this, tests run on the CPU
    environment = os.environ | {"JAX_PLATFORMS": jax.devices()[0].platform}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    return (done.stdout.strip() or done.stderr.strip()).splitlines()[-1]


@eqx.filter_jit
def values_and_gradients(points: dict[str, jax.Array], model: SceneModel) -> tuple:
    """Log-likelihood and its gradient at many points."""
    return jax.vmap(jax.value_and_grad(model.log_likelihood))(points)


def kernel(batch: int) -> dict:
    """Seconds for a patch of the kernel's benchmark."""
    _, model, values, _ = mock_model()
    rng = np.random.default_rng(0)
    points = {
        name: value * (1 + SPREAD * rng.uniform(-1, 1, (batch, *value.shape)))
        for name, value in values.items()
    }
    points = {name: jnp.minimum(point, 1.0) if name == "q" else point for name, point in points.items()}
    seconds = best_time(lambda: jax.block_until_ready(values_and_gradients(points, model)), 5)
    return {"seconds": seconds / batch, "effective_draws_per_s": np.nan}


def patches(number: int) -> tuple[list[SceneModel], list[dict]]:
    """Models and starts of patches that are alike but for their noise."""
    flux = dict.fromkeys(BANDS, 100.0)
    truth = mock_galaxies(x=[0.0], y=[0.0], flux=flux, q=0.6, pa=30.0, sersic=1.5, rhalf=0.1)
    width = SIDE * MockCamera(BANDS[0]).pixel_scale
    cameras = [MockCamera(band, width=width).with_snr(truth, SNR) for band in BANDS]
    models, starts = [], []
    for seed in range(number):
        field = mock_field(truth, cameras, seed=seed)
        patcher = Patcher(field.exposures, field.psfs)
        patcher.build_patch(CircularRegion(truth.ra[0], truth.dec[0], 60.0), allbands=BANDS)
        model, start = patcher.prepare_model(active=truth, bounds=default_bounds(truth))
        models.append(model)
        starts.append(start)
    return models, starts


def sampler(name: str, batch: int) -> dict:
    """Seconds for a patch, and effective draws in a second, of the second of two calls: the first one compiles."""
    models, starts = patches(batch)
    METHODS[name].fit(models, starts, seeds=range(batch))
    began = time.perf_counter()
    found = METHODS[name].fit(models, starts, seeds=range(batch, 2 * batch))
    seconds = time.perf_counter() - began
    effective = np.nan if name == "optimum" else sum(map(_effective, found)) / seconds
    return {"seconds": seconds / batch, "effective_draws_per_s": effective}


def _effective(chains):
    """Effective draws of the brightest band's flux, of weighted points at most their effective number."""
    import arviz

    flux = np.ascontiguousarray(chains.values["flux"][:, :, 0, 0])
    limit = chains.statistics.get("effective_size", np.array([[np.inf]]))[0, 0]
    return min(float(arviz.ess(flux)), limit)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", nargs="+", type=int, default=(1, 16, 256))
    parser.add_argument("--minutes", type=float, default=8.0, help="begin no measurement after so many")
    parser.add_argument("--out", type=Path, help="table to write (ECSV)")
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    device = jax.devices()[0]
    print(f"device: {device.device_kind} ({device.platform})", flush=True)
    tests = reference_tests()
    print(f"reference tests: {tests}", flush=True)
    rows = []
    for batch in options.batches:
        for name in ("kernel", *METHODS):
            if time.monotonic() > until:
                print(f"{name}, batch of {batch}: not begun, the time is over", flush=True)
                continue
            began = time.monotonic()
            found = kernel(batch) if name == "kernel" else sampler(name, batch)
            row = {"what": name, "batch": batch} | {key: float(f"{x:.4g}") for key, x in found.items()}
            row["measured_in_s"] = round(time.monotonic() - began, 1)
            print(row, flush=True)
            rows.append(row)
    if options.out is not None:
        about = {"device": device.device_kind, "platform": device.platform, "tests": tests}
        Table(rows, meta=about | {"jax": jax.__version__}).write(
            options.out, format="ascii.ecsv", overwrite=True
        )
    return int("failed" in tests or "error" in tests)


if __name__ == "__main__":
    sys.exit(main())
