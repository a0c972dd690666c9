"""A scene: the sources that are fitted to the pixels of a frame, with their bounds and priors."""

import copy
from collections.abc import Mapping

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpyro.distributions import Distribution, TransformedDistribution, Uniform
from numpyro.distributions.transforms import AffineTransform

from fphojax.core.backend import on_device
from fphojax.core.culling import TOLERANCE
from fphojax.core.gaussians import ProfileTable
from fphojax.core.model import PARAMETERS, SceneModel, clip_to_support, support_edges
from fphojax.core.nearby import coarsely_padded
from fphojax.core.nuisance import apply_nuisance
from fphojax.core.pixels import PixelResponse
from fphojax.errors import InputError, at_most_ten
from fphojax.mixtures.sersic import load_sersic_table
from fphojax.system.notebook_html import Shown
from fphojax.system.wording import counted

from .bounds import Bounds, check_pa_prior, default_bounds, wrap_pa
from .composites import centre_ties
from .exposure_nuisance import Nuisance
from .frame import PatchFrame
from .noise_model import NoiseModel
from .profiles import apply_profiles, clip_held, held_values, profiles_of
from .projection import optics_of, pairs_of_all, sources_of, subtracted
from .psf_correction import correction_tiles
from .psf_store import PSFStore
from .source_catalog import SourceCatalog

__all__ = ["Scene"]

FARTHEST = 5.0  # standard deviations of a nuisance parameter's prior in which the pair lists hold
_CULLED_BY = {"flux", "x", "y", "q", "sersic", "rhalf"}  # pair lists are valid in the box of these


