"""Pixel and meta stores: layout, patches to the last bit, builds that are stopped, and what is refused."""

import errno
import json
import os
import pickle
import resource
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import chain
from multiprocessing import get_context
from operator import methodcaller
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from fphojax import CircularRegion, Exposure, InputError, read_exposures
from fphojax.inputs.stores import writer as store_writer
from fphojax.inputs.stores.build_journal import BuildJournal
from fphojax.inputs.stores.pixel_layout import packed, super_shape, unpacked
from fphojax.inputs.stores.stored_exposures import open_stores
from fphojax.inputs.stores.verification import store_problem
from fphojax.inputs.stores.writer import StoreWriter

ATTRIBUTES = {"counts_to_flux": 1.0, "flux_units": "nJy", "bitmask_applied": 0}
SETS = (
    "decam_g3r2z3",
    "bok_mosaic3_blend",
    "decam_bright_masked",
    "hsc_cosmos35",
    "euclid_q1",
    "decals_coadd",
)


def header(*, ra=150.0, dec=2.0, scale=0.1, angle=0.3, shape=(48, 40), sip=0.0):
    wcs = fits.Header()
    ny, nx = shape
    wcs["NAXIS"], wcs["NAXIS1"], wcs["NAXIS2"] = 2, nx, ny
    end = "-SIP" if sip else ""
    wcs["CTYPE1"], wcs["CTYPE2"] = f"RA---TAN{end}", f"DEC--TAN{end}"
    wcs["CRVAL1"], wcs["CRVAL2"], wcs["CRPIX1"], wcs["CRPIX2"] = ra, dec, nx / 2, ny / 2
    cos, sin = scale / 3600 * np.cos(angle), scale / 3600 * np.sin(angle)
    wcs["CD1_1"], wcs["CD1_2"], wcs["CD2_1"], wcs["CD2_2"] = -cos, sin, sin, cos
    if sip:
        wcs["A_ORDER"], wcs["B_ORDER"], wcs["A_2_0"], wcs["B_1_1"] = 2, 2, sip, -sip
    return wcs


def mock(name="e1", band="F1", *, shape=(48, 40), seed=0, **wcs):
    rng = np.random.default_rng([seed, *name.encode()])
    text = header(shape=shape, **wcs)
    text["FILTER"], text["EXPID"] = band, name
    data = rng.normal(size=shape).astype(np.float32)
    mask = rng.uniform(size=shape) < 0.05
    return Exposure.from_arrays(
        data, rng.uniform(0.5, 2, shape), WCS(text), mask=mask, band=band, name=name, header=text
    )


def build(folder, exposures, **options):
    """Stores of exposures; (pixel file, meta file)."""
    paths = folder / "pixels.h5", folder / "meta.json"
    with StoreWriter(*paths, **options) as writer:
        for exposure in exposures:
            if (exposure.band, exposure.name) not in chain(*writer.stored.values()):
                put(writer, exposure)
        writer.finish()
    return paths


def put(writer, exposure, **more):
    packed = writer.pack(exposure, attributes=ATTRIBUTES, **more)
    writer.add(packed, stamp=f"{exposure.band} {exposure.name}")


def refused(match, call, *arguments, **options):
    with pytest.raises(InputError, match=match) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    print(str(caught.value).replace(str(Path.cwd()), ""))


def patch_of(exposures, region):
    from fphojax import Patcher, PSFStore  # slow to import, and the processes started below do not need them

    return Patcher(exposures, PSFStore()).build_patch(region)


def same_patch(one, other):
    for name in ("data", "ierr", "origin", "exposure", "count"):
        a, b = np.asarray(getattr(one, name)), np.asarray(getattr(other, name))
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes(), name


# --------------------------------------------------------------------------------------------------
# Layout


