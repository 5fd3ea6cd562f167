"""Where files are: sealed, known by digests, named by handles that tell nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cbmir.errors import CbmirError, Outcome
from cbmir.extract import Extracted
from cbmir.images.worker import Decoded
from cbmir.places import (
    ReaderVersion,
    entry_of,
    has_left,
    has_lost_its_root,
    has_opened,
    is_gone,
    place_of,
    ref_of,
    root_of,
    told_of,
)
from cbmir.privacy import Pseudonyms
from cbmir.sources.names import escaped
from cbmir.types import ImageRef

OTHER_KEY = Pseudonyms(b"another key, just as secret")
REF = ImageRef(Path("/data/Canary/Ann.dcm"), "Canary/Ann.dcm")


@pytest.mark.parametrize(
    ("shown", "suffix"),
    [
        ("Ann/a.dcm", ".dcm"),
        ("a.NII.GZ", ".nii.gz"),
        ("a.gz", ".gz"),
        ("b.zip/a.Jpeg", ".jpeg"),
        ("a.Ann", ""),
        ("Ann", ""),
        ("dcm", ""),
        ("a.dcm.Ann^Canary", ""),
    ],
)
def test_a_handle_is_twelve_digits_and_a_suffix_that_everybody_knows(
    pseudonyms: Pseudonyms, shown: str, suffix: str
) -> None:
    handle = pseudonyms.handle("/data", shown)
    assert handle == pseudonyms.of("file", f"/data\n{shown}")[:12] + suffix


def test_another_root_key_or_path_gives_another_handle(pseudonyms: Pseudonyms) -> None:
    handles = {
        pseudonyms.handle("/data", "a.dcm"),
        pseudonyms.handle("/data", "b.dcm"),
        pseudonyms.handle("/other", "a.dcm"),
        OTHER_KEY.handle("/data", "a.dcm"),
    }
    assert len(handles) == 4


@pytest.mark.parametrize("text", ["", "/data/Canary^Ann.dcm", "grüß \udcff \0"])
def test_what_is_sealed_is_read_with_the_same_key_only(pseudonyms: Pseudonyms, text: str) -> None:
    blob = pseudonyms.seal(text)
    assert Pseudonyms(pseudonyms.key).unseal(blob) == text
    with pytest.raises(CbmirError, match="this pseudonym key"):
        OTHER_KEY.unseal(blob)


@pytest.mark.parametrize(
    "damage", [lambda blob: blob[:-1], lambda blob: b"", lambda blob: blob[:-1] + bytes([blob[-1] ^ 1])]
)
def test_what_is_sealed_and_damaged_is_told(pseudonyms: Pseudonyms, damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(CbmirError, match="damaged"):
        pseudonyms.unseal(damage(pseudonyms.seal("text")))


def test_sealing_twice_tells_nobody_that_it_is_the_same(pseudonyms: Pseudonyms) -> None:
    one, other = pseudonyms.seal("/data/Canary"), pseudonyms.seal("/data/Canary")
    assert one != other
    assert b"Canary" not in one


def extracted(ref: ImageRef, decoded: Decoded | None = None) -> Extracted:
    return Extracted(decoded or Decoded(ref, "decoded", None, (), "hash", 10, 20), (), {}, None)


def test_a_stored_file_holds_its_place_sealed_and_nothing_of_it_in_plain_text(pseudonyms: Pseudonyms) -> None:
    file = entry_of(extracted(REF), pseudonyms, ReaderVersion("0.1/2", 60, None)).file
    assert ref_of(file, pseudonyms) == REF
    assert "Canary" not in repr(file)
    assert "hash" not in repr(file)
    assert file.name == pseudonyms.file_name("/data", "Canary/Ann.dcm")
    assert file.handle == pseudonyms.handle("/data", "Canary/Ann.dcm")
    assert (file.size, file.mtime_ns, file.outcome, file.attempts, file.reader) == (10, 20, "decoded", 1, "0.1/2")
    assert (file.timeout_s, file.memory_bytes) == (60, 2**63 - 1)
    with pytest.raises(CbmirError, match="this pseudonym key"):
        ref_of(file, OTHER_KEY)


def test_the_place_of_a_file_that_version_1_knew_is_not_known(pseudonyms: Pseudonyms) -> None:
    file = entry_of(extracted(REF), pseudonyms).file
    assert ref_of(file._replace(place=b""), pseudonyms) is None


def test_a_crash_is_remembered_with_the_size_and_time_that_the_file_has(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(b"12345")
    os.utime(path, ns=(1, 7))
    ref = ImageRef(path, "a.dcm")
    file = entry_of(extracted(ref, Decoded(ref, "crashed", "The decoder crashed.")), pseudonyms).file
    assert (file.size, file.mtime_ns, file.content) == (5, 7, "")
    path.unlink()
    file = entry_of(extracted(ref, Decoded(ref, "timed_out", "It took too long.")), pseudonyms).file
    assert (file.size, file.mtime_ns) == (0, 0)


def test_what_is_told_of_a_file_is_a_digest_of_labels_and_patient(pseudonyms: Pseudonyms) -> None:
    told = {
        told_of(ref, pseudonyms)
        for ref in (
            REF,
            ImageRef(REF.path, REF.shown, labels={"class": "knee"}),
            ImageRef(REF.path, REF.shown, labels={"class": "lung"}),
            ImageRef(REF.path, REF.shown, patient="Canary"),
            ImageRef(REF.path, REF.shown, modality="CT"),
        )
    }
    assert len(told) == 5
    assert {len(digest) for digest in told} == {16}
    assert told_of(ImageRef(Path("/b.dcm"), "b.dcm"), pseudonyms) in told


def test_only_what_is_certainly_not_there_is_gone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not is_gone(ImageRef(tmp_path / "file", "file"))
    assert is_gone(ImageRef(tmp_path / "other", "other"))
    assert is_gone(ImageRef(tmp_path / "file" / "below", "file/below"))
    assert not is_gone(ImageRef(tmp_path / ("x" * 300), "too long to be looked for"))


def test_a_file_has_left_when_it_is_gone_or_another_is_in_its_place(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(b"12345")
    os.utime(path, ns=(7, 7))
    ref = ImageRef(path, "a.dcm")
    file = entry_of(extracted(ref, Decoded(ref, "decoded", None, (), "hash", 5, 7)), pseudonyms).file
    assert not has_left(file, pseudonyms)
    assert has_left(file._replace(size=6), pseudonyms)
    assert has_left(file._replace(mtime_ns=8), pseudonyms)
    path.unlink()
    assert has_left(file, pseudonyms)
    assert has_left(file._replace(place=b""), pseudonyms)


def test_what_cannot_be_looked_at_has_not_left(pseudonyms: Pseudonyms, tmp_path: Path) -> None:
    ref = ImageRef(tmp_path / ("x" * 300), "x")
    assert not has_left(entry_of(extracted(ref), pseudonyms).file, pseudonyms)


def test_a_place_that_is_damaged_is_not_known(pseudonyms: Pseudonyms) -> None:
    file = entry_of(extracted(REF), pseudonyms).file._replace(place=b"damaged")
    assert place_of(file, pseudonyms).path is None
    assert has_left(file, pseudonyms)
    assert has_lost_its_root(file, pseudonyms)
    assert not has_opened(file, pseudonyms)


@pytest.mark.parametrize(("outcome", "content"), [("not_an_image", ""), ("refused", ""), ("crashed", "")])
def test_what_is_certain_of_a_file_is_remembered_with_its_size_and_time(
    tmp_path: Path, pseudonyms: Pseudonyms, outcome: Outcome, content: str
) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    ref = ImageRef(tmp_path / "a", "a")
    file = entry_of(extracted(ref, Decoded(ref, outcome, "Why.", (), content, 5, 7)), pseudonyms).file
    assert file.size == 5
    unread = entry_of(extracted(ref, Decoded(ref, "corrupt", "It cannot be read.")), pseudonyms).file
    assert unread.size == 0


@pytest.mark.parametrize("names", [("a.png", "caf\u00e9.png"), ("a\\b.png", "\udcff.png")])
def test_all_files_of_a_folder_have_one_root_however_they_are_called(names: tuple[str, ...]) -> None:
    folder = Path("/d\\x/\u00e9")
    assert {root_of(ImageRef(folder / name, escaped(name))) for name in names} == {"/d\\\\x/\u00e9"}
    assert root_of(ImageRef(Path("/d\\x/a"), "a")) == root_of(ImageRef(Path("/d\\x/\u00e9"), "\u00e9")) == "/d\\\\x"
