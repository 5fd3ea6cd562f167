"""Patients first: keyed pseudonyms instead of identifiers, and the white list of attributes a record may keep."""

from __future__ import annotations

import hmac
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from .errors import CbmirError
from .vocabulary import known as known_words

if TYPE_CHECKING:  # searching by id seals nothing, and starts faster without it
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
SHORTEST_KEY_BYTES = 16
PSEUDONYM_DIGITS = 32  # 128 bits in hexadecimal

Kind = Literal["patient", "study", "series", "file", "folder", "content", "pixels", "erased"]

HANDLE_DIGITS = 12
SUFFIXES = (
    ".nii.gz", ".dcm", ".dicom", ".ima", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".nii", ".gz", ".nrrd", ".nhdr",
    ".zip", ".gif", ".bmp", ".webp", ".jp2", ".csv", ".txt", ".pdf", ".xml", ".json", ".mp4", ".avi", ".svs",
)  # fmt: skip
"""What a handle may keep of a file's name: nobody is called that. A longer one comes before its end."""

_NONCE_BYTES = 12

WHITE_LIST: Mapping[str, str] = MappingProxyType(
    {
        "BodyPartExamined": "body_part_examined",
        "Columns": "columns",
        "ImageLaterality": "image_laterality",
        "ImageType": "image_type",
        "InstanceNumber": "instance_number",
        "Laterality": "laterality",
        "Manufacturer": "manufacturer",
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

_IDENTIFYING_PARTS = re.compile(
    r"name|mrn|birth|(?<!fl)(?<!liq)uid|accession|address|phone|e_?mail|insurance|(post|zip)_?code"
)
_IDENTIFYING_WORDS = frozenset(
    {"dob", "file", "files", "id", "ids", "initials", "nhs", "nom", "path", "paths", "pid", "prenom", "ssn"}
)
_IDENTIFYING_WHOLE = re.compile(
    r"(pat|patient|person|subject|case|participant|study|record|medicalrecord|healthrecord)s?"
    r"|(pat|patient|person|subject|case|participant|study|series|exam|visit|image|instance|sop|hospital|record"
    r"|medicalrecord|healthrecord|health|chart|folder)s?(id|identifier|ids|no|nr|num|number|key|code|index|ref)"
)
"""Of a column's words written together: whom or what it is about, alone or with a number; study_year is none."""
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[\W_]+")  # between the words of patientID, patient id and patient_id


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

    def file_name(self, root: str, shown: str) -> str:
        """What a gallery knows a file by. root: the folder of its source; shown: where it is below."""
        return self._digest(b"file", f"{root}\n{shown}".encode("utf-8", "backslashreplace"))

    def handle(self, root: str, shown: str) -> str:
        """How a file is named to people: the start of its name in the gallery, and its suffix if it is a known one."""
        suffix = next((known for known in SUFFIXES if shown.lower().endswith(known)), "")
        return self.file_name(root, shown)[:HANDLE_DIGITS] + suffix

    def seal(self, text: str) -> bytes:
        """Text that only `unseal` under the same key can read; sealed twice it gives two blobs."""
        return self.seal_bytes(text.encode("utf-8", "surrogatepass"))

    def unseal(self, blob: bytes) -> str:
        """Raises CbmirError when the blob was sealed under another key, or is damaged."""
        return self.unseal_bytes(blob).decode("utf-8", "surrogatepass")

    def seal_bytes(self, data: bytes, about: str = "") -> bytes:
        """The same of bytes (AES-256-GCM). about: what they belong to, which the blob does not hold: only with the same
        words it is unsealed, so that no blob can take another's place.
        """
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + _cipher(self.key).encrypt(nonce, data, about.encode())

    def unseal_bytes(self, blob: bytes, about: str = "") -> bytes:
        """Raises CbmirError as unseal does, and for another `about`."""
        from cryptography.exceptions import InvalidTag

        try:
            return _cipher(self.key).decrypt(blob[:_NONCE_BYTES], blob[_NONCE_BYTES:], about.encode())
        except (InvalidTag, ValueError):
            raise CbmirError("What is sealed cannot be opened with this pseudonym key, or is damaged.") from None

    def _digest(self, kind: bytes, message: bytes) -> str:
        return hmac.digest(self.key, kind + b"\0" + message, "sha256").hex()[:PSEUDONYM_DIGITS]


@lru_cache(8)
def _cipher(key: bytes) -> AESGCM:
    """The cipher for sealing. Its key is another one than that of the pseudonyms, derived from it."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(hmac.digest(key, b"seal\0AES-256-GCM", "sha256"))


def load_pseudonyms(path: Path | None = None, *, make: bool = True) -> Pseudonyms:
    """The pseudonyms of this machine; the key file is made (mode 0600) at first use.

    path: the key file; by default $CBMIR_KEY_FILE, else pseudonym.key in the user's configuration folder.
    make: False where the key of something that exists is wanted: a new one would not be it.
    Raises CbmirError when the file cannot be read or made, or holds no key.
    """
    path = path or _default_key_file()
    try:
        if not path.exists():
            if not make:
                raise _no_key(path)
            _make_key_file(path)
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
        if len(key) < SHORTEST_KEY_BYTES:
            raise ValueError("too short")
        return Pseudonyms(key)
    except OSError as error:
        raise CbmirError(f"The pseudonym key file {path} cannot be used: {error.strerror}.") from error
    except ValueError as error:
        raise CbmirError(
            f"{path} is not a pseudonym key: it must hold at least {SHORTEST_KEY_BYTES} bytes in hexadecimal."
        ) from error


def _no_key(path: Path) -> CbmirError:
    return CbmirError(
        f"There is no pseudonym key at {path}, and a new one would not be that of the gallery: set CBMIR_KEY_FILE to "
        "the file of the key the gallery was made with"
    )


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
    parts = _IDENTIFYING_PARTS.search("_".join(words)) or _IDENTIFYING_WHOLE.fullmatch("".join(words))
    return parts is not None or not _IDENTIFYING_WORDS.isdisjoint(words)


def white_listed(values: Mapping[str, str], secrets_of_file: Iterable[str] = ()) -> dict[str, str]:
    """The attributes a record may keep, in the words of closed vocabularies (vocabulary.py); what is not known is
    left out.

    values: text by DICOM keyword; several values are joined by a backslash.
    secrets_of_file: names and identifiers; an instance number that is one of them is left out.
    """
    told = {secret.strip().lstrip("0") for secret in secrets_of_file}
    kept = {}
    for keyword, name in WHITE_LIST.items():
        text = known_words(keyword, values.get(keyword, "").strip())
        if text and not (keyword == "InstanceNumber" and text.lstrip("0") in told - {""}):
            kept[name] = text
    return kept
