"""`synthesize`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import SettingError
from ..settings import SynthesisSettings
from .running import add_run_options, chosen_settings, run_and_save


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
    parser.add_argument("out", metavar="OUT", type=Path, help="result: .nii.gz, .nii, .nrrd or .mha")
    parser.add_argument(
        "--image",
        metavar="SEQUENCE=FILE",
        action="append",
        required=True,
        help="a given sequence, once for each; the first decides the result's slices",
    )
    add_run_options(parser, SynthesisSettings, "cardiac-simulated")
    parser.set_defaults(command=synthesize)


def synthesize(options: argparse.Namespace) -> None:
    """The command. Raises UserError."""
    images: dict[str, Path] = {}
    for text in options.image:
        role, equals, path = text.partition("=")
        if not equals or not role or not path:
            raise SettingError(f"--image {text} names no sequence", "Give SEQUENCE=FILE, such as bSSFP=cine.nii.gz")
        if role in images:
            raise SettingError(f"--image {role} is given twice", "Give each sequence once")
        images[role] = Path(path)
    chosen = chosen_settings(options)
    if "scales" in chosen:
        chosen["scales"] = dict(chosen["scales"])
    run_and_save("synthesis", images, chosen, options)
