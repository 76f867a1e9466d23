"""Scalers: round trips, Jacobians against finite differences, images of limits."""

import numpy as np
import pytest
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)

from sklearn_san._scaling import N_ROWS, OutputScaler, along_rows, is_skewed, make_scaler

SPECS = [
    None,
    "standard",
    "minmax",
    "maxabs",
    "robust",
    "power",
    "box-cox",
    "skew",
    StandardScaler(with_std=False),
    StandardScaler(with_mean=False),
    MinMaxScaler(feature_range=(-3, 5)),
    MaxAbsScaler(),
    RobustScaler(quantile_range=(10, 90), unit_variance=True),
    RobustScaler(with_scaling=False),
    PowerTransformer(standardize=False),
    PowerTransformer(method="box-cox"),
]


@pytest.fixture
def y():
    return np.random.default_rng(0).gamma(2.0, size=(400, 3)) * [1.0, 10.0, 0.1] + 0.01


@pytest.mark.parametrize("n", [0, 1, N_ROWS - 1, N_ROWS, 2 * N_ROWS + 3])
@pytest.mark.parametrize("function", [np.divide, np.add, np.minimum])
def test_many_rows_at_once_are_as_one_by_one(n, function):
    random = np.random.default_rng(0)
    values, row = random.normal(size=(2, n, 3)), np.array([0.3, -2.0, 5.0])
    expected = function(values, row)
    along_rows(function, values, row)
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_round_trip_and_jacobian(spec, y):
    scaler = OutputScaler(spec).fit(y)
    z = scaler.transform(y)
    np.testing.assert_allclose(scaler.inverse_transform(z), y, rtol=1e-9)
    step = 1e-6 * y
    slope = (scaler.transform(y + step) - scaler.transform(y - step)) / (2 * step)
    np.testing.assert_allclose(scaler.log_jacobian(y), np.log(slope), atol=1e-6)
    middle = np.median(y, axis=0, keepdims=True)
    np.testing.assert_allclose(np.log(scaler.unit(y)), -scaler.log_jacobian(middle)[0], atol=1e-9)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_same_values_as_scikit_learn(spec, y):
    if spec is None:
        np.testing.assert_array_equal(OutputScaler(spec).fit(y).transform(y), y)
        return
    if spec == "skew":
        unit = y.min(axis=0)
        power = PowerTransformer().fit(y / unit)
        assert (power.lambdas_ > 0).all()
        expected = power.transform(y / unit)
    else:
        expected = make_scaler(spec, "y_scaler").fit_transform(y)
    np.testing.assert_allclose(OutputScaler(spec).fit(y).transform(y), expected, rtol=1e-6)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_limits_move_with_the_values(spec, y):
    scaler = OutputScaler(spec).fit(y)
    limits = np.array([[0.001, 50.0], [0.001, np.inf], [-np.inf, 3.0]])
    scaled = scaler.transform_limits(limits)
    finite = np.isfinite(limits)
    inside = np.where(finite, limits, 1.0).T
    np.testing.assert_allclose(scaled[finite], scaler.transform(inside).T[finite])
    assert (scaled[:, 0] < scaler.transform(y).min(0)).all()
    assert (scaled[:, 1] > scaler.transform(y).max(0)).all()


def test_a_power_transform_that_saturates_bounds_the_scaled_values():
    y = np.random.default_rng(0).pareto(1.0, size=(500, 1)) + 0.1
    scaler = OutputScaler("power").fit(y)
    assert scaler.parts[0][1].power.lambdas_[0] < 0
    limits = scaler.transform_limits(np.array([[-np.inf, np.inf]]))
    assert limits[0, 0] == -np.inf
    huge = scaler.transform(np.array([[1e9]]))[0, 0]
    assert huge < limits[0, 1] < huge + 0.01
    steep = OutputScaler(PowerTransformer(standardize=False)).fit(-y)
    assert steep.parts[0][1].power.lambdas_[0] > 2
    low, high = steep.transform_limits(np.array([[-np.inf, np.inf]]))[0]
    assert low == pytest.approx(-1 / (steep.parts[0][1].power.lambdas_[0] - 2))
    assert high == np.inf


def test_powers_of_what_is_never_negative():
    random = np.random.default_rng(0)
    log_normal, gap = np.exp(3.0 * random.normal(size=(2, 500)))
    gap[::7] = np.nan
    y = np.stack([log_normal, random.normal(size=500), log_normal + 50.0, gap], axis=1)
    y[0, 0] = 0.0
    np.testing.assert_array_equal(is_skewed(y), [True, False, True, True])
    np.testing.assert_array_equal(is_skewed(1e-12 * y), is_skewed(y))
    scaler = OutputScaler("skew").fit(y)
    straight, powers = (columns.tolist() for columns, _ in scaler.parts)
    assert (straight, powers) == ([1], [0, 2, 3])
    assert scaler.parts[1][1].inner.power.lambdas_.min() >= 0.0
    # A logarithm has no image of what is not positive; this has, so that densities stay finite
    assert np.isfinite(scaler.log_jacobian(np.full((1, 4), -1.0))).all()
    assert (scaler.transform_limits(np.array([[-np.inf, np.inf]] * 4)) == [-np.inf, np.inf]).all()
    assert np.isneginf(scaler.least()).all()
    y[0, 0] = 5e-324  # in units of which others would overflow
    assert np.isfinite(OutputScaler("skew").fit(y).transform(y)[:, 0]).all()
    standard = OutputScaler("auto").fit(y)
    np.testing.assert_array_equal(
        standard.transform(y), OutputScaler("standard").fit(y).transform(y)
    )


def test_weights_are_used_where_the_scaler_takes_them():
    y = np.array([[0.0], [1.0], [100.0]])
    scaler = OutputScaler("standard").fit(y, np.array([1.0, 1.0, 1e-12]))
    np.testing.assert_allclose(scaler.transform(np.array([[0.5]])), 0.0, atol=1e-6)


def test_instances_given_by_the_user_are_not_fitted(y):
    given = StandardScaler()
    OutputScaler(given).fit(y)
    assert not hasattr(given, "scale_")


def test_box_cox_needs_positive_targets():
    with pytest.raises(ValueError, match="needs positive targets, got -1"):
        OutputScaler(PowerTransformer(method="box-cox")).fit(np.array([[1.0], [-1.0]]))
