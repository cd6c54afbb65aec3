"""Signals and the word of the exit codes: no result after any but 0, none lost."""

import ctypes
import json
import os
import signal
import subprocess
import sys

import pytest

from crmend import _cli_clean, _fits_write
from crmend.errors import MissingRuntimeError

TINY = ("--model", "tiny", "--threshold", "0.99")
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]

pytestmark = pytest.mark.usefixtures("interruptible")


def kill(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


def kill_at_sync(monkeypatch, number):
    """Let a signal come when a file or folder is flushed for the n-th time."""
    calls, sync = [], _fits_write._sync

    def killing(path):
        calls.append(path)
        if len(calls) == number:
            kill()
        sync(path)

    monkeypatch.setattr(_fits_write, "_sync", killing)


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_that_breaks_an_import(crmend_cli, noisy, tmp_path, monkeypatch, number, code):
    def broken(*args):
        try:
            kill(number)
        except KeyboardInterrupt as error:
            raise MissingRuntimeError("install one of the two") from error

    monkeypatch.setattr(_cli_clean, "clean_in_place", broken)
    frames = noisy(name="a.fits"), noisy(name="b.fits")
    done = crmend_cli("clean", *frames, "--json", *TINY)
    assert done.code == code
    assert done.err.count("\n") == 1
    assert json.loads(done.out)["error"]["exit_code"] == code
    assert sorted(tmp_path.iterdir()) == sorted(frames)


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_whose_error_is_dropped(
    crmend_cli, noisy, tmp_path, monkeypatch, number, code
):
    clean = _cli_clean.clean_in_place

    def deaf(*args):
        ctypes.CFUNCTYPE(None)(lambda: kill(number))()
        return clean(*args)

    monkeypatch.setattr(_cli_clean, "clean_in_place", deaf)
    frame = noisy()
    done = crmend_cli("clean", frame, *TINY)
    assert done.code == code
    assert done.err in {"crmend: interrupted\n", "crmend: terminated\n"}
    assert list(tmp_path.iterdir()) == [frame]


@pytest.mark.parametrize("sync", range(1, 8))
def test_a_result_and_its_code_agree(crmend_cli, noisy, tmp_path, monkeypatch, sync):
    frame, out = noisy(), tmp_path / "out.fits"
    before = frame.read_bytes()
    kill_at_sync(monkeypatch, sync)
    done = crmend_cli(
        "clean", frame, "-o", out, "--update-flags", "--quicklook", "--json", *TINY
    )
    written = sorted(path.name for path in tmp_path.iterdir())
    if done.code == 0:
        assert done.json["outputs"]["corrected"] == str(out)
        assert written == ["frame_L1.fits", "out.fits", "out.png"]
        assert frame.read_bytes() != before
    else:
        assert done.code == 143
        assert written == ["frame_L1.fits"]
        assert frame.read_bytes() == before
    assert (done.code == 0) == (sync > 3)


def test_a_batch_ends_after_the_frame_that_is_done(crmend_cli, noisy, tmp_path, monkeypatch):
    frames = noisy(name="a.fits"), noisy(name="b.fits")
    kill_at_sync(monkeypatch, 2)
    done = crmend_cli("clean", *frames, "--json", *TINY)
    first, second = map(json.loads, done.out.splitlines())
    assert done.code == 143
    assert first["outputs"]["corrected"] == str(tmp_path / "a_crmend.fits")
    assert second["error"]["exit_code"] == 143
    assert second["input"] == str(frames[1])
    assert len(list(tmp_path.iterdir())) == 3


def test_the_last_frame_of_a_batch_is_done(crmend_cli, noisy, monkeypatch):
    kill_at_sync(monkeypatch, 4)
    done = crmend_cli("clean", noisy(name="a.fits"), noisy(name="b.fits"), *TINY)
    assert done.code == 0


@pytest.mark.parametrize(("number", "_code"), SIGNALS)
def test_after_the_answer_signals_are_ignored(number, _code):
    code = (
        "import atexit, os, sys\n"
        "from crmend.cli import main\n"
        f"atexit.register(os.kill, os.getpid(), {int(number)})\n"
        "sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "models", "list"], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
