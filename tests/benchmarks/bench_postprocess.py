"""Post-processing of a large run: seconds and memory for the catalogues of 10^4 sources from 10^3 patches.

    python tests/benchmarks/bench_postprocess.py --patches 1000 --json

The files of the patches are made up, in the layout that `PatchResult.write` gives them, in a temporary folder
(--folder says where; 160 kB for each source at 2000 draws and four bands, and the same again for the chain
catalogue). One source of each patch is in the next patch too.
"""

import argparse
import json
import re
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from fphojax import RunDirectory, SourceCatalog
from fphojax.results.products.run_products import write_catalogs

BANDS = ("F115W", "F200W", "F277W", "F444W")
RA, DEC = 53.1, -27.8
CENTRES = {"q": 0.7, "pa": 40.0, "sersic": 2.0, "rhalf": 0.2}
WIDTHS = {"ra": 1e-7, "dec": 1e-7, "q": 0.03, "pa": 4.0, "sersic": 0.2, "rhalf": 0.01}


def make_run(folder: Path, n_patch: int, n_source: int, n_chain: int, n_draw: int) -> RunDirectory:
    """A run whose patches hold draws of independent normal distributions."""
    run = RunDirectory.create(folder / "run")
    rng = np.random.default_rng(0)
    size = n_patch * n_source
    noise = rng.normal(size=(n_chain, n_draw, n_source + 1, len(BANDS) + len(WIDTHS)))
    for patch in range(n_patch):
        ids = (patch * n_source + np.arange(n_source + 1)) % size
        with h5py.File(run.samples_path(patch), "w") as file:
            write_patch(file, patch, ids, np.roll(noise, patch, axis=1))
    positions = RA + 1e-3 * np.arange(size)
    SourceCatalog.from_columns(
        id=np.arange(size), ra=positions, dec=np.full(size, DEC), flux=np.full((size, len(BANDS)), 100.0), q=0.7,
        pa=40.0, sersic=2.0, rhalf=0.2, bands=BANDS,
    ).write_forcepho(run.scene_path)  # fmt: skip
    return run


def write_patch(file: h5py.File, patch: int, ids, noise) -> None:
    """What post-processing reads of the result of a patch."""
    for name, value in {"ra": RA, "dec": DEC, "radius": 5.0}.items():
        file.attrs[f"region_{name}"] = np.array([value])
    file.attrs["method"] = "nuts"
    posterior, near = file.create_group("posterior"), file.create_group("at_bound")
    posterior["source"], posterior["band"] = ids, np.array(BANDS, dtype=object)
    posterior["flux"] = 100 + 5 * noise[..., : len(BANDS)]
    near["flux"] = np.zeros((len(ids), len(BANDS)))
    centres = CENTRES | {"ra": RA + 1e-3 * ids, "dec": DEC}
    for p, (name, width) in enumerate(WIDTHS.items(), start=len(BANDS)):
        posterior[name] = centres[name] + width * noise[..., p]
        near[name] = np.zeros(len(ids))
    file["active/roi"] = np.ones(len(ids))
    file["own_pixels/chi2"] = file["own_pixels/n_pixel"] = np.full((len(ids), 8), 100)
    file["sample_stats/diverging"] = np.zeros(noise.shape[:2], dtype="i1")
    file["sample_stats/lp"] = noise[:, :, 0, 0]


def peak_memory() -> float:
    """MB of this process, at most."""
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patches", type=int, default=100)
    parser.add_argument("--sources", type=int, default=10, help="of a patch")
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--draws", type=int, default=500, help="of a chain")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--folder", help="where to make the temporary folder")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    figures = {"sources": options.patches * options.sources, "patches": options.patches}
    figures["workers"] = options.workers
    figures["draws"] = options.chains * options.draws
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        run = make_run(Path(name), options.patches, options.sources, options.chains, options.draws)
        for key, chains in (("all", True), ("without_chains", False)):
            start = time.perf_counter()
            made = write_catalogs(run, chains=chains, workers=options.workers)
            figures[f"{key}_s"] = time.perf_counter() - start
            figures[f"{key}_peak_MB"] = peak_memory()
        assert len(made.final) == figures["sources"]
        figures["in_several_patches"] = len(set(made.multipatch["id"]))
    if options.json:
        print(json.dumps(figures))
        return
    for key, value in figures.items():
        print(f"{key:24s} {value:.4g}")


if __name__ == "__main__":
    main()
