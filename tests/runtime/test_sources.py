"""Sources found with sep and catalogues read from FITS tables."""

import numpy as np
import pytest
import sep
from astropy.io import fits
from astropy.table import Table

from crmend.errors import FileFormatError, InvalidInputError, MissingFileError
from crmend.sources import find_sources, read_catalog

TRUE_X = np.array([30.25, 90.0, 150.5, 60.0, 129.7])
TRUE_Y = np.array([20.0, 63.6, 64.4, 127.5, 190.2])


def add_gaussians(image, x, y, flux=3000.0, sigma=1.8):
    yy, xx = np.indices(image.shape)
    for x0, y0 in zip(x, y, strict=True):
        profile = np.exp(-0.5 * ((xx - x0) ** 2 + (yy - y0) ** 2) / sigma**2)
        image += (flux / (2 * np.pi * sigma**2) * profile).astype(np.float32)


@pytest.fixture
def field():
    rng = np.random.default_rng(3)
    image = rng.normal(100.0, 4.0, (230, 180)).astype(np.float32)
    add_gaussians(image, TRUE_X, TRUE_Y)
    return image


@pytest.fixture
def write_table(tmp_path):
    def write(**columns):
        path = tmp_path / "catalog.fits"
        Table(columns).write(path)
        return path

    return write


def test_finds_the_sources_where_they_are(field):
    sources = find_sources(field)
    np.testing.assert_allclose(sources.x, TRUE_X, atol=0.15)
    np.testing.assert_allclose(sources.y, TRUE_Y, atol=0.15)
    # What lies above 1.5 sigma of noise holds most of the flux.
    np.testing.assert_allclose(sources.flux, 3000.0, rtol=0.15)
    assert (sources.npix > 10).all()
    assert sources.x.dtype == np.float64
    assert sources.npix.dtype == np.int64


@pytest.mark.parametrize("power", [-100, -70, 70, 100])
def test_blended_sources_in_any_unit(field, power):
    # sep shares out the pixels of blends, but not those of fluxes below 1e-31.
    add_gaussians(field, [60.0, 66.0, 72.0], [60.0, 62.0, 61.0], flux=20_000.0)
    sources = find_sources(field, noise=4.0)
    scaled = find_sources(np.ldexp(field, power), noise=np.ldexp(4.0, power))
    for name in ("x", "y", "a", "b", "npix"):
        np.testing.assert_array_equal(getattr(scaled, name), getattr(sources, name))
    for name in ("flux", "peak"):
        expected = np.ldexp(getattr(sources, name), power)
        np.testing.assert_allclose(getattr(scaled, name), expected, rtol=1e-6)


def test_sources_whose_flux_overflows_are_none(field):
    field[100:104, 40:44] = 3e38
    sources = find_sources(field)
    assert len(sources) >= TRUE_X.size
    assert np.isfinite([sources.x, sources.y]).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image": np.zeros(9)}, r"image has shape \(9,\); expected \(ny, nx\)"),
        ({"image": np.zeros((9, 9), complex)}, "image has dtype complex128; expected real"),
        ({"invalid": np.zeros((9, 8), bool)}, r"invalid has shape \(9, 8\) and the image"),
        ({"invalid": np.zeros((9, 9))}, "invalid has dtype float64; expected bool"),
        ({"noise": 0.0}, "noise is 0.0; expected a finite number above 0"),
        ({"noise": np.nan}, "noise is nan; expected a finite number above 0"),
        ({"threshold": -1.5}, "threshold is -1.5; expected a finite number above 0"),
        ({"band_rows": 0}, "band_rows is 0; expected a whole number >= 1"),
    ],
)
def test_arguments_of_no_use_are_named(wrong, message):
    with pytest.raises(InvalidInputError, match=message):
        find_sources(**({"image": np.zeros((9, 9), np.float32)} | wrong))


def test_masks_of_integers_and_images_of_other_types_are_taken(field):
    mask = np.zeros(field.shape, np.uint8)
    mask[:, 120:] = 4
    whole = np.rint(field).astype(">i4")
    sources = find_sources(whole, invalid=mask)
    np.testing.assert_allclose(sources.x, TRUE_X[[0, 1, 3]], atol=0.2)


