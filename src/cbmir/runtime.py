"""What runs a network: PyTorch or OpenVINO, behind one call from a batch of images to its layers.

OpenVINO is the default where it is installed: it runs the paper's network two to five times faster on a CPU, and once
it has kept its own copy of a network (in the user's cache, by the encoder's content) PyTorch need not be imported.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args

import numpy as np

from .errors import BadEncoder, UsageError
from .files import file_sha256
from .types import Float32, UInt8

RuntimeName = Literal["torch", "openvino"]
Precision = Literal["f32", "bf16"]
RUNTIMES: tuple[str, ...] = get_args(RuntimeName)
PRECISIONS: tuple[str, ...] = get_args(Precision)

Part = Literal["answers", "maps"]
"""What of a network is run: all of it, or up to its last feature maps (`Network.maps`)."""

Architecture = Mapping[str, Any]
"""`kind` and the arguments of the network's constructor, as saved in encoder.json."""


class Runtime(Protocol):
    """Calls the network: uint8 (n, C, H, W) to its outputs in order, float32, the last one log-probabilities; or to
    its feature maps alone.
    """

    def __call__(self, batch: UInt8) -> list[Float32]: ...


@dataclass(frozen=True)
class NetworkFiles:
    """Where a saved network lies. weights_sha256: what the weights have to be, hex."""

    architecture: Architecture
    weights: Path
    weights_sha256: str

    @property
    def key(self) -> str:
        """Names OpenVINO's copy: a hash of architecture and weights."""
        content = json.dumps([dict(self.architecture), self.weights_sha256], sort_keys=True)
        return sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Arithmetic:
    """What runs a network and in which precision. Features of two arithmetics differ in their last digits."""

    runtime: RuntimeName
    precision: Precision

    def __str__(self) -> str:
        return f"{self.runtime}-{self.precision}"


def choose_arithmetic(runtime: str = "auto", precision: str = "auto") -> Arithmetic:
    """runtime: auto is PyTorch beside an NVIDIA GPU, else OpenVINO where it is installed, else PyTorch.

    precision: auto is bf16 where this machine computes in bfloat16 itself, else f32; or a whole `openvino-bf16`.
    Raises UsageError for an unknown word, BadEncoder when the run time is not installed.
    """
    if "-" in precision:
        runtime, _, precision = precision.partition("-")
    if runtime not in ("auto", *RUNTIMES):
        raise UsageError(f"There is no runtime '{runtime}': choose auto, {' or '.join(RUNTIMES)}.")
    if precision not in ("auto", *PRECISIONS):
        raise UsageError(f"There is no precision '{precision}': choose auto, {' or '.join(PRECISIONS)}.")
    order = RUNTIMES if _has_gpu() else tuple(reversed(RUNTIMES))
    wanted = order if runtime == "auto" else (runtime,)
    found = next((name for name in wanted if importlib.util.find_spec(name)), None)
    if found is None:
        raise BadEncoder(
            f"An encoder with a network is run by {' or '.join(wanted)}: pip install 'cbmir[torch,openvino]'. "
            "The encoder pixels needs neither."
        )
    if precision == "auto":
        precision = "bf16" if _has_bf16() else "f32"
    return Arithmetic(cast(RuntimeName, found), cast(Precision, precision))


def _has_gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists()


def _has_bf16() -> bool:
    try:
        return _has_gpu() or "avx512_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:  # no Linux: the plain precision is always right
        return False


def open_runtime(files: NetworkFiles, arithmetic: Arithmetic, part: Part = "answers") -> Runtime:
    return (_OpenVINO if arithmetic.runtime == "openvino" else _Torch)(files, arithmetic.precision, part)


def load_network(files: NetworkFiles) -> Any:
    """The saved network as a torch module, ready to run.

    Raises BadEncoder without PyTorch, or when the weights are not those the encoder was saved with, or do not fit the
    architecture.
    """
    if importlib.util.find_spec("torch") is None:
        raise BadEncoder("A network is read, and made ready for OpenVINO, by PyTorch: pip install 'cbmir[torch]'.")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from .networks import build

    _check(files)
    network = build(files.architecture)
    try:
        network.load_state_dict(load_file(files.weights))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise BadEncoder(
            f"{files.weights.name} does not fit the architecture in encoder.json: it is damaged or of another encoder"
        ) from error
    return network.eval()


