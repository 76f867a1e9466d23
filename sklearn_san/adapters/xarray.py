"""For xarray: draws as a data set with names, rows and units.

=============  ========================
`to_xarray`    draws of every output
=============  ========================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray

__all__ = ["to_xarray"]


def to_xarray(
    density: Any,
    n_draws: int = 1000,
    *,
    random_state: Any = None,
    units: Mapping[str, str] | None = None,
) -> Any:
    """Draws as a data set with a variable for each output.

    Parameters
    ----------
    density : Density
    n_draws : int, default=1000
    random_state : int, RandomState or None, default=None
    units : dict of str to str, default=None
        Units by output, which go into the attributes.

    Returns
    -------
    xarray.Dataset
        Variables (row, draw) in the units of y, whose attributes have `units`, if given, and the
        `limits`; rows bear the names of the density's `index`.

    Examples
    --------
    >>> from sklearn_san import SANConditionalDensityEstimator
    >>> from sklearn_san.adapters.xarray import to_xarray
    >>> from sklearn_san.datasets import make_bimodal
    >>> X, y, _ = make_bimodal(300, random_state=0)
    >>> est = SANConditionalDensityEstimator(K=3, epochs=3, n_members=1, random_state=0).fit(X, y)
    >>> draws = to_xarray(est.predict_density(X[:3]), 50, units={"y0": "Mpc"})
    >>> dict(draws.sizes), draws["y0"].units
    ({'row': 3, 'draw': 50}, 'Mpc')
    """
    names, units = density.output_names, dict(units or {})
    if unknown := sorted(units.keys() - set(names)):
        raise ValueError(f"units names {unknown}, which are no outputs; these are {names}.")
    draws = density.sample(n_draws, random_state=random_state).reshape(len(density), n_draws, -1)
    variables = {}
    for j, name in enumerate(names):
        attributes: dict[str, Any] = {"limits": density.limits[j].tolist()}
        if name in units:
            attributes["units"] = units[name]
        values = draws[..., j]
        if values.dtype == object:  # numbers beside outputs that are labels
            values = np.array(values.tolist())
        variables[name] = (("row", "draw"), values, attributes)
    index = np.arange(len(density)) if density.index is None else np.asarray(density.index)
    return xarray.Dataset(variables, {"row": index, "draw": np.arange(n_draws)})
