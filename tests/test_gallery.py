"""The gallery with the toy encoder: features are (mean, 0) and (top left, bottom right), all in [0, 1]."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from cbmir.cli import cli
from cbmir.console import ranking_lines
from cbmir.errors import BadGallery, UsageError
from cbmir.extract import Extracted
from cbmir.gallery import Gallery, NewImage, Query
from cbmir.images.worker import Decoded
from cbmir.index import ann
from cbmir.index.matrix import open_matrix
from cbmir.places import Place, root_of
from cbmir.privacy import Pseudonyms
from cbmir.store import Block, Store
from cbmir.types import ImageRef, Ranking, Record
from cbmir.where import parse
from toys import ToyEncoder

ENCODER = ToyEncoder()
MATRIX_FILES = {"records.columns", "mean.matrix", "corner.matrix"}
OTHER_KEY = Pseudonyms(b"another key, 32 bytes long......")


def extracted(
    name: str,
    mean: float,
    *,
    corner: tuple[float, float] = (0, 0),
    patient: str | None = None,
    label: str | None = None,
) -> Extracted:
    """A file with one image of this mean grey."""
    ref = ImageRef(Path("/data") / f"{name}.png", f"{name}.png", labels={} if label is None else {"class": label})
    posterior = np.array([[mean, 1 - mean]], np.float32)
    return Extracted(
        Decoded(ref, "decoded", None, (), f"hash of {name}", 10, 20),
        (
            Record(
                id=name, patient=patient, study=patient and f"study of {patient}", labels=ref.labels,
                predicted="bright" if mean >= 0.5 else "dark",
            ),
        ),
        {"mean": np.array([[mean, 0]], np.float32), "corner": np.array([corner], np.float32)},
        posterior,
    )  # fmt: skip


FILES = (
    extracted("a", 0.125, patient="p", corner=(0.5, 0.5)),
    extracted("b", 0.25, patient="p"),
    extracted("c", 0.375, patient="q"),
    extracted("d", 0.625),
    extracted("e", 0.875),
    extracted("f", 0.3125, label="bright"),
)


@pytest.fixture
def gallery(tmp_path: Path, pseudonyms: Pseudonyms) -> Iterable[Gallery]:
    with Gallery.create(tmp_path / "gallery", cast(Any, ENCODER), pseudonyms, encoder_path="toys") as gallery:
        gallery.add(FILES, pseudonyms)
        yield gallery


def ids(ranking: Ranking) -> list[str]:
    return [hit.id for hit in ranking]


def features(mean: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array([mean, 0], np.float32)


def search_new(gallery: Gallery, mean: float, query: Record | None = None, **options: Any) -> Ranking:
    """By an image of this mean grey that comes from outside."""
    return gallery.search(Query(images=[NewImage(features(mean), record=query)], **options))


def test_a_stored_image_is_answered_with_the_others_nearest_first(gallery: Gallery) -> None:
    ranking = gallery.search_id("d")
    assert ids(ranking) == ["c", "e", "f", "b", "a"]
    assert [hit.rank for hit in ranking] == [1, 2, 3, 4, 5]
    assert [hit.distance for hit in ranking] == [0.25, 0.25, 0.3125, 0.375, 0.5]
    assert ranking.hits[0].record == gallery.record("c")
    assert ranking.n_candidates == 5
    assert (ranking.query_id, ranking.layer, ranking.gate) == ("d", "mean", "off")
    assert ranking.predicted == (("bright", 0.625), ("dark", 0.375))


def test_its_own_patient_is_hidden_unless_asked_for(gallery: Gallery) -> None:
    assert ids(gallery.search_id("a", 2)) == ["f", "c"]
    assert ids(gallery.search_id("a", 2, hide="study")) == ["f", "c"]
    assert ids(gallery.search_id("a", 2, hide="series")) == ["b", "f"]  # an unknown series hides nothing
    assert ids(gallery.search_id("a", 2, hide="none")) == ["b", "f"]


def test_a_new_image_hides_its_patient_and_itself(gallery: Gallery) -> None:
    query = Record(id="a", patient="p")
    assert ids(search_new(gallery, 0.125, k=1, query=query)) == ["f"]
    assert ids(search_new(gallery, 0.375, k=1, query=Record(id="c"))) == ["f"]
    found = search_new(gallery, 0.125, k=1, query=query, hide="none")
    assert ids(found) == ["a"]
    assert found.hits[0].distance == 0
    assert ids(search_new(gallery, 0.125, k=1)) == ["a"]


def test_a_patient_only_the_gallery_knows_is_hidden_by_file_as_by_id(gallery: Gallery) -> None:
    """A manifest told the patient of `a`; the file itself tells none, or another."""
    for told in (None, "somebody"):
        by_file = search_new(gallery, 0.125, query=Record(id="a", patient=told))
        assert ids(by_file) == ids(gallery.search_id("a")) == ["f", "c", "d", "e"]
    by_study = search_new(gallery, 0.125, k=1, query=Record(id="a"), hide="study")
    assert ids(by_study) == ["f"]


def test_a_gate_uses_the_label_where_there_is_one(gallery: Gallery) -> None:
    assert ids(gallery.search_id("b", gate="hard", hide="none")) == ["a", "c"]
    assert ids(gallery.search_id("d", gate="hard")) == ["e", "f"]  # f is dark, but somebody called it bright
    assert gallery.search_id("d", gate="hard").n_candidates == 2


def test_another_layer_orders_otherwise(gallery: Gallery) -> None:
    assert ids(gallery.search_id("a", layer="corner", hide="none"))[-1] == "f"
    with pytest.raises(UsageError, match="the layers are mean, corner"):
        gallery.search_id("a", layer="fcl9")


def test_more_than_there_is_gives_what_there_is(gallery: Gallery) -> None:
    assert len(gallery.search_id("c", 1000)) == 5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"k": 0}, "k must be at least 1"),
        ({"gate": "none"}, "the gates are"),
        ({"hide": "name"}, "patient, study, series, none"),
        ({"gate": "soft"}, "tau"),
    ],
)
def test_a_wrong_call_is_told_in_one_sentence(gallery: Gallery, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        gallery.search_id("a", **options)


def test_the_soft_gate_takes_its_tau_from_the_encoder(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    encoder = ToyEncoder()
    encoder.calibration = {"soft_gate_tau": {"mean": 10.0}}
    with Gallery.create(tmp_path / "soft", cast(Any, encoder), pseudonyms) as gallery:
        gallery.add(FILES, pseudonyms)
        assert ids(gallery.search_id("d", gate="soft")) == ["e", "f", "c", "b", "a"]  # bright ones first
        with pytest.raises(UsageError, match="tau"):
            gallery.search_id("d", gate="soft", layer="corner")


def test_an_unknown_id_is_told(gallery: Gallery) -> None:
    with pytest.raises(BadGallery, match="no image nobody"):
        gallery.search_id("nobody")


def test_what_is_added_is_found_by_whoever_has_it_open(gallery: Gallery, pseudonyms: Pseudonyms) -> None:
    with Gallery.open(gallery.directory) as reader:
        assert reader.search_id("d", 1).hits[0].id == "c"
        gallery.add([extracted("g", 0.75)], pseudonyms)
        assert reader.search_id("d", 1).hits[0].id == "g"
        assert reader.count == 7


def test_an_encoder_of_another_fingerprint_or_precision_is_refused(gallery: Gallery) -> None:
    gallery.check_encoder(cast(Any, ENCODER))
    other = ToyEncoder()
    other.fingerprint = "toy-0002"
    with pytest.raises(BadGallery, match=r"encoder toy \(toy-0001, f32\), not toy \(toy-0002, f32\)"):
        gallery.check_encoder(cast(Any, other))
    half = ToyEncoder()
    half.precision = "bf16"
    with pytest.raises(BadGallery, match=r"\(toy-0001, f32\), not toy \(toy-0001, bf16\)"):
        gallery.check_encoder(cast(Any, half))


def test_another_pseudonym_key_is_refused(gallery: Gallery, pseudonyms: Pseudonyms) -> None:
    with pytest.raises(BadGallery, match=f"{pseudonyms.fingerprint}, not {OTHER_KEY.fingerprint}"):
        gallery.add([extracted("g", 0.5)], OTHER_KEY)
    assert gallery.count == 6


def test_a_gallery_remembers_its_encoder(gallery: Gallery) -> None:
    with Gallery.open(gallery.directory) as again:
        assert again.encoder == gallery.encoder
        assert (again.encoder_path, again.default_layer, again.encoder.classes) == ("toys", "mean", ("bright", "dark"))
        info = again.info()
    assert info["records"] == 6
    assert info["patients"] == 2
    assert info["by_class"] == {"bright": 3, "dark": 3}
    assert info["files"] == {"decoded": 6}


def of_file(ref: ImageRef, name: str = "a") -> Extracted:
    """An image that comes from there."""
    file = extracted(name, 0.5)
    return replace(file, decoded=replace(file.decoded, ref=ref))


@pytest.fixture
def empty(tmp_path: Path, pseudonyms: Pseudonyms) -> Iterable[Gallery]:
    with Gallery.create(tmp_path / "empty", cast(Any, ENCODER), pseudonyms) as gallery:
        yield gallery


def test_the_file_of_an_image_is_told_to_whoever_has_the_key(
    tmp_path: Path, empty: Gallery, pseudonyms: Pseudonyms
) -> None:
    (tmp_path / "x").mkdir()
    picture = tmp_path / "x" / os.fsdecode(b"Canary^Ann \xff.png")
    picture.touch()
    ref = ImageRef(picture, r"x/Canary^Ann \xff.png")
    empty.add([of_file(ref)], pseudonyms)
    assert empty.image_ref("a", pseudonyms) == ref
    with pytest.raises(BadGallery, match="made with pseudonym key"):
        empty.image_ref("a", OTHER_KEY)
    assert empty.image_ref("nobody", pseudonyms) is None
    picture.unlink()
    assert empty.image_ref("a", pseudonyms) is None


def test_the_member_of_an_archive_is_told_while_it_is_there(
    tmp_path: Path, empty: Gallery, pseudonyms: Pseudonyms
) -> None:
    path = tmp_path / "y.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("in/a.png", b"a")
        archive.writestr("in/b.png", b"b")
    refs = {name: ImageRef(path, f"y.zip/in/{name}.png", member=f"in/{name}.png") for name in "ab"}
    empty.add([of_file(ref, name) for name, ref in refs.items()], pseudonyms)
    assert {name: empty.image_ref(name, pseudonyms) for name in "ab"} == refs
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("in/b.png", b"b")
    os.utime(path, ns=(1, 1))
    assert empty.image_ref("a", pseudonyms) is None
    assert empty.image_ref("b", pseudonyms) == refs["b"]
    path.write_bytes(b"damaged")  # which says nothing of its members
    assert empty.image_ref("b", pseudonyms) == refs["b"]
    path.unlink()
    assert empty.image_ref("b", pseudonyms) is None


def test_the_files_of_a_gallery_are_told_to_whoever_has_the_key(empty: Gallery, pseudonyms: Pseudonyms) -> None:
    failed = Extracted(Decoded(ImageRef(Path("/d/z.zip"), "z.zip/b", member="b"), "corrupt", "Cut off."), (), {}, None)
    empty.add([of_file(ImageRef(Path("/d/a.png"), "a.png")), failed], pseudonyms)
    first, second = empty.files(pseudonyms)
    assert first == Place(pseudonyms.handle("/d", "a.png"), "/d/a.png", "decoded", None)
    assert second == Place(pseudonyms.handle("/d", "z.zip/b"), "/d/z.zip/b", "corrupt", "Cut off.")
    assert list(empty.files(pseudonyms, [second.handle])) == [second]
    with pytest.raises(BadGallery, match="made with pseudonym key"):
        empty.files(OTHER_KEY)


def test_no_byte_of_the_database_names_a_file_folder_or_content(empty: Gallery, pseudonyms: Pseudonyms) -> None:
    ref = ImageRef(Path("/data/Canary/x/Ann.png"), "x/Ann.png", labels={"class": "knee"}, patient="Canary")
    inside = ImageRef(Path("/data/Canary/Ann.zip"), "Ann.zip/Bob", member="Bob")
    empty.add([of_file(ref), of_file(inside, "b")], pseudonyms)
    empty.verify()
    data = b"".join(path.read_bytes() for path in empty.directory.rglob("*") if path.is_file())
    assert pseudonyms.handle("/data/Canary", "x/Ann.png").encode() in data
    assert [word for word in (b"Canary", b"Ann", b"Bob", b"/data", b"hash of") if word in data] == []


@pytest.mark.parametrize(
    ("path", "shown", "member", "root"),
    [
        ("/d/a/b.png", "a/b.png", None, "/d"),
        ("/d/b.png", "b.png", None, "/d"),
        ("/b.png", "b.png", None, "/"),
        ("/\udcff/b.png", "b.png", None, "/\\xff"),
        ("/d/\udcff.png", r"\xff.png", None, "/d"),
        ("/d/a/b.zip", "a/b.zip/in/c.png", "in/c.png", "/d"),
        ("/d/b.zip", "b.zip/\xe4/c.png", "\xe4/c.png", "/d"),
    ],
)
def test_the_root_of_a_source_is_what_its_paths_have_in_front(
    path: str, shown: str, member: str | None, root: str
) -> None:
    assert root_of(ImageRef(Path(path), shown, member=member)) == root


def test_a_whole_gallery_is_verified(gallery: Gallery) -> None:
    assert gallery.verify() == {"ok": True, "records": 6, "problems": []}


def test_damage_to_the_matrix_is_found(gallery: Gallery) -> None:
    gallery.search_id("a")
    path = gallery.directory / "matrix" / "mean.matrix"
    data = bytearray(path.read_bytes())
    data[70] ^= 1
    path.write_bytes(data)
    assert any("mean.matrix: rows does not match its checksum" in told for told in gallery.verify()["problems"])


def test_a_matrix_that_is_not_the_store_is_found(gallery: Gallery) -> None:
    gallery.search_id("a")
    gallery._store._connection.execute("UPDATE feature SET data = zeroblob(8) WHERE record = 1")
    assert any("does not hold the features of the store" in told for told in gallery.verify()["problems"])


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: b"x" * len(data)])
def test_a_matrix_cut_short_is_made_again(gallery: Gallery, damage: Any) -> None:
    before = gallery.search_id("d")
    path = gallery.directory / "matrix" / "mean.matrix"
    path.write_bytes(damage(path.read_bytes()))
    with Gallery.open(gallery.directory) as again:
        assert again.search_id("d") == before
    assert {file.name for file in path.parent.iterdir()} == MATRIX_FILES


def test_the_matrix_is_made_once_and_mapped_afterwards(gallery: Gallery) -> None:
    gallery.search_id("d")
    made = (gallery.directory / "matrix" / "mean.matrix").stat().st_ino
    with Gallery.open(gallery.directory) as again:
        again.search_id("d")
    assert (gallery.directory / "matrix" / "mean.matrix").stat().st_ino == made
    assert not open_matrix(gallery._store, "mean").index.rows.flags.writeable


def test_a_matrix_is_on_disk_before_it_takes_its_place(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def noted_sync(descriptor: int) -> None:
        done.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).suffix or "folder")
        sync(descriptor)

    def noted_replace(new: Path, path: Path) -> None:
        done.append("replace")
        replace(new, path)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", noted_replace)
    gallery.search_id("a")
    assert done == [".new", "replace", "folder"] * len(MATRIX_FILES)


def test_changes_that_were_read_are_not_read_again(
    gallery: Gallery, pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery.search_id("a")
    asked: list[list[str]] = []
    rows = Store.rows

    def noted(self: Store, layer: str, ids: list[str]) -> Block:
        asked.append(ids)
        return rows(self, layer, ids)

    monkeypatch.setattr(Store, "rows", noted)
    for name in ("g", "h"):
        gallery.add([extracted(name, 0.125)], pseudonyms)
        assert ids(gallery.search_id("a", 1)) == ["g"]
    assert asked == [["g"], ["h"]]


def test_an_accelerated_gallery_says_what_is_approximate(
    gallery: Gallery, pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr(ann, "PAYS_FROM", 1)
    gallery.add([extracted(f"more-{n:02}", n / 64) for n in range(64)], pseudonyms)
    gallery.search_id("d")
    cli.main(["accelerate", "--gallery", str(gallery.directory), "--layer", "mean", "--json"], standalone_mode=False)
    report = json.loads(capsys.readouterr().out)
    assert (report["layer"], report["kind"], report["rows"], report["pays"]) == ("mean", "hnsw", 70, True)
    assert report["recall@10"] == 1
    assert report["bytes"] > 0
    assert report["seconds"] >= 0

    with Gallery.open(gallery.directory) as gallery:
        found = gallery.search_id("d", 1)
        assert (ids(found), found.by) == (["more-40"], "ann")
        assert ", approximate, " in ranking_lines(found.as_dict())[1]
        assert gallery.search_id("d", 1, exact=True).by == "exact"
        assert gallery.search_id("d", 1, where=parse("class=bright")).by == "exact"
        assert gallery.search_id("d", 1, gate="hard").by == "exact"
        assert gallery.search_id("d", 1, order="least").by == "exact"
        assert gallery.search_id("d", 1, layer="corner").by == "exact"


def test_an_empty_gallery_answers_with_nothing(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    with Gallery.create(tmp_path / "empty", cast(Any, ENCODER), pseudonyms) as gallery:
        assert ids(search_new(gallery, 0.5)) == []
        assert gallery.verify()["ok"]


def test_searching_by_id_loads_nothing_heavy(gallery: Gallery) -> None:
    code = f"""
