"""The server under many users: searches by stored id over a real process, beside the bare search in this one.

python benchmarks/bench_web.py [--rows 200000] [--requests 10000] [--files 20000]

The users share the machine with the server: each asks again as soon as it has its answer, so that requests wait for
each other, and the p95 is what 50 at once have to wait. `unhurried` users pause between two searches, as people do.
An index job, over generated files into the gallery that is searched, runs in the server's own process for jobs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench_growth import fill
from bench_ingest import generate
from cbmir.encoder import load_encoder
from cbmir.gallery import Gallery, Query, card_of
from cbmir.index.matrix import open_matrix
from cbmir.privacy import load_pseudonyms
from cbmir.store import Store
from measure import CBMIR, ORGAN24_GALLERY, Row, proportional_mb, table

N_ROWS, N_REQUESTS, N_FILES = 200_000, 10_000, 20_000
USERS, K, SEED = 50, 24, 0
PAUSE_S = 2.0
"""Of an unhurried user."""
LOAD_S = 20.0
"""Of each load without and beside an index job."""
SOON = 1_000
"""Requests after which the server's memory is taken for what it needs."""
BUSY, FLAT, BROWSE_MS = 3.0, 1.05, 100.0
"""Targets: p95 while an index job runs over p95 without; memory at the end over memory soon; browsing and facets."""


