"""Bad input: one clear sentence each, before anything is trained."""

import numpy as np
import pytest
from conftest import small

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.likelihoods import MixtureOfGaussians

X = np.random.default_rng(0).normal(size=(30, 2))
Y = np.random.default_rng(1).normal(size=(30, 3))

BAD_PARAMETERS = [
    ({"K": 0}, ValueError, "K must be at least 1, got 0"),
    ({"K": 2.5}, TypeError, "K must be an integer of at least 1, got 2.5"),
    ({"K": True}, TypeError, "K must be an integer of at least 1, got True"),
    ({"module_shape": ()}, ValueError, r"module_shape must be a non-empty .* got \(\)"),
    ({"module_shape": 64}, TypeError, "module_shape must be .* got 64"),
    ({"module_shape": "64"}, TypeError, "module_shape must be .* got '64'"),
    ({"module_shape": (64, 0)}, ValueError, r"got \(64, 0\)"),
    ({"module_shape": None}, TypeError, "module_shape must be .* got None"),
    ({"first_module_shape": (1.5,)}, TypeError, r"first_module_shape must be .* or None; got"),
    ({"encoder_shape": [-1]}, ValueError, r"encoder_shape must be .* got \[-1\]"),
    ({"sequence_features": 0}, ValueError, "sequence_features must be .* got 0"),
    ({"activation": "swish"}, ValueError, "activation must be one of .*'silu'.* got 'swish'"),
    ({"layer_norm": "yes"}, TypeError, "layer_norm must be True or False, got 'yes'"),
    ({"linear_base": 3}, TypeError, "linear_base must be True, False or 'auto', got 3"),
    ({"teacher_forcing": None}, TypeError, "teacher_forcing must be True or False, got None"),
    ({"train_rsample": True}, ValueError, "train_rsample=True needs teacher_forcing=False"),
    ({"epochs": 0}, ValueError, "epochs must be an integer of at least 1 or 'auto', got 0"),
    ({"epochs": "many"}, TypeError, "epochs must be .* got 'many'"),
    ({"batch_size": -5}, ValueError, "batch_size must be .* got -5"),
    ({"learning_rate": 0.0}, ValueError, "learning_rate must be a number above 0, got 0.0"),
    ({"learning_rate": "fast"}, TypeError, "learning_rate must be .* got 'fast'"),
    ({"learning_rate": np.nan}, ValueError, "learning_rate must be .* got nan"),
    ({"weight_decay": -1.0}, ValueError, "weight_decay must be a number of at least 0, got -1.0"),
    ({"early_stopping": "no"}, TypeError, "early_stopping must be .* got 'no'"),
    ({"validation_fraction": 1.0}, ValueError, "above 0 and below 1, got 1.0"),
    (
        {"validation_fraction": 0.99, "early_stopping": True},
        ValueError,
        "validation_fraction=0.99 of 30 rows leaves fewer than 2 to train on",
    ),
    ({"n_iter_no_change": 0}, ValueError, "n_iter_no_change must be .* or None, got 0"),
    ({"dtype": "float16"}, ValueError, "dtype must be one of 'float32', 'float64'; got 'float16'"),
    ({"device": "tpu9"}, ValueError, "device='tpu9' cannot be used here .* use 'auto' or 'cpu'"),
    ({"verbose": "loud"}, TypeError, "verbose must be a boolean or an integer, got 'loud'"),
    ({"x_scaler": "log"}, ValueError, "x_scaler='log' is unknown"),
    ({"y_scaler": 3}, TypeError, "y_scaler must be None, a short name or an instance .* got 3"),
    ({"likelihood": "normal"}, ValueError, "likelihood='normal' is unknown; choose one of 'auto'"),
    ({"likelihood": 5}, TypeError, "likelihood must be 'auto', 'gaussian', .* got 5"),
    ({"likelihood": ["mog", "mog"]}, ValueError, "likelihood has 2 entries, but y has 3 outputs"),
    ({"likelihood": ["mog", "mog", 1]}, TypeError, "must hold short names or instances, got 1"),
    (
        {"likelihood": MixtureOfGaussians(K=0)},
        ValueError,
        r"K of the likelihood of output 0 \(y0\) must be at least 1, got 0",
    ),
    (
        {"likelihood": MixtureOfGaussians(min_scale=-1.0)},
        ValueError,
        "min_scale of the likelihood of output 0 .* positive number in the units of y, got -1.0",
    ),
    ({"likelihood_params": [1]}, TypeError, r"likelihood_params must be a dict or None, got \[1"),
    (
        {"likelihood_params": {"J": 1}},
        TypeError,
        "{'J': 1} do not fit likelihood 'mog', which accepts K, min_scale",
    ),
    (
        {"likelihood": MixtureOfGaussians(), "likelihood_params": {"K": 1}},
        ValueError,
        "cannot be combined with the instance",
    ),
    (
        {"likelihood": "mog", "limits": [[-9, 9]] * 3},
        ValueError,
        r"likelihood 'mog' cannot respect the limits \[-9, 9\] of output 0 \(y0\); use 'trunc",
    ),
    ({"limits": [[0, 1]]}, ValueError, r"limits must have shape \(3, 2\).* got shape \(1, 2\)"),
    ({"limits": "wide"}, ValueError, "limits must be numbers .* got 'wide'"),
    (
        {"limits": [[-9, 9], [-9, 9], [5.0, 1.0]]},
        ValueError,
        r"limits\[2\] = \(5, 1\): the lower limit must be below the upper one",
    ),
    ({"limits": [[-9, 9], [0, np.nan], [0, 1]]}, ValueError, r"limits\[1\] = \(0, nan\): use -inf"),
    (
        {"limits": [[-9, 9], [-9, 9], [-9, -8]]},
        ValueError,
        r"y has 30 values outside limits for output 2 \(y2\), which allow \[-9, -8\]; widen",
    ),
    ({"order": [0, 1]}, ValueError, r"order=\[0, 1\] must name each of the 3 outputs .* once"),
    ({"order": [0, 1, 1]}, ValueError, "exactly once"),
    ({"order": ["y0", "y1", "z"]}, ValueError, "order names 'z', which is not a column of y"),
    ({"order": "y0"}, TypeError, "order must be a sequence of column numbers or names, got 'y0'"),
    ({"order": [0, 1, 2.0]}, TypeError, "order must hold column numbers or names, got 2.0"),
]


