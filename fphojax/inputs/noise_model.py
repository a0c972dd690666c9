"""Noise of exposures as their pixels show it, for the errors of fits: its size, and its correlation.

It is measured in chi = residual / error of pixels without sources (`fphojax.detection.image_noise`). C(d), mean of
chi(x) chi(x + d), is kept out to the distance beyond which it cannot be told from zero: further lags would add their
own errors and nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from fphojax.core.noise_kernels import noise_kernel
from fphojax.errors import InputError
from fphojax.system.json_files import read_json, write_json
from fphojax.system.notebook_html import Shown
from fphojax.system.wording import counted

__all__ = ["ExposureNoise", "NoiseModel", "Ring", "rings_of", "trimmed"]

_EXPECTED = "the noise of exposures (JSON), as `fphojax noise` writes it"
_SURE = 2.0  # errors, below which the mean of a ring of lags counts as none
_FAR = 0.75  # of the largest lag: from there on, what remains is noise at low frequencies
_DIGITS = 5


class Ring(NamedTuple):
    """Mean of C over the lags of one length, to half a pixel, and its standard deviation."""

    lag: int
    mean: float
    error: float


@dataclass(frozen=True, eq=False)
class ExposureNoise:
    """Noise of an exposure in units of its errors.

    Attributes
    ----------
    band, name : str
    scale, scale_error : float
        Standard deviation of chi, and its own.
    correlation : ndarray, shape (2 h + 1, 2 h + 1)
        C, with lag 0 in its middle; 0 where it cannot be told from 0.
    sky, sky_error : float
        Mean of C over distant lags: the variance that pixels so far apart share, as light of sources
        too faint to be detected leaves it.
    n_pixel : int
        Pixels without sources that were used.
    """

    band: str
    name: str
    scale: float
    scale_error: float
    correlation: np.ndarray
    sky: float
    sky_error: float
    n_pixel: int

    @classmethod
    def of(cls, band: str, name: str, correlation: np.ndarray, n_pixel: int) -> "ExposureNoise":
        """Describe the noise of which C was measured, at all lags, in so many pixels."""
        rings = rings_of(correlation, n_pixel)
        half = len(correlation) // 2
        far = [ring for ring in rings if ring.lag > _FAR * half]
        weights = np.array([ring.error**-2.0 for ring in far])
        variance = float(correlation[half, half])
        return cls(
            band,
            name,
            scale=float(np.sqrt(variance)),
            # the standard deviation of a variance s^2 is that of C(0): sqrt(2) times that of another lag
            scale_error=float(_error(correlation, n_pixel) / np.sqrt(2 * variance)),
            correlation=trimmed(correlation, rings),
            sky=float(np.average([ring.mean for ring in far], weights=weights)),
            sky_error=float(weights.sum() ** -0.5),
            n_pixel=n_pixel,
        )

    def error_factor(self, width: float) -> float:
        """Return the error of the flux of a round Gaussian of known shape, over that from the errors of the pixels.

        Parameters
        ----------
        width : float
            Its standard deviation, pixels.
        """
        half = len(self.correlation) // 2
        row, column = np.mgrid[-half : half + 1, -half : half + 1]
        overlap = np.exp(-(row**2 + column**2) / (4 * width**2))
        return float(np.sqrt(max(np.sum(overlap * self.correlation), 0.0)))


@dataclass(frozen=True, eq=False, repr=False)
class NoiseModel(Shown):
    """Noise of all exposures of a field, and what of it the errors of fits follow.

    Attributes
    ----------
    exposures : dict of (str, str) to ExposureNoise
        By band and name; those that could not be measured are not in it, and their errors are believed.
    scale : {"auto", "none"} or float
        Size of the noise in units of the errors: as measured, 1, or this number.
    correlation : {"auto", "none"}
        As measured, or none.
    """

    exposures: Mapping[tuple[str, str], ExposureNoise] = field(default_factory=dict)
    scale: Literal["auto", "none"] | float = "auto"
    correlation: Literal["auto", "none"] = "auto"

    def _facts(self):
        return {
            "": counted(len(self.exposures), "exposure"),
            "scale": self.scale,
            "correlation": self.correlation,
        }

    def kernel(self, band: str, name: str) -> np.ndarray:
        """Return the kernel of the noise of an exposure; see `fphojax.core.noise_kernels`."""
        if (band, name) not in self._kernels:
            self._kernels[band, name] = noise_kernel(self._covariance(band, name))
        return self._kernels[band, name]

    def _covariance(self, band, name):
        measured, variance, shape = self.exposures.get((band, name)), 1.0, np.ones((1, 1))
        if measured is not None:
            variance = measured.scale**2
            if self.correlation == "auto":
                shape = measured.correlation / variance
        if self.scale != "auto":
            variance = 1.0 if self.scale == "none" else float(self.scale) ** 2
        return variance * shape

    @cached_property
    def _kernels(self) -> dict[tuple[str, str], np.ndarray]:
        return {}

    def write(self, path: str | Path) -> None:
        """Write the noise of the exposures as JSON, atomically."""
        entries = [
            vars(noise)
            | {"correlation": [[round(c, _DIGITS) for c in row] for row in noise.correlation.tolist()]}
            for noise in self.exposures.values()
        ]
        write_json(path, {"exposures": entries})

    @classmethod
    def read(
        cls,
        path: str | Path,
        *,
        scale: Literal["auto", "none"] | float = "auto",
        correlation: Literal["auto", "none"] = "auto",
    ) -> "NoiseModel":
        """Read a file that `write` wrote.

        Raises
        ------
        InputError
            It is missing, or another file.
        """
        entries = read_json(path, _EXPECTED, {"exposures": list}).get("exposures")
        exposures = {}
        for number, entry in enumerate([None] if entries is None else entries):
            try:
                values = {**entry, "correlation": np.array(entry["correlation"], dtype=np.float64)}
                noise = ExposureNoise(**values)
                side = len(noise.correlation)
                good = noise.correlation.shape == (side, side) and side % 2 and noise.scale > 0
            except (TypeError, KeyError, ValueError):
                good = False
            if not good:
                raise InputError(
                    f"{path}: exposures: entry {number}: found {entry!r:.60}, expected {_EXPECTED}"
                )
            exposures[noise.band, noise.name] = noise
        return cls(exposures, scale, correlation)


def rings_of(correlation: np.ndarray, n_pixel: int) -> list[Ring]:
    """Average C over lags of equal length.

    Parameters
    ----------
    correlation : ndarray, shape (2 h + 1, 2 h + 1)
    n_pixel : int
        Pixels in which it was measured.

    Returns
    -------
    list of Ring
        From lag 1 to h. Their errors are those of noise that is nearly white (Bartlett 1946).
    """
    half = len(correlation) // 2
    lags = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1])
    error, rings = _error(correlation, n_pixel), []
    for lag in range(1, half + 1):
        of_lag = np.abs(lags - lag) < 0.5
        # C(d) and C(-d) are the same number
        rings.append(
            Ring(lag, float(correlation[of_lag].mean()), float(error * np.sqrt(2 / np.count_nonzero(of_lag))))
        )
    return rings


def trimmed(correlation: np.ndarray, rings: list[Ring]) -> np.ndarray:
    """Set C to zero from the first two rings in a row on that are zero within two errors."""
    half = len(correlation) // 2
    small = [abs(ring.mean) < _SURE * ring.error for ring in rings] + [True]
    ends = next((i for i in range(half) if small[i] and small[i + 1]), half)
    lags = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1])
    kept = np.where(lags < ends + 0.5, correlation, 0.0)
    reach = min(ends, half)
    return kept[half - reach : half + reach + 1, half - reach : half + reach + 1]


def _error(correlation, n_pixel):
    """Return the standard deviation of C at a lag."""
    return np.sqrt(np.sum(correlation**2) / max(n_pixel, 1))
