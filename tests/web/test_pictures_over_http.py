"""Frames as a browser gets them, uploads of whoever brought them, and files that mean harm."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import hostile_files as hostile
from cbmir.display import render
from cbmir.gallery import Gallery
from cbmir.images import read_image
from cbmir.jobs import IndexSettings, index_into
from cbmir.privacy import load_pseudonyms
from cbmir.web import uploads
from cbmir.web.models import FrameHeader
from make_dicom import dicom_bytes, make_dicom, save_dicom
from serving import Running, bearer, running
from test_jobs import ultrasound

API = "/api/v1"


@pytest.fixture
def server(served: Path) -> Iterator[Running]:
    with running(served) as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def send(client: httpx.Client, data: bytes) -> httpx.Response:
    return client.post(f"{API}/uploads", files={"file": ("Ann^Canary.dcm", data)})


def drawn(answer: httpx.Response) -> np.ndarray[Any, Any]:
    """Grey levels, by what X-Frame says."""
    assert answer.status_code == 200, answer.text
    header = FrameHeader.model_validate_json(answer.headers["x-frame"], strict=False)
    if header.channels == 3:
        return np.frombuffer(answer.content, np.uint8).reshape(header.rows, header.columns, 3)
    stored = np.frombuffer(answer.content, "<i2").reshape(header.rows, header.columns)
    x = stored * header.slope + header.intercept
    assert header.window is not None
    center, width = header.window
    linear = next((kind for c, w, kind, _ in header.windows if (c, w) == header.window), "LINEAR_EXACT") == "LINEAR"
    shown = np.clip((x - center + linear / 2) / (width - linear) + 0.5, 0, 1)
    shown = 1 - shown if header.monochrome1 else shown
    shown[stored == header.padding] = 0
    return np.floor(shown * 255 + 0.5)


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    return told


# --- images of the gallery ---


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A CT with a window, padding and a spacing; an inverted radiograph; a coloured picture; a cine of four frames."""
    folder = tmp_path / "scans"
    folder.mkdir()
    random = np.random.default_rng(24)
    stored = random.integers(0, 4096, (20, 16)).astype(np.uint16)
    ct = make_dicom(
        np.where(stored < 200, 63536, stored).astype(np.uint16), Modality="CT", RescaleSlope="1",
        RescaleIntercept="-1024", PixelPaddingValue=63536, WindowCenter="40", WindowWidth="400",
        PixelSpacing=["0.5", "0.7"],
    )  # fmt: skip
    save_dicom(folder / "ct.dcm", ct)
    save_dicom(folder / "dx.dcm", make_dicom(stored, bits_stored=12, PhotometricInterpretation="MONOCHROME1"))
    Image.fromarray(random.integers(0, 256, (9, 8, 3), np.uint8)).save(folder / "colour.png")
    save_dicom(folder / "cine.dcm", make_dicom(random.integers(0, 256, (4, 8, 8), np.uint8), frames=True))
    return folder


def test_a_frame_is_drawn_by_a_browser_as_render_draws_it(scans: Path, tmp_path: Path) -> None:
    index_into(tmp_path / "g", [scans], encoder_name="pixels", settings=IndexSettings(workers=0))
    images = {
        image.id: image
        for path in scans.iterdir()
        for image in read_image(path, load_pseudonyms(make=False))
    }  # fmt: skip
    headers = []
    with running(tmp_path / "g") as server, server.client() as client:
        for name, image in images.items():
            answer = client.get(f"{API}/records/{name}/frame")
            assert np.abs(drawn(answer) - render(image).astype(float)).max() <= 1
            headers.append(json.loads(answer.headers["x-frame"]))
    ct = next(header for header in headers if header["modality"] == "CT")
    assert ct | {"window": None} == {
        "rows": 20, "columns": 16, "channels": 1, "dtype": "int16", "slope": 1, "intercept": 0, "error": 0,
        "unit": "HU", "padding": -32768, "monochrome1": False, "pixel_aspect": pytest.approx(5 / 7),
        "pixel_spacing_mm": [0.5, 0.7],
        "windows": [[40, 400, "LINEAR", None]], "window": None, "voi_lut": False, "rule": "window LINEAR", "frame": 1,
        "frames": 1, "modality": "CT",
    }  # fmt: skip
    assert sorted(header["frame"] for header in headers if header["frames"] == 4) == [1, 2, 3, 4]
    assert next(header for header in headers if header["channels"] == 3)["window"] is None


def test_a_frame_is_kept_by_browsers_for_good_and_not_sent_again(client: httpx.Client, served: Path) -> None:
    with Gallery.open(served) as gallery:
        name = gallery.ids()[0]
    for path in (f"{API}/records/{name}/frame", f"{API}/records/{name}/thumbnail?size=128"):
        first = client.get(path)
        assert first.headers["cache-control"] == "private, max-age=31536000, immutable"
        again = client.get(path, headers={"If-None-Match": f'"x", W/{first.headers["etag"]}'})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
        assert client.get(path, headers={"If-None-Match": '"x"'}).content == first.content


