"""The methods the paper compares with, and the floors below them: one file each, fitted on the train part only.

Every docstring says what is from its paper and what we had to choose. `method_named` imports a method's file when it is
asked for, so that nobody waits for libraries he does not use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..distances import DISTANCES, Distance
from ..encoder import Encoded
from ..errors import UsageError
from ..preprocess import Preprocessing
from ..types import Float32, Int, Progress, UInt8

__all__ = ["DISTANCES", "NAMES", "PREFIXES", "Distance", "Method", "TrainPart", "method_named"]


@dataclass(frozen=True, eq=False)
class TrainPart:
    """What a method may learn from: images of one side of a split, uint8 (n, C, crop, crop), possibly memory-mapped.

    labels, patients: one per image; images of one patient never stand on both sides of an inner split.
    work: a folder for the checkpoints of a long fit, so that a killed one goes on; None: it begins anew.
    """

    images: UInt8
    labels: Sequence[str]
    patients: Sequence[str]
    work: Path | None = None

    def __post_init__(self) -> None:
        """Raises UsageError unless there are images with one label and one patient each."""
        n_images, n_labels, n_patients = len(self.images), len(self.labels), len(self.patients)
        if not n_images == n_labels == n_patients:
            raise UsageError(f"{n_images} images need as many labels ({n_labels}) and patients ({n_patients}).")
        if n_images == 0:
            raise UsageError("There are no images to fit a method on.")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def classes(self) -> tuple[str, ...]:
        """Sorted."""
        return tuple(sorted(set(self.labels)))

    @property
    def numbers(self) -> Int:
        """The index of each label among the classes: int64 (n,)."""
        code = {name: number for number, name in enumerate(self.classes)}
        return np.array([code[label] for label in self.labels], np.int64)


class Method(Protocol):
    """What every method offers.

    fit_name: methods of one fit_name learn, save, load and `encode` the same; it tells no path. layers: those of its
    features that are its own, the first is the default. base: the method it stands on. learns: whether `fit` does.
    preprocessing: what images it gets, uint8 (n, C, crop, crop), possibly memory-mapped. classes: () before `fit`, and
    for ever where it does not classify; sorted. Only methods whose distance is Euclidean can become encoders.
    """

    @property
    def name(self) -> str: ...
    @property
    def fit_name(self) -> str: ...
    @property
    def layers(self) -> tuple[str, ...]: ...
    @property
    def base(self) -> Method | None: ...
    @property
    def learns(self) -> bool: ...
    @property
    def preprocessing(self) -> Preprocessing: ...
    @property
    def distance(self) -> Distance: ...
    @property
    def classes(self) -> tuple[str, ...]: ...

    def fit(self, train: TrainPart, *, seed: int, on_progress: Progress | None = None) -> None:
        """Learn from the train part, and nothing else. The same images and seed give the same method."""
        ...

    def encode(self, images: UInt8) -> Encoded:
        """Every layer of its fit, float32 (n, dim), finite, and the posterior over `classes`, in one pass.

        Raises UsageError before `fit` where there is something to fit.
        """
        ...

    def features(self, images: UInt8) -> Float32:
        """Of its first layer alone."""
        ...

    def classify(self, images: UInt8) -> Float32 | None:
        """The posterior over `classes`, float32 (n, K), rows sum to 1; None where the method does not classify."""
        ...

    def save(self, folder: Path) -> None:
        """Write what `fit` learned into the folder, whole or not at all; never a pickle."""
        ...

    def load(self, folder: Path) -> None:
        """The inverse of save. Raises CbmirError when it is missing, damaged or another method's."""
        ...


_MADE_BY: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "pixels": ("pixels", "Pixels", {}),
    "grey-histogram": ("grey_histogram", "GreyHistogram", {}),
    "bovw-sift": ("bovw_sift", "BovwSift", {}),
    "lbp-svm-ae": ("lbp_svm_ae", "LbpSvmAe", {}),
    "frar-abtsvm": ("frar_abtsvm", "FrarAbtsvm", {}),
    "svm-fusion": ("svm_fusion", "SvmFusion", {}),
    "mil-patch": ("mil_patch", "MilPatch", {}),
    "hash48": ("hash48", "Hash48", {}),
    "hash48-fine": ("hash48", "Hash48", {"fine": True}),
    "spoc": ("spoc", "Spoc", {}),
    "dcnn-fcl1": ("dcnn", "Dcnn", {"layer": "FCL1"}),
    "dcnn-fcl2": ("dcnn", "Dcnn", {"layer": "FCL2"}),
    "dcnn-fcl3": ("dcnn", "Dcnn", {"layer": "FCL3"}),
}
"""name -> (file, class, arguments). A new method is one line here and one file."""

_MADE_FROM_PATH: Mapping[str, tuple[str, str]] = {
    "frozen": ("frozen", "Frozen"),
    "encoder": ("trained", "Trained"),
}
"""prefix -> (file, class made from a Path): frozen:PATH, any foundation model; encoder:DIR, made by `cbmir train`,
or encoder:default."""

_PROJECTIONS = ("whiten", "lda")

NAMES: tuple[str, ...] = tuple(_MADE_BY)
PREFIXES: tuple[str, ...] = tuple(_MADE_FROM_PATH)


def method_named(name: str) -> Method:
    """A new method, not fitted: one of NAMES, or PREFIX:PATH, and with +whiten or +lda its projection.

    Raises UsageError for another name, and as the method does, where its path is not what it needs.
    """
    base, plus, kind = name.rpartition("+")
    if plus and kind in _PROJECTIONS:
        return _made("projection", "Projected", base=method_named(base), kind=kind)
    prefix, colon, path = name.partition(":")
    if colon and path and prefix in _MADE_FROM_PATH:
        return _made(*_MADE_FROM_PATH[prefix], path=Path(path))
    if name not in _MADE_BY:
        known = [*NAMES, *(f"{prefix}:PATH" for prefix in PREFIXES)]
        projected = " or ".join(f"+{kind}" for kind in _PROJECTIONS)
        raise UsageError(
            f"There is no method '{prefix}': choose one of {', '.join(known)}; each also with {projected} behind."
        )
    file, of_class, arguments = _MADE_BY[name]
    return _made(file, of_class, **arguments)


def _made(file: str, of_class: str, **arguments: Any) -> Method:
    made: Method = getattr(import_module(f".{file}", __name__), of_class)(**arguments)
    return made
