"""STIS, WFPC2 and DECam files in their own layouts, and planes named by the caller."""

import numpy as np
import pytest
from astropy.io import fits

from crmend.errors import CrmendWarning, FileFormatError, InvalidInputError, UntrainedWarning
from crmend.exposure import count_extvers, read_exposure, update_flags

SHAPE = (3, 4)
IMAGE = np.arange(12, dtype=np.float32).reshape(SHAPE) + 100.0
untrained = pytest.mark.filterwarnings("ignore::crmend.errors.UntrainedWarning")


def hdu(data, name="", version=None, **keywords):
    """Return an image extension."""
    one = fits.ImageHDU(data, name=name)
    one.header.update(keywords)
    if version is not None:
        one.header["EXTVER"] = version
    return one


def write(path, extensions, **keywords):
    primary = fits.PrimaryHDU()
    primary.header.update(keywords)
    fits.HDUList([primary, *extensions]).writeto(path)
    return path


def stis(path, instrument="STIS", detector="CCD"):
    """Write an flt of two exposures; the second has no error and quality pixels (NAXIS = 0)."""
    dq = np.zeros(SHAPE, np.int16)
    dq[0, :3], dq[1, 1] = [16, 256, 8192], 1024
    empty = [fits.ImageHDU(name=name) for name in ("ERR", "DQ")]
    for one in empty:
        one.header["EXTVER"] = 2
    planes = [
        hdu(IMAGE, "SCI", 1, BUNIT="COUNTS", EXPTIME=30.0),
        hdu(np.full(SHAPE, 2.0, np.float32), "ERR", 1),
        hdu(dq, "DQ", 1),
        hdu(IMAGE * 2, "SCI", 2, BUNIT="COUNTS", EXPTIME=40.0),
        *empty,
    ]
    header = {"INSTRUME": instrument, "DETECTOR": detector, "TEXPTIME": 70.0}
    header |= {"CCDGAIN": 4, "ATODGAIN": 4.016, "READNSE": 7.9, "APERTURE": "50CCD"}
    return write(path, planes, **header)


def test_stis(tmp_path):
    path = stis(tmp_path / "o_flt.fits")
    assert count_extvers(path) == 2
    with pytest.warns(UntrainedWarning, match="no network was trained for HST STIS"):
        first = read_exposure(path, extver=1)
    assert first.instrument.name == "hst_stis"
    assert (first.electrons_per_unit, first.exposure_time) == (4.016, 30.0)
    assert (first.read_noise, first.band) == (7.9, "50CCD")
    assert first.invalid.tolist()[0] == [True, False, False, False]
    assert first.saturated.tolist()[0] == [False, True, False, False]
    assert not first.invalid[1:].any()
    assert first.instrument.cr_bit == 8192
    with pytest.warns(UntrainedWarning):
        second = read_exposure(path, extver=2)
    assert (second.exposure_time, second.flag, second.error) == (40.0, None, None)
    np.testing.assert_array_equal(second.image, IMAGE * 2)


def test_stis_mama_is_not_the_ccd(tmp_path):
    path = stis(tmp_path / "o_flt.fits", detector="NUV-MAMA")
    with pytest.raises(LookupError, match=r"INSTRUME='STIS', DETECTOR='NUV-MAMA'"):
        read_exposure(path)


