"""The panel opens at once, and goes on as fast in a scene full of results."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from MRDiffusionPanel import nodes
from panel_support import MODULE, add_volume, run, select
from test_panel_module import python
from test_panel_results import listed

pytest_plugins = ["panel_fixtures"]

OPENING = f"""
import sys, pathlib, tempfile, time
begun = time.process_time()
import slicer_host
slicer_host.start(pathlib.Path(tempfile.mkdtemp()))
host = time.process_time() - begun
module = slicer_host.load_module(pathlib.Path({str(MODULE)!r}))
begun = time.process_time()
widget = module.widgetRepresentation()
widget.show()
slicer_host.qt.QApplication.processEvents()
print((time.process_time() - begun) / host)
print(*({{"torch", "SimpleITK", "scipy", "matplotlib"}} & set(sys.modules)))
widget.python.cleanup()
"""


def test_the_panel_opens_in_less_than_a_third_of_the_time_of_its_host_without_torch(tmp_path: Path) -> None:
    """In a new Slicer, whose Python has imported nothing of the panel; time of the processor, the best of three.

    The host needs 1.6 s on a machine on which the panel opens in 0.3 s; 0.5 s are allowed.
    """
    printed = [python(OPENING, TMPDIR=str(tmp_path)).split("\n") for _ in range(3)]
    assert min(float(share) for share, *_ in printed) < 0.5 / 1.6
    assert [loaded.strip() for _, loaded, *_ in printed] == ["", "", ""]


def seconds(act: Callable[[], Any]) -> float:
    """Of the processor, the best of three."""
    found = []
    for _ in range(3):
        begun = time.thread_time()
        act()
        slicer.app.processEvents()
        found.append(time.thread_time() - begun)
    return min(found)


def add_results(count: int) -> None:
    for number in range(count):
        node = add_volume(f"SYNTHETIC LGE of heart; seed {number}", (1, 4, 4))
        provenance = {"request": {"task": "synthesis", "inputs": {}, "settings": {}}}
        for name, text in ((nodes.SYNTHETIC, "1"), (nodes.ROLE, "result"), (nodes.PROVENANCE, json.dumps(provenance))):
            node.SetAttribute(name, text)


def test_two_hundred_results_do_not_slow_the_panel(panel: Any) -> None:
    """A step of the progress, coming to the panel, and a run, beside the same in a scene without results."""
    select(panel, add_volume("low"))

    def once() -> dict[str, float]:
        run(panel)
        begun = time.thread_time()
        assert run(panel) is not None
        whole = time.thread_time() - begun
        return {"progress": seconds(panel._update), "enter": seconds(panel.enter), "run": whole}

    few = once()
    add_results(200)
    slicer.app.processEvents()
    assert len(listed(panel)) == 202
    many = once()
    assert many["progress"] < 2 * few["progress"] + 0.005
    assert many["enter"] < 2 * few["enter"] + 0.02 and many["run"] < 3 * few["run"] + 0.05
