"""Fixtures every test may use. Nothing here needs ../shared; `organ24` skips where it is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cbmir.privacy import Pseudonyms
from small_network import save_small
from system_parts import REPOSITORY, system_part
from wards import write_ward


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and caches of a test stay in its own folder."""
    monkeypatch.setenv("CBMIR_KEY_FILE", str(tmp_path / "home" / "pseudonym.key"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / "cache"))


@pytest.fixture
def pseudonyms() -> Pseudonyms:
    return Pseudonyms(b"a key for tests, 32 bytes long..")


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    """A folder of DICOM files of three patients."""
    return write_ward(tmp_path / "ward")


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small network, untrained, for discs and stripes, in the place of the encoder that comes with cbmir."""
    folder = save_small(tmp_path / "weights" / "default", classes=("disc", "stripes"))
    shutil.copy(REPOSITORY / "src" / "cbmir" / "weights" / "LICENSE", folder.parent)
    monkeypatch.setattr("cbmir.encoder.DEFAULT", folder)
    return folder


@pytest.fixture(scope="session")
def organ24() -> Path:
    """The real images we measure on (never part of the repository)."""
    folder = REPOSITORY.parent / "shared" / "data" / "organ24"
    if not (folder / "manifest.csv").is_file():
        pytest.skip("organ24 is not here: put it at ../shared/data/organ24")
    return folder


@pytest.fixture(scope="session")
def dcmtk() -> Path:
    """DCMTK's dcm2pnm; its sisters lie in the same folder.

    Not looked for by other names: Python wheels bring programs called storescu or echoscu too.
    """
    return system_part("dcm2pnm")
