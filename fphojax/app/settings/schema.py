"""Settings of a run: one validated object from one YAML file."""

import glob
import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import numpy as np
from numpy.typing import ArrayLike
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from fphojax.errors import InputError
from fphojax.inputs.fits_chips import extension_key
from fphojax.inputs.fits_frames import reading_options
from fphojax.mixtures.psf_fit import MAX_GAUSS, TARGET_L2
from fphojax.system.portable import absolute, map_paths, matching, relative

from .overrides import merged
from .settings_file import describe, expand_variables, read_mapping, shown
from .yaml_text import dumped

if TYPE_CHECKING:
    from numpyro.distributions import Distribution

__all__ = [
    "BoundsSettings",
    "DetectionSettings",
    "Extensions",
    "NoiseSettings",
    "PreprocessSettings",
    "PriorSettings",
    "Section",
    "Settings",
]

_LONGEST_NAME, _LONGEST_PATH = 255, 4095  # bytes that systems allow
_N_DRAW = 20_000  # for the mass of a prior: numpyro's formulae fail outside the support
MOST_DRAWS = 4_000_000  # of a source, in all chains: 15 sources in 10 bands take 8 GB
_OF_STORING = {"edge", "compression"}  # of `PreprocessSettings`: they change no pixel's value
_ODD_NUMBER = re.compile(r"[-+]?(0[0-9][0-9_:]*|[0-9]+[_:][0-9_:]*)(\.[0-9_]*)?")


def _below_folder(path: Path, info: ValidationInfo) -> Path:
    return _possible(_folder(info) / _at_home(path))


def _folder(info: ValidationInfo) -> Path:
    return (info.context or {}).get("folder", Path())


def _at_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(
            f"found {shown(str(path))}, expected ~ before the name of a user that there is"
        ) from None


def _possible(path: Path) -> Path:
    """Make a path absolute, without . and .., and refuse names that files cannot have."""
    path = absolute(path)
    try:
        sizes = [len(os.fsencode(part)) for part in path.parts]
    except UnicodeEncodeError:
        raise ValueError(f"found {shown(str(path))}, expected a name that files can have") from None
    if max(sizes) > _LONGEST_NAME or sum(sizes) + len(sizes) > _LONGEST_PATH:
        raise ValueError(
            f"found {shown(str(path))}, expected names of at most {_LONGEST_NAME} bytes, {_LONGEST_PATH} in all"
        )
    return path


def _as_names(value: Any) -> Any:
    """Convert paths to their names, where names and patterns are expected."""
    if isinstance(value, list | tuple):
        return [_as_names(entry) for entry in value]
    return os.fspath(value) if isinstance(value, Path) else value


def _expand_globs(patterns: Any, info: ValidationInfo) -> Any:
    """Expand patterns to paths, sorted within each; the exact name of a file is kept as it is."""
    patterns = _as_names(patterns)
    patterns = [patterns] if isinstance(patterns, str) else patterns
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        raise ValueError(f"found {shown(patterns)}, expected a path or glob, or a list of them")
    paths = []
    for pattern in patterns:
        if not glob.has_magic(pattern) or _below_folder(Path(pattern), info).exists():
            paths.append(pattern)
            continue
        matches = matching(_absolute_patterns(pattern, info))
        if not matches:
            raise ValueError(f"found no file that matches {shown(pattern)}, expected at least one")
        paths += matches
    return paths


def _absolute_patterns(patterns: Any, info: ValidationInfo) -> Any:
    """Make globs absolute; their wildcards stay, and such characters in the folder's name are escaped."""
    if isinstance(patterns, str):
        pattern = _at_home(Path(patterns))
        return str(_possible(Path(glob.escape(str(_folder(info)))) / pattern))
    return [_absolute_patterns(p, info) for p in patterns] if isinstance(patterns, list) else patterns


def _text_or_list(value: Any) -> Any:
    value = _as_names(value)
    if isinstance(value, str) or (isinstance(value, list) and all(isinstance(part, str) for part in value)):
        return value
    raise ValueError(f"found {shown(value)}, expected a glob, or a list of them")


