"""NRRD files between panel and worker (raw, three axes), written and read without holding Python's other threads up.

The format: https://teem.sourceforge.net/nrrd/format.html. Everything else reads and writes volumes by SimpleITK
(`volume`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

EXPECTED = {"type": ("float",), "dimension": ("3",), "encoding": ("raw",)}
TO_LPS = {"left-posterior-superior": (1, 1, 1), "right-anterior-superior": (-1, -1, 1)}
LONGEST_HEADER = 65536


def write_raw_nrrd(path: Path, voxels: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """Write voxels (slices, rows, columns) of any real type.

    Args:
        path: the new file.
        voxels: the image.
        affine: (4, 4), from (column, row, slice, 1) to LPS mm.

    Raises:
        OSError: there is no room, or no folder.
    """
    kind = {"float32": "float", "float64": "double"}.get(voxels.dtype.name, voxels.dtype.name)
    directions = " ".join(_text(column) for column in affine[:3, :3].T)
    header = [
        "NRRD0004",
        f"type: {kind}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(size) for size in voxels.shape[::-1])}",
        f"space directions: {directions}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: raw",
        f"space origin: {_text(affine[:3, 3])}",
    ]
    with path.open("wb") as stream:
        stream.write("\n".join([*header, "", ""]).encode())
        stream.write(np.ascontiguousarray(voxels, voxels.dtype.newbyteorder("<")).data)


def read_raw_nrrd(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The voxels (slices, rows, columns), and the matrix (4, 4) from (column, row, slice, 1) to LPS mm.

    Raises:
        InputError: a file that is missing, cut short or of another kind.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(LONGEST_HEADER)
            header, _, _ = start.partition(b"\n\n")
            fields = _fields(header.decode("ascii", errors="replace"))
            for name, known in {**EXPECTED, "space": tuple(TO_LPS)}.items():
                if fields.get(name) not in known:
                    raise ValueError(f"its {name} is {fields.get(name)}, not {' or '.join(known)}")
            columns, rows, slices = map(int, fields["sizes"].split())
            affine = np.eye(4)
            affine[:3, :3] = np.array([_vector(text) for text in fields["space directions"].split()]).T
            affine[:3, 3] = _vector(fields["space origin"])
            affine[:3] *= np.array(TO_LPS[fields["space"]])[:, None]
            stream.seek(len(header) + 2)
            order = "<" if fields.get("endian", "little") == "little" else ">"
            voxels = np.fromfile(stream, f"{order}f4", slices * rows * columns)
            return voxels.astype(np.float32, copy=False).reshape(slices, rows, columns), affine
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error})", "Run it again") from error


def _fields(header: str) -> dict[str, str]:
    magic, *lines = header.splitlines()
    if not magic.startswith("NRRD"):
        raise ValueError("it is no NRRD file")
    return dict(line.split(": ", 1) for line in lines if ": " in line and not line.startswith("#"))


def _text(vector: NDArray[np.float64]) -> str:
    return f"({','.join(repr(float(number)) for number in vector)})"


def _vector(text: str) -> list[float]:
    return [float(part) for part in text.strip("()").split(",")]
