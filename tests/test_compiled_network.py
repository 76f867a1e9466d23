"""The compiled network against the reference in torch, function by function.

Kernels work in float32 and the reference here in float64. ``EPS`` is the spacing of float32 near 1;
tolerances are multiples of it, times what an operation amplifies.
"""

import numpy as np
import pytest
import torch
from conftest import small
from scipy.stats import kstest

from sklearn_san._constants import BASES_EVERY, STATISTICS_EVERY
from sklearn_san._engine import Engine
from sklearn_san._engines import engine_for, without_kernels
from sklearn_san._model import quasi_random_points
from sklearn_san._network import SAN, LinearBase, uniform
from sklearn_san._optimizer import Weights, block
from sklearn_san._training import Objective, Rows
from sklearn_san.compiled.engine import CompiledEngine, CompiledObjective, Threads
from sklearn_san.compiled.training import PANEL, orthogonal
from sklearn_san.likelihoods import (
    MixtureOfGaussians,
    MixtureOfLogistics,
    Softmax,
    TruncatedMixtureOfGaussians,
    TruncatedMixtureOfLogistics,
)

EPS = float(np.finfo(np.float32).eps)
CPU = torch.device("cpu")

LIMITS = np.array([[-np.inf, np.inf], [-2.0, 2.0], [-1.0, np.inf], [-3.0, 3.0]])
FREE = np.array([[-np.inf, np.inf]] * 4)
CLOSED = np.array([[-4.0, 4.0], [-2.0, 2.0], [-1.0, 5.0], [-3.0, 3.0]])
OTHER_FAMILIES = {
    "logistic": {"kinds": ("logistic",), "limits": FREE},
    "truncated logistic": {"kinds": ("logistic",)},
    "histogram": {"kinds": ("histogram",), "limits": CLOSED},
    "interpolated histogram": {"kinds": ("interpolated",), "limits": CLOSED},
    "mixed": {"kinds": ("logistic", "normal", "logistic", "histogram")},
}
CASES = {
    "default": {},
    "without norm": {"layer_norm": False},
    "one layer": {"first_module_shape": (5,), "module_shape": (7,)},
    "wide": {"module_shape": (160, 130), "first_module_shape": (200,)},
    "many members": {"n_members": 5},
    "one member": {"n_members": 1},
    "no base": {"with_base": False},
    "one output": {"n_outputs": 1},
    "encoder": {"encoder_shape": (9, 5)},
    "encoder of one": {"encoder_shape": (6,), "n_outputs": 1, "layer_norm": False},
    "relu": {"activation": "relu"},
    "gelu": {"activation": "gelu"},
    "elu": {"activation": "elu", "layer_norm": False},
    "tanh": {"activation": "tanh", "encoder_shape": (4,)},
    "other numbers of components": {"K": (2, 5, 3, 1)},
    **OTHER_FAMILIES,
}


def make_family(kind, limits, K):
    if kind in ("histogram", "interpolated"):
        return Softmax(atoms=4 + K, interpolate=kind == "interpolated")
    truncated = bool(np.isfinite(limits).any())
    family = {
        ("normal", False): MixtureOfGaussians,
        ("normal", True): TruncatedMixtureOfGaussians,
        ("logistic", False): MixtureOfLogistics,
        ("logistic", True): TruncatedMixtureOfLogistics,
    }[kind, truncated]
    return family(K=K, min_scale=1e-3 if truncated else 1e-5)


def make_raw(family, random):
    if isinstance(family, Softmax):
        return random.normal(size=family.n_params)
    return np.concatenate([random.normal(size=2 * family.K), np.full(family.K, -1.0)])