@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([1, 2, 4, 8]))
@settings(max_examples=30, deadline=None)
def test_packing_and_unpacking_are_inverse(ny, nx, size):
    data = np.arange(ny * nx, dtype=np.float32).reshape(ny, nx)
    blocks = packed(data, -data, size)
    assert blocks.shape == (*super_shape((ny, nx), size), 2 * size**2)
    for image, sign in zip(unpacked(blocks, size), (1, -1), strict=True):
        np.testing.assert_array_equal(image[:ny, :nx], sign * data)
        assert not image[ny:].any()
        assert not image[:, nx:].any()


def test_store_in_forcephos_layout_is_read(tmp_path):
    """Built pixel by pixel from the description: x first, y fastest within a super-pixel, flux before error."""
    s, nx, ny = 8, 24, 16
    rng = np.random.default_rng(1)
    images, meta = {}, {"F1": {}, "F2": {}}
    with h5py.File(tmp_path / "p.h5", "w") as file:
        file.attrs["nside_full"], file.attrs["super_pixel_size"] = np.array([nx, ny]), s
        for band, name in (("F1", "a"), ("F1", "visit1/b"), ("F2", "a")):
            flux, ierr = rng.normal(size=(2, ny, nx)).astype(np.float32)
            ierr = np.abs(ierr)
            ierr[rng.uniform(size=ierr.shape) < 0.1] = 0
            blocks = np.empty((nx // s, ny // s, 2 * s * s), dtype=np.float32)
            for x in range(nx):
                for y in range(ny):
                    i, j, p = x // s, y // s, (x % s) * s + y % s
                    blocks[i, j, p], blocks[i, j, s * s + p] = flux[y, x], ierr[y, x]
            data = file.create_dataset(f"{band}/{name}/data", data=blocks)
            data.attrs["counts_to_flux"], data.attrs["flux_units"] = 2.5, "nJy"
            data.attrs["bitmask_applied"] = 5
            images[band, name] = flux, ierr
            meta[band][name] = header(shape=(ny, nx)).tostring()
    (tmp_path / "m.json").write_text(json.dumps(meta))
    exposures = open_stores(tmp_path / "p.h5", tmp_path / "m.json")
    assert [(e.band, e.name) for e in exposures] == sorted(images)
    for exposure in exposures:
        assert exposure.shape == (ny, nx)
        flux, ierr = images[exposure.band, exposure.name]
        for x0, x1, y0, y1 in ((0, nx, 0, ny), (3, 20, 7, 9), (23, 24, 15, 16)):
            data, weight = exposure.window(x0, x1, y0, y1)
            np.testing.assert_array_equal(weight, ierr[y0:y1, x0:x1])
            np.testing.assert_array_equal(data, np.where(weight > 0, flux[y0:y1, x0:x1], 0))
        assert exposure.masked_fraction == pytest.approx(np.mean(ierr == 0))
        centre = exposure.wcs.pixel_to_world_values((nx - 1) / 2, (ny - 1) / 2)
        np.testing.assert_allclose(exposure.footprint[:2], centre, rtol=1e-12)
        assert store_problem(exposure) is None
    direct = []
    for (band, name), (flux, ierr) in sorted(images.items()):
        with np.errstate(divide="ignore"):
            err = 1 / ierr.astype(np.float64)
        made = Exposure.from_arrays(flux, err, WCS(header(shape=(ny, nx))), band=band, name=name)
        direct.append(made)
    region = CircularRegion(150.0, 2.0, 0.4)
    same_patch(patch_of(exposures, region), patch_of(direct, region))


# --------------------------------------------------------------------------------------------------
# Patches


@pytest.mark.parametrize("compression", [None, "lzf", "gzip"])
@pytest.mark.parametrize("size", [8, 5])
def test_patch_from_stores_is_that_from_arrays(tmp_path, compression, size):
    exposures = [mock("a", "F1"), mock("b", "F1", shape=(33, 71), sip=1e-5), mock("c", "F2", angle=2.0)]
    stored = open_stores(*build(tmp_path, exposures, compression=compression, super_pixel_size=size))
    assert [e.shape for e in stored] == [e.shape for e in exposures]
    ra, dec = exposures[0].wcs.pixel_to_world_values(3.0, 20.0)
    for radius in (0.5, 1.7, 60.0):
        region = CircularRegion(float(ra), float(dec), radius)
        direct = patch_of(exposures, region)
        same_patch(patch_of(stored, region), direct)
    with h5py.File(tmp_path / "pixels.h5") as file:
        assert file.attrs["several_sizes"]


def test_wcs_of_an_exposure_whose_header_has_none(tmp_path):
    exposure = replace(mock(sip=1e-5), header=fits.Header({"OBSERVER": "x"}))
    (stored,) = open_stores(*build(tmp_path, [exposure]))
    assert stored.header["OBSERVER"] == "x"
    assert "CTYPE1" not in exposure.header
    corners = np.array([[0, 39, 20], [0, 47, 3]])
    theirs = stored.wcs.pixel_to_world_values(*corners)
    np.testing.assert_allclose(theirs, exposure.wcs.pixel_to_world_values(*corners), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", SETS)
def test_patches_of_real_images_are_the_same_from_stores(tmp_path, data_dir, name):
    files = sorted(p for p in (data_dir / name).glob("*.fits") if p.name != "peaks.fits")
    exposures = sorted(read_exposures(files), key=lambda e: (e.band, e.name))
    stored = open_stores(*build(tmp_path, exposures))
    ny, nx = exposures[0].shape
    ra, dec = (float(v) for v in exposures[0].wcs.pixel_to_world_values(0.4 * nx, 0.6 * ny))
    n_pixel = 0
    for radius in (2.0, 12.0):
        region = CircularRegion(ra, dec, radius)
        patch = patch_of(exposures, region)
        same_patch(patch_of(stored, region), patch)
        n_pixel += int((np.asarray(patch.ierr) > 0).sum())
    for one, other in zip(exposures, stored, strict=True):
        np.testing.assert_array_equal(one.psf_image, other.psf_image)
        assert one.header.tostring() == other.header.tostring()
        same = one.less(0.3).capped(5.0), other.less(0.3).capped(5.0)
        for a, b in zip(*(e.window(2, nx - 5, 3, ny - 4) for e in same), strict=True):
            np.testing.assert_array_equal(a, b)
    print(f"{name}: {len(stored)} exposures, {n_pixel} pixels equal to the last bit")


def test_only_chunks_of_the_region_are_read(tmp_path):
    """Chunks elsewhere may be spoilt: nobody looks at them."""
    exposure = mock(shape=(300, 300))
    paths = build(tmp_path, [exposure], compression="gzip")
    with h5py.File(paths[0], "r+") as file:
        data = file["F1/e1/data"]
        assert data.chunks == (16, 16, 128)
        data.id.write_direct_chunk((32, 32, 0), b"spoilt")
    (stored,) = open_stores(*paths)
    direct = exposure.window(10, 200, 20, 250)
    for a, b in zip(stored.window(10, 200, 20, 250), direct, strict=True):
        np.testing.assert_array_equal(a, b)
    refused("exposure 'e1' of band F1: cannot be read as HDF5", stored.window, 250, 290, 250, 290)


def test_empty_chunks_take_no_room(tmp_path):
    shape = 1024, 1024
    err = np.full(shape, np.inf)
    err[500:520, 100:110] = 1
    sparse = Exposure.from_arrays(np.ones(shape), err, WCS(header(shape=shape)), band="F1", name="a")
    pixels, _ = build(tmp_path, [sparse])
    print(f"{pixels.stat().st_size} bytes for an image of {8 * 1024**2}")
    assert pixels.stat().st_size < 0.04 * 8 * 1024**2
    (stored,) = open_stores(tmp_path / "pixels.h5", tmp_path / "meta.json")
    for a, b in zip(stored.window(90, 130, 490, 600), sparse.window(90, 130, 490, 600), strict=True):
        np.testing.assert_array_equal(a, b)


def test_several_processes_read_one_store(tmp_path):
    exposures = open_stores(*build(tmp_path, [mock(f"e{i}") for i in range(3)]))
    read = methodcaller("window", 0, 40, 0, 48)
    expected = [read(exposure) for exposure in exposures]  # this process holds the file open
    assert len(pickle.dumps(exposures[0])) < 1000
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        np.testing.assert_array_equal(list(pool.map(read, exposures * 3)), expected * 3)


def test_look_up_tables_of_a_distortion_are_kept(tmp_path):
    """HST's headers point to extensions, which a meta file cannot hold."""
    from fphojax.inputs.fits_frames import ReadingOptions, read_frame

    text = header()
    text.update(FILTER="F606W", EXPID="hst")
    for axis in (1, 2):
        text[f"CPDIS{axis}"] = "LOOKUP"
        text[f"DP{axis}"] = "EXTVER"
        text[f"DP{axis}.EXTVER"], text[f"DP{axis}.NAXES"] = float(axis), 2.0
        text[f"DP{axis}.AXIS.1"], text[f"DP{axis}.AXIS.2"] = 1.0, 2.0
    del text["DP1"], text["DP2"]
    for axis in (1, 2):
        for key, value in (("EXTVER", axis), ("NAXES", 2), ("AXIS.1", 1), ("AXIS.2", 2)):
            text.append(fits.Card(f"DP{axis}", f"{key}: {value}"))
    table = fits.Header(
        {"CRPIX1": 1.0, "CRPIX2": 1.0, "CRVAL1": 1.0, "CRVAL2": 1.0, "CDELT1": 20, "CDELT2": 24}
    )
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.ones((48, 40), "f4"), text, name="SCI")])
    hdus.append(fits.ImageHDU(np.ones((48, 40), "f4"), name="ERR"))
    rng = np.random.default_rng(0)
    for axis in (1, 2):
        hdus.append(fits.ImageHDU(rng.normal(size=(3, 3)).astype("f4"), table, name="WCSDVARR", ver=axis))
    hdus.writeto(tmp_path / "hst.fits")
    frame = read_frame(tmp_path / "hst.fits", ReadingOptions())
    with StoreWriter(tmp_path / "p.h5", tmp_path / "m.json") as writer:
        put(writer, Exposure.from_frame(frame), extras=frame.extras)
        writer.finish()
    (stored,) = open_stores(tmp_path / "p.h5", tmp_path / "m.json")
    x, y = rng.uniform(0, 40, (2, 20))
    np.testing.assert_array_equal(
        stored.wcs.pixel_to_world_values(x, y), frame.wcs.pixel_to_world_values(x, y)
    )
    plain = WCS(header()).pixel_to_world_values(x, y)
    moved = 3600 * np.abs(np.subtract(plain, stored.wcs.pixel_to_world_values(x, y))).max()
    print(f"the tables move pixels by up to {moved:.3f} arcsec")
    assert moved > 0.01


