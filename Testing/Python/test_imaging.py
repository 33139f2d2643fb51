"""Volumes on disk and in memory: exact geometry, and a clear refusal of everything that is no scalar volume."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from MRDiffusionLib.errors import InputError, StorageError
from MRDiffusionLib.imaging import (
    Geometry,
    Volume,
    read_volume,
    require_contrast,
    sha256_of,
    voxel_positions,
    write_volume,
)
from MRDiffusionLib.imaging.nrrd import read_raw_nrrd, write_raw_nrrd

FORMATS = (".nii.gz", ".nii", ".nrrd", ".mha")


def rotation(x: float, y: float, z: float) -> np.ndarray:
    """Rotation about the three axes, radians."""
    (cx, sx), (cy, sy), (cz, sz) = ((np.cos(a), np.sin(a)) for a in (x, y, z))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    return np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]]) @ about_y @ about_x


def oblique(left_handed: bool = False, size: tuple[int, int, int] = (9, 8, 5)) -> Geometry:
    matrix = rotation(0.3, -0.7, 1.9)
    if left_handed:
        matrix[:, 2] *= -1
    direction = tuple(float(v) for v in matrix.ravel())
    return Geometry(size, (0.9375, 1.25, 3.3), (-91.3, 12.7, 1 / 3), direction)


def volume_on(geometry: Geometry, seed: int = 0) -> Volume:
    values = np.random.default_rng(seed).normal(100, 40, geometry.size[::-1])
    return Volume(values.astype(np.float32), geometry)


def write_array(array: np.ndarray, path: Path, **kwargs: bool) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(array, **kwargs), str(path))
    return path


# Geometry


@pytest.mark.parametrize("left_handed", [False, True])
@pytest.mark.parametrize("suffix", FORMATS)
def test_geometry_and_values_survive_the_file(tmp_path: Path, suffix: str, left_handed: bool) -> None:
    volume = volume_on(oblique(left_handed))
    write_volume(volume, tmp_path / f"volume{suffix}")
    again = read_volume(tmp_path / f"volume{suffix}")
    assert np.array_equal(again.array, volume.array)
    assert again.geometry.size == volume.geometry.size
    distance = np.linalg.norm(voxel_positions(again.geometry) - voxel_positions(volume.geometry), axis=-1)
    assert distance.max() < (1e-4 if suffix.startswith(".nii") else 1e-12)
    assert again.geometry.agrees_with(volume.geometry)
    assert np.sign(np.linalg.det(again.geometry.direction_matrix)) == (-1 if left_handed else 1)


@pytest.mark.parametrize("left_handed", [False, True])
def test_positions_are_those_of_simpleitk(tmp_path: Path, left_handed: bool) -> None:
    volume = volume_on(oblique(left_handed))
    write_volume(volume, tmp_path / "volume.mha")
    image = sitk.ReadImage(str(tmp_path / "volume.mha"))
    positions = voxel_positions(read_volume(tmp_path / "volume.mha").geometry)
    assert positions.shape == (5, 8, 9, 3)
    for index in [(0, 0, 0), (8, 0, 0), (0, 7, 0), (0, 0, 4), (3, 5, 2)]:
        expected = image.TransformIndexToPhysicalPoint(index)
        assert np.allclose(positions[index[::-1]], expected, atol=1e-9)
        assert volume.array[index[::-1]] == pytest.approx(image[index])


@pytest.mark.parametrize("matrix", [(16, 18), (15, 27), (8, 9), (4, 3), (37, 61)])
@pytest.mark.parametrize("left_handed", [False, True])
def test_refined_grid_keeps_the_corners_of_the_field_of_view(matrix: tuple[int, int], left_handed: bool) -> None:
    coarse = oblique(left_handed)
    fine = coarse.refined(matrix)
    assert fine.size == (matrix[1], matrix[0], 5)
    assert np.allclose(fine.field_of_view, coarse.field_of_view, rtol=1e-12)

    def outer_corners(g: Geometry) -> np.ndarray:
        ends = [(-0.5, n - 0.5) for n in g.size]
        index = np.array([(x, y, z, 1) for x in ends[0] for y in ends[1] for z in ends[2]])
        return (index @ g.affine().T)[:, :3]

    assert np.allclose(outer_corners(fine), outer_corners(coarse), atol=1e-9)


def test_refined_grid_puts_an_analytic_object_where_it_is() -> None:
    # Integrating a Gaussian over the voxels of either grid gives the same centre of mass in mm.
    coarse = oblique(size=(32, 24, 1))
    centre = np.array((*coarse.origin,)) + coarse.direction_matrix @ (np.array(coarse.spacing) * (13.3, 10.6, 0))
    found = []
    for grid in (coarse, coarse.refined((72, 128))):
        positions = voxel_positions(grid)
        weight = np.exp(-0.5 * ((positions - centre) ** 2).sum(-1) / 3.0**2)
        found.append((positions * weight[..., None]).sum((0, 1, 2)) / weight.sum())
    assert np.linalg.norm(found[0] - centre) < 1e-3
    assert np.linalg.norm(found[1] - centre) < 1e-3


def test_refining_to_the_same_matrix_changes_nothing() -> None:
    assert oblique().refined((8, 9)) == oblique()


def test_json_keeps_every_bit() -> None:
    spacing = (0.1, 1 / 3, np.nextafter(2.0, 3.0).item())
    geometry = Geometry((3, 2, 1), spacing, (1e-300, -0.0, 1e17), oblique().direction)
    again = Geometry.from_json(json.loads(json.dumps(geometry.to_json())))
    assert again == geometry
    assert [n.hex() for n in again.origin] == [n.hex() for n in geometry.origin]


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("size", [3, 2], "size"),
        ("size", [3, 2, 0], "size"),
        ("spacing", [1.0, 1.0, 0.0], "spacing"),
        ("spacing", [1.0, 1.0, float("nan")], "spacing"),
        ("origin", [0.0, float("inf"), 0.0], "origin"),
        ("direction", [1.0] * 9, "perpendicular"),
        ("direction", "east", "direction = 'east'"),
        ("spacing", [1.0, 1.0, True], "spacing"),
    ],
)
def test_impossible_geometry_is_refused(entry: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Geometry.from_json({**oblique().to_json(), entry: value})


def test_geometry_needs_exactly_its_entries() -> None:
    values = oblique().to_json()
    with pytest.raises(InputError, match="geometry"):
        Geometry.from_json({**values, "handedness": 1})
    del values["origin"]
    with pytest.raises(InputError, match="geometry"):
        Geometry.from_json(values)


def test_differences_name_both_numbers() -> None:
    one = oblique()
    other = Geometry(one.size, (0.9375, 1.25, 3.4), one.origin, one.direction)
    assert one.differences(one) == []
    text = "; ".join(one.differences(other))
    assert "spacing" in text and "3.3" in text and "3.4" in text and "0.4 mm apart" in text
    assert "(9, 8, 5)" in one.differences(oblique(size=(9, 8, 6)))[0]


# Reading


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_number_type_is_read(tmp_path: Path, kind: str) -> None:
    low = 0 if kind[0] == "u" else -90
    array = np.linspace(low, 110, 2 * 3 * 5).astype(kind).reshape(2, 3, 5)
    volume = read_volume(write_array(array, tmp_path / "volume.nrrd"))
    assert volume.array.dtype == np.float32 and volume.array.shape == (2, 3, 5)
    assert np.array_equal(volume.array, array.astype(np.float32))


def test_large_values_are_kept_in_single_precision(tmp_path: Path) -> None:
    array = np.array([[[-3e38, 3e38, 1e-30]]])
    assert np.allclose(read_volume(write_array(array, tmp_path / "v.nrrd")).array, array, rtol=1e-6)


@pytest.mark.parametrize("suffix", FORMATS)
def test_one_frame_and_one_slice_become_volumes(tmp_path: Path, suffix: str) -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.5, 2.0, 4.0))
    image.SetOrigin((5.0, -6.0, 7.0))
    sitk.WriteImage(sitk.JoinSeries([image]), str(tmp_path / f"frame{suffix}"))
    frame = read_volume(tmp_path / f"frame{suffix}")
    assert np.array_equal(frame.array, array)
    assert frame.geometry == Geometry((4, 3, 2), (1.5, 2.0, 4.0), (5.0, -6.0, 7.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    flat = read_volume(write_array(array[0], tmp_path / f"flat{suffix}"))
    assert np.array_equal(flat.array, array[:1])
    assert flat.geometry.size == (4, 3, 1)


def test_several_frames_are_refused(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.zeros((2, 3, 4), np.float32))
    path = tmp_path / "series.nii.gz"
    sitk.WriteImage(sitk.JoinSeries([image] * 3), str(path))
    with pytest.raises(InputError, match="4 dimensions with 3 frames") as caught:
        read_volume(path)
    assert str(path) in caught.value.message and caught.value.hint


@pytest.mark.parametrize("suffix", FORMATS)
def test_colour_and_vectors_are_refused(tmp_path: Path, suffix: str) -> None:
    array = np.zeros((2, 3, 4, 3), np.uint8)
    with pytest.raises(InputError, match="3 values in each voxel"):
        read_volume(write_array(array, tmp_path / f"colour{suffix}", isVector=True))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_complex_values_are_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InputError, match="complex"):
        read_volume(write_array(np.zeros((2, 3, 4), np.complex64), tmp_path / f"k{suffix}"))


def test_missing_folder_empty_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.nii does not exist"):
        read_volume(tmp_path / "none.nii")
    with pytest.raises(InputError, match="is a folder"):
        read_volume(tmp_path)
    (tmp_path / "empty.nrrd").touch()
    with pytest.raises(InputError, match="empty"):
        read_volume(tmp_path / "empty.nrrd")
    for name in ("text.nii", "text.nii.gz", "text.nrrd", "text.mha", "text.txt"):
        (tmp_path / name).write_bytes(b"These are words. " * 100)
        with pytest.raises(InputError, match="not an image") as caught:
            read_volume(tmp_path / name)
        assert name in caught.value.message and "0x" not in caught.value.message


def test_a_file_without_the_right_to_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_array(np.zeros((2, 3, 4)), tmp_path / "secret.nrrd")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        read_volume(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.nii")
    with pytest.raises(InputError, match="no plain file"):
        read_volume(tmp_path / "pipe.nii")


@pytest.mark.parametrize("kept", [0.5, 0.97])
@pytest.mark.parametrize("suffix", FORMATS)
def test_files_that_were_cut_short_are_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"volume{suffix}"
    write_volume(volume_on(oblique()), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InputError, match=r"cannot be read|not an image"):
        read_volume(path)


def test_header_larger_than_the_memory_is_refused(tmp_path: Path) -> None:
    head = b"NRRD0004\ntype: float\ndimension: 3\nsizes: 90000 90000 90000\nencoding: raw\nendian: little\n\n"
    (tmp_path / "huge.nrrd").write_bytes(head + b"0" * 64)
    with pytest.raises(InputError, match="90000x90000x90000"):
        read_volume(tmp_path / "huge.nrrd")


def test_sheared_axes_are_refused(tmp_path: Path) -> None:
    head = (
        b"NRRD0004\ntype: uchar\ndimension: 3\nspace: left-posterior-superior\nsizes: 2 2 2\n"
        b"space directions: (1,0,0) (0.5,1,0) (0,0,1)\nspace origin: (0,0,0)\nencoding: raw\nendian: little\n\n"
    )
    (tmp_path / "shear.nrrd").write_bytes(head + b"01234567")
    with pytest.raises(InputError, match="perpendicular") as caught:
        read_volume(tmp_path / "shear.nrrd")
    assert "shear.nrrd" in caught.value.message


def test_values_that_are_not_numbers_are_counted_and_located(tmp_path: Path) -> None:
    array = np.zeros((4, 5, 6))
    array[2, 3, 1], array[3, 0, 0], array[3, 0, 5] = np.nan, np.inf, -np.inf
    with pytest.raises(InputError, match=r"3 voxels that are NaN or infinite.*column 1, row 3, slice 2"):
        read_volume(write_array(array, tmp_path / "bad.nrrd"))
    with pytest.raises(InputError, match=r"1 voxels that are larger than 3\.4e\+38"):
        read_volume(write_array(np.array([[[1e300, 1.0]]]), tmp_path / "large.nrrd"))


def test_reading_keeps_only_the_array_in_memory(tmp_path: Path) -> None:
    path = write_array(np.ones((40, 100, 100), np.int16), tmp_path / "volume.nrrd")
    tracemalloc.start()
    volume = read_volume(path)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1.05 * volume.array.nbytes
    assert peak < 1.2 * volume.array.nbytes


def test_constant_volume_is_refused_by_name() -> None:
    flat = Volume(np.full((5, 8, 9), 7, np.float32), oblique())
    with pytest.raises(InputError, match="all voxels of T1 have the value 7"):
        require_contrast(flat, "T1")
    require_contrast(volume_on(oblique()), "T1")


def test_volume_and_geometry_must_fit() -> None:
    with pytest.raises(ValueError, match="float32"):
        Volume(np.zeros((5, 8, 9)), oblique())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\(9, 8, 5\)"):
        Volume(np.zeros((9, 8, 5), np.float32), oblique())


# Writing


def test_older_file_is_replaced_only_by_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.nii.gz"
    write_volume(volume_on(oblique()), path)
    before = path.read_bytes()

    def fail(image: sitk.Image, name: str) -> None:
        Path(name).write_bytes(b"half")
        raise RuntimeError("ITK ERROR: MetaImageIO(0x7f): no room")

    monkeypatch.setattr(sitk, "WriteImage", fail)
    with pytest.raises(StorageError, match=r"no room.*needs up to 0\.0 MB, .* are free"):
        write_volume(volume_on(oblique(), 1), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["result.nii.gz"]
    monkeypatch.undo()
    write_volume(volume_on(oblique(), 1), path)
    assert path.read_bytes() != before


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("Exception thrown in SimpleITK new_Image: Failed to allocate memory for image")],
)
def test_no_memory_is_not_called_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    path = tmp_path / "result.nrrd"
    write_volume(volume_on(oblique()), path)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(sitk, "WriteImage", fail)
    monkeypatch.setattr(sitk.ImageFileReader, "Execute", fail)
    for act in (lambda: write_volume(volume_on(oblique()), tmp_path / "other.nrrd"), lambda: read_volume(path)):
        with pytest.raises(type(error)) as caught:
            act()
        assert caught.value is error
    assert [p.name for p in tmp_path.iterdir()] == ["result.nrrd"]


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="this system has no limit on file size")
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_disk_that_fills_up_is_noticed(tmp_path: Path, suffix: str) -> None:
    # A limit on file size makes every write fail half-way, as a full disk does; the tail of the volume is zero, as
    # ITK's reader makes it up.
    program = f"""
