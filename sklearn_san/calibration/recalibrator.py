"""The meta-estimator that recalibrates a density on rows that it was not trained on."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import sklearn
from scipy.special import ndtri
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import KFold, ShuffleSplit, check_cv
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.validation import check_is_fitted

from .._caller_state import OwnState
from .._draws import mean_of_rows
from .._estimator import SANConditionalDensityEstimator
from .._masking import MaskedDensity, some_rows
from .._model import make_generator
from .._parts import is_parts
from .._tables import as_table, in_order
from .._targets import split_columns
from .._validation import check_choice, check_integer, check_real, check_weight
from ..chains import ERRORS_BEHIND_TRANSFORMERS, density_of, inner_estimator
from .recalibrated import RecalibratedDensity, conformity
from .saving import load_calibrated, save_calibrated
from .score_maps import EDGE, fit_score_map


class CalibratedDensity(OwnState, MetaEstimatorMixin, RegressorMixin, BaseEstimator):
    """Density estimator that is recalibrated on held-out rows.

    Parameters
    ----------
    estimator : estimator, default=None
        Has `predict_density`, or is a Pipeline or search that ends in such a one; None is
        ``SANConditionalDensityEstimator()``. One that is fitted
        already, and is to stay so, comes as ``FrozenEstimator(estimator)`` from
        `sklearn.frozen`; the rows of `fit` must then be new to it.
    cv : int, float, splitter or iterable, default=5
        How rows are held out. A number of folds, or a splitter: the coordinates of each row
        come from a fit without it, and the estimator is fitted once more on all rows. A share
        such as 0.2: these rows are set aside and never fitted to, which makes the coverage of
        conformal sets exact; it is so for a frozen estimator, too.
    random_state : int, RandomState or None, default=None
        Of the split.

    Attributes
    ----------
    estimator_ : estimator
        Fitted to all rows, or to those that were not set aside.
    maps_ : list of ScoreMap
        One for each output.
    n_calibration_ : int
        Rows that were held out.
    n_features_in_ : int
        Number of features, if the estimator knows it.

    Examples
    --------
    >>> from sklearn_san import CalibratedDensity, SANConditionalDensityEstimator
    >>> from sklearn_san.datasets import make_bimodal
    >>> X, y, _ = make_bimodal(600, random_state=0)
    >>> est = SANConditionalDensityEstimator(K=3, epochs=10, random_state=0)
    >>> calibrated = CalibratedDensity(est, cv=0.3, random_state=0).fit(X, y)
    >>> calibrated.predict_density(X[:4]).interval(0.9, method="conformal").shape
    (4, 2, 2)
    """

    def __init__(self, estimator: Any = None, *, cv: Any = 5, random_state: Any = None):
        self.estimator = estimator
        self.cv = cv
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        X_err: Any = None,
        groups: Any = None,
    ) -> CalibratedDensity:
        """Fit the estimator, and the calibration on rows that it has not seen.

        With scikit-learn's metadata routing the estimator must ask for what is to be passed on to
        its `fit`: ``estimator.set_fit_request(sample_weight=True)``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the fits and in the maps. Rows of weight zero are left out;
            otherwise all count alike in conformal sets.
        X_err : array-like of shape (n_samples, n_features), default=None
            Measurement errors of X, for the estimator's `fit` and, if it is one with
            ``use_errors=True``, for the densities of held-out rows.
        groups : array-like of shape (n_samples,), default=None
            For a splitter `cv` that keeps groups together.

        Returns
        -------
        self : object
        """
        base = self.estimator if self.estimator is not None else SANConditionalDensityEstimator()
        X, y = X if is_parts(X) else as_table(X), as_table(y, "y")
        inner, prefix, is_transformed = inner_estimator(base)
        is_own = isinstance(inner, SANConditionalDensityEstimator)
        if is_own and isinstance(inner.encoder, (list, tuple)):
            raise TypeError(
                "CalibratedDensity splits parts of X in a dict, but encoder is a "
                f"{type(inner.encoder).__name__}; name the parts."
            )
        if X_err is not None and is_transformed:
            raise ValueError(ERRORS_BEHIND_TRANSFORMERS)
        n_rows = len(split_columns(y)[0][0])
        weight = None
        if sample_weight is not None:
            weight = check_weight(sample_weight, n_rows)
            if not weight.all():
                used = np.flatnonzero(weight)
                X, y, X_err, groups = (
                    None if data is None else some_rows(data, used)
                    for data in (X, y, X_err, groups)
                )
                weight, n_rows = weight[used], len(used)
        given = {"sample_weight": weight, "X_err": X_err}
        options = self._fit_options({k: v for k, v in given.items() if v is not None}, prefix)
        # Errors in training only: the model has averaged over them
        errors = X_err if getattr(inner, "use_errors", False) else None
        splits, refit = self._splits(n_rows, y, groups)
        one_dimensional = np.ndim(y) == 1

        def fit(rows: np.ndarray | None) -> Any:
            if rows is None:
                return clone(base).fit(X, y, **options)
            own = {name: some_rows(values, rows) for name, values in options.items()}
            return clone(base).fit(some_rows(X, rows), some_rows(y, rows), **own)

        coordinates, scores, held_out = [], [], []
        for train, test in splits:
            fitted = fit(train)
            seen = {} if errors is None else {"X_err": some_rows(errors, test)}
            density = density_of(fitted, some_rows(X, test), **seen)
            if not getattr(density, "is_continuous", True):
                raise ValueError(
                    "CalibratedDensity needs outputs that have a density everywhere; leave out "
                    "those with labels, whole numbers or point masses."
                )
            own = in_order(some_rows(y, test), density.output_names)
            values = np.stack(split_columns(own)[0], axis=1).astype(np.float64)
            coordinates.append(np.reshape(density.cdf(own), values.shape))
            scores.append(conformity(density, values, one_dimensional=one_dimensional))
            held_out.append(test)
        if refit:
            fitted = fit(None)
        u = np.clip(np.concatenate(coordinates), EDGE, 1.0 - EDGE)
        own_weight = None if weight is None else weight[np.concatenate(held_out)]
        self.estimator_ = fitted
        self.maps_ = [fit_score_map(ndtri(column), own_weight) for column in u.T]
        self.interval_scores_ = np.sort(np.concatenate([one for one, _ in scores]), axis=0)
        self.region_scores_ = np.sort(np.concatenate([one for _, one in scores]))
        self.n_calibration_ = len(u)
        self._one_dimensional = one_dimensional
        if hasattr(fitted, "n_features_in_"):
            self.n_features_in_ = fitted.n_features_in_
        return self

    def predict_density(self, X: Any, *, X_err: Any = None, on_bad_rows: str = "raise") -> Any:
        """Recalibrated density of every row of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        X_err : array-like of shape (n_samples, n_features), default=None
            Measurement errors of X, for the estimator.
        on_bad_rows : {"raise", "nan"}, default="raise"
            As for ``SANConditionalDensityEstimator.predict_density``.

        Returns
        -------
        RecalibratedDensity
        """
        check_is_fitted(self, "maps_")
        given = {} if X_err is None else {"X_err": X_err}
        if on_bad_rows != "raise":
            given["on_bad_rows"] = on_bad_rows
        base = density_of(self.estimator_, X, **given)
        if isinstance(base, MaskedDensity):
            return MaskedDensity(self._recalibrated(base.density), base.usable, base.index)
        return self._recalibrated(base)

    def _recalibrated(self, base: Any) -> RecalibratedDensity:
        return RecalibratedDensity(
            base,
            self.maps_,
            self.interval_scores_,
            self.region_scores_,
            one_dimensional=self._one_dimensional,
        )

    def log_prob(self, X: Any, y: Any, **options: Any) -> np.ndarray:
        """Log density of y given X, (n_samples,), in nats per unit of every output.

        Options are those of `predict_density`.
        """
        return self.predict_density(X, **options).log_prob(y)

    def score(self, X: Any, y: Any, sample_weight: Any = None, X_err: Any = None) -> float:
        """Mean log-likelihood per row in nats; larger is better."""
        log_prob = self.log_prob(X, y, X_err=X_err)
        return mean_of_rows(log_prob, sample_weight)

    def sample(
        self,
        X: Any,
        n_samples: int = 1,
        *,
        random_state: Any = None,
        row_ids: Any = None,
        X_err: Any = None,
        on_bad_rows: str = "raise",
    ) -> np.ndarray:
        """Draws for every row of X, ``(n_samples, n_draws, n_outputs)``.

        Arguments are those of ``SANConditionalDensityEstimator.sample``.
        """
        density = self.predict_density(X, X_err=X_err, on_bad_rows=on_bad_rows)
        return density.sample(n_samples, random_state=random_state, row_ids=row_ids)

    def predict(
        self, X: Any, *, output_type: str = "mean", quantiles: Any = (0.05, 0.5, 0.95),
        level: float = 0.9, n_samples: int = 1, random_state: Any = None, X_err: Any = None,
        row_ids: Any = None, on_bad_rows: str = "raise",
    ) -> np.ndarray:  # fmt: skip
        """Summarise the density of every row, as `SANConditionalDensityEstimator.predict` does.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        output_type : {"mean", "median", "std", "quantiles", "interval", "samples"}, default="mean"
        quantiles : float or sequence of float, default=(0.05, 0.5, 0.95)
        level : float, default=0.9
        n_samples : int, default=1
        random_state : int, RandomState or None, default=None
        X_err : array-like of shape (n_samples, n_features), default=None
        row_ids : array-like of shape (n_samples,), default=None
        on_bad_rows : {"raise", "nan"}, default="raise"

        Returns
        -------
        ndarray
        """
        types = ("mean", "median", "std", "quantiles", "interval", "samples")
        check_choice("output_type", output_type, types)
        density = self.predict_density(X, X_err=X_err, on_bad_rows=on_bad_rows)
        if output_type == "samples":
            return density.sample(n_samples, random_state=random_state, row_ids=row_ids)
        if output_type == "quantiles":
            return density.quantile(quantiles)
        if output_type == "interval":
            return density.interval(level)
        return getattr(density, output_type)()

    def save(self, path: Any) -> None:
        """Write the fitted model to one file that can be loaded without trust in its author.

        Parameters
        ----------
        path : str or path-like
            File, which is replaced in one step if it exists.

        Raises
        ------
        TypeError
            If it holds something that is no data, or recalibrates something else than a
            `SANConditionalDensityEstimator`; `joblib.dump` can save that.
        """
        save_calibrated(self, path)

    @classmethod
    def load(cls, path: Any) -> CalibratedDensity:
        """Fitted model from a file that `save` wrote; nothing in it is executed.

        Parameters
        ----------
        path : str or path-like
            File.

        Returns
        -------
        estimator : object

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        CorruptModelError
            If the file is damaged or of another kind.
        """
        tree = load_calibrated(path)
        fitted = tree["estimator"]
        if tree["frozen"]:
            fitted = FrozenEstimator(fitted)
        loaded = cls(
            fitted if tree["frozen"] else clone(fitted),
            cv=tree["cv"],
            random_state=tree["random_state"],
        )
        loaded.estimator_, loaded.maps_ = fitted, tree["maps"]
        loaded.interval_scores_, loaded.region_scores_ = (
            tree["interval_scores"],
            tree["region_scores"],
        )
        loaded.n_calibration_ = len(loaded.region_scores_)
        loaded._one_dimensional = tree["one_dimensional"]
        loaded.n_features_in_ = fitted.n_features_in_
        return loaded

    def get_metadata_routing(self) -> MetadataRouter:
        """Request that scikit-learn's metadata routing reads."""
        mapping = MethodMapping().add(caller="fit", callee="fit")
        base = self.estimator if self.estimator is not None else SANConditionalDensityEstimator()
        router = MetadataRouter(owner=self).add_self_request(self)
        return router.add(estimator=base, method_mapping=mapping)

    def _fit_options(self, given: dict[str, Any], prefix: str) -> dict[str, Any]:
        """Arguments of the estimator's `fit`, by their names there."""
        if sklearn.get_config()["enable_metadata_routing"]:
            return dict(process_routing(self, "fit", **given).estimator.fit)
        return {prefix + name: values for name, values in given.items()}

    def __sklearn_tags__(self) -> Any:
        """Describe what the estimator accepts."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.regressor_tags.poor_score = True
        if self.estimator is not None:
            tags.input_tags.allow_nan = get_tags(self.estimator).input_tags.allow_nan
        return tags

    def _splits(
        self, n_rows: int, y: Any, groups: Any
    ) -> tuple[list[tuple[np.ndarray, np.ndarray]], bool]:
        """Rows to train on and rows held out, and whether to fit all rows in the end."""
        everything = np.arange(n_rows)
        if isinstance(self.estimator, FrozenEstimator):
            return [(everything[:2], everything)], False
        if isinstance(self.cv, Real) and not isinstance(self.cv, (bool, int, np.integer)):
            check_real("cv", self.cv, 0.0, 1.0)
            one = ShuffleSplit(1, test_size=float(self.cv), random_state=self._seed())
            return list(one.split(everything)), False
        if isinstance(self.cv, (int, np.integer)):
            check_integer("cv", self.cv, 2)
            folds = KFold(self.cv, shuffle=True, random_state=self._seed())
            return list(folds.split(everything)), True
        return list(check_cv(self.cv).split(everything, y, groups)), True

    def _seed(self) -> int:
        if self.random_state is None:
            return make_generator(None).initial_seed() % 2**32
        return int(check_random_state(self.random_state).randint(2**31 - 1))
