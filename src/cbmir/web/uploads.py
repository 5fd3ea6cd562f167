"""Files that callers search by: held for a while, for whoever brought them, in no folder."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ..jobs.frames import Looked, look
from ..privacy import Pseudonyms
from ..types import ImageRef
from .problems import Problem, unknown
from .workers import Workers

LIFETIME_S = 1800.0
MOST_OF_ONE, MOST_OF_ALL = 32, 256
MOST_BYTES = 2**31
"""Of all together, on the disk of the folder for temporary files."""
SWEEP_S = 30.0


@dataclass(frozen=True)
class Upload:
    """name: 256 random bits, which alone do not open it: the caller has to be the owner, too.

    The file is there as long as anybody holds this: a number of an open file is given again, and whoever still reads it
    would else read the file of another.
    """

    name: str
    owner: str
    ref: ImageRef
    looked: Looked
    n_bytes: int
    until: float = field(default_factory=lambda: time.monotonic() + LIFETIME_S)

    @property
    def expires_in_s(self) -> int:
        return max(0, int(self.until - time.monotonic()))


class Uploads:
    """Those that are held. Where there are too many, old ones leave: those of whoever brings another one first."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._held: dict[str, Upload] = {}  # the oldest first
        self._lock = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._sweep, name="cbmir-uploads", daemon=True).start()

    def __enter__(self) -> Uploads:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        with self._lock:
            self._held.clear()

    def take(self, content: BinaryIO, owner: str, pseudonyms: Pseudonyms) -> Upload:
        """Raises BadImage for what gives no image, which is not held then; Problem when the disk is full."""
        descriptor, path = _own_file()
        try:
            n_bytes = _copied(content, descriptor)
            ref = ImageRef(path, "upload")
            upload = Upload(secrets.token_urlsafe(32), owner, ref, self._workers.read(look, ref, pseudonyms), n_bytes)
        except BaseException:
            _let_go(descriptor, path)
            raise
        weakref.finalize(upload, _let_go, descriptor, path)
        with self._lock:
            self._held[upload.name] = upload
            while (leaving := self._too_many(owner)) is not None:
                del self._held[leaving.name]
        return upload

    def of(self, name: str, owner: str) -> Upload:
        """Raises Problem when there is none of this name that is the caller's."""
        with self._lock:
            upload = self._held.get(name)
        if upload is None or upload.owner != owner or not upload.expires_in_s:
            unknown("upload of this name any more; send the file again")
        return upload

    def forget(self, name: str, owner: str) -> None:
        """Raises Problem as `of`."""
        self.of(name, owner)
        with self._lock:
            self._held.pop(name, None)

    def _too_many(self, owner: str) -> Upload | None:
        """Who has to leave, never the one that came last."""
        *others, _ = self._held.values()
        own = [upload for upload in others if upload.owner == owner]
        n_bytes = sum(upload.n_bytes for upload in self._held.values())
        if len(own) >= MOST_OF_ONE:
            return own[0]
        if others and (len(others) >= MOST_OF_ALL or n_bytes > MOST_BYTES):
            return (own or others)[0]
        return None

    def _sweep(self) -> None:
        while not self._closed.wait(SWEEP_S):
            with self._lock:
                self._held = {name: upload for name, upload in self._held.items() if upload.expires_in_s}


def _own_file() -> tuple[int, Path]:
    """A descriptor and how workers find the file. Where the system allows it, the file has no name on the disk, and is
    gone when this process ends, however that ends.
    """
    descriptor, name = tempfile.mkstemp(prefix="cbmir-")
    open_files = Path(f"/proc/{os.getpid()}/fd")
    if not open_files.is_dir():
        return descriptor, Path(name)
    os.unlink(name)
    return descriptor, open_files / str(descriptor)


def _let_go(descriptor: int, path: Path) -> None:
    if path.name != str(descriptor):
        with suppress(FileNotFoundError):
            path.unlink()
    os.close(descriptor)


def _copied(content: BinaryIO, descriptor: int) -> int:
    """How many bytes. Raises Problem when there is no room."""
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            shutil.copyfileobj(content, file)
            return file.tell()
    except OSError as error:
        raise Problem(507, "No room", f"The upload cannot be kept: {error.strerror}.") from None
