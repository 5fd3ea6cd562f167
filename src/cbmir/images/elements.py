"""Values of DICOM elements, read kindly: what breaks the standard counts as absent and never stops an image."""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import Any

import numpy as np


def value_of(dataset: Any, keyword: str) -> Any:
    """An element the image can do without: None when it is absent or its value breaks the standard."""
    try:
        return dataset.get(keyword)
    except Exception:
        return None


def text_of(dataset: Any, keyword: str) -> str:
    """An element as text, several values joined by a backslash; "" when it cannot be had."""
    try:
        return "\\".join(str(part) for part in _several(dataset.get(keyword))).strip()
    except Exception:
        return ""


def numbers_of(dataset: Any, keyword: str, default: float) -> list[float]:
    """The numbers of a decimal string, at least one; real files leave them empty or write decimal commas."""
    numbers = [_number(part, default) for part in _several(value_of(dataset, keyword))]
    return numbers or [default]


def functional_group(dataset: Any, index: int, sequence: str) -> Any:
    """The functional group of one frame: per-frame, else shared, else the dataset itself (PS3.3 C.7.6.16)."""
    per_frame = value_of(dataset, "PerFrameFunctionalGroupsSequence") or []
    shared = value_of(dataset, "SharedFunctionalGroupsSequence") or []
    for group in [*per_frame[index : index + 1], *shared[:1]]:
        items = value_of(group, sequence)
        if items:
            return items[0]
    return dataset


def _several(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, MutableSequence) else [value]


def _number(value: Any, default: float) -> float:
    try:
        number = float(str(value).replace(",", "."))
    except ValueError:
        return default
    return number if np.isfinite(number) else default
