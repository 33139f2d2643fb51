"""What a panel must survive: workers killed at any moment, a full disk, sliders moved without end, two scenes."""

from __future__ import annotations

import gc
import hashlib
import os
import random
import signal
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import qt
import slicer
import slicer.util
from MRDiffusionPanel import cine, results
from MRDiffusionPanel.logic import State
from MRDiffusionPanel.worker import descendants
from panel_support import add_volume, run, select, select_roles, wait_for
from test_panel_run import start_slow, volumes, worker_process
from test_panel_several import add_cine
from test_panel_several import choose as choose_many
from test_panel_sweep import choose as choose_sweep

pytest_plugins = ["panel_fixtures"]


def digest(volume: Any) -> str:
    values = slicer.util.arrayFromVolume(volume)
    place = [volume.GetOrigin(), volume.GetSpacing(), volume.GetName(), values.dtype, values.shape]
    return hashlib.sha256(values.tobytes() + repr(place).encode()).hexdigest()


def timed(act: Callable[..., Any], *arguments: Any) -> float:
    """The seconds that it takes."""
    begun = time.monotonic()
    act(*arguments)
    return time.monotonic() - begun


@pytest.mark.parametrize("moment", range(10))
def test_worker_killed_at_a_random_moment(panel: Any, scene: Any, moment: int) -> None:
    """While it starts, computes or writes: a message, a usable panel, inputs to the last bit as they were."""
    bssfp, t2 = add_volume("bssfp"), add_volume("t2")
    select_roles(panel, "cardiac", bSSFP=bssfp, T2=t2)
    panel.parameters.synthesisSteps = 30
    before = [digest(bssfp), digest(t2)]
    share = (moment + random.Random(moment).uniform(0, 0.9)) / 10
    took = timed(lambda: run(panel))
    while True:
        results.remove(panel.logic.results["result"])
        panel.logic.worker.kill()  # the next one has to start, too
        wait_for(lambda: panel.logic.worker._process is None)
        panel.ui.applyButton.click()
        wait_for(lambda: not panel.logic.worker.idle and panel.logic.worker._process.processId() > 0)
        due = time.monotonic() + share * took
        spent = timed(wait_for, lambda due=due: time.monotonic() > due or not panel.logic.busy)
        if panel.logic.busy:
            break
        took = spent  # it was faster this time
    os.kill(worker_process(panel), signal.SIGKILL)
    # It may have written its result before, and be there until Qt has noticed.
    wait_for(lambda: not panel.logic.busy and panel.logic.worker._process is None)
    assert panel.logic.state in (State.FAILED, State.DONE)
    if panel.logic.state == State.FAILED:
        assert "was killed by the system" in panel.ui.stateText.text and volumes(scene) == ["bssfp", "t2"]
    assert [digest(bssfp), digest(t2)] == before
    assert run(panel) is not None and [digest(bssfp), digest(t2)] == before


def full(*_arguments: Any, **_options: Any) -> None:
    raise OSError(28, "No space left on device")


