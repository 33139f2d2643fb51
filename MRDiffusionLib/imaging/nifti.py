"""Is a NIfTI file whole? ITK fills what is missing from one that was cut short and says nothing."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

_BLOCK = 1 << 20


def check_complete(path: Path) -> None:
    """Check that a NIfTI-1 or NIfTI-2 file, compressed or not, holds all the voxels that its header announces.

    Other formats pass: their readers notice. A compressed file is unpacked to its end, which also checks its checksum.

    Raises:
        OSError: too few bytes, or damaged compression; the message says which.
    """
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if packed else path.open("rb") as stream:
        try:
            header = stream.read(540)
            needed = _announced_bytes(header)
            if needed == 0:
                return
            there = len(header)
            if not packed:
                there = path.stat().st_size
            while packed and there <= needed + _BLOCK and (block := stream.read(_BLOCK)):
                there += len(block)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise OSError(f"the compressed data are damaged: {error}") from error
    if there < needed:
        raise OSError(f"it has {there} of the {needed} bytes that its header announces")


def _announced_bytes(header: bytes) -> int:
    """Bytes that a single-file NIfTI must have; 0 for anything else (also header and image in two files)."""
    for order in "<>":
        if len(header) >= 352 and struct.unpack_from(order + "i", header)[0] == 348 and header[344:348] == b"n+1\0":
            (bits,) = struct.unpack_from(order + "h", header, 72)
            (offset,) = struct.unpack_from(order + "f", header, 108)
            dim = struct.unpack_from(order + "8h", header, 40)
        elif len(header) >= 540 and struct.unpack_from(order + "i", header)[0] == 540 and header[4:8] == b"n+2\0":
            (bits,) = struct.unpack_from(order + "h", header, 14)
            (offset,) = struct.unpack_from(order + "q", header, 168)
            dim = struct.unpack_from(order + "8q", header, 16)
        else:
            continue
        if not 1 <= dim[0] <= 7 or not math.isfinite(offset):
            return 0
        voxels: int = math.prod(max(1, n) for n in dim[1 : dim[0] + 1])
        return int(offset) + voxels * int(bits) // 8
    return 0
