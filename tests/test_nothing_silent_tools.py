"""Life with other tools: what came out wrong without a word, or in no way at all, and is right now.

A row of `SITUATIONS` is a call and its right value, the same in every state of the caller, whatever
the partition, and inside pipelines, searches and files.
"""

import contextlib
import copy
import json

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from conftest import small
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_san import CalibratedDensity, SANConditionalDensityEstimator
from sklearn_san._engines import without_kernels
from sklearn_san._keyed_noise import KeyedNoise, check_ids, philox
from sklearn_san._masking import MaskedDensity
from sklearn_san.calibration import calibration_report, local_calibration
from sklearn_san.calibration.local import numeric_features
from sklearn_san.calibration.score_maps import fit_score_map
from sklearn_san.chains import as_density_estimator
from sklearn_san.cli import main
from sklearn_san.density import Density
from sklearn_san.exceptions import BadRowsWarning, CorruptModelError
from sklearn_san.metrics import SCORERS, DrawsScorer, LogScorer, crps

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(240, 2))
Y = X @ [[1.0, 0.5], [0.0, 1.0]] + 0.3 * RANDOM.normal(size=(240, 2))
BAD = X[:6].copy()
BAD[1, 0], BAD[4, 1] = np.nan, np.inf
GOOD = [0, 2, 3, 5]
IDS = np.arange(1000, 1006)
STEP = "sanconditionaldensityestimator"


@pytest.fixture(scope="module")
def est():
    """Two outputs; not to be changed."""
    return small(epochs=3, n_members=2).fit(X, Y)


@pytest.fixture(scope="module")
def pipeline():
    """The same behind a scaler."""
    return make_pipeline(StandardScaler(), small(epochs=3)).fit(X, Y)


@pytest.fixture(scope="module")
def search():
    """A search over a pipeline."""
    chain = make_pipeline(StandardScaler(), small(epochs=1))
    return GridSearchCV(chain, {f"{STEP}__K": [1, 2]}, cv=2).fit(X, Y)


# The state of torch and numpy


@contextlib.contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


STATES = {
    "default dtype float64": lambda: default_dtype(torch.float64),
    "default dtype bfloat16": lambda: default_dtype(torch.bfloat16),
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default device": lambda: torch.device("meta"),
    "deterministic": deterministic,
    "errstate": lambda: np.errstate(all="raise"),
}


def everything():
    """Fits and answers of all kinds."""
    x, y = X[:60], Y[:60]
    fitted = small(limits=[[-9.0, 9.0], [-np.inf, np.inf]], epochs=2, n_members=2).fit(x, y)
    density = fitted.predict_density(x[:2])
    copied = copy.deepcopy(fitted)
    warm = small(epochs=1, warm_start=True).fit(x, y).fit(x, y)
    own = small(epochs=1, teacher_forcing=False, train_rsample=True, early_stopping=False)
    calibrated = CalibratedDensity(FrozenEstimator(copied)).fit(x[:20], y[:20])
    return [
        fitted.log_prob(x, y),
        fitted.predict(x),
        fitted.predict(x[:2], output_type="median"),
        fitted.sample(x[:2], 4, random_state=0),
        fitted.sample(x[:2], 4, random_state=0, method="sobol"),
        density.mode(),
        density.cdf(y[:2]),
        density.grad_log_prob(y[:2]),
        density.marginal(1, n_points=4).density,
        density[:1].given({1: 0.1}).sample(3, random_state=0),
        density[:1].marginalise(lambda y: np.exp(-(y[:, 0] ** 2))).mean(),
        copied.predict_density(x[:2]).grad_log_prob(y[:2]),
        warm.predict(x[:2]),
        copied.set_params(warm_start=True, epochs=1).fit(x, y).predict(x[:2]),
        small(epochs=1).partial_fit(x, y).partial_fit(x, y).predict(x[:2]),
        own.fit(x, y).predict(x[:2]),
        calibrated.sample(x[:2], 2, random_state=0),
        calibrated.predict_density(x[:2]).grad_log_prob(y[:2]),
    ]


