"""From a folder of exposures with masks to a pack of one's own, and every wrong input."""

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

torch = pytest.importorskip("torch")

import crmend  # noqa: E402
import crmend.cli  # noqa: E402
from crmend.errors import ModelError  # noqa: E402
from crmend.models import load_card, verify  # noqa: E402
from crmend_training import (  # noqa: E402
    _training,
    cli,
    compare_models,
    datasets,
    export,
    train_detect,
)
from crmend_training.datasets import Reading, find_masked, load_masked  # noqa: E402

GENERIC = Reading(instrument="generic")
ROOT = Path(__file__).parents[2]
SIZE = 96
EXPORT = ["export", "--detect", "D", "--calibration", "C", "--validation", "E"]


def paint(rng):
    """Return an exposure in ADU with two stars, and the mask of its six cosmic rays."""
    y, x = np.mgrid[:SIZE, :SIZE]
    image = rng.normal(500.0, 10.0, (SIZE, SIZE))
    for sy, sx in rng.uniform(15, SIZE - 15, (2, 2)):
        image += 3000.0 * np.exp(-((y - sy) ** 2 + (x - sx) ** 2) / (2 * 2.5**2))
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for row, column in rng.integers(5, SIZE - 9, (6, 2)):
        mask[row, column : column + 3] = 1
    return (image + 900.0 * mask).astype(np.float32), mask


def write_mask(path, mask, unsure=None):
    planes = [fits.PrimaryHDU(), fits.ImageHDU(mask, name="CRTRUTH")]
    planes += [] if unsure is None else [fits.ImageHDU(unsure, name="UNSURE")]
    fits.HDUList(planes).writeto(path, overwrite=True)


@pytest.fixture
def folder(tmp_path, rng):
    """Write three exposures, each with its mask in another of the forms that are allowed."""
    exposures, masks = tmp_path / "exposures", tmp_path / "masks"
    exposures.mkdir()
    masks.mkdir()
    header = fits.Header({"OBJECT": "one field"})
    image, mask = paint(rng)
    unsure = np.zeros_like(mask)
    unsure[:4] = 1
    fits.writeto(exposures / "a.fits", image, header)
    write_mask(masks / "a_crtruth.fits", mask, unsure)
    image, mask = paint(rng)
    sci = fits.ImageHDU(image, header, name="SCI")
    own = fits.ImageHDU(mask, name="CRTRUTH")
    fits.HDUList([fits.PrimaryHDU(), sci, own]).writeto(exposures / "b.fits")
    image, mask = paint(rng)
    image[50, 50] = np.nan
    np.save(exposures / "c.npy", image)
    np.save(masks / "c_crtruth.npy", mask.astype(bool))
    np.save(masks / "c_unsure.npy", np.eye(SIZE, dtype=bool))
    return tmp_path


def load_all(folder):
    return [
        load_masked(one, GENERIC)
        for one in find_masked(folder / "exposures", folder / "masks", GENERIC)
    ]


def test_masks_are_found_in_every_form(folder):
    a, b, c = load_all(folder)
    assert [frame.name for frame in (a, b, c)] == ["a", "b", "c"]
    planes = fits.getdata(folder / "masks" / "a_crtruth.fits", "CRTRUTH")
    np.testing.assert_array_equal(a.cr > a.label, planes > 0)
    assert a.ignore[:4].all()
    assert not a.ignore[4:].any()
    assert not b.ignore.any()
    assert (b.cr > 0).sum() == fits.getdata(folder / "exposures" / "b.fits", "CRTRUTH").sum()
    np.testing.assert_array_equal(np.argwhere(c.invalid), [[50, 50]])
    np.testing.assert_array_equal(c.ignore, np.eye(SIZE, dtype=bool))
    # 900 ADU on a noise of 10.
    assert np.median(a.image[a.cr > 0]) == pytest.approx(90.0, rel=0.1)
    assert (a.place.name, c.place.name) == ("one field", "")


def test_a_mask_in_the_folder_goes_before_the_planes_of_the_file(folder):
    other = np.zeros((SIZE, SIZE), np.uint8)
    other[40, 40] = 1
    fits.writeto(folder / "masks" / "b_crtruth.fits.gz", other)
    assert np.argwhere(load_all(folder)[1].cr > 0).tolist() == [[40, 40]]


