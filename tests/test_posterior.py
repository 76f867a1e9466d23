"""What a density object is asked, against quadrature of its own log density on a grid."""

import numpy as np
import pandas as pd
import pytest
from conftest import small
from scipy.integrate import cumulative_trapezoid
from scipy.stats import kstest

from sklearn_san.density import GivenDensity, resample
from sklearn_san.exceptions import BadRowsWarning, EffectiveSampleSizeWarning

ROWS = 3


@pytest.fixture(scope="module")
def ensemble(bimodal):
    """Two members and two outputs in the order (1, 0), the first column with limits."""
    X, y, _ = bimodal
    limits = [[-4.0, 4.0], [-np.inf, np.inf]]
    return small(n_members=2, limits=limits, order=[1, 0], epochs=15, dtype="float64").fit(X, y)


@pytest.fixture(scope="module")
def density(ensemble, bimodal):
    return ensemble.predict_density(bimodal[0][:ROWS])


@pytest.fixture(scope="module")
def grid(density):
    """Both axes and the joint density (ROWS, 401, 401) on their product."""
    first, second = np.linspace(-4.0, 4.0, 401), np.linspace(-8.0, 8.0, 401)
    points = np.stack(np.meshgrid(first, second, indexing="ij"), -1).reshape(-1, 2)
    log_prob = density.log_prob(np.repeat(points[None], ROWS, axis=0))
    return first, second, np.exp(log_prob).reshape(ROWS, 401, 401)


def integrate(values, *axes):
    for axis in reversed(axes):
        values = np.trapezoid(values, axis, axis=-1)
    return values


def test_repr_length_and_rows(density, ensemble, bimodal):
    assert repr(density) == "ConditionalDensity(n_rows=3, outputs=['y0', 'y1'])"
    assert len(density[1]) == 1
    assert len(density[-1:]) == 1
    assert len(density[np.array([True, False, True])]) == 2
    np.testing.assert_allclose(density[[2, 0]].mean(), density.mean()[[2, 0]])
    with pytest.raises(IndexError, match="row 3 does not exist; there are 3 rows"):
        density[3]
    assert sum(1 for _ in density) == 3  # iterates over rows
    np.testing.assert_array_equal(density.limits, ensemble.limits_)


def test_several_points_for_each_row(density):
    y = density.sample(5, random_state=0)
    log_prob = density.log_prob(y)
    assert log_prob.shape == (ROWS, 5)
    for s in range(5):
        np.testing.assert_allclose(log_prob[:, s], density.log_prob(y[:, s]))
    with pytest.raises(ValueError, match="X has 3 rows, but y has 2"):
        density.log_prob(y[:2])


@pytest.mark.parametrize("kind", ["plain", "given", "reweighted", "one output", "named"])
def test_one_row_goes_with_every_y(density, ensemble, kind):
    one, y = density[:1], density.sample(9, random_state=0)[0]
    if kind == "given":
        one = one.given({0: 0.5})
    elif kind == "reweighted":
        one = one.marginalise(lambda values: np.exp(-(values[:, 0] ** 2)))
    elif kind == "one output":
        x = np.random.default_rng(0).normal(size=(60, 2))
        one, y = small(epochs=1).fit(x, x[:, 0] ** 2).predict_density(x[:1]), y[:, 0]
    expected = one.log_prob(y[None])[0]
    assert expected.shape == (9,)
    if kind == "named":
        y = pd.DataFrame(y, columns=one.output_names)
    np.testing.assert_array_equal(one.log_prob(y), expected)
    assert one.log_prob(y[:0]).shape == (0,)
    assert one.log_prob(y[:1]).shape == (1,)


def test_one_observation_of_many_y(ensemble, bimodal):
    X, y, _ = bimodal
    found = ensemble.log_prob(X[:1], y[:40])
    np.testing.assert_allclose(found, ensemble.log_prob(np.tile(X[:1], (40, 1)), y[:40]), rtol=1e-5)
    np.testing.assert_array_equal(ensemble.log_prob(X[:1], y[:40], on_bad_rows="nan"), found)
    with pytest.warns(BadRowsWarning):
        bad = ensemble.log_prob(np.full_like(X[:1], np.nan), y[:40], on_bad_rows="nan")
    np.testing.assert_array_equal(bad, np.full(40, np.nan))
    for wrong in (X[0], pd.DataFrame(X).iloc[0]):
        with pytest.raises(ValueError, match=r"as x_o\[None\] or x_o.reshape\(1, -1\)"):
            ensemble.log_prob(wrong, y)