def load_arrays(files: NetworkFiles, names: Sequence[str]) -> list[Float32]:
    """Some of a network's weights, by their names in its file; needs no PyTorch. Raises BadEncoder as load_network."""
    from safetensors import SafetensorError, safe_open

    _check(files)
    try:
        with safe_open(files.weights, "numpy") as weights:
            return [np.asarray(weights.get_tensor(name), np.float32) for name in names]
    except (OSError, SafetensorError) as error:
        raise BadEncoder(f"{files.weights.name} lacks a part: it is damaged or of another encoder") from error


def _check(files: NetworkFiles) -> None:
    if file_sha256(files.weights) != files.weights_sha256:
        raise BadEncoder(
            f"{files.weights.name} is damaged or of another encoder: its hash is not the one saved with it."
        )


class _Torch:
    def __init__(self, files: NetworkFiles, precision: Precision, part: Part) -> None:
        import torch

        self.torch = torch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        network = load_network(files).to(self.device, memory_format=torch.channels_last)
        self.run = network if part == "answers" else lambda images: [network.maps(images)]

    def __call__(self, batch: UInt8) -> list[Float32]:
        torch = self.torch
        lower = self.dtype != torch.float32
        with torch.inference_mode(), torch.autocast(self.device, self.dtype, enabled=lower):
            outputs = self.run(torch.from_numpy(batch).to(self.device).float())
        return [output.float().cpu().numpy() for output in outputs]


class _OpenVINO:
    """One compiled model; calls block, so one thread runs the network while worker processes decode."""

    def __init__(self, files: NetworkFiles, precision: Precision, part: Part) -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(self._converted(files, part))
        self.compiled = core.compile_model(
            model,
            "CPU",
            {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"},
        )
        self.request = self.compiled.create_infer_request()

    def __call__(self, batch: UInt8) -> list[Float32]:
        results = self.request.infer({0: batch.astype(np.float32)})
        return [np.array(results[port], np.float32) for port in self.compiled.outputs]

    @staticmethod
    def _converted(files: NetworkFiles, part: Part) -> Path:
        """OpenVINO's copy of the network, made once (this needs PyTorch) and put in place in one move. Maps are of
        pictures of any size.
        """
        folder = cache_folder() / "openvino" / (files.key if part == "answers" else f"{files.key}-{part}")
        if not folder.is_dir():
            import openvino
            import torch

            side, channels = files.architecture["side"], files.architecture["channels"]
            network = load_network(files)
            with warnings.catch_warnings():  # of the two libraries about each other
                warnings.simplefilter("ignore")
                model = openvino.convert_model(
                    network if part == "answers" else _maps_of(network),
                    example_input=torch.zeros(2, channels, side, side),
                    input=[-1, channels, side, side] if part == "answers" else [-1, channels, -1, -1],
                )
            folder.parent.mkdir(parents=True, exist_ok=True)
            new = Path(tempfile.mkdtemp(dir=folder.parent))
            openvino.save_model(model, new / "network.xml", compress_to_fp16=False)
            try:
                new.rename(folder)
            except OSError:  # another process was first
                shutil.rmtree(new)
        return folder / "network.xml"


def _maps_of(network: Any) -> Any:
    """A module that gives the network's feature maps."""
    import torch

    class Maps(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            maps: torch.Tensor = self.network.maps(images)
            return maps

    return Maps().eval()


def open_onnx(file: Path, output: str) -> Callable[[Float32], Float32]:
    """Any network in an ONNX file, read by OpenVINO: a call from one image, float32 as its only input takes it with a
    first axis of 1, to the output of that name, float32 with a first axis of 1.

    Raises BadEncoder without OpenVINO, or where the file is damaged or has no such output.
    """
    if importlib.util.find_spec("openvino") is None:
        raise BadEncoder("ONNX files are run by OpenVINO: pip install 'cbmir[openvino]'.")
    import openvino

    core = openvino.Core()
    try:
        model = core.read_model(file)
        wanted = model.output(output)
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"})
    except RuntimeError as error:
        raise BadEncoder(f"{file.name} cannot be read as ONNX, or has no output '{output}'.") from error
    position = next(i for i, port in enumerate(model.outputs) if port.any_name == wanted.any_name)
    request = compiled.create_infer_request()
    return lambda image: np.array(request.infer({0: image})[compiled.output(position)], np.float32)


def cache_folder() -> Path:
    """Where derived files may be kept: $XDG_CACHE_HOME/cbmir, else ~/.cache/cbmir."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cbmir"
