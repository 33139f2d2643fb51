"""Whenever a result is saved, in whatever way, what made it is written beside it: most formats cannot hold it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from MRDiffusionLib.errors import StorageError

from . import nodes, results

SAVED = "fileSaved(qSlicerIO::IOProperties)"


class Sidecars:
    """Writes a JSON file beside every synthetic volume that the application saves.

    Args:
        scene: vtkMRMLScene.
        io_manager: of the application.
    """

    def __init__(self, scene: Any, io_manager: Any) -> None:
        self._scene, self._io_manager = scene, io_manager
        io_manager.connect(SAVED, self._on_saved)

    def remove(self) -> None:
        """Listen no more."""
        self._io_manager.disconnect(SAVED, self._on_saved)

    def _on_saved(self, properties: Any) -> None:
        identifier = properties.get("nodeID")
        node = self._scene.GetNodeByID(identifier) if identifier else None
        if node is None or not nodes.is_synthetic(node) or nodes.provenance_of(node) is None:
            return
        try:
            results.write_sidecar(node, Path(properties["fileName"]))
        except StorageError as error:
            logging.error("%s", error)  # Slicer has saved the volume; nobody waits for an answer here
