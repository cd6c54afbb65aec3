"""What `crmend.clean` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from crmend._provenance import Provenance
from crmend.sources import SourceCatalog


@dataclass(frozen=True)
class Stats:
    """Figures of one cleaned image.

    Attributes
    ----------
    cr_pixels, cr_events : int
        Cosmic-ray pixels, and 8-connected groups of them.
    cr_rate : float or None
        [events / cm² / s]; None where pixel size or exposure time is unknown.
    star_pixels_added, star_pixels_freed : int or None
        Pixels on the cores of stars that the image's PSF made cosmic rays, and those that it
        freed of being one; None = no star was judged.
    rim_pixels_added : int or None
        Pixels beside those that the network flagged which hold charge of the same cosmic rays;
        0 where the image's masks leave none, None = not looked for.
    sources_found, sources_touched : int
        Stars and galaxies, and those of them with cosmic-ray pixels.
    pixels_network, pixels_median : int
        Pixels mended by the network, and by the adaptive median, a mean of the sky or a line.
    seconds : mapping
        Wall time of the stages ``detect``, ``sources`` (the judgement of stars, too),
        ``median`` and ``network`` in the order in which they began, and ``total``, which holds
        the loading of models too.
    provider : str
        The onnxruntime provider that ran the networks.
    detect_model, inpaint_model : str
        Names of the graphs.
    detect_sha256, inpaint_sha256 : str
        Their hashes.
    threshold : float
        Smallest cr_probability of a cosmic-ray pixel.
    seed_threshold : float or None
        Smallest cr_probability of the best pixel of a group; None = groups do not matter.
    views : int
        How often the detection network saw the image.
    second_model, second_sha256 : str or None
        Name and hash of the graph that was asked about what that of detection doubts; None =
        none was, as where a threshold is given.
    saturation_found : float or None
        The image's maximum, where its stars have flat tops and nobody said what is saturated.
    """

    cr_pixels: int
    cr_events: int
    cr_rate: float | None
    star_pixels_added: int | None
    star_pixels_freed: int | None
    rim_pixels_added: int | None
    sources_found: int
    sources_touched: int
    pixels_network: int
    pixels_median: int
    seconds: Mapping[str, float]
    provider: str
    detect_model: str
    detect_sha256: str
    inpaint_model: str
    inpaint_sha256: str
    threshold: float
    seed_threshold: float | None
    views: int
    second_model: str | None = None
    second_sha256: str | None = None
    saturation_found: float | None = None


@dataclass(frozen=True, eq=False)
class CleanResult:
    """A cleaned image and all that was learnt on the way.

    Attributes
    ----------
    image : (ny, nx) float32 array
        In the input's unit; differs from it at the pixels of `cr_mask` only.
    error : (ny, nx) float32 array
        1-sigma, in the input's unit: the input's, or without one the background noise
        everywhere; at mended pixels that of the new value.
    cr_mask : (ny, nx) bool array
        True = cosmic ray.
    cr_probability : (ny, nx) float32 array
        0 … 1, the network's; 0 at invalid and saturated pixels.
    flag : (ny, nx) int32 array
        The input's flag plane, else zeros, with the cosmic-ray bit set.
    sources : SourceCatalog
        Stars and galaxies.
    method : (ny, nx) uint8 array
        0 = untouched, 1 = adaptive median, mean of the sky or line, 2 = network.
    stats : Stats
        Figures.
    """

    image: NDArray[np.float32]
    error: NDArray[np.float32]
    cr_mask: NDArray[np.bool_]
    cr_probability: NDArray[np.float32]
    flag: NDArray[np.int32]
    sources: SourceCatalog
    method: NDArray[np.uint8]
    stats: Stats

    def __repr__(self) -> str:
        stats, shape = self.stats, np.shape(self.image)
        share = 100.0 * stats.cr_pixels / max(np.size(self.image), 1)
        return (
            f"<CleanResult shape {shape}, {stats.cr_pixels:,} cosmic-ray pixels "
            f"({share:.2f} %) in {stats.cr_events:,} events, {stats.pixels_network:,} pixels "
            f"mended by the network; {stats.detect_model}, threshold {stats.threshold:g}>"
        )

    @property
    def provenance(self) -> Provenance:
        """Return what `crmend.write_exposure` writes into the header."""
        stats = self.stats
        return Provenance(
            version=version("crmend"),
            detect_model=stats.detect_model,
            detect_sha256=stats.detect_sha256,
            inpaint_model=stats.inpaint_model,
            inpaint_sha256=stats.inpaint_sha256,
            threshold=stats.threshold,
            seed_threshold=stats.seed_threshold,
            views=stats.views,
            provider=stats.provider,
            cr_pixels=stats.cr_pixels,
            cr_events=stats.cr_events,
            cr_rate=stats.cr_rate,
            star_pixels_added=stats.star_pixels_added,
            star_pixels_freed=stats.star_pixels_freed,
            rim_pixels_added=stats.rim_pixels_added,
            sources_touched=stats.sources_touched,
            pixels_network=stats.pixels_network,
            pixels_median=stats.pixels_median,
            seconds=stats.seconds["total"],
            second_model=stats.second_model,
            second_sha256=stats.second_sha256,
            saturation_found=stats.saturation_found,
        )
