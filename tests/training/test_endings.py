"""How commands and scripts end: a line on stderr, an exit code, nothing half written."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool

import pytest

from crmend.errors import OutOfMemoryError
from crmend_training._script import end_of


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "x: interrupted"),
        (ValueError("two\nlines"), 3, "x: two lines"),
        (
            FileNotFoundError(2, "No such file or directory", "a.json"),
            3,
            "x: a.json: No such file or directory; check the path, and that you may read it or "
            "write there",
        ),
        (OutOfMemoryError("no"), 1, "x: no; with less memory than it needs, try --jobs 1"),
        (MemoryError(), 1, "x: out of memory; with less memory than it needs, try --jobs 1"),
        (
            BrokenProcessPool("a process died"),
            1,
            "x: a process died; with less memory than it needs, try --jobs 1",
        ),
    ],
)
def test_what_ends_a_program_is_told_in_a_line(capsys, error, code, message):
    assert end_of(raising(error), "x") == code
    assert capsys.readouterr().err == f"{message}\n"


def test_sigterm_is_told_and_the_handler_of_before_comes_back(capsys):
    before = signal.getsignal(signal.SIGTERM)
    assert end_of(lambda: os.kill(os.getpid(), signal.SIGTERM), "x") == 143
    assert capsys.readouterr().err == "x: terminated\n"
    assert signal.getsignal(signal.SIGTERM) == before


WORK = """
import signal, sys, time
from crmend_training._processes import workers
from crmend.errors import OutOfMemoryError
from crmend_training._script import end_of

def main():
    with workers(2) as pool:
        found = pool.map(time.sleep, [30] * 9)
        print("ready", flush=True)
        list(found)

# What runs the tests may ignore it, as nohup does.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(end_of(main, "x"))
"""


@pytest.mark.parametrize(("number", "text"), [(2, "interrupted"), (15, "terminated")])
def test_processes_end_without_a_word_where_a_signal_reaches_all(number, text):
    program = subprocess.Popen(
        [sys.executable, "-c", WORK], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    time.sleep(0.3)
    os.killpg(program.pid, number)
    _, words = program.communicate(timeout=20)
    assert (program.returncode, words) == (128 + number, f"x: {text}\n")
