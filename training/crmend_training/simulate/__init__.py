"""Simulated exposures with known cosmic rays.

Read in this order: `bands` and `config` (what), `catalog`, `psf`, `scene` (light),
`cosmic_rays`, `detector` (charge), `exposure` (the whole story), `files` (FITS pairs).
"""

from crmend_training.simulate.bands import BANDS, DETECTOR_BANDS, FIELDS
from crmend_training.simulate.config import SimulationConfig
from crmend_training.simulate.exposure import (
    SimulatedExposure,
    generic_exposure,
    simulate_exposure,
)
from crmend_training.simulate.files import write_pair

__all__ = [
    "BANDS",
    "DETECTOR_BANDS",
    "FIELDS",
    "SimulatedExposure",
    "SimulationConfig",
    "generic_exposure",
    "simulate_exposure",
    "write_pair",
]