@untrained
@pytest.mark.parametrize("quality", ["SCI", "DQ"])
def test_wfpc2_with_its_quality_in_c1m(tmp_path, quality):
    """The planes of c1m are named SCI or DQ; every chip gets its own."""
    chips = range(1, 5)
    path = write(
        tmp_path / "u_c0m.fits",
        [hdu(IMAGE * n, "SCI", n, DETECTOR=n, BUNIT="COUNTS") for n in chips],
        INSTRUME="WFPC2", FILTNAM1="F555W", EXPTIME=100.0, ATODGAIN=7.0,
    )  # fmt: skip
    with pytest.warns(CrmendWarning, match=r"sibling u_c1m.fits does not exist"):
        assert read_exposure(path, extver=1).flag is None
    flags = []
    for n in chips:
        flags.append(np.zeros(SHAPE, np.int16))
        flags[-1][0, 0], flags[-1][1, n - 1], flags[-1][2, 2] = 2, 8, 256
    planes = [hdu(flag, quality, n) for n, flag in zip(chips, flags, strict=True)]
    write(tmp_path / "u_c1m.fits", planes, INSTRUME="WFPC2")
    for n, flag in zip(chips, flags, strict=True):
        chip = read_exposure(path, extver=n)
        np.testing.assert_array_equal(chip.image, IMAGE * n)
        np.testing.assert_array_equal(chip.flag, flag)
        assert np.argwhere(chip.invalid).tolist() == [[0, 0]]
        assert np.argwhere(chip.saturated).tolist() == [[1, n - 1]]
        assert (chip.detector, chip.band, chip.electrons_per_unit) == (str(n), "F555W", 7.0)


def decam(folder, mask_type=np.int16, codes=(0, 1, 3, 5)):
    """Write ooi, ood and oow of two CCDs with the same number on both sides of the camera."""
    header = {"INSTRUME": "DECam", "EXPTIME": 90.0, "PLVER": "V4.8.2", "FILTER": "g DECam"}
    ccd = {"GAINA": 3.8, "RDNOISEA": 6.0, "SATURATE": 45000.0}
    names = ("N4", "S4")
    mask = {name: np.zeros(SHAPE, mask_type) for name in names}
    mask["N4"][0], mask["S4"][1] = codes, codes
    weight = np.full(SHAPE, 0.25, np.float32)
    files = {
        "ooi": [hdu(IMAGE * k, n, DETPOS=n, **ccd) for k, n in enumerate(names, 1)],
        # In another order: the name decides.
        "ood": [hdu(mask[n], n, DETPOS=n) for n in reversed(names)],
        "oow": [hdu(weight * k, n, DETPOS=n) for k, n in enumerate(names, 1)],
    }
    for tag, planes in files.items():
        write(folder / f"c4d_190503_101849_{tag}_g_v1.fits", planes, **header)
    return folder / "c4d_190503_101849_ooi_g_v1.fits"


@untrained
def test_decam_codes_become_bits(tmp_path):
    path = decam(tmp_path)
    assert count_extvers(path) == 2
    north, south = (read_exposure(path, extver=n) for n in (1, 2))
    assert (north.detector, south.detector) == ("N4", "S4")
    assert (north.unit, north.electrons_per_unit, north.saturation) == ("ADU", 3.8, 45000.0)
    np.testing.assert_array_equal(south.image, IMAGE * 2)
    np.testing.assert_array_equal(north.flag[0], [0, 2, 8, 32])
    np.testing.assert_array_equal(south.flag[1], [0, 2, 8, 32])
    assert not north.flag[1:].any()
    np.testing.assert_array_equal(north.error, np.full(SHAPE, 2.0))
    assert np.argwhere(north.invalid).tolist() == [[0, 1]]
    assert np.argwhere(north.saturated).tolist() == [[0, 2]]
    assert north.instrument.cr_bit == 32


@untrained
def test_decam_codes_cannot_be_updated_in_place(tmp_path):
    exposure = read_exposure(decam(tmp_path), extver=1)
    mask_file = tmp_path / "c4d_190503_101849_ood_g_v1.fits"
    before = mask_file.read_bytes()
    with pytest.raises(FileFormatError, match="one code per pixel"):
        update_flags(exposure.path, exposure, np.ones(SHAPE, bool))
    assert mask_file.read_bytes() == before


