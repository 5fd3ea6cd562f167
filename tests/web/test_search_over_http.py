"""The search over HTTP is that of the command line, and what cannot be asked is told."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import nibabel
import numpy as np
import pytest

from cbmir.cli import cli
from cbmir.gallery import Gallery
from cbmir.jobs import Asked, IndexSettings, index_into, search_images
from cbmir.privacy import load_pseudonyms
from cbmir.upkeep.removal import remove
from cbmir.web.models import SearchTold
from pictures import draw_folder
from scans import body
from serving import running
from wards import write_image

SEARCH, EXPORT = "/api/v1/search", "/api/v1/export"


@pytest.fixture
def client(served: Path) -> Iterator[httpx.Client]:
    with running(served) as server, server.client() as client:
        yield client


@pytest.fixture
def ids(served: Path) -> list[str]:
    with Gallery.open(served) as gallery:
        return gallery.ids()


def by_command(capsys: pytest.CaptureFixture[str], gallery: Path, *words: object) -> dict[str, Any]:
    cli.main(["search", *map(str, words), "--gallery", str(gallery), "--json"], standalone_mode=False)
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def by_http(client: httpx.Client, **asked: Any) -> dict[str, Any]:
    answer = client.post(SEARCH, json=asked)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    SearchTold.model_validate(document, extra="forbid")
    for hit in document["hits"]:
        assert len(hit.pop("digest")) == 32
        assert hit.pop("frame") in (1, 2, 3)
    return document


def problem(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    detail: str = answer.json()["detail"]
    return detail


def upload(client: httpx.Client, file: Path) -> str:
    answer = client.post("/api/v1/uploads", files={"file": ("any name", file.read_bytes())})
    assert answer.status_code == 201, answer.text
    name: str = answer.json()["upload"]
    return name


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, []),
        ({"k": 3, "offset": 2}, ["-k", 3, "--offset", 2]),
        ({"hide": "none"}, ["--hide-same", "none"]),
        ({"hide": "series", "order": "least"}, ["--hide-same", "series", "--order", "least"]),
        ({"where": "rows=12 and not modality=CT"}, ["--where", "rows=12 and not modality=CT"]),
        ({"group_by": "patient", "exact": True}, ["--group-by", "patient", "--exact"]),
        ({"layer": "pixels", "combine": "max"}, ["--layer", "pixels", "--combine", "max"]),
        ({"series_by": "votes"}, ["--series-by", "votes"]),
        ({"region": [2, 3, 6, 5]}, ["--roi", "2,3,6,5"]),
    ],
)
def test_every_option_means_what_it_means_to_the_command(
    client: httpx.Client,
    served: Path,
    ids: list[str],
    asked: dict[str, Any],
    words: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = by_command(capsys, served, "--id", ids[0], *(words if "-k" in words else ["-k", 24, *words]))
    assert expected["hits"]
    assert by_http(client, ids=[ids[0]], **asked) == expected


def test_several_images_and_judgements(
    client: httpx.Client, served: Path, ids: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--id", ids[0], "--id", ids[1], "--like", ids[2], "--unlike", ids[3], "-k", 24, "--hide-same", "none"]
    asked = {"ids": ids[:2], "like": [ids[2], ids[2]], "unlike": [ids[3]], "hide": "none"}
    assert by_http(client, **asked) == by_command(capsys, served, *words)


def test_a_series_finds_series_unless_images_are_wanted(
    client: httpx.Client, served: Path, ids: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with Gallery.open(served) as gallery:
        series = gallery.record(ids[0]).series
    words = ["--series", series, "-k", 24]
    assert by_http(client, series=series) == by_command(capsys, served, *words)
    images = by_command(capsys, served, *words, "--series-by", "none")
    assert by_http(client, series=series, series_by="none") == images
    assert images["grouped_by"] is None


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, []),
        ({"frame": 3}, ["--frame", 3]),
        ({"region": [1, 1, 9, 9]}, ["--roi", "1,1,9,9"]),
        ({"all_frames": True}, ["--all-frames"]),
    ],
)
def test_an_upload_searches_as_the_file_does(
    client: httpx.Client,
    served: Path,
    ward: Path,
    asked: dict[str, Any],
    words: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = ward / "Miller^1" / "cine.dcm"
    image = {"upload": upload(client, file), "frame": asked.pop("frame", None)}
    expected = by_command(capsys, served, file, *words, "-k", 24)
    assert by_http(client, uploads=[image], **asked) == expected
    assert expected["query"]["frame"] == (None if words == ["--all-frames"] else 3 if "--frame" in words else 1)


def test_uploads_and_ids_together_each_upload_with_its_frame(client: httpx.Client, ward: Path, ids: list[str]) -> None:
    name = upload(client, ward / "Miller^1" / "cine.dcm")
    images = [{"upload": name, "frame": 2}, {"upload": name, "frame": 3}]
    found = by_http(client, ids=[ids[0]], uploads=images, hide="none")
    with_frames = found["query"]["ids"]
    assert len(with_frames) == 3
    assert with_frames[0] == ids[0]


def test_a_region_of_a_stored_image_is_looked_at_with_the_modality_of_its_record(tmp_path: Path) -> None:
    """A manifest has said CT of a picture; read without that word its values would be shown by another rule."""
    folder = tmp_path / "volumes"
    folder.mkdir()
    voxels = np.stack([body(0.8, 0.6 + 0.02 * n, 0.3).astype(np.int16) * 8 - 1000 for n in range(6)], axis=2)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), folder / "a.nii")
    (folder / "manifest.csv").write_text("path,class,modality\na.nii,chest,CT\n")
    index_into(
        tmp_path / "gallery", [folder / "manifest.csv"], encoder_name="pixels", settings=IndexSettings(workers=0)
    )
    with Gallery.open(tmp_path / "gallery") as gallery:
        name = next(n for n in gallery.ids() if gallery.record(n).attributes["plane"] == "axial")
        rows, columns = 64, 64
        whole, _ = search_images(gallery, Asked(ids=[name], region=(0, 0, columns, rows)))
        assert gallery.record(name).provenance["window"].startswith("ct ")
        plain = gallery.search_id(name)
    assert [hit.id for hit in whole] == [hit.id for hit in plain]
    assert [hit.distance for hit in whole] == pytest.approx([hit.distance for hit in plain], abs=1e-5)


@pytest.mark.parametrize(
    ("asked", "status", "sentence"),
    [
        ({}, 422, "Give ids, uploads or a series."),
        ({"ids": ["0" * 32]}, 404, "There is no image 0+ in the gallery."),
        ({"ids": ["no id"]}, 422, "Some fields"),
        ({"series": "f" * 32}, 404, "There is no series"),
        ({"uploads": [{"upload": "x" * 43}]}, 404, "send the file again"),
        ({"k": 0}, 422, "Some fields"),
        ({"k": 501}, 422, "At most 500 hits"),
        ({"offset": -1}, 422, "Some fields"),
        ({"region": [0, 0, 0, 4]}, 422, "Some fields"),
        ({"region": [5, 5, 50, 50]}, 422, "The region is not a part of the picture"),
        ({"like": ["ID"], "unlike": ["ID"]}, 422, "Some fields"),
        ({"like": ["1" * 32]}, 404, "There is no image 1+"),
        ({"layer": "none"}, 422, "there is no layer|There is no layer"),
        ({"gate": "hard"}, 422, "predicts none"),
        ({"gate": "loud"}, 422, "Some fields"),
        ({"rerank": "aqe"}, 422, "needs parameters"),
        ({"where": "class="}, 422, "."),
        ({"where": "(" * 3000}, 422, "."),
        ({"where": "colour=red"}, 422, "No image of the gallery has a colour"),
        ({"group_by": "patient", "series_by": "mean"}, 422, "Series are ranked as such"),
        ({"all_frames": True}, 422, "Frames are those of"),
        ({"unknown": 1}, 422, "Some fields"),
    ],
)
def test_what_cannot_be_asked_is_told(
    client: httpx.Client, ids: list[str], asked: dict[str, Any], status: int, sentence: str
) -> None:
    filled = {name: [ids[1]] if value == ["ID"] else value for name, value in asked.items()}
    given = filled if not asked or {"ids", "series", "uploads"} & asked.keys() else {"ids": [ids[0]], **filled}
    detail = problem(client.post(SEARCH, json=given), status)
    assert re.search(sentence, detail), detail


def test_an_export_is_the_search_as_a_table_that_no_spreadsheet_runs(tmp_path: Path) -> None:
    draw_folder(tmp_path / "pictures", per_class=2)
    lines = [f"disc/{n:02}.png,=cmd|' /C calc'!A0" for n in range(2)] + ["stripes/00.png,plain"]
    (tmp_path / "pictures" / "manifest.csv").write_text("\n".join(["path,class", *lines]))
    settings = IndexSettings(workers=0)
    index_into(tmp_path / "g", [tmp_path / "pictures" / "manifest.csv"], encoder_name="pixels", settings=settings)
    with Gallery.open(tmp_path / "g") as gallery:
        name = next(n for n in gallery.ids() if gallery.record(n).label == "plain")
    with running(tmp_path / "g") as server, server.client() as client:
        found = client.post(SEARCH, json={"ids": [name]}).json()
        table = client.post(EXPORT, json={"search": {"ids": [name]}, "format": "csv"})
        document = client.post(EXPORT, json={"search": {"ids": [name]}, "format": "json"})
        problem(client.post(EXPORT, json={"search": {"ids": [name]}, "format": "xls"}), 422)
    rows = list(csv.DictReader(io.StringIO(table.text, newline="")))
    assert [row["id"] for row in rows] == [hit["id"] for hit in found["hits"]]
    assert {row["class"] for row in rows} == {"'=cmd|' /C calc'!A0"}
    assert table.headers["content-disposition"] == 'attachment; filename="hits.csv"'
    assert document.headers["content-disposition"] == 'attachment; filename="hits.json"'
    assert document.json() == found


def test_the_audit_log_tells_ids_and_no_filter(served: Path, ids: list[str]) -> None:
    with running(served) as server, server.client() as client:
        client.post(SEARCH, json={"ids": [ids[0]], "where": "modality=Ann"})
        [line] = [line for line in server.audit() if line["route"] == SEARCH]
    assert (line["ids"], line["k"], line["gate"], line["status"]) == ([ids[0]], 24, "off", 200)
    assert "Ann" not in json.dumps(line)


def test_many_callers_at_once_get_what_one_gets(client: httpx.Client, ward: Path, ids: list[str]) -> None:
    files = sorted(ward.rglob("*-*.dcm"))[:4]
    names = [upload(client, file) for file in files]

    def ask(number: int) -> Any:
        match number % 4:
            case 0:
                return by_http(client, ids=[ids[number % len(ids)]], k=5)
            case 1:
                return by_http(client, uploads=[{"upload": names[number % 4]}], k=5)
            case 2:
                return client.get(f"/api/v1/records/{ids[number % len(ids)]}/frame").content
            case _:
                return client.get(f"/api/v1/records/{ids[number % len(ids)]}/thumbnail").content

    alone = [ask(number) for number in range(40)]
    with ThreadPoolExecutor(20) as threads:
        for found in [list(threads.map(ask, range(40))) for _ in range(3)]:
            assert found == alone


def test_an_image_that_came_is_found_and_one_that_left_is_not(
    client: httpx.Client, served: Path, ward: Path, ids: list[str]
) -> None:
    before = by_http(client, ids=[ids[0]], hide="none")["n_candidates"]
    write_image(ward / "Miller^0" / "new.dcm", 0, 7, 7)
    index_into(served, [ward], encoder_name="pixels", settings=IndexSettings(workers=0))
    assert by_http(client, ids=[ids[0]], hide="none")["n_candidates"] == before + 1
    with Gallery.open(served) as gallery:
        remove(gallery, "id", [ids[0]], load_pseudonyms(make=False))
    assert "There is no image" in problem(client.post(SEARCH, json={"ids": [ids[0]]}), 404)
