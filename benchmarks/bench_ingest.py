"""`index` over a large tree of small files: rate, memory that stays flat, and the rate of a second run.

python benchmarks/bench_ingest.py [--files 100000]

The tree is generated: DICOM files of 32x32 pixels, each with a UID and pixels of its own. The encoder is `pixels`, so
that what is measured is reading and book-keeping. Memory is the sum of the peaks of the main process and of its
workers, in the first fifth of the files and in the rest.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np

from measure import CORES, Row, run, table

SIDE = 32
FILES_PER_FOLDER = 1000
RERUN_TARGET = 20_000  # files a second
FLAT_TARGET = 1.1  # memory at the end over memory at a fifth

INDEX = """
import json, sys, time
from pathlib import Path
sys.path.insert(0, {benchmarks!r})
from bench_ingest import peak_mb
from cbmir.encoder import load_encoder
from cbmir.gallery import Gallery
from cbmir.ingest import index_source
from cbmir.privacy import Pseudonyms
from cbmir.sources import open_source

directory, n_files, pseudonyms, encoder = Path({gallery!r}), {n_files}, Pseudonyms(bytes(32)), load_encoder("pixels")
peak = {{"early": 0.0, "late": 0.0}}

def watch(done, total, outcomes):
    part = "early" if done <= n_files / 5 else "late"
    peak[part] = max(peak[part], peak_mb())

make = Gallery.open if directory.exists() else lambda path: Gallery.create(path, encoder, pseudonyms)
with make(directory) as gallery:
    started = time.process_time()
    report = index_source(open_source(Path({data!r})), gallery, encoder, pseudonyms, on_progress=watch)
    counts = {{"added": report.added, "unchanged": report.unchanged, "rate": report.rate, "records": gallery.count}}
    counts["cpu_s"] = time.process_time() - started
    print(json.dumps({{**counts, **peak}}))
"""


def generate(folder: Path, n_files: int) -> None:
    """DICOM files that differ in UID and pixels, from one template with both places patched."""
    data, uid, pixels = _template()
    draw = np.random.default_rng(0)
    for start in range(0, n_files, FILES_PER_FOLDER):
        inside = folder / f"{start // FILES_PER_FOLDER:05}"
        inside.mkdir(parents=True)
        count = min(FILES_PER_FOLDER, n_files - start)
        for number, noise in enumerate(draw.integers(0, 256, (count, SIDE * SIDE), np.uint8), start):
            data[pixels : pixels + SIDE * SIDE] = noise.tobytes()
            for place in uid:
                data[place : place + 10] = b"%010d" % (1_000_000_000 + number)
            (inside / f"{number:07}.dcm").write_bytes(data)


def _template() -> tuple[bytearray, list[int], int]:
    """A file, where the last ten digits of its UID stand in it, and where its pixels begin."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    marker = "1.2.826.0.1.3680043.8.498.9999999999"
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = CTImageStorage, marker, "CT"
    dataset.Rows = dataset.Columns = SIDE
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.RescaleSlope, dataset.RescaleIntercept = 8, -1024
    dataset.PixelData = b"\xa5" * SIDE * SIDE
    dataset["PixelData"].VR = "OB"
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    data = file.getvalue()
    uids = [place for place in range(len(data)) if data.startswith(marker.encode(), place)]
    return bytearray(data), [place + len(marker) - 10 for place in uids], data.index(b"\xa5" * SIDE * SIDE)


def peak_mb() -> float:
    """Peak resident memory of this process and of its workers together, so far."""
    return sum(_peak_mb(pid) for pid in [os.getpid(), *_workers()])


def _workers() -> list[int]:
    """The processes that any of this process's threads has started."""
    found = []
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has just ended
            found += [int(pid) for pid in (thread / "children").read_text().split()]
    return found


def _peak_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has just ended
        return 0.0
    return sum(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:"))


def index(data: Path, gallery: Path, n_files: int, *, one_core: bool = False) -> dict[str, float]:
    """One index run in a process of its own. one_core: it and all its threads on one core."""
    benchmarks = str(Path(__file__).resolve().parent)
    code = INDEX.format(benchmarks=benchmarks, data=str(data), gallery=str(gallery), n_files=n_files)
    pin = f"import os; os.sched_setaffinity(0, [{min(os.sched_getaffinity(0))}])\n" if one_core else ""
    done: dict[str, float] = json.loads(run([sys.executable, "-c", pin + code]).stdout)
    return done


def rows(n_files: int = 100_000) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        data, gallery = Path(folder) / "data", Path(folder) / "gallery"
        generate(data, n_files)
        first = index(data, gallery, n_files)
        again = index(data, gallery, n_files, one_core=True)
    early, late = first["early"], first["late"]
    whole = first["added"] == first["records"] == again["unchanged"] == n_files
    return [
        Row(
            f"index {n_files:,} DICOM files of {SIDE}x{SIDE}, {CORES} cores, all there once",
            f"{first['rate']:,.0f} files/s, {first['added']:,} images",
            "every image once",
            whole,
        ),
        Row(
            "peak memory of main process and workers, in the first fifth of the files and in the rest",
            f"{early:.0f} MB, {late:.0f} MB ({late / early:.2f} x)",
            f"<= {FLAT_TARGET:g} x",
            late <= FLAT_TARGET * early,
        ),
        Row(
            "index again, nothing changed, one core",
            f"{again['rate']:,.0f} files/s ({n_files / again['cpu_s']:,.0f} a CPU second)",
            f">= {RERUN_TARGET:,} files/s",
            again["rate"] >= RERUN_TARGET,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    print(table(rows(parser.parse_args().files)))


if __name__ == "__main__":
    main()
