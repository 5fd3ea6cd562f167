"""A gallery against a model in memory: no lost, no ghost and no half row, whatever is done in whatever order.

First one process and any order of operations; then several processes at once, killed with -9 again and again.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cbmir.gallery import Gallery
from cbmir.gallery.upkeep import compact
from cbmir.upkeep import backup, remove, restore
from cbmir.upkeep.reindexing import Limits, forget_old, go_back, reindex
from soaking import ENCODERS, NUMBERS, PSEUDONYMS, VERSIONS, Image, current_encoder, id_of, known, patient_of, write
from wards import every_byte, index_ward

PATIENTS = 3
IMAGES = st.tuples(*(st.integers(0, n - 1) for n in (PATIENTS, NUMBERS, VERSIONS)))


class AnyOrder(RuleBasedStateMachine):
    """disk: what the source holds; stored: what the gallery holds; erased: patients and ids that may not come back."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.source = self.home / "source"
        self.source.mkdir()
        self.gallery = Gallery.create(self.home / "gallery", ENCODERS[0], PSEUDONYMS)
        self.disk: dict[str, Image] = {}
        self.stored: dict[str, Image] = {}
        self.erased: set[str] = set()
        self.current = 0
        self.previous: set[str] | None = None  # the ids that have features of the encoder before

    def teardown(self) -> None:
        found = self.gallery.verify()
        self.gallery.close()
        shutil.rmtree(self.home)
        assert found == {"ok": True, "records": len(self.stored), "problems": []}

    @rule(
        patient=st.integers(0, PATIENTS - 1), number=st.integers(0, NUMBERS - 1), version=st.integers(0, VERSIONS - 1)
    )
    def write_a_file(self, patient: int, number: int, version: int) -> None:
        write(self.source, (patient, number, version))
        self.disk[id_of(patient, number)] = (patient, number, version)

    @precondition(lambda self: self.disk)
    @rule(data=st.data())
    def lose_a_file(self, data: st.DataObject) -> None:
        patient, number, _ = self.disk.pop(data.draw(st.sampled_from(sorted(self.disk))))
        (self.source / str(patient) / f"{number}.dcm").unlink()

    @precondition(lambda self: self.disk)
    @rule()
    def index(self) -> None:
        index_ward(self.source, self.gallery, PSEUDONYMS, ENCODERS[self.current])
        for record_id, image in self.disk.items():
            if record_id not in self.erased and patient_of(image[0]) not in self.erased:
                if self.stored.get(record_id) != image and self.previous is not None:
                    self.previous.discard(record_id)
                self.stored[record_id] = image

    @precondition(lambda self: self.stored)
    @rule(data=st.data(), whole_patient=st.booleans())
    def remove_for_good(self, data: st.DataObject, whole_patient: bool) -> None:
        one = data.draw(st.sampled_from(sorted(self.stored)))
        patient = self.stored[one][0]
        ids = [name for name, image in self.stored.items() if name == one or (whole_patient and image[0] == patient)]
        what = ("patient", f"MRN-{patient}") if whole_patient else ("id", one)
        removal = remove(self.gallery, cast(Any, what[0]), [what[1]], PSEUDONYMS)
        assert (removal.records, removal.proof.found) == (len(ids), [])
        self.erased |= {*ids, patient_of(patient)} if whole_patient else {one}
        for record_id in ids:
            del self.stored[record_id]
            if self.previous is not None:
                self.previous.discard(record_id)

    @rule()
    def readmit(self) -> None:
        self.gallery.store.readmit()
        self.erased.clear()

    @precondition(lambda self: self.previous is None)
    @rule()
    def go_over_to_the_other_encoder(self) -> None:
        same = {record_id for record_id, image in self.stored.items() if self.disk.get(record_id) == image}
        report = reindex(
            self.gallery, ENCODERS[1 - self.current], PSEUDONYMS, limits=Limits(workers=0), drop_missing=True
        )
        assert (report.swapped, report.dropped) == (True, len(self.stored) - len(same))
        self.stored = {record_id: image for record_id, image in self.stored.items() if record_id in same}
        self.current, self.previous = 1 - self.current, set(same)
        self.reopen()

    @precondition(lambda self: self.previous is not None and self.previous == self.stored.keys())
    @rule()
    def go_back_to_the_one_before(self) -> None:
        go_back(self.gallery)
        self.current, self.previous = 1 - self.current, set(self.stored)
        self.reopen()

    @precondition(lambda self: self.previous is not None)
    @rule()
    def forget_the_one_before(self) -> None:
        forget_old(self.gallery)
        self.previous = None

    @rule()
    def compact(self) -> None:
        with self.gallery.writing():
            compact(self.gallery.store)

    @rule()
    def reopen(self) -> None:
        self.gallery.close()
        self.gallery = Gallery.open(self.home / "gallery")

    @rule()
    def go_on_in_a_restored_backup(self) -> None:
        backup(self.gallery, self.home / "backup")
        restored = self.home / "restored"
        restore(self.home / "backup", restored)
        self.gallery.close()
        shutil.rmtree(self.home / "gallery")
        restored.rename(self.home / "gallery")
        self.gallery = Gallery.open(self.home / "gallery")

    @precondition(lambda self: self.stored)
    @rule(data=st.data(), k=st.integers(1, 5), hide=st.sampled_from(["none", "patient"]))
    def search(self, data: st.DataObject, k: int, hide: Any) -> None:
        asked = data.draw(st.sampled_from(sorted(self.stored)))
        patient = self.stored[asked][0]
        rows = {name: known(image)[1][self.current].astype(np.float64) for name, image in self.stored.items()}
        others = [
            (float(np.float32(np.sqrt(((row - rows[asked]) ** 2).sum()))), name)
            for name, row in rows.items()
            if name != asked and (hide == "none" or self.stored[name][0] != patient)
        ]
        hits = self.gallery.search_id(asked, k, hide=hide).hits
        assert [hit.id for hit in hits] == [name for _, name in sorted(others)[:k]]

    @invariant()
    def the_gallery_is_the_model(self) -> None:
        records = self.gallery.records(self.gallery.ids())
        assert records.keys() == self.stored.keys()
        for name, image in self.stored.items():
            assert records[name].pixel_digest == known(image)[0]
        for block in self.gallery.store.blocks("sketch"):
            for name, row in zip(block.ids, block.features, strict=True):
                assert (row == known(self.stored[name])[1][self.current]).all()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck), database=None,
    derandomize=True, print_blob=False,
)  # fmt: skip


