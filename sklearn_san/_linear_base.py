"""Where training starts: the least-squares base of each output, and its marginal density.

Each output is regressed on the features and the outputs before it, by ridge regression whose
penalty is chosen by leave-one-out error, so that few rows, collinear or constant columns do no
harm. The scale of the residual is its leave-one-out root mean square, which an overfitted
regression cannot make small. With fewer rows than `FEW_ROWS` the penalty has a lower bound, a
proper prior of the coefficients, and residuals are taken, the more the fewer rows there are, for
values of a Student's t, which is what a normal distribution of unknown scale predicts.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student
from sklearn.linear_model import RidgeCV
from torch import Tensor

from ._network import LinearBase
from .compiled.jit import unavailable
from .compiled.mixtures import mean_log_prob
from .likelihoods import (
    Inflated,
    Likelihood,
    MixtureOfGaussians,
    Support,
    TruncatedMixtureOfGaussians,
)
from .likelihoods.base import MARGINAL_POINTS
from .likelihoods.mixtures import log_floor_of

#: A base is used where it leaves less than this share of the output's standard deviation.
AUTO_THRESHOLD = 0.5
#: With fewer rows than these the same is so below this share, and penalties start at this one.
FEW_ROWS, FEW_THRESHOLD, FEW_PENALTY = 100, 0.95, 1.0
#: More rows than this do not change a linear fit.
MAX_ROWS = 50_000


def fit_linear_base(
    x: np.ndarray,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    mode: bool | str,
    families: list[Likelihood],
) -> tuple[LinearBase, np.ndarray]:
    """Fit the base of every output.

    Parameters
    ----------
    x : ndarray of shape (n_samples, n_features)
        Scaled features of the training rows.
    y : ndarray of shape (n_samples, n_outputs)
        Scaled targets, in autoregressive order; nan where the last ones are missing.
    sample_weight : ndarray of shape (n_samples,) or None
    mode : bool or "auto"
        For all outputs, for none, or where it helps.
    families : list of Likelihood
        Outputs whose family has special values get no base; labels explain none.

    Returns
    -------
    base : LinearBase
    residual : ndarray of shape (n_samples, n_outputs)
        What the blocks have to model, in units of each output's scale: of each row from a fit to
        the others, since a fit to few rows leaves next to nothing of its own.
    """
    n_features, n_outputs = x.shape[1], y.shape[1]
    weight_x, weight_y = np.zeros((n_outputs, n_features)), np.zeros((n_outputs, n_outputs))
    intercept, scale = np.zeros(n_outputs), np.ones(n_outputs)
    used = np.zeros(n_outputs, dtype=bool)
    rows = slice(None, None, -(-len(x) // MAX_ROWS))
    weight = None if sample_weight is None else sample_weight[rows]
    inflation = np.ones(y.shape)  # of residuals, where the row itself is left out
    for d in range(n_outputs):
        if mode is False or families[d].scaling != "free":
            continue
        numbers = [j for j in range(d) if families[j].scaling != "none"]
        complete = ~np.isnan(y[rows, : d + 1]).any(axis=1)
        inputs = np.concatenate([x, y[:, numbers]], axis=1)[rows][complete]
        target = y[rows, d][complete]
        own = None if weight is None else weight[complete]
        few = len(target) < FEW_ROWS
        alphas = np.logspace(-6, 4, 11)
        ridge = RidgeCV(alphas=alphas[alphas >= FEW_PENALTY] if few else alphas)
        ridge.fit(inputs, target, own)
        spread = _mean_square(target, own)
        left = np.sqrt(-ridge.best_score_ / spread)
        used[d] = mode is True or left < (FEW_THRESHOLD if few else AUTO_THRESHOLD)
        if used[d]:
            weight_x[d], weight_y[d, numbers] = np.split(ridge.coef_, [n_features])
            intercept[d] = ridge.intercept_
            if few:  # which leave-one-out may have made too small by chance
                left = np.sqrt((len(target) * left**2 + 1.0) / (len(target) + 1.0))
            scale[d] = max(left, 1e-6) * np.sqrt(spread)
            if len(x) <= MAX_ROWS:
                leverage = _leverage(inputs, own, ridge.alpha_)
                inflation[complete, d] = 1.0 / np.maximum(1.0 - leverage, 1e-12)
    location = x @ weight_x.T + np.nan_to_num(y) @ weight_y.T + intercept
    residual = inflation * (y - location) / scale
    return LinearBase(weight_x, weight_y, intercept, scale, used), residual


def optimism_of(base: LinearBase, x: np.ndarray, y: np.ndarray, residual: np.ndarray) -> float:
    """Nats per row by which residuals of the rows fitted to are too small, of all outputs."""
    location = base.location(torch.from_numpy(x), torch.from_numpy(np.nan_to_num(y))).numpy()
    own = (y - location) / base.scale.numpy()
    squares = (np.maximum(np.nanmean(r**2, axis=0), 1e-12) for r in (residual, own))
    ratio = np.divide(*squares)[base.used]
    return float(0.5 * np.log(np.maximum(ratio, 1.0)).sum())


def match_marginals(
    families: list[Likelihood],
    limits: np.ndarray,
    base: LinearBase,
    y: np.ndarray,
    residual: np.ndarray,
    sample_weight: np.ndarray | None,
) -> list[np.ndarray]:
    """Raw parameters with which each family matches the marginal distribution of its residual.

    Parameters
    ----------
    families : list of Likelihood
        Resolved, one per output.
    limits : ndarray of shape (n_outputs, 2)
        In scaled units, like `y`.
    base, residual
        From `fit_linear_base`.
    """
    matched = []
    for d, family in enumerate(families):
        support = None
        if family.bounded:
            scale = base.scale[d].item()
            low, high = ((limits[d][:, None] - y[:, d]) / scale + residual[:, d]).astype(float)
            support = Support(torch.from_numpy(low), torch.from_numpy(high))
        observed = ~np.isnan(residual[:, d])
        if support is not None:
            support = Support(support.low[observed], support.high[observed])
        weight = None if sample_weight is None else sample_weight[observed]
        values = residual[observed, d]
        if family.scaling == "free" and len(values) < FEW_ROWS:
            values, weight, support = _widened(values, weight, support)
        options: dict[str, Any] = {}
        scored = family.base if isinstance(family, Inflated) else family
        is_known = type(scored) in (MixtureOfGaussians, TruncatedMixtureOfGaussians)
        if is_known and unavailable() is None:
            options["score"] = partial(_score, log_floor_of(scored.get_params()["min_scale"]))
        matched.append(family.initial_raw(values, weight, support, **options))
    return matched


def _score(
    log_floor: float, raw: np.ndarray, values: Tensor, support: Support | None
) -> tuple[float, np.ndarray]:
    """A `likelihoods.base.Score` of mixtures of Gaussians, by a kernel."""
    y, slope = values.numpy(), np.empty(len(raw))
    bounds = (values, values) if support is None else (b.expand(len(y)) for b in support)
    low, high = (np.ascontiguousarray(bound.numpy()) for bound in bounds)
    mean = mean_log_prob(raw, y, low, high, support is not None, log_floor, slope)
    return mean, slope


def _widened(
    values: np.ndarray, sample_weight: np.ndarray | None, support: Support | None
) -> tuple[np.ndarray, np.ndarray, Support | None]:
    """Few values, their weights and supports, with quantiles of what they predict in their midst.

    That is a Student's t with one value of variance 1 as a prior of the scale. It has all of the
    weight up to 20 values, and none from `FEW_ROWS` on.
    """
    n = len(values)
    weight = np.full(n, 1.0 / n) if sample_weight is None else sample_weight / sample_weight.sum()
    centre = weight @ values * n / (n + 1.0)
    variance = (n * (weight @ (values - centre) ** 2) + 1.0) / n
    levels = (np.arange(MARGINAL_POINTS) + 0.5) / MARGINAL_POINTS
    scale = np.sqrt((1.0 + 1.0 / n) * variance)
    wide = student.ppf(levels, max(1.0, 0.5 * (n - 1.0)), centre, scale)
    share = np.clip((FEW_ROWS - n) / (FEW_ROWS - 20.0), 0.0, 1.0)
    if support is not None:
        rows = torch.arange(len(wide)) % n
        bounds = (support.low[rows], support.high[rows])
        inside = (wide > bounds[0].numpy()) & (wide < bounds[1].numpy())
        if not inside.any():
            return values, weight, support
        wide = wide[inside]
        support = Support(*(
            torch.cat([own, other[torch.from_numpy(inside)]])
            for own, other in zip(support, bounds, strict=True)
        ))  # fmt: skip
    joint = np.concatenate([(1.0 - share) * weight, np.full(len(wide), share / len(wide))])
    return np.concatenate([values, wide]), joint, support


def _leverage(inputs: np.ndarray, sample_weight: np.ndarray | None, alpha: float) -> np.ndarray:
    """Share of each row in its own prediction by ridge regression with an intercept [1]_; (n,).

    References
    ----------
    .. [1] Hastie, Tibshirani and Friedman (2009), The elements of statistical learning, 7.10.
    """
    weight = np.ones(len(inputs)) if sample_weight is None else sample_weight
    centred = inputs - np.average(inputs, axis=0, weights=weight)
    normal = (weight[:, None] * centred).T @ centred + alpha * np.eye(inputs.shape[1])
    own = np.einsum("ij,ij->i", centred, np.linalg.solve(normal, centred.T).T)
    return weight * (own + 1.0 / weight.sum())


def _mean_square(values: np.ndarray, sample_weight: np.ndarray | None) -> float:
    """Weighted variance."""
    centre = np.average(values, weights=sample_weight)
    return float(np.average((values - centre) ** 2, weights=sample_weight))
