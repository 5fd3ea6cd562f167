"""`frozen:PATH`: a foundation model as it is, nothing fitted; its features with length 1, so that Euclidean distance
ranks as the cosine. PATH is one of

- a local directory of `transformers` (config.json, preprocessor_config.json, *.safetensors): see frozen_hub.py;
- an ONNX file NAME.onnx with its preprocessing beside it as NAME.json, run by OpenVINO;
- such a JSON anywhere, which names the ONNX file as `file` (absolute, or from the JSON's own folder).

The JSON: `side` and `crop` in pixels (resized to, then the centre; without crop all of it), `channels` rgb (also when
left out), bgr or grey, `layout` NCHW (also when left out) or NHWC, `scale`, `mean` and `std`: the network takes
(x scale - mean) / std of x in 0 ... 255; `output`: the name of the features. MobileNetV2 as in the project's shared
folder, whose input is x / 128 - 1, has

    {"file": "mobilenet_v2_1.0_224_dequant.onnx", "side": 224, "scale": 0.0078125,
     "mean": [1, 1, 1], "std": [1, 1, 1], "output": "embedding"}

Nothing is downloaded, no code of a model's folder is run, no pickle is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..distances import Distance
from ..encoder import Encoded
from ..errors import BadEncoder, CbmirError, UsageError
from ..files import file_sha256
from ..runtime import open_onnx
from ..types import Float32, UInt8
from ._batches import in_batches
from ._states import ArrayMethod, Arrays
from .frozen_input import FrozenInput, from_onnx_json, from_preprocessor_config
from .projection import unit

BATCH = 16


class Frozen(ArrayMethod):
    """path: as above. The network is opened at the first images. It has no classes; `+lda` gives it some."""

    distance: Distance = "euclidean"
    learns = False
    fitted = True

    def __init__(self, path: Path) -> None:
        """Raises UsageError where there is no model, or its preprocessing cannot be used."""
        self.name = f"frozen:{path.stem if path.is_file() else path.name}"
        self.path = path
        self._model = _Directory(path) if path.is_dir() else _Onnx(path)
        self.preprocessing = self._model.takes.preprocessing
        self._run: Callable[[Float32], Float32] | None = None

    @property
    def fit_name(self) -> str:
        return f"{self.name} {sha256(str(self.path).encode()).hexdigest()[:12]}"

    def encode(self, images: UInt8) -> Encoded:
        """Raises BadEncoder when the model cannot be read, or gives numbers that are none."""
        return in_batches(images, BATCH, self._batch)

    def _batch(self, images: UInt8) -> Encoded:
        if self._run is None:
            self._run = self._model.open()
        rows = self._run(self._model.takes(images))
        if not np.isfinite(rows).all():
            raise BadEncoder(f"The model '{self.name}' gives features that are not finite.")
        return Encoded({self.name: unit(rows)}, None)

    def _state(self) -> Arrays:
        """Which model it was, by the hashes of its files."""
        return {"model": np.array(self._model.digest())}

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        if str(arrays["model"]) != self._model.digest():
            raise CbmirError(f"What is saved there is of another model than '{self.name}': measure it again.")


class _Onnx:
    """An ONNX file and the JSON beside it."""

    def __init__(self, path: Path) -> None:
        description = path if path.suffix == ".json" else path.with_suffix(".json")
        if not description.is_file():
            raise UsageError(
                f"{path.name} is no model: give a directory of transformers, or an ONNX file with a JSON beside it."
            )
        saved = read_json(description)
        self.file = path if path.suffix == ".onnx" else description.parent / str(saved.get("file"))
        if not self.file.is_file():
            raise UsageError(f"{description.name} names the ONNX file '{self.file.name}', which is not there.")
        if not isinstance(saved.get("output"), str):
            raise UsageError(f"{description.name} names no output.")
        self.takes: FrozenInput = from_onnx_json(saved)
        self.output: str = saved["output"]

    def digest(self) -> str:
        return digest_of([self.file], [repr(self.takes), self.output])

    def open(self) -> Callable[[Float32], Float32]:
        run = open_onnx(self.file, self.output)
        return lambda batch: np.concatenate([run(image[None]).reshape(1, -1) for image in batch])


class _Directory:
    """A directory of `transformers`."""

    def __init__(self, path: Path) -> None:
        for name in ("config.json", "preprocessor_config.json"):
            if not (path / name).is_file():
                raise UsageError(f"{path.name} is no model of transformers: it has no {name}.")
        self.weights = sorted(path.glob("*.safetensors"))
        if not self.weights:
            raise UsageError(f"{path.name} has no *.safetensors: convert its weights, pickles are not read.")
        self.path = path
        self.takes: FrozenInput = from_preprocessor_config(read_json(path / "preprocessor_config.json"))

    def digest(self) -> str:
        return digest_of([self.path / "config.json", *self.weights], [repr(self.takes)])

    def open(self) -> Callable[[Float32], Float32]:
        from .frozen_hub import open_directory

        return open_directory(self.path)


def read_json(file: Path) -> dict[str, Any]:
    """Raises UsageError where it is no JSON object."""
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        saved = None
    if not isinstance(saved, dict):
        raise UsageError(f"{file.name} is not a JSON object.")
    return saved


def digest_of(files: Sequence[Path], words: Sequence[str]) -> str:
    """Of the content of files, and of words; hex."""
    return sha256(json.dumps([*(file_sha256(file) for file in files), *words]).encode()).hexdigest()
