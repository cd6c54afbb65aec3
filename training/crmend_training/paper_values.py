"""What the paper reports, and the bars of its reproduction: the numbers that ours stand beside.

All from Yu et al., *Cosmic Ray Detection and Rejection for CSST*; the places are named.
"""

from __future__ import annotations

RECALL, RECALL_SD = 97.90, 0.18
"""[%] of CR pixels > 5 e-, mean and SD (abstract, section 4.1)."""

PRECISION, PRECISION_SD = 98.67, 0.05
"""[%], any pixel > 0 e- counts as true (abstract, section 4.1)."""

DIP = (6.0, 20.0)
"""Charges [e-] between which recall dips (section 4.1); Figure 3 gives no number."""

ONE_ELECTRON = 10.0
"""[%] of CR pixels that hold 1 e- (section 4.1)."""

CONTAMINATED = {"star": 2.5, "galaxy": 4.1}
"""[%] of sources that CRs contaminate (section 4.3); how near a CR must be is not said."""

REPRESENTATIVE = (("galaxy", 17.72), ("star", 18.55), ("galaxy", 21.00), ("star", 23.20))
"""Type and magnitude of the sources of Figure 5, panels a to d (section 4.2)."""

FAINT_STAR = {
    "contaminated": (-0.55, 0.30),
    "median filter": (1.91, 0.95),
    "mended": (0.03, 0.37),
}
"""Δmag of panel d, CRs on the centre of the star: value and error (section 4.2)."""

TABLE_1 = {
    "star": {"direct": 19_563, "masked": 14_635, "mended": 18_784},
    "galaxy": {"direct": 172_979, "masked": 166_406, "mended": 186_907},
    "total": {"direct": 192_921, "masked": 181_397, "mended": 206_064},
}
"""Detected sources of 50 frames of each of 18 detectors (Table 1).  The totals exceed stars
plus galaxies by 356 to 379; the paper does not say what the others are."""

GAIN = 13.6
"""[%] more sources mended than masked (abstract, section 4.3): 206,064 over 181,397."""

SSIM = {"star": 0.749, "galaxy": 0.914}
"""Of the magnitude distribution after mending and the true one, detector 08 (Figure 7)."""

FRAMES = {
    "figure 2": "1,221 exposures of each of 18 detectors",
    "figure 3": "1,221 exposures of each of 18 detectors",
    "figure 4": "20 exposures of detector 09",
    "figure 5": "four sources, 100 CRs each, per detector",
    "figure 6": "50 full frames of each of 18 detectors",
    "table 1": "50 full frames of each of 18 detectors",
    "figure 7": "detector 08",
}
"""What each result of the paper is from."""

RANGE_RATIO = 1.15
"""Largest 5–95 % range of Δmag, mended over CR-free, in any bin above the limit."""

MEDIAN_SHIFT = 0.01
"""Largest |median Δmag, mended − CR-free| there [mag]."""