def test_full_disk_at_apply(panel: Any, scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    low = add_volume()
    select(panel, low)
    run(panel)
    slicer.mrmlScene.RemoveNode(panel.logic.results["result"])
    before = digest(low)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", full)
        panel.ui.applyButton.click()
        wait_for(lambda: not panel.logic.busy)
    assert panel.logic.state == State.FAILED and "No space left" in panel.ui.stateText.text
    assert volumes(scene) == ["low"] and digest(low) == before
    assert run(panel) is not None


@pytest.mark.parametrize("side", [64, 128], ids=["result", "input"])
def test_full_disk_in_mid_run(
    panel: Any, scene: Any, small_disk: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch, side: int
) -> None:
    """Where 88 kB are free, an input of 48 kB has room but not its result, and one of 196 kB has none."""
    small = small_disk(128)
    monkeypatch.setenv("TMPDIR", str(small))
    monkeypatch.setattr("tempfile.tempdir", str(small))
    (small / "others").write_bytes(bytes(40000))
    panel.taskButtons["degradation"].click()
    low = panel.parameters.degradationVolume = add_volume("low", (3, side, side), spacing=1.0)
    before = digest(low)
    assert run(panel) is None
    assert panel.logic.state == State.FAILED and str(small) in panel.ui.stateText.text
    assert "ree some space" in panel.ui.stateText.text
    assert volumes(scene) == ["low"] and digest(low) == before
    (small / "others").unlink()
    panel.parameters.degradationVolume = add_volume("again", (1, 32, 32), spacing=1.0)
    assert run(panel) is not None
    panel.cleanup()
    panel.parameters = None


def listeners() -> int:
    """Functions and methods that are alive: whatever is observed or connected, by VTK, Qt or `Signal`, is one more."""
    gc.collect()
    return sum(isinstance(each, (types.FunctionType, types.MethodType)) for each in gc.get_objects())


def test_five_hundred_moves_of_a_slider_leave_nothing(panel: Any, scene: Any, tmp_path: Path) -> None:
    slicer.app.make_views()
    low = add_volume()
    select(panel, low)
    slider, made = panel.widgets["weight"], []
    count = lambda results: made.append(results["preview"].GetName())  # noqa: E731
    panel.logic.finished.connect(count)
    resting = lambda: not panel.logic.busy and not panel.preview._timer.active  # noqa: E731

    def files() -> list[str]:
        found = (path for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock")
        return sorted(path.name for path in found)

    panel.ui.previewButton.click()
    wait_for(resting)
    for number in range(10):  # the worker keeps the newest pictures of previews, some eight
        slider.value = number / 20
        wait_for(resting)
    observed = [len(panel.Observations), len(panel.preview.Observations)]
    processes, before, kept, alive = len(descendants(os.getpid())), digest(low), files(), listeners()
    made.clear()
    for number in range(500):
        slider.value = (number % 100) / 100
        if number % 10 == 0:
            slicer.app.processEvents()
        if number % 25 == 24:  # the person looks at what has become of it
            wait_for(resting)
    assert len(made) >= 20
    assert len(volumes(scene)) == 2 and digest(low) == before
    assert [len(panel.Observations), len(panel.preview.Observations)] == observed
    assert len(descendants(os.getpid())) == processes
    assert len(files()) <= len(kept) and not [path for path in panel.logic._folder.path.rglob("*") if path.is_dir()]
    assert listeners() <= alive + 20  # one for every 25th move would be as many
    panel.logic.finished.disconnect(count)
    slicer.util.setSliceViewerLayers(background=None, foreground=None)


def delete(panel: Any) -> None:
    panel.results.choose(run(panel))
    panel.results.buttons["remove"].click()


def undo(panel: Any) -> None:
    run(panel)
    panel.results.buttons["undo"].click()


def sweep(panel: Any) -> None:
    choose_sweep(panel, 0, "Seed", "1, 2")
    panel.sweep.onlySlice.checked = False
    panel.sweep.runButton.click()
    wait_for(lambda: not panel.sweeps.busy and not panel.logic.busy)
    assert "2 results are in the sequence" in panel.sweep.text.text


def batch(panel: Any) -> None:
    choose_many(panel, "volumes of this scene")
    for number in range(panel.many.volumes.count):
        panel.many.volumes.item(number).setCheckState(qt.Qt.Checked)
    panel.many.runButton.click()
    wait_for(lambda: not panel.many.busy and not panel.logic.busy)
    assert "2 computed, 0 there before, 0 failed" in panel.many.text.text


def compare(panel: Any) -> None:
    panel.comparison.start(run(panel), panel.parameters.inputVolume)
    wait_for(lambda: not panel.comparison.busy)


@pytest.mark.parametrize("act", [delete, undo, sweep, batch, compare])
def test_inputs_are_left_to_the_last_bit(panel: Any, act: Any) -> None:
    inputs = [add_volume("low"), add_volume("other", (2, 9, 8))]
    select(panel, inputs[0])
    before = [digest(volume) for volume in inputs]
    act(panel)
    assert [digest(volume) for volume in inputs] == before


def test_the_frames_of_a_cine_are_left_to_the_last_bit(panel: Any) -> None:
    shown = add_cine("cine", 3)
    sequence = cine.browser_of(shown).GetSequenceNode(shown)
    select(panel, shown)
    frames = lambda: [digest(sequence.GetNthDataNode(number)) for number in range(3)]  # noqa: E731
    before = frames(), digest(shown)
    choose_many(panel, "all 3 frames")
    panel.many.runButton.click()
    wait_for(lambda: not panel.many.busy and not panel.logic.busy)
    assert "3 of 3 frames" in panel.many.text.text and (frames(), digest(shown)) == before


def test_two_scenes_in_a_row(panel: Any, scene: Any) -> None:
    for number in range(2):
        start_slow(panel)
        scene.Clear()
        wait_for(lambda: not panel.logic.busy)
        assert "the scene was closed" in panel.ui.stateText.text
        low = add_volume(f"low-{number}")
        before = digest(low)
        select(panel, low)
        assert run(panel).GetName().startswith(f"SYNTHETIC SR of low-{number}") and digest(low) == before
        scene.Clear()


def test_deleted_in_mid_run_one_by_one(panel: Any, scene: Any) -> None:
    first, second = add_volume("bssfp"), add_volume("t2")
    for gone in (second, first):
        select_roles(panel, "slow-cardiac", bSSFP=first, T2=second if second.GetScene() else None)
        panel.ui.applyButton.click()
        wait_for(lambda: panel.logic.fraction > 0)
        name = gone.GetName()
        scene.RemoveNode(gone)
        wait_for(lambda: not panel.logic.busy)
        assert f"Stopped, because {name} was deleted" in panel.ui.stateText.text
    assert volumes(scene) == []
    select(panel, add_volume())
    panel.taskButtons["superresolution"].click()
    assert run(panel) is not None
