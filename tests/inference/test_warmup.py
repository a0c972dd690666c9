"""When the warm-up ends, and when it makes the whitening anew; chains that draw independently stand for real ones."""

import jax.numpy as jnp
import numpy as np
import pytest

from fphojax.inference import warmup
from fphojax.inference.lockstep import lockstep
from fphojax.inference.whitening import Whitening

N_CHAIN = 4


@pytest.fixture
def warmed(monkeypatch):
    """A function that warms up independent chains of normal distributions of given widths."""
    monkeypatch.setattr(warmup, "moved", lambda state, *_: state)

    def warm_up(widths, seed, most=15):
        rng = np.random.default_rng(seed)
        n = len(widths)

        def run(whitening, states, short):
            yield from ()
            back = np.linalg.inv(np.asarray(whitening.factor))
            u = rng.normal(size=(N_CHAIN, warmup.ROUND, n)) * widths
            v = (u - np.asarray(whitening.origin)) @ back.T
            rate = np.full(warmup.ROUND, 0.8)
            return states, [
                {"v": part, "n_steps": np.ones(warmup.ROUND), "acceptance_rate": rate} for part in v
            ]

        first = Whitening(jnp.zeros(n), jnp.eye(n))
        how = {"most": most, "target_accept": 0.8, "full_cov": True, "active": np.ones(n, dtype=bool)}
        task = warmup.warm_up(run, [None] * N_CHAIN, first, **how)
        _, whitening, n_round, n_calls = lockstep([task])[0]
        assert n_calls == n_round * N_CHAIN * warmup.ROUND
        return np.asarray(whitening.factor), n_round

    return warm_up


@pytest.mark.parametrize("n", [6, 20, 40])
def test_a_good_whitening_is_kept(warmed, n):
    found = [warmed(np.ones(n), seed) for seed in range(30)]
    kept = [np.array_equal(factor, np.eye(n)) for factor, _ in found]
    assert all(kept)
    assert max(n_round for _, n_round in found) == 2


@pytest.mark.parametrize(("n", "width", "most_rounds"), [(6, 3, 4), (20, 3, 6), (40, 30, 9)])
def test_a_poor_one_is_made_anew(warmed, n, width, most_rounds):
    widths = np.where(np.arange(n) < 2, width, 1.0)
    for seed in range(10):
        factor, n_round = warmed(widths, seed)
        spread = np.linalg.eigvalsh(factor @ factor.T / np.outer(widths, widths))
        print(f"n = {n}: {n_round} rounds, condition number {spread[-1] / spread[0]:.2f}")
        assert n_round <= most_rounds
        assert spread[-1] / spread[0] < 4
        assert 0.3 < spread[0] < spread[-1] < 2


def test_it_ends_at_the_most(warmed):
    assert warmed(np.array([30.0, 1.0]), 0, most=2)[1] == 2
