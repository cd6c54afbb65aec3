"""Simulated exposures as files, in the layout of the official simulation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from crmend.errors import InvalidInputError
from crmend_training._results import whole_file
from crmend_training.simulate.config import SimulationConfig
from crmend_training.simulate.exposure import SimulatedExposure

_FIRST_EXPOSURE = datetime(2027, 1, 1, tzinfo=UTC)
_CADENCE = 190.0  # seconds between exposures
_CD = (-8.17e-06, -1.886e-05, 1.886e-05, -8.17e-06)


def write_pair(
    sim: SimulatedExposure, folder: str | Path, *, without_cr: bool = False
) -> tuple[Path, Path]:
    """Write Level 1, the Level 0 cosmic-ray truth and the input catalogue.

    Files are named ``CSST_MSC_MS_<kind>_<start>_<end>_<obsid>_<chip>_L<level>_V01.fits``
    with kind ``SCI`` (Level 1: SCI, ERR, FLAG), ``CRS`` (Level 0: e-/px, and a table
    ``EVENTS`` of the particles) and ``CAT``.  Each appears under its name when it is
    complete; the Level 1 file comes last, so where it is, the others are.

    Parameters
    ----------
    sim : SimulatedExposure
        From `simulate_exposure`.
    folder : path
        Created where it does not exist; files of the same name are overwritten.
    without_cr : bool
        Also write the Level 1 image without cosmic rays, kind ``NCR``.

    Returns
    -------
    (Path, Path)
        Of the Level 1 file and of the cosmic-ray truth.

    Raises
    ------
    InvalidInputError
        `sim` has no CSST configuration.
    OutputError
        A file cannot be written.
    """
    if sim.config is None:
        raise InvalidInputError(
            "this exposure has no SimulationConfig; write_pair wants one of simulate_exposure"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    level1 = folder / file_name(sim.config, "SCI", 1)
    truth = folder / file_name(sim.config, "CRS", 0)
    image = fits.ImageHDU(sim.cr_truth, header=_wcs_header(sim), name="CRS")
    image.header["BUNIT"] = ("e-", "charge per pixel")
    _write([_primary(sim), image, _events(sim)], truth)
    _write([_primary(sim), _catalog(sim)], folder / file_name(sim.config, "CAT", 0))
    if without_cr:
        name = file_name(sim.config, "NCR", 1)
        _write_level1(sim, folder / name, [("SCI", sim.image_without_cr)])
    planes = [("SCI", sim.image), ("ERR", sim.error), ("FLAG", sim.flag)]
    _write_level1(sim, level1, planes)
    return level1, truth


def file_name(config: SimulationConfig, kind: str, level: int) -> str:
    """Return the official name of one product of an exposure."""
    start, end = _times(config)
    stamp = "%Y%m%d%H%M%S"
    return (
        f"CSST_MSC_MS_{kind}_{start.strftime(stamp)}_{end.strftime(stamp)}_"
        f"{_observation(config)}_{config.detector:02d}_L{level}_V01.fits"
    )


def _write(hdus, path):
    with whole_file(path) as temporary:
        fits.HDUList(hdus).writeto(temporary)


def _write_level1(sim, path, planes):
    """Write image planes behind a primary header."""
    hdus = [_primary(sim)]
    for name, data in planes:
        hdu = fits.ImageHDU(data, header=_wcs_header(sim), name=name)
        if name == "SCI":
            _describe_image(sim, hdu.header)
        if name != "FLAG":
            hdu.header["BUNIT"] = "e-/s"
        hdus.append(hdu)
    _write(hdus, path)


def _primary(sim):
    """Return the primary HDU: which exposure this is."""
    start, end = _times(sim.config)
    config = sim.config
    header = fits.Header()
    header["TELESCOP"] = "CSST"
    header["INSTRUME"] = "MSC"
    header["DETECTOR"] = f"CHIP{config.detector:02d}"
    header["OBSID"] = _observation(config)
    header["OBJECT"] = config.field
    header["DATE-OBS"] = start.strftime("%Y-%m-%dT%H:%M:%S")
    header["DATE-END"] = end.strftime("%Y-%m-%dT%H:%M:%S")
    header["EXPTIME"] = (sim.exposure_time, "[s]")
    header["FILTER"] = config.band.name
    header["SIMSEED"] = (config.seed, "seed of the simulated exposure")
    header["SIMFIELD"] = (config.field, "kind of simulated sky")
    header["SIMCRLAW"] = (config.law, "cosmic-ray law")
    header["SIMOFF"] = ",".join(config.without)
    header["SIMBF"] = (config.brighter_fatter, "brighter-fatter effect")
    return fits.PrimaryHDU(header=header)


def _describe_image(sim, header):
    """Add the keywords that say what the image's numbers mean, in place."""
    camera = sim.camera
    per_pixel = camera.read_noise**2 + (sim.sky + camera.dark) * sim.exposure_time
    header["FILTER"] = sim.config.band.name
    header["GAIN1"] = (camera.gain, "[e-/ADU]")
    header["RDNOISE1"] = (camera.read_noise, "[e-]")
    header["SATURATE"] = (camera.ceiling / sim.exposure_time, "[e-/s]")
    header["SKY_BKG"] = (sim.sky, "[e-/s]")
    header["SKY_RMS"] = (float(np.sqrt(per_pixel)) / sim.exposure_time, "[e-/s]")
    header["ZP"] = (sim.zero_point, "AB magnitude of 1 e-/s")
    header["CRCOUNT"] = (0, "cosmic-ray events found")
    header["STA_CRS"] = (1, "0 done, 1 not done or failed")


