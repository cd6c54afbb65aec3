"""The command line on small frames, with the tiny pack."""

import io

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from PIL import Image

from crmend import _cli_clean
from crmend._cli_bar import Bar
from crmend._cli_options import beside

CR_BIT = 1 << 20
TINY = ("--model", "tiny", "--threshold", "0.99")


def planes(path):
    with fits.open(path) as hdus:
        return {(h.name, h.ver): np.array(h.data) for h in hdus if h.data is not None}


# --- clean --------------------------------------------------------------------------


def test_clean_writes_beside_the_input_and_leaves_it_alone(crmend_cli, noisy, tmp_path):
    frame = noisy()
    content = frame.read_bytes()
    done = crmend_cli("clean", frame, *TINY)
    assert (done.code, done.err) == (0, "")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "frame_L1.fits",
        "frame_L1_crmend.fits",
    ]
    assert frame.read_bytes() == content


def test_only_flagged_pixels_differ_and_no_other_flag_is_lost(crmend_cli, noisy, tmp_path):
    frame = noisy()
    crmend_cli("clean", frame, *TINY)
    before, after = planes(frame), planes(tmp_path / "frame_L1_crmend.fits")
    flag = after["FLAG", 1]
    cr_mask = (flag & CR_BIT) != 0
    assert cr_mask[31, 42]
    assert cr_mask[60, 11]
    assert cr_mask.sum() < 20
    changed = before["SCI", 1] != after["SCI", 1]
    np.testing.assert_array_equal(changed & ~cr_mask, False)
    assert abs(after["SCI", 1][60, 11] - 10.0) < 4.0
    np.testing.assert_array_equal(flag & ~CR_BIT, before["FLAG", 1])
    assert flag[60, 11] == CR_BIT | 64
    assert np.all(after["ERR", 1][cr_mask] > 1.0)
    np.testing.assert_array_equal(after["ERR", 1][~cr_mask], 1.0)


@pytest.mark.parametrize(("words", "seconds"), [((), 150.0), (("--exposure-time", "75"), 75.0)])
def test_json_is_one_object_that_agrees_with_the_file(
    crmend_cli, noisy, tmp_path, words, seconds
):
    done = crmend_cli("clean", noisy(), "-o", tmp_path / "out.fits", "--json", *TINY, *words)
    (chip,) = done.json["chips"]
    cr_mask = (planes(tmp_path / "out.fits")["FLAG", 1] & CR_BIT) != 0
    assert chip["cr_pixels"] == cr_mask.sum()
    assert chip["pixels_network"] + chip["pixels_median"] == cr_mask.sum()
    assert chip["cr_fraction"] == pytest.approx(cr_mask.mean())
    assert chip["detect_model"] == "tiny/detect"
    assert (chip["detector"], chip["band"], chip["threshold"]) == ("8", "g", 0.99)
    area = 72 * 90 * 1e-6  # pixels of 10 µm
    assert chip["cr_rate"] == pytest.approx(chip["cr_events"] / area / seconds)
    assert set(chip["seconds_per_stage"]) >= {"read", "detect", "median", "sources", "network"}
    nothing = {"flag": None, "quicklook": None, "updated": None}
    assert done.json["outputs"] == {"corrected": str(tmp_path / "out.fits"), **nothing}
    assert done.json["warnings"] == []


def test_the_table_has_the_figures(crmend_cli, noisy, tmp_path):
    frame = noisy()
    figures = crmend_cli("clean", frame, "--json", *TINY).json["total"]
    text = crmend_cli("clean", frame, "--overwrite", *TINY).out
    rows = {line[:24].strip(): line[24:].strip() for line in text.splitlines()}
    assert text.startswith("frame_L1.fits: detector 8, g, 90 x 72 px\n")
    assert rows["CR pixels"] == str(figures["cr_pixels"])
    assert rows["CR events"] == str(figures["cr_events"])
    assert rows["sources touched"] == str(figures["sources_touched"])
    assert rows["pixels by the network"] == str(figures["pixels_network"])
    assert rows["pixels by the median"] == str(figures["pixels_median"])
    assert rows["provider"] == "CPUExecutionProvider"
    assert rows["corrected frame"].endswith("frame_L1_crmend.fits")


