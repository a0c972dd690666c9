"""The report is one page that needs no other file."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import fphojax
from fphojax.figures import report_sources
from fphojax.figures.html_report import write_report
from fphojax.figures.report_parts import settings_element
from fphojax.inputs import InputError
from fphojax.results.products.patch_draws import RunDraws
from fphojax.results.run_directory import RunDirectory


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.mark.slow
def test_page_holds_tables_and_figures(run, tmp_path):
    path = write_report(run, tmp_path / "report.html", n_patch=1)
    text = path.read_text()
    page = Page(text)
    sources = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    assert len(sources) == 7
    for source in sources:
        assert base64.b64decode(source.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]
    assert not re.search(r"(src|href)=['\"](?!data:)", text)
    assert "68 % interval" in page.text
    assert "2 sources fitted in 2 patches, bands B, R" in page.text
    assert "1 source of the catalogue not fitted" not in page.text  # the scene has the fitted ones only
    assert (
        "For 2 PSF mixtures of the store, the flux error of bright point sources is not known without"
        in page.text
    )
    for word in ("Patch 3", "pixel_response", "first", "chi2_dof", f"fphojax {fphojax.__version__}"):
        assert word in page.text


def test_a_run_without_results(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    with pytest.raises(InputError):
        write_report(run)
    assert not (run.path / "report.html").exists()


def test_the_worst_residuals_come_first(run, monkeypatch):
    draws, table = RunDraws(run), fphojax.final_catalog(run)
    monkeypatch.setattr(report_sources, "_maps", lambda *_: [])
    for worst, other in (("two", "one"), ("one", "two")):
        table["chi2"] = np.where(np.asarray(table["id"]) == worst, 9.0, 1.0) * table["n_pixel"]
        text = Page(report_sources.sources_element(run, draws, table)).text
        assert text.index(worst) < text.index(other)
        assert "9.00" in text
    # fluxes with both errors in one cell
    assert re.search(r"100(\.\d)? ± [\d.]+ \([\d.]+\)", text)


def test_many_bands_are_spread_over_tables(run):
    draws, table = RunDraws(run), fphojax.final_catalog(run)
    draws.bands = tuple(f"b{number}" for number in range(13))
    for band in draws.bands:
        table[band] = 1.0
    tables = list(report_sources._tables(draws, table, np.arange(2)))
    assert [len(part.columns) for part in tables[1:]] == [7, 7, 2]


def test_settings_that_differ_from_the_defaults_are_seen_first():
    config = {"chains": 2, "seed": 1, "bounds": {"n_pix": 3.0, "rhalf": None}, "files": ["a", "b"], "no": []}
    page = Page(settings_element(config, {"chains": 4, "seed": 1, "bounds": {"n_pix": 2.0}}))
    at = page.text.index("All settings")
    for word in ("chains", "bounds.n_pix", "3.0", "a, b"):
        assert page.text.index(word) < at
    assert page.text.index("seed") > at
    assert "rhalf" not in page.text
    assert "{" not in page.text
    assert "seed" in Page(settings_element(config, None)).text
