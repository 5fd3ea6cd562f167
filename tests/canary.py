"""Files in which a patient's name stands in every place that can hold text."""

from __future__ import annotations

import gzip
import io
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
import pydicom.config
from PIL import Image, PngImagePlugin
from pydicom.datadict import DicomDictionary, RepeatersDictionary
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from make_dicom import dicom_bytes, make_dicom
from pictures import draw

CANARY = "ZQXCANARY"
NUMBER = "194753"
"""Of a patient, where a file wants a number."""
TEXT_VRS = {
    "AE": "ZQXCANARY ANN",
    "CS": "ZQXCANARY ANN",
    "LO": "Zqxcanary, Ann",
    "LT": "of ZQXCANARY",
    "PN": "ZQXCANARY^ANN",
    "SH": "zqxcanary ann",
    "ST": "Ann ZQXCANARY",
    "UC": "ZQXCANARY^ANN",
    "UR": "http://zqxcanary",
    "UT": "Zqxcanary",
}
DECODING = {"SpecificCharacterSet", "PhotometricInterpretation"}
"""Text attributes without which a file is no image any more; each is planted in a file of its own."""


def text_tags() -> list[tuple[int, str]]:
    """Tag and VR of every text attribute of the dictionary; of repeating groups the first."""
    known = [(tag, entry[0], entry[4]) for tag, entry in DicomDictionary.items()]
    known += [(int(tag.replace("x", "0"), 16), entry[0], entry[4]) for tag, entry in RepeatersDictionary.items()]
    return [
        (tag, vr) for tag, vr, keyword in sorted(known) if vr in TEXT_VRS and tag >> 16 >= 8 and keyword not in DECODING
    ]


def plant(dataset: Dataset) -> Dataset:
    """The name in every text attribute, in private ones, in sequences, in the file header, in UIDs."""
    with pydicom.config.disable_value_validation():
        for tag, vr in text_tags():
            dataset[tag] = DataElement(Tag(tag), vr, TEXT_VRS[vr])
        block = dataset.private_block(0x0011, "ZQXCANARY MAKER", create=True)
        for number, vr in enumerate(("LO", "UT", "PN", "LT"), start=1):
            block.add_new(number, vr, TEXT_VRS[vr])
        item = Dataset()
        item.PatientName, item.CodeMeaning = "ZQXCANARY^ANN", "of Zqxcanary"
        dataset.RequestAttributesSequence = [item]
        for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
            setattr(dataset, keyword, f"{generate_uid(prefix='1.2.3.')[:40]}.ZQXCANARY")
        dataset.PatientAge, dataset.StudyDate = "ZQXC", "ZQXCANARY"
        dataset.file_meta.ImplementationVersionName = "ZQXCANARY"
        dataset.file_meta.SourceApplicationEntityTitle = "ZQXCANARY"
        dataset.preamble = b"ZQXCANARY^ANN".ljust(128, b"\0")
    return dataset


def dicom(seed: int, **elements: Any) -> bytes:
    """A decodable image with the name everywhere but in the elements given."""
    pixels = draw("disc", seed).astype(np.uint16) * 16
    dataset = plant(make_dicom(pixels, bits_stored=12))
    with pydicom.config.disable_value_validation():
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        return dicom_bytes(dataset)


def broken_dicoms() -> dict[str, bytes]:
    whole = dicom(5)
    report = plant(make_dicom(draw("disc", 6)))
    del report.PixelData
    with pydicom.config.disable_value_validation():
        return {
            "cut.dcm": whole[: len(whole) - 4000],
            "cut-in-the-header.dcm": whole[:3000],
            "photometric.dcm": dicom(7, PhotometricInterpretation="ZQXCANARY"),
            "character-set.dcm": dicom(8, SpecificCharacterSet="ZQXCANARY"),
            "rows.dcm": dicom(9, Rows=60000, Columns=60000),
            "syntax.dcm": whole.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.ZQXCANARY.1\0"),
            "report.dcm": dicom_bytes(report),
        }


def png(seed: int, *, cut: bool = False) -> bytes:
    told = PngImagePlugin.PngInfo()
    told.add_text("Author", "ZQXCANARY^ANN")
    told.add_itxt("Patient", "Zqxcanary")
    file = io.BytesIO()
    Image.fromarray(draw("stripes", seed)).save(file, "PNG", pnginfo=told)
    return file.getvalue()[: 200 if cut else None]


def jpeg(seed: int) -> bytes:
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = "ZQXCANARY"  # description, artist
    file = io.BytesIO()
    Image.fromarray(draw("disc", seed)).save(file, "JPEG", exif=exif, comment=b"ZQXCANARY^ANN")
    return file.getvalue()


def tiff(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(draw("stripes", seed)).save(
        file, "TIFF", tiffinfo={270: "ZQXCANARY", 315: "Zqxcanary", 285: "ZQXCANARY"}
    )
    return file.getvalue()


def volume(path: Path) -> None:
    """A NIfTI file with the name in its header and extension."""
    image = nibabel.Nifti1Image(np.stack([draw("disc", n, 24) for n in range(24)]).astype(np.int16), np.eye(4))
    image.header["descrip"], image.header["intent_name"], image.header["aux_file"] = (b"ZQXCANARY",) * 3
    image.header["db_name"] = b"ZQXCANARY"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"ZQXCANARY^ANN"))
    nibabel.save(image, path)


