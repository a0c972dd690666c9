"""Processor time that the files of a patch take: draws (netCDF) and residuals (HDF5).

python tests/benchmarks/bench_patch_files.py
"""

import tempfile
import time
from pathlib import Path

from fphojax.field.scene_fit import fit_scene
from fphojax.inference.methods import Laplace
from fphojax.results.residuals import write_residuals
from fphojax.simulate.mock_fields import demo_field

TIMES = 20


def main():
    field = demo_field()
    fit = fit_scene(field.exposures, field.psfs, field.peaks, Laplace(draws=500, chains=4))
    values = fit.median()
    with tempfile.TemporaryDirectory() as folder:
        for name, write in (
            ("draws", lambda: fit.result.write(Path(folder, "draws.nc"))),
            ("residuals", lambda: write_residuals(Path(folder, "residuals.h5"), fit.scene, values)),
        ):
            write()  # once before, for what is compiled and imported
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(TIMES):
                write()
            wall, cpu = (time.perf_counter() - wall) / TIMES, (time.process_time() - cpu) / TIMES
            print(f"{name:10s} {1000 * cpu:5.1f} ms of processor, {1000 * wall:5.1f} ms with the disk")


if __name__ == "__main__":
    main()
