"""Patients first: keyed pseudonyms instead of identifiers, and the white list of attributes a record may keep."""

from __future__ import annotations

import hmac
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from .errors import CbmirError

KEY_BYTES = 32
SHORTEST_KEY_BYTES = 16
PSEUDONYM_DIGITS = 32  # 128 bits in hexadecimal

Kind = Literal["patient", "study", "series"]

WHITE_LIST: Mapping[str, str] = MappingProxyType(
    {
        "BodyPartExamined": "body_part_examined",
        "Columns": "columns",
        "ImageLaterality": "image_laterality",
        "ImageType": "image_type",
        "Laterality": "laterality",
        "Manufacturer": "manufacturer",
        "ManufacturerModelName": "manufacturer_model_name",
        "Modality": "modality",
        "PatientAge": "age_band",
        "PatientSex": "patient_sex",
        "PhotometricInterpretation": "photometric_interpretation",
        "PixelSpacing": "pixel_spacing",
        "Rows": "rows",
        "SOPClassUID": "sop_class",
        "SliceThickness": "slice_thickness",
        "StudyDate": "study_year",
        "ViewPosition": "view_position",
    }
)
"""DICOM keyword -> attribute of a record. What is not named here is never kept (PS3.15 Annex E in spirit)."""

_IDENTIFYING_PARTS = re.compile(r"name|mrn|birth|(?<!fl)(?<!liq)uid|accession|address|phone|e_?mail")
_IDENTIFYING_WORDS = frozenset({"dob", "id", "ids", "pid", "ssn"})
_IDENTIFYING_ID = re.compile(r"(patient|person|subject|case|exam|study|series|image|instance|sop)s?id")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[\W_]+")  # between the words of patientID, patient id and patient_id

_AGE = re.compile(r"(\d{3})([DWMY])")
_DATE = re.compile(r"(\d{4})\d{4}")
_PRINTABLE = re.compile(r"[\w .,:;+\-*/\\()&#]{1,128}")
_NUMERIC = re.compile(r"[\d.eE+\-\\ ]{1,64}")
NUMBERS = frozenset({"Columns", "PixelSpacing", "Rows", "SliceThickness"})


@dataclass(frozen=True)
class Pseudonyms:
    """Turns identifiers into opaque, stable names: HMAC-SHA256 under a secret key, 32 hexadecimal digits.

    key: at least 16 secret bytes. Whoever lacks it can neither reverse nor guess-and-check an identifier.
    """

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) < SHORTEST_KEY_BYTES:
            raise CbmirError(f"A pseudonym key has at least {SHORTEST_KEY_BYTES} bytes.")

    @property
    def fingerprint(self) -> str:
        """8 hexadecimal digits that tell keys apart without giving them away."""
        return self._digest(b"fingerprint", b"")[:8]

    def image(self, uid_or_content: str | bytes, frame_index: int) -> str:
        """The id of an image: of its SOP Instance UID (str), or of the SHA-256 of its file (bytes), and frame_index."""
        if isinstance(uid_or_content, str):
            return self._digest(b"image uid", f"{uid_or_content}\n{frame_index}".encode())
        return self._digest(b"image content", uid_or_content + f"\n{frame_index}".encode())

    def of(self, kind: Kind, value: str) -> str:
        """The pseudonym of a patient, study or series; the same value gives another one for another kind."""
        return self._digest(kind.encode(), value.encode())

    def _digest(self, kind: bytes, message: bytes) -> str:
        return hmac.digest(self.key, kind + b"\0" + message, "sha256").hex()[:PSEUDONYM_DIGITS]


def load_pseudonyms(path: Path | None = None) -> Pseudonyms:
    """The pseudonyms of this machine; the key file is made (mode 0600) at first use.

    path: the key file; by default $CBMIR_KEY_FILE, else pseudonym.key in the user's configuration folder.
    Raises CbmirError when the file cannot be read or made, or holds no key.
    """
    path = path or _default_key_file()
    try:
        if not path.exists():
            _make_key_file(path)
        text = path.read_text(encoding="ascii")
        return Pseudonyms(bytes.fromhex(text.strip()))
    except OSError as error:
        raise CbmirError(f"The pseudonym key file {path} cannot be used: {error.strerror}.") from error
    except (ValueError, CbmirError) as error:
        raise CbmirError(
            f"{path} is not a pseudonym key: it must hold at least {SHORTEST_KEY_BYTES} bytes in hexadecimal."
        ) from error


def _default_key_file() -> Path:
    named = os.environ.get("CBMIR_KEY_FILE")
    if named:
        return Path(named)
    configuration = os.environ.get("XDG_CONFIG_HOME")
    folder = Path(configuration) if configuration else Path.home() / ".config"
    return folder / "cbmir" / "pseudonym.key"


def _make_key_file(path: Path) -> None:
    """Two processes may come here at once: the key is whole before it gets its name, and the first name wins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink(missing_ok=True)


def identifying(column: str) -> bool:
    """Does the name of a table's column promise what tells who somebody is: a name, a number, a date of birth, a UID?

    Of what no pattern knows, nothing is said: it is a net, not a proof. (pleural_fluid holds no uid.)
    """
    words = [word.casefold() for word in _HUMP.split(column) if word]
    parts = _IDENTIFYING_PARTS.search("_".join(words)) or _IDENTIFYING_ID.fullmatch("".join(words))
    return parts is not None or not _IDENTIFYING_WORDS.isdisjoint(words)


def white_listed(values: Mapping[str, str], secrets_of_file: Iterable[str] = ()) -> dict[str, str]:
    """The attributes a record may keep.

    values: text by DICOM keyword; several values are joined by a backslash.
    secrets_of_file: names and identifiers; a text that holds one of their words (3 letters or more) is left out,
    because scanners' free fields are sometimes filled with the wrong thing.
    Ages become a decade ("40-49"), dates a year.
    """
    words = {w.casefold() for s in secrets_of_file for w in re.split(r"[\W_]+", s) if len(w) >= 3}
    kept = {}
    for keyword, name in WHITE_LIST.items():
        text = _coarse(keyword, values.get(keyword, "").strip())
        if text and (keyword in NUMBERS or not any(word in text.casefold() for word in words)):
            kept[name] = text
    return kept


def _coarse(keyword: str, text: str) -> str:
    if keyword == "PatientAge":
        return _age_band(text)
    if keyword == "StudyDate":
        match = _DATE.fullmatch(text)
        return match[1] if match else ""
    pattern = _NUMERIC if keyword in NUMBERS else _PRINTABLE
    return text if pattern.fullmatch(text) else ""


def _age_band(text: str) -> str:
    """DICOM age string (PS3.5 6.2, AS) to a decade; 90 and above are one band."""
    match = _AGE.fullmatch(text)
    if not match:
        return ""
    years = int(match[1]) if match[2] == "Y" else 0
    if years >= 90:
        return "90+"
    decade = years // 10 * 10
    return f"{decade}-{decade + 9}"
