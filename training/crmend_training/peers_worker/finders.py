"""Detection by each method, in electrons with the sky in."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

DEEPCR_MODELS = (
    "ACS-WFC", "ACS-WFC-F435W", "ACS-WFC-F606W", "ACS-WFC-F814W", "WFC3-UVIS", "decam",
    "ACS-WFC-F606W-2-4", "example_model",
)  # fmt: skip
"""deepCR's published detection networks.

Its package names four of them; the others lie beside as files."""

COSMIC_CONN_MODELS = ("ground_imaging", "NRES", "HST_ACS_WFC")
"""Cosmic-CoNN's published networks, as its user guide names them."""

_ONE_VIEW = "one view"
"""What the name of a method of ours says where its network sees the frame once."""


@dataclass(frozen=True, eq=False)
class WorkFrame:
    """What a method is told of a frame; arrays (ny, nx).

    Attributes
    ----------
    image : float32 array
        [e-], sky included; bad pixels as they are.
    filled : float32 array
        The same with bad pixels filled by the median of their neighbours.
    invalid, saturated : bool arrays
        True = bad, hot or not a number; True = saturated.
    mask : bool array
        True = to be mended; empty for detection.
    background, noise : float
        Sky and its noise [e-].
    read_noise, full, adu, fwhm : float
        [e-]; saturation [e-]; [e-/ADU]; of a star [px].
    detector : str
        CSST chip; "" = none.
    threads : int
    """

    image: np.ndarray
    filled: np.ndarray
    invalid: np.ndarray
    saturated: np.ndarray
    mask: np.ndarray
    background: float
    noise: float
    read_noise: float
    full: float
    adu: float
    fwhm: float
    detector: str
    threads: int = 1

    def corner(self, side: int) -> WorkFrame:
        """Return the first rows and columns."""
        names = ("image", "filled", "invalid", "saturated", "mask")
        return replace(self, **{n: getattr(self, n)[:side, :side].copy() for n in names})


def read_frame(path: str | Path, threads: int = 1) -> WorkFrame:
    """Read what `write_frame` wrote."""
    with np.load(path) as file:
        values = {name: file[name] for name in file.files}
    scalars = {name: one.item() if one.ndim == 0 else one for name, one in values.items()}
    return WorkFrame(**scalars | {"threads": threads})


def write_frame(path: str | Path, frame: WorkFrame) -> None:
    """Write a frame as .npz, but for its number of threads."""
    names = [one.name for one in fields(frame) if one.name != "threads"]
    np.savez(path, **{name: getattr(frame, name) for name in names})


def load(name: str, frame: WorkFrame) -> Callable[..., np.ndarray]:
    """Return a method: frame and settings to float32 probability or bool mask.

    Raises
    ------
    ValueError
        There is no such method.
    """
    family, _, rest = name.partition(" ")
    if family == "deepCR":
        return _load_deepcr(rest)
    if family == "Cosmic-CoNN":
        return partial(_cosmic_conn, rest)
    if family == "crmend":
        return _load_crmend(rest, frame)
    masks = {
        "astroscrappy": _astroscrappy,
        "lacosmic": _lacosmic,
        "ccdproc lacosmic": _ccdproc_lacosmic,
        "ccdproc median": _ccdproc_median,
    }
    if name not in masks:
        raise ValueError(f"no detection is called {name!r}")
    return masks[name]


# --- networks -------------------------------------------------------------------------


def _load_crmend(variant: str, frame: WorkFrame) -> Callable[..., np.ndarray]:
    import crmend
    from crmend.models import choose_model

    pack, _, way = variant.partition(", ")
    where = (None, "generic") if pack == "generic" else (frame.detector, None)
    # Without a quality the network that the card names as its default, and its views.
    quality, views = {"": (None, None), _ONE_VIEW: (None, 1)}.get(way, (way, None))
    model = choose_model(*where, "detect", threads=frame.threads, quality=quality)

    def find(frame: WorkFrame) -> np.ndarray:
        return crmend.detect(
            frame.image,
            model=model,
            invalid=frame.invalid,
            saturated=frame.saturated,
            views=views,
            star_cores=False,
        ).cr_probability

    return find


def load_deepcr_model(name: str) -> Any:
    """Return one of deepCR's published networks.

    The files that its package does not name have the network of ``ACS-WFC``, with as many
    filters as their name says, and load once the package is told so.  ``ACS-WFC-F606W-2-4``
    wants images divided by 100, as ``example_model`` does: its first batch norm holds values
    of a few units, and undivided it takes the sky for cosmic rays.

    Raises
    ------
    FileNotFoundError
        The installed package has no such file.
    """
    from deepCR import deepCR  # before learned_models, which imports it in a circle
    from deepCR.unet_batchnorm import UNet2SigmoidBatchNorm
    from learned_models import mask_dict

    filters, scale = (4, 100) if name.endswith("-2-4") else (32, 1)
    mask_dict.setdefault(name, [UNet2SigmoidBatchNorm, (1, 1, filters), scale])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weight_norm is deprecated in torch
        return deepCR(mask=name, device="CPU")


