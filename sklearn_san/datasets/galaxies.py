"""A small physical model of galaxies: nine parameters to eight broad bands or a spectrum.

The flux of a galaxy is stars behind dust, plus an accretion disc behind its own dust, plus hot
dust of the torus, all redshifted and absorbed by the intergalactic medium. Wavelengths are in
Angstrom, luminosities in solar luminosities, fluxes in units of 3631 Jy (AB magnitude zero).

References
----------
.. [1] Salpeter (1955), initial mass function; Duric (2004), mass-luminosity relation.
.. [2] Renzini and Buzzoni (1986), fuel consumption theorem for evolved stars.
.. [3] Calzetti et al. (2000), attenuation law of starburst galaxies.
.. [4] Vanden Berk et al. (2001), quasar continuum slope; Richards et al. (2006), bolometric
   correction at 5100 Angstrom; Netzer (1987), limb darkening of the disc.
.. [5] Gordon et al. (2003), extinction in the Small Magellanic Cloud.
.. [6] Madau (1995), absorption by intergalactic hydrogen.
.. [7] Lupton, Gunn and Szalay (1999), asinh magnitudes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

SOLAR_LUMINOSITY = 3.828e26  # W
SOLAR_MASS = 1.989e30  # kg
SPEED_OF_LIGHT = 2.998e18  # Angstrom / s
MEGAPARSEC = 3.0857e22  # m
STEFAN_BOLTZMANN = 5.670e-8  # W m^-2 K^-4
HC_OVER_K = 1.4388e8  # Angstrom K
AB_ZERO = 3.631e-23  # W m^-2 Hz^-1, 3631 Jy
HUBBLE = 70.0  # km / s / Mpc
OMEGA_MATTER = 0.3

PARAMETERS = (
    "redshift",
    "log_mass",
    "dust2",
    "tage",
    "log_tau",
    "log_agn_mass",
    "agn_eb_v",
    "log_agn_torus_mass",
    "inclination",
)
BANDS = ("u", "g", "r", "i", "z", "Y", "J", "H")
LIMITS = np.array(
    [
        [0.02, 4.0],
        [8.5, 12.0],
        [0.0, 2.0],
        [0.01, 13.0],
        [-1.0, 1.3],
        [-3.0, 2.0],
        [0.0, 1.0],
        [-3.0, 2.0],
        [0.0, 90.0],
    ]
)

# Top-hat pass bands: lower and upper edge; the optical ones are close to those of the Rubin
# observatory, the infrared ones to Euclid's. Depths are 5-sigma point-source AB magnitudes, near
# those of ten years of Rubin and of Euclid's deep fields.
_BAND_EDGES = np.array(
    [
        [3350.0, 4000.0],
        [4020.0, 5520.0],
        [5520.0, 6900.0],
        [6910.0, 8180.0],
        [8180.0, 9220.0],
        [9500.0, 12120.0],
        [11680.0, 15670.0],
        [15220.0, 20210.0],
    ]
)
_DEPTHS = np.array([26.1, 27.4, 27.5, 26.8, 26.1, 26.0, 26.0, 26.0])
SKY_NOISE = 10.0 ** (-0.4 * _DEPTHS) / 5.0
RELATIVE_NOISE = 0.02  # calibration

_NODES_PER_BAND = 6
_fraction = (np.arange(_NODES_PER_BAND) + 0.5) / _NODES_PER_BAND
_NODES = (  # equally spaced in log wavelength, (n_bands, n_nodes)
    _BAND_EDGES[:, :1] ** (1.0 - _fraction) * _BAND_EDGES[:, 1:] ** _fraction
)
# Bins of the spectra of low resolution, and the sky noise in each of them.
_BIN_EDGES = np.geomspace(4000.0, 9500.0, 97)
WAVELENGTHS = np.sqrt(_BIN_EDGES[:-1] * _BIN_EDGES[1:])
SPECTRUM_NOISE = np.full(len(WAVELENGTHS), 10.0 ** (-0.4 * 24.5) / 5.0)
_LOG_GRID = np.linspace(np.log(550.0), np.log(21000.0), 500)  # rest-frame wavelengths
_AGE_EDGES = np.concatenate([[0.0], np.geomspace(2e-3, 14.0, 40)])  # Gyr


def _planck(wavelength: np.ndarray, temperature: np.ndarray | float) -> np.ndarray:
    """Black body per unit wavelength, normalised to unit bolometric luminosity (1 / Angstrom)."""
    x = HC_OVER_K / (wavelength * temperature)
    return 15.0 / np.pi**4 * x**4 / (np.expm1(np.minimum(x, 500.0)) * wavelength)


def _photosphere(wavelength: np.ndarray, temperature: np.ndarray) -> np.ndarray:
    """Black body with the breaks of real stars: Lyman limit, Balmer jump, 4000 A and UV metals.

    The depths rise and fall with temperature as the ionisation of hydrogen and of the metals
    does; what is absorbed is not re-emitted.
    """

    def bluer_than(edge: float, width: float) -> np.ndarray:
        return 1.0 / (1.0 + np.exp(np.clip((wavelength - edge) / width, -50, 50)))

    hot = 1.0 / (1.0 + np.exp(-(temperature - 35000.0) / 4000.0))
    balmer = np.exp(-0.5 * (np.log(temperature / 10000.0) / 0.35) ** 2)
    metals = 1.0 / (1.0 + np.exp((temperature - 6500.0) / 700.0))
    depth = (
        5.0 * (1.0 - hot) * bluer_than(912.0, 4.0)
        + 1.0 * balmer * bluer_than(3700.0, 40.0)
        + 0.8 * metals * bluer_than(4000.0, 60.0)
        + 0.9 * metals * bluer_than(2750.0, 80.0)
        + 0.1 * metals * np.exp(-0.5 * ((wavelength - 5200.0) / 120.0) ** 2)
    )
    return _planck(wavelength, temperature) * np.exp(-depth)


@lru_cache(maxsize=1)
def _populations() -> np.ndarray:
    """Spectra of simple stellar populations, (n_ages, n_wavelengths), Lsun / Angstrom / Msun.

    Each age bin is represented by its middle. Main-sequence stars follow the mass-luminosity
    relation and die after 10 Gyr times M / L; evolved stars shine at 4,200 K with the fuel that
    the fuel consumption theorem gives them.
    """
    wavelength = np.exp(_LOG_GRID)
    mass = np.geomspace(0.1, 100.0, 400)
    number = mass**-2.35
    number /= np.trapezoid(mass * number, mass)  # stars per solar mass of stars formed
    luminosity = np.select(
        [mass < 0.43, mass < 2.0, mass < 55.0],
        [0.23 * mass**2.3, mass**4.0, 1.4 * mass**3.5],
        32000.0 * mass,
    )
    radius = np.where(mass < 1.0, mass**0.8, mass**0.57)
    temperature = 5772.0 * (luminosity / radius**2) ** 0.25
    lifetime = np.maximum(10.0 * mass / luminosity, 3e-3)  # Gyr
    spectra = _photosphere(wavelength, temperature[:, None]) * luminosity[:, None]
    giant = _photosphere(wavelength, np.array(4200.0))

    edges = _AGE_EDGES
    age = np.concatenate([[0.5 * edges[1]], np.sqrt(edges[1:-1] * edges[2:])])
    populations = np.empty((len(age), len(wavelength)))
    for i, t in enumerate(age):
        alive = 1.0 / (1.0 + (t / lifetime) ** 8)  # a soft turn-off
        main_sequence = np.trapezoid(spectra * (number * alive)[:, None], mass, axis=0)
        turn_off = np.interp(-t, -lifetime, mass)
        death_rate = np.interp(turn_off, mass, number) * turn_off / (2.5 * t * 1e9)  # per year
        fuel = 0.45 * min(1.0, 0.3 + 0.7 * t)  # solar masses of hydrogen
        populations[i] = main_sequence + 9.75e10 * fuel * death_rate * giant
    return populations


def _age_weights(age: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """Share of the stars in each age bin, (n_samples, n_ages), for star formation exp(-t / tau)."""
    edges = np.minimum(_AGE_EDGES, age[:, None])
    formed = np.exp((edges - age[:, None]) / tau[:, None])  # up to a factor, mass older than edge
    return np.diff(formed, axis=1) / -np.expm1(-age / tau)[:, None]


def _calzetti(wavelength: np.ndarray) -> np.ndarray:
    """Attenuation curve k(wavelength) over k(5500 A); extended below 0.12 micron as it stands."""
    inverse = 1e4 / wavelength  # 1 / micron
    blue = 2.659 * (-2.156 + 1.509 * inverse - 0.198 * inverse**2 + 0.011 * inverse**3) + 4.05
    red = 2.659 * (-1.857 + 1.040 * inverse) + 4.05
    return np.maximum(np.where(wavelength < 6300.0, blue, red), 0.0) / 4.05


def _intergalactic_depth(observed: np.ndarray, redshift: np.ndarray) -> np.ndarray:
    """Mean optical depth of intergalactic hydrogen at observed wavelengths, one row per galaxy."""
    depth = np.zeros((len(redshift), len(observed)))
    for line, strength in [
        (1215.67, 0.0036),
        (1025.72, 0.0017),
        (972.54, 0.0012),
        (949.74, 0.00093),
    ]:
        absorbed = observed < line * (1.0 + redshift)
        depth += np.where(absorbed, strength * (observed / line) ** 3.46, 0.0)
    x_c, x_e = observed / 911.75, 1.0 + redshift
    continuum = (
        0.25 * x_c**3 * (x_e**0.46 - x_c**0.46)
        + 9.4 * x_c**1.5 * (x_e**0.18 - x_c**0.18)
        - 0.7 * x_c**3 * (x_c**-1.32 - x_e**-1.32)
        - 0.023 * (x_e**1.68 - x_c**1.68)
    )
    return depth + np.where(x_c < x_e, np.maximum(continuum, 0.0), 0.0)


@lru_cache(maxsize=1)
def _distance_table() -> tuple[np.ndarray, np.ndarray]:
    """Redshifts and luminosity distances in Mpc of a flat universe."""
    z = np.linspace(0.0, 4.5, 4501)
    inverse_hubble = 299792.458 / HUBBLE / np.sqrt(OMEGA_MATTER * (1 + z) ** 3 + 1 - OMEGA_MATTER)
    step = 0.5 * (inverse_hubble[1:] + inverse_hubble[:-1]) * np.diff(z)
    return z, (1.0 + z) * np.concatenate([[0.0], np.cumsum(step)])


def universe_age(redshift: np.ndarray) -> np.ndarray:
    """Age in Gyr of a flat universe of matter and a cosmological constant."""
    hubble_time = 977.8 / HUBBLE
    ratio = np.sqrt((1.0 - OMEGA_MATTER) / OMEGA_MATTER) * (1.0 + redshift) ** -1.5
    return 2.0 / 3.0 * hubble_time / np.sqrt(1.0 - OMEGA_MATTER) * np.arcsinh(ratio)


def _disc_visibility(inclination: np.ndarray) -> np.ndarray:
    """Share of the face-on disc that is seen: projection, limb darkening, torus beyond 60 deg."""
    cosine = np.cos(np.radians(inclination))
    clear = 1.0 / (1.0 + np.exp((inclination - 60.0) / 5.0))
    return cosine * (1.0 + 2.0 * cosine) / 3.0 * (0.002 + 0.998 * clear)


def fluxes(parameters: np.ndarray) -> np.ndarray:
    """Noise-free fluxes in the eight bands, in units of 3631 Jy.

    Parameters
    ----------
    parameters : ndarray of shape (n_samples, 9)
        In the order and units of `PARAMETERS`: redshift; log10 of the stellar mass formed in
        solar masses; optical depth of the dust at 5500 Angstrom; age in Gyr; log10 of the
        e-folding time of the star formation in Gyr; log10 of the mass of the black hole in
        10^7 solar masses, shining at a tenth of its Eddington luminosity; reddening E(B-V) of
        its disc in magnitudes; log10 of the mass of dust at 1,400 K in solar masses;
        inclination in degrees.

    Returns
    -------
    ndarray of shape (n_samples, 8)
    """
    return _in_chunks(
        lambda rows: _flux_densities(rows, _NODES.ravel()).reshape(-1, *_NODES.shape).mean(axis=-1),
        parameters,
        len(BANDS),
    )


def spectra(parameters: np.ndarray) -> np.ndarray:
    """Noise-free flux densities at `WAVELENGTHS`, in units of 3631 Jy, (n_samples, 96).

    The rest-frame grid of the model is about as fine as the bins, whose middles stand for them.
    """
    return _in_chunks(lambda rows: _flux_densities(rows, WAVELENGTHS), parameters, len(WAVELENGTHS))


def _in_chunks(
    function: Callable[[np.ndarray], np.ndarray], parameters: np.ndarray, n_columns: int
) -> np.ndarray:
    chunks = [function(parameters[i : i + 2048]) for i in range(0, len(parameters), 2048)]
    return np.concatenate(chunks) if chunks else np.empty((0, n_columns))


def _flux_densities(parameters: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Flux densities at observed wavelengths (n_wavelengths,); (n_samples, n_wavelengths)."""
    z, log_mass, dust, age, log_tau, log_agn, reddening, log_torus, inclination = (
        column[:, None] for column in parameters.T
    )
    rest = observed / (1.0 + z)  # (n_samples, n_wavelengths)

    weights = _age_weights(age[:, 0], 10.0 ** log_tau[:, 0])
    stars = _interpolate(weights @ _populations(), np.log(rest))
    stars *= 10.0**log_mass * np.exp(-dust * _calzetti(rest))

    eddington = 3.2e4  # solar luminosities per solar mass
    disc_luminosity = 0.1 * eddington * 1e7 * 10.0**log_agn * _disc_visibility(inclination)
    disc = disc_luminosity / 9.26 * (rest / 5100.0) ** -1.56 / 5100.0
    disc *= 10.0 ** (-0.4 * 2.74 * reddening * (rest / 5500.0) ** -1.2)

    opacity = 10.0  # m^2 / kg, Planck mean of hot dust
    per_mass = 4.0 * opacity * STEFAN_BOLTZMANN * 1400.0**4 * SOLAR_MASS / SOLAR_LUMINOSITY
    anisotropy = 0.5 * (1.0 + np.cos(np.radians(inclination)))
    torus = per_mass * 10.0**log_torus * anisotropy * _planck(rest, 1400.0)

    distance = np.interp(z, *_distance_table()) * MEGAPARSEC
    per_frequency = (stars + disc + torus) * rest**2 / SPEED_OF_LIGHT * SOLAR_LUMINOSITY
    flux = (1.0 + z) * per_frequency / (4.0 * np.pi * distance**2 * AB_ZERO)
    return flux * np.exp(-_intergalactic_depth(observed, z))


