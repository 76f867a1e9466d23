"""The compiled slope by y against autograd in float64, and that against finite differences."""

import numpy as np
import pytest
import torch
from test_compiled_network import (
    CASES,
    CPU,
    EPS,
    OTHER_FAMILIES,
    make_network,
    rows_of,
    with_missing,
)

from sklearn_san._engine import Engine
from sklearn_san._network import uniform
from sklearn_san.compiled.engine import CompiledEngine


def engines(**case):
    """The compiled engine, and the reference in float64."""
    return CompiledEngine(make_network(**case), CPU), Engine(make_network(**case), CPU)


def problem(network, n=150, n_contexts=1):
    x, y, _, _ = rows_of(network, n * n_contexts)
    # On a limit the slope is that of one side
    return x.numpy().reshape(n, n_contexts, -1), y[:n].double().numpy()


def assert_slopes_agree(own, exact):
    """Slopes are sums in which large terms cancel: compared with the largest of each point."""
    largest = np.abs(exact).max(axis=1, keepdims=True).clip(1.0)
    assert (np.abs(own - exact) <= 2e3 * EPS * largest).all()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_log_density_and_slope_of_the_mixture(case):
    compiled, reference = engines(**case)
    x, z = problem(compiled.network)
    own, slope = compiled.log_density_and_slope(x, z)
    exact, exact_slope = reference.log_density_and_slope(x, z)
    np.testing.assert_allclose(own, exact, rtol=100 * EPS, atol=100 * EPS)
    assert slope.dtype == np.float64
    # Slopes of members that differ cancel in their mixture
    members = np.stack([
        np.abs(reference.log_density_and_slope(x, z, np.full(len(z), m))[1])
        for m in range(compiled.network.n_members)
    ])  # fmt: skip
    largest = members.max(axis=(0, 2))[:, None].clip(1.0)
    assert (np.abs(slope - exact_slope) <= 2e3 * EPS * largest).all()


@pytest.mark.parametrize("case", ["default", "encoder", *OTHER_FAMILIES])
def test_members_contexts_and_missing_outputs(case):
    compiled, reference = engines(**CASES[case])
    x, z = problem(compiled.network)
    chosen = np.arange(len(z)) % compiled.network.n_members
    own, slope = compiled.log_density_and_slope(x, z, chosen)
    exact, exact_slope = reference.log_density_and_slope(x, z, chosen)
    np.testing.assert_allclose(own, exact, rtol=100 * EPS, atol=100 * EPS)
    assert_slopes_agree(slope, exact_slope)
    x, z = problem(compiled.network, 20, 5)
    (own, slope), (exact, exact_slope) = (
        engine.log_density_and_slope(x, z) for engine in (compiled, reference)
    )
    np.testing.assert_allclose(own, exact, rtol=100 * EPS, atol=100 * EPS)
    np.testing.assert_allclose(slope, exact_slope, rtol=0.0, atol=1e5 * EPS)
    x, z = problem(compiled.network)
    z = with_missing(torch.from_numpy(z)).numpy()
    (own, slope), (exact, exact_slope) = (
        engine.log_density_and_slope(x, z, chosen) for engine in (compiled, reference)
    )
    np.testing.assert_allclose(own, exact, rtol=100 * EPS, atol=100 * EPS)
    assert_slopes_agree(slope, exact_slope)
    assert (slope[np.isnan(z)] == 0.0).all()


@pytest.mark.parametrize("case", ["default", "no base", "elu", "encoder", *OTHER_FAMILIES])
def test_the_reference_is_that_of_finite_differences(case):
    _, reference = engines(**CASES[case])
    x, z = problem(reference.network, 40)
    low, high = reference.network.limits.numpy().T
    _, slope = reference.log_density_and_slope(x, z)
    step = 1e-6
    for d in range(z.shape[1]):
        ends = [z.copy(), z.copy()]
        # One-sided on limits
        ends[0][:, d] = np.clip(z[:, d] - step, low[d], high[d])
        ends[1][:, d] = np.clip(z[:, d] + step, low[d], high[d])
        values = [reference.log_density_and_slope(x, end)[0] for end in ends]
        expected = (values[1] - values[0]) / (ends[1] - ends[0])[:, d]
        near = np.isclose(expected, slope[:, d], rtol=1e-3, atol=1e-3 * np.abs(slope).max())
        assert near.mean() > 0.97  # a few steps cross the edge of a bin


@pytest.mark.parametrize("case", ["default", "mixed"])
def test_no_point_depends_on_those_beside_it(case, monkeypatch):
    compiled, _ = engines(**CASES[case])
    x, z = problem(compiled.network, 100)
    whole = compiled.log_density_and_slope(x, z)
    order = np.random.default_rng(0).permutation(len(z))
    moved = compiled.log_density_and_slope(x[order], z[order])
    for part, other in zip(whole, moved, strict=True):
        np.testing.assert_allclose(part[order], other, rtol=1e3 * EPS, atol=1e4 * EPS)
    monkeypatch.setattr("sklearn_san.compiled.engine.n_threads", lambda: 3)
    for part, other in zip(whole, compiled.log_density_and_slope(x, z), strict=True):
        np.testing.assert_array_equal(part, other)


@pytest.mark.parametrize("known_outputs", [[], [0], [1, 2]])
@pytest.mark.parametrize("case", ["default", "many members", "encoder", *OTHER_FAMILIES])
def test_draws_with_their_density(case, known_outputs):
    compiled, reference = engines(**CASES[case])
    network = compiled.network
    x = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    shape = (50, 1 + network.n_noise * network.n_outputs)
    noise = uniform(shape, torch.Generator().manual_seed(1)).numpy()
    chosen = np.random.default_rng(1).integers(network.n_members, size=(6, 50))
    known = np.full((6, network.n_outputs), np.nan)
    known[:, known_outputs] = rows_of(network, 6)[1].double()[:, known_outputs]
    draws, log_prob = compiled.draw_and_score(x, noise, known, chosen)
    contexts, flat = np.repeat(x, 50, axis=0)[:, None], draws.reshape(300, -1)
    expected, _ = reference.log_density_and_slope(contexts, flat, chosen.ravel())
    # Draws are rounded to float32 after their density, which may be steep
    difference = np.abs(log_prob.ravel() - expected)
    assert np.median(difference) < 1e3 * EPS
    assert np.quantile(difference, 0.98) < 1e5 * EPS
    exact, exact_log_prob = reference.draw_and_score(x, noise, known, chosen)
    same = (np.abs(draws - exact) <= 1e3 * EPS * np.abs(exact).clip(1.0)).all(axis=-1)
    assert same.mean() > 0.98
    assert np.median(np.abs(log_prob - exact_log_prob)) < 1e3 * EPS
