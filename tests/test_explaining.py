"""`cbmir explain`: feature maps by both run times, images of a gallery read again, the picture and the JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import explain_check
from cbmir import figures, jobs
from cbmir.cli import cli
from cbmir.encoder import Maps, load_encoder
from cbmir.errors import BadEncoder, BadGallery, BadImage, CbmirError, UsageError
from cbmir.explain import look
from cbmir.figures import Explained
from cbmir.gallery import Gallery, Query
from cbmir.networks import build
from make_dicom import make_dicom, save_dicom, sequence_item
from pictures import draw, draw_folder
from test_encoder import save as save_dcnn
from toy_network import CHANNELS, SIDE, ToyNetwork, save_toy

HERE = jobs.IndexSettings(workers=0, runtime="torch", precision="f32")


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbmir.networks.build", lambda _: ToyNetwork())


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return save_toy(tmp_path / "toy")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return draw_folder(tmp_path / "pictures", per_class=3)


@pytest.fixture
def gallery(toy: Path, pictures: Path, tmp_path: Path) -> Iterator[Gallery]:
    jobs.index_into(tmp_path / "gallery", [pictures], encoder_name=str(toy), settings=HERE)
    with Gallery.open(tmp_path / "gallery") as gallery:
        yield gallery


def id_of(gallery: Gallery, file: Path) -> str:
    ranking, _ = jobs.search_images(gallery, jobs.Asked([file]), Query(k=1, hide="none"))
    assert ranking.hits[0].distance < 1e-3
    return ranking.hits[0].id


# --- feature maps ---

BATCH = np.random.default_rng(0).integers(0, 256, (2, 3, SIDE, SIDE), np.uint8)


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_the_first_layer_is_made_of_the_maps(toy: Path, runtime: str) -> None:
    encoder = load_encoder(toy, runtime=runtime, precision="f32")
    maps = encoder.maps(BATCH)
    assert maps.values.shape == (2, CHANNELS, SIDE // 8, SIDE // 8)
    for values, features in zip(maps.values, encoder.encode(BATCH).features["main"], strict=True):
        assert look(Maps(values, maps.p, maps.weight, maps.bias)).features == pytest.approx(features, abs=1e-5)


def test_both_run_times_give_the_same_maps_of_any_size(toy: Path) -> None:
    larger = BATCH.repeat(2, axis=2).repeat(2, axis=3)
    for batch in (BATCH, larger, BATCH[:1]):
        first, second = (load_encoder(toy, runtime=name, precision="f32").maps(batch) for name in ("torch", "openvino"))
        np.testing.assert_allclose(first.values, second.values, rtol=1e-4, atol=1e-5)
        assert first.values.shape[2] == batch.shape[2] // 8


def test_the_networks_own_maps_pool_as_is_told_of_them(tmp_path: Path) -> None:
    network = build(
        {"kind": "mobile", "side": 64, "channels": 3, "n_classes": 2, "n_modalities": 2, "bodies": 2, "dim": 8}
    )
    network.initialise(torch.Generator().manual_seed(24))
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 64, 64)).astype(np.float32))
    with torch.inference_mode():
        main, maps = network.eval()(images)[0], network.maps(images)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    told = Maps(maps[0].numpy(), np.repeat(weights["p"], 1280), weights["project.weight"], weights["project.bias"])
    assert look(told).features == pytest.approx(main[0].numpy(), abs=1e-5)


def test_openvino_needs_no_torch_for_maps_once_it_has_its_copy(toy: Path) -> None:
    load_encoder(toy, runtime="openvino").maps(BATCH)
    code = (
        "import sys, numpy as np; from cbmir.encoder import load_encoder;"
        f"maps = load_encoder({str(toy)!r}, runtime='openvino').maps(np.zeros((1, 3, 64, 64), np.uint8));"
        "sys.exit('torch' in sys.modules or maps.values.shape[2] != 8)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_maps_of_weights_that_are_not_the_ones_saved_are_refused(toy: Path) -> None:
    load_encoder(toy, runtime="openvino").maps(BATCH)
    weights = toy / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(BadEncoder, match="its hash is not the one saved"):
        load_encoder(toy, runtime="openvino").maps(BATCH)


def test_an_encoder_without_maps_says_so(tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbmir.networks.build", build)
    save_dcnn(tmp_path / "dcnn")
    for name in ("pixels", str(tmp_path / "dcnn")):
        encoder = load_encoder(name)
        assert not encoder.has_maps
        with pytest.raises(BadEncoder, match=f"{encoder.name} cannot say why images are similar"):
            encoder.maps(BATCH)
    jobs.index_into(tmp_path / "gallery", [pictures], encoder_name="pixels", settings=jobs.IndexSettings(workers=0))
    with Gallery.open(tmp_path / "gallery") as gallery, pytest.raises(BadEncoder, match="pixels cannot say why"):
        jobs.explain_hit(gallery, jobs.Asked(ids=gallery.ids()[:1]))


# --- a hit explained ---


def test_a_file_and_its_first_hit_are_explained_by_maps_that_sum_to_their_similarity(
    gallery: Gallery, pictures: Path
) -> None:
    asked = jobs.Asked([pictures / "disc" / "00.png"])
    first = jobs.search_images(gallery, asked)[0].hits[0]
    told = jobs.explain_hit(gallery, asked)
    assert told.hit.view.id == first.id
    assert told.similarity == pytest.approx(1 - first.distance**2 / 2, abs=1e-5)  # of unit length
    for side in (told.query, told.hit):
        assert side.values.shape == (SIDE // 4, SIDE // 4)  # twice as fine as the network's own
        assert side.values.sum() == pytest.approx(told.similarity)
        assert side.check is None
    assert told.query.view.shape == (48, 48)
    assert told.query.view.box == (0, 0, 48, 48)


def test_a_stored_query_and_a_named_hit_are_read_from_their_files(gallery: Gallery, pictures: Path) -> None:
    query, hit = pictures / "disc" / "00.png", pictures / "stripes" / "01.png"
    by_file = jobs.explain_hit(gallery, jobs.Asked([query]), id_of(gallery, hit))
    by_id = jobs.explain_hit(gallery, jobs.Asked(ids=[id_of(gallery, query)]), id_of(gallery, hit))
    assert by_id.as_dict() == by_file.as_dict()
    assert by_id.hit.view.picture.tolist() == np.asarray(Image.open(hit)).tolist()
    back = jobs.explain_hit(gallery, jobs.Asked([hit]), id_of(gallery, query))
    assert back.similarity == pytest.approx(by_id.similarity)
    assert back.query.values == pytest.approx(by_id.hit.values)


def test_an_image_is_like_itself_in_the_same_places(gallery: Gallery, pictures: Path) -> None:
    query = pictures / "disc" / "00.png"
    told = jobs.explain_hit(gallery, jobs.Asked([query]), id_of(gallery, query))
    assert told.similarity == pytest.approx(1)
    assert told.query.values == pytest.approx(told.hit.values)


def test_a_region_of_the_query_has_its_map_where_it_lies(gallery: Gallery, pictures: Path) -> None:
    told = jobs.explain_hit(gallery, jobs.Asked([pictures / "disc" / "00.png"], region=(8, 4, 40, 44)))
    assert told.query.view.box == (8, 4, 40, 44)
    assert told.query.view.shape == (48, 48)
    assert told.hit.view.box == (0, 0, 48, 48)


def test_a_frame_of_a_file_and_a_member_of_an_archive_are_found_again(toy: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    frames = np.stack([draw("disc", seed) for seed in (1, 2, 3)])
    cine = save_dicom(source / "cine.dcm", make_dicom(frames, frames=True))
    Image.fromarray(draw("disc", 9)).save(tmp_path / "member.png")
    with zipfile.ZipFile(source / "all.zip", "w") as file:
        file.write(tmp_path / "member.png", "inside/member.png")
    jobs.index_into(tmp_path / "frames", [source], encoder_name=str(toy), settings=HERE)
    with Gallery.open(tmp_path / "frames") as gallery:
        records = gallery.records(gallery.ids())
        third = next(record.id for record in records.values() if record.frame_index == 2)
        member = next(name for name in records if gallery.record(name).provenance["format"] == "PNG")
        told = jobs.explain_hit(gallery, jobs.Asked([cine], frame_number=3), member)
    assert (told.query.view.id, told.query.view.frame_number, told.hit.view.id) == (third, 3, member)
    assert told.query.view.picture.tolist() == frames[2].tolist()
    assert told.hit.view.picture.tolist() == draw("disc", 9).tolist()


def test_what_a_gallery_masks_is_not_drawn(toy: Path, tmp_path: Path) -> None:
    """The left half of the picture is scan, the right half text."""
    pixels = np.tile(np.arange(64, dtype=np.uint8), (48, 2))
    pixels[:, 64:] = 255
    region = sequence_item(
        RegionLocationMinX0=0, RegionLocationMinY0=0, RegionLocationMaxX1=63, RegionLocationMaxY1=47, RegionDataType=1
    )
    elements = {"Modality": "US", "SequenceOfUltrasoundRegions": [region]}
    scan = make_dicom(pixels, **elements, SOPClassUID="1.2.840.10008.5.1.4.1.1.6.1")
    path = save_dicom(tmp_path / "scan.dcm", scan)
    masking = jobs.IndexSettings(workers=0, runtime="torch", precision="f32", mask_burned_in=True)
    jobs.index_into(tmp_path / "masked", [path], encoder_name=str(toy), settings=masking)
    with Gallery.open(tmp_path / "masked") as gallery:
        told = jobs.explain_hit(gallery, jobs.Asked([path]), gallery.ids()[0])
    for side in (told.query, told.hit):
        assert side.view.picture[:, :64].max() > 0
        assert side.view.picture[:, 64:].max() == 0


def test_a_hit_whose_file_is_gone_or_has_changed_is_not_explained(gallery: Gallery, pictures: Path) -> None:
    asked, file = jobs.Asked([pictures / "disc" / "00.png"]), pictures / "disc" / "01.png"
    name = id_of(gallery, file)
    Image.fromarray(draw("stripes", 77)).save(file)
    with pytest.raises(BadGallery, match=f"the file of image {name} has changed"):
        jobs.explain_hit(gallery, asked, name)
    file.write_bytes(b"no picture")
    with pytest.raises(BadGallery, match=f"the file of image {name} has changed"):
        jobs.explain_hit(gallery, asked, name)
    file.unlink()
    with pytest.raises(BadGallery, match=f"the file of image {name} is no longer there"):
        jobs.explain_hit(gallery, asked, name)


def test_what_cannot_be_explained_is_told(gallery: Gallery, pictures: Path, tmp_path: Path) -> None:
    ids = gallery.ids()
    file = pictures / "disc" / "00.png"
    for asked in (jobs.Asked(), jobs.Asked([file], ids=ids[:1]), jobs.Asked([file, file]), jobs.Asked(series="s")):
        with pytest.raises(UsageError, match="One image is explained"):
            jobs.explain_hit(gallery, asked)
    with pytest.raises(BadGallery, match="there is no image xyz"):
        jobs.explain_hit(gallery, jobs.Asked([file]), "xyz")
    with pytest.raises(UsageError, match="no readable frame 2"):
        jobs.explain_hit(gallery, jobs.Asked([file], frame_number=2), ids[0])
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(CbmirError, match="The file gives no image") as caught:
        jobs.explain_hit(gallery, jobs.Asked([tmp_path / "notes.txt"]), ids[0])
    assert not isinstance(caught.value, BadImage)


def test_a_check_compares_both_maps_with_the_same_random_ones_each_time(gallery: Gallery, pictures: Path) -> None:
    asked = jobs.Asked([pictures / "disc" / "00.png"])
    first, second = (jobs.explain_hit(gallery, asked, checked=True) for _ in range(2))
    assert first.as_dict() == second.as_dict()
    for side in (first.query, first.hit):
        assert side.check is not None
        assert len(side.check.random) == 20
        whole, nothing = side.check.curves.deletion[0], side.check.curves.deletion[-1]
        assert whole == pytest.approx(first.similarity, abs=1e-5)
        assert (side.check.curves.insertion[0], side.check.curves.insertion[-1]) == (nothing, whole)


# --- the verb ---


def run(*words: Any) -> None:
    cli.main(["explain", *map(str, words)], standalone_mode=False)


def test_the_verb_draws_a_picture_and_tells_the_maps(
    gallery: Gallery, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hit = id_of(gallery, pictures / "disc" / "02.png")
    words = [pictures / "disc" / "00.png", "--gallery", gallery.directory, "--hit", hit]
    run(*words, "--out", tmp_path / "why.png", "--check", "--json")
    told = json.loads(capsys.readouterr().out)
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")
    assert (told["picture"], told["layer"], told["hit"]["id"]) == (str(tmp_path / "why.png"), "main", hit)
    assert told["distance"] == pytest.approx((2 - 2 * told["similarity"]) ** 0.5)
    for side in (told["query"], told["hit"]):
        assert np.sum(side["map"]) == pytest.approx(told["similarity"])
        assert (side["rows"], side["columns"], side["box"], side["frame"]) == (48, 48, [0, 0, 48, 48], 1)
        assert set(side["check"]) == {"insertion", "deletion", "score", "random", "beats"}
    run(*words, "--out", tmp_path / "why.svg")
    assert "<svg" in (tmp_path / "why.svg").read_text()
    assert f"similarity {told['similarity']:.4f}" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"not as \.gif"):
        run(*words, "--out", tmp_path / "why.gif")


def test_a_map_is_drawn_over_the_picture_with_a_scale() -> None:
    over = np.full((6, 8), 0.5)
    over[:, 0] = np.nan
    over[2, 3], over[4, 4] = 2, -1
    colour = np.full((6, 8, 3), 128, np.uint8)
    pair = [Explained(np.full((6, 8), 128, np.uint8), over, 1, "query: brain"), Explained(colour, over / 2, 2, "hit")]
    figure: Figure = figures.explanation_figure(pair, "similarity 0.500")
    above, other, below, _, bar = figure.axes
    assert [axes.get_title() for axes in (above, other)] == ["query: brain", "hit"]
    assert len(above.images) == 1
    shown, strength = below.images[1], np.asarray(below.images[1].get_alpha())
    assert shown.norm.vmax == 2
    assert strength[2, 3] == strength.max() > strength[0, 1] > strength[4, 4] == strength[0, 0] == 0
    assert "contribution to the similarity" in bar.get_ylabel()
    assert [axes.get_aspect() for axes in (above, other)] == [1, 2]


def test_maps_of_two_images_that_nothing_speaks_for_are_transparent() -> None:
    one = Explained(np.zeros((4, 4), np.uint8), np.full((4, 4), -0.2), 1, "query")
    figure = figures.explanation_figure([one, one], "similarity -0.200")
    assert not np.asarray(figure.axes[2].images[1].get_alpha()).any()


# --- the measurement ---


def test_the_measurement_of_maps_has_a_row_an_order(
    toy: Path, pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [str(pictures), "--encoder", str(toy), "--folds", "2", "--pairs", "4", "--random", "2"]
    monkeypatch.setattr(sys, "argv", ["explain_check.py", *words])
    monkeypatch.setattr(explain_check, "load_encoder", partial(load_encoder, runtime="torch", precision="f32"))
    explain_check.main()
    told = capsys.readouterr().out
    rows = [line.split("|")[1:-1] for line in told.splitlines() if line.startswith("| ")]
    assert "4 pairs of 4 patients" in told
    assert [row[0].strip() for row in rows[1:]] == [
        "both, as explain does", "4 x 4", "8 x 8", "both, of another pair", "the middle first", "random",
    ]  # fmt: skip
    for row in rows[1:]:
        insertion, deletion, score = (float(cell) for cell in row[1:4])
        assert insertion - deletion == pytest.approx(score, abs=0.0016)
