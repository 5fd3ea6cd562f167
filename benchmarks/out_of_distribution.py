"""Does an encoder know when not to answer? AUROC of what the flag in_distribution goes by, with kinds left out.

    .venv/bin/python benchmarks/out_of_distribution.py --features F.npy --images F.json [--project lda]
    .venv/bin/python benchmarks/out_of_distribution.py --encoder ENCODER --data MANIFEST [--left-out class=lungs]

Each class, then each modality, is left out in turn: of the gallery and of all that is fitted here. What was left out
is to be told from queries that belong: images of the kept kinds, of patients who are not in the gallery.

--features: float32 (n, dim), a row for each entry of --images, a list of {"class", "modality", "patient", "split"};
only those of split train take part, in five parts by patient: one asks, the threshold is fitted on one, three are the
gallery, and the discriminant is fitted on these. The network behind the features has seen what it has seen.

--encoder: the train side of the manifest is the gallery, the test side asks, the threshold is the encoder's own. An
encoder that was trained on the whole train side HAS SEEN WHAT IS LEFT OUT, and so tells it better than it would tell
something new. For the honest number train one without it, a few minutes to hours each, and name what it lacks:

    grep -v ',lungs,' MANIFEST > without_lungs.csv        # by hand where a name is part of another
    cbmir train without_lungs.csv --out without_lungs
    .venv/bin/python benchmarks/out_of_distribution.py --encoder without_lungs --data MANIFEST --left-out class=lungs

Then the same encoder is also asked by what is no medical image: noise, noise with the spectrum of photographs, and
dead leaves (Lee, Mumford and Huang 2001), both of which have the statistics of natural images.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cbmir import metrics
from cbmir.baselines.projection import numbers_of, scatter_of, unit
from cbmir.calibrate import fit_in_distribution
from cbmir.confidence import NEIGHBOURS, farthest_usual
from cbmir.dataset import folds
from cbmir.encoder import Encoder, load_encoder
from cbmir.extract import extract
from cbmir.index.exact import from_features
from cbmir.preprocess import preprocess
from cbmir.privacy import load_pseudonyms
from cbmir.search import rank_all
from cbmir.sources import manifest
from cbmir.types import Bool, DecodedImage, Float32, ImageRef, Int, Provenance

Names = npt.NDArray[np.str_]
SHRINKAGE = 0.1
N_STRANGERS = 60
KINDS = ("class", "modality")


@dataclass(frozen=True)
class Rows:
    """Images. known: kind ("class", "modality") -> the value of each; patients, splits: of each."""

    features: Float32
    known: Mapping[str, Names]
    patients: Names
    splits: Names

    def at(self, rows: Bool | Int) -> Rows:
        known = {kind: values[rows] for kind, values in self.known.items()}
        return Rows(self.features[rows], known, self.patients[rows], self.splits[rows])


@dataclass(frozen=True)
class Line:
    """What was left out, and how it was told apart. flagged: shares, of it and of the queries that belong."""

    what: str
    n_images: int
    auroc: float
    flagged: float
    n_queries: int
    flagged_queries: float


def distances_of(gallery: Rows, queries: Rows) -> list[Float32]:
    """To the nearest rows of other patients, nearest first."""
    index, origin = from_features(gallery.features, [""] * len(gallery.patients), _ids(len(gallery.patients)))
    owners = gallery.patients[origin]
    hidden = [np.flatnonzero(owners == patient) for patient in queries.patients]
    return [found["off"].distances[:NEIGHBOURS] for found in rank_all(index, queries.features, hidden=hidden)]


def _ids(n: int) -> list[str]:
    return [f"{row:08d}" for row in range(n)]


def unlikeness(gallery: Rows, queries: Rows) -> metrics.Float:
    """By which the flag goes: float64 (queries,)."""
    return np.array([line.mean(dtype=np.float64) for line in distances_of(gallery, queries)])


def line(what: str, inside: metrics.Float, outside: metrics.Float, limit: float) -> Line:
    flagged, usual = float((outside > limit).mean()), float((inside > limit).mean())
    return Line(what, len(outside), metrics.auroc(inside, outside), flagged, len(inside), usual)


def of_arrays(rows: Rows, project: str) -> Iterator[Line]:
    """Every class and modality, from features that stand; see the text above."""
    rows = rows.at(rows.splits == "train")
    for kind, value in values_of(rows):
        outside = rows.known[kind] == value
        kept = rows.at(~outside)
        part = parts_by_patient(kept)
        gallery, fitting, asking = kept.at(part > 1), kept.at(part == 1), kept.at(part == 0)
        projection = projected(gallery, project)
        gallery, fitting, asking, strange = map(projection, (gallery, fitting, asking, rows.at(outside)))
        fitted = fit_in_distribution(distances_of(gallery, fitting))
        if fitted is None:
            raise SystemExit(f"Without {value} too few images are left.")
        inside = unlikeness(gallery, asking)
        yield line(f"{kind} {value}", inside, unlikeness(gallery, strange), fitted["threshold"])


def values_of(rows: Rows) -> Iterator[tuple[str, str]]:
    """What can be left out: every class and modality that is told and is not all there is."""
    for kind in KINDS:
        values = np.unique(rows.known[kind])
        yield from ((kind, str(value)) for value in values if value and len(values) > 1)


def parts_by_patient(rows: Rows) -> Int:
    """Five parts, every class spread over them as far as its patients allow: int64 (n,) from 0."""
    images = zip(rows.known["class"], rows.patients, strict=True)
    refs = [
        ImageRef(Path(str(row)), str(row), labels={"class": str(label)}, patient=str(patient))
        for row, (label, patient) in enumerate(images)
    ]
    return np.asarray(folds(refs, 5, seed=24), np.int64)


def projected(gallery: Rows, project: str) -> Any:
    """Rows -> Rows, unit vectors; with `lda` through a discriminant fitted on the gallery."""
    fitted = (
        scatter_of(gallery.features, numbers_of(gallery.known["class"])).discriminant(SHRINKAGE)
        if project == "lda"
        else unit
    )
    return lambda rows: Rows(fitted(rows.features), rows.known, rows.patients, rows.splits)


def of_encoder(encoder: Encoder, rows: Rows, left_out: Sequence[tuple[str, str]]) -> Iterator[Line]:
    """rows: of the encoder's first layer."""
    limit = farthest_usual(encoder.calibration, next(iter(encoder.layers)))
    if limit is None:
        raise SystemExit("This encoder has no calibration: train it with a validation part.")
    for kind, value in left_out or list(values_of(rows)):
        outside = rows.known[kind] == value
        if not outside.any():
            raise SystemExit(f"No image has {kind} {value}.")
        gallery, asking = (rows.at(~outside & (rows.splits == side)) for side in ("train", "test"))
        inside = unlikeness(gallery, asking)
        yield line(f"{kind} {value}", inside, unlikeness(gallery, rows.at(outside)), limit)
    kept = np.ones(len(rows.splits), bool)
    for kind, value in left_out:
        kept &= rows.known[kind] != value
    gallery, asking = (rows.at(kept & (rows.splits == side)) for side in ("train", "test"))
    inside = unlikeness(gallery, asking)
    for what, strange in strangers(encoder).items():
        yield line(what, inside, unlikeness(gallery, strange), limit)


