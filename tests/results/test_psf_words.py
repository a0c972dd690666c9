import pytest

from fphojax.mixtures.psf_point_source import format_flux_error
from fphojax.results.psf_words import psf_words

UNKNOWN = "of the store, the flux error of bright point sources is not known without the PSF images."


@pytest.mark.parametrize("worst", [0.004, -0.004])
def test_worst_mixture_is_named(worst):
    said = psf_words({"g": 0.001, "r": worst, "z": -0.002})
    assert said == f"With these PSF mixtures, a bright point source's flux is {format_flux_error(worst)} (r)."


def test_those_without_an_image_are_counted():
    assert psf_words({"g": float("nan")}) == f"For 1 PSF mixture {UNKNOWN}"
    said = psf_words({"g": float("nan"), "r": 0.01, "z": float("nan")})
    assert said.endswith(f" (r). For 2 PSF mixtures {UNKNOWN}")


def test_no_mixtures_no_words():
    assert psf_words({}) == ""
