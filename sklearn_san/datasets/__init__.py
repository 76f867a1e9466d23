"""Problems with known truth, made on the spot; nothing is downloaded.

=================================  ========================================================
`make_galaxies`                    eight bands of photometry, nine physical parameters
`make_galaxy_spectra`              the same with a spectrum of low resolution
`make_line_spectra`                position of a line in a spectrum
`make_source_images`               centre and flux of a point source in an image
`make_normal_sets`                 mean and scale of normal samples of varying size
`make_heteroscedastic_gaussian`    correlated outputs whose covariance changes with x
`make_bimodal`                     two outputs on one of two branches
=================================  ========================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import galaxies
from .arguments import check_n_samples, random_stream
from .measurements import make_line_spectra, make_normal_sets, make_source_images

__all__ = [
    "GALAXY_BANDS",
    "GALAXY_LIMITS",
    "GALAXY_PARAMETERS",
    "GALAXY_WAVELENGTHS",
    "make_bimodal",
    "make_galaxies",
    "make_galaxy_spectra",
    "make_heteroscedastic_gaussian",
    "make_line_spectra",
    "make_normal_sets",
    "make_source_images",
]

#: Names of the columns of y in `make_galaxies`.
GALAXY_PARAMETERS = galaxies.PARAMETERS
#: Names of the columns of X in `make_galaxies`.
GALAXY_BANDS = galaxies.BANDS
#: Prior limits of each parameter of `make_galaxies`, (9, 2).
GALAXY_LIMITS = galaxies.LIMITS.copy()
GALAXY_LIMITS.setflags(write=False)
#: Wavelengths of the spectra of `make_galaxy_spectra` in Angstrom, (96,).
GALAXY_WAVELENGTHS = galaxies.WAVELENGTHS.copy()
GALAXY_WAVELENGTHS.setflags(write=False)

LogDensity = Callable[[np.ndarray, np.ndarray], np.ndarray]


def make_galaxies(
    n_samples: int = 1000,
    *,
    noise: bool = True,
    return_errors: bool = False,
    random_state: Any = None,
) -> tuple[np.ndarray, ...]:
    """Simulate galaxies: physical parameters y and their broad-band photometry X.

    Stars with an exponentially declining history behind Calzetti dust, an accretion disc behind
    its own dust, a torus at 1,400 K, intergalactic absorption, a flat expanding universe, and
    noise of sky and calibration. Colours are degenerate: old, dusty and distant galaxies look
    alike, and some photometry allows several redshifts.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of galaxies.
    noise : bool, default=True
        Whether to add measurement noise: Gaussian in flux, with the standard deviation of
        the sky and of 2 % of the flux, added in quadrature.
    return_errors : bool, default=False
        Whether to return the errors of the magnitudes as well.
    random_state : int, RandomState or None, default=None
        Source of randomness.

    Returns
    -------
    X : ndarray of shape (n_samples, 8)
        Asinh magnitudes (AB) in the bands `GALAXY_BANDS`.
    y : ndarray of shape (n_samples, 9)
        `GALAXY_PARAMETERS`, inside `GALAXY_LIMITS`: redshift; log10 of the stellar mass formed
        (solar masses); optical depth of the dust at 5500 Angstrom; age (Gyr); log10 of the
        e-folding time of star formation (Gyr); log10 of the black hole's mass (10^7 solar
        masses); reddening of the disc (mag); log10 of the mass of hot dust (solar masses);
        inclination (degrees).
    X_err : ndarray of shape (n_samples, 8)
        1-sigma errors of X in magnitudes; only if `return_errors`.

    Examples
    --------
    >>> from sklearn_san.datasets import make_galaxies
    >>> X, y = make_galaxies(5, random_state=0)
    >>> X.shape, y.shape
    ((5, 8), (5, 9))
    """
    check_n_samples(n_samples)
    random = random_stream(random_state)
    y = galaxies.draw_parameters(n_samples, random)
    flux = galaxies.fluxes(y)
    if noise:
        flux = flux + galaxies.noise_scale(flux) * random.standard_normal(flux.shape)
    X = galaxies.asinh_magnitudes(flux)
    if return_errors:
        return X, y, galaxies.magnitude_errors(flux)
    return X, y


def make_galaxy_spectra(
    n_samples: int = 1000, *, noise: bool = True, random_state: Any = None
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Simulate galaxies with a spectrum of low resolution next to their photometry.

    The galaxies are those of `make_galaxies`. The spectrum has the flux density in 96
    bins of equal width in log wavelength from 4,000 to 9,500 Angstrom, a resolution of 110, with
    a 5-sigma depth of 24.5 mag (AB) in each bin. It shows breaks, but no lines.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of galaxies.
    noise : bool, default=True
        Whether to add measurement noise: Gaussian in flux, with the standard deviation of
        the sky and of 2 % of the flux, added in quadrature.
    random_state : int, RandomState or None, default=None
        Source of randomness.

    Returns
    -------
    X : dict of str to ndarray
        ``"spectrum"`` of shape (n_samples, 96), asinh magnitudes (AB) at `GALAXY_WAVELENGTHS`;
        ``"photometry"`` of shape (n_samples, 8), as in `make_galaxies`.
    y : ndarray of shape (n_samples, 9)
        `GALAXY_PARAMETERS`, as in `make_galaxies`.

    Examples
    --------
    >>> from sklearn_san.datasets import make_galaxy_spectra
    >>> X, y = make_galaxy_spectra(5, random_state=0)
    >>> X["spectrum"].shape, X["photometry"].shape, y.shape
    ((5, 96), (5, 8), (5, 9))
    """
    check_n_samples(n_samples)
    random = random_stream(random_state)
    y = galaxies.draw_parameters(n_samples, random)
    X = {}
    for name, flux, sky in [
        ("spectrum", galaxies.spectra(y), galaxies.SPECTRUM_NOISE),
        ("photometry", galaxies.fluxes(y), galaxies.SKY_NOISE),
    ]:
        if noise:
            flux = flux + galaxies.noise_scale(flux, sky) * random.standard_normal(flux.shape)
        X[name] = galaxies.asinh_magnitudes(flux, sky)
    return X, y


