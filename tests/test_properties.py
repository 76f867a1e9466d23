"""Properties over random problems, and every argument with values that make no sense.

The first half draws small problems of any shape, dtype and family, and checks what must hold for
all of them. The second half goes through tables of values that make no sense, for every parameter
and argument there is: each must end in an error that this package, scikit-learn or numpy raises on
purpose, that names what is wrong, and that leaves a fitted estimator as it was. Odd values that are
taken all the same are listed with the reason.
"""

import contextlib
import copy
import datetime
import inspect
import io
import linecache
import os
import pickle
import re
import tempfile
import traceback
import warnings
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from conftest import SINGLE, small
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.preprocessing import (
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    StandardScaler,
)

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.cli import main
from sklearn_san.density import resample
from sklearn_san.exceptions import UnknownCategoryWarning
from sklearn_san.likelihoods import Categorical, Inflated, MixtureOfGaussians, Ordinal

try:
    import polars
except ImportError:
    polars = None

NAN, INF = np.nan, np.inf


def tiny(**parameters):
    """Estimator that fits in a twentieth of a second."""
    return small(**({"K": 2, "module_shape": (8,), "epochs": 1} | parameters))


# Properties

#: Likelihoods of continuous outputs, with the limits that they need: none, the lower one, both.
FAMILIES = {
    "auto": "",
    "gaussian": "",
    "laplace": "",
    "mog": "",
    "molog": "",
    "most": "",
    "spline": "",
    "truncated_mog": "low",
    "truncated_molog": "both",
    "truncated_most": "both",
    "mob": "both",
    "softmax": "both",
}
LIMITS = {"": [-INF, INF], "low": [0.0, INF], "both": [0.0, 8.0]}


@dataclass
class Problem:
    """Rows, and an estimator for them; y is always (n_rows, n_outputs)."""

    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    order: list
    one_dimensional: bool
    parameters: dict
    seed: int

    @property
    def n_outputs(self):
        return self.y.shape[1]

    @property
    def limits(self):
        return np.array(self.parameters["limits"])

    def shaped(self, y):
        """Targets, or results with them on the last axis, as this problem has them."""
        return y[..., 0] if self.one_dimensional else y

    def estimator(self, **changes):
        return tiny(**(self.parameters | {"order": self.order} | changes))

    def fit(self, **changes):
        return self.estimator(**changes).fit(self.X, self.shaped(self.y))

    def random(self):
        return np.random.default_rng(self.seed)


@st.composite
def problems(draw, continuous=False):
    """Small problems of all kinds; with `continuous` all outputs have smooth densities."""
    random = np.random.default_rng(draw(st.integers(0, 2**31 - 1)))
    n_rows, n_features = draw(st.integers(12, 40)), draw(st.integers(1, 5))
    n_outputs = draw(st.integers(1, 4))
    X = random.normal(size=(n_rows, n_features)) * 10.0 ** draw(st.integers(-3, 3))
    kind = draw(st.sampled_from(["float64", "float64", "float32", "int64"]))
    X = np.rint(X * 10).astype(kind) if kind == "int64" else X.astype(kind)
    y = 4.0 + np.tanh(random.normal(size=(n_rows, n_outputs)).cumsum(axis=1))
    y += (X @ random.normal(size=(n_features, n_outputs)) > 0) - 0.5
    names = st.sampled_from(list(FAMILIES))
    families = draw(st.lists(names, min_size=n_outputs, max_size=n_outputs))
    limits = [LIMITS[FAMILIES[name]] for name in families]
    if not continuous and draw(st.booleans()):
        families[-1], limits[-1] = "ordinal", [0.0, INF]
        y[:, -1] = np.rint(y[:, -1])
        y[:2, -1] = [3.0, 5.0]
    parameters = {
        "K": draw(st.integers(1, 3)),
        "likelihood": families,
        "limits": limits,
        "n_members": draw(st.sampled_from([1, 1, 2])),
        "dtype": draw(st.sampled_from(["float32", "float32", "float64"])),
        "layer_norm": draw(st.booleans()),
        "linear_base": draw(st.sampled_from(["auto", True, False])),
        "activation": draw(st.sampled_from(["silu", "relu", "tanh"])),
        "encoder_shape": draw(st.sampled_from([None, (4,)])),
        "early_stopping": draw(st.booleans()),
        "x_scaler": draw(st.sampled_from(["standard", "minmax", "robust", "power"])),
        "y_scaler": draw(st.sampled_from(["standard", "minmax", "maxabs", None])),
        "random_state": draw(st.integers(0, 2**31 - 1)),
    }
    return Problem(
        X,
        y,
        random.integers(0, 3, size=n_rows).astype(np.float64),
        draw(st.permutations(range(n_outputs))),
        n_outputs == 1 and draw(st.booleans()),
        parameters,
        draw(st.integers(0, 2**31 - 1)),
    )


smooth = problems(continuous=True)
PROPERTIES = {}


def holds_for(problem):
    """Add a property of such problems."""

    def add(function):
        PROPERTIES[function.__name__] = (function, problem)
        return function

    return add


@holds_for(problems())
def shapes_and_dtypes(problem):
    est, tail = problem.fit(), () if problem.one_dimensional else (problem.n_outputs,)
    n = 1 + problem.seed % 3
    X, y = problem.X[:n], problem.shaped(problem.y[:n])
    for dtype in (np.float32, np.float64):
        draws = est.sample(X, 5, random_state=0, dtype=dtype)
        assert (draws.shape, draws.dtype) == ((n, 5, *tail), dtype)
    for output_type, middle in {
        "mean": (),
        "std": (),
        "median": (),
        "quantiles": (3,),
        "samples": (1,),
    }.items():
        result = est.predict(X, output_type=output_type)
        assert (result.shape, result.dtype) == ((n, *middle, *tail), np.float64)
        assert np.isfinite(result).all()
    density = est.predict_density(X)
    assert len(density) == n
    assert len(density[0]) == len(density[-1]) == len(density[np.arange(n) == 0]) == 1
    assert density.interval(0.5).shape == (n, 2, *tail)
    assert density.cov().shape == (n, *tail, *tail)
    assert density.entropy(8).shape == density.kl(density, 8).shape == (n,)
    assert density.cdf(y).shape == density.inverse_cdf(np.full(y.shape, 0.5)).shape == y.shape
    assert density.log_prob(y).shape == (n,)
    points = np.repeat(y[:, None], 4, axis=1)
    np.testing.assert_allclose(
        density.log_prob(points),
        np.repeat(density.log_prob(y)[:, None], 4, axis=1),
        rtol=SINGLE,
        atol=SINGLE,
    )
    assert density.marginal(0, n_points=6).density.shape[0] == n
    assert isinstance(est.score(problem.X, problem.shaped(problem.y)), float)


@holds_for(problems())
def log_densities_are_never_nan(problem):
    est = problem.fit()
    low, high = problem.limits.T
    discrete = np.array([name == "ordinal" for name in problem.parameters["likelihood"]])
    for factor in (0.0, 1.0, -3.0, 1e3, 1e8):
        y = np.where(discrete, problem.y, 4.0 + factor * (problem.y - 4.0))
        log_prob = est.log_prob(problem.X, problem.shaped(y))
        assert not np.isnan(log_prob).any()
        assert (log_prob < INF).all()
        outside = ((y < low) | (y > high)).any(axis=1)
        assert np.isneginf(log_prob[outside]).all()
    assert np.isfinite(est.log_prob(problem.X, problem.shaped(problem.y))).all()


@holds_for(problems())
def draws_stay_inside_limits_and_repeat(problem):
    est = problem.fit()
    low, high = problem.limits.T
    draws = est.sample(problem.X, 9, random_state=problem.seed)
    flat = draws.reshape(-1, problem.n_outputs)
    assert np.isfinite(flat).all()
    # Limits are far from the data, so that a draw at one of them has been moved there
    discrete = np.array([name == "ordinal" for name in problem.parameters["likelihood"]])
    assert (((flat > low) & (flat < high)) | (discrete & (flat == low))).all()
    for j, name in enumerate(problem.parameters["likelihood"]):
        if name == "ordinal":
            np.testing.assert_array_equal(flat[:, j], np.rint(flat[:, j]))
    again = est.sample(problem.X, 9, random_state=np.random.RandomState(problem.seed))
    np.testing.assert_array_equal(again, draws)
    first = est.sample(problem.X[:5], 9, random_state=problem.seed)
    np.testing.assert_allclose(first, draws[:5], rtol=SINGLE, atol=SINGLE)
    even = est.sample(problem.X[:3], 8, random_state=0, method="sobol").reshape(-1, len(low))
    assert (((even > low) & (even < high)) | (discrete & (even == low))).all()
    assert (est.sample(problem.X, 9, random_state=problem.seed + 1) != draws).any()


@holds_for(problems())
def rows_permute(problem):
    est = problem.fit()
    rows = problem.random().permutation(5)
    X, y = problem.X[:5], problem.shaped(problem.y[:5])
    before, after = est.predict_density(X), est.predict_density(X[rows])
    for result in (
        lambda density, y: density.log_prob(y),
        lambda density, y: density.mean(),
        lambda density, y: density.std(),
        lambda density, y: density.quantile([0.1, 0.6]),
    ):
        np.testing.assert_allclose(
            result(after, y[rows]), result(before, y)[rows], rtol=SINGLE, atol=SINGLE
        )


@holds_for(problems())
def outputs_permute(problem):
    columns = problem.random().permutation(problem.n_outputs)
    place = np.argsort(columns)  # where each column went
    est = problem.fit()
    other = problem.estimator(
        likelihood=[problem.parameters["likelihood"][j] for j in columns],
        limits=problem.limits[columns],
        order=[int(place[j]) for j in problem.order],
    ).fit(problem.X, problem.shaped(problem.y[:, columns]))
    np.testing.assert_array_equal(
        other.log_prob(problem.X, problem.shaped(problem.y[:, columns])),
        est.log_prob(problem.X, problem.shaped(problem.y)),
    )
    draws, others = (one.sample(problem.X, 4, random_state=0) for one in (est, other))
    shape = (len(problem.X), 4, problem.n_outputs)
    np.testing.assert_array_equal(others.reshape(shape), draws.reshape(shape)[..., columns])
    means, others = (one.predict(problem.X[:3]).reshape(3, -1) for one in (est, other))
    np.testing.assert_array_equal(others, means[:, columns])


@holds_for(smooth)
def scale_and_offset_of_y_carry_over(problem):
    scaler = problem.parameters["y_scaler"] or "standard"
    est = problem.fit(y_scaler=scaler, dtype="float64")
    random = problem.random()
    factors = 2.0 ** random.integers(-20, 20, size=problem.n_outputs)
    # A power of 2 changes no digit; an offset does, which the start and training amplify
    for offset, tolerance in ((0.0, 1e-12), (random.normal(size=problem.n_outputs), 1e-3)):
        if scaler == "maxabs" and np.any(offset):
            continue  # which does not centre
        moved = problem.y * factors + offset
        other = problem.estimator(
            y_scaler=scaler,
            dtype="float64",
            limits=problem.limits * factors[:, None] + np.reshape(offset, (-1, 1)),
        ).fit(problem.X, problem.shaped(moved))
        np.testing.assert_allclose(
            other.log_prob(problem.X, problem.shaped(moved)) + np.log(factors).sum(),
            est.log_prob(problem.X, problem.shaped(problem.y)),
            atol=tolerance,
            rtol=tolerance,
        )
        means, others = (one.predict(problem.X[:3]).reshape(3, -1) for one in (est, other))
        np.testing.assert_allclose((others - offset) / factors, means, rtol=0.0, atol=tolerance)


@holds_for(smooth)
def inverse_cdf_inverts_cdf(problem):
    density = problem.fit(dtype="float64").predict_density(problem.X)
    u = problem.random().uniform(0.02, 0.98, size=problem.y.shape)
    y = density.inverse_cdf(problem.shaped(u))
    flat = y.reshape(problem.y.shape)
    low, high = problem.limits.T
    assert ((flat >= low) & (flat <= high)).all()
    np.testing.assert_allclose(density.cdf(y).reshape(u.shape), u, atol=1e-5)
    for values in (problem.y, problem.y + 1e6, problem.y - 1e6):
        cdf = density.cdf(problem.shaped(values))
        assert ((cdf >= 0.0) & (cdf <= 1.0)).all()


