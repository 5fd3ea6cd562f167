"""The encoder that comes with cbmir: found by its name, packed with its licence, and what its card says of it."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cbmir.baselines import method_named
from cbmir.cli import cli
from cbmir.encoder import DEFAULT, NetworkEncoder, load_encoder
from cbmir.errors import BadEncoder, BadGallery
from cbmir.evaluate import evaluate_split
from cbmir.files import file_sha256
from cbmir.gallery import Gallery, Query
from cbmir.jobs import Asked, IndexSettings, describe, index_into, search_images
from cbmir.jobs.upkeep import reindex_images
from cbmir.privacy import Pseudonyms
from cbmir.sources import labelled
from pictures import draw_folder
from small_network import save_small

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import model_card

REPOSITORY = Path(__file__).resolve().parent.parent
HERE = IndexSettings(workers=0)
SHIPPED = {"LICENSE", "MODEL_CARD.md", "default/encoder.json", "default/weights.safetensors"}
CARD = DEFAULT.parent / "MODEL_CARD.md"
MOST_BYTES = 20_000_000
APART = ("source", "usanotai")
TOLERANCE = 0.005


@pytest.fixture
def shipped() -> NetworkEncoder:
    encoder = load_encoder("default")
    assert isinstance(encoder, NetworkEncoder)
    return encoder


def test_a_wheel_holds_the_encoder_with_licence_and_card() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["cbmir"]
    there = {path.relative_to(DEFAULT.parent).as_posix() for path in DEFAULT.parent.rglob("*") if path.is_file()}
    for name in SHIPPED | there:
        assert any(fnmatch(f"weights/{name}", pattern) for pattern in patterns), name
    assert project["project"]["license"] == "Apache-2.0 AND LicenseRef-cbmir-weights"
    assert all((REPOSITORY / name).is_file() for name in project["project"]["license-files"])
    assert "src/cbmir/weights/LICENSE" in project["project"]["license-files"]


def test_the_licence_says_what_for_and_names_the_work_it_began_with() -> None:
    text = (DEFAULT.parent / "LICENSE").read_text()
    for words in ("Research only", "Not commercial", "No clinical use", "Apache License, Version 2.0", "google-coral"):
        assert words in text


def test_the_default_is_found_by_name_and_a_folder_of_that_name_by_path(stand_in: Path, tmp_path: Path) -> None:
    other = save_small(tmp_path / "elsewhere" / "default", seed=1, classes=("disc", "stripes"))
    default, mine = load_encoder("default"), load_encoder(other)
    assert (default.name, mine.name) == ("default", "default")
    assert default.fingerprint != mine.fingerprint
    assert load_encoder(stand_in).fingerprint == default.fingerprint
    assert method_named("encoder:default").name == "encoder:default"


def test_a_path_is_never_a_name(stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cbmir train --out default` writes a folder, and tells of that one."""
    mine = save_small(tmp_path / "work" / "default", seed=1, classes=("disc", "stripes"))
    monkeypatch.chdir(tmp_path / "work")
    assert load_encoder(Path("default")).fingerprint == load_encoder(mine).fingerprint
    assert load_encoder("./default").fingerprint == load_encoder(mine).fingerprint
    assert load_encoder("default").fingerprint == load_encoder(stand_in).fingerprint
    assert describe(Path("default"))["fingerprint"] == load_encoder(mine).fingerprint
    monkeypatch.chdir(tmp_path)
    assert describe(Path("default"))["fingerprint"] == load_encoder(stand_in).fingerprint


def test_an_encoder_is_the_same_wherever_it_lies(stand_in: Path, tmp_path: Path) -> None:
    shutil.copytree(stand_in, tmp_path / "moved")
    encoders: list[Any] = [
        load_encoder(place, runtime="torch", precision=precision)
        for place in ("default", tmp_path / "moved")
        for precision in ("f32", "bf16")
    ]
    assert len({encoder.digest for encoder in encoders}) == 1
    assert [encoder.fingerprint for encoder in encoders[:2]] == [encoder.fingerprint for encoder in encoders[2:]]
    assert encoders[0].fingerprint != encoders[1].fingerprint


def test_an_installation_without_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbmir.encoder.DEFAULT", tmp_path / "nothing")
    with pytest.raises(BadEncoder, match="install cbmir again"):
        load_encoder("default")


