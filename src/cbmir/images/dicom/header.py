"""What the header says of the pixels, mended where the meaning is clear: their layout, kind and transfer syntax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydicom.dataset import Dataset

from ...errors import BadImage
from ...types import ObjectKind
from ..codestream import Format, parse_codestream, parse_rle
from ..limits import check_size
from .elements import has, text_of, whole_of
from .fragments import count_frames, join
from .parse import BIG_ENDIAN, DEFLATED, EXPLICIT, GE_BIG_PIXELS, IMPLICIT, PAPYRUS, Parsed, PixelElement, known_name

NATIVE = frozenset({IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, GE_BIG_PIXELS, PAPYRUS})
DEFLATED_FRAMES, PLAIN_FRAMES, RLE = "1.2.840.10008.1.2.8.1", "1.2.840.10008.1.2.1.98", "1.2.840.10008.1.2.5"
DICOM_ROOT = "1.2.840.10008."
_OF = "1.2.840.10008.1.2.4."
COMPRESSED = frozenset(
    {RLE, DEFLATED_FRAMES, PLAIN_FRAMES}
    | {f"{_OF}{n}" for n in (*range(50, 67), 70, 80, 81, 90, 91, 92, 93, 110, 111, 112, 201, 202, 203)}
)
VIDEO = frozenset(f"{_OF}{n}{part}" for n in range(100, 109) for part in ("", ".1"))
INFERRED: Mapping[Format, str] = {
    "jpeg lossless": f"{_OF}70",
    "jpeg-ls": f"{_OF}80",
    "jpeg 2000": f"{_OF}91",
    "htj2k": f"{_OF}203",
    "jpeg xl": f"{_OF}112",
}
JPEG_PROCESSES = {0: f"{_OF}50", 1: f"{_OF}51", 2: f"{_OF}55"}

KINDS: Mapping[str, ObjectKind] = {
    "1.2.840.10008.5.1.4.1.1.66.4": "segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "segmentation",
    "1.2.840.10008.5.1.4.1.1.481.2": "dose grid",
    "1.2.840.10008.5.1.4.1.1.30": "parametric map",
}
KINDS_BY_MODALITY: Mapping[str, ObjectKind] = {"SEG": "segmentation", "RTDOSE": "dose grid"}
WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
GREY = frozenset({"MONOCHROME1", "MONOCHROME2"})
GREY_UNDEFINED = frozenset({"MONOCHROME", "GRAYSCALE", "GREYSCALE"})  # written by converters
YBR = frozenset({"YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"})
PHOTOMETRIC = GREY | YBR | {"PALETTE COLOR", "RGB", "XYB", "HSV", "ARGB", "CMYK"}
SAMPLES = {"ARGB": 4, "CMYK": 4}
FLOAT_BYTES = 4  # what a grey value takes once decoded
WHOLE_BITS = (1, 8, 12, 16, 24, 32, 64)
SYNTAX_NOTES = {
    True: "transfer syntax guessed from the compressed data",
    False: "transfer syntax guessed from the encoding",
}


@dataclass(frozen=True)
class Layout:
    """The Image Pixel module (PS3.3 C.7.6.3), checked. bits_*: per sample."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    planar: bool
    photometric: str
    n_frames: int = 1

    @property
    def n_samples(self) -> int:
        return self.rows * self.columns * self.samples

    @property
    def container_bytes(self) -> int:
        return (self.bits_allocated + 7) // 8

    @property
    def frame_bits(self) -> int:
        """Of one native frame; two of its pixels share their colour in 422 (PS3.3 C.7.6.3.1.2)."""
        shared = self.samples == 3 and self.photometric.endswith("_422")
        return self.n_samples * self.bits_allocated * (2 if shared else 3) // 3

    @property
    def is_grey(self) -> bool:
        return self.samples == 1 and self.photometric != "PALETTE COLOR"


def refuse_without_pixels(parsed: Parsed) -> PixelElement:
    """The pixels; raises BadImage when there are none, or they are of a video or of a whole slide."""
    dataset = parsed.dataset
    sop_class = text_of(dataset, "SOPClassUID")
    if parsed.pixels is None:
        if has(dataset, "Rows"):  # also where the cut falls between two elements
            raise BadImage("corrupt", "The DICOM object says how large its picture is, and holds no pixels.")
        if parsed.cut and "Image" in (known_name(sop_class) or "Image"):
            raise BadImage("corrupt", "The DICOM header is cut off or damaged.")
        raise BadImage("not_an_image", "The DICOM object holds no pixels.")
    if parsed.transfer_syntax in VIDEO:
        raise BadImage("refused", "The DICOM object is a video, which is not indexed.")
    if sop_class == WHOLE_SLIDE and _is_tiled(dataset):
        raise BadImage("refused", "The DICOM object is a whole-slide image, which is not indexed.")
    return parsed.pixels


