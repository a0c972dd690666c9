"""Host side: catalogues, images, PSFs and the patch built from them."""

from fphojax.errors import InputError

__all__ = ["InputError"]
