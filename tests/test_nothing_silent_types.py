"""Names and types: what is found by name, what is masked, what a category is, what has a unit.

`ITEMS` has a call and the right value for each kind of mistake that once went without a word;
`REFUSED` and `WARNED` those of which the right answer is one sentence. All fits are tiny.
"""

import sys
from argparse import Namespace

import numpy as np
import pandas as pd
import pytest
import sklearn
from conftest import small
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import StandardScaler

from sklearn_san import CalibratedDensity, SANConditionalDensityEstimator
from sklearn_san._tables import Frame, as_table
from sklearn_san._targets import on_limits, single_inside
from sklearn_san.calibration import calibration_report
from sklearn_san.cli.rows import Rows, check_finite
from sklearn_san.exceptions import AlignmentWarning, ScaleWarning, UnknownCategoryWarning
from sklearn_san.likelihoods import Inflated, MixtureOfGaussians
from sklearn_san.metrics import SCORERS, crps
from sklearn_san.plotting.arrays import as_rows

N = 120
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(N, 2)) * [1.0, 5.0]
Y = np.stack([X[:, 0], 3.0 + X.sum(axis=1)], axis=1) + RANDOM.normal(size=(N, 2))
KIND = RANDOM.integers(0, 3, N)
HOLES = np.arange(N) % 7 == 0
XF, YF = pd.DataFrame(X, columns=["a", "b"]), pd.DataFrame(Y, columns=["p", "q"])
ERRORS = np.full(X.shape, [0.1, 0.5])
STARS = pd.Index([f"star {i}" for i in range(N)], name="star")
#: Targets at the limits of single precision, which are outside those of double precision
ENDS = RANDOM.uniform(-0.5, 0.5, N).astype(np.float32)
ENDS[:3], ENDS[3:6] = 0.6, -0.6
HALF = [(-0.6, 0.6)]


def tiny(**parameters):
    """Estimator that is fitted in no time."""
    return small(**{"epochs": 1, "n_members": 1, "K": 2, "module_shape": (4,)} | parameters)


@pytest.fixture(scope="module")
def named():
    """Fitted to frames."""
    return tiny().fit(XF, YF)


@pytest.fixture(scope="module")
def between():
    """Fitted to what lies between two limits, both of which occur."""
    return tiny(limits=HALF).fit(X, ENDS)


def masked(values, mask, fill=99.0):
    """Masked array with `fill` under the mask."""
    return np.ma.MaskedArray(np.where(mask, fill, values), np.broadcast_to(mask, np.shape(values)))


def in_pandas(column):
    """Features with a column of categories, as a pandas frame."""
    return pd.DataFrame({"a": X[:, 0], "kind": column})


def score_of_kinds(column):
    """Score with these categories, which must not depend on what they are called."""
    table = in_pandas(column)
    return tiny().fit(table, Y).score(table, Y)


def classes_of(y):
    """Labels of the last output, and its score, which must not depend on what they are called."""
    est = tiny().fit(X, y)
    return est.codec_.classes[-1].tolist()


def structured(byte_order=">"):
    """Features as in a FITS file."""
    table = np.zeros(N, dtype=[("a", f"{byte_order}f8"), ("b", f"{byte_order}f8")])
    table["a"], table["b"] = X.T
    return table


class Labelled:
    """As much of an xarray DataArray as there is to see."""

    def __init__(self, values):
        self.values, self.shape = values, values.shape
        self.dims, self.coords = ("row", "band"), {"band": np.array(["a", "b"])}

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)

    def __len__(self):
        return len(self.values)

    def __getitem__(self, rows):
        return Labelled(self.values[rows])


def output_as(kind):
    """Score of a fit while transformers return frames."""
    with sklearn.config_context(transform_output=kind):
        est = tiny(y_scaler="power", x_scaler="robust").fit(XF, YF)
        return est.score(XF, YF)


