"""How much lies in the sequences of a header, counted before pydicom makes an object of each element."""

from __future__ import annotations

from ...marks import ITEM, ITEM_END, SEQUENCE_END, UNDEFINED, Order, in_order

LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})


def count_nested(data: bytes, at: int, end: int | None, *, little: bool) -> tuple[int, int]:
    """(items, elements) of a sequence whose content begins at `at`, whatever is nested in them.

    end: where it ends; None when a delimiter says so (PS3.5 7.5). Sequences are stepped into and other values stepped
    over, so depth costs nothing and every byte is seen once.
    """
    order: Order = "little" if little else "big"
    item, item_end, sequence_end = (in_order(mark, order) for mark in (ITEM, ITEM_END, SEQUENCE_END))
    n_items, n_elements, n_open = 0, 0, int(end is None)
    stop = len(data) if end is None else min(end, len(data))
    if data[at : at + 4] != item:
        return 0, 0
    while at + 8 <= stop:
        tag = data[at : at + 4]
        if tag in (item, item_end, sequence_end):
            n_items += tag == item
            n_open -= tag == sequence_end
            if end is None and not n_open:
                break
            at += 8
            continue
        n_elements += 1
        start, length, sequence = _value(data, at, order)
        undefined = length == UNDEFINED
        n_open += undefined
        into = undefined or (sequence and data[start : start + 4] == item)
        at = start if into else start + length
    return n_items, n_elements


def _value(data: bytes, at: int, order: Order) -> tuple[int, int, bool]:
    """Of one element: where its value begins, how long it is, and whether it can be a sequence."""
    vr = data[at + 4 : at + 6]
    if not (vr.isalpha() and vr.isupper()):
        return at + 8, int.from_bytes(data[at + 4 : at + 8], order), True
    if vr in LONG:
        return at + 12, int.from_bytes(data[at + 8 : at + 12], order), vr in (b"SQ", b"UN")
    return at + 8, int.from_bytes(data[at + 6 : at + 8], order), False