def test_chips_have_masks_by_their_number(tmp_path, rng):
    planes, masks = [fits.PrimaryHDU()], [fits.PrimaryHDU()]
    for chip in (1, 2):
        image, _ = paint(rng)
        planes.append(fits.ImageHDU(image, name="SCI", ver=chip))
        mask = np.zeros(image.shape, np.uint8)
        mask[chip, chip] = 1
        masks.append(fits.ImageHDU(mask, name="CRTRUTH", ver=chip))
    fits.HDUList(planes).writeto(tmp_path / "two.fits")
    fits.HDUList(masks).writeto(tmp_path / "two_crtruth.fits")
    found = find_masked(tmp_path, tmp_path, GENERIC)
    assert [one.name for one in found] == ["two chip 1", "two chip 2"]
    where = [np.argwhere(load_masked(one, GENERIC).cr > 0).tolist() for one in found]
    assert where == [[[1, 1]], [[2, 2]]]
    fits.HDUList(masks[:2]).writeto(tmp_path / "two_crtruth.fits", overwrite=True)
    # Not "cannot be read as FITS".
    with pytest.raises(ValueError, match=r"^\S+ has no plane CRTRUTH for chip 2 of 2;"):
        load_masked(found[1], GENERIC)


def remove(folder):
    (folder / "masks" / "a_crtruth.fits").unlink()


def invert(folder):
    mask = fits.getdata(folder / "masks" / "a_crtruth.fits", "CRTRUTH")
    write_mask(folder / "masks" / "a_crtruth.fits", 1 - mask)


def trim(folder):
    write_mask(folder / "masks" / "a_crtruth.fits", np.zeros((SIZE - 8, SIZE), np.uint8))


def make_nan(folder):
    write_mask(folder / "masks" / "a_crtruth.fits", np.full((SIZE, SIZE), np.nan, np.float32))


def stack(folder):
    np.save(folder / "masks" / "c_crtruth.npy", np.zeros((2, SIZE, SIZE), bool))


def garble(folder):
    (folder / "masks" / "a_crtruth.fits").write_bytes(b"no FITS file" * 500)


def empty(folder):
    for path in (folder / "exposures").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            remove,
            r"1 of the 3 exposures in .* such as a\.fits; expected a_crtruth\.fits .*truth`",
        ),
        (
            invert,
            r"marks 100% of the pixels of a as cosmic rays; expected at most 50%.*inverted",
        ),
        (trim, r"mask has shape \(88, 96\), a has \(96, 96\); expected the same.*overscan"),
        (make_nan, r"dtype >f4 and not finite everywhere; expected numbers"),
        (garble, r"a_crtruth\.fits cannot be read as FITS .*expected an intact FITS file"),
        (stack, r"shape \(2, 96, 96\) and dtype bool; expected two dimensions of numbers"),
        (empty, r"no exposure in .*; expected files that end in \.fits"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_remedy(folder, damage, message):
    damage(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_all(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["dataset", "detect", "E", "--instrument", "generic"],
            "--instrument is for exposures",
        ),
        (["dataset", "inpaint", "E", "--masks", "M"], "got dataset inpaint"),
        (["calibrate", "--detect", "D", "--validation", "E"], "calibrate needs --recipe"),
        ([*EXPORT, "--name", "me", "--generic-only"], "leave out --generic-only"),
        (["calibrate", "--detect", "D"], "either --validation FOLDER or --generic-only"),
        (
            [
                "calibrate",
                "--detect",
                "D",
                "--validation",
                "E",
                "--masks",
                "M",
                "--recipe",
                "R",
            ],
            "leave it out",
        ),
        (
            EXPORT,
            "without --name the packs are those of CSST",
        ),
        (
            [*EXPORT, "--name", "me"],
            "expected --masks",
        ),
        ([*EXPORT, "--name", "me", "--quality", "fast"], "--quality fast needs --fast"),
        (
            ["calibrate", "--detect", "D", "--generic-only", "--masks", "M"],
            "leave out --generic-only",
        ),
        (
            ["dataset", "detect", "E", "--plane", "image=1", "--plane", "image=2"],
            "the image plane is named twice",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments, message, capsys):
    extra = ["--recipe", "smoke"] if arguments[0] in ("dataset", "export") else []
    assert cli.main([*arguments, *extra, "--out", "nowhere"]) == 3
    assert message in capsys.readouterr().err


def test_the_pack_generic_can_be_made_alone_of_weights_with_their_thresholds(tmp_path, capsys):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        "[dataset.generic]\nseed = 3\nframes = 2\nshape = [128, 128]\nmeasured = true\n"
    )
    weights = ROOT / "exported_models" / "checkpoints"
    detect = ["--detect", str(weights / "detect" / "generic.pt"), "--recipe", str(recipe)]
    chosen, packs = tmp_path / "chosen.json", tmp_path / "packs"
    seen = ["--detect-views", "2"]
    assert cli.main(["calibrate", "--generic-only", *detect, *seen, "--out", str(chosen)]) == 0
    points = json.loads(chosen.read_text())["detect"]
    assert points.keys() == {"generic"}
    pairs = tmp_path / "pairs"
    assert (
        cli.main(["simulate", "--detector", "8", "--shape", "96x96", "--out", str(pairs)]) == 0
    )
    assert cli.main([
        "export", "--generic-only", *detect, "--inpaint", str(weights / "inpaint_base.pt"),
        "--calibration", str(chosen), "--validation", str(pairs), "--out", str(packs),
    ]) == 0  # fmt: skip
    assert [path.name for path in packs.iterdir()] == ["generic"]
    card = json.loads((packs / "generic" / "card.json").read_text())
    assert card["detect"]["threshold"] == points["generic"]["threshold"]
    assert card["detect"]["views"] == 2
    (tmp_path / "other.pt").write_bytes((weights / "detect_base.pt").read_bytes())
    detect[1] = str(tmp_path / "other.pt")
    assert cli.main([
        "export", "--generic-only", *detect, "--inpaint", str(weights / "inpaint_base.pt"),
        "--calibration", str(chosen), "--validation", str(pairs), "--out", str(packs),
        "--overwrite",
    ]) == 3  # fmt: skip
    assert "made with other weights of detect for generic than" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nonsense", "is not what `crmend-train calibrate` writes"),
        ('{"detect": {"generic": {}}}', "is not what `crmend-train calibrate` writes"),
        ("{}", "has no threshold of generic for detect"),
    ],
)
def test_what_calibrate_did_not_write_makes_no_pack(folder, tmp_path, capsys, content, message):
    (tmp_path / "chosen.json").write_text(content)
    start = _training.start({"architecture": "deepcr", "hidden": 4}, 1, {"recipe": "r"}, None)
    _training.save(start, tmp_path / "start.pt", final=True)
    exposures, packs = str(folder / "exposures"), tmp_path / "packs"
    assert cli.main([
        "export", "--name", "mine", "--detect", str(tmp_path / "start.pt"), "--recipe", "r",
        "--calibration", str(tmp_path / "chosen.json"), "--validation", exposures,
        "--masks", str(folder / "masks"), "--instrument", "generic", "--out", str(packs),
    ]) == 3  # fmt: skip
    assert message in capsys.readouterr().err
    assert not packs.exists()


