"""From a pack to a network that can run, and from a trained network to a pack. Loads torch."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ..diffusion.schedule import Schedule, schedule_from_dict
from ..errors import PackError, StorageError
from ..networks.cmrdiff import CMRDiff
from ..networks.degrader import Degrader
from ..networks.enhancer import Enhancer
from ..networks.unet import VDMUNet
from .info import CARD_FILE, FORMAT, INFO_FILE, LICENCE_FILE, WEIGHTS_FILE, PackInfo, info_from
from .verify import AGAIN, LARGEST_WEIGHTS, check_file, check_sum, read_header

LARGEST_PACK = 16_000_000
"""Bytes of a pack that `write_pack` makes: small enough to ship with the program."""

SCHEDULE_PREFIX = "schedule."
_TORCH_NAMES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


def load_network(
    info: PackInfo, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[VDMUNet, Schedule]:
    """Build the network and schedule of a prior or a regression, ready to predict.

    Args:
        info: the pack.
        device, dtype: of the network; the schedule stays in float32, because gamma needs the digits.

    Returns:
        The network (evaluation mode, channels last, no gradients of weights) and the schedule, on the device.

    Raises:
        PackError: as `verify_files` and `verify_pack`; a pack of another task.
    """
    return _loaded(VDMUNet, info, device, dtype)


def load_cmrdiff(
    info: PackInfo, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[CMRDiff, Schedule]:
    """Build the networks and schedule of a synthesis pack; otherwise as `load_network`."""
    return _loaded(CMRDiff, info, device, dtype)


def load_degrader(
    info: PackInfo, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Degrader, Schedule]:
    """Build the networks and schedule of a degradation pack; otherwise as `load_network`."""
    return _loaded(Degrader, info, device, dtype)


def load_enhancer(
    info: PackInfo, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Enhancer, Schedule]:
    """Build the network of an enhancement pack, and a schedule that it has no use for; otherwise as `load_network`."""
    return _loaded(Enhancer, info, device, dtype)


N = TypeVar("N", bound=nn.Module)


def _loaded(kind: type[N], info: PackInfo, device: torch.device | str, dtype: torch.dtype) -> tuple[N, Schedule]:
    network, schedule = _described(info)
    tensors = _checked_tensors(info, network, schedule)
    if not isinstance(network, kind):
        raise PackError(f"pack {info.name} is for the task {info.task}", "Choose another pack, see `packs list`")
    of_schedule = {n.removeprefix(SCHEDULE_PREFIX): t for n, t in tensors.items() if n.startswith(SCHEDULE_PREFIX)}
    of_network = {n: t for n, t in tensors.items() if not n.startswith(SCHEDULE_PREFIX)}
    # Assigned, not copied: the network stands on the meta device, so no random weights were drawn for nothing.
    network.load_state_dict({name: value.to(device, dtype) for name, value in of_network.items()}, assign=True)
    schedule.load_state_dict({name: value.float() for name, value in of_schedule.items()})
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False), schedule.to(device).eval().requires_grad_(False)


def verify_weights(info: PackInfo) -> None:
    """Check the tensors of a pack against its description.

    Raises:
        PackError: tensors that are missing, unknown, of a wrong shape, NaN or infinite; a network that cannot be built.
    """
    _checked_tensors(info, *_described(info))


def write_pack(
    folder: str | Path,
    info: Mapping[str, Any],
    state_dict: Mapping[str, Tensor],
    model_card_text: str,
    licence_text: str,
    *,
    replace: bool = False,
    largest: int = LARGEST_PACK,
) -> PackInfo:
    """Write a pack: the network's weights in bfloat16, a learned schedule's in float32, checksum, card and licence.

    Args:
        folder: the new pack; its parent must exist.
        info: the entries of pack.json without 'format' and 'weights_sha256'.
        state_dict: of the `VDMUNet` or `CMRDiff`, and of a learned schedule under 'schedule.'.
        model_card_text, licence_text: README.md and LICENSE.
        replace: take the place of an older pack there.
        largest: bytes of the four files together.

    Returns:
        The description of the pack as written.

    Raises:
        PackError: a description that is not in order, weights that do not fit it or are not finite, a pack that is too
            large, an empty card or licence.
        StorageError: a folder that exists, or cannot be written.
    """
    folder = Path(folder)
    data = _packed(state_dict)
    values = {**info, "format": FORMAT, "weights_sha256": hashlib.sha256(data).hexdigest()}
    checked = info_from(json.loads(json.dumps(values)), folder)
    texts = {
        INFO_FILE: json.dumps(checked.to_json(), indent=1, ensure_ascii=False) + "\n",
        CARD_FILE: model_card_text,
        LICENCE_FILE: licence_text,
    }
    for name, text in texts.items():
        if not text.strip():
            raise PackError(f"pack {checked.name}: {name} would be empty", "A pack needs a model card and a licence")
    size = len(data) + sum(len(text.encode()) for text in texts.values())
    if size > largest:
        raise PackError(
            f"pack {checked.name} would have {size / 1e6:.1f} MB, more than {largest / 1e6:.1f} MB",
            "Train a smaller network, or allow a larger pack",
        )
    return _write_folder(folder, checked, data, texts, replace)


def _described(info: PackInfo) -> tuple[nn.Module, Schedule]:
    """The network without weights (meta device) and the schedule of a description."""
    try:
        schedule = schedule_from_dict(info.schedule)
        ends = {"gamma_min": schedule.gamma_min, "gamma_max": schedule.gamma_max}
        with torch.device("meta"):
            return _BUILDERS[info.task](info, ends), schedule
    except (ValueError, RuntimeError, TypeError) as error:
        raise PackError(f"pack {info.name}: its network cannot be built ({error})", AGAIN) from error


def _vdm_unet(info: PackInfo, ends: dict[str, Any]) -> nn.Module:
    return VDMUNet(**info.network, **ends)


def _cmrdiff(info: PackInfo, ends: dict[str, Any]) -> nn.Module:
    return CMRDiff(sequences=len(info.roles), **info.network, **ends)


def _degrader(info: PackInfo, ends: dict[str, Any]) -> nn.Module:
    return Degrader(info.network["kind"], info.network["denoiser"], **ends)


def _enhancer(info: PackInfo, _: dict[str, Any]) -> nn.Module:
    return Enhancer(**info.network)


_BUILDERS: dict[str, Callable[[PackInfo, dict[str, Any]], nn.Module]] = {
    "superresolution": _vdm_unet,
    "regression": _vdm_unet,
    "synthesis": _cmrdiff,
    "degradation": _degrader,
    "enhancement": _enhancer,
}
"""Task to what builds its network, given the schedule's ends."""


