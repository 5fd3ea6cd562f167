"""One gallery for many threads: opened a few times, each for one request at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..atlas.points import Points
from ..errors import BadGallery
from ..gallery import Gallery
from ..index.matrix import Matrix
from .problems import Problem

N_GALLERIES = 16
"""Open at most: a search keeps a core busy, and the rest of a request needs none."""

PATIENCE_S = 30.0


class Desk:
    """Lends galleries of one directory. What is in memory of their matrices is theirs together.

    Raises BadGallery when there is none.
    """

    def __init__(self, directory: Path, n_galleries: int = N_GALLERIES) -> None:
        self.directory = Path(directory)
        self._turns = threading.BoundedSemaphore(n_galleries)
        self._lock = threading.Lock()  # of the list
        self._matrices: dict[str, Matrix] = {}
        self._points: Points | None = None
        self._counted: tuple[int, dict[str, Any]] = (-1, {})
        self._free = [self._opened()]

    @contextmanager
    def gallery(self) -> Iterator[Gallery]:
        """One that has the directory's present encoder, for the thread that asks. Not to be entered twice by one.

        What goes wrong with it is told without the place of the directory. Raises Problem when none becomes free.
        """
        if not self._turns.acquire(timeout=PATIENCE_S):
            raise Problem(503, "Busy", "Too many searches are under way; try again in a moment.")
        try:
            gallery = self._taken()
            try:
                yield gallery
            finally:
                with self._lock:
                    self._free.append(gallery)
        except BadGallery as error:
            raise BadGallery(str(error).replace(f" {self.directory}", "")) from error
        finally:
            self._turns.release()

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: object) -> None:
        """Closes those that are not lent."""
        with self._lock:
            for gallery in self._free:
                gallery.close()
            self._free = []

    def counts(self, gallery: Gallery) -> dict[str, Any]:
        """Of a lent gallery what `info` counts. Records are counted once a generation, which reads all of them."""
        generation = gallery.store.generation()
        counted = self._counted
        if counted[0] != generation:
            counted = self._counted = generation, gallery.info()
        return {**counted[1], "files": gallery.store.outcomes()}

    def atlas(self, gallery: Gallery) -> Points | None:
        """The map of a lent gallery, read once for all until it changes."""
        points = self._points = gallery.atlas(self._points)
        return points

    def _taken(self) -> Gallery:
        """The one used last, whose pages are in memory; those of an earlier encoder are closed on the way."""
        while (gallery := self._pop()) is not None:
            if gallery.is_current:
                return gallery
            gallery.close()
            self._matrices.clear()  # of layers that may not come again
        return self._opened()

    def _pop(self) -> Gallery | None:
        with self._lock:
            return self._free.pop() if self._free else None

    def _opened(self) -> Gallery:
        return Gallery.open_shared(self.directory, self._matrices)
