"""The box in which each parameter of each source is allowed to lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u
from numpy.typing import ArrayLike

from fphojax.errors import InputError
from fphojax.system.notebook_html import Shown
from fphojax.system.wording import counted

from .angles import looks_like_radians
from .source_catalog import SourceCatalog
from .units import has_unit, to_number, to_unit

if TYPE_CHECKING:
    from numpyro.distributions import Distribution

__all__ = ["PARAMETERS", "POINT", "Bounds", "check_pa_prior", "default_bounds", "wrap_pa"]

PARAMETERS = ("flux", "x", "y", "q", "pa", "sersic", "rhalf")
_UNITS = {
    "flux": u.nJy,
    "x": u.arcsec,
    "y": u.arcsec,
    "pa": u.deg,
    "rhalf": u.arcsec,
    "q": u.one,
    "sersic": u.one,
}
POINT = 0.1  # pixels, the half-light radius at which no image tells a galaxy from a star
RHALF_FACTOR, LEAST_UPPER_RHALF = (
    5.0,
    1.0,
)  # of the upper limit of half-light radii: times the catalogue's, arcsec


@dataclass(frozen=True, eq=False, repr=False)
class Bounds(Shown):
    """Lower and upper bounds of every parameter.

    Attributes
    ----------
    lower, upper : dict of str to ndarray
        For each name in `PARAMETERS`; shape (N, n_band) for ``flux``, (N,) for the others. ``x`` and ``y``
        are arcsec east and north of the source's own position in the catalogue; everything else is in the
        units of `SourceCatalog`, ``pa`` in degrees. What comes with a unit is converted.
    bands : tuple of str
        Columns of ``flux``.

    Raises
    ------
    InputError
        If an array has another shape, a lower bound is not below its upper bound, or one is not finite.
    """

    lower: dict[str, np.ndarray]
    upper: dict[str, np.ndarray]
    bands: tuple[str, ...]

    def _facts(self):
        return {"": f"of {counted(len(self), 'source')}", "bands": ", ".join(self.bands)}

    def __post_init__(self) -> None:
        for side, limits in (("lower", self.lower), ("upper", self.upper)):
            if any(map(has_unit, limits.values())):
                values = {
                    name: to_unit(limits[name], unit, f"{side} bound of {name}")
                    for name, unit in _UNITS.items()
                }
                object.__setattr__(self, side, limits | values)
        size = np.size(self.lower["x"])
        for name in PARAMETERS:
            low, high = self.lower[name], self.upper[name]
            shape = (size, len(self.bands)) if name == "flux" else (size,)
            for actual in (np.shape(low), np.shape(high)):
                if actual != shape:
                    raise InputError(f"bounds of {name}: found shape {actual}, expected {shape}")
            bad = ~(np.isfinite(low) & np.isfinite(high) & (low < high))
            if bad.any():
                at = tuple(np.argwhere(bad)[0])
                raise InputError(
                    f"row {at[0]}: bounds of {name} are [{low[at]:g}, {high[at]:g}], "
                    "expected finite numbers, the lower one first"
                )

    def __len__(self) -> int:
        return len(self.lower["x"])

    def __getitem__(self, rows: int | slice | np.ndarray | Sequence[int]) -> "Bounds":
        """Select the bounds of some sources (an index, indices, a slice or a mask)."""
        lower, upper = ({name: _rows(side[name], rows) for name in PARAMETERS} for side in self._sides)
        return Bounds(lower, upper, self.bands)

    def select_bands(self, bands: Sequence[str]) -> "Bounds":
        """Select the bounds of these bands, in this order.

        Raises
        ------
        InputError
            If one is missing.
        """
        if tuple(bands) == self.bands:
            return self
        missing = [band for band in bands if band not in self.bands]
        if missing:
            raise InputError(f"no bounds of fluxes in {', '.join(missing)}, found {', '.join(self.bands)}")
        columns = [self.bands.index(band) for band in bands]
        lower, upper = (side | {"flux": side["flux"][:, columns]} for side in self._sides)
        return Bounds(lower, upper, tuple(bands))

    def matching(self, catalog: SourceCatalog) -> "Bounds":
        """Select the bounds in the bands of a catalogue.

        Raises
        ------
        InputError
            If a band is missing, or there are more or fewer rows than sources.
        """
        if len(self) != len(catalog):
            raise InputError(f"bounds: found {len(self)} rows, expected {len(catalog)}, one for each source")
        return self.select_bands(catalog.bands)

    def replace(self, **limits: tuple[ArrayLike, ArrayLike]) -> "Bounds":
        """Return bounds with some limits changed, given as ``name=(lower, upper)`` for all sources or each.

        A Quantity is converted; plain numbers are in the units of `SourceCatalog`, ``pa`` in degrees.

        Raises
        ------
        InputError
            An unknown name, a unit of another dimension, limits that the class refuses, or position angles without
            a unit that look like radians.
        """
        unknown = set(limits) - set(PARAMETERS)
        if unknown:
            raise InputError(
                f"bounds of {', '.join(sorted(unknown))}, expected among {', '.join(PARAMETERS)}"
            )
        if "pa" in limits and not any(map(has_unit, limits["pa"])):
            plain = np.concatenate([np.ravel(limit) for limit in limits["pa"]]).astype(np.float64)
            if looks_like_radians(plain):
                raise InputError(
                    f"bounds of pa: found plain numbers that look like radians, such as {plain[-1]:g}, expected "
                    "degrees: give a Quantity (u.rad, or u.deg if degrees are meant)"
                )
        changed = (
            {name: to_unit(pair[i], _UNITS[name], f"bounds of {name}") for name, pair in limits.items()}
            for i in (0, 1)
        )
        lower, upper = (
            side | {name: np.broadcast_to(limit, side[name].shape).copy() for name, limit in new.items()}
            for side, new in zip(self._sides, changed, strict=True)
        )
        return Bounds(lower, upper, self.bands)

    def clipped(self, catalog: SourceCatalog) -> SourceCatalog:
        """Return a catalogue with its shapes (``q``, ``sersic``, ``rhalf``) moved inside the bounds."""
        lower, upper = self._sides
        names = ("q", "sersic", "rhalf")
        return catalog.replace(**{name: np.clip(catalog[name], lower[name], upper[name]) for name in names})

    def of_model(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return lower and upper bounds in the units of the model, where ``pa`` is in radians."""
        lower, upper = (side | {"pa": np.deg2rad(side["pa"])} for side in self._sides)
        return lower, upper

    def violations(self, catalog: SourceCatalog, names: Sequence[str] = PARAMETERS) -> list[str]:
        """List parameters of sources outside their bounds, a line for each; a value on a bound is inside."""
        lower, upper = self.matching(catalog)._sides
        zero = np.zeros(len(catalog))
        lines = []
        for name in names:
            value = zero if name in ("x", "y") else getattr(catalog, name)
            low, high = lower[name], upper[name]
            for at in map(tuple, np.argwhere(~((low <= value) & (value <= high)))):
                what = f"flux in {catalog.bands[at[1]]}" if name == "flux" else name
                violation = f"row {at[0]} (id {catalog.id[at[0]]}): {what} is {value[at]:.6g}"
                lines.append(f"{violation}, expected within [{low[at]:.6g}, {high[at]:.6g}]")
        return lines

    @property
    def _sides(self):
        return self.lower, self.upper


