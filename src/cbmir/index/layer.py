"""A layer's features as one mapped file, in the order of the rows of records.columns.

    DIR/matrix/LAYER.matrix     (a file of arrays, arrays.py)
        rows, squared_norms            float32 (n, dim), (n,)
        mean, codes, scales, terms     the eight-bit copy (twopass.py), unless there are too many features for it

The rows stream from the store to the file; what is computed of them follows, read from the file again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..errors import BadGallery
from ..store import Block
from ..types import Float32
from .arrays import Arrays, Writer
from .columns import Records
from .exact import ExactIndex, squared_norms
from .twopass import MAX_DIM, Coarse, coded

_AT_ONCE_BYTES = 4 << 20


def write_layer(blocks: Iterable[Block], ids: list[str], dim: int, writer: Writer, stamp: Mapping[str, Any]) -> None:
    """ids: of all records, in the order of the blocks. Raises BadGallery when some have no features."""
    n, total, norms = 0, np.zeros(dim), [np.empty(0, np.float32)]
    writer.begin("rows", "<f4")
    for block in blocks:
        if list(block.ids) != ids[n : n + len(block.ids)]:
            break
        writer.extend(block.features)
        norms.append(squared_norms(block.features))
        total += block.features.sum(axis=0, dtype=np.float64)
        n += len(block.ids)
    if n != len(ids):
        raise BadGallery(f"image {ids[n]} has no features in the gallery; `cbmir verify --repair` mends that")
    writer.end((n, dim))
    writer.put("squared_norms", np.concatenate(norms))
    if dim <= MAX_DIM:
        _write_coarse(writer, n, (total / max(1, n)).astype(np.float32))
    writer.finish(stamp)


def _write_coarse(writer: Writer, n: int, mean: Float32) -> None:
    step = max(1, _AT_ONCE_BYTES // max(1, mean.nbytes))
    scales, terms = np.empty(n, np.float32), np.empty((3, n), np.float32)
    writer.put("mean", mean)
    writer.begin("codes", "|i1")
    for start in range(0, n, step):
        here = slice(start, min(start + step, n))
        codes, scales[here], terms[:, here] = coded(writer.read("rows", start, here.stop), mean)
        writer.extend(codes)
    writer.end((n, len(mean)))
    writer.put("scales", scales)
    writer.put("terms", terms)


def layer_index(arrays: Arrays, records: Records) -> ExactIndex:
    """Raises KeyError or ValueError when the file does not hold what it should, or not as many rows."""
    parts = ("mean", "codes", "scales", "terms")
    coarse = Coarse(*(arrays[part] for part in parts)) if "codes" in arrays else None
    return ExactIndex(arrays["rows"], arrays["squared_norms"], records.groups, records.arrays["id_order"], coarse)