@pytest.fixture(scope="module")
def in_plain_state():
    with without_kernels():
        in_torch = everything()
    return {"torch": in_torch, "compiled": everything()}


@pytest.mark.parametrize("engine", ["torch", "compiled"])
@pytest.mark.parametrize("state", STATES)
def test_results_do_not_depend_on_the_state_of_the_caller(engine, state, in_plain_state):
    with without_kernels() if engine == "torch" else contextlib.nullcontext(), STATES[state]():
        found = everything()
    for one, other in zip(found, in_plain_state[engine], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("state", STATES)
def test_models_open_in_any_state(state, est, tmp_path):
    est.save(tmp_path / "m")
    with STATES[state]():
        loaded = est.load(tmp_path / "m")
    gradient = loaded.predict_density(X[:3]).grad_log_prob(Y[:3])
    np.testing.assert_array_equal(gradient, est.predict_density(X[:3]).grad_log_prob(Y[:3]))


# Draws by row


def test_philox_is_that_of_its_authors():
    counters = [
        ([0] * 4, 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([2**32 - 1] * 4, 2**64 - 1, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            0x299F31D0A4093822,
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ]
    for counter, key, expected in counters:
        found = philox(np.array(counter, dtype=np.uint64)[:, None], key)
        assert found[:, 0].tolist() == expected


def test_keyed_numbers_are_uniform_and_independent():
    noise = KeyedNoise(1, check_ids(np.arange(4000), 4000))
    u = noise.uniform(slice(0, 4000), slice(0, 5), 3)
    assert u.min() > 0
    assert u.max() < 1
    assert len(np.unique(u)) == u.size
    flat = u.reshape(4000, -1)
    # 15 means, and 105 correlations, of which one in 1e6 sets is beyond 5.5 deviations
    assert np.abs(flat.mean(axis=0) - 0.5).max() < 5.5 / np.sqrt(12 * 4000)
    correlation = np.corrcoef(flat.T) - np.eye(15)
    assert np.abs(correlation).max() < 5.5 / np.sqrt(4000)
    # Blocks, draws and rows by themselves are the same numbers
    np.testing.assert_array_equal(noise.uniform(slice(7, 9), slice(2, 4), 3), u[7:9, 2:4])
    np.testing.assert_array_equal(noise.take([9, 8], 1).uniform(slice(0, 2), slice(0, 2), 3)[::-1],
                                  u[8:10, 1:3])  # fmt: skip


def test_the_ends_of_keyed_numbers_are_inside():
    from sklearn_san._keyed_noise import _unit

    ends = np.array([0, 2**32 - 1], dtype=np.uint64)
    assert _unit(ends, ends).tolist() == [2.0**-54, 1.0 - 2.0**-53]


@pytest.mark.parametrize("kind", ["plain", "sobol", "given", "given first", "ratio", "errors",
                                  "calibrated"])  # fmt: skip
def test_draws_by_row_do_not_depend_on_the_partition(kind, est):
    calibrated = CalibratedDensity(FrozenEstimator(est)).fit(X, Y)

    def draws(rows):
        options = {"random_state": 3, "row_ids": IDS[rows]}
        if kind == "errors":
            density = est.predict_density(X[:6][rows], X_err=np.full((len(rows), 2), 0.1))
            return density.sample(4, **options)
        if kind == "calibrated":
            return calibrated.sample(X[:6][rows], 4, **options)
        density = est.predict_density(X[:6][rows])
        if kind == "given":
            density = density.given({1: 0.1})
        if kind == "given first":
            density = density.given({0: 0.1})
        if kind == "ratio":
            density = density.marginalise(lambda y: np.exp(-(y[:, 0] ** 2)))
        if kind == "sobol":
            options["method"] = "sobol"
        return density.sample(4, **options)

    whole = draws(np.arange(6))
    parts = np.concatenate([draws(np.arange(0, 2)), draws(np.arange(2, 6))])
    # To the rounding errors of products of matrices of other shapes
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(draws(np.array([4, 1, 0])), whole[[4, 1, 0]], rtol=1e-4, atol=1e-5)
    assert len(np.unique(whole[..., -1 if kind == "given first" else 0])) > 6


def test_rows_of_parts_are_independent(est):
    """At the same place of two parts; by position, the same seed gives the same noise there."""
    x = np.repeat(X[:1], 2000, axis=0)
    kept = [est.sample(x, 1, random_state=0)[:, 0, 0] for _ in range(2)]
    assert np.corrcoef(*kept)[0, 1] == pytest.approx(1.0)
    ids = np.arange(4000).reshape(2, 2000)
    kept = [est.sample(x, 1, random_state=0, row_ids=own)[:, 0, 0] for own in ids]
    assert abs(np.corrcoef(*kept)[0, 1]) < 5 / np.sqrt(2000)  # false alarm in 1 of 1.7 million


@pytest.mark.parametrize(
    ("ids", "seed", "words"),
    [
        (IDS, None, "random_state must be a whole number"),
        (IDS, np.random.RandomState(0), "random_state must be a whole number"),
        (IDS[:5], 0, r"row_ids must have shape \(6,\), got \(5,\)"),
        ([1, 1, 2, 3, 4, 5], 0, "row_ids has 1 repeated entries"),
        ([0.5] * 6, 0, "row_ids must be whole numbers or text"),
        ([None, *"abcde"], 0, "row_ids must be whole numbers or text"),
    ],
)
def test_ids_that_name_no_rows_are_refused(ids, seed, words, est):
    with pytest.raises((TypeError, ValueError), match=words):
        est.sample(X[:6], random_state=seed, row_ids=ids)


def test_ids_may_be_text(est):
    names = np.array(["a", "b", "c", "d", "e", "f"])
    whole = est.sample(X[:6], 2, random_state=0, row_ids=names)
    for kind in (object, "S1"):
        again = est.sample(X[:6], 2, random_state=0, row_ids=names.astype(kind))
        np.testing.assert_array_equal(again, whole)
    series = pd.Series(names)
    np.testing.assert_array_equal(est.sample(X[:6], 2, random_state=0, row_ids=series), whole)


# Bad rows and no rows


def test_a_masked_density_has_all_members():
    public = {name for name in dir(Density) if not name.startswith("_")}
    assert public <= set(dir(MaskedDensity))


def test_every_answer_is_that_of_the_good_rows(est):
    with pytest.warns(BadRowsWarning, match="2 of 6 rows .* 1 in 'x0', 1 in 'x1'"):
        masked = est.predict_density(BAD, on_bad_rows="nan")
    good, grid = est.predict_density(X[:6][GOOD]), np.linspace(-1, 1, 5)
    y, u = Y[:6], np.full((6, 2), 0.4)
    pairs = [
        (masked.log_prob(y), good.log_prob(y[GOOD])),
        (masked.grad_log_prob(y), good.grad_log_prob(y[GOOD])),
        (masked.cdf(y), good.cdf(y[GOOD])),
        (masked.inverse_cdf(u), good.inverse_cdf(u[GOOD])),
        (masked.mean(), good.mean()),
        (masked.std(), good.std()),
        (masked.cov(), good.cov()),
        (masked.quantile([0.1, 0.5]), good.quantile([0.1, 0.5])),
        (masked.median(), good.median()),
        (masked.interval(0.5), good.interval(0.5)),
        (masked.mode(), good.mode()),
        (masked.entropy(), good.entropy()),
        (masked.kl(masked), good.kl(good)),
        (masked.marginal(0).density, good.marginal(0).density),
        (masked.pdf_grid(1, grid), good.pdf_grid(1, grid)),
        (masked.marginal_log_prob(1, y[:, 1]), good.marginal_log_prob(1, y[GOOD, 1])),
        (masked.marginal_cdf(1, y[:, 1]), good.marginal_cdf(1, y[GOOD, 1])),
        (
            masked.marginal_inverse_cdf(1, np.full(len(y), 0.3)),
            good.marginal_inverse_cdf(1, np.full(len(GOOD), 0.3)),
        ),
        (masked.components(1, y).loc, good.components(1, y[GOOD]).loc),
        (masked.sample(3, random_state=0), good.sample(3, random_state=0)),
        (
            masked.given({0: y[:, 0]}).sample(3, random_state=0),
            good.given({0: y[GOOD, 0]}).sample(3, random_state=0),
        ),
        (masked.given({1: 0.2}).sample(2, random_state=0, return_ess=True)[1],
         good.given({1: 0.2}).sample(2, random_state=0, return_ess=True)[1]),
        (
            masked.marginalise(lambda y: np.exp(-y[:, 0])).mean(),
            good.marginalise(lambda y: np.exp(-y[:, 0])).mean(),
        ),
        (masked[2:].mean(), None),
    ]  # fmt: skip
    for found, expected in pairs[:-1]:
        assert len(found) == 6
        np.testing.assert_array_equal(found[GOOD], expected)
        assert np.isnan(found[[1, 4]]).all()
    np.testing.assert_array_equal(pairs[-1][0][[0, 1, 3]], good.mean()[1:])
    frame = masked.to_frame(2, random_state=0, index=list("abcdef"))
    assert frame.loc["b"].isna().all(axis=None)
    drawn = good.sample(2, random_state=0)[1]
    np.testing.assert_array_equal(frame.loc["c"].to_numpy(), drawn)


def test_bad_rows_of_y_and_of_errors(est):
    y, err = Y[:6].copy(), np.full((6, 2), 0.1)
    y[0, 0], err[2, 1], err[3, 0] = np.nan, -1.0, np.inf
    with pytest.warns(BadRowsWarning, match="1 of 6 rows"):
        found = est.log_prob(X[:6], y, on_bad_rows="nan")
    assert np.isnan(found).tolist() == [True] + [False] * 5
    with pytest.warns(BadRowsWarning, match="2 of 6 rows"):
        found = est.predict(X[:6], X_err=pd.DataFrame(err), on_bad_rows="nan")
    assert np.isnan(found).all(axis=1).tolist() == [False, False, True, True, False, False]


def test_all_rows_may_be_bad(est):
    with pytest.warns(BadRowsWarning, match="2 of 2 rows"):
        found = est.sample(np.full((2, 2), np.nan), 3, on_bad_rows="nan")
    assert found.shape == (2, 3, 2)
    assert np.isnan(found).all()


@pytest.mark.parametrize("kind", ["two", "one", "labels", "power"])
def test_no_rows_have_empty_results_of_the_right_shape(kind):
    y = {"one": Y[:, 0], "labels": np.where(Y > 0, "high", "low")}.get(kind, Y)
    scaler = "power" if kind == "power" else "standard"
    fitted = small(epochs=1, x_scaler=scaler, y_scaler=scaler).fit(X, y)
    some, none = fitted.predict_density(X[:2]), fitted.predict_density(X[:0])
    for member in ("mean", "mode", "entropy", "median", "std", "cov", "interval"):
        if kind == "labels" and member not in ("mean", "mode", "entropy"):
            continue
        one, other = getattr(some, member)(), getattr(none, member)()
        assert other.shape == (0, *one.shape[1:])
    assert none.log_prob(y[:0]).shape == (0,)
    assert none.cdf(y[:0]).shape == y[:0].shape
    assert len(none.to_frame(3)) == 0
    assert fitted.predict(X[:0], on_bad_rows="nan").shape == none.mean().shape
    for output_type in ("mean", "samples", "mode"):
        found = fitted.predict(X[:0], output_type=output_type)
        assert found.shape == (0, *fitted.predict(X[:1], output_type=output_type).shape[1:])
        assert found.dtype == fitted.predict(X[:1], output_type=output_type).dtype
    if kind != "labels":
        assert none.grad_log_prob(y[:0]).shape == y[:0].shape
        assert none.marginal(0).density.shape == (0, 128)
        assert none.marginal_log_prob(0, np.zeros(0)).shape == (0,)
        assert none.marginal_cdf(0, np.zeros((0, 3))).shape == (0, 3)
        assert none.marginal_inverse_cdf(0, np.zeros((0, 3))).shape == (0, 3)
    if kind == "two":
        assert none.given({0: 0.0}).mode().shape == (0, 2)
    if kind in ("one", "two"):
        assert none.components().weight.shape == (0, some.components().weight.shape[1])
    with pytest.raises(ValueError, match="X has no rows"):
        fitted.score(X[:0], y[:0])


# What draws are written to


class Stored:
    """As much of an HDF5 dataset as `out=` needs."""

    def __init__(self, shape, dtype="float32"):
        self.shape, self.dtype, self.kept = shape, np.dtype(dtype), np.zeros(shape, dtype)

    def __setitem__(self, key, values):
        assert all(isinstance(one, slice) for one in key) if isinstance(key, tuple) else True
        self.kept[key] = values


@pytest.mark.parametrize("one", [True, False])
def test_out_takes_anything_with_item_assignment(one, est):
    fitted = small(epochs=1).fit(X, Y[:, 0]) if one else est
    expected = fitted.sample(X[:6], 5, random_state=0, dtype=np.float32)
    out = Stored(expected.shape)
    assert fitted.sample(X[:6], 5, random_state=0, out=out) is out
    np.testing.assert_array_equal(out.kept, expected)
    swapped = np.zeros(expected.shape, ">f4")  # as in a FITS file
    fitted.sample(X[:6], 5, random_state=0, out=swapped, dtype=np.float32)
    np.testing.assert_array_equal(swapped, expected)
    out = Stored(expected.shape)
    with pytest.warns(BadRowsWarning):
        fitted.sample(BAD, 5, random_state=0, out=out, on_bad_rows="nan")
    drawn = fitted.sample(BAD[GOOD], 5, random_state=0, dtype=np.float32)
    np.testing.assert_array_equal(out.kept[GOOD], drawn)
    assert np.isnan(out.kept[[1, 4]]).all()


@pytest.mark.parametrize(
    ("out", "words"),
    [
        (Stored((6, 5, 3)), r"shape of the draws, \(6, 5, 2\), got \(6, 5, 3\)"),
        (Stored((6, 5, 2), "int64"), "array of float32 or float64"),
        (torch.zeros(6, 5, 2), "array of float32 or float64"),
        ([[0.0]], "array of float32 or float64"),
    ],
)
def test_out_that_cannot_hold_draws_is_refused(out, words, est):
    with pytest.raises((TypeError, ValueError), match=words):
        est.sample(X[:6], 5, out=out)


# Pipelines, searches, recalibration


def inside(fitted):
    """Density of X by hand."""
    best = getattr(fitted, "best_estimator_", fitted)
    return best[-1].predict_density(best[:-1].transform(X))


@pytest.mark.parametrize("kind", ["pipeline", "search", "chain", "frozen"])
def test_reports_scorers_and_recalibration_take_chains(kind, request, pipeline):
    fitted = {
        "chain": lambda: as_density_estimator(pipeline),
        "frozen": lambda: FrozenEstimator(pipeline),
    }.get(kind, lambda: request.getfixturevalue(kind))()
    by_hand = inside(pipeline if kind in ("chain", "frozen") else fitted)
    report = calibration_report(fitted, X, Y, n_draws=20, random_state=0)
    assert report.n_rows == 240
    assert LogScorer()(fitted, X, Y) == pytest.approx(by_hand.log_prob(Y).mean())
    expected = -crps(Y, by_hand.sample(50, random_state=0))
    assert DrawsScorer(crps, n_draws=50)(fitted, X, Y) == pytest.approx(expected)
    for scorer in SCORERS.values():
        assert np.isfinite(scorer(fitted, X, Y))
    frozen = CalibratedDensity(FrozenEstimator(fitted)).fit(X, Y)
    assert frozen.predict_density(X[:3]).interval(0.9, method="conformal").shape == (3, 2, 2)
    refitted = CalibratedDensity(fitted, cv=0.4, random_state=0).fit(X, Y)
    assert np.isfinite(refitted.score(X, Y))


def test_a_chain_is_an_estimator(pipeline):
    chain = as_density_estimator(pipeline)
    again = sklearn.clone(chain)
    with pytest.raises(sklearn.exceptions.NotFittedError):
        again.predict(X)
    np.testing.assert_array_equal(again.fit(X, Y).log_prob(X, Y), chain.log_prob(X, Y))
    assert cross_val_score(again, X, Y, cv=2).shape == (2,)


def test_weights_of_a_recalibration():
    """Whole weights are copies of rows, in the maps as in the fits."""
    score = np.random.default_rng(0).normal(0.5, 1.3, 400)
    weight = np.where(score > 1.0, 3.0, 1.0)
    weighted = fit_score_map(score, weight)
    copied = fit_score_map(np.repeat(score, weight.astype(int)))
    mean, other = (float(m.weight @ m.loc) for m in (weighted, copied))
    assert mean == pytest.approx(other, abs=0.03)
    assert mean > fit_score_map(score).weight @ fit_score_map(score).loc + 0.3
    # Rows of weight zero count nowhere
    zero = np.ones(240)
    zero[200:] = 0.0
    spoilt = np.where(np.arange(240)[:, None] < 200, Y, 1e6)
    one = CalibratedDensity(small(epochs=1), cv=2, random_state=0)
    other = sklearn.clone(one).fit(X[:200], Y[:200], np.ones(200))
    np.testing.assert_array_equal(
        one.fit(X, spoilt, zero).log_prob(X[:9], Y[:9]), other.log_prob(X[:9], Y[:9])
    )
    assert one.score(X, spoilt, sample_weight=zero) == pytest.approx(one.score(X[:200], Y[:200]))


def test_weights_reach_the_last_step_of_a_pipeline():
    weight = np.linspace(0.5, 2.0, 240)
    chain = make_pipeline(StandardScaler(), small(epochs=1))
    fitted = CalibratedDensity(chain, cv=2, random_state=0).fit(X, Y, weight)
    expected = sklearn.clone(chain).fit(X, Y, **{f"{STEP}__sample_weight": weight})
    np.testing.assert_array_equal(fitted.estimator_.predict(X), expected.predict(X))
    with pytest.raises(ValueError, match="X_err is in the units of X"):
        fitted.fit(X, Y, X_err=np.full(X.shape, 0.1))


def test_metadata_routing_through_a_recalibration():
    weight = np.where(np.arange(240) % 3, 1.0, 0.0)
    with sklearn.config_context(enable_metadata_routing=True):
        base = small(epochs=1).set_fit_request(sample_weight=True)
        routed = CalibratedDensity(base, cv=2, random_state=0)
        routed.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        found = cross_validate(routed, X, Y, params={"sample_weight": weight}, cv=2)
        with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError, match="sample_weight"):
            CalibratedDensity(small(epochs=1)).fit(X, Y, weight)
    used = weight[:120] > 0
    fitted = CalibratedDensity(small(epochs=1), cv=2, random_state=0).fit(X[120:], Y[120:],
                                                                         weight[120:])  # fmt: skip
    expected = fitted.score(X[:120][used], Y[:120][used])
    assert found["test_score"][0] == pytest.approx(expected)


def test_errors_and_groups_of_a_recalibration():
    err, groups = np.full(X.shape, 0.1), np.arange(240) // 4
    base = small(epochs=1, use_errors=True)
    fitted = CalibratedDensity(base, cv=GroupKFold(2)).fit(X, Y, X_err=err, groups=groups)
    expected = sklearn.clone(base).fit(X, Y, X_err=err)
    found = fitted.predict_density(X[:5], X_err=err[:5]).base.mean()
    np.testing.assert_array_equal(found, expected.predict(X[:5], X_err=err[:5]))


@pytest.mark.parametrize("frozen", [True, False])
def test_a_recalibration_is_saved(frozen, est, tmp_path):
    base = FrozenEstimator(est) if frozen else small(epochs=1)
    fitted = CalibratedDensity(base, cv=0.4, random_state=0).fit(X, Y)
    fitted.save(tmp_path / "c")
    loaded = CalibratedDensity.load(tmp_path / "c")
    np.testing.assert_array_equal(loaded.log_prob(X, Y), fitted.log_prob(X, Y))
    ends = [one.predict_density(X).interval(method="conformal") for one in (loaded, fitted)]
    np.testing.assert_array_equal(*ends)
    assert repr(loaded) == repr(fitted)
    with pytest.raises(CorruptModelError, match="holds 'CalibratedDensity'"):
        SANConditionalDensityEstimator.load(tmp_path / "c")
    est.save(tmp_path / "m")
    with pytest.raises(CorruptModelError, match="not 'CalibratedDensity'"):
        CalibratedDensity.load(tmp_path / "m")


def test_a_recalibration_of_a_pipeline_is_not_saved(pipeline, tmp_path):
    fitted = CalibratedDensity(FrozenEstimator(pipeline)).fit(X, Y)
    with pytest.raises(TypeError, match=r"joblib\.dump can save others"):
        fitted.save(tmp_path / "c")


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("maps", lambda v: v[:1], "interval_scores must be"),
        ("maps", lambda v: [v[0] | {"scale": -v[0]["scale"]}, v[1]], "maps must be"),
        ("interval_scores", lambda v: v[::-1], "interval_scores must be"),
        ("region_scores", lambda v: v[1:], "region_scores must be"),
        ("one_dimensional", lambda v: True, "one_dimensional must be"),
        ("estimator", lambda v: None, "it holds no model"),
    ],
)
def test_made_up_recalibrations_are_refused(name, change, words, est, tmp_path):
    from sklearn_san._container import dump_tree, read_checked

    CalibratedDensity(FrozenEstimator(est)).fit(X, Y).save(tmp_path / "c")
    tree = read_checked(tmp_path / "c", content="CalibratedDensity")
    data = dump_tree(tree | {name: change(tree[name])}, content="CalibratedDensity")
    (tmp_path / "c").write_bytes(data)
    with pytest.raises(CorruptModelError, match=words):
        CalibratedDensity.load(tmp_path / "c")


