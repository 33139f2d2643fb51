"""Image quality: closed forms, agreement with other implementations, and refusal of what has no meaning."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import convolve1d
from scipy.signal import convolve2d
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity

from MRDiffusionLib.errors import InputError, SettingError
from MRDiffusionLib.evaluation import (
    evaluate_files,
    evaluate_volumes,
    haarpsi,
    mae,
    ms_ssim,
    nrmse,
    psnr,
    radial_power_spectrum,
    robust_range,
    ssim,
)
from MRDiffusionLib.evaluation.metrics import SCALE_WEIGHTS, ms_ssim_scales
from MRDiffusionLib.imaging import Geometry, Volume, write_volume


def waves(shape: tuple[int, int]) -> np.ndarray:
    """A smooth picture with values 0 to 1."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    picture: np.ndarray = np.sin(x / 5) * np.cos(y / 7) * 0.5 + 0.5
    return picture


def pictures(shape: tuple[int, int] = (64, 48), slices: int = 3, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """A stack and a noisy copy, both in 0 to 1000."""
    random = np.random.default_rng(1)
    reference = np.stack([waves(shape) * (0.5 + 0.5 * n / slices) for n in range(slices)])
    return 1000 * reference, 1000 * (reference + random.normal(0, noise, reference.shape))


def disc(shape: tuple[int, ...]) -> np.ndarray:
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    inside = np.hypot(y - shape[-2] / 2, x - shape[-1] / 2) < min(shape[-2:]) / 3
    return np.broadcast_to(inside, shape)


# Closed forms and other implementations


def test_errors_of_a_known_difference() -> None:
    reference = np.full((2, 4, 5), 40.0)
    test = reference + np.where(np.arange(5) < 2, 3.0, -1.0)
    squared = (2 * 9 + 3 * 1) / 5
    assert mae(reference, test) == pytest.approx((2 * 3 + 3 * 1) / 5)
    assert psnr(reference, test, 100.0) == pytest.approx(10 * math.log10(100**2 / squared))
    assert nrmse(reference, test) == pytest.approx(math.sqrt(squared) / 40)
    mask = np.zeros((2, 4, 5))
    mask[..., :2] = 1
    assert mae(reference, test, mask) == pytest.approx(3)
    assert psnr(reference, test, 100.0, mask) == pytest.approx(20 * math.log10(100 / 3))
    assert nrmse(reference, test, mask) == pytest.approx(3 / 40)


def test_psnr_and_nrmse_are_those_of_scikit_image() -> None:
    reference, test = pictures()
    assert psnr(reference, test, 900.0) == pytest.approx(peak_signal_noise_ratio(reference, test, data_range=900.0))
    assert nrmse(reference, test) == pytest.approx(normalized_root_mse(reference, test))


@pytest.mark.parametrize("noise", [0.01, 0.1, 0.5])
def test_ssim_is_that_of_scikit_image(noise: float) -> None:
    reference, test = pictures(noise=noise)
    kwargs: dict[str, Any] = {"gaussian_weights": True, "use_sample_covariance": False, "data_range": 1000.0}
    maps = [structural_similarity(r, t, full=True, **kwargs)[1][5:-5, 5:-5] for r, t in zip(reference, test)]
    assert ssim(reference, test, 1000.0) == pytest.approx(float(np.mean(maps)), abs=2e-5)
    inside = disc(reference.shape)
    expected = np.concatenate([m[i[5:-5, 5:-5]] for m, i in zip(maps, inside)]).mean()
    assert ssim(reference, test, 1000.0, inside) == pytest.approx(float(expected), abs=2e-5)
    assert ssim(reference[0], test[0], 1000.0) == pytest.approx(float(maps[0].mean()), abs=2e-5)


def plain_ms_ssim(reference: np.ndarray, test: np.ndarray, peak: float, scales: int) -> float:
    """MS-SSIM of one slice, written out after Wang et al. 2003."""
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    taps /= taps.sum()

    def blur(image: np.ndarray) -> np.ndarray:
        whole: np.ndarray = convolve1d(convolve1d(image, taps, axis=0), taps, axis=1)
        return whole[5:-5, 5:-5]

    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    exponents = np.array(SCALE_WEIGHTS[:scales]) / sum(SCALE_WEIGHTS[:scales])
    product = 1.0
    for scale, exponent in enumerate(exponents):
        mr, mt = blur(reference), blur(test)
        vr, vt, cov = blur(reference**2) - mr**2, blur(test**2) - mt**2, blur(reference * test) - mr * mt
        value = (2 * cov + c2) / (vr + vt + c2)
        if scale == scales - 1:
            value = value * (2 * mr * mt + c1) / (mr**2 + mt**2 + c1)
        product *= value.mean() ** exponent
        rows, columns = (n // 2 * 2 for n in reference.shape)
        reference, test = (
            image[:rows, :columns].reshape(rows // 2, 2, columns // 2, 2).mean((1, 3)) for image in (reference, test)
        )
    return float(product)


@pytest.mark.parametrize(("side", "scales"), [(192, 5), (128, 4), (101, 4), (64, 3), (30, 2), (15, 1)])
def test_ms_ssim_is_that_of_the_paper(side: int, scales: int) -> None:
    reference, test = pictures((side, side + 3), slices=2)
    assert ms_ssim_scales((side, side + 3)) == scales
    expected = np.mean([plain_ms_ssim(r, t, 1000.0, scales) for r, t in zip(reference, test)])
    assert ms_ssim(reference, test, 1000.0) == pytest.approx(float(expected), abs=2e-5)


def plain_haarpsi(reference: np.ndarray, test: np.ndarray) -> float:
    """HaarPSI of one slice with grey values 0 to 255, written out after the paper, convolution as MATLAB's 'same'."""

    def same(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        full = convolve2d(image, kernel)
        top, left = kernel.shape[0] // 2, kernel.shape[1] // 2
        return full[top : top + image.shape[0], left : left + image.shape[1]]

    def logistic(value: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-4.2 * value))

    r, t = (same(image, np.full((2, 2), 0.25))[::2, ::2] for image in (reference, test))
    numerator = denominator = 0.0
    for turned in (False, True):
        responses = []
        for level in (2, 4, 8):
            kernel = np.kron([[1.0, 1.0], [-1.0, -1.0]], np.ones((level // 2, level // 2))) / level
            kernel = kernel.T if turned else kernel
            responses.append((abs(same(r, kernel)), abs(same(t, kernel))))
        likeness = sum((2 * a * b + 30) / (a * a + b * b + 30) for a, b in responses[:2]) / 2
        weight = np.maximum(*responses[2])
        numerator += float((logistic(likeness) * weight).sum())
        denominator += float(weight.sum())
    score = numerator / denominator
    return float((math.log(score / (1 - score)) / 4.2) ** 2)


@pytest.mark.parametrize("shape", [(64, 64), (63, 63), (128, 96), (17, 31)])
def test_haarpsi_is_that_of_the_paper(shape: tuple[int, int]) -> None:
    reference, test = pictures(shape, slices=2)
    expected = np.mean([plain_haarpsi(r * 255 / 1000, t * 255 / 1000) for r, t in zip(reference, test)])
    assert haarpsi(reference, test, 1000.0) == pytest.approx(float(expected), rel=1e-12)


def test_haarpsi_is_that_of_piq() -> None:
    # Computed once with piq 0.8.0 (piq.haarpsi, data_range=1), which needs torchvision and so is no test dependency.
    expected = {
        ((64, 64), 0.02): 0.9830407598599726,
        ((64, 64), 0.1): 0.771378552458898,
        ((64, 64), 0.3): 0.5327878566221805,
        ((63, 63), 0.02): 0.9850378285421634,
        ((63, 63), 0.1): 0.7819578408408224,
        ((63, 63), 0.3): 0.5290879820309073,
        ((128, 96), 0.02): 0.9838422304926329,
        ((128, 96), 0.1): 0.780382475912918,
        ((128, 96), 0.3): 0.5338405782087267,
    }
    random = np.random.default_rng(0)
    for (shape, noise), value in expected.items():
        reference = waves(shape)
        test = np.clip(reference + random.normal(0, noise, shape), 0, 1)
        assert haarpsi(reference, test, 1.0) == pytest.approx(value, rel=1e-9), (shape, noise)


def test_haarpsi_in_a_mask_sees_only_the_mask() -> None:
    reference, test = pictures((64, 64), slices=1)
    left = np.zeros(reference.shape, bool)
    left[..., :32] = True
    spoiled = reference.copy()
    spoiled[..., 40:] = test[..., 40:]
    assert haarpsi(reference, spoiled, 1000.0) < 0.95
    assert haarpsi(reference, spoiled, 1000.0, left) == pytest.approx(1)
    assert haarpsi(reference, spoiled, 1000.0, ~left) < haarpsi(reference, spoiled, 1000.0)


@pytest.mark.parametrize("metric", [ssim, ms_ssim, haarpsi])
def test_similarity_is_one_for_equal_images_and_falls_with_noise(metric: Any) -> None:
    reference, _ = pictures()
    scores = [metric(reference, pictures(noise=noise)[1], 1000.0) for noise in (0.0, 0.02, 0.1, 0.4)]
    assert scores[0] == pytest.approx(1, abs=1e-5)
    assert scores == sorted(scores, reverse=True) and scores[-1] < 0.7


@pytest.mark.parametrize("metric", [psnr, ssim, ms_ssim, haarpsi])
def test_scores_do_not_depend_on_the_intensity_scale(metric: Any) -> None:
    reference, test = pictures()
    expected = metric(reference, test, 1000.0)
    assert metric(reference * 1e-6, test * 1e-6, 1e-3) == pytest.approx(expected, rel=1e-5)
    assert metric(reference.astype(np.float32) * 100, test.astype(np.float32) * 100, 1e5) == pytest.approx(
        expected, rel=1e-5
    )


def test_empty_slices_are_left_out_of_haarpsi() -> None:
    reference, test = pictures(slices=2)
    padded = [np.concatenate([np.zeros((4, 64, 48)), images]) for images in (reference, test)]
    assert haarpsi(*padded, 1000.0) == pytest.approx(haarpsi(reference, test, 1000.0))


def test_sums_are_kept_in_double_precision() -> None:
    # In float32 the sum of 4 million squares of 1e-4 beside one of 1e4 would lose most of the small ones.
    reference = np.zeros((4, 1024, 1024), np.float32)
    test = np.full_like(reference, 0.01)
    test[0, 0, 0] = 100
    assert mae(reference, test) == pytest.approx((0.01 * (reference.size - 1) + 100) / reference.size, rel=1e-6)


# Radial power spectrum


@pytest.mark.parametrize("shape", [(64, 64), (33, 48), (5, 8)])
def test_spectrum_keeps_the_energy(shape: tuple[int, int]) -> None:
    stack = np.random.default_rng(0).normal(size=(3, *shape))
    spectrum = radial_power_spectrum(stack, (0.7, 1.3))
    assert spectrum.points.sum() == shape[0] * shape[1]
    assert (spectrum.power * spectrum.points).sum() == pytest.approx((stack**2).sum() / 3)
    assert np.all(np.diff(spectrum.frequency) > 0)


def test_spectrum_finds_a_wave_at_its_frequency() -> None:
    _, x = np.mgrid[:96, :128]
    wave = np.cos(2 * np.pi * x * 12 / 128)
    in_pixels, in_mm = radial_power_spectrum(wave), radial_power_spectrum(wave, (0.5, 0.5))
    assert in_pixels.frequency[in_pixels.power.argmax()] == pytest.approx(12 / 128, abs=0.5 / 96)
    assert in_mm.frequency[in_mm.power.argmax()] == pytest.approx(2 * 12 / 128, abs=1 / 96)


def test_spectrum_of_white_noise_is_flat() -> None:
    noise = np.random.default_rng(0).normal(0, 3, size=(40, 64, 64))
    power = radial_power_spectrum(noise).power
    assert power[5:30] == pytest.approx(9, rel=0.1)


# What has no meaning


@pytest.mark.parametrize("metric", [psnr, ssim, ms_ssim, haarpsi])
@pytest.mark.parametrize("data_range", [0, -1.0, float("nan"), float("inf")])
def test_data_range_must_be_above_zero(metric: Any, data_range: float) -> None:
    reference, test = pictures()
    with pytest.raises(SettingError, match="data_range"):
        metric(reference, test, data_range)
    with pytest.raises(TypeError):
        metric(reference, test)


@pytest.mark.parametrize("metric", [psnr, ssim, ms_ssim, haarpsi, mae, nrmse])
def test_unfit_images_are_refused(metric: Any) -> None:
    reference, test = pictures()
    rest = () if metric in (mae, nrmse) else (1000.0,)
    with pytest.raises(InputError, match=r"\(3, 64, 48\).*\(2, 64, 48\)"):
        metric(reference, test[:2], *rest)
    test[1, 2, 3] = np.nan
    with pytest.raises(InputError, match="the other image has 1 pixels that are NaN"):
        metric(reference, test, *rest)
    with pytest.raises(InputError, match="the reference has 1 pixels"):
        metric(test, reference, *rest)
    with pytest.raises(InputError, match="complex"):
        metric(reference.astype(complex), reference, *rest)
    with pytest.raises(InputError, match="shape"):
        metric(np.zeros(5), np.zeros(5), *rest)


@pytest.mark.parametrize("metric", [psnr, ssim, haarpsi, mae, nrmse])
def test_unfit_masks_are_refused(metric: Any) -> None:
    reference, test = pictures()
    rest = () if metric in (mae, nrmse) else (1000.0,)
    with pytest.raises(InputError, match="mask is empty"):
        metric(reference, test, *rest, np.zeros(reference.shape))
    with pytest.raises(InputError, match="mask has the shape"):
        metric(reference, test, *rest, np.ones((64, 48)))


def test_images_that_a_metric_cannot_judge_are_refused() -> None:
    small = np.random.default_rng(0).random((2, 10, 20))
    with pytest.raises(InputError, match="11x11 pixels, not 10x20"):
        ssim(small, small, 1.0)
    with pytest.raises(InputError, match="11x11"):
        ms_ssim(small, small, 1.0)
    with pytest.raises(InputError, match="zero everywhere"):
        nrmse(np.zeros((4, 4)), np.ones((4, 4)))
    with pytest.raises(InputError, match="structure"):
        haarpsi(np.zeros((16, 16)), np.zeros((16, 16)), 1.0)
    border = np.zeros((2, 20, 20))
    border[:, 0] = 1
    with pytest.raises(InputError, match="border"):
        ssim(*np.random.default_rng(0).random((2, 2, 20, 20)), 1.0, border)
    assert psnr(small, small, 1.0) == math.inf
    with pytest.raises(SettingError, match="spacing"):
        radial_power_spectrum(small, (0.0, 1.0))


# Two volumes


def volumes(shape: tuple[int, int] = (64, 48)) -> tuple[Volume, Volume, Volume]:
    reference, test = (array.astype(np.float32) for array in pictures(shape))
    axes = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    grid = Geometry((shape[1], shape[0], 3), (1.0, 1.5, 4.0), (-3.0, 4.0, 5.0), axes)
    return Volume(reference, grid), Volume(test, grid), Volume(disc(reference.shape).astype(np.float32), grid)


def test_volumes_are_compared_in_and_out_of_a_mask() -> None:
    reference, test, mask = volumes()
    figures = evaluate_volumes(reference, test, mask)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    low, high = np.percentile(reference.array, (0.1, 99.9))
    peak = figures["data_range"]
    assert peak == pytest.approx(high - low) and "99.9" in figures["data_range_from"]
    assert figures["whole"]["psnr_db"] == psnr(reference.array, test.array, peak)
    assert figures["whole"]["ms_ssim"] == ms_ssim(reference.array, test.array, peak)
    assert figures["mask"]["haarpsi"] == haarpsi(reference.array, test.array, peak, mask.array)
    assert figures["mask"]["ssim"] == ssim(reference.array, test.array, peak, mask.array)
    assert figures["mask"]["voxels"] == int(mask.array.sum()) < figures["whole"]["voxels"] == 3 * 64 * 48
    assert figures["notes"] == ["whole: ms_ssim over 3 scales, as the slices are too small for 5"]
    assert "mask" not in evaluate_volumes(reference, test)


def test_given_data_range_is_used_and_stated() -> None:
    reference, test, _ = volumes()
    figures = evaluate_volumes(reference, test, data_range=2000.0)
    assert (figures["data_range"], figures["data_range_from"]) == (2000.0, "given")
    assert figures["whole"]["psnr_db"] == psnr(reference.array, test.array, 2000.0)


def test_bright_specks_do_not_change_the_data_range() -> None:
    reference, _, _ = volumes((128, 128))
    before, _ = robust_range(reference.array)
    reference.array[0, 0, :3] = 1e6
    assert robust_range(reference.array)[0] == pytest.approx(before, rel=0.02)
    speck = np.zeros((1, 100, 100), np.float32)
    speck[0, 5, 5] = 8
    assert robust_range(speck) == (8.0, "minimum to maximum of the reference")


def test_figures_that_do_not_exist_are_null_with_a_note() -> None:
    reference, test, _ = volumes((10, 10))
    figures = evaluate_volumes(reference, test)
    assert figures["whole"]["ssim"] is None and figures["whole"]["psnr_db"] > 0
    assert any("no ssim" in note and "11x11" in note for note in figures["notes"])
    same = evaluate_volumes(reference, reference)
    assert same["whole"]["psnr_db"] is None and same["whole"]["mae"] == 0
    assert any("infinite" in note for note in same["notes"])


def test_other_grids_are_refused_with_the_numbers() -> None:
    reference, test, mask = volumes()
    moved = Geometry(test.geometry.size, (1.0, 1.5, 4.5), test.geometry.origin, test.geometry.direction)
    with pytest.raises(InputError, match=r"the volume lies on another grid.*\(1, 1\.5, 4\) against \(1, 1\.5, 4\.5\)"):
        evaluate_volumes(reference, Volume(test.array, moved))
    with pytest.raises(InputError, match="the mask lies on another grid"):
        evaluate_volumes(reference, test, Volume(mask.array, moved))
    with pytest.raises(InputError, match=r"size \(48, 64, 3\) against \(20, 20, 3\) voxels"):
        evaluate_volumes(reference, volumes((20, 20))[1])


def test_constant_references_and_empty_masks_are_refused() -> None:
    reference, test, mask = volumes()
    flat = Volume(np.full_like(reference.array, 5), reference.geometry)
    with pytest.raises(InputError, match="the reference have the value 5"):
        evaluate_volumes(flat, test)
    with pytest.raises(InputError, match="mask is empty"):
        evaluate_volumes(reference, test, Volume(np.zeros_like(mask.array), mask.geometry))
    assert evaluate_volumes(reference, flat)["whole"]["psnr_db"] > 0


def test_files_are_compared_and_named(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.nii.gz" for name in ("reference", "test", "mask")]
    given = volumes()
    for volume, path in zip(given, paths):
        write_volume(volume, path)
    figures = evaluate_files(*paths)
    assert (figures["reference"], figures["mask_file"]) == (str(paths[0]), str(paths[2]))
    assert figures["whole"] == evaluate_volumes(*given)["whole"]


def test_importing_the_evaluation_loads_no_torch() -> None:
    program = "import sys, MRDiffusionLib.evaluation; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_reference_on_another_grid_is_resampled_and_compared_where_it_shows_something(tmp_path: Path) -> None:
    reference, test, mask = volumes()
    for name, volume in (("test", test), ("reference", reference), ("mask", mask)):
        write_volume(volume, tmp_path / f"{name}.nrrd")
    paths = [tmp_path / f"{name}.nrrd" for name in ("reference", "test", "mask")]
    same = evaluate_files(*paths, resampled=True)
    assert same == evaluate_files(*paths)
    brighter = evaluate_files(*paths, data_range=1.0, factor=2.0)
    assert brighter["whole"]["mae"] == pytest.approx(np.abs(reference.array - 2 * test.array).mean(), rel=1e-5)
    assert "multiplied by 2" in brighter["notes"][0]
    # The same image with a row more on one side and six fewer on the other.
    cut = Volume(
        np.pad(reference.array, ((0, 0), (1, 0), (0, 0)))[:, :-6],
        replace(reference.geometry, size=(48, 59, 3), origin=(-3.0, 2.5, 5.0)),
    )
    write_volume(cut, tmp_path / "cut.nrrd")
    with pytest.raises(InputError, match="another grid"):
        evaluate_files(tmp_path / "cut.nrrd", paths[1])
    figures = evaluate_files(tmp_path / "cut.nrrd", paths[1], paths[2], resampled=True, data_range=1.0)
    seen = np.zeros_like(mask.array)
    seen[:, :58] = 1
    assert figures["whole"]["voxels"] == seen.sum()
    assert figures["whole"]["psnr_db"] == pytest.approx(psnr(reference.array, test.array, 1.0, seen), rel=1e-5)
    inside = seen * mask.array
    assert figures["mask"]["psnr_db"] == pytest.approx(psnr(reference.array, test.array, 1.0, inside), rel=1e-5)
    assert "resampled onto the volume's grid; it shows 91% of it" in figures["notes"][0]
    far = Volume(cut.array, replace(cut.geometry, origin=(-3.0, 60.0, 5.0)))
    write_volume(far, tmp_path / "far.nrrd")
    with pytest.raises(InputError, match=r"shows 42% of the volume.*60%"):
        evaluate_files(tmp_path / "far.nrrd", paths[1], resampled=True)
