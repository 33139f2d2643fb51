"""`dicom`: a result as a DICOM series, marked as synthetic."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError
from .running import add_command


def add_commands(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `dicom`."""
    parser = add_command(
        subparsers,
        common,
        "dicom",
        dicom,
        "write a result as a DICOM series that is marked as synthetic",
        "Write a result as a new DICOM series (MR images, one file a slice) that says it is synthetic, of what model "
        "and from which images.",
    )
    parser.add_argument("result", metavar="RESULT", type=Path, help="a result; its .json lies beside it")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="a new folder")
    parser.add_argument(
        "--source",
        metavar="FILE|FOLDER",
        type=Path,
        action="append",
        default=[],
        help="DICOM images that the result was computed from: patient and study are theirs",
    )
    parser.add_argument("--name", default="", help="description of the series [default: the file's name]")


def dicom(options: argparse.Namespace) -> None:
    """The command. Raises InputError, StorageError."""
    from ..imaging.checksum import sha256_of
    from ..imaging.dicom import write_dicom
    from ..imaging.volume import read_volume

    provenance, digest = provenance_beside(options.result)
    volume = read_volume(options.result)
    if sha256_of(volume.array) != digest:
        hint = "Export the result as it was computed"
        raise InputError(f"{options.result} does not hold the values that its provenance names", hint)
    files = write_dicom(
        volume.array,
        volume.geometry,
        options.folder,
        name=options.name or options.result.name.split(".")[0],
        provenance=provenance,
        sources=list(sources(options.source)),
    )
    print(f"{options.folder}: {len(files)} images")


def provenance_beside(result: Path) -> tuple[dict[str, Any], str]:
    """The provenance that names a volume file, and the checksum of its voxels. Raises InputError."""
    hint = "A result has its provenance beside it, in a .json file of the same name"
    if not result.exists():
        raise InputError(f"{result} does not exist", "Check the name and the folder")
    for path in sorted(result.parent.glob("*.json")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            for output in values["outputs"].values():
                if output["file"] == result.name and values["synthetic"] is True:
                    return values, str(output["sha256"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            continue  # some other JSON file
    raise InputError(f"there is no provenance of {result}", hint)


def sources(given: list[Path]) -> Iterator[Path]:
    """Files as they are; of folders all DICOM files in them. Raises InputError."""
    for place in given:
        if not place.is_dir():
            yield place
            continue
        found = [path for path in sorted(place.rglob("*")) if path.is_file() and _is_dicom(path)]
        if not found:
            raise InputError(f"there is no DICOM file in {place}", "Name the folder of the series")
        yield from found


def _is_dicom(path: Path) -> bool:
    if path.name == "DICOMDIR":
        return False
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"
