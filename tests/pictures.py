"""Small picture collections for tests: classes that differ by eye, drawn, never copied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def draw(kind: str, seed: int, side: int = 48) -> np.ndarray:
    """A noisy disc or stripes, uint8 (side, side)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    if kind == "disc":
        radius, cy, cx = side * rng.uniform(0.2, 0.4), *(side * rng.uniform(0.4, 0.6, 2))
        bright = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
    else:
        bright = (x // rng.integers(3, 8)) % 2 == 0
    return (bright * 180 + rng.integers(0, 40, (side, side))).astype(np.uint8)


def draw_folder(root: Path, per_class: int = 8, kinds: tuple[str, ...] = ("disc", "stripes")) -> Path:
    """root/KIND/NN.png, one folder a class."""
    for number, kind in enumerate(kinds):
        (root / kind).mkdir(parents=True)
        for index in range(per_class):
            Image.fromarray(draw(kind, 1000 * number + index)).save(root / kind / f"{index:02d}.png")
    return root
