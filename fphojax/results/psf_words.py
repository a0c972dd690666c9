"""Sentences on the effect of PSF mixtures on the fluxes of point sources."""

from collections.abc import Mapping

import numpy as np

from fphojax.mixtures.psf_point_source import format_flux_error
from fphojax.system.wording import counted

__all__ = ["psf_words"]


def psf_words(errors: Mapping[str, float]) -> str:
    """Describe a set of PSF mixtures in one or two sentences.

    Parameters
    ----------
    errors : mapping of str to float
        Relative error of a bright point source's flux (`PSFVerdict.point_flux_error`) by the name of the mixture; NaN
        where it is not known.
    """
    finite = {name: error for name, error in errors.items() if np.isfinite(error)}
    n_unknown = len(errors) - len(finite)
    sentences = []
    if finite:
        worst = max(finite, key=lambda name: abs(finite[name]))
        words = format_flux_error(finite[worst])
        sentences.append(f"With these PSF mixtures, a bright point source's flux is {words} ({worst}).")
    if n_unknown:
        sentences.append(
            f"For {counted(n_unknown, 'PSF mixture')} of the store, the flux error of bright point sources is not "
            "known without the PSF images."
        )
    return " ".join(sentences)
