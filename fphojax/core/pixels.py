"""From Gaussians to pixel values, likelihood and gradient (docs/mathematics/rendering.md).

All work is done tile by tile.  In coordinates relative to a tile's centre the exponent of a Gaussian is a
quadratic polynomial, so the exponents of all Gaussians on all pixels of the tile are one matrix product of
coefficients and monomials.  Every derivative of chi-squared is a moment of the same exponentials, a second
matrix product.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from numpy.polynomial import Chebyshev, Polynomial

from .backend import tiles_per_block
from .gaussians import Gaussians
from .pairs import PairList
from .patch import TILE, Patch
from .sky import SkyBasis

__all__ = [
    "PixelResponse",
    "chi2",
    "coefficients",
    "design_of_gaussians",
    "exponentials",
    "flat_table",
    "monomials",
    "over_tiles",
    "render",
    "tile_image",
    "unpaired_tiles",
    "values_and_pullback",
]

PixelResponse = Literal["variance", "quartic", "second_order"]

LOG2E = math.log2(math.e)
LN2 = math.log(2.0)


def _powers(degree):
    """Return exponents (i, j) of the monomials x^i y^j up to a degree; the constant comes first."""
    return [(d - j, j) for d in range(degree + 1) for j in range(d + 1)]


def _monomials(degree):
    """Evaluate monomials at the pixels of a tile, relative to its centre: shape (n, TILE * TILE)."""
    y, x = np.mgrid[:TILE, :TILE].reshape(2, -1) - (TILE - 1) / 2
    return np.stack([x**i * y**j for i, j in _powers(degree)])


DEGREE = {"second_order": 2, "quartic": 4}
# 2**x for |x| <= 1/2, interpolated at Chebyshev's nodes: to 2.4e-7 of the value, with rounding
FRACTION = Chebyshev.interpolate(np.exp2, 5, (-0.5, 0.5)).convert(kind=Polynomial).coef.astype(np.float32)
BASIS = {degree: _monomials(degree) for degree in (2, 4)}


# --------------------------------------------------------------------------------------------------------
# One exponential


@jax.custom_jvp
def _exp2(x):
    """Compute 2**x for x <= 0 or thereabouts; 0 to within float32's smallest number below -126.

    In float32: the integer part goes into the exponent's bits, the rest, in [-1/2, 1/2], through a polynomial
    (`FRACTION`), in less than half the time of the general function.
    """
    if x.dtype != jnp.float32:
        return jnp.exp2(x)
    x = jnp.maximum(x, -126.0)
    integer = jnp.round(x)
    fraction = x - integer
    value = jnp.full_like(x, FRACTION[-1])
    for coefficient in FRACTION[-2::-1]:
        value = value * fraction + coefficient
    bits = (integer.astype(jnp.int32) + 127) << 23
    return value * jax.lax.bitcast_convert_type(bits, jnp.float32)


@_exp2.defjvp
def _exp2_jvp(primals, tangents):
    value = _exp2(*primals)
    return value, LN2 * value * tangents[0]


# --------------------------------------------------------------------------------------------------------
# Coefficients of a Gaussian in the coordinates of a tile


def _square(coefficients, powers):
    """Square a polynomial in (x, y), given as a dict from exponents to coefficients."""
    result = dict.fromkeys(powers, 0.0)
    for (i, j), a in coefficients.items():
        for (k, m), b in coefficients.items():
            result[i + k, j + m] = result[i + k, j + m] + a * b
    return result


def _response_polynomial(response, gx, gy, fxx, fxy, fyy):
    """Compute the coefficients of the pixel response's polynomial, shape (n_monomial, L).

    With F the precision matrix, d the offset from the centre and w = F d:

    * ``second_order``: 1 + (|w|^2 - tr F) / 24, the Laplacian term of the pixel's integral;
    * ``quartic``: 1 - (H4x + H4y) / 2880, H4x = wx^4 - 6 wx^2 fxx + 3 fxx^2: what the fourth cumulant of a
      unit box, -1/120, adds to a Gaussian whose covariance holds the second one, 1/12.

    ``gx, gy`` are F times the position of the centre, so that wx = fxx x + fxy y - gx.
    """
    degree = DEGREE[response]
    powers = _powers(degree)
    columns, rows = {(0, 0): -gx, (1, 0): fxx, (0, 1): fxy}, {(0, 0): -gy, (1, 0): fxy, (0, 1): fyy}
    squares = [_square(linear, _powers(2)) for linear in (columns, rows)]
    total = dict.fromkeys(powers, jnp.zeros_like(gx))
    if response == "second_order":
        total[0, 0] = 1 - (fxx + fyy) / 24
        for square in squares:
            for power, value in square.items():
                total[power] = total[power] + value / 24
    else:
        total[0, 0] = 1 - 3 * (fxx**2 + fyy**2) / 2880
        for square, f in zip(squares, (fxx, fyy), strict=True):
            for power, value in square.items():
                total[power] = total[power] + 6 * f * value / 2880
            for power, value in _square(square, powers).items():
                total[power] = total[power] - value / 2880
    return jnp.stack([total[power] for power in powers])


def coefficients(
    theta: jax.Array, centre: jax.Array, dtype: DTypeLike, response: PixelResponse | None
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Compute amplitudes (L,), coefficients (6, L) of exponents in base 2, and the response's polynomial.

    ``theta`` is (L, 6), the numbers of L Gaussians in float64, ``centre`` that of their tile (2,) or of their tiles;
    both may have more dimensions.  The polynomial is None without a response.  Only the difference of centre
    and tile is rounded to the precision of the pixels.
    """
    dx = (theta[..., 1] - centre[..., 0]).astype(dtype)
    dy = (theta[..., 2] - centre[..., 1]).astype(dtype)
    amplitude, fxx, fxy, fyy = (theta[..., i].astype(dtype) for i in (0, 3, 4, 5))
    gx, gy = fxx * dx + fxy * dy, fxy * dx + fyy * dy
    constant = -0.5 * (gx * dx + gy * dy)
    exponent = LOG2E * jnp.stack([constant, gx, gy, -0.5 * fxx, -fxy, -0.5 * fyy])
    polynomial = None if response is None else _response_polynomial(response, gx, gy, fxx, fxy, fyy)
    return amplitude, exponent.astype(dtype), polynomial


