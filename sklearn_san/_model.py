"""A trained network with all that surrounds it, evaluated for given rows in scaled units.

The predictive density of a row is a mixture of `n_members` networks. Joint densities are means over
the members; given y_1..y_(d-1), the conditional of output d is their mixture with weights in
proportion to the density that each member gave to the outputs before it:

    p(y_d | y_<d, x) = sum_m w_m p_m(y_d | y_<d, x),    w_m ~ p_m(y_<d | x)

==================  ========================================================================
`FittedModel`       network, scalers, order, limits, labels, device; user's units and back
`rosenblatt`        cdf of each conditional of the mixture, and `inverse_rosenblatt`
`mixed_conditionals`  log density and cdf of these
`quasi_random_noise`  points that all rows share, for results that are the same each time
`sobol_points`      the same in any number of dimensions, of which nothing is a member's
==================  ========================================================================

Arrays of y are float64 or the network's dtype, in autoregressive order and scaled units, unless a
function says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.stats import qmc
from sklearn.utils import check_random_state
from torch import Tensor

from ._engine import Engine, mixture_quantile
from ._engine import chunks as chunks
from ._engines import engine_for
from ._inputs import InputEncoder
from ._network import SAN, Conditional
from ._scaling import OutputScaler, along_rows
from ._tables import as_table, check_units, units_of
from ._targets import TargetCodec, check_missing_targets, matching_columns
from .likelihoods import Likelihood, Support

#: Pairs of row and draw that are computed at once.
CHUNK = 16_384


@dataclass(frozen=True)
class FittedModel:
    """A trained network and all that surrounds it.

    Parameters
    ----------
    network : SAN
        On the CPU; its outputs are in autoregressive order.
    encoder : InputEncoder
        From X to what the network sees.
    y_scaler : OutputScaler
        In autoregressive order.
    order : ndarray of shape (n_outputs,)
        ``order[d]`` is the user's column that comes d-th in the network.
    limits : ndarray of shape (n_outputs, 2)
        In the user's units and column order.
    families : list of Likelihood
        In autoregressive order and the user's units.
    codec : TargetCodec
        Names and labels of the columns of y.
    one_dimensional : bool
        Whether y was one-dimensional in `fit`.
    device : torch.device
        To compute on.
    """

    network: SAN
    encoder: InputEncoder
    y_scaler: OutputScaler
    order: np.ndarray
    limits: np.ndarray
    families: list[Likelihood]
    codec: TargetCodec
    one_dimensional: bool
    device: torch.device

    @property
    def n_outputs(self) -> int:
        """Number of columns of y."""
        return len(self.order)

    @property
    def label_outputs(self) -> list[int]:
        """Columns of labels, in the user's order."""
        pairs = zip(self.order, self.families, strict=True)
        return [int(j) for j, family in pairs if family.scaling == "none"]

    @property
    def is_smooth(self) -> bool:
        """Whether every output has a density everywhere."""
        return all(family.scaling == "free" for family in self.families)

    @cached_property
    def engine(self) -> Engine:
        """What evaluates the network as it is now."""
        return engine_for(self.network, self.device)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "engine"}

    def on_device(self, dtype: torch.dtype | None = None) -> SAN:
        """Network in evaluation mode on the device, in `dtype` (default: its own)."""
        return self.engine.exact if dtype == torch.float64 else self.engine.network

    def tensor(self, array: np.ndarray, network: SAN) -> Tensor:
        """Array on the device, in the dtype of `network`."""
        dtype = next(network.parameters()).dtype
        return torch.as_tensor(array, dtype=dtype, device=self.device)

    def scale(self, y: np.ndarray) -> np.ndarray:
        """User's values (..., n_outputs), inside the limits, to scaled ones in network order."""
        flat = y.reshape(-1, self.n_outputs)[:, self.order]
        return self.y_scaler.transform(flat).reshape(y.shape)

    def log_jacobian(self, y: np.ndarray) -> np.ndarray:
        """``log |dz / dy|`` of the user's values (..., n_outputs), one by one in network order.

        0 where a value has a probability instead of a density, or is missing.
        """
        flat = y.reshape(-1, self.n_outputs)[:, self.order]
        log_slope = np.where(np.isnan(flat), 0.0, self.y_scaler.log_jacobian(flat))
        if not self.is_smooth:
            z = torch.as_tensor(self.y_scaler.transform(flat), dtype=torch.float64)
            limits = self.network.limits.double().cpu()
            for d, family in enumerate(self.network.families):
                # What has special values has no linear base, whose residuals bounds would move with
                support = Support(limits[d, 0], limits[d, 1]) if family.bounded else None
                log_slope[family.is_mass(z[:, d], support).numpy(), d] = 0.0
        return log_slope.reshape(y.shape)

    def gradient_by_y(self, y: np.ndarray, by_z: np.ndarray) -> np.ndarray:
        """Gradient of a log density by the user's values y (n, n_outputs).

        `by_z` is that of the log density of scaled values, in network order; 0 where y is missing.
        """
        ordered = y[:, self.order]
        slope = np.exp(self.y_scaler.log_jacobian(ordered))
        gradient = by_z * slope + self.y_scaler.slope_of_log_jacobian(ordered)
        return np.where(np.isnan(ordered), 0.0, gradient)[:, np.argsort(self.order)]

    def log_jacobian_at(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log-Jacobian (n,) of scaled values (n, n_outputs) in network order, and its slope."""
        with np.errstate(all="ignore"):  # z may have no y
            y = self.y_scaler.inverse_transform(z)
            log_slope = self.y_scaler.log_jacobian(y)
            slope = self.y_scaler.slope_of_log_jacobian(y) / np.exp(log_slope)
        return log_slope.sum(axis=-1), slope

    def restore(self, z: np.ndarray) -> np.ndarray:
        """Scaled values (..., n_outputs) in network order to the user's units and columns."""
        y = np.ascontiguousarray(self.y_scaler.inverse_transform(np.asarray(z)))
        if (np.diff(self.order) < 0).any():
            y = np.take(y, np.argsort(self.order), axis=-1)
        largest = np.finfo(np.float64).max
        low, high = np.clip(self.limits, -largest, largest).T
        along_rows(np.maximum, y, low)
        along_rows(np.minimum, y, high)
        for j, family, slope in zip(self.order, self.families, self.y_scaler.slope, strict=True):
            if family.scaling == "affine":
                y[..., j] = family.snap(y[..., j], self.limits[j], 1e-5 / slope)
        return y

    def check_y(self, y: Any, n_rows: int, *, several: bool = False) -> np.ndarray:
        """Targets as codes and numbers in the user's columns, float64.

        Parameters
        ----------
        y : array-like
            ``(n_rows, n_outputs)``, or with `several` also ``(n_rows, n_points, n_outputs)``; the
            last axis is missing if y was one-dimensional in `fit`.
        n_rows : int
        several : bool, default=False

        Returns
        -------
        ndarray
            With the axis of the outputs.
        """
        names, points, y = self.codec.names, None, as_table(y, "y")
        check_units(units_of(y), self.codec.units, "y")
        if several and not hasattr(y, "columns"):
            array = np.asarray(y)
            if self.one_dimensional and array.ndim == 2 and array.shape[1] > 1:
                array = array[..., None]
            if array.ndim == 3:
                points = array.shape[:2]
                y = array.reshape(-1, array.shape[-1])
        columns = matching_columns(y, names, "this estimator was fitted with")
        found = len(columns[0]) if points is None else points[0]
        if found != n_rows:
            raise ValueError(f"X has {n_rows} rows, but y has {found}; they must match.")
        values = self.codec.encode(columns, self.limits)
        for j, family in zip(self.order, self.families, strict=True):
            observed = values[~np.isnan(values[:, j]), j]
            family.check_values(observed, f"output {j} ({names[j]})")
        check_missing_targets(values, self.order, names)
        return values if points is None else values.reshape(*points, -1)

    def present(self, result: np.ndarray) -> np.ndarray:
        """Labels for codes (..., n_outputs), and y's number of dimensions."""
        result = self.codec.decode(result)
        return result[..., 0] if self.one_dimensional else result


def make_generator(random_state: Any) -> torch.Generator:
    """Generator of our own from scikit-learn's `random_state`; None takes fresh entropy."""
    generator = torch.Generator()
    if random_state is None:
        generator.seed()
    else:
        seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
        generator.manual_seed(int(seed))
    return generator


def make_random(random_state: Any) -> np.random.Generator:
    """The same of numpy, whose numbers are ready in less than half of the time."""
    return np.random.Generator(np.random.SFC64(make_generator(random_state).initial_seed()))


def rosenblatt(network: SAN, x: Tensor, z: Tensor, noise: Tensor) -> Tensor:
    """Cdf of each conditional of the mixture at z (n, n_outputs) [1]_.

    Where a value has a probability, the cdf jumps; `noise`, uniform and of the shape of z, then
    chooses a point of the jump, so that the result is uniform for draws of the mixture [2]_.
    x is (n, n_points, n_features): with several points for each row the mixture is over these too.

    References
    ----------
    .. [1] Rosenblatt (1952), Remarks on a multivariate transformation.
    .. [2] Brockwell (2007), Universal residuals: A multivariate transformation.
    """
    _, cdf, jump = mixed_conditionals(network, x, z)
    return (cdf - noise * jump).clamp(0.0, 1.0)


def mixed_conditionals(network: SAN, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log density, cdf and size of the jump of each conditional of the mixture at z.

    All (n, n_outputs); x as in `rosenblatt`.
    """
    conditionals = network.conditionals(x.unsqueeze(0), z[None, :, None])
    # (n_members, n, n_points, n_outputs) to (n_members * n_points, n, n_outputs)
    log_prob, cdf = (values.movedim(2, 1).flatten(0, 1) for values in conditionals)
    log_weight = (log_prob.cumsum(-1) - log_prob).log_softmax(0)
    mixed = (log_weight + log_prob).logsumexp(0)
    u = (log_weight.exp() * cdf).sum(0)
    return mixed, u, torch.where(network.is_mass(x[:, 0], z), mixed.exp(), 0.0)


def inverse_rosenblatt(
    network: SAN,
    x: Tensor,
    u: Tensor,
    known: dict[int, Tensor] | None = None,
    n_outputs: int | None = None,
) -> Tensor:
    """Values z (n, n_outputs) at which the conditional cdfs of the mixture are `u`.

    Shapes: x (n, n_points, n_features) as in `rosenblatt`, u (n, n_outputs) inside (0, 1). Outputs
    of which values (n,) are `known` take these; `n_outputs` stops early.
    """
    known = known or {}
    log_weight = torch.zeros((network.n_members, *x.shape[:2]), dtype=u.dtype, device=u.device)

    def choose(one: Conditional) -> Tensor:
        nonlocal log_weight
        target = u[:, one.output]
        if one.output in known:
            z = known[one.output]
        elif log_weight[:, 0].numel() == 1:
            return one.family.icdf(one.raw, target[None, :, None], one.support)
        else:
            weight = (log_weight - log_weight.logsumexp((0, 2), keepdim=True)).exp()
            z = mixture_quantile(one, target, weight)  # (n,)
        r, log_prob = one.at(z[None, :, None])
        log_weight = log_weight + log_prob
        return r.expand_as(log_prob)

    return network.ancestral(x.unsqueeze(0), choose, n_outputs)[0, :, 0]


def quasi_random_noise(network: SAN, n_points: int) -> Tensor:
    """Sobol points of fixed scrambling, (n_members, 1, n_points, n_outputs, n_noise), float64."""
    shape = (1, n_points, network.n_outputs, network.n_noise)
    points = []
    for m in range(network.n_members):
        engine = torch.quasirandom.SobolEngine(shape[2] * shape[3], scramble=True, seed=m)
        # `draw` gives the first point in the default dtype of the process
        first = engine.quasi.double() / 2**engine.MAXBIT
        drawn = engine.draw(n_points, dtype=torch.float64)
        drawn[0] = first
        points.append(drawn.reshape(shape))
    return torch.stack(points).clamp(1e-12, 1.0 - 1e-12)


def quasi_random_points(network: SAN, n_points: int) -> np.ndarray:
    """The same as noise of an `Engine`, (n_members * n_points, 1 + n_outputs * n_noise)."""
    choose = (np.arange(network.n_members) + 0.5) / network.n_members
    numbers = quasi_random_noise(network, n_points).numpy().reshape(len(choose) * n_points, -1)
    return np.concatenate([np.repeat(choose, n_points)[:, None], numbers], axis=1)


def sobol_points(n: int, n_dimensions: int) -> np.ndarray:
    """Sobol points of fixed scrambling in the unit cube, (n, n_dimensions), float64."""
    engine = qmc.Sobol(n_dimensions, rng=np.random.default_rng(0))
    return engine.random_base2(max(n - 1, 1).bit_length())[:n]
