"""What both trainings share: a budget, a schedule, checkpoints that resume, a log."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crmend_training import datasets
from crmend_training._checkpoints import (
    check_resumed,
    final_at,
    read_checkpoint,
    write_checkpoint,
)
from crmend_training._machine import device_for_training, fast_bfloat16
from crmend_training._memory import keep_memory
from crmend_training.networks import build
from crmend_training.widening import widen


@dataclass(frozen=True)
class Schedule:
    """How long to train and at what rate.

    Attributes
    ----------
    steps : int
        Steps after which training ends.
    budget : float
        Wall time after which training ends, over all resumed runs [s].
    rate : float
        Peak learning rate of Adam; a short warm-up, then a cosine to 1 % of it.
    checkpoint_every : float
        Time between checkpoints [s].
    """

    steps: int
    budget: float
    rate: float = 2e-3
    checkpoint_every: float = 60.0

    def __post_init__(self) -> None:
        if self.steps < 0 or not self.budget > 0.0 or not self.rate > 0.0:
            raise ValueError(
                f"steps is {self.steps}, budget {self.budget:g} s, rate {self.rate:g}; "
                "expected 0 steps or more, a time and a rate above 0"
            )

    def progress(self, step: int, elapsed: float) -> float:
        """Return the finished fraction in 0…1, by steps or by time, whichever leads."""
        return min(1.0, max(step / self.steps if self.steps else 1.0, elapsed / self.budget))

    def rate_at(self, step: int, progress: float) -> float:
        """Return the learning rate at a step."""
        warm = min(1.0, (step + 1) / max(1.0, min(100.0, self.steps / 10)))
        return self.rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


@dataclass
class Run:
    """A training in flight: all that a checkpoint holds; `complete`: it had ended before."""

    network: nn.Module
    config: dict[str, Any]
    optimiser: torch.optim.Optimizer
    rng: np.random.Generator
    info: dict[str, Any]
    step: int = 0
    elapsed: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    complete: bool = False

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @property
    def record(self) -> dict[str, Any]:
        """What a checkpoint says of the run, with the steps and the seconds that it took."""
        return self.info | {"steps": self.step, "seconds": round(self.elapsed)}

    def autocast(self) -> torch.autocast:
        """Return a context in which convolutions run in bfloat16, where that is faster."""
        enabled = self.device.type == "cuda" or fast_bfloat16()
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)


def start(
    config: dict[str, Any],
    seed: int,
    info: dict[str, Any],
    resume: Path | None,
    initial: Path | None = None,
) -> Run:
    """Make a fresh run, from random or `initial` weights, or go on from a checkpoint.

    A resumed run goes on from the same weights, optimiser state and random stream; since
    the schedule follows wall time as well as steps, it is not bit-identical to one that
    was never stopped.

    Raises
    ------
    ValueError
        The checkpoint is of other settings or another network, or holds final weights only.
    """
    torch.manual_seed(seed)
    device = device_for_training()
    network = build(config).to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    run = Run(network, config, optimiser, np.random.default_rng(seed), info)
    if initial is not None:
        state = _load(initial, config, widths=False)
        if state["config"].get("sigma_filters", 0) != config.get("sigma_filters", 0):
            _forget_uncertainty(state["state_dict"])
        if any(state["config"].get(key) != config.get(key) for key in ("filters", "profile")):
            widen(network, state["state_dict"], state["config"]["filters"])
        else:
            _load_matching(network, state["state_dict"])
        run.info["initial"] = state["info"]
    if resume is not None and resume.is_file():
        state = _load(resume, config)
        if "optimiser" not in state:
            raise ValueError(
                f"{resume} holds final weights and nothing to go on from; start from them with "
                "--from, in another --out"
            )
        check_resumed(resume, state["info"], run.info)
        run.info = state["info"] | run.info
        network.load_state_dict(state["state_dict"])
        optimiser.load_state_dict(state["optimiser"])
        run.rng.bit_generator.state = state["rng"]
        run.step, run.elapsed, run.history = state["step"], state["elapsed"], state["history"]
    return run


def _load_matching(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load weights into a network that may have further heads; those keep their start."""
    missing, unexpected = network.load_state_dict(weights, strict=False)
    if unexpected or any(not name.startswith("spread.") for name in missing):
        raise ValueError(f"weights do not fit: missing {missing}, unexpected {unexpected}")


