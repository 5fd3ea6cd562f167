"""The command line: parse, call, print. It decides nothing, and imports what a verb needs only when it runs.

Every verb takes --json for one JSON document on stdout; progress and warnings go to stderr. Exit 0: done; 1: the work
could not be done; 2: the call was wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from . import __version__, console
from .errors import CbmirError, UsageError
from .types import GATES, HIDES, ImageRef

PathArgument = click.Path(path_type=Path)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
runtime_option = click.option(
    "--runtime",
    type=click.Choice(["auto", "torch", "openvino"]),
    default="auto",
    show_default=True,
    help="What runs the network; auto is PyTorch beside a GPU, else OpenVINO where it is installed.",
)
workers_option = click.option(
    "--workers", type=click.IntRange(0), help="Decoding processes; 0 decodes in this one. [default: one a core]"
)
set_option = click.option(
    "--set", "changes", multiple=True, metavar="NAME=VALUE", help="Change an entry of the recipe; may be repeated."
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["auto", "f32", "bf16"]),
    default="auto",
    show_default=True,
    help="Arithmetic of the encoder; auto is bf16 where the processor has it.",
)


def main() -> None:
    """The entry point. A user's mistake ends in one sentence and an exit code, never in a traceback."""
    try:
        sys.exit(cli(standalone_mode=False))
    except click.Abort:
        print("cbmir: interrupted; what was committed is kept, start again to go on.", file=sys.stderr)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except CbmirError as error:
        print(f"cbmir: {str(error).rstrip('.')}.", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:  # a full disk, a file where a folder should be
        print(f"cbmir: {error.filename or 'the disk'}: {error.strerror}.", file=sys.stderr)
        sys.exit(1)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def cli() -> None:
    """Content-based medical image retrieval. For research, not for diagnosis."""


@cli.command()
@click.argument("path", type=PathArgument)
@json_option
def info(path: Path, as_json: bool) -> None:
    """Say what a file, encoder or gallery is."""
    from .jobs import describe

    console.show(describe(path), as_json, console.pairs)


@cli.group()
def dataset() -> None:
    """Make a patient-wise split; check one for leakage."""


@dataset.command("split")
@click.argument("source", type=PathArgument)
@click.option("--out", type=PathArgument, required=True, help="The manifest to write, in the images' folder.")
@click.option("--test", "test_fraction", type=float, default=0.3, show_default=True, help="Part of the test side.")
@click.option("--folds", type=int, default=0, help="Also number so many folds inside the train side.")
@click.option("--group", type=click.Choice(["patient", "source"]), default="patient", show_default=True)
@click.option("--seed", type=int, default=24, show_default=True)
@click.option("--overwrite", is_flag=True)
@workers_option
@json_option
def dataset_split(source: Path, out: Path, test_fraction: float, as_json: bool, **options: Any) -> None:
    """Split labelled images patient by patient, the same share of each class. SOURCE: manifest or folder of classes."""
    from .dataset import make_split
    from .privacy import load_pseudonyms
    from .sources import labelled

    with console.progress("reading patients") as tell:
        report = make_split(
            labelled(source),
            out,
            load_pseudonyms(),
            test_fraction=test_fraction,
            n_folds=options["folds"],
            group=options["group"],
            seed=options["seed"],
            overwrite=options["overwrite"],
            workers=options["workers"],
            on_progress=tell,
        )
    console.show(report.as_dict(), as_json, lambda _: [*console.dataset_lines(report.counts), f"wrote {out}"])


@dataset.command("check")
@click.argument("source", type=PathArgument)
@workers_option
@json_option
def dataset_check(source: Path, workers: int | None, as_json: bool) -> None:
    """Count a data set and look for patients and pictures on both sides. Exit 1 on leakage."""
    from .dataset import check
    from .privacy import load_pseudonyms
    from .sources import labelled

    with console.progress("comparing") as tell:
        report = check(labelled(source), load_pseudonyms(), workers=workers, on_progress=tell)
    lines = [*console.dataset_lines(report.counts), *console.check_lines(report)]
    console.show(report.as_dict(), as_json, lambda _: lines)
    if report.leaking:
        sys.exit(1)


@cli.command()
@click.argument("source", type=PathArgument)
@click.option(
    "--recipe", "recipe_name", default="paper-practical", show_default=True, help="paper, paper-practical or demo."
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
@click.option("--epochs", type=click.IntRange(1), help="Instead of the recipe's.")
@set_option
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--seed", type=int, default=24, show_default=True)
@workers_option
@json_option
def train(source: Path, recipe_name: str, out: Path, as_json: bool, **options: Any) -> None:
    """Train the network on labelled images. SOURCE: manifest or folder of classes."""
    from .jobs import of_split
    from .privacy import load_pseudonyms
    from .recipes import recipe_named
    from .sources import labelled

    recipe = recipe_named(recipe_name, options["changes"], epochs=options["epochs"])
    refs = labelled(source)
    if any(ref.split for ref in refs):
        refs = of_split(refs, options["split"])
    from .train import train as run

    with console.progress("decoding") as decoding, console.training_progress() as training:
        report = run(
            refs,
            recipe,
            out,
            pseudonyms=load_pseudonyms(),
            validation_fraction=options["validation"],
            seed=options["seed"],
            separate_fcl3=options["fcl3"] == "separate",
            device=options["device"],
            workers=options["workers"],
            on_decode=decoding,
            on_progress=training,
        )
    console.show(report.as_dict(), as_json, console.training_lines)


@cli.command()
@click.argument("sources", type=PathArgument, nargs=-1, required=True)
@click.option("--gallery", "directory", type=PathArgument, required=True)
@click.option("--encoder", "encoder_name", help="Directory or name; needed for a new gallery. [default: pixels]")
@click.option("--split", help="Only the rows of this split.")
@click.option("--strict", is_flag=True, help="Exit 1 when a file could not be read.")
@runtime_option
@precision_option
@workers_option
@json_option
def index(sources: Sequence[Path], directory: Path, as_json: bool, **options: Any) -> None:
    """Bring a gallery up to date with files, folders or manifests. Killed, it goes on where it was."""
    from .jobs import index_into

    with console.progress("indexing") as tell:
        report = index_into(
            directory,
            sources,
            encoder_name=options["encoder_name"],
            runtime=options["runtime"],
            precision=options["precision"],
            split=options["split"],
            workers=options["workers"],
            on_progress=lambda done, total, _: tell(done, total),
        )
    console.show(report.as_dict(), as_json, console.index_lines)
    if options["strict"] and report.unreadable:
        sys.exit(1)


@cli.command()
@click.argument("file", type=PathArgument, required=False)
@click.option("--id", "record_id", help="Search with an image of the gallery instead of a file.")
@click.option("--gallery", "directory", type=PathArgument, required=True)
@click.option("-k", type=int, default=10, show_default=True, help="How many hits.")
@click.option("--gate", type=click.Choice(GATES), default="off", show_default=True, help="Use of the predicted class.")
@click.option("--layer", help="Features of which layer. [default: the encoder's first]")
@click.option("--hide-same", "hide", type=click.Choice(HIDES), default="patient", show_default=True)
@click.option("--frame", type=click.IntRange(1), default=1, show_default=True, help="Frame of a multi-frame FILE.")
@click.option("--encoder", "encoder_name", help="Where the gallery's encoder is now, if it has moved.")
@click.option("--strip", type=PathArgument, help="Also draw query and hits into this picture (.png or .svg).")
@json_option
def search(file: Path | None, record_id: str | None, directory: Path, as_json: bool, **options: Any) -> None:
    """Find the images most like a FILE, or like an image of the gallery (--id)."""
    from .gallery import Gallery

    if (file is None) == (record_id is None):
        raise UsageError("Give either a FILE or --id.")
    if options["strip"]:
        from .jobs import check_strip

        check_strip(options["strip"])
    wanted = {"k": options["k"], "layer": options["layer"], "gate": options["gate"], "hide": options["hide"]}
    with Gallery.open(directory) as gallery:
        if record_id is not None:
            ranking = gallery.search_id(record_id, **wanted)
        else:
            assert file is not None
            from .jobs import search_file

            ranking = search_file(
                gallery, file, frame_number=options["frame"], encoder_name=options["encoder_name"], **wanted
            )
        console.show(console.ranking_document(ranking), as_json, console.ranking_lines)
        if options["strip"]:
            from .jobs import draw_strip

            draw_strip(gallery, ranking, file, options["frame"], options["strip"])


@cli.command()
@click.argument("source", type=PathArgument)
@click.option("--out", type=PathArgument, required=True, help="Directory for metrics.json, figures and report.html.")
@click.option("--encoder", "encoder_name", help="Directory or name.")
@click.option("--relevant", default="class", show_default=True, help="The label column that says what is relevant.")
@click.option("--layer", "layers", multiple=True, help="Only this layer; may be repeated.")
@click.option("--gate", "gates", type=click.Choice(GATES), multiple=True, help="Only this gate; may be repeated.")
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
    from .sources import labelled

    with_encoder, with_folds = options["encoder_name"] is not None, options["n_folds"] is not None
    if with_encoder == with_folds:
        raise UsageError("Give either --encoder or --folds.")
    _refuse(context, FOR_ENCODER if with_folds else FOR_FOLDS, "--folds" if with_folds else "--encoder")
    refs = labelled(source)
    if with_folds:
        _cross_validate(refs, out, as_json, **options)
    else:
        _evaluate(refs, out, as_json, **options)


FOR_ENCODER = ("relevant", "layers", "gates", "runtime", "precision")
FOR_FOLDS = ("only", "recipe_name", "epochs", "validation", "changes")


def _refuse(context: click.Context, names: Sequence[str], beside: str) -> None:
    """Options that would be ignored are a mistake."""
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is click.core.ParameterSource.COMMANDLINE
        if parameter.name in names and given:
            raise UsageError(f"{parameter.opts[0]} has no meaning beside {beside}.")


def _evaluate(refs: list[ImageRef], out: Path, as_json: bool, **options: Any) -> None:
    from .encoder import load_encoder
    from .evaluate import evaluate_split
    from .privacy import load_pseudonyms
    from .report import write_report

    encoder = load_encoder(options["encoder_name"], runtime=options["runtime"], precision=options["precision"])
    out.mkdir(parents=True, exist_ok=True)
    with console.progress("extracting") as tell:
        evaluation = evaluate_split(
            refs,
            encoder,
            load_pseudonyms(),
            relevant=options["relevant"],
            layers=options["layers"] or None,
            gates=options["gates"] or None,
            apart=_apart(options["apart"]),
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
    from .crossval import cross_validate
    from .jobs import of_split
    from .recipes import recipe_named

    train_side = of_split(refs, "train") if any(ref.split for ref in refs) else refs
    with console.progress("working") as tell, console.training_progress() as training:
        report = cross_validate(
            train_side,
            recipe_named(options["recipe_name"], options["changes"], epochs=options["epochs"]),
            out,
            n_folds=options["n_folds"],
            only=options["only"],
            validation_fraction=options["validation"],
            apart=_apart(options["apart"]),
            workers=options["workers"],
            on_progress=tell,
            on_training=training,
        )
    console.show({"report": str(report)}, as_json, lambda _: [f"wrote {report}"])


@cli.command()
@click.option("--gallery", "directory", type=PathArgument, required=True)
@json_option
def verify(directory: Path, as_json: bool) -> None:
    """Compare files, records, features and search matrices of a gallery. Exit 1 when something is wrong."""
    from .gallery import Gallery

    with Gallery.open(directory) as gallery:
        found = gallery.verify()
    console.show(found, as_json, lambda f: f["problems"] or [f"{f['records']} records, nothing wrong"])
    if not found["ok"]:
        sys.exit(1)


@cli.command()
@click.argument("source", type=PathArgument, required=False)
@click.option("--out", type=PathArgument, default=Path("out/demo"), show_default=True)
@click.option("--encoder", "encoder_name", help="Use this encoder instead of training one.")
@workers_option
@json_option
def demo(source: Path | None, out: Path, encoder_name: str | None, workers: int | None, as_json: bool) -> None:
    """The whole job on SOURCE, or on the DICOM files that come with pydicom: index, search, evaluate, report."""
    from .demo import run_demo

    with console.progress("working") as tell, console.training_progress() as training:
        result = run_demo(
            source,
            out,
            encoder_name=encoder_name,
            workers=workers,
            on_progress=tell,
            on_training=training,
            say=lambda line: click.echo(line, err=True),
        )
    console.show(result, as_json, console.demo_lines)


def _apart(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    column, equals, value = text.partition("=")
    if not (column and equals and value):
        raise UsageError(f"--apart is COLUMN=VALUE, not {text}")
    return column, value
