"""`frozen:PATH`: small models with random weights, written by the tests, seen as their own libraries see them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from onnx import TensorProto, helper
from PIL import Image

from cbmir.baselines.frozen import Frozen
from cbmir.baselines.frozen_input import FrozenInput, from_onnx_json, from_preprocessor_config
from cbmir.baselines.projection import unit
from cbmir.errors import BadEncoder, CbmirError, UsageError

TRANSFORMER: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
STAGES: dict[str, Any] = {"depths": [1, 1], "num_stages": 2, "hidden_sizes": [8, 16]}
PROCESSOR: dict[str, Any] = {
    "do_resize": True,
    "size": {"shortest_edge": 36},
    "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.4],
}


def clip() -> Any:
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    words = {"vocab_size": 20, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return transformers.CLIPModel(
        transformers.CLIPConfig(vision_config=TRANSFORMER, text_config=text | words, projection_dim=12)
    )


def siglip() -> Any:
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    words = {"vocab_size": 20, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return transformers.SiglipModel(transformers.SiglipConfig(vision_config=TRANSFORMER, text_config=text | words))


def dinov2() -> Any:
    return transformers.Dinov2Model(transformers.Dinov2Config(**TRANSFORMER, mlp_ratio=2))


def vit() -> Any:
    return transformers.ViTForImageClassification(transformers.ViTConfig(**TRANSFORMER))


def swin() -> Any:
    sizes = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
    return transformers.SwinModel(transformers.SwinConfig(**sizes))


def resnet() -> Any:
    return transformers.ResNetForImageClassification(
        transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    )


def convnext() -> Any:
    return transformers.ConvNextModel(transformers.ConvNextConfig(**STAGES))


def of_another_family() -> Any:
    return transformers.MobileNetV1Model(transformers.MobileNetV1Config(image_size=32, depth_multiplier=0.25))


def pictures(n: int = 3, side: int = 32) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (n, 3, side, side), dtype=np.uint8)


def saved(model: Any, folder: Path) -> Path:
    torch.manual_seed(7)
    for tensor in model.parameters():  # many start as zeros or ones, which would hide a mistake
        torch.nn.init.normal_(tensor, 0.0, 0.2)
    model.eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return folder


def normalised(images: np.ndarray) -> torch.Tensor:
    mean, std = (np.array(PROCESSOR[key]).reshape(3, 1, 1) for key in ("image_mean", "image_std"))
    return torch.from_numpy((images / 255 - mean) / std).float()


EXPECTED: list[tuple[Callable[[], Any], int, Callable[[Any, torch.Tensor], torch.Tensor]]] = [
    (dinov2, 16, lambda model, x: model(x).last_hidden_state[:, 0]),
    (clip, 12, lambda model, x: model.visual_projection(model.vision_model(x).pooler_output)),
    (siglip, 16, lambda model, x: model.vision_model(x).pooler_output),
    (vit, 16, lambda model, x: model.vit(x).last_hidden_state[:, 0]),
    (swin, 16, lambda model, x: model(x).last_hidden_state.mean(dim=1)),
    (resnet, 16, lambda model, x: model.resnet(x).last_hidden_state.mean(dim=(2, 3))),
    (convnext, 16, lambda model, x: model.layernorm(model(x).last_hidden_state.mean(dim=(2, 3)))),
    (of_another_family, 256, lambda model, x: model(x).last_hidden_state.mean(dim=(2, 3))),
]


@pytest.mark.parametrize(("make", "dim", "expected"), EXPECTED, ids=[make.__name__ for make, _, _ in EXPECTED])
def test_the_features_of_a_family_are_what_its_authors_compare(
    make: Callable[[], Any], dim: int, expected: Callable[[Any, torch.Tensor], torch.Tensor], tmp_path: Path
) -> None:
    model = make()
    method = Frozen(saved(model, tmp_path / "model"))
    assert (method.name, method.distance, method.classes) == ("frozen:model", "euclidean", ())
    assert (method.preprocessing.size, method.preprocessing.crop, method.preprocessing.channels) == (36, 32, "rgb")
    features = method.features(pictures())
    with torch.inference_mode():
        want = unit(expected(model, normalised(pictures())).numpy())
    assert features.shape == (3, dim)
    assert features.dtype == np.float32
    assert np.allclose(features, want, atol=1e-5)
    assert method.classify(pictures()) is None


def test_normalisation_is_that_of_the_models_own_processor() -> None:
    image = pictures(1, side=36)
    crop = image[:, :, 2:-2, 2:-2]
    processor = transformers.BitImageProcessorPil(**{**PROCESSOR, "do_convert_rgb": True})
    theirs = processor(Image.fromarray(image[0].transpose(1, 2, 0)), return_tensors="np")["pixel_values"]
    assert np.allclose(from_preprocessor_config(PROCESSOR)(crop), theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("says", "sides"),
    [
        ({"size": {"height": 384, "width": 384}, "do_center_crop": None}, (384, 384)),  # SigLIP, ViT
        ({"size": 224, "do_center_crop": False}, (224, 224)),  # as older files have it
        ({"size": {"shortest_edge": 256}, "crop_size": 224}, (256, 224)),
        ({"size": {"shortest_edge": 518}, "crop_size": {"height": 518, "width": 518}}, (518, 518)),  # RAD-DINO
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875, "do_center_crop": False}, (256, 224)),  # ConvNeXt, ResNet
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875, "do_center_crop": False}, (384, 384)),
    ],
)
def test_sizes_are_read_as_each_family_writes_them(says: dict[str, Any], sides: tuple[int, int]) -> None:
    takes = from_preprocessor_config(PROCESSOR | says)
    assert (takes.side, takes.crop) == sides


@pytest.mark.parametrize(
    "says",
    [
        {"do_resize": False},
        {"size": {"longest_edge": 224}},
        {"size": {"height": 224, "width": 196}},
        {"size": None},
        {"image_mean": None},
        {"image_std": [0, 0, 0]},
        {"crop_size": 64},  # larger than the picture
    ],
)
def test_a_preprocessing_that_cannot_be_followed_is_refused(says: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="preprocess"):
        from_preprocessor_config(PROCESSOR | says)


def test_pickles_missing_weights_and_code_of_their_own_are_refused(tmp_path: Path) -> None:
    folder = saved(vit(), tmp_path / "model")
    torch.save({}, tmp_path / "pytorch_model.bin")
    (folder / "model.safetensors").rename(tmp_path / "aside")
    (tmp_path / "pytorch_model.bin").rename(folder / "pytorch_model.bin")
    with pytest.raises(UsageError, match="pickles are not read"):
        Frozen(folder)
    (tmp_path / "aside").rename(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(BadEncoder, match="lacks 16 of the weights"):
        Frozen(folder).features(pictures())
    code = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
    (folder / "config.json").write_text(json.dumps(code))
    (folder / "mine.py").write_text("raise SystemExit('this ran')")
    with pytest.raises(BadEncoder, match="cannot be read"):
        Frozen(folder).features(pictures())


def test_a_folder_or_name_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no config\.json"):
        Frozen(tmp_path)
    with pytest.raises(UsageError, match="is no model"):
        Frozen(Path("facebook/dinov2-base"))  # nothing is looked up anywhere else


def test_a_model_that_was_exchanged_is_noticed(tmp_path: Path) -> None:
    method = Frozen(saved(resnet(), tmp_path / "model"))
    method.save(tmp_path / "state")
    Frozen(tmp_path / "model").load(tmp_path / "state")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with pytest.raises(CbmirError, match="another model"):
        Frozen(tmp_path / "model").load(tmp_path / "state")


DESCRIPTION: dict[str, Any] = {
    "side": 4,
    "scale": 0.5,
    "mean": [1, 2, 3],
    "std": [1, 2, 4],
    "output": "means",
}


def means_network(file: Path, shape: list[int], axes: list[int]) -> None:
    """An ONNX file whose `means` are the mean of each channel; its first output is another one."""
    graph = helper.make_graph(
        [
            helper.make_node("Neg", ["x"], ["other"]),
            helper.make_node("ReduceMean", ["x"], ["means"], axes=axes, keepdims=0),
        ],
        "means",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info("other", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("means", TensorProto.FLOAT, [shape[0], 3]),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), file)


@pytest.mark.parametrize(
    ("says", "shape", "axes", "order"),
    [
        ({}, [1, 3, 4, 4], [2, 3], [0, 1, 2]),
        ({"channels": "bgr"}, [1, 3, 4, 4], [2, 3], [2, 1, 0]),
        ({"layout": "NHWC"}, [1, 4, 4, 3], [1, 2], [0, 1, 2]),
    ],
)
def test_an_onnx_file_gets_what_the_json_beside_it_says(
    says: dict[str, Any], shape: list[int], axes: list[int], order: list[int], tmp_path: Path
) -> None:
    means_network(tmp_path / "net.onnx", shape, axes)
    (tmp_path / "net.json").write_text(json.dumps(DESCRIPTION | says))
    method = Frozen(tmp_path / "net.onnx")
    images = pictures(2, side=4)
    grey = images.mean(axis=(2, 3))[:, order]
    want = unit((grey * 0.5 - np.array([1, 2, 3])) / np.array([1, 2, 4]))
    assert np.allclose(method.features(images), want, atol=1e-5)
    assert method.name == "frozen:net"


def test_a_json_elsewhere_names_its_onnx_file(tmp_path: Path) -> None:
    (tmp_path / "read-only").mkdir()
    means_network(tmp_path / "read-only" / "net.onnx", [1, 3, 4, 4], [2, 3])
    (tmp_path / "mine.json").write_text(json.dumps(DESCRIPTION | {"file": "read-only/net.onnx"}))
    assert Frozen(tmp_path / "mine.json").features(pictures(1, side=4)).shape == (1, 3)


def test_what_is_wrong_with_an_onnx_file_is_said(tmp_path: Path) -> None:
    means_network(tmp_path / "net.onnx", [1, 3, 4, 4], [2, 3])
    with pytest.raises(UsageError, match="is no model"):
        Frozen(tmp_path / "net.onnx")
    description = tmp_path / "net.json"
    for says, complaint in (
        ({"output": None}, "names no output"),
        ({"size": 4}, "has no 'size'"),
        ({"mean": "grey"}, "where a number belongs"),
        ({"channels": "rgba"}, "rgb, bgr or grey"),
        ({"crop": 5}, "between 1 and side"),
    ):
        description.write_text(json.dumps(DESCRIPTION | says))
        with pytest.raises(UsageError, match=complaint):
            Frozen(tmp_path / "net.onnx")
    description.write_text("[]")
    with pytest.raises(UsageError, match="not a JSON object"):
        Frozen(tmp_path / "net.onnx")
    description.write_text(json.dumps(DESCRIPTION | {"output": "nothing"}))
    with pytest.raises(BadEncoder, match="no output 'nothing'"):
        Frozen(tmp_path / "net.onnx").features(pictures(1, side=4))
    (tmp_path / "net.onnx").write_bytes(b"no onnx")
    with pytest.raises(BadEncoder, match="cannot be read as ONNX"):
        Frozen(tmp_path / "net.onnx").features(pictures(1, side=4))


def test_a_lack_in_the_json_is_named() -> None:
    with pytest.raises(UsageError, match="lacks 'scale'"):
        from_onnx_json({key: value for key, value in DESCRIPTION.items() if key != "scale"})


def test_grey_models_get_one_channel() -> None:
    takes = FrozenInput(side=8, crop=8, mean=(0.5,), std=(0.25,), channels="grey")
    assert takes.preprocessing.channels == "grey"
    assert takes(np.full((1, 1, 8, 8), 255, np.uint8)).max() == pytest.approx(2.0)
