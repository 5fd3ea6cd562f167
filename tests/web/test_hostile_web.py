"""Requests that mean harm, and files that carry names: no answer is a failure of the server, and no name comes back."""

from __future__ import annotations

import gc
import io
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

import hostile_files as hostile
from canary import CANARY, NUMBER, dicom, png, write_all
from cbmir.gallery import Gallery
from cbmir.jobs import IndexSettings, index_into
from cbmir.jobs.upkeep import reindex_images
from cbmir.privacy import load_pseudonyms
from cbmir.upkeep.removal import remove
from cbmir.web.logs import setup_logs
from cbmir.web.problems import MEDIA_TYPE
from serving import Running, bearer, head, read_all, running
from small_network import save_small
from wards import write_ward

API = "/api/v1"
HERE = IndexSettings(workers=0)
PLENTY = {
    "uploads_per_minute": 100_000,
    "requests_per_minute": 1_000_000,
    "sign_ins_per_minute": 100_000,
    "body_idle_s": 3,
}


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A key for all tests of this module: one server lives through most of them."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CBMIR_KEY_FILE", str(folder / "pseudonym.key"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield folder


@pytest.fixture(autouse=True)
def _own_home(home: Path) -> None:
    """In place of that of all tests, which is another one each time."""


@pytest.fixture(scope="module")
def archive(home: Path) -> Path:
    return write_ward(home / "archive")


@pytest.fixture(scope="module")
def indexed(home: Path, archive: Path) -> Path:
    index_into(home / "gallery", [archive], encoder_name="pixels", settings=HERE)
    return home / "gallery"


@pytest.fixture(scope="module")
def reports(home: Path) -> Path:
    folder = home / "report"
    (folder / "figures").mkdir(parents=True)
    told = {"encoder": "pixels", "n_queries": 3, "n_gallery": 9, "retrieval": {"pixels": {"off": {"mAP": 1 / 3}}}}
    (folder / "metrics.json").write_text(json.dumps(told), encoding="utf-8")
    (folder / "figures" / "roc.svg").write_text("<svg/>", encoding="utf-8")
    (home / "secret.svg").write_text("SECRET", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def server(indexed: Path, archive: Path, reports: Path) -> Iterator[Running]:
    with running(indexed, with_tokens=True, roots={"ward": archive}, reports=(reports,), limits=PLENTY) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client("admin") as client:
        yield client


@pytest.fixture(scope="module")
def ids(indexed: Path) -> list[str]:
    with Gallery.open(indexed) as gallery:
        return gallery.ids()


@pytest.fixture
def own(archive: Path, tmp_path: Path) -> Path:
    """A gallery to be damaged."""
    index_into(tmp_path / "gallery", [archive], encoder_name="pixels", settings=HERE)
    return tmp_path / "gallery"


def refused(answer: httpx.Response) -> dict[str, Any]:
    """A problem of the one who asks, told in a sentence."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:300])
    assert answer.headers["content-type"] == MEDIA_TYPE
    told: dict[str, Any] = answer.json()
    assert told["detail"].endswith((".", "errors."))
    return told


def send(client: httpx.Client, data: bytes, name: str = "any name") -> httpx.Response:
    return client.post(f"{API}/uploads", files={"file": (name, data)})


# --- who may ask, of what is really there


def test_what_is_there_is_shown_to_nobody_unknown(
    server: Running, client: httpx.Client, ids: list[str], archive: Path
) -> None:
    upload = send(client, (archive / "Miller^0" / "0-0.dcm").read_bytes()).json()["upload"]
    job = client.post(f"{API}/jobs", json={"kind": "index", "root": "ward"}).json()["id"]
    paths = [
        "gallery", "gallery/failed", "records", f"records/{ids[0]}", f"records/{ids[0]}/thumbnail", "facets", "atlas",
        f"records/{ids[0]}/frame", f"records/{ids[0]}/series", f"uploads/{upload}", f"uploads/{upload}/frames/1",
        f"uploads/{upload}/thumbnail", "jobs", f"jobs/{job}", f"jobs/{job}/events", "reports", "reports/report",
        "reports/report/figures", "reports/report/figures/roc.svg", "roots", "roots/ward/folders", "audit",
        "openapi.json",
    ]  # fmt: skip
    with server.client() as stranger:
        for path in paths:
            for headers in (
                {},
                {"Authorization": "Bearer"},
                {"Authorization": "Bearer \xff"},
                {"Cookie": "cbmir_session="},
            ):
                answer = stranger.get(f"{API}/{path}", headers={k: v.encode("latin-1") for k, v in headers.items()})
                assert (path, answer.status_code, answer.headers["content-type"]) == (path, 401, MEDIA_TYPE)
        answers = [
            stranger.get(f"{API}/{path}", headers=bearer("reader")) for path in ("roots", "roots/ward/folders", "audit")
        ]
        assert [answer.status_code for answer in answers] == [403] * 3
        for path in paths:
            answer = client.get(f"{API}/{path}")
            assert answer.status_code == 200, (path, answer.text)


def test_two_callers_do_not_see_what_the_other_brought(server: Running, ids: list[str], archive: Path) -> None:
    data = (archive / "Miller^0" / "0-0.dcm").read_bytes()
    with server.client("reader") as one, server.client("contributor") as other:
        names = {caller: send(caller, data).json()["upload"] for caller in (one, other)}
        for caller, foreign in ((one, names[other]), (other, names[one])):
            given = {"upload": foreign}
            asked = {"uploads": [{"upload": names[caller]}, given]}
            for answer in (
                caller.post(f"{API}/search", json=asked),
                caller.post(f"{API}/export", json={"search": {"uploads": [given]}, "format": "csv"}),
                caller.post(f"{API}/explain", json={"upload": given, "hit": ids[0]}),
                caller.delete(f"{API}/uploads/{foreign}"),
            ):
                assert refused(answer)["status"] == 404
            assert caller.post(f"{API}/search", json={"uploads": [{"upload": names[caller]}]}).status_code == 200


# --- names of things

NAMES = {
    "traversal": "..%2f..%2f..%2fetc%2fpasswd", "twice encoded": "%252e%252e%252fetc", "backslashes": "..%5c..%5cetc",
    "NUL": "a%00b", "only NUL": "%00", "overlong": "a" * 4000, "no UTF-8": "%ff%fe",
    "line ends": "a%0d%0aSet-Cookie:%20x=y",
    "markup": "%3Cscript%3Ealert(1)%3C%2Fscript%3E", "a quote": "'%20OR%201=1--", "right to left": "%E2%80%AE",
    "dots": "%2e%2e", "a wide digit": "%EF%BC%91" * 32, "secret": "..%2fsecret.svg",
}  # fmt: skip
PLACES = (
    "records/{}", "records/{}/thumbnail", "records/{}/frame", "records/{}/series", "uploads/{}", "uploads/{}/frames/1",
    "uploads/{}/thumbnail", "jobs/{}", "jobs/{}/events", "roots/{}/folders", "reports/{}", "reports/{}/figures",
    "reports/report/figures/{}", "roots/ward/folders?path={}",
)  # fmt: skip


@pytest.mark.parametrize("kind", NAMES)
def test_a_name_that_means_harm_names_nothing(server: Running, client: httpx.Client, kind: str) -> None:
    for place in PLACES:
        with server.connect() as connection:  # a client would tidy the path
            lines = [f"GET {API}/{place.format(NAMES[kind])} HTTP/1.1"]
            connection.sendall(head(lines, {"Host": "localhost", "Connection": "close", **bearer("admin")}))
            top, _, content = read_all(connection).partition(b"\r\n\r\n")
        assert top.split()[1] in (b"404", b"422", b"414"), (place, top)
        assert b"application/problem+json" in top
        assert b"set-cookie" not in top.lower()
        assert not any(word in content for word in (b"SECRET", b"root:", b"<script", b"alert"))
    refused(client.delete(f"{API}/jobs/{'a' * 4000}"))


# --- filters

FILTERS = {
    "as long as may be": "modality=" + "x" * 3990, "too long": "modality=" + "x" * 4000,
    "brackets": "(" * 2000 + ")" * 1000,
    "whole brackets": "(" * 1900 + "rows=12" + ")" * 1900, "nots": "not " * 990 + "rows=12",
    "ands": " and ".join(["rows=12"] * 280), "a list": "rows in (" + ",".join(["1"] * 1900) + ")",
    "NUL": "modality=a\0b",
    "unicode": "modality=𝔐𝔯 and class=\u202eevil", "an accent": "patient=e\u0301", "half a pair": "modality=\ud800",
    "SQL": "class='x' OR 1=1; DROP TABLE records;--", "quotes": "modality='" + "'" * 999,
    "a huge number": "rows>" + "9" * 3000,
    "infinity": "rows<1e999", "not a number": "rows=nan", "blank": " \t\n",
    "regular": "modality=" + "(a+)+" * 100, "format": "{0.__class__}%s%n",
}  # fmt: skip


@pytest.mark.parametrize("kind", FILTERS)
def test_a_filter_that_means_harm_is_answered_at_once(client: httpx.Client, ids: list[str], kind: str) -> None:
    where = FILTERS[kind]
    body = json.dumps({"ids": ids[:1], "where": where})
    export = json.dumps({"search": {"ids": ids[:1], "where": where}, "format": "json"})
    answers = [
        client.post(f"{API}/search", content=body, headers={"Content-Type": "application/json"}),
        client.post(f"{API}/export", content=export, headers={"Content-Type": "application/json"}),
    ]
    if kind != "half a pair":  # an address has no such thing
        answers += [client.get(f"{API}/{path}", params={"where": where}) for path in ("records", "facets")]
    for answer in answers:
        if answer.status_code != 200:
            refused(answer)
        assert answer.elapsed.total_seconds() < 10
    if kind in ("SQL", "too long", "brackets", "nots", "format"):
        assert {answer.status_code for answer in answers} <= {414, 422}
    assert client.get(f"{API}/gallery").json()["records"] == len(ids)


# --- numbers and bodies

NUMBERS = ["0", "-1", "1000000000", "NaN", "Infinity", "-Infinity", "1e400", "1" + "0" * 400, "1" + "0" * 5000,
           '"24"', "24.5",
           "true", "[]", "{}", '"\\ud800"', "501"]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS, ids=[number[:12] for number in NUMBERS])
def test_no_number_of_hits_is_too_strange_to_be_refused(client: httpx.Client, ids: list[str], number: str) -> None:
    for field in ("k", "offset", "region"):
        value = f"[0, 0, {number}, 1]" if field == "region" else number
        content = f'{{"ids": ["{ids[0]}"], "{field}": {value}}}'
        answer = client.post(f"{API}/search", content=content, headers={"Content-Type": "application/json"})
        if (field == "k" and number not in ('"24"', "true")) or answer.status_code != 200:
            refused(answer)
    for path in (
        "records?limit=",
        "records?offset=",
        "facets?limit=",
        "atlas?limit=",
        "audit?limit=",
        "gallery/failed?offset=",
    ):
        answer = client.get(f"{API}/{path}{number}")
        if answer.status_code != 200:
            refused(answer)


def bodies(ids: list[str]) -> dict[str, str]:
    one = f'"ids": ["{ids[0]}"]'
    return {
        "nested lists": '{"ids": ' + "[" * 100_000 + "]" * 100_000 + "}",
        "nested objects": '{"a":' * 40_000 + "1" + "}" * 40_000,
        "nested where a list may be": '{"like": ' + "[" * 900 + "]" * 900 + "}",
        "a word twice": f'{{{one}, "k": 1, "k": 1000000}}',
        "half a pair in a layer": f'{{{one}, "layer": "\\ud800"}}',
        "half a pair in a name": f'{{{one}, "\\ud800": 1}}',
        "half a pair in an id": '{"ids": ["\\ud800"]}',
        "half a pair in a gate": f'{{{one}, "gate": "\\udfff"}}',
        "a name of NUL": f'{{{one}, "\\u0000": 1}}',
        "many fields": "{" + ",".join(f'"f{n}": 1' for n in range(15_000)) + "}",
        "many ids": json.dumps({"ids": ["a"] * 60_000}),
        "a proto": f'{{{one}, "__proto__": {{"k": 1}}, "__class__": "x"}}',
        "a list": "[]",
        "a word": '"ids"',
        "nothing": "",
        "null": "null",
        "a mark of bytes": "\ufeff{}",
        "two documents": "{}{}",
        "UTF-16": '{"ids": []}'.encode("utf-16").decode("latin-1"),
    }


def test_bodies_that_mean_harm_are_refused_in_a_sentence(client: httpx.Client, ids: list[str]) -> None:
    json_ = {"Content-Type": "application/json"}
    for kind, body in bodies(ids).items():
        answers = [
            client.post(f"{API}/{path}", content=body.encode(), headers=json_)
            for path in ("search", "explain", "jobs", "session")
        ]
        for answer in answers:
            assert answer.status_code in (400, 413, 422), (kind, answer.status_code, answer.text[:200])
            told = refused(answer)
            assert len(answer.content) < 5000, (kind, told["errors"][:3])


def test_half_a_pair_in_any_word_is_refused(client: httpx.Client) -> None:
    """A string of JSON that no file, database or answer can hold."""
    for path, body in {
        "jobs": '{"kind": "index", "root": "\\ud800"}',
        "jobs#": '{"kind": "index", "root": "ward", "folder": "\\ud800"}',
        "jobs##": '{"kind": "reindex", "encoder": "\\ud800"}',
        "jobs###": '{"kind": "\\ud800"}',
        "session": '{"token": "\\ud800"}',
        "explain": '{"id": "\\ud800", "hit": "\\ud800"}',
    }.items():
        answer = client.post(f"{API}/{path.rstrip('#')}", content=body, headers={"Content-Type": "application/json"})
        refused(answer)


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/xml",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
        "application/json; charset=utf-7",
    ],
)
def test_a_search_of_another_type_is_no_search(client: httpx.Client, kind: str) -> None:
    answer = client.post(f"{API}/search", content='{"ids": []}', headers={"Content-Type": kind})
    refused(answer)


# --- uploads


def part(name: str, data: bytes, more: str = "") -> bytes:
    return f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + data + b"\r\n"


FORMS = {
    "10,000 fields": b"".join(part(f"f{n}", b"x") for n in range(10_000)),
    "10,000 files": b"".join(part("file", b"x", '; filename="a"') for n in range(10_000)),
    "a long head": part("file", b"x", '; filename="' + "a" * 100_000 + '"'),
    "many heads": b"--x\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(10_000)) +
                  b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n',
    "a file that is text": part("file", b"text"),
    "no name": b"--x\r\nContent-Disposition: form-data\r\n\r\nx\r\n",
    "another encoding": b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n'
                        b'Content-Transfer-Encoding: base64\r\n\r\nAAAA\r\n',
    "cut off": part("file", b"x", '; filename="a"')[:-9],
    "a strange charset": part("_charset_", b"utf-7") + part("file", b"+AAA-"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORMS)
def test_a_form_that_means_harm_is_refused(client: httpx.Client, kind: str) -> None:
    end = b"" if kind == "cut off" else b"--x--\r\n"
    answer = client.post(
        f"{API}/uploads", content=FORMS[kind] + end, headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    refused(answer)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a\0b", "x" * 5000, "<script>", "C:\\x", "", "a\r\nb"])
def test_the_name_of_a_file_is_not_looked_at(client: httpx.Client, archive: Path, name: str) -> None:
    answer = send(client, (archive / "Miller^0" / "0-0.dcm").read_bytes(), name)
    if answer.status_code == 201:
        assert set(answer.json()) == {"upload", "frames", "first", "rows", "columns", "modality", "expires_in_s"}
    else:
        refused(answer)


@pytest.mark.parametrize("said", ["10", "100000"])
def test_a_length_that_lies_ends_its_own_connection_only(
    server: Running, client: httpx.Client, archive: Path, said: str
) -> None:
    body = part("file", (archive / "Miller^0" / "0-0.dcm").read_bytes(), '; filename="a"') + b"--x--\r\n"
    with server.connect() as connection:
        headers = {"Host": "localhost", "Content-Length": said, "Content-Type": "multipart/form-data; boundary=x"}
        connection.sendall(head([f"POST {API}/uploads HTTP/1.1"], {**headers, **bearer("reader")}) + body)
        assert read_all(connection).split()[1] in (b"400", b"408", b"422")
    assert client.get("/healthz").status_code == 200


def zips(depth: int, data: bytes) -> bytes:
    for level in range(depth):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for copy in range(3):
                archive.writestr(f"{level}-{copy}.zip", data)
        data = file.getvalue()
    return data


def many_members(n: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(n):
            archive.writestr(f"../{number}.dcm", b"")
    return file.getvalue()


ARCHIVES = {
    "zips in zips": zips(6, hostile.zip_bomb(2**24)),
    "a zip of 20,000 files": many_members(20_000),
    "a lying zip": hostile.lying_zip(2**28),
    "a gzip in a gzip": hostile.gzip_of(hostile.gzip_bomb(2**26)),
    "many elements": hostile.many_elements(100_000),
    "many items": hostile.many_items(50_000),
    "nested with lengths": hostile.nested_defined(500),
    "frames without end": hostile.gif_frames(6000),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_that_means_harm_costs_one_answer(client: httpx.Client, kind: str) -> None:
    answer = send(client, ARCHIVES[kind])
    if answer.status_code != 201:
        assert refused(answer)["outcome"] not in (None, "crashed", "decoded")
    assert client.get("/readyz").status_code == 200


# --- conditional and partial requests


def test_parts_and_conditions_are_answered_whole_or_not_at_all(client: httpx.Client, ids: list[str]) -> None:
    for path in (
        f"{API}/records/{ids[0]}/frame",
        f"{API}/records/{ids[0]}/thumbnail",
        f"{API}/reports/report/figures/roc.svg",
    ):
        whole = client.get(path).content
        assert whole
        for headers in (
            {"Range": "bytes=0-0"}, {"Range": "bytes=-1"}, {"Range": "bytes=9-1"}, {"Range": "bytes=" + "0-0," * 1000},
            {"If-Range": '"x"', "Range": "bytes=1-"}, {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
            {"If-Match": '"x"'}, {"If-None-Match": '"' + "x" * 5000 + '"'}, {"If-None-Match": ",,,"},
            {"Accept": "text/html"},
            {"Accept-Encoding": "gzip, br, evil"}, {"Expect": "100-continue"}, {"TE": "trailers"},
            {"Upgrade": "websocket"},
        ):  # fmt: skip
            answer = client.get(path, headers=headers)
            assert (answer.status_code, answer.content) == (200, whole), headers


# --- names in files


def holds_the_name(data: str | bytes) -> bool:
    text = data.decode("latin-1") if isinstance(data, bytes) else data
    return CANARY.lower() in text.lower() or NUMBER in text


def every_answer(client: httpx.Client, folder: Path) -> Iterator[httpx.Response]:
    """Of all that is told of a gallery and of files that are brought."""
    for path in (
        "gallery",
        "gallery/failed?limit=1000",
        "records?limit=500",
        "facets",
        "atlas",
        "jobs",
        "reports",
        "audit?limit=1000",
    ):
        yield client.get(f"{API}/{path}")
    ids = [record["id"] for record in client.get(f"{API}/records?limit=500").json()["records"]]
    for name in ids:
        for path in ("", "/thumbnail", "/frame", "/series"):
            yield client.get(f"{API}/records/{name}{path}")
    for name in ids[::4]:
        yield client.post(f"{API}/search", json={"ids": [name], "hide": "none"})
        yield client.post(f"{API}/export", json={"search": {"ids": [name]}, "format": "csv"})
        yield client.post(f"{API}/explain", json={"id": name, "hit": ids[0]})
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        brought = send(client, file.read_bytes(), "ZQXCANARY.dcm")
        yield brought
        if brought.status_code == 201:
            upload = brought.json()["upload"]
            for path in ("", "/thumbnail", "/frames/1", "/frames/99"):
                yield client.get(f"{API}/uploads/{upload}{path}")
            yield client.post(f"{API}/search", json={"uploads": [{"upload": upload}]})


def type_the_name(client: httpx.Client, known: str) -> None:
    """Where a person may write something. The answer may tell that person what was wrong in it."""
    for field in ("where", "layer", "series"):
        client.post(f"{API}/search", json={"ids": [known], field: f"{CANARY}={CANARY}"})
    client.get(f"{API}/records/{known}/frame", params={"v": CANARY, CANARY: CANARY})
    client.get(f"{API}/records/{CANARY}/frame")
    client.get(f"{API}/records", params={"where": f"{CANARY}={CANARY}"})


def test_a_name_in_any_place_of_a_file_comes_back_nowhere(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In answers and their headers, the log, the metrics, the audit log."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    setup_logs()
    logging.captureWarnings(False)
    sources = write_all(tmp_path / "sources")
    index_into(tmp_path / "gallery", [sources["folder"]], encoder_name="pixels", settings=HERE)
    capfd.readouterr()
    with running(tmp_path / "gallery", limits=PLENTY) as server, server.client() as client:
        answers = list(every_answer(client, sources["folder"]))
        type_the_name(client, client.get(f"{API}/records").json()["records"][0]["id"])
        told = client.get("/metrics").text
        audit = server.context.audit.path.read_text(encoding="ascii")
    captured = capfd.readouterr()
    assert sum(answer.status_code < 300 for answer in answers) > 80
    assert [answer.status_code for answer in answers if answer.status_code >= 500] == []
    for answer in answers:
        assert not holds_the_name(answer.content), (answer.request.method, answer.request.url.path, answer.text[:500])
        assert not holds_the_name(str(answer.headers))
    assert not holds_the_name(told)
    assert not holds_the_name(audit)
    assert not holds_the_name(captured.err + captured.out)


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_markup_in_a_file_is_no_markup_in_an_answer(client: httpx.Client) -> None:
    evil = "<script>alert(1)</script>"
    window = {"WindowCenterWidthExplanation": evil, "WindowCenter": "40", "WindowWidth": "400"}
    for planted in (dicom(31, SeriesDescription=evil, Modality="<B>"), dicom(32, **window), png(33)):
        answer = send(client, planted)
        assert answer.status_code == 201
        assert "<" not in answer.text
        frame = client.get(f"{API}/uploads/{answer.json()['upload']}/frames/1")
        assert "<" not in frame.headers["x-frame"]


# --- a gallery that changes, breaks or goes away under the server


def ask(client: httpx.Client, ids: list[str], number: int) -> httpx.Response:
    name = ids[number % len(ids)]
    match number % 6:
        case 0 | 1:
            return client.post(f"{API}/search", json={"ids": [name], "k": 5})
        case 2:
            return client.get(f"{API}/records/{name}/thumbnail")
        case 3:
            return client.get(f"{API}/records/{name}/frame")
        case 4:
            return client.get(f"{API}/records")
        case _:
            return client.get(f"{API}/facets")


def asked_meanwhile(server: Running, ids: list[str], change: Any) -> list[httpx.Response]:
    """Answers to six callers who ask on and on until the change is made, and once more each."""
    done, answers = threading.Event(), []

    def go_on(first: int) -> None:
        with server.client() as client:
            number, last = first, False
            while not last:
                last = done.is_set()
                answers.append(ask(client, ids, number))
                number += 1

    with ThreadPoolExecutor(6) as threads:
        asking = [threads.submit(go_on, first) for first in range(6)]
        try:
            change()
        finally:
            done.set()
        for one in asking:
            one.result()
    return answers


def failures(answers: list[httpx.Response]) -> list[tuple[str, int, str]]:
    """Neither answered nor refused in a sentence that somebody can act on."""
    return [
        (answer.request.url.path, answer.status_code, answer.text[:300])
        for answer in answers
        if answer.status_code >= 400
        and (answer.status_code not in (404, 409, 503) or answer.headers["content-type"] != MEDIA_TYPE)
    ]


def test_images_are_removed_while_others_search(own: Path) -> None:
    with Gallery.open(own) as gallery:
        ids = gallery.ids()

    def change() -> None:
        for name in ids[:15]:
            with Gallery.open(own) as gallery:
                remove(gallery, "id", [name], load_pseudonyms(make=False))

    with running(own, limits=PLENTY) as server:
        answers = asked_meanwhile(server, ids, change)
        assert failures(answers) == []
        assert sum(answer.status_code == 200 for answer in answers) > len(answers) / 4
        with server.client() as client:
            hits = client.post(f"{API}/search", json={"ids": ids[-1:], "hide": "none"}).json()["hits"]
            assert {hit["id"] for hit in hits} == set(ids[15:-1])
            assert {client.get(f"{API}/records/{name}/thumbnail").status_code for name in ids[:15]} == {404}


def test_a_gallery_goes_over_to_another_encoder_under_load(own: Path, tmp_path: Path) -> None:
    encoder = save_small(tmp_path / "small", classes=("disc", "stripes"))
    with Gallery.open(own) as gallery:
        ids = gallery.ids()
    with running(own, limits=PLENTY) as server:
        answers = asked_meanwhile(server, ids, lambda: reindex_images(own, str(encoder), settings=HERE))
        assert failures(answers) == []
        assert sum(answer.status_code == 200 for answer in answers) > 0.9 * len(answers)
        with server.client() as client:
            assert client.get(f"{API}/gallery").json()["encoder"]["layers"] == {"FCL1": 8, "FCL2": 8, "FCL3": 8}
            assert client.post(f"{API}/search", json={"ids": ids[:1]}).json()["hits"]


def deleted(gallery: Path) -> None:
    shutil.rmtree(gallery)


def replaced(gallery: Path, content: Any) -> None:
    """Each file by another one: what is mapped stays what it was (one cut short in place ends whoever maps it)."""
    for path in [path for path in gallery.rglob("*") if path.is_file()]:
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(content(data))


def emptied(gallery: Path) -> None:
    replaced(gallery, lambda data: b"")


def scrambled(gallery: Path) -> None:
    replaced(gallery, lambda data: b"\xa5" * len(data))


def halved(gallery: Path) -> None:
    replaced(gallery, lambda data: data[: len(data) // 2])


def without_files(gallery: Path) -> None:
    for path in gallery.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("harm", [deleted, emptied, scrambled, halved, without_files], ids=lambda harm: harm.__name__)
def test_a_gallery_that_is_harmed_under_the_server_is_told_and_does_not_end_it(own: Path, harm: Any) -> None:
    with Gallery.open(own) as gallery:
        ids = gallery.ids()
    with running(own, limits=PLENTY) as server, server.client() as client:
        assert ask(client, ids, 0).status_code == 200
        harm(own)
        answers = [ask(client, ids, number) for number in range(18)]
        answers += [client.get(f"{API}/{path}") for path in ("gallery", "gallery/failed", "atlas", f"records/{ids[0]}")]
        assert failures(answers) == []
        assert all(str(own.parent) not in answer.text for answer in answers)
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200


# --- many uploads


def open_files() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def resident_mib() -> float:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


@pytest.mark.parametrize("n", [100, pytest.param(1000, marks=pytest.mark.long)])
def test_uploads_in_a_row_leave_nothing_behind(
    server: Running, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    """Files of more than a MiB, so that each is put on the disk on its way; a share is no image."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    good = (archive / "Miller^0" / "0-0.dcm").read_bytes()
    with server.client("reader") as client:
        for _ in range(n):  # each thread keeps a little; after 600 it is no more
            assert send(client, good + bytes(2**20 + 2**19)).status_code == 201
        files, memory = open_files(), resident_mib()
        for number in range(n):
            answer = send(client, (b"no image" if number % 4 == 0 else good) + bytes(2**20 + 2**19))
            assert answer.status_code == (422 if number % 4 == 0 else 201)
        assert open_files() <= files + 3
        assert resident_mib() < memory + 64  # they are 150 and 1,500 MiB
        assert list(tmp_path.iterdir()) == []


# --- told to end in the middle of work


def children_of(pid: int) -> set[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False).stdout
    own = {int(word) for word in found.split()}
    return own.union(*(children_of(child) for child in own))


def alive(pid: int) -> bool:
    """A process that is more than an entry in a table."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_server_told_to_end_finishes_what_is_under_way(own: Path, archive: Path, tmp_path: Path) -> None:
    """An upload that is half there is waited for as long as a body may take; a search under way is answered. No process
    and no file stays.
    """
    with Gallery.open(own) as gallery:
        ids = gallery.ids()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with (tmp_path / "log.jsonl").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "cbmir", "serve", "--gallery", str(own), "--port", "0", "--json"],
            stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, "TMPDIR": str(temporary)},
        )  # fmt: skip
    with process:
        assert process.stdout is not None
        told = "".join(iter(process.stdout.readline, "}\n")) + "}"
        address = httpx.URL(json.loads(told)["url"])
        data = (archive / "Miller^0" / "0-0.dcm").read_bytes()
        with httpx.Client(base_url=address, timeout=30) as client, ThreadPoolExecutor(4) as threads:
            upload = send(client, data).json()["upload"]
            helpers = children_of(process.pid)
            assert len(helpers) > 1
            body = part("file", data, '; filename="a"') + b"--x--\r\n"
            headers = {
                "Host": "localhost",
                "Content-Type": "multipart/form-data; boundary=x",
                "Content-Length": str(len(body)),
            }
            with socket.create_connection((address.host, address.port or 80), 30) as connection:
                connection.sendall(head([f"POST {API}/uploads HTTP/1.1"], headers) + body[:200])
                asked = {"uploads": [{"upload": upload}, *[{"upload": upload}] * 15], "ids": ids[:1]}
                searches = [threads.submit(client.post, f"{API}/search", json=asked) for _ in range(4)]
                time.sleep(0.3)
                process.terminate()
                time.sleep(0.3)
                connection.sendall(body[200:])
                assert read_all(connection).split()[1] in (b"201", b"503")
            assert {search.result().status_code for search in searches} <= {200, 503}
        assert process.wait(40) == 0
    started = time.monotonic()
    while any(map(alive, helpers)) and time.monotonic() - started < 10:
        time.sleep(0.1)
    assert not any(map(alive, helpers))
    assert list(temporary.iterdir()) == []
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line for line in lines if line["level"] == "error"] == []
