"""The one place that checks what users pass; each error names the value and the remedy."""

from __future__ import annotations

import inspect
import math
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.compose import TransformedTargetRegressor
from sklearn.preprocessing import PowerTransformer
from sklearn.utils.validation import check_array

from ._columns import (
    check_categorical_features,
    checked,
    column_values,
    frame_columns,
    is_missing,
    is_sequence,
    is_series,
    refuse_dates,
)
from ._constants import NUMBERS
from ._network import ACTIVATIONS
from ._scaling import SCALERS, find_far, make_scaler
from ._tables import as_table, is_frame, places_of
from ._targets import on_limits
from .exceptions import (
    AlignmentWarning,
    DependentOutputsWarning,
    ExtremeValuesWarning,
    OutOfRangeWarning,
    ScaleWarning,
    TiesWarning,
    warn_caller,
)
from .likelihoods import LIKELIHOODS, Inflated, Likelihood, make_likelihood

#: Ties are looked for from this many rows on, as are functions among outputs, below this share of
#: different values.
MIN_ROWS_FOR_TIES, MAX_DIFFERENT = 50, 0.2
#: Positive values of which the largest is so many times the smallest are close to zero.
POSITIVE_RATIO = 10.0
#: Scalers that commute with means.
LINEAR = tuple(cls for cls in SCALERS if cls is not PowerTransformer)
#: Rows whose spread says something, and errors above it that may have other units.
MIN_ROWS_FOR_SPREAD, LARGE_ERROR = 10, 1.1
#: So many different values do no harm.
MANY_DIFFERENT = 2000
#: A value has mass of its own from this share of the rows and so many of them on, if it occurs so
#: many times more often than the mean of so many values on either side.
MASS, MIN_TIES, EXCESS, N_NEAR = 0.01, 5, 5.0, 10
#: An output is taken for a function of others if so much of its standard deviation is left, in so
#: many rows; products are tried of so many outputs.
LEFT_OF_FUNCTION, ROWS_FOR_FUNCTIONS, MAX_FACTORS = 1e-6, 2000, 10
#: The largest number that any parameter may be.
LARGEST = 2**31 - 1
#: The least spread of an output, and the inverse of its largest value.
LEAST = 1e-100
DTYPES = {"float32": torch.float32, "float64": torch.float64}
SUMMARIES = ("mean", "median", "std", "quantiles", "mode")
OUTPUT_TYPES = (*SUMMARIES, "interval", "samples")


def check_integer(
    name: str, value: Any, low: int, *, optional: bool = False, or_auto: bool = False
) -> None:
    """Raise unless `value` is an integer of at least `low`."""
    if (optional and value is None) or (or_auto and _is_text(value, "auto")):
        return
    accepted = f"an integer of at least {low}"
    accepted += " or None" if optional else " or 'auto'" if or_auto else ""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be {accepted}, got {value!r}.")
    if value < low:
        raise ValueError(f"{name} must be {accepted}, got {value!r}.")
    if int(value) > LARGEST:
        raise ValueError(f"{name} must be at most {LARGEST}, got {value!r}.")


def check_n_jobs(name: str, value: Any) -> None:
    """Raise unless `value` is None or a whole number that joblib takes."""
    accepted = "a positive integer, a negative one as for joblib, or None"
    if value is None:
        return
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be {accepted}, got {value!r}.")
    if value == 0 or abs(int(value)) > LARGEST:
        raise ValueError(f"{name} must be {accepted}, got {value!r}.")


def check_real(
    name: str,
    value: Any,
    low: float,
    high: float,
    *,
    low_included: bool = False,
    or_auto: bool = False,
) -> None:
    """Raise unless `value` is a number strictly between `low` and `high`, or equal to `low`.

    Or "auto" where that is allowed.
    """
    if or_auto and _is_text(value, "auto"):
        return
    accepted = f"a number {'of at least' if low_included else 'above'} {low:g}"
    accepted += "" if math.isinf(high) else f" and below {high:g}"
    accepted += " or 'auto'" if or_auto else ""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, NUMBERS):
        raise TypeError(f"{name} must be {accepted}, got {value!r}.")
    if not (low < value < high or (low_included and value == low)):
        raise ValueError(f"{name} must be {accepted}, got {value!r}.")
    if value > LARGEST:
        raise ValueError(f"{name} must be at most {LARGEST}, got {value!r}.")


def check_missing_rate(name: str, value: Any) -> None:
    """Raise unless `value` is a share, "auto", or a dict of shares by name of feature or part."""
    if not isinstance(value, Mapping):
        check_real(name, value, low=0.0, high=1.0, low_included=True, or_auto=True)
        return
    if not value:
        raise ValueError(f"{name} must name features or parts of X, got {value!r}; use 0.")
    for key, share in value.items():
        check_real(f"{name}[{key!r}]", share, low=0.0, high=1.0, low_included=True)


def missing_rates(rate: Any, names: list[str]) -> float | np.ndarray:
    """`missing_rate` as a number, or as one for each of the columns with these names."""
    if not isinstance(rate, Mapping):
        return 0.0 if rate == "auto" else float(rate)
    unknown = [key for key in rate if key not in names]
    if unknown:
        raise ValueError(
            f"missing_rate names {unknown[0]!r}, which is no feature or part of X; they are "
            f"{', '.join(names)}."
        )
    return np.array([float(rate.get(name, 0.0)) for name in names])


def check_boolean(name: str, value: Any, *, or_auto: bool = False) -> None:
    """Raise unless `value` is True or False, or "auto" where that is allowed."""
    if isinstance(value, (bool, np.bool_)) or (or_auto and _is_text(value, "auto")):
        return
    choices = "True, False or 'auto'" if or_auto else "True or False"
    raise TypeError(f"{name} must be {choices}, got {value!r}.")


