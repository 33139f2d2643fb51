"""The host, its scene and a panel; a test that leaves an error, a process, an observer or a file behind fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import qt
import slicer
import slicer_host
from panel_support import MODULE, WORKER, make_panel


@pytest.fixture(scope="session")
def module(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The module, loaded from the source tree as Slicer loads it."""
    slicer_host.start(tmp_path_factory.mktemp("slicer"))
    return slicer_host.load_module(MODULE)


@pytest.fixture
def scene(module: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The application's scene, empty. An exception in a slot or an observer, or a complaint of Qt, fails the test."""
    errors: list[str] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, value, _trace: errors.append(f"{kind.__name__}: {value}"))
    monkeypatch.setattr(sys, "unraisablehook", lambda found: errors.append(f"{found.exc_value} in {found.object}"))
    qt.warnings.clear()
    if find_spec("torch") is None:  # Slicer's own versions alone; the worker of these tests computes without it
        monkeypatch.setattr("MRDiffusionPanel.installation.plan.wanting", list)
    slicer.mrmlScene.Clear()
    yield slicer.mrmlScene
    slicer.app.processEvents()
    found = errors + qt.warnings
    assert not found, found


@pytest.fixture
def panel(scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A panel whose worker is `panel_worker.py`; when it goes, nothing of it may stay."""
    from MRDiffusionPanel.worker import descendants

    others = set(descendants(os.getpid()))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    slicer.app.userSettings().clear()
    made = make_panel(WORKER)
    made.parameters.steps = 4
    yield made
    if made.parameters is not None:
        made.cleanup()
    assert made.Observations == []
    assert set(descendants(os.getpid())) <= others
    assert list(tmp_path.glob("*MRDiffusion*")) == []
    made.widget.deleteLater()


@pytest.fixture
def told(module: Any) -> Iterator[list[str]]:
    """What a person is told while files are saved and loaded in the whole application."""
    from MRDiffusionPanel.sidecars import Sidecars

    instance, told = slicer.modules.MRDiffusionInstance, list[str]()
    if instance.sidecars is not None:  # of a test before, in which the application has started
        instance.sidecars.remove()
        instance.sidecars = None
    listener = Sidecars(slicer.mrmlScene, slicer.app.coreIOManager(), told.append)
    yield told
    listener.remove()
    assert listener.Observations == []
