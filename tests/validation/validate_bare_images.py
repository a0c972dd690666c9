"""Real images and nothing else: what is found, and whether its light is all there.

    python tests/validation/validate_bare_images.py [decals_coadd hsc_cosmos35 euclid_q1]

Each set is run as a user runs it: `fphojax init`, three lines of the settings edited (bands, images, folder of the
results), `fphojax run` up to the second optimisation, without a catalogue, with an empty cache of programs. Then

* sources are compared with the set's list of peaks (another author's detections, no truth);
* the light in an aperture of 1.5" around each source, of the image less its sky and less the model of all others, is
  compared with that of its own model;
* data, model and residual of the first and the last band are drawn.

Images are looked for in the folder that FPHOJAX_DATA names. bare_images.ecsv and bare_images_SET.png are written
beside this file; bare_images.md says what is to be seen. It ends with status 1 if the median ratio of a set is off by
more than 2 %, or a peak with a signal-to-noise ratio above 20 is missing whose aperture is within the image.
"""

import argparse
import io
import itertools
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from photutils.aperture import CircularAperture, aperture_photometry
from PIL import Image

from fphojax.app.settings.schema import Settings
from fphojax.inputs.astrometry import pixel_scale
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.fitted_patch import open_recipe
from fphojax.results.products.frame_model import FrameModel, model_image
from fphojax.results.run_directory import RunDirectory
from fphojax.system.files import replacing

# instrument of `fphojax init`, and bands; generic where it has none for the telescope
SETS = {
    "decals_coadd": ("decam", ("g", "r", "z")),
    "hsc_cosmos35": ("hsc", ("g", "r", "i", "z", "y")),
    "euclid_q1": ("generic", ("VIS", "NIR_Y", "NIR_J", "NIR_H")),
}
STAGES = ("check", "psf", "catalog", "optimize", "background", "detect")
DIAMETER = 1.5  # arcsec
BRIGHT = 10.0  # signal-to-noise ratio in the aperture, from which on ratios are looked at
LARGEST_OFFSET = 0.02  # of the median ratio
SURE = 20.0  # signal-to-noise ratio of peaks that have to be found
SNR_STEPS = (0, 10, 20, 50, np.inf)
HERE = Path(__file__).parent
DATA = Path(os.environ.get("FPHOJAX_DATA", HERE.parents[2] / "shared" / "data"))


@dataclass(frozen=True, eq=False)
class Fitted:
    """A run, and what is in its images."""

    catalog: SourceCatalog
    exposures: list
    images: list[np.ndarray]  # less their sky; NaN where bad
    errors: list[np.ndarray]
    models: list[np.ndarray]
    recipe: object
    seconds: dict[str, float]
    verdicts: dict[str, str]


def run(name: str, folder: Path) -> Path:
    """Run a set as a user does, unless it has been; the folder of the run."""
    results = folder / "field" / "run"
    if results.exists():
        return results
    folder.mkdir(parents=True)
    instrument, bands = SETS[name]
    fphojax = [sys.executable, "-m", "fphojax"]
    subprocess.run([*fphojax, "init", "field", "--instrument", instrument], cwd=folder, check=True)
    config = folder / "field" / "run.yml"
    edited = {
        "bandlist": list(bands),
        "fitsfiles": [str(DATA / name / f"{band}.fits") for band in bands],
        "outbase": "run",
    }
    lines = config.read_text().splitlines()
    lines = [
        f"{key}: {json.dumps(edited[key])}" if (key := line.partition(":")[0]) in edited else line
        for line in lines
    ]
    config.write_text("\n".join(lines) + "\n")
    options = [part for stage in STAGES for part in ("--stages", stage)]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder / "programs")}
    subprocess.run([*fphojax, "run", "field/run.yml", *options], cwd=folder, env=environment, check=True)
    return results


def fitted(folder: Path) -> Fitted:
    """What a run left."""
    steps = folder / "notebooks" / "steps"
    outcomes = {path.stem: json.loads(path.read_text()) for path in sorted(steps.glob("*.json"))}
    last = max(folder.glob("optimize_*"), key=lambda path: int(path.name.rpartition("_")[2]))
    settings = Settings.from_yaml(sorted(steps.glob("05_optimize_*.yml"))[-1])
    directory = RunDirectory.open(last)
    recipe = open_recipe(directory)
    whole = FrameModel.of_catalog(directory, recipe)
    images, errors = [], []
    for exposure in recipe.exposures:
        ny, nx = exposure.shape
        data, ierr = exposure.window(0, nx, 0, ny)
        images.append(np.where(ierr > 0, data, np.nan).astype(np.float64))
        errors.append(1 / np.where(ierr > 0, ierr, np.nan))
    return Fitted(
        directory.read_scene().select_bands(settings.bandlist),
        list(recipe.exposures),
        images,
        errors,
        [np.asarray(whole.image(exposure), dtype=np.float64) for exposure in recipe.exposures],
        recipe,
        {step: outcome["seconds"] for step, outcome in outcomes.items()},
        {step: outcome["verdict"] for step, outcome in outcomes.items()},
    )


