"""What a fetched data set keeps about itself, so that it can be gone on with, checked and cited.

fetch.json: which draw this is. checksums.csv: path, sha256, series of every image that is there. licences.csv: one row
for each series. missing.csv: what did not arrive; absent when nothing is missing.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import UsageError
from ...files import file_sha256, write_json
from .plan import Draw, Plan

CLAIM, CHECKSUMS, LICENCES, MISSING = "fetch.json", "checksums.csv", "licences.csv", "missing.csv"
DOWNLOADING = ".downloading"


@dataclass
class Ledger:
    """The images of `out` that are whole: series (or "folder CLASS") -> path -> SHA-256."""

    out: Path
    entries: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def open(cls, out: Path, plan: Plan, index_version: str) -> Ledger:
        """Claim a new folder for a plan, or go on with one that is of the same plan.

        Raises UsageError when there is something else in it.
        """
        claim = {"recipe": plan.recipe, "seed": plan.seed, "idc_index": index_version, "draw": plan.fingerprint}
        out.mkdir(parents=True, exist_ok=True)
        if (out / CLAIM).is_file():
            _check_claim(out / CLAIM, claim)
        elif any(out.iterdir()):
            raise UsageError(f"{out} is not empty and holds no fetched data set: choose another --out.")
        else:
            write_json(out / CLAIM, claim)
        return cls(out.resolve(), _read(out / CHECKSUMS))

    def verify(self) -> list[str]:
        """Read every image again and forget the series of those that are gone or changed; returns their paths."""
        bad = [
            path for files in self.entries.values() for path, digest in files.items() if not self._same(path, digest)
        ]
        gone = set(bad)
        self.entries = {key: files for key, files in self.entries.items() if not gone & files.keys()}
        return bad

    def _same(self, path: str, digest: str) -> bool:
        file = self.out / path
        return file.is_file() and file_sha256(file) == digest

    def add(self, key: str, paths: Iterable[str]) -> None:
        """Record images that lie in `out` now."""
        self.entries[key] = {path: file_sha256(self.out / path) for path in paths}

    def save(self) -> None:
        rows = [
            {"path": path, "sha256": digest, "series": key}
            for key, files in self.entries.items()
            for path, digest in files.items()
        ]
        write_rows(self.out / CHECKSUMS, ("path", "sha256", "series"), sorted(rows, key=lambda row: row["path"]))


def folder_key(label: str) -> str:
    """Where a ledger has the images of a user's folder."""
    return f"folder {label}"


def _check_claim(path: Path, claim: Mapping[str, object]) -> None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        same = found["draw"] == claim["draw"]
    except (ValueError, KeyError, TypeError):
        raise UsageError("fetch.json in --out is damaged: choose another --out, or empty this one.") from None
    if not same:
        told = {name: found.get(name) for name in claim if name != "draw"}
        was = ", ".join(f"{name} {value}" for name, value in told.items())
        now = ", ".join(f"{name} {claim[name]}" for name in told)
        raise UsageError(f"--out holds another draw ({was}; this one: {now}): choose another --out.")


def _read(path: Path) -> dict[str, dict[str, str]]:
    entries: dict[str, dict[str, str]] = {}
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                entries.setdefault(row["series"], {})[row["path"]] = row["sha256"]
    return entries


def write_licences(path: Path, draws: Sequence[Draw], images: Mapping[str, int]) -> None:
    """One row for each series. images: series -> how many of it.

    commercial: may it be used commercially; source_doi: what its licence wants cited.
    """
    columns = ("series_instance_uid", "collection", "class", "images", "licence", "commercial", "source_doi")
    rows = [
        dict(
            zip(
                columns,
                (d.series, d.collection, d.label, str(images[d.series]), d.licence, d.commercial, d.doi),
                strict=True,
            )
        )
        for d in draws
    ]
    write_rows(path, columns, rows)


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    """A CSV, in one move."""
    new = path.with_name(path.name + ".new")
    with new.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(new, path)
