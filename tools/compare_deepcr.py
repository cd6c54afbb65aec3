"""deepCR's own `clean` beside its network run by crmend: parity, seams and edges.

    crmend-train import-deepcr ACS-WFC --out packs
    CRMEND_MODELS=packs python tools/compare_deepcr.py ACS-WFC FRAME.fits --out comparison

Writes one row per frame and mode to ``compare_deepcr.csv`` and a picture per frame of where
the two differ.  A frame with a plane CRTRUTH, or a simulated Level 1 file with its CR truth
beside it, also says which flagged pixels at seams and edges are false.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

import crmend
from crmend._cli_options import positive_count
from crmend.errors import CrmendWarning
from crmend_training import deepcr_import
from crmend_training._results import make_folder
from crmend_training._script import run as run_script
from crmend_training.deepcr_import import HALO, PACK, Published

EDGE = 2
"""Width of what counts as the edge of a frame or a patch [px]."""


@dataclass(frozen=True)
class Frame:
    """An exposure in the network's unit, without NaN.

    Attributes
    ----------
    name : str
    image : (ny, nx) float32 array
    truth : (ny, nx) bool array or None
        True = cosmic ray.
    ignore : (ny, nx) bool array
        True = the truth does not know.
    """

    name: str
    image: NDArray[np.float32]
    truth: NDArray[np.bool_] | None
    ignore: NDArray[np.bool_]


@dataclass(frozen=True)
class Row:
    """How deepCR in one mode differs from crmend on one frame.

    `inside`, `at_edges` and `at_seams` are the largest |Δp| further than the receptive field
    from any edge or seam, within it of the frame's edges, and within it of seams;
    `changed_…` count pixels whose mask differs there.  `edge_…` and `seam_…` count flagged
    pixels that are no cosmic rays, within `EDGE` px of the frame's edges and of seams.
    """

    network: str
    frame: str
    height: int
    width: int
    mode: str
    threshold: float
    inside: float
    at_edges: float
    at_seams: float
    changed_inside: int
    changed_at_edges: int
    changed_at_seams: int
    edge_false_deepcr: int | None
    edge_false_crmend: int | None
    seam_false_deepcr: int | None
    seam_false_crmend: int | None


def main() -> None:
    """Compare on every frame that the command line names."""
    options = _options()
    published = deepcr_import.load_published(options.name)
    model = f"{PACK}/{deepcr_import.pack_name(published.name)}"
    make_folder(options.out)
    rows = []
    for path in options.frames:
        frame = _read(path, options, published)
        for one in (frame, _cropped(frame)) if options.crop else (frame,):
            ours = crmend.detect(one.image, model=model, device="cpu", threads=options.threads)
            limit = options.threshold or _card_threshold(model)
            found = {}
            for mode, patch in _modes(options.patch):
                found[mode] = _theirs(published, one.image, patch)
                rows.append(_row(published.name, one, mode, patch, limit, found[mode], ours))
                print(rows[-1])
            _draw(one, found, ours.cr_probability, options.out / f"{one.name}.png")
    with (options.out / "compare_deepcr.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(Row.__annotations__))
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", help="network of deepCR, imported already")
    parser.add_argument(
        "frames", nargs="+", type=Path, help="exposures (the first chip of each)"
    )
    parser.add_argument(
        "--size", type=positive_count, help="only so many rows and columns, from the corner"
    )
    parser.add_argument(
        "--patch", type=positive_count, default=256, help="deepCR's patches (default 256)"
    )
    parser.add_argument("--threshold", type=float, help="default: the card's")
    parser.add_argument("--threads", type=positive_count, default=1)
    parser.add_argument(
        "--crop", action="store_true", help="also without 2 rows and columns: no multiple of 4"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for table and pictures")
    return parser.parse_args()


def _read(path: Path, options: argparse.Namespace, published: Published) -> Frame:
    """Read the first chip of a file in the network's unit; NaN becomes the median."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrmendWarning)
        exposure = crmend.read_exposure(path)
    factor = exposure.electrons_per_unit if published.parameters["electrons"] else 1.0
    if factor is None:
        raise ValueError(f"{path}: the electrons of a unit are not known")
    image = exposure.image * np.float32(factor)
    image[~np.isfinite(image)] = np.nanmedian(image)
    truth, ignore = _truth(path, image.shape)
    part = (slice(0, options.size), slice(0, options.size))
    return Frame(
        path.name.split(".fits")[0],
        np.ascontiguousarray(image[part]),
        None if truth is None else truth[part],
        (ignore | exposure.invalid | exposure.saturated)[part],
    )


