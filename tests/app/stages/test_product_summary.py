"""`fphojax postprocess` on a small run that was made up."""

import json

import pytest
from standard_error import problems
from typer.testing import CliRunner

from fphojax import RunDirectory, SourceCatalog
from fphojax.app.cli import app
from fphojax.app.stages import product_summary as module
from fphojax.errors import InputError
from fphojax.results.products.catalog_columns import FLAGS


@pytest.fixture
def run(tmp_path):
    made = RunDirectory.create(tmp_path / "run")
    made.write_config(json.dumps({"scene_catalog": "scene.fits"}))
    catalog = SourceCatalog.from_columns(
        ra=[1.0], dec=[2.0], flux=[[1.0]], q=0.5, pa=6.0, sersic=1.0, rhalf=0.3, bands=("g",)
    )
    made.write_scene(catalog, {})
    return made


def test_problems_are_one_line_each(run, tmp_path):
    for arguments, line in (
        ([str(run.path)], f"error: {run.path}: no patch has a result, expected a run that has fitted some"),
        (
            [str(run.path), "--draw", "first"],
            "error: --draw: found first, expected one of median, last, best, mean",
        ),
        (
            [str(run.path), "--format", "csv"],
            "error: format 'csv' of a catalogue, expected some of fits, ecsv, parquet, votable",
        ),
        ([str(tmp_path / "no")], f"error: {tmp_path / 'no'}: no such folder, expected the folder of a run"),
    ):
        result = CliRunner().invoke(app, ["postprocess", *arguments])
        assert result.exit_code == 2
        assert problems(result.stderr) == [line]


def test_what_is_said(run, monkeypatch):
    """Flags by what they mean, sources without a fit, and where the files are."""
    from astropy.table import Table

    from fphojax.results.products.run_products import Catalogs

    def made(*_, **__):
        return Catalogs(
            final=Table({"flags": [0, 1, 5]}),
            components=Table({"flags": [0, 1, 5]}),
            multipatch=Table({"id": [3, 3, 4]}),
            neighbours=Table(),
            unfitted=run.read_scene(),
            files=[run.path / "catalogs" / "final.fits"],
        )

    monkeypatch.setattr(module, "write_products", made)
    assert module.postprocess(run.path, kind="median") == [
        "3 sources, 1 without any flag",
        f"  flag 1: 2 sources: {FLAGS[1]}",
        f"  flag 4: 1 source: {FLAGS[4]}",
        "2 sources were fitted by several patches: catalogs/multipatch",
        "warning: 1 sources of the scene have no fit: 0",
        f"wrote {run.path / 'catalogs'}: final.fits",
    ]
    with pytest.raises(InputError, match="--draw: found worst"):
        module.postprocess(run.path, kind="worst")
