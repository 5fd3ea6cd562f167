"""The report: tables that can be checked by head, and one page that stands alone and keeps quiet about patients."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cbmir import figures
from cbmir.evaluate import Bootstrap, EvaluationSide, cross_validation, efficiency, evaluate_features
from cbmir.evaluate.examples import Example, Samples, choose_examples, choose_samples, records_shown
from cbmir.evaluate.rankings import judge, rank_and_measure
from cbmir.report import write_cross_validation_report, write_report, write_search_report
from cbmir.report.reading import how_to_read
from cbmir.report.tables import (
    Table,
    classification_table,
    cross_validation_tables,
    folds_table,
    retrieval_table,
    table_2,
    table_3,
)
from cbmir.types import Record

CLASSES = ("brain & <b>skull</b>", "liver")
BRAIN, LIVER = CLASSES


def side(prefix: str, labels: list[str], opinions: list[list[float]] | None = None) -> EvaluationSide:
    records = tuple(
        Record(
            id=f"{prefix}{place}",
            patient=f"secret-{prefix}{place}",
            labels={"class": label},
            modality="MR",
            source="ward",
            predicted=None if opinions is None else CLASSES[int(np.argmax(opinions[place]))],
        )
        for place, label in enumerate(labels)
    )
    line = np.arange(len(labels), dtype=np.float32)[:, None]
    posterior = None if opinions is None else np.array(opinions, np.float32)
    return EvaluationSide(records, {"fcl1": line, "fcl2": -line}, posterior)


GALLERY = side("g", [BRAIN, LIVER, BRAIN, LIVER])
QUERIES = side("q", [BRAIN, LIVER], [[0.9, 0.1], [0.8, 0.2]])
LAYERS, GATES = ("fcl1", "fcl2"), ("off", "hard")


def document() -> dict[str, Any]:
    settings: dict[str, Any] = {"classes": CLASSES, "gates": GATES, "bootstrap": Bootstrap(draws=10)}
    numbers = evaluate_features(GALLERY, QUERIES, apart=("class", LIVER), **settings)
    speed = efficiency(GALLERY, QUERIES, layers=LAYERS, gates=GATES, classes=CLASSES)
    about = {"encoder": "0123abcd", "encoder_name": "toy", "precision": "f32", "efficiency": speed}
    belief = {"ECE": 0.1, "ECE_width": 0.2, "Brier": 0.3, "n": 2, "reliability": [{"share": 1, "told": 0.9, "true": 1}]}
    flags = {"fcl1": {"flagged": 0.25, "threshold": 3.0, "n": 2}}
    about["calibration"] = {"posterior": belief, "score": {"fcl1": belief}, "in_distribution": flags}
    log = [{"epoch": 1, "loss": 2.0, "error": 0.5}, {"epoch": 2, "loss": 1.0, "error": 0.25}]
    files = {"outcomes": {"corrupt": 1, "decoded": 6}, "failed": [{"path": "secret.dcm"}], "n_duplicates": 0}
    return numbers | about | files | {"training": {"log": log}}


def examples_and_samples() -> tuple[tuple[Example, ...], Samples]:
    judgement = judge(GALLERY, QUERIES)
    rankings = rank_and_measure(GALLERY, QUERIES, judgement, layers=LAYERS, gates=GATES, classes=CLASSES)
    return choose_examples(GALLERY, QUERIES, rankings), choose_samples(GALLERY.records)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole report, written once."""
    examples, samples = examples_and_samples()
    pictures = {name: np.full((9, 9), 99, np.uint8) for name in records_shown(examples, samples)}
    folder = tmp_path_factory.mktemp("report")
    return write_report(document(), folder, examples=examples, samples=samples, pictures=pictures)


