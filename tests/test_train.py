"""Training from files to an encoder, on drawn pictures and a narrow network."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cbmir.encoder import load_encoder
from cbmir.errors import BadManifest, UsageError
from cbmir.images.worker import decode_one
from cbmir.privacy import Pseudonyms
from cbmir.recipes import recipe_named
from cbmir.sources import classes, folder
from cbmir.train import train
from pictures import draw_folder

RECIPE = replace(recipe_named("paper-practical"), batch_size=4, epochs=3, precision="32-true")


def run(root: Path, out: Path, pseudonyms: Pseudonyms, **options: Any) -> Any:
    return train(classes(root), RECIPE, out, pseudonyms=pseudonyms, width=8, workers=0, device="cpu", **options)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("train") / "pictures", per_class=8)


def test_it_writes_an_encoder_that_encodes(pictures: Path, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    report = run(pictures, tmp_path / "encoder", pseudonyms, validation_fraction=0.25)
    assert (report.n_training, report.n_validation, len(report.log)) == (12, 4, 3)
    assert {"loss", "error", "validation_loss", "validation_error"} <= report.log[0].keys()
    encoder = load_encoder(tmp_path / "encoder")
    assert encoder.classes == ("disc", "stripes")
    assert list(encoder.layers) == ["FCL1", "FCL2", "FCL3"]
    image = decode_one(next(iter(folder(pictures))), encoder.preprocessing, pseudonyms).images[0]
    posterior = encoder.encode(np.stack([image.pixels])).posterior
    assert posterior is not None
    assert posterior.sum() == pytest.approx(1, abs=0.01)


def test_the_soft_gate_is_fitted_on_the_validation_part(pictures: Path, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    run(pictures, tmp_path / "with", pseudonyms, validation_fraction=0.25)
    run(pictures, tmp_path / "without", pseudonyms, validation_fraction=0)
    assert load_encoder(tmp_path / "with").calibration["soft_gate_tau"].keys() == {"FCL1", "FCL2", "FCL3"}
    assert load_encoder(tmp_path / "without").calibration == {}


def test_only_encoder_and_logs_are_left(pictures: Path, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    (tmp_path / "encoder" / "training").mkdir(parents=True)
    (tmp_path / "encoder" / "training" / "checkpoint.new").write_bytes(b"of a run killed while writing")
    run(pictures, tmp_path / "encoder", pseudonyms, validation_fraction=0)
    left = {path.name for path in (tmp_path / "encoder").iterdir()}
    assert left == {"encoder.json", "weights.safetensors", "training"}
    assert {path.name for path in (tmp_path / "encoder" / "training").iterdir()} == {"log.jsonl", "tensorboard"}


def test_the_record_says_how_it_was_made(pictures: Path, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    run(pictures, tmp_path / "encoder", pseudonyms, validation_fraction=0, seed=7)
    training = json.loads((tmp_path / "encoder" / "encoder.json").read_text())["training"]
    assert (training["recipe"]["name"], training["seed"], training["n_training"]) == ("paper-practical", 7, 16)
    assert [line["epoch"] for line in training["log"]] == [1, 2, 3]
    assert training["paper_training_error"] == 0.0422


def test_the_same_seed_gives_the_same_weights(pictures: Path, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    prints = [
        run(pictures, tmp_path / name, pseudonyms, validation_fraction=0, seed=seed).fingerprint
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert prints[0] == prints[1] != prints[2]


def test_a_finished_encoder_is_not_written_over(pictures: Path, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    run(pictures, tmp_path / "encoder", pseudonyms, validation_fraction=0)
    with pytest.raises(UsageError, match="already holds an encoder"):
        run(pictures, tmp_path / "encoder", pseudonyms)


def test_one_class_is_not_enough(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    root = draw_folder(tmp_path / "pictures", per_class=2, kinds=("disc",))
    with pytest.raises(BadManifest, match="at least two classes"):
        run(root, tmp_path / "encoder", pseudonyms)


def test_too_few_patients_for_a_validation_part_is_said(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    root = draw_folder(tmp_path / "pictures", per_class=1)
    with pytest.raises(UsageError, match="--validation 0"):
        run(root, tmp_path / "encoder", pseudonyms, validation_fraction=0.1)


KILLED = """
import sys
from dataclasses import replace
from pathlib import Path
import cbmir.fitting
from cbmir.privacy import Pseudonyms
from cbmir.recipes import recipe_named
from cbmir.sources import classes
from cbmir.train import train

cbmir.fitting.CHECKPOINT_EVERY_S = 0.0
recipe = replace(recipe_named("paper-practical"), batch_size=4, epochs=3, precision="32-true")
train(classes(Path(sys.argv[1])), recipe, Path(sys.argv[2]), pseudonyms=Pseudonyms(b"a key for tests, 32 bytes long.."),
      validation_fraction=0, width=8, workers=0, device="cpu", on_progress=lambda step: print(step.done, flush=True))
"""


def test_training_killed_goes_on_and_ends_as_if_it_had_not_been(
    pictures: Path, tmp_path: Path, pseudonyms: Pseudonyms
) -> None:
    command = [sys.executable, "-c", KILLED, str(pictures), str(tmp_path / "killed")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 24:  # the middle of the second of three epochs of 16
                process.kill()
                break
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "encoder.json").exists()
    seen: list[int] = []
    again = run(
        pictures,
        tmp_path / "killed",
        pseudonyms,
        validation_fraction=0,
        on_progress=lambda step: seen.append(step.done),
    )
    assert seen[0] > 16
    whole = run(pictures, tmp_path / "whole", pseudonyms, validation_fraction=0)
    assert [line["loss"] for line in again.log] == [line["loss"] for line in whole.log]
    assert again.fingerprint == whole.fingerprint
