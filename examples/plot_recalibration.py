"""
Mend a model that is too sure of itself
=======================================

A network that was trained for too long on too few rows gives densities that are too narrow. You see
how rows that were set aside show that, how `CalibratedDensity` mends it, and what a conformal
interval guarantees.
"""

# %%
# An over-confident model
# -----------------------
# 400 rows, no early stopping, no weight decay. Another 400 rows are kept for calibration, and
# 5,000 to see how it went.

import numpy as np
from sklearn.frozen import FrozenEstimator

from sklearn_san import CalibratedDensity, SANConditionalDensityEstimator
from sklearn_san.calibration import calibration_report, rosenblatt_test
from sklearn_san.datasets import make_heteroscedastic_gaussian
from sklearn_san.plotting import CoverageDisplay, PITDisplay

X, y, log_density = make_heteroscedastic_gaussian(5800, random_state=0)
train, held_out, test = slice(0, 400), slice(400, 800), slice(800, None)

sure = SANConditionalDensityEstimator(
    n_members=1, epochs=60, early_stopping=False, weight_decay=0.0, random_state=0
).fit(X[train], y[train])
PITDisplay.from_estimator(sure, X[test], y[test])
print(rosenblatt_test(sure.predict_density(X[test]).cdf(y[test])))

# %%
# Recalibrate it
# --------------
# The model is fitted already and stays as it is (``FrozenEstimator``). The rows that it has not
# seen tell how its Rosenblatt coordinates are distributed, and their distribution corrects the
# density. The result is a normalised density again, with all the methods of the first one.

calibrated = CalibratedDensity(FrozenEstimator(sure)).fit(X[held_out], y[held_out])
PITDisplay.from_estimator(calibrated, X[test], y[test])
for name, model in {"over-confident": sure, "recalibrated": calibrated}.items():
    print(f"{name:16} mean log-likelihood {model.score(X[test], y[test]):7.3f} nats per row")
print(f"{'exact':16} mean log-likelihood {log_density(X[test], y[test]).mean():7.3f}")

# %%
# Without a model at hand, ``CalibratedDensity(est, cv=5)`` fits and calibrates in one go: each row
# gets its coordinates from a fit without it, and the estimator is fitted once more on all rows.

# %%
# Conformal sets
# --------------
# Recalibration is right on average over x and as good as its own little model. A conformal
# interval asks for less and gets a guarantee: widened until it holds the wanted share of the rows
# that were set aside, it holds a new row with at least that probability, whatever the faults of
# the model. `contains` is the same for all outputs at once.


density = calibrated.predict_density(X[test])


def inside(interval):
    """Share of the test rows inside, for each output."""
    return ((interval[:, 0] <= y[test]) & (y[test] <= interval[:, 1])).mean(axis=0)


def show(name, shares):
    """Print one line of the table."""
    print(f"{name:28}" + "".join(f"{share:8.1%}" for share in np.atleast_1d(shares)))


for level in (0.5, 0.9):
    print(f"{f'level {level:.0%}':28}" + "".join(f"{name:>8}" for name in density.output_names))
    show("over-confident", inside(sure.predict_density(X[test]).interval(level)))
    show("recalibrated", inside(density.interval(level)))
    show("conformal", inside(density.interval(level, method="conformal")))
    show("conformal, joint region", density.contains(y[test], level).mean())

# %%
# Coverage at every level
# -----------------------
# Of the densest regions of all outputs together. Below the diagonal, regions are too small.

levels = {}
for name, model in {"over-confident": sure, "recalibrated": calibrated}.items():
    report = calibration_report(
        model, X[test], y[test], n_draws=100, diagnostics=["hpd"], random_state=0
    )
    levels[name] = report.hpd.values
CoverageDisplay.from_predictions(levels)

# %%
# The probability is one over the choice of the held-out rows as well: with 400 of them, the
# coverage of one conformal interval at 90 % scatters around 90 % with a standard deviation of
# 1.5 %. And it is an average over x. Whether a model is right for each x is what
# `local_calibration` tests.
