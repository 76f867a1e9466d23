"""For sbi: the posterior p(theta | x) for its tools, and its trainer.

In sbi's words y is theta, the parameters, and X is x, what was observed. Limits of the outputs are
exact, so that nothing leaks out of a prior between limits and nothing has to be corrected.

=================  ==========================================================================
`SANPosterior`     a `DirectPosterior`, which sbi's diagnostics, samplers and pictures take
`train_posterior`  the same from simulations, in place of sbi's `NPE`
`EstimatorModule`  the conditional density estimator in between
`limits_of`        limits of the outputs from the support of a prior
=================  ==========================================================================
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sbi.inference.posteriors import DirectPosterior
from sbi.neural_nets.estimators.base import ConditionalDensityEstimator
from sbi.utils.sbiutils import within_support
from sbi.utils.user_input_checks import process_prior
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributions import constraints

from .._estimator import SANConditionalDensityEstimator
from ..chains import as_density_estimator, density_of

__all__ = ["EstimatorModule", "SANPosterior", "limits_of", "train_posterior"]


class SANPosterior(DirectPosterior):
    """p(theta | x) of a fitted estimator, as one of sbi's posteriors.

    `sample` and `sample_batched` draw directly; `log_prob` is normalised and has gradients by theta
    (``track_gradients=True``); `map` is the estimator's mode. Draws follow torch's global seed.

    Parameters
    ----------
    estimator : estimator
        Fitted to rows of x and theta: the density estimator, a pipeline, a recalibrated one.
    prior : Distribution
        Of theta, with which the posterior is wanted.
    trained_with : Distribution, default=None
        Prior of the simulations; None is `prior`. If it is another one, the density is reweighted
        by ``prior / trained_with``, which must cover it.
    """

    def __init__(self, estimator: Any, prior: Any, trained_with: Any = None):
        is_same = trained_with is None or trained_with is prior
        prior, n_outputs, _ = process_prior(prior)
        ratio = None if is_same else (prior, process_prior(trained_with)[0])
        super().__init__(EstimatorModule(estimator, n_outputs, ratio), prior)
        self.estimator = estimator
        inner = as_density_estimator(estimator).estimator_
        limits = inner.predict_density(np.zeros((0, inner.n_features_in_))).limits
        support = limits_of(prior)
        is_inside = support is not None and bool(
            ((limits[:, 0] >= support[:, 0]) & (limits[:, 1] <= support[:, 1])).all()
        )
        #: Whether no draw leaves the prior, so that there is nothing to reject or to correct.
        self.is_exact = is_inside or not is_same

    def sample(self, sample_shape: Any = (), x: Any = None, **options: Any) -> Tensor:
        options.setdefault("reject_outside_prior", not self.is_exact)
        draws = super().sample(torch.Size(sample_shape), x, **options)
        return draws.reshape(*sample_shape, -1)

    def sample_batched(self, sample_shape: Any, x: Any, **options: Any) -> Tensor:
        options.setdefault("reject_outside_prior", not self.is_exact)
        options.setdefault("max_sampling_batch_size", max(1, 100_000 // len(x)))
        draws = super().sample_batched(torch.Size(sample_shape), x, **options)
        return draws.reshape(*sample_shape, *draws.shape[-2:])

    def leakage_correction(self, x: Any, *args: Any, **options: Any) -> Tensor:
        if self.is_exact:
            return torch.ones(1, device=self._device)
        return super().leakage_correction(x, *args, **options)

    def _calculate_map(self, **options: Any) -> Tensor:
        density = self.posterior_estimator.density(self.default_x)
        mode = torch.as_tensor(density.mode(), dtype=torch.float32, device=self._device)
        return mode.reshape(1, -1)


def train_posterior(theta: Any, x: Any, prior: Any, **parameters: Any) -> SANPosterior:
    """Posterior from simulations, in place of sbi's `NPE`.

    Parameters
    ----------
    theta : Tensor of shape (n_samples, n_outputs)
        Parameters, drawn from the prior.
    x : Tensor of shape (n_samples, n_features)
        What was simulated with them; nan where a value is missing.
    prior : Distribution, or list of these
        Its box gives the limits, where it has one.
    **parameters
        Of the `SANConditionalDensityEstimator`.

    Returns
    -------
    SANPosterior
        Whose `estimator` is the fitted estimator.
    """
    prior = process_prior(prior)[0]
    if np.ndim(theta) != 2 or np.ndim(x) != 2:
        raise ValueError(
            "theta and x must have two dimensions, rows and columns, got shapes "
            f"{tuple(np.shape(theta))} and {tuple(np.shape(x))}."
        )
    estimator = SANConditionalDensityEstimator(**{"limits": limits_of(prior), **parameters})
    return SANPosterior(estimator.fit(_array(x), _array(theta)), prior)


class EstimatorModule(ConditionalDensityEstimator):
    """A fitted estimator as sbi's conditional density estimator, for `SANPosterior`.

    Parameters
    ----------
    estimator : estimator
    n_outputs : int
    ratio : pair of Distribution, default=None
        New prior and that of the training rows.
    """

    def __init__(self, estimator: Any, n_outputs: int, ratio: Any = None):
        shapes = torch.Size([n_outputs]), torch.Size([estimator.n_features_in_])
        super().__init__(torch.nn.Identity(), *shapes)
        self.estimator, self.ratio = estimator, ratio
        self.device_of = torch.nn.Parameter(torch.empty(0), requires_grad=False)
        self._known: Any = (None, None)

    def density(self, x: Tensor) -> Any:
        """Density of the rows of x, reweighted if there is another prior; the last one is kept."""
        rows, density = self._known
        values = _array(x)
        if rows is None or not np.array_equal(rows, values, equal_nan=True):
            density = density_of(self.estimator, values)
            if self.ratio is not None:
                density = density.marginalise(self._ratio)
            self._known = (values, density)
        return density

    def log_prob(self, input: Tensor, condition: Tensor, **options: Any) -> Tensor:
        """Log density (n_points, n_rows) at theta (n_points, n_rows, n_outputs)."""
        n_rows = max(input.shape[-2], len(condition))
        density = self.density(condition.expand(n_rows, -1))
        rows = input.expand(-1, n_rows, -1).transpose(0, 1)  # (n_rows, n_points, n_outputs)
        if self.ratio is None:
            return _LogProb.apply(rows, density).T
        norm = torch.as_tensor(density.log_evidence(), dtype=rows.dtype)[:, None]
        return (_LogProb.apply(rows, density.density) + self._log_ratio(rows) - norm).T

    def sample(self, sample_shape: Any, condition: Tensor, **options: Any) -> Tensor:
        """Draws (*sample_shape, n_rows, n_outputs)."""
        shape = torch.Size(sample_shape)
        seed = int(torch.randint(2**31 - 1, ()))
        density = self.density(condition)
        draws = density.sample(shape.numel(), random_state=seed, dtype="float32")
        draws = torch.as_tensor(draws.reshape(*draws.shape[:2], -1), device=condition.device)
        return draws.transpose(0, 1).reshape(*shape, *draws.shape[::2])

    def loss(self, input: Tensor, condition: Tensor, **options: Any) -> Tensor:
        """Negative log density of every row."""
        return -self.log_prob(input[None], condition)[0]

    def _ratio(self, y: np.ndarray) -> np.ndarray:
        theta = torch.as_tensor(y, dtype=torch.float32).reshape(len(y), -1)
        return np.exp(_array(self._log_ratio(theta)))

    def _log_ratio(self, theta: Tensor) -> Tensor:
        """Log of the ratio of the priors (...) at theta (..., n_outputs)."""
        flat = theta.reshape(-1, theta.shape[-1])
        new, old = self.ratio
        before = old.log_prob(flat)
        inside = within_support(new, flat) & torch.isfinite(before)
        log_ratio = torch.where(inside, new.log_prob(flat) - before, -torch.inf)
        return log_ratio.reshape(theta.shape[:-1])


class _LogProb(torch.autograd.Function):
    """`log_prob` of a density (n_rows, n_points), with `grad_log_prob` as its gradient."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, density: Any) -> Tensor:
        ctx.save_for_backward(theta)
        ctx.density = density
        return torch.as_tensor(density.log_prob(_y(theta, density))).to(theta)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        (theta,) = ctx.saved_tensors
        gradient = ctx.density.grad_log_prob(_y(theta, ctx.density)).reshape(theta.shape)
        # Outside the limits, where there is none, samplers are turned away by the density.
        return slope[..., None] * torch.as_tensor(np.nan_to_num(gradient)).to(theta), None