def test_summaries_in_a_frame(density, ensemble, bimodal):
    frame = density.summary(["mean", "std", "q16", "mode", "q97.5"], index=["a", "b", "c"])
    assert list(frame.index) == ["a", "b", "c"]
    assert list(frame.columns[:5]) == ["y0_mean", "y0_std", "y0_q16", "y0_mode", "y0_q97.5"]
    expected = density.summarise(["mean", "std", "quantiles"], quantiles=[0.16, 0.975])
    for j in range(2):
        np.testing.assert_array_equal(frame[f"y{j}_mean"], expected["mean"][:, j])
        np.testing.assert_array_equal(frame[f"y{j}_q16"], expected["quantiles"][:, 0, j])
        np.testing.assert_array_equal(frame[f"y{j}_q97.5"], expected["quantiles"][:, 1, j])
        np.testing.assert_array_equal(frame[f"y{j}_mode"], density.mode()[:, j])
    assert density.summary("std").columns.tolist() == ["y0_std", "y1_std"]
    rows = pd.DataFrame(bimodal[0][:3].copy(), index=["p", "q", "r"])
    rows.iloc[1] = np.nan
    with pytest.warns(BadRowsWarning):
        masked = ensemble.predict_density(rows, on_bad_rows="nan").summary(["q05", "median"])
    assert masked.isna().all(axis=1).tolist() == [False, True, False]
    assert list(masked.index) == ["p", "q", "r"]
    x = np.random.default_rng(0).normal(size=(60, 2))
    labels = np.where(x[:, 0] > 0, "star", "galaxy")
    one = small(epochs=1).fit(x, labels).predict_density(x[:4])
    assert one.summary("mean")["y0_mean"].tolist() == one.mean().tolist()
    for wrong in ("quantiles", "q0", "q100", [], ["mean", 3], None):
        with pytest.raises(ValueError, match="statistics must"):
            density.summary(wrong)
    with pytest.raises(ValueError, match="index must have one entry for each of the 3 rows"):
        density.summary(index=["a"])


def test_moments_and_covariance(density, grid):
    first, second, joint = grid
    a, b = first[:, None], second[None, :]
    mean = np.stack([integrate(joint * v, first, second) for v in (a, b)], 1)
    np.testing.assert_allclose(density.mean(), mean, atol=0.02)  # 256 quasi-random points
    centred = [a - mean[:, 0, None, None], b - mean[:, 1, None, None]]
    cov = np.array([[integrate(joint * u * v, first, second) for u in centred] for v in centred])
    np.testing.assert_allclose(density.cov(), np.moveaxis(cov, 2, 0), atol=0.04)
    np.testing.assert_allclose(np.einsum("nii->ni", density.cov()), density.std() ** 2)


def test_quantiles_and_intervals(density, grid):
    first, second, joint = grid
    for j, (axis, marginal) in enumerate(
        [(first, integrate(joint, second)), (second, integrate(joint.swapaxes(1, 2), first))]
    ):
        cdf = cumulative_trapezoid(marginal, axis, axis=1, initial=0.0)
        interval = density.interval(0.8)[..., j]
        for i in range(ROWS):
            np.testing.assert_allclose(np.interp(interval[i], axis, cdf[i]), [0.1, 0.9], atol=0.012)
    np.testing.assert_allclose(density.quantile(0.5)[:, 0], density.interval(1e-9).mean(1))


def test_the_mode_is_the_highest_point_of_the_grid(density, grid):
    joint = grid[2]
    best = np.exp(density.log_prob(density.mode()))
    highest = joint.reshape(ROWS, -1).max(1)
    assert (best >= highest * (1 - 1e-9)).all()
    assert (best <= highest * 1.05).all()  # the grid is fine


