"""What tests need besides Python is installed by a script, and missed with a sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from system_parts import REPOSITORY, built, system_part

SCRIPT = REPOSITORY / "scripts" / "install-system-parts"


def install(programs: Path) -> subprocess.CompletedProcess[str]:
    """The script on a machine that has nothing but these programs."""
    bash = shutil.which("bash")
    assert bash is not None
    return subprocess.run([bash, SCRIPT], env={"PATH": str(programs)}, capture_output=True, text=True)


def add(folder: Path, name: str, script: str) -> None:
    program = folder / name
    program.write_text(f"#!{shutil.which('bash')}\n{script}\n")
    program.chmod(0o755)


def test_nothing_is_installed_where_nothing_is_missing(tmp_path: Path) -> None:
    for program in ("dcm2pnm", "chromium"):
        add(tmp_path, program, "exit 0")
    add(tmp_path, "apt-get", "exit 1")
    done = install(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_is_missing_is_installed_by_apt_in_silence(tmp_path: Path) -> None:
    add(tmp_path, "sudo", '"$@"')
    add(tmp_path, "apt-get", f'echo "$*" | tee -a {tmp_path}/asked >&2')
    for tool in ("env", "tee"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    done = install(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "asked").read_text().splitlines() == [
        "-qq update",
        "-qq install --yes --no-install-recommends dcmtk chromium",
    ]


def test_an_apt_that_fails_is_heard(tmp_path: Path) -> None:
    add(tmp_path, "sudo", '"$@"')
    add(tmp_path, "apt-get", "echo no network >&2; exit 100")
    (tmp_path / "env").symlink_to(str(shutil.which("env")))
    done = install(tmp_path)
    assert done.returncode == 1
    assert done.stderr == "no network\napt-get could not install: dcmtk chromium.\n"


def test_without_apt_the_script_says_what_is_missing(tmp_path: Path) -> None:
    done = install(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("These system parts are missing: dcmtk chromium. There is no apt-get here")


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_a_test_without_its_part_is_skipped_but_fails_in_ci(
    ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(os.environ, "CI", ci)
    with pytest.raises(outcome, match="no-such-part is not installed: scripts/install-system-parts does that"):
        system_part("no-such-part")
    with pytest.raises(outcome, match=r"index.html is not there: make page does that"):
        built(tmp_path / "index.html")