@pytest.mark.parametrize(("parameters", "error", "message"), BAD_PARAMETERS, ids=str)
def test_bad_parameters(parameters, error, message):
    with pytest.raises(error, match=message):
        SANConditionalDensityEstimator(**parameters).fit(X, Y)


def with_entry(array, value):
    array = array.astype(object if isinstance(value, str) else np.result_type(array, value))
    array[3, 0] = value
    return array


BAD_DATA = [
    (X[:, 0], Y, ValueError, "Expected 2D array, got 1D array"),
    (X[:5], Y, ValueError, "inconsistent numbers of samples"),
    (X[:0], Y[:0], ValueError, "0 sample"),
    (X[:1], Y[:1], ValueError, "minimum of 2 is required"),
    (X[:, :0], Y, ValueError, r"0 feature\(s\)"),
    (with_entry(X, np.inf), Y, ValueError, "Input X contains infinity"),
    (with_entry(X, 1j), Y, ValueError, "Complex data not supported"),
    (with_entry(X, "red"), Y, ValueError, "could not convert string to float: 'red'"),
    (X, with_entry(Y, np.nan), ValueError, r"1 missing values \(NaN\) in output 0 \(y0\)"),
    (np.where(X[:, 1:] == X, np.nan, X), Y, ValueError, "X has no value at all in feature 'x1'"),
    (X, with_entry(Y, -np.inf), ValueError, "Input y contains infinity"),
    (X, with_entry(Y, 1j), ValueError, "Complex data not supported"),
    (X, with_entry(Y, "blue"), ValueError, "could not convert string to float: 'blue'"),
    (X, Y[:, :, None], ValueError, "dim 3"),
    (X, None, ValueError, "requires y to be passed"),
    (X, np.full(30, 2.0), ValueError, r"y is constant \(2\) in output 0 \(y0\)"),
    (X, np.column_stack([Y, np.ones(30)]), ValueError, r"y is constant \(1\) in output 3 \(y3\)"),
]


