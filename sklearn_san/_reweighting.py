"""Densities that are others with weights: candidates, effective sample sizes, new priors.

With candidates y_s from a proposal and weights w_s in proportion to target over proposal, means are
weighted means and draws are candidates resampled by weight. The effective sample size

    n_eff = (sum_s w_s)^2 / sum_s w_s^2

says how many equally weighted draws they are worth [1]_.

====================  ======================================================================
`WeightedDensity`     what is drawn by resampling of candidates
`ReweightedDensity`   p(y | x) ratio(y), normalised
====================  ======================================================================

References
----------
.. [1] Kong (1992), A note on importance sampling using standardized weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import logsumexp

from . import _validation as validation
from ._caller_state import N_FRAMES
from ._density_base import N_CANDIDATES, N_POINTS, PAIRS, Block, Density, SameOutputs
from ._draws import resample_rows
from ._keyed_noise import Noise, make_noise, row_randoms
from ._marginals import Components
from ._model import chunks
from ._targets import TargetCodec
from .exceptions import EffectiveSampleSizeWarning

#: Fewer effective draws than this are warned of.
FEW = 50.0


class WeightedDensity(SameOutputs, Density):
    """A density that is another one with weights.

    Parameters
    ----------
    density : Density
        From which candidates are drawn.
    """

    #: Whether candidates come from the density itself and so need no weights.
    is_exact = False

    def __init__(self, density: Any):
        self.density = density

    def __len__(self) -> int:
        return len(self.density)

    @property
    def index(self) -> Any:
        return self.density.index

    def sample(
        self,
        n_draws: int = 1,
        *,
        random_state: Any = None,
        method: str = "random",
        dtype: Any = None,
        out: Any = None,
        progress: bool = False,
        row_ids: Any = None,
        n_candidates: int | None = None,
        return_ess: bool = False,
    ) -> Any:
        """Draws for every row.

        Parameters
        ----------
        n_draws : int, default=1
        random_state : int, RandomState or None, default=None
            The same seed gives the same draws. None draws fresh ones.
        method : {"random", "sobol"}, default="random"
            As for `ConditionalDensity.sample`; "sobol" where the density has an `inverse_cdf`.
        dtype : {float32, float64}, default=None
            Of the result; None is float64, or the dtype of `out`.
        out : array-like of shape (n_rows, n_draws, n_outputs), default=None
            Where to write the draws, as for `ConditionalDensity.sample`; it is returned.
        progress : bool, default=False
            Whether to show a progress bar, on standard error.
        row_ids : array-like of shape (n_rows,), default=None
            As for `ConditionalDensity.sample`.
        n_candidates : int, default=None
            Weighted draws of each row that these are resampled from; None takes 16 times as many,
            at least 8,192. Not used where the density is exact.
        return_ess : bool, default=False
            Whether to return the effective sample size as well.

        Returns
        -------
        draws : ndarray of shape (n_rows, n_draws, n_outputs)
            All outputs, known ones included.
        effective_sample_size : ndarray of shape (n_rows,)
            With `return_ess` only: how many independent draws of each row the candidates are
            worth; `n_draws` where the density is exact.

        Warns
        -----
        EffectiveSampleSizeWarning
            If that is below 50 for any row.
        """
        validation.check_integer("n_draws", n_draws, 1)
        validation.check_integer("n_candidates", n_candidates, 1, optional=True)
        validation.check_boolean("return_ess", return_ess)
        validation.check_choice("method", method, ("random", "sobol"))
        noise = make_noise(random_state, row_ids, len(self))
        ess = np.full(len(self), float(n_draws))
        if method == "sobol":
            blocks = self._sobol_blocks(n_draws, noise)
        else:
            blocks = self._resampled(n_draws, noise, n_candidates, ess)
        draws = self._collect(blocks, n_draws, dtype, out, progress=progress)
        if method == "random" and not self.is_exact:
            _warn_if_few(ess, self._remedy, 3 + N_FRAMES)
        return (draws, ess) if return_ess else draws

    #: What raises the effective number of draws.
    _remedy = "Raise n_candidates"

    def _draw_blocks(self, n_draws: int, generator: Noise, method: str) -> Iterator[Block]:
        validation.check_choice("method", method, ("random", "sobol"))
        if method == "sobol":
            yield from self._sobol_blocks(n_draws, generator)
            return
        ess = np.full(len(self), float(n_draws))
        yield from self._resampled(n_draws, generator, None, ess)
        if not self.is_exact:
            _warn_if_few(ess, self._remedy, 5 + N_FRAMES)

    def _sobol_blocks(self, n_draws: int, generator: Noise) -> Iterator[Block]:
        self._refuse("sample(method='sobol')", "it has no inverse_cdf; use method='random'")

    def _resampled(
        self,
        n_draws: int,
        generator: Noise,
        n_candidates: int | None,
        ess: np.ndarray,
    ) -> Iterator[Block]:
        """Draws from weighted candidates; `ess` is filled with what these are worth."""
        # A stream of its own, so that draws do not depend on how the rows are divided
        randoms = row_randoms(generator, len(self))
        n = n_draws if self.is_exact else n_candidates or max(N_CANDIDATES, 16 * n_draws)
        for rows in chunks(len(self), max(1, PAIRS // n)):
            y, log_weight = self._candidates(rows, n, generator)
            if not self.is_exact:
                weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
                y, ess[rows] = resample_rows(y, weight, n_draws, randoms)
            yield rows, slice(0, n_draws), y

    # What a kind of density must say

    @property
    def _codec(self) -> TargetCodec:
        return self.density._codec

    def _check_y(self, y: Any, *, several: bool = False) -> np.ndarray:
        return self.density._check_y(y, several=several)

    def _snap(self, j: int, grid: np.ndarray) -> np.ndarray:
        return self.density._snap(j, grid)

    @property
    def _n_fixed(self) -> int:
        return N_POINTS if self.is_exact else max(N_CANDIDATES, self.density._n_fixed)


class ReweightedDensity(WeightedDensity):
    """p(y | x) times a ratio of priors, normalised; made by ``marginalise`` of any density.

    Parameters
    ----------
    density : Density
    ratio : callable
        Takes y of shape (n, n_outputs) and returns (n,) ratios.
    """

    def __init__(self, density: Any, ratio: Callable[[np.ndarray], np.ndarray]):
        super().__init__(density)
        self.ratio = ratio

    def __getitem__(self, rows: Any) -> ReweightedDensity:
        return ReweightedDensity(self.density[rows], self.ratio)

    @property
    def _n_fixed(self) -> int:
        return self.density._n_reweighted

    @property
    def _n_reweighted(self) -> int:
        return self.density._n_reweighted

    def grad_log_prob(self, y: Any) -> np.ndarray:
        self._refuse("grad_log_prob", "the ratio is a function of which no gradient is known")

    def cdf(self, y: Any, *, random_state: Any = 0) -> np.ndarray:
        self._refuse("cdf", "the ratio ties the outputs together, so that no conditional is known")

    def inverse_cdf(self, u: Any) -> np.ndarray:
        self._refuse(
            "inverse_cdf", "the ratio ties the outputs together, so that no conditional is known"
        )

    def components(self, output: Any = None, y: Any = None) -> Components:
        self._refuse("components", "a mixture times a ratio is no mixture")

    def given(self, known: Mapping[Any, Any]) -> ReweightedDensity:
        return ReweightedDensity(self.density.given(known), self.ratio)

    def marginalise(self, ratio: Callable[[np.ndarray], np.ndarray]) -> ReweightedDensity:
        first, second = self.ratio, check_ratio(ratio)
        return ReweightedDensity(self.density, lambda y: first(y) * second(y))

    def _log_prob(self, y: np.ndarray) -> np.ndarray:
        log_prob = self.density._log_prob(y) + self._log_ratio(y)
        return log_prob - (self._log_norm if y.ndim == 2 else self._log_norm[:, None])

    @cached_property
    def _log_norm(self) -> np.ndarray:
        """Log of the mean ratio (n_rows,) over fixed candidates."""
        norm, n = np.empty(len(self)), self._n_fixed
        for rows in chunks(len(self), max(1, PAIRS // n)):
            y, log_weight = self.density._candidates(rows, n, None)
            total = logsumexp(log_weight + self._log_ratio(y), axis=1)
            norm[rows] = total - logsumexp(log_weight, axis=1)
        return norm

    def _log_ratio(self, y: np.ndarray) -> np.ndarray:
        """Log ratio of values (..., n_outputs)."""
        flat = self._present(y.reshape(-1, y.shape[-1]))
        ratio = np.asarray(self.ratio(flat))
        if ratio.dtype.kind not in "biuf":
            raise TypeError(f"ratio must return numbers, got {ratio.dtype}.")
        if ratio.shape != (len(flat),):
            raise ValueError(
                f"ratio must return one number for each of the {len(flat)} values, shape "
                f"({len(flat)},), got shape {ratio.shape}."
            )
        if not (np.isfinite(ratio).all() and (ratio >= 0).all()):
            wrong = ratio[~(np.isfinite(ratio) & (ratio >= 0))][0]
            raise ValueError(f"ratio must be finite and not negative, got {wrong}.")
        with np.errstate(divide="ignore"):
            return np.log(ratio).reshape(y.shape[:-1])

    def log_evidence(self) -> np.ndarray:
        """Log of the mean ratio of every row, (n_rows,), over fixed candidates.

        If the ratio is that of two normalised priors, this is the log of how much more probable x
        is under the new one.
        """
        return self._log_norm.copy()

    def _candidates(
        self, rows: slice, n: int, generator: Noise | None
    ) -> tuple[np.ndarray, np.ndarray]:
        y, log_weight = self.density._candidates(rows, n, generator)
        log_ratio = self._log_ratio(y)
        if np.isneginf(log_ratio).all(axis=1).any():
            raise ValueError(
                f"ratio is 0 for all {y.shape[1]} draws of a row: the new prior excludes all that "
                "the model finds possible there."
            )
        return y, log_weight + log_ratio

    def _pinned(
        self, rows: slice, pinned: dict[int, np.ndarray], n_draws: int, *, complete: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        log_weight, y = self.density._pinned(rows, pinned, n_draws, complete=True)
        assert y is not None  # it was asked for
        norm = self._log_norm[rows, None, None, None]
        return log_weight + self._log_ratio(y) - norm, y if complete else None


def check_ratio(ratio: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Ratio of priors as a function."""
    if not callable(ratio):
        raise TypeError(
            f"ratio must be a function of y (n, n_outputs), got {type(ratio).__name__}; for "
            "weights of draws that you have, use sklearn_san.density.resample."
        )
    return ratio


def _warn_if_few(ess: np.ndarray, remedy: str, stacklevel: int) -> None:
    few = ess < FEW
    if few.any():
        warnings.warn(
            f"{few.sum()} of {len(ess)} rows have fewer than {FEW:g} effective draws, the least "
            f"{ess.min():.1f}; their draws repeat a few values. {remedy}.",
            EffectiveSampleSizeWarning,
            stacklevel=stacklevel,
        )
