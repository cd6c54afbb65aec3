"""Whole simulated exposures and the files they are written to."""

import re

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

pytest.importorskip("galsim")

from crmend.errors import InvalidInputError, UnknownDetectorError
from crmend_training.simulate import (
    DETECTOR_BANDS,
    SimulationConfig,
    generic_exposure,
    simulate_exposure,
    write_pair,
)

NAME = re.compile(r"CSST_MSC_MS_([A-Z]+)_(\d{14})_(\d{14})_(\d{9,14})_(\d{2})_L(\d)_(V?\d+)")


@pytest.fixture(scope="module")
def sim():
    return simulate_exposure(SimulationConfig(7, (320, 256), seed=11, field="low"))


def test_there_are_18_chips():
    assert len(DETECTOR_BANDS) == 18
    assert SimulationConfig(8).shape == (9232, 9216)


def test_same_config_same_bits(sim):
    again = simulate_exposure(sim.config)
    names = ("image", "error", "flag", "cr_truth", "cr_events", "image_without_cr", "catalog")
    for name in names:
        assert getattr(again, name).tobytes() == getattr(sim, name).tobytes(), name
    other = simulate_exposure(SimulationConfig(7, (320, 256), seed=12, field="low"))
    assert not np.array_equal(other.image, sim.image)


def test_planes_have_the_promised_types(sim):
    for plane in (sim.image, sim.error, sim.cr_truth, sim.image_without_cr):
        assert plane.shape == (320, 256)
        assert plane.dtype == np.float32
        assert np.isfinite(plane).all()
    assert sim.flag.dtype == np.int32
    assert not (sim.flag & (1 << 20)).any()


def test_without_charge_transfer_cosmic_rays_are_the_only_difference():
    config = SimulationConfig(7, (320, 256), seed=11, field="low", without=("cti",))
    sim = simulate_exposure(config)
    hit = sim.cr_truth > 0
    # Where a cosmic ray spills over the full well its column differs, too.
    same_column = (sim.flag & 8 > 0).any(axis=0)
    elsewhere = ~hit & ~same_column
    assert np.array_equal(sim.image[elsewhere], sim.image_without_cr[elsewhere])
    usable = hit & ~same_column & (sim.flag == 0)
    added = (sim.image - sim.image_without_cr)[usable] * 150.0
    # Rounding to 1.1 e- twice, a 1 % flat field and a 0.2 % gain error.
    np.testing.assert_allclose(added, sim.cr_truth[usable], atol=1.3, rtol=0.06)


def test_sky_level_and_noise_are_right():
    quiet = SimulationConfig(
        8,
        (512, 512),
        seed=2,
        sky=0.3,
        cr_rate=0.0,
        without=("stars", "galaxies", "cti", "large_galaxy"),
    )
    image = simulate_exposure(quiet).image
    assert np.median(image) == pytest.approx(0.3, rel=0.02)
    noise = 1.4826 * np.median(np.abs(image - np.median(image)))
    expected = np.sqrt(0.32 * 150.0 + 25.0 + 1.1**2 / 12) / 150.0
    assert noise == pytest.approx(expected, rel=0.06)


def test_star_flux_closes_on_the_zero_point():
    config = SimulationConfig(
        24, (700, 700), seed=3, field="mid", sky=0.2, cr_rate=0.0, without=("galaxies",)
    )
    sim = simulate_exposure(config)
    cat = sim.catalog
    inside = (np.abs(cat["x"] - 350) < 300) & (np.abs(cat["y"] - 350) < 300)
    good = cat[inside & (cat["mag"] > 17.3) & (cat["mag"] < 20.5)]
    y, x = np.indices(sim.image.shape)
    errors = []
    for star in good:
        near = np.hypot(cat["x"] - star["x"], cat["y"] - star["y"]) < 45
        if (cat["flux"][near] > 0.003 * star["flux"]).sum() > 1:
            continue
        radius = np.hypot(x - star["x"], y - star["y"])
        aperture = radius < 15
        ring = (radius > 25) & (radius < 40)
        flux = (sim.image - np.median(sim.image[ring]))[aperture & (sim.flag == 0)].sum()
        errors.append(25.91 - 2.5 * np.log10(flux) - star["mag"])
    assert errors
    # 15 px hold 98 to 99.5 % of the light.
    assert 0.0 <= np.median(errors) < 0.035


def test_saturated_stars_bleed_along_columns():
    config = SimulationConfig(9, (800, 800), seed=4, field="dense", without=("galaxies",))
    saturated = simulate_exposure(config).flag & 8 > 0
    assert saturated.any()
    columns = saturated.sum(axis=0).max()
    rows = saturated.sum(axis=1).max()
    assert columns > 3 * rows


