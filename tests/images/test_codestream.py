"""A compressed frame says what it is before a native decoder sees it."""

from __future__ import annotations

import struct

import imagecodecs
import numpy as np
import pytest

from cbmir.errors import BadImage
from cbmir.images.codestream import Codestream, parse_codestream, parse_rle

GREY = np.arange(24 * 40, dtype=np.uint16).reshape(24, 40)
EIGHT = (GREY % 251).astype(np.uint8)
RGB = np.dstack([EIGHT, EIGHT // 2, 255 - EIGHT])


def jpeg(pixels: np.ndarray = EIGHT, **options: object) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(pixels, **options))


def jpeg_2000(pixels: np.ndarray = GREY, **options: object) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, codecformat="j2k", **options))


STREAMS = {
    "jpeg": (jpeg(), (8, 1)),
    "jpeg lossless": (bytes(imagecodecs.ljpeg_encode(GREY, bitspersample=12)), (12, 1)),
    "jpeg-ls": (bytes(imagecodecs.jpegls_encode(RGB)), (8, 3)),
    "jpeg 2000": (jpeg_2000(bitspersample=12), (12, 1)),
    "htj2k": (bytes(imagecodecs.htj2k_encode(GREY)), (16, 1)),
}


def parsed(stream: bytes) -> Codestream:
    found = parse_codestream(stream)
    assert found is not None
    return found


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_tells_its_format_size_and_depth(name: str) -> None:
    stream, (precision, samples) = STREAMS[name]
    found = parsed(stream)
    assert (found.format, found.rows, found.columns) == (name, 24, 40)
    assert (found.precision, found.samples) == (precision, samples)
    assert found.whole


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("kept", [0.5, 0.9, 0.99])
def test_a_cut_stream_is_not_whole(name: str, kept: float) -> None:
    stream, _ = STREAMS[name]
    found = parse_codestream(stream[: int(len(stream) * kept)])
    assert found is None or not found.whole


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_cut_in_its_header_is_none(name: str) -> None:
    stream, _ = STREAMS[name]
    for length in range(20):
        assert parse_codestream(stream[:length]) is None


@pytest.mark.parametrize("size", [(64, 64), (24, 40), (300, 100), (256, 171)])
def test_jpeg_xl_tells_its_size_in_every_form(size: tuple[int, int]) -> None:
    found = parsed(bytes(imagecodecs.jpegxl_encode(np.zeros(size, np.uint8), lossless=True)))
    assert (found.format, found.rows, found.columns) == ("jpeg xl", *size)


def test_signed_jpeg_2000_is_known() -> None:
    assert parsed(jpeg_2000(GREY.astype(np.int16))).signed
    assert not parsed(jpeg_2000()).signed


def test_jpeg_2000_in_its_file_format_is_looked_into() -> None:
    boxed = bytes(imagecodecs.jpeg2k_encode(GREY, level=0, reversible=True, codecformat="jp2"))
    assert boxed.startswith(b"\0\0\0\x0cjP  ")
    assert (parsed(boxed).rows, parsed(boxed).columns) == (24, 40)


@pytest.mark.parametrize(
    ("stream", "colour"),
    [
        (jpeg(RGB), "YBR"),  # JFIF
        (jpeg(RGB, colorspace="RGB", outcolorspace="RGB"), "RGB"),  # components named R, G, B
        (jpeg_2000(RGB, mct=True), "RGB"),
        (jpeg_2000(RGB, mct=False), None),
        (bytes(imagecodecs.jpegls_encode(RGB)), None),
    ],
)
def test_markers_say_what_the_components_are(stream: bytes, colour: str | None) -> None:
    assert parsed(stream).colour == colour


def test_a_height_given_after_the_scan_is_found() -> None:
    """ISO 10918-1 B.2.5: 0 in the frame header, the number of lines in a DNL segment."""
    stream = jpeg()
    at = stream.find(b"\xff\xc0") + 5
    open_ended = stream[:at] + b"\0\0" + stream[at + 2 : -2] + b"\xff\xdc\0\x04" + struct.pack(">H", 24) + stream[-2:]
    assert parsed(open_ended).rows == 24


def test_near_lossless_is_lossy() -> None:
    assert parsed(bytes(imagecodecs.jpegls_encode(EIGHT, level=2))).lossy
    assert not parsed(bytes(imagecodecs.jpegls_encode(EIGHT))).lossy


def test_a_small_jpeg_that_claims_a_giant_picture_is_not_whole() -> None:
    stream = jpeg()
    at = stream.find(b"\xff\xc0") + 5
    assert not parsed(stream[:at] + struct.pack(">HH", 30000, 30000) + stream[at + 4 :]).whole


def test_more_tiles_than_there_can_be_are_not_whole() -> None:
    stream = bytearray(jpeg_2000())
    stream[8:16] = struct.pack(">II", 60000, 60000)
    assert parsed(bytes(stream)).columns == 60000
    assert not parsed(bytes(stream)).whole


@pytest.mark.parametrize("stream", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"no stream at all", b"\xff\x4f\xff\x51\0"])
def test_what_is_no_stream_is_none(stream: bytes) -> None:
    assert parse_codestream(stream) is None


def test_another_size_than_the_header_says_is_corrupt_and_both_are_named() -> None:
    header = Codestream("jpeg", rows=24, columns=40, samples=1)
    header.check(24, 40, 1)
    with pytest.raises(BadImage, match=r"24 x 41 pixels with 1 .* 24 x 40 with 1") as caught:
        header.check(24, 41, 1)
    assert caught.value.outcome == "corrupt"


def test_what_a_stream_does_not_say_is_not_compared() -> None:
    Codestream("jpeg xl", rows=24, columns=40).check(24, 40, 3)


def rle(*segments: bytes) -> bytes:
    offsets = [64 + sum(map(len, segments[:n])) for n in range(len(segments))]
    return struct.pack("<16I", len(segments), *offsets, *[0] * (15 - len(segments))) + b"".join(segments)


def test_run_lengths_tell_their_segments() -> None:
    assert parse_rle(rle(b"\x81\x07", b"\x81\x07"), n_bytes=256) == 2


@pytest.mark.parametrize(
    "stream",
    [
        rle(b"\x81\x07"),  # 2 bytes are 128 at most
        b"\x01" + b"\0" * 70,  # an offset inside the header
        struct.pack("<16I", 16, *range(64, 79)) + bytes(300),
        struct.pack("<16I", 2, 70, 64, *[0] * 13) + bytes(300),
        b"short",
    ],
)
def test_run_lengths_that_cannot_be_are_corrupt(stream: bytes) -> None:
    with pytest.raises(BadImage) as caught:
        parse_rle(stream, n_bytes=129)
    assert caught.value.outcome == "corrupt"
