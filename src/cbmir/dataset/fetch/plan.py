"""The plan: which series, and how many slices of each, make up the classes. Arithmetic on the index, no network."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...types import ImageRef
from ..splits import Side, split
from .recipe import ANY, BadRecipe, ClassRecipe, Part, Recipe, Source

if TYPE_CHECKING:
    import pandas as pd

Commercial = Literal["yes", "no", "see licence"]

COLUMNS = (
    "collection_id",
    "PatientID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "BodyPartExamined",
    "Modality",
    "SOPClassUID",
    "instanceCount",
    "series_size_MB",
    "license_short_name",
    "source_DOI",
)
"""What is read of the index; see IDC's idc_index_schema.json."""

PICTURES = tuple(
    f"1.2.840.10008.5.1.4.1.1.{end}"
    for end in ("1", "1.1", "1.1.1", "1.2", "1.2.1", "2", "4", "6.1", "128")  # CR, DX, MG, CT, MR, US, PT
)
"""SOP classes with one picture an instance: no segmentations, structures, reports, secondary captures. PS3.4 B.5."""


@dataclass(frozen=True)
class Draw:
    """One series, and how many of its slices are taken. n_instances: how many it has; mb: 10^6 bytes."""

    label: str
    slug: str
    collection: str
    modality: str
    patient: str
    series: str
    n_instances: int
    mb: float
    licence: str
    doi: str
    part: Part
    take: int = 0
    first: int = 1
    split: Side = "train"

    @property
    def capacity(self) -> int:
        """Slices inside its part."""
        return max(1, int(self.n_instances * (self.part[1] - self.part[0])))

    @property
    def paths(self) -> tuple[str, ...]:
        """Where its slices lie below the data set, numbered through the class."""
        return tuple(f"{self.slug}/{number:04d}.dcm" for number in range(self.first, self.first + self.take))

    @property
    def commercial(self) -> Commercial:
        """May it be used commercially? As the licence's short name tells."""
        if "NC" in self.licence.split("-") or "-NC " in self.licence:
            return "no"
        return "yes" if self.licence.startswith(("CC BY ", "CC0")) else "see licence"


@dataclass(frozen=True)
class Total:
    """What the plan holds of a class. short: images that are missing from what the recipe asks for."""

    label: str
    images: int
    patients: int
    series: int
    mb: float
    short: int
    modalities: Mapping[str, int]
    collections: Mapping[str, int]
    sides: Mapping[str, int]


