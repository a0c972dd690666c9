"""Sources of GALFIT's files: input (feedme), results as text (galfit.01), headers of the block of images.

GALFIT's conventions: pixels from (1, 1), in the image ``A)`` also where a part of it was fitted; total magnitudes
with the zero point ``J)``; radii along the major axis, in pixels; position angles from the second axis of the image
towards the negative first one ("up = 0, left = 90").
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from fphojax.errors import InputError

from .fits_images import blame, opened
from .pixel_sources import ZERO_POINT, PixelSources

__all__ = ["is_galfit_header", "read_galfit"]

# Half-light radii of exponential discs, in scale lengths: the solution of (1 + x) exp(-x) = 1/2.
_DISC = 1.6783469900166605
# By type of component: profile, Sersic index (None: a parameter), half-light radius per radius of GALFIT's.
_TYPES = {
    "sersic": ("sersic", None, 1.0),
    "devauc": ("devaucouleurs", 4.0, 1.0),
    "expdisk": ("exponential", 1.0, _DISC),
    "gaussian": ("sersic", 0.5, 0.5),  # from its full width at half maximum
    "psf": ("point", 1.0, 0.0),
}
_HELD = {1.0: "exponential", 4.0: "devaucouleurs"}  # Sersic indices that are held
_PLACES = {"1": "x", "2": "y", "3": "mag", "4": "radius", "5": "n", "9": "q", "10": "pa"}
_KEYS = {"XC": "x", "YC": "y", "MAG": "mag", "RE": "radius", "RS": "radius", "FWHM": "radius", "N": "n"}
_KEYS |= {"AR": "q", "PA": "pa"}
_LINE = re.compile(r"\s*(\w{1,4})\)\s*(.*)")
_FURTHER = re.compile(r"[FBRTC]\d+")  # Fourier and bending modes, spirals, truncations, boxiness


@dataclass(frozen=True)
class _Value:
    number: float
    held: bool = False
    doubtful: bool = False


@dataclass(frozen=True)
class _Component:
    number: int
    kind: str
    values: Mapping[str, _Value]
    further: tuple[str, ...]

    def __getitem__(self, name: str) -> _Value:
        if name not in self.values:
            raise InputError(f"component {self.number} ({self.kind}): no {name}, expected a number")
        return self.values[name]


def is_galfit_header(header: fits.Header) -> bool:
    """Return whether a header has GALFIT's components."""
    return "COMP_1" in header


def read_galfit(path: str | Path, *, zero_point: float | None = None) -> PixelSources:
    """Read the sources of a file of GALFIT (version 3).

    Parameters
    ----------
    path : path-like
        Input file, or the like that GALFIT writes (galfit.01); or its block of images (FITS), whose header has the
        result.
    zero_point : float, optional
        AB zero point of the image, where that of the file is of another system.

    Returns
    -------
    PixelSources
        Ids are the numbers of components. The sky is left out; `notes` say so.

    Raises
    ------
    InputError
        A file that is none of these, values that are no numbers, profiles that cannot be represented.
    """
    path = Path(path)
    with blame(path):
        with path.open("rb") as file:
            in_fits = file.read(6) == b"SIMPLE"
        settings, components = _of_fits(path) if in_fits else _of_text(path.read_text("utf-8", "replace"))
        return _sources(path, settings, components, zero_point)


def _of_text(text):
    settings: dict[str, str] = {}
    blocks: list[dict[str, str]] = []
    for line in text.splitlines():
        match = _LINE.fullmatch(line.split("#")[0])
        if match is None:
            continue
        if match[1] == "0":
            blocks.append({})
        (blocks[-1] if blocks else settings)[match[1]] = match[2].strip()
    if not blocks:
        raise InputError("no object, expected lines such as '0) sersic'")
    return settings, [_component(number, block) for number, block in enumerate(blocks, start=1)]


def _component(number, block):
    kind = (block["0"].split() or ["nothing"])[0].lower()
    values = {}
    label = f"component {number} ({kind})"
    if kind in _TYPES:
        if float(_toggled(label, "8", block.get("8") or "0")[0]) != 0:
            raise InputError(
                f"{label}: 8) is {block['8']}, expected the layout of GALFIT 3: 9) axis ratio, 10) position angle"
            )
        if "1" in block:
            words = block["1"].split()
            block = block | {"1": " ".join(words[0:1] + words[2:3]), "2": " ".join(words[1:2] + words[3:4])}
        for key, name in _PLACES.items():
            if block.get(key):
                value, toggle = _toggled(label, key, block[key])
                values[name] = _Value(value, held=toggle == "0")
    return _Component(number, kind, values, tuple(key for key in block if _FURTHER.fullmatch(key)))


