"""
Why a density and not a number
==============================

The same x may belong to several y. You see a regression that predicts what never happens, the
density that knows better, and the draws, intervals and probabilities that come from it.
"""

# %%
# Two answers to one question
# ---------------------------
# A feature x and an output y on one of two branches. The mean of y given x lies between them, where
# there is no y at all.

import matplotlib.pyplot as plt
import numpy as np

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.datasets import make_bimodal

X, y, _ = make_bimodal(2000, random_state=0)
x, y = X[:, 0], y[:, 0]

san = SANConditionalDensityEstimator(n_members=2, epochs=30, random_state=0).fit(X, y)

lines = np.linspace(-1.0, 1.0, 101)
values = np.linspace(y.min() - 0.5, y.max() + 0.5, 301)
density = san.predict_density(lines[:, None])
grid = density.pdf_grid(0, values)  # (101, 301), per unit of y

figure, (left, right) = plt.subplots(
    1, 2, figsize=(8.0, 3.4), width_ratios=(2, 1), sharey=True, layout="constrained"
)
left.pcolormesh(lines, values, grid.T, cmap="Blues", rasterized=True)
left.plot(x[:300], y[:300], ".", color="black", markersize=2, label="data")
left.plot(
    lines, density.mean(), color="tab:orange", linewidth=2, label="mean, what regression gives"
)
left.axvline(0.1, color="black", linestyle=":")
left.set(xlabel="x", ylabel="y", title="p(y | x) for all x")
left.legend(loc="upper left", fontsize="small")
right.fill_betweenx(values, san.predict_density([[0.1]]).pdf_grid(0, values)[0], alpha=0.5)
right.axhline(san.predict([[0.1]])[0], color="tab:orange", linewidth=2)
right.set(xlabel="density per unit of y", title="p(y | x = 0.1)", xlim=(0.0, None))

# %%
# What can be asked
# -----------------
# Where does y lie, how probable is it to be above 1, and how well are new rows predicted, in nats?

one = san.predict_density([[0.1]])
draws = one.sample(10_000, random_state=0)[0]
print("mean:", one.mean().round(2)[0])
print("middle 90 %:", one.interval(0.9).round(2)[0])
print(f"probability of y > 1: {np.mean(draws > 1.0):.2f}")

X_new, y_new, _ = make_bimodal(2000, random_state=1)
print(f"log-likelihood of new rows: {san.score(X_new, y_new[:, 0]):.2f}")
