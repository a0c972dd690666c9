"""Run the tutorials from top to bottom, and say how long each took and how much memory.

    python tests/run_notebooks.py [--few] [--jobs N] [--limit GB] [--out DIR] [NOTEBOOK ...]

Memory is that of all processes that a notebook starts, looked at twice a second: the sum of their proportional set
sizes, in which pages that n processes share count 1/n each (where the system tells no more, of their resident sets).
A limit on address space (`ulimit -v`) would say nothing: JAX reserves far more than it uses.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
FEW = {"draws": 40, "warmup": 40, "n_scene": 6}  # instead of a notebook's own, where it has them
DEMO = Path(__file__).parents[1] / "demo" / "run"  # looked at where it is there, else made by the notebook


def parameters_of(path: Path) -> str:
    """The cell of a notebook that says what may be set."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "".join(*(cell["source"] for cell in cells if "parameters" in cell["metadata"].get("tags", [])))


def memory_of(process: psutil.Process) -> float:
    """Memory of a process and all below it, GB."""
    total = 0
    for each in [process, *process.children(recursive=True)]:
        try:
            used = each.memory_full_info()
        except psutil.NoSuchProcess:
            continue
        total += getattr(used, "pss", used.rss)
    return total / 1e9


def stop(process: psutil.Process) -> None:
    """Kill a process and all below it."""
    for each in [*process.children(recursive=True), process]:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue


def run(path: Path, scratch: Path, *, out: Path | None, few: bool, limit: float) -> str | None:
    """Run a notebook in a folder of its own below `scratch`, and keep it in `out`; return what went wrong."""
    folder = scratch / path.stem
    folder.mkdir()
    executed = scratch / path.name
    values = (FEW if few else {}) | ({"run": DEMO} if DEMO.is_dir() else {})
    given = parameters_of(path)
    chosen = [str(word) for name, n in values.items() if f"{name} = " in given for word in ("-p", name, n)]
    quiet = ["--no-progress-bar", "--log-level", "ERROR"]
    command = [sys.executable, "-m", "papermill", *quiet, "--cwd", str(folder), *chosen]
    command += [str(path), str(executed)]
    start, peak = time.perf_counter(), 0.0
    with tempfile.TemporaryFile("w+") as log:
        process = psutil.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max(peak, memory_of(process))
            if peak > limit:
                stop(process)
                process.wait()
                return f"{path.stem}: found {peak:.2f} GB, expected at most {limit:g}"
            time.sleep(0.5)
        seconds = time.perf_counter() - start
        if process.returncode != 0:
            log.seek(0)
            return f"{path.stem}: failed after {seconds:.0f} s\n{log.read()}"
    if out is not None:
        shutil.copy(executed, out)
    print(f"{path.stem}: passed in {seconds:.0f} s, {peak:.2f} GB", flush=True)
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="by default all tutorials")
    parser.add_argument("--few", action="store_true", help="few draws: only to see that they run")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    parser.add_argument("--limit", type=float, default=float("inf"), help="memory of one, GB")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder that keeps executed notebooks; by default none does",
    )
    options = parser.parse_args()
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    keep = {"out": options.out, "few": options.few, "limit": options.limit}
    paths = [path.resolve() for path in options.notebooks] or sorted(NOTEBOOKS.glob("*.ipynb"))
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(options.jobs) as pool:
        found = list(pool.map(lambda path: run(path, Path(scratch), **keep), paths))
    problems = [problem for problem in found if problem is not None]
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(paths) - len(problems)} passed, {len(problems)} failed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
