"""Training recipes: every number of a training run, by name.

`paper` is section 3.1.2 to the letter. `paper-practical` is the same network and data, within the paper's 30 epochs,
with what makes it train in minutes; docs/reproduction.md has the measurement behind each change. `demo` is
`paper-practical` cut short. `ours` is another network, trained to rank; docs/quality.md has its measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from .errors import UsageError

Schedule = Literal["constant", "cosine"]
Precision = Literal["32-true", "bf16-mixed"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What every recipe has. lr: learning rate; schedule: `constant`, or `cosine` to zero over all steps after a
    linear warm-up. precision: of the arithmetic.

    average: decay of the running mean of the weights, which is what is kept; 0 keeps the last ones. clip: the longest
    gradient, 0 for no limit.
    """

    name: str
    batch_size: int
    lr: float
    weight_decay: float = 0.0
    schedule: Schedule = "constant"
    warmup_epochs: float = 0.0
    epochs: int = 30
    average: float = 0.0
    clip: float = 0.0
    precision: Precision = "bf16-mixed"

    def __post_init__(self) -> None:
        """Raises UsageError for a value out of range."""
        for name, fits in self._ranges():
            if not fits:
                raise UsageError(f"{name} {getattr(self, name)} is out of range.")

    def _ranges(self) -> list[tuple[str, bool]]:
        return [
            ("batch_size", self.batch_size >= 1),
            ("lr", 0 < self.lr < float("inf")),
            ("weight_decay", self.weight_decay >= 0),
            ("warmup_epochs", 0 <= self.warmup_epochs < self.epochs),
            ("epochs", self.epochs >= 1),
            ("average", 0 <= self.average < 1),
            ("clip", self.clip >= 0),
        ]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class DcnnRecipe(Recipe):
    """For the paper's network.

    weights, biases, mean, scale, dropout: see networks/dcnn.py. crop: `centre` as the paper, or a `random` place.
    With `random`, zoom, flip and tone also draw the size (up to that part smaller), the side and the grey-level curve.
    label_smoothing: part of the target spread over all classes.
    """

    weights: Literal["paper", "he", "he-cvl"]
    biases: Literal["paper", "zero"]
    mean: float
    scale: float
    momentum: float = 0.0
    dropout: float = 0.5
    crop: Literal["centre", "random"] = "centre"
    zoom: float = 0.0
    flip: bool = False
    tone: float = 0.0
    label_smoothing: float = 0.0

    def _ranges(self) -> list[tuple[str, bool]]:
        return [
            *super()._ranges(),
            ("scale", self.scale > 0),
            ("momentum", 0 <= self.momentum < 1),
            ("dropout", 0 <= self.dropout < 1),
            ("zoom", 0 <= self.zoom < 1),
            ("tone", 0 <= self.tone < 5),
            ("label_smoothing", 0 <= self.label_smoothing < 1),
        ]


@dataclass(frozen=True, kw_only=True)
class MetricRecipe(Recipe):
    """For the compact network (networks/mobile.py), trained to rank. See metric_learning.py for the losses.

    epochs: of the first body; second_epochs: of another one, trained by itself, 0 for none. epoch_images: images of an
    epoch, 0 for as many as there are. side: of the pictures it is trained on; they are packed, and later encoded, at
    `packed` pixels a side. dim: of the main layer. heads: the heads learn so many times
    faster than the body. metric: the loss on distances, weighed by `metric_weight`; temperature: its own. finding,
    modality: weights of the finer labels' and the modality's losses. augment: strength. shrinkage, head_decay: see
    closing.py.
    """

    second_epochs: int = 0
    epoch_images: int = 0
    side: int = 112
    packed: int = 160
    dim: int = 512
    heads: float = 5.0
    metric: Literal["none", "supcon", "multi-similarity", "proxy-anchor"] = "supcon"
    metric_weight: float = 1.0
    temperature: float = 0.1
    finding: float = 0.5
    modality: float = 0.2
    label_smoothing: float = 0.05
    augment: float = 1.0
    shrinkage: float = 0.3
    head_decay: float = 1e-4

    @property
    def bodies(self) -> tuple[MetricRecipe, ...]:
        """Of each body, as if it were alone. The average of the second one's weights is over as large a part of its
        training.
        """
        first = replace(self, second_epochs=0)
        if not self.second_epochs:
            return (first,)
        forgets = min(1.0, (1 - self.average) * self.epochs / self.second_epochs)
        average = self.average and 1 - forgets
        warmup = min(self.warmup_epochs, self.second_epochs)
        return first, replace(first, epochs=self.second_epochs, average=average, warmup_epochs=warmup)

    def _ranges(self) -> list[tuple[str, bool]]:
        return [
            *super()._ranges(),
            ("batch_size", self.batch_size % GROUP == 0),
            ("second_epochs", self.second_epochs >= 0),
            ("epoch_images", self.epoch_images >= 0),
            ("side", 32 <= self.side <= 512),
            ("packed", 32 <= self.packed <= 512),
            ("dim", 8 <= self.dim <= 1280),
            ("heads", self.heads > 0),
            ("metric_weight", self.metric_weight >= 0),
            ("temperature", self.temperature > 0),
            ("finding", self.finding >= 0),
            ("modality", self.modality >= 0),
            ("label_smoothing", 0 <= self.label_smoothing < 1),
            ("augment", 0 <= self.augment <= 3),
            ("shrinkage", 0 <= self.shrinkage <= 1),
            ("head_decay", self.head_decay >= 0),
        ]


