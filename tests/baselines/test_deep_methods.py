"""The paper's network as a method, and what stands on it: SPoC [17] and 48-bit hash codes [18]. A narrow network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cbmir.baselines import TrainPart
from cbmir.baselines.dcnn import Dcnn
from cbmir.baselines.hash48 import Hash48, coarse_to_fine
from cbmir.baselines.spoc import Spoc, centre_prior, last_convolution, sum_pooled
from cbmir.baselines.trained import Trained
from cbmir.classification import centre_crop
from cbmir.errors import CbmirError, UsageError
from cbmir.networks.dcnn import DCNN
from cbmir.recipes import PAPER_PRACTICAL

WIDTH = 24
RECIPE = replace(PAPER_PRACTICAL, epochs=2, batch_size=4, weights="he", precision="32-true")


def halves(n: int, seed: int) -> tuple[np.ndarray, list[str], list[str]]:
    """Noise, bright on the left or at the top."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 90, (n, 1, 256, 256), dtype=np.uint8)
    labels = ["left" if i % 2 else "top" for i in range(n)]
    for image, label in zip(images, labels, strict=True):
        (image[:, :, :128] if label == "left" else image[:, :128])[:] += 150
    return images, labels, [f"patient {i}" for i in range(n)]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads of such small work only wait for one another where other tests run beside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def loaded(saved: Path) -> Dcnn:
    method = Dcnn()
    method.load(saved)
    return method


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fitted dcnn on disk."""
    method = Dcnn(recipe=RECIPE, width=WIDTH)
    method.fit(TrainPart(*halves(16, seed=1)), seed=24)
    folder = tmp_path_factory.mktemp("dcnn")
    method.save(folder)
    return folder


def test_one_fit_serves_the_three_layers_and_is_an_encoder(saved: Path) -> None:
    images, _, _ = halves(6, seed=2)
    method = Dcnn("FCL2")
    method.load(saved)
    assert (method.name, method.fit_name, method.classes) == ("dcnn-fcl2", "dcnn", ("left", "top"))
    by_layer = method.encode(images).features
    assert (list(by_layer), method.layers) == (["FCL1", "FCL2", "FCL3"], ("FCL2",))
    assert method.features(images).shape == (6, WIDTH)
    assert np.array_equal(method.features(images), by_layer["FCL2"])
    posterior = method.classify(images)
    assert posterior is not None
    assert posterior.sum(axis=1) == pytest.approx(np.ones(6), abs=1e-5)

    encoder = Trained(saved)
    assert encoder.name == f"encoder:{saved.name}"
    assert np.array_equal(encoder.features(centre_crop(images)), by_layer["FCL1"])
    assert np.array_equal(encoder.classify(centre_crop(images)), posterior)


def output_weights(method: Dcnn) -> list[float]:
    weights: list[float] = method.network().output.weight.flatten().tolist()
    return weights


def test_the_same_seed_gives_the_same_weights_and_no_checkpoint_is_left(tmp_path: Path, saved: Path) -> None:
    train = TrainPart(*halves(16, seed=1), work=tmp_path / "work")
    first, again = Dcnn(), Dcnn(recipe=RECIPE, width=WIDTH)
    first.load(saved)
    told: list[tuple[int, int]] = []
    again.fit(train, seed=24, on_progress=lambda *args: told.append(args))
    assert told[-1] == (32, 32)
    assert not list((tmp_path / "work").glob("checkpoint*"))
    assert output_weights(again) == output_weights(first)


def test_an_encoder_of_somebody_else_is_not_taken_for_a_fit(saved: Path, tmp_path: Path) -> None:
    text = (saved / "encoder.json").read_text()
    (tmp_path / "encoder.json").write_text(text.replace('"method": "dcnn"', '"method": "another"'))
    (tmp_path / "weights.safetensors").write_bytes((saved / "weights.safetensors").read_bytes())
    with pytest.raises(CbmirError, match="not of the method 'dcnn-fcl1'"):
        Dcnn().load(tmp_path)
    with pytest.raises(CbmirError, match="fit it first"):
        Dcnn().load(tmp_path / "nothing")
    with pytest.raises(UsageError, match="not fitted"):
        Dcnn().features(np.zeros((1, 1, 256, 256), np.uint8))
    with pytest.raises(UsageError, match="FCL1, FCL2, FCL3"):
        Dcnn("FCL4")


def test_an_encoder_remembers_which_one_was_measured(tmp_path: Path) -> None:
    pixels = Trained(Path("pixels"))
    pixels.save(tmp_path)
    pixels.load(tmp_path)
    assert pixels.classify(np.zeros((1, 1, 24, 24), np.uint8)) is None
    pixels.encoder = Trained(Path("pixels")).encoder
    pixels.encoder.preprocessing = replace(pixels.encoder.preprocessing, regions_only=True)  # type: ignore[misc]
    with pytest.raises(CbmirError, match="another encoder"):
        pixels.load(tmp_path)


def test_the_centre_prior_falls_to_a_third_of_the_way_as_a_gaussian_does() -> None:
    prior = centre_prior(13)
    assert float(prior[6, 6]) == 1
    assert float(prior[6, 8]) == pytest.approx(np.exp(-(2**2) / (2 * (6.5 / 3) ** 2)))
    assert torch.equal(prior, prior.flip(0).T)


def test_sum_pooling_weighs_the_centre_most() -> None:
    maps = torch.zeros(1, 2, 13, 13)
    maps[0, 0, 6, 6], maps[0, 1, 0, 0] = 1, 1
    pooled = sum_pooled(maps)[0]
    assert float(pooled[0]) == 1
    assert float(pooled[1]) < 0.001


def test_the_last_convolution_is_what_the_network_pools() -> None:
    network = DCNN(2, width=8).eval()
    image = torch.rand(1, 1, 224, 224) * 255
    with torch.no_grad():
        maps, log_probabilities = last_convolution(network, image)
        assert maps.shape == (1, 256, 13, 13)
        assert float(maps.min()) >= 0
        fcl1 = torch.relu(network.fcl1(network.pool(maps).flatten(1)))
        assert torch.allclose(fcl1, network(image)[0], atol=1e-6)
        assert torch.equal(log_probabilities, network(image)[3])


def test_spoc_gives_unit_vectors_of_at_most_256_and_reads_back_what_it_saved(saved: Path, tmp_path: Path) -> None:
    train = TrainPart(*halves(16, seed=1))
    images, method = train.images, Spoc(base=loaded(saved))
    with pytest.raises(UsageError, match="not fitted"):
        method.features(images)
    method.fit(train, seed=24)
    features = method.features(images)
    assert features.shape[1] <= 15  # 16 images span no more around their mean
    assert np.linalg.norm(features, axis=1) == pytest.approx(np.ones(16), abs=1e-5)
    method.save(tmp_path)
    again = Spoc()
    again.load(tmp_path)
    assert np.array_equal(again.features(images), features)
    assert again.classes == ("left", "top")


def test_hash_codes_are_bits_and_the_fine_ones_break_their_ties(saved: Path, tmp_path: Path) -> None:
    train = TrainPart(*halves(16, seed=1))
    images, coarse = train.images, Hash48(base=loaded(saved), recipe=RECIPE, tuning_epochs=1)
    coarse.fit(train, seed=24)
    codes = coarse.features(images)
    assert (coarse.distance, codes.shape) == ("hamming", (16, 48))
    assert set(np.unique(codes)) <= {0.0, 1.0}
    posterior = coarse.classify(images)
    assert posterior is not None
    assert posterior.sum(axis=1) == pytest.approx(np.ones(16), abs=1e-5)
    coarse.save(tmp_path)

    fine = Hash48(fine=True)
    fine.load(tmp_path)
    rows = fine.features(images)
    assert (fine.name, fine.distance, rows.shape) == ("hash48-fine", "euclidean", (16, 48 + WIDTH))
    assert np.array_equal(rows[:, :48], codes)
    squared = ((rows[0] - rows) ** 2).sum(axis=1)
    hamming = (codes[0] != codes).sum(axis=1)
    assert np.array_equal(np.floor(squared + 1e-4), hamming)  # the rest never makes up for one bit


def test_the_papers_search_takes_the_pool_first_and_ranks_it_by_the_fully_connected_layer() -> None:
    codes = np.zeros((4, 48), np.float32)
    codes[1, :3], codes[2, :1], codes[3, :2] = 1, 1, 1
    fcl = np.array([[5.0], [0.0], [1.0], [2.0]], np.float32)
    query = np.zeros(48, np.float32), np.zeros(1, np.float32)
    assert coarse_to_fine(*query, codes, fcl, radius=2).tolist() == [2, 3, 0]  # row 1 is nearest, but 3 bits away
    assert coarse_to_fine(*query, codes, fcl, radius=0).tolist() == [0]


def test_a_hash_network_without_a_start_trains_the_papers_network_first() -> None:
    train = TrainPart(*halves(8, seed=1))
    told: list[tuple[int, int]] = []
    method = Hash48(recipe=replace(RECIPE, epochs=1), tuning_epochs=1, width=WIDTH)
    method.fit(train, seed=24, on_progress=lambda *args: told.append(args))
    assert told == [(4, 8), (8, 8), (4, 8), (8, 8)]  # the network, then the codes
    assert method.features(train.images).shape == (8, 48)
