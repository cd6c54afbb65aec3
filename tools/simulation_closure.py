"""Measure simulated exposures back: photometry, noise, number counts and PSF of each band.

    python tools/simulation_closure.py --out closure
    python tools/simulation_closure.py --detectors 8,9 --size 1024 --frames 4 --out closure

Writes closure.md, closure.json and one figure per subject: closure_photometry.png,
closure_noise.png, closure_counts.png, closure_psf.png.  Frames have no cosmic rays and all
effects; stars are measured in dense fields without galaxies and close pairs, galaxies on a
grid of their own.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from tqdm import tqdm

from crmend._cli_options import positive_count
from crmend_training import closure
from crmend_training._results import make_folder
from crmend_training._script import run as run_script
from crmend_training.closure import Estimate
from crmend_training.simulate import BANDS, DETECTOR_BANDS, SimulationConfig, simulate_exposure

N_CHIPS = 500  # of input catalogues
STAR_ERROR = 0.0012  # mag; frames are added until the zero point is so well known
EXTRA_FRAMES = 4  # times as many frames at most
NO_SOURCES = ("stars", "galaxies", "ghosts", "satellites", "moving_objects")

# What a row of the table is called, and its bar.
ROWS = {
    "star_zero_point": ("stars: zero-point error [mag]", 0.005),
    "star_no_cti": ("  change without CTI [mag]", None),
    "star_no_nonlinearity": ("  change without non-linearity and its residual [mag]", None),
    "star_no_residuals": ("  change without calibration residuals [mag]", None),
    "galaxy_zero_point": ("galaxies: zero-point error [mag]", 0.005),
    "noise_masked": ("sky noise / prediction − 1, sources masked", 0.03),
    "noise_empty": ("  without sources", 0.03),
    "noise_no_cti": ("  without sources and CTI", 0.03),
    "error_plane": ("ERR of the sky / prediction − 1", 0.03),
    "pull_sky": ("(image − light) / ERR in the sky: σ − 1", 0.03),
    "pull_star": ("  on stars: σ − 1", 0.03),
    "counts_star": ("stars in the catalogue / table − 1", 0.05),
    "counts_galaxy": ("galaxies in the catalogue / table − 1", 0.05),
    "counts_detected": ("bright stars detected / table − 1", 0.05),
    "radius_80": ("R_EE80 / request − 1", 0.03),
}


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--detectors", default="bands", help="bands (one chip each), all (18), or 8,9,…"
    )
    parser.add_argument("--size", type=positive_count, default=1024, help="of a frame [px]")
    parser.add_argument(
        "--frames", type=positive_count, default=4, help="of each kind, at least"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(), help="folder")
    options = parser.parse_args()
    make_folder(options.out)
    results = {}
    for detector in tqdm(_detectors(options.detectors), desc="closure", disable=None):
        config = SimulationConfig(
            detector, (options.size, options.size), seed=options.seed, cr_rate=0.0
        )
        results[f"{config.band.name} {detector:02d}"] = measure(config, options.frames)
    table = _table(results)
    (options.out / "closure.md").write_text(table, encoding="utf-8")
    numbers = {chip: result["estimates"] for chip, result in results.items()}
    text = json.dumps(numbers, indent=1, default=asdict)
    (options.out / "closure.json").write_text(text + "\n", encoding="utf-8")
    for draw in (_draw_photometry, _draw_noise, _draw_counts, _draw_psf):
        draw(results, options.out)
    print(table)


def _detectors(text: str) -> list[int]:
    """Return the chips that the option names."""
    if text == "all":
        return sorted(DETECTOR_BANDS)
    if text == "bands":
        first = {band: chip for chip, band in reversed(DETECTOR_BANDS.items())}
        return [first[band] for band in BANDS]
    return [int(part) for part in text.split(",")]


def measure(config: SimulationConfig, frames: int) -> dict:
    """Return ``estimates`` by the names of `ROWS`, and samples for the figures."""
    result = {"estimates": {}, "limit": config.band.limit}
    for step in (_measure_stars, _measure_galaxies, _measure_noise, _measure_counts):
        step(result, config, frames)
    return result


# --- measurements ---------------------------------------------------------------------


def _measure_stars(result, config, frames) -> None:
    """Fill in zero point, detected counts, R_EE80 and the pulls of stars, in place."""
    config = replace(config, field="dense", without=("galaxies", "pairs"))
    estimates, residuals, stars, radii, counts = result["estimates"], [], [], [], 0.0
    changes = {name: [] for name in ("cti", "nonlinearity", "residuals")}
    for number in range(EXTRA_FRAMES * frames):
        sim = simulate_exposure(replace(config, seed=config.seed + number))
        residuals.append(closure.star_residuals(sim))
        stars.append(closure.isolated_stars(sim)["mag"])
        radii.append(closure.radius_80(sim))
        counts = counts + closure.detected_stars([sim])
        for name in changes if number < frames else ():
            changes[name].append(_change(sim, name))
        estimate = Estimate.median(np.concatenate(residuals))
        if number + 1 >= frames and estimate.error < STAR_ERROR:
            break
    estimates["star_zero_point"] = estimate
    for name, values in changes.items():
        estimates[f"star_no_{name}"] = Estimate.median(np.concatenate(values))
    counts[:, 0] /= number + 1
    estimates["counts_detected"] = _ratio(counts[:, 1].sum(), counts[:, 2].sum())
    found, wanted, n = np.array(radii).T
    estimates["radius_80"] = Estimate.weighted(found / wanted - 1.0, n**-0.5)
    result |= {"stars": (np.concatenate(stars), np.concatenate(residuals))}
    result |= {"radii": (found, wanted), "detected": counts}
    # The pulls: the stars of the last frame once more, with their light known.
    sky, star = closure.pulls(closure.expose_catalog(config, sim.catalog))
    estimates["pull_sky"], estimates["pull_star"] = map(_sigma, (sky, star))
    result["pulls"] = (sky, star)


def _change(sim, effect) -> np.ndarray:
    """Return by how much each star's magnitude changes without an effect."""
    without = (*sim.config.without, effect)
    other = simulate_exposure(replace(sim.config, without=without))
    stars = closure.isolated_stars(sim)
    return closure.star_residuals(other, stars) - closure.star_residuals(sim, stars)


