"""``crmend demo``: the bundled frame, cleaned before the user's eyes."""

from __future__ import annotations

import argparse
from dataclasses import replace
from importlib import resources
from pathlib import Path

from crmend._cli_clean import Job, run
from crmend._cli_options import beside
from crmend._report import FrameReport
from crmend.errors import OutputError
from crmend.exposure import read_exposure, write_flag
from crmend.pipeline import CleanOptions

FRAME = "csst_demo_08_L1.fits.fz"
"""The bundled frame; the README beside it says how it was made."""


def run_demo(options: argparse.Namespace) -> FrameReport:
    """Clean the bundled frame into a folder; earlier results there are replaced.

    Raises
    ------
    OutputError
        If the folder cannot be made or written to.
    CrmendError
        As `crmend.clean`.
    """
    folder = Path(options.out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the folder {folder} cannot be made: {error.strerror or error}; choose another "
            "with --out"
        ) from error
    output = beside(folder / FRAME, "_crmend.fits")
    flags = beside(folder / FRAME, "_flag.fits")
    with resources.as_file(resources.files("crmend.demo") / FRAME) as frame:
        report = run(
            Job(
                frame=frame,
                output=output,
                quicklook=beside(output, ".png"),
                overwrite=True,
                options=CleanOptions(device=options.device, threads=options.threads),
            )
        )
    corrected = read_exposure(output)
    if corrected.flag is not None:
        write_flag(flags, corrected, corrected.flag)
    return replace(report, outputs={**report.outputs, "flag": flags})
