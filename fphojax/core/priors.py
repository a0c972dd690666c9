"""The priors of a model, with their arrays in one order in all processes.

numpyro hands the arrays of a distribution to JAX in the order of a set of names, which differs between
processes. Programs that take a distribution would differ by that alone, and cached ones would not be found again.
"""

from collections.abc import Iterable

import jax
from numpyro.distributions import Distribution

__all__ = ["Priors"]


@jax.tree_util.register_pytree_node_class
class Priors(dict):
    """Distributions by name of the parameter; a dict like any other, but for JAX."""

    def tree_flatten(self) -> tuple[tuple["_InOrder", ...], tuple[str, ...]]:
        """Return the distributions in the order of their names, and the names."""
        names = sorted(self)
        return tuple(_InOrder(self[name]) for name in names), tuple(names)

    @classmethod
    def tree_unflatten(cls, names: Iterable[str], distributions: Iterable["_InOrder"]) -> "Priors":
        """Rebuild the priors; the inverse of `tree_flatten`."""
        return cls((name, each.distribution) for name, each in zip(names, distributions, strict=True))


@jax.tree_util.register_pytree_node_class
class _InOrder:
    """A distribution whose arrays, and those of the distributions it is made from, are ordered by name."""

    def __init__(self, distribution) -> None:
        self.distribution = distribution

    def tree_flatten(self):
        kind = type(self.distribution)
        values, rest = self.distribution.tree_flatten()
        named = dict(zip(kind.gather_pytree_data_fields(), values, strict=True))
        parts = (named[name] for name in sorted(named))
        parts = tuple(_InOrder(part) if isinstance(part, Distribution) else part for part in parts)
        return parts, (kind, rest)

    @classmethod
    def tree_unflatten(cls, kind_and_rest, parts) -> "_InOrder":
        kind, rest = kind_and_rest
        names = kind.gather_pytree_data_fields()
        parts = (part.distribution if isinstance(part, _InOrder) else part for part in parts)
        named = dict(zip(sorted(names), parts, strict=True))
        return cls(kind.tree_unflatten(rest, tuple(named[name] for name in names)))
