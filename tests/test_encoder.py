"""Encoders of spectra, images and sets, trained with the network."""

import copy
import pickle
import sys
import types

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SINGLE, small
from scipy.stats import norm
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from sklearn_san import SANConditionalDensityEstimator, merge
from sklearn_san._container import MODEL, dump_tree
from sklearn_san._engines import without_kernels
from sklearn_san._part_encoders import gather, spread
from sklearn_san._parts import Part, split_parts
from sklearn_san._saving import tree_of
from sklearn_san.calibration import calibration_report
from sklearn_san.calibration.local import numeric_features
from sklearn_san.exceptions import BadRowsWarning, CorruptModelError
from sklearn_san.recalibration import CalibratedDensity

N_PIXELS = 50
LINE = np.exp(-0.5 * (np.linspace(-1.0, 1.0, N_PIXELS) / 0.2) ** 2)


class Flat(nn.Module):
    """Features linear in all values."""

    def __init__(self, shape, n_features=2):
        super().__init__()
        self.shape = shape
        self.linear = nn.Linear(int(np.prod(shape)), n_features)

    def forward(self, values):
        return self.linear(values.flatten(1))


class FlatFactory(BaseEstimator):
    """Made up, as those of the package are."""

    def __init__(self, n_features=2):
        self.n_features = n_features

    def __call__(self, shape):
        return Flat(shape, self.n_features)


def flat(shape):
    return Flat(shape, 1)


def spectra(n, seed=0, noise=2.0):
    """Noisy pixels of a line whose amplitude is y, and the exact posterior mean and deviation."""
    random = np.random.default_rng(seed)
    y = random.normal(size=n)
    X = y[:, None] * LINE + noise * random.normal(size=(n, N_PIXELS))
    precision = 1.0 + (LINE**2).sum() / noise**2
    return X.astype(np.float32), y, X @ LINE / noise**2 / precision, precision**-0.5


def few(**parameters):
    defaults = {"encoder": flat, "epochs": 2, "n_members": 2, "module_shape": (8,), "K": 1}
    return small(**(defaults | parameters))


@pytest.fixture(scope="module")
def parts():
    """Spectra and two plain columns, of which the second tells of y as well."""
    X, y, _, _ = spectra(300)
    random = np.random.default_rng(1)
    table = np.stack([random.normal(size=300), y + random.normal(size=300)], axis=1)
    return {"spectrum": X.reshape(300, 5, 10), "photometry": table}, y


@pytest.fixture(scope="module")
def fitted_parts(parts):
    """Not to be changed."""
    X, y = parts
    return few(encoder={"spectrum": flat}, epochs=1).fit(X, y)


@pytest.mark.parametrize("shared", [False, True])
def test_known_posterior(shared):
    X, y, mean, scale = spectra(3000)
    est = few(
        encoder=flat, epochs=25, batch_size=128, learning_rate=0.03, share_encoder=shared,
        validation_fraction=0.05,
    )  # fmt: skip
    est.fit(X[:2000].reshape(-1, 5, 10), y[:2000])
    test = slice(2000, None)
    loss = -est.score(X[test].reshape(-1, 5, 10), y[test])
    exact = -norm(mean[test], scale).logpdf(y[test]).mean()
    # Of 1000 test rows: 50 weights that are learned from 1900 rows cost 0.013 nats
    assert exact - 0.02 < loss < exact + 0.05
    assert est.part_shapes_ == {"X": (5, 10)}
    assert est.n_features_in_ == 0
    assert est.engine_ == "compiled" or est.engine_.startswith("torch: ")
    assert est.network_.n_features == (1 if shared else 2)


def test_single_and_double_precision():
    X, y, mean, scale = spectra(1500, noise=4.0)
    exact = -norm(mean, scale).logpdf(y).mean()
    fits = [few(epochs=10, dtype=dtype).fit(X, y) for dtype in ("float32", "float64")]
    for est, dtype in zip(fits, (torch.float32, torch.float64), strict=True):
        assert est.encoders_.dtype == dtype
        assert abs(-est.score(X, y) - exact) < 0.1