def _exponentials(exponent, polynomial):
    """Compute exponentials (P, L), and the same times the pixel response."""
    dtype = exponent.dtype
    plain = _exp2(jnp.asarray(BASIS[2].T, dtype) @ exponent)
    if polynomial is None:
        return plain, plain
    basis = _basis_of(polynomial)
    return plain, plain * (basis.T @ polynomial)


def _basis_of(polynomial):
    """Return the monomials (n, P) that belong to the rows of a polynomial."""
    degree = next(d for d, basis in BASIS.items() if basis.shape[0] == polynomial.shape[0])
    return jnp.asarray(BASIS[degree], polynomial.dtype)


def exponentials(exponent: jax.Array, polynomial: jax.Array | None) -> jax.Array:
    """Evaluate Gaussians of amplitude 1 on their tiles (..., TILE * TILE), from `coefficients`.

    Each is evaluated by itself: for few Gaussians on each of many tiles that is faster than a matrix product.
    """

    def on_pixels(numbers, basis):
        return sum(number[..., None] * row for number, row in zip(numbers, basis, strict=True))

    values = _exp2(on_pixels(exponent, monomials(2, exponent.dtype)))
    return values if polynomial is None else values * on_pixels(polynomial, _basis_of(polynomial))


def monomials(degree: int, dtype: DTypeLike) -> jax.Array:
    """Return the monomials (n, TILE * TILE) at the pixels of a tile, relative to its centre."""
    return jnp.asarray(BASIS[degree], dtype)