@holds_for(problems())
def copies_give_the_same_bits(problem):
    est = problem.fit()
    with tempfile.TemporaryDirectory() as folder:
        est.save(Path(folder, "model"))
        loaded = SANConditionalDensityEstimator.load(Path(folder, "model"))
    y = problem.shaped(problem.y)
    for other in (loaded, pickle.loads(pickle.dumps(est)), copy.deepcopy(est)):
        assert repr(other.get_params()) == repr(est.get_params())
        for result in (
            lambda one: one.log_prob(problem.X, y),
            lambda one: one.sample(problem.X, 3, random_state=0),
            lambda one: one.predict(problem.X[:3]),
        ):
            np.testing.assert_array_equal(result(other), result(est))


@holds_for(problems())
def a_fit_is_the_same_each_time(problem):
    est = problem.fit()
    X, y = problem.X, problem.shaped(problem.y)
    expected = est.log_prob(X, y)
    for other in (clone(est).fit(X, y), clone(clone(est)).fit(X.copy(), y.copy()), est.fit(X, y)):
        np.testing.assert_array_equal(other.log_prob(X, y), expected)
        assert other.loss_curve_ == est.loss_curve_


@holds_for(problems())
def zero_weights_drop_rows(problem):
    weight = problem.weight
    weight[:4] = 1.0
    used = weight > 0
    y = problem.shaped(problem.y)
    weighted = problem.estimator().fit(problem.X, y, sample_weight=weight)
    for factor in (1.0, 0.5):
        dropped = problem.estimator().fit(problem.X[used], y[used], factor * weight[used])
        np.testing.assert_array_equal(
            dropped.log_prob(problem.X, y), weighted.log_prob(problem.X, y)
        )
        np.testing.assert_array_equal(
            dropped.predict(problem.X[:3]), weighted.predict(problem.X[:3])
        )


def in_containers(array):
    """The same numbers in other clothes."""
    yield array.tolist()
    yield np.asfortranarray(array)
    yield array.astype(object)
    yield pd.DataFrame(array)
    if polars is not None:
        yield polars.DataFrame(array, schema=[f"x{j}" for j in range(array.shape[1])])


@holds_for(problems())
def containers_make_no_difference(problem):
    X, y = problem.X.astype(np.float64), problem.shaped(problem.y)
    est = problem.estimator().fit(X, y)
    expected = est.log_prob(X, y)
    for other in in_containers(X):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="X .* feature names")
            np.testing.assert_array_equal(est.log_prob(other, y), expected)
    for other in in_containers(problem.y):
        if not problem.one_dimensional:
            np.testing.assert_array_equal(est.log_prob(X, other), expected)
            np.testing.assert_array_equal(
                problem.estimator().fit(X, other).log_prob(X, y), expected
            )


@holds_for(problems())
def missing_features_are_met_as_in_fit(problem):
    random = problem.random()
    X, y = problem.X.astype(np.float64), problem.shaped(problem.y)
    missing = random.random(X.shape) < 0.3
    missing[:, 0] = False  # a feature that is always there
    missing[:2] = False
    est = problem.estimator(x_scaler="standard").fit(np.where(missing, NAN, X), y)
    holes = np.where(missing.any(axis=0) & (random.random(X.shape) < 0.5), NAN, X)
    for result in (est.log_prob(holes, y), est.predict(holes), est.sample(holes, random_state=0)):
        assert np.isfinite(result).all()
    holes[1, 0] = NAN
    with pytest.raises(ValueError, match="NaN in feature 'x0', which had none in fit"):
        est.predict(holes)
    free = problem.estimator(x_scaler="standard", missing_rate=0.3).fit(X, y)
    assert np.isfinite(free.log_prob(np.full(X.shape, NAN), y)).all()


@holds_for(problems())
def missing_targets_come_last(problem):
    random = problem.random()
    y, order, n = problem.y, problem.order, problem.n_outputs
    known = random.integers(1, n + 1, size=len(y))  # of each row, in the order
    known[:4] = n
    place = np.argsort(order)
    holes = np.where(place < known[:, None], y, NAN)
    est = problem.estimator().fit(problem.X, problem.shaped(holes))
    log_prob = est.log_prob(problem.X, problem.shaped(holes))
    assert np.isfinite(log_prob).all()
    np.testing.assert_allclose(
        log_prob[known == n],
        est.log_prob(problem.X, problem.shaped(y))[known == n],
        rtol=SINGLE,
        atol=SINGLE,
    )
    masked = np.ma.masked_invalid(problem.shaped(holes))
    np.testing.assert_array_equal(est.log_prob(problem.X, masked), log_prob)
    wrong = holes.copy()
    wrong[5, order[0]] = NAN
    for call in (problem.estimator().fit, est.log_prob):
        with pytest.raises(ValueError, match=r"y has 1 missing values|y has 1 rows"):
            call(problem.X, problem.shaped(wrong))
    if n > 2:
        wrong = y.copy()
        wrong[5, order[1]] = NAN
        with pytest.raises(ValueError, match="missing value before an observed one in the order"):
            est.fit(problem.X, wrong)


@holds_for(problems())
def names_stand_for_columns(problem):
    names = [f"{name} {j}" for j, name in enumerate(problem.parameters["likelihood"])]
    X = pd.DataFrame(problem.X, columns=[f"feature {j}" for j in range(problem.X.shape[1])])
    y = pd.DataFrame(problem.y, columns=names)
    est = problem.estimator(order=[names[j] for j in problem.order]).fit(X, y)
    assert est.output_names_ == names
    assert est.feature_names_in_.tolist() == list(X)
    plain = problem.estimator().fit(problem.X, problem.y)
    expected = plain.log_prob(problem.X, problem.y)
    np.testing.assert_array_equal(est.log_prob(X, y), expected)
    frame = est.sample(X, 2, as_frame=True, random_state=0)
    assert list(frame) == names
    assert len(frame) == 2 * len(X)
    draws = plain.sample(problem.X, 2, random_state=0)
    np.testing.assert_array_equal(frame.to_numpy(), draws.reshape(-1, problem.n_outputs))
    likelihood = dict(zip(names, problem.parameters["likelihood"], strict=True))
    by_name = problem.estimator(likelihood=likelihood).fit(X, y)
    np.testing.assert_array_equal(by_name.log_prob(X, y), expected)


@holds_for(problems())
def known_outputs_split_the_density(problem):
    if problem.n_outputs == 1:
        return
    est = problem.fit()
    density = est.predict_density(problem.X[:6])
    y = problem.y[:6]
    first = problem.order[0]
    known = density.given({int(first): y[:, first]})
    assert known.is_exact
    np.testing.assert_allclose(
        known.log_prob(y) + known.log_evidence(), density.log_prob(y), rtol=SINGLE, atol=SINGLE
    )
    draws = known.sample(3, random_state=0)
    np.testing.assert_array_equal(draws[..., first], np.repeat(y[:, [first]], 3, axis=1))
    low, high = problem.limits.T
    assert ((draws >= low) & (draws <= high)).all()


@holds_for(problems())
def categories_may_have_any_name(problem):
    random = problem.random()
    code = np.r_[0, 1, 2, random.integers(0, 3, size=len(problem.X) - 3)]
    y = problem.shaped(problem.y)

    def frame(labels):
        column = np.array(labels, dtype=object)[code]
        return pd.DataFrame({"kind": column, "size": problem.X[:, 0].astype(np.float64)})

    def fit(X):
        return problem.estimator(missing_rate=0.1).fit(X, y)

    est = fit(frame(["a", "b", "c"]))
    expected = est.log_prob(frame(["a", "b", "c"]), y)
    for labels in (["red", "ruby", "scarlet"], ["0", "1", "2"], ["", " ", "é"], [-1.0, 0.0, 7.5]):
        X = frame(labels)
        if not isinstance(labels[0], str):  # numbers are categories where they are named so
            other = problem.estimator(missing_rate=0.1, categorical_features=["kind"]).fit(X, y)
        else:
            other = fit(X)
        np.testing.assert_array_equal(other.log_prob(X, y), expected)
    unknown, missing = frame(["a", "b", "new"]), frame(["a", "b", None])
    with pytest.warns(UnknownCategoryWarning):
        found = est.log_prob(unknown, y)
    np.testing.assert_array_equal(found, est.log_prob(missing, y))


@holds_for(problems())
def labels_come_back(problem):
    colours = ["blue", "green", "red"]
    code = np.r_[0, 1, 2, problem.random().integers(0, 3, size=len(problem.X) - 3)]
    names = [f"y{j}" for j in range(problem.n_outputs)]
    y = pd.DataFrame(problem.y, columns=names).assign(colour=np.array(colours)[code])
    est = problem.estimator(
        likelihood=[*problem.parameters["likelihood"], "auto"],
        limits=[*problem.limits, [-INF, INF]],
        order=[*problem.order, problem.n_outputs],
    ).fit(problem.X, y)
    X, y = problem.X[:5], y[:5]
    assert set(est.sample(X, 9, random_state=0)[..., -1].ravel()) <= set(colours)
    assert set(est.predict(X)[:, -1]) <= set(colours)
    frame = est.sample(X, 2, as_frame=True, random_state=0)
    assert frame["colour"].isin(colours).all()
    assert frame["y0"].dtype in (np.float64, np.int64)
    # The densities of all labels add up to that of the other outputs
    joint = [est.log_prob(X, y.assign(colour=colour)) for colour in colours]
    known = est.predict_density(X).given({name: y[name].to_numpy() for name in names})
    np.testing.assert_allclose(
        np.logaddexp.reduce(joint), known.log_evidence(), rtol=SINGLE, atol=SINGLE
    )


@holds_for(problems())
def errors_of_zero_are_none(problem):
    est = problem.fit()
    X, y = problem.X, problem.shaped(problem.y)
    plain = est.log_prob(X, y)
    zero = est.log_prob(X, y, X_err=np.zeros(X.shape))
    np.testing.assert_allclose(zero, plain, rtol=SINGLE, atol=SINGLE)
    noisy = est.predict_density(X[:4], X_err=np.full(X[:4].shape, np.ptp(X) + 1e-3))
    low, high = problem.limits.T
    draws = noisy.sample(4, random_state=0).reshape(-1, problem.n_outputs)
    assert ((draws >= low) & (draws <= high)).all()
    assert not np.isnan(noisy.log_prob(y[:4])).any()


@holds_for(problems())
def partial_fits_go_on_from_copies(problem):
    X, y = problem.X, problem.shaped(problem.y)
    est = problem.estimator().partial_fit(X, y)
    other = pickle.loads(pickle.dumps(est))
    for one in (est, other):
        one.partial_fit(X[::-1], y[::-1])
        assert one.n_iter_ == 2
    np.testing.assert_array_equal(est.log_prob(X, y), other.log_prob(X, y))


@holds_for(problems())
def batches_hold_all_rows(problem):
    X, y = problem.X, problem.shaped(problem.y)
    cut = 1 + problem.seed % (len(X) - 1)
    start = problem.estimator(x_scaler="standard", dtype="float64")
    est = clone(start).fit([(X[:cut], y[:cut]), (X[cut:], y[cut:])])
    again = start.fit(lambda: iter([(X, y)]))
    assert est.n_features_in_ == X.shape[1]
    assert est.n_outputs_ == problem.n_outputs
    assert np.isfinite(est.log_prob(X, y)).all()
    np.testing.assert_allclose(est.log_prob(X, y), again.log_prob(X, y), rtol=1e-6, atol=1e-6)


def check(name, n_examples):
    function, problem = PROPERTIES[name]
    settings(
        derandomize=True,
        deadline=None,
        max_examples=n_examples,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )(given(problem)(function))()


@pytest.mark.parametrize("name", PROPERTIES)
def test_property(name):
    check(name, 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROPERTIES)
def test_property_in_many_problems(name):
    check(name, 100)


# Bad inputs