def _forget_uncertainty(weights: dict[str, Tensor]) -> None:
    """Drop a head that does not fit the network, so that it is learnt anew."""
    for name in [name for name in weights if name.startswith("spread.")]:
        del weights[name]


def _load(path: Path, config: dict[str, Any], *, widths: bool = True) -> dict[str, Any]:
    """Read a checkpoint and refuse one of another network, or only of another width."""
    state = read_checkpoint(path)
    free: dict[str, Any] = {"sigma": None}
    if not widths:
        free |= {"filters": None, "profile": None, "sigma_filters": None}
    if state["config"] | free != config | free:
        raise ValueError(
            f"{path} holds {state['config']}, the recipe asks for {config}; give a "
            "checkpoint of that network, or a recipe with this one"
        )
    return state


@dataclass(frozen=True)
class Paths:
    """Where a run reads and writes, and what it goes on from.

    Attributes
    ----------
    folder : Path
        The data set.
    out : Path
        Checkpoints and log.
    resume : bool
        Go on from the checkpoint in `out`, if there is one.
    initial : Path or None
        Checkpoint whose weights a fresh run starts from.
    teachers : tuple of Path
        Checkpoints of detection networks whose probabilities are learnt too, one of them,
        drawn at random, at each step.
    frames : str
        Only frames whose name matches this pattern, such as ``*_08_L1_*``.
    recipe : str
        Name of the recipe, for the card; empty = the export names one.
    """

    folder: Path
    out: Path
    resume: bool = False
    initial: Path | None = None
    teachers: tuple[Path, ...] = ()
    frames: str = "*"
    recipe: str = ""


def detectors_of(folder: Path) -> list[str]:
    """Return the detectors whose Level 1 frames a data set holds, such as ``08``."""
    found = (re.search(r"_(\d{2})_L1_", name) for name in datasets.load_info(folder)["frames"])
    return sorted({match[1] for match in found if match})


def _settings_of(recipe: Any) -> dict[str, Any]:
    """Return what decides what a network learns, but for what is checked by itself."""
    free = ("config", "seed", "resident")
    return {k: v for k, v in dataclasses.asdict(recipe).items() if k not in free}


def start_on(paths: Paths, recipe: Any, batches: Callable[..., Any]) -> tuple[Run, Any, Any]:
    """Start a run on a data set; return it with its training and its held-out batches.

    Raises
    ------
    ValueError
        No training frame matches, or the checkpoint cannot be gone on from (`start`).
    """
    folder = paths.folder
    info = datasets.load_info(folder)
    sides = datasets.split_frames(info)
    training, held = (
        [i for i in side if fnmatch(info["frames"][i], paths.frames)] for side in sides
    )
    if not training:
        raise ValueError(
            f"no training frame of {folder} matches {paths.frames!r}; expected at least one"
        )
    # A detector may have no held-out frame; then the others' tell how the run goes.
    held = held or sides[1]
    run = start(
        recipe.config,
        recipe.seed,
        {
            "data_fingerprint": info["fingerprint"],
            "seed": recipe.seed,
            "settings": _settings_of(recipe),
        }
        | ({"recipe": paths.recipe} if paths.recipe else {}),
        paths.out / "checkpoint.pt" if paths.resume else None,
        paths.initial,
    )
    return run, batches(folder, training, recipe), batches(folder, held, recipe)


def stacked(rows: list[tuple[Any, ...]]) -> tuple[Tensor, ...]:
    """Return rows of (h, w) arrays as as many (n, 1, h, w) float32 tensors."""
    return tuple(
        torch.from_numpy(np.stack(column)[:, None].astype(np.float32))
        for column in zip(*rows, strict=True)
    )


def check_settings(recipe: Any, shares: tuple[str, ...]) -> None:
    """Refuse a crop or a batch of nothing, a negative seed, and shares outside of 0…1.

    Raises
    ------
    ValueError
        A number is too small, or a share is none.
    """
    for name, least in (("seed", 0), ("crop", 1), ("batch", 1)):
        if getattr(recipe, name) < least:
            raise ValueError(f"{name} is {getattr(recipe, name)}; expected at least {least}")
    for name in shares:
        share = getattr(recipe, name)
        if share is not None and not 0.0 <= share <= 1.0:
            raise ValueError(f"{name} is {share}; expected a share between 0 and 1")