def limits_of(prior: Any) -> np.ndarray | None:
    """Limits of every output from the support of a prior.

    Parameters
    ----------
    prior : Distribution

    Returns
    -------
    ndarray of shape (n_outputs, 2) or None
        Infinite where there is no limit; None if the support is no box, such as a simplex.
    """
    n_outputs = prior.event_shape[-1]
    limits = np.repeat([[-np.inf, np.inf]], n_outputs, axis=0)
    try:
        parts = _parts(prior.support, n_outputs)
    except (AttributeError, NotImplementedError):  # a prior that does not tell
        return None
    start = 0
    for part, n in parts:
        ends = getattr(part, "lower_bound", None), getattr(part, "upper_bound", None)
        if ends == (None, None) and part is not constraints.real:
            return None
        for side, end in enumerate(ends):
            if end is not None:
                limits[start : start + n, side] = np.asarray(end)
        start += n
    return limits


def _parts(support: Any, n_outputs: int) -> list[tuple[Any, int]]:
    """Constraints of one number each, and to how many outputs each applies."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if isinstance(support, constraints.cat):
        pairs = zip(support.cseq, support.lengths, strict=True)
        return [part for one, n in pairs for part in _parts(one, n)]
    return [(support, n_outputs)]


def _array(values: Any) -> np.ndarray:
    return np.asarray(torch.as_tensor(values).detach().cpu(), dtype=np.float64)


def _y(theta: Tensor, density: Any) -> np.ndarray:
    """Theta as an array, without the axis of the outputs where the density has none."""
    values = _array(theta)
    return values[..., 0] if density.one_dimensional else values
