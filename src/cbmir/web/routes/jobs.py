"""Index and reindex jobs, how far they are, and the folders that may be indexed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field

from ...privacy import load_pseudonyms
from ..audit import note
from ..context import Context, context_of
from ..jobs_board import Job, Kind, State
from ..problems import Problem, unknown
from ..roots import folder_at, folders_below
from ..security import Caller, allow

router = APIRouter()

POLL_S = 0.25
ENCODERS = ("default", "pixels")

Reader = Annotated[Caller, Depends(allow("reader"))]
Contributor = Annotated[Caller, Depends(allow("contributor"))]


class IndexRequest(BaseModel):
    """root: as the server calls it. folder: below it, as /roots/{name}/folders tells its path; empty for all of it."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["index"]
    root: str
    folder: str = ""


class ReindexRequest(BaseModel):
    """encoder: `default`, `pixels`, or as the server calls one."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["reindex"]
    encoder: str


class JobDocument(BaseModel):
    """As jobs_board.Job."""

    id: str
    kind: Kind
    state: State
    started: str
    done: int
    total: int | None
    rate: float | None
    outcomes: dict[str, int]
    message: str | None
    report: dict[str, Any] | None


class RootDocument(BaseModel):
    name: str


class FolderDocument(BaseModel):
    """path: what names this folder in requests."""

    name: str
    path: str


class Folders(BaseModel):
    path: str
    folders: list[FolderDocument]


@router.get("/roots")
def roots(request: Request, _: Contributor) -> list[RootDocument]:
    """Folders of the server that may be indexed, by the names its settings give them."""
    return [RootDocument(name=name) for name in context_of(request).settings.roots]


@router.get("/roots/{name}/folders")
def folders(request: Request, name: str, _: Contributor, path: Annotated[str, Query(max_length=2000)] = "") -> Folders:
    """The folders in a folder below a root. path: as an earlier answer told it; empty for the root itself."""
    context = context_of(request)
    found = folders_below(_root(context, name), path, load_pseudonyms(make=False))
    return Folders(path=path, folders=[FolderDocument(**asdict(folder)) for folder in found])


@router.get("/jobs")
def jobs(request: Request, _: Reader) -> list[JobDocument]:
    """The jobs since the server started, the newest first."""
    return [_document(job) for job in context_of(request).board.jobs()]


@router.post("/jobs", status_code=202)
def start(
    request: Request,
    caller: Contributor,
    told: Annotated[IndexRequest | ReindexRequest, Field(discriminator="kind")],
) -> JobDocument:
    """Begins an index run over a folder below a root, or takes the gallery over to another encoder (admin)."""
    context = context_of(request)
    note(request, kind=told.kind)
    if isinstance(told, IndexRequest):
        order = {"source": str(_source(context, told))}
        note(request, root=told.root)
    else:
        if not caller.may("admin"):
            raise Problem(403, "Not allowed", f"This needs the role admin; the token has the role {caller.role}.")
        order = {"encoder": _encoder(context, told.encoder)}
    settings = context.settings
    ways = {"workers": settings.job_workers, "niceness": settings.job_niceness}
    job = context.board.start(told.kind, {**order, **ways, "gallery": str(settings.gallery.absolute())})
    note(request, job=job.id)
    return _document(job)


@router.get("/jobs/{job_id}")
def job_of(request: Request, job_id: str, _: Reader) -> JobDocument:
    """How far a job is."""
    return _document(context_of(request).board.job(job_id))


@router.delete("/jobs/{job_id}")
def cancel(request: Request, job_id: str, caller: Contributor) -> JobDocument:
    """Ends a job (a reindex: admin). What is done is kept, and a job that is started again goes on from there."""
    board = context_of(request).board
    if board.job(job_id).kind == "reindex" and not caller.may("admin"):
        raise Problem(403, "Not allowed", f"This needs the role admin; the token has the role {caller.role}.")
    return _document(board.cancel(job_id))


def _watched(request: Request, job_id: str, _: Reader) -> Iterator[str]:
    """The job, looked for before the answer begins."""
    board = context_of(request).board
    board.job(job_id)
    with board.stream():
        yield job_id


@router.get("/jobs/{job_id}/events", response_class=EventSourceResponse)
async def events(request: Request, job_id: Annotated[str, Depends(_watched)]) -> AsyncIterable[ServerSentEvent]:
    """How far a job is, whenever that changes: `progress`, and at last `end`; data is the job."""
    context = context_of(request)
    known: Job | None = None
    while not context.stopping.is_set():
        job = context.board.job(job_id)
        if job != known:
            known = job
            yield ServerSentEvent(event="end" if job.has_ended else "progress", data=_document(job))
        if job.has_ended:
            return
        await asyncio.sleep(POLL_S)


def _document(job: Job) -> JobDocument:
    return JobDocument(**asdict(job))


def _root(context: Context, name: str) -> Path:
    return context.settings.roots.get(name) or unknown("root of this name")


def _source(context: Context, told: IndexRequest) -> Path:
    return folder_at(_root(context, told.root), told.folder, load_pseudonyms(make=False))


def _encoder(context: Context, name: str) -> str:
    """Where a named encoder is: a path that a request brings is never opened."""
    if name in context.settings.encoders:
        return str(context.settings.encoders[name].absolute())
    return name if name in ENCODERS else unknown("encoder of this name on the server")
