"""Draw a contact sheet of mended stars and galaxies, the worst cases included.

    python tools/mending_sheet.py FRAMES --out sheet.png

FRAMES holds Level 1 + CR-truth pairs with CR-free twins and catalogues
(`crmend-train simulate --keep-clean`).  Shown are sources with S/N > 20 that a CR hits within
5 px: some of each magnitude at random, and those of which ours is farthest from the CR-free
magnitude in a 5 px circle.  The picture is 1600 px wide; a name that ends in .jpg makes a JPEG.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from crmend._cli_options import positive_count
from crmend_training import classical_fills, datasets, mending_frames, mending_sheet
from crmend_training._results import refuse_unwritable
from crmend_training._script import run as run_script

_PICTURES = (".png", ".jpg", ".jpeg")


def main() -> None:
    """Mend the frames, choose, draw."""
    options = parse()
    if options.out.suffix.lower() not in _PICTURES:
        raise ValueError(f"--out {options.out}: expected a name that ends in .png or .jpg")
    refuse_unwritable(options.out)
    rng = np.random.default_rng(options.seed)
    pairs = datasets.few_of(datasets.find_pairs(options.frames), options.most)
    fills, missing = classical_fills.load_fills([mending_sheet.MEDIAN])
    if missing:
        raise RuntimeError(f"{mending_sheet.MEDIAN} does not run here: {missing}")
    gallery = mending_sheet.Gallery(rng, options.typical, options.worst)
    for pair in tqdm(pairs, desc="frames", disable=None):
        whole = mending_frames.read_frame(pair)
        for frame in mending_frames.rounds_of(whole, options.rounds, rng):
            add_frame(gallery, frame, options.mask, fills)
    mending_sheet.draw_sheet(options.out, gallery)
    print(f"{options.out}: {len(pairs)} frames, masks {options.mask}")


def add_frame(
    gallery: mending_sheet.Gallery,
    frame: mending_frames.HitFrame,
    mask: str,
    fills: dict[str, classical_fills.Fill],
) -> None:
    """Mend one frame and take examples from it."""
    sources = mending_frames.usable_sources(frame)
    hits = mending_frames.hit_table(frame, sources)
    if len(hits) == 0:
        return
    masks = mending_frames.masks_of(frame, [mask])
    near = mending_frames.near_sources(frame, hits)
    mended = mending_frames.mend(frame, masks[mask], fills, near)
    rows = mending_frames.score_sources(frame, sources, hits, {mask: mended})
    gallery.add(frame, mended, mask, rows)


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames", type=Path)
    parser.add_argument("--out", type=Path, default=Path("sheet.png"), help="PNG or JPEG")
    parser.add_argument("--mask", choices=mending_frames.MASKS, default="true")
    parser.add_argument("--typical", type=int, default=2, help="of each type and magnitude")
    parser.add_argument("--worst", type=int, default=4, help="of each type")
    parser.add_argument(
        "--rounds", type=positive_count, default=1, help="times that a frame is hit"
    )
    parser.add_argument(
        "--most", type=positive_count, help="use so many of the frames, evenly chosen"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice")
    return parser.parse_args()


if __name__ == "__main__":
    run_script(main)
