"""Who does the work of a job that looks at files: a command's own processes, or those that stand ready in a server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..gallery import Gallery
from ..images.apart import Apart, in_fresh_workers
from .indexing import encoder_of


@dataclass(frozen=True)
class Hands:
    """apart: where files are decoded. encoder_of: finds the encoder of a gallery, or what asks it in another process;
    the name is where it is now, if it has moved.
    """

    apart: Apart
    encoder_of: Callable[[Gallery, str | None], Any]


OWN = Hands(in_fresh_workers, encoder_of)
"""Fresh processes for the files, and the network in this one."""
