"""Jobs in processes of their own, watched by events, cancelled, ended with the server; folders by opaque names."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from cbmir.gallery import Gallery
from cbmir.upkeep import reindexing
from make_dicom import make_dicom, save_dicom
from serving import Running, running

PATIENCE_S = 120.0
PROMPT: dict[str, Any] = {"job_niceness": 0}
"""What else runs on the machine of a test would come first."""
N_LONG = 400
NAME = "Zqxcanary^Ann"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two folders called after patients, a hidden one, and links that lead out."""
    root = tmp_path / "archive"
    for folder, first in ((f"{NAME}/ct", 0), ("Miller^B", 10), (".hidden", 20)):
        write_images(root / folder, first, 4)
    write_images(tmp_path / "outside", 30, 2)
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "Miller^B" / "link.dcm").symlink_to(tmp_path / "outside" / "30.dcm")
    return root


def write_images(folder: Path, first: int, n: int, side: int = 12) -> None:
    folder.mkdir(parents=True)
    for number in range(first, first + n):
        pixels = np.random.default_rng(number).integers(0, 200, (side, side), np.uint8)
        save_dicom(folder / f"{number}.dcm", make_dicom(pixels, SOPInstanceUID=f"1.2.3.{number + 1}"))


@pytest.fixture
def server(served: Path, root: Path) -> Iterator[Running]:
    with running(served, roots={"archive": root}, **PROMPT) as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def folder_called(client: httpx.Client, *names: str) -> str:
    path = ""
    for name in names:
        told = client.get("/api/v1/roots/archive/folders", params={"path": path}).json()["folders"]
        path = {folder["name"]: folder["path"] for folder in told}[name]
    return path


def begin(client: httpx.Client, folder: str = "") -> str:
    answer = client.post("/api/v1/jobs", json={"kind": "index", "root": "archive", "folder": folder})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def events(client: httpx.Client, job: str) -> list[tuple[str, dict[str, Any]]]:
    """Until the stream ends."""
    told, event = [], ""
    with client.stream("GET", f"/api/v1/jobs/{job}/events", timeout=PATIENCE_S) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            key, _, value = line.partition(": ")
            event = value if key == "event" else event
            told += [(event, json.loads(value))] if key == "data" else []
    return told


def count(directory: Path) -> int:
    with Gallery.open(directory) as gallery:
        return gallery.count


def test_a_folder_below_a_root_is_indexed_and_watched(client: httpx.Client, served: Path) -> None:
    before = count(served)
    told = events(client, begin(client, folder_called(client, NAME)))
    assert [event for event, _ in told] == ["progress"] * (len(told) - 1) + ["end"]
    end = told[-1][1]
    assert (end["state"], end["done"], end["outcomes"]["decoded"]) == ("done", 4, 4)
    assert end["report"]["added"] == 4
    assert count(served) == before + 4


def test_the_jobs_of_a_server_are_told_the_newest_first(client: httpx.Client) -> None:
    jobs = []
    for _ in range(2):
        jobs.append(begin(client, folder_called(client, "Miller^B")))
        events(client, jobs[-1])
    assert [job["id"] for job in client.get("/api/v1/jobs").json()] == jobs[::-1]
    assert client.get(f"/api/v1/jobs/{jobs[0]}").json()["report"]["added"] == 4
    assert client.get(f"/api/v1/jobs/{jobs[1]}").json()["report"]["unchanged"] == 4
    assert 'cbmir_jobs_total{kind="index",state="done"} 2.0' in client.get("/metrics").text


def test_links_that_lead_out_of_a_root_are_not_followed(client: httpx.Client) -> None:
    end = events(client, begin(client))[-1][1]
    assert end["report"]["added"] == 8
    names = {folder["name"] for folder in client.get("/api/v1/roots/archive/folders").json()["folders"]}
    assert names == {NAME, "Miller^B"}


@pytest.mark.parametrize("path", ["..", "../outside", "/etc", NAME, "Miller^B", "link", "%2e%2e", "\0", "a" * 1999])
def test_only_what_the_server_told_names_a_folder(client: httpx.Client, path: str) -> None:
    assert client.get("/api/v1/roots/archive/folders", params={"path": path}).status_code == 404
    answer = client.post("/api/v1/jobs", json={"kind": "index", "root": "archive", "folder": path})
    assert answer.status_code == 404
    assert path not in answer.json()["detail"] or len(path) < 2


@pytest.mark.parametrize("root", ["..", "/", "other", "archive/.."])
def test_only_roots_of_the_settings_are_roots(client: httpx.Client, root: str) -> None:
    assert client.post("/api/v1/jobs", json={"kind": "index", "root": root}).status_code == 404


@pytest.mark.parametrize("encoder", ["/etc", "../weights", "http://192.0.2.1/encoder", "file:///etc/passwd", ""])
def test_only_encoders_of_the_settings_are_encoders(client: httpx.Client, encoder: str) -> None:
    assert client.post("/api/v1/jobs", json={"kind": "reindex", "encoder": encoder}).status_code == 404


def test_a_job_that_cannot_be_says_why_and_not_where(client: httpx.Client, served: Path) -> None:
    answer = client.post("/api/v1/jobs", json={"kind": "reindex", "encoder": "pixels"})
    end = events(client, answer.json()["id"])[-1][1]
    assert end["state"] == "failed"
    assert "is under encoder" in end["message"]
    assert str(served) not in end["message"]