def test_missing_parts_have_the_prior():
    X, y, mean, scale = spectra(4500)
    X[::3] = np.nan  # at random, so that the density there is the prior
    est = few(epochs=25, batch_size=128, learning_rate=0.03, share_encoder=True)
    est.fit(X[:3500], y[:3500])
    X, y, mean = X[3500:], y[3500:], mean[3500:]
    missing, log_prob = np.isnan(X[:, 0]), est.log_prob(X, y)
    assert abs((log_prob - norm.logpdf(y))[missing].mean()) < 0.03
    assert abs((log_prob - norm(mean, scale).logpdf(y))[~missing].mean()) < 0.1
    hidden = X[:10].copy()
    hidden[:] = np.nan
    np.testing.assert_allclose(np.ptp(est.predict(hidden)), 0.0, atol=1e-6)


def test_the_spread_network_is_the_same(parts):
    X, y = parts
    est = few(encoder={"spectrum": flat}).fit(X, y)
    encoders, wide = est.encoders_, est.network_.double()
    narrow = gather(wide, encoders.width)
    again = spread(narrow, encoders.width)
    for one, other in zip(wide.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    np.testing.assert_array_equal(wide.base.weight_x, again.base.weight_x)
    random = np.random.default_rng(0)
    plain = torch.from_numpy(random.normal(size=(7, 2)))
    features, z = (torch.from_numpy(random.normal(size=size)) for size in ((2, 7, 1), (1, 7, 1)))
    own = torch.cat([plain.expand(2, 7, 2), features], -1)
    beside = torch.cat([plain[None], features.movedim(0, 1).flatten(1)[None]], -1)
    torch.testing.assert_close(wide.log_prob(beside, z), narrow.log_prob(own, z.expand(2, 7, 1)))


def test_compiled_and_torch_agree(parts):
    X, y = parts
    est = few(encoder={"spectrum": flat}, K=3).fit(X, y)
    compiled = est.log_prob(X, y), est.sample(X, 3, random_state=0), est.predict(X)
    with without_kernels():
        assert est.engine_.startswith("torch")
        reference = est.log_prob(X, y), est.sample(X, 3, random_state=0), est.predict(X)
    for one, other in zip(compiled, reference, strict=True):
        np.testing.assert_allclose(one, other, rtol=SINGLE, atol=SINGLE)


def test_every_answer_of_a_density(parts):
    X, y = parts
    Y = np.stack([y, y**2 + 0.1 * np.random.default_rng(2).normal(size=len(y))], axis=1)
    est = few(encoder={"spectrum": flat}, K=2, order=None).fit(X, Y)
    some = {name: values[:5] for name, values in X.items()}
    density = est.predict_density(some)
    assert density.sample(3, random_state=0).shape == (5, 3, 2)
    assert density.quantile([0.1, 0.9]).shape == (5, 2, 2)
    for found in (density.mode(), density.mean(), density.cdf(Y[:5]), density.grad_log_prob(Y[:5])):
        assert found.shape == (5, 2)
        assert np.isfinite(found).all()
    assert np.isfinite(density.given({"y0": Y[:5, 0]}).log_prob(Y[:5])).all()
    assert np.isfinite(density.given({"y1": Y[:5, 1]}).mean()).all()
    assert density.marginal("y1").density.shape[0] == 5
    assert density.marginal_log_prob("y1", Y[:5, 1]).shape == (5,)
    np.testing.assert_allclose(density[2:3].log_prob(Y[2:3]), density.log_prob(Y[:5])[2:3])
    assert density.components().weight.shape[0] == 5
    errors = np.full((5, 2), 0.1)
    assert np.isfinite(est.log_prob(some, Y[:5], X_err=errors)).all()
    assert np.isfinite(est.sample(some, 2, X_err=errors, random_state=0)).all()
    assert (est.novelty_score(some) > 0.0).all()
    far = est.novelty_score({**some, "photometry": some["photometry"] + 1e3})
    assert (far < 0.02).all()
    student = est.distill(X, n_rows=300, epochs=1)
    assert student.n_members_ == 1
    assert student.predict(some).shape == (5, 2)


class Normalised(nn.Module):
    """Batch normalisation and dropout, whose state and random numbers are to be kept apart."""

    def __init__(self, shape):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(shape[0], 8), nn.BatchNorm1d(8), nn.SiLU(), nn.Dropout(0.2), nn.Linear(8, 2)
        )
        self.register_buffer("n_calls", torch.zeros((), dtype=torch.int64))

    def forward(self, values):
        if self.training:
            self.n_calls = self.n_calls + 1  # another tensor, in place of the old one
        return self.layers(values)


