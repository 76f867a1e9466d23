"""Monotone maps of Rosenblatt coordinates, learned from their normal scores.

If a density were calibrated, the normal scores ``s = ndtri(u)`` of its coordinates would be
standard normal. `ScoreMap` is the density q of what they are, and its cdf Q maps the coordinate to
one that is uniform: ``Q(ndtri(u))``.

===============  ==========================================================
`ScoreMap`       mixture of normals of the scores of one output
`fit_score_map`  the map of held-out scores; none where it does not help
===============  ==========================================================
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import logsumexp, ndtr, ndtri
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import KFold
from torch import Tensor

#: Coordinates are kept this far from 0 and 1.
EDGE = 1e-15
#: Numbers of components that are tried for the density of normal scores; none is no change.
COMPONENTS = (1, 2, 3)


@dataclass(frozen=True)
class ScoreMap:
    """Density of the normal scores of one output: a mixture of normals.

    Parameters
    ----------
    weight, loc, scale : ndarray of shape (n_components,)
    """

    weight: np.ndarray
    loc: np.ndarray
    scale: np.ndarray

    def log_ratio(self, score: np.ndarray) -> np.ndarray:
        """Log of q(s) / phi(s), of any shape."""
        t = (score[..., None] - self.loc) / self.scale
        log_q = logsumexp(np.log(self.weight / self.scale) - 0.5 * t**2, axis=-1)
        return log_q + 0.5 * score**2

    def log_ratio_in_torch(self, score: Tensor) -> Tensor:
        """The same with a gradient; float64."""
        weight, loc, scale = (
            torch.as_tensor(v, device=score.device) for v in (self.weight, self.loc, self.scale)
        )
        t = (score.unsqueeze(-1) - loc) / scale
        return ((weight / scale).log() - 0.5 * t.square()).logsumexp(-1) + 0.5 * score.square()

    def cdf(self, score: np.ndarray) -> np.ndarray:
        """Calibrated coordinate of a score."""
        return (self.weight * ndtr((score[..., None] - self.loc) / self.scale)).sum(-1)

    def quantile(self, u: np.ndarray) -> np.ndarray:
        """Score of a calibrated coordinate, by bisection."""
        ends = self.loc + self.scale * ndtri(u)[..., None]
        low, high = ends.min(-1), ends.max(-1)
        for _ in range(60 if len(self.loc) > 1 else 0):
            middle = 0.5 * (low + high)
            below = self.cdf(middle) < u
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return 0.5 * (low + high)


def fit_score_map(score: np.ndarray, sample_weight: np.ndarray | None = None) -> ScoreMap:
    """Map for the scores (n,) of held-out rows, which may have weights (n,).

    More components must raise the cross-validated log-likelihood by more than its standard error,
    so that a calibrated density is left alone.
    """
    best, chosen = np.zeros(len(score)), 0
    for n_components in COMPONENTS:
        held_out = np.empty(len(score))
        for train, test in KFold(5, shuffle=True, random_state=0).split(score):
            own = None if sample_weight is None else sample_weight[train]
            mixture = _fit_mixture(score[train], n_components, own)
            held_out[test] = mixture.log_ratio(score[test])
        gain = held_out - best
        mean = np.average(gain, weights=sample_weight)
        share = 1.0 / len(gain)
        if sample_weight is not None:
            share = (sample_weight**2).sum() / sample_weight.sum() ** 2
        if mean > np.sqrt(share * np.average((gain - mean) ** 2, weights=sample_weight)):
            best, chosen = held_out, n_components
    return _fit_mixture(score, chosen, sample_weight)


def _fit_mixture(
    score: np.ndarray, n_components: int, sample_weight: np.ndarray | None
) -> ScoreMap:
    if n_components == 0:
        return ScoreMap(np.ones(1), np.zeros(1), np.ones(1))
    if sample_weight is not None:  # which the mixture does not take: rows in proportion to it
        total = sample_weight.cumsum()
        levels = (np.arange(len(score)) + 0.5) / len(score) * total[-1]
        score = score[np.searchsorted(total, levels)]
    mixture = GaussianMixture(n_components, reg_covar=1e-3, max_iter=200, random_state=0)
    mixture.fit(score[:, None])
    return ScoreMap(mixture.weights_, mixture.means_[:, 0], np.sqrt(mixture.covariances_[:, 0, 0]))
