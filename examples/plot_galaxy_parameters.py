"""
Nine galaxy parameters from eight bands of photometry
=====================================================

The joint posterior of redshift, mass, dust, age and an active nucleus, for galaxies of a physical
simulator. You see how well it is calibrated, what one galaxy's posterior looks like, and what
happens to a galaxy whose colours allow two redshifts.
"""

# %%
# Simulate and fit
# ----------------
# 20,000 galaxies to learn from, 4,000 to test on. The limits of the prior are given, so that no
# draw leaves them. With ``--quick`` there are 4,000 and 1,000, one network learns for ten epochs,
# and pictures say so.

import sys
import time
from pathlib import Path

import numpy as np
from scipy.stats import norm
from sklearn.linear_model import LinearRegression

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.datasets import GALAXY_LIMITS, GALAXY_PARAMETERS, make_galaxies
from sklearn_san.plotting import CornerDisplay, PITDisplay, RecoveryDisplay

LABELS = [
    "redshift",
    "log mass",
    r"dust $\tau_{5500}$",
    "age",
    r"log $\tau$",
    "log AGN mass",
    r"AGN E(B$-$V)",
    "log torus mass",
    "inclination",
]
UNITS = {
    "log mass": r"M$_\odot$",
    "age": "Gyr",
    r"log $\tau$": "Gyr",
    "log AGN mass": r"$10^7$ M$_\odot$",
    r"AGN E(B$-$V)": "mag",
    "log torus mass": r"M$_\odot$",
    "inclination": "deg",
}

quick = "--quick" in sys.argv
n_train, n_test = (4_000, 1_000) if quick else (20_000, 4_000)
print(f"{n_train:,} galaxies to learn from; on two free cores this takes ", end="")
print("under a minute" if quick else "some minutes", end="")
print(", and a minute more where kernels are compiled for the first time", flush=True)

X, y = make_galaxies(n_train + n_test, random_state=0)
X_train, y_train, X_test, y_test = X[:n_train], y[:n_train], X[n_train:], y[n_train:]

start = time.perf_counter()
less = {"n_members": 1, "epochs": 10} if quick else {}
san = SANConditionalDensityEstimator(limits=GALAXY_LIMITS, random_state=0, **less)
san.fit(X_train, y_train)
fit_time = time.perf_counter() - start

# %%
# Two baselines
# -------------
# A linear-Gaussian model, and the training of the first SAN, which feeds each block the network's
# own draws instead of the true values: it does not learn how the parameters depend on each other.

line = LinearRegression().fit(X_train, y_train)
covariance = np.cov((y_train - line.predict(X_train)).T)
whitened = np.linalg.solve(np.linalg.cholesky(covariance), (y_test - line.predict(X_test)).T)
linear_nll = -norm.logpdf(whitened).sum(0).mean() + 0.5 * np.linalg.slogdet(covariance)[1]

free_running = SANConditionalDensityEstimator(
    limits=GALAXY_LIMITS,
    teacher_forcing=False,
    n_members=1,
    epochs=3 if quick else 15,
    random_state=0,
)
free_running.fit(X_train, y_train)

print(f"fitted {len(X_train):,} galaxies in {fit_time:.0f} s, {san.n_iter_} epochs")
print("test NLL in nats per galaxy, smaller is better:")
print(f"  linear-Gaussian          {linear_nll:8.3f}")
print(f"  SAN, free-running        {-free_running.score(X_test, y_test):8.3f}")
print(f"  SAN                      {-san.score(X_test, y_test):8.3f}")

# %%
# Draw from the posteriors
# ------------------------

start = time.perf_counter()
draws = san.sample(X_test, 100, random_state=0)  # (n_galaxies, n_draws, 9)
sample_time = time.perf_counter() - start
outside = (draws < GALAXY_LIMITS[:, 0]) | (draws > GALAXY_LIMITS[:, 1])
print(f"{draws.shape[0] * draws.shape[1]:,} joint draws in {sample_time:.1f} s, ", end="")
print(f"{outside.any(-1).sum()} outside the limits")

# %%
# Posterior against truth
# -----------------------
# Each panel is a histogram of all draws of all test galaxies against their true values.

folder = Path(globals().get("__file__", "example.py")).parent / "output"
folder = folder / "quick" if quick else folder
folder.mkdir(parents=True, exist_ok=True)


def save(display, name, dpi):
    """Write the picture of a display, with a mark if it is that of the quick form."""
    box = None
    if quick:
        box = "tight"  # which holds the mark above the figure
        text = f"quick form: {n_train:,} galaxies, 10 epochs"
        display.figure_.text(0.99, 1.01, text, color="tab:red", ha="right", va="bottom")
    display.figure_.savefig(folder / f"{name}.png", dpi=dpi, bbox_inches=box)


names = {"output_names": LABELS, "units": UNITS}

recovery = RecoveryDisplay.from_predictions(y_test, draws, limits=GALAXY_LIMITS, **names)
save(recovery, "truth_and_posterior", dpi=120)

# %%
# One galaxy
# ----------
# A galaxy that is brighter in i than nine of ten. Contours hold 68 % and 95 % of the draws; panels
# show where the draws are, and what lies outside the limits of the prior is grey.


def corner(row, name):
    """Posterior of one test galaxy, with its true parameters."""
    display = CornerDisplay.from_estimator(
        san, X_test[row : row + 1], y_test[row : row + 1], n_draws=100_000, random_state=1, **names
    )
    save(display, name, dpi=90)


bright = int(np.argsort(X_test[:, 3])[len(X_test) // 10])
corner(bright, "corner")

# %%
# A galaxy with two redshifts
# ---------------------------
# The test galaxy whose redshift posterior has the deepest valley between two modes of at least
# 20 % each.


def two_mode_depth(z, bins=40):
    """Depth of the valley between the two main modes of draws `z`, from 0 to 1."""
    counts = np.histogram(z, bins=bins, range=tuple(GALAXY_LIMITS[0]))[0]
    smooth = np.convolve(counts, [0.25, 0.5, 0.25], mode="same")
    best = 0.0
    for cut in range(2, bins - 2):
        left, right = smooth[:cut], smooth[cut:]
        if min(left.sum(), right.sum()) > 0.2 * smooth.sum():
            best = max(best, 1.0 - smooth[cut] / min(left.max(), right.max()))
    return best


depth = np.array([two_mode_depth(z) for z in draws[..., 0]])
print(f"{(depth > 0.5).mean():.0%} of the galaxies have at least two separate redshift modes")
corner(int(depth.argmax()), "corner_two_redshifts")

# %%
# Calibration
# -----------
# The probability integral transform (PIT) of each parameter, given the colours and the parameters
# before it. Where the posterior is honest it is uniform; the grey band holds 99 % of the bars then.

pit = PITDisplay.from_estimator(san, X_test, y_test, output_names=LABELS)
save(pit, "pit", dpi=120)
print(f"pictures: {folder}/*.png for {', '.join(GALAXY_PARAMETERS)}")

# sphinx_gallery_thumbnail_number = 3