# Reports on whatever the estimator takes


def test_a_report_takes_what_the_estimator_takes():
    frame = pd.DataFrame({"a": X[:, 0], "b": np.where(X[:, 1] > 0, "u", "v")})
    frame.loc[::7, "a"], frame.loc[3::7, "a"], frame.loc[5::9, "b"] = np.nan, np.inf, None
    fitted = small(epochs=2, nondetection="inf").fit(frame, Y)
    report = calibration_report(fitted, frame, Y, n_draws=20, random_state=0)
    assert set(report.pvalues) == {"rosenblatt", "ranks", "hpd", "tarp", "local"}
    assert {region.feature for region in report.local.regions} == {"a", "b"}
    masked = np.ma.masked_array(X, mask=X > 1.5)
    fitted = small(epochs=2).fit(masked, Y)
    assert calibration_report(fitted, masked, Y, n_draws=20, random_state=0).local is not None


def test_features_without_a_number_have_columns_of_their_own():
    table = np.array([[1.0, np.nan], [np.nan, 2.0], [np.inf, 4.0], [3.0, -np.inf]])
    features = numeric_features(table)
    np.testing.assert_array_equal(features.values, table)
    expected = [[1, 3, 0, 1, 0, 0], [2, 2, 1, 0, 0, 0], [2, 4, 0, 0, 1, 0], [3, 3, 0, 0, 0, 1]]
    np.testing.assert_array_equal(features.columns, expected)
    labels = numeric_features(np.array([["b"], ["a"], [None], ["b"]], dtype=object))
    np.testing.assert_array_equal(labels.values[:, 0], [1.0, 0.0, np.nan, 1.0])


