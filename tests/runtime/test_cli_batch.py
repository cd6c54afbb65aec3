"""Several frames on one command line."""

import json
import shutil

import numpy as np
import pytest
from astropy.io import fits

from crmend import _cli_clean

TINY = ("--model", "tiny", "--threshold", "0.99")


@pytest.fixture
def night(noisy, tmp_path):
    """Return two frames and, between them, a file that is none."""
    first, second, broken = (tmp_path / f"{name}.fits" for name in ("a", "b", "broken"))
    shutil.move(noisy(), first)
    shutil.copy(first, second)
    broken.write_text("no frame")
    return first, broken, second


def written(folder):
    return sorted(path.name for path in folder.iterdir())


def test_each_frame_gets_its_result_beside_it(crmend_cli, night, tmp_path):
    first, broken, second = night
    broken.unlink()
    done = crmend_cli("clean", first, second, *TINY)
    assert (done.code, done.err) == (0, "")
    assert written(tmp_path) == ["a.fits", "a_crmend.fits", "b.fits", "b_crmend.fits"]
    lines = done.out.splitlines()
    figures = crmend_cli("clean", first, "--overwrite", "--json", *TINY).json["total"]
    assert len(lines) == 2
    for line, frame in zip(lines, (first, second), strict=True):
        assert line.startswith(f"{frame}: {figures['cr_pixels']} CR pixels (")
        assert line.endswith(f"s: {frame.with_suffix('')}_crmend.fits")


def test_results_of_an_earlier_run_are_left_out(crmend_cli, night, tmp_path):
    first, broken, second = night
    broken.unlink()
    crmend_cli("clean", first, second, *TINY)
    crmend_cli("detect", first, second, *TINY)
    before = written(tmp_path)
    frames = [tmp_path / name for name in before]
    for command in ("clean", "detect"):
        done = crmend_cli(command, *frames, "--overwrite", *TINY)
        assert (done.code, len(done.out.splitlines())) == (0, 2)
        assert done.err.count("left out") == 4
        assert (
            f"{tmp_path}/a_flag.fits: left out, since it is named like the result of"
            in done.err
        )
    assert written(tmp_path) == before


def test_a_frame_that_is_the_result_of_another_one_is_not_replaced_unread(
    crmend_cli, night, tmp_path
):
    raw, _, other = night
    out = tmp_path / "out"
    out.mkdir()
    inside, link = out / "a_crmend.fits", tmp_path / "c.fits"
    shutil.copy(other, inside)
    link.symlink_to(inside)
    for frame in (inside, link):
        done = crmend_cli("clean", raw, frame, "-o", out, "--overwrite", *TINY)
        assert (done.code, len(done.out.splitlines())) == (0, 1)
        assert f"{frame}: left out, since it is named like the result of {raw}" in done.err
    assert written(out) == ["a_crmend.fits"]


def test_a_folder_for_one_frame(crmend_cli, night, tmp_path):
    """A pattern of the shell may match one file only."""
    out = tmp_path / "out"
    out.mkdir()
    done = crmend_cli("clean", night[0], "-o", out, "--json", *TINY)
    assert (done.code, done.json["outputs"]["corrected"]) == (0, str(out / "a_crmend.fits"))
    assert written(out) == ["a_crmend.fits"]


def test_what_fails_keeps_the_others_from_nothing(crmend_cli, night, tmp_path):
    first, broken, second = night
    out = tmp_path / "out"
    out.mkdir()
    done = crmend_cli("clean", first, broken, second, "--json", "-o", out, *TINY)
    assert done.code == 3
    assert written(out) == ["a_crmend.fits", "b_crmend.fits"]
    reports = [json.loads(line) for line in done.out.splitlines()]
    assert [report["input"] for report in reports] == [str(path) for path in night]
    assert reports[1]["error"]["exit_code"] == 3
    assert reports[2]["outputs"]["corrected"] == str(out / "b_crmend.fits")
    assert done.err.startswith(f"crmend: {broken}: ")
    assert done.err.count("\n") == 1
    single = crmend_cli("clean", first, "--json", "-o", tmp_path / "x.fits", *TINY).json
    assert reports[0]["total"]["cr_pixels"] == single["total"]["cr_pixels"]
    for plane in ("SCI", "ERR", "FLAG"):
        one, other = (
            fits.getdata(path, plane) for path in (out / "a_crmend.fits", tmp_path / "x.fits")
        )
        np.testing.assert_array_equal(one, other)


