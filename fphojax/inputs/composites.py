"""Sources of several components, such as a bulge and a disk with one centre.

A catalogue has a composite source in one row, whose column ``profile`` says what it consists of.  A fit has a row
for each component, linked by the column ``galaxy``, the id of the composite source: these rows share their position
and are always fitted together.  `split_composites` goes from one to the other; results go back with
`fphojax.results.composite_table`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fphojax.errors import InputError

from .bounds import Bounds
from .profiles import PROFILES, profiles_of
from .source_catalog import SourceCatalog

__all__ = [
    "COMPOSITES",
    "Component",
    "centre_ties",
    "components_inside",
    "components_of",
    "composite_name",
    "galaxies_of",
    "is_composite",
    "names_shown",
    "profile_name",
    "refuse_composites",
    "split_composites",
    "with_profile",
]

CENTRE = ("x", "y")  # what components share
_JOIN = "+"


class Component(NamedTuple):
    """A component of a composite source, and how it starts from a fit of a single profile.

    Attributes
    ----------
    name : str
        Of the component; its row has the id ``ID_NAME``.
    profile : str
        One of `PROFILES`.
    share : float
        Of the flux.
    stretch : float
        Its half-light radius over that of the single profile.
    """

    name: str
    profile: str
    share: float
    stretch: float


COMPOSITES = {
    "bulge_disk": (
        Component("bulge", "devaucouleurs", 0.3, 0.5),
        Component("disk", "exponential", 0.7, 1.2),
    ),
    "point_sersic": (Component("point", "point", 0.2, 1.0), Component("host", "sersic", 0.8, 1.0)),
}
_SMALLEST, _LARGEST = 0.5, 1.2  # stretches of the components of a list


def is_composite(profile: str) -> bool:
    """Return whether a name of a profile is that of a composite source."""
    return profile in COMPOSITES or _JOIN in profile


def profile_name(profile: str | Sequence[str]) -> str:
    """Return the name, as in a catalogue's column, of a profile or of a list of components: "sersic+exponential"."""
    return profile if isinstance(profile, str) else _JOIN.join(profile)


def components_of(profile: str) -> tuple[Component, ...]:
    """Return the components of a composite source.

    Parameters
    ----------
    profile : str
        One of `COMPOSITES`, or names of `PROFILES` joined by a plus sign: the most compact first.

    Raises
    ------
    InputError
        For an unknown component.
    """
    if profile in COMPOSITES:
        return COMPOSITES[profile]
    parts = profile.split(_JOIN)
    if unknown := [part for part in parts if part not in PROFILES]:
        expected = ", ".join(PROFILES)
        raise InputError(
            f"profile is {profile!r} with the component {unknown[0]!r}, expected some of {expected}"
        )
    stretches = np.linspace(_SMALLEST, _LARGEST, len(parts))
    return tuple(
        Component(part if parts.count(part) == 1 else f"{part}{i + 1}", part, 1 / len(parts), float(stretch))
        for i, (part, stretch) in enumerate(zip(parts, stretches, strict=True))
    )


def composite_name(components: Sequence[str], profiles: Sequence[str]) -> str:
    """Return the profile of a composite source, from the names and profiles of its components."""
    for name, parts in COMPOSITES.items():
        if [part.name for part in parts] == list(components):
            return name
    return _JOIN.join(profiles)


