"""What the slice views show after a run, and the word SYNTHETIC in each view, 3D too, that shows a computed volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk
from slicer.util import VTKObservationMixin

from . import grids
from .nodes import WORD, is_synthetic

COLOUR = (1.0, 0.75, 0.0)
OVERLAY = 0.5
"""Opacity of what is shown over a result."""
COMPOSITE, SLICE, VIEW_3D, RENDERED, DISPLAY = (
    "vtkMRMLSliceCompositeNode",
    "vtkMRMLSliceNode",
    "vtkMRMLViewNode",
    "vtkMRMLVolumeRenderingDisplayNode",
    "vtkMRMLScalarVolumeDisplayNode",
)
FOLLOWED = (COMPOSITE, SLICE, VIEW_3D, RENDERED, DISPLAY)
"""Nodes that decide what slice views and 3D views show of a volume."""
BESIDE = slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView
LEGEND = "vtkMRMLColorLegendDisplayNode"


def show_input(volume: Any) -> None:
    """Show a volume alone in the slice views, turned to its slices: short-axis ones are in no plane of the body."""
    manager = slicer.app.layoutManager()
    for name in manager.sliceViewNames() if manager is not None else ():
        # Views that an earlier volume has turned might all be closest to one and the same plane of this one.
        manager.sliceWidget(name).mrmlSliceNode().SetOrientationToDefault()
    turn = manager is not None
    slicer.util.setSliceViewerLayers(background=volume, foreground=None, fit=True, rotateToVolumePlane=turn)


def show_result(volume: Any, result: Any) -> None:
    """Show a result where the person is looking, with its input in front of it and faded out, to compare the two.

    Not the other way round: an input with a larger field of view would frame the result, as if both were one image.
    """
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    shown = {identifier for node in composites for identifier in (node.GetBackgroundVolumeID(), _front(node)[0])}
    slicer.util.setSliceViewerLayers(
        background=result, foreground=volume, foregroundOpacity=0.0, fit=volume.GetID() not in shown
    )


def show_over(result: Any, overlay: Any) -> None:
    """Show a result with another volume of its own over it, half transparent."""
    slicer.util.setSliceViewerLayers(background=result, foreground=overlay, foregroundOpacity=OVERLAY)


def show_instead(gone: Any, volume: Any) -> None:
    """Where a volume is shown that is about to be deleted, show another one, or nothing for None."""
    identifier = None if volume is None else volume.GetID()
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        if composite.GetForegroundVolumeID() == gone.GetID():
            composite.SetForegroundVolumeID(None)
        if composite.GetBackgroundVolumeID() == gone.GetID():
            Layers(identifier, None, 0.0).show(composite)


def show_beside(result: Any, reference: Any) -> None:
    """Two volumes in two views of one plane that move together, where the application has several views."""
    manager = slicer.app.layoutManager()
    if manager is None:
        return
    plane = most_parallel_view(result)
    turn_to(plane, result)
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(plane.mrmlSliceNode().GetSliceToRAS())
    manager.setLayout(BESIDE)
    names = [name for name in ("Red", "Yellow") if name in manager.sliceViewNames()]
    for name, volume in zip(names, (result, reference)):
        widget = manager.sliceWidget(name)
        composite, node = widget.mrmlSliceCompositeNode(), widget.mrmlSliceNode()
        composite.SetLinkedControl(False)  # or the other view would be given this one's volume
        Layers(volume.GetID(), None, 0.0).show(composite)
        node.GetSliceToRAS().DeepCopy(matrix)
        node.UpdateMatrices()
        widget.sliceLogic().FitSliceToVolume(result, *node.GetDimensions()[:2])
    for name in names:
        manager.sliceWidget(name).mrmlSliceCompositeNode().SetLinkedControl(True)


def fade(volume: Any, opacity: float) -> None:
    """How much of a volume is seen where it lies in front of another one."""
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        if volume is not None and composite.GetForegroundVolumeID() == volume.GetID():
            composite.SetForegroundOpacity(opacity)


def opacity_of(volume: Any) -> float | None:
    """How much of a volume is seen in front of another one; None where it is in front of none."""
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    found = [each for each in composites if volume is not None and each.GetForegroundVolumeID() == volume.GetID()]
    return found[0].GetForegroundOpacity() if found else None


PARALLEL = 0.999
"""Cosine of the angle up to which a view lies in the plane of a volume's slices."""


