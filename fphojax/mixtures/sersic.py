"""Sersic profiles as mixtures of circular Gaussians.

A table turns the shape of a profile, its Sersic index n and circularised half-light radius r_h, into the
amplitudes and variances of K concentric circular Gaussians. Two kinds share one signature,

    amplitudes, variances = table(sersic, rhalf)

`ScaleFreeSersic`, the default, depends on n only: the widths are s_k(n) r_h, so it holds for every radius.
`FixedRadiiSersic` reads forcepho's files: fixed widths, amplitudes on a grid of (n, r_h).
Both are immutable pytrees of float64 arrays, so they pass through `jax.jit`, `jax.vmap` and `jax.grad`.
docs/mathematics/profiles.md has the formulas and the errors.
"""

import math
from importlib.resources import as_file, files
from pathlib import Path

import equinox as eqx
import h5py
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from scipy.interpolate import RectBivariateSpline

from fphojax.core.backend import on_device
from fphojax.errors import InputError
from fphojax.system.files import replacing_hdf5

__all__ = ["FixedRadiiSersic", "ScaleFreeSersic", "load_sersic_table"]

_SCALE_FREE_DATASETS = ("steps", "logits")
_FIXED_RADII_DATASETS = ("nsersic", "rh", "radii", "amplitudes")


class ScaleFreeSersic(eqx.Module):
    """Gaussians whose widths scale with the half-light radius: a table in the Sersic index alone.

    The logarithm of the narrowest width, the steps in log width from each Gaussian to the next, and the
    amplitudes come from Chebyshev series in x(n) = log(n - offset), scaled to [-1, 1] over `sersic_range`,
    through the softplus of their steps and the softmax of their logits. So the widths increase, the
    amplitudes are positive and sum to one at every n, and all are analytic in n. Beyond `sersic_range` the
    index is clamped to its edge.

    Parameters
    ----------
    steps : array, shape (K, degree + 1)
        Chebyshev coefficients of ln s_1(n), with the width s in units of the half-light radius, and, in the
        rows that follow, of the number whose softplus is ln(s_k(n) / s_{k-1}(n)).
    logits : array, shape (K, degree + 1)
        Chebyshev coefficients of the logits of the amplitudes.
    sersic_range : tuple of float
        Smallest and largest Sersic index of the table.
    offset : float
        The index is resolved as log(n - offset); below the lower end of `sersic_range`.
    """

    steps: jax.Array
    logits: jax.Array
    sersic_range: tuple[float, float] = eqx.field(static=True)
    offset: float = eqx.field(static=True)

    @property
    def order(self) -> int:
        """Number of Gaussians K."""
        return self.steps.shape[0]

    def __call__(self, sersic: ArrayLike, rhalf: ArrayLike) -> tuple[jax.Array, jax.Array]:
        """Return the Gaussians of profiles.

        Parameters
        ----------
        sersic : array_like, shape (...)
            Sersic index.
        rhalf : array_like, shape (...)
            Circularised half-light radius [arcsec].

        Returns
        -------
        amplitudes : array, shape (..., K)
            Fractions of the total flux; they sum to one.
        variances : array, shape (..., K)
            Variances of the circular Gaussians [arcsec^2].
        """
        sersic, rhalf = _as_floats(sersic, rhalf)
        low, high = self.sersic_range
        start, stop = math.log(low - self.offset), math.log(high - self.offset)
        x = (2 * jnp.log(_clamp(sersic, low, high) - self.offset) - start - stop) / (stop - start)
        basis = _chebyshev(x, self.steps.shape[1])
        steps = _series(self.steps, basis)
        steps = jnp.concatenate([steps[..., :1], jax.nn.softplus(steps[..., 1:])], axis=-1)
        log_widths = jnp.cumsum(steps, axis=-1)
        amplitudes = jax.nn.softmax(_series(self.logits, basis), axis=-1)
        return amplitudes, jnp.exp(2 * log_widths) * rhalf[..., None] ** 2

    def write(self, path: str | Path) -> None:
        """Write the table to an HDF5 file, atomically.

        Parameters
        ----------
        path : path-like
            The file; an existing one is replaced.

        Raises
        ------
        InputError
            If its folder does not exist.
        """
        with replacing_hdf5(path) as file:
            for name in _SCALE_FREE_DATASETS:
                file[name] = np.asarray(getattr(self, name), dtype="f8")
            file.attrs["sersic_range"] = self.sersic_range
            file.attrs["offset"] = self.offset


