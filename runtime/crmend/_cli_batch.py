"""Several frames on one command line: each by itself, in their order."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from crmend._cli_options import beside
from crmend._cli_output import say
from crmend.errors import OutputError

CORRECTED, FLAGS = "_crmend.fits", "_flag.fits"
"""How the names of results end that are not asked for."""


def one_by_one(options: argparse.Namespace) -> list[argparse.Namespace]:
    """Return the options of each frame; `many` says whether there are several.

    ``--output`` may be a folder, and with several frames it must be one: each result gets the
    name there that it would have beside its input.  A frame whose name is that of the result
    of another one is left out, with a message: a pattern such as night/*.fits matches the
    results of an earlier run, too.

    Raises
    ------
    OutputError
        With several frames: the folder does not exist, or two results would be one file.
    """
    frames: list[str] | None = getattr(options, "frames", None)
    if frames is None:  # another command
        return [_with(options, many=False)]
    folder: str | None = options.output
    # Not is_dir() of Path, which raises where nobody may look; check_output says it later.
    is_folder = bool(folder) and os.path.isdir(str(folder))
    if len(frames) == 1:
        # A pattern such as night/*.fits may match one file only.
        place = {"folder": folder, "output": None} if is_folder else {"folder": None}
        return [_with(options, frame=frames[0], many=False, **place)]
    if folder is not None and not is_folder:
        raise OutputError(
            f"the output {folder!r} is no folder that exists; with several frames -o is the "
            "folder of the results: make it first"
        )
    _check_apart(frames, folder)
    return [
        _with(options, frame=frame, folder=folder, output=None, many=True)
        for frame in _without_results(frames, folder)
    ]


def default_output(options: argparse.Namespace, suffix: str) -> Path:
    """Return the name of a result that is not asked for: beside its input or in the folder."""
    frame = Path(options.frame)
    if options.folder is not None:
        frame = Path(options.folder) / frame.name
    return beside(frame, suffix)


def _without_results(frames: list[str], folder: str | None) -> list[str]:
    """Return the frames that are no results of others, and say which are left out.

    Results are looked for beside their frames and in the folder.
    """
    sources = {}
    for frame in map(Path, frames):
        for place in (frame, frame if folder is None else Path(folder) / frame.name):
            for end in (CORRECTED, FLAGS):
                sources[os.path.realpath(beside(place, end))] = frame
    kept = []
    for name in frames:
        source = sources.get(os.path.realpath(name))
        if source is None:
            kept.append(name)
        else:
            say(f"crmend: {name}: left out, since it is named like the result of {source}")
    return kept


def _check_apart(frames: list[str], folder: str | None) -> None:
    """Refuse frames whose results would have one name."""
    seen: dict[Path, str] = {}
    for name in frames:
        frame = Path(name) if folder is None else Path(folder) / Path(name).name
        stem = beside(frame, "").absolute()
        if stem in seen:
            raise OutputError(
                f"the results of {seen[stem]} and {name} would be the same file; expected each "
                "frame once, and no two of one name in an output folder"
            )
        seen[stem] = name


def _with(options: argparse.Namespace, **more: object) -> argparse.Namespace:
    return argparse.Namespace(**vars(options) | more)
