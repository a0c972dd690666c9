"""From images alone to fluxes: exact galaxies through real NIRCam PSFs, without a catalogue.

    python tests/validation/validate_bare_mocks.py [--seeds 0 1 2] [--halo] [--keep FOLDER]

Each mock is a field in two bands, 0.03" and 0.06" pixels, with white noise of 0.4 nJy a pixel: GalSim's exact Sersic
galaxies of n = 1, 2 and 4, half-light radii of 0.3" to 1" and signal-to-noise ratios of 50 to 3000 (optimal, in the
first band), two fainter neighbours each, convolved with the oversampled PSFs of the shared data. ``--halo`` makes
another: one galaxy of n = 4, half-light radius 0.7" and 30,000 nJy, with three fainter ones around it.

The settings are those of `fphojax init`, three lines of them edited, and the run goes as far as the second
optimisation. A flux is right if it is within 3 % of the truth or within 3 of its stated errors; a source is false if no
true one is within 0.15". The table bare_mocks.ecsv beside this file has every source; the script ends with status 1
where a flux is wrong, a galaxy of the three is missing, or there are more false sources than the stages state.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import galsim
import numpy as np
from astropy.io import fits
from astropy.table import Table, vstack
from astropy.wcs import WCS

from fphojax.field.superscene import SuperScene
from fphojax.inputs.files import replacing
from fphojax.outputs.run_directory import RunDirectory

PSFS = Path(__file__).parents[3] / "shared" / "data" / "nircam_psf"
BANDS = {"F200W": 0.03, "F444W": 0.06}  # arcsec
FINE, RA, DEC, NOISE = 0.015, 150.0, 2.0, 0.4  # pixels of the PSF images [arcsec]; noise [nJy]
MATCH, PERCENT, ERRORS = 0.15, 0.03, 3.0
STAGES = ("check", "psf", "catalog", "optimize", "background", "detect")
RESULT = Path(__file__).with_name("bare_mocks.ecsv")


def psf_of(band):
    """The oversampled PSF of a band, without the response of the native pixel."""
    image = fits.getdata(PSFS / f"Pointings12_{band}_Module_A.fits").astype(float)
    return galsim.InterpolatedImage(galsim.Image(image / image.sum(), scale=FINE), normalization="flux")


def galaxies_of(seed, psf):
    """Side of the field [arcsec], and a table of the truth: x, y [arcsec], n, rhalf, q, pa, flux of either band."""
    rng = np.random.default_rng(seed)
    rows = []
    for place, n in zip(rng.permutation([(-4.5, -4.0), (4.5, -3.5), (0.0, 4.5)]), (1, 2, 4), strict=True):
        x, y = place + rng.uniform(-0.5, 0.5, 2)
        rhalf, q, pa = rng.uniform(0.3, 1.0), rng.uniform(0.4, 1.0), rng.uniform(0, 180)
        wanted = np.exp(rng.uniform(np.log(50), np.log(3000)))
        rows.append([x, y, n, rhalf, q, pa, wanted])
        for _ in range(2):
            angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(2.0, 3.5)
            shape = rng.uniform(0.1, 0.4), rng.uniform(0.4, 1.0), rng.uniform(0, 180)
            fainter = np.exp(rng.uniform(np.log(30), np.log(300)))
            near = x + distance * np.cos(angle), y + distance * np.sin(angle)
            rows.append([*near, rng.choice([1, 2, 4]), *shape, fainter])
    table = Table(rows=rows, names=("x", "y", "n", "rhalf", "q", "pa", "snr"))
    table["main"] = np.arange(len(rows)) % 3 == 0
    unit = [np.sqrt((stamp(row, psf, BANDS["F200W"]).array ** 2).sum()) / NOISE for row in table]
    table["F200W"] = table["snr"] / unit
    table["F444W"] = table["F200W"] * rng.uniform(0.7, 2.0, len(rows))
    return 18.0, table


def halo_galaxies():
    """One bright galaxy of n = 4, and three fainter ones around it."""
    rows = [
        (0.1, -0.1, 4, 0.7, 0.8, 30.0, 30_000.0, 30_000.0, True),
        (2.2, 1.0, 1, 0.25, 0.7, 80.0, 120.0, 150.0, False),
        (-1.5, 2.6, 2, 0.2, 0.9, 10.0, 80.0, 100.0, False),
        (-2.8, -2.2, 1, 0.3, 0.5, 140.0, 200.0, 160.0, False),
    ]
    return 12.0, Table(rows=rows, names=("x", "y", "n", "rhalf", "q", "pa", *BANDS, "main"))


def stamp(row, psf, scale, image=None, wcs_centre=(0.0, 0.0)):
    """Draw a galaxy of unit flux (or into an image whose middle is the origin of x and y)."""
    # GalSim's x is to the west here: position angles are east of north
    galaxy = galsim.Sersic(n=row["n"], half_light_radius=row["rhalf"], trunc=0)
    galaxy = galaxy.shear(q=row["q"], beta=(90 - row["pa"]) * galsim.degrees)
    return galsim.Convolve(galaxy, psf).drawImage(nx=501, ny=501, scale=scale, method="auto")


def write_mock(folder, side, truth, seed):
    """Two images with their PSFs, as survey pipelines write them."""
    rng = np.random.default_rng([seed, 1])
    folder.mkdir(parents=True)
    params = galsim.GSParams(maximum_fft_size=16384)
    for band, scale in BANDS.items():
        psf, size = psf_of(band), round(side / scale)
        total = galsim.Image(size, size, scale=scale)
        for row in truth:
            galaxy = galsim.Sersic(
                n=row["n"], half_light_radius=row["rhalf"], flux=row[band], gsparams=params
            )
            # north is up and east to the left: x grows to the west
            galaxy = galaxy.shear(q=row["q"], beta=(90 + row["pa"]) * galsim.degrees)
            image = galsim.Convolve(galaxy, psf, gsparams=params).shift(-row["x"], row["y"])
            total += image.drawImage(galsim.Image(size, size, scale=scale), method="auto")
        header = fits.Header()
        header["FILTER"], header["BUNIT"] = band, "nJy"
        wcs = WCS(naxis=2)
        wcs.wcs.ctype, wcs.wcs.cunit = ["RA---TAN", "DEC--TAN"], ["deg", "deg"]
        wcs.wcs.cdelt, wcs.wcs.crval = [-scale / 3600, scale / 3600], [RA, DEC]
        wcs.wcs.crpix = [(size + 1) / 2] * 2
        header.update(wcs.to_header())
        half = int(1.9 / scale)
        native = psf.drawImage(nx=2 * half + 1, ny=2 * half + 1, scale=scale, method="auto").array
        data = total.array + rng.normal(scale=NOISE, size=total.array.shape)
        fits.HDUList(
            [
                fits.PrimaryHDU(),
                fits.ImageHDU(data.astype(np.float32), header, "SCI"),
                fits.ImageHDU(np.full(data.shape, NOISE, np.float32), header, "ERR"),
                fits.ImageHDU((native / native.sum()).astype(np.float32), name="PSF"),
            ]
        ).writeto(folder / f"{band}.fits")


def run(folder):
    """A first user's run; seconds that it takes."""
    command = [sys.executable, "-m", "fphojax"]
    subprocess.run([*command, "init", folder / "job", "--instrument", "nircam"], check=True)
    path = folder / "job" / "run.yml"
    lines = path.read_text().splitlines()
    edits = {"bandlist": f"[{', '.join(BANDS)}]", "fitsfiles": "../images/*.fits", "outbase": "../run"}
    lines = [f"{key}: {edits[key]}" if (key := line.partition(":")[0]) in edits else line for line in lines]
    path.write_text("\n".join(lines) + "\n")
    stages = [word for stage in STAGES for word in ("--stages", stage)]
    start = time.perf_counter()
    subprocess.run([*command, "run", path, *stages, "--quiet"], check=True)
    return time.perf_counter() - start


