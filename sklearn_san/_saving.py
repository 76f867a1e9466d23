"""Fitted models in one file, without pickle: nothing in the file is executed when it is loaded.

A file is of safetensors, so that other tools can read the weights: all arrays, and in the header's
metadata, under ``"sklearn_san"``, a JSON *description* with

==============  ============================================================================
``"sha256"``    digest of every byte of the file but its own 64
``"format"``    `FORMAT`
``"content"``   what the tree is
``"versions"``  of the packages that wrote the file; for people, never compared
``"tree"``      the tree
==============  ============================================================================

A *tree* is what is made of the values that `dump_tree` lists. In JSON, None, booleans, whole
numbers, finite floats, text and lists stand for themselves; any other value is an object with one
key, its kind, such as ``{"tuple": [1, 2]}``. Instances can only be of the classes in `CLASSES`.

The digest finds damage. It does not tell who wrote a file; that one from a stranger can do no harm
is due to the way it is read.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TypeVar

import numpy as np
import sklearn
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from ._columns import FeatureTable
from ._engines import load_kernels
from ._inputs import InputEncoder
from ._network import ACTIVATIONS, SAN, Block, LayerNorm, Linear, LinearBase
from ._scaling import SCALERS, OutputScaler, _ColumnScaler
from ._targets import TargetCodec
from .exceptions import CorruptModelError
from .likelihoods import LIKELIHOODS, Inflated

#: To be raised with every change after which older versions could not read a file rightly.
FORMAT = 1

#: The classes of which a file may hold instances; its own attributes are the whole of each.
CLASSES: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        SAN,
        LinearBase,
        Block,
        Linear,
        LayerNorm,
        nn.Identity,
        nn.ModuleList,
        *ACTIVATIONS.values(),
        FeatureTable,
        InputEncoder,
        OutputScaler,
        _ColumnScaler,
        *SCALERS.values(),
        TargetCodec,
        Inflated,
        *LIKELIHOODS.values(),
    )
}

#: What a file with a fitted estimator says that it holds.
_ESTIMATOR = "SANConditionalDensityEstimator"
#: Where that file has what scikit-learn keeps in `_metadata_request`.
_REQUESTS = "metadata_requests"
#: Attributes that begin so are no part of a fitted model: callbacks, or are saved in another way.
_LEFT_OUT = ("_callback", "_parent_callback", "_skl_callback", "_metadata_request")
#: Methods that meta-estimators may be told to pass metadata to, and how they are told.
_REQUESTING = {name: f"set_{name}_request" for name in ("fit", "partial_fit", "predict", "score")}
#: Key of the description in the metadata, and its digest there: JSON text inside JSON text.
_KEY = "sklearn_san"
_DIGEST = re.compile(rb'\{\\"sha256\\":\\"([0-9a-f]{64})\\"')
#: Arrays that every version of safetensors knows; others are stored as bytes.
_NATIVE = {np.dtype(code) for code in ("?", "i1", "i2", "i4", "i8", "u1", "f2", "f4", "f8")}
_BYTES = "biufcSUmM"
_TORCH_DTYPES = {str(value): value for value in vars(torch).values() if type(value) is torch.dtype}

Estimator = TypeVar("Estimator", bound=BaseEstimator)


def save_estimator(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted estimator to `path`; see `SANConditionalDensityEstimator.save`."""
    check_is_fitted(estimator, "network_")
    state = {k: v for k, v in vars(estimator).items() if not k.startswith(_LEFT_OUT)}
    tree = state | {_REQUESTS: _metadata_requests(estimator)}
    write_atomically(path, dump_tree(tree, content=_ESTIMATOR))


def load_estimator(cls: type[Estimator], path: str | os.PathLike[str]) -> Estimator:
    """Estimator of class `cls` from `path`; see `SANConditionalDensityEstimator.load`."""
    state = read_checked(path, content=_ESTIMATOR)
    if not isinstance(state, dict) or not isinstance(state.get("network_"), SAN):
        raise CorruptModelError(f"{os.fspath(path)!r} holds no network; save the model again.")
    requests = state.pop(_REQUESTS, {})
    # Parameters that an older file does not know keep their defaults.
    estimator = cls()
    vars(estimator).update(state)
    try:
        with sklearn.config_context(enable_metadata_routing=True):
            for method in requests:
                getattr(estimator, _REQUESTING[method])(**requests[method])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CorruptModelError(
            f"{os.fspath(path)!r} has metadata requests {requests!r}, which this estimator does "
            "not take; save the model again without them."
        ) from error
    load_kernels(state["network_"])
    return estimator


