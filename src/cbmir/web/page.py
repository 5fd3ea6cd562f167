"""The built page: files of `page/`, whose names change with their content, and index.html for every other address."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from .guards import API

BUILT = Path(__file__).with_name("page")
_FOREVER = "public, max-age=31536000, immutable"
_NOT_BUILT = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>cbmir</title>
<h1>The page has not been built</h1>
<p>The API is at work below <code>/api/v1</code>. To have the page too, install Node 20 or later, run
<code>make page</code> in the folder of cbmir, and start the server again.</p>
<p>For research, not for diagnosis.</p>
</html>
"""


class Page(StaticFiles):
    """Of an address that is no file it gives index.html, for the page reads addresses; not below /assets/ and /api/."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        if scope["path"].startswith(API.rsplit("/", 1)[0]):
            raise HTTPException(404)
        try:
            response = await super().get_response(path, scope)
        except HTTPException as error:
            if error.status_code != 404 or path.startswith("assets/"):
                raise
            response = await super().get_response("index.html", scope)
        response.headers["cache-control"] = _FOREVER if path.startswith("assets/") else "no-cache"
        return response


def install(app: FastAPI) -> None:
    """Of BUILT: index.html, assets/ with files named after their content, and what else the page needs."""
    if (BUILT / "index.html").is_file():
        app.mount("/", Page(directory=BUILT, html=True), name="page")
    else:
        app.add_api_route("/", _not_built, include_in_schema=False, response_class=HTMLResponse)


def _not_built() -> HTMLResponse:
    return HTMLResponse(_NOT_BUILT, 503, {"cache-control": "no-cache"})
