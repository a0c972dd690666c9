"""The documentation: links lead somewhere, and pages and code name each other rightly."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
SOURCES = sorted((ROOT / "fphojax").rglob("*.py"))


def prose(page):
    """A page without what only looks like links and headings: code and formulas."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"\$\$.*?\$\$|`[^`\n]*`", "", text, flags=re.DOTALL)


def anchors(page):
    """Anchors of the headings of a page, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ +(.*?) *$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page):
    """Relative links of a page that lead nowhere."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *PAGES], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_relative_links_resolve(page):
    assert broken_links(page) == []


def test_a_broken_link_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A title\n\n[a](#a-title) [b](page.md#no) [c](none.md) `[d](none.md)` [e](https://example.org)\n"
    )
    assert broken_links(page) == ["page.md#no", "none.md"]


def test_index_lists_every_page():
    index = ROOT / "docs" / "index.md"
    listed = {(index.parent / link).resolve() for link in re.findall(r"\]\(([^)#\s]+\.md)\)", prose(index))}
    assert listed == set(PAGES) - {index}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_pages_name_are_there(page):
    """Those with a folder of the repository before their name, but for placeholders in capitals."""
    named = re.findall(r"`((?:fphojax|tests|templates|docs)/[\w./]*)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == []


def test_pages_that_code_cites_are_there():
    text = {path: path.read_text(encoding="utf-8") for path in SOURCES}
    cited = {name for content in text.values() for name in re.findall(r"docs/[\w/]+\.md", content)}
    assert {name for name in cited if not (ROOT / name).is_file()} == set()
    assert {page.relative_to(ROOT).as_posix() for page in PAGES if page.parent.name == "mathematics"} <= cited
    assert [path.name for path, content in text.items() if "DESIGN" in content] == []
