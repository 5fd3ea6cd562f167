"""The verbs that train and measure, and the demo that does the whole job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from .. import console
from ..errors import UsageError
from ..types import GATES, RERANKS, ImageRef
from .options import (
    PathArgument,
    apart_of,
    is_given,
    json_option,
    precision_option,
    runtime_option,
    set_option,
    workers_option,
)


@click.command()
@click.argument("source", type=PathArgument)
@click.option(
    "--recipe",
    "recipe_name",
    default="paper-practical",
    show_default=True,
    help="paper, paper-practical, demo, or ours: the compact network, trained to rank.",
)
@click.option("--out", type=PathArgument, required=True, help="Directory of the encoder; a killed run goes on there.")
@click.option("--split", default="train", show_default=True, help="Rows to train on, when it has splits.")
@click.option("--validation", type=click.FloatRange(0, 0.9), default=0.1, show_default=True, help="Part of patients.")
@click.option(
    "--fcl3",
    type=click.Choice(["separate", "output"]),
    default="separate",
    show_default=True,
    help="Reading of FCL3: its own 4096 neurons, or the output layer.",
)
@click.option(
    "--from", "start", metavar="ENCODER|ONNX", help="Recipe ours: start from this encoder, or an ImageNet MobileNetV2."
)
@click.option("--freeze", is_flag=True, help="Recipe ours: keep the network of --from, fit its last layers only.")
@click.option("--extra", type=PathArgument, help="Recipe ours: manifest or folder of more images to learn from.")
@click.option("--epochs", type=click.IntRange(1), help="Instead of the recipe's.")
@set_option
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--seed", type=int, default=24, show_default=True)
@workers_option
@json_option
def train(source: Path, recipe_name: str, out: Path, as_json: bool, **options: Any) -> None:
    """Train the network on labelled images. SOURCE: manifest or folder of classes."""
    from ..jobs import of_split
    from ..privacy import load_pseudonyms
    from ..recipes import recipe_named
    from ..sources import labelled, open_source

    recipe = recipe_named(recipe_name, options["changes"], epochs=options["epochs"])
    refs = labelled(source)
    if any(ref.split for ref in refs):
        refs = of_split(refs, options["split"])
    from ..train import train as run

    with console.progress("decoding") as decoding, console.training_progress() as training:
        report = run(
            refs,
            recipe,
            out,
            pseudonyms=load_pseudonyms(),
            validation_fraction=options["validation"],
            seed=options["seed"],
            start=options["start"],
            freeze=options["freeze"],
            extra=[] if options["extra"] is None else list(open_source(options["extra"])),
            separate_fcl3=options["fcl3"] == "separate",
            device=options["device"],
            workers=options["workers"],
            on_decode=decoding,
            on_progress=training,
        )
    console.show(report.as_dict(), as_json, console.training_lines)


@click.command()
@click.argument("source", type=PathArgument)
@click.option("--out", type=PathArgument, required=True, help="Directory for metrics.json, figures and report.html.")
@click.option("--encoder", "encoder_name", help="Directory or name. [default: default]")
@click.option("--relevant", default="class", show_default=True, help="The label column that says what is relevant.")
@click.option("--layer", "layers", multiple=True, help="Only this layer; may be repeated.")
@click.option("--gate", "gates", type=click.Choice(GATES), multiple=True, help="Only this gate; may be repeated.")
@click.option(
    "--rerank", type=click.Choice(RERANKS), default="none", show_default=True, help="Re-rank as `search --rerank` does."
)
@runtime_option
@precision_option
@click.option("--folds", "n_folds", type=int, help="Instead: cross-validate a recipe by patient on the train side.")
@click.option("--fold", "only", type=click.IntRange(1), help="With --folds: only this one.")
@click.option("--recipe", "recipe_name", default="paper-practical", show_default=True, help="With --folds.")
@click.option("--epochs", type=click.IntRange(1), help="With --folds: instead of the recipe's.")
@click.option("--validation", type=click.FloatRange(0, 0.9), default=0.0, show_default=True, help="With --folds.")
@set_option
@click.option("--apart", help="COLUMN=VALUE: report these queries apart, e.g. source=usanotai.")
@workers_option
@json_option
@click.pass_context
def evaluate(context: click.Context, /, source: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Measure an encoder on a manifest's split: gallery = train, queries = test. Or, with --folds, a recipe."""
    from ..sources import labelled

    with_folds = options["n_folds"] is not None
    _refuse(context, FOR_ENCODER if with_folds else FOR_FOLDS, "--folds" if with_folds else "--encoder")
    refs = labelled(source)
    if with_folds:
        _cross_validate(refs, out, as_json, **options)
    else:
        _evaluate(refs, out, as_json, **options)


