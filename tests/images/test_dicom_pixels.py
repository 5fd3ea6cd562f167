"""Stored values come out exact, whatever the layout and the transfer syntax; what is not whole is never filled up."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID

from cbmir.images.dicom import pixels as pixel_module
from make_dicom import dicom_bytes, encapsulated, make_dicom
from reading import RAMP, read, read_one, read_until_refused, refusal
from transfer_syntaxes import ENCODINGS

RNG = np.random.default_rng(0)
OF = "1.2.840.10008.1.2.4."
RLE = "1.2.840.10008.1.2.5"
DEEP = RNG.integers(0, 4096, (32, 48), dtype=np.uint16)
SHALLOW = (DEEP >> 4).astype(np.uint8)
SIGNED = (DEEP.astype(np.int16) - 2048) // 2
PLAIN = {"one sample": (DEEP, 12), "eight bits": (SHALLOW, 8), "signed": (SIGNED, 12)}


def as_jpeg_2000(pixels: np.ndarray[Any, Any], **options: Any) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, codecformat="j2k", **options))


def as_jpeg(pixels: np.ndarray[Any, Any], **options: Any) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(pixels, level=95, **options))


@pytest.mark.parametrize("seed", [0, 1, 13, 18])
def test_a_zero_byte_before_the_end_of_a_jpeg_ls_stream_is_no_harm(seed: int) -> None:
    """As in MR1_JLSL of NEMA's WG04 set; CharLS 2.4.2 refuses it, 2.4.3 still in the last two."""
    pixels = np.random.default_rng(seed).integers(0, 4096, (32 + seed, 48), dtype=np.uint16)
    stream = bytes(imagecodecs.jpegls_encode(pixels))
    padded = stream.removesuffix(b"\xff\xd9") + b"\0\xff\xd9"
    assert np.array_equal(read_one(encapsulated(pixels, f"{OF}80", [padded])).pixels, pixels)


# Layouts of native pixels


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"])
def test_containers_of_every_size_and_sign(dtype: str) -> None:
    pixels = np.array([[0, 1], [7, -3 if dtype[0] == "i" else 3]], dtype=dtype)
    assert read_one(make_dicom(pixels)).pixels.tolist() == pixels.tolist()


def test_unused_bits_fall_out_and_the_highest_stored_one_is_the_sign() -> None:
    """12 of 16 bits; an old overlay lies in the upper four."""
    stored = np.array([[0x1FFF, 0xF001, 0x0800]], dtype=np.uint16)
    assert read_one(make_dicom(stored, bits_stored=12)).pixels.tolist() == [[4095, 1, 2048]]
    signed = make_dicom(stored, bits_stored=12, PixelRepresentation=1)
    assert read_one(signed).pixels.tolist() == [[-1, 1, -2048]]


def test_a_high_bit_above_the_stored_ones_shifts() -> None:
    stored = np.array([[0x1230, 0xFFFF]], dtype=np.uint16)
    assert read_one(make_dicom(stored, bits_stored=12, HighBit=15)).pixels.tolist() == [[0x123, 0xFFF]]


def test_a_high_bit_that_cannot_be_is_ignored() -> None:
    assert read_one(make_dicom(RAMP, bits_stored=12, HighBit=3)).pixels.tolist() == RAMP.tolist()


@pytest.mark.parametrize("decoder", ["native", "RLE"])
def test_run_lengths_have_the_high_bit_of_the_header(decoder: str) -> None:
    dataset = make_dicom(np.array([[0x1230, 0xFFFF]], dtype=np.uint16), bits_stored=12, HighBit=15)
    if decoder == "RLE":
        dataset.compress(UID(RLE), generate_instance_uid=False)
    assert read_one(dataset).pixels.tolist() == [[0x123, 0xFFF]]


