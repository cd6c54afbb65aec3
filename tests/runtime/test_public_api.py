"""The public names: what they are, and what importing them costs."""

import subprocess
import sys
from importlib.metadata import version

import pytest

import crmend

NAMES = {
    "clean", "detect", "inpaint", "read_exposure", "write_exposure",
    "CleanResult", "Detection", "Exposure",
}  # fmt: skip


def run(code):
    """Run code in a fresh interpreter; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_public_names():
    assert set(crmend.__all__) == NAMES
    assert set(dir(crmend)) >= NAMES | {"__version__"}
    assert crmend.__version__ == version("crmend")


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_name_is_itself(name):
    assert getattr(crmend, name).__name__ == name
    assert getattr(crmend, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'cleen'"):
        _ = crmend.cleen


def test_errors_are_at_hand_after_the_import():
    assert run("import crmend\nprint(crmend.errors.CrmendError.__name__)") == "CrmendError"


def test_the_package_runs_as_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "crmend", "--version"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, f"crmend {version('crmend')}\n")


def test_import_loads_nothing_heavy():
    code = (
        "import sys, crmend\n"
        "heavy = {'numba', 'numpy', 'sep', 'astropy', 'onnxruntime', 'torch'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    assert run(code) == "[]"


def test_using_the_runtime_loads_no_torch():
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "import crmend, crmend.pipeline\n"
        "print(crmend.clean.__name__)"
    )
    assert run(code) == "clean"


@pytest.mark.parametrize(
    "first",
    [
        "import crmend.detect, crmend.inpaint",
        "import crmend.pipeline",
        "from crmend.detect import detect_into; from crmend.inpaint import inpaint_into",
        "import importlib; importlib.import_module('crmend.detect')",
        "crmend.detect; import crmend.inpaint",
    ],
)
def test_functions_are_not_hidden_by_the_modules_of_their_name(first):
    code = f"import crmend; {first}; print(callable(crmend.detect), callable(crmend.inpaint))"
    assert run(code) == "True True"
