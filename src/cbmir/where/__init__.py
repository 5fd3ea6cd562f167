"""What `--where` means: a small language over the columns of a gallery, evaluated on arrays; none of it reaches SQL.

    modality=CT and age_band<60
    body_part_examined in (CHEST, LUNG) and not (manufacturer=ge or image_type~LOCALIZER)

    where  = part {or part}             part   = term {and term}            term = not term | (where) | test
    test   = NAME op VALUE              op     = one of  = != < <= > >= ~    (~: contains)
           | NAME [not] in (VALUE, ...)

A name or value that holds spaces, marks or one of the four words stands in quotes, single or double; a quote inside
is written twice. Case does not count. A record that is told nothing holds the empty text: NAME="" finds it, NAME!=V
lets it in, and no < <= > >= holds for it. Where the wanted value is a number, numbers compare as numbers, and other
text is neither smaller nor larger. A band (40-49, 90+) is smaller or larger as a whole: age_band<45 leaves out 40-49.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from ..errors import UsageError
from ..index.columns import Column
from ..types import Bool, Int
from .grammar import All, AnyOf, Node, Not, Parser, Test, one_line, quoted, shown
from .values import cuts, holding, one_of

__all__ = ["All", "AnyOf", "Not", "Test", "Where", "facets", "one_line", "parse"]

N_TOLD = 8
"""How many values or names a message lists."""


Columns = Mapping[str, Column]


@dataclass(frozen=True)
class Where:
    """A filter. Its text, `str(where)`, means the same when it is parsed again."""

    node: Node

    def __str__(self) -> str:
        return str(self.node)

    def mask(self, columns: Columns) -> Bool:
        """Which records pass: bool (n,). Raises UsageError for a name that is none of the columns'."""
        return _mask(self.node, columns)

    def notes(self, columns: Columns, positions: Int | None = None) -> list[str]:
        """What the filter finds nothing for, with what there is, and which bands it cuts: a sentence each.

        positions: int64, of the records that are there; None for all. Raises UsageError as `mask` does.
        """
        counted = [(test, _counts(column_named(test.name, columns), positions)) for test in _tests(self.node)]
        return [one_line(note) for test, counts in counted for note in _notes(test, counts)]


def parse(*texts: str) -> Where:
    """The filter of one or more texts, all of which must hold. Raises UsageError, and nothing else."""
    nodes = tuple(Parser(text).whole() for text in texts)
    if not nodes:
        raise UsageError("A filter has at least one test, NAME=VALUE.")
    return Where(nodes[0] if len(nodes) == 1 else All(nodes))


def facets(columns: Columns, positions: Int | None = None) -> dict[str, dict[str, int]]:
    """How many records have each value of each column, the most frequent first; '' where nothing is told.

    positions: int64, of the records that are counted; None for all.
    """
    return {name: dict(_frequent_first(_counts(column, positions))) for name, column in columns.items()}


def column_named(name: str, columns: Columns) -> Column:
    """The column of this name, in any case. Raises UsageError with the nearest names, and those there are."""
    if name in columns:
        return columns[name]
    same = [known for known in columns if known.casefold() == name.casefold()]
    if len(same) == 1:
        return columns[same[0]]
    near = _near(name, list(columns))
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    known = ", ".join(quoted(known) for known in columns) or "none, for it is empty"
    raise UsageError(one_line(f"No image of the gallery has a {shown(quoted(name))}{hint} Its columns are {known}."))


def _near(name: str, names: Sequence[str]) -> list[str]:
    """Those that are nearly written so, or else have it as a part: sex is patient_sex."""
    folded = {known.casefold(): known for known in names}
    close = get_close_matches(name.casefold(), folded, n=2, cutoff=0.6)
    parts = [known for known in folded if len(name) > 1 and name.casefold() in known]
    return [folded[known] for known in (close or parts[:2])]


def _tests(node: Node) -> Iterator[Test]:
    if isinstance(node, Test):
        yield node
    else:
        for inner in [node.of] if isinstance(node, Not) else node.of:
            yield from _tests(inner)


def _mask(node: Node, columns: Columns) -> Bool:
    if isinstance(node, Test):
        column = column_named(node.name, columns)
        holds = holding(node)
        # the last place is that of code -1
        table = np.array([*map(holds, column.values), holds("")], np.bool_)
        return np.asarray(table[column.codes])
    if isinstance(node, Not):
        return ~_mask(node.of, columns)
    join = np.logical_and if isinstance(node, All) else np.logical_or
    mask = _mask(node.of[0], columns)
    for inner in node.of[1:]:
        join(mask, _mask(inner, columns), out=mask)
    return mask


def _counts(column: Column, positions: Int | None) -> dict[str, int]:
    """How many records have each value that there is; '' where nothing is told."""
    codes = column.codes if positions is None else column.codes[positions]
    counts = np.bincount(codes + 1, minlength=len(column.values) + 1).tolist()
    return {value: n for value, n in zip(["", *column.values], counts, strict=True) if n}


def _frequent_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _notes(test: Test, counts: Mapping[str, int]) -> Iterator[str]:
    if missing := _missing(test, counts):
        op = "=" if test.op == "in" and len(missing) == 1 else test.op
        told = [f"{quoted(value)} ({n})" for value, n in _frequent_first(counts)]
        rest = f" and {len(told) - N_TOLD} more" if len(told) > N_TOLD else ""
        yield f"{Test(test.name, op, missing)} holds for no image; there are {', '.join(told[:N_TOLD]) or 'none'}{rest}"
    if cut := [value for value in counts if cuts(test, value)]:
        yield f"{test} does not hold for what it cuts: {', '.join(cut[:N_TOLD])}"


def _missing(test: Test, told: Iterable[str]) -> tuple[str, ...]:
    """The values of a test that nothing told fits."""
    if test.op in ("=", "in"):
        known = one_of(told)
        return tuple(value for value in test.values if not known(value))
    return () if test.op == "!=" or any(map(holding(test), told)) else test.values
