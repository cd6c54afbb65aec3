"""What is done to rare frames after they were read out: see `unusual.KINDS`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crmend_training.simulate.psf_models import log_uniform
from crmend_training.simulate.unusual import Unusual

if TYPE_CHECKING:
    from crmend_training.simulate.exposure import SimulatedExposure

_IMAGES = ("image", "image_without_cr")
_PLANES = (*_IMAGES, "light")


def processed(
    rng: np.random.Generator,
    sim: SimulatedExposure,
    unusual: Unusual,
    sky: NDArray[np.float32] | None = None,
) -> SimulatedExposure:
    """Return an exposure after what its kind does to frames; other kinds come back as they are.

    Parameters
    ----------
    rng : numpy.random.Generator
    sim : SimulatedExposure
    unusual : Unusual
    sky : (ny, nx) float32 array, optional
        Light to be subtracted, e-/s; for the kind ``subtracted``.
    """
    if unusual.kind == "subtracted" and sky is not None:
        return _subtracted(rng, sim, sky)
    step = {"resampled": _resampled, "spikes": _spiked, "uneven": _uneven}.get(unusual.kind)
    return sim if step is None else step(rng, sim)


def _subtracted(rng, sim, sky):
    """Subtract the sky, as well as a pipeline models it; then resample two in three."""
    model = ndimage.shift(sky, rng.normal(0.0, 0.05, 2), order=1, mode="nearest")
    sim = _changed(sim, _PLANES, -model * np.float32(1.0 + rng.normal(0.0, 0.01)))
    return _resampled(rng, sim) if rng.random() < 2.0 / 3.0 else sim


def _changed(sim, names, added, error=0.0):
    """Return an exposure with the same added to some of its planes [e-/s], and more error."""
    planes = {
        name: (getattr(sim, name) + added).astype(np.float32)
        for name in names
        if getattr(sim, name) is not None
    }
    return replace(sim, error=np.hypot(sim.error, error).astype(np.float32), **planes)


def _spiked(rng, sim):
    """Raise single pixels by chance, exponentially distributed: each is noise here."""
    noise = float(np.median(sim.error))
    share, mean = log_uniform(rng, 0.01, 0.1), log_uniform(rng, 2.0, 30.0) * noise
    spikes = rng.exponential(mean, sim.image.shape) * (rng.random(sim.image.shape) < share)
    return _changed(sim, _IMAGES, spikes.astype(np.float32), np.sqrt(2.0 * share) * mean)


def _uneven(rng, sim):
    """Add noise of another size in each pixel, and in a few a signal that jumps."""
    noise, shape = float(np.median(sim.error)), sim.image.shape
    size = log_uniform(rng, 0.3, 1.5) * noise * rng.lognormal(0.0, rng.uniform(0.3, 0.9), shape)
    jumping = rng.random(shape) < log_uniform(rng, 1e-3, 3e-2)
    jump = log_uniform(rng, 3.0, 20.0) * noise * rng.choice([-1.0, 0.0, 1.0], shape) * jumping
    added = rng.normal(size=shape) * size + jump
    return _changed(sim, _IMAGES, added.astype(np.float32), size + np.abs(jump))


def _resampled(rng, sim):
    """Interpolate a frame on a shifted, turned and stretched grid of the same shape."""
    turn, stretch = rng.normal(0.0, 0.01), log_uniform(rng, 0.6, 1.1)
    cos, sin = np.cos(turn) * stretch, np.sin(turn) * stretch
    matrix = np.array([[cos, -sin], [sin, cos]])
    middle = 0.5 * (np.array(sim.image.shape) - 1.0)
    offset = middle - matrix @ middle + rng.uniform(-0.5, 0.5, 2)
    # Bilinear, or splines that ring as Lanczos' kernel does.
    order = int(rng.choice([1, 3, 3, 5]))

    def moved(plane, order=order, mode="mirror"):
        return ndimage.affine_transform(plane, matrix, offset, order=order, mode=mode)

    sample = moved(rng.normal(size=sim.image.shape).astype(np.float32))
    planes = {
        name: moved(getattr(sim, name)) for name in _PLANES if getattr(sim, name) is not None
    }
    flag = np.zeros_like(sim.flag)
    for bit in range(8):
        marked = ndimage.grey_dilation(sim.flag >> bit & 1, size=(3, 3))
        flag |= moved(marked, order=0).astype(np.int32) << bit
    hot = sim.unknown_hot
    if hot is not None:
        hot = _moved_pixels(hot, matrix, offset, sim.image.shape)
    return replace(
        sim,
        error=np.maximum(moved(sim.error, order=1) * np.float32(sample.std()), 0.0),
        flag=flag,
        cr_truth=np.maximum(moved(sim.cr_truth), 0.0),
        unknown_hot=hot,
        **planes,
    )


def _moved_pixels(pixels, matrix, offset, shape):
    """Return the indices of the pixels around where some pixels come to lie."""
    places = np.linalg.solve(matrix, np.stack(pixels) - offset[:, None])
    rows, columns = np.rint(places).astype(int)
    steps = np.mgrid[-1:2, -1:2].reshape(2, 9)
    rows, columns = (a[:, None] + b for a, b in zip((rows, columns), steps, strict=True))
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    return rows[inside], columns[inside]
