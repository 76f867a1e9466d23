"""The compiled engine: runs the kernels for an ensemble on several threads.

===================  =======================================================================
`CompiledEngine`     density and draws of a trained ensemble
`CompiledObjective`  loss, gradient and optimiser of one that is being trained
`why_not`            what about a network the kernels cannot do
===================  =======================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, cast

import joblib
import numpy as np
import torch
from joblib.parallel import get_active_backend
from scipy.special import logsumexp
from torch import Tensor

from .._constants import BASES_EVERY
from .._engine import Engine
from .._network import ACTIVATIONS, SAN, Block, Linear
from .._optimizer import Settings, Weights
from .._training import Objective
from .._training import Rows as TrainingRows
from ..likelihoods import (
    Likelihood,
    MixtureOfGaussians,
    MixtureOfLogistics,
    Softmax,
    TruncatedMixtureOfGaussians,
    TruncatedMixtureOfLogistics,
)
from ..likelihoods.mixtures import log_floor_of
from . import activations, families
from .jit import is_kept, prepare, unavailable
from .network import Draws, Known, Plan, Rows, Target, kernels_for, make_plan
from .training import adamw

_FAMILIES: dict[type[Likelihood], int] = {
    MixtureOfGaussians: families.GAUSSIANS,
    TruncatedMixtureOfGaussians: families.GAUSSIANS,
    MixtureOfLogistics: families.LOGISTICS,
    TruncatedMixtureOfLogistics: families.LOGISTICS,
    Softmax: families.HISTOGRAM,
}


def why_not(network: SAN, dtype: torch.dtype, device: torch.device) -> str | None:
    """What about a network the kernels cannot do; None if they can do all of it."""
    if (reason := unavailable()) is not None:
        return reason
    if device.type != "cpu":
        return f"device {device.type!r}"
    if dtype != torch.float32:
        return f"dtype {str(dtype).removeprefix('torch.')}"
    for family in network.families:
        if type(family) not in _FAMILIES:
            return f"likelihood {type(family).__name__}"
    return None


def n_threads() -> int:
    """Threads that this process may use: its cores, torch's limit, one in a worker of joblib."""
    backend, _ = get_active_backend()
    if getattr(backend, "nesting_level", 0):
        return 1
    return max(1, min(joblib.cpu_count(), torch.get_num_threads()))


def layout_of(network: SAN) -> Plan:
    """Plan of a network that the kernels can do."""
    outputs, blocks = network.families, [cast(Block, block) for block in network.blocks]
    return make_plan(
        network.n_features,
        blocks[0].n_sequence,
        [cast(Linear, layer).weight.shape[-1] for layer in network.encoder],
        [block.shape for block in blocks],
        [family.n_params for family in outputs],
        based=network.base.used,
        family=[_number_of(family) for family in outputs],
        bounded=[family.bounded for family in outputs],
        log_floor=[_log_floor(family) for family in outputs],
        n_noise=network.n_noise,
        activation=activations.ACTIVATIONS.index(_name_of(network.activation)),
        layer_norm=blocks[0].layer_norm,
    )


def _name_of(activation: torch.nn.Module) -> str:
    return next(name for name, cls in ACTIVATIONS.items() if type(activation) is cls)


def _number_of(family: Likelihood) -> int:
    if isinstance(family, Softmax) and family.interpolate:
        return families.INTERPOLATED_HISTOGRAM
    return _FAMILIES[type(family)]


def _log_floor(family: Likelihood) -> float:
    """Log of the smallest scale, where a family has scales."""
    return log_floor_of(family.get_params(deep=False).get("min_scale"))


def _at_the_door(array: np.ndarray, dtype: Any) -> np.ndarray:
    """The one kind of array that kernels are compiled for: contiguous and writable."""
    return np.require(array, dtype, ["C", "W"])


def _inside(u: np.ndarray) -> np.ndarray:
    """Uniform numbers that stay strictly between 0 and 1 in float32."""
    return u if u.dtype == np.float32 else np.clip(u, 2.0**-25, 1.0 - 2.0**-24)


