"""Training images: the archive, the random crops, the zero-filled images of the regression."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from MRDiffusionLib.errors import InputError
from MRDiffusionLib.networks.unet import coordinates
from MRDiffusionLib.training.data import draw_batch, load_slices
from MRDiffusionLib.training.regression import measured_fraction, regression_batch, zero_filled


def archive(folder: Path, **changes: Any) -> Path:
    """Six slices of subjects 1, 1, 2, 2, 3, 3 whose grey level is their number."""
    images = np.arange(6, dtype=np.uint8)[:, None, None] * np.ones((1, 8, 12), np.uint8)
    arrays = {"images": images, "subject": np.array([1, 1, 2, 2, 3, 3]), **changes}
    path = folder / "slices.npz"
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


def test_slices_are_chosen_by_subject(tmp_path):
    slices = load_slices(archive(tmp_path), (2, 3))
    assert slices.shape == (4, 1, 8, 12) and slices.dtype == torch.uint8
    assert slices[:, 0, 0, 0].tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": None}, "no array images"),
        ({"subject": None}, "no array subject"),
        ({"images": np.zeros((6, 8, 12), np.float32)}, r"images in .* is float32 \(6, 8, 12\)"),
        ({"images": np.zeros((6, 8), np.uint8)}, r"images in .* is uint8 \(6, 8\)"),
        ({"subject": np.arange(5)}, r"subject in .* \(5,\)\. It must be 6 whole numbers"),
        ({"subject": np.array(["a"] * 6)}, "subject in .* <U1"),
        ({"subject": np.arange(6) + 10}, r"no slice of subjects 1 to 2\. It holds subjects 10 to 15"),
        ({"images": np.zeros((0, 8, 12), np.uint8), "subject": np.zeros(0, int)}, "no slice .* It is empty"),
        ({"images": np.array([None] * 6)}, "cannot be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_archive_that_cannot_be_used_is_refused(tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        load_slices(archive(tmp_path, **changes), (1, 2))


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_slices(tmp_path / "none.npz", (1, 2))
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(InputError, match=r"one\.npy is not an \.npz archive"):
        load_slices(tmp_path / "one.npy", (1, 2))
    whole = archive(tmp_path).read_bytes()
    for name, content in {"text": b"hello", "empty": b"", "cut": whole[: len(whole) // 2]}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name} cannot be read"):
            load_slices(tmp_path / name, (1, 2))
    damaged = bytearray(whole)
    damaged[150:200] = bytes(50)
    (tmp_path / "damaged").write_bytes(damaged)
    with pytest.raises(InputError, match="damaged cannot be read"):
        load_slices(tmp_path / "damaged", (1, 2))


def ramp(height: int = 24, width: int = 20) -> Tensor:
    """One image whose grey level tells the pixel."""
    assert height * width < 512
    return (torch.arange(height * width) // 2).to(torch.uint8).reshape(1, 1, height, width)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_batch_holds_crops_with_their_coordinates():
    """Without shift and gain, a crop or its mirror image is found in the slice at its coordinates."""
    whole = ramp().float()[0] * (2 / 255) - 1
    images, positions = draw_batch(ramp(), 40, 8, generator(), shift=0, gain=(1.0, 1.0))
    assert images.shape == (40, 1, 8, 8) and positions.shape == (40, 2, 8, 8)
    mirrored, corners = 0, set()
    grid = coordinates((24, 20))
    for image, position in zip(images, positions):
        y = int((grid[0, :, 0] - position[0, 0, 0]).abs().argmin())
        x = int((grid[1, 0] - position[1, 0, 0]).abs().argmin())
        assert torch.equal(position, grid[:, y : y + 8, x : x + 8])
        plain, flipped = (source[:, y : y + 8, x : x + 8] for source in (whole, whole.flip(-1)))
        is_plain, is_flipped = torch.allclose(image, plain), torch.allclose(image, flipped)
        assert is_plain or is_flipped
        mirrored += is_flipped
        corners.add((y, x))
    assert 10 < mirrored < 30
    assert len(corners) > 20


def test_images_are_moved_and_scaled_within_their_limits():
    point = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
    point[0, 0, 16, 16] = 255
    images, _ = draw_batch(point, 60, 32, generator(), shift=3, gain=(0.5, 1.0))
    assert images.min() == -1
    places, values = images.flatten(1).argmax(1), (images.flatten(1).max(1).values + 1) / 2
    rows, columns = places // 32, places % 32
    assert set((rows - 16).tolist()) == {-3, -2, -1, 0, 1, 2, 3}
    assert set((columns - 16).tolist()) <= {-4, -3, -2, -1, 0, 1, 2, 3}
    assert 0.5 <= values.min() < 0.6 and 0.9 < values.max() <= 1


def test_a_batch_is_decided_by_its_generator():
    slices = torch.randint(0, 256, (9, 1, 16, 16), generator=generator()).to(torch.uint8)
    first, second, other = (draw_batch(slices, 6, 8, generator(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_a_crop_larger_than_the_images_is_refused():
    with pytest.raises(ValueError, match="crop 22 is larger than the 24x20 images"):
        draw_batch(ramp(), 1, 22, generator())


# Zero filling.


def test_zero_filling_keeps_the_mean_and_is_a_projection():
    image = torch.rand(2, 1, 24, 20, generator=generator()).double()
    once = zero_filled(image, (9, 13))
    assert not once.is_complex()
    torch.testing.assert_close(once.mean((-2, -1)), image.mean((-2, -1)))
    torch.testing.assert_close(zero_filled(once, (9, 13)), once)
    torch.testing.assert_close(zero_filled(image, (24, 20)), image)
    assert (once - image).norm() > 0.1 * image.norm()


def test_zero_filling_keeps_low_frequencies_and_removes_high_ones():
    x = torch.arange(32) * 2 * torch.pi / 32
    low, high = torch.cos(3 * x)[:, None] * torch.ones(32), torch.cos(9 * x)[:, None] * torch.ones(32)
    torch.testing.assert_close(zero_filled(low + high, (9, 9)), low, atol=1e-5, rtol=0)


def test_measured_fraction():
    assert measured_fraction((128, 128), (128, 128)) == 1
    assert measured_fraction((32, 32), (128, 128)) == 0.25
    assert measured_fraction((64, 16), (128, 128)) == pytest.approx(0.25)


def test_a_regression_batch_is_zero_filled_before_it_is_cropped():
    images = torch.rand(12, 1, 16, 16, generator=generator()) * 2 - 1
    positions = coordinates((16, 16)).expand(12, -1, -1, -1)
    matrices = [(5, 5), (9, 7), (16, 16)]
    filled, full, where, fraction = regression_batch(images, positions, 8, matrices, generator(3))
    assert filled.shape == full.shape == (12, 1, 8, 8) and where.shape == (12, 2, 8, 8)
    centres = coordinates((16, 16))[0, :, 0]
    y, x = (int((centres - where[0, axis, 0, 0]).abs().argmin()) for axis in (0, 1))
    assert torch.equal(full, images[..., y : y + 8, x : x + 8])
    known = {round(measured_fraction(m, (16, 16)), 4): m for m in matrices}
    chosen = [known[round(value, 4)] for value in fraction.tolist()]
    assert set(chosen) == set(matrices)
    for i, matrix in enumerate(chosen):
        expected = zero_filled(images[i], matrix)[..., y : y + 8, x : x + 8]
        torch.testing.assert_close(filled[i], expected, atol=1e-5, rtol=0)
