"""Options of the command line: what each argument may be, and the configuration file.

A configuration file is TOML. Its keys are the names of the options of ``fit``, with tables
``[limits]``, ``[errors]`` and ``[parameters]``; what the command line says goes before it.
"""

from __future__ import annotations

import ast
import importlib
import math
import re
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable
from typing import Any

from .formats import listing, suggestion
from .tables import UsageError, check_file

_OTHER_WAYS = {
    "limits": "--limits",
    "output_names": "--targets",
    "random_state": "--seed",
    "verbose": "--quiet",
}
_WORDS = {"true": True, "false": False, "none": None, "null": None}


def limits_of(text: str) -> tuple[str, tuple[float, float]]:
    """Name and limits in ``NAME=LOW,HIGH``."""
    name, _, ends = text.rpartition("=")
    try:
        low, high = map(float, ends.split(","))
    except ValueError:
        name = ""
    if not name:
        raise ArgumentTypeError(f"{text!r} must be NAME=LOW,HIGH, such as mass=0,inf")
    return name, (low, high)


def grid_of(text: str) -> tuple[str, tuple[float, float, int]]:
    """Name, ends and number of points of a grid in ``NAME=LOW,HIGH,N``."""
    name, _, grid = text.rpartition("=")
    try:
        low, high, n = grid.split(",")
        ends, n_points = (float(low), float(high)), count(2)(n)
    except (ValueError, ArgumentTypeError):
        name = ""
    if not name or not -math.inf < ends[0] < ends[1] < math.inf:
        raise ArgumentTypeError(f"{text!r} must be NAME=LOW,HIGH,N, such as redshift=0,3,301")
    return name, (*ends, n_points)


def error_column(text: str) -> tuple[str, str]:
    """Name of a feature and of the column with its errors in ``NAME=COLUMN``."""
    name, _, column = text.partition("=")
    if not name or not column:
        raise ArgumentTypeError(f"{text!r} must be NAME=COLUMN, such as mag_g=mag_g_err")
    return name, column


def parameter(text: str) -> tuple[str, Any]:
    """Name and value in ``NAME=VALUE``; what is no literal of Python is text."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ArgumentTypeError(f"{text!r} must be NAME=VALUE, such as epochs=20")
    if value.lower() in _WORDS:
        return name, _WORDS[value.lower()]
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value


def share(text: str) -> float:
    """Number between 0 and 1."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.0 < number < 1.0:
        raise ArgumentTypeError(f"{text!r} must be a number between 0 and 1, such as 0.1")
    return number


def seed(text: str) -> int:
    """Seed of a random state."""
    return _whole_number(text, 0, 2**32 - 1)


def count(low: int) -> Callable[[str], int]:
    """Type of whole numbers from `low` on."""
    return lambda text: _whole_number(text, low, 2**31 - 1)


def _whole_number(text: str, low: int, high: int) -> int:
    if not re.fullmatch("[0-9]{1,10}", text) or not low <= int(text) <= high:
        raise ArgumentTypeError(f"{text!r} must be a whole number from {low} to {high}")
    return int(text)


def statistic(text: str) -> str:
    """Name of a statistic, checked."""
    if text not in ("mean", "std", "median", "mode") and not 0.0 < percent(text) < 100.0:
        raise ArgumentTypeError(
            f"{text!r} must be mean, std, median, mode, or a quantile in percent such as q05"
        )
    return text


def percent(statistic: str) -> float:
    """Percentage in the name of a quantile, nan in that of anything else."""
    if statistic == "median":
        return 50.0
    match = re.fullmatch(r"q([0-9]+(\.[0-9]+)?)", statistic)
    return float(match[1]) if match else math.nan


def _is(kind: type | tuple[type, ...]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind) and not isinstance(value, bool)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is((int, float)), value))


def _is_limits(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(ends, list) and len(ends) == 2 and all(map(_is((int, float)), ends))
        for ends in value.values()
    )


def _is_errors(value: Any) -> bool:
    return isinstance(value, dict) and _is_names(list(value.values()))


