"""Truth from dark frames and from repeated exposures."""

import numpy as np
import pytest
from astropy.io import fits
from scipy import ndimage

pytest.importorskip("torch")

from crmend.errors import InvalidInputError
from crmend_training.cli import main
from crmend_training.datasets import harvest, multi_exposure

# --- dark frames --------------------------------------------------------------------


@pytest.fixture
def darks(rng, paint_tracks):
    """Five darks of 256²: 5 e- read noise, a sloping bias, 40 hot pixels, 30 tracks each."""
    hot = np.zeros((256, 256))
    hot.flat[rng.choice(hot.size, 40, replace=False)] = 400.0
    level = 3.0 + np.linspace(0, 2, 256)[:, None]
    frames, truths, energies = [], [], []
    for _ in range(5):
        truth, energy = paint_tracks(rng, hot.shape, 30)
        frames.append((rng.normal(0, 5, hot.shape) + level + hot + truth).astype(np.float32))
        truths.append(truth)
        energies.append(energy)
    return frames, truths, np.concatenate(energies), hot


def test_harvested_events_have_the_charge_that_was_put_in(darks):
    frames, _, energies, _ = darks
    library = harvest.harvest_darks(frames, 150.0)
    assert 0.93 * len(energies) <= len(library) <= len(energies)
    found = np.sort(library.energy)
    assert found.mean() == pytest.approx(energies.mean(), rel=0.03)
    # Each is one of the true charges to within the noise of its dozen pixels.
    nearest = np.abs(found[:, None] - energies[None]).min(axis=1)
    assert np.percentile(nearest, 95) < 4 * 5.0 * np.sqrt(12)


def test_hot_pixels_are_no_events(darks):
    frames, truths, _, _ = darks
    quiet = [frame - truth for frame, truth in zip(frames, truths, strict=True)]
    assert len(harvest.harvest_darks(quiet, 150.0)) <= 1


def test_a_library_survives_the_disk_and_gives_the_rate_of_its_darks(darks, tmp_path, rng):
    library = harvest.harvest_darks(darks[0], 150.0, sources=("dark 1",))
    library.save(tmp_path / "library.npz")
    again = harvest.load_library(tmp_path / "library.npz")
    assert again.sources == ("dark 1",)
    np.testing.assert_array_equal(again.charge, library.charge)
    drawn = harvest.draw_from_library(rng, (1024, 1024), again, 75.0)
    expected = darks[2].sum() / (5 * 256**2) * 1024**2 / 2
    # 240 events of 0.5 relative scatter: a sigma of 7 %.
    assert drawn.sum() == pytest.approx(expected, rel=0.25)
    assert (drawn >= 0).all()


def test_two_darks_are_not_enough(darks):
    with pytest.raises(InvalidInputError, match="expected three"):
        harvest.harvest_darks(darks[0][:2], 150.0)


def test_a_dark_is_read_in_electrons(tmp_path):
    header = fits.Header({"EXPTIME": 300.0, "BUNIT": "ADU", "GAIN": 2.0})
    fits.writeto(tmp_path / "dark.fits", np.full((70, 70), 10.0, np.float32), header)
    dark, seconds = harvest.read_dark(tmp_path / "dark.fits")
    assert dark[0, 0] == 20.0
    assert seconds == 300.0


# --- several exposures ----------------------------------------------------------------


