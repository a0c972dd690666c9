"""Projection of sources on images, against independent formulas."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fphojax.core.gaussians import Optics, Sources, project


def optics(jacobian, *, psf=(1.0, 0.0, 0.0, 1.5, 1.5, 0.0), pixel_variance=0.0, flux_scale=1.0):
    """One exposure and one source, a PSF of one Gaussian (amplitude, mean, covariance)."""
    return Optics(
        band=jnp.zeros(1, np.int32),
        flux_scale=jnp.full(1, flux_scale),
        offset=jnp.asarray([[0.3, -0.2]]),
        pixel=jnp.asarray([[[50.0, 60.0]]]),
        jacobian=jnp.asarray(jacobian)[None, None],
        psf_amplitude=jnp.full((1, 1, 1), psf[0]),
        psf_mean=jnp.asarray(psf[1:3])[None, None, None],
        psf_covariance=jnp.asarray(psf[3:])[None, None, None],
        pixel_variance=jnp.full((1, 1), pixel_variance),
        pixel_free=jnp.full((1, 1), pixel_variance > 0),
    )


def source(**changes):
    values = {
        "flux": [[10.0]],
        "x": [0.3],
        "y": [-0.2],
        "q": [0.5],
        "pa": [0.4],
        "sersic": [1.0],
        "rhalf": [0.3],
    }
    return Sources(**{name: jnp.asarray(value) for name, value in (values | changes).items()})


def one_gaussian_profile(sersic, rhalf):
    return jnp.ones((*rhalf.shape, 1)), (rhalf**2)[..., None]


def moments(gaussians):
    """Flux, centre and covariance of a single Gaussian."""
    amplitude, x, y, fxx, fxy, fyy = (float(g[0, 0, 0, 0]) for g in gaussians)
    covariance = np.linalg.inv([[fxx, fxy], [fxy, fyy]])
    return amplitude * 2 * np.pi * np.sqrt(np.linalg.det(covariance)), np.array([x, y]), covariance


def test_position_angle_is_east_of_north():
    # pixels along (east, north), 10 per arcsec; the major axis towards the east of north by 30 degrees
    pa = np.deg2rad(30)
    gaussians = project(
        source(pa=[pa], q=[0.2]), optics(10 * np.eye(2), psf=(1, 0, 0, 0, 0, 0)), one_gaussian_profile
    )
    _, _, covariance = moments(gaussians)
    values, vectors = np.linalg.eigh(covariance)
    major = vectors[:, 1] * np.sign(vectors[1, 1])
    np.testing.assert_allclose(major, [np.sin(pa), np.cos(pa)], atol=1e-12)
    np.testing.assert_allclose(np.sqrt(values[0] / values[1]), 0.2, rtol=1e-12)
    # circularised: the area is that of a circle of the same half-light radius
    np.testing.assert_allclose(np.sqrt(np.linalg.det(covariance)), (10 * 0.3) ** 2, rtol=1e-12)


def test_position_moves_along_the_jacobian():
    jacobian = np.array([[-18.0, 4.0], [5.0, 17.0]])
    _, centre, _ = moments(project(source(x=[0.35], y=[-0.4]), optics(jacobian), one_gaussian_profile))
    np.testing.assert_allclose(centre, np.array([50, 60]) + jacobian @ [0.05, -0.2], rtol=1e-14)


def test_psf_offset_pixel_variance_and_photometric_factor():
    jacobian = np.array([[-18.0, 4.0], [5.0, 17.0]])
    plain = moments(project(source(), optics(jacobian, psf=(1, 0, 0, 0, 0, 0)), one_gaussian_profile))
    exposure = optics(jacobian, psf=(0.8, 0.5, -0.25, 2.0, 3.0, 0.4), pixel_variance=1 / 12, flux_scale=1.5)
    flux, centre, covariance = moments(project(source(), exposure, one_gaussian_profile))
    np.testing.assert_allclose(flux, 10 * 0.8 * 1.5, rtol=1e-12)
    np.testing.assert_allclose(centre - plain[1], [0.5, -0.25], rtol=1e-12)
    np.testing.assert_allclose(
        covariance - plain[2], np.array([[2.0, 0.4], [0.4, 3.0]]) + np.eye(2) / 12, rtol=1e-9
    )


@settings(max_examples=30, deadline=None)
@given(
    q=st.floats(0.1, 1.0),
    pa=st.floats(-4.0, 4.0),
    rhalf=st.floats(0.01, 3.0),
    angle=st.floats(0, 6.3),
    parity=st.sampled_from([-1.0, 1.0]),
)
def test_flux_is_kept_and_pa_turns_with_the_image(q, pa, rhalf, angle, parity):
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    jacobian = 20 * rotation @ np.diag([parity, 1.0])
    shape = source(q=[q], pa=[pa], rhalf=[rhalf])
    flux, _, covariance = moments(
        project(shape, optics(jacobian, psf=(1, 0, 0, 0, 0, 0)), one_gaussian_profile)
    )
    np.testing.assert_allclose(flux, 10, rtol=1e-9)
    axis = np.array([np.sin(pa), np.cos(pa)])
    minor_axis = np.array([np.cos(pa), -np.sin(pa)])
    sky = rhalf**2 * (np.outer(axis, axis) / q + np.outer(minor_axis, minor_axis) * q)
    expected = jacobian @ sky @ jacobian.T
    np.testing.assert_allclose(covariance, expected, rtol=1e-7, atol=1e-8 * np.abs(expected).max())
