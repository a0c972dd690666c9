"""Extent of the light of fitted sources, compared with the pixels that they were fitted with."""

from collections.abc import Sequence

import numpy as np

from fphojax.app.settings.schema import Settings
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.inputs.stores.stored_exposures import central_noise
from fphojax.results.products.photometry import isophotal_radius

__all__ = ["beyond_patches", "light_ends", "wider"]

_ISOPHOTE = 0.2  # of the noise of a pixel, in the deepest exposure of a band
_MOST = 3.0  # largest radius of influence in the next fit, in units of the present one


def light_ends(catalog: SourceCatalog, exposures: Sequence) -> np.ndarray:
    """Compute the radius where each source is a fifth of a pixel's noise, in the band where it is largest.

    Parameters
    ----------
    catalog : SourceCatalog
        As fitted; the profile itself is taken, without the PSF.
    exposures : sequence of Exposure or StoredExposure
        Of these, that with the least noise per arcsec^2 counts in each band.

    Returns
    -------
    ndarray, shape (N,)
        Semi-major, arcsec; 0 for a source without positive flux.
    """
    levels: dict[str, float] = {}
    for exposure in exposures:
        noise = central_noise(exposure) / exposure.flux_scale / exposure.pixel_scale**2
        if np.isfinite(noise):
            levels[exposure.band] = min(noise, levels.get(exposure.band, np.inf))
    radius = np.zeros(len(catalog))
    rhalf = np.maximum(catalog.rhalf, 1e-4)  # points have none
    for band, flux in zip(catalog.bands, catalog.flux.T, strict=True):
        if band in levels:
            extent = isophotal_radius(
                _ISOPHOTE * levels[band], np.maximum(flux, 1e-30), rhalf, catalog.sersic
            )
            radius = np.maximum(radius, extent)
    return radius / np.sqrt(catalog.q)


def wider(catalog: SourceCatalog, ends: np.ndarray, settings: Settings) -> np.ndarray:
    """Return radii of influence for another fit: larger where light ends beyond the pixels, else unchanged.

    Parameters
    ----------
    catalog : SourceCatalog
        As fitted.
    ends : ndarray, shape (N,)
        Where its light ends, see `light_ends`.
    settings : Settings
        A source's own pixels end ``buffer`` beyond its radius of influence; no patch is larger than
        ``patch_maxradius``.

    Returns
    -------
    ndarray, shape (N,)
        Arcsec.
    """
    needed = np.minimum(ends, _MOST * catalog.roi)
    needed = np.minimum(needed, settings.patch_maxradius)
    return np.where(needed > 1.1 * catalog.roi + settings.buffer, needed, catalog.roi)


def beyond_patches(catalog: SourceCatalog, reach: np.ndarray, settings: Settings) -> dict[str, str]:
    """Find sources that no patch can hold, each with what to do about it.

    Parameters
    ----------
    catalog : SourceCatalog
    reach : ndarray, shape (N,)
        How far their light reaches, arcsec.
    settings : Settings

    Returns
    -------
    dict of str to str
        By id.
    """
    most = settings.patch_maxradius
    return {
        str(
            catalog.id[row]
        ): f"light reaches {reach[row]:.3g} arcsec, patches {most:g}: raise patch_maxradius, or "
        "put the source into big_catalog"
        for row in np.flatnonzero(reach > most)
    }
