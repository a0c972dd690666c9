"""From host to device: conversion of exposures, PSFs and catalogues to a patch and its model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Distribution, TransformedDistribution, Uniform
from numpyro.distributions.transforms import AffineTransform

from fphojax.core.culling import TOLERANCE
from fphojax.core.design import nearby_image
from fphojax.core.gaussians import Optics, Sources, project
from fphojax.core.model import PARAMETERS, SceneModel, moved_inside, support_edges
from fphojax.core.nearby import coarse_length, coarsely_padded
from fphojax.core.pairs import all_pairs
from fphojax.core.patch import TILE, Patch, padded_length
from fphojax.core.pixels import PixelResponse, render
from fphojax.errors import InputError, at_most_ten
from fphojax.inputs.stores.stored_exposures import StoredExposure
from fphojax.mixtures.sersic import load_sersic_table

from .astrometry import CircularRegion, local_affine, sky_offsets
from .bounds import Bounds, check_pa_prior, default_bounds, wrap_pa
from .exposure_nuisance import Nuisance
from .exposures import Exposure
from .psf_store import PSFStore
from .source_catalog import SourceCatalog
from .sphere import Footprints

__all__ = ["PROFILES", "PatchFrame", "Patcher", "as_profiled", "start_violations"]

# Parameters that special profiles hold; a point source is as round as its PSF.
PROFILES = {
    "sersic": {},
    "exponential": {"sersic": 1.0},
    "devaucouleurs": {"sersic": 4.0},
    "point": {"sersic": 1.0, "q": 1.0, "pa": 0.0, "rhalf": 0.0},
}
FARTHEST = 5.0  # standard deviations of a nuisance parameter's prior in which the pair lists hold


def as_profiled(catalog: SourceCatalog) -> SourceCatalog:
    """Replace values of a catalogue by those that the special profiles of its sources hold."""
    if "profile" not in catalog.extra.colnames:
        return catalog
    profiles = [PROFILES[str(profile)] for profile in catalog["profile"]]
    return catalog.replace(
        **{
            name: np.array(
                [held.get(name, value) for held, value in zip(profiles, catalog[name], strict=True)]
            )
            for name in ("q", "pa", "sersic", "rhalf")
        }
    )


def start_violations(catalog: SourceCatalog, bounds: Bounds) -> list[str]:
    """List a catalogue's start values that `Patcher.prepare_model` would refuse.

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
    profiles = catalog["profile"] if "profile" in catalog.extra.colnames else None
    return bounds.violations(_held_inside(turned, _held(profiles, len(catalog)), bounds))