def recalibrated(est, y):
    """Conformal intervals of an estimator that is recalibrated with y."""
    calibrated = CalibratedDensity(FrozenEstimator(est), random_state=0).fit(XF, y)
    return calibrated.predict_density(XF).interval(0.8, method="conformal")


def pvalues(est, y):
    """P-values of the diagnostics that compare draws with y."""
    return calibration_report(
        est, XF, y, n_draws=20, diagnostics=["ranks", "tarp"], random_state=0
    ).pvalues


SWAPPED = YF[["q", "p"]]
E = pd.DataFrame(ERRORS, columns=XF.columns)

#: A call of the fitted estimator, and what it must equal.
ITEMS = {
    # Named things
    "1: given as a frame": (
        lambda est: est.sample(XF, 2, given=YF[["q"]], random_state=0),
        lambda est: est.sample(XF, 2, given={"q": Y[:, 1]}, random_state=0),
    ),
    "1: limits with names": (
        lambda est: (
            tiny(limits=pd.DataFrame([[-99, 99], [-9, 9]], index=["q", "p"])).fit(XF, YF).limits_
        ),
        lambda est: [[-9, 9], [-99, 99]],
    ),
    "1: y of the outputs before": (
        lambda est: est.predict_density(XF).components("q", SWAPPED).loc,
        lambda est: est.predict_density(XF).components("q", YF).loc,
    ),
    "1: y in a report": (
        lambda est: list(pvalues(est, SWAPPED).values()),
        lambda est: list(pvalues(est, YF).values()),
    ),
    "1: y in the scorers": (
        lambda est: [scorer(est, XF, SWAPPED) for scorer in SCORERS.values()],
        lambda est: [scorer(est, XF, YF) for scorer in SCORERS.values()],
    ),
    "1: y in a picture": (
        lambda est: as_rows(SWAPPED, est.predict_density(XF), np.arange(2)),
        lambda est: Y,
    ),
    "1: y of a recalibration": (
        lambda est: recalibrated(est, SWAPPED),
        lambda est: recalibrated(est, YF),
    ),
    "2: X_err in another order": (
        lambda est: est.log_prob(XF, YF, X_err=E[["b", "a"]]),
        lambda est: est.log_prob(XF, YF, X_err=ERRORS),
    ),
    "2: X_err in another order in fit": (
        lambda est: tiny(epochs=4).fit(XF, YF, X_err=E[["b", "a"]]).score(XF, YF),
        lambda est: tiny(epochs=4).fit(XF, YF, X_err=ERRORS).score(XF, YF),
    ),
    "2: masked errors are not known": (
        lambda est: est.log_prob(XF, YF, X_err=masked(ERRORS, HOLES[:, None] & [True, False])),
        lambda est: est.log_prob(
            XF, YF, X_err=np.where(HOLES[:, None] & [True, False], np.nan, ERRORS)
        ),
    ),
    "1: X_err of numbered columns": (
        lambda est: (
            tiny()
            .fit(pd.DataFrame(X), Y)
            .score(pd.DataFrame(X), Y, X_err=pd.DataFrame(ERRORS)[[1, 0]])
        ),
        lambda est: tiny().fit(X, Y).score(X, Y, X_err=ERRORS),
    ),
    # Types
    "4: transformers return pandas": (
        lambda est: output_as("pandas"),
        lambda est: output_as("default"),
    ),
    "4: transformers return polars": (
        lambda est: output_as("polars"),
        lambda est: output_as("default"),
    ),
    "4: a scaler of the user's returns pandas": (
        lambda est: (
            tiny(x_scaler=StandardScaler().set_output(transform="pandas")).fit(XF, YF).score(XF, YF)
        ),
        lambda est: est.score(XF, YF),
    ),
    **{
        f"5: categories of {kind}": (
            lambda est, column=column: score_of_kinds(column),
            lambda est: score_of_kinds(KIND.astype(str)),
        )
        for kind, column in {
            "integers": pd.Categorical(KIND),
            "floats": pd.Categorical(KIND * 1.5),
            "Int64": pd.Categorical(pd.array(KIND, dtype="Int64")),
            "intervals": pd.cut(KIND, [-1, 0, 1, 2]),
            "ordered integers": pd.Categorical(KIND, categories=[2, 1, 0], ordered=True),
        }.items()
    },
    **{
        f"5: labels of {kind}": (
            lambda est, column=column: classes_of(column),
            lambda est, labels=labels: labels,
        )
        for kind, column, labels in [
            ("integers", pd.Series(pd.Categorical(KIND)), [0, 1, 2]),
            ("floats", pd.DataFrame({"y": pd.Categorical(KIND * 1.5)}), [0.0, 1.5, 3.0]),
            ("Int64", pd.Series(pd.Categorical(pd.array(KIND, dtype="Int64"))), [0, 1, 2]),
        ]
    },
    "7: structured arrays": (
        lambda est: cross_val_score(tiny(), structured(), Y, cv=2),
        lambda est: cross_val_score(tiny(), X, Y, cv=2),
    ),
    "7: structured arrays have names": (
        lambda est: tiny().fit(structured(), Y).feature_names_in_.tolist(),
        lambda est: ["a", "b"],
    ),
    "7: arrays with labels": (
        lambda est: tiny().fit(Labelled(X), Y).feature_names_in_.tolist(),
        lambda est: ["a", "b"],
    ),
    "7: bytes are text": (
        lambda est: (
            tiny().fit(in_pandas(KIND.astype("U1")), Y).score(in_pandas(list(KIND.astype("S1"))), Y)
        ),
        lambda est: score_of_kinds(KIND.astype("U1")),
    ),
    # Names of the rows
    "23: index of a frame of draws": (
        lambda est: est.predict_density(XF.set_axis(STARS))[[5, 3]].to_frame(1).index.tolist(),
        lambda est: [("star 5", 0), ("star 3", 0)],
    ),
    "23: its name": (
        lambda est: list(est.sample(XF.set_axis(STARS), 1, as_frame=True).index.names),
        lambda est: ["star", "draw"],
    ),
    "23: of a conditioned density": (
        lambda est: (
            est.predict_density(XF.set_axis(STARS)[:1]).given({"p": 0.0}).to_frame(1).index.tolist()
        ),
        lambda est: [("star 0", 0)],
    ),
    "23: of several levels": (
        lambda est: est.sample(
            XF[:1].set_axis(pd.MultiIndex.from_tuples([(7, 8)], names=["field", "id"])),
            1,
            as_frame=True,
        ).index.tolist(),
        lambda est: [(7, 8, 0)],
    ),
}


