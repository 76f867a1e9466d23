"""For qp: the density of one output, such as p(z), as an ensemble, and so in qp's files.

=========  ==========================================================================
`to_qp`    an ensemble on a grid, of quantiles or of Gaussians, with point estimates
=========  ==========================================================================
"""

from __future__ import annotations

from typing import Any

import numpy as np
import qp

from .. import _validation as validation
from ..density import Density
from ..photoz import RedshiftPDF, point_estimate, summarise

__all__ = ["to_qp"]

REPRESENTATIONS = ("interp", "quant", "mixmod")


def to_qp(
    density: Density,
    output: Any = 0,
    *,
    representation: str = "interp",
    grid: Any = None,
    n_quantiles: int = 99,
    is_redshift: bool = True,
    ids: Any = None,
) -> Any:
    """The density of one output as an ensemble of qp.

    Parameters
    ----------
    density : Density
    output : int or str, default=0
        Column of y.
    representation : {"interp", "quant", "mixmod"}, default="interp"
        Densities on the grid, quantiles, or the mixture of Gaussians that the network gives, which
        the output that comes first in ``order`` has, if its likelihood is "mog" without limits.
    grid : array-like of shape (n_points,), default=None
        Rising values of the output, on which the point estimates rest too. None is as for
        `RedshiftPDF.from_density`.
    n_quantiles : int, default=99
        Number of quantiles, evenly spaced in (0, 1).
    is_redshift : bool, default=True
        Whether the output is a redshift, which decides about the columns of ``ancil``: `zmode`,
        `zmean`, `zmedian`, `zbest` (the least expected loss), `odds` and `risk` of the latter, and
        `n_modes`; for others `mode`, `mean`, `median` and `std`.
    ids : array-like of shape (n_rows,), default=None
        Names of the rows, the column `id` of ``ancil``. None takes the density's `index`, if any.

    Returns
    -------
    qp.Ensemble
        Per unit of the output; ``write_to("pz.hdf5")`` writes a file for ``qp.read``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_san import SANConditionalDensityEstimator
    >>> from sklearn_san.adapters.qp import to_qp
    >>> from sklearn_san.datasets import make_bimodal
    >>> X, y, _ = make_bimodal(300, random_state=0)
    >>> est = SANConditionalDensityEstimator(K=3, epochs=3, n_members=1, random_state=0).fit(X, y)
    >>> density = est.predict_density(X[:3])
    >>> ensemble = to_qp(density, "y0", grid=np.linspace(-6, 6, 241), is_redshift=False)
    >>> len(ensemble.ancil["mode"]), sorted(ensemble.ancil)
    (3, ['mean', 'median', 'mode', 'std'])
    """
    validation.check_choice("representation", representation, REPRESENTATIONS)
    j = validation.check_output(output, density.output_names, "output")
    pdf = RedshiftPDF.from_density(density, grid, output=j)
    if representation == "interp":
        ensemble = qp.Ensemble(qp.interp, data={"xvals": pdf.grid, "yvals": pdf.pdf})
    elif representation == "quant":
        ensemble = _quantiles(density, j, n_quantiles)
    else:
        ensemble = _mixture(density, j)
    points = _redshifts(pdf) if is_redshift else _points(pdf)
    ancil = {name: values[:, None] for name, values in points.items()}
    ids = density.index if ids is None else ids
    if ids is not None:
        ancil["id"] = np.asarray(ids)
    ensemble.set_ancil(ancil)
    return ensemble


def _quantiles(density: Density, j: int, n_quantiles: int) -> Any:
    levels = (np.arange(n_quantiles) + 0.5) / n_quantiles
    locs = density.quantile(levels).reshape(len(density), n_quantiles, -1)[..., j]
    return qp.Ensemble(qp.quant, data={"quants": levels, "locs": locs})


def _mixture(density: Density, j: int) -> Any:
    mixture = density.components(j)
    if mixture.kernel != "normal" or mixture.limits is not None:
        raise ValueError(
            "representation='mixmod' needs a mixture of Gaussians without limits, and the model "
            f"has kernel {mixture.kernel!r} and limits {mixture.limits}; take 'interp' or 'quant'."
        )
    data = {"weights": mixture.weight, "means": mixture.loc, "stds": mixture.scale}
    return qp.Ensemble(qp.mixmod, data=data)


def _redshifts(pz: RedshiftPDF) -> dict[str, np.ndarray]:
    found = summarise(pz)
    points = {f"z{one}": found[f"z_{one}"] for one in ("mode", "mean", "median", "best")}
    return points | {name: found[name] for name in ("odds", "risk", "n_modes")}


def _points(pdf: RedshiftPDF) -> dict[str, np.ndarray]:
    points = {kind: point_estimate(pdf, kind) for kind in ("mode", "mean", "median")}
    return points | {"std": pdf.std()}
