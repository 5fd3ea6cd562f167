"""Evaluations that were made, from the folders the settings name: nothing else of the disk is ever looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi import Path as InPath

from ..answers import Reader
from ..context import context_of
from ..models import ReportLine
from ..problems import Problem, unknown

router = APIRouter(tags=["reports"])
Name = Annotated[str, InPath(max_length=255)]
METRICS = "metrics.json"
KINDS: Mapping[str, str] = {".png": "image/png", ".svg": "image/svg+xml"}
FIGURE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A figure.",
        "content": {kind: {"schema": {"type": "string"}} for kind in KINDS.values()},
    }
}
DRAWN_ALONE = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""An SVG that is opened by itself may bring its styles, and runs nothing."""


@router.get("/reports")
def reports(request: Request, _: Reader) -> list[ReportLine]:
    """Those that can be read; one that is being made is not there yet."""
    return [_line(name, told) for name, folder in _folders(request).items() if (told := _metrics(folder)) is not None]


@router.get("/reports/{name}", responses={200: {"description": "metrics.json, docs/architecture.md"}})
def report(request: Request, _: Reader, name: Name) -> dict[str, Any]:
    """All that was measured."""
    told = _metrics(_folder(request, name))
    if told is None:
        raise Problem(409, "No report", "The report cannot be read: it is being made, or is damaged.")
    return told


@router.get("/reports/{name}/figures")
def figures(request: Request, _: Reader, name: Name) -> list[str]:
    """Names of its figures."""
    return sorted(_figures(_folder(request, name)))


@router.get("/reports/{name}/figures/{file}", response_class=Response, responses=FIGURE)
def figure(request: Request, _: Reader, name: Name, file: Name) -> Response:
    """One of them."""
    path = _figures(_folder(request, name)).get(file)
    if path is None:
        unknown("figure of this name in the report")
    return Response(
        path.read_bytes(),
        headers={"Content-Security-Policy": DRAWN_ALONE, "Cache-Control": "private, max-age=60"},
        media_type=KINDS[path.suffix],
    )


def _folders(request: Request) -> dict[str, Path]:
    """By name; of two folders of one name the later is called after its place among all."""
    named: dict[str, Path] = {}
    for number, folder in enumerate(context_of(request).settings.reports, start=1):
        name = folder.resolve().name
        named[name if name not in named else f"{name}-{number}"] = folder
    return named


def _folder(request: Request, name: str) -> Path:
    """Looked up, never made of what was asked for."""
    folder = _folders(request).get(name)
    if folder is None:
        unknown("report of this name")
    return folder


def _figures(folder: Path) -> dict[str, Path]:
    """By name; what is no picture or no file of this folder itself is none."""
    try:
        files = list((folder / "figures").iterdir())
    except OSError:
        return {}
    return {path.name: path for path in files if path.suffix in KINDS and path.is_file() and not path.is_symlink()}


def _metrics(folder: Path) -> dict[str, Any] | None:
    try:
        told = json.loads((folder / METRICS).read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except (OSError, ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) and isinstance(told.get("retrieval"), dict) else None


def _line(name: str, told: Mapping[str, Any]) -> ReportLine:
    first: Mapping[str, Any] = next(iter(told["retrieval"].values()), {})
    return ReportLine(
        name=name,
        encoder=str(told.get("encoder", "")),
        n_queries=told.get("n_queries", 0),
        n_gallery=told.get("n_gallery", 0),
        mAP=first.get("off", {}).get("mAP"),
    )
