"""Points of highest density: BFGS on problems with known answers, and the modes of densities."""

import numpy as np
import pytest
from conftest import small
from scipy.optimize import minimize
from scipy.special import logsumexp

from sklearn_san._engines import without_kernels
from sklearn_san._modes import TOLERANCE, Ascent, climb, densest_draws, find_modes
from sklearn_san.datasets import make_bimodal

RANDOM = np.random.default_rng(0)
N, D = 30, 4
MEAN = RANDOM.normal(size=(N, D))
ROOT = RANDOM.normal(size=(N, D, D)) + 2.0 * np.eye(D)
PRECISION = ROOT @ ROOT.swapaxes(1, 2)
FREE = np.stack([np.full((N, D), -np.inf), np.full((N, D), np.inf)])


def gaussian(index, z):
    """Log density up to a constant and its slope."""
    slope = -np.einsum("nij,nj->ni", PRECISION[index], z - MEAN[index])
    return 0.5 * (slope * (z - MEAN[index])).sum(axis=1), slope


def begin(z, inverse=0.01):
    return Ascent.begin(gaussian, z, inverse * np.tile(np.eye(D), (len(z), 1, 1)))


def deviations_off(z):
    """Distance from the mean in standard deviations of the Gaussian."""
    return np.sqrt(-2.0 * gaussian(np.arange(N), z)[0])


@pytest.mark.parametrize("inverse", [1e-6, 0.01, 100.0])
def test_the_mode_of_a_gaussian_is_its_mean(inverse):
    found = climb(gaussian, begin(np.zeros((N, D)), inverse), FREE, 100)
    # What is left to gain is half the square of this distance, as far as Hessians are known
    assert (deviations_off(found.z) < 20.0 * np.sqrt(2.0 * TOLERANCE)).all()


def test_one_newton_step_is_enough_if_the_hessian_is_known():
    points = Ascent.begin(gaussian, np.zeros((N, D)), np.linalg.inv(PRECISION))
    found = climb(gaussian, points, FREE, 1)
    np.testing.assert_allclose(found.z, MEAN, atol=1e-10)
    assert (points.z == 0.0).all()  # what was given is not changed


def test_modes_at_limits_are_those_of_scipy():
    low, high = MEAN - 0.3, MEAN + RANDOM.uniform(-0.2, 0.5, size=(N, D))
    limits = np.stack([low, high])
    found = climb(gaussian, begin(0.5 * (low + high)), limits, 200)
    assert ((found.z >= low) & (found.z <= high)).all()
    for i in range(N):
        best = minimize(
            lambda z, i=i: tuple(-part[0] for part in gaussian([i], z[None])),
            0.5 * (low[i] + high[i]),
            jac=True,
            bounds=list(zip(low[i], high[i], strict=True)),
            options={"ftol": 1e-14, "gtol": 1e-10},
        )
        assert found.value[i] >= -best.fun - 1e-3  # precisions are conditioned up to 6e4
    assert ((found.z == high) | (found.z == low)).any(axis=1).mean() > 0.5


def test_held_outputs_stay_and_the_others_are_those_given_them():
    start = np.zeros((N, D))
    limits = FREE.copy()
    limits[:, :, 1] = start[:, 1]
    found = climb(gaussian, begin(start), limits, 200).z
    np.testing.assert_array_equal(found[:, 1], start[:, 1])
    others = [0, 2, 3]
    for i in range(N):
        free = PRECISION[i][np.ix_(others, others)]
        shift = np.linalg.solve(free, PRECISION[i][others, 1] * (start[i, 1] - MEAN[i, 1]))
        off = found[i, others] - (MEAN[i, others] - shift)
        assert 0.5 * off @ free @ off < 1e-3  # nats


def test_no_point_depends_on_those_beside_it():
    start = RANDOM.normal(size=(N, D))
    whole = climb(gaussian, begin(start), FREE, 30).z
    for i in (0, 7):
        own = climb(lambda _, z, i=i: gaussian([i], z), begin(start).take(np.array([i])), FREE, 30)
        np.testing.assert_array_equal(own.z[0], whole[i])


def test_steps_to_where_there_is_no_density_are_not_taken():
    def logs(_, z):
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.log(z[:, 0]) - z[:, 0], 1.0 / z - 1.0

    points = Ascent.begin(logs, np.full((1, 1), 0.01), np.ones((1, 1, 1)))
    found = climb(logs, points, np.array([[[-np.inf]], [[np.inf]]]), 60)
    assert found.z[0, 0] == pytest.approx(1.0, abs=0.01)