import resource, signal
import numpy as np
from MRDiffusionLib.errors import StorageError
from MRDiffusionLib.imaging import Geometry, Volume, write_volume
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
array = np.random.default_rng(0).random((20, 100, 100), dtype=np.float32)
array[-1] = 0
volume = Volume(array, Geometry((100, 100, 20), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)))
try:
    write_volume(volume, {str(tmp_path / ("full" + suffix))!r})
except StorageError as error:
    print("StorageError:", error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "StorageError:" in done.stdout and "cannot be written" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_told_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(StorageError, match=r"0\.0 MB are free") as caught:
        write_volume(volume_on(oblique()), tmp_path / "result.nrrd")
    assert "Free some space" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_wrong_places_to_write_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = volume_on(oblique())
    with pytest.raises(StorageError, match="suffix"):
        write_volume(volume, tmp_path / "result.jpg")
    with pytest.raises(StorageError, match="does not exist"):
        write_volume(volume, tmp_path / "none" / "result.nrrd")
    (tmp_path / "folder.nrrd").mkdir()
    with pytest.raises(StorageError, match="is a folder"):
        write_volume(volume, tmp_path / "folder.nrrd")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StorageError, match="no right to write"):
        write_volume(volume, tmp_path / "result.nrrd")


def test_written_file_has_float32_and_ordinary_rights(tmp_path: Path) -> None:
    path = tmp_path / "result.NRRD"
    write_volume(volume_on(oblique()), path)
    assert sitk.ReadImage(str(path)).GetPixelID() == sitk.sitkFloat32
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_hash_is_that_of_the_values_in_c_order() -> None:
    array = np.random.default_rng(0).random((3, 4, 5), dtype=np.float32)
    expected = hashlib.sha256(array.tobytes()).hexdigest()
    assert sha256_of(array) == expected
    assert sha256_of(np.asfortranarray(array)) == expected
    assert sha256_of(array[::-1]) != expected
    assert sha256_of(array.ravel()) == expected


