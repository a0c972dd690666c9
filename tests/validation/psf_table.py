"""Fit every PSF image of the shared data, print a table and keep it beside this file.

    python tests/validation/psf_table.py [--data FOLDER] [--figures FOLDER]

35 PSFs of exposures (native scale, effective, six Gaussians), six oversampled NIRCam PSFs (two pixels per native
one at short, four at long wavelengths; judged after integration over native pixels; eight Gaussians, two of them
negative), five NIRCam stars at the native scale (eight Gaussians, two negative).
"""

import argparse
import logging
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from fphojax.mixtures.psf_fit import fit_psf, plot_psf_fit

ROOT = Path(__file__).resolve().parents[2]


def psf_images(data):
    """Name, image and options of fit_psf for each PSF image."""
    for path in sorted(data.glob("*/*.fits")):
        name = f"{path.parent.name}/{path.stem}"
        if path.parent.name == "nircam_psf":
            image = fits.getdata(path)
            oversample = 1 if "star" in path.stem else (2 if len(image) == 265 else 4)
            yield name, image, {
                "n_gauss": 8, "n_negative": 2, "oversample": oversample, "includes_pixel": oversample == 1
            }  # fmt: skip
        elif path.stem != "peaks":
            yield name, fits.getdata(path, "PSF"), {"n_gauss": 6}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    parser.add_argument("--figures", type=Path, help="folder for a figure of each fit")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    rows = []
    for name, image, options in psf_images(args.data):
        fit = fit_psf(image, name=name, **options)
        v = fit.verdict
        negative = int(np.count_nonzero(fit.amplitudes < 0))
        rows.append(
            (name, options.get("oversample", 1), len(fit.amplitudes), negative, v.relative_l2, v.ee_error,
             v.worst_pixel, v.flux_outside, fit.shift[0], fit.shift[1], fit.seconds)
        )  # fmt: skip
        if args.figures:
            args.figures.mkdir(parents=True, exist_ok=True)
            plot_psf_fit(fit, image).savefig(args.figures / f"{name.replace('/', '_')}.png", dpi=80)
    names = ("psf", "oversample", "K", "negative", "relative_l2", "ee_error", "worst_pixel", "flux_outside")
    table = Table(rows=rows, names=(*names, "shift_x", "shift_y", "seconds"))
    for column in ("relative_l2", "ee_error", "worst_pixel", "flux_outside"):
        table[column].info.format = ".5f"
    for column in ("shift_x", "shift_y", "seconds"):
        table[column].info.format = ".2f"
    table.pprint_all()
    nircam = np.char.startswith(table["psf"], "nircam")
    summary = []
    for label, chosen in (
        ("exposures", ~nircam),
        ("NIRCam oversampled", nircam & (table["oversample"] > 1)),
        ("NIRCam stars", nircam & (table["oversample"] == 1)),
    ):
        part = table[chosen]
        summary.append(
            f"{len(part)} {label}: L2 median {np.median(part['relative_l2']):.4f}, largest "
            f"{part['relative_l2'].max():.4f}; EE median {np.median(part['ee_error']):.4f}, largest "
            f"{part['ee_error'].max():.4f}; seconds, largest {part['seconds'].max():.1f}"
        )
    print("\n".join(summary))
    table.meta["comments"] = summary
    table.write(Path(__file__).with_suffix(".ecsv"), overwrite=True)


if __name__ == "__main__":
    main()
