"""Words in which to declare what values must be that nobody can be trusted for.

============  =============================================================================
`Kind`        what a value must be, in words and as a function
`Relation`    what an attribute must be to others
`Rule`        kinds and relations of all attributes of one class
`UnfitState`  the error that names the attribute, what it must be, and what it is
============  =============================================================================

Nothing here needs torch, which takes seconds to import: tensors are known by their `detach`.

Kinds are made by `whole`, `one_of`, `instance`, `listed`, `array` and `given`, and joined by ``|``.
A *state* is attributes by name. The size of a list or an array may be given by the name of another
attribute, which is the size itself or has it.
"""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ._constants import NUMBERS

#: The largest size that is declared anywhere.
LARGEST = 2**31 - 1

State = Mapping[str, Any]


class UnfitState(ValueError):
    """Saved data are not what the package could have written; tells where."""


class CorruptModelError(ValueError):
    """A file holds no model that can be loaded: damaged, made up, foreign, or of a later format."""

    __module__ = "sklearn_san.exceptions"  # where it is public


class _LeftOut:
    """What stands for an attribute that is not there."""

    def __repr__(self) -> str:
        return "nothing"


NOTHING = _LeftOut()


@dataclass(frozen=True)
class Kind:
    """What a value must be, in words and as a function of it and the state that it is part of."""

    words: str
    holds: Callable[[Any, State], Any]

    def __or__(self, other: Kind) -> Kind:
        return Kind(
            f"{self.words} or {other.words}",
            lambda value, state: self.holds(value, state) or other.holds(value, state),
        )


class Relation(NamedTuple):
    """What the attribute `name` of an instance must be to others."""

    name: str
    words: str
    holds: Callable[[Any], Any]


@dataclass(frozen=True)
class Rule:
    """What a state must be."""

    kinds: Mapping[str, Kind]
    relations: Sequence[Relation] = ()
    #: Whether attributes without a kind are kept: those of classes that are not ours
    is_open: bool = False

    def check(self, state: State, path: str) -> None:
        """Raise for an attribute of another kind."""
        for name, kind in self.kinds.items():
            value = state.get(name, NOTHING)
            if not holds_true(kind.holds, value, state):
                raise unfit(joined(path, name), kind.words, value)

    def check_relations(self, instance: Any, path: str) -> None:
        """Raise for attributes that do not go together."""
        for name, words, holds in self.relations:
            if not holds_true(holds, instance):
                value = getattr(instance, name, NOTHING)
                raise unfit(joined(path, name), words, value)


def unfit(path: str, words: str, value: Any) -> UnfitState:
    """Error that `value` at `path` is not what it must be."""
    return UnfitState(f"{path} must be {words}, got {_described(value)}")


def joined(path: str, key: Any) -> str:
    """Path of what stands under a key."""
    return f"{path}.{key}".lstrip(".") if type(key) is str else f"{path}[{key!r}]"


def holds_true(holds: Callable[..., Any], *values: Any) -> bool:
    """Whether it does; values may be of any type, for which operations may not be defined."""
    try:
        return bool(holds(*values))
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return False


def _as_array(value: Any) -> Any:
    """Tensors as arrays; anything else as it is."""
    return value.detach().numpy() if hasattr(value, "detach") else value


def _described(value: Any) -> str:
    array = _as_array(value)
    if isinstance(array, np.ndarray):
        shown = f"an array of {array.dtype}, shape {array.shape}"
        return f"{shown}, {array.tolist()}" if array.size <= 8 else shown
    plain = value is None or isinstance(value, (bool, *NUMBERS, str, list, tuple, _LeftOut))
    return reprlib.repr(value) if plain else f"a value of type {type(value).__name__}"


def _size(state: State, size: int | str) -> int:
    """A size that is given itself, or by an attribute that is it or has it."""
    value = state[size] if isinstance(size, str) else size
    return int(value) if isinstance(value, (int, np.integer)) else len(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, NUMBERS) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def whole(low: int, high: int = LARGEST) -> Kind:
    """A whole number."""
    return Kind(
        f"a whole number from {low} to {high}", lambda v, _: _is_whole(v) and low <= v <= high
    )


