"""All weights of an ensemble as one matrix, and the optimiser that moves them.

AdamW, a small share of whose steps is by the last gradient and not by the mean of many (Ma and
Yarats 2019, arXiv:1810.06801). On demand that of matrices of weights works in the eigenbases of
their gradients, as in SOAP (Vyas et al. 2024, arXiv:2409.11321). Of a matrix with the gradient G,
running means of ``G @ G.T`` and ``G.T @ G`` are kept; columns of the bases L and R are their
eigenvectors. Adam works on ``L.T @ G @ R``, and its step is turned back. Every few steps there are
new statistics, and less often new bases, which one step of orthogonal iteration brings nearer to
the eigenvectors. Outputs that are numbers of different kinds, such as parameters of a density, are
not mixed: R is then 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ._constants import (
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

#: Names of what the optimiser remembers from step to step.
STATE = ("mean", "square", "statistics", "bases")


class Settings(NamedTuple):
    """What stays the same from step to step: the largest norm of a gradient and AdamW's numbers."""

    max_norm: float
    decay: float
    beta1: float
    beta2: float
    epsilon: float


class Matrix(NamedTuple):
    """Place of a matrix of weights in the vector of a member.

    `left` and `right` are the places of its two bases, and of the statistics behind them, in the
    vectors of these; -1 on a side that is not turned: too long, or of unlike outputs.
    """

    start: int
    n_in: int
    n_out: int
    left: int
    right: int

    def of(self, vectors: Tensor) -> Tensor:
        """View (n_members, n_in, n_out) of its part of vectors like the weights."""
        return block(vectors, self.start, self.n_in, self.n_out)


def block(vectors: Tensor, start: int, n: int, m: int | None = None) -> Tensor:
    """View (n_members, n, m) of a part of vectors (n_members, ...); m is n if it is not given."""
    m = n if m is None else m
    return vectors[:, start : start + n * m].view(-1, n, m)


