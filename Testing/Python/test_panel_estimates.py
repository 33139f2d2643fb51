"""Time and memory of a run before Apply, from what earlier runs on this machine took."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import slicer
from MRDiffusionPanel.estimates import Estimates
from MRDiffusionPanel.installation import remembered
from panel_support import add_volume, run, select, wait_for

pytest_plugins = ["panel_fixtures"]


class Store(dict[str, str]):
    def value(self, key: str, default: str) -> str:
        return self.get(key, default)

    def setValue(self, key: str, value: str) -> None:
        self[key] = value


@pytest.fixture
def chosen(panel: Any) -> Any:
    """Three slices, one sample, 4 steps."""
    select(panel, add_volume())
    return panel._captured()


def test_time_grows_with_slices_samples_and_steps(chosen: Any) -> None:
    store = Store()
    estimates = Estimates(store)
    assert estimates.text(chosen) == ""
    estimates.learn(chosen, 3, {"seconds": 12.0, "peak_memory_mb": 1100.0})
    assert estimates.text(chosen) == "about 12 s and 1.1 GB on this machine"
    assert "about 24 s" in estimates.text(replace(chosen, settings=replace(chosen.settings, steps=8)))
    assert "about 3 min" in estimates.text(replace(chosen, settings=replace(chosen.settings, samples=16)))
    assert "about 4 s" in estimates.text(replace(chosen, slices=(1,)))
    # Kept for this pack and this device.
    assert Estimates(store).text(chosen) and not estimates.text(replace(chosen, device="cpu"))
    assert not estimates.text(replace(chosen, pack_name="other"))


def test_the_longest_run_counts(chosen: Any) -> None:
    estimates = Estimates(Store())
    estimates.learn(chosen, 1, {"seconds": 8.0})
    assert estimates.text(chosen) == "about 24 s on this machine"
    estimates.learn(chosen, 3, {"seconds": 12.0})
    estimates.learn(chosen, 1, {"seconds": 8.0})
    assert "about 12 s" in estimates.text(chosen)
    estimates.learn(chosen, 3, {"seconds": 6.0})  # the machine has become faster
    assert "about 6 s" in estimates.text(chosen)


def test_another_computer_has_figures_of_its_own(chosen: Any) -> None:
    estimates = Estimates(Store())
    estimates.learn(chosen, 3, {"seconds": 12.0})
    remembered.keep(remembered.COMPUTER, "ssh://me@there:2222")
    try:
        assert estimates.text(chosen) == ""
        estimates.learn(chosen, 3, {"seconds": 2.0})
        assert estimates.text(chosen) == "about 2 s on ssh://me@there:2222"
    finally:
        remembered.keep(remembered.COMPUTER, "")
    assert estimates.text(chosen) == "about 12 s on this machine"


@pytest.mark.parametrize("kept", ["", "{", "[]", '{"images": 0, "seconds": 1}', '{"images": "x"}', "null"])
def test_what_another_version_has_kept_does_no_harm(chosen: Any, kept: str) -> None:
    store = Store()
    estimates = Estimates(store)
    estimates.learn(chosen, 3, {"seconds": 12.0})
    (key,) = store
    store[key] = kept
    assert estimates.text(chosen) == ""


def test_the_panel_says_it_after_a_preview(panel: Any, chosen: Any) -> None:
    slicer.app.userSettings().clear()
    panel.enter()
    assert "on this machine" not in panel.ui.stateText.text
    panel.ui.previewButton.click()
    wait_for(lambda: "Preview in" in panel.ui.stateText.text)
    panel.ui.previewButton.click()
    run(panel)
    assert "Apply takes about" in panel.ui.stateText.text
    slicer.app.userSettings().clear()
