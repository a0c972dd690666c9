"""All sources of a field: their groups, the patches being fitted, and the results so far.

The loop over a field is

    with LinkedSuperScene(catalog, bands, statefile="scene.fits") as scene:
        while scene.undone:
            region, active, fixed = scene.checkout_region()
            bounds, covs = scene.bounds_and_covs(active["source_index"])
            ...                                   # build the patch, subtract `fixed`, fit `active`
            scene.checkin_region(final, fixed, n_iter, block_covs=covs)

Several patches may be out at a time. No source is active in two of them, and no active source of one is a fixed
source of another. Groups, and which circles overlap, follow from the positions in the first catalogue, from which
bounds let sources move only a little; so no search ever has to be repeated, and a check-out or check-in takes as
long in a field of 10^6 sources as in one of 10^3. docs/mathematics/fields.md has the rules.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from astropy import units as u
from numpy.typing import ArrayLike

from fphojax.errors import InputError, StorageError, at_most_ten
from fphojax.inputs.astrometry import CircularRegion
from fphojax.inputs.bounds import Bounds, default_bounds, wrap_pa
from fphojax.inputs.profiles import start_violations
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.inputs.sphere import CircleIndex, enclosing_circle, separation, unit_vectors
from fphojax.inputs.units import to_number, to_unit
from fphojax.results.patch_journal import CheckIn, CheckOut, PendingOutcome, PendingOutcomes, Release
from fphojax.results.scene_state import StateFiles
from fphojax.system.file_checks import decoding
from fphojax.system.notebook_html import Shown
from fphojax.system.wording import counted

from .bigscene import BigScene
from .columns import STATE, SceneColumns
from .grouping import LinkedGroups, NearGroups
from .outstanding import NumberedPatch, Outstanding
from .reservations import Reservations
from .seeds import SeedPool

__all__ = ["LinkedSuperScene", "PatchOut", "SuperScene"]


@dataclass(frozen=True, eq=False)
class PatchOut:
    """A numbered patch that is checked out.

    Attributes
    ----------
    number : int
    batch : int
        Number of the first of the patches that are fitted together with it.
    region : CircularRegion
    active, fixed : SourceCatalog
        As returned by `SuperScene.checkout_region`.
    outcome : dict or None
        Result of its fit, if that has ended: arguments of `SuperScene.checkin_region`.
    """

    number: int
    batch: int
    region: CircularRegion
    active: SourceCatalog
    fixed: SourceCatalog
    outcome: dict | None


class SuperScene(Shown):
    """All sources of a field, grouped by distance in half-light radii.

    A group is a seed and the sources within ``nscale (rhalf + rhalf_seed)`` of it, nearest first.

    Parameters
    ----------
    sourcecat : SourceCatalog
        Initial parameters of the sources; not modified.
    bands : sequence of str
        Bands to fit.
    statefile : path-like, optional
        ``<scene>.fits``; files beside it start with ``<scene>`` (see `results.scene_state`). Nothing is written
        before the first check-in. Without it, nothing is written at all.
    roi : array_like or Quantity, shape (N,), or float, optional
        Radii of influence instead of the catalogue's, arcsec.
    bounds_kwargs : dict, optional
        Keywords of `default_bounds`.
    target_niter : int
        Iterations after which a source is done.
    maxactive_per_patch : int
        Largest number of active sources of a patch.
    maxradius : float
        Largest radius of a patch, arcsec.
    strict : bool
        Whether to wait until all members of a group are free; otherwise those that are not are left out.
    buffer : float
        Added to the radius of a patch, arcsec.
    max_fixed : int, optional
        Largest number of fixed sources of a patch, those that reach into it farthest; all by default.
    nscale : float
        Size of a group, in half-light radii.
    bigscene : SourceCatalog, optional
        Sources never fitted but subtracted from each patch that they reach into, regardless of `max_fixed`. In the
        catalogue of fixed sources their ``source_index`` is -1.
    together : sequence of sequences of int
        Sources (rows) that are fitted in the same patch or not at all, such as those that share parameters.
    seed : int
        Of the order of check-outs.
    largest_first : bool
        Whether groups around sources with large radii of influence are checked out first, so that others are fitted
        when the light that reaches them is known; otherwise in random order.
    overwrite : bool
        Whether files of another run with that name are removed (at the first check-in).

    Attributes
    ----------
    bands : tuple of str
    n_iter, n_patch : ndarray of int, shape (N,)
        Iterations and patches of each source.
    flags : dict of int to str
        Why sources were given up, by row.
    patchlog : list of str
        An entry per check-in, JSON text: ``taskID``, ``n_iter``, ``sources``, ``flag`` and ``summary``.

    Raises
    ------
    InputError
        Parameters outside their bounds; options out of range; sources to be fitted together that do not fit into
        a patch; an existing state with that name, unless `overwrite`.
    """

    _strict = False

    def __init__(
        self,
        sourcecat: SourceCatalog,
        bands: Sequence[str],
        *,
        statefile: str | Path | None = None,
        roi: ArrayLike | None = None,
        bounds_kwargs: dict | None = None,
        target_niter: int = 500,
        maxactive_per_patch: int = 15,
        maxradius: float = 15.0,
        strict: bool | None = None,
        buffer: float = 0.0,
        max_fixed: int | None = None,
        nscale: float = 3.0,
        bigscene: SourceCatalog | None = None,
        together: Sequence[Sequence[int]] = (),
        seed: int = 0,
        largest_first: bool = False,
        overwrite: bool = False,
    ):
        catalog = sourcecat.select_bands(bands)
        if roi is not None:
            roi = np.broadcast_to(to_unit(roi, u.arcsec, "roi"), len(catalog)).copy()
            catalog = catalog.replace(roi=roi)
        bounds = default_bounds(catalog, **(bounds_kwargs or {}))
        catalog = catalog.replace(pa=wrap_pa(catalog.pa, bounds.lower["pa"], bounds.upper["pa"]))
        if problems := start_violations(catalog, bounds):
            raise InputError("\n".join(at_most_ten(problems, "bounds")))
        files = None if statefile is None else StateFiles(statefile)
        if files is not None and files.catalog.exists() and not overwrite:
            raise InputError(
                f"{files.catalog}: exists already; {type(self).__name__}.resume continues it, overwrite=True "
                "starts anew"
            )
        options = {
            "target_niter": target_niter,
            "maxactive_per_patch": maxactive_per_patch,
            "maxradius": to_number(maxradius, u.arcsec, "maxradius"),
            "strict": self._strict if strict is None else strict,
            "buffer": to_number(buffer, u.arcsec, "buffer"),
            "max_fixed": max_fixed,
            "nscale": nscale,
            "together": [sorted(map(int, rows)) for rows in together],
            "seed": seed,
            "largest_first": largest_first,
            "n_widened": 0,
        }
        self._prepare(
            SceneColumns(catalog, catalog.ra, catalog.dec, bounds.of_model()), files, bigscene, options
        )
        self._fill_pool()

    def _facts(self):
        return {
            "": f"{len(self) - self.n_undone - self.n_flagged} of {counted(len(self), 'source')} done",
            "bands": ", ".join(self.bands),
            "patches": len(self.patchlog),
            "given up": self.n_flagged,
        }

    @classmethod
    def resume(
        cls, statefile: str | Path, *, bigscene: SourceCatalog | None = None, **options: Any
    ) -> "SuperScene":
        """Continue from the state on disk, as if there had been no interruption.

        Patches that were out under a number still are (`out`), all others are free again.

        Parameters
        ----------
        statefile : path-like
        bigscene : SourceCatalog, optional
            As for the class; it is not part of the state.
        **options
            New values of ``target_niter``, ``maxactive_per_patch``, ``maxradius``, ``strict``, ``buffer``,
            ``max_fixed``, ``nscale``, ``seed`` or ``largest_first``.

        Returns
        -------
        SuperScene or LinkedSuperScene
            Whichever wrote the state.

        Raises
        ------
        InputError
            Files that are missing, damaged, or do not fit together.
        """
        files = StateFiles(statefile)
        files.remove_leftovers()
        catalog = SourceCatalog.read(statefile)
        absent = [name for name in STATE if name not in catalog.extra.colnames]
        if absent:
            raise InputError(
                f"{statefile}: no column {', '.join(absent)}, expected the state of a superscene"
            )
        ra, dec, rhalf, limits = files.read_bounds(catalog.bands)
        saved, entries = files.read_log()
        if len(ra) != len(catalog):
            raise InputError(f"{files.bounds}: {len(ra)} sources, expected {len(catalog)} as in {statefile}")
        kinds = {kind.__name__: kind for kind in (SuperScene, LinkedSuperScene)}
        with decoding(files.log, "the log of a superscene"):
            kind = kinds[saved.pop("kind")]
            for name, value in {"largest_first": False, "n_widened": 0}.items():  # earlier versions had none
                saved.setdefault(name, value)
        if unknown := set(options) - set(saved):
            raise InputError(f"options {', '.join(sorted(unknown))}, expected among {', '.join(saved)}")

        scene = kind.__new__(kind)
        with decoding(files.log, "the options of a superscene"):
            scene._prepare(
                SceneColumns(catalog, ra, dec, limits, rhalf),
                files,
                bigscene,
                saved | options,
            )
        scene._on_disk = True
        *covariances, values = files.read_covariances()
        with decoding(statefile, "the state of a superscene"):
            scene._columns.restore(catalog.extra, values)
        with decoding(files.covariances, "covariances of the sources"):
            scene._columns.put_covariances(*covariances)
        scene.patchlog = entries
        scene._restore_reasons()
        scene._replay()
        scene._fill_pool()
        return scene

    def __enter__(self) -> "SuperScene":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._files is None:
            return
        try:
            self.writeout()
        except StorageError:
            if not isinstance(error, StorageError):  # else it was reported; check-ins are in the journal
                raise

    def __len__(self) -> int:
        return len(self._columns)

    # ----------------------------------------------------------------------------------------------
    # Progress; the counts take no longer in a larger field

    @property
    def undone(self) -> bool:
        """Whether any source has yet to reach its target (sources given up do not count)."""
        return self.n_undone > 0

    @property
    def n_undone(self) -> int:
        """Number of sources below their target, without those given up."""
        return self._n_undone

    @property
    def n_active(self) -> int:
        """Number of sources that are being fitted."""
        return self._out.n_active

    @property
    def n_out(self) -> int:
        """Number of patches that are checked out."""
        return len(self._out)

    @property
    def n_flagged(self) -> int:
        """Number of sources given up."""
        return len(self.flags)

    @property
    def out(self) -> list[PatchOut]:
        """Numbered patches that are checked out, in the order of their check-out."""
        patches = []
        for patch in self._numbered.patches.values():
            region, centre = self._region(patch.active)
            active, fixed = self._catalogs(region, centre, patch.active, patch.fixed)
            patches.append(PatchOut(patch.number, patch.batch, region, active, fixed, self._arguments(patch)))
        return patches

    @property
    def filling(self) -> bool:
        """Whether no patch came back since the last of `out`: more may be fitted together with that one."""
        return self._numbered.filling

    @property
    def next_number(self) -> int:
        """Number for the next patch, larger than those of `out` and all integer ``taskID`` of the log."""
        numbers = [json.loads(entry)["taskID"] for entry in self.patchlog]
        numbers += [patch.number for patch in self._numbered.patches.values()]
        return 1 + max((number for number in numbers if isinstance(number, int)), default=-1)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Order of the rows and columns of covariances: bands (for fluxes), x, y, q, pa, sersic, rhalf."""
        return self._columns.parameters

    @property
    def has_covariance(self) -> np.ndarray:
        """Whether each source has been checked in with a covariance matrix; bool, shape (N,)."""
        return self._columns.has_covariance

    @property
    def is_active(self) -> np.ndarray:
        """Whether each source is being fitted; bool, shape (N,)."""
        return self._out.is_active

    @property
    def is_valid(self) -> np.ndarray:
        """Whether each source could be fitted: neither active nor fixed in a patch, nor given up."""
        return ~(self._out.is_active | self._out.is_fixed | self._columns.flagged)

    @property
    def catalog(self) -> SourceCatalog:
        """Copy of all sources with their present parameters, and their state in ``extra``."""
        return self._columns.catalog(self.is_active, self.is_valid)

    # ----------------------------------------------------------------------------------------------

    def checkout_region(
        self,
        seed_index: int = -1,
        *,
        ntry: int | None = None,
        number: int | None = None,
        batch: int | None = None,
    ) -> tuple[CircularRegion, SourceCatalog, SourceCatalog] | tuple[None, None, None]:
        """Check out a group of sources to be fitted.

        Parameters
        ----------
        seed_index : int
            Source (row) around which the group is formed; -1 draws one, preferring those with few iterations.
            A source given as seed is used even if it is done or flagged.
        ntry : int, optional
            Largest number of seeds to draw; by default until it is known that no group is free.
        number : int, optional
            Unique number of the patch. With a number it belongs to the state on disk, and is out again after an
            interruption (see `out`).
        batch : int, optional
            Number of the first patch of those that are fitted together with this one; itself by default.

        Returns
        -------
        region : CircularRegion
            Around the active sources' circles of influence, no larger than `maxradius`.
        active : SourceCatalog
            The seed first.
        fixed : SourceCatalog
            Other sources whose circles of influence reach into the region.
            All three are None if no group is free until a patch comes back.
        """
        if seed_index >= 0:
            if seed_index >= len(self):
                raise InputError(f"seed_index is {seed_index}, expected at most {len(self) - 1}")
            group = self._group(int(seed_index))
            return (None, None, None) if isinstance(group, int) else self._take_out(group, number, batch)
        tried = 0
        while len(self._pool) and tried != ntry:
            tried += 1
            seed = self._pool.draw()
            group = self._group(seed)
            if not isinstance(group, int):
                return self._take_out(group, number, batch)
            # the seed returns to the pool when the patch in its way comes back
            self._pool.discard(seed)
            self._numbered.wait(seed, group)
        return None, None, None

    def bounds_and_covs(self, source_index: ArrayLike) -> tuple[Bounds, np.ndarray]:
        """Return bounds and covariances of some sources.

        Parameters
        ----------
        source_index : array_like of int, shape (n,)

        Returns
        -------
        bounds : Bounds
            Those of x and y are offsets from the present position, but fixed on the sky.
        covs : ndarray, shape (n, n_band + 6, n_band + 6)
            In the order of `parameters`, in the units of the model (x and y: arcsec, pa: radians). NaN for a
            source that was never checked in with one.
        """
        rows = np.atleast_1d(source_index)
        return self._columns.bounds(rows), self._columns.covariances(rows)

    def checkin_region(
        self,
        final: SourceCatalog,
        fixed: SourceCatalog | None,
        n_iter: int,
        *,
        block_covs: ArrayLike | None = None,
        taskID: int | str | None = None,
        flag: str | None = None,
        summary: dict | None = None,
    ) -> None:
        """Check in a group, with new parameters.

        When this returns, the result is on disk, if there is a state file.

        Parameters
        ----------
        final : SourceCatalog
            The active sources with their new parameters.
        fixed : SourceCatalog, optional
            As it was checked out.
        n_iter : int
            Iterations made.
        block_covs : array_like, shape (n, n_band + 6, n_band + 6), optional
            Covariance matrix of each source, as in `bounds_and_covs`; without them, the present ones are kept.
        taskID : int or str, optional
            For the log.
        flag : str, optional
            Why the fit failed. The sources keep their parameters and are not tried again.
        summary : dict, optional
            Further information for the log; must be serialisable as JSON.

        Raises
        ------
        InputError
            Sources that are not out together, wrong shapes, invalid covariances; the patch stays out.
        """
        if n_iter < 0:
            raise InputError(f"n_iter is {n_iter}, expected 0 or more")
        columns = self._columns
        rows = np.asarray(final["source_index"])
        number = self._out.number_of(rows, _indices(fixed))
        values = columns.values[rows] if flag is not None else columns.values_of(final)
        triangles = None if block_covs is None else columns.triangles_of(block_covs, len(rows))
        patch = self._numbered.patches.get(number)
        if patch is not None and patch.outcome is not None and flag is None:  # exactly the same
            values, triangles = patch.outcome.values, patch.outcome.covariances
        counts = np.stack([columns.n_iter[rows] + int(n_iter), columns.n_patch[rows] + 1], axis=1)
        sources = rows.tolist()
        entry = {"taskID": taskID, "n_iter": int(n_iter), "sources": sources}
        if flag is not None:
            entry["flag"] = flag
        if summary:
            entry["summary"] = summary
        text = json.dumps(entry)
        self._note(CheckIn(len(self.patchlog), text, counts, values, triangles, self._numbered.waits))
        self._numbered.waits = []
        before = self._count_undone(rows)
        columns.put(rows, counts, values, triangles)
        columns.set_flag(rows, flag)
        self.patchlog.append(text)
        self._n_undone += self._count_undone(rows) - before
        self._bring_back(number, fitted=True)

    def release_region(self, active: SourceCatalog, fixed: SourceCatalog | None) -> None:
        """Release a group, as if it had never been checked out."""
        place = self._out.number_of(np.asarray(active["source_index"]), _indices(fixed))
        if (patch := self._numbered.patches.get(place)) is not None:
            self._note(Release(patch.number))
        self._bring_back(place, fitted=False)

    def keep_outcomes(self, outcomes: dict[int, dict]) -> None:
        """Store on disk the results of fits of patches of `out` that are to be checked in later.

        Parameters
        ----------
        outcomes : dict of int to dict
            By number, arguments of `checkin_region`: ``final``, ``n_iter``, ``block_covs``, ``flag``, ``summary``. Of
            patches that are fitted together, all are on disk when this returns, or none is.

        Raises
        ------
        InputError
            As `checkin_region`.
        """
        pending = []
        for number, outcome in outcomes.items():
            values = triangles = None
            if outcome.get("flag") is None:
                values = self._columns.values_of(outcome["final"])
                if outcome.get("block_covs") is not None:
                    triangles = self._columns.triangles_of(outcome["block_covs"], len(values))
            more = {name: outcome.get(name) for name in ("flag", "summary")}
            pending.append(
                PendingOutcome(number, outcome["n_iter"], **more, values=values, covariances=triangles)
            )
        self._note(PendingOutcomes(pending))
        self._numbered.keep(pending)

    def retry_flagged(self) -> int:
        """Let the sources that were given up be tried again; return their number."""
        rows = np.array(sorted(self.flags), dtype=int)
        if len(rows):
            self._columns.set_flag(rows, None)
            self._n_undone += self._count_undone(rows)
            self._offer(rows)
            if self._files is not None:
                self.writeout()
        return len(rows)

    def widen(self, roi: ArrayLike) -> int:
        """Enlarge radii of influence of sources, and let those sources be fitted again.

        The option ``n_widened`` counts how often. Groups are formed again. Sources that are to be fitted together,
        and those given up, are left unchanged.

        Parameters
        ----------
        roi : array_like, shape (N,)
            Arcsec; ignored where it is no larger than the present radius.

        Returns
        -------
        int
            Number of sources whose radius was enlarged.

        Raises
        ------
        InputError
            A patch is out.
        """
        if self.n_out:
            raise InputError(f"{self.n_out} patches are out, expected none while radii of influence change")
        columns = self._columns
        larger = (np.asarray(roi) > columns.roi) & ~columns.flagged
        larger[list(self._partners)] = False
        if larger.any():
            if self._files is not None:
                self.writeout()  # empties the journal, so that no check-in is replayed over what follows
            self.options["n_widened"] += 1
            columns.roi = np.where(larger, roi, columns.roi)
            self.n_iter[larger] = 0
            self._index = CircleIndex(self._vectors, columns.roi)
            self._groups = self._make_groups()
            self._fill_pool()
            if self._files is not None:
                self.writeout()
        return int(np.count_nonzero(larger))

    def writeout(self) -> None:
        """Write the whole state; takes time in proportion to the number of sources.

        Check-ins are on disk before that. This keeps the journal short, and the catalogue on disk up to date.

        Raises
        ------
        InputError
            If there is no state file.
        """
        if self._files is None:
            raise InputError("no statefile was given to the superscene, expected a path to write to")
        if not self._on_disk:
            self._write_first()
        else:
            self._write_state()

    # ----------------------------------------------------------------------------------------------

    def _prepare(self, columns, files, bigscene, options):
        """Set up everything but the state of the sources."""
        for name in ("target_niter", "maxactive_per_patch", "maxradius", "nscale"):
            if not options[name] > 0:
                raise InputError(f"{name} is {options[name]}, expected a positive number")
        for name in ("buffer", "max_fixed", "seed"):
            if options[name] is not None and not options[name] >= 0:
                raise InputError(f"{name} is {options[name]}, expected 0 or more")
        self.options = options
        self.bands, self.flags = columns.bands, columns.flags
        self.n_iter, self.n_patch = columns.n_iter, columns.n_patch
        self.patchlog: list[str] = []
        self._columns, self._files, self._on_disk = columns, files, False
        self._vectors = unit_vectors(columns.start_ra, columns.start_dec)
        self._index = CircleIndex(self._vectors, columns.roi)
        self._groups = self._make_groups()
        self._big = BigScene(bigscene.select_bands(self.bands)) if bigscene is not None else None
        self._nobody = columns.take(np.empty(0, dtype=int))
        self._partners = self._find_partners()
        self._out = Reservations(len(columns))
        self._numbered = Outstanding(self._out)
        self._marked = np.zeros(len(columns), dtype=bool)  # only within a search

    def _make_groups(self):
        options = self.options
        return NearGroups(
            self._vectors,
            self._columns.roi,
            self._columns.start_rhalf,
            nscale=options["nscale"],
            maxactive=options["maxactive_per_patch"],
            maxradius=options["maxradius"],
        )

    def _find_partners(self):
        """Map each source that must be fitted with others to all of these, itself included."""
        options, partners = self.options, {}
        for rows in map(np.array, options["together"]):
            names = ", ".join(map(str, self._columns.id[rows].tolist()))
            radius = enclosing_circle(self._vectors[rows], self._columns.roi[rows])[1]
            if len(rows) > options["maxactive_per_patch"] or radius > options["maxradius"]:
                raise InputError(
                    f"sources {names}: {len(rows)} that reach {radius:.1f} arcsec are to be fitted together, "
                    f"expected at most {options['maxactive_per_patch']} within {options['maxradius']:g} arcsec"
                )
            if shared := partners.keys() & set(rows.tolist()):
                raise InputError(f"sources {names}: row {min(shared)} is in another list of together as well")
            partners |= dict.fromkeys(rows.tolist(), rows)
        return partners

    def _with_partners(self, active):
        """Add all partners of the seed to a group, and drop sources whose partners are missing."""
        if not any(row in self._partners for row in active.tolist()):
            return active
        first = self._partners.get(int(active[0]), active[:1])
        active = np.concatenate([active[:1], first[first != active[0]], active[~np.isin(active, first)]])
        present = set(active[: self.options["maxactive_per_patch"]].tolist())
        whole = [row for row in active.tolist() if present.issuperset(self._partners.get(row, (row,)))]
        return np.array(whole)

    def _fill_pool(self):
        """Fill the pool of seeds with the sources in their present state, and count those undone."""
        target, flagged = self.options["target_niter"], self._columns.flagged
        self._n_undone = self._count_undone(np.arange(len(self)))
        order = -self._columns.roi if self.options["largest_first"] else None
        self._pool = SeedPool(np.where(flagged, target, self.n_iter), target, self.options["seed"], order)
        for place, patch in self._numbered.patches.items():
            for row in (*patch.active.tolist(), *patch.fixed.tolist(), *self._out.waiting(place)):
                self._pool.discard(row)

    def _count_undone(self, rows):
        undone = (self.n_iter[rows] < self.options["target_niter"]) & ~self._columns.flagged[rows]
        return int(np.count_nonzero(undone))

    def _excluded(self, rows):
        """Return which sources cannot be members of a group."""
        flagged = self._columns.flagged[rows]
        return flagged if self.options["strict"] else flagged | self._out.is_reserved(rows)

    def _group(self, seed):
        """Return region, centre, active and fixed rows around a seed; or the number of a patch in the way."""
        active = self._groups.members(seed, self._excluded)
        if self._partners:
            active = self._with_partners(active)
        region, centre = self._region(active)
        if self.options["buffer"] == 0 and len(active) == 1 and self._groups.is_alone(seed):
            fixed, distance = np.empty(0, dtype=int), np.empty(0)  # the result of a search, without its cost
        else:
            fixed, distance = self._index.overlapping(centre, region.radius)
        self._marked[active] = True
        others = ~self._marked[fixed]
        self._marked[active] = False
        fixed, distance = fixed[others], distance[others]
        if (most := self.options["max_fixed"]) is not None and len(fixed) > most:
            reach = self._columns.roi[fixed] - distance
            fixed = fixed[np.argsort(-reach, kind="stable")[:most]]
        number = self._out.in_the_way(active, fixed)
        return (region, centre, active, fixed) if number is None else number

    def _region(self, active):
        """Return a circle around active sources, and the unit vector of its centre."""
        vectors, roi = self._vectors[active], self._columns.roi[active]
        most = self.options["maxradius"]
        centre, radius = enclosing_circle(vectors, roi)
        if radius > most:  # members are no farther than this from the seed
            centre, radius = vectors[0], float((separation(vectors, vectors[0]) + roi).max())
        x, y, z = centre.tolist()
        ra = math.degrees(math.atan2(y, x)) % 360
        dec = math.degrees(math.atan2(z, math.hypot(x, y)))
        return CircularRegion(ra, dec, min(radius + self.options["buffer"], most)), centre

    def _take_out(self, group, number, batch):
        region, centre, active, fixed = group
        if number is None:
            self._out.take(active, fixed)
        else:
            patch = NumberedPatch(number, number if batch is None else batch, active, fixed)
            rows = active.tolist(), fixed.tolist()
            self._note(CheckOut(number, patch.batch, *rows, self._numbered.waits))
            self._numbered.waits = []
            self._numbered.take(patch)
        for row in (*active.tolist(), *fixed.tolist()):
            self._pool.discard(row)
        return region, *self._catalogs(region, centre, active, fixed)

    def _catalogs(self, region, centre, active, fixed):
        """Return active and fixed sources of a patch, the fixed ones including big sources."""
        around = self._columns.take(fixed) if len(fixed) else self._nobody
        if self._big is not None:
            around = self._big.joined(around, centre, region.radius)
        return self._columns.take(active), around

    def _bring_back(self, place, *, fitted):
        """Free the sources of a patch, and the seeds that wait for it."""
        self._offer(self._numbered.bring_back(place, fitted=fitted))

    def _offer(self, rows):
        """Return sources to the pool, except those that are taken, flagged or waiting."""
        unavailable = self._out.is_reserved(rows) | self._columns.flagged[rows] | self._out.is_waiting(rows)
        self._pool.add(rows[~unavailable], self.n_iter[rows[~unavailable]])

    def _arguments(self, patch):
        """Return the arguments of `checkin_region` for a patch whose result is kept; None if it has none."""
        if (outcome := patch.outcome) is None:
            return None
        columns = self._columns
        final = columns.take(patch.active, outcome.values)
        covs = None if outcome.covariances is None else columns.blocks_of(outcome.covariances)
        more = {"flag": outcome.flag, "summary": outcome.summary, "block_covs": covs}
        return {"final": final, "n_iter": outcome.n_iter} | more

    # ----------------------------------------------------------------------------------------------
    # The state on disk

    def _note(self, record):
        """Append a record to the journal."""
        if self._files is not None:
            if not self._on_disk:
                self._write_first()
            self._files.journal.append(record)

    def _write_first(self):
        """Write everything for the first time; the catalogue comes last, which makes the state valid."""
        files, columns = self._files, self._columns
        files.remove()
        start = columns.start_ra, columns.start_dec, columns.start_rhalf
        files.write_bounds(*start, columns.all_limits())
        self._write_state()
        self._on_disk = True

    def _write_state(self):
        files, columns = self._files, self._columns
        files.write_covariances(self.parameters, *columns.stored_covariances(), columns.values)
        files.write_log({"kind": type(self).__name__} | self.options, self.patchlog)
        files.write_catalog(self.catalog)
        # all its records but those of patches that are out are in the other files now; until then, it may be replayed
        files.journal.rewrite(self._numbered.records())

    def _restore_reasons(self):
        """Restore the full reasons why sources were given up; the catalogue has only their beginnings."""
        for entry in self.patchlog:
            if '"flag"' in entry:
                entry = json.loads(entry)
                self.flags.update((row, entry["flag"]) for row in entry["sources"] if row in self.flags)

    def _replay(self):
        """Replay what happened since the files were written."""
        columns, path = self._columns, self._files.journal.path
        for record in self._files.journal.records():
            if isinstance(record, CheckIn):
                entry = json.loads(record.entry)
                rows, values = np.array(entry["sources"], dtype=int), record.values
                if (
                    len(rows) != len(values)
                    or rows.max() >= len(self)
                    or values.shape[1] != columns.n_parameter
                ):
                    raise InputError(f"{path}: record of another run, expected {len(self)} sources")
                columns.put(rows, record.counts, values, record.covariances)
                columns.set_flag(rows, entry.get("flag"))
                if record.number == len(self.patchlog):
                    self.patchlog.append(record.entry)
            self._numbered.replay(record)


class LinkedSuperScene(SuperScene):
    """All sources of a field, grouped by links: sources whose circles of influence overlap are friends.

    A group is a seed, its friends, and their friends, as far as `maxactive_per_patch` and `maxradius` allow;
    see `fphojax.field.grouping.LinkedGroups`.

    Parameters
    ----------
    sourcecat, bands, **options
        As for `SuperScene`, but there is no ``nscale``, and ``strict`` is True by default.
    """

    _strict = True

    def __init__(self, sourcecat: SourceCatalog, bands: Sequence[str], **options: Any):
        if "nscale" in options:
            raise TypeError("LinkedSuperScene has no nscale: groups follow from the radii of influence")
        super().__init__(sourcecat, bands, **options)

    def _make_groups(self):
        return LinkedGroups(
            self._vectors,
            self._columns.roi,
            maxactive=self.options["maxactive_per_patch"],
            maxradius=self.options["maxradius"],
        )


def _indices(fixed):
    """Return the rows of fixed sources, without the big ones, which have none."""
    if fixed is None:
        return None
    index = np.asarray(fixed["source_index"])
    return index[index >= 0]
