"""Train the inpainting network (UNet++) on a data set of `crmend_training.datasets`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from crmend._kernels import MIN_GOOD, adaptive_median, smooth_fill
from crmend._profile import fit_profiles
from crmend_training import _training, datasets
from crmend_training.augmentation import turned, turning
from crmend_training.losses import inpainting_loss, spread_loss


@dataclass(frozen=True)
class InpaintRecipe:
    """What one inpainting training does.

    Attributes
    ----------
    crop : int
        Side of the cutout around its source that is trained on [px], at most 64.
    shift : int
        CRs are moved by 0 to this many px in x and in y (paper, section 2.2: 10).
    central : float
        Share of the cutouts with a CR moved onto the source's centre (within 3 px).
    others : float
        Mean number of further CRs, moved by up to half a cutout; with 2 % of all pixels hit,
        a 40×40 holds about three.
    grown, thinned : float
        Shares of the masks grown by one pixel, and without their faintest pixels (up to 3
        sigma of the background), since a detector's masks are not the truth.
    off_centre : float
        Share of the cutouts centred a pixel beside the source, as a hit source is.
    alpha : float
        Weight of the loss on CR pixels (paper, section 3.2: 4).  It cancels for a network that
        leaves other pixels alone, as `networks.UNetPlusPlus` does (`losses.weighted_mse`).
    sigma_weight : float
        Weight of the loss of the uncertainty, for a network that gives one.
    only_sigma : bool
        Learn the uncertainty alone: the mended pixels stay what they are.
    blind : float
        Share of the cutouts whose profile is fitted without the PSF, as in frames with too few
        stars.
    """

    config: dict[str, Any]
    seed: int = 2
    crop: int = 40
    batch: int = 16
    shift: int = 10
    central: float = 0.7
    others: float = 3.0
    grown: float = 0.25
    thinned: float = 0.4
    off_centre: float = 0.4
    alpha: float = 4.0
    sigma_weight: float = 0.1
    only_sigma: bool = False
    blind: float = 0.15

    def __post_init__(self) -> None:
        _training.check_settings(self, ("central", "grown", "thinned", "off_centre", "blind"))
        for name in ("shift", "others", "alpha", "sigma_weight"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 0")


class InpaintBatches:
    """Injects CRs into source cutouts; draws batches of (filled, mask, truth)."""

    def __init__(self, folder: Path, frames: list[int], recipe: InpaintRecipe):
        self.image = datasets.load_column(folder, "inpaint/image")
        self.cr = datasets.load_column(folder, "inpaint/cr")
        self.crmask = datasets.load_column(folder, "inpaint/crmask")
        self.psf = datasets.load_column(folder, "inpaint/psf")
        owner = datasets.load_column(folder, "inpaint/frame")
        crowner = datasets.load_column(folder, "inpaint/crframe")
        self.sources = np.flatnonzero(np.isin(owner, frames))
        self.rays = np.flatnonzero(np.isin(crowner, frames))
        self.recipe = recipe
        self.cumulative = np.cumsum(self._weights())[:-1]

    def _weights(self) -> NDArray[np.float64]:
        """Return the chance of each cutout: sources with a S/N below 20 less often.

        There are many of them, and noise hides what could be learnt from them.  The S/N is
        that of 9×9 pixels against the sky's noise alone.
        """
        half = self.image.shape[-1] // 2
        core = np.s_[half - 4 : half + 5, half - 4 : half + 5]
        snr = np.array([self.image[i][core].sum() / 9.0 for i in self.sources])
        weight = np.clip(snr / 20.0, 0.2, 1.0)
        return weight / weight.sum()

    def draw(self, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """Return (filled, mask, profile, truth), each (batch, 1, crop, crop) float32."""
        return _training.stacked([self._one(rng) for _ in range(self.recipe.batch)])

    def _one(self, rng: np.random.Generator) -> tuple[NDArray, ...]:
        recipe = self.recipe
        chosen = np.searchsorted(self.cumulative, rng.random())
        source = self.sources[chosen]
        quarter, flip = int(rng.integers(4)), bool(rng.integers(2))
        truth = turned_cutout(self.image[source], quarter, flip)
        psf = turned_psf(self.psf[source], quarter, flip)
        if rng.random() < recipe.blind:
            psf = psf[:0]
        hit = truth.copy()
        mask = np.zeros(truth.shape, dtype=bool)
        central = rng.random() < recipe.central
        near = 1 + int(rng.random() < 0.3) if central else int(rng.random() < 0.5)
        for _ in range(near):
            self._inject(hit, mask, 3 if central else recipe.shift, rng)
        for _ in range(rng.poisson(recipe.others) + int(near == 0)):
            self._inject(hit, mask, recipe.crop // 2, rng)
        # In training CRs only: of their pixels, what a detector leaves out.
        if rng.random() < recipe.thinned:
            mask &= hit - truth > rng.uniform(0.0, 3.0)
        if rng.random() < recipe.grown:
            mask = ndimage.binary_dilation(mask)
        filled = first_fill(hit, mask)
        edge = (truth.shape[0] - recipe.crop) // 2
        dy, dx = rng.integers(-1, 2, size=2) if rng.random() < recipe.off_centre else (0, 0)
        window = np.s_[edge + dy : edge + dy + recipe.crop, edge + dx : edge + dx + recipe.crop]
        filled, mask = (np.ascontiguousarray(part[window]) for part in (filled, mask))
        profile = np.zeros_like(filled)
        if recipe.config.get("profile", False):
            fit_profiles(filled[np.newaxis], mask[np.newaxis], psf, profile[np.newaxis])
        return filled, mask, profile, truth[window]

    def _inject(
        self, hit: NDArray, mask: NDArray, reach: int, rng: np.random.Generator
    ) -> None:
        """Add a CR, one of its pixels within `reach` of the centre; pixels go to the mask."""
        ray = rng.choice(self.rays)
        turn = turning(rng)
        values, pixels = turn(self.cr[ray]), turn(self.crmask[ray])
        ys, xs = np.nonzero(pixels)
        pick = rng.integers(len(ys))
        centre = hit.shape[0] // 2
        dy, dx = rng.integers(-reach, reach + 1, size=2)
        dy, dx = dy + centre - ys[pick], dx + centre - xs[pick]
        hit += moved(values, dy, dx)
        mask |= moved(pixels, dy, dx)


def turned_cutout(image: NDArray, quarter: int, flip: bool) -> NDArray:
    """Return a cutout turned by `turned`, its centre still at (n // 2, n // 2)."""
    # With an even number of rows that is not in the middle, and has moved.
    down, right = quarter in (1, 2), quarter in (2, 3)
    shift = (int(down), int(right != flip)) if image.shape[0] % 2 == 0 else (0, 0)
    return np.ascontiguousarray(np.roll(turned(image, quarter, flip), shift, (0, 1)))


def turned_psf(psf: NDArray[np.float64], quarter: int, flip: bool) -> NDArray[np.float64]:
    """Return a PSF (part, xx, xy, yy) turned as `turned` does it, without empty rows."""
    part, xx, xy, yy = psf[psf[:, 0] != 0.0].T
    if quarter % 2:
        xx, xy, yy = yy, -xy, xx
    return np.stack([part, xx, -xy if flip else xy, yy], axis=1)


def moved(array: NDArray, dy: int, dx: int) -> NDArray:
    """Return an array moved by whole pixels, zeros (False) moving in."""
    out = np.zeros_like(array)
    ny, nx = array.shape
    out[max(dy, 0) : ny + min(dy, 0), max(dx, 0) : nx + min(dx, 0)] = array[
        max(-dy, 0) : ny + min(-dy, 0), max(-dx, 0) : nx + min(-dx, 0)
    ]
    return out


def first_fill(image: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return a first fill as the runtime makes it: medians on CR pixels, then smoothed."""
    image = np.ascontiguousarray(image, dtype=np.float32)
    mask = np.ascontiguousarray(mask)
    filled, spread = image.copy(), np.zeros_like(image)
    adaptive_median(image, mask, np.zeros_like(mask), MIN_GOOD, 0.0, filled, spread)
    smooth_fill(filled[np.newaxis], mask[np.newaxis])
    return filled


def train(
    paths: _training.Paths, recipe: InpaintRecipe, schedule: _training.Schedule
) -> _training.Run:
    """Train, checkpoint into ``paths.out`` and return the finished run.

    Raises
    ------
    ValueError
        The settings contradict one another, or the set does not fit them.
    """
    run, batches, checks = _training.start_on(paths, recipe, InpaintBatches)
    side = datasets.CUTOUT - 2 * (recipe.off_centre > 0.0)
    _training.check_crop(recipe.crop, 2 ** (len(run.network.filters) - 1), side)
    if recipe.only_sigma:
        if not recipe.config.get("sigma", False):
            raise ValueError("only_sigma is true and sigma is not; expected both")
        for name, weight in run.network.named_parameters():
            weight.requires_grad_(name.startswith("spread."))

    def loss_of_batch(run: _training.Run) -> torch.Tensor:
        filled, mask, profile, truth = (part.to(run.device) for part in batches.draw(run.rng))
        with run.autocast():
            corrections, scale, spread = run.network.corrections(filled, mask, profile)
        corrections = [correction.float() for correction in corrections]
        if spread is not None:
            error = (filled + corrections[-1] * scale - truth) / scale
            of_sigma = spread_loss(spread.float(), error, mask)
            if recipe.only_sigma:
                return of_sigma
        true_scale = run.network.local_scale(truth)
        loss = inpainting_loss(
            corrections, scale, true_scale, filled, truth, mask, recipe.alpha
        )
        return loss if spread is None else loss + recipe.sigma_weight * of_sigma

    def validate(run: _training.Run) -> dict[str, float]:
        return fill_scores(run.network, checks, np.random.default_rng(0))

    return _training.train(
        run, schedule, loss_of_batch, validate, paths.out, validate_every=120.0
    )


def fill_scores(
    network: torch.nn.Module, batches: InpaintBatches, rng: np.random.Generator, draws: int = 48
) -> dict[str, float]:
    """Return flux errors over the mask, relative to the flux within 5 px of the centre.

    Median, half the 16–84 % range, mean and rms, of the network and of its first fill, on
    held-out frames; the scatter at every depth; and the share of mended pixels within 1 and
    2 sigma.
    """
    fills: dict[str, list[NDArray[np.float64]]] = {}
    pulls = []
    device = next(network.parameters()).device
    for _ in range(draws):
        filled, mask, profile, truth = (part.to(device) for part in batches.draw(rng))
        corrections, scale, spread = network.corrections(filled, mask, profile)
        images = {
            f"depth_{number}": filled + correction * scale
            for number, correction in enumerate(corrections, 1)
        }
        images |= {"network": filled + corrections[-1] * scale, "fill": filled}
        if spread is not None:
            pull = (images["network"] - truth) / (spread * scale)
            pulls.append(pull[mask > 0].abs().cpu().numpy())
        centre = truth.shape[-1] // 2
        core = np.s_[:, :, centre - 5 : centre + 6, centre - 5 : centre + 6]
        flux = truth[core].sum(dim=(1, 2, 3))
        bright = (flux > 200.0) & (mask[core].sum(dim=(1, 2, 3)) > 0)
        for name, image in images.items():
            difference = ((image - truth) * mask)[core].sum(dim=(1, 2, 3))
            fills.setdefault(name, []).append((difference / flux)[bright].cpu().numpy())
    scores = {}
    for name, errors in fills.items():
        values = np.concatenate(errors)
        low, middle, high = np.percentile(values, [16, 50, 84])
        scores[f"{name}_scatter"] = float(high - low) / 2
        if not name.startswith("depth"):
            scores[f"{name}_bias"] = float(middle)
            scores[f"{name}_mean"] = float(values.mean())
            scores[f"{name}_rms"] = float(np.sqrt(np.mean(values**2)))
    if pulls:
        pull = np.concatenate(pulls)
        scores |= {"within_1": float((pull < 1).mean()), "within_2": float((pull < 2).mean())}
    return scores