RANDOM = np.random.default_rng(0)
N = 24
X, Y = RANDOM.normal(size=(N, 2)), RANDOM.normal(size=(N, 2))
X_ERR = np.full(X.shape, 0.1)
FRAME = pd.DataFrame({"kind": np.resize(["a", "b", "c"], N), "size": X[:, 0]})
TARGETS = pd.DataFrame({"colour": np.resize(["red", "blue"], N), "mass": Y[:, 0]})
GROUPS = {}


@cache
def plain():
    """Two outputs, the first with limits; not to be changed."""
    return tiny(limits=[[-9, 9], [-INF, INF]]).fit(X, Y)


@cache
def with_errors():
    return tiny(use_errors=True).fit(X, Y, X_err=X_ERR)


@cache
def with_labels():
    """Categories among the features, labels among the outputs."""
    return tiny().fit(FRAME, TARGETS)


def group(function):
    """Add a generator of cases: what it is, a call, and what the message must match."""
    GROUPS[function.__name__] = function
    return function


def refit(method="fit", *data, start=plain, **parameters):
    """Go on from a fitted estimator, which must be left as it was if that fails."""
    est = copy.copy(start()).set_params(**parameters)
    before = dict(vars(est))
    try:
        return getattr(est, method)(*(data or (X, Y)))
    except Exception:
        after = {k: v for k, v in vars(est).items() if not k.startswith(("_callback", "_skl"))}
        assert after.keys() == before.keys()
        assert all(after[name] is before[name] for name in after)
        raise


#: Values of all sorts.
ODD = {
    "None": None,
    "text": "text",
    "no text": "",
    "bytes": b"auto",
    "True": True,
    "False": False,
    "0": 0,
    "1": 1,
    "-1": -1,
    "0.5": 0.5,
    "2.0": 2.0,
    "-0.5": -0.5,
    "nan": NAN,
    "inf": INF,
    "-inf": -INF,
    "1e300": 1e300,
    "10**30": 10**30,
    "1j": 1j,
    "[]": [],
    "numbers": [1, 2],
    "[1.5]": [1.5],
    "['a']": ["a"],
    "[[1.0]]": [[1.0]],
    "[None]": [None],
    "{}": {},
    "{'a': 1}": {"a": 1},
    "{1}": {1},
    "object": object(),
    "function": len,
    "class": int,
    "array": np.array([1.5]),
    "array of no axes": np.array(1),
    "1/2": Fraction(1, 2),
    "Decimal": Decimal(1),
    "NA": pd.NA,
    "date": datetime.date(2020, 1, 1),
    "tensor": torch.ones(1),
}
_BOOLEAN = "True, False"
#: Odd values of parameters that are none: each is documented, or falls under the reason given.
ACCEPTED = {
    "K": "1",
    "module_shape": "numbers",
    "first_module_shape": "None, numbers",
    "sequence_features": "1",
    "encoder": "None",
    "share_encoder": _BOOLEAN,
    "encoder_shape": "None, numbers",
    "feature_encoding": "None",
    "tree_features": _BOOLEAN,
    "synthetic_rows": "0, 1",
    "layer_norm": _BOOLEAN,
    "likelihood": "{}",  # no output is named, so that all are "auto"
    "likelihood_params": "None, {}",
    "limits": "None, {}",  # no output is named, so that none has limits
    "output_names": "None",
    "order": "None",
    "linear_base": _BOOLEAN,
    "x_scaler": "None",
    "y_scaler": "None",
    "missing_rate": "0, 0.5",
    "nondetection": "None",
    "categorical_features": "None, []",  # no feature is
    "use_errors": "False",
    "teacher_forcing": _BOOLEAN,
    "train_rsample": "False",
    "n_members": "1",
    "n_jobs": "None, 1, -1",
    "epochs": "1",
    "batch_size": "1",
    "learning_rate": "0.5, 1, 2.0",
    "weight_decay": "0, 0.5, 1, 2.0",
    "early_stopping": _BOOLEAN,
    "validation_fraction": "0.5",
    "n_iter_no_change": "None, 1",
    "verbose": f"{_BOOLEAN}, 0, 1, -1, 10**30",  # a whole number, as elsewhere in scikit-learn
    "random_state": f"None, {_BOOLEAN}, 0, 1",  # booleans are whole numbers to scikit-learn
    "warm_start": _BOOLEAN,
    "checkpoint_dir": "None, text",  # names a folder
}


def odd(*accepted):
    """Odd values but for those with the names `accepted`."""
    known = {name for one in accepted for name in one.split(", ")}
    return [(name, value) for name, value in ODD.items() if name not in known]


#: Odd values of every kind, for arguments that are checked by the same function elsewhere.
FEW = {shown: ODD[shown] for shown in ("None", "text", "True", "0", "-1", "0.5", "nan", "[]")}


def odd_values(calls):
    """Cases of calls that are given as (argument, accepted odd values, call).

    All odd values go into the first call of each argument, a few of them into the others.
    """
    met = set()
    for i, (name, accepted, call) in enumerate(calls):
        for shown, value in odd(accepted):
            if name not in met or shown in FEW:
                yield name, f"{name}={shown} {i}", partial(call, value)
        met.add(name)


def told(name, value):
    """Pattern of a message that has the argument's name, what is accepted, and the value."""
    shown = [repr(value)[:10]]
    if isinstance(value, (bytes, list, dict)) or np.shape(value) == (1,):
        shown += [repr(one) for one in list(value)[:1]]
        shown += [f"has {len(value)} entries", "has the column 2"]
    if name == "limits":
        shown += [f"got shape {np.shape(np.asarray(value))}"]
    words = "must|unknown|cannot|names|needs|has|do not fit"
    return rf"(?s)(?=.*\b{name}\b)(?=.*\b({words})\b).*({'|'.join(map(re.escape, shown))})"


@group
def parameters():
    for name in SANConditionalDensityEstimator().get_params():
        for shown, value in odd(ACCEPTED.get(name, "")):
            pattern = told(name, value)
            if name == "random_state":  # scikit-learn's own
                pattern = "cannot be used to seed|ValueError: Seed must be between"
            yield f"{name}={shown}", partial(refit, **{name: value}), pattern


#: Parameters that are wrong together or in detail, and what the message must match.
DETAILS = [
    ({"K": np.int64(0)}, r"ValueError: K must be an integer of at least 1, got np.int64\(0\)"),
    ({"K": np.array(2)}, "TypeError: K must be an integer of at least 1, got array"),
    ({"module_shape": (8, 0)}, r"module_shape .* got \(8, 0\)"),
    ({"module_shape": (8, True)}, r"module_shape .* got \(8, True\)"),
    ({"module_shape": (8, NAN)}, r"module_shape .* got \(8, nan\)"),
    ({"module_shape": np.ones((2, 2), dtype=int)}, "module_shape must be"),
    ({"module_shape": {8: 8}}, "module_shape must be"),
    ({"first_module_shape": ((8,),)}, "first_module_shape must be"),
    ({"encoder_shape": [-8]}, r"encoder_shape .* got \[-8\]"),
    ({"activation": "SiLU"}, "ValueError: activation must be one of .*'silu'.* got 'SiLU'"),
    ({"activation": torch.nn.ReLU}, "activation must be one of"),
    ({"likelihood": "MOG"}, "ValueError: likelihood='MOG' is unknown; choose one of 'auto'"),
    ({"likelihood": MixtureOfGaussians}, "likelihood must be"),
    ({"likelihood": ["mog"]}, "likelihood has 1 entries, but y has 2 outputs"),
    ({"likelihood": 5}, "TypeError: likelihood must be 'auto', 'gaussian', .* got 5"),
    (
        {"likelihood": ["auto", None]},
        "TypeError: likelihood must hold short names or instances, got None",
    ),
    ({"likelihood": {"y7": "mog"}}, "likelihood names 'y7', which is not a column of y"),
    ({"likelihood": {0: "mog"}}, "likelihood names 0"),
    ({"likelihood": {"y0": 3}}, "likelihood must hold .* got 3"),
    (
        {"likelihood": MixtureOfGaussians(K=-1)},
        r"K of the likelihood of output 0 \(y0\) must be at least 1, got -1",
    ),
    ({"likelihood": MixtureOfGaussians(K=1.5)}, "K of the likelihood of output 0"),
    (
        {"likelihood": MixtureOfGaussians(min_scale=0.0)},
        "ValueError: min_scale of .* output 0 .* a positive number in the units of y, got 0.0",
    ),
    ({"likelihood": MixtureOfGaussians(min_scale=NAN)}, "min_scale of the likelihood"),
    ({"likelihood": MixtureOfGaussians(min_scale="thin")}, "min_scale of the likelihood"),
    ({"likelihood": Ordinal(spacing=0.0)}, "spacing of .* must be a positive number, got 0.0"),
    ({"likelihood": Ordinal(spacing=-1.0)}, "spacing of the likelihood"),
    ({"likelihood": "ordinal"}, r"y has the value .* in output 0 \(y0\), which is not 0 plus"),
    ({"likelihood": Inflated("mog", at=0.0)}, "base of the likelihood"),
    ({"likelihood": Inflated(MixtureOfGaussians(), at="top")}, "'low', 'high' or a number, got"),
    ({"likelihood": Inflated(MixtureOfGaussians(), at="low")}, "needs limits and a bounded base"),
    ({"likelihood": Inflated(Categorical())}, "TypeError: base of .* must be a continuous family"),
    ({"likelihood": "mob"}, r"'mob' needs two finite limits for output 1 \(y1\), got"),
    ({"likelihood": "softmax"}, r"'softmax' needs two finite limits for output 1 \(y1\), got"),
    ({"likelihood": "mob", "limits": [[-9, INF], [-9, 9]]}, "needs two finite limits"),
    (
        {"likelihood": "mog", "limits": [[-9, 9]] * 2},
        r"ValueError: .*'mog' cannot respect the limits \[-9, 9\] of output 0 \(y0\); use 'trunc",
    ),
    ({"likelihood_params": {"K": 0}}, "K of the likelihood"),
    ({"likelihood_params": {"K": "two"}}, "K of the likelihood"),
    ({"likelihood_params": {"min_scale": -1}}, "min_scale of the likelihood"),
    ({"likelihood_params": {"min_scale": "thin"}}, "min_scale of the likelihood"),
    ({"likelihood_params": {3: 3}}, "likelihood_params"),
    (
        {"likelihood_params": {"J": 1}, "likelihood": "mog"},
        "TypeError: .*{'J': 1} do not fit likelihood 'mog', which accepts K, min_scale",
    ),
    (
        {"likelihood": MixtureOfGaussians(), "likelihood_params": {"K": 2}},
        "cannot be combined with the instance",
    ),
    ({"limits": [[0, 1]]}, r"limits must have shape \(2, 2\).* got shape \(1, 2\)"),
    ({"limits": [0, 1, 2]}, r"limits must have shape \(2, 2\)"),
    ({"limits": [[0, 1, 2]] * 2}, r"limits must have shape \(2, 2\)"),
    ({"limits": [[0], [0, 1]]}, r"limits must be numbers .* got \[\[0\], \[0, 1\]\]"),
    ({"limits": [[0, "one"], [0, 1]]}, "limits must be numbers"),
    ({"limits": [[0, None], [0, 1]]}, r"limits\[0\] = \(0, nan\): use -inf and inf"),
    ({"limits": [[0, 1j], [0, 1]]}, "limits must be numbers"),
    ({"limits": [[9, -9], [0, 1]]}, r"limits\[0\] = \(9, -9\): the lower limit must be below"),
    ({"limits": [[-9, 9], [1, 1]]}, r"limits\[1\] = \(1, 1\): the lower limit"),
    ({"limits": [[INF, INF]] * 2}, r"limits\[0\] = \(inf, inf\): the lower limit"),
    ({"limits": [[-INF, -INF]] * 2}, r"limits\[0\] = \(-inf, -inf\): the lower limit"),
    (
        {"limits": [[-9, -8], [-9, 9]]},
        r"y has 24 values outside limits for output 0 \(y0\), which allow \[-9, -8\]; widen",
    ),
    ({"limits": {"y7": (-9, 9)}}, "limits names 'y7', which is not a column of y; they are y0"),
    ({"order": [0]}, "must name each of the 2 outputs"),
    ({"order": [0, 0]}, r"order=\[0, 0\] must name each of the 2 outputs .* exactly once"),
    ({"order": [0, -2]}, "must name each of the 2 outputs"),
    ({"order": [0, 2]}, "order has the column 2, but y has 2"),
    ({"order": [1.0, 0.0]}, "order must hold column numbers"),
    ({"order": [True, False]}, "order must hold column numbers"),
    ({"order": ["y0", "y7"]}, "order names 'y7', which is not a column of y; they are y0, y1"),
    (
        {"order": "y0y1"},
        "TypeError: order must be 'auto', None, or a sequence of column numbers or names, which "
        "may end in ..., got 'y0y1'",
    ),
    ({"order": {"y0": 1}}, "order must be 'auto', None, or a sequence"),
    ({"order": [0, 0, ...]}, r"order=\[0, 0, Ellipsis\] must name no output more than once"),
    ({"order": [..., 0]}, "order must hold column numbers or names, got Ellipsis"),
    (
        {"x_scaler": "Standard"},
        "ValueError: x_scaler='Standard' is unknown; choose one of 'standard'",
    ),
    ({"x_scaler": StandardScaler}, "x_scaler must be None"),
    ({"y_scaler": QuantileTransformer()}, "y_scaler must be None"),
    ({"y_scaler": MinMaxScaler(clip=True)}, "y_scaler=.* clips"),
    ({"x_scaler": MinMaxScaler(feature_range=(1, 0))}, "feature range"),
    ({"x_scaler": StandardScaler(with_mean="no")}, "with_mean"),
    ({"y_scaler": PowerTransformer(method="log")}, "method"),
    ({"y_scaler": PowerTransformer(method="box-cox")}, "box-cox"),
    ({"x_scaler": PowerTransformer(method="box-cox")}, "(?i)box-cox"),
    ({"missing_rate": 1.0}, "ValueError: missing_rate must be .* got 1.0"),
    ({"missing_rate": "0.5"}, "missing_rate must be"),
    ({"missing_rate": {"x0": 1.0}}, r"missing_rate\['x0'\] must be .* got 1.0"),
    ({"missing_rate": {"other": 0.5}}, "missing_rate names 'other', which is no feature or part"),
    ({"nondetection": "INF"}, "nondetection must be one of"),
    ({"categorical_features": [2]}, "categorical_features has the column 2"),
    ({"categorical_features": [-1]}, "categorical_features has the column -1"),
    ({"categorical_features": ["kind"]}, "categorical_features names 'kind'"),
    ({"categorical_features": [True, False]}, "categorical_features must be"),
    ({"categorical_features": "kind"}, "categorical_features must be"),
    ({"train_rsample": True}, "ValueError: train_rsample=True needs teacher_forcing=False"),
    ({"use_errors": True}, "use_errors=True needs the errors of X"),
    (
        {"early_stopping": True, "validation_fraction": 0.99},
        "ValueError: validation_fraction=0.99 of 24 rows leaves fewer than 2 to train on",
    ),
    ({"dtype": "float16"}, "ValueError: dtype must be one of 'float32', 'float64'; got 'float16'"),
    ({"dtype": np.float32}, "dtype must be one of"),
    ({"dtype": torch.float64}, "dtype must be one of"),
    ({"device": "gpu"}, "ValueError: device='gpu' cannot be used here .* use 'auto' or 'cpu'"),
    ({"device": "cuda:99"}, "device='cuda:99' cannot be used"),
    ({"device": "meta"}, "device='meta' cannot be used"),
    ({"random_state": np.random.default_rng(0)}, "seed"),
    ({"random_state": 2**32}, "Seed must be between"),
    ({"random_state": torch.Generator()}, "seed"),
    ({"n_jobs": 2, "n_members": 2, "checkpoint_dir": "unused"}, "checkpoint_dir needs n_jobs=None"),
]


