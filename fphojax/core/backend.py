"""What depends on the device: how many tiles are worked on at once."""

import jax

__all__ = ["tiles_per_block"]


def tiles_per_block() -> int:
    """Number of tiles that one step of the pixel loops handles.

    On a CPU the exponentials of a single tile already fill the first caches, and more tiles
    spill them; an accelerator wants enough tiles to occupy all its cores.
    """
    return 1 if jax.default_backend() == "cpu" else 256