def _load_deepcr(name: str) -> Callable[..., np.ndarray]:
    name, _, variant = name.partition(", ")
    model = load_deepcr_model(name)

    def find(frame: WorkFrame) -> np.ndarray:
        import torch

        torch.set_num_threads(frame.threads)
        offset = np.float32(frame.background if variant == "sky subtracted" else 0.0)
        scale = np.float32(frame.adu if name == "decam" else 1.0)
        return deepcr_probability(model, (frame.filled - offset) / scale)

    return find


def deepcr_probability(model: Any, image: np.ndarray) -> np.ndarray:
    """Return deepCR's probability of a whole (ny, nx) image, without seams."""
    import torch

    ny, nx = image.shape
    # deepCR pads to multiples of four with zeros, and flags that edge: mirror instead.
    padded = np.pad(image, ((0, -ny % 4), (0, -nx % 4)), mode="reflect")
    with torch.inference_mode():
        found = model.clean(padded, binary=False, segment=False)
    return np.asarray(found[:ny, :nx], dtype=np.float32)


def _cosmic_conn(model: str, frame: WorkFrame) -> np.ndarray:
    """Run the program ``cosmic-conn`` on a FITS file, as its user guide tells.

    It is GPL: a separate program, of which nothing is imported.
    """
    from astropy.io import fits

    program = Path(sys.executable).parent / "cosmic-conn"
    if not program.is_file():
        raise FileNotFoundError("the program cosmic-conn is not installed in its environment")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "frame.fits"
        planes = [fits.PrimaryHDU(), fits.ImageHDU(frame.filled, name="SCI")]
        fits.HDUList(planes).writeto(source)
        command = [program, "-i", source, "-m", model, "-e", "SCI"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        written = [path for path in folder.rglob("*.fits*") if path != source]
        found = {}
        for path in [*written, source]:
            with fits.open(path) as hdus:
                for hdu in hdus[1:]:
                    if "CR" in hdu.name.upper() and np.shape(hdu.data) == frame.filled.shape:
                        found[hdu.name.upper()] = np.asarray(hdu.data, dtype=np.float32)
    if found:  # the probability, where there is a mask beside it
        probability = found[max(found, key=lambda name: "PROB" in name)]
        # It is compressed with loss: some pixels come back a little below 0.
        return np.clip(probability, 0.0, 1.0)
    said = (done.stderr or done.stdout).strip()[-300:]
    raise RuntimeError(f"cosmic-conn ended with {done.returncode}, without a result: {said}")


# --- L.A.Cosmic and its like ------------------------------------------------------------


def run_astroscrappy(
    electrons: np.ndarray,
    ignore: np.ndarray,
    *,
    read_noise: float = 5.0,
    saturation: float = 71_500.0,
    psf_fwhm: float = 2.0,
    **settings: float,
) -> np.ndarray:
    """Return astroscrappy's CR mask of an image in electrons (sky included)."""
    import astroscrappy

    mask, _ = astroscrappy.detect_cosmics(
        np.where(np.isfinite(electrons), electrons, 0.0).astype(np.float32),
        inmask=ignore,
        gain=1.0,
        readnoise=read_noise,
        satlevel=saturation,
        niter=4,
        fsmode="median",
        cleantype="medmask",
        psffwhm=psf_fwhm,
        **settings,
    )
    return mask


def _astroscrappy(frame: WorkFrame, **settings: float) -> np.ndarray:
    return run_astroscrappy(
        frame.filled,
        frame.invalid | frame.saturated,
        read_noise=frame.read_noise,
        saturation=frame.full,
        psf_fwhm=frame.fwhm,
        **settings,
    )


def _lacosmic(frame: WorkFrame, sigclip: float, sigfrac: float, objlim: float) -> np.ndarray:
    """Run the package lacosmic; settings by astroscrappy's names for the same quantities."""
    from lacosmic import remove_cosmics

    with contextlib.redirect_stdout(io.StringIO()):  # it tells each iteration
        _, mask = remove_cosmics(
            frame.filled,
            contrast=objlim,
            cr_threshold=sigclip,
            neighbor_threshold=sigfrac * sigclip,
            effective_gain=1.0,
            readnoise=frame.read_noise,
            mask=frame.invalid | frame.saturated,
        )
    return np.asarray(mask, dtype=bool)


def _ccdproc_lacosmic(frame: WorkFrame, **settings: float) -> np.ndarray:
    """Run ccdproc's wrapper of astroscrappy; what is not set are its own defaults."""
    import ccdproc
    from astropy import units
    from astropy.nddata import CCDData

    data = CCDData(frame.filled, unit=units.electron, mask=frame.invalid | frame.saturated)
    cleaned = ccdproc.cosmicray_lacosmic(
        data, readnoise=frame.read_noise, satlevel=frame.full, psffwhm=frame.fwhm, **settings
    )
    # Its mask holds the mask that it was given, too.
    return np.asarray(cleaned.mask) & ~data.mask


def _ccdproc_median(frame: WorkFrame, thresh: float, mbox: int) -> np.ndarray:
    """Run ccdproc's cosmicray_median; its noise is read noise and photons of each pixel."""
    import ccdproc

    error = np.sqrt(frame.read_noise**2 + np.maximum(frame.filled, 0.0))
    _, mask = ccdproc.cosmicray_median(frame.filled, error, thresh=thresh, mbox=int(mbox))
    return np.asarray(mask, dtype=bool)
