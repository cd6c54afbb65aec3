"""Command line: ``crmend clean | detect | models | demo``."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import traceback

from crmend._cli_output import UNREAD, CommandLineError, answer, say, short_warnings
from crmend._signals import Terminated, cause_of, hold, release, watched_signals
from crmend.errors import (
    CrmendError,
    DeviceError,
    FileFormatError,
    InvalidInputError,
    MissingFileError,
    MissingRuntimeError,
    ModelError,
    OutOfMemoryError,
    OutputError,
    UnknownDetectorError,
    UnknownInstrumentError,
)

UNEXPECTED, WRONG_COMMAND, INTERRUPTED = 1, 2, 130

LAST_OF_A_FRAME = 128
"""Exit codes above are signals, and a reader that has gone: no other frame follows."""

_FIRST_FREE = 3  # number of a file, after those of the standard streams

EXIT_CODES: dict[type[Exception], int] = {
    OutOfMemoryError: UNEXPECTED,
    MissingFileError: 3,
    FileFormatError: 3,
    InvalidInputError: 3,
    UnknownInstrumentError: 4,
    UnknownDetectorError: 4,
    ModelError: 4,
    OutputError: 5,
    MissingRuntimeError: 6,
    DeviceError: 6,
}
"""Exit code of each error; 0 is success."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : list of str, optional
        As on the command line, without the program's name.

    Returns
    -------
    int
        Exit code, see the epilog of ``crmend --help``.
    """
    words = sys.argv[1:] if arguments is None else arguments
    if arguments is None:
        _hold_closed_streams()
        # Before numpy is loaded: fits have threads of their own, of which --threads tells.
        for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.setdefault(name, "1")
    # A pipeline that ends a job with SIGTERM leaves no temporary file behind either.
    with watched_signals(last=arguments is None):
        return _run(words)


def _hold_closed_streams() -> None:
    """Let stdin, stdout and stderr lead nowhere if they are closed.

    Otherwise the next file opened takes their place, and libraries write messages into it.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) < _FIRST_FREE:
        pass
    os.close(number)


def _run(words: list[str]) -> int:
    """Run the command, for each frame that it names; return the exit code."""
    # As long as the words are not parsed.
    options = argparse.Namespace(json="--json" in words, debug="--debug" in words, many=False)
    try:
        # Not above: these imports take a second, and Ctrl-C may come in it.
        from crmend._cli_batch import one_by_one
        from crmend._cli_parser import parse

        each = one_by_one(parse(words))
    except SystemExit as stop:  # argparse has printed the help or the version
        return answer("", int(stop.code or 0))
    except (Exception, KeyboardInterrupt) as error:
        return _fail(options, error)
    result, shown = 0, set[str]()
    for one in each:
        code = _do(one, shown)
        if code > LAST_OF_A_FRAME:
            return code
        result = result or code
    return result


def _do(options: argparse.Namespace, shown: set[str]) -> int:
    """Do the work on one frame; `shown` holds the warnings that were printed before."""
    messages: list[str] = []
    try:
        # One that came when the result of the frame before had its name.
        release()
        with short_warnings(messages, shown, debug=options.debug):
            found = options.run(options)
        hold()
        text = found.as_line() if options.many else found.as_text()
        if options.json:
            text = json.dumps(found.as_dict() | {"warnings": messages}, allow_nan=False)
    except (Exception, KeyboardInterrupt) as error:
        return _fail(options, error)
    return answer(f"{text}\n", int(found.exit_code))


def _fail(options: argparse.Namespace, error: BaseException) -> int:
    """Report an error in one line, and to machines as JSON; return the exit code."""
    error = cause_of(error)
    text, code = _describe(error)
    line = " ".join(text.split())
    if options.debug:
        say("".join(traceback.format_exception(error)).rstrip())
    say(f"crmend: {options.frame}: {line}" if options.many else f"crmend: {line}")
    if not options.json:
        return code
    report = {"error": {"type": type(error).__name__, "message": line, "exit_code": code}}
    if options.many:
        report["input"] = options.frame
    told = answer(json.dumps(report) + "\n", 0)
    # Of several frames none follows where nobody reads; stderr has told of this one.
    return told if options.many and told == UNREAD and code < told else code


def _describe(error: BaseException) -> tuple[str, int]:
    """Return what to tell of an error, and its exit code."""
    if isinstance(error, Terminated):
        return "terminated", 128 + error.number
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", INTERRUPTED
    if isinstance(error, CommandLineError):
        return str(error), WRONG_COMMAND
    if isinstance(error, CrmendError):
        fitting = (code for kind, code in EXIT_CODES.items() if isinstance(error, kind))
        return str(error), next(fitting, UNEXPECTED)
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return f"out of memory ({error}); try --memory or --threads 1", UNEXPECTED
    name = type(error).__name__
    return f"unexpected {name}: {error}; run again with --debug, report it", UNEXPECTED


if __name__ == "__main__":
    sys.exit(main())
