"""Loaded packs, kept warm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser, static_clip
from ..diffusion.schedule import Schedule
from ..networks.cmrdiff import CMRDiff
from ..networks.degrader import Degrader
from ..networks.enhancer import Enhancer
from ..networks.unet import VDMUNet
from ..packs import PackInfo, find_pack
from ..packs.weights import load_cmrdiff, load_degrader, load_enhancer, load_network
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


@dataclass(frozen=True)
class Synthesiser:
    """A synthesis pack ready to run."""

    info: PackInfo
    network: CMRDiff
    schedule: Schedule
    device: torch.device
    precision: str


@dataclass(frozen=True)
class DegraderModel:
    """A degradation pack ready to run."""

    info: PackInfo
    network: Degrader
    schedule: Schedule
    device: torch.device
    precision: str


@dataclass(frozen=True)
class EnhancerModel:
    """An enhancement pack ready to run; its schedule has no use."""

    info: PackInfo
    network: Enhancer
    schedule: Schedule
    device: torch.device
    precision: str


AnyModel = Model | Synthesiser | DegraderModel | EnhancerModel

T = TypeVar("T", Model, Synthesiser, DegraderModel, EnhancerModel)


class PackCache:
    """Loads packs once: `cache.model(name, device, precision)`; each raises PackError for one missing or damaged.

    A pack that was changed on disk is loaded anew.
    """

    def __init__(self) -> None:
        self._loaded: dict[tuple[object, ...], AnyModel] = {}

    def model(self, pack: str, device: torch.device, precision: str) -> Model:
        """A prior or a regression."""
        return self._get(Model, load_network, pack, device, precision)

    def synthesiser(self, pack: str, device: torch.device, precision: str) -> Synthesiser:
        """A synthesis pack."""
        return self._get(Synthesiser, load_cmrdiff, pack, device, precision)

    def degrader(self, pack: str, device: torch.device, precision: str) -> DegraderModel:
        """A degradation pack."""
        return self._get(DegraderModel, load_degrader, pack, device, precision)

    def enhancer(self, pack: str, device: torch.device, precision: str) -> EnhancerModel:
        """An enhancement pack."""
        return self._get(EnhancerModel, load_enhancer, pack, device, precision)

    def clear(self) -> None:
        """Forget all loaded packs."""
        self._loaded.clear()

    def _get(self, kind: type[T], load: Callable[..., Any], pack: str, device: torch.device, precision: str) -> T:
        info = find_pack(pack)
        key = (kind, info.folder, info.weights_sha256, str(device), precision)
        if key not in self._loaded:
            network, schedule = load(info, device, dtype_of(precision))
            self._loaded[key] = kind(info, network, schedule, device, precision)
        loaded = self._loaded[key]
        assert isinstance(loaded, kind)
        return loaded