@pytest.mark.parametrize("shared", [False, True])
def test_buffers_are_kept_with_the_best_weights(shared, monkeypatch):
    from sklearn_san import _fitting

    monkeypatch.setattr(_fitting, "widen", lambda *_: None)
    X, y, _, _ = spectra(330)  # of 321 rows the last batch has one
    options = {"encoder": Normalised, "epochs": 6, "learning_rate": 0.1, "batch_size": 64,
               "share_encoder": shared, "n_members": 2}  # fmt: skip
    est = few(**options).fit(X[:321], y[:321], X_val=X[321:], y_val=y[321:])
    same = few(**options).fit(X[:321], y[:321], X_val=X[321:], y_val=y[321:])
    np.testing.assert_array_equal(est.predict(X), same.predict(X))
    one = few(**(options | {"n_members": 1}))
    one.fit(X[:321], y[:321], X_val=X[321:], y_val=y[321:])
    loss = -one.score(X[321:], y[321:])
    assert loss == pytest.approx(min(one.validation_curve_), rel=1e-4)
    counter = one.encoders_.buffer_keys.index((0, "n_calls"))
    # The last batch, of one row, is normalised as later rows are
    assert one.encoders_.stacked[f"buffer{counter}"].tolist() == [5 * one.best_epoch_]
    if shared:
        for tensor in (*est.encoders_.weights, *est.encoders_.stacked.values()):
            assert torch.equal(tensor[0], tensor[1])
    else:
        assert not torch.equal(est.encoders_.weights[0][0], est.encoders_.weights[0][1])


def test_a_module_is_copied_and_made_anew_for_each_member(parts):
    X, y = parts
    state = torch.get_rng_state()
    module = nn.Sequential(nn.Flatten(), nn.Linear(N_PIXELS, 3))
    frozen = nn.Sequential(module, nn.Linear(3, 2).requires_grad_(False))
    torch.set_rng_state(state)
    before = [p.clone() for p in frozen.parameters()]
    est = few(encoder=frozen).fit(X["spectrum"], y)
    for p, old in zip(frozen.parameters(), before, strict=True):
        assert torch.equal(p, old)
    encoders = est.encoders_
    assert len(encoders.weights) == 2
    assert not torch.equal(encoders.weights[0][0], encoders.weights[0][1])
    fixed = encoders.stacked["buffer0"]
    assert torch.equal(fixed[0], before[2])
    assert torch.equal(fixed[1], before[2])


class Observer(Flat):
    """Ignores nan inside of rows, and keeps what it was shown."""

    accepts_missing = True

    def __init__(self, shape):
        super().__init__(shape)
        self.register_buffer("mean", torch.zeros(shape))

    def observe(self, values):
        self.shown = values.shape
        self.mean.copy_(values.nanmean(0))

    def forward(self, values):
        return super().forward(torch.where(values.isnan(), self.mean, values))


