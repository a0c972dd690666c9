"""The settings of a run: one validated object from one YAML file."""

import glob
import json
import os
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
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
)

from fphojax.inputs.errors import InputError

from .settings_file import describe, expand_variables, read_mapping

__all__ = [
    "BoundsSettings",
    "DetectionSettings",
    "Extensions",
    "PreprocessSettings",
    "PriorSettings",
    "Section",
    "Settings",
]


def _below_folder(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder", Path())
    return Path(os.path.abspath(folder / path.expanduser()))


def _expand_globs(patterns: Any, info: ValidationInfo) -> Any:
    """Paths that the patterns name, sorted within each; a name without wildcard is kept as it is."""
    patterns = [patterns] if isinstance(patterns, str) else patterns
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        raise ValueError(f"found {patterns!r}, expected a path or glob, or a list of them")
    paths = []
    for pattern in patterns:
        if not glob.has_magic(pattern):
            paths.append(pattern)
            continue
        found = sorted(glob.glob(str(_below_folder(Path(pattern), info))))
        if not found:
            raise ValueError(f"found no file that matches {pattern!r}, expected at least one")
        paths += found
    return paths


def _absolute_patterns(patterns: Any, info: ValidationInfo) -> Any:
    """Globs as absolute paths; their wildcards stay."""
    if isinstance(patterns, str):
        return str(_below_folder(Path(patterns), info))
    return [_absolute_patterns(p, info) for p in patterns] if isinstance(patterns, list) else patterns


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
    """A list, as forcepho has it, is the lengths of successive adaptation windows."""
    return sum(steps) if isinstance(steps, list) and all(type(step) is int for step in steps) else steps


def _as_text(identifier: Any) -> Any:
    """An id as text, which YAML has made a number where it is one."""
    return str(identifier) if type(identifier) is int else identifier


Identifier = Annotated[str, BeforeValidator(_as_text)]
FilePath = Annotated[Path, AfterValidator(_below_folder)]
Pattern = Annotated[str, AfterValidator(_absolute_patterns)]
ParameterName = Literal["flux", "x", "y", "q", "pa", "sersic", "rhalf"]
Range = Annotated[tuple[float, float], AfterValidator(_ordered)]


class Section(BaseModel):
    """A mapping in the file whose keys are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Extensions(Section):
    """Names of the extensions of an exposure's FITS file."""

    sci: str = Field("SCI", description="science image")
    err: str = Field("ERR", description="standard deviation of each pixel")
    mask: str | None = Field(None, description="non-zero where a pixel is bad; by default MASK, if present")
    psf: str | None = Field(None, description="image of the PSF; by default PSF, if present")


class BoundsSettings(Section):
    """What is not given has the default of `fphojax.inputs.bounds.default_bounds`."""

    n_sig_flux: PositiveFloat | None = Field(
        None, description="half-width of the flux range [standard deviation]"
    )
    sqrtq_range: Range | None = Field(None, description="range of sqrt(b/a)")
    pa_range: Range | None = Field(None, description="range of the position angle [radian]")
    n_pix: PositiveFloat | None = Field(None, description="half-width of the position range [pixel]")
    pixscale: PositiveFloat | None = Field(None, description="size of the pixel meant by n_pix [arcsec]")
    rhalf_range: Range | None = Field(None, description="range of the half-light radius [arcsec]")
    sersic_range: Range | None = Field(None, description="range of the Sersic index")


class PriorSettings(BaseModel):
    """A numpyro distribution and its arguments, e.g. ``{distribution: LogNormal, loc: 0.5, scale: 0.3}``."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    __pydantic_extra__: dict[str, float]

    distribution: str = Field(description="name of a distribution in numpyro.distributions")

    def build(self):
        """The numpyro distribution.

        Raises
        ------
        InputError
            There is no such distribution, or it does not take these arguments.
        """
        import numpyro.distributions as distributions

        kind = getattr(distributions, self.distribution, None)
        # TruncatedNormal and its like are functions that return a distribution
        if self.distribution not in distributions.__all__ or not callable(kind):
            raise InputError(f"found {self.distribution!r}, expected a name in numpyro.distributions")
        try:
            made = kind(**self.__pydantic_extra__, validate_args=True)
            if not isinstance(made, distributions.Distribution):
                raise TypeError(f"{self.distribution} is not a distribution")
            return made
        except (TypeError, ValueError) as error:
            found = ", ".join(f"{key}={value:g}" for key, value in self.__pydantic_extra__.items())
            reason = " ".join(str(error).split())
            raise InputError(
                f"found {self.distribution}({found}), expected its arguments: {reason}"
            ) from error


class NuisanceSettings(Section):
    """Parameters of every exposure that are fitted with the sources, each with a normal prior."""

    sky: Literal["none", "constant", "plane"] = Field("none", description="sky level left in an exposure")
    sky_sigma: PositiveFloat = Field(
        1.0, description="standard deviation of its coefficients, in units of the exposure's pixel noise"
    )
    scale_sigma: float = Field(
        0.0, ge=0, description="standard deviation of the flux scale around 1; 0 for none"
    )
    shift_sigma: float = Field(
        0.0, ge=0, description="standard deviation of the astrometric shift [arcsec]; 0 for none"
    )

    def build(self):
        """The same for `Patcher.prepare_model`."""
        from fphojax.inputs.nuisance import Nuisance

        return Nuisance(**self.model_dump())


class DetectionSettings(Section):
    """How sources are found, in images and in residuals; read by every stage that looks for them."""

    threshold: PositiveFloat = Field(
        5.0, description="least significance, over the noise that the images show [standard deviation]"
    )
    background_box: int | None = Field(
        None,
        ge=8,
        description="side of the boxes in which a sky level is taken from images before there is a fit [pixel]; by "
        "default a level per exposure",
    )
    minimum_separation: float = Field(
        0.0,
        ge=0,
        description="a source nearer than this to a more significant or known one is left out [arcsec]",
    )
    structure: float = Field(
        0.5,
        ge=0,
        description="what adds less than this fraction to the light of a brighter galaxy at its place is structure "
        "of that, not a source; 0 takes all as sources",
    )
    model_error: PositiveFloat = Field(
        0.05, description="fraction by which the light of bright galaxies is known no better"
    )


class PreprocessSettings(Section):
    """How images become a pixel store."""

    calibration: str = Field(
        "none",
        min_length=1,
        description="to nJy: none (they are), BUNIT, PHOTMJSR (JWST), PHOTFLAM (HST), or the keyword of the zero "
        "point, such as ABMAG",
    )
    error_pattern: Pattern | None = Field(
        None, description="files of errors; what * stands for is that of frame_search_pattern"
    )
    mask_pattern: Pattern | None = Field(None, description="files of masks, likewise")
    background_pattern: Pattern | None = Field(None, description="files of backgrounds, likewise")
    background: str | None = Field(None, description="extension of a background to subtract")
    error_kind: Literal["sigma", "variance", "inverse_variance"] = Field(
        "sigma", description="what the error image holds"
    )
    split_by: Literal["DETECTOR", "MODULE"] | None = Field(
        None, description="keyword whose value makes bands of their own"
    )
    wcs: Literal["header", "gwcs"] = Field("header", description="FITS header, or the gwcs of extension ASDF")
    edge: Literal["pad", "cut"] = Field(
        "pad",
        description="what is done to images that are no whole number of super-pixels, or not nside_full",
    )
    compression: Literal["lzf", "gzip"] | None = Field(None, description="lossless compression of the pixels")


class Settings(Section):
    """Everything a run can be told; the keys are forcepho's where it has them.

    Paths are absolute here; in the file they are relative to its folder.
    """

    _file: Path | None = PrivateAttr(None)

    # what is fitted
    bandlist: Annotated[list[str], AfterValidator(_each_once)] = Field(
        min_length=1, description="bands to fit, as in the FILTER keyword of the images"
    )
    raw_catalog: FilePath | None = Field(
        None, description="catalogue of sources to start from; `fphojax detect` makes one from the images"
    )
    big_catalog: FilePath | None = Field(
        None, description="catalogue of sources never fitted, but subtracted"
    )
    splinedatafile: FilePath | None = Field(
        None, description="fixed-radii table of Sersic mixtures; without it, the package's own"
    )
    psfstorefile: FilePath | None = Field(
        None, description="PSF mixtures (HDF5); without it, the exposures' PSF images are fitted"
    )
    pixelstorefile: FilePath | None = Field(
        None, description="pixels of all exposures (HDF5); a run reads them from here, if it is given"
    )
    metastorefile: FilePath | None = Field(
        None, validate_default=True, description="headers of the exposures in pixelstorefile (JSON)"
    )
    fitsfiles: Annotated[list[FilePath], BeforeValidator(_expand_globs), AfterValidator(_each_once)] = Field(
        [], validate_default=True, description="exposures: paths or globs"
    )
    extensions: Extensions = Field(Extensions(), description="names of the FITS extensions of an exposure")

    # how stores are made
    frame_search_pattern: Annotated[list[str] | str, AfterValidator(_absolute_patterns)] = Field(
        [], description="science images to store, globs; without it, fitsfiles"
    )
    bitmask: int | None = Field(
        None, ge=0, description="bits of the mask that spoil a pixel; by default all, or JWST's DO_NOT_USE"
    )
    super_pixel_size: PositiveInt = Field(8, description="side of a super-pixel [pixel]")
    nside_full: Annotated[tuple[PositiveInt, PositiveInt], BeforeValidator(_pair)] | None = Field(
        None, description="size of all images in the store, or [nx, ny]; by default each has its own [pixel]"
    )
    preprocess: PreprocessSettings = Field(PreprocessSettings(), description="more on how stores are made")

    # what is written
    outbase: FilePath = Field(Path("output"), validate_default=True, description="folder of the run")
    scene_catalog: str = Field(
        "scene.fits",
        pattern=r"^[^/]+\.fits$",
        description="catalogue of current parameters, in outbase",
    )
    write_residuals: bool = Field(True, description="write the residual pixels of each patch")

    # bounds and priors
    add_barriers: bool = Field(
        False, description="optimise with a penalty near the bounds: minus the log of the distance to either"
    )
    bounds_kwargs: BoundsSettings = Field(BoundsSettings(), description="ranges of the parameters")
    priors: dict[ParameterName, PriorSettings] = Field(
        {}, description="prior by parameter; elsewhere uniform in the bounds"
    )
    ties: dict[ParameterName, dict[Identifier, Identifier]] = Field(
        {}, description="by parameter: ids of sources, and of those whose value they take"
    )

    nuisance: NuisanceSettings = Field(
        NuisanceSettings(), description="sky, flux scale and shift of every exposure, fitted with the sources"
    )

    # patches
    maxactive_per_patch: PositiveInt = Field(15, description="most sources fitted together in a patch")
    strict: bool = Field(True, description="whether all sources linked to a fitted one join its patch")
    patch_maxradius: PositiveFloat = Field(15.0, description="largest radius of a patch [arcsec]")
    buffer: float = Field(
        0.0, ge=0, description="width added around the sources' radii of influence in a patch [arcsec]"
    )
    max_active_fraction: float = Field(
        0.1, gt=0, le=1, description="patches are taken out while fewer sources (or 32 patches) are out"
    )
    ntry_checkout: PositiveInt = Field(1000, description="tries to find a free patch before waiting")

    # the model
    pixel_response: Literal["variance", "quartic", "second_order"] = Field(
        "quartic", description="integral over the pixel, for PSFs that do not include it"
    )
    tolerance: float = Field(
        1e-4, ge=0, description="what leaving out and merging Gaussians may change in a pixel, over its noise"
    )
    n_gauss_psf: PositiveInt = Field(4, description="Gaussians of a PSF mixture fitted to a PSF image")
    max_snr: float = Field(0.0, ge=0, description="cap on the signal-to-noise ratio of a pixel; 0 for none")
    tweak_background: Literal["tweakbg"] | None = Field(
        None, description="'tweakbg' to subtract the sky levels given under that key"
    )
    tweakbg: dict[str, float] = Field({}, description="sky level by band, in the units of the images")

    # optimisation
    use_gradients: bool = Field(True, description="kept for forcepho's files; must be true")
    optimize_start: Literal["catalog", "prior"] = Field(
        "catalog",
        description="where optimisation starts: at the catalogue's values, or at draws from the prior",
    )
    optimize_passes: PositiveInt = Field(
        2, description="how often sources are optimised that have neighbours outside their patch"
    )
    linear_optimize: bool = Field(
        False, description="keep, with each patch, the precision matrix of all its fluxes in each band"
    )
    forced_photometry: bool = Field(
        False,
        description="in optimisation, hold the catalogue's positions and shapes, and fit fluxes and nuisance "
        "parameters alone",
    )
    gtol: PositiveFloat = Field(
        1e-5, description="change of the log posterior at which the optimisation ends"
    )

    rounds: int = Field(
        1,
        ge=0,
        description="how often a run follows an optimisation by background, detection and another one",
    )

    detection: DetectionSettings = Field(
        DetectionSettings(),
        description="how sources are found in the images, and in what a fit leaves of them",
    )

    # sampling
    seed: int = Field(0, ge=0, description="seed of all random numbers")
    sampler: Literal["nuts", "laplace"] = Field(
        "nuts",
        description="how draws are made: NUTS, or a normal distribution at the optimum with importance weights",
    )
    chains: PositiveInt = Field(4, description="chains per patch")
    warmup: Annotated[PositiveInt, BeforeValidator(_total_steps)] = Field(
        500, description="steps of each chain before its draws; a list is summed"
    )
    sampling_draws: PositiveInt = Field(500, description="draws of each chain")
    target_niter: PositiveInt | None = Field(
        None, description="draws of each chain after which a source is done; by default sampling_draws"
    )
    full_cov: bool = Field(True, description="dense mass matrix instead of a diagonal one")
    max_treedepth: int = Field(9, ge=1, le=20, description="a trajectory takes at most 2^max_treedepth steps")

    @field_validator("metastorefile")
    @classmethod
    def _stores_come_in_pairs(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if "pixelstorefile" in info.data and (value is None) != (info.data["pixelstorefile"] is None):
            raise ValueError("expected pixelstorefile and metastorefile together, found one of them")
        return value

    @field_validator("fitsfiles")
    @classmethod
    def _exposures_are_given(cls, value: list[Path], info: ValidationInfo) -> list[Path]:
        if not value and info.data.get("pixelstorefile") is None:
            raise ValueError("found nothing, expected exposures: paths or globs")
        return value

    @field_validator("nside_full")
    @classmethod
    def _whole_super_pixels(cls, value, info: ValidationInfo):
        size = info.data.get("super_pixel_size", 1)
        if value is not None and any(n % size for n in value):
            raise ValueError(f"found {list(value)}, expected multiples of super_pixel_size = {size}")
        return value

    @field_validator("use_gradients")
    @classmethod
    def _gradients_are_used(cls, value: bool) -> bool:
        if not value:
            raise ValueError("found false, expected true: there is no optimiser without derivatives")
        return value

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: dict[str, Any] | None = None) -> "Settings":
        """Read settings from a YAML file.

        Shell variables in values are expanded. A key without a value has its default.

        Parameters
        ----------
        path : str or Path
        overrides : dict, optional
            Values that replace those of the file, by key.

        Raises
        ------
        InputError
            One line per problem: file, key, what was found and what was expected.
        """
        path = Path(path)
        problems: list[str] = []
        given = expand_variables(read_mapping(path), (), problems) | (overrides or {})
        try:
            settings = cls.model_validate(given, context={"folder": path.parent.resolve()})
        except ValidationError as error:
            problems += [describe(cls, entry) for entry in error.errors()]
        if problems:
            raise InputError("\n".join(f"{path}: {problem}" for problem in problems))
        settings._file = path
        return settings

    def changed(self, **values) -> "Settings":
        """Settings with other values of some keys, validated."""
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
    def sky(self) -> dict[str, float]:
        """Level that is subtracted from the images of each band; empty if none is."""
        return dict(self.tweakbg) if self.tweak_background == "tweakbg" else {}

    def to_json(self) -> str:
        """Settings as JSON text, the ``config.json`` of a run; paths are absolute."""
        return json.dumps(self.model_dump(mode="json"), indent=2) + "\n"

    def dump_yaml(self) -> str:
        """Settings as YAML text that `from_yaml` reads back; paths are absolute."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
