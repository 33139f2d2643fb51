"""`synthesize`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import SettingError
from ..packs import find_pack
from ..settings import SynthesisSettings
from .running import add_out, add_run_options, chosen_settings, request_of, run_and_save


def add_commands(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `synthesize`."""
    parser = subparsers.add_parser(
        "synthesize",
        parents=[common],
        help="a missing sequence from others",
        description="Make a sequence that was not acquired from others of the same examination, such as LGE from bSSFP "
        "and T2. Lesions may be missed or invented. Writes OUT, beside it OUT's provenance as .json, and with 2 "
        "samples or more OUT_standard_deviation.",
    )
    add_out(parser)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument(
        "--image",
        metavar="SEQUENCE=FILE",
        action="append",
        help="a given sequence, once for each; the first decides the result's slices",
    )
    given.add_argument(
        "--cases",
        metavar="FOLDER",
        type=Path,
        help="a folder with a folder for each case, which holds bSSFP.nii.gz, T2.nii.gz and so on; OUT is a folder",
    )
    add_run_options(parser, SynthesisSettings, "cardiac-simulated")
    parser.set_defaults(command=synthesize)


def synthesize(options: argparse.Namespace) -> None:
    """The command. Raises UserError."""
    chosen = chosen_settings(options)
    if "scales" in chosen:
        chosen["scales"] = dict(chosen["scales"])
    if options.cases is not None:
        _all_cases(chosen, options)
        return
    images: dict[str, Path] = {}
    for text in options.image:
        role, equals, path = text.partition("=")
        if not equals or not role or not path:
            raise SettingError(f"--image {text} names no sequence", "Give SEQUENCE=FILE, such as bSSFP=cine.nii.gz")
        if role in images:
            raise SettingError(f"--image {role} is given twice", "Give each sequence once")
        images[role] = Path(path)
    run_and_save("synthesis", images, chosen, options)


def _all_cases(chosen: dict[str, Any], options: argparse.Namespace) -> None:
    from .batch import run_folder

    roles = [role for role in find_pack(options.pack).roles if role != chosen.get("target")]
    request = request_of("synthesis", {role: options.cases for role in roles}, chosen, options)
    run_folder(request, options.cases, roles, options)
