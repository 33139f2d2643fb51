"""Is a pack whole and harmless? Files, sizes, safetensors header and checksum here without torch; shapes with it."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import PackError
from .info import CARD_FILE, INFO_FILE, LICENCE_FILE, WEIGHTS_FILE, PackInfo

LARGEST_WEIGHTS = 512_000_000
LARGEST_HEADER = 10_000_000
LARGEST_TEXT = 1_000_000
DTYPE_BYTES = {"BF16": 2, "F16": 2, "F32": 4}
AGAIN = "Get the pack again from its source"

_hashes: dict[tuple[str, int, int], str] = {}


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a safetensors header: type ('BF16', 'F16', 'F32'), shape, first and last + 1 byte of its data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def verify_pack(info: PackInfo) -> None:
    """Check everything about a pack; loads torch.

    Raises:
        PackError: what `verify_files` finds; tensors whose names, shapes or types are not those of the network that
            pack.json describes; weights that are NaN or infinite.
    """
    verify_files(info)
    from .weights import verify_weights

    verify_weights(info)


def verify_files(info: PackInfo) -> None:
    """Check the files of a pack without torch.

    Raises:
        PackError: a file that is missing, empty, too large, no plain file or a link out of the folder; weights that are
            no safetensors file or whose header does not fit their size; a wrong checksum.
    """
    check_file(info, INFO_FILE, LARGEST_TEXT)
    for name in (CARD_FILE, LICENCE_FILE):
        check_file(info, name, LARGEST_TEXT)
    path = check_file(info, WEIGHTS_FILE, LARGEST_WEIGHTS)
    read_header(info)
    check_sum(info, file_sha256(path))


def check_file(info: PackInfo, name: str, largest: int) -> Path:
    """The path of one of the pack's files, if it is a plain file inside the folder. Raises PackError."""
    path = info.folder / name
    try:
        real, inside = path.resolve(strict=True), info.folder.resolve(strict=True)
        if not real.is_relative_to(inside):
            raise PackError(f"pack {info.name}: {name} is a link to {real}, outside the pack", "Copy the file into it")
        if not real.is_file():
            raise PackError(f"pack {info.name}: {name} is no plain file", AGAIN)
        size = real.stat().st_size
    except (OSError, RuntimeError) as error:
        raise PackError(f"pack {info.name}: {name} is missing from {info.folder}", AGAIN) from error
    if not 0 < size <= largest:
        raise PackError(f"pack {info.name}: {name} has {size} bytes, not 1 to {largest}", AGAIN)
    return path


def check_sum(info: PackInfo, found: str) -> None:
    """Raises PackError if the checksum of the weights is not the one in pack.json."""
    if found != info.weights_sha256:
        raise PackError(
            f"pack {info.name}: {WEIGHTS_FILE} has the checksum {found[:16]}..., not {info.weights_sha256[:16]}...",
            f"It was changed or damaged. {AGAIN}",
        )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, remembered as long as its time and size stay the same."""
    state = path.stat()
    key = (str(path.resolve()), state.st_mtime_ns, state.st_size)
    if key not in _hashes:
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        _hashes[key] = digest.hexdigest()
    return _hashes[key]


def read_header(info: PackInfo) -> dict[str, TensorEntry]:
    """The tensors that the header of the weights announces; the data are not read.

    Raises:
        PackError: another format (pickle, zip), a header that is cut short, too long or no JSON, a tensor of an unknown
            type, data that overlap, leave gaps or do not fit the file.
    """
    path = check_file(info, WEIGHTS_FILE, LARGEST_WEIGHTS)
    size = path.stat().st_size
    with path.open("rb") as stream:
        header, data_bytes = _header(info, stream, size)
    header.pop("__metadata__", None)
    try:
        tensors = {name: _entry(name, entry) for name, entry in header.items()}
        _check_layout(tensors, data_bytes)
    except ValueError as error:
        raise PackError(f"pack {info.name}: the header of {WEIGHTS_FILE} is wrong: {error}", AGAIN) from error
    return tensors


def _header(info: PackInfo, stream: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    start = stream.read(8)
    if start.startswith(b"PK") or (start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")):
        kind = "a zip archive (torch.save)" if start.startswith(b"PK") else "a pickle"
        raise PackError(
            f"pack {info.name}: {WEIGHTS_FILE} is {kind}, which can hold code", "Only safetensors files are read"
        )
    if len(start) < 8:
        raise PackError(f"pack {info.name}: {WEIGHTS_FILE} has only {size} bytes", AGAIN)
    (length,) = struct.unpack("<Q", start)
    if not 2 <= length <= min(LARGEST_HEADER, size - 8):
        raise PackError(
            f"pack {info.name}: {WEIGHTS_FILE} is no safetensors file: its header would have {length} of {size} bytes",
            AGAIN,
        )
    try:
        header = json.loads(stream.read(length).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise PackError(f"pack {info.name}: the header of {WEIGHTS_FILE} is no JSON ({error})", AGAIN) from error
    if not isinstance(header, dict):
        raise PackError(f"pack {info.name}: the header of {WEIGHTS_FILE} is no JSON object", AGAIN)
    return header, size - 8 - length


def _entry(name: str, entry: Any) -> TensorEntry:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {name[:80]!r} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in DTYPE_BYTES:
        raise ValueError(f"tensor {name[:80]!r} has the type {str(dtype)[:20]!r}, not {', '.join(DTYPE_BYTES)}")
    numbers = [shape, offsets]
    if not all(isinstance(part, list) and all(type(n) is int and n >= 0 for n in part) for part in numbers):
        raise ValueError(f"tensor {name[:80]!r} has a shape or offsets that are no whole numbers")
    if len(offsets) != 2 or len(shape) > 8 or offsets[1] - offsets[0] != math.prod(shape) * DTYPE_BYTES[dtype]:
        raise ValueError(f"tensor {name[:80]!r}: shape {str(shape)[:60]} does not fit offsets {str(offsets)[:60]}")
    return TensorEntry(dtype, tuple(shape), offsets[0], offsets[1])


def _check_layout(tensors: dict[str, TensorEntry], data_bytes: int) -> None:
    position = 0
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != position:
            raise ValueError(f"the data of tensor {name[:80]!r} begin at {entry.begin}, not at {position}")
        position = entry.end
    if position != data_bytes:
        raise ValueError(f"the tensors take {position} bytes, the file holds {data_bytes}")
