"""
Right one by one, wrong together
================================

A density can pass every test of its single outputs and still be wrong, because it does not know how
the outputs depend on each other. You see a model that does, and the joint test that catches it.
"""

# %%
# Two trainings of one network
# ----------------------------
# Three outputs whose means, widths and correlations change with two features. The network is
# trained on the true earlier outputs, which is the default, and on its own draws of them
# (``teacher_forcing=False``), as the first published SAN was.

import matplotlib.pyplot as plt
import numpy as np

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.calibration import calibration_report
from sklearn_san.datasets import make_heteroscedastic_gaussian
from sklearn_san.plotting import RankDisplay

X, y, log_density = make_heteroscedastic_gaussian(12_000, random_state=0)
X_train, y_train, X_test, y_test = X[:10_000], y[:10_000], X[10_000:], y[10_000:]

shared = {"n_members": 1, "random_state": 0}
forced = SANConditionalDensityEstimator(epochs=40, **shared).fit(X_train, y_train)
free = SANConditionalDensityEstimator(epochs=15, teacher_forcing=False, **shared)
free.fit(X_train, y_train)
models = {"trained on true outputs": forced, "trained on own draws": free}

# %%
# One output at a time
# --------------------
# The rank of the truth among draws (simulation-based calibration) looks at each output on its
# own. Both models pass: the bars stay within the grey band, which holds 99 % of the bars of a
# calibrated model.

figure, axes = plt.subplots(2, 3, figsize=(8, 4.6), layout="constrained")
for (name, model), row in zip(models.items(), axes, strict=True):
    RankDisplay.from_estimator(model, X_test, y_test, random_state=0, ax=row)
    row[0].set_ylabel(f"{name}\nrelative frequency", fontsize=9)
for axis in axes.flat:
    axis.label_outer()

# %%
# All outputs together
# --------------------
# The Rosenblatt transform takes output j to ``u_j = P(Y_j <= y_j | x, outputs before j)``. Of the
# true density these coordinates are uniform and independent of each other. Those of the second
# model are uniform, too, but the first and the third go together.

reports = {
    name: calibration_report(model, X_test, y_test, n_draws=200, random_state=0)
    for name, model in models.items()
}
for name, report in reports.items():
    print(f"{name}: mean log-likelihood {models[name].score(X_test, y_test):.3f} nats")
    print(report.rosenblatt, end="\n\n")
print(f"exact mean log-likelihood {log_density(X_test, y_test).mean():.3f} nats")

# %%
figure, axes = plt.subplots(1, 2, figsize=(7, 3.7), layout="constrained", sharey=True)
for (name, report), axis in zip(reports.items(), axes, strict=True):
    u = report.rosenblatt.u
    axis.plot(u[:, 0], u[:, 2], ".", ms=2.5, alpha=0.6, color="#0072b2")
    axis.set(title=name, xlabel="$u$ of output y0", aspect="equal", xlim=(0, 1), ylim=(0, 1))
axes[0].set_ylabel("$u$ of output y2")

# %%
# What that means for draws
# -------------------------
# Draws of the three outputs for one row of features, and the exact correlation of y0 and y2 there.

point = np.array([[0.2, 0.5]])
for name, model in models.items():
    drawn = model.sample(point, 20_000, random_state=0)[0]
    print(f"{name:24} correlation of y0 and y2 {np.corrcoef(drawn.T)[0, 2]:6.2f}")
factor = 0.3, -0.4 * 0.2, 0.1 + 0.05 * 0.5  # of y2, see `make_heteroscedastic_gaussian`
print(f"{'exact':24} correlation of y0 and y2 {factor[0] / np.linalg.norm(factor):6.2f}")

# %%
# All diagnostics
# ---------------
# P-values of each. "ranks" sees single outputs only; densest regions (HPD) and random balls
# (TARP) see the joint density, but less sharply than the Rosenblatt test.

print(f"{'':24}" + "".join(f"{name:>12}" for name in reports["trained on own draws"].pvalues))
for name, report in reports.items():
    print(f"{name:24}" + "".join(f"{p:12.2g}" for p in report.pvalues.values()))
