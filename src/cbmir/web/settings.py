"""How a server is set up: the table [web] of cbmir.toml, and the options of `cbmir serve`."""

from __future__ import annotations

import ipaddress
import re
import secrets
import tomllib
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from ..errors import UsageError

Role = Literal["reader", "contributor", "admin"]
"""What one may do includes what those before may."""
ROLES: tuple[Role, ...] = get_args(Role)

DEFAULT_PORT = 8600
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
"""Of a token or a root: it stands in logs and URLs, so it names no patient."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Token(_Strict):
    """Who may ask, known by the SHA-256 of the token: the token itself is nowhere."""

    name: Name
    role: Role
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Limits(_Strict):
    """What one request, one caller and all together may ask for. _s: seconds."""

    upload_bytes: int = Field(default=2**28, ge=1)
    body_bytes: int = Field(default=2**18, ge=1024)
    header_bytes: int = Field(default=2**14, ge=1024)
    header_s: float = Field(default=10.0, gt=0)
    body_idle_s: float = Field(default=10.0, gt=0)
    body_bytes_per_s: int = Field(default=2**14, ge=1)
    write_s: float = Field(default=60.0, gt=0)
    keep_alive_s: int = Field(default=30, ge=1)
    stop_s: int = Field(default=20, ge=1)
    connections: int = Field(default=1000, ge=1)
    streams: int = Field(default=100, ge=1)
    requests_per_minute: int = Field(default=12_000, ge=1)
    uploads_per_minute: int = Field(default=120, ge=1)
    sign_ins_per_minute: int = Field(default=20, ge=1)
    k: int = Field(default=500, ge=1)


class Settings(_Strict):
    """hosts: names by which browsers may call the server, beside those of this machine. roots: folders that may be
    indexed. reports: folders of `cbmir evaluate` and `demo`. audit: None for a file beside the gallery. certificate,
    private_key: PEM files, for TLS without a proxy. secure: TLS ends at a proxy in front. proxies: addresses of such,
    whose X-Forwarded-For is believed. encoders: what `reindex` may take, beside `default` and `pixels`. job_workers:
    decoding processes of a job. job_niceness: how far it gives way to searches on the same cores; at 19 it stood still
    for minutes beside a training.
    """

    gallery: Path
    host: str = "127.0.0.1"
    port: int = Field(default=DEFAULT_PORT, ge=0, le=65535)
    tokens: tuple[Token, ...] = ()
    hosts: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    roots: dict[Name, Path] = {}
    encoders: dict[Name, Path] = {}
    reports: tuple[Path, ...] = ()
    audit: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    secure: bool = False
    job_workers: int = Field(default=1, ge=1)
    job_niceness: int = Field(default=10, ge=0, le=19)
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _checked(self) -> Settings:
        if not self.tokens and (not is_loopback(self.host) or self.hosts or self.secure or self.proxies):
            raise ValueError(
                "a server that others can reach needs tokens; `cbmir serve --new-token NAME --role reader` makes one"
            )
        if len({token.name for token in self.tokens}) < len(self.tokens):
            raise ValueError("two tokens have the same name")
        if len({token.sha256 for token in self.tokens}) < len(self.tokens):
            raise ValueError("a token stands there twice")
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key are given together")
        return self

    @property
    def open_to_all(self) -> bool:
        """Whoever can reach the server, which only this machine can, may do everything."""
        return not self.tokens

    @property
    def tls(self) -> bool:
        return self.secure or self.certificate is not None

    @property
    def audit_file(self) -> Path:
        return self.audit or self.gallery.absolute().with_name(self.gallery.absolute().name + ".audit.jsonl")


def is_loopback(host: str) -> bool:
    """A name is looked up by nobody: of names only localhost is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load_settings(config: Path | None, **options: Any) -> Settings:
    """config: a TOML file, None for none; its paths are below its own folder. options: those that are not None stand
    before what it says.

    Raises UsageError for a file that cannot be read, or holds what is not known or cannot be.
    """
    told = {} if config is None else _table(config)
    told |= {name: value for name, value in options.items() if value is not None}
    try:
        return Settings.model_validate(told)
    except ValidationError as error:
        where = "The options of the server" if config is None else f"[web] of {config}"
        raise UsageError(f"{where}: {'; '.join(_faults(error))}.") from None


def make_token(name: str, role: str) -> dict[str, str]:
    """{"name", "role", "token", "toml"}: a token of 256 random bits, and the lines by which the settings know it.

    Raises UsageError for a name that cannot be one.
    """
    token = "cbmir_" + secrets.token_urlsafe(32)
    try:
        known = Token.model_validate({"name": name, "role": role, "sha256": digest_of(token)})
    except ValidationError:
        raise UsageError("A token is named with up to 64 letters, digits, dots, - and _.") from None
    lines = (f'{field} = "{value}"' for field, value in known.model_dump().items())
    return {"name": name, "role": role, "token": token, "toml": "\n".join(["[[web.tokens]]", *lines])}


def digest_of(token: str) -> str:
    """What is known of a token, and of the name of a session."""
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _table(config: Path) -> dict[str, Any]:
    try:
        whole = tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config {config}: {error.strerror}.") from None
    except ValueError as error:
        raise UsageError(f"--config {config} is no TOML: {error}.") from None
    table = whole.get("web", {})
    if not isinstance(table, dict):
        raise UsageError(f"--config {config}: [web] is a table.")
    return {name: _below(config.absolute().parent, name, value) for name, value in table.items()}


def _below(folder: Path, name: str, value: Any) -> Any:
    """Paths of the file are meant from where it lies."""
    match name, value:
        case (("gallery" | "audit" | "certificate" | "private_key"), str()):
            return folder / value
        case "reports", list():
            return tuple(folder / path if isinstance(path, str) else path for path in value)
        case "roots" | "encoders", dict():
            return {root: folder / path if isinstance(path, str) else path for root, path in value.items()}
        case _:
            return tuple(value) if isinstance(value, list) else value


def _faults(error: ValidationError) -> list[str]:
    """Where and what; the value is not said again."""
    return [
        ": ".join(
            filter(None, (".".join(map(str, fault["loc"])), re.sub(r"^Value error, ", "", fault["msg"]).rstrip(".")))
        )
        for fault in error.errors()
    ]
