"""What can be done with a result: told in plain words, saved with its provenance, exported as DICOM, made again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util

from MRDiffusionLib.errors import InputError, StorageError, UserError
from MRDiffusionLib.imaging.checksum import sha256_of
from MRDiffusionLib.imaging.dicom import write_dicom
from MRDiffusionLib.imaging.geometry import Geometry
from MRDiffusionLib.packs import PackInfo
from MRDiffusionLib.request import Request
from MRDiffusionLib.settings import TASKS, info_of
from MRDiffusionLib.worker import outputs
from MRDiffusionLib.worker.protocol import to_json

from . import comparison, grids, nodes
from .parameters import Parameters
from .text import _, of_setting

SUFFIXES = (".nii.gz", ".nrrd", ".nii", ".mha")


def results_of(scene: Any) -> list[Any]:
    """The results in a scene, the oldest first; not previews, nor what a browser shows of a sweep, nor what belongs to
    a result: its standard deviation and differences."""
    count = scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    volumes = (scene.GetNthNodeByClass(number, "vtkMRMLScalarVolumeNode") for number in range(count))
    passing = (nodes.PREVIEW, nodes.SWEEP)
    results = (node for node in volumes if node.GetAttribute(nodes.ROLE) == "result")
    return [node for node in results if all(node.GetAttribute(name) is None for name in passing)]


def titles(node: Any) -> tuple[str, str, str]:
    """What a result is called, with which choices it was made, and its PSNR in dB where it was compared with a real
    image: 'LGE of heart', 'bSSFP 1.5 | seed 7', '31.20'."""
    request = (nodes.provenance_of(node) or {}).get("request", {})
    chosen = node.GetAttribute(nodes.MADE_WITH)
    if chosen is None and request.get("task") in TASKS:  # of an older scene, or loaded from a file
        chosen = "; ".join(_chosen(request))
    what = node.GetName().replace(f" | {chosen}", "").replace(nodes.WORD, "").strip()
    psnr = comparison.figures_of(node).get("whole", {}).get("psnr_db")
    return what, chosen or "", "" if psnr is None else f"{psnr:.2f}"


def story(node: Any) -> list[str]:
    """A result's provenance, a sentence each."""
    provenance = nodes.provenance_of(node) or {}
    request, pack = provenance.get("request", {}), provenance.get("pack", {})
    sentences = [_("SYNTHETIC: computed by a generative model. Not for diagnosis.")]
    given = _(" and ").join(f"{role} ({name})" for role, name in request.get("inputs", {}).items())
    made = _("Made {when} from {given} by the model {pack} {version}.")
    when = str(provenance.get("created", "")).replace("T", " ").removesuffix("+00:00")
    sentences.append(
        made.format(when=when, given=given, pack=pack.get("name", "?"), version=pack.get("version", "")).replace(
            "  ", " "
        )
    )
    if pack.get("training_data"):
        sentences.append(_("The model was trained on: {text}.").format(text=pack["training_data"].rstrip(".")))
    if request.get("task") in TASKS:
        sentences.append("; ".join([*_chosen(request), _("seed {seed}").format(seed=request.get("seed"))]) + ".")
    versions = ", ".join(f"{name} {version}" for name, version in provenance.get("versions", {}).items())
    sentences.append(
        _("Weights {weights}; {versions}.").format(weights=pack.get("weights_sha256", "?")[:12], versions=versions)
    )
    return sentences


def _chosen(request: dict[str, Any]) -> list[str]:
    """The settings with the names that the panel gives them."""
    kind, found = TASKS[request["task"]], []
    for name, value in request["settings"].items():
        try:
            label = of_setting(info_of(kind, name).label)
        except (KeyError, StopIteration):  # a setting of another version
            label = name
        if isinstance(value, dict):
            value = ", ".join(f"{role} {number:g}" for role, number in value.items())
        elif isinstance(value, (list, tuple)):
            value = " x ".join(map(str, value))
        elif isinstance(value, float):
            value = f"{value:g}"
        found.append(f"{label} {value if value not in (None, '') else _('automatic')}")
    return found


def sidecar(node: Any, path: Path) -> dict[str, Any]:
    """What lies beside a saved result, as beside those of the command line.

    Args:
        path: the file that the volume was saved to.
    """
    role = node.GetAttribute(nodes.ROLE)
    told = {
        "provenance": nodes.provenance_of(node) or {},
        "measurements": nodes.measurements_of(node),
        "warnings": [],
        "sha256": {role: sha256_of(slicer.util.arrayFromVolume(node))},
    }
    return outputs.sidecar(told, {role: path})


