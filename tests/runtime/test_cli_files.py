"""Files that commands leave as they were: on full disks, in read-only folders, of the user."""

import resource
from importlib import resources

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from crmend import _cli_clean
from crmend.errors import OutputError

TINY = ("--model", "tiny", "--threshold", "0.99")


def test_a_full_disk_leaves_the_input_as_it_was(crmend_cli, noisy, tmp_path):
    frame, trial = noisy(), tmp_path / "trial.fits"
    fits.append(frame, np.zeros((30, 40)), fits.Header({"EXTNAME": "CARRIED"}))
    words = ("clean", frame, "--save-probability", *TINY, "-o")
    assert crmend_cli(*words, trial).code == 0
    content = frame.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The input fits with its new flags, the output does not.
    resource.setrlimit(resource.RLIMIT_FSIZE, (trial.stat().st_size - 1, before[1]))
    try:
        done = crmend_cli(*words, tmp_path / "out.fits", "--update-flags")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert done.code == 5
    assert frame.read_bytes() == content
    assert sorted(tmp_path.iterdir()) == [frame, trial]


@pytest.mark.parametrize("where", ["output", "input"])
def test_a_read_only_folder_is_noticed_before_the_work(
    crmend_cli, noisy, tmp_path, monkeypatch, read_only_folder, where
):
    frame = noisy()
    if where == "input":
        monkeypatch.setattr(_cli_clean, "check_folder", _refuse)
    output = (read_only_folder if where == "output" else tmp_path) / "out.fits"
    monkeypatch.setattr(_cli_clean, "clean_in_place", lambda *args: pytest.fail("too late"))
    done = crmend_cli("clean", frame, "--update-flags", "-o", output, *TINY)
    assert (done.code, "read-only" in done.err) == (5, True)


def _refuse(path):
    raise OutputError(f"{path} cannot be written: its folder is read-only")


def test_flags_that_cannot_be_updated_leave_no_results(
    crmend_cli, noisy, tmp_path, monkeypatch
):
    def fail(*args):
        raise OutputError("the disk is full")

    monkeypatch.setattr(_cli_clean, "update_all_flags", fail)
    frame = noisy()
    assert crmend_cli("clean", frame, "--update-flags", "--quicklook", *TINY).code == 5
    assert list(tmp_path.iterdir()) == [frame]


@pytest.mark.parametrize(
    ("command", "option"),
    [("clean", "--catalog"), ("clean", "--instrument"), ("detect", "--instrument")],
)
def test_no_input_is_replaced(crmend_cli, noisy, tmp_path, command, option):
    if option == "--catalog":
        given = tmp_path / "cat.fits"
        Table({"x": [40.0], "y": [30.0]}).write(given)
    else:
        given = tmp_path / "my.toml"
        profile = resources.files("crmend.instruments") / "csst_msc.toml"
        given.write_bytes(profile.read_bytes())
    content = given.read_bytes()
    words = (command, noisy(), option, given, "--overwrite", *TINY, "-o")
    done = crmend_cli(*words, given)
    assert done.code == 5
    assert f"is the input {given}" in done.err
    assert given.read_bytes() == content
    assert crmend_cli(*words, tmp_path / "out.fits").code == 0
