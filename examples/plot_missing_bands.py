"""
Posterior of a galaxy with and without some of its bands
========================================================

Surveys overlap in part, and galaxies lack bands. You see one network that gives the posterior for
whatever bands there are: wider where less is known, with intervals that hold what they say.
"""

# %%
# Fit with missing bands
# ----------------------
# The training hides half of the magnitudes of every other galaxy (``missing_rate``), so that it
# meets sets of few bands often enough. From then on every band may be missing.

import numpy as np

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.calibration import rosenblatt_test
from sklearn_san.datasets import GALAXY_BANDS, GALAXY_LIMITS, GALAXY_PARAMETERS, make_galaxies
from sklearn_san.plotting import CoverageDisplay, MarginalDisplay

X, y = make_galaxies(17_000, random_state=0)
columns = [GALAXY_PARAMETERS.index(name) for name in ("redshift", "log_mass", "dust2")]
y, limits = y[:, columns], GALAXY_LIMITS[columns]
X_test, y_test = X[16_000:], y[16_000:]

san = SANConditionalDensityEstimator(
    limits=limits, missing_rate=0.5, n_members=2, epochs=30, random_state=0
).fit(X[:16_000], y[:16_000])
print("bands:", ", ".join(GALAXY_BANDS))

# %%
# One galaxy
# ----------
# The brightest test galaxy above redshift 1.5 and 10^11.8 solar masses, with all bands, without the
# near infrared, and with three bands left. A missing value is nan.

SETS = {
    "all bands": GALAXY_BANDS,
    "no Y, J, H": ("u", "g", "r", "i", "z"),
    "g, r, i only": ("g", "r", "i"),
}


def only(X, bands):
    """Magnitudes with nan for all other bands."""
    return np.where([band in bands for band in GALAXY_BANDS], X, np.nan)


far = (y_test[:, 0] > 1.5) & (y_test[:, 1] > 11.8)
row = int(np.argmin(np.where(far, X_test[:, 3], np.inf)))
galaxy = np.concatenate([only(X_test[row : row + 1], bands) for bands in SETS.values()])
truth = np.repeat(y_test[row : row + 1], len(SETS), axis=0)
MarginalDisplay.from_estimator(
    san, galaxy, truth, row_names=list(SETS), output_names=["redshift", "log mass", "dust"]
)

# %%
# All test galaxies
# -----------------
# Fewer bands make intervals wider and the likelihood lower. Their coverage stays what it says.

print(f"{'':14}log-likelihood   width of 90 % in redshift   truth inside   p Rosenblatt")
levels = {}
for name, bands in SETS.items():
    density = san.predict_density(only(X_test, bands))
    interval = density.interval(0.9)[..., 0]
    inside = (interval[:, 0] <= y_test[:, 0]) & (y_test[:, 0] <= interval[:, 1])
    test = rosenblatt_test(density.cdf(y_test))
    levels[name] = np.abs(2.0 * test.u[:, 0] - 1.0)
    width = np.median(interval[:, 1] - interval[:, 0])
    score = density.log_prob(y_test).mean()
    print(f"{name:14}{score:14.3f}{width:28.2f}{inside.mean():15.1%}{test.pvalue:15.2g}")

# %%
# Coverage of the central intervals of the redshift.

CoverageDisplay.from_predictions(levels)

# %%
# The mean of the bands
# ---------------------
# A common remedy is to fill in the mean. To the network that is a measurement: the posterior is
# as narrow as with all bands, and often wrong.

complete = SANConditionalDensityEstimator(limits=limits, n_members=2, epochs=30, random_state=0)
complete.fit(X[:16_000], y[:16_000])
filled = only(X_test, SETS["no Y, J, H"])
filled = np.where(np.isnan(filled), X[:16_000].mean(axis=0), filled)
density = complete.predict_density(filled)
interval = density.interval(0.9)[..., 0]
inside = (interval[:, 0] <= y_test[:, 0]) & (y_test[:, 0] <= interval[:, 1])
print(f"filled in with the mean: log-likelihood {density.log_prob(y_test).mean():.3f}, ", end="")
print(f"{inside.mean():.1%} of the 90 % intervals hold the redshift")
