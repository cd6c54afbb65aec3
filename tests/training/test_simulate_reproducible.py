"""The same settings give the same FITS data: in other processes, threads, jobs, machines."""

import hashlib
import json
import os
import runpy
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from astropy.io import fits

pytest.importorskip("galsim")
pytest.importorskip("torch")

RECIPE = """
[simulate]
seed = 40
shape = [256, 256]
detectors = [9, 12]
frames_per_detector = 1
fields = ["low", "cluster"]
laws = ["physical"]
keep_clean = true
"""

SCRIPT = """
import sys
from crmend_training.simulate import SimulationConfig, simulate_exposure, write_pair
config = SimulationConfig(
    8, (256, 256), seed=3, field="globular", law="paper-subpixel", brighter_fatter=True
)
write_pair(simulate_exposure(config), sys.argv[1], without_cr=True)
"""

JOBS = """
import sys
from crmend_training.cli import main
for jobs in "12":
    arguments = ["--recipe", sys.argv[1], "--out", sys.argv[2] + jobs, "--jobs", jobs]
    assert main(["simulate", *arguments]) == 0
"""


def run(threads, *arguments):
    """Run Python in a process of its own."""
    numbers = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), str(threads))
    command = [sys.executable, "-c", *map(str, arguments)]
    subprocess.run(command, check=True, env=os.environ | numbers)


def read(folder):
    """Return the data of all files by name and plane."""
    data = {}
    for path in sorted(folder.iterdir()):
        with fits.open(path, memmap=False) as hdus:
            for number, hdu in enumerate(hdus):
                if hdu.data is not None:
                    data[path.name, number] = hdu.data.tobytes()
    return data


TOOL = Path(__file__).parents[2] / "tools/record_frames.py"
RECORDED = Path(__file__).parents[1] / "data/simulated_frames.json"
"""SHA-256 of frames made by tools/record_frames.py on another machine."""


def test_another_machine_gave_the_same_bits():
    from crmend_training.simulate import SimulationConfig, simulate_exposure

    recorded = json.loads(RECORDED.read_text())
    here = {name: metadata.version(name) for name in recorded["versions"]}
    if here != recorded["versions"]:
        pytest.skip(f"recorded with {recorded['versions']}, here are {here}")
    if (kind := runpy.run_path(str(TOOL))["processor"]()) != recorded["machine"]:
        pytest.skip(f"recorded on {recorded['machine']}, this is {kind}: rounding may differ")
    for frame in recorded["frames"]:
        options = frame["config"] | {"shape": tuple(frame["config"]["shape"])}
        sim = simulate_exposure(SimulationConfig(**options))
        for plane, digest in frame["sha256"].items():
            found = hashlib.sha256(getattr(sim, plane).tobytes()).hexdigest()
            assert found == digest, (frame["config"], plane)


def test_another_process_with_other_threads_gives_the_same_bits(tmp_path):
    for threads in (1, 2):
        run(threads, SCRIPT, tmp_path / f"{threads}")
    first = read(tmp_path / "1")
    # Image, error, flag; the image without cosmic rays; truth and events; catalogue.
    assert len(first) == 7
    assert first == read(tmp_path / "2")


def test_the_number_of_jobs_changes_nothing(tmp_path):
    recipe = tmp_path / "two.toml"
    recipe.write_text(RECIPE)
    run(1, JOBS, recipe, tmp_path / "jobs")
    first = read(tmp_path / "jobs1")
    assert len(first) == 14
    assert first == read(tmp_path / "jobs2")
