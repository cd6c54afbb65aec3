"""What cosmic-ray images hold: figures that can be laid beside published ones.

Charge images are in e-/px, as `simulate.cosmic_rays` draws them and as the truth files hold
them.  An event is a set of 8-connected pixels above a threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

TRACK_LENGTH = 6.0
"""Events of at least this length [px] count as tracks, others as points.  The paper says only
that points "may span several pixels"; the limit is ours."""

COMPONENT_DTYPE = np.dtype(
    [("x", "f8"), ("y", "f8"), ("size", "i8"), ("energy", "f8"), ("length", "f8")]
)
"""One event of an image: centre of its charge [px, 0-based], number of pixels, charge [e-],
and length [px]: of the straight line with the same spread of pixels along its major axis."""


@dataclass(frozen=True)
class Fractions:
    """Shares of pixels.

    Attributes
    ----------
    above_0, above_1, above_5 : float
        Of all pixels, those with more than 0, 1 and 5 e-.
    one_electron : float
        Of the pixels with charge, those with exactly 1 e-.
    """

    above_0: float
    above_1: float
    above_5: float
    one_electron: float


def pixel_fractions(charge: NDArray[np.float32]) -> Fractions:
    """Return the shares of pixels that the paper quotes.

    Parameters
    ----------
    charge : (ny, nx) float array
        Whole e-/px.
    """
    hit = np.count_nonzero(charge > 0)
    single = np.count_nonzero((charge > 0) & (charge <= 1))
    return Fractions(
        above_0=hit / charge.size,
        above_1=(hit - single) / charge.size,
        above_5=np.count_nonzero(charge > 5) / charge.size,
        one_electron=single / max(hit, 1),
    )


def label_events(charge: NDArray[np.float32], threshold: float = 0.0):
    """Return the events of an image.

    Parameters
    ----------
    charge : (ny, nx) float array
        e-/px.
    threshold : float
        Pixels above it belong to events [e-].

    Returns
    -------
    labels : (ny, nx) int32 array
        0 outside, k in pixels of ``events[k - 1]``.
    events : (n,) structured array of `COMPONENT_DTYPE`
    """
    labels, n_events = ndimage.label(charge > threshold, np.ones((3, 3)))
    y, x = np.nonzero(labels)
    index, amount = labels[y, x] - 1, charge[y, x].astype(float)

    def total(weights=None):
        return np.bincount(index, weights, minlength=n_events)

    events = np.empty(n_events, dtype=COMPONENT_DTYPE)
    events["size"] = size = total()
    events["energy"] = energy = total(amount)
    events["x"], events["y"] = total(amount * x) / energy, total(amount * y) / energy
    dx, dy = x - (total(x) / size)[index], y - (total(y) / size)[index]
    # A pixel is not a point: it adds 1/12 to each variance.
    xx, yy = total(dx * dx) / size + 1 / 12, total(dy * dy) / size + 1 / 12
    xy = total(dx * dy) / size
    major = 0.5 * (xx + yy) + np.hypot(0.5 * (xx - yy), xy)
    events["length"] = np.sqrt(12.0 * major)
    return labels, events


def intensity_histograms(
    charge: NDArray[np.float32], edges: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count pixels by their charge: of all events, and of track-like ones.

    Parameters
    ----------
    charge : (ny, nx) float array
        e-/px.
    edges : (n + 1,) array
        Of the bins [e-].

    Returns
    -------
    (n,) int array, (n,) int array
        Their ratio, tracks over all, is the black line of the paper's figure 4.
    """
    labels, events = label_events(charge)
    of_track = np.concatenate([[False], events["length"] >= TRACK_LENGTH])[labels]
    every, _ = np.histogram(charge[labels > 0], edges)
    tracks, _ = np.histogram(charge[of_track], edges)
    return every, tracks


def event_rate(
    n_events: int, n_pixels: int, exposure_time: float, pixel_size: float = 10.0
) -> float:
    """Return events per cm² and second.

    Parameters
    ----------
    n_events, n_pixels : int
    exposure_time : float
        [s].
    pixel_size : float
        [µm].
    """
    return n_events / (n_pixels * (pixel_size * 1e-4) ** 2 * exposure_time)
