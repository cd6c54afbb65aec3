"""The peers' environments: a virtual environment of their own, another for the GPL program."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterable
from pathlib import Path

from crmend_training.peers_catalogue import COSMIC_CONN, OWN, PEERS, Peer

PINS = {
    PEERS: (
        "astroscrappy==1.3.0",
        "lacosmic==1.4.0",
        "ccdproc==2.5.1",
        "maskfill==1.1.1",
        "opencv-python-headless==5.0.0.93",
        "scikit-image==0.26.0",
        "scikit-learn==1.9.1",
        "deepCR==0.3.1",
        "matplotlib",  # deepCR imports it without asking for it
    ),
    COSMIC_CONN: ("cosmic-conn==0.6.1",),
}
"""What is installed; Cosmic-CoNN is GPL and stays a program of its own."""

TRIES = 3
"""Of an installation: registries break connections now and then."""

_STATUS = "setup.json"


def python_of(environment: Path, place: str) -> Path:
    """Return the interpreter of a method's environment.

    Raises
    ------
    FileNotFoundError
        It has not been set up.
    """
    if place == OWN:
        return Path(sys.executable)
    folder = "Scripts" if sys.platform == "win32" else "bin"
    python = Path(environment) / place / folder / "python"
    if not python.exists():
        raise FileNotFoundError(
            f"{environment} has no environment {place!r}; make it: "
            f"python tools/benchmark_peers.py setup --env {environment}"
        )
    return python.absolute()


def check_set_up(environment: Path, peers: Iterable[Peer]) -> None:
    """Refuse to run methods whose environment is missing; ours need none.

    Raises
    ------
    FileNotFoundError
        One of them has not been set up.
    """
    for place in dict.fromkeys(peer.place for peer in peers):
        python_of(environment, place)


def setup(environment: Path, places: tuple[str, ...] = (PEERS, COSMIC_CONN)) -> dict[str, dict]:
    """Make the environments and install the peers; what cannot be installed is said.

    Where torch can be imported here it is shared with them (it is large), and with it
    whatever else is installed here, unless a pin asks for another version.

    Returns
    -------
    dict
        Per place: ``shared`` (folder of shared packages or None) and ``failed`` (requirement
        to the last line of pip's error).  The same is written to ``setup.json``.
    """
    status = {}
    for place in places:
        folder = Path(environment) / place
        shared = _shared_packages()
        if not (folder / "pyvenv.cfg").is_file():
            venv.create(folder, system_site_packages=shared is not None, with_pip=True)
        if shared is not None:
            _share(python_of(environment, place), shared)
        failed = {}
        for requirement in PINS[place]:
            error = _install(python_of(environment, place), requirement)
            if error is not None:
                failed[requirement] = error
        status[place] = {"shared": None if shared is None else str(shared), "failed": failed}
    text = json.dumps(status, indent=1) + "\n"
    (Path(environment) / _STATUS).write_text(text)
    return status


def failures(environment: Path) -> dict[str, str]:
    """Return what the last set-up could not install, and why."""
    path = Path(environment) / _STATUS
    if not path.is_file():
        return {}
    return {
        k: v for one in json.loads(path.read_text()).values() for k, v in one["failed"].items()
    }


def _shared_packages() -> Path | None:
    """Return the folder of packages that holds torch, or None."""
    found = importlib.util.find_spec("torch")
    return None if found is None or found.origin is None else Path(found.origin).parents[1]


def _share(python: Path, shared: Path) -> None:
    """Show a virtual environment's packages to another one.

    ``--system-site-packages`` alone shows those of the base interpreter, not of a virtual
    environment that this runs in.
    """
    if shared == Path(sysconfig.get_paths()["purelib"]) and sys.prefix == sys.base_prefix:
        return
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    folder = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    (Path(folder.stdout.strip()) / "shared_with_crmend.pth").write_text(f"{shared}\n")


def _install(python: Path, requirement: str) -> str | None:
    """Install with pip; return the last line of its error, None where all went well."""
    # The pip of this interpreter where there is one: a fresh environment's is older.
    command = [python, "-m", "pip", "install", requirement]
    if importlib.util.find_spec("pip") is not None:
        command = [sys.executable, "-m", "pip", "--python", python, "install", requirement]
    for _ in range(TRIES):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return None
    return (done.stderr or done.stdout).strip().splitlines()[-1][:300]
