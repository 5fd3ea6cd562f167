"""`cbmir search --id` from a cold start: a new process, the gallery opened, the answer printed.

python benchmarks/bench_coldstart.py [--gallery DIR]     without one: pydicom's own files under `pixels`
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from bench_extract import index
from measure import CBMIR, Row, run, table

REPEATS = 5
TARGET_S = 0.5


def small_gallery(folder: Path) -> Path:
    from pydicom.data import get_testdata_file

    index(Path(str(get_testdata_file("CT_small.dcm"))).parent, Path("pixels"), folder)
    return folder


def median_s(command: list[str]) -> float:
    return statistics.median(run(command).wall_s for _ in range(REPEATS))


def rows(gallery: Path | None = None) -> list[Row]:
    from cbmir.gallery import Gallery

    with tempfile.TemporaryDirectory() as folder:
        gallery = gallery or small_gallery(Path(folder) / "gallery")
        opened = Gallery.open(gallery)
        searched = median_s([*CBMIR, "search", "--id", opened.ids()[0], "--gallery", str(gallery), "--json"])
        n_images = opened.count
    floor = median_s([sys.executable, "-c", "import numpy"])
    return [
        Row(
            f"`cbmir search --id` in a gallery of {n_images:,}, cold start, median of {REPEATS}",
            f"{searched:.2f} s; Python with NumPy alone {floor:.2f} s",
            f"<= {TARGET_S} s",
            searched <= TARGET_S,
        )
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gallery", type=Path)
    print(table(rows(parser.parse_args().gallery)))


if __name__ == "__main__":
    main()
