"""Encoders as ONNX files: another program's reading of the file answers what cbmir answers."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
import torch

from cbmir.encoder import load_encoder, save_encoder
from cbmir.errors import BadEncoder, UsageError
from cbmir.interchange import export_onnx
from cbmir.networks import build
from cbmir.preprocess import Preprocessing
from small_network import save_small

SIDE = 64


def save_mobile(directory: Path) -> Path:
    """The compact network for small pictures, untrained."""
    architecture = {"kind": "mobile", "side": SIDE, "channels": 3, "n_classes": 3, "n_modalities": 2, "dim": 16}
    network = build(architecture)
    network.initialise(torch.Generator().manual_seed(1))
    save_encoder(
        directory,
        {name: tensor.half() for name, tensor in network.state_dict().items()},
        architecture=architecture,
        preprocessing=Preprocessing(size=SIDE, crop=SIDE, channels="rgb"),
        classes=("brain", "eye", "knee"),
        layers={"main": 16},
        calibration={"temperature": {"temperature": 0.25}},
        training={},
    )
    return directory


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mobile, small, and the ONNX file of each beside it."""
    folder = tmp_path_factory.mktemp("interchange")
    save_mobile(folder / "mobile")
    save_small(folder / "small", classes=("brain", "eye"))
    for name in ("mobile", "small"):
        export_onnx(folder / name, folder / f"{name}.onnx")
    return folder


def answers(file: Path, batch: np.ndarray) -> dict[str, np.ndarray]:
    model = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = model({"images": batch.astype(np.float32)})
    return {port.any_name: found[port] for port in model.outputs}


@pytest.mark.parametrize("n_images", [1, 3])
@pytest.mark.parametrize("name", ["mobile", "small"])
def test_another_program_reads_the_answers_of_pytorch(name: str, n_images: int, encoders: Path) -> None:
    encoder = load_encoder(encoders / name, runtime="torch", precision="f32")
    recipe = encoder.preprocessing
    shape = (n_images, recipe.n_channels, recipe.crop, recipe.crop)
    batch = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    found, wanted = answers(encoders / f"{name}.onnx", batch), encoder.encode(batch)
    assert list(found) == [*encoder.layers, "posterior"]
    for layer, features in wanted.features.items():
        lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(found[layer], axis=1)
        assert ((features * found[layer]).sum(axis=1) / lengths).min() >= 0.999
    np.testing.assert_allclose(found["posterior"], wanted.posterior, atol=1e-4)


def test_the_file_says_what_it_has_to_be_given_and_what_it_answers(encoders: Path) -> None:
    encoder: Any = load_encoder(encoders / "mobile")
    told = {entry.key: entry.value for entry in onnx.load(encoders / "mobile.onnx").metadata_props}
    assert Preprocessing.from_dict(json.loads(told["preprocessing"])) == encoder.preprocessing
    assert json.loads(told["classes"]) == ["brain", "eye", "knee"]
    assert json.loads(told["layers"]) == {"main": 16}
    assert (told["digest"], told["weights_sha256"]) == (encoder.digest, encoder.weights_sha256)
    assert "licence" not in told


def test_the_encoder_that_comes_with_cbmir_takes_its_licence_along(stand_in: Path, tmp_path: Path) -> None:
    told = export_onnx("default", tmp_path / "default.onnx")
    assert told["outputs"] == {"FCL1": 8, "FCL2": 8, "FCL3": 8, "posterior": 2}
    assert (tmp_path / "default.onnx").stat().st_size == told["bytes"]
    written = {entry.key: entry.value for entry in onnx.load(tmp_path / "default.onnx").metadata_props}
    assert written["licence"] == (stand_in.parent / "LICENSE").read_text()


def test_what_cannot_be_exported_is_said(encoders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"exported as \.onnx, and not as a\.pt"):
        export_onnx(encoders / "mobile", tmp_path / "a.pt")
    with pytest.raises(UsageError, match="has no network"):
        export_onnx("pixels", tmp_path / "a.onnx")
    with pytest.raises(UsageError, match="cannot be written"):
        export_onnx(encoders / "mobile", tmp_path / "nowhere" / "a.onnx")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else found(name))
    with pytest.raises(BadEncoder, match=r"pip install 'cbmir\[torch,onnx\]'"):
        export_onnx(encoders / "mobile", tmp_path / "a.onnx")


def test_a_damaged_encoder_leaves_the_older_file_alone(encoders: Path, tmp_path: Path) -> None:
    shutil.copytree(encoders / "small", tmp_path / "small")
    (tmp_path / "small" / "weights.safetensors").write_bytes(b"no weights")
    (tmp_path / "a.onnx").write_bytes(b"older")
    with pytest.raises(BadEncoder, match="damaged"):
        export_onnx(tmp_path / "small", tmp_path / "a.onnx")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("a.")] == ["a.onnx"]
    assert (tmp_path / "a.onnx").read_bytes() == b"older"
