"""The documentation: links lead somewhere, pages and code name each other rightly, examples run."""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import galsim
import numpy as np
import pytest
import yaml

import fphojax
from fphojax.app.cli import app as command_line
from fphojax.app.settings.schema import Settings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
OUTSIDE = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "notebooks/README.md")]
TUTORIALS = {path.stem for path in ROOT.glob("notebooks/*.ipynb")}
SOURCES = sorted((ROOT / "fphojax").rglob("*.py"))
DIRECTIVE = r"^(`{3,}|:{3,})\{%s\} *(.*?)\n(.*?)^\1$"


def prose(page):
    """A page without what only looks like links and headings: code and formulas."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"\$\$.*?\$\$|`[^`\n]*`", "", text, flags=re.DOTALL)


def directives(page, name):
    """Argument and lines of each directive of a page."""
    found = re.findall(DIRECTIVE % name, page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [(argument, lines.split("\n")) for _, argument, lines in found]


def anchors(page):
    """Anchors of the headings of a page, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ +(.*?) *$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def source_of(path):
    """The file behind a path: tutorials in the documentation are executed copies of the notebooks."""
    path = path.resolve()
    is_copy = path.parent == DOCS / "tutorials" and path.suffix == ".ipynb"
    return ROOT / "notebooks" / path.name if is_copy else path


def broken_links(page):
    """Relative links, pictures and included files of a page that lead nowhere."""
    broken = []
    files = [argument for name in ("figure", "include") for argument, _ in directives(page, name)]
    for link in [*re.findall(r"\]\(([^)\s]+)\)", prose(page)), *files]:
        if re.match(r"\w+:", link) or link.startswith(("pictures/", "../pictures/")):
            continue
        path, _, anchor = link.partition("#")
        target = source_of(page.parent / path) if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", [*OUTSIDE, *PAGES], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_resolve(page):
    assert broken_links(page) == []


def test_a_broken_link_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A title\n\n[a](#a-title) [b](page.md#no) [c](none.md) `[d](none.md)` [e](https://example.org)\n\n"
        "```{figure} none.png\n:alt: nothing\n```\n"
    )
    assert broken_links(page) == ["page.md#no", "none.md", "none.png"]


def children(page):
    """Pages that the tables of contents of a page name."""
    for _, lines in directives(page, "toctree"):
        for line in filter(None, lines):
            if not line.startswith(":"):
                name = re.sub(r"^.*<(.*)>$", r"\1", line)
                yield (page.parent / name).resolve()


def test_every_page_can_be_reached():
    found, todo = set(), [DOCS / "index"]
    while todo:
        path = todo.pop()
        found.add(path)
        page = path.with_name(path.name + ".md")
        todo += children(page) if page.is_file() else []
    pages = {page.with_suffix("") for page in PAGES} | {DOCS / "tutorials" / name for name in TUTORIALS}
    assert found == pages


def test_gallery_shows_every_tutorial():
    cards = re.findall(
        r"^:link: (\w+)\n.*\n:img-top: \.\./pictures/(\w+)\.png", gallery(), flags=re.MULTILINE
    )
    assert sorted(cards) == sorted((name, name) for name in TUTORIALS)


def gallery():
    return (DOCS / "tutorials" / "index.md").read_text(encoding="utf-8")


def test_every_public_name_has_an_entry():
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^ {3}(\w+)$|^\.\. data:: (\w+)$", text, flags=re.MULTILINE)
    assert sorted(name or data for name, data in listed) == sorted(fphojax.__all__)


