"""The interface of a one-dimensional likelihood family, and what all families share.

A family maps the *raw* (unconstrained) numbers that a network block returns to a normalised density
``p(y | raw)``; it owns no weights. Shapes: `raw` is ``(..., n_params)``; `y`, and the bounds of a
`Support`, broadcast against ``(...)``. Everything is in the units in which the network models an
output.
"""

from __future__ import annotations

import inspect
import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, clone
from torch import Tensor

from .._constants import NUMBERS

#: Floor of a component's scale when the user gives none, in units of the modelled quantity's
#: standard deviation.
DEFAULT_MIN_SCALE = 1e-5
#: Values to which a family is matched before training.
MARGINAL_POINTS = 512
#: Pull of that match towards the guess, as a precision of each raw parameter.
PULL = 3.0


class Support(NamedTuple):
    """Bounds between which a density lives; tensors that broadcast against `y`."""

    low: Tensor
    high: Tensor


#: Mean log density of values with raw parameters ``(n_params,)``, and its slope by these.
Score = Callable[[np.ndarray, Tensor, Support | None], tuple[float, np.ndarray]]


class Likelihood(BaseEstimator):
    """Interface of a one-dimensional family; parameters follow scikit-learn's conventions.

    A subclass sets `n_params` and, where they differ, `bounded` and `n_noise`, and implements
    `log_prob`, `cdf`, `icdf`, `sample`, `mean`, `variance` and `guess_raw`.

    Attributes
    ----------
    n_params : int
        Number of raw parameters.
    bounded : bool
        Whether the family needs a `Support`; families that do not must not be given one.
    needs_both_limits : bool
        Whether both bounds of that support must be finite.
    discrete : bool
        Whether `log_prob` is the log of a probability, not of a density.
    scaling : {"free", "affine", "none"}
        Which scalers of y the family stands: any, linear ones, or none.
    cheap_moments : bool
        Whether `mean` and `variance` are worth more than quasi-random draws.
    n_noise : int
        Uniform numbers that one draw consumes.
    """

    bounded: bool = False
    needs_both_limits: bool = False
    discrete: bool = False
    scaling: str = "free"
    cheap_moments: bool = True
    n_noise: int = 1

    @property
    @abstractmethod
    def n_params(self) -> int:
        """Number of raw parameters."""

    @property
    def log_scales(self) -> slice:
        """Raw parameters that are log scales; none where there are no scales."""
        return slice(0, 0)

    @property
    def n_features(self) -> int:
        """Numbers by which later blocks see a value of this family."""
        return 1

    def encode(self, y: Tensor) -> Tensor:
        """What later blocks see of the values y (...); shape (..., n_features)."""
        return y.unsqueeze(-1)

    def is_mass(self, y: Tensor, support: Support | None = None) -> Tensor:
        """Whether `log_prob` at y is the log of a probability; shape of y."""
        return torch.full_like(y, self.discrete, dtype=torch.bool)

    def snap(self, y: np.ndarray, limits: np.ndarray, tolerance: float) -> np.ndarray:
        """Values y in their own units, with special ones freed from rounding errors.

        Parameters
        ----------
        y : ndarray
            Of any shape.
        limits : ndarray of shape (2,)
        tolerance : float
            Largest rounding error.
        """
        return y

    def check_values(self, y: np.ndarray, where: str) -> None:
        """Raise if the values y (n,), in their own units, have no probability at all."""

    @abstractmethod
    def log_prob(self, raw: Tensor, y: Tensor, support: Support | None = None) -> Tensor:
        """Log density in nats, per unit of `y`; `y` must lie inside the support.

        Parameters
        ----------
        raw : Tensor of shape (..., n_params)
        y : Tensor of shape (...)
        support : Support or None

        Returns
        -------
        Tensor of shape (...)
        """

    @abstractmethod
    def cdf(self, raw: Tensor, y: Tensor, support: Support | None = None) -> Tensor:
        """Probability of a value of at most `y`; shapes as in `log_prob`."""

    @abstractmethod
    def icdf(self, raw: Tensor, u: Tensor, support: Support | None = None) -> Tensor:
        """Value below which lies the probability `u`, strictly between 0 and 1."""

    @abstractmethod
    def sample(self, raw: Tensor, noise: Tensor, support: Support | None = None) -> Tensor:
        """One draw for each row of uniform `noise`, ``(..., n_noise)``, strictly inside (0, 1)."""

    @abstractmethod
    def mean(self, raw: Tensor, support: Support | None = None) -> Tensor:
        """Expectation; shape (...)."""

    @abstractmethod
    def variance(self, raw: Tensor, support: Support | None = None) -> Tensor:
        """Variance; shape (...)."""

    @abstractmethod
    def guess_raw(self, y: np.ndarray) -> np.ndarray:
        """Raw parameters, ``(n_params,)``, of a rough density of the sorted values `y`."""

    def initial_raw(
        self,
        y: np.ndarray,
        sample_weight: np.ndarray | None = None,
        support: Support | None = None,
        *,
        score: Score | None = None,
    ) -> np.ndarray:
        """Raw parameters whose density matches the marginal distribution of `y`.

        Maximum likelihood from `guess_raw`, on at most `MARGINAL_POINTS` quantiles, with a weak
        pull towards the guess so that repeated values do not become spikes.

        Parameters
        ----------
        y : ndarray of shape (n_samples,)
        sample_weight : ndarray of shape (n_samples,), default=None
        support : Support, default=None
            With bounds of shape (n_samples,) or ().
        score : callable, default=None
            A `Score`, where there is something faster than automatic differentiation.

        Returns
        -------
        ndarray of shape (n_params,)
        """
        score = self._mean_log_prob if score is None else score
        rows = _quantile_rows(y, sample_weight)
        values = torch.as_tensor(y[rows], dtype=torch.float64)
        if support is not None:
            support = Support(*(b[rows] if b.ndim else b for b in support))
            values = torch.minimum(torch.maximum(values, support.low), support.high)
        guess = np.asarray(self.guess_raw(y[rows]), dtype=np.float64)
        pull = PULL / len(values)

        def loss_and_slope(raw: np.ndarray) -> tuple[float, np.ndarray]:
            mean, slope = score(raw, values, support)
            return pull * np.square(raw - guess).sum() - mean, 2.0 * pull * (raw - guess) - slope

        best = minimize(loss_and_slope, guess, jac=True, method="BFGS", options={"maxiter": 40}).x
        return best if np.isfinite(best).all() else guess

    @torch.enable_grad()
    def _mean_log_prob(
        self, raw: np.ndarray, values: Tensor, support: Support | None
    ) -> tuple[float, np.ndarray]:
        """Mean log density, and its slope by the raw parameters."""
        parameters = torch.tensor(raw, requires_grad=True)
        mean = self.log_prob(parameters.expand(len(values), -1), values, support).mean()
        (slope,) = torch.autograd.grad(mean, parameters)
        return mean.item(), slope.numpy()

    def rsample(self, raw: Tensor, noise: Tensor, support: Support | None = None) -> Tensor:
        """Draw whose gradient follows from the implicit function of the cdf.

        With ``F(y; raw) = u`` held fixed, ``dy = -dF/draw / p(y)`` [1]_. This is also exact for
        mixtures, whose component is a discrete choice.

        References
        ----------
        .. [1] Figurnov, Mohamed and Mnih (2018), Implicit reparameterization gradients.
        """
        y = self.sample(raw, noise, support).detach()
        if self.discrete:  # a probability that moves, moves no value
            return y
        density = self.log_prob(raw, y, support).detach().exp()
        cdf = self.cdf(raw, y, support)
        tiny = torch.finfo(y.dtype).tiny
        return y - (cdf - cdf.detach()) / density.clamp_min(tiny)

    def resolve(
        self, *, K: int, unit: float, origin: float = 0.0, n_classes: int | None = None
    ) -> Likelihood:
        """Copy with every default filled in, for the quantity ``(y - origin) / unit``.

        Parameters
        ----------
        K : int
            Number of components for families that leave theirs open.
        unit : float
            The size, in units of y, of one unit of the modelled quantity.
        origin : float, default=0.0
            The value of y at which that quantity is 0; for families with special values.
        n_classes : int, default=None
            Number of labels in the data, for families that need it.
        """
        resolved = clone(self)
        parameters = self.get_params(deep=False)
        if "K" in parameters and parameters["K"] is None:
            resolved.set_params(K=K)
        if "min_scale" in parameters:
            given = parameters["min_scale"]
            resolved.set_params(min_scale=DEFAULT_MIN_SCALE if given is None else given / unit)
        return resolved

    def check(self, where: str = "likelihood") -> None:
        """Raise for constructor parameters that make no sense, naming `where` they were given."""
        family = type(self)
        missing = [
            name
            for name in dir(family)
            if getattr(inspect.getattr_static(family, name), "__isabstractmethod__", False)
        ]
        if missing:
            raise TypeError(f"{where}: {family.__name__} does not define {', '.join(missing)}.")
        parameters = self.get_params(deep=False)
        if "K" in parameters:
            check_n_components(parameters["K"], f"K of {where}", optional=True)
        min_scale = parameters.get("min_scale")
        if min_scale is None:
            return
        accepted = "a positive number in the units of y"
        if isinstance(min_scale, bool) or not isinstance(min_scale, NUMBERS):
            raise TypeError(f"min_scale of {where} must be {accepted}, got {min_scale!r}.")
        if not (min_scale > 0 and math.isfinite(min_scale)):
            raise ValueError(f"min_scale of {where} must be {accepted}, got {min_scale!r}.")


