"""Rosenblatt test: are the coordinates uniform and independent of each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from .checks import check_unit, names_of
from .diagnostic import (
    HeldOut,
)
from .results import Result, table
from .uniformity import (
    combine,
    combine_independent,
    ks_pvalue,
    rank_scores,
    smooth_pvalue,
)


@dataclass(frozen=True, eq=False, repr=False)
class RosenblattTest(Result):
    """Result of `rosenblatt_test`.

    Parameters
    ----------
    u : ndarray of shape (n_rows, n_outputs)
        Rosenblatt coordinates.
    output_names : tuple of str
        Names of the outputs.
    spread : ndarray of shape (n_outputs,)
        Standard deviation of u relative to that of a uniform value; above 1 if conditionals are
        too narrow.
    uniformity_pvalues : ndarray of shape (n_outputs,)
        Neyman's smooth test of each output.
    ks_pvalues : ndarray of shape (n_outputs,)
        Kolmogorov-Smirnov test of each output, for comparison: it has less power.
    correlations : ndarray of shape (n_outputs, n_outputs)
        Rank correlations of the coordinates, 0 if the dependence of the outputs is right.
    dependence_pvalues : ndarray of shape (n_outputs, n_outputs)
        Independence of each pair; nan on the diagonal.
    uniformity_pvalue, independence_pvalue : float
        Of all outputs and of all pairs; the latter is nan for one output.
    pvalue : float
        Of both.
    """

    u: np.ndarray
    output_names: tuple[str, ...]
    spread: np.ndarray
    uniformity_pvalues: np.ndarray
    ks_pvalues: np.ndarray
    correlations: np.ndarray
    dependence_pvalues: np.ndarray
    uniformity_pvalue: float
    independence_pvalue: float
    pvalue: float

    def strongest_dependence(self) -> list[str]:
        """What is left of the dependence of outputs, in words; empty for one output."""
        if len(self.output_names) < 2:
            return []
        size = np.abs(self.correlations - np.eye(len(self.output_names)))
        one, other = np.unravel_index(size.argmax(), size.shape)
        names = f"{self.output_names[one]} and {self.output_names[other]}"
        correlation = self.correlations[one, other]
        return [
            f"- strongest dependence left: {names}, with a rank correlation of {correlation:.2f}"
        ]

    def summary(self) -> str:
        """Table of the outputs, each with the output it depends on most."""
        rows = []
        for j, name in enumerate(self.output_names):
            mean, spread = self.u[:, j].mean(), self.spread[j]
            row = [name, f"{mean:.3f}", f"{spread:.3f}", self.uniformity_pvalues[j]]
            if len(self.output_names) > 1:
                other = int(np.nanargmin(self.dependence_pvalues[j]))
                row += [self.output_names[other], f"{self.correlations[j, other]:.3f}",
                        self.dependence_pvalues[j, other]]  # fmt: skip
            rows.append(row)
        header = ["output", "mean u", "spread", "p uniform", "depends on", "corr.", "p indep."]
        title = f"Rosenblatt test: p = {self.pvalue:.3g}"
        if len(self.output_names) > 1:
            title += f" (uniform {self.uniformity_pvalue:.3g}, "
            title += f"independent {self.independence_pvalue:.3g})"
        return title + "\n" + table(header[: len(rows[0])], rows)


def rosenblatt_test(u: Any, *, output_names: Sequence[str] | None = None) -> RosenblattTest:
    """Test that Rosenblatt coordinates are uniform and independent of each other.

    A density with the right marginal of every output but the wrong dependence, such as one that
    ignores it, has coordinates that are uniform one by one but depend on each other, so both are
    tested: uniformity by Neyman's smooth test, the independence of each pair by rank correlations,
    of the coordinates and of their distances from 1/2. The p-values of all outputs (or pairs) are
    combined for one strong effect (Sidak) and for many weak ones (Fisher), and these by a Cauchy
    combination, as are the two groups. Coordinates that depend on x but not on each other
    pass: see `local_calibration`. So does dependence that shows only among three or more.

    Parameters
    ----------
    u : array-like of shape (n_rows, n_outputs)
        From ``density.cdf(y)``, between 0 and 1; or any values that are to be uniform.
    output_names : sequence of str, default=None
        Names of the outputs; None makes y0, y1, ...

    Returns
    -------
    RosenblattTest

    Raises
    ------
    ValueError
        For values outside [0, 1] or fewer than 20 rows.

    References
    ----------
    .. [1] Rosenblatt (1952), Remarks on a multivariate transformation, Annals of Mathematical
       Statistics 23.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_san.calibration import rosenblatt_test
    >>> u = np.random.default_rng(0).uniform(size=(1000, 2))
    >>> rosenblatt_test(u).pvalue > 0.05
    True
    >>> rosenblatt_test(np.stack([u[:, 0], u[:, 0]], axis=1)).pvalue < 1e-6
    True
    """
    u = check_unit(u, "u")
    uniformity = smooth_pvalue(u)
    correlations, dependence, independent = dependence_pvalues(u)
    uniform = combine_independent(uniformity)
    several = u.shape[1] > 1
    return RosenblattTest(
        u=u,
        output_names=names_of(output_names, u.shape[1]),
        spread=u.std(axis=0) * np.sqrt(12.0),
        uniformity_pvalues=uniformity,
        ks_pvalues=ks_pvalue(u),
        correlations=correlations,
        dependence_pvalues=dependence,
        uniformity_pvalue=uniform,
        independence_pvalue=independent,
        pvalue=combine(np.array([uniform, independent])) if several else uniform,
    )


def dependence_pvalues(u: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Dependence between the columns of u (n_rows, n_columns), from their ranks alone.

    For each pair, the correlation of P_1(u_i) with P_1(u_j), and, for dependence that changes
    sign, the correlations of P_1 with P_2 and of P_2 with P_2. Under independence all of them are
    uncorrelated standard normal, up to the factor ``1 / sqrt(n_rows - 1)``.

    Returns
    -------
    correlations : ndarray of shape (n_columns, n_columns)
        Rank correlations.
    pvalues : ndarray of shape (n_columns, n_columns)
        For each pair; nan on the diagonal.
    pvalue : float
        For all pairs; nan for a single column.
    """
    n, n_columns = u.shape
    scores = rank_scores(u, 2)
    scores = scores - scores.mean(axis=0)
    norm = np.sqrt((scores**2).sum(axis=0))
    scores = scores / np.where(norm > 0, norm, 1.0)
    z = np.einsum("nik,njl->klij", scores, scores, optimize=True)
    linear = stats.chi2.sf((n - 1) * z[0, 0] ** 2, 1)
    shape = stats.chi2.sf((n - 1) * (z[1, 1] ** 2 + z[0, 1] ** 2 + z[1, 0] ** 2), 3)
    pvalues = np.full((n_columns, n_columns), np.nan)
    for i, j in zip(*np.triu_indices(n_columns, 1), strict=True):
        pvalues[i, j] = pvalues[j, i] = combine(np.array([linear[i, j], shape[i, j]]))
    upper = np.triu_indices(n_columns, 1)
    if n_columns == 1:
        return z[0, 0], pvalues, float("nan")
    return z[0, 0], pvalues, combine_independent(np.stack([linear[upper], shape[upper]]))


def diagnose_joint(held_out: HeldOut, random: np.random.RandomState) -> RosenblattTest:
    """The entry of the table of diagnostics."""
    return rosenblatt_test(held_out.u, output_names=held_out.output_names)
