"""Messages that bring their files along, for two ends without a common disk.

    {"type": "run", ..., "files": ["/here/a.nrrd"]}      one line; then for each file
    <4 bytes: n><n bytes of zlib> ... <4 bytes: 0>       its blocks, and the end

The line is a message of `protocol`, so a message without files is the same on both ways.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ..errors import StorageError
from . import protocol

BLOCK = 1 << 18
"""Bytes of a file that are packed at once; also what a broken line can cost."""

LEVEL = 1
"""Of zlib. The sample volumes become 0.22 to 0.9 of their size, at 15 to 56 MB/s on a busy core: more than most lines
carry. Level 6 saves another 1 % and is up to four times slower."""

_LENGTH = struct.Struct(">I")


class Reads(Protocol):
    """The part of a binary stream that is needed to read frames."""

    def readline(self) -> bytes:
        """A line with its end; less at the end of the stream."""

    def read(self, size: int, /) -> bytes:
        """`size` bytes; less at the end of the stream."""


class Writes(Protocol):
    """The part of a binary stream that is needed to write frames."""

    def write(self, data: bytes, /) -> Any:
        """Write all of it."""

    def flush(self) -> None:
        """Let it go."""


class UnplacedError(StorageError):
    """The files of a message could not be written here. `received` is the message, and the stream goes on after it."""

    def __init__(self, received: dict[str, Any], error: OSError) -> None:
        super().__init__(f"the volumes cannot be stored ({error.strerror or error})", "Free some space")
        self.received = received


def send(stream: Writes, message: Mapping[str, Any], files: Sequence[str | Path] = ()) -> None:
    """Write a message and its files.

    Raises:
        StorageError: a file cannot be opened; nothing was written then.
        OSError: the other end is gone.
    """
    with contextlib.ExitStack() as opened:
        try:
            sources = [opened.enter_context(open(path, "rb")) for path in files]
        except OSError as error:
            text = f"{error.filename} cannot be read ({error.strerror})"
            raise StorageError(text, "Give one file for each volume") from error
        stream.write(protocol.encode({**message, "files": [str(path) for path in files]} if files else message))
        for source in sources:
            while block := source.read(BLOCK):
                packed = zlib.compress(block, LEVEL)
                stream.write(_LENGTH.pack(len(packed)) + packed)
            stream.write(_LENGTH.pack(0))
    stream.flush()


def receive(stream: Reads, place: Callable[[dict[str, Any], int, str], Path]) -> dict[str, Any] | None:
    """Read the next message, and write its files.

    Args:
        place: message, number of a file and its name at the other end to where it is to be written.

    Returns:
        The message with 'files' as they came, or None at the end of the stream, also in the middle of a file.

    Raises:
        ProtocolError: a line that is no message.
        UnplacedError: a file could not be written; it was read to its end.
    """
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    message = protocol.decode(line)
    problem: OSError | None = None
    for number, name in enumerate(message.get("files", ())):
        try:
            with open(place(message, number, name), "wb") as target:
                complete = _read_file(stream, target.write)
        except OSError as error:
            problem = problem or error
            complete = _read_file(stream, lambda _: None)
        if not complete:
            return None
    if problem is not None:
        raise UnplacedError(message, problem) from problem
    return message


def _read_file(stream: Reads, write: Callable[[bytes], Any]) -> bool:
    """Whether the file came to its end. An error of `write` comes between two blocks, never within one."""
    while True:
        head = stream.read(_LENGTH.size)
        length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else -1
        if length == 0:
            return True
        packed = stream.read(length) if 0 < length <= 2 * BLOCK else b""
        if len(packed) != length:
            return False
        try:
            block = zlib.decompressobj().decompress(packed, BLOCK)
        except zlib.error:
            return False
        write(block)


def replaced(value: Any, texts: Mapping[str, str]) -> Any:
    """A message with every occurrence of some texts, such as paths, replaced by others; the longest first."""
    if isinstance(value, dict):
        return {key: replaced(part, texts) for key, part in value.items()}
    if isinstance(value, list):
        return [replaced(part, texts) for part in value]
    if isinstance(value, str):
        for text in sorted(texts, key=len, reverse=True):
            value = value.replace(text, texts[text])
    return value
