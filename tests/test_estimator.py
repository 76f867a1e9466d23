"""The estimator as users call it: shapes, frames, seeds, searches, weights, failures."""

import copy
import pickle
import re

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SINGLE, small
from scipy.stats import norm
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import sklearn_san
from sklearn_san import SANConditionalDensityEstimator
from sklearn_san._rows import WholeTable
from sklearn_san._schema import Block
from sklearn_san.datasets import make_bimodal, make_heteroscedastic_gaussian
from sklearn_san.likelihoods import MixtureOfGaussians


def test_score_is_the_mean_log_likelihood_in_original_units(fitted, bimodal):
    X, y, _ = bimodal
    log_prob = fitted.log_prob(X, y)
    assert log_prob.shape == (600,)
    assert log_prob.dtype == np.float64
    assert fitted.score(X, y) == pytest.approx(log_prob.mean())
    weight = np.arange(600.0)
    assert fitted.score(X, y, weight) == pytest.approx(np.average(log_prob, weights=weight))


def test_shapes_of_one_and_two_dimensional_targets(bimodal):
    X, y, _ = bimodal
    flat, column, both = (small().fit(X, t) for t in (y[:, 0], y[:, :1], y))
    assert flat.sample(X[:4], 3).shape == (4, 3)
    assert column.sample(X[:4], 3).shape == (4, 3, 1)
    assert both.sample(X[:4], 3).shape == (4, 3, 2)
    for est, shape in ((flat, (4,)), (column, (4, 1)), (both, (4, 2))):
        for output_type in ("mean", "median", "std", "mode"):
            result = est.predict(X[:4], output_type=output_type)
            assert result.shape == shape
            assert result.dtype == np.float64
            assert np.isfinite(result).all()
    assert flat.predict(X[:4], output_type="quantiles", quantiles=[0.1, 0.9]).shape == (4, 2)
    assert both.predict(X[:4], output_type="quantiles").shape == (4, 3, 2)
    assert both.predict(X[:1], output_type="samples", n_samples=5).shape == (1, 5, 2)
    np.testing.assert_array_equal(flat.log_prob(X, y[:, 0]), column.log_prob(X, y[:, :1]))
    assert flat.sample(X[:1]).shape == (1, 1)


def test_the_same_seed_gives_the_same_fit(bimodal):
    X, y, _ = bimodal
    first, second = small().fit(X, y), small().fit(X, y)
    np.testing.assert_array_equal(first.log_prob(X, y), second.log_prob(X, y))
    np.testing.assert_array_equal(first.fit(X, y).predict(X), second.predict(X))
    other = small(random_state=1).fit(X, y)
    assert not np.array_equal(first.log_prob(X, y), other.log_prob(X, y))
    assert first.loss_curve_ == second.loss_curve_


def test_clone_pickle_and_joblib(fitted, bimodal, tmp_path):
    X, y, _ = bimodal
    joblib.dump(fitted, tmp_path / "model.joblib")
    again = [pickle.loads(pickle.dumps(fitted)), joblib.load(tmp_path / "model.joblib")]
    for est in again:
        np.testing.assert_array_equal(est.log_prob(X, y), fitted.log_prob(X, y))
        np.testing.assert_array_equal(
            est.sample(X, 2, random_state=0), fitted.sample(X, 2, random_state=0)
        )
    fresh = clone(fitted)
    assert not hasattr(fresh, "network_")
    np.testing.assert_array_equal(fresh.fit(X, y).log_prob(X, y), fitted.log_prob(X, y))


def test_curves_are_in_nats_per_row_and_original_units(bimodal):
    X, y, _ = bimodal
    est = small(epochs=10, n_iter_no_change=None).fit(X, 1000.0 * y)
    assert len(est.loss_curve_) == len(est.validation_curve_) == est.n_iter_ == 10
    assert min(est.validation_curve_) == pytest.approx(-est.score(X, 1000.0 * y), abs=0.3)
    assert est.validation_curve_[est.best_epoch_ - 1] == min(est.validation_curve_)


