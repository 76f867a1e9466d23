"""The network: who sees what, density and draws against slow references."""

from itertools import product

import numpy as np
import pytest
import torch
from conftest import small

from sklearn_san._network import SAN, FreeRunning, LinearBase, uniform
from sklearn_san.datasets import make_heteroscedastic_gaussian
from sklearn_san.likelihoods import MixtureOfGaussians, Support, TruncatedMixtureOfGaussians

LIMITS = np.array([[-np.inf, np.inf], [-2.0, 2.0], [-1.0, np.inf]])


def make_network(*, with_base=True, limits=LIMITS, **parameters):
    """Three outputs, two features, in float64, with weights large enough to matter."""
    generator = torch.Generator().manual_seed(0)
    random = np.random.default_rng(0)
    base = LinearBase(
        np.zeros((3, 2)), np.zeros((3, 3)), np.zeros(3), np.ones(3), np.zeros(3, dtype=bool)
    )
    if with_base:
        base = LinearBase(
            random.normal(size=(3, 2)),
            np.tril(random.normal(size=(3, 3)), -1),
            random.normal(size=3),
            np.array([0.5, 1.0, 0.2]),
            np.array([True, False, True]),
        )
        base.weight_x[1] = base.weight_y[1] = base.intercept[1] = 0.0
    families = [
        TruncatedMixtureOfGaussians(K=2) if np.isfinite(row).any() else MixtureOfGaussians(K=2)
        for row in limits
    ]
    defaults = {
        "n_members": 1,
        "first_module_shape": (8,),
        "module_shape": (8, 8),
        "encoder_shape": (),
        "sequence_features": 4,
        "activation": "silu",
        "layer_norm": True,
    }
    raw = [np.array([0.0, 0.3, -0.5, 0.5, -0.5, -1.0])] * 3
    network = SAN(2, families, raw, limits, base, **(defaults | parameters), generator=generator)
    with torch.no_grad():
        for block in network.blocks:
            block.heads.weight *= 5.0
    return network.double()


def draws_of(network, n=6, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((1, n, 2), generator=generator, dtype=torch.float64)
    noise = uniform((1, n, 3, 2), generator)
    return x, network.sample(x, noise)


@pytest.mark.parametrize("encoder_shape", [(), (5,)])
def test_conditionals_do_not_see_their_own_or_later_targets(encoder_shape):
    network = make_network(encoder_shape=encoder_shape)
    x, y = draws_of(network)
    y = y.detach().requires_grad_(True)
    for d, raw in enumerate(network.raw_parameters(x, y)):
        (gradient,) = torch.autograd.grad(raw.sum(), y, allow_unused=True, retain_graph=True)
        seen = torch.zeros(3) if gradient is None else gradient.abs().sum((0, 1))
        assert (seen[d:] == 0).all()
        assert (seen[:d] > 0).all()


@pytest.mark.parametrize("with_base", [True, False])
@pytest.mark.parametrize("n_members", [1, 3])
def test_log_prob_equals_a_slow_triple_loop(with_base, n_members):
    network = make_network(with_base=with_base, n_members=n_members)
    x, y = draws_of(make_network(with_base=with_base))
    base = network.base
    slow = torch.zeros(n_members, len(x[0]), dtype=torch.float64)
    for m, i in product(range(n_members), range(len(x[0]))):
        x_i, y_i = x[0, i], y[0, i]
        location = [
            base.weight_x[d] @ x_i + base.weight_y[d, :d] @ y_i[:d] + base.intercept[d]
            for d in range(3)
        ]
        r_i = (y_i - torch.stack(location)) / base.scale
        sequence = x_i[:0]
        for d in range(3):
            parts = [x_i, sequence, y_i[:d], r_i[[j for j in base.used if j < d]]]
            h = torch.cat(parts)
            block = network.blocks[d]
            for layer, norm in zip(block.hidden, block.norms, strict=True):
                h = h @ layer.weight[m] + layer.bias[m]
                h = torch.nn.functional.layer_norm(h, h.shape, norm.weight[m], norm.bias[m])
                h = torch.nn.functional.silu(h)
            out = h @ block.heads.weight[m] + block.heads.bias[m]
            sequence, raw = torch.relu(out[: block.n_sequence]), out[block.n_sequence :]
            support = Support(*((network.limits[d] - location[d]) / base.scale[d]))
            slow[m, i] += network.families[d].log_prob(raw, r_i[d], support)
            slow[m, i] -= base.scale[d].log()
    torch.testing.assert_close(network.log_prob(x, y), slow)


def test_some_members_alone_are_what_they_are_together():
    network = make_network(n_members=3, encoder_shape=(5,))
    x, y = draws_of(make_network())
    whole = network.log_prob(x, y)
    part = network.of_members(slice(1, 3))
    torch.testing.assert_close(part.log_prob(x, y), whole[1:])
    assert part.n_members == 2
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    assert {p.untyped_storage().data_ptr() for p in part.parameters()} <= own


def test_density_of_two_outputs_integrates_to_one():
    limits = np.array([[-1.0, 1.0], [0.0, 2.0], [-np.inf, np.inf]])
    network = make_network(limits=limits, with_base=True)
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(120))
    first, second = nodes, 1.0 + nodes
    y = torch.cartesian_prod(first, second)
    y = torch.cat([y, torch.zeros_like(y[:, :1])], -1).unsqueeze(0)
    x = torch.tensor([[[0.3, -0.4]]], dtype=torch.float64)
    raw = network.raw_parameters(x, y)
    location = network.base.location(x, y)
    r = (y - location) / network.base.scale
    log_prob = 0.0
    for d in range(2):
        bounds = (network.limits[d, :, None, None] - location[..., d]) / network.base.scale[d]
        log_prob = log_prob + network.families[d].log_prob(raw[d], r[..., d], Support(*bounds))
        log_prob = log_prob - network.base.scale[d].log()
    integral = (log_prob.exp() * torch.cartesian_prod(weights, weights).prod(-1)).sum()
    assert integral.item() == pytest.approx(1.0, abs=1e-6)


