"""``crmend clean`` and ``crmend detect``: for each file in one file out, chip by chip."""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crmend._checks import warn_if_of_one_chip
from crmend._cli_bar import Bar
from crmend._cli_batch import CORRECTED, FLAGS, default_output
from crmend._cli_detect import flag_in_place
from crmend._cli_options import beside
from crmend._fits import check_exists
from crmend._fits_output import check_holds_bits
from crmend._fits_write import atomic_output, check_folder, check_output, output_path
from crmend._instruments import available_instruments, load_instrument
from crmend._normalise import measure_scale
from crmend._packs import warn_if_unused
from crmend._provenance import Provenance
from crmend._report import ChipReport, FrameReport
from crmend._results import CleanResult, Stats
from crmend.errors import FileFormatError, UntrainedWarning
from crmend.exposure import (
    Exposure,
    ResultPlanes,
    count_extvers,
    read_exposure,
    update_all_flags,
    write_exposures,
)
from crmend.inpaint import stopwatch
from crmend.pipeline import CleanOptions, clean_in_place

if TYPE_CHECKING:
    from PIL import Image

    from crmend._quicklook import Before


@dataclass(frozen=True)
class Job:
    """What to do with one file.

    Attributes
    ----------
    frame : Path
        The exposure.
    output : Path or None
        The corrected file, or the one with the flag plane; None = write none.
    quicklook : Path or None
        The picture; None = draw none.
    mend : bool
        False = flag cosmic rays only.
    update_flags, probability, overwrite : bool
        As the options of the command line.
    instrument, detector, gain, exposure_time, saturation, planes, bad_flags
        As for `crmend.read_exposure`.
    many : bool
        The command has other frames, too: progress bars say which is treated.
    options : CleanOptions
        For the pipeline.
    """

    frame: Path
    output: Path | None
    quicklook: Path | None = None
    mend: bool = True
    update_flags: bool = False
    probability: bool = False
    overwrite: bool = False
    instrument: str | None = None
    detector: str | None = None
    gain: float | None = None
    exposure_time: float | None = None
    saturation: float | None = None
    planes: Mapping[str, str | None] = field(default_factory=dict)
    bad_flags: int | str | None = None
    many: bool = False
    options: CleanOptions = field(default_factory=CleanOptions)


def run_clean(options: argparse.Namespace) -> FrameReport:
    """Clean the file that the command line names."""
    output = _output(options, CORRECTED)
    job = replace(
        _job(options, output),
        quicklook=beside(output, ".png") if options.quicklook else None,
    )
    return run(replace(job, options=replace(job.options, catalog=options.catalog)))


def run_detect(options: argparse.Namespace) -> FrameReport:
    """Flag the cosmic rays of the file that the command line names."""
    output: Path | None = _output(options, FLAGS)
    asked = options.output is not None or options.folder is not None
    if options.update_flags and not asked and not options.save_probability:
        output = None
    return run(replace(_job(options, output), mend=False))


def run(job: Job) -> FrameReport:
    """Do one job, one chip at a time.

    Raises
    ------
    CrmendError
        Of any kind; the corrected file is then not there.
    """
    check_exists(job.frame)
    for path in (job.output, job.quicklook):
        if path is not None:
            check_output(path, _inputs(job), overwrite=job.overwrite)
    start = time.perf_counter()
    count = count_extvers(job.frame, instrument=job.instrument, planes=job.planes)
    if isinstance(job.options.catalog, str):
        warn_if_of_one_chip(job.options.catalog, job.frame.name, count)
    work = _Work(job, count)
    if job.output is None:
        for _ in work.chips():
            pass
        work.finish()
    else:
        write_exposures(
            job.output,
            work.chips(),
            probability=job.probability,
            overwrite=job.overwrite,
            finish=work.finish,
        )
    return work.report(time.perf_counter() - start)