# Results of the worker, read fast


@pytest.mark.parametrize("left_handed", [False, True])
@pytest.mark.parametrize("size", [(9, 8, 5), (8, 8, 1)])
def test_raw_nrrd_is_what_simpleitk_reads(tmp_path: Path, left_handed: bool, size: tuple[int, int, int]) -> None:
    volume = volume_on(oblique(left_handed, size))
    write_volume(volume, tmp_path / "a.nrrd")
    voxels, affine = read_raw_nrrd(tmp_path / "a.nrrd")
    expected = read_volume(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(voxels, expected.array)
    corner = np.array(size) - 1
    image = sitk.ReadImage(str(tmp_path / "a.nrrd"))
    for index in ((0, 0, 0), tuple(int(n) for n in corner)):
        found = affine @ (*index, 1)
        np.testing.assert_allclose(found[:3], image.TransformIndexToPhysicalPoint(index), atol=1e-9)
    big = (tmp_path / "a.nrrd").read_bytes().replace(b"endian: little", b"endian: big", 1)
    head, _, data = big.partition(b"\n\n")
    (tmp_path / "b.nrrd").write_bytes(head + b"\n\n" + np.frombuffer(data, "<f4").astype(">f4").tobytes())
    np.testing.assert_array_equal(read_raw_nrrd(tmp_path / "b.nrrd")[0], expected.array)
    (tmp_path / "c.nrrd").write_bytes(big.replace(b"left-posterior", b"right-anterior", 1))
    np.testing.assert_array_equal(read_raw_nrrd(tmp_path / "c.nrrd")[1], np.diag([-1, -1, 1, 1]) @ affine)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", ">f8"])
@pytest.mark.parametrize("left_handed", [False, True])
def test_simpleitk_reads_what_is_written_raw(tmp_path: Path, kind: str, left_handed: bool) -> None:
    """Oblique, anisotropic, odd and even sizes, an array that is not contiguous."""
    whole = np.random.default_rng(1).uniform(-100, 100, (8, 4, 6)).astype(kind)
    voxels = whole[:5, :, ::2]
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    if (np.linalg.det(rotation) < 0) != left_handed:
        rotation[:, 0] *= -1
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = rotation * (1.7, 0.6, 5.0), (12.5, -40.0, 7.25)
    write_raw_nrrd(tmp_path / "a.nrrd", voxels, affine)
    image = sitk.ReadImage(str(tmp_path / "a.nrrd"))
    found = sitk.GetArrayFromImage(image)
    assert found.dtype == np.dtype(kind).newbyteorder("=")
    np.testing.assert_array_equal(found, voxels)
    for index in ((0, 0, 0), (2, 3, 4)):
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(index), (affine @ (*index, 1))[:3], atol=1e-12)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[:-1], "cannot be read"),
        (lambda data: data[:40], "its type is None"),
        (lambda data: b"", "cannot be read"),
        (lambda data: data.replace(b"NRRD", b"NOPE", 1), "it is no NRRD file"),
        (lambda data: data.replace(b"encoding: raw", b"encoding: gzip", 1), "its encoding is gzip, not raw"),
        (lambda data: data.replace(b"type: float", b"type: short", 1), "its type is short, not float"),
        (lambda data: data.replace(b"sizes: 9", b"sizes: x", 1), "cannot be read"),
        (lambda data: data.replace(b"space origin", b"space orison", 1), "space origin"),
    ],
)
def test_other_files_are_no_raw_nrrd(tmp_path: Path, spoil, message: str) -> None:
    write_volume(volume_on(oblique()), tmp_path / "a.nrrd")
    (tmp_path / "a.nrrd").write_bytes(spoil((tmp_path / "a.nrrd").read_bytes()))
    with pytest.raises(InputError, match=message):
        read_raw_nrrd(tmp_path / "a.nrrd")
    with pytest.raises(InputError, match="cannot be read"):
        read_raw_nrrd(tmp_path / "missing.nrrd")
