"""deepCR's published networks, from the package on this machine → model packs of the runtime.

deepCR's weights and code stay where its package is; what is written is a graph made from
them here, with a card that says so.  A pack mends with the inpainting graph of ``generic``,
since deepCR publishes none that depends on a mask and a sky of any unit.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from crmend import _deepcr_input
from crmend._cards import ModelCard, NormalisationCard
from crmend.models import DETECT_TOLERANCE
from crmend_training import validate
from crmend_training._graphs import build_graph, without_weight_norm
from crmend_training._packs import (
    MENDER,
    Choice,
    Identity,
    PackGraph,
    ValidatedGraph,
    export_pack,
    installed_mender,
)

PACK = "deepcr"
"""Name of the pack whose detectors the networks become."""

HALO, STRIDE = 10, 2
"""Geometry of deepCR's U-Net with one down-sampling [px] (its ``unet.py``)."""

_THRESHOLD = 0.5  # default of deepCR.clean
_THRESHOLDS = {"WFC3-UVIS": 0.2}  # README of deepCR 0.3.1: 0.1 to 0.2
# Divisors of networks that deepCR 0.3.1 ships without naming them (else 1): its release 0.2
# names this one with 100, and so do the mean and the variance of its first layer.
_DIVISORS = {"ACS-WFC-F606W-2-4": 100}
# In counts, not electrons: the statistics of its first layer are those of DECam images in ADU.
_IN_COUNTS = {"decam"}
_SIZES = ((1, 1), (64, 1), (253, 255), (512, 600))
_CLEAN_SIZE = (200, 264)


@dataclass(frozen=True)
class Published:
    """One of deepCR's networks.

    Attributes
    ----------
    name : str
        deepCR's, such as ``ACS-WFC``.
    model : deepCR.deepCR
        Ready to `clean`, on the CPU.
    source : Path
        Its weights.
    """

    name: str
    model: Any
    source: Path

    @property
    def network(self) -> nn.Module:
        """Return the network without deepCR's wrapper, in evaluation mode."""
        return self.model.maskNet.module

    @property
    def parameters(self) -> dict[str, float]:
        """Return deepCR's preprocessing, as on the card."""
        return _deepcr_input.parameters(
            self.model.scale,
            standardise=self.model.norm,
            electrons=self.name not in _IN_COUNTS,
        )

    @property
    def unit(self) -> str:
        """Return the unit of the network's input, as on the card."""
        if self.model.norm:
            return "(image - mean of the image) / (its standard deviation)"
        unit = "counts" if self.name in _IN_COUNTS else "electrons"
        return unit if self.model.scale == 1 else f"{unit} / {self.model.scale:g}"

    def measure(
        self, image: NDArray[np.float32], invalid: NDArray[np.bool_]
    ) -> _deepcr_input.LinearScale:
        """Return how an image in the network's unit becomes its input."""
        return _deepcr_input.measure(image, invalid, self.parameters)


def published_names() -> tuple[str, ...]:
    """Return the names of the detection networks in the installed package, sorted.

    Raises
    ------
    ValueError
        deepCR is not installed.
    """
    return tuple(sorted(path.stem for path in _weights_folder().glob("*.pth")))


def pack_name(name: str) -> str:
    """Return the detector's name in the pack: ``acs_wfc_f606w`` for ``ACS-WFC-F606W``."""
    return name.lower().replace("-", "_")


def load_published(name: str) -> Published:
    """Load one of deepCR's networks, those that its package ships without naming included.

    Parameters
    ----------
    name : str
        deepCR's, or as `pack_name` writes it.

    Raises
    ------
    ValueError
        deepCR is not installed, or has no such network.
    """
    names = published_names()
    found = next((n for n in names if pack_name(n) == pack_name(name)), None)
    if found is None:
        raise ValueError(
            f"deepCR {version('deepCR')} has no network {name!r}; expected one of "
            f"{', '.join(names)}"
        )
    source = _weights_folder() / f"{found}.pth"
    from deepCR import deepCR

    with warnings.catch_warnings(), _named(found, source):
        warnings.simplefilter("ignore")  # weight_norm is deprecated in torch
        return Published(found, deepCR(mask=found, device="CPU"), source)


def import_network(name: str, out: Path, threshold: float | None = None) -> ModelCard:
    """Write the pack ``deepcr/<name>`` from one of deepCR's networks.

    Parameters
    ----------
    name : str
        As for `load_published`.
    out : Path
        Folder of packs.
    threshold : float or None
        On cr_probability; None = what deepCR recommends.

    Raises
    ------
    ValueError
        deepCR is not installed or has no such network, or the threshold is not between 0 and 1.
    crmend_training.validate.ParityError
        The graph does not do what deepCR does; nothing is written then.
    crmend.errors.ModelError
        The pack ``generic`` is not installed.
    """
    published = load_published(name)
    wanted = _THRESHOLDS.get(published.name, _THRESHOLD) if threshold is None else threshold
    if not 0.0 < wanted < 1.0:
        raise ValueError(f"threshold is {wanted}; expected a cr_probability between 0 and 1")
    mender = installed_mender()
    finder = _convert(published, wanted)
    metrics = {
        "test_set": "none: as published",
        "weights": f"deepCR {version('deepCR')}, learned_models/mask/{published.source.name}",
        "licence": "BSD-3-Clause, Zhang & Bloom 2020 and later papers of deepCR",
    }
    return export_pack(
        out,
        Identity(PACK, pack_name(published.name)),
        [
            PackGraph(finder, Choice(wanted, (), metrics), None),
            PackGraph(mender, Choice(), MENDER),
        ],
        ("reference", "deepCR publishes no fast variant"),
    )


