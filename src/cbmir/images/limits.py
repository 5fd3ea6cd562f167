"""What one file may ask for, checked before anything is allocated, and the boundary where exceptions end."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import BadImage, Outcome

TIMEOUT_S = 60.0
MEMORY_BYTES = 2**32
"""Of a worker for one file: one of 1 GiB and its decoded pixels fit, and a bomb does not take the machine."""

MAX_PIXEL_BYTES = 2**30
MAX_FRAMES = 5000
MAX_FILE_BYTES = 2**31
NO_MEMORY = "The image does not fit into memory."
"""A reason; what failed for it may do with more."""

UNEXPECTED = "The reader failed in a way that is a fault of this program: please report what kind of file it is."

NOT_OF_THE_FILE = (KeyboardInterrupt, SystemExit, GeneratorExit)


def check_size(rows: int, columns: int, samples: int, bytes_each: int, n_frames: int = 1) -> None:
    """Raises BadImage: corrupt when there is no pixel, refused when there are more than one file may have."""
    if min(rows, columns, samples, bytes_each, n_frames) < 1:
        raise BadImage("corrupt", "The header says that the image has no pixels.")
    if n_frames > MAX_FRAMES:
        raise BadImage("refused", f"The file has {n_frames} frames; the limit is {MAX_FRAMES}.")
    n_bytes = rows * columns * samples * bytes_each * n_frames
    if n_bytes > MAX_PIXEL_BYTES:
        raise BadImage(
            "refused", f"The pixels would take {n_bytes / 2**20:.0f} MiB; the limit is {MAX_PIXEL_BYTES >> 20} MiB."
        )


@contextmanager
def guarded(outcome: Outcome, reason: str) -> Iterator[None]:
    """Every exception becomes BadImage(outcome, reason), whose text holds nothing of the file; warnings are dropped.

    Libraries put header values into their messages, and header values may be a patient's. A decoder written in Rust
    panics with a BaseException that is no Exception.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (BadImage, *NOT_OF_THE_FILE):
            raise
        except MemoryError:
            raise BadImage("refused", NO_MEMORY) from None
        except BaseException:
            raise BadImage(outcome, reason) from None
