"""Encoders: saved, loaded, told apart; two run times give the same features."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cbmir.encoder import load_encoder
from cbmir.errors import BadEncoder, UsageError
from cbmir.networks import build
from cbmir.preprocess import Preprocessing
from small_network import save_small

CLASSES = ("brain", "eye", "knee")


def save(directory: Path, seed: int = 0, **changes: Any) -> None:
    save_small(directory, seed, **({"classes": CLASSES} | changes))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("encoders") / "small"
    save(directory)
    return directory


@pytest.fixture
def batch() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 1, 224, 224), np.uint8)


def test_the_posterior_that_is_told_is_the_calibrated_one(tmp_path: Path, saved: Path, batch: np.ndarray) -> None:
    save(tmp_path / "cooled", calibration={"temperature": {"temperature": 0.5}})
    plain, cooled = (load_encoder(folder, runtime="torch", precision="f32") for folder in (saved, tmp_path / "cooled"))
    before, after = plain.encode(batch).posterior, cooled.encode(batch).posterior
    assert before is not None
    np.testing.assert_allclose(after, before**2 / (before**2).sum(axis=1, keepdims=True), rtol=1e-5)
    assert plain.fingerprint != cooled.fingerprint


def test_pixels_is_a_thumbnail_without_its_mean() -> None:
    encoder = load_encoder("pixels")
    grey = np.zeros((1, 1, 24, 24), np.uint8)
    grey[0, 0, 0, 0] = 255
    features = encoder.encode(grey).features["pixels"]
    assert features.shape == (1, 576)
    assert features[0, 0] == pytest.approx(1 - 1 / 576)
    assert features.sum() == pytest.approx(0, abs=1e-4)
    assert encoder.encode(grey).posterior is None


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_a_network_gives_its_layers_and_a_posterior(saved: Path, batch: np.ndarray, runtime: str) -> None:
    encoder = load_encoder(saved, runtime=runtime, precision="f32")
    encoded = encoder.encode(batch)
    assert {name: layer.shape for name, layer in encoded.features.items()} == dict.fromkeys(
        ("FCL1", "FCL2", "FCL3"), (3, 8)
    )
    assert encoded.posterior is not None
    np.testing.assert_allclose(encoded.posterior.sum(axis=1), 1, rtol=1e-5)


def test_both_run_times_agree(saved: Path, batch: np.ndarray) -> None:
    by_torch = load_encoder(saved, runtime="torch", precision="f32").encode(batch)
    by_openvino = load_encoder(saved, runtime="openvino", precision="f32").encode(batch)
    for layer in by_torch.features:
        np.testing.assert_allclose(by_openvino.features[layer], by_torch.features[layer], rtol=1e-3, atol=1e-4)


def test_what_changes_the_answers_changes_the_fingerprint(saved: Path, tmp_path: Path) -> None:
    def fingerprint(name: str, precision: str = "f32", **changes: Any) -> str:
        save(tmp_path / name, **changes)
        return load_encoder(tmp_path / name, precision=precision).fingerprint

    same = load_encoder(saved, precision="f32").fingerprint
    assert fingerprint("copy") == same
    assert fingerprint("other training record", training={"recipe": "another"}) == same
    different = {
        same,
        fingerprint("precision", precision="bf16"),
        fingerprint("run time", precision="torch-f32"),
        fingerprint("weights", seed=1),
        fingerprint("classes", classes=("brain", "eye", "hand")),
        fingerprint("preprocessing", preprocessing=Preprocessing(percentiles=(1.0, 99.0))),
        fingerprint("calibration", calibration={"soft_gate_tau": {"FCL1": 2.0}}),
    }
    assert len(different) == 7


def test_openvino_needs_no_torch_once_it_has_its_copy(saved: Path, tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np; from cbmir.encoder import load_encoder;"
        f"load_encoder({str(saved)!r}, runtime='openvino').encode(np.zeros((1, 1, 224, 224), np.uint8));"
        "sys.exit('torch' in sys.modules)"
    )
    first, second = (subprocess.run([sys.executable, "-c", code], check=False).returncode for _ in range(2))
    assert (first, second) == (1, 0)


@pytest.mark.parametrize("name", ["pixels", "saved"])
def test_a_masked_encoder_is_another_one(name: str, saved: Path) -> None:
    where = saved if name == "saved" else name
    plain, masked = (load_encoder(where, mask_burned_in=mask) for mask in (False, True))
    assert (plain.preprocessing.regions_only, masked.preprocessing.regions_only) == (False, True)
    assert plain.fingerprint != masked.fingerprint


def test_a_missing_encoder_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no encoder at"):
        load_encoder(tmp_path / "nowhere")


def test_an_unknown_precision_or_runtime_is_the_callers_mistake(saved: Path) -> None:
    with pytest.raises(UsageError, match="no precision 'f16'"):
        load_encoder(saved, precision="f16")
    with pytest.raises(UsageError, match="no runtime 'tensorrt'"):
        load_encoder(saved, runtime="tensorrt").encode(np.zeros((1, 1, 224, 224), np.uint8))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda d: (d / "encoder.json").write_text("{"), "cannot be read"),
        (lambda d: (d / "weights.safetensors").unlink(), "no weights.safetensors"),
        (lambda d: _change(d, format=99), "another version"),
        (
            lambda d: _change(d, preprocessing={"version": 1, "size": 256}),
            "of preprocessing version 1, .* train it again",
        ),
        (lambda d: _change(d, preprocessing={"version": 2, "size": 0}), "lacks a part or has a wrong one"),
        (lambda d: _change(d, preprocessing={}), "lacks a part or has a wrong one"),
    ],
)
def test_a_damaged_encoder_is_refused_in_one_sentence(tmp_path: Path, damage: Any, sentence: str) -> None:
    save(tmp_path / "encoder")
    damage(tmp_path / "encoder")
    with pytest.raises(BadEncoder, match=sentence):
        load_encoder(tmp_path / "encoder")


def test_weights_that_are_not_the_ones_saved_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "encoder")
    save(tmp_path / "other", seed=1)
    os.replace(tmp_path / "other" / "weights.safetensors", tmp_path / "encoder" / "weights.safetensors")
    for runtime in ("torch", "openvino"):
        with pytest.raises(BadEncoder, match="its hash is not the one saved"):
            load_encoder(tmp_path / "encoder", runtime=runtime).encode(np.zeros((1, 1, 224, 224), np.uint8))


def test_a_whole_precision_names_the_run_time_too(saved: Path) -> None:
    assert load_encoder(saved, precision="torch-bf16").precision == "torch-bf16"
    assert load_encoder(saved, runtime="openvino", precision="f32").precision == "openvino-f32"


def test_an_unknown_network_is_refused_by_name() -> None:
    with pytest.raises(BadEncoder, match="'resnet'"):
        build({"kind": "resnet"})


def _change(directory: Path, **values: Any) -> None:
    path = directory / "encoder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
