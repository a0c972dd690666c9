"""The report is one page that needs no other file."""

import base64
import re
from html.parser import HTMLParser

import pytest

from fphojax.figures.html_report import write_report
from fphojax.inputs import InputError
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
    for word in ("Patch 3", "pixel_response", "first", "chi2_dof"):
        assert word in page.text


def test_a_run_without_results(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    with pytest.raises(InputError):
        write_report(run)
    assert not (run.path / "report.html").exists()
