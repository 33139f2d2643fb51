"""The shipped degraders on a slice of the sample, a test subject: beside simulated acquisitions of the same level."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.registration import phase_cross_correlation

from MRDiffusionLib import tasks
from MRDiffusionLib.imaging import read_volume
from MRDiffusionLib.packs import find_pack
from MRDiffusionLib.packs.intensity import intensity_scale
from MRDiffusionLib.physics.degradation import degrade
from MRDiffusionLib.request import Request
from MRDiffusionLib.settings import DegradationSettings

SAMPLE = Path(__file__).resolve().parents[2] / "MRDiffusion" / "Resources" / "SampleData" / "brain-t1-fine.nii.gz"
SLICE = 2


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    """White at 1."""
    array = read_volume(SAMPLE).array
    return np.asarray(array[SLICE] / intensity_scale(array, find_pack("brain-degrade-noise").normalisation), np.float32)


def made(kind: str, level: float, seed: int = 0) -> np.ndarray:
    pack = find_pack(f"brain-degrade-{kind}")
    settings = DegradationSettings(kind=kind, level=level)
    request = Request("degradation", pack.name, {"image": str(SAMPLE)}, settings, seed, slices=(SLICE,))
    array = tasks.run(replace(request, precision="fp32")).volumes["result"].array[0]
    return np.asarray(array / intensity_scale(read_volume(SAMPLE).array, pack.normalisation), np.float32)


@pytest.mark.parametrize("kind", ["noise", "blur"])
def test_what_is_added_is_what_an_acquisition_adds(kind: str, clean: np.ndarray) -> None:
    head = clean > 0.05
    before = 0.0
    for level in (0.2, 0.8):
        image = made(kind, level)
        drawn = [
            degrade(torch.from_numpy(clean), kind, level, torch.Generator().manual_seed(seed)).numpy() - clean
            for seed in range(8)
        ]
        acquired = np.mean([each[head].std() for each in drawn])
        assert (image - clean)[head].std() == pytest.approx(acquired, rel=0.25), level
        assert (image - clean)[head].std() > before, "more at higher levels"
        before = (image - clean)[head].std()
        shift, *_ = phase_cross_correlation(clean, image, upsample_factor=50)
        assert np.hypot(*shift) < 0.15, "of one slice; the mean over test subjects is 0.07 at most"


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_the_noise_floor_of_air_is_an_acquisition_s(level: float, clean: np.ndarray) -> None:
    """Version 0.1 was 1 to 22 % below it, and what learnt from it left a haze."""
    air = clean < 0.001
    acquired = degrade(torch.from_numpy(clean), "noise", level, torch.Generator().manual_seed(0)).numpy()
    image = made("noise", level)
    for moment in (np.mean, np.std):
        assert moment(image[air]) == pytest.approx(moment(acquired[air]), rel=0.04)


def test_another_seed_gives_other_noise(clean: np.ndarray) -> None:
    head = clean > 0.05
    one, other = ((made("noise", 0.5, seed) - clean)[head] for seed in (0, 1))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.1
