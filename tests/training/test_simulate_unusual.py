"""Rare fields and cameras: each does what its name says, to all planes alike."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

pytest.importorskip("galsim")

from crmend_training import datasets, simulate
from crmend_training.recipe import load_recipe
from crmend_training.simulate import setups, unusual, unusual_frames, unusual_sources
from crmend_training.simulate.slit import Slit, add_longslit
from crmend_training.simulate.unusual import KINDS, MORE_KINDS, SLITS, Unusual

SHAPE = (160, 192)


@pytest.fixture
def only(monkeypatch):
    """Return what makes every rare property one kind: only(kind)."""
    return lambda kind: monkeypatch.setattr(setups, "KINDS", (kind,))


def exposure(seed, share=1.0, shape=SHAPE, kinds=None):
    return simulate.generic_exposure(
        np.random.default_rng(seed), shape, keep_light=True, unusual=share, kinds=kinds
    )


@pytest.mark.parametrize("kind", KINDS + MORE_KINDS)
def test_every_kind_makes_whole_frames(kind):
    sim = exposure(5, kinds=(kind,))
    for plane in (sim.image, sim.image_without_cr, sim.light, sim.error):
        assert plane.shape == SHAPE
        assert plane.dtype == np.float32
        assert np.isfinite(plane).all()
    assert (sim.error > 0).all()
    # Without cosmic rays a frame is its light and noise: spikes and jumps are in the error.
    good = sim.flag & 15 == 0
    pull = ((sim.image_without_cr - sim.light) / sim.error)[good]
    assert abs(np.median(pull)) < 0.5
    assert 0.03 < np.percentile(np.abs(pull), 68) < 1.6  # of spikes most pixels have none


def test_no_share_leaves_cameras_as_they_are_and_the_same_seed_makes_the_same(only):
    only("nebula")
    plain, again = exposure(6, 0.0), simulate.generic_exposure(np.random.default_rng(6), SHAPE)
    assert np.array_equal(plain.image, again.image)
    rare, twin = exposure(6), exposure(6)
    assert np.array_equal(rare.image, twin.image)
    assert not np.array_equal(rare.image, plain.image)
    # Its own stream: the same cosmic rays fall on both.
    assert np.array_equal(rare.cr_truth, plain.cr_truth)


def test_kinds_are_those_that_are_named():
    assert np.array_equal(exposure(7).image, exposure(7, kinds=KINDS).image)
    with pytest.raises(ValueError, match="shell; expected some of trailed, nebula"):
        exposure(7, kinds=("shell",))
    with pytest.raises(ValueError, match="none"):
        exposure(7, kinds=())


def test_shells_are_bright_and_small_and_crowds_leave_hardly_any_sky():
    plain, shells = exposure(9, 0.0), exposure(9, kinds=("shells",))
    added = (shells.light - plain.light) / np.median(plain.error)
    assert np.percentile(added, 50) < 0.1 < 3.0 < added.max()
    rich = [exposure(seed, kinds=("crowded",)) for seed in range(5)]
    assert max(np.mean(s.light > np.median(s.light) + 3 * s.error) for s in rich) > 0.1
    assert np.median([s.psf.fwhm for s in rich]) < 2.0  # some are trailed


def test_lines_of_a_slit_lean_as_much_as_it_says():
    def shift(seed, **how):
        """How far the lines of one end of the slit are from those of the other [px]."""
        scene = np.zeros((256, 400), np.float32)
        slit = Slit(1.0, 3.0, traces=0.0, continuum=0.0, slit_ends=0.0, along_rows=True, **how)
        add_longslit(np.random.default_rng(seed), scene, slit)
        ends = np.log1p(scene[20]), np.log1p(scene[235])
        return abs(int(np.argmax(np.correlate(*ends, mode="full"))) - 399)

    assert max(shift(seed) for seed in range(8)) <= 3
    assert np.median([shift(seed, tilt=0.1, bend=0.0) for seed in range(8)]) > 8
    tilted = [
        unusual.draw_slit(np.random.default_rng(k), Unusual("tilted", 1.0, 2.0))
        for k in range(8)
    ]
    assert min(slit.tilt for slit in tilted) > 0.004
    assert max(slit.tilt for slit in tilted) > 0.05


def test_lines_of_rotating_galaxies_are_as_sharp_as_the_psf_and_bent(rng):
    bent = []
    for _ in range(20):
        view = np.zeros((256, 256), np.float32)
        unusual_sources.add_rotating(rng, view, 1.0, 3.0)
        assert view.min() >= 0.0
        assert view.max() > 1.0
        brightest = np.argmax(view, axis=1)[view.max(axis=1) > 0.05 * view.max()]
        bent.append(np.ptp(brightest))
        # Nothing is narrower than a PSF of 3 px: power exp(-(2 pi k s)^2).
        for seen in (view, view.T):
            power = np.abs(np.fft.rfft(seen * np.hanning(256), axis=1)) ** 2
            assert power[:, 110:].sum() < 1e-3 * power[:, 1:].sum()
    assert np.median(bent) > 3


def test_clusters_lie_where_a_galaxy_is_bright(rng):
    sharp = []
    for _ in range(5):
        light = unusual_sources.nuclei(rng, (256, 256), 2.5)
        smooth = ndimage.median_filter(light, 15)
        assert light.min() >= 0.0
        on_it = smooth > np.percentile(smooth, 80)
        clusters = light - smooth > 3.0
        sharp.append(clusters[on_it].mean() / max(clusters[~on_it].mean(), 1e-4))
    assert np.median(sharp) > 3.0


def test_trails_keep_the_light_and_widen_stars_one_way(rng):
    y, x = np.mgrid[:129, :129] - 64.0
    star = (1000.0 * np.exp(-(y**2 + x**2) / 8.0)).astype(np.float32)
    widened = []
    for _ in range(20):
        scene = unusual.add_unusual_light(rng, star.copy(), Unusual("trailed", 1.0, 2.0))
        assert scene.sum() == pytest.approx(star.sum(), rel=1e-3)
        assert (scene * y).sum() / scene.sum() == pytest.approx(0.0, abs=8.0)
        spread = np.cov(np.stack([y.ravel(), x.ravel()]), aweights=scene.ravel())
        narrow, wide = np.linalg.eigvalsh(spread)
        assert narrow == pytest.approx(4.0, abs=0.4)  # the star's own, and a pixel's width
        widened.append(wide - 4.0)
    # A line of L px adds L^2 / 12; L is 3 to 60.
    assert min(widened) > 0.5
    assert max(widened) < 320.0


@pytest.mark.parametrize("kind", ["nebula", "planet", "comet"])
def test_light_is_no_sharper_than_the_psf(rng, kind):
    # Power beyond the reach of a PSF of 4 px: sigma 1.7 px leaves exp(-(2 pi 0.3 1.7)^2).
    for _ in range(5):
        scene = np.zeros((256, 256), np.float32)
        unusual.add_unusual_light(rng, scene, Unusual(kind, 1.0, 4.0))
        if kind == "comet":
            scene = scene[32:-32, 32:-32]  # its trails reach the borders
        window = np.hanning(scene.shape[0])[:, None] * np.hanning(scene.shape[1])
        power = np.abs(np.fft.fft2((scene - scene.mean()) * window)) ** 2
        k = np.hypot(*np.meshgrid(*[np.fft.fftfreq(n) for n in scene.shape], indexing="ij"))
        assert power[k > 0.35].sum() < 1e-5 * power[k > 0].sum()
        assert scene.min() >= 0.0
        assert scene.max() > 1.0


def test_a_subtracted_sky_leaves_its_noise_and_no_lines(only):
    only("subtracted")
    found = 0
    for seed in range(12):
        sim = exposure(seed)
        good = sim.flag & 15 == 0
        residual = np.where(good, sim.light, np.nan)
        # Sky lines run along the slit: the median along it is theirs.
        along = max((0, 1), key=lambda axis: np.nanstd(np.nanmedian(residual, axis=axis)))
        noise = np.nanmedian(np.where(good, sim.error, np.nan), axis=along)
        lines = np.abs(np.nanmedian(residual, axis=along)) / noise
        found += np.nanmedian(lines) < 0.5
    assert found >= 9


def test_resampling_moves_all_planes_alike(rng, only):
    only("resampled")
    sim = exposure(7, 0.0)
    marked = np.zeros_like(sim.image)
    marked[80, 90] = 1000.0
    bits = np.zeros_like(sim.flag)
    bits[40:44, 50:54] = 1
    sim = replace(
        sim, image=sim.light + marked, image_without_cr=sim.light, cr_truth=marked, flag=bits,
        unknown_hot=(np.array([80]), np.array([90])),
    )  # fmt: skip
    for seed in range(6):
        moved = unusual_frames._resampled(np.random.default_rng(seed), sim)
        added = moved.image - moved.image_without_cr
        place = np.unravel_index(added.argmax(), added.shape)
        assert added.max() > 100.0
        assert np.hypot(place[0] - 80, place[1] - 90) < 25
        assert moved.cr_truth.argmax() == added.argmax()
        assert list(place) in np.stack(moved.unknown_hot).T.tolist()
        flagged = np.argwhere(moved.flag & 1)
        assert len(flagged) >= 0.6 * 36  # a pixel wider, at a scale of 1.1 at most
        # Interpolation averages noise.
        assert np.median(moved.error) < np.median(sim.error)


def test_spikes_are_the_same_with_and_without_cosmic_rays(only):
    only("spikes")
    sim, plain = exposure(9), exposure(9, 0.0)
    added = sim.image - plain.image
    assert np.allclose(added, sim.image_without_cr - plain.image_without_cr, atol=1e-3)
    share = (added > 1e-6).mean()
    assert 0.008 < share < 0.12
    assert np.array_equal(sim.light, plain.light)
    # Exponential: the deviation of what is added is the mean of the spikes.
    spikes = added[added > 1e-6]
    assert spikes.std() == pytest.approx(spikes.mean(), rel=0.2)


def test_slits_replace_fields_of_stars(only):
    for kind in SLITS:
        only(kind)
        assert not np.isin(exposure(11).catalog["type"], ["star", "galaxy"]).any()


def test_sets_are_made_of_them_and_shares_are_checked(only):
    only("lamp")
    plain = datasets.generic_frame(3, (128, 128), measured=True, tight=True)
    rare = datasets.generic_frame(3, (128, 128), measured=True, tight=True, unusual=1.0)
    assert not np.array_equal(plain.image, rare.image)
    assert load_recipe("twentieth_generic").generic.unusual == 0.65


def test_a_share_above_one_is_refused(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(
        "[dataset.generic]\nseed = 1\nframes = 1\nshape = [64, 64]\nunusual = 1.5\n"
    )
    with pytest.raises(ValueError, match=r"unusual is 1\.5; expected a share, 0 to 1"):
        load_recipe(path)
