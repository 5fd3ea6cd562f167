"""What methods keep of a fit: plain arrays in one npz, and the base of the methods that keep nothing else."""

from __future__ import annotations

import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..encoder import Encoded
from ..errors import CbmirError, UsageError
from ..types import Float32, Progress, UInt8
from . import Method, TrainPart

if TYPE_CHECKING:
    from torch import Tensor

Arrays = dict[str, npt.NDArray[Any]]

STATE = "state.npz"
FORMAT = 1


class ArrayMethod(ABC):
    """A method that keeps what it learned as arrays, and has one layer, named like itself.

    One with something to fit overrides `fit`, `_state` and `_restore`; it then sets `fitted`, and its `encode` begins
    with `_need_fit`.
    """

    name = ""
    base: Method | None = None
    learns = True
    classes: tuple[str, ...] = ()
    fitted = False

    @property
    def fit_name(self) -> str:
        return self.name

    @property
    def layers(self) -> tuple[str, ...]:
        return (self.name,)

    def fit(self, train: TrainPart, *, seed: int, on_progress: Progress | None = None) -> None:
        self.fitted = True

    @abstractmethod
    def encode(self, images: UInt8) -> Encoded: ...

    def features(self, images: UInt8) -> Float32:
        return self.encode(images).features[self.layers[0]]

    def classify(self, images: UInt8) -> Float32 | None:
        return self.encode(images).posterior

    def save(self, folder: Path) -> None:
        self._need_fit()
        write_state(folder, self.fit_name, self._state() | {"classes": np.array(self.classes, dtype=np.str_)})

    def load(self, folder: Path) -> None:
        arrays = read_state(folder, self.fit_name)
        try:
            classes = tuple(str(name) for name in arrays["classes"])
            self._restore(arrays)
        except (KeyError, ValueError, RuntimeError):
            raise damaged(self.name) from None
        self.classes, self.fitted = classes, True

    def _state(self) -> Arrays:
        return {}

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """From what `_state` gave, and `classes`; KeyError, ValueError or RuntimeError when it is not that."""
        return

    def _need_fit(self) -> None:
        if not self.fitted:
            raise not_fitted(self.name)


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
        raise damaged(name) from None
    if str(arrays.get("method")) != name or int(arrays.get("format", -1)) != FORMAT:
        raise CbmirError(f"What is saved there is not of the method '{name}' of this version: fit it again.")
    return arrays


def damaged(name: str) -> CbmirError:
    return CbmirError(f"What is saved of the method '{name}' is damaged: delete it and fit again.")


def not_fitted(name: str) -> UsageError:
    return UsageError(f"The method '{name}' is not fitted yet.")


def tensors_of(arrays: Mapping[str, npt.NDArray[Any]], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with the names of `wanted`. Raises KeyError where one is missing."""
    import torch

    return {name: torch.from_numpy(arrays[name]) for name in wanted}


def images_digest(images: UInt8) -> str:
    """Names the images a run was started on, hex; read in pieces, since they may be memory-mapped."""
    digest = sha256(repr(images.shape).encode())
    for start in range(0, len(images), 256):
        digest.update(images[start : start + 256].tobytes())
    return digest.hexdigest()