def _metadata_requests(estimator: Any) -> dict[str, dict[str, Any]]:
    """What was set by `set_fit_request` and its like."""
    if not hasattr(estimator, "_metadata_request"):
        return {}
    routing = estimator.get_metadata_routing()
    requests = {method: dict(getattr(routing, method).requests) for method in _REQUESTING}
    return {method: request for method, request in requests.items() if request}


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file that at any time is either the old one or the whole new one.

    The data goes to a temporary file in the same folder, to the disk, and then takes the place
    of `path` in one step. A symbolic link is followed; an existing file keeps its permissions.

    Parameters
    ----------
    path : str or path-like
    data : bytes

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    PermissionError
        If the file or the folder may not be written to.
    ValueError
        If `path` is a folder or a device.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(os.path.join(folder, "a"), b"text")
    ...     os.listdir(folder)
    ['a']
    """
    shown, target = os.fspath(path), os.path.realpath(path)
    folder, exists = os.path.dirname(target), os.path.exists(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"The folder of {shown!r} does not exist; create it first.")
    if exists and not os.path.isfile(target):
        raise ValueError(f"{shown!r} is no file but a folder or device; give the name of a file.")
    if not os.access(folder, os.W_OK) or (exists and not os.access(target, os.W_OK)):
        raise PermissionError(f"{shown!r} may not be written to; choose another folder or name.")
    with replacing(target) as temporary, open(temporary, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    _flush_folder(folder)


@contextmanager
def replacing(path: str) -> Iterator[str]:
    """Name of a temporary file that takes the place of `path` in one step if all goes well.

    If anything is raised, it is removed, and `path` stays as it was.
    """
    target = os.path.realpath(path)
    temporary = os.path.join(os.path.dirname(target), f".{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        if os.path.exists(target):
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.remove(temporary)
        raise


def _flush_folder(folder: str) -> None:
    """Bring the new name in a folder to the disk, where systems know how to."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_checked(path: str | os.PathLike[str], *, content: str = "tree") -> Any:
    """Tree from a file with the bytes of `dump_tree`; parameters and errors as for `load_tree`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CorruptModelError
        If `path` is a folder, or its content is none that `load_tree` takes.
    """
    shown = os.fspath(path)
    if os.path.isdir(path):
        raise CorruptModelError(f"{shown!r} is a folder; give the name of a file.")
    if not os.path.exists(path):
        raise FileNotFoundError(f"There is no file {shown!r}; check its name.")
    with open(path, "rb") as file:
        return load_tree(file.read(), content=content, source=repr(shown))


