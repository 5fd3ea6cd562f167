"""What a worker does in bench_decode.py: a module of its own, so that the worker process can import it."""

from __future__ import annotations

import time

from cbmir.images import decode, read_file
from cbmir.images.worker import Decoded
from cbmir.preprocess import Preprocessing
from cbmir.privacy import Pseudonyms
from cbmir.types import ImageRef


def decode_only(ref: ImageRef, preprocessing: Preprocessing, pseudonyms: Pseudonyms) -> Decoded:
    """Modality values of every frame, without preprocessing; they stay in the worker, as in an index run.

    In place of the file's time stands what the worker has had of the processor until now, in nanoseconds: from one
    result to the next, that is all it did for a file, talking to the pool included.
    """
    for _ in decode(read_file(ref.path), pseudonyms, patient=ref.patient, modality=ref.modality):
        pass
    return Decoded(ref, "decoded", None, mtime_ns=time.process_time_ns())
