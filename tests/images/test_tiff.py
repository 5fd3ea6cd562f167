"""TIFF becomes images, page by page, with its values; what is missing is not painted black."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from cbmir.errors import BadImage
from cbmir.images import decode
from cbmir.privacy import Pseudonyms
from pictures import COLOURS, SMOOTH, picture_bytes, read_one, refusal, tiff_bytes

NOISE = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
STRIPS, TILES = {"rowsperstrip": 16}, {"tile": (16, 16)}


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


def stored_colours(photometric: str, compression: str | None) -> bytes:
    # RGB 255 0 0, 0 0 255, 100 100 100 and 255 255 255 by the equations of ITU-R BT.601
    ycbcr = np.array([[[76, 85, 255], [29, 255, 107]], [[100, 128, 128], [255, 128, 128]]], np.uint8)
    return tiff_bytes(ycbcr, photometric=photometric, compression=compression)


@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
def test_luma_and_chroma_become_rgb(pseudonyms: Pseudonyms, compression: str | None) -> None:
    pixels = read_one(stored_colours("ycbcr", compression), pseudonyms).pixels.astype(int)
    expected = [[[255, 0, 0], [0, 0, 255]], [[100, 100, 100], [255, 255, 255]]]
    assert np.abs(pixels - expected).max() <= 2
    assert read_one(stored_colours("rgb", compression), pseudonyms).pixels[0, 0].tolist() == [76, 85, 255]


def test_luma_from_16_to_235_is_stretched_as_the_file_says(pseudonyms: Pseudonyms) -> None:
    video = np.array([[[16, 128, 128], [235, 128, 128], [81, 90, 240]]], np.uint8)  # black, white, red
    limits = tuple(number for value in (16, 235, 128, 240, 128, 240) for number in (value, 1))
    data = tiff_bytes(video, photometric="ycbcr", extratags=[(532, 5, 6, limits, True)])
    pixels = read_one(data, pseudonyms).pixels.astype(int)
    assert np.abs(pixels - [[[0, 0, 0], [255, 255, 255], [255, 0, 0]]]).max() <= 2


def test_chroma_at_half_the_size_is_unsupported(pseudonyms: Pseudonyms) -> None:
    file = io.BytesIO(tiff_bytes(np.zeros((32, 32, 3), np.uint8), photometric="ycbcr"))
    with tifffile.TiffFile(file, mode="r+b") as tiff:
        tiff.pages[0].aspage().tags[530].overwrite((2, 2))
    assert refusal(file.getvalue(), pseudonyms).outcome == "unsupported"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_as_a_png_is(pseudonyms: Pseudonyms, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = tiff_bytes(SMOOTH, extratags=[(274, 3, 1, orientation, True)], resolution=(100, 200))
    image = read_one(data, pseudonyms)
    assert np.array_equal(image.pixels, read_one(picture_bytes(SMOOTH, exif=exif), pseudonyms).pixels)
    assert image.pixel_aspect == pytest.approx(2 if orientation >= 5 else 0.5)


def test_a_resolution_that_differs_tells_the_shape_of_a_pixel(pseudonyms: Pseudonyms) -> None:
    wide = tiff_bytes(SMOOTH, resolution=(100, 200))
    assert read_one(wide, pseudonyms).pixel_aspect == pytest.approx(0.5)  # twice as wide as high
    assert read_one(tiff_bytes(SMOOTH, resolution=(72, 72)), pseudonyms).pixel_aspect == 1
    assert read_one(tiff_bytes(SMOOTH), pseudonyms).pixel_aspect == 1


def test_infinity_is_padding(pseudonyms: Pseudonyms) -> None:
    image = read_one(tiff_bytes(np.array([[0, 5, np.inf, -np.inf]], np.float32)), pseudonyms)
    assert image.padding is not None
    assert image.padding.tolist() == [[False, False, True, True]]
    assert image.value_range == (0, 5)


# What is damaged


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "jpeg"])
@pytest.mark.parametrize("layout", [{}, STRIPS, TILES], ids=["one strip", "strips", "tiles"])
@pytest.mark.parametrize("part", [0.5, 0.95])
def test_a_truncated_tiff_is_refused(
    pseudonyms: Pseudonyms, compression: str | None, layout: dict[str, Any], part: float
) -> None:
    data = tiff_bytes(NOISE, compression=compression, **layout)
    assert refusal(data[: int(len(data) * part)], pseudonyms).outcome == "corrupt"


def with_last(data: bytes, what: str, value: int) -> bytes:
    """The file with another offset or byte count of its last strip or tile."""
    file = io.BytesIO(data)
    with tifffile.TiffFile(file, mode="r+b") as tiff:
        page = tiff.pages[0].aspage()
        code = {"offset": 324, "count": 325} if page.is_tiled else {"offset": 273, "count": 279}
        tag = page.tags[code[what]]
        values = [*tag.value[:-1], value]
        tag.overwrite(values if len(values) > 1 else values[0])
        return file.getvalue()


@pytest.mark.parametrize("layout", [STRIPS, TILES], ids=["strips", "tiles"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("what", ["offset", "count"])
def test_strips_and_tiles_that_are_left_out_are_not_painted_black(
    pseudonyms: Pseudonyms, layout: dict[str, Any], compression: str | None, what: str
) -> None:
    data = tiff_bytes(NOISE, compression=compression, **layout)
    assert refusal(with_last(data, what, 0), pseudonyms).outcome == "corrupt"


def test_a_jpeg_in_a_tiff_that_breaks_off_is_refused(pseudonyms: Pseudonyms) -> None:
    data = tiff_bytes(NOISE, compression="jpeg", **STRIPS)
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        count = tiff.pages[0].aspage().databytecounts[-1]
    assert refusal(with_last(data, "count", count // 2), pseudonyms).outcome == "corrupt"


def test_an_old_writer_may_leave_out_the_byte_count(pseudonyms: Pseudonyms) -> None:
    data = with_last(tiff_bytes(NOISE, rowsperstrip=64), "count", 0)
    assert np.array_equal(read_one(data, pseudonyms).pixels, NOISE)


def test_a_file_that_ends_before_its_last_page_is_partial(pseudonyms: Pseudonyms) -> None:
    whole = tiff_bytes(NOISE, NOISE.T, NOISE[::-1])
    with tifffile.TiffFile(io.BytesIO(whole)) as tiff:
        second = tiff.pages[1].aspage().offset
    pages = decode(whole[:second], pseudonyms)
    assert next(pages).frame_index == 0
    with pytest.raises(BadImage, match="cut after 1 pages") as caught:
        next(pages)
    assert caught.value.outcome == "partial"


def test_a_page_that_is_damaged_leaves_the_others(pseudonyms: Pseudonyms) -> None:
    data = bytearray(tiff_bytes(NOISE, NOISE.T, NOISE[::-1], compression="zlib"))
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        offset = tiff.pages[1].aspage().dataoffsets[0]
    data[offset : offset + 100] = bytes(100)
    pages = decode(bytes(data), pseudonyms)
    assert [next(pages).frame_index, next(pages).frame_index] == [0, 2]
    with pytest.raises(BadImage, match="1 of 3 pages") as caught:
        next(pages)
    assert caught.value.outcome == "partial"


@pytest.mark.parametrize("magic", [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"])
def test_a_promise_without_content_is_corrupt(pseudonyms: Pseudonyms, magic: bytes) -> None:
    assert refusal(magic + b"nothing more", pseudonyms).outcome == "corrupt"


def test_colours_that_are_not_read_are_unsupported(pseudonyms: Pseudonyms) -> None:
    cmyk = np.zeros((4, 4, 4), np.uint8)
    assert refusal(tiff_bytes(cmyk, photometric="separated"), pseudonyms).outcome == "unsupported"


# What is too large


def test_pages_too_large_are_refused_before_they_are_decoded(
    pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cbmir.images.limits.MAX_PIXEL_BYTES", 1000)
    monkeypatch.setattr("cbmir.images.tiff.MAX_PIXEL_BYTES", 1000)
    assert refusal(tiff_bytes(SMOOTH), pseudonyms).outcome == "refused"
    small = SMOOTH[:16, :40]
    assert refusal(tiff_bytes(small, small), pseudonyms).outcome == "refused"


def test_a_tiff_that_claims_billions_of_pixels_is_refused(pseudonyms: Pseudonyms) -> None:
    file = io.BytesIO(tiff_bytes(SMOOTH, compression="zlib"))
    with tifffile.TiffFile(file, mode="r+b") as tiff:
        for code in (256, 257, 278):
            tiff.pages[0].aspage().tags[code].overwrite(60000)
    assert refusal(file.getvalue(), pseudonyms).outcome == "refused"


def test_a_tile_that_claims_billions_of_pixels_is_refused(pseudonyms: Pseudonyms) -> None:
    file = io.BytesIO(tiff_bytes(SMOOTH, compression="zlib", tile=(16, 16)))
    with tifffile.TiffFile(file, mode="r+b") as tiff:
        for code in (322, 323):
            tiff.pages[0].aspage().tags[code].overwrite(60000)
    assert refusal(file.getvalue(), pseudonyms).outcome == "refused"


def test_a_chain_of_too_many_pages_is_refused(pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbmir.images.limits.MAX_FRAMES", 3)
    monkeypatch.setattr("cbmir.images.tiff.MAX_FRAMES", 3)
    assert refusal(tiff_bytes(*[SMOOTH] * 5), pseudonyms).outcome == "refused"


# Whole-slide images


SLIDES = {
    "Aperio SVS": {"description": "Aperio Image Library v11 46000x32914 (256x256) JPEG/RGB Q=30|AppMag = 20"},
    "Hamamatsu NDPI": {"extratags": [(65420, 3, 1, 1, True), (271, 2, 0, "Hamamatsu", True)]},
    "Leica SCN": {"description": '<?xml version="1.0"?><scn></scn>'},
    "Ventana BIF": {"software": "ScanOutputManager 1.1", "extratags": [(700, 1, 6, b"<iScan", True)]},
    "Philips TIFF": {"software": "Philips DP v1.0", "description": "<?xml?><DataObject></DataObject>"},
}


@pytest.mark.parametrize("name", SLIDES)
def test_the_formats_of_slide_scanners_are_refused_by_name(pseudonyms: Pseudonyms, name: str) -> None:
    data = tiff_bytes(np.zeros((64, 64, 3), np.uint8), photometric="rgb", metadata=None, **SLIDES[name])
    error = refusal(data, pseudonyms)
    assert error.outcome == "refused"
    assert f"whole-slide image ({name})" in error.reason


def test_a_giant_tiled_pyramid_is_a_slide(pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbmir.images.tiff.SLIDE_PIXELS", 64 * 64)
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tiff:
        tiff.write(NOISE, tile=(16, 16))
        tiff.write(NOISE[::2, ::2], tile=(16, 16), subfiletype=1)
    assert "whole-slide image" in refusal(file.getvalue(), pseudonyms).reason
    assert np.array_equal(read_one(tiff_bytes(NOISE, tile=(16, 16)), pseudonyms).pixels, NOISE)  # tiled, no pyramid
