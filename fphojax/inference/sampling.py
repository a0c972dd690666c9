"""Sampling of the posterior of a scene with numpyro's NUTS, started at the optimum.

Fluxes and sky levels are integrated out (`fluxes`); the chains move in the coordinates of `coordinates`, whitened by
the Fisher matrix (`whitening`), so that the posterior is nearly a unit normal before a short warm-up (`warmup`)
begins.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from fphojax.core.model import SceneModel

from .chains import Chains
from .covariance import inverse
from .interruptible import interruptible
from .lockstep import lockstep
from .nuts import Kernel
from .optimum import optimize
from .posterior import posterior_around
from .runs import Run
from .whitening import Whitening, rescale_to_blocks, whitening

__all__ = ["Chains", "continued", "sample", "sample_many"]

TARGET = 0.8  # acceptance rate; calls per effective draw of `single`: 5.9 at 0.7, 5.8 at 0.8, 5.7 at 0.87
OUTSIDE = 0.01  # share of the draws of fluxes that may lie outside their box; if more do, fluxes are sampled


def sample(
    model: SceneModel,
    start: Mapping[str, ArrayLike],
    *,
    draws: int = 256,
    warmup: int = 256,
    chains: int = 4,
    max_treedepth: int = 10,
    target_accept: float = TARGET,
    full_cov: bool = True,
    covariance: ArrayLike | None = None,
    integrate_fluxes: bool = True,
    ellipticity: bool = True,
    seed: int = 0,
    progress: bool = True,
) -> Chains:
    """Sample the posterior of a scene.

    Parameters
    ----------
    model : SceneModel
    start : dict of array
        Parameters from which the optimum is sought.
    draws : int
        Draws kept, per chain.
    warmup : int
        Largest number of draws spent on adapting step size and mass matrix, per chain (20 at least); warm-up ends
        earlier when they show that it is done.
    chains : int
        Chains, run side by side on the processor's cores.
    max_treedepth : int
        A draw takes at most 2**max_treedepth - 1 evaluations.
    target_accept : float
        Acceptance rate to which the step size is tuned.
    full_cov : bool
        Whiten with the full covariance; otherwise with its diagonal alone.
    covariance : array (n_source, n_band + 6, n_band + 6), optional
        Covariances of each source's fluxes, x, y, q, pa, sersic and rhalf from an earlier fit, NaN where there are
        none, as a super-scene keeps them; with them the first mass matrix has these widths, not the Fisher matrix's.
    integrate_fluxes : bool
        Integrate over fluxes and sky levels, where their priors are flat or normal, and draw them afterwards.  Where
        more than 1 % of the draws lie outside their box they are sampled instead: `Chains.fluxes` tells.
    ellipticity : bool
        Sample a shape vector instead of q and pa, where the priors allow a galaxy to be round and to turn freely.
    seed : int
    progress : bool
        Show a progress bar.

    Returns
    -------
    Chains
        All chains have the same length.  After Ctrl-C, the draws made by then.

    Raises
    ------
    KeyboardInterrupt
        If no chain is past its warm-up.
    """
    task = _sampling(
        model,
        start,
        draws=draws,
        warmup=warmup,
        chains=chains,
        max_treedepth=max_treedepth,
        target_accept=target_accept,
        full_cov=full_cov,
        covariance=covariance,
        integrate_fluxes=integrate_fluxes,
        ellipticity=ellipticity,
        seed=seed,
        progress=progress,
    )
    return lockstep([task])[0]


def _sampling(
    model,
    start,
    *,
    draws=256,
    warmup=256,
    chains=4,
    max_treedepth=10,
    target_accept=TARGET,
    full_cov=True,
    covariance=None,
    integrate_fluxes=True,
    ellipticity=True,
    seed=0,
    progress=False,
    joined=False,
):
    """Sample the posterior of a scene as a task; see `sample` and `lockstep`."""
    began = time.monotonic()
    optimum = optimize(model, start, density="unconstrained")
    kernel, n_calls = Kernel(max_treedepth, target_accept), 0
    for integrated in (True, False) if integrate_fluxes else (False,):
        posterior, origin, first, slopes = interruptible(
            posterior_around, model, optimum, integrate_fluxes=integrated, ellipticity=ellipticity
        )
        if covariance is not None:
            with_fluxes = posterior.linear is None
            first = rescale_to_blocks(first, slopes, optimum, covariance, with_fluxes=with_fluxes)
        run = Run(kernel, posterior, whitening(origin, first, full_cov=full_cov), progress, joined)
        times = [time.monotonic()]
        run.start(seed, chains)
        yield from run.warm_up(warmup, full_cov)
        times.append(time.monotonic())
        # stops early once too many draws lie outside for any to be kept
        values, statistics = yield from run.sample(draws, OUTSIDE * draws * chains)
        times.append(time.monotonic())
        n_calls += run.n_calls
        inside = posterior.linear is None or statistics["outside_box"].mean() <= OUTSIDE
        if inside or run.interrupted:
            break
    return Chains(
        model=model,
        values=values,
        statistics=statistics,
        optimum=optimum,
        covariance=inverse(optimum.hessian),
        n_warmup=run.n_warmup,
        n_calls=n_calls,
        wall_time=time.monotonic() - began,
        seed=seed,
        max_treedepth=max_treedepth,
        fluxes="sampled" if posterior.linear is None else "integrated",
        warmup_time=times[1] - times[0],
        sampling_time=times[2] - times[1],
        checkpoint=run.checkpoint(ellipticity),
    )


def sample_many(
    models: Sequence[SceneModel],
    starts: Sequence[Mapping[str, ArrayLike]],
    *,
    covariances: Sequence[ArrayLike | None] | None = None,
    seeds: Sequence[int] | None = None,
    **options: Any,
) -> list[Chains]:
    """Sample the posteriors of many scenes, batching the draws of scenes of equal size.

    All wait for the longest trajectory among them: on an accelerator, which a small patch does not fill, batching
    more than makes up for that; on a CPU it does not.

    Parameters
    ----------
    models : sequence of SceneModel
    starts : sequence of dict of array
    covariances : sequence of array, optional
        As for `sample`, one for each scene.
    seeds : sequence of int, optional
        0, 1, ... if not given.
    **options
        As for `sample`, for all scenes.

    Returns
    -------
    list of Chains
        What `sample` returns for each scene, up to rounding.  After Ctrl-C, the draws that each has by then.

    Raises
    ------
    KeyboardInterrupt
        If a scene has no draws by then.
    """
    covariances = [None] * len(models) if covariances is None else covariances
    seeds = range(len(models)) if seeds is None else seeds
    scenes = zip(models, starts, covariances, seeds, strict=True)
    return lockstep(
        [
            _sampling(model, start, covariance=covariance, seed=seed, joined=True, **options)
            for model, start, covariance, seed in scenes
        ]
    )


def continued(chains: Chains, *, draws: int = 256, progress: bool = True) -> Chains:
    """Continue chains from where they stopped, without another warm-up.

    Parameters
    ----------
    chains : Chains
        Made by `sample`, or by this function.
    draws : int
        Further draws per chain.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Chains
        All draws.

    Raises
    ------
    ValueError
        If the chains cannot go on.
    """
    if chains.checkpoint is None:
        raise ValueError(f"chains of method {chains.method!r} cannot go on, expected those of `sample`")
    began, checkpoint = time.monotonic(), chains.checkpoint
    integrated = chains.fluxes == "integrated"
    posterior, *_ = posterior_around(
        chains.model, chains.optimum, integrate_fluxes=integrated, ellipticity=checkpoint.ellipticity
    )
    white = Whitening(checkpoint.origin, checkpoint.factor)
    run = Run(Kernel(chains.max_treedepth, TARGET), posterior, white, progress)
    run.resume(checkpoint)
    started = time.monotonic()
    values, statistics = lockstep([run.sample(draws, np.inf)])[0]
    both = {"values": (chains.values, values), "statistics": (chains.statistics, statistics)}
    joined = {
        kind: jax.tree.map(lambda a, b: np.concatenate([a, b], axis=1), *pair) for kind, pair in both.items()
    }
    return dataclasses.replace(
        chains,
        **joined,
        n_calls=chains.n_calls + run.n_calls,
        wall_time=chains.wall_time + time.monotonic() - began,
        sampling_time=chains.sampling_time + time.monotonic() - started,
        checkpoint=run.checkpoint(checkpoint.ellipticity),
    )
