"""The compiled network against the reference in torch."""

import numpy as np
import pytest
import torch
from conftest import small
from scipy.stats import kstest

from sklearn_san._model import _torch_draws
from sklearn_san._network import SAN, LinearBase, uniform
from sklearn_san._training import Recipe, _Weights
from sklearn_san.likelihoods import MixtureOfGaussians, TruncatedMixtureOfGaussians

LIMITS = np.array([[-np.inf, np.inf], [-2.0, 2.0], [-1.0, np.inf], [-3.0, 3.0]])
CASES = {
    "default": {},
    "without norm": {"layer_norm": False},
    "one layer": {"first_module_shape": (5,), "module_shape": (7,)},
    "wide": {"module_shape": (160, 130), "first_module_shape": (200,)},
    "many members": {"n_members": 5},
    "one member": {"n_members": 1},
    "no base": {"with_base": False},
    "one output": {"n_outputs": 1},
}


def make_network(*, n_outputs=4, with_base=True, K=3, **parameters):
    generator, random = torch.Generator().manual_seed(0), np.random.default_rng(0)
    used = np.array([True, False, True, False])[:n_outputs] & with_base
    weight_y = np.tril(random.normal(size=(n_outputs, n_outputs)), -1)
    base = LinearBase(
        random.normal(size=(n_outputs, 2)) * used[:, None],
        weight_y * used[:, None],
        random.normal(size=n_outputs) * used,
        np.where(used, [0.5, 1.0, 0.2, 1.0][:n_outputs], 1.0),
        used,
    )
    limits = LIMITS[:n_outputs]
    families = [
        TruncatedMixtureOfGaussians(K=K, min_scale=1e-3)
        if np.isfinite(row).any()
        else MixtureOfGaussians(K=K, min_scale=1e-5)
        for row in limits
    ]
    raw = [np.concatenate([random.normal(size=2 * K), np.full(K, -1.0)]) for _ in families]
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


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("n_threads", [1, 3])
def test_loss_and_gradient(case, n_threads):
    network = make_network(**case)
    x, y, index, weight = rows_of(network)
    weights = _Weights(network, Recipe(1, 1, 1.0, 0.0, None))
    log_prob = network.double().log_prob(x[index].double(), y[index].double())
    loss = -(log_prob * weight).sum(1)
    gradients = torch.autograd.grad(loss.sum(), list(network.parameters()))
    expected = torch.cat([g.reshape(network.n_members, -1) for g in gradients], 1)
    with network.float().compiled(x, y) as engine:
        engine = type(engine)(engine.plan, engine.table, n_threads)
        gradient = np.full(weights.values.shape, np.nan, dtype=np.float32)
        values = weights.values.numpy()
        own = engine.loss(values, gradient, index.numpy(), weight.numpy())
        every = engine.log_prob(values, index.numpy())
        shared = engine.log_prob(values, np.arange(len(x))[None])
        engine.close()
    np.testing.assert_allclose(own, loss.detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(every, log_prob.detach().numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.take_along_axis(shared, index.numpy(), 1), every, atol=1e-5)
    size = expected.abs().max().item()
    np.testing.assert_allclose(gradient, expected.numpy(), rtol=2e-3, atol=2e-5 * size)


def test_the_optimiser_is_that_of_the_reference():
    network = make_network()
    x, y, _, _ = rows_of(network)
    recipe = Recipe(1, 1, 1.0, 0.1, None, max_grad_norm=0.5)
    weights = _Weights(network, recipe)
    generator = torch.Generator().manual_seed(0)
    ours = [array.clone() for array in (weights.values, weights.mean, weights.square)]
    with network.compiled(x, y) as engine:
        for n_steps in range(1, 6):
            gradient = torch.randn(weights.values.shape, generator=generator) * 0.01 * n_steps
            values, mean, square = (array.numpy() for array in ours)
            engine.step(
                values, gradient.numpy(), mean, square,
                rate=0.1, decay=0.1, max_norm=0.5, n_steps=n_steps,
            )  # fmt: skip
            weights.gradient.copy_(gradient)
            weights.step(0.1)
    for own, reference in zip(ours, weights.arrays(), strict=True):
        torch.testing.assert_close(own, reference, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize(("n_rows", "n_draws"), [(1, 1000), (7, 30), (300, 1)])
def test_draws_equal_those_of_the_reference_for_the_same_noise(case, n_rows, n_draws):
    network = make_network(**case)
    x = torch.randn((n_rows, 2), generator=torch.Generator().manual_seed(1)).numpy()
    shape = (n_rows, n_draws, 1 + 2 * network.n_outputs)
    noise = uniform(shape, torch.Generator().manual_seed(2), torch.float32).numpy()
    own = network.sampler()(x, noise)
    reference = _torch_draws(network.double(), torch.device("cpu"))
    with torch.no_grad():
        slow = reference(x.astype(float), noise.astype(float))
    assert own.shape == slow.shape == (n_rows, n_draws, network.n_outputs)
    size = np.abs(slow).clip(1e-1)
    error = np.abs(own - slow) / size
    # A uniform number within rounding of a component's edge may choose its neighbour.
    assert np.mean(error > 1e-4) < 2e-3
    assert np.median(error) < 1e-6
    low, high = LIMITS[: network.n_outputs].T
    assert ((own >= low) & (own <= high)).all()


def test_draws_follow_the_conditionals():
    # Rosenblatt transform of draws of one member: Kolmogorov-Smirnov at 1e-5 for 4 outputs
    network = make_network(n_members=1)
    x = np.array([[0.2, -0.5]], dtype=np.float32)
    noise = uniform((1, 20_000, 9), torch.Generator().manual_seed(3), torch.float32).numpy()
    draws = torch.from_numpy(network.sampler()(x, noise)).double()
    u = (
        network.double()
        .conditionals(torch.from_numpy(x).double()[None], draws)[1][0]
        .detach()
        .numpy()
    )
    for d in range(4):
        assert kstest(u[:, d], "uniform").pvalue > 1e-5
    assert np.abs(np.corrcoef(u.T) - np.eye(4)).max() < 0.04  # 5 sigma


def test_draws_do_not_depend_on_threads_or_chunks(monkeypatch):
    network = make_network(n_members=3)
    x = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    noise = uniform((20, 50, 9), torch.Generator().manual_seed(0), torch.float32).numpy()
    whole = network.sampler()(x, noise)
    parts = [network.sampler()(x[i : i + 3], noise[i : i + 3]) for i in range(0, 20, 3)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    np.testing.assert_allclose(network.sampler()(x, noise), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"activation": "relu"},
        {"encoder_shape": (4,)},
        {"likelihood": "laplace"},
        {"likelihood": ["mog", "molog"]},
        {"likelihood": ["mog", MixtureOfGaussians(K=2)]},
        {"dtype": "float64"},
    ],
)
def test_what_the_kernels_cannot_do_is_left_to_torch(bimodal, change):
    X, y, _ = bimodal
    est = small(**change, epochs=2).fit(X, y)
    x, z = est.input_encoder_.transform(X), est.y_scaler_.transform(y)
    dtype = next(est.network_.parameters()).dtype
    x, z = torch.as_tensor(x, dtype=dtype), torch.as_tensor(z, dtype=dtype)
    assert est.network_.compiled(x, z) is None
    assert np.isfinite(est.score(X, y))


def test_a_fit_is_the_same_compiled_or_not(bimodal, monkeypatch):
    X, y, _ = bimodal
    compiled = small(n_members=2, epochs=3).fit(X, y)
    monkeypatch.setattr(SAN, "compiled", lambda self, x, y: None)
    plain = small(n_members=2, epochs=3).fit(X, y)
    np.testing.assert_allclose(compiled.loss_curve_, plain.loss_curve_, atol=1e-4)
    np.testing.assert_allclose(compiled.log_prob(X, y), plain.log_prob(X, y), atol=2e-2)


def test_the_plan_follows_the_order_of_the_parameters():
    network = make_network(layer_norm=True)
    plan = network.plan()
    names = [name for name, _ in network.named_parameters()]
    sizes = [p[0].numel() for p in network.parameters()]
    starts = dict(zip(names, np.cumsum([0, *sizes])[:-1], strict=True))
    assert plan.n_values == sum(sizes)
    first = plan.layers[plan.starts[1]]  # the second block
    assert first[2] == starts["blocks.1.hidden.0.weight"]
    assert first[4] == starts["blocks.1.norms.0.weight"]
    heads = plan.layers[plan.starts[2] - 1]
    assert heads[3] == starts["blocks.1.heads.bias"]


@pytest.mark.parametrize("known_outputs", [[0], [1, 2], [3]])
@pytest.mark.parametrize("case", ["default", "no base", "many members"])
def test_draws_beside_known_outputs(case, known_outputs):
    network = make_network(**CASES[case])
    generator = torch.Generator().manual_seed(3)
    n_rows, n_draws, n_outputs = 6, 50, network.n_outputs
    x = torch.randn((n_rows, 2), generator=generator)
    noise = uniform((n_rows * n_draws, 1 + 2 * n_outputs), generator, torch.float32)
    chosen = torch.randint(network.n_members, (n_rows, n_draws), generator=generator)
    known = np.full((n_rows, n_outputs), np.nan)
    values = rows_of(network, n_rows)[1].double()
    known[:, known_outputs] = values[:, known_outputs]
    draws, log_weight = network.sampler().with_known(
        x.numpy(), noise.numpy(), known, chosen.numpy()
    )
    numbers = noise[:, 1:].reshape(n_rows, n_draws, n_outputs, 2).double()
    expected_weight = torch.zeros((network.n_members, n_rows, n_draws), dtype=torch.float64)

    def choose(one):
        nonlocal expected_weight
        if one.output not in known_outputs:
            return one.sample(numbers)
        r, log_prob = one.at(values[None, :, one.output, None])
        expected_weight = expected_weight + log_prob
        return r.expand(expected_weight.shape)

    with torch.no_grad():
        all_draws = network.double().ancestral(x.double()[None, :, None], choose)
    row, column = np.indices(chosen.shape)
    expected = all_draws[chosen, row, column].numpy()
    different = np.abs(draws - expected).max(axis=-1) > 1e-3  # another component by rounding
    assert different.mean() < 0.02
    np.testing.assert_allclose(draws[..., known_outputs], expected[..., known_outputs], atol=1e-6)
    own = expected_weight[chosen, row, column].numpy()
    np.testing.assert_allclose(log_weight[~different], own[~different], rtol=1e-3, atol=1e-3)