def most_parallel_view(volume: Any) -> Any:
    """Of the slice views that can be seen, the one in whose plane a volume's slices lie, or nearly; None without."""
    manager = slicer.app.layoutManager()
    names = sorted(manager.sliceViewNames(), key=lambda name: (name != "Red", name)) if manager is not None else []
    views = [manager.sliceWidget(name) for name in names]
    seen = [view for view in views if view.mrmlSliceNode().IsMappedInLayout()]
    return max(seen or views, key=lambda view: _parallel(view, volume), default=None)


def slice_at(view: Any, volume: Any) -> float:
    """Where along a volume's slices the middle of a view lies; 0 is the first slice."""
    centre = slicer.util.arrayFromVTKMatrix(view.mrmlSliceNode().GetSliceToRAS())[:, 3]
    return float((np.linalg.inv(grids.affine_to_world(volume)) @ centre)[2])


def slice_in_view(volume: Any) -> int:
    """The slice of a volume, from 0, that `most_parallel_view` shows; the nearest, and without views the middle one."""
    view = most_parallel_view(volume)
    return grids.size(volume)[2] // 2 if view is None else _nearest_slice(view, volume)


def turn_to(view: Any, volume: Any) -> None:
    """Turn a view to a volume's slices, and go to the nearest one, where it is not there already."""
    node, number = view.mrmlSliceNode(), _nearest_slice(view, volume)
    if _parallel(view, volume) < PARALLEL:
        node.RotateToVolumePlane(volume)
    if np.rint(slice_at(view, volume)) != number:
        columns, rows, _slices = grids.size(volume)
        centre = grids.affine_to_world(volume) @ ((columns - 1) / 2, (rows - 1) / 2, number, 1)
        node.JumpSliceByOffsetting(*centre[:3])


def shows_place_of(volume: Any, composite: Any) -> bool:
    """Whether a view shows an image of the same place."""
    identifiers = (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID())
    found = (slicer.mrmlScene.GetNodeByID(each) for each in identifiers if each)
    return any(node.GetImageData() is not None and not grids.apart(volume, node) for node in found if node is not None)


def _nearest_slice(view: Any, volume: Any) -> int:
    return int(np.clip(np.rint(slice_at(view, volume)), 0, grids.size(volume)[2] - 1))


def _parallel(view: Any, volume: Any) -> float:
    """Cosine of the angle between a view's normal and a volume's slice axis, 0 to 1."""
    across = grids.affine_to_world(volume)[:3, 2]
    normal = slicer.util.arrayFromVTKMatrix(view.mrmlSliceNode().GetSliceToRAS())[:3, 2]
    return float(abs(normal @ across) / np.linalg.norm(across))


@dataclass(frozen=True)
class Layers:
    """What one slice view shows, as its vtkMRMLSliceCompositeNode says.

    Attributes:
        back, front: nodes' IDs, or None.
        opacity: of what is in front.
    """

    back: str | None
    front: str | None
    opacity: float

    @classmethod
    def of(cls, composite: Any) -> Layers:
        return cls(composite.GetBackgroundVolumeID(), *_front(composite))

    def show(self, composite: Any) -> None:
        """In its view alone; what is no longer in the scene is left out."""
        composite.SetBackgroundVolumeID(_in_scene(self.back))
        composite.SetForegroundVolumeID(_in_scene(self.front))
        composite.SetForegroundOpacity(self.opacity)


def _in_scene(identifier: str | None) -> str | None:
    return identifier if identifier and slicer.mrmlScene.GetNodeByID(identifier) else None