class FixedRadiiSersic(eqx.Module):
    """Gaussians of fixed widths, with amplitudes by a bicubic spline in (n, r_h): tables as forcepho makes.

    The spline interpolates the grid of the file and is evaluated as a tensor product of B-splines (de Boor
    1978). Beyond the grid both arguments are clamped to its edge. The amplitudes are those of the file;
    they need not sum to one.

    Parameters
    ----------
    radii : array, shape (K,)
        Widths of the Gaussians [arcsec]; the first may be zero.
    sersic_knots, rhalf_knots : array, shape (n_sersic + 4,), (n_rhalf + 4,)
        Knots of the cubic splines.
    coefficients : array, shape (n_sersic, n_rhalf, K)
        Coefficients of the B-splines.
    """

    radii: jax.Array
    sersic_knots: jax.Array
    rhalf_knots: jax.Array
    coefficients: jax.Array

    @classmethod
    def from_grid(
        cls, sersic: np.ndarray, rhalf: np.ndarray, radii: np.ndarray, amplitudes: np.ndarray
    ) -> "FixedRadiiSersic":
        """Build the table from amplitudes on a rectangular grid, by interpolation.

        Parameters
        ----------
        sersic, rhalf : array, shape (n_sersic,), (n_rhalf,)
            Increasing Sersic indices and half-light radii [arcsec], at least four of each.
        radii : array, shape (K,)
            Widths of the Gaussians [arcsec].
        amplitudes : array, shape (n_sersic, n_rhalf, K)
            Amplitudes at the nodes of the grid.
        """
        splines = [RectBivariateSpline(sersic, rhalf, plane) for plane in np.moveaxis(amplitudes, -1, 0)]
        coefficients = [spline.get_coeffs().reshape(len(sersic), len(rhalf)) for spline in splines]
        arrays = (radii, *splines[0].get_knots(), np.stack(coefficients, axis=-1))
        return cls(*(jnp.asarray(array, dtype="f8") for array in arrays))

    @property
    def order(self) -> int:
        """Number of Gaussians K."""
        return self.radii.shape[0]

    @property
    def sersic_range(self) -> tuple[float, float]:
        """Smallest and largest Sersic index of the grid."""
        return float(self.sersic_knots[0]), float(self.sersic_knots[-1])

    @property
    def rhalf_range(self) -> tuple[float, float]:
        """Smallest and largest half-light radius of the grid [arcsec]."""
        return float(self.rhalf_knots[0]), float(self.rhalf_knots[-1])

    def __call__(self, sersic: ArrayLike, rhalf: ArrayLike) -> tuple[jax.Array, jax.Array]:
        """Return the Gaussians of profiles as `ScaleFreeSersic.__call__`, but with any sum of amplitudes."""
        sersic, rhalf = _as_floats(sersic, rhalf)
        sersic, rhalf = jnp.broadcast_arrays(sersic, rhalf)
        rows, row_weights = _cubic_bsplines(self.sersic_knots, sersic)
        columns, column_weights = _cubic_bsplines(self.rhalf_knots, rhalf)
        patch = self.coefficients.astype(rhalf.dtype)[rows[..., :, None], columns[..., None, :]]
        amplitudes = jnp.sum(
            patch * (row_weights[..., :, None] * column_weights[..., None, :])[..., None], (-3, -2)
        )
        variances = jnp.broadcast_to(self.radii.astype(rhalf.dtype) ** 2, amplitudes.shape)
        return amplitudes, variances


def load_sersic_table(path: str | Path | None = None) -> ScaleFreeSersic | FixedRadiiSersic:
    """Read a Sersic table of either kind from an HDF5 file.

    Parameters
    ----------
    path : path-like, optional
        The file; the table that comes with the package if not given.

    Returns
    -------
    table : ScaleFreeSersic or FixedRadiiSersic
        The kind is recognised by the datasets in the file.

    Raises
    ------
    InputError
        The file is missing, is not an HDF5 file, or contains no usable table of either kind.
    """
    if path is None:
        with as_file(files("fphojax.mixtures") / "data" / "sersic.h5") as shipped:
            return load_sersic_table(shipped)
    if not Path(path).is_file():
        raise InputError(f"{path}: found no file, expected a Sersic table")
    try:
        with h5py.File(path, "r") as file:
            if all(name in file for name in _SCALE_FREE_DATASETS):
                return _read_scale_free(path, file)
            if all(name in file for name in _FIXED_RADII_DATASETS):
                return _read_fixed_radii(path, file)
            datasets = ", ".join(sorted(file)) or "nothing"
    except OSError as error:
        raise InputError(f"{path}: found a file that is not HDF5, expected a Sersic table") from error
    raise InputError(
        f"{path}: found {datasets}, expected the datasets {', '.join(_SCALE_FREE_DATASETS)} (scale-free) "
        f"or {', '.join(_FIXED_RADII_DATASETS)} (fixed radii)"
    )


