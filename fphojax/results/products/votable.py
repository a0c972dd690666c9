"""Catalogues of a run as VOTables, for TOPCAT, Aladin and other tools of the Virtual Observatory."""

from pathlib import Path

from astropy.io.votable.tree import CooSys, Info, VOTableFile
from astropy.table import Table

from .catalog_columns import FLAGS

__all__ = ["write_votable"]

_FRAME = "icrs"


def write_votable(path: str | Path, table: Table) -> None:
    """Write a table as a VOTable; units, descriptions and UCDs are those of its columns.

    Positions refer to a frame (ICRS), ``FILTERS`` and the like become INFO elements, and the meaning of the flags is
    in the description of the table.

    Parameters
    ----------
    path : path-like
    table : Table
        Columns may have ``meta["ucd"]``, as those of `final_catalog`.
    """
    plain = table.copy(copy_data=False)
    plain.meta = {}
    file = VOTableFile.from_table(plain)
    (resource,), inside = file.resources, file.get_first_table()
    resource.infos.extend(Info(name=key, value=str(value)) for key, value in table.meta.items())
    positions = [field for field in inside.fields if (field.ucd or "").startswith("pos.eq.")]
    if positions:
        resource.coordinate_systems.append(CooSys(ID=_FRAME, system="ICRS"))
    for field in positions:
        field.ref = _FRAME
    if "flags" in table.colnames:
        inside.description = "; ".join(f"flag {bit}: {text}" for bit, text in FLAGS.items())
    file.to_xml(str(path))
