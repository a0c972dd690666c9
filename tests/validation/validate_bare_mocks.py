"""From images alone to fluxes: exact galaxies through real NIRCam PSFs, without a catalogue.

    python tests/validation/validate_bare_mocks.py [--seeds 0 1 2] [--keep FOLDER]

Each mock is a field in two bands, with pixels of 0.03" and 0.06" and white noise of 0.4 nJy a pixel: GalSim's exact
Sersic galaxies of n = 1, 2 and 4, half-light radii of 0.3" to 1" and signal-to-noise ratios of 50 to 3000 (optimal,
shape known, in the first band), two fainter neighbours each, through the oversampled PSFs of the shared data. The
mock "halo" is one galaxy of n = 4, half-light radius 0.7" and 30,000 nJy, and three fainter ones around it.

The settings are those of `fphojax init`, three lines of them edited, and the run goes as far as the second
optimisation. A flux is right if it is within 3 % of the truth or within 3 of its stated errors (`BAND_err` of the
final catalogue); a source is false if no true one is within 0.15". The table bare_mocks.ecsv beside this file has
every source. The script ends with status 1 where the flux of a source with a signal-to-noise ratio above 50 is wrong,
where one is missing, or where all mocks together have more false sources than the detection stages state, rounded up.
"""

import argparse
import json
import re
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
from fphojax.results.products.final_catalog import final_catalog
from fphojax.results.run_directory import RunDirectory
from fphojax.system.files import replacing

PSFS = Path(__file__).parents[3] / "shared" / "data" / "nircam_psf"
BANDS = {"F200W": 0.03, "F444W": 0.06}  # size of a pixel, arcsec
FINE = 0.015  # of the PSF images, arcsec
RA, DEC, NOISE = 150.0, 2.0, 0.4
BRIGHT, MATCH, PERCENT, ERRORS = 50, 0.15, 0.03, 3.0
STAGES = ("check", "psf", "catalog", "optimize", "background", "noise", "detect")
RESULT = Path(__file__).with_name("bare_mocks.ecsv")
EXACT = galsim.GSParams(maximum_fft_size=16384)
FORMATS = {
    name: text
    for text, names in {
        ".1f": (*("true", "flux"), "pull"),
        ".0f": ("snr", "n_true"),
        ".2f": ("error", "rhalf_true", "n"),
        ".3f": ("rhalf", "off"),
    }.items()
    for name in names
}


def psf_of(band):
    """The oversampled PSF of a band; it has no native pixels in it."""
    image = fits.getdata(PSFS / f"Pointings12_{band}_Module_A.fits").astype(float)
    return galsim.InterpolatedImage(galsim.Image(image / image.sum(), scale=FINE), normalization="flux")


def drawn(row, flux, psf, band, size, x=0.0, y=0.0):
    """Image of a galaxy x arcsec to the east and y to the north of the middle of a square; north up, east left."""
    galaxy = galsim.Sersic(n=row["n"], half_light_radius=row["rhalf"], flux=flux, gsparams=EXACT)
    galaxy = galaxy.shear(q=row["q"], beta=(90 + row["pa"]) * galsim.degrees)
    seen = galsim.Convolve(galaxy, psf, gsparams=EXACT).shift(-x, y)
    return seen.drawImage(nx=size, ny=size, scale=BANDS[band], method="auto").array


def field_of(seed):
    """Side of a field [arcsec], and its galaxies."""
    rng, psf = np.random.default_rng(seed), psf_of("F200W")
    rows = []
    for place, n in zip(rng.permutation([(-4.5, -4.0), (4.5, -3.5), (0.0, 4.5)]), (1, 2, 4), strict=True):
        x, y = place + rng.uniform(-0.5, 0.5, 2)
        shape = rng.uniform(0.3, 1.0), rng.uniform(0.4, 1.0), rng.uniform(0, 180)
        rows.append((x, y, n, *shape, np.exp(rng.uniform(np.log(50), np.log(3000)))))
        for _ in range(2):
            angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(2.0, 3.5)
            shape = rng.uniform(0.1, 0.4), rng.uniform(0.4, 1.0), rng.uniform(0, 180)
            near = x + distance * np.cos(angle), y + distance * np.sin(angle)
            rows.append((*near, rng.choice([1, 2, 4]), *shape, np.exp(rng.uniform(np.log(30), np.log(300)))))
    truth = Table(rows=rows, names=("x", "y", "n", "rhalf", "q", "pa", "snr"))
    truth["F200W"] = [row["snr"] / _snr_of_one(row, psf) for row in truth]
    truth["F444W"] = truth["F200W"] * rng.uniform(0.7, 2.0, len(truth))
    return 18.0, truth


