"""The enhancer: an unrolled proximal network that knows the degradation's kind and level, in one pass.

Seed 000's CNN is an "adaptive property-constrained unrolled network" (Zhou et al., Proc. ISMRM 2023, 4031), of which no
more than that is known. This one unrolls proximal gradient descent with learned steps (Mardani et al. 1806.03963;
Monga et al. 1912.10557, section IV):

    x <- prox(x - t_k A^T (A x - y)),   A the identity for noise, the low frequencies that a fast scan measures for blur
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..physics.low_pass import low_pass, measured_extent
from ..settings import KINDS
from .unet import VDMUNet


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
    """How degraded images are: `(images) -> levels`, a small network whose places vote by the signal that they see.

    Args:
        kinds: number of kinds.
        channels: features per level; each halves the image.

    Raises:
        ValueError: no channels.
    """

    def __init__(self, kinds: int, channels: Sequence[int]) -> None:
        super().__init__()
        if not channels:
            raise ValueError("channels is empty")
        layers: list[nn.Module] = []
        before = 1
        for features in channels:
            layers += [nn.Conv2d(before, features, 3, stride=2, padding=1), nn.SiLU()]
            before = features
        self.layers = nn.Sequential(*layers)
        self.head = nn.Conv2d(before, kinds, 1)
        self.factor = 2 ** len(channels)

    def forward(self, images: Tensor) -> Tensor:
        """Levels (B, kinds) in [0, 1] of images (B, 1, H, W), air -1."""
        votes = torch.sigmoid(self.head(self.layers(images)).float())
        signal = F.adaptive_avg_pool2d((images.float() + 1).clamp(min=0), (votes.shape[-2], votes.shape[-1])) + 1e-6
        return (votes * signal).flatten(2).sum(2) / signal.flatten(2).sum(2)
