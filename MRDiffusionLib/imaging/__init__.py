"""Volumes on disk and in memory: SimpleITK on one side, stacks of slices with exact geometry on the other. No torch."""

from .geometry import Geometry, voxel_positions
from .volume import Volume, read_volume, require_contrast, sha256_of, write_volume

__all__ = ["Geometry", "Volume", "read_volume", "require_contrast", "sha256_of", "voxel_positions", "write_volume"]
