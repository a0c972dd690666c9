"""How objects show themselves: in a short line, and in a notebook without their arrays."""

import pytest
from astropy.table import QTable

import fphojax as fp
from fphojax.detection.source_search import Detections
from fphojax.mixtures.psf_fit import fit_psf
from fphojax.results.fitted_patch import FittedPatch

MOST = 300  # characters


@pytest.fixture(scope="module")
def objects(request):
    fit = request.getfixturevalue("fit")
    mixture = fit.psfs.mixtures("B")[0]
    return {
        "frame": fit.frame,
        "scene": fit.scene,
        "chains": fit.chains,
        "best fit": fit.chains.optimum,
        "result": fit.result,
        "catalogue": fit.active,
        "bounds": fit.bounds,
        "PSFs": fit.psfs,
        "mixture": mixture,
        "PSF fit": fit_psf(mixture.render((15, 15), (7, 7)), n_gauss=1),
        "recipe": fp.Recipe(fit.frame.exposures, fit.psfs),
        "patch": FittedPatch(fit.scene, fit.result),
        "fit": fp.SceneFit(fit.scene, fit.result),
        "detections": Detections(fit.active, fit.active[:0], None, None, 5.0, 0.1, {}),
        "exposure": fit.frame.exposures[0],
    }


def test_one_short_line_and_a_page_without_arrays(objects):
    for name, shown in objects.items():
        line, page = repr(shown), shown._repr_html_()
        assert line.startswith(f"{type(shown).__name__}("), name
        assert "\n" not in line, name
        assert "array(" not in line + page, name
        assert len(line) < (MOST if name != "patch" else 2 * MOST), name
        assert 50 < len(page) < 60_000, name


def test_what_is_said(objects):
    assert repr(objects["catalogue"]) == "SourceCatalog(2 sources, bands B, R)"
    assert repr(objects["bounds"]) == "Bounds(of 2 sources, bands B, R)"
    assert repr(objects["PSFs"]) == "PSFStore(2 PSFs, bands B, R)"
    assert repr(objects["recipe"]) == "Recipe(2 exposures, bands B, R)"
    assert repr(objects["chains"]).startswith("Chains(3 chains of 50 draws, method ")
    assert "method" in repr(objects["result"])
    for name in ("scene", "result", "catalogue", "detections"):
        assert "<td>one</td>" in objects[name]._repr_html_(), name
    assert "68 % interval" in objects["fit"]._repr_html_()


def test_runs_and_superscenes(run, fit):
    assert repr(run) == f"RunDirectory({str(run.path)!r}, patches {len(run.patch_files())})"
    scene = fp.SuperScene(fit.truth, fit.truth.bands)
    assert repr(scene) == "SuperScene(0 of 3 sources done, bands B, R, patches 0, given up 0)"


def test_catalogue_as_a_table_and_in_pandas(fit, tmp_path):
    table = fit.truth.to_table()
    assert table.colnames[:8] == ["id", "ra", "dec", "roi", "q", "pa", "sersic", "rhalf"]
    assert str(QTable(table)["B"].unit) == "nJy"
    assert table["B"].tolist() == fit.truth.flux[:, 0].tolist()
    table.write(tmp_path / "a.ecsv")
    assert fp.SourceCatalog.read(tmp_path / "a.ecsv").flux.tolist() == fit.truth.flux.tolist()
    assert fit.truth.to_pandas()["R"].tolist() == fit.truth.flux[:, 1].tolist()


def test_parameters_of_a_fit_as_numbers(objects, fit):
    frame = objects["fit"].to_pandas(fit.truth)
    assert len(frame.query("parameter == 'flux'")) == 4
    assert frame["value"].tolist() == objects["fit"].to_table()["value"].tolist()
    assert objects["fit"].table()["parameter"][0] == "flux B"
