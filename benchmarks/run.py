"""All benchmarks as one Markdown table: `make bench`, or `make bench DATA=folder`.

Ratios say more than seconds: both sides of each are measured on this machine, in this run.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from pathlib import Path

import bench_coldstart
import bench_decode
import bench_extract
import bench_ingest
import bench_search
from measure import CORES, Row, table


def rows(data: Path, encoder: Path | None, limit: int | None) -> list[Row]:
    found: list[Row] = []
    for name, part in (
        ("decode", bench_decode.rows),
        ("index", lambda: bench_extract.rows(data, encoder, limit)),
        ("large folder", lambda: bench_ingest.rows(limit) if limit else bench_ingest.rows()),
        ("search", bench_search.rows),
        ("growth", bench_search.growth),
        ("cold start", bench_coldstart.rows),
    ):
        print(f"{name} ...", file=sys.stderr, flush=True)
        found += part()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of images (default: organ24, else pydicom's own files)")
    parser.add_argument("--encoder", type=Path, help="an encoder of the paper's network (default: untrained)")
    parser.add_argument("--limit", type=int, help="index so many of the files only, of both folders")
    options = parser.parse_args()
    found = rows(options.data or bench_extract.default_data(), options.encoder, options.limit)
    print(f"Python {platform.python_version()}, {CORES} cores, load {os.getloadavg()[0]:.1f} at the end\n")
    print(table(found))
    sys.exit(any(row.met is False for row in found))


if __name__ == "__main__":
    main()