def test_nan_inside_of_rows_and_observe():
    X, y, _, _ = spectra(200)
    X[:100, :3] = np.nan
    X[150] = np.nan
    est = few(encoder=Observer).fit(X, y)
    used = ~np.isnan(X).all(axis=1)
    assert est.encoders_.templates[0].shown[0] <= used.sum()
    np.testing.assert_allclose(est.encoders_.stacked["buffer0"][0], np.nanmean(X, axis=0), atol=0.5)
    assert np.isfinite(est.log_prob(X, y)).all()
    with pytest.raises(ValueError, match=r"some values that are nan in row 0 of the part 'X', whi"):
        few().fit(X, y)
    plain = few(early_stopping=False).fit(X[100:150], y[100:150])
    with pytest.raises(ValueError, match=r"some values that are nan in row 3 of the part 'X'"):
        plain.predict(X[97:103][[3, 4, 5, 0]])
    with pytest.raises(ValueError, match=r"lacks the part 'X', which was there in all rows in fit"):
        plain.predict(X[150:151])
    X[102, 0] = np.inf
    with pytest.raises(ValueError, match="infinite values in row 2 of the part 'X'"):
        est.predict(X[100:])
    with pytest.warns(BadRowsWarning, match=r"4 of 8 rows .* 4 in 'X'"):
        found = plain.predict(X[97:105], on_bad_rows="nan")
    np.testing.assert_array_equal(np.isnan(found), [True] * 3 + [False] * 2 + [True] + [False] * 2)


def test_parts_beside_plain_columns(parts):
    X, y = parts
    frame = pd.DataFrame(X["photometry"], columns=["g", "r"]).assign(kind=list("ab") * 150)
    rows = {"spectrum": X["spectrum"], "table": frame}
    est = few(encoder={"spectrum": flat}, missing_rate=0.3, epochs=3).fit(rows, y)
    assert est.feature_names_in_.tolist() == ["g", "r", "kind"]
    assert est.part_shapes_ == {"spectrum": (5, 10)}
    density = est.predict_density(rows)
    assert density.index.equals(frame.index)
    without = {"table": frame}
    nothing = {"spectrum": np.full((300, 5, 10), np.nan), "table": frame}
    for one in (without, {**without, "spectrum": None}):
        np.testing.assert_array_equal(est.predict(one), est.predict(nothing))
    assert np.isfinite(est.predict({"spectrum": X["spectrum"]})).all()
    in_order = few(encoder=[None, flat, None], missing_rate=0.3)
    in_order.fit([X["photometry"], X["spectrum"], X["photometry"][:, :1]], y)
    assert in_order.n_features_in_ == 3
    assert in_order.part_shapes_ == {"1": (5, 10)}
    again = in_order.predict((X["photometry"], None, X["photometry"][:, :1]))
    assert np.isfinite(again).all()
    assert np.isfinite(in_order.predict([X["photometry"], X["spectrum"], None])).all()


def test_missing_rate_of_patterns_hides_whole_parts(parts):
    X, y = parts
    X = {name: values.copy() for name, values in X.items()}
    X["spectrum"][::4] = np.nan
    est = few(encoder={"spectrum": flat}, epochs=3).fit(X, y)
    assert est.input_encoder_.part_masks == [2]
    assert np.isfinite(est.predict({"photometry": X["photometry"]})).all()


def test_search_over_the_encoder(parts):
    X, y = parts
    est = few(encoder=FlatFactory(), epochs=1, n_members=1)
    assert clone(est).get_params()["encoder__n_features"] == 2
    search = GridSearchCV(est, {"encoder__n_features": [1, 3]}, cv=2).fit(X["spectrum"], y)
    best = search.best_estimator_
    assert (
        best.encoders_.width
        == best.encoder.n_features
        == search.best_params_["encoder__n_features"]
    )
    several = few(encoder={"spectrum": FlatFactory(), "photometry": None})
    assert several.get_params()["encoder__spectrum__n_features"] == 2
    other = clone(several).set_params(encoder__spectrum__n_features=4, epochs=1, n_members=1)
    assert several.encoder["spectrum"].n_features == 2
    assert other.fit(X, y).encoders_.width == 4
    other.set_params(encoder__spectrum=flat)
    assert other.encoder == {"spectrum": flat, "photometry": None}
    with pytest.raises(ValueError, match="Invalid parameter 'encoder__image__a': encoder has the"):
        other.set_params(encoder__image__a=1)
    assert "FlatFactory" in several._repr_html_()


