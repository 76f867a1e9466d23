"""What the network sees of X: scaled numbers, one-hot categories, masks, measurement errors.

=====================  =====================================================================
block of columns       content
=====================  =====================================================================
numbers                scaled; where there is no value, its mean given the other numbers of
                       the row (`Imputer`); 0 where it is infinite or was constant in fit
categories             a one in the column of the category; zeros where it is unknown
missing                1 where a feature has no value
not detected           1 where a feature is infinite: it was looked for and not seen
errors                 scaled log of the measurement error of each number
encoded numbers        optional, a `PiecewiseLinear` encoding of the first block
predictions            optional, `TreeFeatures` of all blocks but the encoded numbers
forest                 optional, `Forest` of the same blocks
neighbours             optional, `Neighbours` in the same blocks
features               of parts that go through encoders, as these give them
=====================  =====================================================================

The weights of the first layer that belong to a mask correct what stands for the value. Masks are
there only for features that lack values in training, by themselves or through `missing_rate`.

A part of X that is more than columns has a column that says whether it is there (see `_parts`), as
of a category of which there are 0, so that no more than a mask comes of it. Its features stand
behind all columns of X once they are known, which is so when training is over.

With the scaler "standard", values that are far from all others do not set the scale. Numbers far
beyond those of training are compressed, so that none can move a prediction at will.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.preprocessing import StandardScaler

from ._features import Forest, Neighbours, PiecewiseLinear, TreeFeatures
from ._hashing import hashes
from ._imputation import MOST_NUMBERS, Imputer
from ._scaling import compress, find_far, fit_scaler, make_scaler, scaled

#: The largest number in fit, whose square is finite, and the farthest from those in scaled units,
#: with whose square single precision can compute.
LARGEST, FARTHEST = 1e100, 1e9
#: Scaled numbers are compressed from this on, or from so many times the largest in fit.
REACH, REACH_FACTOR = 20.0, 2.0


def folds(X: np.ndarray, n_folds: int, division: int = 0) -> np.ndarray:
    """Fold of each row (n_samples,) in one of several divisions, a function of its values alone."""
    n = np.uint64(n_folds)
    return (hashes(X) // n ** np.uint64(division) % n).astype(np.intp)


class InputEncoder:
    """Fitted map from a matrix of numbers and codes to the inputs of the network.

    Parameters
    ----------
    spec : str, scaler or None
        Scaler of the numbers.
    n_categories : list of int or None
        Of each feature; None for numbers, 0 for the state of a part.
    missing_rate : float or ndarray of shape (n_features,)
        Share of values that training hides in half of the rows, or of each feature in all rows.
    nondetection : bool
        Whether infinities are a state of their own.
    use_errors : bool
        Whether measurement errors are inputs.
    names : list of str
        Of the features, for messages.

    Attributes
    ----------
    n_inputs : int
        Width of what `transform` returns.
    reach : ndarray of shape (n_numbers,) or None
        From where on scaled numbers are compressed.
    x_range : ndarray of shape (2, n_numbers) or None
        Smallest and largest number in `fit`, those far from all others left out. The same where
        a feature was constant, which then says nothing later. None for models of old.
    n_rows : int
        Of `fit`.
    imputer : Imputer or None
        Of scaled numbers. None where none may be missing, or one number is alone, or there are
        many, and for models of old: 0 stands for a missing number then.
    farthest : float
        Scaled numbers beyond this are refused: `FARTHEST`, or twice the largest in `fit`.
    encoding : PiecewiseLinear or None
    trees : TreeFeatures or None
    forest : Forest or None
    neighbours : Neighbours or None
    n_encoded : int
        Width of the features of parts.
    """

    n_encoded = 0
    encoding: PiecewiseLinear | None = None
    trees: TreeFeatures | None = None
    forest: Forest | None = None
    neighbours: Neighbours | None = None
    reach: np.ndarray | None = None
    x_range: np.ndarray | None = None
    n_rows = 0
    farthest = FARTHEST
    imputer: Imputer | None = None

    def __init__(
        self,
        spec: Any,
        n_categories: list[int | None],
        *,
        missing_rate: float | np.ndarray = 0.0,
        nondetection: bool = False,
        use_errors: bool = False,
        names: list[str] | None = None,
    ):
        self.scaler = make_scaler(spec, "x_scaler")
        self.robust = isinstance(spec, str) and spec == "standard"
        self.n_categories = n_categories
        self.numbers = np.array([j for j, n in enumerate(n_categories) if n is None], dtype=int)
        self.missing_rate = missing_rate
        self.nondetection = nondetection
        self.use_errors = use_errors
        self.names = names or [f"x{j}" for j in range(len(n_categories))]

    def fit(
        self,
        X: np.ndarray,
        sample_weight: np.ndarray | None = None,
        X_err: np.ndarray | None = None,
        *,
        missing: np.ndarray | None = None,
        infinite: np.ndarray | None = None,
        extremes: np.ndarray | None = None,
    ) -> InputEncoder:
        """Learn from X of shape (n_samples, n_features).

        Of all rows, of which X may be a sample, `missing` and `infinite` (n_features,) say which
        features lack values or have infinite ones, and `extremes` (2, n_features) are the smallest
        and largest values.
        """
        lacking = np.isnan(X).any(axis=0)
        self.missing = (lacking if missing is None else missing) | (self.missing_rate > 0)
        self.infinite = np.zeros(X.shape[1], dtype=bool)
        if self.nondetection:
            found = np.isinf(X).any(axis=0) if infinite is None else infinite
            self.infinite[self.numbers] = found[self.numbers]
        values = np.where(np.isfinite(X), X, np.nan)
        self._refuse_extremes(values[:, self.numbers], np.abs(values[:, self.numbers]) > LARGEST)
        empty = np.isnan(values).all(axis=0)
        if empty.any():
            j = int(empty.argmax())
            raise ValueError(f"X has no value at all in {self._called(j)}; drop it.")
        if len(self.numbers):
            self._fit_numbers(values[:, self.numbers], sample_weight)
            self._fit_constants(extremes, X_err)
            self._fit_imputer(values[:, self.numbers], sample_weight)
        if self.use_errors:
            errors = self._errors(X_err, X)
            positive = errors[errors > 0]
            self.least_error = float(positive.min()) if positive.size else 1.0
            self.error_scaler = StandardScaler().fit(self._log_errors(errors))
        self.n_inputs = self.transform(X[:1], None if X_err is None else X_err[:1]).shape[1]
        if extremes is not None and len(self.numbers):
            ends = extremes[:, self.numbers]
            self._refuse_extremes(ends, np.abs(ends) > LARGEST)
            self._refuse_extremes(ends, np.abs(scaled(self.scaler, ends)) > self.farthest)
        return self

    def _fit_numbers(self, values: np.ndarray, sample_weight: np.ndarray | None) -> None:
        far = find_far(values) if self.robust else np.zeros(values.shape, dtype=bool)
        near = np.where(far, np.nan, values)
        fit_scaler(self.scaler, near, sample_weight)
        largest = np.nanmax(np.abs(scaled(self.scaler, near)), axis=0)
        self.reach = np.maximum(REACH, REACH_FACTOR * largest)
        self.x_range = np.stack([np.nanmin(near, axis=0), np.nanmax(near, axis=0)])
        self.n_rows = len(values)
        most = float(np.nanmax(np.abs(scaled(self.scaler, values))))
        self.farthest = max(FARTHEST, 2.0 * most)

    def _fit_constants(self, extremes: np.ndarray | None, X_err: np.ndarray | None) -> None:
        """A range of no width is that of a feature that is absent; others are given one."""
        ends = self.x_range if extremes is None else extremes[:, self.numbers]
        if self.x_range is None or ends is None:
            return
        varies = ends[0] < ends[1]
        if X_err is not None:
            varies |= (np.nan_to_num(X_err[:, self.numbers]) > 0).any(axis=0)
        same = self.constant & varies
        self.x_range[1, same] = np.nextafter(self.x_range[1, same], np.inf)

    def _fit_imputer(self, values: np.ndarray, sample_weight: np.ndarray | None) -> None:
        if self.missing[self.numbers].any() and 1 < len(self.numbers) <= MOST_NUMBERS:
            known = self._compressed(scaled(self.scaler, values))
            self.imputer = Imputer().fit(known, sample_weight)

    def _compressed(self, values: np.ndarray) -> np.ndarray:
        """Scaled numbers, of which those that were constant in `fit` say nothing."""
        if self.reach is not None:
            values = compress(values, self.reach)
        return np.where(self.constant & ~np.isnan(values), 0.0, values)

    def _filled(self, values: np.ndarray, X: np.ndarray) -> np.ndarray:
        """Scaled numbers with what stands for those that are missing, and 0 for infinite ones."""
        if self.imputer is not None:
            values = np.where(np.isinf(X), 0.0, self.imputer.fill(values))
        return np.where(np.isnan(values), 0.0, values)

    def forget_constants(self) -> None:
        """Take features that are constant so far for ones that will vary."""
        if self.x_range is not None:
            self.x_range[1, self.constant] = np.nextafter(self.x_range[1, self.constant], np.inf)

    @property
    def constant(self) -> np.ndarray:
        """Numbers that had one value in `fit`, (n_numbers,)."""
        if self.x_range is None:
            return np.zeros(len(self.numbers), dtype=bool)
        return self.x_range[0] == self.x_range[1]

    def is_outside(self, X: np.ndarray) -> np.ndarray:
        """Rows with a number that is far outside the range in `fit`, (n_samples,).

        That is farther from it than its width, or more with few rows.
        """
        if self.x_range is None or not len(self.numbers):
            return np.zeros(len(X), dtype=bool)
        low, high = self.x_range
        margin = (high - low) * (1.0 + 10.0 / self.n_rows)
        values = X[:, self.numbers]
        outside = np.isfinite(values) & ((values < low - margin) | (values > high + margin))
        rows = outside[:, ~self.constant].any(axis=1)
        if rows.any() and (np.abs(scaled(self.scaler, values[rows])) > self.farthest).any():
            return np.zeros(len(X), dtype=bool)  # such rows are refused
        return rows

    def most_outside(self, X: np.ndarray) -> tuple[str, float]:
        """Name of the feature of which a row is farthest outside of its range in `fit`, and where.

        In units of that range.
        """
        low, high = np.asarray(self.x_range)
        values = X[:, self.numbers]
        distance = np.maximum(low - values, values - high) / np.maximum(high - low, 1e-300)
        distance[:, self.constant] = -np.inf
        i, j = np.unravel_index(np.nanargmax(distance), distance.shape)
        return self.names[self.numbers[j]], float(values[i, j])

    def extend(
        self,
        encoding: PiecewiseLinear | None,
        trees: TreeFeatures | None,
        forest: Forest | None = None,
        neighbours: Neighbours | None = None,
        n_encoded: int = 0,
    ) -> None:
        """Add features of the columns there are, and those of parts."""
        n_plain = self.n_plain
        self.encoding, self.trees = encoding, trees
        self.forest, self.neighbours = forest, neighbours
        self.n_encoded = n_encoded
        self.n_inputs = n_plain + self._n_added + n_encoded

    @property
    def _n_added(self) -> int:
        own = (self.encoding, self.trees, self.forest, self.neighbours)
        return sum(one.n_features for one in own if one is not None)

    @property
    def n_plain(self) -> int:
        """Inputs of the network that are no features of others, the first ones."""
        return self.n_inputs - self.n_encoded - self._n_added

    @property
    def n_columns(self) -> int:
        """Columns of X, behind which may be the features of parts."""
        return len(self.n_categories)

    @property
    def part_masks(self) -> list[int | None]:
        """Input that is 1 where a part is missing, of each; None where that cannot be."""
        n_before = len(self.numbers) + sum(n for n in self.n_categories if n is not None)
        place = n_before + np.cumsum(self.missing) - 1
        return [
            int(place[j]) if self.missing[j] else None
            for j, n in enumerate(self.n_categories)
            if n == 0
        ]

    def transform(
        self, X: np.ndarray, X_err: np.ndarray | None = None, *, out_of_fold: bool = False
    ) -> np.ndarray:
        """Inputs of the network, (n_samples, n_inputs) in float64.

        With `out_of_fold`, those to learn from: each row is predicted by trees that have not seen
        it, nor another row with the same values. X may be without the features of parts.
        """
        X, features = X[:, : self.n_columns], X[:, self.n_columns :]
        plain = self.plain(X, X_err)
        blocks = [plain]
        if self.encoding is not None:
            blocks.append(self.encoding.transform(plain))
        for division, grown in enumerate((self.trees, self.forest)):
            if grown is not None:
                fold = folds(X, grown.n_folds, division) if out_of_fold else None
                blocks.append(grown.transform(plain, fold))
        if self.neighbours is not None:
            blocks.append(self.neighbours.transform(plain))
        if features.shape[1]:
            blocks.append(features)
        return plain if len(blocks) == 1 else np.concatenate(blocks, axis=1)

    def plain(self, X: np.ndarray, X_err: np.ndarray | None = None) -> np.ndarray:
        """Inputs without encoded numbers and predictions, (n_samples, n_plain).

        Infinity is a missing value where it is a state of other features alone.
        """
        X = self._known(X)
        finite = np.isfinite(X)
        blocks = []
        if len(X) and len(self.numbers):
            own = finite[:, self.numbers]
            values = scaled(self.scaler, np.where(own, X[:, self.numbers], np.nan))
            if X_err is None:
                self._refuse_extremes(X[:, self.numbers], np.abs(values) > self.farthest)
            if self.reach is not None:
                values = self._compressed(values)
            elif X_err is not None:  # with noise, of which a power transform may make anything
                values = np.clip(values, -FARTHEST, FARTHEST)
            blocks.append(values if own.all() else self._filled(values, X[:, self.numbers]))
        elif len(self.numbers):  # scalers take no empty tables
            blocks.append(X[:, self.numbers])
        for j, n in enumerate(self.n_categories):
            if n is not None:
                blocks.append((X[:, j, None] == np.arange(n)).astype(np.float64))
        missing = np.isnan(X)
        self._refuse(missing & ~self.missing, "NaN", "fit with missing_rate above 0")
        remedy = "fit with missing_rate above 0" if self.nondetection else "set nondetection='inf'"
        self._refuse(np.isinf(X) & ~self.infinite, "infinity", remedy)
        if self.missing.any():
            blocks.append(missing[:, self.missing].astype(np.float64))
        if self.infinite.any():
            blocks.append(np.isinf(X[:, self.infinite]).astype(np.float64))
        if self.use_errors and not len(X):
            blocks.append(X[:, self.numbers])
        elif self.use_errors:
            blocks.append(scaled(self.error_scaler, self._log_errors(self._errors(X_err, X))))
        if not blocks:
            return np.empty((len(X), 0))
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)

    def seen(self, X: np.ndarray, X_err: np.ndarray | None = None) -> np.ndarray:
        """`plain`, with the features of parts behind, which X then has."""
        plain, features = self.plain(X[:, : self.n_columns], X_err), X[:, self.n_columns :]
        return np.concatenate([plain, features], axis=1) if features.shape[1] else plain

    def _known(self, X: np.ndarray) -> np.ndarray:
        """X with nan for infinity in features that had none in `fit`, but may be missing."""
        if not self.nondetection or not (unseen := self.missing & ~self.infinite).any():
            return X
        return np.where(np.isinf(X) & unseen, np.nan, X)

    def unusable(self, X: np.ndarray, X_err: np.ndarray | None = None) -> np.ndarray:
        """Values (n_samples, n_features) for which `transform` raises."""
        X = self._known(X)
        wrong = (np.isnan(X) & ~self.missing) | (np.isinf(X) & ~self.infinite)
        if len(X) and len(self.numbers) and X_err is None:
            finite = np.where(np.isfinite(X), X, np.nan)[:, self.numbers]
            with np.errstate(all="ignore"):
                wrong[:, self.numbers] |= np.abs(scaled(self.scaler, finite)) > self.farthest
        return wrong

    def hide(self, X: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """X with the share `missing_rate` of the values of half of the rows missing.

        The other half stays as it is, so that little is lost for complete rows. Rates of single
        features are those of all rows.
        """
        if not np.any(self.missing_rate):
            return X
        some = np.ndim(self.missing_rate) or random.random((len(X), 1)) < 0.5
        return np.where(some & (random.random(X.shape) < self.missing_rate), np.nan, X)

    def jitter(self, X: np.ndarray, X_err: np.ndarray | None, normal: np.ndarray) -> np.ndarray:
        """X with measurement noise: `normal`, standard and of the shape of X, times the errors."""
        if X_err is None:
            return X
        noisy = X.copy()
        columns = self.numbers
        noisy[:, columns] += np.nan_to_num(X_err[:, columns]) * normal[:, columns]
        return noisy

    def _errors(self, X_err: np.ndarray | None, X: np.ndarray) -> np.ndarray:
        if X_err is None:
            return np.zeros((len(X), len(self.numbers)))
        return np.nan_to_num(X_err[:, self.numbers])

    def _log_errors(self, errors: np.ndarray) -> np.ndarray:
        return np.log(np.maximum(errors, self.least_error))

    def _refuse_extremes(self, values: np.ndarray, where: np.ndarray) -> None:
        if where.any():
            i, j = np.argwhere(where)[0]
            name = self.names[self.numbers[j]]
            raise ValueError(
                f"Input X contains {values[i, j]:g} in feature {name!r}, which is too extreme "
                "to compute with; make it nan if it stands for a missing value, or rescale the "
                "feature before fit."
            )

    def _refuse(self, where: np.ndarray, what: str, remedy: str) -> None:
        if where.any():
            j = int(where.any(axis=0).argmax())
            if self.n_categories[j] is not None:
                what = "missing or unknown categories (NaN)"
            found = f"contains {what} in feature {self.names[j]!r}, which had none"
            if self.n_categories[j] == 0:
                found = f"lacks the part {self.names[j]!r}, which was there in all rows"
            raise ValueError(f"Input X {found} in fit; {remedy}, or drop those rows.")

    def _called(self, j: int) -> str:
        """What messages call a column."""
        return f"{'part' if self.n_categories[j] == 0 else 'feature'} {self.names[j]!r}"
