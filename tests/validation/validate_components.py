"""Composite sources: are totals, shares and components of bulge and disk where the errors say?

    python tests/validation/validate_components.py [-n 300] [--jobs 2] [--minutes M] [--folder FOLDER]

Galaxies of a de Vaucouleurs bulge and an exponential disk in three bands, drawn from the prior of the fit, are
rendered by GalSim's exact profiles through PSFs that are images, with white noise; half as many more have a point in
the centre of a Sersic profile.  Each is fitted as a composite source with `auto`, and by a single Sersic profile.
Both start from one row with the parameters of the whole, as users have it.  Each galaxy leaves a small table in a
folder; a rerun does those that are missing.  Coverage and bias are written to components.ecsv beside this file.
"""

import argparse
import os
import sys
import time
from functools import cache, partial
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(Path(__file__).parent)]

import numpy as np  # noqa: E402
import test_truth as exact  # noqa: E402
import validate_calibration as calibration  # noqa: E402
from astropy.table import Table, vstack  # noqa: E402
from astropy.wcs import WCS  # noqa: E402
from resumable import do_missing  # noqa: E402

import fphojax as fp  # noqa: E402
from fphojax.inputs.astrometry import sky_offsets  # noqa: E402
from fphojax.simulate.mock_exposures import ExposureSpec  # noqa: E402
from fphojax.simulate.ranks import covered, rank  # noqa: E402
from fphojax.system.files import replacing  # noqa: E402

HERE = Path(__file__).parent
SEED = 24
BANDS, SIDE = calibration.BANDS[:3], 48
SNR, SHARE = (20.0, 300.0), (0.1, 0.9)  # of the whole galaxy in a band, about; of the first component
BULGE = {"q": (0.6, 1.0), "rhalf": (0.6, 2.5)}  # radii in pixels
DISK = {"q": (0.3, 1.0), "rhalf": (2.0, 5.0)}
HOST = {"q": (0.3, 1.0), "rhalf": (1.5, 5.0), "sersic": (0.7, 4.0)}
KINDS = {"bulge_disk": ("bulge", "disk"), "point_sersic": ("point", "host")}
SHIFT = 1.0  # pixels, of the centre to either side
BRIGHT = 50.0
METHOD = fp.Auto(draws=250, chains=2, warmup=200)


def draw_galaxy(number: int) -> tuple[str, fp.SourceCatalog]:
    """Kind and components of a galaxy."""
    rng = np.random.default_rng([SEED, number])
    kind = "point_sersic" if number % 3 == 2 else "bulge_disk"
    snr = np.exp(rng.uniform(*np.log(SNR)))
    share = rng.uniform(*SHARE, len(BANDS))
    scale = calibration.SCALE
    shapes = [{"q": 1.0, "rhalf": 0.0, "sersic": 1.0}] if kind == "point_sersic" else []
    for box, sersic in ((BULGE, 4.0), (DISK, 1.0)) if kind == "bulge_disk" else ((HOST, None),):
        shape = {name: rng.uniform(*limits) for name, limits in box.items()}
        shapes.append({"sersic": sersic} | shape | {"rhalf": shape["rhalf"] * scale})
    area = (
        4 * np.pi * ((np.array(calibration.FWHM[:3]) / 2.35) ** 2 + (shapes[1]["rhalf"] / scale / 1.18) ** 2)
    )
    total = snr * calibration.NOISE * np.sqrt(area)
    centre = scale * rng.uniform(-SHIFT, SHIFT, 2)
    ra, dec = fp.inputs.astrometry.sky_position(*centre, calibration.RA, calibration.DEC)
    columns = {name: [shape[name] for shape in shapes] for name in ("q", "sersic", "rhalf")}
    truth = fp.SourceCatalog.from_columns(
        ra=np.full(2, ra),
        dec=np.full(2, dec),
        flux=np.stack([share * total, (1 - share) * total]),
        pa=rng.uniform(-90, 90, 2) * np.array([kind == "bulge_disk", 1]),
        roi=5 * shapes[1]["rhalf"],
        bands=BANDS,
        id=[f"1_{name}" for name in KINDS[kind]],
        **columns,
    )
    return kind, truth


