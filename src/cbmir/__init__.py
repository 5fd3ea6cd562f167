"""cbmir: content-based medical image retrieval.

The public names load their modules when first used, so that `import cbmir` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .encoder import Encoder, load_encoder
    from .evaluate import evaluate_split
    from .gallery import Gallery
    from .images import read_image
    from .ingest import index_source
    from .privacy import Pseudonyms, load_pseudonyms

__version__ = "0.1.0"
__all__ = [
    "Encoder",
    "Gallery",
    "Pseudonyms",
    "evaluate_split",
    "index_source",
    "load_encoder",
    "load_pseudonyms",
    "read_image",
]

_HOME = {
    "Encoder": "encoder",
    "Gallery": "gallery",
    "Pseudonyms": "privacy",
    "evaluate_split": "evaluate",
    "index_source": "ingest",
    "load_encoder": "encoder",
    "load_pseudonyms": "privacy",
    "read_image": "images",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cbmir' has no attribute '{name}'")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
