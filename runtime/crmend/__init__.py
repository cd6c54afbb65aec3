"""Cosmic rays (CRs) found and mended in single exposures.

FITS files::

    exposure = crmend.read_exposure("FRAME.fits")
    result = crmend.clean(exposure)
    crmend.write_exposure("OUT.fits", exposure, result)

Arrays, in any linear unit::

    result = crmend.clean(image, model="generic")
    found = crmend.detect(image, model="generic")
    mended = crmend.inpaint(image, found.cr_mask, model="generic")

Arrays are (ny, nx), indexed [y, x]; masks are bool, True = CR; what the caller passes is never
changed.  Errors and warnings are in `crmend.errors`, all of them `CrmendError` or
`CrmendWarning`; files of several chips in `crmend.exposure` (`count_extvers`,
`write_exposures`), flag bits in `crmend.flags`, model packs in `crmend.models`.

The public names are loaded when they are first used, so ``import crmend`` is fast.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING

from crmend import errors as errors  # for `except crmend.errors.CrmendError`

if TYPE_CHECKING:
    from crmend._results import CleanResult
    from crmend.detect import Detection, detect
    from crmend.exposure import Exposure, read_exposure, write_exposure
    from crmend.inpaint import inpaint
    from crmend.pipeline import clean

__all__ = [
    "CleanResult",
    "Detection",
    "Exposure",
    "clean",
    "detect",
    "inpaint",
    "read_exposure",
    "write_exposure",
]

__version__ = version("crmend")

_MODULES = {
    "CleanResult": "crmend._results",
    "Detection": "crmend.detect",
    "Exposure": "crmend.exposure",
    "clean": "crmend.pipeline",
    "detect": "crmend.detect",
    "inpaint": "crmend.inpaint",
    "read_exposure": "crmend.exposure",
    "write_exposure": "crmend.exposure",
}


class _Package(ModuleType):
    """A package whose functions are not hidden by its modules of the same name.

    Importing the module ``crmend.detect`` would set the attribute ``detect`` of the package;
    it stays free for the function.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _MODULES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_MODULES[name]), name)
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