def test_a_gallery_goes_over_to_another_encoder(served: Path, root: Path, tmp_path: Path) -> None:
    from small_network import save_small

    encoder = save_small(tmp_path / "small", classes=("disc", "stripes"))
    with running(served, encoders={"small": encoder}, **PROMPT) as server, server.client() as client:
        answer = client.post("/api/v1/jobs", json={"kind": "reindex", "encoder": "small"})
        end = events(client, answer.json()["id"])[-1][1]
        assert (end["state"], end["report"]["swapped"], end["message"]) == ("done", True, None)
    with Gallery.open(served) as gallery:
        assert reindexing.status(gallery)["current"]["fingerprint"] == end["report"]["encoder"]


@pytest.fixture
def long_root(tmp_path: Path) -> Path:
    """Enough for a job to be met at its work on any machine: small files of large pictures."""
    folder = tmp_path / "long"
    folder.mkdir()
    for number in range(N_LONG):
        picture = Image.new("L", (1200, 1200 + number))
        picture.paste(200, (0, 0, 600, 600))
        picture.save(folder / f"{number}.png", compress_level=1)
    return folder


def met_at_work(client: httpx.Client, job: str) -> None:
    started = time.monotonic()
    while client.get(f"/api/v1/jobs/{job}").json()["done"] == 0:
        assert time.monotonic() - started < PATIENCE_S
        time.sleep(0.02)


@pytest.fixture(params=["in front", "behind"])
def ground(request: pytest.FixtureRequest) -> Iterator[None]:
    """A shell has what it starts in the background ignore interrupts."""
    before = signal.getsignal(signal.SIGINT)
    if request.param == "behind":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ground")
def test_one_job_at_a_time_and_a_cancelled_one_keeps_what_is_done(served: Path, long_root: Path) -> None:
    with running(served, roots={"archive": long_root}, **PROMPT) as server, server.client() as client:
        before = count(served)
        job = begin(client)
        met_at_work(client, job)
        second = client.post("/api/v1/jobs", json={"kind": "index", "root": "archive"})
        assert (second.status_code, second.json()["title"]) == (409, "A job is running")
        cancelled = client.delete(f"/api/v1/jobs/{job}").json()
        assert cancelled["state"] == "cancelled"
        assert "goes on from there" in cancelled["message"]
        kept = count(served) - before
        assert 0 < kept < N_LONG
        again = begin(client)
        met_at_work(client, again)
        client.delete(f"/api/v1/jobs/{again}")
    with Gallery.open(served) as gallery:
        assert gallery.verify()["ok"]


def test_the_job_gives_way_and_its_command_line_names_nobody(served: Path, long_root: Path) -> None:
    with running(served, roots={"archive": long_root}, job_niceness=1) as server, server.client() as client:
        job = begin(client)
        met_at_work(client, job)
        process = server.context.board._runs[job].process
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == os.getpriority(os.PRIO_PROCESS, 0) + 1
        line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert str(long_root).encode() not in line


def test_a_server_that_is_told_to_end_ends_its_job_and_its_streams(served: Path, long_root: Path) -> None:
    with running(served, roots={"archive": long_root}, **PROMPT) as server, server.client() as client:
        job = begin(client)
        met_at_work(client, job)
        process = server.context.board._runs[job].process
        with client.stream("GET", f"/api/v1/jobs/{job}/events", timeout=PATIENCE_S) as stream:
            lines = stream.iter_lines()
            assert next(lines) == "event: progress"
            server.server.should_exit = True
            rest = list(lines)
        assert "event: end" not in rest
        server.thread.join(30)
        assert not server.thread.is_alive()
        assert process.poll() is not None
    with Gallery.open(served) as gallery:
        assert gallery.verify()["ok"]


def test_a_job_does_not_outlive_a_server_that_is_killed(served: Path, long_root: Path, tmp_path: Path) -> None:
    config = tmp_path / "cbmir.toml"
    table = f'[web]\ngallery = "gallery"\njob_niceness = 0\nroots = {{archive = "{long_root}"}}\n'
    config.write_text(table, encoding="utf-8")
    command = [sys.executable, "-m", "cbmir", "serve", "--port", "0", "--json", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            said = "".join(iter(process.stdout.readline, "}\n")) + "}"
            with httpx.Client(base_url=json.loads(said)["url"]) as client:
                met_at_work(client, begin(client))
            children = children_of(process.pid)
            assert any("job_process" in command_line(child) for child in children)
        finally:
            process.send_signal(signal.SIGKILL)
    started = time.monotonic()
    while any("job_process" in command_line(child) for child in children):
        assert time.monotonic() - started < PATIENCE_S
        time.sleep(0.05)


def children_of(process: int) -> list[str]:
    """Whichever of its threads started them."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    return [child for task in tasks for child in (task / "children").read_text(encoding="ascii").split()]


def command_line(process: str) -> str:
    """Empty when it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def test_a_job_that_is_killed_has_failed_and_the_server_lives(served: Path, long_root: Path) -> None:
    with running(served, roots={"archive": long_root}, **PROMPT) as server, server.client() as client:
        job = begin(client)
        met_at_work(client, job)
        server.context.board._runs[job].process.kill()
        end = events(client, job)[-1][1]
        assert (end["state"], end["message"]) == (
            "failed", "Something went wrong inside the job; the log of the server says where.",
        )  # fmt: skip
        assert client.get("/readyz").status_code == 200


def test_streams_have_a_limit_and_a_job_that_is_not_there_has_none(served: Path, long_root: Path) -> None:
    roots, limits = {"archive": long_root}, {"streams": 1}
    with running(served, roots=roots, limits=limits, **PROMPT) as server, server.client() as client:
        assert client.get(f"/api/v1/jobs/{'0' * 32}/events").status_code == 404
        job = begin(client)
        with client.stream("GET", f"/api/v1/jobs/{job}/events") as stream:
            assert stream.status_code == 200
            assert client.get(f"/api/v1/jobs/{job}/events").status_code == 429
        client.delete(f"/api/v1/jobs/{job}")
        assert events(client, job)[-1][0] == "end"
