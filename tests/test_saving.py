"""Files of fitted models: round trips to the last bit, and what cannot be saved."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from conftest import small
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import PowerTransformer, RobustScaler

from sklearn_san import SANConditionalDensityEstimator, _container, _saving
from sklearn_san._container import dump_tree
from sklearn_san._files import write_atomically
from sklearn_san.exceptions import CorruptModelError
from sklearn_san.likelihoods import Inflated, MixtureOfGaussians, Ordinal

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(120, 2))
Y = X @ [[1.0, 0.5], [-0.5, 1.0]] + 0.3 * RANDOM.normal(size=(120, 2))
COUNTS = RANDOM.poisson(2.0, size=120)
LABELS = np.where(X[:, 0] + RANDOM.normal(size=120) > 0, "star", "galaxy")
FRAME = pd.DataFrame({"z": Y[:, 0], "kind": LABELS, "bright": X[:, 1] > 0, "n": COUNTS})
HALF = [[-9.0, 9.0], [-np.inf, 9.0]]

CASES = {
    "mixtures": ({}, X, Y),
    "limits": ({"limits": HALF, "output_names": ["a", "b"]}, X, Y),
    "spline": ({"likelihood": "spline"}, X, Y),
    "histogram": ({"likelihood": "softmax", "limits": [[-9, 9]], "dtype": "float64"}, X, Y[:, 0]),
    "betas": ({"likelihood": "mob", "limits": np.array([[-9, 9]])}, X, Y[:, 0]),
    "Student's t": ({"likelihood": "most", "likelihood_params": {"K": np.int64(2)}}, X, Y),
    "text labels": ({}, X, LABELS),
    "labels of numpy's text": ({}, X, LABELS.astype(np.dtypes.StringDType())),
    "labels of objects": ({"likelihood": "categorical"}, X, LABELS.astype(object)),
    "whole numbers": ({"likelihood": Ordinal(), "limits": [[0, np.inf]]}, X, COUNTS),
    "inflated": ({"likelihood": Inflated(MixtureOfGaussians(), at=0.0)}, X, Y[:, 0].clip(0.0)),
    "mixed frame": (
        {
            "likelihood": {"n": "ordinal"},
            "limits": {"n": (-np.inf, np.inf)},
            "order": ["n", 1, 0, 2],
        },
        pd.DataFrame(X, columns=["a", "b"]),
        FRAME,
    ),
    "power scalers": ({"x_scaler": "power", "y_scaler": PowerTransformer()}, X, Y),
    "powers": ({"y_scaler": "skew"}, X, np.exp(Y)),
    "Box-Cox": ({"y_scaler": "box-cox", "limits": (0, np.inf)}, X, np.exp(Y)),
    "robust scaler": ({"x_scaler": RobustScaler(unit_variance=True), "y_scaler": None}, X, Y),
    "members": ({"n_members": 3}, X, Y),
    "linear base": ({"linear_base": True, "n_members": 2}, X, Y),
    "encoder": ({"encoder_shape": [6, 5], "activation": "elu", "layer_norm": False}, X, Y),
    "double precision": ({"dtype": "float64", "first_module_shape": (9, 8)}, X, Y),
    "own draws": ({"teacher_forcing": False}, X, Y),
    "one column": ({}, X[:, :1], Y[:, :1]),
    "device": ({"device": torch.device("cpu"), "learning_rate": np.float32(0.01)}, X, Y),
}


@pytest.fixture(scope="module")
def tiny():
    """The smallest model."""
    parameters = {"K": 1, "module_shape": (2,), "sequence_features": 1, "epochs": 1}
    return small(**parameters).fit(X, Y[:, 0])


@pytest.fixture
def saved(tiny, tmp_path):
    """Path of its file."""
    path = tmp_path / "model.safetensors"
    tiny.save(path)
    return path


def assert_same_model(first, second, x, y):
    np.testing.assert_array_equal(first.log_prob(x, y), second.log_prob(x, y))
    draws = [est.sample(x, 3, random_state=1) for est in (first, second)]
    np.testing.assert_array_equal(*draws)
    assert draws[0].dtype == draws[1].dtype
    np.testing.assert_array_equal(first.predict(x[:5]), second.predict(x[:5]))


@pytest.mark.parametrize("case", CASES)
def test_round_trip(case, tmp_path):
    parameters, x, y = CASES[case]
    est = small(epochs=1, **parameters).fit(x, y)
    path, path_again = tmp_path / "one", str(tmp_path / "two")
    assert est.save(path) is None
    again = SANConditionalDensityEstimator.load(path)
    assert_same_model(est, again, x, y)
    # A second file is equal to the first only if every value, type and order came back.
    again.save(path_again)
    assert Path(path_again).read_bytes() == path.read_bytes()
    assert vars(again).keys() == vars(est).keys()
    assert repr(again) == repr(est)
    assert again._repr_html_()
    assert repr(clone(again)) == repr(clone(est))
    given, restored = est.get_params(), again.get_params()
    assert {k: (type(v), repr(v)) for k, v in given.items()} == {
        k: (type(v), repr(v)) for k, v in restored.items()
    }
    assert again.n_features_in_ == est.n_features_in_
    assert not again.network_.training
    assert not any(p.requires_grad for p in again.network_.parameters())
    assert list(again.network_.state_dict()) == list(est.network_.state_dict())


@pytest.mark.parametrize("scaler", ["standard", "minmax", "maxabs"])
def test_round_trip_of_other_fits(scaler, tmp_path):
    batches = [(X[:60], Y[:60]), (X[60:], Y[60:])]
    options = {"epochs": 1, "x_scaler": scaler, "y_scaler": scaler, "order": [1, 0]}
    for est in (small(**options).fit(batches), small(**options).partial_fit(X, Y)):
        est.save(tmp_path / "m")
        again = SANConditionalDensityEstimator.load(tmp_path / "m")
        assert_same_model(est, again, X, Y)
        assert_same_model(est.partial_fit(X, Y), again.partial_fit(X, Y), X, Y)


def test_names_come_back(tmp_path):
    parameters, x, y = CASES["mixed frame"]
    small(epochs=1, **parameters).fit(x, y).save(tmp_path / "m")
    again = SANConditionalDensityEstimator.load(tmp_path / "m")
    assert again.feature_names_in_.tolist() == ["a", "b"]
    assert again.output_names_ == ["z", "kind", "bright", "n"]
    assert again.sample(x[:2], as_frame=True)["kind"].isin(["star", "galaxy"]).all()
    with pytest.raises(ValueError, match="The feature names should match"):
        again.predict(x.rename(columns={"a": "c"}))


def test_a_loaded_model_can_be_fitted_again(tiny, saved):
    again = SANConditionalDensityEstimator.load(saved)
    assert_same_model(clone(again).fit(X, Y[:, 0]), tiny, X, Y[:, 0])
    assert_same_model(again.fit(X, Y[:, 0]), tiny, X, Y[:, 0])


def test_a_fresh_process_gives_the_same_bits(tmp_path):
    est = small(n_members=2, limits=HALF).fit(X, Y)
    est.save(tmp_path / "model")
    np.save(tmp_path / "x.npy", X)
    script = (
        "import sys, numpy as np, sklearn_san\n"
        "assert 'safetensors' not in sys.modules\n"
        "est = sklearn_san.SANConditionalDensityEstimator.load('model')\n"
        "np.save('draws.npy', est.sample(np.load('x.npy'), 4, random_state=0))\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "draws.npy"), est.sample(X, 4, random_state=0))


class Narrower(SANConditionalDensityEstimator):
    """An estimator of one's own."""


