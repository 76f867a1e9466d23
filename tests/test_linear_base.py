"""Least-squares base: coefficients, where it is used, and awkward tables."""

import numpy as np
import pytest
import torch
from conftest import small
from scipy.stats import norm

from sklearn_san._linear_base import fit_linear_base, match_marginals
from sklearn_san.likelihoods import MixtureOfGaussians, Support, TruncatedMixtureOfGaussians

FAMILIES = [TruncatedMixtureOfGaussians(K=2)] * 3


def linear_problem(n=500):
    random = np.random.default_rng(0)
    x = random.normal(size=(n, 2))
    first = x @ [1.0, -2.0] + 0.1 * random.normal(size=n)
    second = random.normal(size=n)
    third = 3.0 * first - second + 0.5 + 0.01 * random.normal(size=n)
    return x, np.stack([first, second, third], axis=1)


def test_coefficients_and_where_a_base_helps():
    x, y = linear_problem()
    base, residual = fit_linear_base(x, y, None, "auto", FAMILIES)
    assert base.used == [0, 2]
    np.testing.assert_allclose(base.weight_x[0], [1.0, -2.0], atol=0.02)
    np.testing.assert_allclose(base.weight_y[2], [3.0, -1.0, 0.0], atol=0.02)
    np.testing.assert_allclose(base.scale, [0.1, 1.0, 0.01], rtol=0.1)
    np.testing.assert_array_equal(residual[:, 1], y[:, 1])
    location = base.location(torch.from_numpy(x), torch.from_numpy(y)).numpy()
    # Residuals are of fits to the other rows: larger by the leverage, some per cent at most
    scaled = residual * base.scale.numpy()
    ratio = scaled[:, [0, 2]] / (y - location)[:, [0, 2]]
    assert 1.0 < ratio.min() < ratio.max() < 1.1
    assert ratio.mean() == pytest.approx(1.0 + 3.5 / 500, abs=2e-3)  # 3 and 4 of 500 parameters


def test_all_or_none():
    x, y = linear_problem()
    assert fit_linear_base(x, y, None, True, FAMILIES)[0].used == [0, 1, 2]
    assert fit_linear_base(x, y, None, False, FAMILIES)[0].used == []


def test_weights_select_rows():
    x, y = linear_problem()
    spoiled = np.where(np.arange(len(y))[:, None] < 100, 50.0, y)
    weight = np.where(np.arange(len(y)) < 100, 1e-9, 1.0)
    base, _ = fit_linear_base(x, spoiled, weight, True, FAMILIES)
    np.testing.assert_allclose(base.weight_x[0], [1.0, -2.0], atol=0.02)


def test_marginals_of_bounded_residuals_are_matched_inside_their_moving_bounds():
    x, y = linear_problem()
    limits = np.array([[-9.0, 9.0], [-4.0, np.inf], [-30.0, 30.0]])
    assert ((y >= limits[:, 0]) & (y <= limits[:, 1])).all()
    base, residual = fit_linear_base(x, y, None, True, FAMILIES)
    raw = match_marginals(FAMILIES, limits, base, y, residual, None)
    for d, family in enumerate(FAMILIES):
        shift = residual[:, d] - y[:, d] / base.scale[d].item()
        support = Support(*(torch.from_numpy(b / base.scale[d].item() + shift) for b in limits[d]))
        own = torch.from_numpy(raw[d])
        # 500 residuals: five standard errors of their mean, and of their variance
        mean = family.mean(own, support).mean().item()
        assert mean == pytest.approx(residual[:, d].mean(), abs=5 * residual[:, d].std() / 22)
        variance = family.variance(own, support).mean().item()
        assert variance == pytest.approx(residual[:, d].var(), rel=0.3)


def awkward(kind):
    """Tables on which plain least squares fails."""
    random = np.random.default_rng(1)
    n, columns = (12, 30) if kind == "fewer rows than columns" else (300, 4)
    X = random.normal(size=(n, columns))
    if kind == "collinear":
        X[:, 1:] = X[:, :1]
    if kind == "constant columns":
        X[:, 1:] = 7.0
    first = X[:, 0] + 0.1 * random.normal(size=n)
    y = np.stack(
        [first, first + (0.0 if kind == "equal outputs" else 0.1) * random.normal(size=n)], axis=1
    )
    return X, y


@pytest.mark.parametrize("limits", [None, [[-9.0, 9.0], [-9.0, np.inf]]])
@pytest.mark.parametrize(
    "kind", ["collinear", "constant columns", "fewer rows than columns", "equal outputs"]
)
@pytest.mark.filterwarnings("ignore::sklearn_san.exceptions.DependentOutputsWarning")
def test_awkward_tables_train(kind, limits):
    X, y = awkward(kind)
    est = small(linear_base=True, limits=limits).fit(X, y)
    assert np.isfinite(est.log_prob(X, y)).all()
    if len(X) > X.shape[1]:  # else residuals are rounding errors, and training depends on them
        # No worse than a normal distribution for each output
        assert est.score(X, y) > norm.logpdf(y, y.mean(0), y.std(0)).sum(1).mean() - 0.1
    draws = est.sample(X, 20, random_state=0)
    assert np.isfinite(draws).all()
    if limits is not None:  # far from all rows: a draw at a limit has been moved there
        assert draws.min() > -9.0
        assert draws[..., 0].max() < 9.0


@pytest.mark.parametrize("weighted", [False, True])
def test_residuals_are_those_of_fits_to_the_other_rows(weighted):
    from sklearn.linear_model import Ridge

    random = np.random.default_rng(0)
    x = random.normal(size=(12, 30))  # fewer rows than columns
    y = x[:, :1] + 0.1 * random.normal(size=(12, 1))
    weight = random.integers(1, 4, 12).astype(float) if weighted else None
    base, residual = fit_linear_base(x, y, weight, True, [MixtureOfGaussians()])
    alphas = np.logspace(-6, 4, 11)
    location = (x @ base.weight_x.numpy().T + base.intercept.numpy())[:, 0]

    def distance(alpha):
        return np.abs(Ridge(alpha).fit(x, y[:, 0], weight).predict(x) - location).max()

    alpha = min(alphas, key=distance)  # the one that was chosen
    left_out = []
    for i in range(12):
        others = np.arange(12) != i
        own = None if weight is None else weight[others]
        fitted = Ridge(alpha).fit(x[others], y[others, 0], own)
        left_out.append(y[i, 0] - fitted.predict(x[i : i + 1])[0])
    np.testing.assert_allclose(residual[:, 0] * base.scale.numpy(), left_out, rtol=1e-5)


def test_more_columns_than_rows_do_not_start_from_needles():
    random = np.random.default_rng(0)
    X, y = random.normal(size=(12, 30)), random.normal(size=12)
    est = small(linear_base=True, epochs=1).fit(X, y)
    assert est.score(X, y) > -10.0
