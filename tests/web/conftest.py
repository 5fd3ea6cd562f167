"""A gallery of the ward under the encoder that needs no network, so that jobs can add to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cbmir.jobs import IndexSettings, index_into


@pytest.fixture
def served(ward: Path, tmp_path: Path) -> Path:
    """The directory of the gallery."""
    index_into(tmp_path / "gallery", [ward], encoder_name="pixels", settings=IndexSettings(workers=0))
    return tmp_path / "gallery"