def tile_image(
    theta: jax.Array, centre: jax.Array, dtype: DTypeLike, response: PixelResponse | None
) -> jax.Array:
    """Compute the pixel values of Gaussians on one tile.

    Parameters
    ----------
    theta : array (L, 6)
        The numbers of L Gaussians, in the order of `Gaussians`.
    centre : array (2,)
        Pixel (x, y) of the tile's centre.
    dtype : dtype
        Floating-point type of the pixel work.
    response : str or None
        Polynomial pixel response.

    Returns
    -------
    array (TILE * TILE,)
    """
    amplitude, exponent, polynomial = coefficients(theta, centre, dtype, response)
    return _exponentials(exponent, polynomial)[1] @ amplitude


def _image_and_pullback(theta, centre, dtype, response):
    """Compute pixel values (P,), and the function from weights (P,) to the gradient (L, 6) of their sum."""
    amplitude, values, pullback = values_and_pullback(theta, centre, dtype, response)
    return values @ amplitude, pullback


def values_and_pullback(
    theta: jax.Array, centre: jax.Array, dtype: DTypeLike, response: PixelResponse | None
) -> tuple[jax.Array, jax.Array, Callable[[jax.Array], jax.Array]]:
    """Compute amplitudes (L,) and values (P, L) of Gaussians of unit amplitude, and their pullback.

    The last is a function that takes weights of the pixels, one set (P,) or one for each Gaussian (P, L), to the
    gradient (L, 6) of the weighted sum of the pixels.  It reuses the exponentials: with v the weighted pixels, the
    derivative by a coefficient of the exponent is the moment sum(v * monomial * exponential).
    """
    (amplitude, exponent, polynomial), pull = jax.vjp(
        lambda t: coefficients(t, centre, dtype, response), theta
    )
    plain, values = _exponentials(exponent, polynomial)

    def moments_of(weights, basis, exponentials):
        if weights.ndim == 1:
            return (weights * basis) @ exponentials
        return basis @ (weights * exponentials)

    def pullback(weights):
        moments = moments_of(weights, jnp.asarray(BASIS[2], dtype), values)
        by_polynomial = None
        if polynomial is not None:
            by_polynomial = amplitude * moments_of(weights, _basis_of(polynomial), plain)
        return pull((moments[0], LN2 * amplitude * moments, by_polynomial))[0]

    return amplitude, values, pullback


def design_of_gaussians(
    theta: jax.Array,
    tangent: jax.Array,
    centre: jax.Array,
    dtype: DTypeLike,
    response: PixelResponse | None = None,
    corrected: jax.Array | bool = True,
) -> jax.Array:
    """Compute derivatives of the summed image of Gaussians on one tile, by parameters that they share.

    Parameters
    ----------
    theta : array (L, 6)
        The numbers of L Gaussians, in the order of `Gaussians`.
    tangent : array (N, L, 6)
        Their derivatives by N parameters.
    centre, dtype, response
        As for `tile_image`; the derivative of the response's polynomial is left out.
    corrected : bool array (), optional
        Whether the response applies at all.

    Returns
    -------
    array (N, TILE * TILE)
    """
    (amplitude, exponent), push = jax.linearize(lambda t: coefficients(t, centre, dtype, None)[:2], theta)
    by_amplitude, by_exponent = jax.vmap(push)(tangent)  # (N, L), (N, 6, L)
    values = _exponentials(exponent, None)[0]
    if response is not None:
        polynomial = coefficients(theta, centre, dtype, response)[2]
        factor = _basis_of(polynomial).T @ polynomial
        values = values * jnp.where(corrected, factor, 1)
    # with E = amp 2^(c . basis): dE = 2^(c . basis) (damp + ln2 amp (dc . basis))
    by_monomial = LN2 * amplitude * by_exponent
    by_monomial = by_monomial.at[:, 0].add(by_amplitude)
    summed = values @ by_monomial.reshape(-1, amplitude.size).T  # (P, N * 6)
    summed = summed.reshape(values.shape[0], -1, by_monomial.shape[1])
    return jnp.einsum("pnm,mp->np", summed, jnp.asarray(BASIS[2], dtype))


# --------------------------------------------------------------------------------------------------------
# Loops over tiles