def observed(number: int, truth: fp.SourceCatalog) -> list[fp.Exposure]:
    """One exposure in every band, of exact profiles."""
    rng = np.random.default_rng([SEED, number, 1])
    exposures = []
    for index, band in enumerate(BANDS):
        spec = ExposureSpec(
            band,
            band,
            (SIDE, SIDE),
            calibration.SCALE,
            calibration.TURN * index,
            calibration.RA,
            calibration.DEC,
            psfs().lookup(band),
            calibration.NOISE,
        )
        wcs = WCS(spec.header())
        image = _exact_image(truth, band, wcs) + rng.normal(scale=calibration.NOISE, size=(SIDE, SIDE))
        err = np.full(image.shape, calibration.NOISE)
        exposures.append(fp.Exposure.from_arrays(image, err, wcs, band=band, name=band, header=spec.header()))
    return exposures


def _exact_image(truth, band, wcs):
    galsim = exact.galsim
    affine = fp.inputs.astrometry.local_affine(wcs, truth.ra, truth.dec, dec0=calibration.DEC)
    psf = galsim.InterpolatedImage(calibration.psf_image(band), flux=1.0, gsparams=exact.GALSIM)
    image = np.zeros((SIDE, SIDE))
    for s in range(len(truth)):
        flux = truth.flux[s, truth.bands.index(band)]
        if truth.rhalf[s] == 0:
            stamp = galsim.ImageD(SIDE, SIDE, scale=1.0)
            offset = affine.pixel[s] - (SIDE - 1) / 2
            psf.drawImage(stamp, method="no_pixel", offset=tuple(offset))
            image += flux * stamp.array
            continue
        shape = truth.sersic[s], truth.rhalf[s], truth.q[s], np.deg2rad(truth.pa[s])
        profile = exact.galsim_profile(*map(float, shape), np.linalg.inv(affine.jacobian[s]))
        seen = galsim.Convolve(profile, psf, gsparams=exact.GALSIM)
        image += flux * exact.exact_image(profile, seen, affine.pixel[s], image.shape)
    return image


@cache
def psfs() -> fp.PSFStore:
    """Mixtures fitted to the PSF images; made once in a process."""
    return calibration.psfs_of(Path(os.environ["FPHOJAX_COMPONENTS"]))


def fitted(number: int) -> Table:
    """One row for every quantity of a galaxy."""
    kind, truth = draw_galaxy(number)
    exposures = observed(number, truth)
    total, first = truth.flux.sum(axis=0), truth.flux[0] / truth.flux.sum(axis=0)
    rng = np.random.default_rng([SEED, number, 2])
    whole = fp.SourceCatalog.from_columns(
        ra=truth.ra[:1],
        dec=truth.dec[:1],
        flux=total[None] * rng.uniform(0.8, 1.2),
        q=float(truth.q[1]),
        pa=float(truth.pa[1]),
        sersic=2.0,
        rhalf=float(truth.rhalf[1]),
        bands=BANDS,
        id=[1],
    )
    composite = whole.replace(extra=Table({"profile": [kind]}))
    began = time.perf_counter()
    fit = fp.fit_scene(exposures, psfs(), composite, METHOD, seed=number)
    seconds = time.perf_counter() - began
    single = fp.fit_scene(exposures, psfs(), whole, METHOD, seed=number)
    draws = {
        name: fit.result.draws[name].to_numpy() for name in ("flux", "ra", "dec", "q", "sersic", "rhalf")
    }
    flux = draws["flux"]  # (chain, draw, component, band)
    summed = flux.sum(axis=2)
    snr = float((summed.mean((0, 1)) / summed.std((0, 1))).max())
    rows = []

    def add(quantity, values, true):
        values = values.ravel()
        rows.append(
            {
                "quantity": quantity,
                "truth": float(true),
                "mean": float(values.mean()),
                "sd": float(values.std()),
                "rank": float(rank(values, np.array(true))),
            }
        )

    for b in range(len(BANDS)):
        add("total", summed[..., b], total[b])
        add("share", flux[..., 0, b] / summed[..., b], first[b])
        add("first flux", flux[..., 0, b], truth.flux[0, b])
        add("second flux", flux[..., 1, b], truth.flux[1, b])
        add("total, single Sersic", single.result.draws["flux"].to_numpy()[..., 0, b], total[b])
    offset = sky_offsets(draws["ra"][..., 0].ravel(), draws["dec"][..., 0].ravel(), truth.ra[0], truth.dec[0])
    for axis in (0, 1):
        add("position", offset[:, axis], 0.0)
    if kind == "bulge_disk":
        add("first size", draws["rhalf"][..., 0], truth.rhalf[0])
    else:
        add("host index", draws["sersic"][..., 1], truth.sersic[1])
    add("second size", draws["rhalf"][..., 1], truth.rhalf[1])
    table = Table(rows)
    table["kind"], table["number"], table["snr"] = kind, number, snr
    statistics = fit.result.posterior["sample_stats"]
    table.meta = {"method": fit.result.method, "seconds": round(seconds, 2)}
    table.meta["trusted"] = bool(np.asarray(statistics["trusted"]).all()) if "trusted" in statistics else True
    return table