def test_a_pack_whose_card_cannot_be_leaves_the_one_before(tmp_path):
    info = {"recipe": "r", "seed": 1, "data_fingerprint": "0", "commit": "c", "date": "d"}
    start = _training.start({"architecture": "deepcr", "hidden": 4}, 1, info, None)
    _training.save(start, tmp_path / "start.pt", final=True)
    own = ("mine", {"detect": tmp_path / "start.pt"}, tmp_path / "packs", info)
    choices = {"detect": export.Choice(0.5)}
    export.export_own(*own, choices=choices)
    before = {path: path.read_bytes() for path in (tmp_path / "packs" / "mine").iterdir()}
    with pytest.raises(ModelError, match="'default_quality' is 'fast'"):
        export.export_own(*own, choices={"detect": export.Choice(0.6)}, quality=("fast", ""))
    assert {
        path: path.read_bytes() for path in (tmp_path / "packs" / "mine").iterdir()
    } == before


@pytest.mark.parametrize("name", ["generic", "../x", "SAAO", "a/b", ""])
def test_names_that_no_pack_of_ones_own_can_have(name):
    with pytest.raises(ValueError, match="cannot be the name of a pack of your own"):
        export.check_name(name)


def test_a_frame_smaller_than_a_stamp_is_refused(folder, tmp_path):
    with pytest.raises(
        ValueError, match="a has 96 x 96 pixels and holds no stamp of 256 x 256"
    ):
        datasets.build_detection_set(load_all(folder), tmp_path / "set")


def test_simulated_frames_get_the_share_of_crops_that_the_recipe_says(folder, tmp_path):
    frames = [*load_all(folder), datasets.generic_frame(5, (SIZE, SIZE))]
    datasets.build_detection_set(frames, tmp_path / "set", stamp=SIZE)
    shares = {}
    for simulated in (None, 0.0, 0.9):
        recipe = train_detect.DetectRecipe({}, crop=32, batch=1000, simulated=simulated)
        batches = train_detect.DetectBatches(tmp_path / "set", [0, 1, 2, 3], recipe)
        rng = np.random.default_rng(0)
        drawn = [batches._choose(rng) for _ in range(1000)]
        shares[simulated] = np.mean(np.array(drawn) == 3)
    assert shares[0.0] == 0.0
    assert shares[None] == pytest.approx(0.25, abs=0.05)
    assert shares[0.9] == pytest.approx(0.9, abs=0.04)


