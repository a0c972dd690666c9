"""Which profile: the evidence for each of several models of a source, its neighbours as they are.

The evidence is the integral of likelihood times prior. Importance sampling, which draws the posterior, gives it as
the mean of its weights (docs/mathematics/inference.md). All candidates have the same prior where they have the same
parameters, so that a profile with more of them has to be worth it.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from astropy.table import Table

from fphojax.errors import InputError
from fphojax.inference.methods import Importance
from fphojax.inputs.astrometry import CircularRegion, sky_offsets
from fphojax.inputs.bounds import Bounds, default_bounds
from fphojax.inputs.composites import COMPOSITES, components_inside, split_composites
from fphojax.inputs.profiles import PROFILES
from fphojax.inputs.recipe import Recipe
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.table_text import formatted
from fphojax.system.processes import process_pool
from fphojax.system.progress import Progress

from .scene_fit import fit

__all__ = ["CANDIDATES", "choose_profiles", "chosen_catalog"]

logger = logging.getLogger(__name__)

CANDIDATES = ("point", "exponential", "devaucouleurs", "sersic", "bulge_disk")  # the simplest first
MARGIN = 1.0
START = {"exponential": 1.0, "devaucouleurs": 4.0}  # Sersic indices
FLUX_RANGE, FLUX_ERRORS, UNKNOWN = (
    (-0.1, 1.5),
    5.0,
    0.2,
)  # of the flux; errors beyond; error where there is none
LEAST_SIZE = 0.3  # finest pixels: of an extended start, however small the source was


def choose_profiles(
    recipe: Recipe,
    catalog: SourceCatalog,
    *,
    profiles: Sequence[str] = CANDIDATES,
    odds: Mapping[str, float] | None = None,
    margin: float = MARGIN,
    bounds_kwargs: Mapping | None = None,
    buffer: float = 0.0,
    rows: Sequence[int] | None = None,
    workers: int = 1,
    seed: int = 0,
    progress: bool = False,
) -> Table:
    """Compare profiles of sources by their evidence.

    Parameters
    ----------
    recipe : Recipe
        Of the images.
    catalog : SourceCatalog
        All sources as they were fitted; each is compared with the others subtracted.
    profiles : sequence of str
        Candidates, of `fphojax.inputs.profiles.PROFILES` and `fphojax.inputs.composites.COMPOSITES`: the simplest
        first.
    odds : mapping of str to float, optional
        Prior odds of the candidates; those that are not named have 1.
    margin : float
        The first candidate is chosen whose log evidence, with the odds, is not lower than the highest by more.
    bounds_kwargs : mapping, optional
        Keywords of `default_bounds`, within which the priors of positions and shapes are uniform. Fluxes, those of
        components too, are uniform from -0.1 to 1.5 times the fitted flux, and five errors beyond.
    buffer : float
        Width around the radius of influence whose pixels are used, arcsec.
    rows : sequence of int, optional
        Sources to compare; by default all.
    workers : int
        Processes. A script must ask for several below ``if __name__ == "__main__":``.
    seed : int
    progress : bool
        Show a progress bar.

    Returns
    -------
    Table
        id, profile (the chosen one), ``p_point`` (probability of a point, given that one of the candidates is right;
        NaN if it is none of them), ``dlnz_PROFILE`` (log evidence less that of the chosen profile, without the odds),
        and trusted: False where the weights of some candidate may not stand for its posterior.

    Raises
    ------
    InputError
        An unknown profile, fewer than two, or odds that are not positive.
    """
    known = {**PROFILES, **COMPOSITES}
    if unknown := [name for name in (*profiles, *(odds or {})) if name not in known]:
        raise InputError(f"profiles: found {unknown[0]!r}, expected some of {', '.join(known)}")
    if len(set(profiles)) < 2 or len(set(profiles)) < len(profiles):
        raise InputError(f"profiles: found {', '.join(profiles)}, expected two different ones or more")
    prior = {name: float((odds or {}).get(name, 1.0)) for name in profiles}
    if bad := [name for name, value in prior.items() if not 0 < value < np.inf]:
        raise InputError(f"odds of {bad[0]} are {prior[bad[0]]:g}, expected a positive number")
    catalog = catalog.select_bands(recipe.bands)
    pixscale = min(exposure.pixel_scale for exposure in recipe.exposures)
    task = _Task(
        recipe, catalog, tuple(profiles), {"pixscale": pixscale} | dict(bounds_kwargs or {}), buffer, seed
    )
    wanted = list(range(len(catalog)) if rows is None else rows)
    found = []
    shown: Progress = Progress(total=len(wanted), text="profiles", units="sources", shown=progress)
    with shown:
        if workers == 1:
            for row in wanted:
                found.append(task(row))
                shown.update()
        else:
            with process_pool(workers) as pool:
                for evidence in pool.map(task, wanted):
                    found.append(evidence)
                    shown.update()
    lines = [
        {"id": catalog.id[row]} | _judged(evidence, prior, margin) | {"trusted": trusted}
        for row, (evidence, trusted) in zip(wanted, found, strict=True)
    ]
    return formatted(Table(lines), {"p_point": ".3f"}, rest=".4g")


def chosen_catalog(catalog: SourceCatalog, chosen: Table) -> SourceCatalog:
    """Return a catalogue whose sources have the profiles that were chosen for them.

    Parameters
    ----------
    catalog : SourceCatalog
    chosen : Table
        Of `choose_profiles`. Its columns but the id replace, or are added to, those of the catalogue; sources that
        are not in it keep their profile.
    """
    extra, place = catalog.extra.copy(), {str(name): row for row, name in enumerate(catalog.id)}
    rows = [place[str(name)] for name in chosen["id"]]
    for name in chosen.colnames[1:]:
        values = np.asarray(chosen[name])
        if name == "profile":
            before = np.asarray(extra[name]).astype(object) if name in extra.colnames else "sersic"
            column = np.full(len(catalog), before, dtype=object)
        else:
            column = np.full(len(catalog), False if values.dtype == bool else np.nan, dtype=object)
        column[rows] = values
        extra[name] = column.astype(str if name == "profile" else values.dtype)
    return catalog.replace(extra=extra)


class _Task:
    """The comparison of one source."""

    def __init__(
        self,
        recipe: Recipe,
        catalog: SourceCatalog,
        profiles: tuple[str, ...],
        bounds_kwargs: dict,
        buffer: float,
        seed: int,
    ) -> None:
        self.recipe, self.catalog, self.profiles = recipe, catalog, profiles
        self.bounds_kwargs, self.buffer, self.seed = bounds_kwargs, buffer, seed

    def __call__(self, row: int) -> tuple[dict[str, float], bool]:
        """Return the log evidence of each profile, and whether all can be trusted."""
        catalog = self.catalog
        region = CircularRegion(catalog.ra[row], catalog.dec[row], float(catalog.roi[row]) + self.buffer)
        distance = np.hypot(*sky_offsets(catalog.ra, catalog.dec, region.ra, region.dec).T)
        near = distance < region.radius + catalog.roi
        near[row] = False
        fixed, evidence, trusted = catalog[np.flatnonzero(near)], {}, True
        for number, profile in enumerate(self.profiles):
            active = self._start(row, profile)
            bounds = self._bounds(active, row)
            scene = self.recipe.scene(
                region, active=components_inside(bounds.clipped(active), bounds), fixed=fixed, bounds=bounds
            )
            statistics = fit(scene, _method(), seed=self.seed + number).posterior["sample_stats"]
            evidence[profile] = float(np.asarray(statistics["log_evidence"])[0, 0])
            trusted &= bool(np.asarray(statistics["trusted"]).all())
        return evidence, trusted

    def _start(self, row, profile):
        """Return a source with a profile, split where it is composite."""
        source = self.catalog[row : row + 1]
        extra = Table({"profile": [profile]})
        least = LEAST_SIZE * self.bounds_kwargs["pixscale"]
        return split_composites(
            source.replace(
                id=source.id.astype(str),
                flux_err=None,
                sersic=np.array([START.get(profile, source.sersic[0])]),
                rhalf=np.maximum(source.rhalf, least),
                extra=extra,
                meta={},
            )
        )

    def _bounds(self, active, row):
        """Return bounds with fluxes that are the same for all profiles and components."""
        flux = np.abs(self.catalog.flux[row])
        known = self.catalog.flux_err
        error = UNKNOWN * flux.max() if known is None else known[row]
        error = np.where(np.isfinite(error), error, UNKNOWN * flux.max())
        bounds = default_bounds(active.replace(flux_err=np.ones_like(active.flux)), **self.bounds_kwargs)
        edges = (
            flux * factor + sign * FLUX_ERRORS * error
            for factor, sign in zip(FLUX_RANGE, (-1, 1), strict=True)
        )
        low, high = (np.broadcast_to(edge, active.flux.shape).copy() for edge in edges)
        return Bounds(bounds.lower | {"flux": low}, bounds.upper | {"flux": high}, active.bands)


@cache
def _method():
    return Importance(draws=125, chains=2)


def _judged(evidence, odds, margin):
    """Choose a profile, and give it a probability."""
    total = {name: value + np.log(odds[name]) for name, value in evidence.items()}
    highest = max(total.values())
    chosen = next(name for name, value in total.items() if value >= highest - margin)
    share = {name: np.exp(value - highest) for name, value in total.items()}
    judged = {"profile": chosen, "p_point": share.get("point", np.nan) / sum(share.values())}
    return judged | {f"dlnz_{name}": value - evidence[chosen] for name, value in evidence.items()}
