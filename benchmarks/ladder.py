"""What each step from the paper's network to ours brings, on the train side: 3 folds by patient and 3 by source.

    .venv/bin/python benchmarks/ladder.py MANIFEST --out DIR --imagenet MOBILENET.onnx --pool POOL_MANIFEST

By patient: every image of the train side asks once, in the gallery of the other folds. By source: the images of each
(class, modality) that has two or more sources; the gallery is all images of other sources and patients. A rung is
trained on its fold's gallery, and where it says so on the pool without the fold's patients and sources. Each trained
rung of ours sees --images pictures (a part of what the shipped encoder sees): rungs are compared, not made best.
Goes on where it was stopped; features are kept in DIR. Prints one table: mAP with the 95 % bootstrap over patients,
macro mAP, P@10, and the mAP of findings (same class and finding).
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from cbmir.baselines.projection import fit_whitening, unit
from cbmir.classification import TrainingSet, centre_crop, fit_classifier
from cbmir.compact import Labelled, labelled_images, preprocessing_of, train_compact
from cbmir.dataset import folds
from cbmir.encoder import load_encoder, save_encoder
from cbmir.index.exact import from_features
from cbmir.metrics import Float, average_precision, bootstrap_ci, precision_at
from cbmir.networks import build
from cbmir.packing import pack
from cbmir.preprocess import Preprocessing
from cbmir.privacy import load_pseudonyms
from cbmir.recipes import OURS, PAPER_PRACTICAL, MetricRecipe
from cbmir.rerank import Reranking, reranking_of
from cbmir.rerank_fit import fit_rerank
from cbmir.search import rank_all
from cbmir.sources import labelled, open_source
from cbmir.types import Float32, ImageRef, Int, Rerank, UInt8

BASE = replace(OURS, epochs=1, warmup_epochs=0.05, side=112, average=0.99)
"""A short run: one epoch of --images pictures."""
CROSS_ENTROPY = replace(BASE, metric="none", finding=0.0)


@dataclass(frozen=True)
class Rung:
    """recipe: of ours; None for the paper's network. start: from ImageNet; freeze: only closed; pool: it learns from
    that too. of, how: another rung's features, changed.
    """

    name: str
    recipe: MetricRecipe | None = None
    start: bool = True
    freeze: bool = False
    pool: bool = False
    of: str = ""
    how: str = ""


RUNGS = (
    Rung("dcnn FCL1"),
    Rung("dcnn FCL1, unit length", of="dcnn FCL1", how="unit"),
    Rung("dcnn FCL1, whitened", of="dcnn FCL1", how="whiten"),
    Rung("ImageNet body, GeM, closed", BASE, freeze=True),
    Rung("GeM + cross-entropy", CROSS_ENTROPY),
    Rung("+ metric loss and findings", BASE),
    Rung("+ pool", BASE, pool=True),
    Rung("+ pool, from nothing", BASE, start=False, pool=True),
    Rung("+ pool, aqe", of="+ pool", how="aqe"),
    Rung("+ pool, k-reciprocal", of="+ pool", how="kreciprocal"),
)


@dataclass(frozen=True)
class Fold:
    """gallery, queries: rows of the packed images; extra: rows of the pool that may be learned from."""

    name: str
    gallery: Int
    queries: Int
    extra: Int


@dataclass(frozen=True)
class Features:
    """float32 (n, dim) of a fold's gallery and queries."""

    gallery: Float32
    queries: Float32


def make_folds(refs: Sequence[ImageRef], n_own: int) -> list[Fold]:
    """refs: of every packed image, the first n_own of the train side, the others of the pool."""
    own, extra = refs[:n_own], np.arange(n_own, len(refs))
    numbers = folds(own, 3)
    found = [(f"patients-{n + 1}", np.flatnonzero(numbers == n)) for n in range(3)]
    cells: dict[tuple[str | None, str | None], set[str | None]] = {}
    for ref in own:
        cells.setdefault((ref.label, ref.modality), set()).add(ref.source)
    several = np.array([row for row, ref in enumerate(own) if len(cells[ref.label, ref.modality]) > 1])
    numbers = folds([own[row] for row in several], 3, group="source")
    found += [(f"sources-{n + 1}", several[numbers == n]) for n in range(3)]
    return [_fold(name, queries, refs, n_own, extra) for name, queries in found]


def _fold(name: str, queries: Int, refs: Sequence[ImageRef], n_own: int, extra: Int) -> Fold:
    """Nobody and, by source, no source that asks is in the gallery or the pool."""
    patients = {refs[row].patient for row in queries} - {None}
    sources = {refs[row].source for row in queries} if name.startswith("sources") else set()
    asks = set(queries.tolist())

    def free(row: int) -> bool:
        return row not in asks and refs[row].patient not in patients and refs[row].source not in sources

    gallery = np.array([row for row in range(n_own) if free(row)])
    return Fold(name, gallery, queries, np.array([row for row in extra.tolist() if free(row)], np.int64))


