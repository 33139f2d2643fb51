"""One volume left of an edge in the slice views and another one right of it; the edge is dragged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
import slicer.util
import vtk
from slicer.util import VTKObservationMixin

from . import views

NEAR = 12
"""Pixels from the edge within which it is taken hold of."""
LARGEST = 1 << 14
"""Pixels of a view."""
CHARACTER = 9
"""Pixels of a title's character, at most."""
DRAG_PRIORITY = 10.0
"""Above that of the views' own ways with the mouse, which then do not see the drag."""


class Swipe(VTKObservationMixin):
    """The two volumes lie in the two layers of every slice view, and each layer is cut at the edge of the view.

    Slicer samples each layer for the pixels of a view; a stencil there leaves out those beyond the edge. So neither
    volume has to be resampled onto the other, and any field of view, plane and zoom is as it is without the edge.

    Args:
        moved: called when the person has moved the edge.
        ended: called when it ends by itself: a view shows something else, or a volume is gone.

    Attributes:
        fraction: where the edge is, 0 at the left of a view and 1 at its right.
    """

    def __init__(self, moved: Callable[[], None], ended: Callable[[], None]) -> None:
        super().__init__()
        self.fraction = 0.5
        self._moved, self._ended = moved, ended
        self._edges: list[_Edge] = []
        self._before: list[tuple[Any, views.Layers]] = []
        self._pair: tuple[str, str] = ("", "")

    @property
    def active(self) -> bool:
        """Whether the views are divided."""
        return bool(self._edges)

    def start(self, left: Any, right: Any) -> None:
        """Divide the views, where the application has some, at their middle."""
        manager = slicer.app.layoutManager()
        if manager is None:
            return
        composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
        self._before = [(composite, views.Layers.of(composite)) for composite in composites]
        there = any(views.shows_place_of(left, composite) for composite in composites)
        slicer.util.setSliceViewerLayers(background=right, foreground=left, foregroundOpacity=1.0, fit=not there)
        self._pair, self.fraction = (right.GetID(), left.GetID()), 0.5
        titles = tuple(volume.GetName().split("; ")[0] for volume in (left, right))
        for name in manager.sliceViewNames():
            widget = manager.sliceWidget(name)
            self._edges.append(_Edge(widget, titles, self._on_drag))
            self.addObserver(widget.mrmlSliceNode(), vtk.vtkCommand.ModifiedEvent, self._place)
            self.addObserver(widget.mrmlSliceCompositeNode(), vtk.vtkCommand.ModifiedEvent, self._on_layers)
        self._place()

    def move(self, fraction: float) -> None:
        """Put the edge somewhere else."""
        self.fraction = min(max(fraction, 0.0), 1.0)
        self._place()

    def stop(self) -> None:
        """Show what was shown before; a view that shows something else by now is left as it is."""
        self.removeObservers()
        for edge in self._edges:
            edge.remove()
        for composite, layers in self._before:
            if self._shows_pair(composite):
                layers.show(composite)
        self._edges, self._before = [], []

    def _place(self, *_arguments: Any) -> None:
        for edge in self._edges:
            edge.place(self.fraction)

    def _on_drag(self, fraction: float) -> None:
        self.move(fraction)
        self._moved()

    def _on_layers(self, composite: Any, *_arguments: Any) -> None:
        if not self._shows_pair(composite):
            self.stop()
            self._ended()

    def _shows_pair(self, composite: Any) -> bool:
        return (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()) == self._pair


