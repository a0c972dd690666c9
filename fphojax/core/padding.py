"""Models padded to few sizes, so that few programs are compiled for the patches of a field.

A source added as padding has no light: nothing constrains its parameters, and it stays where it is.
"""

import dataclasses
from collections.abc import Mapping

import equinox as eqx
import numpy as np
from jax.typing import ArrayLike
from numpyro.distributions import Uniform

from .backend import on_device
from .gaussians import Sources
from .model import SceneModel
from .nearby import coarsely_padded
from .patch import source_slots
from .priors import Priors

__all__ = ["padded_model", "padded_values", "raveled", "real_rows", "real_values", "split_like"]


def padded_model(model: SceneModel) -> SceneModel:
    """Pad a model with empty tiles and, where all priors of its sources are boxes, with dark sources.

    Every parameter then has held values (NaN where it is free) and a tie (to the source itself where it has none), so
    that all kinds of sources share a program.

    Parameters
    ----------
    model : SceneModel
        Without pair lists.

    Returns
    -------
    SceneModel
        Its number of sources is a power of two, at least two.
    """
    model = dataclasses.replace(model, patch=coarsely_padded(model.patch))
    n_source = model.optics.n_source
    spare = source_slots(n_source) - n_source
    if not all(isinstance(model.priors[name], Uniform) for name in Sources._fields):
        return model
    optics = _padded_optics(model.optics, spare)
    same = model.merged_optics is model.optics or model.merged_optics is None
    merged = optics if same else _padded_optics(model.merged_optics, spare)
    priors = Priors(model.priors)
    for name in Sources._fields:
        low, high = (
            np.broadcast_to(v, priors[name].batch_shape) for v in (priors[name].low, priors[name].high)
        )
        priors[name] = Uniform(*(on_device(_padded(edge, spare)) for edge in (low, high)))
    numbers, nothing = np.arange(n_source), np.full(n_source, np.nan)
    tied = {
        name: on_device(np.r_[np.asarray(model.tied.get(name, numbers)), n_source : n_source + spare])
        for name in Sources._fields
    }
    held = {
        name: on_device(_padded(model.held.get(name, nothing), spare))
        for name in Sources._fields
        if name != "flux" or name in model.held
    }
    return eqx.tree_at(
        lambda m: (m.optics, m.merged_optics, m.priors, m.tied, m.held),
        model,
        (optics, merged, priors, tied, held),
        is_leaf=lambda part: part is None,
    )


def _padded_optics(optics, spare):
    """Pad optics with sources that have no light."""
    by_source = "pixel", "jacobian", "psf_mean", "psf_covariance", "pixel_variance", "pixel_free"
    changes = {name: _padded(getattr(optics, name), spare, axis=1) for name in by_source}
    if optics.inner is not None:
        changes["inner"] = _padded(optics.inner, spare, axis=1)
    width = ((0, 0), (0, spare), (0, 0))
    changes |= {
        "offset": _padded(optics.offset, spare),
        "psf_amplitude": np.pad(np.asarray(optics.psf_amplitude), width),
    }
    return dataclasses.replace(optics, **{name: on_device(array) for name, array in changes.items()})


def padded_values(values: Mapping[str, np.ndarray], padded: SceneModel) -> dict[str, np.ndarray]:
    """Pad parameters of a model to those of the padded one, repeating those of the last source."""
    n_source = padded.optics.n_source
    return {
        name: _padded(value, n_source - len(value)) if name in Sources._fields else value
        for name, value in values.items()
    }


def real_rows(padded: Mapping[str, np.ndarray], n_source: int) -> np.ndarray:
    """Return where, in the raveled parameters of a padded model, those of the first sources are."""
    rows, at = [], 0
    for name in sorted(padded):  # the order in which JAX flattens a dict
        shape = np.shape(padded[name])
        kept = np.arange(np.prod(shape, dtype=int)).reshape(shape)
        rows.append(at + (kept[:n_source] if name in Sources._fields else kept).ravel())
        at += kept.size
    return np.concatenate(rows)


def real_values(values: Mapping[str, np.ndarray], n_source: int) -> dict[str, np.ndarray]:
    """Remove the padding sources from parameters of a padded model, or from arrays of their shapes."""
    return {name: value[:n_source] if name in Sources._fields else value for name, value in values.items()}


def raveled(values: Mapping[str, ArrayLike]) -> np.ndarray:
    """Ravel a dict of arrays on the host, in the order in which JAX flattens it; see `split_like`."""
    return np.concatenate([np.ravel(values[name]) for name in sorted(values)])


def split_like(flat: np.ndarray, like: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Split a raveled array into a dict of arrays, with the names and shapes of another."""
    parts, at = {}, 0
    for name in sorted(like):  # the order in which JAX flattens a dict
        shape = np.shape(like[name])
        size = int(np.prod(shape))
        parts[name] = flat[at : at + size].reshape(shape)
        at += size
    return parts


def _padded(array, spare, axis=0):
    """Pad an array with `spare` more entries along an axis, all like the last."""
    width = [(0, spare if i == axis else 0) for i in range(np.ndim(array))]
    return np.pad(np.asarray(array), width, mode="edge") if spare else np.asarray(array)
