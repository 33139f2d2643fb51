"""Training on slices of one sequence: the prior of super-resolution, and its one-pass baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..diffusion.schedule import schedule_from_dict
from ..errors import SettingError
from ..networks.unet import VDMUNet
from .batches import prior_losses, regression_losses
from .building import building
from .config import TrainingConfig
from .data import load_slices
from .regression import Regression
from .share import Share
from .start import start_from
from .validation import picture, validate
from .vdm import VariationalDiffusion


class SlicesJob:
    """A `job.Job`: 'prior' or 'regression'.

    Args:
        config: the run.
        fresh: whether the run begins, and so takes the weights of `config.start`.

    Raises:
        InputError: an archive that cannot be used.
        PackError: a `start` that is no pack.
        SettingError: settings that do not go with each other or with the images.
    """

    def __init__(self, config: TrainingConfig, fresh: bool = True) -> None:
        self.config = config
        self.slices = load_slices(config.data, config.train_subjects)
        held_out = load_slices(config.data, config.validation_subjects)
        self.held_out = held_out[:: max(1, len(held_out) // config.validation_slices)][: config.validation_slices]
        self.model = build_model(config)
        network = self.model.network
        assert isinstance(network, VDMUNet)
        if config.start and fresh:
            start_from(network, config.start)
        check_sizes(config, network, (self.slices.shape[-2], self.slices.shape[-1]))
        self.description = _description(self.model, network)

    def losses(self, model: nn.Module, step: int, share: Share, device: torch.device) -> Tensor:
        """As `job.Job`."""
        if isinstance(self.model, Regression):
            return regression_losses(model, self.slices, self.config, step, share, device)
        return prior_losses(model, self.model.schedule, self.slices, self.config, step, share, device)

    def validate(self, average: nn.Module) -> dict[str, float]:
        """As `job.Job`."""
        return validate(average, self.held_out, self.config)

    def picture(self, average: nn.Module, path: Path) -> None:
        """As `job.Job`."""
        picture(average, self.held_out, path, self.config)


def build_model(config: TrainingConfig) -> VariationalDiffusion | Regression:
    """The untrained model that a configuration describes, its weights fixed by the seed.

    Raises:
        SettingError: a network or schedule that cannot be built.
    """
    torch.manual_seed(config.seed)
    with building("the network or the schedule"):
        schedule = schedule_from_dict(config.schedule)
        network = VDMUNet(**config.network, gamma_min=schedule.gamma_min, gamma_max=schedule.gamma_max)
    if config.task == "regression":
        return Regression(network, schedule.gamma_min, schedule.gamma_max)
    return VariationalDiffusion(network, schedule, config.prediction)


def check_sizes(config: TrainingConfig, network: VDMUNet, image: tuple[int, int]) -> None:
    """Raises SettingError where crops or matrices do not go with the network or the images."""
    multiple, whole = network.multiple, min(image)
    if image[0] % multiple or image[1] % multiple:
        hint = "Crop or pad the images of the archive"
        raise SettingError(f"the images have {image[0]}x{image[1]} pixels, not multiples of {multiple}", hint)
    for phase in config.phases:
        if phase.crop % multiple or phase.crop > whole:
            hint = f"Use a multiple of {multiple}, at most {whole}"
            raise SettingError(f"crop = {phase.crop} does not go with the network and the images", hint)
    for matrix in config.measured if config.task == "regression" else ():
        if max(matrix) > whole:
            hint = f"Use matrices of at most {whole}x{whole}"
            raise SettingError(f"measured = {matrix[0]}x{matrix[1]} does not fit into the images", hint)


def _description(model: VariationalDiffusion | Regression, network: VDMUNet) -> dict[str, Any]:
    """What the weights of a checkpoint mean: equal shapes do not make an equal network."""
    if isinstance(model, Regression):
        return {"task": "regression", "network": network.settings}
    of_prior = {"prediction": model.prediction, "schedule": model.schedule.to_dict()}
    return {"task": "prior", "network": network.settings, **of_prior}
