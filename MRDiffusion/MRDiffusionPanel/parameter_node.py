"""The panel's settings in the scene: saved and restored with it, bound to the widgets both ways.

Ranges and defaults come from `MRDiffusionLib.settings`. A parameter has the name of its setting; `matrix` is two
numbers here, and a `noise` below zero means that it is estimated.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any

import vtk
from slicer import vtkMRMLScalarVolumeNode
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from MRDiffusionLib.packs import PackInfo
from MRDiffusionLib.request import DEVICES
from MRDiffusionLib.settings import SuperResolutionSettings, info_of, settings_from

from .parameters import Parameters

DEFAULT = SuperResolutionSettings()
ESTIMATED = -1.0
LARGEST_SEED = 2**31 - 1
LARGEST_NOISE = 1e6


def _range(name: str) -> WithinRange:
    info = info_of(SuperResolutionSettings, name)
    assert info.minimum is not None and info.maximum is not None
    return WithinRange(info.minimum, info.maximum)


def _choice(name: str) -> Choice:
    return Choice([choice for choice, _meaning in info_of(SuperResolutionSettings, name).choices])


@parameterNodeWrapper
class ParameterNode:
    """Typed access to the scene's parameter node."""

    inputVolume: vtkMRMLScalarVolumeNode
    pack: str = ""
    rows: Annotated[int, _range("matrix")] = DEFAULT.matrix[0]
    columns: Annotated[int, _range("matrix")] = DEFAULT.matrix[1]
    method: Annotated[str, _choice("method")] = DEFAULT.method
    weight: Annotated[float, _range("weight")] = DEFAULT.weight
    sampler: Annotated[str, _choice("sampler")] = DEFAULT.sampler
    steps: Annotated[int, _range("steps")] = DEFAULT.steps
    eta: Annotated[float, _range("eta")] = DEFAULT.eta
    strength: Annotated[float, _range("strength")] = DEFAULT.strength
    noise: Annotated[float, WithinRange(ESTIMATED, LARGEST_NOISE)] = ESTIMATED
    samples: Annotated[int, _range("samples")] = DEFAULT.samples
    seed: Annotated[int, WithinRange(0, LARGEST_SEED)] = 0
    newSeed: bool = False
    device: Annotated[str, Choice(list(DEVICES))] = DEVICES[0]


def wrapped(node: Any) -> Any:
    """A vtkMRMLScriptedModuleNode as `ParameterNode`; values that this version cannot read become the defaults."""
    # The wrapper remembers values and renews them by observers, and VTK calls the first observer last: an idle one in
    # that place, or the widgets would show the input that was there before the change.
    if not node.HasObserver(vtk.vtkCommand.ModifiedEvent):
        node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: None)
    try:
        return ParameterNode(node)
    except (KeyError, TypeError, ValueError):
        for name in node.GetParameterNames():
            node.UnsetParameter(name)
        return ParameterNode(node)


def capture(node: Any, packs: list[PackInfo]) -> Parameters:
    """The choices as they are now."""
    shared = [f.name for f in fields(SuperResolutionSettings) if f.name not in ("matrix", "noise")]
    values = {name: getattr(node, name) for name in shared}
    values["matrix"] = (node.rows, node.columns)
    values["noise"] = None if node.noise < 0 else node.noise
    return Parameters(
        input_volume=node.inputVolume,
        pack=next((pack for pack in packs if pack.name == node.pack), None),
        pack_name=node.pack,
        settings=settings_from("superresolution", values),
        seed=node.seed,
        device=node.device,
    )
