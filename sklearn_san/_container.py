"""Trees of data in one file, without pickle: nothing in the file is executed when it is loaded.

A file is of safetensors, so that other tools can read the weights: all arrays, and in the header's
metadata, under ``"sklearn_san"``, a JSON *description* with

==============  ============================================================================
``"sha256"``    digest of every byte of the file but its own 64
``"format"``    `FORMAT`
``"content"``   what the tree is
``"versions"``  of the packages that wrote the file; for people, never compared
``"tree"``      the tree, as `_trees` writes it
==============  ============================================================================

The digest finds damage. It does not tell who wrote a file; that one from a stranger can do no harm
is due to the way it is read: `_trees` makes nothing but data, and `_saved_states` knows what that
must be. `read_plain` makes no instances, and needs no torch, which takes seconds to import.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ._kinds import CorruptModelError, UnfitState
from ._plain_trees import PlainDecoder

if TYPE_CHECKING:
    from torch import Tensor

#: To be raised with every change after which older versions could not read a file rightly.
FORMAT = 1
#: What a file with a fitted estimator says that it holds.
MODEL = "SANConditionalDensityEstimator"
#: Where such a file has what scikit-learn keeps in `_metadata_request`.
REQUESTS = "metadata_requests"
#: Key of the description in the metadata, and its digest there: JSON text inside JSON text.
_KEY = "sklearn_san"
_DIGEST = re.compile(rb'\{\\"sha256\\":\\"([0-9a-f]{64})\\"')


def read_checked(path: str | os.PathLike[str], *, content: str = "tree") -> Any:
    """Tree from a file with the bytes of `dump_tree`; parameters and errors as for `load_tree`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CorruptModelError
        If `path` is a folder, or its content is none that `load_tree` takes.
    """
    return load_tree(_bytes_in(path), content=content, source=repr(os.fspath(path)))


def read_plain(path: str | os.PathLike[str], *, content: str) -> tuple[Any, dict[str, str]]:
    """The same tree of plain values, and the versions of the packages that wrote it.

    Tensors are arrays, instances are `Record`s, and what these hold is not checked.
    """
    from safetensors.numpy import load

    data, source = _bytes_in(path), repr(os.fspath(path))
    description = _undamaged(data, source)
    with rebuilding(source):
        _check_readable(description, content, source)
        return PlainDecoder(load(data)).decode(description["tree"]), dict(description["versions"])


def check_path(path: str | os.PathLike[str]) -> None:
    """Raise unless there is a file; errors as for `read_checked`."""
    shown = os.fspath(path)
    if os.path.isdir(path):
        raise CorruptModelError(f"{shown!r} is a folder; give the name of a file.")
    if not os.path.exists(path):
        raise FileNotFoundError(f"There is no file {shown!r}; check its name.")


def _bytes_in(path: str | os.PathLike[str]) -> bytes:
    check_path(path)
    with open(path, "rb") as file:
        return file.read()


def dump_tree(tree: Any, *, content: str = "tree") -> bytes:
    """Bytes of a tree; equal trees give equal bytes on equal versions of all packages.

    Parameters
    ----------
    tree : object
        Nested dict, list and tuple of None, bool, int, float, str, scalars and arrays of numpy
        (of numbers, text, dates, or objects that are themselves in this list), torch tensors,
        dtypes and devices, `numpy.random.RandomState`, and instances of
        `_saved_states.CLASSES`. Tensors come back on the CPU, and arrays with their values, dtype
        and order in memory.
    content : str, default="tree"
        What the tree is; `load_tree` asks for it.

    Returns
    -------
    bytes

    Raises
    ------
    TypeError
        If there is anything else in the tree; tells where.

    Examples
    --------
    >>> load_tree(dump_tree({"shape": (8, 8), "limit": float("inf")}))
    {'shape': (8, 8), 'limit': inf}
    """
    from ._trees import Encoder

    encoder = Encoder()
    description = {
        "sha256": "0" * 64,
        "format": FORMAT,
        "content": content,
        "versions": _versions(),
        "tree": encoder.encode(tree, ""),
    }
    return sealed(description, encoder.tensors)


def sealed(description: dict[str, Any], tensors: dict[str, Tensor]) -> bytes:
    """File with a description that begins with the place for the digest."""
    from safetensors.torch import save

    text = json.dumps(description, separators=(",", ":"), allow_nan=False)
    data = save(tensors, {_KEY: text})
    start, stop = _digest_place(data)
    return b"".join([data[:start], _digest(data, start, stop), data[stop:]])


def description_of(data: bytes) -> dict[str, Any]:
    """Description in a file, as it stands there."""
    return json.loads(_header(data)["__metadata__"][_KEY])


def load_tree(data: bytes, *, content: str = "tree", source: str = "The data") -> Any:
    """Tree from the bytes of `dump_tree`, checked before anything is made of them.

    Parameters
    ----------
    data : bytes
    content : str, default="tree"
        What the tree must be.
    source : str, default="The data"
        Name of the data in errors.

    Returns
    -------
    object

    Raises
    ------
    CorruptModelError
        If the bytes are not those that `dump_tree` made, down to the last bit, are of a later
        format, or hold something else than `content`.
    """
    from safetensors.torch import load

    from ._trees import Decoder

    description = _undamaged(data, source)
    with rebuilding(source):
        _check_readable(description, content, source)
        return Decoder(load(data)).decode(description["tree"])


def _undamaged(data: bytes, source: str) -> dict[str, Any]:
    """Description in a file that matches its checksum."""
    try:
        start, stop = _digest_place(data)
        description = description_of(data)
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise CorruptModelError(
            f"{source} is no file that sklearn_san wrote, or its beginning is damaged; give one "
            "that was written by `save`."
        ) from error
    if data[start:stop] != _digest(data, start, stop):
        raise CorruptModelError(
            f"{source} is damaged: its content does not match its checksum; restore it from a "
            "copy or save the model again."
        )
    return description


@contextmanager
def rebuilding(source: str) -> Iterator[None]:
    """Have whatever is raised by data that were made up say so; `source` is their name."""
    remedy = "give a file that `save` wrote"
    try:
        with np.errstate(all="ignore"):
            yield
    except (CorruptModelError, MemoryError):
        raise
    except UnfitState as error:
        raise CorruptModelError(f"{source} cannot be rebuilt: {error}; {remedy}.") from None
    except Exception as error:
        raise CorruptModelError(
            f"{source} cannot be rebuilt ({type(error).__name__}: {error}); {remedy}."
        ) from error


def _check_readable(description: dict[str, Any], content: str, source: str) -> None:
    """Raise unless a file holds `content`, in a format that this version of the package reads."""
    if description["format"] > FORMAT:
        raise CorruptModelError(
            f"{source} has format {description['format']}, written by sklearn_san "
            f"{description['versions']['sklearn_san']}, but this version reads formats up to "
            f"{FORMAT}; install a newer sklearn_san."
        )
    if description["content"] != content:
        raise CorruptModelError(
            f"{source} holds {description['content']!r}, not {content!r}; give another file."
        )


def _header(data: bytes) -> Any:
    """Header of a safetensors file: the size of a JSON text, and that text."""
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def _digest_place(data: bytes) -> tuple[int, int]:
    """Where the digest starts and stops."""
    end = 8 + int.from_bytes(data[:8], "little")
    match = _DIGEST.search(data, 8, min(end, len(data)))
    if match is None:
        raise ValueError("The header has no digest.")
    return match.span(1)


def _digest(data: bytes, start: int, stop: int) -> bytes:
    """Digest, in hexadecimal, of all bytes but those from `start` to `stop`."""
    view = memoryview(data)
    digest = hashlib.sha256(view[:start])
    digest.update(view[stop:])
    return digest.hexdigest().encode()


def _versions() -> dict[str, str]:
    import sklearn
    import torch

    return {
        # Looked up, because no module imports the package above it
        "sklearn_san": sys.modules[__name__.partition(".")[0]].__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "torch": str(torch.__version__),
    }