def make_heteroscedastic_gaussian(
    n_samples: int = 1000, *, random_state: Any = None
) -> tuple[np.ndarray, np.ndarray, LogDensity]:
    """Three correlated Gaussian outputs whose mean and covariance change with two features.

    ``y = m(x) + L(x) e`` with e standard normal and L lower triangular, in arbitrary units.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of rows.
    random_state : int, RandomState or None, default=None
        Source of randomness.

    Returns
    -------
    X : ndarray of shape (n_samples, 2)
        Uniform on [-1, 1].
    y : ndarray of shape (n_samples, 3)
        Outputs.
    log_density : callable
        ``log_density(X, y)`` is the exact log density of each row, (n_samples,), in nats.

    Examples
    --------
    >>> from sklearn_san.datasets import make_heteroscedastic_gaussian
    >>> X, y, log_density = make_heteroscedastic_gaussian(5, random_state=0)
    >>> log_density(X, y).shape
    (5,)
    """
    check_n_samples(n_samples)
    random = random_stream(random_state)
    X = random.uniform(-1.0, 1.0, size=(n_samples, 2))
    mean, factor = _gaussian_moments(X)
    y = mean + np.einsum("nij,nj->ni", factor, random.standard_normal(mean.shape))
    return X, y, _gaussian_log_density


def _gaussian_moments(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (n_samples, 3) and Cholesky factor (n_samples, 3, 3)."""
    a, b = np.asarray(X, dtype=float).T
    mean = np.stack([np.sin(2.0 * a), a * b, np.cos(2.0 * b)], axis=1)
    factor = np.zeros((len(mean), 3, 3))
    factor[:, 0, 0] = 0.2 + 0.15 * a
    factor[:, 1, 0] = 0.4 * b
    factor[:, 1, 1] = 0.1 * np.exp(0.5 * a)
    factor[:, 2, 0] = 0.3
    factor[:, 2, 1] = -0.4 * a
    factor[:, 2, 2] = 0.1 + 0.05 * b
    return mean, factor


def _gaussian_log_density(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    mean, factor = _gaussian_moments(X)
    whitened = np.linalg.solve(factor, (np.asarray(y) - mean)[..., None])[..., 0]
    log_determinant = np.log(np.einsum("nii->ni", factor)).sum(axis=1)
    return -0.5 * (whitened**2 + np.log(2.0 * np.pi)).sum(axis=1) - log_determinant


def make_bimodal(
    n_samples: int = 1000, *, random_state: Any = None
) -> tuple[np.ndarray, np.ndarray, LogDensity]:
    """Two outputs on one of two branches, a mixture of two Gaussians for every x.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of rows.
    random_state : int, RandomState or None, default=None
        Source of randomness.

    Returns
    -------
    X : ndarray of shape (n_samples, 1)
        Uniform on [-1, 1].
    y : ndarray of shape (n_samples, 2)
        Outputs, in arbitrary units.
    log_density : callable
        ``log_density(X, y)`` is the exact log density of each row, (n_samples,), in nats.

    Examples
    --------
    >>> from sklearn_san.datasets import make_bimodal
    >>> X, y, log_density = make_bimodal(5, random_state=0)
    >>> y.shape, log_density(X, y).shape
    ((5, 2), (5,))
    """
    check_n_samples(n_samples)
    random = random_stream(random_state)
    X = random.uniform(-1.0, 1.0, size=(n_samples, 1))
    weight, mean, scale = _branches(X)
    upper = (random.uniform(size=n_samples) < weight).astype(int)
    rows = np.arange(n_samples)
    y = mean[upper, rows] + scale[upper] * random.standard_normal((n_samples, 2))
    return X, y, _bimodal_log_density


def _branches(X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weight of the upper branch (n,), means (2, n, 2) and standard deviations (2, 2)."""
    x = np.asarray(X, dtype=float)[:, 0]
    weight = 1.0 / (1.0 + np.exp(-2.0 * x))
    lower = np.stack([-1.0 + 0.5 * x, np.sin(3.0 * x)], axis=1)
    upper = np.stack([1.0 + 0.5 * x**2, -np.sin(3.0 * x) + 0.5], axis=1)
    return weight, np.stack([lower, upper]), np.array([[0.2, 0.1], [0.3, 0.2]])


def _bimodal_log_density(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    weight, mean, scale = _branches(X)
    z = (np.asarray(y) - mean) / scale[:, None]  # (2, n, 2)
    log_normal = -0.5 * (z**2 + np.log(2.0 * np.pi)).sum(-1) - np.log(scale).sum(-1)[:, None]
    return np.logaddexp(np.log1p(-weight) + log_normal[0], np.log(weight) + log_normal[1])
