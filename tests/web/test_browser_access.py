"""The page is for everybody: by keyboard alone, by the rules of accessibility, for every role, on a phone."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from cbmir.web.page import BUILT
from clinic import EVIL, N_SLICES, Clinic, Server
from serving import TOKENS
from system_parts import built
from visiting import PHONE, Visit

MOST_BYTES = 100_000
"""Of styles and scripts, as they come through the wire."""


@pytest.fixture
def query(clinic_server: Server) -> str:
    return clinic_server.stack(N_SLICES["first"])[5]


def press(visit: Visit, *keys: str) -> None:
    for key in keys:
        visit.page.keyboard.press(key)


def tab_to(visit: Visit, name: str, key: str = "Tab") -> None:
    """Until the focus is on what is called so. Fails when it is not within reach, or not seen to be there."""
    for _ in range(60):
        visit.page.keyboard.press(key)
        here = visit.page.locator(":focus")
        if re.search(name, here.evaluate("(one) => one.getAttribute('aria-label') ?? one.innerText")):
            outline = here.evaluate("(one) => getComputedStyle(one).outlineStyle")
            assert outline != "none", f"the focus on {name} is not seen"
            return
    raise AssertionError(f"no {key} leads to {name}")


def test_the_whole_way_by_keyboard(visit: Visit, query: str, clinic_server: Server) -> None:
    visit.go()
    tab_to(visit, "Skip to content")
    press(visit, "Enter")
    assert visit.page.evaluate("document.activeElement.id") == "main"
    tab_to(visit, "Browse all images")
    press(visit, "Enter")
    visit.settled()
    shown = visit.page.locator(".tile").evaluate_all("tiles => tiles.map((tile) => tile.dataset.id)")
    tab_to(visit, "Find images similar")
    press(visit, "End", "Home", *["ArrowRight"] * shown.index(query), "Enter")
    first = clinic_server.search(ids=[query])["hits"]
    visit.shows(first)

    press(visit, "ArrowDown", "ArrowRight", "l")
    liked = clinic_server.search(ids=[query], like=[first[1]["id"]])["hits"]
    visit.shows(liked)
    press(visit, "u")
    visit.shows(first)
    press(visit, "g")
    gated = clinic_server.search(ids=[query], gate="hard")["hits"]
    visit.shows(gated)

    tab_to(visit, "^Rank 1:")
    press(visit, "Enter")
    pane = visit.pane("Query")
    pane.drawn()
    press(visit, "ArrowDown", "i", "n")
    expect(visit.page).to_have_url(re.compile(f"open={gated[1]['id']}"))
    press(visit, "Escape")
    expect(visit.page.get_by_role("dialog")).to_have_count(0)
    expect(visit.tile(gated[1]["id"]).locator(".picture")).to_be_focused()

    tab_to_region(visit)
    region = [int(number) for number in (visit.told("region") or "").split(",")]
    visit.shows(clinic_server.search(ids=[query], gate="hard", region=region)["hits"])

    press(visit, "?")
    expect(visit.page.get_by_role("dialog", name="Help")).to_be_visible()
    press(visit, "Escape")
    expect(visit.page.get_by_role("dialog")).to_have_count(0)
    theme = visit.page.evaluate("document.documentElement.dataset.theme")
    press(visit, "t")
    assert visit.page.evaluate("document.documentElement.dataset.theme") != theme
    visit.page.go_back()  # the key for it is the browser's own
    visit.shows(gated)


def tab_to_region(visit: Visit) -> None:
    """A region drawn with the arrow keys, and searched by."""
    press(visit, "/")
    expect(visit.page.get_by_label("Written filter")).to_be_focused()
    tab_to(visit, "Draw a region", "Shift+Tab")
    press(visit, "Enter")
    visit.pane().drawn()
    press(visit, "r", "ArrowLeft", "Shift+ArrowRight", "ArrowUp", "Enter")
    expect(visit.page).to_have_url(re.compile("region="))


def test_a_file_is_chosen_by_keyboard(visit: Visit, clinic: Clinic) -> None:
    visit.go()
    with visit.page.expect_file_chooser() as opened:
        press(visit, "o")
    opened.value.set_files(clinic.today)
    expect(visit.tiles.first).to_be_visible()


def test_letters_may_be_turned_off_for_those_who_speak(visit: Visit) -> None:
    visit.go()
    press(visit, "?")
    visit.page.get_by_label("Single letters").uncheck()
    press(visit, "Escape", "t", "?")
    expect(visit.page.get_by_role("dialog")).to_have_count(0)
    assert visit.page.evaluate("document.documentElement.dataset.theme") == "dark"


# --- the rules ---

PAGES = {
    "home": "/",
    "browse": "/?page=browse",
    "an empty filter": "/?page=browse&is.modality=none",
    "map": "/?page=map",
    "failed": "/?page=failed",
    "jobs": "/?page=jobs",
    "reports": "/?page=reports",
    "report": "/?page=report&name=report",
}


@pytest.mark.parametrize("address", PAGES.values(), ids=PAGES.keys())
def test_no_view_breaks_a_rule(visit: Visit, address: str) -> None:
    visit.go(address)
    visit.no_violations()


def test_no_state_of_a_search_breaks_a_rule(visit: Visit, query: str, clinic_server: Server) -> None:
    hits = clinic_server.search(ids=[query])["hits"]
    visit.search(query, f"&like={hits[1]['id']}&unlike={hits[2]['id']}&group=patient")
    visit.page.get_by_role("region", name="Filters").get_by_label(re.compile("^CT")).check()
    visit.settled()
    visit.no_violations()
    visit.search(query, "&gate=hard&offset=100")
    expect(visit.page.get_by_text("No hits on this page")).to_be_visible()
    visit.no_violations()
    visit.expects("status of 404")
    visit.go("/?id=nothing")
    expect(visit.page.get_by_role("alert")).to_be_visible()
    visit.no_violations()


def test_no_state_of_the_viewer_breaks_a_rule(visit: Visit, query: str, clinic_server: Server) -> None:
    hit = clinic_server.search(ids=[query])["hits"][0]["id"]
    visit.search(query, f"&open={hit}")
    visit.pane("Hit").drawn()
    visit.no_violations()
    press(visit, "m")
    expect(visit.page.get_by_role("slider", name="Opacity")).to_be_visible()
    visit.no_violations()
    press(visit, "r", "ArrowLeft")
    expect(visit.page.get_by_role("button", name="Search this region")).to_be_visible()
    visit.no_violations()


def test_no_help_and_no_notice_breaks_a_rule(visit: Visit) -> None:
    visit.expects("status of 422")
    visit.go()
    visit.bring("drop", "letter.txt", b"Dear colleague,\n")
    expect(visit.page.get_by_role("alert")).to_be_visible()
    visit.no_violations()
    visit.page.get_by_role("button", name="Help").click()
    visit.no_violations()


@pytest.mark.parametrize("address", ["/", "/?page=browse", "/?page=map", "search", "open"])
def test_a_phone_shows_all_without_scrolling_sideways(
    browser: Browser, clinic_server: Server, query: str, address: str
) -> None:
    hit = clinic_server.search(ids=[query])["hits"][0]["id"]
    address = {"search": f"/?id={query}", "open": f"/?id={query}&open={hit}"}.get(address, address)
    visit = Visit(browser, clinic_server.url, size=PHONE, theme="light")
    visit.go(address)
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    expect(visit.page.get_by_text("Research use only").first).to_be_visible()
    visit.no_violations()
    visit.done()


# --- who asks ---


@pytest.fixture(scope="module")
def guarded(clinic: Clinic) -> Iterator[Server]:
    with clinic.serving(with_tokens=True) as server:
        yield server


def test_nobody_sees_anything_without_a_token(browser: Browser, guarded: Server) -> None:
    visit = Visit(browser, guarded.url)
    visit.expects("status of 401")
    visit.go()
    assert EVIL not in visit.page.content()
    expect(visit.page.get_by_text("Research use only")).to_be_visible()
    visit.no_violations()
    visit.page.get_by_label("Token").fill("a guess")
    visit.page.get_by_role("button", name="Sign in").click()
    expect(visit.page.get_by_role("alert")).to_contain_text("Whoever runs the server makes tokens")
    visit.page.get_by_label("Token").fill(TOKENS["reader"])
    visit.page.get_by_role("button", name="Sign in").click()
    visit.settled()
    expect(visit.page.get_by_role("link", name="Browse all images")).to_be_visible()
    images = visit.page.locator(".cards img")
    expect(images.first).to_have_js_property("complete", True)
    assert images.first.evaluate("(image) => image.naturalWidth") > 0
    visit.page.reload()
    visit.settled()
    visit.go("/?page=jobs")
    expect(visit.page.get_by_text("Your token reads")).to_be_visible()
    visit.page.get_by_role("button", name="Sign out").click()
    expect(visit.page.get_by_label("Token")).to_be_visible()
    assert visit.page.context.cookies() == []
    visit.done()


def test_a_folder_is_indexed_with_progress(browser: Browser, clinic: Clinic, tmp_path: Path) -> None:
    """In a gallery of its own: the others count the images of theirs."""
    own = Clinic(tmp_path, {**clinic.environment})
    own.run("index", clinic.archive / "disc-0.dcm", "--gallery", own.gallery, "--workers", 0)
    (own.home / "incoming").symlink_to(clinic.home / "incoming")
    with own.serving() as server:
        visit = Visit(browser, server.url)
        visit.go("/?page=jobs")
        visit.page.get_by_role("link", name=EVIL, exact=True).click()
        visit.page.get_by_role("button", name=f"Index {EVIL}").click()
        job = visit.page.get_by_role("article", name=re.compile("^Index run"))
        expect(job).to_be_visible()
        expect(visit.page.get_by_role("article", name="Index run, done")).to_contain_text("added 2", timeout=120_000)
        expect(visit.page.get_by_role("contentinfo")).to_contain_text("· 3 images")
        visit.no_violations()
        visit.done()


# --- what comes through the wire ---


def test_styles_and_scripts_are_small() -> None:
    built(BUILT / "index.html")
    files = [file for file in BUILT.rglob("*") if file.suffix in (".css", ".js")]
    sizes = {file.name: len(gzip.compress(file.read_bytes())) for file in files}
    assert {file.suffix for file in files} == {".css", ".js"}
    assert sum(sizes.values()) < MOST_BYTES, sizes


# --- real images ---


def test_real_images(browser: Browser, clinic: Clinic, organ24: Path, tmp_path: Path) -> None:
    """Of three organs, six patients each: a file of the first finds its own kind among those of the others."""
    own = Clinic(tmp_path, {**clinic.environment, "CBMIR_KEY_FILE": str(tmp_path / "key")})
    chosen = {kind: one_a_patient(organ24 / "manifest.csv", kind, 6) for kind in ("brain", "knee", "teeth")}
    lines = ["path,class", *(f"{file.name},{kind}" for kind, files in chosen.items() for file in files[1:])]
    own.archive.mkdir()
    for file in (file for files in chosen.values() for file in files[1:]):
        (own.archive / file.name).write_bytes(file.read_bytes())
    (own.archive / "manifest.csv").write_text("\n".join(lines), encoding="utf-8")
    own.run("index", own.archive / "manifest.csv", "--gallery", own.gallery, "--workers", 0)
    (own.home / "incoming").mkdir()
    with own.serving() as server:
        visit = Visit(browser, server.url)
        for kind, files in chosen.items():
            visit.go()
            visit.choose(visit.page.get_by_role("button", name="Search by image"), files[0])
            expect(visit.page).to_have_url(re.compile(r"\bupload="))
            answer: Any = server.search(uploads=[{"upload": visit.told("upload")}])
            visit.shows(answer["hits"])
            assert answer["hits"][0]["class"] == kind
            visit.page.get_by_role("button", name="Your query image. Look closer").click()
            visit.pane().drawn()
        visit.done()


def one_a_patient(manifest: Path, kind: str, n: int) -> list[Path]:
    with manifest.open(newline="", encoding="utf-8") as file:
        of_patient = {
            row["patient"]: manifest.parent / row["path"] for row in csv.DictReader(file) if row["class"] == kind
        }
    return list(of_patient.values())[:n]