def test_small_spikes_are_no_sources(field):
    field[100, 20] = 5000.0
    field[160:163, 20:23] += 300.0
    assert len(find_sources(field)) in (5, 6)
    assert not np.any(np.abs(find_sources(field).y - 100.0) < 2.0)


@pytest.mark.parametrize("band_rows", [16, 64, 100, 229])
def test_the_height_of_the_bands_changes_nothing(field, band_rows):
    whole = find_sources(field, band_rows=1000)
    banded = find_sources(field, band_rows=band_rows)
    np.testing.assert_allclose(banded.x, whole.x, rtol=0, atol=1e-9)
    np.testing.assert_allclose(banded.y, whole.y, rtol=0, atol=1e-9)
    np.testing.assert_allclose(banded.flux, whole.flux, rtol=1e-6)


def test_bands_with_real_overlap_give_the_same_sources():
    rng = np.random.default_rng(8)
    image = rng.normal(0.0, 1.0, (1500, 120)).astype(np.float32)
    y = np.arange(12.0, 1490.0, 13.7)
    x = rng.uniform(10.0, 110.0, y.size)
    for x0, y0 in zip(x, y, strict=True):
        stamp = (slice(int(y0) - 9, int(y0) + 10), slice(int(x0) - 9, int(x0) + 10))
        add_gaussians(image[stamp], [x0 - int(x0) + 9], [y0 - int(y0) + 9], flux=400.0)
    whole = find_sources(image, band_rows=2000)
    banded = find_sources(image, band_rows=200)
    assert len(whole) == y.size
    np.testing.assert_allclose(banded.y, whole.y, rtol=0, atol=1e-9)
    np.testing.assert_allclose(banded.flux, whole.flux, rtol=1e-6)


def test_background_sampled_coarsely_follows_a_gradient(monkeypatch, field):
    monkeypatch.setattr("crmend._background._MAX_SAMPLES", 3000)
    tilted = field + np.linspace(0.0, 20.0, 180, dtype=np.float32)
    sources = find_sources(tilted)
    np.testing.assert_allclose(sources.x, TRUE_X, atol=0.2)


def test_nan_and_invalid_pixels_are_ignored_and_kept(field):
    field[:10] = np.nan
    field[100:110, 100:110] = 1e6
    before = field.copy()
    invalid = field == 1e6
    sources = find_sources(field, invalid=invalid)
    np.testing.assert_allclose(sources.x, TRUE_X, atol=0.15)
    np.testing.assert_array_equal(field, before)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (3, 3), (40, 50)])
@pytest.mark.parametrize("value", [0.0, -3.0, 1e8, np.nan])
def test_constant_and_tiny_images_have_no_sources(shape, value):
    sources = find_sources(np.full(shape, value, dtype=np.float32))
    assert len(sources) == 0
    assert sources.x.shape == (0,)


def test_full_buffers_are_widened_and_put_back(field):
    expected = find_sources(field)
    limits = sep.get_extract_pixstack(), sep.get_sub_object_limit()
    try:
        sep.set_extract_pixstack(20)
        sep.set_sub_object_limit(1)
        found = find_sources(field)
        assert sep.get_extract_pixstack() == 20
        assert sep.get_sub_object_limit() == 1
    finally:
        sep.set_extract_pixstack(limits[0])
        sep.set_sub_object_limit(limits[1])
    np.testing.assert_array_equal(found.x, expected.x)


def test_crowded_field_without_room_for_sub_objects(monkeypatch):
    monkeypatch.setattr("crmend.sources._MAX_SUB_OBJECTS", 1)
    limit = sep.get_sub_object_limit()
    rng = np.random.default_rng(4)
    image = rng.normal(0.0, 1.0, (60, 60)).astype(np.float32)
    add_gaussians(image, rng.uniform(5, 55, 150), rng.uniform(5, 55, 150), flux=2000.0)
    try:
        sep.set_sub_object_limit(1)
        sources = find_sources(image, noise=1.0)
    finally:
        sep.set_sub_object_limit(limit)
    assert len(sources) >= 1


def test_catalog_with_x_and_y_counts_from_zero(write_table):
    path = write_table(x=[5.0, 1.0, np.nan], y=[7.0, 2.0, 3.0], flux=[10.0, 20.0, 30.0])
    catalog = read_catalog(path)
    np.testing.assert_array_equal(catalog.x, [1.0, 5.0])
    np.testing.assert_array_equal(catalog.flux, [20.0, 10.0])
    assert np.isnan(catalog.a).all()
    np.testing.assert_array_equal(catalog.npix, [0, 0])


