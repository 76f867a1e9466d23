"""Spectra, images and sets with the exact posterior of what they were made from.

=======================  ==================================================================
`make_line_spectra`      position of a Gaussian line in a noisy spectrum
`make_source_images`     centre and flux of a blurred point source in a noisy image
`make_normal_sets`       mean and log standard deviation of a normal sample of any size
=======================  ==================================================================

The first two have white noise of variance 1 and a template g(p) of known shape, so that

    log p(x | p, f) = f b(p) - f^2 a(p) / 2 + const,  a = sum g(p)^2,  b = sum x g(p),

where sums go over the pixels that are not nan. The prior is uniform; posteriors are normalised by
quadrature over p [1]_, with the flux f integrated in closed form. In the third problem the prior
is conjugate, and the posterior of the same form [2]_.

References
----------
.. [1] Press et al. (2007), Numerical Recipes, equation 4.1.14: the trapezoidal rule with corrected
   ends, whose error falls with the fourth power of the step at the ends, and faster inside.
.. [2] Gelman et al. (2013), Bayesian Data Analysis, section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import gammaln, log_ndtr

from .arguments import check_n_samples, check_share, random_stream

LogDensity = Callable[[np.ndarray, np.ndarray], np.ndarray]

#: Pixels of a spectrum, width of the line in pixels, its height, and the step of the quadrature.
LENGTH, LINE_WIDTH, LINE_HEIGHT, LINE_STEP = 64, 2.0, 3.0, 0.05
#: Pixels of an image along each axis, width of the point spread function, range of the centre
#: along each axis, range of the flux, and the step of the quadrature.
SIZE, BLUR, STEP = 16, 1.5, 0.05
CENTRES, FLUXES = (2.0, 13.0), (20.0, 60.0)
#: Largest set; shape and scale of the inverse gamma distribution of the variance; mean, and
#: variance over that of a value, of the normal distribution of the mean.
LARGEST_SET, SHAPE, RATE, MEAN, MEAN_RATIO = 30, 3.0, 2.0, 0.0, 4.0
#: What lies so many nats below the mode adds nothing to an integral.
NEGLIGIBLE = 40.0


def make_line_spectra(
    n_samples: int = 1000, *, bad_share: float = 0.0, random_state: Any = None
) -> tuple[np.ndarray, np.ndarray, LogDensity]:
    """Spectra with one Gaussian line of known width and height, whose position is sought.

    The line is 3 times as high as the noise of a pixel, with a standard deviation of 2 pixels: its
    position is known to half a pixel, and now and then the noise looks like a line elsewhere.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of spectra.
    bad_share : float, default=0.0
        Share of the pixels that are nan, at random places.
    random_state : int, RandomState or None, default=None
        Source of randomness.

    Returns
    -------
    X : ndarray of shape (n_samples, 64)
        Spectra, in units of the noise of a pixel.
    y : ndarray of shape (n_samples,)
        Position of the line, uniform on [0, 63], in pixels from the middle of the first.
    log_density : callable
        ``log_density(X, y)`` is the exact log posterior of each row, (n_samples,), in nats per
        pixel.

    Examples
    --------
    >>> from sklearn_san.datasets import make_line_spectra
    >>> X, y, log_density = make_line_spectra(5, random_state=0)
    >>> X.shape, y.shape, log_density(X, y).shape
    ((5, 64), (5,), (5,))
    """
    check_n_samples(n_samples)
    check_share("bad_share", bad_share)
    random = random_stream(random_state)
    y = random.uniform(0.0, LENGTH - 1.0, size=n_samples)
    X = _profile(y, LENGTH, LINE_WIDTH, LINE_HEIGHT) + random.standard_normal((n_samples, LENGTH))
    return _with_bad_values(X, bad_share, random), y, _line_log_density


def _profile(centre: np.ndarray, n_pixels: int, width: float, height: float) -> np.ndarray:
    """Gaussian profiles at the middles of the pixels, (n_centres, n_pixels)."""
    return height * np.exp(-0.5 * ((np.arange(n_pixels) - centre[:, None]) / width) ** 2)


def _with_bad_values(X: np.ndarray, share: float, random: np.random.RandomState) -> np.ndarray:
    if share:
        X[random.uniform(size=X.shape) < share] = np.nan
    return X


def _grid(low: float, high: float, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights of the trapezoidal rule with corrected ends."""
    points = np.linspace(low, high, round((high - low) / step) + 1)
    weights = np.full(len(points), points[1] - points[0])
    ends = np.array([3 / 8, 7 / 6, 23 / 24])
    weights[:3] *= ends
    weights[-3:] *= ends[::-1]
    return points, weights


