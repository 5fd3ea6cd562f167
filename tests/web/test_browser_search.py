"""A browser searches: by files from outside and by images of the gallery, with every option in the address."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from clinic import EVIL, SIDE, Clinic, Server, checker, save_evil
from pictures import draw, picture_bytes
from visiting import Visit


def upload_of(visit: Visit) -> dict[str, Any]:
    """What the API is asked for the upload in the address."""
    expect(visit.page).to_have_url(re.compile(r"\bupload="))
    return {"uploads": [{"upload": visit.told("upload")}]}


def off_class(answer: Any) -> set[str]:
    predicted = answer["query"]["predicted"][0]["class"]
    return {hit["id"] for hit in answer["hits"] if hit["class"] != predicted}


# --- files from outside ---


def test_a_chosen_dicom_file_finds_what_the_command_line_finds(
    visit: Visit, clinic: Clinic, clinic_server: Server
) -> None:
    visit.go()
    visit.choose(visit.page.get_by_role("button", name="Search by image"), clinic.today)
    answer = clinic_server.search(**upload_of(visit))
    visit.shows(answer["hits"])
    assert [hit["rank"] for hit in answer["hits"]] == list(range(1, 25))
    told = json.loads(clinic.run("search", clinic.today, "--gallery", clinic.gallery, "-k", 24, "--json"))
    assert [hit["id"] for hit in answer["hits"]] == [hit["id"] for hit in told["hits"]]
    first = told["query"]["predicted"][0]
    expect(visit.page.get_by_role("region", name="Query")).to_contain_text(first["class"])


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_file_may_be_dropped_and_pasted_anywhere(
    visit: Visit, clinic: Clinic, clinic_server: Server, way: str
) -> None:
    visit.go("/?page=jobs")
    visit.bring(way, "Miller^Anna.dcm", clinic.today.read_bytes())
    visit.shows(clinic_server.search(**upload_of(visit))["hits"])
    assert "Miller" not in visit.page.content()


def test_a_picture_is_as_good_as_dicom(visit: Visit, clinic_server: Server) -> None:
    visit.go()
    visit.bring("drop", "one.png", picture_bytes(draw("disc", 2, SIDE)))
    answer = clinic_server.search(**upload_of(visit))
    visit.shows(answer["hits"])
    assert answer["hits"][0]["class"] == "brain"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"Dear colleague,\n", "neither DICOM nor a picture"), (b"", "empty")],
    ids=["text", "empty"],
)
def test_a_file_that_is_no_image_is_told_and_the_page_stays(visit: Visit, content: bytes, reason: str) -> None:
    visit.expects("status of 422")
    visit.go("/?page=browse")
    visit.bring("drop", "letter.txt", content)
    alert = visit.page.get_by_role("alert")
    expect(alert).to_contain_text(reason)
    expect(alert).to_contain_text("Choose a DICOM file, a picture")
    visit.page.get_by_role("button", name="Dismiss").click()
    expect(alert).to_have_count(0)
    assert visit.page.url.endswith("?page=browse")


# --- what a search shows ---


def test_hits_of_another_class_than_predicted_have_a_red_frame_and_a_sign(visit: Visit, clinic_server: Server) -> None:
    query = clinic_server.stack(12)[5]
    answer = clinic_server.search(ids=[query])
    visit.search(query)
    visit.shows(answer["hits"])
    assert visit.differing() == off_class(answer)
    assert 0 < len(off_class(answer)) < len(answer["hits"])
    frame = visit.page.locator(".tile.differs .picture").first
    told = frame.evaluate("(one) => getComputedStyle(one, '::after').border")
    width, red, green, blue = map(int, re.findall(r"\d+", told)[:4])
    assert width >= 2
    assert red > 180 > 120 > max(green, blue)


def test_the_gate_lets_hits_of_other_classes_go(visit: Visit, clinic_server: Server) -> None:
    query = clinic_server.stack(12)[5]
    visit.search(query)
    for name, gate in (("Hard", "hard"), ("Top 3", "top3"), ("Soft", "soft"), ("Off", "off")):
        visit.page.get_by_role("radio", name=name, exact=True).check()
        answer = clinic_server.search(ids=[query], gate=gate)
        visit.shows(answer["hits"])
        assert visit.told("gate") == (None if gate == "off" else gate)
        assert visit.differing() == off_class(answer)
        assert bool(off_class(answer)) == (gate != "hard")


def test_the_same_patient_is_hidden_until_it_is_asked_for(visit: Visit, clinic_server: Server) -> None:
    stack = clinic_server.stack(12)
    visit.search(stack[5])
    visit.shows(clinic_server.search(ids=stack[5:6])["hits"])
    for slice_id in stack:
        assert visit.tile(slice_id).count() == 0
    visit.page.get_by_label("Hide").select_option("nothing")
    shown = clinic_server.search(ids=stack[5:6], hide="none")["hits"]
    visit.shows(shown)
    assert shown[0]["id"] in stack


def test_facets_count_and_filter(visit: Visit, clinic_server: Server) -> None:
    query = clinic_server.stack(12)[5]
    visit.search(query)
    facets = visit.page.get_by_role("region", name="Filters")
    counts = clinic_server.get("/facets")["facets"]["modality"]
    assert counts == {"CT": 19, "MR": 5, "US": 4, "": 3}
    for modality, n in counts.items():
        expect(facets.get_by_label(re.compile(rf"^{modality or 'not stated'}\s*{n}$"))).to_be_visible()
    facets.get_by_label(re.compile("^MR")).check()
    visit.shows(clinic_server.search(ids=[query], where="modality=MR")["hits"])
    facets.get_by_label(re.compile("^US")).check()
    visit.shows(clinic_server.search(ids=[query], where="modality in (MR, US)")["hits"])
    expect(facets.get_by_label(re.compile(r"^lungs\s*4$")).first).to_be_visible()
    visit.page.get_by_role("list", name="Filters in use").get_by_role("button", name="Modality MR").click()
    visit.shows(clinic_server.search(ids=[query], where="modality=US")["hits"])
    visit.page.get_by_role("button", name="Clear all").click()
    visit.shows(clinic_server.search(ids=[query])["hits"])


def test_a_filter_may_be_written_and_a_wrong_one_says_why(visit: Visit, clinic_server: Server) -> None:
    query = clinic_server.stack(12)[5]
    visit.search(query)
    written = visit.page.get_by_label("Written filter")
    written.fill("source=east or source=west")
    written.press("Enter")
    visit.shows(clinic_server.search(ids=[query], where="source=east or source=west")["hits"])
    visit.expects("status of 422")
    written.fill("source=(")
    written.press("Enter")
    expect(visit.page.get_by_role("alert").first).to_contain_text("Correct")
    visit.page.get_by_role("button", name="Clear all").click()
    visit.shows(clinic_server.search(ids=[query])["hits"])


def test_judgements_rank_again_and_undo_takes_them_back(visit: Visit, clinic_server: Server) -> None:
    query = clinic_server.stack(12)[5]
    first = clinic_server.search(ids=[query])["hits"]
    bad, good = first[0]["id"], first[9]["id"]
    visit.search(query)
    visit.shows(first)
    visit.tile(bad).hover()
    visit.tile(bad).get_by_role("button", name="Less like this").click()
    without = clinic_server.search(ids=[query], unlike=[bad])["hits"]
    visit.shows(without)
    visit.tile(good).hover()
    visit.tile(good).get_by_role("button", name="More like this").click()
    both = clinic_server.search(ids=[query], unlike=[bad], like=[good])["hits"]
    visit.shows(both)
    orders = [[hit["id"] for hit in hits] for hits in (first, without, both)]
    assert len({tuple(order) for order in orders}) == 3
    visit.page.get_by_role("button", name="Undo").click()
    visit.shows(without)
    visit.page.get_by_role("button", name="Undo").click()
    visit.shows(first)
    expect(visit.page.get_by_role("region", name="Your judgements")).to_have_count(0)


def test_several_images_are_one_query(visit: Visit, clinic_server: Server) -> None:
    query = clinic_server.stack(12)[5]
    other = clinic_server.search(ids=[query])["hits"][8]["id"]
    visit.search(query)
    visit.tile(other).hover()
    visit.tile(other).get_by_role("link", name="Add to the query").click()
    visit.shows(clinic_server.search(ids=[query, other])["hits"])
    visit.page.get_by_label("Several images").select_option("whichever is nearest")
    visit.shows(clinic_server.search(ids=[query, other], combine="max")["hits"])


def test_hits_are_grouped_and_paged(visit: Visit, clinic_server: Server) -> None:
    query = clinic_server.stack(12)[5]
    visit.search(query, "&k=12")
    visit.shows(clinic_server.search(ids=[query], k=12)["hits"])
    visit.page.get_by_role("link", name="Next page").click()
    visit.shows(clinic_server.search(ids=[query], k=12, offset=12)["hits"])
    visit.page.get_by_label("Group by").select_option("patient")
    grouped = clinic_server.search(ids=[query], k=12, group_by="patient")["hits"]
    visit.shows(grouped)
    assert len({hit["patient"] for hit in grouped}) == len(grouped)


# --- the address ---


def test_back_and_forward_go_through_every_state(visit: Visit, clinic_server: Server) -> None:
    query = clinic_server.stack(12)[5]
    asked: list[dict[str, Any]] = [{}, {"gate": "hard"}, {"gate": "hard", "hide": "none"}]
    answers = [clinic_server.search(ids=[query], **options)["hits"] for options in asked]
    visit.go("/?page=browse")
    visit.page.locator(f'.tile[data-id="{query}"] .picture').click()
    visit.shows(answers[0])
    visit.page.get_by_role("radio", name="Hard", exact=True).check()
    visit.shows(answers[1])
    visit.page.get_by_label("Hide").select_option("nothing")
    visit.shows(answers[2])
    visit.tiles.nth(2).locator(".picture").click()
    expect(visit.page.get_by_role("dialog")).to_be_visible()
    visit.page.go_back()
    expect(visit.page.get_by_role("dialog")).to_have_count(0)
    visit.shows(answers[2])
    visit.page.go_back()
    visit.shows(answers[1])
    visit.page.go_back()
    visit.shows(answers[0])
    visit.page.go_back()
    expect(visit.page.get_by_role("heading", name="Images")).to_be_visible()
    visit.page.go_forward()
    visit.shows(answers[0])


def test_a_reload_gives_the_same_search(visit: Visit, clinic_server: Server) -> None:
    query = clinic_server.stack(12)[5]
    first = clinic_server.search(ids=[query])["hits"][0]["id"]
    asked = {"gate": "top3", "hide": "none", "where": "not source=west", "k": 12, "like": [first]}
    hits = clinic_server.search(ids=[query], **asked)["hits"]
    visit.search(query, f"&gate=top3&hide=none&k=12&like={first}")
    visit.page.get_by_label("Written filter").fill("not source=west")
    visit.page.get_by_label("Written filter").press("Enter")
    visit.shows(hits)
    visit.page.reload()
    visit.shows(hits)
    expect(visit.page.get_by_label("Hide")).to_have_value("none")


def test_an_upload_that_is_held_no_longer_is_told(visit: Visit) -> None:
    visit.expects("status of 404")
    visit.go("/?upload=nothing")
    expect(visit.page.get_by_role("alert")).to_contain_text("Drop or choose the file again")


# --- text that would like to be markup ---


@pytest.mark.parametrize(
    "address", ["/", "/?page=browse", "/?page=map", "/?page=failed", "/?page=jobs", "/?page=reports"]
)
def test_names_are_shown_as_text(visit: Visit, address: str) -> None:
    visit.go(address)
    expect(visit.page.get_by_role("contentinfo")).to_contain_text(EVIL)


def test_markup_in_classes_sources_and_labels_is_text(visit: Visit, clinic_server: Server) -> None:
    evil = [record["id"] for record in clinic_server.records() if record["class"] == EVIL]
    assert len(evil) == 3
    visit.search(evil[0], "&hide=none")
    expect(visit.tile(evil[1]).locator(".class")).to_contain_text(EVIL)
    facet = visit.page.get_by_role("region", name="Filters").get_by_text(EVIL).first
    facet.click()
    visit.shows(clinic_server.search(ids=evil[:1], hide="none", where=f'class="{EVIL}"')["hits"])
    expect(visit.page.get_by_role("list", name="Filters in use")).to_contain_text(EVIL)
    visit.tile(evil[1]).locator(".picture").click()
    visit.pane("Hit").drawn()


def test_markup_in_every_attribute_of_a_file_is_text_or_nothing(visit: Visit, tmp_path: Path) -> None:
    save_evil(tmp_path / f"{EVIL}.dcm", checker(9))
    visit.go()
    visit.choose(visit.page.get_by_role("button", name="Search by image"), tmp_path / f"{EVIL}.dcm")
    expect(visit.tiles.first).to_be_visible()
    visit.page.get_by_role("button", name="Your query image. Look closer").click()
    visit.pane().drawn()


def test_markup_in_an_address_is_text(visit: Visit) -> None:
    visit.expects("status of 422")
    visit.expects("status of 404")
    visit.go("/?page=browse&where=%3Cimg%20src%3Dx%20onerror%3Dran(1)%3E")
    visit.go("/?id=%3Cimg%20src%3Dx%20onerror%3Dran(1)%3E")
    visit.go("/?page=report&name=%3Cimg%20src%3Dx%20onerror%3Dran(1)%3E")


def test_markup_in_a_report_is_text(visit: Visit) -> None:
    visit.go("/?page=reports")
    visit.page.get_by_role("link", name="report", exact=True).click()
    expect(visit.page.get_by_role("table").filter(has_text=EVIL).first).to_be_visible()


def test_markup_in_the_name_of_a_folder_is_text(visit: Visit) -> None:
    visit.go("/?page=jobs")
    visit.page.get_by_role("link", name=EVIL, exact=True).click()
    expect(visit.page.get_by_role("button", name=f"Index {EVIL}")).to_be_visible()