class SyntheticMark(VTKObservationMixin):
    """Writes SYNTHETIC into the corner of every view that shows a volume made by this program, slice view or 3D view.

    Also shows the legends of such volumes, while a view shows the volume and not longer: Slicer draws them in all.

    Args:
        scene: vtkMRMLScene.
        layout_manager: of the application.
    """

    def __init__(self, scene: Any, layout_manager: Any) -> None:
        super().__init__()
        self._scene, self._layout_manager = scene, layout_manager
        self._marks: dict[str, tuple[Any, Any]] = {}
        self._legends: dict[str, bool] = {}
        self._states: dict[str, tuple[Any, ...]] = {}
        self.addObserver(scene, scene.NodeAddedEvent, self._on_node_added)
        self.addObserver(scene, scene.NodeRemovedEvent, self._on_node_removed)
        self.addObserver(scene, scene.EndImportEvent, self._update_all)
        for kind in FOLLOWED:
            for node in slicer.util.getNodesByClass(kind, scene):
                self._follow(node)

    def remove(self) -> None:
        """Take all marks out of the views."""
        self.removeObservers()
        for view, actor in self._marks.values():
            _renderer(view).RemoveViewProp(actor)
            view.scheduleRender()
        self._marks = {}

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node_added(self, _scene: Any, _event: str, node: Any) -> None:
        if any(node.IsA(kind) for kind in FOLLOWED):
            self._follow(node)
        elif node.IsA(LEGEND):
            self._update_legends()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node_removed(self, _scene: Any, _event: str, node: Any) -> None:
        if self.hasObserver(node, vtk.vtkCommand.ModifiedEvent, self._update):
            self.removeObserver(node, vtk.vtkCommand.ModifiedEvent, self._update)
        self._states.pop(node.GetID(), None)
        if node.IsA(VIEW_3D) or node.IsA(COMPOSITE):
            self._marks.pop(_view_name(node), None)  # its view goes with it
        elif node.IsA(RENDERED) or node.IsA("vtkMRMLVolumeNode"):
            self._update_3d()

    def _follow(self, node: Any) -> None:
        if not self.hasObserver(node, vtk.vtkCommand.ModifiedEvent, self._update):
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._update)
        self._update(node)

    def _update_all(self, *_arguments: Any) -> None:
        for node in slicer.util.getNodesByClass(COMPOSITE, self._scene):
            self._update(node)

    def _update(self, node: Any, *_arguments: Any) -> None:
        state = _state(node)
        if state is not None:
            if self._states.get(node.GetID()) == state:
                return
            self._states[node.GetID()] = state
        if node.IsA(DISPLAY):
            self._update_all()
            return
        if node.IsA(COMPOSITE):
            widget = self._layout_manager.sliceWidget(node.GetLayoutName())
            if widget is not None:
                self._mark(_view_name(node), widget.sliceView(), _shows_synthetic(node))
            self._update_legends()
        self._update_3d()

    def _update_3d(self) -> None:
        for number in range(self._layout_manager.threeDViewCount):
            view = self._layout_manager.threeDWidget(number).threeDView()
            if view.mrmlViewNode() is not None:
                self._mark(_view_name(view.mrmlViewNode()), view, _shows_synthetic_in_3d(view.mrmlViewNode()))

    def _mark(self, name: str, view: Any, wanted: bool) -> None:
        """The word in a view, which is known by a name; made when it is first wanted."""
        if wanted and name not in self._marks:
            self._marks[name] = (view, _word())
            _renderer(view).AddViewProp(self._marks[name][1])
        if name in self._marks and bool(self._marks[name][1].GetVisibility()) != wanted:
            self._marks[name][1].SetVisibility(wanted)
            view.scheduleRender()

    def _update_legends(self) -> None:
        composites = slicer.util.getNodesByClass(COMPOSITE, self._scene)
        seen = {name for node in composites for name in (node.GetBackgroundVolumeID(), _front(node)[0])}
        for legend in slicer.util.getNodesByClass(LEGEND, self._scene):
            volume = legend.GetDisplayableNode()
            if volume is None or not is_synthetic(volume):
                continue
            shown = volume.GetID() in seen
            if self._legends.get(legend.GetID()) != shown:  # in between it is the person's
                self._legends[legend.GetID()] = shown
                legend.SetVisibility(shown)


