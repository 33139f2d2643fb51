"""The other commands: packs, evaluate, simulate, prepare, train, worker, demo."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import DeviceError, InputError, PackError, SettingError, StorageError, UserError
from ..packs import PackInfo, find_pack, scan_packs, user_folder, verify_pack
from ..worker.protocol import to_json

CONFIGS = Path(__file__).parents[1] / "training" / "configs"


def add_commands(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register the commands of this module."""

    def add(name: str, command: Any, text: str, description: str = "") -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = subparsers.add_parser(
            name, parents=[common], help=text, description=description or f"{text[0].upper()}{text[1:]}."
        )
        parser.set_defaults(command=command)
        return parser

    parser = add("packs", None, "list, show or verify the trained models")
    _add_packs(parser.add_subparsers(title="actions", metavar="ACTION", required=True), common)

    parser = add("evaluate", evaluate, "compare a volume with a reference", "Print image quality as JSON.")
    parser.add_argument("reference", metavar="REFERENCE", type=Path, help="what the test volume should look like")
    parser.add_argument("test", metavar="TEST", type=Path, help="the volume to judge, on the same grid")
    parser.add_argument("--mask", type=Path, help="judge also the voxels where this volume is not 0")
    parser.add_argument("--data-range", type=float, metavar="X", help="intensity range that PSNR and SSIM refer to")

    parser = add(
        "simulate",
        simulate,
        "write simulated cardiac patients (bSSFP, T2, LGE, labels)",
        "Write simulated cardiac patients in the layout of MyoPS 2020. Nothing of them was measured but, with --cine, "
        "the bSSFP images.",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="a new folder")
    parser.add_argument("--cine", type=Path, metavar="DIR", help="Sunnybrook images with contours (docs/data.md)")
    parser.add_argument("--test", nargs="*", default=[], metavar="NAME", help="its patients that make the test set")
    parser.add_argument("--repeats", type=_positive, default=4, help="patients per real anatomy, training [default 4]")
    parser.add_argument(
        "--modelled", type=_whole, nargs=2, default=[24, 8], metavar="N", help="modelled ones: training, test [24 8]"
    )
    parser.add_argument("--seed", type=_whole, default=0, help="the same seed gives the same patients [default 0]")
    parser.add_argument("--stir", action="store_true", help="T2 as STIR instead of T2-prepared bSSFP")
    parser.add_argument("--psir", action="store_true", help="phase-sensitive LGE instead of the magnitude")

    parser = add(
        "prepare",
        prepare,
        "make a training archive of patients with several sequences",
        "Slices of all sequences of all patients on one grid, as one .npz archive to train on.",
    )
    parser.add_argument("dataset", choices=("myops", "lesjak"), help="how FOLDER is laid out (docs/data.md)")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="the data set as it is distributed")
    parser.add_argument("out", metavar="OUT", type=Path, help="the archive (.npz)")
    parser.add_argument("--matrix", type=_positive, default=128, help="rows and columns [default 128]")
    parser.add_argument("--pixel", type=_millimetres, metavar="MM", help="their size [default myops 1.4, lesjak 1.7]")

    parser = add("train", train, "train a prior, or go on with a training run that was stopped")
    parser.add_argument("config", metavar="CONFIG", type=Path, help=f"a .json file, or one of {', '.join(_configs())}")
    parser.add_argument("--out", required=True, type=Path, help="folder for checkpoints, log and sample pictures")
    accelerators = ("auto", "cpu", "cuda", "mps")
    parser.add_argument("--accelerator", choices=accelerators, default="auto", help="what to compute on [default auto]")
    parser.add_argument("--devices", type=_devices, default=1, help="number of them in each node, or auto [default 1]")
    parser.add_argument("--num-nodes", type=_positive, default=1, help="machines of a cluster [default 1]")
    parser.add_argument("--stop-after", type=_positive, metavar="STEPS", help="end after this many further steps")

    add("worker", worker, "serve requests on standard input and output (the 3D Slicer panel starts this)")

    parser = add("demo", demo, "super-resolve the shipped sample; a picture and a table")
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

    print(to_json(evaluate_files(options.reference, options.test, options.mask, options.data_range), indent=1))


