"""What is known of the rows beside their features: ids, owners, and columns of values, each value a small number.

    DIR/matrix/records.columns     (a file of arrays, arrays.py)
        ids, by_id, id_order           bytes (n,); position of each id in order; place of each row's id in that order
        owner/patient, study, series   per kind /names (in order) and /codes: int32 (n,), -1 unknown
        column/modality, class, ...    per column /text (all values in order, UTF-8, side by side), /ends, /codes

In the order of the rows of the layers. It holds pseudonyms and words of records, no text that a record does not hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..types import OWNERS, Int, Record
from .arrays import Array, Arrays, Writer
from .exact import order_of, slices_of

Int32 = npt.NDArray[np.int32]

FIXED = ("class", "label", "predicted", "modality", "source")
"""Columns of every gallery; `class` is what a gate asks for (Record.group)."""


class Column(NamedTuple):
    """One thing known of every row. codes: int32 (n,), which of the values it is, -1 for unknown."""

    values: tuple[str, ...]
    codes: Int32


def described(record: Record) -> dict[str, str]:
    """What the columns hold of a record: the fixed ones, its labels, its attributes; a name that comes first wins."""
    fixed = {
        "class": record.group, "label": record.label, "predicted": record.predicted,
        "modality": record.modality, "source": record.source,
    }  # fmt: skip
    labels = {name: value for name, value in record.labels.items() if name != "class"}
    return {name: value for name, value in {**record.attributes, **labels, **fixed}.items() if value}


class _Coding:
    """Numbers for values, in the order they come. codes may be shorter than the rows: the rest is unknown."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.codes: list[int] = []

    def put(self, row: int, value: str) -> None:
        self.codes.extend([-1] * (row - len(self.codes)))
        self.codes.append(self.numbers.setdefault(value, len(self.numbers)))

    def column(self, n_rows: int) -> Column:
        """Its values in order."""
        values = sorted(self.numbers)
        place = np.empty(len(values) + 1, np.int32)
        place[[self.numbers[value] for value in values]] = np.arange(len(values))
        place[-1] = -1
        codes = np.full(n_rows, -1, np.int32)
        codes[: len(self.codes)] = self.codes
        return Column(tuple(values), place[codes])


class Gathered:
    """What is kept of records while they stream by, in (class, id) order."""

    def __init__(self, batches: Iterable[Sequence[Record]]) -> None:
        self.ids: list[str] = []
        self.groups: list[str] = []
        self._owners = {kind: _Coding() for kind in OWNERS}
        self._columns: dict[str, _Coding] = {name: _Coding() for name in FIXED}
        for batch in batches:
            for record in batch:
                self._add(record)

    def _add(self, record: Record) -> None:
        row = len(self.ids)
        self.ids.append(record.id)
        self.groups.append(record.group)
        for kind, coding in self._owners.items():
            if (name := getattr(record, kind)) is not None:
                coding.put(row, name)
        for name, value in described(record).items():
            self._columns.setdefault(name, _Coding()).put(row, value)

    def owners(self) -> dict[str, Column]:
        return {kind: coding.column(len(self.ids)) for kind, coding in self._owners.items()}

    def columns(self) -> dict[str, Column]:
        return {name: coding.column(len(self.ids)) for name, coding in sorted(self._columns.items())}


def write_columns(gathered: Gathered, writer: Writer, stamp: Mapping[str, Any]) -> None:
    order = order_of(gathered.ids)
    by_id = np.empty_like(order)
    by_id[order] = np.arange(len(order))
    writer.put("ids", _encoded(gathered.ids))
    writer.put("by_id", by_id)
    writer.put("id_order", order)
    for kind, column in gathered.owners().items():
        writer.put(f"owner/{kind}/names", _encoded(column.values))
        writer.put(f"owner/{kind}/codes", column.codes)
    columns = gathered.columns()
    for name, column in columns.items():
        texts = [value.encode() for value in column.values]
        writer.put(f"column/{name}/text", np.frombuffer(b"".join(texts), np.uint8))
        writer.put(f"column/{name}/ends", np.cumsum([len(text) for text in texts], dtype=np.int64))
        writer.put(f"column/{name}/codes", column.codes)
    groups = [[name, rows.stop - rows.start] for name, rows in slices_of(gathered.groups).items()]
    writer.finish({**stamp, "groups": groups, "columns": list(columns)})


