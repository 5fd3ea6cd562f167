"""The network is the one of section 3.1.1."""

from __future__ import annotations

import pytest
import torch

from cbmir.networks.dcnn import DCNN


@pytest.fixture(scope="module")
def network() -> DCNN:
    return DCNN(24, width=16)


def test_it_has_the_papers_kernels() -> None:
    with torch.device("meta"):
        network = DCNN(24)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.named_parameters() if name.endswith("weight")}
    assert shapes == {
        "cvl1.weight": (64, 1, 11, 11),
        "cvl2.weight": (192, 64, 5, 5),
        "cvl3.weight": (384, 192, 5, 5),
        "cvl4.weight": (256, 384, 3, 3),
        "cvl5.weight": (256, 256, 3, 3),
        "fcl1.weight": (4096, 256 * 6 * 6),
        "fcl2.weight": (4096, 4096),
        "fcl3.weight": (4096, 4096),
        "output.weight": (24, 4096),
    }
    assert sum(tensor.numel() for tensor in network.parameters()) == 75_047_640


def test_it_gives_three_layers_after_relu_and_log_probabilities(network: DCNN) -> None:
    fcl1, fcl2, fcl3, log_probabilities = network.eval()(torch.rand(2, 1, 224, 224) * 255)
    assert [tuple(layer.shape) for layer in (fcl1, fcl2, fcl3)] == [(2, 16)] * 3
    assert all((layer >= 0).all() for layer in (fcl1, fcl2, fcl3))
    assert torch.allclose(log_probabilities.exp().sum(dim=1), torch.ones(2))


def test_in_the_other_reading_fcl3_is_the_output_layer() -> None:
    network = DCNN(24, width=16, separate_fcl3=False).eval()
    *_, fcl3, log_probabilities = network(torch.rand(2, 1, 224, 224) * 255)
    assert fcl3.shape == (2, 24)
    assert torch.allclose(fcl3.log_softmax(dim=1), log_probabilities)


def test_the_papers_biases_are_one_in_cvl_2_4_5_and_the_fcls(network: DCNN) -> None:
    network.initialise("paper", "paper", torch.Generator().manual_seed(0))
    biases = {name: layer.bias[0].item() for name, layer in network.named_children() if hasattr(layer, "bias")}
    ones = {"cvl2", "cvl4", "cvl5", "fcl1", "fcl2", "fcl3"}
    assert biases == {name: float(name in ones) for name in biases}
    assert network.cvl3.weight.std().item() == pytest.approx(0.01, rel=0.01)


def test_he_weights_keep_the_size_of_activations(network: DCNN) -> None:
    network.initialise("he", "zero", torch.Generator().manual_seed(0))
    assert network.cvl3.weight.std().item() == pytest.approx((2 / (192 * 25)) ** 0.5, rel=0.01)
    assert all(layer.bias.abs().max() == 0 for layer in network.children() if hasattr(layer, "bias"))


def test_dropout_is_on_in_training_and_off_when_features_are_taken() -> None:
    network = DCNN(24, width=64)
    images = torch.rand(1, 1, 224, 224) * 255
    assert torch.equal(network.eval()(images)[2], network(images)[2])
    assert not torch.equal(network.train()(images)[2], network(images)[2])


def test_the_input_is_centred_as_told() -> None:
    centred, plain = DCNN(2, width=4, mean=0.5, scale=0.5), DCNN(2, width=4)
    plain.load_state_dict(centred.state_dict())
    grey = torch.rand(1, 1, 224, 224) * 255
    same = (grey / 255 - 0.5) / 0.5 * 255
    assert torch.allclose(centred.eval()(grey)[3], plain.eval()(same)[3], atol=1e-5)