class Scene(Shown):
    """The sources that are fitted to the pixels of a frame, with their bounds and priors.

    Parameters
    ----------
    frame : PatchFrame
    psfs : PSFStore
        A PSF mixture for each band, or for single exposures.
    active : SourceCatalog
        Sources to fit; their parameters are the start. The column ``profile`` of `extra`, if there is one, names
        for each source one of `PROFILES`: a special profile holds some parameters (a point source all of its shape,
        "exponential" and "devaucouleurs" the Sersic index). Composite sources are split (`split_composites`): rows
        with the same ``galaxy`` share their position.
    fixed : SourceCatalog, optional
        Sources that are subtracted and not fitted.
    bounds : Bounds, optional
        Box of the uniform priors of the active sources, a row for each; `default_bounds` if not given.
    priors : mapping of str to numpyro Distribution, optional
        Priors that replace the box for some parameters, in the units of the model: ``pa`` in radians, east of
        north; for ``x`` and ``y`` they are densities of the offset (arcsec) from the source's position in the
        catalogue.
    tolerance : float
        Gaussians are left out and merged where that changes no pixel by more than this fraction of its noise,
        anywhere in the box (see `culled_pairs`); 0, or a prior that replaces the box, keeps them all.
    ties : mapping of str to mapping of int to int, optional
        For some parameters, rows that take the value of another row: ``{"x": {1: 0}, "y": {1: 0}}`` puts a disk
        at the centre of its bulge.
    nuisance : Nuisance, optional
        Sky, flux scale and shift of every exposure; none by default.
    noise : NoiseModel, optional
        Noise of the exposures, which the errors of the fit follow; by default their errors are believed, and pixels
        taken for independent.
    listed : bool
        Make pair lists, which takes long. Without them a scene can be optimised and rendered, but it cannot be
        sampled, nor its likelihood evaluated.
    table : callable, optional
        Profile table (see `load_sersic_table`); the shipped one by default.
    pixel_response : {"variance", "quartic", "second_order"}
        How the pixel's own integral is treated where a PSF does not include it; see
        docs/mathematics/rendering.md.

    Attributes
    ----------
    frame : PatchFrame
    active, fixed : SourceCatalog
        As they were given.
    bounds : Bounds
    noise : NoiseModel or None
    model : SceneModel
    start : dict of ndarray
        The catalogue's parameters, in the names, shapes and units of the model (``pa`` in radians), inside the
        priors' supports; nuisance parameters at the means of their priors.

    Raises
    ------
    InputError
        Bounds that lack a band or a source; start values outside them, where they are the prior; a source without
        a position in any exposure; no PSF for a band; a prior of ``pa`` beyond 2 pi; an unknown profile, or a tie
        to a row that is tied itself or is not there.
    """

    def __init__(
        self,
        frame: PatchFrame,
        psfs: PSFStore,
        *,
        active: SourceCatalog,
        fixed: SourceCatalog | None = None,
        bounds: Bounds | None = None,
        priors: Mapping[str, Distribution] | None = None,
        tolerance: float = TOLERANCE,
        ties: Mapping[str, Mapping[int, int]] | None = None,
        nuisance: Nuisance | None = None,
        noise: NoiseModel | None = None,
        listed: bool = True,
        table: ProfileTable | None = None,
        pixel_response: PixelResponse = "quartic",
    ):
        priors = priors or {}
        table = load_sersic_table() if table is None else table
        self.frame, self.active, self.noise = frame, active, noise
        self.fixed = active[:0] if fixed is None else fixed
        if "pa" in priors:
            check_pa_prior(priors["pa"])
        sources = active.select_bands(frame.bands)
        self.bounds = default_bounds(sources) if bounds is None else bounds.matching(sources)
        pa = wrap_pa(sources.pa, self.bounds.lower["pa"], self.bounds.upper["pa"])
        held = held_values(profiles_of(active))
        sources = clip_held(sources.replace(pa=pa), held, self.bounds)
        boxed = [name for name in PARAMETERS if name not in priors]
        if problems := self.bounds.violations(sources, boxed):
            raise InputError("\n".join(at_most_ten(problems, "bounds")))

        patch = frame.patch
        if len(self.fixed):
            others = apply_profiles(self.fixed.select_bands(frame.bands))
            patch = subtracted(patch, frame, others, psfs, table, pixel_response)
        optics = optics_of(sources, frame, psfs, pixel_response)
        start = sources_of(sources, frame)._asdict()
        more_priors, more_start, basis = (nuisance or Nuisance()).build(patch, len(frame.exposures))
        culls = listed and tolerance > 0 and not set(priors) & _CULLED_BY
        all_pairs = listed and not culls
        model = SceneModel(
            patch=patch if listed else coarsely_padded(patch),
            optics=optics,
            merged_optics=optics,
            pairs=pairs_of_all(patch, optics, table.order, pixel_response) if all_pairs else None,
            table=table,
            priors=_priors(*self.bounds.of_model(), start, priors) | more_priors,
            response=pixel_response,
            tolerance=tolerance,
            tied=_tied(centre_ties(active, ties or {}), len(active)),
            held={n: on_device(np.deg2rad(v) if n == "pa" else v) for n, v in held.items()},
            basis=basis,
        )
        if culls:
            box = {name: support_edges(model.priors[name]) for name in PARAMETERS}
            box |= {name: _within(prior) for name, prior in more_priors.items()}
            model = model.culled(*({name: pair[i] for name, pair in box.items()} for i in (0, 1)))
        self.model = model
        self.start = clip_to_support(start | more_start, model.priors)
        self._psfs, self._uncorrected = psfs, self.model.patch.data
        self._correction = np.zeros(np.shape(frame.patch.data))

    def corrected(self, values: Mapping[str, ArrayLike]) -> "tuple[Scene, float]":
        """Subtract what the images of the PSFs add to the model of the active sources at given parameters.

        Parameters
        ----------
        values : dict of array
            Of the model.

        Returns
        -------
        scene : Scene
            With pixels from which that is subtracted, in place of what had been; see `psf_correction`.
        change : float
            Norm of the difference of the two over the noise. No parameter changes by more of its standard deviations,
            to first order.
        """
        model, frame = self.model, self.frame
        optics = apply_nuisance(model.optics, {name: np.asarray(value) for name, value in values.items()})
        tiles = correction_tiles(model.sources(values), optics, frame, self._psfs, model.table)
        change = float(np.linalg.norm((tiles - self._correction) * np.asarray(frame.patch.ierr)))
        padding = ((0, model.patch.n_tile - len(tiles)), (0, 0))
        data = on_device(np.asarray(self._uncorrected) - np.pad(tiles, padding), self._uncorrected.dtype)
        scene = copy.copy(self)
        scene.model = eqx.tree_at(lambda m: m.patch.data, model, data)
        scene._correction = tiles
        return scene, change

    @property
    def correction(self) -> np.ndarray | None:
        """What `corrected` subtracted from the tiles of the frame, in the images' units; None where nothing."""
        return self._correction if self._correction.any() else None

    @property
    def noise_kernels(self) -> list[np.ndarray] | None:
        """Kernels of the noise of every exposure (`fphojax.core.noise_kernels`); None where errors are believed."""
        if self.noise is None:
            return None
        return [self.noise.kernel(exposure.band, exposure.name) for exposure in self.frame.exposures]

    def owns(self, model: SceneModel) -> bool:
        """Return whether a model is this scene's, perhaps with parameters held."""
        return model.optics.pixel is self.model.optics.pixel

    @property
    def size(self) -> str:
        """What is fitted, in words: "3 sources in 4 exposures"."""
        return f"{counted(len(self.active), 'source')} in {counted(len(self.frame.exposures), 'exposure')}"

    def _facts(self):
        n_pixel = int(np.count_nonzero(np.asarray(self.frame.patch.ierr)))
        return {
            "": f"{len(self.active)} active and {len(self.fixed)} fixed sources, {n_pixel} pixels of "
            f"{len(self.frame.exposures)} exposures in {', '.join(self.frame.bands)}"
        }

    def _below(self):
        return self.active._below()


