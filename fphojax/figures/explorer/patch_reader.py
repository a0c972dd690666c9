"""Reading the patches of a run for the explorer, as few as possible."""

from collections.abc import Sequence
from functools import cached_property, lru_cache

from fphojax.figures.sky_marks import exposure_title
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.recipe import Recipe
from fphojax.inputs.stores.stored_exposures import StoredExposure
from fphojax.results.fitted_patch import FittedPatch, fitted_patch, open_recipe
from fphojax.results.products.patch_draws import RunDraws
from fphojax.results.run_directory import RunDirectory

__all__ = ["PatchReader", "exposure_choices"]


class PatchReader:
    """Reader of the patches of a run, which keeps the last few in memory."""

    def __init__(self, run: RunDirectory):
        self.run = run
        self.result = lru_cache(8)(run.read_patch)
        self.fitted = lru_cache(4)(self._fitted)

    @cached_property
    def recipe(self) -> Recipe:
        """Exposures, PSFs and priors of the run."""
        return open_recipe(self.run)

    @cached_property
    def patches_of(self) -> dict:
        """The patches of each source, by its id."""
        return dict(RunDraws(self.run).patches_of)

    def _fitted(self, number: int) -> FittedPatch:
        return fitted_patch(self.run, number, self.recipe)


def exposure_choices(exposures: Sequence[Exposure | StoredExposure]) -> list[tuple[str, int]]:
    """Return the exposures of a patch as choices of a control: title and number."""
    return [(exposure_title(exposure), number) for number, exposure in enumerate(exposures)]
