"""All benchmarks as one Markdown table: `make bench`, `make bench DATA=folder`, `make bench PARTS=search,growth`.

Ratios say more than seconds: both sides of each are measured on this machine, in this run.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bench_coldstart
import bench_decode
import bench_encoder
import bench_engines
import bench_extract
import bench_growth
import bench_ingest
import bench_page
import bench_search
import bench_web
from measure import CORES, Row, table


@dataclass(frozen=True)
class Options:
    """data: a folder of images; encoder: of the paper's network, untrained if None; limit: index so many files only."""

    data: Path
    encoder: Path | None = None
    limit: int | None = None


PARTS: dict[str, Callable[[Options], list[Row]]] = {
    "decode": lambda options: bench_decode.rows(),
    "index": lambda options: bench_extract.rows(options.data, options.encoder, options.limit),
    "encoder": lambda options: bench_encoder.rows(options.data, limit=options.limit),
    "large folder": lambda options: bench_ingest.rows(options.limit) if options.limit else bench_ingest.rows(),
    "search": lambda options: bench_search.rows(),
    "growth": lambda options: bench_growth.rows(),
    "engines": lambda options: bench_engines.rows(),
    "web": lambda options: bench_web.rows(),
    "page": lambda options: bench_page.rows(),
    "cold start": lambda options: bench_coldstart.rows(),
}
"""What `make bench` measures, in this order; PARTS="search, growth" chooses."""


def chosen(names: str | None) -> list[str]:
    """Names of parts, of a list with commas; all for None."""
    if names is None:
        return list(PARTS)
    parts = [name.strip() for name in names.split(",")]
    for name in parts:
        if name not in PARTS:
            sys.exit(f"there is no part {name!r}; the parts are {', '.join(PARTS)}")
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of images (default: organ24, else pydicom's own files)")
    parser.add_argument("--encoder", type=Path, help="an encoder of the paper's network (default: untrained)")
    parser.add_argument("--limit", type=int, help="index so many of the files only, of both folders")
    parser.add_argument("--parts", help=f"these only, with commas between: {', '.join(PARTS)}")
    given = parser.parse_args()
    options = Options(given.data or bench_extract.default_data(), given.encoder, given.limit)
    found: list[Row] = []
    for name in chosen(given.parts):
        print(f"{name} ...", file=sys.stderr, flush=True)
        found += PARTS[name](options)
    print(f"Python {platform.python_version()}, {CORES} cores, load {os.getloadavg()[0]:.1f} at the end\n")
    print(table(found))
    sys.exit(any(row.met is False for row in found))


if __name__ == "__main__":
    main()
