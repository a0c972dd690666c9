"""All that least squares needs to know about the pixels of a scene, in one pass over them.

The columns of the design A of an exposure are the images of its sources at unit flux, their derivatives by the
six other parameters, the terms of the sky, and the residuals r at the present parameters.  A^T W A, with
W = ierr^2, gives at the same shapes, for any other fluxes and sky, chi-squared, its gradient and the Fisher matrix:
the model is linear in these, and the derivatives by the shapes grow with the fluxes (Golub & Pereyra 1973).
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from .gaussians import Optics, ProfileTable, Sources, project
from .nearby import nearby_sources, over_nearby
from .patch import Patch
from .pixels import PixelResponse, design_of_gaussians, tile_image
from .sky import SkyBasis

__all__ = ["FAINTEST", "N_PARAMETER", "Design", "design", "nearby_image", "tangents"]

N_PARAMETER = len(Sources._fields)
FAINTEST = (
    1.0  # least peak, over the noise of a pixel, that a source is taken to have when its tiles are chosen
)


class Design(eqx.Module):
    """A^T W A of every exposure, and the fluxes and sky at which it was evaluated.

    Attributes
    ----------
    gram : array (E, S + 1, S + 1, 7, 7)
        By pairs of sources; the last stands for the residuals and the terms of the sky.
    chi2 : array (E,)
        At the fluxes and the sky below.
    flux : array (E, S)
        Fluxes at which the residuals were evaluated.
    sky : array (E, K)
        Coefficients of the sky at which they were evaluated.
    """

    gram: jax.Array
    chi2: jax.Array
    flux: jax.Array
    sky: jax.Array

    def equations(self, flux: jax.Array, sky: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Compute chi-squared and its derivatives at other fluxes and another sky.

        Parameters
        ----------
        flux : array (E, S)
        sky : array (E, K)

        Returns
        -------
        chi2 : array (E,)
        rhs : array (E, S * 7 + K)
            J^T W r: minus half the gradient of chi-squared by each source's flux, x, y, q, pa, sersic, rhalf, and by
            the sky.
        fisher : array (E, S * 7 + K, S * 7 + K)
            J^T W J.
        """
        n_exposure, n_source = self.flux.shape
        n_term = self.sky.shape[1]
        size = N_PARAMETER * (n_source + 1)
        gram = jnp.swapaxes(self.gram, 2, 3).reshape(n_exposure, size, size)
        change = jnp.zeros((n_exposure, n_source, N_PARAMETER)).at[..., 0].set(flux - self.flux)
        last = jnp.zeros((n_exposure, N_PARAMETER)).at[:, 1 : n_term + 1].set(sky - self.sky)
        change = jnp.concatenate([change.reshape(n_exposure, -1), last], axis=1)
        product = jnp.einsum("eij,ej->ei", gram, change)
        place = N_PARAMETER * n_source  # of the residuals
        chi2 = self.chi2 - 2 * product[:, place] + jnp.einsum("ei,ei->e", change, product)
        rhs = gram[:, place] - product
        scale = jnp.repeat(flux, N_PARAMETER, axis=1).reshape(n_exposure, n_source, N_PARAMETER)
        scale = scale.at[..., 0].set(1.0).reshape(n_exposure, -1)
        scale = jnp.concatenate([scale, jnp.ones((n_exposure, n_term))], axis=1)
        columns = jnp.concatenate([jnp.arange(place), place + 1 + jnp.arange(n_term)])
        fisher = gram[:, columns[:, None], columns] * scale[:, :, None] * scale[:, None, :]
        return chi2, rhs[:, columns] * scale, fisher


