"""Pictures of the page, to be looked at: every view at three sizes, dark and light.

cbmir serve --gallery DIR &
python benchmarks/screenshots.py http://127.0.0.1:8600 [--id ID] [--out out/screenshots]

Images of a gallery are on them: they stay out of the repository, as everything in out/ does.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
from playwright.sync_api import BrowserContext, Page

from chromium import chromium
from measure import REPOSITORY

SIZES: dict[str, dict[str, Any]] = {
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
    "desk": {"viewport": {"width": 1440, "height": 900}},
    "wall": {"viewport": {"width": 2560, "height": 1440}},
}
THEMES = ("dark", "light")


def views(url: str, query: str | None) -> Iterator[tuple[str, str]]:
    """Name and address of each. query: an id, None for the image in the middle of the gallery."""
    api = httpx.Client(base_url=f"{url}/api/v1", timeout=60)
    query = query or _middle(api)
    hits = api.post("/search", json={"ids": [query]}).raise_for_status().json()["hits"]
    yield "home", "/"
    yield "browse", "/?page=browse"
    yield "results", f"/?{urlencode({'id': query})}"
    yield "pair", f"/?{urlencode({'id': query, 'open': hits[0]['id']})}"
    yield "map", "/?page=map"
    yield "jobs", "/?page=jobs"
    yield "reports", "/?page=reports"
    for report in api.get("/reports").raise_for_status().json()[:1]:
        yield "report", f"/?{urlencode({'page': 'report', 'name': report['name']})}"


def _middle(api: httpx.Client) -> str:
    total = api.get("/records?limit=1").raise_for_status().json()["total"]
    (record,) = api.get(f"/records?limit=1&offset={total // 2}").raise_for_status().json()["records"]
    return str(record["id"])


def take(context: BrowserContext, name: str, address: str, out: Path) -> None:
    page = context.new_page()
    page.goto(address)
    _settle(page)
    if page.get_by_role("button", name="Why similar").count():
        page.keyboard.press("m")
        page.get_by_role("slider", name="Opacity").wait_for(timeout=120_000)
        _settle(page)
    page.screenshot(path=out)
    page.close()


def _settle(page: Page) -> None:
    page.get_by_role("contentinfo").wait_for()
    page.wait_for_load_state("networkidle")
    page.wait_for_function("() => !document.querySelector('.waiting, [aria-busy=true]')")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of a server that asks for no token")
    parser.add_argument("--id", help="the image to search with")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "out" / "screenshots")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for size, look in SIZES.items():
            for theme in THEMES:
                with browser.new_context(base_url=given.url, color_scheme=theme, **look) as context:
                    for name, address in views(given.url, given.id):
                        take(context, name, address, given.out / f"{name}-{size}-{theme}.png")
    print(given.out)


if __name__ == "__main__":
    main()
