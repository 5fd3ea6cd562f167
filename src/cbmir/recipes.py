"""Training recipes: every number of a training run, by name.

`paper` is section 3.1.2 to the letter. `paper-practical` is the same network and data, within the paper's 30 epochs,
with what makes it train in minutes; docs/reproduction.md has the measurement behind each change. `demo` is
`paper-practical` cut short.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from .errors import UsageError


@dataclass(frozen=True)
class Recipe:
    """lr: learning rate; schedule: `constant`, or `cosine` to zero over all steps after a linear warm-up.

    weights, biases, mean, scale, dropout: see networks/dcnn.py. crop: `centre` as the paper, or a `random` place.
    With `random`, zoom, flip and tone also draw the size (up to that part smaller), the side and the grey-level curve.
    label_smoothing: part of the target spread over all classes.
    precision: of the arithmetic, `32-true` or `bf16-mixed`.
    """

    name: str
    weights: Literal["paper", "he", "he-cvl"]
    biases: Literal["paper", "zero"]
    mean: float
    scale: float
    batch_size: int
    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_epochs: float = 0.0
    epochs: int = 30
    dropout: float = 0.5
    crop: Literal["centre", "random"] = "centre"
    zoom: float = 0.0
    flip: bool = False
    tone: float = 0.0
    label_smoothing: float = 0.0
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"

    def __post_init__(self) -> None:
        """Raises UsageError for a value out of range."""
        for name, fits in (
            ("scale", self.scale > 0),
            ("batch_size", self.batch_size >= 1),
            ("lr", 0 < self.lr < float("inf")),
            ("momentum", 0 <= self.momentum < 1),
            ("weight_decay", self.weight_decay >= 0),
            ("warmup_epochs", 0 <= self.warmup_epochs < self.epochs),
            ("epochs", self.epochs >= 1),
            ("dropout", 0 <= self.dropout < 1),
            ("zoom", 0 <= self.zoom < 1),
            ("tone", 0 <= self.tone < 5),
            ("label_smoothing", 0 <= self.label_smoothing < 1),
        ):
            if not fits:
                raise UsageError(f"{name} {getattr(self, name)} is out of range.")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


PAPER_TRAINING_ERROR = 0.0422
"""What the paper reports after 30 epochs (section 3.1.2)."""

CHOICES = {
    "weights": ("paper", "he", "he-cvl"),
    "biases": ("paper", "zero"),
    "schedule": ("constant", "cosine"),
    "crop": ("centre", "random"),
    "precision": ("32-true", "bf16-mixed"),
}
"""The words an entry may take, where it takes words."""

PAPER = Recipe(
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

RECIPES = {recipe.name: recipe for recipe in (PAPER, PAPER_PRACTICAL, DEMO)}


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
