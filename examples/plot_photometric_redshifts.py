"""
Photometric redshifts of a catalogue
====================================

From magnitudes to what a survey publishes: p(z) on a grid, point estimates with odds, n(z) of two
tomographic bins. You see what a cut by risk buys, and why n(z) needs more than a mean of p(z) where
the training galaxies have other redshifts than the catalogue.
"""

# %%
# Fit
# ---
# The redshift is the first output; others could follow. The training galaxies are nearer than
# those of the catalogue, as those with spectra are: half of the distant ones were dropped.

import numpy as np

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.datasets import GALAXY_LIMITS, make_galaxies
from sklearn_san.photoz import (
    DistributionDisplay,
    RedshiftDisplay,
    RedshiftPDF,
    evaluate,
    hierarchical_nz,
    pit,
    quality_cut,
    stacked_nz,
    summarise,
    tomographic_bins,
)
from sklearn_san.plotting import PITDisplay

X, y = make_galaxies(9000, random_state=0)
z = y[:, 0]
random = np.random.default_rng(0)
has_spectrum = random.uniform(size=6000) < np.where(z[:6000] < 1.5, 1.0, 0.5)
X_train, z_train = X[:6000][has_spectrum], z[:6000][has_spectrum]
X_cat, z_cat = X[6000:], z[6000:]

san = SANConditionalDensityEstimator(
    limits=GALAXY_LIMITS[:1], n_members=2, epochs=20, random_state=0
).fit(X_train, z_train)

# %%
# p(z) and point estimates
# ------------------------
# One pass over the network for the whole catalogue; the best point has the least expected loss.

grid = np.linspace(*GALAXY_LIMITS[0], 301)
pz = RedshiftPDF.from_estimator(san, X_cat, grid)
table = summarise(pz)
print(evaluate(pz, z_cat))
RedshiftDisplay.from_predictions(table["z_best"], z_cat)

# %%
# The half of the catalogue with the least risk.

good = quality_cut(table["risk"], keep=0.5, greater_is_better=False)
RedshiftDisplay.from_predictions(table["z_best"][good], z_cat[good])

# %%
# Calibration
# -----------
# The histogram slopes, since the catalogue is not what the network was trained on.

PITDisplay.from_predictions(pit(pz, z_cat), output_names=["redshift"])

# %%
# n(z) of two bins
# ----------------
# The mean of p(z) leans towards the training galaxies. The hierarchical estimate divides the mean
# of their p(z) out; all it assumes is that galaxies of one redshift look alike in both samples.
# Dashed is the truth, bands are two bootstrap errors.

edges = np.linspace(0.0, 4.0, 17)
bins = tomographic_bins(table["z_best"], [0.0, 1.5, 4.0])
options = {"bins": bins, "n_bootstrap": 50, "random_state": 0}
stacked = stacked_nz(pz, edges, **options)
found = hierarchical_nz(pz, edges, RedshiftPDF.from_estimator(san, X_train, grid), **options)
true_means = [z_cat[bins == k].mean() for k in (0, 1)]
for name, one in {"stacked": stacked, "hierarchical": found}.items():
    shift = one.mean - true_means
    print(f"{name:13} mean redshift minus the truth: {shift.round(3)} +- {one.mean_std.round(3)}")

DistributionDisplay.from_distribution(stacked, z=z_cat, bins=bins, names=["near", "far"])

# %%
DistributionDisplay.from_distribution(found, z=z_cat, bins=bins, names=["near", "far"])