def _view_name(node: Any) -> str:
    """Of the view that a 3D view's node or a slice view's composite node belongs to."""
    return str(node.GetID() if node.IsA(VIEW_3D) else node.GetLayoutName())


def _state(node: Any) -> tuple[Any, ...] | None:
    """What matters here of a node that changes with every step through the slices, or every touch of the window."""
    if node.IsA(SLICE):
        return node.GetSliceVisible(), *node.GetThreeDViewIDs()
    return (node.GetApplyThreshold(),) if node.IsA(DISPLAY) else None


def _shows_synthetic(composite: Any) -> bool:
    layers = _layers(composite)
    return any(
        is_synthetic(volume) and not any(_hides(*front, volume, composite) for front in layers[number + 1 :])
        for number, (volume, _opacity) in enumerate(layers)
    )


def _layers(composite: Any) -> list[tuple[Any, float]]:
    """The volumes that a view shows, from the back to the front, each with how much of it is seen."""
    scene, found = composite.GetScene(), [(composite.GetBackgroundVolumeID(), 1.0), _front(composite)]
    if hasattr(composite, "GetNumberOfAdditionalLayers"):  # newer Slicer
        first = composite.Layer_Last
        more = range(first, first + composite.GetNumberOfAdditionalLayers())
        found += [(composite.GetNthLayerVolumeID(number), composite.GetNthLayerOpacity(number)) for number in more]
    volumes = [(scene.GetNodeByID(identifier), opacity) for identifier, opacity in found if identifier]
    return [(volume, opacity) for volume, opacity in volumes if volume is not None and opacity > 0]


def _hides(front: Any, opacity: float, back: Any, composite: Any) -> bool:
    """Whether nothing is seen of a volume behind another one."""
    display = front.GetDisplayNode()
    solid = opacity >= 1 and not (display is not None and display.IsA(DISPLAY) and display.GetApplyThreshold())
    return solid and composite.GetCompositing() == composite.Alpha and grids.covers(front, back)


def _shows_synthetic_in_3d(view: Any) -> bool:
    """Whether a 3D view shows such a volume: rendered, or on a slice that is seen in it."""
    scene, identifier = view.GetScene(), view.GetID()
    for display in slicer.util.getNodesByClass(RENDERED, scene):
        shown = display.GetVisibility() and display.GetVisibility3D() and display.IsDisplayableInView(identifier)
        if shown and is_synthetic(display.GetDisplayableNode()):
            return True
    slices = slicer.util.getNodesByClass(SLICE, scene)
    seen = [each for each in slices if each.GetSliceVisible() and each.IsDisplayableInThreeDView(identifier)]
    names = {each.GetLayoutName() for each in seen}
    composites = slicer.util.getNodesByClass(COMPOSITE, scene) if names else []
    return any(each.GetLayoutName() in names and _shows_synthetic(each) for each in composites)


def _front(composite: Any) -> tuple[str | None, float]:
    """The volume in front, and how much of it can be seen."""
    return composite.GetForegroundVolumeID(), composite.GetForegroundOpacity()


def _word() -> Any:
    actor = vtk.vtkCornerAnnotation()
    actor.VisibilityOff()
    actor.SetText(vtk.vtkCornerAnnotation.LowerRight, WORD)
    actor.SetMaximumFontSize(16)
    style = actor.GetTextProperty()
    style.SetColor(*COLOUR)
    style.BoldOn()
    style.ShadowOn()
    return actor


def _renderer(view: Any) -> Any:
    return view.renderWindow().GetRenderers().GetFirstRenderer()