def test_local_calibration_sees_that_a_value_is_missing():
    random = np.random.default_rng(0)
    x, u = random.uniform(size=(800, 1)), random.uniform(size=(800, 1))
    x[:200], u[:200] = np.nan, u[:200] ** 2
    assert local_calibration(u, x, random_state=0).pvalue < 1e-6


# Checkpoints


def test_a_search_takes_a_folder_for_checkpoints(tmp_path):
    plain = GridSearchCV(small(epochs=1), {"K": [1, 2]}, cv=2).fit(X, Y)
    kept = GridSearchCV(small(epochs=1, checkpoint_dir=tmp_path), {"K": [1, 2]}, cv=2).fit(X, Y)
    for name in ("mean_test_score", "split0_test_score"):
        np.testing.assert_array_equal(kept.cv_results_[name], plain.cv_results_[name])
    assert len(list(tmp_path.iterdir())) == 5  # four fits, and that of the best


# The command line


@pytest.fixture
def table(est, tmp_path, monkeypatch):
    """Folder with a model, and a table of which two rows are bad."""
    monkeypatch.chdir(tmp_path)
    est.save("m.san")
    frame = pd.DataFrame(BAD, columns=["a", "b"]).assign(id=IDS, y0=Y[:6, 0], y1=Y[:6, 1])
    frame.to_csv("t.csv", index=False)
    frame.iloc[:0].to_csv("none.csv", index=False)
    frame.iloc[GOOD].to_csv("good.csv", index=False)
    frame.iloc[[5, 0]].to_csv("some.csv", index=False)
    return ["--model", "m.san", "--features", "a", "b"]


