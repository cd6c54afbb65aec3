"""What was done to an exposure, as header cards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Card = tuple[str, str | int | float | bool | None, str]
"""Keyword, value and comment of a FITS header card."""


@dataclass(frozen=True)
class Provenance:
    """What was done to one image, by what, and how much was found.

    Attributes
    ----------
    version : str
        Version of crmend.
    detect_model, inpaint_model : str or None
        Names of the graphs; None = not used.
    detect_sha256, inpaint_sha256 : str or None
        Hashes of the graphs, 64 hexadecimal digits.
    threshold : float
        Probability from which a pixel counts as cosmic ray.
    seed_threshold : float or None
        Probability that the best pixel of its group must reach; None = groups do not matter.
    views : int or None
        How often the detection network saw the image; None = it differs from chip to chip.
    provider : str
        Execution provider that ran the graphs.
    cr_pixels, cr_events : int
        Pixels flagged, and connected groups of them.
    cr_rate : float or None
        [events / cm² / s]; None where pixel size or exposure time is unknown.
    star_pixels_added, star_pixels_freed : int or None
        Pixels on the cores of stars that the image's PSF made cosmic rays, and those that it
        freed of being one; None = no star was judged.
    rim_pixels_added : int or None
        Pixels beside those that the network flagged which hold charge of the same cosmic rays;
        0 where the image's masks leave none, None = not looked for.
    sources_touched : int or None
        Sources that hold cosmic-ray pixels; None = nothing was mended.
    pixels_network, pixels_median : int or None
        Pixels mended by the network, and by medians, means of the sky or along lines; None
        likewise.
    seconds : float
        Wall time from image to result.
    second_model, second_sha256 : str or None
        Of the graph that was asked about what that of detection doubts; None = none was.
    saturation_found : float or None
        The saturation level that was found on the image, in its unit; None = known, or none.
    """

    version: str
    detect_model: str | None
    detect_sha256: str | None
    inpaint_model: str | None
    inpaint_sha256: str | None
    threshold: float
    seed_threshold: float | None
    views: int | None
    provider: str
    cr_pixels: int
    cr_events: int
    cr_rate: float | None
    star_pixels_added: int | None
    star_pixels_freed: int | None
    rim_pixels_added: int | None
    sources_touched: int | None
    pixels_network: int | None
    pixels_median: int | None
    seconds: float
    second_model: str | None = None
    second_sha256: str | None = None
    saturation_found: float | None = None

    def to_cards(self) -> list[Card]:
        """Return the header cards, in the order in which they are written.

        The keywords stay clear of CRPIXn and CRVALn of the WCS.  STA_CRS = 0 means done,
        as in the CSST pipeline; CRCOUNT counts events.
        """
        return [
            ("STA_CRS", 0, "cosmic-ray step: 0 done, 1 failed"),
            ("CRCOUNT", self.cr_events, "cosmic-ray events found"),
            ("CRMVERS", self.version, "version of crmend"),
            # No comment beside a hash: the card is full.
            ("CRMDETMD", self.detect_model, "detection model"),
            ("CRMDETSH", self.detect_sha256, ""),
            ("CRMSNDMD", self.second_model, "asked where that doubts"),
            ("CRMSNDSH", self.second_sha256, ""),
            ("CRMINPMD", self.inpaint_model, "inpainting model"),
            ("CRMINPSH", self.inpaint_sha256, ""),
            ("CRMTHRES", _finite(self.threshold, 9), "cosmic-ray probability threshold"),
            ("CRMSEED", _finite(self.seed_threshold, 9), "probability that a group must reach"),
            ("CRMVIEWS", self.views, "views of the image that were averaged"),
            ("CRMPROV", self.provider, "execution provider"),
            ("CRMNPIX", self.cr_pixels, "cosmic-ray pixels"),
            ("CRMNEVT", self.cr_events, "cosmic-ray events (connected pixels)"),
            ("CRMRATE", _finite(self.cr_rate, 6), "[cm-2 s-1] cosmic-ray events"),
            ("CRMNADD", self.star_pixels_added, "of these, added on stars by their PSF"),
            ("CRMNFRE", self.star_pixels_freed, "pixels freed on stars by their PSF"),
            ("CRMNRIM", self.rim_pixels_added, "of CRMNPIX, added beside the network's"),
            ("CRMNSRC", self.sources_touched, "sources with cosmic-ray pixels"),
            ("CRMNNET", self.pixels_network, "pixels mended by the network"),
            ("CRMNMED", self.pixels_median, "pixels mended by medians or sky means"),
            (
                "CRMSATUR",
                _finite(self.saturation_found, 9),
                "saturation found on the image",
            ),
            ("CRMSECS", _finite(self.seconds, 4), "[s] wall time"),
        ]

    def history(self) -> str:
        """Return one line for HISTORY."""
        return (
            f"crmend {self.version}: {self.cr_events} cosmic rays, "
            f"{self.cr_pixels} pixels flagged"
        )


def combine(chips: Sequence[Provenance]) -> Provenance:
    """Return the provenance of a file with several chips.

    Counts and seconds are summed, the rate is averaged, and what differs from chip to
    chip is called "several".
    """
    seeds = {chip.seed_threshold for chip in chips}
    views = {chip.views for chip in chips}
    levels = {chip.saturation_found for chip in chips}
    rates = [chip.cr_rate for chip in chips if chip.cr_rate is not None]
    return Provenance(
        version=chips[0].version,
        detect_model=_common([chip.detect_model for chip in chips]),
        detect_sha256=_common([chip.detect_sha256 for chip in chips]),
        inpaint_model=_common([chip.inpaint_model for chip in chips]),
        inpaint_sha256=_common([chip.inpaint_sha256 for chip in chips]),
        threshold=math.nan if len({c.threshold for c in chips}) > 1 else chips[0].threshold,
        seed_threshold=math.nan if len(seeds) > 1 else chips[0].seed_threshold,
        views=None if len(views) > 1 else chips[0].views,
        provider=_common([chip.provider for chip in chips]) or "",
        cr_pixels=sum(chip.cr_pixels for chip in chips),
        cr_events=sum(chip.cr_events for chip in chips),
        cr_rate=sum(rates) / len(rates) if rates else None,
        star_pixels_added=_total([chip.star_pixels_added for chip in chips]),
        star_pixels_freed=_total([chip.star_pixels_freed for chip in chips]),
        rim_pixels_added=_total([chip.rim_pixels_added for chip in chips]),
        sources_touched=_total([chip.sources_touched for chip in chips]),
        pixels_network=_total([chip.pixels_network for chip in chips]),
        pixels_median=_total([chip.pixels_median for chip in chips]),
        seconds=sum(chip.seconds for chip in chips),
        second_model=_common([chip.second_model for chip in chips]),
        second_sha256=_common([chip.second_sha256 for chip in chips]),
        saturation_found=math.nan if len(levels) > 1 else chips[0].saturation_found,
    )


def _common(values: Sequence[str | None]) -> str | None:
    """Return the value that all share, or "several"."""
    return values[0] if len(set(values)) == 1 else "several"


def _total(counts: Sequence[int | None]) -> int | None:
    """Return the sum of what was counted, None where nothing was."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _finite(value: float | None, digits: int) -> float | None:
    """Return a number that a header can hold: rounded, or None if it is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")
