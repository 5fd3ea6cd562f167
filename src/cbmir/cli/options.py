"""Options that several verbs share."""

from __future__ import annotations

import math
from pathlib import Path

import click

from ..errors import UsageError

PathArgument = click.Path(path_type=Path)

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
gallery_option = click.option("--gallery", "directory", type=PathArgument, required=True)
runtime_option = click.option(
    "--runtime",
    type=click.Choice(["auto", "torch", "openvino"]),
    default="auto",
    show_default=True,
    help="What runs the network; auto is PyTorch beside a GPU, else OpenVINO where it is installed.",
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["auto", "f32", "bf16"]),
    default="auto",
    show_default=True,
    help="Arithmetic of the encoder; auto is bf16 where the processor has it.",
)
workers_option = click.option(
    "--workers", type=click.IntRange(0), help="Decoding processes; 0 decodes in this one. [default: one a core]"
)
frame_option = click.option(
    "--frame",
    type=click.IntRange(1),
    help="Frame of FILE, from 1. [default: the first readable one; of a volume the middle axial slice]",
)
set_option = click.option(
    "--set", "changes", multiple=True, metavar="NAME=VALUE", help="Change an entry of the recipe; may be repeated."
)


def window_of(text: str | None) -> tuple[float, float] | None:
    """CENTER,WIDTH as two numbers. Raises UsageError."""
    if text is None:
        return None
    try:
        center, width = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--window is CENTER,WIDTH, two numbers, not {text}") from None
    if not (math.isfinite(center) and math.isfinite(width)):
        raise UsageError(f"--window is CENTER,WIDTH, two finite numbers, not {text}")
    return center, width


def is_given(context: click.Context, name: str) -> bool:
    """Whether somebody wrote the option down."""
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def apart_of(text: str | None) -> tuple[str, str] | None:
    """COLUMN=VALUE as two texts. Raises UsageError."""
    if text is None:
        return None
    column, equals, value = text.partition("=")
    if not (column and equals and value):
        raise UsageError(f"--apart is COLUMN=VALUE, not {text}")
    return column, value
