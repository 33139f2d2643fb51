"""What can be done with a result: told in plain words, saved with its provenance, exported as DICOM, made again."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util

from MRDiffusionLib.errors import InputError, UserError
from MRDiffusionLib.imaging.checksum import sha256_of
from MRDiffusionLib.imaging.dicom import write_dicom
from MRDiffusionLib.imaging.geometry import Geometry
from MRDiffusionLib.packs import PackInfo
from MRDiffusionLib.request import Request
from MRDiffusionLib.settings import TASKS, info_of

from . import comparison, grids, nodes, sequences
from .parameters import Parameters
from .text import _, of_setting


def results_of(scene: Any) -> list[Any]:
    """The results in a scene, the oldest first; a cine is the volume that shows it. Not previews, nor what a browser
    shows of a sweep, nor what belongs to a result: its standard deviation and differences."""
    passing = (nodes.PREVIEW, nodes.SWEEP)
    results = (node for node in _volumes(scene) if node.GetAttribute(nodes.ROLE) == "result")
    return [node for node in results if all(node.GetAttribute(name) is None for name in passing)]


def parts_of(result: Any) -> list[Any]:
    """What belongs to a result and is in the scene: its standard deviation, and its differences from other images."""
    run = result.GetAttribute(nodes.RUN)
    made = (node for node in _volumes(result.GetScene()) if run is not None and node.GetAttribute(nodes.RUN) == run)
    return [node for node in made if node.GetAttribute(nodes.ROLE) != "result"]


def deviation_of(result: Any) -> Any:
    """The standard deviation of a result's samples, or None where it has none."""
    return next((part for part in parts_of(result) if part.GetAttribute(nodes.ROLE) == "standard_deviation"), None)


def _volumes(scene: Any) -> list[Any]:
    found: list[Any] = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", scene)
    return found


def titles(node: Any) -> tuple[str, str, str]:
    """What a result is called, with which choices it was made, and its PSNR in dB where it was compared with a real
    image: 'LGE of heart', 'bSSFP 1.5; seed 7', '31.20'.

    The choices are those that its name ends with, also where a person has given it another one. Without them, as in a
    file that was renamed, they come from what made it.
    """
    what, _mark, chosen = node.GetName().partition("; ")
    request = (nodes.provenance_of(node) or {}).get("request", {})
    if node.GetAttribute(nodes.MADE_WITH):
        chosen = node.GetAttribute(nodes.MADE_WITH)
        what = node.GetName().replace(f"; {chosen}", "")
    elif not chosen and request.get("task") in TASKS:
        chosen = "; ".join([*_chosen(request), _seed(request)])
    psnr = comparison.figures_of(node).get("whole", {}).get("psnr_db")
    return what.replace(nodes.WORD, "").strip(), chosen, "" if psnr is None else f"{psnr:.2f}"


def story(node: Any) -> list[str]:
    """A result's provenance, a sentence each."""
    provenance = nodes.provenance_of(node) or {}
    request, pack = provenance.get("request", {}), provenance.get("pack", {})
    sentences = [_("SYNTHETIC: computed by a generative model. Not for diagnosis.")]
    given = _(" and ").join(_given(role, name) for role, name in request.get("inputs", {}).items())
    made = _("Made from {given} by the model {pack} {version}.")
    made = made.format(given=given, pack=pack.get("name", "?"), version=pack.get("version", ""))
    sentences.append(made.replace("  ", " ").replace(" .", "."))
    computed = ", ".join(filter(None, [_when(provenance.get("created", "")), _where(request.get("device", ""))]))
    if computed:
        sentences.append(_("Computed: {computed}.").format(computed=computed))
    sequence = sequences.sequence_of(node)
    if sequence is not None:
        count = sequence.GetNumberOfDataNodes()
        sentences.append(_("It is one of {count} frames, all made in the same way.").format(count=count))
    if node.GetAttribute(nodes.CHANGED):
        sentences.append(_("Its file has been changed since it was saved: what is said here is of how it was before."))
    if pack.get("training_data"):
        sentences.append(_("The model was trained on: {text}.").format(text=pack["training_data"].rstrip(".")))
    if request.get("task") in TASKS:
        sentences.append("; ".join([*_chosen(request), _seed(request)]) + ".")
    versions = ", ".join(f"{name} {version}" for name, version in provenance.get("versions", {}).items())
    sentences.append(
        _("Weights {weights}; {versions}.").format(weights=pack.get("weights_sha256", "?")[:12], versions=versions)
    )
    return sentences


def _seed(request: dict[str, Any]) -> str:
    return _("seed {seed}").format(seed=request.get("seed"))


def _given(role: str, name: str) -> str:
    """An input and what it was taken for: a sequence, or the image of a task that takes one."""
    told = {"low_resolution": _("low resolution"), "image": ""}.get(role, role)
    return f"{name} ({told})" if told else name


def _when(created: str) -> str:
    """The time of a provenance, which is in UTC, on this machine's clock; empty where there is none."""
    try:
        at = datetime.datetime.fromisoformat(created).astimezone()
    except ValueError:
        return created
    return _("{time} local time").format(time=at.strftime("%Y-%m-%d %H:%M"))


