"""Trees of data from their JSON as plain values, without torch and the classes of the instances.

===============  =========================================================================
`PlainDecoder`   tensors become arrays, and instances records; `_trees.Decoder` makes both
`Record`         an instance as data
===============  =========================================================================

See `_trees` for what stands in the JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._kinds import State, UnfitState, joined, unfit

#: Kinds of dtypes whose arrays may be stored as bytes.
BYTES = "iufcSUmM"
#: Usual values of parameters, which are not shown; nor is None.
USUAL = {
    **{"at": "low", "atoms": 50, "bins": 8, "interpolate": False, "offset": 0.0, "spacing": 1.0},
    **dict.fromkeys(("copy", "with_mean", "with_std", "with_centering", "with_scaling"), True),
    **{"feature_range": (0, 1), "clip": False, "quantile_range": (25.0, 75.0)},
    **{"unit_variance": False, "method": "yeo-johnson", "standardize": True},
}


@dataclass(frozen=True, repr=False)
class Record:
    """An instance as data: the name of its class, and its attributes."""

    name: str
    state: State

    @property
    def parameters(self) -> dict[str, Any]:
        """Attributes that were given to the constructor, in the order of their names."""
        return {k: self.state[k] for k in sorted(self.state) if not (k[0] == "_" or k[-1] == "_")}

    def __repr__(self) -> str:
        unusual = {
            name: value
            for name, value in self.parameters.items()
            if value is not None and repr(value) != repr(USUAL.get(name))
        }
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in unusual.items())})"


class PlainDecoder:
    """Turns JSON into plain values.

    Parameters
    ----------
    stored : dict of str to array
        Arrays by the names that stand in the JSON.
    """

    def __init__(self, stored: Mapping[str, Any]):
        self._stored = stored
        self._instances: list[Any] = []
        self._kinds: dict[str, Callable[[Any, str], Any]] = {
            "float": lambda text, _: float(text),
            "tuple": lambda items, path: tuple(self.decode(items, path)),
            "dict": self._dict,
            "ellipsis": lambda _, path: ...,
            "scalar": self._scalar,
            "array": lambda name, _: self._array(name),
            "transposed": lambda name, _: self._array(name).T,
            "bytes": self._bytes,
            "objects": self._objects,
            "strings": self._strings,
            "tensor": lambda name, _: self._array(name),
            "parameter": lambda pair, _: Record("Parameter", {"data": self._array(pair[0])}),
            "dtype": lambda name, _: name,
            "device": lambda name, _: name,
            "random": lambda node, path: Record("RandomState", {}),
            "instance": self._instance,
            "again": self._again,
        }

    def decode(self, node: Any, path: str = "") -> Any:
        """Value that stands for the JSON `node` at `path`; an error tells the path."""
        try:
            if isinstance(node, list):
                return [self.decode(item, f"{path}[{i}]") for i, item in enumerate(node)]
            if not isinstance(node, dict):
                return node
            ((kind, content),) = node.items()
            return self._kinds[kind](content, path)
        except (UnfitState, MemoryError, RecursionError):
            raise
        except Exception as error:  # whatever data that were made up may lead to
            reason = f"{type(error).__name__}: {error}"
            raise UnfitState(f"{path or 'the tree'} is no data of ours ({reason})") from error

    def _array(self, name: str) -> np.ndarray:
        array = self._stored[name]
        if array.dtype == bool:
            check_booleans(array.view(np.uint8), name)
        return array

    def _make(self, name: str, state: State, path: str) -> Any:
        return Record(name, state)

    def _dict(self, pairs: list[Any], path: str) -> dict[Any, Any]:
        found = {}
        for node, value in pairs:
            key = self.decode(node, path)
            found[key] = self.decode(value, joined(path, key))
        return found

    def _scalar(self, node: Any, path: str) -> Any:
        array = self.decode(node, path)
        if array.ndim:
            raise ValueError(f"shape {array.shape} instead of ()")
        return array[()]

    def _bytes(self, content: list[Any], _: str) -> np.ndarray:
        name, code, shape = content
        dtype = np.dtype(code)
        if dtype.kind not in BYTES:
            raise ValueError(f"arrays of {dtype} are not stored as bytes")
        array = np.frombuffer(self._array(name).tobytes(), dtype).reshape(shape).copy()
        if dtype.kind == "U":
            array.tolist()  # fails where numbers stand for no character
        return array

    def _objects(self, content: list[Any], path: str) -> np.ndarray:
        shape, items = content
        array = np.empty(len(items), dtype=object)
        for i, item in enumerate(items):
            array[i] = self.decode(item, f"{path}[{i}]")
        return array.reshape(shape)

    def _strings(self, content: list[Any], _: str) -> np.ndarray:
        shape, items = content
        return np.array(items, dtype=np.dtypes.StringDType()).reshape(shape)

    def _instance(self, content: list[Any], path: str) -> Any:
        name, pairs = content
        instance = self._make(name, self._dict(pairs, path), path)
        self._instances.append(instance)
        return instance

    def _again(self, number: int, path: str) -> Any:
        n_before = len(self._instances)
        if type(number) is not int or not 0 <= number < n_before:
            raise unfit(path, f"one of {n_before} instances that come before", number)
        return self._instances[number]


def check_booleans(codes: np.ndarray, name: str) -> None:
    """Raise unless booleans, looked at as whole numbers, are 0 or 1."""
    if (codes > 1).any():  # numpy counts such booleans wrongly, and then writes as many as it finds
        raise ValueError(f"{name} holds booleans that are neither 0 nor 1")
