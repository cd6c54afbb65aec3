"""Cross-dispersed spectra: many narrow, bent orders close together, of one or more fibres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crmend_training.simulate.psf_models import log_uniform
from crmend_training.simulate.slit import along_dispersion, smooth_curve, spectral_features

_SIGMA = 2.3548
_REACH = 6.0  # sigma across, where an order's profile ends
_EMISSION = 0.15  # share of the frames whose objects have emission lines, in all orders


@dataclass(frozen=True)
class Echelle:
    """Part of an echelle spectrogram.

    Ranges are assumed, from published layouts of fibre-fed spectrographs: orders 6 to 40 px
    apart that lean and bend, one to three fibres in each, one of which may hold a lamp.
    Brightness is in units of `noise`, so that one law suits any camera.

    Attributes
    ----------
    noise : float
        1 sigma of a pixel of empty sky [e-/s].
    fwhm : float
        Of unresolved lines along the dispersion [px].
    spacing : (float, float)
        Distance of orders [px], log-uniform.
    peak : (float, float)
        Range of the brightness of the brightest order, log-uniform.
    lamp : float
        Probability that one fibre holds a lamp's emission lines.
    lines : (float, float)
        Lamp lines per 1000 px of an order, log-uniform.
    line_peak : (float, float)
        Range of the brightness of lamp lines, log-uniform.
    along_rows : bool or None
        Dispersion along x (True) or y; None draws it.
    """

    noise: float
    fwhm: float = 2.5
    spacing: tuple[float, float] = (6.0, 40.0)
    peak: tuple[float, float] = (1.0, 1000.0)
    lamp: float = 0.4
    lines: tuple[float, float] = (5.0, 60.0)
    line_peak: tuple[float, float] = (1.0, 5000.0)
    along_rows: bool | None = None


def add_orders(
    rng: np.random.Generator, scene: NDArray[np.float32], echelle: Echelle
) -> NDArray[np.float32]:
    """Add the light of a cross-dispersed spectrum to a scene, in place.

    Parameters
    ----------
    rng : numpy.random.Generator
    scene : (ny, nx) float32 array
        e-/s per pixel; without stars.
    echelle : Echelle

    Returns
    -------
    (ny, nx) float32 array
        `scene` itself.
    """
    for_layout, for_light = rng.spawn(2)
    view = along_dispersion(for_layout, scene, echelle.along_rows)
    n_space, n_wave = view.shape
    t = np.linspace(-1.0, 1.0, n_wave)
    spacing = log_uniform(for_layout, *echelle.spacing)
    bend = n_wave * (for_layout.normal(0.0, 0.03) * t + for_layout.normal(0.0, 0.01) * t * t)
    fibres = int(for_layout.choice([1, 1, 2, 3]))
    apart = spacing * for_layout.uniform(0.7, 1.0) / fibres
    # As wide as a fibre's share of the room, at most; flat-topped where an image is sliced.
    sigma = min(log_uniform(for_layout, 1.2, 6.0) / _SIGMA, 0.35 * apart)
    power = for_layout.uniform(2.0, 4.0)
    faint = [1.0, *10.0 ** for_layout.uniform(-2.5, 0.0, fibres - 1)]
    lamp = int(for_layout.integers(fibres)) if for_layout.random() < echelle.lamp else None
    peak = log_uniform(for_light, *echelle.peak) * echelle.noise
    # How the orders' brightness rises and falls from order to order, and along each.
    middle, wide = for_layout.uniform(-1.0, 1.0), log_uniform(for_layout, 0.4, 5.0)
    drift = for_layout.normal(0.0, 0.1)
    first = for_layout.uniform(-1.0, 0.0) * spacing - np.abs(bend).max()
    count = int((n_space + 2.0 * np.abs(bend).max()) / spacing) + 2
    trend = smooth_curve(for_light, max(count, 8))
    density = log_uniform(for_light, *echelle.lines)
    emission = float(for_light.random() < _EMISSION)
    for order in range(count):
        blaze = np.sinc((t - middle - drift * (order / count - 0.5)) / wide) ** 2
        for fibre in range(fibres):
            place = first + order * spacing + fibre * apart + bend
            if fibre == lamp:
                light = _lamp_lines(for_light, n_wave, density, echelle) * blaze
            else:
                features = spectral_features(for_light, n_wave, echelle.fwhm, emission)
                light = peak * faint[fibre] * trend[order] * blaze * features
            _add_order(view, place, light, sigma, power)
    # Light that scatters between the orders.
    scattered = for_light.uniform(0.0, 0.01) * float(view.mean())
    view += np.float32(scattered)
    return scene


def _lamp_lines(rng, n_wave, density, echelle):
    """Return the brightness of a lamp along one order: unresolved emission lines alone."""
    wave, light = np.arange(n_wave), np.zeros(n_wave)
    width = max(echelle.fwhm, 1.2) / _SIGMA
    for _ in range(rng.poisson(density * n_wave / 1000.0)):
        height = log_uniform(rng, *echelle.line_peak) * echelle.noise
        light += height * np.exp(-0.5 * ((wave - rng.uniform(0, n_wave)) / width) ** 2)
    return light


def _add_order(view, place, light, sigma, power):
    """Add one fibre of one order, in place."""
    low = max(int(np.floor(place.min() - _REACH * sigma)), 0)
    high = min(int(np.ceil(place.max() + _REACH * sigma)) + 1, view.shape[0])
    if low < high:
        distance = np.abs(np.arange(low, high)[:, None] - place) / sigma
        view[low:high] += (light * np.exp(-0.5 * distance**power)).astype(np.float32)
