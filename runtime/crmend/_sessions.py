"""onnxruntime sessions: made once, checked for the device asked for, kept small.

The only place that imports onnxruntime, and only when a graph is wanted.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crmend.errors import (
    DeviceError,
    InvalidInputError,
    MissingRuntimeError,
    ModelError,
    OutOfMemoryError,
)

DEVICES = ("auto", "cpu", "cuda")

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
# A process that goes through all detectors keeps only the last few sessions.
_MAX_SESSIONS = 4
_FATAL = 4
# Words of onnxruntime, of C++ and of CUDA.
_NO_MEMORY = ("Failed to allocate memory", "bad_alloc", "out of memory")
MOST_THREADS = 1024
"""Threads that anybody may ask for."""

# Arenas grow by what a tile needs, not by powers of two.  HEURISTIC: see onnxruntime's
# CUDA provider page; DEFAULT can be slow and EXHAUSTIVE searches again for each shape.
_OPTIONS: dict[str, dict[str, str]] = {
    _CPU: {"arena_extend_strategy": "kSameAsRequested"},
    _CUDA: {
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
    },
}

_sessions: OrderedDict[tuple[str, str, int], Session] = OrderedDict()
_lock = threading.Lock()
_inherited: list[Session] = []


def _after_fork() -> None:
    """Start anew in a forked child, where the threads of the parent's sessions are not.

    They are kept unused: to destroy one would wait for its threads for ever.
    """
    global _lock
    _lock = threading.Lock()
    _inherited.extend(_sessions.values())
    _sessions.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)


@dataclass(frozen=True)
class Session:
    """A graph that onnxruntime has loaded.

    Attributes
    ----------
    provider : str
        The onnxruntime provider that was granted, such as ``CPUExecutionProvider``.
    metadata : dict
        The graph's own metadata.
    input_names, output_names : tuple of str
        In the graph's order.
    threads : int
        CPU threads.
    process : int
        Id of the process that loaded it: its threads are in no other.
    """

    provider: str
    metadata: dict[str, str]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    threads: int
    process: int
    _session: Any
    _last_run: Any

    def run(
        self, arrays: tuple[NDArray[np.float32], ...], *, last: bool = False
    ) -> tuple[NDArray[np.float32], ...]:
        """Run the graph once and return its outputs.

        Parameters
        ----------
        arrays : tuple of float32 arrays
            One per input.
        last : bool
            Give the working memory back afterwards.

        Raises
        ------
        ModelError
            onnxruntime refuses the arrays; or another process loaded the graph.
        OutOfMemoryError
            onnxruntime runs out of memory.
        """
        if os.getpid() != self.process:
            raise ModelError(
                f"the model was loaded in process {self.process} and is used in {os.getpid()}, "
                "where its threads are not; expected one loaded after the fork: name it "
                "(detector=8, model='generic') instead of passing it on"
            )
        feed = dict(zip(self.input_names, arrays, strict=True))
        try:
            return tuple(self._session.run(None, feed, self._last_run if last else None))
        except Exception as error:  # onnxruntime's exceptions share no public base
            shapes = ", ".join(str(array.shape) for array in arrays)
            task = f"onnxruntime ({self.provider}) failed on input of shape {shapes}"
            raise _failure(task, error) from error


def get_session(graph: bytes, sha256: str, device: str, threads: int | None) -> Session:
    """Return the session of a graph, from the cache where it is there.

    Parameters
    ----------
    graph : bytes
        The ONNX file.
    sha256 : str
        Its hash, the key in the cache.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    threads : int or None
        CPU threads, at most as many as this process may use CPUs; None = so many.

    Raises
    ------
    MissingRuntimeError
        onnxruntime is not installed.
    DeviceError
        `device` is ``cuda`` and CUDA was not granted.
    ModelError
        onnxruntime cannot read the graph.
    OutOfMemoryError
        There is not enough memory for it.
    InvalidInputError
        `device` or `threads` is out of range.
    """
    if device not in DEVICES:
        raise InvalidInputError(f"device is {device!r}; expected one of {', '.join(DEVICES)}")
    count = _thread_count(threads)
    key = (sha256, device, count)
    with _lock:
        if key not in _sessions:
            _sessions[key] = _create(graph, device, count)
            while len(_sessions) > _MAX_SESSIONS:
                _sessions.popitem(last=False)
        _sessions.move_to_end(key)
        return _sessions[key]


def _create(graph: bytes, device: str, threads: int) -> Session:
    """Load a graph on the device asked for; auto falls back to the CPU."""
    ort = _import_onnxruntime()
    offered = ort.get_available_providers()
    if device == "cuda" and _CUDA not in offered:
        raise DeviceError(
            f"device 'cuda' was asked for, but this onnxruntime {ort.__version__} offers only "
            f"{', '.join(offered)}. Install the GPU build instead of the CPU build "
            "(pip uninstall onnxruntime; pip install onnxruntime-gpu), "
            'or use device="cpu" (--device cpu).'
        )
    if device != "cpu" and _CUDA in offered:
        _find_cuda(ort)
        reason = f"onnxruntime fell back to {_CPU}"
        try:
            session = _load(ort, graph, (_CUDA, _CPU), threads)
        except (ModelError, OutOfMemoryError) as error:
            if device == "cuda":
                reason = str(error)
        else:
            if session.provider == _CUDA:
                return session
        if device == "cuda":
            raise DeviceError(
                f"device 'cuda' was asked for and not granted: {reason}. Check the driver, "
                'CUDA and cuDNN (pip install "onnxruntime-gpu[cuda,cudnn]" brings the two), or '
                'use device="cpu" (--device cpu).'
            )
    return _load(ort, graph, (_CPU,), threads)


def _find_cuda(ort: Any) -> None:
    """Load CUDA and cuDNN from the packages that pip installed, where they are there.

    onnxruntime 1.21 and later knows their folders; without, the system's loader must find them.
    It prints what it does not find; whether CUDA was granted is asked later.
    """
    preload = getattr(ort, "preload_dlls", None)
    if preload is not None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(OSError):
            preload()


def _load(ort: Any, graph: bytes, providers: tuple[str, ...], threads: int) -> Session:
    """Make one onnxruntime session."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    try:
        session = ort.InferenceSession(
            graph,
            options,
            providers=[(name, _OPTIONS[name]) for name in providers],
            enable_fallback=0,
        )
    except Exception as error:  # onnxruntime's exceptions share no public base
        raise _failure("onnxruntime cannot load the graph", error) from error
    last_run = ort.RunOptions()
    last_run.log_severity_level = _FATAL
    devices = ";".join(
        "gpu:0" if name == _CUDA else "cpu:0" for name in session.get_providers()
    )
    last_run.add_run_config_entry("memory.enable_memory_arena_shrinkage", devices)
    return Session(
        provider=session.get_providers()[0],
        metadata=dict(session.get_modelmeta().custom_metadata_map),
        input_names=tuple(item.name for item in session.get_inputs()),
        output_names=tuple(item.name for item in session.get_outputs()),
        threads=threads,
        process=os.getpid(),
        _session=session,
        _last_run=last_run,
    )


