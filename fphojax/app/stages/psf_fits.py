"""Fits of PSF images, one after another, into a store that receives each mixture as soon as there is one."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fphojax.app.settings.schema import Settings
from fphojax.errors import InputError
from fphojax.inputs.psf_store import PSFMixture, PSFStore, check_name
from fphojax.mixtures.psf_fit import PSFFit, fit_each
from fphojax.mixtures.psf_image import EffectivePSF, effective_psf
from fphojax.mixtures.psf_result import judge_mixture
from fphojax.system.progress import Progress

__all__ = [
    "FittedPSF",
    "PSFJob",
    "existing_psf",
    "fit_into",
    "fitted_psfs",
    "gaussian_options",
    "jobs_of",
    "offset_shown",
]


class PSFJob(NamedTuple):
    """A PSF image to be fitted, and where its mixture belongs.

    ``options`` are those of `fit_psf`: n_gauss, n_negative, oversample, includes_pixel, recentre, and target_l2 where
    n_gauss is None.
    """

    name: str
    image: np.ndarray
    band: str
    exposure: str | None
    location: tuple[float, float] | None
    options: dict

    @property
    def made_from(self) -> str:
        """Digest that identifies image and options."""
        image = np.ascontiguousarray(self.image, dtype="<f8")
        digest = hashlib.sha256(json.dumps([image.shape, self.options], sort_keys=True).encode())
        digest.update(image.tobytes())
        return digest.hexdigest()[:32]

    @property
    def label(self) -> str:
        """Description of what the mixture belongs to."""
        text = f"band {self.band}" + (f", exposure {self.exposure}" if self.exposure is not None else "")
        return text + (f" at {self.location}" if self.location is not None else "")

    def check(self) -> None:
        """Refuse an image that cannot be fitted, before any is fitted.

        Raises
        ------
        InputError
        """
        try:
            check_name(self.band, self.exposure)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from None
        options = {key: self.options[key] for key in ("oversample", "includes_pixel", "recentre")}
        effective_psf(self.image, name=self.name, **options)


class FittedPSF(NamedTuple):
    """A PSF image, its mixture, and whether a store had it already."""

    job: PSFJob
    fit: PSFFit
    reused: bool


def gaussian_options(n_gauss: int | None, residual: float) -> dict:
    """Return options of `fit_psf`: a number of Gaussians, or the relative L2 residual that decides on it."""
    return {"n_gauss": n_gauss} | ({"target_l2": residual} if n_gauss is None else {})


def jobs_of(exposures: Iterable, settings: Settings) -> list[PSFJob]:
    """List the PSF images that exposures carry, to be fitted as the settings say."""
    return [
        PSFJob(
            str(exposure.path or exposure.name),
            exposure.psf_image,
            exposure.band,
            exposure.name,
            None,
            gaussian_options(settings.n_gauss_psf, settings.psf_residual)
            | {
                "n_negative": 0,
                "oversample": 1.0,
                "includes_pixel": exposure.psf_includes_pixel,
                "recentre": settings.psf_centre == "recentre",
            },
        )
        for exposure in exposures
    ]


def offset_shown(fit: PSFFit | EffectivePSF) -> str:
    """Format the offset of a PSF's core from the centre of its image in pixels, and what was done about it."""
    x, y = (round(value, 3) + 0.0 for value in fit.offset)
    note = "" if not (x or y) else ", recentred" if fit.shift == fit.offset else ", as it is"
    return f"{x:+.3f} {y:+.3f}{note}"


def fitted_psfs(
    exposures: Iterable,
    settings: Settings,
    path: Path | None = None,
    *,
    progress: bool = False,
    **options: Any,
) -> tuple[PSFStore, list[FittedPSF]]:
    """Fit mixtures to the PSF images that exposures carry; the store holds no others.

    Parameters
    ----------
    exposures : iterable of Exposure
    settings : Settings
    path : Path, optional
        Store that receives each mixture when it is fitted.
    progress : bool
    **options
        Those of `fit_into`.

    Returns
    -------
    PSFStore
    list of FittedPSF
        In the order of the exposures.
    """
    fitted = fit_into(path, jobs_of(exposures, settings), progress=progress, **options)
    store = PSFStore()
    for job, fit, _ in fitted:
        store.add(PSFMixture.from_fit(fit, made_from=job.made_from), job.band, exposure=job.exposure)
    if path is not None:
        store.write(path, overwrite=True)
    return store, fitted


