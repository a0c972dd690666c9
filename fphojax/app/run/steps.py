"""The steps of a whole run: its stages in order, some of them several times."""

from dataclasses import dataclass

from fphojax.app.settings.schema import Settings
from fphojax.app.stage_list import INJECT, STAGES, Stage

__all__ = ["Step", "plan", "settings_read"]


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
        stage = self.declared
        return f"{stage.template}_{self.round}" if stage.each_round else stage.template

    @property
    def declared(self) -> Stage:
        """The declaration of its stage."""
        return STAGES[self.stage]


def plan(settings: Settings) -> list[Step]:
    """List the steps of a run, in order.

    Parameters
    ----------
    settings : Settings
        Stores are made where they are named and not there; ``rounds`` says how often optimisation is followed by
        background, noise, detection and another optimisation. Without rounds, the noise is measured before sampling.
        Profiles are chosen if ``choose`` says so.
    """
    makes_stores = settings.pixelstorefile is not None and (
        settings.frame_search_pattern or settings.fitsfiles
    )
    # where there are stores, their content is what is checked
    steps = [Step("preprocess", 1)] if makes_stores else []
    steps += [Step("check", 1), Step("psf", 1), Step("catalog", 1), Step("optimize", 1)]
    for number in range(1, settings.rounds + 1):
        steps += [Step(name, number) for name in ("background", "noise", "detect")]
        steps.append(Step("optimize", number + 1))
    if not settings.rounds:
        steps.append(Step("noise", 1))
    if settings.choose.in_run:
        steps.append(Step("choose", 1))
    return [*steps, Step("sample", 1), Step("postprocess", 1)]


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
    names = set(STAGES[stage].settings)
    if stage == "catalog" and settings.raw_catalog is None:  # it searches the images itself
        names |= STAGES["detect"].settings
    if first:
        names |= set(dump).difference(INJECT.settings, *(other.settings for other in STAGES.values()))
    return {name: dump[name] for name in sorted(names & set(dump))}
