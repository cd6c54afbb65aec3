"""Sources and PSFs of the simulator against published and analytic values."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.special import erf, j0, j1

pytest.importorskip("galsim")

from crmend_training.simulate.bands import BANDS
from crmend_training.simulate.catalog import SOURCE_DTYPE, SkyModel, draw_catalog
from crmend_training.simulate.focal_plane import Place, draw_place, grid_side
from crmend_training.simulate.psf import Psf, encircled_radius
from crmend_training.simulate.psf_models import (
    PsfRequest,
    csst_psfs,
    foreign_psf,
    generic_psf,
    reachable_radius,
)
from crmend_training.simulate.scene import Optics, render_scene


@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.8])
def test_airy_holds_the_analytic_fraction(fraction):
    x = np.pi * encircled_radius(1.0, 1e-6, fraction)
    # Rayleigh: EE = 1 − J0² − J1².
    assert 1.0 - j0(x) ** 2 - j1(x) ** 2 == pytest.approx(fraction, abs=2e-3)


def test_gaussian_holds_80_per_cent_in_its_analytic_radius():
    # R = sigma sqrt(-2 ln 0.2)
    assert encircled_radius(0.01, 1.0) == pytest.approx(1.794, abs=0.01)


@pytest.mark.parametrize("pivot", [288.0, 479.0, 966.0])
def test_psf_is_as_sharp_as_the_survey_says(pivot):
    for psf in csst_psfs(np.random.default_rng(3), pivot, 0.074, 3):
        assert 0.03 <= psf.jitter * 0.074 <= 0.07
        assert encircled_radius(psf.airy, psf.jitter) * 0.074 <= 0.15 + 1e-3
        assert 2.0 * np.hypot(psf.g1, psf.g2) <= 0.1 + 1e-9


def test_stamps_move_the_centroid_by_their_phase():
    stamps = Psf(jitter=1.0).stamps()
    offsets = np.arange(49) - 24.0
    for phase in (0, 5, 15):
        stamp = stamps[3, phase].astype(float)
        assert stamp.sum() == pytest.approx(1.0, abs=1e-3)
        x = (stamp.sum(axis=0) * offsets).sum()
        y = (stamp.sum(axis=1) * offsets).sum()
        assert x == pytest.approx((phase + 0.5) / 16 - 0.5, abs=2e-3)
        assert y == pytest.approx(3.5 / 16 - 0.5, abs=2e-3)


def test_star_is_a_pixel_integrated_gaussian():
    star = np.zeros(1, SOURCE_DTYPE)
    star["type"], star["x"], star["y"], star["flux"] = "star", 20.03125, 31.96875, 1000.0
    optics = Optics.from_psfs([Psf(jitter=1.1)])
    image = render_scene(
        np.random.default_rng(0), star, optics, (64, 48), floor=1e-3, faint_galaxies=1.0
    )
    edges_x = (np.arange(49) - 0.5 - 20.03125) / (1.1 * np.sqrt(2.0))
    edges_y = (np.arange(65) - 0.5 - 31.96875) / (1.1 * np.sqrt(2.0))
    expected = 1000.0 * np.outer(np.diff(erf(edges_y)), np.diff(erf(edges_x))) / 4.0
    np.testing.assert_allclose(image, expected, atol=0.05)


def test_wings_continue_the_stamp_without_a_step():
    psf = Psf(airy=1.35, jitter=0.6, aureole=0.005)
    stamp = psf.stamps()[8, 8]
    inside = stamp[24, 46:49].mean()  # 22 to 24 px from the centre, half a phase off
    assert inside == pytest.approx(psf.wings(np.array([23.0]))[0], rel=0.1)


def test_bright_star_keeps_its_flux_and_shows_no_box():
    star = np.zeros(1, SOURCE_DTYPE)
    star["type"], star["x"], star["y"], star["flux"] = "star", 150.0, 150.0, 1e5
    optics = Optics.from_psfs([Psf(airy=0.67, jitter=0.7, aureole=0.005)])
    image = render_scene(
        np.random.default_rng(0), star, optics, (301, 301), floor=1e-3, faint_galaxies=1.0
    )
    assert image.sum() == pytest.approx(1e5, rel=0.01)
    row = image[150, 151:280]
    assert np.all(np.diff(row) < 0.0)


def test_galaxy_has_its_flux_and_half_light_radius():
    galaxy = np.zeros(1, SOURCE_DTYPE)
    galaxy["type"], galaxy["x"], galaxy["y"], galaxy["flux"] = "galaxy", 100.3, 99.6, 400.0
    galaxy["r_half"], galaxy["r_bulge"], galaxy["axis_ratio"] = 8.0, 2.0, 1.0
    optics = Optics.from_psfs([Psf(jitter=0.6)])
    image = render_scene(
        np.random.default_rng(0), galaxy, optics, (201, 201), floor=1e-2, faint_galaxies=1.0
    )
    y, x = np.indices(image.shape)
    inside = np.hypot(x - 100.3, y - 99.6) < 8.0
    assert image.sum() == pytest.approx(400.0, rel=0.02)
    assert image[inside].sum() / image.sum() == pytest.approx(0.5, abs=0.02)


def measured_r_ee80(psf):
    """R_EE80 [px] of a drawn star without the pixel, from a growth curve on a fine grid."""
    step = 1.0 / 8.0
    size = 1600  # 200 px: 0.1 % of an Airy pattern's light lies outside
    image = psf.fine.drawImage(nx=size, ny=size, scale=step, method="no_pixel").array
    offsets = (np.arange(size) - 0.5 * (size - 1)) * step
    radius = np.hypot(*np.meshgrid(offsets, offsets)).ravel()
    order = np.argsort(radius)
    return np.interp(0.8, np.cumsum(image.ravel()[order]), radius[order])


@pytest.mark.parametrize("band", BANDS.values(), ids=list(BANDS))
@pytest.mark.parametrize("request_radius", [0.11, 0.13, 0.15])
def test_psf_has_the_requested_radius_where_diffraction_permits(band, request_radius):
    request = PsfRequest(r_ee80=request_radius, variation=0.0, aureole=0.0)
    psf = csst_psfs(np.random.default_rng(2), band.pivot, 0.074, 1, None, request)[0]
    low, high = reachable_radius(band.pivot, 0.074)
    expected = np.clip(request_radius, low, high)
    assert measured_r_ee80(psf) * 0.074 == pytest.approx(expected, rel=0.03)
    # Beyond diffraction: 0.11 arcsec in z and y; with at most 0.07 arcsec of jitter: 0.15 in
    # NUV, u and g.
    out_of_reach = {0.11: {"z", "y"}, 0.13: set(), 0.15: {"NUV", "u", "g"}}
    is_reached = expected == pytest.approx(request_radius, abs=1e-6)
    assert is_reached == (band.name not in out_of_reach[request_radius])


def test_stamps_have_the_pixel_convolved_radius():
    # A Gaussian and the pixel's 1/12 in quadrature, for a Gaussian much wider than the pixel.
    psf = Psf(jitter=2.0)
    stamps = psf.stamps()
    phases = stamps.shape[0]
    offsets = np.arange(-24, 25)[None, :] - ((np.arange(phases) + 0.5) / phases - 0.5)[:, None]
    x = np.broadcast_to(offsets[None, :, None, :], stamps.shape).ravel()
    y = np.broadcast_to(offsets[:, None, :, None], stamps.shape).ravel()
    radius = np.hypot(x, y)
    order = np.argsort(radius)
    growth = np.cumsum(stamps.ravel()[order].astype(float)) / phases**2
    expected = np.sqrt(4.0 + 1.0 / 12.0) * np.sqrt(-2.0 * np.log(0.2))
    assert np.interp(0.8, growth, radius[order]) == pytest.approx(expected, rel=0.005)


def test_places_on_the_focal_plane():
    # Chips n and 31 - n lie opposite each other, as their bands do.
    for chip in (6, 9, 13):
        opposite = Place(31 - chip).positions(1)
        np.testing.assert_allclose(Place(chip).positions(1), -opposite, atol=1e-12)
    corner = Place(9, (0, 0), (1024, 1024)).positions(1)[0]
    far = Place(9, (8208, 8192), (1024, 1024)).positions(1)[0]
    # Neighbouring chips are 2/6 apart in columns and 2/5 in rows.
    np.testing.assert_allclose(far - corner, [2 / 6 * 8 / 9, 2 / 5 * 8208 / 9232], atol=1e-9)
    place = draw_place(np.random.default_rng(0), 9, (1024, 1024))
    assert 0 <= place.origin[0] <= 8208
    assert draw_place(np.random.default_rng(0), 9, (9232, 9216)).origin == (0, 0)
    assert [grid_side((n, n)) for n in (1024, 2048, 9216)] == [1, 2, 3]


def test_one_telescope_for_all_chips_of_an_exposure():
    left, right = (
        csst_psfs(np.random.default_rng(8), 617.0, 0.074, 1, Place(chip))[0] for chip in (9, 22)
    )
    assert left.aureole == right.aureole
    assert left.jitter != right.jitter
    same = PsfRequest(variation=0.0, ellipticity=0.0)
    a, b = (
        csst_psfs(np.random.default_rng(8), 617.0, 0.074, 1, Place(chip), same)[0]
        for chip in (9, 22)
    )
    assert a == b
    assert a.g1 == a.g2 == 0.0


def test_spikes_hold_their_share_of_the_light_and_go_on_outside_the_stamp():
    plain = Psf(jitter=1.0)
    spiked = Psf(jitter=1.0, spikes=4, spike_share=0.02, spike_angle=0.4, spike_reach=20.0)
    images = []
    for psf in (plain, spiked):
        image = np.zeros((801, 801), np.float32)
        centre = np.array([400.0])
        Optics.from_psfs([psf]).add_points(image, centre, centre, np.array([1e6]), 1e-3)
        images.append(image.astype(float))
    assert images[1].sum() == pytest.approx(1e6, rel=2e-3)
    y, x = np.indices((801, 801)) - 400.0
    ring = (np.hypot(x, y) > 40.0) & (np.hypot(x, y) < 120.0)
    # The integral of 2/(π s)/(1 + r²/s²) from 40 to 120 px.
    expected = 0.02 * 2.0 / np.pi * (np.arctan(6.0) - np.arctan(2.0))
    assert images[1][ring].sum() / 1e6 == pytest.approx(expected, rel=0.02)
    assert images[0][ring].sum() == pytest.approx(0.0, abs=1.0)


def test_generic_psfs_are_as_wide_as_promised():
    rng = np.random.default_rng(0)
    psfs = [generic_psf(rng) for _ in range(40)]
    assert {psf.spikes for psf in psfs} == {0, 4, 6}
    assert all(psf.spikes == 0 for psf in (generic_psf(rng, 0.0) for _ in range(20)))
    for psf in psfs[:6]:
        # As wide as a disc of its area above half maximum, on the fine grid of the phases.
        phases = psf.stamps()
        step = phases.shape[0]
        fine = phases.transpose(2, 0, 3, 1)[:, ::-1, :, ::-1].reshape(49 * step, 49 * step)
        width = 2.0 * np.sqrt((fine > 0.5 * fine.max()).sum() / np.pi) / step
        assert 1.1 < width < 7.5


def test_stars_of_other_telescopes_have_wings_or_none():
    rng = np.random.default_rng(1)
    psfs = [foreign_psf(rng) for _ in range(40)]
    assert all(psf.fwhm < 3.6 and psf.trail == 0.0 for psf in psfs)
    bare = [psf for psf in psfs if psf.aureole == 0.0 and psf.spikes == 0]
    assert 10 < len(bare) < 30
    gaussian = next(psf for psf in bare if psf.airy == psf.moffat_fwhm == 0.0)
    ring = np.hypot(*(np.indices((49, 49)) - 24.0)) > 10.0
    assert gaussian.stamps()[0, 0][ring].sum() == pytest.approx(0.0, abs=1e-5)


def test_aberrations_make_the_rings_uneven_and_keep_the_light():
    coma = (0.0, 0.0, 0.0, 0.05, 0.03)  # Noll indices 7 and 8
    even, uneven = (Psf(2.0, 0.3, coefficients, jitter=0.4) for coefficients in ((), coma))
    means = [psf.stamps().mean(axis=(0, 1), dtype=float) for psf in (even, uneven)]
    assert means[1].sum() == pytest.approx(means[0].sum(), abs=2e-3)
    ring = np.hypot(*(np.indices((49, 49)) - 24.0)).round() == 4.0
    asymmetry = [np.abs(m - m[::-1, ::-1])[ring].mean() / m[ring].mean() for m in means]
    assert asymmetry[0] < 0.01
    assert 0.2 < asymmetry[1] < 2.0


def test_some_generic_telescopes_are_aberrated():
    rng = np.random.default_rng(0)
    coefficients = [
        p.aberrations for p in (generic_psf(rng) for _ in range(80)) if p.aberrations
    ]
    rms = [float(np.hypot.reduce(c)) for c in coefficients]
    assert len(rms) > 8
    assert min(rms) >= 0.02
    assert max(rms) <= 0.12
    assert not any(generic_psf(rng, aberrated=0.0).aberrations for _ in range(30))


# Galaxies per mag and deg² in r from 18 to 27, which every band scales, and stars at b = 50°
# around r = 14 to 25.
GALAXIES = [275, 725, 2050, 5325, 13700, 30575, 63100, 127825, 229950]
STARS = [141, 244, 385, 571, 782, 1003, 1186, 1510, 1882, 2114, 2238, 2695]


def drawn_counts(band, edges, kind, degrees):
    """Count what is drawn on so many deg², per bin and deg²."""
    sky = SkyModel(
        zero_point=band.zero_point,
        faintest=edges[-1],
        pixel_scale=3.6,
        star_density=float(kind == "star"),
        galaxy_density=band.galaxy_factor * (kind == "galaxy"),
        star_colour=band.star_colour,
        galaxy_colour=band.galaxy_colour,
        close_pairs=0.1,
    )
    shape = (round(1000 * degrees), 1000)
    catalog = draw_catalog(np.random.default_rng(7), shape, sky, margin=0)
    assert set(catalog["type"]) == {kind}
    return np.histogram(catalog["mag"], edges)[0] / degrees


@pytest.mark.parametrize("band", BANDS.values(), ids=list(BANDS))
def test_number_counts_are_the_tables_of_every_band(band):
    # Areas in which chance makes less than 1.7 % in any bin.
    scale = 1.0 / band.galaxy_factor
    for first, last, degrees in ((18, 20, 14.0), (20, 22, 2.0), (22, 25, 0.3), (25, 27, 0.035)):
        found = drawn_counts(band, np.arange(first, last + 0.1), "galaxy", scale * degrees)
        table = np.array(GALAXIES[first - 18 : last - 18]) * band.galaxy_factor
        np.testing.assert_allclose(found, table, rtol=0.05)
    edges = np.arange(13.5, 26.0) + band.star_colour
    np.testing.assert_allclose(drawn_counts(band, edges, "star", 28.0), STARS, rtol=0.05)


def test_close_pairs_are_moved_not_added():
    sky = SkyModel(zero_point=26.0, faintest=25.0, pixel_scale=0.074, star_density=3.0)
    apart = draw_catalog(np.random.default_rng(3), (3000, 3000), sky)
    together = draw_catalog(
        np.random.default_rng(3), (3000, 3000), replace(sky, close_pairs=0.2)
    )
    np.testing.assert_array_equal(apart["mag"], together["mag"])
    moved = (apart["x"] != together["x"]) & (apart["type"] == "star")
    stars = together[together["type"] == "star"]
    assert moved.sum() / stars.size == pytest.approx(0.2, abs=0.05)
    tree = cKDTree(np.column_stack([stars["x"], stars["y"]]))
    distance = tree.query(np.column_stack([stars["x"], stars["y"]]), k=2)[0][:, 1]
    close = distance < 6.0
    assert close.mean() == pytest.approx(0.4, abs=0.1)
    assert distance.min() > 0.3


def test_large_galaxy_is_switched_without_touching_other_sources():
    sky = SkyModel(zero_point=26.0, faintest=24.0, pixel_scale=0.074)
    without = draw_catalog(np.random.default_rng(3), (1024, 1024), sky)
    with_one = draw_catalog(
        np.random.default_rng(3), (1024, 1024), replace(sky, large_galaxy=1.0)
    )
    assert with_one.size == without.size + 1
    assert np.isin(without["x"], with_one["x"]).all()
    assert 40.0 < with_one["r_half"].max() < 144.0
    full = draw_catalog(
        np.random.default_rng(3),
        (9232, 9216),
        replace(sky, large_galaxy=1.0, faintest=18.0),
    )
    assert 10.0 <= full["r_half"].max() * 0.074 <= 40.0


@pytest.mark.parametrize("axis_ratio", [0.9, 0.3])
@pytest.mark.parametrize("structure", [0.0, 1.0])
def test_large_galaxy_keeps_its_flux(axis_ratio, structure):
    galaxy = np.zeros(1, SOURCE_DTYPE)
    galaxy["type"], galaxy["x"], galaxy["y"], galaxy["flux"] = "galaxy", 400.2, 399.7, 1e5
    galaxy["r_half"], galaxy["r_bulge"], galaxy["axis_ratio"] = 40.0, 6.0, axis_ratio
    galaxy["bulge_fraction"], galaxy["position_angle"] = 0.3, 0.7
    optics = Optics.from_psfs([Psf(jitter=0.7)])
    image = render_scene(
        np.random.default_rng(1),
        galaxy,
        optics,
        (800, 800),
        floor=1e-3,
        faint_galaxies=1.0,
        structure=structure,
    )
    assert image.sum() == pytest.approx(1e5, rel=0.02)
    y, x = np.indices(image.shape)
    dx, dy = x - 400.2, y - 399.7
    u, v = dx * np.cos(0.7) + dy * np.sin(0.7), dy * np.cos(0.7) - dx * np.sin(0.7)
    if structure == 0.0:
        # The disk's part of the light inside its half-light ellipse, and nearly all the bulge.
        inside = np.hypot(u, v / axis_ratio) < 40.0
        assert image[inside].sum() / 1e5 == pytest.approx(0.7 * 0.5 + 0.29, abs=0.03)


def test_fluxes_of_all_sources_add_up():
    sky = SkyModel(zero_point=26.08, faintest=26.0, pixel_scale=0.074, galaxy_density=4.0)
    shape = (600, 600)
    catalog = draw_catalog(np.random.default_rng(12), shape, sky)
    x, y = catalog["x"], catalog["y"]
    inside = (x > 60) & (x < 540) & (y > 60) & (y < 540) & (catalog["mag"] > 20.0)
    catalog = catalog[inside]
    optics = Optics.from_psfs([Psf(airy=0.86, jitter=0.6)])
    for kind in ("star", "galaxy"):
        part = catalog[catalog["type"] == kind]
        image = render_scene(
            np.random.default_rng(0), part, optics, shape, floor=1e-4, faint_galaxies=1.6
        )
        assert image.sum() == pytest.approx(part["flux"].sum(), rel=0.02)


def test_counts_are_the_published_ones():
    sky = SkyModel(zero_point=26.08, faintest=26.0, pixel_scale=0.074)
    catalog = draw_catalog(np.random.default_rng(5), (9232, 9216), sky, margin=0)
    galaxies = catalog[catalog["type"] == "galaxy"]
    # About 4,200 galaxies to r = 25 and 8,800 to r = 26 on a chip.
    assert (galaxies["mag"] < 25.0).sum() == pytest.approx(4200, rel=0.08)
    assert galaxies.size == pytest.approx(8800, rel=0.08)
    stars = catalog[catalog["type"] == "star"]
    # 1186 per deg² and magnitude at mag 20, on 0.0359 deg².
    around_20 = (np.abs(stars["mag"] - 20.0) < 1.0).sum() / 2.0
    assert around_20 == pytest.approx(1186 * 0.0359, rel=0.35)


def test_flux_follows_the_zero_point():
    sky = SkyModel(zero_point=25.0, faintest=24.0, pixel_scale=0.2)
    catalog = draw_catalog(np.random.default_rng(1), (500, 500), sky)
    np.testing.assert_allclose(catalog["flux"], 10 ** (-0.4 * (catalog["mag"] - 25.0)))
    assert np.all(np.diff(catalog["mag"]) >= 0.0)