def _line_log_density(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    X, y = np.asarray(X, dtype=float), np.asarray(y, dtype=float).reshape(len(X))
    good, values = ~np.isnan(X), np.nan_to_num(X)

    def log_likelihood(profile: np.ndarray, product: str) -> np.ndarray:
        return np.einsum(product, values, profile) - 0.5 * np.einsum(product, good, profile**2)

    points, weights = _grid(0.0, LENGTH - 1.0, LINE_STEP)
    on_grid = log_likelihood(_profile(points, LENGTH, LINE_WIDTH, LINE_HEIGHT), "nl,gl->ng")
    highest = on_grid.max(axis=1)
    log_evidence = highest + np.log(np.exp(on_grid - highest[:, None]) @ weights)
    here = log_likelihood(_profile(y, LENGTH, LINE_WIDTH, LINE_HEIGHT), "nl,nl->n")
    return np.where((y >= 0.0) & (y <= LENGTH - 1.0), here - log_evidence, -np.inf)


def make_source_images(
    n_samples: int = 1000, *, bad_share: float = 0.0, random_state: Any = None
) -> tuple[np.ndarray, np.ndarray, LogDensity]:
    """Images of a point source behind a Gaussian blur, whose centre and flux are sought.

    The blur has a standard deviation of 1.5 pixels and is taken at the middles of the pixels.
    Detections have a significance of 4 to 11 standard deviations; the centre is known to 0.4 to
    0.13 pixels.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of images.
    bad_share : float, default=0.0
        Share of the pixels that are nan, at random places.
    random_state : int, RandomState or None, default=None
        Source of randomness.

    Returns
    -------
    X : ndarray of shape (n_samples, 16, 16)
        Images, in units of the noise of a pixel.
    y : ndarray of shape (n_samples, 3)
        Row and column of the centre, uniform on [2, 13], in pixels from the middle of the first;
        flux, uniform on [20, 60].
    log_density : callable
        ``log_density(X, y)`` is the exact log posterior of each row, (n_samples,), in nats per
        unit of y; a few milliseconds for a row.

    Examples
    --------
    >>> from sklearn_san.datasets import make_source_images
    >>> X, y, log_density = make_source_images(5, random_state=0)
    >>> X.shape, y.shape, log_density(X, y).shape
    ((5, 16, 16), (5, 3), (5,))
    """
    check_n_samples(n_samples)
    check_share("bad_share", bad_share)
    random = random_stream(random_state)
    centre = random.uniform(*CENTRES, size=(2, n_samples))
    flux = random.uniform(*FLUXES, size=n_samples)
    rows, columns = (_blur(c) for c in centre)
    X = np.einsum("n,nr,nc->nrc", flux, rows, columns) + random.standard_normal(
        (n_samples, SIZE, SIZE)
    )
    y = np.column_stack([*centre, flux])
    return _with_bad_values(X, bad_share, random), y, _source_log_density


def _blur(centre: np.ndarray) -> np.ndarray:
    """Point spread function along one axis, (n_centres, SIZE), of unit integral."""
    return _profile(centre, SIZE, BLUR, 1.0 / (np.sqrt(2.0 * np.pi) * BLUR))


def _source_log_density(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    X, y = np.asarray(X, dtype=float), np.asarray(y, dtype=float).reshape(len(X), 3)
    points, weights = _grid(*CENTRES, STEP)
    log_weights = np.log(weights[:, None] * weights)
    on_grid = _blur(points)
    rows, columns, flux = _blur(y[:, 0]), _blur(y[:, 1]), y[:, 2]
    limits = np.array([CENTRES, CENTRES, FLUXES])
    inside = ((y >= limits[:, 0]) & (y <= limits[:, 1])).all(axis=1)
    out = np.full(len(X), -np.inf)
    for i in np.flatnonzero(inside):
        values, good = np.nan_to_num(X[i]), ~np.isnan(X[i])
        signal = on_grid @ values @ on_grid.T  # (n_points, n_points)
        power = on_grid**2 @ good @ (on_grid**2).T
        here = flux[i] * (rows[i] @ values @ columns[i])
        here -= 0.5 * flux[i] ** 2 * (rows[i] ** 2 @ good @ columns[i] ** 2)
        out[i] = here - _log_evidence(signal, power, log_weights)
    return out


def _log_evidence(signal: np.ndarray, power: np.ndarray, log_weights: np.ndarray) -> float:
    """Log integral of ``exp(f signal - f^2 power / 2)`` over the flux f and the centre."""
    low, high = FLUXES
    best = np.clip(signal / np.maximum(power, 1e-300), low, high)
    highest = best * signal - 0.5 * best**2 * power  # no flux has more
    matters = highest > highest.max() - NEGLIGIBLE
    signal, power = signal[matters], np.maximum(power[matters], 1e-12)
    scale, mean = 1.0 / np.sqrt(power), signal / power
    # Both ends on the side of zero where the normal cdf is small, so that none is lost
    below, above = (low - mean) / scale, (high - mean) / scale
    swap = below + above > 0.0
    below, above = np.where(swap, -above, below), np.where(swap, -below, above)
    outer, inner = log_ndtr(below), log_ndtr(above)
    log_mass = inner + np.log1p(-np.exp(outer - inner))
    log_terms = 0.5 * mean * signal + np.log(scale) + 0.5 * np.log(2.0 * np.pi) + log_mass
    log_terms += log_weights[matters]
    top = log_terms.max()
    return float(top + np.log(np.exp(log_terms - top).sum()))


def make_normal_sets(
    n_samples: int = 1000, *, random_state: Any = None
) -> tuple[np.ndarray, np.ndarray, LogDensity]:
    """Sets of values from a normal distribution, whose mean and log standard deviation are sought.

    The variance has an inverse gamma distribution of shape 3 and scale 2, and the mean given the
    variance a normal one around 0 with four times that variance.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of sets.
    random_state : int, RandomState or None, default=None
        Source of randomness.

    Returns
    -------
    X : ndarray of shape (n_samples, 30, 1)
        Sets of 0 to 30 values, all sizes alike, at places at random; the rest is nan.
    y : ndarray of shape (n_samples, 2)
        Mean, and natural logarithm of the standard deviation.
    log_density : callable
        ``log_density(X, y)`` is the exact log posterior of each row, (n_samples,), in nats per
        unit of y.

    Examples
    --------
    >>> from sklearn_san.datasets import make_normal_sets
    >>> X, y, log_density = make_normal_sets(5, random_state=0)
    >>> X.shape, y.shape, log_density(X, y).shape
    ((5, 30, 1), (5, 2), (5,))
    """
    check_n_samples(n_samples)
    random = random_stream(random_state)
    scale = np.sqrt(RATE / random.gamma(SHAPE, size=n_samples))
    mean = MEAN + np.sqrt(MEAN_RATIO) * scale * random.standard_normal(n_samples)
    X = mean[:, None] + scale[:, None] * random.standard_normal((n_samples, LARGEST_SET))
    size = random.randint(LARGEST_SET + 1, size=n_samples)
    rank = random.uniform(size=X.shape).argsort(axis=1)
    X[rank >= size[:, None]] = np.nan
    return X[:, :, None], np.column_stack([mean, np.log(scale)]), _normal_log_density


def _normal_log_density(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    X = np.asarray(X, dtype=float).reshape(len(X), -1)
    mean, log_scale = np.asarray(y, dtype=float).reshape(len(X), 2).T
    good = ~np.isnan(X)
    n, total = good.sum(axis=1), np.nansum(X, axis=1)
    average = total / np.maximum(n, 1)
    # Normal-inverse-gamma: prior weight in values, then what the values add
    weight = 1.0 / MEAN_RATIO + n
    location = (MEAN / MEAN_RATIO + total) / weight
    shape = SHAPE + 0.5 * n
    rate = RATE + 0.5 * np.nansum((X - average[:, None]) ** 2, axis=1)
    rate = rate + 0.5 * n / MEAN_RATIO / weight * (average - MEAN) ** 2
    log_variance = 2.0 * log_scale
    log_inverse_gamma = shape * np.log(rate) - gammaln(shape) - (shape + 1.0) * log_variance
    log_inverse_gamma -= rate * np.exp(-log_variance)
    log_normal = 0.5 * (np.log(weight / (2.0 * np.pi)) - log_variance)
    log_normal -= 0.5 * weight * (mean - location) ** 2 * np.exp(-log_variance)
    return log_inverse_gamma + log_normal + np.log(2.0) + log_variance  # of the log scale
