"""Special cases of the Sersic profile, by the names that a catalogue's column ``profile`` holds."""

from collections.abc import Sequence

import numpy as np

from fphojax.errors import InputError

from .bounds import Bounds, wrap_pa
from .source_catalog import SourceCatalog

__all__ = ["PROFILES", "apply_profiles", "clip_held", "held_values", "profiles_of", "start_violations"]

# Parameters that special profiles hold, in the units of catalogues; a point source is as round as its PSF.
PROFILES = {
    "sersic": {},
    "exponential": {"sersic": 1.0},
    "devaucouleurs": {"sersic": 4.0},
    "point": {"sersic": 1.0, "q": 1.0, "pa": 0.0, "rhalf": 0.0},
}


def profiles_of(catalog: SourceCatalog) -> list[str]:
    """Return the name of each source's profile: "sersic" where the catalogue has no column ``profile``."""
    if "profile" not in catalog.extra.colnames:
        return ["sersic"] * len(catalog)
    return [str(profile) for profile in catalog["profile"]]


def apply_profiles(catalog: SourceCatalog) -> SourceCatalog:
    """Replace values of a catalogue by those that the special profiles of its sources hold."""
    fixed = [PROFILES[profile] for profile in profiles_of(catalog)]
    if not any(fixed):
        return catalog
    return catalog.replace(
        **{
            name: np.array([of.get(name, value) for of, value in zip(fixed, catalog[name], strict=True)])
            for name in ("q", "pa", "sersic", "rhalf")
        }
    )


def held_values(profiles: Sequence[str]) -> dict[str, np.ndarray]:
    """Return, for each parameter that special profiles hold, its value by source; NaN where it is free.

    Raises
    ------
    InputError
        For an unknown profile.
    """
    for row, profile in enumerate(profiles):
        if profile not in PROFILES:
            raise InputError(f"row {row}: profile is {profile!r}, expected one of {', '.join(PROFILES)}")
    names = {name for profile in profiles for name in PROFILES[profile]}
    return {
        name: np.array([PROFILES[profile].get(name, np.nan) for profile in profiles])
        for name in sorted(names)
    }


def clip_held(catalog: SourceCatalog, held: dict[str, np.ndarray], bounds: Bounds) -> SourceCatalog:
    """Clip a catalogue's values of held parameters to their bounds: the likelihood does not use them."""
    inside = {
        name: np.where(
            np.isnan(fixed), catalog[name], np.clip(catalog[name], bounds.lower[name], bounds.upper[name])
        )
        for name, fixed in held.items()
    }
    return catalog.replace(**inside)


def start_violations(catalog: SourceCatalog, bounds: Bounds) -> list[str]:
    """List a catalogue's start values that a `Scene` would refuse.

    Position angles count modulo half a turn, and the parameters that a special profile holds do not count.

    Parameters
    ----------
    catalog : SourceCatalog
        With a column ``profile`` in `extra`, if it has special profiles.
    bounds : Bounds

    Returns
    -------
    list of str
        One line for each parameter of each source that lies outside its bounds.

    Raises
    ------
    InputError
        For an unknown profile.
    """
    turned = catalog.replace(pa=wrap_pa(catalog.pa, bounds.lower["pa"], bounds.upper["pa"]))
    return bounds.violations(clip_held(turned, held_values(profiles_of(catalog)), bounds))
