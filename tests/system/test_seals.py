"""Seals: a file as it was written is known, one with any byte changed is refused."""

import json
import os

import h5py
import pytest
from astropy.io import fits

from fphojax.errors import InputError
from fphojax.system.file_checks import require_regular, require_stored
from fphojax.system.hdf5_files import new_hdf5, read_hdf5
from fphojax.system.json_files import read_json, write_json
from fphojax.system.seals import is_sealed, seal_fits


@pytest.fixture(params=["json", "fits", "h5"])
def sealed(request, tmp_path):
    """A sealed file of each format."""
    path = tmp_path / f"state.{request.param}"
    match request.param:
        case "json":
            write_json(path, {"a": [1, 2], "b": {}})
        case "fits":
            fits.PrimaryHDU(header=fits.Header([("A", 1)])).writeto(path)
            seal_fits(path)
        case "h5":
            with new_hdf5(path) as file:
                file["a"] = [1.0, 2.0]
    return path


def test_any_changed_byte_is_noticed(sealed):
    content = sealed.read_bytes()
    assert is_sealed(sealed)
    for at in range(0, len(content), max(len(content) // 200, 1)):
        sealed.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        if b"fphojax-crc32:" in sealed.read_bytes():
            with pytest.raises(InputError, match="does not agree with its own checksum"):
                is_sealed(sealed)
        else:  # the mark itself is spoilt, and nothing else
            assert not is_sealed(sealed)


def test_contents_are_those_that_were_written(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1, 2]})
    write_json(tmp_path / "b.json", {})
    assert read_json(tmp_path / "a.json", "a file") == {"a": [1, 2]}
    assert read_json(tmp_path / "b.json", "a file") == {}
    assert json.loads((tmp_path / "a.json").read_text())["a"] == [1, 2]  # for those who know of no seal
    with new_hdf5(tmp_path / "a.h5") as file:
        file["a"] = [1.0, 2.0]
    with h5py.File(tmp_path / "a.h5", "r") as file:
        assert file["a"][:].tolist() == [1.0, 2.0]
    (tmp_path / "a.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:-22])
    with pytest.raises(InputError, match="checksum"), read_hdf5(tmp_path / "a.h5", "a file"):
        pass


def test_missing_key_is_an_input_error(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(InputError, match=r"a\.json: no key b, expected a file$"):
        read_json(tmp_path / "a.json", "a file")["b"]
    with pytest.raises(InputError, match=r"a\.json: a: found 1, expected a file$"):
        read_json(tmp_path / "a.json", "a file", {"a": str})


def test_files_that_would_never_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, kind in (
        (tmp_path / "pipe", "a named pipe"),
        ("/dev/zero", "a device"),
        (tmp_path, "a folder"),
    ):
        with pytest.raises(InputError, match=f"found {kind}, expected a file"):
            require_regular(path, "a file")
    with pytest.raises(InputError, match="embedded null"):
        require_regular("a\0b", "a file")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        declared = file.create_dataset("a", (10**6, 10**6), "f4", chunks=(100, 100))
        with pytest.raises(InputError, match=r"declares 4000\.0 GB, of which the file holds 0 bytes"):
            require_stored(declared)
