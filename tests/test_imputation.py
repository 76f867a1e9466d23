"""What stands for missing numbers, against the formulas of the normal distribution."""

import numpy as np
import pytest

from sklearn_san._imputation import Imputer


def table(n, seed=0, rate=0.3):
    """Correlated normal numbers and the same with gaps; their mean and covariance."""
    random = np.random.default_rng(seed)
    factor = np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [-0.5, 0.5, 0.7]])
    mean = np.array([0.0, 1.0, -0.5])
    values = mean + random.normal(size=(n, 3)) @ factor.T
    return (
        values,
        np.where(random.random(values.shape) < rate, np.nan, values),
        mean,
        factor @ factor.T,
    )


def test_means_are_those_of_the_normal_distribution():
    values, gaps, mean, covariance = table(50)
    imputer = Imputer()
    imputer.mean, imputer.precision = mean, np.linalg.inv(covariance)
    filled = imputer.fill(gaps)
    for row, gap, found in zip(values, gaps, filled, strict=True):
        m = np.isnan(gap)
        slope = covariance[np.ix_(m, ~m)] @ np.linalg.inv(covariance[np.ix_(~m, ~m)])
        np.testing.assert_allclose(found[m], mean[m] + slope @ (row - mean)[~m], rtol=1e-10)
        np.testing.assert_array_equal(found[~m], row[~m])


def test_fit_to_incomplete_rows_finds_the_covariance():
    # Standard errors are near 0.02, of the means 0.014
    _, gaps, mean, covariance = table(8000)
    imputer = Imputer().fit(gaps)
    np.testing.assert_allclose(imputer.mean, mean, atol=0.06)
    np.testing.assert_allclose(np.linalg.inv(imputer.precision), covariance, atol=0.1)


def test_fit_does_not_lower_the_likelihood():
    # That is what expectation maximisation promises: complete numbers imply it in one step
    values, *_ = table(4000)
    imputer = Imputer().fit(values)
    np.testing.assert_allclose(
        np.linalg.inv(imputer.precision), np.cov(values.T, ddof=0), atol=5e-3
    )


def test_weights_count_rows():
    _, gaps, *_ = table(3000)
    weight = np.random.default_rng(1).integers(1, 4, len(gaps)).astype(float)
    repeated = Imputer().fit(np.repeat(gaps, weight.astype(int), axis=0))
    weighted = Imputer().fit(gaps, weight)
    np.testing.assert_allclose(weighted.mean, repeated.mean, atol=0.02)
    np.testing.assert_allclose(weighted.fill(gaps), repeated.fill(gaps), atol=0.05)


def test_each_row_by_itself():
    _, gaps, *_ = table(40)
    imputer = Imputer().fit(gaps)
    filled = imputer.fill(gaps)
    for i in range(len(gaps)):
        np.testing.assert_array_equal(imputer.fill(gaps[i : i + 1])[0], filled[i])


@pytest.mark.parametrize("n", [1, 5, 400])
def test_numbers_that_repeat_others_or_are_constant(n):
    values, gaps, *_ = table(n)
    gaps = np.column_stack([gaps, gaps[:, 0], np.zeros(n), values[:, 1] + gaps[:, 2]])
    imputer = Imputer().fit(gaps)
    assert np.isfinite(imputer.fill(gaps)).all()
    assert np.isfinite(imputer.fill(np.full((1, 6), np.nan))).all()
    if n == 400:
        shown = np.array([[1.5, np.nan, np.nan, np.nan, np.nan, np.nan]])
        assert imputer.fill(shown)[0, 3] == pytest.approx(1.5, abs=0.05)
