"""Fixtures of the runtime tests: small Level 1 files written by astropy alone."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


# --- the command line ---------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Return the one JSON object on stdout."""
        return json.loads(self.out)


@pytest.fixture
def crmend_cli(monkeypatch, capsys) -> Callable[..., Outcome]:
    """Return a runner of the command line, with the tiny packs: crmend_cli(*words)."""
    pytest.importorskip("onnxruntime")
    from crmend.cli import main

    monkeypatch.setenv("CRMEND_MODELS", str(Path(__file__).parents[1] / "data" / "packs"))

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def noisy(level1) -> Callable[..., Path]:
    """Return a writer of Level 1 frames that can be cleaned: noisy(**level1's arguments).

    A sky of 10 with noise 1, a star at (40, 30), two cosmic rays, one on the star; FLAG has
    a bad and a saturated pixel.
    """

    def write(**kwargs) -> Path:
        return level1([("SCI", noisy_image()), *noisy_planes()], **kwargs)

    return write


def noisy_image() -> np.ndarray:
    """Return the image of `noisy`."""
    rng = np.random.default_rng(5)
    image = rng.normal(10.0, 1.0, (72, 90))
    y, x = np.indices(image.shape)
    image += 300.0 * np.exp(-((x - 40.0) ** 2 + (y - 30.0) ** 2) / 8.0)
    image[31, 42] += 4000.0
    image[60, 11] += 4000.0
    return image.astype(np.float32)


def noisy_planes() -> list[tuple[str, np.ndarray]]:
    """Return ERR and FLAG of `noisy`."""
    flag = np.zeros((72, 90), np.uint16)
    flag[3, 4], flag[50, 50], flag[60, 11] = 1, 8, 64
    return [("ERR", np.ones((72, 90), np.float32)), ("FLAG", flag)]


@pytest.fixture
def interruptible():
    """Take signals as on a terminal: jobs in the background and under nohup ignore some."""
    ways = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, way) for number, way in ways.items()}
    yield
    for number, way in before.items():
        signal.signal(number, way)


@pytest.fixture
def header() -> fits.Header:
    """Return a tangent-plane header: 0.1 arcsec/px, RA 150, DEC 2 at x = 9, y = 19."""
    header = fits.Header()
    header.update(CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=150.0, CRVAL2=2.0)
    header.update(CRPIX1=10.0, CRPIX2=20.0, CD1_1=-0.1 / 3600, CD2_2=0.1 / 3600)
    header.update(CD1_2=0.0, CD2_1=0.0)
    return header
