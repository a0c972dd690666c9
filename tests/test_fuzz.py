"""Bytes of good files are changed at random: every reader takes what is left, or refuses it in one line.

The law. Files of users (images, catalogues, settings, PSF stores) have no checksum: what can still be read is
another input. State of the program's own (stores, catalogue, log, journal and record of a run, results) is refused,
or read as if nothing had happened; a journal may lack its last records, which were perhaps not written to the end.

Readers run in another process, so that a library that crashes or hangs is a failure like others: this file is its
program, too.
"""

import faulthandler
import hashlib
import importlib.util
import json
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

LONGEST = 20.0  # seconds of an example
JOURNALS = ("scene.journal", "store journal")
USERS = ("image", "catalogue FITS", "catalogue ECSV", "settings", "PSF store")


# ------------------------------------------------------------------------------------------------
# How files are spoilt


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Content with one to three changes."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        content = _MUTATIONS[rng.integers(len(_MUTATIONS))](bytearray(content), rng)
    return content


def _flip(content, rng):
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    return bytes(content)


def _byte(content, rng):
    content[rng.integers(len(content))] = int(rng.choice([0, 1, 0x20, 0x30, 0x39, 0x7F, 0x80, 0xFF]))
    return bytes(content)


def _cut(content, rng):
    return bytes(content[: 1 + int(len(content) * rng.uniform() ** 0.3)])


def _insert(content, rng):
    at = int(rng.integers(len(content)))
    return bytes(content[:at]) + rng.bytes(int(rng.integers(1, 100))) + bytes(content[at:])


def _remove(content, rng):
    at = int(rng.integers(len(content)))
    return bytes(content[:at] + content[at + int(rng.integers(1, 100)) :]) or b"\0"


def _swap(content, rng):
    size = int(rng.choice([1, 8, 80, 512]))
    a, b = (int(at) for at in rng.integers(max(len(content) - size, 1), size=2))
    content[a : a + size], content[b : b + size] = content[b : b + size], content[a : a + size]
    return bytes(content)


def _zeros(content, rng):
    at, size = int(rng.integers(len(content))), int(rng.choice([4, 80, 512]))
    content[at : at + size] = bytes(len(content[at : at + size]))
    return bytes(content)


def _digits(content, rng):
    """Another number, as text, in the first part of the file: cards of a header, values of JSON and YAML."""
    places = [at for at, byte in enumerate(content[:6000]) if chr(byte).isdigit()]
    if places:
        new = str(
            rng.choice(["-1", "0", "99999999", "1e400", "nan", "'a'", "true", "null", "[", "{"])
        ).encode()
        at = int(rng.choice(places))
        content[at : at + len(new)] = new
    return bytes(content)