def test_without_early_stopping_all_rows_are_trained_on(bimodal):
    X, y, _ = bimodal
    est = small(early_stopping=False).fit(X, y)
    assert est.validation_curve_ == []
    assert est.best_epoch_ == 5
    few = small(n_members=4).fit(X[:50], y[:50])  # each row is validated on by one member
    assert len(few.validation_curve_) == 5
    assert few.network_.n_members == 4


def test_scalers_see_the_training_part_only(bimodal):
    X, y, _ = bimodal
    est = small(validation_fraction=0.5).fit(X, y)
    assert est.input_encoder_.scaler.n_samples_seen_ == 300
    # Two members validate on different rows, so each row trains one of them.
    pair = small(validation_fraction=0.5, n_members=2).fit(X, y)
    assert pair.input_encoder_.scaler.n_samples_seen_ == 600
    assert est.y_scaler_.parts[0][1].affine.n_samples_seen_ == 300


@pytest.mark.parametrize("n_members", [1, 3, 7])
def test_no_member_is_trained_on_the_rows_that_it_is_validated_on(n_members):
    rows = WholeTable(Block(np.zeros((50, 1)), np.zeros((50, 1)), None, None))
    training, holdout = rows.split(10, n_members, torch.Generator().manual_seed(0))
    assert (training.shape, holdout.shape) == ((n_members, 40), (n_members, 10))
    for rows in np.concatenate([training, holdout], axis=1):
        assert sorted(rows) == list(range(50))
    # Five members hold out every row once
    assert len(np.unique(holdout[:5])) == 10 * min(n_members, 5)


def test_frames_give_names(bimodal):
    X, y, _ = bimodal
    frame = pd.DataFrame(X, columns=["a"])
    targets = pd.DataFrame(y, columns=["left", "right"])
    est = small(order=["right", "left"]).fit(frame, targets)
    assert est.output_names_ == ["left", "right"]
    assert est.order_.tolist() == [1, 0]
    assert est.feature_names_in_.tolist() == ["a"]
    np.testing.assert_array_equal(
        est.log_prob(frame, targets), small(order=[1, 0]).fit(X, y).log_prob(X, y)
    )
    assert small().fit(frame, targets["left"]).output_names_ == ["left"]
    assert small().fit(X, y).output_names_ == ["y0", "y1"]
    with pytest.raises(ValueError, match="The feature names should match"):
        est.predict(frame.rename(columns={"a": "b"}))
    with pytest.raises(ValueError, match="outside limits for output 1 \\(right\\)"):
        small(limits=[[-9, 9], [0, 1]]).fit(frame, targets)


def test_float32_integer_and_list_input(bimodal):
    X, y, _ = bimodal
    reference = small().fit(X.astype(np.float32), y.astype(np.float32))
    assert reference.predict(X.astype(np.float32)).dtype == np.float64
    from_lists = small().fit(X.astype(np.float32).tolist(), y.astype(np.float32).tolist())
    np.testing.assert_array_equal(from_lists.predict(X), reference.predict(X))
    assert np.isfinite(small().fit(X, np.arange(600)).score(X, np.arange(600)))


