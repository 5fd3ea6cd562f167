"""The paper's network with eight neurons a layer, untrained: an encoder that is made and run in no time."""

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