def test_overlays_beside_the_pixels_are_kept_out() -> None:
    dataset = make_dicom(RAMP)
    for element, vr, value in ((0x0010, "US", 4), (0x0011, "US", 4), (0x0100, "US", 1), (0x3000, "OW", b"\xff\xff")):
        dataset.add_new((0x6000, element), vr, value)
    assert read_one(dataset).pixels.tolist() == RAMP.tolist()


def test_twelve_bits_may_be_packed() -> None:
    """0x321 and 0x654 are the bytes 21 43 65 (retired)."""
    packed = {"PixelData": bytes([0x21, 0x43, 0x65, 0]), "BitsAllocated": 12, "BitsStored": 12, "HighBit": 11}
    assert read_one(make_dicom(np.zeros((1, 2), np.uint16), **packed)).pixels.tolist() == [[0x321, 0x654]]


def test_three_bytes_may_be_one_value() -> None:
    three = {"PixelData": bytes([1, 0, 0, 0, 0, 1]), "BitsAllocated": 24, "BitsStored": 24, "HighBit": 23}
    assert read_one(make_dicom(np.zeros((1, 2), np.uint16), **three)).pixels.tolist() == [[1, 65536]]


def test_an_odd_number_of_bytes_is_padded() -> None:
    assert read_one(make_dicom(np.ones((3, 3), np.uint8))).pixels.shape == (3, 3)


@pytest.mark.parametrize("vr", ["OB", "OW"])
def test_big_endian_bytes_in_words_are_swapped_back(vr: str) -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    stored = pixels.tobytes() if vr == "OB" else pixels.reshape(-1, 2)[:, ::-1].tobytes()
    dataset = make_dicom(pixels, PixelData=stored)
    dataset["PixelData"].VR = vr
    dataset.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.2")
    assert read_one(dataset).pixels.tolist() == pixels.tolist()


@pytest.mark.parametrize("rows", [2, 3])
def test_only_the_words_of_a_frame_are_swapped(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of an odd number of bytes begin in the middle of a word."""
    pixels = np.arange(4 * rows * 3, dtype=np.uint8).reshape(4, rows, 3)
    dataset = make_dicom(pixels, frames=True, PixelData=pixels.reshape(-1, 2)[:, ::-1].tobytes())
    dataset["PixelData"].VR = "OW"
    dataset.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.2")
    taken: list[int] = []
    swapped = pixel_module._swapped

    def watched(data: memoryview, start: int, end: int) -> memoryview:
        piece = swapped(data, start, end)
        taken.append(len(piece.obj))
        return piece

    monkeypatch.setattr(pixel_module, "_swapped", watched)
    assert [image.pixels.tolist() for image in read(dataset)] == pixels.tolist()
    assert max(taken) <= rows * 3 + 3


# Transfer syntaxes


@pytest.mark.parametrize("name", [name for name, encoding in ENCODINGS.items() if encoding.exact and encoding.encode])
@pytest.mark.parametrize("kind", PLAIN)
def test_lossless_syntaxes_are_exact(name: str, kind: str) -> None:
    (pixels, bits), encoding = PLAIN[kind], ENCODINGS[name]
    assert encoding.encode is not None
    stream = encoding.encode(pixels, bits)
    image = read_one(encapsulated(pixels, encoding.uid, [stream], bits_stored=bits))
    assert np.array_equal(image.pixels, pixels)
    assert (image.provenance.transfer_syntax, image.provenance.decoder) == (encoding.uid, "imagecodecs")


@pytest.mark.parametrize("kind", PLAIN)
def test_run_lengths_are_exact(kind: str) -> None:
    pixels, bits = PLAIN[kind]
    dataset = make_dicom(pixels, bits_stored=bits)
    dataset.compress(UID(RLE), generate_instance_uid=False)
    image = read_one(dataset)
    assert np.array_equal(image.pixels, pixels)
    assert image.provenance.decoder == "pylibjpeg"


@pytest.mark.parametrize("number", [110, 112])
def test_jpeg_xl_is_read(number: int) -> None:
    stream = bytes(imagecodecs.jpegxl_encode(DEEP, lossless=True))
    assert np.array_equal(read_one(encapsulated(DEEP, f"{OF}{number}", [stream], bits_stored=12)).pixels, DEEP)


def test_deflated_frames_are_read() -> None:
    packer = zlib.compressobj(wbits=-15)
    stream = packer.compress(DEEP.tobytes()) + packer.flush()
    assert np.array_equal(read_one(encapsulated(DEEP, "1.2.840.10008.1.2.8.1", [stream])).pixels, DEEP)


@pytest.mark.parametrize("number", [50, 51, 53, 55])
def test_lossy_jpeg_is_close(number: int) -> None:
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    image = read_one(encapsulated(smooth, f"{OF}{number}", [as_jpeg(smooth)]))
    assert np.abs(image.pixels - smooth).max() <= 3


def test_loss_does_not_reach_beyond_what_can_be_stored() -> None:
    """NEMA's RG3 overshoots to 1024 in ten bits."""
    edges = np.where(np.indices((64, 64)).sum(axis=0) % 9 < 4, 1023, 0).astype(np.uint16)
    stream = bytes(imagecodecs.jpeg8_encode(edges, level=20, bitspersample=12))
    assert imagecodecs.jpeg8_decode(stream).max() > 1023
    assert read_one(encapsulated(edges, f"{OF}51", [stream], bits_stored=10)).pixels.max() == 1023


def test_twelve_bit_jpeg_is_read_through_imagecodecs() -> None:
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint16) * 30
    stream = bytes(imagecodecs.jpeg8_encode(smooth, level=95, bitspersample=12))
    image = read_one(encapsulated(smooth, f"{OF}51", [stream], bits_stored=12))
    assert image.provenance.decoder == "imagecodecs"
    assert np.abs(image.pixels - smooth).max() <= 16


