"""What a compressed frame says of itself, read before a native decoder sees it: format, size, precision, completeness.

Sources: JPEG ISO 10918-1 B.2, JPEG-LS ISO 14495-1 C.2, JPEG 2000 ISO 15444-1 A.5 and I.4, HTJ2K ISO 15444-15 A,
JPEG XL ISO 18181-1 D.2, RLE DICOM PS3.5 G.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from ..errors import BadImage

Format = Literal["jpeg", "jpeg lossless", "jpeg-ls", "jpeg 2000", "htj2k", "jpeg xl", "rle"]

JP2_BOX, JXL_BOX = b"\0\0\0\x0cjP  ", b"\0\0\0\x0cJXL "
START_OF_IMAGE, START_OF_SCAN, END_OF_IMAGE, DEFINE_LINES = b"\xff\xd8", b"\xff\xda", b"\xff\xd9", b"\xff\xdc\0\x04"
START_OF_CODESTREAM = b"\xff\x4f\xff\x51"  # of JPEG 2000
LONGEST_LEAD = 64  # bytes of rubbish some writers put before the start of the image
STARTS = (START_OF_IMAGE, START_OF_CODESTREAM, b"\xff\x0a", JP2_BOX, JXL_BOX)
SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start of frame; the three are tables and extensions
SOF_LOSSLESS, SOF_JPEG_LS = frozenset({0xC3, 0xC7, 0xCB, 0xCF}), 0xF7
JPEGS: frozenset[Format] = frozenset({"jpeg", "jpeg lossless", "jpeg-ls"})
ARITHMETIC = 9  # the first process with arithmetic coding
ANY_MARKER = re.compile(rb"\xff+[^\x00\xff]")  # with the bytes that fill up before it
RESTART = re.compile(rb"\xff[\xd0-\xd7]")
FILLER = b"\x5a\xa7\x33\xc9" * 64  # bytes like those of a picture
ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
MAX_TILES = 65535
JXL_RATIOS = ((1, 1), (6, 5), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


@dataclass(frozen=True)
class Codestream:
    """rows, columns, samples, precision (bits): 0 where the stream does not say.

    sof: the JPEG process (0 baseline, 1 extended, 2 progressive, 3 lossless). colour: what the markers say that the
    components are, None when they say nothing; for JPEG 2000, RGB when the stream undoes its own colour transform.
    near: the loss allowed by JPEG-LS. whole: does the stream end as it should. unended: nothing but the mark of the end
    is missing. staged: of a JPEG in several scans or with restart markers, where a gap need not show in the last pixel.
    lead: bytes before the start of the image. lines_at: where the frame header leaves the number of lines open, else 0.
    unit_rows, unit_columns: pixels of a minimum coded unit.
    """

    format: Format
    rows: int = 0
    columns: int = 0
    samples: int = 0
    precision: int = 0
    signed: bool = False
    colour: Literal["RGB", "YBR"] | None = None
    sof: int = -1
    near: int = 0
    whole: bool = True
    unended: bool = False
    staged: bool = False
    lead: int = 0
    lines_at: int = 0
    unit_rows: int = 0
    unit_columns: int = 0

    @property
    def lossy(self) -> bool:
        return self.format == "jpeg" or self.near > 0

    def check(self, rows: int, columns: int, samples: int) -> None:
        """Raises BadImage (corrupt) when the stream holds a picture of another size than the header says."""
        pairs = ((self.rows, rows), (self.columns, columns), (self.samples, samples))
        if any(said and said != wanted for said, wanted in pairs):
            raise BadImage(
                "corrupt",
                f"The header says {rows} x {columns} pixels with {samples} samples, the compressed data "
                f"{self.rows} x {self.columns} with {self.samples or samples}.",
            )


def starts_image(stream: bytes) -> bool:
    """Does a JPEG, JPEG-LS, JPEG 2000 or JPEG XL stream begin here?"""
    return stream.startswith(STARTS)


def parse_codestream(stream: bytes) -> Codestream | None:
    """None when no known stream can be made out. RLE has no mark: see parse_rle."""
    try:
        if stream.startswith((JXL_BOX, b"\xff\x0a")):
            return _parse_jpeg_xl(_boxed(stream, (b"jxlc", b"jxlp")))
        if stream.startswith((JP2_BOX, START_OF_CODESTREAM)):
            return _parse_jpeg_2000(_boxed(stream, (b"jp2c",)))
        start = stream[: LONGEST_LEAD + 2].find(START_OF_IMAGE)
        return _parse_jpeg(stream, start) if start >= 0 else None
    except (IndexError, ValueError):
        return None


def parse_rle(stream: bytes, n_bytes: int) -> int:
    """The number of segments; n_bytes: what the frame takes when decoded.

    Raises BadImage: corrupt when the header of the segments contradicts itself or so few bytes cannot become so many
    (two bytes become at most 128).
    """
    words = [int.from_bytes(stream[at : at + 4], "little") for at in range(0, 64, 4)]
    n_segments, offsets = words[0], words[1 : 1 + words[0]]
    ordered = offsets == sorted(set(offsets)) and all(64 <= offset < len(stream) for offset in offsets)
    if len(stream) < 64 or not 1 <= n_segments <= 15 or not ordered:
        raise BadImage("corrupt", "The run-length encoded data does not begin with a header of its segments.")
    if (len(stream) - 64) * 64 < n_bytes:
        raise BadImage("corrupt", "The run-length encoded data is too short for the size of the picture.")
    return n_segments


def mended(stream: bytes, header: Codestream) -> tuple[bytes, Codestream]:
    """A JPEG or JPEG-LS stream as decoders want it: nothing before it, its number of lines in the frame header, ended.

    Other streams come back as they are, and so does one that was mended before.
    """
    if header.format not in JPEGS:
        return stream, header
    if header.lines_at:
        stream = stream[: header.lines_at] + header.rows.to_bytes(2, "big") + stream[header.lines_at + 2 :]
    if header.unended and not stream.endswith(END_OF_IMAGE):
        padded = header.format == "jpeg-ls" and stream[-1:] == b"\0"  # to an even length, where nothing may be
        stream = stream[: len(stream) - padded] + END_OF_IMAGE
    return stream[header.lead :], replace(header, lead=0, lines_at=0)


def with_filler(stream: bytes) -> bytes:
    """A JPEG with more bytes at the end of all entropy-coded data, where a decoder of a whole picture ignores them."""
    parts: list[bytes] = []
    done, at, in_data = 0, 2, False
    while found := ANY_MARKER.search(stream, at):
        if in_data:
            parts += [stream[done : found.start()], FILLER]
            done = found.start()
        marker, at = found[0][-1], found.end()
        if marker == 0xD9:
            break
        if marker not in ALONE:
            in_data, at = marker == 0xDA, _after_segment(stream, at - 2)
    return b"".join([*parts, stream[done:]])


def _after_segment(stream: bytes, marker_at: int) -> int:
    return marker_at + 2 + _big(stream, marker_at + 2, 2)


def _big(stream: bytes, at: int, n_bytes: int) -> int:
    if at + n_bytes > len(stream):
        raise IndexError
    return int.from_bytes(stream[at : at + n_bytes], "big")


def _parse_jpeg(stream: bytes, lead: int) -> Codestream | None:
    """From the start of the image, which is `lead` bytes behind that of the stream, to the first scan."""
    found: Codestream | None = None
    told: Literal["RGB", "YBR"] | None = None
    interval, at = 0, lead + 2
    while True:
        while stream[at] == 0xFF and stream[at + 1] == 0xFF:  # fill bytes
            at += 1
        if stream[at] != 0xFF:
            return None
        marker, at = stream[at + 1], at + 2
        if marker in ALONE:
            continue
        if marker == 0xDA and found:
            break
        length = _big(stream, at, 2)
        if length < 2 or marker in (0xD9, 0xDA):
            return None
        segment = stream[at + 2 : at + length]
        if marker in SOF or marker == SOF_JPEG_LS:
            found = _frame_header(marker, segment)
            found = replace(found, lead=lead, lines_at=0 if found.rows else at + 3)
        elif marker == 0xDD:
            interval = _big(segment, 0, 2)
        elif marker == 0xE0 and segment.startswith(b"JFIF"):
            told = told or "YBR"
        elif marker == 0xEE and segment.startswith(b"Adobe") and len(segment) >= 12:
            told = "YBR" if segment[11] else "RGB"
        at += length
    near = stream[at + 3 + 2 * stream[at + 2]] if found.format == "jpeg-ls" else 0
    found = replace(found, rows=found.rows or _lines_at_the_end(stream), near=near, colour=found.colour or told)
    return _with_completeness(found, stream, at, interval)


def _with_completeness(header: Codestream, stream: bytes, scan: int, interval: int) -> Codestream:
    """scan: behind the marker of the first. interval: of restart markers, in minimum coded units; 0 without."""
    ends = stream.rfind(END_OF_IMAGE) > stream.rfind(START_OF_SCAN)
    enough = 8 * (len(stream) - scan) >= _fewest_bits(header)
    staged = False
    if header.format != "jpeg-ls" and header.sof < ARITHMETIC:
        apart = stream[scan + 2] < header.samples
        staged = apart or interval > 0 or header.sof in (2, 6)
        enough = enough and not (apart and len(_components(stream, scan - 2)) < header.samples)
        enough = enough and not (header.sof == 2 and _lacks_refinement(stream, scan - 2))
        enough = enough and not (interval and not apart and _lacks_restarts(header, stream, scan, interval))
    return replace(header, whole=ends and enough, unended=not ends and enough, staged=staged)


def _components(stream: bytes, at: int) -> set[int]:
    """Those that have a scan."""
    seen: set[int] = set()
    while at >= 0 and at + 5 <= len(stream):
        seen.update(stream[at + 5 : at + 5 + 2 * stream[at + 4] : 2])
        at = stream.find(START_OF_SCAN, at + 2)
    return seen


def _lacks_refinement(stream: bytes, at: int) -> bool:
    """Of a progressive stream: is there a coefficient some of whose bits were announced and do not come? (G.1.1.1)"""
    to_come: dict[tuple[int, int], int] = {}
    while at >= 0 and at + 5 <= len(stream):
        n_components = stream[at + 4]
        names = stream[at + 5 : at + 5 + 2 * n_components : 2]
        first, last, bits = stream[at + 5 + 2 * n_components : at + 8 + 2 * n_components]
        places = [(name, place) for name in names for place in range(first, min(last, 63) + 1)]
        if bits >> 4 and any(to_come.get(place) != bits >> 4 for place in places):
            return True
        to_come.update(dict.fromkeys(places, bits & 15))
        at = stream.find(START_OF_SCAN, at + 2)
    return any(to_come.values())


def _lacks_restarts(header: Codestream, stream: bytes, scan: int, interval: int) -> bool:
    """Are there fewer restart markers than the size of the picture asks for? Only of one scan of everything."""
    if header.sof in (2, 6) or not header.unit_rows * header.unit_columns:
        return False
    n_units = -(-header.rows // header.unit_rows) * -(-header.columns // header.unit_columns)
    return len(RESTART.findall(stream, scan)) < -(-n_units // interval) - 1


def _fewest_bits(header: Codestream) -> int:
    """What a picture of this size takes at least: two bits per block of 64, one per lossless sample (ISO 10918-1 F, H).

    Nothing can be said of progressive streams, whose runs are long, of arithmetic coding and of JPEG-LS.
    """
    pixels = header.rows * header.columns
    return {0: pixels // 32, 1: pixels // 32, 3: pixels * header.samples}.get(header.sof, 0)


def _frame_header(marker: int, segment: bytes) -> Codestream:
    samples = segment[5]
    components = [(segment[6 + 3 * i], segment[7 + 3 * i]) for i in range(samples)]
    by_name = bytes(name for name, _ in components).upper() == b"RGB"
    subsampled = samples == 3 and len({factors for _, factors in components}) > 1  # RGB never is
    jpeg_ls, lossless = marker == SOF_JPEG_LS, marker in SOF_LOSSLESS
    down, across = (max((f >> shift & 15 for _, f in components if samples > 1), default=1) for shift in (0, 4))
    return Codestream(
        format="jpeg-ls" if jpeg_ls else "jpeg lossless" if lossless else "jpeg",
        rows=_big(segment, 1, 2),
        columns=_big(segment, 3, 2),
        samples=samples,
        precision=segment[0],
        colour="RGB" if by_name else "YBR" if subsampled else None,
        sof=marker - 0xC0,
        unit_rows=down * (1 if lossless else 8),
        unit_columns=across * (1 if lossless else 8),
    )


def _lines_at_the_end(stream: bytes) -> int:
    """The number of lines when it is defined after the first scan (ISO 10918-1 B.2.5); 0 when it is not."""
    at = stream.rfind(DEFINE_LINES)
    return int.from_bytes(stream[at + 4 : at + 6], "big") if at > 0 else 0


def _boxed(stream: bytes, names: tuple[bytes, ...]) -> bytes:
    """The codestream inside a file of boxes (length, name, content); a bare one as it is."""
    if not stream.startswith((JP2_BOX, JXL_BOX)):
        return stream
    at = 0
    while at + 8 <= len(stream):
        length, name = _big(stream, at, 4), stream[at + 4 : at + 8]
        if name in names:
            skip = 8 + 8 * (length == 1) + 4 * (name == b"jxlp")
            return stream[at + skip : at + length if length > 8 else len(stream)]
        if length < 8:
            break
        at += length
    raise ValueError


def _parse_jpeg_2000(stream: bytes) -> Codestream | None:
    """The SIZ segment, the colour transform of COD, and whether all tiles are there whole."""
    if stream[:4] != START_OF_CODESTREAM:
        return None
    x1, y1, x0, y0, tile_width, tile_height, tile_x0, tile_y0 = (_big(stream, 8 + 4 * i, 4) for i in range(8))
    samples, depth = _big(stream, 40, 2), stream[42]
    if not (tile_width and tile_height and x1 > x0 and y1 > y0):
        return None
    n_tiles = -(-(x1 - tile_x0) // tile_width) * -(-(y1 - tile_y0) // tile_height)
    at, high_throughput, transformed = 4 + _big(stream, 4, 2), False, False
    while stream[at : at + 2] != b"\xff\x90":
        marker = stream[at : at + 2]
        high_throughput |= marker == b"\xff\x50"
        if marker == b"\xff\x52":
            transformed = stream[at + 8] == 1
        at += 2 + _big(stream, at + 2, 2)
    return Codestream(
        format="htj2k" if high_throughput else "jpeg 2000",
        rows=y1 - y0,
        columns=x1 - x0,
        samples=samples,
        precision=(depth & 0x7F) + 1,
        signed=bool(depth & 0x80),
        colour="RGB" if transformed else None,
        whole=0 < n_tiles <= MAX_TILES and _has_all_tiles(stream, at, n_tiles),
    )


def _has_all_tiles(stream: bytes, at: int, n_tiles: int) -> bool:
    """Walk from tile-part to tile-part by their lengths; the last may leave it open (0)."""
    seen = set()
    while stream[at : at + 2] == b"\xff\x90" and at + 12 <= len(stream):
        seen.add(_big(stream, at + 4, 2))
        length = _big(stream, at + 6, 4)
        if not length:
            return len(seen) == n_tiles and END_OF_IMAGE in stream[-4:]
        if length < 12 or at + length > len(stream):
            return False
        at += length
    return len(seen) == n_tiles


def _parse_jpeg_xl(stream: bytes) -> Codestream | None:
    """The size header: bit fields, lowest bit first."""
    if not stream.startswith(b"\xff\x0a"):
        return None
    bits, at = int.from_bytes(stream[2:14], "little"), 0

    def take(n: int) -> int:
        nonlocal at
        at += n
        return (bits >> (at - n)) & ((1 << n) - 1)

    small = bool(take(1))

    def size() -> int:
        return 8 * (take(5) + 1) if small else 1 + take((9, 13, 18, 30)[take(2)])

    rows = size()
    ratio = take(3)
    columns = rows * JXL_RATIOS[ratio - 1][0] // JXL_RATIOS[ratio - 1][1] if ratio else size()
    return Codestream("jpeg xl", rows=rows, columns=columns)
