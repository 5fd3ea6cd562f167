"""The numbers of a model card come from metrics.json, and can be read back."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cbmir.encoder import NetworkEncoder, load_encoder
from cbmir.evaluate import Bootstrap, evaluate_split
from cbmir.privacy import Pseudonyms
from cbmir.sources import classes
from pictures import draw_folder
from small_network import save_small

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import model_card


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], NetworkEncoder]:
    """metrics.json of an untrained network on discs and stripes, the half of them of another source."""
    folder = tmp_path_factory.mktemp("card")
    encoder = load_encoder(save_small(folder / "small", classes=("disc", "stripes")), runtime="torch", precision="f32")
    assert isinstance(encoder, NetworkEncoder)
    refs = [
        replace(ref, split="test" if number % 3 == 0 else "train", source=f"site {number % 2}")
        for number, ref in enumerate(classes(draw_folder(folder / "pictures", per_class=6)))
    ]
    pseudonyms = Pseudonyms(b"a key for tests, 32 bytes long..")
    told = evaluate_split(
        refs, encoder, pseudonyms, apart=("source", "site 0"), bootstrap=Bootstrap(draws=5), workers=0
    )
    return told.metrics, encoder


def test_the_section_has_what_was_measured(measured: tuple[dict[str, Any], NetworkEncoder]) -> None:
    metrics, encoder = measured
    numbers = model_card.section(metrics, encoder)
    assert f"digest: `{encoder.digest}`" in numbers
    cells = model_card.cells(numbers)
    off = metrics["retrieval"]["FCL1"]["off"]
    assert cells["off", "mAP"] == round(off["mAP"], 3)
    assert cells["hard", "P@10"] == round(metrics["retrieval"]["FCL1"]["hard"]["P@10"], 3)
    rest = metrics["apart"]["rest"]["retrieval"]["FCL1"]["off"]
    assert cells["off, without source site 0", "mAP_macro"] == round(rest["mAP_macro"], 3)
    assert cells["", "top1"] == round(metrics["classification"]["top1"], 3)
    assert cells["stripes", "recall"] == round(metrics["per_class"]["stripes"]["recall"], 3)
    assert cells["site 1", "P@10"] == round(metrics["per_source"]["site 1"]["retrieval"]["FCL1"]["off"]["P@10"], 3)


def test_the_worst_come_first(measured: tuple[dict[str, Any], NetworkEncoder]) -> None:
    metrics, encoder = measured
    numbers = model_card.section(metrics, encoder)
    aps = {name: told["retrieval"]["FCL1"]["off"]["mAP"] for name, told in metrics["per_class"].items()}
    worst, best = sorted(aps, key=lambda name: aps[name])
    assert numbers.index(f"| {worst} |") < numbers.index(f"| {best} |")
    [(truth, said, count)] = [
        (one, other, metrics["classification"]["confusion"][row][1 - row])
        for row, (one, other) in enumerate((("disc", "stripes"), ("stripes", "disc")))
        if metrics["classification"]["confusion"][row][1 - row]
    ]
    assert f"| {truth} | {said} | {count} | 2 |" in numbers


def test_only_what_stands_between_the_marks_is_replaced(measured: tuple[dict[str, Any], NetworkEncoder]) -> None:
    card = f"before\n{model_card.BEGIN}\nold\n{model_card.END}\nafter\n"
    new = model_card.with_numbers(card, "new")
    assert new == f"before\n{model_card.BEGIN}\n\nnew\n\n{model_card.END}\nafter\n"
    assert model_card.with_numbers(new, "new") == new
    assert model_card.numbers_of(new) == "new"
    with pytest.raises(ValueError, match="the card needs one"):
        model_card.with_numbers("no marks", "new")


def test_numbers_of_another_encoder_are_refused(measured: tuple[dict[str, Any], NetworkEncoder]) -> None:
    metrics, encoder = measured
    with pytest.raises(ValueError, match="numbers are of encoder 0123"):
        model_card.section(metrics | {"encoder": "0123"}, encoder)
