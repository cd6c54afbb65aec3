"""Write the false-positive zoo: Level 1 without cosmic rays, labels, and a picture.

    python tools/make_zoo.py --out zoo
    python tools/make_zoo.py --out tests/data/zoo --asset

Writes the files of `simulate.write_pair` (the cosmic-ray truth is empty), ``zoo_labels.fits``
with the class of every pixel, and ``zoo.png``; with ``--asset`` the compact files that the
tests read, without a picture.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from crmend_training._script import run as run_script
from crmend_training.zoo import Zoo, make_zoo, write_asset, write_zoo


def main() -> None:
    """Parse, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--detector", type=int, default=9, help="imaging chip (default: 9)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--asset", action="store_true", help="the compact files of the tests")
    options = parser.parse_args()
    zoo = make_zoo(options.detector, options.seed)
    if options.asset:
        write_asset(zoo, options.out)
    else:
        write_zoo(zoo, options.out)
        draw_picture(zoo, options.out / "zoo.png")
    for number, name in enumerate(zoo.classes):
        print(f"{number:3d} {name:18s} {np.count_nonzero(zoo.labels == number):8d} px")


def draw_picture(zoo: Zoo, path: Path) -> None:
    """Draw the frame, and the frame with its classes outlined and named."""
    noise = float(np.median(zoo.exposure.error))
    stretched = np.arcsinh((zoo.exposure.image - zoo.exposure.sky) / (2.0 * noise))
    colours = plt.get_cmap("tab20")(np.arange(len(zoo.classes)) % 20)
    figure, panels = plt.subplots(1, 2, figsize=(25, 13.4), layout="constrained")
    for panel in panels:
        panel.imshow(stretched, origin="lower", cmap="gray", vmin=-1.0, vmax=5.5)
        panel.set_axis_off()
    for number, name in enumerate(zoo.classes):
        if number == 0:
            continue
        mask = zoo.mask(name)
        panels[1].contour(mask, levels=[0.5], colors=[colours[number]], linewidths=0.8)
        panels[1].plot([], [], color=colours[number], label=f"{number} {name}", linewidth=3)
    config = zoo.exposure.config
    panels[0].set_title(
        f"Zoo without cosmic rays, detector {config.detector}, {config.band.name}"
    )
    panels[1].set_title("Classes (asinh stretch)")
    figure.legend(loc="outside lower center", ncols=9, fontsize=13)
    figure.savefig(path, dpi=80)
    plt.close(figure)


if __name__ == "__main__":
    run_script(main)
