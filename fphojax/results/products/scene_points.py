"""Scene at one or several points of its posterior."""

from typing import Literal, get_args

import numpy as np

from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.patch_result import POSTERIOR_UNITS

from .patch_draws import PatchDraws, RunDraws

__all__ = ["DrawKind", "scenes_at", "select_points"]

DrawKind = Literal["median", "last", "best", "mean"]


def scenes_at(draws: RunDraws, kind: DrawKind = "median", *, n_draw: int = 16) -> list[SourceCatalog]:
    """Make catalogues of all fitted sources at points of the posterior.

    Parameters
    ----------
    draws : RunDraws
    kind : {"median", "last", "best", "mean"}
        Medians of the draws of each parameter; the last draw of the last patch of each source; that patch's most
        probable draw; or `n_draw` draws, evenly spaced, whose images are to be averaged. Sources of a patch
        share the same draw.
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
                selected = {
                    name: np.median(v.reshape(len(v), -1, *v.shape[3:]), axis=1)[None]
                    for name, v in sources.values.items()
                }
            else:
                rows = np.isin(patch.ids, draws.ids[sources.rows])
                selected = {
                    name: select_points(np.moveaxis(v[rows], 0, 2), patch, kind, n_draw)
                    for name, v in patch.values.items()
                }
            for name, values in selected.items():
                points[name][:, sources.rows] = values
    return [_catalog(draws, {name: values[i] for name, values in points.items()}) for i in range(n_point)]


def select_points(values: np.ndarray, patch: PatchDraws, kind: DrawKind, n_draw: int) -> np.ndarray:
    """Select the values of a parameter of a patch at the points of `scenes_at`.

    Parameters
    ----------
    values : array (chain, draw, ...)
    patch : PatchDraws
    kind, n_draw
        As for `scenes_at`.

    Returns
    -------
    ndarray (point, ...)
        One point, or `n_draw` for "mean".
    """
    flat = values.reshape(-1, *values.shape[2:])
    match kind:
        case "median":
            return np.median(flat, axis=0)[None]
        case "last":
            return flat[-1:]
        case "best":
            return flat[[np.argmax(patch.log_posterior)]]
        case _:
            return flat[np.linspace(0, len(flat) - 1, n_draw).round().astype(int)]


def _catalog(draws, values):
    scene = draws.scene.select_bands(draws.bands)
    row = {name: i for i, name in enumerate(scene.id.tolist())}
    fitted = scene[np.array([row[name] for name in draws.ids.tolist()])]
    changes = values | {"ra": values["ra"] % 360}
    return fitted.replace(**changes, flux_err=None)
