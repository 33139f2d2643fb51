"""The training loop, under Lightning Fabric: one CPU, one GPU, several of them or several SLURM nodes.

Every random number of step n comes from a generator seeded by (seed, rank, n), so a run that is stopped and resumed
takes the same path as one that is not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from ..errors import InputError, SettingError, StorageError
from .config import RunConfig
from .jobs import make_job
from .optimisation import learning_rate, moving_average, schedule_gradients
from .share import Share

Log = Callable[[str], None]
LOG_EVERY = 20


class Diverged(SettingError):
    """The loss or its gradient became NaN or infinite."""


def train(
    config: RunConfig,
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
        out: folder for `config.json`, `last.ckpt`, `best.ckpt` (by validation), `log.jsonl` and `samples-*.png`.
        accelerator, devices, num_nodes: as Lightning Fabric takes them.
        stop_after: end after this many further steps (to share a machine, or to test resuming).
        log: where lines of progress go.

    Raises:
        InputError: an archive that cannot be used, a checkpoint in `out` that cannot be read.
        SettingError: settings that do not go with each other or with the images; a checkpoint of another network.
        StorageError: a folder that cannot be written.
        Diverged: a loss that is not finite; the checkpoints from before it stay.
    """
    # Fabric's bf16-mixed rounds the model's inputs (images, noise, gamma) to bfloat16, which loses the small noise
    # levels. So Fabric stays in float32, and the network alone runs in bfloat16 (`_losses`).
    fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=num_nodes, precision="32-true")
    fabric.launch()
    trainer = Trainer(config, Path(out), fabric, log)
    trainer.resume()
    trainer.run(config.steps if stop_after is None else min(config.steps, trainer.step + stop_after))
    return trainer.folder