def compare_with_clean(published: Published, probability_of) -> float:
    """Return the largest |Δ| of a probability from deepCR's own `clean`, on a whole frame.

    Height and width are multiples of 4: others deepCR pads with zeros, and flags those edges.

    Parameters
    ----------
    published : Published
    probability_of : callable
        Takes a (ny, nx) float32 image in the network's unit, returns its cr_probability.
    """
    frame = _example(_CLEAN_SIZE)
    with torch.inference_mode():
        theirs = published.model.clean(frame, binary=False, segment=False)
    return float(np.max(np.abs(probability_of(frame) - theirs)))


def _convert(published: Published, threshold: float) -> ValidatedGraph:
    """Export one network; compare the graph with it, and with deepCR's `clean`."""
    network = published.network
    # Weight normalisation goes for good, so it goes from a network of its own.
    plain = without_weight_norm(load_published(published.name).network)
    model = build_graph(plain, "detect")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "detect.onnx"
        path.write_bytes(model.SerializeToString(deterministic=True))
        found = validate.validate_graph(
            path, network, "detect",
            halo=HALO, stride=STRIDE, thresholds=(threshold,), sizes=_SIZES,
            scale_of=published.measure,
        )  # fmt: skip
    field = (HALO, STRIDE)
    run = validate.network_runner(network)
    difference = compare_with_clean(
        published,
        lambda image: validate.tiled_probability(image, run, field, 64, published.measure),
    )
    if not difference <= DETECT_TOLERANCE:
        raise validate.ParityError(
            f"{published.name}: cr_probability differs from deepCR's clean by "
            f"{difference:.2g}; at most {DETECT_TOLERANCE:g} was expected"
        )
    training = {
        "recipe": f"deepCR {published.name}",
        "seed": None,
        "data_fingerprint": hashlib.sha256(published.source.read_bytes()).hexdigest()[:16],
        "commit": f"deepCR {version('deepCR')}",
        "date": "unknown",
    }
    return ValidatedGraph(
        "detect", model, ("image",), ("cr_probability",), type(network).__name__,
        HALO, STRIDE, training, found.parity, _reference(published), found.thresholds,
        NormalisationCard(_deepcr_input.NAME, published.parameters), published.unit,
    )  # fmt: skip


def _reference(published: Published) -> dict[str, NDArray[np.float32]]:
    """Return a small input and the network's output in double precision."""
    frame = _example((96, 96))
    scale = published.measure(frame, np.zeros(frame.shape, bool))
    image = _deepcr_input.network_input(frame, scale)[np.newaxis, np.newaxis]
    exact = load_published(published.name).network.double()
    with torch.inference_mode():
        probability = exact(torch.from_numpy(image).double()).numpy().astype(np.float32)
    return {"detect_image": image, "detect_cr_probability": probability}


def _example(shape: tuple[int, int]) -> NDArray[np.float32]:
    """Draw a frame without NaN, with which deepCR can do nothing."""
    return np.nan_to_num(validate.example_frame(shape, np.random.default_rng(0)), nan=100.0)


def _weights_folder() -> Path:
    """Return the folder of deepCR's detection networks."""
    try:
        version("deepCR")
        import deepCR  # noqa: F401  before learned_models, which imports it in a circle
        from learned_models import default_model_path
    except (PackageNotFoundError, ImportError) as error:
        raise ValueError(
            f"deepCR cannot be imported ({error}); install it beside crmend "
            "(pip install deepCR)"
        ) from error
    return Path(default_model_path) / "mask"


@contextlib.contextmanager
def _named(name: str, source: Path) -> Iterator[None]:
    """Make deepCR know a network that it ships without naming it, for as long as it loads."""
    from deepCR.unet import UNet2Sigmoid
    from deepCR.unet_batchnorm import UNet2SigmoidBatchNorm
    from learned_models import mask_dict

    if name in mask_dict:
        yield
        return
    state = torch.load(source, map_location="cpu", weights_only=True)
    normed = any(key.endswith("running_mean") for key in state)
    hidden = state["module.inc.conv.conv.0.bias"].shape[0]
    kind = UNet2SigmoidBatchNorm if normed else UNet2Sigmoid
    mask_dict[name] = [kind, (1, 1, hidden), _DIVISORS.get(name, 1)]
    try:
        yield
    finally:
        del mask_dict[name]