def test_rosenblatt_transform_and_its_inverse(density, ensemble, bimodal):
    u = np.random.default_rng(0).uniform(0.001, 0.999, size=(ROWS, 2))
    np.testing.assert_allclose(density.cdf(density.inverse_cdf(u)), u, atol=1e-9)
    y = density.sample(1, random_state=0)[:, 0]
    np.testing.assert_allclose(density.inverse_cdf(density.cdf(y)), y, atol=1e-6)
    # Draws of the mixture: Kolmogorov-Smirnov at 1e-4 for each output, correlation at 5 sigma
    X = np.repeat(bimodal[0][:1], 4000, axis=0)
    draws = ensemble.sample(X, 1, random_state=1)[:, 0]
    u = ensemble.predict_density(X).cdf(draws)
    assert min(kstest(u[:, j], "uniform").pvalue for j in range(2)) > 1e-4
    assert abs(np.corrcoef(u.T)[0, 1]) < 5 / np.sqrt(4000)


def test_the_cdf_is_that_of_the_conditionals(density, grid):
    first, second, joint = grid
    y = np.array([[0.3, -0.5]] * ROWS)
    u = density.cdf(y)
    marginal = integrate(joint.swapaxes(1, 2), first)  # output 1 comes first
    cdf = cumulative_trapezoid(marginal, second, axis=1, initial=0.0)
    at_y = [np.interp(y[0, 1], second, one) for one in cdf]
    np.testing.assert_allclose(u[:, 1], at_y, atol=1e-3)
    fine = np.linspace(-4.0, 4.0, 4001)
    points = np.stack([fine, np.full(4001, y[0, 1])], 1)
    conditional = np.exp(density.log_prob(np.repeat(points[None], ROWS, axis=0)))
    share = [np.trapezoid(c[fine <= 0.3], fine[fine <= 0.3]) for c in conditional]
    np.testing.assert_allclose(u[:, 0], share / integrate(conditional, fine), atol=2e-3)


@pytest.mark.parametrize("output", [0, 1])
def test_marginal_of_one_output(density, grid, output):
    first, second, joint = grid
    axis = (first, second)[output]
    exact = integrate(joint if output == 0 else joint.swapaxes(1, 2), (second, first)[output])
    marginal = density.marginal(output, grid=axis)
    assert marginal.outputs == [f"y{output}"]
    np.testing.assert_allclose(marginal.density, exact, atol=0.02 * exact.max())
    own = density.marginal(f"y{output}", n_points=200)
    np.testing.assert_allclose(integrate(own.density, own.grid), 1.0, atol=0.01)


@pytest.mark.parametrize("outputs", [(0, 1), ("y1", "y0")])
def test_marginal_of_two_outputs(density, grid, outputs):
    first, second, joint = grid
    axes = (first[::10], second[::10])
    exact = joint[:, ::10, ::10]
    if outputs == ("y1", "y0"):
        axes, exact = axes[::-1], exact.swapaxes(1, 2)
    marginal = density.marginal(outputs, grid=axes)
    np.testing.assert_allclose(marginal.density, exact, rtol=1e-6, atol=1e-9)
    assert "shape (3, 41, 41)" in repr(marginal)


def test_marginal_of_outputs_that_are_not_neighbours():
    # Three outputs: the one in between is drawn anew for each value of the first
    random = np.random.default_rng(0)
    X = random.normal(size=(400, 1))
    y = np.cumsum(random.normal(size=(400, 3)), axis=1)
    est = small(epochs=10, n_members=2).fit(X, y)
    density = est.predict_density(X[:1])
    draws = density.sample(200_000, random_state=0)[0]
    marginal = density.marginal((0, 2), n_points=60, n_draws=512)
    mass = integrate(marginal.density[0], *marginal.grid)
    assert mass == pytest.approx(1.0, abs=0.02)
    for c, j in enumerate((0, 2)):
        weight = marginal.density[0].sum(axis=1 - c)
        mean = np.average(marginal.grid[c], weights=weight)
        assert mean == pytest.approx(draws[:, j].mean(), abs=0.05)
    a, b = np.meshgrid(*marginal.grid, indexing="ij")
    w = marginal.density[0] / marginal.density[0].sum()
    product = (w * a * b).sum() - (w * a).sum() * (w * b).sum()
    assert product == pytest.approx(np.cov(draws[:, [0, 2]].T)[0, 1], abs=0.1)


