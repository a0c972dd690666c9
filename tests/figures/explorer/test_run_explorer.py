"""The explorer of a run, driven from Python: what is picked and set changes what is shown."""

import dataclasses
import json
import re
import shutil
import time
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from astropy.table import Table

from fphojax import RunDirectory
from fphojax.errors import InputError
from fphojax.figures.explorer.run_explorer import RunExplorer

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def explorer(run):
    return RunExplorer(run)


def test_a_source_is_picked(explorer):
    assert explorer.picked == (3, "one")  # both patches have it: the last counts
    assert explorer.listed == ["one", "two"]
    before = bytes(explorer.posterior.image.value), explorer.map.draws
    assert before[0].startswith(PNG)
    explorer.pick("two")
    assert explorer.picked == (3, "two")
    assert explorer.table.selected == explorer.map.selected == 1
    assert explorer.posterior.image.value != before[0]
    assert explorer.map.draws != before[1]
    explorer.map.selected = 0  # as a click on the image does
    assert explorer.picked == (3, "one")
    explorer.table.selected = 1  # as a click in the table does
    assert explorer.picked == (3, "two")
    explorer.patch.value = 0
    assert explorer.picked == (0, "two")
    explorer.patch.value = "all"
    with pytest.raises(InputError, match="found no fitted source three, expected one of 2 ids"):
        explorer.pick("three")


def test_the_list_is_sorted_and_searched(explorer):
    table = explorer.table
    for sort, descending, first in (("B", True, "one"), ("R", True, "two"), ("R", False, "one")):
        table.sort, table.descending = sort, descending
        assert explorer.listed[0] == first
        assert np.frombuffer(table.rows, "<i4").tolist() == [["one", "two"].index(i) for i in explorer.listed]
        assert explorer.map.rows == table.rows
    explorer.pick("one")
    explorer.search.value = "tw"
    assert explorer.listed == ["two"]
    assert explorer.picked[1] == "two"
    explorer.search.value = "no such"
    assert explorer.listed == []
    assert explorer.picked[1] == "two"
    explorer.search.value, table.sort = "", "id"
    assert explorer.listed == ["one", "two"]


def test_the_map_is_an_image_with_ellipses(explorer, fit):
    assert bytes(explorer.map.image).startswith(PNG)
    assert explorer.map.bands == ["B", "R"]
    shapes = np.frombuffer(explorer.map.shapes, "<f4").reshape(2, 5)
    draws = np.frombuffer(explorer.map.draws, "<f4").reshape(-1, 5)
    assert len(draws) == 40
    row = explorer.map.selected
    np.testing.assert_allclose(np.median(draws, axis=0)[:2], shapes[row, :2], atol=0.01)
    np.testing.assert_allclose(shapes[:, 2] * shapes[:, 3], explorer.catalog.rhalf**2, rtol=1e-5)
    np.testing.assert_allclose(shapes[:, 3] / shapes[:, 2], explorer.catalog.q, rtol=1e-5)
    explorer.overlay.value = False
    assert explorer.map.draws == b""
    explorer.overlay.value = True
    explorer.colour.value = "rhalf"
    assert explorer.map.label == "rhalf"
    np.testing.assert_allclose(np.frombuffer(explorer.map.values), explorer.catalog.rhalf)