def check_boolean_or_integer(name: str, value: Any) -> None:
    """Raise unless `value` is a boolean or an integer."""
    if not isinstance(value, (bool, np.bool_, Integral)):
        raise TypeError(f"{name} must be a boolean or an integer, got {value!r}.")


def check_folder(name: str, value: Any) -> None:
    """Raise unless `value` is None or the path of a folder, which may not be there yet."""
    if value is None:
        return
    accepted = "the path of a folder or None"
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} must be {accepted}, got {value!r}.")
    if not os.fspath(value) or (os.path.exists(value) and not os.path.isdir(value)):
        raise ValueError(f"{name} must be {accepted}, got {value!r}, which is none.")


def check_choice(
    name: str, value: Any, choices: tuple[str, ...], *, optional: bool = False
) -> None:
    """Raise unless `value` is one of `choices`."""
    if optional and value is None:
        return
    if not (isinstance(value, str) and value in choices):
        known = ", ".join(map(repr, choices))
        raise ValueError(f"{name} must be one of {known}; got {value!r}.")


def check_scaler(name: str, value: Any) -> None:
    """Raise unless `value` is a scaler that can be inverted, or stands for one."""
    make_scaler(value, name)


def check_categories(name: str, value: Any) -> None:
    """Raise unless `value` says which features are categories."""
    check_categorical_features(value)


def check_shape(name: str, value: Any, *, optional: bool = False, auto: bool = False) -> None:
    """Raise unless `value` is a non-empty sequence of positive integers."""
    if (optional and value is None) or (auto and isinstance(value, str) and value == "auto"):
        return
    accepted = "a non-empty sequence of positive integers, like (64, 64)"
    accepted += ", 'auto'" if auto else ""
    accepted += ", or None" if optional else ""
    if not is_sequence(value):
        raise TypeError(f"{name} must be {accepted}; got {value!r}.")
    if any(isinstance(v, (bool, np.bool_)) or not isinstance(v, Integral) for v in value):
        raise TypeError(f"{name} must be {accepted}; got {value!r}.")
    if len(value) == 0 or min(value) < 1:
        raise ValueError(f"{name} must be {accepted}; got {value!r}.")


def check_out(out: Any, shape: tuple[int, ...]) -> None:
    """Raise unless `out` has the given shape, floats, and blocks that can be assigned to."""
    takes_items = all(hasattr(out, name) for name in ("shape", "dtype", "__setitem__"))
    if not takes_items or dtype_of(out) is None:
        kind = out.dtype if isinstance(out, np.ndarray) else type(out).__name__
        raise TypeError(
            "out must be an array of float32 or float64, of numpy or of a file (HDF5, zarr) that "
            f"takes item assignment, got {kind}."
        )
    if tuple(out.shape) != shape:
        raise ValueError(f"out must have the shape of the draws, {shape}, got {tuple(out.shape)}.")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError("out is read-only; open the memory map with mode 'w+' or 'r+'.")


def dtype_of(out: Any) -> np.dtype | None:
    """float32 or float64, whatever the order of bytes; None for anything else."""
    try:
        dtype = np.dtype(out.dtype).newbyteorder("=")
    except TypeError:  # such as that of another library
        return None
    return dtype if dtype in (np.float32, np.float64) else None


def check_dtype(dtype: Any) -> np.dtype:
    """float32 or float64 as a numpy dtype."""
    try:
        checked = np.dtype(dtype)
    except (TypeError, ValueError):
        checked = None
    if checked not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64, got {dtype!r}.")
    return checked


def check_device(device: Any) -> torch.device:
    """Device to compute on; "auto" takes CUDA where there is one, else the CPU."""
    if _is_text(device, "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        checked = torch.device(device)
        torch.zeros(1, device=checked).item()
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"device={device!r} cannot be used here ({reason}); use 'auto' or 'cpu'."
        ) from None
    return torch.device("cpu") if checked.type == "cpu" else checked


def check_encoder(name: str, value: Any) -> None:
    """Raise unless `value` is an encoder, encoders of parts by name or in order, or None."""
    if value is None or callable(value):
        return
    accepted = (
        "a torch module, a function of the shape of a row that makes one, a dict of these by the "
        "names of parts, a tuple or list of these in the order of parts, or None"
    )
    if isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, (tuple, list)):
        parts = list(value)
    else:
        raise TypeError(f"{name} must be {accepted}; got {value!r}.")
    if any(not (one is None or callable(one)) for one in parts):
        raise TypeError(f"{name} must be {accepted}; got {value!r}.")
    if all(one is None for one in parts):
        raise ValueError(f"{name} must be {accepted}; got {value!r}, which has none.")


#: What each parameter of the constructor may be, whatever the data.
PARAMETERS: dict[str, Callable[[str, Any], None]] = {
    "K": partial(check_integer, low=1),
    "module_shape": check_shape,
    "first_module_shape": partial(check_shape, optional=True),
    "sequence_features": partial(check_integer, low=1),
    "encoder": check_encoder,
    "share_encoder": check_boolean,
    "encoder_shape": partial(check_shape, optional=True, auto=True),
    "feature_encoding": partial(check_choice, choices=("auto", "piecewise_linear"), optional=True),
    "tree_features": partial(check_boolean, or_auto=True),
    "synthetic_rows": partial(check_integer, low=0, or_auto=True),
    "activation": partial(check_choice, choices=tuple(ACTIVATIONS)),
    "layer_norm": check_boolean,
    "linear_base": partial(check_boolean, or_auto=True),
    "x_scaler": check_scaler,
    "y_scaler": check_scaler,
    "missing_rate": check_missing_rate,
    "nondetection": partial(check_choice, choices=("inf",), optional=True),
    "categorical_features": check_categories,
    "use_errors": check_boolean,
    "teacher_forcing": check_boolean,
    "train_rsample": check_boolean,
    "n_members": partial(check_integer, low=1, or_auto=True),
    "n_jobs": check_n_jobs,
    "epochs": partial(check_integer, low=1, or_auto=True),
    "batch_size": partial(check_integer, low=1, or_auto=True),
    "learning_rate": partial(check_real, low=0.0, high=math.inf),
    "weight_decay": partial(check_real, low=0.0, high=math.inf, low_included=True),
    "early_stopping": partial(check_boolean, or_auto=True),
    "validation_fraction": partial(check_real, low=0.0, high=1.0),
    "n_iter_no_change": partial(check_integer, low=1, optional=True),
    "dtype": partial(check_choice, choices=tuple(DTYPES)),
    "verbose": check_boolean_or_integer,
    "warm_start": check_boolean,
    "checkpoint_dir": check_folder,
}
#: Those that are looked at together with the data, or by scikit-learn.
WITH_DATA = {
    "likelihood",
    "likelihood_params",
    "limits",
    "order",
    "output_names",
    "device",
    "random_state",
}


