"""For skpro: a probabilistic regressor whose predictions are skpro distributions.

A distribution of skpro has one marginal distribution per row and output: `pdf`, `cdf` and `ppf` are
those of the outputs one by one. Its draws are of all outputs together, and `joint` is the density.

=======================  ====================================================================
`SANProbaRegressor`      the density estimator as a `BaseProbaRegressor`
`DensityDistribution`    a density as a `BaseDistribution`
=======================  ====================================================================
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from skpro.distributions.base import BaseDistribution
from skpro.regression.base import BaseProbaRegressor
from skpro.utils.sklearn import prep_skl_df

from .._estimator import SANConditionalDensityEstimator
from ..chains import density_of

__all__ = ["DensityDistribution", "SANProbaRegressor"]

#: Draws behind the energy.
N_DRAWS = 1024


class SANProbaRegressor(BaseProbaRegressor):
    """Density estimator whose `predict_proba` gives skpro distributions.

    Parameters
    ----------
    estimator : estimator, default=None
        A density estimator, or a pipeline or search around one, of which a clone is fitted. None
        is a `SANConditionalDensityEstimator`.

    Attributes
    ----------
    estimator_ : estimator
        The fitted clone.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_san import SANConditionalDensityEstimator
    >>> from sklearn_san.adapters.skpro import SANProbaRegressor
    >>> from sklearn_san.datasets import make_bimodal
    >>> X, y, _ = make_bimodal(300, random_state=0)
    >>> X, y = pd.DataFrame(X, columns=["x"]), pd.DataFrame(y, columns=["a", "b"])
    >>> est = SANConditionalDensityEstimator(K=3, epochs=3, n_members=1, random_state=0)
    >>> regressor = SANProbaRegressor(est).fit(X, y)
    >>> regressor.predict_proba(X.iloc[:4]).cdf(y.iloc[:4]).shape
    (4, 2)
    """

    _tags = {  # noqa: RUF012
        "capability:multioutput": True,
        "capability:missing": True,
        "X_inner_mtype": "pd_DataFrame_Table",
        "y_inner_mtype": "pd_DataFrame_Table",
    }

    def __init__(self, estimator: Any = None):
        self.estimator = estimator
        super().__init__()

    def _fit(self, X: Any, y: Any) -> SANProbaRegressor:
        wanted = self.estimator
        self.estimator_ = SANConditionalDensityEstimator() if wanted is None else clone(wanted)
        self.estimator_.fit(prep_skl_df(X), prep_skl_df(y))
        return self

    def _predict_proba(self, X: Any) -> DensityDistribution:
        density = density_of(self.estimator_, prep_skl_df(X))
        return DensityDistribution(density, index=X.index, columns=self._get_varnames())

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Parameters for skpro's own tests."""
        est = SANConditionalDensityEstimator(
            K=2, module_shape=(8,), n_members=1, epochs=2, random_state=0
        )
        return [{"estimator": est}, {"estimator": clone(est).set_params(linear_base=False)}]