@group
def parameters_in_detail():
    for one, names in DETAILS:
        yield f"{one}", partial(refit, **one), names
    for one, names in DETAILS[:5]:
        yield f"partial_fit of {one}", partial(refit, "partial_fit", **one), names


def put(array, value):
    """Copy of an array with another value in its fourth row."""
    changed = np.array(array, dtype=object if isinstance(value, (str, dict)) else None)
    changed = changed.astype(np.result_type(changed, value)) if changed.dtype != object else changed
    changed[3, 0] = value
    return changed


#: No order of the outputs has such gaps at its end.
GAPS = put(Y, NAN)
GAPS[5, 1] = NAN

#: Features that no estimator can take, and what the message must match.
BAD_FEATURES = {
    "None": (None, "Expected 2D array"),
    "text": ("text", "array|could not convert"),
    "bytes": (b"text", "array|could not convert"),
    "a number": (3.0, "array|features|scalar"),
    "a class": (int, "array|features|float"),
    "an object": (object(), "array|features|float"),
    "a function": (len, "array|features|float"),
    "a set": ({1, 2}, "array|features|float"),
    "a dict": ({"a": 1.0}, "X is a dict of columns"),
    "a generator": ((row for row in X), "array|features|float"),
    "an empty list": ([], "Expected 2D array"),
    "an empty row": ([[]], "feature|1 sample"),
    "a row": (X[0], "Expected 2D array"),
    "three dimensions": (X[..., None], "dim 3|3 dim|expected <= 2|2D"),
    "no columns": (X[:, :0], "0 feature|features"),
    "ragged rows": ([[1.0, 2.0], [3.0]] * 12, "inhomogeneous"),
    "text cells": (np.full(X.shape, "red"), "could not convert"),
    "one text cell": (put(X, "red"), "could not convert|numbers"),
    "objects": (np.full(X.shape, object()), "float|numbers"),
    "dicts": (put(X, {}), "float|numbers"),
    "complex numbers": (X + 0j, "Complex data not supported"),
    "dates": (np.full(X.shape, np.datetime64("2020-01-01")), "X has dates"),
    "durations": (np.full(X.shape, np.timedelta64(1, "D")), "X has dates"),
    "sparse": (scipy.sparse.csr_array(X), "(?i)sparse"),
    "nothing but nan": (np.full(X.shape, NAN), "X has no value|NaN"),
    "a feature of nan": (X * [1.0, NAN], "X has no value at all in feature 'x1'|NaN"),
    "nothing but None": (np.full(X.shape, None), "X has no value|NaN"),
    "infinity": (put(X, INF), "infinity"),
    "minus infinity": (put(X, -INF), "infinity"),
    "1e200": (put(X, 1e200), "1e.200 in feature"),
    "frame of dates": (pd.DataFrame({"a": pd.date_range("2020", periods=N), "b": 1.0}), "(?i)date"),
    "frame of lists": (pd.DataFrame({"a": [[1]] * N, "b": 1.0}), "sequence|numbers"),
    "frame of complex": (
        pd.DataFrame({"a": np.full(N, 1j), "b": 1.0}),
        "(?i)complex|something else than numbers",
    ),
    "frame of objects": (pd.DataFrame({"a": [object()] * N, "b": 1.0}), "float|numbers"),
    "frame without columns": (pd.DataFrame(index=range(N)), "feature|at least one array"),
    "frame with a name twice": (pd.DataFrame(X, columns=["a", "a"]), "unique"),
    "frame with names of two kinds": (pd.DataFrame(X, columns=["a", 1]), "names"),
    "series": (pd.Series(X[:, 0]), "Expected a? ?2"),
}
#: Those that only a fitted estimator refuses.
BAD_FEATURES_LATER = {
    "one column": (X[:, :1], "expecting 2 features"),
    "three columns": (X[:, [0, 1, 1]], "expecting 2 features"),
    "nan": (put(X, NAN), "Input X contains NaN"),
    "None in a cell": (put(X.astype(object), None), "Input X contains NaN"),
    "far away": (put(X, 1e30), "1e.30 in feature"),
}
#: Those that do not go with the y of 24 rows.
BAD_FEATURES_WITH_TARGETS = {
    "few rows": (X[:7], "inconsistent numbers of samples|rows"),
    "many rows": (np.tile(X, (2, 1)), "inconsistent numbers of samples|rows"),
}


@group
def features_of_fit():
    bad = (
        BAD_FEATURES
        | BAD_FEATURES_WITH_TARGETS
        | {
            "one row": (X[:1], "minimum of 2"),
            "no rows": (X[:0], "0 sample"),
            "frame without rows": (pd.DataFrame({"a": [], "b": []}), "0 sample"),
        }
    )
    for what, (value, names) in bad.items():
        yield f"fit {what}", partial(refit, "fit", value, Y), names
        yield f"partial_fit {what}", partial(tiny().partial_fit, value, Y), names
    for what, (value, names) in BAD_FEATURES.items():
        categories = partial(refit, "fit", value, Y, categorical_features=[1])
        yield f"fit with categories {what}", categories, f"{names}|categor|X has"
    for what, (value, names) in BAD_FEATURES_LATER.items():
        yield f"partial_fit again {what}", partial(refit, "partial_fit", value, Y), names


@group
def features_later():
    bad = BAD_FEATURES | BAD_FEATURES_LATER
    for what, (value, names) in bad.items():
        yield f"predict {what}", partial(plain().predict, value), names
        yield f"sample {what}", partial(plain().sample, value, random_state=0), names
        density = lambda value=value: plain().predict_density(value).mean()  # noqa: E731
        yield f"predict_density {what}", density, names
    for what, (value, names) in (bad | BAD_FEATURES_WITH_TARGETS).items():
        yield f"log_prob {what}", partial(plain().log_prob, value, Y), names
        yield f"score {what}", partial(plain().score, value, Y), names
    for frame, names in [
        (FRAME[["size", "kind"]], "feature names should match"),
        (FRAME.rename(columns={"size": "mass"}), "feature names should match"),
        (FRAME[["size"]], "feature names should match"),
        (FRAME.assign(extra=1.0), "feature names should match"),
        (FRAME.assign(size="wide"), "something else than numbers in feature 'size'"),
        (FRAME.assign(size=pd.Timestamp("2020")), "dates or durations in feature 'size'"),
        (FRAME["size"], "Expected a 2-dimensional container"),
    ]:
        yield f"frame {list(frame)[:4]}", partial(with_labels().predict, frame), names


#: Targets that no estimator of numbers can take.
BAD_TARGETS = {
    "None": (None, "y to be passed|y must have|y has"),
    "text": ("text", "y must have|y has"),
    "a number": (3.0, "y must have|y has"),
    "an object": (object(), "y must have|y has"),
    "a set": ({1.0, 2.0}, "y must have|y has"),
    "a dict": ({"a": 1.0}, "y is a dict of columns"),
    "a generator": ((row for row in Y), "y must have|y has"),
    "an empty list": ([], "inconsistent numbers|y has|0 sample"),
    "no rows": (Y[:0], "inconsistent numbers|X has|0 sample"),
    "few rows": (Y[:7], "inconsistent numbers|X has 24 rows, but y has 7"),
    "many rows": (np.tile(Y, (2, 1)), "inconsistent numbers|X has 24 rows, but y has 48"),
    "one row": (Y[:1], "inconsistent numbers|X has 24 rows, but y has 1"),
    "ragged rows": ([[1.0, 2.0], [3.0]] * 12, "inhomogeneous"),
    "one text cell": (put(Y, "red"), "could not convert"),
    "dicts": (put(Y, {}), "float"),
    "lists": (pd.DataFrame({"a": [[1]] * N, "b": 1.0}), "sequence|float"),
    "complex numbers": (Y + 0j, "Complex data not supported"),
    "dates": (np.full(Y.shape, np.datetime64("2020-01-01")), "y has dates"),
    "durations": (np.full(Y.shape, np.timedelta64(1, "D")), "y has dates"),
    "sparse": (scipy.sparse.csr_array(Y), "y must have|y has"),
    "infinity": (put(Y, INF), "y contains infinity"),
    "minus infinity": (put(Y, -INF), "y contains infinity"),
    "nan in other outputs of other rows": (GAPS, r"missing values|NaN"),
    "frame of dates": (
        pd.DataFrame({"a": pd.date_range("2020", periods=N), "b": 1.0}),
        r"y has dates or durations in output 0 \((a|y0)\); convert",
    ),
}
BAD_TARGETS_OF_FIT = {
    "three dimensions": (Y[..., None], "dim"),
    "no columns": (Y[:, :0], r"0 feature\(s\)"),
    "a constant": (Y * [1.0, 0.0], r"y is constant \(0\) in output 1 \(y1\)"),
    "an empty column": (Y * [1.0, NAN], "y has no value at all in output 1"),
    "a gap": (np.c_[Y, Y[:, :1]] + [0, NAN, 0], "output 1"),
    "1e200": (put(Y, 1e200), "y has values of 1e.200 in output 0"),
    "1e-200": (Y * 1e-200, "y has values of .*e-200 in output 0"),
    "a name twice": (pd.DataFrame(Y, columns=["a", "a"]), "y has 2 columns 'a'"),
}
BAD_TARGETS_LATER = {
    "one column": (
        Y[:, :1],
        r"y has 1 outputs, but .* fitted with 2 \(y0, y1\)|y has 1 outputs, but the fit .* had 2",
    ),
    "one-dimensional": (Y[:, 0], "y has 1 outputs"),
    "three columns": (Y[:, [0, 1, 1]], "y has 3 outputs"),
    "a point too many": (np.zeros((N, 3, 4)), "y has 4 outputs"),
    "points of other rows": (np.zeros((7, 3, 2)), "X has 24 rows, but y has 7"),
}