def test_jpeg_2000_is_believed_about_its_depth_and_the_header_about_the_sign() -> None:
    """Thirteen unsigned bits in a file of signed pixels are the two's complement of thirteen bits."""
    signed = np.array([[-2000, 0], [4095, -1]], dtype=np.int16)
    stream = as_jpeg_2000((signed & 0x1FFF).astype(np.uint16), bitspersample=13)
    assert read_one(encapsulated(signed, f"{OF}90", [stream], bits_stored=16)).pixels.tolist() == signed.tolist()


@pytest.mark.parametrize("ht", [False, True])
def test_patterns_of_twelve_bits_in_a_deeper_stream_have_the_sign_of_twelve(ht: bool) -> None:
    signed = np.array([[-2048, 0], [2047, -1]] * 16, dtype=np.int16).repeat(16, axis=1)
    patterns = (signed & 0xFFF).astype(np.uint16)
    stream = bytes(imagecodecs.htj2k_encode(patterns, reversible=True)) if ht else as_jpeg_2000(patterns)
    assert np.array_equal(read_one(encapsulated(signed, f"{OF}90", [stream], bits_stored=12)).pixels, signed)


def test_a_deeper_stream_that_uses_its_depth_keeps_its_sign() -> None:
    signed = np.array([[-2000, 0], [4095, -1]], dtype=np.int16)
    stream = as_jpeg_2000(signed.view(np.uint16))
    assert read_one(encapsulated(signed, f"{OF}90", [stream], bits_stored=12)).pixels.tolist() == signed.tolist()


def test_the_stream_decides_how_it_is_decoded_whatever_the_syntax_says() -> None:
    assert np.array_equal(read_one(encapsulated(DEEP, f"{OF}50", [as_jpeg_2000(DEEP)])).pixels, DEEP)


