"""The encoder that comes with cbmir: how fast it is, and whether its exports answer what PyTorch answers.

python benchmarks/bench_encoder.py [--data MANIFEST] [--encoder NAME] [--limit N]

Agreement is measured on the train side of a manifest: one part of its patients asks the others. Without --data:
organ24 where it is at hand. A folder without a manifest is left alone: pictures are generated, which say less.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cbmir import dataset, jobs
from cbmir.benchmark.collection import read_collection
from cbmir.encoder import NetworkEncoder, load_encoder
from cbmir.errors import UsageError
from cbmir.evaluate import Bootstrap, EvaluationSide, evaluate_features
from cbmir.interchange import export_onnx
from cbmir.preprocess import Preprocessing, preprocess
from cbmir.privacy import load_pseudonyms
from cbmir.runtime import open_onnx
from cbmir.sources import labelled
from cbmir.types import DecodedImage, Float32, Provenance, Record, UInt8
from measure import CORES, ORGAN24, Row, table

BATCH = 64
"""As extract has it."""
RATE_TARGET = 300.0
QUERY_MS_TARGET = 10.0
COSINE_TARGET = {"f32": 0.999, "bf16": 0.99}
OVERLAP_TARGET = 0.98
MAP_TARGET = 0.002
K = 10

Encode = Callable[[UInt8], Float32]
"""uint8 (n, C, side, side) to the first layer, float32 (n, dim)."""


@dataclass(frozen=True)
class Images:
    """pixels: uint8 (n, C, side, side). records: class and patient. asks: bool (n,); the others are the gallery."""

    pixels: UInt8
    records: tuple[Record, ...]
    asks: np.ndarray


def generated(recipe: Preprocessing, n_images: int = 360, n_classes: int = 6, seed: int = 0) -> Images:
    """Each class has its own coarse pattern, each image noise on it and a patient of its own; every sixth asks."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 160, (n_classes, recipe.n_channels, 8, 8))
    patterns = coarse.repeat(-(-recipe.crop // 8), axis=2).repeat(-(-recipe.crop // 8), axis=3)
    patterns = patterns[:, :, : recipe.crop, : recipe.crop]
    labels = rng.integers(0, n_classes, n_images)
    pixels = np.stack([patterns[label] + rng.uniform(0, 95, patterns.shape[1:]) for label in labels]).astype(np.uint8)
    records = tuple(
        Record(id=f"{row:08d}", patient=f"{row}", labels={"class": f"{label}"}) for row, label in enumerate(labels)
    )
    return Images(pixels, records, np.arange(n_images) % 6 == 0)


def of_manifest(data: Path, recipe: Preprocessing, work: Path, limit: int | None = None) -> Images:
    """The images of the train side, of at most `limit` files; a fifth of the patients asks."""
    pseudonyms = load_pseudonyms()
    refs = labelled(data)
    if any(ref.split for ref in refs):
        refs = jobs.of_split(refs, "train")
    refs = refs[:: max(1, len(refs) // limit)] if limit else refs
    collection = read_collection(refs, pseudonyms, work)
    images = collection.images(recipe, work, None, None)
    pairs = zip(collection.records, collection.positions, strict=True)
    sides = dataset.split([replace(refs[at], patient=record.patient) for record, at in pairs], test_fraction=0.2)
    rows = np.arange(len(collection))
    return Images(images.take(rows), collection.records, np.array([side == "test" for side in sides]))


def features(encode: Encode, pixels: UInt8) -> Float32:
    return np.concatenate([encode(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)])


def first_layer(encoder: NetworkEncoder) -> Encode:
    layer = next(iter(encoder.layers))
    return lambda batch: encoder.encode(batch).features[layer]


def exports(name: str, work: Path) -> dict[str, tuple[str, Encode]]:
    """What is compared with PyTorch in float32: (precision, what encodes)."""
    found: dict[str, tuple[str, Encode]] = {}
    for precision in ("f32", "bf16"):
        found[f"OpenVINO {precision}"] = precision, first_layer(_loaded(name, "openvino", precision))
    encoder = _loaded(name, "openvino", "f32")
    export_onnx(name, work / "encoder.onnx")
    run = open_onnx(work / "encoder.onnx", next(iter(encoder.layers)))
    found["ONNX file f32"] = "f32", lambda batch: run(batch.astype(np.float32))
    return found


def _loaded(name: str, runtime: str, precision: str) -> NetworkEncoder:
    encoder = load_encoder(name, runtime=runtime, precision=precision)
    if not isinstance(encoder, NetworkEncoder):
        raise UsageError(f"The encoder {name} has no network.")
    return encoder


def nearest(found: Float32, asks: np.ndarray, k: int = K) -> np.ndarray:
    """The k nearest of the gallery for each query: int64 (queries, k), equal ones by row."""
    queries, gallery = found[asks].astype(np.float64), found[~asks].astype(np.float64)
    squares = (gallery**2).sum(axis=1) - 2 * queries @ gallery.T
    return np.argsort(squares, axis=1, kind="stable")[:, :k]


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """The mean share of hits that two lists of each query have in common."""
    return float(np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(one, other, strict=True)]))


def cosines(one: Float32, other: Float32) -> Float32:
    dots = (one.astype(np.float64) * other).sum(axis=1)
    return dots / np.linalg.norm(one.astype(np.float64), axis=1) / np.linalg.norm(other.astype(np.float64), axis=1)


def mean_ap(found: Float32, images: Images) -> float:
    """As `evaluate` measures it, without a gate."""
    sides = []
    for rows in (~images.asks, images.asks):
        records = tuple(record for record, chosen in zip(images.records, rows, strict=True) if chosen)
        sides.append(EvaluationSide(records, {"layer": found[rows]}))
    told = evaluate_features(*sides, bootstrap=Bootstrap(draws=1))
    return float(told["retrieval"]["layer"]["off"]["mAP"])


def agreement(name: str, precision: str, found: Float32, wanted: Float32, images: Images) -> list[Row]:
    """How an export's features and rankings compare with those of PyTorch in float32."""
    cosine = cosines(found, wanted)
    mean = float(cosine.mean())
    shared = overlap(nearest(found, images.asks), nearest(wanted, images.asks))
    ours, theirs = mean_ap(found, images), mean_ap(wanted, images)
    target = COSINE_TARGET[precision]
    beside = f"{name} against PyTorch float32, {len(found):,} images"
    return [
        Row(f"{beside}: mean cosine", f"{mean:.6f}, least {cosine.min():.6f}", f">= {target}", mean >= target),
        Row(f"{beside}: overlap@{K}", f"{shared:.4f}", f">= {OVERLAP_TARGET}", shared >= OVERLAP_TARGET),
        Row(
            f"{beside}: mAP",
            f"{ours:.4f} / {theirs:.4f}",
            f"apart by <= {MAP_TARGET}",
            abs(ours - theirs) <= MAP_TARGET,
        ),
    ]


def speed(encoder: NetworkEncoder, pixels: UInt8, seconds: float = 5.0) -> list[Row]:
    """Features in batches, and of one decoded query from its preprocessing on."""
    batch = np.resize(pixels, (BATCH, *pixels.shape[1:]))
    rate = BATCH / _median_s(lambda: encoder.encode(batch), seconds)
    query = decoded(512, 512)
    query_ms = 1e3 * _median_s(lambda: encoder.encode(preprocess(query, encoder.preprocessing).pixels[None]), seconds)
    return [
        Row(
            f"features in batches of {BATCH}, {encoder.precision}, {CORES} cores",
            f"{rate:.0f} images/s",
            f">= {RATE_TARGET:g}",
            rate >= RATE_TARGET,
        ),
        Row(
            f"features of one decoded query of 512 x 512, {encoder.precision}",
            f"{query_ms:.1f} ms",
            f"<= {QUERY_MS_TARGET:g} ms",
            query_ms <= QUERY_MS_TARGET,
        ),
    ]


def decoded(rows: int, columns: int) -> DecodedImage:
    """A grey picture of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (rows, columns)).astype(np.float32)
    return DecodedImage(pixels, (0.0, 255.0), id="0" * 32, provenance=Provenance("generated"))


def _median_s(call: Callable[[], object], seconds: float) -> float:
    """Median time of a call, over so many seconds, after two that warm up."""
    for _ in range(2):
        call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def rows(data: Path, name: str = "default", limit: int | None = None, seconds: float = 5.0) -> list[Row]:
    """data: a manifest, or a folder with one; for anything else pictures are generated."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        reference = _loaded(name, "torch", "f32")
        recipe = reference.preprocessing
        images = of_manifest(data, recipe, work / "images", limit) if has_manifest(data) else generated(recipe)
        wanted = features(first_layer(reference), images.pixels)
        found = speed(_loaded(name, "openvino", "auto"), images.pixels, seconds)
        for title, (precision, encode) in exports(name, work).items():
            found += agreement(title, precision, features(encode, images.pixels), wanted, images)
    return found


def has_manifest(data: Path) -> bool:
    return data.suffix.lower() == ".csv" or (data / "manifest.csv").is_file()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="manifest, or folder with one", default=ORGAN24)
    parser.add_argument("--encoder", default="default", help="directory or name")
    parser.add_argument("--limit", type=int, help="so many files only")
    given = parser.parse_args()
    print(table(rows(given.data, given.encoder, given.limit)))


if __name__ == "__main__":
    main()