@pytest.mark.parametrize("shared", [False, True])
def test_saved_and_loaded(parts, tmp_path, shared):
    X, y = parts
    path = tmp_path / "model.safetensors"
    encoder = {"spectrum": flat}
    est = few(encoder=encoder, share_encoder=shared, epochs=1).fit(X, y)
    est.save(path)
    again = SANConditionalDensityEstimator.load(path, encoder=encoder)
    np.testing.assert_array_equal(again.log_prob(X, y), est.log_prob(X, y))
    assert again.part_shapes_ == est.part_shapes_
    assert again.encoder is encoder
    pickled = pickle.loads(pickle.dumps(est))
    np.testing.assert_array_equal(pickled.log_prob(X, y), est.log_prob(X, y))
    assert np.isfinite(again.set_params(warm_start=True).fit(X, y).score(X, y))
    with pytest.raises(ValueError, match=r"whose encoder, test_encoder\.flat, is not of this pack"):
        SANConditionalDensityEstimator.load(path)
    for wrong, message in (
        ({"spectrum": Flat}, r"'0.linear.weight' of torch.float32 and shape \(2, 50\), but"),
        ({"spectrum": lambda shape: nn.Flatten()}, "encoder has not the weights that were saved"),
        ({"image": flat}, "encoder must be for the parts 'spectrum', got one for 'image'"),
    ):
        with pytest.raises(ValueError, match=message):
            SANConditionalDensityEstimator.load(path, encoder=wrong)
    with pytest.raises(TypeError, match="encoder must be a torch module"):
        SANConditionalDensityEstimator.load(path, encoder=3)
    small(epochs=1).fit(X["photometry"], y).save(path)
    with pytest.raises(ValueError, match="holds a model without encoder"):
        SANConditionalDensityEstimator.load(path, encoder=flat)


def test_encoders_of_the_package_are_rebuilt_without_help(parts, tmp_path, monkeypatch):
    X, y = parts
    made_up = types.ModuleType("sklearn_san.encoders")
    made_up.FlatFactory = type("FlatFactory", (FlatFactory,), {"__module__": made_up.__name__})
    monkeypatch.setitem(sys.modules, made_up.__name__, made_up)
    path = tmp_path / "model"
    est = few(encoder={"spectrum": made_up.FlatFactory(n_features=3)}, epochs=1).fit(X, y)
    est.save(path)
    again = SANConditionalDensityEstimator.load(path)
    assert again.encoder["spectrum"].n_features == 3
    np.testing.assert_array_equal(again.log_prob(X, y), est.log_prob(X, y))
    est.encoder["spectrum"].set_params(n_features=10**10)  # of which no memory is taken
    est.save(path)
    with pytest.raises(
        CorruptModelError, match=r"linear\.weight must be of shape \(10000000000, 50"
    ):
        SANConditionalDensityEstimator.load(path)
    monkeypatch.delattr(made_up, "FlatFactory")
    with pytest.raises(CorruptModelError, match="the names of encoders of this package"):
        SANConditionalDensityEstimator.load(path)


def _set(tree, *keys, value):
    for key in keys[:-1]:
        tree = tree[key] if isinstance(tree, (dict, list)) else getattr(tree, key)
    if isinstance(tree, (dict, list)):
        tree[keys[-1]] = value
    else:
        vars(tree)[keys[-1]] = value


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("encoders_",), 3, "encoders_ must be a dict"),
        (("encoders_",), None, "layout_ must be None without encoders_"),
        (("encoders_", "widths"), [2], "encoders_.widths must be those of the features of parts"),
        (("encoders_", "widths"), [1, 1], r"encoders_.sources must be .* as many as widths"),
        (("encoders_", "weights", 0), torch.full((2, 1, 50), np.nan), "must be tensors of finite"),
        (("encoders_", "weights", 0), torch.ones(3, 1, 50), "weights must be one for each member"),
        (("encoders_", "weights"), [], "encoders_.weights must be as many as there are names"),
        (("encoders_", "sources", 0), {"path": "os.system", "parameters": {}}, "names of encoders"),
        (("encoders_", "sources", 0), {"path": "a", "parameters": {"a": {}}}, "None or a dict"),
        (("layout_", "shapes"), {"spectrum": (5, -10)}, "layout_.shapes must be a dict of shapes"),
        (("layout_", "kind"), "array", "layout_.shapes must be those of other parts"),
        (("layout_", "plain"), {"spectrum": 2}, "layout_.shapes must be those of other parts"),
        (("layout_",), None, "feature_table_ must be that of the input_encoder_"),
        (("input_encoder_", "n_encoded"), 0, "input_encoder_.n_encoded must be 0 without parts"),
        (("input_encoder_", "n_encoded"), 3, "n_inputs must be the width of all blocks"),
    ],
)
def test_files_that_nobody_saved(fitted_parts, tmp_path, keys, value, message):
    tree = copy.deepcopy(tree_of(fitted_parts))
    _set(tree, *keys, value=value)
    path = tmp_path / "model"
    path.write_bytes(dump_tree(tree, content=MODEL))
    with pytest.raises(CorruptModelError, match=message):
        SANConditionalDensityEstimator.load(path)


