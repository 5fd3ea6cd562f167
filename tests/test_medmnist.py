"""MedMNIST files become folders of pictures with a manifest; whatever is none is told in a sentence."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cbmir.cli.data import unpack
from cbmir.dataset import medmnist
from cbmir.dataset.medmnist import OFFICIAL, BadDataset, to_folder
from cbmir.errors import CbmirError, UsageError
from cbmir.sources import labelled

SIZES = {"train": 5, "val": 2, "test": 3}


def arrays(side: int = 28, colour: bool = False, n_classes: int = 2, **changes: Any) -> dict[str, Any]:
    """A file as MedMNIST writes them: labels (n, 1), image i of a part filled with the value i."""
    made: dict[str, Any] = {}
    for part, n in SIZES.items():
        shape = (n, side, side, 3) if colour else (n, side, side)
        made[f"{part}_images"] = np.broadcast_to(np.arange(n).reshape(n, *[1] * (len(shape) - 1)), shape).astype(
            np.uint8
        )
        made[f"{part}_labels"] = (np.arange(n) % n_classes).reshape(n, 1).astype(np.uint8)
    return {name: value for name, value in (made | changes).items() if value is not None}


def save(path: Path, made: Mapping[str, Any] | None = None) -> Path:
    np.savez_compressed(path, **(arrays() if made is None else made))
    return path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    return save(tmp_path / "breastmnist.npz")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


class TestToFolder:
    def test_every_image_has_its_class_and_its_own_pixels(self, npz: Path, out: Path) -> None:
        to_folder(npz, out)
        refs = labelled(out)
        assert Counter(ref.label for ref in refs) == {"malignant": 6, "normal, benign": 4}
        third = next(ref for ref in refs if ref.shown == "malignant/train-000003.png")
        assert np.unique(pixels(third.path)).tolist() == [2]

    def test_validation_is_a_fold_of_the_train_side(self, npz: Path, out: Path) -> None:
        to_folder(npz, out)
        assert Counter((ref.split, ref.fold) for ref in labelled(out)) == {
            ("train", 1): 5,
            ("train", 0): 2,
            ("test", None): 3,
        }

    def test_the_manifest_knows_set_and_modality_but_no_patient(self, npz: Path, out: Path) -> None:
        to_folder(npz, out)
        assert {(ref.source, ref.modality, ref.patient) for ref in labelled(out)} == {("breastmnist", "US", None)}

    def test_colour_stays_colour(self, tmp_path: Path, out: Path) -> None:
        made = arrays(colour=True)
        made["train_images"][0, 0, 0] = (200, 100, 50)
        to_folder(save(tmp_path / "pathmnist_64.npz", made), out)
        assert pixels(out / "adipose" / "train-000001.png")[0, 0].tolist() == [200, 100, 50]

    @pytest.mark.parametrize("side", [28, 64, 128, 224])
    def test_all_sizes_are_read(self, side: int, tmp_path: Path, out: Path) -> None:
        name = f"breastmnist_{side}.npz"
        assert to_folder(save(tmp_path / name, arrays(side)), out).side == side
        assert pixels(out / "malignant" / "test-000001.png").shape == (side, side)

    def test_a_set_of_another_name_has_numbers_for_classes(self, tmp_path: Path, out: Path) -> None:
        made = arrays(test_labels=np.array([0, 1, 10]))
        report = to_folder(save(tmp_path / "mine.npz", made), out)
        assert (report.known_classes, sorted(report.counts)) == (False, ["00", "01", "10"])

    def test_images_are_counted_by_class_and_side(self, npz: Path, out: Path) -> None:
        counts = to_folder(npz, out).counts
        assert {label: {side: c.images for side, c in sides.items()} for label, sides in counts.items()} == {
            "malignant": {"train": 4, "test": 2},
            "normal, benign": {"train": 3, "test": 1},
        }

    def test_an_empty_folder_is_filled(self, npz: Path, out: Path) -> None:
        out.mkdir()
        assert to_folder(npz, out).manifest == out / "manifest.csv"

    def test_the_largest_array_is_never_in_memory(self, npz: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Images come one at a time: nothing of more than one image is ever read at once."""
        asked: list[int] = []
        read = zipfile.ZipExtFile.read
        monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda self, n=-1: asked.append(n) or read(self, n))
        to_folder(npz, out)
        assert max(asked) == 28 * 28
        assert min(asked) >= 0