class DensityDistribution(BaseDistribution):
    """The marginal distributions of a density, one for each row and output.

    Parameters
    ----------
    density : Density
        Of as many rows as `index` has.
    outputs : sequence of int, default=None
        Columns of y; None is all.
    index : pandas.Index, default=None
        Names of the rows; without it this is the distribution of one number.
    columns : pandas.Index, default=None
        Names of the outputs.

    Examples
    --------
    >>> from sklearn_san import SANConditionalDensityEstimator
    >>> from sklearn_san.adapters.skpro import DensityDistribution
    >>> from sklearn_san.datasets import make_bimodal
    >>> X, y, _ = make_bimodal(300, random_state=0)
    >>> est = SANConditionalDensityEstimator(K=3, epochs=3, n_members=1, random_state=0)
    >>> density = est.fit(X, y).predict_density(X[:2])
    >>> DensityDistribution(density, index=[0, 1], columns=["a", "b"]).mean().shape
    (2, 2)
    """

    _tags = {  # noqa: RUF012
        "capabilities:approx": ["energy", "pdfnorm"],
        "capabilities:exact": ["mean", "var", "pdf", "log_pdf", "cdf", "ppf"],
        "distr:measuretype": "continuous",
        "distr:paramtype": "nonparametric",
    }

    def __init__(self, density: Any, outputs: Any = None, index: Any = None, columns: Any = None):
        self.density = density
        self.outputs = outputs
        super().__init__(index=index, columns=columns)

    @property
    def joint(self) -> Any:
        """The joint density of all outputs, whatever columns were chosen."""
        return self.density

    @property
    def _columns(self) -> list[int]:
        return list(range(self.density.n_outputs) if self.outputs is None else self.outputs)

    def _iloc(self, rowidx: Any = None, colidx: Any = None) -> DensityDistribution:
        if np.ndim(rowidx) == np.ndim(colidx) == 0 and not (rowidx is None or colidx is None):
            return self._iat(rowidx, colidx)
        rows, columns = (
            np.arange(n)[slice(None) if chosen is None else np.atleast_1d(chosen)]
            for n, chosen in zip(self.shape, (rowidx, colidx), strict=True)
        )
        return type(self)(
            self.density[rows],
            [self._columns[j] for j in columns],
            index=self.index.take(rows),
            columns=self.columns.take(columns),
        )

    def _iat(self, rowidx: Any = None, colidx: Any = None) -> DensityDistribution:
        return type(self)(self.density[[rowidx]], [self._columns[colidx]])

    def _chosen(self, values: np.ndarray) -> np.ndarray:
        """Of values (n_rows, n_outputs) those of the chosen outputs."""
        return values.reshape(len(values), -1)[:, self._columns].reshape(self.shape)

    def _each(self, member: str, x: np.ndarray) -> np.ndarray:
        """A member of the density that takes an output and values of it."""
        x = np.reshape(x, (-1, len(self._columns)))
        ask = getattr(self.density, member)
        found = [ask(j, column) for j, column in zip(self._columns, x.T, strict=True)]
        return np.stack(found, axis=1).reshape(self.shape)

    def _mean(self) -> np.ndarray:
        return self._chosen(self.density.mean())

    def _var(self) -> np.ndarray:
        return self._chosen(self.density.std() ** 2)

    def _log_pdf(self, x: np.ndarray) -> np.ndarray:
        return self._each("marginal_log_prob", x)

    def _pdf(self, x: np.ndarray) -> np.ndarray:
        return np.exp(self._log_pdf(x))

    def _cdf(self, x: np.ndarray) -> np.ndarray:
        return self._each("marginal_cdf", x)

    def _ppf(self, p: np.ndarray) -> np.ndarray:
        return self._each("marginal_inverse_cdf", p)

    def _energy_self(self) -> np.ndarray:
        y = self._draws(2 * N_DRAWS)
        return self._energy_of(y[:, :N_DRAWS] - y[:, N_DRAWS:])

    def _energy_x(self, x: np.ndarray) -> np.ndarray:
        x = np.reshape(x, (-1, 1, len(self._columns)))
        return self._energy_of(self._draws(N_DRAWS) - x)

    def _energy_of(self, difference: np.ndarray) -> Any:
        energy = np.abs(difference).mean(axis=1).sum(axis=1, keepdims=True)
        return energy if self.ndim else energy.item()

    def _draws(self, n_draws: int) -> np.ndarray:
        """Joint draws (n_rows, n_draws, n_chosen) by numpy's global seed, as all of skpro."""
        seed = np.random.randint(2**31 - 1)  # noqa: NPY002
        draws = self.density.sample(n_draws, random_state=seed)
        return draws.reshape(*draws.shape[:2], -1)[..., self._columns]

    def _sample(self, n_samples: int | None = None) -> Any:
        draws = self._draws(1 if n_samples is None else n_samples)
        if not self.ndim:
            return draws.item() if n_samples is None else pd.DataFrame(draws[0])
        parts = [pd.DataFrame(y, self.index, self.columns) for y in draws.swapaxes(0, 1)]
        return parts[0] if n_samples is None else pd.concat(parts, keys=range(len(parts)))

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Parameters for skpro's own tests."""
        regressor = SANProbaRegressor.create_test_instance()
        X = pd.DataFrame({"x": np.linspace(-1.0, 1.0, 60)})
        y = pd.DataFrame({"a": X["x"] + np.sin(40 * X["x"]), "b": np.cos(50 * X["x"])})
        both = regressor.fit(X, y).predict_proba(X[:3])
        return [
            {"density": both.density, "index": both.index, "columns": both.columns},
            {"density": both.density[[0]], "outputs": [1]},
        ]