def _measure_galaxies(result, config, frames) -> None:
    """Fill in the zero point of galaxies, in place."""
    parts = []
    for number in range(2 * frames):
        config = replace(config, seed=config.seed + 1)
        rng = np.random.default_rng([config.detector, number])
        parts.append(closure.galaxy_residuals(rng, config))
    magnitude, error = np.concatenate(parts, axis=1)
    result["estimates"]["galaxy_zero_point"] = Estimate.median(error)
    result["galaxies"] = (magnitude, error)


def _measure_noise(result, config, frames) -> None:
    """Fill in the noise of the sky, in place."""
    kinds = {"masked": (), "empty": NO_SOURCES, "no_cti": (*NO_SOURCES, "cti")}
    ratios = {name: [] for name in kinds}
    errors = []
    for name, without in kinds.items():
        for number in range(min(frames, 3)):
            seed = config.seed + 500 + number
            sim = simulate_exposure(replace(config, seed=seed, without=without))
            mask = closure.source_mask(sim) if name == "masked" else sim.flag != 0
            predicted = closure.predicted_noise(sim)
            ratios[name].append(closure.measured_noise(sim, mask) / predicted - 1.0)
            if name == "empty":
                errors.append(np.median(sim.error[~mask]) / predicted - 1.0)
    estimates = result["estimates"]
    for name, values in ratios.items():
        estimates[f"noise_{name}"] = _mean(values)
    estimates["error_plane"] = _mean(errors)


def _measure_counts(result, config, _) -> None:
    """Fill in the counts of the input catalogue, in place."""
    rng = np.random.default_rng([config.seed, config.detector])
    counts = closure.input_counts(rng, config, N_CHIPS)
    for kind, table in counts.items():
        estimates = [_ratio(found, wanted) for _, found, wanted in table]
        # The bin that is worst beyond its Poisson error.
        worst = max(estimates, key=lambda e: abs(e.value) - 2.0 * e.error)
        result["estimates"][f"counts_{kind}"] = worst
    result["counts"] = counts


def _mean(values) -> Estimate:
    return Estimate(float(np.mean(values)), float(np.std(values)), len(values))


def _ratio(found, wanted) -> Estimate:
    """Return found / wanted − 1 with its Poisson error."""
    return Estimate(float(found / wanted - 1.0), float(wanted**-0.5), int(found))


def _sigma(values) -> Estimate:
    """Return the standard deviation − 1, without the tails beyond 5."""
    values = values[np.abs(values) < 5.0]
    return Estimate(float(values.std() - 1.0), float((2 * values.size) ** -0.5), values.size)


# --- table and figures ----------------------------------------------------------------


