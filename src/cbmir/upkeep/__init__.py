"""What keeps a gallery in order over the years: removal with proof, another encoder, copies, exports."""

from __future__ import annotations

from .copies import backup, restore
from .exporting import export
from .removal import Proof, Removal, remove, what_would_go

__all__ = ["Proof", "Removal", "backup", "export", "remove", "restore", "what_would_go"]