@pytest.mark.parametrize("name", ITEMS)
def test_the_right_value(name, named):
    call, right = ITEMS[name]
    if "polars" in name:
        pytest.importorskip("polars")
    np.testing.assert_array_equal(call(named), right(named))


STRANGE = np.where(np.arange(N)[:, None] == 3, np.inf, X)
DAYS = pd.date_range("2020", periods=N, tz="UTC")

REFUSED = {
    "1: X_err of other features": (
        lambda est: est.score(XF, YF, X_err=E.rename(columns={"a": "error_of_a"})),
        r"X_err has the columns error_of_a, b, but X has a, b; rename",
    ),
    "1: numbered columns in another order": (
        lambda est: tiny().fit(pd.DataFrame(X), Y).score(pd.DataFrame(X)[[1, 0]], Y),
        r"X has the columns 1, 0, but fit saw 0, 1",
    ),
    "1: divergence from other outputs": (
        lambda est: est.predict_density(XF).kl(tiny().fit(XF, SWAPPED).predict_density(XF)),
        r"other has the outputs q, p, but this density has p, q",
    ),
    "1: masked values of given": (
        lambda est: est.sample(XF, 1, given={"q": masked(Y[:, 1], HOLES)}),
        r"given\['q'\] has missing values",
    ),
    "2: masked weights": (
        lambda est: est.score(XF, YF, sample_weight=masked(np.ones(N), HOLES)),
        "sample_weight contains NaN",
    ),
    "2: masked weights in fit": (
        lambda est: tiny().fit(XF, YF, sample_weight=masked(np.ones(N), HOLES)),
        "sample_weight contains NaN",
    ),
    "2: masked targets of a score": (
        lambda est: crps(masked(Y, HOLES[:, None]), est.sample(XF, 3, random_state=0)),
        "y_true contains NaN",
    ),
    "7: dates with a time zone": (
        lambda est: tiny().fit(in_pandas(DAYS), Y),
        "X has dates or durations in feature 'kind'",
    ),
    "7: dates with a time zone in y": (
        lambda est: tiny().fit(X, pd.DataFrame({"p": Y[:, 0], "day": DAYS})),
        r"y has dates or durations in output 1 \(day\)",
    ),
    "7: periods": (
        lambda est: tiny().fit(in_pandas(pd.period_range("2020", periods=N, freq="D")), Y),
        "something else than numbers in feature 'kind'",
    ),
    "7: missing booleans in y": (
        lambda est: tiny().fit(
            X, pd.DataFrame({"q": pd.array(np.where(HOLES, None, KIND > 0), dtype="boolean")})
        ),
        r"y has \d+ missing labels in output 0 \(q\)",
    ),
    "7: a dict of columns": (
        lambda est: tiny().fit({"a": X[:, 0], "b": X[:, 1]}, Y),
        r"X is a dict of columns; make it a frame, such as pandas.DataFrame\(X\)",
    ),
    "22: infinities": (
        lambda est: tiny().fit(STRANGE, Y),
        r"infinity in 1 rows of feature 'x0'; set nondetection='inf'",
    ),
    "22: infinities in predict": (
        lambda est: est.predict(pd.DataFrame(STRANGE, columns=["a", "b"])),
        r"infinity in 1 rows of feature 'a'; set nondetection='inf'",
    ),
    "22: infinities on the command line": (
        lambda est: check_finite(
            Namespace(table="t.csv", on_bad_rows="raise"),
            Rows({"a": STRANGE[:, 0]}, {}, None, None, {}, np.arange(len(STRANGE))),
            est,
        ),
        "has 1 infinite values; fit with --set nondetection=inf if",
    ),
    "assume_finite: infinite y": (
        lambda est: assuming(est.score, XF, STRANGE),
        "y contains infinity",
    ),
    "assume_finite: missing weights": (
        lambda est: assuming(tiny().fit, X, Y, sample_weight=np.where(HOLES, np.nan, 1.0)),
        "sample_weight contains NaN",
    ),
}