def run_galaxy(number: int, folder: Path) -> str:
    """Fit a galaxy and keep its rows; what to say of it."""
    os.environ["FPHOJAX_COMPONENTS"] = str(folder)
    table = fitted(number)
    with replacing(_path(folder, number)) as temporary:
        table.write(temporary, format="ascii.ecsv")
    return f"galaxy {number} {table['kind'][0]}: S/N {table['snr'][0]:.0f}, {table.meta}"


def _path(folder, number):
    return folder / f"galaxy_{number:05d}.ecsv"


def summary(rows: Table) -> Table:
    """Coverage and bias by kind and quantity, of all galaxies and of bright ones."""
    found = []
    for sample, chosen in (("all", rows), (f"S/N > {BRIGHT:g}", rows[rows["snr"] > BRIGHT])):
        for key, group in calibration._groups(chosen, ("kind", "quantity")):
            row = {"sample": sample, **key, "n": len(group)}
            for level in (0.68, 0.95):
                row[f"c{100 * level:.0f}"], row[f"e{100 * level:.0f}"] = covered(group["rank"], level)
            pull = np.clip((group["mean"] - group["truth"]) / group["sd"], -20, 20)
            row |= {"pull": np.mean(pull), "pull_sd": np.std(pull)}
            if group["truth"].min() > 0:
                relative = group["mean"] / group["truth"] - 1
                row |= {
                    "bias": np.median(relative),
                    "scatter": np.median(np.abs(relative - np.median(relative))),
                }
            else:
                row |= {"bias": np.nan, "scatter": np.nan}
            found.append(
                {k: float(f"{v:.4g}") if isinstance(v, float | np.floating) else v for k, v in row.items()}
            )
    return Table(found)


def main() -> int:
    """Run what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=450)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=np.inf, help="begin no galaxy after so many")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "components")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    os.environ["FPHOJAX_COMPONENTS"] = str(options.folder)
    psfs()
    missing = [number for number in range(options.n) if not _path(options.folder, number).is_file()]
    task = partial(run_galaxy, folder=options.folder)
    do_missing(task, missing, jobs=options.jobs, until=time.monotonic() + 60 * options.minutes)
    tables = [Table.read(path) for path in sorted(options.folder.glob("galaxy_*.ecsv"))]
    rows = vstack(tables, metadata_conflicts="silent")
    table = summary(rows)
    table.meta = {"galaxies": len(tables), "handed to NUTS": sum(t.meta["method"] == "nuts" for t in tables)}
    with replacing(HERE / "components.ecsv") as temporary:
        table.write(temporary, format="ascii.ecsv")
    table.pprint(max_lines=-1, max_width=-1)
    print(table.meta)
    return 0


if __name__ == "__main__":
    sys.exit(main())