@group
def targets():
    for what, (value, names) in (BAD_TARGETS | BAD_TARGETS_OF_FIT).items():
        start = partial(tiny, limits=None)
        yield f"fit {what}", partial(refit, "fit", X, value, limits=None), names
        yield f"partial_fit {what}", partial(start().partial_fit, X, value), names
    density = plain().predict_density(X)
    for what, (value, names) in (BAD_TARGETS | BAD_TARGETS_LATER).items():
        yield f"partial_fit again {what}", partial(refit, "partial_fit", X, value), names + "|dim"
        yield f"log_prob {what}", partial(plain().log_prob, X, value), names
        yield f"score {what}", partial(plain().score, X, value), names
        yield f"density.log_prob {what}", partial(density.log_prob, value), names
        yield f"cdf {what}", partial(density.cdf, value), names + "|dim"
        yield f"given {what}", partial(density.given({0: 0.0}).log_prob, value), names + "|dim"
    for value, names in [
        (TARGETS.assign(colour="green"), "label 'green' in output 0"),
        (TARGETS.assign(colour=None), "24 missing labels in output 0"),
        (TARGETS.assign(mass="heavy"), "could not convert"),
        (TARGETS[["mass"]], "y has 1 outputs"),
        (np.zeros((N, 2)), "label"),
    ]:
        yield f"labels {list(value)[:2]}", partial(with_labels().log_prob, FRAME, value), names


BAD_WEIGHTS = {
    "text": ("text", "could not convert"),
    "a number": (2.0, "sample_weight|array"),
    "a text array": (np.full(N, "much"), "could not convert"),
    "few": (np.ones(7), r"sample_weight must have shape \(24,\), one weight per row; got \(7,\)"),
    "many": (np.ones(48), r"sample_weight must have shape \(24,\)"),
    "two columns": (np.ones((N, 2)), r"sample_weight must have shape \(24,\)"),
    "one column": (np.ones((N, 1)), r"sample_weight must have shape \(24,\)"),
    "empty": ([], "sample_weight|minimum"),
    "negative": (-np.ones(N), "sample_weight must not be negative, got -1"),
    "one negative": (np.r_[-0.5, np.ones(N - 1)], "sample_weight must not be negative, got -0.5"),
    "zero": (np.zeros(N), "sample_weight is zero for every row"),
    "nan": (np.r_[NAN, np.ones(N - 1)], "sample_weight contains NaN"),
    "infinite": (np.r_[INF, np.ones(N - 1)], "sample_weight contains infinity"),
    "complex": (np.ones(N) + 0j, "Complex data not supported"),
    "a dict": ({"a": 1.0}, "is a dict of columns"),
    "an object": (object(), "number, not 'object'"),
    "None in it": (np.array([None] + [1.0] * (N - 1)), "NaN"),
    "dates": (np.full(N, np.datetime64("2020")), "sample_weight has dates"),
    "huge": (np.full(N, 1e308), "sample_weight"),
}
BAD_ERRORS = {
    "text": ("text", "could not convert"),
    "a number": (0.1, "array"),
    "one-dimensional": (X_ERR[:, 0], "Expected 2D array"),
    "few rows": (X_ERR[:7], "X_err must have the shape of X"),
    "one column": (X_ERR[:, :1], "X_err must have the shape of X"),
    "three columns": (np.ones((N, 3)), "X_err must have the shape of X"),
    "three dimensions": (X_ERR[..., None], "dim 3|<= 2"),
    "negative": (-X_ERR, "X_err must not be negative, got -0.1"),
    "infinite": (put(X_ERR, INF), "X_err contains infinity"),
    "complex": (X_ERR + 0j, "Complex data not supported"),
    "text cells": (np.full(X.shape, "red"), "could not convert"),
    "an object": (object(), "number, not 'object'"),
    "a dict": ({"a": 1.0}, "is a dict of columns"),
    "empty": ([], "Expected 2D array"),
    "dates": (np.full(X.shape, np.datetime64("2020")), "X_err has dates"),
}


@group
def weights_and_errors():
    for what, (value, names) in BAD_WEIGHTS.items():
        yield f"fit {what}", partial(refit, "fit", X, Y, value), names
        yield f"partial_fit {what}", partial(refit, "partial_fit", X, Y, value), names
        if what != "huge":  # an average that overflows says so itself
            yield f"score {what}", partial(plain().score, X, Y, value), names
    one = np.eye(N)[0]
    yield "fit one row", partial(refit, "fit", X, Y, one), "sample_weight is positive for 1 row"
    for what, (value, names) in BAD_ERRORS.items():
        for est in (plain(), with_errors()):
            density = lambda est=est, value=value: est.predict_density(X, X_err=value)  # noqa: E731
            yield f"predict_density X_err {what}", density, names
        yield f"fit X_err {what}", partial(refit, "fit", X, Y, None, value), names
        weight = partial(refit, "fit", X, Y, np.r_[0.0, np.ones(N - 1)], value)
        yield f"fit weighted X_err {what}", weight, names
        yield f"partial_fit X_err {what}", partial(refit, "partial_fit", X, Y, None, value), names
        yield f"score X_err {what}", partial(plain().score, X, Y, None, value), names
        yield f"sample X_err {what}", partial(plain().sample, X, X_err=value), names
        yield f"predict X_err {what}", partial(plain().predict, X, X_err=value), names
        yield f"log_prob X_err {what}", partial(plain().log_prob, X, Y, X_err=value), names
    for method in ("predict", "sample", "predict_density"):
        needed = partial(getattr(with_errors(), method), X)
        yield f"{method} without X_err", needed, "use_errors=True needs the errors"
    labels = partial(with_labels().predict, FRAME, X_err=np.ones(X.shape))
    yield "X_err of categories", labels, "X_err must be 0 or nan for the categories of .*'kind'"


@group
def numbers_of_draws():
    density = plain().predict_density(X)
    known, later = density.given({0: 0.0}), density.given({1: 0.0})
    calls = [
        ("n_samples", "1", partial(plain().sample, X)),
        ("n_samples", "1", lambda n: plain().predict(X, output_type="samples", n_samples=n)),
        ("n_samples", "1", lambda n: plain().sample(X, n, given={0: 0.0})),
        ("n_samples", "1", lambda n: plain().sample(X, n, as_frame=True)),
        ("n_draws", "1", density.sample),
        ("n_draws", "1", lambda n: density.sample(n, method="sobol")),
        ("n_draws", "1", density.to_frame),
        ("n_draws", "1", density.entropy),
        ("n_draws", "1", lambda n: density.kl(density, n)),
        ("n_draws", "1", lambda n: density.marginal(0, n_draws=n)),
        ("n_draws", "1", lambda n: density.pdf_grid(0, [0.0, 1.0], n_draws=n)),
        ("n_draws", "1", lambda n: density.marginal_cdf(0, Y[:, 0], n_draws=n)),
        ("n_draws", "1", lambda n: density.marginal_inverse_cdf(0, np.full(N, 0.3), n_draws=n)),
        ("n_draws", "1", lambda n: density.marginal_log_prob(0, Y[:, 0], n_draws=n)),
        ("n_draws", "1", known.sample),
        ("n_draws", "1", lambda n: resample(np.ones((2, 3)), np.ones((2, 3)), n)),
        ("n_points", "", lambda n: density.marginal(0, n_points=n)),
        ("n_candidates", "None, 1", lambda n: later.sample(2, n_candidates=n)),
    ]
    for name, what, call in odd_values(calls):
        yield what, call, f"{name} must be (an integer of )?at (least|most)"


@group
def random_states():
    density = plain().predict_density(X)
    weights = np.ones((2, 3))
    calls = [
        lambda seed: plain().sample(X, random_state=seed),
        lambda seed: plain().predict(X, output_type="samples", random_state=seed),
        lambda seed: density.sample(random_state=seed, method="sobol"),
        lambda seed: density.to_frame(random_state=seed),
        lambda seed: density.cdf(Y, random_state=seed),
        lambda seed: density.given({0: 0.0}).sample(random_state=seed),
        lambda seed: resample(weights, weights, 2, random_state=seed),
    ]
    for _, what, call in odd_values(
        [("random_state", ACCEPTED["random_state"], call) for call in calls]
    ):
        yield what, call, "cannot be used to seed|ValueError: Seed must be between"


@group
def levels():
    density = plain().predict_density(X)
    known = density.given({0: 0.0})
    lists = {"with 1": [0.5, 1.0], "with nan": [0.5, NAN], "of lists": [[0.5]], "of text": ["half"]}
    calls = [
        (
            "quantiles",
            "0.5, 1/2",
            lambda q: plain().predict(X, output_type="quantiles", quantiles=q),
        ),
        ("quantiles", "0.5, 1/2", density.quantile),
        ("quantiles", "0.5, 1/2", known.quantile),
        ("level", "0.5", density.interval),
        ("level", "0.5", lambda level: density.highest_density_interval(0, level)),
    ]
    for name, what, call in odd_values(calls):
        yield what, call, f"{name} must be"
    for name, _, call in calls:
        for shown, value in lists.items():
            yield f"{name}={shown}", partial(call, value), f"{name} must be"


@group
def widths():
    density = plain().predict_density(X[:2])
    calls = [
        ("width", "0.5, 1, 2.0", lambda width: density.mass_near_mode(0, width)),
        ("depth", "0.5", lambda depth: density.n_modes(0, depth=depth)),
        ("least", "0, 0.5", lambda least: density.n_modes(0, least=least)),
    ]
    for name, what, call in odd_values(calls):
        yield what, call, f"{name} must be"


@group
def choices():
    """Arguments with few values, each with all that is odd."""
    density = plain().predict_density(X)
    known = density.given({0: 0.0})
    yes = _BOOLEAN
    calls = [
        ("output_type", "", lambda v: plain().predict(X, output_type=v)),
        ("statistics", "", density.summarise),
        ("method", "", lambda v: plain().sample(X, method=v)),
        ("method", "", lambda v: density.sample(method=v)),
        # None is float64 to numpy
        ("dtype", "None", lambda v: plain().sample(X, dtype=v)),
        ("dtype", "None", lambda v: density.sample(dtype=v)),
        ("as_frame", yes, lambda v: plain().sample(X, as_frame=v)),
        ("return_ess", yes, lambda v: plain().sample(X, return_ess=v, given={0: 0.0})),
        ("return_ess", yes, lambda v: known.sample(return_ess=v)),
        ("progress", yes, lambda v: density.sample(progress=v)),
        ("out", "None", lambda v: plain().sample(X, out=v)),
        ("out", "None", lambda v: density.sample(out=v)),
        ("given", "None", lambda v: plain().sample(X, given=v)),
        ("given", "None", lambda v: plain().log_prob(X, Y, given=v)),
        ("given", "", density.given),
        ("ratio", "function, class", density.marginalise),
        ("other", "", density.kl),
        ("outputs", "0, 1, -1", density.marginal),
        ("output", "0, 1, -1, None", density.components),
        ("output", "0, 1, -1", lambda v: density.pdf_grid(v, [0.0, 1.0])),
        ("output", "0, 1, -1", lambda v: density.marginal_log_prob(v, Y[:, 0])),
        ("values", "", lambda v: density.marginal_cdf(0, v)),
        ("grid", "None, 0, 1, -1, 0.5, 2.0, -0.5, numbers, [1.5], array, array of no axes, 1/2, "
         "Decimal, tensor, True, False, 1e300, 10**30", lambda v: density.marginal(0, grid=v)),
        ("index", "None", lambda v: density.to_frame(index=v)),
    ]  # fmt: skip
    for name, what, call in odd_values(calls):
        yield what, call, rf"\b{name}\b.*\b(must|names|has)\b"


