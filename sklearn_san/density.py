"""The conditional density of given rows, as an object: log density, draws, moments, quantiles.

`FittedModel` joins a trained network with the scalers around it. `ConditionalDensity` is that
model at given rows of X; it speaks the user's units, column order and float64, and works in
chunks, so that its memory does not grow with the number of rows or draws.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import logsumexp
from sklearn.utils import check_random_state
from torch import Tensor

from ._likelihood import Likelihood
from ._network import SAN, Conditional, uniform
from ._scaling import InputScaler, OutputScaler

#: Pairs of row and draw that are computed at once.
CHUNK = 16_384
#: Quasi-random points behind quantiles and modes, and behind moments, that have no closed form.
N_POINTS, N_MOMENT_POINTS = 1024, 256


@dataclass(frozen=True)
class FittedModel:
    """A trained network and all that surrounds it.

    Parameters
    ----------
    network : SAN
        On the CPU; its outputs are in autoregressive order.
    x_scaler, y_scaler : InputScaler, OutputScaler
        The latter in autoregressive order.
    order : ndarray of shape (n_outputs,)
        ``order[d]`` is the user's column that comes d-th in the network.
    limits : ndarray of shape (n_outputs, 2)
        In the user's units and column order.
    families : list of Likelihood
        In autoregressive order and the user's units.
    device : torch.device
        To compute on.
    """

    network: SAN
    x_scaler: InputScaler
    y_scaler: OutputScaler
    order: np.ndarray
    limits: np.ndarray
    families: list[Likelihood]
    device: torch.device

    @property
    def label_outputs(self) -> list[int]:
        """Columns of labels, in the user's order."""
        pairs = zip(self.order, self.families, strict=True)
        return [int(j) for j, family in pairs if family.scaling == "none"]

    def on_device(self, dtype: torch.dtype | None = None) -> SAN:
        """Network in evaluation mode on the device, in `dtype` (default: its own)."""
        current = next(self.network.parameters())
        dtype = current.dtype if dtype is None else dtype
        if current.device == self.device and current.dtype == dtype:
            return self.network.eval()
        return copy.deepcopy(self.network).to(self.device, dtype).eval()


