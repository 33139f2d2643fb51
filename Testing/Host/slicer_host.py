"""A small host for the panel where the Slicer application is not: `slicer.app` and friends over slicer-core.

Real: the MRML scene, its nodes, storage and subject hierarchy, Slicer's slice pipeline, Qt's widgets, events and
processes. Stand-ins: PythonQt's manners (`qt`), two CTK widgets, the node selector, the scripted module base classes
and the parameter node wrapper. The README beside this file says what this cannot show.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
import types
from pathlib import Path

import ctk
import mrml_widgets
import qt
import slicer
import slicer.util
import vtk


class _Signal:
    def __init__(self) -> None:
        self._slots: list = []

    def connect(self, slot) -> None:
        self._slots.append(slot)

    def disconnect(self, slot) -> None:
        self._slots.remove(slot)

    def emit(self, *args) -> None:
        for slot in tuple(self._slots):
            slot(*args)


class ModuleManager:
    """Of qSlicerModuleManager: who is told before a module goes."""

    def __init__(self) -> None:
        self._unloaded = _Signal()

    def connect(self, signal, slot) -> None:
        assert signal == "moduleAboutToBeUnloaded(QString)", signal
        self._unloaded.connect(slot)

    def disconnect(self, signal, slot) -> None:
        assert signal == "moduleAboutToBeUnloaded(QString)", signal
        self._unloaded.disconnect(slot)

    def unload(self, name: str) -> None:
        self._unloaded.emit(name)


class IOManager:
    """Of qSlicerCoreIOManager: volumes and scenes, as `slicer.util.loadVolume`, `saveScene` and `loadScene` ask."""

    def __init__(self, application: Application) -> None:
        self._application, self._saved = application, _Signal()

    def connect(self, signal, slot) -> None:
        assert signal == "fileSaved(qSlicerIO::IOProperties)", signal
        self._saved.connect(slot)

    def disconnect(self, signal, slot) -> None:
        assert signal == "fileSaved(qSlicerIO::IOProperties)", signal
        self._saved.disconnect(slot)

    def loadNodes(self, kind, properties, loaded, _messages):
        scene, path = self._application.scene, properties["fileName"]
        if kind == "SceneFile":
            return self._load_scene(scene, path, properties.get("clear", True))
        if kind == "SequenceFile":
            return self._load_sequence(scene, path, loaded)
        assert kind == "VolumeFile", kind
        name = properties.get("name") or Path(path).name.split(".")[0]
        node = self._application.volumes_logic.AddArchetypeVolume(path, name)
        if node is None:
            return False
        loaded.AddItem(node)
        return True

    def _load_sequence(self, scene, path, loaded):
        node = self._application.sequences_logic.AddSequence(path)
        if node is None:
            return False
        loaded.AddItem(node)
        browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{node.GetName()} browser")
        browser.SetAndObserveMasterSequenceNodeID(node.GetID())
        return True

    def _load_scene(self, scene, path, clear):
        if path.endswith(".mrb"):
            return bool(scene.ReadFromMRB(path, clear))
        scene.SetURL(path)
        return bool(scene.Connect() if clear else scene.Import())

    def fileWriterFileType(self, _node) -> str:
        return "VolumeFile"

    def saveNodes(self, kind, properties, _messages):
        scene, path = self._application.scene, properties["fileName"]
        if properties.get("nodeID"):
            return self._save_volume(scene.GetNodeByID(properties["nodeID"]), path)
        assert kind == "SceneFile", kind
        if path.endswith(".mrb"):
            return bool(scene.WriteToMRB(path))
        self._save_volumes(scene, Path(path).parent)
        scene.SetURL(path)
        return bool(scene.Commit())

    def _save_volumes(self, scene, folder):
        """As the Save dialog does: each volume and each sequence gets a file beside the scene."""
        for number in range(scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")):
            node = scene.GetNthNodeByClass(number, "vtkMRMLScalarVolumeNode")
            self._save_volume(node, str(folder / f"volume-{number}.nrrd"))
        for number in range(scene.GetNumberOfNodesByClass("vtkMRMLSequenceNode")):
            node = scene.GetNthNodeByClass(number, "vtkMRMLSequenceNode")
            self._save_volume(node, str(folder / f"sequence-{number}.seq.nrrd"))

    def _save_volume(self, node, path):
        node.AddDefaultStorageNode()
        node.GetStorageNode().SetFileName(path)
        saved = bool(node.GetStorageNode().WriteData(node))
        if saved:
            self._saved.emit({"nodeID": node.GetID(), "fileName": path})
        return saved


class Application(qt.QApplication):
    """Of qSlicerApplication."""

    def __init__(self, temporary_folder: Path) -> None:
        super().__init__(["Slicer"])
        self.startupCompleted = _Signal()
        self._modules, self._layout = ModuleManager(), None
        self.scene = slicer.vtkMRMLScene()
        self._cache, self._data_io = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
        self._cache.SetRemoteCacheDirectory(str(temporary_folder))
        self._data_io.SetCacheManager(self._cache)
        self.scene.SetCacheManager(self._cache)
        self.scene.SetDataIOManager(self._data_io)
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")  # the slice views' displayable managers take it for granted
        self.scene.AddNode(crosshair)
        self._logic = slicer.vtkSlicerApplicationLogic()
        self._logic.SetMRMLScene(self.scene)
        self._logic.SetTemporaryPath(str(temporary_folder))
        self._logic.GetColorLogic().SetMRMLScene(self.scene)
        self._logic.GetColorLogic().AddDefaultColorNodes()
        self._logic.SetModuleLogic("Colors", self._logic.GetColorLogic())
        self._logic.SetSliceLogics(vtk.vtkCollection())
        self._logic.SetViewLogics(vtk.vtkCollection())
        self.volumes_logic = slicer.vtkSlicerVolumesLogic()
        self.volumes_logic.SetMRMLScene(self.scene)
        self.volumes_logic.SetMRMLApplicationLogic(self._logic)
        self.sequences_logic = slicer.vtkSlicerSequencesLogic()
        self.sequences_logic.SetMRMLScene(self.scene)  # makes browsers known to the scene
        self.rendering_logic = slicer.vtkSlicerVolumeRenderingLogic()
        self.rendering_logic.SetMRMLScene(self.scene)  # makes its display nodes known to the scene
        self._io = IOManager(self)
        self._settings = {
            name: qt.QSettings(str(temporary_folder / f"{name}.ini"), qt.QSettings.IniFormat)
            for name in ("Slicer", "Slicer-of-this-revision")
        }

    def make_views(self, size: tuple[int, int] = (320, 320)) -> None:
        """Open three slice views and a 3D view; without them the application is as started with --no-main-window."""
        from slice_view import LayoutManager

        self._layout = self._layout or LayoutManager(self._logic, size)

    def layoutManager(self):
        return self._layout

    def moduleManager(self) -> ModuleManager:
        return self._modules

    def applicationLogic(self):
        return self._logic

    def userSettings(self):
        return self._settings["Slicer"]

    def revisionUserSettings(self):
        return self._settings["Slicer-of-this-revision"]

    def coreIOManager(self) -> IOManager:
        return self._io


class Module:
    """Of qSlicerAbstractCoreModule: a module that Slicer brings, with its logic."""

    def __init__(self, logic) -> None:
        self._logic = logic

    def logic(self):
        return self._logic


def _translate(_context: str, text: str) -> str:
    """Slicer asks Qt for it, which a thread of Python must not do."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(f"looked up outside of the main thread: {text}")
    return text


