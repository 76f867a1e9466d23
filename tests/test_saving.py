"""Files of fitted models: round trips to the last bit, damage, strangers, broken writes."""

import io
import json
import os
import pickle
import stat
import subprocess
import sys
import zipfile
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

from sklearn_san import SANConditionalDensityEstimator, _saving
from sklearn_san._saving import dump_tree, load_tree, read_checked, write_atomically
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
    "limits": ({"limits": HALF}, X, Y),
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
            "limits": [[-np.inf, np.inf]] * 4,
            "order": ["n", 1, 0, 2],
        },
        pd.DataFrame(X, columns=["a", "b"]),
        FRAME,
    ),
    "power scalers": ({"x_scaler": "power", "y_scaler": PowerTransformer()}, X, Y),
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
    tree = vars(tiny) | {_saving._REQUESTS: requests}
    write_atomically(tmp_path / "m", dump_tree(tree, content=_saving._ESTIMATOR))
    with pytest.raises(CorruptModelError, match=r"metadata requests .*, which this estimator does"):
        SANConditionalDensityEstimator.load(tmp_path / "m")


def test_parameters_that_a_file_does_not_know_keep_their_defaults(tiny, tmp_path):
    state = {k: v for k, v in vars(tiny).items() if k != "weight_decay"}
    write_atomically(tmp_path / "m", dump_tree(state, content=_saving._ESTIMATOR))
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
    assert description["format"] == _saving.FORMAT


def test_other_versions_are_loaded_silently(tiny, saved, monkeypatch):
    versions = {"sklearn_san": "9.9", "numpy": "1.0", "scikit-learn": "0.1", "torch": "0.4"}
    monkeypatch.setattr(_saving, "_versions", lambda: versions)
    tiny.save(saved)
    assert_same_model(SANConditionalDensityEstimator.load(saved), tiny, X, Y[:, 0])


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


# What cannot be loaded


def damaged(data, random):
    """One of the ways in which a file can be changed."""
    place = int(random.integers(len(data)))
    end_of_header = 8 + int.from_bytes(data[:8], "little")
    if random.uniform() < 0.5:
        place = int(random.integers(end_of_header))
    flipped = bytes([data[place] ^ 1 << int(random.integers(8))])
    changes = [
        data[:place],
        data[:place] + flipped + data[place + 1 :],
        data[:place] + data[place + 1 :],
        data[:place] + bytes([int(random.integers(256))]) + data[place:],
        data[len(data) // 2 :] + data[: len(data) // 2],
        data[:place] + bytes(len(data) - place) if any(data[place:]) else b"",
        data + data[:place],
        random.bytes(place),
    ]
    return changes[int(random.integers(len(changes)))]


def test_every_damaged_file_is_refused(saved):
    data, random = saved.read_bytes(), np.random.default_rng(0)
    for _ in range(200):
        saved.write_bytes(damaged(data, random))
        with pytest.raises(CorruptModelError, match=r"model.safetensors' is (damaged|no file)"):
            SANConditionalDensityEstimator.load(saved)
    saved.write_bytes(data)
    SANConditionalDensityEstimator.load(saved)


def test_every_single_bit_counts():
    data = dump_tree([1, "two", np.arange(3)])
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptModelError):
            load_tree(bytes(changed))


def foreign_files():
    """Contents that others write."""
    from safetensors.numpy import save

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("data.pkl", b"")
    description = {"sha256": "0" * 64, "format": 1, "content": "tree", "tree": 1}
    return {
        "empty": b"",
        "text": b"p(y | x)\n" * 50,
        "zip": archive.getvalue(),
        "pickle": pickle.dumps({"a": 1}),
        "safetensors": save({"weight": np.zeros(3)}),
        "with metadata": save({"weight": np.zeros(3)}, {"format": "pt"}),
        "with our key": save({"weight": np.zeros(3)}, {"sklearn_san": "[]"}),
        "with no digest of its own": save({}, {"sklearn_san": json.dumps(description)}),
        "deeply nested": (10**6).to_bytes(8, "little") + b"[" * 10**6,
        "null": (4).to_bytes(8, "little") + b"null",
        "not UTF-8": (4).to_bytes(8, "little") + b"\xff\xfe\xff\xff",
        "endless header": b"\xff" * 64,
    }


