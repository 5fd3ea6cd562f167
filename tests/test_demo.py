"""The demo: on pydicom's own files without a network, and, when asked for long tests, on a labelled folder with one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cbmir.demo import bundled_files, run_demo
from cbmir.errors import UsageError
from cbmir.recipes import DEMO
from pictures import draw_folder


def test_without_a_folder_it_searches_the_files_that_come_with_pydicom(tmp_path: Path) -> None:
    said: list[str] = []
    result = run_demo(None, tmp_path, workers=2, say=said.append)
    assert result["encoder"] == "pixels"
    assert result["indexed"]["outcomes"]["decoded"] >= 80
    assert len(list((tmp_path / "searches").glob("*.png"))) == 3
    assert "Research use only" in (tmp_path / "report" / "report.html").read_text()
    assert any("found" in line for line in said)


def test_again_it_goes_on(tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    for name in ("CT_small.dcm", "MR_small.dcm", "examples_rgb_color.dcm"):
        (tmp_path / "some" / name).write_bytes((bundled_files() / name).read_bytes())
    runs = [run_demo(tmp_path / "some", tmp_path / "out", workers=0, say=lambda _: None) for _ in range(2)]
    assert [run["indexed"]["added"] for run in runs] == [3, 0]


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no"):
        run_demo(tmp_path / "nowhere", tmp_path / "out", say=lambda _: None)


@pytest.mark.long
def test_with_classes_it_does_the_whole_job(tmp_path: Path) -> None:
    pictures = draw_folder(tmp_path / "pictures", per_class=10)
    recipe = replace(DEMO, epochs=1, batch_size=4)
    result = run_demo(pictures, tmp_path / "out", recipe=recipe, workers=0, say=lambda _: None)
    metrics = json.loads((tmp_path / "out" / "report" / "metrics.json").read_text())
    assert result["mAP"] == metrics["retrieval"]["FCL1"]["off"]["mAP"]
    assert {path.stem for path in (tmp_path / "out" / "searches").iterdir()} == {"disc", "stripes"}
