"""The scene at one point of its posterior, or at several."""

from typing import Literal, get_args

import numpy as np

from ..inputs.catalog import SourceCatalog
from .patch_draws import PatchDraws, RunDraws
from .results import POSTERIOR_UNITS

__all__ = ["DrawKind", "scenes_at"]

DrawKind = Literal["median", "last", "best", "mean"]


def scenes_at(draws: RunDraws, kind: DrawKind = "median", *, n_draw: int = 16) -> list[SourceCatalog]:
    """Catalogues of all fitted sources.

    Parameters
    ----------
    draws : RunDraws
    kind : {"median", "last", "best", "mean"}
        Medians of the draws of each parameter; the last draw of the last patch of each source; that patch's most
        probable draw; or `n_draw` draws, evenly spaced, whose images are to be averaged. In a draw all sources of
        a patch are together.
    n_draw : int
        For "mean".

    Returns
    -------
    list of SourceCatalog
        One, or `n_draw` for "mean"; rows as in ``draws.ids``.
    """
    if kind not in get_args(DrawKind):
        raise ValueError(f"kind is {kind!r}, expected one of {', '.join(get_args(DrawKind))}")
    n_point = n_draw if kind == "mean" else 1
    size = len(draws.ids), len(draws.bands)
    points = {name: np.empty((n_point, *size[: 2 if name == "flux" else 1])) for name in POSTERIOR_UNITS}
    for patch in draws.patches():
        for sources in draws.sources(patch):
            if kind == "median":
                chosen = {
                    name: np.median(v.reshape(len(v), -1, *v.shape[3:]), axis=1)[None]
                    for name, v in sources.values.items()
                }
            else:
                rows = np.isin(patch.ids, draws.ids[sources.rows])
                chosen = _at(patch, rows, kind, n_point)
            for name, values in chosen.items():
                points[name][:, sources.rows] = values
    return [_catalog(draws, {name: values[i] for name, values in points.items()}) for i in range(n_point)]


def _at(patch: PatchDraws, rows, kind, n_point):
    """Parameters (point, source, ...) of some sources of a patch."""
    flat = {name: v[rows].reshape(int(rows.sum()), -1, *v.shape[3:]) for name, v in patch.values.items()}
    size = flat["ra"].shape[1]
    match kind:
        case "last":
            where = np.array([size - 1])
        case "best":
            where = np.array([np.argmax(patch.log_posterior)])
        case _:
            where = np.linspace(0, size - 1, n_point).round().astype(int)
    return {name: np.moveaxis(values[:, where], 1, 0) for name, values in flat.items()}


def _catalog(draws, values):
    scene = draws.scene.select_bands(draws.bands)
    row = {name: i for i, name in enumerate(scene.id.tolist())}
    kept = scene[np.array([row[name] for name in draws.ids.tolist()])]
    changes = values | {"ra": values["ra"] % 360, "pa": np.deg2rad(values["pa"])}
    return kept.replace(**changes, flux_err=None)