def encoded(encoder: Encoder, refs: Sequence[ImageRef]) -> Rows:
    """The first readable image of every file that has a class and a side."""
    layer = next(iter(encoder.layers))
    wanted = [ref for ref in refs if ref.label and ref.split in ("train", "test")]
    features, known, patients, splits = [], [], [], []
    for file in extract(wanted, encoder, load_pseudonyms()):
        if file.records:
            record, ref = file.records[0], file.decoded.ref
            features.append(file.features[layer][0])
            known.append((ref.label or "", record.modality or ""))
            patients.append(record.owner)
            splits.append(ref.split or "")
    columns = dict(zip(KINDS, map(np.array, zip(*known, strict=True)), strict=True))
    return Rows(np.array(features, np.float32), columns, np.array(patients), np.array(splits))


# --- what is no medical image ---


def strangers(encoder: Encoder) -> dict[str, Rows]:
    rng = np.random.default_rng(24)
    drawn = {"white noise": white, "noise like photographs": pink, "dead leaves": leaves}
    return {name: _encoded_pictures(encoder, [draw(rng) for _ in range(N_STRANGERS)]) for name, draw in drawn.items()}


def white(rng: np.random.Generator, side: int = 256) -> npt.NDArray[np.uint8]:
    return rng.integers(0, 256, (side, side, 3), np.uint8)