def check_parameters(params: dict[str, Any]) -> None:
    """Raise for constructor parameters that are wrong whatever the data."""
    for name, check in PARAMETERS.items():
        check(name, params[name])
    if params["train_rsample"] and params["teacher_forcing"]:
        raise ValueError(
            "train_rsample=True needs teacher_forcing=False: with teacher forcing no draws "
            "are made during training."
        )


def check_limits(limits: Any, names: list[str]) -> np.ndarray:
    """Limits of every output as a float64 array (n_outputs, 2); None means none."""
    n_outputs = len(names)
    if limits is None:
        return np.tile([-np.inf, np.inf], (n_outputs, 1))
    if isinstance(limits, Mapping):
        return _limits_by_name(limits, names)
    if (rows := row_names(limits)) is not None and rows.dtype.kind not in "iu":
        own = [str(name) for name in rows]
        places = places_of(names, own, "y has", "limits by its index", unnamed=False)
        limits = np.asarray(limits)[places]
    try:
        array = np.array(_real_array(limits))
    except (TypeError, ValueError):
        raise ValueError(
            f"limits must be numbers in an array of shape ({n_outputs}, 2), got {limits!r}; "
            "use -inf and inf where an output has no limit."
        ) from None
    if array.shape == (2,):
        array = np.tile(array, (n_outputs, 1))
    if array.shape != (n_outputs, 2):
        raise ValueError(
            f"limits must have shape ({n_outputs}, 2), one row of lower and upper limit for each "
            f"output, or be one pair for all or a dict of pairs by name; got shape {array.shape}."
        )
    for d, (low, high) in enumerate(array):
        _check_pair(low, high, f"limits[{d}]")
    return array


def _limits_by_name(limits: Mapping[Any, Any], names: list[str]) -> np.ndarray:
    """Limits of the outputs that a dict names; others have none."""
    _refuse_unknown(limits, names, "limits")
    array = np.tile([-np.inf, np.inf], (len(names), 1))
    for name, pair in limits.items():
        try:
            low, high = _real_array(pair)
            array[names.index(name)] = low, high
        except (TypeError, ValueError):
            raise ValueError(
                f"limits[{name!r}] must be a lower and an upper limit, got {pair!r}."
            ) from None
        _check_pair(low, high, f"limits[{name!r}]")
    return array


def _check_pair(low: float, high: float, where: str) -> None:
    """Raise for limits of one output that leave nothing between them."""
    if np.isnan(low) or np.isnan(high):
        raise ValueError(
            f"{where} = ({low:g}, {high:g}): use -inf and inf where there is no limit."
        )
    if not low < high or low == np.inf or high == -np.inf:
        raise ValueError(
            f"{where} = ({low:g}, {high:g}): the lower limit must be below the upper one."
        )


def _refuse_unknown(given: Iterable[Any], names: list[str], what: str) -> None:
    """Raise for a key that is the name of no output."""
    for key in given:
        if key not in names:
            raise ValueError(
                f"{what} names {key!r}, which is not a column of y; they are {', '.join(names)}."
            )


def check_output_names(given: Any, names: list[str], *, are_own: bool) -> list[str]:
    """Names of the outputs: those that are given, else `names`, which may be y's own."""
    if given is None:
        return names
    entries: list[Any] = [None]
    if is_sequence(given) or hasattr(given, "nlevels"):
        entries = list(given)
    if not all(isinstance(entry, str) for entry in entries):
        raise TypeError(f"output_names must be a sequence of text or None, got {given!r}.")
    entries = [str(entry) for entry in entries]
    if len(entries) != len(names):
        raise ValueError(
            f"output_names has {len(entries)} entries, but y has {len(names)} outputs; name each."
        )
    for entry in entries:
        if entries.count(entry) > 1:
            raise ValueError(
                f"output_names must differ, got {entry!r} {entries.count(entry)} times."
            )
    if are_own and entries != names:
        raise ValueError(
            f"output_names must be those of y where it has names, {', '.join(names)}, got "
            f"{', '.join(entries)}; leave it out, or rename the columns."
        )
    return entries