def dump_tree(tree: Any, *, content: str = "tree") -> bytes:
    """Bytes of a tree; equal trees give equal bytes on equal versions of all packages.

    Parameters
    ----------
    tree : object
        Nested dict, list and tuple of None, bool, int, float, str, scalars and arrays of numpy
        (of numbers, text, dates, or objects that are themselves in this list), torch tensors,
        dtypes and devices, `numpy.random.RandomState`, and instances of `CLASSES`. Tensors come
        back on the CPU, and arrays with their values, dtype and order in memory.
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
    from safetensors.torch import save

    encoder = _Encoder()
    description = {
        "sha256": "0" * 64,
        "format": FORMAT,
        "content": content,
        "versions": _versions(),
        "tree": encoder.encode(tree, ""),
    }
    text = json.dumps(description, separators=(",", ":"), allow_nan=False)
    data = save(encoder.tensors, {_KEY: text})
    start, stop = _digest_place(data)
    return b"".join([data[:start], _digest(data, start, stop), data[stop:]])


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
    try:
        start, stop = _digest_place(data)
        description = json.loads(_header(data)["__metadata__"][_KEY])
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
    try:
        return _rebuild(data, description, content, source)
    except (CorruptModelError, MemoryError):
        raise
    except Exception as error:  # whatever a file that was made up may lead to
        raise CorruptModelError(
            f"{source} cannot be rebuilt ({type(error).__name__}: {error}); save the model again."
        ) from error


def _rebuild(data: bytes, description: dict[str, Any], content: str, source: str) -> Any:
    """Tree of an undamaged file that this version of the package can read."""
    from safetensors.torch import load

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
    return _Decoder(load(data), source).decode(description["tree"])


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
    return {
        # Looked up, because no module imports the package above it
        "sklearn_san": sys.modules[__name__.partition(".")[0]].__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "torch": str(torch.__version__),
    }


class _Encoder:
    """Turns a tree into what JSON can hold, and sets its arrays aside.

    Attributes
    ----------
    tensors : dict of str to Tensor
        Copies of all arrays, by their place in the tree.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._numbers: dict[int, int] = {}  # of instances that are done, by identity

    def encode(self, value: Any, path: str) -> Any:
        """JSON for `value`, which stands at `path`."""
        kind = type(value)
        if value is None or kind in (bool, int, str) or (kind is float and math.isfinite(value)):
            return value
        if kind is list:
            return self._items(value, path)
        if kind is float:
            return {"float": repr(value)}
        if kind is tuple:
            return {"tuple": self._items(value, path)}
        if kind is dict:
            return {"dict": self._pairs(value, path)}
        if isinstance(value, np.generic):
            return {"scalar": self._array(np.asarray(value), path)}
        if kind is np.ndarray:
            return self._array(value, path)
        if kind is Tensor:
            return {"tensor": self._put(path, value)}
        if kind is nn.Parameter:
            return {"parameter": [self._put(path, value), value.requires_grad]}
        if kind in (torch.dtype, torch.device):
            return {"dtype" if kind is torch.dtype else "device": str(value)}
        if kind is np.random.RandomState:
            return {"random": self._random_state(value, path)}
        return self._instance(value, path)

    def _items(self, values: Any, path: str) -> list[Any]:
        return [self.encode(value, f"{path}[{i}]") for i, value in enumerate(values)]

    def _pairs(self, values: dict[Any, Any], path: str) -> list[Any]:
        pairs = []
        for key, value in values.items():
            at = f"{path}.{key}".lstrip(".") if type(key) is str else f"{path}[{key!r}]"
            pairs.append([self.encode(key, at), self.encode(value, at)])
        return pairs

    def _array(self, array: np.ndarray, path: str) -> dict[str, Any]:
        dtype, shape = array.dtype, list(array.shape)
        if dtype.kind == "O":
            return {"objects": [shape, self._items(array.ravel().tolist(), path)]}
        if dtype == np.dtypes.StringDType():
            return {"strings": [shape, array.ravel().tolist()]}
        if dtype in _NATIVE:
            kind, rows = ("transposed", array.T) if array.flags.fnc else ("array", array)
            return {kind: self._put(path, torch.from_numpy(np.array(rows, order="C")))}
        if dtype.kind not in _BYTES:
            _refuse(array, path)
        data = np.frombuffer(bytearray(array.tobytes()), np.uint8)
        return {"bytes": [self._put(path, torch.from_numpy(data)), dtype.str, shape]}

    def _random_state(self, value: np.random.RandomState, path: str) -> Any:
        state = value.get_state(legacy=False)
        if state["bit_generator"] != "MT19937":
            _refuse(value, path)
        return self.encode(state, path)

    def _instance(self, value: Any, path: str) -> dict[str, Any]:
        if id(value) in self._numbers:
            return {"again": self._numbers[id(value)]}
        name = type(value).__name__
        if CLASSES.get(name) is not type(value):
            _refuse(value, path)
        state = _module_state(value) if isinstance(value, nn.Module) else vars(value)
        encoded = {"instance": [name, self._pairs(state, path)]}
        self._numbers[id(value)] = len(self._numbers)
        return encoded

    def _put(self, path: str, value: Tensor) -> str:
        name = path or "value"
        while name in self.tensors or name == "__metadata__":
            name += "_"
        # Copied, because arrays that share memory cannot be stored
        self.tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return name


