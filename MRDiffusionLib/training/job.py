"""What a training run trains: the loop knows nothing of it but this."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .share import Share


class Job(Protocol):
    """One kind of training.

    Attributes:
        description: what the weights mean, kept in checkpoints (JSON types); `resume` takes no other network's.
    """

    description: dict[str, Any]

    @property
    def model(self) -> nn.Module:
        """What is trained; its `forward` is called through Fabric's wrapper."""
        ...

    def losses(self, model: nn.Module, step: int, share: Share, device: torch.device) -> Tensor:
        """The losses of this process's images of a step, (B,); a function of (seed, rank, step) alone."""
        ...

    def validate(self, average: nn.Module) -> dict[str, float]:
        """Figures of the averaged model on what it was not trained on; the best `total` is the lowest."""
        ...

    def picture(self, average: nn.Module, path: Path) -> None:
        """What the averaged model does, as a PNG."""
        ...
