"""Fits of Gaussian mixtures to PSF images, by deterministic least squares; see docs/mathematics/psf.md."""

import dataclasses
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from fphojax.errors import InputError
from fphojax.system.processes import process_pool

from .psf_image import effective_psf, windowed_moments
from .psf_result import PIXEL_VARIANCE, PSFFit, fit_with_verdict, plot_psf_fit
from .psf_search import search
from .psf_solver import Problem, covariance_of

__all__ = [
    "MAX_GAUSS",
    "MOST_GAUSS",
    "TARGET_L2",
    "PSFFit",
    "fit_each",
    "fit_psf",
    "fit_psfs",
    "plot_psf_fit",
]

logger = logging.getLogger(__name__)

# Largest number of Gaussians of a mixture: far more than any image can constrain, and the search takes long.
MOST_GAUSS = 64
# Relative L2 residual that a mixture is to reach where the number of its Gaussians is free, and the largest number
# then: beyond, PSFs of space telescopes gain little, and each Gaussian is rendered in every step of every fit.
TARGET_L2, MAX_GAUSS = 0.01, 8
# Smallest standard deviation [native pixels] of a component as it is sampled on the native grid.
_MIN_SIGMA = 0.4
# Largest offset of a Gaussian from the source, in half-light radii.
_MEAN_LIMIT = 3.0
# Number of radii at which the encircled energy is compared, and the weight of its errors relative to the L2 norm.
_N_RINGS, _RING_WEIGHT = 12, 2.0


# BLAS threads cost ten times what they save on matrices of a few columns, and make rounding irreproducible
@threadpool_limits.wrap(limits=1, user_api="blas")
def fit_psf(
    image: ArrayLike,
    *,
    n_gauss: int | None = None,
    n_negative: int = 0,
    oversample: float = 1,
    includes_pixel: bool = True,
    mask: ArrayLike | None = None,
    recentre: bool = False,
    centre: Literal["free", "fixed"] = "free",
    normalise: bool | float = True,
    background: bool = False,
    seed: int = 0,
    target_l2: float = TARGET_L2,
    name: str = "PSF image",
) -> PSFFit:
    """Fit a mixture of Gaussians to a PSF image.

    The effective PSF, which includes the integral over native pixels, is fitted. An image at the native scale is
    already effective, and ``includes_pixel`` says whether the mixture is to describe this image (True), or the PSF
    before integration over pixels (False). An oversampled image without the pixel response (``oversample`` > 1,
    ``includes_pixel=False``) is summed over native pixels at every sub-pixel position; the mixture then describes
    the PSF without the pixel. The source is at the central pixel of an odd-sized image if the core is within half a
    native pixel of it and ``recentre`` is False, else at the centroid of the core; ``offset`` and ``shift`` report
    it.

    Parameters
    ----------
    image : array (ny, nx)
        Flux in each pixel of the image.
    n_gauss : int or None
        Total number of Gaussians; None takes the smallest number that reaches ``target_l2``, or, if even `MAX_GAUSS`
        do not, the smallest whose residual exceeds theirs by less than a twentieth.
    n_negative : int
        How many of them have negative amplitudes.
    oversample : float
        Pixels of the image per native pixel and axis; a whole number if the pixel is not included.
    includes_pixel : bool
        Whether the mixture includes the response of the native pixel (and an oversampled image does).
    mask : array of bool (ny, nx), optional
        True where a pixel is not to be used.
    recentre : bool
        Take the centroid of the core as the position of the source, however the image is centred.
    centre : {"free", "fixed"}
        Whether each Gaussian has its own mean, or all are centred on the source.
    normalise : bool or float
        True: image and amplitudes sum to 1. A number: they sum to this, the encircled energy of the image.
        False: the image is not scaled, and the sum of the amplitudes is free. With a mask or a background,
        the sum is free in the fit and the mixture is scaled afterwards.
    background : bool
        Whether to fit a constant as well.
    seed : int
        Seed of the random starts that complement the regular ones.
    target_l2 : float
        Relative L2 residual to reach if the number of Gaussians is free.
    name : str
        Name of the image in messages.

    Returns
    -------
    PSFFit

    Raises
    ------
    InputError
        For an image that cannot be a PSF, or invalid options.

    Warns
    -----
    A poor verdict is logged as a warning.
    """
    start = time.process_time()
    total = _check_options(n_gauss, n_negative, target_l2, centre, normalise, name)
    if isinstance(image, np.ma.MaskedArray) and np.ma.is_masked(image):
        array_mask = np.ma.getmaskarray(image)
        mask = array_mask if mask is None else array_mask | np.asarray(mask, dtype=bool)
        image = image.filled(0)
    constrained = total is not None and mask is None and not background
    effective = effective_psf(
        image,
        oversample=oversample,
        includes_pixel=includes_pixel,
        mask=mask,
        total=1.0 if total is None else total,
        recentre=recentre,
        name=name,
    )
    if any(effective.shift):
        logger.info(
            "%s: source is (%+.3f, %+.3f) native pixels from the centre of the image", name, *effective.shift
        )
    response = 0.0 if includes_pixel else PIXEL_VARIANCE
    problem = _problem(effective, response, total if constrained else None, background, centre == "fixed")
    components = search(
        problem,
        _core_covariance(effective, response, problem.floor),
        n_gauss=n_gauss,
        n_negative=n_negative,
        target_l2=target_l2,
        max_gauss=MAX_GAUSS,
        seed=seed,
    )
    fit = _finish(components, problem, effective, total, constrained, includes_pixel, start)
    if fit.verdict.poor:
        logger.warning(
            "%s: poor PSF mixture of %d Gaussians: %s",
            name,
            len(fit.amplitudes),
            "; ".join(fit.verdict.complaints),
        )
    return fit


