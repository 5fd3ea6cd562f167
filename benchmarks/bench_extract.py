"""`cbmir index` of a folder, from start to end: how busy it keeps the cores, beside a plain script, and its memory.

python benchmarks/bench_extract.py [--data FOLDER] [--encoder DIR] [--limit N]

Without --data: organ24 where it is at hand, else the DICOM files that come with pydicom (few: start-up dominates).
Without --encoder: the paper's network with weights as drawn, which costs the same as a trained one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from measure import CBMIR, CORES, ORGAN24, REPOSITORY, Row, Run, run, table

BUSY_TARGET = 1.25
PLAIN_TARGET = 2.0
N_CLASSES = 24


def default_data() -> Path:
    """organ24, or else pydicom's own files."""
    if ORGAN24.is_dir():
        return ORGAN24
    from pydicom.data import get_testdata_file

    return Path(str(get_testdata_file("CT_small.dcm"))).parent


def some_of(data: Path, limit: int, folder: Path) -> Path:
    """A copy of so many files of data, taken evenly over all."""
    files = sorted(path for path in data.rglob("*") if path.is_file() and path.suffix not in {".csv", ".md"})
    for path in files[:: max(1, len(files) // limit)][:limit]:
        copy = folder / path.relative_to(data)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return folder


def untrained(folder: Path) -> Path:
    """The paper's network for 24 classes as an encoder, its weights drawn from seed 0."""
    import torch

    from cbmir.encoder import save_encoder
    from cbmir.networks import build
    from cbmir.preprocess import Preprocessing

    architecture = {"kind": "dcnn", "side": 224, "channels": 1, "n_classes": N_CLASSES, "mean": 0.3, "scale": 0.3}
    network = build(architecture)
    network.initialise("he", "zero", torch.Generator().manual_seed(0))
    save_encoder(
        folder,
        network.state_dict(),
        architecture=architecture,
        preprocessing=Preprocessing(),
        classes=tuple(f"class {i:02d}" for i in range(N_CLASSES)),
        layers={"FCL1": 4096, "FCL2": 4096, "FCL3": 4096},
        calibration={},
        training={},
    )
    return folder


def warm_up(encoder: Path) -> None:
    """A first run converts the network once and keeps it; that is not what is measured here."""
    import numpy as np

    from cbmir.encoder import load_encoder

    loaded = load_encoder(encoder)
    recipe = loaded.preprocessing
    channels = 1 if recipe.channels == "grey" else 3
    loaded.encode(np.zeros((1, channels, recipe.crop, recipe.crop), np.uint8))


def index(data: Path, encoder: Path, gallery: Path) -> tuple[Run, int]:
    """`cbmir index`: the run, and how many images it added."""
    done = run([*CBMIR, "index", str(data), "--gallery", str(gallery), "--encoder", str(encoder), "--json"])
    return done, int(json.loads(done.stdout)["added"])


def plain(data: Path, encoder: Path) -> tuple[Run, int]:
    """The plain script over the same files."""
    script = REPOSITORY / "benchmarks" / "plain_script.py"
    done = run([sys.executable, str(script), str(data), str(encoder)])
    return done, int(json.loads(done.stdout)["images"])


def rows(data: Path, encoder: Path | None = None, limit: int | None = None) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        data = some_of(data, limit, work / "data") if limit else data
        encoder = encoder or untrained(work / "encoder")
        warm_up(encoder)
        ours, n_ours = index(data, encoder, work / "gallery")
        theirs, n_theirs = plain(data, encoder)
        again, _ = index(data, encoder, work / "gallery")
    busy = ours.wall_s / (ours.cpu_s / CORES)
    rate, plain_rate = n_ours / ours.wall_s, n_theirs / theirs.wall_s
    return [
        Row(
            f"index {n_ours:,} images end to end, {CORES} cores: wall / (CPU / cores)",
            f"{ours.wall_s:.1f} s / ({ours.cpu_s:.1f} s / {CORES}) = {busy:.2f}",
            f"<= {BUSY_TARGET}",
            busy <= BUSY_TARGET,
        ),
        Row(
            "images/s beside the plain script",
            f"{rate:.0f} / {plain_rate:.0f} = {rate / plain_rate:.2f} x",
            f">= {PLAIN_TARGET:g} x",
            rate >= PLAIN_TARGET * plain_rate,
        ),
        Row("peak memory of index, beside the plain script", f"{ours.peak_mb:.0f} MB / {theirs.peak_mb:.0f} MB"),
        Row("index again, nothing changed", f"{again.wall_s:.1f} s"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of images")
    parser.add_argument("--encoder", type=Path, help="an encoder of the paper's network, as `cbmir train` saves it")
    parser.add_argument("--limit", type=int, help="measure on so many of the files only")
    options = parser.parse_args()
    print(table(rows(options.data or default_data(), options.encoder, options.limit)))


if __name__ == "__main__":
    main()