class Ladder:
    """Trains what a rung needs, once, and keeps features in `out`."""

    def __init__(self, options: argparse.Namespace, everything: Labelled, n_own: int) -> None:
        self.options, self.everything, self.n_own = options, everything, n_own
        self.out: Path = options.out

    def features(self, rung: Rung, fold: Fold) -> Features:
        file = self.out / fold.name / f"{rung.name}.npz".replace(" ", "-")
        if file.is_file():
            with np.load(file) as kept:
                return Features(kept["gallery"], kept["queries"])
        file.parent.mkdir(parents=True, exist_ok=True)
        made = self._dcnn(fold) if rung.recipe is None else self._compact(rung, fold)
        np.savez(file.with_suffix(".new.npz"), gallery=made.gallery, queries=made.queries)
        file.with_suffix(".new.npz").replace(file)
        return made

    def _compact(self, rung: Rung, fold: Fold) -> Features:
        assert rung.recipe is not None
        recipe = replace(rung.recipe, epoch_images=self.options.images)
        part = np.full(len(self.everything.refs), "left out", "<U10")
        part[fold.gallery] = "training"
        if rung.pool:
            part[fold.extra] = "training"
        classes = tuple(sorted({self.everything.refs[row].labels["class"] for row in fold.gallery}))
        labelled = replace(self.everything, part=tuple(part.tolist()), classes=classes)
        work = self.out / "work"
        start = str(self.options.imagenet) if rung.start else None
        tensors, entries = train_compact(labelled, recipe, work / "run", start=start, freeze=rung.freeze)
        return self._encoded(work, tensors, entries, labelled.packed.images, fold, lambda images: images)

    def _dcnn(self, fold: Fold) -> Features:
        recipe = PAPER_PRACTICAL
        refs = [ref for ref in labelled(self.options.manifest) if ref.split == "train"]
        packed = pack(refs, Preprocessing(crop=256), load_pseudonyms(), self.out / "packed-dcnn")
        names = [refs[row].labels["class"] for row in packed.rows]
        classes = tuple(sorted({names[row] for row in fold.gallery}))
        numbers = np.array([classes.index(names[row]) for row in fold.gallery])
        training = TrainingSet(packed.images, numbers, fold.gallery)
        architecture = {
            "kind": "dcnn",
            "side": 224,
            "n_classes": len(classes),
            "channels": 1,
            "mean": recipe.mean,
            "scale": recipe.scale,
        }
        network = build(architecture)
        network.initialise(recipe.weights, recipe.biases, torch.Generator().manual_seed(24))
        work = self.out / "work"
        fit_classifier(network, training, None, recipe, work / "run", seed=24, data=fold.name)
        entries: dict[str, Any] = {
            "architecture": architecture,
            "preprocessing": Preprocessing(),
            "classes": classes,
            "layers": {"FCL1": 4096, "FCL2": 4096, "FCL3": 4096},
            "training": {},
        }
        return self._encoded(work, network.state_dict(), entries, packed.images, fold, centre_crop)

    def _encoded(
        self, work: Path, tensors: Any, entries: Any, images: UInt8, fold: Fold, crop: Callable[[UInt8], UInt8]
    ) -> Features:
        """The first layer, by the encoder as it would be used."""
        save_encoder(work / "encoder", tensors, calibration={}, **entries)
        encoder = load_encoder(work / "encoder")
        layer = next(iter(encoder.layers))

        def encode(rows: Int) -> Float32:
            parts = [rows[start : start + 64] for start in range(0, len(rows), 64)]
            return np.concatenate([encoder.encode(crop(images[part])).features[layer] for part in parts])

        made = Features(encode(fold.gallery), encode(fold.queries))
        shutil.rmtree(work)
        return made


def changed(features: Features, how: str) -> Features:
    if how == "unit":
        return Features(unit(features.gallery), unit(features.queries))
    if how == "whiten":
        whitening = fit_whitening(features.gallery, 64)
        return Features(whitening(features.gallery), whitening(features.queries))
    return features


def judged(
    features: Features, gallery: Sequence[str], queries: Sequence[str], reranking: Reranking | None
) -> tuple[Float, Float]:
    """Average precision and P@10 of every query; not a number where nothing is relevant."""
    index, origin = from_features(features.gallery, list(gallery), [f"{row:08d}" for row in range(len(gallery))])
    names = np.array(gallery)[origin]
    values = np.full((2, len(queries)), np.nan)
    for place, found in enumerate(rank_all(index, features.queries, reranking=reranking)):
        hits = names[found["off"].positions] == queries[place]
        if hits.any():
            values[:, place] = average_precision(hits, int(hits.sum())), precision_at(hits, int(hits.sum()), 10)
    return values[0], values[1]


