"""Plots of a result against a real image, as nodes of the scene: table, series and chart.

`matched`: the result is first made as bright as the reference (`comparison.brightness`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import slicer.util
from numpy.typing import NDArray

from . import nodes
from .comparison import DRAWN, brightness, on_grid_of
from .text import _

BINS, FEW = 128, 16
"""Of a histogram; and points up to which a line has a dot at each."""
TABLE = "MRDiffusion.Table"
"""Reference of a chart to the tables of its series, which go with it."""
COLOURS = (
    *((0.12, 0.47, 0.71), (0.85, 0.37, 0.01), (0.35, 0.35, 0.35), (0.17, 0.63, 0.17)),
    *((0.58, 0.40, 0.74), (0.84, 0.15, 0.16), (0.55, 0.34, 0.29), (0.09, 0.75, 0.81)),
)
Floats = NDArray[np.floating[Any]]
Line = tuple[str, Any, Any]
"""Name, x and y."""


def bland_altman(test: Any, reference: Any, matched: bool = False) -> Any:
    """Difference over mean of voxels drawn at random, with the bias and the limits of agreement of all of them."""
    made, true = _pair(test, reference, matched)
    middle, difference = (made + true) / 2, made - true
    bias, spread = float(difference.mean()), 1.96 * float(difference.std(ddof=1))
    chosen = np.random.default_rng(0).permutation(len(made))[:DRAWN]
    ends = np.array([middle.min(), middle.max()])
    title = _("Bland-Altman: bias {bias:.3g}, limits {low:.3g} to {high:.3g}").format(
        bias=bias, low=bias - spread, high=bias + spread
    )
    levels = {_("bias"): bias, _("upper limit"): bias + spread, _("lower limit"): bias - spread}
    lines = [(name, ends, np.full(2, value)) for name, value in levels.items()]
    return _chart(
        test,
        title,
        (_("mean of both"), _("result less reference")),
        lines,
        points=(_("voxels"), middle[chosen], difference[chosen]),
    )


def histogram(test: Any, reference: Any, matched: bool = False) -> Any:
    """How often each intensity occurs, in the result and in the reference."""
    made, true = _pair(test, reference, matched)
    edges = np.linspace(min(made.min(), true.min()), max(made.max(), true.max()), BINS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    lines = [
        (name, centres, np.histogram(values, edges)[0].astype(float))
        for name, values in ((_("result"), made), (_("reference"), true))
    ]
    return _chart(test, _("Histogram"), (_("intensity"), _("voxels")), lines)


def spectrum(test: Any, reference: Any, matched: bool = False) -> Any:
    """Power over spatial frequency; of a super-resolution also where its measured band ends: beyond it is invented."""
    from MRDiffusionLib.evaluation.metrics import radial_power_spectrum

    made = _values(test, reference, matched)
    true = np.nan_to_num(on_grid_of(test, reference))
    spacing = test.GetSpacing()
    found = [radial_power_spectrum(array, (spacing[1], spacing[0])) for array in (made, true)]
    lines = [
        (name, each.frequency[1:], 10 * np.log10(np.maximum(each.power[1:], 1e-12)))
        for name, each in zip((_("result"), _("reference")), found)
    ]
    edge = measured_edge(test)
    if edge is not None:
        heights = np.concatenate([line[2] for line in lines])
        lines.append((_("end of the measured band"), np.full(2, edge), np.array([heights.min(), heights.max()])))
    title = _("Measured and invented") if edge is not None else _("Power spectrum")
    return _chart(test, title, (_("cycles per mm"), _("power (dB)")), lines)


def measured_edge(test: Any) -> float | None:
    """The highest frequency along an axis that a super-resolution was given, cycles per mm; None for other results."""
    provenance = nodes.provenance_of(test) or {}
    if provenance.get("request", {}).get("task") != "superresolution":
        return None
    source = nodes.input_of(test)
    return None if source is None else 0.5 / max(source.GetSpacing()[:2])


def _values(test: Any, reference: Any, matched: bool) -> Floats:
    factor = brightness(test, reference) if matched else 1.0
    return factor * np.asarray(slicer.util.arrayFromVolume(test), np.float64)


def _pair(test: Any, reference: Any, matched: bool) -> tuple[Floats, Floats]:
    """Intensities of the voxels in which one of the two shows more than air, float64."""
    made = _values(test, reference, matched)
    true = on_grid_of(test, reference).astype(np.float64)
    seen = np.isfinite(true)
    level = 0.05 * np.percentile(true[seen], 99)
    shown = seen & ((true > level) | (made > level))
    return made[shown], true[shown]


def _chart(
    test: Any,
    title: str,
    axes: tuple[str, str],
    lines: list[Line],
    points: Line | None = None,
) -> Any:
    """A chart that is named after a result."""
    what = test.GetName().split(" | ")[0]
    # The title names the word alone: a longer one is cut off in the view.
    return make(test.GetScene(), f"{title.split(':')[0]}, {what}", f"{nodes.WORD} {title}", axes, lines, points)


def make(
    scene: Any, name: str, title: str, axes: tuple[str, str], lines: list[Line], points: Line | None = None
) -> Any:
    """A chart node with a series for each line, and for points, each with a table of its numbers."""
    chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", scene.GenerateUniqueName(name))
    chart.SetTitle(title)
    chart.SetXAxisTitle(axes[0])
    chart.SetYAxisTitle(axes[1])
    everything = [(each, False) for each in lines] + ([(points, True)] if points is not None else [])
    kind = slicer.vtkMRMLPlotSeriesNode
    for number, ((label, x, y), scattered) in enumerate(everything):
        table = scene.AddNewNodeByClass("vtkMRMLTableNode", f"{label}, {chart.GetName()}")
        slicer.util.updateTableFromArray(table, (np.asarray(x, float), np.asarray(y, float)), [axes[0], label])
        series = scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", label)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName(axes[0])
        series.SetYColumnName(label)
        series.SetPlotType(kind.PlotTypeScatter)
        series.SetLineStyle(kind.LineStyleNone if scattered else kind.LineStyleSolid)
        few = scattered or len(x) <= FEW
        series.SetMarkerStyle(kind.MarkerStyleCircle if few else kind.MarkerStyleNone)
        series.SetMarkerSize(3 if scattered else 7)
        series.SetColor(*COLOURS[number % len(COLOURS)])
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
        chart.AddNodeReferenceID(TABLE, table.GetID())
        for part in (table, series):  # the chart stands for them in lists
            part.HideFromEditorsOn()
    return chart


def show(chart: Any) -> None:
    """Bring a chart into the layout, where there is one."""
    logic = getattr(getattr(slicer.modules, "plots", None), "logic", None)
    if logic is not None:
        logic().ShowChartInLayout(chart)


def remove(chart: Any) -> None:
    """Take a chart with its series and tables out of the scene."""
    scene = chart.GetScene()
    series = [chart.GetNthPlotSeriesNode(number) for number in range(chart.GetNumberOfPlotSeriesNodes())]
    count = chart.GetNumberOfNodeReferences(TABLE)
    tables = [chart.GetNthNodeReference(TABLE, number) for number in range(count)]
    for node in (chart, *series, *tables):
        if node is not None:
            scene.RemoveNode(node)
