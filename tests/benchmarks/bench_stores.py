"""Stores against FITS files: MB/s of building, seconds for a patch over many exposures, cost of compression.

    python tests/benchmarks/bench_stores.py --json

A field of single exposures with SIP distortion; so many of them overlap the patch, which has a radius of 3 arcsec at
0.03 arcsec per pixel, and the others lie elsewhere and are empty but for some pixels, so that they take little room.
The files are made in a temporary folder (--folder says where) and removed at the end: about 70 MB per overlapping
exposure of 2048 x 2048 pixels. Every figure of reading is that of a new process (memory from /proc, so on Linux).
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits

from fphojax import CircularRegion
from fphojax.app.config import Settings
from fphojax.app.preprocess import preprocess

RA, DEC, SCALE, RADIUS = 53.1, -27.8, 0.03, 3.0


def header(index: int, side: int, overlapping: int) -> fits.Header:
    """Dithered and rotated around the patch, or degrees away."""
    rng = np.random.default_rng([1, index])
    dither = rng.uniform(-0.35, 0.35, 2) * side * SCALE / 3600
    far = 0.0 if index < overlapping else 1.0 + index / 1000
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = SCALE / 3600 * np.cos(angle), SCALE / 3600 * np.sin(angle)
    cards = {"FILTER": f"F{index % 4}", "EXPID": f"e{index:04d}", "BUNIT": "nJy"}
    cards |= {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "CUNIT1": "deg", "CUNIT2": "deg"}
    cards |= {
        "CRPIX1": side / 2,
        "CRPIX2": side / 2,
        "CRVAL1": RA + dither[0],
        "CRVAL2": DEC + dither[1] + far,
    }
    cards |= {"CD1_1": -cos, "CD1_2": sin, "CD2_1": sin, "CD2_2": cos}
    cards |= {"A_ORDER": 3, "B_ORDER": 3, "A_2_0": 1e-6, "B_1_1": 2e-6, "A_0_3": 1e-10, "B_3_0": -1e-10}
    return fits.Header(cards)


def write_images(folder: Path, total: int, overlapping: int, side: int) -> None:
    """FITS files of the field; those elsewhere are compressed."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(total):
        near = index < overlapping
        image = rng.normal(size=(side, side)).astype("f4") if near else np.zeros((side, side), "f4")
        error = np.full((side, side), float(near), "f4")  # 0: no weight
        if not near:
            error[:8, :8] = 1
        kind = (
            fits.ImageHDU if near else partial(fits.CompImageHDU, compression_type="GZIP_2", quantize_level=0)
        )
        hdus = [
            fits.PrimaryHDU(),
            kind(image, header(index, side, overlapping), name="SCI"),
            kind(error, name="ERR"),
        ]
        fits.HDUList(hdus).writeto(folder / f"e{index:04d}.fits")


def build(folder: Path, name: str, pattern: str, compression: str | None) -> dict:
    """Build a store from the files of a pattern."""
    settings = Settings.model_validate(
        {
            "bandlist": ["F0", "F1", "F2", "F3"],
            "raw_catalog": "none",
            "pixelstorefile": f"{name}.h5",
            "metastorefile": f"{name}.json",
            "frame_search_pattern": pattern,
            "preprocess": {"compression": compression},
        },
        context={"folder": folder},
    )
    report = preprocess(settings, progress=False, echo=lambda line: None)
    size = (folder / f"{name}.h5").stat().st_size
    return {
        "MB": report.n_byte / 1e6,
        "MB_on_disk": size / 1e6,
        "MB_per_s": report.n_byte / 1e6 / report.seconds,
    }


def disk_speed(folder: Path, megabytes: int = 256) -> float:
    """MB/s of writing a file and having it on the disk."""
    block = np.random.default_rng(0).bytes(2**20)
    start = time.perf_counter()
    with (folder / "probe").open("wb") as file:
        for _ in range(megabytes):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    (folder / "probe").unlink()
    return megabytes * 2**20 / 1e6 / seconds


def read_patch(folder: Path, source: str, overlapping: int, moved: float) -> dict:
    """Seconds to open the exposures and to build two patches; in this process."""
    from fphojax import Patcher, PSFStore, read_exposures
    from fphojax.inputs.stores import open_stores

    region = CircularRegion(RA, DEC, RADIUS)
    start = time.perf_counter()
    if source == "fits":
        exposures = read_exposures([folder / "images" / f"e{i:04d}.fits" for i in range(overlapping)])
    else:
        exposures = open_stores(folder / f"{source}.h5", folder / f"{source}.json")
    opened = time.perf_counter()
    patcher = Patcher(exposures, PSFStore())
    patch = patcher.build_patch(region)
    read = time.perf_counter()
    patcher.build_patch(CircularRegion(RA + moved, DEC, RADIUS))
    again = time.perf_counter()
    return {
        "open_s": opened - start,
        "patch_s": read - opened,
        "next_patch_s": again - read,
        "peak_MB": peak_memory(),
        "exposures_in_patch": len(patcher.frame.exposures),
        "pixels": int((np.asarray(patch.ierr) > 0).sum()),
        "checksum": math.fsum((np.asarray(patch.data, dtype=np.float64) * np.asarray(patch.ierr)).ravel()),
    }


def peak_memory() -> float:
    """MB of this process; what getrusage says would be that of its parent, if that was larger."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+)", status)[1]) / 1024


def in_new_process(*arguments) -> dict:
    """`read_patch` in a process of its own."""
    command = [sys.executable, __file__, "--read", *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exposures", type=int, default=100, help="all of them")
    parser.add_argument("--overlapping", type=int, default=60, help="those that overlap the patch")
    parser.add_argument("--side", type=int, default=1024, help="pixels on a side")
    parser.add_argument("--folder", help="where to make the temporary folder")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--read", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        folder, source, overlapping, moved = options.read
        print(json.dumps(read_patch(Path(folder), source, int(overlapping), float(moved))))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        write_images(folder / "images", options.exposures, options.overlapping, options.side)
        figures = {"disk_MB_per_s": disk_speed(folder)}
        figures["build"] = build(folder, "stores", "images/*.fits", None)
        figures["build_some"] = build(folder, "some", "images/e000*.fits", None)
        for compression in ("lzf", "gzip"):
            figures[f"build_{compression}"] = build(folder, compression, "images/e000*.fits", compression)
        moved = 0.2 * options.side * SCALE / 3600
        for source in ("fits", "stores", "some", "lzf", "gzip"):
            figures[source] = in_new_process(folder, source, options.overlapping, moved)
    fits_s = figures["fits"]["open_s"] + figures["fits"]["patch_s"]
    figures["times_faster"] = fits_s / (figures["stores"]["open_s"] + figures["stores"]["patch_s"])
    assert figures["fits"]["checksum"] == figures["stores"]["checksum"]
    if options.json:
        print(json.dumps(figures))
        return
    for name, values in figures.items():
        values = values if isinstance(values, dict) else {"": values}
        print(f"{name:16s}", ", ".join(f"{key} {value:.4g}" for key, value in values.items()))


if __name__ == "__main__":
    main()
