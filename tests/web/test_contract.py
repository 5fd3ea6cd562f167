"""The API against its own description: Schemathesis asks what the description allows, and what it does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from cbmir.gallery import Gallery
from cbmir.jobs import IndexSettings, index_into
from serving import TOKENS, Running, running
from small_network import save_mobile

TESTS = Path(__file__).resolve().parent.parent
PLENTY = {"uploads_per_minute": 100_000, "requests_per_minute": 1_000_000, "sign_ins_per_minute": 100_000}
CONFIG = """
hooks = "contract"
request-timeout = 120
[generation]
deterministic = true
[phases.coverage]
unexpected-methods = ["patch"]
[warnings]
enabled = false
[checks.negative_data_rejection]
expected-statuses = ["4xx"]
[checks.positive_data_acceptance]
enabled = false
[[operations]]
include-path = "/api/v1/uploads"
checks.negative_data_rejection.enabled = false
[[operations]]
include-path-regex = "/jobs/"
checks.use_after_free.enabled = false
"""
"""use_after_free: a job that was cancelled is still told of.
negative_data_rejection: a file in place of what was drawn is taken for wrong, being bytes.
positive_data_acceptance: what a search can mean is more than a schema says, and told in sentences.
"""
ENCODER = "own"
"""What a reindex job goes over to: the one the gallery has, so that the others find their layers."""
NETWORK = "/(explain|export|search|gallery)$"


def write_report(folder: Path) -> Path:
    """As evaluate leaves one, as far as a list of reports needs it."""
    (folder / "figures").mkdir(parents=True)
    metrics = {"encoder": "pixels", "n_queries": 3, "n_gallery": 9, "retrieval": {"pixels": {"off": {"mAP": 1 / 3}}}}
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    (folder / "figures" / "roc.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>", encoding="utf-8")
    (folder / "figures" / "hits.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def known(server: Running, gallery: Path, files: list[Path], counts: Path) -> dict[str, Any]:
    """What contract.py fills in. A job runs to its end, so that there is one to ask for."""
    with server.client("admin") as client:
        job = client.post("/api/v1/jobs", json={"kind": "index", "root": "ward"}).raise_for_status().json()["id"]
        with client.stream("GET", f"/api/v1/jobs/{job}/events", timeout=120) as events:
            assert "event: end" in "".join(events.iter_text())
        [folder, *_] = client.get("/api/v1/roots/ward/folders").json()["folders"]
        uploads = [
            client.post("/api/v1/uploads", files={"file": files[0].read_bytes()}).raise_for_status().json()["upload"]
            for _ in range(12)
        ]
    with Gallery.open(gallery) as opened:
        ids, layer = opened.ids(), opened.default_layer
        [series, *_] = sorted(record.series for record in opened.records(ids).values() if record.series)
    return {
        "ids": ids, "series": series, "uploads": uploads, "layer": layer, "encoder": ENCODER,
        "job": job, "root": "ward",
        "folder": folder["path"], "report": "report", "figures": ["roc.svg", "hits.png"],
        "files": [str(path) for path in files], "token": TOKENS["reader"], "counts": str(counts),
    }  # fmt: skip


def ask_everything(gallery: Path, ward: Path, tmp_path: Path, *options: str) -> dict[str, Counter[int]]:
    """How often each operation answered with each status. Fails where an answer is not as the description has it."""
    counts = tmp_path / "counts.txt"
    (tmp_path / "schemathesis.toml").write_text(CONFIG, encoding="utf-8")
    files = [ward / "Miller^0" / "0-0.dcm", ward / "Miller^2" / "cine.dcm"]
    settings = {
        "roots": {"ward": ward},
        "encoders": {ENCODER: tmp_path / "encoder"},
        "reports": (write_report(tmp_path / "report"),),
        "limits": PLENTY,
    }
    with running(gallery, with_tokens=True, **settings) as server:
        told = known(server, gallery, files, counts)
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "run",
             f"{server.url}/api/v1/openapi.json", "--header", f"Authorization: Bearer {TOKENS['admin']}",
             "--no-color", "--continue-on-failure", *options],
            cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, "CBMIR_CONTRACT": json.dumps(told), "PYTHONPATH": str(TESTS)},
        )  # fmt: skip
    assert done.returncode == 0, "\n".join(line[:500] for line in (done.stdout + done.stderr).splitlines())
    answers: dict[str, Counter[int]] = defaultdict(Counter)
    for line in counts.read_text(encoding="utf-8").splitlines():
        operation, status = line.split("\t")
        answers[operation][int(status)] += 1
    return answers


def unanswered(answers: dict[str, Counter[int]]) -> dict[str, str]:
    """Operations that refuse more than half of what they could answer, of jobs all: only one runs at a time."""
    least = dict.fromkeys(answers, 0.5) | {"POST /api/v1/jobs": 1e-9}
    share = {
        name: sum(n for status, n in told.items() if status < 300) / told.total() for name, told in answers.items()
    }
    return {name: str(dict(told)) for name, told in answers.items() if share[name] < least[name]}


def test_every_answer_is_as_described(served: Path, ward: Path, tmp_path: Path) -> None:
    options = ["--phases", "coverage,fuzzing", "--max-examples", "4", "--exclude-path-regex", "/(explain|export)$"]
    answers = ask_everything(served, ward, tmp_path, *options)
    assert len(answers) == 33
    assert unanswered(answers) == {}


def test_and_those_of_a_network(ward: Path, tmp_path: Path) -> None:
    encoder = save_mobile(tmp_path / "encoder", classes=("bright", "dark"))
    index_into(tmp_path / "g", [ward], encoder_name=str(encoder), settings=IndexSettings(workers=0))
    options = ["--phases", "fuzzing", "--max-examples", "8", "--include-path-regex", NETWORK]
    answers = ask_everything(tmp_path / "g", ward, tmp_path, *options)
    assert len(answers) == 4
    assert unanswered(answers) == {}


@pytest.mark.long
def test_every_answer_to_many_more_requests_too(ward: Path, tmp_path: Path) -> None:
    encoder = save_mobile(tmp_path / "encoder", classes=("bright", "dark"))
    index_into(tmp_path / "g", [ward], encoder_name=str(encoder), settings=IndexSettings(workers=0))
    options = ["--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "200"]
    answers = ask_everything(tmp_path / "g", ward, tmp_path, *options)
    assert len(answers) == 35
    assert unanswered(answers) == {}
