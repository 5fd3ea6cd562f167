"""From a query to its ranking: what is searched with, what is left out, what is found, and what it is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..confidence import scores
from ..errors import BadGallery, UsageError
from ..fusion import best_of_each, least_similar, most_similar, rank_series
from ..index import NO_POSITIONS, Found, Scope
from ..index.matrix import Matrix
from ..rerank import Reranking, reranked, reranking_of
from ..search import rocchio, scope_of
from ..store import Store
from ..types import Float32, Hide, Hit, Int, Owner, Ranking, Record
from .card import EncoderCard
from .likeness import in_distribution
from .query import NewImage, Query


def answer(store: Store, matrix: Matrix, encoder: EncoderCard, layer: str, query: Query) -> Ranking:
    """The ranking of a query. matrix: of the layer, as the store is now.

    Raises BadGallery for an id or series that the gallery does not have, UsageError for what the query lacks.
    """
    judged = query.feedback
    images = [*_stored(query, store, matrix), *(_new(image, query.hide, store, matrix) for image in query.images)]
    if not images:
        raise UsageError("a search needs an image to start from")
    liked, unliked = (list(_judged(ids, store, matrix).values()) for ids in (judged.like, judged.unlike))
    passing = None if query.where is None else query.where.mask(matrix.columns) & matrix.live
    posterior = _mean([image.posterior for image in images if image.posterior is not None])
    scope = scope_of(
        query.gate,
        matrix.index.groups,
        posterior,
        encoder.classes,
        encoder.calibration.get("soft_gate_tau", {}).get(layer),
        _hidden(query.hide, [*images, *liked], unliked, matrix),
        None if passing is None else np.flatnonzero(passing),
    )
    scope = replace(scope, exact=query.exact)
    owner: Owner | None = "series" if query.rank_series else query.group_by
    owners = None if owner is None else _owner_numbers(matrix, owner)
    reranking = reranking_of(query.rerank, encoder.calibration, layer)
    found, votes = _found(query, matrix, scope, _moved(images, liked, unliked, query), owners, reranking)
    page = slice(query.offset, query.offset + query.k)
    shown = found.at(page)
    more = {
        "score": scores(shown.distances, encoder.calibration, layer) if _is_to_an_image(query, images) else None,
        "n_images": None if owners is None else _sizes(shown.positions, owners, scope, matrix),
        "votes": None if votes is None else votes[page],
    }
    usual, unlike = in_distribution(
        matrix.index,
        _features(images),
        Scope(hidden=_hidden(query.hide, images, (), matrix), exact=query.exact),
        encoder.calibration,
        layer,
        found if _is_all_that_is_near(query, images) else None,
    )
    return Ranking(
        hits=_named(shown, more, query.offset, store, matrix),
        layer=layer,
        gate=query.gate,
        predicted=_likeliest_first(encoder.classes, posterior),
        in_distribution=usual,
        query_ids=tuple(image.record.id for image in images if image.record is not None),
        n_candidates=found.n_candidates,
        n_allowed=int(np.count_nonzero(matrix.live if passing is None else passing)),
        offset=query.offset,
        where=None if query.where is None else str(query.where),
        grouped_by=owner,
        order=query.order,
        rerank=query.rerank,
        feedback=judged,
        notes=(*unlike, *_notes(query, matrix, reranking)),
        by=found.by,
    )


def _notes(query: Query, matrix: Matrix, reranking: Reranking | None) -> Iterator[str]:
    if query.where is not None:
        yield from query.where.notes(matrix.columns, np.flatnonzero(matrix.live))
    if reranking is not None and reranking.changes_nothing:
        yield f"{query.rerank} made no ranking better on validation, and changes nothing here"


@dataclass(frozen=True)
class _Image:
    """An image of the query, or a judged one. hidden: positions of itself, and for a new one of its owner as it and
    the gallery know it."""

    features: Float32
    record: Record | None
    posterior: Float32 | None = None
    hidden: Int = field(default_factory=lambda: NO_POSITIONS)


def _stored(query: Query, store: Store, matrix: Matrix) -> list[_Image]:
    ids = list(query.ids)
    if query.series is not None:
        slices = matrix.names(matrix.belonging_to("series", query.series))
        if not slices:
            raise BadGallery(f"there is no series {query.series} in the gallery {store.directory}")
        ids += slices
    images = _judged(ids, store, matrix)
    return [replace(image, posterior=store.posterior(name)) for name, image in images.items()]


def _judged(ids: Sequence[str], store: Store, matrix: Matrix) -> dict[str, _Image]:
    """Images of the gallery by their ids."""
    wanted = list(dict.fromkeys(ids))
    records = store.records(wanted)
    for name in wanted:
        if name not in records:
            raise BadGallery(f"there is no image {name} in the gallery {store.directory}")
    positions = matrix.positions(wanted)
    if (positions < 0).any():
        raise BadGallery("an image of the query has just changed in the gallery; search again")
    rows = matrix.index.features(positions)
    return {name: _Image(rows[i], records[name], hidden=positions[i : i + 1]) for i, name in enumerate(wanted)}


def _new(image: NewImage, hide: Hide, store: Store, matrix: Matrix) -> _Image:
    """With what the gallery knows of it, where it is there and is to be hidden."""
    stored = None if image.record is None or hide == "none" else store.record(image.record.id)
    if stored is None or hide == "none":
        return _Image(image.features, image.record, image.posterior)
    itself = matrix.position(stored.id)
    own = matrix.belonging_to(hide, getattr(stored, hide))
    hidden = own if itself is None else np.append(own, itself)
    return _Image(image.features, image.record, image.posterior, hidden)


def _hidden(hide: Hide, own: Sequence[_Image], unliked: Sequence[_Image], matrix: Matrix) -> Int:
    """Positions of the images themselves, and of the owners of the query's and the liked ones."""
    parts = [image.hidden for image in (*own, *unliked)]
    if hide != "none":
        owners = {getattr(image.record, hide) for image in own if image.record is not None}
        parts += [matrix.belonging_to(hide, owner) for owner in sorted(owners - {None})]
    return np.unique(np.concatenate([NO_POSITIONS, *parts]))


