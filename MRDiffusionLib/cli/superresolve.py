"""`superresolve`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..settings import SuperResolutionSettings
from .running import add_out, add_run_options, chosen_settings, run_and_save


def add_commands(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `superresolve`."""
    parser = subparsers.add_parser(
        "superresolve",
        parents=[common],
        help="low-resolution volume to a finer grid",
        description="Super-resolve a low-resolution MR volume with a generative prior that agrees with its k-space. "
        "Writes OUT, beside it OUT's provenance as .json, and with 2 samples or more OUT_standard_deviation.",
    )
    parser.add_argument(
        "low", metavar="LOW", type=Path, help="magnitude volume, k-space as .npy or .npz, or a folder of volumes"
    )
    add_out(parser)
    add_run_options(parser, SuperResolutionSettings, "brain-t1-128")
    parser.set_defaults(command=superresolve)


def superresolve(options: argparse.Namespace) -> None:
    """The command. Raises UserError."""
    run_and_save("superresolution", {"low_resolution": options.low}, chosen_settings(options), options)