def halo_field():
    """Side of the field [arcsec], and its galaxies."""
    rows = [
        (0.1, -0.1, 4, 0.7, 0.8, 30.0, 30_000.0, 30_000.0),
        (2.2, 1.0, 1, 0.25, 0.7, 80.0, 120.0, 150.0),
        (-1.5, 2.6, 2, 0.2, 0.9, 10.0, 80.0, 100.0),
        (-2.8, -2.2, 1, 0.3, 0.5, 140.0, 200.0, 160.0),
    ]
    truth, psf = Table(rows=rows, names=("x", "y", "n", "rhalf", "q", "pa", *BANDS)), psf_of("F200W")
    truth["snr"] = [row["F200W"] * _snr_of_one(row, psf) for row in truth]
    return 12.0, truth


def _snr_of_one(row, psf):
    """Signal-to-noise ratio of a galaxy of 1 nJy in the first band."""
    return float(np.sqrt((drawn(row, 1.0, psf, "F200W", 501) ** 2).sum()) / NOISE)


def write_mock(folder, side, truth, seed):
    """Two images with their PSFs, as survey pipelines write them."""
    rng = np.random.default_rng([seed, 1])
    folder.mkdir(parents=True)
    for band, scale in BANDS.items():
        psf, size = psf_of(band), round(side / scale)
        data = rng.normal(scale=NOISE, size=(size, size))
        for row in truth:
            data += drawn(row, row[band], psf, band, size, row["x"], row["y"])
        wcs = WCS(naxis=2)
        wcs.wcs.ctype, wcs.wcs.cunit = ["RA---TAN", "DEC--TAN"], ["deg", "deg"]
        wcs.wcs.cdelt, wcs.wcs.crval = [-scale / 3600, scale / 3600], [RA, DEC]
        wcs.wcs.crpix = [(size + 1) / 2] * 2
        header = wcs.to_header()
        header["FILTER"], header["BUNIT"] = band, "nJy"
        odd = 2 * int(1.9 / scale) + 1
        native = psf.drawImage(nx=odd, ny=odd, scale=scale, method="auto").array
        images = {"SCI": data, "ERR": np.full(data.shape, NOISE), "PSF": native / native.sum()}
        units = [fits.ImageHDU(image.astype("f4"), header, name) for name, image in images.items()]
        fits.HDUList([fits.PrimaryHDU(), *units]).writeto(folder / f"{band}.fits")


def run(folder):
    """Run as a first user does; seconds that it takes, and the expected number of false sources that it states."""
    command = [sys.executable, "-m", "fphojax"]
    subprocess.run([*command, "init", folder / "job", "--instrument", "nircam"], check=True)
    path = folder / "job" / "run.yml"
    edits = {"bandlist": f"[{', '.join(BANDS)}]", "fitsfiles": "../images/*.fits", "outbase": "../run"}
    keys = ((line.partition(":")[0], line) for line in path.read_text().splitlines())
    path.write_text("\n".join(f"{key}: {edits[key]}" if key in edits else line for key, line in keys) + "\n")
    stages = [word for stage in STAGES for word in ("--stages", stage)]
    start = time.perf_counter()
    subprocess.run([*command, "run", path, *stages, "--quiet"], check=True)
    seconds = time.perf_counter() - start
    steps = (folder / "run" / "notebooks" / "steps").glob("*.json")
    stated = re.findall(r"expected false detections <= ([\d.e-]+)\.", "".join(p.read_text() for p in steps))
    return seconds, sum(map(float, stated))


