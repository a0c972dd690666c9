"""Notebooks as they are kept: no outputs, parameters that can be set from outside, cells that keep their names."""

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
