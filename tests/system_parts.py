"""What tests need besides Python. Where it is missing they are skipped, but fail under CI=true."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def system_part(program: str) -> Path:
    """A program that tests compare with or drive."""
    found = shutil.which(program)
    return Path(found) if found else _missing(f"{program} is not installed: scripts/install-system-parts does that")


def built(file: Path) -> Path:
    """A file of the page, or of what tests it."""
    return file if file.is_file() else _missing(f"{file.name} is not there: make page does that")


def _missing(sentence: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)