def _mean(posteriors: Sequence[Float32]) -> Float32 | None:
    return np.asarray(np.mean(posteriors, axis=0, dtype=np.float64), np.float32) if posteriors else None


def _moved(images: Sequence[_Image], liked: Sequence[_Image], unliked: Sequence[_Image], query: Query) -> Float32:
    """What is searched with: float32 (m, dim), moved by what was judged."""
    rows = _features(images)
    if query.combine == "centroid" and query.rank_series is None:
        rows = rows.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
    return rocchio(rows, _features(liked), _features(unliked)) if liked or unliked else rows


def _features(images: Sequence[_Image]) -> Float32:
    return np.array([image.features for image in images], np.float32)


def _is_to_an_image(query: Query, images: Sequence[_Image]) -> bool:
    """Whether the distance of a hit is that of two images, which is what a score is fitted on: not that to a mean, nor
    to a moved query, nor that of series."""
    judged = query.feedback.like or query.feedback.unlike
    return not judged and query.rank_series is None and (len(images) == 1 or query.combine == "max")


_USUAL = Query()


def _is_all_that_is_near(query: Query, images: Sequence[_Image]) -> bool:
    """Whether the first rows found are the nearest of one image in the whole gallery, but for what is hidden."""
    same = ("gate", "where", "feedback", "order", "rerank", "group_by", "rank_series")
    return len(images) == 1 and all(getattr(query, name) == getattr(_USUAL, name) for name in same)


def _found(
    query: Query, matrix: Matrix, scope: Scope, rows: Float32, owners: Int | None, reranking: Reranking | None
) -> tuple[Found, Int | None]:
    """The best hits down to the end of the page, and where series are ranked by votes, these."""
    index, end = matrix.index, query.offset + query.k
    if query.rank_series is not None and owners is not None:
        scope = replace(scope, farthest=query.order == "least")
        found, votes = rank_series(index, rows, end, scope, matrix.names, owners, query.rank_series)
        return found, votes if query.rank_series == "votes" else None

    def find(depth: int) -> Found:
        if query.order == "least":
            return least_similar(index, rows, depth, scope)
        return reranked(index, rows, depth, scope, reranking, nearest)

    def nearest(some: Float32, depth: int) -> Found:
        return most_similar(index, some, depth, scope, matrix.names)

    return find(end) if owners is None else best_of_each(find, owners, end), None


def _owner_numbers(matrix: Matrix, kind: Owner) -> Int:
    """int64 (n,): whose each row is, from 0; a row that is known to be nobody's is its own."""
    names, numbers = matrix.owners[kind]
    return np.where(numbers < 0, len(names) + np.arange(len(numbers)), numbers)


def _sizes(positions: Int, owners: Int, scope: Scope, matrix: Matrix) -> Int:
    """How many of the compared images are of the owners of these positions."""
    wanted = np.zeros(int(owners.max()) + 1 if len(owners) else 0, np.bool_)
    wanted[owners[positions]] = True
    theirs = wanted[owners]
    if scope.rows is not None:
        passing = np.zeros(len(owners), np.bool_)
        passing[scope.rows] = True
        theirs &= passing
    compared = matrix.index.rank(np.zeros(len(owners), np.float32), replace(scope, rows=np.flatnonzero(theirs)))
    counts = np.bincount(owners[compared.positions], minlength=len(wanted))
    return counts[owners[positions]]


def _named(
    found: Found, more: Mapping[str, npt.NDArray[Any] | None], offset: int, store: Store, matrix: Matrix
) -> tuple[Hit, ...]:
    """more: what else is told of each hit, by the names of a Hit."""
    ids = matrix.names(found.positions)
    records = store.records(ids)
    # an image removed since the matrix was read is no hit any more
    there = [place for place, name in enumerate(ids) if name in records]
    columns = {name: values.tolist() for name, values in more.items() if values is not None}
    return tuple(
        Hit(
            rank,
            ids[place],
            float(found.distances[place]),
            records[ids[place]],
            **{name: values[place] for name, values in columns.items()},
        )
        for rank, place in enumerate(there, offset + 1)
    )


def _likeliest_first(classes: Sequence[str], posterior: Float32 | None) -> tuple[tuple[str, float], ...]:
    if posterior is None:
        return ()
    order = np.argsort(-posterior, kind="stable").tolist()
    return tuple((classes[i], float(posterior[i])) for i in order)
