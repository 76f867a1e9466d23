"""A good autoregressive order of the outputs, found by a pilot network and short fits.

By the chain rule every order writes the same density; they differ in how well networks learn its
factors. The pilot is one small network that predicts each output from x and any subset S of the
others, as a Gaussian mixture with loss L(j | S). On rows that it has not seen,

    G[j, k] = mean over S of  L(k | S) - L(k | S, j)

is what output k gains in nats if j is known, and A[j, k] = G[k, j] - G[j, k] what it costs to have
j before k: 0 for the exact densities. The order of the least sum of A over all pairs is tried: the
network itself is fitted in this order for a few epochs. Its loss of each output d is taken as

    c[d] - sum over j before d of G[j, d]

and G, from that of the pilot on, fitted to these by ridge regression, which gives the next order to
try. The best one tried is taken, unless the order as given, tried last, is about as good. Where
there is no time for short fits, that of the pilot is taken if it is much better by its costs.

===================  =======================================================================
`settle_order`       the order of rows that were read, if it is left to us
`auto_order`         the order for arrays
`pair_gains`         G from a pilot
`tried_order`        the best of orders that were tried
`least_cost_order`   the order of the least sum
===================  =======================================================================

Values are replaced by normal scores of their ranks, so that units, tails and labels do not matter
to the pilot; columns are put in an order by these scores first, so that shuffled columns end in the
same order. The seed is always the same: fits to the same rows with other seeds have the same order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from scipy.special import ndtri
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from ._linear_base import AUTO_THRESHOLD
from ._schema import Block, Reader
from ._targets import check_gaps, check_missing_targets

#: Fewer rows than this decide nothing; of more than the second number a random part is used.
MIN_ROWS, MAX_ROWS = 5000, 10_000
#: Share of these that is held out.
HELD = 0.2
#: Fewer or more outputs stay as given; up to the last number the best order is found exactly.
MIN_OUTPUTS, MAX_OUTPUTS, MAX_EXACT = 3, 64, 10
#: Gain over the order as given, in nats, below which that is kept: by the pilot, by short fits.
MIN_GAIN, MIN_TRIED_GAIN = 0.4, 0.1
#: Outputs' ridge on what is added to the pilot's gains; noise that brings orders not tried before.
GAIN_RIDGE, NOISE = 1.0, 0.01
#: Rows by whose scores columns are put in order.
KEY_ROWS = 64
#: Of a categorical feature as many categories are told apart.
MAX_CATEGORIES = 16
#: The pilot: hidden layers and their width, components.
LAYERS, WIDTH, COMPONENTS = 3, 128, 5
#: Its training: passes over the rows, most steps and these for each output, rows of a step, rate.
PASSES, MAX_STEPS, STEPS_OF_OUTPUT, BATCH, RATE = 25, 400, 90, 256, 0.005
#: Subsets in each step; what is added to variances of the base.
SETS, RIDGE = 16, 1e-4
#: Subsets of the outputs, and rows for each, that estimate the costs.
SUBSETS, ROWS_OF_SUBSET = 128, 128

#: Losses of the outputs (n_outputs,) in nats by a short fit in an order of these (n_outputs,).
Trial = Callable[[np.ndarray], np.ndarray]
#: How many short fits there is time for, and these, of rows that were read.
Trials = Callable[[Reader, Block], tuple[int, Trial]]


def settle_order(reader: Reader, sample: Block, trials: Trials) -> Block:
    """Choose the order of what was read, if part of it is automatic; the rows in that order.

    Parameters
    ----------
    reader : Reader
        That has read all rows; its schema and what it knows of outputs are put in order.
    sample : Block
        Rows of these.
    trials : callable
    """
    n_first = reader.n_settled
    if n_first >= sample.y.shape[1]:
        return sample
    n_categories = reader.schema.n_categories
    tried = trials(reader, sample)
    place = auto_order(sample.X, sample.y, n_first, reader.n_missing, n_categories, *tried)
    place = reader.ranks.first("the order of the outputs", place)
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
    n_trials: int = 0,
    trial: Trial | None = None,
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
    n_trials : int, default=0
        How many orders to try.
    trial : callable, default=None
    """
    n_outputs = y.shape[1]
    levels = np.zeros(n_outputs) if n_missing is None else n_missing
    first, rest = np.split(np.arange(n_outputs), [n_first])
    given = rest[np.argsort(levels[rest], kind="stable")]
    largest = np.unique(levels[rest], return_counts=True)[1].max()
    if len(y) < MIN_ROWS or not MIN_OUTPUTS <= largest <= MAX_OUTPUTS:
        return np.concatenate([first, given])
    random = np.random.default_rng(0)
    rows = random.permutation(len(y))[:MAX_ROWS]
    scores = normal_scores(y[rows], random)
    known = np.nan_to_num(scores[:, first])
    x = np.concatenate([features(X[rows], n_categories, random), known], axis=1)
    if not x.shape[1]:  # all of X goes through encoders
        x = np.zeros((len(rows), 1))
    rest = rest[keyed(scores[:, rest])]
    rest = rest[np.argsort(levels[rest], kind="stable")]
    gains = pair_gains(x, scores[:, rest], random)
    place = np.argsort(rest)[np.searchsorted(np.sort(rest), given)]  # of those given, in `rest`

    def losses(order: np.ndarray) -> np.ndarray:
        """Of the outputs in `rest`."""
        assert trial is not None
        return trial(np.concatenate([first, rest[order]]))[rest]

    best = tried_order(gains, levels[rest], place, n_trials, losses, random)
    return np.concatenate([first, rest[best]])