@pytest.mark.parametrize(("X", "y", "error", "message"), BAD_DATA, ids=str)
def test_bad_data(X, y, error, message):
    with pytest.raises(error, match=message):
        small().fit(X, y)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(7), r"sample_weight must have shape \(30,\), one weight per row; got \(7,\)"),
        (np.ones((30, 2)), r"must have shape \(30,\), one weight per row; got \(30, 2\)"),
        (-np.ones(30), "sample_weight must not be negative, got -1"),
        (np.zeros(30), "sample_weight is zero for every row"),
        (np.full(30, np.nan), "Input sample_weight contains NaN"),
        (np.eye(30)[0], "sample_weight is positive for 1 row; at least 2 are needed"),
    ],
)
def test_bad_weights(weight, message):
    with pytest.raises(ValueError, match=message):
        small().fit(X, Y, sample_weight=weight)


@pytest.fixture(scope="module")
def three_outputs():
    return small(epochs=1).fit(X, Y)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda e: e.predict(X[:, :1]), ValueError, "X has 1 features, but .* expecting 2"),
        (lambda e: e.predict(X[:0]), ValueError, "0 sample"),
        (lambda e: e.predict(with_entry(X, np.nan)), ValueError, "Input X contains NaN"),
        (lambda e: e.predict(X, output_type="max"), ValueError, "output_type must be one of 'mean"),
        (
            lambda e: e.predict(X, output_type="quantiles", quantiles=[0.5, 1.0]),
            ValueError,
            r"strictly between 0 and 1, got \[0.5, 1.0\]",
        ),
        (
            lambda e: e.predict(X, output_type="quantiles", quantiles="half"),
            ValueError,
            "quantiles must be numbers between 0 and 1, got 'half'",
        ),
        (lambda e: e.sample(X, 0), ValueError, "n_samples must be .* at least 1, got 0"),
        (lambda e: e.sample(X, 2.0), TypeError, "n_samples must be an integer .* got 2.0"),
        (lambda e: e.sample(X, random_state="x"), ValueError, "'x' cannot be used to seed"),
        (
            lambda e: e.log_prob(X, Y[:, :2]),
            ValueError,
            r"y has 2 outputs, but this estimator was fitted with 3 \(y0, y1, y2\)",
        ),
        (lambda e: e.log_prob(X, Y[:4]), ValueError, "X has 30 rows, but y has 4"),
        (lambda e: e.log_prob(X, with_entry(Y, np.nan)), ValueError, "1 missing values"),
        (lambda e: e.log_prob(X, Y[:, :, None]), ValueError, "y has 1 outputs"),
        (lambda e: e.score(X, Y, np.ones(3)), ValueError, r"sample_weight must have shape \(30"),
    ],
)
def test_bad_calls_of_a_fitted_estimator(three_outputs, call, error, message):
    with pytest.raises(error, match=message):
        call(three_outputs)


def test_a_power_transform_that_saturates_needs_a_bounded_family():
    heavy = np.random.default_rng(0).pareto(1.0, size=(200, 1))
    x = np.arange(200.0)[:, None]
    with pytest.raises(ValueError, match="cannot respect the range of the power transform"):
        small(y_scaler="power", likelihood="mog").fit(x, heavy)
    draws = small(y_scaler="power").fit(x, heavy).sample(x, 50, random_state=0)
    assert np.isfinite(draws).all()
