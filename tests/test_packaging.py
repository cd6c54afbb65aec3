"""What is installed: no torch, every data file, and a wheel that works elsewhere."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

_MODULES_WITHOUT_TORCH = """
import importlib, pkgutil, sys
sys.modules["torch"] = None
import crmend
for module in pkgutil.walk_packages(crmend.__path__, "crmend."):
    importlib.import_module(module.name)
for name in crmend.__all__:
    getattr(crmend, name)
heavy = {"torch", "onnx", "galsim", "matplotlib", "deepCR", "crmend_training"}
found = {name for name, module in sys.modules.items() if name in heavy and module is not None}
assert not found, found
"""

_LIGHT_IMPORT = """
import sys
import crmend
heavy = {"torch", "onnxruntime", "numba", "scipy", "astropy"} & set(sys.modules)
assert not heavy, heavy
"""


def run(code, **options):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, **options
    )


def test_the_runtime_never_imports_torch():
    done = run(_MODULES_WITHOUT_TORCH)
    assert done.returncode == 0, done.stderr


def test_importing_crmend_is_light():
    done = run(_LIGHT_IMPORT)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_wheel_cleans_the_demo_frame_elsewhere(tmp_path):
    """Build the wheel, install it in a fresh environment, run the demo from another folder."""
    if os.environ.get("CRMEND_TEST_WHEEL") != "1":
        pytest.skip("takes minutes and packages from the net; set CRMEND_TEST_WHEEL=1")
    pytest.importorskip("build")
    source = copy_of_sources(tmp_path / "source")
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "crmend/py.typed" in names
    assert "crmend/instruments/csst_msc.toml" in names
    assert any(name.startswith("crmend/demo/") and name.endswith(".fits.fz") for name in names)
    assert sum(name.endswith(".onnx") for name in names) == 2 * 19  # 18 detectors and generic
    assert not any(name.startswith("tests/") for name in names)

    venv.create(tmp_path / "venv", with_pip=True)
    scripts = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    subprocess.run([scripts / "pip", "install", "--quiet", f"{wheel}[cpu]"], check=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    torch = subprocess.run(
        [scripts / "python", "-c", "import torch"], capture_output=True, check=False
    )
    assert torch.returncode != 0
    demo = subprocess.run(
        [scripts / "crmend", "demo"], cwd=elsewhere, capture_output=True, text=True, check=False
    )
    assert demo.returncode == 0, demo.stderr
    assert len(list((elsewhere / "crmend_demo").iterdir())) == 3


def copy_of_sources(folder: Path) -> Path:
    """Copy what git knows, so that nothing stale is built and nothing is left behind."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    return folder
