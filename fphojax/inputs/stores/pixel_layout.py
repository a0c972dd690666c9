"""Layout of pixel stores: super-pixels, and where forcepho and we put them in the file.

A pixel store is an HDF5 file with the attributes ``super_pixel_size`` (s) and ``nside_full`` (pixels on a side of
an image, or (nx, ny)), and a dataset ``BAND/EXPOSURE/data`` for each exposure, float32, of the shape
(nx / s, ny / s, 2 s^2). The first index runs along x (FITS axis 1), the second along y. A super-pixel holds its s^2
fluxes and then its s^2 inverse errors; within each half the pixel (x, y), counted from the super-pixel's first,
stands at ``s x + y``: y runs fastest. Attributes of the dataset: ``counts_to_flux``, ``flux_units``,
``bitmask_applied``. The names of exposures may contain "/".

Ours are the following additions, which forcepho ignores. Attributes of the file: ``several_sizes``,
true where not all images have the size ``nside_full``. Attributes of the dataset: ``image_shape`` (ny, nx), the size
of the image without padding; ``footprint`` (ra, dec in degrees, radius in arcsec), a circle that holds it;
``n_weighted``, the number of pixels with weight; ``data_crc32`` and ``header_crc32``, checksums of the array and of
the header in the meta file; ``max_snr_applied``, ``source``. Beside ``data``: ``psf``, the PSF image, with the
attribute ``includes_pixel``; ``wcs_tables``, the bytes of a FITS file with the look-up tables of the header's
distortion; ``gwcs``, the bytes of an ASDF file with the WCS. At the top of the file: ``index``, the bytes of a JSON
text that repeats ``image_shape``, ``footprint`` and ``header_crc32`` of all exposures, by band and name; with it a
store of any size is opened at once. Likewise ``made_of``: the settings that made the pixels what they are
(``recipe``), and of each image the files with their sizes and times (``stamps``). All of these but the pixels have
the attribute ``crc32``, the checksum of the array; the pixels have one for each chunk (HDF5's Fletcher-32), which is
verified whenever a chunk is read.
"""

import numpy as np

__all__ = ["ALL_BITS", "CHUNK", "CRC", "INDEX", "PROVENANCE", "STATED", "packed", "super_shape", "unpacked"]

CHUNK = 128  # pixels on a side of an HDF5 chunk: about a patch, and large against the cost of a chunk
INDEX = "index"
CRC = "crc32"  # attribute of what is stored beside the pixels, and of the index: CRC-32 of the array
PROVENANCE = "made_of"
STATED = ("image_shape", "footprint", "header_crc32")  # attributes of a dataset that the index repeats
ALL_BITS = 0  # bitmask_applied where any non-zero mask value is bad


def super_shape(shape: tuple[int, int], size: int) -> tuple[int, int]:
    """Compute the number of super-pixels along x and y that hold an image of `shape` (ny, nx)."""
    return -(-shape[1] // size), -(-shape[0] // size)


def packed(data: np.ndarray, ierr: np.ndarray, size: int, count: tuple[int, int] | None = None) -> np.ndarray:
    """Arrange images in super-pixel order, padded with zeros.

    Parameters
    ----------
    data, ierr : array (ny, nx)
    size : int
        Pixels on a side of a super-pixel, s.
    count : tuple of int, optional
        Number of super-pixels along x and y; by default as many as the image needs.

    Returns
    -------
    ndarray of float32, shape (count_x, count_y, 2 s^2)
    """
    ny, nx = data.shape
    count = super_shape(data.shape, size) if count is None else count
    blocks = np.empty((*count, 2, size, size), dtype=np.float32)
    for half, image in enumerate((data, ierr)):
        if (ny, nx) != (count[1] * size, count[0] * size):
            image = np.pad(image, ((0, count[1] * size - ny), (0, count[0] * size - nx)))
        blocks[:, :, half] = image.T.reshape(count[0], size, count[1], size).swapaxes(1, 2)
    return blocks.reshape(*count, 2 * size**2)


def unpacked(blocks: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the two images (ny, nx) of an array (nx / s, ny / s, 2 s^2); the inverse of `packed`."""
    count = blocks.shape[:2]
    halves = np.asarray(blocks).reshape(*count, 2, size, size)
    data, ierr = (
        halves[:, :, half].swapaxes(1, 2).reshape(count[0] * size, count[1] * size).T for half in (0, 1)
    )
    return data, ierr