def test_the_official_sets_have_as_many_classes_as_medmnist_says() -> None:
    n_classes = {name: len(official.classes) for name, official in OFFICIAL.items()}
    assert n_classes == {
        "pathmnist": 9, "dermamnist": 7, "octmnist": 4, "pneumoniamnist": 2, "retinamnist": 5, "breastmnist": 2,
        "bloodmnist": 8, "tissuemnist": 8, "organamnist": 11, "organcmnist": 11, "organsmnist": 11,
    }  # fmt: skip


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"val_labels": None}, "it has no val_labels"),
            ({"train_images": np.zeros((5, 28, 28, 28), np.uint8)}, "3-D MedMNIST"),
            ({"train_images": np.zeros((5, 28, 28), np.float32)}, "pictures of eight bits"),
            ({"train_images": np.zeros((5, 28, 30), np.uint8)}, "square pictures of 28 to 224"),
            ({"train_images": np.zeros((5, 300, 300), np.uint8)}, "square pictures of 28 to 224"),
            (
                {"train_images": np.zeros((0, 28, 28), np.uint8), "train_labels": np.zeros((0, 1), int)},
                "square pictures",
            ),
            ({"train_images": np.zeros((5, 64, 64), np.uint8)}, "different sizes"),
            ({"train_images": np.zeros((4, 28, 28), np.uint8)}, "4 train images and 5 labels"),
            ({"train_labels": np.zeros((5, 14), np.uint8)}, "14 labels here, as in ChestMNIST"),
            ({"train_labels": np.zeros((5, 1), np.float64)}, "no whole numbers"),
            ({"train_labels": np.full((5, 1), 2, np.uint8)}, "run from 0 to 2: the set of this name has 0 to 1"),
            ({"train_labels": np.full((5, 1), -1, np.int64)}, "run from -1"),
            ({"train_labels": np.array([[0]] * 5, dtype=object)}, "Python objects"),
            ({"train_images": np.asfortranarray(np.zeros((5, 28, 28), np.uint8))}, "Fortran order"),
        ],
    )
    def test_what_is_no_data_set_of_one_class_an_image(
        self, changes: dict[str, Any], sentence: str, tmp_path: Path, out: Path
    ) -> None:
        with pytest.raises(BadDataset, match=sentence):
            to_folder(save(tmp_path / "breastmnist.npz", arrays(**changes)), out)
        assert list(tmp_path.iterdir()) == [tmp_path / "breastmnist.npz"]

    def test_a_file_that_is_not_there(self, out: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no such MedMNIST file"):
            to_folder(tmp_path / "x.npz", out)

    @pytest.mark.parametrize("content", [b"", b"no zip archive", b"PK\x03\x04 and then nothing"])
    def test_a_file_that_is_no_archive(self, content: bytes, tmp_path: Path, out: Path) -> None:
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(BadDataset, match="damaged"):
            to_folder(tmp_path / "x.npz", out)

    def test_a_file_with_a_flipped_bit_anywhere(self, npz: Path, out: Path) -> None:
        """Read, or refused in a sentence; never half-written."""
        whole = npz.read_bytes()
        for at in range(0, len(whole), 7):
            npz.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
            try:
                to_folder(npz, out)
            except CbmirError:
                assert not out.exists()
            shutil.rmtree(out, ignore_errors=True)
            assert list(npz.parent.iterdir()) == [npz]

    def test_a_header_that_promises_more_than_there_is(self, tmp_path: Path, out: Path) -> None:
        save(tmp_path / "whole.npz")
        with zipfile.ZipFile(tmp_path / "whole.npz") as whole, zipfile.ZipFile(tmp_path / "x.npz", "w") as lying:
            for name in whole.namelist():
                data = whole.read(name)
                lying.writestr(name, data.replace(b"(5, 28, 28)", b"(9, 28, 28)"))
        with pytest.raises(BadDataset, match="train_images is damaged: its size is not that of its shape"):
            to_folder(tmp_path / "x.npz", out)

    def test_a_folder_with_something_in_it(self, npz: Path, out: Path) -> None:
        out.mkdir()
        (out / "thesis.txt").write_text("mine")
        with pytest.raises(UsageError, match="not empty"):
            to_folder(npz, out)

    def test_a_place_that_is_not_there(self, npz: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no folder to make"):
            to_folder(npz, tmp_path / "a" / "b")

    def test_a_disk_that_is_too_small(self, npz: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 7839))
        with pytest.raises(CbmirError, match="disk is too full"):
            to_folder(npz, out)

    def test_more_than_is_safe(self, npz: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(medmnist, "MAX_BYTES", 10 * 28 * 28 - 1)
        with pytest.raises(BadDataset, match="are read"):
            to_folder(npz, out)

    def test_interrupted_it_leaves_nothing(self, npz: Path, out: Path) -> None:
        def interrupt(done: int, total: int) -> None:
            if done == 4:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            to_folder(npz, out, on_progress=interrupt)
        assert list(npz.parent.iterdir()) == [npz]


class TestCommand:
    def test_unpack_says_what_is_not_known(self, npz: Path, out: Path) -> None:
        lines = CliRunner().invoke(unpack, [str(npz), "--out", str(out)]).stdout
        assert "MedMNIST does not tell patients" in lines
        assert lines.endswith(f"wrote {out / 'manifest.csv'}\n")

    def test_unpack_as_json_is_one_document(self, npz: Path, out: Path) -> None:
        document = json.loads(CliRunner().invoke(unpack, [str(npz), "--out", str(out), "--json"]).stdout)
        assert document["counts"]["malignant"]["train"] == {"images": 4, "patients": 4}
