"""What an address takes: methods of the API beside a page that is mounted over everything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cbmir.web.problems import MEDIA_TYPE
from serving import running

OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")


@pytest.fixture(params=["with the page", "without it"])
def client(
    served: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[httpx.Client]:
    page = tmp_path / "page"
    page.mkdir()
    if request.param == "with the page":
        (page / "index.html").write_text("<!doctype html><title>cbmir</title>", encoding="utf-8")
    monkeypatch.setattr("cbmir.web.page.BUILT", page)
    with running(served) as server, server.client() as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "search", {"POST"}), ("OPTIONS", "search", {"POST"}), ("PUT", "search", {"POST"}),
        ("OPTIONS", "jobs", {"GET", "POST"}), ("PATCH", "jobs", {"GET", "POST"}),
        ("POST", f"uploads/{'a' * 43}", {"GET", "DELETE"}), ("TRACE", "session", {"GET", "POST", "DELETE"}),
        ("DELETE", f"records/{'0' * 32}/frame", {"GET"}), ("HEAD", "gallery", {"GET"}), ("GIT", "records", {"GET"}),
    ],
)  # fmt: skip
def test_another_method_is_told_those_that_an_address_takes(
    client: httpx.Client, method: str, path: str, allowed: set[str]
) -> None:
    answer = client.request(method, f"/api/v1/{path}")
    assert (answer.status_code, answer.headers["content-type"]) == (405, MEDIA_TYPE)
    assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT"])
def test_below_the_api_there_is_no_page(client: httpx.Client, method: str) -> None:
    answer = client.request(method, "/api/v1/nothing/here")
    assert (answer.status_code, answer.headers["content-type"]) == (404, MEDIA_TYPE)


@pytest.mark.parametrize("header", OVERRIDES)
def test_a_method_is_not_overridden(client: httpx.Client, header: str) -> None:
    assert client.post("/api/v1/search", json={}, headers={header: "DELETE"}).status_code == 422
    assert client.get("/api/v1/jobs", headers={header: "POST"}).json() == []
    assert client.get("/api/v1/jobs?_method=POST").json() == []
