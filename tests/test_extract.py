"""Extraction: every file comes out once, in order, with its features or its outcome."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cbmir.encoder import load_encoder
from cbmir.extract import extract
from cbmir.images.worker import decode_one
from cbmir.privacy import Pseudonyms
from cbmir.sources import folder
from pictures import draw_folder
from toys import ToyEncoder


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    root = draw_folder(tmp_path / "pictures", per_class=3)
    (root / "disc" / "01b.txt").write_text("no picture")
    (root / "stripes" / "cut.png").write_bytes((root / "stripes" / "00.png").read_bytes()[:200])
    return root


@pytest.mark.parametrize(("workers", "batch_size"), [(0, 64), (0, 2), (2, 2)])
def test_every_file_comes_out_once_in_order(
    collection: Path, pseudonyms: Pseudonyms, workers: int, batch_size: int
) -> None:
    refs = list(folder(collection))
    out = list(extract(refs, ToyEncoder(), pseudonyms, workers=workers, batch_size=batch_size))
    assert [one.decoded.ref.shown for one in out] == [ref.shown for ref in refs]
    assert [one.decoded.outcome for one in out] == [
        "decoded", "decoded", "not_an_image", "decoded", "decoded", "decoded", "decoded", "corrupt",
    ]  # fmt: skip
    assert [len(one.records) for one in out] == [1, 1, 0, 1, 1, 1, 1, 0]


def test_features_are_those_of_the_file(collection: Path, pseudonyms: Pseudonyms) -> None:
    encoder = ToyEncoder()
    refs = list(folder(collection))
    for one in extract(refs, encoder, pseudonyms, workers=0, batch_size=3):
        pixels = [image.pixels for image in decode_one(one.decoded.ref, encoder.preprocessing, pseudonyms).images]
        if pixels:
            expected = encoder.encode(np.stack(pixels))
            np.testing.assert_array_equal(one.features["mean"], expected.features["mean"])
            np.testing.assert_array_equal(one.posterior, expected.posterior)
        else:
            assert one.features["mean"].shape == (0, 2)


def test_records_carry_the_predicted_class_and_its_probability(collection: Path, pseudonyms: Pseudonyms) -> None:
    first = next(iter(extract(folder(collection), ToyEncoder(), pseudonyms, workers=0)))
    assert first.posterior is not None
    assert first.records[0].predicted == ToyEncoder.classes[int(first.posterior[0].argmax())]
    assert first.records[0].probability == pytest.approx(float(first.posterior[0].max()))


def test_an_encoder_without_classes_predicts_nothing(collection: Path, pseudonyms: Pseudonyms) -> None:
    first = next(iter(extract(folder(collection), load_encoder("pixels"), pseudonyms, workers=0)))
    assert first.posterior is None
    assert (first.records[0].predicted, first.records[0].probability) == (None, None)


def test_no_files_give_nothing(pseudonyms: Pseudonyms) -> None:
    assert list(extract([], ToyEncoder(), pseudonyms, workers=0)) == []


def test_a_batch_without_an_image_is_passed_on(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    (tmp_path / "a.txt").write_text("no picture")
    [only] = extract(folder(tmp_path), ToyEncoder(), pseudonyms, workers=0)
    assert (only.decoded.outcome, only.records, only.posterior) == ("not_an_image", (), None)
