"""What a gallery is, its records and stacks, explanations and reports; and what the serving process never imports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import nibabel
import numpy as np
import pytest

from cbmir.gallery import Gallery
from cbmir.jobs import Asked, IndexSettings, explain_hit, index_into, search_images
from cbmir.web.models import ExplanationTold, GalleryTold
from make_dicom import make_dicom, save_dicom
from pictures import draw_folder
from serving import running
from small_network import save_mobile

API = "/api/v1"
HERE = IndexSettings(workers=0)


@pytest.fixture
def client(served: Path) -> Iterator[httpx.Client]:
    with running(served) as server, server.client() as client:
        yield client


def detail(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told: str = answer.json()["detail"]
    return told


# --- the gallery and its records ---


def test_the_gallery_tells_what_info_tells(client: httpx.Client, served: Path) -> None:
    told = client.get(f"{API}/gallery").json()
    GalleryTold.model_validate(told, extra="forbid")
    with Gallery.open(served) as gallery:
        info = gallery.info()
    for name in ("records", "patients", "files", "by_class", "by_modality", "by_source"):
        assert told[name] == info[name]
    assert told["name"] == "gallery"
    assert told["encoder"] == {
        "name": "pixels",
        "fingerprint": info["encoder"]["fingerprint"],
        "precision": "f32",
        "layers": {"pixels": 576},
        "classes": [],
        "can": {"soft_gate": False, "score": False, "in_distribution": False, "rerank": ["none"], "maps": False},
    }
    assert told["limits"] == {"k": 500, "upload_bytes": 2**28}
    assert str(served.parent) not in json.dumps(told)


def test_counts_follow_the_gallery(client: httpx.Client, served: Path, ward: Path) -> None:
    before = client.get(f"{API}/gallery").json()
    save_dicom(ward / "one-more.dcm", make_dicom(np.eye(9, dtype=np.uint8), PatientID="new"))
    (ward / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    index_into(served, [ward], encoder_name="pixels", settings=HERE)
    after = client.get(f"{API}/gallery").json()
    assert after["generation"] > before["generation"]
    assert (after["records"], after["patients"]) == (before["records"] + 1, before["patients"] + 1)
    assert after["files"] == {**before["files"], "decoded": before["files"]["decoded"] + 1, "corrupt": 1}


def test_failed_files_are_told_by_handle_a_page_at_a_time(served: Path, ward: Path) -> None:
    for number in range(3):
        (ward / f"Ann-Canary-{number}.txt").write_text("no picture")
    index_into(served, [ward], encoder_name="pixels", settings=HERE)
    with running(served) as server, server.client() as client:
        pages = [client.get(f"{API}/gallery/failed", params={"offset": n, "limit": 2}).json() for n in (0, 2, 4)]
        assert detail(client.get(f"{API}/gallery/failed?limit=0"), 422)
    assert [page["total"] for page in pages] == [3, 3, 3]
    assert [len(page["failed"]) for page in pages] == [2, 1, 0]
    failed = [file for page in pages for file in page["failed"]]
    assert {file["outcome"] for file in failed} == {"not_an_image"}
    assert len({file["handle"] for file in failed}) == 3
    assert "Canary" not in json.dumps(pages)


def test_a_record_is_what_the_gallery_knows(client: httpx.Client, served: Path) -> None:
    with Gallery.open(served) as gallery:
        records = list(gallery.records(gallery.ids()).values())
    for record in records:
        told = client.get(f"{API}/records/{record.id}").json()
        assert (told["id"], told["frame"], told["digest"]) == (record.id, record.frame_index + 1, record.pixel_digest)
        for name in ("patient", "study", "series", "label", "predicted", "modality", "attributes", "provenance"):
            assert told[name] == getattr(record, name)
        assert told["class"] is None
    assert detail(client.get(f"{API}/records/{'0' * 32}"), 404) == "There is no image of this id in the gallery."


def in_stack(client: httpx.Client, record_id: str) -> tuple[int, list[str]]:
    told = client.get(f"{API}/records/{record_id}/series").json()
    assert told["slices"][told["index"]]["id"] == record_id
    return told["index"], [one["id"] for one in told["slices"]]


def test_a_stack_is_in_the_order_of_the_body_and_without_other_planes(tmp_path: Path) -> None:
    """Numbered against their places, as some scanners do, with a localizer in the same series."""
    folder = tmp_path / "scan"
    folder.mkdir()
    axial, sagittal = ["1", "0", "0", "0", "1", "0"], ["0", "1", "0", "0", "0", "-1"]
    shared = {"SeriesInstanceUID": "1.2.3", "StudyInstanceUID": "1.2", "PatientID": "p"}
    for n in range(5):
        save_dicom(
            folder / f"{n}.dcm",
            make_dicom(np.full((8, 8), 9 * n, np.uint8) + np.eye(8, dtype=np.uint8), InstanceNumber=str(9 - n),
                       ImageOrientationPatient=axial, ImagePositionPatient=["0", "0", str(12.5 * n - 20)], **shared),
        )  # fmt: skip
    save_dicom(
        folder / "localizer.dcm",
        make_dicom(np.eye(8, dtype=np.uint8), ImageOrientationPatient=sagittal,
                   ImagePositionPatient=["0", "0", "0"], **shared),
    )  # fmt: skip
    index_into(tmp_path / "g", [folder], encoder_name="pixels", settings=HERE)
    with Gallery.open(tmp_path / "g") as gallery:
        records = gallery.records(gallery.ids())
    expected = sorted(
        (name for name in records if records[name].attributes["plane"] == "axial"),
        key=lambda name: float(records[name].attributes["slice_position_mm"]),
    )
    with running(tmp_path / "g") as server, server.client() as client:
        for place, name in enumerate(expected):
            assert in_stack(client, name) == (place, expected)
        [alone] = set(records) - set(expected)
        assert in_stack(client, alone) == (0, [alone])


def test_a_volume_is_three_stacks_and_a_cine_is_one(tmp_path: Path, served: Path) -> None:
    voxels = np.random.default_rng(24).integers(0, 1000, (6, 5, 4)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii")
    index_into(tmp_path / "g", [tmp_path / "a.nii"], encoder_name="pixels", settings=HERE)
    for directory, n_stacks in ((tmp_path / "g", [4, 5, 6]), (served, None)):
        with running(directory) as server, server.client() as client, Gallery.open(directory) as gallery:
            stacks = {tuple(in_stack(client, name)[1]) for name in gallery.ids()}
            assert sorted(name for stack in stacks for name in stack) == gallery.ids()
            if n_stacks:
                assert sorted(map(len, stacks)) == n_stacks
            for stack in stacks:
                frames = [gallery.record(name).frame_index for name in stack]
                assert frames in (sorted(frames), sorted(frames, reverse=True))


# --- why similar ---


def test_an_encoder_without_maps_explains_nothing_and_says_so(client: httpx.Client, served: Path) -> None:
    with Gallery.open(served) as gallery:
        first, second = gallery.ids()[:2]
    told = detail(client.post(f"{API}/explain", json={"id": first, "hit": second}), 409)
    assert "pixels cannot say why images are similar" in told
    detail(client.post(f"{API}/explain", json={"hit": second}), 422)
    detail(client.post(f"{API}/explain", json={"id": first, "hit": "0" * 32}), 404)


def test_a_network_in_another_process_explains_as_the_command_does(tmp_path: Path) -> None:
    pictures = draw_folder(tmp_path / "pictures", per_class=2)
    encoder = save_mobile(tmp_path / "encoder", classes=("disc", "stripes"))
    settings = IndexSettings(workers=0, runtime="torch", precision="f32")
    index_into(tmp_path / "g", [pictures], encoder_name=str(encoder), settings=settings)
    file = pictures / "disc" / "00.png"
    with Gallery.open(tmp_path / "g") as gallery:
        ids = gallery.ids()
        by_id = explain_hit(gallery, Asked(ids=[ids[0]]), ids[1]).as_dict()
        by_file = explain_hit(gallery, Asked([file], region=(4, 4, 40, 40)), ids[1]).as_dict()
        predicted = search_images(gallery, Asked([file]))[0].as_dict()["query"]["predicted"]
    with running(tmp_path / "g") as server, server.client() as client:
        client.timeout = 300
        assert client.get(f"{API}/gallery").json()["encoder"]["can"]["maps"]
        name = client.post(f"{API}/uploads", files={"file": ("a", file.read_bytes())}).json()["upload"]
        asked = {"upload": {"upload": name}, "hit": ids[1], "region": [4, 4, 36, 36]}
        for expected, sent in ((by_id, {"id": ids[0], "hit": ids[1]}), (by_file, asked)):
            answer = client.post(f"{API}/explain", json=sent)
            assert answer.status_code == 200, answer.text
            ExplanationTold.model_validate(answer.json(), extra="forbid")
            assert_alike(answer.json(), expected)
        found = client.post(f"{API}/search", json={"uploads": [{"upload": name}], "gate": "hard"}).json()
        assert_alike(found["query"]["predicted"], predicted)


def assert_alike(told: Any, expected: Any) -> None:
    """The same but for the last digits of a network that runs with another number of threads."""
    match expected:
        case dict():
            assert told.keys() == expected.keys()
            for name in expected:
                assert_alike(told[name], expected[name])
        case list():
            for one, other in zip(told, expected, strict=True):
                assert_alike(one, other)
        case float():
            assert told == pytest.approx(expected, abs=1e-4)
        case _:
            assert told == expected


# --- what a server may lack ---


def test_without_the_key_no_file_is_read_and_its_place_is_not_told(
    served: Path, ward: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = next(ward.rglob("*.dcm"))
    with Gallery.open(served) as gallery:
        first, second = gallery.ids()[:2]
    monkeypatch.setenv("CBMIR_KEY_FILE", str(tmp_path / "nowhere.key"))
    with running(served) as server, server.client() as client:
        for answer in (
            client.get(f"{API}/records/{first}/frame"),
            client.get(f"{API}/records/{first}/thumbnail"),
            client.post(f"{API}/uploads", files={"file": ("a", file.read_bytes())}),
            client.post(f"{API}/search", json={"ids": [first], "region": [0, 0, 4, 4]}),
            client.post(f"{API}/explain", json={"id": first, "hit": second}),
        ):
            assert "does not hold the key" in detail(answer, 409)
            assert str(tmp_path) not in answer.text
        assert client.post(f"{API}/search", json={"ids": [first]}).status_code == 200


def test_without_its_encoder_a_gallery_is_searched_by_its_own_images(tmp_path: Path) -> None:
    pictures = draw_folder(tmp_path / "pictures", per_class=2)
    encoder = save_mobile(tmp_path / "encoder", classes=("disc", "stripes"))
    settings = IndexSettings(workers=0, runtime="torch", precision="f32")
    index_into(tmp_path / "g", [pictures], encoder_name=str(encoder), settings=settings)
    with Gallery.open(tmp_path / "g") as gallery:
        first, second = gallery.ids()[:2]
    encoder.rename(tmp_path / "elsewhere")
    with running(tmp_path / "g") as server, server.client() as client:
        data = (pictures / "disc" / "00.png").read_bytes()
        name = client.post(f"{API}/uploads", files={"file": ("a", data)}).json()["upload"]
        for path, sent in (
            ("search", {"uploads": [{"upload": name}]}),
            ("search", {"ids": [first], "region": [0, 0, 9, 9]}),
            ("explain", {"id": first, "hit": second}),
        ):
            answer = client.post(f"{API}/{path}", json=sent)
            assert "The encoder of the gallery cannot be found" in detail(answer, 409)
            assert str(tmp_path) not in answer.text
        assert not client.get(f"{API}/gallery").json()["encoder"]["can"]["maps"]
        assert client.post(f"{API}/search", json={"ids": [first], "gate": "hard"}).status_code == 200


# --- reports ---


@pytest.fixture
def reports(tmp_path: Path) -> tuple[Path, ...]:
    """Two of the same name, and one that is being made."""
    folders = tuple(tmp_path / place / "evaluation" for place in ("a", "b", "c"))
    for number, folder in enumerate(folders):
        (folder / "figures").mkdir(parents=True)
        (folder / "figures" / "pr.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
        (folder / "figures" / "pr.png").write_bytes(b"\x89PNG")
        (folder / "figures" / "notes.html").write_text("<script>alert(1)</script>")
        (folder / "figures" / "key.png").symlink_to(tmp_path / "secret")
        metrics = {"retrieval": {"main": {"off": {"mAP": 0.5 + number / 8}}}, "encoder": "abc", "n_queries": 3,
                   "n_gallery": 9, "apart": float("nan")}  # fmt: skip
        text = json.dumps(metrics) if number < 2 else '{"retrieval"'
        (folder / "metrics.json").write_text(text)
    (tmp_path / "secret").write_text("secret")
    return folders


def test_reports_are_those_of_the_settings(served: Path, reports: tuple[Path, ...]) -> None:
    with running(served, reports=reports) as server, server.client() as client:
        lines = client.get(f"{API}/reports").json()
        line = {"encoder": "abc", "n_queries": 3, "n_gallery": 9}
        assert lines == [{"name": "evaluation", **line, "mAP": 0.5}, {"name": "evaluation-2", **line, "mAP": 0.625}]
        assert client.get(f"{API}/reports/evaluation-2").json()["retrieval"] == {"main": {"off": {"mAP": 0.625}}}
        assert "being made" in detail(client.get(f"{API}/reports/evaluation-3"), 409)
        assert client.get(f"{API}/reports/evaluation/figures").json() == ["pr.png", "pr.svg"]
        figure = client.get(f"{API}/reports/evaluation/figures/pr.svg")
        assert figure.headers["content-type"] == "image/svg+xml"
        assert figure.headers["content-security-policy"] == "default-src 'none'; style-src 'unsafe-inline'; sandbox"
        for path in ("nothing", "evaluation/figures/nothing.png", "evaluation/figures/notes.html",
                     "evaluation/figures/key.png", "evaluation/figures/..%2fmetrics.json", "..%2fevaluation",
                     "..%2f..%2fsecret", "evaluation%2f..%2f..%2fsecret"):  # fmt: skip
            detail(client.get(f"{API}/reports/{path}"), 404)


def test_without_reports_there_are_none(client: httpx.Client) -> None:
    assert client.get(f"{API}/reports").json() == []


# --- the serving process ---

SERVE = """
import json, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from serving import running
from small_network import save_mobile