GROUP = 8
"""Images of one class in a batch of metric learning."""
PAPER_TRAINING_ERROR = 0.0422
"""What the paper reports after 30 epochs (section 3.1.2)."""

CHOICES = {
    "weights": ("paper", "he", "he-cvl"),
    "biases": ("paper", "zero"),
    "schedule": ("constant", "cosine"),
    "crop": ("centre", "random"),
    "precision": ("32-true", "bf16-mixed"),
    "metric": ("none", "supcon", "multi-similarity", "proxy-anchor"),
}
"""The words an entry may take, where it takes words."""

PAPER = DcnnRecipe(
    name="paper",
    weights="paper",
    biases="paper",
    mean=0.0,
    scale=1.0,
    batch_size=1,
    lr=1e-4,
    precision="32-true",
)
PAPER_PRACTICAL = replace(
    PAPER,
    name="paper-practical",
    weights="he-cvl",
    biases="zero",
    mean=0.3,
    scale=0.3,
    batch_size=64,
    lr=0.01,
    momentum=0.9,
    weight_decay=5e-4,
    schedule="cosine",
    epochs=12,
    crop="random",
    label_smoothing=0.1,
    precision="bf16-mixed",
)
DEMO = replace(PAPER_PRACTICAL, name="demo", epochs=4)

OURS = MetricRecipe(
    name="ours",
    batch_size=96,
    lr=3e-4,
    weight_decay=1e-4,
    schedule="cosine",
    warmup_epochs=0.2,
    epochs=7,
    second_epochs=2,
    average=0.996,
    clip=5.0,
)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (PAPER, PAPER_PRACTICAL, DEMO, OURS)}


def recipe_named(name: str, changes: Sequence[str] = (), *, epochs: int | None = None) -> Recipe:
    """The recipe of that name. changes: NAME=VALUE each; epochs: instead of the recipe's own.

    Raises UsageError for an unknown recipe or name, or a value of the wrong kind.
    """
    if name not in RECIPES:
        raise UsageError(f"There is no recipe '{name}': choose one of {', '.join(RECIPES)}.")
    values: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
    for change in changes:
        key, _, text = change.partition("=")
        values[key] = _value(RECIPES[name], key, text)
    return replace(RECIPES[name], **values)


def _value(recipe: Recipe, key: str, text: str) -> Any:
    """The text as a value of the kind that entry has."""
    known = recipe.as_dict()
    known.pop("name")
    if key not in known:
        raise UsageError(f"A recipe has no '{key}'; it has {', '.join(known)}.")
    kind = type(known[key])
    try:
        value = {"True": True, "False": False}[text] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise UsageError(f"{key} is {kind.__name__}, as {known[key]}, not '{text}'.") from None
    allowed = CHOICES.get(key)
    if allowed and value not in allowed:
        raise UsageError(f"{key} is one of {', '.join(allowed)}, not '{text}'.")
    return value