def test_draws_per_row_equal_draws_of_repeated_rows():
    network = make_network(encoder_shape=(5,))
    x, _ = draws_of(network)
    noise = uniform((1, 6, 4, 3, 2), torch.Generator().manual_seed(2))
    shared = network.sample(x.unsqueeze(2), noise)
    repeated = network.sample(x.unsqueeze(2).expand(1, 6, 4, 2).contiguous(), noise)
    torch.testing.assert_close(shared, repeated)


def test_draws_follow_their_conditionals():
    # cdf of each draw is uniform: Kolmogorov-Smirnov at 1e-5 for 3 outputs
    from scipy.stats import kstest

    network = make_network()
    x = torch.tensor([[[0.2, -0.5]]], dtype=torch.float64)
    noise = uniform((1, 20_000, 3, 2), torch.Generator().manual_seed(3))
    y = network.sample(x, noise)
    # A draw that would leave the box is moved to its limit in the end
    assert not ((y == network.limits[:, 0]) | (y == network.limits[:, 1])).any()
    u = network.conditionals(x, y)[1][0].detach().numpy()
    for d in range(3):
        assert kstest(u[:, d], "uniform").pvalue > 1e-5
    assert np.abs(np.corrcoef(u.T) - np.eye(3)).max() < 0.04  # 5 sigma


def test_layer_norm_is_optional():
    assert any("norm" in name for name, _ in make_network(layer_norm=True).named_parameters())
    network = make_network(layer_norm=False)
    assert not any("norm" in name for name, _ in network.named_parameters())


@pytest.mark.parametrize("through_draws", [True, False])
def test_free_running_gradients_flow_through_draws_only_on_request(through_draws):
    network = make_network()
    x, y = draws_of(network)
    objective = FreeRunning(network, through_draws, [0])
    noise = uniform((1, 6, 3, 2), torch.Generator().manual_seed(0))
    assert objective.log_prob(x, y).shape == (1, 6)
    # Make the last block independent of the sequence features: what is left of the gradient of
    # the first block's head is what flows through the draws, plus its own likelihood.
    columns = []

    def last_only(one):
        if one.output == 2:
            columns.append(one.family.log_prob(one.raw, torch.zeros(1, 6).double(), one.support))
        if through_draws:
            own = noise[..., one.output, : one.family.n_noise]
            return one.family.rsample(one.raw, own, one.support)
        return one.sample(noise).detach()

    with torch.no_grad():
        width = network.blocks[0].n_sequence
        for block in network.blocks[1:]:
            block.hidden[0].weight[:, 2 : 2 + width] = 0.0  # (1, n_in, n_out)
    network.ancestral(x, last_only)
    head = network.blocks[0].heads.weight
    (gradient,) = torch.autograd.grad(columns[0].sum(), head, allow_unused=True)
    flows = gradient is not None and bool((gradient[..., width:] != 0).any())
    assert flows is through_draws


def test_free_running_training_loses_the_dependence():
    X, y, _log_density = make_heteroscedastic_gaussian(1500, random_state=0)
    test = make_heteroscedastic_gaussian(2000, random_state=1)
    parameters = {"epochs": 15, "module_shape": (32,), "linear_base": False}
    forced = small(**parameters).fit(X, y)
    free = small(**parameters, teacher_forcing=False).fit(X, y)
    through = small(**parameters, teacher_forcing=False, train_rsample=True).fit(X, y)
    assert forced.score(*test[:2]) > free.score(*test[:2]) + 0.5
    assert forced.score(*test[:2]) > through.score(*test[:2]) + 0.5

    # Where outputs 1 and 3 depend on each other, only teacher forcing finds it.
    row = np.array([[0.9, 0.0]])
    correlations = [
        np.corrcoef(est.sample(row, 4000, random_state=0)[0].T)[0, 2] for est in (forced, free)
    ]
    assert correlations[0] > 0.4
    assert abs(correlations[1]) < 0.2


@pytest.mark.parametrize("make", [torch.Generator().manual_seed, np.random.default_rng])
def test_uniform_noise_is_strictly_inside_and_does_not_depend_on_chunks(monkeypatch, make):
    whole = uniform((1000,), make(0))
    generator = make(0)
    parts = torch.cat([uniform((n,), generator) for n in (1, 37, 500, 462)])
    assert whole.dtype == torch.float64
    assert torch.equal(whole, parts)
    # The numbers of a generator are multiples of 2^-53, 0 among them
    ends = torch.tensor([0.0, 2.0**-53, 1.0 - 2.0**-53], dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: ends.clone())
    generator = torch.Generator()
    assert uniform((3,), generator).tolist() == [2.0**-54, 2.0**-53, 1.0 - 2.0**-53]
