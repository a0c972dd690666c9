"""Sphinx: how the site is made from these pages; `make docs` runs it, without network."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import fphojax  # noqa: E402

project = "fphojax"
author = "The fphojax developers"
copyright = f"2026, {author}"
version = release = fphojax.__version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx-mathjax-offline",
    "sphinx_design",
    "command_tables",
    "convention_pictures",
    "demo_picture",
    "settings_table",
    "thumbnails",
]
exclude_patterns = ["_build", "_ext", "_templates"]
templates_path = ["_templates"]
default_role = "py:obj"  # `name` in a docstring: a link where the name has an entry

# Pages
highlight_language = "none"  # of blocks that name no language
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
myst_links_external_new_tab = True
nb_execution_mode = "off"  # tutorials are executed before, by tests/run_notebooks.py
nb_merge_streams = True

# API
autosummary_generate = True
autodoc_typehints = "none"  # the docstrings say it with shapes and units
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = f"fphojax {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_sidebars = {"index": [], "installation": [], "changelog": []}
html_theme_options = {
    "logo": {"text": "fphojax"},
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "show_prev_next": True,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}