def read(*command):
    assert main([*map(str, command), "--out", "o.csv", "--overwrite", "--quiet"]) == 0
    return pd.read_csv("o.csv")


def test_the_command_line_draws_by_row(table, est):
    options = [*table, "-n", 3, "--seed", 4, "--row-id", "id", "--keep", "id"]
    whole, some = (read("sample", name, *options) for name in ("good.csv", "some.csv"))
    both = some.merge(whole, on=["id", "draw"])
    np.testing.assert_allclose(both["y0_x"], both["y0_y"], rtol=1e-4, atol=1e-5)
    expected = est.sample(BAD[GOOD], 3, random_state=4, row_ids=IDS[GOOD])
    np.testing.assert_array_equal(whole[["y0", "y1"]], expected.reshape(-1, 2))


@pytest.mark.filterwarnings("default")
def test_the_command_line_answers_bad_rows_with_nan(table, capsys):
    assert main(["predict", "t.csv", *table, "--out", "o.csv"]) == 1
    found = read("predict", "t.csv", *table, "--on-bad-rows", "nan")
    assert "warning: 2 of 6 rows" in capsys.readouterr().err
    assert found.isna().any(axis=1).tolist() == [False, True, False, False, True, False]
    main(["score", "t.csv", *table, "--on-bad-rows", "nan", "--json", "--quiet"])
    scores = json.loads(capsys.readouterr().out)
    assert scores["rows_not_scored"] == 2
    main(["score", "good.csv", *table, "--json", "--quiet"])
    good = json.loads(capsys.readouterr().out)
    assert scores["log_likelihood"]["mean"] == pytest.approx(good["log_likelihood"]["mean"])


def test_the_command_line_takes_a_table_without_rows(table):
    assert read("predict", "none.csv", *table).shape == (0, 11)
    assert read("sample", "none.csv", *table).columns.tolist() == ["row", "draw", "y0", "y1"]
