"""Parts of the page of a report: its style, figures, and the settings as a person reads them."""

import base64
import html
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from astropy.table import Table

from fphojax.results.table_text import html_table

from .figure_bytes import CSS_DPI, png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["STYLE", "figure_element", "settings_element"]

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1280px; margin: 2em auto; padding: 0 1em; color: #222;
       background: #fff }
h1 { font-size: 1.7em; margin-bottom: 0 } h2 { margin-top: 2em; border-bottom: 1px solid #ccc }
figure { margin: 1em 0 } figcaption, .note { color: #555; font-size: 0.93em } img { max-width: 100% }
.row { display: flex; flex-wrap: wrap; gap: 1em } .row > * { flex: 1; min-width: 420px }
.wide { overflow-x: auto; margin: 1em 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.86em }
th { border-bottom: 1px solid #888 } tbody tr:nth-child(even) { background: #f5f5f5 }
@media print { .wide { overflow: visible } table { font-size: 0.7em } h2, figure { break-inside: avoid } }
"""


def figure_element(figure: "Figure", caption: str) -> str:
    """Make the element of a figure with its caption, the picture embedded."""
    data = base64.b64encode(png(figure)).decode()
    text, width = html.escape(caption), figure.get_size_inches()[0] * CSS_DPI
    image = f"<img alt='{text}' width='{width:.0f}' src='data:image/png;base64,{data}'>"
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def settings_element(config: Mapping, defaults: Mapping | None) -> str:
    """Make the tables of settings: those that differ from the defaults, then, folded, all.

    Parameters
    ----------
    config : mapping
        All settings of a run.
    defaults : mapping or None
        Their defaults; None if they are not known.
    """
    every = dict(_flat(config))
    whole = f"<div class='wide'>{_settings_table(every)}</div>"
    if defaults is None:
        return whole
    usual = dict(_flat(defaults))
    changed = {key: value for key, value in every.items() if usual.get(key) != value}
    return (
        f"<p class='note'>Those that differ from the defaults.</p><div class='wide'>{_settings_table(changed)}</div>"
        f"<details><summary>All settings</summary>{whole}</details>"
    )


def _flat(settings: Mapping, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield settings and their values as text; keys of sections have a dot, settings without a value are left out."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            if value:
                yield prefix + key, ", ".join(_word(part) for part in value)
        elif value is not None:
            yield prefix + key, _word(value)


def _word(value) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _settings_table(settings):
    return html_table(Table({"setting": list(settings), "value": list(settings.values())}, dtype=(str, str)))