class _Edge:
    """The edge in one view: what cuts the layers, what is drawn, and the mouse.

    Args:
        widget: qMRMLSliceWidget.
        titles: what is written left and right of it.
        dragged: is told where the person drags it to.
    """

    def __init__(self, widget: Any, titles: tuple[str, ...], dragged: Callable[[float], None]) -> None:
        self._widget, self._dragged = widget, dragged
        self._placed: tuple[float, int] | None = None
        self._held = False
        logic = widget.sliceLogic()
        self._slices = [layer.GetReslice() for layer in (logic.GetForegroundLayer(), logic.GetBackgroundLayer())]
        self._stencils = [_stencil() for _slice in self._slices]
        self._titles, self._line, self._texts = titles, _line(), [_text() for _title in titles]
        self._texts[0].GetTextProperty().SetJustificationToRight()
        for actor in (self._line, *self._texts):
            self._renderer().AddViewProp(actor)
        self._interactor, self._tags = widget.sliceView().renderWindow().GetInteractor(), dict[str, int]()
        for event, slot in (
            ("LeftButtonPressEvent", self._on_press),
            ("MouseMoveEvent", self._on_move),
            ("LeftButtonReleaseEvent", self._on_release),
        ):
            self._tags[event] = self._interactor.AddObserver(event, slot, DRAG_PRIORITY)

    def place(self, fraction: float) -> None:
        """Cut the layers there, if the view is not cut there already."""
        width = self._widget.mrmlSliceNode().GetDimensions()[0]
        if self._placed == (fraction, width):
            return
        self._placed, edge = (fraction, width), fraction * width - 0.5
        bounds = ((-1.0, edge), (edge, float(LARGEST)))
        for reslice, stencil, (low, high) in zip(self._slices, self._stencils, bounds):
            stencil.SetBounds(low, high, -1.0, float(LARGEST), -1.0, 1.0)
            reslice.SetInputConnection(1, stencil.GetOutputPort())
        self._line.SetPosition(fraction, 0.0)
        for actor, title, side in zip(self._texts, self._titles, (-1, 1)):
            actor.SetPosition(fraction + 0.01 * side, 0.9)
            actor.SetInput(shortened(title, int(width * (fraction if side < 0 else 1 - fraction) / CHARACTER)))
        self._widget.sliceView().scheduleRender()

    def remove(self) -> None:
        """Leave the view as if there had been no edge."""
        for tag in self._tags.values():
            self._interactor.RemoveObserver(tag)
        for reslice in self._slices:
            reslice.SetInputConnection(1, None)
        for actor in (self._line, *self._texts):
            self._renderer().RemoveViewProp(actor)
        self._widget.sliceView().scheduleRender()

    def _renderer(self) -> Any:
        return self._widget.sliceView().renderWindow().GetRenderers().GetFirstRenderer()

    def _on_press(self, interactor: Any, event: str) -> None:
        assert self._placed is not None
        width = interactor.GetRenderWindow().GetSize()[0]
        self._held = abs(interactor.GetEventPosition()[0] - self._placed[0] * width) <= NEAR
        self._taken(event)

    def _on_move(self, interactor: Any, event: str) -> None:
        if self._held:
            self._taken(event)
            self._dragged(interactor.GetEventPosition()[0] / interactor.GetRenderWindow().GetSize()[0])

    def _on_release(self, _interactor: Any, event: str) -> None:
        self._taken(event)
        self._held = False

    def _taken(self, event: str) -> None:
        """Keep an event of the drag from the view."""
        if self._held:
            self._interactor.GetCommand(self._tags[event]).SetAbortFlag(1)


def _stencil() -> Any:
    """A box of pixels of a view; its bounds come later."""
    stencil = vtk.vtkROIStencilSource()
    stencil.SetShapeToBox()
    stencil.SetOutputSpacing(1.0, 1.0, 1.0)
    stencil.SetOutputOrigin(0.0, 0.0, 0.0)
    stencil.SetOutputWholeExtent(0, LARGEST - 1, 0, LARGEST - 1, 0, 0)
    return stencil


def _line() -> Any:
    """From the bottom to the top of a view."""
    source, mapper, actor = vtk.vtkLineSource(), vtk.vtkPolyDataMapper2D(), vtk.vtkActor2D()
    source.SetPoint1(0.0, 0.0, 0.0)
    source.SetPoint2(0.0, 1.0, 0.0)
    within = vtk.vtkCoordinate()
    within.SetCoordinateSystemToNormalizedViewport()
    mapper.SetTransformCoordinate(within)
    mapper.SetInputConnection(source.GetOutputPort())
    actor.SetMapper(mapper)
    actor.GetPositionCoordinate().SetCoordinateSystemToNormalizedViewport()
    return actor


def shortened(title: str, length: int) -> str:
    """At most so many characters, its beginning; nothing where that would tell nothing."""
    if len(title) <= length:
        return title
    return title[: length - 3].rstrip() + "..." if length > 3 else ""


def _text() -> Any:
    actor = vtk.vtkTextActor()
    actor.GetPositionCoordinate().SetCoordinateSystemToNormalizedViewport()
    style = actor.GetTextProperty()
    style.SetFontSize(14)
    style.ShadowOn()
    return actor
