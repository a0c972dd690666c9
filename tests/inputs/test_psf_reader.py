"""HDF5 files that should be PSF stores: whatever else they hold is refused in one line, and soon."""

import os
import time

import h5py
import numpy as np
import pytest

from fphojax.errors import InputError
from fphojax.inputs.psf_layout import FIELDS, repeated, table
from fphojax.inputs.psf_store import PSFMixture, PSFStore

DTYPE = [(name, "f8") for name in FIELDS]


def mixture(**changes):
    values = {
        "amplitudes": [0.6, 0.4],
        "means": np.zeros((2, 2)),
        "covariances": [[2.0, 2.0, 0.0], [9.0, 8.0, 0.5]],
        "includes_pixel": True,
    }
    return PSFMixture(**values | changes)


ROWS = table([mixture()])
TWO = table([mixture(), mixture()])


def rows(**fields):
    """The parameters with other values of the first Gaussian (or, of a tuple, all)."""
    out = ROWS.copy()
    for name, value in fields.items():
        if isinstance(value, tuple):
            out[name][0] = value
        else:
            out[name][0, 0] = value
    return out


def typed(name, dtype):
    return np.zeros((1, 2), [(field, dtype if field == name else "f8") for field in FIELDS])


def parameters(value, **attributes):
    def make(file):
        file["g/parameters"] = value
        file["g"].attrs.update(attributes)

    return make


def places(value, parameters=TWO):
    def make(file):
        file["g/parameters"] = parameters
        file["g/detector_locations"] = value

    return make


def declared(key, shape, dtype, **options):
    def make(file):
        file["g/parameters"] = ROWS
        if key in file:
            del file[key]
        file.create_dataset(key, shape, dtype, **options)

    return make


def virtual(file):
    layout = h5py.VirtualLayout((1, 2), ROWS.dtype)
    layout[:] = h5py.VirtualSource("other.h5", "data", (1, 2), ROWS.dtype)
    file.create_virtual_dataset("g/parameters", layout)


def external(file):
    file.create_dataset("g/parameters", (1, 2), ROWS.dtype, external=[("other.bin", 0, 96)])


def linked(key, link):
    def make(file):
        file["g/parameters"] = ROWS
        if key in file:
            del file[key]
        file[key] = link

    return make


def origins(value):
    def make(file):
        file["g/parameters"] = ROWS
        file["g/made_from"] = value

    return make


def errors(value):
    def make(file):
        file["g/parameters"] = ROWS
        file["g/fit_errors"] = value

    return make


def number(file):
    file["g"] = np.arange(3)


def group_for_parameters(file):
    file.create_group("g/parameters")


def group_for_places(file):
    file["g/parameters"] = TWO
    file.create_group("g/detector_locations")


def type_for_group(file):
    file["g"] = np.dtype("f8")


def reference_rows(file):
    file.create_dataset("g/parameters", (1, 2), [("amp", h5py.ref_dtype), *DTYPE[1:]])


def text_rows(file):
    file.create_dataset("g/parameters", (1, 2), [("amp", h5py.string_dtype()), *DTYPE[1:]])


def many_values(file):
    file["g/parameters"] = ROWS
    file["g"].attrs.create("includes_pixel", np.zeros(4000, bool))


def not_utf8(file):
    file.create_group("g")
    h5py.h5g.create(file.id, b"\xff\xfe")


def seven_in_an_exposure(file):
    file["g/e1/parameters"] = ROWS
    file["g/e1"].attrs["includes_pixel"] = 7


def many_radii(file):
    made = np.tile(repeated(ROWS, 1), (1, 1000))
    made["sersic_bin"] = np.arange(2000)
    file["g/parameters"] = made


WIDE, TINY = {"Cxx": (1e18, 9.0), "Cyy": (1e18, 8.0)}, {"Cxx": 1e-18, "Cyy": 1e-18}

