"""The recipe ours from files to an encoder: on drawn pictures, small and short."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cbmir.compact import labelled_images
from cbmir.encoder import load_encoder
from cbmir.errors import UsageError
from cbmir.images.worker import decode_one
from cbmir.packing import Packed
from cbmir.privacy import Pseudonyms
from cbmir.recipes import OURS, recipe_named
from cbmir.sources import classes, folder
from cbmir.train import train
from cbmir.types import ImageRef
from pictures import draw_folder

RECIPE = replace(
    OURS, batch_size=8, epochs=2, second_epochs=1, side=32, packed=64, dim=16, precision="32-true", average=0.5
)


def run(root: Path, out: Path, pseudonyms: Pseudonyms, **options: Any) -> Any:
    options = {"recipe": RECIPE} | options
    recipe = options.pop("recipe")
    return train(classes(root), recipe, out, pseudonyms=pseudonyms, workers=0, device="cpu", **options)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("ours") / "pictures", per_class=8)


@pytest.fixture(scope="module")
def trained(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder of ours, trained from nothing."""
    out = tmp_path_factory.mktemp("ours") / "encoder"
    run(pictures, out, Pseudonyms(b"a key for tests, 32 bytes long.."), validation_fraction=0.25)
    return out


def test_it_encodes_to_unit_length_with_a_posterior(trained: Path, pictures: Path, pseudonyms: Pseudonyms) -> None:
    encoder = load_encoder(trained)
    assert dict(encoder.layers) == {"main": 16}
    assert encoder.classes == ("disc", "stripes")
    image = decode_one(next(iter(folder(pictures))), encoder.preprocessing, pseudonyms).images[0]
    encoded = encoder.encode(np.stack([image.pixels] * 2))
    assert np.linalg.norm(encoded.features["main"], axis=1) == pytest.approx(1, abs=0.01)
    assert encoded.posterior is not None
    assert encoded.posterior.sum(axis=1) == pytest.approx(1, abs=0.01)


def test_its_weights_are_kept_in_half_precision(trained: Path) -> None:
    from safetensors.numpy import load_file

    assert {array.dtype for array in load_file(trained / "weights.safetensors").values()} == {np.dtype(np.float16)}


def test_it_is_calibrated_with_the_validation_part(trained: Path) -> None:
    calibration = load_encoder(trained).calibration
    assert {"soft_gate_tau", "temperature", "rerank"} <= calibration.keys()
    assert calibration["rerank"].keys() == {"main"}


def test_the_record_says_what_it_started_from(trained: Path) -> None:
    record = json.loads((trained / "encoder.json").read_text())["training"]
    assert (record["start"], record["freeze"], record["recipe"]["name"]) == (None, False, "ours")
    assert (record["n_training"], record["n_validation"]) == (12, 4)
    assert [line["epoch"] for line in record["log"]] == [1, 2, 1]


def test_fine_tuning_takes_other_classes(trained: Path, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    root = draw_folder(tmp_path / "pictures", per_class=4, kinds=("disc", "stripes", "ring"))
    run(root, tmp_path / "encoder", pseudonyms, start=str(trained), validation_fraction=0)
    assert load_encoder(tmp_path / "encoder").classes == ("disc", "ring", "stripes")


def test_freezing_keeps_the_body_and_fits_the_heads(trained: Path, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    from safetensors.numpy import load_file

    root = draw_folder(tmp_path / "pictures", per_class=6, kinds=("disc", "ring"))
    report = run(root, tmp_path / "encoder", pseudonyms, start=str(trained), freeze=True, validation_fraction=0)
    assert report.log == []
    before, after = (load_file(path / "weights.safetensors") for path in (trained, tmp_path / "encoder"))
    assert all(np.array_equal(before[name], after[name]) for name in before if name.startswith("bodies."))
    assert not np.array_equal(before["classes.weight"], after["classes.weight"])
    assert load_encoder(tmp_path / "encoder").classes == ("disc", "ring")


def test_freezing_wants_something_to_start_from(pictures: Path, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    with pytest.raises(UsageError, match="--from"):
        run(pictures, tmp_path / "encoder", pseudonyms, freeze=True, validation_fraction=0)


def test_it_starts_only_from_its_own_kind(pictures: Path, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    with pytest.raises(UsageError, match="not an encoder of the recipe ours"):
        run(pictures, tmp_path / "encoder", pseudonyms, start="pixels", validation_fraction=0)


def test_a_wrong_start_is_told_before_any_image_is_decoded(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    refs = [ImageRef(tmp_path / f"{i}.png", f"{i}.png", labels={"class": "ab"[i]}) for i in range(2)]
    for start in (str(tmp_path / "none.onnx"), str(tmp_path / "none")):
        with pytest.raises(UsageError, match="here is no"):
            train(refs, RECIPE, tmp_path / "encoder", pseudonyms=pseudonyms, start=start)
    assert not (tmp_path / "encoder").exists()


def test_readings_of_fcl3_are_the_papers(pictures: Path, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    with pytest.raises(UsageError, match="--fcl3"):
        run(pictures, tmp_path / "encoder", pseudonyms, separate_fcl3=False)


def test_the_papers_recipe_has_no_start(pictures: Path, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    with pytest.raises(UsageError, match="for the recipe ours"):
        run(pictures, tmp_path / "encoder", pseudonyms, recipe=recipe_named("paper"), start="pixels")


def test_more_images_without_classes_are_learned_from(pictures: Path, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    extra = list(folder(draw_folder(tmp_path / "more", per_class=3, kinds=("ring",))))
    report = run(pictures, tmp_path / "encoder", pseudonyms, extra=extra, validation_fraction=0)
    assert report.n_training == 16 + 3
    assert load_encoder(tmp_path / "encoder").classes == ("disc", "stripes")


def test_extra_images_of_validation_patients_are_left_out() -> None:
    def ref(name: str, patient: str, label: str) -> ImageRef:
        return ImageRef(Path(name), name, labels={"class": label}, patient=patient)

    own = [ref(f"{label}{i}", f"{label}-{i}", label) for label in ("a", "b") for i in range(4)]
    extra = [ref(f"more-{label}{i}", f"{label}-{i}", label) for label in ("a", "b") for i in range(4)]
    refs = [*own, *extra]
    packed = Packed(
        np.zeros((16, 3, 4, 4), np.uint8), tuple(range(16)), tuple(ref.patient for ref in refs), (), "identity"
    )
    labelled = labelled_images(packed, refs, len(extra), 0.25, 1)
    held = {labelled.refs[row].patient for row in labelled.rows("validation")}
    assert len(held) == 2
    assert {labelled.refs[row].patient for row in labelled.rows("left out")} == held
    assert not held & {labelled.refs[row].patient for row in labelled.rows("training")}
