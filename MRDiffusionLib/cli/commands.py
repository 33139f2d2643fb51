"""The other commands: packs, evaluate, worker, check, demo."""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path
from typing import Any

from ..errors import PackError
from ..packs import PackInfo, find_pack, scan_packs, user_folder, verify_pack
from ..worker.protocol import to_json
from .running import add_command


def add_commands(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register the commands of this module."""

    add = functools.partial(add_command, subparsers, common)
    parser = add("packs", None, "list, show or verify the trained models")
    _add_packs(parser.add_subparsers(title="actions", metavar="ACTION", required=True), common)

    parser = add("evaluate", evaluate, "compare a volume with a reference", "Print image quality as JSON.")
    parser.add_argument("reference", metavar="REFERENCE", type=Path, help="what the test volume should look like")
    parser.add_argument("test", metavar="TEST", type=Path, help="the volume to judge, on the same grid")
    parser.add_argument("--mask", type=Path, help="judge also the voxels where this volume is not 0")
    parser.add_argument("--data-range", type=float, metavar="X", help="intensity range that PSNR and SSIM refer to")

    parser.add_argument("--resample", action="store_true", help="put the reference onto the test volume's grid first")

    parser = add("worker", worker, "serve requests on standard input and output (the 3D Slicer panel starts this)")
    _add_other_computer(parser)
    parser.add_argument("--stream", action="store_true", help="volumes come and go with the messages")
    parser.add_argument("--rehearsal", action="store_true", help="compute nothing: for self-tests without PyTorch")

    parser = add("check", check, "what this Python can compute with, and what to do where something is wrong")
    _add_other_computer(parser)
    parser.add_argument("--json", action="store_true", help="as JSON, on one line")

    parser = add("demo", demo, "all tasks on the shipped samples; pictures and tables")
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder [default demo-output]")


def _add_packs(actions: Any, common: argparse.ArgumentParser) -> None:
    parser = actions.add_parser("list", parents=[common], help="all packs, shipped and your own")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(command=list_packs)
    parser = actions.add_parser("show", parents=[common], help="everything a pack says about itself, as JSON")
    parser.add_argument("pack", metavar="NAME|DIR")
    parser.set_defaults(command=show_pack)
    parser = actions.add_parser("verify", parents=[common], help="check files, checksum and weights")
    parser.add_argument("pack", metavar="NAME|DIR", nargs="?", help="one pack instead of all")
    parser.set_defaults(command=verify_packs)


def list_packs(options: argparse.Namespace) -> None:
    """Readable packs on standard output, unreadable ones as warnings."""
    packs, errors = scan_packs()
    if options.json:
        print(to_json([_pack_json(info) for info in packs], indent=1))
    else:
        rows = [("NAME", "VERSION", "TASK", "MATRIX", "TITLE"), *(_row(info) for info in packs)]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        for row in rows:
            print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[4]]))
        if not packs:
            print(f"warning: there is no pack here or in {user_folder()}", file=sys.stderr)
    for error in errors:
        print(f"warning: {error}", file=sys.stderr)


def show_pack(options: argparse.Namespace) -> None:
    """One pack's description. Raises PackError."""
    print(to_json(_pack_json(find_pack(options.pack)), indent=1))


def verify_packs(options: argparse.Namespace) -> None:
    """Check one pack or all of them. Raises PackError with the first problem when all have been looked at."""
    packs, errors = ([find_pack(options.pack)], []) if options.pack else scan_packs()
    for info in packs:
        try:
            verify_pack(info)
        except PackError as error:
            errors.append(error)
        else:
            print(f"{info.name} {info.version}: in order")
    for problem in errors[1:]:
        print(f"error: {problem}", file=sys.stderr)
    if errors:
        raise errors[0]


def evaluate(options: argparse.Namespace) -> None:
    """Metrics as JSON on standard output. Raises InputError."""
    from ..evaluation import evaluate_files

    figures = evaluate_files(options.reference, options.test, options.mask, options.data_range, options.resample)
    print(to_json(figures, indent=1))


def worker(options: argparse.Namespace) -> None:
    """Serve until the other end is gone; ends the process."""
    if options.ssh:
        from ..worker import remote

        remote.main(options.ssh, options.python)
    from ..worker.backend import TorchBackend
    from ..worker.rehearsal import Rehearsal
    from ..worker.server import main

    main(Rehearsal if options.rehearsal else TorchBackend, streamed=options.stream)


def check(options: argparse.Namespace) -> None:
    """Print the report; exit code 2 where there is a problem. Raises DeviceError for a computer out of reach."""
    from ..worker import check as checks

    report = checks.check_there(options.ssh, options.python) if options.ssh else checks.check()
    print(to_json(report) if options.json else checks.as_text(report))
    if report["problems"]:
        sys.exit(2)


def _add_other_computer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ssh", metavar="HOST", default="", help="on another computer: user@host, ssh://user@host:port"
    )
    parser.add_argument("--python", metavar="PATH", default="", help="the Python there that has MRDiffusion [python3]")


def demo(options: argparse.Namespace) -> None:
    """All tasks on the shipped samples."""
    from ..tasks import demo_quality, demo_superresolution, demo_synthesis
    from .bar import Bar

    for task in (demo_superresolution, demo_synthesis, demo_quality):
        with Bar() as bar:
            shown = task.main(options.out, progress=bar)
        print(f"{shown.table}\nThe picture is {shown.picture}; the volumes lie beside it.\n")
        for sentence in shown.warnings:
            print(f"warning: {sentence}", file=sys.stderr)


def _row(info: PackInfo) -> tuple[str, str, str, str, str]:
    return info.name, info.version, info.task, f"{info.matrix[0]}x{info.matrix[1]}", info.title


def _pack_json(info: PackInfo) -> dict[str, Any]:
    return {"folder": str(info.folder), **info.to_json()}