@dataclass(frozen=True, eq=False)
class PatchFrame:
    """The host's side of a `Patch`: what its arrays stand for.

    Attributes
    ----------
    region : CircularRegion
        The patch on the sky; its centre is the reference of all offsets.
    bands : tuple of str
        Columns of the fluxes.
    exposures : tuple of Exposure or StoredExposure
        Those that have pixels in the region, in the order of the patch.
    patch : Patch
        The pixels as observed, before fixed sources are subtracted.
    masked : tuple of str
        Names of exposures that reach into the region, and have no valid pixel there.
    """

    region: CircularRegion
    bands: tuple[str, ...]
    exposures: tuple[Exposure | StoredExposure, ...]
    patch: Patch
    masked: tuple[str, ...] = ()

    def image(self, exposure: int, tiles) -> np.ndarray:
        """Assemble tiles to the full frame of one exposure.

        Parameters
        ----------
        exposure : int
            Index into `exposures`.
        tiles : array (T, TILE * TILE)
            Pixel values in the order of ``patch.data``.

        Returns
        -------
        ndarray (ny, nx)
            NaN where the patch has no weight.
        """
        ny, nx = self.exposures[exposure].shape
        image = np.full((ny + TILE, nx + TILE), np.nan)
        ierr = np.asarray(self.patch.ierr)
        tiles = np.asarray(tiles)
        origin = np.asarray(self.patch.origin)
        for t in np.flatnonzero(self._of(exposure)):
            x, y = origin[t]
            values = np.where(ierr[t] > 0, tiles[t], np.nan)
            image[y : y + TILE, x : x + TILE] = values.reshape(TILE, TILE)
        return image[:ny, :nx]

    def pixels(self, exposure: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the used pixels of one exposure: columns, rows, and indices into the raveled tiles."""
        inside = self._of(exposure)[:, None] & (np.asarray(self.patch.ierr) > 0)
        flat = np.flatnonzero(inside)
        tile, pixel = np.divmod(flat, TILE * TILE)
        origin = np.asarray(self.patch.origin)[tile]
        return origin[:, 0] + pixel % TILE, origin[:, 1] + pixel // TILE, flat

    def _of(self, exposure):
        """Return which tiles belong to an exposure; padding does not."""
        real = np.arange(self.patch.n_tile) < int(self.patch.count)
        return real & (np.asarray(self.patch.exposure) == exposure)


class Patcher:
    """Builder of patches from exposures, and of models from patches and catalogues.

    Parameters
    ----------
    exposures : sequence of Exposure or StoredExposure
        All exposures of the field.
    psfs : PSFStore
        A PSF mixture for each band, or for single exposures.
    table : callable, optional
        Profile table (see `load_sersic_table`); the shipped one by default.
    pixel_response : {"variance", "quartic", "second_order"}
        How the pixel's own integral is treated where a PSF does not include it; see
            docs/mathematics/rendering.md.
    dtype : dtype
        Floating-point type of the pixel work.

    Attributes
    ----------
    frame : PatchFrame or None
        The patch built last.
    """

    def __init__(
        self,
        exposures: Sequence[Exposure | StoredExposure],
        psfs: PSFStore,
        *,
        table=None,
        pixel_response: PixelResponse = "quartic",
        dtype=np.float32,
    ):
        table = load_sersic_table() if table is None else table
        self.exposures = tuple(exposures)
        self._footprints = Footprints([exposure.footprint for exposure in self.exposures])
        self.psfs = psfs
        self.table = table
        self.pixel_response = pixel_response
        self.dtype = dtype
        self.frame: PatchFrame | None = None

    def build_patch(self, region: CircularRegion, allbands: Sequence[str] | None = None) -> Patch:
        """Gather the pixels of a region from all exposures in some bands.

        Parameters
        ----------
        region : CircularRegion
            Exposures without a valid pixel in it are left out.
        allbands : sequence of str, optional
            Bands to use, in the order of the fluxes; by default all, in the order of the exposures.

        Returns
        -------
        Patch
            Also kept in `frame`, with the exposures that it holds.

        Raises
        ------
        InputError
            If no exposure has a valid pixel there.
        """
        bands = tuple(allbands or dict.fromkeys(e.band for e in self.exposures))
        used, tiles, masked = [], [], []
        near = self._footprints.touching(region.ra, region.dec, region.radius)
        touching = [self.exposures[i] for i in near if self.exposures[i].band in bands]
        for exposure in sorted(touching, key=lambda exposure: bands.index(exposure.band)):
            cut = _tiles_of(exposure, region)
            if cut is not None and not len(cut[0]):
                masked.append(exposure.name)
            elif cut is not None:
                tiles.append((*cut, np.full(len(cut[0]), len(used))))
                used.append(exposure)
        if not used:
            raise InputError(
                f"region ra={region.ra:.6f} dec={region.dec:.6f} radius={region.radius:.2f} arcsec: no exposure in "
                f"{', '.join(bands)} has a valid pixel there, expected at least one"
            )
        origin, data, ierr, index = (np.concatenate(parts) for parts in zip(*tiles, strict=True))
        n = len(origin)
        spare = padded_length(n + 1, smallest=16) - n

        def padded(array, dtype):
            return jnp.asarray(np.pad(array, ((0, spare),) + ((0, 0),) * (array.ndim - 1)), dtype=dtype)

        patch = Patch(
            data=padded(data, self.dtype),
            ierr=padded(ierr, self.dtype),
            origin=padded(origin, np.int32),
            exposure=padded(index, np.int32),
            count=jnp.asarray(n, dtype=np.int32),
        )
        self.frame = PatchFrame(region, bands, tuple(used), patch, tuple(masked))
        return patch

    def prepare_model(
        self,
        *,
        active: SourceCatalog,
        fixed: SourceCatalog | None = None,
        bounds: Bounds | None = None,
        priors: Mapping[str, Distribution] | None = None,
        tolerance: float = TOLERANCE,
        profiles: Sequence[str] | None = None,
        ties: Mapping[str, Mapping[int, int]] | None = None,
        nuisance: Nuisance | None = None,
        listed: bool = True,
    ) -> tuple[SceneModel, dict[str, np.ndarray]]:
        """Make the model of the patch built last.

        Parameters
        ----------
        active : SourceCatalog
            Sources to fit; their parameters are the start.
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
        profiles : sequence of str, optional
            For each source one of `PROFILES`: a special profile holds some parameters (a point source all of its
            shape, "exponential" and "devaucouleurs" the Sersic index).
        ties : mapping of str to mapping of int to int, optional
            For some parameters, rows that take the value of another row: ``{"x": {1: 0}, "y": {1: 0}}`` puts a disk
            at the centre of its bulge.
        nuisance : Nuisance
            Sky, flux scale and shift of every exposure; none by default.
        listed : bool
            Make pair lists, which takes long. Without them a model can be optimised and rendered, but it cannot be
            sampled, nor its likelihood evaluated.

        Returns
        -------
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
        frame = self._frame()
        if "pa" in (priors or {}):
            check_pa_prior(priors["pa"])
        active = active.select_bands(frame.bands)
        bounds = default_bounds(active) if bounds is None else bounds.matching(active)
        pa = wrap_pa(active.pa, bounds.lower["pa"], bounds.upper["pa"])
        held = _held(profiles, len(active))
        active = _held_inside(active.replace(pa=pa), held, bounds)
        boxed = [name for name in PARAMETERS if name not in (priors or {})]
        if problems := bounds.violations(active, boxed):
            raise InputError("\n".join(at_most_ten(problems, "bounds")))

        patch = frame.patch
        if fixed is not None and len(fixed):
            patch = self._subtract(patch, fixed.select_bands(frame.bands))
        optics = self._optics(active)
        start = self._sources(active)._asdict()
        more_priors, more_start, basis = (nuisance or Nuisance()).build(patch, len(frame.exposures))
        culls = (
            listed and tolerance > 0 and not set(priors or {}) & {"flux", "x", "y", "q", "sersic", "rhalf"}
        )
        model = SceneModel(
            patch=patch if listed else coarsely_padded(patch),
            optics=optics,
            merged_optics=optics,
            pairs=self._all_pairs(optics) if listed and not culls else None,
            table=self.table,
            priors=_priors(*bounds.of_model(), start, priors or {}) | more_priors,
            response=self.pixel_response,
            tolerance=tolerance,
            tied=_tied(ties or {}, len(active)),
            held=held,
            basis=basis,
        )
        if culls:
            box = {name: support_edges(model.priors[name]) for name in PARAMETERS}
            box |= {name: _within(prior) for name, prior in more_priors.items()}
            model = model.culled(*({name: pair[i] for name, pair in box.items()} for i in (0, 1)))
        return model, moved_inside(start | more_start, model.priors)

    def render(self, catalog: SourceCatalog):
        """Render sources, with nothing left out, on the tiles of `frame` that have weight.

        Parameters
        ----------
        catalog : SourceCatalog
            With fluxes in the bands of the frame.

        Returns
        -------
        array (T, TILE * TILE)
        """
        optics = self._optics(catalog)
        gaussians = _project(self._sources(catalog), optics, self.table)
        return _render(gaussians, self._frame().patch, self._all_pairs(optics), self.pixel_response)

    # ----------------------------------------------------------------------------------------------

    def _frame(self) -> PatchFrame:
        if self.frame is None:
            raise InputError("no patch: prepare_model was called before build_patch")
        return self.frame

    def _sources(self, catalog: SourceCatalog) -> Sources:
        """Convert a catalogue to parameters of the model: offsets in the patch, angles in radians."""
        region = self._frame().region
        offset = sky_offsets(catalog.ra, catalog.dec, region.ra, region.dec)
        return Sources(
            flux=np.array(catalog.flux, dtype=np.float64),
            x=offset[:, 0],
            y=offset[:, 1],
            q=catalog.q,
            pa=np.deg2rad(catalog.pa),
            sersic=catalog.sersic,
            rhalf=catalog.rhalf,
        )

    def _all_pairs(self, optics: Optics):
        """Pair all tiles with all Gaussians."""
        psf = np.asarray(optics.psf_amplitude)[:, :, None, :]
        amplitudes = np.repeat(psf, self.table.order, axis=2)
        return all_pairs(self._frame().patch, amplitudes, self._corrected(optics))

    def _corrected(self, optics: Optics) -> np.ndarray:
        """Return where (E, S) the polynomial of a pixel response is to be applied."""
        return np.asarray(optics.pixel_free) & (self.pixel_response != "variance")

    def _optics(self, catalog: SourceCatalog) -> Optics:
        """Linearise the WCS and look up the PSF of every exposure at every source."""
        frame = self._frame()
        region = frame.region
        n_exposure, n_source = len(frame.exposures), len(catalog)
        pixel = np.zeros((n_exposure, n_source, 2))
        jacobian = np.zeros((n_exposure, n_source, 2, 2))
        mixtures = {}
        for e, exposure in enumerate(frame.exposures):
            affine = local_affine(exposure.wcs, catalog.ra, catalog.dec, dec0=region.dec)
            pixel[e], jacobian[e] = affine.pixel, affine.jacobian
            for s in np.flatnonzero(np.isfinite(affine.pixel).all(axis=-1)):
                location = tuple(affine.pixel[s])
                mixtures[e, s] = self.psfs.lookup(exposure.band, exposure=exposure.name, location=location)
        seen = np.isfinite(pixel).all(axis=-1)
        if not seen.any(axis=0).all():
            row = int(np.flatnonzero(~seen.any(axis=0))[0])
            raise InputError(
                f"row {row} (id {catalog.id[row]}): ra={catalog.ra[row]:.6f} dec={catalog.dec[row]:.6f} has no "
                "position in any exposure, expected one inside at least one exposure"
            )
        n_gauss = max(len(mixture.amplitudes) for mixture in mixtures.values())
        amplitude = np.zeros((n_exposure, n_source, n_gauss))
        mean = np.zeros((n_exposure, n_source, n_gauss, 2))
        covariance = np.tile([1.0, 1.0, 0.0], (n_exposure, n_source, n_gauss, 1))
        pixel_free = np.zeros((n_exposure, n_source), dtype=bool)
        for (e, s), mixture in mixtures.items():
            cxx, cyy, cxy = np.asarray(mixture.covariances).T
            order = np.argsort(cxx * cyy - cxy**2)  # narrow ones first, as merging expects them
            k = len(order)
            amplitude[e, s, :k] = mixture.amplitudes[order]
            mean[e, s, :k] = mixture.means[order]
            covariance[e, s, :k] = mixture.covariances[order]
            pixel_free[e, s] = not mixture.includes_pixel
        pixel[~seen], jacobian[~seen] = 0.0, np.eye(2)  # such a source has no amplitude in this exposure
        by_variance = pixel_free & (self.pixel_response != "second_order")
        return Optics(
            band=jnp.asarray([frame.bands.index(e.band) for e in frame.exposures], dtype=np.int32),
            flux_scale=jnp.asarray([e.flux_scale for e in frame.exposures]),
            offset=jnp.asarray(sky_offsets(catalog.ra, catalog.dec, region.ra, region.dec)),
            pixel=jnp.asarray(pixel),
            jacobian=jnp.asarray(jacobian),
            psf_amplitude=jnp.asarray(amplitude),
            psf_mean=jnp.asarray(mean),
            psf_covariance=jnp.asarray(covariance),
            pixel_variance=jnp.asarray(np.where(by_variance, 1 / 12, 0.0)),
            pixel_free=jnp.asarray(pixel_free),
        )

    def _subtract(self, patch: Patch, fixed: SourceCatalog) -> Patch:
        """Subtract the images of fixed sources from a patch, each where it matters."""
        # pad the numbers of sources and of tiles to few values, so that few programs are compiled
        spare = coarse_length(len(fixed), smallest=4) - len(fixed)
        filled = fixed[np.pad(np.arange(len(fixed)), (0, spare), mode="edge")]
        sources = self._sources(filled)
        sources.flux[len(fixed) :] = 0
        padded = coarsely_padded(patch)
        image = _nearby_image(sources, self._optics(filled), self.table, padded, self.pixel_response)
        data = jnp.where(patch.ierr > 0, patch.data - image[: patch.n_tile], 0)
        return eqx.tree_at(lambda p: p.data, patch, data)


_nearby_image = eqx.filter_jit(nearby_image)
_project = eqx.filter_jit(project)
_render = eqx.filter_jit(render)


def _tiles_of(exposure: Exposure | StoredExposure, region: CircularRegion):
    """Return origins (T, 2), data and ierr (T, TILE * TILE) of tiles with weight in a region.

    None where the region lies outside the image.
    """
    cut = region.cutout(exposure.wcs, exposure.shape)
    if cut is None:
        return None
    (x0, x1, y0, y1), inside = cut
    # the grid of tiles starts at the first pixel of the exposure, so that a tile is the same in every patch
    left, bottom = x0 // TILE * TILE, y0 // TILE * TILE
    columns, rows = -(-(x1 - left) // TILE), -(-(y1 - bottom) // TILE)
    ierr = np.zeros((rows * TILE, columns * TILE), dtype=np.float32)
    data = np.zeros_like(ierr)
    window = np.s_[y0 - bottom : y1 - bottom, x0 - left : x1 - left]
    pixels, weights = exposure.window(x0, x1, y0, y1)
    ierr[window] = np.where(inside, weights, 0)
    data[window] = np.where(ierr[window] > 0, pixels, 0)

    def tiled(image):
        blocks = image.reshape(rows, TILE, columns, TILE).swapaxes(1, 2)
        return blocks.reshape(rows * columns, TILE * TILE)

    data, ierr = tiled(data), tiled(ierr)
    row, column = np.divmod(np.arange(rows * columns), columns)
    origin = np.stack([left + column * TILE, bottom + row * TILE], axis=1)
    weighted = (ierr > 0).any(axis=1)
    return origin[weighted], data[weighted], ierr[weighted]


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
            priors[name] = Uniform(jnp.asarray(low), jnp.asarray(high))
    return priors


def _expanded(prior, shape):
    """Expand a prior to the shape of the parameter; a box remains a `Uniform`, to be recognised as one."""
    if isinstance(prior, Uniform):
        return Uniform(
            *(jnp.broadcast_to(jnp.asarray(edge, float), shape) for edge in (prior.low, prior.high))
        )
    return prior.expand(shape)


def _within(prior):
    """Return the range of a normal nuisance parameter in which the pair lists are valid."""
    return prior.loc - FARTHEST * prior.scale, prior.loc + FARTHEST * prior.scale


def _tied(ties, n_source):
    """Return, for each tied parameter, the row from which every source takes its value."""
    found = {}
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
        found[name] = jnp.asarray(source)
    return found


def _held(profiles, n_source):
    """Return, for each parameter that special profiles hold, its value by source; NaN where it is free."""
    profiles = ["sersic"] * n_source if profiles is None else [str(profile) for profile in profiles]
    for row, profile in enumerate(profiles):
        if profile not in PROFILES:
            raise InputError(f"row {row}: profile is {profile!r}, expected one of {', '.join(PROFILES)}")
    names = {name for profile in profiles for name in PROFILES[profile]}
    return {
        name: jnp.asarray([PROFILES[profile].get(name, np.nan) for profile in profiles])
        for name in sorted(names)
    }


def _held_inside(catalog, held, bounds):
    """Clip a catalogue's values of held parameters to their bounds: the likelihood does not use them."""
    inside = {
        name: np.where(
            np.isnan(fixed), catalog[name], np.clip(catalog[name], bounds.lower[name], bounds.upper[name])
        )
        for name, fixed in held.items()
    }
    return catalog.replace(**inside)


def _shifted(prior, shift):
    return TransformedDistribution(prior, AffineTransform(jnp.asarray(shift), 1.0, domain=prior.support))