class Threads:
    """Threads that share out tasks which release the GIL.

    Parameters
    ----------
    n : int
        How many, this one included.
    """

    def __init__(self, n: int):
        self.n = n
        self._pool = ThreadPoolExecutor(n - 1) if n > 1 else None

    def run(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Run the tasks, some of them in this thread; whoever is free takes the next one."""
        if self._pool is None or len(tasks) == 1:
            for task in tasks:
                task()
            return
        waiting = iter(tasks)

        def share() -> None:
            for task in waiting:
                task()

        others = [self._pool.submit(share) for _ in range(min(self.n, len(tasks)) - 1)]
        share()
        for other in others:
            other.result()

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class Scorer:
    """Log density of the rows of a table, and its gradient by the parameters.

    Parameters
    ----------
    network : SAN
    x, z : Tensor of shape (n_rows, n_inputs) and (n_rows, n_outputs)
        Scaled features and targets; nan where the last outputs are missing.
    """

    def __init__(self, network: SAN, x: Tensor, z: Tensor):
        self.plan = layout_of(network)
        self.score, _ = kernels_for(self.plan)
        x64, z64, base = x.double(), z.double().nan_to_num(), network.base
        weight_x, weight_y, intercept, scale, limits = (
            value.double()
            for value in (base.weight_x, base.weight_y, base.intercept, base.scale, network.limits)
        )
        observed = ~z.isnan()
        location = x64 @ weight_x.T + z64 @ weight_y.T + intercept

        def single(value: Tensor) -> np.ndarray:
            return _at_the_door(value.numpy(), np.float32)

        self.rows = Rows(
            x=single(x64),
            y=single(z64),
            r=single((z64 - location) / scale),
            low=single((limits[:, 0] - location) / scale),
            high=single((limits[:, 1] - location) / scale),
            n_observed=_at_the_door(observed.sum(-1).numpy(), np.int64),
        )
        #: What the log densities of the residuals lack, (n_rows,)
        self.constant = -(scale.log() * observed).sum(-1).numpy()

    def log_prob(self, values: np.ndarray, index: np.ndarray, threads: Threads) -> np.ndarray:
        """Log density of the rows `index` (n_members or 1, n) under every member's `values`."""
        n_members = len(values)
        index = np.broadcast_to(index, (n_members, index.shape[1]))
        nothing = np.zeros(1, dtype=np.float32)
        log_prob = np.empty(index.shape)
        bounds = np.linspace(0, index.shape[1], -(-threads.n // n_members) + 1).astype(int)

        def task(m: int, part: slice) -> Callable[[], None]:
            own = _at_the_door(index[m, part], np.int64)
            return lambda: self.score(values[m], nothing, self.plan, self.rows, own, nothing,
                                      log_prob[m, part], False)  # fmt: skip

        parts = [slice(a, b) for a, b in pairwise(bounds)]
        threads.run([task(m, part) for m in range(n_members) for part in parts])
        return log_prob + self.constant[index]

    def loss(
        self,
        values: np.ndarray,
        gradient: np.ndarray,
        index: np.ndarray,
        weight: np.ndarray,
        threads: Threads,
    ) -> np.ndarray:
        """``-sum(weight * log_prob)`` of the rows `index` (n_members, n), and its gradient."""
        n_members, n_rows = index.shape
        log_prob = np.empty(index.shape)
        n_parts = max(1, min(-(-threads.n // n_members), n_rows // 16))
        bounds = np.linspace(0, n_rows, n_parts + 1).astype(int)
        partial = np.empty((n_parts, *values.shape), dtype=np.float32) if n_parts > 1 else None

        def task(m: int, part: int) -> Callable[[], None]:
            rows = slice(bounds[part], bounds[part + 1])
            target = gradient[m] if partial is None else partial[part, m]
            own = _at_the_door(index[m, rows], np.int64)
            share = _at_the_door(weight[m, rows], np.float32)
            return lambda: self.score(values[m], target, self.plan, self.rows, own, share,
                                      log_prob[m, rows], True)  # fmt: skip

        threads.run([task(m, part) for m in range(n_members) for part in range(n_parts)])
        if partial is not None:
            np.sum(partial, axis=0, out=gradient)
        return -(weight * (log_prob + self.constant[index])).sum(axis=1)


class CompiledObjective(Objective):
    """The objective of a `SAN` with its gradient, and the step of the optimiser, by kernels."""

    def __init__(self, module: SAN, weights: Weights, rows: TrainingRows):
        self.threads = Threads(n_threads())
        self.matrices = np.array(weights.matrices, dtype=np.int64).reshape(-1, 5)
        super().__init__(module, weights, rows)

    def use(self, columns: tuple[Tensor, ...]) -> None:
        super().use(columns)
        self.scorer = Scorer(self.module, *self.rows.inputs)

    def close(self) -> None:
        self.threads.close()

    def differentiate(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        share, total = self.rows.shares(chosen)
        loss = self.scorer.loss(
            self.weights.values.detach().numpy(),
            self.weights.gradient.numpy(),
            chosen.numpy(),
            share.numpy(),
            self.threads,
        )
        return torch.from_numpy(loss), total

    def step(self, rate: float) -> None:
        weights = self.weights
        weights.n_steps += 1
        state = (weights.values, weights.gradient, *weights.state().values())
        arrays = [a.numpy() for a in state]

        def task(m: int) -> Callable[[], None]:
            own = [a[m] for a in arrays]

            def step() -> None:
                adamw(*own, self.matrices, weights.settings, rate, weights.n_steps)
                if weights.n_steps % BASES_EVERY == 0:
                    weights.turn(slice(m, m + 1))

            return step

        self.threads.run([task(m) for m in range(len(weights.values))])

    def loss(self, chosen: Tensor, share: Tensor) -> Tensor:
        values = self.weights.values.detach().numpy()
        log_prob = self.scorer.log_prob(values, chosen.numpy(), self.threads)
        return -(torch.from_numpy(log_prob) * share).sum(1)


class Sampler:
    """Draws from an ensemble as a function of uniform noise.

    Parameters
    ----------
    network : SAN
    """

    def __init__(self, network: SAN):
        base = network.base
        columns = [base.weight_x, base.weight_y, base.intercept[:, None], base.scale[:, None]]
        self.plan = layout_of(network)
        _, self.draw_rows = kernels_for(self.plan)
        self.values = _at_the_door(values_of(network).numpy(), np.float32)
        self.target = Target(
            _at_the_door(torch.cat(columns, 1).numpy(), np.float64),
            _at_the_door(network.limits.numpy(), np.float64),
        )

    def __call__(
        self,
        x: np.ndarray,
        noise: np.ndarray,
        n_draws: int,
        *,
        group: int | None = None,
        with_moments: bool = False,
        known: np.ndarray | None = None,
        chosen: np.ndarray | None = None,
    ) -> Draws:
        """Draws of every row, a row for each pair of row and draw.

        Parameters
        ----------
        x : ndarray of shape (n_rows, n_inputs)
        noise : ndarray of shape (n_rows * n_draws or fewer, 1 + n_outputs * n_noise)
            Repeated where there are fewer; the first number chooses the member.
        n_draws : int
            Of each row.
        group : int, default=None
            No tile crosses a multiple of so many draws of one member.
        with_moments : bool, default=False
            Whether to give mean and variance of each output given the draws before it.
        known : ndarray of shape (n_rows, n_outputs), default=None
            Values of outputs that are not drawn; nan in the columns of the others.
        chosen : ndarray of shape (n_rows * n_draws,), default=None
            Member behind each draw, instead of the noise.
        """
        x, noise = _at_the_door(x, np.float32), _at_the_door(_inside(noise), np.float32)
        n_pairs, n_outputs = len(x) * n_draws, len(self.target.limits)
        values = np.full((1, n_outputs), np.nan) if known is None else known
        fixed = Known(_at_the_door(values, np.float64), ~np.isnan(values[0]))
        moments = np.empty((2, *((n_pairs, n_outputs) if with_moments else (0, 1))))
        draws = Draws(
            np.empty((n_pairs, n_outputs), dtype=np.float32),
            moments[0],
            moments[1],
            np.zeros(n_pairs if known is not None else 0),
        )
        if chosen is None:
            chosen = (noise[:, 0] * len(self.values)).astype(np.intp)
            chosen = np.tile(chosen, n_pairs // len(chosen))

        def task(m: int, pairs: np.ndarray) -> Callable[[], None]:
            own = _at_the_door(pairs, np.int64)
            return lambda: self.draw_rows(
                self.values[m], self.plan, self.target, x, n_draws, noise, own,
                n_pairs if group is None else group, with_moments, fixed, draws,
            )  # fmt: skip

        with Threads(n_threads()) as threads:
            tasks = []
            for m in range(len(self.values)):
                own = np.flatnonzero(chosen == m)
                # Several parts for each thread, of whole tiles and groups, so that all end together
                unit = group if group is not None and group < len(own) else self.plan.tile
                n_parts = max(1, min(2 * threads.n, len(own) // unit))
                bounds = np.linspace(0, len(own) // unit, n_parts + 1).astype(int) * unit
                bounds[-1] = len(own)
                tasks += [task(m, own[a:b]) for a, b in pairwise(bounds) if b > a]
            threads.run(tasks)
        return draws


def values_of(network: SAN) -> Tensor:
    """All parameters, a row per member."""
    parts = [p.detach().reshape(network.n_members, -1) for p in network.parameters()]
    return torch.cat(parts, 1)


class CompiledEngine(Engine):
    """Density and draws of an ensemble by kernels; the rest is that of the reference."""

    name = "compiled"

    def __init__(self, network: SAN, device: torch.device):
        super().__init__(network, device)
        self.sampler = Sampler(network)

    def log_density(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        if z.ndim == 3:
            return super().log_density(x, z)
        scorer = Scorer(self.network, torch.as_tensor(x), torch.as_tensor(z))
        with Threads(n_threads()) as threads:
            log_prob = scorer.log_prob(self.sampler.values, np.arange(len(x))[None], threads)
        return logsumexp(log_prob, axis=0) - math.log(len(log_prob))

    def draw(self, x: np.ndarray, noise: np.ndarray) -> np.ndarray:
        n_rows, n_draws, n_numbers = noise.shape
        draws = self.sampler(x, noise.reshape(-1, n_numbers), n_draws)
        return draws.out.reshape(n_rows, n_draws, -1)

    def draw_at(self, x: np.ndarray, points: np.ndarray) -> np.ndarray:
        n_draws = len(points)
        draws = self.sampler(x, points, n_draws, group=n_draws // self.network.n_members)
        return draws.out.reshape(len(x), n_draws, -1)

    def moments_at(self, x: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shape, group = (len(x), len(points), -1), len(points) // self.network.n_members
        draws = self.sampler(x, points, len(points), group=group, with_moments=True)
        means, variances = draws.mean.reshape(shape), draws.variance.reshape(shape)
        return means.mean(axis=1), variances.mean(axis=1) + means.var(axis=1)

    def draw_beside(
        self, x: np.ndarray, noise: np.ndarray, known: np.ndarray, chosen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        draws = self.sampler(x, noise, chosen.shape[1], known=known, chosen=chosen.ravel())
        return draws.out.reshape(*chosen.shape, -1), draws.log_weight.reshape(chosen.shape)


def load_kernels(
    network: SAN, tell: Callable[[str], None] | None = None, *, for_training: bool
) -> None:
    """See `_engines.load_kernels`."""
    plan = layout_of(network)
    scoring, *training = _training_examples(plan)
    wanted = [scoring, *training] if for_training else [scoring, *_drawing_examples(plan)]
    kept = [is_kept(*one) for one in wanted]
    if for_training and not all(kept) and tell is not None:
        tell("compiling kernels, once on this machine")
    for (dispatcher, *arguments), is_there in zip(wanted, kept, strict=True):
        if for_training or is_there:
            prepare(dispatcher, *arguments)


def _training_examples(plan: Plan) -> list[tuple[Any, ...]]:
    """Kernels with arguments of the types that they are called with."""
    vector, matrix = np.zeros(1, dtype=np.float32), np.zeros((1, 1), dtype=np.float32)
    index = np.zeros(1, dtype=np.int64)
    rows = Rows(matrix, matrix, matrix, matrix, matrix, index)
    score, _ = kernels_for(plan)
    return [
        (score, vector, vector, plan, rows, index, vector, np.zeros(1), True),
        (adamw, *[vector] * 6, index[:, None], Settings(*[1.0] * 5), 1.0, 1),
    ]


def _drawing_examples(plan: Plan) -> list[tuple[Any, ...]]:
    vector, matrix = np.zeros(1, dtype=np.float32), np.zeros((1, 1), dtype=np.float32)
    index, wide = np.zeros(1, dtype=np.int64), np.zeros((1, 1))
    known = Known(wide, np.zeros(1, dtype=np.bool_))
    draws = Draws(matrix, wide, wide, np.zeros(1))
    _, draw_rows = kernels_for(plan)
    return [
        (draw_rows, vector, plan, Target(wide, wide), matrix, 1, matrix, index, 1, True, known,
         draws)
    ]  # fmt: skip
