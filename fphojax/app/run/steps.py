"""The steps of a whole run: stages, their order, and the settings that invalidate each."""

from dataclasses import dataclass

from fphojax.app.settings.schema import Settings

__all__ = ["STAGES", "Step", "first_read_after", "plan", "settings_read"]

# Stages and their templates; each stage is a function of its name in the module of its name.
STAGES = {
    "check": "01_check_inputs",
    "psf": "02_psf_mixtures",
    "preprocess": "03_preprocess",
    "catalog": "04_catalog",
    "optimize": "05_optimize",
    "background": "06_background",
    "detect": "07_detect",
    "sample": "08_sample",
    "postprocess": "09_postprocess",
}

# Settings that invalidate a stage: a change of one repeats the stage and all that follow, and none before.
# All others belong to the first stage.
_FIRST_READ = {
    "psf": {"n_gauss_psf", "psf_residual", "psf_centre"},
    "optimize": {
        "scene_catalog",
        "write_residuals",
        "add_barriers",
        "linear_optimize",
        "forced_photometry",
        "optimize_passes",
        "optimize_start",
        "gtol",
        "nuisance",
        "maxactive_per_patch",
        "strict",
        "patch_maxradius",
        "buffer",
        "pixel_response",
        "tolerance",
        "tweak_background",
        "tweakbg",
    },
    "background": {"rounds"},
    "detect": {"detection"},
    "sample": {
        "sampler",
        "chains",
        "warmup",
        "sampling_draws",
        "target_niter",
        "full_cov",
        "max_treedepth",
        "max_active_fraction",
        "ntry_checkout",
    },
}


@dataclass(frozen=True)
class Step:
    """One stage of a run.

    Attributes
    ----------
    stage : str
        One of `STAGES`.
    round : int
        Which time the stage is run.
    """

    stage: str
    round: int

    @property
    def name(self) -> str:
        """Name of its notebook without suffix; with the round for stages that are repeated."""
        template = STAGES[self.stage]
        return f"{template}_{self.round}" if self.stage in ("optimize", "background", "detect") else template


def plan(settings: Settings) -> list[Step]:
    """List the steps of a run, in order.

    Parameters
    ----------
    settings : Settings
        Stores are made where they are named and not there; ``rounds`` says how often optimisation is followed by
        background, detection and another optimisation.
    """
    makes_stores = settings.pixelstorefile is not None and (
        settings.frame_search_pattern or settings.fitsfiles
    )
    # where there are stores, their content is what is checked
    steps = [Step("preprocess", 1)] if makes_stores else []
    steps += [Step("check", 1), Step("psf", 1), Step("catalog", 1), Step("optimize", 1)]
    for number in range(1, settings.rounds + 1):
        steps += [Step("background", number), Step("detect", number), Step("optimize", number + 1)]
    return [*steps, Step("sample", 1), Step("postprocess", 1)]


def first_read_after(stage: str) -> set[str]:
    """Return the settings that no stage up to this one reads."""
    stages = list(STAGES)
    return set().union(*(_FIRST_READ.get(later, ()) for later in stages[stages.index(stage) + 1 :]))


def settings_read(settings: Settings, stage: str, *, first: bool) -> dict:
    """Return the values of the settings that invalidate a stage, as they are written to files.

    Parameters
    ----------
    settings : Settings
    stage : str
    first : bool
        Whether it is the first stage of the run, to which all settings of no particular stage belong.
    """
    dump = settings.model_dump(mode="json")
    names = set(_FIRST_READ.get(stage, ()))
    if stage == "catalog" and settings.raw_catalog is None:  # it searches the images itself
        names |= _FIRST_READ["detect"]
    if first:
        names |= set(dump).difference(*_FIRST_READ.values())
    return {name: dump[name] for name in sorted(names & set(dump))}
