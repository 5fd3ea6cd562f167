"""docs/search.md cannot lie: its commands run, and print what the page says."""

from __future__ import annotations

import doctest
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from cbmir import jobs
from cbmir.cli import cli
from cbmir.errors import CbmirError
from scans import KEY, write_scans

PAGE = Path(__file__).resolve().parent.parent / "docs" / "search.md"
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the gallery of the page, and its key."""
    folder = write_scans(tmp_path_factory.mktemp("page") / "scans")
    (folder / "key").write_text(KEY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CBMIR_KEY_FILE", str(folder / "key"))
        jobs.index_into(
            folder / "gallery", [folder / "archive"], encoder_name="pixels", settings=jobs.IndexSettings(workers=0)
        )
    return folder


@pytest.fixture(autouse=True)
def _there(scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scans)
    monkeypatch.setenv("CBMIR_KEY_FILE", str(scans / "key"))


def examples() -> list[tuple[str, str]]:
    """Every command of the page and what is below it."""
    blocks = re.findall(r"^```console\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
    return [tuple(part.split("\n", 1)) for block in blocks for part in block.split("$ cbmir ")[1:]]


def printed(command: str) -> str:
    """What a command prints, or its one sentence."""
    words, _, file = command.partition(" > ")
    out = StringIO()
    try:
        with redirect_stdout(out):
            cli.main(shlex.split(words), standalone_mode=False)
    except CbmirError as error:
        out.write(f"cbmir: {str(error).rstrip('.')}.\n")
    if file:
        Path(file).write_text(out.getvalue(), encoding="utf-8")
        return ""
    return out.getvalue()


def test_every_command_prints_what_the_page_says() -> None:
    told = examples()
    assert len(told) >= 15
    assert [(command, printed(command)) for command, _ in told] == told


def test_every_example_in_python_gives_what_the_page_says() -> None:
    test = doctest.DocTestParser().get_doctest(TEXT, {}, PAGE.name, str(PAGE), 0)
    lines: list[str] = []
    runner = doctest.DocTestRunner()
    runner.run(test, out=lines.append)
    assert runner.failures == 0, "".join(lines)
    assert runner.tries == 4


def test_every_option_is_on_the_page() -> None:
    """Those that other verbs have too are not explained again."""
    common = {"--gallery", "--json", "--encoder", "--strip", "--workers", "--layer", "--frame", "--gate"}
    options = {name for option in cli.commands["search"].params for name in option.opts if name.startswith("--")}
    assert {name for name in options - common if name not in TEXT} == set()
