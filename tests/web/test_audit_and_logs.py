"""Who asked for what is written down before it is answered; what a person typed, or a file holds, never is."""

from __future__ import annotations

import json
import logging
import os
import stat
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from cbmir.errors import UsageError
from cbmir.web.audit import Audit, ids_only
from cbmir.web.logs import JsonLines, setup_logs
from serving import Running, bearer, running

CANARY = "ZQXCANARY"
ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def server(served: Path) -> Iterator[Running]:
    with running(served, with_tokens=True) as server:
        yield server


def test_who_asked_for_what(server: Running) -> None:
    with server.client() as client:
        client.get(f"/api/v1/jobs/{ID}", headers=bearer("reader"))
        client.get("/api/v1/jobs")
        answer = client.get("/api/v1/audit?limit=2", headers=bearer("admin"))
    newest, before = answer.json()["lines"]
    assert (newest["who"], newest["status"], newest["address"]) == (None, 401, "127.0.0.1")
    told = {name: before[name] for name in ("who", "role", "method", "route", "status", "job_id")}
    assert told == {
        "who": "reader-1", "role": "reader", "method": "GET", "route": "/api/v1/jobs/{job_id}", "status": 404,
        "job_id": ID,
    }  # fmt: skip
    assert len(before["request"]) == 16


def test_sign_ins_that_fail_are_written_down_and_tokens_are_not(server: Running) -> None:
    with server.client() as client:
        client.post("/api/v1/session", json={"token": f"cbmir_{CANARY}"})
    line = server.audit()[-1]
    assert (line["who"], line["route"], line["status"]) == (None, "/api/v1/session", 401)
    assert CANARY not in server.context.audit.path.read_text(encoding="ascii")


def test_what_a_person_typed_is_in_neither_log_nor_metrics(
    served: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    setup_logs()
    logging.captureWarnings(False)
    with running(served) as server, server.client() as client:
        client.get(f"/api/v1/jobs/{CANARY}?where={CANARY}", headers={"User-Agent": CANARY, "Referer": CANARY})
        client.get(f"/{CANARY}")
        client.post(f"/api/v1/{CANARY}", json={"a": CANARY})
        client.post("/api/v1/jobs", json={"kind": "index", "root": CANARY, "folder": CANARY, CANARY: CANARY})
        client.request(CANARY, "/api/v1/jobs")
        client.get("/api/v1/session", headers={"Host": f"{CANARY}.example", "X-Request-ID": CANARY})
        told = client.get("/metrics").text
        audit = server.context.audit.path.read_text(encoding="ascii")
    log = capfd.readouterr().err
    assert log.count("\n") > 6
    assert all(json.loads(line) for line in log.splitlines())
    method = f'"method": "{CANARY}"'
    assert CANARY not in told
    assert CANARY not in audit.replace(f'"method":"{CANARY}"', "")
    assert CANARY not in log.replace(method, "")


def test_nothing_is_answered_that_cannot_be_written_down(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with server.client("reader") as client:
        assert client.get("/api/v1/jobs").status_code == 200
        monkeypatch.setattr("cbmir.web.audit.os.write", full)
        answer = client.get("/api/v1/jobs")
        assert (answer.status_code, answer.json()["title"]) == (503, "No audit log")
        monkeypatch.undo()
        assert client.get("/api/v1/jobs").status_code == 200


def test_an_audit_log_that_is_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with Audit(path) as audit:
        audit.write({"n": 1})
        path.rename(tmp_path / "audit.1")
        audit.write({"n": 2})
        assert [line["n"] for line in audit.last(10)] == [2]
    assert json.loads((tmp_path / "audit.1").read_text(encoding="ascii"))["n"] == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_last_lines_are_whole_however_long_the_log_is(tmp_path: Path) -> None:
    with Audit(tmp_path / "audit.jsonl") as audit:
        for n in range(3000):
            audit.write({"n": n, "filler": "x" * 500})
        assert [line["n"] for line in audit.last(3)] == [2999, 2998, 2997]
        assert 1000 < len(audit.last(10_000)) < 3000


def test_no_server_without_an_audit_log(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="audit log"), Audit(tmp_path / "nothing" / "audit.jsonl"):
        pass


def test_of_what_stands_for_an_id_only_ids_are_noted() -> None:
    assert ids_only([ID, "Miller^Ann", ID.upper(), ID + "0"]) == [ID]


def formatted(record: logging.LogRecord) -> str:
    return JsonLines().format(record)


def test_of_an_exception_the_log_tells_where_and_not_what() -> None:
    try:
        int(CANARY)
    except ValueError:
        told = formatted(logging.LogRecord("cbmir.web", logging.ERROR, "", 0, "a request failed", (), sys.exc_info()))
    line = json.loads(told)
    assert (line["exception"], line["message"]) == ("ValueError", "a request failed")
    assert line["where"][0].startswith("test_audit_and_logs.py:")
    assert CANARY not in told
    assert os.sep not in line["where"][0]


@pytest.mark.parametrize("name", ["py.warnings", "asyncio", "pydicom", "root"])
def test_messages_of_libraries_are_told_without_what_they_quote(name: str) -> None:
    filled = formatted(logging.LogRecord(name, logging.WARNING, "", 0, "bad value %s", (CANARY,), None))
    whole = formatted(logging.LogRecord(name, logging.WARNING, "", 0, f"bad value {CANARY}", (), None))
    assert "bad value %s" in filled
    assert CANARY not in filled + whole


def test_warnings_go_to_the_log(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    setup_logs()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(False)
            logging.captureWarnings(True)
            warnings.warn(CANARY, stacklevel=1)
    finally:
        logging.captureWarnings(False)
    told = capfd.readouterr().err
    assert json.loads(told)["logger"] == "py.warnings"
    assert CANARY not in told
