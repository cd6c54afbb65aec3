"""Several views of one image: what is averaged, and that nothing depends on the side."""

import numpy as np
import pytest
from astropy.io import fits

import crmend
from crmend._views import VIEWS, in_views
from crmend.errors import InvalidInputError

TINY = ("--model", "tiny", "--threshold", "0.99")


def gradient(image, last):
    """Return a 'network' that looks different in every mirror."""
    slope = np.zeros_like(image)
    slope[..., 1:] += np.diff(image, axis=-1)
    slope[..., 2:, 1:] += 0.3 * image[..., :-2, :-1]
    return (1.0 / (1.0 + np.exp(-slope))).astype(np.float32)


@pytest.fixture
def image():
    return np.random.default_rng(3).normal(size=(1, 1, 24, 40)).astype(np.float32)


def test_one_view_is_the_graph_itself():
    assert in_views(gradient, 1) is gradient


def test_two_views_are_the_mean_of_the_log_odds(image):
    found = in_views(gradient, 2)(image, True)
    both = gradient(image, True), gradient(image[..., ::-1, ::-1], True)[..., ::-1, ::-1]
    odds = [np.log(p / (1.0 - p)) for p in both]
    np.testing.assert_allclose(np.log(found / (1.0 - found)), np.mean(odds, axis=0), atol=1e-5)


def test_eight_views_look_alike_from_all_sides(image):
    run = in_views(gradient, 8)
    found = run(image, False)
    assert found.shape == image.shape
    for quarter in range(4):
        for mirror in (1, -1):
            turned = np.rot90(image, quarter, axes=(-2, -1))[..., ::mirror]
            expected = np.rot90(found, quarter, axes=(-2, -1))[..., ::mirror]
            np.testing.assert_allclose(run(turned, False), expected, atol=1e-6)


def test_four_views_look_alike_from_four_sides(image):
    run = in_views(gradient, 4)
    turned = run(np.rot90(image, axes=(-2, -1)), False)
    np.testing.assert_allclose(turned, np.rot90(run(image, False), axes=(-2, -1)), atol=1e-6)
    assert np.abs(run(image[..., ::-1], False) - run(image, False)[..., ::-1]).max() > 0.01


@pytest.mark.parametrize("views", VIEWS)
def test_the_last_tile_is_the_last_once(image, views):
    calls = []

    def run(seen, last):
        calls.append(last)
        assert seen.flags.c_contiguous
        return gradient(seen, last)

    in_views(run, views)(image, True)
    assert calls == [False] * (views - 1) + [True]


@pytest.mark.parametrize("probability", [0.0, 1e-30, 1.0])
def test_certainty_stays_finite(image, probability):
    found = in_views(lambda seen, last: np.full_like(seen, probability), 2)(image, True)
    assert np.abs(found - probability).max() < 2e-6


@pytest.mark.parametrize("views", [1, 2, 4, 8])
def test_detection_does_not_depend_on_the_tiling(views):
    rng = np.random.default_rng(5)
    image = rng.normal(100.0, 5.0, (97, 203)).astype(np.float32)
    image[40:44, 60] += 400.0
    small, large = (
        crmend.detect(image, model="generic", views=views, tile=tile, star_cores=False)
        for tile in (64, 256)
    )
    assert np.abs(small.cr_probability - large.cr_probability).max() < 1e-6
    assert small.cr_mask[40:44, 60].all()


@pytest.mark.parametrize("views", [0, 3, 16, 2.0, True, "2"])
def test_other_numbers_of_views_are_refused(views):
    image = np.random.default_rng(1).normal(size=(32, 32))
    with pytest.raises(InvalidInputError, match=r"views is .*; expected one of 1, 2, 4, 8"):
        crmend.detect(image, model="generic", views=views)
    with pytest.raises(InvalidInputError, match="views is"):
        crmend.clean(image, model="generic", views=views)


@pytest.mark.parametrize("command", ["clean", "detect"])
def test_views_are_told_in_header_json_and_text(crmend_cli, noisy, tmp_path, command):
    frame, out = noisy(), tmp_path / "out.fits"
    (chip,) = crmend_cli(command, frame, "-o", out, "--json", *TINY).json["chips"]
    assert chip["views"] == fits.getheader(out)["CRMVIEWS"] == 1
    done = crmend_cli(command, frame, "-o", out, "--overwrite", "--views", "2", *TINY)
    assert fits.getheader(out)["CRMVIEWS"] == 2
    assert ", 2 views" in done.out
    assert crmend_cli(command, frame, "--views", "3", *TINY).code == 2
