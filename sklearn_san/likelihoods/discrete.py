"""Families with probabilities instead of densities: labels, whole numbers, point masses.

Their `log_prob` is the log of a probability where the value has one, and of a density elsewhere;
`is_mass` tells which.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor
from torch.nn import functional

from .base import Likelihood, Score, Support, check_n_components, require
from .components import Logistic, log_mass
from .mixtures import TruncatedMixtureOfLogistics

#: Lattice points that are summed over for the mean of an ordinal output.
_MOST_POINTS = 4096


class Categorical(Likelihood):
    """Probabilities of the labels that occur in one column of y; labels of any kind.

    The network sees a label as a row of zeros and a one.

    Parameters
    ----------
    n_classes : int, default=None
        Number of labels; None means as many as there are in the data.
    """

    discrete = True
    scaling = "none"

    def __init__(self, n_classes: int | None = None):
        self.n_classes = n_classes

    @property
    def n_params(self) -> int:
        if self.n_classes is None:
            raise ValueError("Categorical needs n_classes outside an estimator, got None.")
        return self.n_classes

    @property
    def n_features(self) -> int:
        return self.n_params

    def encode(self, y: Tensor) -> Tensor:
        return functional.one_hot(y.long(), self.n_params).to(y.dtype)

    def probabilities(self, raw: Tensor) -> Tensor:
        """Probability of each label, (..., n_classes)."""
        return raw.softmax(-1)

    def log_prob(self, raw: Tensor, y: Tensor, support: Support | None = None) -> Tensor:
        shape = torch.broadcast_shapes(raw.shape[:-1], y.shape)
        code = y.long().expand(shape).unsqueeze(-1)
        return raw.expand(*shape, -1).gather(-1, code).squeeze(-1) - raw.logsumexp(-1)

    def cdf(self, raw: Tensor, y: Tensor, support: Support | None = None) -> Tensor:
        shape = torch.broadcast_shapes(raw.shape[:-1], y.shape)
        cumulative = self.probabilities(raw).cumsum(-1).expand(*shape, -1)
        index = y.floor().long().expand(shape).clamp(0, self.n_params - 1)
        cdf = cumulative.gather(-1, index.unsqueeze(-1)).squeeze(-1)
        return torch.where(y < 0, 0.0, cdf).clamp(max=1.0)

    def icdf(self, raw: Tensor, u: Tensor, support: Support | None = None) -> Tensor:
        cumulative = self.probabilities(raw).cumsum(-1)
        cumulative = cumulative / cumulative[..., -1:]
        code = (u.unsqueeze(-1) > cumulative).sum(-1).clamp(max=self.n_params - 1)
        return code.to(raw.dtype)

    def sample(self, raw: Tensor, noise: Tensor, support: Support | None = None) -> Tensor:
        return self.icdf(raw, noise[..., 0], support)

    def mean(self, raw: Tensor, support: Support | None = None) -> Tensor:
        return (self.probabilities(raw) * self._codes(raw)).sum(-1)

    def variance(self, raw: Tensor, support: Support | None = None) -> Tensor:
        square = (self.probabilities(raw) * self._codes(raw).square()).sum(-1)
        return square - self.mean(raw).square()

    def guess_raw(self, y: np.ndarray) -> np.ndarray:
        counts = np.bincount(y.astype(int), minlength=self.n_params)
        return np.log((counts + 0.5) / (counts + 0.5).sum())

    def resolve(
        self, *, K: int, unit: float, origin: float = 0.0, n_classes: int | None = None
    ) -> Likelihood:
        if self.n_classes is None:
            return Categorical(n_classes)
        if n_classes not in (None, self.n_classes):
            raise ValueError(
                f"Categorical(n_classes={self.n_classes}) is for a column of y with as many "
                f"labels, but there are {n_classes}; leave n_classes out."
            )
        return clone(self)

    def _codes(self, raw: Tensor) -> Tensor:
        return torch.arange(self.n_params, dtype=raw.dtype, device=raw.device)


class Ordinal(Likelihood):
    """Whole numbers: a mixture of `K` logistics, integrated over the cell of each number.

    With spacing h, ``P(y) = F(y + h/2) - F(y - h/2)``, normalised inside `limits` where there are
    any (a count has the limits 0 and infinity).

    Parameters
    ----------
    K : int, default=None
        Number of components; None takes the estimator's `K`.
    spacing : float, default=1.0
        Distance between neighbouring values, in the units of y.
    offset : float, default=0.0
        One of the values.
    """

    bounded = True
    discrete = True
    scaling = "affine"
    cheap_moments = False
    n_noise = 2

    def __init__(self, K: int | None = None, spacing: float = 1.0, offset: float = 0.0):
        self.K = K
        self.spacing = spacing
        self.offset = offset

    @property
    def n_params(self) -> int:
        return self._continuous.n_params

    @property
    def _continuous(self) -> TruncatedMixtureOfLogistics:
        # Narrower than a fiftieth of a cell makes no difference to any probability.
        return TruncatedMixtureOfLogistics(self.K, min_scale=0.02 * self.spacing)

    def _cells(self, support: Support | None) -> Support:
        low, high = require(support)
        return Support(low - 0.5 * self.spacing, high + 0.5 * self.spacing)

    def _nearest(self, y: Tensor) -> Tensor:
        return self.offset + self.spacing * torch.round((y - self.offset) / self.spacing)

    def log_prob(self, raw: Tensor, y: Tensor, support: Support | None = None) -> Tensor:
        log_weights, (loc, log_scale) = self._continuous.components(raw)
        low, high = (
            bound.unsqueeze(-1).clamp(-1e30, 1e30) for bound in self._cells(support)
        )  # (..., 1)
        inverse = torch.exp(-log_scale)
        y, half = y.unsqueeze(-1), 0.5 * self.spacing
        kernel = Logistic()
        cell = log_mass(kernel, (y - half - loc) * inverse, (y + half - loc) * inverse)
        total = log_mass(kernel, (low - loc) * inverse, (high - loc) * inverse)
        return torch.logsumexp(log_weights + cell - total, -1).clamp(max=0.0)

    def cdf(self, raw: Tensor, y: Tensor, support: Support | None = None) -> Tensor:
        cells = self._cells(support)
        floor = self.offset + self.spacing * torch.floor((y - self.offset) / self.spacing + 1e-3)
        edge = torch.minimum(torch.maximum(floor + 0.5 * self.spacing, cells.low), cells.high)
        return self._continuous.cdf(raw, edge, cells)

    def icdf(self, raw: Tensor, u: Tensor, support: Support | None = None) -> Tensor:
        return self._inside(self._continuous.icdf(raw, u, self._cells(support)), support)

    def sample(self, raw: Tensor, noise: Tensor, support: Support | None = None) -> Tensor:
        return self._inside(self._continuous.sample(raw, noise, self._cells(support)), support)

    def _inside(self, y: Tensor, support: Support | None) -> Tensor:
        low, high = require(support)
        return torch.minimum(torch.maximum(self._nearest(y), low), high)

    def mean(self, raw: Tensor, support: Support | None = None) -> Tensor:
        return self._moments(raw, support)[0]

    def variance(self, raw: Tensor, support: Support | None = None) -> Tensor:
        return self._moments(raw, support)[1]

    def _moments(self, raw: Tensor, support: Support | None) -> tuple[Tensor, Tensor]:
        ends = torch.tensor([1e-7, 1.0 - 1e-7], dtype=raw.dtype, device=raw.device)
        low, high = require(support)
        wide = Support(low.unsqueeze(-1), high.unsqueeze(-1))
        first, last = self.icdf(raw.unsqueeze(-2), ends, wide).unbind(-1)
        n_points = int(((last.max() - first.min()) / self.spacing).round()) + 1
        if n_points > _MOST_POINTS:  # cells this much narrower than the whole do not matter
            cells = self._cells(support)
            return self._continuous.mean(raw, cells), self._continuous.variance(raw, cells)
        index = torch.arange(n_points, dtype=raw.dtype, device=raw.device)
        y = first.min() + self.spacing * index  # (n_points,)
        p = self.log_prob(raw.unsqueeze(-2), y, wide).exp()  # (..., n_points)
        p = torch.where((y < wide.low - 1e-3) | (y > wide.high + 1e-3), 0.0, p)
        p = p / p.sum(-1, keepdim=True)
        mean = (p * y).sum(-1)
        return mean, (p * (y - mean.unsqueeze(-1)).square()).sum(-1)

    def guess_raw(self, y: np.ndarray) -> np.ndarray:
        return self._continuous.guess_raw(y)

    def resolve(
        self, *, K: int, unit: float, origin: float = 0.0, n_classes: int | None = None
    ) -> Likelihood:
        return Ordinal(
            K=K if self.K is None else self.K,
            spacing=self.spacing / unit,
            offset=(self.offset - origin) / unit,
        )

    def check(self, where: str = "likelihood") -> None:
        check_n_components(self.K, f"K of {where}", optional=True)
        if not (self.spacing > 0 and math.isfinite(self.spacing)):
            raise ValueError(f"spacing of {where} must be a positive number, got {self.spacing!r}.")

    def snap(self, y: np.ndarray, limits: np.ndarray, tolerance: float) -> np.ndarray:
        return self.offset + self.spacing * np.round((y - self.offset) / self.spacing)

    def check_values(self, y: np.ndarray, where: str) -> None:
        steps = (y - self.offset) / self.spacing
        wrong = np.abs(steps - np.round(steps)) > 1e-6 * np.maximum(1.0, np.abs(steps))
        if wrong.any():
            raise ValueError(
                f"y has the value {y[wrong][0]:g} in {where}, which is not {self.offset:g} plus a "
                f"multiple of {self.spacing:g}; set the spacing and offset of Ordinal, or use a "
                "continuous likelihood."
            )


class Inflated(Likelihood):
    """A point mass at one value, and a continuous family for all others.

    Parameters
    ----------
    base : Likelihood
        The continuous family.
    at : {"low", "high"} or float, default="low"
        Where the mass sits: at the lower or upper limit of the output, or at a value in the
        units of y.

    Examples
    --------
    >>> from sklearn_san.likelihoods import Inflated, TruncatedMixtureOfGaussians
    >>> Inflated(TruncatedMixtureOfGaussians(K=5), at=0.0)
    Inflated(at=0.0, base=TruncatedMixtureOfGaussians(K=5))
    """

    scaling = "affine"

    def __init__(self, base: Likelihood, at: Any = "low"):
        self.base = base
        self.at = at

    @property
    def bounded(self) -> bool:  # type: ignore[override]
        return self.base.bounded

    @property
    def needs_both_limits(self) -> bool:  # type: ignore[override]
        return self.base.needs_both_limits

    @property
    def n_noise(self) -> int:  # type: ignore[override]
        return 1 + self.base.n_noise

    @property
    def n_params(self) -> int:
        return 1 + self.base.n_params

    def _point(self, like: Tensor, support: Support | None) -> Tensor:
        if isinstance(self.at, str):
            low, high = require(support)
            return low if self.at == "low" else high
        return torch.as_tensor(self.at, dtype=like.dtype, device=like.device)

    @property
    def cheap_moments(self) -> bool:  # type: ignore[override]
        return self.base.cheap_moments

    def snap(self, y: np.ndarray, limits: np.ndarray, tolerance: float) -> np.ndarray:
        point = limits[int(self.at == "high")] if isinstance(self.at, str) else self.at
        return np.where(np.abs(y - point) <= tolerance, point, y)

    def is_mass(self, y: Tensor, support: Support | None = None) -> Tensor:
        point = self._point(y, support)
        return (y - point).abs() <= 1e-6 * point.abs().clamp_min(1.0)

    def log_prob(self, raw: Tensor, y: Tensor, support: Support | None = None) -> Tensor:
        base = self.base.log_prob(raw[..., 1:], y, support)
        rest = functional.logsigmoid(-raw[..., 0]) + base
        return torch.where(self.is_mass(y, support), functional.logsigmoid(raw[..., 0]), rest)

    def cdf(self, raw: Tensor, y: Tensor, support: Support | None = None) -> Tensor:
        mass = torch.sigmoid(raw[..., 0])
        reached = (y >= self._point(y, support)) | self.is_mass(y, support)
        return (1.0 - mass) * self.base.cdf(raw[..., 1:], y, support) + mass * reached

    def icdf(self, raw: Tensor, u: Tensor, support: Support | None = None) -> Tensor:
        mass = torch.sigmoid(raw[..., 0])
        point = self._point(raw, support)
        below = (1.0 - mass) * self.base.cdf(raw[..., 1:], point.expand(mass.shape), support)
        rest = torch.where(u > below, u - mass, u) / (1.0 - mass)
        eps = torch.finfo(u.dtype).eps
        y = self.base.icdf(raw[..., 1:], rest.clamp(eps, 1.0 - eps), support)
        return torch.where((u > below) & (u <= below + mass), point, y)

    def sample(self, raw: Tensor, noise: Tensor, support: Support | None = None) -> Tensor:
        y = self.base.sample(raw[..., 1:], noise[..., 1:], support)
        at_point = noise[..., 0] < torch.sigmoid(raw[..., 0])
        return torch.where(at_point, self._point(y, support), y)

    def rsample(self, raw: Tensor, noise: Tensor, support: Support | None = None) -> Tensor:
        y = self.base.rsample(raw[..., 1:], noise[..., 1:], support)
        at_point = noise[..., 0] < torch.sigmoid(raw[..., 0])
        return torch.where(at_point, self._point(y, support), y)

    def mean(self, raw: Tensor, support: Support | None = None) -> Tensor:
        mass = torch.sigmoid(raw[..., 0])
        mean = self.base.mean(raw[..., 1:], support)
        return (1.0 - mass) * mean + mass * self._point(raw, support)

    def variance(self, raw: Tensor, support: Support | None = None) -> Tensor:
        mass = torch.sigmoid(raw[..., 0])
        gap = self.base.mean(raw[..., 1:], support) - self._point(raw, support)
        within = (1.0 - mass) * self.base.variance(raw[..., 1:], support)
        return within + mass * (1.0 - mass) * gap.square()

    def guess_raw(self, y: np.ndarray) -> np.ndarray:
        return np.concatenate([[0.0], self.base.guess_raw(y)])

    def initial_raw(
        self,
        y: np.ndarray,
        sample_weight: np.ndarray | None = None,
        support: Support | None = None,
        *,
        score: Score | None = None,
    ) -> np.ndarray:
        """As of any family; `score` is that of the base."""
        at_point = self.is_mass(torch.as_tensor(y), support).numpy()
        if at_point.all():
            raise ValueError("Inflated: every value of y is at the point mass.")
        rest = Support(*(b[~at_point] if b.ndim else b for b in support)) if support else None
        weight = None if sample_weight is None else sample_weight[~at_point]
        options: dict[str, Any] = {} if score is None else {"score": score}
        base = self.base.initial_raw(y[~at_point], weight, rest, **options)
        share = np.clip(np.average(at_point, weights=sample_weight), 1e-4, 1.0 - 1e-4)
        return np.concatenate([[math.log(share / (1.0 - share))], base])

    def resolve(
        self, *, K: int, unit: float, origin: float = 0.0, n_classes: int | None = None
    ) -> Likelihood:
        at = self.at if isinstance(self.at, str) else (self.at - origin) / unit
        return Inflated(self.base.resolve(K=K, unit=unit, origin=origin), at)

    def check(self, where: str = "likelihood") -> None:
        if not isinstance(self.base, Likelihood) or self.base.discrete:
            raise TypeError(f"base of {where} must be a continuous family, got {self.base!r}.")
        if isinstance(self.at, str) and self.at not in ("low", "high"):
            raise ValueError(f"at of {where} must be 'low', 'high' or a number, got {self.at!r}.")
        if isinstance(self.at, str) and not self.base.bounded:
            raise ValueError(
                f"at={self.at!r} of {where} needs limits and a bounded base, got {self.base!r}; "
                "give the value itself."
            )
        self.base.check(where)
