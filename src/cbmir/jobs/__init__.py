"""What a verb does, where it takes more than one call: the modules put together, for the command line and others."""

from __future__ import annotations

from .batch import search_folder
from .explaining import Explanation, draw_explanation, explain_hit
from .hands import OWN, Hands
from .indexing import IndexSettings, encoder_of, index_into, index_refs, of_split, places
from .searching import Asked, check_strip, draw_strip, read_feedback, search_images
from .single import describe, query_ref, render_file

__all__ = [
    "OWN",
    "Asked",
    "Explanation",
    "Hands",
    "IndexSettings",
    "check_strip",
    "describe",
    "draw_explanation",
    "draw_strip",
    "encoder_of",
    "explain_hit",
    "index_into",
    "index_refs",
    "of_split",
    "places",
    "query_ref",
    "read_feedback",
    "render_file",
    "search_folder",
    "search_images",
]
