"""Fixtures every test may use. Nothing here needs ../shared; `organ24` skips where it is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from cbmir.privacy import Pseudonyms

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and caches of a test stay in its own folder."""
    monkeypatch.setenv("CBMIR_KEY_FILE", str(tmp_path / "home" / "pseudonym.key"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / "cache"))


@pytest.fixture
def pseudonyms() -> Pseudonyms:
    return Pseudonyms(b"a key for tests, 32 bytes long..")


@pytest.fixture(scope="session")
def organ24() -> Path:
    """The real images we measure on (never part of the repository)."""
    folder = REPOSITORY.parent / "shared" / "data" / "organ24"
    if not (folder / "manifest.csv").is_file():
        pytest.skip("organ24 is not here: put it at ../shared/data/organ24")
    return folder
