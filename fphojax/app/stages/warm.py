"""Programs of a configuration, compiled before they are needed: by the first of many workers, or in an image."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from fphojax.app.settings.schema import Settings
from fphojax.core.programs import n_ready
from fphojax.errors import InputError
from fphojax.inference.chains import Chains
from fphojax.inference.methods import Method
from fphojax.system.wording import counted

from .fields import fit_sources
from .sample import method_of
from .stage_report import StageReport, timed

__all__ = ["warm"]

SETTLED = 40  # patches in a row that need no new program, after which the rest is taken to need none


@timed
def warm(settings: Settings, *, progress: bool = False) -> StageReport:
    """Compile the programs with which `optimize` and `sample` fit a field, and keep them on the disk.

    Patches are sampled with as few draws as can be, and their results forgotten.

    Parameters
    ----------
    settings : Settings
    progress : bool
        Show progress bars.

    Returns
    -------
    StageReport

    Raises
    ------
    InputError
        Without a catalogue of sources, on which it depends what is compiled; or the inputs have problems.
    KeyboardInterrupt
        After Ctrl-C: programs compiled by then are kept.
    """
    if settings.raw_catalog is None:
        raise InputError(
            f"{settings.file}: raw_catalog: not given, expected a catalogue: what is compiled depends on its sources"
        )
    method, before = _Shortest(method_of(settings)), n_ready()
    with TemporaryDirectory() as folder:
        short = settings.model_copy(update={"write_residuals": False, "linear_optimize": False})
        try:
            fit_sources(short, Path(folder) / "warm", method, target_niter=1, progress=progress)
        except KeyboardInterrupt:
            if not method.settled:
                raise
    made = n_ready() - before
    largest = max(method.sizes, default=0)
    text = f"{counted(made, 'program')}, for patches of up to {counted(largest, 'source')}, ready for others."
    return StageReport("warm", text)


@dataclass
class _Shortest:
    """A method with as few draws as can be, until patches need no new programs."""

    needs_pairs: ClassVar[bool] = True  # those of all methods of sampling

    method: Method
    settled: bool = False
    sizes: set[int] = field(default_factory=set)
    _since: int = 0

    def __post_init__(self) -> None:
        fewest = {"draws": 1, "warmup": 1, "chains": 1}
        of_method: Any = self.method
        self._short = replace(of_method, **{k: v for k, v in fewest.items() if hasattr(of_method, k)})

    @property
    def n_draw(self) -> int:
        return self._short.n_draw

    def fit(self, models: Sequence, starts: Sequence, **options: Any) -> list[Chains]:
        """Fit scenes; stop, as after Ctrl-C, where programs have been ready for long."""
        if self._since >= SETTLED:
            self.settled = True
            raise KeyboardInterrupt
        before = n_ready()
        self.sizes |= {model.optics.n_source for model in models}
        found = self._short.fit(models, starts, **options)
        self._since = 0 if n_ready() > before else self._since + len(models)
        return found
