"""`degrade` and `enhance`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..settings import DegradationSettings, EnhancementSettings
from .running import add_out, add_run_options, chosen_settings, run_and_save


def add_commands(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register the commands of this module."""
    parser = subparsers.add_parser(
        "degrade",
        parents=[common],
        help="a low-quality acquisition of an image, at a chosen level",
        description="Make of a clean image what a noisy or a fast scan would have shown, with a generative model. "
        "Writes OUT, and beside it OUT's provenance as .json.",
    )
    _add_files(parser, "clean volume")
    add_run_options(parser, DegradationSettings, "")
    parser.set_defaults(command=degrade)
    parser = subparsers.add_parser(
        "enhance",
        parents=[common],
        help="a better image from a noisy or a fast scan",
        description="Remove noise from an image, or sharpen one of low resolution, with a network in one pass. Writes "
        "OUT, and beside it OUT's provenance as .json.",
    )
    _add_files(parser, "low-quality volume")
    add_run_options(parser, EnhancementSettings, "brain-enhance")
    parser.set_defaults(command=enhance)


def _add_files(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("image", metavar="IN", type=Path, help=f"{what}, or a folder of them")
    add_out(parser)


def degrade(options: argparse.Namespace) -> None:
    """The command. Raises UserError."""
    chosen = chosen_settings(options)
    options.pack = options.pack or f"brain-degrade-{chosen.get('kind', DegradationSettings.kind)}"
    run_and_save("degradation", {"image": options.image}, chosen, options)


def enhance(options: argparse.Namespace) -> None:
    """The command. Raises UserError."""
    run_and_save("enhancement", {"image": options.image}, chosen_settings(options), options)