def test_goes_on_from_weights(parts, tmp_path):
    X, y = parts
    est = few(encoder={"spectrum": Flat}, warm_start=True).fit(X, y)
    before = est.encoders_.weights[0].clone()
    assert est.fit(X, y).encoders_.weights[0].shape == before.shape
    assert not torch.equal(est.encoders_.weights[0], before)
    streamed = few(encoder={"spectrum": Flat})
    for _ in range(2):
        streamed.partial_fit(X, y)
    assert len(streamed.loss_curve_) == 2
    assert np.isfinite(streamed.score(X, y))
    whole = few(encoder={"spectrum": FlatFactory()}, epochs=3).fit(X, y)
    kept = few(encoder={"spectrum": FlatFactory()}, epochs=3, checkpoint_dir=tmp_path)
    np.testing.assert_array_equal(kept.fit(X, y).predict(X), whole.predict(X))
    np.testing.assert_array_equal(clone(kept).fit(X, y).predict(X), whole.predict(X))
    with pytest.raises(TypeError, match=r"checkpoint_dir does not go with <function flat"):
        few(encoder={"spectrum": flat}, checkpoint_dir=tmp_path).fit(X, y)


@pytest.mark.slow  # processes have to start
def test_members_in_processes(parts):
    X, y = parts
    options = {"encoder": {"spectrum": Normalised}, "epochs": 1}
    flat_rows = {"spectrum": X["spectrum"].reshape(300, -1)}
    beside = few(**options).fit(flat_rows, y)
    apart = few(**options, n_jobs=2).fit(flat_rows, y)
    np.testing.assert_allclose(apart.predict(flat_rows), beside.predict(flat_rows), atol=1e-4)
    with pytest.raises(
        ValueError, match=r"share_encoder=True trains all members together.*n_jobs=2"
    ):
        few(**options, n_jobs=2, share_encoder=True).fit(flat_rows, y)


def test_batches_and_memory_maps(parts, tmp_path, monkeypatch):
    from sklearn_san import _rows

    X, y = parts
    whole = few(encoder={"spectrum": flat}, order=None)
    batches = [({n: v[i::3] for n, v in X.items()}, y[i::3]) for i in range(3)]
    assert np.isfinite(whole.fit(batches).score(X, y))
    monkeypatch.setattr(_rows, "RESERVOIR", 100)
    monkeypatch.setattr(_rows, "POOL", 128)
    assert np.isfinite(few(encoder={"spectrum": flat}, epochs=1).fit(batches).score(X, y))
    np.save(tmp_path / "spectra.npy", X["spectrum"])
    mapped = np.load(tmp_path / "spectra.npy", mmap_mode="r")
    in_memory, in_file = (few(epochs=1).fit(values, y) for values in (X["spectrum"], mapped))
    np.testing.assert_array_equal(in_memory.predict(mapped), in_file.predict(X["spectrum"]))


