"""The process that serves: clients it does not wait for, how it ends, where it does not begin."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from cbmir.cli import cli
from cbmir.errors import UsageError
from cbmir.web.server import listen
from serving import Running, bearer, head, read_all, running

HASTY = {"header_s": 0.5, "body_idle_s": 0.5, "write_s": 0.5, "keep_alive_s": 1}
MANY = 20.0
"""Seconds after which a server is said to wait for ever."""


@pytest.fixture
def hasty(served: Path) -> Iterator[Running]:
    with running(served, limits=HASTY) as server:
        yield server


def closed_after_s(connection: socket.socket) -> tuple[float, bytes]:
    started = time.monotonic()
    connection.settimeout(MANY)
    try:
        return time.monotonic() - started, read_all(connection)
    except ConnectionResetError:
        return time.monotonic() - started, b""


def cut_off(connection: socket.socket, sent: bytes, pause_s: float) -> bool:
    """Whether the other side ends the connection while this is sent again and again, before anybody loses patience."""
    started = time.monotonic()
    try:
        while time.monotonic() - started < MANY:
            connection.sendall(sent)
            time.sleep(pause_s)
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


def lives(server: Running) -> bool:
    with server.client() as client:
        return client.get("/healthz").status_code == 200


def test_a_connection_that_says_nothing_is_closed(hasty: Running) -> None:
    with hasty.connect() as connection:
        assert closed_after_s(connection)[1] == b""
    assert lives(hasty)


def test_a_head_that_comes_byte_by_byte_is_not_waited_for(hasty: Running) -> None:
    with hasty.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
        assert cut_off(connection, b"x", pause_s=0.05)
    assert lives(hasty)


def test_nor_a_second_head_on_a_connection_that_is_kept(hasty: Running) -> None:
    with hasty.connect() as connection:
        connection.sendall(head(["GET /healthz HTTP/1.1"], {"Host": "localhost"}))
        answer = b""
        while not answer.endswith(b'{"status":"ok"}'):
            answer += connection.recv(65536)
        connection.sendall(b"GET /he")
        assert closed_after_s(connection)[1] == b""


def test_a_body_that_does_not_come_is_not_waited_for(hasty: Running) -> None:
    with hasty.connect() as connection:
        connection.sendall(
            head(["POST /api/v1/session HTTP/1.1"], {"Host": "localhost", "Content-Length": "100"}) + b'{"to'
        )
        answer = closed_after_s(connection)[1]
    assert answer.split()[1] == b"408"
    assert lives(hasty)


def test_nor_one_that_comes_in_drops(served: Path) -> None:
    """Each drop in time, all of them too late: it would hold a connection for hours."""
    limits = {"body_idle_s": 1.0, "body_bytes_per_s": 2**14}
    with running(served, limits=limits) as server, server.connect() as connection:
        headers = {"Host": "localhost", "Transfer-Encoding": "chunked"}
        connection.sendall(head(["POST /api/v1/session HTTP/1.1"], headers))
        connection.settimeout(0.1)
        started, answer = time.monotonic(), b""
        while not answer:
            assert time.monotonic() - started < MANY
            connection.sendall(b"1\r\n \r\n")
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                continue
        assert answer.split()[1] == b"408"


def test_a_client_that_sends_on_after_its_answer_is_cut_off(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbmir.web.server.LINGER_S", 0.3)
    with running(served, with_tokens=True) as server, server.connect() as connection:
        headers = {"Host": "localhost", "Transfer-Encoding": "chunked"}
        connection.sendall(head(["POST /api/v1/uploads HTTP/1.1"], headers))
        assert connection.recv(65536).split()[1] == b"401"
        assert cut_off(connection, b"1\r\n \r\n", pause_s=0.05)


def test_a_client_that_ends_its_body_after_its_answer_goes_on(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbmir.web.server.LINGER_S", 0.3)
    with running(served, with_tokens=True) as server, server.connect() as connection:
        connection.sendall(head(["POST /api/v1/uploads HTTP/1.1"], {"Host": "localhost", "Content-Length": "1"}))
        assert connection.recv(65536).split()[1] == b"401"
        connection.sendall(b"x")
        time.sleep(0.6)
        connection.sendall(head(["GET /healthz HTTP/1.1"], {"Host": "localhost"}))
        assert connection.recv(65536).split()[1] == b"200"


def test_a_client_that_does_not_read_its_answer_is_cut_off(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "page" / "assets").mkdir(parents=True)
    (tmp_path / "page" / "index.html").touch()
    (tmp_path / "page" / "assets" / "large").write_bytes(bytes(2**26))  # more than the system holds for a socket
    monkeypatch.setattr("cbmir.web.page.BUILT", tmp_path / "page")
    with running(served, limits=HASTY) as server, server.connect() as connection:
        connection.sendall(head(["GET /assets/large HTTP/1.1"], {"Host": "localhost"}))
        held = server.server.server_state.connections
        assert eventually(lambda: held)
        assert eventually(lambda: not held)
        assert lives(server)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 2**20, b"431"),
        (b"GET /" + b"x" * 2**20, b"431"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost : localhost\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", b"400"),
    ],
    ids=["huge header", "huge address", "TLS", "space before colon", "two lengths", "negative length"],
)
def test_what_is_no_http_gets_a_problem_and_a_closed_connection(hasty: Running, sent: bytes, status: bytes) -> None:
    with hasty.connect() as connection:
        try:
            connection.sendall(sent)
            answer = closed_after_s(connection)[1]
        except (ConnectionResetError, BrokenPipeError):
            answer = b""  # it was closed while we were sending
        assert not answer or (answer.split()[1] == status and b"application/problem+json" in answer)
    assert lives(hasty)


def test_a_chunk_that_is_none_ends_the_connection_only(hasty: Running) -> None:
    with hasty.connect() as connection:
        headers = {"Host": "localhost", "Transfer-Encoding": "chunked"}
        connection.sendall(head(["POST /api/v1/session HTTP/1.1"], headers) + b"not a number\r\n")
        assert closed_after_s(connection)[1].split()[1] == b"400"
    assert lives(hasty)


def test_more_connections_than_there_may_be_are_turned_away(served: Path) -> None:
    with running(served, limits={"connections": 5}) as server:
        held = [server.connect() for _ in range(8)]
        try:
            with server.client() as client:
                assert client.get("/healthz").status_code == 503
        finally:
            for connection in held:
                connection.close()
        assert eventually(lambda: lives(server))


def eventually(check: Any, patience_s: float = MANY) -> bool:
    started = time.monotonic()
    while not check():
        if time.monotonic() - started > patience_s:
            return False
        time.sleep(0.05)
    return True


# --- a server in a process of its own


def started(arguments: list[str], folder: Path) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """`cbmir serve`, and what it says once it is there."""
    log = (folder / "log.jsonl").open("w", encoding="utf-8")
    with log:
        process = subprocess.Popen(
            [sys.executable, "-m", "cbmir", "serve", "--port", "0", "--json", *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=folder,
        )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if line.startswith("}"):
            break
    return process, json.loads(said)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_requests_end_and_then_the_process(served: Path, tmp_path: Path, signal_number: int) -> None:
    process, told = started(["--gallery", str(served)], tmp_path)
    with process:
        address = httpx.URL(told["url"])
        with socket.create_connection((address.host, address.port or 80), MANY) as connection:
            body = b'{"token": "any"}'
            headers = {
                "Host": "localhost", "Content-Type": "application/json", "Content-Length": str(len(body)),
            }  # fmt: skip
            connection.sendall(head(["POST /api/v1/session HTTP/1.1"], headers) + body[:5])
            time.sleep(0.3)
            process.send_signal(signal_number)
            time.sleep(0.5)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((address.host, address.port or 80), 1)
            connection.sendall(body[5:])
            assert read_all(connection).split()[1] == b"200"
        assert process.wait(MANY) == 0
    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert all({"at", "level", "logger", "message"} <= json.loads(line).keys() for line in lines)


def test_a_second_signal_does_not_wait_for_requests(served: Path, tmp_path: Path) -> None:
    process, told = started(["--gallery", str(served)], tmp_path)
    with process:
        address = httpx.URL(told["url"])
        with socket.create_connection((address.host, address.port or 80), MANY) as connection:
            headers = {"Host": "localhost", "Content-Length": "9"}
            connection.sendall(head(["POST /api/v1/session HTTP/1.1"], headers))
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            asked = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.wait(MANY)
            assert time.monotonic() - asked < 8  # body_idle_s alone is ten


def serve(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "cbmir", "serve", *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "some.example"])
def test_a_server_that_others_can_reach_does_not_begin_without_tokens(served: Path, host: str) -> None:
    code, said = serve("--gallery", str(served), "--host", host, "--port", "0")
    assert code == 2
    assert "needs tokens" in said
    assert "--new-token" in said


def test_a_token_is_made_told_once_and_works(served: Path, tmp_path: Path) -> None:
    made = CliRunner().invoke(cli, ["serve", "--new-token", "reading-room", "--role", "reader", "--json"])
    told = json.loads(made.output)
    assert told["token"] not in told["toml"]
    config = tmp_path / "cbmir.toml"
    config.write_text('[web]\ngallery = "gallery"\nhost = "0.0.0.0"\n' + told["toml"], encoding="utf-8")
    process, said = started(["--config", str(config)], tmp_path)
    with process:
        url = said["url"].replace("0.0.0.0", "127.0.0.1") + "api/v1/session"
        assert said["auth"] == "token"
        answer = httpx.get(url, headers={"Authorization": f"Bearer {told['token']}"})
        assert answer.json() == {"auth": "token", "signed_in": True, "role": "reader", "name": "reading-room"}
        process.terminate()
        assert process.wait(MANY) == 0
    assert "unencrypted" in (tmp_path / "log.jsonl").read_text(encoding="utf-8")


def test_a_port_that_is_taken_is_told_in_a_sentence() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(UsageError, match="cannot listen"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_a_gallery_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    code, said = serve("--gallery", str(tmp_path / "nothing"), "--port", "0")
    assert (code, said.count("\n")) == (1, 1)


def test_a_key_that_is_not_the_gallerys_is_told_at_once(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = served.parent / "other.key"
    key.write_text("ab" * 32, encoding="ascii")
    monkeypatch.setenv("CBMIR_KEY_FILE", str(key))
    assert serve("--gallery", str(served), "--port", "0")[0] == 1


def test_tls_without_a_proxy(served: Path, tmp_path: Path) -> None:
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("openssl is not here")
    files = {"certificate": tmp_path / "cert.pem", "private_key": tmp_path / "key.pem"}
    with running(served, with_tokens=True, **files) as server:
        import ssl

        context = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        answer = httpx.get(f"https://127.0.0.1:{server.port}/api/v1/session", headers=bearer("reader"), verify=context)
        assert answer.json()["signed_in"] is True
        assert "strict-transport-security" in answer.headers
