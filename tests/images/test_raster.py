"""PNG, JPEG, GIF, BMP, WebP and JPEG 2000 become images; 16 bits keep their values, damage is not painted over."""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageFile

from cbmir.errors import BadImage
from cbmir.images import decode, raster
from cbmir.images.limits import NO_MEMORY
from cbmir.privacy import Pseudonyms
from cbmir.types import DecodedImage
from pictures import COLOURS, SMOOTH, picture_bytes, read_one, refusal

NOISE = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)


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


def test_deep_colour_and_deep_grey_with_alpha(pseudonyms: Pseudonyms) -> None:
    deep = imagecodecs.png_encode(COLOURS.astype(np.uint16) * 257)
    assert read_one(deep, pseudonyms).pixels.tolist() == COLOURS.tolist()  # the top 8 of 16 bits
    grey = np.array([[0, 1000], [40000, 65535]], np.uint16)
    thrice = read_one(imagecodecs.png_encode(np.stack([grey] * 3, axis=-1)), pseudonyms)
    assert (thrice.pixels.tolist(), thrice.value_range) == (grey.tolist(), (0, 65535))
    clear = imagecodecs.png_encode(np.stack([grey, np.full_like(grey, 65535)], axis=-1))
    assert read_one(clear, pseudonyms).pixels.tolist() == grey.tolist()