def split_composites(catalog: SourceCatalog) -> SourceCatalog:
    """Return a catalogue with a row for each component of its composite sources, in place of their own rows.

    Parameters
    ----------
    catalog : SourceCatalog
        The column ``profile`` of `extra` names the composite sources: ``bulge_disk``, ``point_sersic``, or names of
        profiles joined by a plus sign, such as ``sersic+exponential``. Their parameters are those of a fit with a
        single profile.

    Returns
    -------
    SourceCatalog
        With the columns ``profile``, ``galaxy`` (id of the composite source) and ``component``; the last two are
        empty for other sources. The catalogue itself if it has no composite source. Components start with a part of
        the flux, of unknown uncertainty, and with radii that are a fraction of that of the single profile.

    Raises
    ------
    InputError
        For an unknown component, or a component with the id of another source.
    """
    profiles = profiles_of(catalog)
    if not any(map(is_composite, profiles)):
        return catalog
    rows, parts = [], []
    for row, profile in enumerate(profiles):
        for part in components_of(profile) if is_composite(profile) else (None,):
            rows.append(row)
            parts.append(part)
    one = catalog[np.array(rows)]
    ids, extra = one.id.astype(str), one.extra.copy()
    new = np.array([part is not None for part in parts])
    extra["profile"] = [
        profiles[row] if part is None else part.profile for row, part in zip(rows, parts, strict=True)
    ]
    names = np.array(["" if part is None else part.name for part in parts])
    for column, values in (("galaxy", ids), ("component", names)):
        # components may be there already
        before = np.asarray(extra[column]).astype(str) if column in extra.colnames else ""
        extra[column] = np.where(new, values, before)
    new_ids = np.array([f"{ids[i]}_{names[i]}" if names[i] else ids[i] for i in range(len(ids))])
    unique, count = np.unique(new_ids, return_counts=True)
    if (count > 1).any():
        raise InputError(f"id {unique[count > 1][0]} is also that of a component, expected different ids")
    share, stretch = (
        np.array([1.0 if part is None else getattr(part, name) for part in parts])
        for name in ("share", "stretch")
    )
    errors = one.flux_err
    return one.replace(
        id=new_ids,
        flux=one.flux * share[:, None],
        flux_err=None if errors is None else np.where(new[:, None], np.nan, errors),
        rhalf=one.rhalf * stretch,
        extra=extra,
    )


def refuse_composites(catalog: SourceCatalog) -> None:
    """Refuse composite sources where nothing is fitted: a single row does not say what their components are.

    Raises
    ------
    InputError
        The first of them.
    """
    for row, profile in enumerate(profiles_of(catalog)):
        if is_composite(profile):
            raise InputError(
                f"row {row} (id {catalog.id[row]}): profile is {profile}, expected a row for each component"
            )


def components_inside(catalog: SourceCatalog, bounds: Bounds) -> SourceCatalog:
    """Return a catalogue with the shapes of components, which nobody chose, moved inside their bounds."""
    rows = [row for members in galaxies_of(catalog).values() for row in members]
    if not rows:
        return catalog
    inside, changes = bounds.clipped(catalog), {}
    for name in ("q", "sersic", "rhalf"):
        changes[name] = catalog[name].copy()
        changes[name][rows] = inside[name][rows]
    return catalog.replace(**changes)


def galaxies_of(catalog: SourceCatalog) -> dict[str, list[int]]:
    """Return the rows of the components of each composite source, by its id."""
    found: dict[str, list[int]] = {}
    if "galaxy" in catalog.extra.colnames:
        for row, name in enumerate(np.asarray(catalog["galaxy"]).astype(str).tolist()):
            if name:
                found.setdefault(name, []).append(row)
    return found


def names_shown(catalog: SourceCatalog) -> list[str]:
    """Return what to write beside each source of a figure: of a composite source its id, once."""
    names = catalog.id.astype(str).tolist()
    for galaxy, (first, *others) in galaxies_of(catalog).items():
        names[first] = galaxy
        for row in others:
            names[row] = ""
    return names


def centre_ties(catalog: SourceCatalog, ties: Mapping[str, Mapping[int, int]]) -> dict[str, dict[int, int]]:
    """Add to ties, by rows, those of components to the position of the first one of their source.

    Parameters
    ----------
    catalog : SourceCatalog
    ties : mapping of str to mapping of int to int
        See `fphojax.Scene`. A component that these tie keeps its tie, as do others to which it is then tied.
    """
    made = {name: dict(pairs) for name, pairs in ties.items()}
    for first, *others in galaxies_of(catalog).values():
        for name in CENTRE:
            pairs = made.setdefault(name, {})
            target = pairs.get(first, first)
            pairs |= {row: target for row in others if row not in pairs and row != target}
    return {name: pairs for name, pairs in made.items() if pairs}


def with_profile(catalog: SourceCatalog, profile: str) -> SourceCatalog:
    """Return a catalogue with a profile for all sources, unless it has a column of profiles itself."""
    if "profile" in catalog.extra.colnames or profile == "sersic":
        return catalog
    extra = catalog.extra.copy()
    extra["profile"] = np.full(len(catalog), profile)
    return catalog.replace(extra=extra)