def _toggled(label, key, text):
    """Return a value, and its toggle: 0 if it is held, 1 if it is free."""
    words = text.split()
    try:
        return float(words[0]), words[1] if len(words) > 1 else ""
    except ValueError:
        raise InputError(f"{label}: {key}) is {text!r}, expected a number, and 0 or 1") from None


def _of_fits(path):
    with opened(path) as hdus:
        header = next((hdu.header for hdu in hdus if is_galfit_header(hdu.header)), None)
        if header is None:
            raise InputError("no keyword COMP_1 in its headers, expected GALFIT's block of images")
        numbers = [int(key[5:]) for key in header if re.fullmatch(r"COMP_\d+", key)]
        settings = {"A": str(header.get("DATAIN", "")), "J": str(header.get("MAGZPT", ""))}
        return settings, [_in_header(header, number) for number in sorted(numbers)]


def _in_header(header, number):
    kind = str(header[f"COMP_{number}"]).strip().lower()
    cards = {key.partition("_")[2]: str(header[key]) for key in header if key.startswith(f"{number}_")}
    values = {}
    for key, text in cards.items():
        if kind in _TYPES and key in _KEYS:
            number_text = re.sub(r"[\[\]{}*]", "", text.split("+/-")[0]).strip()
            try:
                value = float(number_text)
            except ValueError:
                raise InputError(f"{number}_{key} is {text!r}, expected a number") from None
            values[_KEYS[key]] = _Value(value, held=text.startswith("["), doubtful="*" in text)
    return _Component(number, kind, values, tuple(key for key in cards if _FURTHER.fullmatch(key)))


def _sources(path, settings, components, zero_point):
    galaxies = [component for component in components if component.kind != "sky"]
    for component in galaxies:
        if component.kind not in _TYPES:
            raise InputError(
                f"component {component.number} is {component.kind}, expected one of {', '.join(_TYPES)}, or sky"
            )
    if not galaxies:
        raise InputError("no component but the sky, expected a source")
    columns = np.array([_row(component) for component in galaxies], dtype=float).T
    shift = 0.0 if zero_point is None else zero_point - _zero_point(settings)
    name = re.sub(r"\[[^\]]*[:,][^\]]*\]", "", settings.get("A", "")).split() or [""]  # without [1:90,1:90]
    return PixelSources(
        id=np.array([component.number for component in galaxies]),
        x=columns[0],
        y=columns[1],
        major=columns[3],
        q=columns[4],
        theta=columns[5] + 90,
        sersic=columns[6],
        flux=10 ** (0.4 * (ZERO_POINT - columns[2] - shift)),
        profile=[_profile(component) for component in galaxies],
        image=path.parent / name[0] if name[0] not in ("", "none") else None,
        notes=tuple(_notes(components)),
    )


def _zero_point(settings):
    words = settings.get("J", "").split()
    try:
        return float(words[0])
    except (IndexError, ValueError):
        found = settings.get("J") or "nothing"
        raise InputError(f"J) is {found}, expected the zero point of the magnitudes") from None


def _row(component):
    """Return x, y, magnitude, half-light radius, q, position angle and Sersic index of a component."""
    profile, sersic, factor = _TYPES[component.kind]
    place = component["x"].number, component["y"].number, component["mag"].number
    if profile == "point":
        return *place, 0.0, 1.0, 0.0, sersic
    index = component["n"].number if sersic is None else sersic
    return *place, factor * component["radius"].number, component["q"].number, component["pa"].number, index


def _profile(component):
    if component.kind == "sersic" and component["n"].held:
        return _HELD.get(component["n"].number, "sersic")
    return _TYPES[component.kind][0]


def _notes(components) -> Iterator[str]:
    for component in components:
        label = f"component {component.number} ({component.kind})"
        if component.kind == "sky":
            yield f"{label} left out: the setting nuisance fits the sky"
            continue
        special = _profile(component) != "sersic"
        held = [
            name for name, value in component.values.items() if value.held and not (special and name == "n")
        ]
        if held:
            yield f"{label}: {', '.join(held)} held in GALFIT, free here within the bounds"
        if doubtful := [name for name, value in component.values.items() if value.doubtful]:
            yield f"{label}: {', '.join(doubtful)} marked by GALFIT as unreliable (*)"
        if component.further:
            yield f"{label}: {', '.join(component.further)} left out, only the ellipse is taken over"
        if component.kind == "gaussian":
            yield f"{label}: a Sersic profile of index 0.5, for which sersic_range has to be widened"
