"""Nuisance parameters of exposures: sky, flux scale and astrometric shift.

A flux scale acts on an exposure's image as all fluxes do together, a shift as all positions do; so both follow from
what is computed for the sources anyway.  The sky is in `core.sky`.
"""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .gaussians import Optics, Sources

__all__ = ["NUISANCE", "apply_nuisance", "box_of_sources", "derivative_rows"]

NUISANCE = ("sky", "scale", "shift")  # a model has those for which it has a prior


def apply_nuisance(optics: Optics, values: Mapping[str, jax.Array | np.ndarray]) -> Optics:
    """Apply the flux scales and shifts of the exposures to the optics.

    Parameters
    ----------
    optics : Optics
    values : dict of array
        May hold ``scale`` (E,) and ``shift`` (E, 2) in arcsec.
    """
    if "scale" in values:
        optics = eqx.tree_at(lambda o: o.flux_scale, optics, optics.flux_scale * values["scale"])
    if "shift" in values:
        pixel = optics.pixel + jnp.einsum("esij,ej->esi", optics.jacobian, values["shift"])
        optics = eqx.tree_at(lambda o: o.pixel, optics, pixel)
    return optics


def derivative_rows(
    sources: Sources, band: jax.Array, values: Mapping[str, jax.Array], n_term: int
) -> jax.Array:
    """Make the matrix that takes derivatives by the sources' and sky's parameters to those by all.

    Parameters
    ----------
    sources : Sources
    band : int array (E,)
    values : dict of array
        Which of ``scale`` and ``shift`` it holds decides which rows there are.
    n_term : int
        Coefficients of the sky of an exposure.

    Returns
    -------
    array (E, n, S * 7 + K)
        The first rows are the unit matrix; then come those of the scale and of the shift.
    """
    fields = Sources._fields
    n_exposure, n_source = band.size, sources.x.size

    def row(weights, name):
        placed = jnp.zeros((n_exposure, n_source, len(fields))).at[..., fields.index(name)].set(weights)
        return jnp.pad(placed.reshape(n_exposure, 1, -1), ((0, 0), (0, 0), (0, n_term)))

    size = n_source * len(fields) + n_term
    rows = [jnp.broadcast_to(jnp.eye(size), (n_exposure, size, size))]
    if "scale" in values:
        rows.append(row(sources.flux.T[band] / values["scale"][:, None], "flux"))
    if "shift" in values:
        rows += [row(1.0, name) for name in ("x", "y")]
    return jnp.concatenate(rows, axis=1)


def box_of_sources(
    lower: Mapping[str, jax.Array | np.ndarray], upper: Mapping[str, jax.Array | np.ndarray]
) -> list[dict[str, np.ndarray]]:
    """Widen the box of the sources' parameters by the scales and shifts that exposures may have.

    Parameters
    ----------
    lower, upper : dict of ndarray
        Box of all parameters of a model.

    Returns
    -------
    lower, upper : dict of ndarray
        Named as in `Sources`.
    """
    sides = [{name: np.asarray(side[name]) for name in Sources._fields} for side in (lower, upper)]
    if "scale" in lower:
        largest = np.max(np.abs([lower["scale"], upper["scale"]]))
        for side in sides:
            side["flux"] = side["flux"] * largest
    if "shift" in lower:
        for i, name in enumerate(("x", "y")):
            sides[0][name] = sides[0][name] + np.min(np.asarray(lower["shift"])[:, i])
            sides[1][name] = sides[1][name] + np.max(np.asarray(upper["shift"])[:, i])
    return sides