def test_catalog_of_sextractor_counts_from_one_and_in_degrees(write_table):
    path = write_table(X_IMAGE=[5.0], Y_IMAGE=[7.0], A_IMAGE=[2.5], THETA_IMAGE=[90.0])
    catalog = read_catalog(path)
    assert (catalog.x[0], catalog.y[0], catalog.a[0]) == (4.0, 6.0, 2.5)
    assert catalog.theta[0] == pytest.approx(np.pi / 2)


def test_sizes_that_are_none_are_not_known(write_table):
    x = [1.0, 2.0, 3.0]
    path = write_table(x=x, y=x, A_IMAGE=[-99.0, 0.0, 2.5], B_IMAGE=[-99.0, 1.0, np.nan])
    catalog = read_catalog(path)
    np.testing.assert_array_equal(catalog.a, [np.nan, np.nan, 2.5])
    np.testing.assert_array_equal(catalog.b, [np.nan, 1.0, np.nan])


def test_catalog_with_sky_coordinates_uses_the_wcs(write_table, header):
    path = write_table(RA=[150.0, 150.0], DEC=[2.0, 2.0 + 3.0 / 3600])
    catalog = read_catalog(path, header)
    np.testing.assert_allclose(catalog.x, [9.0, 9.0], atol=1e-5)
    np.testing.assert_allclose(catalog.y, [19.0, 49.0], atol=1e-5)


def test_catalog_with_sky_coordinates_needs_a_wcs(write_table):
    path = write_table(ra=[150.0], dec=[2.0])
    with pytest.raises(InvalidInputError, match="no celestial WCS"):
        read_catalog(path)
    with pytest.raises(InvalidInputError, match="no celestial WCS"):
        read_catalog(path, fits.Header())


def test_catalog_without_positions_says_what_it_has(write_table):
    path = write_table(mag=[20.0], ident=[1])
    with pytest.raises(FileFormatError, match="got mag, ident"):
        read_catalog(path)


def test_catalog_that_is_missing_or_no_fits(tmp_path):
    with pytest.raises(MissingFileError, match="no source catalogue"):
        read_catalog(tmp_path / "none.fits")
    text = tmp_path / "text.fits"
    text.write_text("x y\n1 2\n")
    with pytest.raises(FileFormatError, match=r"is no FITS file, .* CSV, .* not read"):
        read_catalog(text)


def test_catalog_file_with_an_image_only(tmp_path):
    path = tmp_path / "image.fits"
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(path)
    with pytest.raises(FileFormatError, match="no table at all"):
        read_catalog(path)


def test_bad_pixels_of_the_first_row_are_no_source(field):
    field[0, 60:75] = 1e5
    field[0, 100:115] = np.inf
    sources = find_sources(field, invalid=field > 1e4)
    np.testing.assert_allclose(sources.x, TRUE_X, atol=0.15)


# --- odd catalogues -----------------------------------------------------------------


def test_lookup_distortions_of_the_header_are_left_out(write_table, header):
    path = write_table(RA=[150.0], DEC=[2.0])
    for axis in (1, 2):
        header[f"CPDIS{axis}"] = "LOOKUP"
        header[f"CPERR{axis}"] = 0.03
        header[f"DP{axis}"] = "EXTVER: 1"
        header[f"DP{axis}"] = f"AXIS.{axis}: {axis}"
        header[f"D2IMDIS{axis}"] = "LOOKUP"
        header[f"D2IMERR{axis}"] = 0.002
        header[f"D2IM{axis}"] = "EXTVER: 1"
        header[f"D2IM{axis}"] = f"AXIS.{axis}: {axis}"
    before = header.copy()
    catalog = read_catalog(path, header)
    assert (catalog.x[0], catalog.y[0]) == (pytest.approx(9.0), pytest.approx(19.0))
    assert list(header.items()) == list(before.items())


