"""Stores against FITS files: MB/s of building beside the disk's own, seconds for a patch, cost of compression.

    python tests/benchmarks/bench_stores.py --exposures 500 --side 2048 --json

A field of single exposures with SIP distortion; so many of them overlap the patch, which has a radius of 3 arcsec
at 0.03 arcsec per pixel. The others lie elsewhere and are holes in their files but for some pixels. The files are
made in a temporary folder (--folder says where) and removed at the end: about 100 MB per overlapping exposure of
2048 x 2048 pixels.

Building: the overlapping exposures alone, by `preprocess`, from files that are on the disk; just before and after,
the disk's own rate: as many bytes, written and waited for (fsync) exposure by exposure, without anything else.

Reading: each in a new process, JAX being awake. From stores: open the stores of all exposures, find those that
overlap, build the patch. From FITS: open the files that overlap, and only these, and build the patch. "cold": the
files were taken out of the system's cache before (posix_fadvise; memory is that of /proc: on Linux). Both give the
same pixels. "overlapping_only": from a store of the overlapping exposures alone, where memory shall be the same.
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
from pathlib import Path

import numpy as np
from astropy.io import fits

from fphojax import CircularRegion
from fphojax.app.settings.schema import Settings
from fphojax.app.stages.store_build import preprocess

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
    """FITS files of the field."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(total):
        path, text = folder / f"e{index:04d}.fits", header(index, side, overlapping)
        if index >= overlapping:
            write_holes(path, text, side)
            continue
        image = rng.normal(size=(side, side)).astype("f4")
        hdus = [fits.ImageHDU(image, text, name="SCI"), fits.ImageHDU(np.ones_like(image), name="ERR")]
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    os.sync()


def write_holes(path: Path, text: fits.Header, side: int) -> None:
    """An image of zeros that takes no room; eight pixels have weight."""
    with path.open("wb") as file:
        file.write(fits.PrimaryHDU().header.tostring().encode())
        for name, extra in (("SCI", text), ("ERR", None)):
            hdu = fits.ImageHDU(np.zeros((1, 1), "f4"), extra, name=name)
            hdu.header["NAXIS1"] = hdu.header["NAXIS2"] = side
            file.write(hdu.header.tostring().encode())
            start = file.tell()
            if name == "ERR":
                file.write(np.ones(8, ">f4").tobytes())
            file.truncate(start + -(-4 * side**2 // 2880) * 2880)
            file.seek(0, os.SEEK_END)


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
    os.sync()
    report = preprocess(settings, progress=False)
    return {
        "MB": report.n_byte / 1e6,
        "MB_on_disk": (folder / f"{name}.h5").stat().st_size / 1e6,
        "MB_per_s": report.n_byte / 1e6 / report.seconds,
        "writing_s": report.seconds_writing,
        "all_s": report.seconds,
    }


def disk_speed(folder: Path, count: int, size: int) -> float:
    """MB/s of writing `count` times `size` bytes, and having them on the disk each time."""
    block = np.random.default_rng(0).bytes(size)
    os.sync()
    start = time.perf_counter()
    with (folder / "probe").open("wb") as file:
        for _ in range(count):
            file.write(block)
            file.flush()
            os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    (folder / "probe").unlink()
    return count * size / 1e6 / seconds


def forget(paths) -> None:
    """Take files out of the system's cache."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_patch(folder: Path, source: str, overlapping: int, moved: float) -> dict:
    """Seconds to open the exposures and to build two patches; in this process."""
    import jax.numpy as jnp

    from fphojax import Patcher, PSFStore, read_exposures
    from fphojax.inputs.stores.stored_exposures import open_stores

    jnp.zeros(1).block_until_ready()
    region = CircularRegion(RA, DEC, RADIUS)
    start, start_cpu = time.perf_counter(), time.process_time()
    if source == "fits":
        exposures = read_exposures([folder / "images" / f"e{i:04d}.fits" for i in range(overlapping)])
    else:
        exposures = open_stores(folder / f"{source}.h5", folder / f"{source}.json")
    opened = time.perf_counter()
    patcher = Patcher(exposures, PSFStore())
    patch = patcher.build_patch(region)
    read, read_cpu = time.perf_counter(), time.process_time()
    patcher.build_patch(CircularRegion(RA + moved, DEC, RADIUS))
    again = time.perf_counter()
    return {
        "all_s": read - start,
        "cpu_s": read_cpu - start_cpu,
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


def measured(folder: Path, total: int, overlapping: int, side: int) -> dict:
    """All figures."""
    write_images(folder / "images", total, overlapping, side)
    near = [folder / "images" / f"e{i:04d}.fits" for i in range(overlapping)]
    figures = {}
    (folder / "near").mkdir()
    for path in near:
        (folder / "near" / path.name).symlink_to(path)
    for cache in ("warm", "cold"):
        if cache == "cold":
            forget(near)
        before = disk_speed(folder, overlapping, 8 * side**2)
        figures[f"build_{cache}"] = build(folder, f"near_{cache}", "near/*.fits", None)
        after = disk_speed(folder, overlapping, 8 * side**2)
        figures[f"build_{cache}"] |= {"disk_before_MB_per_s": before, "disk_after_MB_per_s": after}
    (folder / "near_warm.h5").unlink()
    figures["build_all"] = build(folder, "stores", "images/*.fits", None)
    for compression in (None, "lzf", "gzip"):
        name = compression or "some"
        figures[f"build_{name}"] = build(folder, name, "images/e000*.fits", compression)

    moved = 0.2 * side * SCALE / 3600
    for cache in ("warm", "cold"):
        for source in ("fits", "stores"):
            if cache == "cold":
                forget([*near, folder / "stores.h5", folder / "stores.json"])
            figures[f"{source}_{cache}"] = in_new_process(folder, source, overlapping, moved)
        figures[f"times_faster_{cache}"] = (
            figures[f"fits_{cache}"]["all_s"] / figures[f"stores_{cache}"]["all_s"]
        )
        assert figures[f"fits_{cache}"]["checksum"] == figures[f"stores_{cache}"]["checksum"]
    figures["overlapping_only"] = in_new_process(folder, "near_cold", overlapping, moved)
    for source in ("some", "lzf", "gzip"):
        figures[source] = in_new_process(folder, source, overlapping, moved)
    return figures


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
        figures = measured(folder, options.exposures, options.overlapping, options.side)
    if options.json:
        print(json.dumps(figures))
        return
    for name, values in figures.items():
        values = values if isinstance(values, dict) else {"": values}
        print(f"{name:16s}", ", ".join(f"{key} {value:.4g}" for key, value in values.items()))


if __name__ == "__main__":
    main()