def start(temporary_folder: Path) -> Application:
    """Make `slicer` what it is inside the application. Once in a process."""
    if qt.QApplication.instance() is not None:
        return slicer.app
    slicer.app = Application(temporary_folder)
    slicer.mrmlScene = slicer.app.scene
    slicer.modules = types.SimpleNamespace(
        volumes=Module(slicer.app.volumes_logic), segmentations=Module(slicer.vtkSlicerSegmentationsModuleLogic())
    )
    slicer.selfTests = {}
    slicer.qMRMLNodeComboBox = mrml_widgets.qMRMLNodeComboBox
    i18n = types.ModuleType("slicer.i18n")
    i18n.translate = _translate
    i18n.tr = lambda text: _translate("", text)
    import parameter_nodes
    import scripted_module

    for name, module in (
        ("i18n", i18n),
        ("parameterNodeWrapper", parameter_nodes),
        ("ScriptedLoadableModule", scripted_module),
    ):
        sys.modules[f"slicer.{name}"] = module
        setattr(slicer, name, module)
    return slicer.app


class ScriptedModuleWidget(qt.QWidget):
    """Of qSlicerScriptedLoadableModuleWidget: the frame in which the module's Python widget lives."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.module_name = name
        self.setLayout(qt.QVBoxLayout())
        self.reload()

    def reload(self) -> None:
        self.python = getattr(sys.modules[self.module_name], self.module_name + "Widget")(self)
        setattr(slicer.modules, self.module_name + "Widget", self.python)
        self.python.setup()


class ScriptedModule:
    """Of qSlicerScriptedLoadableModule: what the module's Python class gets as `parent`."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = str(path), path.stem
        self.title = self.helpText = self.acknowledgementText = ""
        self.categories: list[str] = []
        self.dependencies: list[str] = []
        self.contributors: list[str] = []
        self._widget = None

    def widgetRepresentation(self) -> ScriptedModuleWidget:
        if self._widget is None:
            self._widget = ScriptedModuleWidget(self.name)
        return self._widget


def load_module(path: Path) -> ScriptedModule:
    """Load a scripted module as Slicer's factory does: its folder goes on `sys.path`, its widget comes when opened."""
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    python = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = python
    spec.loader.exec_module(python)
    module = ScriptedModule(path)
    setattr(slicer.modules, path.stem.lower(), module)
    setattr(slicer.modules, path.stem + "Instance", getattr(python, path.stem)(module))
    return module


__all__ = ["Application", "ScriptedModule", "ctk", "load_module", "start"]