def make_network(
    *, n_outputs=4, with_base=True, K=3, kinds=("normal",), limits=LIMITS, seed=0, **parameters
):
    generator, random = torch.Generator().manual_seed(seed), np.random.default_rng(0)
    used = np.array([True, False, True, False])[:n_outputs] & with_base
    weight_y = np.tril(random.normal(size=(n_outputs, n_outputs)), -1)
    base = LinearBase(
        random.normal(size=(n_outputs, 2)) * used[:, None],
        weight_y * used[:, None],
        random.normal(size=n_outputs) * used,
        np.where(used, [0.5, 1.0, 0.2, 1.0][:n_outputs], 1.0),
        used,
    )
    limits = limits[:n_outputs]
    columns = np.broadcast_to(kinds, n_outputs).tolist(), np.broadcast_to(K, n_outputs).tolist()
    families = [make_family(*one) for one in zip(columns[0], limits, columns[1], strict=True)]
    raw = [make_raw(family, random) for family in families]
    defaults = {
        "n_members": 2,
        "first_module_shape": (16, 12),
        "module_shape": (8, 9, 10),
        "encoder_shape": (),
        "sequence_features": 4,
        "activation": "silu",
        "layer_norm": True,
    }
    network = SAN(2, families, raw, limits, base, **(defaults | parameters), generator=generator)
    with torch.no_grad():
        for name, p in network.named_parameters():
            if "norms" in name or "bias" in name:
                p += 0.3 * torch.randn(p.shape, generator=generator)
            if "heads.weight" in name:
                p *= 4.0
    return network


def rows_of(network, n=300):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((n, 2), generator=generator)
    y = torch.randn((n, network.n_outputs), generator=generator)
    low, high = network.limits.float().T
    y = torch.minimum(torch.maximum(y, low), high)
    index = torch.randint(n, (network.n_members, 77), generator=generator)
    weight = torch.rand(index.shape, generator=generator)
    return x, y, index, weight


def with_missing(y):
    """The same, where some rows lack the last outputs."""
    y = y.clone()
    if y.shape[1] > 1:
        y[::5, -1] = torch.nan
        y[::7, 1:] = torch.nan
    return y


def objective_of(kind, network, x, y, index, weight, *, turned=False):
    weights = Weights(network, weight_decay=0.1, max_grad_norm=0.5, turned=turned)
    columns = (x, y) if weight is None else (x, y, weight)
    offset = torch.zeros(network.n_members, dtype=torch.float64)
    rows = Rows(columns, index, offset, weighted=weight is not None)
    return kind(network, weights, rows), weights


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("n_threads", [1, 3])
def test_loss_and_gradient(case, n_threads):
    network = make_network(**case)
    x, y, index, _ = rows_of(network)
    y = with_missing(y)
    row_weight = torch.rand(len(x), generator=torch.Generator().manual_seed(2))
    compiled, weights = objective_of(CompiledObjective, network, x, y, index, row_weight)
    compiled.threads = Threads(n_threads)
    loss, total = compiled.differentiate(index)
    mean = compiled.mean(compiled.rows, 50)
    gradient = weights.gradient.double()
    weights.release()
    exact, reference = objective_of(
        Objective, network.double(), x.double(), y.double(), index, row_weight.double()
    )
    expected, expected_total = exact.differentiate(index)
    # Sums of some hundred terms of the size of the log densities
    log_prob = network.log_prob(x[index].double(), y[index].double())
    size = (log_prob.abs() * row_weight[index]).sum(1) / expected_total
    assert ((loss - expected).abs() <= 40 * EPS * size).all()
    torch.testing.assert_close(total.double(), expected_total, rtol=40 * EPS, atol=0.0)
    assert ((mean - exact.mean(exact.rows, 50)).abs() <= 40 * EPS * size).all()
    # Gradients are sums in which large terms cancel: compared with the largest of each member
    largest = reference.gradient.abs().amax(1, keepdim=True)
    assert ((gradient - reference.gradient).abs() <= 2e3 * EPS * largest).all()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_log_density(case):
    network = make_network(**case)
    x, y, _, _ = rows_of(network)
    y = with_missing(y)
    own = CompiledEngine(network, CPU).log_density(x.numpy(), y.numpy())
    exact = Engine(network.double(), CPU).log_density(x.double().numpy(), y.double().numpy())
    np.testing.assert_allclose(own, exact, rtol=100 * EPS, atol=100 * EPS)
    points = y.numpy()[:60].reshape(20, 3, -1)
    several = CompiledEngine(network.float(), CPU).log_density(x.numpy()[:20], points)
    flat = CompiledEngine(network, CPU).log_density(
        np.repeat(x.numpy()[:20], 3, axis=0), points.reshape(60, -1)
    )
    np.testing.assert_array_equal(several, flat.reshape(20, 3))


