"""Mutated files, seeded: whatever a file holds, it ends in a typed outcome, and a cut one is not passed off as whole.

`make test` runs 600 of them, `make test-all` 20,000.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from cbmir.errors import OUTCOMES
from cbmir.images.limits import UNEXPECTED
from cbmir.images.worker import Decoded, decode_all, decode_one
from cbmir.preprocess import Preprocessing
from cbmir.privacy import Pseudonyms
from cbmir.types import ImageRef
from fuzz import Mutant, Seed, dicom_seeds, mutants, other_seeds
from fuzz_headers import header_strategy, plain_dicom

RECIPE = Preprocessing(size=32, crop=32)
PSEUDONYMS = Pseudonyms(bytes(32))
SENTENCE = re.compile(r"[A-Z0-9][ -~]{10,300}\.")
ROWS = b"\x28\0\x10\0US\2\0"  # an element of every image in explicit little endian
TIMEOUT_S = 20.0
MEMORY_BYTES = 2**30


@lru_cache(1)
def seeds() -> list[Seed]:
    """As many files of other formats as of DICOM's, nearly: there are fewer of them."""
    return dicom_seeds() + 5 * other_seeds()


@dataclass
class Findings:
    """outcomes: by the kind of mutation. wrong: what must not happen, by the name of the mutant."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    wholes: dict[str, list[str | None]] = field(default_factory=dict)

    def take(self, mutant: Mutant, file: Decoded, folder: Path) -> None:
        self.outcomes.setdefault(mutant.mutation, Counter())[file.outcome] += 1
        complaint = self._complaint(mutant, file, folder)
        if complaint:
            self.wrong[mutant.name] = complaint
            keep(mutant)

    def _complaint(self, mutant: Mutant, file: Decoded, folder: Path) -> str | None:
        if file.outcome not in OUTCOMES:
            return "no outcome"
        if file.outcome in ("crashed", "timed_out"):
            return f"{file.outcome}: {file.reason}"
        if not file.images and not (file.reason and SENTENCE.fullmatch(file.reason)):
            return "no sentence"
        if any(image.pixels.min() == image.pixels.max() for image in file.images):
            return "a constant image"
        if mutant.is_cut and file.outcome == "decoded" and digests(file) != self._whole(mutant, folder):
            return f"{len(mutant.data)} of {len(mutant.seed.data)} bytes pass for a whole file"
        if file.outcome == "not_an_image" and mutant.is_cut and ROWS in mutant.data and self._whole(mutant, folder):
            return "an image without its pixels passes for no image"
        return None

    def _whole(self, mutant: Mutant, folder: Path) -> list[str | None]:
        if mutant.seed.name not in self.wholes:
            ref = saved(Mutant(mutant.seed, "none", 0, mutant.seed.data), folder)
            self.wholes[mutant.seed.name] = digests(decode_one(ref, RECIPE, PSEUDONYMS))
        return self.wholes[mutant.seed.name]

    def table(self) -> str:
        rows = [f"{'':22}" + "".join(f"{outcome:>14}" for outcome in OUTCOMES)]
        for mutation, counts in sorted(self.outcomes.items()):
            rows.append(f"{mutation:22}" + "".join(f"{counts[outcome]:14}" for outcome in OUTCOMES))
        total = sum(self.outcomes.values(), Counter())
        return "\n".join([*rows, f"{'all':22}" + "".join(f"{total[outcome]:14}" for outcome in OUTCOMES)])


def keep(mutant: Mutant) -> None:
    """For whoever looks for the fault: the file, where CBMIR_FUZZ_KEEP says."""
    if folder := os.environ.get("CBMIR_FUZZ_KEEP"):
        Path(folder, mutant.name.replace(" ", "_").replace("/", "_")).write_bytes(mutant.data)


def digests(file: Decoded) -> list[str | None]:
    return [image.record.pixel_digest for image in file.images]


def saved(mutant: Mutant, folder: Path) -> ImageRef:
    path = folder / f"{mutant.number}.bin"
    path.write_bytes(mutant.data)
    return ImageRef(path, path.name, member=mutant.seed.member)


def through_workers(chosen: Iterable[Mutant], folder: Path) -> Findings:
    """Each file is there only while it is needed."""
    findings, under_way = Findings(), []

    def refs() -> Iterator[ImageRef]:
        for mutant in chosen:
            under_way.append(mutant)
            yield saved(mutant, folder)

    options: dict[str, Any] = {"workers": 2, "timeout_s": TIMEOUT_S, "memory_bytes": MEMORY_BYTES}
    for file in decode_all(refs(), RECIPE, PSEUDONYMS, **options):
        findings.take(under_way.pop(0), file, folder)
        file.ref.path.unlink()
    return findings


def test_a_mutation_is_the_same_every_time() -> None:
    first, second = ([(m.name, m.data) for m in mutants(seeds(), 50)] for _ in range(2))
    assert first == second
    assert len({data for _, data in first}) > 45


def test_no_exception_escapes(tmp_path: Path) -> None:
    findings = Findings()
    for mutant in mutants(seeds(), 150, seed=1):
        findings.take(mutant, decode_one(saved(mutant, tmp_path), RECIPE, PSEUDONYMS), tmp_path)
    assert findings.wrong == {}


def test_600_mutations_end_in_a_typed_outcome(tmp_path: Path) -> None:
    findings = through_workers(mutants(seeds(), 600), tmp_path)
    assert sum(sum(counts.values()) for counts in findings.outcomes.values()) == 600
    assert findings.wrong == {}, findings.table()
    assert sum(counts["decoded"] for counts in findings.outcomes.values()) > 200  # so that the decoders were reached


@pytest.mark.long
def test_20000_mutations_end_in_a_typed_outcome(tmp_path: Path) -> None:
    begin = time.monotonic()
    findings = through_workers(mutants(seeds(), 20_000, seed=2026), tmp_path)
    print(f"\n{findings.table()}\n{time.monotonic() - begin:.0f} s, wrong: {findings.wrong}")
    assert sum(sum(counts.values()) for counts in findings.outcomes.values()) == 20_000
    assert findings.wrong == {}


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(header_strategy())
def test_any_header_values_end_in_a_typed_outcome(fields: dict[str, Any]) -> None:
    """With the pixels of an image of 8 x 8 behind whatever the header says."""
    file = decode_bytes(plain_dicom(fields))
    assert file.outcome in OUTCOMES
    assert file.reason != UNEXPECTED
    assert file.images or (file.reason and SENTENCE.fullmatch(file.reason))
    assert not any(image.pixels.min() == image.pixels.max() for image in file.images)


def decode_bytes(data: bytes) -> Decoded:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.dcm")
        path.write_bytes(data)
        return decode_one(ImageRef(path, "a.dcm"), RECIPE, PSEUDONYMS)
