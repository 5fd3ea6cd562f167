"""Hooks of Schemathesis, for tests/web/test_contract.py: names that exist, one more check, and a count of the answers.

Schemathesis runs as a program of its own: once imported it changes Hypothesis for every other test of the process.
What is drawn comes from the number of the request, so that a run can be repeated.
"""

from __future__ import annotations

import json
import os
import random
from itertools import count
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis.core import NOT_SET
from schemathesis.core.parameters import ParameterLocation

KNOWN: dict[str, Any] = json.loads(os.environ["CBMIR_CONTRACT"])
"""{"ids", "series", "layer", "encoder", "uploads": names, "job", "root", "folder", "report", "figures", "files": paths,
"token", "counts": where to}."""
FILTERS = ("rows=12", "modality=OT and not rows>12", "class in (bright, dark)", "", "nothing=at all")
uploads: list[str] = KNOWN["uploads"]
meant_well: set[str] = set()
numbers = count()


def drawn(name: str, draw: random.Random) -> Any:
    """A value for a field of this name that the server can do something with; KeyError for none."""
    some = draw.sample(KNOWN["ids"], 2)
    upload = {"upload": draw.choice(uploads), "frame": draw.choice([None, 1])} if uploads else None
    return {
        "ids": some[: draw.randrange(3)], "id": some[0], "hit": some[1], "record_id": some[0], "v": None,
        "like": some[:1] if draw.random() < 0.3 else [], "unlike": some[1:] if draw.random() < 0.3 else [],
        "uploads": [upload] if upload else [], "upload": None, "all_frames": False,
        "series": draw.choice([None, None, KNOWN["series"]]), "k": draw.randrange(1, 500), "offset": draw.randrange(9),
        "layer": draw.choice([None, None, KNOWN["layer"]]), "gate": "off", "rerank": "none",
        "where": draw.choice([None, *FILTERS]), "region": draw.choice([None, None, [1, 2, 5, 6]]),
        "job_id": KNOWN["job"], "root": KNOWN["root"], "folder": "",
        "encoder": KNOWN["encoder"], "token": KNOWN["token"],
        "path": draw.choice(["", KNOWN["folder"]]), "number": 1, "frame": 1,
        "x0": -9.0, "y0": -9.0, "x1": 9.0, "y1": 9.0,
    }[name]  # fmt: skip


def name_of(path: str, draw: random.Random) -> str:
    """For {name}, which means another thing in each place."""
    if "/uploads/" in path and uploads:
        return draw.choice(uploads)
    return KNOWN["root"] if "/roots/" in path else KNOWN["report"]


def filled(values: Any, path: str, draw: random.Random) -> Any:
    """The same with names that exist, and sizes of these images; what is not there stays away."""
    if not isinstance(values, dict):
        return values
    changed = {}
    for field, value in values.items():
        if field == "name":
            changed[field] = name_of(path, draw)
        elif field == "file":
            changed[field] = draw.choice(KNOWN["figures"]) if "figures" in path else contents(draw)
        elif field == "search":
            changed[field] = searching(filled(value, path, draw))
        else:
            try:
                changed[field] = drawn(field, draw)
            except KeyError:
                changed[field] = value
    return changed


def contents(draw: random.Random) -> bytes:
    return Path(draw.choice(KNOWN["files"])).read_bytes()


def complete(body: Any, path: str) -> Any:
    if path.endswith("/explain") and isinstance(body, dict):
        body["id"] = KNOWN["ids"][0]
    return searching(body) if path.endswith("/search") else body


def searching(body: Any) -> Any:
    """A search needs something to search by, a region one picture."""
    if isinstance(body, dict):
        if not any(body.get(field) for field in ("ids", "uploads", "series")):
            body["ids"] = KNOWN["ids"][:1]
        if len(body.get("ids") or []) + len(body.get("uploads") or []) != 1 or body.get("series"):
            body["region"] = None
    return body


def is_meant_well(case: Any) -> bool:
    """Whether nothing of it was made to be wrong, its method included."""
    if case.meta is None or case.method != case.operation.method.upper():
        return False
    return not any(part.mode.is_negative for part in (case.meta.generation, *case.meta.components.values()))


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Of what was made to be valid three quarters get names that exist; what was made to be wrong stays wrong."""
    draw = random.Random(next(numbers))
    if not is_meant_well(case):
        return
    meant_well.add(case.id)
    if draw.random() < 0.25:
        return
    components = case.meta.components
    path = case.operation.path
    if ParameterLocation.PATH in components:
        case.path_parameters = filled(case.path_parameters, path, draw)
    if ParameterLocation.QUERY in components:
        told = filled(case.query, path, draw)
        case.query = {name: value for name, value in told.items() if value is not None} if case.query else case.query
    if case.body is not NOT_SET:
        body = filled(case.body, path, draw)
        case.body = complete(body, path)


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Counts what became of requests that could be answered, and learns the names of uploads."""
    if case.id in meant_well:
        with Path(KNOWN["counts"]).open("a", encoding="utf-8") as file:
            print(f"{case.operation.label}\t{response.status_code}", file=file)
    if case.operation.path.endswith("/uploads") and response.status_code == 201:
        uploads.append(response.json()["upload"])
        del uploads[:-20]
    if case.operation.path.endswith("/uploads/{name}") and response.status_code == 204:
        uploads[:] = [name for name in uploads if name != case.path_parameters["name"]]


@schemathesis.check
def an_error_is_a_sentence(ctx: Any, response: Any, case: Any) -> None:
    """And a problem as RFC 9457 has it, with no field more."""
    if response.status_code < 400:
        return
    assert response.headers["content-type"] == ["application/problem+json"], response.headers
    told = response.json()
    assert set(told) == {"type", "title", "status", "detail", "errors", "outcome"}, told
    assert told["status"] == response.status_code, told
    assert told["title"], told
    assert told["detail"].endswith((".", "errors.")), told
    assert told["detail"][:1].isupper(), told


@schemathesis.check
def pixels_are_as_they_are_described(ctx: Any, response: Any, case: Any) -> None:
    """X-Frame, whose schema is of JSON inside a header, which Schemathesis does not look into."""
    if response.status_code != 200 or not case.operation.path.endswith(("/frame", "/frames/{number}")):
        return
    from cbmir.web.models import FrameHeader

    [line] = response.headers["x-frame"]
    told = FrameHeader.model_validate_json(line)
    n_bytes = told.rows * told.columns * told.channels * {"int16": 2, "uint8": 1}[told.dtype]
    assert len(response.content) == n_bytes, told
