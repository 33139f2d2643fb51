"""CLIP's features from a local folder, with a small model of random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from MRDiffusionLib.errors import InputError
from MRDiffusionLib.networks.features import ClipEncoder, PatchEncoder, feature_encoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=16
    )
    path = tmp_path_factory.mktemp("clip")
    transformers.CLIPVisionModel(config).save_pretrained(path)
    return path


def test_tokens_are_those_of_clip_projected(folder):
    from transformers import CLIPVisionModel

    encoder = ClipEncoder(folder, sequences=2, channels=8)
    images = torch.rand(3, 2, 24, 24) * 2 - 1
    tokens = encoder(images)
    assert tokens.shape == (3, 2, 5, 8)
    # The second sequence of the first slice by hand.
    grey = torch.nn.functional.interpolate((images[0, 1][None, None] + 1) / 2, (32, 32), mode="bilinear")
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (ClipEncoder.MEAN, ClipEncoder.STD))
    with torch.no_grad():
        hidden = CLIPVisionModel.from_pretrained(folder)(pixel_values=(grey - mean) / std).last_hidden_state
        wanted = encoder.project(hidden)[0] + encoder.sequence[1]
    assert torch.allclose(tokens[0, 1], wanted, atol=1e-5)


def test_clip_itself_is_neither_trained_nor_saved(folder):
    encoder = ClipEncoder(folder, sequences=2, channels=8)
    encoder(torch.rand(1, 2, 24, 24)).sum().backward()
    assert set(encoder.state_dict()) == {"project.weight", "project.bias", "sequence"}
    assert not any(p.requires_grad for p in encoder._clip[0].parameters())
    assert encoder.project.weight.grad.abs().max() > 0


def test_settings_choose_the_encoder(folder):
    assert isinstance(feature_encoder(3, {"channels": 8, "clip": str(folder)}), ClipEncoder)
    assert isinstance(feature_encoder(3, {"channels": 8, "matrix": [32, 32]}), PatchEncoder)


@pytest.mark.parametrize("text", [None, "{}", "no json"])
def test_a_folder_without_a_model_is_named(tmp_path, text):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match="holds no CLIP model"):
        ClipEncoder(tmp_path)


def test_pickled_weights_are_not_read(folder, tmp_path):
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    torch.save({"x": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="holds no CLIP model"):
        ClipEncoder(tmp_path, 1, 8)(torch.zeros(1, 1, 32, 32))