def assuming(function, *arguments, **options):
    """Call while scikit-learn checks nothing."""
    with sklearn.config_context(assume_finite=True):
        return function(*arguments, **options)


@pytest.mark.parametrize("name", REFUSED)
def test_one_sentence(name, named):
    call, message = REFUSED[name]
    with pytest.raises((TypeError, ValueError), match=message):
        call(named)


GAPS = pd.Series(KIND.astype(str)).where(~HOLES)
POSITIVE = np.exp(Y[:, 0])

WARNED = {
    "1: rows in another order": (
        lambda est: est.score(XF.set_axis(STARS), YF.set_axis(STARS[::-1])),
        AlignmentWarning,
        r"y has the rows of X in another order .* y.loc\[X.index\]",
    ),
    "1: weights in another order": (
        lambda est: tiny().fit(
            XF.set_axis(STARS), YF, sample_weight=pd.Series(1.0, index=STARS[::-1])
        ),
        AlignmentWarning,
        "sample_weight has the rows of X in another order",
    ),
    "1: known outputs in another order": (
        lambda est: est.sample(
            XF.set_axis(STARS), 1, given={"q": pd.Series(Y[:, 1], index=STARS[::-1])}
        ),
        AlignmentWarning,
        r"given\['q'\] has the rows of X in another order",
    ),
    "1: another column": (
        lambda est: tiny().fit(XF, YF["p"]).score(XF, YF["q"]),
        AlignmentWarning,
        "y is the column 'q', but this estimator was fitted with 'p'",
    ),
    "3: errors in other units": (
        lambda est: tiny().fit(StandardScaler().fit_transform(1e3 * X), Y, X_err=1e3 * ERRORS),
        ScaleWarning,
        "X_err of feature 'x0' has a median of 100, above .* behind a scaler",
    ),
    "3: errors in other units in predict": (
        lambda est: est.predict(XF, X_err=1e3 * ERRORS),
        ScaleWarning,
        "X_err of feature 'a' has a median of 100, above",
    ),
    "6: unknown categories": (
        lambda est: tiny().fit(in_pandas(GAPS), Y).predict(in_pandas(KIND)),
        UnknownCategoryWarning,
        r"unknown categories in 100 % .* 'kind', such as \d, .* fit saw '0', '1', '2'",
    ),
    "24: the mean of a transformed target": (
        lambda est: TransformedTargetRegressor(tiny(), func=np.log, inverse_func=np.exp).fit(
            X, POSITIVE
        ),
        ScaleWarning,
        "not the mean of y, and its score is R2; .* y_scaler and limits",
    ),
    "24: a power transform of what is positive": (
        lambda est: tiny(y_scaler="power").fit(X, POSITIVE),
        ScaleWarning,
        r"does not keep output 0 \(y0\) positive, .* Use y_scaler='box-cox' with limits=\(0, inf\)",
    ),
    "a power transform that the likelihood cannot have": (
        lambda est: tiny(y_scaler="power", likelihood=Inflated(MixtureOfGaussians(), at=0.0)).fit(
            X, np.maximum(Y[:, 0], 0.0)
        ),
        ScaleWarning,
        "y_scaler='power' is not used for y0, .* needs values that are scaled linearly",
    ),
}


