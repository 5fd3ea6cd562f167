"""What a gallery remembers of its encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # searching by id needs none
    from ..encoder import Encoder


@dataclass(frozen=True)
class EncoderCard:
    """What a gallery remembers of its encoder. path: where `load_encoder` finds it, as it was given; masked: whether
    it sees nothing outside the regions of ultrasound.
    """

    name: str
    fingerprint: str
    precision: str
    path: str
    layers: Mapping[str, int]
    classes: tuple[str, ...] = ()
    calibration: Mapping[str, Any] = field(default_factory=dict)
    masked: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint}, {self.precision})"


def card_of(encoder: Encoder, path: str | None = None) -> EncoderCard:
    return EncoderCard(
        name=encoder.name,
        fingerprint=encoder.fingerprint,
        precision=encoder.precision,
        path=path or encoder.name,
        layers=dict(encoder.layers),
        classes=tuple(encoder.classes),
        calibration=dict(encoder.calibration),
    )
