"""`fphojax postprocess`: the products of a run, and a few lines about them."""

from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from fphojax.errors import InputError
from fphojax.results.products.catalog_columns import FLAGS
from fphojax.results.products.run_products import Catalogs
from fphojax.results.products.run_products import postprocess as write_products
from fphojax.results.products.scene_points import DrawKind
from fphojax.results.run_directory import RunDirectory
from fphojax.system.locks import folder_lock
from fphojax.system.wording import counted

__all__ = ["postprocess"]

_MOST_NAMED = 10


def postprocess(folder: Path, *, kind: str, **options: Any) -> list[str]:
    """Write the products of a run, and describe them.

    Parameters
    ----------
    folder : Path
        Of the run.
    kind : str
        See `scenes_at`.
    **options
        Of `fphojax.results.products.run_products.postprocess`.

    Returns
    -------
    list of str
        Lines for people: number of sources, flags, sources without a fit, files.
    """
    if kind not in get_args(DrawKind):
        raise InputError(f"--draw: found {kind}, expected one of {', '.join(get_args(DrawKind))}")
    run = RunDirectory.open(folder)
    with folder_lock(folder):
        run.remove_half_written()
        catalogs = write_products(run, kind=cast(DrawKind, kind), **options)
    return [*_about_sources(catalogs), *_about_files(catalogs)]


def _about_sources(catalogs: Catalogs) -> list[str]:
    flags = np.asarray(catalogs.final["flags"])
    lines = [f"{len(catalogs.final)} sources, {int((flags == 0).sum())} without any flag"]
    lines += [
        f"  flag {bit}: {counted(int((flags & bit > 0).sum()), 'source')}: {text}"
        for bit, text in FLAGS.items()
        if (flags & bit).any()
    ]
    several = len(set(catalogs.multipatch["id"]))
    if several:
        lines.append(f"{several} sources were fitted by several patches: catalogs/multipatch")
    if len(catalogs.unfitted):
        names = ", ".join(map(str, catalogs.unfitted.id[:_MOST_NAMED]))
        more = ", ..." if len(catalogs.unfitted) > _MOST_NAMED else ""
        lines.append(f"warning: {len(catalogs.unfitted)} sources of the scene have no fit: {names}{more}")
    return lines


def _about_files(catalogs: Catalogs) -> list[str]:
    by_folder: dict[Path, list[str]] = {}
    for path in catalogs.files:
        by_folder.setdefault(path.parent, []).append(path.name)
    return [
        f"wrote {path}: {', '.join(names) if len(names) <= _MOST_NAMED else f'{len(names)} files'}"
        for path, names in by_folder.items()
    ]
