"""What parameters are before anything was observed: draws, log density, limits and names.

=============  =====================================================================
`Prior`        a prior from limits, distributions of scipy, or a function
`as_prior`     the same from whatever the user gave
=============  =====================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np

from .._validation import check_limits

#: Draws that tell one prior from another.
N_TOLD = 16


class Prior:
    """Prior of the parameters theta, from one of several forms.

    Parameters
    ----------
    prior : dict, sequence, pair, frozen distribution or callable
        One of

        - limits ``(low, high)`` of a parameter that is uniform between them;
        - a frozen distribution of ``scipy.stats``, of one parameter or of several;
        - a list of these, independent of each other, or an array of limits (n_parameters, 2);
        - a dict of limits and distributions of one parameter by name;
        - a function ``prior(n, random_state)`` that returns draws (n, n_parameters), with
          `random_state` a ``numpy.random.Generator``.
    log_prob : callable, default=None
        Of a function: ``log_prob(theta)`` is the log density (n,) at theta (n, n_parameters), in
        nats per unit of every parameter and -inf outside the support; only ratios matter. The other
        forms know theirs. Without it draws cannot be weighted, see `infer`.
    limits : array-like of shape (n_parameters, 2), default=None
        Of a function: the box that holds all draws; None is no limits.
    names : sequence of str, default=None
        Names of the parameters; None takes those of a dict.

    Attributes
    ----------
    n_parameters : int
        Number of parameters.
    names : list of str or None
        Their names.
    limits : ndarray of shape (n_parameters, 2)
        Limits of each, infinite where it has none.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import stats
    >>> from sklearn_san.simulation import Prior
    >>> prior = Prior({"slope": (-1, 1), "noise": stats.expon(scale=2.0)})
    >>> prior
    Prior(['slope', 'noise'])
    >>> prior.limits.tolist()
    [[-1.0, 1.0], [0.0, inf]]
    >>> prior.sample(5, np.random.default_rng(0)).shape
    (5, 2)
    """

    def __init__(
        self,
        prior: Any,
        *,
        log_prob: Callable[[np.ndarray], np.ndarray] | None = None,
        limits: Any = None,
        names: Any = None,
    ):
        is_function = callable(prior) and not hasattr(prior, "rvs")
        if not is_function and not (log_prob is None and limits is None):
            raise ValueError("log_prob and limits go with a function; other priors know their own.")
        if isinstance(prior, Mapping):
            names = list(prior) if names is None else names
            prior = list(prior.values())
        self._parts: list[Any]
        if is_function:
            self._parts = [_Function(prior, log_prob)]
        elif _is_pair(prior) or hasattr(prior, "rvs"):
            self._parts = [_part(prior, "prior")]
        elif isinstance(prior, (list, tuple, np.ndarray)) and len(prior):
            self._parts = [_part(one, f"prior[{i}]") for i, one in enumerate(prior)]
        else:
            raise TypeError(
                "prior must be limits, distributions of scipy.stats, a list or dict of these, or a "
                f"function prior(n, random_state); got {prior!r}."
            )
        self._widths = [one.width() for one in self._parts]
        self.n_parameters = sum(self._widths)
        self.names = None if names is None else list(map(str, names))
        if self.names is not None and len(self.names) != self.n_parameters:
            raise ValueError(
                f"names has {len(self.names)} entries, but the prior {self.n_parameters} "
                "parameters."
            )
        labels = self.names or [f"y{j}" for j in range(self.n_parameters)]
        if is_function:
            self.limits = check_limits(limits, labels)
        else:
            pairs = zip(self._parts, self._widths, strict=True)
            self.limits = np.concatenate([np.tile(one.limits(), (n, 1)) for one, n in pairs])

    def __repr__(self) -> str:
        return f"Prior({self.names or self.n_parameters})"

    @property
    def has_density(self) -> bool:
        """Whether `log_prob` is known."""
        return all(getattr(one, "density", True) is not None for one in self._parts)

    @property
    def is_box(self) -> bool:
        """Whether nothing more is known of the support than `limits`."""
        return all(getattr(one, "density", None) is None for one in self._parts)

    def sample(self, n: int, random_state: np.random.Generator) -> np.ndarray:
        """Draws of theta.

        Parameters
        ----------
        n : int
            Number of draws.
        random_state : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        ndarray of shape (n, n_parameters)

        Raises
        ------
        ValueError
            If a function returns another shape, or anything that is not finite.
        """
        theta = np.concatenate([one.draw(n, random_state) for one in self._parts], axis=1)
        if theta.shape[1] != self.n_parameters:
            raise ValueError(
                f"prior returned {theta.shape[1]} parameters, but {self.n_parameters} before."
            )
        if not np.isfinite(theta).all():
            bad = theta[~np.isfinite(theta).all(axis=1)][0]
            raise ValueError(f"prior drew theta = {bad.tolist()}; all parameters must be finite.")
        outside = ((theta < self.limits[:, 0]) | (theta > self.limits[:, 1])).any(axis=0)
        if outside.any():
            j = int(outside.argmax())
            raise ValueError(
                f"prior drew values of parameter {j} outside of its limits "
                f"{self.limits[j].tolist()}; widen them."
            )
        return theta

    def log_prob(self, theta: Any) -> np.ndarray:
        """Log density of theta.

        Parameters
        ----------
        theta : array-like of shape (n, n_parameters)

        Returns
        -------
        ndarray of shape (n,)
            In nats per unit of every parameter; -inf outside.

        Raises
        ------
        NotImplementedError
            If the prior is a function without `log_prob`.
        """
        theta = np.asarray(theta, dtype=float)
        if theta.ndim != 2 or theta.shape[1] != self.n_parameters:
            raise ValueError(f"theta must have shape (n, {self.n_parameters}), got {theta.shape}.")
        ends = np.cumsum(self._widths)[:-1]
        columns = np.split(theta, ends, axis=1)
        pairs = zip(self._parts, columns, strict=True)
        return np.sum([one.log_prob(column) for one, column in pairs], axis=0)

    def contains(self, theta: np.ndarray) -> np.ndarray:
        """Whether theta (n, n_parameters) is in the support, as far as it is known; (n,)."""
        inside = (theta >= self.limits[:, 0]) & (theta <= self.limits[:, 1])
        if self.has_density:
            inside = inside & np.isfinite(self.log_prob(theta))[:, None]
        return np.all(inside, axis=1)

    def fingerprint(self) -> str:
        """Digest of some draws, which tells this prior from others."""
        return joblib.hash(self.sample(N_TOLD, np.random.default_rng(0)))


def as_prior(prior: Any) -> Prior:
    """A `Prior` from whatever the user gave."""
    return prior if isinstance(prior, Prior) else Prior(prior)


@dataclass(frozen=True)
class _Uniform:
    """One parameter between two limits."""

    low: float
    high: float

    def width(self) -> int:
        return 1

    def limits(self) -> tuple[float, float]:
        return self.low, self.high

    def draw(self, n: int, random: np.random.Generator) -> np.ndarray:
        return random.uniform(self.low, self.high, size=(n, 1))

    def log_prob(self, theta: np.ndarray) -> np.ndarray:
        inside = (theta[:, 0] >= self.low) & (theta[:, 0] <= self.high)
        return np.where(inside, -np.log(self.high - self.low), -np.inf)


@dataclass(frozen=True)
class _Frozen:
    """A frozen distribution of scipy."""

    distribution: Any

    def width(self) -> int:
        return self.draw(2, np.random.default_rng(0)).shape[1]

    def limits(self) -> tuple[float, float]:
        support = getattr(self.distribution, "support", None)  # of one parameter alone
        low, high = (-np.inf, np.inf) if support is None else support()
        return float(low), float(high)

    def draw(self, n: int, random: np.random.Generator) -> np.ndarray:
        draws = self.distribution.rvs(size=n, random_state=random)
        return np.asarray(draws, dtype=float).reshape(n, -1)

    def log_prob(self, theta: np.ndarray) -> np.ndarray:
        one = self.distribution
        log_prob = one.logpdf if hasattr(one, "logpdf") else one.logpmf
        is_single = hasattr(one, "support") or theta.shape[1] == 1
        with np.errstate(divide="ignore"):
            return np.reshape(log_prob(theta[:, 0] if is_single else theta), len(theta))


@dataclass(frozen=True)
class _Function:
    """A function of the user."""

    function: Callable[[int, np.random.Generator], Any]
    density: Callable[[np.ndarray], Any] | None

    def width(self) -> int:
        return self.draw(2, np.random.default_rng(0)).shape[1]

    def draw(self, n: int, random: np.random.Generator) -> np.ndarray:
        theta = np.asarray(self.function(n, random), dtype=float)
        if theta.ndim != 2 or len(theta) != n:
            raise ValueError(
                f"prior({n}, random_state) returned an array of shape {theta.shape}; it must be "
                f"({n}, n_parameters)."
            )
        return theta

    def log_prob(self, theta: np.ndarray) -> np.ndarray:
        if self.density is None:
            raise NotImplementedError(
                "This prior is a function of which only draws are known; give "
                "Prior(function, log_prob=...)."
            )
        found = np.asarray(self.density(theta), dtype=float)
        if found.shape != (len(theta),):
            raise ValueError(
                f"log_prob of the prior returned shape {found.shape} for {len(theta)} rows of "
                f"theta; it must be ({len(theta)},)."
            )
        return found


def _is_pair(value: Any) -> bool:
    """Whether this is a lower and an upper limit."""
    return (
        isinstance(value, (list, tuple, np.ndarray))
        and len(value) == 2
        and all(np.ndim(one) == 0 and not hasattr(one, "rvs") for one in value)
    )


def _part(one: Any, where: str) -> Any:
    """Limits or a frozen distribution."""
    if hasattr(one, "rvs") and not callable(one):  # a frozen one cannot be called
        return _Frozen(one)
    if not _is_pair(one):
        raise TypeError(
            f"{where} must be a pair of limits or a frozen distribution of scipy.stats, such as "
            f"norm(0, 1); got {one!r}."
        )
    low, high = map(float, one)
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError(
            f"{where} = ({low:g}, {high:g}): limits of a uniform prior must be finite, the lower "
            "one below the upper one."
        )
    return _Uniform(low, high)
