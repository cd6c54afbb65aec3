"""Parity: an exported graph must do what its torch network does, or it is not kept.

`validate_graph` compares the two on frames of awkward sizes through the runtime's own
tiling, on batches, and on every device that onnxruntime offers here.  The figures go into
the model card.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from crmend._cards import ParityCard
from crmend._cutout_network import network_inputs
from crmend._deepcr_input import LinearScale
from crmend._differences import relative_difference
from crmend._normalise import Scale, measure_scale
from crmend._probability import fill_probability
from crmend._sessions import DEVICES, Session, get_session
from crmend._tiling import make_grid
from crmend._views import RunGraph
from crmend.detect import CPU_TILE, GPU_TILE
from crmend.errors import DeviceError
from crmend.models import DETECT_TOLERANCE, INPAINT_TOLERANCE
from crmend_training._graphs import CUTOUT, inputs_of

SIZES = ((1, 1), (64, 1), (253, 255), (2048, 2048), (4099, 2047))
"""Frame sizes that a detection graph is compared on: single pixels, odd, and large."""

BATCHES = (1, 3, 8)

MOVES = (0.0, 0.001, -0.001, 0.002, -0.002, 0.005, -0.005, 0.01, -0.01, 0.02, -0.02)
"""By how much a threshold may move away from a tie."""

Array = NDArray[np.float32]

ScaleOf = Callable[[Array, NDArray[np.bool_]], Scale | LinearScale]
"""A network's preprocessing: takes the image and its invalid pixels."""


class ParityError(ValueError):
    """A graph does not do what its network does."""


@dataclass(frozen=True)
class Difference:
    """What was found so far; `merge` keeps the worst."""

    frames: int = 0
    absolute: float = 0.0
    relative: float = 0.0
    changed: Counter[float] = field(default_factory=Counter)
    ties: Counter[float] = field(default_factory=Counter)

    def merge(self, other: Difference) -> Difference:
        """Combine two findings."""
        return Difference(
            self.frames + other.frames,
            max(self.absolute, other.absolute),
            max(self.relative, other.relative),
            self.changed + other.changed,
            self.ties + other.ties,
        )


@dataclass(frozen=True)
class Validation:
    """A graph that does what its network does.

    Attributes
    ----------
    parity : ParityCard
        For the model card.
    thresholds : dict
        For every threshold asked for, the nearest one at which no pixel changes.
    changed : dict
        For every threshold asked for, how many pixels change at it: those whose probability
        ties with it to the last bit.
    """

    parity: ParityCard
    thresholds: dict[float, float]
    changed: dict[float, int] = field(default_factory=dict)


def validate_graph(
    path: Path,
    network: nn.Module,
    kind: str,
    *,
    halo: int = 0,
    stride: int = 1,
    frames: Sequence[Array] = (),
    thresholds: Sequence[float] = (0.5,),
    sizes: Sequence[tuple[int, int]] = SIZES,
    seed: int = 0,
    scale_of: ScaleOf = measure_scale,
) -> Validation:
    """Compare a graph with its network; remove the graph where they disagree.

    Parameters
    ----------
    path : Path
        The ONNX file.
    network : torch.nn.Module
        In evaluation mode, on the CPU.
    kind : str
        ``detect``, ``detect_fast`` or ``inpaint``.
    halo, stride : int
        Receptive-field radius and stride of a detection network [px].
    frames : sequence of (ny, nx) float32 arrays
        Real or simulated frames in a linear unit, beside the synthetic ones.  Inpainting
        takes its cutouts from their centres.
    thresholds : sequence of float
        At each of them no pixel of cr_mask may change.  Where a pixel's probability ties with
        a threshold, so that the last bit decides, the threshold is moved by the first
        of `MOVES` that frees it.
    sizes : sequence of (ny, nx)
        Of the synthetic frames.
    seed : int
        Of the synthetic frames.
    scale_of : callable
        Preprocessing of a detection network.

    Returns
    -------
    Validation

    Raises
    ------
    ParityError
        The graph breaks the ONNX rules, or differs by more than the runtime's tolerances, from
        the network in single and in double precision.  The file is gone then.
    """
    rng = np.random.default_rng(seed)
    try:
        onnx.checker.check_model(str(path), full_check=True)
        if kind != "inpaint":
            every = [*frames, *(example_frame(size, rng) for size in sizes)]
            candidates = sorted({_moved(t, move) for t in thresholds for move in MOVES})
            found = _compare_detect(path, network, every, (halo, stride), candidates, scale_of)
        else:
            found = _compare_inpaint(path, network, list(_cutouts(frames, rng)))
        _judge(path, kind, found[0])
        settled = {t: _settle(path, t, found[0]) for t in thresholds if kind != "inpaint"}
    except (ParityError, onnx.checker.ValidationError) as error:
        path.unlink(missing_ok=True)
        raise ParityError(f"{error}; the graph was removed") from error
    total, providers = found
    parity = ParityCard(
        frames=total.frames,
        max_abs_difference=total.absolute,
        max_relative_difference=total.relative if kind == "inpaint" else None,
        mask_pixels_changed=sum(total.changed[t] for t in settled.values()),
        providers=providers,
    )
    return Validation(parity, settled, {t: total.changed[_moved(t, 0.0)] for t in settled})


