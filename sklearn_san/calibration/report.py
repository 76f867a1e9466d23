"""The table of diagnostics, and reports that run them on one fitted estimator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils.validation import check_consistent_length

from .._caller_state import own_state
from .._parts import is_parts, n_rows_of
from .._validation import check_choice, check_integer
from ..chains import density_of
from .coverage import CoverageTest
from .diagnostic import Diagnostic, DrawsDiagnostic, HeldOut, random_stream
from .effects import Effect, effect_of_regions, effects_of_outputs
from .hpd import HPD
from .local import LocalCalibration, diagnose_local, numeric_features
from .ranks import RANKS, RankTest
from .results import Result, table
from .rosenblatt import RosenblattTest, diagnose_joint
from .tarp import TARP
from .uniformity import holm

#: Diagnostics by the names that `calibration_report` accepts: functions
#: ``diagnostic(held_out, random) -> result``, or `DrawsDiagnostic` where draws are read.
DIAGNOSTICS: dict[str, Diagnostic] = {
    "rosenblatt": diagnose_joint,
    "ranks": RANKS,
    "hpd": HPD,
    "tarp": TARP,
    "local": diagnose_local,
}


@dataclass(frozen=True, eq=False, repr=False)
class CalibrationReport(Result):
    """Result of `calibration_report`.

    Parameters
    ----------
    results : dict of str to object
        Result of each diagnostic that was run; those in `DIAGNOSTICS` are attributes as well.
    n_rows, n_draws : int
        Rows, and draws of each.

    Attributes
    ----------
    rosenblatt : RosenblattTest or None
    ranks : RankTest or None
    hpd, tarp : CoverageTest or None
    local : LocalCalibration or None
        What was not asked for is None.
    effects : list of Effect
        How far intervals of each output, and regions of all, are off.
    """

    results: Mapping[str, Any]
    n_rows: int
    n_draws: int

    @property
    def rosenblatt(self) -> RosenblattTest | None:
        return self.results.get("rosenblatt")

    @property
    def ranks(self) -> RankTest | None:
        return self.results.get("ranks")

    @property
    def hpd(self) -> CoverageTest | None:
        return self.results.get("hpd")

    @property
    def tarp(self) -> CoverageTest | None:
        return self.results.get("tarp")

    @property
    def local(self) -> LocalCalibration | None:
        return self.results.get("local")

    @property
    def pvalues(self) -> dict[str, float]:
        """P-value of each diagnostic."""
        return {name: result.pvalue for name, result in self.results.items()}

    @property
    def pvalue(self) -> float:
        """Smallest p-value, adjusted for the number of diagnostics (Holm)."""
        return float(holm(np.array(list(self.pvalues.values()))).min())

    @property
    def effects(self) -> list[Effect]:
        found: list[Effect] = []
        if self.rosenblatt is not None:
            found += effects_of_outputs(self.rosenblatt.u, self.rosenblatt.output_names)
        elif self.ranks is not None:
            found += effects_of_outputs(self.ranks.pit, self.ranks.output_names)
        if self.hpd is not None:
            found.append(effect_of_regions("densest", self.hpd.values))
        if self.tarp is not None:
            found.append(effect_of_regions("TARP", self.tarp.values))
        return found

    def verdict(self) -> str:
        """Whether calibration is rejected, and how far off the worst intervals are."""
        text = f"Calibration is {self._decision()} at the 5 % level"
        if not self.effects:
            return text + "."
        worst = max(self.effects, key=lambda effect: abs(effect.coverage - effect.level))
        says, holds = f"{100 * worst.level:g} %", f"{100 * worst.coverage:.1f} %"
        return f"{text}; at worst, what says {says} holds {holds} ({worst.name})."

    def _decision(self) -> str:
        return "rejected" if self.pvalue <= 0.05 else "not rejected"

    def plot(self, **options: Any) -> Any:
        """All diagnostics in one picture, which needs matplotlib.

        Parameters
        ----------
        **options : object
            As for `sklearn_san.plotting.CalibrationDisplay.from_report`.

        Returns
        -------
        CalibrationDisplay
        """
        from ..plotting import CalibrationDisplay  # above this in the order of imports

        return CalibrationDisplay.from_report(self, **options)

    def summary(self) -> str:
        """Table of the diagnostics, how far off the model is, and the summary of each."""
        adjusted = holm(np.array(list(self.pvalues.values())))
        rows = [[*item, p] for item, p in zip(self.pvalues.items(), adjusted, strict=True)]
        title = f"Calibration on {self.n_rows} rows, {self.n_draws} draws each"
        parts = [
            title + "\n" + table(["diagnostic", "p", "p (Holm)"], rows),
            f"Calibration is {self._decision()} at the 5 % level.",
        ]
        if self.effects:
            lines = [f"- {effect.sentence()}" for effect in self.effects]
            if self.rosenblatt is not None:
                lines += self.rosenblatt.strongest_dependence()
            parts.append("\n".join(["How far off it is:", *lines]))
        return "\n\n".join(parts + [result.summary() for result in self.results.values()])


@own_state()
def calibration_report(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    n_draws: int = 1000,
    diagnostics: Iterable[str | Callable[..., Any]] = DIAGNOSTICS,
    references: Any = "uniform",
    n_references: int = 10,
    by: Any = None,
    random_state: Any = None,
) -> CalibrationReport:
    """Run the diagnostics on rows that the estimator was not trained on.

    Draws are made, used and dropped for some rows at a time. Labels are compared by their order.

    Parameters
    ----------
    estimator : object
        Fitted, with ``predict_density(X)``; or a Pipeline or search that ends in such a one.
    X : array-like of shape (n_rows, n_features)
        Features.
    y : array-like of shape (n_rows,) or (n_rows, n_outputs)
        True values.
    n_draws : int, default=1000
        Draws of each row. Log densities, which cost more than draws, are taken of the first 200.
    diagnostics : sequence of str or callable, default=DIAGNOSTICS
        Which to run: names in `DIAGNOSTICS`, by default all of them, or functions of one's own,
        ``diagnostic(held_out, random)``, of a `HeldOut` and a `RandomState`, whose results have a
        `pvalue` and a method `summary`. The results of each do not depend on the others.
    references, n_references : object, int, default="uniform", 10
        As for `tarp_coverage_from_draws`.
    by : object, default=None
        As for `local_calibration`.
    random_state : int, RandomState or None, default=None
        Source of all randomness.

    Returns
    -------
    CalibrationReport

    Examples
    --------
    >>> from sklearn_san import SANConditionalDensityEstimator
    >>> from sklearn_san.calibration import calibration_report
    >>> from sklearn_san.datasets import make_bimodal
    >>> X, y, _ = make_bimodal(700, random_state=0)
    >>> est = SANConditionalDensityEstimator(K=3, epochs=10, random_state=0).fit(X[:500], y[:500])
    >>> report = calibration_report(est, X[500:], y[500:], n_draws=100, random_state=0)
    >>> sorted(report.pvalues)
    ['hpd', 'local', 'ranks', 'rosenblatt', 'tarp']
    >>> print(report.summary().splitlines()[0])
    Calibration on 200 rows, 100 draws each

    A diagnostic of one's own, of the mean of the coordinates:

    >>> from types import SimpleNamespace
    >>> from scipy.stats import ttest_1samp
    >>> def mean(held_out, random):
    ...     pvalue = ttest_1samp(held_out.u.ravel(), 0.5).pvalue
    ...     return SimpleNamespace(pvalue=pvalue, summary=lambda: f"Mean of u: p = {pvalue:.2g}")
    >>> report = calibration_report(est, X, y, diagnostics=["hpd", mean], n_draws=100)
    >>> list(report.pvalues)
    ['hpd', 'mean']
    """
    check_integer("n_draws", n_draws, 2)
    chosen = _chosen(diagnostics)
    check_consistent_length(np.empty(n_rows_of(X)) if is_parts(X) else X, y)
    if not len(y):
        raise ValueError("y has no rows, on which there is nothing to test.")
    seed = int(random_stream(random_state).randint(2**31 - 1))
    density = density_of(estimator, X)
    held_out = HeldOut(density, X, y, n_draws, seed, references, n_references, by)
    if "local" in chosen:
        numeric_features(X)  # raises for what it cannot read, before anything is computed
    streams = {name: held_out.random(f"diagnostic {name}") for name in chosen}
    kept = _kept_of_draws(held_out, chosen, streams)
    results = {}
    for name, diagnostic in chosen.items():
        if isinstance(diagnostic, DrawsDiagnostic):
            results[name] = diagnostic.test(held_out, streams[name], kept[name])
        else:
            results[name] = diagnostic(held_out, streams[name])
        _check_result(name, results[name])
    return CalibrationReport(results, n_rows=len(density), n_draws=n_draws)


def _chosen(
    diagnostics: Iterable[str | Callable[..., Any]],
) -> dict[str, Diagnostic]:
    """Diagnostics by name."""
    if isinstance(diagnostics, str):
        raise TypeError(
            f"diagnostics must be a sequence of names or callables, got {diagnostics!r}."
        )
    chosen: dict[str, Diagnostic] = {}
    diagnostic: Diagnostic
    for entry in diagnostics:
        if callable(entry):
            name, diagnostic = getattr(entry, "__name__", type(entry).__name__), entry
        else:
            check_choice("diagnostics", entry, tuple(DIAGNOSTICS))
            name, diagnostic = entry, DIAGNOSTICS[entry]
        if chosen.setdefault(name, diagnostic) is not diagnostic:
            raise ValueError(f"diagnostics has two of the name {name!r}; rename one of them.")
    if not chosen:
        raise ValueError(f"diagnostics is empty; name at least one of {', '.join(DIAGNOSTICS)}.")
    return chosen


def _kept_of_draws(
    held_out: HeldOut,
    chosen: Mapping[str, Diagnostic],
    streams: Mapping[str, np.random.RandomState],
) -> dict[str, np.ndarray]:
    """What each diagnostic keeps of the draws, which are made once for all of them."""
    readers = {name: d for name, d in chosen.items() if isinstance(d, DrawsDiagnostic)}
    parts: dict[str, list[np.ndarray]] = {name: [] for name in readers}
    for some in held_out.draws() if readers else ():
        for name, diagnostic in readers.items():
            parts[name].append(diagnostic.of_draws(held_out, some, streams[name]))
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _check_result(name: str, result: Any) -> None:
    pvalue = getattr(result, "pvalue", None)
    is_probability = isinstance(pvalue, Real) and 0.0 <= float(pvalue) <= 1.0
    if not (is_probability and callable(getattr(result, "summary", None))):
        raise TypeError(
            f"diagnostic {name!r} returned {result!r}; results need a pvalue between 0 and 1 and a "
            "method summary."
        )
