"""Folder of a run: its layout, how it is written, and how it is read back."""

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from astropy.io import fits

from fphojax.errors import InputError
from fphojax.inputs.recipe import sky_of
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.system.files import replacing
from fphojax.system.json_files import read_json, write_json
from fphojax.system.notebook_html import Shown
from fphojax.system.portable import absolute, map_paths, relative, resolved
from fphojax.system.wording import counted

from .aside import WRITTEN_IN, drop_previous, move_aside, previous_folders, put_back
from .patch_journal import CheckIn, Journal
from .patch_result import PatchResult
from .scene_state import StateFiles

__all__ = ["ANEW", "RunDirectory"]

# What stages before and after sampling leave in the folder, and what a run that was killed at its start may leave.
_OF_RUN = re.compile(
    r"\..*|(optimize|background|noise|detect|choose|previous)_\d+.*|noise\.json|postop\.fits"
    r"|(patches|figures|catalogs|images|regions|notebooks|injections)|psfs\.h5|exposures\.(h5|json)|report\.html|.*\.ya?ml"
)
# Types of the settings that are read back.
_CONFIG: dict[str, Any] = {
    "scene_catalog": str,
    "tweakbg": dict,
    "ties": dict,
    "priors": dict,
    "nuisance": dict,
    "extensions": dict,
    "fitsfiles": list,
    "big_catalog": str | None,
    "pixelstorefile": str | None,
    "metastorefile": str | None,
    "splinedatafile": str | None,
    "max_snr": int | float,
}
# What a run has in its folder besides the files of its scene. Users may have put more there.
_OUTPUTS = {
    ".": r"config\.json|psfs\.h5|exposures\.(h5|json)|report\.html",
    "patches": r"patch\d+_(samples\.nc|residuals\.h5)",
    "figures": r"patch\d+_residuals\.png|(chains|residuals)\.pdf|truth\.png",
    "catalogs": r"(final|multipatch|neighbours)\.(fits|ecsv|parquet|vot)|(postsample|forcepho)\.fits",
    "images": r".*\.fits",
    "regions": r"(sources|patches|isophotes_.*)\.reg",
}
ANEW = "to start anew: sample with --overwrite, or optimize without --resume"  # for messages
_OF_IMAGES = "NUISANCE", "DRAW"  # keywords that images of a run have, one or the other
_HALF_WRITTEN = re.compile(r"\..+\.\w+\.[a-z0-9_]{8}")  # folders of `replacing`, after a kill
_OF_PATCH = re.compile(r"\.patch\d+_\w+\..*\.[a-z0-9_]{8}")