def test_a_file_that_has_changed_or_is_gone_gives_no_frame(client: httpx.Client, served: Path, ward: Path) -> None:
    file = ward / "Miller^0" / "0-0.dcm"
    [image] = read_image(file, load_pseudonyms(make=False))
    save_dicom(file, make_dicom(np.eye(12, dtype=np.uint8), SOPInstanceUID="1.2.1.1.1"))
    assert "has changed" in problem(client.get(f"{API}/records/{image.id}/frame"), 409)["detail"]
    file.unlink()
    told = problem(client.get(f"{API}/records/{image.id}/frame"), 409)["detail"]
    assert "no longer there" in told
    assert str(ward) not in told
    assert client.get(f"{API}/records/{image.id}").status_code == 200


def test_unknown_images_have_no_pictures(client: httpx.Client) -> None:
    for path in ("frame", "thumbnail", "series"):
        assert problem(client.get(f"{API}/records/{'0' * 32}/{path}"), 404)["detail"].startswith("There is no image")
    problem(client.get(f"{API}/records/..%2f..%2fetc/frame"), 404)
    problem(client.get(f"{API}/records/{'0' * 32}/thumbnail?size=4096"), 422)


def test_what_a_gallery_masks_is_not_sent(tmp_path: Path) -> None:
    file = ultrasound(tmp_path / "scan.dcm", text=4)
    masking = IndexSettings(workers=0, mask_burned_in=True)
    index_into(tmp_path / "g", [file], encoder_name="pixels", settings=masking)
    with Gallery.open(tmp_path / "g") as gallery:
        [name] = gallery.ids()
    with running(tmp_path / "g") as server, server.client() as client:
        upload = send(client, file.read_bytes()).json()["upload"]
        for path in (f"records/{name}/frame", f"uploads/{upload}/frames/1"):
            answer = client.get(f"{API}/{path}")
            pixels = np.frombuffer(answer.content, "<i2").reshape(48, 128)
            assert (pixels[:, 64:] == json.loads(answer.headers["x-frame"])["padding"]).all()
            assert pixels[:, :64].max() == 63


# --- uploads ---


def test_an_upload_is_told_shown_and_forgotten(client: httpx.Client, ward: Path) -> None:
    file = ward / "Miller^2" / "cine.dcm"
    answer = send(client, file.read_bytes())
    told = answer.json()
    name = told.pop("upload")
    assert 1790 < told.pop("expires_in_s") <= 1800
    assert told == {"frames": 3, "first": 1, "rows": 12, "columns": 12, "modality": "OT"}
    assert client.get(f"{API}/uploads/{name}").json()["frames"] == 3
    for image in read_image(file, load_pseudonyms(make=False)):
        frame = client.get(f"{API}/uploads/{name}/frames/{image.frame_index + 1}")
        assert np.abs(drawn(frame) - render(image).astype(float)).max() <= 1
        assert json.loads(frame.headers["x-frame"])["frames"] == 3
    small = client.get(f"{API}/uploads/{name}/thumbnail?frame=2&size=128")
    assert small.headers["content-type"] == "image/webp"
    assert small.content != client.get(f"{API}/uploads/{name}/thumbnail?size=128").content
    assert "no readable frame 4" in problem(client.get(f"{API}/uploads/{name}/frames/4"), 422)["detail"]
    problem(client.get(f"{API}/uploads/{name}/thumbnail?frame=4"), 422)
    assert client.delete(f"{API}/uploads/{name}").status_code == 204
    for path in ("", "/frames/1", "/thumbnail"):
        problem(client.get(f"{API}/uploads/{name}{path}"), 404)
    problem(client.delete(f"{API}/uploads/{name}"), 404)


def test_an_upload_of_another_caller_is_not_there(served: Path, ward: Path) -> None:
    data = (ward / "Miller^0" / "0-0.dcm").read_bytes()
    with running(served, with_tokens=True) as server, server.client("reader") as reader:
        name = send(reader, data).json()["upload"]
        assert reader.get(f"{API}/uploads/{name}").status_code == 200
        for path in ("", "/frames/1", "/thumbnail"):
            problem(reader.get(f"{API}/uploads/{name}{path}", headers=bearer("admin")), 404)
        problem(reader.post(f"{API}/search", json={"uploads": [{"upload": name}]}, headers=bearer("admin")), 404)
        problem(reader.delete(f"{API}/uploads/{name}", headers=bearer("contributor")), 404)
        assert "Canary" not in server.context.audit.path.read_text()


