"""The patch network of [43] and its two stages of training; mil_patch.py is the method around it.

The network has no padding, so run over a whole picture it gives at every position what it would give on the patch cut
out there; overlapping patches share their convolutions, which is what makes it quick enough for a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CbmirError
from ..types import Int, UInt8

SIDE, PATCH, STRIDE = 128, 45, 16
"""Of the picture, of a patch and from one patch to the next, in pixels: 6 x 6 patches."""
IGNORED = -100


class PatchNetwork(nn.Module):
    """A LeNet: two convolutions with max-pooling, one fully connected layer (as a convolution), outputs for a patch.

    With batch normalisation before each ReLU, which [43] does not speak of: without it 24 classes learn too slowly (on
    a fold of organ24's train part mAP 0.30 after 7 epochs, with it 0.61 after 13).
    """

    def __init__(self, n_outputs: int, *, width: int = 128) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(1, 24, kernel_size=7, stride=2, bias=False), nn.BatchNorm2d(24))
        self.conv2 = nn.Sequential(nn.Conv2d(24, 48, kernel_size=5, bias=False), nn.BatchNorm2d(48))
        self.fc = nn.Sequential(
            nn.Conv2d(48, width, kernel_size=3, stride=STRIDE // 8, bias=False), nn.BatchNorm2d(width)
        )
        self.output = nn.Conv2d(width, n_outputs, kernel_size=1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on a CPU

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Grey levels 0 ... 255, (batch, 1, side, side), to FC activations (batch, width, p, p) and scores
        (batch, outputs, p, p); p is 6 for a picture of 128, 1 for a patch of 45.
        """
        x = (images / 255 - 0.3) / 0.3
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)  # (batch, 24, 30, 30)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)  # (batch, 48, 13, 13)
        x = F.relu(self.fc(x))  # (batch, width, 6, 6)
        return x, self.output(x)

    def with_one_more_output(self) -> PatchNetwork:
        """The same convolutions and FC with a new last layer that has one output more; for the second stage."""
        wider = PatchNetwork(self.output.out_channels + 1, width=self.output.in_channels)
        state = self.state_dict() | {name: t for name, t in wider.state_dict().items() if name.startswith("output.")}
        wider.load_state_dict(state)
        return wider


