"""Location-scale families: single distributions and mixtures of `K`, free or inside limits."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .._constants import MAX_RAW_SCALE
from .base import (
    DEFAULT_MIN_SCALE,
    Likelihood,
    Support,
    choose_component,
    invert_cdf,
    widen,
)
from .components import (
    Kernel,
    Logistic,
    Normal,
    StudentT,
    Theta,
    Truncated,
    TruncatedNormal,
)
from .components import (
    Laplace as LaplaceKernel,
)


def log_floor_of(min_scale: float | None) -> float:
    """Log of the smallest scale."""
    return math.log(DEFAULT_MIN_SCALE if min_scale is None else min_scale)


def log_scale_of(raw: Tensor, min_scale: float | None) -> Tensor:
    """``log (min_scale + exp(raw))``; the scale stays below 1e26."""
    log_floor = log_floor_of(min_scale)
    return functional.softplus(raw.clamp(max=MAX_RAW_SCALE) - log_floor) + log_floor


class LocationScale(Likelihood):
    """One location-scale distribution; raw parameters are location and log scale."""

    kernel: ClassVar[Kernel]

    def __init__(self, min_scale: float | None = None):
        self.min_scale = min_scale

    @property
    def n_params(self) -> int:
        return 2

    @property
    def log_scales(self) -> slice:
        return slice(1, 2)

    def theta(self, raw: Tensor) -> Theta:
        """Location and log scale, each (...)."""
        loc, raw_scale = raw.unbind(-1)
        return loc, log_scale_of(raw_scale, self.min_scale)

    def log_prob(self, raw: Tensor, y: Tensor, support: Support | None = None) -> Tensor:
        return self.kernel.log_prob(y, self.theta(raw), support)

    def cdf(self, raw: Tensor, y: Tensor, support: Support | None = None) -> Tensor:
        return self.kernel.cdf(y, self.theta(raw), support)

    def icdf(self, raw: Tensor, u: Tensor, support: Support | None = None) -> Tensor:
        return self.kernel.icdf(u, self.theta(raw), support)

    def sample(self, raw: Tensor, noise: Tensor, support: Support | None = None) -> Tensor:
        return self.icdf(raw, noise[..., 0], support)

    def mean(self, raw: Tensor, support: Support | None = None) -> Tensor:
        return self.kernel.moments(self.theta(raw), support)[0]

    def variance(self, raw: Tensor, support: Support | None = None) -> Tensor:
        return self.kernel.moments(self.theta(raw), support)[1]

    def guess_raw(self, y: np.ndarray) -> np.ndarray:
        return np.array([np.median(y), math.log(max(float(np.std(y)), 1e-12))])


class Gaussian(LocationScale):
    """One Gaussian on the whole line.

    Parameters
    ----------
    min_scale : float, default=None
        Floor of the scale in the units of y; None means `DEFAULT_MIN_SCALE` times the standard
        deviation of the modelled quantity.
    """

    kernel = Normal()


class Laplace(LocationScale):
    """One Laplace distribution on the whole line. Parameters as for `Gaussian`."""

    kernel = LaplaceKernel()


class LocationScaleMixture(Likelihood):
    """Mixture of `K` components: logits, locations, log scales and what else the kernel has."""

    kernel: ClassVar[Kernel]
    n_noise = 2  # one chooses the component, one the place inside it

    def __init__(self, K: int | None = None, min_scale: float | None = None):
        self.K = K
        self.min_scale = min_scale

    @property
    def n_params(self) -> int:
        return (3 + self.kernel.n_extra) * self._n_components

    @property
    def log_scales(self) -> slice:
        return slice(2 * self._n_components, 3 * self._n_components)

    @property
    def _n_components(self) -> int:
        if self.K is None:
            raise ValueError(f"{type(self).__name__} needs K outside an estimator, got None.")
        return self.K

    def components(self, raw: Tensor) -> tuple[Tensor, Theta]:
        """Log weights (..., K), and the parameters of the components, (..., K) each."""
        K = self._n_components
        logits, loc, raw_scale = raw[..., :K], raw[..., K : 2 * K], raw[..., 2 * K : 3 * K]
        extra = self.kernel.extra(raw[..., 3 * K :])
        return logits.log_softmax(-1), (loc, log_scale_of(raw_scale, self.min_scale), *extra)

    def log_prob(self, raw: Tensor, y: Tensor, support: Support | None = None) -> Tensor:
        log_weights, theta = self.components(raw)
        log_density = self.kernel.log_prob(y.unsqueeze(-1), theta, widen(support))
        return torch.logsumexp(log_weights + log_density, -1)

    def cdf(self, raw: Tensor, y: Tensor, support: Support | None = None) -> Tensor:
        log_weights, theta = self.components(raw)
        cdf = self.kernel.cdf(y.unsqueeze(-1), theta, widen(support))
        return (log_weights.exp() * cdf).sum(-1).clamp(max=1.0)

    def sample(self, raw: Tensor, noise: Tensor, support: Support | None = None) -> Tensor:
        log_weights, theta = self.components(raw)
        chosen = choose_component(log_weights, noise[..., :1], *theta)
        return self.kernel.icdf(noise[..., 1], chosen, support)

    def icdf(self, raw: Tensor, u: Tensor, support: Support | None = None) -> Tensor:
        _, theta = self.components(raw)
        quantiles = self.kernel.icdf(u.unsqueeze(-1), theta, widen(support))
        # The quantile of a mixture lies between those of its components.
        return invert_cdf(
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
        log_weights, theta = self.components(raw)
        mean_k, variance_k = self.kernel.moments(theta, widen(support))
        weights = log_weights.exp()
        mean = (weights * mean_k).sum(-1)
        spread = (mean_k - mean.unsqueeze(-1)).square()
        return mean, (weights * (variance_k + spread)).sum(-1)

    def guess_raw(self, y: np.ndarray) -> np.ndarray:
        """Raw parameters of a smooth density of the sorted values `y`.

        References
        ----------
        .. [1] Silverman (1986), Density estimation for statistics and data analysis.
        """
        K = self._n_components
        edges = np.quantile(y, np.arange(2 * K + 1) / (2 * K))
        loc = edges[1::2]
        # Each component covers 1/K of the values, smoothed by a kernel's bandwidth [1]_; then
        # all are drawn together so that the variance is still that of the values.
        width = 0.5 * (edges[2::2] - edges[:-2:2])
        spread = max(float(np.std(y)), 1e-12)
        scale = np.hypot(width, 1.5 * spread * len(y) ** -0.2)
        left = 1.0 - np.mean(scale**2) / spread**2
        loc = loc.mean() + (loc - loc.mean()) * math.sqrt(max(left, 0.2))
        return np.concatenate([np.zeros(K), loc, np.log(scale), self.kernel.initial_extra(K)])


class MixtureOfGaussians(LocationScaleMixture):
    """Mixture of `K` Gaussians on the whole line (Bishop 1994).

    Parameters
    ----------
    K : int, default=None
        Number of components; None takes the estimator's `K`.
    min_scale : float, default=None
        Floor of the components' scales in the units of y. None means `DEFAULT_MIN_SCALE` times
        the standard deviation of the modelled quantity.

    Examples
    --------
    >>> import torch
    >>> family = MixtureOfGaussians(K=1, min_scale=1e-6)
    >>> raw = torch.zeros(3)  # one logit, one location, one log scale
    >>> round(family.log_prob(raw, torch.tensor(0.0)).item(), 4)  # -log(sqrt(2 pi))
    -0.9189
    """

    kernel = Normal()


class MixtureOfLogistics(LocationScaleMixture):
    """Mixture of `K` logistic distributions. Parameters as for `MixtureOfGaussians`."""

    kernel = Logistic()


class MixtureOfStudentT(LocationScaleMixture):
    """Mixture of `K` Student's t with learned degrees of freedom above 1, for heavy tails.

    Parameters as for `MixtureOfGaussians`.
    """

    kernel = StudentT()


class TruncatedMixtureOfGaussians(LocationScaleMixture):
    """Mixture of `K` Gaussians, each truncated to the support and normalised inside it.

    One or both bounds may be infinite. Parameters as for `MixtureOfGaussians`.

    Examples
    --------
    >>> import torch
    >>> from sklearn_san.likelihoods import Support
    >>> family = TruncatedMixtureOfGaussians(K=1, min_scale=1e-6)
    >>> half_line = Support(torch.tensor(0.0), torch.tensor(torch.inf))
    >>> round(family.log_prob(torch.zeros(3), torch.tensor(0.0), half_line).item(), 4)
    -0.2258
    """

    bounded = True
    kernel = TruncatedNormal()


class TruncatedMixtureOfLogistics(LocationScaleMixture):
    """Mixture of `K` logistics inside the support. Parameters as for `MixtureOfGaussians`."""

    bounded = True
    cheap_moments = False
    kernel = Truncated(Logistic())


class TruncatedMixtureOfStudentT(LocationScaleMixture):
    """Mixture of `K` Student's t inside the support. Parameters as for `MixtureOfGaussians`.

    Its mass inside the support is computed on the CPU, which makes training slower than that of
    the other families.
    """

    bounded = True
    cheap_moments = False
    kernel = Truncated(StudentT())