def _is_tiled(dataset: Dataset) -> bool:
    """Is the picture more than one tile? A label or an overview is one, and read as any other picture."""
    pairs = (("TotalPixelMatrixRows", "Rows"), ("TotalPixelMatrixColumns", "Columns"))
    larger = any((whole_of(dataset, total) or 0) > (whole_of(dataset, one) or 0) for total, one in pairs)
    return larger or (whole_of(dataset, "NumberOfFrames") or 1) > 1


def kind_of(dataset: Dataset) -> ObjectKind:
    """What the pixels show."""
    by_class = KINDS.get(text_of(dataset, "SOPClassUID"))
    return by_class or KINDS_BY_MODALITY.get(text_of(dataset, "Modality"), "picture")


def read_layout(dataset: Dataset, pixels: PixelElement, notes: list[str]) -> Layout:
    """The layout, mended where its meaning is clear; raises BadImage when there is none, or it asks for too much."""
    rows, columns, allocated = (_needed(dataset, name) for name in ("Rows", "Columns", "BitsAllocated"))
    samples = _samples(dataset, pixels, rows * columns * allocated, notes)
    photometric = _photometric(dataset, samples, notes)
    floats = pixels.keyword != "PixelData"
    if floats:
        allocated = 32 if pixels.keyword == "FloatPixelData" else 64
    if allocated not in WHOLE_BITS:
        raise BadImage("unsupported", f"Pixels of {allocated} bits are not read.")
    representation = whole_of(dataset, "PixelRepresentation")
    if representation is None and not floats:
        notes.append("PixelRepresentation missing, taken as unsigned")
    stored = whole_of(dataset, "BitsStored") or allocated
    if stored > allocated or stored < 1:
        stored = _mended(notes, "BitsStored contradicts BitsAllocated, taken as that", allocated)
    high = whole_of(dataset, "HighBit")
    if high is None or not stored - 1 <= high < allocated:
        high = stored - 1
    planar = samples > 1 and whole_of(dataset, "PlanarConfiguration") == 1
    layout = Layout(rows, columns, samples, allocated, stored, high, representation == 1, planar, photometric)
    check_size(rows, columns, samples, max(layout.container_bytes, FLOAT_BYTES))
    return _with_frames(layout, dataset, pixels, notes)


def _needed(dataset: Dataset, keyword: str) -> int:
    number = whole_of(dataset, keyword)
    if number is None:
        raise BadImage("corrupt", f"The DICOM header does not say {keyword}.")
    return number


def _mended(notes: list[str], note: str, value: int) -> int:
    notes.append(note)
    return value


def _samples(dataset: Dataset, pixels: PixelElement, plane_bits: int, notes: list[str]) -> int:
    """As stated; where one, or nothing, contradicts the photometric interpretation, as many as the pixels show.

    plane_bits: what one sample of every pixel takes.
    """
    stated = whole_of(dataset, "SamplesPerPixel")
    photometric = text_of(dataset, "PhotometricInterpretation").upper()
    if (stated or 1) == 1 and photometric in PHOTOMETRIC - GREY - {"PALETTE COLOR"} and plane_bits:
        found = _samples_of_pixels(pixels, plane_bits * (whole_of(dataset, "NumberOfFrames") or 1))
        if found == 3:
            return _mended(notes, "SamplesPerPixel contradicts the pixels, taken as 3", 3)
        if found != 1:
            raise BadImage("corrupt", "The header contradicts itself about the number of samples per pixel.")
    return stated or _mended(notes, "SamplesPerPixel missing, taken as 1", 1)


