"""Super-resolution from a file to a volume, with a tiny pack of random weights: everything but the picture's beauty."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from MRDiffusionLib.diffusion import Cancelled
from MRDiffusionLib.errors import DeviceError, InputError, PackError, SettingError
from MRDiffusionLib.imaging.geometry import Geometry
from MRDiffusionLib.imaging.kspace_file import read_k_space
from MRDiffusionLib.imaging.volume import Volume, write_volume
from MRDiffusionLib.physics.fourier import fft2c
from MRDiffusionLib.physics.guidance import METHODS
from MRDiffusionLib.physics.kspace import resize_image, resize_k_space
from MRDiffusionLib.request import Progress, Request, Result, request_from_provenance
from MRDiffusionLib.settings import SuperResolutionSettings
from MRDiffusionLib.tasks import PackCache, run

FULL = (128, 128)


def oblique(columns: int, rows: int, slices: int, left_handed: bool = False) -> Geometry:
    """A turned, anisotropic grid away from the origin."""
    a, b = math.radians(25), math.radians(-40)
    turn = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    direction = turn @ tilt @ np.diag([1, 1, -1 if left_handed else 1])
    return Geometry(
        (columns, rows, slices),
        (220 / columns, 210 / rows, 5.0),
        (-91.5, 33.25, 12.0),
        tuple(float(d) for d in direction.flat),
    )


def phantom(rows: int, columns: int, slices: int) -> np.ndarray:
    """Smooth blobs, (slices, rows, columns), that both grids can hold; brightness differs by slice."""
    y, x = ((np.arange(n) + 0.5) / n - 0.5 for n in (rows, columns))
    head = np.exp(-((y[:, None] / 0.2) ** 2 + ((x + 0.05) / 0.15) ** 2))
    spot = np.exp(-(((y[:, None] - 0.12) / 0.06) ** 2 + ((x - 0.1) / 0.06) ** 2))
    return np.stack([(300 + 20 * k) * head + 150 * spot for k in range(slices)]).astype(np.float32)


@pytest.fixture(scope="module")
def cache() -> PackCache:
    return PackCache()


@pytest.fixture
def low(tmp_path: Path) -> Path:
    path = tmp_path / "low.nrrd"
    write_volume(Volume(phantom(48, 40, 3), oblique(40, 48, 3)), path)
    return path


def request(pack: Path, path: Path, **settings: Any) -> Request:
    values = {"steps": 3, "noise": 0.0, **settings}
    return Request(
        "superresolution",
        str(pack),
        {"low_resolution": str(path)},
        SuperResolutionSettings(**values),
        seed=7,
        device="cpu",
        precision="fp32",
    )


def array(result: Result, role: str = "result") -> np.ndarray:
    return result.volumes[role].array


@pytest.mark.parametrize("matrix", [(64, 64), (32, 32), (48, 40), (37, 61), (128, 128)])
@pytest.mark.parametrize("left_handed", [False, True])
def test_one_pack_serves_any_lower_resolution_and_keeps_the_anatomy_in_place(
    tiny_pack: Path, tmp_path: Path, cache: PackCache, matrix: tuple[int, int], left_handed: bool
) -> None:
    path = tmp_path / "low.nrrd"
    given = Volume(phantom(*matrix, 2), oblique(matrix[1], matrix[0], 2, left_handed))
    write_volume(given, path)
    result = run(request(tiny_pack, path), cache=cache)
    volume = result.volumes["result"]
    # Same field of view: outer voxel corners coincide, direction and handedness stay.
    fine, coarse = volume.geometry.affine(), given.geometry.affine()
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        corners = [
            affine @ [i * size[0] - 0.5, j * size[1] - 0.5, 1, 1]
            for affine, size in ((fine, volume.geometry.size), (coarse, given.geometry.size))
        ]
        assert np.allclose(*corners, atol=1e-9)
    assert volume.geometry.direction == pytest.approx(given.geometry.direction, abs=1e-12)
    # With full weight the measured band is the measurement, on the same positions and at the same brightness.
    back = resize_image(torch.from_numpy(volume.array), matrix).numpy()
    measured = resize_image(resize_image(torch.from_numpy(given.array), FULL), matrix).numpy()
    assert np.abs(back - measured).max() < 1e-3 * given.array.max()


def test_a_slice_redrawn_alone_is_the_same(tiny_pack: Path, low: Path, cache: PackCache) -> None:
    whole = array(run(request(tiny_pack, low, samples=2), cache=cache))
    alone = run(replace(request(tiny_pack, low, samples=2), slices=(1,)), cache=cache)
    assert np.abs(array(alone)[0] - whole[1]).max() < 1e-4 * whole.max()
    position = alone.volumes["result"].geometry.affine() @ [0, 0, 0, 1]
    assert np.allclose(
        position, run(request(tiny_pack, low), cache=cache).volumes["result"].geometry.affine() @ [0, 0, 1, 1]
    )


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_batch_does_not_change_the_result(tiny_pack: Path, low: Path, cache: PackCache, batch: int) -> None:
    expected = run(replace(request(tiny_pack, low, samples=2), batch=3), cache=cache)
    result = run(replace(request(tiny_pack, low, samples=2), batch=batch), cache=cache)
    for role in ("result", "standard_deviation"):
        assert np.abs(array(result, role) - array(expected, role)).max() < 1e-4 * array(expected).max()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sampler", ["ddim", "ancestral", "dpmpp_2m"])
def test_a_request_read_back_from_provenance_gives_the_same_bits(
    tiny_pack: Path, low: Path, cache: PackCache, method: str, sampler: str
) -> None:
    first = run(
        replace(request(tiny_pack, low, method=method, sampler=sampler, noise=None), precision="auto"), cache=cache
    )
    again = request_from_provenance(json.dumps(first.provenance))
    assert again.precision in ("fp32", "bf16") and again.batch > 0 and again.settings.noise is not None
    assert np.array_equal(array(run(again, cache=PackCache())), array(first))


def test_seeds_differ_and_samples_of_a_seed_average(tiny_pack: Path, low: Path, cache: PackCache) -> None:
    one = array(run(request(tiny_pack, low, weight=0.5), cache=cache))
    other = array(run(replace(request(tiny_pack, low, weight=0.5), seed=8), cache=cache))
    assert not np.allclose(one, other)
    several = run(request(tiny_pack, low, weight=0.5, samples=3), cache=cache)
    deviation = array(several, "standard_deviation")
    assert deviation.shape == array(several).shape and (deviation >= 0).all() and deviation.max() > 0
    assert "standard_deviation" not in run(request(tiny_pack, low), cache=cache).volumes


def test_provenance_says_what_made_the_result(tiny_pack: Path, low: Path, cache: PackCache) -> None:
    provenance = json.loads(json.dumps(run(request(tiny_pack, low), cache=cache).provenance))
    assert provenance["synthetic"] is True and "SYNTHETIC" in provenance["notice"]
    assert provenance["pack"]["name"] == "tiny" and len(provenance["pack"]["weights_sha256"]) == 64
    assert provenance["inputs"]["low_resolution"]["geometry"]["size"] == [40, 48, 3]
    assert {"torch", "monai", "SimpleITK", "numpy", "MRDiffusion"} <= set(provenance["versions"])


def test_the_report_is_in_the_units_of_the_input(tiny_pack: Path, low: Path, cache: PackCache) -> None:
    exact = run(request(tiny_pack, low), cache=cache).measurements
    assert exact["residual_over_signal"] < 1e-4 and exact["residual_over_noise"] is None
    free = run(request(tiny_pack, low, weight=0.0, noise=10.0), cache=cache).measurements
    assert free["residual_over_signal"] > 0.05 and free["residual_over_noise"] > 1
    assert free["k_space_noise"] == pytest.approx(10 * math.sqrt(128 * 128 / (48 * 40)))
    assert 0 < free["energy_outside"] < 1


def test_progress_counts_steps_and_tells_the_time_left(tiny_pack: Path, low: Path, cache: PackCache) -> None:
    seen: list[Progress] = []
    previews: list[tuple[int, Volume]] = []
    result = run(
        request(tiny_pack, low, samples=2),
        cache=cache,
        progress=seen.append,
        preview=lambda number, image: previews.append((number, image)),
    )
    assert [p.slice for p in seen] == sorted(p.slice for p in seen) and seen[-1].slice == seen[-1].slices == 3
    assert {p.step for p in seen} == {1, 2, 3} and seen[-1].step == 3
    assert seen[-1].seconds_left == 0 and any(p.seconds_left for p in seen)
    assert {number for number, _ in previews} == {0, 2} and {image.array.shape for _, image in previews} == {(1, *FULL)}
    grid = result.volumes["result"].geometry
    assert all(image.geometry.agrees_with(grid.part((number,))) for number, image in previews)


@pytest.mark.parametrize("calls", [1, 4])
def test_cancelling_stops_at_the_step(tiny_pack: Path, low: Path, cache: PackCache, calls: int) -> None:
    count = 0

    def stop(_: Progress) -> None:
        nonlocal count
        count += 1
        if count == calls:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(replace(request(tiny_pack, low), batch=1), cache=cache, progress=stop)
    assert count == calls


def test_air_slices_are_taken(tiny_pack: Path, tmp_path: Path, cache: PackCache) -> None:
    values = phantom(32, 32, 3)
    values[1] = 0
    write_volume(Volume(values, oblique(32, 32, 3)), tmp_path / "low.nrrd")
    result = array(run(request(tiny_pack, tmp_path / "low.nrrd"), cache=cache))
    assert np.isfinite(result).all() and result[0].any() and not result[1].any()
    alone = run(replace(request(tiny_pack, tmp_path / "low.nrrd"), slices=(1,)), cache=cache)
    assert not array(alone).any() and "energy_outside" not in alone.measurements


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_scale_of_the_input_is_kept(tiny_pack: Path, tmp_path: Path, cache: PackCache, scale: float) -> None:
    path = tmp_path / "low.nrrd"
    write_volume(Volume((phantom(32, 32, 1) * scale).astype(np.float32), oblique(32, 32, 1)), path)
    result = array(run(request(tiny_pack, path), cache=cache)) / scale
    back = resize_image(torch.from_numpy(result), (32, 32)).numpy()
    assert (
        np.abs(back - resize_image(resize_image(torch.from_numpy(phantom(32, 32, 1)), FULL), (32, 32)).numpy()).max()
        < 0.5
    )


# Complex k-space


def complex_k_space(matrix: tuple[int, int], phased: bool = True) -> np.ndarray:
    truth = torch.from_numpy(phantom(*FULL, 2)).double()
    y, x = ((torch.arange(n) + 0.5) / n - 0.5 for n in FULL)
    phase = (0.8 * torch.sin(3 * y)[:, None] + 0.9 * x + 0.3) * phased
    return resize_k_space(fft2c(truth * torch.exp(1j * phase)), matrix).to(torch.complex64).numpy()


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_complex_k_space_gives_a_volume(tiny_pack: Path, tmp_path: Path, cache: PackCache, suffix: str) -> None:
    path = tmp_path / f"raw{suffix}"
    if suffix == ".npy":
        np.save(path, complex_k_space((64, 64)))
    else:
        np.savez(path, k_space=complex_k_space((64, 64)), field_of_view_mm=[210, 220], slice_spacing_mm=4)
    result = run(request(tiny_pack, path), cache=cache)
    volume = result.volumes["result"]
    assert volume.array.shape == (2, *FULL)
    if suffix == ".npz":
        assert volume.geometry.spacing == pytest.approx((220 / 128, 210 / 128, 4))
    low_pass = resize_image(torch.from_numpy(volume.array), (64, 64)).numpy()
    truth = resize_image(torch.from_numpy(phantom(*FULL, 2)), (64, 64)).numpy()
    bright = truth > 100
    assert np.abs(low_pass - truth)[bright].max() < 0.05 * truth.max()


def test_several_coils_are_joined(tiny_pack: Path, tmp_path: Path, cache: PackCache) -> None:
    single = complex_k_space((64, 64), phased=False)
    coils = np.stack([0.6 * single, 0.8j * single], axis=1)
    np.save(tmp_path / "coils.npy", coils)
    result = array(run(request(tiny_pack, tmp_path / "coils.npy"), cache=cache))
    low_pass = resize_image(torch.from_numpy(result), (64, 64)).numpy()
    truth = resize_image(torch.from_numpy(phantom(*FULL, 2)), (64, 64)).numpy()
    assert np.abs(low_pass - truth).max() < 0.05 * truth.max()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("real", np.ones((8, 8)), "k-space is complex"),
        ("axes", np.ones((2, 2, 2, 8, 8), complex), "shape"),
        ("nan", np.full((8, 8), np.nan, complex), "not finite"),
        ("zero", np.zeros((8, 8), complex), "zero everywhere"),
        ("empty", np.zeros((0, 8, 8), complex), "shape"),
    ],
)
def test_k_space_that_makes_no_sense_is_refused(tmp_path: Path, name: str, value: np.ndarray, message: str) -> None:
    np.save(tmp_path / f"{name}.npy", value)
    with pytest.raises(InputError, match=message):
        read_k_space(tmp_path / f"{name}.npy")


def test_k_space_files_cannot_carry_code(tmp_path: Path) -> None:
    np.save(tmp_path / "object.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="not a NumPy file that can be read"):
        read_k_space(tmp_path / "object.npy")
    np.savez(tmp_path / "other.npz", image=np.ones((8, 8), complex))
    with pytest.raises(InputError, match="no k_space"):
        read_k_space(tmp_path / "other.npz")
    np.savez(tmp_path / "view.npz", k_space=np.ones((8, 8), complex), field_of_view_mm=[-1, 2])
    with pytest.raises(InputError, match="positive"):
        read_k_space(tmp_path / "view.npz")


# What is refused


def volume_file(tmp_path: Path, values: np.ndarray) -> Path:
    path = tmp_path / "low.nrrd"
    slices, rows, columns = values.shape
    write_volume(Volume(values.astype(np.float32), oblique(columns, rows, slices)), path)
    return path


def test_inputs_that_cannot_be_super_resolved_are_refused(tiny_pack: Path, tmp_path: Path, cache: PackCache) -> None:
    cases = [
        (np.full((2, 32, 32), 5.0), InputError, "the value 5 everywhere"),
        (-phantom(32, 32, 2), InputError, "largest intensity"),
        (phantom(4, 4, 1), InputError, "too small"),
        (phantom(130, 64, 1), SettingError, "smaller than the input's 130x64"),
    ]
    for values, error, message in cases:
        with pytest.raises(error, match=message):
            run(request(tiny_pack, volume_file(tmp_path, values)), cache=cache)


def test_a_target_matrix_that_the_pack_does_not_know_is_refused(tiny_pack: Path, low: Path, cache: PackCache) -> None:
    with pytest.raises(SettingError, match=r"not supported by pack tiny.*Use 128x128"):
        run(request(tiny_pack, low, matrix=(256, 256)), cache=cache)


def test_slices_outside_the_volume_are_refused(tiny_pack: Path, low: Path, cache: PackCache) -> None:
    with pytest.raises(SettingError, match="slice 3 is outside 0 to 2"):
        run(replace(request(tiny_pack, low), slices=(3,)), cache=cache)
    with pytest.raises(SettingError, match="not consecutive"):
        run(replace(request(tiny_pack, low), slices=(0, 2)), cache=cache)


def test_a_missing_pack_or_device_is_named(tiny_pack: Path, low: Path, cache: PackCache) -> None:
    with pytest.raises(PackError, match="no-such-pack"):
        run(replace(request(tiny_pack, low), pack="no-such-pack"), cache=cache)
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match=r"cuda is not available.*--device cpu"):
            run(replace(request(tiny_pack, low), device="cuda"), cache=cache)


def test_a_pack_for_another_task_is_refused(tiny_pack: Path, low: Path, tmp_path: Path, cache: PackCache) -> None:
    other = Path(shutil.copytree(tiny_pack, tmp_path / "baseline"))
    described = json.loads((other / "pack.json").read_text())
    (other / "pack.json").write_text(json.dumps({**described, "name": "baseline", "task": "regression"}))
    with pytest.raises(PackError, match="pack baseline is for the task regression"):
        run(request(other, low), cache=cache)


def test_a_field_of_view_that_the_pack_has_not_seen_gives_a_warning(
    tiny_pack: Path, tmp_path: Path, cache: PackCache
) -> None:
    path = tmp_path / "small.nrrd"
    near = Geometry((32, 32, 1), (128 * 1.736 / 32,) * 2 + (5.0,), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    write_volume(Volume(phantom(32, 32, 1), near), path)
    assert run(request(tiny_pack, path), cache=cache).warnings == ()
    write_volume(Volume(phantom(32, 32, 1), replace(near, spacing=(2.0, 6.9, 5.0))), path)
    (warning,) = run(request(tiny_pack, path), cache=cache).warnings
    assert "column spacing of 0.50 mm" in warning and "1.74 mm" in warning
    warned = run(request(tiny_pack, path, weight=0.5), cache=cache).warnings
    assert any("data weight is 0.5" in w for w in warned)