@pytest.mark.parametrize("name", foreign_files())
def test_foreign_files_are_refused(name, tmp_path):
    (tmp_path / "m").write_bytes(foreign_files()[name])
    with pytest.raises(CorruptModelError, match="m' is no file that sklearn_san wrote"):
        SANConditionalDensityEstimator.load(tmp_path / "m")


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file '.*none'; check its name"):
        SANConditionalDensityEstimator.load(tmp_path / "none")
    with pytest.raises(CorruptModelError, match="is a folder; give the name of a file"):
        SANConditionalDensityEstimator.load(tmp_path)


def test_later_formats_are_refused(tiny, saved, monkeypatch):
    with monkeypatch.context() as later:
        later.setattr(_saving, "FORMAT", 2)
        tiny.save(saved)
    with pytest.raises(CorruptModelError, match=r"has format 2, written by sklearn_san .* up to 1"):
        SANConditionalDensityEstimator.load(saved)


class Stranger:
    """Tells if it is ever made."""

    def __new__(cls):
        if not Stranger.may_live:
            raise AssertionError("A class that is not listed was made.")
        return super().__new__(cls)


def test_classes_that_are_not_listed_are_refused(saved, monkeypatch):
    Stranger.may_live = True
    state = {"network_": Stranger()}
    with monkeypatch.context() as elsewhere:
        elsewhere.setitem(_saving.CLASSES, "Stranger", Stranger)
        write_atomically(saved, dump_tree(state, content=_saving._ESTIMATOR))
    Stranger.may_live = False
    with pytest.raises(CorruptModelError, match=r"names the class 'Stranger'.*do not trust it"):
        SANConditionalDensityEstimator.load(saved)


@pytest.mark.parametrize(
    "node",
    [
        {"call": ["os.system", "true"]},
        {"instance": ["os.system", []]},
        {"instance": ["SAN", [["n_noise", 1]]]},
        {"instance": ["SAN", 1]},
        {"bytes": ["weight", "O", [1]]},
        {"array": "nothing"},
        {"again": 5},
        {"dtype": "torch.load"},
        {"device": "elsewhere"},
        {"tuple": 1},
        {"scalar": {"array": "weight"}, "more": 1},
        {"random": {"dict": []}},
    ],
    ids=str,
)
def test_files_that_were_made_up_are_refused(node, monkeypatch):
    monkeypatch.setattr(_saving._Encoder, "encode", lambda self, value, path: node)
    with pytest.raises(CorruptModelError, match=r"cannot be rebuilt|names the class"):
        load_tree(dump_tree(None))


def test_files_of_other_content_are_refused(tmp_path):
    write_atomically(tmp_path / "m", dump_tree({"epoch": 3}, content="checkpoint"))
    with pytest.raises(CorruptModelError, match="holds 'checkpoint', not 'SANCond"):
        SANConditionalDensityEstimator.load(tmp_path / "m")
    assert read_checked(tmp_path / "m", content="checkpoint") == {"epoch": 3}
    for state in ([1], {"K": 1}, {"network_": 1}):
        write_atomically(tmp_path / "m", dump_tree(state, content=_saving._ESTIMATOR))
        with pytest.raises(CorruptModelError, match="holds no network"):
            SANConditionalDensityEstimator.load(tmp_path / "m")


# Writing


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_a_broken_write_leaves_the_old_file(step, error, tiny, saved, monkeypatch):
    before = saved.read_bytes()

    def fail(*_):
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(os, step, fail)
        with pytest.raises(type(error)):
            tiny.save(saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
    tiny.save(saved)
    assert saved.read_bytes() == before


def test_places_that_cannot_be_written_to(tiny, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"The folder of '.*model' does not exist; create"):
        tiny.save(tmp_path / "none" / "model")
    with pytest.raises(ValueError, match="is no file but a folder or device"):
        tiny.save(tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match=r"'.*model' may not be written to; choose another"):
        tiny.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="permissions and links are those of POSIX")
