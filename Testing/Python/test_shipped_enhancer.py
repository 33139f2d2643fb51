"""The shipped enhancer on the sample, a test subject: nearer to the full scan than what it is given, and no shift."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.registration import phase_cross_correlation

from MRDiffusionLib import tasks
from MRDiffusionLib.evaluation import psnr, ssim
from MRDiffusionLib.imaging import read_volume, write_volume
from MRDiffusionLib.packs import find_pack
from MRDiffusionLib.packs.intensity import intensity_scale
from MRDiffusionLib.physics.degradation import degrade
from MRDiffusionLib.request import Request
from MRDiffusionLib.settings import EnhancementSettings

SAMPLE = Path(__file__).resolve().parents[2] / "MRDiffusion" / "Resources" / "SampleData"
LEVEL = 0.6


@pytest.fixture(scope="module", params=["noise", "blur"])
def scan(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Kind and file of a scan of LEVEL, simulated; the noisy one is the sample's."""
    if request.param == "noise":
        return "noise", SAMPLE / "brain-t1-noisy.nii.gz"
    good = read_volume(SAMPLE / "brain-t1-fine.nii.gz")
    white = intensity_scale(good.array, find_pack("brain-enhance").normalisation)
    drawn = [
        degrade(torch.from_numpy(image / white), "blur", LEVEL, torch.Generator().manual_seed(number)).numpy() * white
        for number, image in enumerate(good.array)
    ]
    path = tmp_path_factory.mktemp("scans") / "fast.nii.gz"
    write_volume(replace(good, array=np.stack(drawn).astype(np.float32)), path)
    return "blur", path


def test_enhanced_scans_are_nearer_to_the_full_scan(scan: tuple[str, Path]) -> None:
    kind, path = scan
    settings = EnhancementSettings(kind=kind)
    request = replace(Request("enhancement", "brain-enhance", {"image": str(path)}, settings), precision="fp32")
    result = tasks.run(request)
    assert result.measurements["level"] == pytest.approx(LEVEL, abs=0.15), "read off the image"
    assert not any("bright" in sentence for sentence in result.warnings), "noise in air is nothing unusual to it"
    made, given, truth = (
        result.volumes["result"].array,
        read_volume(path).array,
        read_volume(SAMPLE / "brain-t1-fine.nii.gz").array,
    )
    peak = float(np.percentile(truth[truth > 0], 99.5))
    gain = np.mean([psnr(t, m, peak) - psnr(t, g, peak) for t, m, g in zip(truth, made, given)])
    assert gain > {"noise": 5.0, "blur": 0.5}[kind]
    assert all(ssim(t, m, peak) > ssim(t, g, peak) for t, m, g in zip(truth, made, given))
    for t, m in zip(truth, made):
        assert np.hypot(*phase_cross_correlation(t, m, upsample_factor=50)[0]) < 0.1
