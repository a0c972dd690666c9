"""PSF models of PSFEx: polynomials in detector position, turned into mixtures on a grid of positions."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from fphojax.errors import InputError
from fphojax.mixtures.psf_fit import fit_psfs

from .psf_store import PSFMixture

__all__ = ["PSFExModel", "fit_psfex", "read_psfex"]


@dataclasses.dataclass(frozen=True)
class PSFExModel:
    """A PSF that varies over the detector, as PSFEx writes it (PSFEx manual, "Format of the .psf files").

    The image at a position is ``sum_k c_k basis_k`` with c_k the monomials x^i y^j, i + j <= degree, i running
    fastest, of the scaled coordinates ``(position - zero) / scale``. It includes the pixel response.

    Attributes
    ----------
    name : str
        The file.
    basis : ndarray (n_coefficient, ny, nx)
    degree : int
    zero, scale : (x, y)
        Of the coordinates; positions here are zero-indexed pixels.
    sampling : float
        Size of a pixel of the PSF image in pixels of the exposure.
    """

    name: str
    basis: np.ndarray
    degree: int
    zero: tuple[float, float]
    scale: tuple[float, float]
    sampling: float

    def image(self, x: float, y: float) -> np.ndarray:
        """Evaluate the PSF image (ny, nx) at a position of the detector [zero-indexed pixels]."""
        u, v = (x - self.zero[0]) / self.scale[0], (y - self.zero[1]) / self.scale[1]
        monomials = [u**i * v**j for j in range(self.degree + 1) for i in range(self.degree + 1 - j)]
        return np.tensordot(monomials, self.basis, axes=1)

    def grid(self, n: int) -> list[tuple[float, float]]:
        """Return centres of n x n equal parts of the area that the model was made from: list of (x, y)."""
        steps = (np.arange(n) + 0.5) / n - 0.5
        return [
            (float(self.zero[0] + u * self.scale[0]), float(self.zero[1] + v * self.scale[1]))
            for v in steps
            for u in steps
        ]


def read_psfex(path: str | Path) -> PSFExModel:
    """Read a ``.psf`` file.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    PSFExModel

    Raises
    ------
    InputError
        For a file that is not of PSFEx, or whose PSF depends on anything but the position in the image.
    """
    try:
        table, header = fits.getdata(path, "PSF_DATA", header=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file, expected a PSFEx model") from None
    except (OSError, KeyError) as error:
        reason = " ".join(str(error.args[-1]).split())
        raise InputError(f"{path}: no extension PSF_DATA, expected a PSFEx model ({reason})") from None
    try:
        basis = np.array(table["PSF_MASK"][0], dtype=np.float64)
        basis = basis.reshape((-1, *basis.shape[-2:]))
        axes = [_axis(header, i) for i in range(1, header["POLNAXIS"] + 1)]
        degree = int(header["POLDEG1"]) if axes else 0
        sampling = float(header["PSF_SAMP"])
    except KeyError as error:
        raise InputError(f"{path}: {error.args[0].rstrip('.')} in PSF_DATA, expected it") from None
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: PSF_DATA cannot be read ({reason}), expected a PSFEx model") from None
    if not 0 < sampling < np.inf:
        raise InputError(f"{path}: PSF_SAMP is {sampling}, expected a positive number")
    names = [name for name, _, _ in axes]
    if axes and (len(axes) != 2 or not (names[0].startswith("X") and names[1].startswith("Y"))):
        raise InputError(f"{path}: PSF depends on {', '.join(names)}, expected X_IMAGE, Y_IMAGE or nothing")
    if header.get("POLNGRP", 1) > 1:
        raise InputError(f"{path}: {header['POLNGRP']} groups of coordinates, expected 1")
    expected = (degree + 1) * (degree + 2) // 2
    if len(basis) != expected:
        raise InputError(f"{path}: {len(basis)} images in PSF_MASK, expected {expected} for degree {degree}")
    (_, x0, dx), (_, y0, dy) = axes or [("", 1.0, 1.0)] * 2
    return PSFExModel(str(path), basis, degree, (x0 - 1, y0 - 1), (dx, dy), sampling)


def fit_psfex(path: str | Path, *, n_grid: int = 3, workers: int = 1, **options: Any) -> list[PSFMixture]:
    """Fit mixtures of Gaussians to a PSFEx model, on a grid of detector positions.

    Parameters
    ----------
    path : path-like
    n_grid : int
        Positions per axis; a model without variation gives one mixture, without position.
    workers : int
        Number of processes.
    **options
        Those of `fphojax.mixtures.psf_fit.fit_psf`.

    Returns
    -------
    list of PSFMixture
    """
    model = read_psfex(path)
    positions = model.grid(n_grid) if model.degree > 0 else [None]
    images = [model.image(*(position or model.zero)) for position in positions]
    names = [f"{path} at {position}" if position else str(path) for position in positions]
    fits_ = fit_psfs(
        images, names=names, workers=workers, oversample=1 / model.sampling, includes_pixel=True, **options
    )
    return [PSFMixture.from_fit(f, detector_location=p) for f, p in zip(fits_, positions, strict=True)]


def _axis(header, i):
    """Read name, zero and scale of a coordinate of the polynomial."""
    return header[f"POLNAME{i}"].strip(), float(header[f"POLZERO{i}"]), float(header[f"POLSCAL{i}"])
