"""Sources say which files there are, in a steady order, and never look outside their folder."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from cbmir import sources
from cbmir.errors import BadImage, BadManifest, UsageError
from cbmir.files import GALLERY_DATABASE
from cbmir.images import decode, read_ref
from cbmir.privacy import Pseudonyms
from pictures import SMOOTH, picture_bytes, zip_bytes


def make_files(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content")
    return root


def write_manifest(root: Path, text: str) -> Path:
    path = root / "manifest.csv"
    path.write_text(text, encoding="utf-8")
    return path


def shown(refs: object) -> list[str]:
    return [ref.shown for ref in refs]  # type: ignore[attr-defined]


def test_a_folder_gives_every_file_below_it_sorted(tmp_path: Path) -> None:
    make_files(tmp_path, "b/2.dcm", "b/1.dcm", "a.png", "c/d/e.tif")
    refs = list(sources.folder(tmp_path))
    assert shown(refs) == ["a.png", "b/1.dcm", "b/2.dcm", "c/d/e.tif"]
    assert all(ref.path.is_absolute() and ref.path.is_file() and ref.label is None for ref in refs)


def test_folders_may_be_nested_deeper_than_calls(tmp_path: Path) -> None:
    folder, depth = tmp_path, 1200
    opened = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):  # by steps: the whole path is longer than a call may name
        os.mkdir("d", dir_fd=opened)
        inside = os.open("d", os.O_RDONLY, dir_fd=opened)
        os.close(opened)
        opened = inside
    os.close(opened)
    (folder / "d" / "d" / "1.dcm").write_bytes(b"content")
    found = shown(sources.folder(tmp_path))
    assert found[0] == "d/d/1.dcm"
    assert len(found) <= 2  # where paths end, the folder stands for what is in it
    subprocess.run(["rm", "-r", folder / "d"], check=True)  # shutil.rmtree calls itself


def test_hidden_files_are_skipped(tmp_path: Path) -> None:
    make_files(tmp_path, ".hidden.dcm", ".cache/1.dcm", "seen.dcm")
    assert shown(sources.folder(tmp_path)) == ["seen.dcm"]


def test_links_that_lead_out_are_not_followed(tmp_path: Path) -> None:
    outside = make_files(tmp_path / "outside", "secret.dcm")
    inside = make_files(tmp_path / "inside", "a.dcm")
    (inside / "file.dcm").symlink_to(outside / "secret.dcm")
    (inside / "folder").symlink_to(outside)
    (inside / "loop").symlink_to(inside)
    (inside / "nothing.dcm").symlink_to(inside / "gone.dcm")
    (inside / "z.dcm").symlink_to(inside / "a.dcm")
    assert shown(sources.folder(inside)) == ["a.dcm", "z.dcm"]


def test_a_link_that_cannot_be_followed_stands_for_itself(tmp_path: Path) -> None:
    make_files(tmp_path, "a.dcm")
    (tmp_path / "loop.dcm").symlink_to(tmp_path / "loop.dcm")
    assert shown(sources.folder(tmp_path)) == ["a.dcm", "loop.dcm"]


def test_a_name_that_is_no_utf8_is_shown_escaped(tmp_path: Path) -> None:
    make_files(tmp_path, os.fsdecode(b"caf\xe9/\xff.png"), "caf\u00e9.png")
    (plain, ref) = sources.folder(tmp_path)
    assert (ref.shown, plain.shown) == (r"caf\xe9/\xff.png", "caf\u00e9.png")
    assert ref.path.is_file()
    assert shown(sources.open_source(ref.path)) == [r"\xff.png"]
    assert sources.shown_of(PurePosixPath("a/b.png")) == "a/b.png"


def test_no_two_names_are_shown_as_one(tmp_path: Path) -> None:
    names = [b"\xe9", rb"\xe9", rb"\\xe9", b"\\\xe9", "\u00e9".encode()]
    make_files(tmp_path, *map(os.fsdecode, names))
    refs = list(sources.folder(tmp_path))
    assert sorted(shown(refs)) == sorted([r"\xe9", r"\\xe9", r"\\\\xe9", r"\\\xe9", "\u00e9"])
    assert {os.fsencode(ref.path.name) for ref in refs} == set(names)


def test_what_is_no_file_and_no_folder_stands_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    make_files(tmp_path, "a.dcm", "in/b.dcm")
    for name in ("pipe", "pipe.zip"):  # which nobody opens: that would wait for a writer
        os.mkfifo(tmp_path / name)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        (tmp_path / "link").symlink_to("pipe")
        refs = list(sources.folder(tmp_path))
    assert shown(refs) == ["a.dcm", "in/b.dcm", "link", "pipe", "pipe.zip", "socket"]
    for ref in refs[2:]:
        with pytest.raises(BadImage) as caught:
            read_ref(ref)
        assert caught.value.outcome in ("refused", "corrupt")  # a socket cannot even be opened


def test_a_gallery_is_no_part_of_a_folder_and_no_source(tmp_path: Path) -> None:
    make_files(tmp_path, "a.dcm", f"gallery/{GALLERY_DATABASE}", "gallery/reports/index.html", "z/b.dcm")
    assert shown(sources.folder(tmp_path)) == ["a.dcm", "z/b.dcm"]
    with pytest.raises(UsageError, match="source is a gallery"):
        sources.folder(tmp_path / "gallery")


def lock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody may list this folder (the tests may run as root, whom no mode stops)."""
    scandir = os.scandir

    def guarded(path: Any) -> Any:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)


