"""What the handcrafted methods share: features image by image on all cores, and their state as plain arrays."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CbmirError, UsageError
from ..types import Float32, Progress, UInt8

Arrays = dict[str, npt.NDArray[Any]]

STATE = "state.npz"
FORMAT = 1


class Handmade:
    """A method without a network. One with something to fit overrides `fit`, `_state` and `_restore`.

    It then sets `fitted`, and its `features` begin with `_need_fit`.
    """

    name = ""
    classes: tuple[str, ...] = ()
    fitted = False

    def fit(
        self,
        images: UInt8,
        labels: Sequence[str],
        *,
        patients: Sequence[str],
        seed: int,
        on_progress: Progress | None = None,
    ) -> None:
        check_parts(images, labels, patients)
        self.fitted = True

    def classify(self, images: UInt8) -> Float32 | None:
        return None

    def save(self, folder: Path) -> None:
        self._need_fit()
        write_state(folder, self.name, self._state() | {"classes": np.array(self.classes, dtype=np.str_)})

    def load(self, folder: Path) -> None:
        arrays = read_state(folder, self.name)
        try:
            self._restore(arrays)
            self.classes = tuple(str(name) for name in arrays["classes"])
        except (KeyError, ValueError):
            raise _damaged(self.name) from None
        self.fitted = True

    def _state(self) -> Arrays:
        return {}

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """From what `_state` gave; KeyError or ValueError when it is not that."""

    def _need_fit(self) -> None:
        if not self.fitted:
            raise UsageError(f"The method '{self.name}' is not fitted yet.")


def check_parts(images: UInt8, labels: Sequence[str], patients: Sequence[str]) -> None:
    """Raises UsageError unless there is a train part with one label and one patient per image."""
    if not len(images) == len(labels) == len(patients):
        raise UsageError(f"{len(images)} images need as many labels ({len(labels)}) and patients ({len(patients)}).")
    if len(images) == 0:
        raise UsageError("There are no images to fit a method on.")


def image_rows(
    images: UInt8, describe: Callable[[UInt8], Float32], dim: int, on_progress: Progress | None = None
) -> Float32:
    """`describe` of every image (C, side, side), as float32 (n, dim).

    One thread per core, for OpenCV and NumPy let go of the interpreter's lock; BLAS then gets no more threads.
    """
    from threadpoolctl import threadpool_limits

    out = np.empty((len(images), dim), np.float32)
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        for i, row in enumerate(pool.map(lambda i: describe(np.asarray(images[i])), range(len(images)))):
            out[i] = row
            if on_progress:
                on_progress(i + 1, len(images))
    return out


def drawn(n: int, most: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """At most `most` of n rows, in order."""
    return np.sort(rng.permutation(n)[:most])


def write_state(folder: Path, name: str, arrays: Arrays) -> None:
    """One npz, in one move."""
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / (STATE + ".new")
    with new.open("wb") as stream:
        np.savez(stream, allow_pickle=False, method=np.array(name), format=np.array(FORMAT), **arrays)
    os.replace(new, folder / STATE)


def read_state(folder: Path, name: str) -> Arrays:
    """Raises CbmirError when there is none, it is damaged, or it belongs to another method or version."""
    try:
        with (folder / STATE).open("rb") as stream, np.load(stream, allow_pickle=False) as saved:
            arrays = {key: saved[key] for key in saved.files}
    except FileNotFoundError:
        raise CbmirError(f"The method '{name}' was not saved there: fit it first.") from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        raise _damaged(name) from None
    if str(arrays.get("method")) != name or int(arrays.get("format", -1)) != FORMAT:
        raise CbmirError(f"What is saved there is not of the method '{name}' of this version: fit it again.")
    return arrays


def _damaged(name: str) -> CbmirError:
    return CbmirError(f"What is saved of the method '{name}' is damaged: delete it and fit again.")
