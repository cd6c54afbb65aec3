"""Train a detection network on a data set of `crmend_training.datasets`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from crmend import _normalise
from crmend._inputs import check_views
from crmend._views import TURNS
from crmend_training import _checkpoints, _training, augmentation, datasets
from crmend_training._machine import device_for_training
from crmend_training.averaging import mean_of
from crmend_training.losses import cross_entropy, detection_loss, source_weight
from crmend_training.networks import FINDERS
from crmend_training.resident import HALO, ResidentBatches
from crmend_training.simulate.cosmic_rays import LONGEST_SHARP, Sharp

RANDOM_TURN = 0
"""What `DetectRecipe.teacher_views` says instead of a number of views."""


@dataclass(frozen=True)
class DetectRecipe:
    """What one detection training does.

    Attributes
    ----------
    crop : int
        Side of a training crop [px].
    batch : int
        Crops per step.
    noise_range : (float, float)
        The noise estimate is multiplied by a number drawn from here, since the runtime's
        estimate is never exact and other instruments differ.
    offset : float
        The background estimate is moved by up to so many sigma.
    border : float
        Share of the crops that end like a frame: beyond one side the inside is mirrored, and
        takes no part in the loss.
    hard : float
        Share of the crops from stamps on which the network did badly lately: of eight drawn
        at random, the one with the largest loss when it was last seen.
    distil : float
        Weight of the teacher's probabilities in what is learnt, if there is a teacher.
    teacher_views : int
        How often the teacher sees a crop, turned and mirrored (`crmend.detect`): 1, 2, 4 or 8;
        0 = once, turned at random.  So the student learns the mean over all turns, at the
        price of one.
    simulated : float or None
        Share of the crops from frames that were drawn for the set (`datasets.generic_frame`,
        `datasets.zoo_frame`), where it has others too; None = as their stamps' share.
    on_sources : float
        What pixels of sources that hold no CR count in the loss beside 1
        (`losses.source_weight`).  Probabilities there come out too low by that factor in odds.
    initial_share : float
        What the weights that training starts from count in the final ones, 0…1: a mean keeps
        most of what either is better at (Wortsman et al. 2022, Robust fine-tuning of zero-shot
        models).
    sharp : float
        Share of the crops to which sharp points and tracks are added
        (`simulate.cosmic_rays.Sharp`).
    sharp_charge : (float, float)
        Their charge per pixel of path, log-uniform [noise].
    sharp_points : float
        Share of points among them, the others are tracks.
    sharp_label : (float, float)
        Charge from which a pixel of theirs counts as hit, drawn for each crop [noise]: about
        1 e- of CSST's noise; the edges of `datasets.generic_frame` for tight labels.
    straight : float
        Share of the crops to which tracks along rows and columns are added, with the charges
        and labels of sharp ones: they are few in any simulation, and look like bad columns.
    wide : float
        Share of the crops to which tracks are added whose charge diffuses more than in either
        law (`augmentation.wide_tracks`), with the charges and labels of sharp ones.
    wide_diffusion : (float, float)
        Their sigma, log-uniform [px]; both laws end at 0.45.
    wide_points : float
        Share of points among them, of those that are not too wide to be told from stars.
    wide_length : float
        Least length of the tracks, which tells them from stars [px].
    lines : float
        Share of the crops to which a bright line is added that is no cosmic ray: a bad column
        or bleeding (`augmentation.with_line`).
    hot : float
        Share of the crops to which single hot pixels are added that no flag names and that are
        no cosmic rays (`augmentation.hot_pixels`).
    hot_alone : bool
        Only to crops that hold no cosmic ray: beside others one pixel may be one, too, and
        which it is cannot be seen.
    resident : bool or None
        Keep the set where the network is and draw the crops there (`resident`); None = on a
        GPU.
    """

    config: dict[str, Any]
    seed: int = 1
    crop: int = 128
    batch: int = 8
    noise_range: tuple[float, float] = (0.8, 1.25)
    offset: float = 0.3
    border: float = 0.1
    hard: float = 0.0
    distil: float = 0.5
    teacher_views: int = 1
    simulated: float | None = None
    on_sources: float = 0.0
    initial_share: float = 0.0
    sharp: float = 0.0
    sharp_charge: tuple[float, float] = (5.0, 2e4)
    sharp_points: float = 0.5
    sharp_label: tuple[float, float] = (0.15, 0.15)
    straight: float = 0.0
    wide: float = 0.0
    wide_diffusion: tuple[float, float] = (0.3, 0.75)
    wide_points: float = 0.3
    wide_length: float = 3.0
    lines: float = 0.0
    hot: float = 0.0
    hot_alone: bool = False
    resident: bool | None = None

    def __post_init__(self) -> None:
        shares = (
            "border", "hard", "distil", "simulated", "sharp", "sharp_points", "straight",
            "wide", "wide_points", "lines", "hot",
        )  # fmt: skip
        _training.check_settings(self, shares)
        for name in ("noise_range", "sharp_charge", "sharp_label", "wide_diffusion"):
            low, high = getattr(self, name)
            if not 0.0 < low <= high:
                raise ValueError(
                    f"{name} is {(low, high)}; expected two numbers above 0 in their order"
                )
        if self.offset < 0.0 or self.on_sources < 0.0:
            raise ValueError(
                f"offset is {self.offset}, on_sources {self.on_sources}; expected none below 0"
            )
        if not 1.0 <= self.wide_length < LONGEST_SHARP:
            raise ValueError(
                f"wide_length is {self.wide_length}; expected 1 to below {LONGEST_SHARP:.0f} px"
            )
        if self.teacher_views != RANDOM_TURN:
            check_views(self.teacher_views, "teacher_views")

    def additions(self) -> list[tuple[float, Callable[[np.random.Generator], Sharp]]]:
        """Return the kinds of cosmic rays that crops get: their share, and how to draw one."""
        charge = self.sharp_charge
        wide = (charge, self.wide_diffusion, self.wide_points, self.wide_length)
        return [
            (self.sharp, partial(augmentation.sharp_events, charge, self.sharp_points)),
            (self.straight, partial(augmentation.straight_tracks, charge)),
            (self.wide, partial(augmentation.wide_tracks, *wide)),
        ]


class DetectBatches:
    """Draws augmented batches from the frames of one side of the split."""

    def __init__(self, folder: Path, frames: list[int], recipe: DetectRecipe):
        self.image = datasets.load_column(folder, "detect/image")
        self.mask = datasets.load_column(folder, "detect/mask")
        self.ignore = datasets.load_column(folder, "detect/ignore")
        owner = datasets.load_column(folder, "detect/frame")
        self.stamps = np.flatnonzero(np.isin(owner, frames))
        names = datasets.load_info(folder)["frames"]
        drawn = [i for i in frames if names[i].startswith(datasets.DRAWN)]
        self.drawn_stamps = self.stamps[np.isin(owner[self.stamps], drawn)]
        self.read_stamps = np.setdiff1d(self.stamps, self.drawn_stamps)
        self.recipe = recipe
        self.losses = np.zeros(len(self.image), dtype=np.float32)
        self.drawn: list[int] = []

    def draw(self, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (input, mask, ignore), each (batch, 1, crop, crop) float32."""
        self.drawn = [self._choose(rng) for _ in range(self.recipe.batch)]
        return _training.stacked([self._one(stamp, rng) for stamp in self.drawn])

    def learn_losses(self, losses: torch.Tensor) -> None:
        """Remember the mean loss of every crop of the last batch, for hard examples."""
        self.losses[self.drawn] = losses.cpu().numpy()

    def _choose(self, rng: np.random.Generator) -> int:
        """Return a stamp, drawn at random or as a hard one."""
        stamps, share = self.stamps, self.recipe.simulated
        if share is not None and len(self.drawn_stamps) and len(self.read_stamps):
            stamps = self.drawn_stamps if rng.random() < share else self.read_stamps
        if rng.random() >= self.recipe.hard:
            return int(rng.choice(stamps))
        candidates = rng.choice(stamps, 8)
        return int(candidates[np.argmax(self.losses[candidates])])

    def _one(self, stamp: int, rng: np.random.Generator) -> tuple[NDArray, NDArray, NDArray]:
        recipe = self.recipe
        room = self.image.shape[1] - recipe.crop + 1
        y, x = rng.integers(room, size=2)
        window = np.s_[stamp, y : y + recipe.crop, x : x + recipe.crop]
        turn = augmentation.turning(rng)
        low, high = np.log(recipe.noise_range)
        noise = np.exp(rng.uniform(low, high))
        offset = rng.uniform(-recipe.offset, recipe.offset)
        image, mask, ignore = self.image[window], self.mask[window], self.ignore[window]
        if rng.random() < recipe.border:
            beyond = int(rng.integers(1, HALO + 1))
            image, mask, ignore = (
                augmentation.mirrored(part, beyond) for part in (image, mask, ignore)
            )
            ignore[:beyond] = True
        for share, draw in recipe.additions():
            if rng.random() >= share:
                continue
            kind = draw(rng)
            label = rng.uniform(*recipe.sharp_label)
            image, mask = augmentation.with_sharp_events(image, mask, kind, label, rng)
        if rng.random() < recipe.lines:
            image, mask = augmentation.with_line(image, mask, rng)
        if rng.random() < recipe.hot and not (recipe.hot_alone and mask.any()):
            image = image + augmentation.hot_pixels(rng, image.shape)
        image = detect_input((turn(image) - offset) / noise)
        return image, turn(mask), turn(ignore)