def apertures(found: Fitted) -> Table:
    """Light in the aperture around each source in each band: of the image less all others, and of its model."""
    rows = []
    for exposure, image, error, model in zip(
        found.exposures, found.images, found.errors, found.models, strict=True
    ):
        radius = DIAMETER / 2 / pixel_scale(exposure.wcs, exposure.shape)
        x, y = exposure.wcs.world_to_pixel_values(found.catalog.ra, found.catalog.dec)
        for s in range(len(found.catalog)):
            own = model_image(found.recipe, exposure, found.catalog[[s]])
            circle = CircularAperture((float(x[s]), float(y[s])), radius)
            seen = [image - model + own, own, np.isnan(image), error**2]
            light, of_model, bad, variance = (
                float(aperture_photometry(part, circle)["aperture_sum"][0])
                for part in map(np.nan_to_num, seen)
            )
            whole = bad == 0 and circle.bbox.get_overlap_slices(exposure.shape)[0] is not None
            rows.append((exposure.band, found.catalog.id[s], light, of_model, np.sqrt(variance), whole))
    return Table(rows=rows, names=("band", "id", "light", "model", "error", "whole"))


def peaks_of(name: str, found: Fitted) -> Table:
    """The set's list of peaks: signal-to-noise ratio of a point source of their fluxes, and which source each is.

    One is found if there is a source nearer than half the FWHM of the sharpest PSF, and no nearer peak for that.
    """
    peaks = SourceCatalog.read(DATA / name / "peaks.fits").select_bands(found.catalog.bands)
    snr2, width = np.zeros(len(peaks)), np.inf
    for exposure, error in zip(found.exposures, found.errors, strict=True):
        psf = found.recipe.psfs.lookup(exposure.band, exposure=exposure.name, location=(0.0, 0.0))
        image = psf.render((41, 41), (20, 20))
        point = np.nanmedian(error) / np.sqrt(np.sum(image**2))
        snr2 += (peaks.flux[:, peaks.bands.index(exposure.band)] / point) ** 2
        sigma = np.sqrt(1 / (4 * np.pi * np.sum(image**2)))  # of a Gaussian as sharp
        width = min(width, 2.355 * sigma * pixel_scale(exposure.wcs, exposure.shape))
    here, there = (SkyCoord(c.ra, c.dec, unit="deg") for c in (peaks, found.catalog))
    source, distance, _ = here.match_to_catalog_sky(there)
    back, _, _ = there.match_to_catalog_sky(here)
    distance = distance.to_value(u.arcsec)
    mutual = back[source] == np.arange(len(peaks))
    near = (distance < max(width / 2, 0.3)) & mutual
    exposure = found.exposures[0]
    x, y = exposure.wcs.world_to_pixel_values(peaks.ra, peaks.dec)
    (ny, nx), radius = exposure.shape, DIAMETER / 2 / pixel_scale(exposure.wcs, exposure.shape)
    to_edge = np.min([x, y, nx - 1 - x, ny - 1 - y], axis=0) + 0.5
    return Table(
        {
            "id": peaks.id,
            "ra": peaks.ra,
            "dec": peaks.dec,
            "snr": np.sqrt(snr2),
            "at_edge": to_edge < radius,
            "source": np.where(near, source, -1),
            "distance": distance,
        }
    )


def figure(name: str, found: Fitted, peaks: Table):
    """Data, model and residual in units of the noise, of the first and the last band."""
    from matplotlib.colors import AsinhNorm
    from matplotlib.figure import Figure

    chosen = [0, len(found.exposures) - 1]
    drawn = Figure(figsize=(12, 4.1 * len(chosen)), layout="compressed")
    for axes, e in zip(drawn.subplots(len(chosen), 3), chosen, strict=True):
        exposure, error = found.exposures[e], found.errors[e]
        image, model = found.images[e], found.models[e]
        noise = np.nanmedian(error)
        norm = AsinhNorm(linear_width=3 * noise, vmin=-3 * noise, vmax=np.nanpercentile(image, 99.9))
        for axis, part, title in zip(axes[:2], (image, model), ("data", "model"), strict=True):
            axis.imshow(part, norm=norm, cmap="gray_r", origin="lower")
            axis.set_title(f"{exposure.band}: {title}")
        shown = axes[2].imshow((image - model) / error, vmin=-5, vmax=5, cmap="RdBu_r", origin="lower")
        axes[2].set_title(f"{exposure.band}: residual over noise")
        drawn.colorbar(shown, ax=axes[2], shrink=0.8)
        x, y = exposure.wcs.world_to_pixel_values(found.catalog.ra, found.catalog.dec)
        unlisted = ~np.isin(np.arange(len(x)), peaks["source"])
        for axis in (axes[0], axes[2]):
            axis.plot(
                x[~unlisted], y[~unlisted], "o", ms=7, mfc="none", mec="C0", mew=0.8, label="in the list"
            )
            axis.plot(
                x[unlisted], y[unlisted], "s", ms=7, mfc="none", mec="C2", mew=0.8, label="not in the list"
            )
            missed = peaks[peaks["source"] < 0]
            px, py = exposure.wcs.world_to_pixel_values(missed["ra"], missed["dec"])
            axis.plot(px, py, "x", ms=7, mec="C1", mew=1.2, label="peak not found")
            axis.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(-0.5, image.shape[0] - 0.5))
        axes[0].legend(fontsize=7, loc="lower left")
        for axis in axes:
            axis.set(xticks=[], yticks=[])
    drawn.suptitle(name)
    return drawn


