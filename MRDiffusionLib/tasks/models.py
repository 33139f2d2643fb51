"""Loaded packs, kept warm."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser, static_clip
from ..diffusion.schedule import Schedule
from ..networks.unet import VDMUNet
from ..packs import PackInfo, find_pack
from ..packs.weights import load_network
from .device import dtype_of


@dataclass(frozen=True)
class Model:
    """A pack ready to run."""

    info: PackInfo
    network: VDMUNet
    schedule: Schedule
    device: torch.device
    precision: str

    def denoiser(self) -> Denoiser:
        """The prior as `(z, gamma) -> x0`, clipped to the image range."""
        return Denoiser(self.network, self.info.prediction, static_clip())

    def regress(self, zero_filled: Tensor, fraction: float) -> Tensor:
        """The one-pass baseline (`training.regression.Regression`): zero-filled (B, 1, H, W) in [-1, 1] to restored."""
        low, high = self.schedule.gamma_min, self.schedule.gamma_max
        gamma = torch.full((len(zero_filled),), low + (high - low) * fraction, device=zero_filled.device)
        residual: Tensor = self.network(zero_filled, gamma)
        return zero_filled + residual


class PackCache:
    """Loads packs once: `cache.model(name, device, precision)`."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, str, str], Model] = {}

    def model(self, pack: str, device: torch.device, precision: str) -> Model:
        """Raises PackError for a pack that is missing or damaged; a pack changed on disk is loaded anew."""
        info = find_pack(pack)
        key = (f"{info.folder}:{info.weights_sha256}", str(device), precision)
        if key not in self._models:
            network, schedule = load_network(info, device, dtype_of(precision))
            self._models[key] = Model(info, network, schedule, device, precision)
        return self._models[key]
