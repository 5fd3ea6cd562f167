"""Fitting a network: a plain loop over Lightning Fabric, which brings devices and precision.

A run that was killed goes on at its last checkpoint when started again with the same arguments: one is written every
two minutes, inside an epoch too. Source of the procedure: the paper, section 3.1.2, eq. 1.
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
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers import TensorBoardLogger
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .errors import CbmirError, UsageError
from .recipes import Recipe
from .types import Int, UInt8

CHECKPOINT_EVERY_S = 120.0
"""A checkpoint is 600 MB with the paper's network: seldom enough to cost little, often enough to lose little."""
SIDE = 224
"""Side of the square the network sees; the packed images are 256 on a side."""

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
class TrainingSet:
    """images: uint8 (N, C, 256, 256), may be memory-mapped; labels: int64 (n,), index of the class.

    rows: which of the images these are, None when all N.
    """

    images: UInt8
    labels: Int
    rows: Int | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Int) -> TrainingSet:
        """These rows, read into memory."""
        return TrainingSet(self.images[rows if self.rows is None else self.rows[rows]], self.labels[rows])

    def part(self, rows: Int) -> TrainingSet:
        """These rows, left on disk."""
        return TrainingSet(self.images, self.labels[rows], rows)


@dataclass
class _State:
    """What a checkpoint holds besides network and optimiser."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    wrong: int = 0
    seen: int = 0
    seconds: float = 0.0


def fit(
    network: torch.nn.Module,
    training: TrainingSet,
    validation: TrainingSet | None,
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
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        fused=True,  # one pass over the 75 million weights instead of five
    )
    module, optimizer = fabric.setup(network, optimizer)
    identity = _identity(recipe, seed, data, training)
    run = _Run(fabric, module, optimizer, training, recipe, run_dir, seed, identity, on_progress)
    run.resume()
    try:
        while run.state.epoch < recipe.epochs:
            figures = run.one_epoch()
            if validation is not None:
                figures |= validate(module, validation)
            run.finish_epoch(figures)
    finally:
        fabric.logger.finalize("done")  # ends its thread, which would write into a folder that may be gone
    return run.log


class _Run:
    """One run: the state, and how it is kept."""

    def __init__(
        self,
        fabric: Fabric,
        module: Any,
        optimizer: Any,
        training: TrainingSet,
        recipe: Recipe,
        run_dir: Path,
        seed: int,
        identity: str,
        on_progress: TrainingProgress | None,
    ) -> None:
        self.fabric, self.module, self.optimizer = fabric, module, optimizer
        self.training, self.recipe, self.run_dir, self.seed = training, recipe, run_dir, seed
        self.identity, self.on_progress = identity, on_progress
        self.state = _State()
        self.saved = time.monotonic()
        self.log: list[dict[str, float]] = []
        self.steps_per_epoch = math.ceil(len(training) / recipe.batch_size)

    def one_epoch(self) -> dict[str, float]:
        """Go through the training set once, in an order drawn from (seed, epoch)."""
        state, recipe = self.state, self.recipe
        rng = np.random.default_rng((self.seed, state.epoch))
        order = rng.permutation(len(self.training))
        if state.step == 0:
            torch.manual_seed(self.seed * 10_007 + state.epoch)  # dropout masks
        self.module.train()
        started = time.monotonic()
        for step, rows in enumerate(batches(order, recipe.batch_size)):
            batch = self.training[rows]
            images = crop(batch.images, recipe, rng)
            if step < state.step:
                continue  # done before the checkpoint; the crops were drawn again so that the rest is the same
            self._step(images, batch.labels)
            state.step = step + 1
            if time.monotonic() - self.saved > CHECKPOINT_EVERY_S:
                state.seconds += time.monotonic() - started
                started = time.monotonic()
                self._save()
        state.seconds += time.monotonic() - started
        return {
            "epoch": state.epoch + 1,
            "loss": state.loss_sum / state.seen,
            "error": state.wrong / state.seen,
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds": round(state.seconds, 1),
        }

    def _step(self, images: UInt8, labels: Int) -> None:
        """Eq. 1 on one batch (the paper's batch is one image)."""
        recipe, state = self.recipe, self.state
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, state.epoch + state.step / self.steps_per_epoch)
        target = torch.from_numpy(labels).to(self.fabric.device)
        log_probabilities = self.module(self._input(images))[-1]
        loss = negative_log_likelihood(log_probabilities, target, recipe.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self.optimizer.step()
        state.loss_sum += float(loss.detach()) * len(labels)
        state.wrong += int((log_probabilities.argmax(1) != target).sum())
        state.seen += len(labels)
        if not math.isfinite(state.loss_sum):
            raise CbmirError(
                f"training diverged in epoch {state.epoch + 1}: try a smaller learning rate (--set lr=...)."
            )
        if self.on_progress:
            done = state.epoch * len(self.training) + state.seen
            total = recipe.epochs * len(self.training)
            self.on_progress(
                StepReport(
                    state.epoch + 1,
                    recipe.epochs,
                    done,
                    total,
                    state.loss_sum / state.seen,
                    state.wrong / state.seen,
                )
            )

    def _input(self, images: UInt8) -> Tensor:
        return torch.from_numpy(images).to(self.fabric.device).float()

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

    def _save(self) -> None:
        new = self._checkpoint.with_suffix(".new")
        self.fabric.save(
            new,
            {
                "network": self.module,
                "optimizer": self.optimizer,
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
        state = {"network": self.module, "optimizer": self.optimizer}
        rest = self.fabric.load(self._checkpoint, state, weights_only=True)
        self.state, self.log = _State(**rest["state"]), rest["log"]
        torch.set_rng_state(rest["random"])
        torch.cuda.set_rng_state_all(rest["random_gpu"])


def _identity(recipe: Recipe, seed: int, data: str, training: TrainingSet) -> str:
    """A checkpoint goes on only with the data, recipe and seed it was made with."""
    digest = sha256(json.dumps([recipe.as_dict(), seed, data, len(training)]).encode())
    digest.update(training.labels.tobytes())
    if training.rows is not None:
        digest.update(training.rows.tobytes())
    return digest.hexdigest()


def learning_rate(recipe: Recipe, epoch: float) -> float:
    """The learning rate at a moment, in epochs from the start (a fraction inside an epoch)."""
    if epoch < recipe.warmup_epochs:
        return recipe.lr * epoch / recipe.warmup_epochs
    if recipe.schedule == "constant":
        return recipe.lr
    progress = (epoch - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * progress))


def negative_log_likelihood(log_probabilities: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """NLL, the paper's criterion; with smoothing s the target keeps 1 - s and s is spread over all classes."""
    nll = F.nll_loss(log_probabilities, target)
    return nll if smoothing == 0 else (1 - smoothing) * nll - smoothing * log_probabilities.mean()


def crop(images: UInt8, recipe: Recipe, rng: np.random.Generator) -> UInt8:
    """224 x 224 of each image (n, C, 256, 256): the centre, or a place, size, side and tone drawn for each image."""
    if recipe.crop == "centre":
        return centre_crop(images)
    return np.stack([_augmented(image, recipe, rng) for image in images])


def _augmented(image: UInt8, recipe: Recipe, rng: np.random.Generator) -> UInt8:
    """One image (C, 256, 256) as another picture of the same thing."""
    whole = image.shape[-1]
    side = SIDE if recipe.zoom == 0 else int(rng.integers(round(whole * (1 - recipe.zoom)), whole + 1))
    top, left = rng.integers(0, whole - side + 1, 2)
    out = image[:, top : top + side, left : left + side]
    if side != SIDE:
        out = np.stack(
            [np.asarray(Image.fromarray(plane).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for plane in out]
        )
    if recipe.flip and rng.random() < 0.5:
        out = out[:, :, ::-1]
    return _toned(out, recipe.tone, rng) if recipe.tone else out


def _toned(image: UInt8, amount: float, rng: np.random.Generator) -> UInt8:
    """Another window: a gamma and a gain, each between exp(-amount) and exp(amount)."""
    gamma, gain = np.exp(rng.uniform(-amount, amount, 2))
    curve = np.clip(gain * (np.arange(256) / 255) ** gamma, 0, 1) * 255
    toned: UInt8 = np.rint(curve).astype(np.uint8)[image]
    return toned


def centre_crop(images: UInt8) -> UInt8:
    margin = (images.shape[-1] - SIDE) // 2
    return np.ascontiguousarray(images[..., margin : margin + SIDE, margin : margin + SIDE])


def batches(order: Int, size: int) -> Iterator[Int]:
    for start in range(0, len(order), size):
        yield order[start : start + size]


@torch.no_grad()
def validate(module: Any, validation: TrainingSet) -> dict[str, float]:
    """Loss and error on the validation part, every neuron kept."""
    module.eval()
    loss, wrong = 0.0, 0
    device = next(module.parameters()).device
    for rows in batches(np.arange(len(validation)), 128):
        batch = validation[rows]
        target = torch.from_numpy(batch.labels).to(device)
        images = torch.from_numpy(centre_crop(batch.images)).to(device).float()
        log_probabilities = module(images)[-1]
        loss += float(F.nll_loss(log_probabilities, target, reduction="sum"))
        wrong += int((log_probabilities.argmax(1) != target).sum())
    return {"validation_loss": loss / len(validation), "validation_error": wrong / len(validation)}