@pytest.fixture
def stack(rng, paint_tracks):
    """Six exposures of 128², PSF sigma 1.1–1.6 px, fluxes and positions that differ."""
    y, x = np.mgrid[:128, :128]
    stars = np.stack([*rng.uniform(8, 120, (2, 25)), 10 ** rng.uniform(3.0, 4.8, 25)], axis=1)
    hot = np.zeros((128, 128))
    hot.flat[rng.choice(hot.size, 12, replace=False)] = 500.0
    images, truths, shifts = [], [], []
    for k in range(6):
        sigma, scale = rng.uniform(1.1, 1.6), rng.uniform(0.8, 1.2)
        dy, dx = (0.0, 0.0) if k == 0 else rng.uniform(-4, 4, 2)
        light = np.full((128, 128), 100.0)
        for sy, sx, flux in stars:
            r2 = (y - sy - dy) ** 2 + (x - sx - dx) ** 2
            light += scale * flux * np.exp(-r2 / (2 * sigma**2)) / (2 * np.pi * sigma**2)
        truth, _ = paint_tracks(rng, light.shape, 12, 800.0, 5000.0)
        noisy = rng.poisson(light) + rng.normal(0, 5, light.shape) + truth + hot
        images.append(noisy.astype(np.float32))
        truths.append(truth > 0)
        shifts.append((dy, dx))
    return images, truths, shifts, hot > 0


def test_exposures_are_aligned_to_a_fraction_of_a_pixel(stack):
    images, _, shifts, _ = stack
    flat, _ = multi_exposure._flattened(images, [np.zeros(i.shape, bool) for i in images])
    np.testing.assert_allclose(multi_exposure._shifts(flat, 16), shifts, atol=0.15)


def test_cosmic_rays_of_a_stack_are_found_and_stars_are_not(stack):
    images, truths, _, hot = stack
    settings = multi_exposure.MultiExposureSettings(gain=1.0)
    found = multi_exposure.compare_exposures(images, settings=settings)
    hits = wrong = events = 0
    for one, truth in zip(found, truths, strict=True):
        labels, count = ndimage.label(truth & ~one.unsure, np.ones((3, 3)))
        hits += len(set(labels[one.mask]) - {0})
        events += count
        wrong += (one.mask & ~ndimage.binary_dilation(truth, np.ones((3, 3)))).sum()
        assert not (one.mask & hot).any()
    assert events >= 65
    assert hits / events >= 0.95
    assert wrong <= 4


def test_two_exposures_are_not_enough(stack):
    with pytest.raises(InvalidInputError, match="expected three"):
        multi_exposure.compare_exposures(stack[0][:2])


def test_three_exposures_are_enough(stack):
    """One of three is more than a quarter of them, and yet no part of the chip."""
    images, truths, _, hot = (part[:3] if isinstance(part, list) else part for part in stack)
    settings = multi_exposure.MultiExposureSettings(gain=1.0)
    found = multi_exposure.compare_exposures(images, settings=settings)
    hits = events = 0
    for one, truth in zip(found, truths, strict=True):
        labels, count = ndimage.label(truth & ~one.unsure, np.ones((3, 3)))
        hits += len(set(labels[one.mask]) - {0})
        events += count
        assert not (one.mask & hot).any()
    assert events >= 30
    assert hits / events >= 0.9


def test_an_exposure_without_a_usable_pixel_is_named(stack):
    images = stack[0][:3]
    images[1] = np.full_like(images[1], np.nan)
    with pytest.raises(InvalidInputError, match="exposure 2 of 3 has no usable pixel"):
        multi_exposure.compare_exposures(images)


def test_truth_says_what_it_expects(stack, tmp_path, capsys):
    paths = []
    for name, image in zip("abc", stack[0], strict=False):
        (tmp_path / name).mkdir()
        paths.append(str(tmp_path / name / "same.fits"))
        fits.writeto(paths[-1], image)
    out = tmp_path / "masks"
    assert main(["truth", *paths, "--out", str(out)]) == 3
    assert "several exposures are named same" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["truth", *paths, "--gain", "-1", "--out", str(out)])
    assert "'-1' is no number above 0" in capsys.readouterr().err
    assert not out.exists()


