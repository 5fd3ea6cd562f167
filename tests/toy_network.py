"""A network of two convolutions with the interface of networks/mobile.py, for tests of what is done with its maps."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cbmir.encoder import save_encoder
from cbmir.preprocess import Preprocessing

SIDE, CHANNELS, DIM = 32, 6, 4
ARCHITECTURE = {"kind": "mobile", "side": SIDE, "channels": 3, "n_classes": 2, "dim": DIM}


class ToyNetwork(nn.Module):
    """Maps of (CHANNELS, side / 8, side / 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.Conv2d(8, CHANNELS, 2, 2), nn.ReLU())
        self.p = nn.Parameter(torch.tensor(3.0))
        self.project = nn.Linear(CHANNELS, DIM)
        self.classes = nn.Linear(DIM, 2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.maps(images).pow(self.p).mean(dim=(2, 3)).pow(1 / self.p)
        main = F.normalize(self.project(pooled), dim=1)
        return main, F.log_softmax(self.classes(main), dim=1)

    def maps(self, images: Tensor) -> Tensor:
        maps: Tensor = self.body(images / 128 - 1)
        return maps.clamp(min=1e-6)


def save_toy(directory: Path, recipe: Preprocessing | None = None) -> Path:
    """An encoder of it; `cbmir.networks.build` has to be replaced by `lambda _: ToyNetwork()` where it is loaded."""
    torch.manual_seed(24)
    save_encoder(
        directory,
        ToyNetwork().state_dict(),
        architecture=ARCHITECTURE,
        preprocessing=recipe or Preprocessing(size=SIDE, crop=SIDE, channels="rgb"),
        classes=("disc", "stripes"),
        layers={"main": DIM},
        calibration={},
        training={"recipe": "none", "log": []},
    )
    return directory
