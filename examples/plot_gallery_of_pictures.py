"""
A picture for every question
============================

The nine displays of `sklearn_san.plotting`, on galaxies: what one posterior looks like, how many
posteriors compare with the truth, whether they are calibrated, and how the training went.
"""

# %%
# A quick fit: one network and 4,000 galaxies, of which five parameters are learnt. The fewer rows
# and epochs, the more there is to see in the pictures of calibration.

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.datasets import GALAXY_LIMITS, GALAXY_PARAMETERS, make_galaxies
from sklearn_san.plotting import (
    ChainDisplay,
    CornerDisplay,
    CoverageDisplay,
    MarginalDisplay,
    PITDisplay,
    RankDisplay,
    RecoveryDisplay,
    TrainingDisplay,
)

OUTPUTS = {
    "redshift": ("redshift", ""),
    "log_mass": ("log mass", "dex"),
    "dust2": ("dust", ""),
    "tage": ("age", "Gyr"),
    "inclination": ("inclination", "deg"),
}
columns = [GALAXY_PARAMETERS.index(name) for name in OUTPUTS]
labels = [label for label, _ in OUTPUTS.values()]
units = {label: unit for label, unit in OUTPUTS.values() if unit}

X, y = make_galaxies(6000, random_state=0)
y = y[:, columns]
X_test, y_test = X[4000:], y[4000:]
san = SANConditionalDensityEstimator(
    limits=GALAXY_LIMITS[columns], n_members=1, epochs=40, random_state=0
).fit(X[:4000], y[:4000])

# %%
# How did the training go?
# ------------------------
# The weights of the epoch with the lowest validation loss are kept.

TrainingDisplay.from_estimator(san)

# %%
# What is the posterior of one galaxy?
# ------------------------------------
# All pairs of outputs: contours hold 68 % and 95 % of the draws. On the diagonal are the marginal
# densities of the network itself.

bright = X_test[:, 3].argsort()[[50, 400]]
shown = {"output_names": labels, "units": units}
CornerDisplay.from_estimator(san, X_test[bright[:1]], y_test[bright[:1]], random_state=0, **shown)

# %%
# Two galaxies in one picture.

CornerDisplay.from_estimator(
    san, X_test[bright], y_test[bright], outputs=[0, 1, 2], random_state=0,
    output_names=labels[:3], units={"log mass": units["log mass"]}, row_names=["bright", "fainter"],
)  # fmt: skip

# %%
# And each output on its own?
# ---------------------------
# Densities from the model itself, without draws, per unit of each output.

MarginalDisplay.from_estimator(
    san, X_test[bright], y_test[bright], row_names=["bright", "fainter"], **shown
)

# %%
# How does the network draw a galaxy?
# -----------------------------------
# One output after the other: each from its density given what was drawn before, which is often
# much narrower than its density given x alone (dashed).

ChainDisplay.from_estimator(san, X_test[bright[1:]], y_test[bright[1:]], random_state=0, **shown)

# %%
# How well are the parameters recovered?
# --------------------------------------
# Many galaxies: histograms of all draws in columns of the truth. The inclination is hardly
# constrained, and the posterior says so.

RecoveryDisplay.from_estimator(san, X_test, y_test, random_state=0, **shown)

# %%
# A few galaxies: medians and intervals.

RecoveryDisplay.from_estimator(san, X_test[:60], y_test[:60], random_state=0, **shown)

# %%
# Are the densities calibrated?
# -----------------------------
# The cdf of each output, given those before it, at the truth. Bars outside the band are orange.

PITDisplay.from_estimator(san, X_test, y_test, output_names=labels)

# %%
# The rank of the truth among draws looks at each output on its own. As a distribution function
# less the diagonal it needs no bins, and the band holds the whole curve.

RankDisplay.from_estimator(san, X_test, y_test, output_names=labels, random_state=0, kind="ecdf")

# %%
# Do regions of a given mass hold the truth as often as they should? Central intervals of each
# output, and the densest regions of all together.

CoverageDisplay.from_estimator(
    san, X_test, y_test, output_names=labels, random_state=0, kind="difference"
)

# sphinx_gallery_thumbnail_number = 2
