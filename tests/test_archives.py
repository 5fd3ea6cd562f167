"""Archives are opened within limits: what they claim is checked, what they hide is refused, nothing is written."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from cbmir import archives
from cbmir.archives import Member, inflate, members, read_member
from cbmir.errors import BadImage
from pictures import zip_bytes

MANY = bytes(range(256)) * 64


def deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def outcome(action: object, *arguments: object) -> tuple[str, str]:
    with pytest.raises(BadImage) as caught:
        action(*arguments)  # type: ignore[operator]
    return caught.value.outcome, caught.value.reason


def refusals(path: Path) -> dict[str, str | None]:
    return {member.name: member.refused for member in members(path)}


# Streams


@pytest.mark.parametrize("size", [0, 1, 2**16, 2**20, 2**20 + 1, 3 * 2**20])
def test_what_was_compressed_comes_back(size: int) -> None:
    data = os.urandom(size // 2) + bytes(size - size // 2)
    assert inflate(gzip.compress(data), 31) == data
    assert inflate(deflate(data), -15) == data
    assert inflate(zlib.compress(data), 15) == data


def test_a_gzip_file_of_several_members_is_one() -> None:
    assert inflate(gzip.compress(b"first, ") + gzip.compress(b"second"), 31) == b"first, second"


def test_what_follows_a_stream_is_ignored() -> None:
    assert inflate(deflate(MANY) + b"\0", -15) == MANY  # DICOM pads to an even length
    assert inflate(gzip.compress(MANY) + bytes(10), 31) == MANY


@pytest.mark.parametrize("data", [b"", b"\xff" * 30, gzip.compress(MANY)[:-9], gzip.compress(MANY)[:-1]])
def test_a_damaged_stream_is_corrupt(data: bytes) -> None:
    assert outcome(inflate, data, 31)[0] == "corrupt"


def test_a_wrong_checksum_is_corrupt() -> None:
    data = bytearray(gzip.compress(MANY))
    data[-5] ^= 1
    assert outcome(inflate, bytes(data), 31)[0] == "corrupt"


def test_a_stream_that_grows_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert archives.allowed_bytes(0) == 64 * 2**20
    assert archives.allowed_bytes(2**20) == (64 + 100) * 2**20
    assert archives.allowed_bytes(2**40) == 2**30
    monkeypatch.setattr(archives, "FREE_BYTES", 1000)
    black = gzip.compress(bytes(10**6))  # a thousand times smaller
    assert outcome(inflate, black, 31) == ("refused", "The compressed data would grow beyond what is safe.")
    assert outcome(inflate, gzip.compress(bytes(10)) * 100 + black, 31)[0] == "refused"


# What is in an archive


def test_members_are_sorted_folder_by_folder_and_hidden_ones_left_out(tmp_path: Path) -> None:
    names = ("b/2.dcm", "a-b/1.dcm", "a/1.dcm", "__MACOSX/a/._1.dcm", ".DS_Store", "a/.git/config", "b/", "./c.dcm")
    path = write(tmp_path / "a.zip", zip_bytes({name: b"" if name.endswith("/") else b"x" for name in names}))
    assert members(path) == tuple(Member(name) for name in ("./c.dcm", "a/1.dcm", "a-b/1.dcm", "b/2.dcm"))


def test_a_member_comes_back_stored_or_deflated(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = write(tmp_path / f"{method}.zip", zip_bytes({"x/y.dcm": MANY, "z": b"z"}, method))
        assert read_member(path, "x/y.dcm") == MANY
        assert read_member(path, "z") == b"z"


def test_an_archive_behind_other_bytes_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "self-extracting.zip", b"#!program" * 100 + zip_bytes({"x": MANY}))
    assert read_member(path, "x") == MANY


def test_names_that_are_no_utf8_are_kept_apart(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("caf\u00e9.dcm", b"first")
        archive.writestr("xxxx.dcm", b"second")
    data = file.getvalue().replace(b"xxxx", b"caf\x82")  # that é in the DOS character set, without the mark for UTF-8
    path = write(tmp_path / "a.zip", data.replace("caf\u00e9.dcm".encode(), b"caf\xc3\xa8.dcm"))
    assert sorted(refusals(path)) == ["caf\u00e8.dcm", "caf\u00e9.dcm"]
    assert read_member(path, "caf\u00e9.dcm") == b"second"


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "C:/x",
        "c:x",
        "a\\..\\..\\x",
        "\\\\server\\x",
        "\\x",
        "c:\\x",
        "..",
        "a/..",
        "x\0.dcm",
    ],
)
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    stand_in = "n" * len(name)
    data = zip_bytes({stand_in: b"secret", "good": b"x"}).replace(stand_in.encode(), name.encode())
    path = write(tmp_path / "a.zip", data)
    (bad,) = (member for member in members(path) if member.name != "good")
    assert bad.refused == "The name of the member leads out of the zip archive."
    assert outcome(read_member, path, bad.name) == ("refused", bad.refused)
    assert read_member(path, "good") == b"x"


def test_a_backslash_separates_folders_as_in_archives_of_old_dotnet(tmp_path: Path) -> None:
    names = ("scan\\1.dcm", "scan\\a\\2.dcm", "scan\\empty\\", "__MACOSX\\scan\\1.dcm", "scan\\.hidden")
    path = write(tmp_path / "a.zip", zip_bytes({name: name.encode() for name in names}))
    assert members(path) == (Member("scan/1.dcm"), Member("scan/a/2.dcm"))
    assert read_member(path, "scan/a/2.dcm") == b"scan\\a\\2.dcm"
    assert archives.count_files(path.read_bytes()) == 2


def test_two_names_that_differ_only_in_their_separators_are_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", zip_bytes({"a/x.dcm": b"one", "a\\x.dcm": b"two"}))
    assert refusals(path) == {"a/x.dcm": "The zip archive has several members of this name."}


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        info = zipfile.ZipInfo("link.dcm")
        info.create_system, info.external_attr = 3, (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    path = write(tmp_path / "a.zip", file.getvalue())
    assert refusals(path) == {"link.dcm": "The member of the zip archive is a link or no ordinary file."}
    assert outcome(read_member, path, "link.dcm")[0] == "refused"


def directory_entry(data: bytes, name: bytes) -> int:
    """Where the central directory's entry of a member begins."""
    return data.rindex(name) - 46


