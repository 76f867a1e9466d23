"""Densities of one or two outputs of a network, and its conditionals as mixtures.

With S draws of the outputs before d (Rao-Blackwellisation [1]_),

    p(y_d | x) ~ 1/S sum_s p(y_d | y_<d^(s), x)

and for two outputs d < e, with the outputs in between drawn anew for each y_d,

    p(y_d, y_e | x) ~ 1/S sum_s p(y_d | y_<d^(s), x) p(y_e | y_<e^(s), x)

Draws belong to members and, with measurement errors, to points of x, so that the means are over
these too.

====================  ======================================================================
`Marginal`            densities of one or two outputs on a grid
`Components`          the mixture that a conditional density is
`Points`              fixed quasi-random points: uniform noise, and normal ones for errors of x
`pinned_draws`        draws of which some outputs have given values, and the density of these
`conditional_given`   the conditional of one output at given values of those before it
`mixture_of`          components of a conditional
====================  ======================================================================

References
----------
.. [1] Gelfand and Smith (1990), Sampling-based approaches to calculating marginal densities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from ._model import quasi_random_noise, sobol_points
from ._network import SAN, Conditional
from .likelihoods import Likelihood
from .likelihoods.components import Kernel, Truncated
from .likelihoods.mixtures import LocationScale, LocationScaleMixture


@dataclass(frozen=True)
class Marginal:
    """Marginal density of one output, or joint density of two, on a grid.

    Parameters
    ----------
    outputs : list of str
        Their names.
    grid : ndarray of shape (n_points,), or list of two
        Values of the output, or of each of two.
    density : ndarray of shape (n_rows, n_points) or (n_rows, n_points, n_points)
        Per unit of each output; probabilities for whole numbers and point masses.
    """

    outputs: list[str]
    grid: np.ndarray | list[np.ndarray]
    density: np.ndarray

    def __repr__(self) -> str:
        return f"Marginal(outputs={self.outputs}, density of shape {self.density.shape})"


@dataclass(frozen=True)
class Components:
    """A conditional density as a mixture of location-scale distributions.

    Parameters
    ----------
    output : str
        Name of the output.
    kernel : {"normal", "laplace", "logistic", "student_t"}
        Standard distribution of all components.
    weight : ndarray of shape (n_rows, n_components)
        They sum to 1.
    loc, scale : ndarray of shape (n_rows, n_components)
        In the units of the output.
    df : ndarray of shape (n_rows, n_components) or None
        Degrees of freedom of Student's t.
    limits : tuple of float or None
        Where every component is cut off and normalised, in the units of the output; None if free.
    """

    output: str
    kernel: str
    weight: np.ndarray
    loc: np.ndarray
    scale: np.ndarray
    df: np.ndarray | None = None
    limits: tuple[float, float] | None = None

    def __repr__(self) -> str:
        return f"Components({self.output!r}, {self.kernel!r}, weight of shape {self.weight.shape})"


class Points(NamedTuple):
    """Fixed points that all rows share.

    With measurement errors each point is one of x as well as of y; both come from one sequence,
    since two that are scrambled apart do not fill the product of their spaces.
    """

    noise: Tensor  # (n_members or 1, 1, n_points, 1, 1, n_outputs, n_noise), uniform
    normal: np.ndarray | None  # (n_points, n_features), of the errors of x


def make_points(network: SAN, n_points: int, n_measured: int) -> Points:
    """Points of each member; `n_measured` features of x have errors."""
    if not n_measured:
        noise = quasi_random_noise(network, n_points)
        return Points(noise.to(network.limits)[:, :, :, None, None], None)
    n_numbers = network.n_outputs * network.n_noise
    points = np.clip(sobol_points(n_points, n_numbers + n_measured), 1e-12, 1.0 - 1e-12)
    noise = torch.as_tensor(points[:, :n_numbers]).to(network.limits)
    shape = (1, 1, n_points, 1, 1, network.n_outputs, network.n_noise)
    return Points(noise.reshape(shape), ndtri(points[:, n_numbers:]))


def pinned_draws(
    network: SAN, x: Tensor, noise: Tensor, pinned: dict[int, Tensor], n_outputs: int
) -> tuple[Tensor, Tensor]:
    """Draws of the first `n_outputs`, some of which have given values.

    Parameters
    ----------
    network : SAN
    x : Tensor of shape (n, n_points or 1, n_inputs)
    noise : Tensor
        Of `Points`.
    pinned : dict of int to Tensor of shape (n, n_first or 1, n_second or 1)
        Scaled values by place in the order.
    n_outputs : int

    Returns
    -------
    log_weight : Tensor of shape (n_members, n, n_points or 1, n_first or 1, n_second or 1)
        Sum of the log densities of the pinned values, per scaled unit.
    z : Tensor of shape (..., n_outputs)
    """
    log_weight = x.new_zeros(())

    def choose(one: Conditional) -> Tensor:
        nonlocal log_weight
        if one.output not in pinned:
            return one.sample(noise)
        r, log_prob = one.at(pinned[one.output][None, :, None])  # (1, n, 1, n_first, n_second)
        log_weight = log_weight + log_prob
        return r.expand_as(log_prob)

    # Axes: member, row, point, value of one output, value of another
    z = network.ancestral(x[None, :, :, None, None], choose, n_outputs)
    return log_weight, z


def conditional_given(network: SAN, x: Tensor, z: Tensor, d: int) -> tuple[Conditional, Tensor]:
    """Conditional of output d given z_<d, and log weights of members and contexts.

    Shapes: x (n, n_contexts, n_inputs), z (n, n_outputs), weights (n_members, n, n_contexts).
    """
    log_weight = x.new_zeros((network.n_members, *x.shape[:2]))
    found: list[Conditional] = []

    def choose(one: Conditional) -> Tensor:
        nonlocal log_weight
        found.append(one)
        if one.output == d:
            return torch.zeros_like(one.raw[..., 0])
        r, log_prob = one.at(z[None, :, one.output, None])
        log_weight = log_weight + log_prob
        return r.expand_as(log_prob)

    network.ancestral(x.unsqueeze(0), choose, d + 1)
    return found[d], log_weight - log_weight.logsumexp((0, 2), keepdim=True)


class Mixture(NamedTuple):
    """A conditional as a mixture of location-scale distributions, (..., K) each."""

    log_weight: Tensor
    loc: Tensor  # of the output itself, in scaled units
    scale: Tensor
    theta: tuple[Tensor, ...]  # location, log scale and what else the kernel has, of the residual


def mixture_of(one: Conditional) -> Mixture:
    """Components of a conditional; raises `TypeError` if its family has none."""
    family = one.family
    if isinstance(family, LocationScaleMixture):
        log_weight, theta = family.components(one.raw)
    elif isinstance(family, LocationScale):
        theta = tuple(value.unsqueeze(-1) for value in family.theta(one.raw))
        log_weight = torch.zeros_like(theta[0])
    else:
        raise TypeError(f"{type(family).__name__} is no mixture of location-scale distributions")
    loc = one.location.unsqueeze(-1) + one.scale * theta[0]
    return Mixture(log_weight, loc, one.scale * theta[1].exp(), theta)


def kernel_name(family: Likelihood) -> str:
    """Standard distribution of a mixture's components, by a short name."""
    kernel = _kernel_of(family)
    standard = kernel.kernel if isinstance(kernel, Truncated) else kernel
    names = {"Normal": "normal", "TruncatedNormal": "normal", "StudentT": "student_t"}
    name = type(standard).__name__
    return names.get(name, name.lower())


def _kernel_of(family: Likelihood) -> Kernel:
    assert isinstance(family, (LocationScaleMixture, LocationScale))  # `mixture_of` has seen it
    return family.kernel
