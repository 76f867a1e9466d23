"""The compiled engine: runs the kernels for an ensemble on several threads.

===================  =======================================================================
`CompiledEngine`     density and draws of a trained ensemble
`CompiledObjective`  loss, gradient and optimiser of one that is being trained
`why_not`            what about a network the kernels cannot do
===================  =======================================================================
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from itertools import pairwise
from threading import Event
from typing import Any, cast

import joblib
import numpy as np
import torch
from joblib.parallel import get_active_backend
from scipy.special import logsumexp
from torch import Tensor

from .._engine import Engine, Summaries, chunks
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
from .network import Draws, Known, Plan, Rows, Target, centre, kernels_for, make_plan
from .slopes import slopes_for
from .summaries import cdfs, log_densities, quantiles
from .training import adamw, train_for

#: Pairs of row and point whose conditionals are in memory at once.
PAIRS = 2048

_FAMILIES: dict[type[Likelihood], int] = {
    MixtureOfGaussians: families.GAUSSIANS,
    TruncatedMixtureOfGaussians: families.GAUSSIANS,
    MixtureOfLogistics: families.LOGISTICS,
    TruncatedMixtureOfLogistics: families.LOGISTICS,
    Softmax: families.HISTOGRAM,
}


#: Steps of a member from one look for an interrupt to the next.
STEPS = 20
#: Points that are not worth another thread.
FEW = 32


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
    affinity = getattr(os, "sched_getaffinity", lambda _: ())
    n_cores = _n_cores(frozenset(affinity(0)), os.environ.get("LOKY_MAX_CPU_COUNT"))
    return max(1, min(n_cores, torch.get_num_threads()))


@cache
def _n_cores(affinity: frozenset[int], most: str | None) -> int:
    """How many joblib counts, which reads files, where the process may run on these."""
    return joblib.cpu_count()


def layout_of(network: SAN, *, for_gradient: bool = False) -> Plan:
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
        for_gradient=for_gradient,
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


@cache
def _others(n: int) -> ThreadPoolExecutor:
    """Threads that wait for work, since to start them takes a tenth of a millisecond."""
    return ThreadPoolExecutor(n, thread_name_prefix="sklearn_san")


if hasattr(os, "register_at_fork"):  # a child has no threads but one
    os.register_at_fork(after_in_child=_others.cache_clear)


class Threads:
    """Threads that share out tasks which release the GIL.

    Parameters
    ----------
    n : int
        How many, this one included.
    """

    def __init__(self, n: int):
        self.n = n

    def run(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Run the tasks, some of them in this thread; whoever is free takes the next one."""
        n_others = min(self.n, len(tasks)) - 1
        if n_others < 1:
            for task in tasks:
                task()
            return
        waiting = iter(tasks)

        def share() -> None:
            for task in waiting:
                task()

        pool = _others(self.n - 1)
        others = [pool.submit(share) for _ in range(n_others)]
        try:
            share()
        finally:
            for _ in waiting:  # after an error or an interrupt nobody takes another task
                pass
            for other in others:
                if not other.cancel():  # it has begun; others may keep all threads busy
                    other.result()


@cache
def _falling_shares(n_threads: int) -> np.ndarray:
    """Bounds of shares of 1, each smaller than the one before, so that threads end together.

    After as many shares as there are threads, half is done.
    """
    left = 0.5 ** (np.arange(4 * n_threads + 1) / n_threads)
    return (1.0 - left) / (1.0 - left[-1])