def simulate(options: argparse.Namespace) -> None:
    """Write a simulated cohort. Raises InputError, SettingError, StorageError."""
    from ..simulation.cohort import Options, write_cohort
    from ..simulation.sunnybrook import read_slices

    cine = read_slices(options.cine) if options.cine else {}
    unknown = [name for name in options.test if name not in cine]
    if unknown:
        raise SettingError(f"--test {unknown[0]} is no patient of {options.cine}", f"Known are {', '.join(cine)}")
    write_cohort(
        options.out,
        cine,
        test=options.test,
        repeats=options.repeats,
        modelled=tuple(options.modelled),
        seed=options.seed,
        options=Options(stir=options.stir, phase_sensitive=options.psir),
    )
    print(f"wrote {options.out}: simulated patients, not for diagnosis")


def prepare(options: argparse.Namespace) -> None:
    """Write a paired archive. Raises InputError, StorageError."""
    from ..training import lesjak, myops
    from ..training.paired import Case, pair, write_paired

    def told(cases: Iterable[Case]) -> Iterator[Case]:
        for case in cases:
            x, y, z = next(iter(case.volumes.values())).geometry.size
            print(f"{case.patient} ({case.group}): {z} slices of {x}x{y}", flush=True)
            yield case

    if options.out.suffix != ".npz" or not options.out.parent.is_dir():
        raise StorageError(f"{options.out} cannot be written", "Give the name of an .npz file in a folder that exists")
    if options.dataset == "myops":
        cases, sequences, pixel = told(myops.read_patients(options.folder)), myops.SEQUENCES, options.pixel or 1.4
        paired = pair(cases, tuple(sequences), options.matrix, pixel)
    else:
        cases, sequences = told(lesjak.read_patients(options.folder, log=print)), lesjak.SEQUENCES
        paired = pair(
            cases,
            tuple(sequences),
            options.matrix,
            options.pixel or 1.7,
            centre="signal",
            slice_spacing_mm=3.0,
            least_shown=0.03,
        )
    write_paired(paired, options.out)
    slices, patients = len(paired.images), len(set(paired.patient.tolist()))
    print(f"wrote {options.out}: {slices} slices of {patients} patients, {', '.join(paired.sequences)}")


def train(options: argparse.Namespace) -> None:
    """Train under Lightning Fabric. Raises UserError for what the configuration, the data or the machine lack."""
    config_path = _config_path(options.config)
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    from ..tasks.device import resolve_device
    from ..training.config import read_config
    from ..training.loop import train as run_training

    config = read_config(config_path)
    resolve_device(options.accelerator)
    try:
        run_training(
            config,
            options.out,
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=options.num_nodes,
            stop_after=options.stop_after,
        )
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        raise
    except MisconfigurationException as error:
        what = f"{options.devices} x {options.accelerator}"
        raise DeviceError(f"training cannot use {what}: {error}", "Use --accelerator cpu") from error
    except UserError:
        raise
    except ValueError as error:  # of Lightning Fabric, for devices
        raise SettingError(str(error), "Choose other --devices, or another --accelerator") from error


def worker(_: argparse.Namespace) -> None:
    """Serve until the other end is gone; ends the process."""
    from ..worker.server import main

    main()


def demo(options: argparse.Namespace) -> None:
    """The main job on the shipped sample."""
    from ..tasks.demo import main
    from .bar import Bar

    with Bar() as bar:
        shown = main(options.out, progress=bar)
    print(f"{shown.table}\nThe picture is {shown.picture}; the volumes lie beside it.")
    for sentence in shown.warnings:
        print(f"warning: {sentence}", file=sys.stderr)


def _row(info: PackInfo) -> tuple[str, str, str, str, str]:
    return info.name, info.version, info.task, f"{info.matrix[0]}x{info.matrix[1]}", info.title


def _pack_json(info: PackInfo) -> dict[str, Any]:
    return {"folder": str(info.folder), **info.to_json()}


def _configs() -> list[str]:
    return sorted(path.stem for path in CONFIGS.glob("*.json"))


def _config_path(given: Path) -> Path:
    path = given if given.exists() else CONFIGS / f"{given.name}.json"
    if not path.is_file():
        raise InputError(f"the configuration {given} does not exist", f"Give a file, or one of {', '.join(_configs())}")
    return path


def _positive(text: str) -> int:
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _whole(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _millimetres(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})?", text) or float(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a length in mm above 0")
    return float(text)


def _devices(text: str) -> int | str:
    return text if text == "auto" else _positive(text)
