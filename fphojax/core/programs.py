"""Compiled programs, kept on the disk in a form that a new process neither traces nor lowers.

JAX's own cache keeps what the compiler makes, but finds it by the text that tracing and lowering produce, which for a
posterior takes seconds.  The text itself is kept here, under a name made from what determines it: the function, the
shapes of its arguments, and the versions of all code that can have a part in it.
"""

import hashlib
import importlib
import importlib.metadata
import inspect
import logging
import threading
from collections.abc import Callable, Iterator
from functools import cache, update_wrapper
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax import export

from fphojax.errors import StorageError
from fphojax.system.files import replacing

__all__ = ["Program", "n_ready", "program"]

log = logging.getLogger(__name__)

WINGS = "core", "inference", "mixtures"  # whose code can be part of a program
PACKAGES = "jax", "jaxlib", "numpyro", "equinox"
KNOWN = {"builtins", "fphojax", *PACKAGES}  # packages whose classes have these versions
FOLDER = "programs"  # in the folder where JAX keeps what it compiles

_ready: list[str] = []  # names of the programs of this process


class Program:
    """A function of pytrees, compiled once for all arguments of the same structure and shapes.

    Leaves of the arguments that are not arrays are part of the program.  What the function returns consists of
    arrays, in tuples, dicts and named tuples.
    """

    __name__: str

    def __init__(self, function: Callable) -> None:
        self._function, self._traced = function, eqx.filter_jit(function)
        self._ready: dict[Any, Callable] = {}
        self._lock = threading.Lock()
        update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        """Evaluate the function."""
        leaves, structure = jax.tree.flatten(arguments)
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return self._traced(*arguments)
        key, arrays = _split(leaves, structure)
        call = self._ready.get(key)
        if call is None:
            with self._lock:
                call = self._ready.get(key)
                if call is None:
                    call = self._ready[key] = self._prepared(key, arrays)
                    _ready.append(self.__name__)
        return _restored(call(*arrays))

    def _prepared(self, key, arrays):
        """Return a function of the arrays: read from the disk, or traced and, if possible, written there."""
        structure, fixed, _ = key
        path = self._path(key)

        def function(*arrays):
            rest = iter(arrays)
            leaves = [next(rest) if value is _ARRAY else value for value in fixed]
            return _plain(self._function(*jax.tree.unflatten(structure, leaves)))

        function.__name__ = self.__name__  # by which JAX reports what it compiles
        if path is None:
            return jax.jit(function)
        if path.is_file():
            try:
                return self._compiled(export.deserialize(bytearray(path.read_bytes())))
            except Exception as error:  # whatever a damaged file leads to; it is written anew
                log.debug("%s: %s, expected a program", path, error)
        exported = export.export(jax.jit(function))(*arrays)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as new:
                new.write_bytes(exported.serialize())
        except (OSError, StorageError) as error:  # a full disk is no reason to stop
            log.debug("%s: %s, the program is not kept", path, error)
        return self._compiled(exported)

    def _compiled(self, exported):
        def call(*arrays):
            return exported.call(*arrays)

        call.__name__ = self.__name__
        # what an exported program returns is bound to its device; with what is not, it would be compiled again
        return jax.jit(call, in_shardings=jax.sharding.SingleDeviceSharding(jax.devices()[0]))

    def _path(self, key):
        """Return the file of a program; None where its name could not tell all that determines it."""
        structure, fixed, shapes = key
        folder = _folder()
        text = f"{structure} {fixed} {shapes}"
        # an address, of a function for instance, means something else in the next process
        if folder is None or " at 0x" in text or not _packages(structure, fixed) <= KNOWN:
            return None
        name = f"{self._function.__module__}.{self._function.__qualname__}"
        setting = jax.default_backend(), jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision
        digest = hashlib.sha256(f"{name} {setting} {_version()} {text}".encode())
        digest.update(Path(inspect.getfile(self._function)).read_bytes())  # of another wing, perhaps
        return folder / f"{name.rpartition('.')[2]}-{digest.hexdigest()[:32]}"


def program(function: Callable) -> Program:
    """Make a function a `Program`; a decorator."""
    return Program(function)


def n_ready() -> int:
    """Return how many programs this process has compiled, or read from the disk."""
    return len(_ready)


class _Array:
    def __repr__(self) -> str:
        return "*"


_ARRAY = _Array()
_CLASS = "class "


def _split(leaves, structure):
    """Return what determines a program, hashable, and the arrays among the leaves."""
    fixed, shapes, arrays = [], [], []
    for leaf in leaves:
        if isinstance(leaf, jax.Array | np.ndarray | np.generic):
            fixed.append(_ARRAY)
            shapes.append((leaf.shape, leaf.dtype))
            arrays.append(leaf)
        else:
            fixed.append(leaf)
    return (structure, tuple(fixed), tuple(shapes)), arrays


def _plain(result):
    """Replace named tuples, which the disk does not keep, by a dict of their class and their fields."""
    if isinstance(result, tuple) and hasattr(result, "_fields"):
        kind = type(result)
        return {f"{_CLASS}{kind.__module__}:{kind.__qualname__}": tuple(map(_plain, result))}
    if isinstance(result, tuple | list):
        return type(result)(map(_plain, result))
    if isinstance(result, dict):
        return {name: _plain(part) for name, part in result.items()}
    return result


def _restored(plain):
    """Make what `_plain` was made of."""
    if isinstance(plain, dict):
        (name, *more) = plain or [""]
        if not more and name.startswith(_CLASS):
            module, kind = name.removeprefix(_CLASS).split(":")
            return getattr(importlib.import_module(module), kind)(*map(_restored, plain[name]))
        return {name: _restored(part) for name, part in plain.items()}
    if isinstance(plain, tuple | list):
        return type(plain)(map(_restored, plain))
    return plain


def _packages(structure, fixed) -> set[str]:
    """Return the packages that the classes in a structure and among the fixed leaves come from."""

    def classes(thing) -> Iterator[type]:
        if isinstance(thing, type):
            yield thing
        elif isinstance(thing, tuple | list):
            for part in thing:
                yield from classes(part)
        elif isinstance(thing, dict):
            yield from classes(list(thing.values()))
        else:
            yield type(thing)

    def nodes(tree) -> Iterator[type]:
        data = tree.node_data()
        if data is not None:
            yield from classes(data)
        for child in tree.children():
            yield from nodes(child)

    return {
        kind.__module__.partition(".")[0] for found in (nodes(structure), classes(fixed)) for kind in found
    }


def _folder() -> Path | None:
    """Return the folder where programs are kept; None where nothing is."""
    folder = jax.config.jax_compilation_cache_dir
    return None if folder is None else Path(folder) / FOLDER


@cache
def _version() -> str:
    """Return a digest of the code and the packages that programs are made of."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for wing in WINGS:
        for path in sorted((root / wing).rglob("*.py")):
            digest.update(path.read_bytes())
    for name in PACKAGES:
        digest.update(importlib.metadata.version(name).encode())
    return digest.hexdigest()
