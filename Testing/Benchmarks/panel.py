"""How long a person waits for a preview in the panel: from the press, or from the release of a slider, to the picture.

    .venv/bin/python Testing/Benchmarks/panel.py --json build/panel.json

Nothing else should be running. With the real worker, the packs that are installed and each task's sample, in the host
of the tests (Testing/Host): no screen and no Slicer. Tasks without a pack are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from superresolution import ROOT, Bench, Measured, child, machine
from table import MACHINE, Row, report

TASKS = ("synthesis", "superresolution", "degradation", "enhancement")
TITLES = {
    "synthesis": "Synthesize",
    "superresolution": "Super-resolve",
    "degradation": "Degrade",
    "enhancement": "Enhance",
}
LONGEST_S = 600
SLIDERS = {"synthesis": "synthesisStrength", "superresolution": "weight", "degradation": "degradationLevel"}
"""Task to a setting that is moved."""

VALUES = (0.45, 0.7, 0.3)
"""That it is moved to, none of them where it begins; the shortest time counts, the others were disturbed."""


def rows() -> tuple[Row, ...]:
    found = [*MACHINE, Row("Panel opened (s)", "{:.2f}", ("opened",))]
    for task, title in TITLES.items():
        paths = (f"{task} warm first", f"{task} warm finished")
        again = (f"{task} warm again_first", f"{task} warm again_finished")
        found += [
            Row(f"{title}: model loaded and tried after opening (s)", "{:.1f}", (f"{task} warm tried",)),
            Row(f"{title}: press to first picture, finished preview (s)", "{:.2f}, {:.2f}", paths),
            Row(f"{title}: slider released to first picture, finished preview (s)", "{:.2f}, {:.2f}", again),
            Row(f"{title}: press at once after opening, first picture (s)", "{:.1f}", (f"{task} cold first",)),
        ]
    return tuple(found)


def one(task: str, at_once: bool) -> Measured:
    """In a process of its own: open the panel and preview the sample.

    Args:
        at_once: press the button without waiting until the model is loaded.

    Returns:
        Seconds; empty where the task has no pack.
    """
    sys.path[:0] = [str(ROOT / "Testing" / "Host")]
    import slicer
    import slicer_host

    with tempfile.TemporaryDirectory() as folder:
        slicer_host.start(Path(folder))
        slicer.app.make_views()
        module = slicer_host.load_module(ROOT / "MRDiffusion" / "MRDiffusion.py")
        begun = time.perf_counter()
        panel = module.widgetRepresentation().python.panel
        measured = {"opened": time.perf_counter() - begun}
        try:
            panel.taskButtons[task].click()
            if not panel._offered:
                return {}
            return measured | _previews(panel, task, at_once, begun)
        finally:
            panel.cleanup()


def _previews(panel: Any, task: str, at_once: bool, begun: float) -> Measured:
    measured: Measured = {}
    panel.ui.sampleButton.click()
    if not at_once:
        _until(lambda: "Apply takes about" in panel.ui.stateText.text)
        measured["tried"] = time.perf_counter() - begun
    first, finished = _picture(panel, panel.ui.previewButton.click)
    measured |= {"first": first, "finished": finished}
    if not at_once and task in SLIDERS:
        slider = panel.widgets[SLIDERS[task]]
        moved = [_dragged(panel, slider, value) for value in VALUES]
        measured |= {"again_first": min(first for first, _ in moved)}
        measured |= {"again_finished": min(finished for _, finished in moved)}
    panel.ui.previewButton.click()
    return measured


def _dragged(panel: Any, slider: Any, value: float) -> tuple[float, float]:
    """`_picture` after a mouse, which is pretended here, has let go of a slider that it has moved."""
    from MRDiffusionPanel import live_preview

    real, live_preview.mouse_held = live_preview.mouse_held, lambda: True
    slider.value = value
    return _picture(panel, lambda: setattr(live_preview, "mouse_held", real))


def _picture(panel: Any, act: Callable[[], Any]) -> tuple[float, float]:
    """Seconds from an act to the first picture that a view shows of it, and to the finished one."""
    seen: list[float] = []
    forming, finished = (lambda _node: seen.append(time.perf_counter())), []
    panel.logic.formed.connect(forming)
    panel.logic.finished.connect(finished.append)
    begun = time.perf_counter()
    act()
    _until(lambda: bool(finished))
    ended = time.perf_counter()
    panel.logic.formed.disconnect(forming)
    panel.logic.finished.disconnect(finished.append)
    return min([*seen, ended]) - begun, ended - begun


def _until(condition: Callable[[], bool]) -> None:
    import slicer

    end = time.monotonic() + LONGEST_S
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("nothing has come")
        slicer.app.processEvents()
        time.sleep(0.001)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write what was measured there")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--one", choices=TASKS, help=argparse.SUPPRESS)
    parser.add_argument("--at-once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    if options.one:
        print(json.dumps(one(options.one, options.at_once)))
        return
    measured: Measured = {"name": "this machine"}
    for task in options.tasks:
        warm = json.loads(child(__file__, "--one", task))
        if warm:
            measured[task] = {"warm": warm, "cold": json.loads(child(__file__, "--one", task, "--at-once"))}
            measured["opened"] = min(measured.get("opened", warm["opened"]), warm["opened"])
    from MRDiffusionLib.tasks.device import resolve_device

    measured["machine"] = machine(Bench("", str(resolve_device("auto")), 1, 3))
    report(measured, options.json, rows())


if __name__ == "__main__":
    main()
