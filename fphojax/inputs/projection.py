"""How the exposures of a frame see sources: parameters of the model, linearised WCS, PSF at every source."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from fphojax.core.backend import on_device
from fphojax.core.design import nearby_image
from fphojax.core.gaussians import Optics, ProfileTable, Sources, project
from fphojax.core.nearby import coarse_length, coarsely_padded
from fphojax.core.pairs import PairList, all_pairs
from fphojax.core.patch import Patch
from fphojax.core.pixels import PixelResponse, render
from fphojax.core.programs import Program
from fphojax.errors import InputError

from .astrometry import local_affine, sky_offsets
from .frame import PatchFrame
from .psf_correction import correction_tiles
from .psf_store import PSFStore
from .source_catalog import SourceCatalog

__all__ = ["optics_of", "pairs_of_all", "rendered", "sources_of", "subtracted"]


def sources_of(catalog: SourceCatalog, frame: PatchFrame) -> Sources:
    """Convert a catalogue to parameters of the model: offsets in the frame (arcsec), angles in radians."""
    offset = sky_offsets(catalog.ra, catalog.dec, frame.region.ra, frame.region.dec)
    return Sources(
        flux=np.array(catalog.flux, dtype=np.float64),
        x=offset[:, 0],
        y=offset[:, 1],
        q=catalog.q,
        pa=np.deg2rad(catalog.pa),
        sersic=catalog.sersic,
        rhalf=catalog.rhalf,
    )


def optics_of(
    catalog: SourceCatalog, frame: PatchFrame, psfs: PSFStore, pixel_response: PixelResponse
) -> Optics:
    """Linearise the WCS and look up the PSF of every exposure at every source.

    Raises
    ------
    InputError
        A source has no position in any exposure, or there is no PSF for a band.
    """
    region = frame.region
    n_exposure, n_source = len(frame.exposures), len(catalog)
    pixel = np.zeros((n_exposure, n_source, 2))
    jacobian = np.zeros((n_exposure, n_source, 2, 2))
    mixtures = {}
    for e, exposure in enumerate(frame.exposures):
        affine = local_affine(exposure.wcs, catalog.ra, catalog.dec, dec0=region.dec)
        pixel[e], jacobian[e] = affine.pixel, affine.jacobian
        for s in np.flatnonzero(np.isfinite(affine.pixel).all(axis=-1)):
            mixtures[e, s] = psfs.in_exposure(exposure, tuple(affine.pixel[s]))
    visible = np.isfinite(pixel).all(axis=-1)
    if not visible.any(axis=0).all():
        row = int(np.flatnonzero(~visible.any(axis=0))[0])
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
    pixel[~visible], jacobian[~visible] = 0.0, np.eye(2)  # such a source has no amplitude in this exposure
    by_variance = pixel_free & (pixel_response != "second_order")
    return Optics(
        band=on_device([frame.bands.index(e.band) for e in frame.exposures], np.int32),
        flux_scale=on_device([e.flux_scale for e in frame.exposures]),
        offset=on_device(sky_offsets(catalog.ra, catalog.dec, region.ra, region.dec)),
        pixel=on_device(pixel),
        jacobian=on_device(jacobian),
        psf_amplitude=on_device(amplitude),
        psf_mean=on_device(mean),
        psf_covariance=on_device(covariance),
        pixel_variance=on_device(np.where(by_variance, 1 / 12, 0.0)),
        pixel_free=on_device(pixel_free),
    )


def pairs_of_all(patch: Patch, optics: Optics, order: int, pixel_response: PixelResponse) -> PairList:
    """Pair all tiles with all Gaussians of profiles of `order` Gaussians."""
    psf = np.asarray(optics.psf_amplitude)[:, :, None, :]
    corrected = np.asarray(optics.pixel_free) & (pixel_response != "variance")
    return all_pairs(patch, np.repeat(psf, order, axis=2), corrected)


def subtracted(
    patch: Patch,
    frame: PatchFrame,
    fixed: SourceCatalog,
    psfs: PSFStore,
    table: ProfileTable,
    pixel_response: PixelResponse,
) -> Patch:
    """Subtract the images of fixed sources from the pixels of a frame, each where it matters.

    What the PSF images add to them (`psf_correction`) is part of these.
    """
    # pad the numbers of sources and of tiles to few values, so that few programs are compiled
    spare = coarse_length(len(fixed), smallest=4) - len(fixed)
    filled = fixed[np.pad(np.arange(len(fixed)), (0, spare), mode="edge")]
    sources = sources_of(filled, frame)
    sources.flux[len(fixed) :] = 0
    padded, optics = coarsely_padded(patch), optics_of(filled, frame, psfs, pixel_response)
    image = _nearby_image(sources, optics, table, padded, pixel_response)[: patch.n_tile]
    image = image + on_device(correction_tiles(sources, optics, frame, psfs, table), image.dtype)
    data = jnp.where(patch.ierr > 0, patch.data - image, 0)
    return eqx.tree_at(lambda p: p.data, patch, data)


def rendered(
    catalog: SourceCatalog,
    frame: PatchFrame,
    psfs: PSFStore,
    table: ProfileTable,
    pixel_response: PixelResponse = "quartic",
) -> jax.Array:
    """Render sources, with nothing left out, on the tiles of a frame that have weight.

    Parameters
    ----------
    catalog : SourceCatalog
        With fluxes in the bands of the frame.
    frame : PatchFrame
    psfs : PSFStore
    table : callable
        Profile table (see `load_sersic_table`).
    pixel_response : {"variance", "quartic", "second_order"}

    Returns
    -------
    array (T, TILE * TILE)
    """
    optics = optics_of(catalog, frame, psfs, pixel_response)
    gaussians = _project(sources_of(catalog, frame), optics, table)
    pairs = pairs_of_all(frame.patch, optics, table.order, pixel_response)
    return _render(gaussians, frame.patch, pairs, pixel_response)


_nearby_image = Program(nearby_image)
_project = Program(project)
_render = Program(render)