def flat_table(gaussians: Gaussians) -> jax.Array:
    """Arrange all Gaussians in one table (n + 1, 6); the last row is empty, for padded lists."""
    table = jnp.stack([g.ravel() for g in gaussians], axis=1)
    return jnp.concatenate([table, jnp.zeros((1, 6), table.dtype)])


def over_tiles(
    step: Callable[[Any, jax.Array, jax.Array, jax.Array], Any], carry: Any, pairs: PairList, n_gauss: int
) -> Any:
    """Run ``step(carry, tiles, plain, corrected)`` over blocks of the tiles of a pair list, level by level."""
    block = tiles_per_block()
    for i, lengths in enumerate(pairs.lengths):
        begin, end = pairs.level[i], pairs.level[i + 1]

        def body(number, carry, begin=begin, end=end, lengths=lengths):
            rows = begin + number * block + jnp.arange(block)
            tile, plain, corrected = jax.vmap(lambda row: pairs.row(row, lengths, n_gauss))(
                jnp.minimum(rows, pairs.tile.size - 1)
            )
            tile = jnp.where(rows < end, tile, -1)  # the last block is padded with an empty tile
            return step(carry, tile, plain, corrected)

        carry = jax.lax.fori_loop(0, (end - begin + block - 1) // block, body, carry)
    return carry


def _chi2_terms(image, patch, tile):
    """Compute chi-squared of one tile in float64, and residual * ierr^2."""
    ierr = patch.ierr[tile]
    chi = (patch.data[tile] - image) * ierr
    return jnp.sum(chi.astype(jnp.float64) ** 2), chi * ierr


def unpaired_tiles(patch: Patch, pairs: PairList) -> jax.Array:
    """Flag the tiles (T,) in no list, where the sources' image is zero."""
    real = jnp.arange(pairs.tile.size) < pairs.level[-1]
    return ~jnp.zeros(patch.n_tile, bool).at[pairs.tile].max(real)


def _unpaired_chi2(patch, pairs, n_exposure, level, basis):
    """Compute chi-squared per exposure of the tiles in no list."""
    residual = patch.data if basis is None else patch.data - basis.image(level, patch)
    empty = jnp.sum((residual * patch.ierr).astype(jnp.float64) ** 2, axis=1)
    return jax.ops.segment_sum(
        jnp.where(unpaired_tiles(patch, pairs), empty, 0.0), patch.exposure, n_exposure
    )


def chi2(
    gaussians: Gaussians,
    patch: Patch,
    pairs: PairList,
    response: PixelResponse = "variance",
    level: jax.Array | None = None,
    basis: SkyBasis | None = None,
) -> jax.Array:
    """Compute chi-squared of every exposure: the sum over pixels of (ierr (data - model))^2.

    Value and gradient take one exponential per pixel and Gaussian between them: when this function is
    differentiated (in reverse mode), its forward pass already holds the gradient.

    Parameters
    ----------
    gaussians : Gaussians
        The model, arrays of shape (E, S, K, M).
    patch : Patch
        Pixels of E exposures.
    pairs : PairList
        Which Gaussians touch which tiles.
    response : {"variance", "quartic", "second_order"}
        The polynomial applied to the Gaussians that `pairs` lists as corrected.
    level : array (E, K), optional
        Coefficients of the sky of each exposure.
    basis : SkyBasis, optional
        Basis of which they are the coefficients.

    Returns
    -------
    array (E,)
        In float64; differentiable by the Gaussians and by `level`.
    """
    return _chi2(gaussians, level, patch, pairs, basis, response)


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def _chi2(gaussians, level, patch, pairs, basis, response):
    table = flat_table(gaussians)
    dtype = patch.data.dtype

    def one(tile, plain, corrected):
        centre = patch.centre(tile)
        image = tile_image(table[plain], centre, dtype, None)
        if corrected.size:
            image = image + tile_image(table[corrected], centre, dtype, response)
        if basis is not None:
            image = image + level[patch.exposure[tile]].astype(dtype) @ basis.on_tile(patch, tile)
        return _chi2_terms(image, patch, tile)[0]

    def step(total, tile, plain, corrected):
        return total.at[patch.exposure[tile]].add(jax.vmap(one)(tile, plain, corrected))

    n_exposure = gaussians.x.shape[0]
    start = _unpaired_chi2(patch, pairs, n_exposure, level, basis)
    return over_tiles(step, start, pairs, table.shape[0] - 1)


def _chi2_forward(gaussians, level, patch, pairs, basis, response):
    table = flat_table(gaussians)
    dtype = patch.data.dtype

    def one(tile, plain, corrected):
        centre = patch.centre(tile)
        image, pull_plain = _image_and_pullback(table[plain], centre, dtype, None)
        pull_corrected = None
        if corrected.size:
            more, pull_corrected = _image_and_pullback(table[corrected], centre, dtype, response)
            image = image + more
        if basis is not None:
            terms = basis.on_tile(patch, tile)
            image = image + level[patch.exposure[tile]].astype(dtype) @ terms
        value, weighted = _chi2_terms(image, patch, tile)
        by_corrected = None if pull_corrected is None else pull_corrected(-2 * weighted)
        by_level = None if basis is None else terms @ (-2 * weighted)
        return value, pull_plain(-2 * weighted), by_corrected, by_level

    def step(carry, tile, plain, corrected):
        total, gradient, by_level = carry
        value, by_plain, by_corrected, by_terms = jax.vmap(one)(tile, plain, corrected)
        total = total.at[patch.exposure[tile]].add(value)
        gradient = gradient.at[plain].add(by_plain)
        if by_corrected is not None:
            gradient = gradient.at[corrected].add(by_corrected)
        if by_terms is not None:
            by_level = by_level.at[patch.exposure[tile]].add(by_terms)
        return total, gradient, by_level

    n_exposure = gaussians.x.shape[0]
    outside, by_level = _unpaired_chi2(patch, pairs, n_exposure, level, basis), None
    if basis is not None:
        # exposures do not mix, so the derivative of the sum holds that of every one
        by_level = jax.grad(lambda c: jnp.sum(_unpaired_chi2(patch, pairs, n_exposure, c, basis)))(level)
    start = outside, jnp.zeros(table.shape), by_level
    total, gradient, by_level = over_tiles(step, start, pairs, table.shape[0] - 1)
    columns = gradient[:-1].reshape(*gaussians.x.shape, 6)
    by_gaussians = Gaussians(*(columns[..., i].astype(g.dtype) for i, g in enumerate(gaussians)))
    return total, (by_gaussians, by_level)


def _chi2_backward(response, gradient, cotangent):
    by_gaussians, by_level = gradient
    scaled = jax.tree.map(lambda g: g * cotangent[:, None, None, None].astype(g.dtype), by_gaussians)
    by_level = None if by_level is None else by_level * cotangent[:, None]
    return scaled, by_level, None, None, None


_chi2.defvjp(_chi2_forward, _chi2_backward)


def render(
    gaussians: Gaussians, patch: Patch, pairs: PairList, response: PixelResponse = "variance"
) -> jax.Array:
    """Render the model on every tile; differentiable in any mode.

    Parameters
    ----------
    gaussians, patch, pairs, response
        As for `chi2`.

    Returns
    -------
    array (T, TILE * TILE)
        Pixel values in the order of ``patch.data``; 0 on tiles that are in no list.
    """
    table = flat_table(gaussians)
    dtype = patch.data.dtype

    def one(row):
        tile, plain, corrected = pairs.row(row, pairs.longest, table.shape[0] - 1)
        centre = patch.centre(tile)
        image = tile_image(table[plain], centre, dtype, None)
        if corrected.size:
            image = image + tile_image(table[corrected], centre, dtype, response)
        return image

    rows = jnp.arange(pairs.tile.size)
    images = jax.lax.map(one, rows, batch_size=min(tiles_per_block(), rows.size))
    real = rows < pairs.level[-1]
    return jnp.zeros_like(patch.data).at[pairs.tile].add(jnp.where(real[:, None], images, 0))