def test_merged(parts):
    X, y = parts
    apart = [few(encoder={"spectrum": flat}, random_state=s, epochs=1).fit(X, y) for s in (0, 1)]
    merged = merge(apart)
    expected = np.logaddexp(*(est.log_prob(X, y) for est in apart)) - np.log(2.0)
    np.testing.assert_allclose(merged.log_prob(X, y), expected, rtol=1e-4, atol=1e-5)
    assert merged.encoders_.n_members == 4
    with pytest.raises(ValueError, match=r"estimators\[1\] differs from the first in the encoders"):
        merge([apart[0], few(encoder={"spectrum": Flat}, epochs=1).fit(X, y)])
    shared = few(encoder={"spectrum": flat}, share_encoder=True, epochs=1).fit(X, y)
    with pytest.raises(ValueError, match="share_encoder=True cannot be merged"):
        merge([shared, shared])


def test_calibration(parts):
    X, y = parts
    est = few(encoder={"spectrum": flat}, epochs=1).fit(X, y)
    report = calibration_report(est, X, y, n_draws=20, diagnostics=["hpd", "local"], random_state=0)
    features = {region.feature for region in report.local.regions}
    assert features == {"spectrum mean", "spectrum deviation", "photometry 0", "photometry 1"}
    values = numeric_features(X["spectrum"]).values
    expected = [X["spectrum"].mean((1, 2)), X["spectrum"].std((1, 2))]
    np.testing.assert_allclose(values.T, expected, rtol=1e-5, atol=1e-6)
    calibrated = CalibratedDensity(clone(est), cv=0.5, random_state=0).fit(X, y)
    assert calibrated.predict_density(X).log_prob(y).shape == (300,)
    whole = CalibratedDensity(few(epochs=1), cv=0.5).fit(X["spectrum"], y)
    assert np.isfinite(whole.score(X["spectrum"], y))
    in_order = few(encoder=[flat, None])
    with pytest.raises(TypeError, match="CalibratedDensity splits parts of X in a dict, but enc"):
        CalibratedDensity(in_order).fit(list(X.values()), y)


def test_free_running_and_other_layers(parts):
    X, y = parts
    Y = np.stack([y, 2 * y], axis=1) + 0.1 * np.random.default_rng(3).normal(size=(300, 2))
    est = few(encoder={"spectrum": flat}, teacher_forcing=False, encoder_shape=(4,), epochs=1)
    assert np.isfinite(est.fit(X, Y).score(X, Y))


def module_of(forward):
    """A factory of modules with this forward."""
    cls = type("Made", (nn.Module,), {"forward": lambda self, values: forward(values)})
    return lambda shape: cls()


def raises(values):
    raise RuntimeError("no such kernel")


SPECTRA = spectra(40)[0].reshape(40, 5, 10)
TABLE = np.random.default_rng(4).normal(size=(40, 2))


@pytest.mark.parametrize(
    ("encoder", "X", "error", "message"),
    [
        (None, SPECTRA, ValueError, r"Found array with dim 3, of shape \(40, 5, 10\); rows .* enc"),
        (flat, SPECTRA[:, 0, 0], ValueError, r"two dimensions or more in the part 'X', .* \(40,\)"),
        (flat, SPECTRA.astype(str), TypeError, "X must be numbers in the part 'X'"),
        (flat, {"a": SPECTRA}, TypeError, "encoder is one for all of X, which is a dict of parts"),
        ({"a": flat}, SPECTRA, TypeError, "encoder is a dict, so that X must be one of parts"),
        ({"b": flat}, {"a": SPECTRA}, ValueError, "encoder names the part 'b', but X has 'a'"),
        ({"a": flat}, {"a": None, "b": TABLE}, ValueError, "X has no values of the part 'a'"),
        (
            {"a": flat},
            {"a": SPECTRA, "b": TABLE[:9]},
            ValueError,
            "X has 9 rows in the part 'b', but 40 in 'a'; they must match",
        ),
        ([flat], (SPECTRA, TABLE), ValueError, "encoder has 1 entries, so that X must be"),
        ({"a": None}, {"a": SPECTRA}, ValueError, "encoder must be .* which has none"),
        (
            module_of(raises),
            SPECTRA,
            ValueError,
            r"encoder of the part 'X' failed .* \(RuntimeError: no such kernel\)",
        ),
        (module_of(lambda v: [v]), SPECTRA, TypeError, "must return a tensor .* got list"),
        (module_of(lambda v: v), SPECTRA, ValueError, r"got the shape \(8, 5, 10\)"),
        (module_of(lambda v: v[:1, 0]), SPECTRA, ValueError, r"got the shape \(1, 10\)"),
        (module_of(lambda v: v[:, 0] * np.nan), SPECTRA, ValueError, "gives nan or infinity for"),
        (module_of(lambda v: v[:, 0].double()), SPECTRA, TypeError, "must return torch.float32"),
        (module_of(lambda v: v.flatten(1)[:, : len(v)]), SPECTRA, ValueError, "gives 8 features"),
        (np.linspace, SPECTRA, ValueError, r"cannot make a module of the part 'X' .*\(5, 10\)"),
        (np.size, SPECTRA, TypeError, "must make a torch module .* but made int"),
    ],
)
def test_bad_encoders_and_parts(encoder, X, error, message):
    with pytest.raises(error, match=message):
        few(encoder=encoder, epochs=1).fit(X, TABLE[:, 0])


