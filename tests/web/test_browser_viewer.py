"""A browser looks at images: what is drawn is what the pixels say, under the pointer and under the keys."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import expect

from clinic import N_SLICES, WINDOW, Clinic, Server, square_hu
from visiting import Pane, Visit, histogram

MIDDLE = (0.5, 0.5)


def grey_of(hu: float, center: float = WINDOW["WindowCenter"], width: float = WINDOW["WindowWidth"]) -> float:
    """DICOM PS3.3 C.11.2.1.2.1, to 0 ... 255."""
    return 255 * min(1, max(0, (hu - (center - 0.5)) / (width - 1) + 0.5))


def window_of(pane: Pane) -> tuple[float, float]:
    """Center and width, as the corner says."""
    found = re.search(r"W ([-\d.]+)\s+L ([-\d.]+)", pane.corner("sw").inner_text())
    assert found is not None
    return float(found[2]), float(found[1])


@pytest.fixture
def stack(clinic_server: Server) -> list[str]:
    """Ids of the slices of the first patient."""
    return clinic_server.stack(N_SLICES["first"])


@pytest.fixture
def image(visit: Visit, stack: list[str]) -> Iterator[Pane]:
    """The sixth of twelve slices, by itself."""
    visit.go(f"/?page=browse&open={stack[5]}")
    pane = visit.pane()
    pane.drawn()
    return pane


def drag(visit: Visit, pane: Pane, start: tuple[float, float], dx: float, dy: float) -> None:
    x, y = pane.at(*start)
    visit.page.mouse.move(x, y)
    visit.page.mouse.down()
    visit.page.mouse.move(x + dx / 2, y + dy / 2)
    visit.page.mouse.move(x + dx, y + dy)
    visit.page.mouse.up()


def test_an_image_opens_with_its_own_window(image: Pane) -> None:
    assert window_of(image) == (40, 400)
    assert image.middle() == pytest.approx(grey_of(square_hu(5)), abs=1)
    assert image.slice() == (6, 12)
    expect(image.corner("se")).to_contain_text("CT 96 × 96")
    expect(image.corner("scale")).to_contain_text("mm")


def test_dragging_changes_the_window_and_so_the_greys(visit: Visit, image: Pane) -> None:
    before = histogram(image.greys())
    drag(visit, image, MIDDLE, 80, -60)
    center, width = window_of(image)
    assert width > 400
    assert center != 40
    after = histogram(image.greys())
    assert after != before
    assert sum(after) == sum(before)
    assert image.middle() == pytest.approx(grey_of(square_hu(5), center, width), abs=1.5)


def test_invert_turns_every_grey_of_the_image_around_and_reset_gives_all_back(visit: Visit, image: Pane) -> None:
    before = image.greys()
    visit.tool("Invert").click()
    expect(visit.tool("Invert")).to_have_attribute("aria-pressed", "true")
    inverted = image.greys()
    rows, columns = before.shape[:2]
    shown = np.s_[:, (columns - rows) // 2 + 4 : (columns + rows) // 2 - 4]  # a square image as high as its stage
    assert int(abs(255 - before[shown].astype(int) - inverted[shown]).max()) <= 1
    drag(visit, image, MIDDLE, 50, 50)
    visit.tool("Reset").click()
    expect(visit.tool("Invert")).to_have_attribute("aria-pressed", "false")
    assert np.array_equal(image.greys(), before)


def test_zoom_enlarges_what_is_under_the_pointer_and_reset_shows_all(visit: Visit, image: Pane) -> None:
    before = image.greys()
    zoom = image.corner("sw").inner_text()
    visit.page.mouse.move(*image.at(*MIDDLE))
    visit.page.keyboard.down("Control")
    visit.page.mouse.wheel(0, -300)
    visit.page.keyboard.up("Control")
    expect(image.corner("sw")).not_to_have_text(zoom, use_inner_text=True)
    square = grey_of(square_hu(5))
    share = [float((abs(drawn[:, :, 0] - square) <= 1).mean()) for drawn in (before, image.greys())]
    assert share[1] > 1.5 * share[0] > 0
    visit.tool("Reset").click()
    assert np.array_equal(image.greys(), before)


def test_a_window_of_ct_has_a_name(visit: Visit, image: Pane) -> None:
    visit.page.get_by_label("Preset").select_option(label="Lung")
    center, width = window_of(image)
    assert (center, width) != (40, 400)
    assert image.middle() == pytest.approx(grey_of(square_hu(5), center, width), abs=1)
    visit.page.get_by_label("Width").fill("100")
    visit.page.get_by_label("Width").press("Enter")
    assert window_of(image) == (center, 100)


def test_the_wheel_goes_through_the_slices(visit: Visit, image: Pane) -> None:
    visit.page.mouse.move(*image.at(*MIDDLE))
    for number in (7, 8):
        visit.page.mouse.wheel(0, 100)
        image.shows_slice(number)
        assert image.middle() == pytest.approx(grey_of(square_hu(number - 1)), abs=1)
    visit.page.mouse.wheel(0, -100)
    image.shows_slice(7)
    expect(visit.page.get_by_role("slider", name="Image: slice")).to_have_value("7")
    visit.page.keyboard.press("End")
    image.shows_slice(12)
    visit.page.mouse.wheel(0, 100)
    assert image.slice() == (12, 12)
    assert image.middle() == pytest.approx(grey_of(square_hu(11)), abs=1)


def test_the_same_keys(visit: Visit, image: Pane) -> None:
    visit.page.keyboard.press("ArrowDown")
    image.shows_slice(7)
    visit.page.keyboard.press("ArrowUp")
    image.shows_slice(6)
    before = image.greys()
    visit.page.keyboard.press("i")
    assert image.middle() == pytest.approx(255 - grey_of(square_hu(5)), abs=1)
    visit.page.keyboard.press("]")
    visit.page.keyboard.press(".")
    visit.page.keyboard.press("+")
    assert window_of(image) != (40, 400)
    visit.page.keyboard.press("Space")
    assert np.array_equal(image.greys(), before)
    visit.page.keyboard.press("Escape")
    expect(visit.page.get_by_role("dialog")).to_have_count(0)


@pytest.fixture
def pair(visit: Visit, stack: list[str], clinic_server: Server) -> tuple[Pane, Pane]:
    """The sixth slice of the first patient, and beside it the fourth of the seven of the second."""
    hit = clinic_server.stack(N_SLICES["second"])[3]
    visit.search(stack[5])
    visit.tile(hit).locator(".picture").click()
    panes = visit.pane("Query"), visit.pane("Hit")
    for pane in panes:
        pane.drawn()
    return panes


def test_a_pair_scrolls_and_is_windowed_together_until_it_is_unlinked(visit: Visit, pair: tuple[Pane, Pane]) -> None:
    query, hit = pair
    assert (query.slice(), hit.slice()) == ((6, 12), (4, 7))
    visit.page.mouse.move(*query.at(*MIDDLE))
    for _ in range(4):
        visit.page.mouse.wheel(0, 100)
    query.shows_slice(10)
    hit.shows_slice(6)  # 4 of 11 steps are 2 of 6
    assert hit.middle() == pytest.approx(grey_of(square_hu(5)), abs=1)
    drag(visit, query, MIDDLE, 60, 0)
    assert window_of(query) == window_of(hit) != (40, 400)
    visit.tool("Link slices").click()
    visit.tool("Link window").click()
    linked = window_of(hit)
    visit.page.mouse.move(*query.at(*MIDDLE))
    visit.page.mouse.wheel(0, -100)
    query.shows_slice(9)
    drag(visit, query, MIDDLE, 60, 0)
    assert hit.slice() == (6, 7)
    assert window_of(hit) == linked != window_of(query)


def test_why_similar_is_laid_over_both_and_taken_away(visit: Visit, pair: tuple[Pane, Pane]) -> None:
    plain = [pane.greys() for pane in pair]
    toggle = visit.page.get_by_role("dialog").get_by_role("button", name="Why similar")
    toggle.click()
    expect(visit.page.get_by_text("Finding out why they are similar…")).to_have_count(0)
    for pane, before in zip(pair, plain, strict=True):
        laid = pane.greys().astype(int)
        coloured = abs(laid[:, :, 0] - laid[:, :, 2]) > 20
        assert coloured.mean() > 0.005
        assert not np.array_equal(laid, before)
    toggle.click()
    for pane, before in zip(pair, plain, strict=True):
        assert np.array_equal(pane.greys(), before)


def test_a_drawn_region_is_searched_by(visit: Visit, stack: list[str], clinic_server: Server) -> None:
    whole = clinic_server.search(ids=stack[5:6])["hits"]
    visit.search(stack[5])
    visit.shows(whole)
    visit.page.get_by_role("button", name="Draw a region").click()
    pane = visit.pane()
    pane.drawn()
    visit.tool("Region").click()
    drag(visit, pane, (0.42, 0.25), 200, 260)
    visit.page.get_by_role("button", name="Search this region").click()
    expect(visit.page).to_have_url(re.compile(r"\bregion="))
    region = [int(number) for number in (visit.told("region") or "").split(",")]
    hits = clinic_server.search(ids=stack[5:6], region=region)["hits"]
    visit.shows(hits)
    assert [hit["distance"] for hit in hits] != [hit["distance"] for hit in whole]
    assert region[2] / region[3] == pytest.approx(200 / 260, abs=0.05)
    visit.page.get_by_role("button", name="Use the whole image").click()
    visit.shows(whole)


def test_an_uploaded_scan_is_looked_at_too(visit: Visit, clinic: Clinic) -> None:
    visit.go()
    visit.choose(visit.page.get_by_role("button", name="Search by image"), clinic.today)
    visit.page.get_by_role("button", name="Your query image. Look closer").click()
    pane = visit.pane()
    pane.drawn()
    assert pane.middle() == pytest.approx(grey_of(square_hu(6)), abs=1)


def test_similar_images_are_found_from_where_one_looks(visit: Visit, image: Pane, clinic_server: Server) -> None:
    visit.page.keyboard.press("End")
    image.shows_slice(12)
    visit.tool("Find similar").click()
    last = clinic_server.stack(N_SLICES["first"])[-1]
    visit.shows(clinic_server.search(ids=[last])["hits"])


def test_the_map_leads_to_images(visit: Visit, clinic_server: Server) -> None:
    visit.go("/?page=map")
    expect(visit.page.get_by_text("31 images", exact=True)).to_be_visible()
    legend = visit.page.get_by_role("group", name="Classes that are shown").get_by_role("listitem")
    assert sorted(legend.all_inner_texts()) == sorted(clinic_server.get("/gallery")["by_class"])
    stage = visit.page.get_by_role("application")
    stage.focus()
    before = stage.locator("canvas").evaluate("(canvas) => canvas.toDataURL()")
    visit.page.keyboard.press("ArrowRight")
    card = visit.page.locator(".atlas-card")
    record_id = card.get_attribute("data-id")
    visit.page.keyboard.press("+")
    expect(visit.page.get_by_role("button", name="Reset")).to_be_enabled()
    assert stage.locator("canvas").evaluate("(canvas) => canvas.toDataURL()") != before
    visit.page.keyboard.press("Enter")
    expect(visit.page).to_have_url(re.compile(f"open={record_id}"))
    visit.pane().drawn()