def test_flags_of_several_frames(crmend_cli, night, tmp_path):
    first, _, second = night
    done = crmend_cli("detect", first, second, *TINY)
    assert done.code == 0
    assert {"a_flag.fits", "b_flag.fits"} < set(written(tmp_path))


@pytest.mark.parametrize("output", ["none", "b.fits"])
def test_the_folder_of_several_results_must_exist(crmend_cli, night, tmp_path, output):
    first, _, second = night
    before = written(tmp_path)
    content = second.read_bytes()
    done = crmend_cli("clean", first, second, "--overwrite", "-o", tmp_path / output, *TINY)
    assert done.code == 5
    assert "is no folder that exists" in done.err
    assert (written(tmp_path), second.read_bytes()) == (before, content)


def test_two_results_of_one_name_are_refused(crmend_cli, night, tmp_path):
    first, *_ = night
    out, other = tmp_path / "out", tmp_path / "other"
    out.mkdir()
    other.mkdir()
    shutil.copy(first, other / "a.fits")
    for words in ((first, first), (first, other / "a.fits", "-o", out)):
        done = crmend_cli("clean", *words, "--overwrite", *TINY)
        assert done.code == 5
        assert "would be the same file" in done.err
    assert written(out) == []


def test_ctrl_c_ends_all_of_them(crmend_cli, night, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(_cli_clean, "clean_in_place", interrupt)
    first, _, second = night
    done = crmend_cli("clean", first, second, *TINY)
    assert (done.code, done.out) == (130, "")
    assert done.err == f"crmend: {first}: interrupted\n"
    # Frames that were not done matter more than one that cannot be.
    done = crmend_cli("clean", tmp_path / "none.fits", first, second, *TINY)
    assert (done.code, done.err.count("\n")) == (130, 2)


def test_a_warning_is_printed_once_but_noted_for_each(crmend_cli, night, tmp_path):
    first, _, second = night
    for frame in (first, second):
        with fits.open(frame, mode="update") as hdus:
            hdus["SCI"].data[20:30, 20:50] = -1e5
    done = crmend_cli("clean", first, second, "--json", *TINY)
    reports = [json.loads(line) for line in done.out.splitlines()]
    warnings = [report["warnings"] for report in reports]
    assert warnings[0] == warnings[1] != []
    assert done.err.count("crmend: warning:") == len(warnings[0])


@pytest.mark.parametrize("several", [False, True])
def test_a_folder_is_no_less_asked_for_than_a_file(crmend_cli, night, tmp_path, several):
    """As with -o FILE, the result is written, and the input's flags change, too."""
    first, _, second = night
    frames, out = (first, second) if several else (first,), tmp_path / "out"
    out.mkdir()
    done = crmend_cli("detect", *frames, "--update-flags", "-o", out, *TINY)
    assert done.code == 0
    assert written(out) == ["a_flag.fits", "b_flag.fits"][: len(frames)]
    for frame in frames:
        flags = fits.getdata(frame, "FLAG")
        assert (flags & (1 << 20)).any()
        np.testing.assert_array_equal(fits.getdata(out / f"{frame.stem}_flag.fits"), flags)


def test_without_an_output_only_the_inputs_flags_change(crmend_cli, night, tmp_path):
    first, _, second = night
    before = written(tmp_path)
    assert crmend_cli("detect", first, second, "--update-flags", *TINY).code == 0
    assert written(tmp_path) == before
