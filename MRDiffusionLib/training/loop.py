"""The training loop, under Lightning Fabric: one CPU, one GPU, several of them or several SLURM nodes.

Every random number of step n comes from a generator seeded by (seed, rank, n), so a run that is stopped and resumed
takes the same path as one that is not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..diffusion.denoiser import Denoiser, static_clip
from ..diffusion.noise import SampleNoise, stream_seed
from ..diffusion.samplers import sample, step_gammas
from ..diffusion.schedule import schedule_from_dict
from ..networks.unet import VDMUNet
from .config import TrainingConfig
from .data import draw_batch, load_slices
from .regression import Regression, regression_batch, zero_filled
from .vdm import VariationalDiffusion, from_levels, low_discrepancy

Log = Callable[[str], None]


class Diverged(RuntimeError):
    """The loss became NaN or infinite."""


def build_model(config: TrainingConfig) -> VariationalDiffusion | Regression:
    """The untrained model that a configuration describes, its weights fixed by the seed."""
    torch.manual_seed(config.seed)
    schedule = schedule_from_dict(config.schedule)
    network = VDMUNet(**config.network, gamma_min=schedule.gamma_min, gamma_max=schedule.gamma_max)
    if config.task == "regression":
        return Regression(network, schedule.gamma_min, schedule.gamma_max)
    return VariationalDiffusion(network, schedule, config.prediction)


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Linear warm-up, then a cosine to zero over the whole run."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def train(
    config: TrainingConfig,
    out: str | Path,
    *,
    accelerator: str = "auto",
    devices: int | str = 1,
    num_nodes: int = 1,
    stop_after: int | None = None,
    log: Log = print,
) -> Path:
    """Train, or go on with what `out` holds; returns the folder.

    Args:
        config: the run.
        out: folder for `last.ckpt`, `best.ckpt` (by validation), `log.jsonl` and `samples-*.png`.
        accelerator, devices, num_nodes: as Lightning Fabric takes them.
        stop_after: end after this many further steps (to share a machine, or to test resuming).
        log: where lines of progress go.

    Raises:
        ValueError: a checkpoint of another network or schedule in `out`.
        Diverged: a loss that is not finite.
    """
    fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=num_nodes, precision=config.precision)  # type: ignore[arg-type]
    fabric.launch()
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    slices = load_slices(config.data, config.train_subjects)
    held_out = load_slices(config.data, config.validation_subjects)
    held_out = held_out[:: max(1, len(held_out) // config.validation_slices)][: config.validation_slices]

    bare = build_model(config).to(memory_format=torch.channels_last)
    ema = AveragedModel(bare, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay)).to(fabric.device)
    optimizer = torch.optim.AdamW(
        bare.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay
    )
    state: dict[str, Any] = {"step": 0, "best": math.inf}
    checkpoint = folder / "last.ckpt"
    if checkpoint.exists():
        loaded = torch.load(checkpoint, map_location="cpu", weights_only=True)
        try:
            bare.load_state_dict(loaded["model"])
            ema.load_state_dict(loaded["ema"])
            optimizer.load_state_dict(loaded["optimizer"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise ValueError(f"{checkpoint} is from another network; choose another folder ({error})") from error
        state = {"step": int(loaded["step"]), "best": float(loaded["best"])}
        if fabric.is_global_zero:
            log(f"resuming {folder} at step {state['step']} of {config.steps}")
    model, optimizer = fabric.setup(bare, optimizer)

    def save(name: str) -> None:
        # Written beside and moved: a run that is killed while saving leaves the older checkpoint whole.
        path = folder / name
        partial = path.with_suffix(".partial")
        torch.save(
            {
                "model": bare.state_dict(),
                "ema": ema.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": state["step"],
                "best": state["best"],
            },
            partial,
        )
        partial.replace(path)

    def note(**values: Any) -> None:
        with (folder / "log.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(values) + "\n")

    last = config.steps if stop_after is None else min(config.steps, state["step"] + stop_after)
    started, seen, mean_loss = time.monotonic(), 0, 0.0
    while state["step"] < last:
        step = state["step"]
        phase = config.phase_at(step)
        local = max(1, phase.batch // fabric.world_size)
        generator = torch.Generator().manual_seed(stream_seed(config.seed, fabric.global_rank, step))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)

        if config.task == "regression":
            whole = min(slices.shape[-2:])
            images, positions = draw_batch(slices, local, whole, generator)
            filled, images, positions, fraction = regression_batch(
                images, positions, phase.crop, config.measured, generator
            )
            filled, images, positions, fraction = (
                value.to(fabric.device) for value in (filled, images, positions, fraction)
            )
            losses = (model(filled, fraction, positions) - images).abs().flatten(1).mean(1)
        else:
            images, positions = draw_batch(slices, local, phase.crop, generator)
            noise = torch.randn(images.shape, generator=generator)
            # The same offset on every rank, then this rank's share: the whole batch covers [0, 1] evenly.
            shared = torch.Generator().manual_seed(stream_seed(config.seed, 2**20, step))
            times = low_discrepancy(local * fabric.world_size, shared)
            times = times[fabric.global_rank * local : (fabric.global_rank + 1) * local]
            if config.loss == "v":
                times = phase.noise_levels.gammas(times, bare.schedule.gamma_min, bare.schedule.gamma_max)
            images, positions, noise, times = (value.to(fabric.device) for value in (images, positions, noise, times))
            losses = model(images, noise, times, config.loss, positions)

        loss = losses.mean()
        if not torch.isfinite(loss):
            raise Diverged(f"the loss is {loss.item()} at step {step}; lower learning_rate ({config.learning_rate})")
        optimizer.zero_grad()
        interior = _schedule_gradients(bare, losses)
        fabric.backward(loss)
        for parameter, gradient in interior:
            parameter.grad = fabric.all_reduce(gradient)  # type: ignore[assignment]
        fabric.clip_gradients(model, optimizer, max_norm=config.gradient_clip, error_if_nonfinite=False)
        optimizer.step()
        ema.update_parameters(bare)
        state["step"] = step = step + 1
        seen += len(losses) * fabric.world_size
        mean_loss = loss.item() if step == 1 else 0.98 * mean_loss + 0.02 * loss.item()

        if not fabric.is_global_zero:
            continue
        if step % 20 == 0 or step == last:
            rate = seen / (time.monotonic() - started)
            left = _seconds_left(config, step, last, rate)
            log(f"step {step}/{config.steps}  loss {mean_loss:.5f}  {rate:.1f} images/s  {left / 60:.0f} min left")
            note(step=step, loss=mean_loss, images_per_second=rate, learning_rate=learning_rate(config, step))
        if step % config.validate_every == 0 or step == config.steps:
            scores = validate(ema.module, held_out, config)
            note(step=step, validation=scores)
            log(f"step {step}  validation " + "  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
            if scores["total"] < state["best"]:
                state["best"] = scores["total"]
                save("best.ckpt")
        if step % config.picture_every == 0 or step == config.steps:
            picture(ema.module, held_out, folder / f"samples-{step:06d}.png", config)
        if step % config.checkpoint_every == 0 or step == last:
            save("last.ckpt")
    return folder


def _schedule_gradients(model: nn.Module, losses: Tensor) -> list[tuple[nn.Parameter, Tensor]]:
    """The learned schedule's own gradient: of the loss's variance, not of its mean (2107.00630, section 4.2).

    With pinned ends the mean does not depend on the interior in continuous time; `E[loss^2]` does, and minimising it
    makes the estimate of the bound, and so the training, less noisy.
    """
    schedule = getattr(model, "schedule", None)
    parameters = [] if schedule is None else list(schedule.parameters())
    if not parameters:
        return []
    gradients = torch.autograd.grad(losses.square().mean(), parameters, retain_graph=True, allow_unused=True)
    return [(p, g) for p, g in zip(parameters, gradients) if g is not None]


def _seconds_left(config: TrainingConfig, step: int, last: int, rate: float) -> float:
    images, passed = 0, 0
    for phase in config.phases:
        begin, passed = passed, passed + phase.steps
        images += phase.batch * max(0, min(last, passed) - max(step, begin))
    return images / max(rate, 1e-9)


def validate(model: nn.Module, held_out: Tensor, config: TrainingConfig) -> dict[str, float]:
    """Validation of the averaged model, always on the same noise: the bound in bits a pixel, or the mean absolute error."""
    generator = torch.Generator().manual_seed(stream_seed(config.seed, 2**21))
    if isinstance(model, VariationalDiffusion):
        with torch.autocast(next(model.parameters()).device.type, torch.bfloat16, enabled="bf16" in config.precision):
            return model.bits_per_dimension(held_out, generator)
    assert isinstance(model, Regression)
    model.eval()
    scores, device = {}, next(model.parameters()).device
    with torch.no_grad():
        for matrix in config.measured:
            x = from_levels(held_out).to(device)
            fraction = torch.full((1,), (matrix[0] * matrix[1] / (x.shape[-2] * x.shape[-1])) ** 0.5, device=device)
            error = [(model(zero_filled(part, matrix), fraction) - part).abs().mean() for part in x.split(16)]
            scores[f"{matrix[0]}x{matrix[1]}"] = torch.stack(error).mean().item()
    return {**scores, "total": sum(scores.values()) / len(scores)}


def picture(model: nn.Module, held_out: Tensor, path: Path, config: TrainingConfig, steps: int = 30) -> None:
    """Eight samples of the averaged model (or zero-filled, restored and true slices) as one PNG."""
    from PIL import Image

    size = (held_out.shape[-2], held_out.shape[-1])
    device = next(model.parameters()).device
    model.eval()
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled="bf16" in config.precision):
        if isinstance(model, VariationalDiffusion):
            draw = SampleNoise([stream_seed(config.seed, 2**22, i) for i in range(8)], (1, *size), device)
            denoise = Denoiser(model.network, model.prediction, static_clip())
            images = sample(denoise, draw(), step_gammas(model.schedule, steps), draw, "ddim", eta=0.5)
        else:
            truth = from_levels(held_out[:: max(1, len(held_out) // 3)][:3]).to(device)
            filled = zero_filled(truth, config.measured[0])
            fraction = torch.full((1,), (config.measured[0][0] * config.measured[0][1] / (size[0] * size[1])) ** 0.5)
            images = torch.cat([filled, model(filled, fraction.to(device)), truth])
    tiles = ((images.float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)[:, 0]
    Image.fromarray(torch.cat(list(tiles), dim=1).numpy()).save(path)
