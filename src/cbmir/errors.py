"""What can go wrong, each as one sentence for the person who can act on it."""

from __future__ import annotations

from typing import Literal, get_args

Outcome = Literal["decoded", "partial", "not_an_image", "unsupported", "corrupt", "refused", "crashed", "timed_out"]
"""What became of a file."""

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
GIVING_IMAGES: tuple[Outcome, ...] = ("decoded", "partial")


class CbmirError(Exception):
    """The work could not be done (exit code 1). The text is one sentence, without a patient's name."""

    exit_code = 1


class UsageError(CbmirError):
    """The call was wrong: a value out of range, a path that is not there (exit code 2)."""

    exit_code = 2


class BadImage(CbmirError):
    """A file that does not become an image. `outcome` says of which kind; a batch goes on without it."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome: Outcome = outcome
        self.reason = reason

    def __reduce__(self) -> tuple[type[BadImage], tuple[Outcome, str]]:
        """Pickled with both arguments: it travels back from the worker processes."""
        return BadImage, (self.outcome, self.reason)


class BadManifest(UsageError):
    """A manifest, or a folder of classes, that cannot be used as it is."""


class BadEncoder(CbmirError):
    """An encoder that is missing, damaged, or not the one a gallery was made with."""


class BadGallery(CbmirError):
    """A gallery that is missing, damaged, or does not hold what was asked for."""