def fit_psfs(
    images: Sequence[ArrayLike], *, workers: int = 1, names: Sequence[str] | None = None, **options: Any
) -> list[PSFFit]:
    """Fit mixtures to many PSF images in parallel.

    Parameters
    ----------
    images : sequence of arrays
    workers : int
        Number of processes; 1 uses the present one. New processes import the calling script, which must
        guard its work with ``if __name__ == "__main__"``.
    names : sequence of str, optional
        Names of the images in messages.
    **options
        Those of `fit_psf`, the same for all images.

    Returns
    -------
    list of PSFFit
        In the order of the images.
    """
    images = list(images)
    names = [f"PSF image {i}" for i in range(len(images))] if names is None else list(names)
    jobs = [(image, options | {"name": name}) for image, name in zip(images, names, strict=True)]
    fits = dict(fit_each(jobs, workers=workers))
    return [fits[i] for i in range(len(jobs))]


def fit_each(
    jobs: Iterable[tuple[ArrayLike, dict[str, Any]]], *, workers: int = 1
) -> Iterator[tuple[int, PSFFit]]:
    """Fit mixtures to many PSF images, and yield each fit as soon as it is done.

    Parameters
    ----------
    jobs : sequence of (image, options)
        The options are those of `fit_psf`.
    workers : int
        See `fit_psfs`.

    Yields
    ------
    index : int
        Of the job.
    fit : PSFFit
    """
    if workers == 1:
        for i, (image, options) in enumerate(jobs):
            yield i, fit_psf(image, **options)
        return
    with process_pool(workers) as pool:
        index_of = {pool.submit(fit_psf, image, **options): i for i, (image, options) in enumerate(jobs)}
        for future in as_completed(index_of):
            yield index_of[future], future.result()


def _check_options(n_gauss, n_negative, target_l2, centre, normalise, name):
    """Check the options of a fit; return the sum of the amplitudes, None if it is free."""
    if n_gauss is not None and not 1 <= n_gauss <= MOST_GAUSS:
        raise InputError(f"{name}: n_gauss is {n_gauss}, expected 1 to {MOST_GAUSS}")
    most, words = (MAX_GAUSS, MAX_GAUSS - 1) if n_gauss is None else (n_gauss, "n_gauss - 1")
    if not 0 <= n_negative < most:
        raise InputError(f"{name}: n_negative is {n_negative}, expected 0 to {words}")
    if not 0 < target_l2 < 1:
        raise InputError(f"{name}: target_l2 is {target_l2}, expected a number in (0, 1)")
    if centre not in ("free", "fixed"):
        raise InputError(f'{name}: centre is {centre!r}, expected "free" or "fixed"')
    if normalise is False:
        return None
    total = float(normalise)
    if not 0 < total <= 1:
        raise InputError(f"{name}: normalise is {normalise!r}, expected True, False or a number in (0, 1]")
    return total


def _problem(effective, response, total, background, fixed_centre):
    """Set up the least-squares problem: pixels, weights and bounds."""
    x, y = np.meshgrid(effective.x, effective.y)
    good = effective.good
    x, y, data = x[good], y[good], effective.values[good]
    order = np.argsort(np.hypot(x, y), kind="stable")
    x, y, data = x[order], y[order], data[order]
    half_size = 0.5 * min(np.ptp(effective.x), np.ptp(effective.y))
    radii = np.geomspace(0.7 * effective.half_light_radius, np.hypot(x[-1], y[-1]) / np.sqrt(2), _N_RINGS)
    return Problem(
        x=x,
        y=y,
        data=data,
        weight=np.ones(data.size),
        rings=np.unique(np.append(0, np.searchsorted(np.hypot(x, y), radii))),
        ring_scale=_RING_WEIGHT * np.linalg.norm(data) / data.sum(),
        floor=max(_MIN_SIGMA**2 - response, 1e-3),
        response=response,
        total=total,
        background=background,
        fixed_centre=fixed_centre,
        # a Gaussian far from the core would fit a single feature of the wings
        mean_limit=min(_MEAN_LIMIT * effective.half_light_radius, half_size / 2),
        width_limit=half_size,
    )


def _core_covariance(effective, response, floor):
    """Return the covariance (3,) of the core, without the pixel response if the mixture excludes it."""
    _, core = windowed_moments(
        effective.values, effective.x, effective.y, effective.good, radius=effective.half_light_radius
    )
    values, vectors = np.linalg.eigh(core)
    core = vectors @ np.diag(np.maximum(values - response, 1.5 * floor)) @ vectors.T
    return np.array([core[0, 0], core[1, 1], core[0, 1]])


def _finish(components, problem, effective, total, constrained, includes_pixel, start):
    """Build the fit: scale the amplitudes, order the components by size, and judge the mixture."""
    amplitudes, background = components.amplitudes, components.background
    rescale = 1 / effective.scale if total is None else total / amplitudes.sum()
    used = amplitudes != 0
    covariances = covariance_of(components.theta[used], problem.floor)
    order = np.argsort(covariances[:, 0] * covariances[:, 1] - covariances[:, 2] ** 2)
    amplitudes = rescale * amplitudes[used][order]
    background = rescale * background
    means, covariances = components.theta[used][order, :2], covariances[order]
    factor = 1.0 if constrained else rescale
    effective = dataclasses.replace(
        effective, values=effective.values * factor, scale=effective.scale * factor
    )
    fit = fit_with_verdict((amplitudes, means, covariances), effective, includes_pixel, background=background)
    return dataclasses.replace(fit, seconds=time.process_time() - start)
