"""Sources say which files there are, in a steady order, and never look outside their folder."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from cbmir import sources
from cbmir.errors import BadManifest, UsageError


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


def test_a_name_that_is_no_utf8_is_shown_escaped_and_found_again(tmp_path: Path) -> None:
    make_files(tmp_path, os.fsdecode(b"caf\xe9/\xff.png"), "caf\u00e9.png")
    (plain, ref) = sources.folder(tmp_path)
    assert (ref.shown, plain.shown) == (r"caf\xe9/\xff.png", "caf\u00e9.png")
    assert ref.path.is_file()
    assert sources.path_of(str(tmp_path), ref.shown) == ref.path
    assert shown(sources.open_source(ref.path)) == [r"\xff.png"]
    make_files(tmp_path, r"\xfe.png")  # so named by somebody
    assert sources.path_of(str(tmp_path), r"\xfe.png").is_file()
    assert sources.shown_of(PurePosixPath("a/b.png")) == "a/b.png"


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
        ("path,fold\n1.dcm,first\n", "row 2: a fold is a whole number from 0, not 'first'"),
        ("path,class,PatientName\n1.dcm,knee,Ann\n", "a column 'PatientName' that looks identifying"),
        ("path,patient_id\n1.dcm,\n", "a column 'patient_id' that looks identifying"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadManifest, match=message):
        sources.manifest(write_manifest(tmp_path, text))


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


def test_a_source_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no"):
        sources.open_source(tmp_path / "missing")


def test_labelled_images_come_from_a_manifest_or_from_class_folders(tmp_path: Path) -> None:
    make_files(tmp_path, "knee/1.png")
    assert sources.labelled(tmp_path)[0].label == "knee"
    write_manifest(tmp_path, "path,class\nknee/1.png,joint\n")
    assert sources.labelled(tmp_path)[0].label == "joint"


def test_images_without_any_class_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadManifest, match="one folder per class"):
        sources.labelled(make_files(tmp_path, "1.png"))
    with pytest.raises(BadManifest, match="add a column named class"):
        sources.labelled(write_manifest(tmp_path, "path,view\n1.png,axial\n"))


def test_organ24_has_24_classes(organ24: Path) -> None:
    refs = sources.labelled(organ24)
    assert len(refs) == 6190
    assert len({ref.label for ref in refs}) == 24
