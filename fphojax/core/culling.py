"""Choice of the Gaussians evaluated on each tile, accurate to a stated fraction of the noise.

Three savings, decided on the host from a box in which the sources' parameters lie:

* *culling*: a Gaussian whose largest possible value on a tile is negligible is left out there;
* *merging under a wide profile*: the narrowest Gaussians of the PSF, as many as are much narrower than the
  component of the profile that they blur, are replaced by one with the same flux, centre and covariance;
* *merging inside the PSF*: the narrowest components of the profile are replaced by one with the same flux and
  variance.

`project` makes the merged Gaussians beside the others; those that a tile lists are chosen here.  What the
savings may change in a pixel is bounded tile by tile, and kept below the tolerance in the sum over all Gaussians.
The error of replacing Gaussians by one with the same moments is bounded by the next term of the expansion in
moments: for N(V + p_m) of weights w_m, with p the weighted mean of the p_m, sum_m w_m (p_m - p)^2 / 2 times the
second derivative of N by the variance; docs/mathematics/rendering.md has the bounds.
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import numpy as np

from .backend import on_device
from .gaussians import Optics, ProfileTable
from .pairs import PairList, listed_pairs
from .patch import TILE, Patch, source_slots
from .programs import program

__all__ = ["TOLERANCE", "culled_pairs"]

TOLERANCE = 1e-4  # of the noise of a pixel
CULLED, WIDE, INNER = 0.4, 0.4, 0.2  # shares of the tolerance
NARROW = 1.2  # pixels; wider Gaussians need no polynomial of the quartic pixel response
CONVERGENT = 0.7  # the expansion in moments is trusted for |p_m - p| / (V + p) below this


def culled_pairs(
    patch: Patch,
    optics: Optics,
    table: ProfileTable,
    lower: dict,
    upper: dict,
    *,
    corrected: jax.Array | np.ndarray | None = None,
    only_narrow: bool = True,
    tolerance: float = TOLERANCE,
) -> tuple[Optics, PairList]:
    """Pair tiles with the Gaussians that matter there.

    Parameters
    ----------
    patch : Patch
        The tiles.
    optics : Optics
        How E exposures see S sources; the PSFs' Gaussians in the order of their size.
    table : callable
        Profile table; its components in the order of their width.
    lower, upper : dict of array
        Box of the sources' parameters, named and shaped as in `Sources`, finite.
    corrected : bool array (E, S), optional
        Which sources' Gaussians are multiplied by the polynomial of a pixel response.
    only_narrow : bool
        Leave the polynomial out for Gaussians wider than 1.2 pixels.
    tolerance : float
        Culling and merging may change no pixel of the model by more than this fraction of its noise; 0 switches
        them off. What `only_narrow` leaves out comes on top: up to 1e-3 of a source's peak.

    Returns
    -------
    optics : Optics
        The same with merged PSFs and profiles.
    pairs : PairList
    """
    # on the host: each number of tiles would have to be compiled anew
    centres, exposure = np.asarray(patch.origin) + (TILE - 1) / 2, np.asarray(patch.exposure)
    ierr = np.asarray(patch.ierr).max(axis=1)
    weighted = np.flatnonzero(ierr > 0)
    box = _Box.of(table, lower, upper)
    if corrected is None:
        corrected = np.zeros((optics.n_exposure, optics.n_source), dtype=bool)

    n_psf = optics.psf_amplitude.shape[-1]
    optics = _append_merged_psfs(optics)
    inner = np.zeros((optics.n_exposure, optics.n_source), dtype=np.int32)
    plain, polynomial = {}, {}
    for e in range(optics.n_exposure):
        tiles = weighted[exposure[weighted] == e]
        if not tiles.size:
            continue
        view = _View.of(optics, box, e, n_psf)
        distance = view.distances(centres[tiles])
        budget = tolerance / ierr[tiles]
        inner[e] = view.inner_merges(INNER * budget.min())
        listed = view.representation(distance, WIDE * budget, inner[e])
        listed &= view.not_negligible(distance, listed, CULLED * budget, inner[e])
        narrow = view.needs_polynomial(inner[e], only_narrow) & corrected[e][:, None, None]
        first = e * narrow.size
        for tile, row in zip(tiles, listed, strict=True):
            plain[tile] = first + np.flatnonzero(row & ~narrow)
            polynomial[tile] = first + np.flatnonzero(row & narrow)
    order = np.array(sorted(plain), dtype=int)
    pairs = listed_pairs(patch, order, [plain[t] for t in order], [polynomial[t] for t in order])
    return eqx.tree_at(lambda o: o.inner, optics, on_device(inner), is_leaf=lambda x: x is None), pairs


def _append_merged_psfs(optics):
    """Append to the M Gaussians of each PSF the first 2, 3, ... M of them merged."""
    amplitude = np.asarray(optics.psf_amplitude)
    mean, covariance = np.asarray(optics.psf_mean), np.asarray(optics.psf_covariance)
    merged = [
        _merge(amplitude[..., :j], mean[..., :j, :], covariance[..., :j, :])
        for j in range(2, amplitude.shape[-1] + 1)
    ]

    def appended(array, parts):
        return on_device(np.concatenate([array, *(part[:, :, None] for part in parts)], axis=2))

    parts = list(zip(*merged, strict=True)) or [(), (), ()]
    return eqx.tree_at(
        lambda o: (o.psf_amplitude, o.psf_mean, o.psf_covariance),
        optics,
        tuple(map(appended, (amplitude, mean, covariance), parts)),
    )


def _merge(amplitude, mean, covariance):
    """Merge Gaussians into one with their moments: amplitude (...), mean (..., 2), covariance (..., 3).

    Where no Gaussian has them, as some amplitudes are negative, the amplitude is zero.
    """
    total = amplitude.sum(axis=-1)
    weight = (amplitude / np.where(total != 0, total, 1)[..., None])[..., None]
    centre = (weight * mean).sum(axis=-2)
    d = mean - centre[..., None, :]
    spread = np.stack([d[..., 0] ** 2, d[..., 1] ** 2, d[..., 0] * d[..., 1]], axis=-1)
    xx, yy, xy = np.moveaxis((weight * (covariance + spread)).sum(axis=-2), -1, 0)
    possible = (total > 0) & (xx > 0) & (xx * yy > xy**2)
    merged = np.where(possible[..., None], np.stack([xx, yy, xy], axis=-1), [1.0, 1.0, 0.0])
    return np.where(possible, total, 0.0), np.where(possible[..., None], centre, 0.0), merged


@program
def _profiles(table, sersic, rhalf):
    """Evaluate amplitudes and variances (J, S, K) of profiles."""
    return table(sersic, rhalf)


@dataclass(frozen=True, eq=False)
class _Box:
    """Profiles and parameters at some points of the box: arrays whose first axis J counts the points."""

    amplitude: np.ndarray  # (J, S, K)
    variance: np.ndarray  # (J, S, K), arcsec^2
    flux: np.ndarray  # (S, B), largest absolute value
    offset: np.ndarray  # (S, 2), middle, arcsec
    half_width: np.ndarray  # (S, 2), arcsec
    q: np.ndarray  # (S,), smallest

    @classmethod
    def of(cls, table, lower, upper) -> "_Box":
        low, high = ({k: np.asarray(v, dtype=float) for k, v in side.items()} for side in (lower, upper))
        steps = np.array([0, 0.5, 1])[:, None]
        sersic = low["sersic"] + steps * (high["sersic"] - low["sersic"])
        rhalf = low["rhalf"] ** (1 - steps) * high["rhalf"] ** steps
        points = np.repeat(sersic, len(steps), axis=0), np.tile(rhalf, (len(steps), 1))
        n_source = sersic.shape[1]
        spare = source_slots(n_source) - n_source  # so that few programs are compiled
        padded = (np.pad(point, ((0, 0), (0, spare)), mode="edge") for point in points)
        amplitude, variance = (np.asarray(part)[:, :n_source] for part in _profiles(table, *padded))
        sides = [np.stack([side["x"], side["y"]], axis=-1) for side in (low, high)]
        return cls(
            amplitude=amplitude,
            variance=variance,
            flux=np.maximum(np.abs(low["flux"]), np.abs(high["flux"])),
            offset=(sides[0] + sides[1]) / 2,
            half_width=(sides[1] - sides[0]) / 2,
            q=low["q"],
        )


@dataclass(frozen=True, eq=False)
class _View:
    """The sources of the box as one exposure sees them; lengths in pixels.

    Profiles have K components and one merged, PSFs M Gaussians and M - 1 merged ones behind them.
    """

    flux: np.ndarray  # (S,)
    amplitude: np.ndarray  # (J, S, K)
    major: np.ndarray  # (J, S, K): largest variance along the major axis
    minor: np.ndarray  # smallest along the minor axis
    area: np.ndarray  # square root of the determinant of the profile's covariance
    centre: np.ndarray  # (S, 2)
    reach: np.ndarray  # (S, 2): how far the centre may be from there
    weight: np.ndarray  # (S, 2 M - 1): absolute amplitudes of the PSF
    mean: np.ndarray  # (S, 2 M - 1, 2)
    tensor: np.ndarray  # (S, 2 M - 1, 2, 2): covariances with the pixel's
    n_psf: int  # M

    @classmethod
    def of(cls, optics, box, e, n_psf) -> "_View":
        jac = np.asarray(optics.jacobian)[e]
        singular = np.linalg.svd(jac, compute_uv=False)  # (S, 2)
        middle = box.offset - np.asarray(optics.offset)
        tensor = np.asarray(optics.psf_covariance)[e][..., [0, 2, 2, 1]].reshape(
            *optics.psf_mean.shape[1:3], 2, 2
        )
        return cls(
            flux=box.flux[:, int(np.asarray(optics.band)[e])] * abs(float(np.asarray(optics.flux_scale)[e])),
            amplitude=box.amplitude,
            major=box.variance * (singular[:, 0] ** 2 / box.q)[:, None],
            minor=box.variance * (singular[:, 1] ** 2 * box.q)[:, None],
            area=box.variance * np.abs(np.linalg.det(jac))[:, None],
            centre=np.asarray(optics.pixel)[e] + np.einsum("sij,sj->si", jac, middle),
            reach=np.einsum("sij,sj->si", np.abs(jac), box.half_width),
            weight=np.abs(np.asarray(optics.psf_amplitude)[e]),
            mean=np.asarray(optics.psf_mean)[e],
            tensor=tensor + np.asarray(optics.pixel_variance)[e][:, None, None, None] * np.eye(2),
            n_psf=n_psf,
        )

    def distances(self, tiles):
        """Compute the least distance (T, S) from sources' centres to pixels of tiles with given centres."""
        gap = np.abs(tiles[:, None] - self.centre) - self.reach - (TILE - 1) / 2
        return np.hypot(*np.moveaxis(np.maximum(gap, 0), -1, 0))

    def with_inner(self, quantity, inner):
        """Append to a quantity per component its flux-weighted mean over merged ones: (J, S, K + 1)."""
        weight = np.where(np.arange(quantity.shape[-1]) < inner[:, None], np.abs(self.amplitude), 0)
        total = weight.sum(axis=-1)
        last = (weight * quantity).sum(axis=-1) / np.where(total > 0, total, 1)
        return np.concatenate([quantity, last[..., None]], axis=-1)

    def inner_merges(self, budget):
        """Find how many of the narrowest components of each profile (S,) can be merged; 0 for none."""
        n_source, n_profile = self.amplitude.shape[1:]
        n_merged = np.zeros(n_source, dtype=np.int32)
        size = np.sqrt(np.linalg.det(self.tensor[:, 0]))  # of the narrowest Gaussian of the PSF
        least = np.linalg.eigvalsh(self.tensor[:, 0])[:, 0]
        weight = self.weight[:, : self.n_psf].sum(axis=1)
        for j in range(2, n_profile + 1):
            part, variance = self.amplitude[..., :j], self.major[..., :j]
            flux = part.sum(axis=-1)
            mean = (part * variance).sum(axis=-1) / np.where(flux != 0, flux, 1)
            ratio = np.abs(variance - mean[..., None]) / (least[:, None] + mean[..., None])
            fourth = (np.abs(part) * ratio**2).sum(axis=-1)
            largest = ratio.max(axis=-1)
            error = (self.flux * weight / (2 * np.pi * size) * fourth / (1 - largest)).max(axis=0)
            allowed = (part > 0).all(axis=(0, 2)) & (largest.max(axis=0) < CONVERGENT)
            n_merged = np.where(allowed & (error < budget / n_source), j, n_merged)
        return n_merged

    def representation(self, tile_distance, budget, inner):
        """Choose the Gaussians (T, S, K + 1, 2 M - 1) that model each tile, merged as far as allowed."""
        n_tile, n_source = tile_distance.shape
        _, _, n_profile = self.amplitude.shape
        error = self._merging_errors(tile_distance)  # (T, S, K, levels)
        # spend the budget on the cheapest merges first, one level per component
        level = np.zeros((n_tile, n_source, n_profile), dtype=int)
        remaining = budget.copy()
        for depth in range(error.shape[-1] - 1, -1, -1):
            cost = np.where(level == 0, error[..., depth], np.inf).reshape(n_tile, -1)
            order = np.argsort(cost, axis=1)
            total = np.cumsum(np.take_along_axis(cost, order, axis=1), axis=1)
            accepted = np.zeros(cost.shape, dtype=bool)
            np.put_along_axis(accepted, order, total <= remaining[:, None], axis=1)
            remaining -= np.where(accepted, cost, 0).sum(axis=1)
            level[accepted.reshape(level.shape)] = depth + 2
        listed = np.zeros((n_tile, n_source, n_profile + 1, self.weight.shape[1]), dtype=bool)
        column = np.arange(self.n_psf)
        listed[:, :, :n_profile, : self.n_psf] = column >= level[..., None]
        for depth in range(error.shape[-1]):
            listed[:, :, :n_profile, self.n_psf + depth] = level == depth + 2
        merged = np.arange(n_profile) < inner[:, None]  # (S, K)
        listed[:, :, :n_profile] &= ~merged[:, :, None]
        listed[:, :, n_profile, : self.n_psf] = (inner > 0)[:, None]
        return listed & (self.weight > 0)[:, None]

    def _merging_errors(self, tile_distance):
        """Bound a pixel's change (T, S, K, M - 1) by merging the first 2, 3, ... M Gaussians of the PSF."""
        errors = []
        for j in range(2, self.n_psf + 1):
            weight = self.weight[:, :j]
            merged = self.n_psf + j - 2
            d = self.mean[:, :j] - self.mean[:, None, merged]  # (S, j, 2)
            spread = self.tensor[:, :j] + d[..., :, None] * d[..., None, :] - self.tensor[:, None, merged]
            norm = np.linalg.norm(spread, ord=2, axis=(-2, -1))  # (S, j)
            distance = np.linalg.norm(d, axis=-1)
            second = (weight * norm**2).sum(axis=1) / 2 * 8
            third = (weight * distance * (norm + distance**2)).sum(axis=1)
            least = np.linalg.eigvalsh(self.tensor[:, merged])[:, 0]
            most = np.linalg.eigvalsh(self.tensor[:, merged])[:, 1]
            width = self.minor + least[:, None]  # (J, S, K)
            ratio = norm.max(axis=1)[:, None] / width
            moments = second[:, None] / width**2 + third[:, None] / width**1.5
            peak = self.flux[:, None] * np.abs(self.amplitude) / (2 * np.pi * (self.area + least[:, None]))
            scaled = tile_distance[:, None, :, None] ** 2 / (2 * (self.major + most[:, None]))  # (T, J, S, K)
            # the derivatives of a Gaussian are a polynomial of degree 4 in the distance, which falls from 2 sigma on
            tail = np.where(scaled < 2, 1.0, (1 + scaled) ** 2 * np.exp(-scaled))
            size = peak * moments / np.maximum(1 - ratio, 1e-3) * np.minimum(tail, 1.0)
            allowed = (ratio < CONVERGENT).all(axis=0) & (self.weight[:, merged] > 0)[:, None]
            errors.append(np.where(allowed, size.max(axis=1), np.inf))
        shape = (*tile_distance.shape, self.amplitude.shape[-1])
        return np.stack(errors, axis=-1) if errors else np.zeros((*shape, 0))

    def not_negligible(self, tile_distance, listed, budget, inner):
        """Choose which of the listed Gaussians to keep; those left out add up to less than the budget."""
        offset = np.linalg.norm(self.mean, axis=-1)  # (S, 2 M - 1)
        distance = np.maximum(tile_distance[:, :, None] - offset, 0)  # (T, S, 2 M - 1)
        most = np.linalg.eigvalsh(self.tensor)[..., 1]
        size = np.sqrt(np.linalg.det(self.tensor))
        major, area = self.with_inner(self.major, inner), self.with_inner(self.area, inner)
        part = np.where(np.arange(self.amplitude.shape[-1]) < inner[:, None], self.amplitude, 0).sum(axis=-1)
        amplitude = np.abs(np.concatenate([self.amplitude, part[..., None]], axis=-1))
        largest = np.zeros(listed.shape)
        for j in range(len(amplitude)):
            peak = (self.flux[:, None] * amplitude[j])[..., None] * self.weight[:, None]
            peak = peak / (2 * np.pi * (area[j][..., None] + size[:, None]))
            width = major[j][..., None] + most[:, None]
            value = peak * np.exp(-(distance[:, :, None] ** 2) / (2 * width))
            np.maximum(largest, value, out=largest)
        cost = np.where(listed, largest, np.inf).reshape(len(tile_distance), -1)
        order = np.argsort(cost, axis=1)
        total = np.cumsum(np.take_along_axis(cost, order, axis=1), axis=1)
        dropped = np.zeros(cost.shape, dtype=bool)
        np.put_along_axis(dropped, order, total <= budget[:, None], axis=1)
        return ~dropped.reshape(listed.shape)

    def needs_polynomial(self, inner, only_narrow):
        """Return which Gaussians (S, K + 1, 2 M - 1) are so narrow that the response polynomial matters."""
        least = np.linalg.eigvalsh(self.tensor)[..., 0]
        width = self.with_inner(self.minor, inner).min(axis=0)[..., None] + least[:, None]
        return (width < NARROW**2) | (not only_narrow)
