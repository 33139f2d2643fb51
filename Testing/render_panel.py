"""Draw the panel and the slice views after a run of each task on its sample: `python Testing/render_panel.py [FOLDER]`.

Needs slicer-core, PySide6 and the packs; no screen and no Slicer. The pictures are panel.png (Super-resolve),
panel-synthesize.png, panel-degrade.png and panel-enhance.png, in build/panel unless another folder is named; a task
without a pack is left out. Title bars and colours are Qt's own style, not those of the real application.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "Testing" / "Host")]

import numpy as np  # noqa: E402
import slicer  # noqa: E402
import slicer_host  # noqa: E402
from PIL import Image, ImageDraw, ImageFont  # noqa: E402

VIEW = 420
PANEL_WIDTH = 460
GAP = 4
LONGEST_RUN_S = 1800
PICTURES = {
    "superresolution": "panel.png",
    "synthesis": "panel-synthesize.png",
    "degradation": "panel-degrade.png",
    "enhancement": "panel-enhance.png",
}
AXIAL = ("Red", "Yellow")
VIEWS = {"superresolution": AXIAL, "synthesis": ("Green", "Yellow"), "degradation": AXIAL, "enhancement": AXIAL}
"""Two views of each task's sample: its slices, and across them. Short-axis slices are closest to coronal."""

ZOOM = {"superresolution": 1.2, "synthesis": 1.3, "degradation": 1.2, "enhancement": 1.2}


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        slicer_host.start(Path(temporary))
        slicer.app.make_views((VIEW, VIEW))
        module = slicer_host.load_module(ROOT / "MRDiffusion" / "MRDiffusion.py")
        slicer.app.startupCompleted.emit()
        widget = module.widgetRepresentation()
        panel = widget.python.panel
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for task, name in PICTURES.items():
                slicer.mrmlScene.Clear()
                panel.taskButtons[task].click()
                if panel._offered:
                    draw(panel, widget, folder / name)
                else:
                    print(f"{name}: no pack for the task {task}")
        finally:
            panel.cleanup()


def draw(panel: Any, widget: Any, path: Path) -> None:
    """Load the sample, run it, and save panel and views as one picture."""
    panel.ui.sampleButton.click()
    run(panel)
    before, after = views(panel.section.task)
    widget.resize(PANEL_WIDTH, 2 * VIEW + GAP)
    widget.show()
    for _ in range(30):  # what holds what finds its height, one after the other
        slicer.app.processEvents()
    right = np.concatenate([row(before), gap(2 * VIEW + GAP, GAP), row(after)])
    image = Image.new("RGB", (PANEL_WIDTH + GAP + right.shape[1], right.shape[0]))
    image.paste(grab(widget), (0, 0))
    image.paste(Image.fromarray(right), (PANEL_WIDTH + GAP, 0))
    pen, result = ImageDraw.Draw(image), panel.logic.results["result"]
    for number, node in enumerate((result.GetNodeReference("MRDiffusion.Input"), result)):
        columns, rows, _slices = node.GetImageData().GetDimensions()
        place = (PANEL_WIDTH + GAP + 8, number * (VIEW + GAP) + 8)
        text = f"{('input', 'result')[number]}, {rows} x {columns}"
        pen.text(place, text, (230, 230, 230), ImageFont.load_default(16))
    image.save(path, optimize=True)
    print(f"{path}: {panel.ui.stateText.text}")


def run(panel: Any) -> None:
    if not panel.ui.applyButton.enabled:
        raise SystemExit(panel.ui.stateText.text)
    panel.ui.applyButton.click()
    end = time.monotonic() + LONGEST_RUN_S
    while panel.logic.busy and time.monotonic() < end:
        slicer.app.processEvents()
        time.sleep(0.01)
    if not panel.logic.results:
        raise SystemExit(panel.ui.stateText.text)


def views(task: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Two views of the input, and of the result behind it."""
    manager, pictures = slicer.app.layoutManager(), []
    for name in VIEWS[task]:
        node = manager.sliceWidget(name).mrmlSliceNode()
        width, height, depth = node.GetFieldOfView()
        node.SetFieldOfView(width / ZOOM[task], height / ZOOM[task], depth)
    for opacity in (1.0, 0.0):  # of the input, which is in front
        slicer.util.setSliceViewerLayers(foregroundOpacity=opacity)
        pictures.append([manager.sliceWidget(name).pixels() for name in VIEWS[task]])
    return pictures[0], pictures[1]


def row(pictures: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([pictures[0], gap(GAP, VIEW), pictures[1]], axis=1)


def gap(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def grab(widget: Any) -> Image.Image:
    """A widget as it looks on the screen."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "widget.png"
        widget.grab().save(str(path))
        with Image.open(path) as image:
            return image.convert("RGB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "panel")
