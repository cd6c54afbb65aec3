"""The false-positive zoo: a Level 1 frame without cosmic rays that is full of look-alikes.

Everything is drawn by the simulator's own parts, but in known places, so that every pixel
has a label.  Whatever a detector of cosmic rays finds in it is a mistake, and the label says
of which kind.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from crmend.errors import InvalidInputError
from crmend_training._zoo_painters import (
    CLASSES,
    PAINTERS,
    SHAPE,
    ZOO_SEED,
    Canvas,
    add_defects,
    label_readout,
    read_chip,
)
from crmend_training.simulate import SimulatedExposure, SimulationConfig, file_name, write_pair
from crmend_training.simulate.artefacts import TRAIL
from crmend_training.simulate.catalog import SOURCE_DTYPE
from crmend_training.simulate.cosmic_rays import EVENT_DTYPE
from crmend_training.simulate.detector import make_chip
from crmend_training.simulate.readout import Readout

__all__ = ["CLASSES", "SHAPE", "Zoo", "make_zoo", "read_zoo", "write_asset", "write_zoo"]

IMAGE_STEP, ERROR_STEP = 2.0**-10, 2.0**-13
"""To what an asset rounds its image and error [e-/s]: 2 % and 0.2 % of the sky's noise."""

_LABELS = "zoo_labels.fits"


@dataclass(frozen=True)
class Zoo:
    """A frame full of look-alikes.

    Attributes
    ----------
    exposure : SimulatedExposure
        Without cosmic rays: `cr_truth` is 0, and `image_without_cr` is `image`.
    labels : (ny, nx) uint8 array
        Which of `classes` a pixel belongs to; 0 is plain sky.
    classes : tuple of str
        Names of the labels.
    """

    exposure: SimulatedExposure
    labels: NDArray[np.uint8]
    classes: tuple[str, ...] = CLASSES

    def mask(self, name: str) -> NDArray[np.bool_]:
        """Return where a class is: a new (ny, nx) bool array.

        Raises
        ------
        InvalidInputError
            There is no such class.
        """
        if name not in self.classes:
            raise InvalidInputError(f"no class {name!r} in the zoo; expected {self.classes}")
        return self.labels == self.classes.index(name)


def make_zoo(detector: int = 9, seed: int = 0) -> Zoo:
    """Draw the zoo; the same numbers give the same bits.

    Parameters
    ----------
    detector : int
        One of the 18 imaging chips: its band, sky and ghosts.  The bits of the chip are not
        those of `simulate_exposure`: four channels meet in the middle of the frame.
    seed : int
        Of noise and of what is not in a fixed place.

    Returns
    -------
    Zoo
    """
    canvas = Canvas(_config(detector, seed))
    rng = np.random.default_rng([ZOO_SEED, seed, detector])
    for_chip, for_hot, *streams = rng.spawn(2 + len(PAINTERS))
    for paint, stream in zip(PAINTERS, streams, strict=True):
        paint(canvas, stream)
    chip = add_defects(canvas, for_hot, make_chip(for_chip, canvas.camera, SHAPE))
    canvas.scene += np.float32(canvas.sky)
    readout = read_chip(canvas, chip)
    label_readout(canvas, readout)
    readout.flag[canvas.labels == CLASSES.index("satellite trail")] |= TRAIL
    return Zoo(_as_exposure(canvas, readout, _catalog(canvas)), canvas.labels)


def write_zoo(zoo: Zoo, folder: str | Path) -> Path:
    """Write the zoo as files, in the official layout; return the path of Level 1.

    Parameters
    ----------
    zoo : Zoo
    folder : path
        It gets the files of `simulate.write_pair` and ``zoo_labels.fits``.
    """
    level1, _ = write_pair(zoo.exposure, folder)
    _labels(zoo, fits.ImageHDU(zoo.labels)).writeto(Path(folder) / _LABELS, overwrite=True)
    return level1