def _inputs(job: Job) -> list[Path]:
    """Return the files that the command line names for reading."""
    profile = job.instrument if (job.instrument or "").endswith(".toml") else None
    named = [job.options.catalog, profile]
    return [job.frame, *(Path(name) for name in named if isinstance(name, str))]


def _output(options: argparse.Namespace, suffix: str) -> Path:
    """Return the file that is asked for, or the one beside the input."""
    if options.output is None:
        return default_output(options, suffix)
    return output_path(options.output)


def _job(options: argparse.Namespace, output: Path | None) -> Job:
    """Collect what both commands share."""
    return Job(
        frame=Path(options.frame),
        many=options.many,
        output=output,
        update_flags=options.update_flags,
        probability=options.save_probability,
        overwrite=options.overwrite,
        instrument=options.instrument,
        detector=options.detector,
        gain=options.gain,
        exposure_time=options.exposure_time,
        saturation=options.saturation,
        planes=dict(options.plane),
        bad_flags=options.bad_flags,
        options=CleanOptions(
            model=options.model,
            threshold=options.threshold,
            seed_threshold=options.seed_threshold,
            target_precision=options.target_precision,
            quality=options.quality,
            views=options.views,
            star_cores=options.star_cores,
            device=options.device,
            threads=options.threads,
            memory=options.memory,
            probability=options.save_probability,
        ),
    )


