"""Compare model images with exact ones on the full grid, print a table and keep it beside this file.

    python tests/validation/validate_truth.py [--reference FOLDER]

The grid and both kinds of images are those of `tests/test_truth.py`; this takes some minutes.
"""

import argparse
import os
import sys
from itertools import product
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import test_truth as truth  # noqa: E402

HEAD = """# Images against exact ones

Made by `tests/validation/validate_truth.py`. GalSim's Sersic profiles through PSFs of Gaussians and square pixels,
against the package's images in float32 with the quartic pixel response and without culling, for n in {n}, r_h in
{rhalf} pixels, q in {q} and the PSFs {psfs} (sigma of a circular Gaussian in pixels; two: two elongated Gaussians,
off centre); one random sub-pixel offset and angle for each. Stamps are squares of 16 half-light radii of the image,
at least 32 pixels. *flux*: relative error of the flux inside the stamp; *L2*: norm of the residual over the norm of
the exact image; both in units of 1e-3, at the worst of all q and PSFs, with the place (q / PSF) behind. Limits: flux
2, L2 2 (n <= 4) and 3 (n = 6).

*fixed radii*: forcepho's kind of table, which holds n from 1 to 5 and r_h from 0.02" to 0.36"; pixels are of 0.03",
for r_h = 0.5 of 0.04" and for r_h = 30 of 0.012", so that r_h lies in it.
"""


def cell(rows, name, limit):
    """The worst error in 1e-3 and its place, bold beyond the limit."""
    row = truth.worst(rows, name)
    if row is None:
        return ""
    value = getattr(row, name)
    mark = "**" if abs(value) > limit else ""
    return f"{mark}{1e3 * value:.3f}{mark} ({row.q:g} / {row.psf})"


def table_of(rows):
    """Markdown table: n and r_h, worst flux and L2."""
    lines = ["| n | r_h | flux | L2 |", "| --- | --- | --- | --- |"]
    for n, rhalf in product(truth.SERSIC, truth.RHALF):
        some = [row for row in rows if (row.sersic, row.rhalf) == (n, rhalf)]
        if some:
            flux, l2 = cell(some, "flux", truth.FLUX_LIMIT), cell(some, "l2", truth.l2_limit(n))
            lines.append(f"| {n:g} | {rhalf:g} | {flux} | {l2} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, default=ROOT / "../shared/reference")
    args = parser.parse_args()
    fixed, fixed_sersic = truth.load_fixed(args.reference)
    found = {"scale-free": [], "fixed radii": []}
    for n, rhalf, q in product(truth.SERSIC, truth.RHALF, truth.AXIS_RATIO):
        scene = truth.make_scene(truth.Case(n, rhalf, q))
        images = {"scale-free": truth.Model.of(scene).images()}
        if n in fixed_sersic:
            images["fixed radii"] = truth.Model.of(scene, fixed).images()
        for name, seen in images.items():
            rows = truth.errors(scene, seen)
            found[name] += rows
            for row in rows:
                print(
                    f"{name:12}", *(f"{v:g}" if isinstance(v, (int, float)) else v for v in row), flush=True
                )
    print(truth.summary(found))
    bad = [
        row
        for row in found["scale-free"]
        if abs(row.flux) > truth.FLUX_LIMIT or row.l2 > truth.l2_limit(row.sersic)
    ]
    text = [
        HEAD.format(n=truth.SERSIC, rhalf=truth.RHALF, q=truth.AXIS_RATIO, psfs=", ".join(truth.PSFS)),
        "## Worst case per n\n\nFlux and L2 in 1e-3, at (r_h / q / PSF).\n",
        f"```\n{truth.summary(found).strip(chr(10))}\n```\n",
        f"{len(found['scale-free'])} images with the package's table, {len(bad)} beyond a limit.\n",
    ]
    for name, rows in found.items():
        text.append(f"## {name}\n\n{table_of(rows)}\n")
    Path(__file__).with_name("truth_table.md").write_text("\n".join(text))
    for row in bad:
        print("beyond a limit:", row)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