def _samples_of_pixels(pixels: PixelElement, plane_bits: int) -> int:
    """By the first stream, else by the number of bytes; 0 when they do not show it."""
    if pixels.encapsulated:
        header = parse_codestream(join(pixels.fragments[:1]))
        return header.samples if header else 0
    wanted = ((samples, (plane_bits * samples + 7) // 8) for samples in (1, 3))
    return next((samples for samples, n_bytes in wanted if n_bytes <= len(pixels.data) <= n_bytes + 1), 0)


def _photometric(dataset: Dataset, samples: int, notes: list[str]) -> str:
    """One of PHOTOMETRIC that the number of samples allows."""
    text = text_of(dataset, "PhotometricInterpretation").upper().replace("PALETTE_COLOR", "PALETTE COLOR")
    one = samples == 1
    if not text:
        text = "MONOCHROME2" if one else "RGB"
        notes.append(f"PhotometricInterpretation missing, taken as {text}")
    if one and text in GREY_UNDEFINED:
        text = "MONOCHROME2"
        notes.append("PhotometricInterpretation is not one that DICOM defines, taken as MONOCHROME2")
    if text not in PHOTOMETRIC:
        raise BadImage("unsupported", "The photometric interpretation is not one that DICOM defines.")
    if samples not in (1, 3, 4) or (samples == 4) != (text in SAMPLES):
        raise BadImage("unsupported", f"{samples} samples per pixel are not read in this photometric interpretation.")
    if one != (text in GREY or text == "PALETTE COLOR"):
        text = "MONOCHROME2" if one else "RGB"
        notes.append(f"PhotometricInterpretation contradicts SamplesPerPixel, taken as {text}")
    return text


def _with_frames(layout: Layout, dataset: Dataset, pixels: PixelElement, notes: list[str]) -> Layout:
    """With the number of frames: as stated, else counted."""
    n_frames = whole_of(dataset, "NumberOfFrames")
    if n_frames is None:
        n_frames = 1
        if has(dataset, "NumberOfFrames") and not _is_empty(dataset, "NumberOfFrames"):
            notes.append("NumberOfFrames is not a number, frames counted")
            n_frames = count_frames(pixels) if pixels.encapsulated else len(pixels.data) * 8 // layout.frame_bits
    n_frames = 1 if n_frames == 0 else n_frames
    check_size(layout.rows, layout.columns, layout.samples, layout.container_bytes, n_frames)
    layout = replace(layout, n_frames=n_frames)
    full = replace(layout, photometric="YBR_FULL")
    if layout.photometric == "YBR_FULL_422" and not pixels.encapsulated and _fits(full, pixels):
        notes.append("the pixels do not share their colour as YBR_FULL_422 says, taken as YBR_FULL")
        return full
    return layout


def _is_empty(dataset: Dataset, keyword: str) -> bool:
    try:
        return dataset.get(keyword) in (None, "")
    except Exception:  # there is something that is no value
        return False


def _fits(layout: Layout, pixels: PixelElement) -> bool:
    """Are there exactly the bytes that native frames take, up to one that pads?"""
    wanted = (layout.frame_bits * layout.n_frames + 7) // 8
    return wanted <= len(pixels.data) <= wanted + 1 and pixels.stated == len(pixels.data)


def settle_syntax(parsed: Parsed, pixels: PixelElement, layout: Layout, notes: list[str]) -> str:
    """The transfer syntax the pixels are in: as stated, or as they show when nothing else is said or it cannot be.

    A private syntax whose pixels take as many bytes as native ones is taken for that (GE and Philips have such).
    Raises BadImage: unsupported for a syntax that is not read, corrupt when nothing fits.
    """
    stated = parsed.transfer_syntax
    private = stated and not stated.startswith(DICOM_ROOT) and not pixels.encapsulated
    if stated and stated not in NATIVE | COMPRESSED and not (private and _fits(layout, pixels)):
        raise BadImage("unsupported", f"Transfer syntax {known_name(stated) or 'of an unknown kind'} is not read.")
    if stated and not private and (stated in COMPRESSED) == pixels.encapsulated:
        return stated
    found = _syntax_of_stream(pixels, layout) if pixels.encapsulated else None
    if not pixels.encapsulated and _fits(layout, pixels):
        found = (IMPLICIT if parsed.implicit else EXPLICIT) if parsed.little else BIG_ENDIAN
    if found is None:
        raise BadImage("corrupt", "The pixels are not in the transfer syntax that the header states, or states none.")
    notes.append(SYNTAX_NOTES[pixels.encapsulated])
    return found


def _syntax_of_stream(pixels: PixelElement, layout: Layout) -> str | None:
    stream = join(pixels.fragments if layout.n_frames == 1 else pixels.fragments[:1])
    header = parse_codestream(stream)
    if header:
        return JPEG_PROCESSES.get(header.sof, f"{_OF}55") if header.format == "jpeg" else INFERRED[header.format]
    try:
        fits = parse_rle(stream, layout.n_samples * layout.container_bytes) == layout.samples * layout.container_bytes
    except BadImage:
        return None
    return RLE if fits else None
