"""Trees of data as JSON with the arrays set aside, and back.

A *tree* is what is made of the values that `_container.dump_tree` lists. In JSON, None, booleans,
whole numbers, finite floats, text and lists stand for themselves; any other value is an object with
one key, its kind, such as ``{"tuple": [1, 2]}``. Instances can only be of the classes in
`_saved_states.CLASSES`; a value that stands in several places is written once if it is one.

What is read may have been made up. `Decoder` therefore makes nothing but data, checks what numpy
and torch would take on trust, and leaves every instance to `_saved_states.rebuild`. What of it
needs no torch is in `_plain_trees`.
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from ._kinds import State, joined
from ._network import SAN
from ._plain_trees import BYTES, PlainDecoder, check_booleans
from ._saved_states import CLASSES, RANDOM_STATE, rebuild

#: Arrays that every version of safetensors knows; others are stored as bytes.
_NATIVE = {np.dtype(code) for code in ("?", "i1", "i2", "i4", "i8", "u1", "f2", "f4", "f8")}
_TORCH_DTYPES = {str(value): value for value in vars(torch).values() if type(value) is torch.dtype}


class Encoder:
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
        if value is ...:
            return {"ellipsis": None}
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
            at = joined(path, key)
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
        if dtype.kind not in BYTES:
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


class Decoder(PlainDecoder):
    """Turns what `Encoder` made into the tree again.

    Parameters
    ----------
    tensors : dict of str to Tensor
    """

    def __init__(self, tensors: dict[str, Tensor]):
        super().__init__(tensors)
        self._kinds |= {
            "tensor": lambda name, _: self._tensor(name),
            "parameter": lambda pair, _: nn.Parameter(self._tensor(pair[0]), pair[1]),
            "dtype": lambda name, _: _TORCH_DTYPES[name],
            "device": lambda name, _: torch.device(name),
            "random": self._random_state,
        }

    def _tensor(self, name: str) -> Tensor:
        tensor = self._stored[name]
        if tensor.dtype == torch.bool:
            check_booleans(tensor.view(torch.uint8).numpy(), name)
        # Copied into memory aligned as torch does, on which the last bit of sums may depend
        return tensor.clone()

    def _array(self, name: str) -> np.ndarray:
        return self._tensor(name).numpy()

    def _random_state(self, node: Any, path: str) -> np.random.RandomState:
        state = self.decode(node, path)
        RANDOM_STATE.check(state, path)
        random_state = np.random.RandomState(0)
        random_state.set_state(state)
        return random_state

    def _make(self, name: str, state: State, path: str) -> Any:
        return rebuild(name, state, path)
