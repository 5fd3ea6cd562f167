"""What has changed since the files of a matrix were made: the rows as they are now, read from the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..store import Block, Store
from ..types import OWNERS, Int, Record
from .columns import Gathered, Records
from .exact import ExactIndex, order_of, slices_of, squared_norms
from .layered import LayeredIndex


@dataclass(frozen=True)
class Base:
    """The files of a layer as they are: what they were made of, and an index over all their rows."""

    generation: int
    encoder: int
    records: Records
    exact: ExactIndex


@dataclass(frozen=True)
class Delta:
    """block, records: what came or changed after the base was made, as it is now, in (class, id) order.

    outdated: positions of the base that they, or nothing any more, take the place of; ascending.
    """

    block: Block
    records: tuple[Record, ...]
    outdated: Int

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def gathered(self) -> Gathered:
        return Gathered([self.records])

    @cached_property
    def places(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.block.ids)}


def read_delta(store: Store, layer: str, touched: Sequence[str], base: Base, before: Delta | None) -> Delta:
    """The rows of some ids as they are now, and those of an earlier delta that are not touched. In a snapshot."""
    block = store.rows(layer, touched)
    there = set(block.ids)
    records = tuple(record for batch in store.describe(touched) for record in batch if record.id in there)
    _, old = base.records.places(touched)
    fresh = Delta(block, records, np.sort(old[old >= 0]))
    return fresh if before is None else _renewed(before, fresh, frozenset(touched))


def _renewed(before: Delta, fresh: Delta, touched: frozenset[str]) -> Delta:
    kept = [row for row, name in enumerate(before.block.ids) if name not in touched]
    ids = [*(before.block.ids[row] for row in kept), *fresh.block.ids]
    groups = [*(before.block.groups[row] for row in kept), *fresh.block.groups]
    records = [*(before.records[row] for row in kept), *fresh.records]
    features = np.concatenate([before.block.features[kept], fresh.block.features])
    order = sorted(range(len(ids)), key=lambda row: (groups[row], ids[row]))
    records = [records[row] for row in order]
    block = Block(
        tuple(ids[row] for row in order),
        tuple(groups[row] for row in order),
        {kind: tuple(getattr(record, kind) for record in records) for kind in OWNERS},
        features[order],
    )
    return Delta(block, tuple(records), np.union1d(before.outdated, fresh.outdated))


def layered(base: Base, delta: Delta) -> LayeredIndex:
    """A row of the delta stands before the row of the base that has its place among the ids."""
    block, m = delta.block, len(delta)
    order = order_of(block.ids)
    rows = ExactIndex(block.features, squared_norms(block.features), slices_of(block.groups), order)
    places, _ = base.records.places(block.ids)
    id_order = np.concatenate([base.exact.id_order * (m + 1) + m, places * (m + 1) + order])
    return LayeredIndex(base.exact, rows, delta.outdated, id_order)
