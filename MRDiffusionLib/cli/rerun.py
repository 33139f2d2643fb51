"""`rerun`: any result again, from its provenance."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..errors import InputError, SettingError
from ..packs import find_pack
from ..request import Request, Result, request_from_provenance
from .running import add_force, check_inputs, output_places, run_with_bar, save, warn


def add_commands(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rerun`."""
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
    add_force(parser)
    parser.set_defaults(command=rerun)


def rerun(options: argparse.Namespace) -> None:
    """The command. Raises UserError."""
    try:
        text = options.provenance.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{options.provenance} cannot be read ({reason})", "Give the .json beside a result") from error
    request = request_from_provenance(text)
    recorded = json.loads(text)
    changes: dict[str, Any] = {"inputs": {**request.inputs, **_moved(options.input, list(request.inputs))}}
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


def _moved(given: list[str], roles: list[str]) -> dict[str, str]:
    moved = {}
    for text in given:
        role, equals, path = text.partition("=")
        if not equals or role not in roles:
            # A path may hold an '=' itself; without a known role before it, the whole text is the path.
            if len(roles) > 1:
                raise SettingError(f"--input {text} names no role", f"Give ROLE=FILE; roles are {', '.join(roles)}")
            role, path = roles[0], text
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
