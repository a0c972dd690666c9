"""The stages of a run, each declared once: its notebook, what repeats it, how it is called, what it hands on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from fphojax.app.settings.schema import Settings
from fphojax.app.stages.stage_report import StageReport
from fphojax.errors import InputError

__all__ = ["INJECT", "STAGES", "Stage", "first_read_after", "next_settings", "stages_named"]


@dataclass(frozen=True)
class Stage:
    """A stage.

    Attributes
    ----------
    name : str
        That of its function, and of the module that has it in `fphojax.app.stages`.
    template : str
        Name of its notebook without suffix.
    reads : str
        Settings that invalidate it, separated by blanks: a change of one repeats it and all that follow, and none
        before. Those that no stage names belong to the first one.
    each_round : bool
        Whether it is done several times, once per round; its results are numbered then.
    of_fit : bool
        Whether it looks at the fit before it: its function takes ``run``, the folder.
    parallel : bool
        Whether its function takes ``workers``.
    fits : {None, "numbered", "outbase"}
        Where it fits patches, if it does: in a folder of its own, ``NAME_N``, or in ``outbase`` itself.
    scene : str or None
        Of a stage that fits patches: which of its files is the scene.
    hands_on : callable
        Settings, as the stage had them, and its report to what those that follow have changed.
    then : Stage or None
        What is done with it as one step.
    """

    name: str
    template: str = ""
    reads: str = ""
    each_round: bool = False
    of_fit: bool = False
    parallel: bool = False
    fits: Literal["numbered", "outbase"] | None = None
    scene: str | None = None
    hands_on: Callable[[Settings, StageReport], dict] = lambda settings, report: {}
    then: "Stage | None" = None

    @property
    def settings(self) -> frozenset[str]:
        """Names of the settings that invalidate it."""
        return frozenset(self.reads.split())

    def __call__(self, settings: Settings, **options: Any) -> StageReport:
        """Run it; options are those of its function."""
        return getattr(import_module(f"fphojax.app.stages.{self.name}"), self.name)(settings, **options)


def _levels(_, report):
    table = report.tables["tweakbg"]
    levels = zip(table["band"].tolist(), table["now"].to_value("nJy").tolist(), strict=True)
    return {"tweak_background": "tweakbg", "tweakbg": dict(levels)}


def _catalog(_, report):
    return {"raw_catalog": report.files["catalog"]}


def _psfs(_, report):
    return {"psfstorefile": report.files["run"] / "psfs.h5"}


def _noise(_, report):
    return {"noise_file": report.files["noise"]}


def _start_of_sampling(settings, report):
    from fphojax.app.stages.postop import sampling_settings

    changed = sampling_settings(settings, report.files["catalog"])
    return {name: getattr(changed, name) for name in ("raw_catalog", "bounds_kwargs")}


_POSTOP = Stage("postop", hands_on=_start_of_sampling)
_DECLARED = (
    Stage("check", "01_check_inputs"),
    Stage("psf", "02_psf_mixtures", "n_gauss_psf psf_residual psf_centre"),
    Stage("preprocess", "03_preprocess"),
    Stage("catalog", "04_catalog", hands_on=_catalog),
    Stage(
        "optimize",
        "05_optimize",
        "scene_catalog write_residuals add_barriers linear_optimize forced_photometry optimize_passes optimize_start "
        "gtol nuisance noise noise_file maxactive_per_patch strict patch_maxradius buffer pixel_response tolerance "
        "tweak_background tweakbg",
        each_round=True,
        parallel=True,
        fits="numbered",
        scene="catalog",
        hands_on=_psfs,
        then=_POSTOP,
    ),
    Stage("background", "06_background", "rounds", each_round=True, of_fit=True, hands_on=_levels),
    Stage("noise", "07_noise", each_round=True, of_fit=True, hands_on=_noise),
    Stage("detect", "08_detect", "detection", each_round=True, of_fit=True, hands_on=_catalog),
    Stage("choose", "11_choose", "choose", of_fit=True, parallel=True, hands_on=_catalog),
    Stage(
        "sample",
        "09_sample",
        "sampler chains warmup sampling_draws target_niter full_cov max_treedepth max_active_fraction ntry_checkout",
        parallel=True,
        fits="outbase",
        scene="scene",
    ),
    Stage("postprocess", "10_postprocess", parallel=True),
)
STAGES = {stage.name: stage for stage in _DECLARED}
# Not part of a run: it looks at a fit that is there.
INJECT = Stage("inject", "12_inject", "injections", of_fit=True, parallel=True)


def first_read_after(name: str) -> frozenset[str]:
    """Return the settings that no stage up to this one reads."""
    names = list(STAGES)
    later = (STAGES[other].settings for other in names[names.index(name) + 1 :])
    return INJECT.settings.union(*later)


def stages_named(words: Sequence[str]) -> list[str]:
    """Return the names of stages in lists and ranges, in the order of the stages, each once.

    Parameters
    ----------
    words : sequence of str
        Names with commas between them, or ranges ``FIRST..LAST``; a range without one end begins or ends with the
        stages.

    Raises
    ------
    InputError
        A stage that is not known, or a range that ends before it begins.
    """
    order, found = list(STAGES), set()
    for part in (part.strip() for word in words for part in word.split(",")):
        first, dots, last = (name.strip() for name in part.partition(".."))
        ends = (first or order[0], last or order[-1]) if dots else (first, first)
        if unknown := [name for name in ends if name not in STAGES]:
            raise InputError(
                f"--stages: found {unknown[0] or 'nothing'}, expected one of {', '.join(order)}, or a range of them, "
                "FIRST..LAST"
            )
        begin, end = map(order.index, ends)
        if end < begin:
            raise InputError(f"--stages: found {part}, expected {ends[1]}..{ends[0]}: this is their order")
        found.update(order[begin : end + 1])
    return sorted(found, key=order.index)


def next_settings(settings: Settings, *reports: StageReport) -> Settings:
    """Update settings with what stages hand on: sky levels, a catalogue, PSF mixtures.

    Parameters
    ----------
    settings : Settings
    *reports : StageReport
        Of stages, in the order in which they were done.
    """
    stages = STAGES | {stage.name: stage for stage in (_POSTOP, INJECT)}
    for report in reports:
        settings = settings.model_copy(update=stages[report.stage].hands_on(settings, report))
    return settings
