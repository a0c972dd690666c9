"""The stage that puts images into a pixel store."""

from astropy.table import Table

from fphojax.app.settings.schema import Settings
from fphojax.inputs.stores.stored_exposures import open_stores

from .stage_report import StageReport, timed
from .store_build import preprocess as make_stores
from .store_build import refuse_other_stores

__all__ = ["preprocess"]


@timed
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
        Table ``exposures``, if they were stored now: a line on each, with its calibration. Files: ``pixels`` and
        ``meta``.

    Raises
    ------
    InputError
        One line for each image that cannot be stored; or stores that were made with other settings, or
        of other images.
    """
    pixels, meta = settings.pixelstorefile, settings.metastorefile
    tables = {}
    if pixels is not None and meta is not None and pixels.is_file() and meta.is_file():
        compared = refuse_other_stores(settings)
        text = f"The stores existed already{'' if compared else ', without images to compare them with'}."
    else:
        made = make_stores(settings, progress=progress)
        text, tables = f"{made}.", {"exposures": Table({"exposure": made.lines})}
    assert pixels is not None  # settings without stores were refused
    assert meta is not None
    exposures = open_stores(pixels, meta)
    bands = sorted({exposure.band for exposure in exposures})
    text += f" They contain {len(exposures)} exposures in {', '.join(bands)}."
    return StageReport("preprocess", text, tables, {"pixels": pixels, "meta": meta})
