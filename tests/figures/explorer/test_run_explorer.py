"""The explorer of a run, driven from Python: what is picked and set changes what is shown."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import xarray as xr

from fphojax import RunDirectory
from fphojax.figures.explorer.run_explorer import RunExplorer

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def explorer(run):
    return RunExplorer(run)


def test_a_source_is_picked(explorer, fit):
    assert explorer.picked == (3, "one")  # both patches have it: the last counts
    assert [explorer.catalog.id[row] for _, row in explorer.sources.options] == ["one", "two"]
    before = explorer.map, bytes(explorer.posterior.image.value)
    assert all(image.startswith(PNG) for image in before)
    explorer.pick("two")
    assert explorer.picked == (3, "two")
    assert explorer.map != before[0]
    assert explorer.posterior.image.value != before[1]
    explorer.patch.value = 0
    assert explorer.picked == (0, "two")
    explorer.order.value = "B"
    assert [explorer.catalog.id[row] for _, row in explorer.sources.options] == ["one", "two"]
    explorer.order.value = "R"
    assert [explorer.catalog.id[row] for _, row in explorer.sources.options] == ["two", "one"]
    before = explorer.map
    explorer.colour.value = "rhalf"
    assert explorer.map != before


def test_posterior_of_chosen_parameters(explorer):
    tab = explorer.posterior
    explorer.tabs.selected_index = 0
    images = {bytes(tab.image.value)}
    for change in (
        lambda: setattr(tab.parameters, "value", ["R", "q"]),
        lambda: setattr(tab.view, "value", "ranks"),
        lambda: setattr(tab.view, "value", "corner"),
        lambda: setattr(tab.sources, "value", ["one", "two"]),
        lambda: setattr(tab.view, "value", "marginals"),
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
    explorer.assess.click()
    assert explorer.order.options[1:4] == ("flags", "ess_min", "rhat_max")
    explorer.order.value = "ess_min"
    assert "r_hat 1.0" in explorer.sources.options[0][0] or "r_hat 0.9" in explorer.sources.options[0][0]


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


def test_images_that_were_moved(run, tmp_path):
    """The draws can still be looked at, and the tab says what is missing."""
    shutil.copytree(run.path, tmp_path / "run")
    moved = RunDirectory(tmp_path / "run")
    moved.write_config(json.dumps(moved.read_config()).replace("first.fits", "gone.fits"))
    explorer = RunExplorer(tmp_path / "run")
    explorer.tabs.selected_index = 1
    assert "gone.fits" in explorer.images.label.value
    assert explorer.images.image.value == b""


def test_a_selection_is_shown_once(explorer, monkeypatch):
    """However often the list was filled before, and at each of its changes."""
    calls = []
    monkeypatch.setattr(explorer.posterior, "show", lambda *picked: calls.append(picked))
    explorer.tabs.selected_index = 0
    for order in ("rhalf", "B", "id"):
        explorer.order.value = order
    explorer.patch.value = 0
    explorer.sources.value = 0
    calls.clear()
    for source in ("two", "one", "two"):
        explorer.pick(source)
    assert calls == [(0, "two"), (0, "one"), (0, "two")]
    calls.clear()
    explorer.patch.value = 3
    assert calls == [(3, "two")]


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