if __name__ == "__main__":
    with running(Path({gallery!r})) as server, server.client() as client:
        name = client.get("/api/v1/records?limit=1").json()["records"][0]["id"]
        data = Path({file!r}).read_bytes()
        upload = client.post("/api/v1/uploads", files={{"file": ("a", data)}}).json()["upload"]
        statuses = [
            client.get(f"/api/v1/records/{{name}}/frame").status_code,
            client.get(f"/api/v1/records/{{name}}/thumbnail").status_code,
            client.get("/api/v1/gallery").status_code,
            client.post("/api/v1/search", json={{"uploads": [{{"upload": upload}}]}}).status_code,
            client.post("/api/v1/search", json={{"ids": [name], "region": [0, 0, 6, 6]}}).status_code,
            client.post("/api/v1/search", json={{"ids": [name]}}).status_code,
        ]
    heavy = ("torch", "openvino", "pydicom", "matplotlib", "imagecodecs", "nibabel", "tifffile")
    print(json.dumps([statuses, [module for module in heavy if module in sys.modules]]))
"""


def test_the_serving_process_imports_no_decoder_and_no_run_time(served: Path, ward: Path, tmp_path: Path) -> None:
    tests = Path(__file__).resolve().parents[1]
    script = tmp_path / "serve.py"
    file = next(ward.rglob("*.dcm"))
    script.write_text(SERVE.format(paths=[str(tests)], gallery=str(served), file=str(file)))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [[200] * 6, []]