def design(
    sources: Sources,
    optics: Optics,
    table: ProfileTable,
    patch: Patch,
    response: PixelResponse = "variance",
    basis: SkyBasis | None = None,
    sky: jax.Array | None = None,
) -> Design:
    """Compute the products of the columns of every exposure's design.

    Parameters
    ----------
    sources : Sources
        Parameters of S sources.
    optics : Optics
        How E exposures see them.
    table : callable
        The profile table, as for `project`.
    patch : Patch
    response : {"variance", "quartic", "second_order"}
        Its polynomial multiplies the Gaussians of sources whose PSF does not include the pixel. That it changes with
        the shapes, by less than one per cent of the derivatives, is left out.
    basis : SkyBasis, optional
    sky : array (E, K), optional
        Coefficients of its terms.

    Returns
    -------
    Design
        In float64.
    """
    n_exposure, n_source = optics.n_exposure, optics.n_source
    flux = sources.flux.T[optics.band]
    sky = jnp.zeros((n_exposure, 0)) if basis is None or sky is None else sky
    unit = sources._replace(flux=jnp.ones_like(sources.flux))
    nearby = nearby_sources(project(unit, optics, table), flux, patch, FAINTEST)
    theta, tangent = tangents(unit, optics, table)
    dtype = patch.data.dtype
    polynomial = None if response == "variance" else response

    def one(tile, members):
        e = patch.exposure[tile]
        real = members < n_source
        row = jnp.minimum(members, n_source - 1)

        def columns_of(theta, tangent, corrected):
            return design_of_gaussians(theta, tangent, patch.centre(tile), dtype, polynomial, corrected)

        columns = jax.vmap(columns_of)(theta[e, row], tangent[e, row], optics.pixel_free[e, row])
        columns = jnp.where(real[:, None, None], columns, 0)  # (n, 7, P)
        residual = patch.data[tile] - flux[e, row].astype(dtype) @ columns[:, 0]
        last = jnp.zeros((N_PARAMETER, residual.size), dtype)
        if basis is not None:
            terms = basis.on_tile(patch, tile)
            residual = residual - sky[e].astype(dtype) @ terms
            last = last.at[1 : 1 + basis.n_term].set(terms)
        last = last.at[0].set(residual)
        weighted = jnp.concatenate([columns, last[None]]) * patch.ierr[tile]
        flat = weighted.reshape(-1, residual.size)
        gram = (flat @ flat.T).reshape(*weighted.shape[:2], *weighted.shape[:2])
        return jnp.swapaxes(gram, 1, 2), jnp.sum(weighted[-1, 0].astype(jnp.float64) ** 2)

    def step(carry, tile, members):
        gram, chi2 = carry
        parts, values = jax.vmap(one)(tile, members)
        e = patch.exposure[tile]
        slot = jnp.concatenate([members, jnp.full((tile.size, 1), n_source)], axis=1)
        place = e[:, None, None], slot[:, :, None], slot[:, None, :]
        gram = gram.at[place].add(parts.astype(jnp.float64), mode="drop")
        return gram, chi2.at[e].add(values)

    empty = jnp.zeros((n_exposure, n_source + 1, n_source + 1, N_PARAMETER, N_PARAMETER))
    gram, chi2 = over_nearby(step, (empty, jnp.zeros(n_exposure)), nearby)
    return Design(gram, chi2, flux, sky)


def nearby_image(
    sources: Sources, optics: Optics, table: ProfileTable, patch: Patch, response: PixelResponse = "variance"
) -> jax.Array:
    """Render sources on every tile, each source only where it matters.

    Parameters
    ----------
    sources, optics, table, patch, response
        As for `design`.

    Returns
    -------
    array (T, TILE * TILE)
    """
    gaussians = project(sources, optics, table)
    n_exposure, n_source = gaussians.x.shape[:2]
    theta = jnp.stack(gaussians, axis=-1).reshape(n_exposure, n_source, -1, len(gaussians))
    dtype = patch.data.dtype
    polynomial = None if response == "variance" else response

    def one(tile, members):
        e, row = patch.exposure[tile], jnp.minimum(members, n_source - 1)
        part = theta[e, row].at[..., 0].multiply((members < n_source)[:, None])
        free = optics.pixel_free[e, row]

        def rendered(part, response):
            return tile_image(part.reshape(-1, part.shape[-1]), patch.centre(tile), dtype, response)

        if polynomial is None:
            return rendered(part, None)
        uncorrected = part.at[..., 0].multiply(~free[:, None])
        return rendered(uncorrected, None) + rendered(part.at[..., 0].multiply(free[:, None]), polynomial)

    def step(image, tile, members):
        return image.at[tile].set(jax.vmap(one)(tile, members))

    nearby = nearby_sources(gaussians, jnp.ones((n_exposure, n_source)), patch)
    return over_nearby(step, jnp.zeros_like(patch.data), nearby)


def tangents(sources: Sources, optics: Optics, table: ProfileTable) -> tuple[jax.Array, jax.Array]:
    """Compute Gaussians (E, S, G, 6), and their derivatives (E, S, 7, G, 6) by the seven parameters.

    A source's Gaussians depend on its own parameters alone, so one direction serves all sources at once.
    """

    def stacked(s):
        gaussians = project(s, optics, table)
        flat = jnp.stack(gaussians, axis=-1)
        return flat.reshape(*flat.shape[:2], -1, 6)

    fields = Sources._fields
    directions = Sources(
        *(
            jnp.zeros((len(fields), *getattr(sources, name).shape)).at[i].set(1.0)
            for i, name in enumerate(fields)
        )
    )
    value, push = jax.linearize(stacked, sources)
    return value, jax.vmap(push, out_axes=2)(directions)
