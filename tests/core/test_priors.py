import jax
import numpy as np
import numpyro.distributions as dist
import pytest

from fphojax.core.priors import Priors

PRIORS = {
    "uniform": dist.Uniform(np.arange(3.0), np.arange(3.0) + 2),
    "log_normal": dist.LogNormal(np.array([0.1, 0.2]), 0.3),
    "truncated": dist.TruncatedNormal(0.5, 2.0, low=-1.0, high=4.0),
    "expanded": dist.Normal(1.0, 3.0).expand([4]),
}


@pytest.mark.parametrize("name", PRIORS)
def test_arrays_have_one_order_whatever_that_of_sets(monkeypatch, name):
    priors = Priors({name: PRIORS[name]})
    before = jax.tree.leaves(priors)
    gather = dist.Distribution.gather_pytree_data_fields.__func__
    monkeypatch.setattr(
        dist.Distribution, "gather_pytree_data_fields", classmethod(lambda kind: gather(kind)[::-1])
    )
    leaves, structure = jax.tree.flatten(priors)
    assert len(leaves) == len(before) > 1
    for leaf, expected in zip(leaves, before, strict=True):
        np.testing.assert_array_equal(leaf, expected)
    rebuilt = jax.tree.unflatten(structure, leaves)
    value = PRIORS[name].sample(jax.random.key(0))
    np.testing.assert_array_equal(rebuilt[name].log_prob(value), PRIORS[name].log_prob(value))


def test_programs_take_priors():
    priors = Priors(b=PRIORS["log_normal"], a=PRIORS["uniform"])
    passed = jax.jit(lambda priors: priors)(priors)
    assert list(passed) == ["a", "b"]
    assert isinstance(passed, Priors)
    np.testing.assert_array_equal(passed["a"].high, PRIORS["uniform"].high)
    np.testing.assert_array_equal(passed["b"].base_dist.loc, PRIORS["log_normal"].loc)
