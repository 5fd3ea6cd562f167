"""The application: routes below /api/v1, health, metrics, and the page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi

from .. import __version__
from . import page, problems
from .context import opened
from .guards import API, Gate, Watch, Witness
from .problems import RESPONSES, ProblemDocument
from .routes import (
    atlas,
    audit,
    browsing,
    explain,
    export,
    health,
    jobs,
    pictures,
    records,
    reports,
    search,
    session,
    uploads,
)
from .settings import Settings

ROUTERS: tuple[APIRouter, ...] = (
    atlas.router,
    audit.router,
    browsing.router,
    explain.router,
    export.router,
    jobs.router,
    pictures.router,
    records.router,
    reports.router,
    search.router,
    session.router,
    uploads.router,
)
"""Everything below /api/v1."""


def create_app(settings: Settings) -> FastAPI:
    """The server of one gallery. What it holds is opened when it starts and closed when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with opened(settings) as context:
            app.state.context = context
            yield
            context.stopping.set()

    app = FastAPI(
        title="cbmir",
        version=__version__,
        description="The most similar images of a gallery. For research, not for diagnosis.",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in ROUTERS:
        app.include_router(router, prefix=API, responses=RESPONSES)
    app.include_router(health.router)
    page.install(app)
    problems.install(app)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    app.add_middleware(Gate, settings=settings)
    app.add_middleware(Witness)
    app.add_middleware(Watch, tls=settings.tls)
    return app


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI description, with the shape of errors and the two ways to sign in."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        parts = document.setdefault("components", {})
        shape = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
        parts.setdefault("schemas", {}).update(shape.pop("$defs"), Problem=shape)
        parts["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer"},
            "session": {"type": "apiKey", "in": "cookie", "name": "cbmir_session"},
        }
        document["security"] = [{"token": []}, {"session": []}, {}]
        app.openapi_schema = document
    return app.openapi_schema
