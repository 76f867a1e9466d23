"""A good autoregressive order of the outputs, found by a pilot network.

By the chain rule every order writes the same density; they differ in how well networks learn its
factors. The pilot is one small network that predicts each output from x and any subset S of the
others, as a Gaussian mixture with loss L(j | S). On rows that it has not seen,

    A[j, k] = mean over S of  L(j | S) + L(k | S, j) - L(k | S) - L(j | S, k)

is what it costs in nats to have j before k. The order is the one of the least sum of A over all
pairs, which is 0 for the exact densities and has less noise than the losses themselves.

===================  =======================================================================
`settle_order`       the order of rows that were read, if it is left to us
`auto_order`         the order for arrays
`pair_costs`         A from a pilot
`least_cost_order`   the order of the least sum
===================  =======================================================================

Values are replaced by normal scores of their ranks, so that units, tails and labels do not matter.
The seed is always the same: fits to the same rows with other seeds have the same order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor, nn

from ._schema import Block, Reader
from ._targets import check_gaps, check_missing_targets

#: Fewer rows than this decide nothing; of more than the second number a random part is used.
MIN_ROWS, MAX_ROWS = 1000, 10_000
#: Share of these that is held out.
HELD = 0.2
#: More outputs than this stay as given; up to the second number the best order is found exactly.
MAX_OUTPUTS, MAX_EXACT = 64, 12
#: Gain over the order as given, in nats, below which that is kept.
MIN_GAIN = 0.05
#: Of a categorical feature as many categories are told apart.
MAX_CATEGORIES = 16
#: The pilot: hidden layers and their width, components, steps, rows per step, learning rate.
LAYERS, WIDTH, COMPONENTS, STEPS, BATCH, RATE = 3, 64, 5, 600, 256, 0.005
#: Cost
PRIOR = 0.03
#: Subsets of the outputs, and rows for each, that estimate the costs.
SUBSETS, ROWS_OF_SUBSET = 64, 128


def settle_order(reader: Reader, sample: Block) -> Block:
    """Choose the order of what was read, if part of it is automatic; the rows in that order.

    Parameters
    ----------
    reader : Reader
        That has read all rows; its schema and what it knows of outputs are put in order.
    sample : Block
        Rows of these.
    """
    n_first = reader.n_settled
    if n_first >= sample.y.shape[1]:
        return sample
    n_categories = reader.schema.n_categories
    place = auto_order(sample.X, sample.y, n_first, reader.n_missing, n_categories)
    reader.settle(place)
    schema, back = reader.schema, np.argsort(reader.schema.order)
    sample = sample._replace(y=sample.y[:, place])
    check_missing_targets(sample.y[:, back], schema.order, schema.names)
    check_gaps(reader.gaps, schema.order, schema.names)
    return sample


def auto_order(
    X: np.ndarray,
    y: np.ndarray,
    n_first: int = 0,
    n_missing: np.ndarray | None = None,
    n_categories: list[int | None] | None = None,
) -> np.ndarray:
    """Columns of y in a good order, (n_outputs,).

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
        Numbers and codes; nan where there is no value.
    y : ndarray of shape (n_rows, n_outputs)
    n_first : int, default=0
        Outputs that stay first.
    n_missing : ndarray of shape (n_outputs,), default=None
        Missing values of each output. The others are in rising order of these.
    n_categories : list of int or None, default=None
        Categories of each feature; None for numbers.
    """
    n_outputs = y.shape[1]
    levels = np.zeros(n_outputs) if n_missing is None else n_missing
    first, rest = np.split(np.arange(n_outputs), [n_first])
    rest = rest[np.argsort(levels[rest], kind="stable")]
    groups = np.split(rest, np.flatnonzero(np.diff(levels[rest])) + 1)
    if len(y) < MIN_ROWS or n_outputs > MAX_OUTPUTS or max(map(len, groups)) < 2:
        return np.concatenate([first, rest])
    random = np.random.default_rng(0)
    rows = random.permutation(len(y))[:MAX_ROWS]
    scores = normal_scores(y[rows], random)
    known = np.nan_to_num(scores[:, first])
    x = np.concatenate([features(X[rows], n_categories, random), known], axis=1)
    costs = pair_costs(x, scores[:, rest], random)
    order, start = [first], 0
    for group in groups:
        part = slice(start, start + len(group))
        order.append(group[least_cost_order(costs[part, part])])
        start += len(group)
    return np.concatenate(order)


def normal_scores(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Normal scores of the ranks of each column (n_rows, n_columns); ties in random order."""
    shuffled = random.permutation(len(values))
    place = np.argsort(shuffled)
    ranks = np.argsort(np.argsort(values[shuffled], axis=0, kind="stable"), axis=0)[place]
    observed = ~np.isnan(values)  # which are sorted last
    return np.where(observed, ndtri(np.minimum((ranks + 0.5) / observed.sum(0), 1 - 1e-9)), np.nan)


