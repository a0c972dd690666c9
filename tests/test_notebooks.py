"""Notebooks as they are kept: no outputs, parameters that can be set from outside, cells that keep their names."""

import os
import re
import tomllib
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted([*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("templates/*.ipynb")])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_notebook_is_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [(cell.outputs, cell.execution_count) for cell in code] == [([], None)] * len(code)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    names = [cell.id for cell in notebook.cells]
    assert len(set(names)) == len(names)
    assert notebook.cells[0].cell_type == "markdown"


def test_there_are_notebooks():
    assert len(NOTEBOOKS) > 3


def test_start_page_names_every_tutorial():
    named = re.findall(r"\]\((\w+)\.ipynb\)", (ROOT / "notebooks" / "README.md").read_text())
    assert sorted(named) == sorted(path.stem for path in ROOT.glob("notebooks/*.ipynb"))


def test_links_between_tutorials_lead_somewhere():
    for path in NOTEBOOKS:
        text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
        for name in re.findall(r"\]\((\w+\.ipynb)\)", text):
            assert (path.parent / name).is_file(), f"{path.name} names {name}"


def test_binder_installs_what_the_package_offers():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (line,) = [
        line for line in (ROOT / "binder" / "requirements.txt").read_text().split() if line.startswith("./")
    ]
    assert set(line.removeprefix("./[").removesuffix("]").split(",")) <= set(project["optional-dependencies"])
    assert (ROOT / "binder" / "runtime.txt").read_text().strip() == "python-3.12"
    for script in ("postBuild", "start"):
        assert os.access(ROOT / "binder" / script, os.X_OK)
