"""Recipes: which public series make up the classes of a data set, written down in YAML and checked when read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from ...errors import UsageError

Modality = Literal["CT", "MR", "PT", "CR", "DX", "MG", "US"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)
ANY = "any"
MAX_BYTES = 2**20
SUFFIX = ".yaml"
Pattern = re.Pattern[str]
Part = tuple[float, float]
"""From where to where in a series slices are taken: 0 its first slice, 1 its last; axial ones run from the feet up."""


class BadRecipe(UsageError):
    """A recipe that cannot be used as it is."""


@dataclass(frozen=True)
class Source:
    """Series of one modality in one or more collections.

    body_part: BodyPartExamined in capitals, "" for a series that tells none; empty: any. description, exclude: what
    the series description must, and must not, contain; no case. part: see Part.
    """

    collections: tuple[str, ...]
    modality: Modality
    body_part: tuple[str, ...] = ()
    description: Pattern | None = None
    exclude: Pattern | None = None
    part: Part = (0.2, 0.8)


@dataclass(frozen=True)
class Folder:
    """A class whose images the user has to get. how: a sentence that says where from."""

    source: str
    modality: str
    licence: str
    how: str


@dataclass(frozen=True)
class ClassRecipe:
    """Either sources in IDC, tried in turn, or a folder of the user's."""

    name: str
    sources: tuple[Source, ...] = ()
    folder: Folder | None = None

    @property
    def slug(self) -> str:
        """The class as the name of a folder: "Soft Tissue" is soft-tissue."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


@dataclass(frozen=True)
class Recipe:
    """images, patients: how many a class gets, at most. per_series: slices of one series, where that gives enough.
    min_slices, max_mb: the smallest and the largest series that is taken. exclude: as in Source, for every source, by
    modality or "any".
    """

    name: str
    classes: tuple[ClassRecipe, ...]
    images: int = 300
    patients: int = 60
    per_series: int = 5
    min_slices: int = 15
    max_mb: float = 120.0
    exclude: Mapping[str, Pattern] = field(default_factory=dict)

    @property
    def collections(self) -> tuple[str, ...]:
        return tuple(sorted({c for kind in self.classes for source in kind.sources for c in source.collections}))

    @property
    def folders(self) -> tuple[ClassRecipe, ...]:
        return tuple(kind for kind in self.classes if kind.folder)


def recipe_names() -> tuple[str, ...]:
    """The recipes that come with cbmir."""
    found = (entry.name for entry in files("cbmir.dataset").iterdir())
    return tuple(sorted(name.removesuffix(SUFFIX) for name in found if name.endswith(SUFFIX)))


def read_recipe(name: str) -> Recipe:
    """A recipe that comes with cbmir, or a YAML file of one's own.

    Raises BadRecipe when there is no such recipe, or what is wrong in it.
    """
    if name in recipe_names():
        return parse_recipe((files("cbmir.dataset") / (name + SUFFIX)).read_text(encoding="utf-8"))
    path = Path(name)
    if not path.is_file():
        raise BadRecipe(f"There is no recipe of that name and no such file; cbmir brings {', '.join(recipe_names())}.")
    if path.stat().st_size > MAX_BYTES:
        raise BadRecipe("The recipe is larger than 1 MiB: that is no recipe.")
    try:
        return parse_recipe(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise BadRecipe("The recipe cannot be read as text in UTF-8.") from None


def parse_recipe(text: str) -> Recipe:
    """The recipe a YAML text holds. Raises BadRecipe with the place of what is wrong."""
    top = _Entries("The recipe", _load(text))
    classes = top.take("classes", dict)
    recipe = Recipe(
        name=top.take("name", str),
        classes=tuple(_class(name, entry) for name, entry in classes.items()),
        images=top.number("images_per_class", 300, 1, 100_000),
        patients=top.number("patients_per_class", 60, 1, 100_000),
        per_series=top.number("images_per_series", 5, 1, 10_000),
        min_slices=top.number("min_slices", 15, 1, 10_000),
        max_mb=float(top.number("max_series_mb", 120, 1, 100_000)),
        exclude=_exclude(top.take("exclude", dict, {})),
    )
    top.take("about", str, "")
    top.finish()
    _check_classes(recipe.classes)
    return recipe


def _check_classes(classes: Sequence[ClassRecipe]) -> None:
    if not classes:
        raise BadRecipe("The recipe has no classes.")
    slugs = [kind.slug for kind in classes]
    for kind in classes:
        if not kind.slug or slugs.count(kind.slug) > 1:
            raise BadRecipe(f"The recipe, class {kind.name}: another class has the same name, or it has no letters.")


def _exclude(entry: Any) -> Mapping[str, Pattern]:
    entries = _Entries("The recipe, exclude", entry)
    found = {kind: entries.pattern(kind) for kind in (ANY, *MODALITIES)}
    entries.finish()
    return MappingProxyType({kind: pattern for kind, pattern in found.items() if pattern})


def _class(name: Any, entry: Any) -> ClassRecipe:
    where = f"The recipe, class {name}"
    if not isinstance(name, str):
        raise BadRecipe(f"{where}: a class is named by a text; write it in quotes.")
    entries = _Entries(where, entry)
    sources, folder = entries.take("sources", list, []), entries.take("folder", dict, {})
    entries.finish()
    if bool(sources) == bool(folder):
        raise BadRecipe(f"{where}: it has either sources or a folder.")
    return ClassRecipe(
        name=name,
        sources=tuple(_source(f"{where}, source {n}", source) for n, source in enumerate(sources, start=1)),
        folder=_folder(f"{where}, folder", folder) if folder else None,
    )


def _source(where: str, entry: Any) -> Source:
    entries = _Entries(where, entry)
    source = Source(
        collections=entries.texts("collection"),
        modality=entries.choice("modality", MODALITIES),
        body_part=tuple(part.upper() for part in entries.texts("body_part", needed=False)),
        description=entries.pattern("description"),
        exclude=entries.pattern("exclude"),
        part=entries.part("part"),
    )
    entries.finish()
    return source


def _folder(where: str, entry: Any) -> Folder:
    entries = _Entries(where, entry)
    folder = Folder(*(entries.take(key, str) for key in ("source", "modality", "licence", "how")))
    entries.finish()
    return folder


_NEEDED: Any = object()
_KINDS = {str: "a text", int: "a whole number", dict: "a mapping", list: "a list"}


class _Entries:
    """The entries of one mapping, taken one by one; what is left over at the end is a mistake."""

    def __init__(self, where: str, entries: Any) -> None:
        if not isinstance(entries, Mapping):
            raise BadRecipe(f"{where}: it is not a mapping of names to values.")
        self.where, self.left = where, dict(entries)

    def fail(self, key: str, what: str) -> BadRecipe:
        return BadRecipe(f"{self.where}: {key} {what}.")

    def take(self, key: str, kind: type, default: Any = _NEEDED) -> Any:
        value = self.left.pop(key, default)
        if value is _NEEDED:
            raise self.fail(key, "is missing")
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.fail(key, f"is {_KINDS[kind]}")
        return value

    def number(self, key: str, default: int, low: int, high: int) -> int:
        value: int = self.take(key, int, default)
        if not low <= value <= high:
            raise self.fail(key, f"lies between {low} and {high}")
        return value

    def texts(self, key: str, *, needed: bool = True) -> tuple[str, ...]:
        """One text or a list of them."""
        value = self.left.pop(key, [] if not needed else None)
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not all(isinstance(text, str) for text in found) or (needed and not found):
            raise self.fail(key, "is a text or a list of texts")
        return tuple(found)

    def choice(self, key: str, choices: Sequence[Any]) -> Any:
        value = self.take(key, str)
        if value not in choices:
            raise self.fail(key, f"is one of {', '.join(choices)}")
        return value

    def pattern(self, key: str) -> Pattern | None:
        text = self.take(key, str, "")
        try:
            return re.compile(text, re.IGNORECASE) if text else None
        except re.error:
            raise self.fail(key, "is not a regular expression") from None

    def part(self, key: str) -> Part:
        value = self.take(key, list, [0.2, 0.8])
        numbers = [float(v) for v in value if isinstance(v, int | float) and not isinstance(v, bool)]
        if len(value) != 2 or len(numbers) != 2 or not 0 <= numbers[0] < numbers[1] <= 1:
            raise self.fail(key, "is two numbers from 0 to 1, the smaller one first")
        return numbers[0], numbers[1]

    def finish(self) -> None:
        if self.left:
            raise self.fail(", ".join(sorted(map(str, self.left))), "is nothing that is known here")


def _load(text: str) -> Any:
    """Plain YAML: no aliases, a few of which can stand for billions of entries, and no name twice in one mapping."""
    try:
        import yaml
    except ImportError:
        raise UsageError("Recipes need PyYAML: install cbmir with its extra, cbmir[fetch].") from None
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise BadRecipe("The recipe has an alias (*name): write the entries out.")
        _refuse_twins(yaml.compose(text, yaml.SafeLoader))
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise BadRecipe(f"The recipe is not YAML{f' in line {mark.line + 1}' if mark else ''}.") from None


def _refuse_twins(node: Any) -> None:
    """PyYAML keeps the last of two entries of one name, and says nothing."""
    for inner in getattr(node, "value", None) or ():
        if isinstance(inner, tuple):
            names = [key.value for key, _ in node.value if isinstance(key.value, str)]
            if len(names) > len(set(names)):
                raise BadRecipe(f"The recipe names an entry twice, around line {node.start_mark.line + 1}.")
            _refuse_twins(inner[1])
        elif not isinstance(inner, str):
            _refuse_twins(inner)
