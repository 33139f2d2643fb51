"""Packs: trained models as folders of plain files, with no code in them. Importing this loads no torch.

    pack.json             what the model is for, how to build it, what was measured (`PackInfo`)
    weights.safetensors   its weights; no other format is read
    README.md             the model card
    LICENSE               the terms of the weights

`packs.weights` builds the network; it loads torch.
"""

from .find import find_pack, list_packs, scan_packs, shipped_folder, user_folder
from .info import PackInfo, read_info
from .verify import verify_files, verify_pack

__all__ = [
    "PackInfo",
    "find_pack",
    "list_packs",
    "read_info",
    "scan_packs",
    "shipped_folder",
    "user_folder",
    "verify_files",
    "verify_pack",
]
