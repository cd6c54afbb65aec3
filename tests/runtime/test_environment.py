"""Environment variables of numba's that it cannot start with are told like other errors."""

import json
import os
import subprocess
import sys

import pytest


def run(words, threads):
    return subprocess.run(
        [sys.executable, *words],
        env=os.environ | {"NUMBA_NUM_THREADS": threads},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize("threads", ["0", "many"])
def test_a_number_of_threads_that_is_none_is_told_in_a_line(threads):
    done = run(["-m", "crmend", "models", "list", "--json"], threads)
    assert done.returncode == 3
    message = f"environment variable NUMBA_NUM_THREADS is {threads!r}; expected a whole number"
    assert done.stderr.startswith(f"crmend: {message}")
    assert done.stderr.count("\n") == 1
    error = json.loads(done.stdout)["error"]
    assert (error["type"], error["exit_code"]) == ("InvalidInputError", 3)


def test_a_number_of_threads_is_left_to_numba():
    program = "import numba, crmend.detect; print(numba.config.NUMBA_NUM_THREADS)"
    done = run(["-c", program], "1")
    assert (done.stdout, done.stderr) == ("1\n", "")


@pytest.mark.parametrize("chosen", [None, "3"])
def test_linear_algebra_of_the_command_is_in_one_thread(chosen):
    name = "OPENBLAS_NUM_THREADS"
    environment = {key: value for key, value in os.environ.items() if key != name}
    program = (
        "import os, sys; sys.argv = ['crmend', 'models', 'list']; from crmend.cli import main; "
        f"assert main() == 0; print(os.environ[{name!r}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment if chosen is None else environment | {name: chosen},
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    assert done.stdout.split()[-1] == (chosen or "1")