def test_starts_are_dense_and_apart():
    draws = RANDOM.normal(size=(1, 100, 2)) + 9.0 * (np.arange(100) >= 50)[None, :, None]
    draws[:, :50] *= 0.1
    log_prob = np.where(np.arange(100) < 50, 1.0, 0.0) - RANDOM.uniform(size=(1, 100))
    starts = densest_draws(draws, log_prob, np.arange(100)[None])
    assert starts.member[0, 0] == log_prob.argmax()
    assert {bool(m >= 50) for m in starts.member[0, :2]} == {False, True}
    np.testing.assert_allclose(starts.covariance[0], np.cov(draws[0].T, bias=True))


def test_the_mixture_decides_between_modes_of_its_members():
    # Each member prefers a mode of its own; in the mixture that in the middle, of both, is highest
    peaks = np.array([[-3.0, 0.0], [3.0, 0.0]])  # (n_members, n_peaks)
    weights = np.log([0.55, 0.45])

    def of_points(rows, member):
        def slope(active, z):
            distance = z[:, None, :] - peaks  # (n, n_members, n_peaks), one output
            part = weights - 0.5 * (distance / 0.3) ** 2
            if member is not None:
                part = part[np.arange(len(z)), member[active]][:, None]
                distance = distance[np.arange(len(z)), member[active]][:, None]
            value = logsumexp(part, axis=(1, 2))
            share = np.exp(part - value[:, None, None])
            return value, -(share * distance / 0.09).sum(axis=(1, 2))[:, None]

        return slope

    n = 40
    member = np.arange(n)[None] % 2
    centre = np.where(RANDOM.uniform(size=n) < 0.55, peaks[member[0], 0], peaks[member[0], 1])
    draws = (centre + 0.3 * RANDOM.normal(size=n))[None, :, None]
    log_prob = of_points(None, member[0])(np.arange(n), draws[0])[0][None]
    found = find_modes(
        densest_draws(draws, log_prob, member), of_points, np.array([[[-9.0]], [[9.0]]])
    )
    assert abs(found[0, 0]) < 0.01


@pytest.fixture(scope="module")
def table():
    return make_bimodal(500, random_state=0)[:2]


CASES = {
    "limits": {"limits": [[-3.0, 3.0], [-6.0, 6.0]]},
    "free": {"linear_base": True},
    # Peaks of several members that lie nearer to each other than starts do are taken for one
    "logistic": {"likelihood": "molog", "n_members": 1},
    "power": {"y_scaler": "power"},
    "spline": {"likelihood": "spline"},
    "student": {"likelihood": "most"},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_modes_of_densities(table, case):
    X, y = table
    est = small(**{"n_members": 2, "epochs": 8, "encoder_shape": None, **case})
    density = est.fit(X, y).predict_density(X[:12])
    mode = density.mode()
    best = density.log_prob(mode)
    drawn = density.log_prob(density.sample(1024, random_state=0))
    is_spline = "spline" in case.values()  # whose density has kinks
    assert (best >= drawn.max(axis=1) - (0.1 if is_spline else 0.01)).all()
    np.testing.assert_array_equal(density.mode(), mode)
    # Where the density is smooth to the end, its slope vanishes or points across a limit
    inside = ((mode > density.limits[:, 0]) & (mode < density.limits[:, 1])).all(axis=1)
    if not is_spline:
        spread = density.std()
        slope = np.abs(density.grad_log_prob(mode) * spread)[inside]
        assert (slope < 0.1).mean() > 0.9
    alone = np.concatenate([density[i : i + 1].mode() for i in range(3)])
    assert np.abs(density[:3].log_prob(alone) - best[:3]).max() < 1e-3
    low, high = density.limits.T
    assert ((mode >= low) & (mode <= high)).all()


def test_compiled_modes_are_those_of_torch(table):
    X, y = table
    est = small(n_members=2, epochs=8, limits=[[-3.0, 3.0], [-6.0, 6.0]]).fit(X, y)
    density = est.predict_density(X[:12])
    own = density.mode()
    with without_kernels():
        other = est.predict_density(X[:12]).mode()
    assert np.abs(density.log_prob(own) - density.log_prob(other)).max() < 1e-3


@pytest.mark.parametrize("known", [{0: 0.5}, {1: 0.5}])
def test_modes_given_an_output(table, known):
    X, y = table
    density = small(n_members=2, epochs=8, linear_base=True).fit(X, y).predict_density(X[:12])
    (j,) = known
    given = density.given(known)
    mode = given.mode()
    assert (mode[:, j] == known[j]).all()
    grid = np.repeat(mode[:, None], 2001, axis=1)
    grid[:, :, 1 - j] = np.linspace(-8.0, 8.0, 2001)
    assert (given.log_prob(mode) >= given.log_prob(grid).max(axis=1) - 1e-3).all()


def test_modes_with_measurement_errors(table):
    X, y = table
    est = small(n_members=2, epochs=8, linear_base=True).fit(X, y)
    density = est.predict_density(X[:4], X_err=np.full((4, 1), 0.2))
    best = density.log_prob(density.mode())
    assert (best >= density.log_prob(density.sample(300, random_state=0)).max(axis=1) - 0.01).all()