#: Parameters, and what shows that the network or the fit has them.
PARAMETERS = {
    "K": (5, lambda est: est.network_.families[1].K == 5),
    "module_shape": ([8, 8], lambda est: widths(est.network_.blocks[1]) == [8, 8]),
    "first_module_shape": ((32, 32), lambda est: widths(est.network_.blocks[0]) == [32, 32]),
    "sequence_features": (1, lambda est: est.network_.blocks[0].n_sequence == 1),
    "encoder_shape": ((8,), lambda est: any("encoder" in name for name in weights(est))),
    "layer_norm": (False, lambda est: not any("norm" in name for name in weights(est))),
    "activation": ("relu", lambda est: type(est.network_.activation) is torch.nn.ReLU),
    "dtype": ("float64", lambda est: all(w.dtype == torch.float64 for w in weights(est).values())),
    "likelihood": (["gaussian", MixtureOfGaussians(K=2)], lambda est: est.families_[1].K == 2),
    "likelihood_params": ({"K": 2}, lambda est: est.network_.families[1].K == 2),
    "linear_base": (True, lambda est: est.network_.base.used == [0, 1]),
    "x_scaler": (MinMaxScaler(), lambda est: est.input_encoder_.scaler.data_range_ > 0),
    "y_scaler": ("power", lambda est: not est.y_scaler_.linear),
    "missing_rate": (0.5, lambda est: np.isfinite(est.predict([[np.nan]])).all()),
    "teacher_forcing": (False, lambda est: True),
    "n_members": (2, lambda est: est.network_.n_members == 2),
    "epochs": (4, lambda est: est.n_iter_ == 4),
    "batch_size": (600, lambda est: est.batch_size_ == 600),
    "learning_rate": (1e-4, lambda est: True),
    "weight_decay": (1.0, lambda est: True),
    "early_stopping": (False, lambda est: est.validation_curve_ == []),
    "validation_fraction": (0.5, lambda est: est.input_encoder_.scaler.n_samples_seen_ == 300),
    "random_state": (1, lambda est: True),
}


def widths(block):
    """Numbers of hidden units."""
    return [layer.weight.shape[-1] for layer in block.hidden]


def weights(est):
    return dict(est.network_.named_parameters())


@pytest.fixture(scope="module")
def default(bimodal):
    """Log densities of the estimator that `PARAMETERS` change."""
    X, y, _ = bimodal
    return small().fit(X, y).log_prob(X, y)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_used(name, bimodal, default):
    X, y, _ = bimodal
    value, shows = PARAMETERS[name]
    est = small(**{name: value}).fit(X, y)
    assert shows(est)
    log_prob = est.log_prob(X, y)
    assert (log_prob != default).mean() > 0.9
    # Independent normals score -2.9
    assert log_prob.mean() > norm.logpdf(y, y.mean(0), y.std(0)).sum(1).mean() - 0.5


def test_every_other_parameter_is_tested_elsewhere():
    elsewhere = {"limits", "output_names", "order", "nondetection", "categorical_features",
                 "use_errors", "n_jobs", "train_rsample", "device", "n_iter_no_change", "verbose",
                 "warm_start", "checkpoint_dir", "feature_encoding", "tree_features",
                 "synthetic_rows", "encoder", "share_encoder"}  # fmt: skip
    assert elsewhere | PARAMETERS.keys() == small().get_params().keys()


def test_names_of_outputs_without_any(bimodal):
    X, y, _ = bimodal
    names = ["z", "mass"]
    est = small(epochs=1, output_names=names, order=["mass", "z"], limits={"z": (-99, 99)})
    est.fit(X, y)
    assert est.output_names_ == names
    assert est.order_.tolist() == [1, 0]
    assert est.limits_[0].tolist() == [-99.0, 99.0]
    assert list(est.sample(X[:2], as_frame=True).columns) == names
    assert est.predict_density(X[:1]).marginal("mass").outputs == names[1:]
    frame = pd.DataFrame(y[:, ::-1], columns=names[::-1])  # found by name
    np.testing.assert_array_equal(est.log_prob(X, frame), est.log_prob(X, y))
    assert est.fit(X, frame[names]).output_names_ == names
    assert small(epochs=1, output_names=["z"]).fit(X, y[:, 0]).output_names_ == ["z"]
    assert small(epochs=1, output_names=frame.columns).fit(X, y).output_names_ == names[::-1]


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ("zm", TypeError, "output_names must be a sequence of text or None, got 'zm'"),
        (["z", 1], TypeError, "output_names must be a sequence of text or None"),
        (["z"], ValueError, "output_names has 1 entries, but y has 2 outputs"),
        (["z", "z"], ValueError, "output_names must differ, got 'z' 2 times"),
    ],
)
def test_names_of_outputs_that_are_refused(names, error, message, bimodal):
    X, y, _ = bimodal
    with pytest.raises(error, match=message):
        small(output_names=names).fit(X, y)