# --------------------------------------------------------------------------------------------------
# Builds that are stopped, and files that are refused


def test_stopped_build_goes_on(tmp_path):
    exposures = [mock(f"e{i}") for i in range(4)]
    paths = tmp_path / "pixels.h5", tmp_path / "meta.json"
    with StoreWriter(*paths, recipe={"calibration": "none"}) as writer:
        for exposure in exposures[:2]:
            put(writer, exposure)
    assert not any(path.exists() for path in paths)
    with h5py.File(writer.building, "r+") as file:  # the third had only been begun
        file.create_dataset("F1/e2/data", data=np.zeros((5, 6, 128), "f4"))
        file.create_group("F1/e3")
    with writer.journal.path.open("a") as file:
        file.write('{"band": "F1", "name": "e')
    refused(
        r"begun with other settings \(calibration: 'none', now 'ABMAG'\)",
        StoreWriter,
        *paths,
        recipe={"calibration": "ABMAG"},
    )
    with StoreWriter(*paths, recipe={"calibration": "none"}) as again:
        assert sorted(name for ((_, name),) in again.stored.values()) == ["e0", "e1"]
        for exposure in exposures[2:]:
            put(again, exposure)
        again.finish()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["meta.json", "pixels.h5"]
    for stored, exposure in zip(open_stores(*paths), exposures, strict=True):
        np.testing.assert_array_equal(stored.window(0, 40, 0, 48)[0], exposure.data)