def test_a_decoder_that_panics_is_followed_by_the_next() -> None:
    """pylibjpeg's RLE decoder panics (a BaseException) when a run is longer than the image; pydicom's cuts it."""
    two_segments = np.array([2, 64, 66] + [0] * 13, dtype="<u4").tobytes()
    run_of_128_for_4_pixels = bytes([129, 7])
    image = read_one(encapsulated(np.zeros((2, 2), np.uint16), RLE, [two_segments + run_of_128_for_4_pixels * 2]))
    assert image.provenance.decoder == "pydicom"
    assert image.pixels.tolist() == [[0x0707] * 2] * 2


# Frames


def test_a_multi_frame_file_gives_one_image_per_frame() -> None:
    images = read(make_dicom(np.arange(12, dtype=np.uint8).reshape(3, 2, 2), frames=True))
    assert [image.frame_index for image in images] == [0, 1, 2]
    assert [image.pixels[0, 0] for image in images] == [0, 4, 8]
    assert len({image.id for image in images}) == 3


FRAMES = RNG.integers(0, 4096, (3, 16, 16), dtype=np.uint16)
STREAMS = [bytes(imagecodecs.jpegls_encode(frame)) for frame in FRAMES]


def pieces(stream: bytes, n: int) -> list[bytes]:
    step = -(-len(stream) // n // 2) * 2
    return [stream[at : at + step] for at in range(0, len(stream), step)]


def items(parts: list[bytes], table: bytes = b"") -> bytes:
    padded = [part + b"\0" * (len(part) % 2) for part in [table, *parts]]
    return b"".join(b"\xfe\xff\x00\xe0" + struct.pack("<I", len(part)) + part for part in padded)


def cine(data: bytes, **elements: Any) -> Dataset:
    return encapsulated(FRAMES, f"{OF}80", STREAMS, frames=True, **{"PixelData": data, "bits_stored": 12, **elements})


def test_frames_are_told_apart_by_the_table_of_offsets() -> None:
    parts = [part for stream in STREAMS for part in pieces(stream, 2)]
    lengths = [8 + len(part) + len(part) % 2 for part in parts]
    table = struct.pack("<3I", 0, sum(lengths[:2]), sum(lengths[:4]))
    for image, frame in zip(read(cine(items(parts, table))), FRAMES, strict=True):
        assert np.array_equal(image.pixels, frame)


@pytest.mark.parametrize("table", [b"", struct.pack("<3I", 0, 3, 5)], ids=["none", "wrong"])
@pytest.mark.parametrize("n_pieces", [1, 3])
def test_frames_are_told_apart_without_a_good_table(table: bytes, n_pieces: int) -> None:
    parts = [part for stream in STREAMS for part in pieces(stream, n_pieces)]
    for image, frame in zip(read(cine(items(parts, table))), FRAMES, strict=True):
        assert np.array_equal(image.pixels, frame)


@pytest.mark.parametrize("extended", [True, False])
def test_only_a_table_tells_frames_of_run_lengths_in_pieces_apart(extended: bool) -> None:
    """Nothing in run lengths marks where they begin."""
    streams = []
    for frame in FRAMES:
        dataset = make_dicom(frame)
        dataset.compress(UID(RLE), generate_instance_uid=False)
        streams.append(next(generate_frames(dataset.PixelData, number_of_frames=1)))
    parts = [part for stream in streams for part in pieces(stream, 2)]
    lengths = [8 + len(part) for part in parts]
    offsets = (0, sum(lengths[:2]), sum(lengths[:4]))
    table = {"ExtendedOffsetTable": struct.pack("<3Q", *offsets)} if extended else {}
    data = items(parts, b"" if extended else struct.pack("<3I", *offsets))
    images = read(encapsulated(FRAMES, RLE, streams, frames=True, PixelData=data, **table))
    assert [np.array_equal(image.pixels, frame) for image, frame in zip(images, FRAMES, strict=True)] == [True] * 3


def test_a_long_cine_without_a_table_is_not_searched_again_for_every_frame() -> None:
    tiny = np.zeros((2, 2), np.uint8)
    stream = bytes(imagecodecs.jpegls_encode(tiny))
    dataset = encapsulated([tiny] * 4000, f"{OF}80", [stream] * 4000, frames=True, has_bot=False)
    assert len(read(dataset)) == 4000


@pytest.mark.parametrize("stated", ["1A", "x"])
def test_frames_are_counted_when_their_number_is_none(stated: str) -> None:
    data = dicom_bytes(make_dicom(np.zeros((3, 2, 2), np.uint16), frames=True, NumberOfFrames="77"))
    images = read(data.replace(b"IS\x02\x0077", b"IS\x02\x00" + stated.ljust(2).encode()))
    assert len(images) == 3
    assert "NumberOfFrames is not a number, frames counted" in images[0].provenance.notes


@pytest.mark.parametrize("compressed", [True, False])
def test_fewer_frames_than_stated_are_given_and_the_others_accounted_for(compressed: bool) -> None:
    dataset = cine(items(STREAMS)) if compressed else make_dicom(FRAMES, frames=True)
    dataset.NumberOfFrames = 5
    images, error = read_until_refused(dataset)
    assert [np.array_equal(image.pixels, frame) for image, frame in zip(images, FRAMES, strict=True)] == [True] * 3
    assert (error.outcome, "2 of 5 frames" in error.reason) == ("partial", True)


def test_a_broken_frame_is_left_out_and_said() -> None:
    images, error = read_until_refused(cine(items([STREAMS[0], b"\xff\xd8 no picture", STREAMS[2]])))
    assert [image.frame_index for image in images] == [0, 2]
    assert (error.outcome, "1 of 3 frames" in error.reason) == ("partial", True)


# What is not whole


@pytest.mark.parametrize("missing", [2, 50])
def test_the_end_of_a_cut_image_is_padding_and_said(missing: int) -> None:
    pixels = np.full((16, 16), 7, dtype=np.uint16)
    (image,), error = read_until_refused(dicom_bytes(make_dicom(pixels))[:-missing])
    assert error.outcome == "partial"
    assert image.padding is not None
    n_missing = missing // 2
    assert image.padding.reshape(-1).tolist() == [False] * (256 - n_missing) + [True] * n_missing
    assert (image.pixels[~image.padding] == 7).all()
    assert any("marked as padding" in note for note in image.provenance.notes)


def test_an_image_that_lacks_more_than_a_tenth_is_corrupt() -> None:
    assert refusal(dicom_bytes(make_dicom(np.ones((16, 16), np.uint16)))[:-52]).outcome == "corrupt"


def test_cut_colour_is_corrupt() -> None:
    assert refusal(dicom_bytes(make_dicom(np.ones((16, 16, 3), np.uint8)))[:-2]).outcome == "corrupt"


def test_a_cut_multi_frame_file_gives_its_whole_frames() -> None:
    images, error = read_until_refused(dicom_bytes(make_dicom(FRAMES, frames=True))[:-2])
    assert (len(images), error.outcome) == (2, "partial")


def stream_of(name: str) -> bytes:
    encode = ENCODINGS[name].encode
    assert encode is not None
    return encode(SHALLOW, 8)


CUT = {
    "RLE": RLE,
    **{name: encoding.uid for name, encoding in ENCODINGS.items() if encoding.encode},
}


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("kept", [0.5, 0.95])
def test_cut_streams_are_corrupt(name: str, kept: float) -> None:
    if name == "RLE":
        dataset = make_dicom(SHALLOW)
        dataset.compress(UID(RLE), generate_instance_uid=False)
        stream = bytes(dataset.PixelData[16:-8])
    else:
        stream = stream_of(name)
    assert refusal(encapsulated(SHALLOW, CUT[name], [stream[: int(len(stream) * kept)]])).outcome == "corrupt"


def test_a_cut_compressed_file_gives_the_frames_before_the_cut() -> None:
    data = dicom_bytes(cine(encapsulate(STREAMS)))
    images, error = read_until_refused(data[: -len(STREAMS[2]) - 4])
    assert (len(images), error.outcome) == (2, "partial")


@pytest.mark.parametrize("name", [name for name in CUT if name != "RLE"])
def test_a_stream_of_another_size_never_reaches_a_decoder(name: str) -> None:
    stream = stream_of(name)
    error = refusal(encapsulated(SHALLOW, CUT[name], [stream], Columns=47))
    assert (error.outcome, "32 x 47" in error.reason, "32 x 48" in error.reason) == ("corrupt", True, True)


def test_a_delimiter_inside_a_stream_does_not_end_it() -> None:
    comment = b"\xff\xfe" + struct.pack(">H", 10) + b"\xfe\xff\xdd\xe0\0\0\0\0"
    stream = as_jpeg(SHALLOW)
    image = read_one(encapsulated(SHALLOW, f"{OF}50", [stream[:2] + comment + stream[2:]]))
    assert image.pixels.shape == SHALLOW.shape


LARGE = RNG.integers(0, 64, (128, 128), dtype=np.uint8)
CLOSED = {name: encoding for name, encoding in ENCODINGS.items() if name.startswith("JPEG") and "2000" not in name}


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_cut_streams_closed_again_are_corrupt(name: str, kept: float) -> None:
    """Decoders fill what is missing with grey, or make it up."""
    encoding = CLOSED[name]
    assert encoding.encode is not None
    stream = encoding.encode(LARGE, 8)
    cut = stream[: int(len(stream) * kept)] + b"\xff\xd9"
    assert refusal(encapsulated(LARGE, encoding.uid, [cut])).outcome == "corrupt"


def test_a_frame_that_lacks_a_fragment_is_corrupt() -> None:
    first, _, last = pieces(as_jpeg(LARGE), 3)
    stream = as_jpeg(LARGE)
    dataset = encapsulated(LARGE, f"{OF}50", [stream], PixelData=items([first, last]))
    assert refusal(dataset).outcome == "corrupt"


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("padded", [True, False])
def test_a_stream_that_only_lacks_its_end_is_read_and_said(name: str, padded: bool) -> None:
    encoding = CLOSED[name]
    assert encoding.encode is not None
    stream = encoding.encode(LARGE, 8)
    whole = read_one(encapsulated(LARGE, encoding.uid, [stream]))
    parts = [stream[:-2] + b"\0" * ((len(stream) % 2) or 2 * (padded and "LS" not in name))]
    image = read_one(encapsulated(LARGE, encoding.uid, [stream], PixelData=items(parts)))
    assert np.array_equal(image.pixels, whole.pixels)
    assert any("lacks the mark of its end" in note for note in image.provenance.notes)


def test_a_stream_that_lacks_its_end_and_its_last_bytes_is_corrupt() -> None:
    assert refusal(encapsulated(LARGE, f"{OF}50", [as_jpeg(LARGE)[:-12]])).outcome == "corrupt"


@pytest.mark.parametrize("lead", [b"\0", b"\xff", b"rubbish "])
def test_bytes_before_the_start_of_a_stream_are_left_out_and_said(lead: bytes) -> None:
    image = read_one(encapsulated(LARGE, f"{OF}50", [lead + as_jpeg(LARGE)]))
    assert np.array_equal(image.pixels, imagecodecs.jpeg8_decode(as_jpeg(LARGE)))
    assert any("left out" in note for note in image.provenance.notes)


@pytest.mark.parametrize("syntax", [RLE, f"{OF}80"])
def test_the_table_of_offsets_may_be_left_out(syntax: str) -> None:
    dataset = make_dicom(LARGE)
    dataset.compress(UID(RLE), generate_instance_uid=False)
    run_lengths = next(generate_frames(dataset.PixelData, number_of_frames=1))
    stream = run_lengths if syntax == RLE else bytes(imagecodecs.jpegls_encode(LARGE))
    without = items([], table=stream)
    assert np.array_equal(read_one(encapsulated(LARGE, syntax, [stream], PixelData=without)).pixels, LARGE)