def _read_scale_free(path, file):
    """Read a scale-free table from an open file."""
    steps, logits = (np.asarray(file[name], dtype="f8") for name in _SCALE_FREE_DATASETS)
    if steps.ndim != 2 or logits.shape != steps.shape:
        raise InputError(
            f"{path}: found steps of shape {steps.shape} and logits of shape {logits.shape}, "
            "expected the same (order, coefficients)"
        )
    missing = {"sersic_range", "offset"} - set(file.attrs)
    if missing:
        raise InputError(f"{path}: found no attribute {min(missing)}, expected sersic_range and offset")
    low, high = (float(edge) for edge in file.attrs["sersic_range"])
    offset = float(file.attrs["offset"])
    finite = np.isfinite(steps).all() and np.isfinite(logits).all()
    if not (finite and offset < low < high):
        raise InputError(
            f"{path}: found offset {offset} and sersic_range [{low}, {high}], "
            "expected offset < lower < upper and finite coefficients"
        )
    return ScaleFreeSersic(on_device(steps), on_device(logits), (low, high), offset)


def _read_fixed_radii(path, file):
    """Read a fixed-radii table from an open file, its grid flattened in any order."""
    sersic, rhalf, radii, amplitudes = (np.asarray(file[name], dtype="f8") for name in _FIXED_RADII_DATASETS)
    if amplitudes.shape != (sersic.size, radii.size) or rhalf.size != sersic.size:
        raise InputError(
            f"{path}: found amplitudes {amplitudes.shape}, nsersic {sersic.shape}, rh {rhalf.shape}, "
            f"expected the shapes ({sersic.size}, {radii.size}), ({sersic.size},), ({sersic.size},)"
        )
    rows, row = np.unique(sersic, return_inverse=True)
    columns, column = np.unique(rhalf, return_inverse=True)
    filled = np.zeros((rows.size, columns.size), dtype=int)
    np.add.at(filled, (row, column), 1)
    if not (filled == 1).all() or min(filled.shape) < 4:
        raise InputError(
            f"{path}: found {sersic.size} pairs of {rows.size} nsersic and {columns.size} rh, "
            "expected each pair of a rectangular grid once, at least 4 by 4"
        )
    if not np.isfinite(amplitudes).all():
        raise InputError(f"{path}: found amplitudes that are not finite, expected finite numbers")
    grid = np.empty((*filled.shape, radii.size))
    grid[row, column] = amplitudes
    return FixedRadiiSersic.from_grid(rows, columns, radii, grid)


def _as_floats(sersic, rhalf):
    """Convert both arguments to arrays of their common floating dtype."""
    dtype = jnp.result_type(sersic, rhalf, 0.0)
    return jnp.asarray(sersic, dtype), jnp.asarray(rhalf, dtype)


def _clamp(value, low, high):
    """Clip a value to [low, high]; unlike `jnp.clip`, keep the full derivative at the edges."""
    return jnp.where(value < low, low, jnp.where(value > high, high, value))


def _chebyshev(x, number):
    """Evaluate the Chebyshev polynomials T_0 to T_{number-1} at x, by recurrence, along a new last axis."""
    terms = [jnp.ones_like(x), x]
    for _ in range(2, number):
        terms.append(2 * x * terms[-1] - terms[-2])
    return jnp.stack(terms[:number], axis=-1)


def _series(coefficients, basis):
    """Sum coefficients (K, m) times basis (..., m), in the precision of the basis on every device."""
    return jnp.einsum("kd,...d->...k", coefficients.astype(basis.dtype), basis, precision="highest")


def _cubic_bsplines(knots, x):
    """Evaluate the four cubic B-splines that do not vanish at x, clamped to the knots (Cox-de Boor).

    Returns
    -------
    indices : integer array, shape (..., 4)
        Which B-splines.
    values : array, shape (..., 4)
        Their values.
    """
    knots = knots.astype(x.dtype)
    x = _clamp(x, knots[3], knots[-4])
    cell = jnp.clip(jnp.searchsorted(knots, x, side="right") - 1, 3, knots.size - 5)
    values = [jnp.ones_like(x)]
    for degree in (1, 2, 3):
        previous, values = values, [jnp.zeros_like(x)]
        for i, value in enumerate(previous):
            left = knots[cell + 1 + i - degree]
            right = knots[cell + 1 + i]
            share = value / (right - left)
            values[-1] = values[-1] + (right - x) * share
            values.append((x - left) * share)
    return cell[..., None] + jnp.arange(-3, 1), jnp.stack(values, axis=-1)
