"""Features of the given images, which the denoiser attends to.

An encoder is `(images (B, S, H, W) in [-1, 1]) -> tokens (B, S, T, D)`, S slots of sequences. `feature_encoder` makes
the one that settings describe.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError


class PatchEncoder(nn.Module):
    """A token for each patch of 16 x 16 pixels, by a small convolutional network trained with the denoiser.

    Args:
        sequences: number of slots.
        channels: D of the tokens.
        matrix: (H, W) of the images, multiples of 16.
    """

    def __init__(self, sequences: int = 3, channels: int = 128, matrix: tuple[int, int] = (128, 128)) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {"channels": channels, "matrix": list(matrix)}
        patches = (matrix[0] // 16) * (matrix[1] // 16)
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(16, channels // 2, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
        )
        self.sequence = nn.Parameter(0.02 * torch.randn(sequences, 1, channels))
        self.place = nn.Parameter(0.02 * torch.randn(patches, channels))

    def forward(self, images: Tensor) -> Tensor:
        """Tokens (B, S, T, D) of images (B, S, H, W)."""
        batch, slots = images.shape[:2]
        weight = next(self.parameters())
        each = self.layers(images.flatten(0, 1)[:, None].to(weight.dtype))
        tokens = each.flatten(2).transpose(1, 2).reshape(batch, slots, -1, each.shape[1])
        result: Tensor = tokens + self.sequence + self.place
        return result


class ClipEncoder(nn.Module):
    """CLIP's vision model (Radford et al. 2103.00020) from a local folder, as the abstract of CMRDiff uses it.

    Its weights stay as they are and belong to no pack; a linear layer to D channels is trained with the denoiser.

    Args:
        folder: as `transformers` saves a `CLIPVisionModel`: config.json and model.safetensors.
        sequences: number of slots.
        channels: D of the tokens.

    Raises:
        InputError: a folder that holds no such model.
    """

    # What OpenAI's images were normalised with.
    MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

    def __init__(self, folder: str | Path, sequences: int = 3, channels: int = 128) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.settings: dict[str, Any] = {"channels": channels, "clip": str(folder)}
        try:
            config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
            config = config.get("vision_config", config)
            self.hidden, self.side = int(config["hidden_size"]), int(config["image_size"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            hint = "Give a folder with the config.json and model.safetensors of a CLIP vision model"
            raise InputError(f"{folder} holds no CLIP model ({error})", hint) from error
        self.project = nn.Linear(self.hidden, channels)
        self.sequence = nn.Parameter(0.02 * torch.randn(sequences, 1, channels))
        self._clip: list[nn.Module] = []  # in a list, so that it is no part of the weights

    def forward(self, images: Tensor) -> Tensor:
        """Tokens (B, S, T, D) of images (B, S, H, W): CLIP's class token, then one for each patch."""
        batch, slots = images.shape[:2]
        grey = F.interpolate((images.flatten(0, 1)[:, None].float() + 1) / 2, (self.side, self.side), mode="bilinear")
        mean, std = (grey.new_tensor(values).view(1, 3, 1, 1) for values in (self.MEAN, self.STD))
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            hidden = self._model(images.device)(pixel_values=(grey - mean) / std).last_hidden_state
        tokens = self.project(hidden.to(self.project.weight.dtype)).reshape(batch, slots, hidden.shape[1], -1)
        result: Tensor = tokens + self.sequence
        return result

    def _model(self, device: torch.device) -> nn.Module:
        if not self._clip:
            try:
                from transformers import CLIPVisionModel
            except ImportError as error:
                raise InputError("CLIP features need the package transformers", "Install MRDiffusion[clip]") from error
            try:
                model = CLIPVisionModel.from_pretrained(self.folder, local_files_only=True, use_safetensors=True)
            except (OSError, ValueError, RuntimeError) as error:
                hint = "Only safetensors are read"
                raise InputError(f"{self.folder} holds no CLIP model ({error})", hint) from error
            self._clip.append(model.eval().requires_grad_(False))
        self._clip[0].to(device)
        return self._clip[0]


def feature_encoder(sequences: int, settings: Mapping[str, Any]) -> PatchEncoder | ClipEncoder:
    """The encoder of settings: those of `PatchEncoder`, or `channels` and the folder `clip`."""
    if "clip" in settings:
        return ClipEncoder(settings["clip"], sequences, **{k: v for k, v in settings.items() if k != "clip"})
    return PatchEncoder(sequences, **settings)
