"""The weights that a run begins with, of a pack or a checkpoint: other data, other inputs, or simply more training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError, SettingError
from ..networks.degrader import Degrader
from ..networks.enhancer import Enhancer
from ..networks.unet import VDMUNet
from ..packs import find_pack
from ..packs.weights import load_cmrdiff, load_degrader, load_enhancer, load_network

FIRST = "unet.conv_in.conv.weight"
"""The one tensor whose shape depends on what the network is shown."""


def start_from(network: VDMUNet, pack: str) -> None:
    """Give a new network the weights of a pack.

    Inputs of the same name (`VDMUNet.inputs`) keep their weights. Inputs that the pack's network lacks begin at zero,
    so that the new network at first predicts what the old one did (as in Zhang et al. 2302.05543); inputs that the new
    one lacks are left out.

    Args:
        network: changed in place.
        pack: name or folder.

    Raises:
        PackError: a pack that is missing or damaged.
        SettingError: a pack whose network has other channels, blocks or outputs.
    """
    info = find_pack(pack)
    other, _ = load_network(info)
    weights = other.state_dict()
    old, inputs = weights[FIRST], other.inputs
    first = old.new_zeros(len(old), len(network.inputs), *old.shape[2:])
    for i, name in enumerate(network.inputs):
        if name in inputs:
            first[:, i] = old[:, inputs.index(name)]
    try:
        with torch.no_grad():
            network.load_state_dict({**weights, FIRST: first})
    except RuntimeError as error:
        hint = f"Use its network: {info.network}"
        raise SettingError(f"the network cannot start from pack {info.name}: its shapes differ", hint) from error


PARTS = {
    "autoencoder": {"": "autoencoder."},
    "synthesis": {"unet.": "unet.", "features.": "features."},
    "translation": {"unet.": "regression."},
}
"""Task to the beginnings of its weights' names and of those in a synthesis pack."""


def start_from_synthesis_pack(model: nn.Module, pack: str, task: str) -> None:
    """Give a new model of a task of `PARTS` the weights of a pack; its buffers (a scale) stay its own.

    Raises:
        PackError: a pack that is missing, damaged or of another task.
        SettingError: a pack whose network has other channels or blocks, or lacks this part.
    """
    info = find_pack(pack)
    network, _ = load_cmrdiff(info)
    weights = {
        own + name.removeprefix(beginning): value
        for own, beginning in PARTS[task].items()
        for name, value in network.state_dict().items()
        if name.startswith(beginning)
    }
    hint = f"Use its network and features: {info.network}"
    _load(model, weights, f"pack {info.name} is of another network", hint)


def start_from_quality_pack(model: Degrader | Enhancer, pack: str) -> None:
    """Give a new degrader or enhancer the weights of a pack; what a degrader measured on its pairs stays its own.

    Raises:
        PackError: a pack that is missing, damaged or of another task.
        SettingError: a pack whose network has other channels or blocks, or is for other kinds.
    """
    info = find_pack(pack)
    network = load_degrader(info)[0] if isinstance(model, Degrader) else load_enhancer(info)[0]
    hint = f"Use its network: {info.network}"
    # Planes of the levels stand in the order of the kinds, which no shape tells.
    if isinstance(model, Enhancer) and isinstance(network, Enhancer) and model.kinds != network.kinds:
        raise SettingError(f"kinds = {list(model.kinds)}, but pack {info.name} has {list(network.kinds)}", hint)
    _load(model, network.state_dict(), f"pack {info.name} is of another network", hint)


def start_from_checkpoint(model: nn.Module, checkpoint: str | Path) -> None:
    """Give a new model the averaged weights of a run with the same network; its buffers (a scale) stay its own.

    Raises:
        InputError: a file that is missing or no checkpoint.
        SettingError: the checkpoint of another network.
    """
    _, weights = averaged(checkpoint)
    _load(model, weights, f"{checkpoint} is of another network", "Use its network")


def averaged(checkpoint: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What the weights of a run's checkpoint mean (`job.Job.description`), and their moving average.

    Raises:
        InputError: a file that is missing or no checkpoint.
    """
    try:
        loaded = torch.load(checkpoint, map_location="cpu", weights_only=True)
        state, description = loaded["ema"], dict(loaded.get("description", {}))
    except Exception as error:  # torch.load raises nearly any type for a damaged file
        raise InputError(
            f"{checkpoint} cannot be read ({error!r:.200})", "Name a checkpoint of a training run"
        ) from error
    beginning = "module."
    return description, {n.removeprefix(beginning): v for n, v in state.items() if n.startswith(beginning)}


def trained(checkpoint: str, task: str, kind: type[nn.Module]) -> nn.Module:
    """The averaged network of a run of a task, ready to predict, without gradients.

    Args:
        kind: takes the settings in the checkpoint's description.

    Raises:
        InputError: a file that is missing or no checkpoint of the task.
    """
    description, weights = averaged(checkpoint)
    hint = f"Train it first (task {task}), and name its best.ckpt"
    if description.get("task") != task:
        raise InputError(f"{checkpoint} is of the task {description.get('task')}", hint)
    try:
        network = kind(**description["network"])
        network.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{checkpoint} cannot be used ({error!s:.200})", hint) from error
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)


def _load(model: nn.Module, weights: Mapping[str, Tensor], problem: str, hint: str) -> None:
    own, state = {name for name, _ in model.named_buffers()}, model.state_dict()
    kept = {name: value for name, value in state.items() if name in own}
    # A discriminator begins anew where the weights have none: those of a pack, or of a baseline trained without it.
    new = {name: value for name, value in state.items() if name.startswith("discriminator.") and name not in weights}
    try:
        model.load_state_dict({**weights, **kept, **new})
    except RuntimeError as error:
        raise SettingError(f"{problem} ({error!s:.200})", hint) from error