def detect_input(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the network input of an image that is in noise units already."""
    return _normalise.to_detect_input(
        image.astype(np.float32), _normalise.Scale(background=0.0, noise=1.0)
    )


def noise_units(image: torch.Tensor) -> torch.Tensor:
    """Return network input as it was before `detect_input` [noise units]."""
    return _normalise.SOFTENING * torch.sinh(image)


def train(
    paths: _training.Paths, recipe: DetectRecipe, schedule: _training.Schedule
) -> _training.Run:
    """Train, checkpoint into ``paths.out`` and return the finished run."""
    settle = _mean_with(paths.initial, recipe.initial_share) if recipe.initial_share else None
    device = device_for_training()
    kind: Callable[..., DetectBatches | ResidentBatches] = DetectBatches
    on_gpu = device.type == "cuda"
    if on_gpu if recipe.resident is None else recipe.resident:
        kind = partial(ResidentBatches, device=device)
    run, batches, checks = _training.start_on(paths, recipe, kind)
    side = datasets.load_column(paths.folder, "detect/mask").shape[1]
    _training.check_crop(recipe.crop, run.network.stride, side)
    teachers = _teachers(paths.teachers, run)

    def loss_of_batch(run: _training.Run) -> torch.Tensor:
        image, mask, ignore = (part.to(run.device) for part in batches.draw(run.rng))
        target = mask
        with run.autocast():
            if teachers:
                teacher = teachers[int(run.rng.integers(len(teachers)))]
                turns = teacher_turns(recipe.teacher_views, run.rng)
                soft = torch.sigmoid(mean_logits(teacher, image, turns))
                target = (1.0 - recipe.distil) * mask + recipe.distil * soft
            logits = run.network.logits(image).float()
        losses = cross_entropy(logits, target, ignore)
        if recipe.on_sources:
            losses = losses * source_weight(noise_units(image), mask, recipe.on_sources)
        batches.learn_losses(losses.detach().mean(dim=(1, 2, 3)))
        return losses.sum() / (1.0 - ignore).sum().clamp(min=1.0)

    def validate(run: _training.Run) -> dict[str, float]:
        return pixel_scores(run.network, checks, np.random.default_rng(0))

    return _training.train(run, schedule, loss_of_batch, validate, paths.out, settle=settle)


def teacher_turns(views: int, rng: np.random.Generator) -> Sequence[tuple[int, bool]]:
    """Return the turns in which a teacher sees a batch, some of `crmend._views.TURNS`."""
    if views == RANDOM_TURN:
        return [TURNS[int(rng.integers(len(TURNS)))]]
    return TURNS[:views]


@torch.no_grad()
def mean_logits(
    network: torch.nn.Module, image: torch.Tensor, turns: Sequence[tuple[int, bool]]
) -> torch.Tensor:
    """Return the mean log-odds of square crops over some views, as `crmend._views`.

    Parameters
    ----------
    network : torch.nn.Module
    image : (n, 1, h, h) tensor
        Network input.
    turns : sequence of (int, bool)
        Quarters by which each view is turned, and whether it is mirrored then.
    """
    total = torch.zeros_like(image, dtype=torch.float32)
    for quarter, mirrored in turns:
        seen = torch.rot90(image, quarter, dims=(-2, -1))
        found = network.logits(seen.flip(-1) if mirrored else seen).float()
        total += torch.rot90(found.flip(-1) if mirrored else found, -quarter, dims=(-2, -1))
    return total / len(turns)


def _mean_with(initial: Path | None, share: float) -> Callable[[_training.Run], None]:
    """Return what gives the weights of a checkpoint their share in those of a run."""
    if initial is None or not 0.0 < share < 1.0:
        raise ValueError(
            f"initial_share is {share} and the weights to start from {initial}; expected a "
            "number between 0 and 1, and a checkpoint (--from)"
        )
    first = _checkpoints.read_checkpoint(initial)["state_dict"]

    def settle(run: _training.Run) -> None:
        with torch.no_grad():
            for name, weight in run.network.named_parameters():
                both = (weight, first[name].to(weight))
                weight.copy_(mean_of(both, (1.0 - share, share)))
        run.info["initial_share"] = share

    return settle


def _teachers(checkpoints: Sequence[Path], run: _training.Run) -> list[torch.nn.Module]:
    """Return the teachers where the student is; the run's info notes their checkpoints."""
    saved = [_checkpoints.read_checkpoint(checkpoint, FINDERS) for checkpoint in checkpoints]
    if saved:
        run.info["teachers"] = [one["info"] for one in saved]
    return [
        _checkpoints.network_of(one).to(run.device, memory_format=torch.channels_last)
        for one in saved
    ]


def pixel_scores(
    network: torch.nn.Module,
    batches: DetectBatches | ResidentBatches,
    rng: np.random.Generator,
    draws: int = 24,
) -> dict[str, float]:
    """Return loss, recall and precision at 0.5 on pixels > 1 e- of held-out frames."""
    hits = truths = flagged = 0.0
    losses = []
    device = next(network.parameters()).device
    for _ in range(draws):
        image, mask, ignore = (part.to(device) for part in batches.draw(rng))
        logits = network.logits(image)
        losses.append(float(detection_loss(logits, mask, ignore)))
        found = (logits > 0) & (ignore == 0)
        real = (mask > 0) & (ignore == 0)
        hits += float((found & real).sum())
        flagged += float(found.sum())
        truths += float(real.sum())
    return {
        "held_out_loss": float(np.mean(losses)),
        "recall": hits / max(truths, 1.0),
        "precision": hits / max(flagged, 1.0),
    }
