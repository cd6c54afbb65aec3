"""Errors and warnings that crmend raises.

Every error is a `CrmendError` and also inherits the builtin that fits best, so that
both ``except CrmendError`` and ``except ValueError`` read naturally.  A message says
what is wrong, the value met, what was expected and how to mend it.
"""


class CrmendError(Exception):
    """Base of every error that crmend raises on purpose."""


class InvalidInputError(CrmendError, ValueError):
    """An array or an argument cannot be used: shape, dtype, range or content."""


class FileFormatError(CrmendError, ValueError):
    """A file exists but is truncated, not FITS, or lacks a plane or keyword."""


class MissingFileError(CrmendError, FileNotFoundError):
    """A file or a sibling plane that was asked for does not exist."""


class OutputError(CrmendError, OSError):
    """A result cannot be written: read-only folder, full disk, output equals input."""


class UnknownInstrumentError(CrmendError, LookupError):
    """No instrument profile fits the header, or the name asked for."""


class UnknownDetectorError(CrmendError, LookupError):
    """The instrument has no such detector, or no model for it."""


class ModelError(CrmendError, RuntimeError):
    """A graph or card is missing, damaged, swapped, or of an unknown format."""


class OutOfMemoryError(CrmendError, MemoryError):
    """onnxruntime asked for more memory than there is."""


class MissingRuntimeError(CrmendError, ImportError):
    """onnxruntime is not installed."""


class DeviceError(CrmendError, RuntimeError):
    """The device asked for was not granted."""


class CrmendWarning(UserWarning):
    """Something the user should know that does not stop the work."""


class UntrainedWarning(CrmendWarning):
    """No network of crmend was trained for the instrument."""
