"""Simulation-based calibration: are the truths where the posteriors say, for each sampler and forced photometry?

    python tests/validation/validate_calibration.py [--scenes 504] [--jobs 2] [--minutes M] [--folder FOLDER]
    python tests/validation/validate_calibration.py --methods auto --name calibration_auto --folder ANOTHER

Scenes are drawn from the prior, observed and fitted: single galaxies and blends of four, in one to four bands, half
of them rendered with the package's mixtures, half with GalSim's exact profiles and PSFs that are images. The fits
know the same prior and, of these PSFs, mixtures fitted to the images. Each scene leaves a small table in a folder; a
rerun does those that are missing. What all tables say is written beside this file: calibration.ecsv (coverage and
ranks), calibration_bias.ecsv, and two figures.
"""

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(Path(__file__).parent)]

import jax  # noqa: E402
import numpy as np  # noqa: E402
import test_truth as exact  # noqa: E402
from arviz_stats.base import array_stats  # noqa: E402
from astropy.table import Table, unique, vstack  # noqa: E402
from astropy.wcs import WCS  # noqa: E402
from numpyro.distributions import Uniform  # noqa: E402
from resumable import do_missing  # noqa: E402
from scipy.special import ndtr  # noqa: E402

from fphojax import (  # noqa: E402
    Bounds,
    CircularRegion,
    Exposure,
    Patcher,
    PSFMixture,
    PSFStore,
    SourceCatalog,
    fit_psf,
)
from fphojax.inference.linear_fit import flux_precision, forced_fluxes  # noqa: E402
from fphojax.inference.methods import NUTS, Auto, Laplace  # noqa: E402
from fphojax.inference.weights import TRUSTED  # noqa: E402
from fphojax.inputs.astrometry import local_affine, sky_position  # noqa: E402
from fphojax.inputs.bounds import PARAMETERS  # noqa: E402
from fphojax.inputs.projection import rendered  # noqa: E402
from fphojax.mixtures.sersic import load_sersic_table  # noqa: E402
from fphojax.simulate.mock_exposures import ExposureSpec  # noqa: E402
from fphojax.simulate.ranks import axial_rank, covered, holm, rank, uniformity  # noqa: E402
from fphojax.system.files import replacing  # noqa: E402

galsim = exact.galsim

SEED = 20
RA, DEC = 53.16, -27.79
SIDE, SCALE, NOISE = 32, 0.05, 1.0  # pixels, arcsec per pixel, nJy per pixel
BANDS = ("F1", "F2", "F3", "F4")
FWHM = (2.2, 2.5, 2.8, 3.1)  # of the Moffat profiles behind the PSFs, pixels
TURN = 23.0  # degrees from the exposure of a band to the next
OVERSAMPLE = 2  # of the PSF images

# The prior: uniform in these boxes. Those of fluxes end at twice a value that is drawn for each source.
SHAPES = {
    "q": (0.2, 1.0),
    "pa": (-90.0, 90.0),
    "sersic": (0.6, 5.5),
    "rhalf": (0.5 * SCALE, 6 * SCALE),
}
SHIFT = 1.5 * SCALE  # of positions to either side
SNR = (5.0, 300.0)  # of that flux, about
BLEND_RADIUS, APART = 7.0, 4.5  # pixels in which blends lie; at this distance boxes of positions do not touch
START = {"q": 0.7, "pa": 0.0, "sersic": 2.0, "rhalf": 2 * SCALE}

LENGTH = {"chains": 2, "draws": 250}
METHODS = {
    "nuts": NUTS(warmup=200, **LENGTH),
    "laplace": Laplace(**LENGTH),
    "auto": Auto(warmup=200, **LENGTH),
}
CHAINS = ("nuts", "auto")  # those that can be judged, in the order in which S/N and size are taken from them

LEVELS = (0.50, 0.68, 0.95)
BRIGHT = 10.0  # S/N from which coverage is judged
ALLOWED = {"mixtures": 0.02, "exact": 0.03}  # of coverage, off its level
JUDGED = ("flux", "x", "y", "position", "rhalf")
LEAST_P = 0.01
EDGES = {"snr": (0, 10, 30, 100, np.inf), "size": (0, 1.5, 2.5, 3.5, np.inf)}
LARGEST = 1.0  # mean pull shown
FARTHEST = 10.0  # pull counted; none of chains is as far
HERE = Path(__file__).parent