#: Errors that tell users what they did.
EXPECTED = (ValueError, TypeError, IndexError, OSError, ImportError)
#: What numpy and the standard library say when they cannot convert a value at our border.
CONVERSIONS = re.compile(
    "could not convert|inhomogeneous shape|expected str, bytes or os.PathLike|embedded null byte|"
    "File name too long|must be a string or a real number|slice indices must be integers"
)


def complaint(call, names):
    """What is wrong with the way in which a call fails; None if nothing is."""
    assert not re.search(names, UNRELATED), f"{names!r} says nothing"
    try:
        result = call()
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        files = [Path(frame.filename).parts for frame in frames]
        ours = max(i for i, parts in enumerate(files) if OURS & set(parts))
        line = linecache.getline(frames[ours].filename, frames[ours].lineno).strip()
        on_purpose = "sklearn" in files[ours] or line.startswith("raise")
        deep = any({"torch", "numba", "safetensors"} & set(parts) for parts in files[ours:])
        said = f"{type(error).__name__}: {error} ({frames[ours].name}: {line})"
        if not isinstance(error, EXPECTED) or deep:
            return f"raises {said}"
        if not on_purpose and not CONVERSIONS.search(str(error)):
            return f"stumbles over {said}"
        if not re.search(names, f"{type(error).__name__}: {error}"):
            return f"does not say {names!r}: {said}"
        return None
    return f"is accepted: {type(result).__name__}"


#: A pattern that finds this would find anything.
UNRELATED = "The row of X and y is K; pack my box with five dozen liquor jugs, u = 0123456789."

#: Where errors are to come from.
OURS = {"sklearn_san", "sklearn", Path(__file__).name}


@group
def arguments_in_detail():
    density, labels = plain().predict_density(X), with_labels().predict_density(FRAME)
    frozen = np.empty((N, 3, 2))
    frozen.flags.writeable = False
    for out, names in [
        (np.empty((N, 3)), r"out must have the shape of the draws, \(24, 3, 2\), got \(24, 3\)"),
        (np.empty((N, 2, 3)), "out must have the shape"),
        (np.empty((N, 3, 2), dtype=int), "out must be an array of float32 or float64.* got int64"),
        (np.empty((N, 3, 2), dtype=complex), "out must be an array .* got complex128"),
        (np.empty((N, 3, 2), dtype=np.float16), "out must be an array .* got float16"),
        (frozen, "out is read-only"),
        (frozen.tolist(), "out must be an array .* got list"),
    ]:
        yield f"out {names}", partial(plain().sample, X, 3, out=out), names
    yield "n_rows=7", partial(plain().distill, X, n_rows=7), "n_rows must be"
    yield "distill K=0", partial(plain().distill, X, n_rows=100, K=0), "K must be"
    yield "distill k=3", partial(plain().distill, X, n_rows=100, k=3), "Invalid parameter 'k'"
    yield "out of labels", partial(labels.sample, out=np.empty((N, 1, 2))), "cannot hold labels"
    for options, names in [
        ({"return_ess": True}, "return_ess=True goes with given="),
        ({"as_frame": True, "out": np.empty((N, 1, 2))}, "neither with out="),
        ({"as_frame": True, "dtype": "float32"}, "neither with out=, dtype="),
        ({"dtype": "float32", "out": np.empty((N, 1, 2))}, "dtype=float32 is not that of out"),
    ]:
        yield f"sample {list(options)}", partial(plain().sample, X, **options), names
    for known, names in [
        ({0: 0.0, 1: 0.0}, "given names every output.* nothing is left to infer"),
        ({2: 0.0}, "given has the column 2, but y has 2 columns"),
        ({-3: 0.0}, "given has the column -3"),
        ({"y7": 0.0}, "given names 'y7', which is not a column of y; they are y0, y1"),
        ({0.0: 0.0}, "given must hold column numbers or names"),
        ({True: 0.0}, "given must hold column numbers or names"),
        ({None: 0.0}, "given must hold column numbers or names"),
        ({0: 10.0}, r"value 10 outside the limits \[-9, 9\] of output 0 \(y0\)"),
        ({0: -10}, "value -10 outside the limits"),
        ({0: NAN}, r"given\[0\] has missing values"),
        ({1: NAN}, r"given\[1\] has missing values"),
        ({1: INF}, "infinity"),
        ({0: None}, r"given\[0\]"),
        ({1: None}, r"given\[1\]"),
        ({0: "red"}, "could not convert"),
        ({0: 1j}, "Complex data not supported|complex"),
        ({0: np.zeros(7)}, r"given\[0\] must be one .* each of the 24 rows, got shape \(7,\)"),
        ({0: np.zeros((N, 1))}, r"given\[0\] must be one value or one for each"),
        ({0: []}, r"given\[0\] must be one value or one for each"),
        ({0: {}}, "is a dict of columns"),
        ({0: 0.0, "y0": 1.0}, "given names output 0 .* twice"),
        ({0: np.datetime64("2020")}, "dates"),
        ([0, 0.0], "TypeError: given must be a dict of known outputs"),
        ({}, "TypeError: given must be a dict of known outputs"),
    ]:
        yield f"given {known}", partial(density.given, known), names
    yield "given label", partial(labels.given, {"colour": "green"}), "label .*green"
    yield "given label", partial(labels.given, {"colour": NAN}), "has missing values"
    for outputs, names in [
        ([0, 0], "one column or two different ones"),
        ([0, -2], "one column or two different ones"),
        ([0, 1, 0], "one column or two different ones"),
        ([], "one column or two different ones"),
        (2, "outputs has the column 2"),
        (-3, "outputs has the column -3"),
        ("y7", "outputs names 'y7'"),
        (["y0", "y7"], "outputs names 'y7'"),
        ([0, 1.0], "outputs must hold column numbers or names"),
        ([None], "outputs must hold column numbers or names"),
        (True, "outputs must hold column numbers or names"),
        (slice(None), "outputs must be"),
    ]:
        yield f"marginal {outputs}", partial(density.marginal, outputs), names
    yield "marginal of labels", partial(labels.marginal, "colour"), "has labels"
    for outputs, grid, names in [
        (0, [1.0, 0.0], "rising"),
        (0, [0.0, 0.0], "rising"),
        (0, [], "grid must hold rising numbers"),
        (0, [[0.0, 1.0]], "rising"),
        (0, [0.0, NAN], "grid contains NaN"),
        (0, [0.0, INF], "grid contains infinity"),
        (0, ["low", "high"], "could not convert"),
        (0, [0.0, 1j], "complex"),
        ([0, 1], [0.0, 1.0], "grid must hold rising numbers"),
        ([0, 1], [[0.0, 1.0]], "grid must have one array for each of 2 outputs"),
        ([0, 1], [[0.0, 1.0]] * 3, "grid must have one array for each of 2 outputs"),
        ([0, 1], [[0.0, 1.0], [1.0, 0.0]], "rising"),
        ([0, 1], 3.0, "grid must have one array for each of 2 outputs"),
        ([0, 1], "low", "grid must have one array for each of 2 outputs"),
    ]:
        yield f"grid {grid} of {outputs}", partial(density.marginal, outputs, grid=grid), names
    for u, names in [
        (None, "Input u contains NaN"),
        ("half", "could not convert"),
        (0.5, r"u must have shape \(24, 2\), got \(\)"),
        ([], r"u must have shape \(24, 2\), got \(0,\)"),
        (np.full(N, 0.5), r"u must have shape \(24, 2\), got \(24,\)"),
        (np.full((7, 2), 0.5), r"u must have shape \(24, 2\), got \(7, 2\)"),
        (np.full((N, 3), 0.5), r"u must have shape"),
        (np.full((N, 2, 1), 0.5), "u must have shape|dim 3"),
        (np.zeros((N, 2)), "strictly between 0 and 1, got 0"),
        (np.ones((N, 2)), "strictly between 0 and 1, got 1"),
        (np.full((N, 2), -0.5), "strictly between 0 and 1, got -0.5"),
        (np.full((N, 2), NAN), "u contains NaN"),
        (np.full((N, 2), INF), "u contains infinity"),
        (np.full((N, 2), "half"), "could not convert"),
        (np.full((N, 2), 0.5j), "Complex data not supported"),
        (np.full((N, 2), True), "strictly between 0 and 1, got 1"),
    ]:
        yield f"u={np.shape(u)}", partial(density.inverse_cdf, u), names
    for rows, names in [
        (N, "row 24 does not exist"),
        (-N - 1, "row -25 does not exist"),
        (10**30, "rows are chosen by a number"),
        ([0, N], "row 24 does not exist"),
        ([-N - 1], "row -25 does not exist"),
        (np.ones(7, dtype=bool), r"booleans that choose rows .* got \(7,\)"),
        (np.ones(48, dtype=bool), r"booleans that choose rows .* got \(48,\)"),
        (True, r"booleans that choose rows .* got \(\)"),
        (0.0, "rows are chosen by a number, a slice, or an array"),
        ([0.5], "rows are chosen by a number, a slice, or an array"),
        ("first", "rows are chosen by a number, a slice, or an array"),
        (["first"], "rows are chosen by a number, a slice, or an array"),
        (None, "rows are chosen by a number, a slice, or an array"),
        ((0, 1), "rows are chosen by a number, a slice, or an array"),
        ((slice(None), 0), "rows are chosen by a number, a slice, or an array"),
        ([[0, 1]], "rows are chosen by a number, a slice, or an array"),
        (np.ones((N, 2), dtype=bool), "rows are chosen by a number, a slice, or an array"),
        ({}, "rows are chosen by a number, a slice, or an array"),
        (object(), "rows are chosen by a number, a slice, or an array"),
        (slice("a", "b"), "slice indices must be integers"),
    ]:
        yield f"density[{rows}]", partial(density.__getitem__, rows), names
    for returned, names in [
        (1.0, "ratio must return one number for each"),
        (None, "ratio must return numbers, got object"),
        ("much", "ratio must return numbers, got <U4"),
        (np.ones(3), "ratio must return one number for each"),
        (np.ones((N, 2)), "ratio must return one number for each"),
    ]:
        reweighted = density.marginalise(lambda y, returned=returned: returned)
        yield f"ratio returns {returned}", partial(reweighted.log_prob, Y), names
        yield f"ratio returns {returned}", reweighted.sample, names
    for value, names in [
        (-1.0, "ratio must be finite and not negative, got -1"),
        (NAN, "ratio must be finite and not negative, got nan"),
        (INF, "ratio must be finite and not negative, got inf"),
        (0.0, "ratio is 0 for all"),
        (1j, "ratio must return numbers, got complex128"),
    ]:
        reweighted = density.marginalise(lambda y, value=value: np.full(len(y), value))
        yield f"ratio is {value}", reweighted.mean, names
    for draws, weights, names in [
        (np.ones((2, 3)), np.ones((2, 4)), "weights must have one entry for each"),
        (np.ones((2, 3)), np.ones(2), "weights must have one entry for each"),
        (np.ones(3), np.ones(3), "weights must have one entry for each"),
        (np.ones((2, 3)), -np.ones((2, 3)), "weights of row 0 must be finite, not negative"),
        (np.ones((2, 3)), np.zeros((2, 3)), "weights of row 0 must be finite, not negative"),
        (np.ones((2, 3)), np.full((2, 3), NAN), "weights of row 0 must be finite"),
        (np.ones((2, 3)), np.full((2, 3), INF), "weights of row 0 must be finite"),
        (np.ones((2, 3)), "much", "weights|could not convert"),
        (np.ones((2, 3)), None, "weights must have one entry for each"),
        (None, np.ones((2, 3)), "weights must have one entry for each"),
    ]:
        yield f"resample {names}", partial(resample, draws, weights, 2), names
    for other, names in [
        (plain().predict_density(X[:7]), "other has 7 rows, but this density has 24"),
        (labels, "label|y has|convert"),
        (X, "other must be a density .* got ndarray"),
    ]:
        yield f"kl {names}", partial(density.kl, other), names
    for index in (range(7), [], "rows"):
        yield f"index {index}", partial(density.to_frame, index=index), "index must have one"
    for output_type in ("std", "median", "quantiles"):
        call = partial(with_labels().predict, FRAME, output_type=output_type)
        yield f"{output_type} of labels", call, "has no meaning for the labels"
    yield "cov of labels", labels.cov, "A covariance has no meaning"


