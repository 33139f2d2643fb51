"""Plots of a result against a real image, as nodes of the scene: table, series and chart.

What is drawn is computed from numbers alone, outside of the main thread. There no text may be looked up, so that it
gives what makes the `Drawing`; `add` makes the nodes of that.
`matched`: the result is first made as bright as the reference (`comparison.Pair.brightness`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import slicer.util
from numpy.typing import NDArray

from MRDiffusionLib.errors import InputError

from . import nodes
from .comparison import Pair, Voxels
from .text import _

BINS, FEW = 128, 16
"""Of a histogram; and points up to which a line has a dot at each."""
DRAWN = 4000
"""Voxels in a Bland-Altman plot."""
KIND, RESULT = "MRDiffusion.Chart", "MRDiffusion.Result"
"""Attribute of a chart: what it shows; and its reference to the result that it was made for."""
LEGEND_ROOM = 0.14
"""Height that is left above what is drawn for each line of the legend, in heights of it."""
TABLE = "MRDiffusion.Table"
"""Reference of a chart to the tables of its series, which go with it."""
COLOURS = (
    *((0.12, 0.47, 0.71), (0.85, 0.37, 0.01), (0.35, 0.35, 0.35), (0.17, 0.63, 0.17)),
    *((0.58, 0.40, 0.74), (0.84, 0.15, 0.16), (0.55, 0.34, 0.29), (0.09, 0.75, 0.81)),
)
Floats = NDArray[np.floating[Any]]
Line = tuple[str, Any, Any]
"""Name, x and y."""


@dataclass(frozen=True)
class Drawing:
    """What a chart shows.

    Attributes:
        title: the word before a colon names it.
        axes: titles of x and y.
        lines: drawn through.
        points: drawn as dots, or None.
    """

    title: str
    axes: tuple[str, str]
    lines: list[Line]
    points: Line | None = None


class Air(InputError):
    """Two volumes show nothing where both are. Its text is looked up where it is told."""

    def __str__(self) -> str:
        text = _("the two volumes show nothing but air where both are; choose another reference")
        return str(text)


def bland_altman(pair: Pair, matched: bool = False) -> Callable[[], Drawing]:
    """Difference over mean of voxels drawn at random, with the bias and the limits of agreement of all of them."""
    made, true = _shown(pair, matched)
    middle, difference = (made + true) / 2, made - true
    bias, spread = float(difference.mean()), 1.96 * float(difference.std(ddof=1))
    chosen = np.random.default_rng(0).permutation(len(made))[:DRAWN]
    ends = np.array([middle.min(), middle.max()])
    middle, difference = middle[chosen], difference[chosen]

    def drawing() -> Drawing:
        title = _("Bland-Altman: bias {bias:.3g}, limits {low:.3g} to {high:.3g}")
        title = title.format(bias=bias, low=bias - spread, high=bias + spread)
        levels = {_("bias"): bias, _("upper limit"): bias + spread, _("lower limit"): bias - spread}
        lines = [(name, ends, np.full(2, value)) for name, value in levels.items()]
        points = (_("voxels"), middle, difference)
        return Drawing(title, (_("mean of both"), _("result less reference")), lines, points)

    return drawing


def histogram(pair: Pair, matched: bool = False) -> Callable[[], Drawing]:
    """How often each intensity occurs, in the result and in the reference."""
    made, true = _shown(pair, matched)
    edges = np.linspace(min(made.min(), true.min()), max(made.max(), true.max()), BINS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    of_made, of_true = (np.histogram(values, edges)[0].astype(float) for values in (made, true))

    def drawing() -> Drawing:
        lines = [(_("result"), centres, of_made), (_("reference"), centres, of_true)]
        return Drawing(_("Histogram"), (_("intensity"), _("voxels")), lines)

    return drawing


def spectrum(
    made: Voxels, band: tuple[float, float] | None = None, pair: Pair | None = None, matched: bool = False
) -> Callable[[], Drawing]:
    """Power over spatial frequency, of a super-resolution what was measured and what was invented.

    Args:
        made: the result.
        band: of `measured_band`.
        pair: the result with a reference, which is drawn as well: its own voxels, where its axes are the result's, as
            it loses its finest detail when it is resampled.
    """
    values = np.asarray(made.array, np.float64) if pair is None else pair.values(matched)
    curves = {}
    if band is None:
        curves["result"] = _power(values, made.spacing)
    else:
        measured = _within(values, made.spacing, band)
        curves["measured"] = _power(measured, made.spacing)
        curves["invented"] = _power(values - measured, made.spacing)
    if pair is not None:
        own = pair.own_reference()
        if own is None:
            curves["resampled"] = _power(np.nan_to_num(pair.true()), made.spacing)
        else:
            curves["reference"] = _power(own.array, own.spacing)

    def drawing() -> Drawing:
        names = {"result": _("result"), "measured": _("measured"), "invented": _("invented")}
        names |= {"resampled": _("reference, resampled"), "reference": _("reference")}
        lines = [(names[kind], *curve) for kind, curve in curves.items()]
        if band is not None:
            heights = np.concatenate([height for _frequency, height in curves.values()])
            ends = np.array([heights.min(), heights.max()])
            lines.append((_("end of the measured band"), np.full(2, min(band)), ends))
        title = _("Power spectrum") if band is None else _("Measured and invented")
        return Drawing(title, (_("cycles per mm"), _("power density (dB)")), lines)

    return drawing


def measured_band(test: Any) -> tuple[float, float] | None:
    """The highest frequencies along columns and rows that a super-resolution was given, cycles per mm; None for others
    and where its input has left the scene."""
    provenance = nodes.provenance_of(test) or {}
    if provenance.get("request", {}).get("task") != "superresolution":
        return None
    source = nodes.input_of(test)
    if source is None:
        return None
    x, y, _z = source.GetSpacing()
    return 0.5 / x, 0.5 / y


def add(test: Any, kind: str, drawing: Drawing) -> Any:
    """A chart of a result, in the place of the one of this kind that it had. It is named after the result."""
    scene = test.GetScene()
    for chart in slicer.util.getNodesByClass("vtkMRMLPlotChartNode", scene):
        if chart.GetAttribute(KIND) == kind and chart.GetNodeReference(RESULT) is test:
            remove(chart)
    # The title names the word alone: a longer one is cut off in the view.
    name, title = f"{drawing.title.split(':')[0]}, {test.GetName().split('; ')[0]}", f"{nodes.WORD} {drawing.title}"
    chart = make(scene, name, title, drawing.axes, drawing.lines, drawing.points)
    chart.SetAttribute(KIND, kind)
    chart.AddNodeReferenceID(RESULT, test.GetID())
    return chart


def _power(stack: NDArray[Any], spacing: tuple[float, float, float]) -> tuple[Floats, Floats]:
    """Frequency, and density of power, mean over the slices, so that pixels of other sizes give the same; no mean."""
    from MRDiffusionLib.evaluation.metrics import radial_power_spectrum

    found = radial_power_spectrum(stack, (spacing[1], spacing[0]))
    density = found.power * spacing[0] * spacing[1]
    seen = (found.frequency > 0) & (density > 1e-12 * density.max())
    return found.frequency[seen], 10 * np.log10(density[seen])


def _within(stack: Floats, spacing: tuple[float, float, float], band: tuple[float, float]) -> Floats:
    """What lies within a band of k-space."""
    rows, columns = stack.shape[1:]
    within = np.abs(np.fft.fftfreq(columns, spacing[0]))[None] <= band[0] * (1 + 1e-6)
    within = within & (np.abs(np.fft.fftfreq(rows, spacing[1]))[:, None] <= band[1] * (1 + 1e-6))
    return np.stack([np.fft.ifft2(np.fft.fft2(each) * within).real for each in stack])


def _shown(pair: Pair, matched: bool) -> tuple[Floats, Floats]:
    """Intensities of the voxels in which one of the two shows more than air, float64."""
    made, true = pair.values(matched), pair.true().astype(np.float64)
    seen = np.isfinite(true)
    level = 0.05 * np.percentile(true[seen], 99)
    shown = seen & ((true > level) | (made > level))
    if np.count_nonzero(shown) < 2:
        raise Air("")
    return made[shown], true[shown]


def make(
    scene: Any, name: str, title: str, axes: tuple[str, str], lines: list[Line], points: Line | None = None
) -> Any:
    """A chart node with a series for each line, and for points, each with a table of its numbers."""
    chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", scene.GenerateUniqueName(name))
    chart.SetTitle(title)
    chart.SetXAxisTitle(axes[0])
    chart.SetYAxisTitle(axes[1])
    everything = [(each, False) for each in lines] + ([(points, True)] if points is not None else [])
    chart.SetLegendVisibility(len(everything) > 1)
    if len(everything) > 1:  # the legend lies in the upper corner, over whatever is drawn there
        heights = np.concatenate([np.ravel(y) for (_label, _x, y), _scattered in everything]).astype(float)
        low, high = float(heights.min()), float(heights.max())
        chart.SetYAxisRangeAuto(False)
        chart.SetYAxisRange(low - 0.05 * (high - low), high + LEGEND_ROOM * len(everything) * (high - low))
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