@dataclass(frozen=True)
class Records:
    """The file, as it is mapped. Nothing is read before it is asked for."""

    arrays: Arrays

    @cached_property
    def ids(self) -> npt.NDArray[np.bytes_]:
        return self.arrays["ids"]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def groups(self) -> dict[str, slice]:
        sizes = self.arrays.header["groups"]
        ends = np.cumsum([0] + [rows for _, rows in sizes]).tolist()
        return {name: slice(ends[i], ends[i + 1]) for i, (name, _) in enumerate(sizes)}

    @cached_property
    def names(self) -> list[str]:
        """Of the columns."""
        return list(self.arrays.header["columns"])

    def column(self, name: str) -> Column:
        text, ends = self.arrays[f"column/{name}/text"].tobytes(), self.arrays[f"column/{name}/ends"].tolist()
        values = tuple(text[a:b].decode() for a, b in zip([0, *ends], ends, strict=False))
        return Column(values, self.arrays[f"column/{name}/codes"])

    def owner(self, kind: str) -> Column:
        names = self.arrays[f"owner/{kind}/names"].tolist()
        return Column(tuple(name.decode() for name in names), self.arrays[f"owner/{kind}/codes"])

    def belonging_to(self, kind: str, name: str) -> Int:
        """Positions of the rows of an owner, without decoding all the others."""
        names = self.arrays[f"owner/{kind}/names"]
        key = np.bytes_(name.encode())
        code = int(np.searchsorted(names, key))
        known = code < len(names) and names[code] == key
        return np.flatnonzero(self.arrays[f"owner/{kind}/codes"] == code) if known else np.empty(0, np.int64)

    def places(self, ids: Sequence[str]) -> tuple[Int, Int]:
        """Per id its place among all ids in order, or where it would stand; and its position, -1 when it is not here.

        A binary search of all at once: it touches few of the ids, which a mapped file reads from the disk.
        """
        by_id: Int = self.arrays["by_id"]
        keys = _encoded(ids)
        low, high = np.zeros(len(ids), np.int64), np.full(len(ids), len(self), np.int64)
        while (open_ := low < high).any():
            middle = (low + high) // 2
            smaller = open_.copy()
            smaller[open_] = self.ids[by_id[middle[open_]]] < keys[open_]
            low = np.where(smaller, middle + 1, low)
            high = np.where(open_ & ~smaller, middle, high)
        positions = np.full(len(ids), -1, np.int64)
        inside = np.flatnonzero(low < len(self))
        there = by_id[low[inside]]
        same = self.ids[there] == keys[inside]
        positions[inside[same]] = there[same]
        return low, positions


class Columns(Mapping[str, Column]):
    """Columns by name, of base and delta together, each made when it is first asked for. Names in order.

    base: makes a column of the base; names: of those it can make. n_rows: of base and delta.
    """

    def __init__(
        self,
        base: Callable[[str], Column],
        names: Sequence[str],
        delta: Mapping[str, Column],
        n_rows: tuple[int, int],
    ) -> None:
        self._base, self._in_base, self._delta, self._n_rows = base, frozenset(names), delta, n_rows
        self._names = sorted({*names, *delta})
        self._known: dict[str, Column] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> Column:
        if name not in self._known:
            if name not in self._names:
                raise KeyError(name)
            n_base, n_delta = self._n_rows
            base = self._base(name) if name in self._in_base else _unknown(n_base)
            self._known[name] = _joined(base, self._delta.get(name, _unknown(n_delta)))
        return self._known[name]


def _joined(base: Column, delta: Column) -> Column:
    """One column of two; values that only the delta has come last."""
    if not len(delta.codes):
        return base
    number = {value: code for code, value in enumerate(base.values)}
    place = [number.setdefault(value, len(number)) for value in delta.values]
    return Column(tuple(number), np.concatenate([base.codes, np.array([*place, -1], np.int32)[delta.codes]]))


def _unknown(n_rows: int) -> Column:
    return Column((), np.full(n_rows, -1, np.int32))


def _encoded(names: Sequence[str]) -> Array:
    """UTF-8 with zeros behind; sorts as the names themselves do."""
    return np.array([name.encode() for name in names] or np.empty(0, "S1"))
