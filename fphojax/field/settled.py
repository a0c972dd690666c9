"""Fits of scenes whose pixels are corrected, at the parameters that are found, for what PSF images add to the model.

The correction depends on the parameters, so correction and fit follow each other until neither changes.
"""

import dataclasses
from collections.abc import Sequence

from numpy.typing import ArrayLike

from fphojax.inference.chains import Chains
from fphojax.inference.methods import Method, Optimum
from fphojax.inference.noise_matrix import noise_matrix
from fphojax.inference.optimum import optimize
from fphojax.inputs.scene import Scene

__all__ = ["fit_settled"]

SETTLED = 0.3  # standard deviations by which no parameter may change with another correction
MOST = 3  # corrections after the first


def fit_settled(
    method: Method,
    scenes: Sequence[Scene],
    *,
    seeds: Sequence[int],
    covariances: Sequence[ArrayLike | None] | None = None,
    tolerance: float = 1e-4,
    progress: bool = False,
) -> tuple[list[Scene], list[Chains]]:
    """Fit scenes, with the correction of their pixels (`Scene.corrected`) at the parameters that are found.

    The first correction is that at the start. An optimised scene is corrected anew, and optimised again from where
    the last search ended, until the correction changes by less than 0.3 of the noise, and at most three times. Draws
    follow with the last correction.

    Parameters
    ----------
    method : Method
    scenes : sequence of Scene
    seeds : sequence of int
    covariances : sequence of array, optional
        See `Method.fit`.
    tolerance : float
        Of the search for the start of draws; see `fphojax.inference.optimum.optimize`.
    progress : bool
        Show a progress bar for a single scene.

    Returns
    -------
    scenes : list of Scene
        As they were fitted.
    chains : list of Chains
        With ``noise``, where the scenes have a noise model or a correction, part of which is in doubt.
    """
    scenes = [scene.corrected(scene.start)[0] for scene in scenes]
    starts = [scene.start for scene in scenes]
    options = {
        "seeds": list(seeds),
        "covariances": [None] * len(scenes) if covariances is None else list(covariances),
    }

    def fitted(rows, method):
        chosen = {name: [values[row] for row in rows] for name, values in options.items()}
        models = [scenes[row].model for row in rows]
        return method.fit(models, [starts[row] for row in rows], progress=progress, **chosen)

    every = list(range(len(scenes)))
    if not isinstance(method, Optimum):  # chains start at the optimum of the parameters themselves
        for row in every:
            for _ in range(1 + MOST):
                starts[row] = optimize(scenes[row].model, starts[row], tolerance=tolerance).values
                corrected, change = scenes[row].corrected(starts[row])
                if change < SETTLED:
                    break
                scenes[row] = corrected
        return scenes, _with_noise(scenes, fitted(every, method))

    chains, rows = fitted(every, method), every
    for _ in range(MOST):
        changes = {}
        for row in rows:
            starts[row] = chains[row].optimum.values
            corrected, changes[row] = scenes[row].corrected(starts[row])
            if changes[row] > SETTLED:
                scenes[row] = corrected
        if not (rows := [row for row in rows if changes[row] > SETTLED]):
            break
        for row, better in zip(
            rows, fitted(rows, dataclasses.replace(method, from_prior=False)), strict=True
        ):
            chains[row] = dataclasses.replace(better, wall_time=chains[row].wall_time + better.wall_time)
    return scenes, _with_noise(scenes, chains)


def _with_noise(scenes, chains):
    """Give chains the covariance of their gradients, where noise is not all that the errors of the images say."""
    found = []
    for scene, of_scene in zip(scenes, chains, strict=True):
        kernels, correction = scene.noise_kernels, scene.correction
        if kernels is not None or correction is not None:
            matrix = noise_matrix(of_scene.model, of_scene.optimum.values, kernels, correction)
            of_scene = dataclasses.replace(of_scene, noise=matrix)
        found.append(of_scene)
    return found