@group
def estimators_that_are_not_fitted():
    fresh = SANConditionalDensityEstimator()
    for name, call in {
        "predict": partial(fresh.predict, X),
        "sample": partial(fresh.sample, X),
        "log_prob": partial(fresh.log_prob, X, Y),
        "score": partial(fresh.score, X, Y),
        "predict_density": partial(fresh.predict_density, X),
        "save": partial(fresh.save, "unused"),
    }.items():
        yield name, call, "is not fitted yet"


def batches_of(*pairs):
    return lambda: iter(pairs)


@group
def batches():
    good = (X, Y)
    for what, value, names in [
        ("nothing", [], "0 rows"),
        ("a function of nothing", batches_of(), "0 rows"),
        ("one row", [(X[:1], Y[:1])], "1 rows; at least 2"),
        ("no rows", [(X[:0], Y[:0])], "0 rows"),
        ("a generator", (pair for pair in [good]), "generator"),
        ("an iterator", iter([good]), "generator"),
        ("a map", map(tuple, [good]), "generator"),
        ("text", "text", "requires y to be passed"),
        ("a number", 3.0, "requires y to be passed"),
        ("a list of arrays", [X, Y], "requires y to be passed"),
        ("sixes", [(X, Y, None, None, 1, 2)], "requires y to be passed"),
        ("singles", [(X,)], "requires y to be passed"),
        ("a dict", {"X": X}, r"batch 0 must be \(X, y\).* got (str|int)"),
        ("a set", {1, 2}, r"batch 0 must be \(X, y\).* got (str|int)"),
        ("a function that returns None", lambda: None, "batches must be .* got None"),
        ("a function that returns a number", lambda: 3.0, "batches must be .* got 3.0"),
        ("a function that returns X", lambda: X, "batch 0 must be .* got ndarray"),
        ("a function that yields X", batches_of(X), "batch 0 must be .* got ndarray"),
        ("weights of another shape", batches_of((X, Y, Y)), r"batch 0 .*sample_weight .*\(24, 2\)"),
        ("a function that yields None", batches_of(None), "batch 0 must be .* got NoneType"),
        ("a function that yields text", batches_of("ab"), "batch 0 must be .* got str"),
        ("without y", batches_of((X, None)), "batch 0 cannot be used: .* target y is None"),
        ("without X", batches_of((None, Y)), "batch 0 .*Expected 2D array"),
        ("different lengths", batches_of((X, Y[:7])), "batch 0 .*inconsistent"),
        ("one-dimensional X", batches_of((X[:, 0], Y)), "batch 0 .*Expected 2D array"),
        ("three-dimensional X", batches_of((X[..., None], Y)), "batch 0 cannot be used: .*dim 3"),
        ("three-dimensional y", batches_of((X, Y[..., None])), "batch 0 cannot be used: .*dim 3"),
        ("other X later", batches_of(good, (X[:, :1], Y)), "batch 1 .*X has 1 features, but"),
        ("other y later", batches_of(good, (X, Y[:, :1])), "batch 1 .*y has 1 outputs, but those"),
        ("flat y later", batches_of(good, (X, Y[:, 0])), "batch 1 .*y has 1 outputs, but those"),
        ("weights later", batches_of(good, (X, Y, np.ones(N))), "batch 1 has other parts"),
        ("words in X", batches_of((np.full(X.shape, "red"), Y)), "batch 0 .*could not convert"),
        ("words in y", batches_of((X, np.full(Y.shape, "red"))), "batch 0 .*respect the limits"),
        ("objects in X", batches_of((np.full(X.shape, object()), Y)), "batch 0 .*not 'object'"),
        ("complex X", batches_of((X + 0j, Y)), "batch 0 cannot be used: Complex"),
        ("complex y", batches_of((X, Y + 0j)), "batch 0 cannot be used: Complex"),
        ("infinity in X", batches_of((put(X, INF), Y)), "infinity"),
        ("infinity in y", batches_of((X, put(Y, INF))), "infinity"),
        ("nan in other outputs of other rows", batches_of((X, GAPS)), "NaN"),
        ("constant y", batches_of((X, Y * [1.0, 0.0])), "y is constant"),
        ("outside limits", batches_of((X, Y + 20.0)), "outside limits"),
    ]:  # fmt: skip
        yield what, partial(refit, "fit", value, None), names
    several = partial(refit, "partial_fit", [good], None)
    yield "partial_fit of batches", several, "use partial_fit for one batch after the other"
    once = partial(refit, "partial_fit", iter([good]), None)
    yield "partial_fit of an iterator", once, "use partial_fit for one batch after the other"
    yield "weights", partial(refit, "fit", [good], None, np.ones(N)), "part of each batch"
    yield "errors", partial(refit, "fit", [good], None, None, X_ERR), "part of each batch"


@group
def files():
    """Bad paths; what a model's file may hold is tested in `test_saving`."""
    folder = Path.cwd()
    load = SANConditionalDensityEstimator.load
    good = folder / "good.safetensors"
    if not good.exists():
        plain().save(good)
    for shown, value in odd("text, no text, bytes"):
        if not isinstance(value, (bool, int)):  # numbers of open files
            yield f"load {shown}", partial(load, value), "path|str"
        yield f"save {shown}", partial(plain().save, value), "path|str"
    for path in ("", "missing", folder, folder / "no" / "where", "\0", "x" * 5000, good / "part"):
        yield f"load {str(path)[:20]!r}", partial(load, path), "There is no file|is a folder"
    for path in ("", folder, folder / "no" / "where", "\0", folder / ("x" * 300), good / "part"):
        yield f"save {str(path)[:20]!r}", partial(plain().save, path), "folder|null|too long"
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir(exist_ok=True)
    for content in (b"a,b\n1,2\n", bytes(4096), (2).to_bytes(8, "little") + b"{}"):
        resume = partial(resume_from, checkpoint, content)
        yield f"checkpoint {content[:9]!r}", resume, "is no file that sklearn_san wrote"
    yield "checkpoint_dir is a file", partial(refit, checkpoint_dir=str(good)), "checkpoint_dir"


def resume_from(folder, content):
    refit(checkpoint_dir=folder)
    for file in folder.iterdir():
        file.write_bytes(content)
    return refit(checkpoint_dir=folder)


def command(*argv):
    """Run the command line; failing as it should is an error with the last line that it printed."""
    printed, result = io.StringIO(), io.StringIO()
    before = set(os.listdir())
    with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(result):
        code = main([str(one) for one in argv])
    lines = printed.getvalue().splitlines()
    assert result.getvalue() == ""
    assert set(os.listdir()) == before
    if code == 0:
        return code
    assert code in (1, 2), code
    start = "sklearn-san: error: " if code == 1 else "usage: sklearn-san"
    assert lines, "nothing is said"
    assert lines[0].startswith(start), lines
    assert ": error: " in lines[-1], lines
    assert code == 2 or len(lines) == 1, lines
    raise ValueError(lines[-1])


