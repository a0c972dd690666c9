"""Bounds of the uniform priors, from settings and images."""

from collections.abc import Sequence

from .schema import Settings

__all__ = ["bounds_options"]


def bounds_options(settings: Settings, exposures: Sequence = ()) -> dict:
    """Return keywords of `fphojax.inputs.bounds.default_bounds`: those of ``bounds_kwargs``.

    Where ``pixscale`` is not among them, it is that of the exposure with the finest pixels, which constrains best
    where a source is, and whether it is a star.

    Parameters
    ----------
    settings : Settings
    exposures : sequence of Exposure or StoredExposure
        Those that are fitted.
    """
    options = settings.bounds_kwargs.model_dump(exclude_none=True)
    if "pixscale" not in options and exposures:
        options["pixscale"] = min(exposure.pixel_scale for exposure in exposures)
    return options
