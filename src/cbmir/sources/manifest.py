"""A manifest: a CSV that says which files there are and what is known of each."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ..errors import BadManifest
from ..privacy import identifying
from ..types import ImageRef

NOT_LABELS = frozenset({"path", "patient", "modality", "source", "split", "fold", "width", "height", "known_patient"})


def manifest(path: Path) -> list[ImageRef]:
    """The images of a CSV with at least the column `path` (relative to the CSV's folder, inside it).

    `patient, modality, source, split, fold` (a number from 0) are taken as they are; every other column is a label
    column (`class`, `finding`, `view`, ...), which galleries keep as it is. Empty cells tell nothing.
    Raises BadManifest: no such file, not a CSV in UTF-8, no path column, a label column that looks identifying,
    no rows, a path twice, empty or outside, a fold that is no number.
    """
    rows = _rows(path)
    root = path.resolve().parent
    seen: dict[str, int] = {}
    refs = []
    for line, row in enumerate(rows, start=2):
        shown = _shown(row.get("path") or "", f"{path}, row {line}")
        if shown in seen:
            raise BadManifest(f"{path} names {shown} twice (rows {seen[shown]} and {line}).")
        seen[shown] = line
        refs.append(_ref(root, shown, row, f"{path}, row {line}"))
    return refs


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            columns = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            _check_columns(path, columns)
            rows = list(reader)
    except OSError as error:
        raise BadManifest(f"The manifest {path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadManifest(f"{path} is not a CSV file in UTF-8.") from error
    if not rows:
        raise BadManifest(f"{path} names no images.")
    return rows


def _check_columns(path: Path, columns: list[str]) -> None:
    if "path" not in columns:
        raise BadManifest(f"{path} has no column named path.")
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise BadManifest(f"{path} has two columns named {twice[0] or '(empty)'}.")
    for name in columns:
        if name not in NOT_LABELS and identifying(name):
            raise BadManifest(
                f"{path} has a column '{name}' that looks identifying and would be kept as it is: remove or rename it "
                "(what tells patients apart belongs into the column patient, which becomes a pseudonym)."
            )


def _shown(cell: str, place: str) -> str:
    """The cell as a path relative to the manifest; refused when it is empty or would leave its folder."""
    text = cell.strip().replace("\\", "/")
    relative = PurePosixPath(text)
    if not relative.parts:
        raise BadManifest(f"{place}: the path is empty.")
    if relative.is_absolute() or ".." in relative.parts or ":" in relative.parts[0]:
        raise BadManifest(f"{place}: the path must be relative to the manifest and stay inside its folder.")
    return relative.as_posix()


def _ref(root: Path, shown: str, row: Mapping[str, str], place: str) -> ImageRef:
    known = {name: cell.strip() for name, cell in row.items() if name and isinstance(cell, str) and cell.strip()}
    return ImageRef(
        path=root / shown,
        shown=shown,
        labels={name: cell for name, cell in known.items() if name not in NOT_LABELS},
        patient=known.get("patient"),
        modality=known.get("modality"),
        source=known.get("source"),
        split=known.get("split"),
        fold=_fold(known["fold"], place) if "fold" in known else None,
    )


def _fold(cell: str, place: str) -> int:
    if not (cell.isascii() and cell.isdigit()):
        raise BadManifest(f"{place}: a fold is a whole number from 0, not '{cell}'.")
    return int(cell)