def save(drawn, path: Path) -> None:
    """Write a figure with few colours: noise does not compress."""
    buffer = io.BytesIO()
    drawn.savefig(buffer, dpi=70)
    Image.open(buffer).convert("RGB").quantize(48).save(path, optimize=True)


def judged(name: str, found: Fitted) -> tuple[list[dict], Table]:
    """A row per band and one for all of them, and the list of peaks."""
    peaks, light = peaks_of(name, found), apertures(found)
    is_found = peaks["source"] >= 0
    whole = {
        "set": name,
        "peaks": len(peaks),
        "peaks_found": int(is_found.sum()),
        "sources": len(found.catalog),
        "not_in_list": len(found.catalog) - int(is_found.sum()),
        "sure_missing": int(np.count_nonzero(~is_found & (peaks["snr"] > SURE) & ~peaks["at_edge"])),
        "missing_at_edge": int(np.count_nonzero(~is_found & peaks["at_edge"])),
        "run_s": round(sum(found.seconds.values()), 1),
    }
    for low, high in itertools.pairwise(SNR_STEPS):
        of_these = (peaks["snr"] > low) & (peaks["snr"] <= high)
        whole[f"snr_{low:g}_{high:g}"] = f"{int((is_found & of_these).sum())}/{int(of_these.sum())}"
    rows = []
    used = light[light["whole"] & (light["model"] > BRIGHT * light["error"])]
    for band in ("all", *found.catalog.bands):
        part = used if band == "all" else used[used["band"] == band]
        ratio, error = part["light"] / part["model"], part["error"] / part["model"]
        spread = np.percentile(ratio, [16, 84]) if len(part) else (np.nan, np.nan)
        figures = {
            "n_ratio": len(part),
            "median_ratio": float(np.median(ratio)) if len(part) else np.nan,
            "scatter": float(np.diff(spread)[0] / 2),
            "noise": float(np.median(error)) if len(part) else np.nan,
            "furthest": float(ratio[np.argmax(np.abs(ratio - 1))]) if len(part) else np.nan,
        }
        rows.append({"set": name, "band": band} | {k: round(v, 4) for k, v in figures.items()} | whole)
    return rows, peaks


def faults(row: dict) -> list[str]:
    """What is not as it should be, by the row of all bands."""
    found = []
    if not abs(row["median_ratio"] - 1) <= LARGEST_OFFSET:
        found.append(f"{row['set']}: median ratio {row['median_ratio']}, expected 1 within {LARGEST_OFFSET}")
    if row["sure_missing"]:
        found.append(
            f"{row['set']}: {row['sure_missing']} peaks above {SURE:g} sigma not found, expected none"
        )
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", default=list(SETS), metavar="SET", help=", ".join(SETS))
    parser.add_argument(
        "--keep", type=Path, help="folder for the runs; those that are there are not repeated"
    )
    arguments = parser.parse_args()
    rows, found = [], []
    for name in arguments.sets:
        with tempfile.TemporaryDirectory() as temporary:
            state = fitted(run(name, (arguments.keep or Path(temporary)).resolve() / name))
            print(f"{name}: {sum(state.seconds.values()):.0f} s")
            for step, verdict in state.verdicts.items():
                print(f"  {step} ({state.seconds[step]:.0f} s): {verdict}")
            of_set, peaks = judged(name, state)
        rows, found = rows + of_set, found + faults(of_set[0])
        print("not found:")
        peaks[peaks["source"] < 0].pprint_all()
        Table(of_set).pprint_all()
        save(figure(name, state, peaks), HERE / f"bare_images_{name}.png")
        with replacing(HERE / "bare_images.ecsv") as temporary:
            Table(rows).write(temporary, format="ascii.ecsv", overwrite=True)
    print("\n".join(found) or "no faults")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
