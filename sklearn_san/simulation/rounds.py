"""Several rounds for one observation: truncated sequential neural posterior estimation."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .._checkpoints import fingerprint
from .._files import write_atomically
from .._validation import check_integer, check_real
from .batches import Draw, Job, from_prior
from .fitting import fit_pairs, prepared
from .keeping import Folder
from .posterior import Posterior, Round, one_row
from .priors import Prior, as_prior
from .regions import Region
from .simulations import Simulations, warn_of_failed

#: Simulations on which coverage is measured, draws for each, and how many must be in the region.
N_COVERED, N_RANKED, FEWEST_RANKED = 400, 200, 20
#: Level of the regions of which coverage is measured.
LEVEL = 0.9


def infer(
    x_o: Any,
    estimator: Any,
    prior: Any,
    simulate: Callable[[np.ndarray, np.random.Generator], Any],
    *,
    n_simulations_per_round: int,
    rounds: int = 5,
    epsilon: float = 1e-4,
    tol: float = 0.1,
    batch_size: int = 1000,
    n_jobs: int | None = None,
    cache_dir: Any = None,
    allow_missing: bool = False,
    random_state: Any = None,
) -> Posterior:
    """Posterior of one observation, in rounds: truncated sequential NPE (TSNPE) [1]_.

    The first round is neural posterior estimation with the prior. Each later one draws parameters
    from the prior *truncated* to the region of highest density of the estimate at `x_o`, so that
    simulations go where the posterior is, and the estimator learns from all simulations so far.

    Parameters
    ----------
    x_o : array-like of shape (n_features,) or (1, n_features), or what one simulation is
        The observation.
    estimator : SANConditionalDensityEstimator
        Which is cloned, and gets limits and names of the prior where it has none. It is fitted
        anew in each round; with ``warm_start=True`` it goes on from the weights and scalers of the
        round before.
    prior : Prior, dict, list, frozen distribution or callable
        Of theta; see `Prior`.
    simulate : callable
        ``simulate(theta, random_state)``; see `draw_simulations`.
    n_simulations_per_round : int
        Simulations of each round.
    rounds : int, default=5
        Rounds, at most.
    epsilon : float, default=1e-4
        Share of the estimate that its region leaves out: the region is where the log density is
        above this quantile of that of draws.
    tol : float, default=0.1
        Rounds end when the share of the prior in the region changes by less than this share of it.
    batch_size, n_jobs, allow_missing : object
        As for `draw_simulations`.
    cache_dir : str or path, default=None
        Folder with a folder for the simulations of each round, from which a killed run goes on;
        what was simulated is read, the estimator is fitted again (or goes on from its own
        `checkpoint_dir`).
    random_state : int, RandomState or None, default=None
        Seed of parameters and data; the estimator has its own.

    Returns
    -------
    Posterior
        Of `x_o` alone, with `rounds`: simulations, accepted share of the draws of the prior, share
        of the prior in the region, and coverage.

    Raises
    ------
    ValueError, TypeError
        As of `draw_simulations`, `fit_simulator` and the estimator; if `x_o` has another shape
        than simulated data.

    Warns
    -----
    FailedSimulationsWarning
        In each round with simulations that failed.

    Notes
    -----
    Why the loss needs no correction: the parameters of all rounds together have the density
    ``p(theta) sum_r n_r 1[theta in R_r] / P(R_r)``, with R_r the region of round r and P(R_r) its
    share of the prior. Where all regions overlap, that is the prior times a constant, and there
    maximum likelihood learns the posterior up to a constant. So **every region must hold the mass
    of the true posterior at x_o**, all but a share that does not matter. If an early estimate is
    too narrow or misses a mode, what it cuts off is simulated no more, and later rounds cannot
    tell. Hence the small `epsilon`, ensembles, and the column `coverage`: the simulations of a
    round are new to the estimate of the round before, and the share that lies in its regions of
    90 %, cut to the region of `x_o`, is 0.9 if it is right around `x_o`. Well below that, regions
    are too small: take more simulations in each round. The estimate of the last round is not
    checked, for no simulations follow it.

    The result is for `x_o` alone: for other observations the truncated prior is not the prior. For
    many observations, or calibration over the prior, use `fit_simulator`.

    References
    ----------
    .. [1] Deistler, Goncalves and Macke (2022), "Truncated proposals for scalable and hassle-free
       simulation-based inference", NeurIPS.

    Examples
    --------
    >>> from sklearn_san import SANConditionalDensityEstimator
    >>> from sklearn_san.simulation import infer
    >>> def simulate(theta, random_state):
    ...     return theta + 0.05 * random_state.normal(size=theta.shape)
    >>> est = SANConditionalDensityEstimator(K=3, n_members=1, epochs=5, random_state=0)
    >>> posterior = infer(
    ...     [0.5, 1.0], est, {"a": (0, 1), "b": (0, 2)}, simulate,
    ...     n_simulations_per_round=300, rounds=2, epsilon=1e-3, random_state=0,
    ... )
    >>> posterior
    Posterior(['a', 'b'], rounds=2)
    >>> posterior.rounds[0].volume < 0.5
    True
    """
    prior = as_prior(prior)
    for name, value in {
        "n_simulations_per_round": n_simulations_per_round, "rounds": rounds,
    }.items():  # fmt: skip
        check_integer(name, value, 2 if name != "rounds" else 1)
    check_real("epsilon", epsilon, 0.0, 0.5)
    check_real("tol", tol, 0.0, 1.0)
    estimator = prepared(estimator, prior)
    job = Job.make(simulate, batch_size, n_jobs, random_state, allow_missing=allow_missing)
    pairs: Simulations | None = None
    region: Region | None = None
    done: list[Round] = []
    for number in range(rounds):
        folder = None
        if cache_dir is not None:
            path = Path(cache_dir) / f"round-{number + 1:02d}"
            observed = x_o if isinstance(x_o, dict) else np.asarray(x_o)
            parts = [observed, estimator.get_params(deep=False), epsilon, n_simulations_per_round]
            facts = job.facts(prior, fingerprint(parts) if number else "")
            folder = Folder(path, facts, chosen_seed=job.seed if number else random_state)
            job = replace(job, seed=folder.seed)
        random = np.random.default_rng(np.random.SeedSequence(job.seed, spawn_key=(number,)))
        draw, acceptance = _proposal(prior, region, n_simulations_per_round, random, folder)
        new = _simulated(job, draw, n_simulations_per_round, number, folder, x_o)
        warn_of_failed(new)
        if region is not None:
            done[-1] = replace(done[-1], coverage=_coverage(estimator, region, new, random))
        pairs = new if pairs is None else pairs + new
        estimator = fit_pairs(estimator, pairs)
        x_row = one_row(x_o, new[0][0])
        region = Region(estimator.predict_density(x_row), prior, epsilon, random)
        done.append(Round(new.n_rows, new.n_failed, acceptance, region.volume(random)))
        if number and abs(done[-1].volume - done[-2].volume) < tol * done[-2].volume:
            break
    return Posterior(estimator, x_row, prior, rounds=done)


def _proposal(
    prior: Prior,
    region: Region | None,
    n: int,
    random: np.random.Generator,
    folder: Folder | None,
) -> tuple[Draw, float]:
    """Draws of the prior, in the region if there is one, and the share that was accepted.

    With a folder the draws of an earlier run are taken: a fit that is repeated elsewhere differs by
    rounding errors, and with it the region.
    """
    if region is None:
        return from_prior(prior), 1.0
    path = None if folder is None else folder.path / "proposals.npz"
    if path is not None and path.exists():
        try:
            with np.load(path, allow_pickle=False) as kept:
                theta, acceptance = kept["theta"], float(kept["acceptance"])
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"{str(path)!r} is damaged ({error!r}); delete the folder.") from None
    else:
        theta, acceptance = region.draw(n, random)
        if path is not None:
            buffer = io.BytesIO()
            np.savez(buffer, theta=theta, acceptance=acceptance)
            write_atomically(path, buffer.getvalue())
    return lambda size, _, start: theta[start : start + size], acceptance


def _simulated(
    job: Job, draw: Draw, n: int, number: int, folder: Folder | None, x_o: Any
) -> Simulations:
    """Simulations of a round; the first ones tell what shape x_o must have."""
    batches = []
    for batch in job.batches(draw, n, number, folder):
        if not batch.failed.all():
            one_row(x_o, batch.good()[0])
        batches.append(batch)
    found = Simulations(batches)
    if folder is not None:
        folder.close(found.n_rows, found.n_failed, found.message)
    return found


def _coverage(
    estimator: Any, region: Region, new: Simulations, random: np.random.Generator
) -> float:
    """Share of new simulations inside the regions of `LEVEL` of an estimate that has not seen them.

    They were drawn inside the region, so that draws of the estimate outside do not count.
    """
    n = min(N_COVERED, new.n_rows)
    x, theta = new.x, new.theta[:n]
    x = {k: v[:n] for k, v in x.items()} if isinstance(x, dict) else x[:n]
    density = estimator.predict_density(x)
    draws = density.sample(N_RANKED, random_state=int(random.integers(2**31 - 1)))
    flat = draws.reshape(n * N_RANKED, -1)
    kept = (region.contains(flat) & region.prior.contains(flat)).reshape(n, N_RANKED)
    truth = theta[:, 0] if density.one_dimensional else theta
    denser = (density.log_prob(draws) > density.log_prob(truth)[:, None]) & kept
    n_kept = kept.sum(axis=1)
    rank = (denser.sum(axis=1) + random.uniform(size=n)) / (n_kept + 1.0)
    enough = n_kept >= FEWEST_RANKED
    return float((rank[enough] <= LEVEL).mean()) if enough.any() else np.nan