def zip_of(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = b"ZQXCANARY"
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def gzipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with gzip.GzipFile("ZQXCANARY.dcm", "wb", fileobj=file) as stream:
        stream.write(data)
    return file.getvalue()


def dicomdir(ids: list[list[str]]) -> bytes:
    """A media directory that names files by their components, and patients."""
    directory = Dataset()
    directory.file_meta = FileMetaDataset()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.SOPClassUID = directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    directory.SOPInstanceUID = directory.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    directory.FileSetID = "ZQXCANARY"
    directory.DirectoryRecordSequence = []
    for file_id in ids:
        record = Dataset()
        record.DirectoryRecordType, record.ReferencedFileID, record.PatientName = "IMAGE", file_id, "ZQXCANARY^ANN"
        directory.DirectoryRecordSequence.append(record)
    return dicom_bytes(directory)


def write_all(root: Path) -> dict[str, Path]:
    """Sources: folder, archive, directory of media, manifest; every name in them holds the canary."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names are no valid UIDs and character sets
        return _write_all(root)


def _write_all(root: Path) -> dict[str, Path]:
    ward = root / "Zqxcanary ward"
    files = {
        "ZQXCANARY^ANN/chest.dcm": dicom(1),
        "ZQXCANARY^ANN/zqxcanary-2.dcm": dicom(2, Modality="CT", BodyPartExamined="CHEST", Manufacturer="SIEMENS"),
        "ZQXCANARY^ANN/us.dcm": dicom(3, Modality="US", ImageType=["DERIVED", "SECONDARY", "ZQXCANARY"]),
        "ZQXCANARY^ANN/zipped.dcm.gz": gzipped(dicom(4)),
        "zqxcanary bob/number.dcm": dicom(16, PatientID=NUMBER, InstanceNumber=NUMBER),
        "zqxcanary bob/spacing.dcm": dicom(17, SliceThickness=f"{NUMBER}.{NUMBER}", PixelSpacing=[f"0.{NUMBER}"] * 2),
        "png/ZQXCANARY.png": png(11),
        "png/ZQXCANARY-cut.png": png(12, cut=True),
        "png/Zqxcanary.jpg": jpeg(13),
        "png/zqxcanary.tif": tiff(14),
        "notes/ZQXCANARY.txt": b"Ann ZQXCANARY was here",
        "notes/ZQXCANARY-empty.dcm": b"",
        "volumes/ZQXCANARY.nii.gz": gzipped(b"no volume of ZQXCANARY"),
    }
    files |= {f"broken/ZQXCANARY-{name}": data for name, data in broken_dicoms().items()}
    members = {"ZQXCANARY^ANN/1.dcm": dicom(21), "zqxcanary.png": png(22), "ZQXCANARY/cut.png": png(23, cut=True)}
    members |= {"notes of ZQXCANARY.txt": b"ZQXCANARY", "../ZQXCANARY.png": png(24)}
    files["ZQXCANARY.zip"] = zip_of(members)
    for name, data in files.items():
        (ward / name).parent.mkdir(parents=True, exist_ok=True)
        (ward / name).write_bytes(data)
    volume(ward / "volumes" / "ZQXCANARY.nii")
    nrrd.write(
        str(ward / "volumes" / "zqxcanary.nrrd"),
        np.arange(24**3, dtype=np.int16).reshape(24, 24, 24),
        {"content": CANARY},
    )
    Path(os.fsdecode(os.fsencode(ward) + b"/png/ZQXCANARY-\xff.png")).write_bytes(png(15))  # not UTF-8
    (ward / "png" / "ZQXCANARY-link.png").symlink_to(root / "ZQXCANARY-nowhere.png")
    media = root / "media of zqxcanary"
    (media / "ZQXCANAR").mkdir(parents=True)
    (media / "ZQXCANAR" / "IM1").write_bytes(dicom(31))
    (media / "DICOMDIR").write_bytes(dicomdir([["ZQXCANAR", "IM1"], ["ZQXCANAR", "IM9"], ["..", "ZQXCANAR"]]))
    return {"folder": ward, "archive": ward / "ZQXCANARY.zip", "media": media / "DICOMDIR", "manifest": manifest(root)}


def manifest(root: Path) -> Path:
    """Two classes on two sides, patients named in a column `Patient` and as modalities, one file broken."""
    folder = root / "study of ZQXCANARY"
    folder.mkdir()
    rows = ["Path,class,Patient,modality,split"]
    for number in range(12):
        name = f"ZQXCANARY-{number}.png"
        (folder / name).write_bytes(png(100 + number) if number % 2 else jpeg(100 + number))
        rows.append(
            f"{name},{'stripes' if number % 2 else 'disc'},ZQXCANARY^ANN {number},{'CT' if number % 3 else CANARY},"
            f"{'test' if number > 7 else 'train'}"
        )
    (folder / "ZQXCANARY-cut.png").write_bytes(png(200, cut=True))
    rows.append("ZQXCANARY-cut.png,disc,ZQXCANARY,,train")
    path = folder / "ZQXCANARY.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path