_TEXT = ("text", _is(str))
_NAMES = ("a list of names", _is_names)
_BOOLEAN = ("true or false", lambda value: isinstance(value, bool))
#: What each option of `fit` must be in a configuration file.
_CONFIGURABLE: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "table": _TEXT,
    "group": _TEXT,
    "model": _TEXT,
    "features": _NAMES,
    "features_from_file": _TEXT,
    "targets": _NAMES,
    "categorical": _NAMES,
    "weights": _TEXT,
    "seed": ("a whole number from 0", lambda value: _is(int)(value) and 0 <= value < 2**32),
    "test_fraction": (
        "a number between 0 and 1",
        lambda value: _is((int, float))(value) and 0 < value < 1,
    ),
    "drop_missing": _BOOLEAN,
    "quiet": _BOOLEAN,
    "overwrite": _BOOLEAN,
    "limits": ("a table of lists with two numbers", _is_limits),
    "errors": ("a table of names", _is_errors),
    "missing": ("a list of numbers", _is_numbers),
    "parameters": ("a table", _is(dict)),
}


def _read_config(path: str) -> dict[str, Any]:
    """Options in a TOML file, checked."""
    tomllib = _toml_reader()
    check_file(path)
    with open(path, "rb") as file:
        try:
            content = tomllib.load(file)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path!r} is not TOML: {error}.") from None
    config = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        if name not in _CONFIGURABLE:
            raise UsageError(
                f"{path!r} has the unknown option {key!r}{suggestion(name, _CONFIGURABLE)}; known "
                f"are {', '.join(_CONFIGURABLE)}."
            )
        accepted, is_right = _CONFIGURABLE[name]
        if not is_right(value):
            raise UsageError(f"{key!r} in {path!r} must be {accepted}, got {value!r}.")
        config[name] = value
    return config


def _toml_reader() -> Any:
    for name in ("tomllib", "tomli"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ImportError("--config needs Python 3.11 or the package tomli; run: pip install tomli")


def complete(options: Namespace) -> None:
    """Take from the configuration file what the command line leaves open."""
    config = {} if options.config is None else _read_config(options.config)
    if options.features or options.features_from_file:
        config.pop("features", None)
        config.pop("features_from_file", None)
    for name in ("limits", "errors"):
        setattr(options, name, {**config.pop(name, {}), **dict(getattr(options, name) or ())})
    options.parameters = {**config.pop("parameters", {}), **dict(options.set)}
    for name, value in config.items():
        if getattr(options, name) is None or getattr(options, name) is False:
            setattr(options, name, value)
    if options.features_from_file:
        options.features = _lines(options.features_from_file)
    wanted = {"table": "TABLE", "model": "--model", "features": "--features"}
    for name, shown in (wanted | {"targets": "--targets"}).items():
        if not getattr(options, name):
            raise UsageError(f"{shown} is missing; give it here or in a file with --config.")


def _lines(path: str) -> list[str]:
    """Names in a file, one a line."""
    check_file(path)
    with open(path, encoding="utf-8-sig") as file:
        return [line.strip() for line in file if line.strip()]


def check_fit(options: Namespace) -> None:
    """Raise for names that do not go together and parameters that are set in another way."""
    columns = [*options.features, *options.targets]
    for name in columns:
        if columns.count(name) > 1:
            raise UsageError(f"{name!r} is named twice among features and targets.")
    for name in options.parameters:
        if name in _OTHER_WAYS:
            raise UsageError(f"{name!r} cannot be set so; use {_OTHER_WAYS[name]}.")
    check_known(options.limits, options.targets, "--limits", "target")
    check_known(options.errors, options.features, "--errors", "feature")
    check_known(options.categorical or (), columns, "--categorical", "feature or target")


def check_known(names: Iterable[str], known: Iterable[str], what: str, kind: str) -> None:
    """Raise for the first of `names` that is not known."""
    known = list(known)
    for name in names:
        if name not in known:
            raise UsageError(
                f"{what} has no {kind} {name!r}{suggestion(name, known)}; known are "
                f"{listing(known, most=50)}."
            )