def _priors(
    lower: Mapping, upper: Mapping, start: Mapping[str, np.ndarray], replaced: Mapping[str, Distribution]
):
    """Make uniform priors in a box, some replaced; positions become offsets from the patch reference."""
    priors = {}
    for name in PARAMETERS:
        shape = start[name].shape
        shift = start[name] if name in ("x", "y") else 0.0
        if name in replaced:
            prior = _expanded(replaced[name], shape)
            priors[name] = _shifted(prior, shift) if name in ("x", "y") else prior
        else:
            low, high = lower[name] + shift, upper[name] + shift
            priors[name] = Uniform(on_device(low), on_device(high))
    return priors


def _expanded(prior, shape):
    """Expand a prior to the shape of the parameter; a box remains a `Uniform`, to be recognised as one."""
    if isinstance(prior, Uniform):
        return Uniform(*(jnp.broadcast_to(on_device(edge, float), shape) for edge in (prior.low, prior.high)))
    return prior.expand(shape)


def _shifted(prior, shift):
    return TransformedDistribution(prior, AffineTransform(on_device(shift), 1.0, domain=prior.support))


def _within(prior):
    """Return the range of a normal nuisance parameter in which the pair lists are valid."""
    return prior.loc - FARTHEST * prior.scale, prior.loc + FARTHEST * prior.scale


def _tied(ties: Mapping[str, Mapping[int, int]], n_source: int):
    """Return, for each tied parameter, the row from which every source takes its value."""
    followed = {}
    for name, rows in ties.items():
        if name not in PARAMETERS:
            raise InputError(f"ties: found parameter {name!r}, expected one of {', '.join(PARAMETERS)}")
        for row, other in rows.items():
            if other in rows or not (0 <= row < n_source and 0 <= other < n_source):
                raise InputError(
                    f"ties: found {name} of row {row} tied to row {other}, expected free rows below {n_source}"
                )
        source = np.arange(n_source)
        source[list(rows)] = list(rows.values())
        followed[name] = on_device(source)
    return followed
