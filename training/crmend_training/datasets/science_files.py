"""Files of a scientific test set: one FITS file per source, and an index of all of them.

``CRMEND_SCIENCE_<chip>_<type>_<wanted mag>.fits`` holds one source with all its CRs:

========= ======================== =====================================================
HDU       data                     keywords
========= ======================== =====================================================
primary   none                     DETECTOR, FILTER, SRCFILE, SRCX, SRCY [px, 0-based, in
                                   the exposure], SRCTYPE, SRCRHALF [px], TYPEWANT,
                                   MAGWANT, MAGTOL, NCR and those below
CLEAN     (64, 64) float32         the source without any CR; BUNIT
IGNORE    (64, 64) uint8           1 = bad, hot or saturated
PSF       (k, 4) float64           the exposure's PSF from its other stars
                                   (`crmend._psf.measure_psf`); none where it is not known
HIT, n    (64, 64) float32         the source with CR number n = EXTVER, 1 …; CRENERGY,
                                   CRDIST, CRANGLE, CRNPIX and those below
MASK, n   (64, 64) uint8           1 = CR > 1 e-
========= ======================== =====================================================

CRENERGY [e-] is the charge of the Level 0 truth, CRDIST [px] and CRANGLE [deg, from x towards
y] lead from the source to the CR's centre of charge, CRNPIX counts MASK.  TYPEWANT and MAGWANT
[mag] are what was asked for, MAGTOL [mag] is how far the source's own magnitude, SRCMAG, may be
from that; SRCRHALF is the catalogue's half-light radius (0 for stars).  SRCMAG [mag], ZP [mag
of 1 unit], BKGNOISE and BKGLEVEL [in BUNIT] and the source's place in the stamp,
STAMPX and STAMPY [px, 0-based], stand in the primary header and in those of CLEAN and HIT.

``index.csv`` has a row for every detector, type and magnitude asked for, found or not: a gap
has an empty ``file`` and says why in ``gap``.  It is written last.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from crmend_training._results import whole_file
from crmend_training.datasets.inpainting import CUTOUT

INDEX = "index.csv"

_HALF = CUTOUT // 2


@dataclass(frozen=True, eq=False)
class ScienceSource:
    """A source without cosmic rays; images are (64, 64) in the exposure's unit.

    ``stamp_x`` and ``stamp_y`` are the source's place in the stamp [px], ``half_light`` is the
    catalogue's half-light radius [px], ``type_wanted`` the type asked for (``any`` where either
    would do), ``psf`` has no row where it is not known; the rest as in the module's table.
    """

    clean: NDArray[np.float32]
    ignore: NDArray[np.bool_]
    detector: int
    band: str
    file: str
    kind: str
    x: float
    y: float
    magnitude: float
    wanted: float
    zero_point: float
    noise: float
    background: float
    unit: str
    half_light: float = 0.0
    tolerance: float = 1.0
    type_wanted: str = "any"
    psf: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 4)))

    @property
    def stamp_x(self) -> float:
        """Column of the source in the stamp."""
        return self.x - np.floor(self.x + 0.5) + _HALF

    @property
    def stamp_y(self) -> float:
        """Row of the source in the stamp."""
        return self.y - np.floor(self.y + 0.5) + _HALF

    @property
    def file_name(self) -> str:
        """Name of the file that holds this source and its CRs."""
        what = f"{self.detector:02d}_{self.type_wanted}_{self.wanted:04.1f}"
        return f"CRMEND_SCIENCE_{what}.fits"


@dataclass(frozen=True, eq=False)
class ScienceCase:
    """One CR on one source: the stamp with it, its mask, its energy and place."""

    source: ScienceSource
    hit: NDArray[np.float32]
    mask: NDArray[np.bool_]
    energy: float
    distance: float
    angle: float


@dataclass(frozen=True)
class IndexRow:
    """One line of the index: what was asked for, and the file or the reason of the gap.

    ``cosmic_rays`` counts the HIT extensions; ``magnitude`` is empty where there is a gap.
    """

    detector: int
    band: str
    type: str
    wanted: float
    file: str = ""
    magnitude: float | None = None
    cosmic_rays: int = 0
    gap: str = ""


def write_science(path: Path, cases: Sequence[ScienceCase]) -> Path:
    """Write the cases of one source; see the module for the layout."""
    source = cases[0].source
    common = _common_header(source)
    hdus: list = [fits.PrimaryHDU(header=_primary_header(source, len(cases), common))]
    hdus.append(fits.ImageHDU(source.clean, common, name="CLEAN"))
    hdus.append(fits.ImageHDU(source.ignore.astype(np.uint8), name="IGNORE"))
    if len(source.psf):
        hdus.append(fits.ImageHDU(source.psf, name="PSF"))
    for number, case in enumerate(cases, start=1):
        header = common.copy()
        header["CRENERGY"] = (case.energy, "[e-] charge of the cosmic ray")
        header["CRDIST"] = (case.distance, "[px] from the source to its centre of charge")
        header["CRANGLE"] = (case.angle, "[deg] the direction there, from x towards y")
        header["CRNPIX"] = (int(case.mask.sum()), "pixels > 1 e-")
        hdus.append(fits.ImageHDU(case.hit, header, name="HIT", ver=number))
        hdus.append(fits.ImageHDU(case.mask.astype(np.uint8), name="MASK", ver=number))
    with whole_file(path) as temporary:
        fits.HDUList(hdus).writeto(temporary)
    return path


def read_science(path: Path) -> Iterator[ScienceCase]:
    """Yield the cases of one science file in the order of their number."""
    with fits.open(path, memmap=False) as hdus:
        source = _source_of(hdus)
        for number in range(1, hdus[0].header["NCR"] + 1):
            hit = hdus["HIT", number]
            yield ScienceCase(
                source=source,
                hit=hit.data.astype(np.float32),
                mask=hdus["MASK", number].data > 0,
                energy=hit.header["CRENERGY"],
                distance=hit.header["CRDIST"],
                angle=hit.header["CRANGLE"],
            )


def write_index(folder: Path, rows: Sequence[IndexRow]) -> Path:
    """Write ``index.csv``."""
    path = Path(folder) / INDEX
    with whole_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, [column.name for column in fields(IndexRow)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    return path


def read_index(path: Path) -> list[IndexRow]:
    """Read ``index.csv``."""
    with Path(path).open(newline="") as file:
        return [
            IndexRow(
                detector=int(row["detector"]),
                band=row["band"],
                type=row["type"],
                wanted=float(row["wanted"]),
                file=row["file"],
                magnitude=float(row["magnitude"]) if row["magnitude"] else None,
                cosmic_rays=int(row["cosmic_rays"]),
                gap=row["gap"],
            )
            for row in csv.DictReader(file)
        ]


def find_science(folder: Path) -> list[Path]:
    """Return the files of every set below a folder, in the order of their indices.

    Raises
    ------
    FileNotFoundError
        There is no index, or a file that it names is not there.
    """
    indices = sorted(Path(folder).rglob(INDEX))
    if not indices:
        raise FileNotFoundError(
            f"no {INDEX} below {folder}; expected a folder that `crmend-train dataset science` "
            "wrote"
        )
    paths = [
        index.parent / row.file for index in indices for row in read_index(index) if row.file
    ]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{missing[0]} stands in its index and is not there; make the set anew"
        )
    return paths


def _primary_header(source: ScienceSource, count: int, common: fits.Header) -> fits.Header:
    header = fits.Header()
    header["DETECTOR"] = f"CHIP{source.detector:02d}"
    header["FILTER"] = source.band
    header["SRCFILE"] = source.file
    header["SRCTYPE"] = source.kind
    header["SRCX"] = (source.x, "[px] column in the exposure, 0-based")
    header["SRCY"] = (source.y, "[px] row in the exposure, 0-based")
    header["SRCRHALF"] = (source.half_light, "[px] half-light radius of the catalogue")
    header["TYPEWANT"] = (source.type_wanted, "type asked for")
    header["MAGWANT"] = (source.wanted, "[mag] magnitude asked for")
    header["MAGTOL"] = (source.tolerance, "[mag] SRCMAG may differ by so much")
    header["NCR"] = (count, "number of HIT extensions")
    header.update(common)
    return header


def _common_header(source: ScienceSource) -> fits.Header:
    header = fits.Header()
    header["SRCMAG"] = (source.magnitude, "[mag] of the input catalogue")
    header["ZP"] = (source.zero_point, "[mag] of 1 BUNIT")
    header["BKGNOISE"] = (source.noise, "[BUNIT] background noise, 1 sigma")
    header["BKGLEVEL"] = (source.background, "[BUNIT] background of the exposure")
    header["STAMPX"] = (source.stamp_x, "[px] column of the source, 0-based")
    header["STAMPY"] = (source.stamp_y, "[px] row of the source, 0-based")
    header["BUNIT"] = source.unit
    return header


def _source_of(hdus: fits.HDUList) -> ScienceSource:
    """Return the source of an open file."""
    head = hdus[0].header
    known = {"psf": hdus["PSF"].data.astype(np.float64)} if "PSF" in hdus else {}
    return ScienceSource(
        clean=hdus["CLEAN"].data.astype(np.float32),
        ignore=hdus["IGNORE"].data > 0,
        detector=int(head["DETECTOR"][-2:]),
        band=head["FILTER"],
        file=head["SRCFILE"],
        kind=head["SRCTYPE"],
        x=head["SRCX"],
        y=head["SRCY"],
        magnitude=head["SRCMAG"],
        wanted=head["MAGWANT"],
        zero_point=head["ZP"],
        noise=head["BKGNOISE"],
        background=head["BKGLEVEL"],
        unit=head["BUNIT"],
        half_light=head["SRCRHALF"],
        tolerance=head["MAGTOL"],
        type_wanted=head["TYPEWANT"],
        **known,
    )
