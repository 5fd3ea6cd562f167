"""Identifiers become keyed pseudonyms; attributes pass a white list."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cbmir.errors import CbmirError
from cbmir.privacy import WHITE_LIST, Pseudonyms, identifying, load_pseudonyms, white_listed

UID = "1.2.826.0.1.3680043.8.498.1"
OTHER_KEY = Pseudonyms(b"another key, just as secret")


def test_the_same_uid_under_the_same_key_gives_the_same_id(pseudonyms: Pseudonyms) -> None:
    assert pseudonyms.image(UID, 0) == Pseudonyms(pseudonyms.key).image(UID, 0)


def test_another_key_frame_or_uid_gives_another_id(pseudonyms: Pseudonyms) -> None:
    ids = {pseudonyms.image(UID, 0), pseudonyms.image(UID, 1), pseudonyms.image(UID + "2", 0), OTHER_KEY.image(UID, 0)}
    assert len(ids) == 4


def test_an_id_is_32_hexadecimal_digits_and_holds_no_uid(pseudonyms: Pseudonyms) -> None:
    image_id = pseudonyms.image(UID, 0)
    assert len(image_id) == 32
    assert set(image_id) <= set("0123456789abcdef")
    assert UID not in image_id


def test_content_has_ids_of_its_own(pseudonyms: Pseudonyms) -> None:
    assert pseudonyms.image(b"bytes", 0) == pseudonyms.image(b"bytes", 0)
    assert pseudonyms.image(b"bytes", 0) != pseudonyms.image("bytes", 0)
    assert pseudonyms.image(b"bytes", 0) != pseudonyms.image(b"bytes", 1)


def test_the_kind_is_part_of_a_pseudonym(pseudonyms: Pseudonyms) -> None:
    assert len({pseudonyms.of("patient", "7"), pseudonyms.of("study", "7"), pseudonyms.of("series", "7")}) == 3


def test_the_fingerprint_tells_keys_apart(pseudonyms: Pseudonyms) -> None:
    assert len(pseudonyms.fingerprint) == 8
    assert pseudonyms.fingerprint != OTHER_KEY.fingerprint


def test_the_key_is_not_shown(pseudonyms: Pseudonyms) -> None:
    assert "key for tests" not in repr(pseudonyms)


def test_the_key_file_is_made_at_first_use_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "pseudonym.key"
    first = load_pseudonyms(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_pseudonyms(path) == first
    assert [p.name for p in path.parent.iterdir()] == ["pseudonym.key"]


def test_the_key_of_what_exists_is_never_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "pseudonym.key"
    with pytest.raises(CbmirError, match=r"There is no pseudonym key at .* set CBMIR_KEY_FILE"):
        load_pseudonyms(path, make=False)
    assert not path.exists()
    made = load_pseudonyms(path)
    assert load_pseudonyms(path, make=False) == made


def test_many_first_uses_agree_on_one_key(tmp_path: Path) -> None:
    path = tmp_path / "pseudonym.key"
    with ThreadPoolExecutor(8) as pool:
        loaded = set(pool.map(lambda _: load_pseudonyms(path).fingerprint, range(32)))
    assert len(loaded) == 1


def test_the_key_file_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CBMIR_KEY_FILE", str(tmp_path / "named.key"))
    load_pseudonyms()
    assert (tmp_path / "named.key").is_file()
    monkeypatch.delenv("CBMIR_KEY_FILE")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    load_pseudonyms()
    assert (tmp_path / "config" / "cbmir" / "pseudonym.key").is_file()


@pytest.mark.parametrize("text", ["", "not hexadecimal", "00ff"])
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pseudonym.key"
    path.write_text(text)
    with pytest.raises(CbmirError, match="is not a pseudonym key"):
        load_pseudonyms(path)


def test_a_key_file_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CbmirError, match="cannot be used"):
        load_pseudonyms(tmp_path / "file" / "pseudonym.key")


def test_only_the_white_list_passes() -> None:
    kept = white_listed({"Modality": "CT", "PatientName": "CANARY^ANN", "StudyDescription": "Ann's knee"})
    assert kept == {"modality": "CT"}


def test_the_white_list_names_nobody() -> None:
    identifying = ("Name", "ID", "UID", "Date", "Time", "Address", "Description", "Comments", "Number")
    suspects = {keyword for keyword in WHITE_LIST if keyword.endswith(identifying)}
    assert suspects == {"InstanceNumber", "StudyDate", "SOPClassUID"}


def test_every_attribute_of_the_white_list_has_a_closed_vocabulary_or_a_pattern() -> None:
    for keyword in WHITE_LIST:
        assert white_listed({keyword: "Canary Ann"}) == {}
        assert white_listed({keyword: "CANARY"}) == {}


@pytest.mark.parametrize(
    ("age", "band"),
    [("045Y", "40-49"), ("000Y", "0-9"), ("018M", "0-9"), ("089Y", "80-89"), ("093Y", "90+"), ("45", None), ("", None)],
)
def test_an_age_becomes_a_decade(age: str, band: str | None) -> None:
    assert white_listed({"PatientAge": age}).get("age_band") == band


def test_a_date_becomes_a_year() -> None:
    assert white_listed({"StudyDate": "20240131"}) == {"study_year": "2024"}
    assert white_listed({"StudyDate": "31.01.2024"}) == {}
    assert white_listed({"StudyDate": "00000000"}) == {}


def test_a_name_written_beside_a_known_word_is_left_out_with_it() -> None:
    values = {"BodyPartExamined": "CANARY KNEE", "Manufacturer": "ACME", "Rows": "512"}
    assert white_listed(values) == {"rows": "512"}


def test_an_instance_number_that_is_the_patients_number_is_left_out() -> None:
    assert white_listed({"InstanceNumber": "4711", "Rows": "512"}, ["Canary^Ann", "4711"]) == {"rows": "512"}
    assert white_listed({"InstanceNumber": "4711"}, ["Canary^Ann", "47"]) == {"instance_number": "4711"}
    assert white_listed({"InstanceNumber": "4711"}, ["004711"]) == white_listed({"InstanceNumber": "04711"}, ["4711"])
    assert white_listed({"InstanceNumber": "04711"}, ["4711"]) == {}
    assert white_listed({"InstanceNumber": "0"}, ["", "Canary^Ann"]) == {"instance_number": "0"}


def test_control_characters_and_markup_are_left_out() -> None:
    assert white_listed({"Manufacturer": "<script>", "SliceThickness": "1\x00", "Rows": "1;2"}) == {}


@pytest.mark.parametrize(
    "column",
    [
        "name", "Patient Name", "surname", "MRN", "mrn_hash", "birth_date", "PatientBirthDate", "StudyInstanceUID",
        "uid", "accession_number", "address", "telephone", "email", "id", "ID", "patient_id", "PatientID", "patientid",
        "Study ID", "image-id", "dob", "patient", "Patients", "patient_no", "PatNo", "PatientKey", "Patient-Number",
        "subject", "case", "CaseNr", "hospital_number", "Record Number", "medical_record", "insurance", "nhs",
        "NHS number", "initials", "nom", "file", "orig_path", "ImageFile", "study", "participant", "postcode",
        "zip code",
    ],
)  # fmt: skip
def test_columns_that_name_somebody_are_known(column: str) -> None:
    assert identifying(column)


@pytest.mark.parametrize(
    "column",
    [
        "class",
        "finding",
        "view",
        "carotid",
        "thyroid",
        "pleural_fluid",
        "sigmoid",
        "side",
        "age",
        "known_patient",
        "study_year",
        "patient_sex",
        "case_control",
        "pathology",
        "profile",
        "phenomenon",
        "subject_age",
        "filed_by",
        "series",
        "",
    ],
)
def test_columns_of_findings_name_nobody(column: str) -> None:
    assert not identifying(column)