def keyed(scores: np.ndarray) -> np.ndarray:
    """Order (n_columns,) of columns (n_rows, n_columns) by their values, wherever they stand."""
    return np.lexsort(scores[:KEY_ROWS][::-1])


def normal_scores(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Normal scores of the ranks of each column (n_rows, n_columns); ties in random order."""
    shuffled = random.permutation(len(values))
    place = np.argsort(shuffled)
    ranks = np.argsort(np.argsort(values[shuffled], axis=0, kind="stable"), axis=0)[place]
    observed = ~np.isnan(values)  # missing ones come last
    levels = (ranks + 0.5) / np.maximum(observed.sum(axis=0), 1)
    return np.where(observed, ndtri(np.where(observed, levels, 0.5)), np.nan)


def features(
    X: np.ndarray, n_categories: list[int | None] | None, random: np.random.Generator
) -> np.ndarray:
    """Inputs of the pilot for x, (n_rows, n_inputs): scores, missing values, categories."""
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


class Base:
    """Least squares of each output on x and any subset of the others.

    Networks start from such a base, so that linear dependence costs them nothing in any order.

    Parameters
    ----------
    x : ndarray of shape (n_rows, n_inputs)
    y : ndarray of shape (n_rows, n_outputs)
        Complete, of variance 1.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray):
        ridge = Ridge(alpha=1.0).fit(x, y)
        self.coef, self.intercept = ridge.coef_.reshape(y.shape[1], -1), ridge.intercept_
        residual = y - self.location(x)
        self.cov = residual.T @ residual / len(y) + RIDGE * np.eye(y.shape[1])

    def location(self, x: np.ndarray) -> np.ndarray:
        """Prediction from x alone, (n_rows, n_outputs)."""
        return np.asarray(x @ self.coef.T + self.intercept)

    def given(self, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is added to it for each unit of a residual, and the scale that is left.

        Of outputs of which the base leaves too much, as the network has none, both stand for none.

        Parameters
        ----------
        known : ndarray of bool of shape (n_outputs,)

        Returns
        -------
        slope : ndarray of shape (n_outputs, n_outputs)
        scale : ndarray of shape (n_outputs,)
        """
        slope = np.zeros_like(self.cov)
        slope[known] = np.linalg.solve(self.cov[np.ix_(known, known)], self.cov[known])
        scale = np.sqrt(np.maximum(np.diag(self.cov) - (self.cov * slope).sum(axis=0), RIDGE))
        return slope, np.where(scale < AUTO_THRESHOLD, scale, 1.0)


class Pilot:
    """A network that predicts each output from x and any subset of the others.

    Parameters
    ----------
    x : ndarray of shape (n_rows, n_inputs)
        All rows, of which the first `n_held` are not learned from.
    y : ndarray of shape (n_rows, n_outputs)
        Normal scores; nan where values are missing.
    n_held : int
    random : numpy.random.Generator
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, n_held: int, random: np.random.Generator):
        self.n_outputs, self.n_held, self.n_rows, self.random = y.shape[1], n_held, len(y), random
        complete = np.nan_to_num(y)
        self.base = Base(x[n_held:], complete[n_held:])
        location = self.base.location(x)
        parts = (x, complete, ~np.isnan(y), location, complete - location)
        self.x, self.y, self.observed, self.location, self.residual = (
            torch.as_tensor(part, dtype=torch.float32) for part in parts
        )
        self.residual *= self.observed
        widths = [x.shape[1] + 2 * self.n_outputs] + [WIDTH] * LAYERS
        widths.append(3 * COMPONENTS * self.n_outputs)
        self.shapes = list(zip(widths[1:], widths[:-1], strict=True))
        weights = []
        for n_out, n_in in self.shapes:
            uniform = random.uniform(-1.0, 1.0, n_out * n_in) / math.sqrt(n_in)
            weights += [uniform, np.zeros(n_out)]
        #: All weights, (n_weights,)
        self.theta = torch.as_tensor(np.concatenate(weights), dtype=torch.float32).requires_grad_()
        self.locs = torch.linspace(-1.0, 1.0, COMPONENTS, dtype=torch.float32)

    def loss(self, rows: np.ndarray, known: np.ndarray) -> Tensor:
        """Negative log density of each output in nats, up to a constant.

        Parameters
        ----------
        rows : ndarray of shape (n_sets, n_rows)
        known : ndarray of bool of shape (n_sets, n_outputs)
            Outputs that are inputs, for all rows of a set.

        Returns
        -------
        Tensor of shape (n_sets, n_rows, n_outputs)
            0 for missing values.
        """
        index = torch.from_numpy(rows)
        x, y, observed = self.x[index], self.y[index], self.observed[index]
        mask = torch.as_tensor(known, dtype=torch.float32)[:, None] * observed
        slopes, scales = zip(*map(self.base.given, known), strict=True)
        slope = torch.as_tensor(np.stack(slopes), dtype=torch.float32)
        scale = torch.as_tensor(np.stack(scales), dtype=torch.float32)[:, None]  # (sets, 1, d)
        location = self.location[index] + self.residual[index] @ slope
        y_left = torch.where(scale < 1.0, y - location, y) / scale
        h, start = torch.cat([x, y * mask, mask], dim=-1).flatten(0, 1), 0
        for layer, (n_out, n_in) in enumerate(self.shapes):
            part = self.theta[start : start + n_out * (n_in + 1)]
            weight, bias = part.split([n_out * n_in, n_out])
            h = nn.functional.linear(h, weight.view(n_out, n_in), bias)
            start += n_out * (n_in + 1)
            if layer < LAYERS:
                h = nn.functional.silu(nn.functional.layer_norm(h, (n_out,)))
        logits, loc, log_scale = h.view(*y.shape, 3, COMPONENTS).unbind(-2)
        log_scale = log_scale.clamp(-7.0, 4.0) - 0.5
        z = (y_left[..., None] - loc - self.locs) * torch.exp(-log_scale)
        log_prob = torch.log_softmax(logits, -1) - log_scale - 0.5 * z**2  # (sets, rows, d, K)
        return (torch.log(scale) - torch.logsumexp(log_prob, -1)) * observed

    def fit(self) -> Pilot:
        """Train by Adam with a one-cycle rate, on subsets of all sizes alike."""
        mean, square = torch.zeros_like(self.theta), torch.zeros_like(self.theta)
        d = self.n_outputs
        passes = PASSES * (self.n_rows - self.n_held) // BATCH
        n_steps = min(MAX_STEPS, STEPS_OF_OUTPUT * d, passes)
        for step in range(n_steps):
            rows = self.random.integers(self.n_held, self.n_rows, size=(SETS, BATCH // SETS))
            n_known = self.random.integers(d, size=(SETS, 1))
            known = self.random.random((SETS, d)).argsort(axis=1) < n_known
            share = torch.as_tensor(~known * (d / (d - n_known)) / BATCH, dtype=torch.float32)
            loss = (share[:, None] * self.loss(rows, known)).sum()
            (gradient,) = torch.autograd.grad(loss, self.theta)
            with torch.no_grad():
                mean.lerp_(gradient, 0.1)
                square.lerp_(gradient**2, 0.01)
                unbiased = mean / (1.0 - 0.9 ** (step + 1))
                spread = (square / (1.0 - 0.99 ** (step + 1))).sqrt() + 1e-8
                phase = (step + 1) / n_steps
                rate = RATE * min(phase / 0.3, 0.5 + 0.5 * math.cos(math.pi * (phase - 0.3) / 0.7))
                self.theta -= rate * unbiased / spread
        return self


def pair_gains(x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """What output k gains in nats if j is known, (n_outputs, n_outputs), from a pilot.

    Parameters
    ----------
    x : ndarray of shape (n_rows, n_inputs)
    y : ndarray of shape (n_rows, n_outputs)
        Normal scores; nan where values are missing.
    random : numpy.random.Generator
    """
    d, n_held = y.shape[1], round(HELD * len(y))
    gain, count = np.zeros((d, d)), np.zeros((d, d))
    with one_thread():
        pilot = Pilot(x, y, n_held, random).fit()
        for _ in range(SUBSETS):
            rest = np.sort(random.permutation(d)[random.integers(d - 1) :])
            known = np.ones((len(rest) + 1, d), dtype=bool)
            known[:, rest] = False
            known[np.arange(len(rest)) + 1, rest] = True
            rows = np.tile(random.integers(n_held, size=ROWS_OF_SUBSET), (len(known), 1))
            with torch.no_grad():
                mean = pilot.loss(rows, known).mean(1).double().numpy()[:, rest]
            gain[np.ix_(rest, rest)] += mean[0] - mean[1:]  # of k if j is known
            count[np.ix_(rest, rest)] += 1.0
    gain /= np.maximum(count, 1.0)
    np.fill_diagonal(gain, 0.0)
    return gain


def tried_order(
    gains: np.ndarray,
    levels: np.ndarray,
    given: np.ndarray,
    n_trials: int,
    losses_of: Trial,
    random: np.random.Generator,
) -> np.ndarray:
    """The best of orders that were tried, (n,); without trials that of the pilot.

    Parameters
    ----------
    gains : ndarray of shape (n, n)
        From the pilot.
    levels : ndarray of shape (n,)
        In rising order; outputs stay among those of the same level.
    given : ndarray of shape (n,)
        The order as given.
    n_trials : int
        Short fits, with that of the order as given.
    losses_of : callable
    random : numpy.random.Generator
    """
    if n_trials < 2:
        costs = gains.T - gains
        best = least_cost_order(costs, levels)
        return best if cost_of(costs, best) < cost_of(costs, given) - MIN_GAIN else given
    sizes = np.unique(levels, return_counts=True)[1]
    n_orders = math.prod(math.factorial(min(int(size), 10)) for size in sizes)
    tried: list[np.ndarray] = []
    losses: list[np.ndarray] = []
    for _ in range(min(n_trials - 1, n_orders)):
        tried.append(_next_order(fitted_gains(gains, tried, losses), levels, tried, random))
        losses.append(losses_of(tried[-1]))
    totals = [loss.sum() for loss in losses]
    best = tried[int(np.argmin(totals))]
    is_given = [bool((order == given).all()) for order in tried]
    loss_of_given = totals[is_given.index(True)] if any(is_given) else losses_of(given).sum()
    return best if min(totals) < loss_of_given - MIN_TRIED_GAIN else given


def fitted_gains(
    gains: np.ndarray, tried: Sequence[np.ndarray], losses: Sequence[np.ndarray]
) -> np.ndarray:
    """Gains (n, n) near those of the pilot that explain the losses (n,) of orders (n,)."""
    if len(tried) < 2:
        return gains
    place = np.argsort(np.stack(tried), axis=1)
    before = (place[:, :, None] < place[:, None]).astype(float)  # (n_tried, j, d): j before d
    loss, fitted = np.stack(losses), gains.copy()
    for d in range(len(gains)):
        left = loss[:, d] + before[:, :, d] @ gains[:, d]
        known = before[:, :, d] - before[:, :, d].mean(axis=0)
        gram = known @ known.T + GAIN_RIDGE * np.eye(len(tried))
        fitted[:, d] -= known.T @ np.linalg.solve(gram, left - left.mean())
    return fitted


def _next_order(
    gains: np.ndarray,
    levels: np.ndarray,
    tried: Sequence[np.ndarray],
    random: np.random.Generator,
) -> np.ndarray:
    """The order of least costs, with more and more noise until it was not tried before."""
    noise = 0.0
    while True:
        noisy = gains + noise * random.normal(size=gains.shape)
        order = least_cost_order(noisy.T - noisy, levels)
        if not any((order == one).all() for one in tried):
            return order
        noise = 1.2 * noise or NOISE


def least_cost_order(costs: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Order of the least sum of costs (n, n) over all pairs of the same level (n,), rising."""
    best = []
    for group in np.split(np.arange(len(costs)), np.flatnonzero(np.diff(levels)) + 1):
        own = costs[np.ix_(group, group)]
        best.append(group[_exact_order(own) if len(group) <= MAX_EXACT else _local_order(own)])
    return np.concatenate(best)


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
