"""Fixtures of the runtime tests: small Level 1 files written by astropy alone."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

IMAGE = np.array(
    [[0.5, 1.5, 2.5, 3.5], [4.5, 5.5, 6.5, 7.5], [8.5, 9.5, 10.5, 11.5]], np.float32
)
KEYWORDS = {"INSTRUME": "MSC", "DETECTOR": "CHIP08", "EXPTIME": 150.0}


@pytest.fixture
def image() -> np.ndarray:
    """Return a 3 x 4 image without a value twice."""
    return IMAGE.copy()


@pytest.fixture
def level1(tmp_path: Path) -> Callable[..., Path]:
    """Return a writer of small Level 1 files: level1(planes, keywords, name) -> path.

    `planes` is a list of (EXTNAME or "", array or HDU); `keywords` change the primary
    header (None removes one).
    """

    def write(planes=None, keywords=None, name="frame_L1.fits", bunit="e/s") -> Path:
        primary = fits.PrimaryHDU()
        for key, value in {**KEYWORDS, **(keywords or {})}.items():
            if value is not None:
                primary.header[key] = value
        hdus = [primary]
        for extname, data in [("SCI", IMAGE)] if planes is None else planes:
            hdu = data if isinstance(data, (fits.ImageHDU, fits.CompImageHDU)) else None
            hdu = fits.ImageHDU(np.array(data)) if hdu is None else hdu
            if extname:
                hdu.header["EXTNAME"] = extname
            if len(hdus) == 1 and bunit:
                hdu.header["BUNIT"] = bunit
            hdus.append(hdu)
        path = tmp_path / name
        fits.HDUList(hdus).writeto(path, overwrite=True)
        return path

    return write


def _mounted(folder: Path, options: str) -> Iterator[Path]:
    """Mount a small file system on a folder for the time of a test, or skip."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine does not let the tests mount a tmpfs ({error})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a disk of 1 MiB, or skip."""
    yield from _mounted(tmp_path / "disk", "size=1m")


@pytest.fixture
def read_only_folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that nobody can write to, root included, or skip."""
    if os.geteuid() == 0:
        yield from _mounted(tmp_path / "locked", "size=1m,ro")
        return
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    yield folder
    folder.chmod(0o755)