def _wcs_header(sim):
    """Return a TPV world coordinate system with a small radial distortion."""
    ny, nx = sim.image.shape
    header = fits.Header()
    right_ascension, declination = _pointing(sim)
    header["WCSAXES"] = 2
    header["CTYPE1"], header["CTYPE2"] = "RA---TPV", "DEC--TPV"
    header["CUNIT1"], header["CUNIT2"] = "deg", "deg"
    header["CRVAL1"], header["CRVAL2"] = right_ascension, declination
    header["CRPIX1"], header["CRPIX2"] = 0.5 * (nx + 1), 0.5 * (ny + 1)
    header["CD1_1"], header["CD1_2"], header["CD2_1"], header["CD2_2"] = _CD
    for axis in (1, 2):
        header[f"PV{axis}_0"] = 0.0
        header[f"PV{axis}_1"] = 1.0
        header[f"PV{axis}_2"] = 0.0
        header[f"PV{axis}_7"] = 2.0e-4
        header[f"PV{axis}_9"] = 2.0e-4
    header["RADESYS"] = "ICRS"
    header["EQUINOX"] = 2000.0
    return header


def _catalog(sim):
    """Return the input catalogue, 0-based pixel positions."""
    units = {"x": "pix", "y": "pix", "mag": "mag", "r_half": "pix", "r_bulge": "pix"}
    hdu = _table(sim.catalog, "CAT", units | {"position_angle": "rad"})
    # The FITS standard has no unit for electrons.
    number = list(sim.catalog.dtype.names).index("flux") + 1
    hdu.header.comments[f"TTYPE{number}"] = "[e-/s]"
    return hdu


def _events(sim):
    """Return the table of particles, 0-based pixel positions."""
    units = {"x": "pix", "y": "pix", "length": "pix", "angle": "rad"}
    hdu = _table(sim.cr_events, "EVENTS", units)
    number = list(sim.cr_events.dtype.names).index("energy") + 1
    hdu.header.comments[f"TTYPE{number}"] = "[e-] charge left in the frame"
    return hdu


def _table(rows, name, units):
    """Return a structured array as a binary table."""
    table = Table(rows)
    for column, unit in units.items():
        table[column].unit = unit
    hdu = fits.table_to_hdu(table)
    hdu.name = name
    return hdu


def _times(config):
    """Return start and end; exposures follow each other by their seed."""
    start = _FIRST_EXPOSURE + timedelta(seconds=_CADENCE * config.seed)
    return start, start + timedelta(seconds=config.exposure_time)


def _observation(config):
    """Return the 11-digit observation number."""
    return f"101{config.seed % 10**8:08d}"


def _pointing(sim):
    """Return a position on the sky that belongs to the seed [deg]."""
    rng = np.random.default_rng([sim.config.seed, 7])
    return float(rng.uniform(0.0, 360.0)), float(rng.uniform(-60.0, 60.0))