def test_a_folder_that_cannot_be_read_stands_for_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_files(tmp_path, "a/1.png", "locked/1.png", "z.png")
    lock(tmp_path / "locked", monkeypatch)
    assert shown(sources.folder(tmp_path)) == ["a/1.png", "locked", "z.png"]
    assert [(ref.shown, ref.label) for ref in sources.classes(tmp_path)] == [("a/1.png", "a"), ("locked", "locked")]
    lock(tmp_path, monkeypatch)
    with pytest.raises(UsageError, match="cannot be read: Permission denied"):
        list(sources.folder(tmp_path))


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        sources.folder(tmp_path / "missing")


def test_class_folders_name_the_classes(tmp_path: Path) -> None:
    make_files(tmp_path, "knee/1.png", "brain/deep/2.png", "readme.txt")
    refs = sources.classes(tmp_path)
    assert [(ref.shown, ref.label) for ref in refs] == [("brain/deep/2.png", "brain"), ("knee/1.png", "knee")]


def test_a_folder_without_class_folders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadManifest, match="no class folders"):
        sources.classes(make_files(tmp_path, "1.png"))


def test_a_manifest_says_what_is_known_of_each_image(tmp_path: Path) -> None:
    path = write_manifest(
        tmp_path,
        "path,class,modality,patient,source,split,fold,width,height,known_patient,finding,view\n"
        "knee/1.dcm,knee,MR,p1,here,train,2,224,224,true,tear,\n",
    )
    (ref,) = sources.manifest(path)
    assert ref.path == tmp_path / "knee" / "1.dcm"
    assert (ref.shown, ref.label) == ("knee/1.dcm", "knee")
    assert (ref.modality, ref.patient, ref.source, ref.split, ref.fold) == ("MR", "p1", "here", "train", 2)
    assert ref.labels == {"class": "knee", "finding": "tear"}  # the view is empty, the width is no label