@untrained
def test_decam_codes_are_refused_before_any_work(tmp_path, crmend_cli, monkeypatch):
    def work(*arguments, **named):
        raise AssertionError("cosmic rays were looked for")

    monkeypatch.setattr("crmend._cli_clean.flag_in_place", work)
    frame = decam(tmp_path)
    files = sorted(tmp_path.iterdir())
    done = crmend_cli(
        "detect", frame, "--update-flags", "--save-probability", "--model", "tiny"
    )
    assert done.code == 3
    assert "one code per pixel" in done.err
    assert sorted(tmp_path.iterdir()) == files


@untrained
@pytest.mark.parametrize("strange", [16, 9, 1024])
def test_decam_bits_of_old_versions_are_refused(tmp_path, strange):
    with pytest.raises(FileFormatError, match=rf"holds {strange}, expected one of the codes"):
        read_exposure(decam(tmp_path, codes=(0, 0, strange, 1)), extver=1)


# --- what the caller knows better ------------------------------------------------------


@untrained
def test_planes_named_by_the_caller(tmp_path):
    weight, mask = np.full(SHAPE, 0.25, np.float32), np.ones(SHAPE, np.uint8)
    path = write(
        tmp_path / "x.fits", [hdu(IMAGE, "SCI"), hdu(IMAGE * 2, "B"), hdu(mask, "Z"),
        hdu(weight, "INV"), hdu(IMAGE, "ERR")],
    )  # fmt: skip
    planes = {"image": "b", "flag": "3", "weight": "INV"}
    exposure = read_exposure(path, instrument="generic", planes=planes)
    np.testing.assert_array_equal(exposure.image, IMAGE * 2)
    np.testing.assert_array_equal(exposure.flag, mask)
    np.testing.assert_array_equal(exposure.error, np.full(SHAPE, 2.0))
    assert count_extvers(path, instrument="generic", planes=planes) == 1
    with pytest.raises(FileFormatError, match=r"no flag plane 'BPM' .*HDU 2 \(B\), 3"):
        read_exposure(path, instrument="generic", planes={"flag": "bpm"})
    with pytest.raises(FileFormatError, match="expected an extension named X"):
        read_exposure(path, instrument="generic", planes={"image": "x"})
    with pytest.raises(InvalidInputError, match="no kind of plane 'mask'; expected image"):
        read_exposure(path, instrument="generic", planes={"mask": "Z"})


@untrained
def test_figures_given_go_before_the_header(tmp_path):
    path = write(
        tmp_path / "x.fits", [hdu(IMAGE, "SCI", BUNIT="ADU/s")],
        EXPTIME=0.0, GAIN=3.0, RDNOISE=9.0,
    )  # fmt: skip
    known = {"gain": 2.0, "read_noise": 4.0, "exposure_time": 50.0}
    exposure = read_exposure(path, instrument="generic", **known)
    assert (exposure.read_noise, exposure.exposure_time) == (4.0, 50.0)
    assert exposure.electrons_per_unit == 100.0
    for name in known:
        with pytest.raises(InvalidInputError, match=rf"{name} is -1.0, expected a positive"):
            read_exposure(path, instrument="generic", **{name: -1.0})


# --- real files ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "profile", "figures"),
    [
        ("hst/wfpc2_u40x010hm_c0f.fits.fz", "hst_wfpc2", (7.0, 100.0, "F555W", 4)),
        ("decam_cutouts/c4d_170316_062107_ooi_z_ls9.N2.fits.fz", "decam",
         (3.87047534931607, 107.0, "z", 1)),
    ],
)  # fmt: skip
def test_real_files(shared_data, name, profile, figures):
    path = shared_data / name
    with pytest.warns(UntrainedWarning):
        exposure = read_exposure(path, extver=1)
    assert exposure.instrument.name == profile
    found = (exposure.electrons_per_unit, exposure.exposure_time, exposure.band)
    assert (*found, count_extvers(path)) == figures
    assert exposure.flag.any()
    assert exposure.invalid.mean() < 0.2
    if profile == "decam":
        # The mask of this cut-out holds code 5 alone, the pipeline's cosmic ray.
        np.testing.assert_array_equal(exposure.flag == 32, fits.getdata(path, "CRTRUTH") > 0)