def features(
    X: np.ndarray, n_categories: list[int | None] | None, random: np.random.Generator
) -> np.ndarray:
    """Inputs of the pilot for x, (n_rows, n_inputs): scores, states of missing values, categories."""
    parts = []
    for j, column in enumerate(X.T):
        if n_categories is not None and n_categories[j] is not None:
            codes, counts = np.unique(column[~np.isnan(column)], return_counts=True)
            parts.append(column[:, None] == codes[np.argsort(-counts)[:MAX_CATEGORIES]])
            continue
        missing = np.isnan(column)
        parts.append(np.nan_to_num(normal_scores(column[:, None], random)))
        if missing.any():
            parts.append(missing[:, None])
    return np.concatenate(parts, axis=1).astype(np.float64)


class Pilot:
    """A network that predicts each output from x and any subset of the others.

    Parameters
    ----------
    n_features, n_outputs : int
    generator : torch.Generator
    """

    def __init__(self, n_features: int, n_outputs: int, generator: torch.Generator):
        self.n_outputs = n_outputs
        widths = [n_features + 2 * n_outputs] + [WIDTH] * LAYERS + [3 * COMPONENTS * n_outputs]
        self.shapes = list(zip(widths[1:], widths[:-1], strict=True))
        parts = []
        for n_out, n_in in self.shapes:
            weight = torch.rand(n_out, n_in, generator=generator, dtype=torch.float32)
            parts += [(2.0 * weight - 1.0).flatten() / math.sqrt(n_in), torch.zeros(n_out)]
        #: All weights, (n_weights,)
        self.theta = torch.cat(parts).requires_grad_()
        self.locs = torch.linspace(-1.0, 1.0, COMPONENTS, dtype=torch.float32)

    def loss(self, x: Tensor, y: Tensor, given: Tensor) -> Tensor:
        """Negative log density of each output in nats, up to a constant; (n_rows, n_outputs).

        `y` (n_rows, n_outputs) has nan where values are missing; `given` marks those that are
        inputs.
        """
        observed = ~torch.isnan(y)
        y = torch.where(observed, y, 0.0)
        given = (given & observed).to(y.dtype)
        h, start = torch.cat([x, y * given, given], dim=-1), 0
        for layer, (n_out, n_in) in enumerate(self.shapes):
            weight, bias = self.theta[start : start + n_out * (n_in + 1)].split([n_out * n_in, n_out])
            h = nn.functional.linear(h, weight.view(n_out, n_in), bias)
            start += n_out * (n_in + 1)
            if layer < LAYERS:
                h = nn.functional.silu(nn.functional.layer_norm(h, (n_out,)))
        logits, loc, log_scale = h.view(-1, self.n_outputs, 3, COMPONENTS).unbind(2)
        log_scale = log_scale.clamp(-7.0, 4.0) - 0.5
        z = (y[..., None] - loc - self.locs) * torch.exp(-log_scale)
        log_prob = torch.log_softmax(logits, -1) - log_scale - 0.5 * z**2  # (rows, outputs, K)
        return torch.where(observed, -torch.logsumexp(log_prob, -1), 0.0)

    def fit(self, x: Tensor, y: Tensor, random: np.random.Generator) -> None:
        """Train by Adam with a one-cycle rate, on subsets of all sizes alike."""
        mean, square = torch.zeros_like(self.theta), torch.zeros_like(self.theta)
        d = self.n_outputs
        for step in range(STEPS):
            rows = torch.from_numpy(random.integers(len(x), size=BATCH))
            place = random.random((BATCH, d)).argsort(axis=1)
            n_given = random.integers(d, size=(BATCH, 1))
            given = torch.from_numpy(place < n_given)
            share = torch.from_numpy(d / (d - n_given)).float()
            loss = (share * ~given * self.loss(x[rows], y[rows], given)).sum() / BATCH
            (gradient,) = torch.autograd.grad(loss, self.theta)
            with torch.no_grad():
                mean.lerp_(gradient, 0.1)
                square.lerp_(gradient**2, 0.01)
                unbiased = mean / (1.0 - 0.9 ** (step + 1))
                spread = (square / (1.0 - 0.99 ** (step + 1))).sqrt() + 1e-8
                phase = (step + 1) / STEPS
                rate = RATE * min(phase / 0.3, 0.5 + 0.5 * math.cos(math.pi * (phase - 0.3) / 0.7))
                self.theta -= rate * unbiased / spread