def some_state(weights):
    """A state of the optimiser in which no step is the sign of a number near zero."""
    generator = torch.Generator().manual_seed(0)
    weights.mean.normal_(generator=generator)
    weights.square.uniform_(1.0, 2.0, generator=generator)
    for _, place, n, _ in weights.sides():
        statistic, basis = (block(one, place, n) for one in (weights.statistics, weights.bases))
        basis.copy_(torch.linalg.qr(torch.randn(basis.shape, generator=generator)).Q)
        factor = torch.randn(basis.shape, generator=generator)
        statistic.copy_(factor @ factor.mT / n + torch.eye(n))


@pytest.mark.parametrize("case", ["default", "wide", "encoder", "one layer"])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("n_steps", [1, STATISTICS_EVERY, BASES_EVERY])
def test_a_step_is_that_of_the_reference(case, turned, n_steps):
    network = make_network(**CASES[case])
    x, y, index, _ = rows_of(network)
    compiled, ours = objective_of(CompiledObjective, network, x, y, index, None, turned=turned)
    some_state(ours)
    reference, theirs = objective_of(
        Objective, make_network(**CASES[case]).double(), x, y, index, None, turned=turned
    )
    assert {len(ours.matrices), len(theirs.matrices)} == {len(ours.matrices) if turned else 0}
    for name, array in theirs.arrays().items():
        array.copy_(ours.arrays()[name])
    ours.gradient.normal_(generator=torch.Generator().manual_seed(1))
    theirs.gradient.copy_(ours.gradient)
    before = {name: array.clone() for name, array in ours.arrays().items()}
    ours.n_steps = theirs.n_steps = n_steps - 1
    compiled.step(0.1)
    reference.step(0.1)
    assert ours.n_steps == theirs.n_steps == n_steps
    expected = theirs.arrays()
    for name, array in ours.arrays().items():
        # Sums of at most 200 terms near 1, some of them behind each other; a basis is what is left
        # of the product with a matrix whose eigenvalues lie between 1 and some 5
        torch.testing.assert_close(array.double(), expected[name], rtol=0.0, atol=400 * EPS)
        still = {"statistics": STATISTICS_EVERY, "bases": BASES_EVERY}.get(name, 1)
        assert torch.equal(array, before[name]) == (n_steps % still > 0 or array.numel() == 0)


@pytest.mark.parametrize("n_rows", [1, 3, 8, 46, 64, 128])
@pytest.mark.parametrize("kind", ["full rank", "rank of two", "tiny", "nothing"])
def test_orthogonal_factors(n_rows, kind):
    random = np.random.default_rng(0)
    a = random.normal(size=(n_rows, n_rows)) + 4.0 * np.eye(n_rows)
    if kind == "rank of two":
        a[:, 2:] = a[:, :2].sum(axis=1, keepdims=True)
    a *= {"tiny": 1e-30, "nothing": 0.0}.get(kind, 1.0)
    out = np.empty((n_rows, n_rows), dtype=np.float32)
    orthogonal(a.astype(np.float32), out, np.empty((2 * n_rows + 2 * PANEL, n_rows), np.float32))
    np.testing.assert_allclose(out.T @ out, np.eye(n_rows), atol=20 * EPS)
    exact = np.linalg.qr(a)[0]  # with the same signs; beyond the rank anything goes
    n_told = {"rank of two": 2, "nothing": 0}.get(kind, n_rows)
    # Columns are what a condition of some 100 leaves of sums of as many terms
    np.testing.assert_allclose(out[:, :n_told], exact[:, :n_told], atol=400 * EPS)