def test_entropy_and_divergence(density, grid, ensemble, bimodal):
    first, second, joint = grid
    safe = np.where(joint > 0, joint, 1.0)
    entropy = integrate(-joint * np.log(safe), first, second)
    np.testing.assert_allclose(density.entropy(4096), entropy, atol=0.03)
    np.testing.assert_allclose(density.kl(density), 0.0, atol=1e-12)
    other = ensemble.predict_density(bimodal[0][ROWS : 2 * ROWS])
    points = np.stack(np.meshgrid(first, second, indexing="ij"), -1).reshape(1, -1, 2)
    q = other.log_prob(np.repeat(points, ROWS, axis=0)).reshape(joint.shape)
    divergence = integrate(joint * (np.log(safe) - q), first, second)
    np.testing.assert_allclose(density.kl(other, 4096), divergence, atol=0.05)


@pytest.mark.parametrize("known", [0, "y1"])
def test_conditioning_on_either_output(density, known):
    # Output 1 comes first in the order, so that knowing it is exact
    value = 0.6
    given = density.given({known: value})
    assert isinstance(given, GivenDensity)
    assert given.is_exact == (known == "y1")
    j = 0 if known == 0 else 1
    fine = np.linspace(-4.0 if j else -8.0, 4.0 if j else 8.0, 3001)
    points = np.full((3001, 2), value)
    points[:, 1 - j] = fine
    slices = np.exp(density.log_prob(np.repeat(points[None], ROWS, axis=0)))
    evidence = integrate(slices, fine)
    np.testing.assert_allclose(given.log_evidence(), np.log(evidence), atol=0.06)
    draws, ess = given.sample(20_000, random_state=0, return_ess=True)
    assert (draws[..., j] == value).all()
    assert (ess > 1000).all()
    cdf = cumulative_trapezoid(slices, fine, axis=1, initial=0.0) / evidence[:, None]
    for i in range(ROWS):
        u = np.interp(draws[i, :, 1 - j], fine, cdf[i])
        # Five standard errors of the mean of uniform numbers, and of the share below 0.1
        assert abs(u.mean() - 0.5) < 5 * 0.29 / np.sqrt(min(ess[i], 20_000))
        assert abs((u < 0.1).mean() - 0.1) < 5 * 0.3 / np.sqrt(min(ess[i], 20_000))
    y = np.full((ROWS, 2), 0.25)
    y[:, 1 - j] = fine[1400]
    expected = np.log(slices[:, 1400] / evidence)
    np.testing.assert_allclose(given.log_prob(y), expected, atol=0.06)
    mean = integrate(slices * fine, fine) / evidence
    np.testing.assert_allclose(given.mean()[:, 1 - j], mean, atol=0.1)
    np.testing.assert_allclose(given.mean()[:, j], value)
    np.testing.assert_allclose(given.std()[:, j], 0.0, atol=1e-6)
    middle = given.quantile([0.25, 0.75])[..., 1 - j]
    assert (middle[:, 0] < middle[:, 1]).all()


def test_conditioning_through_the_estimator(ensemble, bimodal):
    X, y, _ = bimodal
    values = y[:5, 1]
    draws = ensemble.sample(X[:5], 7, given={"y1": values}, random_state=0)
    np.testing.assert_array_equal(draws[..., 1], np.repeat(values[:, None], 7, axis=1))
    again = ensemble.sample(X[:5], 7, given={1: values}, random_state=0)
    np.testing.assert_array_equal(draws, again)
    first = ensemble.predict_density(X[:5]).given({1: values}).log_evidence()
    total = ensemble.log_prob(X[:5], y[:5], given={1: values}) + first
    np.testing.assert_allclose(total, ensemble.log_prob(X[:5], y[:5]))


def test_few_effective_draws_are_warned_of(density):
    # A value far from where almost all draws are
    with pytest.warns(EffectiveSampleSizeWarning, match="fewer than 50 effective draws"):
        density.given({0: 0.0}).sample(10, n_candidates=40, random_state=0)


