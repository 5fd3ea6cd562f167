"""Who may ask what: no token, a wrong one, too small a role, on every route there is."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from cbmir.web.app import create_app
from cbmir.web.security import COOKIE, Doorkeeper
from cbmir.web.settings import ROLES, Settings
from serving import TOKENS, Running, bearer, running, tokens

FOR_ALL = {"/api/v1/session"}
"""Asks nobody: it is where one signs in."""


@pytest.fixture
def server(served: Path) -> Iterator[Running]:
    with running(served, with_tokens=True) as server:
        yield server


def api_routes() -> list[tuple[str, str, Dependant]]:
    """Method, template and what it depends on, of every route below /api/v1, and /metrics."""
    app = create_app(Settings(gallery=Path("gallery")))
    found = [
        (method, str(context.path), context.dependant)
        for context in iter_route_contexts(app.routes)
        if hasattr(context, "dependant")
        for method in sorted(context.methods or ())
    ]
    return [route for route in found if route[1].startswith("/api/v1") or route[1] == "/metrics"]


def roles_of(dependant: Dependant) -> set[str]:
    """The roles that `allow` asks for, here or in what this depends on."""
    own = {role} if (role := getattr(dependant.call, "role", None)) else set()
    return own.union(*(roles_of(inner) for inner in dependant.dependencies))


def filled(template: str) -> str:
    """A path of this template that names nothing."""
    return "/".join("0" * 32 if part.startswith("{") else part for part in template.split("/"))


GUARDED = [(method, path, roles_of(dependant)) for method, path, dependant in api_routes() if path not in FOR_ALL]


def test_there_are_routes_to_guard() -> None:
    assert {("GET", "/api/v1/jobs"), ("POST", "/api/v1/jobs"), ("GET", "/api/v1/jobs/{job_id}/events")} <= {
        (method, path) for method, path, _ in GUARDED
    }


@pytest.mark.parametrize(("method", "path", "roles"), GUARDED)
def test_every_route_asks_for_one_role(method: str, path: str, roles: set[str]) -> None:
    assert len(roles) == 1
    assert roles <= set(ROLES)


def test_no_route_answers_nobody_or_too_small_a_role(server: Running) -> None:
    answers: dict[str, Any] = {}
    with server.client() as client:
        for method, path, roles in GUARDED:
            answers[f"{method} {path} of nobody"] = client.request(method, filled(path)).status_code
            wrong = client.request(method, filled(path), headers={"Authorization": "Bearer guessed"})
            answers[f"{method} {path} of a wrong token"] = wrong.status_code if wrong.status_code != 429 else 401
            for role in ROLES[: ROLES.index(min(roles))] if roles <= set(ROLES) else ():
                answers[f"{method} {path} of a {role}"] = client.request(
                    method, filled(path), headers=bearer(role)
                ).status_code
    assert {told for told, status in answers.items() if status not in (401, 403)} == set()
    assert {status for told, status in answers.items() if "nobody" in told or "wrong" in told} == {401}


def test_a_role_may_do_what_smaller_ones_may(server: Running) -> None:
    with server.client() as client:
        for role in ROLES:
            assert client.get("/api/v1/jobs", headers=bearer(role)).status_code == 200
        assert client.get("/api/v1/audit", headers=bearer("contributor")).status_code == 403
        assert client.get("/api/v1/audit", headers=bearer("admin")).status_code == 200


def test_a_contributor_may_index_and_not_reindex(server: Running) -> None:
    with server.client("contributor") as client:
        assert client.post("/api/v1/jobs", json={"kind": "reindex", "encoder": "default"}).status_code == 403


def test_an_unknown_address_of_the_api_is_told_only_to_those_who_may_read(server: Running) -> None:
    with server.client() as client:
        assert client.get("/api/v1/nothing").status_code == 401
        assert client.get("/api/v1/nothing", headers=bearer("reader")).status_code == 404


def test_the_page_signs_in_with_a_cookie_that_scripts_and_other_sites_do_not_get(server: Running) -> None:
    with server.client() as client:
        assert client.get("/api/v1/session").json() == {
            "auth": "token", "signed_in": False, "role": None, "name": None,
        }  # fmt: skip
        answer = client.post("/api/v1/session", json={"token": TOKENS["reader"]})
        assert answer.json() == {"auth": "token", "signed_in": True, "role": "reader", "name": "reader-1"}
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert TOKENS["reader"] not in cookie
        assert client.get("/api/v1/jobs").status_code == 200
        stolen = client.cookies[COOKIE]
        assert client.delete("/api/v1/session").json()["signed_in"] is False
        assert client.get("/api/v1/jobs", headers={"Cookie": f"{COOKIE}={stolen}"}).status_code == 401


def test_behind_tls_the_cookie_travels_only_there(served: Path) -> None:
    with running(served, with_tokens=True, secure=True) as server, server.client() as client:
        answer = client.post("/api/v1/session", json={"token": TOKENS["reader"]})
        assert "secure" in answer.headers["set-cookie"].lower()
        assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_a_session_ends_by_itself(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbmir.web.security.SESSION_S", -1.0)
    with server.client() as client:
        client.post("/api/v1/session", json={"token": TOKENS["reader"]})
        assert client.get("/api/v1/jobs").status_code == 401


def test_too_many_wrong_tokens_have_to_wait(served: Path) -> None:
    limits = {"sign_ins_per_minute": 3}
    with running(served, with_tokens=True, limits=limits) as server, server.client() as client:
        tried = [client.post("/api/v1/session", json={"token": f"guess {n}"}).status_code for n in range(5)]
        assert tried == [401, 401, 401, 429, 429]
        answer = client.get("/api/v1/jobs", headers={"Authorization": "Bearer guess"})
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 0
        assert client.get("/api/v1/jobs", headers=bearer("reader")).status_code == 200


def test_a_basic_password_is_no_token(server: Running) -> None:
    with server.client() as client:
        assert client.get("/api/v1/jobs", auth=("admin", TOKENS["admin"])).status_code == 401


def test_every_known_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    same = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(a) or same(a, b))
    keeper = Doorkeeper(Settings(gallery=Path("gallery"), tokens=tokens()))
    for token in (*TOKENS.values(), "guess", "\udcff"):
        compared.clear()
        keeper.known(token)
        assert compared == [known.sha256 for known in tokens()]


def test_without_tokens_this_machine_may_do_everything(served: Path) -> None:
    with running(served) as server, server.client() as client:
        assert client.get("/api/v1/session").json() == {
            "auth": "none", "signed_in": True, "role": "admin", "name": "local",
        }  # fmt: skip
        assert client.get("/api/v1/audit").status_code == 200