def test_steps_at_once_are_steps_one_by_one():
    n_steps = 2 * BASES_EVERY + 3
    results = []
    for at_once in (True, False):
        network = make_network()
        x, y, index, _ = rows_of(network)
        compiled, weights = objective_of(CompiledObjective, network, x, y, index, None, turned=True)
        compiled.threads.n = 1  # so that members do not share the rows of a batch
        batches = [index] * n_steps
        own = compiled if at_once else super(CompiledObjective, compiled)
        own.steps(batches, [1e-3] * n_steps)
        results.append(weights.arrays())
        assert weights.n_steps == n_steps
    for name, array in results[0].items():
        torch.testing.assert_close(array, results[1][name], rtol=1e-3, atol=1e-4)


def different_draws(own, exact, tolerance):
    """Share of draws that differ: by rounding a number may choose the neighbouring component."""
    return np.mean((np.abs(own - exact) > tolerance * np.abs(exact).clip(1.0)).any(axis=-1))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize(("n_rows", "n_draws"), [(1, 1000), (7, 30), (300, 1)])
def test_draws_equal_those_of_the_reference_for_the_same_noise(case, n_rows, n_draws):
    network = make_network(**case)
    x = torch.randn((n_rows, 2), generator=torch.Generator().manual_seed(1)).numpy()
    shape = (n_rows, n_draws, 1 + network.n_noise * network.n_outputs)
    noise = uniform(shape, torch.Generator().manual_seed(2)).numpy()
    own = CompiledEngine(network, CPU).draw(x, noise)
    exact = Engine(network.double(), CPU).draw(x.astype(float), noise.astype(float))
    assert own.shape == exact.shape == (n_rows, n_draws, network.n_outputs)
    assert different_draws(own, exact, 1e3 * EPS) < 0.02
    assert np.median(np.abs(own - exact)) < 10 * EPS


@pytest.mark.parametrize(
    "case", ["default", "encoder", "many members", "one output", *OTHER_FAMILIES]
)
def test_draws_at_shared_points(case):
    network = make_network(**CASES[case])
    x = torch.randn((9, 2), generator=torch.Generator().manual_seed(1)).numpy()
    points = quasi_random_points(network, 64)
    compiled, reference = CompiledEngine(network, CPU), Engine(network, CPU)
    own, exact = compiled.draw_at(x, points), reference.draw_at(x, points)
    assert own.shape == exact.shape == (9, 64 * network.n_members, network.n_outputs)
    assert different_draws(own, exact, 1e3 * EPS) < 0.02
    # No row depends on those beside it, to the last bit
    for i in (0, 4):
        np.testing.assert_array_equal(compiled.draw_at(x[i : i + 1], points)[0], own[i])


@pytest.mark.parametrize("known_outputs", [[0], [1, 2], [3]])
@pytest.mark.parametrize("case", ["default", "no base", "many members", "encoder", *OTHER_FAMILIES])
def test_draws_beside_known_outputs(case, known_outputs):
    network = make_network(**CASES[case])
    generator = torch.Generator().manual_seed(3)
    n_rows, n_draws, n_outputs = 6, 50, network.n_outputs
    x = torch.randn((n_rows, 2), generator=generator).numpy()
    shape = (n_rows * n_draws, 1 + network.n_noise * n_outputs)
    noise = uniform(shape, generator).numpy()
    chosen = torch.randint(network.n_members, (n_rows, n_draws), generator=generator).numpy()
    known = np.full((n_rows, n_outputs), np.nan)
    known[:, known_outputs] = rows_of(network, n_rows)[1].double()[:, known_outputs]
    draws, log_weight = CompiledEngine(network, CPU).draw_beside(x, noise, known, chosen)
    exact = Engine(network.double(), CPU)
    expected, expected_weight = exact.draw_beside(
        x.astype(float), noise.astype(float), known, chosen
    )
    np.testing.assert_array_equal(
        draws[..., known_outputs],
        known[:, None, known_outputs].astype(np.float32) + np.zeros((1, n_draws, 1), np.float32),
    )
    same = (np.abs(draws - expected) <= 1e3 * EPS * np.abs(expected).clip(1.0)).all(axis=-1)
    assert same.mean() > 0.98
    np.testing.assert_allclose(
        log_weight[same], expected_weight[same], rtol=1e3 * EPS, atol=1e3 * EPS
    )
    shared = CompiledEngine(network.float(), CPU).draw_beside(x, noise[:n_draws], known, chosen)[0]
    assert different_draws(shared[0], draws[0], 1e3 * EPS) < 0.05