def _interpolate(spectra: np.ndarray, log_wavelength: np.ndarray) -> np.ndarray:
    """Each row of `spectra`, given on the rest-frame grid, at the row's own wavelengths."""
    step = _LOG_GRID[1] - _LOG_GRID[0]
    position = np.clip((log_wavelength - _LOG_GRID[0]) / step, 0.0, len(_LOG_GRID) - 1.001)
    index = position.astype(np.intp)
    share = position - index
    index += np.arange(len(spectra))[:, None] * spectra.shape[1]
    flat = spectra.ravel()
    return (1.0 - share) * flat.take(index) + share * flat.take(index + 1)


def noise_scale(flux: np.ndarray, sky: np.ndarray = SKY_NOISE) -> np.ndarray:
    """Standard deviation of an observed flux: sky, and calibration in proportion to the flux."""
    return np.hypot(sky, RELATIVE_NOISE * np.maximum(flux, 0.0))


def asinh_magnitudes(flux: np.ndarray, sky: np.ndarray = SKY_NOISE) -> np.ndarray:
    """Asinh magnitudes whose softening is the sky noise of each band."""
    return -2.5 / np.log(10.0) * (np.arcsinh(flux / (2.0 * sky)) + np.log(sky))


def magnitude_errors(flux: np.ndarray) -> np.ndarray:
    """1-sigma errors of the asinh magnitudes of an observed flux, to first order."""
    return 2.5 / np.log(10.0) * noise_scale(flux) / np.hypot(flux, 2.0 * SKY_NOISE)


def draw_parameters(n_samples: int, random_state: np.random.RandomState) -> np.ndarray:
    """Galaxies from the prior, (n_samples, 9).

    The redshift follows z^2 exp(-(z / 0.9)^1.5) inside its limits, the age is uniform up to the
    age of the universe at that redshift, the inclination is isotropic, and the rest is uniform
    inside its limits.
    """
    low, high = LIMITS.T
    parameters = random_state.uniform(low, high, size=(n_samples, len(PARAMETERS)))
    grid = np.linspace(LIMITS[0, 0], LIMITS[0, 1], 4000)
    density = grid**2 * np.exp(-((grid / 0.9) ** 1.5))
    cumulative = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    parameters[:, 0] = np.interp(
        random_state.uniform(size=n_samples), cumulative / cumulative[-1], grid
    )
    oldest = np.minimum(universe_age(parameters[:, 0]), high[3])
    parameters[:, 3] = low[3] + (oldest - low[3]) * random_state.uniform(size=n_samples)
    parameters[:, 8] = np.degrees(np.arccos(random_state.uniform(size=n_samples)))
    return parameters