def pink(rng: np.random.Generator, side: int = 256) -> npt.NDArray[np.uint8]:
    """Amplitude 1 / frequency in every direction, as photographs have in the mean."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    frequency[0, 0] = 1
    shared, own = rng.normal(size=(side, side, 1)), rng.normal(size=(side, side, 3))
    noise = np.fft.rfft2(shared + 0.5 * own, axes=(0, 1)) / frequency[:, :, None]
    picture = np.fft.irfft2(noise, s=(side, side), axes=(0, 1))
    return _stretched(picture)


def leaves(rng: np.random.Generator, side: int = 256) -> npt.NDArray[np.uint8]:
    """Discs of one colour each fall on each other; there are ever fewer of larger radius, by its third power."""
    y, x = np.mgrid[:side, :side]
    picture = np.zeros((side, side, 3))
    for _ in range(600):
        radius = 4 / np.sqrt(rng.uniform(0.002, 1))
        centre = rng.uniform(0, side, 2)
        picture[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2] = rng.uniform(0, 1, 3)
    return _stretched(picture)


def _stretched(picture: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    low, high = np.percentile(picture, (0.5, 99.5))
    return (np.clip((picture - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def _encoded_pictures(encoder: Encoder, pictures: Sequence[npt.NDArray[np.uint8]]) -> Rows:
    images = [DecodedImage(picture, (0, 255), "stranger", Provenance("PNG"), made_for_eye=True) for picture in pictures]
    batch = np.stack([preprocess(image, encoder.preprocessing).pixels for image in images])
    features = encoder.encode(batch).features[next(iter(encoder.layers))]
    nobody = np.array([f"stranger {row}" for row in range(len(pictures))])
    return Rows(features, dict.fromkeys(KINDS, nobody), nobody, nobody)


# --- what is printed ---


def table(lines: Sequence[Line]) -> list[str]:
    """Markdown, with the mean over classes and over modalities, and the worst of them."""
    told = ["| left out | images | AUROC | flagged, % | of those that belong, % |", "|---|---|---|---|---|"]
    told += [
        f"| {one.what} | {one.n_images} | {one.auroc:.3f} | {100 * one.flagged:.0f} | {100 * one.flagged_queries:.1f} |"
        for one in lines
    ]
    for kind in KINDS:
        if of_kind := [one for one in lines if one.what.startswith(f"{kind} ")]:
            auroc, flagged = (np.mean([getattr(one, name) for one in of_kind]) for name in ("auroc", "flagged"))
            usual = np.mean([one.flagged_queries for one in of_kind])
            least = min(of_kind, key=lambda one: one.auroc)
            told.append(
                f"| mean over {len(of_kind)} ({kind}; least {least.auroc:.3f}, "
                f"{least.what.removeprefix(kind + ' ')}) | "
                f"{sum(one.n_images for one in of_kind)} | {auroc:.3f} | {100 * flagged:.0f} | {100 * usual:.1f} |"
            )
    return told


def what_is_known(encoder: Encoder, left_out: Sequence[tuple[str, str]]) -> str:
    """Whether the encoder has seen what is left out."""
    if not left_out or any(value in encoder.classes for _, value in left_out):
        return "THE ENCODER HAS SEEN WHAT IS LEFT OUT of the gallery: it tells it better than something new."
    if any(kind == "modality" for kind, _ in left_out):
        return "Whether the encoder has seen a modality nobody can read from it: see how it was trained."
    return "What is left out is not among the classes of the encoder."


def read_arrays(features: Path, images: Path) -> Rows:
    told = json.loads(images.read_text(encoding="utf-8"))
    columns = {name: np.array([str(image[name] or "") for image in told]) for name in (*KINDS, "patient", "split")}
    return Rows(np.load(features), {kind: columns[kind] for kind in KINDS}, columns["patient"], columns["split"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--project", choices=("none", "lda"), default="none")
    parser.add_argument("--encoder")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--left-out", action="append", default=[], metavar="KIND=VALUE")
    options = parser.parse_args()
    left_out = [(kind, value) for kind, _, value in (text.partition("=") for text in options.left_out)]
    if bad := [kind for kind, value in left_out if kind not in KINDS or not value]:
        parser.error(f"--left-out is class=NAME or modality=NAME, not {bad[0]}...")
    if options.features and options.images:
        print(
            "The network behind these features has seen what it has seen; gallery, projection and threshold have not."
        )
        print("\n".join(table(list(of_arrays(read_arrays(options.features, options.images), options.project)))))
    elif options.encoder and options.data:
        encoder = load_encoder(options.encoder)
        print(what_is_known(encoder, left_out))
        print("\n".join(table(list(of_encoder(encoder, encoded(encoder, manifest(options.data)), left_out)))))
    else:
        parser.error("give --features and --images, or --encoder and --data")


if __name__ == "__main__":
    main()