def test_a_new_prior(density, grid):
    first, second, joint = grid
    ratio = lambda y: np.exp(0.7 * y[:, 0] - 0.1 * y[:, 1] ** 2)  # noqa: E731
    reweighted = density.marginalise(ratio)
    target = joint * np.exp(0.7 * first[:, None] - 0.1 * second**2)
    norm = integrate(target, first, second)
    mean = integrate(target * first[:, None], first, second) / norm
    draws, ess = reweighted.sample(20_000, random_state=0, return_ess=True)
    spread = draws[..., 0].std(1) / np.sqrt(np.minimum(ess, 20_000))
    np.testing.assert_array_less(np.abs(draws[..., 0].mean(1) - mean), 5 * spread)
    np.testing.assert_allclose(reweighted.mean()[:, 0], mean, atol=0.1)
    y = density.sample(1, random_state=3)[:, 0]
    expected = density.log_prob(y) + np.log(ratio(y)) - np.log(norm)
    np.testing.assert_allclose(reweighted.log_prob(y), expected, atol=0.05)


def test_resampling():
    draws = np.arange(6.0).reshape(2, 3)
    weights = np.array([[0.0, 1.0, 3.0], [1.0, 1.0, 1.0]])
    chosen, ess = resample(draws, weights, 400, random_state=0)
    assert (chosen[0] == 2.0).sum() == 300
    assert (chosen[1] == 4.0).sum() in (133, 134)
    np.testing.assert_allclose(ess, [1.6, 3.0])


def test_quasi_random_draws_have_less_variance(density):
    draws = [density.sample(256, method="sobol", random_state=s).mean(1) for s in range(20)]
    plain = [density.sample(256, random_state=s).mean(1) for s in range(20)]
    assert (np.std(draws, axis=0) < 0.5 * np.std(plain, axis=0)).all()
    same = density.sample(10, method="sobol", random_state=0)
    np.testing.assert_array_equal(same, density.sample(10, method="sobol", random_state=0))
    first = density.sample(64, method="sobol", random_state=0)
    assert not np.allclose(first[0, :, 0], first[1, :, 0])


def test_one_dimensional_targets_keep_their_shape(bimodal):
    X, y, _ = bimodal
    density = small(n_members=2).fit(X, y[:, 0]).predict_density(X[:4])
    assert density.sample(6, random_state=0).shape == (4, 6)
    assert density.log_prob(density.sample(6, random_state=0)).shape == (4, 6)
    assert density.log_prob(y[:4, 0]).shape == density.cdf(y[:4, 0]).shape == (4,)
    assert density.mean().shape == density.std().shape == density.mode().shape == (4,)
    assert density.interval().shape == (4, 2)
    assert density.cov().shape == (4,)
    np.testing.assert_allclose(density.inverse_cdf(density.cdf(y[:4, 0])), y[:4, 0], atol=1e-6)
    assert density.marginal(0).density.shape == (4, 128)
    assert density.sample(3, method="sobol", dtype="float32").dtype == np.float32


def test_labels_counts_and_point_masses(bimodal):
    X, y, _ = bimodal
    frame = pd.DataFrame(
        {
            "kind": np.where(y[:, 0] > 0, "up", "down"),
            "count": np.round(np.abs(3 * y[:, 1])).astype(int),
            "size": y[:, 0] + y[:, 1],
        }
    )
    est = small(
        n_members=2,
        likelihood={"count": "ordinal"},
        limits=[[-np.inf, np.inf], [0, np.inf], [-np.inf, np.inf]],
    ).fit(X, frame)
    density = est.predict_density(X)
    u = density.cdf(frame)
    draws = density.to_frame(1, random_state=0)
    assert draws["kind"].isin(["up", "down"]).all()
    assert draws["count"].dtype == np.int64
    # Randomised within the jumps, so that draws are uniform: Kolmogorov-Smirnov at 1e-4
    u = density.cdf(draws)
    assert min(kstest(u[:, j], "uniform").pvalue for j in range(3)) > 1e-4
    back = density.inverse_cdf(u)
    assert (back[:, 0] == draws["kind"].to_numpy()).all()
    assert (back[:, 1].astype(float) == draws["count"].to_numpy()).all()
    few = density[:3]
    known = few.given({"kind": "up"}).sample(5, random_state=0)
    assert (known[..., 0] == "up").all()
    pmf = few.marginal("count", grid=np.arange(40.0))
    np.testing.assert_allclose(pmf.density.sum(1), 1.0, atol=0.01)
    for refused in (few.std, few.cov, lambda: few.quantile(0.5)):
        with pytest.raises(ValueError, match=r"labels of output 0 \(kind\)"):
            refused()
    with pytest.raises(ValueError, match="labels, which have no density"):
        few.marginal("kind")