def test_a_palette_with_alpha_is_composited_on_black(pseudonyms: Pseudonyms) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([200, 100, 50, 9, 8, 7])
    picture.putdata([0, 1])
    data = picture_bytes(picture, transparency=0)
    assert read_one(data, pseudonyms).pixels.tolist() == [[[0, 0, 0], [9, 8, 7]]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_png_and_a_jpeg_are_turned_alike(pseudonyms: Pseudonyms, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    jpeg = read_one(picture_bytes(SMOOTH, "JPEG", quality=100, exif=exif), pseudonyms)
    png = read_one(picture_bytes(SMOOTH, exif=exif), pseudonyms)
    assert np.abs(png.pixels - jpeg.pixels).max() <= 2


def test_colours_of_a_cmyk_jpeg_are_right(pseudonyms: Pseudonyms) -> None:
    for color in ((200, 50, 50), (20, 180, 90)):
        picture = Image.new("RGB", (8, 8), color).convert("CMYK")
        pixels = read_one(picture_bytes(picture, "JPEG", quality=95), pseudonyms).pixels
        assert np.abs(pixels.astype(int) - color).max() <= 6


# Pixels that are not square


def test_a_resolution_that_differs_tells_the_shape_of_a_pixel(pseudonyms: Pseudonyms) -> None:
    for form in ("PNG", "JPEG", "BMP"):
        wide = picture_bytes(SMOOTH, form, dpi=(100, 200))
        assert read_one(wide, pseudonyms).pixel_aspect == pytest.approx(0.5, rel=0.01), form  # twice as wide as high
        assert read_one(picture_bytes(SMOOTH, form, dpi=(72, 72)), pseudonyms).pixel_aspect == 1


def test_a_picture_on_its_side_has_the_other_aspect(pseudonyms: Pseudonyms) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = picture_bytes(SMOOTH, "JPEG", dpi=(100, 200), exif=exif)
    assert read_one(data, pseudonyms).pixel_aspect == pytest.approx(2, rel=0.01)


@pytest.mark.parametrize("dpi", [(100, 101), (1, 10000)])
def test_a_resolution_that_is_rounded_or_absurd_tells_nothing(pseudonyms: Pseudonyms, dpi: tuple[int, int]) -> None:
    assert read_one(picture_bytes(SMOOTH, "JPEG", dpi=dpi), pseudonyms).pixel_aspect == 1


# GIF, BMP and WebP


def test_a_gif_and_a_bmp_keep_their_values(pseudonyms: Pseudonyms) -> None:
    for form in ("GIF", "BMP"):
        image = read_one(picture_bytes(SMOOTH, form), pseudonyms)
        assert np.array_equal(image.pixels, SMOOTH)
        assert (image.provenance.format, image.value_range) == (form, (0, 255))


def test_a_webp_stays_colour(pseudonyms: Pseudonyms) -> None:
    image = read_one(picture_bytes(COLOURS, "WEBP", lossless=True), pseudonyms)
    assert image.pixels.tolist() == COLOURS.tolist()
    assert image.provenance.format == "WebP"


@pytest.mark.parametrize(("form", "options"), [("GIF", {}), ("WEBP", {"lossless": True})])
def test_each_frame_is_an_image(pseudonyms: Pseudonyms, form: str, options: dict[str, Any]) -> None:
    first, *others = (Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (10, 20, 30))
    data = picture_bytes(first, form, save_all=True, append_images=others, **options)
    frames = list(decode(data, pseudonyms))
    assert [frame.frame_index for frame in frames] == [0, 1, 2]
    assert [frame.pixels[0, 0] for frame in frames] == [10, 20, 30]
    assert len({frame.id for frame in frames}) == 3


def test_a_later_frame_that_does_not_fit_into_memory_says_so(
    pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch
) -> None:
    def limited(*arguments: Any) -> DecodedImage:
        if arguments[-1]:
            raise MemoryError
        return frame(*arguments)

    frame = raster._frame
    monkeypatch.setattr(raster, "_frame", limited)
    data = picture_bytes(SMOOTH, "GIF", save_all=True, append_images=[Image.fromarray(255 - SMOOTH)])
    images = decode(data, pseudonyms)
    next(images)
    with pytest.raises(BadImage, match=f"1 of 2 frames were left out: {NO_MEMORY}"):
        next(images)


def test_a_gif_that_breaks_off_in_a_later_frame_is_partial(pseudonyms: Pseudonyms) -> None:
    pages = [Image.fromarray(np.roll(NOISE, shift)) for shift in range(3)]
    data = picture_bytes(pages[0], "GIF", save_all=True, append_images=pages[1:])
    frames = decode(data[: len(data) * 5 // 6], pseudonyms)
    assert np.array_equal(next(frames).pixels, NOISE)
    with pytest.raises(BadImage) as caught:
        list(frames)
    assert caught.value.outcome == "partial"


# JPEG 2000, and JPEG beyond 8 bits


@pytest.mark.parametrize("form", ["jp2", "j2k"])
@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 12), (np.uint16, 16)])
def test_jpeg_2000_keeps_its_values(pseudonyms: Pseudonyms, form: str, dtype: Any, bits: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 2**bits, (16, 24)).astype(dtype)
    data = imagecodecs.jpeg2k_encode(pixels, level=0, codecformat=form, bitspersample=bits)
    image = read_one(data, pseudonyms)
    assert np.array_equal(image.pixels, pixels)
    assert (image.value_range, image.provenance.format) == ((0, 2**bits - 1), "JPEG 2000")


def test_a_colour_jpeg_2000_stays_colour(pseudonyms: Pseudonyms) -> None:
    colours = np.kron(COLOURS, np.ones((8, 8, 1), np.uint8))
    data = imagecodecs.jpeg2k_encode(colours, level=0)
    assert np.array_equal(read_one(data, pseudonyms).pixels, colours)


def test_a_12_bit_and_a_lossless_jpeg_keep_their_depth(pseudonyms: Pseudonyms) -> None:
    pixels = SMOOTH.astype(np.uint16) * 40
    lossless = read_one(imagecodecs.ljpeg_encode(pixels, bitspersample=12), pseudonyms)
    assert np.array_equal(lossless.pixels, pixels)
    assert lossless.value_range == (0, 4095)
    deep = read_one(imagecodecs.jpeg_encode(pixels, level=98, bitspersample=12), pseudonyms)
    assert np.abs(deep.pixels - pixels).max() <= 40
    assert deep.value_range == (0, 4095)


# What is damaged


def test_pillow_may_not_fill_what_is_missing() -> None:
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("GIF", {}),
        ("BMP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"quality": 80}),
        ("JPEG2000", {}),
    ],
)
@pytest.mark.parametrize("part", [0.5, 0.9, 0.97])
def test_a_truncated_picture_is_refused(
    pseudonyms: Pseudonyms, form: str, options: dict[str, Any], part: float
) -> None:
    data = picture_bytes(NOISE, form, **options)
    assert refusal(data[: int(len(data) * part)], pseudonyms).outcome == "corrupt"


