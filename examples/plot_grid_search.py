"""
Tune K and the network inside a pipeline
========================================

`score` is the mean log-likelihood, so `GridSearchCV` needs no scorer of its own. You see how to
search over the number of mixture components and the shape of the network, and how to draw from the
winner.
"""

# %%
# The data: two outputs on one of two branches, whose exact density is known.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import PolynomialFeatures

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.datasets import make_bimodal

X, y, log_density = make_bimodal(2000, random_state=0)
X_test, y_test, _ = make_bimodal(2000, random_state=1)

# %%
# Search.

pipeline = Pipeline(
    [
        ("features", PolynomialFeatures(2, include_bias=False)),
        ("density", SANConditionalDensityEstimator(epochs=20, random_state=0)),
    ]
)
grid = {"density__K": [1, 4], "density__module_shape": [(16,), (32, 32)]}
search = GridSearchCV(pipeline, grid, cv=3, n_jobs=2).fit(X, y)

for parameters, score in zip(
    search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
):
    print(f"{score:7.3f}  {parameters}")
print(f"best: {search.best_params_}")
print(f"test log-likelihood {search.score(X_test, y_test):.3f} nats per row, ", end="")
print(f"exact {log_density(X_test, y_test).mean():.3f}")

# %%
# Draw from the winner. A pipeline forwards keyword arguments of `predict`.

best = search.best_estimator_
draws = best.predict(X_test[:3], output_type="samples", n_samples=1000, random_state=0)
print(draws.shape)
print(np.round(draws.mean(axis=1), 2))
print(np.round(best.predict(X_test[:3]), 2))

# %%
# A thousand draws for one row, next to the test rows with a similar x.

near = np.abs(X_test[:, 0] - X_test[0, 0]) < 0.05
figure, axes = plt.subplots(figsize=(4.5, 4.0), layout="constrained")
axes.plot(*draws[0].T, ".", markersize=2, label="draws")
axes.plot(*y_test[near].T, "o", color="tab:orange", markersize=4, label="test rows nearby")
axes.set(xlabel="first output", ylabel="second output", title=f"x = {X_test[0, 0]:.2f}")
axes.legend()