#: Arguments of the command line that make no sense, and what its last line must match. TABLE and
#: MODEL stand for good ones.
BAD_COMMANDS = {
    "": "required: COMMAND",
    "train": "invalid choice: 'train'",
    "--model MODEL": "required|invalid choice|unrecognized",
    "fit": "TABLE is missing",
    "fit TABLE": "--model is missing",
    "fit TABLE --model new": "--features is missing",
    "fit TABLE --model new --features a": "--targets is missing",
    "fit TABLE --model new --features --targets y": "expected at least one argument",
    "fit TABLE --model --features a --targets y": "expected one argument",
    "fit TABLE TABLE --model new --features a --targets y": "unrecognized arguments",
    "fit missing.csv --model new --features a --targets y": "no file 'missing.csv'",
    "fit MODEL --model new --features a --targets y": "must end in",
    "fit . --model new --features a --targets y": "must end in",
    "fit empty.csv --model new --features a --targets y": "no column 'a'",
    "fit header.csv --model new --features a --targets y": "no rows",
    "fit text.csv --model new --features a --targets y": "'a'.*'red'|red.*a",
    "fit TABLE --model new --features a c --targets y": "no column 'c'",
    "fit TABLE --model new --features a a --targets y": "named twice",
    "fit TABLE --model new --features a y --targets y": "named twice",
    "fit TABLE --model new --features a --targets y y": "named twice",
    "fit TABLE --model new --features a --targets z": "no column 'z'",
    "fit TABLE --model new --features kind --targets y": "kind",
    "fit TABLE --model new --features a --targets kind": "kind",
    "fit TABLE --model TABLE --features a --targets y": "is read by this command",
    "fit TABLE --model MODEL --features a --targets y": "exists; add --overwrite",
    "fit TABLE --model . --features a --targets y": "no file but a folder",
    "fit TABLE --model no/where --features a --targets y": "does not exist",
    "fit TABLE --model new --features a --features-from-file TABLE --targets y": "not allowed",
    "fit TABLE --model new --features-from-file missing --targets y": "no file 'missing'",
    "fit TABLE --model new --features a --targets y --limits y": "NAME=LOW,HIGH",
    "fit TABLE --model new --features a --targets y --limits y=0": "NAME=LOW,HIGH",
    "fit TABLE --model new --features a --targets y --limits y=0,1,2": "NAME=LOW,HIGH",
    "fit TABLE --model new --features a --targets y --limits y=low,high": "NAME=LOW,HIGH",
    "fit TABLE --model new --features a --targets y --limits =0,1": "NAME=LOW,HIGH",
    "fit TABLE --model new --features a --targets y --limits z=0,1": "no target 'z'",
    "fit TABLE --model new --features a --targets y --limits y=1,0": "lower limit must be below",
    "fit TABLE --model new --features a --targets y --limits y=nan,1": "limits",
    "fit TABLE --model new --features a --targets y --limits y=8,9": "outside limits",
    "fit TABLE --model new --features a --targets y --weights w": "no column 'w'",
    "fit TABLE --model new --features a --targets y --weights kind": "kind",
    "fit TABLE --model new --features a --targets y --weights a": "missing or negative",
    "fit TABLE --model new --features a --targets y --errors a": "NAME=COLUMN",
    "fit TABLE --model new --features a --targets y --errors a=": "NAME=COLUMN",
    "fit TABLE --model new --features a --targets y --errors =b": "NAME=COLUMN",
    "fit TABLE --model new --features a --targets y --errors b=b": "no feature 'b'",
    "fit TABLE --model new --features a --targets y --errors a=c": "no column 'c'",
    "fit TABLE --model new --features a --targets y --errors a=b": "must not be negative",
    "fit TABLE --model new --features a --targets y --categorical c": "no feature or target 'c'",
    "fit TABLE --model new --features a --targets y --test-fraction 0": "between 0 and 1",
    "fit TABLE --model new --features a --targets y --test-fraction 1": "between 0 and 1",
    "fit TABLE --model new --features a --targets y --test-fraction -1": "between 0 and 1",
    "fit TABLE --model new --features a --targets y --test-fraction nan": "between 0 and 1",
    "fit TABLE --model new --features a --targets y --test-fraction half": "between 0 and 1",
    "fit TABLE --model new --features a --targets y --test-fraction 0.99": "leaves fewer than 2",
    "fit TABLE --model new --features a --targets y --seed -1": "whole number|expected one",
    "fit TABLE --model new --features a --targets y --seed 1.5": "whole number",
    "fit TABLE --model new --features a --targets y --seed x": "whole number",
    "fit TABLE --model new --features a --targets y --seed 99999999999": "whole number",
    "fit TABLE --model new --features a --targets y --set epochs": "NAME=VALUE",
    "fit TABLE --model new --features a --targets y --set =3": "NAME=VALUE",
    "fit TABLE --model new --features a --targets y --set epoch=3": "no parameter 'epoch'",
    "fit TABLE --model new --features a --targets y --set limits=3": "use --limits",
    "fit TABLE --model new --features a --targets y --set random_state=3": "use --seed",
    "fit TABLE --model new --features a --targets y --set verbose=3": "use --quiet",
    "fit TABLE --model new --features a --targets y --epochs 3": "unrecognized arguments",
    "fit TABLE --model new --features a --targets y --config missing": "no file 'missing'",
    "fit TABLE --model new --features a --targets y --config TABLE": "is not TOML",
    "sample": "required",
    "sample TABLE --out new.csv": "required: --model",
    "sample TABLE --model MODEL": "required: --out",
    "sample TABLE --model missing --out new.csv": "no file 'missing'",
    "sample TABLE --model TABLE --out new.csv": "is no file that sklearn_san wrote",
    "sample TABLE --model . --out new.csv": "is a folder",
    "sample missing.csv --model MODEL --out new.csv": "no file 'missing.csv'",
    "sample text.csv --model MODEL --out new.csv": "no column 'b'|'red'",
    "sample TABLE --model MODEL --out new.txt": "must end in",
    "sample TABLE --model MODEL --out TABLE": "is read by this command",
    "sample TABLE --model MODEL --out MODEL": "must end in",
    "sample TABLE --model MODEL --out no/where.csv": "does not exist",
    "sample TABLE --model MODEL --out new.csv -n 0": "whole number",
    "sample TABLE --model MODEL --out new.csv -n -1": "whole number|expected one",
    "sample TABLE --model MODEL --out new.csv -n 2.5": "whole number",
    "sample TABLE --model MODEL --out new.csv -n many": "whole number",
    "sample TABLE --model MODEL --out new.csv -n 9999999999": "whole number",
    "sample TABLE --model MODEL --out new.csv --format wide": "invalid choice",
    "sample TABLE --model MODEL --out new.npy --dtype int": "invalid choice",
    "sample TABLE --model MODEL --out new.npy --keep a": "goes with a table",
    "sample TABLE --model MODEL --out - --format npy": "needs a file",
    "sample TABLE --model MODEL --out new.csv --keep c": "no column 'c'",
    "sample TABLE --model MODEL --out new.csv --keep y": "second column 'y'",
    "sample TABLE --model MODEL --out new.csv --features a": "--features has 1 columns",
    "sample TABLE --model MODEL --out new.csv --features a c": "no column 'c'",
    "sample TABLE --model MODEL --out new.csv --features a kind": "kind",
    "sample TABLE --model MODEL --out new.csv --errors c=a": "no feature 'c'",
    "sample TABLE --model MODEL --out new.csv --errors a=b": "must not be negative",
    "sample TABLE --model MODEL --out new.csv --seed x": "whole number",
    "predict TABLE --model MODEL": "required: --out",
    "predict TABLE --model MODEL --out new.npy": "give --pdf",
    "predict TABLE --model MODEL --out new.npy --pdf y=0,1,5 --statistics mean": "no --statistics",
    "predict TABLE --model MODEL --out new.csv --pdf y=0,1,5": "no columns of vectors",
    "predict TABLE --model MODEL --out new.npy --pdf y=0,1": "NAME=LOW,HIGH,N",
    "predict TABLE --model MODEL --out new.npy --pdf y=0,1,1": "NAME=LOW,HIGH,N",
    "predict TABLE --model MODEL --out new.npy --pdf y=1,0,5": "NAME=LOW,HIGH,N",
    "predict TABLE --model MODEL --out new.npy --pdf y=0,inf,5": "NAME=LOW,HIGH,N",
    "predict TABLE --model MODEL --out new.npy --pdf =0,1,5": "NAME=LOW,HIGH,N",
    "predict TABLE --model MODEL --out new.npy --pdf z=0,1,5": "no output 'z'",
    "predict TABLE --model MODEL --out new.csv --out-group a": "goes with HDF5",
    "predict TABLE --model MODEL --out new.csv --group a": "goes with HDF5",
    "predict TABLE --model MODEL --out new.csv --statistics": "expected at least one",
    "predict TABLE --model MODEL --out new.csv --statistics max": "must be mean, std",
    "predict TABLE --model MODEL --out new.csv --statistics q0": "must be mean, std",
    "predict TABLE --model MODEL --out new.csv --statistics q100": "must be mean, std",
    "predict TABLE --model MODEL --out new.csv --statistics q-5": "must be mean, std",
    "predict TABLE --model MODEL --out new.csv --statistics qx": "must be mean, std",
    "predict TABLE --model MODEL --out new.csv --keep y_mean": "no column 'y_mean'",
    "predict infinite.csv --model MODEL --out new.csv": "Feature 'a' .* has 1 infinite values",
    "predict holes.csv --model MODEL --out new.csv": "NaN in feature 'a'",
    "score TABLE": "required: --model",
    "score TABLE --model MODEL --targets": "expected at least one",
    "score TABLE --model MODEL --targets a b": "--targets has 2 columns",
    "score TABLE --model MODEL --targets c": "no column 'c'",
    "score TABLE --model MODEL --targets kind": "kind",
    "score TABLE --model MODEL -n 1": "whole number",
    "score TABLE --model MODEL --weights c": "no column 'c'",
    "score TABLE --model MODEL --keep a": "goes with --per-row",
    "score TABLE --model MODEL --per-row new.txt": "must end in",
    "score TABLE --model MODEL --per-row TABLE": "is read by this command",
    "score TABLE --model MODEL --json yes": "unrecognized arguments",
    "info": "required: MODEL",
    "info missing": "no file 'missing'",
    "info TABLE": "is no file that sklearn_san wrote",
    "info .": "is a folder",
    "info MODEL MODEL": "unrecognized arguments",
}


def write_files():
    """Tables and a model for the commands, in the current folder."""
    table = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": Y[:, 0], "kind": FRAME["kind"]})
    table.to_csv("table.csv", index=False)
    table.assign(a=np.where(np.arange(N) == 3, INF, X[:, 0])).to_csv("infinite.csv", index=False)
    table.assign(a=np.where(np.arange(N) == 3, NAN, X[:, 0])).to_csv("holes.csv", index=False)
    tiny().fit(table[["a", "b"]], table["y"]).save("model")
    for name, content in {
        "empty.csv": b"",
        "header.csv": b"a,y\n",
        "text.csv": b"a,y\nred,1\nblue,2\n",
    }.items():
        Path(name).write_bytes(content)


@group
def commands():
    write_files()
    places = {"TABLE": "table.csv", "MODEL": "model"}
    for line, names in BAD_COMMANDS.items():
        argv = [places.get(one, one) for one in line.split()]
        yield line, partial(command, *argv), names
    start = "fit table.csv --model new --features a b --targets y --seed 0 --set K=2 epochs=1"
    for name in SANConditionalDensityEstimator().get_params():
        if name in ("limits", "output_names", "random_state", "verbose"):
            continue
        # No parameter takes this number; `parameters` has all other values
        yield name, partial(command, *start.split(), f"{name}=1j"), rf"\b{name}\b.*1j"


# Odd inputs that make sense

#: Odd data that are taken, by the reason; each is a change of the arguments of `fit`.
ACCEPTED_DATA = {
    "numbers as text, which scikit-learn converts": {"X": X.astype(str)},
    "whole numbers": {"X": np.arange(N)[:, None]},
    "truth values as 0 and 1": {"X": X > 0},
    "half precision": {"X": X.astype(np.float16)},
    "long double": {"X": X.astype(np.longdouble)},
    "objects that are numbers": {"X": X.astype(object)},
    "None, which is a missing value": {"X": put(X.astype(object), None)},
    "masked values, which are missing": {"X": np.ma.array(X, mask=X > 1)},
    "masked targets, which are missing": {
        "y": np.ma.array(Y, mask=[[False, True]] * 12 + [[False] * 2] * 12)
    },
    "tensors": {"X": torch.from_numpy(X), "y": torch.from_numpy(Y)},
    "rows in reverse": {"X": X[::-1], "y": Y[::-1]},
    "Fortran's order": {"X": np.asfortranarray(X), "y": np.asfortranarray(Y)},
    "nullable columns": {"X": pd.DataFrame({"a": pd.array([1, None, 2] * 8, "Int64"), "b": 1.5})},
    "a constant feature": {"X": X * [1.0, 0.0]},
    "tiny features, which are as good as constant": {"X": X * 1e-200},
    "a column of text and numbers, all of them categories": {
        "X": pd.DataFrame({"a": ["red", 1.0] * 12, "b": X[:, 0]})
    },
    "targets of text, which are labels": {"y": np.resize(["red", "blue"], N)},
    "truth values as labels": {"y": Y[:, 0] > 0},
    "weights that are truth values": {"sample_weight": X[:, 0] > 0},
    "weights as text, which scikit-learn converts": {"sample_weight": np.full(N, "2")},
    "tiny weights, of which only the ratio counts": {"sample_weight": np.full(N, 1e-300)},
    "errors of 0 and nan, which stand for none": {"X_err": np.tile([0.0, NAN], (N, 1))},
}


@pytest.mark.parametrize("reason", ACCEPTED_DATA)
def test_odd_data_that_make_sense(reason):
    data = {"X": X, "y": Y} | ACCEPTED_DATA[reason]
    assert np.isfinite(tiny().fit(**data).score(data["X"], data["y"]))


@pytest.mark.filterwarnings("ignore:Training diverged")
def test_odd_parameters_that_make_sense(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, accepted in ACCEPTED.items():
        for shown in accepted.split(", "):
            est = tiny(**{name: ODD[shown]}).fit(X, Y)
            assert np.isfinite(est.score(X, Y)), (name, shown)
    assert tiny(device="cpu:1").fit(X, Y).score(X, Y) == tiny().fit(X, Y).score(X, Y)


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.filterwarnings("ignore:.*feature names")
def test_bad_inputs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    score = plain().score(X, Y)
    problems = [
        f"{what}: {wrong}"
        for what, call, names in GROUPS[name]()
        if (wrong := complaint(call, names)) is not None
    ]
    assert not problems, "\n".join(problems)
    assert plain().score(X, Y) == score


#: Arguments that whole groups are about, and those that take anything.
IN_GROUPS = {"X", "y", "sample_weight", "X_err", "known", "levels", "u", "path", "deep", "params"}
#: In test_nothing_silent_fits
IN_GROUPS |= {"groups", "X_val", "y_val", "sample_weight_val", "X_err_val"}
#: In test_nothing_silent_tools, and those of distill
IN_GROUPS |= {"on_bad_rows", "row_ids", "n_rows", "parameters"}


def test_every_argument_has_bad_inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    covered = set(SANConditionalDensityEstimator().get_params()) | IN_GROUPS
    for name in ("numbers_of_draws", "random_states", "levels", "widths", "choices"):
        covered |= {what.partition("=")[0] for what, _, _ in GROUPS[name]()}
    density = plain().predict_density(X)
    for one in (
        plain(),
        density,
        density.given({0: 0.0}),
        density.marginalise(lambda y: np.ones(len(y))),
    ):
        methods = [
            function
            for name, function in inspect.getmembers(one, inspect.ismethod)
            if name[0] != "_" and function.__module__.startswith("sklearn_san")
        ]
        assert len(methods) >= 5
        for function in methods:
            missing = set(inspect.signature(function).parameters) - covered
            assert not missing, (function, missing)
