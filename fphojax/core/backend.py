"""What depends on the machine: how many tiles are processed at once, where compiled programs are kept."""

import ctypes
import gc
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import psutil
from jax.typing import ArrayLike, DTypeLike
from platformdirs import user_cache_path

__all__ = [
    "chains_in_lockstep",
    "clear_programs",
    "list_lengths",
    "on_device",
    "patches_per_program",
    "set_up_jax",
    "shares_of_padded",
    "tiles_per_block",
]

MOST_MAPS = 0.4  # of the memory maps that the system allows; one patch more must fit into the rest


def tiles_per_block() -> int:
    """Return the number of tiles that one step of the pixel loops handles.

    On a CPU the exponentials of a single tile already fill the first caches, and more tiles
    spill them; an accelerator wants enough tiles to occupy all its cores.
    """
    return 1 if jax.default_backend() == "cpu" else 256


def chains_in_lockstep() -> bool:
    """Return whether several chains run in one program, in lockstep, or each in a thread of its own.

    In lockstep all wait for the longest trajectory among them, which an accelerator that one chain leaves idle more
    than makes up for; the cores of a CPU are as busy with threads.
    """
    return jax.default_backend() != "cpu"


def patches_per_program() -> int:
    """Return the number of patches that one program optimises, or samples, in lockstep.

    All wait for the one that takes most steps. On one core of a CPU 79 patches of a mock field took 2.1 s one by one
    to optimise, 3.3 s in fours and 4.3 s in sixteens, and a minute to compile each program. Four chains of a single
    galaxy wait so long for each other that they take 1.2 times their steps; those of four patches take 2.0, of 16
    patches 3.0, of 32 patches 3.7 (blends of four: 1.3 alone, 1.8 in fours). An accelerator, which a small patch
    leaves idle, makes up for the wait.
    """
    return 1 if jax.default_backend() == "cpu" else 64


def shares_of_padded() -> tuple[int, ...]:
    """Return the sizes, in per cent of padded arrays, for each of which a program holds the work on pixels.

    The work on padding thus takes a sixth of the time on a CPU. On an accelerator, small patches take the time of
    the largest anyway, and a batch of patches would do the work of all sizes.
    """
    return (32, 42, 56, 75, 100) if jax.default_backend() == "cpu" else (100,)


def list_lengths(n_source: int) -> tuple[int, ...]:
    """Return the lengths of the lists of sources used for tiles, ascending; the last holds all sources.

    On a CPU a tile takes time in proportion to its list; an accelerator works on all tiles at once.
    """
    lengths = [n_source]
    while jax.default_backend() == "cpu" and lengths[-1] > 2:
        lengths.append(-(-lengths[-1] // 2))
    return tuple(reversed(lengths))


def on_device(array: ArrayLike | Sequence[float], dtype: DTypeLike | None = None) -> jax.Array:
    """Copy an array of the host to the device; unlike `jax.numpy.asarray`, without a program to compile."""
    return jax.device_put(np.asarray(array, dtype))


def set_up_jax() -> None:
    """Switch JAX to double precision, and let it keep compiled programs in the user's cache folder.

    The wing `fphojax.core` does so when it is first imported, `import fphojax` alone does not. A folder that is set
    already (``JAX_COMPILATION_CACHE_DIR``) is left as it is; where the cache folder cannot be written, programs are
    compiled anew in every process. The folder is made when the first program is kept.
    """
    jax.config.update("jax_enable_x64", True)
    # a cache on a full disk, or one that was truncated by a kill, is no reason for a warning
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache entry")
    if jax.config.jax_compilation_cache_dir is None:
        folder = user_cache_path("fphojax") / "compiled"
        ancestor = next(path for path in (folder, *folder.parents) if path.exists())
        if not (ancestor.is_dir() and os.access(ancestor, os.W_OK)):
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def _share_of_maps() -> float:
    """Return how many memory maps this process has, as a fraction of what Linux allows; 0 on other systems."""
    try:
        limit = int(Path("/proc/sys/vm/max_map_count").read_text())
        return Path("/proc/self/maps").read_bytes().count(b"\n") / limit
    except OSError:
        return 0.0


def clear_programs(most: float) -> bool:
    """Clear the compiled programs of this process if it holds more than `most` bytes of memory, or too many maps.

    Those of one shape of patch take some 200 MB, and a field has patches of many shapes. They also take memory
    maps, up to 7,000, of which Linux allows a process 65,530 by default: the compiler of a run of 38 patches
    failed there. What is needed again is read from the disk, in seconds.

    Returns
    -------
    bool
        Whether they were cleared.
    """
    if psutil.Process().memory_info().rss <= most and _share_of_maps() <= MOST_MAPS:
        return False
    jax.clear_caches()
    gc.collect()
    # without this, C's library keeps what was freed; other libraries than GNU's have no such function
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)
    return True
