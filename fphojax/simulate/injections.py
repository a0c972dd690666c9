"""Artificial sources in the images of a run: where they are put, what they are, and how they look there."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from astropy.table import Table

from fphojax.core.backend import on_device
from fphojax.errors import InputError
from fphojax.inputs.astrometry import CircularRegion, sky_offsets, sky_position
from fphojax.inputs.bounds import default_bounds
from fphojax.inputs.frame import PatchFrame
from fphojax.inputs.profiles import apply_profiles, profiles_of
from fphojax.inputs.projection import optics_of, rendered, sources_of
from fphojax.inputs.psf_correction import correction_tiles
from fphojax.inputs.recipe import Recipe
from fphojax.inputs.scene import Scene
from fphojax.inputs.source_catalog import SourceCatalog

__all__ = ["PLACES", "Injection", "Injections", "Place"]

Place = Literal["empty", "random", "crowded"]
PLACES: tuple[Place, ...] = ("empty", "random", "crowded")
NAME = "injected"  # id of the artificial source
MOST_TRIES = 2000  # positions tried for one that suits
MOST_NEIGHBOURS = 5  # fitted with the artificial source
BESIDE = (1.0, 3.0)  # half-light radii (at least pixels) from a source, of a crowded place
START_ERROR = 0.2  # relative, of flux and size from which a free fit starts
START_PA, START_SHIFT = 20.0, 0.3  # degrees; pixels


@dataclass(frozen=True, eq=False)
class Injection:
    """An artificial source in the pixels around it.

    Attributes
    ----------
    number : int
    place : {"empty", "random", "crowded"}
    snr : float
        Signal-to-noise ratio of its flux for known shape and independent pixels, in the band where it is largest.
    truth : SourceCatalog
        One row.
    frame : PatchFrame
        Pixels with the source.
    neighbours, others : SourceCatalog
        Known sources inside the region, and others whose light reaches it.
    """

    number: int
    place: Place
    snr: float
    truth: SourceCatalog
    frame: PatchFrame
    neighbours: SourceCatalog
    others: SourceCatalog


class Injections:
    """Maker of artificial sources.

    Parameters
    ----------
    recipe : Recipe
        Of the images.
    catalog : SourceCatalog
        Known sources as they were fitted, which are part of every fit.
    models : SourceCatalog, optional
        Sources to draw from; by default those of `catalog`.
    places : sequence of {"empty", "random", "crowded"}
        In turn: outside the radii of influence of all known sources; anywhere; within a few half-light radii of a
        known source.
    snr : tuple of float
        Range of the signal-to-noise ratio, uniform in its logarithm; (0, 0) for sources without flux.
    stars : float
        Fraction of point sources.
    gain : mapping of str to float
        By band, electrons per unit of the images: Poisson noise of the source is added, and its variance to the
        errors. Without, the source adds none.
    bounds_kwargs : mapping
        Keywords of `default_bounds`.
    buffer : float
        Width around the radius of influence whose pixels are fitted, arcsec.
    seed : int
    """

    def __init__(
        self,
        recipe: Recipe,
        catalog: SourceCatalog,
        *,
        models: SourceCatalog | None = None,
        places: tuple[Place, ...] = ("empty",),
        snr: tuple[float, float] = (10.0, 50.0),
        stars: float = 0.0,
        gain: Mapping[str, float] | None = None,
        bounds_kwargs: Mapping | None = None,
        buffer: float = 0.0,
        seed: int = 0,
    ):
        models = catalog if models is None else models
        if not len(models):
            raise InputError("models: found no source, expected some to draw artificial ones from")
        if unknown := [place for place in places if place not in PLACES]:
            raise InputError(f"places: found {unknown[0]!r}, expected some of {', '.join(PLACES)}")
        if not (0 < snr[0] <= snr[1] or tuple(snr) == (0, 0)):
            raise InputError(f"snr is {list(snr)}, expected two positive numbers, or [0, 0] for no flux")
        self.recipe, self.catalog = recipe, catalog.select_bands(recipe.bands)
        self.models = models.select_bands(recipe.bands)
        self.places, self.snr, self.stars, self.seed = tuple(places), snr, stars, seed
        self.gain, self.buffer = dict(gain or {}), buffer
        self.finest = min(exposure.pixel_scale for exposure in recipe.exposures)
        self.bounds_kwargs: dict[str, Any] = {"pixscale": self.finest} | dict(bounds_kwargs or {})

    def injection(self, number: int) -> Injection:
        """Make an artificial source; the same number gives the same one.

        Raises
        ------
        InputError
            No position suits, such as an empty one in a crowded field.
        """
        rng = np.random.default_rng([self.seed, number])
        place = self.places[number % len(self.places)]
        model = self._model(rng)
        for _ in range(MOST_TRIES):
            ra, dec = self._position(place, rng)
            if place == "empty" and not self._is_empty(ra, dec, model.roi[0]):
                continue
            frame = self._frame(ra, dec, model.roi[0])
            if frame is not None:
                truth = model.replace(ra=np.array([ra]), dec=np.array([dec]))
                return self._injected(number, place, truth, frame, rng)
        raise InputError(
            f"artificial source {number}: none of {MOST_TRIES} positions suits as {place}, expected one with pixels "
            "in all bands"
        )

    def scene(self, injection: Injection, *, known: bool, listed: bool = False) -> Scene:
        """Make the scene of an artificial source and its neighbours.

        Parameters
        ----------
        injection : Injection
        known : bool
            Whether it starts from the truth, for a fit in which shapes are held, or from values that are off.
        listed : bool
            See `Scene`.
        """
        truth, recipe = injection.truth, self.recipe
        active = _joined(truth if known else self._start(injection), injection.neighbours)
        # sources without flux have the range of typical ones
        typical = np.median(np.abs(self.models.flux), axis=0)
        lit = active.replace(flux=np.where(active.flux == 0, typical, active.flux))
        bounds = default_bounds(lit, **self.bounds_kwargs)
        return Scene(
            injection.frame,
            recipe.psfs,
            active=bounds.clipped(active),
            fixed=injection.others,
            bounds=bounds,
            priors=recipe.priors,
            tolerance=recipe.tolerance,
            nuisance=recipe.nuisance,
            noise=recipe.noise,
            listed=listed,
            table=recipe.table,
            pixel_response=recipe.pixel_response,
        )

    def image(self, injection: Injection, exposure: int) -> np.ndarray:
        """Return the artificial source alone in the frame of an exposure, NaN outside its region."""
        return injection.frame.image(exposure, self._tiles(injection.truth, injection.frame))

    def _model(self, rng):
        """Draw a source from the models, with any position angle, and perhaps as a point."""
        row = int(rng.integers(len(self.models)))
        model = self.models[row : row + 1]
        point = rng.uniform() < self.stars
        profile = "point" if point else profiles_of(model)[0]
        return SourceCatalog.from_columns(
            ra=model.ra,
            dec=model.dec,
            flux=np.maximum(model.flux, 0),
            q=model.q,
            pa=rng.uniform(-90, 90),
            sersic=model.sersic,
            rhalf=np.maximum(model.rhalf, 0.1 * self.finest),
            roi=model.roi,
            bands=model.bands,
            id=[NAME],
            extra=Table({"profile": [profile]}),
        )

    def _position(self, place, rng):
        if place == "crowded":
            row = int(rng.integers(len(self.catalog)))
            reach = max(self.catalog.rhalf[row], self.finest) * rng.uniform(*BESIDE)
            angle = rng.uniform(0, 2 * np.pi)
            offset = reach * np.cos(angle), reach * np.sin(angle)
            ra, dec = sky_position(*offset, self.catalog.ra[row], self.catalog.dec[row])
            return float(ra), float(dec)
        exposure = self.recipe.exposures[int(rng.integers(len(self.recipe.exposures)))]
        ny, nx = exposure.shape
        pixel = rng.uniform(0, nx - 1), rng.uniform(0, ny - 1)
        ra, dec = exposure.wcs.pixel_to_world_values(*pixel)
        return float(ra), float(dec)

    def _is_empty(self, ra, dec, roi):
        catalog = self.catalog
        distance = np.hypot(*sky_offsets(catalog.ra, catalog.dec, ra, dec).T)
        return bool((distance > catalog.roi + 0.5 * roi).all())

    def _frame(self, ra, dec, roi):
        """Cut the pixels around a position; None unless each band has the pixel there."""
        try:
            frame = self.recipe.cut(CircularRegion(ra, dec, float(roi) + self.buffer))
            self.recipe.cut(CircularRegion(ra, dec, 0.6 * self.finest))
        except InputError:
            return None
        seen = {exposure.band for exposure in frame.exposures}
        return frame if seen == set(self.recipe.bands) else None

    def _injected(self, number, place, truth, frame, rng):
        """Scale a source to a signal-to-noise ratio, and add it to the pixels."""
        shape = self._tiles(truth, frame)
        ierr = np.asarray(frame.patch.ierr, dtype=float)
        of_exposure = np.array([self.recipe.bands.index(exposure.band) for exposure in frame.exposures])
        band = of_exposure[np.asarray(frame.patch.exposure)]
        signal = np.sum((shape * ierr) ** 2, axis=1)
        largest = np.sqrt(max(signal[band == b].sum() for b in range(len(self.recipe.bands))))
        snr = 0.0 if self.snr[1] == 0 else float(np.exp(rng.uniform(*np.log(self.snr))))
        if not largest > 0:
            raise InputError(f"a model has no flux in {', '.join(truth.bands)}, expected some to scale")
        scale = snr / largest
        truth, light = truth.replace(flux=truth.flux * scale), shape * scale
        data, ierr = np.asarray(frame.patch.data) + light, ierr.copy()
        for b, name in enumerate(self.recipe.bands):
            if name in self.gain:
                of_band = (band == b)[:, None] & (ierr > 0)
                variance = np.where(of_band, np.maximum(light, 0) / self.gain[name], 0.0)
                data = data + np.sqrt(variance) * rng.normal(size=data.shape)
                ierr = np.where(of_band, 1 / np.sqrt(1 / np.where(of_band, ierr, 1.0) ** 2 + variance), ierr)
        patch = dataclasses.replace(
            frame.patch,
            data=on_device(data, np.asarray(frame.patch.data).dtype),
            ierr=on_device(ierr, np.asarray(frame.patch.ierr).dtype),
        )
        near, others = self._around(frame.region, truth)
        return Injection(number, place, snr, truth, dataclasses.replace(frame, patch=patch), near, others)

    def _tiles(self, truth, frame):
        """Render a source through the images of the PSFs."""
        recipe = self.recipe
        drawn = apply_profiles(truth)
        tiles = rendered(drawn, frame, recipe.psfs, recipe.table, recipe.pixel_response)
        optics = optics_of(drawn, frame, recipe.psfs, recipe.pixel_response)
        images = correction_tiles(sources_of(drawn, frame), optics, frame, recipe.psfs, recipe.table)
        return np.asarray(tiles, dtype=float) + images

    def _around(self, region, truth):
        """Return the known sources in a region, the nearest ones, and the others that reach into it."""
        catalog = self.catalog
        distance = np.hypot(*sky_offsets(catalog.ra, catalog.dec, region.ra, region.dec).T)
        order = np.argsort(distance)
        inside = order[distance[order] < region.radius][:MOST_NEIGHBOURS]
        reaching = np.setdiff1d(np.flatnonzero(distance < region.radius + catalog.roi), inside)
        return tuple(_plain(catalog[rows]) for rows in (inside, reaching))

    def _start(self, injection):
        """Return start values that are off, as a first look at an image gives them."""
        truth = injection.truth
        rng = np.random.default_rng([self.seed, injection.number, 1])
        shift = START_SHIFT * self.finest * rng.normal(size=2)
        ra, dec = sky_position(*shift, truth.ra[0], truth.dec[0])
        noise = np.abs(truth.flux).max() or float(np.median(np.abs(self.models.flux)))
        return truth.replace(
            ra=np.array([float(ra)]),
            dec=np.array([float(dec)]),
            flux=truth.flux * np.exp(START_ERROR * rng.normal()) + 0.01 * noise,
            rhalf=truth.rhalf * np.exp(START_ERROR * rng.normal()),
            q=np.clip(truth.q + 0.1 * rng.normal(), 0.3, 0.95),
            pa=truth.pa + START_PA * rng.normal(),
            sersic=np.clip(truth.sersic + 0.5 * rng.normal(), 0.8, 4.0),
        )


def _plain(catalog):
    """Return sources without columns that a fit does not need; fluxes are free of their former errors."""
    extra = Table({"profile": profiles_of(catalog)}) if len(catalog) else Table()
    return catalog.replace(id=catalog.id.astype(str), flux_err=None, extra=extra, meta={})


def _joined(first: SourceCatalog, others: SourceCatalog) -> SourceCatalog:
    """Return the sources of two catalogues of the same bands."""
    if not len(others):
        return first
    names = ("ra", "dec", "flux", "q", "pa", "sersic", "rhalf", "roi")
    return first.replace(
        id=np.array([*first.id.tolist(), *others.id.tolist()]),
        extra=Table({"profile": profiles_of(first) + profiles_of(others)}),
        **{name: np.concatenate([getattr(first, name), getattr(others, name)]) for name in names},
    )