class AnyOrderAtLength(AnyOrder):
    """The same, with more of it."""


TestAnyOrderAtLength = pytest.mark.long(AnyOrderAtLength.TestCase)
TestAnyOrderAtLength.settings = settings(
    TestAnyOrder.settings, max_examples=150, stateful_step_count=60, derandomize=False
)


@dataclass
class Told:
    """What the processes have said, by patient. asking: how many removals were through when each searcher asked."""

    versions: dict[int, set[int]] = field(default_factory=dict)  # begun
    added: dict[int, int] = field(default_factory=dict)  # the newest that is durable
    removing: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    ghosts: list[str] = field(default_factory=list)
    swaps: int = 0
    found: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def listen(self, process: subprocess.Popen[str]) -> None:
        gone: set[str] = set()
        assert process.stdout is not None
        for line in process.stdout:
            if not line.endswith("\n"):
                break  # killed while it said so
            word, *others = line.split()
            with self.lock:
                if word == "asking":
                    gone = set(self.removed)
                elif word == "found":
                    self.found += 1
                    self.ghosts += gone.intersection(others)
                elif word == "adding":
                    self.versions.setdefault(int(others[0]), set()).add(int(others[1]))
                elif word == "added":
                    self.added[int(others[0])] = int(others[1])
                elif word in ("removing", "removed"):
                    getattr(self, word).add(others[0])
                self.swaps += word in ("swapped", "back")


