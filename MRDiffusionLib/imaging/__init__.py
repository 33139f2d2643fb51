"""Volumes on disk and in memory: SimpleITK on one side, stacks of slices with exact geometry on the other. No torch.

SimpleITK is loaded with the first name that needs it: `geometry`, `checksum` and `dicom` do without it.
"""

from typing import TYPE_CHECKING, Any

from .checksum import sha256_of
from .geometry import Geometry, voxel_positions

if TYPE_CHECKING:
    from .volume import Volume, read_volume, require_contrast, write_volume

__all__ = ["Geometry", "Volume", "read_volume", "require_contrast", "sha256_of", "voxel_positions", "write_volume"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import volume

        return getattr(volume, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