# kind: how the file is made, what the message names, what else it says
BAD = {
    "dataset in place of a group": (number, "/g", "is a dataset, expected a group"),
    "type in place of a group": (type_for_group, "/g", "is a datatype, expected a group"),
    "group in place of parameters": (group_for_parameters, "/g/parameters", "is a group, expected a dataset"),
    "group in place of locations": (group_for_places, "/g/detector_locations", "is a group, expected a"),
    "soft link to a group": (linked("h", h5py.SoftLink("/g")), "/h", "is a link to /g, expected"),
    "soft link to nothing": (linked("h", h5py.SoftLink("/no")), "/h", "is a link to /no, expected"),
    "external link": (linked("h", h5py.ExternalLink("/etc/passwd", "/g")), "/h", "is a link to /etc/passwd /g"),
    "link in a band": (linked("g/e1", h5py.SoftLink("/g")), "/g/e1", "is a link to /g"),
    "parameters are a link": (linked("g/parameters", h5py.SoftLink("/x")), "/g/parameters", "is a link to /x"),
    "locations are a link": (
        linked("g/detector_locations", h5py.ExternalLink("a.h5", "x")),
        "/g/detector_locations",
        "is a link to a.h5 x",
    ),
    "virtual dataset": (virtual, "/g/parameters", "in another file"),
    "external storage": (external, "/g/parameters", "in another file"),
    "10^12 rows declared": (
        declared("g/parameters", (10**6, 10**6), DTYPE, chunks=(1, 1000)),
        "/g/parameters",
        "has shape (1000000, 1000000), expected at most 1,000,000 Gaussians",
    ),
    "rows declared and not stored": (
        declared("g/parameters", (10, 100), DTYPE, chunks=(1, 100)),
        "/g/parameters",
        "no stored values, expected",
    ),
    "10^12 locations declared": (
        declared("g/detector_locations", (10**12, 2), "f8", chunks=(1000, 2)),
        "/g/detector_locations",
        "has shape (1000000000000, 2), expected",
    ),
    "locations not stored": (
        declared("g/detector_locations", (1, 2), "f8", chunks=(1, 2)),
        "/g/detector_locations",
        "no stored values, expected 1 positions",
    ),
    "no rows": (parameters(np.zeros((0, 2), DTYPE)), "/g/parameters", "has shape (0, 2), expected"),
    "no Gaussians": (parameters(np.zeros((2, 0), DTYPE)), "/g/parameters", "has shape (2, 0), expected"),
    "a single row": (parameters(np.zeros((), DTYPE)), "/g/parameters", "has shape (), expected"),
    "three axes": (parameters(np.zeros((1, 1, 2), DTYPE)), "/g/parameters", "has shape (1, 1, 2), expected"),
    "null": (lambda file: file.create_dataset("g/parameters", data=h5py.Empty(DTYPE)), "/g/parameters", "None"),
    "plain numbers": (parameters(np.ones((1, 6))), "/g/parameters", "holds float64, expected the fields"),
    "text": (parameters("text"), "/g/parameters", "holds object, expected the fields"),
    "pickle": (parameters(np.void(b"\x80\x04.")), "/g/parameters", "expected the fields"),
    "fields of text": (text_rows, "/g/parameters", "field amp is of type object, expected plain numbers"),
    "fields of references": (reference_rows, "/g/parameters", "field amp is of type object"),
    "fields of bytes": (parameters(typed("Cxx", "S8")), "/g/parameters", "field Cxx is of type |S8"),
    "fields of complex numbers": (parameters(typed("Cxy", "c16")), "/g/parameters", "is of type complex128"),
    "fields of booleans": (parameters(typed("xcen", "?")), "/g/parameters", "field xcen is of type bool"),
    "fields of arrays": (parameters(typed("ycen", ("f8", 3))), "/g/parameters", "field ycen is of type ("),
    "field missing": (
        parameters(np.zeros((1, 2), DTYPE[:-1])),
        "/g/parameters",
        "no field Cxy, expected amp, xcen",
    ),
    "too many radii": (many_radii, "/g/parameters", "2000 values of sersic_bin, expected at most 1000"),
    "includes_pixel is text": (parameters(ROWS, includes_pixel="yes"), "/g", "includes_pixel is 'yes', expected"),
    "includes_pixel is False in text": (
        parameters(ROWS, includes_pixel="False"),
        "/g",
        "includes_pixel is 'False', expected true or false",
    ),
    "includes_pixel is an array": (
        parameters(ROWS, includes_pixel=[True, False]),
        "/g",
        "attribute includes_pixel is [True, False], expected",
    ),
    "includes_pixel is long": (many_values, "/g", "is [False, False, False, False, False, Fals..., expected"),
    "includes_pixel is 7": (seven_in_an_exposure, "/g/e1", "attribute includes_pixel is 7, expected"),
    "includes_pixel is NaN": (parameters(ROWS, includes_pixel=np.nan), "/g", "includes_pixel is nan, expected"),
    "n_psf_per_source is wrong": (
        parameters(ROWS, n_psf_per_source=18),
        "/g",
        "n_psf_per_source is 18, expected 2",
    ),
    "n_psf_per_source is text": (
        parameters(ROWS, n_psf_per_source="2"),
        "/g",
        "n_psf_per_source is '2', expected 2, the Gaussians",
    ),
    "n_psf_per_source is an array": (
        parameters(ROWS, n_psf_per_source=[2, 2]),
        "/g",
        "n_psf_per_source is [2, 2], expected 2",
    ),
    "made_from of other length": (origins(np.array([b"a", b"b"])), "/g/made_from", "has shape (2,), expected (1,)"),
    "made_from of numbers": (origins(np.array([1.0])), "/g/made_from", "holds float64, expected short texts"),
    "made_from of objects": (origins("text"), "/g/made_from", "holds object, expected short texts"),
    "fit_errors of other length": (errors(np.zeros((2, 2))), "/g/fit_errors", "has shape (2, 2), expected (1, 2)"),
    "fit_errors of text": (errors(np.array([b"a"])), "/g/fit_errors", "expected (locations, 2) numbers"),
    "fields of a megabyte": (
        declared("g/parameters", (1000, 2), [*DTYPE, ("more", "f8", (200_000,))], chunks=(1, 1)),
        "/g/parameters",
        "has shape (1000, 2), expected at most 1,000,000 Gaussians of a few numbers",
    ),
    "name not UTF-8": (not_utf8, "psf.h5", "has a member named b'\\xff\\xfe', expected a printable name"),
    "locations of one axis": (places([1.0, 2.0]), "/g", "has shape (2,), expected (2, 2)"),
    "locations in three axes": (places(np.eye(3)[:2]), "/g", "has shape (2, 3), expected (2, 2)"),
    "locations of text": (places(np.full((2, 2), b"a")), "/g/detector_locations", "holds |S1, expected pixels"),
    "location NaN": (places([[0, np.nan], [1, 1]]), "/g, location 0", "detector location is (0.0, nan)"),
    "location infinite": (places([[0, 0], [np.inf, 1]]), "/g, location 1", "detector location is (inf, 1.0)"),
    "location twice": (places([[5, 6], [5, 6]]), "/g/detector_locations", "(5, 6) is there 2 times"),
    "locations missing": (parameters(TWO), "/g", "no detector location"),
    "flux 0": (parameters(rows(amp=(0.0, 0.0))), "/g", "total flux is 0, expected"),
    "flux negative": (parameters(rows(amp=(-1.0, 0.0))), "/g", "total flux is -1, expected"),
    "flux 100": (parameters(rows(amp=(60.0, 40.0))), "/g", "total flux is 100, expected 0.5 to 1.5"),
    "flux 0.01": (parameters(rows(amp=(0.006, 0.004))), "/g", "total flux is 0.01, expected 0.5 to 1.5"),
    "amplitudes cancel": (parameters(rows(amp=(1e6, 1 - 1e6))), "/g", "amplitude of Gaussian 0 is 1e+06"),
    "amplitude NaN": (parameters(rows(amp=np.nan)), "/g", "amplitudes holds nan, expected finite values"),
    "amplitude infinite": (parameters(rows(amp=np.inf)), "/g", "amplitudes holds inf"),
    "centroid far off": (parameters(rows(xcen=(40.0, 40.0))), "/g", "centroid is (40, 0) pixels off the source"),
    "mean 1e300": (parameters(rows(ycen=1e300)), "/g", "centroid is (0, 6e+299)"),
    "position NaN": (parameters(rows(xcen=np.nan)), "/g", "means holds nan"),
    "width 1e-9": (parameters(rows(**TINY)), "/g", "Gaussian 0 is 1e-09 x 1e-09 pixels wide (sigma), expected 0.01"),
    "width 1e9": (parameters(rows(**WIDE)), "/g", "Gaussian 0 is 1e+09 x 1e+09 pixels wide"),
    "needle": (parameters(rows(Cxy=2 - 1e-9)), "/g", "pixels wide (sigma), expected 0.01"),
    "covariance negative": (parameters(rows(Cxx=-1.0)), "/g", "covariance of Gaussian 0"),
    "covariance NaN": (parameters(rows(Cyy=np.nan)), "/g", "covariances holds nan"),
    "nothing in a band": (lambda file: file.create_group("g"), "/g", "has no dataset `parameters`"),
    "nothing in an exposure": (lambda file: file.create_group("g/e1"), "/g/e1", "has no dataset `parameters`"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_psf_store_is_refused_in_one_line(kind, tmp_path):
    make, where, words = BAD[kind]
    path = tmp_path / "psf.h5"
    with h5py.File(path, "w") as file:
        make(file)
    before, start = path.read_bytes(), time.perf_counter()
    with pytest.raises(InputError) as caught:
        PSFStore.open(path)
    message = str(caught.value)
    print(message)
    assert time.perf_counter() - start < 2
    assert message.startswith(str(path))
    assert where in message
    assert words in message
    assert "expected" in message
    assert message.isprintable()
    assert len(message) < len(str(path)) + 250
    assert path.read_bytes() == before


def test_a_pipe_or_a_folder_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    for path, kind in ((tmp_path / "pipe.h5", "a named pipe"), (tmp_path, "a folder")):
        with pytest.raises(InputError, match=f"{path}: found {kind}, expected a PSF store"):
            PSFStore.open(path)


@pytest.mark.parametrize("value", [1, 0, np.True_, np.False_, np.int8(1)])
def test_flags_as_programs_write_them(value, tmp_path):
    with h5py.File(tmp_path / "psf.h5", "w") as file:
        parameters(ROWS, includes_pixel=value, n_psf_per_source=2)(file)
        file["g/made_from"] = np.array([b"abc"])
    found = PSFStore.open(tmp_path / "psf.h5").lookup("g")
    assert found.includes_pixel == bool(value)
    assert found.made_from == "abc"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"amplitudes": [230.0, 0.5]}, "PSF of g: total flux is 230.5, expected 0.5 to 1.5"),
        ({"means": [[9.0, 0.0], [9.0, 0.0]]}, r"PSF of g: centroid is \(9, 0\) pixels off the source"),
        ({"covariances": [[1e-6, 1e-6, 0.0]] * 2}, "PSF of g: Gaussian 0 is 0.001 x 0.001 pixels wide"),
    ],
)
def test_what_is_no_psf_does_not_come_into_a_store(change, words):
    with pytest.raises(InputError, match=words):
        PSFStore().add(mixture(**change), "g")


def test_odd_psfs_are_psfs(tmp_path):
    """Negative Gaussians, wide wings, a core off the source by a pixel, half of the flux: real ones have them."""
    odd = [
        mixture(amplitudes=[3.0, -2.0]),
        mixture(covariances=[[2.0, 2.0, 0.0], [1e6, 1e6, 0.0]]),
        mixture(means=[[1.0, 0.5], [0.0, 0.0]]),
        mixture(amplitudes=[0.4, 0.2]),
    ]
    store = PSFStore()
    for i, psf in enumerate(odd):
        store.add(psf, "g", f"e{i}")
    store.write(tmp_path / "psf.h5")
    assert PSFStore.open(tmp_path / "psf.h5").exposures("g") == ["e0", "e1", "e2", "e3"]