def fit_into(
    path: Path | None,
    jobs: Sequence[PSFJob],
    *,
    existing: Path | None = None,
    replace: bool = False,
    workers: int = 1,
    progress: bool = False,
    again: str = "the same command",
) -> list[FittedPSF]:
    """Fit PSF images, and write each mixture to a store when it is done.

    A mixture that the store has of the same image with the same options is kept as it is, so that a call that was
    interrupted can be resumed; one that another store has is taken over.

    Parameters
    ----------
    path : Path or None
        HDF5 file; made, or added to. None keeps nothing.
    jobs : sequence of PSFJob
    existing : Path, optional
        Another store, of which mixtures of the same images with the same options are taken; it need not exist.
    replace : bool
        Whether PSFs that the store has of other images, or fitted with other options, may be replaced.
    workers : int
        Processes.
    progress : bool
        Show a progress bar.
    again : str
        What resumes the fits after Ctrl-C, for the message.

    Returns
    -------
    list of FittedPSF
        In the order of the jobs.

    Raises
    ------
    InputError
        One line; nothing has been fitted or written then.
    KeyboardInterrupt
        After Ctrl-C: the message says how many are kept.
    """
    for job in jobs:
        job.check()
    _refuse_twice(jobs)
    fitted = {}
    if path is not None:
        if not path.parent.is_dir():
            raise InputError(f"{path.parent}: no such folder, expected one to write {path.name} to")
        try:
            path.exists()
        except OSError as error:  # a name that no file can have
            raise InputError(f"{path}: {error.strerror}, expected the name of a store") from None
        fitted = _reusable(path, jobs, replace)
    if existing is not None and existing.is_file() and existing != path:
        store = PSFStore.open(existing)
        for i in range(len(jobs)):
            if i not in fitted and (match := _same(store, jobs[i])) is not None:
                fitted[i] = match
                if path is not None:
                    _write(path, jobs[i], match.fit)
    waiting = [i for i in range(len(jobs)) if i not in fitted]
    bar = Progress[None](text="PSFs", units="images", total=len(jobs), initial=len(fitted), shown=progress)
    try:
        with bar:
            todo = [(jobs[i].image, {**jobs[i].options, "name": jobs[i].name}) for i in waiting]
            for k, fit in fit_each(todo, workers=workers):
                i = waiting[k]
                if path is not None:
                    _write(path, jobs[i], fit)
                fitted[i] = FittedPSF(jobs[i], fit, False)
                bar.update()
    except KeyboardInterrupt:
        where = f" and kept in {path}; {again} continues" if path is not None else ""
        raise KeyboardInterrupt(f"interrupted: {len(fitted)} of {len(jobs)} PSFs are fitted{where}") from None
    return [fitted[i] for i in range(len(jobs))]


def _refuse_twice(jobs):
    """Refuse two images with the same place in a store."""
    first = {}
    for job in jobs:
        key = job.band, job.exposure, job.location
        if key in first:
            raise InputError(
                f"{job.name}: found another PSF of {job.label}, expected one; the first is {first[key].name}"
            )
        first[key] = job


def _present(store, job):
    """Return the mixture that a store has at the place of a job; None if it has none."""
    if (job.band, job.exposure) not in store:
        return None
    mixtures = store.mixtures(job.band, job.exposure)
    if job.location is None:
        return mixtures[0]
    return next((m for m in mixtures if m.detector_location in (None, job.location)), None)


def _same(store, job):
    """Return a mixture that is kept, with its verdict; None if there is none."""
    mixture = existing_psf(store, job)
    if mixture is None:
        return None
    options = {key: job.options[key] for key in ("oversample", "recentre")}
    return FittedPSF(job, judge_mixture(job.image, mixture, name=job.name, **options), True)


def existing_psf(store: PSFStore, job: PSFJob) -> PSFMixture | None:
    """Return a store's mixture of the same image, fitted with the same options; None if it has none."""
    mixture = _present(store, job)
    if mixture is None or (mixture.made_from, mixture.detector_location) != (job.made_from, job.location):
        return None
    return mixture


def _reusable(path, jobs, replace):
    """Return what the store already has of these images, by the number of the job."""
    store = PSFStore.open(path) if path.exists() else PSFStore()
    reusable = {}
    for i, job in enumerate(jobs):
        mixture = _present(store, job)
        if mixture is None:
            _refuse_another_kind(path, store, job)
            continue
        match = _same(store, job)
        if match is not None:
            reusable[i] = match
        elif not replace:
            raise InputError(
                f"{path}: has a PSF for {job.label} already, not of {job.name} with these options, expected none or "
                "the same (or --overwrite)"
            )
    return reusable


def _refuse_another_kind(path, store, job):
    """Refuse a mixture that treats the pixel response unlike those at other positions of its band."""
    if (job.band, job.exposure) in store:
        includes_pixel = store.mixtures(job.band, job.exposure)[0].includes_pixel
        if includes_pixel != job.options["includes_pixel"]:
            has = "include" if includes_pixel else "do not include"
            raise InputError(
                f"{job.name}: found includes_pixel {job.options['includes_pixel']}, expected {includes_pixel}: the "
                f"PSFs of band {job.band} at other positions in {path} {has} the pixel response"
            )


def _write(path, job, fit):
    """Put a mixture into the store, beside those at other detector positions."""
    mixture = PSFMixture.from_fit(fit, detector_location=job.location, made_from=job.made_from)
    store, others = PSFStore(), []
    if job.location is not None and path.exists():
        present = PSFStore.open(path)
        if (job.band, job.exposure) in present:
            others = present.mixtures(job.band, job.exposure)
    others = [m for m in others if m.detector_location not in (None, job.location)]
    store.add([*others, mixture], job.band, exposure=job.exposure)
    store.add_to(path, overwrite=True)