@pytest.mark.parametrize("name", WARNED)
def test_one_warning(name, named):
    call, category, message = WARNED[name]
    with pytest.warns(category, match=message) as caught:
        call(named)
    assert len({str(one.message) for one in caught}) == 1
    assert caught[0].filename == __file__


def test_means_of_a_linear_transformation_are_right():
    TransformedTargetRegressor(tiny(), transformer=StandardScaler()).fit(X, Y)


def test_a_power_transform_inside_limits_gives_no_negative_draws():
    est = tiny(y_scaler="power", limits=[(0.0, np.inf)], epochs=3).fit(X, POSITIVE)
    assert (est.sample(X, 200, random_state=0) > 0.0).all()


def test_box_cox_has_no_density_where_y_cannot_be():
    for limits in (None, (0.0, np.inf)):
        est = tiny(y_scaler="box-cox", limits=limits, epochs=2).fit(X, POSITIVE)
        assert (est.sample(X, 200, random_state=0) > 0.0).all()
        values = np.array([-1.0, 0.0, 1.0])
        inside = np.isfinite(est.predict_density(X[:1]).log_prob(values[None]))[0]
        np.testing.assert_array_equal(inside, [False, False, True])
        pdf = est.predict_density(X[:1]).pdf_grid(0, values)[0]
        np.testing.assert_array_equal(pdf > 0.0, [False, False, True])
        with pytest.raises(ValueError, match="y_scaler 'box-cox' needs positive targets, got 0"):
            clone(est).fit(X, POSITIVE - POSITIVE.min())


# Limits in single precision


def test_targets_in_single_precision_lie_on_the_limits(between):
    assert ENDS.astype(np.float64).max() > 0.6
    inside = np.clip(ENDS.astype(np.float64), -0.6, 0.6)
    np.testing.assert_array_equal(between.log_prob(X, ENDS), between.log_prob(X, inside))
    density, ends = between.predict_density(X), np.full(N, np.float32(0.6))
    assert np.isfinite(density.marginal_log_prob(0, ends)).all()
    both = tiny(limits=[HALF[0], (-99, 99)]).fit(X, np.stack([ENDS, Y[:, 1]], axis=1))
    assert both.sample(X, 1, given={0: ends}).shape == (N, 1, 2)


