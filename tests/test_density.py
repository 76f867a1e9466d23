"""The density of given rows: chunks, units, moments, quantiles, modes."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
from conftest import SINGLE, small
from scipy.integrate import quad
from scipy.special import ndtri
from sklearn.preprocessing import MinMaxScaler

from sklearn_san import _model
from sklearn_san._model import make_generator


def test_draws_do_not_depend_on_the_size_of_the_chunks(fitted, bimodal, monkeypatch):
    X = bimodal[0][:7]
    whole = fitted.sample(X, 50, random_state=3)
    for chunk in (1, 13, 50, 120):
        monkeypatch.setattr(_model, "CHUNK", chunk)
        np.testing.assert_allclose(
            fitted.sample(X, 50, random_state=3), whole, rtol=SINGLE, atol=SINGLE
        )


def test_log_prob_does_not_depend_on_the_size_of_the_chunks(fitted, bimodal, monkeypatch):
    X, y, _ = bimodal
    whole = fitted.log_prob(X, y)
    monkeypatch.setattr(_model, "CHUNK", 17)
    np.testing.assert_allclose(fitted.log_prob(X, y), whole, rtol=SINGLE, atol=SINGLE)


def test_rows_are_independent_and_seeds_decide(fitted, bimodal):
    X = np.repeat(bimodal[0][:1], 2000, axis=0)
    draws = fitted.sample(X, 2, random_state=0)
    np.testing.assert_array_equal(draws, fitted.sample(X, 2, random_state=0))
    assert (draws != fitted.sample(X, 2, random_state=1)).all()
    assert not np.array_equal(fitted.sample(X), fitted.sample(X))
    # 2,000 pairs: a correlation of 5 sigma is 0.11
    assert abs(np.corrcoef(draws[:-1, 0, 0], draws[1:, 0, 0])[0, 1]) < 0.11
    assert abs(np.corrcoef(draws[:, 0, 0], draws[:, 1, 0])[0, 1]) < 0.11


def test_permuted_rows_give_permuted_results(fitted, bimodal):
    X, y, _ = bimodal
    order = np.random.default_rng(0).permutation(len(X))
    np.testing.assert_allclose(fitted.predict(X[order]), fitted.predict(X)[order], rtol=1e-10)
    np.testing.assert_allclose(
        fitted.log_prob(X[order], y[order]), fitted.log_prob(X, y)[order], rtol=SINGLE, atol=SINGLE
    )


@pytest.mark.parametrize("y_scaler", ["standard", "minmax", "maxabs", "robust", "power", None])
@pytest.mark.parametrize("limits", [None, [-2.5, 2.5], [-2.5, np.inf]])
def test_density_of_one_output_integrates_to_one(bimodal, y_scaler, limits):
    X, y, _ = bimodal
    est = small(y_scaler=y_scaler, limits=limits, dtype="float64").fit(X, y[:, 0])
    low, high = (-2.5, 2.5) if limits is None else np.clip(limits, -8.0, 8.0)
    if limits is None:
        low, high = -8.0, 8.0
    mass, _ = quad(lambda v: np.exp(est.log_prob(X[:1], [v])[0]), low, high, epsabs=1e-9, limit=400)
    assert mass == pytest.approx(1.0, abs=1e-4 if np.isinf(limits or [np.inf]).any() else 1e-7)


def test_density_of_two_outputs_integrates_to_one(fitted, bimodal):
    X = bimodal[0]
    first, second = np.linspace(-4.0, 4.0, 801), np.linspace(-6.0, 6.0, 801)
    grid = np.stack(np.meshgrid(first, second, indexing="ij"), -1).reshape(-1, 2)
    log_prob = fitted.log_prob(np.repeat(X[:1], len(grid), axis=0), grid)
    mass = np.exp(log_prob).reshape(801, 801)
    assert np.trapezoid(np.trapezoid(mass, second), first) == pytest.approx(1.0, abs=2e-3)


def test_outside_the_limits_the_density_is_zero(fitted, bimodal):
    X = bimodal[0][:4]
    y = np.array([[-4.0, 0.0], [4.0, 0.0], [4.0 + 1e-9, 0.0], [-4.1, 0.0]])
    np.testing.assert_array_equal(np.isfinite(fitted.log_prob(X, y)), [True, True, False, False])
    assert fitted.log_prob(X, y)[3] == -np.inf


def test_rescaled_targets_shift_the_log_density(bimodal):
    X, y, _ = bimodal
    plain = small(dtype="float64").fit(X, y)  # factors of 10 round, which training amplifies
    scaled = small(dtype="float64").fit(X, y * [10.0, 0.5])
    expected = plain.log_prob(X, y) - np.log(10.0) - np.log(0.5)
    actual = scaled.log_prob(X, y * [10.0, 0.5])
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)


def test_order_is_invisible_in_shapes_and_columns(bimodal):
    X, y, _ = bimodal
    limits = [[-4.0, 4.0], [-np.inf, np.inf]]
    est = small(order=[1, 0], limits=limits, epochs=40).fit(X, y)
    assert est.order_.tolist() == [1, 0]
    # The same network as one that is given the columns in the other order
    other = small(limits=limits[::-1], epochs=40).fit(X, y[:, ::-1])
    np.testing.assert_array_equal(est.log_prob(X, y), other.log_prob(X, y[:, ::-1]))
    np.testing.assert_array_equal(est.predict(X), other.predict(X)[:, ::-1])
    for output_type in ("median", "std", "mode", "quantiles"):
        np.testing.assert_array_equal(
            est.predict(X[:3], output_type=output_type),
            other.predict(X[:3], output_type=output_type)[..., ::-1],
        )
    draws = est.sample(X, 5, random_state=0)
    np.testing.assert_array_equal(draws, other.sample(X, 5, random_state=0)[..., ::-1])
    assert np.abs(draws.mean((0, 1)) - y.mean(0)).max() < 0.2


@pytest.mark.parametrize(
    ("y_scaler", "n_members", "linear_base"),
    [("standard", 1, True), ("standard", 3, False), ("power", 3, False)],
)
def test_moments_and_quantiles_agree_with_many_draws(bimodal, y_scaler, n_members, linear_base):
    # 200,000 draws have standard errors near 0.001; quantiles from 256 quasi-random points
    X, y, _ = bimodal
    est = small(y_scaler=y_scaler, n_members=n_members, linear_base=linear_base, epochs=15).fit(
        X, y
    )
    draws = est.sample(X[:3], 200_000, random_state=0)
    np.testing.assert_allclose(est.predict(X[:3]), draws.mean(1), atol=0.02)
    np.testing.assert_allclose(
        est.predict(X[:3], output_type="std"), draws.std(1), atol=0.02, rtol=0.02
    )
    levels = [0.1, 0.5, 0.8]
    quantiles = est.predict(X[:3], output_type="quantiles", quantiles=levels)
    assert quantiles.shape == (3, 3, 2)
    u = (draws[:, :, None] <= quantiles[:, None]).mean(1)  # cdf at the quantiles
    np.testing.assert_allclose(u, np.tile(np.array(levels)[:, None], (3, 1, 2)), atol=0.02)
    np.testing.assert_allclose(est.predict(X[:3], output_type="median"), quantiles[:, 1])
    interval = est.predict(X[:3], output_type="interval", level=0.5)
    ends = est.predict(X[:3], output_type="quantiles", quantiles=[0.25, 0.75])
    np.testing.assert_array_equal(interval, ends)


@pytest.mark.parametrize("n_members", [1, 3])
def test_one_output_has_closed_forms(bimodal, n_members):
    X, y, _ = bimodal
    est = small(dtype="float64", n_members=n_members).fit(X, y[:, 0])
    density = lambda v: np.exp(est.log_prob(X[:1], [v])[0])  # noqa: E731
    mean = quad(lambda v: v * density(v), -9, 9, limit=400)[0]
    variance = quad(lambda v: (v - mean) ** 2 * density(v), -9, 9, limit=400)[0]
    assert est.predict(X[:1])[0] == pytest.approx(mean, abs=1e-6)
    assert est.predict(X[:1], output_type="std")[0] == pytest.approx(variance**0.5, abs=1e-6)
    q = est.predict(X[:1], output_type="quantiles", quantiles=0.3)[0, 0]
    assert quad(density, -9, q, limit=400)[0] == pytest.approx(0.3, abs=1e-6)


@pytest.mark.parametrize("y_scaler", ["standard", "power", MinMaxScaler((0, 9))])
def test_no_draw_beats_the_mode(bimodal, y_scaler):
    X, y, _ = bimodal
    est = small(y_scaler=y_scaler, dtype="float64", n_members=2, epochs=15).fit(X, y)
    mode = est.predict(X[:5], output_type="mode")
    best = est.log_prob(X[:5], mode)
    draws = est.sample(X[:5], 2000, random_state=0)
    log_prob = est.predict_density(X[:5]).log_prob(draws)
    assert (best >= log_prob.max(1) - (0.02 if y_scaler == "power" else 0.0)).all()


def member(est, m):
    """Copy of a fitted estimator with one of its members alone."""
    one = copy.deepcopy(est)
    one.network_ = est.network_.of_members(slice(m, m + 1))
    return one


def test_the_density_of_an_ensemble_is_the_mean_of_its_members(bimodal):
    X, y, _ = bimodal
    est = small(n_members=3).fit(X, y)
    assert est.n_members_ == est.network_.n_members == 3
    members = [member(est, m) for m in range(3)]
    densities = [np.exp(one.log_prob(X, y)) for one in members]
    assert np.abs(densities[0] - densities[1]).max() > 0.01
    np.testing.assert_allclose(np.exp(est.log_prob(X, y)), np.mean(densities, 0), rtol=SINGLE)
    means = [one.predict(X) for one in members]
    np.testing.assert_allclose(est.predict(X), np.mean(means, 0), atol=0.05)  # 64 points


def test_each_draw_of_an_ensemble_comes_from_one_of_its_members():
    # Members whose densities do not overlap: the draws of each are told apart by their value
    X, y = np.zeros((60, 1)), np.random.default_rng(0).normal(size=(60, 2))
    est = small(n_members=4, K=1, epochs=1).fit(X, y)
    with torch.no_grad():
        for m, block in itertools.product(range(4), est.network_.blocks):
            block.heads.weight[m] = 0.0
            block.heads.bias[m, block.n_sequence :] = torch.tensor([0.0, 100.0 * m, -3.0])
    draws = est.sample(X[:5], 2000, random_state=0)
    scaled = (draws - est.y_scaler_.origin()) / est.y_scaler_.unit(y)
    chosen = np.rint(scaled / 100.0)
    np.testing.assert_allclose(scaled, 100.0 * chosen, atol=1.0)
    assert (chosen[..., 0] == chosen[..., 1]).all()  # all outputs of a draw
    counts = np.stack([(chosen[..., 0] == m).sum(1) for m in range(4)], 1)
    assert np.abs(counts - 500).max() < 100  # 5 sigma
    # Independent from draw to draw
    first, second = chosen[:, :-1, 0].ravel(), chosen[:, 1:, 0].ravel()
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05
    whole = est.sample(X, 700, random_state=1)
    np.testing.assert_array_equal(whole[:3], est.sample(X[:3], 700, random_state=1))


def test_float32_and_float64_agree(bimodal):
    X, y, _ = bimodal
    single = small(epochs=10).fit(X, y)
    double = small(epochs=10).fit(X, y)
    double.network_ = double.network_.double()
    np.testing.assert_allclose(
        single.log_prob(X, y), double.log_prob(X, y), rtol=SINGLE, atol=SINGLE
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])  # in kernels, in torch
@pytest.mark.filterwarnings("ignore::sklearn_san.exceptions.TiesWarning")
@pytest.mark.filterwarnings("ignore::sklearn_san.exceptions.DependentOutputsWarning")
def test_as_many_draws_are_at_the_limits_as_the_density_has_there(dtype):
    # Targets that pile up at both limits, so that many components lie outside. A draw that would
    # leave the box is moved to its limit in the end, so that draws at the limits are counted.
    random = np.random.default_rng(0)
    X = random.normal(size=(400, 1))
    y = np.clip(random.normal(0.0, 2.0, size=(400, 2)), -1.0, 0.3)
    est = small(limits=[[-1.0, 0.3], [-1.0, np.inf]], dtype=dtype).fit(X, y)
    X = np.repeat(X, 100, axis=0)
    draws = est.sample(X, 1, random_state=0)[:, 0]
    density = est.predict_density(X)
    for j, limit, inwards in [(0, -1.0, 1.0), (0, 0.3, -1.0), (1, -1.0, 1.0)]:
        for width, rounding in [(16 * np.finfo(dtype).eps, 1.0), (1e-3, 0.02), (0.1, 0.002)]:
            points = draws.copy()
            points[:, j] = limit + inwards * width
            u = density.cdf(points)[:, j]  # given the outputs before it
            expected = (u if inwards > 0 else 1.0 - u).sum()
            found = np.count_nonzero(np.abs(draws[:, j] - limit) <= width)
            # Five standard errors, and what rounding carries over the edge
            assert abs(found - expected) < 5 * np.sqrt(expected) + rounding * expected + 1
    assert (draws >= -1.0).all()
    assert draws[:, 0].max() <= 0.3


def test_generators_come_from_the_random_state_alone():
    same = [make_generator(5).initial_seed() for _ in range(2)]
    assert same[0] == same[1]
    assert make_generator(None).initial_seed() != make_generator(None).initial_seed()
    state = np.random.RandomState(0)
    assert make_generator(state).initial_seed() != make_generator(state).initial_seed()


def test_what_is_kept_between_calls_follows_the_weights(bimodal, tmp_path):
    X, y, _ = bimodal
    est = small(epochs=2).fit(X, y)
    before = est.sample(X[:5], 20, random_state=0), est.predict(X[:5])
    est.partial_fit(X, y)
    after = est.sample(X[:5], 20, random_state=0), est.predict(X[:5])
    est.save(tmp_path / "model")
    loaded = type(est).load(tmp_path / "model")
    for other in (pickle.loads(pickle.dumps(est)), copy.deepcopy(est), loaded):
        fresh = other.sample(X[:5], 20, random_state=0), other.predict(X[:5])
        for old, now, expected in zip(before, after, fresh, strict=True):
            assert not np.array_equal(old, now)
            np.testing.assert_array_equal(now, expected)


def test_several_summaries_are_those_of_their_own(bimodal):
    X, y, _ = bimodal
    est = small(n_members=2, epochs=10).fit(X, y)
    names = ("std", "quantiles", "mode", "mean", "median")
    found = est.predict(X[:4], output_type=names, quantiles=[0.2, 0.9])
    assert list(found) == list(names)
    for name, values in found.items():
        expected = est.predict(X[:4], output_type=name, quantiles=[0.2, 0.9])
        np.testing.assert_array_equal(values, expected)
    density = est.predict_density(X[:4])
    assert density.summarise("mean").keys() == {"mean"}
    assert density.summarise()["quantiles"].shape == (4, 3, 2)
    with pytest.raises(ValueError, match="output_type must be one or several of"):
        est.predict(X[:4], output_type=["mean", "samples"])
    with pytest.raises(ValueError, match="statistics must be one or several of"):
        density.summarise([])
    with pytest.raises(TypeError, match="statistics must be one or several of"):
        density.summarise(3)


def linear_gaussian(order, n_members):
    """Estimator whose outputs are normal, X, and their means (n_rows, n_outputs) and deviations."""
    random = np.random.default_rng(0)
    X = random.normal(size=(200, 1))
    mixing = np.array([[1.0, 0.0, 0.0], [0.3, 1.0, 0.0], [0.2, -0.3, 1.0]])
    y = X + random.normal(size=(200, 3)) @ mixing.T
    est = small(K=1, epochs=1, order=order, linear_base=True, n_members=n_members).fit(X, y)
    with torch.no_grad():  # no more than the base
        for block in est.network_.blocks:
            block.heads.weight.zero_()
            block.heads.bias.zero_()
    base, density = est.network_.base, est.predict_density(X[:3])
    through = np.linalg.inv(np.eye(3) - base.weight_y.double().numpy())
    location = density._inputs(slice(0, 3)) @ base.weight_x.double().numpy().T
    location = (location + base.intercept.double().numpy()) @ through.T
    scale = (1.0 + 1e-5) * base.scale.double().numpy()  # of the residuals, whose floor is 1e-5
    std = np.sqrt(((through * scale) ** 2).sum(axis=1)) / density.model.y_scaler.slope
    return density, density.model.restore(location), std[np.argsort(order)]


@pytest.mark.parametrize("n_members", [1, 4])
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [1, 2, 0]])
def test_quantiles_of_linear_gaussians_in_any_order(order, n_members):
    density, mean, std = linear_gaussian(order, n_members)
    levels = np.array([1e-4, 0.025, 0.5, 0.84, 1.0 - 1e-4])
    found = density.summarise(("mean", "std", "quantiles"), quantiles=levels)
    score = (found["quantiles"] - mean[:, None]) / std
    exact = np.tile(ndtri(levels)[:, None], (3, 1, 3))
    first = order[0]  # nothing is drawn before it
    np.testing.assert_allclose(score[..., first], exact[..., first], atol=1e-4)
    # Outputs before carry a tenth of the variance, of which 256 draws are a sample
    np.testing.assert_allclose(score[:, 1:4], exact[:, 1:4], atol=0.01)
    np.testing.assert_allclose(score, exact, atol=0.1)
    np.testing.assert_allclose((found["mean"] - mean) / std, 0.0, atol=0.01)
    np.testing.assert_allclose(found["std"] / std, 1.0, atol=0.01)
