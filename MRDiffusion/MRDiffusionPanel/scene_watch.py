"""Tells that nodes have come, gone or changed, once for all that do so at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
import vtk
from slicer.util import VTKObservationMixin


class SceneWatch(VTKObservationMixin):
    """Watches the application's scene until `remove`.

    Args:
        changed: called from the event loop: many nodes come and go at once where a scene is read or closed.
    """

    def __init__(self, changed: Callable[[], Any]) -> None:
        super().__init__()
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.timeout.connect(changed)
        scene = slicer.mrmlScene
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndBatchProcessEvent):
            self.addObserver(scene, event, self._on_scene)

    def follow(self, nodes: list[Any]) -> None:
        """Tell also that one of these, and none of those before, has got another name or attribute."""
        self.removeObservers(self._on_node)
        for node in nodes:
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._on_node)

    def remove(self) -> None:
        """Let go of the scene."""
        self._timer.stop()
        self.removeObservers()

    def _on_scene(self, *_arguments: Any) -> None:
        self._timer.start()

    def _on_node(self, *_arguments: Any) -> None:
        self._timer.start()