@pytest.mark.parametrize("into", ["dtype", "out"])
def test_draws_in_single_precision_are_inside_and_have_a_density(between, into):
    out = np.empty((N, 300), np.float32)
    options = {"dtype": "float32"} if into == "dtype" else {"out": out}
    draws = between.sample(X, 300, random_state=0, **options)
    assert draws.dtype == np.float32
    assert draws.astype(np.float64).min() >= -0.6
    assert draws.astype(np.float64).max() <= 0.6
    assert np.isfinite(between.log_prob(X, draws[:, 0])).all()


@pytest.mark.parametrize("limit", [0.1, -0.1, 0.3, 1e-50, 1e300, 7.0, 0.0])
def test_rounding_inward_and_back(limit):
    for limits in (np.array([limit, np.inf]), np.array([-np.inf, limit])):
        values = np.array([[limit]])
        single = single_inside(values, limits[None])
        assert limits[0] <= single.astype(np.float64)[0, 0] <= limits[1]
        if abs(limit) < 3e38:
            np.testing.assert_array_equal(on_limits(single[0].astype(np.float64), limits), limit)
            np.testing.assert_array_equal(on_limits(np.float64(np.float32([limit])), limits), limit)


# Tables of the field


def test_astropy_tables():
    table = pytest.importorskip("astropy.table")
    units = pytest.importorskip("astropy.units")
    holes = np.where(HOLES[:, None] & [True, False], np.nan, X)
    T = table.Table({"a": masked(X[:, 0], HOLES), "b": X[:, 1], "kind": KIND.astype("S1")})
    own = tiny().fit(T, table.Table({"p": Y[:, 0], "q": Y[:, 1]}))
    same = pd.DataFrame({"a": holes[:, 0], "b": X[:, 1], "kind": KIND.astype(str)})
    ref = tiny().fit(same, YF)
    np.testing.assert_array_equal(own.predict(T), ref.predict(same))
    assert own.output_names_ == ["p", "q"]
    np.testing.assert_array_equal(own.predict(same), ref.predict(same))
    array = table.Table({"a": X[:, 0], "b": X[:, 1]}).as_array()
    np.testing.assert_array_equal(
        cross_val_score(tiny(), array, Y, cv=2), cross_val_score(tiny(), X, Y, cv=2)
    )
    CalibratedDensity(tiny(), cv=2, random_state=0).fit(T, table.Table({"p": Y[:, 0]}))
    with pytest.raises(ValueError, match="X has the columns b, a, kind, but fit saw a, b, kind"):
        own.predict(T[["b", "a", "kind"]])

    Q = table.QTable({"a": X[:, 0] * units.mJy, "b": X[:, 1]})
    bright = tiny().fit(Q, Y[:, 0] * units.kpc)
    np.testing.assert_array_equal(bright.predict(Q), tiny().fit(X, Y[:, 0]).predict(X))
    Q["a"] = Q["a"].to(units.Jy)
    with pytest.raises(ValueError, match="column 'a' of X has the unit Jy, but had mJy in fit"):
        bright.predict(Q)
    with pytest.raises(ValueError, match="column 'a' of X_err has the unit Jy, but had mJy"):
        bright.predict(table.QTable({"a": X[:, 0] * units.mJy, "b": X[:, 1]}), X_err=Q)
    Q["a"] = Q["a"].to(units.mJy)
    with pytest.raises(ValueError, match="y has the unit pc, but had kpc in fit"):
        bright.score(Q, 1e3 * Y[:, 0] * units.pc)
    time = pytest.importorskip("astropy.time").Time(X[:, 0] + 5e4, format="mjd")
    with pytest.raises(TypeError, match="column 't' of Time; make it numbers"):
        tiny().fit(table.Table({"t": time}), Y)
    with pytest.raises(ValueError, match=r"column 'a' with \(2,\) values in each row"):
        tiny().fit(table.Table({"a": X}), Y)