def rows_of(ladder: Ladder, rungs: Sequence[Rung], made: Sequence[Fold]) -> Iterator[dict[str, Any]]:
    """One line of figures for each rung and kind of folds, as they are done."""
    refs = ladder.everything.refs
    classes = [ref.label or "" for ref in refs]
    fine = [f"{ref.label}: {ref.labels.get('finding') or ''}" for ref in refs]
    by_name = {rung.name: rung for rung in RUNGS}
    for rung in rungs:
        for kind in ("patients", "sources"):
            of_kind = [fold for fold in made if fold.name.startswith(kind)]
            base = by_name[rung.of] if rung.of else rung
            features = [changed(ladder.features(base, fold), rung.how) for fold in of_kind]
            parts: list[Any] = []
            for number, fold in enumerate(of_kind):
                reranking = _reranking(rung.how, features, of_kind, number, classes)
                ap, p10 = judged(
                    features[number],
                    [classes[row] for row in fold.gallery],
                    [classes[row] for row in fold.queries],
                    reranking,
                )
                told = np.array([bool(refs[row].labels.get("finding")) for row in fold.queries])
                finding, _ = judged(
                    Features(features[number].gallery, features[number].queries[told]),
                    [fine[row] for row in fold.gallery],
                    [fine[row] for row in fold.queries[told]],
                    reranking,
                )
                parts.append((ap, p10, finding, fold.queries))
            yield {"rung": rung.name, "folds": kind} | _figures(parts, refs)


def _reranking(
    how: str, features: Sequence[Features], made: Sequence[Fold], number: int, classes: Sequence[str]
) -> Reranking | None:
    """Fitted on the next fold: its queries are not this one's."""
    if how not in ("aqe", "kreciprocal"):
        return None
    other = (number + 1) % len(made)
    names = ([classes[row] for row in rows] for rows in (made[other].gallery, made[other].queries))
    fitted = fit_rerank(features[other].gallery, next(names), features[other].queries, next(names))
    return reranking_of(cast(Rerank, how), {"rerank": {"": fitted}}, "")


def _figures(parts: Sequence[Any], refs: Sequence[ImageRef]) -> dict[str, Any]:
    ap, p10, finding, rows = (np.concatenate([part[i] for part in parts]) for i in range(4))
    known = ~np.isnan(ap)
    labels = np.array([refs[row].label for row in rows])[known]
    owners = np.unique([refs[row].patient or refs[row].shown for row in rows[known]], return_inverse=True)[1]
    return {
        "n_queries": int(known.sum()),
        "mAP": float(ap[known].mean()),
        "mAP_ci95": bootstrap_ci(ap[known], owners, seed=24),
        "macro": float(np.mean([ap[known][labels == label].mean() for label in np.unique(labels)])),
        "P@10": float(p10[known].mean()),
        "mAP_finding": float(np.nanmean(finding)) if np.isfinite(finding).any() else None,
        "folds_mAP": [float(np.nanmean(part[0])) for part in parts],
    }


def line(row: dict[str, Any]) -> str:
    low, high = row["mAP_ci95"] or (float("nan"), float("nan"))
    finding = "–" if row["mAP_finding"] is None else f"{row['mAP_finding']:.3f}"
    each = " / ".join(f"{value:.3f}" for value in row["folds_mAP"])
    return (
        f"| {row['rung']} | {row['folds']} | {row['mAP']:.3f} [{low:.3f}, {high:.3f}] | {row['macro']:.3f} "
        f"| {row['P@10']:.3f} | {finding} | {each} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--imagenet", type=Path, required=True)
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--images", type=int, default=19200, help="Pictures a trained rung of ours sees.")
    parser.add_argument("--rungs", nargs="+", default=[rung.name for rung in RUNGS])
    options = parser.parse_args()
    own = [ref for ref in labelled(options.manifest) if ref.split == "train"]
    pool = list(open_source(options.pool))
    packed = pack([*own, *pool], preprocessing_of(BASE), load_pseudonyms(), options.out / "packed")
    everything = labelled_images(packed, [*own, *pool], len(pool), 0.0, 24)
    n_own = int((np.array(packed.rows) < len(own)).sum())
    made = make_folds(everything.refs, n_own)
    print("| rung | folds | mAP [95 %] | macro mAP | P@10 | finding mAP | mAP of each fold |")
    print("|---|---|---|---|---|---|---|", flush=True)
    done = []
    for row in rows_of(Ladder(options, everything, n_own), [r for r in RUNGS if r.name in options.rungs], made):
        print(line(row), flush=True)
        done.append(row)
    (options.out / "ladder.json").write_text(json.dumps(done, indent=1))


if __name__ == "__main__":
    main()
