"""What one simulated exposure looks like: the settings, checked once."""

from __future__ import annotations

from dataclasses import dataclass

from crmend.errors import InvalidInputError, UnknownDetectorError
from crmend_training.simulate.bands import (
    BANDS,
    DETECTOR_BANDS,
    FIELDS,
    FULL_SHAPE,
    Band,
    Field,
)

LAWS = ("paper", "paper-subpixel", "physical", "physical-ions")

EFFECTS = (
    "psf",
    "stars",
    "galaxies",
    "pairs",
    "large_galaxy",
    "ghosts",
    "satellites",
    "moving_objects",
    "defects",
    "prnu",
    "channels",
    "streaks",
    "nonlinearity",
    "cti",
    "residuals",
)
"""What `SimulationConfig.without` can switch off.

Telescope: the PSF of CSST; without it stars have the PSF of any telescope, with wings or none.
Sky: field stars and galaxies, close pairs and blends, a nearby large galaxy now and then,
ghosts of bright stars, satellite trails, moving objects.  Chip: bad, hot and warm pixels and
bad columns; pixel response; gain and noise that differ between channels; row and column
pattern noise with streak lines; non-linearity; charge-transfer inefficiency; residuals of
bias, dark, flat and gain in Level 1.
"""

_OBSERVATIONS = 10**8


@dataclass(frozen=True)
class SimulationConfig:
    """Settings of one simulated CSST exposure; the same settings give the same bits.

    Parameters
    ----------
    detector : int
        One of the 18 imaging chips.
    shape : (int, int)
        Rows and columns; at least 64 by 64, at most the whole chip's.
    seed : int
        Seed of the exposure, >= 0.  The chip's own fingerprint (response, bad pixels,
        channel gains) depends on `detector` and `shape` only.
    field : str
        One of `crmend_training.simulate.FIELDS`.
    sky : float or None
        Sky level [e-/s/px]; None draws it between the band's low and high sky.
    law : {"paper", "paper-subpixel", "physical", "physical-ions"}
        Cosmic-ray law: the paper's numbers with charge freed at pixel centres or anywhere,
        or particles in silicon, in a training set also with ten times as many ions; see
        `crmend_training.simulate.cosmic_rays`.
    cr_rate : float or None
        Expected fraction of pixels: on the track cores (``paper``), with at least 1 e-
        (``physical``).  None: 0.0075 for ``paper``, log-uniform 0.0008-0.025 for
        ``physical``.  0 gives none.
    exposure_time : float
        Seconds.
    without : tuple of str
        Effects to leave out, of `EFFECTS`; the random numbers of the others stay the same.
    brighter_fatter : bool
        Charge repels charge: bright stars are wider than faint ones.
    """

    detector: int
    shape: tuple[int, int] = FULL_SHAPE
    seed: int = 0
    field: str = "high"
    sky: float | None = None
    law: str = "paper"
    cr_rate: float | None = None
    exposure_time: float = 150.0
    without: tuple[str, ...] = ()
    brighter_fatter: bool = False

    def __post_init__(self) -> None:
        if self.detector not in DETECTOR_BANDS:
            raise UnknownDetectorError(
                f"no imaging detector {self.detector!r}; expected one of "
                f"{sorted(DETECTOR_BANDS)}"
            )
        if self.field not in FIELDS:
            raise InvalidInputError(f"unknown field {self.field!r}; expected {sorted(FIELDS)}")
        if self.law not in LAWS:
            raise InvalidInputError(f"unknown cosmic-ray law {self.law!r}; expected {LAWS}")
        if len(self.shape) != 2 or min(self.shape) < 64:
            raise InvalidInputError(f"shape is {self.shape}; expected two numbers >= 64")
        if any(n > full for n, full in zip(self.shape, FULL_SHAPE, strict=True)):
            raise InvalidInputError(
                f"shape is {self.shape}, larger than a chip; expected at most {FULL_SHAPE}, "
                "rows and columns: give a smaller shape, or several frames"
            )
        if self.cr_rate is not None and not 0.0 <= self.cr_rate <= 0.2:
            raise InvalidInputError(f"cr_rate is {self.cr_rate}; expected 0 to 0.2")
        if not self.exposure_time > 0.0:
            raise InvalidInputError(f"exposure_time is {self.exposure_time}; expected > 0 s")
        if unknown := set(self.without) - set(EFFECTS):
            raise InvalidInputError(
                f"without names {sorted(unknown)}; expected some of {sorted(EFFECTS)}"
            )
        if not 0 <= self.seed < _OBSERVATIONS:
            raise InvalidInputError(
                f"seed is {self.seed}; expected 0 to {_OBSERVATIONS - 1}, since it is the "
                "number of the observation, of eight digits"
            )

    @property
    def band(self) -> Band:
        """The filter in front of the detector."""
        return BANDS[DETECTOR_BANDS[self.detector]]

    @property
    def sky_field(self) -> Field:
        """The kind of sky that `field` names."""
        return FIELDS[self.field]
