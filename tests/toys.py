"""A ToyEncoder whose features are known by eye, for tests of search, index and evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np

from cbmir.preprocess import Preprocessing


class ToyEncoder:
    """Features: `mean` = (mean grey / 255, 0), `corner` = (top left, bottom right) / 255.

    Classes: dark (mean below 0.5) and bright, with the posterior (1 - mean, mean).
    """

    name = "toy"
    fingerprint = "toy-0001"
    precision = "f32"
    layers = {"mean": 2, "corner": 2}  # noqa: RUF012
    classes = ("bright", "dark")
    preprocessing = Preprocessing(size=8, crop=8)
    calibration: dict[str, Any] = {}  # noqa: RUF012

    def encode(self, batch: Any) -> Any:
        from cbmir.encoder import Encoded

        mean = batch.reshape(len(batch), -1).mean(axis=1) / 255
        corners = np.stack([batch[:, 0, 0, 0], batch[:, 0, -1, -1]], axis=1) / 255
        return Encoded(
            features={
                "mean": np.stack([mean, np.zeros_like(mean)], axis=1).astype(np.float32),
                "corner": corners.astype(np.float32),
            },
            posterior=np.stack([mean, 1 - mean], axis=1).astype(np.float32),
        )