def patched(data: bytes, name: bytes, at: int, layout: str, value: int) -> bytes:
    """The archive with one field of a member's directory entry changed."""
    changed = bytearray(data)
    struct.pack_into(layout, changed, directory_entry(data, name) + at, value)
    return bytes(changed)


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    data = patched(zip_bytes({"x.dcm": b"x"}), b"x.dcm", 8, "<H", 1)
    assert refusals(write(tmp_path / "a.zip", data)) == {"x.dcm": "The member of the zip archive is encrypted."}


def test_a_name_that_stands_for_two_members_is_refused(tmp_path: Path) -> None:
    data = zip_bytes({"x.dcm": b"one", "y.dcm": b"two"}).replace(b"y.dcm", b"x.dcm")
    path = write(tmp_path / "a.zip", data)
    assert refusals(path) == {"x.dcm": "The zip archive has several members of this name."}
    assert outcome(read_member, path, "x.dcm")[0] == "refused"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_whose_growth_cannot_be_bounded_are_refused(tmp_path: Path, method: int) -> None:
    path = write(tmp_path / "a.zip", zip_bytes({"x": MANY}, method))
    assert "by a method that is not read" in str(refusals(path)["x"])


# Sizes


def test_a_member_that_claims_to_grow_beyond_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "FREE_BYTES", 5000)
    path = write(tmp_path / "a.zip", zip_bytes({"bomb": bytes(10**5), "noise": os.urandom(10**5)}))
    assert refusals(path) == {"bomb": "The member of the zip archive would grow beyond what is safe.", "noise": None}


def test_a_member_that_lies_about_its_size_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (10, 10**6 + 1):
        path = write(tmp_path / f"{size}.zip", patched(zip_bytes({"bomb": bytes(10**6)}), b"bomb", 24, "<I", size))
        assert outcome(read_member, path, "bomb")[0] == "corrupt"
    monkeypatch.setattr(archives, "FREE_BYTES", 5000)
    path = write(tmp_path / "small.zip", patched(zip_bytes({"bomb": bytes(10**6)}), b"bomb", 24, "<I", 10))
    assert refusals(path) == {"bomb": None}
    assert outcome(read_member, path, "bomb")[0] == "refused"  # while it is inflated


