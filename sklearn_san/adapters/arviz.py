"""For ArviZ: draws as inference data.

=============  ===================================================
`to_arviz`     draws and log densities as `InferenceData`
=============  ===================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import arviz
import numpy as np

from .xarray import to_xarray

__all__ = ["to_arviz"]


def to_arviz(
    density: Any,
    n_draws: int = 1000,
    *,
    random_state: Any = None,
    units: Mapping[str, str] | None = None,
) -> Any:
    """Draws as ArviZ's inference data, in one chain.

    Parameters
    ----------
    density : Density
    n_draws : int, default=1000
    random_state : int, RandomState or None, default=None
    units : dict of str to str, default=None
        Units by output, which go into the attributes.

    Returns
    -------
    arviz.InferenceData
        With the groups `posterior`, variables (chain, draw, row), and `sample_stats`, whose `lp`
        is the joint log density in nats; without the axis row where the density has one row.

    Examples
    --------
    >>> from sklearn_san import SANConditionalDensityEstimator
    >>> from sklearn_san.adapters.arviz import to_arviz
    >>> from sklearn_san.datasets import make_bimodal
    >>> X, y, _ = make_bimodal(300, random_state=0)
    >>> est = SANConditionalDensityEstimator(K=3, epochs=3, n_members=1, random_state=0).fit(X, y)
    >>> to_arviz(est.predict_density(X[:1]), 50).posterior["y0"].dims
    ('chain', 'draw')
    """
    posterior = to_xarray(density, n_draws, random_state=random_state, units=units)
    y = np.stack([posterior[name].values for name in density.output_names], axis=-1)
    log_prob = density.log_prob(y[..., 0] if density.one_dimensional else y)
    stats = posterior.drop_vars(density.output_names).assign(lp=(("row", "draw"), log_prob))
    groups = {}
    for name, group in {"posterior": posterior, "sample_stats": stats}.items():
        group = group.isel(row=0, drop=True) if len(density) == 1 else group
        groups[name] = group.expand_dims(chain=[0]).transpose("chain", "draw", ...)
    return arviz.InferenceData(**groups)