def test_known_columns_are_known_in_any_case(tmp_path: Path) -> None:
    """A column Patient that counted as a label would be kept as it is."""
    text = "Path,CLASS, Patient ,Modality,Fold,Known_Patient,Finding\n1.dcm,knee,Ann,mr,1,true,tear\n"
    (ref,) = sources.manifest(write_manifest(tmp_path, text))
    assert (ref.shown, ref.patient, ref.modality, ref.fold) == ("1.dcm", "Ann", "MR", 1)
    assert ref.labels == {"class": "knee", "Finding": "tear"}
    with pytest.raises(BadManifest, match="two columns named patient"):
        sources.manifest(write_manifest(tmp_path, "path,patient,PATIENT\n1.dcm,a,b\n"))


def test_a_modality_that_is_none_of_dicoms_is_left_out(tmp_path: Path) -> None:
    refs = sources.manifest(write_manifest(tmp_path, "path,modality\n1.dcm,ct\n2.dcm,Ann Canary\n3.dcm,\n"))
    assert [ref.modality for ref in refs] == ["CT", None, None]


def test_empty_cells_tell_nothing(tmp_path: Path) -> None:
    (ref,) = sources.manifest(write_manifest(tmp_path, "path,class,patient\n1.dcm,,\n"))
    assert (ref.label, ref.patient, dict(ref.labels)) == (None, None, {})


def test_a_byte_order_mark_and_spaces_do_no_harm(tmp_path: Path) -> None:
    (ref,) = sources.manifest(write_manifest(tmp_path, "\ufeffpath , class\n 1.dcm , knee \n"))
    assert (ref.shown, ref.label) == ("1.dcm", "knee")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,class\n1.dcm,knee\n", "no column named path"),
        ("", "no column named path"),
        ("path,class\n", "names no images"),
        ("path,class,class\n1.dcm,a,b\n", "two columns named class"),
        ("path\n1.dcm\n2.dcm\n1.dcm\n", r"twice \(rows 2 and 4\)"),
        ("path\n1.dcm\n./1.dcm\n", "twice"),
        ("path,class\n,knee\n", "row 2: the path is empty"),
        ("path\n../1.dcm\n", "stay inside its folder"),
        ("path\na/../../1.dcm\n", "stay inside its folder"),
        ("path\n/etc/passwd\n", "stay inside its folder"),
        ("path\nc:\\1.dcm\n", "stay inside its folder"),
        ("path\n.\n", "row 2: the path is empty"),
        ("path,fold\n1.dcm,first\n", "row 2: a fold is a whole number from 0"),
        ("path,class,PatientName\n1.dcm,knee,Ann\n", "a column 'PatientName' that looks identifying"),
        ("path,patient_id\n1.dcm,\n", "a column 'patient_id' that looks identifying"),
        ("path,Patients\n1.dcm,\n", "a column 'Patients' that looks identifying"),
        ("path,orig_path\n1.dcm,\n", "a column 'orig_path' that looks identifying"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadManifest, match=message):
        sources.manifest(write_manifest(tmp_path, text))


def test_no_message_quotes_a_path_or_a_cell(tmp_path: Path) -> None:
    """Both may name patients; the path that was typed is echoed only when nothing is there."""
    cells = ("DOE.dcm\nDOE.dcm", "DOE.dcm\n../DOE.dcm", "DOE.dcm\n/DOE", 'DOE.dcm\n""')
    texts = [f"path\n{cell}\n" for cell in cells] + ["path,fold\n1.dcm,DOE\n", "path\n", "x\nDOE\n"]
    folder = tmp_path / "DOE"
    folder.mkdir()
    for text in texts:
        with pytest.raises(BadManifest) as caught:
            sources.manifest(write_manifest(folder, text))
        assert "DOE" not in str(caught.value)
        with pytest.raises(BadManifest) as caught:
            sources.labelled(folder)
        assert "DOE" not in str(caught.value)


def test_a_manifest_is_checked_whole_before_its_first_image_is_given(tmp_path: Path) -> None:
    with pytest.raises(BadManifest, match="row 3: the path is empty"):
        sources.read_manifest(write_manifest(tmp_path, 'path,class\n1.dcm,a\n"",b\n'))
    refs = sources.read_manifest(write_manifest(tmp_path, "path\n1.dcm\n2.dcm\n"))
    assert next(refs).shown == "1.dcm"


