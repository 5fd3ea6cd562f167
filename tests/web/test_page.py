"""The built page: its files, index.html for addresses it reads itself, and what it says where it is not built."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serving import Running, head, read_all, running

INDEX = "<!doctype html><title>cbmir</title>"


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "page"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text(INDEX, encoding="utf-8")
    (folder / "assets" / "main-1a2b.js").write_text("export {}", encoding="utf-8")
    (tmp_path / "secret.txt").write_text("ZQXCANARY", encoding="utf-8")
    (folder / "assets" / "out").symlink_to(tmp_path)
    monkeypatch.setattr("cbmir.web.page.BUILT", folder)
    return folder


@pytest.fixture
def server(served: Path, built: Path) -> Iterator[Running]:
    with running(served) as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/index.html", "/search?ids=a", "/records/0123", "/jobs"])
def test_addresses_of_the_page_give_its_one_document(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.text) == (200, INDEX)
    assert answer.headers["cache-control"] == "no-cache"


def test_a_file_named_after_its_content_is_kept_for_ever(client: httpx.Client) -> None:
    answer = client.get("/assets/main-1a2b.js")
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize("path", ["/", "/assets/main-1a2b.js"])
def test_what_a_browser_has_is_not_sent_again(client: httpx.Client, path: str) -> None:
    tag = client.get(path).headers["etag"]
    answer = client.get(path, headers={"If-None-Match": tag})
    assert (answer.status_code, answer.content) == (304, b"")


@pytest.mark.parametrize("path", ["/assets/main-0000.js", "/api/v2", "/api/v1/nothing"])
def test_what_is_no_page_is_not_found(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "target",
    ["/../secret.txt", "/%2e%2e/secret.txt", "/assets/../../secret.txt", "/..%2fsecret.txt", "//etc/passwd",
     "/assets/%2e%2e%2f%2e%2e%2fsecret.txt", "/assets/out/secret.txt", "/%00", "/..%5csecret.txt", "/%ff"],
)  # fmt: skip
def test_nothing_outside_the_page_is_given(server: Running, target: str) -> None:
    with server.connect() as connection:
        connection.sendall(head([f"GET {target} HTTP/1.1"], {"Host": "localhost", "Connection": "close"}))
        answer = read_all(connection)
    assert answer.split()[1] in (b"200", b"400", b"404")
    assert b"ZQXCANARY" not in answer
    assert b"root:" not in answer
    assert answer.split()[1] != b"200" or answer.endswith(INDEX.encode())


def test_the_page_takes_only_reads(client: httpx.Client) -> None:
    assert client.post("/").status_code == 405


def test_where_it_is_not_built_it_says_how(served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbmir.web.page.BUILT", tmp_path / "nothing")
    with running(served) as server, server.client() as client:
        answer = client.get("/")
        assert answer.status_code == 503
        assert "make page" in answer.text
