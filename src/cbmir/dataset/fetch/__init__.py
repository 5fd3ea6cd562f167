"""Data sets drawn from public collections by a recipe: read it, plan it, fetch it."""

from .idc import Fetch, download, load_index
from .plan import Draw, Plan, Total, make_plan
from .recipe import BadRecipe, Recipe, parse_recipe, read_recipe, recipe_names
from .run import FetchReport, run_plan

__all__ = [
    "BadRecipe",
    "Draw",
    "Fetch",
    "FetchReport",
    "Plan",
    "Recipe",
    "Total",
    "download",
    "load_index",
    "make_plan",
    "parse_recipe",
    "read_recipe",
    "recipe_names",
    "run_plan",
]
