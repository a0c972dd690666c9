"""The terms of the sky on every pixel against pixel positions."""

import jax.numpy as jnp
import numpy as np
import pytest

from fphojax.core.patch import TILE, Patch
from fphojax.core.sky import sky_basis

ORIGIN = np.array([(100, 40), (108, 40), (108, 48), (7, 9), (0, 0)])
EXPOSURE = np.array([0, 0, 0, 1, 1])


@pytest.fixture
def patch():
    """Three tiles of one exposure, one of another, of which few pixels are used; and an empty one."""
    ierr = np.ones((5, TILE * TILE))
    ierr[3:] = 0
    ierr[3, [0, 3, TILE]] = 1
    return Patch(
        data=jnp.zeros(ierr.shape),
        ierr=jnp.asarray(ierr),
        origin=jnp.asarray(ORIGIN),
        exposure=jnp.asarray(EXPOSURE),
        count=jnp.asarray(4),
    )


def positions():
    """Pixel (x, y) of every pixel of every tile."""
    row, column = np.mgrid[:TILE, :TILE].reshape(2, -1)
    return ORIGIN[:, :1] + column, ORIGIN[:, 1:] + row


def test_plane_runs_from_edge_to_edge_of_the_used_pixels(patch):
    basis = sky_basis(patch, 3, 3)
    np.testing.assert_allclose(basis.centre[:2], [[107.5, 47.5], [8.5, 9.5]])
    np.testing.assert_allclose(basis.half_width[:2], [[7.5, 7.5], [1.5, 0.5]])
    x, y = positions()
    terms = np.asarray(basis.columns(patch))
    assert terms.shape == (5, TILE * TILE, 3)
    np.testing.assert_allclose(terms[..., 0], 1)
    np.testing.assert_allclose(terms[:3, :, 1], (x[:3] - 107.5) / 7.5, rtol=1e-6)
    np.testing.assert_allclose(terms[:3, :, 2], (y[:3] - 47.5) / 7.5, rtol=1e-6)
    np.testing.assert_allclose(
        terms[3, :, 1:], np.stack([(x[3] - 8.5) / 1.5, (y[3] - 9.5) / 0.5], 1), rtol=1e-6
    )
    for term in (1, 2):
        used = terms[..., term][np.asarray(patch.ierr) > 0]
        np.testing.assert_allclose([used.min(), used.max()], [-1, 1], atol=1e-6)


def test_image_is_the_sum_of_the_terms(patch):
    x, y = positions()
    level = np.array([[2.0, 0.3, -0.4], [5.0, 1.0, 0.5], [9.0, 9.0, 9.0]])
    image = sky_basis(patch, 3, 3).image(jnp.asarray(level), patch)
    plane = 2 + 0.3 * (x - 107.5) / 7.5 - 0.4 * (y - 47.5) / 7.5
    np.testing.assert_allclose(image[:3], plane[:3], rtol=1e-5)
    constant = sky_basis(patch, 3, 1).image(jnp.asarray(level[:, :1]), patch)
    np.testing.assert_allclose(constant, np.repeat(level[EXPOSURE, :1], TILE * TILE, axis=1))


def test_precision_is_that_of_the_pixels(patch):
    assert sky_basis(patch, 2, 3).columns(patch.astype(np.float32)).dtype == np.float32
