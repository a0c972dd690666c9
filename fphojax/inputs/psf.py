"""PSF mixtures of Gaussians, and the HDF5 store that keeps them by band, exposure and detector position."""

import dataclasses
import pathlib

import h5py
import numpy as np

from .errors import InputError
from .psf_layout import collapsed, repeated, replacing, table

__all__ = ["PSFMixture", "PSFStore"]


@dataclasses.dataclass(frozen=True)
class PSFMixture:
    """A PSF as a sum of Gaussians, in pixels of the exposure.

    Attributes
    ----------
    amplitudes : ndarray (K,)
        Flux of each Gaussian as a fraction of the source's; may be negative, the sum may not be zero or less.
    means : ndarray (K, 2)
        Offsets x, y from the source [pixels].
    covariances : ndarray (K, 3)
        xx, yy, xy [pixels squared].
    includes_pixel : bool
        Whether the response of the pixel is part of the mixture.
    detector_location : (x, y) or None
        Position on the detector [pixels] for which the mixture holds.

    Raises
    ------
    InputError
        For shapes that do not agree, values that are not finite, a covariance that is not positive definite,
        or amplitudes that sum to zero or less.
    """

    amplitudes: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    includes_pixel: bool = True
    detector_location: tuple[float, float] | None = None

    def __post_init__(self):
        for name in ("amplitudes", "means", "covariances"):
            object.__setattr__(self, name, np.array(getattr(self, name), dtype=np.float64))
        k = self.amplitudes.size
        for name, shape in (("amplitudes", (k,)), ("means", (k, 2)), ("covariances", (k, 3))):
            values = getattr(self, name)
            if values.shape != shape or k == 0:
                raise InputError(
                    f"PSF mixture: shape of {name} is {values.shape}, expected {shape}, not empty"
                )
            if not np.all(np.isfinite(values)):
                raise InputError(
                    f"PSF mixture: {name} holds {values[~np.isfinite(values)][0]}, expected finite values"
                )
        xx, yy, xy = self.covariances.T
        bad = np.flatnonzero(~((xx > 0) & (yy > 0) & (xx * yy > xy**2)))
        if bad.size:
            raise InputError(
                f"PSF mixture: covariance of Gaussian {bad[0]} is (xx, yy, xy) = "
                f"{tuple(self.covariances[bad[0]].tolist())}, expected a positive definite one"
            )
        if not self.amplitudes.sum() > 0:
            raise InputError(
                f"PSF mixture: total flux is {self.amplitudes.sum():.6g}, expected a positive one"
            )
        if self.detector_location is not None:
            x, y = self.detector_location
            object.__setattr__(self, "detector_location", (float(x), float(y)))

    @classmethod
    def from_fit(cls, fit, *, detector_location=None):
        """The mixture of a `fphojax.mixtures.psf_fit.PSFFit`."""
        return cls(fit.amplitudes, fit.means, fit.covariances, fit.includes_pixel, detector_location)

    def render(self, shape, centre, *, pixel_variance=None):
        """The PSF of a source sampled at pixel centres.

        Parameters
        ----------
        shape : (ny, nx)
        centre : (x, y)
            Position of the source [pixels, zero-indexed].
        pixel_variance : float, optional
            Variance per axis added to each covariance; default 1/12 (the pixel) for a mixture that does not
            include the pixel response, else 0.

        Returns
        -------
        ndarray (ny, nx)
        """
        if pixel_variance is None:
            pixel_variance = 0.0 if self.includes_pixel else 1 / 12
        y, x = np.mgrid[: shape[0], : shape[1]]
        image = np.zeros(shape)
        for amplitude, mean, (xx, yy, xy) in zip(self.amplitudes, self.means, self.covariances, strict=True):
            xx, yy = xx + pixel_variance, yy + pixel_variance
            det = xx * yy - xy**2
            dx, dy = x - centre[0] - mean[0], y - centre[1] - mean[1]
            exponent = -0.5 * (yy * dx**2 - 2 * xy * dx * dy + xx * dy**2) / det
            image += amplitude / (2 * np.pi * np.sqrt(det)) * np.exp(exponent)
        return image