@pytest.fixture
def extension(monkeypatch):
    """Function that imports a module of the documentation's own."""
    monkeypatch.syspath_prepend(DOCS / "_ext")

    def load(name):
        spec = importlib.util.spec_from_file_location(name, DOCS / "_ext" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


def flat(values, prefix=""):
    """Keys of nested settings, with dots."""
    for key, value in values.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")


def test_table_of_settings_is_complete(extension, tmp_path):
    rows = {row.key: row for row in extension("settings_table").rows()}
    settings = Settings(bandlist=["a"], fitsfiles=[str(tmp_path / "a.fits")])
    assert sorted(rows) == sorted(flat(settings.plain))
    assert all(row.meaning for row in rows.values())
    assert rows["chains"][1:] == ("whole number, ≤ 1,000, > 0", "`4`", "chains per patch")
    assert rows["bounds_kwargs.n_pix"].kind == "number, > 0"
    assert rows["sampler"].kind == "`nuts`, `laplace`, `importance`, `auto`"


def test_every_command_has_its_section(extension):
    text = "\n".join(extension("command_tables").markdown())
    sections = re.findall(r"^## fphojax (\w+)$", text, flags=re.MULTILINE)
    names = [command.name or command.callback.__name__ for command in command_line.registered_commands]
    assert sections == names
    assert "| `--workers` |" in text


def test_figures_of_a_notebook_are_found(extension):
    png = "iVBORw0KGgo="
    state = {"state": {"a": {"buffers": [{"data": png + "A"}, {"data": "other"}]}, "b": {}}}
    widgets = {"application/vnd.jupyter.widget-state+json": state}
    cells = [{"outputs": [{"data": {"image/png": png}}, {"name": "stdout"}]}, {"cell_type": "markdown"}]
    notebook = {"metadata": {"widgets": widgets}, "cells": cells}
    assert list(extension("thumbnails").figures(notebook)) == [png + "A", png]


def test_picture_of_the_house_shows_its_floors():
    """From the roof down, the wings of `test_package.py`."""
    tree = ast.parse((ROOT / "tests" / "test_package.py").read_text(encoding="utf-8"))
    (wings,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "WINGS"
    )
    labels = re.findall(r'font-weight="bold"[^>]*>(\w+)<', (DOCS / "house.svg").read_text(encoding="utf-8"))
    assert labels == list(reversed(wings))


def test_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == fphojax.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", changes, flags=re.MULTILINE)[0] == fphojax.__version__


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_files_that_pages_name_are_there(page):
    """Those with a folder of the repository before their name, but for placeholders in capitals."""
    named = re.findall(r"`((?:fphojax|tests|templates|docs)/[\w./]*)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == []


def test_pages_that_code_cites_are_there():
    text = {path: path.read_text(encoding="utf-8") for path in SOURCES}
    cited = {name for content in text.values() for name in re.findall(r"docs/[\w/]+\.md", content)}
    assert {name for name in cited if not (ROOT / name).is_file()} == set()
    mathematics = set(DOCS.glob("mathematics/*.md")) - {DOCS / "mathematics" / "index.md"}
    assert {page.relative_to(ROOT).as_posix() for page in mathematics} <= cited
    assert [path.name for path, content in text.items() if "DESIGN" in content] == []


@pytest.fixture(scope="module")
def one_galaxy():
    """Image, error and PSF of the galaxy that the pages on other codes fit, as arrays."""
    psf = galsim.Gaussian(sigma=1.5)
    galaxy = galsim.Sersic(n=2, half_light_radius=8, flux=1000).shear(q=0.7, beta=0.7 * galsim.radians)
    image = galsim.Convolve(galaxy, psf).drawImage(nx=121, ny=121, scale=1).array
    noise = np.random.default_rng(0).normal(0, 0.1, image.shape)
    return {
        "image": image + noise,
        "sigma": np.full(image.shape, 0.1),
        "psf": psf.drawImage(nx=43, ny=43, scale=1).array.astype(float),
    }


def example(page):
    """The lines of Python of a page that fit with this package."""
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if "fp.fit_scene" in block]
    return compile(block, page.name, "exec")


@pytest.mark.slow
def test_the_galaxy_of_pysersic(one_galaxy):
    names = dict(one_galaxy)
    exec(example(DOCS / "coming_from" / "pysersic.md"), names)
    draws = names["fit"].result.draws
    assert float(draws["flux"].mean()) == pytest.approx(1009, abs=3)
    assert float(draws["flux"].std()) == pytest.approx(8, rel=0.15)
    assert float(draws["sersic"].mean()) == pytest.approx(1.994, abs=0.01)
    assert float(draws["sersic"].std()) == pytest.approx(0.025, rel=0.15)


@pytest.mark.slow
def test_the_galaxy_of_galfit(one_galaxy, tmp_path, monkeypatch, capsys):
    from astropy.io import fits
    from astropy.wcs import WCS

    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cunit = ("RA---TAN", "DEC--TAN"), ("deg", "deg")
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = (150, 2), (61, 61), (-1 / 3600, 1 / 3600)
    monkeypatch.chdir(tmp_path)
    for file, array in (("galaxy", "image"), ("sigma", "sigma"), ("psf", "psf")):
        fits.writeto(f"{file}.fits", one_galaxy[array], wcs.to_header())
    exec(example(DOCS / "coming_from" / "galfit.md"), {})
    found = dict(line.split(") ") for line in capsys.readouterr().out.splitlines())
    print(found)
    assert [float(value) for value in found["1"].split()] == pytest.approx([61, 61], abs=0.03)
    expected = {
        "3": (23.9, 0.025),
        "4": (8 / np.sqrt(0.7), 0.3),
        "5": (2, 0.08),
        "9": (0.7, 0.015),
        "10": (-49.9, 2),
    }
    for parameter, (truth, margin) in expected.items():
        assert float(found[parameter]) == pytest.approx(truth, abs=margin)
