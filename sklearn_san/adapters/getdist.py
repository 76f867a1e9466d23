"""For GetDist: draws of one row as its samples.

=============  ==============================================
`to_getdist`   draws, log densities and limits as `MCSamples`
=============  ==============================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from getdist import MCSamples

__all__ = ["to_getdist"]


def to_getdist(
    density: Any,
    n_draws: int = 10_000,
    *,
    random_state: Any = None,
    labels: Mapping[str, str] | None = None,
) -> Any:
    """Draws of one row as GetDist's samples.

    Parameters
    ----------
    density : Density
        Of one row; ``density[i]`` is that of row i.
    n_draws : int, default=10_000
    random_state : int, RandomState or None, default=None
    labels : dict of str to str, default=None
        Labels in LaTeX, without dollar signs, by output.

    Returns
    -------
    getdist.MCSamples
        Uncorrelated samples, with minus the joint log density as `loglikes` and the limits as
        `ranges`, at which GetDist's kernels stop.

    Examples
    --------
    >>> from sklearn_san import SANConditionalDensityEstimator
    >>> from sklearn_san.adapters.getdist import to_getdist
    >>> from sklearn_san.datasets import make_bimodal
    >>> X, y, _ = make_bimodal(300, random_state=0)
    >>> est = SANConditionalDensityEstimator(K=3, epochs=3, n_members=1, random_state=0).fit(X, y)
    >>> to_getdist(est.predict_density(X[:1]), 500).samples.shape  # GetDist says so itself:
    Removed no burn in
    (500, 2)
    """
    if len(density) != 1:
        raise ValueError(f"to_getdist takes the density of one row, got {len(density)} rows.")
    names = density.output_names
    draws = density.sample(n_draws, random_state=random_state)  # (1, n_draws, n_outputs)
    log_prob = density.log_prob(draws)[0]
    ranges = {
        name: [float(end) if np.isfinite(end) else None for end in ends]
        for name, ends in zip(names, density.limits, strict=True)
    }
    return MCSamples(
        samples=draws.reshape(n_draws, -1),
        loglikes=-log_prob,
        names=names,
        labels=[(labels or {}).get(name, name) for name in names],
        ranges=ranges,
        sampler="uncorrelated",
    )