def write_asset(zoo: Zoo, folder: str | Path) -> Path:
    """Write the zoo compactly, for tests: rounded and tile-compressed; return Level 1's path.

    Parameters
    ----------
    zoo : Zoo
    folder : path
        Level 1 (with the catalogue in it) and ``zoo_labels.fits``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(zoo.exposure.config, "SCI", 1)
    steps = {"SCI": IMAGE_STEP, "ERR": ERROR_STEP, "FLAG": 1}
    with tempfile.TemporaryDirectory() as temporary:
        level1, _ = write_pair(zoo.exposure, temporary)
        catalog = Path(temporary) / file_name(zoo.exposure.config, "CAT", 0)
        with fits.open(level1) as planes, fits.open(catalog) as rows:
            hdus = [planes[0], *(_compressed(hdu, steps[hdu.name]) for hdu in planes[1:])]
            fits.HDUList([*hdus, rows["CAT"]]).writeto(path, overwrite=True)
    labels = fits.CompImageHDU(zoo.labels, compression_type="GZIP_1")
    _labels(zoo, labels).writeto(folder / _LABELS, overwrite=True)
    return path


def read_zoo(folder: str | Path) -> Zoo:
    """Read what `write_asset` wrote.

    Parameters
    ----------
    folder : path

    Returns
    -------
    Zoo
        Like that of `make_zoo`, but rounded to `IMAGE_STEP` and `ERROR_STEP`.
    """
    folder = Path(folder)
    with fits.open(folder / _LABELS) as hdus:
        labels, header = hdus["LABEL"].data.astype(np.uint8), hdus["LABEL"].header
        classes = tuple(header[f"CLASS{n:02d}"] for n in range(header["NCLASS"]))
        config = _config(header["DETECTOR"], header["SEED"])
    with fits.open(folder / file_name(config, "SCI", 1)) as hdus:
        image, error = (hdus[name].data.astype(np.float32) for name in ("SCI", "ERR"))
        readout = Readout(image, error, hdus["FLAG"].data.astype(np.int32), image)
        catalog = Table(hdus["CAT"].data).as_array().astype(SOURCE_DTYPE)
    return Zoo(_as_exposure(Canvas(config), readout, catalog), labels, classes)


def _config(detector: int, seed: int) -> SimulationConfig:
    return SimulationConfig(detector, SHAPE, seed=seed, field="high", cr_rate=0.0)


def _catalog(canvas: Canvas) -> NDArray[np.void]:
    """Return all that was painted, with the columns that a painter leaves out."""
    catalog = np.concatenate(canvas.rows)
    catalog["id"] = np.arange(1, catalog.size + 1)
    catalog["mag"] = canvas.config.band.zero_point - 2.5 * np.log10(catalog["flux"])
    return catalog


def _as_exposure(
    canvas: Canvas, readout: Readout, catalog: NDArray[np.void]
) -> SimulatedExposure:
    """Return the frame as the simulator would."""
    return SimulatedExposure(
        image=readout.image,
        error=readout.error,
        flag=readout.flag,
        cr_truth=np.zeros(SHAPE, dtype=np.float32),
        cr_events=np.zeros(0, dtype=EVENT_DTYPE),
        image_without_cr=readout.image,
        catalog=catalog,
        camera=canvas.camera,
        psf=canvas.psf,
        sky=canvas.sky,
        exposure_time=canvas.config.exposure_time,
        zero_point=canvas.config.band.zero_point,
        config=canvas.config,
    )


def _compressed(hdu, step):
    """Return an image, rounded to a step, as a lossless tile-compressed HDU."""
    data = np.rint(hdu.data / step) * step
    data = data.astype(hdu.data.dtype.newbyteorder("="))
    is_float = data.dtype.kind == "f"
    return fits.CompImageHDU(
        data,
        header=hdu.header,
        name=hdu.name,
        compression_type="GZIP_2",
        quantize_level=0.0 if is_float else 16.0,
    )


def _labels(zoo, hdu):
    """Return the HDUs of a label file around an image HDU."""
    hdu.name = "LABEL"
    hdu.header["DETECTOR"] = zoo.exposure.config.detector
    hdu.header["SEED"] = zoo.exposure.config.seed
    hdu.header["NCLASS"] = len(zoo.classes)
    for number, name in enumerate(zoo.classes):
        hdu.header[f"CLASS{number:02d}"] = (name, f"label {number}")
    return fits.HDUList([fits.PrimaryHDU(), hdu])
