"""Measures an encoder on a split: gallery = train, queries = test, all through search.py (what is shipped).

evaluate_split(refs, encoder, pseudonyms) -> Evaluation     files in, metrics.json and the report's pictures out
evaluate_features(gallery, queries) -> dict                 the numbers alone, from arrays
gallery_size_curve(gallery, queries, layer) -> dict         the same queries in smaller galleries
cross_validation([metrics, ...]) -> dict                    mean and standard deviation over folds
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..encoder import Encoder
from ..errors import BadManifest, UsageError
from ..privacy import Pseudonyms
from ..rerank import Reranking, reranking_of
from ..types import GATES, Gate, ImageRef, Progress, Record, Rerank, UInt8
from .calibration import calibration
from .collect import collect
from .efficiency import efficiency
from .examples import Example, Samples, choose_examples, choose_samples, frame_of, records_shown, thumbnails
from .rankings import EvaluationSide, judge, rank_and_measure
from .sizes import Parts, gallery_size_curve
from .summary import THOUSAND_DRAWS, Bootstrap, cross_validation, evaluate_features, summarise

__all__ = [
    "Bootstrap",
    "Evaluation",
    "EvaluationSide",
    "Example",
    "Parts",
    "Samples",
    "cross_validation",
    "efficiency",
    "evaluate_features",
    "evaluate_split",
    "gallery_size_curve",
    "gates_of",
]


@dataclass(frozen=True)
class Evaluation:
    """metrics: the document metrics.json. examples, samples, pictures (uint8 grey, by record id): for the report."""

    metrics: dict[str, Any]
    examples: tuple[Example, ...]
    samples: Samples
    pictures: Mapping[str, UInt8]


def evaluate_split(
    refs: Sequence[ImageRef],
    encoder: Encoder,
    pseudonyms: Pseudonyms,
    *,
    relevant: str = "class",
    layers: Sequence[str] | None = None,
    gates: Sequence[Gate] | None = None,
    rerank: Rerank = "none",
    apart: tuple[str, str] | None = None,
    bootstrap: Bootstrap = THOUSAND_DRAWS,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> Evaluation:
    """Evaluate on a manifest's split: gallery = train, queries = test.

    relevant: the label column that judges. layers, gates: all the encoder has, unless named. rerank: what makes every
    ranking better. apart: (column, value). Files that give no image are counted and listed under `failed`.
    Raises BadManifest when a side is missing, UsageError for an unknown layer or gate, a re-ranking that was not
    fitted, or a column without values, CbmirError when a side gives no image.
    """
    layers = _layers(encoder, layers)
    gates = tuple(gates) if gates else gates_of(encoder)
    rerankings = _rerankings(encoder, layers, rerank)
    _check_early(refs, encoder, gates, relevant, apart)
    collected = collect(refs, encoder, pseudonyms, layers, workers, on_progress)
    gallery, queries = collected.side("train"), collected.side("test")
    judgement = judge(gallery, queries, relevant)
    taus = encoder.calibration.get("soft_gate_tau") or {}
    rankings = rank_and_measure(
        gallery,
        queries,
        judgement,
        layers=layers,
        gates=gates,
        classes=encoder.classes,
        taus=taus,
        rerankings=rerankings,
    )
    numbers = summarise(
        gallery,
        queries,
        judgement,
        rankings,
        classes=encoder.classes,
        relevant=relevant,
        apart=apart,
        bootstrap=bootstrap,
    )
    speed = efficiency(
        gallery, queries, layers=layers, gates=gates, classes=encoder.classes, taus=taus, rerankings=rerankings
    )
    examples = choose_examples(gallery, queries, rankings)
    samples = choose_samples(gallery.records)
    mask = encoder.preprocessing.regions_only
    pictures = _pictures(records_shown(examples, samples), collected.ref_of, pseudonyms, workers, mask)
    believed = calibration(
        queries, judgement, rankings, encoder.classes, encoder.calibration, reranked=bool(rerankings)
    )
    told = {"rerank": rerank, "calibration": believed, "efficiency": speed}
    metrics = numbers | told | _about(encoder) | collected.about()
    return Evaluation(metrics, examples, samples, pictures)


def _pictures(
    shown: Mapping[str, Record],
    ref_of: Mapping[str, ImageRef],
    pseudonyms: Pseudonyms,
    workers: int | None,
    mask_burned_in: bool,
) -> dict[str, UInt8]:
    """uint8 grey by record id, of the records whose picture can be had."""
    frames = {name: (ref_of[name], record.frame_index) for name, record in shown.items()}
    pictures = thumbnails(frames.values(), pseudonyms, mask_burned_in=mask_burned_in, workers=workers)
    return {name: pictures[key] for name, frame in frames.items() if (key := frame_of(*frame)) in pictures}


def gates_of(encoder: Encoder) -> tuple[Gate, ...]:
    """The gates an encoder can serve: `off` alone without classes, `soft` only with a fitted tau."""
    if not encoder.classes:
        return ("off",)
    taus = encoder.calibration.get("soft_gate_tau") or {}
    return tuple(gate for gate in GATES if gate != "soft" or all(layer in taus for layer in encoder.layers))


def _layers(encoder: Encoder, layers: Sequence[str] | None) -> tuple[str, ...]:
    """The named layers, or all, in the order of the encoder."""
    for layer in layers or ():
        if layer not in encoder.layers:
            raise UsageError(f"the encoder has no layer {layer}; its layers are {', '.join(encoder.layers)}")
    return tuple(layer for layer in encoder.layers if not layers or layer in layers)


def _rerankings(encoder: Encoder, layers: Sequence[str], rerank: Rerank) -> dict[str, Reranking]:
    found = {layer: reranking_of(rerank, encoder.calibration, layer) for layer in layers}
    return {layer: reranking for layer, reranking in found.items() if reranking is not None}


def _check_early(
    refs: Sequence[ImageRef],
    encoder: Encoder,
    gates: Sequence[Gate],
    relevant: str,
    apart: tuple[str, str] | None,
) -> None:
    """What would fail after minutes of extraction fails now."""
    splits = Counter(ref.split for ref in refs)
    if not (splits["train"] and splits["test"]):
        raise BadManifest(
            "evaluation needs images of split train (gallery) and test (queries): "
            "make the column split with `cbmir dataset split`"
        )
    queries = [ref for ref in refs if ref.split == "test"]
    if not any(relevant in ref.labels for ref in queries):
        raise UsageError(f"no query has a value in the column {relevant}: name another, or label the queries")
    if apart and apart[0] != "modality" and not any(_value(ref, apart[0]) == apart[1] for ref in queries):
        raise UsageError(f"no query has {apart[0]}={apart[1]}: nothing can be told apart")
    for gate in gates:
        if gate not in GATES:
            raise UsageError(f"there is no gate {gate}; the gates are {', '.join(GATES)}")
        if gate not in gates_of(encoder):
            raise UsageError(f"the encoder '{encoder.name}' cannot serve the gate {gate}; use gate off")


def _value(ref: ImageRef, column: str) -> str | None:
    return ref.source if column == "source" else ref.labels.get(column)


def _about(encoder: Encoder) -> dict[str, Any]:
    training = getattr(encoder, "training", None)
    return {
        "encoder": encoder.fingerprint,
        "encoder_name": encoder.name,
        "precision": encoder.precision,
        "training": dict(training) if training else None,
    }
