"""docs/api.md cannot lie: its programs run against a real server, and print what the page says."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from cbmir.jobs import IndexSettings, index_into
from cbmir.web.app import create_app
from cbmir.web.models import ExplainRequest, FrameHeader, SearchRequest
from cbmir.web.settings import Settings
from scans import KEY, write_scans
from serving import bearer, running

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
TEXT = PAGE.read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


def test_its_programs_print_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_scans(tmp_path / "scans")
    (folder / "key").write_text(KEY)
    monkeypatch.setenv("CBMIR_KEY_FILE", str(folder / "key"))
    monkeypatch.chdir(folder)
    settings = IndexSettings(workers=0)
    index_into(folder / "gallery", [folder / "archive"], encoder_name="pixels", settings=settings)
    with running(folder / "gallery", with_tokens=True) as server:
        names: dict[str, Any] = {"SERVER": server.url, "HEADERS": bearer("reader")}
        printed = []
        for program in blocks("python"):
            out = StringIO()
            with redirect_stdout(out):
                exec(compile(program, PAGE.name, "exec"), names)
            printed.append(out.getvalue())
        names["client"].close()
    assert printed == blocks("text")
    assert len(printed) == 2


def test_it_names_every_field_of_a_search_and_of_a_frame() -> None:
    for model in (SearchRequest, ExplainRequest, FrameHeader):
        assert {name for name in model.model_fields if f"`{name}`" not in TEXT} == set()


def test_it_names_every_address_of_the_data(served: Path) -> None:
    paths = create_app(Settings(gallery=served)).openapi()["paths"]
    elsewhere = ("/session", "/jobs", "/roots", "/audit", "/atlas", "/healthz", "/readyz", "/metrics")
    for path in paths:
        first = "/" + path.removeprefix("/api/v1/").split("/")[0]
        if first not in elsewhere and path not in elsewhere:
            assert f"{first}" in TEXT, path
