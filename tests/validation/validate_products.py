"""The products of a run, read back and held against its inputs, its draws and each other.

    fphojax sample field.yml; fphojax postprocess runs/field; fphojax report runs/field
    python tests/validation/validate_products.py runs/field [more runs]

Images: data - model = residual bit by bit, chi = residual over the input's error, the WCS is that of the input file.
Catalogues: every column is documented and has its unit; what forcepho's layouts say is what the final catalogue says.
Regions: as many as sources, where these are. Report: one file that refers to no other.
"""

import argparse
import re
import sys
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from regions import Regions

from fphojax import RunDirectory, SourceCatalog
from fphojax.inputs.exposures import read_exposures
from fphojax.inputs.fits_frames import reading_options
from fphojax.results.fitted_patch import open_recipe
from fphojax.results.products.catalog_columns import COLUMNS
from fphojax.results.products.chain_catalog import read_chain_catalog

PARAMETERS = ("ra", "dec", "q", "pa", "sersic", "rhalf")


def check_images(run: RunDirectory):
    """Yields (what was checked, whether it holds, figure)."""
    exposures = {(e.band, e.name): e for e in open_recipe(run).exposures}
    config = run.read_config()
    inputs = {
        (e.band, e.name): path
        for path in config["fitsfiles"]
        for e in read_exposures([path], **reading_options(config))
    }
    paths = sorted((run.path / "images").glob("*.fits"))
    exact, chi_error, data_error, wcs_error, chi2 = [], 0.0, 0.0, 0.0, {}
    for path in paths:
        with fits.open(path) as hdus:
            key = hdus[0].header["FILTER"], hdus[0].header["EXPID"]
            exposure = exposures[key]
            data, model, residual, chi = (hdus[name].data for name in ("DATA", "MODEL", "RESIDUAL", "CHI"))
            pixels, ierr = exposure.window(0, exposure.shape[1], 0, exposure.shape[0])
            used = ierr > 0
            exact.append(np.array_equal(data - model, residual, equal_nan=True) and np.isfinite(model).all())
            exact[-1] &= np.array_equal(np.isfinite(residual), used)
            data_error = max(data_error, np.abs(data - pixels)[used].max())
            chi_error = max(chi_error, np.abs(chi - residual * ierr)[used].max())
            chi2[path.stem] = float(np.mean(chi[used] ** 2))
            with fits.open(inputs[key]) as original:
                header = next(h.header for h in original if h.header.get("CTYPE1") and h.header["NAXIS"] == 2)
                theirs = WCS(header, original)
                x, y = np.meshgrid(*(np.linspace(0, n - 1, 9) for n in data.shape[::-1]))
                for name in ("DATA", "MODEL", "RESIDUAL", "CHI"):
                    ours = WCS(hdus[name].header, hdus)
                    moved = np.subtract(ours.pixel_to_world_values(x, y), theirs.pixel_to_world_values(x, y))
                    wcs_error = max(wcs_error, 3600 * np.abs(moved).max())
    yield (
        "images: data - model = residual",
        all(exact) and len(exact) == len(exposures),
        f"{len(paths)} files",
    )
    yield "images: data are those of the fit", data_error == 0, f"{data_error:.1e} nJy"
    yield "images: chi = residual / error", chi_error < 1e-3, f"{chi_error:.1e}"
    yield "images: WCS of the input", wcs_error < 1e-6, f"{wcs_error:.1e} arcsec"
    yield "images: mean chi^2 (whole frames)", True, ", ".join(f"{k} {v:.2f}" for k, v in chi2.items())


def check_catalogs(run: RunDirectory):
    """As `check_images`."""
    folder = run.path / "catalogs"
    final = Table.read(folder / "final.fits")
    bands = str(final.meta["FILTERS"]).split(",")
    any_band = "|".join(map(re.escape, bands))
    parameter = "|".join((*PARAMETERS, any_band))
    known = [
        re.sub("BAND[23]?", f"({any_band})", c.name).replace("PARAMETER", f"({parameter})") for c in COLUMNS
    ]
    strange = [n for n in final.colnames if not any(re.fullmatch(f"{k}(_16|_84)?", n) for k in known)]
    yield "final: every column is documented", not strange, ", ".join(strange) or f"{len(final.colnames)}"
    bare = [n for n in ("ra", "dec", "pa", "rhalf", *bands, f"mag_{bands[0]}") if final[n].unit is None]
    yield "final: units", not bare, ", ".join(bare)
    low, high = (
        np.all([final[f"{p}_{e}"] * s <= final[p] * s for p in (*PARAMETERS, *bands)])
        for e, s in ((16, 1), (84, -1))
    )
    yield "final: 16th <= median <= 84th percentile", low and high, f"{len(final)} sources"
    frac = np.asarray(final["chi2"]) / np.maximum(final["n_pixel"], 1)
    yield (
        "final: chi2 of own pixels",
        bool((final["n_pixel"] > 0).all()),
        f"per pixel {np.round(np.percentile(frac, (0, 50, 100)), 2)}",
    )

    forcepho = SourceCatalog.read(folder / "forcepho.fits")
    own = SourceCatalog.read(folder / "final.fits")
    worst = max(
        np.max(np.abs(getattr(forcepho, n) - getattr(own, n)), initial=0) for n in (*PARAMETERS, "flux")
    )
    yield "forcepho.fits read back", forcepho.id.tolist() == own.id.tolist() and worst < 1e-12, f"{worst:.1e}"
    chains = read_chain_catalog(folder / "postsample.fits")
    same = chains["id"].tolist() == final["id"].tolist()
    worst = 0.0
    for name in (*PARAMETERS, *bands):
        median = np.nanmedian(chains[name], axis=1)
        scale = 1 if name in PARAMETERS else np.abs(np.asarray(final[name]))
        worst = max(
            worst,
            np.max(
                np.abs(median - final[name])[np.asarray(final["n_patch"]) == 1]
                / np.broadcast_to(scale, len(final))[np.asarray(final["n_patch"]) == 1],
                initial=0,
            ),
        )
    yield "postsample.fits read back: medians", same and worst < 1e-9, f"{worst:.1e}"


def check_regions(run: RunDirectory):
    """As `check_images`."""
    final = Table.read(run.path / "catalogs" / "final.fits")
    for path in sorted((run.path / "regions").glob("*.reg")):
        found = Regions.read(path, format="ds9")
        expected = {"sources": len(final), "patches": len(run.patches())}.get(path.stem)
        if expected is None:
            expected = int((final[f"r_iso_{path.stem.removeprefix('isophotes_')}"] > 0).sum())
        good = len(found) == expected
        if path.stem == "sources":
            moved = [abs(r.center.dec.deg - dec) for r, dec in zip(found, final["dec"], strict=True)]
            good &= max(moved) * 3600 < 1e-3
        yield f"regions: {path.name}", good, f"{len(found)} regions"


def check_report(run: RunDirectory):
    """As `check_images`."""
    text = (run.path / "report.html").read_text()
    outside = re.findall(r"(?:src|href)=['\"](?!data:|#)([^'\"]*)", text)
    yield (
        "report: one file",
        not outside,
        f"{len(re.findall('<img', text))} figures, {len(text) / 1e6:.1f} MB",
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    failed = 0
    for folder in parser.parse_args().runs:
        run = RunDirectory(folder)
        print(f"== {folder}")
        for check in (check_images, check_catalogs, check_regions, check_report):
            for what, good, figure in check(run):
                failed += not good
                print(f"{'ok  ' if good else 'FAIL'} {what}: {figure}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
