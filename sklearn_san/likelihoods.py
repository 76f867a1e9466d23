"""One-dimensional likelihood families, the conditionals of each output.

A family maps the *raw* (unconstrained) numbers that a network block returns to a
normalised density ``p(y | raw)``. It owns no weights. The mixtures implement

    p(y | raw) = sum_k w_k p_k(y; loc_k, scale_k)

with ``w = softmax(logits)`` and ``scale = min_scale + exp(raw_scale)``; truncated families
divide each component by its mass inside the support, all in log space.

==============================  ==========================================
`MixtureOfGaussians`            ``"mog"``, support: the whole line
`TruncatedMixtureOfGaussians`   ``"truncated_mog"``, support: ``limits``
`Likelihood`                    the interface, for families of one's own
`make_likelihood`               a family from its short name
==============================  ==========================================

Shapes: `raw` is ``(..., n_params)``; `y`, and the bounds of a `Support`, broadcast against
``(...)``. Everything is in the units in which the network models an output.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from torch import Tensor

from ._normal import (
    LOG_SQRT_2PI,
    truncated_normal_cdf,
    truncated_normal_icdf,
    truncated_normal_log_prob,
    truncated_normal_moments,
)

#: Floor of a component's scale when the user gives none, in units of the modelled quantity's
#: standard deviation.
DEFAULT_MIN_SCALE = 1e-5
#: Values to which a family is matched before training.
MARGINAL_POINTS = 512


class Support(NamedTuple):
    """Bounds between which a density lives; tensors that broadcast against `y`."""

    low: Tensor
    high: Tensor


class Likelihood(BaseEstimator):
    """Interface of a one-dimensional family; parameters follow scikit-learn's conventions.

    A subclass sets `bounded`, `n_params` and `n_noise` and implements `log_prob`, `cdf`,
    `icdf`, `sample`, `mean`, `variance` and `initial_raw`.

    Attributes
    ----------
    bounded : bool
        Whether the family needs a `Support`; families that do not must not be given one.
    n_noise : int
        Uniform numbers that one draw consumes.
    """

    bounded: bool = False
    n_noise: int = 1

    @property
    @abstractmethod
    def n_params(self) -> int:
        """Number of raw parameters."""

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

        Returns
        -------
        ndarray of shape (n_params,)
        """
        rows = _quantile_rows(y, sample_weight)
        values = torch.as_tensor(y[rows], dtype=torch.float64)
        if support is not None:
            support = Support(*(b[rows] if b.ndim else b for b in support))
            values = torch.minimum(torch.maximum(values, support.low), support.high)
        guess = torch.as_tensor(self.guess_raw(y[rows]), dtype=torch.float64)
        raw = guess.clone().requires_grad_(True)
        optimizer = torch.optim.LBFGS([raw], max_iter=40, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            log_prob = self.log_prob(raw.expand(len(values), -1), values, support)
            loss = 0.003 * (raw - guess).square().sum() - log_prob.mean()
            loss.backward()
            return loss

        with torch.enable_grad():
            optimizer.step(closure)
        matched = raw.detach()
        return (matched if bool(torch.isfinite(matched).all()) else guess).numpy()

    def rsample(self, raw: Tensor, noise: Tensor, support: Support | None = None) -> Tensor:
        """Draw whose gradient follows from the implicit function of the cdf.

        With ``F(y; raw) = u`` held fixed, ``dy = -dF/draw / p(y)`` [1]_. This is also exact for
        mixtures, whose component is a discrete choice.

        References
        ----------
        .. [1] Figurnov, Mohamed and Mnih (2018), Implicit reparameterization gradients.
        """
        y = self.sample(raw, noise, support).detach()
        density = self.log_prob(raw, y, support).detach().exp()
        cdf = self.cdf(raw, y, support)
        tiny = torch.finfo(y.dtype).tiny
        return y - (cdf - cdf.detach()) / density.clamp_min(tiny)

    def resolve(self, *, K: int, unit: float) -> Likelihood:
        """Copy with every default filled in, for a quantity that is y divided by `unit`.

        Parameters
        ----------
        K : int
            Number of components for families that leave theirs open.
        unit : float
            The size, in units of y, of one unit of the modelled quantity.
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
        parameters = self.get_params(deep=False)
        if "K" in parameters:
            check_n_components(parameters["K"], f"K of {where}", optional=True)
        min_scale = parameters.get("min_scale")
        if min_scale is not None and not (min_scale > 0 and math.isfinite(min_scale)):
            raise ValueError(
                f"min_scale of {where} must be a positive number in the units of y, "
                f"got {min_scale!r}."
            )


def check_n_components(K: Any, where: str = "K", *, optional: bool = False) -> None:
    """Raise unless `K` is a positive integer (or None where that is allowed)."""
    if K is None and optional:
        return
    if isinstance(K, bool) or not isinstance(K, (int, np.integer)):
        raise TypeError(f"{where} must be an integer of at least 1, got {K!r}.")
    if K < 1:
        raise ValueError(f"{where} must be at least 1, got {K}.")


class MixtureOfGaussians(Likelihood):
    """Mixture of `K` Gaussians on the whole line (Bishop 1994).

    Parameters
    ----------
    K : int, default=None
        Number of components; None takes the estimator's `K`.
    min_scale : float, default=None
        Floor of the components' standard deviations in the units of y. None means
        `DEFAULT_MIN_SCALE` times the standard deviation of the modelled quantity.

    Examples
    --------
    >>> import torch
    >>> family = MixtureOfGaussians(K=1, min_scale=1e-6)
    >>> raw = torch.zeros(3)  # one logit, one location, one log scale
    >>> round(family.log_prob(raw, torch.tensor(0.0)).item(), 4)  # -log(sqrt(2 pi))
    -0.9189
    """

    n_noise = 2  # one chooses the component, one the place inside it

    def __init__(self, K: int | None = None, min_scale: float | None = None):
        self.K = K
        self.min_scale = min_scale

    @property
    def n_params(self) -> int:
        """Logits, locations and scales of all components."""
        return 3 * self._n_components

    @property
    def _n_components(self) -> int:
        if self.K is None:
            raise ValueError(f"{type(self).__name__} needs K outside an estimator, got None.")
        return self.K

    def components(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split raw parameters into log weights, locations and log scales, each (..., K)."""
        logits, loc, raw_scale = raw.split(self._n_components, -1)
        floor = DEFAULT_MIN_SCALE if self.min_scale is None else self.min_scale
        log_scale = torch.nn.functional.softplus(raw_scale - math.log(floor)) + math.log(floor)
        return logits.log_softmax(-1), loc, log_scale

    def log_prob(self, raw: Tensor, y: Tensor, support: Support | None = None) -> Tensor:
        log_weights, loc, log_scale = self.components(raw)
        log_density = self._component_log_prob(y.unsqueeze(-1), loc, log_scale, _widen(support))
        return torch.logsumexp(log_weights + log_density, -1)

    def cdf(self, raw: Tensor, y: Tensor, support: Support | None = None) -> Tensor:
        log_weights, loc, log_scale = self.components(raw)
        cdf = self._component_cdf(y.unsqueeze(-1), loc, log_scale, _widen(support))
        return (log_weights.exp() * cdf).sum(-1).clamp(max=1.0)

    def sample(self, raw: Tensor, noise: Tensor, support: Support | None = None) -> Tensor:
        log_weights, loc, log_scale = self.components(raw)
        cumulative = log_weights.exp().cumsum(-1)  # (..., K)
        total = cumulative[..., -1:]
        k = (noise[..., :1] * total >= cumulative).sum(-1, keepdim=True)  # (..., 1)
        k = k.clamp(max=self._n_components - 1)
        shape = (*k.shape[:-1], self._n_components)
        loc = loc.expand(shape).gather(-1, k).squeeze(-1)  # (...)
        log_scale = log_scale.expand(shape).gather(-1, k).squeeze(-1)
        return self._component_icdf(noise[..., 1], loc, log_scale, support)

    def icdf(self, raw: Tensor, u: Tensor, support: Support | None = None) -> Tensor:
        _, loc, log_scale = self.components(raw)
        quantiles = self._component_icdf(u.unsqueeze(-1), loc, log_scale, _widen(support))
        # The quantile of a mixture lies between those of its components.
        return _invert_cdf(
            lambda y: (self.cdf(raw, y, support), self.log_prob(raw, y, support).exp()),
            u,
            quantiles.amin(-1),
            quantiles.amax(-1),
        )

    def mean(self, raw: Tensor, support: Support | None = None) -> Tensor:
        return self._moments(raw, support)[0]

    def variance(self, raw: Tensor, support: Support | None = None) -> Tensor:
        return self._moments(raw, support)[1]

    def _moments(self, raw: Tensor, support: Support | None) -> tuple[Tensor, Tensor]:
        log_weights, loc, log_scale = self.components(raw)
        mean_k, variance_k = self._component_moments(loc, log_scale, _widen(support))
        weights = log_weights.exp()
        mean = (weights * mean_k).sum(-1)
        spread = (mean_k - mean.unsqueeze(-1)).square()
        return mean, (weights * (variance_k + spread)).sum(-1)

    def guess_raw(self, y: np.ndarray) -> np.ndarray:
        K = self._n_components
        edges = np.quantile(y, np.arange(2 * K + 1) / (2 * K))
        loc = edges[1::2]
        # Each component covers 1/K of the values; the floor keeps ties from making spikes.
        width = 0.5 * (edges[2::2] - edges[:-2:2])
        scale = np.maximum(width, 0.02 * max(float(np.std(y)), 1e-12))
        return np.concatenate([np.zeros(K), loc, np.log(scale)])

    def _component_log_prob(
        self, y: Tensor, loc: Tensor, log_scale: Tensor, support: Support | None
    ) -> Tensor:
        z = (y - loc) * torch.exp(-log_scale)
        return -0.5 * z.square() - log_scale - LOG_SQRT_2PI

    def _component_cdf(
        self, y: Tensor, loc: Tensor, log_scale: Tensor, support: Support | None
    ) -> Tensor:
        return torch.special.ndtr((y - loc) * torch.exp(-log_scale))

    def _component_icdf(
        self, u: Tensor, loc: Tensor, log_scale: Tensor, support: Support | None
    ) -> Tensor:
        return loc + log_scale.exp() * torch.special.ndtri(u)

    def _component_moments(
        self, loc: Tensor, log_scale: Tensor, support: Support | None
    ) -> tuple[Tensor, Tensor]:
        return loc, (2.0 * log_scale).exp()


class TruncatedMixtureOfGaussians(MixtureOfGaussians):
    """Mixture of `K` Gaussians, each truncated to the support and normalised inside it.

    One or both bounds may be infinite. Parameters as for `MixtureOfGaussians`.

    Examples
    --------
    >>> import torch
    >>> family = TruncatedMixtureOfGaussians(K=1, min_scale=1e-6)
    >>> half_line = Support(torch.tensor(0.0), torch.tensor(torch.inf))
    >>> round(family.log_prob(torch.zeros(3), torch.tensor(0.0), half_line).item(), 4)
    -0.2258
    """

    bounded = True

    def _component_log_prob(
        self, y: Tensor, loc: Tensor, log_scale: Tensor, support: Support | None
    ) -> Tensor:
        low, high = _require(support)
        return truncated_normal_log_prob(y, loc, log_scale, low, high)

    def _component_cdf(
        self, y: Tensor, loc: Tensor, log_scale: Tensor, support: Support | None
    ) -> Tensor:
        low, high = _require(support)
        return truncated_normal_cdf(y, loc, log_scale, low, high)

    def _component_icdf(
        self, u: Tensor, loc: Tensor, log_scale: Tensor, support: Support | None
    ) -> Tensor:
        low, high = _require(support)
        return truncated_normal_icdf(u, loc, log_scale, low, high)

    def _component_moments(
        self, loc: Tensor, log_scale: Tensor, support: Support | None
    ) -> tuple[Tensor, Tensor]:
        low, high = _require(support)
        return truncated_normal_moments(loc, log_scale, low, high)


#: Short names that the estimator's `likelihood` accepts.
LIKELIHOODS: dict[str, type[Likelihood]] = {
    "mog": MixtureOfGaussians,
    "truncated_mog": TruncatedMixtureOfGaussians,
}


def make_likelihood(name: str, **parameters: Any) -> Likelihood:
    """Family with the short `name`, constructed with `parameters`.

    Examples
    --------
    >>> make_likelihood("mog", K=3)
    MixtureOfGaussians(K=3)
    """
    if name not in LIKELIHOODS:
        raise ValueError(
            f"likelihood={name!r} is unknown; choose one of "
            f"{', '.join(repr(known) for known in ['auto', *LIKELIHOODS])} or pass an instance."
        )
    try:
        return LIKELIHOODS[name](**parameters)
    except TypeError:
        accepted = ", ".join(LIKELIHOODS[name]().get_params(deep=False))
        raise TypeError(
            f"likelihood_params={parameters!r} do not fit likelihood {name!r}, "
            f"which accepts {accepted}."
        ) from None


def _widen(support: Support | None) -> Support | None:
    """Append the component axis to the bounds."""
    if support is None:
        return None
    return Support(support.low.unsqueeze(-1), support.high.unsqueeze(-1))


def _require(support: Support | None) -> Support:
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


def _invert_cdf(cdf_and_density, u: Tensor, low: Tensor, high: Tensor) -> Tensor:
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
        step = tail * (target / tail).log() / density.clamp_min(tiny)
        newton = y + torch.where(lower, step, -step)
        inside = (newton > low) & (newton < high)
        proposal = torch.where(inside, newton, 0.5 * (low + high))
        proposal = torch.where(cdf == u, y, proposal)
        converged = (proposal - y).abs() <= resolution * y.abs()
        y = proposal
        if bool((converged | (high - low <= resolution * y.abs())).all()):
            break
    return y
