"""Slicer's slice views, drawn off screen by Slicer's own pipeline and displayable managers; a 3D view without them."""

from __future__ import annotations

import os
import sys
from ctypes.util import find_library
from typing import Any

import slicer
import vtk
import vtkmodules.vtkRenderingOpenGL2  # noqa: F401  registers the renderer's implementation
from vtkmodules.util.numpy_support import vtk_to_numpy

NAMES = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}
MANAGERS = ("vtkMRMLCrosshairDisplayableManager", "vtkMRMLScalarBarDisplayableManager")


def check_renderer() -> None:
    """VTK ends the process where it finds no OpenGL at all. Raises RuntimeError instead."""
    libraries = any(find_library(name) for name in ("EGL", "OSMesa"))
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY") and not libraries:
        raise RuntimeError(
            "nothing can draw the slice views: install libegl1 with libgl1, or libosmesa6 (Debian's names)"
        )


class SliceWidget:
    """One slice view; plays qMRMLSliceWidget and its qMRMLSliceView at once."""

    def __init__(self, application_logic, name: str, orientation: str, size: tuple[int, int]) -> None:
        self.name, self.size, self.renders = name, size, 0
        self._renderer = vtk.vtkRenderer()
        self._renderer.GetActiveCamera().ParallelProjectionOn()
        self._window = vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(1)
        self._window.SetShowWindow(False)
        self._window.SetSize(*size)
        self._window.AddRenderer(self._renderer)
        self._interactor = vtk.vtkRenderWindowInteractor()  # the displayable managers crash without one
        self._interactor.SetRenderWindow(self._window)
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(application_logic)
        for manager in MANAGERS:
            if not factory.IsDisplayableManagerRegistered(manager):
                factory.RegisterDisplayableManager(manager)
        self._group = slicer.vtkMRMLDisplayableManagerGroup()
        self._group.SetRenderer(self._renderer)
        self._group.Initialize(factory, self._renderer)
        self._logic = slicer.vtkMRMLSliceLogic()
        self._logic.SetMRMLApplicationLogic(application_logic)
        application_logic.GetSliceLogics().AddItem(self._logic)
        self._logic.SetMRMLScene(application_logic.GetMRMLScene())
        self._node = self._logic.AddSliceNode(name)
        self._node.SetDefaultOrientation(orientation)
        self._node.SetOrientation(orientation)
        self._group.SetMRMLDisplayableNode(self._node)
        self._interactor.SetInteractorStyle(None)  # VTK's own one keeps the mouse to itself
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        image = vtk.vtkActor2D()
        image.SetMapper(self._mapper)
        image.GetProperty().SetDisplayLocationToBackground()
        self._renderer.AddViewProp(image)
        self._logic.ResizeSliceNode(*size)

    def sliceView(self) -> SliceWidget:
        return self

    def renderWindow(self):
        return self._window

    def scheduleRender(self) -> None:
        self.renders += 1

    def sliceLogic(self):
        return self._logic

    def mrmlSliceNode(self):
        return self._node

    def mrmlSliceCompositeNode(self):
        return self._logic.GetSliceCompositeNode()

    def pixels(self) -> Any:
        """The view as it is now, (height, width, 3) uint8, top row first."""
        self._logic.UpdatePipeline()
        self._mapper.SetInputConnection(self._logic.GetImageDataConnection())
        return _drawn(self._window)


class ThreeDWidget:
    """A 3D view that draws nothing of the scene; plays qMRMLThreeDWidget and its qMRMLThreeDView at once."""

    def __init__(self, scene, name: str, size: tuple[int, int]) -> None:
        node = slicer.vtkMRMLViewNode()
        node.SetName(f"View{name}")
        node.SetLayoutName(name)
        node.SetSingletonTag(name)
        self._node, self.renders = scene.AddNode(node), 0
        self._window = vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(1)
        self._window.SetShowWindow(False)
        self._window.SetSize(*size)
        self._window.AddRenderer(vtk.vtkRenderer())

    def threeDView(self) -> ThreeDWidget:
        return self

    def renderWindow(self):
        return self._window

    def scheduleRender(self) -> None:
        self.renders += 1

    def mrmlViewNode(self):
        return self._node

    def pixels(self) -> Any:
        """The view as it is now, (height, width, 3) uint8, top row first."""
        return _drawn(self._window)


def _drawn(window) -> Any:
    window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    image = grab.GetOutput()
    width, height, _ = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1, :, :3]


class LayoutManager:
    """The three slice views, of which the layout side by side shows two, and the 3D view of the conventional layout."""

    def __init__(self, application_logic, size: tuple[int, int]) -> None:
        check_renderer()
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(application_logic.GetMRMLScene(), True)
        self._logic = application_logic
        self._widgets = {n: SliceWidget(application_logic, n, orientation, size) for n, orientation in NAMES.items()}
        self._spaces = [ThreeDWidget(application_logic.GetMRMLScene(), "1", size)]
        self.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView)

    def setLayout(self, layout: int) -> None:
        """Only says which slice views can be seen: all of them keep their size."""
        self.layout = layout
        beside = layout == slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView
        for name, widget in self._widgets.items():
            widget.mrmlSliceNode().SetMappedInLayout(not beside or name != "Green")

    @property
    def threeDViewCount(self) -> int:
        return len(self._spaces)

    def threeDWidget(self, number: int) -> ThreeDWidget:
        return self._spaces[number]

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._widgets)

    def sliceWidget(self, name: str) -> SliceWidget | None:
        return self._widgets.get(name)

    def mrmlSliceLogics(self):
        return self._logic.GetSliceLogics()
