"""The word of two networks, against numpy and scipy on the tiny graphs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import crmend
from crmend import models
from crmend._beside import bright_beside
from crmend._cards import OpinionCard, parse_card
from crmend._normalise import Scale, measure_scale
from crmend._probability import Shown
from crmend._second_opinion import find_with_second
from crmend.detect import detect
from crmend.errors import ModelError

PACKS = Path(__file__).resolve().parents[1] / "data" / "packs"
EIGHT = np.ones((3, 3), bool)
OPINION = OpinionCard(
    kind="detect", share=0.4, sure=0.97, threshold=0.75, rather_sure=0.9, apart_threshold=0.7
)


@pytest.fixture(autouse=True)
def packs(monkeypatch):
    """Make the tiny packs available beside those that come with crmend."""
    monkeypatch.setenv("CRMEND_MODELS", str(PACKS))


def tiny(opinion: OpinionCard | None, kind: str = "detect_fast") -> models.Model:
    """Return the fast tiny graph with a card that lets it ask the other one."""
    first = models.load_model("tiny_chips", 2, kind, device="cpu", threads=1)
    if opinion is None:
        return first
    card = replace(first.card, detect_fast=replace(first.graph, second_opinion=opinion))
    second = models.load_model("tiny_chips", 2, "detect", device="cpu", threads=1)
    return replace(first, card=card, second=second)


def crowded(shape: tuple[int, int], seed: int = 3) -> np.ndarray:
    """Return noise of 5 around 100 with groups of pixels of all forms, up to the borders."""
    rng = np.random.default_rng(seed)
    image = rng.normal(100.0, 5.0, shape)
    lines = ndimage.binary_dilation(rng.random(shape) < 0.01, np.ones((1, 4)))
    image[lines] += rng.uniform(10.0, 200.0, shape)[lines]
    image[rng.random(shape) < 0.03] += 60.0
    return image.astype(np.float32)


def odds(p: np.ndarray) -> np.ndarray:
    return np.log(p / (1 - p))


def expected(p: np.ndarray, q: np.ndarray, o: OpinionCard, threshold: float = 0.5):
    """Return the cr_mask, and how many groups and parts were judged and dropped."""
    mask = p >= threshold
    groups, count = ndimage.label(mask, EIGHT)
    index = np.arange(1, count + 1)
    sure = ndimage.maximum(p, groups, index) >= o.sure
    of_sure = np.isin(groups, index[sure])
    alone = mask & ~of_sure
    apart = of_sure & ~ndimage.binary_dilation(p >= o.rather_sure, EIGHT)
    tally = []
    for pixels, least in ((alone, o.threshold), (apart, o.apart_threshold)):
        labels, count = ndimage.label(pixels, EIGHT)
        judged = 0
        for label in range(1, count + 1):
            here = labels == label
            mean = (1 - o.share) * odds(p[here]).max() + o.share * odds(q[here]).max()
            if mean < odds(np.float64(least)):
                mask[here] = False
                judged += 1
        tally.append((count, judged))
    return mask, tally


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (15, 33), (61, 83), (128, 96)])
@pytest.mark.parametrize("views", [1, 4])
def test_both_networks_judge_what_one_doubts(shape, views):
    image = crowded(shape)
    opinion = replace(OPINION, views=views)
    alone = detect(image, model=tiny(None), star_cores=False)
    other = detect(
        image, detector=2, model="tiny_chips", quality="reference", views=views, device="cpu",
        star_cores=False,
    )  # fmt: skip
    both = detect(image, model=tiny(opinion), star_cores=False)
    p, q = (one.cr_probability.astype(np.float64) for one in (alone, other))
    mask, tally = expected(p, q, opinion)
    assert np.array_equal(both.cr_probability, alone.cr_probability)
    assert np.array_equal(both.cr_mask, mask)
    if shape == (128, 96):
        assert all(0 < dropped < judged for judged, dropped in tally), tally


@pytest.mark.parametrize("shape", [(1, 40), (61, 83), (128, 96)])
def test_both_networks_judge_bright_pixels_beside_the_mask(shape):
    image = crowded(shape)
    alone = replace(OPINION, share=0.7, apart_threshold=0.45)
    opinion = replace(alone, beside_least=0.3)
    p = detect(image, model=tiny(None), star_cores=False).cr_probability
    q = detect(image, model=tiny(None, "detect"), star_cores=False).cr_probability
    before = detect(image, model=tiny(alone), star_cores=False).cr_mask
    after = detect(image, model=tiny(opinion), star_cores=False).cr_mask
    scale = measure_scale(image, np.zeros(shape, bool))
    pixels, sharp = bright_beside(
        before, p, image, np.zeros(shape, bool), scale.background, scale.noise
    )
    first, other = (odds(x.astype(np.float64).flat[pixels]) for x in (p, q))
    both = (1 - opinion.share) * first + opinion.share * other
    agreed = (p.flat[pixels] >= 0.3) & (both >= odds(opinion.apart_threshold))
    wanted = before.copy()
    wanted.flat[pixels[sharp | agreed]] = True
    assert np.array_equal(after, wanted)
    if shape == (128, 96):
        assert 0 < agreed.sum() < agreed.size


def test_the_tiling_does_not_matter():
    image, model = crowded((90, 70)), tiny(replace(OPINION, beside_least=0.3))
    masks = [
        detect(image, model=model, tile=tile, star_cores=False).cr_mask for tile in (16, 50, 90)
    ]
    assert all(np.array_equal(mask, masks[0]) for mask in masks[1:])


def test_nobody_is_asked_where_the_user_sets_a_limit():
    image = crowded((61, 83))
    one, both = tiny(None), tiny(OPINION)
    p = detect(image, model=one, star_cores=False).cr_probability
    asked = detect(image, model=both, star_cores=False).cr_mask
    assert not np.array_equal(asked, p >= 0.5)
    for options in ({"threshold": 0.5}, {"target_precision": 0.8}, {"seed_threshold": 0.5}):
        found = detect(image, model=both, star_cores=False, **options).cr_mask
        assert np.array_equal(found, p >= 0.5), options


def test_where_nothing_is_doubtful_nothing_is_asked():
    """A graph that must not run: the network of another kind takes other inputs."""
    model = tiny(replace(OPINION, sure=0.6, rather_sure=0.55))
    unfit = models.load_model("tiny_chips", 2, "inpaint", device="cpu", threads=1)
    p = np.zeros((20, 20), np.float32)
    p[3:6, 4] = 0.9
    opinion = model.graph.second_opinion
    mask = find_with_second(p, 0.5, None, unfit, opinion)
    assert np.array_equal(mask, p > 0.5)
    # A sharp pixel beside it joins unasked.
    p[6, 4] = 0.05
    shown = Shown(240.0 * p, np.zeros(p.shape, bool), Scale(0.0, 1.0))
    mask = find_with_second(p, 0.5, shown, unfit, replace(opinion, beside_least=0.3))
    assert np.array_equal(mask, p > 0.0)


def test_cards_are_checked_and_name_what_is_loaded():
    path = PACKS / "tiny_chips" / "02" / "card.json"
    card = parse_card(path.read_text(), path)

    def with_opinion(**changes):
        graph = replace(card.detect_fast, second_opinion=replace(OPINION, **changes))
        return parse_card(replace(card, detect_fast=graph).to_json(), path)

    assert with_opinion().detect_fast.second_opinion == OPINION
    assert with_opinion(beside_least=0.2).detect_fast.second_opinion.beside_least == 0.2
    for changes, message in (
        ({"kind": "detect_fast"}, r"second_opinion\.kind' is 'detect_fast'"),
        ({"kind": "inpaint"}, r"second_opinion\.kind' is 'inpaint'"),
        ({"share": 1.0}, r"second_opinion\.share' is 1\.0; expected a number between 0 and 1"),
        ({"apart_threshold": 0.0}, r"second_opinion\.apart_threshold' is 0\.0"),
        ({"beside_least": 1.5}, r"second_opinion\.beside_least' is 1\.5; expected a number"),
        ({"views": 3}, r"second_opinion\.views' is 3; expected one of 1, 2, 4, 8"),
    ):
        with pytest.raises(ModelError, match=message):
            with_opinion(**changes)
    asked = replace(card, inpaint=replace(card.inpaint, second_opinion=OPINION))
    with pytest.raises(ModelError, match=r"inpaint\.second_opinion"):
        parse_card(asked.to_json(), path)


def test_csst_packs_ask_deepcr_and_results_say_so():
    image = crowded((120, 100))
    result = crmend.clean(image, detector=8, device="cpu")
    card = models.load_card("csst_msc", 8)
    assert result.stats.second_model == "csst_msc/08/detect"
    assert result.stats.second_sha256 == card.detect.sha256
    given = crmend.clean(image, detector=8, device="cpu", threshold=0.6).stats
    other = crmend.clean(image, detector=8, device="cpu", quality="reference").stats
    generic = crmend.clean(image, model="generic", device="cpu").stats
    assert [s.second_model for s in (given, other, generic)] == [None] * 3