def every_patch_loss(scores: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of every patch with the class of its picture: how the first stage is started.

    scores: (batch, K, p, p); target: (batch,), index of the class.
    """
    return F.cross_entropy(scores, target[:, None, None].expand(-1, *scores.shape[2:]))


def first_stage_loss(scores: Tensor, target: Tensor) -> Tensor:
    """Mean over pictures of -log max over patches of P(true class | patch): only the best patch learns.

    scores: (batch, K, p, p); target: (batch,), index of the class.
    """
    log_p = F.log_softmax(scores.flatten(2), dim=1)  # (batch, K, patches)
    of_truth = log_p[torch.arange(len(target)), target]  # (batch, patches)
    return -of_truth.amax(dim=1).mean()


@dataclass(frozen=True)
class PatchRule:
    """Which patches of the first stage are called discriminative, and which non-informative.

    share: a discriminative patch has at least this part of the best patch's response to the true class.
    reach: ... and lies at most this many steps from it. entropy: a patch above this part of log K knows nothing.
    """

    share: float = 0.5
    reach: int = 1
    entropy: float = 0.5

    def targets(self, scores: Tensor, target: Tensor) -> Tensor:
        """The class of each patch for the second stage: the true one, K for non-informative, else IGNORED.

        scores: (batch, K, p, p) of the first stage; returns int64 (batch, p, p).
        """
        batch, n_classes, side, _ = scores.shape
        p = scores.softmax(dim=1)
        of_truth = p[torch.arange(batch), target]  # (batch, p, p)
        best, at = of_truth.flatten(1).max(dim=1)
        steps = torch.arange(side)
        row, column = (at // side)[:, None], (at % side)[:, None]
        near_row, near_column = (steps - row).abs() <= self.reach, (steps - column).abs() <= self.reach
        near = near_row[:, :, None] & near_column[:, None, :]
        discriminative = near & (of_truth >= self.share * best[:, None, None])
        entropy = -(p * p.clamp_min(1e-12).log()).sum(dim=1)
        wrong = p.argmax(dim=1) != target[:, None, None]
        out = torch.full_like(of_truth, IGNORED, dtype=torch.int64)
        out[wrong | (entropy > self.entropy * math.log(n_classes))] = n_classes
        return torch.where(discriminative, target[:, None, None], out)


def second_stage_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy over discriminative patches plus that over non-informative ones, each a mean of its own.

    scores: (batch, K + 1, p, p); targets: (batch, p, p) as PatchRule gives them.
    """
    losses = F.cross_entropy(scores, targets, ignore_index=IGNORED, reduction="none")
    uninformative = targets == scores.shape[1] - 1
    discriminative = (targets != IGNORED) & ~uninformative
    return sum((losses[part].mean() for part in (discriminative, uninformative) if part.any()), torch.zeros(()))


@dataclass(frozen=True)
class Schedule:
    """Adam with a cosine from lr to zero over each stage; pictures are cut to a random place of `crop` pixels.

    epochs: every patch learns, the best patch learns (first stage), second stage.
    """

    epochs: tuple[int, int, int] = (4, 12, 8)
    lr: float = 2e-3
    batch_size: int = 32
    crop: int = 112


def train_patches(
    images: UInt8,
    labels: Int,
    n_classes: int,
    *,
    schedule: Schedule,
    rule: PatchRule,
    seed: int,
    width: int = 128,
    on_progress: Callable[[int, int], None] | None = None,
) -> PatchNetwork:
    """Both stages; images uint8 (n, 1, 128, 128), labels (n,). on_progress: pictures done, pictures in all.

    Raises CbmirError when the loss is no number.
    """
    rng = np.random.default_rng(seed)
    first = _drawn(lambda: PatchNetwork(n_classes, width=width), seed)
    run = _Run(images, labels, schedule, rng, on_progress)
    run.stage(first, schedule.epochs[0], lambda batch, target: every_patch_loss(first(batch)[1], target))
    run.stage(first, schedule.epochs[1], lambda batch, target: first_stage_loss(first(batch)[1], target))
    second, teacher = _drawn(first.with_one_more_output, seed + 1), first.eval()

    def loss(batch: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            targets = rule.targets(teacher(batch)[1], target)
        return second_stage_loss(second(batch)[1], targets)

    run.stage(second, schedule.epochs[2], loss)
    return second.eval()


def _drawn(make: Callable[[], PatchNetwork], seed: int) -> PatchNetwork:
    """A network with weights drawn from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


@contextmanager
def _one_thread() -> Iterator[None]:
    """The network is so small that threads mostly wait for one another: on two busy cores they took 16 s of processor
    time for what one does in 0.6 s. One thread also gives the same weights on every machine of a kind.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Run:
    """The loop both stages share."""

    def __init__(
        self,
        images: UInt8,
        labels: Int,
        schedule: Schedule,
        rng: np.random.Generator,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self.images, self.labels, self.schedule, self.rng, self.on_progress = images, labels, schedule, rng, on_progress
        self.done = 0

    @_one_thread()
    def stage(self, network: PatchNetwork, epochs: int, loss_of: Callable[[Tensor, Tensor], Tensor]) -> None:
        schedule = self.schedule
        steps = epochs * math.ceil(len(self.labels) / schedule.batch_size)
        optimizer = torch.optim.Adam(network.parameters(), lr=schedule.lr)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(epochs):
            order = self.rng.permutation(len(self.labels))
            for start in range(0, len(order), schedule.batch_size):
                rows = order[start : start + schedule.batch_size]
                loss = loss_of(self._batch(rows), torch.from_numpy(self.labels[rows]))
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                optimizer.step()
                cosine.step()
                self._report(float(loss.detach()), len(rows))

    def _batch(self, rows: Int) -> Tensor:
        """One place for the whole batch."""
        top, left = self.rng.integers(0, SIDE - self.schedule.crop + 1, 2)
        window = slice(top, top + self.schedule.crop), slice(left, left + self.schedule.crop)
        return torch.from_numpy(self.images[rows][:, :, window[0], window[1]]).float()

    def _report(self, loss: float, n: int) -> None:
        if not math.isfinite(loss):
            raise CbmirError("mil-patch diverged: its loss is no number; take a smaller learning rate.")
        self.done += n
        if self.on_progress:
            self.on_progress(self.done, sum(self.schedule.epochs) * len(self.labels))
