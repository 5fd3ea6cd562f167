"""How a filter is written: its text read into a tree, and a tree written out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import UsageError

Op = Literal["=", "!=", "<", "<=", ">", ">=", "~", "in"]
COMPARISONS: tuple[Op, ...] = get_args(Op)[:-1]

LONGEST = 4_000
"""Characters of a filter: a hundred tests, and no more work than a search."""
DEEPEST = 32
"""Brackets and `not`s inside one another."""
_KEYWORDS = frozenset({"and", "or", "not", "in"})
_TOKEN = re.compile(
    r"""\s*(?: (?P<quoted> "(?:[^"]|"")*" | '(?:[^']|'')*' ) | (?P<op> <= | >= | != | [=<>~] ) | (?P<mark> [(),] )
    | (?P<word> [^\s"'()<>=!~,]+ ) )""",
    re.VERBOSE,
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_BARE = re.compile(r"[^\s\"'()<>=!~,]+")


@dataclass(frozen=True)
class Test:
    """One comparison. values: one, for `in` one or more."""

    name: str
    op: Op
    values: tuple[str, ...]

    __test__ = False  # for pytest

    def __str__(self) -> str:
        name, values = quoted(self.name), [quoted(value) for value in self.values]
        return f"{name} in ({', '.join(values)})" if self.op == "in" else f"{name}{self.op}{values[0]}"


@dataclass(frozen=True)
class Not:
    of: Node

    def __str__(self) -> str:
        return f"not {_bracketed(self.of, All, AnyOf)}"


@dataclass(frozen=True)
class All:
    of: tuple[Node, ...]

    def __str__(self) -> str:
        return " and ".join(_bracketed(node, All, AnyOf) for node in self.of)


@dataclass(frozen=True)
class AnyOf:
    of: tuple[Node, ...]

    def __str__(self) -> str:
        return " or ".join(_bracketed(node, AnyOf) for node in self.of)


Node = Test | Not | All | AnyOf


class Parser:
    """Reads one text from left to right."""

    def __init__(self, text: str) -> None:
        if len(text) > LONGEST:
            raise UsageError(f"A filter has at most {LONGEST} characters, not {len(text)}.")
        if _SURROGATE.search(text):  # bytes of a command line that are no UTF-8
            raise UsageError(f"The filter is no text that can be read: {shown(text)}.")
        self._tokens = list(_tokens(text))
        self._at = 0
        self._depth = 0

    def whole(self) -> Node:
        if not self._tokens:
            raise UsageError("A filter is empty: it has at least one test, NAME=VALUE.")
        node = self._any()
        if self._at < len(self._tokens):
            kind, word = self._tokens[self._at]
            hint = "; a value with spaces stands in quotes" if kind in ("word", "quoted") else ""
            raise self._wrong(f"and, or or the end, not {shown(word)}{hint}")
        return node

    def _any(self) -> Node:
        parts = [self._all()]
        while self._took("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _all(self) -> Node:
        parts = [self._term()]
        while self._took("and"):
            parts.append(self._term())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _term(self) -> Node:
        if self._took("not"):
            return Not(self._deeper(self._term))
        if self._took("("):
            node = self._deeper(self._any)
            if not self._took(")"):
                raise self._wrong("a closing bracket")
            return node
        return self._test()

    def _deeper(self, read: Callable[[], Node]) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            raise UsageError(f"A filter has at most {DEEPEST} brackets and nots inside one another.")
        node = read()
        self._depth -= 1
        return node

    def _test(self) -> Node:
        name = self._text("a NAME")
        if self._took("not"):
            if not self._took("in"):
                raise self._wrong(f"in (...) after {shown(name)} not")
            return Not(Test(name, "in", self._list()))
        if self._took("in"):
            return Test(name, "in", self._list())
        for op in COMPARISONS:
            if self._took(op):
                return Test(name, op, (self._text(f"a VALUE after {op}"),))
        raise self._wrong(f"one of {' '.join(COMPARISONS)} in after the name {shown(name)}")

    def _list(self) -> tuple[str, ...]:
        if not self._took("("):
            raise self._wrong("an opening bracket after in")
        values = [self._text("a VALUE")]
        while self._took(","):
            values.append(self._text("a VALUE"))
        if not self._took(")"):
            raise self._wrong("a comma or a closing bracket in the list")
        return tuple(values)

    def _text(self, wanted: str) -> str:
        kind, word = self._next()
        if kind == "quoted":
            self._at += 1
            return word[1:-1].replace(word[0] * 2, word[0])
        if kind != "word" or word.casefold() in _KEYWORDS:
            raise self._wrong(wanted + (", which stands in quotes where it is such a word" if kind == "word" else ""))
        self._at += 1
        return word

    def _took(self, mark: str) -> bool:
        """Goes on when this keyword, operator or mark stands here."""
        kind, word = self._next()
        here = kind != "quoted" and word.casefold() == mark
        self._at += here
        return here

    def _next(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _wrong(self, wanted: str) -> UsageError:
        before = " ".join(word for _, word in self._tokens[max(0, self._at - 3) : self._at])
        place = f"after {shown(before)}" if before else "at its start"
        return UsageError(f"The filter wants, {place}, {wanted}.")


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    start, end = 0, len(text.rstrip())
    while start < end:
        found = _TOKEN.match(text, start)
        if found is None:
            rest = text[start:].strip()
            what = "a quote that is not closed" if rest[0] in "\"'" else f"a {rest[0]} that means nothing there"
            raise UsageError(f"The filter has {what}: {shown(rest)}.")
        kind = str(found.lastgroup)
        yield kind, found[kind]
        start = found.end()


def one_line(text: str) -> str:
    """Without what a terminal would not print, or obey."""
    return "".join(c if c.isprintable() else "?" for c in text)


def shown(text: str) -> str:
    """What somebody typed, for a message."""
    plain = one_line(text)
    return plain if len(plain) <= 40 else plain[:37] + "..."


def quoted(text: str) -> str:
    if _BARE.fullmatch(text) and text.casefold() not in _KEYWORDS:
        return text
    return '"' + text.replace('"', '""') + '"'


def _bracketed(node: Node, *kinds: type) -> str:
    return f"({node})" if isinstance(node, kinds) else str(node)
