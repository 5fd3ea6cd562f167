"""Fitting a network to an objective: a plain loop over Lightning Fabric, which brings devices and precision.

A run that was killed goes on at its last checkpoint when started again with the same arguments: one is written every
two minutes, inside an epoch too.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers import TensorBoardLogger
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .errors import CbmirError, UsageError
from .recipes import Recipe

CHECKPOINT_EVERY_S = 120.0
"""A checkpoint is 600 MB with the paper's network: seldom enough to cost little, often enough to lose little."""
TrainingProgress = Callable[["StepReport"], None]


@dataclass(frozen=True)
class StepReport:
    """Where a run is. done, total: images of the whole run; loss, error: running means of this epoch."""

    epoch: int
    epochs: int
    done: int
    total: int
    loss: float
    error: float


@dataclass(frozen=True)
class Losses:
    """Of one batch. loss: a scalar tensor with its graph, the mean over n images; n_wrong: of n_judged, misjudged."""

    loss: Tensor
    n: int
    n_wrong: int
    n_judged: int | None = None


class Objective(Protocol):
    """What a network is fitted to. n_images: that make an epoch; identity: a digest of all that decides its batches."""

    @property
    def n_images(self) -> int: ...
    @property
    def identity(self) -> str: ...
    @property
    def learned(self) -> torch.nn.Module | None:
        """What is learned beside the network and not kept, such as proxies of classes."""
        ...

    def optimizer(self, network: torch.nn.Module) -> torch.optim.Optimizer: ...
    def batches(self, epoch: int, start: int) -> Iterator[Any]:
        """The batches of an epoch from step `start` on; the same whenever they are drawn."""
        ...

    def losses(self, module: Any, batch: Any, device: torch.device) -> Losses: ...
    def validate(self, module: Any) -> dict[str, float]:
        """Figures of the validation part after an epoch; empty without one."""
        ...


@dataclass
class _State:
    """What a checkpoint holds besides network and optimiser."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    wrong: int = 0
    judged: int = 0
    seen: int = 0
    seconds: float = 0.0


def fit(
    network: torch.nn.Module,
    objective: Objective,
    recipe: Recipe,
    run_dir: Path,
    *,
    seed: int,
    data: str = "",
    device: str = "auto",
    on_progress: TrainingProgress | None = None,
) -> list[dict[str, float]]:
    """Train `network` in place by `recipe` and return one line of figures an epoch (also in run_dir/log.jsonl).

    data: names images and network; a checkpoint goes on only where it is the same. device: auto, cpu or cuda.
    Raises UsageError for a device that is not there or a checkpoint of another run, CbmirError when it diverges.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells the precision of every run
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("There is no GPU that PyTorch can use: take --device cpu.")
    fabric = Fabric(
        accelerator=device,
        devices=1,
        precision=recipe.precision,
        loggers=TensorBoardLogger(root_dir=run_dir, name="tensorboard", version=""),
    )
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on a CPU
    module, optimizer = fabric.setup(network, objective.optimizer(network))
    identity = sha256(json.dumps([recipe.as_dict(), seed, data, objective.n_images, objective.identity]).encode())
    run = _Run(fabric, module, optimizer, objective, recipe, run_dir, seed, identity.hexdigest(), on_progress)
    run.resume()
    try:
        while run.state.epoch < recipe.epochs:
            run.finish_epoch(run.one_epoch() | objective.validate(run.averaged or module))
    finally:
        fabric.logger.finalize("done")  # ends its thread, which would write into a folder that may be gone
    if run.averaged is not None:
        network.load_state_dict(run.averaged.module.state_dict())
    return run.log