def default_bounds(
    catalog: SourceCatalog,
    *,
    n_sig_flux: float = 5.0,
    flux_factor: float = 10.0,
    sqrtq_range: tuple[float, float] = (0.4, 1.0),
    pa_range: tuple[float, float] = (-np.pi / 1.5, np.pi / 1.5),
    n_pix: float = 2.0,
    pixscale: float = 0.03,
    rhalf_range: tuple[float, float] | None = None,
    sersic_range: tuple[float, float] = (0.6, 6.0),
) -> Bounds:
    """Set bounds around a catalogue; the keywords and their units are forcepho's ``bounds_kwargs``.

    So are the defaults, except for three that bias the flux of a source whose fit ends at their edge: fluxes,
    half-light radii (a star has almost none, a nearby galaxy more than an arcsec), and Sersic indices, where
    forcepho's range begins at an exponential disc. Each may be a Quantity, which is converted.

    Parameters
    ----------
    catalog : SourceCatalog
    n_sig_flux : float
        Where the catalogue has flux uncertainties, fluxes lie within this many of them.
    flux_factor : float
        Where it has none (NaN), a flux f lies in ``[min(f, 0) - flux_factor s, max(f, 0) + flux_factor s]``, with s
        the source's largest absolute flux in any band (of the catalogue's median source, if that is zero): wide
        enough for a guess that is low by this factor, and for the noise of a band in which the source is not seen.
    sqrtq_range : tuple of float
        Limits of sqrt(b/a).
    pa_range : tuple of float
        Limits of the angle from +RA towards +Dec, radians, as forcepho has it; 90 degrees minus it is our position
        angle. Plain numbers beyond 2 pi, which can only be degrees, are refused.
    n_pix, pixscale : float
        Positions lie within n_pix * pixscale arcsec of the catalogue, in either coordinate.
    rhalf_range : tuple of float, optional
        Limits of the circularised half-light radius, arcsec. By default they are a tenth of `pixscale`, where a star
        ends, and for each source five times its half-light radius in the catalogue, but not more than its radius of
        influence: the pixels do not constrain a larger one, and a faint source would absorb the sky. It is at least
        one arcsec.
    sersic_range : tuple of float
        By default almost the whole range of the profile table.

    Returns
    -------
    Bounds

    Raises
    ------
    InputError
        Limits in the wrong order or meaningless ones, or a catalogue without any flux and without uncertainties.
    """
    if not any(map(has_unit, pa_range)) and np.abs(pa_range).max() > 2 * np.pi:
        raise InputError(
            f"pa_range is {list(pa_range)}, expected radians within 2 pi (from +RA towards +Dec), or a Quantity"
        )
    n_pix, pixscale = to_number(n_pix, u.pix, "n_pix"), to_number(pixscale, u.arcsec, "pixscale")
    shift = n_pix * pixscale
    if not shift > 0:
        raise InputError(f"n_pix * pixscale is {shift:g} arcsec, expected a positive number")
    by_source = -np.inf
    if rhalf_range is None:
        by_source = np.minimum(RHALF_FACTOR * catalog.rhalf, np.maximum(catalog.roi, catalog.rhalf))
    rhalf_range = (POINT * pixscale, LEAST_UPPER_RHALF) if rhalf_range is None else rhalf_range
    sqrtq_range, pa_range, rhalf_range, sersic_range = (
        tuple(to_number(limit, unit, name) for limit in limits) if any(map(has_unit, limits)) else limits
        for name, unit, limits in (
            ("sqrtq_range", u.one, sqrtq_range),
            ("pa_range", u.rad, pa_range),
            ("rhalf_range", u.arcsec, rhalf_range),
            ("sersic_range", u.one, sersic_range),
        )
    )
    if not 0 <= sqrtq_range[0] < sqrtq_range[1] <= 1:
        raise InputError(f"sqrtq_range is {list(sqrtq_range)}, expected two increasing numbers in [0, 1]")
    for key, limits in (("pa_range", pa_range), ("rhalf_range", rhalf_range), ("sersic_range", sersic_range)):
        if not limits[0] < limits[1]:
            raise InputError(f"{key} is {list(limits)}, expected two increasing numbers")
    if rhalf_range[0] < 0:
        raise InputError(f"rhalf_range is {list(rhalf_range)}, expected no negative radius")
    if not sersic_range[0] > 0:
        raise InputError(f"sersic_range is {list(sersic_range)}, expected positive indices")
    if not flux_factor > 0:
        raise InputError(f"flux_factor is {flux_factor:g}, expected a positive number")
    limits = {
        "x": (-shift, shift),
        "y": (-shift, shift),
        "q": (sqrtq_range[0] ** 2, sqrtq_range[1] ** 2),
        "pa": tuple(np.rad2deg([np.pi / 2 - pa_range[1], np.pi / 2 - pa_range[0]])),
        "sersic": sersic_range,
        "rhalf": (rhalf_range[0], np.maximum(rhalf_range[1], by_source)),
    }
    lower, upper = (
        {name: np.full(len(catalog), pair[i], dtype=float) for name, pair in limits.items()} for i in (0, 1)
    )
    lower["flux"], upper["flux"] = _flux_limits(catalog, n_sig_flux, flux_factor)
    return Bounds(lower, upper, catalog.bands)