@dataclass(frozen=True)
class Loaded:
    """What a load brought: milliseconds of each request, and seconds in all."""

    times_ms: Sequence[float]
    seconds: float

    @property
    def p95_ms(self) -> float:
        return statistics.quantiles(self.times_ms, n=20)[-1]

    @property
    def per_s(self) -> float:
        return len(self.times_ms) / self.seconds

    def __str__(self) -> str:
        middle = statistics.median(self.times_ms)
        return f"p50 {middle:.0f} ms, p95 {self.p95_ms:.0f} ms, {self.per_s:.0f} requests/s"


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    url: str
    pid: int

    def get(self, path: str) -> Any:
        return self.ask("GET", path)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request outside of any load; raises RuntimeError unless it was answered well."""
        told = asyncio.run(_one(self.url, _request(self.url, method, path, body)))
        return json.loads(told) if told else None

    def load(
        self,
        bodies: Callable[[], Any],
        *,
        n: int | None = None,
        until: Callable[[], bool] | None = None,
        pause_s: float = 0.0,
    ) -> Loaded:
        """Searches by many users at once: n in all, or until it is time."""
        left = iter(range(n)) if n is not None else iter(int, 1)

        def more() -> bytes | None:
            if (until is not None and until()) or next(left, None) is None:
                return None
            return _request(self.url, "POST", "/api/v1/search", bodies())

        return asyncio.run(_load(self.url, more, USERS, pause_s))


def _request(url: str, method: str, path: str, body: Any = None) -> bytes:
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


async def _one(url: str, request: bytes) -> bytes:
    reader, writer = await _connected(url)
    with closing(writer):
        return await _answer(reader, writer, request)


async def _connected(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    place = urlsplit(url)
    return await asyncio.open_connection(place.hostname, place.port, limit=1 << 24)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    """The body. Raises RuntimeError for what is no success: a server that refuses is fast."""
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    lines = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
    body = await reader.readexactly(int(lines.get("content-length", 0)))
    if head.split(" ", 2)[1][0] != "2":
        raise RuntimeError(f"{head.splitlines()[0]}: {body[:300].decode()}")
    return body


async def _load(url: str, more: Callable[[], bytes | None], users: int, pause_s: float) -> Loaded:
    times: list[float] = []

    async def user(number: int) -> None:
        reader, writer = await _connected(url)
        with closing(writer):
            await asyncio.sleep(pause_s * number / users)
            while (request := more()) is not None:
                started = time.perf_counter()
                await _answer(reader, writer, request)
                times.append(1000 * (time.perf_counter() - started))
                await asyncio.sleep(pause_s)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(users):
            group.create_task(user(number))
    return Loaded(times, time.perf_counter() - started)


@contextmanager
def serving(gallery: Path, work: Path, roots: dict[str, Path] | None = None) -> Iterator[Served]:
    """A real server in a process of its own, with a rate limit that does not limit the load."""
    lines = [
        f"[web]\ngallery = {json.dumps(str(gallery.absolute()))}\nport = 0",
        "[web.limits]\nrequests_per_minute = 10000000",
    ]
    lines += ["[web.roots]", *(f"{name} = {json.dumps(str(folder))}" for name, folder in (roots or {}).items())]
    config = work / "cbmir.toml"
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with (work / "server.log").open("wb") as log:
        command = [*CBMIR, "serve", "--config", str(config), "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
            assert process.stdout is not None
            try:
                told = json.loads(_document(process.stdout) or sys.exit((work / "server.log").read_text()))
                yield Served(told["url"].rstrip("/"), process.pid)
            finally:
                process.terminate()


def _document(lines: Iterator[str]) -> str:
    """The first JSON document of a stream, which goes on after it; nothing where it ends before."""
    text = ""
    for line in lines:
        text += line
        if text.rstrip().endswith("}"):
            return text
    return ""


def make_gallery(directory: Path, n_rows: int) -> None:
    """Synthetic features under the encoder `pixels`, so that an index job can add to it."""
    encoder = load_encoder("pixels")
    card = asdict(card_of(encoder))
    with Store.create(directory, encoder.layers, {"pseudonyms": load_pseudonyms().fingerprint}, card=card) as store:
        fill(store, n_rows)


def bodies_of(ids: Sequence[str]) -> Callable[[], Any]:
    draw = random.Random(SEED)
    return lambda: {"ids": [draw.choice(ids)], "k": K}


def bare_ms(gallery: Gallery, ids: Sequence[str], repeats: int = 200) -> tuple[float, float]:
    """Median milliseconds of the index alone, and of `Gallery.search` with the records of the hits."""
    draw = random.Random(SEED)
    matrix = open_matrix(gallery.store, gallery.default_layer)
    rows = [matrix.index.features(matrix.positions([draw.choice(ids)]))[0] for _ in range(repeats)]
    index = [_ms(lambda row=row: matrix.index.search(row, K)) for row in rows]
    whole = [_ms(lambda: gallery.search(Query(ids=(draw.choice(ids),), k=K))) for _ in range(repeats)]
    return statistics.median(index), statistics.median(whole)


def _ms(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


def rows(n_rows: int = N_ROWS, n_requests: int = N_REQUESTS, n_files: int = N_FILES) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.environ.setdefault("CBMIR_KEY_FILE", str(work / "key"))
        make_gallery(work / "gallery", n_rows)
        generate(work / "files", n_files)
        found = _of_gallery(work, n_rows, n_requests)
    return [*found, *_of_organ24(n_requests)]


def _of_gallery(work: Path, n_rows: int, n_requests: int) -> list[Row]:
    with Gallery.open(work / "gallery") as gallery:
        ids = gallery.ids()
        drawn = gallery.draw_atlas()
        bare = bare_ms(gallery, ids)
    what = f"web {n_rows:,}"
    found = [Row(f"{what}: map", f"{drawn.seconds:.1f} s; same class {drawn.same_class}")]
    bodies = bodies_of(ids)
    with serving(work / "gallery", work, {"files": work / "files"}) as server:
        soon = server.load(bodies, n=min(SOON, n_requests))
        memory = [proportional_mb(server.pid)]
        rest = server.load(bodies, n=n_requests)
        memory.append(proportional_mb(server.pid))
        found += [
            _users(what, rest, bare),
            _flat(what, memory, len(soon.times_ms), n_requests),
            *_browsing(what, server),
        ]
        found += _while_indexing(what, server, bodies)
    return found


def _users(what: str, load: Loaded, bare: tuple[float, float]) -> Row:
    index_ms, search_ms = bare
    return Row(
        f"{what}: {USERS} users, k = {K}",
        f"{load}; bare search {search_ms:.1f} ms, of it {index_ms:.1f} ms in the index "
        f"(so {1000 / search_ms:.0f}/s one after the other)",
    )


def _flat(what: str, memory: Sequence[float], soon: int, n_requests: int) -> Row:
    return Row(
        f"{what}: memory of the server",
        f"{memory[0]:.0f} MB after {soon:,} requests, {memory[1]:.0f} MB after {n_requests:,} more",
        f"<= {FLAT:g} x",
        memory[1] <= FLAT * memory[0],
    )


def _browsing(what: str, server: Served) -> list[Row]:
    found = []
    for name, path in {
        "page of records": "/api/v1/records?offset=100000&limit=50",
        "page of a filter": "/api/v1/records?limit=50&where=modality%3DMR",
        "facets": "/api/v1/facets",
        "facets of a filter": "/api/v1/facets?where=modality%3DMR",
        "map, 5,000 points": "/api/v1/atlas",
        "map, a part": "/api/v1/atlas?x0=0.4&y0=0.4&x1=0.5&y1=0.5",
    }.items():
        server.get(path)
        ms = statistics.median(_ms(lambda path=path: server.get(path)) for _ in range(15))
        found.append(Row(f"{what}: {name}", f"{ms:.1f} ms", f"<= {BROWSE_MS:g} ms", ms <= BROWSE_MS))
    return found


def _while_indexing(what: str, server: Served, bodies: Callable[[], Any]) -> list[Row]:
    """Hurried users, then unhurried ones, without a job and while one runs."""
    idle = [server.load(bodies, until=_after(LOAD_S), pause_s=pause) for pause in (0.0, PAUSE_S)]
    job = server.ask("POST", "/api/v1/jobs", {"kind": "index", "root": "files", "folder": ""})
    while not (told := server.get(f"/api/v1/jobs/{job['id']}"))["done"]:
        if told["state"] != "running":
            raise RuntimeError(f"the index job has {told['state']}: {told['message']}")
        time.sleep(0.1)
    found = []
    for name, before, pause in zip((f"{USERS} users", f"{USERS} unhurried users"), idle, (0.0, PAUSE_S), strict=True):
        now = server.load(bodies, until=_after(LOAD_S), pause_s=pause)
        told = server.get(f"/api/v1/jobs/{job['id']}")
        ended = "" if told["state"] == "running" else f"; the job had ended ({told['state']}): index more --files"
        found.append(
            Row(
                f"{what}: {name} while an index job runs",
                f"{now}; without it {before}; {told['done']:,} files done{ended}",
                f"p95 <= {BUSY:g} x",
                now.p95_ms <= BUSY * before.p95_ms and not ended,
            )
        )
    server.ask("DELETE", f"/api/v1/jobs/{job['id']}")
    return found


def _after(seconds: float) -> Callable[[], bool]:
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() > end


def _of_organ24(n_requests: int) -> list[Row]:
    """The same of real images, and their thumbnails: drawn at first, and kept."""
    if not ORGAN24_GALLERY:
        return []
    with Gallery.open(ORGAN24_GALLERY) as gallery:
        ids = gallery.ids()
        bare = bare_ms(gallery, ids)
    what = f"web organ24 {len(ids):,}"
    some = random.Random(SEED).sample(ids, min(48, len(ids)))
    with tempfile.TemporaryDirectory() as folder, serving(ORGAN24_GALLERY, Path(folder)) as server:
        server.load(bodies_of(ids), n=min(SOON, n_requests))
        load = server.load(bodies_of(ids), n=n_requests)
        first, kept = (_thumbnails(server, some) for _ in range(2))
    return [_users(what, load, bare), Row(f"{what}: 48 thumbnails, 8 at once", f"first {first}; again {kept}")]


def _thumbnails(server: Served, ids: Sequence[str]) -> Loaded:
    left = iter(ids)

    def more() -> bytes | None:
        record_id = next(left, None)
        path = f"/api/v1/records/{record_id}/thumbnail?size=256"
        return None if record_id is None else _request(server.url, "GET", path)

    return asyncio.run(_load(server.url, more, 8, 0.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=N_ROWS)
    parser.add_argument("--requests", type=int, default=N_REQUESTS)
    parser.add_argument("--files", type=int, default=N_FILES, help="for the index job")
    given = parser.parse_args()
    found = rows(given.rows, given.requests, given.files)
    print(table(found))
    sys.exit(any(row.met is False for row in found))


if __name__ == "__main__":
    main()