def example_frame(shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Draw a frame of noise, stars and straight tracks, in electrons; one pixel is NaN.

    For comparing backends only: nothing about it is meant to be realistic.
    """
    ny, nx = shape
    image = rng.normal(100.0, 10.0, shape)
    yy, xx = np.mgrid[-12:13, -12:13]
    for _ in range(ny * nx // 2000):
        y, x = rng.integers(0, ny), rng.integers(0, nx)
        if rng.random() < 0.5:
            stamp = 10 ** rng.uniform(1, 5.5) * np.exp(-(yy**2 + xx**2) / 3.0)
        else:
            slope = rng.normal()
            stamp = 10 ** rng.uniform(1, 4) * (np.abs(yy - slope * xx) < 0.7)
        rows = slice(max(y - 12, 0), min(y + 13, ny))
        columns = slice(max(x - 12, 0), min(x + 13, nx))
        image[rows, columns] += stamp[
            rows.start - y + 12 : rows.stop - y + 12,
            columns.start - x + 12 : columns.stop - x + 12,
        ]
    if ny * nx > 1:
        image[ny // 2, nx // 2] = np.nan
    return image.astype(np.float32)


def example_cutout(rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw a source [noise units] and a track's mask, both (64, 64) float32."""
    yy, xx = np.mgrid[:CUTOUT, :CUTOUT] - (CUTOUT / 2 + rng.normal(size=(2, 1, 1)))
    width = rng.uniform(1.0, 8.0)
    image = 10 ** rng.uniform(0.5, 5) * np.exp(-np.hypot(yy, xx * rng.uniform(1, 2)) / width)
    slope = rng.normal()
    mask = (np.abs(yy - slope * xx) < 1.0) & (np.abs(xx) < rng.uniform(1, 20))
    image = image + rng.normal(size=image.shape)
    return image.astype(np.float32), mask.astype(np.float32)


def network_runner(network: nn.Module, *, double: bool = False) -> RunGraph:
    """Wrap a detection network the way the runtime calls a graph; in double precision if asked.

    The network itself stays in single precision.
    """

    def run(image: Array, _last: bool) -> Array:
        with torch.no_grad():
            if not double:
                return network(torch.from_numpy(image)).numpy()
            try:
                return network.double()(torch.from_numpy(image).double()).float().numpy()
            finally:
                network.float()

    return run


def tiled_probability(
    image: Array,
    run: RunGraph,
    field: tuple[int, int],
    tile: int,
    scale_of: ScaleOf = measure_scale,
) -> NDArray[np.float32]:
    """Return cr_probability of a frame through the runtime's tiling.

    Parameters
    ----------
    image : (ny, nx) float32 array
        In a linear unit.
    run : callable
        The graph or the network.
    field : tuple of int
        Its (halo, stride) [px].
    tile : int
        Side of a tile [px].
    scale_of : callable
        The network's preprocessing.
    """
    invalid = ~np.isfinite(image)
    grid = make_grid((image.shape[0], image.shape[1]), tile, *field)
    out = np.empty(image.shape, dtype=np.float32)
    fill_probability(image, invalid, scale_of(image, invalid), grid, run, out)
    return out


def _sessions(path: Path) -> Iterator[tuple[str, Session]]:
    """Load the graph on every device that onnxruntime grants here, the CPU first."""
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    for device in DEVICES:
        if device == "auto":
            continue
        try:
            yield device, get_session(content, sha256, device, None)
        except DeviceError:
            if device == "cpu":
                raise


def _compare_detect(
    path: Path,
    network: nn.Module,
    frames: Sequence[Array],
    geometry: tuple[int, int],
    thresholds: Sequence[float],
    scale_of: ScaleOf,
) -> tuple[Difference, tuple[str, ...]]:
    """Compare probabilities and masks, frame by frame and in batches."""
    total, providers = Difference(), []
    sessions = list(_sessions(path))
    providers = [session.provider for _, session in sessions]
    for frame in frames:
        # A tile of another size than onnxruntime's, so that the tiling is compared too.
        run = network_runner(network)
        wanted = tiled_probability(frame, run, geometry, GPU_TILE, scale_of)
        for index, (_, session) in enumerate(sessions):
            run = _graph_runner(session)
            found = tiled_probability(frame, run, geometry, CPU_TILE, scale_of)
            one = _difference(found, wanted, thresholds)
            if one.absolute > DETECT_TOLERANCE:
                # Which of the two rounded that far?  Torch's own rounding is no fault.
                run = network_runner(network, double=True)
                wanted = tiled_probability(frame, run, geometry, GPU_TILE, scale_of)
                one = _difference(found, wanted, thresholds)
            total = total.merge(replace(one, frames=int(index == 0)))
    rng = np.random.default_rng(len(frames))
    for count in BATCHES:
        image = rng.normal(size=(count, 1, 24 * geometry[1], 32 * geometry[1])).astype(
            np.float32
        )
        wanted = network_runner(network)(image, False)
        for _, session in sessions:
            total = total.merge(_difference(session.run((image,))[0], wanted, thresholds))
    return total, tuple(providers)


def _graph_runner(session: Session) -> RunGraph:
    return lambda image, last: session.run((image,), last=last)[0]


def _difference(found: Array, wanted: Array, thresholds: Sequence[float]) -> Difference:
    """Compare two probabilities; ties lie within the tolerance of a threshold."""
    absolute = float(np.max(np.abs(found - wanted)))
    # Only pixels that differ can change sides: a handful of the frame, so many thresholds
    # cost little.
    differs = found != wanted
    a, b = found[differs], wanted[differs]
    changed = Counter({t: int(np.sum((a >= t) != (b >= t))) for t in thresholds})
    ties = Counter({t: int(np.sum(np.abs(b - t) <= DETECT_TOLERANCE)) for t in thresholds})
    return Difference(absolute=absolute, changed=changed, ties=ties)


def _moved(threshold: float, move: float) -> float:
    return round(threshold + move, 6)


def _settle(path: Path, threshold: float, found: Difference) -> float:
    """Return the threshold, moved where the last bit of a probability would decide."""
    for move in MOVES:
        candidate = _moved(threshold, move)
        if not found.changed[candidate]:
            return candidate
    pixels, ties = (count[_moved(threshold, 0.0)] for count in (found.changed, found.ties))
    raise ParityError(
        f"{path}: {pixels} pixels of cr_mask differ from torch's at threshold {threshold} "
        f"({ties} lie within {DETECT_TOLERANCE:g} of it), none was expected, and no threshold "
        "next to it is free of such pixels"
    )


def _cutouts(
    frames: Sequence[Array], rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.float32], ...]]:
    """Yield batches (image, cr_mask, profile) as the runtime makes them, (n, 1, 64, 64)."""
    pairs = [example_cutout(rng) for _ in range(sum(BATCHES))]
    for frame in frames:
        if min(frame.shape) < CUTOUT:
            continue
        y, x = (n // 2 - CUTOUT // 2 for n in frame.shape)
        invalid = ~np.isfinite(frame)
        scale = measure_scale(frame, invalid)
        stamp = np.nan_to_num(frame[y : y + CUTOUT, x : x + CUTOUT], nan=scale.background)
        image = (stamp - scale.background) / scale.noise
        pairs.append((image.astype(np.float32), example_cutout(rng)[1]))
    start = 0
    for count in (*BATCHES, len(pairs) - sum(BATCHES)):
        batch = pairs[start : start + count]
        start += count
        if batch:
            images, masks = (np.stack(arrays) for arrays in zip(*batch, strict=True))
            yield network_inputs(images, masks > 0.0, ("profile",))


def _compare_inpaint(
    path: Path, network: nn.Module, batches: Sequence[tuple[Array, ...]]
) -> tuple[Difference, tuple[str, ...]]:
    """Compare mended cutouts and their uncertainties, batch by batch."""
    total = Difference()
    sessions = list(_sessions(path))
    for batch in batches:
        arrays = batch[: len(inputs_of(network, "inpaint"))]
        image, mask = arrays[:2]
        with torch.inference_mode():
            outputs = network(*(torch.from_numpy(array) for array in arrays))
        wanted = outputs if isinstance(outputs, tuple) else (outputs,)
        for index, (_, session) in enumerate(sessions):
            for number, found in enumerate(session.run(arrays)):
                expected = wanted[number].numpy()
                total = total.merge(
                    Difference(
                        frames=len(image) if index + number == 0 else 0,
                        absolute=float(np.max(np.abs(found - expected)[mask > 0])),
                        relative=relative_difference(found, expected, mask),
                    )
                )
    return total, tuple(session.provider for _, session in sessions)


def _judge(path: Path, kind: str, found: Difference) -> None:
    """Raise where a difference is beyond the runtime's tolerance, or not a number."""
    if kind != "inpaint" and not found.absolute <= DETECT_TOLERANCE:
        raise ParityError(
            f"{path}: cr_probability differs from torch by {found.absolute:.2g}; "
            f"at most {DETECT_TOLERANCE:g} was expected"
        )
    if kind == "inpaint" and not found.relative <= INPAINT_TOLERANCE:
        raise ParityError(
            f"{path}: inpainted pixels differ from torch by {found.relative:.2g} relative; "
            f"at most {INPAINT_TOLERANCE:g} was expected"
        )
