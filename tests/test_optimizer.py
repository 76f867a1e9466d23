"""The optimiser: AdamW, and what the eigenbases of gradients change about it."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_san._constants import (
    ADAM_BETAS,
    ADAM_EPSILON,
    BASES_EVERY,
    LONGEST_TURNED,
    MEAN_SHARE,
    STATISTICS_DECAY,
    STATISTICS_EVERY,
    TURNED_BETAS,
    TURNED_EPSILON,
)
from sklearn_san._optimizer import Weights

EPS = torch.finfo(torch.float64).eps


class Parameters(nn.Module):
    """Parameters of given shapes, two members each, in double precision."""

    def __init__(self, *shapes):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.all = nn.ParameterList(
            torch.randn((2, *shape), generator=generator, dtype=torch.float64) for shape in shapes
        )


def weights_of(*shapes, weight_decay=0.0, max_grad_norm=1e9, turned=True):
    module = Parameters(*shapes)
    return module, Weights(module, weight_decay, max_grad_norm, turned=turned)


def gradients_like(weights, n):
    generator = torch.Generator().manual_seed(1)
    shape = (n, *weights.values.shape)
    return torch.randn(shape, generator=generator, dtype=weights.values.dtype)


def do_steps(weights, gradients, rate=0.1):
    for gradient in gradients:
        weights.gradient.copy_(gradient)
        weights.step(rate)


class Reference(torch.optim.AdamW):
    """That of torch, with a share of each step taken by the last gradient instead of the mean."""

    @torch.no_grad()
    def step(self):
        super().step()
        (group,) = self.param_groups
        for p, state in self.state.items():
            unbiased, square = (
                state[name] / (1.0 - beta ** state["step"].item())
                for name, beta in zip(("exp_avg", "exp_avg_sq"), group["betas"], strict=True)
            )
            other = (p.grad - unbiased) / (square.sqrt() + group["eps"])
            p -= (1.0 - MEAN_SHARE) * group["lr"] * other


def adamw(module, *, turned):
    betas, eps = (TURNED_BETAS, TURNED_EPSILON) if turned else (ADAM_BETAS, ADAM_EPSILON)
    return Reference(module.parameters(), lr=0.1, betas=betas, eps=eps, weight_decay=0.3)


@pytest.mark.parametrize("turned", [False, True])
def test_vectors_are_moved_as_by_torch(turned):
    module, weights = weights_of((3,), (1,), weight_decay=0.3, turned=turned)
    reference = Parameters((3,), (1,))
    optimizer = adamw(reference, turned=turned)
    for gradient in gradients_like(weights, 2 * BASES_EVERY):
        do_steps(weights, [gradient])
        for p, part in zip(reference.parameters(), gradient.split([3, 1], 1), strict=True):
            p.grad = part.clone()
        optimizer.step()
        for own, expected in zip(module.parameters(), reference.parameters(), strict=True):
            torch.testing.assert_close(own, expected)


def test_each_member_is_clipped_to_a_norm():
    _, weights = weights_of((1,), max_grad_norm=5.0)
    do_steps(weights, [torch.tensor([[1e6], [1e-6]])])
    expected = (1.0 - TURNED_BETAS[0]) * torch.tensor([[5.0], [1e-6]], dtype=torch.float64)
    torch.testing.assert_close(weights.mean, expected)


@pytest.mark.parametrize(("turned", "n_steps"), [(False, 2 * BASES_EVERY), (True, BASES_EVERY)])
def test_matrices_are_moved_as_by_torch_without_bases(turned, n_steps):
    module, weights = weights_of((3, 4), weight_decay=0.3, turned=turned)
    reference = Parameters((3, 4))
    optimizer = adamw(reference, turned=turned)
    for gradient in gradients_like(weights, n_steps):
        do_steps(weights, [gradient])
        reference.all[0].grad = gradient.view(2, 3, 4).clone()
        optimizer.step()
    torch.testing.assert_close(module.all[0], reference.all[0])


def test_steps_turn_with_the_matrix():
    """Gradients and bases in other coordinates on both sides give the steps in these."""
    random = np.random.default_rng(0)
    left, right = (torch.from_numpy(np.linalg.qr(random.normal(size=(n, n)))[0]) for n in (3, 4))
    _, weights = weights_of((3, 4))
    _, others = weights_of((3, 4))
    others.values.copy_((left @ others.values.view(2, 3, 4) @ right).reshape(2, 12))
    others.bases[:, :9], others.bases[:, 9:] = left.reshape(9), right.T.reshape(16)
    gradients = gradients_like(weights, 3 * BASES_EVERY)
    do_steps(weights, gradients)
    do_steps(others, (left @ gradients.view(-1, 2, 3, 4) @ right).reshape(-1, 2, 12))
    expected = left @ weights.values.view(2, 3, 4) @ right
    # Over some ten steps, rounding grows by some hundred
    torch.testing.assert_close(
        others.values.view(2, 3, 4), expected, rtol=1e5 * EPS, atol=1e5 * EPS
    )


def test_statistics_are_means_of_products():
    _, weights = weights_of((3, 4), (2,))
    gradients = gradients_like(weights, 3 * STATISTICS_EVERY)
    do_steps(weights, gradients)
    seen = gradients[STATISTICS_EVERY - 1 :: STATISTICS_EVERY, :, :12].view(3, 2, 3, 4)
    share = (1.0 - STATISTICS_DECAY) * STATISTICS_DECAY ** torch.arange(2.0, -1.0, -1.0)
    for products, found in (
        (seen @ seen.mT, weights.statistics[:, :9].view(2, 3, 3)),
        (seen.mT @ seen, weights.statistics[:, 9:].view(2, 4, 4)),
    ):
        expected = (share.double().view(3, 1, 1, 1) * products).sum(0)
        torch.testing.assert_close(found, expected)


def test_bases_become_the_eigenvectors():
    _, weights = weights_of((3, 4))
    random = np.random.default_rng(0)
    basis = torch.from_numpy(np.linalg.qr(random.normal(size=(3, 3)))[0])
    statistic = basis @ torch.diag(torch.tensor([9.0, 3.0, 1.0]).double()) @ basis.T
    weights.statistics[:, :9] = statistic.reshape(-1)
    mean = torch.randn((3, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights.mean[:] = mean.reshape(-1)
    for _ in range(40):
        weights.turn()
    found = weights.bases[:, :9].view(2, 3, 3)
    torch.testing.assert_close((basis.T @ found).abs(), torch.eye(3).double().expand(2, 3, 3))
    # The mean gradient is the same in the new coordinates; nothing was seen of the right side
    other = weights.bases[:, 9:].view(2, 4, 4)
    torch.testing.assert_close(found @ weights.mean.view(2, 3, 4) @ other.mT, mean.expand(2, 3, 4))


def test_bases_are_orthogonal_whatever_was_seen():
    _, weights = weights_of((3, 4))
    gradients = torch.zeros(2 * BASES_EVERY, *weights.values.shape, dtype=torch.float64)
    gradients[:, :, 5] = 1.0
    gradients[:, 1, 5] = torch.nan
    do_steps(weights, gradients)
    assert weights.values[0].isfinite().all()
    for found, n in ((weights.bases[:, :9], 3), (weights.bases[:, 9:], 4)):
        found = found.view(2, n, n)
        torch.testing.assert_close(found.mT @ found, torch.eye(n).double().expand(2, n, n))


@pytest.mark.parametrize("shape", [(2, LONGEST_TURNED + 1), (LONGEST_TURNED + 1, 2)])
def test_long_sides_are_left_alone(shape):
    _, weights = weights_of(shape)
    assert weights.statistics.shape == (2, 4)
    do_steps(weights, gradients_like(weights, BASES_EVERY + 1))
    assert weights.values.isfinite().all()


def test_unlike_outputs_are_not_mixed():
    module, reference = Parameters((3, 4), (1, 5)), Parameters((3, 4), (1, 5))
    module.unlike_outputs = [module.all[1]]
    weights = Weights(module, 0.3, 1e9, turned=True)
    assert [(m.left >= 0, m.right >= 0) for m in weights.matrices] == [(True, True), (True, False)]
    optimizer = adamw(reference, turned=True)
    for gradient in gradients_like(weights, 2 * BASES_EVERY):
        do_steps(weights, [gradient])
        reference.all[1].grad = gradient[:, 12:].view(2, 1, 5).clone()
        optimizer.step()
    torch.testing.assert_close(module.all[1], reference.all[1])  # one input has nothing to turn


def test_members_are_brought_back():
    _, weights = weights_of((3, 4), (2,))
    gradients = gradients_like(weights, 2 * BASES_EVERY)
    do_steps(weights, gradients[:BASES_EVERY])
    saved = {name: array.clone() for name, array in weights.arrays().items()}
    do_steps(weights, gradients[BASES_EVERY:])
    weights.reset(saved, torch.tensor([False, True]))
    for name, array in weights.arrays().items():
        assert torch.equal(array[1], saved[name][1])
        assert not torch.equal(array[0], saved[name][0])
