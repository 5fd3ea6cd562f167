"""All methods under one protocol: fitted and measured fold by fold, whatever an earlier run finished kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..baselines import Method, method_named
from ..errors import CbmirError, UsageError
from ..evaluate import Bootstrap, gallery_size_curve
from ..evaluate.rankings import Measured, measure, rank_layer
from ..evaluate.summary import THOUSAND_DRAWS
from ..files import write_json
from ..privacy import Pseudonyms
from ..types import Gate, ImageRef, Protocol
from .cache import Bench, Features, features_of, folder_name
from .collection import Collection, read_collection
from .numbers import Row, Study, title
from .protocols import Plan, plan
from .trec import RunFile, write_qrels

Tell = Callable[[int, int, str], None]
"""Called with (done, of how many, words)."""

Make = Callable[[str], Method]
"""From a name to a method that is not fitted."""

FINER = "finding"
"""The label column inside classes that is measured where it exists and no other is named."""


@dataclass(frozen=True)
class Settings:
    """relevant: the second label column that judges; None: `finding` where there is one. trec: write TREC files.

    trec_depth: hits of each query in them; None: whole rankings.
    """

    methods: tuple[str, ...]
    protocol: Protocol = "split"
    n_folds: int | None = None
    relevant: str | None = None
    seed: int = 24
    trec: bool = False
    trec_depth: int | None = None
    bootstrap: Bootstrap = THOUSAND_DRAWS

    def __post_init__(self) -> None:
        if not self.methods:
            raise UsageError("Name at least one method.")
        twice = sorted({name for name in self.methods if self.methods.count(name) > 1})
        if twice:
            raise UsageError(f"The method '{twice[0]}' is named twice.")


def run_benchmark(
    refs: Sequence[ImageRef],
    out: Path,
    settings: Settings,
    pseudonyms: Pseudonyms,
    *,
    make: Make = method_named,
    workers: int | None = None,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """The document benchmark.json, also written to out; out/images and out/methods are kept for the next run.

    A method that fails is told under `failed` with its reason, and the others go on. make: from a name to a method
    that is not fitted. Raises UsageError or BadManifest for what no method could mend, CbmirError when all fail.
    """
    for name in settings.methods:
        make(name)  # a name that is none is said now
    tell = tell or (lambda done, total, words: None)
    collection = read_collection(
        refs, pseudonyms, out / "images", workers=workers, on_progress=lambda done, total: tell(done, total, "reading")
    )
    planned = plan(collection, settings.protocol, n_folds=settings.n_folds, seed=settings.seed)
    told = _Run(collection, planned, settings, out, make, workers, tell).run()
    write_json(out / "benchmark.json", told)
    return told


class _Run:
    """One call of run_benchmark."""

    def __init__(
        self,
        collection: Collection,
        plan: Plan,
        settings: Settings,
        out: Path,
        make: Make,
        workers: int | None,
        tell: Tell,
    ) -> None:
        self.collection, self.plan, self.settings = collection, plan, settings
        self.out, self.make, self.workers, self.tell = out, make, workers, tell
        self.failed: list[dict[str, str]] = []
        self.measured: dict[str, tuple[Method, str, Features]] = {}
        self.study = Study(collection.records, plan, _columns(collection, plan, settings.relevant), settings.bootstrap)
        self.bench = Bench(out / "methods", collection.records, collection.identity, settings.seed, tell)

    def run(self) -> dict[str, Any]:
        if self.settings.trec:
            (self.out / "trec").mkdir(parents=True, exist_ok=True)
            parts = zip(self.study.sides, self.study.judgements, strict=True)
            judged = [(*sides, found["class"]) for sides, found in parts]
            write_qrels(self.out / "trec" / "qrels.txt", judged)
        rows: list[Row] = []
        for asked in self.settings.methods:
            rows += self._tried(asked)
        if not rows:
            first = self.failed[0]
            raise CbmirError(f"Not one method could be measured; {first['method']}: {first['reason']}")
        told = self.study.document(rows)
        return told | {
            "gallery_size": self._gallery_size(told["best"]),
            "failed": self.failed,
            "seed": self.settings.seed,
            "n_duplicates": self.collection.n_duplicates,
            "files_without_image": list(self.collection.failed),
            "version": __version__,
        }

    def _tried(self, asked: str) -> list[Row]:
        """The rows of a method, [] when it fails. What is not a sentence of ours may quote files: only its kind is
        told."""
        method = self.make(asked)
        try:
            if self.plan.only_unlearned and method.learns:
                raise CbmirError("It learns, and there are too many patients to fit it anew without each.")
            return list(self._method(asked))
        except CbmirError as error:
            self.failed.append({"method": method.name, "reason": str(error)})
        except Exception as error:
            if os.environ.get("CBMIR_DEBUG") == "1":
                raise
            reason = f"The method '{method.name}' stopped with {type(error).__name__}."
            self.failed.append({"method": method.name, "reason": reason})
        return []

    def _method(self, asked: str) -> Iterator[Row]:
        method = self.make(asked)
        images = self.collection.images(
            method.preprocessing,
            self.out / "images",
            self.workers,
            lambda done, total: self.tell(done, total, f"{method.name}: decoding"),
        )
        found: list[Features] = []
        for fold in self.plan.folds:
            method = self.make(asked)
            found.append(features_of(method, images, fold, self.bench))
        for layer in found[0].gallery:
            yield self._layer(method, asked, layer, found)

    def _layer(self, method: Method, asked: str, layer: str, found: Sequence[Features]) -> Row:
        gates: tuple[Gate, ...] = ("off", "hard") if all(f.posterior is not None for f in found) else ("off",)
        measured: list[dict[str, dict[Gate, Measured]]] = []
        with self._run_file(method, asked, layer, found) or nullcontext() as run_file:
            for place, features in enumerate(found):
                self.tell(place, len(found), f"{method.name}: ranking")
                gallery, queries = self.study.with_features(place, layer, features)
                judged = self.study.judgements[place]
                rankings = rank_layer(
                    gallery,
                    queries,
                    judged["class"],
                    layer,
                    gates=gates,
                    classes=features.classes,
                    distance=method.distance,
                )
                if run_file:
                    rankings = run_file.passing(rankings, gallery, queries)
                measured.append(measure(rankings, judged, gates))
        self.measured[title(method.name, layer)] = (method, layer, found[0])
        return self.study.row(method, layer, found, measured, gates)

    def _gallery_size(self, best: str) -> dict[str, Any] | None:
        """The curve of the best method; None where there are several folds or its distance is not Euclidean."""
        method, layer, features = self.measured[best]
        if len(self.plan.folds) > 1 or method.distance != "euclidean":
            return None
        self.tell(0, 1, f"{method.name}: smaller galleries")
        gallery, queries = self.study.with_features(0, layer, features)
        return {"method": best} | gallery_size_curve(gallery, queries, layer, bootstrap=self.settings.bootstrap)

    def _run_file(self, method: Method, asked: str, layer: str, found: Sequence[Features]) -> RunFile | None:
        if not self.settings.trec:
            return None
        stem = folder_name(method.name, asked) + (f"-{layer}" if len(found[0].gallery) > 1 else "")
        return RunFile(self.out / "trec" / f"{stem}.run", method.name, self.settings.trec_depth)


def _columns(collection: Collection, plan: Plan, named: str | None) -> tuple[str, ...]:
    """What judges: the class, and the finer column."""
    known = {column for fold in plan.folds for row in fold.queries for column in collection.records[row].labels}
    if named is not None and named not in known:
        raise UsageError(f"No query has a value in the column {named}: name another, or label the queries.")
    finer = named or (FINER if FINER in known else None)
    return ("class",) if finer is None or finer == "class" else ("class", finer)