def test_load_gives_the_class_it_is_called_on(saved, tiny):
    again = Narrower.load(saved)
    assert type(again) is Narrower
    assert_same_model(again, tiny, X, Y[:, 0])


def test_the_state_of_a_generator_is_kept(tmp_path):
    est = small(epochs=1, random_state=np.random.RandomState(3)).fit(X, Y)
    est.save(tmp_path / "m")
    again = SANConditionalDensityEstimator.load(tmp_path / "m")
    assert (
        again.random_state.random_sample(3).tolist() == est.random_state.random_sample(3).tolist()
    )


def test_metadata_requests_are_kept_and_callbacks_are_not(tmp_path):
    est = small(epochs=1)
    with sklearn.config_context(enable_metadata_routing=True):
        est.set_fit_request(sample_weight=True).set_predict_request(quantiles="levels")
    est.fit(X, Y)
    est._skl_callbacks = [lambda: None]
    est.save(tmp_path / "m")
    again = SANConditionalDensityEstimator.load(tmp_path / "m")
    assert repr(again.get_metadata_routing()) == repr(est.get_metadata_routing())
    assert not hasattr(again, "_skl_callbacks")


@pytest.mark.parametrize(
    "requests",
    [1, {"fit": 1}, {"fit": {"x": True}}, {"partial_fit": {"x": True}}, {"save": {}}],
    ids=str,
)
def test_metadata_requests_that_were_made_up_are_refused(requests, tiny, tmp_path):
    tree = vars(tiny) | {_saving.REQUESTS: requests}
    write_atomically(tmp_path / "m", dump_tree(tree, content=_container.MODEL))
    with pytest.raises(CorruptModelError, match=r"metadata requests .*, which this estimator does"):
        SANConditionalDensityEstimator.load(tmp_path / "m")


