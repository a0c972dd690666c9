"""What the stage says of catalogues that lack errors or convergence, and how it shows them."""

import numpy as np
import pytest
from astropy.table import Table

import fphojax.app.stages.postprocess as module
from fphojax import RunDirectory
from fphojax.app.demo import write_demo
from fphojax.app.settings.schema import Settings
from fphojax.figures.run_plots import plot_convergence
from fphojax.results.products.run_products import Catalogs


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Function: the stage's report on a final catalogue."""
    config, _ = write_demo(tmp_path)
    settings = Settings.from_yaml(config)
    RunDirectory.create(settings.outbase)

    def report(table):
        made = Catalogs(
            final=table, components=table, multipatch=Table(), neighbours=Table(), unfitted=None, files=[]
        )
        monkeypatch.setattr(module, "write_products", lambda *_, **__: made)
        monkeypatch.setattr(module, "write_report", lambda *_, **__: settings.outbase / "report.html")
        return module.postprocess(settings)

    return report


def catalogue(bands, **changes):
    columns = {name: [1.0, 2.0] for name in ("ra", "dec", "q", "sersic", "rhalf", "ess_min", "chi2")}
    columns |= {"id": [3, 4], "n_pixel": [5, 6], "flags": [0, 32], "rhat_max": [1.01, 1.2]}
    columns |= {name: [7.0, 8.0] for band in bands for name in (band, f"{band}_err")}
    columns |= changes
    return Table({name: values for name, values in columns.items() if values is not None})


def test_poor_convergence_is_said(stage):
    bands = ("F150W", "F277W")
    found = stage(catalogue(bands))
    assert found.verdict.endswith("the largest r_hat is 1.200, above 1.05 for 1 source.")
    assert found.level == "look at this"
    assert "F150W_err" in found.tables["catalog"].colnames
    some = stage(catalogue(bands, rhat_max=[np.nan, 1.01]))
    assert some.verdict.endswith("the largest r_hat is 1.010.")


def test_single_draws_are_shown_too(stage, tmp_path):
    bands = ("F150W", "F277W")
    errors = {f"{band}_err": None for band in bands}
    table = catalogue(bands, rhat_max=[np.nan, np.nan], ess_min=[np.nan, np.nan], **errors)
    found = stage(table)
    assert found.verdict.endswith("r_hat is not known: it needs at least two chains of four draws.")
    assert found.level == "pass"
    assert {"F150W", "chi2"} < set(found.tables["catalog"].colnames)
    table.meta["FILTERS"] = ",".join(bands)
    table.write(tmp_path / "final.fits")
    assert plot_convergence(tmp_path / "final.fits").axes[1].get_title() == "single draws have no errors"
