"""An encoder for other programs: network, preprocessing recipe and class names in one ONNX file.

Input `images`: float32 (n, C, side, side), grey levels 0 ... 255, as `preprocess` makes them; n is free. Outputs: the
layers by their names, then `posterior` (n, K), calibrated where the encoder is. Metadata, as text: `preprocessing`,
`classes` and `layers` as JSON, `digest` of the encoder, `weights_sha256`, and `licence` where the encoder has one.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .encoder import NetworkEncoder, encoder_folder, load_encoder
from .errors import BadEncoder, UsageError
from .runtime import load_network
from .tables import check_place


def export_onnx(encoder_name: str | Path, to: Path) -> dict[str, Any]:
    """Write the file; an older one is replaced when the new one is whole. encoder_name: as load_encoder has it.

    Raises UsageError for another suffix, a folder that is not there, or an encoder without a network; BadEncoder where
    a library is missing.
    """
    if to.suffix.lower() != ".onnx":
        raise UsageError(f"An encoder is exported as .onnx, and not as {to.name} says.")
    check_place(to)
    encoder = load_encoder(encoder_name)
    if not isinstance(encoder, NetworkEncoder):
        raise UsageError(f"The encoder {encoder.name} has no network that ONNX could hold.")
    if importlib.util.find_spec("onnxscript") is None:
        raise BadEncoder("ONNX files are written by onnxscript: pip install 'cbmir[torch,onnx]'.")
    metadata = metadata_of(encoder)
    new = to.with_name(to.name + ".new")
    try:
        _write(encoder, metadata, new)
        os.replace(new, to)
    finally:
        new.unlink(missing_ok=True)
    outputs = {**encoder.layers, "posterior": len(encoder.classes)}
    return {"file": str(to), "bytes": to.stat().st_size, "digest": encoder.digest, "outputs": outputs}


def metadata_of(encoder: NetworkEncoder) -> dict[str, str]:
    told = {
        "preprocessing": json.dumps(encoder.preprocessing.as_dict()),
        "classes": json.dumps(list(encoder.classes)),
        "layers": json.dumps(dict(encoder.layers)),
        "digest": encoder.digest,
        "weights_sha256": encoder.weights_sha256,
    }
    if encoder.directory == encoder_folder("default").resolve():
        told["licence"] = (encoder.directory.parent / "LICENSE").read_text(encoding="utf-8")
    return told


def _write(encoder: NetworkEncoder, metadata: dict[str, str], to: Path) -> None:
    import torch

    side, channels = encoder.architecture["side"], encoder.architecture["channels"]
    network = _with_posterior(load_network(encoder.files), encoder.calibration.get("temperature", {}))
    with _quiet():
        program = torch.onnx.export(
            network,
            (torch.zeros(2, channels, side, side),),
            input_names=["images"],
            output_names=[*encoder.layers, "posterior"],
            dynamic_shapes=({0: torch.export.Dim("n", min=1)},),
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.model.metadata_props.update(metadata)
        program.save(to, external_data=False)


def _with_posterior(network: Any, temperature: dict[str, float]) -> Any:
    """The network, with the posterior that cbmir tells in the place of log-probabilities."""
    import torch

    divisor = temperature.get("temperature", 1.0)

    class WithPosterior(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            *layers, log_probabilities = self.network(images)
            return *layers, torch.softmax(log_probabilities / divisor, dim=1)

    return WithPosterior().eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the libraries tell of each other."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