def test_a_manifest_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    path.write_bytes(b"path\n\xff\xfe\n")
    with pytest.raises(BadManifest, match="not a CSV file in UTF-8"):
        sources.manifest(path)


def test_a_manifest_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadManifest, match="cannot be read"):
        sources.manifest(tmp_path / "missing.csv")


def test_a_source_is_a_manifest_a_folder_or_a_file(tmp_path: Path) -> None:
    make_files(tmp_path, "1.dcm", "2.dcm")
    assert shown(sources.open_source(tmp_path)) == ["1.dcm", "2.dcm"]
    assert shown(sources.open_source(tmp_path / "2.dcm")) == ["2.dcm"]
    path = write_manifest(tmp_path, "path\n2.dcm\n")
    assert shown(sources.open_source(path)) == shown(sources.open_source(tmp_path)) == ["2.dcm"]


# Zip archives


def test_the_members_of_an_archive_are_files_of_its_folder(tmp_path: Path) -> None:
    make_files(tmp_path, "a/1.dcm", "c.dcm")
    (tmp_path / "b.ZIP").write_bytes(zip_bytes({"y/2.dcm": b"two", "x.dcm": b"one"}))
    refs = list(sources.folder(tmp_path))
    assert shown(refs) == ["a/1.dcm", "b.ZIP/x.dcm", "b.ZIP/y/2.dcm", "c.dcm"]
    assert [(ref.path.name, ref.member) for ref in refs[1:3]] == [("b.ZIP", "x.dcm"), ("b.ZIP", "y/2.dcm")]
    assert read_ref(refs[2]) == b"two"
    assert list(sources.open_source(tmp_path / "b.ZIP")) == refs[1:3]


def test_a_member_that_leads_out_is_refused_and_the_others_are_not(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_bytes({"../../etc/passwd": b"x", "good.dcm": b"y"}))
    bad, good = sources.folder(tmp_path)
    assert bad.refused == "The name of the member leads out of the zip archive."
    assert bad.shown == "a.zip/../../etc/passwd"
    assert good.refused is None
    with pytest.raises(BadImage, match="leads out"):
        read_ref(bad)


@pytest.mark.parametrize(
    ("content", "outcome"),
    [
        (zip_bytes({"x": b"content"})[:-5], "corrupt"),
        (b"", "not_an_image"),
        (b"no archive at all", "not_an_image"),
        (zip_bytes({}), "not_an_image"),
        (zip_bytes({"a/": b"", "__MACOSX/x": b"y"}), "not_an_image"),
    ],
)
def test_an_archive_that_gives_no_file_stands_for_itself(
    tmp_path: Path, pseudonyms: Pseudonyms, content: bytes, outcome: str
) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    (ref,) = sources.folder(tmp_path)
    assert (ref.shown, ref.member, ref.refused) == ("a.zip", None, None)
    with pytest.raises(BadImage) as caught:
        list(decode(read_ref(ref), pseudonyms))
    assert caught.value.outcome == outcome


def test_an_archive_beyond_the_limits_is_refused_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbmir.archives.MAX_MEMBERS", 2)
    (tmp_path / "a.zip").write_bytes(zip_bytes({str(i): b"x" for i in range(3)}))
    (ref,) = sources.folder(tmp_path)
    assert (ref.shown, ref.refused) == ("a.zip", "The zip archive has more than 2 members.")


