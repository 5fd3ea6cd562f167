"""One frame of pixels as stored values, whatever the transfer syntax (PS3.5 8 and A).

Native frames are cut out of the file here. Compressed ones go to native decoders only after their own header has been
found to agree with the file's; imagecodecs is asked first, then pydicom's plugins, which may read what it refuses.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from ...archives import RAW_DEFLATE, inflate
from ...errors import BadImage
from ...types import Bool
from ..codecs import FORMATS, decode_stream, refuse_filled
from ..codestream import Codestream, Format, mended, parse_codestream, parse_rle
from ..limits import guarded
from .fragments import Frame, join
from .header import DEFLATED_FRAMES, PLAIN_FRAMES, RLE, Layout
from .parse import BIG_ENDIAN, GE_BIG_PIXELS, PixelElement

Array = npt.NDArray[Any]

logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its messages quote header values: patients first

OURS = "imagecodecs"
PLUGINS: Mapping[Format, tuple[str, tuple[str, ...]]] = {
    "jpeg": ("1.2.840.10008.1.2.4.50", (OURS, "pylibjpeg")),
    "jpeg lossless": ("1.2.840.10008.1.2.4.57", (OURS, "pylibjpeg")),
    "jpeg-ls": ("1.2.840.10008.1.2.4.81", (OURS,)),
    "jpeg 2000": ("1.2.840.10008.1.2.4.91", (OURS, "pylibjpeg")),
    "htj2k": ("1.2.840.10008.1.2.4.203", (OURS, "pylibjpeg")),
    "jpeg xl": ("1.2.840.10008.1.2.4.112", (OURS,)),
    "rle": (RLE, ("pylibjpeg", "pydicom")),
}
"""The transfer syntax under which pydicom keeps its plugins, and the decoders: the fastest first (512 x 512, ms):
baseline grey 0.3 against 2.2 (pylibjpeg) and 1.4 (gdcm), lossless 16 bit 1.9, 8.1, 3.5, JPEG-LS 3.9, 4.2 (pyjpegls),
4.9, HTJ2K 1.1, 2.4; JPEG 2000 18, 18, 20, all of it processor time; RLE 0.4 (pylibjpeg) against 6.6 (pydicom).
pylibjpeg is not asked for JPEG-LS: it makes up what a cut
stream lacks. GDCM is left out: damaged streams, which the first decoder has refused, made it abort the process."""

ENOUGH = 0.9  # of a cut single image, for it to be shown with the rest as padding
UNENDED = "the compressed data lacks the mark of its end and is whole without it"
LEAD = "bytes before the start of the compressed image left out"
DAMAGED = "The pixel data is truncated or damaged."


@dataclass(frozen=True)
class Stored:
    """Stored values before any lookup. pixels: (rows, columns) or (rows, columns, samples).

    bits: of a value, `signed` its sign bit included. colour: what the components are, when the stream knows better than
    the header. missing: where a cut file has no pixels. notes: what was mended to read them.
    """

    pixels: Array
    bits: int
    signed: bool
    decoder: str
    colour: str | None = None
    missing: Bool | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pixels:
    """The pixels of one file. syntax: the transfer syntax they are in. frames: fragments, of encapsulated pixels."""

    element: PixelElement
    layout: Layout
    syntax: str
    frames: Sequence[Frame] = ()

    @property
    def n_available(self) -> int:
        """Frames that are there in full length; a single cut one that has enough of it counts as well."""
        if self.element.encapsulated:
            return len(self.frames)
        n_bits = 8 * len(self.element.data)
        cut = self.layout.n_frames == 1 and n_bits >= ENOUGH * self.layout.frame_bits
        return min(self.layout.n_frames, 1 if cut else n_bits // self.layout.frame_bits)

    def decode(self, index: int) -> Stored:
        """Raises BadImage: corrupt, unsupported."""
        layout = self.layout
        if self.element.encapsulated:
            stream = join(self.frames[index])
            if self.syntax == DEFLATED_FRAMES:
                stream = inflate(stream, RAW_DEFLATE)
            if self.syntax in (DEFLATED_FRAMES, PLAIN_FRAMES):
                return _native(memoryview(stream), layout, 0, big=False, words=False)
            return _compressed(stream, layout, self.syntax)
        words = self.syntax == BIG_ENDIAN and layout.bits_allocated <= 8 and self.element.vr == "OW"
        big = self.syntax in (BIG_ENDIAN, GE_BIG_PIXELS)
        if self.element.keyword != "PixelData":
            return _floats(self.element.data, layout, index, big=big)
        return _native(self.element.data, layout, index, big=big, words=words)


def _floats(data: memoryview, layout: Layout, index: int, *, big: bool) -> Stored:
    dtype = np.dtype(f"{'>' if big else '<'}f{layout.container_bytes}")
    values = np.frombuffer(data, dtype, layout.n_samples, index * layout.n_samples * dtype.itemsize)
    if layout.samples > 1:
        raise BadImage("unsupported", "Colour in floating point numbers is not read.")
    return Stored(values.reshape(layout.rows, layout.columns), layout.bits_allocated, True, "pydicom")


def _native(data: memoryview, layout: Layout, index: int, *, big: bool, words: bool) -> Stored:
    """Frame `index` of uncompressed pixels. words: bytes were swapped in pairs, as 8-bit values in OW are."""
    first_bit = index * layout.frame_bits
    start, end = first_bit // 8, -(-(first_bit + layout.frame_bits) // 8)
    piece = _swapped(data, start, end) if words else data[start:end]
    missing = _missing(len(piece), end - start, layout) if len(piece) < end - start else None
    if missing is not None:
        piece = memoryview(bytes(piece).ljust(end - start, b"\0"))
    values = _unpacked(piece, layout, first_bit % 8, big)
    if layout.frame_bits < layout.n_samples * layout.bits_allocated:
        values = _with_own_colour(values)
    pixels = _settle(_shaped(values, layout), layout.bits_stored, layout.high_bit, layout.signed)
    return Stored(pixels, layout.bits_stored, layout.signed, "pydicom", missing=missing)


def _swapped(data: memoryview, start: int, end: int) -> memoryview:
    """Bytes start..end of the data with the two of each word changed over."""
    even = start - start % 2
    around = data[even : end + end % 2]
    around = around[: len(around) // 2 * 2]
    return memoryview(np.frombuffer(around, ">u2").astype("<u2").tobytes())[start - even :][: end - start]


def _missing(n_bytes: int, wanted: int, layout: Layout) -> Bool:
    """Where a cut image has no pixels; raises BadImage when too much is missing, or it cannot be told where."""
    whole_bytes = layout.bits_allocated % 8 == 0
    if layout.n_frames > 1 or not layout.is_grey or not whole_bytes or n_bytes < ENOUGH * wanted:
        raise BadImage("corrupt", DAMAGED)
    mask = np.zeros(layout.n_samples, dtype=np.bool_)
    mask[n_bytes // layout.container_bytes :] = True
    return mask.reshape(layout.rows, layout.columns)


def _unpacked(piece: memoryview, layout: Layout, first_bit: int, big: bool) -> Array:
    """Samples one after the other, unsigned, in the order of the file."""
    bits = layout.bits_allocated
    if bits == 1:
        return np.unpackbits(np.frombuffer(piece, "u1"), bitorder="little")[first_bit:][: layout.n_samples]
    if bits == 12:  # two samples in three bytes (retired; PS3.5 annex D of 2004)
        flat = np.unpackbits(np.frombuffer(piece, "u1"), bitorder="little")[first_bit:][: 12 * layout.n_samples]
        return flat.reshape(-1, 12) @ (1 << np.arange(12, dtype=np.uint16))
    if bits == 24:
        three = np.frombuffer(piece, "u1").reshape(-1, 3)
        four = np.zeros((len(three), 4), dtype=np.uint8)
        four[:, :3] = three[:, ::-1] if big else three
        return four.view("<u4")[:, 0]
    dtype = np.dtype(f"{'>' if big else '<'}u{layout.container_bytes}")
    return np.frombuffer(piece, dtype).astype(dtype.newbyteorder("="), copy=False)


def _with_own_colour(values: Array) -> Array:
    """Y1 Y2 B R to Y1 B R Y2 B R (PS3.3 C.7.6.3.1.2)."""
    first, second, blue, red = values.reshape(-1, 4).T
    return np.stack((first, blue, red, second, blue, red), axis=1).reshape(-1)


def _shaped(values: Array, layout: Layout) -> Array:
    if layout.samples == 1:
        return values.reshape(layout.rows, layout.columns)
    if layout.planar and not layout.photometric.endswith("_422"):
        return np.moveaxis(values.reshape(layout.samples, layout.rows, layout.columns), 0, -1)
    return values.reshape(layout.rows, layout.columns, layout.samples)


def _settle(values: Array, bits: int, high_bit: int, signed: bool) -> Array:
    """Unsigned containers to values: unused bits, which may hold an overlay, fall out; the sign bit is the highest."""
    container = 8 * values.dtype.itemsize
    unsigned, with_sign = np.dtype(f"u{container // 8}"), np.dtype(f"i{container // 8}")
    values = values if values.dtype == unsigned else values.view(unsigned)
    if bits < container:
        values = values << unsigned.type(container - 1 - high_bit)
    if signed:
        values = values.view(with_sign)
    return values >> values.dtype.type(container - bits) if bits < container else values


def _compressed(stream: bytes, layout: Layout, syntax: str) -> Stored:
    """Checked against the layout, then decoded by the first decoder that can."""
    header = _checked_header(stream, layout, syntax)
    notes = ((LEAD,) if header.lead else ()) + ((UNENDED,) if header.unended else ())
    stream, header = mended(stream, header)
    uid, decoders = PLUGINS[header.format]
    for name in decoders:
        try:
            with guarded("corrupt", DAMAGED):
                pixels, colour = _decoded(name, uid, stream, header, layout)
        except BadImage as error:
            if error.outcome != "corrupt":
                raise
            continue
        refuse_filled(
            stream, header, pixels, partial(_again, name, uid, header, layout), always=name != OURS
        )  # which ends it: another decoder would paint the missing part in another way
        return replace(_settled(pixels, header, layout, name, colour), notes=notes)
    raise BadImage("corrupt", DAMAGED)


def _again(name: str, uid: str, header: Codestream, layout: Layout, stream: bytes) -> Array:
    return _decoded(name, uid, stream, header, layout)[0]


def _checked_header(stream: bytes, layout: Layout, syntax: str) -> Codestream:
    """What the stream is; raises BadImage (corrupt) when it cannot be told, or contradicts the file's header.

    Of a JPEG or JPEG-LS stream its end alone may be missing: whether the picture is whole is seen once it is decoded.
    """
    if syntax == RLE:
        n_bytes = layout.n_samples * layout.container_bytes
        if parse_rle(stream, n_bytes) != layout.samples * layout.container_bytes:
            raise BadImage("corrupt", "The run-length encoded data is not for pixels as the header says.")
        return Codestream("rle")
    header = parse_codestream(stream)
    if header:
        header.check(layout.rows, layout.columns, layout.samples)
    if header is None or not (header.whole or header.unended):
        raise BadImage("corrupt", DAMAGED)
    return header


def _decoded(name: str, uid: str, stream: bytes, header: Codestream, layout: Layout) -> tuple[Array, str | None]:
    """Pixels by one decoder, and what their components are when that is known."""
    shape = (layout.rows, layout.columns) + (layout.samples,) * (layout.samples > 1)
    if name != OURS:
        return _by_plugin(name, uid, stream, header, layout).reshape(shape), header.colour
    if header.format not in FORMATS:
        raise BadImage("corrupt", DAMAGED)
    from_ybr = header.format == "jpeg" and layout.samples == 3 and _is_ybr(header, layout)
    pixels = decode_stream(stream, header, from_ybr=from_ybr)
    if pixels.shape != shape:
        raise BadImage("corrupt", DAMAGED)
    return pixels, "RGB" if from_ybr or header.format == "jpeg xl" else header.colour


def _is_ybr(header: Codestream, layout: Layout) -> bool:
    return (header.colour or layout.photometric[:3]) == "YBR" and "PARTIAL" not in layout.photometric


def _by_plugin(name: str, uid: str, stream: bytes, header: Codestream, layout: Layout) -> Array:
    """Through a plugin of pydicom, without any of its corrections."""
    precision = header.precision or layout.bits_stored
    if header.format == "jpeg" and precision > 8:
        uid = "1.2.840.10008.1.2.4.51"
    allocated = layout.bits_allocated if header.format == "rle" else 8 if precision <= 8 else 16
    decoder = get_decoder(UID(uid))
    if name not in decoder.available_plugins:
        raise BadImage("corrupt", DAMAGED)
    array, _ = decoder.as_array(
        encapsulate([stream]),
        index=0,
        raw=True,
        decoding_plugin=name,
        correct_unused_bits=False,
        apply_j2k_sign_correction=False,
        apply_jls_sign_correction=False,
        pixel_keyword="PixelData",
        rows=layout.rows,
        columns=layout.columns,
        samples_per_pixel=layout.samples,
        planar_configuration=0,
        number_of_frames=1,
        bits_allocated=allocated,
        bits_stored=min(precision, allocated),
        pixel_representation=int(header.signed),
        photometric_interpretation="RGB" if layout.samples == 3 else "MONOCHROME2",
    )
    return np.asarray(array)


def _settled(pixels: Array, header: Codestream, layout: Layout, decoder: str, colour: str | None) -> Stored:
    """Values of the depth and sign that the stream has and the header means.

    JPEG 2000 streams have a precision and sign of their own, and are believed; the same bits are read with the sign of
    the header (scanners wrote signed pixels as if they were not). Other streams know no sign.
    """
    precision = header.precision or (layout.bits_allocated if header.format == "rle" else layout.bits_stored)
    signed = layout.signed and layout.samples == 1
    if header.format in ("jpeg 2000", "htj2k"):
        if signed != header.signed and layout.samples == 1:
            if signed and layout.bits_stored < precision and pixels.max() < 1 << layout.bits_stored:
                precision = layout.bits_stored  # patterns of fewer bits in a deeper stream
            pixels = _settle(pixels, precision, precision - 1, signed)
        return Stored(pixels, precision, signed, decoder, colour)
    bits = min(layout.bits_stored, precision) if header.format == "jpeg-ls" else layout.bits_stored
    bits = min(bits, 8 * pixels.dtype.itemsize)
    if header.lossy:
        if not signed:
            pixels = np.minimum(pixels, pixels.dtype.type(2**bits - 1))  # loss may reach beyond what is stored
            return Stored(pixels, bits, False, decoder, colour)
        return Stored(_settle(pixels, bits, bits - 1, True), bits, True, decoder, colour)
    container = 8 * pixels.dtype.itemsize
    high = layout.high_bit if layout.high_bit < min(precision, container) else bits - 1
    return Stored(_settle(pixels, bits, high, signed), bits, signed, decoder, colour)