def judged(folder, truth, mock):
    """Each true source with what was found of it, then the false ones."""
    scene = SuperScene.resume(RunDirectory(folder / "run" / "optimize_2").scene_path)
    found = scene.catalog
    stated = final_catalog(RunDirectory(folder / "run" / "optimize_2"))  # in the order of the scene
    error = np.column_stack([stated[f"{band}_err"] for band in found.bands])
    x, y = (found.ra - RA) * 3600 * np.cos(np.deg2rad(DEC)), (found.dec - DEC) * 3600
    flags = dict.fromkeys(map(str, found.id), "")
    for entry in map(json.loads, scene.patchlog):
        flags |= {name: ", ".join(told) for name, told in entry.get("summary", {}).get("flags", {}).items()}
    rows, free = [], set(range(len(found)))
    for number, row in enumerate(truth):
        near = sorted(free, key=lambda k: np.hypot(x[k] - row["x"], y[k] - row["y"]))
        hit = near and np.hypot(x[near[0]] - row["x"], y[near[0]] - row["y"]) < MATCH
        k = near[0] if hit else None
        free -= {k}
        for b, band in enumerate(found.bands):
            fit = (found.flux[k, b], error[k, b], found.sersic[k], found.rhalf[k]) if hit else [np.nan] * 4
            known = mock, number, row["snr"], band, row["n"], row["rhalf"], row[band]
            rows.append((*known, *fit, flags[str(found.id[k])] if hit else "missed"))
    for k in sorted(free):
        for b, band in enumerate(found.bands):
            fit = found.flux[k, b], error[k, b], found.sersic[k], found.rhalf[k]
            told = f"{flags[str(found.id[k])]} at {x[k]:+.2f}, {y[k]:+.2f}"
            rows.append((mock, -1, 0.0, band, np.nan, np.nan, 0.0, *fit, told))
    known = ("mock", "source", "snr", "band", "n_true", "rhalf_true", "true")
    table = Table(rows=rows, names=(*known, "flux", "error", "n", "rhalf", "flags"))
    off, real = table["flux"] - table["true"], table["source"] >= 0
    table["off"] = np.where(real, off / np.where(real, table["true"], 1), np.nan)
    table["pull"] = off / table["error"]
    table["right"] = (np.abs(table["off"]) < PERCENT) | (np.abs(table["pull"]) < ERRORS)
    for name, text in FORMATS.items():
        table[name].info.format = text
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--keep", type=Path, help="folder for the images and runs")
    arguments = parser.parse_args()
    tables, seconds, stated = [], {}, 0.0
    with tempfile.TemporaryDirectory() as temporary:
        for seed in (None, *arguments.seeds):
            mock = "halo" if seed is None else f"seed {seed}"
            folder = (arguments.keep or Path(temporary)) / mock.replace(" ", "_")
            side, truth = halo_field() if seed is None else field_of(seed)
            write_mock(folder / "images", side, truth, seed or 0)
            seconds[mock], expected = run(folder)
            stated += expected
            tables.append(judged(folder, truth, mock))
            tables[-1].pprint_all()
            print(f"{mock}: {seconds[mock]:.0f} s", flush=True)
    table = vstack(tables)
    table.meta["seconds"] = {mock: round(value) for mock, value in seconds.items()}
    with replacing(RESULT) as path:
        table.write(path, format="ascii.ecsv")
    bright = table["snr"] > BRIGHT
    missing, wrong = bright & np.isnan(table["flux"]), bright & ~table["right"] & np.isfinite(table["flux"])
    n_false = np.count_nonzero(table["source"] < 0) // len(BANDS)
    print(
        f"{np.count_nonzero(wrong)} of {np.count_nonzero(bright)} fluxes wrong, {np.count_nonzero(missing)} missing; "
        f"{n_false} false sources, at most {stated:.2g} expected"
    )
    return int(wrong.any() or missing.any() or n_false > np.ceil(stated))


if __name__ == "__main__":
    sys.exit(main())
