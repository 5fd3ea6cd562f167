"""What is refused before a route is looked for: other hosts, other sites, proxies, what is too long or too much."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.datastructures import Headers

from cbmir.web.guards import SECURITY_HEADERS, Allowance, check_origin, host_name
from cbmir.web.problems import MEDIA_TYPE, Problem
from serving import Running, bearer, read_all, running


@pytest.fixture
def server(served: Path) -> Iterator[Running]:
    with running(served) as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost:8600", "localhost"), ("127.0.0.1", "127.0.0.1"), ("[::1]:8600", "::1"),
        ("EVIL.example", "evil.example"), ("localhost:", "localhost"), ("", None), ("[::1", None),
        ("a@localhost", None), ("localhost/x", None), ("localhost:x", None),
    ],
)  # fmt: skip
def test_the_name_in_a_host_header(host: str, name: str | None) -> None:
    assert host_name(host) == name


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost@evil.example"]
)
def test_a_name_that_leads_here_and_is_not_ours_is_refused(client: httpx.Client, host: str) -> None:
    for path in ("/", "/api/v1/session", "/metrics"):
        answer = client.get(path, headers={"Host": host})
        assert (answer.status_code, answer.json()["title"]) == (421, "Another host")


def test_two_hosts_are_no_host(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert read_all(connection).split()[1] == b"400"


def test_a_probe_may_call_the_server_as_it_likes(client: httpx.Client) -> None:
    assert client.get("/healthz", headers={"Host": "10.0.0.7:8600"}).status_code == 200
    assert client.get("/readyz", headers={"Host": "10.0.0.7:8600"}).status_code == 200


def test_names_of_the_settings_are_ours(served: Path) -> None:
    with running(served, with_tokens=True, hosts=["cbmir.example"]) as server, server.client("reader") as client:
        for host, status in {"CBMIR.example": 200, "cbmir.example:443": 200, "other.example": 421}.items():
            assert client.get("/api/v1/jobs", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://localhost:1"},
     {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}],
)  # fmt: skip
def test_other_sites_can_neither_change_nor_read(client: httpx.Client, headers: dict[str, str]) -> None:
    assert client.post("/api/v1/jobs", json={}, headers=headers).status_code == 403
    assert client.get("/api/v1/jobs", headers=headers).status_code == 403


def test_our_own_page_can(client: httpx.Client, server: Running) -> None:
    own = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    assert client.get("/api/v1/jobs", headers=own).status_code == 200
    assert client.post("/api/v1/jobs", json={}, headers=own).status_code == 422


def test_a_link_of_another_site_to_the_page_is_followed() -> None:
    check_origin({"method": "GET", "path": "/search"}, Headers({"host": "a", "sec-fetch-site": "cross-site"}))


@pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via"])
def test_a_server_without_tokens_answers_no_proxy(client: httpx.Client, name: str) -> None:
    assert client.get("/api/v1/session", headers={name: "203.0.113.7"}).status_code == 403


def test_an_address_and_a_header_have_an_end(client: httpx.Client) -> None:
    assert client.get("/api/v1/jobs?" + "x" * 9000).status_code == 414
    assert client.get("/api/v1/jobs", headers={"X-Long": "x" * 17_000}).status_code == 431
    assert client.get("/api/v1/jobs", headers={f"X-{n}": "x" * 100 for n in range(200)}).status_code == 431


def test_a_body_has_an_end_whether_it_says_so_or_not(client: httpx.Client) -> None:
    long = b" " * (2**18 + 1)
    assert client.post("/api/v1/jobs", content=long).status_code == 413
    answer = client.post("/api/v1/jobs", content=iter([long[:100_000]] * 3))
    assert (answer.status_code, answer.json()["detail"]) == (413, "The body is longer than 256 KiB.")


def test_a_body_that_claims_to_be_gigantic_is_refused_unread(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(b"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999\r\n\r\n")
        assert connection.recv(65536).split()[1] == b"413"


def test_each_caller_has_an_allowance_of_its_own(served: Path) -> None:
    with running(served, with_tokens=True, limits={"requests_per_minute": 3}) as server, server.client() as client:
        asked = [client.get("/api/v1/jobs", headers=bearer("reader")).status_code for _ in range(5)]
        assert asked == [200, 200, 200, 429, 429]
        assert client.get("/api/v1/jobs", headers=bearer("admin")).status_code == 200


def test_an_allowance_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("cbmir.web.guards.time.monotonic", lambda: now)
    allowance = Allowance(per_minute=2)
    allowance.take("a")
    allowance.take("a")
    with pytest.raises(Problem) as caught:
        allowance.take("a")
    assert caught.value.headers == {"Retry-After": "31"}
    allowance.take("b")
    now += 31
    allowance.take("a")
    with pytest.raises(Problem):
        allowance.take("a")


@pytest.mark.parametrize("path", ["/", "/api/v1/session", "/api/v1/nothing", "/healthz", "/nothing/here"])
def test_every_answer_has_the_headers_that_keep_others_out(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    assert {name: headers.get(name) for name in SECURITY_HEADERS} == dict(SECURITY_HEADERS)
    assert len(headers["x-request-id"]) == 16
    assert "server" not in headers
    assert "access-control-allow-origin" not in headers


def test_answers_of_the_api_are_not_kept_by_browsers(client: httpx.Client) -> None:
    assert client.get("/api/v1/jobs").headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/v1/nothing", None, 404), ("PUT", "/api/v1/jobs", None, 405), ("BREW", "/api/v1/jobs", None, 405),
        ("POST", "/api/v1/jobs", b"{", 422), ("POST", "/api/v1/jobs", b"\xff\xfe", 422),
        ("POST", "/api/v1/jobs", b'{"kind":"index","root":"ZQXCANARY","more":1}', 422),
        ("POST", "/api/v1/jobs", b'{"kind":"ZQXCANARY"}', 422), ("POST", "/api/v1/jobs", b"[" * 100_000, 400),
        ("GET", "/api/v1/audit?limit=ZQXCANARY", None, 422),
    ],
)  # fmt: skip
def test_every_error_is_a_problem_and_repeats_nothing(
    client: httpx.Client, method: str, path: str, body: bytes | None, status: int
) -> None:
    answer = client.request(method, path, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, MEDIA_TYPE)
    assert answer.json()["status"] == status
    assert answer.json()["detail"].endswith((".", "errors."))
    assert "ZQXCANARY" not in answer.text
