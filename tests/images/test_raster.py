"""PNG, JPEG and TIFF become images; 16 bits keep their values."""

from __future__ import annotations

import hashlib
import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from cbmir import images
from cbmir.errors import BadImage
from cbmir.images import decode, read_image
from cbmir.privacy import Pseudonyms
from cbmir.types import DecodedImage

SMOOTH = np.add.outer(np.arange(32), np.arange(48)).astype(np.uint8)
COLOURS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [10, 20, 30]]], dtype=np.uint8)


def picture_bytes(picture: Any, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    if not isinstance(picture, Image.Image):
        picture = Image.fromarray(np.asarray(picture))
    picture.save(file, form, **options)
    return file.getvalue()


def tiff_bytes(*pages: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tiff:
        for page in pages:
            tiff.write(np.asarray(page), **options)
    return file.getvalue()


def read_one(data: bytes, pseudonyms: Pseudonyms) -> DecodedImage:
    (image,) = decode(data, pseudonyms)
    return image


def refusal(data: bytes, pseudonyms: Pseudonyms) -> BadImage:
    with pytest.raises(BadImage) as caught:
        list(decode(data, pseudonyms))
    return caught.value


# PNG and JPEG


def test_a_grey_png_keeps_its_values(pseudonyms: Pseudonyms) -> None:
    image = read_one(picture_bytes(SMOOTH), pseudonyms)
    assert image.pixels.dtype == np.float32
    assert np.array_equal(image.pixels, SMOOTH)
    assert (image.value_range, image.provenance.format, image.modality) == ((0, 255), "PNG", None)


def test_a_16_bit_png_keeps_its_values(pseudonyms: Pseudonyms) -> None:
    pixels = np.array([[0, 1000], [40000, 65535]], dtype=np.uint16)
    image = read_one(picture_bytes(pixels), pseudonyms)
    assert image.pixels.tolist() == pixels.tolist()
    assert image.value_range == (0, 65535)


def test_a_black_and_white_png_is_0_and_255(pseudonyms: Pseudonyms) -> None:
    image = read_one(picture_bytes(np.array([[True, False]])), pseudonyms)
    assert image.pixels.tolist() == [[255, 0]]


def test_a_colour_png_stays_colour(pseudonyms: Pseudonyms) -> None:
    image = read_one(picture_bytes(COLOURS), pseudonyms)
    assert image.pixels.dtype == np.uint8
    assert image.pixels.tolist() == COLOURS.tolist()


def test_colour_with_equal_channels_is_grey(pseudonyms: Pseudonyms) -> None:
    image = read_one(picture_bytes(np.stack([SMOOTH] * 3, axis=-1)), pseudonyms)
    assert not image.is_colour
    assert np.array_equal(image.pixels, SMOOTH)


def test_a_palette_becomes_rgb(pseudonyms: Pseudonyms) -> None:
    picture = Image.fromarray(COLOURS).quantize(4)
    assert read_one(picture_bytes(picture), pseudonyms).pixels.tolist() == COLOURS.tolist()


def test_alpha_is_composited_on_black(pseudonyms: Pseudonyms) -> None:
    pixels = np.array([[[200, 100, 50, 255], [200, 100, 50, 0]]], dtype=np.uint8)
    assert read_one(picture_bytes(pixels), pseudonyms).pixels.tolist() == [[[200, 100, 50], [0, 0, 0]]]
    grey = Image.fromarray(np.array([[[90, 255], [90, 0]]], dtype=np.uint8))
    assert read_one(picture_bytes(grey), pseudonyms).pixels.tolist() == [[90, 0]]


def test_a_jpeg_is_close(pseudonyms: Pseudonyms) -> None:
    image = read_one(picture_bytes(SMOOTH, "JPEG", quality=95), pseudonyms)
    assert image.provenance.format == "JPEG"
    assert np.abs(image.pixels - SMOOTH).max() <= 3


def test_a_cmyk_jpeg_becomes_rgb(pseudonyms: Pseudonyms) -> None:
    picture = Image.new("RGB", (8, 8), (200, 50, 50)).convert("CMYK")
    assert read_one(picture_bytes(picture, "JPEG"), pseudonyms).is_colour


def test_the_cameras_orientation_is_applied(pseudonyms: Pseudonyms) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: turn right by 90 degrees
    image = read_one(picture_bytes(SMOOTH, "JPEG", quality=95, exif=exif), pseudonyms)
    assert image.pixels.shape == (48, 32)
    assert np.abs(image.pixels - np.rot90(SMOOTH, -1)).max() <= 3


# TIFF


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_keeps_its_values(pseudonyms: Pseudonyms, dtype: Any, compression: str | None) -> None:
    pixels = (SMOOTH.astype(np.uint32) * np.iinfo(dtype).max // 100).astype(dtype)
    image = read_one(tiff_bytes(pixels, compression=compression), pseudonyms)
    assert np.array_equal(image.pixels, pixels)
    assert image.value_range == (0, np.iinfo(dtype).max)
    assert image.provenance.format == "TIFF"


def test_signed_and_float_tiffs_keep_their_values(pseudonyms: Pseudonyms) -> None:
    assert read_one(tiff_bytes(np.array([[-5, 7]], np.int16)), pseudonyms).pixels.tolist() == [[-5, 7]]
    image = read_one(tiff_bytes(np.array([[-0.5, 2, np.nan]], np.float32)), pseudonyms)
    assert image.value_range == (-0.5, 2)
    assert image.padding is not None
    assert image.padding.tolist() == [[False, False, True]]


def test_each_page_is_an_image(pseudonyms: Pseudonyms) -> None:
    pages = list(decode(tiff_bytes(SMOOTH, SMOOTH + 1, SMOOTH + 2), pseudonyms))
    assert [page.frame_index for page in pages] == [0, 1, 2]
    assert [page.pixels[0, 0] for page in pages] == [0, 1, 2]
    assert len({page.id for page in pages}) == 3


def test_thumbnails_are_no_images(pseudonyms: Pseudonyms) -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tiff:
        tiff.write(SMOOTH)
        tiff.write(SMOOTH[::2, ::2], subfiletype=1)
    assert len(list(decode(file.getvalue(), pseudonyms))) == 1


def test_miniswhite_is_flagged_and_not_applied(pseudonyms: Pseudonyms) -> None:
    image = read_one(tiff_bytes(SMOOTH, photometric="miniswhite"), pseudonyms)
    assert image.monochrome1
    assert np.array_equal(image.pixels, SMOOTH)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_a_colour_tiff_stays_colour(pseudonyms: Pseudonyms, planar: str) -> None:
    pixels = COLOURS if planar == "contig" else np.moveaxis(COLOURS, -1, 0)
    data = tiff_bytes(pixels, photometric="rgb", planarconfig=planar)
    assert read_one(data, pseudonyms).pixels.tolist() == COLOURS.tolist()


def test_a_deep_colour_tiff_becomes_8_bits(pseudonyms: Pseudonyms) -> None:
    image = read_one(tiff_bytes(COLOURS.astype(np.uint16) * 257, photometric="rgb"), pseudonyms)
    assert image.pixels.tolist() == COLOURS.tolist()
    assert image.value_range == (0, 255)


def test_tiffs_as_other_programs_write_them(pseudonyms: Pseudonyms) -> None:
    palette = Image.fromarray(COLOURS).quantize(4)
    assert read_one(picture_bytes(palette, "TIFF"), pseudonyms).pixels.tolist() == COLOURS.tolist()
    bilevel = Image.fromarray(SMOOTH > 40)
    for compression in ("raw", "group4"):
        image = read_one(picture_bytes(bilevel, "TIFF", compression=compression), pseudonyms)
        shown = image.pixels if not image.monochrome1 else image.value_range[1] - image.pixels
        assert np.array_equal(shown > 0, SMOOTH > 40)
        assert image.value_range == (0, 1)
    smooth = Image.fromarray(np.stack([SMOOTH, SMOOTH, SMOOTH[::-1]], axis=-1))
    image = read_one(picture_bytes(smooth, "TIFF", compression="jpeg", quality=95), pseudonyms)
    assert np.abs(image.pixels.astype(int) - np.asarray(smooth)).mean() < 3


# What is not an image


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
def test_a_truncated_picture_is_refused(pseudonyms: Pseudonyms, form: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    data = picture_bytes(noise, form)
    assert refusal(data[: len(data) // 2], pseudonyms).outcome == "corrupt"


@pytest.mark.parametrize("magic", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*"])
def test_a_promise_without_content_is_corrupt(pseudonyms: Pseudonyms, magic: bytes) -> None:
    assert refusal(magic + b"nothing more", pseudonyms).outcome == "corrupt"


def test_other_formats_are_unsupported(pseudonyms: Pseudonyms) -> None:
    for form in ("GIF", "BMP", "WEBP"):
        assert refusal(picture_bytes(SMOOTH, form), pseudonyms).outcome == "unsupported"
    cmyk = np.zeros((4, 4, 4), np.uint8)
    assert refusal(tiff_bytes(cmyk, photometric="separated"), pseudonyms).outcome == "unsupported"


def test_a_picture_too_large_is_refused_before_it_is_decoded(
    pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cbmir.images.limits.MAX_PIXEL_BYTES", 1000)
    monkeypatch.setattr("cbmir.images.raster.MAX_PIXEL_BYTES", 1000)
    assert refusal(picture_bytes(SMOOTH), pseudonyms).outcome == "refused"
    assert refusal(tiff_bytes(SMOOTH), pseudonyms).outcome == "refused"
    small = SMOOTH[:16, :40]
    assert refusal(tiff_bytes(small, small), pseudonyms).outcome == "refused"


def test_a_png_that_claims_billions_of_pixels_is_refused(pseudonyms: Pseudonyms) -> None:
    data = bytearray(picture_bytes(SMOOTH))
    data[16:24] = (60000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    assert refusal(bytes(data), pseudonyms).outcome == "refused"


# Files


def test_the_content_decides_and_not_the_suffix(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    path = tmp_path / "picture.dcm"
    path.write_bytes(picture_bytes(SMOOTH))
    (image,) = read_image(path, pseudonyms, patient="7", modality="MR")
    assert image.provenance.format == "PNG"
    assert (image.patient, image.modality) == (pseudonyms.of("patient", "7"), "MR")


def test_the_id_is_of_the_content_and_the_key(pseudonyms: Pseudonyms) -> None:
    data = picture_bytes(SMOOTH)
    assert read_one(data, pseudonyms).id == pseudonyms.image(hashlib.sha256(data).digest(), 0)
    assert read_one(data, pseudonyms).id != read_one(data, Pseudonyms(b"another key, just as secret")).id


def test_missing_empty_and_huge_files_have_an_outcome(
    tmp_path: Path, pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outcome(path: Path) -> str:
        with pytest.raises(BadImage) as caught:
            read_image(path, pseudonyms)
        assert str(tmp_path) not in caught.value.reason
        return caught.value.outcome

    (tmp_path / "empty").touch()
    (tmp_path / "huge").write_bytes(bytes(100))
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 99)
    assert outcome(tmp_path / "missing") == "corrupt"
    assert outcome(tmp_path) == "corrupt"
    assert outcome(tmp_path / "empty") == "not_an_image"
    assert outcome(tmp_path / "huge") == "refused"
