"""Effective draws per second of both methods against forcepho's own, on the same data, prior and posterior.

    python tests/benchmarks/bench_sampler.py --json

The folders are those of ``tests/test_reference.py``; each holds the posterior that forcepho's sampler found, with its
effective sample sizes, time and likelihood calls on a machine with two cores.  A first run compiles; the second is
timed: the smallest effective sample size (bulk, ArviZ) of all parameters per second of warm-up and sampling; with
`auto`, which draws from weighted points, at most the effective number of these.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import arviz
import h5py
import numpy as np
from numpyro.distributions import DoublyTruncatedPowerLaw
from rich.console import Console
from rich.table import Table

from fphojax.core.culling import TOLERANCE
from fphojax.core.model import SceneModel
from fphojax.inference.methods import NUTS, Auto

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from test_reference import ARCSEC_PER_DEGREE, FOLDER, Case, their_box

CASES = ("single", "color_pair", "blend3")
METHODS = ("nuts", "auto")
OF_METHOD = {
    "calls per draw": "n_steps",
    "step size": "step_size",
    "pareto k": "pareto_k",
    "efficiency": "efficiency",
}


def problem(name: str) -> tuple[Case, SceneModel, dict]:
    """A case, and its posterior as forcepho has it: model and start."""
    case = Case(FOLDER / name)
    with h5py.File(case.folder / "posterior.h5") as posterior:
        bounds = their_box(posterior, case.catalog, case.region)
    # their prior is uniform in sqrt(b/a): in b/a a power law with exponent -1/2
    prior = DoublyTruncatedPowerLaw(-0.5, bounds.lower["q"], bounds.upper["q"])
    model, start = case.model(bounds, {"q": prior})
    return case, dataclasses.replace(model, tolerance=TOLERANCE), start


def bench(name: str, method: NUTS | Auto) -> dict:
    """Figures of one case."""
    case, model, start = problem(name)
    with h5py.File(case.folder / "posterior.h5") as posterior:
        theirs = {key: {part: group[part][:] for part in group} for key, group in posterior.items()}
        seconds = posterior.attrs["wall_s"]
    (first,), (found,) = (method.fit([model], [start], seeds=[seed]) for seed in (0, 1))
    ours = _in_their_terms(found.values, case)
    limit = found.statistics.get("effective_size", np.array([[np.inf]]))[0, 0]
    ess = {key: min(_smallest_ess(value), limit) for key, value in ours.items()}
    spent = found.warmup_time + found.sampling_time
    shift = {
        key: (value.mean(axis=(0, 1)) - theirs[key]["mean"]) / theirs[key]["sd"]
        for key, value in ours.items()
    }
    ratio = {key: value.std(axis=(0, 1)) / theirs[key]["sd"] for key, value in ours.items()}
    worst = min(ess, key=ess.get)
    forcepho = min(group["ess"].min() for group in theirs.values()) / seconds
    figures = {
        "ess_per_s": round(ess[worst] / spent, 2),
        "calls_per_ess": round(found.n_calls / ess[worst], 2),
        "warmup_share": round(found.warmup_time / spent, 3),
        "compile_s": round(first.wall_time - found.wall_time, 1),
        "forcepho_ess_per_s": round(forcepho, 3),
        "method": found.method,
        "times forcepho's": round(ess[worst] / spent / forcepho),
        "slowest parameter": worst,
        "ms per call": round(1e3 * spent / found.n_calls, 3),
        "divergences": int(found.statistics["diverging"].sum()),
        "fluxes": found.fluxes,
        "optimum s": round(found.wall_time - spent, 2),
        "largest shift [sd]": round(max(np.abs(value).max() for value in shift.values()), 3),
        "its error [sd]": round(
            max(
                float((1 / np.sqrt(group.get("ess_pooled", group["ess"]))).max()) for group in theirs.values()
            ),
            3,
        ),
        "largest change of sd": round(max(np.abs(value - 1).max() for value in ratio.values()), 3),
    }
    for figure, statistic in OF_METHOD.items():
        told = found.statistics.get(statistic)
        figures[figure] = "" if told is None else round(float(told.mean()), 2)
    return figures


def _in_their_terms(values, case):
    """Draws named and measured as in forcepho's files."""
    region = case.region
    cos_dec = np.cos(np.deg2rad(region.dec))
    return {band: values["flux"][..., i] for i, band in enumerate(case.catalog.bands)} | {
        "ra": region.ra + values["x"] / ARCSEC_PER_DEGREE / cos_dec,
        "dec": region.dec + values["y"] / ARCSEC_PER_DEGREE,
        "q": np.sqrt(values["q"]),
        "pa": np.pi / 2 - values["pa"],
        "sersic": values["sersic"],
        "rhalf": values["rhalf"],
    }


def _smallest_ess(draws):
    """Of the sources of one parameter, (chain, draw, source)."""
    return min(float(arviz.ess(np.ascontiguousarray(one))) for one in np.moveaxis(draws, -1, 0))


def main():
    """Print the figures as a table, or those of the goals as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--draws", type=int, default=1000, help="per chain")
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--warmup", type=int, default=300, help="the most, per chain")
    options = parser.parse_args()
    length = {"draws": options.draws, "chains": options.chains}
    of_chains = {"warmup": options.warmup, "max_treedepth": 9}
    methods = {"nuts": NUTS(**length, **of_chains), "auto": Auto(**length, **of_chains)}
    found = {
        (name, method): bench(name, methods[method]) for name in options.cases for method in options.methods
    }
    if options.json:
        shown = {name: {} for name in options.cases}
        for (name, method), figures in found.items():
            shown[name][method] = dict(list(figures.items())[:6])
        print(json.dumps(shown))
        return
    table = Table("figure", *map(" ".join, found))
    for figure in next(iter(found.values())):
        table.add_row(figure, *(str(figures[figure]) for figures in found.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
