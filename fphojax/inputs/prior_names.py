"""Priors by the names and arguments that settings and run folders hold."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fphojax.errors import InputError

if TYPE_CHECKING:
    from numpyro.distributions import Distribution

__all__ = ["prior_named"]


def prior_named(distribution: str, arguments: Mapping[str, float]) -> "Distribution":
    """Make a numpyro distribution from its name and arguments.

    Parameters
    ----------
    distribution : str
        Name in `numpyro.distributions`, such as "LogNormal".
    arguments : mapping of str to float

    Returns
    -------
    numpyro Distribution

    Raises
    ------
    InputError
        There is no such distribution, it does not take these arguments, or it is not one of single, continuous
        numbers.
    """
    import numpyro.distributions as distributions

    listed = ", ".join(f"{key}={value:g}" for key, value in arguments.items())
    call = f"{distribution}({listed})"
    kind = getattr(distributions, distribution, None)
    # TruncatedNormal and similar names are functions that return a distribution
    if distribution not in distributions.__all__ or not callable(kind):
        raise InputError(f"found {distribution!r}, expected a name in numpyro.distributions")
    try:
        prior = kind(**arguments, validate_args=True)
        if not isinstance(prior, distributions.Distribution):
            raise TypeError(f"{distribution} is not a distribution")
    except Exception as error:  # of numpyro, and of what it calls with arguments that it did not check
        reason = " ".join(str(error).split()).removeprefix(f"{distribution}.__init__() ")
        raise InputError(f"found {call}, expected its arguments: {reason}") from error
    unusable = distributions.Delta, distributions.Unit, distributions.Distribution
    if type(prior) in unusable or prior.is_discrete:
        raise InputError(f"found {call}, expected a continuous distribution: parameters take any value")
    if prior.batch_shape or prior.event_shape:
        raise InputError(f"found {call}, expected a distribution of single numbers")
    return prior
