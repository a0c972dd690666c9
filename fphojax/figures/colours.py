"""Colour composites of bands (Lupton et al. 2004), for display."""

from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["MISSING", "composite_bands", "lupton", "noise_of"]

MISSING = 0.75  # grey of pixels that some band lacks
_LUPTON_Q = 8.0
_BRIGHT = 99.7  # percentile of the pixels that the composite shows at full brightness


def composite_bands(bands: Sequence[str]) -> list[str]:
    """Return first, middle and last of the bands, for blue, green and red."""
    return list(dict.fromkeys([bands[0], bands[len(bands) // 2], bands[-1]]))


def noise_of(plane: np.ndarray) -> float:
    """Estimate the noise of an image without sources from the median of its absolute values."""
    return 1.4826 * float(np.nanmedian(np.abs(plane)))


def lupton(planes: Mapping[str, Sequence[np.ndarray]], noise: Sequence[float]) -> dict[str, np.ndarray]:
    """Make composites that are scaled together, so that their colours compare.

    Parameters
    ----------
    planes : mapping of str to sequence of ndarray, shape (ny, nx)
        Of each composite, one to three bands from blue to red; NaN where there is no pixel. The first composite
        sets the scale. With two bands, green is their mean; a single band gives grey.
    noise : sequence of float
        Standard deviation of a pixel of each band.

    Returns
    -------
    dict of ndarray, shape (ny, nx, 3)
        Values in [0, 1]. Pixels that some band lacks are grey.
    """
    from astropy.visualization import make_lupton_rgb

    # each band is scaled by its bright pixels, so that a galaxy of typical colour is white
    scales = [float(np.nanpercentile(plane, _BRIGHT)) for plane in next(iter(planes.values()))]
    depth = float(np.mean([n / s for n, s in zip(noise, scales, strict=True)]))
    panels = {}
    for key, images in planes.items():
        scaled = [image / scale for image, scale in zip(images, scales, strict=True)]
        blue, red = scaled[0], scaled[-1]
        green = scaled[1] if len(scaled) == 3 else (blue + red) / 2
        covered = np.isfinite(blue + green + red)
        rgb = make_lupton_rgb(
            *(np.nan_to_num(plane) for plane in (red, green, blue)),
            minimum=-0.7 * depth,
            stretch=max(4 * depth, 0.05),
            Q=_LUPTON_Q,
            output_dtype=np.float64,
        )
        panels[key] = np.where(covered[..., None], rgb, MISSING)
    return panels
