"""The networks, each one file, and `build`: from the architecture saved in an encoder to a torch module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import BadEncoder


def build(architecture: Mapping[str, Any]) -> Any:
    """architecture: {"kind": "dcnn" or "mobile", "side": 224, ...the constructor's arguments}.

    Raises BadEncoder for another kind.
    """
    arguments = dict(architecture)
    kind, _ = arguments.pop("kind", None), arguments.pop("side", None)
    if kind == "dcnn":
        from .dcnn import DCNN

        return DCNN(**arguments)
    if kind == "mobile":
        from .mobile import Mobile

        return Mobile(**arguments)
    raise BadEncoder(f"encoder.json names the network '{kind}', which this version of cbmir does not know")


def has_maps(architecture: Mapping[str, Any]) -> bool:
    """Whether the network of this architecture pools maps as encoder.Maps says, and gives them by `maps`."""
    return architecture.get("kind") == "mobile"
