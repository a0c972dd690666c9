"""The priors of a model, with their parts in one order in all processes.

numpyro hands the arrays of a distribution, and what else it consists of, to JAX in the order of a set of names, which
differs between processes. Programs that take a distribution would differ by that alone, and cached ones would not be
found again.
"""

from collections.abc import Iterable

import jax
from numpyro.distributions import Distribution

__all__ = ["Priors"]


@jax.tree_util.register_pytree_node_class
class Priors(dict):
    """Distributions by name of the parameter; a dict like any other, but for JAX."""

    def tree_flatten(self) -> tuple[tuple["_SortedDistribution", ...], tuple[str, ...]]:
        """Return the distributions in the order of their names, and the names."""
        names = sorted(self)
        return tuple(_SortedDistribution(self[name]) for name in names), tuple(names)

    @classmethod
    def tree_unflatten(cls, names: Iterable[str], distributions: Iterable["_SortedDistribution"]) -> "Priors":
        """Rebuild the priors; the inverse of `tree_flatten`."""
        return cls((name, each.distribution) for name, each in zip(names, distributions, strict=True))


@jax.tree_util.register_pytree_node_class
class _SortedDistribution:
    """A distribution whose arrays, and those of the distributions it is made from, are ordered by name."""

    def __init__(self, distribution) -> None:
        self.distribution = distribution

    def tree_flatten(self):
        kind = type(self.distribution)
        values, aux = self.distribution.tree_flatten()
        named = dict(zip(kind.gather_pytree_data_fields(), values, strict=True))
        fixed = dict(zip(kind.gather_pytree_aux_fields(), aux, strict=True))
        parts = (named[name] for name in sorted(named))
        parts = tuple(_SortedDistribution(part) if isinstance(part, Distribution) else part for part in parts)
        return parts, (kind, tuple(fixed[name] for name in sorted(fixed)))

    @classmethod
    def tree_unflatten(cls, aux_data, parts) -> "_SortedDistribution":
        kind, aux = aux_data
        names = kind.gather_pytree_data_fields()
        parts = (part.distribution if isinstance(part, _SortedDistribution) else part for part in parts)
        named = dict(zip(sorted(names), parts, strict=True))
        fields = kind.gather_pytree_aux_fields()
        fixed = dict(zip(sorted(fields), aux, strict=True))
        aux = tuple(fixed[name] for name in fields)
        return cls(kind.tree_unflatten(aux, tuple(named[name] for name in names)))
