"""Reading what a test has made, and the refusals it expects."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from cbmir.errors import BadImage
from cbmir.images.dicom import read_dicom
from cbmir.privacy import Pseudonyms
from cbmir.types import DecodedImage
from make_dicom import dicom_bytes

PSEUDONYMS = Pseudonyms(b"a key for tests, 32 bytes long..")
RAMP = np.arange(16, dtype=np.uint16).reshape(4, 4)
STORED = np.array([[0, 1], [2, 3]], dtype=np.uint16)


def to_bytes(source: Dataset | bytes) -> bytes:
    return source if isinstance(source, bytes) else dicom_bytes(source)


def read(source: Dataset | bytes) -> list[DecodedImage]:
    return list(read_dicom(to_bytes(source), PSEUDONYMS))


def read_one(source: Dataset | bytes) -> DecodedImage:
    (image,) = read(source)
    return image


def read_until_refused(source: Dataset | bytes) -> tuple[list[DecodedImage], BadImage]:
    """The images before the refusal, and the refusal."""
    images: list[DecodedImage] = []
    with pytest.raises(BadImage) as caught:
        images.extend(read_dicom(to_bytes(source), PSEUDONYMS))
    return images, caught.value


def refusal(source: Dataset | bytes) -> BadImage:
    return read_until_refused(source)[1]


def words(*values: int) -> bytes:
    return np.array(values).astype("<u2").tobytes()
