"""Long-slit-like frames: traces of spectra and sky lines instead of a star field."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BLOCK = 256  # rows at a time
_SIGMA = 2.3548


@dataclass(frozen=True)
class Slit:
    """A long-slit spectrum.  Ranges were chosen after looking at WHT/ISIS and LT/SPRAT frames.

    Brightness is in units of `noise`, so that one law suits any camera.

    Attributes
    ----------
    noise : float
        1 sigma of a pixel of empty sky [e-/s].
    fwhm : float
        Of traces and lines [px].
    traces : float
        Mean number of objects on the slit; 0 for none.
    trace_peak : (float, float)
        Range of the peak brightness of a trace, log-uniform.
    lines : float
        Sky lines per 1000 px; frames have a fifth of it to 2.5 times as many.  0 for none.
    line_peak : (float, float)
        Range of the peak brightness of a sky line, log-uniform.
    continuum : float
        Largest brightness of the sky continuum, log-uniform over three decades; 0 for none.
    slit_ends : float
        Probability that the slit ends inside the frame; beyond its ends it is dark.
    along_rows : bool or None
        Dispersion along x (True) or y; None draws it.
    tilt, bend : float
        By how much lines lean [px per px], and bend between the middle and an end of the slit
        [px]; 1 sigma of each.
    """

    noise: float
    fwhm: float = 2.5
    traces: float = 1.5
    trace_peak: tuple[float, float] = (1.0, 300.0)
    lines: float = 30.0
    line_peak: tuple[float, float] = (0.5, 150.0)
    continuum: float = 30.0
    slit_ends: float = 0.5
    along_rows: bool | None = None
    tilt: float = 0.002
    bend: float = 1.0


def add_longslit(
    rng: np.random.Generator, scene: NDArray[np.float32], slit: Slit
) -> NDArray[np.float32]:
    """Add the light of a long-slit spectrum to a scene, in place.

    Parameters
    ----------
    rng : numpy.random.Generator
    scene : (ny, nx) float32 array
        e-/s per pixel; without stars.
    slit : Slit

    Returns
    -------
    (ny, nx) float32 array
        `scene` itself.
    """
    for_layout, for_sky, for_traces = rng.spawn(3)
    view = along_dispersion(for_layout, scene, slit.along_rows)
    n_space, n_wave = view.shape
    window = _slit_window(for_layout, n_space, slit)
    response = smooth_curve(for_layout, n_wave, edges=True)
    tilt, curve = for_layout.normal(0.0, slit.tilt), for_layout.normal(0.0, slit.bend)
    sky = _sky_spectrum(for_sky, n_wave, slit, response)
    traces = _draw_traces(for_traces, view.shape, slit, response)
    flat = 1.0 + for_sky.normal(0.0, 0.01) * np.linspace(-1.0, 1.0, n_space)
    wave, middle = np.arange(n_wave), 0.5 * n_space
    for start in range(0, n_space, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, n_space))
        for row in rows:
            # Lines lean and bend a little along the slit.
            t = (row - middle) / middle
            shift = tilt * (row - middle) + curve * t * t
            view[row] += window[row] * flat[row] * np.interp(wave - shift, wave, sky)
        view[rows] += _trace_light(rows, traces) * window[rows, None]
    return scene


def along_dispersion(
    rng: np.random.Generator, scene: NDArray[np.float32], along_rows: bool | None
) -> NDArray[np.float32]:
    """Return a view of a scene in which the dispersion runs along the second axis.

    In the scene it runs along x (True) or y; None draws it.
    """
    if along_rows is None:
        along_rows = rng.random() < 0.5
    return scene if along_rows else scene.T


def _slit_window(rng, n_space, slit):
    """Return the transmission along the slit: 1, with soft ends and, rarely, a notch."""
    s = np.arange(n_space, dtype=np.float64)
    window = np.ones(n_space)
    if rng.random() < slit.slit_ends:
        low, high = rng.uniform(0.02, 0.15), rng.uniform(0.8, 0.98)
        window /= 1.0 + np.exp(-(s - low * n_space) / 1.0)
        window /= 1.0 + np.exp((s - high * n_space) / 1.0)
    for _ in range(rng.poisson(0.5)):
        # Dust on the slit jaws.
        depth, width = rng.uniform(0.05, 0.4), rng.uniform(0.7, 2.0)
        window *= 1.0 - depth * np.exp(-0.5 * ((s - rng.uniform(0, n_space)) / width) ** 2)
    return window


def smooth_curve(rng, n, edges=False):
    """Return a smooth positive curve of peak 1, falling at both ends if `edges`."""
    s = np.linspace(0.0, 1.0, n)
    knots = rng.uniform(0.3, 1.0, 6)
    curve = np.interp(s, np.linspace(0.0, 1.0, 6), knots)
    width = max(3, n // 6)
    kernel = np.hanning(width + 2)
    curve = np.convolve(np.pad(curve, width, mode="edge"), kernel / kernel.sum(), mode="same")
    curve = curve[width : width + n]
    if edges:
        low, high = rng.uniform(-0.1, 0.2), rng.uniform(0.8, 1.1)
        curve = curve / (1.0 + np.exp(-(s - low) / 0.03)) / (1.0 + np.exp((s - high) / 0.03))
    return curve / curve.max()


def _sky_spectrum(rng, n_wave, slit, response):
    """Return the sky's brightness along the dispersion: continuum, lines alone and in bands.

    OH lines stand in bands of which the strength falls from the head; half of the lines
    here do so, as in ISIS red frames.
    """
    wave = np.arange(n_wave, dtype=np.float64)
    sky = np.zeros(n_wave)
    if slit.continuum > 0.0:
        level = slit.continuum * 10.0 ** rng.uniform(-3.0, 0.0)
        sky += level * smooth_curve(rng, n_wave)
    width = max(slit.fwhm, 1.2) / _SIGMA
    density = slit.lines * 10.0 ** rng.uniform(-0.7, 0.4)  # blue and red spectra
    n_lines = rng.poisson(density * n_wave / 1000.0)
    strongest = np.exp(rng.uniform(np.log(slit.line_peak[0] * 10.0), np.log(slit.line_peak[1])))
    n_bands = rng.poisson(max(n_wave / 800.0, 1.0)) if n_lines else 0
    heads = rng.uniform(0.0, n_wave, n_bands)
    band_strength = strongest * 10.0 ** rng.uniform(-1.0, 0.0, n_bands)
    for _ in range(n_lines):
        if n_bands and rng.random() < 0.6:
            band, away = rng.integers(n_bands), rng.exponential(0.05 * n_wave)
            place, peak = heads[band] + away, band_strength[band]
            peak *= np.exp(-away / (0.04 * n_wave)) * rng.uniform(0.3, 1.0)
        else:
            place = rng.uniform(0.0, n_wave)
            peak = np.exp(rng.uniform(np.log(slit.line_peak[0]), np.log(strongest)))
        sky += peak * np.exp(-0.5 * ((wave - place) / width) ** 2)
    return sky * response * slit.noise


def _draw_traces(rng, shape, slit, response):
    """Return (place, brightness, sigma) of each object along the dispersion."""
    n_space, n_wave = shape
    t = np.linspace(-1.0, 1.0, n_wave)
    traces = []
    for _ in range(rng.poisson(slit.traces)):
        place = rng.uniform(0.1, 0.9) * n_space
        place = place + rng.normal(0.0, 0.004) * n_space * t + rng.normal(0.0, 1.5) * t * t
        # Seeing changes slowly with wavelength; one in five objects is extended.
        sigma = max(slit.fwhm, 1.2) / _SIGMA * (1.0 - 0.1 * rng.random() * t)
        if rng.random() < 0.2:
            sigma = sigma * rng.uniform(2.0, 8.0)
        peak = np.exp(rng.uniform(*np.log(slit.trace_peak))) * slit.noise
        brightness = peak * response * smooth_curve(rng, n_wave)
        traces.append((place, brightness * spectral_features(rng, n_wave, slit.fwhm), sigma))
    return traces


def spectral_features(rng, n_wave, fwhm, emission=0.3):
    """Return a spectrum's lines: absorption, and emission in so many of them."""
    wave, spectrum = np.arange(n_wave), np.ones(n_wave)
    for _ in range(rng.poisson(n_wave / 60.0)):
        width = max(fwhm, 1.2) / _SIGMA * np.exp(rng.uniform(0.0, 1.5))
        depth = rng.beta(1.0, 6.0)
        spectrum *= 1.0 - depth * np.exp(-0.5 * ((wave - rng.uniform(0, n_wave)) / width) ** 2)
    if rng.random() < emission:
        for _ in range(rng.poisson(5.0)):
            width = max(fwhm, 1.2) / _SIGMA
            line = np.exp(-0.5 * ((wave - rng.uniform(0, n_wave)) / width) ** 2)
            spectrum += np.exp(rng.uniform(np.log(0.3), np.log(30.0))) * line
    return spectrum


def _trace_light(rows, traces):
    """Return the traces' light on some rows, with weak Moffat-like wings."""
    light = np.zeros((rows.size, traces[0][0].size if traces else 1), dtype=np.float32)
    for place, brightness, sigma in traces:
        distance2 = ((rows[:, None] - place) / sigma) ** 2
        # beta = 3: a core like a Gaussian of the same FWHM, and the wings of seeing.
        profile = (1.0 + distance2 * (2.0 ** (1.0 / 3.0) - 1.0) / 1.3863) ** -3.0
        light += (brightness * profile).astype(np.float32)
    return light
