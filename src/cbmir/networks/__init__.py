"""The networks, each one file, and `build`: from the architecture saved in an encoder to a torch module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import BadEncoder


def build(architecture: Mapping[str, Any]) -> Any:
    """architecture: {"kind": "dcnn", "side": 224, ...the constructor's arguments}.

    Raises BadEncoder for another kind.
    """
    from .dcnn import DCNN

    arguments = dict(architecture)
    kind, _ = arguments.pop("kind", None), arguments.pop("side", None)
    if kind != "dcnn":
        raise BadEncoder(f"encoder.json names the network '{kind}', which this version of cbmir does not know")
    return DCNN(**arguments)
