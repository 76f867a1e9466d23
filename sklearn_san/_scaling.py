"""Scalers of y with the log-Jacobian that keeps densities in the original units.

With z = t(y) applied to each output, ``log p(y | x) = log p(z | x) + sum_d log |dt_d / dy_d|``.

==============  ============================================================================
`make_scaler`   scaler of x or y from what the user gave
`find_far`      values so far from the others that they must not set the scale
`compress`      numbers beyond a bound brought near it
`OutputScaler`  y to scaled targets and back, log-Jacobian, and what becomes of the limits
`is_skewed`     which columns of y are so skewed that "auto" tries a logarithm or the like
==============  ============================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from sklearn import config_context
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.utils.validation import has_fit_parameter

#: Classes of scalers that can be inverted.
SCALERS: tuple[type, ...] = (
    StandardScaler,
    MinMaxScaler,
    MaxAbsScaler,
    RobustScaler,
    PowerTransformer,
)
#: Short names that `x_scaler` and `y_scaler` accept.
SHORT_NAMES: dict[str, Callable[[], Any]] = {
    "standard": StandardScaler,
    "minmax": MinMaxScaler,
    "maxabs": MaxAbsScaler,
    "robust": RobustScaler,
    "power": PowerTransformer,
    "box-cox": partial(PowerTransformer, method="box-cox"),
}
#: Names that `y_scaler` accepts beside those: "skew" or "standard", whichever is better, and powers
#: of what is never negative.
OWN_NAMES = ("auto", "skew")
#: Exponents from a logarithm to none: others come to an end at a finite value.
EXPONENTS = (0.0, 1.0)
#: Their unit is the smallest positive value, or this times the median if that is larger.
LEAST_UNIT = 1e-9
#: The largest exponent at which "auto" tries powers.
MOST_SKEWED = 0.25
#: What Box-Cox takes begins here: a positive number in single precision as well.
LEAST_POSITIVE = float(np.finfo(np.float32).tiny)

#: Values are far, if they are so many robust deviations from the median, and so many times as far
#: as the next, the former if they repeat each other, and if they are no more than such a share.
FAR, GAPS, MAX_FAR = 30.0, (3.0, 30.0), 0.25
#: Rows that are worked on as if they were one.
N_ROWS = 64
#: The largest power of e by which compressed values are expanded again.
MAX_EXPONENT = 300.0
#: Bound of a column without compressed tails.
NO_BOUND = 1e300


def find_far(values: np.ndarray) -> np.ndarray:
    """Which values (n_rows, n_columns) are far from all others of their column.

    Tails that thin out steadily, however long, hold none.
    """
    far = np.zeros(values.shape, dtype=bool)
    for d, column in enumerate(values.T):
        known = column[~np.isnan(column)]
        if len(known) < 20:
            continue
        low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
        if not high > low:
            continue
        with np.errstate(over="ignore"):
            distance = np.abs(column - middle) / ((high - low) / 1.349)
        ranked = np.sort(distance[~np.isnan(distance)])
        for repeated, gap in zip((True, False), GAPS, strict=True):
            beyond = np.flatnonzero((ranked[1:] > FAR) & (ranked[1:] > gap * ranked[:-1])) + 1
            if not len(beyond) or len(ranked) - beyond[0] > MAX_FAR * len(ranked):
                continue
            found = distance >= ranked[beyond[0]]
            if not repeated or 2 * len(np.unique(column[found])) <= found.sum():
                far[:, d] = found
                break
    return far


def compress(z: np.ndarray, bound: np.ndarray) -> np.ndarray:
    """Z as it is up to `bound` on either side of 0, beyond it ``bound + log(1 + |z| - bound)``."""
    excess = np.maximum(np.abs(z) - bound, 0.0)
    if not (excess > 0).any():
        return z
    return np.where(excess > 0, np.sign(z) * (bound + np.log1p(excess)), z)


def expand(z: np.ndarray, bound: np.ndarray) -> np.ndarray:
    """Inverse of `compress`."""
    excess = np.clip(np.abs(z) - bound, 0.0, MAX_EXPONENT)
    return np.where(excess > 0, np.sign(z) * (bound + np.expm1(excess)), z)


def make_scaler(spec: Any, name: str) -> Any:
    """Unfitted scaler from a short name, an instance or None; `name` is the parameter's.

    Raises
    ------
    ValueError, TypeError
        For anything else, and for scalers that cannot be inverted.
    """
    if spec is None:
        return StandardScaler(with_mean=False, with_std=False)
    if isinstance(spec, str):
        own = OWN_NAMES if name == "y_scaler" else ()
        if spec in own:
            return StandardScaler()  # of what is not skewed
        if spec not in SHORT_NAMES:
            known = ", ".join(map(repr, (*own, *SHORT_NAMES)))
            raise ValueError(f"{name}={spec!r} is unknown; choose one of {known}, or None.")
        return SHORT_NAMES[spec]()
    if not isinstance(spec, SCALERS):
        known = ", ".join(scaler.__name__ for scaler in SCALERS)
        raise TypeError(
            f"{name} must be None, a short name or an instance of {known}; got {spec!r}."
        )
    if getattr(spec, "clip", False):
        raise ValueError(f"{name}={spec!r} clips and so cannot be inverted; set clip=False.")
    given: Any = spec
    return type(given)(**given.get_params(deep=False))  # without what `set_output` asks for


def scaled(scaler: Any, values: np.ndarray) -> np.ndarray:
    """Values as a scaler transforms them: an array, whatever scikit-learn is set to return."""
    if _standardises(scaler):  # its checks take longer than one row
        return (values - scaler.mean_) / scaler.scale_
    with config_context(transform_output="default"):
        return scaler.transform(values)


def _standardises(scaler: Any) -> bool:
    """Whether a fitted scaler is the usual one, with mean and standard deviation."""
    return type(scaler) is StandardScaler and scaler.with_mean and scaler.with_std


def fit_scaler(scaler: Any, values: np.ndarray, sample_weight: np.ndarray | None) -> Any:
    """Fit a scaler, with weights if it takes them."""
    if sample_weight is not None and has_fit_parameter(scaler, "sample_weight"):
        with np.errstate(invalid="ignore"):  # weighted variances of constants, a hair below 0
            return scaler.fit(values, sample_weight=sample_weight)
    return scaler.fit(values)


def along_rows(function: np.ufunc, values: np.ndarray, row: np.ndarray) -> None:
    """``function(values, row, out=values)``, many rows at once: numpy is slow along short ones.

    Parameters
    ----------
    function : ufunc
        Of two arguments.
    values : ndarray of shape (..., n_columns)
        Contiguous.
    row : ndarray of shape (n_columns,)
    """
    flat = values.reshape(-1, len(row))
    n = len(flat) - len(flat) % N_ROWS
    many, rest = flat[:n].reshape(-1, N_ROWS * len(row)), flat[n:]
    function(many, np.tile(row, N_ROWS), out=many)
    function(rest, row, out=rest)


class OutputScaler:
    """Fitted scaler of the targets, column by column.

    Parameters
    ----------
    spec : str, scaler or None
    scaling : sequence of {"free", "affine", "none"}, default=None
        Which scalers each column stands: any, linear ones (a power transform is replaced by
        standardisation), or none. None means any, for all columns.

    Attributes
    ----------
    linear : bool
        Whether every column is scaled linearly.
    slope : ndarray of shape (n_outputs,)
        Derivative of the linear part.

    With "standard", columns with values that are far from all others are standardised by the
    others, and compressed beyond a bound: their tails are those of a logarithm. "auto" is that,
    since who chooses says "skew".
    """

    def __init__(self, spec: Any, scaling: Sequence[str] | None = None):
        make_scaler(spec, "y_scaler")
        self.spec = spec
        self.scaling = scaling

    def fit(self, y: np.ndarray, sample_weight: np.ndarray | None = None) -> OutputScaler:
        """Learn from y of shape (n_samples, n_outputs); nan stands for a missing value."""
        n_outputs = y.shape[1]
        scaling = np.array(self.scaling if self.scaling is not None else ["free"] * n_outputs)
        power = isinstance(make_scaler(self.spec, "y_scaler"), PowerTransformer)
        spec = "standard" if self.spec in OWN_NAMES else self.spec
        if self.spec == "skew":
            scaling = np.where((scaling == "free") & _is_positive(y), "skewed", scaling)
        kinds: dict[str, Callable[[], _ColumnScaler | _SkewScaler]] = {
            "free": lambda: _ColumnScaler(spec),
            "skewed": _SkewScaler,
            "affine": lambda: _ColumnScaler("standard" if power else spec),
            "none": lambda: _ColumnScaler(None),
        }
        self.parts: list[tuple[np.ndarray, _ColumnScaler | _SkewScaler]] = []
        for kind, make in kinds.items():
            columns = np.flatnonzero(scaling == kind)
            if len(columns):
                self.parts.append((columns, make().fit(y[:, columns], sample_weight)))
        self.linear = all(scaler.linear for _, scaler in self.parts)
        self.slope = np.empty(n_outputs)
        for columns, scaler in self.parts:
            self.slope[columns] = scaler.slope
        return self

    def transform(self, y: np.ndarray) -> np.ndarray:
        """Scaled targets, float64, of the same shape (n_samples, n_outputs)."""
        return self._by_part("transform", y)

    def inverse_transform(self, z: np.ndarray) -> np.ndarray:
        """Targets in the original units; z is (..., n_outputs)."""
        return self._by_part("inverse_transform", z)

    def log_jacobian(self, y: np.ndarray) -> np.ndarray:
        """``log |dz_d / dy_d|`` of each value; shape (n_samples, n_outputs)."""
        return self._by_part("log_jacobian", y)

    def slope_of_log_jacobian(self, y: np.ndarray) -> np.ndarray:
        """Derivative of `log_jacobian` by each value; (n_samples, n_outputs)."""
        return self._by_part("slope_of_log_jacobian", y)

    def unit(self, y: np.ndarray) -> np.ndarray:
        """Size in units of y of one scaled unit, at the median of y; shape (n_outputs,)."""
        return np.exp(-self.log_jacobian(np.nanmedian(y, axis=0, keepdims=True))[0])

    def origin(self) -> np.ndarray:
        """Values of y whose image is 0; shape (n_outputs,)."""
        return self.inverse_transform(np.zeros((1, len(self.slope))))[0]

    def least(self) -> np.ndarray:
        """Least values that can be transformed, (n_outputs,): positive for Box-Cox, else -inf."""
        least = np.full(len(self.slope), -np.inf)
        for columns, scaler in self.parts:
            if scaler.is_box_cox:
                least[columns] = LEAST_POSITIVE
        return least

    def transform_limits(self, limits: np.ndarray) -> np.ndarray:
        """Limits (n_outputs, 2) in scaled units.

        The image of an infinite limit is finite where a power transform saturates.
        """
        return self._by_part("transform_limits", limits.T).T

    def _by_part(self, method: str, values: np.ndarray) -> np.ndarray:
        """Apply a method of each part to its columns of `values`, (..., n_outputs)."""
        if not values.size:  # scalers take no empty tables
            return values.astype(np.float64)
        if len(self.parts) == 1:
            return getattr(self.parts[0][1], method)(values)
        result = np.empty(values.shape)
        for columns, scaler in self.parts:
            result[..., columns] = getattr(scaler, method)(values[..., columns])
        return result


class _ColumnScaler:
    """One scaler for several columns: a power transform or none, a linear one, compressed tails.

    `bound` is where the tails of each column begin, (n_columns,); None if none has any.
    """

    bound: np.ndarray | None = None

    def __init__(self, spec: Any):
        self.affine = make_scaler(spec, "y_scaler")
        self.robust = isinstance(spec, str) and spec == "standard"
        self.power: Any = None
        if isinstance(self.affine, PowerTransformer):
            # Standardisation is done by a scaler of our own, whose slope is public.
            self.power = self.affine
            self.affine = StandardScaler(
                with_mean=self.power.standardize, with_std=self.power.standardize
            )
            self.power.set_params(standardize=False)

    def fit(
        self,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        exponents: tuple[float, float] | None = None,
    ) -> _ColumnScaler:
        if self.power is not None:
            self._check_box_cox(y)
            self.power.fit(y)
            if exponents is not None:
                self.power.lambdas_ = np.clip(self.power.lambdas_, *exponents)
            y = scaled(self.power, y)
        far = find_far(y) if self.robust else np.zeros(y.shape, dtype=bool)
        near = np.where(far, np.nan, y)
        fit_scaler(self.affine, near, sample_weight)
        self.adopt(self.affine)
        if far.any():
            reach = 2.0 * np.nanmax(np.abs(scaled(self.affine, near)), axis=0)
            self.bound = np.where(far.any(axis=0), reach, NO_BOUND)
        return self

    @property
    def linear(self) -> bool:
        """Whether every column is scaled linearly."""
        return self.power is None and self.bound is None

    @property
    def is_box_cox(self) -> bool:
        """Whether values must be positive."""
        return self.power is not None and self.power.method == "box-cox"

    def adopt(self, affine: Any) -> _ColumnScaler:
        """Take a linear scaler that is fitted already."""
        self.affine = affine
        scale = getattr(affine, "scale_", None)
        if scale is None:
            self.slope = np.ones(affine.n_features_in_)
        else:
            self.slope = scale if isinstance(affine, MinMaxScaler) else 1.0 / scale
        return self

    def transform(self, y: np.ndarray) -> np.ndarray:
        if self.power is not None:
            self._check_box_cox(y)
            y = scaled(self.power, y)
        z = scaled(self.affine, y)
        return z if self.bound is None else compress(z, self.bound)

    def inverse_transform(self, z: np.ndarray) -> np.ndarray:
        if self.bound is not None:
            z = expand(z, self.bound)
        # That of the scaler itself, but for its checks, which take longer
        y = z.astype(np.float64, order="C")
        along_rows(np.divide, y, self.slope)
        along_rows(np.add, y, self._origin())
        if self.power is not None:
            flat = self.power.inverse_transform(y.reshape(-1, z.shape[-1]))
            y = flat.reshape(z.shape)
        return y

    def _origin(self) -> np.ndarray:
        """What the linear scaler takes to 0, (n_columns,)."""
        if _standardises(self.affine):
            return self.affine.mean_
        return self.affine.inverse_transform(np.zeros((1, len(self.slope))))[0]

    def log_jacobian(self, y: np.ndarray) -> np.ndarray:
        log_slope = np.broadcast_to(np.log(self.slope), y.shape)
        if self.bound is not None:
            log_slope = log_slope - np.log1p(self._excess(y))
        return log_slope if self.power is None else log_slope + self._power_log_slope(y)

    def _excess(self, y: np.ndarray) -> np.ndarray:
        """How far standardised values lie beyond the bounds; 0 inside them."""
        return np.maximum(np.abs(scaled(self.affine, y)) - self.bound, 0.0)

    def slope_of_log_jacobian(self, y: np.ndarray) -> np.ndarray:
        if self.bound is not None:
            excess = self._excess(y)
            sign = np.sign(scaled(self.affine, y))
            return np.where(excess > 0, -sign * self.slope / (1.0 + excess), 0.0)
        if self.power is None:
            return np.zeros(y.shape)
        argument = y if self.is_box_cox else 1.0 + np.abs(y)
        return (self.power.lambdas_ - 1.0) / argument

    def transform_limits(self, limits: np.ndarray) -> np.ndarray:
        """Limits (2, n_outputs) in scaled units."""
        if self.power is not None:
            low, high = self._saturation()
            # A lower limit that Box-Cox cannot take stands for 0, its own lower limit.
            known = np.isfinite(limits) & ((not self.is_box_cox) | (limits > 0))
            inside = scaled(self.power, np.where(known, limits, 1.0))
            limits = np.where(known, inside, np.stack([low, high]))
        finite = np.isfinite(limits)
        inside = scaled(self.affine, np.where(finite, limits, 0.0))
        if self.bound is not None:
            inside = compress(inside, self.bound)
        return np.where(finite, inside, limits)

    def _saturation(self) -> tuple[np.ndarray, np.ndarray]:
        """Images of -inf (0 for Box-Cox) and +inf under the power transform."""
        lambdas = self.power.lambdas_
        low, high = np.full(len(lambdas), -np.inf), np.full(len(lambdas), np.inf)
        falls = lambdas < 0
        high[falls] = -1.0 / lambdas[falls]
        if self.is_box_cox:
            rises = lambdas > 0
            low[rises] = -1.0 / lambdas[rises]
        else:
            steep = lambdas > 2
            low[steep] = -1.0 / (lambdas[steep] - 2.0)
        return low, high

    def _power_log_slope(self, y: np.ndarray) -> np.ndarray:
        """Log derivative of the power transform (Yeo and Johnson 2000; Box and Cox 1964)."""
        lambdas = self.power.lambdas_
        if self.is_box_cox:
            return (lambdas - 1.0) * np.log(y)
        return np.sign(y) * (lambdas - 1.0) * np.log1p(np.abs(y))

    def _check_box_cox(self, y: np.ndarray) -> None:
        if self.is_box_cox and (y <= 0).any():
            raise ValueError(
                f"y_scaler 'box-cox' needs positive targets, got {np.nanmin(y):g}; drop those "
                "rows, or use 'power', which takes any."
            )


class _SkewScaler:
    """Powers of columns that are never negative, in units of about their smallest positive value.

    By Yeo and Johnson (2000), so that values that are negative after all have a density. In these
    units a power of `EXPONENTS` is about that of y itself but for its very least values.
    """

    is_box_cox = linear = False

    def fit(self, y: np.ndarray, sample_weight: np.ndarray | None) -> _SkewScaler:
        positive = np.where(y > 0, y, np.nan)
        least, middle = np.nanmin(positive, axis=0), np.nanmedian(positive, axis=0)
        self.unit = np.maximum(least, LEAST_UNIT * middle)
        self.inner = _ColumnScaler("power").fit(y / self.unit, sample_weight, EXPONENTS)
        return self

    @property
    def slope(self) -> np.ndarray:
        return self.inner.slope / self.unit

    def transform(self, y: np.ndarray) -> np.ndarray:
        return self.inner.transform(y / self.unit)

    def inverse_transform(self, z: np.ndarray) -> np.ndarray:
        return self.inner.inverse_transform(z) * self.unit

    def log_jacobian(self, y: np.ndarray) -> np.ndarray:
        return self.inner.log_jacobian(y / self.unit) - np.log(self.unit)

    def slope_of_log_jacobian(self, y: np.ndarray) -> np.ndarray:
        return self.inner.slope_of_log_jacobian(y / self.unit) / self.unit

    def transform_limits(self, limits: np.ndarray) -> np.ndarray:
        """Limits (2, n_outputs) in scaled units."""
        return self.inner.transform_limits(limits / self.unit)


def _is_positive(y: np.ndarray) -> np.ndarray:
    """Columns (n_outputs,) without negative values, most of them positive."""
    return ~(y < 0).any(axis=0) & ((y > 0).mean(axis=0) > 0.5)


def is_skewed(y: np.ndarray) -> np.ndarray:
    """Columns (n_outputs,) that are never negative, and nearer to a logarithm than to its power."""
    found = np.zeros(y.shape[1], dtype=bool)
    for d in np.flatnonzero(_is_positive(y)):
        exponent = _SkewScaler().fit(y[:, [d]], None).inner.power.lambdas_[0]
        found[d] = exponent <= MOST_SKEWED
    return found