class ConditionalDensity:
    """p(y | x) for the rows of X, one density per row.

    Parameters
    ----------
    model : FittedModel
    X : ndarray of shape (n_rows, n_features)
        Checked features, not scaled.
    """

    def __init__(self, model: FittedModel, X: np.ndarray):
        self.model = model
        self._x = model.x_scaler.transform(X)

    def __len__(self) -> int:
        return len(self._x)

    @property
    def _is_smooth(self) -> bool:
        """Whether every output has a density everywhere."""
        return all(family.scaling == "free" for family in self.model.families)

    @property
    def n_outputs(self) -> int:
        """Number of columns of y."""
        return len(self.model.order)

    @torch.no_grad()
    def log_prob(self, y: np.ndarray) -> np.ndarray:
        """Log density of one y per row; -inf outside the limits.

        Parameters
        ----------
        y : ndarray of shape (n_rows, n_outputs)

        Returns
        -------
        ndarray of shape (n_rows,)
            In nats per unit of every output.
        """
        model, network = self.model, self.model.on_device()
        low, high = model.limits.T
        inside = ((y >= low) & (y <= high)).all(axis=1)
        # Values outside are scored at the nearest limit first, so that scalers accept them.
        y = np.clip(y, low, high)[:, model.order]
        z = model.y_scaler.transform(y)
        log_prob = np.empty(len(y))
        jacobian = model.y_scaler.log_jacobian(y)
        for rows in _chunks(len(y), CHUNK):
            x_rows, z_rows = (self._tensor(v[rows], network) for v in (self._x, z))
            density = ~network.is_mass(x_rows, z_rows).cpu().numpy()
            log_prob[rows] = _mixed_log_prob_of_rows(network, x_rows, z_rows)
            log_prob[rows] += (jacobian[rows] * density).sum(axis=1)
        return np.where(inside, log_prob, -np.inf)

    @torch.no_grad()
    def sample(
        self, n_draws: int, random_state: Any = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Independent draws for every row.

        Parameters
        ----------
        n_draws : int
        random_state : int, RandomState or None
            The same seed gives the same draws. None draws fresh ones.
        out : ndarray of shape (n_rows, n_draws, n_outputs), default=None
            Where to write the draws.

        Returns
        -------
        ndarray of shape (n_rows, n_draws, n_outputs)
        """
        network = self.model.on_device()
        dtype = next(network.parameters()).dtype
        generator = make_generator(random_state)
        draws = np.empty((len(self), n_draws, self.n_outputs)) if out is None else out
        draw = network.sampler() or _torch_sampler(network, self.model.device)
        for rows, columns in _blocks(len(self), n_draws):
            n_rows, n_columns = rows.stop - rows.start, columns.stop - columns.start
            # Consumed in the order of the result, whatever the size of the chunks.
            n_numbers = self.n_outputs * network.n_noise + 1  # the first chooses the member
            noise = uniform((n_rows, n_columns, n_numbers), generator, dtype).numpy()
            z = draw(self._x[rows].astype(noise.dtype), noise)
            draws[rows, columns] = self._restore(z)
        return draws

    def mean(self) -> np.ndarray:
        """Expectation of every output, (n_rows, n_outputs); for labels the most probable code."""
        return self._moments()[0]

    def std(self) -> np.ndarray:
        """Standard deviation of every output, (n_rows, n_outputs)."""
        return np.sqrt(self._moments()[1])

    def quantile(self, levels: np.ndarray) -> np.ndarray:
        """Quantiles of the marginal distribution of every output.

        The output that comes first in the autoregressive order has a closed-form cdf, which is
        inverted; the others use quasi-random draws.

        Parameters
        ----------
        levels : ndarray of shape (n_levels,)
            Strictly between 0 and 1.

        Returns
        -------
        ndarray of shape (n_rows, n_levels, n_outputs)
        """
        first = self.model.order[0]
        quantiles = np.empty((len(self), len(levels), self.n_outputs))
        if self.n_outputs > 1:
            for rows, draws in self._quasi_random_draws():
                quantiles[rows] = np.quantile(draws, levels, axis=1).swapaxes(0, 1)
        for rows, z in self._first_quantiles(levels):
            # Only the first column is restored from this; the others are filled up.
            filled = np.repeat(z[..., None], self.n_outputs, axis=-1)
            quantiles[rows, :, first] = self._restore(filled)[..., first]
        return quantiles

    def mode(self) -> np.ndarray:
        """Point of highest density of every row, (n_rows, n_outputs).

        The best of many quasi-random draws, then climbed by gradient. With a power transform as
        `y_scaler`, or outputs that have probabilities instead of densities, the best draw.
        """
        network = self.model.on_device(torch.float64)
        modes = np.empty((len(self), self.n_outputs))
        for rows, draws in self._quasi_random_draws():
            n_rows, n_draws, _ = draws.shape
            y = draws.reshape(-1, self.n_outputs)[:, self.model.order]
            z = self._tensor(self.model.y_scaler.transform(y), network)
            z = z.reshape(n_rows, n_draws, -1)
            x = self._tensor(self._x[rows], network)
            with torch.no_grad():
                log_prob = _mixed_log_prob(network, x.unsqueeze(1), z)  # (n_rows, n_draws)
            jacobian = self.model.y_scaler.log_jacobian(y).sum(1).reshape(n_rows, n_draws)
            best = (_numpy(log_prob) + jacobian).argmax(axis=1)
            start = z[torch.arange(n_rows), torch.from_numpy(best)]  # (n_rows, n_outputs)
            if self.model.y_scaler.linear and self._is_smooth:
                start = _climb(network, x, start)
            modes[rows] = self._restore(_numpy(start))
        return modes

    @torch.no_grad()
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of every output, averaged over draws of the outputs before it."""
        if not self.model.y_scaler.linear:
            return self._moments_of_draws()
        network = self.model.on_device(torch.float64)
        closed_form = self.n_outputs == 1 and network.families[0].cheap_moments
        n_points = 1 if closed_form else max(N_MOMENT_POINTS // network.n_members, 64)
        noise = self._quasi_random_noise(network, n_points)
        mean, variance = np.empty((2, len(self), self.n_outputs))
        n_pairs = n_points * network.n_members
        for rows in _chunks(len(self), max(1, CHUNK // n_pairs)):
            moments: list[tuple[Tensor, Tensor]] = []

            def remember(one: Conditional, moments: list = moments) -> Tensor:
                probabilities, r = one.probabilities(), one.sample(noise)
                if probabilities is not None:
                    best = probabilities.mean((0, 2), keepdim=True).argmax(-1).double()
                    moments.append((best, torch.zeros_like(best)))
                elif one.family.cheap_moments:
                    moments.append(one.moments())
                else:
                    drawn = one.location + one.scale * r
                    moments.append((drawn, torch.zeros_like(drawn)))
                return r

            x = self._tensor(self._x[rows], network)
            network.ancestral(x[None, :, None], remember)
            # Moments of each member at each point, (n_members or 1, n_rows, n_points or 1)
            for d, (mean_d, variance_d) in enumerate(moments):
                mean[rows, d] = _numpy(mean_d.mean((0, 2)))
                spread = mean_d.var((0, 2), correction=0)
                variance[rows, d] = _numpy(variance_d.mean((0, 2)) + spread)
        back = np.argsort(self.model.order)
        mean = self.model.y_scaler.inverse_transform(mean)[:, back]
        return mean, (variance / self.model.y_scaler.slope**2)[:, back]

    def _moments_of_draws(self) -> tuple[np.ndarray, np.ndarray]:
        """Moments after a scaler that is not linear, from quasi-random draws."""
        mean, variance = np.empty((2, len(self), self.n_outputs))
        for rows, draws in self._quasi_random_draws():
            mean[rows], variance[rows] = draws.mean(axis=1), draws.var(axis=1)
            for d in self.model.label_outputs:
                codes = draws[..., d].astype(int)
                counts = (codes[..., None] == np.arange(codes.max() + 1)).sum(axis=1)
                mean[rows, d] = counts.argmax(axis=1)
        return mean, variance

    @torch.no_grad()
    def _quasi_random_draws(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Chunks of rows with their draws, (n_rows, n_draws, n_outputs), in float64.

        All rows share one set of points, so that no row's result depends on the others.
        """
        network = self.model.on_device(torch.float64)
        n_points = max(N_POINTS // network.n_members, N_POINTS // 2)
        noise = self._quasi_random_noise(network, n_points)
        for rows in _chunks(len(self), max(1, CHUNK // (n_points * network.n_members))):
            x = self._tensor(self._x[rows], network)[None, :, None]
            draws = network.sample(x, noise)  # (n_members, n_rows, n_points, n_outputs)
            yield rows, self._restore(_numpy(draws.transpose(0, 1).flatten(1, 2)))

    def _quasi_random_noise(self, network: SAN, n_points: int) -> Tensor:
        """Sobol points of fixed scrambling, (n_members, 1, n_points, n_outputs, n_noise)."""
        shape = (1, n_points, self.n_outputs, network.n_noise)
        points = []
        for m in range(network.n_members):
            engine = torch.quasirandom.SobolEngine(shape[2] * shape[3], scramble=True, seed=m)
            points.append(engine.draw(n_points, dtype=torch.float64).reshape(shape))
        return torch.stack(points).clamp(1e-12, 1.0 - 1e-12).to(self.model.device)

    @torch.no_grad()
    def _first_quantiles(self, levels: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Exact scaled quantiles (n_rows, n_levels) of the first output in the network."""
        network = self.model.on_device(torch.float64)
        u = torch.as_tensor(levels, dtype=torch.float64, device=self.model.device)
        for rows in _chunks(len(self), max(1, CHUNK // len(levels) // network.n_members)):
            x = self._tensor(self._x[rows], network)[None, :, None]
            yield rows, _numpy(network.first_icdf(x, u))

    def _tensor(self, array: np.ndarray, network: SAN) -> Tensor:
        dtype = next(network.parameters()).dtype
        return torch.as_tensor(array, dtype=dtype, device=self.model.device)

    def _restore(self, z: np.ndarray) -> np.ndarray:
        """Scaled values (..., n_outputs) in network order to the user's units and columns."""
        y = self.model.y_scaler.inverse_transform(z)[..., np.argsort(self.model.order)]
        largest = np.finfo(y.dtype).max
        low, high = np.clip(self.model.limits, -largest, largest).T
        y = np.clip(y, low, high, out=y)
        for d, j in enumerate(self.model.order):
            family = self.model.families[d]
            if family.scaling == "affine":
                tolerance = 1e-5 / self.model.y_scaler.slope[d]
                y[..., j] = family.snap(y[..., j], self.model.limits[j], tolerance)
        return y


def make_generator(random_state: Any) -> torch.Generator:
    """Generator of our own from scikit-learn's `random_state`; None takes fresh entropy."""
    generator = torch.Generator()
    if random_state is None:
        generator.seed()
    else:
        seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
        generator.manual_seed(int(seed))
    return generator


def _mixed_log_prob(network: SAN, x: Tensor, z: Tensor) -> Tensor:
    """Log of the members' mean density at z (..., n_outputs); shape (...)."""
    log_prob = network.log_prob(x.unsqueeze(0), z.unsqueeze(0))  # (n_members, ...)
    return log_prob.logsumexp(0) - math.log(network.n_members)


def _mixed_log_prob_of_rows(network: SAN, x: Tensor, z: Tensor) -> np.ndarray:
    """The same for rows x (n, n_features) and z (n, n_outputs), compiled where that is possible."""
    engine = network.compiled(x, z)
    if engine is None:
        return _numpy(_mixed_log_prob(network, x, z))
    with engine:
        log_prob = engine.log_prob(network.values().numpy(), np.arange(len(x))[None])
    return logsumexp(log_prob, axis=0) - math.log(network.n_members)


def _torch_sampler(
    network: SAN, device: torch.device
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """What `SAN.sampler` returns, for any network."""
    members = [network.of_members(slice(m, m + 1)) for m in range(network.n_members)]

    def sample(x: np.ndarray, noise: np.ndarray) -> np.ndarray:
        shape = noise.shape[:2]
        numbers = torch.as_tensor(noise, device=device)
        chosen = (numbers[..., 0] * len(members)).long()  # (n_rows, n_draws)
        numbers = numbers[..., 1:].reshape(1, *shape, network.n_outputs, -1)
        rows = torch.as_tensor(x, device=device).unsqueeze(1)  # (n_rows, 1, n_features)
        if len(members) == 1:
            return _numpy(members[0].sample(rows.unsqueeze(0), numbers)[0])
        draws = rows.new_empty(*shape, network.n_outputs)
        for m, member in enumerate(members):
            own = chosen == m
            x_own = rows.expand(*shape, -1)[own]  # (n_own, n_features)
            draws[own] = member.sample(x_own.unsqueeze(0), numbers[:, own])[0]
        return _numpy(draws)

    return sample


def _climb(network: SAN, x: Tensor, z: Tensor, n_steps: int = 60) -> Tensor:
    """Gradient ascent on log p(z | x) with a step size per row that grows and backs off."""
    low, high = network.limits.T
    step = torch.full_like(z[:, :1], 1e-3)

    def value_and_slope(z: Tensor) -> tuple[Tensor, Tensor]:
        z = z.detach().requires_grad_(True)
        log_prob = _mixed_log_prob(network, x, z)
        (slope,) = torch.autograd.grad(log_prob.sum(), z)
        return log_prob.detach().unsqueeze(-1), slope

    value, slope = value_and_slope(z)
    for _ in range(n_steps):
        direction = slope / slope.norm(dim=-1, keepdim=True).clamp_min(1e-300)
        proposal = torch.minimum(torch.maximum(z + step * direction, low), high)
        new_value, new_slope = value_and_slope(proposal)
        better = new_value > value
        z = torch.where(better, proposal, z)
        slope = torch.where(better, new_slope, slope)
        value = torch.where(better, new_value, value)
        step = torch.where(better, 1.5 * step, 0.3 * step)
    return z


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


def _chunks(n_rows: int, size: int) -> Iterator[slice]:
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


def _blocks(n_rows: int, n_draws: int) -> Iterator[tuple[slice, slice]]:
    """Rows and draws to compute at once: several whole rows, or a part of one row's draws."""
    for rows in _chunks(n_rows, max(1, CHUNK // n_draws)):
        for draws in _chunks(n_draws, n_draws if rows.stop - rows.start > 1 else CHUNK):
            yield rows, draws
