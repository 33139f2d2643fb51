"""What all tests share: no user's packs, the shipped sample, and a tiny pack with random weights."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLE_DATA = ROOT / "MRDiffusion" / "Resources" / "SampleData"


@pytest.fixture(autouse=True)
def _no_user_packs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packs of whoever runs the tests must not change what they find."""
    monkeypatch.setenv("MRDIFFUSION_PACKS", str(tmp_path_factory.getbasetemp() / "no-user-packs"))


@pytest.fixture(scope="session")
def low_resolution_sample() -> Path:
    """The shipped simulated 64x64 volume (`MRDiffusion/Resources/SampleData/README.md`)."""
    return SAMPLE_DATA / "brain-t1-low-resolution.nii.gz"


@pytest.fixture(scope="session")
def tiny_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 128x128 super-resolution pack of some 20,000 random weights: the whole way runs, in a moment, to no sense."""
    import torch

    from MRDiffusionLib.networks.unet import VDMUNet
    from MRDiffusionLib.packs.weights import write_pack

    settings = {"channels": [8, 16, 16], "num_res_blocks": [1, 1, 1], "head_channels": 8, "norm_groups": 4}
    torch.manual_seed(0)
    network = VDMUNet(**settings)
    described = {k: v for k, v in network.settings.items() if k not in ("gamma_min", "gamma_max")}
    folder = tmp_path_factory.mktemp("packs") / "tiny"
    write_pack(
        folder,
        {
            "name": "tiny",
            "version": "1.0",
            "title": "Random weights",
            "task": "superresolution",
            "roles": ["low_resolution"],
            "matrix": [128, 128],
            "pixel_size_mm": [1.736, 1.736],
            "prediction": "v",
            "network": described,
            "schedule": {"name": "linear", "gamma_min": -13.3, "gamma_max": 5.0},
            "normalisation": {"percentile": 99.5, "value": 0.9},
            "training_data": "none",
            "licence": "CC0-1.0",
            "quality": {},
            "intended_use": "tests",
            "limits": [],
        },
        network.state_dict(),
        "# Random weights\n",
        "CC0-1.0\n",
    )
    return folder
