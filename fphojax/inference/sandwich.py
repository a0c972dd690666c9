"""Draws of a posterior whose likelihood takes pixels for independent, with the spread that their noise has.

The likelihood is wrong where the noise is correlated, or its size is not what the errors say: its maximum is right on
average, its width is not.  With H minus the curvature of the log posterior and J the covariance of its gradient, the
width should be that of H^-1 J H^-1, and is that of H^-1.  The open-faced sandwich (Ribatet, Cooley & Davison 2012;
Shaby 2014) maps draws z about their mean by

    z' = mean + L (L^T J L)^(1/2) L^-1 (z - mean),      L L^T = H^-1,

which does not depend on the choice of L, and changes nothing where J = H.  It acts on all parameters together, in
coordinates that have no bounds (`coordinates`), so that every draw stays inside its box.
"""

import dataclasses

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from fphojax.core.padding import raveled
from fphojax.core.programs import program

from .chains import Chains
from .coordinates import Coordinates
from .covariance import places, prior_precisions, widths_by_data

__all__ = ["sandwich_map", "with_noise"]

_ALIKE = 1e-9  # of the diagonal, added to H and J: what neither knows anything of stays as it is


def with_noise(chains: Chains) -> Chains:
    """Return chains with draws that have the spread of the measured noise.

    Parameters
    ----------
    chains : Chains
        Draws, not an optimum, with their ``noise``; their statistics stay those of the draws before.

    Returns
    -------
    Chains
    """
    model, optimum = chains.model, chains.optimum
    coordinates = Coordinates.of(model, list(model.priors), optimum.values, widths_by_data(model, optimum))
    origin = coordinates.of_values(optimum.values)
    active = raveled({name: coordinates.active[name] for name in origin})
    if not active.any():
        return chains
    slopes = np.asarray(_slopes(coordinates, origin))[:, active]
    prior, of_shapes = prior_precisions(model, optimum), np.zeros(active.size)
    if "shape" in origin:  # its prior is a unit normal in the vector, whatever it is in q and pa
        turning = np.asarray(coordinates.turning)
        of_shapes[places(origin)["shape"][turning]] = 1.0
        for name in ("q", "pa"):
            prior[places(optimum.values)[name][turning]] = 0.0
    curvature = slopes.T @ (prior[:, None] * slopes) + np.diag(of_shapes[active])
    change = sandwich_map(
        slopes.T @ optimum.fisher @ slopes + curvature, slopes.T @ chains.noise @ slopes + curvature
    )
    shape = chains.n_chain, chains.n_draw
    values = {name: value.reshape(-1, *value.shape[2:]) for name, value in chains.values.items()}
    points = coordinates.of_values(values)
    if "shape" in points:  # v and -v are the same galaxy
        sign = np.where(np.sum(points["shape"] * origin["shape"], axis=-1) < 0, -1.0, 1.0)
        points["shape"] = sign[..., None] * points["shape"]
    vectors = np.concatenate([points[name].reshape(len(points[name]), -1) for name in sorted(points)], axis=1)
    mean = vectors[:, active].mean(axis=0)
    vectors[:, active] = mean + (vectors[:, active] - mean) @ change.T
    mapped = jax.tree.map(np.asarray, _values(coordinates, origin, vectors))
    if "pa" in points or "shape" in points:
        mapped["pa"] = _nearest_turn(mapped["pa"], values["pa"], coordinates)
    return dataclasses.replace(
        chains, values={name: mapped[name].reshape(*shape, *mapped[name].shape[1:]) for name in chains.values}
    )


def sandwich_map(curvature: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return the matrix by which draws of covariance H^-1 become draws of covariance H^-1 J H^-1.

    Parameters
    ----------
    curvature, noise : array (n, n)
        H and J, both with the curvature of the prior; positive semidefinite.

    Returns
    -------
    ndarray (n, n)
    """
    scale = 1 / np.sqrt(np.maximum(np.diag(curvature), 1e-300))
    h, j = (matrix * np.outer(scale, scale) + _ALIKE * np.eye(len(scale)) for matrix in (curvature, noise))
    eigenvalues, vectors = np.linalg.eigh(h)
    root = np.sqrt(np.maximum(eigenvalues, _ALIKE))
    middle = (vectors / root).T @ j @ (vectors / root)
    squares, axes = np.linalg.eigh(middle)
    half = axes * np.sqrt(np.maximum(squares, 0)) @ axes.T
    change = (vectors / root) @ half @ (vectors * root).T
    return scale[:, None] * change / scale


def _nearest_turn(angles, before, coordinates):
    """Move position angles by half turns to those before, and into the range of their prior."""
    angles = angles + np.pi * np.round((before - angles) / np.pi)
    if "pa" not in coordinates.low:
        return angles
    low, high = (np.asarray(edge["pa"]) for edge in (coordinates.low, coordinates.high))
    wide = high - low > np.pi * (1 - 1e-9)
    angles = np.where(wide & (angles < low), angles + np.pi, angles)
    return np.where(wide & (angles > high), angles - np.pi, angles)


@program
def _slopes(coordinates, origin):
    """Differentiate all values by the coordinates, array (N, n)."""
    vector, unravel = ravel_pytree(origin)
    return jax.jacfwd(lambda vector: ravel_pytree(coordinates.values(unravel(vector)))[0])(vector)


@program
def _values(coordinates, origin, vectors):
    unravel = ravel_pytree(origin)[1]
    return jax.vmap(lambda vector: coordinates.values(unravel(vector)))(vectors)
