"""The weights that a run begins with, taken from a pack: another contrast, other inputs, or simply more training."""

from __future__ import annotations

import torch

from ..errors import SettingError
from ..networks.unet import VDMUNet
from ..packs import find_pack
from ..packs.weights import load_network

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