KILLED = """
import sys
sys.path.insert(0, {tests!r})
from test_stored_exposures import *
writer = StoreWriter({folder!r} + "/pixels.h5", {folder!r} + "/meta.json")
for i in range(1000):
    put(writer, mock(f"e{{i}}", shape=(512, 512)))
    print(i, flush=True)
"""


def test_killed_build_goes_on(tmp_path):
    code = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if int(line) == 2:
                break
        time.sleep(0.004)  # somewhere in the next exposures
        process.kill()
    writer = StoreWriter(tmp_path / "pixels.h5", tmp_path / "meta.json")
    n_done = len(writer.stored)
    print(f"{n_done} exposures were whole, damaged: {writer.restarted}")
    # the disk may still have been taking in the third when it was reported
    assert writer.restarted or n_done >= 2
    exposures = [mock(f"e{i}", shape=(512, 512)) for i in range(n_done + 2)]
    for stored, exposure in zip(open_stores(*build(tmp_path, exposures)), exposures, strict=True):
        np.testing.assert_array_equal(stored.window(0, 512, 0, 512)[1], exposure.ierr)


def test_damaged_build_starts_anew(tmp_path):
    with StoreWriter(tmp_path / "pixels.h5", tmp_path / "meta.json") as writer:
        put(writer, mock())
    os.truncate(writer.building, 3000)
    with StoreWriter(tmp_path / "pixels.h5", tmp_path / "meta.json") as again:
        assert again.restarted
        assert not again.stored
        put(again, mock())
        again.finish()


