"""Methods of fitting scenes, as values: where the most probable parameters are, or draws from the posterior."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import jax
import numpy as np
from jax.typing import ArrayLike

from fphojax.core.model import PARAMETERS, SceneModel

from .chains import Chains
from .covariance import best_fit_as_chains
from .importance import importance, importance_many
from .laplace import laplace
from .linear_fit import held_shapes
from .optimum import optimize_many
from .sampling import sample, sample_many

__all__ = ["NUTS", "Auto", "Importance", "Laplace", "Method", "Optimum"]


class Method(Protocol):
    """A method of fitting scenes.

    Attributes
    ----------
    needs_pairs : bool
        Whether it needs models with pair lists.
    """

    needs_pairs: ClassVar[bool]

    @property
    def n_draw(self) -> int:
        """Draws of each chain."""
        ...

    def fit(
        self,
        models: Sequence[SceneModel],
        starts: Sequence[Mapping[str, ArrayLike]],
        *,
        seeds: Sequence[int],
        covariances: Sequence[ArrayLike | None] | None = None,
        progress: bool = False,
    ) -> list[Chains]:
        """Fit scenes, several of equal size in one program where that is faster.

        Parameters
        ----------
        models : sequence of SceneModel
        starts : sequence of dict of array
            Parameters to start from.
        seeds : sequence of int
        covariances : sequence of array (n_source, n_band + 6, n_band + 6), optional
            Of the sources of each scene from an earlier fit, NaN where there are none.
        progress : bool
            Show a progress bar for a single scene.

        Returns
        -------
        list of Chains
        """
        ...


@dataclass(frozen=True)
class NUTS:
    """The no-U-turn sampler (Hoffman & Gelman 2014); see `fphojax.inference.sampling.sample`.

    Attributes
    ----------
    draws : int
        Draws kept, per chain.
    warmup : int
        Largest number of draws of warm-up, per chain.
    chains : int
    max_treedepth : int
        A draw takes at most 2**max_treedepth - 1 evaluations.
    full_cov : bool
        Whiten with the full covariance; otherwise with its diagonal alone.
    """

    needs_pairs: ClassVar[bool] = True

    draws: int = 256
    warmup: int = 256
    chains: int = 4
    max_treedepth: int = 10
    full_cov: bool = True

    @property
    def n_draw(self) -> int:
        """Draws of each chain."""
        return self.draws

    def fit(
        self,
        models: Sequence[SceneModel],
        starts: Sequence[Mapping[str, ArrayLike]],
        *,
        seeds: Sequence[int],
        covariances: Sequence[ArrayLike | None] | None = None,
        progress: bool = False,
    ) -> list[Chains]:
        """Sample the posteriors of scenes; see `Method.fit`."""
        covariances = [None] * len(models) if covariances is None else covariances
        if len(models) == 1:
            return [
                sample(
                    models[0],
                    starts[0],
                    covariance=covariances[0],
                    seed=seeds[0],
                    progress=progress,
                    **vars(self),
                )
            ]
        return sample_many(models, starts, covariances=covariances, seeds=seeds, **vars(self))


@dataclass(frozen=True)
class Laplace:
    """The Laplace approximation with importance sampling; see `fphojax.inference.laplace.laplace`.

    Attributes
    ----------
    draws : int
        Draws kept, per chain.
    chains : int
        These differ only in their index.
    """

    needs_pairs: ClassVar[bool] = True

    draws: int = 256
    chains: int = 4

    @property
    def n_draw(self) -> int:
        """Draws of each chain."""
        return self.draws

    def fit(
        self,
        models: Sequence[SceneModel],
        starts: Sequence[Mapping[str, ArrayLike]],
        *,
        seeds: Sequence[int],
        covariances: Sequence[ArrayLike | None] | None = None,
        progress: bool = False,
    ) -> list[Chains]:
        """Draw from the approximate posteriors of scenes; see `Method.fit`."""
        scenes = zip(models, starts, seeds, strict=True)
        return [laplace(model, start, seed=seed, **vars(self)) for model, start, seed in scenes]


@dataclass(frozen=True)
class Importance:
    """Adaptive importance sampling; see `fphojax.inference.importance.importance`.

    Attributes
    ----------
    draws : int
        Draws kept, per chain.
    chains : int
        These differ only in their index.
    """

    needs_pairs: ClassVar[bool] = True

    draws: int = 256
    chains: int = 4

    @property
    def n_draw(self) -> int:
        """Draws of each chain."""
        return self.draws

    def fit(
        self,
        models: Sequence[SceneModel],
        starts: Sequence[Mapping[str, ArrayLike]],
        *,
        seeds: Sequence[int],
        covariances: Sequence[ArrayLike | None] | None = None,
        progress: bool = False,
    ) -> list[Chains]:
        """Draw from the posteriors of scenes; see `Method.fit`."""
        if len(models) == 1:
            return [importance(models[0], starts[0], seed=seeds[0], progress=progress, **vars(self))]
        return importance_many(models, starts, seeds=seeds, **vars(self))


@dataclass(frozen=True)
class Auto(NUTS):
    """Importance sampling where it says of itself that its draws can be trusted, and the no-U-turn sampler elsewhere.

    What the latter gives is what `NUTS` gives by itself; the evaluations and the time of both are counted. It has the
    attributes of `NUTS`.
    """

    def fit(
        self,
        models: Sequence[SceneModel],
        starts: Sequence[Mapping[str, ArrayLike]],
        *,
        seeds: Sequence[int],
        covariances: Sequence[ArrayLike | None] | None = None,
        progress: bool = False,
    ) -> list[Chains]:
        """Draw from the posteriors of scenes; see `Method.fit`."""
        fast = Importance(self.draws, self.chains)
        found = fast.fit(models, starts, seeds=seeds, covariances=covariances, progress=progress)
        refused = [number for number, chains in enumerate(found) if not chains.statistics["trusted"].all()]
        if not refused:
            return found
        sampled = super().fit(
            [models[number] for number in refused],
            [starts[number] for number in refused],
            seeds=[seeds[number] for number in refused],
            covariances=None if covariances is None else [covariances[number] for number in refused],
            progress=progress,
        )
        for number, chains in zip(refused, sampled, strict=True):
            found[number] = dataclasses.replace(
                chains,
                n_calls=found[number].n_calls + chains.n_calls,
                wall_time=found[number].wall_time + chains.wall_time,
            )
        return found


@dataclass(frozen=True)
class Optimum:
    """The most probable parameters, and their covariance; see `fphojax.inference.optimum.optimize`.

    Attributes
    ----------
    tolerance : float
        The search ends where the predicted gain in log density is below this.
    forced : bool
        Forced photometry: positions and shapes are held at the start, and fluxes are measured.
    barriers : bool
        Maximise the density of the unconstrained parameters, which adds minus the log of the distance to each bound.
    from_prior : bool
        Start at a draw from the prior where a source has no covariance from an earlier fit.
    """

    needs_pairs: ClassVar[bool] = False

    tolerance: float = 1e-4
    forced: bool = False
    barriers: bool = False
    from_prior: bool = False

    @property
    def n_draw(self) -> int:
        """Draws of each chain: the optimum."""
        return 1

    def fit(
        self,
        models: Sequence[SceneModel],
        starts: Sequence[Mapping[str, ArrayLike]],
        *,
        seeds: Sequence[int],
        covariances: Sequence[ArrayLike | None] | None = None,
        progress: bool = False,
    ) -> list[Chains]:
        """Optimise scenes; see `Method.fit`. The chains have one draw each, the optimum."""
        began = time.perf_counter()
        if self.from_prior:
            covariances = [None] * len(models) if covariances is None else covariances
            scenes = zip(models, starts, covariances, seeds, strict=True)
            starts = [self._draw_start(*scene) for scene in scenes]
        if self.forced:
            models = [held_shapes(*scene) for scene in zip(models, starts, strict=True)]
        density = "unconstrained" if self.barriers else "values"
        optima = optimize_many(models, starts, density=density, tolerance=self.tolerance)
        seconds = (time.perf_counter() - began) / len(models)
        name = "forced" if self.forced else "optimum"
        return [
            best_fit_as_chains(model, best, seed=seed, wall_time=seconds, method=name)
            for model, best, seed in zip(models, optima, seeds, strict=True)
        ]

    def _draw_start(self, model, start, covariance, seed):
        """Replace start values of sources that were never fitted by draws from the prior."""
        n_source = model.optics.n_source
        new = np.ones(n_source, bool) if covariance is None else np.isnan(covariance).all(axis=(1, 2))
        names = ("flux",) if self.forced else PARAMETERS
        values = dict(start)
        for name, key in zip(names, jax.random.split(jax.random.PRNGKey(seed), len(names)), strict=True):
            values[name] = np.array(start[name])
            values[name][new] = np.asarray(model.priors[name].sample(key))[new]
        return values