def test_known_outputs_weigh_as_their_density_does():
    network = make_network(n_members=1)
    x, y, _, _ = rows_of(network, 30)
    known = y.double().numpy().copy()
    known[:, 2:] = np.nan
    noise = uniform((30, 9), torch.Generator().manual_seed(0)).numpy()
    chosen = np.zeros((30, 1), dtype=int)
    _, log_weight = CompiledEngine(network, CPU).draw_beside(x.numpy(), noise, known, chosen)
    first_two = CompiledEngine(network, CPU).log_density(x.numpy(), known)
    np.testing.assert_allclose(log_weight[:, 0], first_two, rtol=100 * EPS, atol=100 * EPS)


def test_draws_follow_the_conditionals():
    # Rosenblatt transform of draws of one member: Kolmogorov-Smirnov at 1e-5 for 4 outputs
    network = make_network(n_members=1)
    x = np.array([[0.2, -0.5]], dtype=np.float32)
    noise = uniform((1, 20_000, 9), torch.Generator().manual_seed(3)).numpy()
    draws = torch.from_numpy(CompiledEngine(network, CPU).draw(x, noise)).double()
    exact = network.double()
    u = exact.conditionals(torch.from_numpy(x).double()[None], draws)[1][0].detach().numpy()
    for d in range(4):
        assert kstest(u[:, d], "uniform").pvalue > 1e-5
    assert np.abs(np.corrcoef(u.T) - np.eye(4)).max() < 0.04  # 5 sigma


def test_no_draw_needs_its_clip():
    # Values are clipped to the limits after the quantile: what lies on a limit before and after
    # must be no more than the density puts within rounding of it.
    network = make_network(n_members=1)
    x = np.zeros((1, 2), dtype=np.float32)
    noise = uniform((1, 100_000, 9), torch.Generator().manual_seed(5)).numpy()
    draws = CompiledEngine(network, CPU).draw(x, noise)[0]
    exact = network.double()
    rows = torch.from_numpy(draws[:1000]).double()
    for d, (low, high) in enumerate(LIMITS):
        for limit, inward in ((low, 1.0), (high, -1.0)):
            if not np.isfinite(limit):
                continue
            on_limit = np.mean(draws[:, d] == np.float32(limit))
            near = rows.clone()
            near[:, d] = limit + inward * 4 * EPS * abs(limit)
            with torch.no_grad():
                cdf = exact.conditionals(torch.zeros((1, 1, 2)).double(), near[None])[1][0, :, d]
            expected = float((cdf if inward > 0 else 1.0 - cdf).mean())
            assert on_limit < 20 * expected + 1e-4


def test_draws_do_not_depend_on_threads_or_chunks(monkeypatch):
    network = make_network(n_members=3)
    x = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    noise = uniform((20, 50, 9), torch.Generator().manual_seed(0)).numpy()
    engine = CompiledEngine(network, CPU)
    whole = engine.draw(x, noise)
    parts = np.concatenate([engine.draw(x[i : i + 3], noise[i : i + 3]) for i in range(0, 20, 3)])
    assert different_draws(parts, whole, 1e3 * EPS) < 0.02
    monkeypatch.setattr("sklearn_san.compiled.engine.n_threads", lambda: 5)
    assert different_draws(engine.draw(x, noise), whole, 1e3 * EPS) < 0.02


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"likelihood": "spline"}, "Spline"),
        ({"likelihood": ["mog", "most"]}, "MixtureOfStudentT"),
        ({"dtype": "float64"}, "float64"),
    ],
)
def test_what_the_kernels_cannot_do_is_left_to_torch_and_said(bimodal, change, reason):
    X, y, _ = bimodal
    est = small(**change, epochs=2).fit(X, y)
    assert est.engine_.startswith("torch")
    assert reason in est.engine_
    assert np.isfinite(est.score(X, y))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"activation": "relu"},
        {"encoder_shape": (4,)},
        {"likelihood": ["mog", MixtureOfGaussians(K=2)]},
        {"likelihood": ["molog", "mog"]},
        {"likelihood": Softmax(atoms=6), "limits": [(-9.0, 9.0), (-9.0, 9.0)]},
    ],
)
def test_what_the_kernels_can_do_is_compiled(bimodal, change):
    X, y, _ = bimodal
    est = small(**change, epochs=2).fit(X, y)
    assert est.engine_ == "compiled"
    assert isinstance(engine_for(est.network_, CPU), CompiledEngine)