def _table(results: dict[str, dict]) -> str:
    """Return the Markdown table; a value beyond its bar and two errors is in bold."""
    lines = [["", "bar", *results], ["---"] * (2 + len(results))]
    for name, (title, bar) in ROWS.items():
        cells = [_cell(result["estimates"][name], name, bar) for result in results.values()]
        lines.append([title, "" if bar is None else f"{bar:g}", *cells])
    lines.append(["stars / galaxies measured", ""])
    for result in results.values():
        numbers = (result["estimates"][f"{kind}_zero_point"].n for kind in ("star", "galaxy"))
        lines[-1].append(" / ".join(map(str, numbers)))
    note = (
        "\nCounts of the catalogue: the magnitude that is worst after two Poisson errors. "
        "Bold: beyond the bar; for counts beyond the bar and two Poisson errors.\n"
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n" + note


def _cell(estimate, name, bar) -> str:
    digits = 4 if "zero_point" in name or "star_no" in name else 3
    text = f"{estimate.value:+.{digits}f} ± {estimate.error:.{digits}f}"
    slack = 2.0 * estimate.error if "counts" in name else 0.0
    return f"**{text}**" if bar is not None and abs(estimate.value) > bar + slack else text


def _panels(results, title, height=2.6):
    """Return a figure with one panel per chip and their axes."""
    n = len(results)
    columns = min(n, 4)
    rows = -(-n // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.6 * columns, height * rows + 0.4), layout="constrained"
    )
    axes = np.atleast_1d(axes).ravel()
    for axis in axes[n:]:
        axis.axis("off")
    for axis, chip in zip(axes, results, strict=False):
        axis.set_title(chip, fontsize=10)
    figure.suptitle(title)
    return figure, axes


def _save(figure, path) -> None:
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _draw_photometry(results, out) -> None:
    """Draw the magnitude errors of single sources, and the bar."""
    title = "measured − catalogue magnitude; grey: ±0.005; lines: medians"
    figure, axes = _panels(results, title)
    for axis, result in zip(axes, results.values(), strict=False):
        for kind, color in (("stars", "tab:blue"), ("galaxies", "tab:red")):
            magnitude, error = result[kind]
            axis.plot(magnitude, error, ".", color=color, markersize=3, label=kind)
            middle = float(np.median(error)) if error.size else 0.0
            axis.axhline(middle, color=color, linewidth=1)
        axis.axhspan(-0.005, 0.005, color="0.8", zorder=0)
        axis.set(ylim=(-0.06, 0.06), xlabel="catalogue magnitude")
    axes[0].legend(fontsize=8)
    _save(figure, out / "closure_photometry.png")


def _draw_noise(results, out) -> None:
    """Draw the pulls of sky and stars beside a normal distribution."""
    figure, axes = _panels(results, "(image − light) / ERR; black: normal")
    edges = np.linspace(-5.0, 5.0, 61)
    middle = 0.5 * (edges[1:] + edges[:-1])
    for axis, result in zip(axes, results.values(), strict=False):
        for values, name in zip(result["pulls"], ("sky", "stars"), strict=True):
            axis.stairs(np.histogram(values, edges, density=True)[0], edges, label=name)
        axis.plot(middle, np.exp(-0.5 * middle**2) / np.sqrt(2.0 * np.pi), "k-", linewidth=0.8)
        axis.set(yscale="log", ylim=(1e-5, 1.0))
    axes[0].legend(fontsize=8)
    _save(figure, out / "closure_noise.png")


def _draw_counts(results, out) -> None:
    """Draw counts over the tables' with Poisson errors."""
    figure, axes = _panels(results, "number / table; grey: ±5 %; bars: Poisson")
    for axis, result in zip(axes, results.values(), strict=False):
        tables = {"stars": result["counts"]["star"], "galaxies": result["counts"]["galaxy"]}
        tables["stars detected"] = result["detected"]
        for name, (magnitude, found, wanted) in ((k, v.T) for k, v in tables.items()):
            axis.errorbar(
                magnitude, found / wanted, wanted**-0.5, fmt="o", markersize=3, label=name
            )
        axis.axhspan(0.95, 1.05, color="0.8", zorder=0)
        axis.axvline(result["limit"], color="k", linestyle=":")
        axis.set(ylim=(0.6, 1.4), xlabel="magnitude; dotted: limit")
    axes[0].legend(fontsize=7)
    _save(figure, out / "closure_counts.png")


def _draw_psf(results, out) -> None:
    """Draw measured over requested R_EE80 of every frame."""
    figure, axis = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
    for chip, result in results.items():
        found, wanted = result["radii"]
        axis.plot(wanted, found / wanted, "o", markersize=4, label=chip)
    axis.axhspan(0.97, 1.03, color="0.8", zorder=0)
    axis.set(ylim=(0.95, 1.05), xlabel="R_EE80 of the PSF with the pixel and the aperture [px]")
    axis.set(ylabel="measured / requested", title="grey: ±3 %; one point per frame")
    axis.legend(fontsize=8, ncols=2)
    _save(figure, out / "closure_psf.png")


if __name__ == "__main__":
    run_script(main)
