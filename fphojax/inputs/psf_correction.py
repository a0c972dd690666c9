"""What PSF images add to models whose PSFs are mixtures of Gaussians.

A mixture leaves a residual R of the image of its PSF. A model lacks the convolution S * R of each source's profile S
with it: a few hundredths of a galaxy's light, which for a bright one is far above the noise, also where its
neighbours are. It is computed at given parameters, and subtracted from the pixels.

R is known at whole pixels. With h a Gaussian of variance 1/3 square pixel, about a cubic B-spline, there is one
kernel c with R(x) = sum_j c_j h(x - j) at all of them, and then

    (S * R)(x) = sum_j c_j (S * h)(x - j),

the image of the sources with the PSF h, which is rendered like any other, convolved with c.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from scipy.signal import oaconvolve

from fphojax.core.design import nearby_image
from fphojax.core.gaussians import Optics, ProfileTable, Sources
from fphojax.core.nearby import coarse_length, coarsely_padded
from fphojax.core.patch import TILE, Patch
from fphojax.core.programs import Program

from .exposures import Exposure
from .frame import PatchFrame
from .psf_store import PSFMixture, PSFStore
from .stores.stored_exposures import StoredExposure

__all__ = ["correction_image", "correction_tiles"]

NEGLIGIBLE = 0.1  # of the noise: norm, over all pixels, of what is left out of a source
_VARIANCE = 1 / 3  # of h, square pixels
_MARGIN = 8  # pixels in which the kernel falls off around the residual, to 1e-5


def correction_tiles(
    sources: Sources, optics: Optics, frame: PatchFrame, psfs: PSFStore, table: ProfileTable
) -> np.ndarray:
    """Compute what PSF images add to the model of sources, on the tiles of a frame.

    Parameters
    ----------
    sources : Sources
    optics : Optics
        How the exposures of the frame see them.
    frame : PatchFrame
    psfs : PSFStore
    table : callable
        Profile table.

    Returns
    -------
    ndarray (T, TILE * TILE)
        In the order of ``frame.patch.data``; 0 in pixels without weight.
    """
    tiles = np.zeros(frame.patch.data.shape)
    ierr = np.asarray(frame.patch.ierr).ravel()
    for e, exposure in enumerate(frame.exposures):
        x, y, flat = frame.pixels(e)
        box = int(x.min()), int(x.max()) + 1, int(y.min()), int(y.max()) + 1
        noise = 1 / float(ierr[flat].max())
        image = correction_image(sources, _of_exposure(optics, e), exposure, psfs, table, box, noise)
        if image is not None:
            tiles.ravel()[flat] = image[y - box[2], x - box[0]]
    return tiles


def correction_image(
    sources: Sources,
    optics: Optics,
    exposure: Exposure | StoredExposure,
    psfs: PSFStore,
    table: ProfileTable,
    box: tuple[int, int, int, int],
    noise: float,
) -> np.ndarray | None:
    """Compute what PSF images add to the model of sources, in a part of an exposure.

    Left out are sources to which they add less than 0.1 of the noise, as the norm over all pixels: no parameter of
    any source depends on it by more than 0.1 of its standard deviation.

    Parameters
    ----------
    sources : Sources
    optics : Optics
        How this exposure alone sees them.
    exposure : Exposure or StoredExposure
    psfs : PSFStore
    table : callable
        Profile table.
    box : tuple of int
        Half-open pixel ranges (x0, x1, y0, y1).
    noise : float
        Lowest of a pixel.

    Returns
    -------
    ndarray (y1 - y0, x1 - x0) or None
        None where the PSFs have no residuals, or all sources are left out.
    """
    flux = np.abs(
        np.asarray(sources.flux)[:, int(np.asarray(optics.band)[0])] * float(np.asarray(optics.flux_scale)[0])
    )
    visible = np.flatnonzero((np.asarray(optics.psf_amplitude)[0] != 0).any(axis=-1) & (flux > 0))
    members: dict[int, tuple[PSFMixture, list[int]]] = {}
    for row in visible.tolist():
        mixture = psfs.in_exposure(exposure, tuple(np.asarray(optics.pixel)[0, row]))
        if mixture.residual is not None and flux[row] * np.linalg.norm(mixture.residual) > NEGLIGIBLE * noise:
            members.setdefault(id(mixture), (mixture, []))[1].append(row)
    images = [
        _convolved(sources, optics, np.asarray(rows), table, box, noise, _kernel(mixture.residual))
        for mixture, rows in members.values()
    ]
    return np.sum(images, axis=0) if images else None


def _convolved(sources, optics, rows, table, box, noise, kernel):
    """Compute S * R in a box."""
    spare = coarse_length(len(rows), smallest=4) - len(rows)
    padded = np.pad(rows, (0, spare), mode="edge")
    parts = Sources(*(np.array(value)[padded] for value in sources))
    parts.flux[len(rows) :] = 0
    shape = (1, len(padded), 1)
    narrow = Optics(
        band=optics.band,
        flux_scale=optics.flux_scale,
        offset=optics.offset[padded],
        pixel=optics.pixel[:, padded],
        jacobian=optics.jacobian[:, padded],
        psf_amplitude=jnp.ones(shape),
        psf_mean=jnp.zeros((*shape, 2)),
        psf_covariance=jnp.broadcast_to(jnp.asarray([_VARIANCE, _VARIANCE, 0.0]), (*shape, 3)),
        pixel_variance=jnp.zeros(shape[:2]),
        pixel_free=jnp.zeros(shape[:2], bool),
    )
    ny, nx = (side // 2 for side in kernel.shape)
    left, bottom, width, height = box[0] - nx, box[2] - ny, box[1] - box[0] + 2 * nx, box[3] - box[2] + 2 * ny
    columns, rows_of_tiles = -(-width // TILE), -(-height // TILE)
    row, column = np.divmod(np.arange(columns * rows_of_tiles), columns)
    size = len(row)
    patch = Patch(
        data=jnp.zeros((size, TILE * TILE), jnp.float32),
        ierr=jnp.full((size, TILE * TILE), 1 / noise, jnp.float32),
        origin=jnp.asarray(np.stack([left + column * TILE, bottom + row * TILE], axis=1), jnp.int32),
        exposure=jnp.zeros(size, jnp.int32),
        count=jnp.asarray(size, jnp.int32),
    )
    tiles = np.asarray(_nearby_image(parts, narrow, table, coarsely_padded(patch), "variance"))[:size]
    blocks = tiles.reshape(rows_of_tiles, columns, TILE, TILE).swapaxes(1, 2)
    image = blocks.reshape(rows_of_tiles * TILE, columns * TILE)[:height, :width]
    return oaconvolve(image.astype(np.float64), kernel, mode="valid")


def _kernel(residual):
    """Compute the kernel c of a residual, larger by a margin on all sides."""
    wide = np.pad(residual, _MARGIN)
    spectra = []
    for side in wide.shape:
        distance = np.minimum(np.arange(side), side - np.arange(side))
        one = np.exp(-0.5 * distance**2 / _VARIANCE) / np.sqrt(2 * np.pi * _VARIANCE)
        spectra.append(np.fft.fft(one).real)
    return np.fft.ifft2(np.fft.fft2(wide) / np.multiply.outer(*spectra)).real


def _of_exposure(optics, e):
    """Return the optics of one exposure."""
    names = {field.name for field in dataclasses.fields(Optics)} - {"offset", "inner"}
    return Optics(
        offset=optics.offset, **{name: np.asarray(getattr(optics, name))[e : e + 1] for name in names}
    )


_nearby_image = Program(nearby_image)
