"""Parts of lines along rows and columns are no tracks."""

from __future__ import annotations

import numpy as np
import pytest

from crmend._streaks import AHEAD, LEAST, free_streaks

NOISE = 3.0
SHAPE = (90, 150)


def sky(seed: int = 0) -> np.ndarray:
    """Return a flat sky, float32."""
    rng = np.random.default_rng(seed)
    return rng.normal(100.0, NOISE, SHAPE).astype(np.float32)


def free(image: np.ndarray, mask: np.ndarray, turned: bool, excluded: np.ndarray) -> int:
    """Free a frame's streaks, or those of its transpose, in `mask`; return how many pixels."""
    before = np.count_nonzero(mask)
    if turned:
        copies = [np.ascontiguousarray(plane.T) for plane in (image, mask, excluded)]
        free_streaks(*copies, NOISE)
        mask[:] = copies[1].T
    else:
        free_streaks(image, mask, excluded, NOISE)
    return int(before - np.count_nonzero(mask))


@pytest.fixture(params=[False, True], ids=["row", "column"])
def turned(request: pytest.FixtureRequest) -> bool:
    """Return whether lines lie along columns."""
    return bool(request.param)


@pytest.mark.parametrize("backwards", [False, True])
def test_the_flagged_end_of_a_streak_is_freed(turned: bool, backwards: bool) -> None:
    image, mask, nothing = sky(), np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    image[40, 30:] += 4.5 * NOISE
    mask[40, 30:53] = True
    mask[39, 30] = True  # what is flagged beside it belongs to it
    mask[70, 20:40] = True  # a track elsewhere
    if backwards:
        image, mask = (np.ascontiguousarray(plane[:, ::-1]) for plane in (image, mask))
    before = image.copy()
    assert free(image, mask, turned, nothing) == 24
    assert not mask[38:43].any()
    assert mask[70].sum() == 20
    assert np.array_equal(image, before)


def test_a_track_that_ends_stays(turned: bool) -> None:
    image, mask, nothing = sky(), np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    image[40, 30:53] += 4.5 * NOISE
    mask[40, 30:53] = True
    assert free(image, mask, turned, nothing) == 0
    assert mask.sum() == 23


def test_a_track_to_the_border_stays(turned: bool) -> None:
    image, mask, nothing = sky(), np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    image[[0, 40, 89], 100:] += 20.0 * NOISE
    mask[[0, 40, 89], 100 : SHAPE[1] - 2 * AHEAD] = True
    assert free(image, mask, turned, nothing) == 0


def test_a_bright_track_on_a_streak_stays(turned: bool) -> None:
    image, mask, nothing = sky(), np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    image[40] += 4.5 * NOISE
    image[40, 30:53] += 9.0 * NOISE
    mask[40, 30:53] = True
    assert free(image, mask, turned, nothing) == 0


def test_a_track_beside_a_star_stays(turned: bool) -> None:
    image, mask, nothing = sky(), np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    image += 3000.0 * np.exp(-0.5 * ((y - 40) ** 2 + (x - 62) ** 2) / 3.0**2)
    image[40, 30:50] += 10.0 * NOISE
    mask[40, 30:50] = True
    assert free(image, mask, turned, nothing) == 0


def test_a_broad_group_stays(turned: bool) -> None:
    image, mask, nothing = sky(), np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    image[38:43, 30:] += 4.5 * NOISE
    mask[38:43, 30:53] = True
    assert free(image, mask, turned, nothing) == 0


@pytest.mark.parametrize(("columns", "freed"), [((60,), 23), ((54, 56, 58, 60), 0)])
def test_most_of_what_goes_on_must_be_measured(
    turned: bool, columns: tuple[int, ...], freed: int
) -> None:
    image, mask, excluded = sky(), np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    image[40, 30:] += 4.5 * NOISE
    mask[40, 30:53] = True
    for x in columns:
        excluded[:, x] = True
        image[:, x] = np.nan
    assert free(image, mask, turned, excluded) == freed


@pytest.mark.parametrize("shape", [(1, 1), (1, 64), (64, 1), (LEAST, LEAST)])
def test_small_frames(shape: tuple[int, int]) -> None:
    image, mask = np.ones(shape, np.float32), np.ones(shape, bool)
    free_streaks(image, mask, np.zeros(shape, bool), NOISE)
    assert mask.all()