class _Run:
    """One run: the state, and how it is kept."""

    def __init__(
        self,
        fabric: Fabric,
        module: Any,
        optimizer: Any,
        objective: Objective,
        recipe: Recipe,
        run_dir: Path,
        seed: int,
        identity: str,
        on_progress: TrainingProgress | None,
    ) -> None:
        self.fabric, self.module, self.optimizer = fabric, module, optimizer
        self.objective, self.recipe, self.run_dir, self.seed = objective, recipe, run_dir, seed
        self.identity, self.on_progress = identity, on_progress
        self.state = _State()
        self.saved = time.monotonic()
        self.log: list[dict[str, float]] = []
        self.steps_per_epoch = math.ceil(objective.n_images / recipe.batch_size)
        self.averaged = None if recipe.average == 0 else _averaged(module, recipe.average)

    def one_epoch(self) -> dict[str, float]:
        """Go through the training set once, in an order drawn from (seed, epoch)."""
        state = self.state
        if state.step == 0:
            torch.manual_seed(self.seed * 10_007 + state.epoch)  # dropout masks
        self.module.train()
        started = time.monotonic()
        for step, batch in enumerate(self.objective.batches(state.epoch, state.step), state.step):
            self._step(batch)
            state.step = step + 1
            if time.monotonic() - self.saved > CHECKPOINT_EVERY_S:
                state.seconds += time.monotonic() - started
                started = time.monotonic()
                self._save()
        state.seconds += time.monotonic() - started
        return {
            "epoch": state.epoch + 1,
            "loss": state.loss_sum / state.seen,
            "error": state.wrong / max(1, state.judged),
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds": round(state.seconds, 1),
        }

    def _step(self, batch: Any) -> None:
        recipe, state = self.recipe, self.state
        rate = learning_rate(recipe, state.epoch + state.step / self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("times", 1.0)
        losses = self.objective.losses(self.module, batch, self.fabric.device)
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(losses.loss)
        if recipe.clip:
            self.fabric.clip_gradients(self.module, self.optimizer, max_norm=recipe.clip)
        self.optimizer.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.module)
        state.loss_sum += float(losses.loss.detach()) * losses.n
        state.wrong += losses.n_wrong
        state.judged += losses.n if losses.n_judged is None else losses.n_judged
        state.seen += losses.n
        if not math.isfinite(state.loss_sum):
            raise CbmirError(
                f"training diverged in epoch {state.epoch + 1}: try a smaller learning rate (--set lr=...)."
            )
        if self.on_progress:
            done = state.epoch * self.objective.n_images + state.seen
            total = recipe.epochs * self.objective.n_images
            self.on_progress(
                StepReport(
                    state.epoch + 1,
                    recipe.epochs,
                    done,
                    total,
                    state.loss_sum / state.seen,
                    state.wrong / max(1, state.judged),
                )
            )

    def finish_epoch(self, figures: dict[str, float]) -> None:
        self.log.append(figures)
        self.state = _State(epoch=self.state.epoch + 1)
        if time.monotonic() - self.saved > CHECKPOINT_EVERY_S:
            self._save()
        lines = "".join(json.dumps(line) + "\n" for line in self.log)
        (self.run_dir / "log.jsonl").write_text(lines)
        self.fabric.log_dict({k: v for k, v in figures.items() if k != "epoch"}, step=self.state.epoch)

    @property
    def _checkpoint(self) -> Path:
        return self.run_dir / "checkpoint.ckpt"

    def _kept(self) -> dict[str, Any]:
        kept = {"network": self.module, "optimizer": self.optimizer}
        more = {"averaged": self.averaged, "learned": self.objective.learned}
        return kept | {name: part for name, part in more.items() if part is not None}

    def _save(self) -> None:
        new = self._checkpoint.with_suffix(".new")
        self.fabric.save(
            new,
            self._kept()
            | {
                "state": asdict(self.state),
                "log": self.log,
                "identity": self.identity,
                "random": torch.get_rng_state(),
                "random_gpu": torch.cuda.get_rng_state_all(),
            },
        )
        new.replace(self._checkpoint)
        self.saved = time.monotonic()

    def resume(self) -> None:
        if not self._checkpoint.exists():
            return
        made_for = torch.load(self._checkpoint, map_location="meta", weights_only=True)["identity"]
        if made_for != self.identity:
            raise UsageError(
                f"{self.run_dir} holds an unfinished run with other data, recipe or seed: "
                "finish it with its own arguments, or choose another --out."
            )
        rest = self.fabric.load(self._checkpoint, self._kept(), weights_only=True)
        self.state, self.log = _State(**rest["state"]), rest["log"]
        torch.set_rng_state(rest["random"])
        torch.cuda.set_rng_state_all(rest["random_gpu"])


def _averaged(module: Any, decay: float) -> AveragedModel:
    """The running mean of the weights: it is nearer to what all batches want than the last step is."""
    mean = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(module.module, multi_avg_fn=mean, use_buffers=True)


def learning_rate(recipe: Recipe, epoch: float) -> float:
    """The learning rate at a moment, in epochs from the start (a fraction inside an epoch)."""
    if epoch < recipe.warmup_epochs:
        return recipe.lr * epoch / recipe.warmup_epochs
    if recipe.schedule == "constant":
        return recipe.lr
    progress = (epoch - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * progress))
