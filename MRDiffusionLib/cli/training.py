"""From data to a trained model: simulate, prepare, train."""

from __future__ import annotations

import argparse
import functools
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import DeviceError, InputError, SettingError, StorageError, UserError
from .running import add_command, whole

CONFIGS = Path(__file__).parents[1] / "training" / "configs"


def add_commands(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register the commands of this module."""

    add = functools.partial(add_command, subparsers, common)
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
        "--modelled", type=whole, nargs=2, default=[24, 8], metavar="N", help="modelled ones: training, test [24 8]"
    )
    parser.add_argument("--seed", type=whole, default=0, help="the same seed gives the same patients [default 0]")
    parser.add_argument("--infarct", type=_share, default=0.85, help="share of patients with one [default 0.85]")
    parser.add_argument("--stir", action="store_true", help="T2 as STIR instead of T2-prepared bSSFP")
    parser.add_argument("--psir", action="store_true", help="phase-sensitive LGE instead of the magnitude")

    parser = add(
        "prepare",
        prepare,
        "make a training archive",
        "Slices of all sequences of all patients on one grid, or pairs of high and low quality that are simulated of "
        "clean slices, as one .npz archive to train on.",
    )
    parser.add_argument("dataset", choices=("myops", "lesjak", "pairs"), help="what FOLDER is (docs/data.md)")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="the data set as it is distributed; pairs: slices")
    parser.add_argument("out", metavar="OUT", type=Path, help="the archive (.npz)")
    parser.add_argument("--matrix", type=_positive, default=128, help="rows and columns [default 128]")
    parser.add_argument("--pixel", type=_millimetres, metavar="MM", help="their size [default myops 1.4, lesjak 1.7]")
    parser.add_argument("--misaligned", type=_share, default=0, help="pairs: share that is misaligned [default 0]")
    parser.add_argument("--seed", type=whole, default=0, help="pairs: of all that is random [default 0]")

    parser = add("train", train, "train a prior, or go on with a training run that was stopped")
    parser.add_argument("config", metavar="CONFIG", type=Path, help=f"a .json file, or one of {', '.join(_configs())}")
    parser.add_argument(
        "--change",
        metavar="NAME=JSON",
        type=_change,
        action="append",
        default=[],
        help="a setting of the configuration with another value, such as heatmap=null",
    )
    parser.add_argument("--out", required=True, type=Path, help="folder for checkpoints, log and sample pictures")
    accelerators = ("auto", "cpu", "cuda", "mps")
    parser.add_argument("--accelerator", choices=accelerators, default="auto", help="what to compute on [default auto]")
    parser.add_argument("--devices", type=_devices, default=1, help="number of them in each node, or auto [default 1]")
    parser.add_argument("--num-nodes", type=_positive, default=1, help="machines of a cluster [default 1]")
    parser.add_argument("--stop-after", type=_positive, metavar="STEPS", help="end after this many further steps")


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
        options=Options(infarct=options.infarct, stir=options.stir, phase_sensitive=options.psir),
    )
    print(f"wrote {options.out}: simulated patients, not for diagnosis")


def prepare(options: argparse.Namespace) -> None:
    """Write a paired archive. Raises InputError, StorageError."""
    from ..training import lesjak, myops
    from ..training.paired import HEART, Case, pair, write_paired

    def told(cases: Iterable[Case]) -> Iterator[Case]:
        for case in cases:
            x, y, z = next(iter(case.volumes.values())).geometry.size
            print(f"{case.patient} ({case.group}): {z} slices of {x}x{y}", flush=True)
            yield case

    if options.out.suffix != ".npz" or not options.out.parent.is_dir():
        raise StorageError(f"{options.out} cannot be written", "Give the name of an .npz file in a folder that exists")
    if options.dataset == "pairs":
        _prepare_pairs(options)
        return
    if options.dataset == "myops":
        cases, sequences, pixel = told(myops.read_patients(options.folder)), myops.SEQUENCES, options.pixel or 1.4
        paired = pair(cases, tuple(sequences), options.matrix, pixel, normalisation=HEART)
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


def _prepare_pairs(options: argparse.Namespace) -> None:
    from ..training.data import read_slices
    from ..training.pairs import simulate_pairs, write_pairs

    images, subject = read_slices(options.folder)
    pairs = simulate_pairs(images, subject, seed=options.seed, misaligned=options.misaligned)
    write_pairs(pairs, options.out)
    print(f"wrote {options.out}: {len(pairs)} pairs of {len(set(subject.tolist()))} subjects, simulated acquisitions")


def train(options: argparse.Namespace) -> None:
    """Train under Lightning Fabric. Raises UserError for what the configuration, the data or the machine lack."""
    config_path = _config_path(options.config)
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    from ..tasks.device import faster_precision, resolve_device
    from ..training.config import read_config
    from ..training.loop import train as run_training

    config = read_config(config_path, dict(options.change))
    device = resolve_device(options.accelerator)
    if "bf16" in config.precision and faster_precision(device) == "fp32":
        # Where it is emulated, a step was seen to take fifteen times as long.
        print("bf16 is slow here; --change 'precision=\"32-true\"' may be much faster", file=sys.stderr)
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


def _configs() -> list[str]:
    return sorted(path.stem for path in CONFIGS.glob("*.json") if not path.stem.endswith(".pack"))


def _config_path(given: Path) -> Path:
    path = given if given.exists() else CONFIGS / f"{given.name}.json"
    if not path.is_file():
        raise InputError(f"the configuration {given} does not exist", f"Give a file, or one of {', '.join(_configs())}")
    return path


def _positive(text: str) -> int:
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _share(text: str) -> float:
    if not re.fullmatch(r"[01](\.[0-9]{1,6})?", text) or float(text) > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to 1")
    return float(text)


def _millimetres(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})?", text) or float(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a length in mm above 0")
    return float(text)


def _devices(text: str) -> int | str:
    return text if text == "auto" else _positive(text)


def _change(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    try:
        if name and equals:
            return name, json.loads(value)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no NAME=JSON such as heatmap=null or seed=2")
