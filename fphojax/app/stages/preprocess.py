"""The stage that puts images into a pixel store."""

import time

from fphojax.app.settings.schema import Settings
from fphojax.inputs.stores.stored_exposures import open_stores

from .stage_report import StageReport
from .store_build import preprocess as make_stores
from .store_build import refuse_other_stores

__all__ = ["preprocess"]


def preprocess(settings: Settings, *, progress: bool = False) -> StageReport:
    """Make the stores that the settings name, or use them as they are if they are complete.

    Parameters
    ----------
    settings : Settings
    progress : bool
        Show a progress bar.

    Returns
    -------
    StageReport
        Files: ``pixels`` and ``meta``.

    Raises
    ------
    InputError
        One line for each image that cannot be stored; or stores that were made with other settings, or
        of other images.
    """
    start = time.perf_counter()
    assert settings.pixelstorefile is not None
    assert settings.metastorefile is not None
    files = {"pixels": settings.pixelstorefile, "meta": settings.metastorefile}
    if all(path.is_file() for path in files.values()):
        compared = refuse_other_stores(settings)
        text = f"The stores were there{'' if compared else ', but no images with which to compare them'}."
    else:
        text = f"{make_stores(settings, progress=progress, echo=print)}."
    exposures = open_stores(settings.pixelstorefile, settings.metastorefile)
    bands = sorted({exposure.band for exposure in exposures})
    text += f" They hold {len(exposures)} exposures in {', '.join(bands)}."
    return StageReport("preprocess", text, {}, files, time.perf_counter() - start)
