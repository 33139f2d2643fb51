"""The enhancer: an unrolled proximal network that knows the degradation's kind and level, in one pass.

Seed 000's CNN is an "adaptive property-constrained unrolled network" (Zhou et al., Proc. ISMRM 2023, 4031), of which no
more than that is known. This one unrolls proximal gradient descent with learned steps (Mardani et al. 1806.03963;
Monga et al. 1912.10557, section IV):

    x <- prox(x - t_k A^T (A x - y)),   A the identity for noise, the low frequencies that a fast scan measures for blur
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..physics.fourier import fft2c
from ..physics.low_pass import low_pass, measured_extent
from ..settings import KINDS
from .unet import VDMUNet

SPECTRUM = 32
"""Side of the power spectrum that levels are read off."""


class Enhancer(nn.Module):
    """From low-quality images of any size to restored ones, given the levels or with its own estimate of them.

    Args:
        kinds: of degradation that it restores, some of `physics.degradation.KINDS`.
        iterations: of the unrolled descent; all share the proximal network.
        unet: arguments of the proximal network, `VDMUNet`, but those that follow from the images.
        estimator: features per level of the network that tells the levels (`LevelEstimator`).

    Raises:
        ValueError, TypeError: settings that make no network.
    """

    def __init__(
        self, kinds: Sequence[str], iterations: int, unet: Mapping[str, Any], estimator: Sequence[int]
    ) -> None:
        super().__init__()
        if not kinds or set(kinds) - set(KINDS) or len(set(kinds)) != len(kinds) or iterations < 1:
            raise ValueError(f"kinds = {list(kinds)} and iterations = {iterations} make no network")
        self.kinds = tuple(kinds)
        self.settings: dict[str, Any] = {
            "kinds": list(kinds),
            "iterations": iterations,
            "estimator": list(estimator),
        }
        # Its time is the number of the iteration.
        self.unet = VDMUNet(
            condition_channels=len(kinds) + 1,
            fourier_exponents=(),
            gamma_min=0.0,
            gamma_max=float(max(1, iterations - 1)),
            **unet,
        )
        kept = ("channels", "num_res_blocks", "fold", "head_channels", "norm_groups")
        self.settings["unet"] = {name: self.unet.settings[name] for name in kept}
        self.step = nn.Parameter(torch.zeros(iterations, len(kinds)))
        self.estimator = LevelEstimator(len(kinds), estimator)

    @property
    def multiple(self) -> int:
        """Height and width must be multiples of this."""
        return self.unet.multiple

    def forward(self, low: Tensor, levels: Tensor, position: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """For training: what `restore` gives, and the estimated levels (B, kinds)."""
        return self.restore(low, levels, position), self.estimator(low)

    def restore(self, low: Tensor, levels: Tensor, position: Tensor | None = None) -> Tensor:
        """The restored images, (B, 1, H, W).

        Args:
            low: (B, 1, H, W), air -1 and white 1.
            levels: (B, kinds) in [0, 1]; 0 for a kind that is not there.
            position: as `VDMUNet` has it.
        """
        planes = (2 * levels - 1).to(low.dtype)[:, :, None, None].expand(-1, -1, *low.shape[-2:])
        condition = torch.cat([low, planes], dim=1)
        extent = self._extent(levels)
        x = low
        for k, steps in enumerate(torch.sigmoid(self.step)):
            x = x - self._gradient(x - low, levels, steps, extent)
            x = x + self.unet(x, x.new_full((len(x),), float(k)), condition, position)
        return x

    def _gradient(self, difference: Tensor, levels: Tensor, steps: Tensor, extent: Tensor | None) -> Tensor:
        """`t A^T (A x - y)`, added up over the kinds that are there."""
        gradient = torch.zeros_like(difference)
        for i, kind in enumerate(self.kinds):
            there = (levels[:, i] > 0).to(difference.dtype)[:, None, None, None]
            part = difference if kind == "noise" or extent is None else low_pass(difference, extent)
            gradient = gradient + there * steps[i] * part
        return gradient

    def _extent(self, levels: Tensor) -> Tensor | None:
        """Side of the centre of k-space that a fast scan of these levels measures at least, (B,), as a share."""
        if "blur" not in self.kinds:
            return None
        return measured_extent(levels[:, self.kinds.index("blur")])


class LevelEstimator(nn.Module):
    """How degraded images are: `(images) -> levels`, a small network that looks at the image and at its power spectrum.

    Noise raises the floor of the spectrum, and a fast scan empties its edge, which no small part of an image shows.

    Args:
        kinds: number of kinds.
        channels: features per level, of both looks; each halves the image.

    Raises:
        ValueError: no channels.
    """

    def __init__(self, kinds: int, channels: Sequence[int]) -> None:
        super().__init__()
        if not channels:
            raise ValueError("channels is empty")
        self.image, self.spectrum = _halving(channels), _halving(channels)
        side = math.ceil(SPECTRUM / 2 ** len(channels))
        self.head = nn.Sequential(nn.Linear(channels[-1] * (side * side + 1), 64), nn.SiLU(), nn.Linear(64, kinds))

    def forward(self, images: Tensor) -> Tensor:
        """Levels (B, kinds) in [0, 1] of images (B, 1, H, W), air -1."""
        seen = self.image(images)
        # Places count by the signal that they see.
        signal = F.adaptive_avg_pool2d((images.float() + 1).clamp(min=0), (seen.shape[-2], seen.shape[-1])) + 1e-6
        looked = (seen.float() * signal).flatten(2).sum(2) / signal.flatten(2).sum(2)
        of_spectrum = self.spectrum(log_spectrum(images).to(images.dtype)).float().flatten(1)
        both = torch.cat([of_spectrum, looked], dim=1).to(images.dtype)
        return torch.sigmoid(self.head(both).float())


def log_spectrum(images: Tensor) -> Tensor:
    """Logarithm of the power of k-space over its mean, (B, 1, SPECTRUM, SPECTRUM), of images (B, 1, H, W), air -1.

    A Hann window keeps the edges of a crop from filling the axes of k-space.
    """
    rows, columns = (torch.hann_window(n, periodic=False, device=images.device) for n in images.shape[-2:])
    windowed = (images.float() + 1).clamp(min=0) * rows[:, None] * columns
    power = F.adaptive_avg_pool2d(fft2c(windowed).abs().square(), SPECTRUM)
    return torch.log10(power / power.mean((-2, -1), keepdim=True).clamp(min=1e-12) + 1e-8)


def _halving(channels: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, features in zip((1, *channels), channels):
        layers += [nn.Conv2d(before, features, 3, stride=2, padding=1), nn.SiLU()]
    return nn.Sequential(*layers)