class Kind(NamedTuple):
    """What scenes with programs in common have in common."""

    n_source: int
    n_band: int


# a third of single galaxies: three sources in the mean
KINDS = tuple(Kind(n_source, n_band) for n_source in (1, 4, 4) for n_band in (1, 2, 3, 4))


class Scene(NamedTuple):
    """A truth, and all that the fit may know beforehand."""

    number: int
    simulator: str  # "mixtures" or "exact"
    catalog: SourceCatalog  # middles of the boxes of positions; where fits start
    bounds: Bounds
    truth: SourceCatalog
    values: dict[str, np.ndarray]  # the truth in the numbers of the model


def draw_scene(number: int) -> Scene:
    """A scene drawn from the prior."""
    kind = KINDS[number % len(KINDS)]
    rng = np.random.default_rng([SEED, number])
    centre = SCALE * (rng.uniform(-0.5, 0.5, (1, 2)) if kind.n_source == 1 else _blend(kind.n_source, rng))
    snr = np.exp(rng.uniform(*np.log(SNR), kind.n_source))
    area = (
        4
        * np.pi
        * ((np.array(FWHM[: kind.n_band]) / 2.35) ** 2 + (np.mean(SHAPES["rhalf"]) / SCALE / 1.18) ** 2)
    )
    flux = snr[:, None] * 2 ** rng.uniform(-1, 1, (kind.n_source, kind.n_band)) * NOISE * np.sqrt(area)
    ra, dec = sky_position(*centre.T, RA, DEC)
    bands = BANDS[: kind.n_band]
    catalog = SourceCatalog.from_columns(
        ra=ra, dec=dec, flux=flux, bands=bands, id=1 + np.arange(len(ra)), **START
    )
    boxes = {"flux": (np.zeros_like(flux), 2 * flux), "x": (-SHIFT, SHIFT), "y": (-SHIFT, SHIFT), **SHAPES}
    shape = {name: flux.shape if name == "flux" else ra.shape for name in PARAMETERS}
    bounds = Bounds(
        *({name: np.broadcast_to(boxes[name][i], shape[name]) + 0.0 for name in PARAMETERS} for i in (0, 1)),
        bands,
    )
    values = {name: rng.uniform(bounds.lower[name], bounds.upper[name]) for name in PARAMETERS}
    values["x"] += centre[:, 0]
    values["y"] += centre[:, 1]
    ra, dec = sky_position(values["x"], values["y"], RA, DEC)
    own = {name: values[name] for name in ("flux", *SHAPES)}
    truth = catalog.replace(ra=ra, dec=dec, **own)
    values["pa"] = np.deg2rad(values["pa"])  # as the model has it
    simulator = ("mixtures", "exact")[number // len(KINDS) % 2]
    return Scene(number, simulator, catalog, bounds, truth, values)


def _blend(n_source, rng):
    """Positions (n_source, 2) in a circle, none too near to another, pixels."""
    while True:
        found = rng.uniform(-BLEND_RADIUS, BLEND_RADIUS, (n_source, 2))
        apart = np.hypot(*(found[:, None] - found).transpose(2, 0, 1)) + 2 * BLEND_RADIUS * np.eye(n_source)
        if (np.hypot(*found.T) < BLEND_RADIUS).all() and apart.min() > APART:
            return found


# --------------------------------------------------------------------------------------------------------
# Observation


@cache
def psf_image(band: str) -> galsim.Image:
    """The PSF: an image, the response of the pixel included."""
    profile = galsim.Moffat(beta=3.5, fwhm=FWHM[BANDS.index(band)]).shear(g1=0.05, g2=-0.03)
    side = 2 * OVERSAMPLE * SIDE // 2 + 1
    image = galsim.ImageD(side, side, scale=1 / OVERSAMPLE)
    galsim.Convolve(profile, galsim.Pixel(1.0)).drawImage(image, method="no_pixel")
    return image / image.array.sum()


def psfs_of(folder: Path) -> PSFStore:
    """Mixtures fitted to the PSF images, kept in a file."""
    path = folder / "psfs.h5"
    if not path.is_file():
        store = PSFStore()
        for band in BANDS:
            fit = fit_psf(psf_image(band).array, n_gauss=4, oversample=OVERSAMPLE, includes_pixel=True)
            print(f"PSF of {band}: relative L2 {fit.verdict.relative_l2:.1e}", flush=True)
            store.add(PSFMixture.from_fit(fit), band)
        store.write(path, overwrite=True)
    return PSFStore.open(path)


def observed(scene: Scene, psfs: PSFStore) -> list[Exposure]:
    """One exposure in every band."""
    bands = scene.truth.bands
    empty = [_exposure(band, index, psfs, np.zeros((SIDE, SIDE))) for index, band in enumerate(bands)]
    if scene.simulator == "mixtures":
        frame = _patcher(empty, psfs, scene).frame
        tiles = rendered(scene.truth, frame, psfs, load_sersic_table())
        images = {e.band: frame.image(i, tiles) for i, e in enumerate(frame.exposures)}
    else:
        images = {e.band: _exact_image(scene.truth, e.band, e.wcs) for e in empty}
    rng = np.random.default_rng([SEED, scene.number, 1])
    noise = rng.normal(scale=NOISE, size=(len(bands), SIDE, SIDE))
    return [_exposure(band, index, psfs, images[band] + noise[index]) for index, band in enumerate(bands)]


def _exposure(band, index, psfs, image):
    spec = ExposureSpec(band, band, image.shape, SCALE, TURN * index, RA, DEC, psfs.lookup(band), NOISE)
    return Exposure.from_arrays(
        image, np.full(image.shape, NOISE), WCS(spec.header()), band=band, name=band, header=spec.header()
    )


def _exact_image(truth, band, wcs):
    affine = local_affine(wcs, truth.ra, truth.dec, dec0=DEC)
    psf = galsim.InterpolatedImage(psf_image(band), flux=1.0, gsparams=exact.GALSIM)
    image = np.zeros((SIDE, SIDE))
    for s in range(len(truth)):
        shape = truth.sersic[s], truth.rhalf[s], truth.q[s], np.deg2rad(truth.pa[s])
        profile = exact.galsim_profile(*map(float, shape), np.linalg.inv(affine.jacobian[s]))
        seen = galsim.Convolve(profile, psf, gsparams=exact.GALSIM)
        flux = truth.flux[s, truth.bands.index(band)]
        image += flux * exact.exact_image(profile, seen, affine.pixel[s], image.shape)
    return image


def _patcher(exposures, psfs, scene):
    patcher = Patcher(exposures, psfs)
    patcher.build_patch(CircularRegion(RA, DEC, SIDE * SCALE), allbands=scene.truth.bands)
    return patcher


# --------------------------------------------------------------------------------------------------------
# Fits


def fitted(scene: Scene, psfs: PSFStore, methods: Sequence[str]) -> Table:
    """One row for every method, source, parameter and band."""
    patcher = _patcher(observed(scene, psfs), psfs, scene)
    model, start = patcher.prepare_model(active=scene.catalog, bounds=scene.bounds)
    rows = []
    found = {name: METHODS[name].fit([model], [start], seeds=[scene.number])[0] for name in methods}
    for method, chains in found.items():
        rows += _rows_of_draws(scene, method, chains.values)
    rows += _rows_of_forced(scene, model)
    judged = next(found[name] for name in CHAINS if name in found)
    drawn = judged.values
    snr = (drawn["flux"].mean((0, 1)) / drawn["flux"].std((0, 1))).max(axis=1)
    size = drawn["rhalf"].mean((0, 1)) / SCALE
    table = Table(rows)
    table["snr"], table["size"] = snr[table["source"]], size[table["source"]]
    table["k_hat"] = np.nan
    for method, chains in found.items():
        if "pareto_k" in chains.statistics:
            table["k_hat"][table["method"] == method] = float(chains.statistics["pareto_k"][0, 0])
    table["rhat"] = _largest_rhat(drawn)
    table["n_source"], table["n_band"] = drawn["flux"].shape[2:]
    table["scene"], table["simulator"] = scene.number, scene.simulator
    table.meta["diverging"] = int(judged.statistics["diverging"].sum())
    table.meta |= {name: getattr(judged, name) for name in ("method", "fluxes", "n_warmup", "n_calls")}
    table.meta["converged"] = judged.optimum.converged
    return table


def _rows_of_draws(scene, method, values):
    rows = []
    for name, truth in scene.values.items():
        draws = values[name].reshape(-1, *truth.shape)
        ranks = (axial_rank if name == "pa" else rank)(draws, truth)
        if name == "pa":
            mean = np.angle(np.exp(2j * draws).mean(axis=0)) / 2
            draws = mean + np.mod(draws - mean + np.pi / 2, np.pi) - np.pi / 2
            truth = mean + np.mod(truth - mean + np.pi / 2, np.pi) - np.pi / 2
        mean, sd = draws.mean(axis=0), draws.std(axis=0)
        rows += [
            _row(method, name, at, truth[at], mean[at], sd[at], ranks[at]) for at in np.ndindex(truth.shape)
        ]
    return rows


def _rows_of_forced(scene, model):
    """Fluxes at the true positions and shapes, without a prior, and their errors as a catalogue has them."""
    truth = scene.values["flux"]
    far = 1e3 * scene.bounds.upper["flux"]
    free = dataclasses.replace(model, priors=model.priors | {"flux": Uniform(-far, far)})
    found = forced_fluxes(free, scene.values)
    precision = flux_precision(free, found)
    sd = np.sqrt(np.stack([np.diag(np.linalg.inv(matrix)) for matrix in precision], axis=1))
    mean = found.values["flux"]
    ranks = ndtr((truth - mean) / sd)
    return [
        _row("forced", "flux", at, truth[at], mean[at], sd[at], ranks[at]) for at in np.ndindex(truth.shape)
    ]


def _row(method, name, at, truth, mean, sd, rank):
    band = at[1] if name == "flux" else -1
    numbers = {"truth": truth, "mean": mean, "sd": sd, "rank": rank}
    return {"method": method, "parameter": name, "source": at[0], "band": band} | {
        key: float(value) for key, value in numbers.items()
    }


def _largest_rhat(values):
    """Over all parameters; of a position angle that of its double's cosine and sine."""
    turns = {"cos": np.cos(2 * values["pa"]), "sin": np.sin(2 * values["pa"])}
    plain = {name: values[name] for name in PARAMETERS if name != "pa"}
    return max(
        float(np.nanmax(array_stats.rhat(v, chain_axis=0, draw_axis=1))) for v in (plain | turns).values()
    )


@cache
def compilations() -> dict[str, float]:
    """Number of programs that this process compiled from now on, and the seconds that tracing and compiling took."""
    counted = {"programs": 0, "seconds": 0.0}

    def hear(event, duration, **_):
        counted["programs"] += event == "/jax/core/compile/backend_compile_duration"
        if event.startswith("/jax/core/compile/"):
            counted["seconds"] += duration

    jax.monitoring.register_event_duration_secs_listener(hear)
    return counted


def run_scene(number: int, folder: Path, methods: Sequence[str]) -> str:
    """Fit a scene and keep its rows; what to say of it."""
    before = dict(compilations())
    began, cpu = time.perf_counter(), time.process_time()
    scene = draw_scene(number)
    table = fitted(scene, psfs_of(folder), methods)
    table.meta["wall_s"] = round(time.perf_counter() - began, 2)
    table.meta["cpu_s"] = round(time.process_time() - cpu, 2)
    table.meta["programs"] = compilations()["programs"] - before["programs"]
    table.meta["compile_s"] = round(compilations()["seconds"] - before["seconds"], 2)
    with replacing(_path(folder, number)) as temporary:
        table.write(temporary, format="ascii.ecsv")
    about = f"scene {number} {scene.simulator} {KINDS[number % len(KINDS)]}"
    return f"{about}: r_hat {table['rhat'][0]:.3f}, {table.meta}"


def _path(folder, number):
    return folder / f"scene_{number:05d}.ecsv"


def run(n_scene: int, folder: Path, methods: Sequence[str], jobs: int, until: float) -> None:
    """Do the scenes that are missing; none is begun after a time (of `time.monotonic`)."""
    missing = [number for number in range(n_scene) if not _path(folder, number).is_file()]
    do_missing(partial(run_scene, folder=folder, methods=methods), missing, jobs=jobs, until=until)


# --------------------------------------------------------------------------------------------------------
# What they say


def collected(folder: Path) -> Table:
    """Rows of all scenes; Laplace's once more where its k_hat says that it can be trusted."""
    tables = [Table.read(path) for path in sorted(folder.glob("scene_*.ecsv"))]
    rows = vstack(tables, metadata_conflicts="silent")
    trusted = rows[(rows["method"] == "laplace") & (rows["k_hat"] < TRUSTED)]
    if len(trusted):
        trusted.replace_column("method", [f"laplace, k<{TRUSTED:g}"] * len(trusted))
        rows = vstack([rows, trusted])
    # where Laplace's weights are of one draw alone, sd is nothing: such must not rule a mean
    with np.errstate(divide="ignore"):
        pull = (rows["mean"] - rows["truth"]) / rows["sd"]
    rows["pull"] = np.clip(pull, -FARTHEST, FARTHEST)
    return rows


def coverage_table(rows: Table) -> Table:
    """Coverage, ranks and bias by simulator, method, parameter and S/N; "position" is x and y together.

    Fluxes of one source in several bands have much in common through its shape: for the test of ranks one band of
    each is taken.
    """
    positions = rows[(rows["parameter"] == "x") | (rows["parameter"] == "y")]
    positions.replace_column("parameter", ["position"] * len(positions))
    rows, found = vstack([rows, positions]), []
    for sample_, chosen in (("all", rows), (f"S/N > {BRIGHT:g}", rows[rows["snr"] > BRIGHT])):
        for key, group in _groups(chosen, ("simulator", "method", "parameter")):
            row = {"sample": sample_, **key, "n": len(group)}
            for level in LEVELS:
                row[f"c{100 * level:.0f}"], row[f"e{100 * level:.0f}"] = covered(group["rank"], level)
            row["pull"] = np.mean(group["pull"])
            row["pull_error"] = np.std(group["pull"]) / np.sqrt(len(group))
            once = (group["band"] < 0) | (
                group["band"] == (group["scene"] + group["source"]) % group["n_band"]
            )
            row["p"] = uniformity(group["rank"][once]) if once.any() else np.nan
            found.append(row)
    table = Table(found)
    table["p_holm"] = 1.0
    for name in np.unique(table["sample"]):
        mine = (table["sample"] == name) & np.isfinite(table["p"])
        table["p_holm"][mine] = holm(table["p"][mine])
    return table


def bias_table(rows: Table) -> Table:
    """Pulls, relative errors and coverage in bins of S/N and of size, both those of the fit."""
    found = []
    for quantity, edges in EDGES.items():
        for low, high in pairwise(edges):
            inside = rows[(rows[quantity] >= low) & (rows[quantity] < high)]
            for key, group in _groups(inside, ("simulator", "method", "parameter")):
                row = {"quantity": quantity, "low": float(low), "high": float(high), **key, "n": len(group)}
                row |= {
                    "pull": np.mean(group["pull"]),
                    "pull_error": np.std(group["pull"]) / np.sqrt(len(group)),
                }
                row |= {"pull_sd": np.std(group["pull"]), "bias": np.mean(group["mean"] - group["truth"])}
                row["c68"], row["e68"] = covered(group["rank"], 0.68)
                found.append(row)
    return Table(found)


def _groups(rows, names):
    """Rows with the same values of some columns."""
    grouped = rows.group_by(list(names))
    for key, group in zip(grouped.groups.keys, grouped.groups, strict=True):
        yield dict(zip(names, key, strict=True)), group


def faults(table: Table) -> list[str]:
    """Where coverage or ranks are off by more than is allowed, and by more than chance; not for Laplace."""
    found = []
    for row in table:
        if row["sample"] == "all" or row["method"] not in (*CHAINS, "forced"):
            continue
        name = f"{row['simulator']}, {row['method']}, {row['parameter']}"
        if row["p_holm"] < LEAST_P:
            found.append(f"{name}: ranks are not uniform, p = {row['p_holm']:.1e}")
        for level in (68, 95):
            off, error = row[f"c{level}"] - level / 100, row[f"e{level}"]
            if row["parameter"] in JUDGED and abs(off) > max(ALLOWED[row["simulator"]], 3 * error):
                found.append(f"{name}: {row[f'c{level}']:.3f} of the truths in the intervals of {level} %")
    return found


def rank_figure(rows: Table):
    """Rank histograms: a row of panels for each simulator and method."""
    from matplotlib.figure import Figure
    from scipy.stats import binom

    keys = [(s, m) for s in ALLOWED for m in np.unique(rows["method"])]
    figure = Figure(figsize=(1.7 * len(PARAMETERS) + 0.8, 1.4 * len(keys) + 0.6), layout="constrained")
    axes = figure.subplots(len(keys), len(PARAMETERS), sharex=True, squeeze=False)
    for line, (simulator, method) in zip(axes, keys, strict=True):
        for axis, name in zip(line, PARAMETERS, strict=True):
            chosen = (
                (rows["simulator"] == simulator) & (rows["method"] == method) & (rows["parameter"] == name)
            )
            ranks = rows["rank"][chosen]
            axis.tick_params(labelsize="x-small")
            if not len(ranks):
                axis.set_visible(False)
                continue
            axis.hist(
                ranks, bins=10, range=(0, 1), color="C0" if simulator == "mixtures" else "C1", alpha=0.7
            )
            axis.axhspan(*binom.interval(0.95, len(ranks), 0.1), color="0.5", alpha=0.3)
            axis.set_title(name, fontsize="x-small")
        line[0].set_ylabel(f"{simulator}\n{method}", fontsize="x-small")
    figure.supxlabel("fraction of draws below the truth", fontsize="small")
    return figure


def bias_figure(bias: Table):
    """Mean pulls in bins of S/N and of size; those beyond `LARGEST`, of Laplace's angles, are left out."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.7 * len(PARAMETERS) + 0.8, 5.2), layout="constrained")
    axes = figure.subplots(2, len(PARAMETERS), sharey=True)
    for line, (quantity, edges) in zip(axes, EDGES.items(), strict=True):
        for axis, name in zip(line, PARAMETERS, strict=True):
            mine = bias[(bias["quantity"] == quantity) & (bias["parameter"] == name)]
            for key, group in _groups(mine, ("simulator", "method")):
                colour = f"C{sorted(set(bias['method'])).index(key['method'])}"
                place = np.searchsorted(edges, group["low"])
                marker = "o" if key["simulator"] == "mixtures" else "s"
                label = f"{key['method']} ({key['simulator']})"
                shift = 0.15 if marker == "s" else -0.15
                axis.errorbar(
                    place + shift,
                    group["pull"],
                    group["pull_error"],
                    fmt=marker,
                    ms=3,
                    color=colour,
                    label=label,
                )
            axis.axhline(0, color="0.5", lw=0.8)
            axis.set_xticks(range(len(edges) - 1), [f"> {edge:g}" for edge in edges[:-1]], fontsize="x-small")
            axis.set_xlim(-0.5, len(edges) - 1.5)
            axis.set_title(name, fontsize="small")
        line[0].set_ylabel("mean pull", fontsize="small")
        line[0].set_ylim(-LARGEST, LARGEST)
        line[3].set_xlabel({"snr": "S/N", "size": "size (pixels)"}[quantity], fontsize="small")
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, fontsize="x-small", loc="outside upper center", ncols=len(handles[0]) // 2)
    return figure


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=504)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=np.inf, help="begin no scene after so many")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "calibration")
    parser.add_argument("--methods", nargs="+", default=("nuts", "laplace"), choices=METHODS)
    parser.add_argument("--name", default="calibration", help="of the tables and figures")
    arguments = parser.parse_args()
    if not set(CHAINS) & set(arguments.methods):
        parser.error(f"--methods: expected one of {', '.join(CHAINS)}")
    until = time.monotonic() + 60 * arguments.minutes
    arguments.folder.mkdir(parents=True, exist_ok=True)
    psfs_of(arguments.folder)
    run(arguments.scenes, arguments.folder, arguments.methods, arguments.jobs, until)
    rows = collected(arguments.folder)
    table, bias = coverage_table(rows), bias_table(rows)
    table.meta = {"scenes": len(unique(rows, "scene")), "sources": len(unique(rows, ["scene", "source"]))}
    for kept in (table, bias):
        for name in kept.colnames:
            if kept[name].dtype.kind == "f":
                kept[name] = [float(f"{value:.4g}") for value in kept[name]]
    with replacing(HERE / f"{arguments.name}.ecsv") as temporary:
        table.write(temporary, format="ascii.ecsv")
    with replacing(HERE / f"{arguments.name}_bias.ecsv") as temporary:
        bias.write(temporary, format="ascii.ecsv")
    for name, figure in (("ranks", rank_figure(rows)), ("bias", bias_figure(bias))):
        with replacing(HERE / f"{arguments.name}_{name}.png") as temporary:
            figure.savefig(temporary, dpi=110)
    table.pprint(max_lines=-1, max_width=-1)
    print(table.meta)
    found = faults(table)
    print(*found, sep="\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
