"""The page on an index run: counts, reasons, handles; no script, and nothing that is not escaped."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from cbmir.report.index_run import MOST_LISTED, MOST_REASONS, index_page, write_index_report


def report(**changes: Any) -> dict[str, Any]:
    return {
        "outcomes": {"decoded": 7, "corrupt": 2, "not_an_image": 1},
        "added": 9,
        "unchanged": 30,
        "vanished": 1,
        "vanished_files": ["aaaa00000000.dcm"],
        "duplicates": 4,
        "conflicts": 2,
        "conflicting_images": ["11" * 16, "22" * 16],
        "moved": 0,
        "pixel_duplicates": 5,
        "skipped": 3,
        "erased": 0,
        "burned_in": 6,
        "seconds": 4.0,
        "rate": 10.25,
        "not_indexed": [{"path": "eeee00000000.dcm", "outcome": "decoded", "reason": "A segmentation."}],
        "failed": [
            {"path": "bbbb00000000.dcm", "outcome": "corrupt", "reason": "Cut <short>."},
            {"path": "cccc00000000", "outcome": "not_an_image", "reason": "The file is empty."},
            {"path": "dddd00000000.dcm", "outcome": "corrupt", "reason": "Cut <short>."},
        ],
        "finished": "2024-01-31T10:00:00+00:00",
        "encoder": "0123abcd",
        **changes,
    }


def tile(html: str, name: str) -> str:
    found = re.search(rf"<li><b>([^<]*)</b>{re.escape(name)}</li>", html)
    assert found, name
    return found[1]


def test_the_counts_are_told() -> None:
    html = index_page(report())
    told = {
        "files": "40",  # 10 looked at and 30 unchanged
        "files a second": "10.2",
        "images added": "9",
        "files unchanged": "30",
        "file vanished": "1",
        "images left out that other files had brought": "4",
        "images left out that have the identity of another one and other pixels": "2",
        "images with the pixels of other ones": "5",
        "images that may show burned-in text": "6",
    }
    assert {name: tile(html, name) for name in told} == told
    assert "Finished 2024-01-31T10:00:00+00:00 after 4.0 s." in html
    assert "<code>" + "11" * 16 in html.partition('id="conflicts"')[2]


def test_files_are_grouped_by_outcome_and_reason_most_first() -> None:
    html = index_page(report())
    rows = re.findall(r"<tr><th[^>]*>([^<]*)</th><td>([^<]*)</td><td>(\d+)</td></tr>", html)
    assert rows == [("corrupt", "Cut &lt;short&gt;.", "2"), ("not an image", "The file is empty.", "1")]
    lists = re.findall(r"<summary>([^<]*)</summary><p[^>]*>(.*?)</p>", html)
    assert lists[0] == (
        "corrupt: Cut &lt;short&gt;. (2)",
        "<code>bbbb00000000.dcm</code> <code>dddd00000000.dcm</code>",
    )
    assert "decoded: A segmentation. (1)" in html.partition('id="no-pictures"')[2]
    assert "<code>aaaa00000000.dcm</code>" in html.partition('id="vanished"')[2]


def test_sections_without_anything_to_tell_are_left_out() -> None:
    html = index_page(report(not_indexed=[], vanished_files=[], conflicting_images=[]))
    assert not any(f'id="{name}"' in html for name in ("no-pictures", "vanished", "conflicts"))


def test_a_long_list_is_cut_and_says_so() -> None:
    many = [{"path": f"{n:012x}", "outcome": "corrupt", "reason": "Cut."} for n in range(MOST_LISTED + 7)]
    html = index_page(report(failed=many))
    assert html.count("<code>0") == MOST_LISTED
    assert "And 7 more" in html
    assert ">1007<" in html


def test_many_reasons_are_cut_and_say_so() -> None:
    many = [{"path": f"{n:012x}", "outcome": "refused", "reason": f"{n} MiB."} for n in range(MOST_REASONS + 3)]
    html = index_page(report(failed=many))
    assert html.count("<summary>refused") == MOST_REASONS
    assert "And 3 other reasons of 3 files." in html


def test_the_page_needs_nothing_and_runs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    write_index_report(report(failed=[]), path)
    html = path.read_text(encoding="utf-8")
    assert "<script" not in html
    assert "default-src &#x27;none&#x27;" in html
    assert "Every file was wholly read." in html
    assert "cbmir files --gallery DIR HANDLE" in html
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["index.html"]
