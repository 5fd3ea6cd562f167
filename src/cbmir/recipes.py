"""Training recipes: every number of a training run, by name.

`paper` is section 3.1.2 to the letter. `paper-practical` is the same network, data and epochs, with what makes it
train in minutes; docs/reproduction.md has the measurement behind each change. `demo` is `paper-practical` cut short.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from .errors import UsageError


@dataclass(frozen=True)
class Recipe:
    """lr: learning rate; schedule: `constant`, or `cosine` to zero over all steps after a linear warm-up.

    weights, biases, mean, scale, dropout: see networks/dcnn.py. crop: `centre` as the paper, or a `random` place.
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
    flip: bool = False
    label_smoothing: float = 0.0
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


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
    lr=0.005,
    momentum=0.9,
    precision="bf16-mixed",
)
DEMO = replace(PAPER_PRACTICAL, name="demo", epochs=4)

RECIPES = {recipe.name: recipe for recipe in (PAPER, PAPER_PRACTICAL, DEMO)}


def recipe_named(name: str, **changes: Any) -> Recipe:
    """The recipe of that name, with the changes that are not None."""
    if name not in RECIPES:
        raise UsageError(f"there is no recipe '{name}': choose one of {', '.join(RECIPES)}")
    return replace(RECIPES[name], **{key: value for key, value in changes.items() if value is not None})