def test_a_stored_member_has_one_size(tmp_path: Path) -> None:
    data = patched(zip_bytes({"x": MANY}, zipfile.ZIP_STORED), b"x", 24, "<I", 10)
    assert refusals(write(tmp_path / "a.zip", data)) == {"x": "The member of the zip archive has two sizes."}


def test_members_too_large_together_refuse_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "FREE_BYTES", 10**5)
    few = write(tmp_path / "few.zip", zip_bytes({"a": bytes(10**5)}))
    many = write(tmp_path / "many.zip", zip_bytes({str(i): bytes(10**5) for i in range(30)}))
    assert refusals(few) == {"a": None}
    assert outcome(members, many) == ("refused", "The members of the zip archive would grow beyond what is safe.")


def test_too_many_members_refuse_the_archive_whatever_it_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 20)
    data = bytearray(zip_bytes({str(i): b"x" for i in range(21)}))
    struct.pack_into("<HH", data, data.rindex(b"PK\5\6") + 8, 1, 1)  # one member, it says
    path = write(tmp_path / "a.zip", bytes(data))
    assert outcome(members, path) == ("refused", "The zip archive has more than 20 members.")


def test_a_directory_too_large_refuses_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_DIRECTORY_BYTES", 100)
    path = write(tmp_path / "a.zip", zip_bytes({"a" * 200: b"x"}))
    assert outcome(members, path) == ("refused", "The directory of the zip archive is too large.")


# Damage


def test_a_damaged_archive_is_corrupt(tmp_path: Path) -> None:
    whole = zip_bytes({"x.dcm": MANY})
    for number, data in enumerate((b"", b"PK\3\4", whole[:-1], whole[: len(whole) // 2], b"no archive" * 50)):
        assert outcome(members, write(tmp_path / f"{number}.zip", data))[0] == "corrupt"
    assert outcome(members, tmp_path / "missing.zip") == (
        "corrupt",
        "The zip archive cannot be read: No such file or directory.",
    )


def test_damaged_members_are_corrupt_and_the_others_readable(tmp_path: Path) -> None:
    data = bytearray(zip_bytes({"bad": MANY, "good": MANY}, zipfile.ZIP_STORED))
    data[100] ^= 1
    path = write(tmp_path / "a.zip", bytes(data))
    assert outcome(read_member, path, "bad")[0] == "corrupt"
    assert read_member(path, "good") == MANY


@pytest.mark.parametrize("offset", [1, 5000, 0xFFFFFFF0])
def test_a_member_that_lies_elsewhere_is_corrupt(tmp_path: Path, offset: int) -> None:
    path = write(tmp_path / "a.zip", patched(zip_bytes({"x": MANY}), b"x", 42, "<I", offset))
    assert outcome(read_member, path, "x")[0] == "corrupt"


def test_an_empty_and_a_missing_member_have_an_outcome(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", zip_bytes({"empty": b""}))
    assert outcome(read_member, path, "empty") == ("not_an_image", "The file is empty.")
    assert outcome(read_member, path, "missing")[0] == "corrupt"


def test_an_archive_that_has_changed_is_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", zip_bytes({"x": b"old"}))
    assert read_member(path, "x") == b"old"
    write(path, zip_bytes({"y": b"new one"}))
    assert refusals(path) == {"y": None}
    assert outcome(read_member, path, "x")[0] == "corrupt"


def test_a_path_that_is_none_is_corrupt(tmp_path: Path) -> None:
    assert outcome(members, tmp_path / "a\0.zip")[0] == "corrupt"


def test_messages_hold_no_names(tmp_path: Path) -> None:
    data = zip_bytes({"DOE^JOHN/../1.dcm": b"x"})
    for reason in refusals(write(tmp_path / "DOE.zip", data)).values():
        assert "DOE" not in str(reason)
    assert "DOE" not in outcome(read_member, tmp_path / "DOE.zip", "JOHN")[1]
