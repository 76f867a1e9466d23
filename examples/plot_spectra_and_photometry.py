"""
Spectra where there are some, photometry for all
================================================

Galaxies of a survey have magnitudes, and some a spectrum as well. You see one network that takes
both: the spectrum goes through an encoder that is trained with the network, and may be missing.
"""

# %%
# Fit to spectra and magnitudes together
# --------------------------------------
# X is a dict of parts: spectra of 96 pixels, and magnitudes as plain columns. In each epoch
# training hides the spectra of a quarter of the galaxies, others each time (``missing_rate``).

import numpy as np

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.calibration import rosenblatt_test
from sklearn_san.datasets import GALAXY_LIMITS, GALAXY_PARAMETERS, make_galaxy_spectra
from sklearn_san.encoders import SpectrumEncoder
from sklearn_san.plotting import MarginalDisplay

names = ["redshift", "log_mass", "dust2"]
columns = [GALAXY_PARAMETERS.index(name) for name in names]
X, y = make_galaxy_spectra(18_000, random_state=0)
y = y[:, columns]


def rows(parts, which):
    """Some rows of every part."""
    return {name: values[which] for name, values in parts.items()}


complete, y_test = rows(X, slice(16_000, None)), y[16_000:]
san = SANConditionalDensityEstimator(
    encoder={"spectrum": SpectrumEncoder(n_features=8, channels=(8, 16, 32))},
    share_encoder=True,
    missing_rate={"spectrum": 0.25},
    limits=GALAXY_LIMITS[columns],
    output_names=names,
    n_members=2,
    epochs=40,
    random_state=0,
).fit(rows(X, slice(0, 16_000)), y[:16_000])
print(san.describe())

# %%
# One galaxy
# ----------
# Of 300 test galaxies the one whose redshift its spectrum narrows most. A part is missing in a row
# that is nan throughout, and in all rows if it is left out of the dict.

some = rows(complete, slice(300))
with_spectrum = san.predict(some, output_type="std")[:, 0]
without = san.predict({"photometry": some["photometry"]}, output_type="std")[:, 0]
row = int(np.argmax(without / with_spectrum))
both = rows(complete, [row, row])
both["spectrum"][1] = np.nan
MarginalDisplay.from_estimator(
    san,
    both,
    y_test[[row, row]],
    row_names=["spectrum and photometry", "photometry alone"],
    output_names=["redshift", "log mass", "dust"],
)

# %%
# All test galaxies
# -----------------
# Every other test galaxy loses its spectrum. Posteriors are narrower where there is one, and the
# joint test of calibration says whether they are as wide as the errors in either group.

gone = np.arange(len(y_test)) % 2 == 1
known = {"spectrum": complete["spectrum"].copy(), "photometry": complete["photometry"]}
known["spectrum"][gone] = np.nan
for group, which in [("spectrum and photometry", ~gone), ("photometry alone", gone)]:
    part = rows(known, which)
    density = san.predict_density(part)
    widths = np.median(density.std(), axis=0)
    print(f"{group}: {san.score(part, y_test[which]):.2f} nats per galaxy")
    print("  standard deviations:", dict(zip(names, widths.round(3).tolist(), strict=True)))
    print(f"  joint test: p = {rosenblatt_test(density.cdf(y_test[which])).pvalue:.2g}")