def test_uploads_end_with_time_and_old_ones_make_room(
    server: Running, client: httpx.Client, ward: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (ward / "Miller^0" / "0-0.dcm").read_bytes()
    monkeypatch.setattr(uploads, "MOST_OF_ONE", 3)
    names = [send(client, data).json()["upload"] for _ in range(5)]
    there = [client.get(f"{API}/uploads/{name}").status_code for name in names]
    assert there == [404, 404, 200, 200, 200]
    monkeypatch.setattr(uploads, "MOST_BYTES", 2 * len(data))
    names.append(send(client, data).json()["upload"])
    there = [client.get(f"{API}/uploads/{name}").status_code for name in names]
    assert there == [404, 404, 404, 404, 200, 200]
    monkeypatch.setattr(uploads, "LIFETIME_S", 0.0)
    problem(client.get(f"{API}/uploads/{send(client, data).json()['upload']}"), 404)


def open_unnamed() -> int:
    """Files of this process that have no name any more."""
    folder = Path("/proc/self/fd")
    links = [os.readlink(folder / name) for name in os.listdir(folder) if (folder / name).is_symlink()]
    return sum("cbmir-" in link and link.endswith("(deleted)") for link in links)


def test_an_upload_has_no_name_on_the_disk_and_its_file_is_closed_when_nobody_holds_it(
    server: Running, client: httpx.Client, ward: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    before = open_unnamed()
    name = send(client, (ward / "Miller^0" / "0-0.dcm").read_bytes()).json()["upload"]
    assert list((tmp_path / "temporary").iterdir()) == []
    assert open_unnamed() == before + 1
    held = server.context.uploads.of(name, "local")
    client.delete(f"{API}/uploads/{name}")
    assert held.ref.path.read_bytes()[128:132] == b"DICM"  # whoever reads it reads on
    del held
    gc.collect()
    assert open_unnamed() == before


# --- files that mean harm ---

HARM: list[tuple[bytes, str]] = [
    (b"", "not_an_image"),
    (b"no picture at all", "not_an_image"),
    (hostile.dicom()[:300], "not_an_image"),
    (hostile.zip_of(hostile.dicom()), "unsupported"),
    (hostile.zip_bomb(2**28), "unsupported"),
    (hostile.gzip_bomb(2**30), "refused"),
    (hostile.deflated_bomb(2**28), "refused"),
    (hostile.png_bomb(20_000), "refused"),
    (hostile.tiff_cycle(), "refused"),
    (hostile.jpeg(65_000, 65_000), "refused"),
    (hostile.rle(30_000, 29_952), "refused"),
    (hostile.nested(100_000), "corrupt"),
    (hostile.huge_length(), "corrupt"),
    (dicom_bytes(hostile.cine(5001)), "refused"),
]


def test_files_that_mean_harm_are_refused_in_a_sentence_and_the_next_one_is_taken(
    client: httpx.Client, ward: Path
) -> None:
    for data, outcome in HARM:
        told = problem(send(client, data), 422)
        assert told["outcome"] == outcome
        assert told["detail"].endswith(".")
    assert send(client, (ward / "Miller^0" / "0-0.dcm").read_bytes()).status_code == 201


def test_a_file_of_5000_frames_is_searched_by_one_of_them(client: httpx.Client) -> None:
    told = send(client, dicom_bytes(hostile.cine(5000))).json()
    assert told["frames"] == 5000
    asked = {"uploads": [{"upload": told["upload"], "frame": 4999}], "k": 1}
    assert client.post(f"{API}/search", json=asked).json()["query"]["frame"] == 4999
    frame = client.get(f"{API}/uploads/{told['upload']}/frames/5000")
    assert json.loads(frame.headers["x-frame"])["frame"] == 5000


def test_a_decoder_that_dies_costs_one_request(server: Running, client: httpx.Client, ward: Path) -> None:
    name = send(client, (ward / "Miller^0" / "0-0.dcm").read_bytes()).json()["upload"]
    for pid in server.context.workers._files.pids:
        os.kill(pid, 9)
    assert client.get(f"{API}/uploads/{name}/frames/1").status_code == 200


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "multipart/form-data"),
        (b"", "multipart/form-data; boundary=x"),
        (b"--x\r\nrubbish", "multipart/form-data; boundary=x"),
        (b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\na\r\n--x--', "multipart/form-data; boundary=x"),
        (b"{}", "application/json"),
        (b"\xff\xfe", "text/plain"),
    ],
)  # fmt: skip
def test_a_body_that_is_no_upload_is_told(client: httpx.Client, content: bytes, kind: str) -> None:
    answer = client.post(f"{API}/uploads", content=content, headers={"Content-Type": kind})
    assert answer.status_code in (400, 422)
    problem(answer, answer.status_code)