def test_modules_that_cannot_be_copied():
    class Alone(nn.Module):
        def __deepcopy__(self, memo):
            raise TypeError("it holds a file")

    with pytest.raises(TypeError, match=r"'X' cannot be copied, .* it holds a file"):
        few(encoder=Alone()).fit(SPECTRA, TABLE[:, 0])


def test_bad_rows_after_fit(parts):
    X, y = parts
    est = few(encoder={"spectrum": flat}, epochs=1).fit(X, y)
    one = {name: values[:1] for name, values in X.items()}
    for wrong, error, message in (
        ({**one, "image": one["spectrum"]}, ValueError, "the part 'image', which fit did not see"),
        ({"spectrum": one["spectrum"][:, :4]}, ValueError, r"\(n_samples, 5, 10\) in the part"),
        ({"spectrum": X["spectrum"][0]}, ValueError, "one observation x_o goes in as x_o"),
        ({}, ValueError, "X has no part at all"),
        (one["spectrum"], TypeError, "X must be a dict of parts as in fit, got ndarray"),
        ({"photometry": one["photometry"]}, ValueError, "lacks the part 'spectrum'"),
        ({"spectrum": one["spectrum"]}, ValueError, "NaN in feature 'x0', which had none in fit"),
    ):
        with pytest.raises(error, match=message):
            est.predict(wrong)
    for name in ("feature_encoding", "tree_features"):
        value = "piecewise_linear" if name == "feature_encoding" else True
        with pytest.raises(ValueError, match=f"{name}={value!r} needs plain columns"):
            few(**{name: value}).fit(X["spectrum"], y)
    before = small(epochs=1, warm_start=True).fit(X["photometry"], y).set_params(encoder=flat)
    with pytest.raises(ValueError, match="The fit before was one without encoder"):
        before.fit(X["photometry"], y)


def test_states_and_keys_of_parts():
    values = np.ones((5, 2, 3))
    values[1], values[2, 0, 0], values[3, 1, 1], values[4, 1, 1] = np.nan, np.nan, np.inf, 2.0
    part = Part(values)
    np.testing.assert_array_equal(part.state, [0.0, np.nan, -np.inf, np.inf, 0.0])
    keys = part[[0, 4, 0]].keys()
    assert keys[0] == keys[2] != keys[1]
    both = part[1:3].joined([Part(values[::-1]), Part(values)])
    assert len(both) == 12
    np.testing.assert_array_equal(both.read([1]), values[[2]].astype(np.float32))
    split = split_parts({"a": values, "b": values[:, 0], "c": values[:, 1]}, {"a": len}, None)
    assert split.table.shape == (5, 6)
    assert split.layout.plain == {"b": 3, "c": 3}


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(parts):
    X, y = parts
    rows = {"spectrum": X["spectrum"].reshape(300, -1)}
    state = torch.cuda.get_rng_state()
    est = few(encoder={"spectrum": Normalised}, device="cuda").fit(rows, y)
    assert torch.equal(torch.cuda.get_rng_state(), state)
    on_gpu = est.log_prob(rows, y)
    np.testing.assert_allclose(est.set_params(device="cpu").log_prob(rows, y), on_gpu, atol=1e-2)