ROLES = ("adds", "adds", "removes", "turns", "searches", "searches")
ROUND_S = 20


@dataclass
class Crowd:
    """Processes at work in one home. started: how many in all, which gives each patients of its own."""

    home: Path
    told: Told
    started: int = 0
    kills: int = 0
    running: list[tuple[str, subprocess.Popen[str], threading.Thread]] = field(default_factory=list)

    def start(self, role: str) -> None:
        self.started += 1
        program = str(Path(__file__).with_name("soaking.py"))
        words = [sys.executable, program, role, str(self.home), str(self.started), str(1000 * self.started)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        thread = threading.Thread(target=self.told.listen, args=(process,))
        thread.start()
        self.running.append((role, process, thread))

    def kill(self, number: int) -> str:
        """Its role, which another may take."""
        role, process, thread = self.running.pop(number)
        failed = process.poll() is not None
        process.send_signal(signal.SIGKILL)
        process.wait()
        thread.join()
        assert process.stdout is not None
        process.stdout.close()
        assert not failed, f"a process that {role} has ended by itself"
        self.kills += 1
        return role

    def kill_all(self) -> None:
        while self.running:
            self.kill(0)


@pytest.mark.parametrize("seconds", [12, pytest.param(600, marks=pytest.mark.long)], ids=["seconds", "ten minutes"])
def test_many_processes_that_are_killed_lose_nothing(seconds: int, tmp_path: Path) -> None:
    """Every process is killed with -9 at some moment and another takes its place; now and then all are, and what the
    gallery holds is compared with what they said.
    """
    Gallery.create(tmp_path / "gallery", ENCODERS[0], PSEUDONYMS).close()
    draw = random.Random(24)
    told = Told()
    crowd = Crowd(tmp_path, told)
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            for role in ROLES:
                crowd.start(role)
            round_end = min(end, time.monotonic() + ROUND_S)
            while time.monotonic() < round_end:
                time.sleep(draw.uniform(0.3, 1.5))
                crowd.start(crowd.kill(draw.randrange(len(crowd.running))))
            crowd.kill_all()
            _compare(tmp_path / "gallery", told)
    finally:
        crowd.kill_all()
    print(
        f"{crowd.kills} kills, {len(told.added)} patients added, {len(told.removed)} removed, {told.swaps} changes of "
        f"encoder, {told.found} searches"
    )
    assert told.added
    assert told.found
    if seconds > ROUND_S:
        assert told.removed
        assert told.swaps


def _compare(directory: Path, told: Told) -> None:
    assert told.ghosts == []
    for path, data in every_byte(directory).items():
        left = [name for name in told.removed if name.encode() in data or bytes.fromhex(name) in data]
        assert not left, f"{path} still holds {len(left)} of those removed"
    with Gallery.open(directory) as gallery:
        assert gallery.verify() == {"ok": True, "records": gallery.count, "problems": []}
        records = gallery.records(gallery.ids())
        patients: dict[str, list[Any]] = {}
        for record in records.values():
            patients.setdefault(record.patient or "", []).append(record)
        assert not told.removed & patients.keys(), "a ghost"
        which = ENCODERS.index(current_encoder(gallery))
        rows = {name: row for block in gallery.store.blocks("sketch")
                for name, row in zip(block.ids, block.features, strict=True)}  # fmt: skip
        assert rows.keys() == records.keys()
        for patient, versions in told.versions.items():
            there = patients.pop(patient_of(patient), [])
            if patient in told.added and patient_of(patient) not in told.removing:
                assert len(there) == NUMBERS, "a lost row"
            for record in there:
                number = next(number for number in range(NUMBERS) if id_of(patient, number) == record.id)
                least = told.added.get(patient, 0)
                possible = [known((patient, number, version)) for version in versions if version >= least]
                same = [features[which] for digest, features in possible if digest == record.pixel_digest]
                assert any((rows[record.id] == row).all() for row in same), "half a row"
        assert not patients, "somebody nobody has added"