@dataclass(frozen=True)
class Plan:
    """draws: class by class as the recipe has them. folders: the classes that come from a folder of the user's."""

    recipe: str
    seed: int
    wanted: int
    draws: tuple[Draw, ...]
    classes: tuple[str, ...]
    folders: tuple[ClassRecipe, ...] = field(default=())

    @property
    def mb(self) -> float:
        """What is downloaded: whole series. 10^6 bytes."""
        return sum(draw.mb for draw in self.draws)

    @property
    def kept_mb(self) -> float:
        """About what stays on disk."""
        return sum(draw.mb * draw.take / draw.n_instances for draw in self.draws)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that is drawn, hex: equal plans make equal data sets."""
        return sha256(json.dumps([astuple(draw) for draw in self.draws]).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe,
            "seed": self.seed,
            "download_mb": round(self.mb, 1),
            "kept_mb": round(self.kept_mb, 1),
            "classes": [asdict(total) for total in self.totals()],
            "folders": [kind.name for kind in self.folders],
            "draw": self.fingerprint,
        }

    def totals(self) -> tuple[Total, ...]:
        return tuple(self._total(label) for label in self.classes)

    def _total(self, label: str) -> Total:
        draws = [draw for draw in self.draws if draw.label == label]
        counts: dict[str, dict[str, int]] = {name: defaultdict(int) for name in ("modality", "collection", "split")}
        for draw in draws:
            for name, of in counts.items():
                of[getattr(draw, name)] += draw.take
        images = sum(draw.take for draw in draws)
        return Total(
            label=label,
            images=images,
            patients=len({draw.patient for draw in draws}),
            series=len(draws),
            mb=sum(draw.mb for draw in draws),
            short=self.wanted - images,
            modalities=dict(counts["modality"]),
            collections=dict(counts["collection"]),
            sides=dict(counts["split"]),
        )


def make_plan(recipe: Recipe, index: pd.DataFrame, seed: int = 24, *, commercial: bool = False) -> Plan:
    """Draw the images of every class: the same for a recipe, an index and a seed, whatever the order of the index.

    index: COLUMNS of IDC's series index. commercial: only licences that allow commercial use. A series that two
    classes ask for goes to the first. A patient is on one side, whatever his classes.
    Raises BadRecipe when the index does not have a collection, or nothing fits at all.
    """
    _check_collections(recipe, index)
    used: set[str] = set()
    draws: list[Draw] = []
    for kind in recipe.classes:
        if kind.sources:
            draws += _draw_class(recipe, kind, index, used, seed, commercial)
            used = {draw.series for draw in draws}
    if not draws and any(kind.sources for kind in recipe.classes):
        raise BadRecipe("No series of the index fits the recipe: its filters leave nothing.")
    classes = tuple(kind.name for kind in recipe.classes if kind.sources)
    return Plan(recipe.name, seed, recipe.images, _with_sides(draws, seed), classes, recipe.folders)


def _check_collections(recipe: Recipe, index: pd.DataFrame) -> None:
    missing = sorted(set(recipe.collections) - set(index["collection_id"]))
    if missing:
        raise BadRecipe(f"This index of IDC has no collection {', '.join(missing)}: correct the recipe.")


def _draw_class(
    recipe: Recipe, kind: ClassRecipe, index: pd.DataFrame, used: set[str], seed: int, commercial: bool
) -> list[Draw]:
    """A class of its own generator, so that another class in the recipe changes nothing here."""
    rng = np.random.default_rng([seed, *kind.name.encode()])
    pools = [_pool(recipe, kind, source, index, used, commercial) for source in kind.sources]
    people = _round_robin([_shuffled(pool, rng) for pool in pools], recipe.patients)
    series = [_series_of(person, at, pools, rng) for at, person in people]
    shares = fill(recipe.images, [sum(one.capacity for one in of) for of in series])
    draws: list[Draw] = []
    for share, of_patient in zip(shares, series, strict=True):
        draws += _take(share, of_patient, recipe.per_series)
    firsts = np.cumsum([1, *(draw.take for draw in draws)]).tolist()
    return [replace(draw, first=first) for draw, first in zip(draws, firsts, strict=False)]


Pool = Mapping[str, Sequence[Draw]]
"""Patient -> his series, smallest first."""


def _pool(
    recipe: Recipe, kind: ClassRecipe, source: Source, index: pd.DataFrame, used: set[str], commercial: bool
) -> Pool:
    rows = index[
        index["collection_id"].isin(source.collections)
        & (index["Modality"] == source.modality)
        & index["SOPClassUID"].isin(PICTURES)
        & (index["instanceCount"] >= recipe.min_slices)
        & (index["series_size_MB"] <= recipe.max_mb)
    ]
    if source.body_part:
        rows = rows[rows["BodyPartExamined"].fillna("").str.upper().isin(source.body_part)]
    found: dict[str, list[Draw]] = defaultdict(list)
    for row in rows[list(COLUMNS)].itertuples(index=False, name=None):
        draw = _of_row(kind, source, row)
        wanted = _described(_text(row[3]), recipe, source) and draw.series not in used
        if wanted and not (commercial and draw.commercial != "yes"):
            found[draw.patient].append(draw)
    return {patient: sorted(found[patient], key=lambda draw: (draw.mb, draw.series)) for patient in sorted(found)}


def _of_row(kind: ClassRecipe, source: Source, row: Sequence[object]) -> Draw:
    collection, patient, series, _, _, modality, _, count, mb, licence, doi = row
    return Draw(
        label=kind.name,
        slug=kind.slug,
        collection=_text(collection),
        modality=_text(modality),
        patient=_text(patient),
        series=_text(series),
        n_instances=int(_text(count)),
        mb=float(_text(mb)),
        licence=_text(licence),
        doi=_text(doi),
        part=source.part,
    )


def _text(cell: object) -> str:
    """An empty cell is None or, in pandas, not equal to itself."""
    return "" if cell is None or cell != cell else str(cell)


def _described(description: str, recipe: Recipe, source: Source) -> bool:
    if source.description and not source.description.search(description):
        return False
    banned = (recipe.exclude.get(ANY), recipe.exclude.get(source.modality), source.exclude)
    return not any(pattern and pattern.search(description) for pattern in banned)


def _shuffled(pool: Pool, rng: np.random.Generator) -> list[str]:
    names = list(pool)
    return [names[i] for i in rng.permutation(len(names))]


def _round_robin(queues: Sequence[Sequence[str]], at_most: int) -> list[tuple[int, str]]:
    """(queue, person), one of each queue in turn, everybody once."""
    seen: set[str] = set()
    waiting: list[Iterator[str]] = [iter(queue) for queue in queues]
    order: list[tuple[int, str]] = []
    left = set(range(len(waiting)))
    while left and len(order) < at_most:
        for at in sorted(left):
            person = next((one for one in waiting[at] if one not in seen), None)
            if person is None:
                left.discard(at)
            elif len(order) < at_most:
                seen.add(person)
                order.append((at, person))
    return order


def _series_of(patient: str, at: int, pools: Sequence[Pool], rng: np.random.Generator) -> list[Draw]:
    """His series, each once: those of the source he was drawn from first, then those of the others.

    Of each source the smaller half comes first, in a random order: the very smallest are of one kind, T2 say.
    """
    found: dict[str, Draw] = {}
    for pool in (pools[at], *pools):
        series = pool.get(patient, ())
        half = -(-len(series) // 2)
        for i in (*rng.permutation(half), *range(half, len(series))):
            found.setdefault(series[i].series, series[i])
    return list(found.values())


def _take(share: int, series: Sequence[Draw], per_series: int) -> list[Draw]:
    """`share` slices of as few series as give `per_series` each, of more slices or series where that is not enough."""
    if not share:
        return []
    n = min(len(series), -(-share // per_series))
    while n < len(series) and sum(draw.capacity for draw in series[:n]) < share:
        n += 1
    takes = fill(share, [draw.capacity for draw in series[:n]])
    return [replace(draw, take=take) for draw, take in zip(series, takes, strict=False) if take]


def fill(total: int, capacities: Sequence[int]) -> list[int]:
    """Share `total` as evenly as the capacities allow; the first ones get what is over. Less where they are too small.

    fill(10, [1, 9, 9]) is [1, 5, 4].
    """
    shares = [0] * len(capacities)
    left = min(total, sum(capacities))
    while left:
        open_ones = [i for i, capacity in enumerate(capacities) if shares[i] < capacity]
        step = max(1, left // len(open_ones))
        for i in open_ones:
            more = min(step, capacities[i] - shares[i], left)
            shares[i] += more
            left -= more
    return shares


def _with_sides(draws: Sequence[Draw], seed: int) -> tuple[Draw, ...]:
    """Train or test for each series, by patient, 70 to 30 in every class."""
    if not draws:
        return ()
    refs = [
        ImageRef(
            Path(path),
            path,
            labels={"class": draw.label},
            patient=draw.patient,
            modality=draw.modality,
            source=draw.collection,
        )
        for draw in draws
        for path in draw.paths
    ]
    side_of = {ref.patient: side for ref, side in zip(refs, split(refs, seed=seed), strict=True)}
    return tuple(replace(draw, split=side_of[draw.patient]) for draw in draws)
