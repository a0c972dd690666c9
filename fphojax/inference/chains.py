"""Results of sampling: draws, their statistics, and the state from which chains can continue."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fphojax.core.model import SceneModel
from fphojax.system.notebook_html import Shown

from .optimum import BestFit

__all__ = ["ChainCheckpoint", "Chains"]


class ChainCheckpoint(NamedTuple):
    """State of the chains after their last draw, from which they can continue.

    Attributes
    ----------
    vectors : ndarray (chain, n)
        Coordinates of the last draws.
    step_size : ndarray (chain,)
    origin : ndarray (n,)
    factor : ndarray (n, n)
        Of the `Whitening`.
    keys : ndarray of uint32
        Of the random numbers that come next, one for each chain.
    ellipticity : bool
        Whether the coordinates may be vectors of shape.
    """

    vectors: np.ndarray
    step_size: np.ndarray
    origin: np.ndarray
    factor: np.ndarray
    keys: np.ndarray
    ellipticity: bool


@dataclass(frozen=True, eq=False, repr=False)
class Chains(Shown):
    """Draws from the posterior, after warm-up.

    Attributes
    ----------
    model : SceneModel
        Of which posterior they are.
    values : dict of ndarray (chain, draw, ...)
        Parameters, in the names and shapes of the model.
    statistics : dict of ndarray (chain, draw)
        ``lp`` (log posterior density of the parameters, up to a constant), ``energy``, ``n_steps`` (likelihood
        calls of the draw), ``tree_depth``, ``acceptance_rate``, ``diverging``, ``step_size``, ``at_max_depth``
        (whether the trajectory was ended by the cap on its length), ``outside_box`` (whether fluxes were drawn
        again, as the first draw lay outside their box).  Those of other methods have what is said there
        (`fphojax.inference.laplace`, `fphojax.inference.importance`).
    optimum : BestFit
        Where the chains were started.
    covariance : ndarray (N, N)
        Covariance of the unconstrained parameters at the optimum, in the order of `ravel_pytree`.
    n_warmup : int
    n_calls : int
        Evaluations of likelihood and gradient, warm-up included.
    wall_time : float
        Seconds, compilation included.
    seed : int
    max_treedepth : int
    method : {"nuts", "laplace", "importance", "optimum", "forced"}
        How the draws were made.
    fluxes : {"sampled", "integrated"}
        Whether the chains moved in the fluxes and sky levels, or these were integrated out and drawn afterwards.
    warmup_time, sampling_time : float
        Seconds of `wall_time` spent on either.
    checkpoint : ChainCheckpoint or None
        Where the chains stand; None where they cannot go on.
    noise : ndarray (N, N) or None
        Covariance of the gradient of the log likelihood at the optimum under the noise as it was measured, and errors
        of the PSFs (`fphojax.inference.noise_matrix`); None where the errors of the images are all. The draws do not
        know of it (`fphojax.inference.sandwich`).
    """

    model: SceneModel
    values: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]
    optimum: BestFit
    covariance: np.ndarray
    n_warmup: int
    n_calls: int
    wall_time: float
    seed: int
    max_treedepth: int
    method: str = "nuts"
    fluxes: str = "sampled"
    warmup_time: float = 0.0
    sampling_time: float = 0.0
    checkpoint: ChainCheckpoint | None = None
    noise: np.ndarray | None = None

    def _facts(self):
        return {
            "": f"{self.n_chain} chains of {self.n_draw} draws",
            "method": self.method,
            "divergent": int(np.sum(self.statistics["diverging"])),
            "calls": self.n_calls,
            "time": f"{self.wall_time:.1f} s",
        }

    @property
    def is_point(self) -> bool:
        """Whether they are one point, an optimum, in the form of chains."""
        return self.method in ("optimum", "forced")

    @property
    def n_chain(self) -> int:
        """Number of chains."""
        return self.statistics["diverging"].shape[0]

    @property
    def n_draw(self) -> int:
        """Draws per chain."""
        return self.statistics["diverging"].shape[1]