class _Work:
    """The chips of one file on their way from reading to writing, and what they left."""

    def __init__(self, job: Job, count: int) -> None:
        self._job = job
        self._count = count
        self._reports: list[ChipReport] = []
        self._pictures: list[Image.Image] = []
        self._masks: list[tuple[Exposure, NDArray[np.bool_]]] = []
        self._outputs: dict[str, Path] = {}
        self._seconds: dict[str, float] = {}

    def chips(self) -> Iterator[tuple[Exposure, ResultPlanes]]:
        """Read and treat one chip after the other."""
        for extver in range(1, self._count + 1):
            seconds: dict[str, float] = {}
            with stopwatch(seconds, "read"):
                exposure = self._read(extver)
            treat = self._mend if self._job.mend else self._flag
            yield exposure, treat(exposure, seconds)

    def finish(self) -> None:
        """Save the picture and change the input's flags.

        The output is complete by then, and gets its name only after that: a failure leaves
        neither, nor a changed input.
        """
        if self._job.quicklook is None:
            self._update_flags()
        else:
            self._save_picture(self._job.quicklook)

    def report(self, seconds: float) -> FrameReport:
        """Return the figures; what the stages do not explain is the time for writing."""
        explained = sum(self._seconds.values())
        explained += sum(sum(chip.stages.values()) for chip in self._reports)
        outputs = dict(self._outputs)
        if self._job.output is not None:
            kind = "corrected" if self._job.mend else "flag"
            outputs = {kind: self._job.output} | outputs
        return FrameReport(
            frame=self._job.frame,
            chips=tuple(self._reports),
            outputs=outputs,
            stages=self._seconds | {"write": max(seconds - explained, 0.0)},
            mended=self._job.mend,
        )

    def _read(self, extver: int) -> Exposure:
        with warnings.catch_warnings():
            if _is_users(self._job.options.model):
                # It was trained for, or named after, the instrument that the user has.
                warnings.simplefilter("ignore", UntrainedWarning)
            exposure = read_exposure(
                self._job.frame,
                instrument=self._job.instrument,
                detector=self._job.detector,
                extver=extver,
                gain=self._job.gain,
                exposure_time=self._job.exposure_time,
                saturation=self._job.saturation,
                planes=self._job.planes,
                bad_flags=self._job.bad_flags,
            )
        pack = self._job.options.model or exposure.instrument.model_pack
        warn_if_unused(self._job.detector, pack)
        if self._job.update_flags and exposure.flag is None:
            raise FileFormatError(
                f"{self._job.frame} has no flag plane for --update-flags to change; leave it "
                "out, the flags stand in the output"
            )
        if self._job.update_flags:
            check_holds_bits(exposure, exposure.planes["flag"].label)
            check_folder(exposure.planes["flag"].path.resolve())
        return exposure

    def _mend(self, exposure: Exposure, seconds: dict[str, float]) -> ResultPlanes:
        """Clean one chip in place."""
        before = None
        if self._job.quicklook is not None:
            with self._drawing():
                before = _keep_before(exposure)
        with self._bar(exposure) as bar:
            result = clean_in_place(exposure, replace(self._job.options, progress=bar))
        self._remember(
            exposure, result.cr_mask, result.provenance, seconds | _stages(result.stats)
        )
        if before is not None:
            with self._drawing():
                self._pictures.append(self._draw(before, result))
        return result

    def _flag(self, exposure: Exposure, seconds: dict[str, float]) -> ResultPlanes:
        """Flag the cosmic rays of one chip in place."""
        with self._bar(exposure) as bar, stopwatch(seconds, "detect"):
            flagged = flag_in_place(exposure, replace(self._job.options, progress=bar))
        self._remember(exposure, flagged.cr_mask, flagged.provenance, seconds)
        return flagged

    def _bar(self, exposure: Exposure) -> Bar:
        name = f"{self._job.frame.name} " if self._job.many else ""
        return Bar(name + (f"chip {exposure.extver} " if self._count > 1 else ""))

    def _remember(
        self,
        exposure: Exposure,
        cr_mask: NDArray[np.bool_],
        provenance: Provenance,
        stages: Mapping[str, float],
    ) -> None:
        """Keep the figures of a chip, and its mask if the input's flags are to change."""
        self._reports.append(
            ChipReport(
                extver=exposure.extver,
                detector=exposure.detector,
                band=exposure.band,
                shape=exposure.image.shape,
                provenance=provenance,
                stages=stages,
            )
        )
        if self._job.update_flags:
            self._masks.append((exposure, cr_mask))

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Add the wall time of a block to that of the quick-look picture."""
        spent: dict[str, float] = {}
        with stopwatch(spent, "quick-look"):
            yield
        self._seconds["quick-look"] = self._seconds.get("quick-look", 0.0) + spent["quick-look"]

    def _draw(self, before: Before, result: CleanResult) -> Image.Image:
        """Draw the chip that was treated last."""
        from crmend._quicklook import Chip, draw_chip

        report = self._reports[-1]
        chip = f"chip {report.extver} of {self._count}, " if self._count > 1 else ""
        title = f"{self._job.frame.name}   {chip}{report.name}"
        return draw_chip(Chip(before, result.image, result.method, title, report.facts))

    def _save_picture(self, path: Path) -> None:
        from crmend._quicklook import stack

        self._outputs["quicklook"] = path
        overwrite, finish = self._job.overwrite, self._update_flags
        with (
            atomic_output(path, overwrite=overwrite, finish=finish) as temporary,
            self._drawing(),
        ):
            stack(self._pictures).save(temporary, format="PNG")

    def _update_flags(self) -> None:
        if self._masks:
            self._outputs["updated"] = update_all_flags(self._job.frame, self._masks)


def _is_users(model: str | None) -> bool:
    """Tell whether a model is of a pack that came from elsewhere than crmend."""
    built_in = {load_instrument(name).model_pack for name in available_instruments()}
    return model is not None and model.partition("/")[0] not in built_in


def _stages(stats: Stats) -> dict[str, float]:
    """Return the seconds of the pipeline's stages, and of all else that it did."""
    stages = {name: seconds for name, seconds in stats.seconds.items() if name != "total"}
    return stages | {"set-up": stats.seconds["total"] - sum(stages.values())}


def _keep_before(exposure: Exposure) -> Before:
    """Keep what the picture needs of the image before it changes."""
    from crmend._quicklook import keep_before

    return keep_before(exposure.image, measure_scale(exposure.image, exposure.invalid))