class PSFStore:
    """PSF mixtures by band, exposure and detector position.

    The file is HDF5, in an extension of forcepho's layout: dataset ``BAND/parameters`` (n_location, n_gauss)
    with the fields amp, xcen, ycen, Cxx, Cyy, Cxy [pixels]; dataset ``BAND/detector_locations``
    (n_location, 2); attribute ``includes_pixel`` of the group, false where it is absent; the PSF of a single
    exposure likewise in the group ``BAND/EXPOSURE``. A row with fewer Gaussians than its dataset is padded
    with amplitude zero.

    ``PSFStore()`` is empty, `PSFStore.open` reads a file.
    """

    def __init__(self):
        self._entries = {}
        self._name = "the PSF store"

    @classmethod
    def open(cls, path):
        """Read a store, ours or forcepho's, into memory.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        PSFStore

        Raises
        ------
        InputError
            For a file that is missing or not a PSF store.
        """
        path = pathlib.Path(path)
        store = cls()
        store._name = str(path)
        try:
            with h5py.File(path, "r") as file:
                for band, group in file.items():
                    store._read(group, band, None)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file, expected a PSF store") from None
        except OSError as error:
            raise InputError(
                f"{path}: not an HDF5 file, expected a PSF store ({' '.join(str(error).split())})"
            ) from None
        if not store._entries:
            raise InputError(f"{path}: holds no PSF, expected a group BAND with a dataset `parameters`")
        return store

    @property
    def bands(self):
        """The bands of the store, sorted: list of str."""
        return sorted({band for band, _ in self._entries})

    def exposures(self, band):
        """The exposures of a band that have PSFs of their own, sorted: list of str."""
        return sorted(exposure for b, exposure in self._entries if b == band and exposure is not None)

    def mixtures(self, band, exposure=None):
        """All mixtures (one for each detector position) of a band or of one exposure: list of PSFMixture."""
        try:
            return list(self._entries[band, exposure])
        except KeyError:
            raise InputError(self._missing(band, exposure)) from None

    def add(self, mixtures, band, exposure=None):
        """Put in one mixture, or one for each of several detector positions, in place of what was there.

        Parameters
        ----------
        mixtures : PSFMixture or sequence of PSFMixture
        band : str
        exposure : str, optional
            Exposure whose own PSF this is; default: that of all exposures of the band.

        Raises
        ------
        InputError
            For several mixtures that lack positions or differ in whether they include the pixel.
        """
        mixtures = [mixtures] if isinstance(mixtures, PSFMixture) else list(mixtures)
        where = f"PSF of {band}" + (f", exposure {exposure}" if exposure is not None else "")
        for key in (band, exposure):
            if key is not None and (
                not key or "/" in key or key in (".", "parameters", "detector_locations")
            ):
                raise InputError(f"{where}: {key!r} cannot name a group, expected a name without '/'")
        if not mixtures:
            raise InputError(f"{where}: no mixture was given, expected at least one")
        if len(mixtures) > 1 and any(m.detector_location is None for m in mixtures):
            raise InputError(
                f"{where}: one of {len(mixtures)} mixtures has no detector location, expected all to have"
            )
        if len({m.includes_pixel for m in mixtures}) > 1:
            raise InputError(
                f"{where}: some mixtures include the pixel response and some do not, expected one kind"
            )
        self._entries[band, exposure] = tuple(mixtures)

    def lookup(self, band, exposure=None, location=None, *, interpolate=False):
        """The PSF for a source.

        Parameters
        ----------
        band : str
        exposure : str, optional
            An exposure's own PSF goes before the band's.
        location : (x, y), optional
            Position on the detector [pixels]; needed where the PSF varies.
        interpolate : bool
            Whether to mix the PSFs at the nearest four detector positions, weighted bilinearly on a regular
            grid and by inverse square distance elsewhere, instead of taking the nearest.

        Returns
        -------
        PSFMixture

        Raises
        ------
        InputError
            Where the store has no such PSF, or a location is needed and not given.
        """
        key = (band, exposure) if (band, exposure) in self._entries else (band, None)
        if key not in self._entries:
            raise InputError(self._missing(band, exposure))
        mixtures = self._entries[key]
        if len(mixtures) == 1:
            return mixtures[0]
        if location is None:
            raise InputError(
                f"PSF of {band} in {self._name} varies over the detector ({len(mixtures)} positions), "
                "expected a location"
            )
        positions = np.array([m.detector_location for m in mixtures])
        if not interpolate:
            return mixtures[np.argmin(np.hypot(*(positions - location).T))]
        weights = _interpolation_weights(positions, np.asarray(location, dtype=float))
        return _blend(mixtures, weights, location)

    def write(self, path, *, overwrite=False):
        """Write the store to a file, at once or not at all.

        Parameters
        ----------
        path : path-like
        overwrite : bool
            Whether a file of that name may be replaced.

        Raises
        ------
        InputError
            Where the file exists and may not be replaced.
        """
        with replacing(path, overwrite) as file:
            for (band, exposure), mixtures in self._entries.items():
                group = file.require_group(band)
                if exposure is not None:
                    group = group.require_group(exposure)
                group.attrs["includes_pixel"] = mixtures[0].includes_pixel
                group["parameters"] = table(mixtures)
                _write_locations(group, mixtures)

    def add_to(self, path, *, overwrite=False):
        """Add the PSFs of this store to a file, which is created where there is none.

        All other PSFs of the file stay as they are, whenever the process may end: a new file takes the place
        of the old one in one step.

        Parameters
        ----------
        path : path-like
        overwrite : bool
            Whether PSFs that the file has may be replaced.

        Raises
        ------
        InputError
            Where the file has one of these PSFs and it may not be replaced.
        """
        path = pathlib.Path(path)
        merged = PSFStore.open(path) if path.exists() else PSFStore()
        for (band, exposure), mixtures in self._entries.items():
            if (band, exposure) in merged._entries and not overwrite:
                what = f"band {band}" + (f", exposure {exposure}" if exposure is not None else "")
                raise InputError(f"{path}: has a PSF for {what} already, expected none (or overwrite=True)")
            merged._entries[band, exposure] = mixtures
        merged.write(path, overwrite=True)

    def write_forcepho(self, path, n_radii, *, overwrite=False):
        """Write the PSFs of the bands as forcepho reads them: repeated for each radius of its Sersic table.

        Parameters
        ----------
        path : path-like
        n_radii : int
            Number of radii of the Sersic table.
        overwrite : bool

        Raises
        ------
        InputError
            For PSFs that forcepho's layout cannot hold: those of single exposures, or such as include the
            pixel response, which forcepho would add a second time.
        """
        for (band, exposure), mixtures in self._entries.items():
            if exposure is not None:
                raise InputError(
                    f"PSF of {band}: exposure {exposure} has its own, expected none in forcepho's layout"
                )
            if mixtures[0].includes_pixel:
                raise InputError(
                    f"PSF of {band}: includes the pixel response, expected one without for forcepho"
                )
        with replacing(path, overwrite) as file:
            for (band, _), mixtures in self._entries.items():
                rows = repeated(table(mixtures), n_radii)
                group = file.create_group(band)
                group.attrs["n_psf_per_source"] = rows.shape[1]
                group["parameters"] = rows
                _write_locations(group, mixtures)

    def _missing(self, band, exposure):
        what = f"band {band}" + (f", exposure {exposure}" if exposure is not None else "")
        return f"no PSF for {what}; {self._name} has {', '.join(self.bands) or 'none'}"

    def _read(self, group, band, exposure):
        """Put in what a group of the file holds, and its sub-groups if it is a band's."""
        where = f"{self._name}: {group.name}"
        if not isinstance(group, h5py.Group):
            raise InputError(f"{where} is a dataset, expected a group")
        if "parameters" in group:
            rows = collapsed(group["parameters"][()], where)
            places = group["detector_locations"][()] if "detector_locations" in group else [None] * len(rows)
            if len(places) != len(rows):
                raise InputError(
                    f"{where}: {len(places)} detector_locations, expected {len(rows)}, as parameters"
                )
            includes_pixel = bool(group.attrs.get("includes_pixel", False))
            try:
                mixtures = [_mixture(row, includes_pixel, xy) for row, xy in zip(rows, places, strict=True)]
                self.add(mixtures, band, exposure)
            except InputError as error:
                raise InputError(f"{where}: {error}") from None
        elif exposure is not None or not len(group):
            raise InputError(f"{where} has no dataset `parameters`, expected one")
        for name, item in group.items():
            if exposure is None and isinstance(item, h5py.Group):
                self._read(item, band, name)