def test_without_a_run_time_it_is_said_what_to_install(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    missing = {"torch", "openvino"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else found(name))
    with pytest.raises(BadEncoder, match=r"pip install 'cbmir\[torch,openvino\]'. The encoder pixels needs neither"):
        load_encoder("default")
    missing.remove("openvino")
    encoder = load_encoder("default", precision="f32")
    with pytest.raises(BadEncoder, match=r"pip install 'cbmir\[torch\]'"):
        encoder.encode(np.zeros((1, 1, 224, 224), np.uint8))


def test_a_new_gallery_is_of_it_and_finds_it_again_after_an_update(stand_in: Path, tmp_path: Path) -> None:
    pictures = draw_folder(tmp_path / "pictures", per_class=2)
    index_into(tmp_path / "gallery", [pictures], settings=HERE)
    with Gallery.open(tmp_path / "gallery") as gallery:
        assert (gallery.encoder_path, gallery.count) == ("default", 4)
    assert index_into(tmp_path / "gallery", [pictures], settings=HERE).added == 0
    save_small(stand_in, seed=1, classes=("disc", "stripes"))
    with pytest.raises(BadGallery, match="`cbmir reindex --encoder NAME` takes it over"):
        index_into(tmp_path / "gallery", [pictures], settings=HERE)
    assert reindex_images(tmp_path / "gallery", "default", settings=HERE).swapped
    with Gallery.open(tmp_path / "gallery") as gallery:
        assert gallery.encoder_path == "default"


def test_evaluate_measures_it_where_no_other_is_named(stand_in: Path, tmp_path: Path) -> None:
    pictures = draw_folder(tmp_path / "pictures", per_class=4)
    run = CliRunner().invoke
    manifest = str(pictures / "manifest.csv")
    assert run(cli, ["dataset", "split", str(pictures), "--out", manifest], catch_exceptions=False).exit_code == 0
    words = ["evaluate", manifest, "--out", str(tmp_path / "r"), "--workers", "0", "--json"]
    told = json.loads(run(cli, words, catch_exceptions=False).stdout)
    assert (told["encoder_name"], told["encoder"]) == ("default", load_encoder("default").fingerprint)


def test_the_shipped_files_are_whole_and_small(shipped: NetworkEncoder) -> None:
    assert {path.name for path in DEFAULT.iterdir()} == {"encoder.json", "weights.safetensors"}
    assert file_sha256(DEFAULT / "weights.safetensors") == shipped.weights_sha256
    assert sum(path.stat().st_size for path in DEFAULT.iterdir()) <= MOST_BYTES
    assert shipped.training["recipe"]["name"] == "ours"
    assert {"temperature", "soft_gate_tau", "score", "in_distribution", "rerank"} <= shipped.calibration.keys()


def test_the_card_is_of_the_shipped_encoder(shipped: NetworkEncoder) -> None:
    card = CARD.read_text(encoding="utf-8")
    numbers = model_card.numbers_of(card)
    assert f"digest: `{shipped.digest}`" in numbers
    assert f"weights_sha256: `{shipped.weights_sha256}`" in numbers
    assert {("off", "mAP"), ("soft", "mAP"), ("", "top1")} <= model_card.cells(numbers).keys()
    assert ", ".join(shipped.classes) in card
    assert f"{shipped.preprocessing.crop} x {shipped.preprocessing.crop}" in card
    assert f"one main layer of {shipped.layers['main']} dimensions" in card


def test_the_shipped_encoder_indexes_and_searches(shipped: NetworkEncoder, tmp_path: Path) -> None:
    """Drawn discs and stripes are no organs; stripes find stripes all the same."""
    pictures = draw_folder(tmp_path / "pictures", per_class=4)
    index_into(tmp_path / "gallery", [pictures / "disc", pictures / "stripes"], settings=HERE)
    with Gallery.open(tmp_path / "gallery") as gallery:
        assert gallery.encoder.layers == shipped.layers
        found, _ = search_images(gallery, Asked([pictures / "stripes" / "00.png"]), Query(k=2))
        like, _ = search_images(gallery, Asked([pictures / "stripes" / "01.png"]), Query(k=7))
    assert found.in_distribution is not None
    assert found.hits[0].score is not None
    assert {hit.id for hit in found} < {hit.id for hit in like} | {like.query_id}


def test_the_card_lists_every_source_with_its_licence(organ24: Path) -> None:
    rows = re.findall(r"^\| ([\w.-]+) \| .* \| ([^|]+) \|$", CARD.read_text(encoding="utf-8"), re.MULTILINE)
    carded = dict(rows)
    for readme in (organ24 / "README.md", organ24.parent / "pool" / "README.md"):
        told = readme.read_text(encoding="utf-8").partition("## Licences")[2].partition("\n## ")[0]
        sources = dict(re.findall(r"^- ([^:\n]+): (.+)$", told, re.MULTILINE))
        assert sources
        assert {source: carded.get(source) for source in sources} == sources


@pytest.mark.long
def test_the_shipped_encoder_measures_what_the_card_says(
    shipped: NetworkEncoder, organ24: Path, pseudonyms: Pseudonyms
) -> None:
    metrics = evaluate_split(labelled(organ24), shipped, pseudonyms, apart=APART).metrics
    measured = model_card.cells(model_card.section(metrics, shipped))
    carded = model_card.cells(model_card.numbers_of(CARD.read_text(encoding="utf-8")))
    overall = {key for key in measured if key[0].startswith(("off", "hard", "top3", "soft")) or key[0] == ""}
    assert len(overall) >= 20
    for key in overall:
        assert carded[key] == pytest.approx(measured[key], abs=TOLERANCE), key