def test_permissions_are_kept_and_links_followed(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to(target)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    plain, ours = tmp_path / "plain", tmp_path / "ours"
    plain.write_bytes(b"")
    write_atomically(ours, b"")
    assert ours.stat().st_mode == plain.stat().st_mode


def test_a_name_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_atomically("a", dump_tree(1))
    assert read_checked("a") == 1


# Trees


VALUES = [
    None,
    True,
    -0.0,
    float("inf"),
    float("-inf"),
    5e-324,
    2**80,
    "é\ud800\x00",
    (1, (2, [3, {"x": (4,)}])),
    {1: 2, (1, 2): 3, None: 4, "a.b": {"c": 5}, "a": {"b.c": 6}},
    np.float64(1.5),
    np.bool_(True),
    np.str_("text"),
    np.uint64(2**64 - 1),
    np.zeros((0, 3)),
    np.array([], dtype="U3"),
    np.array(3.5),
    np.array(["é", "two"]),
    np.array([["x", True], [None, 2.5]], dtype=object),
    np.array(["long", ""], dtype=np.dtypes.StringDType()),
    np.arange(6.0).reshape(2, 3).T,
    np.arange(24).reshape(2, 3, 4).T,
    np.arange(10)[::2],
    np.array([1, 2], dtype=">i4"),
    np.array([1 + 2j, np.nan]),
    np.array(["2020-01-01", "NaT"], dtype="M8[ns]"),
    np.array([True, False]),
    torch.zeros(0),
    torch.arange(6.0).reshape(2, 3).T,
    torch.tensor(2.0, dtype=torch.bfloat16),
    torch.float32,
    torch.device("cuda:1"),
    {"__metadata__": np.arange(3), "": np.arange(2)},
]


def assert_same(first, second):
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert_same(list(first.items()), list(second.items()))
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for pair in zip(first, second, strict=True):
            assert_same(*pair)
    elif isinstance(first, np.ndarray):
        assert (first.dtype, first.shape) == (second.dtype, second.shape)
        assert first.flags.fnc == second.flags.fnc
        assert second.flags.writeable
        np.testing.assert_array_equal(first, second)
    elif isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype
        assert torch.equal(first, second)
    else:
        assert first == second
        assert repr(first) == repr(second)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_values_come_back_as_they_were(value):
    data = dump_tree(value)
    assert_same(value, load_tree(data))
    assert dump_tree(load_tree(data)) == data


def test_all_values_in_one_tree():
    assert_same(VALUES, load_tree(dump_tree(VALUES)))
    assert np.isnan(load_tree(dump_tree(float("nan"))))


def test_one_instance_stays_one():
    family = MixtureOfGaussians(K=2)
    first, second = load_tree(dump_tree([family, {"again": family}]))
    assert second["again"] is first


def test_memory_is_not_shared_with_the_data():
    tensor = torch.zeros(3)
    tree = {"all": tensor, "part": tensor[1:], "parameter": torch.nn.Parameter(tensor, False)}
    again = load_tree(dump_tree(tree))
    again["all"] += 1.0
    assert again["part"].tolist() == [0.0, 0.0]
    assert tensor.tolist() == [0.0, 0.0, 0.0]
    assert not again["parameter"].requires_grad


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (print, "builtin_function_or_method"),
        ({1}, "set"),
        (b"", "bytes"),
        (np.ma.array([1.0]), "MaskedArray of float64"),
        (np.zeros(1, dtype=[("a", "f4")]), "ndarray of "),
        (np.random.default_rng(0), "Generator"),
        (np.random.RandomState(np.random.PCG64(0)), "RandomState"),
        (np.array([print]), "builtin_function_or_method"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_values_that_are_no_data(value, kind):
    with pytest.raises(TypeError, match=rf"a\[0\].* holds a value of type {kind}.*, which cannot"):
        dump_tree({"a": [value]})
    with pytest.raises(TypeError, match="The tree holds a value of type set"):
        dump_tree({1, 2})