def _mixture(row, includes_pixel, location):
    """A row of the parameters as a PSFMixture, without the padding."""
    if np.any(row["amp"]):
        row = row[row["amp"] != 0]
    means = np.stack([row["xcen"], row["ycen"]], axis=1)
    covariances = np.stack([row["Cxx"], row["Cyy"], row["Cxy"]], axis=1)
    return PSFMixture(
        row["amp"], means, covariances, includes_pixel, None if location is None else tuple(location)
    )


def _write_locations(group, mixtures):
    if mixtures[0].detector_location is not None:
        group["detector_locations"] = np.array([m.detector_location for m in mixtures])


def _interpolation_weights(positions, location):
    """Weights (n_location,) that sum to 1: bilinear on a regular grid, inverse square distance elsewhere."""
    columns, rows = (np.unique(p) for p in positions.T)
    if columns.size * rows.size == len(positions) and len(np.unique(positions, axis=0)) == len(positions):
        wx, wy = _linear_weights(columns, location[0]), _linear_weights(rows, location[1])
        return wx[np.searchsorted(columns, positions[:, 0])] * wy[np.searchsorted(rows, positions[:, 1])]
    square = np.sum((positions - location) ** 2, axis=1)
    nearest = np.argsort(square)[:4]
    weights = np.zeros(len(positions))
    weights[nearest] = 1 / np.maximum(square[nearest], 1e-12 * max(square.max(), 1.0))
    return weights / weights.sum()


def _linear_weights(nodes, value):
    """Weights of linear interpolation between sorted nodes, constant beyond them."""
    return np.array([np.interp(value, nodes, unit) for unit in np.eye(nodes.size)])


def _blend(mixtures, weights, location):
    """The weighted sum of mixtures: all their Gaussians, amplitudes multiplied by the weights."""
    used = [(m, w) for m, w in zip(mixtures, weights, strict=True) if w > 0]
    return PSFMixture(
        np.concatenate([w * m.amplitudes for m, w in used]),
        np.concatenate([m.means for m, _ in used]),
        np.concatenate([m.covariances for m, _ in used]),
        mixtures[0].includes_pixel,
        tuple(location),
    )
