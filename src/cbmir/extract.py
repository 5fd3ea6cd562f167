"""Images in, features out, in batches. A file that gives no image is passed on with its outcome, never lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from .encoder import Encoded, Encoder
from .images.limits import MEMORY_BYTES, TIMEOUT_S
from .images.worker import Decoded, decode_all
from .privacy import Pseudonyms
from .types import Float32, ImageRef, Record

_AHEAD = 2
"""Batches that may wait for the network while the next is gathered: enough to keep both sides busy, ..."""

_AHEAD_BYTES = 2**28
"""... unless they are this large: a file of a batch may be a cine of 5,000 frames."""


@dataclass(frozen=True)
class Extracted:
    """What became of one file. features: float32 (images of the file, dim) by layer; posterior: (images, K) or None.

    records: one per image, with the predicted class and its probability when the encoder has classes.
    """

    decoded: Decoded
    records: tuple[Record, ...]
    features: dict[str, Float32]
    posterior: Float32 | None


def extract(
    refs: Iterable[ImageRef],
    encoder: Encoder,
    pseudonyms: Pseudonyms,
    *,
    workers: int | None = None,
    batch_size: int = 64,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int | None = MEMORY_BYTES,
) -> Generator[Extracted]:
    """Decode in worker processes while the network runs in a thread beside; one Extracted a file, in order.

    timeout_s, memory_bytes: for one file and for one worker, as decode_all has them. Memory is bounded by a few
    batches, or by one file where a file holds more.
    """
    decoded = decode_all(
        refs, encoder.preprocessing, pseudonyms, workers=workers, timeout_s=timeout_s, memory_bytes=memory_bytes
    )
    return encode_all(decoded, encoder, batch_size=batch_size)


def encode_all(decoded: Iterable[Decoded], encoder: Encoder, *, batch_size: int = 64) -> Generator[Extracted]:
    """The second half of it: one Extracted a decoded file, in order."""
    waiting: deque[tuple[list[Decoded], Future[Encoded]]] = deque()
    with ThreadPoolExecutor(max_workers=1) as thread:
        for files in _batches(decoded, batch_size):
            waiting.append((files, thread.submit(_encode, encoder, files, batch_size)))
            while len(waiting) > _AHEAD or (waiting and _n_bytes(waiting) > _AHEAD_BYTES):
                yield from _per_file(*waiting.popleft(), encoder)
        while waiting:
            yield from _per_file(*waiting.popleft(), encoder)


def _batches(decoded: Iterable[Decoded], size: int) -> Iterator[list[Decoded]]:
    """Files in groups that hold at least `size` images together (the last may hold fewer), or many files without."""
    group: list[Decoded] = []
    n_images = 0
    for one in decoded:
        group.append(one)
        n_images += len(one.images)
        if n_images >= size or len(group) >= 4 * size:
            yield group
            group, n_images = [], 0
    if group:
        yield group


def _n_bytes(waiting: Iterable[tuple[list[Decoded], Future[Encoded]]]) -> int:
    return sum(image.pixels.nbytes for files, _ in waiting for file in files for image in file.images)


def _encode(encoder: Encoder, files: list[Decoded], batch_size: int) -> Encoded:
    pixels = [image.pixels for file in files for image in file.images]
    if not pixels:
        return Encoded({layer: np.empty((0, dim), np.float32) for layer, dim in encoder.layers.items()}, None)
    parts = [
        encoder.encode(np.stack(pixels[start : start + batch_size])) for start in range(0, len(pixels), batch_size)
    ]
    posteriors = [part.posterior for part in parts if part.posterior is not None]
    return Encoded(
        {layer: np.concatenate([part.features[layer] for part in parts]) for layer in encoder.layers},
        np.concatenate(posteriors) if posteriors else None,
    )


def _per_file(files: list[Decoded], encoding: Future[Encoded], encoder: Encoder) -> Iterator[Extracted]:
    encoded = encoding.result()
    start = 0
    for file in files:
        rows = slice(start, start + len(file.images))
        start = rows.stop
        posterior = None if encoded.posterior is None else encoded.posterior[rows]
        yield Extracted(
            decoded=file,
            records=_records(file, posterior, encoder.classes),
            features={layer: features[rows] for layer, features in encoded.features.items()},
            posterior=posterior,
        )


def _records(file: Decoded, posterior: Float32 | None, classes: tuple[str, ...]) -> tuple[Record, ...]:
    records = tuple(image.record for image in file.images)
    if posterior is None:
        return records
    likeliest = posterior.argmax(axis=1)
    return tuple(
        replace(record, predicted=classes[best], probability=float(row[best]))
        for record, best, row in zip(records, likeliest, posterior, strict=True)
    )