def _pair(value: Any) -> Any:
    return (value, value) if type(value) is int else value


def _each_once(values: list) -> list:
    repeated = [str(value) for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ValueError(f"found {', '.join(repeated)} more than once, expected each once")
    return values


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if not limits[0] < limits[1]:
        raise ValueError(f"found {list(limits)}, expected the lower limit first")
    return limits


def _total_steps(steps: Any) -> Any:
    """Sum the lengths of successive adaptation windows, if they are a list as in forcepho."""
    return sum(steps) if isinstance(steps, list) and all(type(step) is int for step in steps) else steps


def _as_text(identifier: Any) -> Any:
    """Convert an id that YAML has read as a number to text."""
    return str(identifier) if type(identifier) is int else identifier


Identifier = Annotated[str, BeforeValidator(_as_text)]


def _extension(key: Any) -> Any:
    """Check the key of an extension: a name, the number of an HDU, or a pair of name and EXTVER."""
    try:
        return None if key is None else extension_key(key)
    except InputError as error:
        raise ValueError(str(error).replace("extension", "found", 1)) from error


FilePath = Annotated[Path, AfterValidator(_below_folder)]
Pattern = Annotated[str, BeforeValidator(_as_names), AfterValidator(_absolute_patterns)]
ParameterName = Literal["flux", "x", "y", "q", "pa", "sersic", "rhalf"]
ComponentName = Literal["sersic", "exponential", "devaucouleurs", "point"]
ProfileName = Literal["sersic", "exponential", "devaucouleurs", "point", "bulge_disk", "point_sersic"]
Extension = Annotated[str | int | tuple[str, int], BeforeValidator(_extension)]
OptionalExtension = Annotated[str | int | tuple[str, int] | None, BeforeValidator(_extension)]
Range = Annotated[tuple[float, float], AfterValidator(_ordered)]


class Section(BaseModel):
    """A mapping in the file whose keys are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_value_in_disguise(cls, value: Any, info: ValidationInfo) -> Any:
        types = _leaves(cls.model_fields[str(info.field_name)].annotation)
        if BaseModel not in types:  # a section checks its own values
            _refuse_disguises(value, types)
        return value


def _refuse_disguises(value: Any, types: set) -> None:
    """Refuse values that Python takes for a number: true (for 1), and text such as '0250' or '1_000'."""
    number = bool(types & {int, float})
    for part in _parts(value):
        if isinstance(part, bool) and bool not in types:
            expected = "a number" if number else "text (put such a name in quotes)"
            raise ValueError(f"found {str(part).lower()}, expected {expected}")
        if number and str not in types and isinstance(part, str) and _ODD_NUMBER.fullmatch(part):
            raise ValueError(
                f"found {shown(part)}, expected a number without leading zeros and without _ or : among its digits"
            )


def _parts(value: Any) -> Iterator[Any]:
    """Yield the single values in nested lists and mappings."""
    if isinstance(value, list | tuple):
        for entry in value:
            yield from _parts(entry)
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _parts(entry)
    else:
        yield value


def _leaves(annotation: Any) -> set:
    """Return the types of the single values that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {BaseModel}
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return {type(part) for part in parts}
    if get_origin(annotation) is dict:
        parts = parts[1:]
    return set().union(*map(_leaves, parts)) if parts else {annotation}


class Extensions(Section):
    """Extensions of an exposure's FITS file: a name, the number of an HDU, or [name, EXTVER]."""

    sci: Extension = Field("SCI", description="science image; given a name, every EXTVER is an exposure")
    err: Extension = Field("ERR", description="standard deviation of each pixel")
    mask: OptionalExtension = Field(
        None, description="non-zero where a pixel is bad; by default MASK, else DQ, else where WHT is zero"
    )
    psf: OptionalExtension = Field(None, description="image of the PSF; by default PSF, if present")


class BoundsSettings(Section):
    """Bounds of priors; by default those of `fphojax.inputs.bounds.default_bounds`, ``pixscale`` of the images."""

    n_sig_flux: PositiveFloat | None = Field(
        None,
        description="half-width of the flux range [standard deviation]; by default 5, and 25 after postop",
    )
    flux_factor: PositiveFloat | None = Field(
        None,
        description="half-width of the flux range where the catalogue has no standard deviation [largest flux of "
        "the source in any band]; 10 by default",
    )
    sqrtq_range: Range | None = Field(None, description="range of sqrt(b/a)")
    pa_range: Range | None = Field(None, description="range of the angle from +RA towards +Dec [radian]")
    n_pix: PositiveFloat | None = Field(
        None, description="half-width of the position range [pixel]; 2 by default"
    )
    pixscale: PositiveFloat | None = Field(
        None, description="size of the pixel meant by n_pix [arcsec]; by default that of the finest exposure"
    )
    rhalf_range: Range | None = Field(
        None,
        description="range of the half-light radius [arcsec]; by default from a tenth of pixscale (a star) to five "
        "times the radius in the catalogue, at least to 1",
    )
    sersic_range: Range | None = Field(None, description="range of the Sersic index")


class PriorSettings(BaseModel):
    """A numpyro distribution and its arguments, e.g. ``{distribution: LogNormal, loc: 0.5, scale: 0.3}``."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    __pydantic_extra__: dict[str, float]

    distribution: str = Field(description="name of a distribution in numpyro.distributions")

    @model_validator(mode="before")
    @classmethod
    def _no_argument_in_disguise(cls, value: Any) -> Any:
        arguments = value if isinstance(value, dict) else {}
        _refuse_disguises([v for key, v in arguments.items() if key != "distribution"], {float})
        return value

    def build(self) -> "Distribution":
        """Make the numpyro distribution.

        Raises
        ------
        InputError
            There is no such distribution, or it does not take these arguments.
        """
        from fphojax.inputs.prior_names import prior_named

        return prior_named(self.distribution, self.__pydantic_extra__)

    def __str__(self) -> str:
        arguments = ", ".join(f"{key}={value:g}" for key, value in self.__pydantic_extra__.items())
        return f"{self.distribution}({arguments})"

    def mass_within(self, lower: ArrayLike, upper: ArrayLike) -> np.ndarray:
        """Estimate the fraction of the distribution that lies between bounds, in the shape of the bounds.

        Parameters
        ----------
        lower, upper : array_like
        """
        import jax

        draws = np.sort(np.asarray(self.build().sample(jax.random.key(0), (_N_DRAW,))))
        below, above = np.searchsorted(draws, lower, "left"), np.searchsorted(draws, upper, "right")
        return (above - below) / _N_DRAW


class NuisanceSettings(Section):
    """Parameters of every exposure that are fitted with the sources, each with a normal prior."""

    sky: Literal["none", "constant", "plane"] = Field(
        "none", description="residual sky level of each exposure"
    )
    sky_sigma: PositiveFloat = Field(
        1.0,
        description="standard deviation of the sky coefficients, in units of the pixel noise of the exposure",
    )
    scale_sigma: float = Field(
        0.0, ge=0, description="standard deviation of the flux scale around 1; 0 for none"
    )
    shift_sigma: float = Field(
        0.0, ge=0, description="standard deviation of the astrometric shift [arcsec]; 0 for none"
    )


class DetectionSettings(Section):
    """Settings of source detection in images and in residuals."""

    threshold: PositiveFloat = Field(
        5.0,
        description="minimum significance, relative to the noise measured in the images [standard deviation]",
    )
    background_box: int | None = Field(
        None,
        ge=8,
        description="side of the boxes in which the sky level of images is measured before the first fit [pixel]; by "
        "default one level per exposure",
    )
    minimum_separation: float = Field(
        0.0,
        ge=0,
        description="minimum distance of a new source to a more significant or known one [arcsec]",
    )
    structure: float = Field(
        0.5,
        ge=0,
        description="a peak that adds less than this fraction to the light of a brighter galaxy at its position is "
        "structure of that galaxy, not a source; 0 takes all peaks as sources",
    )
    model_error: PositiveFloat = Field(
        0.05, description="fractional uncertainty of the modelled light of bright galaxies"
    )


class ChooseSettings(Section):
    """Settings of the comparison of profiles."""

    in_run: bool = Field(False, description="whether `fphojax run` compares profiles before it samples")
    profiles: list[ProfileName] = Field(
        ["point", "exponential", "devaucouleurs", "sersic", "bulge_disk"],
        min_length=2,
        description="candidates, the simplest first",
    )
    odds: dict[ProfileName, PositiveFloat] = Field({}, description="prior odds by profile; 1 if not given")
    margin: float = Field(
        1.0,
        ge=0,
        description="the first candidate is chosen whose log evidence is at most this much below the highest",
    )


class InjectionSettings(Section):
    """Settings of the study of artificial sources in the images."""

    number: PositiveInt = Field(60, le=100_000, description="artificial sources in each mode")
    modes: list[Literal["known", "free", "detect"]] = Field(
        ["known", "free"],
        min_length=1,
        description="known (fits with known position and shape), free, detect (search for them, by signal-to-noise "
        "ratios from 2)",
    )
    places: list[Literal["empty", "random", "crowded"]] = Field(
        ["empty"],
        min_length=1,
        description="in turn: empty (outside the radii of influence of all known sources), random, crowded (within "
        "a few half-light radii of a known source)",
    )
    snr: tuple[float, float] = Field(
        (10.0, 50.0),
        description="range of signal-to-noise ratios for known shape and independent pixels, uniform in the "
        "logarithm; [0, 0] for sources without flux",
    )
    stars: float = Field(0.0, ge=0, le=1, description="fraction of point sources")
    sources: FilePath | None = Field(
        None, description="catalogue of sources to draw from, by default the fitted one; fluxes are scaled"
    )
    gain: dict[str, PositiveFloat] = Field(
        {}, description="by band, electrons per unit of the images: adds the Poisson noise of the sources"
    )


class NoiseSettings(Section):
    """Noise that the errors of fits follow, in units of the errors of the images."""

    scale: Literal["auto", "none"] | PositiveFloat = Field(
        "auto", description="its size: auto (as the stage noise has measured it), none (1), or a number"
    )
    correlation: Literal["auto", "none"] = Field(
        "auto", description="its correlation between pixels: auto (as measured), or none"
    )


class PreprocessSettings(Section):
    """Settings of the stage that writes images into a pixel store."""

    calibration: str = Field(
        "none",
        min_length=1,
        description="calibration to nJy: none (BUNIT if present: nJy, uJy, ..., MJy/sr), BUNIT (required), PHOTMJSR "
        "(JWST), PHOTFLAM (HST), or the keyword of the zero point, such as ABMAG",
    )
    error_pattern: Pattern | None = Field(
        None, description="error images; * stands for the same text as in frame_search_pattern"
    )
    mask_pattern: Pattern | None = Field(None, description="mask images, likewise")
    background_pattern: Pattern | None = Field(None, description="background images, likewise")
    background: OptionalExtension = Field(None, description="extension of a background to subtract")
    error_kind: Literal["sigma", "variance", "inverse_variance"] = Field(
        "sigma", description="content of the error image"
    )
    split_by: Literal["DETECTOR", "MODULE"] | None = Field(
        None, description="keyword whose values split each band into separate bands"
    )
    wcs: Literal["header", "gwcs"] = Field(
        "header", description="source of the WCS: the FITS header, or the gwcs in the extension ASDF"
    )
    edge: Literal["pad", "cut"] = Field(
        "pad",
        description="how images whose sides are not multiples of super_pixel_size, or not nside_full, are treated",
    )
    compression: Literal["lzf", "gzip"] | None = Field(None, description="lossless compression of the pixels")


def _default(key: str) -> Any:
    return PreprocessSettings.model_fields[key].default


class Settings(Section):
    """All settings of a run; the keys are forcepho's where it has them.

    Paths are absolute here; in the file they are relative to its folder.
    """

    _file: Path | None = PrivateAttr(None)

    # what is fitted
    bandlist: Annotated[list[str], AfterValidator(_each_once)] = Field(
        min_length=1, description="bands to fit, as given by the FILTER keyword of the images"
    )
    raw_catalog: FilePath | None = Field(
        None, description="initial source catalogue; `fphojax detect` makes one from the images"
    )
    big_catalog: FilePath | None = Field(
        None, description="catalogue of sources that are always subtracted and never fitted"
    )
    profile: ProfileName | Annotated[list[ComponentName], Field(min_length=2, max_length=5)] = Field(
        "sersic",
        description="profile of all sources, unless the catalogue has a column `profile`; bulge_disk and "
        "point_sersic have two components with one centre, as have lists of components, the most compact first",
    )
    splinedatafile: FilePath | None = Field(
        None, description="fixed-radii table of Sersic mixtures; by default the table of the package"
    )
    psfstorefile: FilePath | None = Field(
        None, description="PSF mixtures (HDF5); by default the PSF images of the exposures are fitted"
    )
    pixelstorefile: FilePath | None = Field(
        None, description="pixels of all exposures (HDF5); if given, a run reads the pixels from here"
    )
    metastorefile: FilePath | None = Field(
        None, validate_default=True, description="headers of the exposures in pixelstorefile (JSON)"
    )
    fitsfiles: Annotated[list[FilePath], BeforeValidator(_expand_globs), AfterValidator(_each_once)] = Field(
        [], validate_default=True, description="exposures: paths or globs; catalogues that match are left out"
    )
    extensions: Extensions = Field(
        Extensions(),
        description="FITS extensions of an exposure: a name, the number of an HDU, or [name, EXTVER]",
    )
    bitmask: int | None = Field(
        None,
        ge=0,
        lt=2**32,
        description="mask bits that mark a bad pixel; by default all, or for JWST do-not-use and non-science",
    )
    band_keyword: str | None = Field(
        None,
        min_length=1,
        description="keyword of the band; by default FILTER, PUPIL (JWST), or whichever of FILTER1 and FILTER2 is "
        "not clear",
    )
    band_patterns: dict[str, str] = Field(
        {}, description="bands by file name pattern, {'*_g_*.fits': g}; other files use the keyword"
    )

    # how stores are made
    frame_search_pattern: Annotated[
        list[str] | str, BeforeValidator(_text_or_list), AfterValidator(_absolute_patterns)
    ] = Field([], description="science images to store (globs); by default fitsfiles")
    super_pixel_size: PositiveInt = Field(8, le=1024, description="side of a super-pixel [pixel]")
    nside_full: Annotated[tuple[PositiveInt, PositiveInt], BeforeValidator(_pair)] | None = Field(
        None,
        description="common size of all images in the store, or [nx, ny]; by default each keeps its own [pixel]",
    )
    preprocess: PreprocessSettings = Field(
        PreprocessSettings(), description="further settings for making stores"
    )

    # what is written
    outbase: FilePath = Field(Path("output"), validate_default=True, description="folder of the run")
    scene_catalog: str = Field(
        "scene.fits",
        pattern=r"^[^/]+\.fits$",
        max_length=200,
        description="file name, in outbase, of the catalogue of current parameters",
    )
    write_residuals: bool = Field(True, description="write the residual pixels of each patch")

    # bounds and priors
    add_barriers: bool = Field(
        False,
        description="optimise with a penalty near the bounds: minus the logarithm of the distance to either",
    )
    bounds_kwargs: BoundsSettings = Field(BoundsSettings(), description="ranges of the parameters")
    priors: dict[ParameterName, PriorSettings] = Field(
        {},
        description="prior by parameter (pa in radians east of north); by default uniform within the bounds",
    )
    ties: dict[ParameterName, dict[Identifier, Identifier]] = Field(
        {}, description="by parameter: id of a source, and id of the source whose value it takes"
    )

    nuisance: NuisanceSettings = Field(
        NuisanceSettings(), description="sky, flux scale and shift of every exposure, fitted with the sources"
    )

    # patches
    maxactive_per_patch: PositiveInt = Field(
        15, le=1000, description="maximum number of sources fitted together in a patch"
    )
    strict: bool = Field(True, description="whether all sources linked to an active one join its patch")
    patch_maxradius: PositiveFloat = Field(15.0, le=36000, description="maximum radius of a patch [arcsec]")
    buffer: float = Field(
        0.0,
        ge=0,
        le=36000,
        description="margin added to the radii of influence of the sources in a patch [arcsec]",
    )
    max_active_fraction: float = Field(
        0.1,
        gt=0,
        le=1,
        description="patches are submitted while less than this fraction of sources, or 32 patches, is in progress",
    )
    ntry_checkout: PositiveInt = Field(
        1000, le=1_000_000_000, description="tries to find a free patch before waiting"
    )

    # the model
    pixel_response: Literal["variance", "quartic", "second_order"] = Field(
        "quartic", description="integral over the pixel, for PSFs that do not include it"
    )
    tolerance: float = Field(
        1e-4,
        ge=0,
        description="largest change of a pixel, relative to its noise, by dropping or merging Gaussians",
    )
    n_gauss_psf: PositiveInt | None = Field(
        None,
        le=40,
        description="number of Gaussians fitted to a PSF image; by default the fewest that reach psf_residual, at "
        f"most {MAX_GAUSS}",
    )
    psf_residual: float = Field(
        TARGET_L2,
        gt=0,
        lt=1,
        description="largest norm of the residual of a PSF mixture, relative to the norm of the PSF image; each "
        "Gaussian makes every fit slower",
    )
    psf_centre: Literal["as it is", "recentre"] = Field(
        "as it is",
        description="if the core of a PSF image is less than half a pixel from its central pixel: 'as it is' keeps "
        "the offset, 'recentre' removes it",
    )
    max_snr: float = Field(0.0, ge=0, description="cap on the signal-to-noise ratio of a pixel; 0 for none")
    tweak_background: Literal["tweakbg"] | None = Field(
        None, description="'tweakbg' to subtract the sky levels given under that key"
    )
    tweakbg: dict[str, float] = Field({}, description="sky level by band, nJy per pixel")

    # optimisation
    use_gradients: bool = Field(True, description="kept for forcepho's files; must be true")
    optimize_start: Literal["catalog", "prior"] = Field(
        "catalog",
        description="start of the optimisation: the values in the catalogue, or draws from the prior",
    )
    optimize_passes: PositiveInt = Field(
        2,
        le=100,
        description="number of times that sources with neighbours outside their patch are optimised",
    )
    linear_optimize: bool = Field(
        False, description="store with each patch the precision matrix of all its fluxes in each band"
    )
    forced_photometry: bool = Field(
        False,
        description="in optimisation, fix positions and shapes at the catalogue values, and fit only fluxes and "
        "nuisance parameters",
    )
    gtol: PositiveFloat = Field(
        1e-5, description="predicted gain in log posterior below which the optimisation ends"
    )

    rounds: int = Field(
        1,
        ge=0,
        le=100,
        description="number of rounds of background, detection and optimisation after the first optimisation",
    )

    detection: DetectionSettings = Field(
        DetectionSettings(),
        description="how sources are detected in images and in residuals",
    )

    noise: NoiseSettings = Field(
        NoiseSettings(),
        description="noise that the errors of fits follow, in units of the errors of the images",
    )
    choose: ChooseSettings = Field(ChooseSettings(), description="comparison of profiles: `fphojax choose`")
    injections: InjectionSettings = Field(
        InjectionSettings(), description="artificial sources in the images: `fphojax inject`"
    )
    noise_file: FilePath | None = Field(
        None,
        description="noise of the exposures (JSON), as the stage noise writes it; without it, errors of images are "
        "believed",
    )

    # sampling
    seed: int = Field(0, ge=0, le=4_294_967_295, description="seed of all random numbers")
    sampler: Literal["nuts", "laplace", "importance", "auto"] = Field(
        "nuts",
        description="sampling method: NUTS; a normal distribution at the optimum with importance weights; adaptive "
        "importance sampling; or (auto) the latter, and NUTS for patches in which it finds that it fails",
    )
    chains: PositiveInt = Field(4, le=1000, description="chains per patch")
    warmup: Annotated[PositiveInt, BeforeValidator(_total_steps)] = Field(
        500, le=1_000_000, description="most warm-up steps of each chain; a list is summed"
    )
    sampling_draws: PositiveInt = Field(500, le=1_000_000, description="draws of each chain")
    target_niter: PositiveInt | None = Field(
        None,
        le=1_000_000,
        description="number of draws per chain after which a source is done; by default sampling_draws",
    )
    full_cov: bool = Field(True, description="dense mass matrix instead of a diagonal one")
    max_treedepth: int = Field(9, ge=1, le=20, description="a trajectory takes at most 2^max_treedepth steps")

    @field_validator("metastorefile")
    @classmethod
    def _stores_come_in_pairs(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if "pixelstorefile" in info.data and (value is None) != (info.data["pixelstorefile"] is None):
            raise ValueError("expected pixelstorefile and metastorefile together, found one of them")
        if value is not None and value == info.data.get("pixelstorefile"):
            raise ValueError(f"found {value} for both, expected another file than pixelstorefile")
        return value

    @field_validator("fitsfiles")
    @classmethod
    def _require_exposures(cls, value: list[Path], info: ValidationInfo) -> list[Path]:
        catalogs = {info.data.get("raw_catalog"), info.data.get("big_catalog")}
        value = [path for path in value if path not in catalogs]
        in_part = (info.context or {}).get("in part", False)
        if not value and info.data.get("pixelstorefile") is None and not in_part:
            raise ValueError("found nothing, expected exposures: paths or globs")
        return value

    @field_validator("nside_full")
    @classmethod
    def _whole_super_pixels(cls, value, info: ValidationInfo) -> tuple[int, int] | None:
        size = info.data.get("super_pixel_size", 1)
        if value is not None and any(n % size for n in value):
            raise ValueError(f"found {list(value)}, expected multiples of super_pixel_size = {size}")
        return value

    @field_validator("preprocess")
    @classmethod
    def _require_pixelstorefile(cls, value: PreprocessSettings, info: ValidationInfo) -> PreprocessSettings:
        """Refuse keys that only apply to stores where no store is named, as they would be ignored silently."""
        unused = [key for key in value.model_fields_set - _OF_STORING if getattr(value, key) != _default(key)]
        if unused and info.data.get("pixelstorefile", "") is None:
            raise ValueError(
                f"found {', '.join(sorted(unused))} without pixelstorefile, expected pixelstorefile and "
                "metastorefile, as fitsfiles are read without these keys"
            )
        return value

    @field_validator("sampling_draws")
    @classmethod
    def _draws_fit_into_memory(cls, value: int, info: ValidationInfo) -> int:
        chains = info.data.get("chains", 1)
        if value * chains > MOST_DRAWS:
            raise ValueError(
                f"found {value} in each of {chains} chains, expected at most {MOST_DRAWS} in all"
            )
        return value

    @field_validator("outbase")
    @classmethod
    def _require_folder(cls, value: Path) -> Path:
        existing = value
        while not os.path.lexists(existing):
            existing = existing.parent
        if existing.is_dir():
            return value
        below = "" if existing == value else f" below {existing}, which is a file"
        raise ValueError(f"found {'the file ' if existing == value else ''}{value}, expected a folder{below}")

    @field_validator("use_gradients")
    @classmethod
    def _gradients_are_used(cls, value: bool) -> bool:
        if not value:
            raise ValueError("found false, expected true: the optimiser always uses derivatives")
        return value

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: dict[str, Any] | None = None) -> "Settings":
        """Read settings from a YAML file.

        Shell variables in values are expanded. A key without a value has its default.

        Parameters
        ----------
        path : str or Path
        overrides : dict, optional
            Values that replace those of the file, by key; parts of a setting as `assigned` gives them.

        Raises
        ------
        InputError
            One line per problem: file, key, what was found and what was expected.
        """
        settings, problems = cls.from_yaml_in_part(path, overrides)
        if problems:
            raise InputError("\n".join(problems))
        assert settings is not None  # as nothing was wrong with it
        return settings

    @classmethod
    def from_yaml_in_part(
        cls, path: str | Path, overrides: dict[str, Any] | None = None, *, without: Collection[str] = ()
    ) -> tuple["Settings | None", list[str]]:
        """Read settings from a YAML file, as far as this can be done, so that the rest can be checked, too.

        Parameters
        ----------
        path, overrides
            As for `from_yaml`.
        without : collection of str
            Settings that may be left out where their values are refused; they have their defaults then, and there
            may be no exposures.

        Returns
        -------
        settings : Settings or None
            None where another value is refused, or text has no meaning.
        problems : list of str
            One line each: file, key, what was found and what was expected.

        Raises
        ------
        InputError
            The file holds no settings at all.
        """
        path = Path(path)
        problems: list[str] = []
        values = expand_variables(merged(read_mapping(path), overrides or {}), (), problems)
        context = {"folder": path.parent.resolve(), "in part": False}
        settings, refused, unclear = None, set(), bool(problems)
        try:
            settings = cls.model_validate(values, context=context)
        except ValidationError as error:
            problems += dict.fromkeys(describe(cls, entry) for entry in error.errors())
            refused = {entry["loc"][0] for entry in error.errors()}
        if refused and refused <= set(without):
            rest = {key: value for key, value in values.items() if key not in refused}
            with suppress(ValidationError):
                settings = cls.model_validate(rest, context=context | {"in part": True})
        if settings is not None:
            settings._file = path
        return None if unclear else settings, [f"{path}: {problem}" for problem in problems]

    def changed(self, **values: Any) -> "Settings":
        """Return settings with other values of some keys, validated."""
        new = type(self).model_validate(self.model_dump(mode="json") | values)
        new._file = self._file
        return new

    @property
    def source(self) -> Path | None:
        """The file that the settings were read from."""
        return self._file

    @property
    def file(self) -> str:
        """Where the settings come from, for messages."""
        return str(self._file or "settings")

    def refuse_forced_sampling(self) -> None:
        """Raise an InputError if positions and shapes are to be held: sampling fits them."""
        if self.forced_photometry:
            raise InputError(
                f"{self.file}: forced_photometry: found true, expected false: sampling fits positions and shapes, "
                "too; `fphojax optimize` measures fluxes alone"
            )

    @property
    def fitted_psfs(self) -> Path:
        """Store of the mixtures that were fitted to the PSF images of the exposures."""
        return self.outbase / "psfs.h5"

    @property
    def reading(self) -> dict[str, Any]:
        """Keyword arguments of `fphojax.inputs.exposures.collect`: how FITS files are read."""
        return reading_options(self.model_dump())

    @property
    def sky(self) -> dict[str, float]:
        """Level that is subtracted from the images of each band; empty if none is."""
        return dict(self.tweakbg) if self.tweak_background == "tweakbg" else {}

    @property
    def plain(self) -> dict[str, Any]:
        """The settings as plain values with absolute paths."""
        return self.model_dump(mode="json")

    def to_json(self) -> str:
        """Format the settings as JSON text with absolute paths."""
        return json.dumps(self.plain, indent=2) + "\n"

    def dump_yaml(self, folder: Path | None = None) -> str:
        """Format the settings as YAML text that `from_yaml` reads back.

        Parameters
        ----------
        folder : Path, optional
            Of the file; paths are relative to it, where they can be. Without it they are absolute.
        """
        dump = self.plain
        if folder is not None:
            dump = map_paths(dump, lambda path: relative(path, folder))
        return dumped(_without_variables(dump))


def _without_variables(value: Any) -> Any:
    """Escape each $ in text, so that it names no shell variable when it is read."""
    if isinstance(value, dict):
        return {key: _without_variables(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_without_variables(entry) for entry in value]
    return value.replace("$", "$$") if isinstance(value, str) else value
