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
# Redshift and mass of galaxies, learnt from 500 of them without early stopping. Another 500 are
# kept for calibration, and 1,500 to see how it went.

import numpy as np
from sklearn.frozen import FrozenEstimator

from sklearn_san import CalibratedDensity, SANConditionalDensityEstimator
from sklearn_san.calibration import rosenblatt_test
from sklearn_san.datasets import GALAXY_LIMITS, make_galaxies
from sklearn_san.plotting import CoverageDisplay, PITDisplay

X, y = make_galaxies(2500, random_state=0)
y = y[:, :2]
train, held_out, test = slice(0, 500), slice(500, 1000), slice(1000, None)
names = ["redshift", "log mass"]

sure = SANConditionalDensityEstimator(
    limits=GALAXY_LIMITS[:2], K=3, n_members=1, epochs=60, learning_rate=0.005,
    early_stopping=False, random_state=0,
).fit(X[train], y[train])  # fmt: skip
PITDisplay.from_estimator(sure, X[test], y[test], output_names=names)

# %%
# The bars at both ends stand out: the truth lies in the tails of the densities too often. Numbers
# say the same, above all the spread of u, which is 1 for a calibrated model.

u_sure = sure.predict_density(X[test]).cdf(y[test])
print(rosenblatt_test(u_sure, output_names=names))

# %%
# Recalibrate it
# --------------
# The model is fitted already and stays as it is (``FrozenEstimator``). The rows that it has not
# seen tell how its Rosenblatt coordinates u are distributed, and their distribution corrects the
# density, which stays normalised.

mended = CalibratedDensity(FrozenEstimator(sure)).fit(X[held_out], y[held_out])
PITDisplay.from_estimator(mended, X[test], y[test], output_names=names)
for name, model in {"over-confident": sure, "recalibrated": mended}.items():
    print(f"{name:15} test log-likelihood {model.score(X[test], y[test]):6.3f} nats per galaxy")

# %%
# How often central intervals hold the truth, for each output given those before it.

u_mended = mended.predict_density(X[test]).cdf(y[test])
CoverageDisplay.from_predictions(
    {
        f"{name}, {kind}": np.abs(2.0 * u[:, j] - 1.0)
        for j, name in enumerate(names)
        for kind, u in {"over-confident": u_sure, "recalibrated": u_mended}.items()
    },
    colors=["#d55e00", "#0072b2", "#e69f00", "#56b4e9"],
)

# %%
# Without a fitted model, ``CalibratedDensity(est)`` fits and calibrates in one go: each row gets
# its coordinates from a fit without it, and the estimator is fitted once more to all rows.

# %%
# Conformal sets
# --------------
# Recalibration is right on average over x, as far as its own little model of u is. A conformal
# interval asks for less and gets a guarantee: widened until it holds the wanted share of the rows
# that were set aside, it holds a new row with at least that probability, whatever the faults of
# the model. ``contains`` is the same for both outputs at once.

own, density = sure.predict_density(X[test]), mended.predict_density(X[test])
print(f"{'share of truths inside':24}{names[0]:>10}{names[1]:>10}{'both':>8}")
for level in (0.5, 0.9):
    for name, interval in {
        "own intervals": own.interval(level),
        "conformal": density.interval(level, method="conformal"),
    }.items():
        inside = (interval[:, 0] <= y[test]) & (y[test] <= interval[:, 1])
        line = f"{f'{level:.0%}, {name}':24}" + "".join(f"{v:10.1%}" for v in inside.mean(axis=0))
        if name == "conformal":
            line += f"{density.contains(y[test], level).mean():8.1%}"
        print(line)

# %%
# The probability is one over the choice of the held-out rows as well: with 500 of them, the
# coverage of one conformal interval at 90 % scatters around 90 % with a standard deviation of
# 1.3 %. And it is an average over x: whether a model is right for each x is what
# `local_calibration` tests.
