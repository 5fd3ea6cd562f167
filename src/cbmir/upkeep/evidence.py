"""What a removed image would leave behind, taken down before it goes, so that its absence can be proved afterwards."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from ..index.matrix import open_matrix
from ..privacy import HANDLE_DIGITS, PSEUDONYM_DIGITS
from ..store import State, Store, StoredFile
from ..store.rows import chunks
from ..store.thumbnails import sealed_of
from ..types import OWNERS, Record
from .traces import MOST_PIECES, PIECE, Finder, pieces

Kind = Literal[
    "ids", "pseudonyms", "pixel digests", "handles", "sealed places", "features", "eight-bit features", "thumbnails"
]

_NAME = re.compile(rf"[0-9a-f]{{{PSEUDONYM_DIGITS}}}")
_PARTS = 64  # of a matrix that is looked through


@dataclass
class Evidence:
    """Byte sequences and what they are: of images (ids, pseudonyms, digests, features) and of the files they came from.

    Ids and pseudonyms are there as text and, as they are digits, as the bytes these digits say.
    """

    of_images: dict[bytes, Kind] = field(default_factory=dict)
    of_files: dict[str, dict[bytes, Kind]] = field(default_factory=dict)  # by name (StoredFile.name)

    def add_ids(self, ids: Iterable[str]) -> None:
        for record_id in ids:
            self.add_name(record_id, "ids")

    def add_record(self, record: Record) -> None:
        self.add_ids([record.id])
        for name in owners_of(record):
            self.add_name(name, "pseudonyms")
        if record.pixel_digest:
            self.add_name(record.pixel_digest, "pixel digests")

    def add_file(self, file: StoredFile) -> None:
        """The handle is where its name in the gallery begins, so that both are found by it."""
        here = self.of_files.setdefault(file.name, {})
        if file.handle:
            here[file.handle[:HANDLE_DIGITS].encode()] = "handles"
        if len(file.place) >= PIECE:
            here[file.place[:PIECE]] = "sealed places"

    def add_handles(self, handles: Iterable[str]) -> None:
        """Of files that are forgotten."""
        self.of_images.update({handle[:HANDLE_DIGITS].encode(): "handles" for handle in handles if handle})

    def add_features(self, store: Store, ids: Sequence[str]) -> None:
        """Pieces of every row of every layer of every encoder, and of its eight-bit copy where there is one."""
        layers = list(_layers(store))
        most = max(1, min(8, MOST_PIECES // max(1, len(ids) * len(layers))))
        for layer, state in layers:
            for some in chunks(ids):
                rows = store.rows(layer, some, state).features
                self.of_images.update(dict.fromkeys(pieces(rows, most), "features"))
        for layer in store.layers if ids else ():
            base = open_matrix(store, layer).base
            if base.exact.coarse is not None:
                _, places = base.records.places(ids)
                codes = base.exact.coarse.codes[places[places >= 0]]
                self.of_images.update(dict.fromkeys(pieces(codes, most), "eight-bit features"))

    def add_thumbnails(self, directory: Path, ids: Sequence[str]) -> None:
        """The first bytes of each sealed picture, which no other has."""
        for some in chunks(ids):
            self.of_images.update({sealed[:PIECE]: "thumbnails" for sealed in sealed_of(directory, some)})

    def sequences(self, store: Store) -> dict[bytes, Kind]:
        """All that is looked for, once the images have left the store: of files those that it has forgotten."""
        found = dict(self.of_images)
        for name in self.of_files.keys() - store.files_named(list(self.of_files)).keys():
            found.update(self.of_files[name])
        return found

    def add_name(self, digits: str, kind: Kind) -> None:
        self.of_images.update(dict.fromkeys(_both(digits), kind))


def _both(digits: str) -> tuple[bytes, ...]:
    """None of what is no name: a damaged record has it, and `verify` tells."""
    return (digits.encode(), bytes.fromhex(digits)) if _NAME.fullmatch(digits) else ()


def _layers(store: Store) -> Iterator[tuple[str, State]]:
    states: tuple[State, ...] = ("current", "next", "previous")
    return ((layer, state) for state in states for layer in store.layers_of(state))


def owners_of(record: Record) -> Iterator[str]:
    return (name for kind in OWNERS if (name := getattr(record, kind)))


def still_there(store: Store, sequences: Iterable[bytes]) -> set[bytes]:
    """Which sequences belong to images that stay as well: a pseudonym, the pixels, or pieces of features they share."""
    finder = Finder(sequences)
    found: set[bytes] = set()
    for layer, state in _layers(store):
        for block in store.blocks(layer, state):
            found |= finder.find([block.features.tobytes()])
    for layer in store.layers:
        if (coarse := open_matrix(store, layer).base.exact.coarse) is not None:
            found |= finder.find(some.tobytes() for some in np.array_split(coarse.codes, _PARTS))
    for records in store.describe():
        for record in records:
            texts = [record.id, *owners_of(record), record.pixel_digest or ""]
            found.update(form for digits in texts for form in _both(digits))
    return found & set(sequences)


def counted(kinds: Iterable[Kind]) -> dict[str, int]:
    return dict(sorted(Counter(kinds).items()))
