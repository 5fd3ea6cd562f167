"""The paper's network with eight neurons a layer, and a small compact one, untrained: encoders that are made and run in
no time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WIDTH = 8
ARCHITECTURE = {"kind": "dcnn", "side": 224, "channels": 1, "mean": 0.3, "scale": 0.3, "width": WIDTH}


def save_small(directory: Path, seed: int = 0, *, classes: tuple[str, ...], **changes: Any) -> Path:
    """Write the encoder; changes: entries of save_encoder."""
    import torch

    from cbmir.encoder import save_encoder
    from cbmir.networks import build
    from cbmir.preprocess import Preprocessing

    architecture = ARCHITECTURE | {"n_classes": len(classes)}
    network = build(architecture)
    network.initialise("he", "zero", torch.Generator().manual_seed(seed))
    parts: dict[str, Any] = {
        "architecture": architecture,
        "preprocessing": Preprocessing(),
        "classes": classes,
        "layers": {"FCL1": WIDTH, "FCL2": WIDTH, "FCL3": WIDTH},
        "calibration": {},
        "training": {"recipe": "none", "log": []},
    }
    save_encoder(directory, network.state_dict(), **(parts | changes))
    return directory


def save_mobile(directory: Path, *, classes: tuple[str, ...]) -> Path:
    """One that has maps, for pictures of 64 pixels."""
    import torch

    from cbmir.encoder import save_encoder
    from cbmir.networks import build
    from cbmir.preprocess import Preprocessing

    architecture = {"kind": "mobile", "side": 64, "channels": 3, "n_classes": len(classes), "n_modalities": 2, "dim": 8}
    network = build(architecture)
    network.initialise(torch.Generator().manual_seed(24))
    save_encoder(
        directory,
        network.state_dict(),
        architecture=architecture,
        preprocessing=Preprocessing(size=64, crop=64, channels="rgb"),
        classes=classes,
        layers={"main": 8},
        calibration={},
        training={"recipe": "none", "log": []},
    )
    return directory