def test_threshold(crmend_cli, noisy, tmp_path):
    frame, counts = noisy(), []
    for threshold in ("0.2", "0.9", "0.9999999"):
        out = tmp_path / f"{threshold}.fits"
        done = crmend_cli("clean", frame, "-o", out, "--threshold", threshold,
                          "--model", "tiny", "--json")  # fmt: skip
        counts.append(done.json["total"]["cr_pixels"])
    assert counts[0] > counts[1] > counts[2]


def test_save_probability(crmend_cli, noisy, tmp_path):
    out = tmp_path / "out.fits"
    assert crmend_cli("clean", noisy(), "-o", out, "--save-probability", *TINY).code == 0
    found = planes(out)
    cr_mask = (found["FLAG", 1] & CR_BIT) != 0
    probability = found["CRPROB", 1]
    assert probability[cr_mask].min() >= 0.99 - 1e-4
    assert probability[~cr_mask].max() <= 0.99 + 1e-4
    assert probability[3, 4] == probability[50, 50] == 0.0


def test_update_flags_changes_the_flag_plane_only(crmend_cli, noisy, tmp_path):
    frame = noisy()
    before = planes(frame)
    done = crmend_cli("clean", frame, "--update-flags", "--json", *TINY)
    after, corrected = planes(frame), planes(tmp_path / "frame_L1_crmend.fits")
    np.testing.assert_array_equal(after["SCI", 1], before["SCI", 1])
    np.testing.assert_array_equal(after["ERR", 1], before["ERR", 1])
    np.testing.assert_array_equal(after["FLAG", 1], corrected["FLAG", 1])
    assert after["FLAG", 1].dtype.itemsize == 4
    assert done.json["outputs"]["updated"] == str(frame)
    done = crmend_cli("detect", frame, "--update-flags", "--json", *TINY)
    nothing = {"corrected": None, "flag": None, "quicklook": None}
    assert done.json["outputs"] == {"updated": str(frame), **nothing}


def test_update_flags_needs_a_flag_plane(crmend_cli, level1, noisy, tmp_path):
    image = planes(noisy())["SCI", 1]
    frame = level1([("SCI", image)], name="no_flag.fits")
    done = crmend_cli("clean", frame, "--update-flags", *TINY)
    assert done.code == 3
    assert "no flag plane" in done.err
    assert not (tmp_path / "no_flag_crmend.fits").exists()


def test_quicklook(crmend_cli, noisy, tmp_path):
    done = crmend_cli("clean", noisy(), "-o", tmp_path / "out.fits", "--quicklook", *TINY)
    assert done.code == 0
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.format == "PNG"
        assert picture.width == 1512


def test_catalog_says_where_sources_are(crmend_cli, noisy, tmp_path):
    frame, table = noisy(), tmp_path / "cat.fits"
    Table({"x": [40.0], "y": [30.0]}).write(table)
    some = crmend_cli("clean", frame, "-o", tmp_path / "a.fits", "--catalog", table, "--json",
                      "--threshold", "0.999", "--model", "tiny")  # fmt: skip
    assert some.json["total"]["sources_touched"] == 1
    Table({"x": [5.0], "y": [5.0]}).write(table, overwrite=True)
    none = crmend_cli("clean", frame, "-o", tmp_path / "b.fits", "--catalog", table, "--json",
                      "--threshold", "0.999", "--model", "tiny")  # fmt: skip
    assert none.json["total"]["pixels_network"] < some.json["total"]["pixels_network"]


def test_results_are_replaced_only_with_overwrite(crmend_cli, noisy, tmp_path):
    frame, out = noisy(), tmp_path / "out.fits"
    out.write_bytes(b"precious")
    done = crmend_cli("clean", frame, "-o", out, *TINY)
    assert done.code == 5
    assert "--overwrite" in done.err
    assert out.read_bytes() == b"precious"
    assert crmend_cli("clean", frame, "-o", out, "--overwrite", *TINY).code == 0
    assert ("SCI", 1) in planes(out)


