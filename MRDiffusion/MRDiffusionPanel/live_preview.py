"""A preview of the slice in view, computed again whenever a setting or the slice changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer.util
import vtk
from slicer.util import VTKObservationMixin

from . import nodes, views
from .logic import Logic
from .parameters import Parameters

PAUSE_MS = 250
"""How long choices must rest: a slider that is dragged, or a view that is scrolled, is not followed step by step."""


class LivePreview(VTKObservationMixin):
    """Previews while its button is pressed, in the view of the input's slices; the other views go on showing the input.

    Args:
        button: checkable.
        logic: does the runs, one after another; a preview waits for its turn.
        ready: gives the choices as they are now, or None where no run can start.
    """

    def __init__(self, button: Any, logic: Logic, ready: Callable[[], Parameters | None]) -> None:
        super().__init__()
        self._button, self._logic, self._ready = button, logic, ready
        self._made: tuple[Parameters, int] | None = None
        self._before: tuple[Any, views.Layers] | None = None
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(PAUSE_MS)
        self._timer.timeout.connect(self._look)
        button.toggled.connect(self._on_toggled)
        logic.finished.connect(self._show)

    def refresh(self) -> None:
        """Something may have changed: look after a pause whether it has."""
        if self._button.checked:
            self._timer.start()

    def stop(self) -> None:
        """Release the button; a preview under way is cancelled, and the last one leaves view and scene."""
        self._button.checked = False

    def remove(self) -> None:
        """Leave nothing behind."""
        self.stop()
        self._logic.finished.disconnect(self._show)

    def _on_toggled(self, pressed: bool) -> None:
        if pressed:
            for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
                self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._on_view)
            self._look()
            return
        self._timer.stop()
        self.removeObservers()
        self._made = None
        if self._logic.previewing:
            self._logic.cancel()
        self._restore()
        self._logic.remove_preview()

    def _look(self) -> None:
        chosen = None if self._logic.busy else self._ready()
        if chosen is None:
            return
        wanted = (chosen.quick(), views.slice_in_view(chosen.first))
        if wanted != self._made:
            self._made = wanted
            self._logic.start(*wanted)

    def _show(self, results: dict[str, Any]) -> None:
        """The preview stands alone, its input faded out in front of it, as with a result."""
        node = results.get("preview")
        volume = node and node.GetNodeReference(nodes.INPUT_REFERENCE)
        view = volume and views.most_parallel_view(volume)
        if view is None:
            return
        composite = view.mrmlSliceCompositeNode()
        if self._before is not None and self._before[0] is not composite:
            self._restore()
        # In front it is where the last preview has put it; what is behind, that preview being gone, Slicer decides.
        if self._before is None or composite.GetForegroundVolumeID() != volume.GetID():
            if volume.GetID() not in (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()):
                views.show_input(volume)
            self._before = (composite, views.Layers.of(composite))
        views.Layers(node.GetID(), volume.GetID(), 0.0).show(composite)

    def _on_view(self, *_arguments: Any) -> None:
        """Where the preview is not, the input is shown until there is another preview."""
        made, before = self._made, self._before
        if made and before and made[0].first.GetScene() and views.slice_in_view(made[0].first) != made[1]:
            before[0].SetForegroundOpacity(1.0)
        self.refresh()

    def _restore(self) -> None:
        before, self._before = self._before, None
        if before is not None:
            composite, layers = before
            layers.show(composite)
