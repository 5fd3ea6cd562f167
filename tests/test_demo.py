"""The demo: on pydicom's own files and on a labelled folder; when asked for long tests, with training before."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cbmir.demo import bundled_files, run_demo, work_folder
from cbmir.errors import BadManifest, UsageError
from cbmir.gallery import Gallery
from cbmir.recipes import DEMO, recipe_named
from make_dicom import make_dicom, save_dicom
from pictures import draw_folder


def test_without_a_folder_it_searches_the_files_that_come_with_pydicom(stand_in: Path, tmp_path: Path) -> None:
    said: list[str] = []
    result = run_demo(None, tmp_path, workers=2, say=said.append)
    assert result["encoder"] == "default"
    assert result["indexed"]["outcomes"]["decoded"] >= 80
    work = tmp_path / "pydicom"
    assert f"writing into {work}" in said
    assert sorted(path.name for path in (work / "searches").iterdir()) == ["01.png", "02.png", "03.png"]
    assert "Research use only" in (work / "report" / "report.html").read_text()
    assert any("found" in line for line in said)


def copied(folder: Path, *names: str) -> Path:
    """A folder of some of pydicom's files."""
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes((bundled_files() / name).read_bytes())
    return folder


def test_again_it_goes_on(tmp_path: Path) -> None:
    some = copied(tmp_path / "some", "CT_small.dcm", "MR_small.dcm", "examples_rgb_color.dcm")
    told = {"encoder_name": "pixels", "workers": 0, "say": lambda _: None}
    runs = [run_demo(some, tmp_path / "out", **told) for _ in range(2)]
    assert [run["indexed"]["added"] for run in runs] == [3, 0]
    assert runs[0]["gallery"] == runs[1]["gallery"]


def test_two_sources_of_one_name_have_a_gallery_each(tmp_path: Path) -> None:
    sources = [
        copied(tmp_path / "a" / "some", "CT_small.dcm", "MR_small.dcm"),
        copied(tmp_path / "b" / "some", "CT_small.dcm"),
    ]
    told = {"encoder_name": "pixels", "workers": 0, "say": lambda _: None}
    runs = [run_demo(source, tmp_path / "out", **told) for source in sources]
    assert [run["indexed"]["added"] for run in runs] == [2, 1]
    assert len({run["gallery"] for run in runs}) == 2
    for run in runs:
        with Gallery.open(Path(run["gallery"])) as gallery:
            assert gallery.count == run["indexed"]["added"]


def test_a_class_named_as_a_path_writes_nothing_outside(tmp_path: Path) -> None:
    pictures = draw_folder(tmp_path / "pictures", per_class=3)
    rows = [f"{path.relative_to(pictures)},{path.parent.name}" for path in sorted(pictures.rglob("*.png"))]
    text = "\n".join(["path,class", *rows]).replace(",disc", ",../../../evil") + "\n"
    (pictures / "manifest.csv").write_text(text)
    before = set(tmp_path.iterdir())
    result = run_demo(pictures, tmp_path / "out", encoder_name="pixels", workers=0, say=lambda _: None)
    work = Path(result["gallery"]).parent
    assert {path.name for path in (work / "searches").iterdir()} == {"01.png", "02.png"}
    assert set(tmp_path.iterdir()) - before <= {tmp_path / "out", tmp_path / "home"}
    assert not list(tmp_path.rglob("evil*"))


def test_a_patient_is_on_one_side_whether_manifest_or_file_names_him(tmp_path: Path) -> None:
    source = draw_folder(tmp_path / "pictures", per_class=6)
    rows = []
    for picture in sorted(source.rglob("*.png")):
        label, patient = picture.parent.name, f"{picture.parent.name} {picture.stem}"
        pixels = np.asarray(Image.open(picture))[:8, :8]
        save_dicom(picture.with_suffix(".dcm"), make_dicom(pixels, PatientID=patient))
        rows += [f"{label}/{picture.name},{label},{patient}", f"{label}/{picture.stem}.dcm,{label},"]
    (source / "manifest.csv").write_text("\n".join(["path,class,patient", *rows]) + "\n")
    result = run_demo(source, tmp_path / "out", encoder_name="pixels", workers=0, say=lambda _: None)
    with Gallery.open(Path(result["gallery"])) as gallery:
        images = Counter(record.patient for record in gallery.records(gallery.ids()).values())
    assert set(images.values()) == {2}


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no"):
        run_demo(tmp_path / "nowhere", tmp_path / "out", say=lambda _: None)


def test_folders_are_classes_only_where_somebody_says_so(tmp_path: Path) -> None:
    """A folder per patient looks the same as one per class, and classes are kept as they are."""
    wards = draw_folder(tmp_path / "wards", per_class=6)
    told = {"out": tmp_path / "out", "encoder_name": "pixels", "workers": 0, "say": lambda _: None}
    plain, classes = run_demo(wards, **told), run_demo(wards, **told, class_folders=True)
    assert (plain["mAP"] is None, classes["mAP"] is None) == (True, False)
    for result, groups in ((plain, {""}), (classes, {"disc", "stripes"})):
        with Gallery.open(Path(result["gallery"])) as gallery:
            assert {record.group for record in gallery.records(gallery.ids()).values()} == groups


def test_class_folders_that_are_not_there_are_said(tmp_path: Path) -> None:
    some = copied(tmp_path / "some", "CT_small.dcm")
    with pytest.raises(BadManifest, match="no classes"):
        run_demo(some, tmp_path / "out", class_folders=True, say=lambda _: None)


def test_with_classes_it_evaluates_the_encoder_that_comes_with_cbmir(stand_in: Path, tmp_path: Path) -> None:
    pictures = draw_folder(tmp_path / "pictures", per_class=6)
    result = run_demo(pictures, tmp_path / "out", class_folders=True, workers=0, say=lambda _: None)
    metrics = json.loads((Path(result["report"]).parent / "metrics.json").read_text())
    assert (result["encoder"], metrics["encoder_name"]) == ("default", "default")
    assert result["mAP"] == metrics["retrieval"]["FCL1"]["off"]["mAP"]


def test_every_encoder_and_recipe_has_a_folder_of_its_own(tmp_path: Path) -> None:
    by = ["default", "pixels", str(tmp_path / "one"), str(tmp_path / "two"), DEMO, recipe_named("ours")]
    folders = [work_folder(None, tmp_path, classes, one) for one in by for classes in (False, True)]
    assert len(set(folders)) == 12
    assert folders[:3] == [tmp_path / "pydicom", tmp_path / "pydicom-classes", tmp_path / "pydicom-pixels"]
    assert not any("one" in folder.name for folder in folders)


def test_nothing_is_trained_without_classes(tmp_path: Path) -> None:
    some = copied(tmp_path / "some", "CT_small.dcm")
    with pytest.raises(UsageError, match="Training needs classes"):
        run_demo(some, tmp_path / "out", recipe=DEMO, say=lambda _: None)


@pytest.mark.long
def test_with_a_recipe_it_trains_first(tmp_path: Path) -> None:
    pictures = draw_folder(tmp_path / "pictures", per_class=10)
    recipe = replace(DEMO, epochs=1, batch_size=4)
    result = run_demo(pictures, tmp_path / "out", class_folders=True, recipe=recipe, workers=0, say=lambda _: None)
    work = Path(result["gallery"]).parent
    assert result["encoder"] == str(work / "encoder")
    metrics = json.loads((work / "report" / "metrics.json").read_text())
    assert result["mAP"] == metrics["retrieval"]["FCL1"]["off"]["mAP"]
    assert {path.stem for path in (work / "searches").iterdir()} == {"01", "02"}
