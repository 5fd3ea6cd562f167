"""The command line: parse, call, print. It decides nothing, and imports what a verb needs only when it runs.

Every verb takes --json for one JSON document on stdout; progress and warnings go to stderr. Exit 0: done; 1: the work
could not be done; 2: the call was wrong.
"""

from __future__ import annotations

import os
import sys
import traceback

import click

from .. import __version__
from ..errors import CbmirError
from .benchmark import benchmark
from .dataset import dataset
from .explaining import explain
from .gallery import accelerate, files, index, info, render
from .learning import demo, evaluate, train
from .searching import search
from .serving import serve
from .upkeep import backup, export, reindex, remove, restore, verify

__all__ = ["cli", "main"]

DEBUG = "CBMIR_DEBUG"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def cli() -> None:
    """Content-based medical image retrieval. For research, not for diagnosis."""


for _verb in (
    *(info, dataset, train, index, search, explain, evaluate, benchmark, render, files),
    *(remove, reindex, verify, backup, restore, export, accelerate, demo, serve),
):
    cli.add_command(_verb)


def main() -> None:
    """The entry point. What goes wrong ends in one sentence and an exit code, never in a traceback, which may quote
    names of patients: that one is shown only where CBMIR_DEBUG=1 asks for it.
    """
    try:
        sys.exit(cli(standalone_mode=False))
    except click.Abort:
        _leave("interrupted; what was committed is kept, start again to go on", 130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except CbmirError as error:
        _leave(str(error), error.exit_code)
    except OSError as error:  # a full disk, a file where a folder should be
        _leave(f"{_typed(error.filename)}: {error.strerror or type(error).__name__}", 1)
    except MemoryError:
        _leave("there is not enough memory: try fewer --workers", 1)
    except Exception as error:
        _leave(
            f"an internal error ({type(error).__name__}), please report it; with {DEBUG}=1 in the environment it is "
            "shown where, and perhaps names of patients",
            1,
        )


def _leave(sentence: str, exit_code: int) -> None:
    if os.environ.get(DEBUG) == "1":
        traceback.print_exc()
    print(f"cbmir: {sentence.rstrip('.')}.", file=sys.stderr)
    sys.exit(exit_code)


def _typed(name: object) -> str:
    """A path as it was typed, when it is of no file that is there; of others nothing is said."""
    words = {word for typed in sys.argv[1:] for word in (typed, typed.partition("=")[2])}
    known = str(name) in words and not os.path.isfile(str(name))
    return str(name) if known else "a file or folder cannot be used"