def test_sky_catalogue_of_a_real_hst_exposure(write_table, shared_data):
    with fits.open(shared_data / "hst" / "wfc3_uvis_ibo821kvq_flt.fits.fz") as hdus:
        header = hdus["SCI"].header
        path = write_table(RA=[header["CRVAL1"]], DEC=[header["CRVAL2"]])
        catalog = read_catalog(path, header)
    np.testing.assert_allclose(catalog.x, header["CRPIX1"] - 1.0, atol=1e-3)
    np.testing.assert_allclose(catalog.y, header["CRPIX2"] - 1.0, atol=1e-3)


@pytest.mark.parametrize(
    "keywords",
    [
        {"CTYPE1": "RA---ABC"},
        {"CTYPE1": "RA---TAB", "CTYPE2": "DEC--TAB"},
        {"CTYPE2": "DEC--SIN"},
        {"CUNIT1": "parsec"},
    ],
)
def test_a_wcs_of_no_use(write_table, header, keywords):
    header.update(keywords)
    path = write_table(RA=[150.0], DEC=[2.0])
    with pytest.raises(InvalidInputError, match="WCS of the image cannot turn them"):
        read_catalog(path, header)


def test_sky_positions_that_no_pixel_shows(write_table, header):
    path = write_table(RA=[150.0, 330.0, 150.0], DEC=[2.0, -2.0, 95.0])
    catalog = read_catalog(path, header)
    assert catalog.x[0] == pytest.approx(9.0)
    assert np.isfinite(catalog.x).all()


@pytest.mark.parametrize("pair", [("x", "y"), ("X_IMAGE", "Y_IMAGE"), ("RA", "DEC")])
@pytest.mark.parametrize(
    "column", [["a", "b"], [[1.0, 2.0], [3.0, 4.0]], [True, False], [1.0 + 2.0j, 2.0]]
)
def test_positions_that_are_no_numbers(write_table, header, pair, column):
    path = write_table(**{pair[0]: [1.0, 2.0], pair[1]: column})
    match = f"catalog.fits are not numbers; expected one .* columns {pair[0]} and {pair[1]}"
    with pytest.raises(FileFormatError, match=match):
        read_catalog(path, header)


def test_other_columns_that_are_no_numbers_are_not_read(write_table):
    path = write_table(
        x=[5.0, 1.0], y=[7.0, 2.0], flux=["faint", "bright"], a=[[1.0, 2.0], [3.0, 4.0]],
        npix=[np.inf, 12.0], theta_image=["n/a", "90"], b=[3.0, 4.0],
    )  # fmt: skip
    catalog = read_catalog(path)
    np.testing.assert_array_equal(catalog.x, [1.0, 5.0])
    np.testing.assert_array_equal(catalog.b, [4.0, 3.0])
    np.testing.assert_array_equal(catalog.npix, [12, 0])
    for name in ("flux", "a", "theta"):
        assert np.isnan(getattr(catalog, name)).all()


def test_text_that_is_no_text(tmp_path):
    columns = [
        fits.Column("x", "D", array=[5.0]),
        fits.Column("y", "D", array=[7.0]),
        fits.Column("flux", "4A", array=["abcd"]),
    ]
    path = tmp_path / "catalog.fits"
    fits.BinTableHDU.from_columns(columns).writeto(path)
    path.write_bytes(path.read_bytes().replace(b"abcd", b"\xff\xfe\xfd\xfc"))
    assert read_catalog(path).x[0] == 5.0


def test_positions_far_from_any_pixel_are_left_out(write_table):
    path = write_table(x=[1e300, -1e20, np.inf, 3.0], y=[1.0, 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(read_catalog(path).x, [3.0])


def test_clusters_on_a_galaxy_that_fills_the_frame():
    """Each has less than a thousandth of its light, and 20 noises and more at its peak."""
    y, x = np.indices((300, 300))
    image = np.random.default_rng(3).normal(100.0, 10.0, (300, 300))
    image += 4e3 / (1.0 + (np.hypot(x - 150, y - 150) / 12.0) ** 2)
    places = [(60 + 36 * i, 60 + 36 * j) for i in range(6) for j in range(6) if i not in (2, 3)]
    for cx, cy in places:
        image += 400.0 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 2.5)
    found = find_sources(image.astype(np.float32))
    near = [np.hypot(found.x - cx, found.y - cy).min() < 2.0 for cx, cy in places]
    assert np.mean(near) > 0.9