def test_names_of_outputs_may_not_contradict_a_frame(bimodal):
    X, y, _ = bimodal
    with pytest.raises(ValueError, match="those of y where it has names, a, b, got z, mass"):
        small(output_names=["z", "mass"]).fit(X, pd.DataFrame(y, columns=["a", "b"]))


def test_min_scale_is_in_the_units_of_y(bimodal):
    X, y, _ = bimodal
    likelihood = MixtureOfGaussians(K=1, min_scale=50.0)
    est = small(likelihood=likelihood, linear_base=True).fit(X, 100.0 * y[:, 0])
    assert (est.predict(X, output_type="std") > 50.0).all()
    assert likelihood.get_params() == {"K": 1, "min_scale": 50.0}


def test_grid_search_picks_the_better_model():
    X, y, _ = make_bimodal(600, random_state=0)
    search = GridSearchCV(small(epochs=15), {"K": [1, 4]}, cv=2, n_jobs=2).fit(X, y)
    assert search.best_params_ == {"K": 4}
    assert search.best_score_ == max(search.cv_results_["mean_test_score"])
    pipeline = make_pipeline(StandardScaler(), small())
    name = "sanconditionaldensityestimator"
    grid = {f"{name}__K": [1, 3], f"{name}__module_shape": [(8,), (8, 8)]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(X, y)
    best = search.best_estimator_  # a pipeline, which forwards keyword arguments
    assert best.predict(X[:3], output_type="quantiles").shape == (3, 3, 2)
    instance = small(likelihood=MixtureOfGaussians())
    search = GridSearchCV(instance, {"likelihood__K": [1, 2]}, cv=2).fit(X, y)
    assert search.best_params_["likelihood__K"] == search.best_estimator_.network_.families[0].K


def test_works_behind_a_column_transformer(bimodal):
    X, y, _ = bimodal
    frame = pd.DataFrame({"a": X[:, 0], "unused": 1.0})
    pipeline = make_pipeline(make_column_transformer((StandardScaler(), ["a"])), small())
    assert np.isfinite(cross_val_score(pipeline, frame, y, cv=2)).all()


def test_metadata_routing_of_weights(bimodal):
    X, y, _ = bimodal
    with sklearn_config(enable_metadata_routing=True):
        est = small().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        weight = np.where(np.arange(600) % 2, 1.0, 0.0)
        search = GridSearchCV(est, {"K": [1]}, cv=2).fit(X, y, sample_weight=weight)
    expected = small(K=1).fit(X[weight > 0], y[weight > 0])
    np.testing.assert_allclose(search.best_estimator_.predict(X), expected.predict(X), atol=SINGLE)


def sklearn_config(**settings):
    import sklearn

    return sklearn.config_context(**settings)


def test_zero_weights_equal_dropped_rows(bimodal):
    X, y, _ = bimodal
    weight = np.random.default_rng(0).integers(0, 3, 600).astype(float)
    kept = weight > 0
    one, other = small().fit(X, y, weight), small().fit(X[kept], y[kept], weight[kept])
    np.testing.assert_array_equal(one.log_prob(X, y), other.log_prob(X, y))
    # Weighted and plain means are rounded differently, which training amplifies
    start = small(dtype="float64")
    threes, none = clone(start).fit(X, y, np.full(600, 3.0)), start.fit(X, y)
    np.testing.assert_allclose(threes.log_prob(X, y), none.log_prob(X, y), rtol=1e-6, atol=1e-6)


def test_weights_move_the_density():
    X, y, _ = make_bimodal(2000, random_state=0)
    upper = y[:, 0] > 0
    est = small(epochs=20).fit(X, y, np.where(upper, 10.0, 1.0))
    assert (est.sample(X, 1, random_state=0)[:, 0, 0] > 0).mean() > 0.8


def test_representations(fitted):
    assert repr(SANConditionalDensityEstimator(K=3)) == "SANConditionalDensityEstimator(K=3)"
    assert "SANConditionalDensityEstimator" in fitted._repr_html_()


def test_a_failed_fit_leaves_the_earlier_one(bimodal):
    X, y, _ = bimodal
    est = small().fit(X, y)
    before, predicted = dict(vars(est)), est.predict(X)
    with pytest.raises(ValueError, match="constant"):
        est.fit(np.column_stack([X, X]), np.ones(600))
    assert vars(est) == before
    np.testing.assert_array_equal(est.predict(X), predicted)


@pytest.mark.parametrize("make", [make_heteroscedastic_gaussian, make_bimodal])
def test_known_truth(make):
    X, y, _ = make(10_000, random_state=0)
    X_test, y_test, log_density = make(20_000, random_state=1)
    est = SANConditionalDensityEstimator(n_members=3, epochs=40, random_state=0).fit(X, y)
    exact = log_density(X_test, y_test)
    gap = exact - est.log_prob(X_test, y_test)
    # Nothing beats the truth by more than five standard errors
    assert -5 * gap.std() / np.sqrt(len(gap)) < gap.mean() < 0.03 * y.shape[1]


def test_the_package_names_its_version_and_estimator():
    assert re.fullmatch(r"\d+\.\d+\.\d+", sklearn_san.__version__)
    assert "SANConditionalDensityEstimator" in sklearn_san.__all__


def test_no_gradients_are_left_on(fitted, bimodal):
    X, y, _ = bimodal
    assert not any(p.requires_grad for p in fitted.network_.parameters())
    with torch.enable_grad():
        fitted.sample(X[:2])
        fitted.predict(X[:2], output_type="mode")
        fitted.log_prob(X, y)
    assert all(p.grad is None for p in fitted.network_.parameters())


def test_members_are_shared_out_between_processes(bimodal):
    X, y, _ = bimodal
    # Members that are alone sum up their gradients in another order, which training amplifies
    options = {"n_members": 3, "epochs": 3, "dtype": "float64"}
    one, two = small(**options).fit(X, y), small(**options, n_jobs=2).fit(X, y)
    np.testing.assert_allclose(one.log_prob(X, y), two.log_prob(X, y), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(one.loss_curve_, two.loss_curve_, rtol=1e-9)
    assert two.n_members_ == 3
    compiled = small(n_members=3, epochs=1, n_jobs=2).fit(X, y)
    alone = small(n_members=3, epochs=1).fit(X, y)
    np.testing.assert_allclose(compiled.loss_curve_, alone.loss_curve_, rtol=SINGLE)


def test_an_ensemble_beats_its_members(bimodal):
    X, y, _ = bimodal
    test = make_bimodal(2000, random_state=1)
    ensemble = small(n_members=5, module_shape=(64, 64), epochs=60).fit(X, y)
    alone = [
        small(module_shape=(64, 64), epochs=60, random_state=seed).fit(X, y).score(*test[:2])
        for seed in range(3)
    ]
    assert ensemble.score(*test[:2]) > np.mean(alone) + 0.02


def test_automatic_values_are_attributes(bimodal):
    X, y, _ = bimodal
    est = SANConditionalDensityEstimator(
        module_shape=(8,), K=2, synthetic_rows=0, random_state=0
    ).fit(X, y)
    assert (est.n_members_, est.batch_size_, est.epochs_) == (8, 32, 150)
    assert small(n_members=2).fit(X, y).n_members_ == 2


def test_draws_can_be_written_to_a_memory_map(bimodal, tmp_path):
    X, y, _ = bimodal
    est = small(n_members=2).fit(X, y)
    path = tmp_path / "draws.npy"
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(600, 40, 2))
    assert est.sample(X, 40, random_state=0, out=out) is out
    out.flush()
    expected = est.sample(X, 40, random_state=0)
    np.testing.assert_array_equal(np.load(path), expected.astype(np.float32))
    one = small().fit(X, y[:, 0])
    column = np.empty((600, 3))
    one.sample(X, 3, random_state=0, out=column)
    np.testing.assert_array_equal(column, one.sample(X, 3, random_state=0))


def test_targets_are_found_by_name(bimodal):
    X, y, _ = bimodal
    targets = pd.DataFrame(y, columns=["left", "right"])
    turned = targets[["right", "left"]]
    est = small(warm_start=True).fit(X, targets)
    log_prob, score = est.log_prob(X, targets), est.score(X, targets)
    np.testing.assert_array_equal(est.log_prob(X, turned), log_prob)
    assert est.score(X, turned) == score
    density = est.predict_density(X)
    np.testing.assert_array_equal(density.cdf(turned), density.cdf(targets))
    np.testing.assert_array_equal(est.log_prob(X, y), log_prob)  # arrays go by position
    for method in ("fit", "partial_fit"):
        one, other = (getattr(copy.deepcopy(est), method)(X, t) for t in (targets, turned))
        np.testing.assert_array_equal(one.log_prob(X, y), other.log_prob(X, y))
    renamed = targets.rename(columns={"left": "up"})
    for call in (est.log_prob, est.score, est.fit, est.partial_fit):
        with pytest.raises(ValueError, match=r"columns up, right, but .* left, right; rename or"):
            call(X, renamed)


def test_one_network_is_distilled_from_an_ensemble(bimodal, tmp_path):
    X, y, _ = bimodal
    limits = [[-4.0, 4.0], [-np.inf, np.inf]]
    est = small(n_members=2, epochs=10, limits=limits, first_module_shape=(12,)).fit(X, y)
    before = est.log_prob(X, y)
    student = est.distill(X, n_rows=20_000, n_iter_no_change=None)
    np.testing.assert_array_equal(est.log_prob(X, y), before)
    assert (student.n_members_, student.module_shape, student.first_module_shape) == (
        1,
        (24,),
        (18,),
    )
    assert student.n_iter_no_change is None
    assert est.n_iter_no_change == 20
    np.testing.assert_array_equal(student.limits_, est.limits_)
    # Divergence from the ensemble in 2400 of its draws: some 0.01 nats, 0.02 apart between seeds
    rows = np.repeat(X, 4, axis=0)
    draws = est.sample(rows, random_state=1)[:, 0]
    assert abs(est.score(rows, draws) - student.score(rows, draws)) < 0.05
    again = est.distill(X, n_rows=20_000, n_iter_no_change=None)
    np.testing.assert_array_equal(again.log_prob(X, y), student.log_prob(X, y))  # same seed
    student.save(tmp_path / "student")
    loaded = SANConditionalDensityEstimator.load(tmp_path / "student")
    np.testing.assert_array_equal(loaded.log_prob(X, y), student.log_prob(X, y))


def test_a_distilled_network_knows_the_table(bimodal):
    X, y, _ = bimodal
    frame = pd.DataFrame({"u": X[:, 0], "kind": pd.Categorical(np.where(y[:, 0] > 0, "a", "b"))})
    frame.loc[3, "u"] = np.nan
    targets = pd.DataFrame({"z": y[:, 0], "label": ["rare"] + 299 * ["a"] + 300 * ["b"]})
    est = small(n_members=2, order=["label", "z"]).fit(frame, targets)
    student = est.distill(frame, n_rows=6000, epochs=1)  # of which each row is some ten times
    assert student.output_names_ == ["z", "label"]
    np.testing.assert_array_equal(student.feature_names_in_, ["u", "kind"])
    assert np.isfinite(student.log_prob(frame, targets)).all()  # labels are known, drawn or not
    flat = small(epochs=1).fit(X, y[:, 0]).distill(X, n_rows=300, epochs=1)
    assert flat.predict(X[:3]).shape == (3,)


def test_what_cannot_be_distilled(bimodal, fitted):
    X, y, _ = bimodal
    with pytest.raises(ValueError, match="n_rows must be an integer of at least 100, got 3"):
        fitted.distill(X, n_rows=3)
    with pytest.raises(ValueError, match="Invalid parameter 'depth'"):
        fitted.distill(X, n_rows=300, depth=3)
    noisy = small(use_errors=True, epochs=1).fit(X, y, X_err=np.full_like(X, 0.1))
    with pytest.raises(ValueError, match="distill needs use_errors=False"):
        noisy.distill(X, n_rows=300)


def test_predictions_as_frames(bimodal):
    X, y, _ = bimodal
    index = pd.Index([f"object {i}" for i in range(len(X))], name="id")
    frame = pd.DataFrame(X, columns=["color"], index=index)
    est = small(epochs=2).fit(frame, pd.DataFrame(y, columns=["mass", "age"], index=index))
    some = frame.iloc[5:9]
    means = est.predict(some, as_frame=True)
    assert means.columns.tolist() == ["mass", "age"]
    assert means.index.equals(some.index)
    np.testing.assert_array_equal(means, est.predict(some))
    quantiles = est.predict(some, output_type="quantiles", quantiles=[0.05, 0.975], as_frame=True)
    assert quantiles.columns.tolist() == ["mass_q05", "mass_q97.5", "age_q05", "age_q97.5"]
    np.testing.assert_allclose(
        quantiles[["mass_q05", "age_q05"]],
        est.predict(some, output_type="quantiles", quantiles=0.05)[:, 0],
    )
    interval = est.predict(some, output_type="interval", level=0.8, as_frame=True)
    assert interval.columns[:2].tolist() == ["mass_q10", "mass_q90"]
    several = est.predict(some, output_type=["mean", "std"], as_frame=True)
    assert several.columns.tolist() == ["mass_mean", "mass_std", "age_mean", "age_std"]
    with pytest.raises(ValueError, match=r"output_type='samples'; use sample\(X, n, as_frame=True"):
        est.predict(some, output_type="samples", as_frame=True)


def test_describe_tells_what_auto_became(fitted):
    text = fitted.describe()
    lines = dict(re.split(r"  +", line.strip(), maxsplit=1) for line in text.splitlines()[1:])
    assert lines["members"] == str(fitted.n_members_)
    assert lines["epochs"] == f"{fitted.n_iter_} of {fitted.epochs_}, kept: {fitted.best_epoch_}"
    assert lines["validation NLL"] == f"{min(fitted.validation_curve_):.4g} nats per row"
    assert lines["engine"] == fitted.engine_
    assert "in [-4, 4])" in lines["outputs"]
    with pytest.raises(NotFittedError):
        small().describe()


def test_the_encoder_of_x_follows_the_modules(bimodal):
    X, y, _ = bimodal

    def widths(**parameters):
        est = small(epochs=1, module_shape=(12, 8, 4), sequence_features=5, **parameters)
        return [layer.weight.shape[-1] for layer in est.fit(X[:100], y[:100]).network_.encoder]

    assert widths() == [12, 8, 5]
    assert widths(encoder_shape=None) == []
    assert widths(encoder_shape=(7,)) == [7]
    assert widths(encoder=torch.nn.Tanh()) == []  # which encodes x already
    with pytest.raises(TypeError, match=r"encoder_shape must be .*, 'auto', or None; got 'none'"):
        widths(encoder_shape="none")
