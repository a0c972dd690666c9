"""Which profile: stars and galaxies told apart, and profiles recognised, on mock sources of known kind.

    python tests/validation/validate_choose.py [-n 400] [--jobs 2] [--minutes M] [--folder FOLDER]

Half of the sources are stars, the others galaxies with an exponential, a de Vaucouleurs or a free Sersic profile,
whose sizes are uniform in the range of the prior, up to four standard deviations of the PSF; signal-to-noise ratios
are 5 to 200.  Each is alone in images of two bands, and its profiles are compared as `fphojax choose` does. Each
leaves a small table in a folder; a rerun does those that are missing.  The tables are written to choose.ecsv.
"""

import argparse
import os
import sys
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from astropy.table import Table, vstack

import fphojax as fp
from fphojax.field.profile_choice import choose_profiles
from fphojax.system.files import replacing

sys.path.insert(0, str(Path(__file__).parent))
from resumable import do_missing

HERE = Path(__file__).parent
SEED, BANDS, SCALE = 31, ("g", "r"), 0.03
PSF_SIGMA = 0.91 * 0.07 / 2.3548  # arcsec, of the core of the mock camera's PSF
SIZES = 0.1 * SCALE, 4 * PSF_SIGMA  # of galaxies, and of the prior
SNR = 5.0, 200.0
GALAXIES = {"exponential": 1.0, "devaucouleurs": 4.0, "sersic": None}
CANDIDATES = ("point", "exponential", "devaucouleurs", "sersic")
STEPS = {"snr": (5, 10, 20, 50, 200), "size": (0, 0.5, 1, 2, 4)}


def compared(number: int) -> Table:
    """What was chosen for a source, and what it is."""
    rng = np.random.default_rng([SEED, number])
    kind = "point" if number % 2 else list(GALAXIES)[number // 2 % 3]
    index = 1.0 if kind == "point" else GALAXIES[kind] or rng.uniform(0.7, 5.0)
    size = 1e-4 if kind == "point" else rng.uniform(*SIZES)
    snr = float(np.exp(rng.uniform(*np.log(SNR))))
    shape = {"q": rng.uniform(0.3, 1.0), "pa": rng.uniform(-90, 90), "sersic": index, "rhalf": size}
    flux = {band: [100.0 * factor] for band, factor in zip(BANDS, rng.uniform(0.5, 1.0, 2), strict=True)}
    truth = fp.mock_galaxies(x=rng.uniform(-0.01, 0.01, 1), y=rng.uniform(-0.01, 0.01, 1), flux=flux, **shape)
    # the ratio is that of both bands together
    cameras = [fp.MockCamera(band, width=1.6).with_snr(truth, snr / np.sqrt(2)) for band in BANDS]
    field = fp.mock_field(truth, cameras, seed=number)
    start = truth.replace(
        flux=truth.flux * rng.uniform(0.8, 1.2),
        rhalf=np.array([0.05]),
        sersic=np.array([1.5]),
        q=np.array([0.7]),
        roi=np.array([0.7]),
    )
    limits = {"rhalf_range": SIZES, "sersic_range": (0.6, 6.0), "pixscale": SCALE}
    table = choose_profiles(
        fp.Recipe(field.exposures, field.psfs), start, profiles=CANDIDATES, bounds_kwargs=limits, seed=number
    )
    table["number"], table["kind"], table["snr"], table["size"] = number, kind, snr, size / PSF_SIGMA
    return table


def run_source(number: int, folder: Path) -> str:
    """Compare profiles of a source and keep the row; what to say of it."""
    table = compared(number)
    with replacing(_path(folder, number)) as temporary:
        table.write(temporary, format="ascii.ecsv")
    row = table[0]
    return (
        f"source {number}: {row['kind']} of {row['size']:.2f} sigma, S/N {row['snr']:.0f}: {row['profile']}"
    )


def _path(folder, number):
    return folder / f"source_{number:05d}.ecsv"


def star_or_galaxy(rows: Table) -> Table:
    """Share of stars and of galaxies, by size, that are taken for what they are (p_point above or below 1/2)."""
    found = []
    for low, high in pairwise(STEPS["snr"]):
        bright = rows[(rows["snr"] >= low) & (rows["snr"] < high)]
        stars = bright[bright["kind"] == "point"]
        row = {"snr": f"{low} to {high}", "stars": len(stars), "stars_right": _share(stars["p_point"] > 0.5)}
        for least, most in pairwise(STEPS["size"]):
            mine = bright[(bright["kind"] != "point") & (bright["size"] >= least) & (bright["size"] < most)]
            row |= {f"n_{least}_{most}": len(mine), f"right_{least}_{most}": _share(mine["p_point"] < 0.5)}
        found.append(
            {key: round(v, 3) if isinstance(v, float | np.floating) else v for key, v in row.items()}
        )
    return Table(found)


def _share(right):
    return np.mean(right) if len(right) else np.nan


def calibration(rows: Table) -> Table:
    """How many of the sources are stars, in bins of the probability that they are."""
    edges = (0, 0.05, 0.2, 0.5, 0.8, 0.95, 1.0001)
    found = []
    for low, high in pairwise(edges):
        mine = rows[(rows["p_point"] >= low) & (rows["p_point"] < high)]
        if len(mine):
            stars = np.mean(mine["kind"] == "point")
            error = np.sqrt((stars * len(mine) + 1) * ((1 - stars) * len(mine) + 1) / (len(mine) + 2) ** 3)
            values = {"p_point": np.mean(mine["p_point"]), "stars": stars, "error": error}
            found.append(
                {"from": low, "n": len(mine)} | {key: round(float(v), 3) for key, v in values.items()}
            )
    return Table(found)


def confusion(rows: Table) -> Table:
    """What was chosen (columns) for what (rows), of bright sources that are not tiny."""
    bright = rows[(rows["snr"] > 50) & ((rows["kind"] == "point") | (rows["size"] > 1))]
    return Table(
        [
            {"kind": kind, "n": int(np.sum(bright["kind"] == kind))}
            | {
                name: int(np.sum((bright["kind"] == kind) & (bright["profile"] == name)))
                for name in CANDIDATES
            }
            for kind in CANDIDATES
        ]
    )


def main() -> int:
    """Run what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=np.inf, help="begin no source after so many")
    parser.add_argument("--folder", type=Path, default=HERE.parents[1] / "runs" / "choose")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    missing = [number for number in range(options.n) if not _path(options.folder, number).is_file()]
    task = partial(run_source, folder=options.folder)
    do_missing(task, missing, jobs=options.jobs, until=time.monotonic() + 60 * options.minutes)
    tables = [Table.read(path) for path in sorted(options.folder.glob("source_*.ecsv"))]
    rows = vstack(tables, metadata_conflicts="silent")
    with replacing(HERE / "choose.ecsv") as temporary:
        rows.write(temporary, format="ascii.ecsv")
    for table in (star_or_galaxy(rows), calibration(rows), confusion(rows)):
        table.pprint(max_lines=-1, max_width=-1)
        print()
    sure = rows[(rows["snr"] > 20) & ((rows["kind"] == "point") | (rows["size"] > 0.5))]
    right = (sure["p_point"] > 0.5) == (sure["kind"] == "point")
    print(
        f"{len(rows)} sources; S/N > 20, larger than half a sigma: {100 * np.mean(right):.1f} % of {len(sure)} right"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
