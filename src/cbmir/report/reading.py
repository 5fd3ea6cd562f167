"""Plain words on what the numbers mean, and on the paper's 0.53 and 0.69."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from .tables import number

PAPER_READINGS = (
    "The paper reports a mAP of 0.53 without and 0.69 with class prediction, at 99.77 % of images classified "
    "rightly. Under the standard definition 0.69 is impossible with such a gate: it would be about 0.998.",
    "One reading fits (B): precision summed over the hits is divided by the whole class in the data base, 300 "
    "images, though only the 210 of the training part can be retrieved. Then a perfect ranking reaches 0.70, and "
    "0.70 x 0.9977 = 0.698. Under this reading the paper's 0.53 without class prediction is a standard mAP of "
    "0.757. The paper does not say which definition it used, so this stays a reading.",
)


def how_to_read(metrics: Mapping[str, Any]) -> list[str]:
    """Paragraphs of plain text, with the numbers of this evaluation."""
    texts = []
    layer, gates = next(iter(metrics["retrieval"].items()))
    if "hard" in gates and metrics["relevant"] == "class":
        texts.append(_hard_gate(layer, gates, metrics["classification"]["top1"]))
    texts += PAPER_READINGS
    if metrics["relevant"] == "class":
        texts.append(_seed_compatible(metrics["retrieval"]))
    if len(metrics["retrieval"]) > 1 and "off" in gates:
        texts.append(_order_of_layers(metrics["retrieval"]))
    return texts


def _hard_gate(layer: str, gates: Mapping[str, Any], top1: float) -> str:
    return (
        "With a hard gate every hit has the predicted class, so a query's average precision is 1 when the class is "
        "right and 0 when it is wrong, whatever the order of the hits: the mAP is the share of queries classified "
        f"rightly. Here: mAP {number(gates['hard']['mAP'])} ({layer}, gate hard), top1 {number(top1)}. It measures the "
        "classifier; the mAP with gate off measures the features."
    )


def _seed_compatible(retrieval: Mapping[str, Any]) -> str:
    parts = [
        f"{number(figures['mAP_seed_compatible'])} ({layer}, gate {gate})"
        for layer, gates in retrieval.items()
        for gate, figures in gates.items()
        if gate in ("off", "hard")
    ]
    return f"The mAP of this evaluation under reading B (mAP_seed_compatible): {', '.join(parts)}."


def _order_of_layers(retrieval: Mapping[str, Any]) -> str:
    """Whether the paper's FCL1 > FCL2 > FCL3 holds: every layer, in the encoder's order, above the next."""
    values = {layer: gates["off"]["mAP"] for layer, gates in retrieval.items() if gates["off"]["mAP"] is not None}
    best_first = sorted(values, key=lambda layer: -values[layer])
    told = ", ".join(f"{layer} {number(values[layer])}" for layer in best_first)
    falling = all(first > second for first, second in pairwise(values.values()))
    holds = "holds" if falling else "does not hold"
    return (
        "The paper finds the first fully connected layer best and the last worst. Here, by mAP without gate, best "
        f"first: {told}. The paper's order {holds}."
    )
