"""From a training run to a pack: the averaged weights of a checkpoint, with what a person says about them.

python -m MRDiffusionLib.training.export CONFIG CHECKPOINT OUT --description D.json --card CARD.md --licence LICENSE

A synthesis pack is made of three runs: its own, the autoencoder that its configuration names, and (--regression) the
one-pass baseline. For the last two a synthesis pack can be named instead, and its own are taken. A degrader of noise
first samples from some training pairs (minutes), and its tables are corrected by what it finds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..diffusion.schedule import LinearSchedule, Schedule, schedule_from_dict
from ..errors import PackError
from ..networks.degrader import Degrader
from ..networks.unet import VDMUNet
from ..packs import PackInfo, find_pack
from ..packs.domain import SHOWN
from ..packs.weights import LARGEST_PACK, SCHEDULE_PREFIX, load_cmrdiff, write_pack
from .config import AnyConfig, PairedConfig, QualityConfig, TrainingConfig, is_checkpoint, read_config
from .degrader_job import match_moments
from .paired import read_paired
from .paired_slices import split
from .pairs import UNIT, read_pairs
from .quality_data import spread
from .synthesis_job import trained_autoencoder

TASKS = {"prior": "superresolution", "regression": "regression", "synthesis": "synthesis"}
"""What a training run trains, to the task of its pack."""

MATCHED = 200
"""Training pairs that tell how far sampling misses the acquired moments; 20 steps each."""

DECIDED_BY_RUN = ("task", "prediction", "network", "schedule")
_AVERAGE, _NETWORK = "module.", "network."
_DENOISER = ("channels", "num_res_blocks", "fold", "head_channels", "norm_groups")


def pack_from_checkpoint(
    checkpoint: str | Path,
    config: AnyConfig,
    out: str | Path,
    *,
    regression: str | Path | None = None,
    description: Mapping[str, Any],
    model_card: str,
    licence: str,
    replace: bool = False,
    largest: int = LARGEST_PACK,
) -> PackInfo:
    """Write the averaged weights of a checkpoint as a pack.

    Args:
        checkpoint: `best.ckpt` or `last.ckpt` of `training.loop.train`.
        config: of that run; it decides task, prediction, network and schedule.
        out: folder of the new pack.
        regression: of a synthesis pack: the checkpoint of its one-pass baseline, or a pack that has one; None for a
            pack without.
        description: the other entries of pack.json; `name` is the run's unless it is given.
        model_card, licence: texts of README.md and LICENSE.
        replace, largest: as `packs.weights.write_pack`.

    Raises:
        PackError: a checkpoint that cannot be read or belongs to another network, a description that is not in order
            or tells what the run decides, a pack that is too large. The description of a synthesis pack has a `domain`
            with its plane alone; the medians are of the training archive.
        StorageError: a folder that exists, or cannot be written.
    """
    decided = sorted(set(description) & set(DECIDED_BY_RUN))
    if decided:
        raise PackError(f"the description sets {', '.join(decided)}", "The training run decides that: leave it out")
    if isinstance(config, PairedConfig):
        decides, weights = _of_synthesis(checkpoint, config, regression, list(description.get("roles", [])))
        decides["normalisation"] = read_paired(config.data).normalisation
        decides["domain"] = {"plane": description["domain"]["plane"], "median": medians(config)}
    elif isinstance(config, QualityConfig):
        decides, weights = _of_quality(checkpoint, config)
        decides["domain"] = {"plane": description["domain"]["plane"], "median": {"image": quality_medians(config)}}
    else:
        decides, weights = _of_run(config), averaged_weights(checkpoint)
    info = {"name": config.name, **description, **decides}
    return write_pack(out, info, weights, model_card, licence, replace=replace, largest=largest)


def averaged_weights(checkpoint: str | Path) -> dict[str, Tensor]:
    """The moving average in a checkpoint, under a pack's names: those of `VDMUNet`, and `schedule.*` if learned.

    Raises:
        PackError: a file that is missing or no checkpoint of `training.loop.train`.
    """
    state: dict[str, Tensor] = _checkpoint(checkpoint)["ema"]
    weights = {}
    for name, value in state.items():
        name = name.removeprefix(_AVERAGE)
        if name.startswith(_NETWORK):
            weights[name.removeprefix(_NETWORK)] = value
        elif name.startswith(SCHEDULE_PREFIX):
            weights[name] = value
    if not weights:
        raise PackError(f"{checkpoint} holds no averaged network", "Give a checkpoint of a training run")
    return weights


def medians(config: PairedConfig) -> dict[str, list[float]]:
    """Of each sequence: lowest and highest median, over the training patients, of what a volume shows (`tasks.domain`).

    The limits are 20 % further apart, as patients were few.
    """
    paired = read_paired(config.data)
    chosen, _ = split(sorted(set(paired.patient.tolist())), config)
    limits: dict[str, list[float]] = {}
    for slot, role in enumerate(paired.sequences):
        limits[role] = _limits(paired.of([patient]).images[:, slot] / 255 for patient in chosen)
    return limits


def quality_medians(config: QualityConfig) -> list[float]:
    """As `medians`, of what a degrader or an enhancer is given: over the training subjects, of all kinds and levels.

    An enhancer's are over single images: noise in air counts, and every image has another level.
    """
    pairs = read_pairs(config.data).of(config.train_subjects, config.kinds)
    if config.task == "enhancer":
        return _limits((np.minimum(image / UNIT, 1) for image in pairs.low), unusual=0.05)
    return _limits(np.minimum(pairs.high[pairs.subject == each] / UNIT, 1) for each in np.unique(pairs.subject))


def _limits(levels: Iterable[NDArray[np.float64]], unusual: float = 0.0) -> list[float]:
    """Lowest and highest median of what volumes show, 20 % further apart, without an unusual share at either end."""
    middles = [float(np.median(level[level > SHOWN])) for level in levels]
    low, high = np.quantile(middles, (unusual, 1 - unusual))
    margin = 0.1 * (high - low)
    return [round(max(0.0, float(low - margin)), 3), round(min(1.0, float(high + margin)), 3)]


def _checkpoint(path: str | Path) -> dict[str, Any]:
    hint = "Give a checkpoint of a training run"
    try:
        loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        loaded["ema"]
    except Exception as error:  # torch.load raises nearly any type for a damaged file
        raise PackError(f"{path} cannot be read ({error!r:.200})", hint) from error
    return loaded


def _of_synthesis(
    checkpoint: str | Path, config: PairedConfig, regression: str | Path | None, roles: list[str]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The entries of pack.json that the runs decide, and the weights under the names of `CMRDiff`."""
    own = _checkpoint(checkpoint)
    described = own.get("description", {})
    if described.get("task") != "synthesis":
        raise PackError(f"{checkpoint} is of the task {described.get('task')}", "Give a checkpoint of a synthesis run")
    weights = {name.removeprefix(_AVERAGE): value for name, value in own["ema"].items() if name.startswith(_AVERAGE)}
    scale = {f"autoencoder.{name}": weights.pop(f"latent_{name}") for name in ("mean", "std")}
    of_autoencoder = trained_autoencoder(config.autoencoder)
    weights |= {f"autoencoder.{name}": value for name, value in of_autoencoder.state_dict().items()} | scale
    denoiser = {n: v for n, v in described["network"].items() if n in _DENOISER}
    network: dict[str, Any] = {
        "autoencoder": described["autoencoder"],
        "denoiser": denoiser,
        "features": described["features"],
        "regression": None,
    }
    if regression is not None:
        network["regression"], of_regression = _trained_regression(str(regression), roles)
        weights |= {f"regression.{name}": value for name, value in of_regression.items()}
    decides = {"task": "synthesis", "prediction": "v", "network": network, "schedule": described["schedule"]}
    return decides, weights


