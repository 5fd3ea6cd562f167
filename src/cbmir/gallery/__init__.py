"""The one door to a gallery: open, add, search, verify.

    DIR/gallery.sqlite   the store: the truth
    DIR/matrix/          features in the order they are searched, derived (index/matrix.py)
    DIR/reports/         what every index run did

A gallery is one directory, all under one encoder. Searching by a stored id needs no network.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..atlas import AtlasReport, bring_up_to_date
from ..atlas.points import Points, points_of
from ..errors import BadGallery, UsageError
from ..index.ann import Kind, build_ann, with_ann
from ..index.matrix import Matrix, open_matrix
from ..places import Place, entry_of, has_left, is_gone, place_of, ref_of
from ..store import Added, Entry, Store, StoredFile, Survey
from ..types import ImageRef, Ranking, Record
from ..where import Where, facets
from .answering import answer
from .card import EncoderCard, card_of
from .query import NewImage, Query
from .upkeep import digests_of, verify

__all__ = ["Duplicates", "EncoderCard", "Gallery", "NewImage", "Query", "card_of"]

Duplicates = Literal["keep", "skip"]
"""What becomes of an image whose pixels are in the gallery under another id."""

if TYPE_CHECKING:  # searching by id needs none of them
    from ..encoder import Encoder
    from ..extract import Extracted
    from ..privacy import Pseudonyms


class Gallery:
    """Opened with `create` or `open`, best in a `with`. Many may read a directory while one writes.

    encoder: the card of the encoder it belongs to. layers: name -> dim, the default first.
    """

    def __init__(self, store: Store, matrices: dict[str, Matrix] | None = None) -> None:
        self._store = store
        self._matrices: dict[str, Matrix] = {} if matrices is None else matrices
        meta = store.meta()
        self._key: str = meta["pseudonyms"]
        with store.snapshot():
            card, layers, self._encoder_number = store.card() or {}, store.layers, store.encoder_number()
        self.encoder = EncoderCard(**{**card, "classes": tuple(card["classes"]), "layers": layers})

    @classmethod
    def create(
        cls,
        directory: Path,
        encoder: Encoder,
        pseudonyms: Pseudonyms,
        *,
        encoder_path: str | None = None,
        masked: bool = False,
    ) -> Gallery:
        """A new gallery for what this encoder makes. encoder_path, masked: how to load it again, its name by default.

        Raises BadGallery when the directory holds one, or anything else.
        """
        if bad := [layer for layer in encoder.layers if not layer.replace("-", "").replace("_", "").isalnum()]:
            raise BadGallery(f"a layer is named with letters, digits, - and _, not {bad[0]!r}")
        card = replace(card_of(encoder, encoder_path), masked=masked)
        meta = {"pseudonyms": pseudonyms.fingerprint}
        return cls(Store.create(Path(directory), encoder.layers, meta, card=asdict(card)))

    @classmethod
    def open(cls, directory: Path) -> Gallery:
        """A gallery that is there, for reading only where it cannot be written; raises BadGallery otherwise."""
        return cls(Store.open(Path(directory)))

    @classmethod
    def open_shared(cls, directory: Path, matrices: dict[str, Matrix]) -> Gallery:
        """The same for a program of many threads, of which one at a time uses it. matrices: what is in memory of them;
        of all that are open of this directory.
        """
        return cls(Store.open(Path(directory), any_thread=True), matrices)

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._matrices = {}  # others may hold them still
        self._store.close()

    @property
    def is_current(self) -> bool:
        """Whether the gallery still has the encoder it had when it was opened."""
        return self._encoder_number == self._store.encoder_number()

    @property
    def directory(self) -> Path:
        return self._store.directory

    @property
    def store(self) -> Store:
        """The record of truth, for what changes or checks a gallery as a whole."""
        return self._store

    @property
    def layers(self) -> Mapping[str, int]:
        return self.encoder.layers

    @property
    def default_layer(self) -> str:
        return next(iter(self.layers))

    @property
    def encoder_fingerprint(self) -> str:
        return self.encoder.fingerprint

    @property
    def encoder_path(self) -> str:
        return self.encoder.path

    @property
    def count(self) -> int:
        """How many records there are."""
        return self._store.count()

    def check_encoder(self, encoder: Encoder) -> None:
        """Raises BadGallery unless this encoder, in this precision, made the gallery."""
        other = card_of(encoder)
        if (other.fingerprint, other.precision) != (self.encoder.fingerprint, self.encoder.precision):
            raise BadGallery(
                f"the gallery {self.directory} was made with encoder {self.encoder}, not {other}; "
                "`cbmir reindex --encoder NAME` takes it over"
            )

    def check_pseudonyms(self, pseudonyms: Pseudonyms) -> None:
        """Raises BadGallery when ids made with this key would not be those of the gallery."""
        if pseudonyms.fingerprint != self._key:
            raise BadGallery(
                f"the gallery {self.directory} was made with pseudonym key {self._key}, not {pseudonyms.fingerprint}; "
                "set CBMIR_KEY_FILE to the file of that key"
            )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the right to write; raises BadGallery when another process has it."""
        with self._store.writing():
            yield

    def add(self, files: Iterable[Extracted], pseudonyms: Pseudonyms) -> Added:
        """Adds what was extracted from files, in one transaction: whole and durable when it returns."""
        return self.put([entry_of(file, pseudonyms) for file in files], pseudonyms)

    def put(self, entries: Sequence[Entry], pseudonyms: Pseudonyms, *, duplicates: Duplicates = "keep") -> Added:
        """Writes files with their images, in one transaction: whole and durable when it returns.

        A file that is known loses its old records first. The first of two images with one id stays, unless its file
        is gone or has changed: then it goes over to the other. duplicates: what becomes of the later of two images
        with other ids and the same pixels. Images that were removed, or are of whom was removed, are left out.
        """
        self.check_pseudonyms(pseudonyms)
        return self._store.add(
            entries,
            gone=lambda file: has_left(file, pseudonyms),
            skip_same_pixels=duplicates == "skip",
            erased=digests_of(pseudonyms),
            encoder=self._encoder_number,
        )

    def touch(self, files: Iterable[StoredFile]) -> None:
        """Remembers new sizes and times of files whose content is the same."""
        self._store.touch(files)

    def survey(self) -> AbstractContextManager[Survey]:
        """What the gallery knows of the files of a source, for whoever walks through it."""
        return self._store.survey()

    def known(self, names: Sequence[str]) -> dict[str, StoredFile]:
        """What the gallery knows of the files of these names (Pseudonyms.file_name)."""
        return self._store.files_named(names)

    def files(self, pseudonyms: Pseudonyms, handles: Sequence[str] = ()) -> Iterator[Place]:
        """Where files are and what became of them: those with these handles, or all. Files without a place are left
        out: a gallery of version 1 had them, and they are found again when their folders are indexed.

        Raises BadGallery for another key.
        """
        self.check_pseudonyms(pseudonyms)
        return (place_of(file, pseudonyms) for file in self._store.files(handles) if file.place)

    def record(self, record_id: str) -> Record:
        """Raises BadGallery when there is none of this id."""
        record = self._store.record(record_id)
        if record is None:
            raise BadGallery(f"there is no image {record_id} in the gallery {self.directory}")
        return record

    def records(self, ids: Sequence[str]) -> dict[str, Record]:
        return self._store.records(ids)

    def ids(self) -> list[str]:
        """All ids, in order."""
        return self._store.ids()

    def image_ref(self, record_id: str, pseudonyms: Pseudonyms) -> ImageRef | None:
        """The file, or member of an archive, an image came from, for showing it; None when it is no longer there.

        Raises BadGallery for another key.
        """
        self.check_pseudonyms(pseudonyms)
        file = self._store.file_of(record_id)
        ref = None if file is None else ref_of(file, pseudonyms)
        return None if ref is None or is_gone(ref) else ref

    def search(self, query: Query) -> Ranking:
        """The images most like a query, or whatever else it asks for. Needs no encoder.

        Raises BadGallery for an id or series that is not here, UsageError for a layer, gate or filter that cannot be.
        """
        layer = self.layer_named(query.layer)
        matrix = self._matrix(layer)
        if matrix.base.encoder != self._encoder_number:  # reindex has swapped it meanwhile
            raise BadGallery(f"the gallery {self.directory} has another encoder now; open it again")
        return answer(self._store, matrix, self.encoder, layer, query)

    def search_id(self, record_id: str, k: int = 10, **options: Any) -> Ranking:
        """Images like one of the gallery. options: of a Query."""
        return self.search(Query(ids=(record_id,), k=k, **options))

    def facets(self, where: Where | None = None) -> dict[str, dict[str, int]]:
        """Of the images that pass: how many have each value of each column, the most frequent first; '' for none."""
        matrix = self._matrix(self.default_layer)
        passing = matrix.live if where is None else where.mask(matrix.columns) & matrix.live
        return facets(matrix.columns, np.flatnonzero(passing))

    def browse(self, where: Where | None = None, offset: int = 0, limit: int = 50) -> tuple[int, list[Record]]:
        """How many images pass, and some of them, in the order of classes; what came lately last."""
        matrix = self._matrix(self.default_layer)
        passing = np.flatnonzero(matrix.live if where is None else where.mask(matrix.columns) & matrix.live)
        ids = matrix.names(passing[offset : offset + limit])
        records = self.records(ids)
        return len(passing), [records[record_id] for record_id in ids if record_id in records]

    def draw_atlas(self) -> AtlasReport:
        """Brings the map of the gallery up to date (atlas/)."""
        with self.writing():
            return bring_up_to_date(self._store, self.default_layer)

    def atlas(self, known: Points | None = None) -> Points | None:
        """The map as the gallery is now; None where there is none. known: what this gave before."""
        return points_of(self.directory, self._matrix(self.default_layer), known)

    def info(self) -> dict[str, Any]:
        """What `cbmir info` prints: encoder, counts of records and files."""
        counts = {f"by_{column}": self._store.counts(column) for column in ("class", "modality", "source")}
        patients = self._store.counts("patient")
        return {
            "directory": str(self.directory),
            "encoder": {**asdict(self.encoder), "layers": dict(self.layers)},
            "pseudonyms": self._key,
            "records": self.count,
            "patients": len(patients.keys() - {""}),
            "files": self._store.outcomes(),
            **counts,
        }

    def verify(self) -> dict[str, Any]:
        """Compares files, records, features and matrices: {"ok", "records", "problems": one sentence each}."""
        return verify(self._store)

    def accelerate(self, layer: str | None = None, kind: Kind = "hnsw") -> dict[str, Any]:
        """Makes an approximate index of a layer (index/ann.py), which takes minutes; returns what it measured of it."""
        with self.writing():
            report = build_ann(self._store, self.layer_named(layer), kind)
        self._matrices.clear()
        return report

    def layer_named(self, layer: str | None) -> str:
        """The default layer for None. Raises UsageError for a layer the gallery does not have."""
        layer = layer or self.default_layer
        if layer not in self.layers:
            raise UsageError(f"there is no layer {layer!r}; the layers are {', '.join(self.layers)}")
        return layer

    def _matrix(self, layer: str) -> Matrix:
        """The matrix of a layer as the store is now."""
        matrix = self._matrices.get(layer)
        if matrix is None or matrix.generation != self._store.generation():
            now = open_matrix(self._store, layer, known=matrix)
            matrix = self._matrices[layer] = with_ann(now, self._store, known=matrix)
        return matrix