def test_truth_reads_exposures_as_it_is_told(stack, tmp_path, capsys):
    """A blob in one exposure, on both of its chips, flagged in a plane of another name."""
    bad = np.zeros((128, 128), np.int16)
    bad[40:42, 60:62] = 4
    paths = []
    for number, image in enumerate(stack[0][:3]):
        hdus = [fits.PrimaryHDU()]
        hdus[0].header["BAYERPAT"] = "RGGB"
        for ver in (1, 2):
            hot = image + np.float32(5e3) * ((bad > 0) & (number == 1))
            hdus += [fits.ImageHDU(hot, name="PIXELS", ver=ver)]
            hdus += [fits.ImageHDU(bad, name="GOODNESS", ver=ver)]
        paths.append(str(tmp_path / f"{number}.fits"))
        fits.HDUList(hdus).writeto(paths[-1])
    planes = ["--plane", "image=PIXELS", "--plane", "flag=GOODNESS"]
    out = tmp_path / "masks"
    command = ["truth", *paths, "--instrument", "generic", *planes, "--out", str(out)]
    assert main(command) == 0
    assert capsys.readouterr().err.count("is a raw colour frame") == 3
    assert fits.getdata(out / "1_crtruth.fits", ("CRTRUTH", 2))[bad > 0].any()
    assert main([*command, "--bad-flags", "4", "--overwrite"]) == 0
    for chip in (1, 2):
        assert not fits.getdata(out / "1_crtruth.fits", ("CRTRUTH", chip))[bad > 0].any()
        assert fits.getdata(out / "1_crtruth.fits", ("UNSURE", chip))[bad > 0].all()
    assert main([*command, "--plane", "flag=DQ", "--overwrite"]) == 3
    assert "the flag plane is named twice" in capsys.readouterr().err


@pytest.mark.parametrize("turn", [(1, 1), (-1, -1), (1, -1)])
def test_truth_tells_of_an_exposure_that_is_turned_or_mirrored(stack, tmp_path, capsys, turn):
    paths = []
    for number, image in enumerate(stack[0][:4]):
        step = turn if number == 2 else (1, 1)
        paths.append(str(tmp_path / f"{number}.fits"))
        fits.writeto(paths[-1], image[:: step[0], :: step[1]])
    assert main(["truth", *paths, "--out", str(tmp_path / "masks")]) == 0
    told = capsys.readouterr().err
    if turn == (1, 1):
        assert told == ""
    else:
        assert told.count("warning:") == 1
        assert told.startswith(f"warning: {paths[2]} has ")
        assert "turned or mirrored" in told


def test_truth_of_several_chips_has_a_plane_for_each(stack, tmp_path):
    from crmend_training.datasets import Reading, find_masked, load_masked

    images = stack[0]
    for number in range(3):
        hdus = [fits.PrimaryHDU()]
        for ver in (2, 3):
            hdus.append(fits.ImageHDU(images[number][:: 5 - 2 * ver], name="SCI", ver=ver))
        fits.HDUList(hdus).writeto(tmp_path / f"{number}.fits")
    paths = [str(path) for path in sorted(tmp_path.glob("*.fits"))]
    assert main(["truth", *paths, "--out", str(tmp_path)]) == 0
    found = find_masked(tmp_path, tmp_path, Reading("generic"))
    assert [one.name for one in found][:2] == ["0 chip 1", "0 chip 2"]
    upright, flipped = (load_masked(one, Reading("generic")).cr > 0 for one in found[:2])
    assert upright.sum() > 20
    # The kernel is symmetric, but for rounding.
    assert (upright != flipped[::-1]).sum() <= 0.1 * upright.sum()


def test_a_library_gets_the_name_that_was_asked_for(darks, tmp_path, capsys):
    paths = []
    for number, dark in enumerate(darks[0]):
        paths.append(str(tmp_path / f"{number}.fits"))
        header = fits.Header({"EXPTIME": 600.0, "BUNIT": "electron"})
        fits.writeto(paths[-1], dark, header)
    assert main(["harvest", *paths, "--out", str(tmp_path / "library")]) == 3
    assert "does not end in .npz" in capsys.readouterr().err
    assert main(["harvest", *paths, "--out", str(tmp_path / "new" / "library.npz")]) == 0
    assert (tmp_path / "new" / "library.npz").is_file()
