"""A scalar volume in memory, read from and written to any single-file format that SimpleITK knows."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..errors import InputError, StorageError, is_out_of_memory
from ..request import FORMATS
from .checksum import sha256_of
from .geometry import Geometry
from .nifti import check_complete


@dataclass(frozen=True, eq=False)
class Volume:
    """A stack of slices and where they lie.

    Attributes:
        array: (slices, rows, columns) float32, finite.
        geometry: its size is (columns, rows, slices).
    """

    array: NDArray[np.float32]
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.array.dtype != np.float32 or self.array.shape != self.geometry.size[::-1]:
            raise ValueError(f"array {self.array.dtype} {self.array.shape} is not float32 {self.geometry.size[::-1]}")

    @property
    def sha256(self) -> str:
        """Of the voxels (`checksum.sha256_of`)."""
        return sha256_of(self.array)


def read_volume(path: str | Path) -> Volume:
    """Read a scalar volume; a 2D image becomes a volume of one slice, a 4D file with one frame a 3D volume.

    Raises:
        InputError: a file that is missing, unreadable, empty or no image; colour, vector or complex voxels; several
            frames; voxels that are NaN or infinite; a header without sensible geometry.
        MemoryError, RuntimeError: where `errors.is_out_of_memory`.
    """
    name = str(path)
    _check_file(Path(path))
    reader = sitk.ImageFileReader()
    reader.SetFileName(name)
    try:
        reader.ReadImageInformation()
    except (RuntimeError, MemoryError) as error:
        raise InputError(
            f"{name} is not an image that can be read ({_reason(error)})", "Save it as .nii.gz, .nrrd or .mha"
        ) from error
    _check_header(name, reader)
    try:
        check_complete(Path(path))
        image = reader.Execute()
    except (OSError, RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"{name} cannot be read to its end ({_reason(error)})", "It may be cut short: copy or export it again"
        ) from error
    try:
        geometry = _geometry(image)
    except InputError as error:
        raise InputError(f"{name}: {error.message}", error.hint) from error
    return Volume(_finite_float32(name, image, geometry.size[::-1]), geometry)


def write_volume(volume: Volume, path: str | Path) -> None:
    """Write a volume as float32; the suffix decides the format (`FORMATS`).

    The file is written beside its place and moved there when it is complete, so an older file of that name stays
    whole if something goes wrong, and nothing half-written is left.

    Raises:
        StorageError: an unknown suffix, a folder that is missing or not writable, no room.
        MemoryError, RuntimeError: where `errors.is_out_of_memory`.
    """
    path = Path(path)
    suffix = next((s for s in FORMATS if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise StorageError(f"{path} has no suffix of a volume format", f"Use one of {', '.join(FORMATS)}")
    _check_folder(path, volume.array.nbytes)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial{suffix}")
    try:
        sitk.WriteImage(to_image(volume), str(partial))
        _check_written(partial, volume)
        partial.replace(path)
    except (OSError, RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise
        raise StorageError(
            f"{path} cannot be written ({_reason(error)}); it needs up to {_size(volume.array.nbytes)}, "
            f"{_size(_free(path.parent))} are free",
            "Free some space or choose another folder",
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def require_contrast(volume: Volume, name: str) -> None:
    """Refuse a volume whose voxels are all equal.

    Raises:
        InputError: with `name` and the value.
    """
    low, high = float(volume.array.min()), float(volume.array.max())
    if low == high:
        raise InputError(f"all voxels of {name} have the value {low:g}", "Choose a volume that shows something")


def _check_file(path: Path) -> None:
    try:
        # Opening a pipe or a device would wait for ever.
        if path.is_dir():
            raise InputError(
                f"{path} is a folder", "A folder of DICOM slices can be loaded in 3D Slicer and saved as .nrrd"
            )
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is no plain file", "Give an image file")
        with path.open("rb") as stream:
            first = stream.read(1)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist", "Check the name and the folder") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be opened ({_reason(error)})", "Check the rights of the file") from error
    if not first:
        raise InputError(f"{path} is empty (0 bytes)", "Export or copy it again")


def _check_header(name: str, reader: sitk.ImageFileReader) -> None:
    size, components, kind = reader.GetSize(), reader.GetNumberOfComponents(), reader.GetPixelID()
    kind_name = sitk.GetPixelIDValueAsString(kind)
    if kind in (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64):
        raise InputError(f"{name} has complex voxels ({kind_name})", "Give the magnitude image")
    if components != 1 or "vector" in kind_name:
        raise InputError(
            f"{name} has {components} values in each voxel ({kind_name}): a colour image or a vector field",
            "Give an image with one value in each voxel",
        )
    if len(size) not in (2, 3) and any(n != 1 for n in size[3:]):
        frames = "x".join(str(n) for n in size[3:])
        raise InputError(f"{name} has {len(size)} dimensions with {frames} frames", "Extract one frame first")
    if len(size) < 2 or any(n == 0 for n in size):
        raise InputError(f"{name} has the size {'x'.join(map(str, size))}", "Give an image with at least one voxel")
    needed, there = 4 * int(np.prod(size, dtype=object)), _memory()
    if there and needed > there:
        raise InputError(
            f"{name} has the size {'x'.join(map(str, size))}, that is {_size(needed)}, "
            f"but this machine has {_size(there)} of memory",
            "Crop it first",
        )


def _geometry(image: sitk.Image) -> Geometry:
    n = image.GetDimension()
    direction = np.eye(3)
    kept = min(n, 3)
    direction[:kept, :kept] = np.array(image.GetDirection()).reshape(n, n)[:kept, :kept]
    x, y, z = (*image.GetSize(), 1)[:3]
    sx, sy, sz = (*image.GetSpacing(), 1.0)[:3]
    ox, oy, oz = (*image.GetOrigin(), 0.0)[:3]
    return Geometry((x, y, z), (sx, sy, sz), (ox, oy, oz), tuple(float(d) for d in direction.ravel()))


def _finite_float32(name: str, image: sitk.Image, shape: tuple[int, ...]) -> NDArray[np.float32]:
    # Slice by slice, so that no mask and no second copy of the whole volume is made beside the two that are needed.
    source = sitk.GetArrayViewFromImage(image).reshape(shape)
    array = np.empty(shape, dtype=np.float32)
    bad, first, numbers = 0, None, True
    for number, (values, target) in enumerate(zip(source, array)):
        with np.errstate(over="ignore", invalid="ignore"):
            target[...] = values
        wrong = ~np.isfinite(target)
        if not wrong.any():
            continue
        bad += int(wrong.sum())
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        first = first or (column, row, number)
        numbers = numbers and bool(np.isfinite(values[wrong]).all())
    if first is not None:
        what = f"larger than {np.finfo(np.float32).max:.3g}" if numbers else "NaN or infinite"
        raise InputError(
            f"{name} has {bad} voxels that are {what}, the first at column {first[0]}, row {first[1]}, "
            f"slice {first[2]}",
            "Replace them or export the volume again",
        )
    return array


def to_image(volume: Volume) -> sitk.Image:
    """As SimpleITK holds it; a copy."""
    image = sitk.GetImageFromArray(volume.array)
    image.SetSpacing(volume.geometry.spacing)
    image.SetOrigin(volume.geometry.origin)
    image.SetDirection(volume.geometry.direction)
    return image


def _check_folder(path: Path, needed: int) -> None:
    folder = path.parent
    if path.is_dir():
        raise StorageError(f"{path} is a folder", "Give the name of a file")
    if not folder.is_dir():
        raise StorageError(f"the folder {folder} does not exist", "Make it first or choose another one")
    if not os.access(folder, os.W_OK):
        raise StorageError(f"there is no right to write into {folder}", "Choose another folder")
    free = _free(folder)
    if free < needed:
        raise StorageError(
            f"{path} needs up to {_size(needed)}, {_size(free)} are free", "Free some space or choose another folder"
        )


def _check_written(partial: Path, volume: Volume) -> None:
    # ITK's NIfTI writer does not notice a full disk (seen with a limit on file size), so the file is read back.
    check_complete(partial)
    image = sitk.ReadImage(str(partial))
    written = sitk.GetArrayViewFromImage(image)
    if not all(np.array_equal(mine, its, equal_nan=True) for mine, its in zip(written, volume.array)):
        raise OSError("the file does not hold what was written")


def _free(folder: Path) -> int:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free
    return 0


def _memory() -> int:
    """Bytes of physical memory, 0 where the system does not say."""
    with contextlib.suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 0


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _reason(error: BaseException) -> str:
    """What an ITK message says, without addresses, source lines and the operating system's guess."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = re.split(r"(?:ERROR|error) ?:|\[nrrd\] \w+:", str(error))[-1]
    text = re.sub(r"\w+\(0x[0-9a-f]+\):|Reason:.*", "", text)
    text = " ".join(text.split()).rstrip(". ") or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
