"""A whole field as a user samples it: what compiling costs, and what drawing costs.

    python tests/benchmarks/bench_field.py --json [--sources 100] [--methods nuts auto]

The field is the mock of ``tests/validation/validate_optimize.py`` (seed 0, its first sources; one band, a PSF of one
Gaussian), the run that of ``fphojax sample`` at default settings, on one core, each in a process of its own: first
with an empty folder of compiled programs, then with that of the first run. That process then samples the field again,
with all programs in its memory: the seconds that its patches took to fit are ``draw_s``.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import yaml

FOLDER = "field"
TIMES = {
    "trace_s": "/jax/core/compile/jaxpr_trace_duration",
    "lower_s": "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "compile_s": "/jax/core/compile/backend_compile_duration",
}


def write_field(folder: Path, size: int, method: str) -> Path:
    """Write the images, the catalogue and the settings of the mock field; return the settings' path."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "validation"))
    from validate_optimize import BAND, SCALE, mock_field, peak_list

    from fphojax.simulate.mock_exposures import write_exposure

    whole = max(size, 2000)
    truth, exposure = mock_field(whole, 0)
    write_exposure(exposure, folder / "mock.fits")
    peak_list(truth, 0)[:size].write(folder / "peaks.ecsv")
    settings = {
        "bandlist": [BAND],
        "fitsfiles": "mock.fits",
        "raw_catalog": "peaks.ecsv",
        "n_gauss_psf": 1,
        "sampler": method,
        "bounds_kwargs": {
            "sersic_range": [0.5, 6.0],
            "sqrtq_range": [0.4, 1.0],
            "rhalf_range": [0.02, 2.0],
            "n_pix": 2,
            "pixscale": SCALE,
        },
    }
    (folder / f"{FOLDER}.yml").write_text(yaml.safe_dump(settings))
    return folder / f"{FOLDER}.yml"


def run_here(path: Path) -> dict:
    """Sample the field twice in this process, on one core, and return what the passes took."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import jax

    from fphojax.app.settings.schema import Settings
    from fphojax.app.stages.sample import sample
    from fphojax.results.run_directory import RunDirectory

    spent, programs = Counter(), Counter()

    def note(event, seconds, **about):
        spent[event] += seconds
        if event == TIMES["compile_s"]:
            programs[about.get("fun_name", "")] += 1

    jax.monitoring.register_event_duration_secs_listener(note)
    settings = Settings.from_yaml(path)
    before = _cpu()
    sample(settings, overwrite=True)
    figures = {"cpu_s": _cpu() - before} | {name: spent[event] for name, event in TIMES.items()}
    figures["programs"], figures["by_name"] = programs.total(), dict(programs.most_common())
    before = _cpu()
    report = sample(settings, overwrite=True)
    figures["again_cpu_s"] = _cpu() - before
    run = RunDirectory.open(report.files["sampled"])
    patches = [run.read_patch(number) for number in run.patches()]
    figures["draw_s"] = sum(patch.wall_time for patch in patches)
    figures["patches"] = len(patches)
    return {name: round(value, 2) if isinstance(value, float) else value for name, value in figures.items()}


def _cpu():
    return sum(resource.getrusage(resource.RUSAGE_SELF)[:2])


def bench(size: int, method: str) -> dict:
    """Return the figures of one method, with an empty and a full cache."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_field(Path(folder), size, method)
        environment = {
            **os.environ,
            "JAX_COMPILATION_CACHE_DIR": str(Path(folder) / "programs"),
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, __file__, "--here", str(path)]
        cold, warm = (
            json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)
            for _ in range(2)
        )
    hours = {"cold": cold["cpu_s"] / 3600, "warm": warm["cpu_s"] / 3600}
    return {
        "sources": size,
        "patches": cold.pop("patches"),
        "programs": cold["programs"],
        "cold": cold,
        "warm": {name: value for name, value in warm.items() if name != "patches"},
        "sources_per_core_hour": {name: round(size / each) for name, each in hours.items()},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sources", type=int, default=100)
    parser.add_argument("--methods", nargs="+", default=["nuts", "auto"])
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(run_here(arguments.here)))
        return
    results = {method: bench(arguments.sources, method) for method in arguments.methods}
    if arguments.json:
        print(json.dumps(results, indent=1))
        return
    for method, figures in results.items():
        print(f"{method}: {figures['sources']} sources in {figures['patches']} patches")
        for cache in ("cold", "warm"):
            part = {name: value for name, value in figures[cache].items() if name != "by_name"}
            print(f"  {cache}: {figures['sources_per_core_hour'][cache]} sources per core-hour,", part)


if __name__ == "__main__":
    main()
