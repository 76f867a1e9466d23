"""How good p(z) and point estimates are, by the definitions that surveys use.

=================  ==========================================================================
`cde_loss`         integral of p^2 minus twice p at the truth, up to a constant [1]_
`pit`              cdf of each row at its true redshift
`uniformity`       of PIT values: Kolmogorov-Smirnov, Cramer-von Mises, Anderson-Darling, smooth
                   test, share of outliers
`point_scores`     bias, scatter and outliers of point estimates
`evaluate`         all of them, as a table
=================  ==========================================================================

p(z) may be a `RedshiftPDF`, a density of `predict_density`, or draws (n_rows, n_draws). CRPS and
log score are in `sklearn_san.metrics`, tests of calibration in `sklearn_san.calibration`.

References
----------
.. [1] Izbicki and Lee (2017), Converting high-dimensional regression to high-dimensional
   conditional density estimation, Electronic Journal of Statistics 11, 2800.
.. [2] Schmidt et al. (2020), Evaluation of probabilistic photometric redshift estimation approaches
   for The Rubin Observatory Legacy Survey of Space and Time, MNRAS 499, 1587.
.. [3] Hoaglin, Mosteller and Tukey (1983), Understanding robust and exploratory data analysis.
.. [4] Ilbert et al. (2006), Accurate photometric redshifts for the CFHT Legacy Survey, A&A
   457, 841.
.. [5] Brammer, van Dokkum and Coppi (2008), EAZY, ApJ 686, 1503.
.. [6] Hildebrandt et al. (2010), PHAT: photo-z accuracy testing, A&A 523, A31.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from ..calibration.results import table
from ..calibration.uniformity import smooth_pvalue
from ..metrics import pit_values
from ..metrics.checks import check_numbers
from .pdfs import RedshiftPDF, as_pdf
from .points import point_estimate

#: PIT values nearer to 0 or 1 are outliers [2]_; and how near the statistic of Anderson and
#: Darling, infinite at 0 and 1, lets them come.
PIT_OUTLIER, NEAREST = 1e-4, 1e-12
#: Standard deviation of a Gaussian over its median absolute deviation, and over the distance of its
#: quartiles.
PER_MAD, PER_IQR = 1.0 / stats.norm.ppf(0.75), 0.5 / stats.norm.ppf(0.75)


@dataclass(frozen=True)
class Uniformity:
    """How far PIT values are from uniform.

    Parameters
    ----------
    ks, cramer_von_mises, anderson_darling : float
        Greatest distance of the distribution functions; n times their mean squared distance, and
        the same weighted by 1 / (u (1 - u)), which sees the tails.
    ks_pvalue, cramer_von_mises_pvalue, smooth_pvalue : float
        Of the first two, and of Neyman's smooth test of `sklearn_san.calibration`.
    outlier_rate : float
        Share of values below 1e-4 or above 1 - 1e-4; 2e-4 if calibrated [2]_.

    References
    ----------
    .. [2] Schmidt et al. (2020), Evaluation of probabilistic photometric redshift estimation
       approaches for The Rubin Observatory Legacy Survey of Space and Time, MNRAS 499, 1587.
    """

    ks: float
    ks_pvalue: float
    cramer_von_mises: float
    cramer_von_mises_pvalue: float
    anderson_darling: float
    smooth_pvalue: float
    outlier_rate: float


@dataclass(frozen=True)
class PointScores:
    """Scores of point estimates, of ``dz = (z_point - z) / (1 + z)``.

    Parameters
    ----------
    bias : float
        Median of dz [2]_.
    mean_bias : float
        Mean of dz.
    sigma_mad : float
        ``1.4826 median |dz - median dz|`` [3]_.
    sigma_nmad : float
        ``1.4826 median |dz|``, not centred [4]_. [5]_ centres: 1.4826 times the median of
        ``|z_point - z - median(z_point - z)| / (1 + z)``, `sigma_nmad_centred`.
    sigma_nmad_centred : float
        See above.
    sigma_iqr : float
        Distance of the quartiles of dz over 1.349 [2]_.
    outliers_015 : float
        Share with ``|dz| > 0.15`` [4]_, [6]_.
    outliers_006 : float
        Share with ``|dz| > 0.06``.
    outliers_3sigma : float
        Share with ``|dz| > max(0.06, 3 sigma_iqr)`` [2]_.

    References
    ----------
    .. [2] Schmidt et al. (2020), MNRAS 499, 1587.
    .. [3] Hoaglin, Mosteller and Tukey (1983), Understanding robust and exploratory data analysis.
    .. [4] Ilbert et al. (2006), A&A 457, 841.
    .. [5] Brammer, van Dokkum and Coppi (2008), EAZY, ApJ 686, 1503.
    .. [6] Hildebrandt et al. (2010), PHAT, A&A 523, A31.
    """

    bias: float
    mean_bias: float
    sigma_mad: float
    sigma_nmad: float
    sigma_nmad_centred: float
    sigma_iqr: float
    outliers_015: float
    outliers_006: float
    outliers_3sigma: float


@dataclass(frozen=True)
class Evaluation:
    """Result of `evaluate`.

    Parameters
    ----------
    cde_loss : float
    uniformity : Uniformity
    points : PointScores
    """

    cde_loss: float
    uniformity: Uniformity
    points: PointScores

    def __str__(self) -> str:
        return self.summary()

    def summary(self) -> str:
        """All numbers as a Markdown table."""
        own = [("cde_loss", self.cde_loss)]
        for part in (self.uniformity, self.points):
            own += vars(part).items()
        return table(["score", "value"], own)


def cde_loss(pz: Any, z: Any, *, grid: Any = None, output: Any = 0) -> float:
    """Loss of conditional densities, ``mean of int p^2 - 2 p(z_true)``; smaller is better [1]_.

    It is the integrated squared distance to the true density up to a constant of the data.

    Parameters
    ----------
    pz : RedshiftPDF, Density or array-like of shape (n_rows, n_draws)
        Of draws it is that of their histogram, which is too great by about the density of one
        draw.
    z : array-like of shape (n_rows,)
        True redshifts.
    grid : array-like of shape (n_points,), default=None
        For the integral over a density or the cells of draws, as for `RedshiftPDF.from_density`.
    output : int or str, default=0
        Column of y that is the redshift, for a density.

    Returns
    -------
    float
        Per unit of redshift.

    References
    ----------
    .. [1] Izbicki and Lee (2017), Converting high-dimensional regression to high-dimensional
       conditional density estimation, Electronic Journal of Statistics 11, 2800.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_san.photoz import RedshiftPDF, cde_loss
    >>> pz = RedshiftPDF.from_arrays([0.0, 0.5], [[1.0, 1.0]])  # p = 2
    >>> cde_loss(pz, [0.2])
    -2.0
    """
    return _cde_loss(pz, as_pdf(pz, grid, output), z, output)


def pit(pz: Any, z: Any, *, output: Any = 0, random_state: Any = None) -> np.ndarray:
    """Probability integral transform: the cdf of each row at its true redshift.

    Uniform if p(z) is calibrated; `sklearn_san.plotting.PITDisplay` shows it.

    Parameters
    ----------
    pz : RedshiftPDF, Density or array-like of shape (n_rows, n_draws)
        A density is asked for its `marginal_cdf`, draws for the rank of the truth.
    z : array-like of shape (n_rows,)
        True redshifts.
    output : int or str, default=0
        Column of y that is the redshift, for a density.
    random_state : int, RandomState or None, default=None
        Spreads the ranks of draws over (0, 1).

    Returns
    -------
    ndarray of shape (n_rows,)
    """
    z = _check_truth(z, len(pz))
    if isinstance(pz, RedshiftPDF):
        return pz.cdf_at(z)
    if hasattr(pz, "marginal_cdf"):
        return pz.marginal_cdf(output, z)
    return pit_values(z, pz, random_state=random_state)


def uniformity(u: Any) -> Uniformity:
    """How far PIT values are from uniform.

    Parameters
    ----------
    u : array-like of shape (n_rows,)
        From `pit`, between 0 and 1.

    Returns
    -------
    Uniformity
    """
    u = check_numbers(u, "u")
    if u.ndim != 1 or u.min() < 0 or u.max() > 1:
        raise ValueError(f"u must be (n_rows,) values between 0 and 1, got shape {u.shape}.")
    n, ordered = len(u), np.clip(np.sort(u), NEAREST, 1.0 - NEAREST)
    odd = 2.0 * np.arange(n) + 1.0
    ks, cvm = stats.kstest(u, "uniform"), stats.cramervonmises(u, "uniform")
    return Uniformity(
        ks=float(ks.statistic),
        ks_pvalue=float(ks.pvalue),
        cramer_von_mises=float(cvm.statistic),
        cramer_von_mises_pvalue=float(cvm.pvalue),
        anderson_darling=float(-n - odd @ (np.log(ordered) + np.log1p(-ordered[::-1])) / n),
        smooth_pvalue=float(smooth_pvalue(u)),
        outlier_rate=float(np.mean((u < PIT_OUTLIER) | (u > 1.0 - PIT_OUTLIER))),
    )


def point_scores(z_point: Any, z: Any) -> PointScores:
    """Bias, scatter and outliers of point estimates.

    Parameters
    ----------
    z_point : array-like of shape (n_rows,)
        Photometric redshifts.
    z : array-like of shape (n_rows,)
        True redshifts.

    Returns
    -------
    PointScores
    """
    z_point = check_numbers(z_point, "z_point")
    z = _check_truth(z, len(z_point))
    error = z_point - z
    dz = error / (1.0 + z)
    sigma_iqr = PER_IQR * np.diff(np.quantile(dz, [0.25, 0.75]))[0]
    scores = {
        "bias": np.median(dz),
        "mean_bias": dz.mean(),
        "sigma_mad": PER_MAD * np.median(np.abs(dz - np.median(dz))),
        "sigma_nmad": PER_MAD * np.median(np.abs(dz)),
        "sigma_nmad_centred": PER_MAD * np.median(np.abs(error - np.median(error)) / (1.0 + z)),
        "sigma_iqr": sigma_iqr,
        "outliers_015": np.mean(np.abs(dz) > 0.15),
        "outliers_006": np.mean(np.abs(dz) > 0.06),
        "outliers_3sigma": np.mean(np.abs(dz) > max(0.06, 3.0 * sigma_iqr)),
    }
    return PointScores(**{name: float(value) for name, value in scores.items()})


def evaluate(
    pz: Any,
    z: Any,
    *,
    kind: str = "best",
    grid: Any = None,
    output: Any = 0,
    random_state: Any = None,
) -> Evaluation:
    """All scores of p(z) against true redshifts.

    Parameters
    ----------
    pz : RedshiftPDF, Density or array-like of shape (n_rows, n_draws)
    z : array-like of shape (n_rows,)
        True redshifts of rows that were not trained on.
    kind : {"best", "mode", "mean", "median"}, default="best"
        Which point estimate.
    grid : array-like of shape (n_points,), default=None
        As for `cde_loss`.
    output : int or str, default=0
        As for `cde_loss`.
    random_state : int, RandomState or None, default=None
        As for `pit`.

    Returns
    -------
    Evaluation
        Prints as a table.
    """
    on_grid = as_pdf(pz, grid, output)
    return Evaluation(
        _cde_loss(pz, on_grid, z, output),
        uniformity(pit(pz, z, output=output, random_state=random_state)),
        point_scores(point_estimate(on_grid, kind), z),
    )


def _cde_loss(pz: Any, on_grid: RedshiftPDF, z: Any, output: Any) -> float:
    z = _check_truth(z, len(on_grid))
    if hasattr(pz, "marginal_log_prob"):
        at_truth = np.exp(pz.marginal_log_prob(output, z))
    else:
        at_truth = on_grid.pdf_at(z)
    return float(np.mean(on_grid.integral_of_square() - 2.0 * at_truth))


def _check_truth(z: Any, n_rows: int) -> np.ndarray:
    z = check_numbers(z, "z")
    if z.shape != (n_rows,):
        raise ValueError(f"z must have shape ({n_rows},), got {z.shape}.")
    return z