class RunDirectory(Shown):
    """The folder of a run, in forcepho's layout.

    ::

        config.json                     settings of the run
        NAME.yml                        the file from which they were read
        SCENE.fits                      catalogue with the current parameters (forcepho's columns)
        SCENE_log.json                  log of the patches so far
        patches/patch3_samples.nc       `PatchResult` of patch 3
        patches/patch3_residuals.h5     its residuals (`write_residuals`)
        figures/patch2_residuals.png    data, model and residual of the first patches

    Every file is written atomically.

    Parameters
    ----------
    path : path-like
        An existing run; `create` makes a new one.
    scene_catalog : str
        Name of the scene's catalogue.

    Attributes
    ----------
    path : Path

    Raises
    ------
    InputError
        If there is no such folder.
    """

    def __init__(self, path: str | Path, *, scene_catalog: str = "scene.fits"):
        self.path = Path(path)
        self.scene_catalog = scene_catalog
        if not self.path.is_dir():
            raise InputError(f"{self.path}: no such folder, expected the folder of a run")

    def _facts(self):
        return {"": repr(str(self.path)), "patches": len(self.patch_files())}

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        scene_catalog: str = "scene.fits",
        overwrite: bool = False,
        inputs: Iterable[Path] = (),
    ) -> "RunDirectory":
        """Make the folders of a new run.

        Parameters
        ----------
        path : path-like
        scene_catalog : str
        overwrite : bool
            Whether the folder may contain an earlier run. Its files are then moved to ``previous_N``, where they stay
            until `complete`.
        inputs : iterable of Path
            Files that stay where they are.

        Raises
        ------
        InputError
            If `path` is a file, or a folder with a run that may not be overwritten, or with anything that is not part
            of a run.
        """
        path = Path(path)
        if path.exists() and not path.is_dir():
            raise InputError(f"{path}: is a file, expected a folder for the run")
        config = path / "config.json"
        if path.is_dir():
            put_back(path)
        if config.is_file():
            if not overwrite:
                raise InputError(f"{path}: holds a run, expected a new or empty folder for another one")
        elif not overwrite and (patches := sorted((path / "patches").glob("patch*_samples.nc"))):
            raise InputError(
                f"{patches[0]}: found a patch ({counted(len(patches), 'patch')} in all) of a run without "
                f"config.json, expected a new or empty folder: put that file back to go on with --resume; {ANEW}"
            )
        else:
            cls.refuse_strange_files(path)
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path, scene_catalog=scene_catalog)
        move_aside(path, run.output_files(inputs), [*path.glob("*.yml"), *path.glob("*.yaml")])
        run.remove_half_written()
        for name in ("figures", "patches"):
            (path / name).mkdir(exist_ok=True)
        return run

    @staticmethod
    def refuse_strange_files(path: Path) -> None:
        """Raise an InputError if a folder for a run holds anything that is not part of a run."""
        if path.is_dir() and (strange := [p.name for p in path.iterdir() if not _OF_RUN.fullmatch(p.name)]):
            raise InputError(
                f"{path}: holds {min(strange)}, which is not of a run, expected a new or empty folder for the run"
            )

    @classmethod
    def open(cls, path: str | Path) -> "RunDirectory":
        """Open a finished run, whose settings name its scene.

        Parameters
        ----------
        path : path-like
        """
        run = cls(path)
        return cls(path, scene_catalog=run.read_config().get("scene_catalog", run.scene_catalog))

    @classmethod
    def of(cls, run: "RunDirectory | str | Path") -> "RunDirectory":
        """Return a run as it is, or open the one in a folder."""
        return run if isinstance(run, RunDirectory) else cls.open(run)

    @property
    def config_path(self) -> Path:
        """Settings of the run."""
        return self.path / "config.json"

    @property
    def scene_path(self) -> Path:
        """Catalogue with the current parameters."""
        return self.path / self.scene_catalog

    @property
    def log_path(self) -> Path:
        """Log of what happened so far."""
        return self.path / f"{self.scene_path.stem}_log.json"

    def samples_path(self, patch: int) -> Path:
        """Return the path of the result of a patch."""
        return self.path / "patches" / f"patch{patch}_samples.nc"

    def residuals_path(self, patch: int) -> Path:
        """Return the path of the residuals of a patch."""
        return self.path / "patches" / f"patch{patch}_residuals.h5"

    def figure_path(self, name: str) -> Path:
        """Return the path of a figure, by its name without suffix."""
        return self.path / "figures" / f"{name}.png"

    def write_config(self, settings: str, source: str | Path | None = None) -> None:
        """Write the settings.

        Parameters
        ----------
        settings : str
            JSON text, with absolute paths; in the file they are relative to the folder, where they can be.
        source : path-like, optional
            The file from which they were read, to be copied.
        """
        folder = absolute(self.path)
        config = map_paths(json.loads(settings), lambda path: relative(path, folder)) | {
            WRITTEN_IN: str(folder)
        }
        write_json(self.config_path, config)
        if source is not None:
            with replacing(self.path / Path(source).name) as temporary:
                shutil.copyfile(source, temporary)

    def read_config(self) -> dict:
        """Read the settings as plain Python values; paths are absolute, even if the run was moved."""
        config = read_json(self.config_path, "the settings of a run (config.json)", _CONFIG)
        written_in = config.pop(WRITTEN_IN, None)
        return map_paths(config, lambda path: resolved(path, self.path, written_in))

    def read_sky(self) -> dict[str, float]:
        """Return the level that was subtracted from the images of each band; empty if none was."""
        return sky_of(self.read_config())

    def write_scene(self, catalog: SourceCatalog, log: Mapping) -> None:
        """Write the current parameters and the log.

        Parameters
        ----------
        catalog : SourceCatalog
        log : mapping
            Plain Python values.
        """
        catalog.write_forcepho(self.scene_path)
        write_json(self.log_path, log)

    def read_scene(self) -> SourceCatalog:
        """Read the catalogue with the current parameters."""
        return SourceCatalog.read(self.scene_path)

    def read_log(self) -> dict:
        """Read the log as plain Python values."""
        return read_json(self.log_path, "the log of a run")

    def patches(self) -> list[int]:
        """Return the numbers of the patches that have a result, in increasing order.

        Files of patches that are missing from the log, because they were being fitted when the run ended, or that
        were given up, do not count as results.

        Raises
        ------
        InputError
            The log is damaged.
        """
        numbers = self.patch_files()
        checked_in = self._checked_in()
        return numbers if checked_in is None else [number for number in numbers if number in checked_in]

    def patch_files(self) -> list[int]:
        """Return the numbers of all patches that have a file, in increasing order."""
        names = (re.fullmatch(r"patch(\d+)_samples\.nc", p.name) for p in (self.path / "patches").glob("*"))
        return sorted(int(name[1]) for name in names if name)

    def _checked_in(self):
        """Return the numbers of the patches that the log has as fitted; None if there is no such log."""
        entries = self.read_log().get("patchlog") if self.log_path.is_file() else None
        if entries is None:
            return None
        records = Journal(self.scene_path.with_suffix(".journal")).records()
        entries = entries + [json.loads(record.entry) for record in records if isinstance(record, CheckIn)]
        return {entry["taskID"] for entry in entries if "flag" not in entry}

    def write_patch(self, patch: int, result: PatchResult) -> None:
        """Write the result of a patch."""
        result.write(self.samples_path(patch))

    def read_patch(self, patch: int) -> PatchResult:
        """Read the result of a patch."""
        return PatchResult.read(self.samples_path(patch))

    def remove_half_written(self) -> None:
        """Delete incomplete files of processes that were killed."""
        folders = [path for path in self.path.glob(".*") if _HALF_WRITTEN.fullmatch(path.name)]
        for name in ("patches", "figures"):
            folders += [path for path in (self.path / name).glob(".*") if _OF_PATCH.fullmatch(path.name)]
        for name in ("catalogs", "images", "regions"):
            folders += [path for path in (self.path / name).glob(".*") if _HALF_WRITTEN.fullmatch(path.name)]
        for path in folders:
            if path.is_dir():
                shutil.rmtree(path)

    def output_files(self, inputs: Iterable[Path] = ()) -> list[Path]:
        """List the files of the run and of its products, except other stages' and copies of settings.

        Parameters
        ----------
        inputs : iterable of Path
            Files that are not the run's, whatever their names.
        """
        excluded = {os.path.realpath(path) for path in inputs}
        files = [
            path
            for folder, pattern in _OUTPUTS.items()
            for path in (self.path / folder).glob("*")
            if re.fullmatch(pattern, path.name) and (folder != "images" or _is_of_images(path))
        ]
        files += [path for path in StateFiles(self.scene_path).all if path.is_file()]
        return [path for path in files if os.path.realpath(path) not in excluded]

    def go_on(self) -> None:
        """Finish or undo what an earlier process has left undone, before a run is resumed."""
        put_back(self.path)
        self.remove_half_written()

    def previous(self) -> list[Path]:
        """List the folders of results that this run is to replace."""
        return [path for path in previous_folders(self.path) if (path / "config.json").is_file()]

    def complete(self) -> None:
        """Delete the results that the completed run has replaced, except those of a run of all stages."""
        folders = (path for path in self.previous() if not (path / "notebooks" / "record.json").is_file())
        drop_previous(self.path, folders)


def _is_of_images(path):
    """Return whether an image is one of those that runs make."""
    try:
        header = fits.getheader(path)
    except (OSError, ValueError):
        return False
    return any(keyword in header for keyword in _OF_IMAGES)
