"""`superresolve`, and `rerun` of any result from its provenance."""

from __future__ import annotations

import argparse
import functools
import json
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..errors import InputError, SettingError, StorageError
from ..packs import find_pack
from ..request import PRECISIONS, Request, Result, request_from_provenance
from ..settings import ROLES, SuperResolutionSettings, help_text, info_of, kind_of, settings_from
from ..worker.outputs import Write, sidecar, write_together
from ..worker.protocol import to_json
from .bar import Bar

TASK = "superresolution"
DEFAULT_PACK = "brain-t1-128"
_PREFIX = "setting_"


def add_commands(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `superresolve` and `rerun`."""
    parser = subparsers.add_parser(
        "superresolve",
        parents=[common],
        help="low-resolution volume to a finer grid",
        description="Super-resolve a low-resolution MR volume with a generative prior that agrees with its k-space. "
        "Writes OUT, beside it OUT's provenance as .json, and with 2 samples or more OUT_standard_deviation.",
    )
    parser.add_argument("low", metavar="LOW", type=Path, help="magnitude volume, or k-space as .npy or .npz")
    parser.add_argument("out", metavar="OUT", type=Path, help="result: .nii.gz, .nii, .nrrd or .mha")
    add_settings(parser, SuperResolutionSettings)
    parser.add_argument("--seed", type=int, default=0, help="same seed, same result [default 0]")
    parser.add_argument("--pack", default=DEFAULT_PACK, help=f"name of a pack or its folder [default {DEFAULT_PACK}]")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps [default auto]")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="auto takes the faster one here")
    parser.add_argument("--batch", type=int, default=0, help="images computed together; 0 chooses [default 0]")
    parser.add_argument("--slices", type=slice_numbers, metavar="3,4,8-10", help="only these slices, counted from 0")
    _add_force(parser)
    parser.set_defaults(command=superresolve)

    parser = subparsers.add_parser(
        "rerun",
        parents=[common],
        help="make a result again from its provenance",
        description="Run the request in a provenance again: bit-identical on the same machine.",
    )
    parser.add_argument("provenance", metavar="PROVENANCE.json", type=Path, help="the .json beside a result")
    parser.add_argument("out", metavar="OUT", type=Path, help="where to write")
    parser.add_argument(
        "--input", metavar="[ROLE=]FILE", action="append", default=[], help="where an input lies now, if it was moved"
    )
    parser.add_argument("--device", help="another device than recorded; the result may then differ in the last digits")
    parser.add_argument(
        "--anyway", action="store_true", help="run although an input or the pack is not the recorded one"
    )
    _add_force(parser)
    parser.set_defaults(command=rerun)


def _add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="replace outputs that exist")


def add_settings(parser: argparse.ArgumentParser, settings_type: type) -> None:
    """A flag for each setting, with range, unit, default and tool tip from its `Info`."""
    group = parser.add_argument_group("settings")
    for f in fields(settings_type):
        kind = kind_of(settings_type, f.name)
        options: dict[str, Any] = {"help": help_text(settings_type, f.name).replace("%", "%%")}
        if kind is str:
            options["choices"] = [choice for choice, _ in info_of(settings_type, f.name).choices]
        elif kind is tuple:
            options |= {"type": int, "nargs": 2, "metavar": ("ROWS", "COLUMNS")}
        else:
            options |= {"type": kind, "metavar": "N" if kind is int else "X"}
        flag = "--" + f.name.replace("_", "-")
        group.add_argument(flag, dest=_PREFIX + f.name, default=argparse.SUPPRESS, **options)


def slice_numbers(text: str) -> tuple[int, ...]:
    """'3,4,8-10' to (3, 4, 8, 9, 10)."""
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,6})(?:-(\d{1,6}))?\s*", part, re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise argparse.ArgumentTypeError(f"{part!r} is not a slice number or a range such as 3-5")
        numbers.update(range(first, last + 1))
    return tuple(sorted(numbers))


def superresolve(options: argparse.Namespace) -> None:
    """The command. Raises UserError."""
    chosen = {n.removeprefix(_PREFIX): v for n, v in vars(options).items() if n.startswith(_PREFIX)}
    request = Request(
        task=TASK,
        pack=pack_path(options.pack),
        inputs={"low_resolution": str(options.low.absolute())},
        settings=settings_from(TASK, chosen),
        seed=options.seed,
        device=options.device,
        precision=options.precision,
        batch=options.batch,
        slices=options.slices,
    )
    places = output_places(options.out, request, options.force)
    check_inputs(request)
    find_pack(request.pack)
    save(run_with_bar(request), places)


def rerun(options: argparse.Namespace) -> None:
    """The command. Raises UserError."""
    try:
        text = options.provenance.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{options.provenance} cannot be read ({reason})", "Give the .json beside a result") from error
    request = request_from_provenance(text)
    recorded = json.loads(text)
    changes: dict[str, Any] = {"inputs": {**request.inputs, **_moved(options.input, request.task)}}
    if options.device:
        changes["device"] = options.device
    request = request.resolved(**changes)
    places = output_places(options.out, request, options.force)
    check_inputs(request)
    for difference in differences(recorded, request):
        if not options.anyway:
            raise InputError(difference, "Give the recorded one (--input), or --anyway for a result that will differ")
        warn(difference)
    result = run_with_bar(request)
    _compare_versions(recorded, result)
    _compare_outputs(recorded, save(result, places))


def run_with_bar(request: Request) -> Result:
    """Run a request here, with a progress bar on a terminal."""
    from .. import tasks

    with Bar() as bar:
        return tasks.run(request, progress=bar)


def output_places(out: Path, request: Request, force: bool) -> dict[str, Path]:
    """Role to file of what a run will write, and 'provenance'; checked before anything is computed.

    Raises:
        StorageError: an unknown suffix, a missing folder, a file that exists (without `force`), an output that is an
            input.
    """
    from ..imaging.volume import FORMATS

    suffix = next((s for s in FORMATS if out.name.lower().endswith(s)), None)
    if suffix is None:
        raise StorageError(f"{out} has no suffix of a volume format", f"Use one of {', '.join(FORMATS)}")
    if not out.parent.is_dir():
        raise StorageError(f"the folder {out.parent} does not exist", "Make it first or choose another one")
    stem, ending = out.name[: -len(suffix)], out.name[-len(suffix) :]
    places = {"result": out}
    if request.settings.samples > 1:
        places["standard_deviation"] = out.with_name(f"{stem}_standard_deviation{ending}")
    places["provenance"] = out.with_name(f"{stem}.json")
    inputs = {Path(path).resolve() for path in request.inputs.values()}
    for place in places.values():
        if place.resolve() in inputs:
            raise StorageError(f"{place} is an input of this run", "Choose another name for the output")
        if place.is_dir():
            raise StorageError(f"{place} is a folder", "Choose another name for the output")
        if place.exists() and not force:
            raise StorageError(f"{place} exists", "Choose another name, or give --force to replace it")
    return places


def check_inputs(request: Request) -> None:
    """Find a wrong name before torch is loaded; what is in the file is checked when it is read. Raises InputError."""
    for role, path in request.inputs.items():
        if not Path(path).exists():
            raise InputError(f"{path} ({role}) does not exist", "Check the name and the folder")


def pack_path(pack: str) -> str:
    """A pack's folder in full, so that the provenance still finds it from elsewhere; a name as it is."""
    return str(Path(pack).absolute()) if Path(pack).is_dir() and ("/" in pack or "\\" in pack) else pack


def save(result: Result, places: dict[str, Path]) -> dict[str, Any]:
    """Write the volumes and the provenance together; returns the provenance as written. Raises StorageError."""
    from ..imaging.volume import write_volume

    files: dict[Path, Write] = {
        places[role]: functools.partial(write_volume, volume) for role, volume in result.volumes.items()
    }
    written = sidecar(result, {role: places[role] for role in result.volumes})
    text = to_json(written, indent=1) + "\n"

    def write_text(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    files[places["provenance"]] = write_text
    write_together(files)
    for sentence in result.warnings:
        warn(sentence)
    if sys.stderr.isatty():
        print("wrote " + ", ".join(str(path) for path in files), file=sys.stderr)
    return written


def differences(recorded: dict[str, Any], request: Request) -> list[str]:
    """What is not as the provenance says: the pack's weights, an input's values. Raises InputError, PackError."""
    found = []
    wanted = _entry(recorded, "pack", "weights_sha256")
    if wanted is not None and find_pack(request.pack).weights_sha256 != wanted:
        found.append(f"pack {request.pack} does not have the weights that the provenance names")
    from ..tasks.acquisition import read_acquisition

    for role, path in request.inputs.items():
        wanted = _entry(recorded, "inputs", role, "sha256")
        if wanted is not None and read_acquisition(path).sha256 != wanted:
            found.append(f"{path} ({role}) does not hold the values that the provenance names")
    return found


def warn(sentence: str) -> None:
    print(f"warning: {sentence}", file=sys.stderr)


def _moved(given: list[str], task: str) -> dict[str, str]:
    moved = {}
    for text in given:
        role, equals, path = text.partition("=")
        if not equals or role not in ROLES[task]:
            # A path may hold an '=' itself; without a known role before it, the whole text is the path.
            if len(ROLES[task]) > 1:
                hint = f"Give ROLE=FILE; roles are {', '.join(ROLES[task])}"
                raise SettingError(f"--input {text} names no role", hint)
            role, path = ROLES[task][0], text
        moved[role] = str(Path(path).absolute())
    return moved


def _entry(values: Any, *names: str) -> Any:
    for name in names:
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _compare_versions(recorded: dict[str, Any], result: Result) -> None:
    now = result.provenance.get("versions", {})
    for name, version in (_entry(recorded, "versions") or {}).items():
        if name in now and now[name] != version:
            warn(f"{name} is {now[name]}, the recorded result was made with {version}")


def _compare_outputs(recorded: dict[str, Any], now: dict[str, Any]) -> None:
    for role, output in now["outputs"].items():
        wanted = _entry(recorded, "outputs", role, "sha256")
        if wanted is not None and wanted != output["sha256"]:
            warn(f"{output['file']} ({role}) differs from the recorded result")
