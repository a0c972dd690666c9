"""forcepho's loop: patches and models built one after the other, as a thin layer over `cut` and `Scene`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fphojax.core.gaussians import ProfileTable
from fphojax.core.model import SceneModel
from fphojax.core.patch import Patch
from fphojax.core.pixels import PixelResponse
from fphojax.errors import InputError
from fphojax.mixtures.sersic import load_sersic_table

from .astrometry import CircularRegion
from .exposures import Exposure
from .frame import PatchFrame, cut
from .psf_store import PSFStore
from .scene import Scene
from .source_catalog import SourceCatalog
from .stores.stored_exposures import StoredExposure

__all__ = ["Patcher"]


class Patcher:
    """Builder of patches from exposures, and of models from patches and catalogues.

    Parameters
    ----------
    exposures : sequence of Exposure or StoredExposure
        All exposures of the field.
    psfs : PSFStore
        A PSF mixture for each band, or for single exposures.
    table : callable, optional
        Profile table (see `load_sersic_table`); the shipped one by default.
    pixel_response : {"variance", "quartic", "second_order"}
        As for `Scene`.
    dtype : dtype
        Floating-point type of the pixel work.

    Attributes
    ----------
    frame : PatchFrame or None
        The patch built last.
    scene : Scene or None
        That of the model prepared last, with the frame for which it was made.
    """

    def __init__(
        self,
        exposures: Sequence[Exposure | StoredExposure],
        psfs: PSFStore,
        *,
        table: ProfileTable | None = None,
        pixel_response: PixelResponse = "quartic",
        dtype: DTypeLike = np.float32,
    ):
        self.exposures = tuple(exposures)
        self.psfs = psfs
        self.table = load_sersic_table() if table is None else table
        self.pixel_response = pixel_response
        self.dtype = dtype
        self.frame: PatchFrame | None = None
        self.scene: Scene | None = None

    def build_patch(self, region: CircularRegion, allbands: Sequence[str] | None = None) -> Patch:
        """Cut the pixels of a region from all exposures in some bands; see `cut`.

        Parameters
        ----------
        region : CircularRegion
        allbands : sequence of str, optional
            Bands to use, in the order of the fluxes; by default all, in the order of the exposures.

        Returns
        -------
        Patch
            Also kept in `frame`, with the exposures that it holds.

        Raises
        ------
        InputError
            If no exposure has a valid pixel there.
        """
        self.frame = cut(self.exposures, region, bands=allbands, dtype=self.dtype)
        return self.frame.patch

    def prepare_model(
        self, *, active: SourceCatalog, **options: Any
    ) -> tuple[SceneModel, dict[str, np.ndarray]]:
        """Make the model of the patch built last, and keep its `scene`.

        Parameters
        ----------
        active : SourceCatalog
            Sources to fit; their parameters are the start.
        **options
            Of `Scene`: ``fixed``, ``bounds``, ``priors``, and so on.

        Returns
        -------
        model : SceneModel
        start : dict of ndarray
            See `Scene`.

        Raises
        ------
        InputError
            As for `Scene`; or no patch has been built.
        """
        if self.frame is None:
            raise InputError("no patch: prepare_model was called before build_patch")
        self.scene = Scene(
            self.frame,
            self.psfs,
            active=active,
            table=self.table,
            pixel_response=self.pixel_response,
            **options,
        )
        return self.scene.model, self.scene.start
