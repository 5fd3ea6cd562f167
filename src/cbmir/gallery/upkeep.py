"""A gallery as a whole: what is remembered of removed images, matrices without them, faults and their repair."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import Any

from .. import atlas
from ..errors import BadGallery
from ..index.matrix import compact as compact_matrices
from ..index.matrix import problems as matrix_problems
from ..privacy import Pseudonyms
from ..store import Digests, Problem, Store, thumbnails
from ..store.entries import ProblemKind
from ..types import OWNERS, Record

MATRICES = "matrix"


def digests_of(pseudonyms: Pseudonyms) -> Digests:
    """What a new image is asked for: whether it, or whom it is of, has been removed."""
    return lambda record: [*_digests(record, ("id", *OWNERS), pseudonyms)]


def digests_left_by(pseudonyms: Pseudonyms, what: str) -> Digests:
    """What a removed image leaves. what: id, patient, study or series, by which it was removed.

    A digest under the key tells nothing of a pseudonym, which is another digest: whoever has both needs the key to see
    that they belong together.
    """
    kinds = ("id",) if what == "id" else ("id", what)
    return lambda record: [*_digests(record, kinds, pseudonyms)]


def _digests(record: Record, kinds: Sequence[str], pseudonyms: Pseudonyms) -> Iterator[str]:
    for kind in kinds:
        if name := getattr(record, kind):
            yield digest_of(kind, name, pseudonyms)


def digest_of(kind: str, name: str, pseudonyms: Pseudonyms) -> str:
    """What is left of an id, or of the pseudonym of a patient, study or series, that was removed."""
    return pseudonyms.of("erased", f"{kind} {name}")


def compact(store: Store) -> None:
    """Makes what is derived from the store as it is now, without anything of what was removed: matrices anew, of
    map and thumbnails what stays.
    """
    compact_matrices(store)
    atlas.prune(store)
    thumbnails.tidy(store)


REMEDIES: Mapping[ProblemKind, str] = {
    "database": "restore a backup, or index into a new gallery",
    "index": "`cbmir verify --repair` makes it again",
    "orphan": "`cbmir verify --repair` deletes them",
    "record": "`cbmir verify --repair` drops them, and the next `cbmir index` brings them back",
    "features": "`cbmir verify --repair` drops them, and the next `cbmir index` brings them back",
    "staged": "`cbmir verify --repair` deletes them, and `cbmir reindex` makes them again",
}


def verify(store: Store) -> dict[str, Any]:
    """Compares files, records, features and matrices: {"ok", "records", "problems": one sentence each}."""
    return _told(store, store.problems())


def repair(store: Store) -> dict[str, Any]:
    """Mends what can be mended, and makes the matrices again. As `verify` says it, of what is wrong still, and
    {"repaired": {"dropped": ids of damaged images, "files_due": files that the next index run looks at again}}.
    """
    repaired = store.repair(store.problems())
    for path in (store.directory / MATRICES).glob("*"):
        if not path.is_dir():
            path.unlink(missing_ok=True)
    if thumbnails.problems(store):
        thumbnails.delete(store.directory)
    if atlas.problems(store):
        atlas.delete(store.directory)
    compact(store)
    found = _told(store, store.problems())
    return found | {"repaired": {"dropped": list(repaired.dropped), "files_due": repaired.n_due}}


def _told(store: Store, problems: Sequence[Problem]) -> dict[str, Any]:
    sentences = [f"{problem.sentence}: {REMEDIES[problem.kind]}" for problem in problems]
    with suppress(BadGallery) if problems else nullcontext():  # what is damaged has been told
        sentences += [sentence for layer in store.layers for sentence in matrix_problems(store, layer)]
    sentences += [*atlas.problems(store), *thumbnails.problems(store)]
    return {"ok": not sentences, "records": store.count(), "problems": sentences}
