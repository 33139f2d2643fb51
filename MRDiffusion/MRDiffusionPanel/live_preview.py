"""A preview of the slice in view, computed again whenever a setting or the slice changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import qt
import slicer
import slicer.util
import vtk
from slicer.util import VTKObservationMixin

from . import views
from .logic import Logic, State
from .parameters import Parameters

PAUSE_MS = 250
"""How long choices must rest: a slider that is dragged, or a view that is scrolled, is not followed step by step."""
RELEASE_MS = 15
"""How often it is asked whether the mouse has let go of a slider, for which nothing has to rest."""


class LivePreview(VTKObservationMixin):
    """Previews while its button is pressed, in the view of the input's slices; the other views stay as they are.

    A preview stands alone, its input faded out in front of it, as a result does. Where the view is not at the slice of
    the preview, the input is faded in until there is another preview.

    Args:
        button: checkable.
        logic: does the runs, one after another; a preview waits for its turn.
        ready: gives the choices as they are now, or None where no run can start.
    """

    def __init__(self, button: Any, logic: Logic, ready: Callable[[], Parameters | None]) -> None:
        super().__init__()
        self._button, self._logic, self._ready = button, logic, ready
        self._asked: tuple[Parameters, int] | None = None
        self._shown: tuple[Any, Any, int] | None = None
        """View, input and slice of the preview that is there."""
        self._back: str | None = None
        """ID of its node."""
        self._before: views.Layers | None = None
        """What its view showed before."""
        self._last: tuple[tuple[Any, Any, int] | None, str | None] = None, None
        """`_shown` and `_back` of the preview that was there before the one that is forming."""
        self._forming = False
        self._away = False
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(PAUSE_MS)
        self._timer.timeout.connect(self._look)
        self._release = qt.QTimer()
        self._release.setInterval(RELEASE_MS)
        self._release.timeout.connect(self._on_held)
        button.toggled.connect(self._on_toggled)
        logic.finished.connect(self._show)
        logic.formed.connect(self._show_forming)
        logic.changed.connect(self._on_logic)

    def refresh(self) -> None:
        """Something may have changed: look after a pause, or when the mouse lets go, whether it has."""
        if self._button.checked:
            self._timer.start()
            if mouse_held():
                self._release.start()

    def stop(self) -> None:
        """Release the button; a preview under way is cancelled, and the last one leaves view and scene."""
        self._button.checked = False

    def remove(self) -> None:
        """Leave nothing behind."""
        self.stop()
        self._logic.finished.disconnect(self._show)
        self._logic.formed.disconnect(self._show_forming)
        self._logic.changed.disconnect(self._on_logic)

    def _on_toggled(self, pressed: bool) -> None:
        if pressed:
            self._follow_views()
            self._look()
            return
        self._timer.stop()
        self._release.stop()
        self.removeObservers()
        self._asked = None
        if self._logic.previewing:
            self._logic.cancel()
        self._restore()
        self._logic.remove_preview()

    def _follow_views(self) -> None:
        for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
            if not self.hasObserver(node, vtk.vtkCommand.ModifiedEvent, self._on_view):
                self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._on_view)

    def _on_held(self) -> None:
        if not mouse_held():
            self._release.stop()
            if self._timer.active:
                self._timer.stop()
                self._look()

    def _look(self) -> None:
        chosen = self._ready()
        if chosen is None:
            return
        wanted = (chosen.quick(), views.slice_in_view(chosen.first))
        if wanted == self._asked:
            return
        if not self._logic.busy:
            self._asked = wanted
            self._logic.start(*wanted)
        elif self._logic.previewing:
            self._asked = None
            self._logic.cancel()  # when it has stopped, the panel looks again

    def _show_forming(self, node: Any) -> None:
        if self._asked is None:
            return
        if not self._forming:
            self._forming, self._last = True, (self._shown, self._back)
        self._put(node)

    def _on_logic(self) -> None:
        """A preview that was cancelled, or failed, in the midst: the one before is there again."""
        if not self._forming or self._logic.busy or self._shown is None:
            return
        if self._logic.state not in (State.IDLE, State.FAILED):
            return
        self._forming, (shown, back) = False, self._last
        composite = self._shown[0].mrmlSliceCompositeNode()
        if composite.GetBackgroundVolumeID() not in (self._back, None):
            return  # somebody shows something else there
        if back is not None and slicer.mrmlScene.GetNodeByID(back) is not None:
            self._shown, self._back = shown, back
            composite.SetBackgroundVolumeID(back)
            self._fade()
        else:
            self._restore()

    def _show(self, results: dict[str, Any]) -> None:
        node = results.get("preview")
        self._forming = False
        if node is not None and self._asked is not None:
            self._put(node)

    def _put(self, node: Any) -> None:
        assert self._asked is not None
        parameters, number = self._asked
        volume = parameters.first
        view = views.most_parallel_view(volume)
        if view is None:
            return
        composite = view.mrmlSliceCompositeNode()
        ours = self._back is not None and composite.GetBackgroundVolumeID() == self._back
        if ours and self._shown is not None and self._shown[1] is volume:
            composite.SetBackgroundVolumeID(node.GetID())  # what the person has put in front of it stays
        else:
            self._begin(view, volume, ours)
            views.Layers(node.GetID(), volume.GetID(), 0.0).show(composite)
        self._shown, self._back = (view, volume, number), node.GetID()
        self._fade()
        self._follow_views()

    def _begin(self, view: Any, volume: Any, ours: bool) -> None:
        """The first preview in a view, of an input, or after somebody showed something else there (not `ours`)."""
        composite = view.mrmlSliceCompositeNode()
        if self._shown is not None and self._shown[0].mrmlSliceCompositeNode() is not composite:
            self._restore()
        if not views.shows_place_of(volume, composite):
            views.show_input(volume)
            ours = False
        # Nothing is behind where the last preview was deleted.
        if self._before is None or (composite.GetBackgroundVolumeID() and not ours):
            self._before = views.Layers.of(composite)
        self._away = False
        views.turn_to(view, volume)

    def _on_view(self, *_arguments: Any) -> None:
        self._fade()
        self.refresh()

    def _fade(self) -> None:
        """Show the input where the preview is not."""
        if self._shown is None:
            return
        view, volume, number = self._shown
        composite, away = view.mrmlSliceCompositeNode(), False
        if volume.GetScene() is not None:
            away = bool(np.rint(views.slice_at(view, volume)) != number)
        if away != self._away and composite.GetForegroundVolumeID() == volume.GetID():
            composite.SetForegroundOpacity(1.0 if away else 0.0)
        self._away = away

    def _restore(self) -> None:
        shown, back, before = self._shown, self._back, self._before
        self._shown = self._back = self._before = None
        composite = shown and shown[0].mrmlSliceCompositeNode()
        if before is not None and composite.GetBackgroundVolumeID() in (back, None):
            before.show(composite)


def mouse_held() -> bool:
    """Whether a mouse button is down: a slider is dragged, say."""
    return qt.QApplication.mouseButtons() != qt.Qt.NoButton
