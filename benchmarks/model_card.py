"""The numbers of MODEL_CARD.md, from what `cbmir evaluate` measured of the encoder that comes with cbmir.

cbmir evaluate organ24/manifest.csv --apart source=usanotai --out evaluation/
python benchmarks/model_card.py evaluation/metrics.json

Replaces what stands between the two marks of the card. A second card, or an encoder elsewhere: --card, --encoder.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cbmir.encoder import DEFAULT, NetworkEncoder, load_encoder

CARD = DEFAULT.parent / "MODEL_CARD.md"
BEGIN, END = "<!-- numbers, by benchmarks/model_card.py -->", "<!-- end of numbers -->"
FIGURES = ("mAP", "mAP_macro", "P@1", "P@10")
N_CONFUSED = 12
N_SOURCES = 8


def section(metrics: Mapping[str, Any], encoder: NetworkEncoder) -> str:
    """The part of the card. metrics: metrics.json; it has to be of this encoder.

    Raises ValueError for the numbers of another encoder.
    """
    if metrics["encoder"] != encoder.fingerprint:
        raise ValueError(f"the numbers are of encoder {metrics['encoder']}, not of {encoder.fingerprint}")
    layer = next(iter(encoder.layers))
    n_patients = metrics["n_patients"]
    head = (
        f"Run as {encoder.precision}: {metrics['n_queries']} queries of {n_patients['queries']} patients or groups in a"
        f" gallery of {metrics['n_gallery']} images of {n_patients['gallery']}; no patient is on both sides. In "
        "brackets 95 % intervals by bootstrap of patients."
    )
    blocks = [
        f"weights_sha256: `{encoder.weights_sha256}`  \ndigest: `{encoder.digest}`",
        head,
        _table(("gate", *FIGURES), _retrieval(metrics, layer)),
        *_classification(metrics),
        *_belief(metrics, encoder, layer),
        "### Where it fails",
        "Classes, the worst first, without a gate. Precision and recall are those of the predicted class.",
        _table(("class", "queries", "patients", "mAP", "P@10", "precision", "recall"), _per_class(metrics, layer)),
        *_confused(metrics),
        f"Sources, the {N_SOURCES} worst:",
        _table(("source", "queries", "patients", "mAP", "P@10", "top1"), _per_source(metrics, layer)),
    ]
    return "\n\n".join(blocks)


def _table(header: Sequence[str], rows: Iterator[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _figure(value: float | None, interval: Sequence[float] | None = None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def _retrieval(metrics: Mapping[str, Any], layer: str) -> Iterator[list[str]]:
    """Every gate; then, where some queries were told apart, them and the rest without a gate."""
    told = {f"{gate}": figures for gate, figures in metrics["retrieval"][layer].items()}
    if apart := metrics["apart"]:
        value = f"{apart['column']} {apart['value']}"
        told[f"off, only {value}"] = apart["apart"]["retrieval"][layer]["off"]
        told[f"off, without {value}"] = apart["rest"]["retrieval"][layer]["off"]
    for name, figures in told.items():
        yield [name, *(_figure(figures[one], figures[f"{one}_ci95"]) for one in FIGURES)]


def _classification(metrics: Mapping[str, Any]) -> Iterator[str]:
    if found := metrics["classification"]:
        names = ("top1", "macro_precision", "macro_recall", "F1")
        yield _table(names, iter([[_figure(found[name], found["ci95"][name]) for name in names]]))


def _belief(metrics: Mapping[str, Any], encoder: NetworkEncoder, layer: str) -> Iterator[str]:
    """How far its probabilities can be believed: as measured here, and as fitted on the validation part."""
    measured, fitted = metrics["calibration"], encoder.calibration
    rows = []
    if belief := measured["posterior"]:
        rows.append(["ECE of the posterior", _figure(belief["ECE"])])
    if belief := measured["score"].get(layer):
        rows.append(["ECE of the score", _figure(belief["ECE"])])
    if flags := measured["in_distribution"].get(layer):
        rows.append(["queries flagged as unlike the gallery", _figure(flags["flagged"])])
    if temperature := fitted.get("temperature"):
        rows.append(["temperature, fitted on validation", _figure(temperature["temperature"])])
    if layer in fitted.get("soft_gate_tau", {}):
        rows.append(["τ of the soft gate, fitted on validation", _figure(fitted["soft_gate_tau"][layer])])
    if rows:
        yield "### Can it be believed"
        yield _table(("what", "value"), iter(rows))


def _per_class(metrics: Mapping[str, Any], layer: str) -> Iterator[list[str]]:
    def key(told: Mapping[str, Any]) -> float:
        value = told["retrieval"][layer]["off"]["mAP"]
        return 0.0 if value is None else float(value)

    for name, told in sorted(metrics["per_class"].items(), key=lambda item: key(item[1])):
        off = told["retrieval"][layer]["off"]
        beside = [_figure(told.get("precision")), _figure(told.get("recall"))]
        yield [name, told["n_queries"], told["n_patients"], _figure(off["mAP"]), _figure(off["P@10"]), *beside]


def _confused(metrics: Mapping[str, Any]) -> Iterator[str]:
    """The cells beside the diagonal with the most images."""
    if not (found := metrics["classification"]):
        return
    classes = found["classes"]
    cells = [
        (count, sum(line), classes[truth], classes[said])
        for truth, line in enumerate(found["confusion"])
        for said, count in enumerate(line)
        if truth != said and count
    ]
    yield f"Most confused, at most {N_CONFUSED} pairs:"
    worst = sorted(cells, key=lambda cell: (-cell[0], cell[2:]))[:N_CONFUSED]
    yield _table(("class", "taken for", "images", "of"), iter([[t, said, n, of] for n, of, t, said in worst]))


def _per_source(metrics: Mapping[str, Any], layer: str) -> Iterator[list[str]]:
    def map_of(told: Mapping[str, Any]) -> float:
        value = told["retrieval"][layer]["off"]["mAP"]
        return 0.0 if value is None else float(value)

    for name, told in sorted(metrics["per_source"].items(), key=lambda item: map_of(item[1]))[:N_SOURCES]:
        off = told["retrieval"][layer]["off"]
        top1 = _figure(told.get("top1"))
        yield [name, told["n_queries"], told["n_patients"], _figure(off["mAP"]), _figure(off["P@10"]), top1]


def numbers_of(card: str) -> str:
    """What stands between the marks. Raises ValueError without them."""
    if card.count(BEGIN) != 1 or card.count(END) != 1:
        raise ValueError(f"the card needs one {BEGIN} and one {END}")
    return card.partition(BEGIN)[2].partition(END)[0].strip()


def with_numbers(card: str, numbers: str) -> str:
    before, after = card.partition(BEGIN)[0], card.partition(END)[2]
    numbers_of(card)
    return f"{before}{BEGIN}\n\n{numbers}\n\n{END}{after}"


def cells(numbers: str) -> dict[tuple[str, str], float]:
    """(first cell of the row, head of the column) -> number, of every table of the section; intervals are left out."""
    found: dict[tuple[str, str], float] = {}
    header: list[str] = []
    for line in numbers.splitlines():
        parts = [part.strip() for part in line.strip("|").split("|")] if line.startswith("|") else []
        if not parts or set("".join(parts)) <= {"-"}:
            header = header if parts else []
        elif not header:
            header = parts
        else:
            for head, cell in zip(header, parts, strict=True):
                if number := re.match(r"-?\d+\.\d+", cell):
                    found[parts[0] if head != header[0] else "", head] = float(number[0])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metrics", type=Path, help="metrics.json of `cbmir evaluate`")
    parser.add_argument("--card", type=Path, default=CARD)
    parser.add_argument("--encoder", default="default", help="directory or name")
    given = parser.parse_args()
    metrics = json.loads(given.metrics.read_text(encoding="utf-8"))
    encoder = load_encoder(given.encoder, precision=metrics["precision"])
    assert isinstance(encoder, NetworkEncoder)
    try:
        text = with_numbers(given.card.read_text(encoding="utf-8"), section(metrics, encoder))
    except ValueError as error:
        sys.exit(str(error))
    given.card.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
