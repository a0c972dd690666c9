"""The recipe of a field's scenes: all that does not differ from patch to patch.

Settings make it, the folder of a run stores it (``config.json`` and ``psfs.h5``), and what comes after the fit
reopens it: a patch and its scene are the same before and after.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from numpyro.distributions import Distribution
from scipy.cluster.hierarchy import DisjointSet

from fphojax.core.culling import TOLERANCE
from fphojax.core.gaussians import ProfileTable
from fphojax.core.pixels import PixelResponse
from fphojax.errors import InputError
from fphojax.mixtures.sersic import load_sersic_table
from fphojax.system.notebook_html import Shown
from fphojax.system.wording import counted

from .astrometry import CircularRegion
from .bounds import Bounds
from .composites import galaxies_of
from .exposure_nuisance import Nuisance
from .exposures import Exposure, collect
from .fits_frames import reading_options
from .frame import PatchFrame, cut
from .noise_model import NoiseModel
from .prior_names import prior_named
from .psf_store import PSFStore
from .scene import Scene
from .source_catalog import SourceCatalog
from .sphere import Footprints
from .stores.stored_exposures import StoredExposure, open_stores

__all__ = ["Recipe", "exposures_of", "linked_rows", "noise_of", "sky_of"]


@dataclass(frozen=True, eq=False, repr=False)
class Recipe(Shown):
    """All that it takes to make the scene of a region, beside its sources.

    Attributes
    ----------
    exposures : tuple of Exposure or StoredExposure
        Of the whole field, less their sky levels, errors capped: as they are fitted.
    psfs : PSFStore
        A PSF mixture for each band, or for single exposures.
    bands : tuple of str
        In the order of the fluxes; by default those of the exposures.
    table : callable
        Profile table (see `load_sersic_table`); the shipped one by default.
    pixel_response : {"variance", "quartic", "second_order"}
        As for `Scene`, like the others.
    tolerance : float
    priors : mapping of str to numpyro Distribution
    ties : mapping of str to mapping of str to str
        For some parameters, ids of sources with the id of the source whose value they take.
    nuisance : Nuisance
    noise : NoiseModel or None
    """

    exposures: tuple[Exposure | StoredExposure, ...]
    psfs: PSFStore
    bands: tuple[str, ...] = ()
    table: ProfileTable = field(default_factory=load_sersic_table)
    pixel_response: PixelResponse = "quartic"
    tolerance: float = TOLERANCE
    priors: Mapping[str, Distribution] = field(default_factory=dict)
    ties: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    nuisance: Nuisance = field(default_factory=Nuisance)
    noise: NoiseModel | None = None

    def _facts(self):
        facts = {"": counted(len(self.exposures), "exposure"), "bands": ", ".join(self.bands)}
        for name in ("priors", "ties"):
            if getattr(self, name):
                facts[name] = "of " + ", ".join(getattr(self, name))
        return facts if self.nuisance == Nuisance() else facts | {"nuisance": self.nuisance}

    def __post_init__(self) -> None:
        bands = self.bands or dict.fromkeys(exposure.band for exposure in self.exposures)
        object.__setattr__(self, "exposures", tuple(self.exposures))
        object.__setattr__(self, "bands", tuple(bands))

    @classmethod
    def from_config(
        cls,
        config: Mapping,
        psfs: PSFStore,
        exposures: Sequence[Exposure | StoredExposure] | None = None,
    ) -> "Recipe":
        """Make the recipe that settings describe, or the ``config.json`` of a run.

        Parameters
        ----------
        config : mapping
            Plain values, with absolute paths.
        psfs : PSFStore
        exposures : sequence of Exposure or StoredExposure, optional
            As they were read; by default they are opened (`exposures_of`).

        Raises
        ------
        InputError
            A file of the inputs is not where it was, or it cannot be read.
        """
        exposures = exposures_of(config) if exposures is None else exposures
        sky = sky_of(config)
        exposures = [e.less(sky[e.band]) if e.band in sky else e for e in exposures]
        if config["max_snr"] > 0:
            exposures = [exposure.capped(config["max_snr"]) for exposure in exposures]
        return cls(
            tuple(exposures),
            psfs,
            bands=tuple(config["bandlist"]),
            table=load_sersic_table(config["splinedatafile"]),
            pixel_response=config["pixel_response"],
            tolerance=config.get("tolerance", TOLERANCE),
            priors={name: prior_named(**_named(arguments)) for name, arguments in config["priors"].items()},
            ties=config["ties"],
            nuisance=Nuisance(**config.get("nuisance", {})),
            noise=noise_of(config),
        )

    def cut(self, region: CircularRegion) -> PatchFrame:
        """Cut the pixels of a region; see `fphojax.cut`."""
        touching = self._footprints.touching(region.ra, region.dec, region.radius)
        return cut([self.exposures[i] for i in touching], region, bands=self.bands)

    def scene(
        self,
        region: CircularRegion,
        *,
        active: SourceCatalog,
        fixed: SourceCatalog | None = None,
        bounds: Bounds | None = None,
        listed: bool = True,
    ) -> Scene:
        """Make the scene of a region.

        Parameters
        ----------
        region : CircularRegion
        active, fixed, bounds, listed
            As for `Scene`.

        Returns
        -------
        Scene

        Raises
        ------
        InputError
            As for `Scene` and `fphojax.cut`; or a source is tied to one that is not in the scene.
        """
        return Scene(
            self.cut(region),
            self.psfs,
            active=active,
            fixed=fixed,
            bounds=bounds,
            priors=self.priors,
            tolerance=self.tolerance,
            ties=self._ties_by_row(active),
            nuisance=self.nuisance,
            noise=self.noise,
            listed=listed,
            table=self.table,
            pixel_response=self.pixel_response,
        )

    def together(self, catalog: SourceCatalog) -> list[list[int]]:
        """Return rows of sources that share parameters with each other; see `linked_rows`."""
        return linked_rows(catalog, self.ties)

    @cached_property
    def _footprints(self):
        return Footprints([exposure.footprint for exposure in self.exposures])

    def _ties_by_row(self, active):
        """Return the ties between sources of a scene, with rows in place of ids."""
        row = {str(identifier): i for i, identifier in enumerate(active.id)}
        ties = {}
        for name, pairs in self.ties.items():
            present = {source: other for source, other in pairs.items() if source in row}
            if lost := [other for other in present.values() if other not in row]:
                raise InputError(
                    f"ties: {name}: found id {lost[0]} outside the patch of its partner, expected tied sources "
                    "in one patch"
                )
            ties[name] = {row[source]: row[other] for source, other in present.items()}
        return ties


def linked_rows[Name: str](catalog: SourceCatalog, ties: Mapping[Name, Mapping[str, str]]) -> list[list[int]]:
    """Return rows of sources that share parameters with each other, directly or through others.

    Parameters
    ----------
    catalog : SourceCatalog
        Components of a source share their position (see `fphojax.inputs.composites`).
    ties : mapping of str to mapping of str to str
        By parameter, ids of sources with the id of the source whose value they take.
    """
    row, linked = {str(identifier): i for i, identifier in enumerate(catalog.id)}, DisjointSet()
    for pairs in ties.values():
        for pair in pairs.items():
            rows = [row[identifier] for identifier in pair]
            for member in rows:
                linked.add(member)
            linked.merge(*rows)
    for rows in galaxies_of(catalog).values():
        for member in rows:
            linked.add(member)
            linked.merge(rows[0], member)
    return [sorted(rows) for rows in linked.subsets()]


def exposures_of(config: Mapping) -> list[Exposure | StoredExposure]:
    """Open the exposures that settings or a ``config.json`` name, in the bands that are fitted.

    Raises
    ------
    InputError
        One of them cannot be read.
    """
    bands = config["bandlist"]
    if config["pixelstorefile"] is not None:
        return list(open_stores(config["pixelstorefile"], config["metastorefile"], bands=bands))
    exposures, problems = collect(config["fitsfiles"], **reading_options(config))
    if problems:
        raise InputError("; ".join(problems))
    return [exposure for exposure in exposures if exposure.band in bands]


def sky_of(config: Mapping) -> dict[str, float]:
    """Return the level to be subtracted from the images of each band; empty if none is."""
    return dict(config["tweakbg"]) if config["tweak_background"] == "tweakbg" else {}


def noise_of(config: Mapping) -> NoiseModel | None:
    """Return the noise that errors follow; None if they are those of the images.

    Raises
    ------
    InputError
        Its file cannot be read.
    """
    options: dict[str, Any] = {"scale": "auto", "correlation": "auto"} | dict(config.get("noise", {}))
    path = config.get("noise_file")
    if options == {"scale": "none", "correlation": "none"}:
        return None
    if path is not None:
        return NoiseModel.read(path, **options)
    return None if isinstance(options["scale"], str) else NoiseModel(**options)


def _named(prior):
    """Split a prior of the settings into its distribution and its arguments."""
    arguments = dict(prior)
    return {"distribution": arguments.pop("distribution"), "arguments": arguments}
