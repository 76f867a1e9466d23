"""Pairs of parameters and simulated data.

====================  ================================================================
`draw_simulations`    parameters from a prior, run through a simulator
`Simulations`         what comes out
====================  ================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .._validation import check_integer
from ..exceptions import FailedSimulationsWarning, warn_caller
from .batches import TRAINING, Batch, Job, check_alike, from_prior, joined, leaves_of
from .keeping import Folder
from .priors import as_prior


class Simulations(Sequence):
    """Pairs of parameters and simulated data; a sequence of blocks ``(x, theta)``.

    Simulations that failed are left out. `fit` of the estimator takes this object in place of X and
    y: rows stay on disk where they are kept there, and are read block by block.

    Parameters
    ----------
    batches : sequence of Batch
        As they were made.

    Attributes
    ----------
    n_rows, n_failed : int
        Simulations that succeeded; that failed with an exception or with values that are not
        finite.
    message : str
        Why the first one failed; "" if none did.
    """

    def __init__(self, batches: Sequence[Batch]):
        self.batches = batches
        self.n_failed = int(sum(one.failed.sum() for one in batches))
        self.n_rows = sum(len(one.theta) for one in batches) - self.n_failed
        self.message = next((one.message for one in batches if one.message), "")
        self._good = [one for one in batches if not one.failed.all()]

    def __repr__(self) -> str:
        return f"Simulations({self.n_rows} rows, {self.n_failed} failed)"

    def __len__(self) -> int:
        return len(self._good)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [one.good() for one in self._good[number]]
        return self._good[number].good()

    def __add__(self, other: Simulations) -> Simulations:
        check_alike(self._good[0], other._good[0])
        return Simulations([*self.batches, *other.batches])

    @property
    def theta(self) -> np.ndarray:
        """Parameters (n_rows, n_parameters), in memory."""
        return np.concatenate([theta for _, theta in self])

    @property
    def x(self) -> Any:
        """Simulated data in memory: an array (n_rows, ...), or a dict of these."""
        return joined([leaves_of(x) for x, _ in self])

    @property
    def failed_theta(self) -> np.ndarray:
        """Parameters (n_failed, n_parameters) of simulations that failed."""
        return np.concatenate([one.theta[one.failed] for one in self.batches])


def draw_simulations(
    prior: Any,
    simulate: Callable[[np.ndarray, np.random.Generator], Any],
    n_simulations: int,
    *,
    batch_size: int = 1000,
    n_jobs: int | None = None,
    cache_dir: Any = None,
    allow_missing: bool = False,
    random_state: Any = None,
) -> Simulations:
    """Draw parameters from a prior and simulate data with them.

    Parameters
    ----------
    prior : Prior, dict, list, frozen distribution or callable
        Of theta; see `Prior`.
    simulate : callable
        ``simulate(theta, random_state)`` returns what is simulated for parameters theta
        (n, n_parameters): an array (n, n_features), one of more dimensions, or a dict of arrays,
        with n rows each. `random_state` is a ``numpy.random.Generator``, and should be the only
        source of randomness.
    n_simulations : int
        Simulations to make, failed ones included.
    batch_size : int, default=1000
        Simulations of a call. Results depend on it.
    n_jobs : int, default=None
        Processes, as for joblib. Results do not depend on it.
    cache_dir : str or path, default=None
        Folder in which batches are kept as ``.npy`` files, one after the other. A run that was
        killed goes on from there with the same result, and a larger `n_simulations` adds batches
        to it; the last one, if it was not full, is made anew. None keeps them in memory.
    allow_missing : bool, default=False
        Whether nan and infinity beside other values are data: missing values and non-detections,
        which the estimator must take. If not, such a simulation has failed. One with nothing but
        nan has failed in any case.
    random_state : int, RandomState or None, default=None
        Seed. None takes that of `cache_dir`, if there is a run in it, else fresh entropy.

    Returns
    -------
    Simulations

    Raises
    ------
    ValueError, TypeError
        If all simulations fail, if `simulate` returns another number of rows or other shapes than
        before, or if `cache_dir` belongs to another run: another prior, simulator (its source, and
        the values that it refers to as a closure, an attribute or an argument of `partial`), size
        of batches or seed.

    Warns
    -----
    FailedSimulationsWarning
        With the number of simulations that failed and an example.

    Examples
    --------
    >>> from sklearn_san.simulation import draw_simulations
    >>> def simulate(theta, random_state):
    ...     return theta + 0.1 * random_state.normal(size=theta.shape)
    >>> pairs = draw_simulations({"a": (0, 1), "b": (0, 2)}, simulate, 500, random_state=0)
    >>> pairs
    Simulations(500 rows, 0 failed)
    >>> pairs.x.shape, pairs.theta.shape
    ((500, 2), (500, 2))
    """
    prior = as_prior(prior)
    job = Job.make(simulate, batch_size, n_jobs, random_state, allow_missing=allow_missing)
    check_integer("n_simulations", n_simulations, 1)
    folder = None
    if cache_dir is not None:
        folder = Folder(cache_dir, job.facts(prior), chosen_seed=random_state)
        job = replace(job, seed=folder.seed)
    batches = list(job.batches(from_prior(prior), n_simulations, TRAINING, folder))
    found = Simulations(batches)
    if folder is not None:
        folder.close(found.n_rows, found.n_failed, found.message)
    warn_of_failed(found)
    return found


def warn_of_failed(found: Simulations) -> None:
    """Tell how many simulations failed, if any."""
    if found.n_failed:
        warn_caller(
            f"{found.n_failed} of {found.n_failed + found.n_rows} simulations failed and are left "
            f"out, such as {found.message}: the prior is now that of parameters with which the "
            "simulator succeeds.",
            FailedSimulationsWarning,
        )
