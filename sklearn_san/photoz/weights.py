"""Weights that give a spectroscopic sample the photometry of the whole catalogue.

Targets of spectroscopy are brighter and bluer than the rest. If the probability to be chosen
depends on x alone, p(z | x) is the same in both, and rows are worth

    w(x) = p_phot(x) / p_spec(x)

each, which needs every x of the catalogue to be within reach of the sample. Weights go into
``fit(X, z, sample_weight=w)``, into scores, and into n(z) of the catalogue as the weighted
histogram of the spectroscopic redshifts.

=======================  ================================================================
`neighbour_weights`      ratio of neighbours [1]_
`classifier_weights`     odds of a classifier between the two [2]_
`effective_rows`         how many rows of equal weight these are worth
=======================  ================================================================

References
----------
.. [1] Lima, Cunha, Oyaizu, Frieman, Lin and Sheldon (2008), Estimating the redshift distribution
   of photometric galaxy samples, MNRAS 390, 118.
.. [2] Bickel, Brueckner and Scheffer (2009), Discriminative learning under covariate shift, Journal
   of Machine Learning Research 10.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial import KDTree
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array

from .. import _validation as validation
from .._tables import without_mask
from ..exceptions import EffectiveSampleSizeWarning, warn_caller
from ..metrics.checks import check_numbers

#: Fewer effective rows than this are warned of.
FEW = 50.0
#: The most that a classifier may be sure.
SUREST = 1.0 - 1e-6


def neighbour_weights(X_spec: Any, X_phot: Any, *, n_neighbours: int = 20) -> np.ndarray:
    """Weights by the number of photometric rows around each spectroscopic one.

    A ball around the row reaches to its `n_neighbours`-th spectroscopic neighbour; the weight is
    the number of photometric rows in it.

    Parameters
    ----------
    X_spec : array-like of shape (n_spec, n_features)
        Features of the spectroscopic sample: magnitudes and colours, finite, few. Each is divided
        by its standard deviation in the catalogue.
    X_phot : array-like of shape (n_phot, n_features)
        The same of the catalogue, or of rows drawn from it.
    n_neighbours : int, default=20
        Fewer follow the catalogue more closely, with more noise.

    Returns
    -------
    ndarray of shape (n_spec,)
        Not negative, with mean 1.

    Warns
    -----
    EffectiveSampleSizeWarning
        If the rows are worth fewer than 50 of equal weight.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_san.photoz import neighbour_weights
    >>> random = np.random.default_rng(0)
    >>> spec, phot = random.normal(size=(2000, 1)), random.normal(0.5, size=(4000, 1))
    >>> weights = neighbour_weights(spec, phot)
    >>> round(float(np.average(spec[:, 0], weights=weights)), 1)
    0.5
    """
    X_spec, X_phot = (
        check_numbers(X, name) for X, name in ((X_spec, "X_spec"), (X_phot, "X_phot"))
    )
    _check_pair(X_spec, X_phot)
    validation.check_integer("n_neighbours", n_neighbours, 1)
    if n_neighbours >= len(X_spec):
        raise ValueError(
            f"n_neighbours must be below the {len(X_spec)} rows of X_spec, got {n_neighbours}."
        )
    scaler = StandardScaler().fit(X_phot)
    spec, phot = scaler.transform(X_spec), scaler.transform(X_phot)
    reach = KDTree(spec).query(spec, k=[n_neighbours + 1])[0][:, 0]  # the first is the row itself
    return _scaled(KDTree(phot).query_ball_point(spec, reach, return_length=True))


def classifier_weights(
    X_spec: Any, X_phot: Any, *, classifier: Any = None, cv: int = 5, random_state: Any = None
) -> np.ndarray:
    """Weights by the odds that a classifier gives a row to be of the catalogue.

    Each row is judged by a classifier that did not see it.

    Parameters
    ----------
    X_spec : array-like of shape (n_spec, n_features)
        Features of the spectroscopic sample. nan may stand for missing values if the classifier
        takes them, as the default does.
    X_phot : array-like of shape (n_phot, n_features)
        The same of the catalogue, or of rows drawn from it.
    classifier : classifier, default=None
        With `predict_proba`, which should be calibrated. None is scikit-learn's
        `HistGradientBoostingClassifier` with early stopping.
    cv : int, default=5
        Folds.
    random_state : int, RandomState or None, default=None
        Of the folds, and of the default classifier.

    Returns
    -------
    ndarray of shape (n_spec,)
        Not negative, with mean 1.

    Warns
    -----
    EffectiveSampleSizeWarning
        If the rows are worth fewer than 50 of equal weight.
    """
    X_spec, X_phot = (
        check_array(without_mask(X), dtype=np.float64, ensure_all_finite="allow-nan")
        for X in (X_spec, X_phot)
    )
    _check_pair(X_spec, X_phot)
    validation.check_integer("cv", cv, 2)
    if classifier is None:
        classifier = HistGradientBoostingClassifier(
            early_stopping=True,
            max_iter=500,
            n_iter_no_change=20,
            max_leaf_nodes=6,
            random_state=random_state,
        )
    is_phot = np.repeat([0, 1], [len(X_spec), len(X_phot)])
    share = cross_val_predict(
        clone(classifier),
        np.concatenate([X_spec, X_phot]),
        is_phot,
        cv=StratifiedKFold(cv, shuffle=True, random_state=random_state),
        method="predict_proba",
    )[: len(X_spec), 1]
    share = np.minimum(share, SUREST)
    return _scaled(share / (1.0 - share))


def effective_rows(sample_weight: Any) -> float:
    """How many rows of equal weight rows are worth: (sum w)^2 / sum w^2 (Kong 1992).

    Parameters
    ----------
    sample_weight : array-like of shape (n_rows,)
        Not negative, not all zero.

    Returns
    -------
    float

    Examples
    --------
    >>> from sklearn_san.photoz import effective_rows
    >>> effective_rows([1.0, 1.0, 0.0])
    2.0
    """
    weight = check_numbers(sample_weight, "sample_weight")
    if weight.ndim != 1 or weight.min() < 0 or not weight.max() > 0:
        raise ValueError("sample_weight must hold (n_rows,) weights, not negative, not all zero.")
    weight = weight / weight.max()
    return float(weight.sum() ** 2 / (weight**2).sum())


def _check_pair(X_spec: np.ndarray, X_phot: np.ndarray) -> None:
    if X_spec.ndim != 2 or X_phot.ndim != 2 or X_spec.shape[1] != X_phot.shape[1]:
        raise ValueError(
            "X_spec and X_phot must have the same features, (n_rows, n_features); got shapes "
            f"{X_spec.shape} and {X_phot.shape}."
        )


def _scaled(weight: np.ndarray) -> np.ndarray:
    """Weights with mean 1; warns if few rows have most of it."""
    if not weight.max() > 0:
        raise ValueError("X_phot has no row near those of X_spec: there is nothing to be weighted.")
    n_effective = effective_rows(weight)
    if n_effective < FEW:
        warn_caller(
            f"The {len(weight)} spectroscopic rows are worth {n_effective:.0f} of equal weight: "
            "they hardly overlap with the catalogue.",
            EffectiveSampleSizeWarning,
        )
    return weight / weight.mean()
