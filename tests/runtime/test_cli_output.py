"""What the command line prints, and its exit code where that cannot be read."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from crmend import _cli_clean, cli
from crmend._cli_output import say
from crmend._signals import Terminated, ending_signals

TINY = ("--model", "tiny", "--threshold", "0.99")


@pytest.fixture
def full_device():
    """Return a stream to a device that is always full, or skip."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as stream:
        yield stream


@pytest.fixture
def closed_pipe():
    """Return a stream to a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:
        yield stream


# --- stdout -------------------------------------------------------------------------


def test_full_stdout(crmend_cli, noisy, tmp_path, monkeypatch, full_device):
    frame, out = noisy(), tmp_path / "out.fits"
    monkeypatch.setattr(sys, "stdout", full_device)
    done = crmend_cli("clean", frame, "-o", out, "--json", *TINY)
    assert done.code == 5
    assert done.err.startswith("crmend: the answer cannot be written to stdout (No space left")
    assert done.err.count("\n") == 1
    with fits.open(out) as hdus:
        assert "SCI" in hdus


def test_full_stdout_does_not_hide_an_error(crmend_cli, tmp_path, monkeypatch, full_device):
    monkeypatch.setattr(sys, "stdout", full_device)
    assert crmend_cli("clean", tmp_path / "none.fits", "--json").code == 3


@pytest.mark.parametrize(
    "words", [("models", "list"), ("models", "info", "tiny", "--json"), ("--help",)]
)
def test_closed_pipe(crmend_cli, monkeypatch, closed_pipe, words):
    monkeypatch.setattr(sys, "stdout", closed_pipe)
    done = crmend_cli(*words)
    assert (done.code, done.err) == (141, "")


def test_closed_pipe_ends_several_frames_at_one_that_fails(
    crmend_cli, tmp_path, monkeypatch, closed_pipe
):
    monkeypatch.setattr(sys, "stdout", closed_pipe)
    done = crmend_cli("clean", tmp_path / "a.fits", tmp_path / "b.fits", "--json")
    assert done.code == 141
    assert "a.fits does not exist" in done.err
    assert "b.fits" not in done.err


def test_closed_pipe_in_a_process_of_its_own():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "crmend.cli", "--version"],
        env={key: os.environ[key] for key in os.environ.keys() - {"PYTHONUNBUFFERED"}},
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_names_that_stdout_cannot_encode(crmend_cli, noisy, monkeypatch):
    frame = noisy(name="\xe9_L1.fits")
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="ascii"))
    assert crmend_cli("detect", frame, *TINY).code == 0
    assert content.getvalue().startswith(b"\\xe9_L1.fits: detector 8")


def test_full_stderr(crmend_cli, tmp_path, monkeypatch, full_device):
    full_device.reconfigure(line_buffering=True)
    monkeypatch.setattr(sys, "stderr", full_device)
    assert crmend_cli("clean", tmp_path / "none.fits").code == 3
    # What is left in the buffer must go somewhere when the stream is closed.
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), full_device.fileno())


def test_closed_stderr(crmend_cli, noisy, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    done = crmend_cli("clean", noisy(), *TINY, "--json")
    assert done.code == 0
    assert done.json["outputs"]["corrected"] == str(tmp_path / "frame_L1_crmend.fits")
    wrong = crmend_cli("clean", "--nonsense", "--json")
    assert (wrong.code, wrong.json["error"]["exit_code"]) == (2, 2)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system has no /proc")
def test_closed_streams_in_a_process_of_its_own():
    program = (
        "import os, sys; os.close(0); os.close(2); sys.stderr = None; from crmend import cli\n"
        "ends = '/proc/self/fd/0', '/proc/self/fd/2'\n"
        "cli._run = lambda words: print(*map(os.readlink, ends))\n"
        "cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.stdout.decode().split() == [os.devnull] * 2


# --- JSON ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("clean", "--json"), "FRAME.fits"),
        (("clean", "a.fits", "--json", "--threshold", "2"), "no probability"),
        (("models", "--json"), "list|info|verify"),
        (("polish", "--json"), "invalid choice"),
    ],
)
def test_wrong_command_lines_in_json(crmend_cli, words, message):
    done = crmend_cli(*words)
    assert done.code == done.json["error"]["exit_code"] == 2
    assert done.json["error"]["type"] == "CommandLineError"
    assert message in done.json["error"]["message"]
    assert done.err.startswith("usage: crmend")
    assert crmend_cli(*(word for word in words if word != "--json")).out == ""


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (("clean", "a.fits", "--satlevel", "4"), "clean"),
        (("models", "verify", "--satlevel"), "models verify"),
        (("detect", "a.fits", "--plane", "flag=1", "--plane", "flag=2"), "detect"),
        (("clean",), "clean"),
    ],
)
def test_a_wrong_option_shows_the_usage_of_its_command(crmend_cli, words, command):
    done = crmend_cli(*words)
    assert done.code == 2
    assert done.err.startswith(f"usage: crmend {command} [-h]")
    assert done.err.endswith(f"; see crmend {command} --help\n")


def test_astropy_logs_nothing_to_stdout(crmend_cli, noisy, level1, tmp_path):
    from astropy import log

    header = fits.Header()
    # SIP coefficients without -SIP in CTYPE: astropy says so in its log.
    header.update(CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=150.0, CRVAL2=2.0)
    header.update(CRPIX1=41.0, CRPIX2=31.0, CD1_1=-2e-5, CD1_2=0.0, CD2_1=0.0, CD2_2=2e-5)
    header.update(A_ORDER=2, A_0_2=0.0, B_ORDER=2, B_0_2=0.0)
    with fits.open(noisy()) as hdus:
        image = fits.ImageHDU(np.array(hdus["SCI"].data), header)
    frame = level1([("SCI", image)], name="a.fits")
    Table({"RA": [150.0], "DEC": [2.0]}).write(tmp_path / "cat.fits")
    level = log.level
    for more in ((), ("--debug",)):
        done = crmend_cli("clean", frame, "--catalog", tmp_path / "cat.fits", "--overwrite",
                          "--json", *more, *TINY)  # fmt: skip
        assert done.json["total"]["sources_touched"] == 1
    assert log.level == level


# --- signals ------------------------------------------------------------------------


def test_interrupted_while_it_starts():
    code = (
        "import sys, crmend.cli\n"
        "class Finder:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'astropy':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Finder())\n"
        "sys.exit(crmend.cli.main(['models', 'list', '--json']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (130, b"crmend: interrupted\n")
    assert json.loads(done.stdout)["error"]["exit_code"] == 130


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "terminated"),
    ],
)
def test_interrupted_work_leaves_nothing(
    crmend_cli, noisy, tmp_path, monkeypatch, number, code, word
):
    frame = noisy()
    monkeypatch.setattr(
        _cli_clean, "clean_in_place", lambda *args: os.kill(os.getpid(), number)
    )
    done = crmend_cli("clean", frame, *TINY)
    assert (done.code, done.err) == (code, f"crmend: {word}\n")
    assert list(tmp_path.iterdir()) == [frame]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.usefixtures("interruptible")
def test_more_signals_do_not_disturb_the_answer(crmend_cli, noisy, monkeypatch):
    def kill(*args):
        os.kill(os.getpid(), signal.SIGTERM)

    def kill_and_say(line):
        kill()
        os.kill(os.getpid(), signal.SIGHUP)
        say(line)

    monkeypatch.setattr(_cli_clean, "clean_in_place", kill)
    monkeypatch.setattr(cli, "say", kill_and_say)
    done = crmend_cli("clean", noisy(), *TINY)
    assert (done.code, done.err) == (143, "crmend: terminated\n")


@pytest.mark.usefixtures("interruptible")
def test_a_later_signal_ends_what_has_missed_the_first(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with ending_signals():
        with pytest.raises(Terminated):
            os.kill(os.getpid(), signal.SIGTERM)
        now += 9.0
        os.kill(os.getpid(), signal.SIGTERM)
        now += 9.0
        with pytest.raises(Terminated):
            os.kill(os.getpid(), signal.SIGHUP)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_ignored_signals_stay_ignored(crmend_cli, noisy, monkeypatch, number):
    clean = _cli_clean.clean_in_place

    def hung_up(*args):
        os.kill(os.getpid(), number)
        return clean(*args)

    monkeypatch.setattr(_cli_clean, "clean_in_place", hung_up)
    before = signal.signal(number, signal.SIG_IGN)  # as by nohup
    try:
        assert crmend_cli("clean", noisy(), *TINY).code == 0
    finally:
        signal.signal(number, before)


# --- files that were cleaned before -------------------------------------------------


@pytest.mark.parametrize("command", ["clean", "detect"])
def test_a_cleaned_file_again(crmend_cli, noisy, tmp_path, command):
    import crmend

    first = crmend_cli("clean", noisy(), "-o", tmp_path / "out.fits", "--json", *TINY)
    assert first.json["warnings"] == []
    again = crmend_cli(command, tmp_path / "out.fits", "--json", *TINY)
    assert again.code == 0
    (warning,) = again.json["warnings"]
    assert f"out.fits was cleaned before, by crmend {crmend.__version__}" in warning
    assert again.err == f"crmend: warning: {warning}\n"


def test_a_cleaned_file_whose_version_cannot_be_parsed(crmend_cli, noisy, tmp_path):
    path = noisy(keywords={"CRMVERS": 12345678})
    content = path.read_bytes()
    path.write_bytes(content.replace(b"            12345678", b"a version           "))
    done = crmend_cli("clean", path, "-o", tmp_path / "out.fits", "--json", *TINY)
    assert done.code == 0
    assert "was cleaned before, by crmend of unknown version" in done.err
    assert fits.getheader(tmp_path / "out.fits")["CRMVERS"] == done.json["chips"][0]["version"]


@pytest.mark.parametrize("command", ["clean", "detect"])
def test_an_output_folder_that_is_missing_is_no_file_name(crmend_cli, noisy, tmp_path, command):
    # With --overwrite the results of a whole night would end in one file.
    done = crmend_cli(command, noisy(), "-o", f"{tmp_path}/out/", "--overwrite", *TINY)
    assert done.code == 5
    assert "out/ ends like a folder, and there is none of that name" in done.err
    assert "make the folder first" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["frame_L1.fits"]


@pytest.mark.parametrize("command", ["clean", "detect"])
def test_results_do_not_go_to_stdout(crmend_cli, noisy, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    done = crmend_cli(command, noisy(), "-o", "-", *TINY)
    assert done.code == 5
    assert "the output is -, which stands for standard output, expected a file" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["frame_L1.fits"]


def test_an_empty_output_name_is_no_default(crmend_cli, noisy, tmp_path):
    done = crmend_cli("clean", noisy(), "-o", "", *TINY)
    assert done.code == 5
    assert [path.name for path in tmp_path.iterdir()] == ["frame_L1.fits"]


@pytest.mark.parametrize(
    ("columns", "chips", "said"),
    [
        (("x", "y"), 2, True),
        (("X_IMAGE", "Y_IMAGE"), 2, True),
        (("x", "y", "RA", "DEC"), 2, True),
        (("RA", "DEC"), 2, False),
        (("x", "y"), 1, False),
    ],
)
def test_pixels_of_one_catalogue_for_several_chips_are_said(
    crmend_cli, level1, tmp_path, columns, chips, said
):
    image = np.random.default_rng(5).normal(10.0, 1.0, (72, 90)).astype(np.float32)
    hdus = [fits.ImageHDU(image) for _ in range(chips)]
    for number, hdu in enumerate(hdus, 1):
        hdu.header["EXTVER"] = number
        hdu.header.update(CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CDELT1=1e-5, CDELT2=1e-5)
    frame = level1([("SCI", hdu) for hdu in hdus])
    Table({name: [0.0002] for name in columns}).write(tmp_path / "cat.fits")
    done = crmend_cli(
        "clean", frame, "-o", tmp_path / "out.fits", "--model", "tiny", "--threshold", "0.99",
        "--catalog", tmp_path / "cat.fits", "--instrument", "generic", "--json",
    )  # fmt: skip
    assert done.code == 0
    match = (
        "frame_L1.fits holds 2 chips, and the positions in cat.fits are pixels, which are "
        "taken for those of every chip; expected RA and DEC"
    )
    found = [text for text in done.json["warnings"] if match in text]
    assert len(found) == said