def _import_onnxruntime() -> Any:
    """Import onnxruntime without its telemetry, or say how to install it."""
    # Read on import; without it onnxruntime 1.32 writes an identifier to the home folder.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingRuntimeError(
            f"onnxruntime is needed to run the networks and cannot be imported ({error}). "
            "Install one of the two: pip install onnxruntime (CPU) or "
            "pip install onnxruntime-gpu (NVIDIA)."
        ) from error
    with contextlib.suppress(AttributeError):  # not in every version
        onnxruntime.disable_telemetry_events()
    return onnxruntime


def _thread_count(threads: int | None) -> int:
    """Return the number of CPU threads: as asked, but no more than the process may use."""
    usable = _usable_cpus()
    if threads is None:
        return usable
    whole = isinstance(threads, int | np.integer) and not isinstance(threads, bool)
    if not whole or not 1 <= threads <= MOST_THREADS:
        raise InvalidInputError(
            f"threads is {threads!r}; expected a whole number from 1 to {MOST_THREADS}, or None"
        )
    return min(int(threads), usable)


def _usable_cpus() -> int:
    """Return how many CPUs this process may use."""
    with contextlib.suppress(AttributeError):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _failure(task: str, error: Exception) -> ModelError | OutOfMemoryError:
    """Return our error for one of onnxruntime's, which tell want of memory by words only."""
    text = str(error).strip()
    line = text.partition("\n")[0]
    if any(words in text for words in _NO_MEMORY):
        return OutOfMemoryError(
            f"{task}, expected enough memory for it: {line}; work in smaller pieces "
            "(--memory 2GB, in Python memory='2GB') and with --threads 1, or end other programs"
        )
    return ModelError(f"{task}: {line}")