def wrap_pa(pa: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> np.ndarray:
    """Move position angles by half turns into [lower, upper], leaving those already inside as they are.

    Parameters
    ----------
    pa, lower, upper : array_like
        Degrees.

    Returns
    -------
    ndarray
        Degrees. An angle that fits nowhere (the range spans less than 180) is brought next to its centre.
    """
    pa, lower, upper = (np.asarray(angle, dtype=np.float64) for angle in (pa, lower, upper))
    centre = (lower + upper) / 2
    nearest = pa - 180 * np.round((pa - centre) / 180)
    return np.where((lower <= pa) & (pa <= upper), pa, nearest)


def check_pa_prior(prior: "Distribution") -> None:
    """Refuse a prior of the model's ``pa`` that is meant in degrees, as the model's is in radians.

    Parameters
    ----------
    prior : numpyro Distribution

    Raises
    ------
    InputError
        Its location, or an end of its range, lies beyond 2 pi.
    """
    for name in ("loc", "low", "high"):
        value = getattr(prior, name, None)
        if value is not None and np.any((np.abs(value) > 2 * np.pi) & np.isfinite(value)):
            raise InputError(
                f"prior of pa: found {name} = {np.ravel(value)[0]:g}, expected radians (east of north) within 2 pi: "
                "priors are those of the model's parameter"
            )


def _flux_limits(catalog, n_sig_flux, flux_factor):
    """Return lower and upper bounds of fluxes, each of shape (N, n_band)."""
    flux = catalog.flux
    error = np.full(flux.shape, np.nan) if catalog.flux_err is None else catalog.flux_err
    below, above, finite = flux - n_sig_flux * error, flux + n_sig_flux * error, np.isfinite(error)
    if finite.all():
        return below, above
    size = np.abs(flux)
    largest = size.max(axis=1, keepdims=True, initial=0.0)
    typical = np.median(largest[largest > 0]) if (largest > 0).any() else 0.0
    if len(catalog) and not typical > 0:
        raise InputError("every flux is zero, expected fluxes or their uncertainties to set bounds from")
    reach = flux_factor * np.where(largest > 0, largest, typical)
    lower, upper = np.minimum(flux, 0) - reach, np.maximum(flux, 0) + reach
    return np.where(finite, below, lower), np.where(finite, above, upper)


def _rows(values, rows):
    """Select rows; a single index still gives an array of one row."""
    return values[np.atleast_1d(np.arange(len(values))[rows])]
