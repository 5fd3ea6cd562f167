"""Packing: decoded once, mapped from disk, taken again when nothing has changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cbmir.errors import BadManifest
from cbmir.images.worker import decode_one
from cbmir.packing import pack
from cbmir.preprocess import Preprocessing
from cbmir.privacy import Pseudonyms
from cbmir.sources import classes
from pictures import draw_folder

SMALL = Preprocessing(size=32, crop=32)


def test_images_are_those_preprocess_makes(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    refs = classes(draw_folder(tmp_path / "pictures", per_class=2))
    packed = pack(refs, SMALL, pseudonyms, tmp_path / "run", workers=0)
    assert packed.rows == (0, 1, 2, 3)
    for row, ref in enumerate(refs):
        np.testing.assert_array_equal(packed.images[row], decode_one(ref, SMALL, pseudonyms).images[0].pixels)


def test_files_without_an_image_are_listed_and_skipped(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    root = draw_folder(tmp_path / "pictures", per_class=2)
    (root / "disc" / "00b.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    packed = pack(classes(root), SMALL, pseudonyms, tmp_path / "run", workers=0)
    assert packed.rows == (0, 2, 3, 4)
    assert [(bad["path"], bad["outcome"]) for bad in packed.failed] == [("disc/00b.png", "corrupt")]


def test_a_second_call_decodes_nothing(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    refs = classes(draw_folder(tmp_path / "pictures", per_class=2))
    seen: list[int] = []
    for _ in range(2):
        pack(refs, SMALL, pseudonyms, tmp_path / "run", workers=0, on_progress=lambda done, _: seen.append(done))
    assert seen == [1, 2, 3, 4]


def test_a_changed_file_is_decoded_again(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    root = draw_folder(tmp_path / "pictures", per_class=2)
    refs = classes(root)
    before = pack(refs, SMALL, pseudonyms, tmp_path / "run", workers=0).images[0].copy()
    (root / "disc" / "00.png").write_bytes((root / "stripes" / "00.png").read_bytes())
    assert (pack(refs, SMALL, pseudonyms, tmp_path / "run", workers=0).images[0] != before).any()


def test_not_one_image_is_an_error_that_names_a_reason(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.txt").write_text("no picture")
    with pytest.raises(BadManifest, match="Not one of 1 files gives an image"):
        pack(classes(tmp_path), SMALL, pseudonyms, tmp_path / "run", workers=0)
