"""The progress bar: on a terminal only."""

from __future__ import annotations

import sys
from types import TracebackType

from tqdm import tqdm

from crmend._signals import check

_NAMES = {"detect": "finding cosmic rays", "network": "mending sources"}


class Bar:
    """One bar per stage on stderr; nothing where stderr is no terminal.

    Parameters
    ----------
    prefix : str
        Stands before the name of the stage.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._stage = ""
        self._bar: tqdm[None] | None = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show how far a stage is, or end the work where a signal was lost."""
        check()
        if sys.stderr is None:  # closed
            return
        if stage != self._stage:
            self._close()
            name = self._prefix + _NAMES.get(stage, stage)
            self._bar = tqdm(total=total, desc=name, disable=None, leave=False)
            self._stage = stage
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