def _checked_tensors(info: PackInfo, network: nn.Module, schedule: nn.Module) -> dict[str, Tensor]:
    # The same bytes are hashed, checked and used, so that a file exchanged meanwhile cannot slip in.
    _compare(info, {name: entry.shape for name, entry in read_header(info).items()}, network, schedule)
    try:
        data = check_file(info, WEIGHTS_FILE, LARGEST_WEIGHTS).read_bytes()
        check_sum(info, hashlib.sha256(data).hexdigest())
        tensors = safetensors.torch.load(data)
    except (OSError, MemoryError, safetensors.SafetensorError) as error:
        raise PackError(f"pack {info.name}: {WEIGHTS_FILE} cannot be read ({error})", AGAIN) from error
    _compare(info, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, network, schedule)
    for name, tensor in tensors.items():
        if tensor.dtype not in _TORCH_NAMES.values():
            raise PackError(f"pack {info.name}: tensor {name} has the type {tensor.dtype}", AGAIN)
        if not torch.isfinite(tensor).all():
            raise PackError(f"pack {info.name}: tensor {name} holds NaN or infinite weights", AGAIN)
    return tensors


def _compare(info: PackInfo, shapes: dict[str, tuple[int, ...]], network: nn.Module, schedule: nn.Module) -> None:
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    wanted |= {SCHEDULE_PREFIX + name: tuple(value.shape) for name, value in schedule.state_dict().items()}
    for what, names in (("no", set(wanted) - set(shapes)), ("an unknown", set(shapes) - set(wanted))):
        if names:
            raise PackError(
                f"pack {info.name}: {WEIGHTS_FILE} has {what} tensor {min(names)[:80]!r} ({len(names)} such)",
                f"{INFO_FILE} describes another network. {AGAIN}",
            )
    for name, shape in shapes.items():
        if shape != wanted[name]:
            raise PackError(
                f"pack {info.name}: tensor {name} has the shape {shape}, not {wanted[name]}",
                f"{INFO_FILE} describes another network. {AGAIN}",
            )


def _packed(state_dict: Mapping[str, Tensor]) -> bytes:
    def stored(name: str, value: Tensor) -> Tensor:
        dtype = torch.float32 if name.startswith(SCHEDULE_PREFIX) else torch.bfloat16
        return value.detach().cpu().to(dtype).contiguous()

    return bytes(safetensors.torch.save({name: stored(name, value) for name, value in sorted(state_dict.items())}))


def _write_folder(folder: Path, info: PackInfo, data: bytes, texts: dict[str, str], replace: bool) -> PackInfo:
    if folder.exists() and not replace:
        raise StorageError(f"{folder} exists", "Choose another folder")
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.partial")
    older = partial.with_suffix(".older")
    try:
        partial.mkdir()
        (partial / WEIGHTS_FILE).write_bytes(data)
        for name, text in texts.items():
            (partial / name).write_text(text, encoding="utf-8")
        written = info_from(info.to_json(), partial)
        verify_weights(written)
        if folder.exists():
            os.replace(folder, older)
        os.replace(partial, folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"{folder} cannot be written ({reason})", "Choose another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if older.exists():
            if folder.exists():
                shutil.rmtree(older, ignore_errors=True)
            else:
                os.replace(older, folder)
    return info
