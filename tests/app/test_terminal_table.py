import io

import numpy as np
from astropy import units as u
from astropy.table import QTable
from rich.console import Console

from fphojax.app.terminal_table import table_shown
from fphojax.results.table_text import formatted


def printed(shown):
    console = Console(file=io.StringIO(), width=60)
    console.print(shown)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


TABLE = QTable(
    {
        "source": [7, 7, 3],
        "name": ["[red]a", ":smile:", "c"],
        "flux": [1.23456, np.nan, 30] * u.nJy,
        "seconds": ["unchanged", "2", "3"],
    }
)


def test_text_is_printed_verbatim_and_nan_left_blank():
    table = formatted(TABLE.copy(), {"seconds": ">"})
    assert printed(table_shown("Sources [x]", table)) == [
        "Sources [x]",
        "source  name     flux [nJy]    seconds",
        "     7  [red]a        1.235  unchanged",
        "     7  :smile:                      2",
        "     3  c                30          3",
    ]


def test_groups_become_headings():
    assert printed(table_shown("Sources", TABLE, spacing=1, groups="source")) == [
        "Sources",
        "name     flux [nJy] seconds",
        "",
        "source 7",
        "[red]a        1.235 unchanged",
        ":smile:             2",
        "",
        "source 3",
        "c                30 3",
    ]