def check_n_components(K: Any, where: str = "K", *, optional: bool = False) -> None:
    """Raise unless `K` is a positive integer (or None where that is allowed)."""
    if K is None and optional:
        return
    if isinstance(K, bool) or not isinstance(K, (int, np.integer)):
        raise TypeError(f"{where} must be an integer of at least 1, got {K!r}.")
    if K < 1:
        raise ValueError(f"{where} must be at least 1, got {K}.")


def choose_component(log_weights: Tensor, noise: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
    """Entries of `values`, (..., K), for a component drawn with uniform `noise`, (..., 1)."""
    cumulative = log_weights.exp().cumsum(-1)  # (..., K)
    k = (noise * cumulative[..., -1:] >= cumulative).sum(-1, keepdim=True)  # (..., 1)
    n_components = log_weights.shape[-1]
    k = k.clamp(max=n_components - 1)
    shape = (*k.shape[:-1], n_components)
    return tuple(value.expand(shape).gather(-1, k).squeeze(-1) for value in values)


def widen(support: Support | None) -> Support | None:
    """Append the component axis to the bounds."""
    if support is None:
        return None
    return Support(support.low.unsqueeze(-1), support.high.unsqueeze(-1))


def require(support: Support | None) -> Support:
    """The support, of which a truncated family has need."""
    if support is None:
        raise ValueError("A truncated likelihood needs a support, got None.")
    return support


def _quantile_rows(values: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray:
    """Row numbers of equally spaced (weighted) quantiles of `values` (n,), in rising order."""
    order = np.argsort(values, kind="stable")
    weight = np.ones(len(values)) if sample_weight is None else sample_weight[order]
    n_points = min(len(values), MARGINAL_POINTS)
    levels = (np.arange(n_points) + 0.5) / n_points
    cumulative = np.cumsum(weight)
    return order[np.searchsorted(cumulative, levels * cumulative[-1])]


def invert_cdf(
    cdf_and_density: Callable[[Tensor], tuple[Tensor, Tensor]], u: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    """Solve ``cdf(y) = u`` between `low` and `high` by Newton steps inside a shrinking bracket.

    Newton's method runs on the log of the smaller tail, where it converges fast; a step that
    leaves the bracket, or the lack of a density, falls back to bisection.
    """
    u, low, high = torch.broadcast_tensors(u, low, high)
    y = 0.5 * (low + high)
    tiny = torch.finfo(y.dtype).tiny
    resolution = 2 * torch.finfo(y.dtype).eps
    for _ in range(200):
        cdf, density = cdf_and_density(y)
        low = torch.where(cdf < u, y, low)
        high = torch.where(cdf > u, y, high)
        lower = u < 0.5
        tail = torch.where(lower, cdf, 1.0 - cdf).clamp_min(tiny)
        target = torch.where(lower, u, 1.0 - u).clamp_min(tiny)
        log_ratio = (target / tail).log()
        step = tail * log_ratio / density.clamp_min(tiny)
        newton = y + torch.where(lower, step, -step)
        # A step within rounding may meet a bound that is itself the solution
        within = (log_ratio.abs() < 1e-3) & ((newton - y).abs() <= resolution * y.abs())
        inside = within | ((newton > low) & (newton < high))
        proposal = torch.where(inside, newton, 0.5 * (low + high))
        # As near as rounding allows: such a value must not be thrown back into the bracket
        exact = (tail - target).abs() <= 2 * resolution * torch.where(lower, target, 1.0)
        proposal = torch.where(exact, y, proposal)
        converged = (proposal - y).abs() <= resolution * y.abs()
        y = proposal
        if bool((converged | (high - low <= resolution * y.abs())).all()):
            break
    return y
