"""How an exposure shows itself: band, size, PSF width, depth, and a thumbnail."""

from typing import Any

import numpy as np

from fphojax.system.notebook_html import facts_html, facts_text, thumbnail

from .calibration import ZERO_POINT

__all__ = ["exposure_html", "exposure_text"]

_FWHM_PER_ROOT_AREA = np.sqrt(2 * np.log(2) / np.pi)  # of a Gaussian, whose noise area is 4 pi sigma^2
_SIGMAS = 5


def exposure_text(exposure: Any) -> str:
    """Describe an exposure in one line: what its ``repr`` is."""
    return facts_text("Exposure", _facts(exposure))


def exposure_html(exposure: Any) -> str:
    """Describe an exposure for a notebook, with a thumbnail."""
    image = thumbnail(exposure.data, exposure.ierr)
    return facts_html(f"Exposure {exposure.name}", _facts(exposure) | _origin(exposure), image=image)


def _facts(exposure):
    ny, nx = exposure.shape
    scale = exposure.pixel_scale
    facts = {"": repr(exposure.name), "band": exposure.band, "size": f'{nx} x {ny} pixels of {scale:.3g}"'}
    if exposure.masked_fraction:
        facts["masked"] = f"{exposure.masked_fraction:.1%}"
    noise = 1 / np.median(exposure.ierr[exposure.ierr > 0]) / exposure.flux_scale
    facts["noise"] = f"{noise:.3g} nJy per pixel"
    psf = exposure.psf_image if exposure.psf is None else exposure.psf.stamp()
    if psf is None:
        return facts | {"PSF": "none"}
    area = np.sum(psf) ** 2 / np.sum(psf**2)  # pixels whose noise a point source has
    depth = ZERO_POINT - 2.5 * np.log10(_SIGMAS * noise * np.sqrt(area))
    width = f'{_FWHM_PER_ROOT_AREA * np.sqrt(area) * scale:.3g}" wide'
    return facts | {"PSF": width, "depth": f"{depth:.2f} mag (AB, point source, {_SIGMAS} sigma)"}


def _origin(exposure):
    ra, dec, _ = exposure.footprint
    source = "arrays" if exposure.path is None else f"{exposure.path.name}: {exposure.read_as}"
    return {"centre": f"ra {ra:.6f} dec {dec:+.6f}", "read from": source}
