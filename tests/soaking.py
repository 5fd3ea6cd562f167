"""What several processes do to one gallery at once, each until it is killed; and what its images are.

python soaking.py ROLE HOME SEED FIRST_PATIENT
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np

from cbmir.errors import BadGallery
from cbmir.extract import extract
from cbmir.gallery import Gallery
from cbmir.privacy import Pseudonyms
from cbmir.types import ImageRef
from cbmir.upkeep import remove
from cbmir.upkeep.reindexing import Limits, cancel, forget_old, go_back, reindex, status
from wards import SketchEncoder, index_ward, write_image

PSEUDONYMS = Pseudonyms(b"a key for tests, 32 bytes long..")
ENCODERS = [cast(Any, SketchEncoder()), cast(Any, SketchEncoder(turned=True))]
NUMBERS, VERSIONS = 3, 4

Image = tuple[int, int, int]
"""Patient, number, and which of its pictures; patient and number make its id."""


def id_of(patient: int, number: int) -> str:
    return PSEUDONYMS.image(f"1.2.{patient + 1}.1.{number + 1}", 0)


def patient_of(patient: int) -> str:
    return PSEUDONYMS.of("patient", f"MRN-{patient}")


def write(folder: Path, image: Image) -> Path:
    patient, number, _ = image
    place = folder / str(patient) / f"{number}.dcm"
    place.parent.mkdir(parents=True, exist_ok=True)
    new = write_image(place.with_suffix(".new"), patient, 0, number, seed=seed_of(image))
    return new.replace(place)


def seed_of(image: Image) -> int:
    patient, number, version = image
    return 100 * patient + 10 * number + version


@cache
def known(image: Image) -> tuple[str | None, tuple[np.ndarray[Any, Any], ...]]:
    """The digest of its pixels, and its features under each encoder, of a file of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), image)
        read = [list(extract([ImageRef(path, path.name)], encoder, PSEUDONYMS, workers=0)) for encoder in ENCODERS]
    return read[0][0].records[0].pixel_digest, tuple(one[0].features["sketch"][0] for one in read)


def say(*words: object) -> None:
    print(*words, flush=True)


def patiently(work: Any) -> Any:
    """Does it again while another process writes, or reads what is to be overwritten; other errors are failures."""
    while True:
        try:
            return work()
        except BadGallery as error:
            if not any(word in str(error) for word in ("another process", "goes on reading", "another encoder now")):
                raise
            time.sleep(0.02)


def current_encoder(gallery: Gallery) -> Any:
    return next(encoder for encoder in ENCODERS if encoder.fingerprint == gallery.encoder_fingerprint)


def adds(home: Path, draw: random.Random, first: int) -> None:
    """New patients, whose images change now and then. Says `adding PATIENT VERSION`, and `added` when it is durable."""
    patient = first
    while True:
        folder = home / "source" / str(patient)
        for version in range(draw.randint(1, VERSIONS)):
            say("adding", patient, version)
            for number in range(NUMBERS):
                write(home / "source", (patient, number, version))

            def index() -> None:
                with Gallery.open(home / "gallery") as gallery:
                    index_ward(folder, gallery, PSEUDONYMS, current_encoder(gallery))  # noqa: B023

            patiently(index)
            say("added", patient, version)
        patient += 1


def removes(home: Path, draw: random.Random, first: int) -> None:
    """Says `removing PATIENT`, a pseudonym, and `removed` when nothing of it is left in any file."""
    while True:
        time.sleep(draw.uniform(0, 0.3))
        with Gallery.open(home / "gallery") as gallery:
            ids = gallery.ids()
            record = gallery.records([draw.choice(ids)] if len(ids) > 6 else [])
        for one in record.values():
            say("removing", one.patient)

            def take(patient: Any = one.patient) -> Any:
                with Gallery.open(home / "gallery") as gallery:
                    return remove(gallery, "patient", [patient], PSEUDONYMS)

            assert patiently(take).proof.found == []
            say("removed", one.patient)


def turns(home: Path, draw: random.Random, first: int) -> None:
    """Goes over to the other encoder again and again, or back."""
    while True:
        with Gallery.open(home / "gallery") as gallery:
            if status(gallery)["previous"] is not None:
                if draw.random() < 0.3:
                    say("back" if patiently(lambda: goes_back(gallery)) else "stopped")
                    continue
                patiently(lambda: forget_old(gallery))
            other = ENCODERS[1 - ENCODERS.index(current_encoder(gallery))]
            begun = gallery.store.card("next")
            if begun is not None and begun["fingerprint"] != other.fingerprint:
                patiently(lambda: cancel(gallery))
            report = patiently(
                lambda: reindex(gallery, other, PSEUDONYMS, limits=Limits(workers=0, memory_bytes=None))  # noqa: B023
            )
            say("swapped" if report.swapped else "stopped", *(one.id for one in report.lacking))


def goes_back(gallery: Gallery) -> bool:
    """False when somebody has added images since the encoder before was current."""
    try:
        go_back(gallery)
    except BadGallery as error:
        if "have come since" not in str(error):
            raise
        return False
    return True


def searches(home: Path, draw: random.Random, first: int) -> None:
    """Says `asking`, and `found` with the ids."""
    while True:
        with Gallery.open(home / "gallery") as gallery:
            for _ in range(10):
                if ids := gallery.ids():
                    say("asking")
                    try:
                        hits = gallery.search_id(draw.choice(ids), 10, hide="none").hits
                    except BadGallery as error:
                        if not any(word in str(error) for word in ("there is no image", "changed", "open it again")):
                            raise
                        break
                    assert len({hit.id for hit in hits}) == len(hits)
                    assert all(one.distance <= other.distance for one, other in pairwise(hits))
                    say("found", *(hit.record.patient for hit in hits))
                time.sleep(0.01)


if __name__ == "__main__":
    role, home, seed, first = sys.argv[1:]
    {one.__name__: one for one in (adds, removes, turns, searches)}[role](
        Path(home), random.Random(int(seed)), int(first)
    )