class Trainer:
    """One process of a run: the model, its average, the optimiser, and how far they are.

    Attributes:
        bare: the model as it is saved; `model` is the same as Fabric wrapped it.
        average: the moving average of the weights, which is validated and shipped.
        step: optimiser steps done.
        best: the best validation so far.
        job: what is trained.
    """

    def __init__(self, config: RunConfig, folder: Path, fabric: Fabric, log: Log = print) -> None:
        self.config, self.folder, self.fabric, self.log = config, folder, fabric, log
        self.share = Share(fabric.global_rank, fabric.world_size)
        self.job = make_job(config, fresh=not (folder / "last.ckpt").exists())
        check_batches(config, self.share)
        _make_folder(folder)
        if fabric.is_global_zero:
            _write_config(config, folder / "config.json")

        self.bare = self.job.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(self.bare, avg_fn=moving_average(config.ema_decay))
        self.average.to(fabric.device)
        trained = [parameter for parameter in self.bare.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay
        )
        self.model, self.optimizer = fabric.setup(self.bare, optimizer)
        self.step, self.best = 0, math.inf
        self.mean_loss: float | None = None

    # Checkpoints.

    def resume(self) -> None:
        """Go on from `last.ckpt`, if there is one. Raises InputError, SettingError."""
        path = self.folder / "last.ckpt"
        if not path.exists():
            return
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises nearly any type for a damaged file
            hint = "Delete it, or choose another folder"
            raise InputError(f"{path} cannot be read ({error!r:.200})", hint) from error
        another, hint = f"{path} is from another network", "Choose another folder, or that network's configuration"
        if not isinstance(loaded, dict) or loaded.get("description", self.job.description) != self.job.description:
            raise SettingError(another, hint)
        try:
            # After `fabric.setup`: the optimiser's state goes where its weights are by now.
            self.bare.load_state_dict(loaded["model"])
            self.average.load_state_dict(loaded["ema"])
            self.optimizer.load_state_dict(loaded["optimizer"])
            self.step, self.best = int(loaded["step"]), float(loaded["best"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise SettingError(f"{another} ({error!s:.300})", hint) from error
        self.mean_loss = loaded.get("mean_loss")
        if self.fabric.is_global_zero:
            self.log(f"resuming {self.folder} at step {self.step} of {self.config.steps}")

    def save(self, name: str) -> None:
        """Write a checkpoint: beside and moved, so a run killed while saving leaves the older one whole.

        Raises:
            StorageError: no room or no right to write.
        """
        path = self.folder / name
        partial = path.with_suffix(".partial")
        state = {
            "model": self.bare.state_dict(),
            "ema": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "best": self.best,
            "mean_loss": self.mean_loss,
            "description": self.job.description,
        }
        try:
            torch.save(state, partial)
            partial.replace(path)
        except (OSError, RuntimeError) as error:  # a full disk is a RuntimeError of torch's
            partial.unlink(missing_ok=True)
            raise StorageError(f"{path} cannot be written ({error})", "Make room, and run the same command") from error

    # Steps.

    def run(self, last: int) -> None:
        """Train until `last` steps are done, reporting, validating and saving as the configuration says."""
        begin, started = self.step, time.monotonic()
        while self.step < last:
            self.train_step()
            if not self.fabric.is_global_zero:
                continue
            if self.step % LOG_EVERY == 0 or self.step == last:
                self._report(begin, last, time.monotonic() - started)
            self._look(self.step == self.config.steps)
            if self.step % self.config.checkpoint_every == 0 or self.step == last:
                self.save("last.ckpt")

    def train_step(self) -> None:
        """One optimiser step. Raises Diverged, on all processes alike, before it harms the weights."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        losses = self._losses()
        self.optimizer.zero_grad()
        of_schedule = schedule_gradients(self.bare, losses)
        self.fabric.backward(losses.mean())
        for parameter, gradient in of_schedule:
            parameter.grad = self.fabric.all_reduce(gradient)
        norm = self.fabric.clip_gradients(
            self.model, self.optimizer, max_norm=self.config.gradient_clip, error_if_nonfinite=False
        )
        loss = float(self.fabric.all_reduce(losses.detach().mean()))
        if not (math.isfinite(loss) and norm is not None and bool(torch.isfinite(norm))):
            hint = f"Lower learning_rate ({self.config.learning_rate}) in the configuration"
            raise Diverged(f"the loss is {loss} at step {self.step}, its gradient {norm}", hint)
        self.optimizer.step()
        self.average.update_parameters(self.bare)
        self.step += 1
        self.mean_loss = loss if self.mean_loss is None else 0.98 * self.mean_loss + 0.02 * loss

    def _losses(self) -> Tensor:
        device = self.fabric.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.config.precision == "bf16-mixed"):
            return self.job.losses(self.model, self.step, self.share, device)

    def _look(self, at_end: bool) -> None:
        """Validation and the picture, when they are due."""
        if self.step % self.config.validate_every == 0 or at_end:
            scores = self.job.validate(self.average.module)
            self._note(step=self.step, validation=scores)
            self.log(f"step {self.step}  validation " + "  ".join(f"{name} {v:.4f}" for name, v in scores.items()))
            if scores["total"] < self.best:
                self.best = scores["total"]
                self.save("best.ckpt")
        if self.step % self.config.picture_every == 0 or at_end:
            path = self.folder / f"samples-{self.step:06d}.png"
            self.job.picture(self.average.module, path)

    def _report(self, begin: int, last: int, seconds: float) -> None:
        images, _ = _work(self.config, begin, self.step)
        rate, left = images / max(seconds, 1e-9), seconds_left(self.config, begin, self.step, last, seconds)
        done, loss = f"{self.step}/{self.config.steps}", self.mean_loss
        self.log(f"step {done}  loss {loss:.5f}  {rate:.1f} images/s  {left / 60:.0f} min left")
        now = learning_rate(self.config, self.step - 1)
        self._note(step=self.step, loss=loss, images_per_second=rate, learning_rate=now)

    def _note(self, **values: Any) -> None:
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(values) + "\n")


def check_batches(config: RunConfig, share: Share) -> None:
    """Raises SettingError where the processes cannot share a batch evenly."""
    for phase in config.phases:
        if phase.batch % share.processes:
            hint = f"Use a multiple of {share.processes}, or other devices"
            raise SettingError(f"batch = {phase.batch} cannot be shared among {share.processes} processes", hint)


def seconds_left(config: RunConfig, begin: int, step: int, last: int, seconds: float) -> float:
    """From the time that the steps from `begin` to `step` took: a step costs as much as its batch has pixels."""
    return seconds * _work(config, step, last)[1] / max(1, _work(config, begin, step)[1])


def _work(config: RunConfig, begin: int, end: int) -> tuple[int, int]:
    """Images and pixels in the steps from `begin` to `end`."""
    images, pixels, first = 0, 0, 0
    for phase in config.phases:
        steps = max(0, min(end, first + phase.steps) - max(begin, first))
        images, pixels = images + steps * phase.batch, pixels + steps * phase.batch * phase.crop**2
        first += phase.steps
    return images, pixels


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be made ({error.strerror})", "Choose another folder") from error


def _write_config(config: RunConfig, path: Path) -> None:
    """What the run is, beside its checkpoints; `read_config` reads it."""
    try:
        path.write_text(json.dumps(asdict(config), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path} cannot be written ({error.strerror})", "Make room, or choose another") from error
