"""What a verb does, where it takes more than one call: the modules put together, for the command line and others."""

from __future__ import annotations

from .indexing import IndexSettings, encoder_of, index_into, index_refs, of_split, places
from .searching import check_strip, draw_strip, search_frame
from .single import describe, query_ref, render_file

__all__ = [
    "IndexSettings",
    "check_strip",
    "describe",
    "draw_strip",
    "encoder_of",
    "index_into",
    "index_refs",
    "of_split",
    "places",
    "query_ref",
    "render_file",
    "search_frame",
]