import sys
from pathlib import Path
from cbmir.gallery import Gallery, NewImage, Query
with Gallery.open(Path({str(gallery.directory)!r})) as gallery:
    print(*[hit.id for hit in gallery.search_id("d", 2)])
heavy = ("torch", "pydicom", "matplotlib", "scipy", "PIL", "openvino", "cryptography", "cbmir.encoder", "cbmir.images")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "c e\n[]\n"


@pytest.mark.parametrize("made_before", [True, False])
def test_a_gallery_that_cannot_be_written_is_searched_told_and_verified(
    gallery: Gallery, pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch, made_before: bool
) -> None:
    answer = gallery.search_id("d") if made_before else None
    gallery.close()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    before = {path: path.read_bytes() for path in gallery.directory.rglob("*") if path.is_file()}
    with Gallery.open(gallery.directory) as again:
        assert ids(again.search_id("d")) == ["c", "e", "f", "b", "a"]
        assert answer in (None, again.search_id("d"))
        assert again.verify() == {"ok": True, "records": 6, "problems": []}
        assert again.info()["records"] == len(list(again.files(pseudonyms))) == 6
        with pytest.raises(BadGallery, match="read-only"), again.writing():
            pass
    assert {path: path.read_bytes() for path in gallery.directory.rglob("*") if path.is_file()} == before


def test_a_matrix_whose_folder_cannot_be_written_is_made_in_memory(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = gallery.directory / "matrix"
    folder.mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != folder and access(path, mode))
    assert ids(gallery.search_id("d", 1)) == ["c"]
    assert list(folder.iterdir()) == []


def test_files_without_a_place_are_not_listed(gallery: Gallery, pseudonyms: Pseudonyms) -> None:
    gallery._store._connection.execute("UPDATE file SET place = x'', handle = '' WHERE number > 2")
    assert [place.path for place in gallery.files(pseudonyms)] == ["/data/a.png", "/data/b.png"]
    assert gallery.info()["files"] == {"decoded": 6}