def one_of(*choices: Any) -> Kind:
    """One of a few plain values."""
    known = ", ".join(map(repr, choices))
    return Kind(
        known if len(choices) == 1 else f"one of {known}",
        lambda v, _: any(isinstance(v, type(choice)) and v == choice for choice in choices),
    )


def instance(*classes: type) -> Kind:
    """An instance."""
    return Kind(" or ".join(c.__name__ for c in classes), lambda v, _: isinstance(v, classes))


def listed(kind: Kind, size: int | str | None = None) -> Kind:
    """A list, whose length may be given."""
    length = "" if size is None else f", as many as {size}"
    return Kind(
        f"a list of {kind.words}{length}",
        lambda v, s: (
            type(v) is list
            and (size is None or len(v) == _size(s, size))
            and all(kind.holds(item, s) for item in v)
        ),
    )


def given(flag: str, kind: Kind) -> Kind:
    """A kind that matters where another attribute is true."""
    return Kind(f"{kind.words} with {flag}", lambda v, s: not s[flag] or kind.holds(v, s))


class Values(NamedTuple):
    """What the values of an array must be."""

    words: str
    dtypes: tuple[type, ...]
    hold: Callable[[Any], Any] = lambda v: True  # of the array, for all or one by one


def array(values: Values, *shape: int | str) -> Kind:
    """An array of numpy or torch, whose sizes may be given by other attributes."""

    def holds(value: Any, state: State) -> bool:
        value = _as_array(value)
        return (
            isinstance(value, np.ndarray)
            and any(value.dtype == dtype for dtype in values.dtypes)
            and value.shape == tuple(_size(state, size) for size in shape)
            and bool(np.all(values.hold(value)))
        )

    sizes = ", ".join(map(str, shape)) + "," * (len(shape) == 1)
    return Kind(f"{values.words} in an array of shape ({sizes})", holds)


def _are_limits(v: np.ndarray) -> Any:
    low, high = v[..., 0], v[..., 1]
    return (low <= high) & (low < np.inf) & (high > -np.inf)  # false for nan


ANY = Kind("anything", lambda v, s: True)
LEFT_OUT = Kind("left out", lambda v, s: v is NOTHING)
NONE = Kind("None", lambda v, s: v is None)
FALSE = Kind("False", lambda v, s: isinstance(v, (bool, np.bool_)) and not v)
FLAG = Kind("True or False", lambda v, s: isinstance(v, (bool, np.bool_)))
TEXT = Kind("text", lambda v, s: isinstance(v, str))
TEXTS = Kind(
    "a dict of text",
    lambda v, s: type(v) is dict and all(isinstance(t, str) for pair in v.items() for t in pair),
)
_MOST = sys.float_info.max
NUMBER = Kind("a number", lambda v, s: _is_number(v))
FINITE = Kind("a finite number", lambda v, s: _is_number(v) and -_MOST <= v <= _MOST)
POSITIVE = Kind("a positive number", lambda v, s: _is_number(v) and 0 < v <= _MOST)
SHARE = Kind("a number from 0 to 1", lambda v, s: _is_number(v) and 0 <= v < 1)

_FLOATS, _INTEGERS = (np.float32, np.float64), (np.int32, np.int64)
SHARES = Values("numbers from 0 to 1", _FLOATS, lambda v: (v >= 0) & (v < 1))
FINITES = Values("finite numbers", _FLOATS, np.isfinite)
POSITIVES = Values("positive finite numbers", _FLOATS, lambda v: (v > 0) & np.isfinite(v))
LIMITS = Values("lower and upper limits", _FLOATS, _are_limits)
TRIANGLE = Values(
    "finite numbers below the diagonal", _FLOATS, lambda v: np.isfinite(v) & (np.triu(v) == 0)
)
FLAGS = Values("booleans", (np.bool_,))
COLUMNS = Values("column numbers", _INTEGERS, lambda v: v >= 0)
RISING = Values("rising column numbers", _INTEGERS, lambda v: np.diff(v, prepend=-1) > 0)
EACH_ONCE = Values(
    "all column numbers, each once", _INTEGERS, lambda v: np.sort(v) == np.arange(len(v))
)
NAMES = Values("text", (object,), lambda v: [isinstance(name, str) for name in v])
