import numpy as np
import pytest
from scipy import stats

from fphojax.inputs import InputError
from fphojax.inputs.prior_names import prior_named


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("Normal", {"loc": 2.0, "scale": 0.5}, stats.norm(2, 0.5)),
        ("LogNormal", {"loc": -1.0, "scale": 0.4}, stats.lognorm(0.4, scale=np.exp(-1))),
        ("Uniform", {"low": 0.5, "high": 3.0}, stats.uniform(0.5, 2.5)),
    ],
)
def test_density(name, arguments, expected):
    prior, x = prior_named(name, arguments), np.array([0.6, 1.1, 1.9])
    np.testing.assert_allclose(prior.log_prob(x), expected.logpdf(x), rtol=1e-5)


def test_name_of_a_function_that_makes_a_distribution():
    prior = prior_named("TruncatedNormal", {"loc": 1.0, "scale": 1.0, "low": 0.5, "high": 2.0})
    np.testing.assert_allclose([prior.support.lower_bound, prior.support.upper_bound], [0.5, 2.0])


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("Gauss", {}, "found 'Gauss', expected a name in numpyro.distributions"),
        ("constraints", {}, "found 'constraints', expected a name"),
        ("Normal", {"mu": 1.0}, r"found Normal\(mu=1\), expected its arguments: .*'mu'"),
        ("Normal", {"loc": 0.0, "scale": -1.0}, r"found Normal\(loc=0, scale=-1\), expected its arguments: "),
        ("Poisson", {"rate": 2.0}, r"found Poisson\(rate=2\), expected a continuous distribution"),
        ("Delta", {"v": 2.0}, r"found Delta\(v=2\), expected a continuous distribution"),
        ("LKJ", {"dimension": 3, "concentration": 1.0}, "expected a distribution of single numbers"),
    ],
)
def test_what_is_no_prior_of_a_number(name, arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        prior_named(name, arguments)
    assert "\n" not in str(caught.value)
