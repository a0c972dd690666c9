"""The folder of a run: where everything is, and how it is read back."""

import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..inputs.catalog import SourceCatalog
from ..inputs.errors import InputError
from ..inputs.files import replacing
from ..inputs.json_files import read_json, write_json
from .results import PatchResult

__all__ = ["RunDirectory"]

# What stages before and after sampling leave in its folder, and what a run that was killed at its start may have.
_OF_RUN = re.compile(
    r"\..*|(optimize|background|detect)_\d+.*|postop\.fits|(patches|figures|catalogs|images|notebooks)|psfs\.h5"
    r"|report\.html|.*\.ya?ml"
)
# Types of the settings that are read back.
_CONFIG = {
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
_HALF_WRITTEN = re.compile(r"\..+\.\w+\.[a-z0-9_]{8}")  # folders of `replacing`, after a kill
_OF_PATCH = re.compile(r"\.?patch(\d+)_\w+\..*")  # one that begins with a dot is half-written


class RunDirectory:
    """The folder of a run, in forcepho's layout.

    ::

        config.json                     settings of the run
        NAME.yml                        the file from which they were read
        SCENE.fits                      catalogue with the current parameters (forcepho's columns)
        SCENE_log.json                  what happened so far
        patches/patch3_samples.nc       `PatchResult` of patch 3
        patches/patch3_residuals.h5     its residuals (`write_residuals`)
        figures/patch3_residuals.png    data, model and residual

    Every file appears whole or not at all.

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

    def __init__(self, path, *, scene_catalog: str = "scene.fits"):
        self.path = Path(path)
        self.scene_catalog = scene_catalog
        if not self.path.is_dir():
            raise InputError(f"{self.path}: no such folder, expected the folder of a run")

    @classmethod
    def create(cls, path, *, scene_catalog: str = "scene.fits", overwrite: bool = False) -> "RunDirectory":
        """Make the folders of a new run.

        Parameters
        ----------
        path : path-like
        scene_catalog : str
        overwrite : bool
            Whether the folder may hold an earlier run, whose patches and figures are then deleted.

        Raises
        ------
        InputError
            If `path` is a file, or a folder that holds a run which may not be overwritten, or anything that is not
            of a run.
        """
        path = Path(path)
        if path.exists() and not path.is_dir():
            raise InputError(f"{path}: is a file, expected a folder for the run")
        held = path / "config.json"
        if held.is_file():
            if not overwrite:
                raise InputError(f"{path}: holds a run, expected a new or empty folder for another one")
        elif path.is_dir() and (strange := [p.name for p in path.iterdir() if not _OF_RUN.fullmatch(p.name)]):
            raise InputError(
                f"{path}: holds {min(strange)}, which is not of a run, expected a new or empty folder for the run"
            )
        (path / "figures").mkdir(parents=True, exist_ok=True)
        (path / "patches").mkdir(exist_ok=True)
        run = cls(path, scene_catalog=scene_catalog)
        run._clear()
        return run

    @classmethod
    def open(cls, path) -> "RunDirectory":
        """A finished run, the name of whose scene is in its settings.

        Parameters
        ----------
        path : path-like
        """
        run = cls(path)
        return cls(path, scene_catalog=run.read_config().get("scene_catalog", run.scene_catalog))

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
        """What happened so far."""
        return self.path / f"{self.scene_path.stem}_log.json"

    def samples_path(self, patch: int) -> Path:
        """Result of a patch."""
        return self.path / "patches" / f"patch{patch}_samples.nc"

    def residuals_path(self, patch: int) -> Path:
        """Residuals of a patch."""
        return self.path / "patches" / f"patch{patch}_residuals.h5"

    def figure_path(self, name: str) -> Path:
        """A figure, by its name without suffix."""
        return self.path / "figures" / f"{name}.png"

    def write_config(self, settings: str, source=None) -> None:
        """Keep the settings.

        Parameters
        ----------
        settings : str
            JSON text.
        source : path-like, optional
            The file from which they were read, to be copied.
        """
        write_json(self.config_path, settings)
        if source is not None:
            with replacing(self.path / Path(source).name) as temporary:
                shutil.copyfile(source, temporary)

    def read_config(self) -> dict:
        """Settings, as plain Python values."""
        return read_json(self.config_path, "the settings of a run (config.json)", _CONFIG)

    def read_sky(self) -> dict[str, float]:
        """Level that was subtracted from the images of each band; empty if none was."""
        config = self.read_config()
        return config["tweakbg"] if config["tweak_background"] == "tweakbg" else {}

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
        """The current parameters."""
        return SourceCatalog.read(self.scene_path)

    def read_log(self) -> dict:
        """The log, as plain Python values."""
        return read_json(self.log_path, "the log of a run")

    def patches(self) -> list[int]:
        """Numbers of the patches that have a result, in increasing order."""
        names = (re.fullmatch(r"patch(\d+)_samples\.nc", p.name) for p in (self.path / "patches").glob("*"))
        return sorted(int(name[1]) for name in names if name)

    def write_patch(self, patch: int, result: PatchResult) -> None:
        """Write the result of a patch."""
        result.write(self.samples_path(patch))

    def read_patch(self, patch: int) -> PatchResult:
        """Read the result of a patch."""
        return PatchResult.read(self.samples_path(patch))

    def keep_patches(self, numbers: Iterable[int]) -> None:
        """Delete all that there is of other patches than these, and what was only half written.

        Parameters
        ----------
        numbers : iterable of int
        """
        kept = set(numbers)
        for path in self.path.glob(".*"):
            if path.is_dir() and _HALF_WRITTEN.fullmatch(path.name):
                shutil.rmtree(path)
        for folder in ("patches", "figures"):
            for path in (self.path / folder).glob("*"):
                name = _OF_PATCH.fullmatch(path.name)
                if name and path.is_dir():
                    shutil.rmtree(path)
                elif name and int(name[1]) not in kept:
                    path.unlink()

    def _clear(self):
        """Delete what an earlier run left and this one might not replace."""
        self.scene_path.unlink(missing_ok=True)  # first: without it there is nothing to go on from
        self.keep_patches(())
        for figure in (*self.path.glob("figures/*.png"), *self.path.glob("figures/*.pdf")):
            figure.unlink()