def test_units_are_saved(tmp_path):
    table = pytest.importorskip("astropy.table")
    units = pytest.importorskip("astropy.units")
    Q = table.QTable({"a": X[:, 0] * units.mJy, "b": X[:, 1]})
    tiny().fit(Q, table.QTable({"p": Y[:, 0] * units.kpc, "q": Y[:, 1]})).save(tmp_path / "m")
    again = SANConditionalDensityEstimator.load(tmp_path / "m")
    assert again.feature_units_ == {"a": "mJy"}
    assert again.codec_.units == {"p": "kpc"}


def test_columns_of_fits_files(tmp_path):
    fits = pytest.importorskip("astropy.io.fits")
    columns = [
        fits.Column(name="a", format="E", unit="mJy", array=X[:, 0]),
        fits.Column(name="b", format="D", array=X[:, 1]),
        fits.Column(name="kind", format="5A", array=KIND.astype(str)),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "t.fits")
    with fits.open(tmp_path / "t.fits") as file:
        table = as_table(file[1].data)
        est = tiny().fit(file[1].data, Y)
    assert table.columns == ["a", "b", "kind"]
    assert table.units == est.feature_units_ == {"a": "mJy"}
    assert all(table.iloc[:, j].dtype.isnative for j in range(3))
    assert est.feature_table_.categories[2] == ["0", "1", "2"]


def test_arrow_tables():
    arrow = pytest.importorskip("pyarrow")
    tables = arrow.table(dict(XF)), arrow.table(dict(YF))
    est = tiny().fit(*tables)
    assert est.output_names_ == ["p", "q"]
    assert est.feature_names_in_.tolist() == ["a", "b"]
    np.testing.assert_array_equal(est.predict(tables[0]), tiny().fit(XF, YF).predict(XF))
    np.testing.assert_array_equal(
        cross_val_score(tiny(), *tables, cv=2), cross_val_score(tiny(), XF, YF, cv=2)
    )
    kinds = arrow.array(KIND).dictionary_encode()
    coded = tiny().fit(arrow.table({"a": X[:, 0], "kind": kinds}), Y)
    assert coded.feature_table_.categories == [None, [0, 1, 2]]
    series = pd.Series(pd.array(kinds, dtype=pd.ArrowDtype(kinds.type)))
    assert tiny().fit(in_pandas(series), Y).feature_table_.categories == [None, [0, 1, 2]]


@pytest.mark.parametrize("kind", ["Categorical", "Enum"])
def test_categories_of_polars(kind):
    polars = pytest.importorskip("polars")
    dtype = polars.Categorical if kind == "Categorical" else polars.Enum(["2", "1", "0"])
    column = polars.Series("kind", KIND.astype(str)).cast(dtype)
    est = tiny().fit(polars.DataFrame({"a": X[:, 0], "kind": column}), Y)
    assert est.feature_table_.categories == [None, ["0", "1", "2"]]
    assert tiny().fit(X, column).codec_.classes[0].tolist() == ["0", "1", "2"]
    with pytest.raises(TypeError, match=r"X is a LazyFrame; pass X\.collect"):
        tiny().fit(polars.LazyFrame({"a": X[:, 0]}), Y)


def test_none_of_the_packages_is_imported():
    assert "xarray" not in sys.modules
    table = as_table(structured())
    assert isinstance(table, Frame)
    assert table.shape == (N, 2)
    assert len(table[:5]) == len(table.iloc[:5]) == 5
    np.testing.assert_array_equal(np.asarray(table), X)


def test_an_odd_name_of_a_dataset():
    class Dataset(dict):
        data_vars = ()

    with pytest.raises(TypeError, match="X is an xarray Dataset; make it a frame"):
        as_table(Dataset())
