"""Simulated exposures with known cosmic rays.

Read in this order: `bands` and `config` (what), `catalog`, `focal_plane`, `psf`, `optics`,
`galaxies`, `scene`, `artefacts`, `slit`, `echelle` (light), `cosmic_rays`, `detector`,
`readout` (charge), `setups` and `exposure` (the whole story), `files` (FITS pairs).
"""

from crmend_training.simulate.bands import BANDS, DETECTOR_BANDS, FIELDS
from crmend_training.simulate.config import EFFECTS, LAWS, SimulationConfig
from crmend_training.simulate.exposure import (
    SimulatedExposure,
    generic_exposure,
    simulate_exposure,
)
from crmend_training.simulate.files import file_name, write_pair

__all__ = [
    "BANDS",
    "DETECTOR_BANDS",
    "EFFECTS",
    "FIELDS",
    "LAWS",
    "SimulatedExposure",
    "SimulationConfig",
    "file_name",
    "generic_exposure",
    "simulate_exposure",
    "write_pair",
]
