"""The compact network: its shapes, its pooling, its normalisations folded away, and ImageNet weights from ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cbmir.errors import BadEncoder
from cbmir.networks import build
from cbmir.networks.imagenet import start_from_onnx
from cbmir.networks.mobile import CHANNELS, Mobile

IMAGENET = Path(__file__).resolve().parents[2] / "shared" / "weights" / "mobilenet_v2"


@pytest.fixture(scope="module")
def network() -> Any:
    made = build({"kind": "mobile", "side": 64, "channels": 3, "n_classes": 4, "n_modalities": 2, "dim": 16})
    made.initialise(torch.Generator().manual_seed(0))
    return made.eval()


def some_images(n: int = 2, side: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, side, side), generator=torch.Generator().manual_seed(1)).float()


def test_the_main_layer_has_unit_length_and_the_posterior_sums_to_one(network: Any) -> None:
    with torch.no_grad():
        main, log_probabilities = network(some_images())
    assert main.shape == (2, 16)
    torch.testing.assert_close(main.norm(dim=1), torch.ones(2))
    assert log_probabilities.shape == (2, 4)
    torch.testing.assert_close(log_probabilities.exp().sum(1), torch.ones(2))


@pytest.mark.parametrize(("side", "places"), [(64, 2), (160, 5), (320, 10)])
def test_the_last_map_has_a_place_for_every_32_pixels(network: Any, side: int, places: int) -> None:
    with torch.no_grad():
        assert network.maps(some_images(1, side)).shape == (1, CHANNELS, places, places)


def test_generalised_mean_pooling_is_between_mean_and_maximum(network: Any) -> None:
    maps = torch.tensor([1.0, 2.0, 3.0, 6.0]).reshape(1, 1, 2, 2).expand(1, CHANNELS, 2, 2)
    pooled = {p: _pooled(network, maps, p) for p in (1.0, 3.0, 30.0)}
    assert pooled[1.0] == pytest.approx(3)
    assert pooled[3.0] == pytest.approx(((1 + 8 + 27 + 216) / 4) ** (1 / 3))
    assert pooled[30.0] == pytest.approx(6, rel=0.05)


def _pooled(network: Any, maps: torch.Tensor, p: float) -> float:
    kept = network.p.data.clone()
    network.p.data.fill_(p)
    try:
        return float(network.pool(maps).detach()[0, 0])
    finally:
        network.p.data.copy_(kept)


def test_folding_changes_no_answer() -> None:
    made = Mobile(3, 2, dim=8, norm=True)
    made.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        made.train()(some_images(4))  # moves the running means
        before = made.eval()(some_images())
        made.fold()
        after = made(some_images())
    assert not any("norm" in name for name in made.state_dict())
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-3)


def test_what_is_folded_fits_the_network_without_normalisations() -> None:
    made = Mobile(3, 2, dim=8, norm=True)
    made.fold()
    assert Mobile(3, 2, dim=8).load_state_dict(made.state_dict())


def test_two_bodies_see_as_each_alone_side_by_side() -> None:
    alone = [Mobile(3, 2, dim=8), Mobile(3, 2, dim=8)]
    for seed, one in enumerate(alone):
        one.initialise(torch.Generator().manual_seed(seed))
        one.p.data.fill_(2.0 + seed)
    both = Mobile(3, 2, bodies=2, dim=8)
    both.take_bodies(alone)
    with torch.no_grad():
        seen = both.eval().pool(both.maps(some_images()))
        each = [one.eval().pool(one.maps(some_images())) for one in alone]
    torch.testing.assert_close(seen, torch.cat(each, dim=1))


def test_it_sees_three_channels() -> None:
    with pytest.raises(ValueError, match="three channels"):
        Mobile(3, 2, channels=1)


def test_an_onnx_file_of_another_network_is_refused(tmp_path: Path, network: Any) -> None:
    import onnx

    weight = onnx.numpy_helper.from_array(np.zeros((1, 3, 3, 3), np.float32), "w")
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["x", "w"], ["y"])],
        "one",
        [value("x", 1, [1, 3, 9, 9])],
        [value("y", 1, [1, 1, 7, 7])],
        [weight],
    )
    onnx.save(onnx.helper.make_model(graph), tmp_path / "one.onnx")
    with pytest.raises(BadEncoder, match="it has 1 convolutions, not 52"):
        start_from_onnx(network, tmp_path / "one.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(BadEncoder, match="cannot be read"):
        start_from_onnx(network, tmp_path / "text.onnx")


@pytest.mark.skipif(not IMAGENET.is_dir(), reason="needs the shared ImageNet weights")
def test_the_body_answers_as_the_onnx_file_does() -> None:
    from cbmir.runtime import open_onnx

    file = next(IMAGENET.glob("*.onnx"))
    made = Mobile(2, 2)
    start_from_onnx(made, file)
    picture = some_images(1, 224)
    theirs = open_onnx(file, "embedding")((picture / 128 - 1).numpy())
    with torch.no_grad():
        ours = made.eval().maps(picture).mean((2, 3)).numpy()
    np.testing.assert_allclose(ours.ravel(), theirs.ravel(), atol=0.02)