def check_names(names: list[str]) -> None:
    """Raise for names of outputs that are not unique."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"y has {names.count(name)} columns {name!r}; rename all but one.")


def check_targets(
    y_range: np.ndarray, n_outside: np.ndarray, limits: np.ndarray, names: list[str]
) -> None:
    """Raise for training targets that are constant or outside the limits.

    Parameters
    ----------
    y_range : ndarray of shape (2, n_outputs)
        Smallest and largest value of each output; nan where there is none.
    n_outside : ndarray of shape (n_outputs,)
        Values outside the limits.
    limits : ndarray of shape (n_outputs, 2)
    names : list of str
    """
    for d, (name, n, least, most) in enumerate(zip(names, n_outside, *y_range, strict=True)):
        low, high = limits[d]
        if n:
            raise ValueError(
                f"y has {n} value{'s' if n > 1 else ''} outside limits for output {d} ({name}), "
                f"which allow [{low:g}, {high:g}]; widen the limits or drop those rows."
            )
        if np.isnan(least):
            raise ValueError(f"y has no value at all in output {d} ({name}); drop this output.")
        if least == most:
            raise ValueError(
                f"y is constant ({least + 0.0:g}) in output {d} ({name}) and so has no density; "
                "drop this output."
            )
        largest = max(abs(least), abs(most))
        if largest > 1.0 / LEAST or most - least < LEAST:
            raise ValueError(
                f"y has values of {largest:g} in output {d} ({name}); rescale it, so that squares "
                "of its values and of its spread can be computed."
            )


def check_errors(
    X_err: Any, shape: tuple[int, int], numbers: np.ndarray, names: list[str]
) -> np.ndarray:
    """Measurement errors (n_samples, n_features), not negative; nan stands for none."""
    refuse_dates(X_err, "X_err")
    array = checked(
        X_err, "X_err", ensure_all_finite="allow-nan", ensure_min_samples=min(1, shape[0])
    )
    if array.shape != shape:
        raise ValueError(f"X_err must have the shape of X, {shape}, got {array.shape}.")
    if (array < 0).any():
        raise ValueError(f"X_err must not be negative, got {array[array < 0][0]:g}.")
    others = np.setdiff1d(np.arange(shape[1]), numbers)
    if others.size and np.nan_to_num(array[:, others]).any():
        raise ValueError(
            f"X_err must be 0 or nan for the categories of feature {names[others[0]]!r}."
        )
    return array


def usable_errors(X_err: Any) -> tuple[Any, np.ndarray | None]:
    """Errors with none in rows in which one is negative or infinite, and these rows (n_rows,)."""
    try:
        numbers = np.asarray(X_err, dtype=np.float64)
    except (TypeError, ValueError):
        return X_err, None  # to be refused
    if numbers.ndim != 2:
        return X_err, None
    bad = np.asarray(((numbers < 0) | np.isinf(numbers)).any(axis=1))
    if not bad.any():
        return X_err, bad
    if hasattr(X_err, "where"):
        return X_err.where(np.broadcast_to(~bad[:, None], numbers.shape)), bad
    return np.where(bad[:, None], np.nan, numbers), bad


def check_order(order: Any, names: list[str]) -> tuple[np.ndarray, int]:
    """Autoregressive order as column numbers, (n_outputs,), and how many of them are settled.

    The rest is to be found from the rows; until then it is as given.
    """
    n_outputs = len(names)
    if order is None:
        return np.arange(n_outputs), n_outputs
    if isinstance(order, str) and order == "auto":
        return np.arange(n_outputs), 0
    if not is_sequence(order):
        raise TypeError(
            "order must be 'auto', None, or a sequence of column numbers or names, which may end "
            f"in ..., got {order!r}."
        )
    entries = list(order)
    is_open = bool(entries) and entries[-1] is ...
    first = [check_output(entry, names, "order") for entry in entries[: -1 if is_open else None]]
    if is_open:
        if len(set(first)) < len(first):
            raise ValueError(f"order={entries!r} must name no output more than once.")
        rest = [j for j in range(n_outputs) if j not in first]
        return np.array(first + rest), len(first)
    if sorted(first) != list(range(n_outputs)):
        raise ValueError(
            f"order={entries!r} must name each of the {n_outputs} outputs of y exactly once; end "
            "it in ... to leave the rest to the fit."
        )
    return np.array(first), n_outputs


def check_likelihoods(
    likelihood: Any,
    likelihood_params: Any,
    limits: np.ndarray,
    has_labels: list[bool],
    names: list[str],
    are_categories: list[bool],
) -> list[Likelihood]:
    """One unresolved family per output, in the order of y's columns.

    Parameters
    ----------
    likelihood, likelihood_params : object
        As given to the estimator.
    limits : ndarray of shape (n_outputs, 2)
        In the units of y.
    has_labels : list of bool
        Columns that can only be labels.
    names : list of str
    are_categories : list of bool
        Columns whose type says that they are labels, which "auto" heeds.
    """
    if likelihood_params is not None and not (
        isinstance(likelihood_params, dict) and all(isinstance(k, str) for k in likelihood_params)
    ):
        raise TypeError(
            f"likelihood_params must be a dict or None, got {likelihood_params!r}; its keys are "
            "names."
        )
    families = []
    for d, entry in enumerate(_likelihood_entries(likelihood, names)):
        where = f"output {d} ({names[d]})"
        family = _one_likelihood(entry, likelihood_params, np.isfinite(limits[d]).any(),
                                 has_labels[d] or are_categories[d])  # fmt: skip
        family.check(f"the likelihood of {where}")
        low, high = limits[d]
        if has_labels[d] and family.scaling != "none":
            raise ValueError(f"likelihood {entry!r} needs numbers, but {where} holds labels.")
        if family.needs_both_limits and not np.isfinite(limits[d]).all():
            raise ValueError(
                f"likelihood {entry!r} needs two finite limits for {where}, got "
                f"[{low:g}, {high:g}]."
            )
        if np.isfinite(limits[d]).any() and not family.bounded:
            raise ValueError(
                f"likelihood {entry!r} cannot respect the limits [{low:g}, {high:g}] of {where}; "
                "use 'truncated_mog', or no limits."
            )
        families.append(family)
    return families


def check_range(
    families: list[Likelihood], scaled_limits: np.ndarray, likelihood: Any, params: Any
) -> list[Likelihood]:
    """Families that respect the bounds which a scaler puts on its values.

    Those that "auto" chose are truncated where they must be; others raise.
    """
    checked = []
    for family, limits in zip(families, scaled_limits, strict=True):
        if np.isfinite(limits).any() and not family.bounded:
            if not _is_text(likelihood, "auto"):
                raise ValueError(
                    f"likelihood {family!r} cannot respect the range of the power transform used "
                    "as y_scaler; use 'truncated_mog'."
                )
            family = make_likelihood("truncated_mog", **(params or {}))
        checked.append(family)
    return checked


def _likelihood_entries(likelihood: Any, names: list[str]) -> list[Any]:
    """What was given for each output."""
    if isinstance(likelihood, (str, Likelihood)):
        return [likelihood] * len(names)
    if isinstance(likelihood, Mapping):
        _refuse_unknown(likelihood, names, "likelihood")
        return [likelihood.get(name, "auto") for name in names]
    if not isinstance(likelihood, Sequence):
        raise TypeError(
            f"likelihood must be 'auto', {', '.join(map(repr, LIKELIHOODS))}, an instance, a list "
            f"with one of these for each output or a dict by column name; got {likelihood!r}."
        )
    if len(likelihood) != len(names):
        raise ValueError(
            f"likelihood has {len(likelihood)} entries, but y has {len(names)} outputs; give one "
            "for all or one for each."
        )
    return list(likelihood)


def _one_likelihood(
    entry: Any, params: dict[str, Any] | None, bounded: bool, has_labels: bool
) -> Likelihood:
    if isinstance(entry, Likelihood):
        if params:
            raise ValueError(
                f"likelihood_params={params!r} cannot be combined with the instance {entry!r}; set "
                "its own parameters."
            )
        return entry
    if not isinstance(entry, str):
        raise TypeError(f"likelihood must hold short names or instances, got {entry!r}.")
    if entry == "auto" and has_labels:
        return make_likelihood("categorical")
    if entry == "auto":
        entry = "truncated_mog" if bounded else "mog"
    return make_likelihood(entry, **(params or {}))


def warn_of_ties(families: list[Likelihood], y: np.ndarray, names: list[str]) -> None:
    """Warn once if continuous families are to model values that repeat a lot, or one that does.

    Values that were rounded repeat like their neighbours, and do no harm where steps are small.
    """
    for d, (family, column) in enumerate(zip(families, y.T, strict=True)):
        observed = column[~np.isnan(column)]
        floor = getattr(family, "min_scale", None)
        if family.scaling != "free" or floor is not None or len(observed) < MIN_ROWS_FOR_TIES:
            continue
        values, counts = np.unique(observed, return_counts=True)
        where = f"in {len(observed)} rows of output {d} ({names[d]})"
        if len(values) < min(MAX_DIFFERENT * len(observed), MANY_DIFFERENT):
            message = (
                f"y has only {len(values)} different values {where}; a continuous density can "
                "become arbitrarily narrow around them. Use likelihood 'ordinal' for counts, "
                "'categorical' for labels, or set min_scale."
            )
        elif (heavy := _heavy_values(values, counts)).any():
            worst = int(np.argmax(np.where(heavy, counts, 0)))
            message = (
                f"y is {values[worst]:g} {counts[worst]} times {where}, far more often than values "
                "next to it; a continuous density becomes arbitrarily narrow there, and its log "
                "means nothing. Use likelihood Inflated(base, "
                f"at={values[worst]:g}), which gives the value a probability, or drop those rows "
                "if it stands for a missing one."
            )
        else:
            continue
        warnings.warn(message, TiesWarning, stacklevel=7)
        return


def warn_of_extremes(values: np.ndarray, names: list[str], what: str) -> None:
    """Warn once if some values (n_samples, n_columns) are far from all others of their column."""
    finite = np.where(np.abs(values) < 1.0 / LEAST, values, np.nan)  # others are refused
    far = find_far(finite)
    columns = np.flatnonzero(far.any(axis=0))
    for d in columns[:1]:
        own = finite[far[:, d], d]
        different, counts = np.unique(own, return_counts=True)
        most = int(counts.argmax())
        text = (
            f"the value {different[most]:g} in {counts[most]} of {len(values)} rows"
            if counts[most] > 1
            else f"values up to {different[np.abs(different).argmax()]:g} in {len(own)} of "
            f"{len(values)} rows"
        )
        warnings.warn(
            f"{what} {d} ({names[d]}) has {text}, far outside of all others; if this stands for a "
            "missing value, make it nan, and if it is a mistake, drop those rows. They do not set "
            "the scale, but means of outputs follow them."
            + (f" So have {', '.join(names[j] for j in columns[1:])}." if len(columns) > 1 else ""),
            ExtremeValuesWarning,
            stacklevel=7,
        )


def warn_of_range(encoder: Any, X: np.ndarray) -> None:
    """Warn if some rows are far outside of what was trained on."""
    is_outside = encoder.is_outside(X)
    n = int(is_outside.sum())
    if n:
        name, value = encoder.most_outside(X[is_outside])
        warn_caller(
            f"{n} of {len(is_outside)} rows ({n / len(is_outside):.2%}) have features far outside "
            f"of the range in fit, such as {value:g} in {name!r}, where the density is "
            "extrapolated and means little; novelty_score tells how unlike the rows of fit each "
            "is. A number that stands for a missing value is to be nan.",
            OutOfRangeWarning,
        )


def warn_of_functions(
    families: list[Likelihood],
    y: np.ndarray,
    names: list[str],
    X: np.ndarray,
    feature_names: list[str],
) -> None:
    """Warn once if an output is a function of other outputs, or of numbers among the features.

    Looked for are sums, and products, squares and logarithms of outputs.

    Parameters
    ----------
    families : list of Likelihood
    y : ndarray of shape (n_samples, n_outputs)
    names : list of str
    X : ndarray of shape (n_samples, n_features)
        Features that are numbers.
    feature_names : list of str
    """
    rows = slice(None, None, -(-len(y) // ROWS_FOR_FUNCTIONS))
    y, X = y[rows], X[rows]
    X = X[:, np.isfinite(X).all(axis=0)]
    usual = ~(np.isnan(y) | find_far(y)).any(axis=1) & ~find_far(X).any(axis=1)
    y, X = y[usual], X[usual]
    for d, (family, name) in enumerate(zip(families, names, strict=True)):
        if family.scaling != "free":
            continue
        others = [j for j in range(len(names)) if j != d]
        for kind, terms, of in (
            ("linear function", y[:, others], [names[j] for j in others]),
            ("linear function", X, feature_names),
            ("function", *_products(y[:, others], [names[j] for j in others])),
        ):
            used = _explaining(terms, y[:, d])
            if used.any():
                sources = dict.fromkeys(
                    name for j in np.flatnonzero(used) for name in np.atleast_1d(of[j]).tolist()
                )
                warnings.warn(
                    f"Output {d} ({name}) is a {kind} of {', '.join(sources)}, to within 1e-6 of "
                    "its spread: given these it has no density, and the log density is a large "
                    "number that means nothing. Leave it out of y and compute it from them.",
                    DependentOutputsWarning,
                    stacklevel=7,
                )
                return


def warn_of_needles(name: str, *, stacklevel: int) -> None:
    """Warn of an output that training has found to follow exactly from what comes before it."""
    warnings.warn(
        f"Output {name} has become as narrow as it can: given the features and the outputs before "
        "it, it seems to have no density but to be a function of them, or to repeat values; its "
        "log density means nothing. Leave it out of y, or set min_scale.",
        DependentOutputsWarning,
        stacklevel=stacklevel,
    )


def _products(values: np.ndarray, names: list[str]) -> tuple[np.ndarray, list[Any]]:
    """Columns, their squares, products and logarithms, and of which columns each is made."""
    columns, of = list(values.T), list[Any](names)
    n = values.shape[1] if values.shape[1] <= MAX_FACTORS else 0
    for i in range(n):
        if (values[:, i] > 0).all():
            columns.append(np.log(values[:, i]))
            of.append(names[i])
        for j in range(i, n):
            columns.append(values[:, i] * values[:, j])
            of.append([names[i], names[j]])
    return np.array(columns).T.reshape(len(values), len(columns)), of


def _explaining(terms: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Which of the terms (n_rows, n_terms) sum up to a column; none if they do not."""
    none = np.zeros(terms.shape[1], dtype=bool)
    spread = np.std(terms, axis=0)
    n_least = max(MIN_ROWS_FOR_TIES, 2 * terms.shape[1])
    if len(terms) < n_least or not (spread > 0).any() or not np.std(column) > 0:
        return none
    used = np.flatnonzero(spread > 0)
    scaled = (terms[:, used] - terms[:, used].mean(axis=0)) / spread[used]
    target = (column - column.mean()) / np.std(column)
    share, *_ = np.linalg.lstsq(scaled, target, rcond=1e-10)
    if not np.sqrt(np.mean((target - scaled @ share) ** 2)) < LEFT_OF_FUNCTION:
        return none
    none[used[np.abs(share) > 1e-4]] = True
    return none