FOR_ENCODER = ("encoder_name", "relevant", "layers", "gates", "rerank", "runtime", "precision")
FOR_FOLDS = ("only", "recipe_name", "epochs", "validation", "changes")


def _refuse(context: click.Context, names: Sequence[str], beside: str) -> None:
    """Options that would be ignored are a mistake."""
    for parameter in context.command.params:
        if parameter.name in names and is_given(context, parameter.name):
            raise UsageError(f"{parameter.opts[0]} has no meaning beside {beside}.")


def _evaluate(refs: list[ImageRef], out: Path, as_json: bool, **options: Any) -> None:
    from ..encoder import load_encoder
    from ..evaluate import evaluate_split
    from ..privacy import load_pseudonyms
    from ..report import write_report

    name = options["encoder_name"] or "default"
    encoder = load_encoder(name, runtime=options["runtime"], precision=options["precision"])
    out.mkdir(parents=True, exist_ok=True)
    with console.progress("extracting") as tell:
        evaluation = evaluate_split(
            refs,
            encoder,
            load_pseudonyms(),
            relevant=options["relevant"],
            layers=options["layers"] or None,
            gates=options["gates"] or None,
            rerank=options["rerank"],
            apart=apart_of(options["apart"]),
            workers=options["workers"],
            on_progress=tell,
        )
    report = write_report(
        evaluation.metrics,
        out,
        examples=evaluation.examples,
        samples=evaluation.samples,
        pictures=evaluation.pictures,
    )
    console.show(evaluation.metrics, as_json, lambda m: [*console.evaluation_lines(m), f"wrote {report}"])


def _cross_validate(refs: list[ImageRef], out: Path, as_json: bool, **options: Any) -> None:
    from ..crossval import cross_validate
    from ..jobs import of_split
    from ..recipes import recipe_named

    train_side = of_split(refs, "train") if any(ref.split for ref in refs) else refs
    with console.progress("working") as tell, console.training_progress() as training:
        report = cross_validate(
            train_side,
            recipe_named(options["recipe_name"], options["changes"], epochs=options["epochs"]),
            out,
            n_folds=options["n_folds"],
            only=options["only"],
            validation_fraction=options["validation"],
            apart=apart_of(options["apart"]),
            workers=options["workers"],
            on_progress=tell,
            on_training=training,
        )
    console.show({"report": str(report)}, as_json, lambda _: [f"wrote {report}"])


@click.command()
@click.argument("source", type=PathArgument, required=False)
@click.option("--out", type=PathArgument, default=Path("out/demo"), show_default=True)
@click.option("--encoder", "encoder_name", help="Directory or name. [default: default]")
@click.option("--recipe", "recipe_name", help="Train an encoder by it first, and use that one: demo is a short run.")
@click.option(
    "--classes-from-folders",
    "class_folders",
    is_flag=True,
    help="SOURCE has no manifest, but one folder per class. Class names are kept as they are: none may name a patient.",
)
@workers_option
@json_option
def demo(source: Path | None, out: Path, as_json: bool, **options: Any) -> None:
    """The whole job on SOURCE, or on the DICOM files that come with pydicom: index, search, evaluate, report.

    Evaluation and --recipe need classes: of a manifest, or of folders where --classes-from-folders says so.
    """
    from ..demo import run_demo
    from ..recipes import recipe_named

    encoder_name, recipe_name = options.pop("encoder_name"), options.pop("recipe_name")
    if encoder_name is not None and recipe_name is not None:
        raise UsageError("Give --encoder or --recipe: an encoder that is there, or one to be trained.")

    with console.progress("working") as tell, console.training_progress() as training:
        result = run_demo(
            source,
            out,
            **options,
            encoder_name=encoder_name or "default",
            recipe=None if recipe_name is None else recipe_named(recipe_name),
            on_progress=tell,
            on_training=training,
            say=lambda line: click.echo(line, err=True),
        )
    console.show(result, as_json, console.demo_lines)
