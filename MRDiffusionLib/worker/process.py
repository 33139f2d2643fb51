"""A process that serves on its standard streams: what a worker and a relay have in common."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, NoReturn, Protocol

from ..errors import UserError
from . import protocol
from .folder import PrivateFolder
from .outputs import remove_unfinished


class Serves(Protocol):
    """What runs in such a process."""

    def serve(self) -> None:
        """Read messages until the end."""


class _Stopped(BaseException):
    """SIGTERM or SIGINT; only ever raised in the main thread, which reads messages."""


def serve(make: Callable[[IO[bytes], IO[bytes], Path], Serves]) -> NoReturn:
    """Serve on this process's standard streams, then end the process: 0, or 128 + the number of a signal.

    A thread that is deep in a computation cannot be joined, so the process ends at once when its folder is removed.

    Args:
        make: makes what serves, from the stream of messages to it, the stream for its own, and a private folder.
    """
    requests, answers = _private_streams()
    try:
        folder = PrivateFolder()
    except UserError as problem:
        answers.write(protocol.encode(protocol.user_error(None, problem)))
        answers.flush()
        os._exit(2)
    code, numbers = 0, [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]

    def stop(number: int, _: object) -> None:
        nonlocal code
        code = 128 + number
        ignore()
        raise _Stopped

    def ignore() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)

    try:
        for number in numbers:
            signal.signal(number, stop)
        make(requests, answers, folder.path).serve()
    except _Stopped:
        pass
    except BaseException:
        code = 1
        traceback.print_exc()
    finally:
        ignore()
        remove_unfinished()
        folder.close()
        sys.stderr.flush()
        os._exit(code)


def _private_streams() -> tuple[IO[bytes], IO[bytes]]:
    """The message streams, out of reach of the libraries: what these print goes to standard error."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    sys.stdout.flush()
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return requests, answers