def _heavy_values(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Which of the sorted values have a real mass, unlike their neighbours; of their shape."""
    heavy = (counts > MASS * counts.sum()) & (counts >= MIN_TIES)
    for i in np.flatnonzero(heavy):
        near = np.concatenate([counts[max(i - N_NEAR, 0) : i], counts[i + 1 : i + 1 + N_NEAR]])
        heavy[i] = counts[i] > EXCESS * near.mean()
    return heavy


def warn_of_power(
    scaler: Any,
    families: list[Likelihood],
    ranges: np.ndarray,
    limits: np.ndarray,
    names: list[str],
) -> None:
    """Warn if a power transform is not used, or stands without limits over positive outputs.

    `ranges` (n_outputs, 2) are the smallest and largest values.
    """
    power = isinstance(made := make_scaler(scaler, "y_scaler"), PowerTransformer)
    linear = [names[d] for d, family in enumerate(families) if isinstance(family, Inflated)]
    if power and linear:
        warn_caller(
            f"y_scaler={scaler!r} is not used for {', '.join(linear)}, standardised instead: the "
            "likelihood there needs values that are scaled linearly.",
            ScaleWarning,
        )
    if not power or made.method == "box-cox":
        return
    for d, (least, most) in enumerate(ranges):
        free = families[d].scaling == "free" and np.isneginf(limits[d, 0])
        if free and least > 0 and most > POSITIVE_RATIO * least:
            warn_caller(
                f"y_scaler={scaler!r} does not keep output {d} ({names[d]}) positive, as it is in "
                f"y, from {least:g} to {most:g}: draws may be negative. Use y_scaler='box-cox' "
                "with limits=(0, inf), or model the logarithm.",
                ScaleWarning,
            )
            return


def warn_of_large_errors(X: np.ndarray, X_err: np.ndarray | None, names: list[str]) -> None:
    """Warn if the median error of a feature exceeds its spread: they may have other units."""
    if X_err is None or len(X) < MIN_ROWS_FOR_SPREAD:
        return
    for j, name in enumerate(names):
        error, column = X_err[:, j], X[:, j][np.isfinite(X[:, j])]
        known = error[np.isfinite(error) & (error > 0)]
        if 2 * len(known) < len(error) or not len(column):
            continue
        typical, spread = np.median(known), column.std()
        if typical > LARGE_ERROR * spread:
            warn_caller(
                f"X_err of feature {name!r} has a median of {typical:.3g}, above the standard "
                f"deviation of X, {spread:.3g}; errors must be in the units of X as the estimator "
                "sees it, so behind a scaler in a pipeline they must be scaled as well.",
                ScaleWarning,
            )
            return


def warn_of_transformed_targets() -> None:
    """Warn if `fit` is called by a TransformedTargetRegressor, whose means are biased.

    They are not if its transformation is linear. It tells nothing of itself to its regressor.
    """
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, TransformedTargetRegressor) and not (
            caller.func is None and isinstance(caller.transformer, (type(None), *LINEAR))
        ):
            warn_caller(
                "TransformedTargetRegressor transforms the mean of the density back, which is not "
                "the mean of y, and its score is R2; fit the estimator to y with y_scaler and "
                "limits instead, or use output_type='median'.",
                ScaleWarning,
            )
            return
        frame = frame.f_back


def warn_of_misaligned(index: Any, **others: Any) -> None:
    """Warn once if another table has the rows of X, by their index, in another order.

    They are taken as they come, as everywhere in scikit-learn.
    """
    for name, other in others.items():
        own = row_names(other)
        if index is None or own is None or len(own) != len(index) or own.equals(index):
            continue
        if own.is_unique and index.is_unique and own.sort_values().equals(index.sort_values()):
            warn_caller(
                f"{name} has the rows of X in another order by its index, but rows are taken as "
                f"they come; pass {name}.loc[X.index] if they belong together by name, or reset "
                "the index.",
                AlignmentWarning,
            )
            return


def row_names(table: Any) -> Any:
    """Index of a frame or column of pandas; None for what has none."""
    index = getattr(table, "index", None) if hasattr(table, "iloc") else None
    return index if hasattr(index, "nlevels") else None


def refuse_infinities(X: np.ndarray, names: list[str]) -> None:
    """Raise for infinite features where they are no state of their own."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(X.sum()):
            return
    infinite = np.isinf(X)
    if infinite.any():
        j = int(infinite.any(axis=0).argmax())
        raise ValueError(
            f"Input X contains infinity in {infinite[:, j].sum()} rows of feature {names[j]!r}; "
            "set nondetection='inf' if it stands for what was looked for and not seen, or make it "
            "nan where a value is missing."
        )


def check_weight(sample_weight: Any, n_rows: int, *, may_be_zero: bool = False) -> np.ndarray:
    """Weights as (n_rows,) float64: finite, not negative, not all zero unless they may be."""
    sample_weight = as_table(sample_weight, "sample_weight")
    refuse_dates(sample_weight, "sample_weight")
    weight = checked(
        sample_weight, "sample_weight", ensure_2d=False, ensure_min_samples=min(1, n_rows)
    )
    if weight.ndim != 1 or len(weight) != n_rows:
        raise ValueError(
            f"sample_weight must have shape ({n_rows},), one weight per row; got {weight.shape}."
        )
    if (weight < 0).any():
        raise ValueError(f"sample_weight must not be negative, got {weight.min():g}.")
    with np.errstate(over="ignore"):
        total = weight.sum()
    if not np.isfinite(total):
        raise ValueError(
            f"sample_weight is too large to be summed, up to {weight.max():g}; divide it by that."
        )
    if not may_be_zero and not (weight > 0).any():
        raise ValueError("sample_weight is zero for every row; at least one must count.")
    return weight


def check_statistics(name: str, value: Any) -> list[str]:
    """Names of one or several summaries, each once."""
    statistics = list(SUMMARIES)
    accepted = f"one or several of {', '.join(map(repr, statistics))}"
    names = [value] if isinstance(value, str) else value
    try:
        names = list(dict.fromkeys(names))
    except TypeError:
        raise TypeError(f"{name} must be {accepted}, got {value!r}.") from None
    if not names or not all(isinstance(one, str) and one in statistics for one in names):
        raise ValueError(f"{name} must be {accepted}, got {value!r}.")
    return names


def check_columns_of_summary(value: Any) -> dict[str, float | None]:
    """Levels of summaries that are quantiles in percent, None for others, by their names."""
    plain = ("mean", "median", "std", "mode")
    names = [value] if isinstance(value, str) else value
    levels: dict[str, float | None] = {}
    for one in names if is_sequence(names) else [names]:
        match = re.fullmatch(r"q([0-9]+(\.[0-9]+)?)", one) if isinstance(one, str) else None
        level = float(match[1]) / 100.0 if match else math.nan
        if not (isinstance(one, str) and one in plain) and not 0.0 < level < 1.0:
            raise ValueError(
                f"statistics must be one or several of {', '.join(map(repr, plain))}, or quantiles "
                f"in percent such as 'q05', got {value!r}."
            )
        levels[str(one)] = level if match else None
    if not levels:
        raise ValueError(f"statistics must name a summary, such as 'mean', got {value!r}.")
    return levels


def names_of_summaries(output_type: Any, quantiles: Any, level: Any) -> list[str]:
    """Names for `check_columns_of_summary` of what `predict` is asked for."""
    several = isinstance(output_type, (list, tuple))
    types = list(output_type) if several else [output_type]
    if several:
        check_statistics("output_type", output_type)
    else:
        check_choice("output_type", output_type, OUTPUT_TYPES)
    names: list[str] = []
    for one in types:
        if one == "samples":
            raise ValueError(
                "as_frame=True has no meaning for output_type='samples'; use "
                "sample(X, n, as_frame=True)."
            )
        levels: Any = ()
        if one == "quantiles":
            levels = check_quantiles(quantiles)
        elif one == "interval":
            check_real("level", level, 0.0, 1.0)
            levels = (0.5 - 0.5 * level, 0.5 + 0.5 * level)
        names += [_percent(100.0 * float(value)) for value in levels] or [one]
    return names


def _percent(value: float) -> str:
    """Name of a quantile in percent, such as q05 and q97.5."""
    rounded = round(value, 8)
    text = f"{rounded:.8f}".rstrip("0").rstrip(".")
    return f"q{'0' if rounded < 10.0 else ''}{text}"


def check_quantiles(quantiles: Any) -> np.ndarray:
    """Levels strictly between 0 and 1, (n_quantiles,)."""
    try:
        levels = np.atleast_1d(_real_array(quantiles))
    except (TypeError, ValueError):
        raise ValueError(f"quantiles must be numbers between 0 and 1, got {quantiles!r}.") from None
    if levels.ndim != 1 or levels.size == 0 or not ((levels > 0) & (levels < 1)).all():
        raise ValueError(
            f"quantiles must be one or more numbers strictly between 0 and 1, got {quantiles!r}."
        )
    return levels


def check_unit_cube(u: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Points strictly inside the unit cube, float64."""
    array = check_array(u, ensure_2d=False, dtype=np.float64, ensure_min_samples=0, input_name="u")
    if array.shape != shape:
        raise ValueError(f"u must have shape {shape}, got {array.shape}.")
    if not ((array > 0) & (array < 1)).all():
        wrong = array[~((array > 0) & (array < 1))][0]
        raise ValueError(f"u must lie strictly between 0 and 1, got {wrong:g}.")
    return array


def check_output(output: Any, names: list[str], where: str) -> int:
    """Column number of an output given by number or name."""
    if isinstance(output, str):
        if output not in names:
            raise ValueError(
                f"{where} names {output!r}, which is not a column of y; they are "
                f"{', '.join(names)}."
            )
        return names.index(output)
    if isinstance(output, (bool, np.bool_)) or not isinstance(output, Integral):
        raise TypeError(f"{where} must hold column numbers or names, got {output!r}.")
    if not -len(names) <= int(output) < len(names):
        raise ValueError(f"{where} has the column {output}, but y has {len(names)} columns.")
    return int(output) % len(names)


def check_rows(rows: Any, n_rows: int) -> Any:
    """Rows to choose, as a slice or an array of numbers or booleans."""
    if isinstance(rows, slice):
        return rows
    array = np.asarray(rows, dtype=None if np.size(rows) else np.intp)
    if isinstance(rows, tuple) or array.ndim > 1 or array.dtype.kind not in "iub":
        raise IndexError(
            "rows are chosen by a number, a slice, or an array of numbers or booleans, got "
            f"{rows!r}."
        )
    if array.dtype.kind == "b":
        if array.shape != (n_rows,):
            raise IndexError(
                f"booleans that choose rows must have shape ({n_rows},), got {array.shape}."
            )
        return array
    wrong = array[(array < -n_rows) | (array >= n_rows)]
    if wrong.size:
        raise IndexError(f"row {wrong.flat[0]} does not exist; there are {n_rows} rows.")
    return np.atleast_1d(array)


def check_outputs(outputs: Any, names: list[str]) -> list[int]:
    """One or two different column numbers."""
    if not (isinstance(outputs, (str, Integral)) or is_sequence(outputs)):
        raise TypeError(f"outputs must be one column or two different ones, got {outputs!r}.")
    entries = [outputs] if isinstance(outputs, (str, Integral)) else list(outputs)
    columns = [check_output(entry, names, "outputs") for entry in entries]
    if len(columns) not in (1, 2) or len(set(columns)) < len(columns):
        raise ValueError(f"outputs must be one column or two different ones, got {outputs!r}.")
    return columns


def check_grids(grid: Any, n_outputs: int) -> list[np.ndarray | None]:
    """Rising grid of each output, or None where none was given."""
    several = is_sequence(grid) and n_outputs > 1
    entries = list(grid) if several else [grid] * (n_outputs if grid is None else 1)
    if len(entries) != n_outputs:
        raise ValueError(f"grid must have one array for each of {n_outputs} outputs, got {grid!r}.")
    grids: list[np.ndarray | None] = []
    for entry in entries:
        if entry is None:
            grids.append(None)
            continue
        try:
            array = check_array(entry, ensure_2d=False, dtype=np.float64, input_name="grid")
        except (TypeError, ValueError) as error:
            raise ValueError(f"grid must hold rising numbers: {error}") from None
        if array.ndim != 1 or len(array) < 1 or (np.diff(array) <= 0).any():
            raise ValueError("grid must hold rising numbers, one after the other.")
        grids.append(array)
    return grids


def check_known(
    known: Any, names: list[str], n_rows: int, limits: np.ndarray, index: Any = None
) -> dict[int, np.ndarray]:
    """Known values (n_rows,) by column number; all but numbers inside the limits raise."""
    if is_frame(known := known if isinstance(known, Mapping) else as_table(known, "given")):
        known = dict(zip(known.columns, frame_columns(known), strict=True))
    if not isinstance(known, Mapping) or not known:
        raise TypeError(f"given must be a dict of known outputs by column, got {known!r}.")
    values = {}
    for key, value in known.items():
        j = check_output(key, names, "given")
        if j in values:
            raise ValueError(f"given names output {j} ({names[j]}) twice.")
        warn_of_misaligned(index, **{f"given[{key!r}]": value})
        value = as_table(value, f"given[{key!r}]")
        column = column_values(value) if is_series(value) else np.asarray(value)
        if column.ndim == 0:
            column = np.repeat(column, n_rows)
        if column.shape != (n_rows,):
            raise ValueError(
                f"given[{key!r}] must be one value or one for each of the {n_rows} rows, got shape "
                f"{column.shape}."
            )
        if column.dtype.kind in "Of" and any(map(is_missing, column.tolist())):
            raise ValueError(
                f"given[{key!r}] has missing values; name only outputs that are known in every row."
            )
        if column.dtype.kind in "iuf":
            low, high = limits[j]
            column = on_limits(column.astype(np.float64), limits[j])
            outside = ~((column >= low) & (column <= high))
            if outside.any():
                raise ValueError(
                    f"given[{key!r}] has the value {column[outside][0]:g} outside the limits "
                    f"[{low:g}, {high:g}] of output {j} ({names[j]})."
                )
        values[j] = column
    if len(values) == len(names):
        raise ValueError("given names every output, so that nothing is left to infer.")
    return values


def _real_array(values: Any) -> np.ndarray:
    """Float64 array; complex numbers raise, where numpy only warns."""
    array = np.asarray(values)
    if array.dtype.kind == "c":
        raise TypeError("complex numbers")
    return array.astype(np.float64)


def _is_text(value: Any, text: str) -> bool:
    return isinstance(value, str) and value == text
