"""Of what a file says about itself, only words that are on a list are kept."""

from __future__ import annotations

import pytest

from cbmir.vocabulary import VOCABULARIES, known


@pytest.mark.parametrize(
    ("keyword", "text", "kept"),
    [
        ("BodyPartExamined", "CHEST", "CHEST"),
        ("BodyPartExamined", "Chest, Abdomen", "CHESTABDOMEN"),
        ("BodyPartExamined", "HEAD_AND_NECK", "HEADNECK"),
        ("BodyPartExamined", "thorax", "CHEST"),
        ("BodyPartExamined", "L-SPINE", "LSPINE"),
        ("BodyPartExamined", "CHEST of Ann", ""),
        ("Manufacturer", "SIEMENS", "siemens"),
        ("Manufacturer", "Siemens Healthineers AG", "siemens"),
        ("Manufacturer", "GE MEDICAL SYSTEMS", "ge"),
        ("Manufacturer", "G.E. Ann", ""),
        ("Manufacturer", "Gehrke, Ann", ""),
        ("Manufacturer", "TOSHIBA_MEC", "canon"),
        ("Manufacturer", "Philips Medical Systems", "philips"),
        ("Manufacturer", "FUJI PHOTO FILM Co., ltd.", "fujifilm"),
        ("Manufacturer", "KONICA MINOLTA", "konica minolta"),
        ("Manufacturer", "EASTMAN KODAK COMPANY", "carestream"),
        ("Manufacturer", "Ann's scanner", ""),
        ("Modality", "CT", "CT"),
        ("Modality", "mr", "MR"),
        ("Modality", "ANN1", ""),
        ("ViewPosition", "MLO", "MLO"),
        ("ViewPosition", "ANN", ""),
        ("Laterality", "l", "L"),
        ("Laterality", "left", ""),
        ("ImageType", "ORIGINAL\\PRIMARY\\AXIAL\\ANN CANARY", "ORIGINAL\\PRIMARY\\AXIAL"),
        ("ImageType", "ANN", ""),
        ("PhotometricInterpretation", "PALETTE COLOR", "PALETTE COLOR"),
        ("PhotometricInterpretation", "ANN", ""),
        ("PatientSex", "F", "F"),
        ("PatientSex", "Ann", ""),
        ("SOPClassUID", "Digital Mammography X-Ray Image Storage - For Presentation", None),
        ("SOPClassUID", "Ann Image Storage", ""),
        ("SOPClassUID", "CT", ""),
        ("InstanceNumber", "17", "17"),
        ("InstanceNumber", "12345678", ""),
        ("PixelSpacing", "0.7\\0.7", "0.7\\0.7"),
        ("PixelSpacing", "1e-3\\+.5", "0.001\\0.5"),
        ("PixelSpacing", "0.70312500 \\ 0.7031250", "0.703\\0.703"),
        ("PixelSpacing", "\\", ""),
        ("PixelSpacing", "1\\", ""),
        ("PixelSpacing", "1\\2\\3", ""),
        ("PixelSpacing", "1234567812345678\\1234567812345678", ""),
        ("PixelSpacing", ".1234567812345678\\.1234567812345678", ""),
        ("PixelSpacing", "0.7", ""),
        ("PixelSpacing", "12345678\\1", ""),
        ("SliceThickness", "1.25", "1.25"),
        ("SliceThickness", "100", "100"),
        ("SliceThickness", "0", "0"),
        ("SliceThickness", "999.9999", ""),
        ("SliceThickness", "1957.081512345678", ""),
        ("SliceThickness", "195.081512345678", "195.082"),
        ("SliceThickness", "1e99", ""),
        ("SliceThickness", "-1", ""),
        ("SliceThickness", "nan", ""),
        ("SliceThickness", "\u0661.\u0662", ""),
        ("SliceThickness", "Ann", ""),
        ("Rows", "512", "512"),
        ("Rows", "123456", ""),
        ("Rows", "\u0665\u0661\u0662", ""),
        ("StudyDate", "\u0662\u0660240131", ""),
        ("PatientAge", "\u0660\u0664\u0665Y", ""),
        ("Rows", "-512", ""),
        ("StudyDescription", "KNEE", ""),
    ],
)
def test_what_is_kept(keyword: str, text: str, kept: str | None) -> None:
    assert known(keyword, text) == (text if kept is None else kept)


@pytest.mark.parametrize("keyword", sorted(VOCABULARIES))
def test_nothing_stays_nothing(keyword: str) -> None:
    assert known(keyword, "") == ""


def test_every_image_storage_class_of_the_standard_is_known() -> None:
    from pydicom._uid_dict import UID_dictionary

    names = {name for name, kind, *_ in UID_dictionary.values() if kind == "SOP Class" and name.endswith("Storage")}
    images = {name for name in names if "Image" in name and not name.startswith(("DICOS", "Eddy", "Hardcopy"))}
    assert len(images) > 40
    assert not {name for name in images if not known("SOPClassUID", name)}