def test_exports(explorer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    explorer.table.sort, explorer.table.descending = "R", True
    explorer.save_selection.click()
    table = Table.read(tmp_path / "selection.ecsv")
    assert table["id"].tolist() == ["two", "one"]
    np.testing.assert_allclose(table["R"], explorer.catalog.flux[[1, 0], 1])
    assert "selection.ecsv" in explorer._said.value
    explorer.table.sort, explorer.table.descending = "id", False
    explorer.pick("two")
    path = explorer.export_cutout(tmp_path)
    assert path == tmp_path / "two.fits"
    assert path.is_file()


def test_two_runs_side_by_side(run, fit, shifted, tmp_path):
    shutil.copytree(run.path, tmp_path / "other")
    other = RunDirectory(tmp_path / "other")
    for patch in other.patches():
        other.write_patch(patch, shifted(fit.result, [1], 2.0))
    explorer = RunExplorer(run, other)
    explorer.tabs.selected_index = 3
    assert explorer.tabs.titles[3] == "Two runs"
    tab = explorer.compare
    assert tab.message.value.endswith("other has fitted no source one")
    assert tab.pictures[0].value == b""
    explorer.pick("two")
    assert tab.message.value == ""
    differences = [
        float(row.split("</td>")[4].rpartition(">")[2]) for row in tab.table.value.split("<tr>")[2:]
    ]
    assert len(differences) == 8
    # two standard deviations, over the errors of both; the axis ratio is clipped
    assert np.median(differences) == pytest.approx(np.sqrt(2), rel=0.15)
    assert all(bytes(picture.value).startswith(PNG) for picture in tab.pictures)
    before = bytes(tab.pictures[0].value)
    tab.exposure.value = 1
    assert tab.pictures[0].value != before


def test_many_sources_do_not_make_one_wait(run, fit, monkeypatch):
    """Ten thousand sources, two in a patch: the time from a selection to its new picture is printed."""
    n, rng = 10_000, np.random.default_rng(0)
    ids, scene = np.arange(n), fit.truth[np.arange(n) % 2]
    scene = scene.replace(
        id=ids,
        ra=fit.truth.ra[0] + rng.uniform(-0.02, 0.02, n),
        dec=fit.truth.dec[0] + rng.uniform(-0.02, 0.02, n),
    )
    patches = {int(i): [int(i) // 2] for i in ids}
    draws = SimpleNamespace(scene=scene, ids=ids, bands=("B", "R"), patches_of=patches)
    monkeypatch.setattr("fphojax.figures.explorer.run_explorer.RunDraws", lambda _: draws)

    of_folder = RunDirectory.read_patch

    def read(self, patch):
        result = of_folder(self, 3)
        return dataclasses.replace(result, active=result.active.replace(id=[2 * patch, 2 * patch + 1]))

    monkeypatch.setattr(RunDirectory, "read_patch", read)
    start = time.perf_counter()
    explorer = RunExplorer(run)
    print(f"\n{n} sources: {time.perf_counter() - start:.2f} s to open")
    for number in (7, 4321, 9998):
        before = bytes(explorer.posterior.image.value)
        start, used = time.perf_counter(), time.process_time()
        explorer.map.selected = number
        took, used = time.perf_counter() - start, time.process_time() - used
        print(
            f"selection to new picture: {took:.3f} s ({used:.3f} s of a core), of a patch that was not read before"
        )
        assert explorer.picked == (number // 2, number)
        assert explorer.posterior.image.value != before or number % 2 == 0
    for sort in ("rhalf", "B"):
        start = time.perf_counter()
        explorer.table.sort = sort
        print(f"sort by {sort}: {time.perf_counter() - start:.3f} s")
    assert len(explorer.table.rows) == 4 * n


def test_posterior_of_chosen_parameters(explorer):
    tab = explorer.posterior
    explorer.tabs.selected_index = 0
    images = {bytes(tab.image.value)}
    for change in (
        lambda: setattr(tab.view, "value", "traces"),
        lambda: setattr(tab.parameters, "value", ["R", "q"]),
        lambda: setattr(tab.view, "value", "ranks"),
        lambda: setattr(tab.view, "value", "corner"),
        lambda: setattr(tab.sources, "value", ["one", "two"]),
    ):
        change()
        assert bytes(tab.image.value).startswith(PNG)
        assert bytes(tab.image.value) not in images
        images.add(bytes(tab.image.value))


def test_images_at_any_draw(explorer):
    tab = explorer.images
    explorer.tabs.selected_index = 1
    assert [name for name, _ in tab.exposure.options] == ["B first", "R second"]
    assert tab.draw.max == 150
    images = {bytes(tab.image.value)}
    for control, value, label in (
        (tab.draw, 58, "chain 1, draw 7"),
        (tab.draw, 150, "chain 2, draw 49"),
        (tab.stretch, "log", "chain 2, draw 49"),
        (tab.linear, 8.0, "chain 2, draw 49"),
        (tab.exposure, 1, "chain 2, draw 49"),
        (tab.view, "colours", "chain 2, draw 49"),
        (tab.view, "ellipses", "chain 2, draw 49"),
    ):
        control.value = value
        assert tab.label.value == label
        assert bytes(tab.image.value).startswith(PNG)
        assert bytes(tab.image.value) not in images
        images.add(bytes(tab.image.value))


def test_convergence_is_sorted(explorer):
    tab = explorer.convergence
    explorer.tabs.selected_index = 2
    tab.order.value = "ess_bulk"
    sizes = _column(tab.text.value, 6)
    assert len(sizes) == 2 * 8
    assert np.all(np.diff(sizes) <= 0)
    tab.descending.value = False
    assert np.all(np.diff(_column(tab.text.value, 6)) >= 0)

    assert "rhat_max" not in explorer.catalog.extra.colnames
    assert [name for name, _ in explorer.flag.options] == ["all"]
    explorer.assess.click()
    assert {"rhat_max", "ess_min", "flags"} <= set(explorer.colour.options)
    flags = explorer.catalog.extra["flags"].astype(int)
    for _, choice in explorer.flag.options[2:]:
        explorer.flag.value = choice
        assert explorer.listed == explorer.catalog.id[(flags & choice) > 0].tolist()
    explorer.flag.value = explorer.flag.options[1][1]
    assert explorer.listed == explorer.catalog.id[flags == 0].tolist()
    explorer.flag.value = "all"
    explorer.table.sort = "ess_min"
    assert explorer.listed[0] == explorer.catalog.id[np.argmin(explorer.catalog.extra["ess_min"])]
    explorer.table.sort = "id"


def test_numbers_are_shown_as_finely_as_they_are_known(explorer):
    tab = explorer.convergence
    explorer.tabs.selected_index = 2
    tab.order.value = "parameter"
    numbers = re.findall(r">(\d+\.\d+)<", tab.text.value)
    assert max(len(number.split(".")[1]) for number in numbers) == 8  # of degrees: ra is known to 1 mas


def test_settings_are_shown(explorer):
    text = "".join(part.value for part in explorer.settings.children)
    assert "pixel_response" in text
    assert "&quot;patches&quot;" in text
    assert "extensions.sci" in text


def test_images_that_were_moved(run, tmp_path):
    """The draws can still be looked at, and the tab says what is missing."""
    shutil.copytree(run.path, tmp_path / "run")
    moved = RunDirectory(tmp_path / "run")
    moved.write_config(json.dumps(moved.read_config()).replace("first.fits", "gone.fits"))
    explorer = RunExplorer(tmp_path / "run")
    explorer.tabs.selected_index = 1
    assert "gone.fits" in explorer.images.label.value
    assert explorer.images.image.value == b""
    assert explorer.map.image == b""


def test_a_selection_is_shown_once(explorer, monkeypatch):
    """However often the list was filled before."""
    calls = []
    explorer.tabs.selected_index = 0
    for sort in ("rhalf", "B", "id"):
        explorer.table.sort = sort
    explorer.patch.value = 0
    explorer.pick("one")
    monkeypatch.setattr(explorer.posterior, "show", lambda *picked: calls.append(picked))
    for source in ("two", "one", "two"):
        explorer.pick(source)
    assert calls == [(0, "two"), (0, "one"), (0, "two")]
    calls.clear()
    explorer.patch.value = 3
    assert calls == [(3, "two")]
    explorer.patch.value = "all"


def test_a_run_of_single_points(run, fit, tmp_path):
    """An optimisation's run: the tabs say what there is not."""
    shutil.copytree(run.path, tmp_path / "run")
    points = RunDirectory(tmp_path / "run")
    tree = {"posterior": fit.result.draws.isel(chain=[0], draw=[0])}
    tree["sample_stats"] = fit.result.posterior["sample_stats"].dataset.isel(chain=[0], draw=[0])
    point = dataclasses.replace(fit.result, posterior=xr.DataTree.from_dict(tree), method="optimum")
    for patch in points.patches():
        points.write_patch(patch, point)
    explorer = RunExplorer(points)
    assert "1 draws per chain (optimum): nothing to show" in explorer.posterior.message.value
    explorer.tabs.selected_index = 2
    assert "1 chains of 1 draws (optimum)" in explorer.convergence.text.value
    explorer.tabs.selected_index = 1
    assert bytes(explorer.images.image.value).startswith(PNG)


def _column(text, index):
    rows = text.split("<tr>")[2:]
    return [float(row.split("</td>")[index].rpartition(">")[2]) for row in rows]
