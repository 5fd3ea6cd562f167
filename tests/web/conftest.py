"""Galleries to serve, and a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from cbmir.jobs import IndexSettings, index_into
from clinic import Clinic, Server, open_clinic
from visiting import Visit, chromium


@pytest.fixture
def served(ward: Path, tmp_path: Path) -> Path:
    """Of the ward under the encoder that needs no network, so that jobs can add to it."""
    index_into(tmp_path / "gallery", [ward], encoder_name="pixels", settings=IndexSettings(workers=0))
    return tmp_path / "gallery"


@pytest.fixture(scope="session")
def clinic(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Clinic:
    """A gallery of drawn patients under the encoder that comes with cbmir."""
    return open_clinic(tmp_path_factory.mktemp("clinic"), pytestconfig.cache.mkdir("networks"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of a module, not of all: while it runs, no other event loop can."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def clinic_server(clinic: Clinic) -> Iterator[Server]:
    with clinic.serving() as server:
        yield server


@pytest.fixture
def visit(browser: Browser, clinic_server: Server) -> Iterator[Visit]:
    """Without a browser nothing is served."""
    visit = Visit(browser, clinic_server.url)
    yield visit
    visit.done()
