"""The small language of `--where`: what it means, how it fails, and that it means what plain Python would say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbmir.errors import UsageError
from cbmir.index.columns import Column
from cbmir.where import All, AnyOf, Not, Test, Where, facets, parse
from cbmir.where.grammar import DEEPEST, LONGEST, Node


def column(*texts: str) -> Column:
    """A column of these texts, '' for a record that is told nothing."""
    values = tuple(sorted(set(texts) - {""}))
    return Column(values, np.array([values.index(text) if text else -1 for text in texts], np.int32))


COLUMNS = {
    "modality": column("CT", "CT", "MR", "CR", ""),
    "age_band": column("40-49", "50-59", "90+", "", "0-9"),
    "study_year": column("1999", "2004", "2004", "2010", ""),
    "slice_thickness": column("1", "1.0", "10", "2.5", ""),
    "image_type": column(r"ORIGINAL\PRIMARY\AXIAL", r"DERIVED\SECONDARY", "", "ORIGINAL", "ORIGINAL"),
    "manufacturer": column("ge", "del medical", "siemens", "", "ge"),
    "Side of body": column("left", "right", "", "", 'the "left" one'),
}


def passing(*texts: str) -> list[int]:
    return np.flatnonzero(parse(*texts).mask(COLUMNS)).tolist()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("modality=CT", [0, 1]),
        ("MODALITY = ct", [0, 1]),
        ("modality!=CT", [2, 3, 4]),
        ('modality=""', [4]),
        ("not modality=CT", [2, 3, 4]),
        ("modality in (CT, mr)", [0, 1, 2]),
        ("modality not in (CT, MR)", [3, 4]),
        ("image_type~axial", [0]),
        (r"image_type = DERIVED\SECONDARY", [1]),
        ("manufacturer='del medical'", [1]),
        ('"Side of body"=left', [0]),
        ('"side of body" = "the ""left"" one"', [4]),
        ("modality=CT and study_year>2000", [1]),
        ("modality=CT or study_year<2005 and manufacturer=siemens", [0, 1, 2]),
        ("(modality=CT or study_year<2005) and manufacturer=siemens", [2]),
        ("not not modality=CT", [0, 1]),
    ],
)
def test_a_filter_means(text: str, rows: list[int]) -> None:
    assert passing(text) == rows


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("slice_thickness=1", [0, 1]),
        ("slice_thickness in (1.00, 2.5)", [0, 1, 3]),
        ("slice_thickness<10", [0, 1, 3]),
        ("slice_thickness<=10", [0, 1, 2, 3]),
        ("study_year>=2004", [1, 2, 3]),
        ("modality>0", []),
        ("modality>CS", [0, 1, 2]),
    ],
)
def test_numbers_compare_as_numbers_where_both_sides_are(text: str, rows: list[int]) -> None:
    assert passing(text) == rows


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("age_band<60", [0, 1, 4]),
        ("age_band<45", [4]),
        ("age_band>45", [1, 2]),
        ("age_band<=49", [0, 4]),
        ("age_band>=90", [2]),
        ("age_band>=40-49", [0, 1, 2]),
        ("age_band=40-49", [0]),
    ],
)
def test_a_band_is_smaller_or_larger_as_a_whole(text: str, rows: list[int]) -> None:
    assert passing(text) == rows


def test_several_filters_must_all_hold() -> None:
    assert passing("modality=CT or modality=MR", "study_year=2004") == [1, 2]
    assert str(parse("modality=CT or modality=MR", "study_year=2004")) == (
        "(modality=CT or modality=MR) and study_year=2004"
    )


def test_brackets_of_one_filter_do_not_reach_into_another() -> None:
    with pytest.raises(UsageError):
        parse("modality=CT) or (modality=MR", "study_year=2004")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "A filter is empty"),
        ("  ", "A filter is empty"),
        ("modality", "wants, after modality, one of = != < <= > >= ~ in after the name modality"),
        ("modality=", "wants, after modality =, a VALUE after ="),
        ("modality==CT", "wants, after modality =, a VALUE after ="),
        ("modality=CT MR", "and, or or the end, not MR; a value with spaces stands in quotes"),
        ("modality=CT and", "wants, after = CT and, a NAME"),
        ("=CT", "wants, at its start, a NAME"),
        ("(modality=CT", "a closing bracket"),
        ("modality=CT)", r"and, or or the end, not \)"),
        ("modality in CT", "an opening bracket after in"),
        ("modality in (CT MR)", "a comma or a closing bracket"),
        ("modality in ()", "a VALUE"),
        ("modality not CT", r"in \(...\) after modality not"),
        ("modality=in", "stands in quotes where it is such a word"),
        ("modality='CT", "a quote that is not closed: 'CT"),
        ("modality!CT", "a ! that means nothing there"),
        ("modality=CT; DROP TABLE record", "and, or or the end, not DROP"),
        ("modality=C\udcffT", r"is no text that can be read: modality=C\?T"),
    ],
)
def test_a_filter_that_cannot_be_read_is_told_where(text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        parse(text)


def test_a_filter_is_neither_deep_nor_long() -> None:
    parse("(" * DEEPEST + "a=b" + ")" * DEEPEST)
    with pytest.raises(UsageError, match="at most 32 brackets"):
        parse("(" * 1000 + "a=b" + ")" * 1000)
    with pytest.raises(UsageError, match="at most 32 brackets"):
        parse("not " * 900 + "a=b")
    with pytest.raises(UsageError, match="at most 4000 characters"):
        parse("a=" + "b" * LONGEST)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("modalty", "did you mean modality?"),
        ("year", "did you mean study_year?"),
        ("type", "did you mean image_type?"),
        ("xyz", r"has a xyz\. Its columns are modality, age_band, .*, \"Side of body\"\."),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest_and_those_there_are(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        parse(f"modality=CT and {name}=1").mask(COLUMNS)


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ("modality=CT", []),
        ("modality=XA", ["modality=XA holds for no image; there are CT (2), \"\" (1), CR (1), MR (1)"]),
        ("modality in (CT, XA)", ["modality=XA holds for no image; there are CT (2), \"\" (1), CR (1), MR (1)"]),
        ("modality in (CT, XA, PT)",
         ["modality in (XA, PT) holds for no image; there are CT (2), \"\" (1), CR (1), MR (1)"]),
        ('modality in ("", XA) and slice_thickness in (1.00, 10.0)',
         ["modality=XA holds for no image; there are CT (2), \"\" (1), CR (1), MR (1)"]),
        ("modality!=XA", []),
        ("age_band<45", ["age_band<45 does not hold for what it cuts: 40-49"]),
        ("age_band<=49", []),
        ("age_band>95", ["age_band>95 holds for no image; there are \"\" (1), 0-9 (1), 40-49 (1), 50-59 (1), 90+ (1)",
                         "age_band>95 does not hold for what it cuts: 90+"]),
    ],
)  # fmt: skip
def test_what_a_filter_does_not_find_is_noted_with_what_there_is(text: str, notes: list[str]) -> None:
    assert parse(text).notes(COLUMNS) == notes


def test_notes_are_of_the_records_that_are_there() -> None:
    """Positions of records that were removed or changed keep their old values; nobody is told of them."""
    there = np.array([0, 2, 3])
    assert parse("age_band=0-9").notes(COLUMNS, there) == [
        'age_band=0-9 holds for no image; there are "" (1), 40-49 (1), 90+ (1)'
    ]
    assert parse("age_band>55", 'modality=""').notes(COLUMNS, there) == [
        'modality="" holds for no image; there are CR (1), CT (1), MR (1)'
    ]


def test_facets_count_the_values_of_some_records_or_of_all() -> None:
    assert facets(COLUMNS)["modality"] == {"CT": 2, "": 1, "CR": 1, "MR": 1}
    assert facets(COLUMNS, np.array([0, 1, 3]))["manufacturer"] == {"": 1, "del medical": 1, "ge": 1}


# what follows compares with plain Python

NAMES = ("modality", "age_band", "Side of body")
VALUES = ("", "CT", "ct", "MR", "5", "5.0", "40-49", "90+", "two words", 'a "quoted" one', "and")

tests = st.builds(
    lambda name, op, values: Test(name, op, tuple(values) if op == "in" else tuple(values[:1])),
    st.sampled_from(NAMES),
    st.sampled_from(("=", "!=", "~", "in", "<", "<=", ">", ">=")),
    st.lists(st.sampled_from(VALUES), min_size=1, max_size=3),
)
nodes: st.SearchStrategy[Node] = st.recursive(
    tests,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(lambda parts: All(tuple(parts)), st.lists(inner, min_size=2, max_size=3)),
        st.builds(lambda parts: AnyOf(tuple(parts)), st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=8,
)
records = st.lists(st.fixed_dictionaries({name: st.sampled_from(VALUES) for name in NAMES}), min_size=1, max_size=12)


def span(text: str) -> tuple[float, float] | None:
    """The numbers of the VALUES above."""
    return {"5": (5.0, 5.0), "5.0": (5.0, 5.0), "40-49": (40.0, 49.0), "90+": (90.0, float("inf"))}.get(text)


def holds(node: Node, record: dict[str, str]) -> bool:
    """What the description of the language says, for one record."""
    if isinstance(node, Not):
        return not holds(node.of, record)
    if isinstance(node, All):
        return all(holds(part, record) for part in node.of)
    if isinstance(node, AnyOf):
        return any(holds(part, record) for part in node.of)
    mine = record[node.name]

    def same(wanted: str) -> bool:
        return mine.lower() == wanted.lower() or {mine, wanted} <= {"5", "5.0"}

    wanted = node.values[0]
    answers: dict[str, Callable[[], bool]] = {
        "=": lambda: same(wanted),
        "!=": lambda: not same(wanted),
        "in": lambda: any(map(same, node.values)),
        "~": lambda: wanted.lower() in mine.lower(),
    }
    if node.op in answers:
        return answers[node.op]()
    a, b = span(mine), span(wanted)
    if b is None:
        x, y = mine.lower(), wanted.lower()
        return mine != "" and {"<": x < y, "<=": x <= y, ">": x > y, ">=": x >= y}[node.op]
    if a is None:
        return False
    return {"<": a[1] < b[0], "<=": a[1] <= b[1], ">": a[0] > b[1], ">=": a[0] >= b[0]}[node.op]


def columns_of(told: Sequence[dict[str, str]]) -> dict[str, Column]:
    return {name: column(*(record[name] for record in told)) for name in NAMES}


@given(nodes, records)
@settings(max_examples=300, deadline=None)
def test_a_mask_is_what_plain_python_says(node: Node, told: list[dict[str, str]]) -> None:
    assert Where(node).mask(columns_of(told)).tolist() == [holds(node, record) for record in told]


@given(nodes)
@settings(max_examples=300, deadline=None)
def test_a_filter_written_out_is_read_as_the_same(node: Node) -> None:
    assert parse(str(Where(node))) == Where(node)


words = st.sampled_from(["modality", "CT", "and", "or", "not", "in", "(", ")", ",", "=", "<", "!=", "~", "'", '"', " "])


@given(st.one_of(st.text(st.characters()), st.lists(words, max_size=30).map(" ".join)))
@settings(max_examples=500, deadline=None)
def test_reading_raises_usage_errors_only_and_in_one_line(text: str) -> None:
    try:
        where = parse(text)
        where.mask(COLUMNS)
        said = "".join(where.notes(COLUMNS))
        assert parse(str(where)) == where
    except UsageError as error:
        said = str(error)
    assert said.isprintable()