def _where(device: str) -> str:
    """A device in words; empty for one that has not been chosen yet."""
    if device in ("", "auto"):
        return ""
    return (_("processor ({device})") if device == "cpu" else _("graphics card ({device})")).format(device=device)


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


def export_dicom(node: Any, folder: Path) -> Callable[[], list[Path]]:
    """Work for another thread: it writes a result as a DICOM series into a new folder, and raises UserError.

    Raises:
        UserError: a result that cannot be written so.
    """
    check_exportable(node)
    array = np.asarray(slicer.util.arrayFromVolume(node), np.float32)
    provenance, sources = nodes.provenance_of(node) or {}, source_files(node)
    if "pack" not in provenance:
        raise InputError(_("{name} does not say what made it").format(name=node.GetName()))
    told = {"name": node.GetName(), "provenance": provenance, "sources": sources}
    return functools.partial(write_dicom, array, geometry_of(node), folder, **told)


def check_exportable(node: Any) -> None:
    """Raises InputError for a result that cannot become a DICOM series as it is."""
    if sequences.sequence_of(node) is not None:
        raise InputError(_("{name} is a sequence").format(name=node.GetName()), _("Save it instead"))
    if node.GetParentTransformNode() is not None:
        text = _("{name} is moved by a transform").format(name=node.GetName())
        raise InputError(text, _("Harden the transform in the module Transforms first"))


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


def find_inputs(node: Any) -> Callable[[], list[Any]]:
    """Work for another thread, which looks at voxels only: the volumes that a result was made from, in their order.

    Those that the result knows, or for a result that was loaded from a file volumes of the same names with the same
    voxels. The work raises UserError where an input has been changed or is not in the scene.

    Raises:
        UserError: a sequence, whose frames are not made again one by one.
    """
    if sequences.sequence_of(node) is not None:
        hint = _("Choose its input, and run all frames in the part Cine and batch")
        raise InputError(_("{name} is a sequence").format(name=node.GetName()), hint)
    provenance, own = nodes.provenance_of(node) or {}, nodes.inputs_of(node)
    request = Request.from_json(provenance["request"])
    known = len(own) == len(request.inputs)
    wanted = [provenance.get("inputs", {}).get(role, {}).get("sha256") for role in request.inputs]
    offered = [[each] for each in own] if known else [_named(node.GetScene(), name) for name in request.inputs.values()]
    looked_at = [[(each, each.GetName(), slicer.util.arrayFromVolume(each)) for each in some] for some in offered]

    # Looked up here, as another thread must not call Qt.
    changed = _("{name} has been changed since this result was made of it")
    hint = _("Load it again, or press Apply for a new result")
    gone = _("an input of this result is no longer in the scene; it had {names}")

    def find() -> list[Any]:
        found = []
        for sha, volumes in zip(wanted, looked_at):
            for volume, name, voxels in volumes:
                if (known and not sha) or sha == sha256_of(np.asarray(voxels, np.float32)):
                    found.append(volume)
                    break
                if known:
                    raise UserError(changed.format(name=name), hint)
        if len(found) != len(looked_at):
            raise UserError(gone.format(names=", ".join(request.inputs.values())))
        return found

    return find


def _named(scene: Any, name: str) -> list[Any]:
    """Volumes of a name that have voxels."""
    return [each for each in _volumes(scene) if each.GetName() == name and each.GetImageData() is not None]


def again(node: Any, volumes: list[Any], make: Callable[..., Parameters], packs: list[PackInfo]) -> Parameters:
    """The run that made a result, to be made again exactly.

    Args:
        volumes: what `find_inputs` found.
        make: the `Parameters` of the result's task.
        packs: that are installed.

    Raises:
        UserError: an input that has left the scene meanwhile, a pack that is not installed or not the same.
    """
    provenance = nodes.provenance_of(node) or {}
    request = Request.from_json(provenance["request"])
    pack = next((each for each in packs if each.name == provenance["pack"]["name"]), None)
    if pack is None or pack.weights_sha256 != provenance["pack"]["weights_sha256"]:
        text = _("the model {name} with the weights of this result is not installed")
        raise UserError(text.format(name=provenance["pack"]["name"]), _("Install the pack that made it"))
    gone = [name for volume, name in zip(volumes, request.inputs.values()) if volume.GetScene() is None]
    if gone:
        raise UserError(_("{name} is no longer in the scene; choose another volume").format(name=gone[0]))
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
    """Take a result out of the scene, and what belongs to it, which stays as long as there is a copy of the result."""
    scene, run = node.GetScene(), node.GetAttribute(nodes.RUN)
    copied = any(each is not node and each.GetAttribute(nodes.RUN) == run for each in results_of(scene))
    parts = [] if copied else parts_of(node)
    if scene.GetUndoFlag():
        scene.SaveStateForUndo()
    for each in (node, *parts):
        (nodes if sequences.sequence_of(each) is None else sequences).remove(each)