def test_a_jpeg_cut_off_and_closed_again_is_refused(pseudonyms: Pseudonyms) -> None:
    for picture in (NOISE, np.stack([NOISE, NOISE.T, NOISE[::-1]], axis=-1)):
        data = picture_bytes(picture, "JPEG", quality=90)
        assert refusal(data[: len(data) * 3 // 4] + b"\xff\xd9", pseudonyms).outcome == "corrupt"


SCENE = (128 + 60 * np.sin(np.add.outer(np.arange(200) / 17, np.arange(230) / 23))).astype(np.uint8)
SCENES = np.stack([SCENE, SCENE[::-1], SCENE[:, ::-1]], axis=-1)
SIDEWAYS = Image.Exif()
SIDEWAYS[0x0112] = 6
JPEGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "grey": (SCENE, {}),
    "colour": (SCENES, {"subsampling": "4:2:0"}),
    "progressive": (SCENES, {"progressive": True}),
    "cmyk": (Image.fromarray(SCENES).convert("CMYK"), {}),
    "progressive cmyk": (Image.fromarray(SCENES).convert("CMYK"), {"progressive": True}),
    "restart markers": (SCENES, {"restart_marker_blocks": 5}),
    "on its side": (SCENES, {"exif": SIDEWAYS}),
    "with a thumbnail": (SCENES, {"progressive": True, "exif": SIDEWAYS.tobytes() + picture_bytes(SCENE, "JPEG")}),
}


@pytest.mark.parametrize("name", JPEGS)
def test_whatever_kind_a_jpeg_is_it_is_read_whole_and_refused_cut_off(pseudonyms: Pseudonyms, name: str) -> None:
    picture, options = JPEGS[name]
    data = picture_bytes(picture, "JPEG", quality=90, **options)
    assert read_one(data, pseudonyms).pixels.shape[:2] in ((200, 230), (230, 200))
    for part in (0.6, 0.75, 0.9, 0.97):
        assert refusal(data[: int(len(data) * part)] + b"\xff\xd9", pseudonyms).outcome == "corrupt", part


def test_a_deep_or_lossless_jpeg_cut_off_and_closed_again_is_refused(pseudonyms: Pseudonyms) -> None:
    deep = SCENE.astype(np.uint16) * 16
    for data in (
        bytes(imagecodecs.ljpeg_encode(deep, bitspersample=12)),
        bytes(imagecodecs.jpeg_encode(deep, level=95, bitspersample=12)),
        bytes(imagecodecs.jpegls_encode(deep)),
    ):
        assert read_one(data, pseudonyms).pixels.shape == SCENE.shape
        for part in (0.3, 0.6, 0.9):
            assert refusal(data[: int(len(data) * part)] + b"\xff\xd9", pseudonyms).outcome == "corrupt", part
            assert refusal(data[: int(len(data) * part)], pseudonyms).outcome == "corrupt", part


def test_a_jpeg_with_restart_markers_that_lacks_bytes_in_its_middle_is_refused(pseudonyms: Pseudonyms) -> None:
    data = picture_bytes(SCENES, "JPEG", quality=90, restart_marker_blocks=5)
    third, fourth, sixth = (data.index(b"\xff" + bytes([0xD0 + number])) for number in (3, 4, 6))
    for end in (fourth, sixth):  # within an interval; with two markers
        assert refusal(data[: third + 6] + data[end:], pseudonyms).outcome == "corrupt"


def test_a_jpeg_followed_by_another_is_judged_by_itself(pseudonyms: Pseudonyms) -> None:
    whole = picture_bytes(SCENE, "JPEG", quality=90)
    assert read_one(whole + whole, pseudonyms).pixels.shape == SCENE.shape
    cut = whole[: len(whole) * 3 // 4] + b"\xff\xd9"
    assert refusal(cut + whole, pseudonyms).outcome == "corrupt"


def test_a_jpeg_that_is_grey_in_its_corner_is_whole(pseudonyms: Pseudonyms) -> None:
    picture = NOISE.copy()
    picture[32:] = 128
    image = read_one(picture_bytes(picture, "JPEG", quality=95), pseudonyms)
    assert image.pixels[-1, -1] == 128


def png_bytes(rows: bytes, height: int, width: int) -> bytes:
    """An 8-bit grey PNG that promises more or less than it holds."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    written = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def test_a_png_with_too_few_rows_is_refused(pseudonyms: Pseudonyms) -> None:
    row = b"\0" + bytes(range(16))
    assert read_one(png_bytes(row * 16, 16, 16), pseudonyms).pixels[15].tolist() == list(range(16))
    assert refusal(png_bytes(row * 12, 16, 16), pseudonyms).outcome == "corrupt"


def test_a_png_with_a_flipped_bit_is_refused(pseudonyms: Pseudonyms) -> None:
    data = bytearray(picture_bytes(NOISE))
    data[len(data) // 2] ^= 1
    assert refusal(bytes(data), pseudonyms).outcome == "corrupt"


@pytest.mark.parametrize(
    "magic", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF\1\0\0\0WEBP", b"\xff\x4f\xff\x51"]
)
def test_a_promise_without_content_is_corrupt(pseudonyms: Pseudonyms, magic: bytes) -> None:
    assert refusal(magic + b"nothing more", pseudonyms).outcome == "corrupt"


# What is too large: refused before anything is allocated


def test_a_picture_too_large_is_refused_before_it_is_decoded(
    pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cbmir.images.limits.MAX_PIXEL_BYTES", 1000)
    for form in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "JPEG2000"):
        assert refusal(picture_bytes(SMOOTH, form), pseudonyms).outcome == "refused", form


def test_frames_too_large_together_are_refused(pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [Image.fromarray(np.roll(SMOOTH, shift)) for shift in range(3)]
    data = picture_bytes(pages[0], "GIF", save_all=True, append_images=pages[1:])
    monkeypatch.setattr("cbmir.images.limits.MAX_PIXEL_BYTES", 2 * SMOOTH.size)
    assert refusal(data, pseudonyms).outcome == "refused"


def test_a_file_that_claims_billions_of_pixels_is_refused(pseudonyms: Pseudonyms) -> None:
    side = 60000
    png = png_bytes(b"", side, side)
    gif = bytearray(picture_bytes(SMOOTH, "GIF"))
    gif[6:10] = struct.pack("<HH", side, side)
    bmp = bytearray(picture_bytes(SMOOTH, "BMP"))
    bmp[18:26] = struct.pack("<ii", side, side)
    jpeg = bytearray(picture_bytes(SMOOTH, "JPEG"))
    start = jpeg.index(b"\xff\xc0") + 5
    jpeg[start : start + 4] = struct.pack(">HH", side, side)
    j2k = bytearray(imagecodecs.jpeg2k_encode(SMOOTH, level=0, codecformat="j2k"))
    j2k[8:16] = j2k[24:32] = struct.pack(">II", side, side)  # the picture, and its one tile
    for data in (png, gif, bmp, jpeg, j2k):
        assert refusal(bytes(data), pseudonyms).outcome == "refused", bytes(data[:4])


# Names of files


def test_the_id_is_of_the_content_and_the_key(pseudonyms: Pseudonyms) -> None:
    data = picture_bytes(SMOOTH)
    assert read_one(data, pseudonyms).id == pseudonyms.image(hashlib.sha256(data).digest(), 0)
    assert read_one(data, pseudonyms).id != read_one(data, Pseudonyms(b"another key, just as secret")).id
