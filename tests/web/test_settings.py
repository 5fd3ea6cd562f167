"""The table [web] of cbmir.toml: paths from where it lies, what is unknown or cannot be refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from cbmir.errors import UsageError
from cbmir.web.settings import Settings, Token, digest_of, is_loopback, load_settings, make_token

TOKEN = f"""
[[web.tokens]]
name = "reading-room"
role = "reader"
sha256 = "{digest_of("any")}"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "cbmir.toml"
    path.write_text("[web]\n" + text, encoding="utf-8")
    return path


def test_paths_are_meant_from_where_the_file_lies(tmp_path: Path) -> None:
    text = 'gallery = "g"\nreports = ["r", "/elsewhere"]\naudit = "a.jsonl"\n[web.roots]\nct = "scans/ct"\n'
    settings = load_settings(write(tmp_path, text))
    assert settings.gallery == tmp_path / "g"
    assert settings.reports == (tmp_path / "r", Path("/elsewhere"))
    assert settings.audit_file == tmp_path / "a.jsonl"
    assert settings.roots == {"ct": tmp_path / "scans" / "ct"}


def test_options_stand_before_the_file(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, 'gallery = "g"\nport = 1\n'), gallery=Path("other"), port=2, host=None)
    assert (settings.gallery, settings.port, settings.host) == (Path("other"), 2, "127.0.0.1")


def test_the_audit_log_lies_beside_the_gallery_where_removal_does_not_look(tmp_path: Path) -> None:
    assert Settings(gallery=tmp_path / "g").audit_file == tmp_path / "g.audit.jsonl"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "gallery: Field required"),
        ('gallery = "g"\nportt = 1\n', "portt: Extra inputs are not permitted"),
        ('gallery = "g"\nport = 70000\n', "port: Input should be less than or equal to 65535"),
        ('gallery = "g"\nhost = "0.0.0.0"\n', "a server that others can reach needs tokens"),
        ('gallery = "g"\nhosts = ["cbmir.example"]\n', "a server that others can reach needs tokens"),
        ('gallery = "g"\nsecure = true\n', "a server that others can reach needs tokens"),
        ('gallery = "g"\nproxies = ["127.0.0.1"]\n', "a server that others can reach needs tokens"),
        ('gallery = "g"\ncertificate = "c.pem"\n' + TOKEN, "certificate and private_key are given together"),
        ('gallery = "g"\n' + TOKEN + TOKEN, "two tokens have the same name"),
        ('gallery = "g"\n' + TOKEN + TOKEN.replace("reading-room", "ward"), "a token stands there twice"),
        ('gallery = "g"\n' + TOKEN.replace('"reader"', '"owner"'), "tokens.0.role"),
        ('gallery = "g"\n' + TOKEN.replace(digest_of("any"), "any"), "tokens.0.sha256"),
        ('gallery = "g"\n[web.roots]\n"../x" = "y"\n', "roots"),
        ('gallery = "g"\n[web.limits]\nbody_bytes = 0\n', "limits.body_bytes"),
        ("gallery = \n", "is no TOML"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_settings(write(tmp_path, text))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value).replace(str(tmp_path), "")


def test_a_token_that_stands_in_the_settings_by_mistake_is_not_said_again(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_settings(write(tmp_path, 'gallery = "g"\n' + TOKEN.replace(digest_of("any"), "cbmir_secret")))
    assert "cbmir_secret" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load_settings(tmp_path / "cbmir.toml")


@pytest.mark.parametrize(
    ("host", "is_this_machine"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("localhost.example", False), ("", False)],
)  # fmt: skip
def test_what_only_this_machine_reaches(host: str, is_this_machine: bool) -> None:
    assert is_loopback(host) is is_this_machine


def test_a_new_token_is_known_by_its_digest() -> None:
    made = make_token("reading-room", "reader")
    assert len(made["token"]) > 43
    known = Token.model_validate({"name": "reading-room", "role": "reader", "sha256": digest_of(made["token"])})
    assert f'sha256 = "{known.sha256}"' in made["toml"]
    assert make_token("reading-room", "reader")["token"] != made["token"]


def test_a_token_is_called_by_a_name_that_can_stand_in_a_log() -> None:
    with pytest.raises(UsageError):
        make_token('Miller"\n', "reader")
