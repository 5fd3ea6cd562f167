"""A manifest: a CSV that says which files there are and what is known of each. Messages quote none of its cells:
paths and labels may name patients."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from ..errors import BadManifest
from ..privacy import identifying
from ..types import ImageRef
from ..vocabulary import known as known_words

NOT_LABELS = frozenset({"path", "patient", "modality", "source", "split", "fold", "width", "height", "known_patient"})
KNOWN = NOT_LABELS | {"class"}


def manifest(path: Path) -> list[ImageRef]:
    """The images of a CSV with at least the column `path` (relative to the CSV's folder, inside it).

    `patient, source, split, fold` (a number from 0) are taken as they are, `modality` when it is one of DICOM's; every
    other column is a label column (`class`, `finding`, `view`, ...), which galleries keep as it is. The names of these
    columns count in any case: `Patient` is no label. Empty cells tell nothing.
    Raises BadManifest: no such file, not a CSV in UTF-8, no path column, a label column that looks identifying,
    no rows, a path twice, empty or outside, a fold that is no number.
    """
    return list(read_manifest(path))


def read_manifest(path: Path) -> Iterator[ImageRef]:
    """As `manifest`, one image at a time: the whole file is checked first, and read again as the images are drawn."""
    _check(path)
    root = path.resolve().parent
    return (_ref(root, row, line) for line, row in enumerate(_rows(path), start=2))


def _check(path: Path) -> None:
    seen: dict[str, int] = {}
    for line, row in enumerate(_rows(path), start=2):
        shown = _shown(row.get("path") or "", line)
        if shown in seen:
            raise BadManifest(f"The manifest names a file twice (rows {seen[shown]} and {line}).")
        seen[shown] = line
        _fold(row, line)
    if not seen:
        raise BadManifest("The manifest names no images.")


def _rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            columns = [_column(name) for name in reader.fieldnames or []]
            reader.fieldnames = columns
            _check_columns(columns)
            yield from reader
    except OSError as error:
        raise BadManifest(f"The manifest cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error):
        raise BadManifest("The manifest is not a CSV file in UTF-8.") from None


def _column(name: str) -> str:
    """Known columns as they are called here, others as they are written."""
    name = unicodedata.normalize("NFKC", name).strip()
    return name.casefold() if name.casefold() in KNOWN else name


def _check_columns(columns: list[str]) -> None:
    if "path" not in columns:
        raise BadManifest("The manifest has no column named path.")
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise BadManifest(f"The manifest has two columns named {twice[0] or '(empty)'}.")
    for name in columns:
        if name not in NOT_LABELS and identifying(name):
            raise BadManifest(
                f"The manifest has a column '{name}' that looks identifying and would be kept as it is: remove or "
                "rename it (what tells patients apart belongs into the column patient, which becomes a pseudonym)."
            )


def _shown(cell: str, line: int) -> str:
    """The cell as a path relative to the manifest; refused when it is empty or would leave its folder."""
    text = cell.strip().replace("\\", "/")
    relative = PurePosixPath(text)
    if not relative.parts:
        raise BadManifest(f"The manifest, row {line}: the path is empty.")
    if relative.is_absolute() or ".." in relative.parts or ":" in relative.parts[0] or "\0" in text:
        raise BadManifest(f"The manifest, row {line}: the path must be relative to it and stay inside its folder.")
    return relative.as_posix()


def _ref(root: Path, row: Mapping[str, str], line: int) -> ImageRef:
    known = {name: cell.strip() for name, cell in row.items() if name and isinstance(cell, str) and cell.strip()}
    shown = _shown(row.get("path") or "", line)
    return ImageRef(
        path=root / shown,
        shown=shown,
        labels={name: cell for name, cell in known.items() if name not in NOT_LABELS},
        patient=known.get("patient"),
        modality=known_words("Modality", known.get("modality", "")) or None,
        source=known.get("source"),
        split=known.get("split"),
        fold=_fold(row, line),
    )


def _fold(row: Mapping[str, str], line: int) -> int | None:
    cell = (row.get("fold") or "").strip()
    if not cell:
        return None
    if not (cell.isascii() and cell.isdigit() and len(cell) < 10):
        raise BadManifest(f"The manifest, row {line}: a fold is a whole number from 0.")
    return int(cell)
