"""A compressed frame says what it is before a native decoder sees it."""

from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from cbmir.errors import BadImage
from cbmir.images.codecs import decode_checked
from cbmir.images.codestream import FILLER, Codestream, mended, parse_codestream, parse_rle, with_filler

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


# Mended


def filled_up(stream: bytes) -> bytes:
    """With a fill byte before the frame header (ISO 10918-1 B.1.1.2)."""
    at = stream.find(b"\xff\xc0")
    return stream[:at] + b"\xff" + stream[at:]


def test_a_whole_stream_is_not_written_into() -> None:
    for stream in (jpeg(), filled_up(jpeg())):
        assert mended(stream, parsed(stream))[0] == stream


@pytest.mark.parametrize("quality", range(60, 100, 5))
def test_fill_bytes_before_the_frame_header_change_no_pixel(quality: int) -> None:
    rough = np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8)
    stream = filled_up(jpeg(rough, level=quality))
    assert np.array_equal(decode_checked(stream, parsed(stream)), imagecodecs.jpeg8_decode(jpeg(rough, level=quality)))


def test_lines_left_open_are_written_behind_fill_bytes() -> None:
    stream = filled_up(jpeg())
    at = stream.find(b"\xff\xc0") + 5
    lines = b"\xff\xdc\0\x04" + struct.pack(">H", 24)
    open_ended = stream[:at] + b"\0\0" + stream[at + 2 : -2] + lines + stream[-2:]
    assert mended(open_ended, parsed(open_ended))[0][at : at + 2] == struct.pack(">H", 24)
    assert np.array_equal(decode_checked(open_ended, parsed(open_ended)), imagecodecs.jpeg8_decode(jpeg()))


@pytest.mark.parametrize("lead", [b"\0", b"\xff", b"rubbish "])
def test_bytes_before_the_start_are_cut_off(lead: bytes) -> None:
    stream = lead + jpeg()
    assert mended(stream, parsed(stream))[0] == jpeg()


def test_a_stream_that_only_lacks_its_end_is_ended() -> None:
    found = parsed(jpeg()[:-2])
    assert (found.whole, found.unended) == (False, True)
    assert mended(jpeg()[:-2], found)[0] == jpeg()
    assert mended(*mended(jpeg()[:-2], found))[0] == jpeg()


# Filled


ROUGH = np.random.default_rng(0).integers(0, 256, (128, 128), dtype=np.uint8)


def by_pillow(pixels: np.ndarray = ROUGH, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


IN_PIECES = {
    "baseline": by_pillow(),
    "colour": by_pillow(np.dstack([ROUGH, ROUGH.T, 255 - ROUGH])),
    "restart markers": by_pillow(restart_marker_blocks=7),
    "progressive": by_pillow(progressive=True),
    "lossless": bytes(imagecodecs.ljpeg_encode(ROUGH)),
    "12 bits": bytes(imagecodecs.jpeg8_encode(ROUGH.astype(np.uint16) << 4, bitspersample=12)),
}


@pytest.mark.parametrize("name", IN_PIECES)
def test_filler_changes_no_whole_picture(name: str) -> None:
    stream, header = IN_PIECES[name], parsed(IN_PIECES[name])
    assert with_filler(stream).count(FILLER) >= 1
    assert np.array_equal(decode_checked(with_filler(stream), header), decode_checked(stream, header))


@pytest.mark.parametrize("name", IN_PIECES)
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_stream_cut_and_closed_again_is_corrupt(name: str, kept: float) -> None:
    stream = IN_PIECES[name]
    cut = stream[: int(len(stream) * kept)] + b"\xff\xd9"
    found = parsed(cut)
    if found.whole:
        with pytest.raises(BadImage) as caught:
            decode_checked(cut, found)
        assert caught.value.outcome == "corrupt"


@pytest.mark.parametrize("name", ["baseline", "restart markers", "progressive"])
def test_a_stream_that_lacks_its_middle_is_corrupt(name: str) -> None:
    stream = IN_PIECES[name]
    middle = len(stream) // 2
    cut = stream[:middle] + stream[middle + 1500 :]
    found = parsed(cut)
    if found.whole:
        with pytest.raises(BadImage):
            decode_checked(cut, found)


def test_restart_markers_are_counted() -> None:
    """256 blocks in groups of 7 have 36 between them."""
    stream = IN_PIECES["restart markers"]
    at = stream.rfind(b"\xff\xd0")
    assert parsed(stream).whole
    assert not parsed(stream[:at] + stream[at + 2 :]).whole


def test_a_whole_picture_with_a_grey_corner_is_decoded() -> None:
    grey = np.full((64, 64), 128, np.uint8)
    assert (decode_checked(jpeg(grey), parsed(jpeg(grey))) == 128).all()