class Scorer:
    """Log density of the rows of a table, and its gradient by the parameters.

    Parameters
    ----------
    network : SAN
    x, z : Tensor of shape (n_rows, n_inputs) and (n_rows, n_outputs)
        Scaled features and targets; nan where the last outputs are missing.
    """

    def __init__(self, network: SAN, x: Tensor, z: Tensor):
        self.network, self.plan = network, layout_of(network)
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

    @cached_property
    def plan_for_gradient(self) -> Plan:
        """Plan that keeps what the gradient needs."""
        return layout_of(self.network, for_gradient=True)

    def log_prob(self, values: np.ndarray, index: np.ndarray, threads: Threads) -> np.ndarray:
        """Log density of the rows `index` (n_members or 1, n) under every member's `values`.

        These are `centred`.
        """
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
            return lambda: self.score(values[m], target, self.plan_for_gradient, self.rows, own,
                                      share, log_prob[m, rows], True)  # fmt: skip

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
        self.train = train_for(self.scorer.plan)

    def differentiate(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        own, share, total = self.rows.shares(chosen)
        loss = self.scorer.loss(
            self.weights.values.detach().numpy(),
            self.weights.gradient.numpy(),
            own.numpy(),
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
            return lambda: adamw(*own, self.matrices, weights.settings, rate, weights.n_steps)

        self.threads.run([task(m) for m in range(len(weights.values))])

    def steps(self, batches: Sequence[Tensor], rates: Sequence[float]) -> Tensor:
        weights, rows, n_members = self.weights, self.rows, len(self.weights.values)
        # Threads that share the rows of each batch, or processes that do
        if n_members < self.threads.n or rows.ranks.size > 1:
            return super().steps(batches, rates)
        index, size, n = np.concatenate(batches, axis=1), batches[0].shape[1], len(rates)
        weight = np.ones(index.shape, dtype=np.float32)
        if rows.weighted:
            weight = rows.columns[-1].numpy()[index]
        total = np.add.reduceat(weight, np.arange(n) * size, axis=1)  # (n_members, n)
        share = weight / np.repeat(total, size, axis=1)[:, : index.shape[1]]
        log_prob = np.empty(index.shape)
        state = (weights.values, weights.gradient, *weights.state().values())
        arrays = [array.numpy() for array in state]
        done, each_rate = weights.n_steps, np.array(rates)
        weights.n_steps += n
        is_over = Event()

        def task(m: int) -> Callable[[], None]:
            own = [array[m] for array in arrays]
            own_index, own_share = index[m].astype(np.int64), _at_the_door(share[m], np.float32)

            def run() -> None:
                for start in range(0, n, STEPS):
                    if is_over.is_set():
                        break
                    stop = min(n, start + STEPS)
                    part = slice(start * size, stop * size)
                    self.train(
                        *own, self.matrices, weights.settings, self.scorer.plan_for_gradient,
                        self.scorer.rows, own_index[part], own_share[part], size,
                        each_rate[start:stop], done + start, log_prob[m, part],
                    )  # fmt: skip

            return run

        try:
            self.threads.run([task(m) for m in range(n_members)])
        finally:  # an interrupt reaches this thread alone
            is_over.set()
        loss = -(weight * (log_prob + self.scorer.constant[index])).sum(axis=1)
        return torch.from_numpy(loss / weight.sum(axis=1, dtype=np.float64))

    def loss(self, chosen: Tensor, share: Tensor) -> Tensor:
        values = centred(self.weights.values.detach().numpy(), self.scorer.plan)
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
        self.values = centred(values_of(network).numpy(), self.plan)
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
        with_density: bool = False,
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
        with_density : bool, default=False
            Whether to give the log density of each draw under its member.
        known : ndarray of shape (n_rows, n_outputs), default=None
            Values of outputs that are not drawn; nan in the columns of the others.
        chosen : ndarray of shape (n_rows * n_draws,), default=None
            Member behind each draw, instead of the noise.
        """
        x, noise = _at_the_door(x, np.float32), _at_the_door(noise, np.float64)
        n_pairs, n_outputs = len(x) * n_draws, len(self.target.limits)
        values = np.full((1, n_outputs), np.nan) if known is None else known
        fixed = Known(_at_the_door(values, np.float64), ~np.isnan(values[0]))
        draws = self._room(
            n_pairs, n_outputs, with_weights=known is not None, with_density=with_density
        )
        if chosen is None:
            chosen = (noise[:, 0] * len(self.values)).astype(np.intp)
            chosen = np.tile(chosen, n_pairs // len(chosen))

        def task(m: int, pairs: np.ndarray) -> Callable[[], None]:
            own = _at_the_door(pairs, np.int64)
            return lambda: self.draw_rows(
                self.values[m], self.plan, self.target, x, n_draws, noise, own,
                n_pairs if group is None else group, False, fixed, draws,
            )  # fmt: skip

        threads = Threads(n_threads())
        parts, shares = [], _falling_shares(threads.n)
        for m in range(len(self.values)):
            own = np.flatnonzero(chosen == m)
            unit = group if group is not None and group < len(own) else self.plan.tile
            bounds = unit * np.rint(len(own) // unit * shares).astype(int)
            bounds[-1] = len(own)
            parts += [(m, own[a:b]) for a, b in pairwise(bounds) if b > a]
        parts.sort(key=lambda part: -len(part[1]))  # the smallest ones of all members last
        threads.run([task(m, own) for m, own in parts])
        return draws

    def conditionals_at(
        self,
        x: np.ndarray,
        points: np.ndarray,
        n_outputs: int,
        use: Callable[[slice, Draws, int, int], None],
        *,
        with_moments: bool = False,
    ) -> None:
        """Have all chunks of rows used, with the conditionals of their draws.

        Parameters
        ----------
        x : ndarray of shape (n_rows, n_inputs) or (n_rows, n_points, n_inputs)
        points : ndarray of shape (n_points, 1 + n_outputs * n_noise)
            As many for each member, one member after the other.
        n_outputs : int
            How many are drawn.
        use : callable
            Takes rows, their draws, points of each row, and the step between points at which the
            first output has conditionals of its own. Called by several threads.
        with_moments : bool, default=False
        """
        n_members, n_points, tile = len(self.values), len(points), self.plan.tile
        n_own = n_points // n_members
        n_columns = n_points if x.ndim == 2 else 1
        first_step = n_own if x.ndim == 2 else 1
        # Tiles always hold the same number of pairs, so that no row's result depends on the others
        group, unit = (tile, tile) if n_own == 1 else (n_own, 1)
        n_rows, size = len(x), max(1, PAIRS // n_points // unit) * unit
        noise = _at_the_door(points, np.float64)
        known = Known(np.full((1, n_outputs), np.nan), np.zeros(n_outputs, dtype=np.bool_))

        def task(parts: Sequence[slice]) -> Callable[[], None]:
            def run() -> None:
                room = self._room(size * n_points, n_outputs, with_moments=with_moments,
                                  with_raw=True)  # fmt: skip
                for rows in parts:
                    index = np.arange(rows.start, rows.stop + -(rows.stop - rows.start) % unit)
                    own = _at_the_door(x[np.minimum(index, n_rows - 1)], np.float32)
                    n_pairs = len(own) * n_points
                    draws = Draws(*(array[:n_pairs] for array in room))
                    first = np.arange(len(own))[:, None] * n_points
                    for m, values in enumerate(self.values):
                        pairs = (first + np.arange(m * n_own, (m + 1) * n_own)).ravel()
                        self.draw_rows(
                            values, self.plan, self.target, own.reshape(-1, own.shape[-1]),
                            n_columns, noise, pairs, group, with_moments, known, draws,
                        )  # fmt: skip
                    use(rows, draws, n_points, first_step)

            return run

        parts = list(chunks(n_rows, size))
        threads = Threads(n_threads())
        n_tasks = min(len(parts), 4 * threads.n) if threads.n > 1 else 1
        threads.run([task(parts[i::n_tasks]) for i in range(n_tasks)])

    def _room(
        self,
        n_pairs: int,
        n_outputs: int,
        *,
        with_moments: bool = False,
        with_raw: bool = False,
        with_weights: bool = False,
        with_density: bool = False,
    ) -> Draws:
        """Memory for so many draws; empty where something is not wanted."""
        moments = np.empty((2, *((n_pairs, n_outputs) if with_moments else (0, 1))))
        raw = (n_pairs, n_outputs, int(self.plan.n_raw.max())) if with_raw else (0, 1, 1)
        return Draws(
            np.empty((n_pairs, n_outputs), dtype=np.float32),
            moments[0],
            moments[1],
            np.zeros(n_pairs if with_weights else 0),
            np.zeros(n_pairs if with_density else 0),
            np.empty(raw, dtype=np.float32),
            np.empty(raw[:2]),
        )


class Slopes:
    """Log density of single members, and its slope by the outputs.

    Parameters
    ----------
    network : SAN
    sampler : Sampler
        Of the same network.
    """

    def __init__(self, network: SAN, sampler: Sampler):
        self.plan = layout_of(network, for_gradient=True)
        self.target, self.values = sampler.target, sampler.values
        self.slope_rows = slopes_for(self.plan)

    def __call__(
        self, x: np.ndarray, z: np.ndarray, chosen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log density (n,) and slope (n, n_outputs) under the member `chosen` (n,) for each."""
        x, z = _at_the_door(x, np.float32), _at_the_door(z, np.float64)
        log_prob, slope = np.empty(len(z)), np.empty(z.shape)

        def task(m: int, points: np.ndarray) -> Callable[[], None]:
            own = _at_the_door(points, np.int64)
            return lambda: self.slope_rows(
                self.values[m], self.plan, self.target, x, z, own, log_prob, slope
            )

        threads, tasks = Threads(n_threads() if len(z) > FEW else 1), []
        for m in range(len(self.values)):
            own = np.flatnonzero(chosen == m)
            n_parts = max(1, min(2 * threads.n, len(own) // FEW))
            bounds = np.linspace(0, len(own), n_parts + 1).astype(int)
            tasks += [task(m, own[a:b]) for a, b in pairwise(bounds) if b > a]
        threads.run(tasks)
        return log_prob, slope


def values_of(network: SAN) -> Tensor:
    """All parameters, a row per member."""
    parts = [p.detach().reshape(network.n_members, -1) for p in network.parameters()]
    return torch.cat(parts, 1)


def centred(values: np.ndarray, plan: Plan) -> np.ndarray:
    """Parameters (n_members, n_values) as kernels take them that keep nothing for a gradient."""
    own = np.array(values, dtype=np.float32, order="C")
    for member in own:
        centre(member, plan)
    return own


class CompiledEngine(Engine):
    """Density and draws of an ensemble by kernels; the rest is that of the reference."""

    name = "compiled"

    def __init__(self, network: SAN, device: torch.device):
        super().__init__(network, device)
        self.sampler = Sampler(network)

    @cached_property
    def slopes(self) -> Slopes:
        """Made when they are first asked for."""
        return Slopes(self.network, self.sampler)

    def log_density(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        if z.ndim == 3:
            return super().log_density(x, z)
        scorer = Scorer(self.network, torch.as_tensor(x), torch.as_tensor(z))
        log_prob = scorer.log_prob(
            self.sampler.values, np.arange(len(x))[None], Threads(n_threads())
        )
        return logsumexp(log_prob, axis=0) - math.log(len(log_prob))

    def draw(self, x: np.ndarray, noise: np.ndarray) -> np.ndarray:
        n_rows, n_draws, n_numbers = noise.shape
        draws = self.sampler(x, noise.reshape(-1, n_numbers), n_draws)
        return draws.out.reshape(n_rows, n_draws, -1)

    def draw_at(self, x: np.ndarray, points: np.ndarray) -> np.ndarray:
        n_draws = len(points)
        draws = self.sampler(x, points, n_draws, group=n_draws // self.network.n_members)
        return draws.out.reshape(len(x), n_draws, -1)

    def summaries_at(
        self,
        x: np.ndarray,
        points: np.ndarray,
        levels: np.ndarray,
        *,
        with_moments: bool = True,
        output: int | None = None,
    ) -> Summaries:
        sampler, levels = self.sampler, _at_the_door(levels, np.float64)
        n_outputs = self.network.n_outputs if output is None else output + 1
        shape, only = (len(x), self.network.n_outputs), -1 if output is None else output
        mean, variance = np.full((2, *shape), np.nan)
        found = np.full((len(x), len(levels), shape[1]), np.nan)

        def use(rows: slice, draws: Draws, n_points: int, first_step: int) -> None:
            n = rows.stop - rows.start
            if with_moments:
                means = draws.mean.reshape(-1, n_points, n_outputs)[:n]
                variances = draws.variance.reshape(-1, n_points, n_outputs)[:n]
                mean[rows, :n_outputs] = means.mean(axis=1)
                variance[rows, :n_outputs] = variances.mean(axis=1) + means.var(axis=1)
            if len(levels):
                quantiles(
                    sampler.plan, sampler.target, draws, n_points, first_step, levels, only,
                    found[rows],
                )  # fmt: skip

        sampler.conditionals_at(x, points, n_outputs, use, with_moments=with_moments)
        return Summaries(mean, variance, found)

    def cdf_at(
        self, x: np.ndarray, points: np.ndarray, output: int, values: np.ndarray
    ) -> np.ndarray:
        sampler, values = self.sampler, _at_the_door(values, np.float64)
        found = np.empty((len(x), values.shape[1]))

        def use(rows: slice, draws: Draws, n_points: int, first_step: int) -> None:
            step = first_step if output == 0 else 1
            cdfs(
                sampler.plan, sampler.target, draws, n_points, step, output, values[rows],
                found[rows],
            )  # fmt: skip

        sampler.conditionals_at(x, points, output + 1, use)
        return found

    def log_density_at(
        self,
        x: np.ndarray,
        points: np.ndarray,
        output: int,
        values: np.ndarray,
        *,
        quickly: bool = False,
    ) -> np.ndarray:
        sampler, values = self.sampler, _at_the_door(values, np.float64)
        found = np.empty((len(x), values.shape[1]))

        def use(rows: slice, draws: Draws, n_points: int, first_step: int) -> None:
            step = first_step if output == 0 else 1
            own = values if len(values) == 1 else values[rows]
            log_densities(
                sampler.plan, sampler.target, draws, n_points, step, output, own, quickly,
                found[rows],
            )  # fmt: skip

        sampler.conditionals_at(x, points, output + 1, use)
        return found

    def draw_beside(
        self, x: np.ndarray, noise: np.ndarray, known: np.ndarray, chosen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        draws = self.sampler(x, noise, chosen.shape[1], known=known, chosen=chosen.ravel())
        return draws.out.reshape(*chosen.shape, -1), draws.log_weight.reshape(chosen.shape)

    def draw_and_score(
        self, x: np.ndarray, noise: np.ndarray, known: np.ndarray, chosen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        n_draws = chosen.shape[1]
        group = max(n_draws // self.network.n_members, 1)  # of one member, if each has as many
        draws = self.sampler(
            x, noise, n_draws, group=group, with_density=True, known=known, chosen=chosen.ravel()
        )
        return draws.out.reshape(*chosen.shape, -1), draws.log_prob.reshape(chosen.shape)

    def log_density_and_slope(
        self, x: np.ndarray, z: np.ndarray, chosen: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        n, n_contexts, _ = x.shape
        if chosen is not None:
            return self.slopes(x[:, 0], z, chosen)
        members = np.repeat(np.arange(self.network.n_members), n * n_contexts)
        rows = np.tile(np.repeat(np.arange(n), n_contexts), self.network.n_members)
        contexts = np.tile(np.arange(n_contexts), n * self.network.n_members)
        log_prob, slope = self.slopes(x[rows, contexts], z[rows], members)
        log_prob = log_prob.reshape(-1, n, n_contexts)
        total = logsumexp(log_prob, axis=(0, 2))
        weight = np.exp(log_prob - total[:, None])
        slope = slope.reshape(*log_prob.shape, -1)
        n_parts = self.network.n_members * n_contexts
        return total - math.log(n_parts), (weight[..., None] * slope).sum(axis=(0, 2))


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
    optimiser = (*[vector] * 6, index[:, None], Settings(*[1.0] * 5))
    wide = np.zeros(1)
    return [
        (score, vector, vector, plan, rows, index, vector, wide, True),
        (adamw, *optimiser, 1.0, 1),
        (train_for(plan), *optimiser, plan, rows, index, vector, 1, wide, 1, wide),
    ]


def _drawing_examples(plan: Plan) -> list[tuple[Any, ...]]:
    vector, matrix = np.zeros(1, dtype=np.float32), np.zeros((1, 1), dtype=np.float32)
    index, wide = np.zeros(1, dtype=np.int64), np.zeros((1, 1))
    known = Known(wide, np.zeros(1, dtype=np.bool_))
    raw = np.zeros((1, 1, 1), dtype=np.float32)
    draws = Draws(matrix, wide, wide, np.zeros(1), np.zeros(1), raw, wide)
    target = Target(wide, wide)
    _, draw_rows = kernels_for(plan)
    return [
        (draw_rows, vector, plan, target, matrix, 1, wide, index, 1, True, known, draws),
        (quantiles, plan, target, draws, 1, 1, np.zeros(1), 0, np.zeros((1, 1, 1))),
        (cdfs, plan, target, draws, 1, 1, 0, wide, wide),
        (log_densities, plan, target, draws, 1, 1, 0, wide, True, wide),
    ]
