"""How kernels are compiled, and where the result is kept between processes.

==============  ============================================================================
`piece`         a function that is part of the kernels that call it
`kernel`        a function that is compiled once, for the types of its first call
`twin`          a kernel again, with other functions in the place of some that it calls
`prepare`       compiles a kernel for given arguments, or reads it from the folder
`is_kept`       whether reading is enough
`unavailable`   why kernels cannot be used here, if they cannot
==============  ============================================================================

Compiled kernels are kept in a folder named after the versions, the CPU and all files that hold
kernels or their numbers: each contains code of the files that it calls, of whose changes numba
alone would take no notice. A file that cannot be read or written is no error; the kernel is then
compiled anew.
"""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import llvmlite
import numba
from llvmlite import binding
from numba import config, njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.misc.appdirs import AppDirs

from ..exceptions import KernelCacheWarning

_COMMON: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
#: Files of this folder in which no kernel is.
WITHOUT_KERNELS = {"__init__.py", "engine.py"}
#: What the compiler may change: contract products and sums, or also the order of sums.
_EXACT, _SUMS = {"contract"}, {"contract", "reassoc", "nsz"}


def cpu() -> tuple[str, str]:
    """Name and features of the CPU that code is compiled for, by default this one."""
    features = config.CPU_FEATURES
    if features is None:
        features = binding.get_host_cpu_features().flatten()
    return config.CPU_NAME or binding.get_host_cpu_name(), features


def unavailable() -> str | None:
    """Why kernels cannot be used in this process, or None."""
    return "NUMBA_DISABLE_JIT is set" if config.DISABLE_JIT else None


def piece(function: Callable) -> Any:
    """Decorator for what is written into the kernels that call it, so that loops become vectors."""
    return njit(inline="always", error_model="numpy", fastmath=_EXACT)(function)


def kernel(
    function: Callable | None = None, *, reorder_sums: bool = False, borrows: bool = False
) -> Any:
    """Decorator for a function that is compiled on its own, and kept.

    One that `borrows` neither makes nor returns arrays, nor gets any from a function that does not:
    nobody counts references to those that it is given, and to parts of them. Each count would
    take as long as fifty products, since threads may share it.
    """
    if function is None:
        return lambda function: kernel(function, reorder_sums=reorder_sums, borrows=borrows)
    fastmath = _SUMS if reorder_sums else _EXACT
    dispatcher = njit(fastmath=fastmath, _nrt=not borrows, **_COMMON)(function)
    if unavailable() is None and folder() is not None:
        dispatcher._cache = _KernelCache(function)
    return dispatcher


def twin(dispatcher: Any, name: str, *, reorder_sums: bool = False, **others: Any) -> Any:
    """A kernel of the same source, with `others` in the place of what it calls by their names.

    Closures would do the same, but numba finds none of those in the folder in another process.
    """
    function = getattr(dispatcher, "py_func", dispatcher)  # itself with NUMBA_DISABLE_JIT
    other = FunctionType(function.__code__, {**function.__globals__, **others}, name)
    other.__qualname__, other.__doc__ = name, function.__doc__
    return kernel(other, reorder_sums=reorder_sums)


def prepare(dispatcher: Any, *arguments: Any) -> None:
    """Have a kernel ready for arguments of these types."""
    if folder() is None:
        _warn_not_kept("no folder for them can be written to")
    dispatcher.compile(_types(arguments))


def is_kept(dispatcher: Any, *arguments: Any) -> bool:
    """Whether a kernel for arguments of these types is ready, or can be read from the folder."""
    types = _types(arguments)
    if types in dispatcher.signatures:
        return True
    return folder() is not None and dispatcher._cache.holds(types, dispatcher.targetctx)


def _types(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(numba.typeof(argument) for argument in arguments)


@cache
def folder() -> str | None:
    """Folder of the kept kernels, made if it is missing; None if there is none to write to."""
    name = f"sklearn_san-{_fingerprint()}"
    for parent in _parents():
        path = os.path.join(parent, name)
        try:
            os.makedirs(path, exist_ok=True)
            tempfile.TemporaryFile(dir=path).close()
        except OSError:
            continue
        return path
    return None


def _parents() -> Iterator[str]:
    """Where the folder may be: the user's choice, next to the code, or the user's own cache."""
    if config.CACHE_DIR:
        yield config.CACHE_DIR
        return
    yield os.path.join(os.path.dirname(__file__), "__pycache__")
    if os.path.isabs(os.path.expanduser("~")):
        yield AppDirs(appname="numba", appauthor=False).user_cache_dir


@cache
def _fingerprint(sources: Path = Path(__file__).parent) -> str:
    """Digest of all that the compiled code of the files in a folder depends on."""
    digest = hashlib.sha256()
    for value in (
        numba.__version__,
        llvmlite.__version__,
        platform.python_version(),
        platform.machine(),
        *cpu(),
    ):
        digest.update(f"{value}\n".encode())
    for path in [*sorted(sources.glob("*.py")), sources.parent / "_constants.py"]:
        if path.name not in WITHOUT_KERNELS:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


class _Place:
    """Tells numba's cache where the kernels are; their folder says what they depend on."""

    def __init__(self, function: Callable, file: str):
        self._py_file = file
        self._lineno = function.__code__.co_firstlineno

    @classmethod
    def from_function(cls, function: Callable, file: str) -> _Place:
        return cls(function, file)

    def ensure_cache_path(self) -> None:
        os.makedirs(self.get_cache_path(), exist_ok=True)

    def get_cache_path(self) -> str:
        return str(folder())

    def get_source_stamp(self) -> str:
        return _fingerprint()

    def get_disambiguator(self) -> str:
        return str(self._lineno)


class _Implementation(CompileResultCacheImpl):
    _locator_classes = [_Place]  # noqa: RUF012


class _KernelCache(FunctionCache):
    """Cache of one kernel, in which no file is trusted to be whole, and no disk to have room."""

    _impl_class = _Implementation

    def holds(self, types: tuple[Any, ...], target_context: Any) -> bool:
        """Whether there is an entry for arguments of these types."""
        target_context.refresh()
        try:
            index = self._cache_file._load_index()
        except Exception:
            return False
        return self._index_key(types, target_context.codegen()) in index

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # damaged or foreign: forgotten, so that it is replaced
            try:
                self.flush()
            except OSError as error:
                _warn_not_kept(str(error))
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _warn_not_kept(str(error))


_warned = False


def _warn_not_kept(reason: str) -> None:
    """Say once that kernels are compiled in every process."""
    global _warned
    if _warned:
        return
    _warned = True
    warnings.warn(
        f"Compiled kernels cannot be kept ({reason}), so that each process compiles its own, which "
        "takes about half a minute; set the environment variable NUMBA_CACHE_DIR to a folder that "
        "can be written to.",
        KernelCacheWarning,
        stacklevel=2,
    )