def test_parameters_that_a_file_does_not_know_keep_their_defaults(tiny, tmp_path):
    state = {k: v for k, v in vars(tiny).items() if k != "weight_decay"}
    write_atomically(tmp_path / "m", dump_tree(state, content=_container.MODEL))
    again = SANConditionalDensityEstimator.load(tmp_path / "m")
    assert again.weight_decay == SANConditionalDensityEstimator().weight_decay


def test_other_tools_can_read_the_weights(tiny, saved):
    from safetensors import safe_open

    with safe_open(saved, framework="pt") as file:
        weight = file.get_tensor("network_.blocks.0.heads.weight")
        description = json.loads(file.metadata()["sklearn_san"])
    assert torch.equal(weight, tiny.network_.blocks[0].heads.weight)
    assert description["versions"].keys() == {
        "sklearn_san",
        "python",
        "numpy",
        "scikit-learn",
        "torch",
    }
    assert description["format"] == _container.FORMAT


# What cannot be saved


class Mine(MixtureOfGaussians):
    """A family of one's own."""


@pytest.mark.parametrize(
    ("parameters", "where"),
    [
        ({"likelihood": Mine()}, "likelihood holds a value of type Mine"),
        ({"likelihood": ["mog", Mine()]}, r"likelihood\[1\] holds a value of type Mine"),
        ({"likelihood": {"y1": Mine()}}, r"likelihood\.y1 holds a value of type Mine"),
        ({"order": range(2)}, "order holds a value of type range"),
    ],
    ids=str,
)
def test_what_is_no_data_is_refused_before_anything_is_written(parameters, where, tmp_path):
    est = small(epochs=1, **parameters).fit(X, Y)
    with pytest.raises(TypeError, match=f"{where}, which cannot be saved .*joblib.dump"):
        est.save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []
    assert_same_model(pickle.loads(pickle.dumps(est)), est, X, Y)


def test_an_unfitted_estimator_is_refused(tmp_path):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        small().save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tree", [[1], {"K": 1}, {"network_": 1}, {1: 2}], ids=str)
def test_files_without_a_model_are_refused(tree, tmp_path):
    write_atomically(tmp_path / "m", dump_tree(tree, content=_container.MODEL))
    with pytest.raises(CorruptModelError, match=r"it holds no model but|network_ must be SAN, got"):
        SANConditionalDensityEstimator.load(tmp_path / "m")


def test_attributes_of_ones_own_are_kept(tiny, tmp_path):
    tree = vars(tiny) | {"survey": "south"}
    write_atomically(tmp_path / "m", dump_tree(tree, content=_container.MODEL))
    assert SANConditionalDensityEstimator.load(tmp_path / "m").survey == "south"
