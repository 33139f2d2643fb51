"""The slice views as a person has arranged them, to be had back."""

from __future__ import annotations

from typing import Any

import slicer
import slicer.util
import vtk

from . import views


class Arrangement:
    """Layout, and of each slice view its layers, its link, its plane, place and zoom, as they are now."""

    def __init__(self) -> None:
        manager = slicer.app.layoutManager()
        names = manager.sliceViewNames() if manager is not None else ()
        self._layout = None if manager is None else manager.layout
        self._views = {name: _View(manager.sliceWidget(name)) for name in names}

    def restore(self, after: int) -> None:
        """Arrange the views as they were.

        Args:
            after: the layout that was chosen since. Where the person has chosen another one, only the links come back.
        """
        manager = slicer.app.layoutManager()
        if manager is None:
            return
        kept = manager.layout == after
        if kept:
            manager.setLayout(self._layout)
        found = {name: manager.sliceWidget(name) for name in self._views if name in manager.sliceViewNames()}
        for name, widget in found.items():
            self._views[name].restore(widget, kept)
        for name, widget in found.items():  # when no view hands its layers on to others any more
            widget.mrmlSliceCompositeNode().SetLinkedControl(self._views[name].linked)


class _View:
    def __init__(self, widget: Any) -> None:
        composite, node = widget.mrmlSliceCompositeNode(), widget.mrmlSliceNode()
        self.linked = bool(composite.GetLinkedControl())
        self._layers, self._plane = views.Layers.of(composite), vtk.vtkMatrix4x4()
        self._plane.DeepCopy(node.GetSliceToRAS())
        self._origin = node.GetXYZOrigin()
        field, pixels = node.GetFieldOfView(), node.GetDimensions()
        # The view may get its size later, and keeps the size of its pixels then.
        self._pixel_mm = [field[axis] / max(1, pixels[axis]) for axis in (0, 1)]

    def restore(self, widget: Any, all_of_it: bool) -> None:
        composite, node = widget.mrmlSliceCompositeNode(), widget.mrmlSliceNode()
        composite.SetLinkedControl(False)
        if not all_of_it:
            return
        self._layers.show(composite)
        node.GetSliceToRAS().DeepCopy(self._plane)
        node.UpdateMatrices()
        width, height = (self._pixel_mm[axis] * node.GetDimensions()[axis] for axis in (0, 1))
        node.SetFieldOfView(width, height, node.GetFieldOfView()[2])
        node.SetXYZOrigin(*self._origin)