def write_sidecar(node: Any, path: Path) -> Path:
    """Write the provenance of a result beside its file. Raises StorageError."""
    suffix = next((each for each in SUFFIXES if path.name.lower().endswith(each)), path.suffix)
    place = path.with_name(path.name[: len(path.name) - len(suffix)] + ".json")
    try:
        place.write_text(to_json(sidecar(node, path), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(_("{file} cannot be written ({reason})").format(file=place, reason=reason)) from error
    return place


def export_dicom(node: Any, folder: Path) -> list[Path]:
    """Write a result as a DICOM series into a new folder. Raises UserError."""
    if node.GetParentTransformNode() is not None:
        text = _("{name} is moved by a transform").format(name=node.GetName())
        raise InputError(text, _("Harden the transform in the module Transforms first"))
    array = np.asarray(slicer.util.arrayFromVolume(node), np.float32)
    provenance, sources = nodes.provenance_of(node) or {}, source_files(node)
    if "pack" not in provenance:
        raise InputError(_("{name} does not say what made it").format(name=node.GetName()))
    return write_dicom(array, geometry_of(node), folder, name=node.GetName(), provenance=provenance, sources=sources)


def geometry_of(node: Any) -> Geometry:
    """Where a volume's voxels lie, LPS."""
    affine = grids.FLIP @ grids.affine(node)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    x, y, z = (float(value) for value in spacing)
    ox, oy, oz = (float(value) for value in affine[:3, 3])
    direction = tuple(float(value) for value in (affine[:3, :3] / spacing).ravel())
    return Geometry(grids.size(node), (x, y, z), (ox, oy, oz), direction)


def source_files(node: Any) -> list[str]:
    """DICOM files in Slicer's database of the volumes that a result was made from; empty where they are no DICOM."""
    database, found = getattr(slicer, "dicomDatabase", None), []
    for volume in nodes.inputs_of(node):
        for uid in (volume.GetAttribute("DICOM.instanceUIDs") or "").split() if database else ():
            file = database.fileForInstance(uid)
            if file:
                found.append(file)
    return found


def again(node: Any, make: Callable[..., Parameters], packs: list[PackInfo]) -> Parameters:
    """The run that made a result, to be made again exactly.

    Args:
        make: the `Parameters` of the result's task.
        packs: that are installed.

    Raises:
        UserError: an input that has left the scene or has been changed, a pack that is not installed or not the same.
    """
    provenance = nodes.provenance_of(node) or {}
    request = Request.from_json(provenance["request"])
    pack = next((each for each in packs if each.name == provenance["pack"]["name"]), None)
    if pack is None or pack.weights_sha256 != provenance["pack"]["weights_sha256"]:
        text = _("the model {name} with the weights of this result is not installed")
        raise UserError(text.format(name=provenance["pack"]["name"]), _("Install the pack that made it"))
    volumes = nodes.inputs_of(node)
    if len(volumes) != len(request.inputs):
        names = ", ".join(request.inputs.values())
        raise UserError(_("an input of this result is no longer in the scene; it had {names}").format(names=names))
    for role, volume in zip(request.inputs, volumes):
        wanted = provenance.get("inputs", {}).get(role, {}).get("sha256")
        if wanted and wanted != sha256_of(np.asarray(slicer.util.arrayFromVolume(volume), np.float32)):
            text = _("{name} has been changed since this result was made of it").format(name=volume.GetName())
            raise UserError(text, _("Load it again, or press Apply for a new result"))
    return make(
        inputs=dict(zip(request.inputs, volumes)),
        pack=pack,
        pack_name=pack.name,
        settings=request.settings,
        seed=request.seed,
        device=request.device,
        precision=request.precision,
        batch=request.batch,
        slices=request.slices,
    )


def remove(node: Any) -> None:
    """Take a result, its standard deviation and its difference out of the scene."""
    scene, made = node.GetScene(), node.GetAttribute(nodes.PROVENANCE)
    if scene.GetUndoFlag():
        scene.SaveStateForUndo()
    count = scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    volumes = [scene.GetNthNodeByClass(number, "vtkMRMLScalarVolumeNode") for number in range(count)]
    for volume in volumes:
        if volume is node or (nodes.is_synthetic(volume) and volume.GetAttribute(nodes.PROVENANCE) == made):
            nodes.remove(volume)