def check_crop(crop: int, stride: int, side: int) -> None:
    """Refuse crops that a network cannot halve, or that do not fit into their images.

    Raises
    ------
    ValueError
        The crop does not fit the network or the set.
    """
    if crop % stride or crop > side:
        raise ValueError(
            f"crop is {crop}; expected a multiple of {stride}, which this network needs, and "
            f"at most {side} px, which the data set's images hold"
        )


def save(run: Run, path: Path, *, final: bool = False) -> None:
    """Write a checkpoint atomically; a final one holds the weights alone.

    Final weights are rounded to half precision, far finer than what training settles, so that
    checkpoints are half the size, and so are graphs that store them as they are.
    """
    weights = run.network.state_dict()
    if final:
        # Buffers (counts and variances of batch norm) may lie beyond its range.
        learnt = {name for name, _ in run.network.named_parameters()}
        weights = {n: w.half() if n in learnt else w for n, w in weights.items()}
    state: dict[str, Any] = {
        "state_dict": weights,
        "config": run.config,
        "info": run.record,
    }
    if not final:
        state |= {
            "optimiser": run.optimiser.state_dict(),
            "rng": run.rng.bit_generator.state,
            "step": run.step,
            "elapsed": run.elapsed,
            "history": run.history,
        }
    write_checkpoint(state, path)


def train(
    run: Run,
    schedule: Schedule,
    loss_of_batch: Callable[[Run], Tensor],
    validate: Callable[[Run], dict[str, float]],
    folder: Path,
    *,
    log_every: float = 20.0,
    validate_every: float = 240.0,
    settle: Callable[[Run], None] | None = None,
) -> Run:
    """Run the loop until steps or budget are used up; checkpoints go to ``folder``.

    `settle` may change the network after the last checkpoint; what it leaves is checked and
    final.  Of a resumed run that has used them up before, every file stays as it is.
    """
    ended = run.history and schedule.progress(run.step, run.elapsed) == 1.0
    if ended and (final := final_at(run.step, folder / "final.pt")):
        run.network.load_state_dict(final["state_dict"])
        run.info, run.complete = final["info"], True
        return run
    keep_memory()
    clock = last_log = last_save = last_check = time.monotonic()
    losses: list[float] = []
    while (progress := schedule.progress(run.step, run.elapsed)) < 1.0:
        for group in run.optimiser.param_groups:
            group["lr"] = schedule.rate_at(run.step, progress)
        loss = loss_of_batch(run)
        run.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(run.network.parameters(), 1.0)
        run.optimiser.step()
        losses.append(float(loss.detach()))
        run.step += 1
        now = time.monotonic()
        run.elapsed, clock = run.elapsed + now - clock, now
        if now - last_log > log_every:
            _log(
                folder,
                {
                    "step": run.step,
                    "seconds": round(run.elapsed),
                    "progress": progress,
                    "loss": float(np.mean(losses)),
                },
            )
            losses, last_log = [], now
        if now - last_check > validate_every:
            _log(folder, {"step": run.step} | _checked(run, validate))
            last_check = time.monotonic()
            clock = last_check
        if now - last_save > schedule.checkpoint_every:
            save(run, folder / "checkpoint.pt")
            last_save = now
    _log(folder, {"step": run.step, "seconds": round(run.elapsed)} | _checked(run, validate))
    save(run, folder / "checkpoint.pt")
    if settle is not None:
        settle(run)
        _log(folder, {"step": run.step} | _checked(run, validate))
    save(run, folder / "final.pt", final=True)
    return run


def _checked(run: Run, validate: Callable[[Run], dict[str, float]]) -> dict[str, float]:
    run.network.eval()
    with torch.no_grad():
        metrics = validate(run)
    run.network.train()
    run.history.append({"step": run.step} | metrics)
    run.info["validation"] = metrics
    return metrics


def _log(folder: Path, row: dict[str, float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.jsonl").open("a") as file:
        file.write(json.dumps({k: round(v, 6) for k, v in row.items()}) + "\n")
