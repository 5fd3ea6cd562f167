"""How much of a cross-validation's error lies in sources that a fold never saw in training.

    .venv/bin/python benchmarks/unseen_sources.py DIR

DIR: the --out of `cbmir evaluate DATA --folds K`. A source with one patient lies wholly in one fold, so the other folds
cannot teach it: its images are asked of an encoder that never saw that scanner, and often not that kind of picture.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def row(number: int, metrics: Mapping[str, Any]) -> str:
    """One fold: all queries, and those of sources the training part has."""
    layer = max(metrics["retrieval"], key=lambda name: metrics["retrieval"][name]["off"]["mAP"])
    seen = [source for source in metrics["per_source"].values() if source["n_gallery"]]
    unseen = [name for name, source in metrics["per_source"].items() if not source["n_gallery"]]
    n_seen = sum(source["n_queries"] for source in seen)
    top1 = sum(source["top1"] * source["n_queries"] for source in seen) / n_seen
    mean_ap = sum(source["retrieval"][layer]["off"]["mAP"] * source["n_queries"] for source in seen) / n_seen
    return (
        f"| {number} | {metrics['n_queries']} | {metrics['n_queries'] - n_seen} ({', '.join(unseen)}) "
        f"| {metrics['classification']['top1']:.3f} | {top1:.3f} "
        f"| {metrics['retrieval'][layer]['off']['mAP']:.3f} ({layer}) | {mean_ap:.3f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folds", type=Path)
    options = parser.parse_args()
    print("| fold | queries | of unseen sources | top1 | top1, seen sources | mAP (best layer, off) | mAP, seen |")
    print("|---|---|---|---|---|---|---|")
    for number, path in enumerate(sorted(options.folds.glob("fold-*/report/metrics.json")), start=1):
        print(row(number, json.loads(path.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