def test_several_chips_end_in_one_file(crmend_cli, noisy, tmp_path):
    image = planes(noisy())["SCI", 1]
    primary = fits.PrimaryHDU()
    primary.header.update(
        TELESCOP="HST", INSTRUME="WFC3", DETECTOR="UVIS", EXPTIME=100.0, FILTER="F606W"
    )
    hdus = [primary]
    for version in (1, 2):
        for name, data in (("SCI", image * version), ("DQ", np.zeros(image.shape, np.int16))):
            hdus.append(fits.ImageHDU(data, name=name, ver=version))
            hdus[-1].header["BUNIT"] = "ELECTRONS"
    frame = tmp_path / "two_flt.fits"
    fits.HDUList(hdus).writeto(frame)
    done = crmend_cli("clean", frame, "--quicklook", "--update-flags", "--json", *TINY)
    assert done.code == 0
    assert done.json["warnings"] == []
    built_in = crmend_cli("detect", frame, "--device", "cpu")
    assert built_in.err.count("crmend: warning:") == 1
    assert "no network was trained" in built_in.err
    assert [chip["extver"] for chip in done.json["chips"]] == [1, 2]
    found, updated = planes(tmp_path / "two_flt_crmend.fits"), planes(frame)
    for version, chip in enumerate(done.json["chips"], start=1):
        cr_mask = (found["FLAG", version] & 4096) != 0
        assert cr_mask[60, 11]
        assert chip["cr_pixels"] == cr_mask.sum()
        changed = found["SCI", version] != image * version
        np.testing.assert_array_equal(changed & ~cr_mask, False)
        np.testing.assert_array_equal(updated["DQ", version], found["FLAG", version])
    with Image.open(tmp_path / "two_flt_crmend.png") as picture:
        one, _ = divmod(picture.height, 2)
        assert one > 400
    table = crmend_cli("clean", frame, "--overwrite", *TINY).out.splitlines()
    assert table[0] == "two_flt.fits: 2 chips of 90 x 72 px"
    assert table[2].split() == ["chip", "1", "chip", "2", "all"]


def test_generic_reads_a_plain_image(crmend_cli, noisy, tmp_path):
    frame = tmp_path / "plain.fits"
    fits.PrimaryHDU(planes(noisy())["SCI", 1].astype(">f8")).writeto(frame)
    assert crmend_cli("clean", frame, *TINY).code == 4
    done = crmend_cli("clean", frame, "--instrument", "generic", *TINY)
    assert done.code == 0
    assert planes(tmp_path / "plain_crmend.fits")["FLAG", 1][60, 11] == CR_BIT
    # A pack from elsewhere is the user's choice; the built-in one was not trained for this.
    assert done.err == ""
    built_in = crmend_cli("detect", frame, "--instrument", "generic", "--device", "cpu")
    assert "no network was trained for an instrument without a profile" in built_in.err


# --- detect -------------------------------------------------------------------------


def test_detect_writes_the_flag_plane_alone(crmend_cli, noisy, tmp_path):
    frame = noisy()
    crmend_cli("clean", frame, *TINY)
    done = crmend_cli("detect", frame, *TINY)
    assert (done.code, done.err) == (0, "")
    found = planes(tmp_path / "frame_L1_flag.fits")
    assert list(found) == [("FLAG", 1)]
    expected = planes(tmp_path / "frame_L1_crmend.fits")["FLAG", 1]
    np.testing.assert_array_equal(found["FLAG", 1], expected)
    assert "by the network" not in done.out


def test_detect_may_change_the_input_only(crmend_cli, noisy, tmp_path):
    frame = noisy()
    done = crmend_cli("detect", frame, "--update-flags", "--json", *TINY)
    assert [p.name for p in tmp_path.iterdir()] == ["frame_L1.fits"]
    cr_mask = (planes(frame)["FLAG", 1] & CR_BIT) != 0
    assert done.json["total"]["cr_pixels"] == cr_mask.sum() > 0
    assert done.json["total"]["inpaint_model"] is None


def test_detect_counts_nothing_as_mended(crmend_cli, noisy, tmp_path):
    frame = noisy()
    done = crmend_cli("detect", frame, "--json", *TINY)
    for figures in (done.json["total"], *done.json["chips"]):
        names = ("sources_touched", "pixels_network", "pixels_median")
        assert [figures[name] for name in names] == [None] * 3
    header = fits.getheader(tmp_path / "frame_L1_flag.fits", "FLAG")
    for keyword in ("CRMNSRC", "CRMNNET", "CRMNMED"):
        assert header[keyword] is None


