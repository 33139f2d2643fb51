"""What the commands that run a request share: options, checks before it, the run, the files after it."""

from __future__ import annotations

import argparse
import functools
import re
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..errors import InputError, StorageError
from ..packs import find_pack
from ..request import FORMATS, PRECISIONS, Request, Result
from ..settings import help_text, info_of, kind_of, settings_from
from ..worker.outputs import Write, sidecar, told_of, write_together
from ..worker.protocol import to_json
from .bar import Bar

_PREFIX = "setting_"


def add_command(
    subparsers: Any, common: argparse.ArgumentParser, name: str, command: Any, text: str, description: str = ""
) -> argparse.ArgumentParser:
    """A command with its help; the description is the text as a sentence unless another is given."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, parents=[common], help=text, description=description or f"{text[0].upper()}{text[1:]}."
    )
    parser.set_defaults(command=command)
    return parser


def add_run_options(parser: argparse.ArgumentParser, settings_type: type, default_pack: str) -> None:
    """The settings, and what every run has."""
    add_settings(parser, settings_type)
    parser.add_argument("--seed", type=int, default=0, help="same seed, same result [default 0]")
    told = f" [default {default_pack}]" if default_pack else "; by default the shipped one"
    parser.add_argument("--pack", default=default_pack, help=f"name of a pack or its folder{told}")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps [default auto]")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="auto takes the faster one here")
    parser.add_argument("--batch", type=int, default=0, help="images computed together; 0 chooses [default 0]")
    parser.add_argument("--slices", type=slice_numbers, metavar="3,4,8-10", help="only these slices, counted from 0")
    add_force(parser)


def add_out(parser: argparse.ArgumentParser) -> None:
    text = "result: .nii.gz, .nii, .nrrd or .mha; a folder where IN is one, which goes on where it was stopped"
    parser.add_argument("out", metavar="OUT", type=Path, help=text)


def add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="replace outputs that exist")


def add_settings(parser: argparse.ArgumentParser, settings_type: type) -> None:
    """A flag for each setting, with range, unit, default and tool tip from its `Info`."""
    group = parser.add_argument_group("settings")
    for f in fields(settings_type):
        kind = kind_of(settings_type, f.name)
        options: dict[str, Any] = {"help": help_text(settings_type, f.name).replace("%", "%%")}
        flag = "--" + f.name.replace("_", "-")
        if kind is dict:
            # One flag for each role: --scale bSSFP=1.5 --scale T2=1.
            flag = flag.removesuffix("s")
            options |= {"action": "append", "type": number_of_role, "metavar": "ROLE=X"}
        elif kind is str:
            options["choices"] = [choice for choice, _ in info_of(settings_type, f.name).choices] or None
        elif kind is tuple:
            options |= {"type": int, "nargs": 2, "metavar": ("ROWS", "COLUMNS")}
        elif f.default is None:
            options |= {"type": number_or_auto, "metavar": "X"}
        else:
            options |= {"type": kind, "metavar": "N" if kind is int else "X"}
        group.add_argument(flag, dest=_PREFIX + f.name, default=argparse.SUPPRESS, **options)


def whole(text: str) -> int:
    """'3' to 3."""
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def number_or_auto(text: str) -> float | None:
    """'0.5' to 0.5, 'auto' to None."""
    try:
        return None if text == "auto" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor auto") from None


def number_of_role(text: str) -> tuple[str, float]:
    """'bSSFP=1.5' to ('bSSFP', 1.5)."""
    role, equals, number = text.partition("=")
    try:
        if role and equals:
            return role, float(number)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no ROLE=NUMBER such as bSSFP=1.5")


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


def chosen_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given on the command line."""
    return {n.removeprefix(_PREFIX): v for n, v in vars(options).items() if n.startswith(_PREFIX)}


def request_of(task: str, inputs: Mapping[str, Path], settings: dict[str, Any], options: argparse.Namespace) -> Request:
    """The request of a command. Raises SettingError."""
    return Request(
        task=task,
        pack=pack_path(options.pack),
        inputs={role: str(path.absolute()) for role, path in inputs.items()},
        settings=settings_from(task, settings),
        seed=options.seed,
        device=options.device,
        precision=options.precision,
        batch=options.batch,
        slices=options.slices,
    )


def run_and_save(task: str, inputs: Mapping[str, Path], settings: dict[str, Any], options: argparse.Namespace) -> None:
    """Build the request, check what can be checked without torch, run it and write its files. Raises UserError.

    Where the one input is a folder, so is OUT, and every volume of it is a case (`batch.run_folder`).
    """
    request = request_of(task, inputs, settings, options)
    if len(inputs) == 1 and (folder := next(iter(inputs.values()))).is_dir() and task != "synthesis":
        from .batch import run_folder

        run_folder(request, folder, tuple(inputs), options)
        return
    places = output_places(options.out, request, options.force)
    check_inputs(request)
    find_pack(request.pack)
    save(run_with_bar(request), places)


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
    """As `write`, and tell the person."""
    written = write(result, places)
    for sentence in result.warnings:
        warn(sentence)
    if sys.stderr.isatty():
        print("wrote " + ", ".join(str(places[role]) for role in (*result.volumes, "provenance")), file=sys.stderr)
    return written


def write(result: Result, places: dict[str, Path], **more: Any) -> dict[str, Any]:
    """Write the volumes and the provenance together; returns the provenance as written. Raises StorageError.

    Args:
        more: other entries for the provenance.
    """
    from ..imaging.volume import write_volume

    files: dict[Path, Write] = {
        places[role]: functools.partial(write_volume, volume) for role, volume in result.volumes.items()
    }
    written = {**sidecar(told_of(result), {role: places[role] for role in result.volumes}), **more}
    text = to_json(written, indent=1) + "\n"

    def write_text(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    files[places["provenance"]] = write_text
    write_together(files)
    return written


def printable(text: str) -> str:
    """Without what a terminal would obey, or a stream could not encode."""
    return "".join(character if character.isprintable() else "?" for character in text)


def warn(sentence: str) -> None:
    print(f"warning: {sentence}", file=sys.stderr)
