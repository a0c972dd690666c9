"""A tiny field for tests to spoil, and what every refusal has in common."""

import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from astropy.io import fits
from standard_error import problems
from typer.testing import CliRunner

from fphojax.app.cli import app
from fphojax.inputs.psf_store import PSFMixture, PSFStore
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.simulate.mock_exposures import ExposureSpec, simulate_exposures, write_exposure

RA, DEC, SIDE = 150.0, 2.0, 24
SETTINGS = {
    "bandlist": ["g", "r"],
    "raw_catalog": "peaks.ecsv",
    "fitsfiles": ["g1.fits", "r1.fits"],
    "n_gauss_psf": 1,
    "bounds_kwargs": {"n_pix": 3, "pixscale": 0.1},
    "sampler": "laplace",
    "chains": 1,
    "sampling_draws": 20,
}
STORES = {"pixelstorefile": "pixels.h5", "metastorefile": "meta.json"}


class TinyField:
    """Files of a small run in a folder, settings in ``field.yml``, and ways to spoil them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.config = folder / "field.yml"

    def path(self, name: str) -> Path:
        return self.folder / name

    def set(self, **changes) -> None:
        """Other values of some settings; None takes a key away."""
        settings = yaml.safe_load(self.config.read_text()) | changes
        kept = {key: value for key, value in settings.items() if value is not None}
        self.config.write_text(yaml.safe_dump(kept))

    def write(self, name: str, content: str | bytes) -> None:
        path = self.path(name)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def replace(self, name: str, old: str, new: str) -> None:
        """Other text in a file."""
        text = self.path(name).read_text()
        assert old in text
        self.path(name).write_text(text.replace(old, new))

    def become(self, name: str, kind: str) -> None:
        """Something else in the place of a file."""
        path = self.path(name)
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        match kind:
            case "absent":
                pass
            case "folder":
                path.mkdir()
            case "pipe":
                os.mkfifo(path)
            case "device":
                path.symlink_to("/dev/zero")
            case "loop":
                path.symlink_to(path)
            case "empty":
                path.touch()
            case "noise":
                path.write_bytes(np.random.default_rng(0).bytes(5000))
            case "text":
                path.write_text("not what it should be\n")

    def cut(self, name: str, part: float = 0.5) -> None:
        """The first part of a file."""
        content = self.path(name).read_bytes()
        self.path(name).write_bytes(content[: int(part * len(content))])

    def flip(self, name: str, where: float) -> None:
        """Another bit at a place between 0 and 1."""
        content = bytearray(self.path(name).read_bytes())
        content[int(where * (len(content) - 1))] ^= 0x10
        self.path(name).write_bytes(content)

    def fits(self, change, name: str = "g1.fits") -> None:
        """Change the HDUs of a file."""
        with fits.open(self.path(name), memmap=False, lazy_load_hdus=False) as hdus:
            for hdu in hdus:
                _ = hdu.data
            change(hdus)
            hdus.writeto(self.path(name), overwrite=True, output_verify="ignore")

    def hdf5(self, change, name: str = "pixels.h5") -> None:
        """Change an HDF5 file."""
        with h5py.File(self.path(name), "r+") as file:
            change(file)

    def json(self, change, name: str) -> None:
        """Change the content of a JSON file, without its seal."""
        content = json.loads(self.path(name).read_text())
        content.pop("seal", None)
        self.path(name).write_text(json.dumps(change(content)))

    def listing(self) -> dict:
        """Every file with its size and time, and every folder: a lock that came and went changes its time."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            status = path.lstat()
            of_file = () if path.is_dir() else (status.st_size, status.st_mtime_ns)
            found[str(path.relative_to(self.folder))] = of_file
        return found

    def call(self, *arguments):
        """Run a command; {} in an argument stands for the folder."""
        return CliRunner().invoke(app, [str(a).replace("{}", str(self.folder)) for a in arguments])

    def refused(self, *arguments, said: list[list[str]]) -> None:
        """A command is refused for what is wrong with its input, one line for each fault, and writes nothing.

        Parameters
        ----------
        *arguments
            The command; by default ``check`` of the settings.
        said : list of list of str
            For each line, parts of it; every line names the file first.
        """
        before = self.listing()
        result = self.call(*(arguments or ("check", "{}/field.yml")))
        print(result.stderr)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 2, result.output
        lines = problems(result.stderr.replace(f"{self.folder}/", ""))
        assert all(line.startswith("error: ") for line in lines)
        assert len(lines) == len(said)
        for line, parts in zip(lines, said, strict=True):
            assert line.startswith(f"error: {parts[0]}")
            for part in parts:
                assert part in line
        assert self.listing() == before


@pytest.fixture(scope="session")
def good_field(tmp_path_factory):
    """A folder with images, catalogue, PSF store and settings."""
    folder = tmp_path_factory.mktemp("good")
    sources = SourceCatalog.from_columns(
        ra=RA + np.array([0.0, 2e-4]),
        dec=[DEC, DEC + 1e-4],
        flux=[[80.0, 120.0], [50.0, 60.0]],
        q=0.7,
        pa=0.5,
        sersic=2.0,
        rhalf=0.2,
        bands=("g", "r"),
        id=[7, 8],
    )
    psf = PSFMixture([1.0], [[0.0, 0.0]], [[1.4, 1.4, 0.0]], includes_pixel=True)
    specs = [
        ExposureSpec(band, f"{band}1", (SIDE, SIDE), 0.1, angle, RA, DEC, psf, noise=0.1)
        for band, angle in (("g", 10.0), ("r", 70.0))
    ]
    for exposure in simulate_exposures(sources, specs, seed=1):
        write_exposure(exposure, folder / f"{exposure.name}.fits")
    sources.write(folder / "peaks.ecsv")
    sources.write(folder / "peaks.fits")
    store = PSFStore()
    for band in ("g", "r"):
        store.add(psf, band)
    store.write(folder / "psfs.h5")
    (folder / "field.yml").write_text(yaml.safe_dump(SETTINGS))
    return folder


@pytest.fixture(scope="session")
def good_stores(good_field, tmp_path_factory):
    """The same with pixel and meta store."""
    folder = tmp_path_factory.mktemp("stores") / "field"
    shutil.copytree(good_field, folder)
    field = TinyField(folder)
    field.set(**STORES)
    result = field.call("preprocess", "{}/field.yml", "--quiet")
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="session")
def good_run(good_field, tmp_path_factory):
    """The same with the folder of a finished run."""
    folder = tmp_path_factory.mktemp("run") / "field"
    shutil.copytree(good_field, folder)
    result = TinyField(folder).call("sample", "{}/field.yml", "--quiet")
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def copied(tmp_path):
    """Function that makes a copy of a folder to spoil."""

    def copy(folder):
        target = tmp_path / str(len(list(tmp_path.iterdir()))) / "field"
        shutil.copytree(folder, target)
        return TinyField(target)

    return copy


@pytest.fixture
def tiny(good_field, copied):
    return copied(good_field)


@pytest.fixture
def stored(good_stores, copied):
    return copied(good_stores)


@pytest.fixture
def finished(good_run):
    """In its own place, as a run knows the places of its inputs."""
    whole = good_run.with_name("whole")
    if whole.exists():
        shutil.rmtree(good_run)
        shutil.copytree(whole, good_run)
    else:
        shutil.copytree(good_run, whole)
    return TinyField(good_run)