def test_the_content_of_an_archive_decides_and_not_its_suffix(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    (tmp_path / "picture.zip").write_bytes(picture_bytes(SMOOTH))
    (ref,) = sources.folder(tmp_path)
    assert len(list(decode(read_ref(ref), pseudonyms))) == 1


def test_an_archive_in_a_class_folder_has_its_class_and_one_beside_has_none(tmp_path: Path) -> None:
    make_files(tmp_path, "knee/1.png")
    for name in ("knee/more.zip", "beside.zip"):
        (tmp_path / name).write_bytes(zip_bytes({"x/2.png": b"content"}))
    refs = sources.classes(tmp_path)
    assert [(ref.shown, ref.label) for ref in refs] == [("knee/1.png", "knee"), ("knee/more.zip/x/2.png", "knee")]
    assert refs[1].member == "x/2.png"
    (tmp_path / "only").mkdir()
    (tmp_path / "beside.zip").rename(tmp_path / "only" / "beside.zip")
    with pytest.raises(BadManifest, match="one folder per class"):
        sources.labelled(tmp_path / "only")


# Any source


def test_a_source_through_a_link_is_the_source(tmp_path: Path) -> None:
    make_files(tmp_path, "real/1.dcm")
    (tmp_path / "real" / "2.zip").write_bytes(zip_bytes({"a.dcm": b"a"}))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for name in ("1.dcm", "2.zip"):
        assert list(sources.open_source(tmp_path / "link" / name)) == list(
            sources.open_source(tmp_path / "real" / name)
        )
        assert next(sources.open_source(tmp_path / "link" / name)).path == tmp_path / "real" / name


def test_a_source_named_twice_or_inside_another_is_taken_once(tmp_path: Path) -> None:
    make_files(tmp_path, "a/1.dcm", "a/b/2.dcm", "a/.hidden/3.dcm", "c/4.dcm")
    (tmp_path / "link").symlink_to(tmp_path / "c")
    outer, inner, other = tmp_path / "a", tmp_path / "a" / "b", tmp_path / "c"
    assert sources.distinct([outer, other, outer, inner, inner / "2.dcm", tmp_path / "link"]) == [
        outer,
        tmp_path / "link",
    ]
    assert sources.distinct([inner, outer]) == [outer]
    hidden = outer / ".hidden"  # the outer folder does not see it
    assert sources.distinct([outer, hidden]) == [outer, hidden]


def test_a_manifest_inside_a_folder_that_is_taken_too_is_refused(tmp_path: Path) -> None:
    make_files(tmp_path, "a/b/1.dcm", "a/2.dcm")
    path = write_manifest(tmp_path / "a" / "b", "path,class\n1.dcm,knee\n")
    for source in (path, path.parent):
        with pytest.raises(UsageError, match="a manifest inside another source"):
            sources.distinct([tmp_path / "a", source])
    assert sources.distinct([path, path.parent]) == [path.parent]
    with pytest.raises(UsageError, match="There is no"):
        sources.distinct([tmp_path / "nowhere"])


def test_a_source_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no"):
        sources.open_source(tmp_path / "missing")


def test_labelled_images_come_from_a_manifest_or_from_class_folders(tmp_path: Path) -> None:
    make_files(tmp_path, "knee/1.png")
    assert sources.labelled(tmp_path)[0].label == "knee"
    with pytest.raises(BadManifest, match="has no classes"):
        sources.labelled(tmp_path, class_folders=False)
    write_manifest(tmp_path, "path,class\nknee/1.png,joint\n")
    assert sources.labelled(tmp_path)[0].label == "joint"
    assert sources.labelled(tmp_path, class_folders=False)[0].label == "joint"


def test_images_without_any_class_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadManifest, match="one folder per class"):
        sources.labelled(make_files(tmp_path, "1.png"))
    with pytest.raises(BadManifest, match="add a column named class"):
        sources.labelled(write_manifest(tmp_path, "path,view\n1.png,axial\n"))


def test_organ24_has_24_classes(organ24: Path) -> None:
    refs = sources.labelled(organ24)
    assert len(refs) == 6190
    assert all(ref.patient and ref.modality for ref in refs)
    assert set().union(*(ref.labels for ref in refs)) == {"class", "finding", "view"}
    assert len({ref.label for ref in refs}) == 24
