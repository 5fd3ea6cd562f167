"""The names a program imports from cbmir."""

from __future__ import annotations

import pytest

import cbmir


@pytest.mark.parametrize("name", cbmir.__all__)
def test_a_public_name_is_there(name: str) -> None:
    assert getattr(cbmir, name).__name__ == name


def test_another_name_is_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Galery'"):
        _ = cbmir.Galery
