"""n(z) of a catalogue and of its tomographic bins, with bootstrap errors.

Stacking takes the mean of p(z | x_i). That is n(z) if the training rows have the redshifts of the
catalogue, and leans towards theirs if not. The hierarchical estimate drops this: with bins b of
redshift, shares theta_b of the catalogue and q_b of the training rows, and
``m_ib = P(b | x_i)`` under the model,

    p(x_i | b) ~ m_ib / q_b,    p({x_i} | theta) = prod_i sum_b theta_b m_ib / q_b

The assumption is that p(x | z) is the same for training rows and catalogue: only n(z) differs, and
within a bin not even that. The best q_b is the mean of P(b | x) over the training rows: it is the
prior that the model has, and gives theta = q for a catalogue like them, whatever the model. EM
climbs from there to the greatest likelihood [1]_; with a Dirichlet prior, theta is found by
variational inference [2]_, [3]_. Both move p(z) of every row to the prior of the catalogue, so that
any selection by x, such as a tomographic bin, is the sum over its rows of

    r_ib = theta_b m_ib / q_b / sum_c theta_c m_ic / q_c

=========================  ==============================================================
`stacked_nz`               mean of p(z)
`hierarchical_nz`          n(z) under which the photometry is most probable
`tomographic_bins`         bin of each row, by a point estimate
`RedshiftDistribution`     the result
=========================  ==============================================================

References
----------
.. [1] Saerens, Latinne and Decaestecker (2002), Adjusting the outputs of a classifier to new a
   priori probabilities, Neural Computation 14, 21.
.. [2] Leistedt, Mortlock and Peiris (2016), Hierarchical Bayesian inference of galaxy redshift
   distributions from photometric surveys, MNRAS 460, 4258.
.. [3] Malz and Hogg (2022), How to obtain the redshift distribution from probabilistic redshift
   estimates, ApJ 928, 127.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import digamma
from sklearn.utils import check_random_state

from .. import _validation as validation
from ..exceptions import ConvergenceWarning, warn_caller
from ..metrics.checks import check_numbers
from .grids import CELLS, check_grid
from .pdfs import RedshiftPDF

#: By how many nats the likelihood of a catalogue may still change in the last step; the most steps.
TOLERANCE, MAX_STEPS = 1e-4, 2000


@dataclass(frozen=True, eq=False, repr=False)
class RedshiftDistribution:
    """n(z) of one or several bins of a catalogue.

    Parameters
    ----------
    edges : ndarray of shape (n_edges,)
        Of the histogram.
    density : ndarray of shape (n_bins, n_edges - 1)
        n(z) per unit of redshift of each tomographic bin; they integrate to 1.
    replicates : ndarray of shape (n_bootstrap, n_bins, n_edges - 1)
        The same of catalogues whose rows were drawn with replacement.
    n_rows : ndarray of int of shape (n_bins,)
        Rows of each bin.
    """

    edges: np.ndarray
    density: np.ndarray
    replicates: np.ndarray
    n_rows: np.ndarray

    def __repr__(self) -> str:
        return f"RedshiftDistribution(n_rows={self.n_rows.tolist()}, {len(self.edges)} edges)"

    @property
    def std(self) -> np.ndarray:
        """Bootstrap errors of the density, (n_bins, n_edges - 1): those of finite rows alone."""
        return self.replicates.std(axis=0, ddof=1)

    @property
    def mean(self) -> np.ndarray:
        """Mean redshift of each bin, (n_bins,)."""
        return self._mean_of(self.density)

    @property
    def mean_std(self) -> np.ndarray:
        """Bootstrap errors of the mean redshifts, (n_bins,)."""
        return self._mean_of(self.replicates).std(axis=0, ddof=1)

    def _mean_of(self, density: np.ndarray) -> np.ndarray:
        return density @ (0.5 * np.diff(self.edges**2))


def tomographic_bins(z_point: Any, edges: Any) -> np.ndarray:
    """Number of the bin ``edges[k] <= z_point < edges[k + 1]`` of each row, or -1.

    Parameters
    ----------
    z_point : array-like of shape (n_rows,)
        Point estimates.
    edges : array-like of shape (n_edges,)
        Rising redshifts.

    Returns
    -------
    ndarray of int of shape (n_rows,)

    Examples
    --------
    >>> from sklearn_san.photoz import tomographic_bins
    >>> tomographic_bins([0.1, 0.5, 3.0], [0.0, 0.5, 1.0])
    array([ 0,  1, -1])
    """
    edges = check_grid(edges, "edges")
    place = np.searchsorted(edges, check_numbers(z_point, "z_point"), side="right") - 1
    return np.where(place < len(edges) - 1, place, -1)


def stacked_nz(
    pz: RedshiftPDF,
    edges: Any,
    *,
    bins: Any = None,
    n_bootstrap: int = 100,
    random_state: Any = None,
) -> RedshiftDistribution:
    """Mean of p(z): n(z) if the training rows have the redshifts of the catalogue.

    Parameters
    ----------
    pz : RedshiftPDF
        Rows of nan are left out.
    edges : array-like of shape (n_edges,)
        Of the histogram.
    bins : array-like of int of shape (n_rows,), default=None
        Tomographic bin of each row, 0, 1, ...; rows of negative ones are in none. None is one bin.
    n_bootstrap : int, default=100
        Catalogues drawn with replacement.
    random_state : int, RandomState or None, default=None
        Seed of these.

    Returns
    -------
    RedshiftDistribution
    """
    mass, chosen = _rows_of(pz, edges, bins)

    def of_counts(counts: np.ndarray) -> np.ndarray:
        return np.stack([(counts * own) @ mass for own in chosen], axis=1)

    return _with_bootstrap(of_counts, mass, chosen, edges, n_bootstrap, random_state)


def hierarchical_nz(
    pz: RedshiftPDF,
    edges: Any,
    training: Any,
    *,
    train_weight: Any = None,
    concentration: float | None = None,
    bins: Any = None,
    n_bootstrap: int = 100,
    random_state: Any = None,
) -> RedshiftDistribution:
    """n(z) under which the photometry of the catalogue is most probable.

    It assumes that p(x | z) is that of the training rows. Bins much narrower than p(z) are not told
    apart by the data: their shares then go up and down against each other, and the errors show it.

    Parameters
    ----------
    pz : RedshiftPDF
        Rows of nan are left out of the catalogue.
    edges : array-like of shape (n_edges,)
        Of the histogram. Bins without training rows get no share.
    training : RedshiftPDF or array-like of shape (n_train,)
        p(z) of the rows that the model was trained on, or of others like them, whose mean is the
        prior that is divided out; or their redshifts, whose histogram is. The mean of p(z) is the
        prior that the model really has, imperfect as it may be, and halves the errors.
    train_weight : array-like of shape (n_train,), default=None
        The `sample_weight` of `fit`, if there was one.
    concentration : float, default=None
        None is the greatest likelihood, by EM. Above 0, the parameter of a Dirichlet prior of the
        shares, the same for all bins; 1 is flat.
    bins : array-like of int of shape (n_rows,), default=None
        Tomographic bin of each row, as for `stacked_nz`. The shares are found for all rows
        together, bins -1 included.
    n_bootstrap : int, default=100
        Catalogues drawn with replacement.
    random_state : int, RandomState or None, default=None
        Seed of these.

    Returns
    -------
    RedshiftDistribution

    Warns
    -----
    ConvergenceWarning
        If the likelihood still changes after 2,000 steps.
    """
    mass, chosen = _rows_of(pz, edges, bins)
    if concentration is not None and not concentration > 0:
        raise ValueError(f"concentration must be above 0 or None, got {concentration!r}.")
    prior = _prior_of(training, train_weight, check_grid(edges, "edges"))
    likelihood = np.divide(mass, prior, out=np.zeros_like(mass), where=prior > 0)
    possible = likelihood.sum(axis=1) > 0
    likelihood, chosen = likelihood[possible], chosen[:, possible]

    def of_counts(counts: np.ndarray) -> np.ndarray:
        theta, evidence = _fit_shares(likelihood, counts, prior, concentration)
        per_row = counts / evidence
        return np.stack([theta * ((per_row * own) @ likelihood) for own in chosen], axis=1)

    return _with_bootstrap(of_counts, likelihood, chosen, edges, n_bootstrap, random_state)


def _fit_shares(
    likelihood: np.ndarray, counts: np.ndarray, prior: np.ndarray, concentration: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Shares (n_replicates, n_bins), and what the rows have under them, (n_replicates, n_rows).

    Rows are counted `counts` (n_replicates, n_rows) times. With a concentration, the shares are
    ``exp(E log theta)``, by which rows are shared out.
    """
    theta, total = np.tile(prior, (len(counts), 1)), counts.sum(axis=1, keepdims=True)
    allowed, before, change = prior > 0, np.full(len(counts), -np.inf), np.inf
    for _ in range(MAX_STEPS):
        evidence = np.maximum(theta @ likelihood.T, np.finfo(np.float64).tiny)
        log_likelihood = (counts * np.log(evidence / theta.sum(axis=1, keepdims=True))).sum(axis=1)
        change = np.abs(log_likelihood - before).max()
        if change < TOLERANCE:
            return theta, evidence
        before = log_likelihood
        expected = theta * ((counts / evidence) @ likelihood)
        if concentration is None:
            theta = expected / total
        else:
            own = expected[:, allowed] + concentration
            theta = np.zeros_like(theta)
            theta[:, allowed] = np.exp(digamma(own) - digamma(own.sum(axis=1, keepdims=True)))
    warn_caller(
        f"The likelihood of n(z) still changes by {change:.1g} nats after {MAX_STEPS} steps; take "
        "wider bins.",
        ConvergenceWarning,
    )
    return theta, np.maximum(theta @ likelihood.T, np.finfo(np.float64).tiny)


