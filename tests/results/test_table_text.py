import numpy as np
from astropy import units as u
from astropy.table import QTable

from fphojax.results.table_text import formatted, html_table, shown_columns


def test_cells_have_the_formats_that_the_table_states():
    table = QTable(
        {
            "name": ["a", "<b>"],
            "size": ["2 x 3", "12 x 3"],
            "n": [123456, 7],
            "share": [1.26, np.nan],
            "flux": [1234.56, 2.0] * u.nJy,
            "rest": [0.123456, 1e7],
        }
    )
    assert formatted(table, {"size": ">", "share": "{:.1f} %", "flux": ".3f", "gone": ".1f"}) is table
    shown = {column.name: (column.cells, column.right) for column in shown_columns(table, ".4g")}
    assert shown == {
        "name": (["a", "<b>"], False),
        "size": (["2 x 3", "12 x 3"], True),
        "n": (["123456", "7"], True),
        "share": (["1.3 %", "nan %"], True),
        "flux": (["1234.560", "2.000"], True),
        "rest": (["0.1235", "1e+07"], True),
    }
    formatted(table, {"n": "05d"}, rest=".2f")
    assert shown_columns(table, ".4g")[2:4] == [
        ("n", ["123456", "00007"], True),
        ("share", ["1.26", "nan"], True),
    ]
    page = html_table(table)
    assert "<td style='text-align:left;padding:1px 8px'>&lt;b&gt;</td>" in page
    assert "<td style='text-align:right;padding:1px 8px'>12 x 3</td>" in page
    assert page.count("<tr>") == 3
