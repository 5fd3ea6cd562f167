"""Splits keep patients whole and classes even; the check finds what is on both sides."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cbmir.dataset import check, folds, make_split, split, with_patients, write_manifest
from cbmir.dataset.check import difference_hash, nearest_hash
from cbmir.errors import BadImage, UsageError
from cbmir.privacy import Pseudonyms
from cbmir.sources import labelled
from cbmir.types import ImageRef


def ref(name: str, label: str, patient: str | None = None, source: str | None = None) -> ImageRef:
    return ImageRef(Path("/data") / name, name, {"class": label}, patient=patient, source=source)


def patients_of_size(label: str, *sizes: int) -> list[ImageRef]:
    """One patient for each size, with so many images."""
    return [ref(f"{label}-{p}-{i}", label, f"{label}-{p}") for p, n in enumerate(sizes) for i in range(n)]


def share(refs: Sequence[ImageRef], sides: Sequence[str], label: str) -> float:
    of_label = [side for r, side in zip(refs, sides, strict=True) if r.label == label]
    return of_label.count("test") / len(of_label)


def by_patient(refs: Sequence[ImageRef], parts: Sequence[object]) -> dict[str, set[object]]:
    found: dict[str, set[object]] = {}
    for r, part in zip(refs, parts, strict=True):
        found.setdefault(r.patient or r.shown, set()).add(part)
    return found


class TestSplit:
    def test_ten_images_of_ten_patients_give_seven_and_three(self) -> None:
        sides = split([ref(str(i), "lungs") for i in range(10)])
        assert Counter(sides) == {"train": 7, "test": 3}

    def test_each_class_is_split_by_the_fraction(self) -> None:
        refs = patients_of_size("brain", *[1] * 20) + patients_of_size("foot", *[2] * 10)
        sides = split(refs, test_fraction=0.3)
        assert (share(refs, sides, "brain"), share(refs, sides, "foot")) == (0.3, 0.3)

    def test_a_patient_is_never_on_both_sides(self) -> None:
        refs = patients_of_size("brain", 5, 4, 3, 2, 1)
        assert all(len(sides) == 1 for sides in by_patient(refs, split(refs)).values())

    def test_a_patient_with_images_of_two_classes_stays_whole(self) -> None:
        refs = [ref(f"{c}-{p}", c, f"p{p}") for c in ("ct", "mr") for p in range(10)]
        sides = split(refs)
        assert all(len(s) == 1 for s in by_patient(refs, sides).values())
        assert (share(refs, sides, "ct"), share(refs, sides, "mr")) == (0.3, 0.3)

    def test_series_and_single_pictures_of_a_class_are_on_both_sides(self) -> None:
        series = [ref(f"s{p}-{i}", "lungs", f"s{p}", "ct-series") for p in range(10) for i in range(10)]
        singles = [ref(f"p{i}", "lungs", f"p{i}", "pictures") for i in range(100)]
        sides = split(series + singles)
        assert (sides[:100].count("test"), sides[100:].count("test")) == (20, 36)  # by class alone: (10, 50)

    def test_of_two_patients_the_larger_trains(self) -> None:
        refs = patients_of_size("spine", 99, 74)
        assert split(refs) == ["train"] * 99 + ["test"] * 74

    def test_sources_are_never_on_both_sides_when_asked_for(self) -> None:
        refs = [ref(f"{s}{i}", "brain", source=s) for s in "abcd" for i in range(5)]
        sides = split(refs, group="source")
        assert all(len({side for r, side in zip(refs, sides, strict=True) if r.source == s}) == 1 for s in "abcd")
        assert Counter(sides) == {"train": 15, "test": 5}

    def test_an_only_patient_trains(self) -> None:
        assert set(split(patients_of_size("spleen", 6))) == {"train"}

    def test_the_order_of_the_images_does_not_matter(self) -> None:
        refs = patients_of_size("brain", 3, 3, 2, 2, 1, 1, 1) + patients_of_size("foot", 1, 1, 1, 1)
        sides = dict(zip((r.shown for r in refs), split(refs), strict=True))
        shuffled = [refs[i] for i in np.random.default_rng(0).permutation(len(refs))]
        assert dict(zip((r.shown for r in shuffled), split(shuffled), strict=True)) == sides

    def test_another_seed_gives_another_split(self) -> None:
        refs = patients_of_size("brain", *[1] * 30)
        assert split(refs, seed=1) == split(refs, seed=1) != split(refs, seed=2)

    @pytest.mark.parametrize("fraction", [0, 1, -0.1, float("nan")])
    def test_a_fraction_outside_0_to_1_is_refused(self, fraction: float) -> None:
        with pytest.raises(UsageError, match="between 0 and 1"):
            split([ref("a", "x")], test_fraction=fraction)

    def test_no_images_are_refused(self) -> None:
        with pytest.raises(UsageError, match="no images"):
            split([])

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=30))
    def test_a_class_is_off_by_half_its_largest_patient_at_most(self, patients: list[tuple[int, int]]) -> None:
        """A side is only filled when it lacks at least half of what is left, so of the patient it gets."""
        refs = [ref(f"{p}-{i}", str(c), f"p{p}") for p, (c, n) in enumerate(patients) for i in range(n)]
        sides = split(refs)
        for label in {r.label for r in refs}:
            largest = max(n for c, n in patients if str(c) == label)
            n = sum(r.label == label for r in refs)
            assert abs(share(refs, sides, str(label)) - 0.3) * n <= largest / 2 + 1e-9


class TestFolds:
    def test_nine_patients_of_two_classes_fill_three_folds_evenly(self) -> None:
        refs = patients_of_size("brain", *[1] * 6) + patients_of_size("foot", *[2] * 3)
        parts = folds(refs, 3)
        cells = Counter(zip((r.label for r in refs), parts.tolist(), strict=True))
        assert cells == {(label, fold): 2 for label in ("brain", "foot") for fold in range(3)}

    def test_rare_classes_do_not_all_land_in_the_first_fold(self) -> None:
        parts = folds([ref(str(i), f"class {i}") for i in range(9)], 3)
        assert sorted(Counter(parts.tolist()).values()) == [3, 3, 3]

    def test_a_patient_is_in_one_fold(self) -> None:
        refs = patients_of_size("brain", 4, 3, 3, 2, 2)
        assert all(len(f) == 1 for f in by_patient(refs, folds(refs, 2).tolist()).values())

    def test_source_folds_keep_sources_and_their_patients_together(self) -> None:
        refs = [ref(f"{s}{i}", "brain", source=s) for s in "abcd" for i in range(3)]
        shared = [ref("a9", "brain", "p", "a"), ref("b9", "brain", "p", "b")]
        parts = folds(refs + shared, 2, group="source").tolist()
        of_source = {s: {f for r, f in zip(refs + shared, parts, strict=True) if r.source == s} for s in "abcd"}
        assert all(len(f) == 1 for f in of_source.values())
        assert of_source["a"] == of_source["b"]

    @pytest.mark.parametrize(("k", "sentence"), [(1, "at least 2"), (4, "3 patients cannot fill 4")])
    def test_too_few_or_too_many_folds_are_refused(self, k: int, sentence: str) -> None:
        with pytest.raises(UsageError, match=sentence):
            folds(patients_of_size("brain", 2, 2, 2), k)

    def test_sixty_thousand_images_take_seconds(self) -> None:
        refs = [ref(str(i), str(i % 24), f"p{i // 2}") for i in range(60_000)]
        start = time.perf_counter()
        folds(refs, 10)
        assert time.perf_counter() - start < 10


class TestWriteManifest:
    def test_it_reads_back(self, tmp_path: Path) -> None:
        one = ImageRef(
            tmp_path / "a" / "1.png",
            "1.png",
            {"class": "a", "view": "axial"},
            patient="p",
            modality="CT",
            source="s",
        )
        two = ImageRef(tmp_path / "b" / "2, 3.png", "x", {"class": "b"})
        write_manifest([one, two], ["train", "test"], tmp_path / "m.csv", [1, -1])
        assert (tmp_path / "m.csv").read_text() == (
            "path,class,modality,patient,source,split,fold,view\n"
            "a/1.png,a,CT,p,s,train,1,axial\n"
            '"b/2, 3.png",b,,,,test,,\n'
        )
        back = labelled(tmp_path / "m.csv")
        assert [(r.shown, r.label, r.split, r.patient, r.fold) for r in back] == [
            ("a/1.png", "a", "train", "p", 1),
            ("b/2, 3.png", "b", "test", None, None),
        ]

    def test_an_image_outside_its_folder_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        outside = ImageRef(tmp_path / "1.png", "1.png", {"class": "a"})
        with pytest.raises(UsageError, match="Images do not lie below"):
            write_manifest([outside], ["train"], tmp_path / "in" / "m.csv")
        assert not (tmp_path / "in" / "m.csv").exists()

    def test_a_name_a_manifest_cannot_hold_is_told(self, tmp_path: Path) -> None:
        undecodable = ImageRef(tmp_path / "\udcff.png", "\\xff.png", {"class": "a"})
        with pytest.raises(UsageError, match="An image has a name that is not UTF-8"):
            write_manifest([undecodable], ["train"], tmp_path / "m.csv")

    def test_a_folder_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no folder"):
            write_manifest([], [], tmp_path / "nowhere" / "m.csv")


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def picture(seed: int) -> np.ndarray:
    """A picture of smooth random blobs, 48 x 48."""
    cells = np.random.default_rng(seed).integers(20, 200, (6, 6), dtype=np.uint8)
    return np.array(Image.fromarray(cells).resize((48, 48), Image.Resampling.BICUBIC))


class TestMakeSplit:
    def test_a_folder_of_classes_becomes_a_manifest_with_split_and_folds(
        self, tmp_path: Path, pseudonyms: Pseudonyms
    ) -> None:
        for i in range(20):
            save(tmp_path / ("ab"[i % 2]) / f"{i}.png", picture(i))
        report = make_split(
            labelled(tmp_path), tmp_path / "manifest.csv", pseudonyms, test_fraction=0.2, n_folds=4, workers=0
        )
        back = labelled(tmp_path)
        assert Counter((r.label, r.split, r.fold) for r in back) == {
            ("a", "test", None): 2,
            ("b", "test", None): 2,
            **{(label, "train", fold): 2 for label in "ab" for fold in range(4)},
        }
        assert {column for r in back for column in r.labels} == {"class"}
        assert report.as_dict() == {
            "manifest": str(tmp_path / "manifest.csv"),
            "counts": {
                label: {"test": {"images": 2, "patients": 2}, "train": {"images": 8, "patients": 8}} for label in "ab"
            },
            "one_sided": [],
            "patients_unknown": 20,
            "n_folds": 4,
        }

    def test_by_source_no_source_trains_and_is_tested(self, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
        refs = []
        for i in range(12):
            save(tmp_path / f"{i}.png", picture(i))
            refs.append(ImageRef(tmp_path / f"{i}.png", f"{i}.png", {"class": "a"}, source="xyz"[i % 3]))
        make_split(refs, tmp_path / "m.csv", pseudonyms, n_folds=2, group="source", workers=0)
        back = labelled(tmp_path / "m.csv")
        assert {r.split for r in back} == {"train", "test"}
        assert {len({(r.split, r.fold) for r in back if r.source == s}) for s in "xyz"} == {1}

    def test_a_manifest_that_is_there_is_not_overwritten(self, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
        (tmp_path / "m.csv").write_text("precious")
        with pytest.raises(UsageError, match="there already"):
            make_split([ref("a", "x")], tmp_path / "m.csv", pseudonyms)
        assert (tmp_path / "m.csv").read_text() == "precious"

    def test_dicom_slices_of_a_patient_stay_together_without_a_patient_column(
        self, tmp_path: Path, pseudonyms: Pseudonyms
    ) -> None:
        from pydicom.data import get_testdata_file

        refs = []
        for i in range(6):  # three files with the same patient ID each
            name = "CT_small.dcm" if i % 2 else "MR_small.dcm"
            path = tmp_path / "a" / f"{i}.dcm"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(Path(str(get_testdata_file(name))).read_bytes())
            refs.append(ImageRef(path, f"a/{i}.dcm", {"class": "a"}))
        make_split(refs, tmp_path / "m.csv", pseudonyms, test_fraction=0.5, workers=0)
        sides = [r.split for r in labelled(tmp_path / "m.csv")]
        assert sides in (["train", "test"] * 3, ["test", "train"] * 3)


class TestWithPatients:
    def test_a_patient_counts_once_whoever_tells(self, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
        from make_dicom import make_dicom, save_dicom

        told = ImageRef(tmp_path / "1.png", "1.png", patient="X")
        read = ImageRef(save_dicom(tmp_path / "2.dcm", make_dicom(picture(2), PatientID="X")), "2.dcm")
        unknown = ImageRef(tmp_path / "3.png", "3.png")
        known = with_patients([told, read, unknown], pseudonyms, workers=0)
        assert [r.patient for r in known] == [pseudonyms.of("patient", "X")] * 2 + [None]
        assert [r.shown for r in known] == ["1.png", "2.dcm", "3.png"]
        assert (told.patient, read.patient) == ("X", None)  # what is decoded afterwards is told as before


class TestCheck:
    def test_a_clean_set_is_clean(self, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
        refs = self.pictures(tmp_path, [("train", "p1", picture(1)), ("test", "p2", picture(2))])
        report = check(refs, pseudonyms, workers=0)
        assert (report.leaks, report.duplicates, report.near_duplicates) == ((), (), ())
        assert not report.leaking
        assert report.as_dict()["counts"] == {
            "a": {"test": {"images": 1, "patients": 1}, "train": {"images": 1, "patients": 1}}
        }

    def test_a_patient_in_train_and_test_is_a_leak_and_not_named(self, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
        refs = self.pictures(
            tmp_path,
            [("train", "Ann", picture(1)), ("train", "Ann", picture(2)), ("test", "Ann", picture(3))],
        )
        report = check(refs, pseudonyms, workers=0)
        assert report.leaking
        (leak,) = report.leaks
        assert leak.patient == pseudonyms.of("patient", "Ann")
        assert (leak.images, leak.example) == ({"test": 1, "train": 2}, {"test": "2.png", "train": "0.png"})
        assert "Ann" not in str(report.as_dict())

    def test_the_same_file_in_train_and_test_is_a_leak(self, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
        refs = self.pictures(tmp_path, [("train", "p1", picture(1)), ("test", "p2", picture(1))])
        report = check(refs, pseudonyms, workers=0)
        assert report.leaking
        assert [(twins.paths, twins.across) for twins in report.duplicates] == [(("0.png", "1.png"), True)]

    def test_the_same_file_twice_in_train_is_told_but_no_leak(self, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
        refs = self.pictures(tmp_path, [("train", "p1", picture(1)), ("train", "p2", picture(1))])
        report = check(refs, pseudonyms, workers=0)
        assert not report.leaking
        assert [twins.across for twins in report.duplicates] == [False]

    def test_files_that_cannot_be_read_are_not_the_same_file(
        self, tmp_path: Path, pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refs = self.pictures(tmp_path, [("train", "p1", picture(1)), ("test", "p2", picture(2))])

        def unreadable(_: Path) -> bytes:
            raise BadImage("corrupt", "The file cannot be read: Input/output error.")

        monkeypatch.setattr("cbmir.images.worker.read_ref", unreadable)
        report = check(refs, pseudonyms, workers=0)
        assert (report.duplicates, report.leaking) == ((), False)
        assert [failure["outcome"] for failure in report.failed] == ["corrupt", "corrupt"]

    def test_a_brighter_copy_is_a_near_duplicate(self, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
        refs = self.pictures(
            tmp_path,
            [("train", "p1", picture(1)), ("train", "p3", picture(5)), ("test", "p2", picture(1) + 9)],
        )
        report = check(refs, pseudonyms, workers=0)
        (near,) = report.near_duplicates
        assert (near.path, near.like) == ("2.png", "0.png")
        assert near.bits <= 2

    def test_near_duplicates_of_one_patient_are_not_listed_twice(self, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
        refs = self.pictures(tmp_path, [("train", "p1", picture(1)), ("test", "p1", picture(1) + 9)])
        report = check(refs, pseudonyms, workers=0)
        assert (len(report.leaks), report.near_duplicates) == (1, ())

    def test_missing_and_unreadable_files_are_told(self, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
        (tmp_path / "text.png").write_text("not a picture")
        refs = [ImageRef(tmp_path / name, name, {"class": "a"}, split="train") for name in ("gone.png", "text.png")]
        report = check(refs, pseudonyms, workers=0)
        assert report.missing == ("gone.png",)
        assert [failure["path"] for failure in report.failed] == ["text.png"]

    def test_a_class_in_one_split_only_is_told(self, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
        refs = self.pictures(tmp_path, [("train", "p1", picture(1)), ("test", "p2", picture(2))])
        refs[1] = ImageRef(refs[1].path, "1.png", {"class": "b"}, split="test")
        assert check(refs, pseudonyms, workers=0).one_sided == ("a", "b")

    @pytest.mark.long
    def test_organ24_is_clean(self, organ24: Path, pseudonyms: Pseudonyms) -> None:
        report = check(labelled(organ24), pseudonyms)
        assert (report.n_images, report.missing, report.failed) == (6190, (), ())
        assert not report.leaking

    @staticmethod
    def pictures(folder: Path, rows: list[tuple[str, str, np.ndarray]]) -> list[ImageRef]:
        refs = []
        for i, (side, patient, pixels) in enumerate(rows):
            save(folder / f"{i}.png", pixels)
            refs.append(ImageRef(folder / f"{i}.png", f"{i}.png", {"class": "a"}, patient=patient, split=side))
        return refs


class TestDifferenceHash:
    def test_a_ramp_to_the_right_is_all_ones_and_to_the_left_all_zeros(self) -> None:
        ramp = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
        assert difference_hash(ramp).tolist() == [True] * 256
        assert difference_hash(ramp[:, ::-1]).tolist() == [False] * 256

    def test_brightness_and_contrast_do_not_matter(self) -> None:
        grey = picture(3) // 2
        assert difference_hash(grey).tolist() == difference_hash(grey * 2 + 30).tolist()

    def test_one_cell_is_the_mean_of_its_pixels(self) -> None:
        grey = np.zeros((16, 34), dtype=np.uint8)  # cells are one row high and two columns wide
        grey[0, 2:4] = 10, 30
        grey[0, 4:6] = 19, 22  # mean 20.5, more than 20
        assert difference_hash(grey)[:4].tolist() == [True, True, False, False]

    def test_the_nearest_is_what_a_plain_count_finds(self) -> None:
        rng = np.random.default_rng(0)
        a, b = rng.random((7, 256)) < 0.5, rng.random((9, 256)) < 0.5
        bits, nearest = nearest_hash(a, b, [f"a{i}" for i in range(7)], [f"b{i}" for i in range(9)])
        plain = (a[:, None] != b[None]).sum(axis=2)
        assert (bits.tolist(), nearest.tolist()) == (
            plain.min(axis=1).tolist(),
            plain.argmin(axis=1).tolist(),
        )

    def test_the_same_person_is_passed_over(self) -> None:
        a = np.zeros((1, 256), dtype=bool)
        b = np.array([[False] * 256, [True] * 3 + [False] * 253])
        bits, nearest = nearest_hash(a, b, ["p"], ["p", "q"])
        assert (bits.tolist(), nearest.tolist()) == ([3], [1])
