"""Models padded to few sizes, so that few programs are compiled for the patches of a field.

A source added as padding has no light: nothing constrains its parameters, and it stays where it is.
"""

import dataclasses
from collections.abc import Mapping

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Uniform

from .gaussians import Sources
from .model import SceneModel
from .nearby import coarsely_padded
from .priors import Priors

__all__ = ["padded_model", "padded_values", "real_values"]


def padded_model(model: SceneModel) -> SceneModel:
    """Pad a model with empty tiles and, where all priors of its sources are boxes, with dark sources.

    Parameters
    ----------
    model : SceneModel
        Without pair lists.

    Returns
    -------
    SceneModel
        Its number of sources is a power of two.
    """
    model = dataclasses.replace(model, patch=coarsely_padded(model.patch))
    n_source = model.optics.n_source
    spare = (1 << (n_source - 1).bit_length()) - n_source
    boxed = all(isinstance(model.priors[name], Uniform) for name in Sources._fields)
    if not spare or not boxed:
        return model

    def pad(array, axis=0):
        return jnp.asarray(_padded(array, spare, axis))

    by_source = "pixel", "jacobian", "psf_mean", "psf_covariance", "pixel_variance", "pixel_free"
    changes = {name: pad(getattr(model.optics, name), axis=1) for name in by_source}
    dark = pad(model.optics.psf_amplitude, axis=1).at[:, n_source:].set(0)
    optics = dataclasses.replace(model.optics, offset=pad(model.optics.offset), psf_amplitude=dark, **changes)
    priors = Priors(model.priors)
    for name in Sources._fields:
        low, high = (
            jnp.broadcast_to(v, priors[name].batch_shape) for v in (priors[name].low, priors[name].high)
        )
        priors[name] = Uniform(pad(low), pad(high))
    tied = {
        name: jnp.concatenate([jnp.asarray(rows), n_source + jnp.arange(spare)])
        for name, rows in model.tied.items()
    }
    held = {name: pad(values) for name, values in model.held.items()}
    return eqx.tree_at(lambda m: (m.optics, m.priors, m.tied, m.held), model, (optics, priors, tied, held))


def padded_values(values: Mapping[str, np.ndarray], padded: SceneModel) -> dict[str, np.ndarray]:
    """Pad parameters of a model to those of the padded one, repeating those of the last source."""
    n_source = padded.optics.n_source
    return {
        name: _padded(value, n_source - len(value)) if name in Sources._fields else value
        for name, value in values.items()
    }


def real_values(values: Mapping[str, np.ndarray], n_source: int) -> dict[str, np.ndarray]:
    """Remove the padding sources from parameters of a padded model, or from arrays of their shapes."""
    return {name: value[:n_source] if name in Sources._fields else value for name, value in values.items()}


def _padded(array, spare, axis=0):
    """Pad an array with `spare` more entries along an axis, all like the last."""
    width = [(0, spare if i == axis else 0) for i in range(np.ndim(array))]
    return np.pad(np.asarray(array), width, mode="edge")