def _rows_of(pz: RedshiftPDF, edges: Any, bins: Any) -> tuple[np.ndarray, np.ndarray]:
    """Masses (n, n_edges - 1) of usable rows, and which are in each bin, (n_bins, n) booleans."""
    labels = np.zeros(len(pz), dtype=np.intp) if bins is None else np.asarray(bins)
    if labels.shape != (len(pz),) or labels.dtype.kind not in "iu" or not (labels >= 0).any():
        raise ValueError(
            f"bins must hold one whole number for each of {len(pz)} rows, 0 or more in some, got "
            f"{bins!r}."
        )
    mass = pz.masses(edges)
    inside = mass.sum(axis=1) > 0  # not of rows of nan
    labels = labels[inside]
    return mass[inside], labels == np.arange(labels.max() + 1)[:, None]


def _prior_of(training: Any, weight: Any, edges: np.ndarray) -> np.ndarray:
    """Share of the training rows in each bin, by their p(z) or their redshifts."""
    shape = (len(training),)
    weight = np.ones(shape) if weight is None else check_numbers(weight, "train_weight")
    if weight.shape != shape:
        raise ValueError(f"train_weight must have shape {shape}, got {weight.shape}.")
    if isinstance(training, RedshiftPDF):
        shares = weight @ np.nan_to_num(training.masses(edges))
    else:
        z = check_numbers(training, "training")
        shares = np.histogram(z, edges, weights=weight)[0].astype(np.float64)
    if not shares.sum() > 0:
        raise ValueError(f"training has no redshift between {edges[0]:g} and {edges[-1]:g}.")
    return shares / shares.sum()


