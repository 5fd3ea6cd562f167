"""Do the maps of `cbmir explain` show what matters? Insertion and deletion over many pairs, against random maps.

    .venv/bin/python benchmarks/explain_check.py MANIFEST --encoder DIR [--pairs 200] [--random 10]

MANIFEST: only images of its train split. They are dealt into folds by patient; a query is paired with the most similar
image of the other folds. Each picture of a pair is taken away and put in, an eighth at a time, in the order of a map,
and the similarity with the other (whole) picture is read (src/cbmir/explain.py, Curves). The score is the area under
insertion minus that under deletion, the mean of both pictures of a pair. Two further orders need no explanation of this
pair: from the middle outwards, and the map of the same picture for a hit of another pair.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cbmir.dataset import folds, with_patients
from cbmir.encoder import Encoder, Maps, load_encoder
from cbmir.explain import area, contributions, curves, larger, look, random_maps, shares, similarity_with
from cbmir.extract import extract
from cbmir.images.worker import decode_all
from cbmir.metrics.statistics import paired_test
from cbmir.privacy import Pseudonyms, load_pseudonyms
from cbmir.sources import labelled
from cbmir.types import ImageRef, UInt8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--encoder", required=True, help="a directory, or a name")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=200, help="queries, drawn from all folds")
    parser.add_argument("--random", type=int, default=10, help="random maps for each picture")
    parser.add_argument("--seed", type=int, default=24)
    options = parser.parse_args()
    refs = [ref for ref in labelled(options.manifest) if ref.split in (None, "train")]
    encoder, pseudonyms = load_encoder(options.encoder), load_pseudonyms()
    pairs, patients = drawn_pairs(refs, encoder, pseudonyms, options)
    scores = measure(pairs, refs, encoder, pseudonyms, options)
    print(f"{len(pairs)} pairs of {len(set(patients))} patients, {options.random} random maps for each picture, ")
    print(f"encoder {encoder.name}, {encoder.precision}, seed {options.seed}\n")
    print("\n".join(table(scores, patients)))


def drawn_pairs(
    refs: Sequence[ImageRef], encoder: Encoder, pseudonyms: Pseudonyms, options: argparse.Namespace
) -> tuple[list[tuple[int, int]], Any]:
    """Rows of queries and of their nearest images in other folds, and a number for the patient of each query."""
    known = with_patients(refs, pseudonyms, None)
    fold = folds(known, options.folds, seed=options.seed)
    layer = next(iter(encoder.layers))
    files = list(extract(refs, encoder, pseudonyms))
    rows = np.array([row for row, file in enumerate(files) if len(file.records) == 1])
    features = np.stack([files[row].features[layer][0] for row in rows])
    queries = np.random.default_rng(options.seed).permutation(len(rows))[: options.pairs]
    pairs = []
    for query in queries:
        similarity = features @ features[query]
        similarity[fold[rows] == fold[rows[query]]] = -np.inf
        pairs.append((int(rows[query]), int(rows[similarity.argmax()])))
    patients = [known[query].patient or f"row {query}" for query, _ in pairs]
    return pairs, np.unique(patients, return_inverse=True)[1]


def measure(
    pairs: Sequence[tuple[int, int]],
    refs: Sequence[ImageRef],
    encoder: Encoder,
    pseudonyms: Pseudonyms,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Name of an order to scores, insertion and deletion: float64 (pairs, 3), means of the two pictures."""
    generator = np.random.default_rng(options.seed)
    own, large = (
        read([refs[row] for pair in pairs for row in pair], recipe, pseudonyms)
        for recipe in (encoder.preprocessing, larger(encoder.preprocessing))
    )
    found: dict[str, list[Any]] = {}
    for number in range(len(pairs)):
        pictures = own[2 * number : 2 * number + 2]
        other = own[(2 * number + 2) % len(own)]  # the query of the next pair
        maps = encoder.maps(np.stack([*pictures, other]))
        finer = encoder.maps(large[2 * number : 2 * number + 2])
        sides = []
        for side in (0, 1):
            orders = candidates(maps, finer, side)
            noise = random_maps(options.random, pictures.shape[2:], generator)
            target = look(of(maps, 1 - side)).features.astype(np.float32)
            measured = curves(pictures[side], [*orders.values(), *noise], similarity_with(encoder, target))
            triples = np.array([[one.score, area(one.insertion), area(one.deletion)] for one in measured])
            named = dict(zip(orders, triples, strict=False))
            sides.append(named | {"random": triples[len(orders) :].mean(axis=0)})
        for name in sides[0]:
            found.setdefault(name, []).append((sides[0][name] + sides[1][name]) / 2)
    return {name: np.array(values) for name, values in found.items()}


def candidates(maps: Maps, finer: Maps, side: int) -> dict[str, Any]:
    looked = [look(of(maps, row)) for row in range(3)]
    both = look(of(maps, side), finer.values[side])
    fine = replace(both, shares=shares(finer.values[side], maps.p))
    target, elsewhere = looked[1 - side].features, looked[2].features
    coarse = maps.values.shape[-1]
    return {
        "both, as explain does": contributions(both, target, maps),
        f"{coarse} x {coarse}": contributions(looked[side], target, maps),
        f"{2 * coarse} x {2 * coarse}": contributions(fine, target, maps),
        "both, of another pair": contributions(both, elsewhere, maps),
        "the middle first": middle_first(coarse),
    }


def middle_first(n: int) -> Any:
    place = np.arange(n) - (n - 1) / 2
    return -np.hypot(*np.meshgrid(place, place))


def of(maps: Maps, row: int) -> Maps:
    return replace(maps, values=maps.values[row])


def read(refs: Sequence[ImageRef], recipe: Any, pseudonyms: Pseudonyms) -> UInt8:
    return np.stack([file.images[0].pixels for file in decode_all(refs, recipe, pseudonyms)])


def table(scores: Mapping[str, Any], patients: Any) -> list[str]:
    """One row an order: means, and its score less that of random maps and of the first order, with intervals."""
    first = next(iter(scores))
    lines = [
        f"| order | insertion | deletion | score | less random | less {first} |",
        "|---|---|---|---|---|---|",
    ]
    for name, values in scores.items():
        score, insertion, deletion = values.mean(axis=0)
        apart = [_difference(values[:, 0], scores[other][:, 0], patients, name == other) for other in ("random", first)]
        lines.append(f"| {name} | {insertion:.3f} | {deletion:.3f} | {score:.3f} | {apart[0]} | {apart[1]} |")
    return lines


def _difference(values: Any, others: Any, patients: Any, same: bool) -> str:
    if same:
        return "-"
    tested = paired_test(values, others, patients)
    low, high = tested.interval95 or (np.nan, np.nan)
    return f"{tested.difference:+.3f} ({low:+.3f} to {high:+.3f}, p {tested.p:.4f})"


if __name__ == "__main__":
    main()