def pair_costs(x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """What it costs in nats to have output j before k, (n_outputs, n_outputs), from a pilot.

    Parameters
    ----------
    x : ndarray of shape (n_rows, n_inputs)
    y : ndarray of shape (n_rows, n_outputs)
        Normal scores; nan where values are missing.
    """
    d, n_held = y.shape[1], round(HELD * len(y))
    inputs, targets = (torch.from_numpy(part).float() for part in (x, y))
    generator = torch.Generator().manual_seed(int(random.integers(2**62)))
    with one_thread():
        pilot = Pilot(x.shape[1], d, generator)
        pilot.fit(inputs[n_held:], targets[n_held:], random)
        gain, count = np.zeros((d, d)), np.zeros((d, d))
        with torch.no_grad():
            nothing = torch.zeros(n_held, d, dtype=torch.bool)
            alone = pilot.loss(inputs[:n_held], targets[:n_held], nothing).mean(0).double().numpy()
            for _ in range(SUBSETS):
                rest = np.sort(random.permutation(d)[random.integers(d - 1) :])
                rows = torch.from_numpy(random.integers(n_held, size=ROWS_OF_SUBSET))
                given = torch.ones(len(rest) + 1, d, dtype=torch.bool)
                given[:, rest] = False
                given[torch.arange(len(rest)) + 1, torch.from_numpy(rest)] = True
                loss = pilot.loss(
                    inputs[rows].repeat(len(given), 1),
                    targets[rows].repeat(len(given), 1),
                    given.repeat_interleave(len(rows), 0),
                )
                mean = loss.view(len(given), len(rows), d).mean(1)[:, rest].double().numpy()
                gain[np.ix_(rest, rest)] += mean[0] - mean[1:]  # of k if j is known
                count[np.ix_(rest, rest)] += 1.0
    gain /= np.maximum(count, 1.0)
    np.fill_diagonal(gain, 0.0)
    return gain.T - gain + PRIOR * (alone[:, None] - alone)


def least_cost_order(costs: np.ndarray) -> np.ndarray:
    """Order of the least sum of costs (n, n) over all pairs, unless that as given is as good."""
    n = len(costs)
    best = _exact_order(costs) if n <= MAX_EXACT else _local_order(costs)
    given = np.arange(n)
    return best if cost_of(costs, best) < cost_of(costs, given) - MIN_GAIN else given


def cost_of(costs: np.ndarray, order: np.ndarray) -> float:
    """Sum of costs (n, n) over all pairs in an order (n,)."""
    return float(np.triu(costs[np.ix_(order, order)], 1).sum())


def _exact_order(costs: np.ndarray) -> np.ndarray:
    """The best order, by the shortest path over subsets."""
    n = len(costs)
    members = (np.arange(2**n)[:, None] >> np.arange(n)) & 1  # (2**n, n)
    added = members @ costs  # cost of j behind a subset, (2**n, n)
    best, last = np.full(2**n, np.inf), np.zeros(2**n, dtype=int)
    best[0] = 0.0
    for subset in range(1, 2**n):
        behind = np.flatnonzero(members[subset])
        before = subset - (1 << behind)
        total = best[before] + added[before, behind]
        place = int(total.argmin())
        best[subset], last[subset] = total[place], behind[place]
    order, subset = [], 2**n - 1
    while subset:
        order.append(last[subset])
        subset -= 1 << last[subset]
    return np.array(order[::-1])


def _local_order(costs: np.ndarray) -> np.ndarray:
    """An order that no move of one output to another place improves."""
    order = np.argsort(costs.sum(axis=1), kind="stable")
    improved = True
    while improved:
        improved = False
        for j in order.copy():
            others = order[order != j]
            change = costs[others, j] - costs[j, others]  # if j comes behind each of them
            total = np.concatenate([[0.0], np.cumsum(change)])
            here, place = int(np.flatnonzero(order == j)[0]), int(total.argmin())
            if total[place] < total[here] - 1e-9:
                order, improved = np.insert(others, place, j), True
    return order


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread, as more would only wait for each other in products so small."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