FULL = """
import resource, sys
sys.path.insert(0, {tests!r})
from test_stored_exposures import *
{before}
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
try:
    with StoreWriter({folder!r} + "/pixels.h5", {folder!r} + "/meta.json") as writer:
        for i in range(4):
            put(writer, mock(f"e{{i}}", shape=(400, 400)))
except InputError as error:
    print(i, error)
"""


@pytest.mark.parametrize(
    "before", ["", "vars(os).pop('posix_fallocate', None)"], ids=["Linux", "macOS, Windows"]
)
def test_full_disk(tmp_path, before):
    """A limit on the size of files stands for the end of the disk."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    code = FULL.format(before=before, tests=str(Path(__file__).parent), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr[-300:])
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert line[0] in "12"
    assert "pixels.h5.building: cannot be written (file too large)" in line
    assert not (tmp_path / "pixels.h5").exists()
    writer = StoreWriter(tmp_path / "pixels.h5", tmp_path / "meta.json")
    print(f"kept {len(writer.stored)} exposures")
    assert not writer.restarted
    assert len(writer.stored) == int(line[0])
    exposures = [mock(f"e{i}", shape=(400, 400)) for i in range(4)]
    assert len(open_stores(*build(tmp_path, exposures))) == 4


def test_build_without_fallocate(tmp_path, monkeypatch):
    with_it = build(tmp_path, [mock()])[0].read_bytes()
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    monkeypatch.setattr(store_writer, "_PIECE", 1000)
    assert build(tmp_path, [mock()], overwrite=True)[0].read_bytes() == with_it


@pytest.mark.parametrize("when", ["the pixels", "their way to the disk", "the journal", "the meta file"])
def test_no_space_left_on_device(tmp_path, monkeypatch, when):
    """Wherever it strikes: one line, no file under its final name, and what was whole before is kept."""
    full = OSError(errno.ENOSPC, "No space left on device")
    paths = tmp_path / "pixels.h5", tmp_path / "meta.json"
    with StoreWriter(*paths) as writer:
        put(writer, mock("e0"))

    def fail(*arguments, **options):
        raise full

    def interrupted():
        with StoreWriter(*paths) as writer:
            target = {
                "the pixels": (StoreWriter, "_write_blocks"),
                "their way to the disk": (store_writer, "to_disk"),
                "the journal": (BuildJournal, "append"),
                "the meta file": (Path, "write_text"),
            }[when]
            with monkeypatch.context() as patched:
                if when != "the meta file":
                    patched.setattr(*target, fail)
                put(writer, mock("e1"))
                patched.setattr(*target, fail)
                writer.finish()

    refused(
        r"cannot be written \(no space left on device\), expected room on the disk",
        interrupted,
    )
    assert not any(path.exists() for path in paths)
    with StoreWriter(*paths) as writer:
        assert [("F1", "e0")] in writer.stored.values()
        assert ([("F1", "e1")] in writer.stored.values()) == (when == "the meta file")
    exposures = [mock("e0"), mock("e1")]
    for stored, exposure in zip(open_stores(*build(tmp_path, exposures)), exposures, strict=True):
        np.testing.assert_array_equal(stored.window(0, 40, 0, 48)[0], exposure.data)
        assert store_problem(stored) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["meta.json", "pixels.h5"]


def test_stores_that_exist_are_not_replaced_unless_asked(tmp_path):
    paths = build(tmp_path, [mock()])
    refused("pixels.h5: exists already, expected a new file", StoreWriter, *paths)
    build(tmp_path, [mock("other")], overwrite=True)
    assert [e.name for e in open_stores(*paths)] == ["other"]
    paths[0].unlink()
    refused("meta.json: exists already", StoreWriter, *paths)
    refused("no such folder", StoreWriter, tmp_path / "no" / "p.h5", paths[1])


def test_exposures_that_do_not_fit(tmp_path):
    with StoreWriter(tmp_path / "p.h5", tmp_path / "m.json", nside_full=(48, 48)) as writer:
        put(writer, mock())
        refused("exposure 'e1' of band F1 is in .* already", put, writer, mock())
        large = mock("e2", shape=(48, 49))
        refused("49 x 48 pixels, expected at most nside_full = 48 x 48", put, writer, large)
        writer.finish()
    with h5py.File(tmp_path / "p.h5") as file:
        assert file["F1/e1/data"].shape == (6, 6, 128)
        assert file.attrs["nside_full"] == 48
        assert file["F1/e1/data"].attrs["flux_units"] == "nJy"
    (stored,) = open_stores(tmp_path / "p.h5", tmp_path / "m.json")
    assert stored.shape == (48, 40)
    empty = StoreWriter(tmp_path / "q.h5", tmp_path / "n.json")
    refused("found no exposure to store", empty.finish)


def test_files_that_are_not_stores(tmp_path):
    pixels, meta = build(tmp_path, [mock(), mock("e2")])
    good, content = pixels.read_bytes(), json.loads(meta.read_text())
    refused("no such file", open_stores, tmp_path / "x.h5", meta)
    refused("no such file", open_stores, pixels, tmp_path / "x.json")
    pixels.write_bytes(good[: len(good) // 2])
    refused(r"pixels.h5: cannot be read as HDF5 \(.*truncated.*\)", open_stores, pixels, meta)
    pixels.write_text("no HDF5")
    refused("pixels.h5: cannot be read as HDF5", open_stores, pixels, meta)
    with h5py.File(pixels, "w") as file:
        file["table"] = np.zeros(3)
    refused("no attribute super_pixel_size", open_stores, pixels, meta)
    with h5py.File(pixels, "w") as file:
        file.attrs["super_pixel_size"], file.attrs["nside_full"] = 8, 16
        file["table"] = np.zeros(3)
    refused("found no exposure", open_stores, pixels, meta)
    with h5py.File(pixels, "a") as file:
        file["F1/e1/data"] = np.zeros((2, 2, 64))
    refused(r"shape \(2, 2, 64\), expected \(nx / 8, ny / 8, 128\)", open_stores, pixels, meta)
    with h5py.File(pixels, "a") as file:
        del file["F1/e1/data"]
        file["F1/e1/data"] = np.zeros((2, 3, 128))
    refused(r"\(16, 24\) pixels, expected nside_full = \(16, 16\)", open_stores, pixels, meta)

    pixels.write_bytes(good)
    for bad in ("{", "[]", '{"F1": 3}', '{"F1": {"e1": 3}}'):
        meta.write_text(bad)
        refused("meta.json: (cannot be read|not a meta store)", open_stores, pixels, meta)
    meta.write_text(json.dumps({"F1": {"e1": content["F1"]["e1"]}}))
    refused("meta.json: no exposure 'e2' of band F1", open_stores, pixels, meta)
    meta.write_text(json.dumps(content | {"F2": {"e1": "x"}}))
    refused("pixels.h5: no exposure 'e1' of band F2", open_stores, pixels, meta)
    content["F1"]["e1"], content["F1"]["e2"] = content["F1"]["e2"], content["F1"]["e1"]
    meta.write_text(json.dumps(content))
    refused("meta.json: header of exposure 'e1' of band F1 differs", open_stores, pixels, meta)


def test_index_that_does_not_fit(tmp_path):
    pixels, meta = build(tmp_path, [mock(), mock("e2")])
    good = pixels.read_bytes()
    with h5py.File(pixels, "r+") as file:
        del file["F1/e1/data"]
        file["F1/e2/data"].attrs["footprint"] = 1.0, 2.0, 3.0
    first, second = open_stores(pixels, meta)
    refused("exposure 'e1' of band F1: no dataset F1/e1/data in the file", lambda: first.window(0, 8, 0, 8))
    assert "no dataset F1/e1/data in the file, expected it as the index says" in store_problem(first)
    assert "beside the pixels, expected" in store_problem(second)
    first.store.close()
    for bad in (
        b"{",
        b"[]",
        b'{"F1": {"e1": {}}}',
        b'{"F1": {"e1": 3}}',
        b'{"F1": {"e1": {"image_shape": 3}}}',
    ):
        pixels.write_bytes(good)
        with h5py.File(pixels, "r+") as file:
            del file["index"]
            file["index"] = np.frombuffer(bad, dtype=np.uint8)
        refused("pixels.h5: dataset index", open_stores, pixels, meta)
    pixels.write_bytes(good)
    with h5py.File(pixels, "r+") as file:
        index = json.loads(file["index"][:].tobytes())
        del file["index"]
    by_attributes = open_stores(pixels, meta)
    for exposure in by_attributes:
        assert exposure.entry.stated == index["F1"][exposure.name]
        assert store_problem(exposure) is None


def test_header_of_another_image_in_a_foreign_store(tmp_path):
    with h5py.File(tmp_path / "p.h5", "w") as file:
        file.attrs["super_pixel_size"], file.attrs["nside_full"] = 8, 16
        data = np.ones((2, 2, 128), "f4")
        data[1, 0, 3] = np.nan
        file["F1/e1/data"] = data
    (tmp_path / "m.json").write_text(json.dumps({"F1": {"e1": header(shape=(16, 24)).tostring()}}))
    (stored,) = open_stores(tmp_path / "p.h5", tmp_path / "m.json")
    refused("header of exposure 'e1' of band F1 is that of an image of 24 x 16 pixels", lambda: stored.wcs)
    stored.window(0, 8, 0, 16)
    refused("found 1 non-finite values", stored.window, 0, 16, 0, 16)
