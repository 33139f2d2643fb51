"""Time and memory of a run before Apply, from a trial of the model and from what earlier runs here took."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

import pytest
import qt
import slicer
from MRDiffusionPanel import nodes
from MRDiffusionPanel.estimates import Estimates
from MRDiffusionPanel.installation import remembered
from MRDiffusionPanel.warming import Warming
from MRDiffusionPanel.worker import descendants
from panel_support import add_volume, run, select, select_roles, wait_for
from test_panel_several import (
    add_cine,
    folders,  # noqa: F401  a fixture
)
from test_panel_several import choose as choose_many
from test_panel_sweep import choose as choose_sweep

pytest_plugins = ["panel_fixtures"]

SLICE = 16 * 16 * 1e-6
"""Megapixels."""


class Store(dict[str, str]):
    def value(self, key: str, default: str) -> str:
        return self.get(key, default)

    def setValue(self, key: str, value: str) -> None:
        self[key] = value


def measured(work: float, seconds: float | None = 12.0, **values: Any) -> dict[str, Any]:
    """What a worker tells of a run of so many slices and steps."""
    told = {"work": work * SLICE, "computed_on": "CPU", "batch": 4, "at_once": 3 * SLICE, **values}
    return told if seconds is None else {**told, "seconds": seconds}


@pytest.fixture
def chosen(panel: Any) -> Any:
    """Three slices, one sample, 4 steps."""
    select(panel, add_volume())
    return panel._captured()


def settings(chosen: Any, **values: Any) -> Any:
    return replace(chosen, settings=replace(chosen.settings, **values))


def test_time_grows_with_slices_samples_steps_and_the_way_through_the_network(chosen: Any) -> None:
    store = Store()
    estimates = Estimates(store)
    assert estimates.text(chosen) == ""
    estimates.learn(chosen, measured(3 * 4, peak_memory_mb=1100.0))
    assert estimates.text(chosen) == "about 12 s and 1.1 GB of memory on this machine"
    assert "about 24 s" in estimates.text(settings(chosen, steps=8))
    assert "about 3 min" in estimates.text(settings(chosen, samples=16))
    assert "about 48 s" in estimates.text(settings(chosen, matrix=(32, 32)))
    assert "about 36 s" in estimates.text(settings(chosen, method="gradient"))
    assert "about 4 s" in estimates.text(replace(chosen, slices=(1,)))
    assert "about 36 s" in estimates.text(chosen, settings(chosen, steps=8))  # one after the other
    # Kept for this pack and this device.
    assert Estimates(store).text(chosen) and not estimates.text(replace(chosen, device="cpu"))
    assert not estimates.text(replace(chosen, pack_name="other"))


def test_time_grows_with_the_branches_of_guidance(panel: Any) -> None:
    select_roles(panel, "cardiac", bSSFP=add_volume("bssfp"), T2=add_volume("t2"))
    chosen, estimates = panel._captured(), Estimates(Store())

    def scaled(first: float, second: float, guidance: str = "averaged") -> str:
        scales = (("bSSFP", first), ("T2", second))
        return estimates.text(settings(chosen, scales=scales, guidance=guidance, samples=1, steps=4))

    estimates.learn(chosen, measured(3 * 4))
    # At 1 the guided prediction is the conditional one; other scales need the predictions without one or both.
    assert scaled(1.0, 1.0) == "about 12 s on this machine"
    assert "about 24 s" in scaled(1.5, 1.5, "nested") and "about 36 s" in scaled(1.5, 0.7, "nested")
    assert "about 48 s" in scaled(1.5, 0.7)


def test_memory_grows_with_what_is_computed_at_once(chosen: Any) -> None:
    estimates = Estimates(Store())
    estimates.learn(chosen, measured(1, None, at_once=SLICE, peak_memory_mb=500.0))
    assert estimates.text(chosen) == ""  # of the time nothing is known yet
    estimates.learn(chosen, measured(1, 1.0, at_once=SLICE, peak_memory_mb=500.0))
    estimates.learn(chosen, measured(4, None, at_once=4 * SLICE, peak_memory_mb=2000.0))
    assert "1.5 GB of memory" in estimates.text(chosen)  # three slices at once
    assert "0.5 GB of memory" in estimates.text(replace(chosen, batch=1))
    assert "2.0 GB of memory" in estimates.text(settings(chosen, samples=64))  # four at once, whatever comes after
    estimates.learn(chosen, measured(1, None, at_once=SLICE, peak_memory_mb=700.0))  # the newest counts
    assert "0.7 GB of memory" in estimates.text(replace(chosen, batch=1))


def test_memory_of_a_graphics_card_is_told_apart(chosen: Any) -> None:
    estimates = Estimates(Store())
    estimates.learn(chosen, measured(100, 90.0, peak_memory_mb=3000.0))
    estimates.learn(chosen, measured(1, 0.1, computed_on="Large Card", peak_memory_mb=900.0))
    assert estimates.text(chosen) == "about 1 s and 0.9 GB of graphics memory on this machine"


def test_the_largest_run_counts(chosen: Any) -> None:
    estimates = Estimates(Store())
    estimates.learn(chosen, measured(4, 8.0))
    assert estimates.text(chosen) == "about 24 s on this machine"
    estimates.learn(chosen, measured(12, 12.0))
    estimates.learn(chosen, measured(4, 8.0))
    assert "about 12 s" in estimates.text(chosen)
    estimates.learn(chosen, measured(12, 6.0))  # the machine has become faster
    assert "about 6 s" in estimates.text(chosen)
    estimates.learn(chosen, {"seconds": 100.0})  # a rehearsal
    assert "about 6 s" in estimates.text(chosen)


def test_another_computer_has_figures_of_its_own(chosen: Any) -> None:
    estimates = Estimates(Store())
    estimates.learn(chosen, measured(12))
    remembered.keep(remembered.COMPUTER, "ssh://me@there:2222")
    try:
        assert estimates.text(chosen) == ""
        estimates.learn(chosen, measured(12, 2.0))
        assert estimates.text(chosen) == "about 2 s on ssh://me@there:2222"
    finally:
        remembered.keep(remembered.COMPUTER, "")
    assert estimates.text(chosen) == "about 12 s on this machine"


KEPT_BEFORE = '{"images": 12, "seconds": 1.0, "memory_mb": 100}'


@pytest.mark.parametrize("kept", ["", "{", "[]", KEPT_BEFORE, '{"batch": "x"}', "null"])
def test_what_another_version_has_kept_does_no_harm(chosen: Any, kept: str) -> None:
    store = Store()
    estimates = Estimates(store)
    estimates.learn(chosen, measured(12))
    (key,) = store
    store[key] = kept
    assert estimates.text(chosen) == ""


def warmed(panel: Any) -> None:
    wait_for(lambda: "Apply takes about" in panel.ui.stateText.text)


def test_the_panel_tells_before_the_first_run_and_better_after_it(panel: Any, chosen: Any) -> None:
    assert "on this machine" not in panel.ui.stateText.text
    warmed(panel)  # 4 s for 4 steps of a slice, by the trial of `panel_worker`
    assert "Apply takes about 12 s and 0.8 GB of memory on this machine." in panel.ui.stateText.text
    assert panel.logic.state.value == "idle" and panel.logic.results == {}
    run(panel)
    assert "Apply takes about 2 s and 1.2 GB of memory on this machine." in panel.ui.stateText.text


def test_the_worker_of_the_trial_computes_the_first_run(panel: Any, chosen: Any) -> None:
    warmed(panel)
    process = panel.logic.worker._process.processId()
    result = run(panel)
    assert panel.logic.worker._process.processId() == process
    assert nodes.provenance_of(result)["process"] == process


def test_a_model_is_tried_once_and_another_one_when_it_is_chosen(
    panel: Any, chosen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    send = panel.logic.worker.send
    monkeypatch.setattr(panel.logic.worker, "send", lambda message: (sent.append(message), send(message)))
    panel.warming._timer.setInterval(50)
    panel.parameters.weight = 0.5
    warmed(panel)
    panel.parameters.weight = 0.25
    panel.enter()
    assert [(message["type"], message["pack"]) for message in sent] == [("warm", "quick")]
    panel.parameters.pack = "slow"
    panel.parameters.pack = "error"  # looked through
    warmed(panel)
    assert [message["pack"] for message in sent] == ["quick", "error"]


def test_nothing_is_started_where_libraries_are_missing_or_in_a_rehearsal(
    panel: Any, chosen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel.warming._timer.setInterval(0)
    others = descendants(os.getpid())
    monkeypatch.setattr("MRDiffusionPanel.installation.plan.missing", lambda: ["torch"])
    panel.enter()
    assert not panel.warming._timer.active
    panel.logic.worker.rehearsal = True
    panel.enter()
    wait_for(lambda: not panel.warming._timer.active)
    assert descendants(os.getpid()) == others


def test_what_is_under_way_is_left_alone(panel: Any, chosen: Any) -> None:
    sent: list[Any] = []

    class Busy:
        rehearsal, idle = False, False
        message = panel.logic.worker.message
        send = staticmethod(sent.append)

    warming = Warming(panel.logic, panel.estimates, lambda: None)
    own, panel.logic.worker = panel.logic.worker, Busy()
    warming._timer.setInterval(10)
    warming.refresh(chosen)
    begun = time.monotonic()
    wait_for(lambda: time.monotonic() > begun + 0.1)
    assert sent == []
    Busy.idle = True
    wait_for(lambda: len(sent) == 1)
    panel.logic.worker = own
    warming.remove()


def test_sweep_cine_and_volumes_tell_how_long_they_take(panel: Any) -> None:
    shown = add_cine("cine", 3, (3, 8, 8))
    select(panel, shown)
    warmed(panel)
    choose_sweep(panel, 0, "Seed", "1, 2")
    assert "The 2 runs take about 8 s and 0.8 GB of memory on this machine." in panel.sweep.text.text
    panel.sweep.onlySlice.checked = False
    assert "The 2 runs take about 24 s" in panel.sweep.text.text
    choose_sweep(panel, 1, "Steps", "4, 8")
    assert "The 4 runs take about 72 s" in panel.sweep.text.text
    panel.sweep._rows[1][1].text = "4, x"
    assert "take" not in panel.sweep.text.text
    choose_many(panel, "all 3 frames of cine")
    assert "The 3 runs take about 36 s" in panel.many.text.text
    choose_many(panel, "volumes of this scene")
    assert "take" not in panel.many.text.text
    panel.many.volumes.item(0).setCheckState(qt.Qt.Checked)
    assert "The run takes about 12 s" in panel.many.text.text
    slicer.app.userSettings().clear()


def test_a_folder_tells_how_long_its_other_cases_take(panel: Any, folders: Any) -> None:  # noqa: F811
    panel.parameters.pack = "slow"
    panel.many.runButton.click()
    wait_for(lambda: "Case 2 of 3" in panel.many.text.text and "slice" in panel.many.text.text)
    assert "about 3 s left" in panel.many.text.text  # two cases, as the first one took 1.5 s
    panel.many.runButton.click()
    wait_for(lambda: not panel.many.busy)
