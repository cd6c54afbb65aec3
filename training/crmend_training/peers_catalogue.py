"""Every method of the benchmark: where it runs, and over what it is tuned."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from crmend_training.peers_worker.finders import COSMIC_CONN_MODELS, DEEPCR_MODELS

TASKS = ("detect", "mend")

OWN, PEERS, COSMIC_CONN = "own", "peers", "cosmic_conn"
"""Environments: the one that runs this; the peers'; that of the GPL program."""

LEVELS = (2.0, 3.0, 4.0, 5.0, 6.5, 9.0, 13.0, 20.0, 40.0)
"""Thresholds in sigma that trace the curve of a method without probabilities."""

TUNING_LEVELS = (3.0, 5.0, 9.0, 20.0)
"""Those of `LEVELS` at which settings are tuned."""


@dataclass(frozen=True)
class Peer:
    """A method.

    Attributes
    ----------
    name : str
        As `peers_worker` knows it; "crmend …" are ours.
    task : {"detect", "mend"}
    place : {"own", "peers", "cosmic_conn"}
        Environment that it runs in.
    sweep : str
        Setting that takes the values of `LEVELS`; "" = the method gives probabilities.
    grid : mapping
        Values over which the other settings are tuned on validation frames.
    levels : tuple of float
        Of the sweep.
    kept : int
        Combinations of the grid kept at most, each the best in some figure.
    tuning_side : int
        Of the parts of validation frames that the grid runs on [px].
    note : str
        Settings, for the report.
    """

    name: str
    task: str
    place: str = PEERS
    sweep: str = ""
    grid: Mapping[str, Sequence[float]] = field(default_factory=dict)
    levels: tuple[float, ...] = LEVELS
    kept: int = 3
    tuning_side: int = 512
    note: str = ""

    @property
    def key(self) -> str:
        """Name of its folder."""
        return "".join(c if c.isalnum() else "_" for c in f"{self.task} {self.name}")

    def families(self) -> list[dict[str, float]]:
        """Return every combination of the tuned settings."""
        return [
            dict(zip(self.grid, values, strict=True))
            for values in itertools.product(*self.grid.values())
        ]

    def settings(
        self,
        families: Sequence[Mapping[str, float]],
        levels: Sequence[float] | None = None,
    ) -> list[dict[str, float]]:
        """Return these families of settings at every level of the sweep, or at those given."""
        if not self.sweep:
            return [{}]
        levels = self.levels if levels is None else levels
        return [dict(family) | {self.sweep: x} for family in families for x in levels]


_LACOSMIC = {"sigfrac": (0.1, 0.3, 0.5), "objlim": (0.5, 2.0, 5.0)}
_TUNED = "settings of the validation frames; read noise, saturation, PSF given"

DETECTION = (
    Peer("crmend own pack", "detect", OWN, note="pack of the frame's detector, its default"),
    Peer("crmend generic", "detect", OWN, note="pack generic, its default"),
    Peer("crmend own pack, one view", "detect", OWN, note="its default, sees the frame once"),
    Peer("crmend generic, one view", "detect", OWN, note="its default, sees the frame once"),
    Peer("crmend own pack, reference", "detect", OWN, note="DeepCR of the frame's detector"),
    Peer("crmend generic, reference", "detect", OWN, note="DeepCR of the pack generic"),
    *(
        Peer(f"deepCR {name}", "detect", note="electrons, sky in; ADU for decam; no seams")
        for name in (*DEEPCR_MODELS, "ACS-WFC, sky subtracted")
    ),
    *(
        Peer(f"Cosmic-CoNN {name}", "detect", COSMIC_CONN,
             note="its program, start included; probability as compressed in its file")
        for name in COSMIC_CONN_MODELS
    ),
    Peer("astroscrappy", "detect", PEERS, "sigclip", _LACOSMIC, note=_TUNED),
    # It fills pixel by pixel in Python, 9 CPU seconds per megapixel and setting: fewer of them.
    Peer("lacosmic", "detect", PEERS, "sigclip", _LACOSMIC, (3.0, 5.0, 9.0, 20.0, 40.0), 2, 256,
         _TUNED),
    Peer("ccdproc lacosmic", "detect", PEERS, "sigclip",
         note="its defaults, sigclip swept; read noise, saturation, PSF given"),
    Peer("ccdproc median", "detect", PEERS, "thresh", {"mbox": (5, 7, 11)}, note=_TUNED),
)  # fmt: skip

MENDING = (
    Peer("crmend own pack", "mend", OWN, note="pack of the frame's detector"),
    Peer("crmend generic", "mend", OWN, note="pack generic"),
    Peer("crmend adaptive median", "mend", OWN, note="3×3 growing to 11×11, everywhere"),
    Peer("5×5 median", "mend", note="good pixels only"),
    Peer("maskfill", "mend", note="defaults, a cutout per CR"),
    Peer("astropy interpolate", "mend", note="Gaussian kernel as wide as the PSF, repeated"),
    Peer("OpenCV NS", "mend", note="radius 3 px, 1000 grey levels per sigma"),
    Peer("OpenCV Telea", "mend", note="radius 3 px, 1000 grey levels per sigma"),
    Peer("biharmonic", "mend", note="scikit-image, a cutout per CR"),
    Peer("deepCR median", "mend", note="its default, 5×5"),
    Peer("deepCR ACS-WFC-F606W-2-32", "mend", note="its HST network, electrons, sky in"),
    Peer("Gaussian process", "mend", note="scikit-learn, as LSST's: √2 PSF sigma, 160 pixels"),
    Peer("untouched", "mend", note="the CRs left in, for scale"),
)


def choose(names: Sequence[str] | None, task: str) -> list[Peer]:
    """Return the methods of a task, all or those named.

    A name stands for all methods that begin with it: "deepCR", "crmend".

    Raises
    ------
    ValueError
        No method of either task has that name.
    """
    every = {"detect": DETECTION, "mend": MENDING}
    for name in names or ():
        if not any(p.name.startswith(name) for t in TASKS for p in every[t]):
            known = sorted({p.name for t in TASKS for p in every[t]})
            raise ValueError(f"no method is called {name!r}; expected one of {known}")
    kept = [p for p in every[task] if names is None or p.name.startswith(tuple(names))]
    return list(kept)
