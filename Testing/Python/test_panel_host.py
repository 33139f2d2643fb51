"""The stand-in host is as strict as the real application, or stricter: it must not let a mistake pass."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import ctk
import pytest
import qt
import slicer
import slicer.util
import vtk
from MRDiffusionPanel import worker
from panel_support import add_volume

pytest_plugins = ["panel_fixtures"]


@pytest.fixture
def errors(scene: Any, monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """The exceptions that reach the hook by which the other tests fail."""
    found: list[type] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, *_: found.append(kind))
    return found


def test_qt_properties_are_attributes(scene: Any) -> None:
    box = qt.QSpinBox()
    box.value = 7
    assert box.value == 7 and box.enabled is True
    with pytest.raises(AttributeError):
        box.vaule = 8
    with pytest.raises(AttributeError):
        box.value = "eight"
    with pytest.raises(AttributeError):
        box.valueChangd.connect(print)


def test_exception_in_a_slot_or_an_observer_is_noticed(scene: Any, errors: list[type]) -> None:
    button = qt.QPushButton()
    button.clicked.connect(lambda *_: 1 / 0)
    button.click()
    tag = scene.AddObserver(scene.NodeAddedEvent, lambda *_: [][0])
    add_volume()
    scene.RemoveObserver(tag)
    assert set(errors) == {ZeroDivisionError, IndexError}


def test_complaint_of_qt_is_noticed(scene: Any) -> None:
    process = qt.QProcess()
    process.start(sys.executable, ["-c", "import time; time.sleep(60)"])
    assert process.waitForStarted(10000)
    del process
    assert any("still running" in text for text in qt.warnings)
    qt.warnings.clear()


def test_unknown_widget_in_a_ui_file_is_an_error(scene: Any, tmp_path: Path) -> None:
    path = tmp_path / "panel.ui"
    path.write_text('<ui version="4.0"><class>A</class><widget class="ctkMagicButton" name="A"/></ui>')
    with pytest.raises(RuntimeError, match="ctkMagicButton"):
        slicer.util.loadUI(str(path))


def test_slider_widget_keeps_its_range_and_tells(scene: Any) -> None:
    slider, heard = ctk.ctkSliderWidget(), []
    slider.minimum, slider.maximum, slider.singleStep, slider.decimals = 0.0, 1.0, 0.05, 2
    slider.valueChanged.connect(heard.append)
    slider.value = 0.25
    slider.value = 7.0
    assert heard == [0.25, 1.0]


def test_folded_section_hides_what_it_holds(scene: Any) -> None:
    section = ctk.ctkCollapsibleButton()
    shown, hidden = qt.QLabel("shown", section), qt.QLabel("hidden", section)
    hidden.visible = False
    section.collapsed = True
    section.show()
    assert not shown.visible
    section.collapsed = False
    assert shown.visible and not hidden.visible


def test_selector_takes_no_node_by_itself(scene: Any) -> None:
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.setMRMLScene(scene)
    volume = add_volume()
    assert selector.currentNode() is None and selector.nodes() == [volume]
    selector.setCurrentNode(volume)
    scene.RemoveNode(volume)
    assert selector.currentNode() is None
    selector.setMRMLScene(None)


def test_parameter_out_of_range_is_refused(scene: Any) -> None:
    from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

    described = type("Node", (), {"__annotations__": {"weight": Annotated[float, WithinRange(0, 1)]}, "weight": 0.5})
    node = parameterNodeWrapper(described)(slicer.vtkMRMLScriptedModuleNode())
    with pytest.raises(ValueError, match="not within"):
        node.weight = 2.0
    assert node.weight == 0.5


def test_slicers_python_is_looked_for_in_its_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert worker.python_executable() == sys.executable
    monkeypatch.setattr(slicer, "app", type("App", (), {"slicerHome": str(tmp_path)}), raising=False)
    assert worker.python_executable() == ""
    (tmp_path / "bin").mkdir()
    for place in (tmp_path / "bin" / "PythonSlicer", tmp_path / "PythonSlicer"):
        place.touch(mode=0o755)
        assert worker.python_executable() == str(place)


def test_real_scene_is_behind_it(scene: Any) -> None:
    assert isinstance(scene, slicer.vtkMRMLScene) and isinstance(add_volume().GetImageData(), vtk.vtkImageData)
