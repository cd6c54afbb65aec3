"""HDUs that crmend does not use go into the corrected file as they are."""

import gzip
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from crmend.errors import CrmendWarning, FileFormatError
from crmend.exposure import (
    Corrected,
    read_exposure,
    write_exposure,
    write_exposures,
    write_flag,
)

FLAG = np.array([[0, 1, 2, 4], [8, 16, 32, 64], [128, 3, 0, 9]], np.int32)
untrained = pytest.mark.filterwarnings("ignore:.*no network was trained")


def named(data, name, version=1, **keywords):
    hdu = fits.ImageHDU(data, name=name)
    hdu.header["EXTVER"] = version
    hdu.header.update(keywords)
    return hdu


def raw_hdus(path):
    """Return name, version and bytes of every extension."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        content = stream.read()
    with fits.open(path, disable_image_compression=True) as hdus:
        places = [(hdu.name, hdu.ver, hdu.fileinfo()) for hdu in hdus[1:]]
    return [(n, v, content[p["hdrLoc"] : p["datLoc"] + p["datSpan"]]) for n, v, p in places]


def labels(path):
    return [(name, version) for name, version, _ in raw_hdus(path)]


def lookup_wcs():
    """Return cards of a WCS with a look-up table in WCSDVARR, and that table."""
    cards = fits.Header()
    cards.update(CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRPIX1=2.0, CRPIX2=2.0, CRVAL1=60.0)
    cards.update(CRVAL2=-40.0, CD1_1=-2e-5, CD2_2=2e-5)
    for axis in (1, 2):
        cards[f"CPDIS{axis}"] = "LOOKUP"
        for record in ("EXTVER: 1.0", "NAXES: 2.0", "AXIS.1: 1.0", "AXIS.2: 2.0"):
            cards.append((f"DP{axis}", record), end=True)
    table = named(np.full((2, 2), 0.75, np.float32), "WCSDVARR")
    table.header.update(CRPIX1=1.0, CRPIX2=1.0, CRVAL1=1.0, CRVAL2=1.0, CDELT1=3.0, CDELT2=3.0)
    return cards, table


@pytest.fixture
def rich(level1, image, tmp_path):
    """Return a file with a WCS in tables, catalogues and a packed image, and checksums."""
    cards, table = lookup_wcs()
    sci = named(image, "SCI")
    sci.header.extend(cards)
    column = fits.Column("A", "J", array=[1, 2, 3])
    text = fits.TableHDU.from_columns([fits.Column("T", "A5", array=["x", "y"])], name="TEXT")
    path = level1(
        [
            ("", table),
            ("SCI", sci),
            ("", fits.CompImageHDU(image * 7, compression_type="GZIP_1", quantize_level=0)),
            ("FLAG", FLAG),
        ]
    )
    with fits.open(path) as hdus:
        hdus += [fits.BinTableHDU.from_columns([column], name="CAT"), text]
        hdus.append(fits.ImageHDU(name="EMPTY"))
        hdus.writeto(tmp_path / "rich.fits", checksum=True)
    path.unlink()
    return tmp_path / "rich.fits"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("output", ["out.fits", "out.fits.gz"])
def test_other_hdus_byte_for_byte(tmp_path, rich, packed, output):
    path = rich
    if packed:
        path = tmp_path / "rich.fits.gz"
        path.write_bytes(gzip.compress(rich.read_bytes()))
    exposure = read_exposure(path)
    write_exposure(tmp_path / output, exposure)
    before, after = raw_hdus(rich), raw_hdus(tmp_path / output)
    assert [hdu[0] for hdu in after[:2]] == ["SCI", "FLAG"]
    assert after[2:] == [hdu for hdu in before if hdu[0] not in ("SCI", "FLAG")]
    with fits.open(tmp_path / output, checksum=True) as hdus:
        hdus.verify("exception")
        np.testing.assert_array_equal(hdus["CAT"].data["A"], [1, 2, 3])
        wcs = WCS(hdus["SCI"].header, hdus)
        np.testing.assert_array_equal(wcs.pix2foc([[1.0, 2.0]], 0), [[1.75, 2.75]])


def test_missing_padding_is_filled(tmp_path, level1, image):
    path = level1([("SCI", image), ("MAP", image)])
    expected = raw_hdus(path)[1]
    path.write_bytes(path.read_bytes()[: -2880 + image.nbytes])
    write_exposure(tmp_path / "out.fits", read_exposure(path))
    assert raw_hdus(tmp_path / "out.fits")[1] == expected


def test_flags_alone_carry_nothing(tmp_path, rich):
    exposure = read_exposure(rich)
    write_flag(tmp_path / "flag.fits", exposure, exposure.flag)
    assert labels(tmp_path / "flag.fits") == [("FLAG", 1)]


@untrained
def test_several_chips(tmp_path, level1, image):
    planes = [named(image, "D2IMARR")]
    for n in (1, 2):
        planes += [named(image * n, "SCI", n), named(image, "ERR", n), named(image, "WHT", n)]
        planes += [named(FLAG.astype("i2"), "DQ", n), named(image, "WCSDVARR", n)]
    path = level1([("", hdu) for hdu in planes])
    chips = [read_exposure(path, instrument="generic", extver=n) for n in (1, 2)]
    write_exposures(tmp_path / "out.fits", [(chip, None) for chip in chips])
    written = [(name, n) for n in (1, 2) for name in ("SCI", "ERR", "FLAG")]
    carried = [(name, n) for n in (1, 2) for name in ("WHT", "WCSDVARR")]
    assert labels(tmp_path / "out.fits") == [*written, ("D2IMARR", 1), *carried]
    # Planes of chips that are not written would be taken for this one's.
    write_exposure(tmp_path / "second.fits", chips[1])
    assert labels(tmp_path / "second.fits") == [
        *written[:3], ("D2IMARR", 1), ("WCSDVARR", 1), *carried[2:],
    ]  # fmt: skip


def test_earlier_probability_is_left_out(tmp_path, level1, image):
    exposure = read_exposure(level1([("SCI", image), ("CAT", image)]))
    chance = np.zeros((3, 4), np.float32)
    result = Corrected(image, cr_probability=chance)
    write_exposure(tmp_path / "once.fits", exposure, result, probability=True)
    assert labels(tmp_path / "once.fits") == [("SCI", 1), ("CRPROB", 1), ("CAT", 1)]
    write_exposure(tmp_path / "twice.fits", read_exposure(tmp_path / "once.fits"))
    assert labels(tmp_path / "twice.fits") == [("SCI", 1), ("CAT", 1)]


@untrained
def test_what_cannot_be_carried_is_named(tmp_path, image):
    path = tmp_path / "a.fits"
    extensions = [named(image, "SCI"), named(image * 2, "B"), named(image, "C")]
    fits.HDUList([fits.PrimaryHDU(image), *extensions]).writeto(path)
    exposure = read_exposure(path, instrument="generic", planes={"image": "B"})
    with pytest.warns(
        CrmendWarning, match=r"not carried .*a.fits HDU 0 \(unnamed\), a.fits HDU 1 \(SCI\);"
    ):
        write_exposure(tmp_path / "out.fits", exposure)
    assert labels(tmp_path / "out.fits") == [("SCI", 1), ("C", 1)]
    path.unlink()
    with pytest.warns(CrmendWarning, match=r"HDU 3 \(C\)"):
        write_exposure(tmp_path / "out.fits", exposure)
    assert labels(tmp_path / "out.fits") == [("SCI", 1)]


def test_two_files_into_one(tmp_path, level1, image):
    first = read_exposure(level1([("SCI", image), ("MAP", image)], name="a.fits"))
    second = read_exposure(level1([("SCI", image), ("MAP", image * 2)], name="b.fits"))
    with pytest.warns(CrmendWarning, match=r"not carried .*: b.fits HDU 2 \(MAP\);"):
        write_exposures(tmp_path / "out.fits", [(first, None), (second, None)])
    np.testing.assert_array_equal(fits.getdata(tmp_path / "out.fits", "MAP"), image)


@untrained
def test_hdus_of_one_name(tmp_path, level1, image):
    again = [named(image * n, "MAP") for n in (2, 3, 4)]
    chips = [named(image, "SCI", n) for n in (1, 2)]
    path = level1([("", hdu) for hdu in (*chips, *again)])
    exposures = [read_exposure(path, instrument="generic", extver=n) for n in (1, 2)]
    write_exposures(tmp_path / "out.fits", [(exposure, None) for exposure in exposures])
    assert raw_hdus(tmp_path / "out.fits")[2:] == raw_hdus(path)[2:]


@pytest.mark.parametrize("names", [("CAT", "SCI", "MAP"), ("SCI", "MAP"), ("SCI",)])
def test_an_input_that_changed_meanwhile_is_refused(tmp_path, level1, image, names):
    exposure = read_exposure(level1([("SCI", image), ("MAP", image * 2), ("CAT", image * 3)]))
    level1([(name, image) for name in names])
    with pytest.raises(FileFormatError, match=r"HDU \d \((MAP|CAT)\) of EXTVER 1 is no longer"):
        write_exposure(tmp_path / "out.fits", exposure)
    assert [path.name for path in tmp_path.iterdir()] == ["frame_L1.fits"]


def test_exposures_without_a_file(tmp_path, level1, image):
    exposure = replace(read_exposure(level1()), path=None, planes={}, extras=())
    write_exposure(tmp_path / "out.fits", exposure)
    assert labels(tmp_path / "out.fits") == [("SCI", 1)]


def test_large_images_pass_through_little_memory(tmp_path, level1, image):
    path = level1([("SCI", image), ("BIG", np.zeros((3000, 4000), np.float32))])
    exposure = read_exposure(path)
    tracemalloc.start()
    try:
        write_exposure(tmp_path / "out.fits", exposure)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * 2**20
    assert raw_hdus(tmp_path / "out.fits")[1] == raw_hdus(path)[1]


def test_a_new_plane_has_the_distortions_of_iraf(tmp_path, level1, image):
    sci = named(image, "SCI")
    sci.header.update(CTYPE1="RA---TNX", CTYPE2="DEC--TNX", CRVAL1=10.0, CD1_1=1e-4, CD2_2=1e-4)
    sci.header.update(WAT1_001="wtype=tnx axtype=ra lngcor = ", WAT0_001="system=image")
    exposure = read_exposure(level1([("SCI", sci)]))
    out = tmp_path / "out.fits"
    write_exposure(out, exposure, Corrected(image, error=image, flag=FLAG.astype("i4")))
    with fits.open(out) as hdus:
        for name in ("SCI", "ERR", "FLAG"):
            for key in ("CTYPE1", "WAT1_001", "WAT0_001"):
                assert hdus[name].header[key] == sci.header[key]
