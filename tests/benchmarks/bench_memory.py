"""Peak memory of a patch against its number of exposures: 30 sources, 9 bands, exposures of 128 x 128 pixels.

python tests/benchmarks/bench_memory.py --json
"""

import argparse
import json
import resource
import subprocess
import sys

SIZES = (15, 30, 60)  # exposures


def peak(n_exposure):
    """Peak memory of building a patch and evaluating its likelihood with gradient, in a fresh process [GB].

    What importing takes is subtracted.
    """
    output = subprocess.run(
        [sys.executable, __file__, "--one", str(n_exposure)], check=True, capture_output=True, text=True
    ).stdout
    return json.loads(output)


def one(n_exposure):
    """Build and evaluate one patch; print its memory, and the pixels, as JSON."""
    import jax
    from bench_kernel import mock_model, value_and_gradient

    def used():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6

    jax.numpy.ones(1).block_until_ready()
    before = used()
    bands = {f"B{i}": (128, 0.031) for i in range(9)}
    per_band = [n_exposure // 9 + (i < n_exposure % 9) for i in range(9)]
    _, model, values, _ = mock_model(bands=bands, n_exposure=per_band, n_source=30)
    jax.block_until_ready(value_and_gradient(values, model))
    pixels = int((model.patch.ierr > 0).sum())
    print(json.dumps({"pixels": pixels, "gb": used() - before}))


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--one", type=int, help="measure one size in this process")
    options = parser.parse_args()
    if options.one:
        one(options.one)
        return
    figures = {n: peak(n) for n in SIZES}
    print(
        json.dumps(figures) if options.json else "\n".join(f"{n} exposures: {f}" for n, f in figures.items())
    )


if __name__ == "__main__":
    main()