def _truth(
    path: Path, shape: tuple[int, ...]
) -> tuple[NDArray[np.bool_] | None, NDArray[np.bool_]]:
    """Return cosmic rays and the pixels where they are not known."""
    none = np.zeros(shape, bool)
    with fits.open(path) as hdus:
        if "CRTRUTH" in hdus:
            unsure = hdus["UNSURE"].data > 0 if "UNSURE" in hdus else none
            return hdus["CRTRUTH"].data > 0, unsure
    from crmend_training import datasets

    if "CSST_MSC" not in path.name:
        return None, none
    pair = next((p for p in datasets.find_pairs(path.parent) if p.level1 == path), None)
    if pair is None:
        return None, none
    return datasets.read_any(pair.truth).image > 0.0, none


def _cropped(frame: Frame) -> Frame:
    """Return the frame without its first two rows and columns."""
    part = (slice(2, None), slice(2, None))
    truth = None if frame.truth is None else frame.truth[part]
    image = np.ascontiguousarray(frame.image[part])
    return Frame(f"{frame.name}_cropped", image, truth, frame.ignore[part])


def _modes(patch: int) -> Iterator[tuple[str, int | None]]:
    yield "whole frame", None
    yield f"patches of {patch}", patch


def _theirs(
    published: Published, image: NDArray[np.float32], patch: int | None
) -> NDArray[np.float32]:
    """Return the probability of deepCR's own `clean`."""
    import torch

    how = {"segment": False} if patch is None else {"segment": True, "patch": patch}
    with torch.inference_mode():
        found = published.model.clean(image, binary=False, **how)
    return np.asarray(found, np.float32)


def _row(
    network: str,
    frame: Frame,
    mode: str,
    patch: int | None,
    threshold: float,
    theirs: NDArray[np.float32],
    ours: crmend.Detection,
) -> Row:
    """Compare one mode of deepCR with crmend."""
    shape = frame.image.shape
    edges, seams = near_lines(shape, None, HALO), near_lines(shape, patch, HALO)
    seams &= ~edges
    inside = ~edges & ~seams
    difference = np.abs(theirs - ours.cr_probability)
    # Equal probabilities would be masked by >= and not by deepCR's >: none occur.
    masks = theirs > threshold, ours.cr_probability >= threshold
    changed = masks[0] != masks[1]
    narrow = near_lines(shape, None, EDGE), near_lines(shape, patch, EDGE)
    false: list[int | None] = [None] * 4
    if frame.truth is not None:
        wrong = ~frame.truth & ~frame.ignore
        places = (narrow[0], narrow[1] & ~narrow[0])
        false = [int((m & wrong & place).sum()) for place in places for m in masks]
    return Row(
        network, frame.name, *shape, mode, threshold,
        *(float(np.max(difference, where=w, initial=0.0)) for w in (inside, edges, seams)),
        *(int(changed[w].sum()) for w in (inside, edges, seams)),
        *false,
    )  # fmt: skip


def near_lines(shape: tuple[int, int], patch: int | None, reach: int) -> NDArray[np.bool_]:
    """Return the pixels within reach of the frame's edges, or of the seams between patches."""
    near = np.zeros(shape, bool)
    for axis, length in enumerate(shape):
        lines = [0, length] if patch is None else range(patch, length, patch)
        along = np.zeros(length, bool)
        for line in lines:
            along[max(line - reach, 0) : line + reach] = True
        near |= along[:, np.newaxis] if axis == 0 else along
    return near


def _card_threshold(model: str) -> float:
    from crmend.models import load_card

    threshold = load_card(*model.split("/")).detect.threshold
    return 0.5 if threshold is None else threshold


def _draw(
    frame: Frame,
    found: dict[str, NDArray[np.float32]],
    ours: NDArray[np.float32],
    path: Path,
) -> None:
    """Draw where every mode differs from crmend, and the frame."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 1 + len(found), figsize=(6 * (1 + len(found)), 6))
    low, high = np.percentile(frame.image, [5, 99.5])
    axes[0].imshow(frame.image, vmin=low, vmax=high, cmap="gray", origin="lower")
    axes[0].set_title(frame.name, fontsize=8)
    for axis, (mode, theirs) in zip(axes[1:], found.items(), strict=True):
        # The largest difference within 4 x 4 px, so that single pixels can be seen.
        difference = np.abs(theirs - ours)
        ny, nx = (n // 4 * 4 for n in difference.shape)
        blocks = difference[:ny, :nx].reshape(ny // 4, 4, nx // 4, 4).max(axis=(1, 3))
        shown = axis.imshow(
            np.log10(np.maximum(blocks, 1e-7)), vmin=-7, vmax=0, origin="lower",
            extent=(0, nx, 0, ny),
        )  # fmt: skip
        axis.set_title(f"log10 |dp|, deepCR ({mode}) - crmend")
    figure.colorbar(shown, ax=axes, shrink=0.8)
    figure.savefig(path, dpi=80)
    plt.close(figure)


if __name__ == "__main__":
    run_script(main)
