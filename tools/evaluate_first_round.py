"""Score detection and inpainting on unseen simulated frames; write tables as Markdown.

    python tools/evaluate_first_round.py FRAMES --validation VALIDATION --out report

FRAMES holds Level 1 + CR-truth pairs (with CR-free images and catalogues, as
`crmend-train simulate --keep-clean` writes them) from seeds that training never used;
astroscrappy is tuned on the frames of ``--validation`` (other seeds again;
every third of them, which takes minutes already).  Writes ``report.md``, ``report.json`` and
what README shows as ``measured.csv``.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray
from tqdm import tqdm

import crmend
from crmend._cli_options import positive_count
from crmend_training import datasets, evaluate, measured, measured_figures, peers_hits
from crmend_training._results import make_folder
from crmend_training._script import run as run_script
from crmend_training.mending_bound import hole_bound, optics_of
from crmend_training.mending_frames import HitFrame, read_frame
from crmend_training.simulate.optics import Optics

EXPOSURE_TIME = 150.0


def main() -> None:
    """Run both evaluations and write ``report.md`` and ``report.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames", type=Path)
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("report"))
    parser.add_argument("--only", choices=["detection", "inpainting"], help="one of the two")
    parser.add_argument(
        "--injections", type=positive_count, default=60, help="sources hit at a time"
    )
    parser.add_argument(
        "--rounds", type=positive_count, default=4, help="times that each frame is hit"
    )
    options = parser.parse_args()
    make_folder(options.out)
    started = time.time()
    pairs = datasets.find_pairs(options.frames)
    settings, detection, mending, text = {}, [], [], ""
    shown: list[measured.Figure] = []
    if options.only != "inpainting":
        settings = tune_astroscrappy(datasets.find_pairs(options.validation)[::3])
        detection = score_detection(pairs, settings)
        text += detection_table(detection, settings) + "\n"
        shown += measured_figures.of_astroscrappy(detection)
    if options.only != "detection":
        mending = score_inpainting(pairs, options.injections, options.rounds)
        text += inpainting_table(mending)
        shown += measured_figures.of_hits(mending)
    measured.write_figures(options.out, shown)
    result = {
        "machine": measured.machine(),
        "minutes": round((time.time() - started) / 60, 1),
        "astroscrappy": settings,
        "detection": detection,
        "inpainting": mending,
    }
    (options.out / "report.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.out / "report.md").write_text(text)
    print(text)


# --- detection ----------------------------------------------------------------------


def load(pair: datasets.Pair) -> tuple[crmend.Exposure, NDArray, NDArray]:
    """Return (exposure, CR truth [e-], ignored pixels) of one pair."""
    exposure = crmend.read_exposure(pair.level1)
    cr = datasets.read_truth(pair, exposure.image.shape)
    return exposure, cr, exposure.invalid | exposure.saturated


def tune_astroscrappy(pairs: list[datasets.Pair]) -> dict[str, float]:
    """Return the grid setting with the best F1 (recall > 5 e-, precision > 0 e-)."""
    best, best_f1 = {}, -1.0
    frames = [load(pair) for pair in pairs]
    for settings in tqdm(
        evaluate.astroscrappy_grid(), desc="tuning astroscrappy", disable=None
    ):
        rows = [
            evaluate.mask_scores(
                evaluate.run_astroscrappy(e.image * EXPOSURE_TIME, ignore, **settings),
                cr,
                ignore,
            )
            for e, cr, ignore in frames
        ]
        recall, precision = evaluate.pooled(rows)
        f1 = 2 * recall * precision / max(recall + precision, 1e-9)
        if f1 > best_f1:
            best, best_f1 = settings | {"validation_f1": round(f1, 4)}, f1
    return best


def score_detection(pairs: list[datasets.Pair], settings: dict[str, float]) -> list[dict]:
    """Return one row per frame: ours at three operating points beside astroscrappy."""
    settings = {k: v for k, v in settings.items() if k != "validation_f1"}
    rows = []
    for pair in tqdm(pairs, desc="detection", disable=None):
        exposure, cr, ignore = load(pair)
        found = crmend.detect(
            exposure.image,
            detector=exposure.detector,
            invalid=exposure.invalid,
            saturated=exposure.saturated,
        )
        counter = evaluate.CurveCounter()
        counter.add(found.cr_probability, cr, ignore)
        curve = counter.curve()
        ours = evaluate.pooled([evaluate.mask_scores(found.cr_mask, cr, ignore)])
        peer_mask = evaluate.run_astroscrappy(
            exposure.image * EXPOSURE_TIME, ignore, **settings
        )
        peer = evaluate.pooled([evaluate.mask_scores(peer_mask, cr, ignore)])
        rows.append(
            {
                "detector": exposure.detector,
                "band": exposure.band,
                "cr_fraction": float((cr > 0).mean()),
                "recall": ours[0],
                "precision": ours[1],
                "astroscrappy_recall": peer[0],
                "astroscrappy_precision": peer[1],
                "precision_at_their_recall": curve.at_recall(peer[0])[1],
                "recall_at_their_precision": curve.at_precision(peer[1])[1],
            }
        )
    return rows


def detection_table(rows: list[dict], settings: dict[str, float]) -> str:
    """Return the detection rows and their mean as Markdown."""
    names = (
        "recall",
        "precision",
        "astroscrappy_recall",
        "astroscrappy_precision",
        "precision_at_their_recall",
        "recall_at_their_precision",
    )
    lines = [
        f"Detection on {len(rows)} unseen frames; astroscrappy at {settings}.",
        "",
        "| detector | band | CR pixels % | recall | precision | astroscrappy recall | "
        "astroscrappy precision | our precision at its recall | our recall at its precision |",
        "|" + "---|" * 9,
    ]
    for row in rows:
        values = " | ".join(f"{100 * row[name]:.2f}" for name in names)
        lines.append(
            f"| {row['detector']} | {row['band']} | {100 * row['cr_fraction']:.2f} | {values} |"
        )
    mean = " | ".join(f"{100 * np.nanmean([row[name] for row in rows]):.2f}" for name in names)
    lines.append(f"| **mean** | | | {mean} |")
    return "\n".join(lines) + "\n"


# --- inpainting ---------------------------------------------------------------------


def score_inpainting(pairs: list[datasets.Pair], injections: int, rounds: int) -> list[dict]:
    """Return Δmag of every CR-hit source, for two kinds of hits.

    ``natural``: the frame's own CRs, found or not, mended end to end with the mask that
    detection draws.
    ``injected``: CRs of the frame moved onto sources of the CR-free one, mask given.
    """
    rows: list[dict] = []
    for pair in tqdm(pairs, desc="inpainting", disable=None):
        exposure, frame = crmend.read_exposure(pair.level1), read_frame(pair)
        optics = optics_of(fits.getheader(pair.level1), frame.clean.shape)
        catalogue = bright_sources(frame)
        found = crmend.clean(exposure)
        noise = exposure.error
        images = (frame.clean, frame.image, found.image)
        masks = (frame.true_mask, found.cr_mask)
        rows += score(images, masks, noise, (catalogue, optics), "natural")
        rng = np.random.default_rng(int(exposure.detector))
        for _ in range(rounds):
            hit = injected(frame, catalogue, injections, rng)
            mask = hit.true_mask
            mended = crmend.inpaint(
                hit.image,
                mask,
                detector=hit.detector,
                invalid=hit.invalid,
                saturated=hit.saturated,
                error=hit.error,
            )
            images = (hit.clean, hit.image, mended.image)
            rows += score(images, (mask, mask), noise, (catalogue, optics), "injected")
    return rows


def bright_sources(frame: HitFrame) -> Table:
    """Return unsaturated sources with S/N > 20 in a 5 px circle, 16 px off the edges."""
    table, clean = frame.catalog, frame.clean
    ny, nx = clean.shape
    x, y = np.asarray(table["x"]), np.asarray(table["y"])
    inside = (x > 16) & (y > 16) & (x < nx - 17) & (y < ny - 17)
    table = table[inside]
    x, y = np.asarray(table["x"], float), np.asarray(table["y"], float)
    touched = evaluate.hit_sources(frame.excluded, x, y)
    flux = 10 ** (-0.4 * evaluate.aperture_magnitudes(clean, float(np.median(clean)), x, y))
    sky = max(float(np.median(clean)), 0.0)
    noise = np.sqrt(flux * EXPOSURE_TIME + 78.5 * (sky * EXPOSURE_TIME + 25.0)) / EXPOSURE_TIME
    return table[~touched & (flux > 20 * noise)]


def injected(
    frame: HitFrame, catalogue: Table, injections: int, rng: np.random.Generator
) -> HitFrame:
    """Return the CR-free frame with CRs of its own moved onto sources, 0–5 px off centre.

    They bring their charge, as any CR does: the runtime takes what a pixel holds for what was
    there and some charge, so that a constant instead would tell it the truth or hide it.
    """
    rays, moves = peers_hits.rays_of(frame), []
    for index in rng.permutation(len(catalogue))[:injections] if rays else ():
        rows, columns, row, column = peers_hits.draw_ray(rays, rng)
        y = round(float(catalogue["y"][index])) + rng.integers(-5, 6)
        x = round(float(catalogue["x"][index])) + rng.integers(-5, 6)
        moves.append((rows, columns, y - row, x - column))
    without = replace(frame, image=frame.clean, truth=np.zeros_like(frame.truth))
    return peers_hits.with_copies(without, frame, moves)


def score(
    images: tuple[NDArray, NDArray, NDArray],
    masks: tuple[NDArray, NDArray],
    error: NDArray,
    sources: tuple[Table, Optics],
    kind: str,
) -> list[dict]:
    """Return Δmag (mended − CR-free image, 5 px circle) of the sources that CRs hit.

    ``images`` are the CR-free one, the damaged one and ours; ``masks`` the pixels that hold a
    CR, which say what is hit, and those that were mended.  The 5×5 masked median mends the
    same pixels of the damaged image.  ``floor`` is the noise of the pixels with a CR [mag]: the
    scatter that even a fill with the noiseless truth would have; ``bound``, for hits of cores,
    what an unbiased guess from the other pixels can reach at best (`mending_bound`).
    """
    catalogue, optics = sources
    x, y = np.asarray(catalogue["x"], float), np.asarray(catalogue["y"], float)
    cr, mended = masks
    hit = evaluate.hit_sources(cr, x, y)
    core = evaluate.hit_sources(cr, x, y, radius=2.0)
    background = float(np.nanmedian(images[0]))
    peer = evaluate.masked_median(images[1], mended)
    truth, ours, median = (
        evaluate.aperture_magnitudes(image, background, x, y)
        for image in (images[0], images[2], peer)
    )
    flux = 10 ** (-0.4 * truth)
    variance = np.where(np.isfinite(error), error, 0.0) ** 2
    lost = evaluate.aperture_sum(np.where(cr, variance, 0.0), x, y)
    whole = evaluate.aperture_sum(variance, x, y)

    def bound(i: int) -> float:
        if not core[i]:
            return np.nan
        psf = optics.psfs[int(optics.nearest(x[i : i + 1], y[i : i + 1], cr.shape)[0])]
        return hole_bound(catalogue[i].as_void(), psf, cr, error)

    return [
        {
            "kind": kind,
            "type": str(catalogue["type"][i]),
            "mag": float(catalogue["mag"][i]),
            "snr": float(flux[i] / np.sqrt(whole[i])),
            "core": bool(core[i]),
            "ours": float(ours[i] - truth[i]),
            "median": float(median[i] - truth[i]),
            "floor": float(1.0857 * np.sqrt(lost[i]) / flux[i]),
            "bound": float(1.0857 * np.hypot(np.sqrt(lost[i]), bound(int(i))) / flux[i]),
        }
        for i in np.flatnonzero(hit)
    ]


def inpainting_table(rows: list[dict]) -> str:
    """Return the medians and scatters per type and place of the hit as Markdown."""
    lines = [
        "Inpainting on unsaturated sources that a CR hits (mended − CR-free, 5 px circle).",
        "Natural: a frame's own CRs, those that detection missed among them; injected: CRs put",
        "with their charge on sources of the CR-free frame, their mask given.  Floor: what",
        "filling with the noiseless truth would give, from the noise of the pixels with a CR;",
        "at most: the ratio that such a fill would have.  Bound, of cores: the same for the",
        "best unbiased guess from the other pixels, with brightness, place, size, shape and",
        "bulge unknown.",
        "",
        "| hits | type | where | S/N | n | median abs Δm: ours | 5×5 median | floor | bound | "
        "ratio | at most | bias: ours | 5×5 median | scatter: ours | 5×5 median | floor | "
        "bound | ratio | at most |",
        "|" + "---|" * 19,
    ]
    for kind in ("natural", "injected"):
        for source in ("star", "galaxy"):
            for where in ("any", "core"):
                for least in (20, 100):
                    chosen = [
                        row
                        for row in rows
                        if row["kind"] == kind
                        and row["type"] == source
                        and row["snr"] > least
                        and (where == "any" or row["core"])
                    ]
                    if len(chosen) >= 5:
                        lines.append(
                            f"| {kind} | {source} | {where} | > {least} " + _row(chosen)
                        )
    return "\n".join(lines).replace("nan", "–") + "\n"


def _row(chosen: list[dict]) -> str:
    """Return the figures of one selection."""
    noise = np.random.default_rng(0).normal(size=(200, len(chosen)))
    floor, bound = (
        evaluate.summary((noise * [row[name] for row in chosen]).ravel())
        if np.isfinite([row[name] for row in chosen]).all()
        else dict.fromkeys(("median_abs", "scatter"), np.nan)
        for name in ("floor", "bound")
    )
    ours, peer = (
        evaluate.summary(np.array([row[name] for row in chosen])) for name in ("ours", "median")
    )
    return (
        f"| {ours['n']} | {ours['median_abs']:.4f} | {peer['median_abs']:.4f} | "
        f"{floor['median_abs']:.4f} | {bound['median_abs']:.4f} | "
        f"{peer['median_abs'] / ours['median_abs']:.1f} | "
        f"{peer['median_abs'] / floor['median_abs']:.1f} | "
        f"{ours['bias']:+.4f} | {peer['bias']:+.4f} | {ours['scatter']:.4f} | "
        f"{peer['scatter']:.4f} | {floor['scatter']:.4f} | {bound['scatter']:.4f} | "
        f"{peer['scatter'] / ours['scatter']:.1f} | "
        f"{peer['scatter'] / floor['scatter']:.1f} |"
    )


if __name__ == "__main__":
    run_script(main)
