"""Files that are small on disk and ask for much, or lie: each made here, byte by byte where no library would."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID

from make_dicom import dicom_bytes, make_dicom

RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8)
DEFLATED, RLE = UID("1.2.840.10008.1.2.1.99"), UID("1.2.840.10008.1.2.5")
JPEG_BASELINE, JPEG_2000 = UID("1.2.840.10008.1.2.4.50"), UID("1.2.840.10008.1.2.4.90")
SQ_UNDEFINED = struct.pack("<HH2sxxI", 0x0040, 0xA730, b"SQ", 0xFFFFFFFF)
ITEM_UNDEFINED = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
ENDS_OF_ITEM_AND_SQ = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)


def dicom(pixels: np.ndarray = RAMP, **elements: Any) -> bytes:
    return dicom_bytes(make_dicom(pixels, **elements))


def encapsulated(stream: bytes, syntax: UID, rows: int = 8, columns: int = 8, **elements: Any) -> bytes:
    """A DICOM file with one fragment that need not be what its syntax and size say."""
    dataset = make_dicom(RAMP, Rows=rows, Columns=columns, **elements)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].VR = "OB"
    return dicom_bytes(dataset)


def with_elements(elements: bytes) -> bytes:
    """A good DICOM file with these in front of its pixels."""
    whole = dicom()
    at = whole.rindex(struct.pack("<HH", 0x7FE0, 0x0010))
    return whole[:at] + elements + whole[at:]


def deflated_bomb(n_bytes: int) -> bytes:
    """A deflated DICOM file whose private element is so many zeros."""
    whole = dicom()
    start = whole.index(struct.pack("<HH", 0x0008, 0x0016))
    header = whole[:start].replace(b"\x14\x001.2.840.10008.1.2.1\0", b"\x16\x001.2.840.10008.1.2.1.99")
    header = _with_meta_length(header)
    private = struct.pack("<HH2sxxI", 0x0009, 0x1001, b"OB", n_bytes)
    at = whole.index(struct.pack("<HH", 0x0028, 0x0002))
    squeeze = zlib.compressobj(9, wbits=-15)
    body = squeeze.compress(whole[start:at] + private)
    for _ in range(n_bytes >> 20):
        body += squeeze.compress(bytes(2**20))
    return header + body + squeeze.compress(whole[at:]) + squeeze.flush()


def _with_meta_length(header: bytes) -> bytes:
    """Group 2 says how long it is, in its first element."""
    return header[:140] + struct.pack("<I", len(header) - 144) + header[144:]


def squeezed_zeros(n_bytes: int, wbits: int) -> bytes:
    squeeze = zlib.compressobj(9, wbits=wbits)
    pieces = [squeeze.compress(bytes(2**20)) for _ in range(n_bytes >> 20)]
    return b"".join([*pieces, squeeze.flush()])


def gzip_bomb(n_bytes: int) -> bytes:
    return squeezed_zeros(n_bytes, 31)


def zip_bomb(n_bytes: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.dcm", "w") as member:
        for _ in range(n_bytes >> 20):
            member.write(bytes(2**20))
    return file.getvalue()


def zip_of(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.dcm", data)
    return file.getvalue()


def lying_zip(n_bytes: int) -> bytes:
    """The directory says that the member has 100 bytes."""
    data = zip_bomb(n_bytes)
    size = struct.pack("<I", n_bytes)
    return data.replace(size, struct.pack("<I", 100))


def png(rows: int, columns: int, depth: int, data: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", columns, rows, depth, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def png_bomb(side: int) -> bytes:
    return png(side, side, 8, squeezed_zeros(side * (side + 1), 15))


def tiff(rows: int, columns: int, *, compression: int, strip: bytes, samples: int = 1) -> bytes:
    """One strip that is said to hold the whole page, of 8 bits."""
    tags = [
        (256, 4, columns), (257, 4, rows), (258, 3, 8), (259, 3, compression), (262, 3, 1), (273, 4, 8),
        (277, 3, samples), (278, 4, rows), (279, 4, len(strip)),
    ]  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, kind, 1, v) for tag, kind, v in tags)
    return struct.pack("<2sHI", b"II", 42, 8 + len(strip)) + strip + directory + bytes(4)


def tiff_cycle() -> bytes:
    """A page whose next page is itself."""
    data = tiff(8, 8, compression=1, strip=RAMP.tobytes())
    return data[:-4] + struct.pack("<I", 8 + 64)


def jpeg(rows: int, columns: int) -> bytes:
    """A good JPEG file, but for its size."""
    data = _picture("JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", rows, columns) + data[at + 4 :]


def jpeg_2000(rows: int, columns: int) -> bytes:
    """A good codestream, but for its size; in one tile."""
    data = _picture("JPEG2000", no_jp2=True)
    at = data.index(b"\xff\x51") + 6
    sizes = struct.pack(">IIIIIIII", columns, rows, 0, 0, columns, rows, 0, 0)
    return data[:at] + sizes + data[at + 32 :]


def gif(rows: int, columns: int) -> bytes:
    data = _picture("GIF")
    return data[:6] + struct.pack("<HH", columns, rows) + data[10:]


def gif_frames(n: int) -> bytes:
    """A black GIF and so many frames of one pixel."""
    data = _picture("GIF")
    frame = b"\x2c" + bytes(4) + struct.pack("<HH", 1, 1) + b"\0\x02\x02\x44\x01\0"
    return data[:-1] + n * frame + b"\x3b"


def _picture(kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.kron(RAMP, np.ones((4, 4), np.uint8)) * 3).save(file, kind, **options)
    return file.getvalue()


def rle(rows: int, columns: int) -> bytes:
    """A DICOM file of runs, a vertical ramp: 2 bytes for up to 128 pixels."""
    runs = columns // 128
    row = np.zeros((runs, 2), np.uint8)
    row[:, 0] = 129  # 128 times what follows
    lines = np.tile(row, (rows, 1, 1))
    lines[:, :, 1] = (np.arange(rows) % 251)[:, None]
    segment = lines.tobytes()
    header = struct.pack("<16I", 1, 64, *[0] * 14)
    return encapsulated(header + segment, RLE, rows, runs * 128)


def nested(depth: int) -> bytes:
    """Sequences inside sequences, of undefined lengths."""
    return with_elements((SQ_UNDEFINED + ITEM_UNDEFINED) * depth + ENDS_OF_ITEM_AND_SQ * depth)


def nested_defined(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
        inner = struct.pack("<HH2sxxI", 0x0040, 0xA730, b"SQ", len(item)) + item
    return with_elements(inner)


def many_elements(n: int) -> bytes:
    """So many private elements of no bytes."""
    numbers = np.arange(n)
    table = np.zeros(n, dtype=[("group", "<u2"), ("element", "<u2"), ("vr", "S2"), ("length", "<u2")])
    table["group"], table["element"], table["vr"] = 0x0029 + 2 * (numbers // 0xEF00), 0x1000 + numbers % 0xEF00, b"LO"
    return with_elements(table.tobytes())


def many_items(n: int) -> bytes:
    return with_elements(SQ_UNDEFINED + struct.pack("<HHI", 0xFFFE, 0xE000, 0) * n + ENDS_OF_ITEM_AND_SQ[8:])


def huge_length() -> bytes:
    return with_elements(struct.pack("<HH2sxxI", 0x0029, 0x1001, b"OB", 2**31))


def without_meta() -> bytes:
    """As implicit little endian files once were: no preamble, no file header."""
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, True
    write_dataset(file, make_dicom(RAMP))
    return bytes(file.getvalue())


def float_map(pixels: np.ndarray) -> bytes:
    dataset = make_dicom(RAMP)
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = 32
    dataset.FloatPixelData = pixels.astype("<f4").tobytes()
    return dicom_bytes(dataset)


def one_bit(side: int) -> bytes:
    """As large as a picture gets: stripes, one bit a pixel."""
    dataset = make_dicom(RAMP, Rows=side, Columns=side, BitsAllocated=1, BitsStored=1, HighBit=0)
    dataset.PixelData = b"\x0f" * (side * side // 8)
    return dicom_bytes(dataset)


def cine(n: int, **elements: Any) -> Dataset:
    frames = (RAMP[None].astype(int) + np.arange(n)[:, None, None]) % 256
    return make_dicom(frames.astype(np.uint8), frames=True, **elements)


def gzip_of(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)
