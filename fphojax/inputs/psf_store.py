"""The HDF5 store that keeps PSF mixtures by band, exposure and detector position."""

import pathlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import h5py
import numpy as np

from fphojax.errors import InputError
from fphojax.mixtures.psf_fit import fit_psf
from fphojax.mixtures.psf_result import PSFFit
from fphojax.system.file_checks import require_regular
from fphojax.system.notebook_html import Shown
from fphojax.system.wording import counted

from .psf_layout import DATASETS, repeated, replacing, residuals, table
from .psf_mixture import PSFMixture, as_mixture, blended, check_values
from .psf_reader import read_mixtures

if TYPE_CHECKING:
    from .exposures import Exposure
    from .stores.stored_exposures import StoredExposure

__all__ = ["PSFMixture", "PSFStore", "check_name"]


class PSFStore(Shown):
    """PSF mixtures by band, exposure and detector position.

    The file is HDF5, in an extension of forcepho's layout: dataset ``BAND/parameters`` (n_location, n_gauss)
    with the fields amp, xcen, ycen, Cxx, Cyy, Cxy [pixels]; dataset ``BAND/detector_locations``
    (n_location, 2); attribute ``includes_pixel`` of the group, false where it is absent; the PSF of a single
    exposure likewise in the group ``BAND/EXPOSURE``. A row with fewer Gaussians than its dataset is padded
    with amplitude zero. A dataset ``made_from`` says for each location what the mixture was fitted to,
    ``fit_errors`` (n_location, 2) how well: the relative L2 residual, and the relative error of a bright point
    source's flux; and ``residual`` (n_location, ny, nx) what the mixture leaves of the image, per pixel, with the
    source at the central one (an image of NaN where it is not known, zeros around smaller ones).

    ``PSFStore()`` is empty, `PSFStore.open` reads a file.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str | None], tuple[PSFMixture, ...]] = {}
        self._name = "the PSF store"

    @classmethod
    def open(cls, path: str | pathlib.Path) -> "PSFStore":
        """Read a store, ours or forcepho's, into memory.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        PSFStore

        Raises
        ------
        InputError
            For a file that is missing or not a PSF store, or one with impossible PSFs; the message names the group.
        """
        path = pathlib.Path(path)
        store = cls()
        store._name = str(path)
        require_regular(path, "a PSF store")
        try:
            with h5py.File(path, "r") as file:
                for band, exposure, mixtures in read_mixtures(file, str(path)):
                    group = f"/{band}" + (f"/{exposure}" if exposure is not None else "")
                    try:
                        store.add(mixtures, band, exposure)
                    except InputError as error:
                        raise InputError(f"{path}: {group}: {error}") from None
        except (OSError, RuntimeError, KeyError, AttributeError) as error:
            raise InputError(
                f"{path}: not an HDF5 file, expected a PSF store ({' '.join(str(error).split())})"
            ) from None
        if not store._entries:
            raise InputError(f"{path}: holds no PSF, expected a group BAND with a dataset `parameters`")
        return store

    @classmethod
    def of_exposures(cls, exposures: "Iterable[Exposure | StoredExposure]") -> "PSFStore":
        """Collect the PSFs that exposures have: their mixtures, else new ones fitted to their PSF images.

        Parameters
        ----------
        exposures : iterable of Exposure or StoredExposure

        Returns
        -------
        PSFStore
            With a PSF for each exposure. Equal images are fitted once.

        Raises
        ------
        InputError
            An exposure that has neither, or an image that cannot be a PSF.
        """
        store, fitted = cls(), {}
        for exposure in exposures:
            label = f"exposure {exposure.name!r} of band {exposure.band}"
            psf, image = exposure.psf, exposure.psf_image
            if psf is None:
                if image is None:
                    raise InputError(f"{label}: found no PSF, expected a mixture or an image of it")
                key = image.shape, image.tobytes(), exposure.psf_includes_pixel
                if key not in fitted:
                    fit = fit_psf(
                        image, includes_pixel=exposure.psf_includes_pixel, name=f"PSF image of {label}"
                    )
                    fitted[key] = PSFMixture.from_fit(fit)
                psf = fitted[key]
            store.add(psf, exposure.band, exposure.name)
        return store

    def _facts(self):
        own = sum(exposure is not None for _, exposure in self._entries)
        return {"": counted(sum(map(len, self._entries.values())), "PSF"), "bands": ", ".join(self.bands)} | (
            {"exposures": own} if own else {}
        )

    @property
    def bands(self) -> list[str]:
        """Bands of the store, sorted: list of str."""
        return sorted({band for band, _ in self._entries})

    def exposures(self, band: str) -> list[str]:
        """Return the exposures of a band that have PSFs of their own, sorted: list of str."""
        return sorted(exposure for b, exposure in self._entries if b == band and exposure is not None)

    def __contains__(self, key: tuple[str, str | None]) -> bool:
        """Return whether there is a PSF of (band, exposure); exposure None: of all exposures of the band."""
        return key in self._entries

    def mixtures(self, band: str, exposure: str | None = None) -> list[PSFMixture]:
        """Return all mixtures (one per detector position) of a band or an exposure: list of PSFMixture."""
        try:
            return list(self._entries[band, exposure])
        except KeyError:
            raise InputError(self._missing(band, exposure)) from None

    def varies(self, band: str, exposure: str | None = None) -> bool:
        """Return whether the PSF of a band or an exposure depends on the position on the detector."""
        own = self._entries.get((band, exposure))
        return len(own or self._entries.get((band, None), ())) > 1

    def add(
        self,
        mixtures: PSFMixture | PSFFit | Sequence[PSFMixture | PSFFit],
        band: str,
        exposure: str | None = None,
    ) -> None:
        """Add one mixture, or one for each of several detector positions, replacing those already there.

        Parameters
        ----------
        mixtures : PSFMixture or what `fit_psf` returns, or a sequence of them
        band : str
        exposure : str, optional
            Exposure whose own PSF this is; default: that of all exposures of the band.

        Raises
        ------
        InputError
            For several mixtures that lack positions or differ in whether they include the pixel, and for one whose
            numbers cannot be those of a PSF.
        """
        given = [mixtures] if isinstance(mixtures, PSFMixture | PSFFit) else list(mixtures)
        made = [as_mixture(psf) for psf in given]
        check_name(band, exposure)
        where = f"PSF of {band}" + (f", exposure {exposure}" if exposure is not None else "")
        if not made:
            raise InputError(f"{where}: no mixture was given, expected at least one")
        if len(made) > 1 and any(m.detector_location is None for m in made):
            raise InputError(
                f"{where}: one of {len(made)} mixtures has no detector location, expected all to have"
            )
        if len({m.includes_pixel for m in made}) > 1:
            raise InputError(
                f"{where}: some mixtures include the pixel response and some do not, expected one kind"
            )
        for mixture in made:
            place = mixture.detector_location
            try:
                check_values(mixture)
            except InputError as error:
                at = f" at {place}" if place is not None else ""
                raise InputError(f"{where}{at}: {error}") from None
        self._entries[band, exposure] = tuple(made)

    def in_exposure(
        self, exposure: "Exposure | StoredExposure", pixel: tuple[float, float] | None = None
    ) -> PSFMixture:
        """Look up the PSF at a pixel of an exposure.

        Parameters
        ----------
        exposure : Exposure or StoredExposure
            If it is a cutout, the PSF is that of the same place of the whole detector.
        pixel : (x, y), optional
            By default the middle of the exposure.

        Returns
        -------
        PSFMixture

        Raises
        ------
        InputError
            Where the store has no such PSF.
        """
        if pixel is None:
            ny, nx = exposure.shape
            pixel = (nx - 1) / 2, (ny - 1) / 2
        location = pixel[0] + exposure.origin[0], pixel[1] + exposure.origin[1]
        return self.lookup(exposure.band, exposure=exposure.name, location=location)

    def lookup(
        self,
        band: str,
        exposure: str | None = None,
        location: tuple[float, float] | None = None,
        *,
        interpolate: bool = False,
    ) -> PSFMixture:
        """Look up the PSF for a source.

        Parameters
        ----------
        band : str
        exposure : str, optional
            An exposure's own PSF goes before the band's.
        location : (x, y), optional
            Position on the detector [pixels]; needed where the PSF varies.
        interpolate : bool
            Whether to mix the PSFs at the nearest four detector positions, weighted bilinearly on a regular
            grid and by inverse square distance elsewhere, instead of taking the nearest.

        Returns
        -------
        PSFMixture

        Raises
        ------
        InputError
            Where the store has no such PSF, or a location is needed and not given.
        """
        key = (band, exposure) if (band, exposure) in self._entries else (band, None)
        if key not in self._entries:
            raise InputError(self._missing(band, exposure))
        mixtures = self._entries[key]
        if len(mixtures) == 1:
            return mixtures[0]
        if location is None:
            raise InputError(
                f"PSF of {band} in {self._name} varies over the detector ({len(mixtures)} positions), "
                "expected a location"
            )
        positions = np.array([m.detector_location for m in mixtures])
        if not interpolate:
            return mixtures[np.argmin(np.hypot(*(positions - location).T))]
        return blended(mixtures, location)

    def write(self, path: str | pathlib.Path, *, overwrite: bool = False) -> None:
        """Write the store to a file, atomically.

        Parameters
        ----------
        path : path-like
        overwrite : bool
            Whether a file of that name may be replaced.

        Raises
        ------
        InputError
            Where the file exists and may not be replaced.
        """
        with replacing(path, overwrite) as file:
            for (band, exposure), mixtures in self._entries.items():
                group = file.require_group(band)
                if exposure is not None:
                    group = group.require_group(exposure)
                group.attrs["includes_pixel"] = mixtures[0].includes_pixel
                if any(m.made_from for m in mixtures):
                    group["made_from"] = np.array([m.made_from.encode("ascii") for m in mixtures])
                errors = np.array([(m.relative_l2, m.point_flux_error) for m in mixtures])
                if np.isfinite(errors).any():
                    group["fit_errors"] = errors
                if (images := residuals(mixtures)) is not None:
                    group.create_dataset("residual", data=images, compression="gzip", shuffle=True)
                group["parameters"] = table(mixtures)
                _write_locations(group, mixtures)

    def add_to(self, path: str | pathlib.Path, *, overwrite: bool = False) -> None:
        """Add the PSFs of this store to a file, which is created where there is none.

        All other PSFs of the file stay as they are, even if the process dies: a new file takes the place
        of the old one in one step.

        Parameters
        ----------
        path : path-like
        overwrite : bool
            Whether PSFs that the file has may be replaced.

        Raises
        ------
        InputError
            Where the file has one of these PSFs and it may not be replaced.
        """
        path = pathlib.Path(path)
        merged = PSFStore.open(path) if path.exists() else PSFStore()
        for (band, exposure), mixtures in self._entries.items():
            if (band, exposure) in merged._entries and not overwrite:
                what = f"band {band}" + (f", exposure {exposure}" if exposure is not None else "")
                raise InputError(f"{path}: has a PSF for {what} already, expected none (or overwrite=True)")
            merged._entries[band, exposure] = mixtures
        merged.write(path, overwrite=True)

    def write_forcepho(self, path: str | pathlib.Path, n_radii: int, *, overwrite: bool = False) -> None:
        """Write the PSFs of the bands as forcepho reads them: repeated for each radius of its Sersic table.

        Parameters
        ----------
        path : path-like
        n_radii : int
            Number of radii of the Sersic table.
        overwrite : bool

        Raises
        ------
        InputError
            For PSFs that forcepho's layout cannot hold: those of single exposures, or such as include the
            pixel response, which forcepho would add a second time.
        """
        for (band, exposure), mixtures in self._entries.items():
            if exposure is not None:
                raise InputError(
                    f"PSF of {band}: exposure {exposure} has its own, expected none in forcepho's layout"
                )
            if mixtures[0].includes_pixel:
                raise InputError(
                    f"PSF of {band}: includes the pixel response, expected one without for forcepho"
                )
        with replacing(path, overwrite) as file:
            for (band, _), mixtures in self._entries.items():
                rows = repeated(table(mixtures), n_radii)
                group = file.create_group(band)
                group.attrs["n_psf_per_source"] = rows.shape[1]
                group["parameters"] = rows
                _write_locations(group, mixtures)

    def _missing(self, band, exposure):
        what = f"band {band}" + (f", exposure {exposure}" if exposure is not None else "")
        return f"no PSF for {what}; {self._name} has {', '.join(self.bands) or 'none'}"


def check_name(band: str, exposure: str | None = None) -> None:
    """Refuse a band or an exposure that cannot name a group of a store."""
    for key in (band, exposure):
        if key is not None and (not key or not key.isprintable() or "/" in key or key in (".", *DATASETS)):
            what = f"PSF of {band!r}" + (f", exposure {exposure!r}" if exposure is not None else "")
            raise InputError(f"{what}: {key!r} cannot name a group, expected a printable name without '/'")


def _write_locations(group, mixtures):
    if mixtures[0].detector_location is not None:
        group["detector_locations"] = np.array([m.detector_location for m in mixtures])
