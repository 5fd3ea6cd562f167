"""Fragments of encapsulated pixels to the streams of frames (PS3.5 A.4), put in order once for all frames of a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..codestream import END_OF_IMAGE, starts_image
from .parse import Fragment, PixelElement

Frame = Sequence[Fragment]
PADDING_AT_THE_END = 10  # bytes in which to look for the end of an image


def group_frames(pixels: PixelElement, n_frames: int, extended: Sequence[int] = ()) -> list[Frame]:
    """The fragments of each frame; fewer frames than asked for when the file has fewer.

    extended: the Extended Offset Table (PS3.3 C.7.6.3.1.8), which wins over the basic one.
    """
    fragments = pixels.fragments
    if n_frames == 1:
        return [fragments] if fragments else []
    for offsets in (extended, pixels.offsets):
        if len(offsets) == n_frames and (frames := _by_offsets(fragments, offsets)):
            return frames
    if len(fragments) <= n_frames:
        return [(fragment,) for fragment in fragments]
    candidates = (_by_starts(fragments), _by_ends(fragments))
    for frames in candidates:
        if len(frames) == n_frames:
            return frames
    return (candidates[0] or candidates[1])[:n_frames]


def count_frames(pixels: PixelElement) -> int:
    """How many frames there are when nobody says: one per start of an image, else per fragment."""
    return len(_by_starts(pixels.fragments)) or len(pixels.fragments)


def join(frame: Iterable[Fragment]) -> bytes:
    """One frame as a decoder wants it."""
    return b"".join(fragment.data for fragment in frame)


def _by_offsets(fragments: Sequence[Fragment], offsets: Sequence[int]) -> list[Frame]:
    """Nothing when an offset is not the place of a fragment."""
    place = {fragment.offset: number for number, fragment in enumerate(fragments)}
    firsts = [place.get(offset, -1) for offset in offsets]
    if firsts[0] != 0 or firsts != sorted(set(firsts)):
        return []
    return _cut(fragments, firsts)


def _by_starts(fragments: Sequence[Fragment]) -> list[Frame]:
    firsts = [number for number, part in enumerate(fragments) if starts_image(bytes(part.data[:12]))]
    return _cut(fragments, firsts) if firsts[:1] == [0] else []


def _by_ends(fragments: Sequence[Fragment]) -> list[Frame]:
    ends = [END_OF_IMAGE in bytes(part.data[-PADDING_AT_THE_END:]) for part in fragments]
    firsts = [0, *(number + 1 for number, end in enumerate(ends[:-1]) if end)]
    return _cut(fragments, firsts)


def _cut(fragments: Sequence[Fragment], firsts: Sequence[int]) -> list[Frame]:
    return [fragments[first:last] for first, last in zip(firsts, [*firsts[1:], len(fragments)], strict=True)]