@pytest.mark.parametrize(
    "change", [{}, {"encoder_shape": (5,), "activation": "tanh"}, {"likelihood": "molog"}]
)
def test_a_fit_is_the_same_compiled_or_not(bimodal, change):
    X, y, _ = bimodal
    compiled = small(n_members=2, epochs=3, **change).fit(X, y)
    with without_kernels():
        plain = small(n_members=2, epochs=3, **change).fit(X, y)
        assert plain.engine_.startswith("torch")
        expected = plain.log_prob(X, y)
    # 39 steps amplify rounding errors; a wrong gradient shows at once
    np.testing.assert_allclose(compiled.loss_curve_, plain.loss_curve_, rtol=2e-3)
    assert np.median(np.abs(compiled.log_prob(X, y) - expected)) < 1e-2


def test_the_engine_follows_the_weights():
    network = make_network().eval()
    x, y, _, _ = rows_of(network)
    noise = uniform((5, 20, 9), torch.Generator().manual_seed(0)).numpy()
    before = engine_for(network, CPU).draw(x.numpy()[:5], noise)
    assert engine_for(network, CPU) is engine_for(network, CPU)
    other = make_network(seed=1).eval()
    network.load_state_dict(other.state_dict())
    after = engine_for(network, CPU)
    np.testing.assert_array_equal(
        after.draw(x.numpy()[:5], noise), engine_for(other, CPU).draw(x.numpy()[:5], noise)
    )
    assert np.abs(after.draw(x.numpy()[:5], noise) - before).max() > 0.01
    np.testing.assert_array_equal(
        after.log_density(x.numpy(), y.numpy()),
        engine_for(other, CPU).log_density(x.numpy(), y.numpy()),
    )


@pytest.mark.parametrize("case", [{}, {"encoder_shape": (6, 5)}, {"layer_norm": False}])
def test_the_plan_follows_the_order_of_the_parameters(case):
    from sklearn_san.compiled import network as compiled
    from sklearn_san.compiled.engine import layout_of

    network = make_network(**case)
    plan = layout_of(network)
    names = [name for name, _ in network.named_parameters()]
    sizes = [p[0].numel() for p in network.parameters()]
    starts = dict(zip(names, np.cumsum([0, *sizes])[:-1], strict=True))
    assert plan.n_values == sum(sizes)
    n_encoder = len(case.get("encoder_shape", ()))
    for k in range(n_encoder):
        assert plan.layers[k, compiled._WEIGHT] == starts[f"encoder.{k}.weight"]
    for d in range(4):
        for k, row in enumerate(plan.layers[plan.starts[d] : plan.starts[d + 1] - 1]):
            assert row[compiled._WEIGHT] == starts[f"blocks.{d}.hidden.{k}.weight"]
            assert row[compiled._GAIN] == starts.get(f"blocks.{d}.norms.{k}.weight", -1)
            assert row[compiled._SHIFT] == starts.get(f"blocks.{d}.norms.{k}.bias", -1)
        heads = plan.layers[plan.starts[d + 1] - 1]
        assert heads[compiled._BIAS] == starts[f"blocks.{d}.heads.bias"]
