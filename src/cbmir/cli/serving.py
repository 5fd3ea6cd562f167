"""The verb that serves a gallery: the page and the API."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from .. import console
from ..errors import UsageError
from .options import PathArgument, json_option

INSTALL = "`cbmir serve` needs more libraries: pip install 'cbmir[web]'"


@click.command()
@click.option("--gallery", type=PathArgument, help="The gallery to serve.")
@click.option("--host", help="Address to listen on. [default: 127.0.0.1, which only this machine reaches]")
@click.option("--port", type=click.IntRange(0, 65535), help="0 for any that is free. [default: 8600]")
@click.option(
    "--config", type=PathArgument, help="Settings, in the table [web] of a TOML file. [default: cbmir.toml, if there]"
)
@click.option("--open", "opens", is_flag=True, help="Open the page in a browser.")
@click.option("--new-token", metavar="NAME", help="Make a token, say what to add to cbmir.toml, and end.")
@click.option("--role", type=click.Choice(["reader", "contributor", "admin"]), help="What the new token may do.")
@json_option
def serve(
    config: Path | None, opens: bool, new_token: str | None, role: str | None, as_json: bool, **options: Any
) -> None:
    """Serve the page and the API of a gallery. Anyone who can reach it needs a token, unless only this machine can."""
    try:
        from ..web.settings import load_settings, make_token
    except ModuleNotFoundError as error:
        raise UsageError(f"{INSTALL} ({error.name} is missing)") from None
    if (new_token is None) != (role is None):
        raise UsageError("--new-token NAME and --role ROLE go together.")
    if new_token is not None:
        console.show(make_token(new_token, str(role)), as_json, _token_lines)
        return
    usual = Path("cbmir.toml")
    config = config or (usual if usual.is_file() else None)
    settings = load_settings(config, **options)

    from ..web.server import serve as serve_gallery  # takes seconds, and is not needed to refuse

    serve_gallery(settings, lambda told: _say(told, as_json, opens))


def _say(told: dict[str, Any], as_json: bool, opens: bool) -> None:
    console.show(told, as_json, _ready_lines)
    sys.stdout.flush()
    if opens:
        click.launch(told["url"])


def _ready_lines(told: dict[str, Any]) -> Sequence[str]:
    who = "whoever is on this machine" if told["auth"] == "none" else "whoever has a token"
    return [f"The page is at {told['url']} for {who}. Ctrl-C ends it.", "For research, not for diagnosis."]


def _token_lines(told: dict[str, Any]) -> Sequence[str]:
    return [
        f"The token of {told['name']}, which is told only now: {told['token']}",
        "",
        "Add this to cbmir.toml:",
        "",
        *told["toml"].splitlines(),
    ]
