"""Draw the panel and the slice views after a run on the shipped sample: `python Testing/render_panel.py [PNG]`.

Needs slicer-core, PySide6 and a pack; no screen and no Slicer. The picture is docs/images/panel.png unless another is
named. Title bars and colours are Qt's own style, not those of the real application.
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
ZOOM = 1.2
LONGEST_RUN_S = 1800


def main(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        slicer_host.start(Path(folder))
        slicer.app.make_views((VIEW, VIEW))
        module = slicer_host.load_module(ROOT / "MRDiffusion" / "MRDiffusion.py")
        slicer.app.startupCompleted.emit()
        widget = module.widgetRepresentation()
        panel = widget.python.panel
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draw(panel, widget, path)
        finally:
            panel.cleanup()


def draw(panel: Any, widget: Any, path: Path) -> None:
    """Load the sample, run it, and save panel and views as one picture."""
    panel.ui.sampleButton.click()
    run(panel)
    before, after = views(panel)
    widget.resize(PANEL_WIDTH, 2 * VIEW + GAP)
    widget.show()
    slicer.app.processEvents()
    right = np.concatenate([row(before), gap(2 * VIEW + GAP, GAP), row(after)])
    image = Image.new("RGB", (PANEL_WIDTH + GAP + right.shape[1], right.shape[0]))
    image.paste(grab(widget), (0, 0))
    image.paste(Image.fromarray(right), (PANEL_WIDTH + GAP, 0))
    pen = ImageDraw.Draw(image)
    for number, name in enumerate(("input", "result")):
        place = (PANEL_WIDTH + GAP + 8, number * (VIEW + GAP) + 8)
        pen.text(place, f"{name}, {matrix_of(panel, name)}", (230, 230, 230), ImageFont.load_default(16))
    image.save(path, optimize=True)
    print(f"{path}: {panel.ui.stateText.text}")


def matrix_of(panel: Any, name: str) -> str:
    node = panel.parameters.inputVolume if name == "input" else panel.logic.results["result"]
    columns, rows, _slices = node.GetImageData().GetDimensions()
    return f"{rows} x {columns}"


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


def views(panel: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Axial and sagittal view of the input, and of the result laid over it."""
    manager, pictures = slicer.app.layoutManager(), []
    for name in ("Red", "Yellow"):
        node = manager.sliceWidget(name).mrmlSliceNode()
        width, height, depth = node.GetFieldOfView()
        node.SetFieldOfView(width / ZOOM, height / ZOOM, depth)
    for opacity in (0.0, 1.0):
        slicer.util.setSliceViewerLayers(foregroundOpacity=opacity)
        pictures.append([manager.sliceWidget(name).pixels() for name in ("Red", "Yellow")])
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
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images" / "panel.png")
