"""Packing: decoded once, mapped from disk, taken again when nothing has changed."""

from __future__ import annotations

from dataclasses import replace
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
    handle = pseudonyms.handle(str(root), "disc/00b.png")
    assert [(bad["path"], bad["outcome"]) for bad in packed.failed] == [(handle, "corrupt")]


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


class Killed(BaseException):
    """The process ends here."""


def killed(*_: object) -> None:
    raise Killed


def test_a_kill_before_the_new_index_never_leaves_other_images_under_the_old_one(
    tmp_path: Path, pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = classes(draw_folder(tmp_path / "pictures", per_class=2))
    whole = pack(refs, SMALL, pseudonyms, tmp_path / "run", workers=0).images.copy()
    for moment in ("cbmir.packing.write_json", "cbmir.packing.os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(moment, killed)
            with pytest.raises(Killed):
                pack(refs[::-1], SMALL, pseudonyms, tmp_path / "run", workers=0)
        again = pack(refs, SMALL, pseudonyms, tmp_path / "run", workers=0)
        np.testing.assert_array_equal(again.images, whole)


def test_a_kill_while_decoding_leaves_the_old_images_whole(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    refs = classes(draw_folder(tmp_path / "pictures", per_class=2))
    before = pack(refs, SMALL, pseudonyms, tmp_path / "run", workers=0)
    whole = before.images.copy()
    with pytest.raises(Killed):
        pack(refs[::-1], SMALL, pseudonyms, tmp_path / "run", workers=0, on_progress=killed)
    np.testing.assert_array_equal(before.images, whole)
    seen: list[int] = []
    pack(refs, SMALL, pseudonyms, tmp_path / "run", workers=0, on_progress=lambda done, _: seen.append(done))
    assert seen == []


def test_images_cut_short_are_packed_again(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    refs = classes(draw_folder(tmp_path / "pictures", per_class=2))
    whole = pack(refs, SMALL, pseudonyms, tmp_path / "run", workers=0).images.copy()
    (tmp_path / "run" / "images.u8").write_bytes(bytes(32 * 32))
    np.testing.assert_array_equal(pack(refs, SMALL, pseudonyms, tmp_path / "run", workers=0).images, whole)


def test_the_identity_tells_collections_apart(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    refs = classes(draw_folder(tmp_path / "pictures", per_class=2))
    as_ct = [replace(ref, modality="CT") for ref in refs]  # read with another window
    first, again, fewer, other = (
        pack(some, SMALL, pseudonyms, tmp_path / "run", workers=0).identity for some in (refs, refs, refs[1:], as_ct)
    )
    assert first == again
    assert len({first, fewer, other}) == 3


def test_not_one_image_is_an_error_that_names_a_reason(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.txt").write_text("no picture")
    with pytest.raises(BadManifest, match="Not one of 1 files gives an image"):
        pack(classes(tmp_path), SMALL, pseudonyms, tmp_path / "run", workers=0)
