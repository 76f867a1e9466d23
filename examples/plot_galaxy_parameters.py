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
# draw leaves them.

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator
from scipy.stats import norm
from sklearn.linear_model import LinearRegression

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.datasets import GALAXY_LIMITS, GALAXY_PARAMETERS, make_galaxies

LABELS = [
    "redshift",
    r"log mass [M$_\odot$]",
    r"dust $\tau_{5500}$",
    "age [Gyr]",
    r"log $\tau$ [Gyr]",
    r"log AGN mass",
    r"AGN E(B$-$V)",
    r"log torus mass",
    "inclination [deg]",
]
COLOUR, TRUTH = "#0072b2", "#d55e00"  # safe for colour-blind readers

X, y = make_galaxies(24_000, random_state=0)
X_train, y_train, X_test, y_test = X[:20_000], y[:20_000], X[20_000:], y[20_000:]

start = time.perf_counter()
san = SANConditionalDensityEstimator(limits=GALAXY_LIMITS, random_state=0)
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
    limits=GALAXY_LIMITS, teacher_forcing=False, n_members=1, epochs=15, random_state=0
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
folder.mkdir(exist_ok=True)

figure, axes = plt.subplots(3, 3, figsize=(9, 9), layout="constrained")
for d, axis in enumerate(axes.flat):
    low, high = GALAXY_LIMITS[d]
    truth = np.repeat(y_test[:, d], draws.shape[1])
    axis.hist2d(
        truth, draws[..., d].ravel(), bins=60, range=[(low, high)] * 2, cmap="Blues", norm="log"
    )
    axis.plot([low, high], [low, high], color=TRUTH, lw=1)
    axis.set(title=LABELS[d], xlabel="true", ylabel="posterior draws")
figure.savefig(folder / "truth_and_posterior.png", dpi=120)

# %%
# One galaxy, and one with two redshifts
# --------------------------------------
# The second is the test galaxy whose redshift posterior has the deepest valley between two
# modes of at least 20 % each.


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


def corner(row, name, n_draws=5000):
    """Posterior of one test galaxy: all pairs of parameters, truth and limits."""
    one = san.sample(X_test[row : row + 1], n_draws, random_state=1)[0]  # (n_draws, 9)
    figure, axes = plt.subplots(9, 9, figsize=(13, 13))
    figure.subplots_adjust(0.06, 0.06, 0.99, 0.99, wspace=0.06, hspace=0.06)
    for i, j in np.ndindex(9, 9):
        axis = axes[i, j]
        if j > i:
            axis.set_visible(False)
            continue
        # Zoom into the posterior, but never beyond the limits of the prior
        (x_low, x_high), (y_low, y_high) = (view(one[:, d], d) for d in (j, i))
        if i == j:
            axis.hist(one[:, i], bins=40, range=(x_low, x_high), color=COLOUR, alpha=0.7)
            axis.set_yticks([])
        else:
            axis.hist2d(
                one[:, j], one[:, i], bins=40, range=[(x_low, x_high), (y_low, y_high)],
                cmap="Blues",
            )  # fmt: skip
            axis.axhline(y_test[row, i], color=TRUTH, lw=1)
            axis.set_ylim(y_low, y_high)
            for limit in GALAXY_LIMITS[i]:
                axis.axhline(limit, color="0.3", lw=1, ls=":")
        for limit in GALAXY_LIMITS[j]:
            axis.axvline(limit, color="0.3", lw=1, ls=":")
        axis.axvline(y_test[row, j], color=TRUTH, lw=1)
        axis.set_xlim(x_low, x_high)
        axis.tick_params(labelsize=7, labelrotation=45)
        axis.xaxis.set_major_locator(MaxNLocator(4, prune="both"))
        if i != j:
            axis.yaxis.set_major_locator(MaxNLocator(4, prune="both"))
        if i < 8:
            axis.set_xticklabels([])
        else:
            axis.set_xlabel(LABELS[j], fontsize=9)
        if j > 0 or i == 0:
            axis.set_yticklabels([])
        else:
            axis.set_ylabel(LABELS[i], fontsize=9)
    figure.align_labels()
    figure.text(
        0.55, 0.85, "blue: posterior draws\norange: true value\ndotted: limits of the prior",
        fontsize=14,
    )  # fmt: skip
    figure.savefig(folder / f"{name}.png", dpi=90)


def view(values, d):
    """Range of parameter `d` to show."""
    low, high = GALAXY_LIMITS[d]
    first, last = np.percentile(values, [0.1, 99.9])
    margin = 0.15 * (last - first)
    edge = 0.01 * (high - low)
    return max(first - margin, low - edge), min(last + margin, high + edge)


# %%
bright = int(np.argsort(X_test[:, 3])[len(X_test) // 10])  # brighter in i than nine of ten
corner(bright, "corner")

# %%
depth = np.array([two_mode_depth(z) for z in draws[..., 0]])
print(f"{(depth > 0.5).mean():.0%} of the galaxies have at least two separate redshift modes")
corner(int(depth.argmax()), "corner_two_redshifts")

# %%
# Calibration
# -----------
# The probability integral transform (PIT): the share of draws below the true value. Where the
# posterior is honest, it is uniform; the grey band holds 99 % of the bars then.

figure, axes = plt.subplots(3, 3, figsize=(9, 7), layout="constrained", sharex=True, sharey=True)
n_bins, n_rows = 20, len(y_test)
band = norm.ppf(0.995) * np.sqrt(n_bins / n_rows)
pit = (draws < y_test[:, None]).mean(1) + 0.5 / draws.shape[1]
for d, axis in enumerate(axes.flat):
    axis.axhspan(1 - band, 1 + band, color="0.85")
    axis.hist(pit[:, d], bins=n_bins, range=(0, 1), density=True, histtype="step", color=COLOUR)
    axis.axhline(1.0, color="0.4", lw=0.8)
    axis.set(title=LABELS[d], ylim=(0, 2))
for axis in axes[-1]:
    axis.set_xlabel("PIT")
figure.savefig(folder / "pit.png", dpi=120)
print(f"pictures: {folder}/*.png for {', '.join(GALAXY_PARAMETERS)}")
