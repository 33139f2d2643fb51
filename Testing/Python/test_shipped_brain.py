"""The shipped brain pack on slices of a patient whom it has not seen: what its training must have achieved."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from MRDiffusionLib import tasks
from MRDiffusionLib.evaluation import psnr
from MRDiffusionLib.imaging import Geometry, Volume, write_volume
from MRDiffusionLib.packs import find_pack
from MRDiffusionLib.request import Request
from MRDiffusionLib.settings import SynthesisSettings

PACK = "brain-multisequence"
DATA = Path(__file__).resolve().parents[1] / "Data" / "brain-multisequence.npz"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
MODELS = tasks.PackCache()


@cache
def truth() -> dict[str, NDArray[np.float32]]:
    """Sequence to its slices, white at 1."""
    with np.load(DATA) as archive:
        images = archive["images"].astype(np.float32) / 255
        return {str(name): images[:, slot] for slot, name in enumerate(archive["sequences"])}


@pytest.fixture
def run(tmp_path: Path):
    def build(target: str, **settings: object) -> NDArray[np.float32]:
        files = {}
        for role, array in truth().items():
            if role != target:
                files[role] = str(tmp_path / f"{role}.nii.gz")
                geometry = Geometry((128, 128, len(array)), (1.7, 1.7, 12.0), (-108.0, -108.0, 0.0), AXIAL)
                write_volume(Volume(1000 * array, geometry), files[role])
        chosen = SynthesisSettings(**{"target": target, "samples": 1, "steps": 10, **settings})
        made = tasks.run(Request("synthesis", PACK, files, chosen), cache=MODELS).volumes["result"]
        assert made.array.shape == (3, 128, 128)
        return made.array / 1000

    return build


def mean_psnr(target: str, made: NDArray[np.float32]) -> float:
    wanted = truth()[target]
    inside = wanted > 0.05  # air is easy
    return float(np.mean([psnr(a, b, 1.0, i) for a, b, i in zip(wanted, made, inside)]))


def test_the_pack_is_of_these_sequences():
    assert find_pack(PACK).roles == tuple(truth()) and find_pack(PACK).pixel_size_mm == (1.7, 1.7)


@pytest.mark.parametrize("target", ["T1", "T2", "FLAIR"])
def test_a_result_is_nearer_to_the_truth_than_what_is_given(target: str, run) -> None:
    given = {role: mean_psnr(target, image) for role, image in truth().items() if role != target}
    assert mean_psnr(target, run(target)) > max(given.values()) + 1, given


def test_a_sample_from_noise_is_a_brain_too(run) -> None:
    given = {role: mean_psnr("T2", image) for role, image in truth().items() if role != "T2"}
    assert mean_psnr("T2", run("T2", start="noise", steps=20)) > max(given.values())


def test_samples_differ_where_they_start_from_noise(run) -> None:
    brain = truth()["T2"] > 0.05
    one, other = (run("T2", start="noise", eta=eta) for eta in (0.0, 1.0))
    assert np.abs(one - other)[brain].mean() > 0.005
