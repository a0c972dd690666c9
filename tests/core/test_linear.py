"""Normal equations against dense matrices."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fphojax.core.gaussians import Gaussians
from fphojax.core.linear import normal_equations, of_normal_equations
from fphojax.core.pairs import all_pairs, listed_pairs
from fphojax.core.patch import TILE, Patch
from fphojax.core.pixels import chi2, render
from fphojax.core.segments import LENGTH, segments_of
from fphojax.core.sky import sky_basis

N_SOURCE = 3
compiled = eqx.filter_jit(render)


def mock_patch(dtype=np.float64):
    """Two exposures of 3 x 3 and 2 x 2 tiles with noise, and an empty tile at the end."""
    rng = np.random.default_rng(0)
    origin = np.array([(TILE * i, TILE * j) for n in (3, 2) for j in range(n) for i in range(n)])
    exposure = np.repeat([0, 1], [9, 4])
    data = rng.normal(size=(13, TILE * TILE))
    ierr = rng.uniform(0.5, 2.0, data.shape) * (rng.random(data.shape) > 0.1)
    pad = ((0, 1), (0, 0))
    return Patch(
        data=jnp.asarray(np.pad(np.where(ierr > 0, data, 0), pad), dtype),
        ierr=jnp.asarray(np.pad(ierr, pad), dtype),
        origin=jnp.asarray(np.pad(origin, pad), np.int32),
        exposure=jnp.asarray(np.pad(exposure, (0, 1), constant_values=1), np.int32),
        count=jnp.asarray(13, np.int32),
    )


def mock_gaussians():
    rng = np.random.default_rng(3)
    shape = (2, N_SOURCE, 2, 2)
    cxx, cyy = rng.uniform(0.5, 4, (2, *shape))
    cxy = rng.uniform(-0.5, 0.5, shape) * np.sqrt(cxx * cyy)
    det = cxx * cyy - cxy**2
    x, y = rng.uniform(2, 14, (2, *shape))
    numbers = (rng.uniform(0.5, 2, shape), x, y, cyy / det, -cxy / det, cxx / det)
    return Gaussians(*(jnp.asarray(number) for number in numbers))


def pairs_of(patch, gaussians, response):
    """Every Gaussian on every tile but the first of each exposure, which has none."""
    corrected = np.zeros((2, N_SOURCE), bool)
    corrected[:, 0] = response != "variance"
    index = np.arange(gaussians.x.size).reshape(2, -1)
    flat = np.repeat(corrected.ravel(), gaussians.x[0, 0].size).reshape(2, -1)
    tiles = np.array([t for t in range(13) if t not in (0, 9)])
    of = np.asarray(patch.exposure)[tiles]
    return listed_pairs(patch, tiles, [index[e][~flat[e]] for e in of], [index[e][flat[e]] for e in of])


def segments(patch, gaussians, pairs):
    return segments_of(pairs, patch.n_tile, gaussians.x.shape)


def only(gaussians, source):
    """The Gaussians of one source, those of the others with amplitude zero."""
    keep = (jnp.arange(N_SOURCE) == source)[None, :, None, None]
    return gaussians._replace(amplitude=jnp.where(keep, gaussians.amplitude, 0.0))


def dense(gaussians, patch, pairs, response, columns):
    """Templates (E, T * P, L) and the normal equations as plain numpy has them."""
    images = [np.asarray(compiled(only(gaussians, s), patch, pairs, response)) for s in range(N_SOURCE)]
    design = np.concatenate([np.stack(images, axis=-1), np.asarray(columns)], axis=-1)
    ierr, data = np.asarray(patch.ierr), np.asarray(patch.data)
    matrix, vector, data2 = [], [], []
    for e in (0, 1):
        mine = np.asarray(patch.exposure) == e
        weighted = (design[mine] * ierr[mine, :, None]).reshape(-1, design.shape[-1])
        chi = (data[mine] * ierr[mine]).ravel()
        matrix.append(weighted.T @ weighted)
        vector.append(weighted.T @ chi)
        data2.append(chi @ chi)
    return np.array(matrix), np.array(vector), np.array(data2)


@pytest.mark.parametrize(("response", "n_term"), [("variance", 0), ("quartic", 3), ("second_order", 1)])
def test_against_dense_matrices(response, n_term):
    patch, gaussians = mock_patch(), mock_gaussians()
    pairs = pairs_of(patch, gaussians, response)
    columns = sky_basis(patch, 2, 3).columns(patch)[..., :n_term]
    matrices = eqx.filter_jit(normal_equations)(
        gaussians, patch, segments(patch, gaussians, pairs), response, columns
    )
    for ours, theirs in zip(matrices, dense(gaussians, patch, pairs, response, columns), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10 * np.abs(theirs).max())


def test_chi2_of_any_fluxes():
    patch, gaussians = mock_patch(), mock_gaussians()
    pairs = all_pairs(patch, gaussians.amplitude)
    matrix, vector, data2 = eqx.filter_jit(normal_equations)(
        gaussians, patch, segments(patch, gaussians, pairs)
    )
    flux = np.array([0.3, -2.0, 1.7])
    scaled = gaussians._replace(amplitude=gaussians.amplitude * flux[:, None, None])
    ours = data2 - 2 * vector @ flux + np.einsum("i,eij,j->e", flux, matrix, flux)
    np.testing.assert_allclose(ours, chi2(scaled, patch, pairs), rtol=1e-10)


# the polynomial of a pixel response is held fixed in the gradient
@pytest.mark.parametrize(("response", "limit"), [("variance", 1e-8), ("quartic", 5e-3)])
def test_gradient_equals_plain_autodiff(response, limit):
    patch, gaussians = mock_patch(), mock_gaussians()
    pairs = pairs_of(patch, gaussians, response)
    parts = segments(patch, gaussians, pairs)
    columns = sky_basis(patch, 2, 3).columns(patch)
    rng = np.random.default_rng(5)
    size = N_SOURCE + 3
    by_matrix, by_vector = rng.normal(size=(2, size, size)), rng.normal(size=(2, size))

    def contracted(weights, matrix, vector, *_):
        return jnp.sum(weights[0] * matrix) + jnp.sum(weights[1] * vector)

    def of_equations(weights, equations):
        return contracted(weights, *equations)

    def ours(gaussians):
        weights = by_matrix, by_vector
        return of_normal_equations(of_equations, weights, gaussians, patch, parts, response, columns)

    def plain(gaussians):
        images = [render(only(gaussians, s), patch, pairs, response) for s in range(N_SOURCE)]
        design = jnp.concatenate([jnp.stack(images, axis=-1), columns], axis=-1) * patch.ierr[..., None]
        chi = patch.data * patch.ierr
        squares = jnp.einsum("tpi,tpj->tij", design, design), jnp.einsum("tpi,tp->ti", design, chi)
        sums = (jax.ops.segment_sum(s, patch.exposure, 2) for s in squares)
        return contracted((by_matrix, by_vector), *sums)

    value, gradient = eqx.filter_jit(jax.value_and_grad(ours))(gaussians)
    expected, expected_gradient = jax.jit(jax.value_and_grad(plain))(gaussians)
    np.testing.assert_allclose(value, expected, rtol=1e-10)
    for mine, theirs in zip(gradient, expected_gradient, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-8, atol=limit * np.abs(theirs).max())


def test_padding_changes_nothing():
    """Whichever of the sizes in a program holds the real tiles and segments, the numbers are the same."""
    patch, gaussians = mock_patch(), mock_gaussians()
    parts = segments(patch, gaussians, pairs_of(patch, gaussians, "quartic"))
    columns = sky_basis(patch, 2, 3).columns(patch)

    def padded(n_tile, n_segment):
        def longer(array, length):
            return jnp.pad(array, ((0, length - len(array)),) + ((0, 0),) * (array.ndim - 1))

        tiles = {
            name: longer(getattr(patch, name), n_tile) for name in ("data", "ierr", "origin", "exposure")
        }
        more = [
            part._replace(
                tile=jnp.full(n_segment, n_tile - 1).at[: part.n_real].set(part.tile[: part.n_real]),
                source=longer(part.source[: part.n_real], n_segment),
                members=jnp.full((n_segment, LENGTH), gaussians.x.size)
                .at[: part.n_real]
                .set(part.members[: part.n_real]),
            )
            for part in parts
        ]
        return dataclasses.replace(patch, **tiles), tuple(more), longer(columns, n_tile)

    @eqx.filter_jit
    def value_and_gradient(gaussians, patch, parts, columns):
        return jax.value_and_grad(
            lambda g: of_normal_equations(_length, (), g, patch, parts, "quartic", columns)
        )(gaussians)

    count = int(max(part.n_real for part in parts))
    results = [
        value_and_gradient(gaussians, *padded(n_tile, n_segment))
        for n_tile, n_segment in [(14, count), (20, 3 * count), (64, count), (64, 4 * count)]
    ]
    for other in results[1:]:
        for mine, theirs in zip(jax.tree.leaves(results[0]), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-11, atol=1e-11 * np.abs(mine).max())


def _length(_, equations):
    return sum(jnp.sum(part**2) for part in equations)


def test_float32_keeps_the_small_differences(capsys):
    """Chi-squared at the solution, for sources of a signal-to-noise of thousands."""
    patch, gaussians = mock_patch(), mock_gaussians()
    pairs = all_pairs(patch, gaussians.amplitude)
    bright = compiled(gaussians, patch, pairs) * 3000
    patch = eqx.tree_at(lambda p: p.data, patch, jnp.where(patch.ierr > 0, patch.data + bright, 0))

    def least(patch):
        matrix, vector, data2 = eqx.filter_jit(normal_equations)(
            gaussians, patch, segments(patch, gaussians, pairs)
        )
        return data2 - jnp.sum(vector * jnp.linalg.solve(matrix, vector[..., None])[..., 0], axis=-1)

    exact, single = np.asarray(least(patch)), np.asarray(least(patch.astype(np.float32)))
    data2 = np.asarray(jnp.sum((patch.data * patch.ierr) ** 2))
    with capsys.disabled():
        print(
            f"\nleast chi-squared {exact.round(2)} of data2 {data2:.1e}: "
            f"float32 errs by {abs(single - exact).max():.1e}"
        )
    np.testing.assert_allclose(single, exact, atol=0.1)