def test_detect_several_chips(crmend_cli, noisy, tmp_path):
    image = planes(noisy())["SCI", 1]
    frame = tmp_path / "two.fits"
    hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(image, name="SCI", ver=v) for v in (1, 2))]
    fits.HDUList(hdus).writeto(frame)
    words = ("detect", frame, "--instrument", "generic", "--save-probability", *TINY)
    assert crmend_cli(*words).code == 0
    found = planes(tmp_path / "two_flag.fits")
    assert list(found) == [("FLAG", 1), ("CRPROB", 1), ("FLAG", 2), ("CRPROB", 2)]
    np.testing.assert_array_equal(found["FLAG", 1], found["FLAG", 2])


# --- the command line itself --------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("clean",),
        ("polish", "a.fits"),
        ("clean", "a.fits", "--threshold", "1.5"),
        ("clean", "a.fits", "--threshold", "0.5", "--target-precision", "0.9"),
        ("clean", "a.fits", "--threshold", "0.8", "--seed-threshold", "0.5"),
        ("clean", "a.fits", "--quality", "best"),
        ("clean", "a.fits", "--threads", "0"),
        ("clean", "a.fits", "--threads", "99999"),
        ("clean", "a.fits", "--memory", "lots"),
        ("clean", "a.fits", "--memory", "0"),
        ("clean", "a.fits", "--memory", "9" * 400),
        ("clean", "a.fits", "--device", "tpu"),
        ("clean", "a.fits", "--plane", "image=SCI", "--plane", "image=ERR"),
        ("detect", "a.fits", "--model", "csst_msc/08", "--detector", "9"),
        ("models",),
    ],
)
def test_wrong_command_lines(crmend_cli, words):
    done = crmend_cli(*words)
    assert done.code == 2
    assert "usage: crmend" in done.err


@pytest.mark.parametrize(
    "words", [(), ("clean",), ("detect",), ("models", "verify"), ("demo",)]
)
def test_help_has_exit_codes_and_polarity(crmend_cli, words):
    done = crmend_cli(*words, "--help")
    assert done.code == 0
    assert "exit codes:" in done.out
    assert "129, 130, 143  stopped by SIGHUP (closed terminal), Ctrl-C (SIGINT)" in done.out
    assert "set = cosmic ray" in done.out


def test_a_detector_may_be_said_twice(crmend_cli, noisy):
    words = ("--model", "tiny_chips/02", "--plane", "error=ERR", "--plane", "flag=FLAG")
    words += ("--instrument", "generic", "--detector", "2")
    assert crmend_cli("detect", noisy(), *words).code == 0


def test_version(crmend_cli):
    import crmend

    assert crmend_cli("--version").out == f"crmend {crmend.__version__}\n"


def test_errors_in_json(crmend_cli, tmp_path):
    done = crmend_cli("clean", tmp_path / "none.fits", "--json")
    assert done.json["error"]["type"] == "MissingFileError"
    assert done.json["error"]["exit_code"] == done.code == 3
    assert done.err == f"crmend: {done.json['error']['message']}\n"


def test_unexpected_errors_take_one_line(crmend_cli, noisy, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(_cli_clean, "clean_in_place", fail)
    done = crmend_cli("clean", noisy(), *TINY)
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert done.err.startswith("crmend: unexpected RuntimeError: two lines;")
    assert "Traceback" in crmend_cli("clean", noisy(), "--debug", *TINY).err


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_progress_bar_on_a_terminal(monkeypatch):
    terminal = _Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Bar("chip 2 ") as bar:
        bar("detect", 1, 4)
        bar("detect", 4, 4)
        bar("network", 2, 2)
    assert "chip 2 finding cosmic rays:" in terminal.getvalue()
    assert "0/4 [" in terminal.getvalue()
    assert "chip 2 mending sources:" in terminal.getvalue()
    assert terminal.getvalue().endswith(" \r")  # nothing stays on the screen


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ("a.fits", "a_crmend.fits"),
        ("a.FITS", "a_crmend.fits"),
        ("b/a.fits.fz", "b/a_crmend.fits"),
        ("a.v1.fits.gz", "a.v1_crmend.fits"),
        ("a.fit", "a_crmend.fits"),
        ("a.dat", "a.dat_crmend.fits"),
    ],
)
def test_names_of_results(tmp_path, frame, expected):
    assert beside(tmp_path / frame, "_crmend.fits") == tmp_path / expected
