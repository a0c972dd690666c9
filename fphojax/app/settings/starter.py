"""`fphojax init`: a commented settings file for an instrument, and copies of the templates."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import fphojax
from fphojax.errors import InputError
from fphojax.system.files import write_text

from .schema import Section, Settings

__all__ = ["INSTRUMENTS", "Instrument", "settings_text", "template_folder", "write_starter"]


@dataclass(frozen=True)
class Instrument:
    """Defaults and hints for a first run on an instrument's images.

    Attributes
    ----------
    title : str
    bands : tuple of str
        Values of FILTER.
    buffer : float
        Width around the sources' radii of influence that shows their wings, and the sky, arcsec.
    calibration : str
        How `fphojax preprocess` brings the pipeline's images to nJy.
    images : str
        What the pipeline's images need before they are fitted, in a sentence.
    """

    title: str
    bands: tuple[str, ...]
    buffer: float
    calibration: str
    images: str


INSTRUMENTS = {
    "nircam": Instrument(
        "JWST/NIRCam",
        ("F115W", "F150W", "F200W", "F277W", "F356W", "F444W"),
        0.3,
        "PHOTMJSR",
        "Products cal.fits and i2d.fits (MJy/sr) are read directly, using PIXAR_SR, DQ, FILTER and PUPIL; fphojax "
        "preprocess writes many of them into a store.",
    ),
    "hst": Instrument(
        "HST (ACS, WFC3)",
        ("F435W", "F606W", "F814W"),
        0.5,
        "PHOTFLAM",
        "Products flc.fits and drc.fits (electrons) have to be put into a store first: fphojax preprocess. Each chip "
        "of an flc.fits is an exposure; the band is FILTER, or whichever of FILTER1 and FILTER2 (ACS) is not clear.",
    ),
    "hsc": Instrument(
        "Subaru/HSC",
        ("g", "r", "i", "z", "y"),
        2.0,
        "BUNIT",
        "Their unit is BUNIT (nJy, uJy or similar); images in other units have to be put into a store first (fphojax "
        "preprocess). The stage background measures their sky.",
    ),
    "decam": Instrument(
        "DECam",
        ("g", "r", "z"),
        2.5,
        "MAGZERO",
        "Their unit is BUNIT (nJy, uJy or similar); images in other units have to be put into a store first (fphojax "
        "preprocess). The stage background measures their sky.",
    ),
    "generic": Instrument(
        "any camera",
        ("BAND1", "BAND2"),
        1.0,
        "BUNIT",
        "Their unit is BUNIT: nJy (AB zero point 31.4), uJy or similar per pixel; images in other units have to be "
        "put into a store first: fphojax preprocess.",
    ),
}

_HEAD = """\
# Settings of a run of fphojax on images of {title}.
#
# Paths are relative to this file; $NAME is replaced by the shell variable NAME.
# `fphojax check {file}` shows the inputs and every problem with them; `fphojax run {file}` runs all stages.

# ---- Look at these lines first ----

# bands to fit: values of FILTER in the image headers (or see band_keyword and band_patterns below)
bandlist: {bands}
# exposures: a path or glob, or a list of them; extensions SCI and ERR, optionally MASK (or DQ) and PSF.
# {images}
fitsfiles: images/*.fits
# initial source catalogue, in forcepho's columns or fphojax's own; rough values are good enough. Without it, sources
# are detected in the images (see detection below).
#raw_catalog: peaks.fits
# folder for the results
outbase: run

# ranges of the uniform priors
bounds_kwargs:
  # Sersic index
  sersic_range: [0.6, 6.0]
  # square root of the axis ratio b/a
  sqrtq_range: [0.4, 1.0]
  # half-width of the position range around the catalogue value, in pixels of the finest images (or pixscale, arcsec)
  n_pix: 2
  # Half-light radii range from a tenth of a pixel (a star) to five times the catalogue value or the radius of
  # influence, at least to 1 arcsec; rhalf_range sets another range, n_sig_flux and flux_factor set that of fluxes.

# margin around the radii of influence (column roi) within which pixels are fitted [arcsec]: a smaller one is faster,
# a larger one includes more of the wings of galaxies
buffer: {buffer}

# seed of all random numbers: the same seed gives the same result
seed: 1

# ---- Everything else, with its default; remove the # to change a value ----
"""

# The head of each group, by the group's first setting.
_GROUPS = {
    "big_catalog": "What is fitted",
    "frame_search_pattern": "Making a pixel store",
    "scene_catalog": "Output",
    "add_barriers": "Priors",
    "maxactive_per_patch": "Patches",
    "pixel_response": "The model",
    "use_gradients": "Optimisation",
    "seed": "Sampling",
}


def settings_text(instrument: str, file: str = "run.yml") -> str:
    """Format a commented file of settings.

    Parameters
    ----------
    instrument : str
        One of `INSTRUMENTS`.
    file : str
        Its name, for the comments.

    Returns
    -------
    str
        YAML: what a first run needs, and all other settings as comments. Prose starts with "# ", a setting with
        "#" and its key.
    """
    preset = INSTRUMENTS[instrument]
    head = _HEAD.format(
        title=preset.title,
        file=file,
        bands=f"[{', '.join(preset.bands)}]",
        images=preset.images,
        buffer=preset.buffer,
    )
    present = {line.removeprefix("#").partition(":")[0] for line in head.splitlines()}
    lines = []
    for name, entry in Settings.model_fields.items():
        if name in _GROUPS:
            lines += ["", f"# -- {_GROUPS[name]} --"]
        if name in present:
            continue
        lines += [f"# {entry.description}"]
        if isinstance(entry.default, Section):
            lines += [f"#{name}:", *_nested(entry.default, {"calibration": preset.calibration})]
        else:
            lines.append(f"#{name}:{_value(entry.default)}")
    return head + "\n".join(lines) + "\n"


def _nested(section: Section, suggested: dict) -> list[str]:
    """Format the settings of a section, each followed by its description."""
    return [
        f"#  {name}:{_value(suggested.get(name, entry.default))}  # {entry.description}"
        for name, entry in type(section).model_fields.items()
    ]


def _value(default) -> str:
    """Format a default as YAML (of which JSON is a part) with the space before it; nothing for None."""
    return "" if default is None else f" {json.dumps(default)}"


def template_folder() -> Path:
    """Return the folder of the stages' notebooks: inside an installed package, beside it in a checkout."""
    package = Path(fphojax.__file__).parent
    installed = package / "templates"
    return installed if installed.is_dir() else package.parent / "templates"


def write_starter(folder: Path, instrument: str) -> list[Path]:
    """Write ``run.yml`` and the folder ``templates``.

    Parameters
    ----------
    folder : Path
        Made if it does not exist.
    instrument : str
        One of `INSTRUMENTS`, in capitals or not.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    InputError
        An unknown instrument, or one of the files is there already; nothing is written then.
    """
    if instrument.lower() not in INSTRUMENTS:
        raise InputError(f"--instrument: found {instrument!r}, expected one of {', '.join(INSTRUMENTS)}")
    config, templates = folder / "run.yml", folder / "templates"
    for path in (config, templates):
        if path.exists():
            raise InputError(f"{path}: exists already, expected a folder without it")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file, expected a folder")
    templates.mkdir(parents=True)
    copies = [
        Path(shutil.copy(notebook, templates)) for notebook in sorted(template_folder().glob("*.ipynb"))
    ]
    write_text(config, settings_text(instrument.lower(), config.name))
    return [config, *copies]
