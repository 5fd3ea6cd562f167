"""The one door to a gallery: open, add, search, verify.

    DIR/gallery.sqlite   the store: the truth
    DIR/matrix/          features in the order they are searched, derived (index/matrix.py)
    DIR/reports/         what every index run did

A gallery is one directory, all under one encoder. Searching by a stored id needs no network.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import BadGallery, UsageError
from ..index import NO_POSITIONS, Found
from ..index.matrix import Matrix, open_matrix, problems, remove_unfinished
from ..places import Place, entry_of, has_left, is_gone, place_of, ref_of
from ..search import search
from ..store import Added, Entry, Store, StoredFile, Survey
from ..types import HIDES, Float32, Gate, Hide, Hit, ImageRef, Int, Ranking, Record

Duplicates = Literal["keep", "skip"]
"""What becomes of an image whose pixels are in the gallery under another id."""

if TYPE_CHECKING:  # searching by id needs none of them
    from ..encoder import Encoder
    from ..extract import Extracted
    from ..privacy import Pseudonyms


@dataclass(frozen=True)
class EncoderCard:
    """What a gallery remembers of its encoder. path: where `load_encoder` finds it, as it was given; masked: whether
    it sees nothing outside the regions of ultrasound.
    """

    name: str
    fingerprint: str
    precision: str
    path: str
    layers: Mapping[str, int]
    classes: tuple[str, ...] = ()
    calibration: Mapping[str, Any] = field(default_factory=dict)
    masked: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint}, {self.precision})"


class Gallery:
    """Opened with `create` or `open`, best in a `with`. Many may read a directory while one writes.

    encoder: the card of the encoder it belongs to. layers: name -> dim, the default first.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._matrices: dict[str, Matrix] = {}
        meta = store.meta()
        self._key: str = meta["pseudonyms"]
        card = meta["encoder"]
        self.encoder = EncoderCard(**{**card, "classes": tuple(card["classes"]), "layers": store.layers})

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
        meta = {"encoder": asdict(card), "pseudonyms": pseudonyms.fingerprint}
        return cls(Store.create(Path(directory), encoder.layers, meta))

    @classmethod
    def open(cls, directory: Path) -> Gallery:
        """A gallery that is there, for reading only where it cannot be written; raises BadGallery otherwise."""
        return cls(Store.open(Path(directory)))

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._matrices.clear()
        self._store.close()

    @property
    def directory(self) -> Path:
        return self._store.directory

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
            raise BadGallery(f"the gallery {self.directory} was made with encoder {self.encoder}, not {other}")

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
            remove_unfinished(self._store)
            yield

    def add(self, files: Iterable[Extracted], pseudonyms: Pseudonyms) -> Added:
        """Adds what was extracted from files, in one transaction: whole and durable when it returns."""
        return self.put([entry_of(file, pseudonyms) for file in files], pseudonyms)

    def put(self, entries: Sequence[Entry], pseudonyms: Pseudonyms, *, duplicates: Duplicates = "keep") -> Added:
        """Writes files with their images, in one transaction: whole and durable when it returns.

        A file that is known loses its old records first. The first of two images with one id stays, unless its file
        is gone or has changed: then it goes over to the other. duplicates: what becomes of the later of two images
        with other ids and the same pixels.
        """
        self.check_pseudonyms(pseudonyms)
        return self._store.add(
            entries, gone=lambda file: has_left(file, pseudonyms), skip_same_pixels=duplicates == "skip"
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

    def search_id(
        self,
        record_id: str,
        k: int = 10,
        *,
        layer: str | None = None,
        gate: Gate = "off",
        hide: Hide = "patient",
    ) -> Ranking:
        """Images like one of the gallery, which is itself never among them. Needs no encoder.

        layer: None for the default. hide: whose images are left out; an unknown patient hides nothing.
        """
        layer = self.layer_named(layer)
        record = self.record(record_id)
        matrix = self._matrix(layer)
        position = matrix.position(record.group, record_id)
        if position is None:
            raise BadGallery(f"image {record_id} has just changed in the gallery; search again")
        own = np.append(self._own(matrix, hide, _owners_of(record)), position)
        posterior = self._store.posterior(record_id)
        return self._ranking(matrix, matrix.index.rows[position], posterior, k, layer, gate, own, record_id)

    def search_features(
        self,
        features: Float32,
        posterior: Float32 | None = None,
        k: int = 10,
        *,
        layer: str | None = None,
        gate: Gate = "off",
        hide: Hide = "patient",
        query: Record | None = None,
    ) -> Ranking:
        """Images like a new one. features: float32 (dim,) of the layer; posterior: float32 (K,).

        query: what is known of the new image; its patient, study or series is hidden as `hide` says, and so is
        the image itself unless hide is none. An image that is in the gallery is also of whom the gallery says:
        a manifest may know the patient that the file does not tell.
        """
        layer = self.layer_named(layer)
        matrix = self._matrix(layer)
        own = NO_POSITIONS if query is None else self._own_of_new(matrix, hide, query)
        query_id = None if query is None else query.id
        return self._ranking(matrix, features, posterior, k, layer, gate, own, query_id)

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
        found = self._store.problems()
        for layer in self.layers:
            found += problems(self._store, layer)
        return {"ok": not found, "records": self.count, "problems": found}

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
            matrix = self._matrices[layer] = open_matrix(self._store, layer)
        return matrix

    def _own(self, matrix: Matrix, hide: Hide, owners: Mapping[str, str | None]) -> Int:
        if hide not in HIDES:
            raise UsageError(f"one hides {', '.join(HIDES)}, not {hide!r}")
        return NO_POSITIONS if hide == "none" else matrix.belonging_to(hide, owners[hide])

    def _own_of_new(self, matrix: Matrix, hide: Hide, query: Record) -> Int:
        own = self._own(matrix, hide, _owners_of(query))
        stored = self._store.record(query.id)
        if stored is None or hide == "none":
            return own
        itself = matrix.position(stored.group, stored.id)
        known = self._own(matrix, hide, _owners_of(stored))
        return np.concatenate([own, known, NO_POSITIONS if itself is None else [itself]])

    def _ranking(
        self,
        matrix: Matrix,
        features: Float32,
        posterior: Float32 | None,
        k: int,
        layer: str,
        gate: Gate,
        own: Int,
        query_id: str | None,
    ) -> Ranking:
        tau = self.encoder.calibration.get("soft_gate_tau", {}).get(layer)
        classes = self.encoder.classes
        found = search(
            matrix.index, features, k=k, gate=gate, posterior=posterior, classes=classes, tau=tau, hidden=own
        )
        return Ranking(
            hits=self._hits(matrix, found),
            layer=layer,
            gate=gate,
            predicted=_likeliest_first(classes, posterior),
            query_id=query_id,
            n_candidates=found.n_candidates,
        )

    def _hits(self, matrix: Matrix, found: Found) -> tuple[Hit, ...]:
        ids = matrix.names(found.positions)
        records = self._store.records(ids)
        # an image removed since the matrix was read is no hit any more
        there = [(i, d) for i, d in zip(ids, found.distances.tolist(), strict=True) if i in records]
        return tuple(Hit(rank, i, distance, records[i]) for rank, (i, distance) in enumerate(there, 1))


def card_of(encoder: Encoder, path: str | None = None) -> EncoderCard:
    return EncoderCard(
        name=encoder.name,
        fingerprint=encoder.fingerprint,
        precision=encoder.precision,
        path=path or encoder.name,
        layers=dict(encoder.layers),
        classes=tuple(encoder.classes),
        calibration=dict(encoder.calibration),
    )


def _owners_of(record: Record) -> dict[str, str | None]:
    return {"patient": record.patient, "study": record.study, "series": record.series}


def _likeliest_first(classes: Sequence[str], posterior: Float32 | None) -> tuple[tuple[str, float], ...]:
    if posterior is None:
        return ()
    order = np.argsort(-np.asarray(posterior), kind="stable").tolist()
    return tuple((classes[i], float(posterior[i])) for i in order)
