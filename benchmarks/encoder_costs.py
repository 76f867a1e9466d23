"""What encoders cost and give, for spectra of a line whose amplitude is y: the posterior is known.

``python benchmarks/encoder_costs.py`` prints, for plain columns and for encoders of one's own, the
loss above that of the exact posterior in nats, seconds for each epoch, and microseconds for each
density and each draw. ``--rows``, ``--pixels``, ``--members`` and ``--epochs`` set the sizes.
"""

import argparse
import time

import numpy as np
from scipy.stats import norm
from torch import nn

from sklearn_san import SANConditionalDensityEstimator


def spectra(n, n_pixels, noise, seed):
    """Noisy pixels, amplitudes, and the log density of these under the exact posterior."""
    random = np.random.default_rng(seed)
    line = np.exp(-0.5 * (np.linspace(-1.0, 1.0, n_pixels) / 0.1) ** 2)
    y = random.normal(size=n)
    X = (y[:, None] * line + noise * random.normal(size=(n, n_pixels))).astype(np.float32)
    precision = 1.0 + (line**2).sum() / noise**2
    return X, y, norm(X @ line / noise**2 / precision, precision**-0.5).logpdf(y)


def linear(shape):
    """All pixels in one product."""
    return nn.Linear(shape[0], 16)


def convolutions(shape):
    """Three convolutions of stride 4, then a mean over the pixels."""
    layers = [nn.Unflatten(1, (1, shape[0]))]
    for n_in, n_out in ((1, 8), (8, 16), (16, 16)):
        layers += [nn.Conv1d(n_in, n_out, 9, stride=4, padding=4), nn.SiLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(16))


def main():
    """Fit each and print a row of the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    for name, value in (("rows", 10_000), ("pixels", 500), ("members", 2), ("epochs", 10)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    X, y, exact = spectra(options.rows + 2000, options.pixels, 3.0, 0)
    train, test = slice(options.rows), slice(options.rows, None)
    print("| encoder | nats above exact | s per epoch | us per density | us per draw of 100 |")
    print("|---|---|---|---|---|")
    for name, encoder, share in (
        ("none", None, False),
        ("linear", linear, False),
        ("linear, shared", linear, True),
        ("convolutions", convolutions, False),
        ("convolutions, shared", convolutions, True),
    ):
        est = SANConditionalDensityEstimator(
            encoder=encoder, share_encoder=share, n_members=options.members, epochs=options.epochs,
            feature_encoding=None, tree_features=False, random_state=0,
        )  # fmt: skip
        est.fit(X[:500], y[:500])  # compiles what is not kept
        est.log_prob(X[test], y[test])
        est.sample(X[:10], 100, random_state=0)
        start = time.perf_counter()
        est.fit(X[train], y[train])
        fitted = time.perf_counter()
        loss = exact[test].mean() - est.score(X[test], y[test])
        scored = time.perf_counter()
        est.sample(X[test], 100, random_state=0)
        drawn = time.perf_counter()
        print(
            f"| {name} | {loss:.3f} | {(fitted - start) / est.n_iter_:.2f} "
            f"| {(scored - fitted) / 2000 * 1e6:.0f} | {(drawn - scored) / 200_000 * 1e6:.2f} |"
        )


if __name__ == "__main__":
    main()
