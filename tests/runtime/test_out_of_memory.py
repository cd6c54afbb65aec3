"""Too little memory: exit code 1 and what helps, never a fault of the model or of a file."""

import errno
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from crmend import _cli_clean, _sessions
from crmend.errors import CrmendError, ModelError, OutOfMemoryError

TINY = ("--model", "tiny", "--threshold", "0.99")
WORDS = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running "
    "Conv node.\nFailed to allocate memory for requested buffer of size 99",
    "std::bad_alloc",
    "CUDA failure 2: out of memory",
)


class Failing:
    """An onnxruntime session whose runs fail."""

    def __init__(self, words):
        self._words = words

    def run(self, *args):
        raise RuntimeError(self._words)


def session(words):
    return _sessions.Session(
        provider="CPUExecutionProvider",
        metadata={},
        input_names=("image",),
        output_names=("cr_probability",),
        threads=1,
        process=os.getpid(),
        _session=Failing(words),
        _last_run=None,
    )


@pytest.mark.parametrize("words", WORDS)
def test_onnxruntime_without_memory_says_what_helps(words):
    with pytest.raises(
        OutOfMemoryError, match=r"shape \(1, 4\).*--memory 2GB.*--threads 1"
    ) as got:
        session(words).run((np.zeros((1, 4), np.float32),))
    assert isinstance(got.value, MemoryError)
    assert isinstance(got.value, CrmendError)


def test_other_failures_stay_faults_of_the_model():
    with pytest.raises(ModelError, match=r"shape \(2,\): INVALID_ARGUMENT$"):
        session("INVALID_ARGUMENT").run((np.zeros(2, np.float32),))


def test_no_memory_for_the_graph(monkeypatch):
    def load(*args, **more):
        raise RuntimeError("std::bad_alloc")

    ort = SimpleNamespace(
        SessionOptions=SimpleNamespace,
        InferenceSession=load,
        get_available_providers=lambda: ["CPUExecutionProvider"],
        disable_telemetry_events=lambda: None,
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", ort)
    with pytest.raises(OutOfMemoryError, match="cannot load the graph"):
        _sessions.get_session(b"", "no such hash", "cpu", 1)


def test_exit_code_of_onnxruntime_without_memory(crmend_cli, noisy, tmp_path, monkeypatch):
    frame = noisy()
    run, failing = _sessions.Session.run, session(WORDS[0])
    monkeypatch.setattr(
        _sessions.Session, "run", lambda _, arrays, **more: run(failing, arrays[:1])
    )
    done = crmend_cli("clean", frame, "--json", *TINY)
    assert done.code == done.json["error"]["exit_code"] == 1
    assert done.json["error"]["type"] == "OutOfMemoryError"
    assert list(tmp_path.iterdir()) == [frame]


@pytest.mark.parametrize("error", [MemoryError("no"), OSError(errno.ENOMEM, "no")])
@pytest.mark.parametrize("where", ["clean_in_place", "count_extvers"])
def test_the_systems_want_of_memory(crmend_cli, noisy, monkeypatch, error, where):
    def fail(*args, **more):
        raise error

    monkeypatch.setattr(_cli_clean, where, fail)
    done = crmend_cli("clean", noisy(), *TINY)
    assert done.code == 1
    assert done.err.startswith("crmend: out of memory (")
    assert "--memory" in done.err


def test_a_file_is_not_at_fault_for_want_of_memory(crmend_cli, noisy, monkeypatch):
    def fail(*args, **more):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    frame = noisy()
    monkeypatch.setattr("crmend._fits.fits.open", fail)
    assert crmend_cli("clean", frame, *TINY).code == 1