def _refuse(value: Any, path: str) -> NoReturn:
    kind = type(value).__name__
    if isinstance(value, np.ndarray):
        kind += f" of {value.dtype}"
    raise TypeError(
        f"{path or 'The tree'} holds a value of type {kind}, which cannot be saved without pickle: "
        "only numbers, text, arrays and the package's own classes can; use `joblib.dump` instead."
    )


def _module_state(module: nn.Module) -> dict[str, Any]:
    """What pickle keeps: attributes, parameters, buffers and children, in this order; no hooks."""
    attributes = module.__getstate__() if isinstance(module, SAN) else vars(module)
    common = vars(nn.Module()).keys() - {"training"}
    return {
        **{name: value for name, value in attributes.items() if name not in common},
        **dict(module.named_parameters(recurse=False)),
        **dict(module.named_buffers(recurse=False)),
        **dict(module.named_children()),
    }


class _Decoder:
    """Turns what `_Encoder` made into the tree again.

    Parameters
    ----------
    tensors : dict of str to Tensor
    source : str
        Name of the data in errors.
    """

    def __init__(self, tensors: dict[str, Tensor], source: str):
        self.tensors = tensors
        self.source = source
        self._instances: list[Any] = []
        self._kinds: dict[str, Callable[[Any], Any]] = {
            "float": float,
            "tuple": lambda items: tuple(self.decode(items)),
            "dict": self._dict,
            "scalar": lambda array: self.decode(array)[()],
            "array": lambda name: self._get(name).numpy(),
            "transposed": lambda name: self._get(name).numpy().T,
            "bytes": self._bytes,
            "objects": self._objects,
            "strings": self._strings,
            "tensor": self._get,
            "parameter": lambda pair: nn.Parameter(self._get(pair[0]), pair[1]),
            "dtype": _TORCH_DTYPES.__getitem__,
            "device": torch.device,
            "random": self._random_state,
            "instance": self._instance,
            "again": lambda number: self._instances[number],
        }

    def decode(self, node: Any) -> Any:
        """Value that stands for the JSON `node`."""
        if isinstance(node, list):
            return [self.decode(item) for item in node]
        if not isinstance(node, dict):
            return node
        ((kind, content),) = node.items()
        return self._kinds[kind](content)

    def _get(self, name: str) -> Tensor:
        # Copied into memory aligned as torch does, on which the last bit of sums may depend
        return self.tensors[name].clone()

    def _dict(self, pairs: list[Any]) -> dict[Any, Any]:
        return {self.decode(key): self.decode(value) for key, value in pairs}

    def _bytes(self, content: list[Any]) -> np.ndarray:
        name, code, shape = content
        dtype = np.dtype(code)
        if dtype.kind not in _BYTES:
            raise ValueError(f"arrays of {dtype} cannot be in a file")
        return np.frombuffer(self._get(name).numpy().tobytes(), dtype).reshape(shape).copy()

    def _objects(self, content: list[Any]) -> np.ndarray:
        shape, items = content
        array = np.empty(len(items), dtype=object)
        for i, item in enumerate(items):
            array[i] = self.decode(item)
        return array.reshape(shape)

    def _strings(self, content: list[Any]) -> np.ndarray:
        shape, items = content
        return np.array(items, dtype=np.dtypes.StringDType()).reshape(shape)

    def _random_state(self, state: Any) -> np.random.RandomState:
        random_state = np.random.RandomState(0)
        random_state.set_state(self.decode(state))
        return random_state

    def _instance(self, content: list[Any]) -> Any:
        name, pairs = content
        if name not in CLASSES:
            raise CorruptModelError(
                f"{self.source} names the class {name!r}, which is not part of any model; do not "
                "trust it."
            )
        cls: Any = CLASSES[name]
        instance, state = cls.__new__(cls), self._dict(pairs)
        if isinstance(instance, nn.Module):
            _set_module_state(instance, state)
        else:
            vars(instance).update(state)
        self._instances.append(instance)
        return instance


def _set_module_state(module: nn.Module, state: dict[str, Any]) -> None:
    nn.Module.__init__(module)
    for name, value in state.items():
        if type(value) is Tensor:
            module.register_buffer(name, value)
        else:  # torch registers parameters and children by their type
            setattr(module, name, value)