def test_average_precision_of_a_ranking_by_hand():
    image = np.zeros((1, 4), np.float32)
    nothing = np.zeros((1, 4), bool)
    truth = np.array([[True, False, True, False]])
    frame = compare_models.RealFrame("f", image, image, nothing, nothing, truth, nothing)
    ranking = compare_models.rank([frame], [np.array([[0.9, 0.8, 0.7, 0.1]], np.float32)])
    # Precision 1 for the first half of the recall, 2/3 for the second.
    assert compare_models.average_precision(ranking) == pytest.approx((1.0 + 2.0 / 3.0) / 2.0)


def test_the_picture_shows_events_of_all_brightnesses_inside_the_frame(folder, tmp_path):
    pytest.importorskip("matplotlib")
    from crmend_training import compare_figures

    found = find_masked(folder / "exposures", folder / "masks", GENERIC)
    frames = compare_models.read_masked(found, GENERIC)
    events = compare_figures.choose(frames, 5)
    assert len(events) == 5
    assert {tuple(s.stop - s.start for s in window) for _, window in events} == {(24, 24)}
    assert all((frames[k].truth & ~frames[k].ignore)[window].any() for k, window in events)
    masks = {"none": [np.zeros_like(frame.truth) for frame in frames]}
    compare_figures.draw_events(tmp_path / "events.png", frames, masks, 5)
    number, window = events[0]
    picture = compare_figures.coloured(frames[number], masks["none"][number], window)
    missed = (frames[number].truth & ~frames[number].ignore)[window]
    np.testing.assert_allclose(picture[missed], [(0.2, 0.6, 1.0)] * missed.sum())


def test_commands_lead_from_a_folder_to_a_pack_that_the_runtime_uses(
    folder, tmp_path, monkeypatch, capsys
):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        "[dataset.detect]\nstamp = 96\n"
        "[dataset.generic]\nseed = 3\nframes = 1\nshape = [96, 96]\n"
        "[detect]\nsteps = 40\nbudget = '60m'\nrate = 5e-3\ncrop = 64\nbatch = 4\n"
        "[detect.config]\narchitecture = 'deepcr'\nhidden = 8\n"
    )
    config = {"architecture": "deepcr", "hidden": 8}
    start = _training.start(config, 1, {"recipe": "start"}, None)
    _training.save(start, tmp_path / "start.pt", final=True)
    exposures, masks = str(folder / "exposures"), str(folder / "masks")
    read = ["--masks", masks, "--instrument", "generic"]
    final, chosen = str(tmp_path / "run" / "final.pt"), str(tmp_path / "chosen.json")
    packs = str(tmp_path / "packs")
    checked = ["--detect", final, "--validation", exposures, *read]
    for arguments in (
        ["dataset", "detect", exposures, *read, "--jobs", "1", "--out", str(tmp_path / "set")],
        ["detect", str(tmp_path / "set"), "--from", str(tmp_path / "start.pt")],
        ["calibrate", *checked, "--out", chosen],
        ["export", *checked, "--name", "mine", "--calibration", chosen, "--out", packs],
    ):
        more = [] if arguments[0] == "calibrate" else ["--recipe", str(recipe)]
        more += ["--out", str(tmp_path / "run")] if arguments[0] == "detect" else []
        assert cli.main([*arguments, *more]) == 0, capsys.readouterr().err
    assert (
        f"set CRMEND_MODELS={tmp_path / 'packs'}; then: --model mine" in capsys.readouterr().out
    )
    monkeypatch.setenv("CRMEND_MODELS", packs)
    card = load_card("mine")
    point = json.loads((tmp_path / "chosen.json").read_text())["detect"]["generic"]
    assert card.detect.threshold == pytest.approx(point["threshold"], abs=2e-3)
    assert card.detect.metrics["frames"] == 3
    assert (card.detect.training.recipe, card.detect.training.base) == ("tiny", None)
    assert card.inpaint.training.base == "generic"
    assert verify("mine", device="cpu").detect_difference <= 1e-5
    assert cli.main(["validate", packs, "--detect", final]) == 0
    frame = folder / "exposures" / "a.fits"
    arguments = ["clean", str(frame), "--instrument", "generic", "--model", "mine", "--json"]
    assert crmend.cli.main([*arguments, "--device", "cpu", "-o", str(tmp_path / "o.fits")]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["warnings"] == []
    assert fits.getheader(tmp_path / "o.fits", 0)["CRMDETMD"].startswith("mine")
