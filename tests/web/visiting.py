"""Visits of a real browser to the page: what it may never do is watched on every one of them."""

from __future__ import annotations

import base64
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from cbmir.web.page import BUILT
from system_parts import REPOSITORY, built, system_part

AXE = REPOSITORY / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
WCAG = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]
PATIENCE_MS = 30_000
QUIET = 4
"""Looks, 25 ms apart, without a request under way: what an answer makes the page ask for has begun by then."""
DESK = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}

WATCH = """
document.addEventListener("securitypolicyviolation", (one) => refused(`${one.violatedDirective}: ${one.blockedURI}`));
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's; skips where it or the built page is missing."""
    program = system_part("chromium")
    built(BUILT / "index.html")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        yield browser
        browser.close()


class Visit:
    """A page of a fresh browser context. `done` fails for any sign of trouble that was not expected."""

    def __init__(self, browser: Browser, url: str, *, size: Any = DESK, theme: Any = "dark") -> None:
        self.url = url
        self._context = browser.new_context(
            viewport=size, color_scheme=theme, base_url=url, reduced_motion="reduce", service_workers="block"
        )
        self._context.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        self.page: Page = self._context.new_page()
        self._trouble: list[str] = []
        self._expected: list[str] = []
        self.page.expose_function("ran", lambda _: self._trouble.append("markup: it has run"))
        self.page.expose_function("refused", lambda told: self._trouble.append(f"content security policy: {told}"))
        self.page.add_init_script(WATCH)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self._trouble.append(f"error: {error}"))
        self._under_way: set[Any] = set()
        self.page.on("request", self._asked)
        for ended in ("requestfinished", "requestfailed"):
            self.page.on(ended, lambda request: self._under_way.discard(request))

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self._trouble.append(f"console: {message.text}")

    def _asked(self, request: Any) -> None:
        self._under_way.add(request)
        if not request.url.startswith((self.url + "/", "blob:", "data:")):
            self._trouble.append(f"another host: {request.url}")

    def _look_for_markup(self) -> None:
        if self.page.locator("img[src=x], img[onerror]").count():
            self._trouble.append("markup: a text has become an element")

    def expects(self, trouble: str) -> None:
        """Something that a browser reports on its own account, as an answer that is no success."""
        self._expected.append(trouble)

    def done(self) -> None:
        self._look_for_markup()
        self._context.close()
        trouble = [one for one in self._trouble if not any(sign in one for sign in self._expected)]
        assert not trouble, trouble

    # --- going about ---

    def go(self, address: str = "/") -> None:
        self.page.goto(address)
        self.settled()

    def settled(self) -> None:
        """Nothing is on its way any more."""
        expect(self.page.locator("#app > *").first).to_be_visible()
        expect(self.page.locator(".waiting, [aria-busy=true]")).to_have_count(0)
        end, quiet = time.monotonic() + PATIENCE_MS / 1000, 0
        while quiet < QUIET:
            assert time.monotonic() < end, [request.url for request in self._under_way]
            self.page.wait_for_timeout(25)
            quiet = 0 if self._under_way else quiet + 1
        self._look_for_markup()

    def search(self, record_id: str, more: str = "") -> None:
        self.go(f"/?id={record_id}{more}")

    def choose(self, button: Locator, *files: Any) -> None:
        """Files by the chooser that a button opens."""
        with self.page.expect_file_chooser() as opened:
            button.click()
        opened.value.set_files(list(files))

    def bring(self, event: str, name: str, data: bytes) -> None:
        """A file by `drop` or `paste`."""
        self.page.evaluate(
            """([event, name, data]) => {
              const transfer = new DataTransfer();
              transfer.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name));
              const target = document.querySelector("main");
              if (event === "paste")
                target.dispatchEvent(new ClipboardEvent(event, { clipboardData: transfer, bubbles: true }));
              else for (const kind of ["dragenter", "dragover", event])
                target.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
            }""",
            [event, name, base64.b64encode(data).decode()],
        )

    def told(self, name: str) -> str | None:
        """A parameter of the address."""
        found: str | None = self.page.evaluate("(name) => new URLSearchParams(location.search).get(name)", name)
        return found

    # --- hits ---

    @property
    def tiles(self) -> Locator:
        return self.page.locator(".tile[data-rank]")

    def tile(self, record_id: str) -> Locator:
        return self.page.locator(f'.tile[data-id="{record_id}"]')

    def shows(self, hits: Sequence[Any]) -> None:
        """Waits until the grid shows the hits of an answer of the API, in their order and with their ranks."""
        wanted = [[str(hit["rank"]), hit["id"]] for hit in hits]
        self.page.wait_for_function(
            """(wanted) => {
              const tiles = [...document.querySelectorAll(".tile[data-rank]")];
              return JSON.stringify(wanted) === JSON.stringify(tiles.map(({ dataset }) => [dataset.rank, dataset.id]));
            }""",
            arg=wanted,
        )
        expect(self.page.get_by_role("list", name="Hits, best first")).to_have_attribute("aria-busy", "false")

    def differing(self) -> set[str]:
        """Ids of the hits in a red frame, with the sign that does not need colour."""
        found: list[str] = self.page.locator(".tile.differs:has(.sign)").evaluate_all(
            "tiles => tiles.map((t) => t.dataset.id)"
        )
        return set(found)

    # --- the viewer ---

    def pane(self, name: str = "Image") -> Pane:
        return Pane(self.page.get_by_role("region", name=name, exact=True))

    def tool(self, name: str) -> Locator:
        return self.page.get_by_role("dialog").get_by_role("button", name=name, exact=True)

    # --- rules of accessibility ---

    def no_violations(self) -> None:
        """axe finds none; what depends on colours is looked at in both themes."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(_axe())
        found = self._violations({"type": "tag", "values": WCAG})
        theme = self.page.evaluate("document.documentElement.dataset.theme")
        self._set_theme("light" if theme == "dark" else "dark")
        found += self._violations({"type": "rule", "values": ["color-contrast"]})
        self._set_theme(theme)
        assert not found, "\n".join(found)

    def _set_theme(self, theme: str) -> None:
        self.page.evaluate("(theme) => { document.documentElement.dataset.theme = theme }", theme)

    def _violations(self, only: Any) -> list[str]:
        found = self.page.evaluate("(only) => axe.run(document, { runOnly: only, resultTypes: ['violations'] })", only)[
            "violations"
        ]
        return [f"{one['id']}: {node['target']} {node['failureSummary']}" for one in found for node in one["nodes"]]


@cache
def _axe() -> str:
    return built(AXE).read_text(encoding="utf-8")


class Pane:
    """One image of the viewer."""

    def __init__(self, region: Locator) -> None:
        self.region = region
        self.stage = region.get_by_role("application")

    def drawn(self) -> None:
        expect(self.region.locator("canvas")).to_be_visible()
        expect(self.region.get_by_text("Loading…")).to_have_count(0)

    def corner(self, place: str) -> Locator:
        """place: nw, ne, sw, se, or scale."""
        return self.region.locator(f".corners .{place}")

    def slice(self) -> tuple[int, int]:
        """Its number and how many there are, as the corner says."""
        found = re.search(r"(\d+) / (\d+)", self.corner("se").inner_text())
        assert found is not None
        return int(found[1]), int(found[2])

    def shows_slice(self, number: int) -> None:
        expect(self.corner("se")).to_contain_text(re.compile(rf"\b{number} / "), use_inner_text=True)

    def greys(self) -> np.ndarray[Any, Any]:
        """What is drawn, uint8 (rows, columns, 3)."""
        self.drawn()
        width, height, data = self.region.locator("canvas").evaluate(
            """(canvas) => {
              const copy = document.createElement("canvas");
              [copy.width, copy.height] = [canvas.width, canvas.height];
              const context = copy.getContext("2d", { willReadFrequently: true });
              context.drawImage(canvas, 0, 0);
              const { data } = context.getImageData(0, 0, copy.width, copy.height);
              let text = "";
              for (let i = 0; i < data.length; i += 8192) text += String.fromCharCode(...data.subarray(i, i + 8192));
              return [canvas.width, canvas.height, btoa(text)];
            }"""
        )
        return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)[:, :, :3]

    def middle(self) -> int:
        """The grey in the middle of the stage."""
        drawn = self.greys()
        rows, columns = drawn.shape[:2]
        return int(drawn[rows // 2, columns // 2, 0])

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A place of the page, from parts of the stage between 0 and 1."""
        box = self.stage.bounding_box()
        assert box is not None
        return box["x"] + x * box["width"], box["y"] + y * box["height"]


def histogram(drawn: np.ndarray[Any, Any]) -> list[int]:
    """How many pixels have each grey."""
    counts: list[int] = np.bincount(drawn[:, :, 0].ravel(), minlength=256).tolist()
    return counts
