"""An encoder whose network runs in another process: whoever serves many callers never imports a run time itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .encoder import Encoded, Encoder, Maps, load_encoder, no_maps
from .errors import BadImage
from .preprocess import Preprocessing
from .types import UInt8

Call = Callable[..., Any]
"""Calls the function it is given first with the rest, in the process that keeps encoders; raises its CbmirError."""


class Wanted(NamedTuple):
    """Which encoder: as load_encoder has it."""

    name: str
    precision: str
    masked: bool


@dataclass(frozen=True)
class RemoteEncoder:
    """Tells itself what it is; what its network has to say is asked for by `call`."""

    known: Encoder
    wanted: Wanted
    call: Call

    @property
    def name(self) -> str:
        return self.known.name

    @property
    def fingerprint(self) -> str:
        return self.known.fingerprint

    @property
    def precision(self) -> str:
        return self.known.precision

    @property
    def preprocessing(self) -> Preprocessing:
        return self.known.preprocessing

    @property
    def layers(self) -> Mapping[str, int]:
        return self.known.layers

    @property
    def classes(self) -> tuple[str, ...]:
        return self.known.classes

    @property
    def calibration(self) -> Mapping[str, Any]:
        return self.known.calibration

    def encode(self, batch: UInt8) -> Encoded:
        encoded: Encoded = self._asked(encode, batch)
        return encoded

    @property
    def has_maps(self) -> bool:
        return self.known.has_maps

    def maps(self, batch: UInt8) -> Maps:
        if not self.has_maps:
            raise no_maps(self)
        found: Maps = self._asked(maps, batch)
        return found

    def _asked(self, work: Callable[..., Any], batch: UInt8) -> Any:
        try:
            return self.call(work, self.wanted, batch)
        except BadImage as error:  # no file is to blame for what happens to a network
            raise RuntimeError(f"the process of the network failed ({error.outcome})") from error


_kept: dict[Wanted, Encoder] = {}
"""In the process that keeps encoders: the one that was asked for last."""


def _encoder(wanted: Wanted) -> Encoder:
    if wanted not in _kept:
        _kept.clear()
        _kept[wanted] = load_encoder(wanted.name, precision=wanted.precision, mask_burned_in=wanted.masked)
    return _kept[wanted]


def keep(wanted: Wanted) -> None:
    """For that process: has the network ready before it is needed."""
    encoder = _encoder(wanted)
    side = encoder.preprocessing.crop
    encoder.encode(np.zeros((1, encoder.preprocessing.n_channels, side, side), np.uint8))


def encode(wanted: Wanted, batch: UInt8) -> Encoded:
    """For that process."""
    return _encoder(wanted).encode(batch)


def maps(wanted: Wanted, batch: UInt8) -> Maps:
    """For that process."""
    return _encoder(wanted).maps(batch)