class Page(HTMLParser):
    """Collects what a page would load, and checks that every element is closed."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.addresses: list[str] = []
        self.alts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.open += [] if tag in self.VOID else [tag]
        told = dict(attrs)
        self.addresses += [told[name] or "" for name in ("src", "href") if name in told]
        self.alts += [told.get("alt") or ""] if tag == "img" else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


# --- the page ---


def test_the_page_stands_alone_without_script_or_address(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "iframe", "form"} & set(page.seen)
    assert all(re.match(r"#|data:image/(png|svg\+xml);base64,", address) for address in page.addresses)
    assert page.alts
    assert all(page.alts)
    assert "default-src" in text


def test_the_page_says_it_is_not_for_diagnosis_and_how_to_read_the_map(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert "Research use only. Not for diagnosis." in text
    assert "It measures the classifier" in text
    for heading in ("Retrieval", "Classification", "Beside the paper", "What a query costs", "Definitions", "Training"):
        assert f">{heading}</h2>" in text


def test_class_names_are_escaped(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert "<b>skull" not in text
    assert "brain &amp; &lt;b&gt;skull&lt;/b&gt;" in text


def test_the_page_and_the_figures_name_no_patient_file_or_id(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert "secret" not in text
    assert "4 images of 4 patients" in text
    assert not any("secret" in path.read_text(errors="replace") for path in (report.parent / "figures").iterdir())


def test_everything_is_written_in_the_shape_of_the_contract(report: Path) -> None:
    folder = report.parent
    assert json.loads((folder / "metrics.json").read_text())["encoder"] == "0123abcd"
    assert "Table 3" in (folder / "tables.md").read_text()
    stems = {"confusion", "pr_hard", "pr_off", "per_class", "samples_between", "samples_within", "strip_1", "training"}
    files = {path.name for path in (folder / "figures").iterdir()}
    assert {f"{stem}{kind}" for stem in stems for kind in (".png", ".svg")} <= files


def test_an_encoder_without_classes_still_gets_a_report(tmp_path: Path) -> None:
    queries = side("q", [BRAIN, LIVER])
    numbers = evaluate_features(GALLERY, queries, bootstrap=Bootstrap(draws=5))
    about = {"encoder": "0", "encoder_name": "pixels", "precision": "f32", "training": None}
    text = write_report(numbers | about, tmp_path).read_text()
    assert "Classification</h2>" not in text
    assert not (tmp_path / "figures" / "confusion.png").exists()


def test_a_query_without_a_picture_is_not_shown(tmp_path: Path) -> None:
    examples, samples = examples_and_samples()
    text = write_report(document(), tmp_path, examples=examples, samples=samples).read_text()
    assert "first hits</h2>" not in text


def test_a_gallery_without_labels_gets_a_page_of_searches(tmp_path: Path) -> None:
    figures.save_as(figures.sample_sheet([figures.Tile(np.zeros((4, 4), np.uint8))], ""), tmp_path / "strip.png")
    about = {
        "directory": "/secret", "encoder": {"name": "pixels", "fingerprint": "0123"},
        "records": 3, "patients": 2, "by_modality": {"CT": 2, "": 1},
    }  # fmt: skip
    indexed = {"outcomes": {"decoded": 3, "corrupt": 0, "not_an_image": 1}, "added": 3, "unchanged": 0, "vanished": 0}
    strips = [("found <CT>, MR", tmp_path / "strip.png")]
    path = write_search_report(about, indexed | {"duplicates": 0}, strips, tmp_path / "report")
    text = path.read_text(encoding="utf-8")
    assert Page(text).open == []
    assert "found &lt;CT&gt;, MR" in text
    assert '<th scope="row">not an image</th><td>1</td>' in text
    assert "secret" not in text
    assert "Not for diagnosis" in text


# --- tables ---


def test_a_table_escapes_in_markdown_and_html() -> None:
    table = Table("a < b", ("x", "y"), (("1|2", "<i>"),), "note & note")
    assert table.markdown() == "**a < b**\n\n| x | y |\n| --- | --- |\n| 1\\|2 | <i> |\n\nnote & note\n"
    html = table.html()
    assert "<caption>a &lt; b</caption>" in html
    assert '<th scope="row">1|2</th><td>&lt;i&gt;</td>' in html
    with pytest.raises(ValueError, match="2 cells"):
        Table("t", ("x", "y"), (("1",),))


def test_tables_2_and_3_keep_the_papers_rows_and_add_ours() -> None:
    second, third = table_2(document()), table_3(document())
    assert second.rows[0][-3:] == ("99.76", "99.77", "99.76")
    assert second.rows[1][-3:] == ("98.43", "97.28", "97.85")
    assert second.rows[2][1:6] == ("6", "4", "2", "MR", "2")
    assert second.rows[2][-3:] == ("25.00", "50.00", "33.33")  # AP (1/2 + 0)/2, AR (1 + 0)/2, F1 of both
    assert [row[6:8] for row in third.rows[:3]] == [("0.53", "0.69"), ("0.86", ""), ("0.576", "")]
    ours = [row[-3:] for row in third.rows[3:5]]
    # the brain ranks right, wrong, right, wrong; the liver right, wrong, wrong, right
    assert ours[0] == (f"{((1 / 1 + 2 / 3) / 2 + (1 / 1 + 2 / 4) / 2) / 2:.3f}", "0.500", "standard, R of the gallery")
    assert ours[1][1:] == ("0.333", "seed-compatible")  # 1/2 x 2/3: two of three of a class are in the gallery


def test_the_retrieval_table_has_a_row_for_each_layer_and_gate() -> None:
    table = retrieval_table(document())
    assert [row[0] for row in table.rows] == [f"{layer}, gate {gate}" for layer in LAYERS for gate in GATES]
    assert table.rows[1][1].startswith("0.500 [")


def test_the_classification_table_sets_the_papers_values_beside_ours() -> None:
    rows = {row[0]: row for row in classification_table(document()).rows}
    assert rows["macro_recall"][1] == "50.00"
    assert rows["macro_recall"][-1] == "99.77 (AR)"
    assert " ± " in rows["top1"][3]


def test_folds_are_told_as_mean_and_standard_deviation() -> None:
    classification, retrieval = cross_validation_tables(cross_validation([document(), document()]))
    assert classification.title == "Cross-validation over 2 folds: classification"
    assert ("top1", "50.00 ± 0.00") in classification.rows
    assert retrieval.rows[1][:2] == ("fcl1, gate hard", "0.500 ± 0.000")


def test_folds_without_classes_are_told_by_retrieval_alone() -> None:
    fold = evaluate_features(GALLERY, side("q", [BRAIN]), bootstrap=Bootstrap(draws=5))
    (table,) = cross_validation_tables(cross_validation([fold]))
    assert [row[0] for row in table.rows] == ["fcl1, gate off", "fcl2, gate off"]


def test_every_fold_has_a_row() -> None:
    table = folds_table(cross_validation([document(), document()]))
    assert table.header[:5] == ("", "Gallery", "Queries", "top1, %", "mAP, fcl1, off")
    assert [row[:4] for row in table.rows] == [("fold 1", "4", "2", "50.00"), ("fold 2", "4", "2", "50.00")]
    assert table.rows[0][5] == "0.500"  # fcl1, hard


def test_a_cross_validation_gets_a_page_with_its_folds_beside_the_paper(tmp_path: Path) -> None:
    summary = cross_validation([document(), document()]) | {"recipe": {"name": "paper", "epochs": 30}, "seed": 24}
    path = write_cross_validation_report(summary, tmp_path / "out")
    text = path.read_text(encoding="utf-8")
    assert path == tmp_path / "out" / "report.html"
    assert Page(text).open == []
    assert "Not for diagnosis" in text
    assert "Recipe paper, 30 epochs, seed 24." in text
    for told in ("<td>0.53</td>", "<td>99.76</td>", "fold 2", "0.500&nbsp;±&nbsp;0.000", "50.00&nbsp;±&nbsp;0.00"):
        assert told in text
    assert "<dt>mAP_seed_compatible</dt>" in text


def test_a_cross_validation_without_classes_gets_a_page_too(tmp_path: Path) -> None:
    fold = evaluate_features(GALLERY, side("q", [BRAIN]), bootstrap=Bootstrap(draws=5))
    text = write_cross_validation_report(cross_validation([fold]), tmp_path).read_text(encoding="utf-8")
    assert "top1, %</th>" in text
    assert "macro_precision" not in text


# --- plain words ---


def test_the_reading_tells_whether_the_papers_order_of_layers_holds() -> None:
    retrieval = {
        layer: {"off": {"mAP": value, "mAP_seed_compatible": value}} for layer, value in (("fcl1", 0.5), ("fcl2", 0.7))
    }
    told = how_to_read({"retrieval": retrieval, "relevant": "class", "classification": None})
    assert told[-1].endswith("first: fcl2 0.700, fcl1 0.500. The paper's order does not hold.")
    retrieval["fcl1"]["off"]["mAP"] = 0.9
    told = how_to_read({"retrieval": retrieval, "relevant": "class", "classification": None})
    assert told[-1].endswith("The paper's order holds.")
    retrieval["fcl1"]["off"]["mAP"] = 0.7
    told = how_to_read({"retrieval": retrieval, "relevant": "class", "classification": None})
    assert told[-1].endswith("The paper's order does not hold.")  # the paper says better, not as good


def test_the_reading_does_not_speak_of_classes_when_another_column_judges() -> None:
    numbers = document() | {"relevant": "finding"}
    assert not any("share of queries classified" in text for text in how_to_read(numbers))
