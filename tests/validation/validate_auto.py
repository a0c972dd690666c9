"""Is importance sampling right where it says so? Against long chains of NUTS, on scenes of two kinds.

    python tests/validation/validate_auto.py [--scenes 60] [--minutes M] [--folder FOLDER]

The scenes are those of ``tests/test_reference.py`` with a posterior of forcepho's, where these are at hand, and the
first of `validate_calibration.py`. Each leaves the chains and a small table in a folder; a rerun does those that are
missing. The table of all scenes, auto.ecsv, is written beside this file; the summary is printed.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "benchmarks"), str(Path(__file__).parent)]

import bench_sampler  # noqa: E402
import numpy as np  # noqa: E402
import validate_calibration as calibration  # noqa: E402
from arviz_stats.base import array_stats  # noqa: E402
from astropy.table import Table, vstack  # noqa: E402

from fphojax import Importance, sample  # noqa: E402
from fphojax.system.files import replacing  # noqa: E402

HERE = Path(__file__).parent
CHAINS, DRAWS, WARMUP = 4, 600, 300
KNOWN_ANGLE = 0.5  # radian, standard deviation of a position angle up to which it has a mean
NEAR, ALIKE = 0.1, 0.05  # wanted: means within so many standard deviations, these within such a share
BRIGHT = 10.0  # S/N


def problem(name: str, folder: Path):
    """Model and start of a case, and how it was made."""
    if not name.isdigit():
        _, model, start = bench_sampler.problem(name)
        return model, start, "reference"
    scene, psfs = calibration.draw_scene(int(name)), calibration.psfs_of(folder)
    patcher = calibration._patcher(calibration.observed(scene, psfs), psfs, scene)
    model, start = patcher.prepare_model(active=scene.catalog, bounds=scene.bounds, tolerance=0)
    return model, start, scene.simulator


def chains_of(name: str, model, start, folder: Path) -> dict[str, np.ndarray]:
    """Draws of NUTS (chain, draw, ...), and ``calls``; kept in a file."""
    path = folder / f"{name}_nuts.npz"
    if not path.is_file():
        seed = int(name) if name.isdigit() else 0
        options = {"warmup": WARMUP, "chains": CHAINS, "draws": DRAWS, "seed": seed, "progress": False}
        found = sample(model, start, **options)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, calls=found.n_calls, **found.values)
    return dict(np.load(path))


def compared(name: str, folder: Path) -> Table:
    """One row for every parameter of a case."""
    model, start, simulator = problem(name, folder)
    theirs = chains_of(name, model, start, folder)
    began = time.monotonic()
    (ours,) = Importance(draws=DRAWS, chains=CHAINS).fit([model], [start], seeds=[0])
    told = {
        key: ours.statistics[key][0, 0] for key in ("trusted", "pareto_k", "effective_size", "efficiency")
    }
    rows = []
    for parameter, values in ours.values.items():
        for at in np.ndindex(values.shape[2:]):
            pair = [draws[(slice(None), slice(None), *at)] for draws in (values, theirs[parameter])]
            if parameter == "pa":
                pair = _unwrapped(*pair)
                if pair[1].std() > KNOWN_ANGLE:
                    continue
            sizes = told["effective_size"], None
            (mean, sd, error, sd_error), (mean_n, sd_n, error_n, sd_error_n) = map(_moments, pair, sizes)
            numbers = {
                "shift": (mean - mean_n) / sd_n,
                "shift_error": np.hypot(error, error_n) / sd_n,
                "ratio": np.log(sd / sd_n),
                "ratio_error": np.hypot(sd_error, sd_error_n),
                "snr": mean_n / sd_n if parameter == "flux" else np.nan,
            }
            rows.append(
                {"parameter": parameter, "place": str(at)} | {k: float(v) for k, v in numbers.items()}
            )
    table = Table(rows)
    n_source, n_band = start["flux"].shape
    snr = np.nanmax(table["snr"])
    about = {"case": name, "simulator": simulator, "n_source": n_source, "n_band": n_band, "snr": snr}
    counts = {"evaluations": ours.n_calls, "nuts_calls": int(theirs["calls"])}
    for key, value in (about | told | counts | {"fluxes": ours.fluxes}).items():
        table[key] = value
    print(f"{name}: {about}, {told}, {counts}, {time.monotonic() - began:.1f} s", flush=True)
    return table


def _unwrapped(*angles):
    """Position angles of two sets of draws, within half a turn of the mean of the second."""
    mean = np.angle(np.exp(2j * angles[-1]).mean()) / 2
    return [mean + np.mod(each - mean + np.pi / 2, np.pi) - np.pi / 2 for each in angles]


def _moments(draws, size):
    """Mean and standard deviation, and the errors of the mean and of the logarithm of the latter."""
    squares = (draws - draws.mean()) ** 2

    def effective(values):
        return float(array_stats.ess(values, chain_axis=0, draw_axis=1)) if size is None else size

    error = draws.std() / np.sqrt(effective(draws))
    sd_error = squares.std() / np.sqrt(effective(squares)) / (2 * squares.mean())
    return draws.mean(), draws.std(), error, sd_error


def by_case(rows: Table) -> Table:
    """One row for every case."""
    kept = ("case", "simulator", "n_source", "n_band", "snr", "fluxes", "trusted", "pareto_k")
    kept += ("effective_size", "efficiency", "evaluations", "nuts_calls")
    lines = []
    for group in rows.group_by("case").groups:
        scores = {name: np.abs(group[name] / group[f"{name}_error"]) for name in ("shift", "ratio")}
        largest = {name: np.abs(group[name]).max() for name in ("shift", "ratio")}
        lines.append(
            {name: group[name][0] for name in kept}
            | {f"largest_{name}": value for name, value in largest.items()}
            | {f"{name}_in_errors": np.sqrt((value**2).mean()) for name, value in scores.items()}
        )
    table = Table(lines)
    for name in table.colnames:
        if table[name].dtype.kind == "f":
            table[name] = [float(f"{value:.3g}") for value in table[name]]
    return table


def summary(rows: Table) -> Table:
    """Shares of accepted cases, and how far their means and standard deviations are off."""
    single, bright = rows["n_source"] == 1, rows["snr"] > BRIGHT
    reference = rows["simulator"] == "reference"
    kinds = {
        "reference": reference,
        "isolated": single & ~reference,
        f"isolated, S/N > {BRIGHT:g}": single & bright & ~reference,
        "blends of four": rows["n_source"] == 4,
    }
    lines = []
    for kind, chosen in kinds.items():
        mine = rows[chosen]
        cases = len(set(mine["case"]))
        if not cases:
            continue
        good = mine[np.asarray(mine["trusted"], bool)]
        line = {"kind": kind, "cases": cases, "accepted": len(set(good["case"]))}
        for name, limit in (("shift", NEAR), ("ratio", ALIKE)) if len(good) else ():
            off, error = np.asarray(good[name]), np.asarray(good[f"{name}_error"])
            by_chance = np.random.default_rng(0).normal(size=(100, len(off))) * error
            line |= {
                f"{name} within {limit:g}": (np.abs(off) < limit).mean(),
                f"{name}, by chance": (np.abs(by_chance) < limit).mean(),
                f"{name}, mean": off.mean(),
                f"{name}, rms in errors": np.sqrt(((off / error) ** 2).mean()),
            }
        lines.append(line)
    table = Table(lines)
    for name in table.colnames[3:]:
        table[name].format = ".3f"
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--minutes", type=float, default=np.inf, help="begin no scene after so many")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "auto")
    arguments = parser.parse_args()
    until = time.monotonic() + 60 * arguments.minutes
    arguments.folder.mkdir(parents=True, exist_ok=True)
    cases = [name for name in bench_sampler.CASES if (bench_sampler.FOLDER / name).is_dir()]
    for name in [*cases, *map(str, range(arguments.scenes))]:
        path = arguments.folder / f"{name}.ecsv"
        if not path.is_file() and time.monotonic() < until:
            with replacing(path) as temporary:
                compared(name, arguments.folder).write(temporary, format="ascii.ecsv")
    rows = vstack([Table.read(path) for path in sorted(arguments.folder.glob("*.ecsv"))])
    rows["case"] = rows["case"].astype(str)
    with replacing(HERE / "auto.ecsv") as temporary:
        by_case(rows).write(temporary, format="ascii.ecsv")
    summary(rows).pprint(max_lines=-1, max_width=-1)


if __name__ == "__main__":
    main()
