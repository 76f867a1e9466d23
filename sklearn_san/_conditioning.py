"""Densities of some outputs when others are known.

If the known outputs come first in the autoregressive order, the others have conditionals of their
own. Otherwise the known values take the place of draws, and each candidate is weighed by the
density that it gives to them; see `_reweighting`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from scipy.special import logsumexp, ndtri
from torch import Tensor

from . import _validation as validation
from ._density_base import N_CANDIDATES, N_POINTS, PAIRS, Block
from ._engine import to_numpy
from ._keyed_noise import Noise, block_uniform
from ._marginals import Components
from ._model import chunks, make_random, sobol_points
from ._modes import Starts
from ._network import Conditional, uniform
from ._reweighting import ReweightedDensity, WeightedDensity, check_ratio


class GivenDensity(WeightedDensity):
    """p(y | x, known outputs); made by ``ConditionalDensity.given``.

    If the known outputs come first in the autoregressive order, the others are drawn from their own
    conditionals. Otherwise the known values take the place of draws, and each candidate is weighed
    by the density it gave to them.

    Known outputs have their values in all results, with a deviation of 0. In y, what stands in
    their columns is not looked at.

    Parameters
    ----------
    density : ConditionalDensity
    known : dict of int to ndarray of shape (n_rows,)
        Values, or codes of labels, by the user's column.

    Attributes
    ----------
    is_exact : bool
        Whether the known outputs come first in the order, and X has no measurement errors.
    """

    _remedy = "Raise n_candidates, or fit with the known outputs first in `order`"

    def __init__(self, density: Any, known: dict[int, np.ndarray]):
        super().__init__(density)
        self.model = density.model
        self.known = known
        self.positions = {density._place(j): j for j in known}
        self._comes_first = max(self.positions) < len(known)
        self.is_exact = self._comes_first and not density.has_errors

    def __getitem__(self, rows: Any) -> GivenDensity:
        rows = validation.check_rows(rows, len(self))
        known = {j: values[rows] for j, values in self.known.items()}
        return GivenDensity(self.density[rows], known)

    def log_prob(self, y: Any) -> np.ndarray:
        """Log density of the unknown outputs, given x and the known ones.

        Parameters
        ----------
        y : array-like of shape (n_rows, n_outputs) or (n_rows, n_points, n_outputs)
            All outputs; what stands in the columns of the known ones is not looked at. A single row
            takes any number of y, (n_points, n_outputs), as well.

        Returns
        -------
        ndarray of shape (n_rows,), (n_rows, n_points) or (n_points,)
            In nats per unit of every unknown output.
        """
        return super().log_prob(y)

    def grad_log_prob(self, y: Any) -> np.ndarray:
        """Gradient of `log_prob` by y, 0 for known outputs; see `ConditionalDensity`."""
        gradient = self.density._gradient(self._with_known(self._check_y(y, several=True)))
        gradient[..., list(self.known)] = 0.0
        return gradient

    def cdf(self, y: Any, *, random_state: Any = 0) -> np.ndarray:
        """Rosenblatt transform of y; known outputs have any point of the unit interval.

        Needs known outputs that come first in the order; see `ConditionalDensity`.
        """
        self._refuse_later("cdf")
        generator = make_random(random_state)
        u = self.density._rosenblatt(self._with_known(self._check_y(y)), generator)
        u[:, list(self.known)] = uniform((len(u), len(self.known)), generator)
        return u

    def inverse_cdf(self, u: Any) -> np.ndarray:
        """Inverse of `cdf`."""
        self._refuse_later("inverse_cdf")
        u = validation.check_unit_cube(u, (len(self), self.n_outputs))
        index = np.arange(len(self))
        return self._present(self.density._from_unit_cube(index, u, self.known))

    def mode(self) -> np.ndarray:
        if not self.is_continuous or not len(self):
            return self._present(self._best_draws(N_POINTS))
        scored = self.density.has_errors
        starts = self.density._scored_starts(self) if scored else self._starts()
        return self._present(self.density._climb(starts, self.known))

    def _starts(self) -> Starts:
        """The densest of the candidates of every row, by their joint density."""
        n, parts = N_POINTS, []
        for rows in chunks(len(self), max(1, PAIRS // n)):
            numbers = self._numbers(rows, n, None)
            parts.append(self.density._densest(*self._beside(rows, numbers)))
        return Starts.concatenate(parts)

    def components(self, output: Any = None, y: Any = None) -> Components:
        """The conditional of the output next to the known ones as a mixture, or of a later one.

        Parameters
        ----------
        output : int or str, default=None
            Column number or name; None is the first that is not known.
        y : array-like of shape (n_rows, n_outputs), default=None
            Values of the unknown outputs before it in the order.

        Returns
        -------
        Components
        """
        self._refuse_later("components")
        following = int(self.model.order[len(self.known)])
        j = following
        if output is not None:
            j = validation.check_output(output, self.output_names, "output")
        if j in self.known:
            raise ValueError(f"output {j} ({self.output_names[j]}) is known.")
        if j != following and y is None:
            raise ValueError(
                f"output {j} ({self.output_names[j]}) depends on unknown outputs before it in the "
                "order; pass their values as y."
            )
        with torch.no_grad():
            filled = self.density._before(j, y, self.known)
            return self.density._components(j, filled)

    def given(self, known: Mapping[Any, Any]) -> GivenDensity:
        more = self.density.given(known).known
        if again := more.keys() & self.known.keys():
            j = min(again)
            raise ValueError(f"given names output {j} ({self.output_names[j]}), which is known.")
        if len(more) + len(self.known) == self.n_outputs:
            raise ValueError("given names every output, so that nothing is left to infer.")
        return GivenDensity(self.density, self.known | more)

    def marginalise(self, ratio: Callable[[np.ndarray], np.ndarray]) -> ReweightedDensity:
        return ReweightedDensity(self, check_ratio(ratio))

    @torch.no_grad()
    def log_evidence(self) -> np.ndarray:
        """Log density of the known outputs given x, (n_rows,), in nats per unit of each.

        Exact if they come first in the order; otherwise the mean weight of fixed candidates.
        """
        evidence = np.empty(len(self))
        for rows in chunks(len(self), PAIRS // (1 if self.is_exact else N_CANDIDATES)):
            if self.is_exact:
                log_weight = self._member_weights(rows)
            else:
                log_weight = self._candidates(rows, N_CANDIDATES, None)[1]
            evidence[rows] = logsumexp(log_weight, axis=1) - np.log(log_weight.shape[1])
        jacobian = self.model.log_jacobian(self._filled(slice(0, len(self))))
        return evidence + jacobian[:, list(self.positions)].sum(axis=1)

    def _refuse_later(self, member: str) -> None:
        if not self._comes_first:
            names = ", ".join(self.output_names[j] for j in self.known)
            self._refuse(member, f"{names} would have to come first in `order`")

    def _with_known(self, y: np.ndarray) -> np.ndarray:
        """Values (n_rows, n_outputs) or (n_rows, n_points, n_outputs) with the known ones."""
        filled = y.copy()
        for j, values in self.known.items():
            filled[..., j] = values if y.ndim == 2 else values[:, None]
        return filled

    def _log_prob(self, y: np.ndarray) -> np.ndarray:
        evidence = self.log_evidence()
        joint = self.density._log_prob(self._with_known(y))
        return joint - (evidence if y.ndim == 2 else evidence[:, None])

    def _sobol_blocks(self, n_draws: int, generator: Noise) -> Iterator[Block]:
        self._refuse_later("sample(method='sobol')")
        return self.density._sobol_draws(n_draws, generator, self.known)

    def _pinned(
        self, rows: slice, pinned: dict[int, np.ndarray], n_draws: int, *, complete: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        known = {j: values[rows, None, None] for j, values in self.known.items()}
        log_weight, y = self.density._pinned(rows, known | pinned, n_draws, complete=complete)
        # By the same points, so that what they have in common cancels
        evidence, _ = self.density._pinned(rows, known, n_draws, complete=False)
        norm = logsumexp(evidence, axis=1, keepdims=True) - np.log(evidence.shape[1])
        return log_weight - norm, y

    def _pinned_log_prob(self, pinned: dict[int, np.ndarray], n_draws: int) -> np.ndarray:
        for j in pinned:
            if j in self.known:
                raise ValueError(
                    f"output {j} ({self.output_names[j]}) is known, so that it has no density."
                )
        if not self._comes_first:  # draws that the known values make improbable count little
            n_draws = max(n_draws, N_POINTS)
        return super()._pinned_log_prob(pinned, n_draws)

    def _filled(self, rows: slice) -> np.ndarray:
        """Known values in place, (n, n_outputs); anything that scalers accept elsewhere."""
        n = rows.stop - rows.start
        y = self.model.restore(np.zeros((n, self.model.n_outputs)))
        for j, values in self.known.items():
            y[:, j] = values[rows]
        return y

    def _numbers(self, rows: slice, n: int, generator: Noise | None) -> np.ndarray:
        """Uniform numbers of each candidate, (n_rows or 1, n, n_numbers).

        The first chooses the member, the last ones make the measurement of x.
        """
        model, network = self.model, self.model.on_device()
        n_measured = self.density._X.shape[1] if self.density.has_errors else 0
        n_numbers = 1 + model.n_outputs * network.n_noise + n_measured
        if generator is None:
            return sobol_points(n, n_numbers).clip(1e-12, 1.0 - 1e-12)[None]
        return block_uniform(generator, rows, slice(0, n), n_numbers)

    def _seen(self, rows: slice, numbers: np.ndarray) -> np.ndarray:
        """What the network sees of each candidate, or of all of a row, (n_rows, n or 1, ...)."""
        if not self.density.has_errors:
            return self.density._contexts(rows)
        measured = numbers[..., -self.density._X.shape[1] :]
        return self.density._jittered(rows, ndtri(measured))

    def _weigh(
        self, rows: slice, numbers: np.ndarray, n_outputs: int | None = None
    ) -> tuple[Tensor, np.ndarray]:
        """Scaled candidates (n_members, n_rows, n, n_outputs) and log weights, per scaled unit."""
        model, network = self.model, self.model.on_device(torch.float64)
        z_known = model.tensor(model.scale(self._filled(rows)), network)  # (n_rows, n_outputs)
        x = model.tensor(self._seen(rows, numbers), network).unsqueeze(0)
        n_noise = network.n_outputs * network.n_noise
        noise = model.tensor(numbers[..., 1 : 1 + n_noise], network)
        noise = noise.unflatten(-1, (network.n_outputs, network.n_noise))
        shape = (network.n_members, len(z_known), numbers.shape[1])
        log_weight = torch.zeros(shape, dtype=x.dtype, device=x.device)

        def choose(one: Conditional) -> Tensor:
            nonlocal log_weight
            if one.output not in self.positions:
                return one.sample(noise).expand(shape)
            r, log_prob = one.at(z_known[None, :, one.output, None])  # (1, n_rows, 1)
            log_weight = log_weight + log_prob
            return r.expand(shape)

        z = network.ancestral(x, choose, n_outputs)
        return z, to_numpy(log_weight)

    def _member_weights(self, rows: slice) -> np.ndarray:
        """Log density (n_rows, n_members) of the known outputs if they come first."""
        return self._weigh(rows, self._numbers(rows, 1, None), len(self.known))[1][..., 0].T

    @torch.no_grad()
    def _beside(
        self, rows: slice, numbers: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What `Engine.draw_beside` takes for the candidates of some rows."""
        model, n_rows, n = self.model, rows.stop - rows.start, numbers.shape[1]
        network = model.network
        u = np.broadcast_to(numbers[..., 0], (n_rows, n))
        if self.is_exact:  # each draw from a member, chosen by the density of the known outputs
            chosen = _choose(self._member_weights(rows)[:, None], u)
        else:
            chosen = (u * network.n_members).astype(np.intp)
        known = model.scale(self._filled(rows))
        known[:, [d for d in range(model.n_outputs) if d not in self.positions]] = np.nan
        x = self._seen(rows, numbers)
        noise = numbers[..., : 1 + network.n_outputs * network.n_noise]
        if x.shape[1] > 1:  # each draw has its own measurement of x
            known, chosen = known.repeat(n, axis=0), chosen.reshape(-1, 1)
            noise = np.broadcast_to(noise, (n_rows, *noise.shape[1:]))
        noise = np.ascontiguousarray(noise).reshape(-1, noise.shape[-1])
        return x.reshape(len(known), -1), noise, known, chosen

    def _candidates(
        self, rows: slice, n: int, generator: Noise | None
    ) -> tuple[np.ndarray, np.ndarray]:
        model, n_rows = self.model, rows.stop - rows.start
        x, noise, known, chosen = self._beside(rows, self._numbers(rows, n, generator))
        z, log_weight = model.engine.draw_beside(x, noise, known, chosen)
        y = model.restore(z.reshape(n_rows, n, -1))
        for j, values in self.known.items():
            y[..., j] = values[rows, None]
        return y, np.zeros((n_rows, n)) if self.is_exact else log_weight.reshape(n_rows, n)


def _choose(log_weight: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Members in proportion to their weights (..., n_members), by uniform numbers (...)."""
    total = logsumexp(log_weight, axis=-1, keepdims=True)
    cumulative = np.exp(log_weight - total).cumsum(axis=-1)
    return np.minimum((u[..., None] >= cumulative).sum(-1), log_weight.shape[-1] - 1)