def _with_bootstrap(
    of_counts: Callable[[np.ndarray], np.ndarray],
    values: np.ndarray,
    chosen: np.ndarray,
    edges: Any,
    n_bootstrap: int,
    random_state: Any,
) -> RedshiftDistribution:
    """n(z) of all rows, and of catalogues drawn with replacement."""
    validation.check_integer("n_bootstrap", n_bootstrap, 2)
    edges, n_rows = check_grid(edges, "edges"), len(values)
    random = np.random.RandomState() if random_state is None else check_random_state(random_state)

    def normalised(counts: np.ndarray) -> np.ndarray:
        shares = of_counts(counts)
        total = shares.sum(axis=-1, keepdims=True)
        return np.divide(shares, total, out=np.zeros_like(shares), where=total > 0) / np.diff(edges)

    replicates = [normalised(counts) for counts in _resampled(n_rows, n_bootstrap, random)]
    return RedshiftDistribution(
        edges,
        normalised(np.ones((1, n_rows)))[0],
        np.concatenate(replicates),
        chosen.sum(axis=1),
    )


def _resampled(
    n_rows: int, n_bootstrap: int, random: np.random.RandomState
) -> Iterator[np.ndarray]:
    """How often each row is drawn, some catalogues at a time, (n, n_rows)."""
    size = max(1, CELLS // n_rows)
    for start in range(0, n_bootstrap, size):
        n = min(size, n_bootstrap - start)
        drawn = (random.randint(n_rows, size=n_rows) for _ in range(n))
        yield np.stack([np.bincount(rows, minlength=n_rows) for rows in drawn]).astype(np.float64)
