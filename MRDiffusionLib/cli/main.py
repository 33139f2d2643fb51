"""Arguments to a command, and whatever comes out of it to an exit code."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence

from .. import __version__
from ..errors import UserError, is_out_of_memory
from ..worker.server import INSTALL_HINT, MEMORY_HINT
from . import commands, dicom, pairs, quality, rerun, superresolve, synthesize, training

DONE, INTERNAL_ERROR, USER_ERROR, CANCELLED = 0, 1, 2, 130


class _Signals:
    """Turns SIGINT and SIGTERM into one KeyboardInterrupt, and remembers which it was.

    A library can swallow the exception or make another one of it; the number stays.
    """

    def __init__(self) -> None:
        self.number = 0

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, _: object) -> None:
        self.number = number
        raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 internal error, 2 something to put right, 130 cancelled.

    Raises:
        SystemExit: from argparse, 2 for wrong arguments and 0 after --help.
    """
    options = build_parser().parse_args(arguments)
    signals = _Signals()
    try:
        with signals.caught():
            options.command(options)
            sys.stdout.flush()
    except BaseException as error:
        if signals.number or isinstance(error, KeyboardInterrupt):
            print("cancelled", file=sys.stderr)
            return 128 + signals.number if signals.number else CANCELLED
        if isinstance(error, SystemExit):
            raise
        return _explain(error, options.debug)
    return DONE


def build_parser() -> argparse.ArgumentParser:
    """All commands with their help. Loads no torch."""
    debug = argparse.ArgumentParser(add_help=False)
    debug.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show where an error comes from")
    parser = argparse.ArgumentParser(
        prog="python -m MRDiffusionLib",
        description="Generative diffusion models for MR images. Results are synthetic: not for diagnosis.",
        epilog="Exit codes: 0 done, 1 internal error, 2 something to put right, 130 cancelled.",
        parents=[debug],
    )
    parser.add_argument("--version", action="version", version=f"MRDiffusion {__version__}")
    parser.set_defaults(debug=False)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (superresolve, synthesize, quality, pairs, rerun, dicom, training, commands):
        module.add_commands(subparsers, debug)
    return parser


def _explain(error: BaseException, debug: bool) -> int:
    """Tell the person on standard error, in one or two lines where it is theirs to put right."""
    if isinstance(error, BrokenPipeError):
        # The reader of our output has enough, as in `packs list | head -1`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return DONE
    user_error = _as_user_error(error)
    if debug or user_error is None:
        traceback.print_exception(type(error), error, error.__traceback__)
    if user_error is None:
        print(f"internal error: {type(error).__name__}: {error}. Please report it.", file=sys.stderr)
        return INTERNAL_ERROR
    print(f"error: {_one_line(user_error.message)}", file=sys.stderr)
    if user_error.hint:
        print(f"  {_one_line(user_error.hint)}", file=sys.stderr)
    return USER_ERROR


def _as_user_error(error: BaseException) -> UserError | None:
    if isinstance(error, UserError):
        return error
    if is_out_of_memory(error):
        return UserError("there is not enough memory for this run", MEMORY_HINT)
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("MRDiffusionLib"):
        return UserError(str(error), INSTALL_HINT)
    return None


def _one_line(text: str) -> str:
    return " ".join(text.split())
