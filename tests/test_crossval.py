"""Cross-validation: every patient is tested once, finished folds are kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cbmir.crossval import cross_validate
from cbmir.errors import UsageError
from cbmir.recipes import recipe_named
from cbmir.sources import classes
from pictures import draw_folder


@pytest.mark.long
def test_two_folds_of_the_papers_network(tmp_path: Path) -> None:
    refs = classes(draw_folder(tmp_path / "pictures", per_class=4))
    recipe = replace(recipe_named("paper-practical", epochs=1), batch_size=4)
    report = cross_validate(refs, recipe, tmp_path / "out", n_folds=2, workers=0)
    summary = json.loads((tmp_path / "out" / "cross_validation.json").read_text())
    assert report == tmp_path / "out" / "report.html"
    folds = [json.loads((tmp_path / "out" / f"fold-{n}" / "report" / "metrics.json").read_text()) for n in (1, 2)]
    assert [fold["n_queries"] for fold in folds] == [4, 4]
    assert summary["classification"]["top1"]["mean"] == pytest.approx(
        sum(fold["classification"]["top1"] for fold in folds) / 2
    )
    written = (tmp_path / "out" / "fold-1" / "encoder" / "encoder.json").stat().st_mtime_ns
    cross_validate(refs, recipe, tmp_path / "out", n_folds=2, workers=0)
    assert json.loads((tmp_path / "out" / "cross_validation.json").read_text()) == summary
    assert (tmp_path / "out" / "fold-1" / "encoder" / "encoder.json").stat().st_mtime_ns == written


def test_folds_of_another_recipe_are_not_taken_for_these(tmp_path: Path) -> None:
    refs = classes(draw_folder(tmp_path / "pictures", per_class=2))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "claim.json").write_text('{"identity": "of another recipe"}')
    with pytest.raises(UsageError, match="folds of other data, recipe or seed"):
        cross_validate(refs, recipe_named("paper"), tmp_path / "out", n_folds=2, workers=0)
    (tmp_path / "out" / "claim.json").unlink()
    (tmp_path / "out" / "fold-1").mkdir()
    with pytest.raises(UsageError, match="do not say what they are of"):
        cross_validate(refs, recipe_named("paper"), tmp_path / "out", n_folds=2, workers=0)


def test_one_fold_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least two folds"):
        cross_validate([], recipe_named("paper"), tmp_path, n_folds=1)


def test_a_fold_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no fold 4 of 3"):
        cross_validate([], recipe_named("paper"), tmp_path, n_folds=3, only=4)