def test_written_pair_has_the_official_layout(sim, tmp_path):
    level1, truth = write_pair(sim, tmp_path / "new", without_cr=True)
    kind, start, end, obsid, chip, level, version = NAME.match(level1.name).groups()
    assert (kind, chip, level, version) == ("SCI", "07", "1", "V01")
    assert int(end) > int(start)
    assert NAME.match(truth.name).groups()[3:6] == (obsid, "07", "0")
    with fits.open(level1) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SCI", "ERR", "FLAG"]
        primary, header = hdus[0].header, hdus["SCI"].header
        assert primary["INSTRUME"] == "MSC"
        assert primary["DETECTOR"][-2:] == "07"
        assert primary["EXPTIME"] == 150.0
        assert {"OBSID", "DATE-OBS"} <= set(primary)
        assert (header["FILTER"], header["ZP"], header["BUNIT"]) == ("i", 25.91, "e-/s")
        assert (header["GAIN1"], header["RDNOISE1"], header["CRCOUNT"]) == (1.1, 5.0, 0)
        assert header["SATURATE"] == pytest.approx(477.0, rel=1e-3)
        assert {"SKY_BKG", "SKY_RMS", "STA_CRS"} <= set(header)
        assert hdus[3].data.dtype.newbyteorder("=") == np.int32
        np.testing.assert_array_equal(hdus["SCI"].data, sim.image)
        np.testing.assert_array_equal(hdus["FLAG"].data, sim.flag)
        scales = proj_plane_pixel_scales(WCS(header)) * 3600.0
    np.testing.assert_allclose(scales, 0.074, rtol=1e-3)
    np.testing.assert_array_equal(fits.getdata(truth, 1), sim.cr_truth)
    events = Table.read(truth, hdu="EVENTS")
    assert events["energy"].sum() == pytest.approx(sim.cr_events["energy"].sum())
    clean = next((tmp_path / "new").glob("*_NCR_*"))
    np.testing.assert_array_equal(fits.getdata(clean, 1), sim.image_without_cr)
    catalog = Table.read(next((tmp_path / "new").glob("*_CAT_*")), hdu=1)
    np.testing.assert_allclose(catalog["flux"], 10 ** (-0.4 * (catalog["mag"] - 25.91)))


def test_leaving_an_effect_out_changes_no_other(sim):
    plain = simulate_exposure(
        SimulationConfig(7, (320, 256), seed=11, field="low", without=("ghosts", "satellites"))
    )
    np.testing.assert_array_equal(plain.cr_truth, sim.cr_truth)
    assert np.median(np.abs(plain.image - sim.image)) == 0.0
    no_galaxies = simulate_exposure(
        SimulationConfig(7, (320, 256), seed=11, field="low", without=("galaxies",))
    )
    stars = sim.catalog[sim.catalog["type"] == "star"]
    np.testing.assert_array_equal(
        no_galaxies.catalog["x"][no_galaxies.catalog["type"] == "star"], stars["x"]
    )


def test_the_psf_of_another_telescope_moves_no_star(sim):
    other = simulate_exposure(
        SimulationConfig(7, (320, 256), seed=11, field="low", without=("psf",))
    )
    np.testing.assert_array_equal(other.catalog["x"], sim.catalog["x"])
    np.testing.assert_array_equal(other.cr_truth, sim.cr_truth)
    assert (other.image != sim.image).any()


@pytest.mark.parametrize("seed", range(4))
def test_generic_exposures_are_finite_and_repeatable(seed, tmp_path):
    first = generic_exposure(np.random.default_rng(seed), (128, 160))
    second = generic_exposure(np.random.default_rng(seed), (128, 160))
    assert np.isfinite(first.image).all()
    assert first.image.tobytes() == second.image.tobytes()
    assert first.cr_events.size == 0 or (first.cr_truth > 0).any()
    with pytest.raises(InvalidInputError, match="SimulationConfig"):
        write_pair(first, tmp_path)


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        (UnknownDetectorError, {"detector": 10}),
        (InvalidInputError, {"detector": 8, "field": "moon"}),
        (InvalidInputError, {"detector": 8, "law": "none"}),
        (InvalidInputError, {"detector": 8, "shape": (10, 100)}),
        (InvalidInputError, {"detector": 8, "cr_rate": 2.0}),
        (InvalidInputError, {"detector": 8, "exposure_time": 0.0}),
        (InvalidInputError, {"detector": 8, "seed": -1}),
        (InvalidInputError, {"detector": 8, "without": ("gravity",)}),
    ],
)
def test_nonsense_settings_are_refused(error, arguments):
    with pytest.raises(error, match="expected"):
        SimulationConfig(**arguments)
