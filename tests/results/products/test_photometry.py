"""Derived quantities against integrals of the profile."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import gammaincinv

from fphojax.results.products.photometry import (
    ab_magnitude,
    central_brightness,
    effective_brightness,
    isophotal_radius,
    kron_radius,
)

FLUX, RHALF = 321.0, 0.7


def profile(r, sersic):
    b = gammaincinv(2 * sersic, 0.5)
    return central_brightness(FLUX, RHALF, sersic) * np.exp(-b * (r / RHALF) ** (1 / sersic))


def integral(power, sersic, upper=1.0):
    """Of I(r) r^power dr, in the variable in which the profile is smooth: r = rhalf x^n."""
    top = (upper if np.isfinite(upper) else 3000.0) ** (1 / sersic)

    def integrand(x):
        r = RHALF * x**sersic
        return profile(r, sersic) * r**power * RHALF * sersic * x ** (sersic - 1)

    return quad(integrand, 0, top if np.isfinite(upper) else 120.0, limit=400)[0]


@pytest.mark.parametrize("sersic", [0.5, 1.0, 2.37, 4.0, 6.0])
def test_quantities_are_those_of_the_profile(sersic):
    total = 2 * np.pi * integral(1, sersic, np.inf)
    assert total == pytest.approx(FLUX, rel=1e-5)
    assert 2 * np.pi * integral(1, sersic) == pytest.approx(FLUX / 2, rel=1e-5)
    assert effective_brightness(FLUX, RHALF, sersic) == pytest.approx(profile(RHALF, sersic), rel=1e-5)
    first = integral(2, sersic, np.inf) / integral(1, sersic, np.inf)
    assert kron_radius(RHALF, sersic) == pytest.approx(2.5 * first, rel=1e-5)
    radius = isophotal_radius(profile(1.3, sersic), FLUX, RHALF, sersic)
    assert radius == pytest.approx(1.3, rel=1e-5)


def test_profiles_fainter_than_the_isophote():
    assert isophotal_radius(1e9, np.array([FLUX, -FLUX]), RHALF, 1.0).tolist() == [0, 0]


def test_magnitudes():
    assert ab_magnitude(1.0) == 31.4
    assert ab_magnitude(3631e9) == pytest.approx(0.0, abs=1e-4)  # 3631 Jy
    assert np.isnan(ab_magnitude([0.0, -1.0])).all()
