"""The search that proves a removal: it finds every sequence at any place, and says nothing of what tells nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbmir.upkeep.traces import Finder, pieces, search_folder


@given(
    st.lists(st.binary(min_size=11, max_size=40), max_size=8),
    st.lists(st.one_of(st.binary(max_size=60), st.integers(0, 7)), max_size=8),
    st.integers(1, 50),
)
def test_it_finds_what_a_plain_search_finds(sequences: list[bytes], parts: list[bytes | int], size: int) -> None:
    """parts: noise, or one of the sequences by its number; size: of the chunks the stream comes in."""
    data = b"".join(
        part if isinstance(part, bytes) else sequences[part % len(sequences)] if sequences else b"" for part in parts
    )
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    assert Finder(sequences).find(chunks) == {sequence for sequence in sequences if sequence in data}


@pytest.mark.parametrize("place", range(24))
def test_a_sequence_is_found_at_every_alignment_and_across_chunks(place: int) -> None:
    sequence = b"\x01\x02\x03" * 4
    data = bytes(place) + sequence + bytes(30)
    assert Finder([sequence]).find([data]) == {sequence}
    assert Finder([sequence]).find([data[:place], data[place : place + 5], data[place + 5 :]]) == {sequence}


def test_what_is_too_short_to_be_told_apart_is_no_proof() -> None:
    with pytest.raises(ValueError, match="at least 11 bytes"):
        Finder([b"0123456789"])


def test_the_anchors_of_what_is_often_in_files_do_not_hide_it() -> None:
    """Zeros are everywhere; a sequence that begins with them is still found, and only where it is."""
    sequence = bytes(28) + b"abcd"
    assert Finder([sequence]).find([bytes(1000)]) == set()
    assert Finder([sequence]).find([bytes(1000) + b"abcd"]) == {sequence}


def test_rows_are_looked_for_by_pieces_that_tell_something() -> None:
    draw = np.random.default_rng(0)
    row = draw.normal(size=64).astype(np.float32)
    found = pieces(row[None], most=4)
    assert len(found) == 4
    assert all(len(piece) == 32 and piece in row.tobytes() for piece in found)
    assert pieces(np.zeros((3, 64), np.float32)) == []  # a black image is like any other
    assert pieces(np.tile(np.float32([1, 2]), (1, 32))) == []
    half = np.concatenate([np.zeros(32, np.float32), row[:32]])
    assert all(piece in row.tobytes() for piece in pieces(half[None]))


def test_rows_of_few_bytes_are_no_pieces() -> None:
    assert pieces(np.float32([[1, 2]])) == []
    assert pieces(np.float32([[1, 2, 3]])) == [np.float32([1, 2, 3]).tobytes()]
    assert pieces(np.empty((0, 64), np.float32)) == []


def test_a_row_cut_in_two_by_a_database_page_is_found_by_a_piece() -> None:
    row = np.random.default_rng(1).normal(size=(1, 256)).astype(np.float32)
    data = row.tobytes()
    for cut in range(0, len(data), 4):
        torn = data[:cut] + b"page" + data[cut:]
        assert Finder(pieces(row)).find([torn])


def test_the_folder_is_searched_with_its_names_and_hidden_files(tmp_path: Path) -> None:
    secret = b"0123456789abcdef0123456789abcdef"
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / ".hidden").write_bytes(b"..." + secret)
    (tmp_path / "deep" / secret.decode()).write_bytes(b"")
    (tmp_path / "other").write_bytes(bytes(100))
    where, n_files, n_bytes = search_folder(tmp_path, [secret])
    assert where == {secret: [Path("deep", secret.decode()), Path("deep/er/.hidden")]}
    assert (n_files, n_bytes) == (3, 135)
    assert search_folder(tmp_path / "none", [secret]) == ({}, 0, 0)