def _card(content, rng):
    """Another value in a card of a FITS header, or just 80 other characters."""
    at = int(rng.integers(max(len(content) // 80, 1))) * 80
    value = str(rng.choice(["T", "-3", "1E99", "'x", "2880000000000", "", "'[a]'", "(1,2)"]))
    content[at + 10 : at + 80] = f"{value:>20}".ljust(70).encode()
    return bytes(content)


_MUTATIONS = (_flip, _flip, _byte, _cut, _insert, _remove, _swap, _zeros, _digits, _card)


# ------------------------------------------------------------------------------------------------
# The other process


def targets(folder: Path) -> dict:
    """By name: the file that is spoilt, and a function that reads it into what can be compared."""
    from fphojax.app.run.record import RunRecord
    from fphojax.app.settings.schema import Settings
    from fphojax.errors import InputError
    from fphojax.inputs.exposures import Exposure
    from fphojax.inputs.psf_store import PSFStore
    from fphojax.inputs.source_catalog import SourceCatalog
    from fphojax.inputs.stores.build_journal import BuildJournal
    from fphojax.inputs.stores.stored_exposures import open_stores
    from fphojax.inputs.stores.verification import store_problem
    from fphojax.results.patch_result import PatchResult
    from fphojax.results.products.patch_draws import read_patch_draws
    from fphojax.results.residuals import RunResiduals
    from fphojax.results.run_directory import RunDirectory
    from fphojax.results.scene_state import Journal, StateFiles

    stores, output = folder / "stores", folder / "run" / "output"
    state = StateFiles(output / "scene.fits")
    samples, store = output / "patches" / "patch0_samples.nc", (stores / "pixels.h5", stores / "meta.json")

    def exposures(_):
        found = []
        for exposure in open_stores(*store):
            if problem := store_problem(exposure):
                raise InputError(problem)
            ny, nx = exposure.shape
            found += [exposure.name, exposure.band, exposure.header_text, exposure.psf_image, exposure.shape]
            found += [exposure.psf_includes_pixel, exposure.footprint, *exposure.window(0, nx, 0, ny)]
        return found

    def residuals(_):
        found = RunResiduals(RunDirectory(output))
        return [vars(found.read(*exposure)) for exposure in found.exposures]

    def result(path):
        whole, draws = PatchResult.read(path), read_patch_draws(path, 0)
        return [_catalogue(whole.final_catalog()), _catalogue(whole.active), whole.block_covs(), draws.values]

    def bounds(_):
        return state.read_bounds(("g", "r"))

    return {
        "image": (folder / "run" / "g1.fits", lambda path: bool(Exposure.from_fits(path))),
        "catalogue FITS": (folder / "run" / "peaks.fits", lambda path: _catalogue(SourceCatalog.read(path))),
        "catalogue ECSV": (folder / "run" / "peaks.ecsv", lambda path: _catalogue(SourceCatalog.read(path))),
        "settings": (folder / "run" / "field.yml", lambda path: Settings.from_yaml(path).to_json()),
        "PSF store": (folder / "run" / "psfs.h5", lambda path: bool(PSFStore.open(path))),
        "pixel store": (store[0], exposures),
        "meta store": (store[1], exposures),
        "store journal": (folder / "journal.jsonl", lambda path: list(BuildJournal(path).records())),
        "scene": (state.catalog, lambda path: _catalogue(SourceCatalog.read(path))),
        "bounds": (state.bounds, bounds),
        "covariances": (state.covariances, lambda _: state.read_covariances()),
        "log": (state.log, lambda _: state.read_log()),
        "scene.journal": (folder / "scene.journal", lambda path: list(Journal(path).records())),
        "config": (output / "config.json", lambda _: dict(RunDirectory(output).read_config())),
        "record": (folder / "record.json", lambda path: dict(RunRecord(path)._entries)),
        "result": (samples, result),
        "residuals": (output / "patches" / "patch0_residuals.h5", residuals),
    }


def _catalogue(catalog):
    names = ("id", "ra", "dec", "flux", "flux_err", "q", "pa", "sersic", "rhalf", "roi", "bands")
    return [getattr(catalog, name) for name in names]


def _print(value) -> str:
    """A finger print of arrays, numbers and texts in lists and dicts."""
    if isinstance(value, dict):
        value = sorted((str(key), _print(part)) for key, part in value.items())
    elif isinstance(value, list | tuple):
        value = [_print(part) for part in value]
    elif isinstance(value, np.ndarray):
        value = value.shape, value.dtype.kind, value.tolist()
    return hashlib.sha256(pickle.dumps(repr(value))).hexdigest()


def child(folder: Path, first: int, last: int) -> None:
    """Try examples, and print a line before and after each."""
    from fphojax.errors import InputError

    warnings.simplefilter("ignore")
    readers = targets(folder)
    names = list(readers)
    good = {name: read(path) for name, (path, read) in readers.items()}
    known = {name: path.read_bytes() for name, (path, _) in readers.items()}
    for number in range(first, last):
        rng = np.random.default_rng(number)
        name = names[number % len(names)]
        path, read = readers[name]
        print(json.dumps({"number": number, "name": name}), flush=True)
        faulthandler.dump_traceback_later(LONGEST, exit=True)
        path.write_bytes(mutated(known[name], rng))
        try:
            found = read(path)
            if name in JOURNALS:
                same = _print(found) in [_print(good[name][:n]) for n in range(len(good[name]) + 1)]
            else:
                same = name in USERS or _print(found) == _print(good[name])
            verdict = "read" if same else "CHANGED"
        except InputError as error:
            verdict = "refused" if "\n" not in str(error) or name == "settings" else f"LINES: {error}"
        except Exception as error:
            verdict = f"TRACE: {type(error).__name__}: {error}"
            if "--debug" in sys.argv:
                raise
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps({"number": number, "verdict": verdict}), flush=True)
        path.write_bytes(known[name])


# ------------------------------------------------------------------------------------------------
# The tests


def _harness():
    sys.path.append(str(Path(__file__).parent / "fixtures"))  # pytest does so in its own process
    path = Path(__file__).parent / "app" / "bad_inputs" / "conftest.py"
    spec = importlib.util.spec_from_file_location("tiny_field", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_tiny = _harness()
good_field, good_stores, good_run = _tiny.good_field, _tiny.good_stores, _tiny.good_run


@pytest.fixture(scope="module")
def files(good_stores, good_run, tmp_path_factory):
    """A folder with a good file of every kind."""
    from fphojax.app.run.outcome import Outcome
    from fphojax.inputs.stores.build_journal import BuildJournal
    from fphojax.results.patch_journal import CheckIn, Journal
    from fphojax.system.json_files import write_json

    folder = tmp_path_factory.mktemp("fuzz")
    shutil.copytree(good_stores, folder / "stores")
    shutil.copytree(good_run, folder / "run")
    journal = Journal(folder / "scene.journal")
    for number in range(4):
        entry = json.dumps({"taskID": number, "n_iter": 3, "sources": [number]})
        values = np.arange(8.0)[None] + number
        journal.append(CheckIn(number, entry, np.array([[3, number]]), values, np.ones((1, 36))))
    build = BuildJournal(folder / "journal.jsonl")
    build.append({"recipe": {"a": 1}})
    for name in ("g1", "r1", "r2"):
        build.append({"band": name[0], "name": name, "stamp": name, "header": 40 * name})
    outcome = Outcome("pass", "good", {}, {"run": "output"}, 1.0)
    write_json(folder / "record.json", {"01_check_inputs": {"key": "a", "outcome": vars(outcome)}})
    return folder


def failures(files, first, last):
    """What went wrong in examples; how many there were of each verdict."""
    wrong, counts, number = [], {}, first
    while number < last:
        command = [sys.executable, __file__, str(files), str(number), str(last)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"number"')]
        if not lines:
            raise RuntimeError(done.stderr)
        names = {line["number"]: line["name"] for line in lines if "name" in line}
        for line in lines:
            if "verdict" in line:
                kind = line["verdict"].split(":")[0]
                counts[kind] = counts.get(kind, 0) + 1
                if kind not in ("read", "refused"):
                    wrong.append(f"{line['number']} {names[line['number']]}: {line['verdict']}")
        number = lines[-1]["number"] + 1
        if "verdict" not in lines[-1]:
            wrong.append(
                f"{number - 1} {names[number - 1]}: died with {done.returncode}\n{done.stderr[-1500:]}"
            )
    return wrong, counts


def test_some_spoilt_files(files):
    wrong, counts = failures(files, 0, 51)
    print(counts)
    assert wrong == []
    assert counts["refused"] > 20


@pytest.mark.slow
def test_many_spoilt_files(files):
    wrong, counts = failures(files, 1000, 1510)
    print(counts)
    assert wrong == []
    assert sum(counts.values()) >= 500


def test_unspoilt_files_are_read(files):
    """The readers of this test can read: else they would refuse everything."""
    for name, (path, read) in targets(files).items():
        assert _print(read(path)) == _print(read(path)), name


if __name__ == "__main__":
    child(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
