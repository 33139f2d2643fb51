"""All that is under way can be stopped, and ends with a message where its process goes: nothing waits for ever."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

import pytest
import slicer
import slicer.util
import vtk
from MRDiffusionPanel.logic import State
from panel_support import WORKER, add_volume, run, select, wait_for
from test_panel_run import start_slow, volumes, worker_process
from test_panel_several import folders  # noqa: F401  a fixture
from test_panel_sweep import choose

pytest_plugins = ["panel_fixtures"]


def choose_other_computer(panel: Any) -> None:
    """The panel's worker is started from another command from now on."""
    panel.logic.worker._command = [*WORKER, "there"]


def compare(panel: Any) -> None:
    """Begin to compare two volumes, and wait until the worker has them."""
    panel.comparison.start(add_volume("made"), add_volume("true"))
    wait_for(lambda: panel.comparison._with_worker or not panel.comparison.busy)
    assert panel.comparison.busy


def gone(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    return not stat.exists() or stat.read_text().split()[2] == "Z"


def test_a_folder_goes_on_at_another_computer(panel: Any, folders: tuple[Path, Path]) -> None:  # noqa: F811
    panel.parameters.pack = "slow"
    panel.many.runButton.click()
    wait_for(lambda: "slice" in panel.many.text.text)
    process = worker_process(panel)
    choose_other_computer(panel)
    compare(panel)
    assert worker_process(panel) != process
    wait_for(lambda: not panel.many.busy and not panel.comparison.busy)
    text = panel.many.text.text
    assert "2 computed, 0 there before, 1 failed" in text and "another computer was chosen" in text
    assert panel.comparison.message == "Compared with true"
    wait_for(lambda: gone(process))


def test_a_run_and_a_comparison_end_when_another_computer_is_chosen(panel: Any) -> None:
    start_slow(panel)
    choose_other_computer(panel)
    compare(panel)
    assert panel.logic.state == State.FAILED and "another computer was chosen" in panel.ui.stateText.text
    wait_for(lambda: not panel.comparison.busy)
    compare(panel)
    panel.logic.worker._command = WORKER
    select(panel, slicer.util.getNode("low"), "quick")
    assert run(panel) is not None
    assert "another computer was chosen" in panel.comparison.message and not panel.comparison.busy


def test_a_process_that_does_not_end_is_killed_and_nobody_waits(panel: Any) -> None:
    worker = panel.logic.worker
    worker._patience.setInterval(200)
    select(panel, add_volume(), "hang")
    panel.ui.applyButton.click()
    wait_for(lambda: panel.logic.state == State.RUNNING)
    process = worker_process(panel)
    choose_other_computer(panel)
    begun = time.monotonic()
    compare(panel)
    assert time.monotonic() - begun < 1.0 and not gone(process)  # it hangs for a minute
    wait_for(lambda: gone(process))
    wait_for(lambda: not panel.comparison.busy)


def test_closing_in_mid_run_does_not_wait_for_its_end(panel: Any) -> None:
    select(panel, add_volume(), "hang")
    panel.ui.applyButton.click()
    wait_for(lambda: panel.logic.state == State.RUNNING)
    begun = time.monotonic()
    panel.cleanup()  # the fixture looks for processes and folders
    panel.parameters = None
    assert time.monotonic() - begun < 1.8  # half a second, and room for a busy machine; a step hangs for a minute


def test_cancel_ends_a_comparison(panel: Any) -> None:
    assert not panel.ui.cancelButton.enabled
    compare(panel)
    assert panel.ui.cancelButton.enabled
    panel.ui.cancelButton.click()
    assert not panel.comparison.busy and panel.comparison.message == "Cancelled"
    assert not panel.ui.cancelButton.enabled
    compare(panel)
    wait_for(lambda: not panel.comparison.busy)
    assert panel.comparison.figures["whole"]["ssim"] == 0.5


class Held:
    """Another thread that takes its time: work is done when a test says so.

    Args:
        pieces: of work that are done at once, before.
    """

    def __init__(self, panel: Any, pieces: int) -> None:
        self._aside, self._pieces, self._held = panel.logic._aside, pieces, list[Any]()
        panel.logic._aside = self

    def run(self, work: Any, then: Any) -> None:
        self._pieces -= 1
        if self._pieces >= 0:
            self._aside.run(work, then)
        else:
            self._held.append((work, then))

    def go_on(self) -> None:
        held, self._held = self._held, []
        for each in held:
            self._aside.run(*each)
        wait_for(lambda: not self._aside.busy)

    def close(self) -> None:
        self._aside.close()

    @property
    def holds(self) -> bool:
        return bool(self._held)


@pytest.mark.parametrize("pieces", [0, 1], ids=["writing", "reading"])
@pytest.mark.parametrize("stop", ["cancel", "delete", "close", "worker"])
def test_stopped_while_files_are_written_or_read(panel: Any, scene: Any, pieces: int, stop: str) -> None:
    """At once, as the worker has nothing to do with it; its death then harms nothing."""
    low = add_volume()
    select(panel, low)
    run(panel)
    scene.RemoveNode(panel.logic.results["result"])
    held = Held(panel, pieces)
    panel.ui.applyButton.click()
    wait_for(lambda: held.holds)
    assert panel.logic.busy and panel.ui.cancelButton.enabled and panel.logic.worker.idle
    if stop == "worker":
        panel.logic.worker.kill()
        wait_for(lambda: panel.logic.worker._process is None)
        held._pieces = 100
        held.go_on()
        wait_for(lambda: not panel.logic.busy)
        assert panel.logic.state == State.DONE and len(volumes(scene)) == 2
        return
    {"cancel": panel.ui.cancelButton.click, "delete": lambda: scene.RemoveNode(low), "close": scene.Clear}[stop]()
    assert panel.logic.state == State.IDLE
    told = {"cancel": "Cancelled", "delete": "low was deleted", "close": "scene was closed"}
    assert told[stop] in panel.ui.stateText.text
    held._pieces = 100
    held.go_on()
    assert panel.logic.state == State.IDLE and volumes(scene) == (["low"] if stop == "cancel" else [])
    assert not [path for path in panel.logic._folder.path.rglob("*") if path.is_dir()]
    select(panel, add_volume("again"))
    assert run(panel) is not None


def test_what_goes_wrong_while_files_are_written_ends_the_run(panel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_arguments: Any) -> None:
        raise MemoryError("no room for it")

    select(panel, add_volume())
    with monkeypatch.context() as patched:
        patched.setattr("MRDiffusionPanel.volume_files.write_raw_nrrd", no_memory)
        panel.ui.applyButton.click()
        panel.comparison.start(add_volume("made"), add_volume("true"))
        wait_for(lambda: not panel.logic.busy and not panel.comparison.busy)
    assert panel.logic.state == State.FAILED and "MemoryError: no room for it" in panel.ui.stateText.text
    assert panel.comparison.message == "Failed: no room for it"
    assert run(panel) is not None


def test_a_comparison_is_cancelled_before_the_worker_has_it(panel: Any) -> None:
    panel.comparison.start(add_volume("made"), add_volume("true"))
    panel.comparison.cancel()
    assert not panel.comparison.busy and panel.comparison.message == "Cancelled" and panel.logic.worker.idle
    wait_for(lambda: not panel.comparison._background.busy)
    assert panel.logic.worker.idle
    assert not [path for path in panel.comparison._folder.path.rglob("*") if path.name != "lock"]
    compare(panel)
    wait_for(lambda: not panel.comparison.busy)
    assert panel.comparison.figures["whole"]["ssim"] == 0.5


@pytest.mark.parametrize("moment", ["comparing", "running"])
def test_cancel_ends_a_sweep_at_any_moment(panel: Any, scene: Any, moment: str) -> None:
    low, true = add_volume(), add_volume("true", (3, 16, 16), 1.0)
    select(panel, low)
    panel.compare.reference.setCurrentNode(true)
    choose(panel, 0, "Seed", "1, 2, 3, 4")
    panel.sweep.onlySlice.checked = False
    panel.sweep.runButton.click()
    wait_for(lambda: panel.sweeps._done == 1)
    wait_for(lambda: panel.comparison.busy if moment == "comparing" else panel.logic.state == State.RUNNING)
    assert panel.ui.cancelButton.enabled
    panel.ui.cancelButton.click()
    wait_for(lambda: not panel.sweeps.busy and not panel.logic.busy)
    assert panel.sweeps.message.startswith("Cancelled. 1 results are in the sequence")
    assert not panel.comparison.busy and not panel.ui.cancelButton.enabled
    # What was being judged goes with it: the input, the reference, the browser's volume and the picture stay.
    assert not [name for name in volumes(scene) if name.endswith(("seed 2", "seed 3"))]
    assert panel.ui.applyButton.enabled


def test_a_parameter_node_is_let_go_with_the_panel(panel: Any) -> None:
    node = panel.parameters.parameterNode
    panel._get_parameter_node()  # as a script does
    assert node.HasObserver(vtk.vtkCommand.ModifiedEvent)
    panel.cleanup()
    panel.parameters = panel._get_parameter_node = None
    gc.collect()
    assert not node.HasObserver(vtk.vtkCommand.ModifiedEvent)