class Weights:
    """All parameters of a module as one matrix with a row per member, and the optimiser's state.

    While this exists, the parameters are views of `values`. Clipping and the step of the optimiser
    are then a few passes over one array.

    Parameters
    ----------
    module : Module
        Whose parameters have the members on their first axis; those with two more are matrices.
        Parts of it may have ``unlike_outputs``, matrices whose outputs are not to be mixed.
    weight_decay : float
        Of AdamW.
    max_grad_norm : float
        To which the gradient of each member is clipped.
    turned : bool
        Whether matrices are moved in the eigenbases of their gradients; else all is plain AdamW.

    Attributes
    ----------
    buffers : dict of str to Tensor
        What else training changes in a module that has ``member_buffers``, members first.
    shared : list of slice
        Columns that stay the same for all members, those of ``shared_parameters``. The gradients
        of members, of which a module may leave the sum to one of them, are averaged.
    """

    def __init__(
        self, module: nn.Module, weight_decay: float, max_grad_norm: float, *, turned: bool
    ):
        self.parameters = list(module.parameters())
        self.buffers: dict[str, Tensor] = getattr(module, "member_buffers", {})
        self.shared: list[slice] = []
        shared = set(map(id, getattr(module, "shared_parameters", ())))
        unlike = {id(p) for part in module.modules() for p in getattr(part, "unlike_outputs", ())}
        betas, epsilon = (TURNED_BETAS, TURNED_EPSILON) if turned else (ADAM_BETAS, ADAM_EPSILON)
        self.settings = Settings(float(max_grad_norm), float(weight_decay), *betas, epsilon)
        n_members = len(self.parameters[0])
        self.values = torch.cat([p.detach().reshape(n_members, -1) for p in self.parameters], 1)
        self.gradient = torch.zeros_like(self.values)
        self.mean, self.square = torch.zeros_like(self.values), torch.zeros_like(self.values)
        self.n_steps = 0
        self.matrices: list[Matrix] = []
        start = n_turned = 0
        for p in self.parameters:
            stop = start + p[0].numel()
            p.data = self.values[:, start:stop].view(p.shape)
            if id(p) in shared:
                self.shared.append(slice(start, stop))
            if turned and p.ndim == 3:
                places = []
                for n, may_turn in zip(p.shape[1:], (True, id(p) not in unlike), strict=True):
                    fits = may_turn and n <= LONGEST_TURNED
                    places.append(n_turned if fits else -1)
                    n_turned += n * n if fits else 0
                self.matrices.append(Matrix(start, *p.shape[1:], *places))
            start = stop
        self.statistics = self.values.new_zeros((n_members, n_turned))
        self.bases = torch.zeros_like(self.statistics)
        for _, place, n, _ in self.sides():
            block(self.bases, place, n).diagonal(dim1=-2, dim2=-1).fill_(1.0)

    def sides(self) -> Iterator[tuple[Matrix, int, int, bool]]:
        """Matrix, place, length, and whether it is the left one, of each side that is turned."""
        for matrix in self.matrices:
            if matrix.left >= 0:
                yield matrix, matrix.left, matrix.n_in, True
            if matrix.right >= 0:
                yield matrix, matrix.right, matrix.n_out, False

    def differentiate(self, loss: Tensor) -> None:
        """Fill `gradient` by automatic differentiation."""
        parts = torch.autograd.grad(loss, self.parameters, materialize_grads=True)
        torch.cat([part.reshape(len(part), -1) for part in parts], 1, out=self.gradient)

    def step(self, rate: float) -> None:
        """One step of AdamW in the bases, the gradient of each member clipped to a norm."""
        self.n_steps += 1
        max_norm, decay, beta1, beta2, epsilon = self.settings
        self._average()
        norm = torch.linalg.vector_norm(self.gradient, dim=1, keepdim=True)  # (n_members, 1)
        self.gradient.mul_((max_norm / (norm + 1e-6)).clamp_(max=1.0))
        self._average()
        if self.n_steps % STATISTICS_EVERY == 0:
            self._observe()
        for matrix, place, n, left in self.sides():
            part, basis = matrix.of(self.gradient), block(self.bases, place, n)
            part.copy_(basis.mT @ part if left else part @ basis)
        self.mean.lerp_(self.gradient, 1.0 - beta1)
        self.square.mul_(beta2).addcmul_(self.gradient, self.gradient, value=1.0 - beta2)
        size = (self.square / (1.0 - beta2**self.n_steps)).sqrt_().add_(epsilon)
        unbiased = MEAN_SHARE / (1.0 - beta1**self.n_steps)
        step = self.gradient.mul_(1.0 - MEAN_SHARE).add_(self.mean, alpha=unbiased).div_(size)
        for matrix, place, n, left in self.sides():
            part, basis = matrix.of(step), block(self.bases, place, n)
            part.copy_(basis @ part if left else part @ basis.mT)
        self.values.mul_(1.0 - rate * decay)
        self.values.add_(step, alpha=-rate)
        for columns in self.shared:  # however the members were rounded
            self.values[1:, columns] = self.values[:1, columns]
        if self.n_steps % BASES_EVERY == 0:
            self.turn()

    def _average(self) -> None:
        """Give all members the same gradient of what they share."""
        for columns in self.shared:
            self.gradient[:, columns] = self.gradient[:, columns].mean(0)

    def _observe(self) -> None:
        """Take the gradient into the statistics."""
        for matrix, place, n, left in self.sides():
            part = matrix.of(self.gradient)
            product = part @ part.mT if left else part.mT @ part
            block(self.statistics, place, n).lerp_(product, 1.0 - STATISTICS_DECAY)

    def turn(self) -> None:
        """Bring bases nearer to the eigenvectors of the statistics, and the mean gradient along."""
        # What is not finite belongs to a member whose epoch will be undone
        statistics = self.statistics.nan_to_num(0.0, 0.0, 0.0)
        for matrix, place, n, left in self.sides():
            basis, mean = block(self.bases, place, n), matrix.of(self.mean)
            new = torch.linalg.qr(block(statistics, place, n) @ basis).Q
            change = basis.mT @ new
            mean.copy_(change.mT @ mean if left else mean @ change)
            basis.copy_(new)

    def state(self) -> dict[str, Tensor]:
        """State of the optimiser, a row per member."""
        return {name: getattr(self, name) for name in STATE}

    def arrays(self) -> dict[str, Tensor]:
        """Weights and the state of the optimiser, a row per member."""
        return {"values": self.values, **self.buffers, **self.state()}

    def kept(self) -> dict[str, Tensor]:
        """What makes the module what it is, a row per member."""
        return {"values": self.values, **self.buffers}

    def reset(self, saved: Mapping[str, Tensor], members: Tensor) -> None:
        """Bring the given members (a mask) back to copies of `arrays` made before."""
        for name, now in self.arrays().items():
            now[members] = saved[name][members]

    def release(self) -> None:
        """Give the parameters memory of their own again."""
        for p in self.parameters:
            p.data = p.data.clone()
