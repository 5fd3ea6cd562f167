"""Tables for other programs, written batch by batch: CSV, and Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

import numpy as np

from .errors import UsageError

ColumnType = Literal["text", "whole number", "number", "features"]

TABLE_SUFFIXES = (".csv", ".parquet")

ROW_GROUP = 4096
"""Rows of a Parquet file that are written together: 64 MB of 4,096 features."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How a cell begins that a spreadsheet takes for a formula, the last four in full width (OWASP, CSV Injection)."""


class _Form(Protocol):
    def write(self, columns: Sequence[Sequence[Any]]) -> None: ...
    def close(self) -> None: ...


class TableFile:
    """Open in a `with`; the file is there when the block ends well, and an older one is replaced then.

    columns: name -> what is in it; None is an empty cell. features: float32 (n, dim), in CSV as one column a number.
    dim: of the features. Raises UsageError for another suffix than .csv and .parquet, and for Parquet without pyarrow.
    """

    def __init__(self, path: Path, columns: Mapping[str, ColumnType], dim: int = 0) -> None:
        self.path = path
        self._columns, self._dim = columns, dim
        self._new = path.with_name(path.name + ".new")
        check_table(path)

    def __enter__(self) -> TableFile:
        form = _Csv if self.path.suffix.lower() == ".csv" else _Parquet
        self._form: _Form = form(self._new, self._columns, self._dim)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._form.close()
            if kind is None:
                os.replace(self._new, self.path)
        finally:
            self._new.unlink(missing_ok=True)

    def write(self, columns: Mapping[str, Any]) -> None:
        """Some rows: for every column a sequence of the same length."""
        self._form.write([columns[name] for name in self._columns])


def check_table(path: Path) -> None:
    """Raises UsageError, before any work is done, for a path that no table can be written to."""
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise UsageError(f"A table is a .csv or a .parquet file, not {path.name}.")
    check_place(path)
    if path.suffix.lower() == ".parquet":
        _pyarrow()


def check_place(path: Path) -> None:
    """Raises UsageError for a path that no file can be written to."""
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise UsageError(f"{path} cannot be written: its folder is not there, or it is one.")


def harmless(cell: Any) -> Any:
    """A cell of text that no spreadsheet runs: one that begins as a formula does gets an apostrophe before it."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A small table as a file of it would be."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    for row in (header, *rows):
        writer.writerow([harmless(cell) for cell in row])
    return text.getvalue()


class _Csv:
    def __init__(self, path: Path, columns: Mapping[str, ColumnType], dim: int) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file)
        self._types = list(columns.values())
        header = [
            [f"{name}_{number}" for number in range(dim)] if kind == "features" else [name]
            for name, kind in columns.items()
        ]
        self._writer.writerow([harmless(name) for names in header for name in names])

    def write(self, columns: Sequence[Sequence[Any]]) -> None:
        for row in zip(*columns, strict=True):
            cells: list[Any] = []
            for cell, kind in zip(row, self._types, strict=True):
                cells += map(str, cell) if kind == "features" else [harmless(cell)]
            self._writer.writerow(cells)

    def close(self) -> None:
        self._file.close()


class _Parquet:
    """Batches are gathered into row groups: a reader pays for each of them."""

    def __init__(self, path: Path, columns: Mapping[str, ColumnType], dim: int) -> None:
        import pyarrow.parquet

        arrow = _pyarrow()
        types = {
            "text": arrow.string(),
            "whole number": arrow.int64(),
            "number": arrow.float64(),
            "features": arrow.list_(arrow.float32(), dim),
        }
        self._schema = arrow.schema([(name, types[kind]) for name, kind in columns.items()])
        self._writer = pyarrow.parquet.ParquetWriter(path, self._schema)
        self._waiting: list[Any] = []

    def write(self, columns: Sequence[Sequence[Any]]) -> None:
        arrow = _pyarrow()
        arrays = []
        for column, field in zip(columns, self._schema, strict=True):
            if arrow.types.is_fixed_size_list(field.type):
                flat = arrow.array(np.asarray(column, np.float32).ravel())
                arrays.append(arrow.FixedSizeListArray.from_arrays(flat, field.type.list_size))
            else:
                arrays.append(arrow.array(column, field.type))
        self._waiting.append(arrow.Table.from_arrays(arrays, schema=self._schema))
        if sum(map(len, self._waiting)) >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(_pyarrow().concat_tables(self._waiting))
            self._waiting = []

    def close(self) -> None:
        self._flush()
        self._writer.close()


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise UsageError("Parquet needs pyarrow: pip install 'cbmir[parquet]', or write a .csv.") from None
    return pyarrow