def judged(folder, truth, name):
    """Each true source with what was found of it, then the false ones."""
    last = RunDirectory(folder / "run" / "optimize_2")
    scene = SuperScene.resume(last.scene_path)
    found = scene.catalog
    _, covariances = scene.bounds_and_covs(np.arange(len(found)))
    error = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2)[:, : len(found.bands)])
    x = (found.ra - RA) * 3600 * np.cos(np.deg2rad(DEC))
    y = (found.dec - DEC) * 3600
    ends = [json.loads(line) for line in scene.patchlog]
    flags = {}
    for entry in ends:
        flags |= {str(found.id[row]): "" for row in entry["sources"]}
        flags |= {key: ", ".join(value) for key, value in entry.get("summary", {}).get("flags", {}).items()}
    rows, taken = [], set()
    for number, row in enumerate(truth):
        distance = np.hypot(x - row["x"], y - row["y"])
        k = int(distance.argmin())
        hit = distance[k] < MATCH and k not in taken
        taken |= {k} if hit else set()
        for b, band in enumerate(found.bands):
            flux, sigma = (found.flux[k, b], error[k, b]) if hit else (np.nan, np.nan)
            shape = (found.sersic[k], found.rhalf[k]) if hit else (np.nan, np.nan)
            told = flags.get(str(found.id[k]), "") if hit else "missed"
            rows.append(
                (
                    name,
                    number,
                    bool(row["main"]),
                    band,
                    row[band],
                    flux,
                    sigma,
                    row["n"],
                    row["rhalf"],
                    *shape,
                    told,
                )
            )
    for k in range(len(found)):
        if k not in taken:
            for b, band in enumerate(found.bands):
                told = f"{flags.get(str(found.id[k]), '')} ({x[k]:+.2f}, {y[k]:+.2f})"
                rows.append(
                    (
                        name,
                        -1,
                        False,
                        band,
                        0.0,
                        found.flux[k, b],
                        error[k, b],
                        np.nan,
                        np.nan,
                        found.sersic[k],
                        found.rhalf[k],
                        told,
                    )
                )
    names = (
        "mock",
        "source",
        "main",
        "band",
        "true",
        "flux",
        "error",
        "n_true",
        "rhalf_true",
        "n",
        "rhalf",
        "flags",
    )
    table = Table(rows=rows, names=names)
    off = table["flux"] - table["true"]
    table["off"] = np.where(table["source"] >= 0, off / np.where(table["true"] > 0, table["true"], 1), np.nan)
    table["pull"] = off / table["error"]
    table["right"] = (np.abs(table["off"]) < PERCENT) | (np.abs(table["pull"]) < ERRORS)
    table["snr_true"] = table["true"] / table["error"]
    for column, text in zip(
        table.colnames,
        ("", "", "", "", ".1f", ".1f", ".2f", ".0f", ".2f", ".2f", ".3f", "", ".3f", ".1f", "", ".0f"),
        strict=True,
    ):
        if text:
            table[column].info.format = text
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--halo", action="store_true")
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    tables, seconds = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        base = arguments.keep or Path(temporary)
        mocks = [("halo", None)] if arguments.halo else []
        mocks += [(f"seed {seed}", seed) for seed in arguments.seeds]
        for name, seed in mocks:
            folder = base / name.replace(" ", "_")
            side, truth = halo_galaxies() if seed is None else galaxies_of(seed, psf_of("F200W"))
            write_mock(folder / "images", side, truth, 0 if seed is None else seed)
            seconds[name] = run(folder)
            tables.append(judged(folder, truth, name))
            tables[-1].pprint_all()
            print(f"{name}: {seconds[name]:.0f} s")
    table = vstack(tables)
    table.meta["seconds"] = {name: round(value) for name, value in seconds.items()}
    with replacing(RESULT) as path:
        table.write(path, format="ascii.ecsv")
    wrong = (table["source"] >= 0) & ~table["right"] & np.isfinite(table["flux"])
    missing = table["main"] & ~np.isfinite(table["flux"])
    false = np.count_nonzero(table["source"] < 0) / len(BANDS)
    print(
        f"{np.count_nonzero(wrong)} wrong fluxes, {np.count_nonzero(missing)} missing, {false:.0f} false sources"
    )
    return int(wrong.any() or missing.any() or false > 0)


if __name__ == "__main__":
    sys.exit(main())
