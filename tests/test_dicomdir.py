"""A DICOMDIR names files; those outside its folder are refused, whatever it says."""

from __future__ import annotations

import struct
from importlib import import_module
from pathlib import Path

import pydicom
import pytest

from cbmir import sources
from cbmir.errors import BadImage, BadManifest
from cbmir.images import decode, read_ref
from cbmir.privacy import Pseudonyms

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests"
HEAD = bytes(128) + b"DICM" + b"\2\0\2\0UI\x14\x001.2.840.10008.1.3.10"


def element(group: int, number: int, kind: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", group, number, kind, len(value)) + value


def record(name: str, next_offset: int = 0) -> bytes:
    """A directory record of an image; next_offset: where the next is said to be."""
    value = name.encode() + b" " * (len(name) % 2)
    body = element(4, 0x1400, b"UL", struct.pack("<I", next_offset)) + element(4, 0x1500, b"CS", value)
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body


def dicomdir_bytes(*names: str, next_offset: int = 0) -> bytes:
    records = b"".join(record(name, next_offset) for name in names)
    return HEAD + struct.pack("<HH2s2xI", 4, 0x1220, b"SQ", len(records)) + records


def write(folder: Path, data: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "DICOMDIR").write_bytes(data)
    return folder / "DICOMDIR"


def make_files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"content")


def test_the_files_it_names_are_the_source(tmp_path: Path) -> None:
    make_files(tmp_path, "IMAGES/IM1", "IMAGES/IM2", "OTHER")
    path = write(tmp_path, dicomdir_bytes("IMAGES\\IM2", "IMAGES\\IM1", "IMAGES\\IM2"))
    refs = list(sources.open_source(path))
    assert [(ref.shown, ref.refused) for ref in refs] == [("IMAGES/IM2", None), ("IMAGES/IM1", None)]
    assert read_ref(refs[0]) == b"content"


@pytest.mark.parametrize("name", ["DICOMDIR", "DICOMDIR-bigEnd", "DICOMDIR-implicit", "DICOMDIR-nooffset"])
def test_every_encoding_is_read(name: str) -> None:
    dataset = pydicom.dcmread(BUNDLED / name)
    records = (entry.get("ReferencedFileID") for entry in dataset.DirectoryRecordSequence)
    expected = ["/".join(entry) for entry in records if entry]
    refs = list(sources.open_source(BUNDLED / name))
    assert [ref.shown for ref in refs] == expected
    assert len(refs) == 31
    assert all(ref.path.is_file() for ref in refs)


def test_names_are_found_in_another_case(tmp_path: Path) -> None:
    make_files(tmp_path, "images/im1.dcm")
    (ref,) = sources.open_source(write(tmp_path, dicomdir_bytes("IMAGES\\IM1.DCM")))
    assert (ref.shown, ref.path) == ("images/im1.dcm", tmp_path / "images" / "im1.dcm")


@pytest.mark.parametrize(
    "name", ["..\\SECRET", "A\\..\\..\\SECRET", "\\SECRET", "/etc/passwd", "C:\\SECRET", "../SECRET", ".", "A\\\\B"]
)
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    make_files(tmp_path, "SECRET", "cd/A/IM")
    bad, good = sources.open_source(write(tmp_path / "cd", dicomdir_bytes(name, "A\\IM")))
    assert bad.refused == "The DICOMDIR names a file outside its folder, or by a name that is none."
    with pytest.raises(BadImage) as caught:
        read_ref(bad)
    assert caught.value.outcome == "refused"
    assert good.refused is None


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    make_files(tmp_path, "SECRET/IM")
    path = write(tmp_path / "cd", dicomdir_bytes("IM", "OUT\\IM", "out\\im"))
    (path.parent / "IM").symlink_to(tmp_path / "SECRET" / "IM")
    (path.parent / "OUT").symlink_to(tmp_path / "SECRET")
    refs = list(sources.open_source(path))
    assert len(refs) == 3
    assert all(ref.refused for ref in refs)


def test_a_missing_file_stands_for_itself(tmp_path: Path) -> None:
    (ref,) = sources.open_source(write(tmp_path, dicomdir_bytes("IMAGES\\GONE")))
    assert (ref.shown, ref.refused) == ("IMAGES/GONE", None)
    with pytest.raises(BadImage, match="cannot be read: No such file"):
        read_ref(ref)


def test_records_that_go_round_in_circles_end(tmp_path: Path) -> None:
    make_files(tmp_path, "A", "B")
    data = dicomdir_bytes("A", "B", next_offset=len(HEAD))  # each says that the next one is the first
    assert [ref.shown for ref in sources.open_source(write(tmp_path, data))] == ["A", "B"]


def open_ended(*parts: bytes) -> bytes:
    """A DICOMDIR whose sequence of records has no length, up to what is given."""
    return HEAD + struct.pack("<HH2s2xI", 4, 0x1220, b"SQ", 0xFFFFFFFF) + b"".join(parts)


END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
PADDING = struct.pack("<HH2s2xI", 0xFFFC, 0xFFFC, b"OB", 400)


@pytest.mark.parametrize("after", [b"", PADDING + bytes(400), PADDING + b"\1" * 400, bytes(2000)])
def test_padding_may_follow_a_sequence_without_a_length(tmp_path: Path, after: bytes) -> None:
    data = open_ended(record("A"), record("B"), END, after)
    assert [ref.shown for ref in sources.open_source(write(tmp_path, data))] == ["A", "B"]


@pytest.mark.parametrize("last", [b"", record("C")[:-2], record("C"), END + record("C")])
def test_a_sequence_without_a_length_that_is_cut_off_is_found_out(tmp_path: Path, last: bytes) -> None:
    with pytest.raises(BadManifest, match="is cut off"):
        sources.open_source(write(tmp_path, open_ended(record("A"), END, record("B"), last)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (HEAD, "has no directory records"),
        (dicomdir_bytes(), "names no files"),
        (open_ended(END), "names no files"),
        (dicomdir_bytes("A", "B")[:-3], "is cut off"),
    ],
)
def test_a_damaged_dicomdir_is_one_sentence(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(BadManifest, match=message):
        sources.open_source(write(tmp_path, data))


def test_a_name_that_is_far_too_long_is_refused(tmp_path: Path) -> None:
    (ref,) = sources.open_source(write(tmp_path, dicomdir_bytes("A" * 60000)))
    assert ref.refused is not None
    assert len(ref.shown) < 200


def test_a_dicomdir_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("cbmir.sources.dicomdir"), "MAX_BYTES", 100)
    with pytest.raises(BadManifest, match="is larger than"):
        sources.open_source(write(tmp_path, dicomdir_bytes("A")))


def test_in_a_folder_it_is_a_file_without_an_image(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    make_files(tmp_path, "IM1")
    write(tmp_path, (BUNDLED / "DICOMDIR").read_bytes())
    ref, _ = sources.open_source(tmp_path)
    with pytest.raises(BadImage) as caught:
        list(decode(read_ref(ref), pseudonyms))
    assert caught.value.outcome == "not_an_image"
