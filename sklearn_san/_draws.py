"""Draws, with and without weights: blocks to compute at once, points, means, quantiles.

========================  ==================================================================
`resample`                equally weighted draws from weighted ones
`mean_of_rows`            with weights of the rows
`weighted_mean`           and `weighted_quantiles`, row by row
`pair_blocks`             blocks of rows and draws; `grid_blocks`: of rows and two axes
`shifted_sobol_points`    scrambled Sobol points, shifted anew in each row
========================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.stats import qmc

from . import _validation as validation
from ._keyed_noise import KeyedNoise, Noise, row_randoms, row_uniform
from ._model import CHUNK, chunks, make_random


def resample(
    draws: np.ndarray, weights: np.ndarray, n_draws: int, *, random_state: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """Equally weighted draws from weighted ones, by systematic resampling.

    Parameters
    ----------
    draws : ndarray of shape (n_rows, n_candidates, ...)
    weights : ndarray of shape (n_rows, n_candidates)
        Not negative, not all zero in a row; need not be normalised.
    n_draws : int
    random_state : int, RandomState or None, default=None

    Returns
    -------
    resampled : ndarray of shape (n_rows, n_draws, ...)
    effective_sample_size : ndarray of shape (n_rows,)
        Of the weighted draws, between 1 and n_candidates.

    Raises
    ------
    ValueError
        For weights that are negative, not finite or all zero in a row.

    Examples
    --------
    >>> import numpy as np
    >>> draws, ess = resample(np.array([[1.0, 2.0, 3.0]]), np.array([[0.0, 1.0, 1.0]]), 4,
    ...                       random_state=0)
    >>> sorted(draws[0].tolist()), ess
    ([2.0, 2.0, 3.0, 3.0], array([2.]))
    """
    validation.check_integer("n_draws", n_draws, 1)
    draws, weights = np.asarray(draws), np.asarray(weights, dtype=np.float64)
    if weights.ndim != 2 or draws.shape[:2] != weights.shape:
        raise ValueError(
            f"weights must have one entry for each of the draws, {draws.shape[:2]}, got shape "
            f"{weights.shape}."
        )
    bad = ~(np.isfinite(weights).all(1) & (weights >= 0).all(1) & (weights.sum(1) > 0))
    if bad.any():
        raise ValueError(
            f"weights of row {int(bad.argmax())} must be finite, not negative and not all zero."
        )
    return resample_rows(
        draws, weights, n_draws, row_randoms(make_random(random_state), len(draws))
    )


def resample_rows(
    draws: np.ndarray, weights: np.ndarray, n_draws: int, randoms: Iterator[np.random.Generator]
) -> tuple[np.ndarray, np.ndarray]:
    """`resample` of checked arguments, with the next of `randoms` for each row."""
    weights = weights / weights.sum(axis=1, keepdims=True)
    chosen = np.empty((len(draws), n_draws), dtype=np.intp)
    for i, cumulative in enumerate(weights.cumsum(axis=1)):
        random = next(randoms)
        levels = (np.arange(n_draws) + random.random()) / n_draws * cumulative[-1]
        chosen[i] = random.permutation(np.searchsorted(cumulative, levels, side="right"))
    chosen = np.minimum(chosen, weights.shape[1] - 1)
    return draws[np.arange(len(draws))[:, None], chosen], 1.0 / (weights**2).sum(axis=1)


def grid_blocks(shape: tuple[int, ...], size: int) -> Iterator[tuple[slice, slice, slice]]:
    """Blocks of (n_rows, n_first, n_second) of about `size` entries."""
    n_rows, n_first, n_second = shape
    for rows in chunks(n_rows, max(1, size // (n_first * n_second))):
        for first in chunks(n_first, max(1, size // n_second)):
            for second in chunks(n_second, size):
                yield rows, first, second


def mean_of_rows(values: np.ndarray, sample_weight: Any) -> float:
    """Mean of values (n_rows,); those of rows without weight may be infinite."""
    if sample_weight is None:
        return float(values.mean())
    weight = validation.check_weight(sample_weight, len(values))
    used = weight > 0
    return float(np.average(values[used], weights=weight[used]))


def weighted_mean(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mean (n_rows,) of values (n_rows, n_draws); what has no weight may be infinite."""
    return (weight * np.where(weight > 0, values, 0.0)).sum(axis=1)


def weighted_quantiles(y: np.ndarray, weight: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Quantiles (n_rows, n_levels, n_outputs) of weighted draws (n_rows, n_draws, n_outputs)."""
    if (weight == weight[:, :1]).all():
        quantiles = np.quantile(y, levels, axis=1)
    else:
        shared = np.broadcast_to(weight[..., None], y.shape)
        quantiles = np.quantile(y, levels, axis=1, weights=shared, method="inverted_cdf")
    return quantiles.swapaxes(0, 1)


def pair_blocks(n_rows: int, n_draws: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Rows and draws to compute at once: several whole rows, or a part of one row's draws."""
    for rows in chunks(n_rows, max(1, size // max(n_draws, 1))):
        whole = rows.stop - rows.start > 1
        for draws in chunks(n_draws, max(1, n_draws if whole else size)):
            yield rows, draws


def shifted_sobol_points(
    n_rows: int, n_draws: int, n_outputs: int, generator: Noise
) -> Iterator[tuple[slice, np.ndarray]]:
    """Chunks of rows with scrambled Sobol points (n, n_draws, n_outputs), shifted in each row."""
    if isinstance(generator, KeyedNoise):
        seed = generator.seed
    else:
        seed = int(generator.integers(2**31))
    engine = qmc.Sobol(n_outputs, rng=np.random.default_rng(seed))
    points = engine.random_base2(max(n_draws - 1, 1).bit_length())[:n_draws]
    for rows in chunks(n_rows, max(1, CHUNK // n_draws)):
        shift = row_uniform(generator, rows, n_outputs)[:, None]
        yield rows, np.clip((points + shift) % 1.0, 1e-12, 1.0 - 1e-12)
