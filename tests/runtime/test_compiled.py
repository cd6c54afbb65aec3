"""Compiled kernels on disk: found again, never trusted, never in the way."""

import json
import os
import subprocess
import sys

import numba
import numpy as np
import pytest

from crmend import _compiled, _kernels

PROGRAM = """
import json, sys
import numpy as np
from crmend import _kernels
image = np.arange(64, dtype=np.float32).reshape(8, 8) ** 2
invalid = np.zeros((8, 8), bool)
invalid[3, 4] = invalid[0, 0] = True
filled = np.empty_like(image)
_kernels.fill_invalid(image, invalid, 5.0, filled)
hits = sum(_kernels.fill_invalid.stats.cache_hits.values())
print(json.dumps([hits, filled.tolist()]))
"""


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"CRMEND_CACHE": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process):
    """Return what a process printed; it neither failed nor said anything else."""
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    return json.loads(out)


@pytest.fixture(scope="module")
def expected():
    image = np.arange(64, dtype=np.float32).reshape(8, 8) ** 2
    invalid = np.zeros((8, 8), bool)
    invalid[3, 4] = invalid[0, 0] = True
    filled = np.empty_like(image)
    _kernels.fill_invalid(image, invalid, 5.0, filled)
    return filled.tolist()


def test_a_second_process_does_not_compile(tmp_path, expected):
    hits, filled = end(start(tmp_path))
    assert hits == 0
    assert filled == expected
    kept = sorted(tmp_path.glob("kernels-*/crmend._kernels.*"))
    assert any(".fill_invalid." in path.name for path in kept)
    hits, filled = end(start(tmp_path))
    assert hits == 1
    assert filled == expected
    assert sorted(tmp_path.glob("kernels-*/crmend._kernels.*")) == kept


def test_processes_that_start_together_agree(tmp_path, expected):
    first = [start(tmp_path) for _ in range(4)]
    assert all(end(process)[1] == expected for process in first)
    assert not list(tmp_path.glob("kernels-*/.*")), "a temporary file was left"
    assert end(start(tmp_path)) == [1, expected]


@pytest.mark.parametrize("damage", ["cut", "empty", "changed"])
def test_damaged_files_are_compiled_anew(tmp_path, expected, damage):
    end(start(tmp_path))
    for path in tmp_path.glob("kernels-*/*"):
        content = path.read_bytes()
        half = len(content) // 2
        changed = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
        path.write_bytes({"cut": content[:half], "empty": b"", "changed": changed}[damage])
    assert end(start(tmp_path)) == [0, expected]
    assert end(start(tmp_path)) == [1, expected]


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs root: chown")
def test_what_another_user_wrote_is_not_run(tmp_path, expected):
    end(start(tmp_path))
    for path in tmp_path.glob("kernels-*/*"):
        os.chown(path, 65534, 65534)
    assert end(start(tmp_path)) == [0, expected]


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path, expected):
    (tmp_path / "file").write_text("no folder")
    assert end(start(tmp_path / "file" / "below")) == [0, expected]


def test_off_writes_nothing(tmp_path, expected, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert end(start("off")) == [0, expected]
    assert not list(tmp_path.iterdir())


def test_folders_of_other_versions_go_after_a_month(tmp_path, expected):
    old, new, mixed = (f"kernels-{digit * 16}" for digit in "a1f")
    others = ("mine", "kernels-of-my-own")
    for name, age in ((old, 40), (new, 1), (mixed, 40), *((name, 40) for name in others)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "crmend.code").write_text("code")
        then = (tmp_path / name).stat().st_mtime - age * 86400
        os.utime(tmp_path / name, (then, then))
    (tmp_path / mixed / "notes.txt").write_text("of somebody else")
    os.utime(tmp_path / mixed, (then, then))
    end(start(tmp_path))
    left = {path.name for path in tmp_path.iterdir()}
    assert {new, mixed, *others} < left
    assert old not in left
    assert all((tmp_path / name / "crmend.code").exists() for name in (new, *others))
    assert (tmp_path / mixed / "notes.txt").read_text() == "of somebody else"


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_a_kernel_is_compiled_once_for_literals_and_variables(monkeypatch):
    monkeypatch.setattr(_compiled, "_folder", lambda: None)

    @_compiled.njit
    def inner(place, step):
        return place[0] + step

    @_compiled.njit
    def outer(start, step):
        return inner((start, 0), 0) + inner((start, step), step)

    assert outer(10, 3) == 23
    assert len(inner.signatures) == 1