def _of_quality(checkpoint: str | Path, config: QualityConfig) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The entries of pack.json that a degrader's or an enhancer's run decides, and the weights."""
    own = _checkpoint(checkpoint)
    described = own.get("description", {})
    weights = {name.removeprefix(_AVERAGE): value for name, value in own["ema"].items() if name.startswith(_AVERAGE)}
    if described.get("task") == "enhancer":
        schedule = LinearSchedule().to_dict()  # it has no use for one
        network = described["network"]
        return {"task": "enhancement", "prediction": "x0", "network": network, "schedule": schedule}, weights
    if described.get("task") != "degrader":
        raise PackError(f"{checkpoint} is of the task {described.get('task')}", "Give a degrader's or an enhancer's")
    network = {"kind": described["kind"], "denoiser": described["network"]}
    if described["kind"] == "noise":
        weights |= _matched(network, schedule_from_dict(described["schedule"]), weights, config)
    return {"task": "degradation", "prediction": "v", "network": network, "schedule": described["schedule"]}, weights


def _matched(
    network: Mapping[str, Any], schedule: Schedule, weights: Mapping[str, Tensor], config: QualityConfig
) -> dict[str, Tensor]:
    """The tables of a degrader of noise after `match_moments` on some of the training pairs."""
    model = Degrader(**network, gamma_min=schedule.gamma_min, gamma_max=schedule.gamma_max)
    model.load_state_dict(dict(weights))
    pairs = read_pairs(config.data).of(config.train_subjects, config.kinds)
    match_moments(model.eval(), schedule, spread(pairs, MATCHED))
    return dict(model.named_buffers())


def _trained_regression(source: str, roles: list[str]) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Network and weights of the one-pass baseline in a checkpoint (averaged) or in a synthesis pack of these roles."""
    if not is_checkpoint(source):
        info = find_pack(source)
        baseline = load_cmrdiff(info)[0].regression
        if baseline is None:
            raise PackError(f"pack {info.name} has no one-pass regression", "Name a checkpoint of a translation run")
        if list(info.roles) != roles:
            raise PackError(f"the regression of pack {info.name} is of {', '.join(info.roles)}", f"Name one of {roles}")
        return info.network["regression"], baseline.state_dict()
    loaded, unet = _checkpoint(source), f"{_AVERAGE}unet."
    network = {name: value for name, value in loaded["description"]["network"].items() if name != "sequences"}
    return network, {name.removeprefix(unet): v for name, v in loaded["ema"].items() if name.startswith(unet)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Command of the module's docstring. Raises UserError and OSError as they come."""
    parser = argparse.ArgumentParser(description="Write a training run's averaged weights as a pack.")
    for name, text in (("config", "the run's JSON"), ("checkpoint", "best.ckpt"), ("out", "folder of the new pack")):
        parser.add_argument(name, help=text)
    parser.add_argument(
        "--description", required=True, help="JSON with the entries of pack.json that the run leaves open"
    )
    parser.add_argument("--card", required=True, help="the model card (Markdown)")
    parser.add_argument("--licence", required=True, help="text of the licence of the weights")
    parser.add_argument("--regression", help="of a synthesis pack: best.ckpt of its one-pass baseline, or a pack")
    parser.add_argument("--replace", action="store_true", help="take the place of an older pack")
    options = parser.parse_args(arguments)
    card, licence = (Path(path).read_text(encoding="utf-8") for path in (options.card, options.licence))
    info = pack_from_checkpoint(
        options.checkpoint,
        read_config(options.config),
        options.out,
        regression=options.regression,
        description=json.loads(Path(options.description).read_text(encoding="utf-8")),
        model_card=card,
        licence=licence,
        replace=options.replace,
    )
    size = sum(path.stat().st_size for path in info.folder.iterdir())
    print(f"{info.folder}: {info.name} {info.version}, {size / 1e6:.1f} MB")


def _of_run(config: TrainingConfig) -> dict[str, Any]:
    """The entries of pack.json that a run decides, with its defaults written out."""
    schedule = schedule_from_dict(config.schedule)
    if config.task == "regression":
        # It uses the ends alone: its time input is the measured fraction.
        schedule = LinearSchedule(schedule.gamma_min, schedule.gamma_max)
    with torch.device("meta"):
        settings = VDMUNet(**config.network).settings
    network = {name: value for name, value in settings.items() if name not in ("gamma_min", "gamma_max")}
    prediction = config.prediction if config.task == "prior" else "x0"
    return {"task": TASKS[config.task], "prediction": prediction, "network": network, "schedule": schedule.to_dict()}


if __name__ == "__main__":
    main()
