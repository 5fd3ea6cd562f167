"""What a test says of one value: texts without case, numbers as numbers, bands as a whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .grammar import Op, Test

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_BAND = re.compile(r"([0-9]+(?:\.[0-9]+)?)(?:-([0-9]+(?:\.[0-9]+)?)|\+)")


def holding(test: Test) -> Callable[[str], bool]:
    """Whether the test holds for a value; '' is that of a record which is told nothing."""
    if test.op in ("=", "in"):
        return one_of(test.values)
    if test.op == "!=":
        equal = one_of(test.values)
        return lambda value: not equal(value)
    wanted = test.values[0]
    if test.op == "~":
        part = wanted.casefold()
        return lambda value: part in value.casefold()
    return _ordered(test.op, wanted)


def one_of(texts: Iterable[str]) -> Callable[[str], bool]:
    """Whether a value is one of these. As fast for a thousand as for one: a column may have as many values as rows."""
    texts = list(texts)
    folded = {text.casefold() for text in texts}
    numbers = {_number(text) for text in texts} - {None}
    if not numbers:
        return lambda value: value.casefold() in folded
    return lambda value: value.casefold() in folded or _number(value) in numbers


def _ordered(op: Op, wanted: str) -> Callable[[str], bool]:
    mark, folded = _band(wanted), wanted.casefold()
    compare = _AS_TEXT[op] if mark is None else _AS_BANDS[op]

    def holds(value: str) -> bool:
        mine: Any = value.casefold() if mark is None else _band(value)
        return bool(mine) and compare(mine, folded if mark is None else mark)

    return holds


_AS_TEXT: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_AS_BANDS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a[1] < b[0],
    "<=": lambda a, b: a[1] <= b[1],
    ">": lambda a, b: a[0] > b[1],
    ">=": lambda a, b: a[0] >= b[0],
}


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def _band(text: str) -> tuple[float, float] | None:
    """From where to where: 40-49, 90+; a number is a band of itself. None for other text."""
    number = _number(text)
    if number is not None:
        return number, number
    found = _BAND.fullmatch(text)
    if found is None:
        return None
    low, high = float(found[1]), float(found[2] or "inf")
    return (low, high) if low <= high else None


def cuts(test: Test, value: str) -> bool:
    """Whether < <= > >= hold for a part of a band, and so not for the band."""
    if test.op not in _AS_BANDS:
        return False
    band, mark = _band(value), _band(test.values[0])
    if band is None or mark is None:
        return False
    whole, part = _AS_BANDS[test.op], ((band[0], band[0]), (band[1], band[1]))
    return not whole(band, mark) and any(whole(end, mark) for end in part)
