"""The benchmark of what does not belong measures what it says, on features that are known by eye."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import out_of_distribution as bench
from toys import ToyEncoder

CLASSES = ("brain", "eye", "hand")


def rows(apart: bool) -> bench.Rows:
    """Three classes of 60 images of 20 patients; a class left out is told apart, or all lie in one place."""
    rng = np.random.default_rng(0)
    numbers = np.repeat(np.arange(3), 60)
    features = (np.eye(3)[numbers] * 9 * apart + rng.normal(0, 0.3, (180, 3)) + 1).astype(np.float32)
    known = {"class": np.array(CLASSES)[numbers], "modality": np.array(["CT", "CT", "MR"])[numbers]}
    patients = np.array([f"p{row // 3}" for row in range(180)])
    return bench.Rows(features, known, patients, np.array(["train"] * 180))


def test_a_kind_that_lies_elsewhere_is_told_apart() -> None:
    lines = {line.what: line for line in bench.of_arrays(rows(apart=True), "none")}
    assert lines.keys() == {"class brain", "class eye", "class hand", "modality CT", "modality MR"}
    assert lines["class eye"].auroc > 0.99
    assert lines["class eye"].flagged > 0.9
    assert (lines["class eye"].n_images, lines["class eye"].n_queries) == (60, 24)
    assert lines["class eye"].flagged_queries < 0.3


def test_the_discriminant_is_that_of_the_gallery() -> None:
    """Of K classes K - 1 dimensions, unit vectors; a class that it has not seen adds none."""
    everything = rows(apart=True)
    kept = everything.at(everything.known["class"] != "hand")
    whole, part = (bench.projected(gallery, "lda")(everything).features for gallery in (everything, kept))
    assert (whole.shape, part.shape) == ((180, 2), (180, 1))
    assert np.linalg.norm(whole, axis=1) == pytest.approx(np.ones(180), abs=1e-5)


def test_a_kind_that_lies_amid_the_others_is_not() -> None:
    assert all(0.3 < line.auroc < 0.7 for line in bench.of_arrays(rows(apart=False), "none"))


def test_images_of_the_test_side_take_no_part() -> None:
    everything = rows(apart=True)
    splits = np.where(everything.known["class"] == "hand", "test", "train")
    lines = bench.of_arrays(bench.Rows(everything.features, everything.known, everything.patients, splits), "none")
    assert "class hand" not in {line.what for line in lines}


def test_rows_of_the_same_patient_are_no_company() -> None:
    gallery = bench.Rows(
        np.arange(10, dtype=np.float32)[:, None], {}, np.array(["p"] * 5 + ["q"] * 5), np.array(["train"] * 10)
    )
    query = bench.Rows(np.zeros((1, 1), np.float32), {}, np.array(["p"]), np.array(["train"]))
    assert bench.unlikeness(gallery, query).tolist() == [7]  # 5 to 9


class Calibrated(ToyEncoder):
    calibration = {"in_distribution": {"mean": {"threshold": 0.5}}}  # noqa: RUF012


def test_an_encoder_is_asked_by_what_it_lacks_and_by_strangers() -> None:
    everything = rows(apart=True)
    features = everything.features[:, :2] / 10
    splits = np.array(["train", "train", "test"] * 60)
    seen = bench.Rows(features, everything.known, np.array([f"p{row}" for row in range(180)]), splits)
    lines = list(bench.of_encoder(cast(Any, Calibrated()), seen, [("class", "eye")]))
    assert [line.what for line in lines] == ["class eye", "white noise", "noise like photographs", "dead leaves"]
    assert (lines[0].n_images, lines[0].n_queries, lines[1].n_images) == (60, 40, bench.N_STRANGERS)
    with pytest.raises(SystemExit, match="no calibration"):
        list(bench.of_encoder(cast(Any, ToyEncoder()), seen, []))
    with pytest.raises(SystemExit, match="No image has class knee"):
        list(bench.of_encoder(cast(Any, Calibrated()), seen, [("class", "knee")]))


@pytest.mark.parametrize(
    ("left_out", "sentence"),
    [
        ([], "HAS SEEN"),
        ([("class", "dark")], "HAS SEEN"),
        ([("class", "lungs")], "not among the classes"),
        ([("modality", "CT")], "nobody can read"),
    ],
)
def test_it_is_said_whether_the_encoder_has_seen_it(left_out: list[tuple[str, str]], sentence: str) -> None:
    assert sentence in bench.what_is_known(cast(Any, ToyEncoder()), left_out)


@pytest.mark.parametrize("draw", [bench.white, bench.pink, bench.leaves])
def test_strangers_are_colour_pictures_that_differ(draw: Any) -> None:
    first, second = (draw(np.random.default_rng(seed), side=64) for seed in (0, 1))
    assert (first.shape, first.dtype) == ((64, 64, 3), np.uint8)
    assert first.std() > 20
    assert (first != second).any()


def test_noise_like_photographs_has_the_spectrum_of_photographs() -> None:
    """Amplitude falls as 1 / frequency: from 4 to 32 cycles by about 8."""
    picture = bench.pink(np.random.default_rng(0)).astype(float).mean(axis=2)
    amplitude = np.abs(np.fft.fft2(picture))
    frequency = np.rint(np.hypot(*np.meshgrid(*[np.fft.fftfreq(256) * 256] * 2)))
    slow, fast = (amplitude[frequency == cycles].mean() for cycles in (4, 32))
    assert slow / fast == pytest.approx(8, rel=0.3)


def test_the_table_has_means_and_the_worst() -> None:
    lines = [
        bench.Line("class brain", 10, 0.9, 0.5, 40, 0.05), bench.Line("class eye", 30, 0.7, 0.1, 40, 0.05),
        bench.Line("white noise", 60, 1.0, 1.0, 40, 0.05),
    ]  # fmt: skip
    told = bench.table(lines)
    assert told[2] == "| class brain | 10 | 0.900 | 50 | 5.0 |"
    assert told[-1] == "| mean over 2 (class; least 0.700, eye) | 40 | 0.800 | 30 | 5.0 |"


def test_arrays_are_read_as_they_are_described(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.ones((1, 2), np.float32))
    told = [{"class": "eye", "modality": None, "patient": "p", "split": "train", "finding": ""}]
    (tmp_path / "f.json").write_text(json.dumps(told))
    read = bench.read_arrays(tmp_path / "f.npy", tmp_path / "f.json")
    assert (read.known["class"].tolist(), read.known["modality"].tolist()) == (["eye"], [""])
