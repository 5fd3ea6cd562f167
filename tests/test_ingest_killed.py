"""`kill -9` at any moment of an index run: what was acknowledged is there once, and the next run finishes the rest."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from cbmir import sources
from cbmir.gallery import Gallery
from cbmir.ingest import IndexReport, index_source
from cbmir.privacy import Pseudonyms
from make_dicom import make_dicom, save_dicom
from toys import ToyEncoder

ENCODER = cast(Any, ToyEncoder())

RUN = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from toys import ToyEncoder
from cbmir import gallery as galleries, ingest, sources
from cbmir.privacy import Pseudonyms

class Slow(ToyEncoder):
    def encode(self, batch):
        time.sleep(0.02)
        return super().encode(batch)

written = []

class Told(galleries.Gallery):
    def put(self, entries, *others, **options):
        added = super().put(entries, *others, **options)
        written.extend(record.id for entry in entries for record in entry.records)
        return added

def acknowledge(done, total, outcomes):
    print(*written, flush=True)
    written.clear()

ingest._COMMIT_IMAGES = 4
print(flush=True)
with Told.open(Path({gallery!r})) as gallery:
    ingest.index_source(
        sources.open_source(Path({folder!r})), gallery, Slow(), Pseudonyms({key!r}),
        workers=2, batch_size=4, on_progress=acknowledge,
    )
"""


def make_source(folder: Path, n_images: int) -> Path:
    """Images of one frame and of three, and files that are none."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(n_images // 4):
        one, three = draw.integers(0, 255, (8, 8), np.uint8), draw.integers(0, 255, (3, 8, 8), np.uint8)
        save_dicom(folder / f"{number:04}-one.dcm", make_dicom(one, SOPInstanceUID=f"1.2.{number}.1"))
        save_dicom(folder / f"{number:04}-three.dcm", make_dicom(three, frames=True, SOPInstanceUID=f"1.2.{number}.3"))
        (folder / f"{number:04}.txt").write_text(f"no picture {number}")
    return folder


def killed_run(command: Sequence[str], draw: random.Random) -> tuple[list[str], bool]:
    """The ids a run acknowledged before it was killed, and whether it was (or else had finished)."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if draw.random() < 0.8:  # among its commits; else anywhere from its start
            process.stdout.readline()
            acknowledged = [process.stdout.readline(), process.stdout.readline()]
        else:
            acknowledged = []
        killer = threading.Timer(draw.uniform(0, 0.2), lambda: process.send_signal(signal.SIGKILL))
        killer.start()
        acknowledged += list(process.stdout)
        killer.cancel()
    assert process.returncode in (0, -signal.SIGKILL)
    return " ".join(acknowledged).split(), process.returncode == -signal.SIGKILL


def content_of(gallery: Gallery, pseudonyms: Pseudonyms) -> dict[str, Any]:
    """All that a gallery holds, without the numbers of rows and what is sealed anew each time."""
    ids = gallery.ids()
    features = {
        layer: {
            record_id: row.tobytes()
            for block in gallery._store.blocks(layer)
            for record_id, row in zip(block.ids, block.features, strict=True)
        }
        for layer in gallery.layers
    }
    return {
        "records": gallery.records(ids),
        "n_rows": {layer: sum(len(block.ids) for block in gallery._store.blocks(layer)) for layer in gallery.layers},
        "features": features,
        "posteriors": {record_id: gallery._store.posterior(record_id).tobytes() for record_id in ids},  # type: ignore[union-attr]
        "files": {file.name: file._replace(place=b"") for file in gallery._store.files()},
        "places": {record_id: gallery.image_ref(record_id, pseudonyms) for record_id in ids},
    }


@pytest.mark.parametrize(
    ("n_kills", "n_images"), [(2, 80), pytest.param(20, 600, marks=pytest.mark.long)], ids=["twice", "20 times"]
)
def test_a_killed_run_loses_nothing_it_has_acknowledged_and_the_next_finishes(
    n_kills: int, n_images: int, tmp_path: Path, pseudonyms: Pseudonyms
) -> None:
    folder = make_source(tmp_path / "data", n_images)

    def index(gallery: Gallery) -> IndexReport:
        return index_source(sources.open_source(folder), gallery, ENCODER, pseudonyms, workers=2)

    with Gallery.create(tmp_path / "undisturbed", ENCODER, pseudonyms) as undisturbed:
        assert index(undisturbed).added == n_images
        expected = content_of(undisturbed, pseudonyms)

    Gallery.create(tmp_path / "killed", ENCODER, pseudonyms).close()
    code = RUN.format(
        tests=str(Path(__file__).parent), gallery=str(tmp_path / "killed"), folder=str(folder), key=pseudonyms.key
    )
    draw = random.Random(24)
    acknowledged: set[str] = set()
    kills = 0
    while kills < n_kills:
        ids, killed = killed_run([sys.executable, "-c", code], draw)
        assert killed, "the run had finished before it was killed: there are too few images"
        kills += 1
        acknowledged.update(ids)
        with Gallery.open(tmp_path / "killed") as gallery:
            there = gallery.ids()
            assert len(there) == len(set(there)) == gallery.count < n_images
            assert acknowledged <= set(there)
            assert gallery.verify() == {"ok": True, "records": gallery.count, "problems": []}

    assert acknowledged
    with Gallery.open(tmp_path / "killed") as gallery:
        kept = gallery.count
        report = index(gallery)
        assert (report.added, report.duplicates) == (n_images - kept, 0)
        assert content_of(gallery, pseudonyms) == expected
        assert gallery.verify()["ok"]
