"""The final catalogue as a VOTable: what astropy's validator says, and what a reader gets."""

from io import StringIO

import numpy as np
import pytest
from astropy.io.votable import parse, validate
from astropy.io.votable.ucd import check_ucd
from astropy.table import Table

from fphojax.results.products.catalog_columns import COLUMNS, FLAGS, ColumnName
from fphojax.results.products.column_ucds import ucd_of
from fphojax.results.products.run_products import write_table


@pytest.fixture
def table():
    """A few columns, as `final_catalog` makes them."""
    table = Table(meta={"FPHOJAX": 1, "FILTERS": "g,r", "ISOPHOTE": 25.0})
    table["id"] = ["a", "b 2"]
    table["ra"] = [150.00000001, 0.5]
    table["g"] = [1.25, np.nan]
    table["cov_g_r"] = [0.5, -0.5]
    table["mu0_g"] = [21.0, 22.0]
    table["flags"] = np.array([0, 128], dtype=np.int32)
    units = {"ra": "deg", "g": "nJy", "cov_g_r": "nJy2", "mu0_g": "mag arcsec-2"}
    names = {"cov_g_r": ("cov_BAND_BAND2", ("g", "r")), "g": ("BAND", ("g",)), "mu0_g": ("mu0_BAND", ("g",))}
    for name in table.colnames:
        column = ColumnName(*names.get(name, (name,)))
        table[name].unit, table[name].description = units.get(name), column.text.text
        table[name].meta = {"ucd": ucd_of(column)}
    return table


def test_validator_has_nothing_to_say(table, tmp_path):
    report = StringIO()
    assert validate(str(write_table(tmp_path / "final.vot", table)), output=report, xmllint=False)
    assert "found no violations" in report.getvalue()


def test_reads_back(table, tmp_path):
    path = write_table(tmp_path / "final.vot", table)
    read = Table.read(path)
    assert read.colnames == table.colnames
    assert read["id"].tolist() == ["a", "b 2"]
    for name in ("ra", "g", "cov_g_r", "flags"):
        np.testing.assert_array_equal(np.ma.filled(np.ma.asarray(read[name], float), np.nan), table[name])
        assert read[name].unit == table[name].unit
        assert " ".join(read[name].description.split()) == table[name].description
    file = parse(path)
    resource, inside = file.resources[0], file.get_first_table()
    assert {info.name: info.value for info in resource.infos}["FILTERS"] == "g,r"
    fields = {field.name: field for field in inside.fields}
    assert fields["ra"].ucd == "pos.eq.ra;meta.main"
    assert [system.ID for system in resource.coordinate_systems] == [fields["ra"].ref] == ["icrs"]
    assert fields["g"].ucd == "phot.flux.density"
    assert fields["g"].ref is None
    description = " ".join(inside.description.split())
    assert all(text in description for text in FLAGS.values())


@pytest.mark.parametrize("pattern", [column.name for column in COLUMNS])
def test_every_column_has_a_ucd_of_the_vocabulary(pattern):
    for parts in (("ra", "pa", "q"), ("g", "r", "i")):
        ucd = ucd_of(ColumnName(pattern, parts))
        assert check_ucd(ucd, check_controlled_vocabulary=True, has_colon=True), ucd


def test_percentiles_of_single_columns():
    assert ucd_of(ColumnName("mue_BAND_84", ("g",))) == "phot.mag.sb;stat.max"
    assert ucd_of(ColumnName("PARAMETER_16", ("pa",))) == "pos.posAng;stat.min"
    assert ucd_of(ColumnName("PARAMETER_std", ("g",))) == "stat.error;phot.flux.density"
