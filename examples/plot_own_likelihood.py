"""
A likelihood family of one's own
================================

Waiting times are positive and skewed. The package has no gamma distribution; you see how to write
one in thirty lines and use it like the families that come with it.
"""

# %%
# A family maps raw numbers to a density. It says how many raw numbers it needs, where training
# starts, and how to score, invert and draw. The network sees y scaled; `resolve` tells the origin.

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy import special, stats

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.likelihoods import Likelihood


class Gamma(Likelihood):
    """Gamma distribution above `start`, with shape and rate from exponentials."""

    n_params = 2
    scaling = "affine"  # any linear scaler of y will do

    def __init__(self, start=0.0):
        self.start = start

    def resolve(self, *, K, unit, origin=0.0, n_classes=None):
        return Gamma((self.start - origin) / unit)

    def _law(self, raw):
        return torch.distributions.Gamma(*raw.clamp(-9, 9).exp().unbind(-1), validate_args=False)

    def log_prob(self, raw, y, support=None):
        return self._law(raw).log_prob((y - self.start).clamp_min(1e-6))

    def cdf(self, raw, y, support=None):
        return self._law(raw).cdf((y - self.start).clamp_min(1e-6))

    def icdf(self, raw, u, support=None):
        shape, rate = raw.clamp(-9, 9).exp().unbind(-1)
        quantile = special.gammaincinv(shape.numpy(), u.numpy())
        return self.start + torch.as_tensor(quantile, dtype=raw.dtype) / rate

    def sample(self, raw, noise, support=None):
        return self.icdf(raw, noise[..., 0])

    def mean(self, raw, support=None):
        return self.start + self._law(raw).mean

    def variance(self, raw, support=None):
        return self._law(raw).variance

    def guess_raw(self, y):
        mean, variance = np.mean(y) - self.start, np.var(y)
        return np.log([mean**2 / variance, mean / variance])


# %%
# Its shape and rate depend on x here, and are known.

random = np.random.default_rng(0)
x = random.uniform(-1.0, 1.0, size=4000)
law = stats.gamma(2.0 + x, scale=np.exp(0.5 * x))
X, y = x[:, None], law.rvs(random_state=1)

parameters = {"epochs": 30, "random_state": 0}
for likelihood in (Gamma(), "mog"):
    est = SANConditionalDensityEstimator(likelihood=likelihood, **parameters)
    est.fit(X[:3000], y[:3000])
    above = law.logpdf(y)[3000:].mean() - est.score(X[3000:], y[3000:])
    print(f"{likelihood!s:12} test NLL {above:.3f} nats above the exact one")

# %%
# Draws are positive, because the family is.

est = SANConditionalDensityEstimator(likelihood=Gamma(), **parameters).fit(X, y)
draws = est.sample(X[:1000], 100, random_state=0)
print(f"smallest of {draws.size:,} draws: {draws.min():.4f}")

# %%
# Its density at three values of x, and the exact one.

values = np.linspace(0.02, 8.0, 201)
figure, axes = plt.subplots(figsize=(6.0, 3.5), layout="constrained")
for place, colour in zip([-0.8, 0.0, 0.8], ["tab:blue", "tab:orange", "tab:green"], strict=True):
    exact = stats.gamma(2.0 + place, scale=np.exp(0.5 * place)).pdf(values)
    axes.plot(values, exact, "--", color=colour)
    learned = est.predict_density([[place]]).pdf_grid(0, values)[0]
    axes.plot(values, learned, color=colour, label=f"x = {place:g}")
axes.set(
    xlabel="waiting time", ylabel="density per unit of time", title="learned, and exact (dashed)"
)
axes.legend()
