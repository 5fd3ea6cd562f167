"""What was found, for people: pages that need nothing else, tables, figures.

    write_report(metrics, out_dir, examples=..., samples=..., pictures=...) -> out_dir/report.html
    write_cross_validation_report, write_search_report: the page of a cross-validation, of a gallery without labels
    write_index_report(report, path): the page of an index run

They load their modules when first used: the page of an index run needs no figures, and no matplotlib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .evaluation import write_cross_validation_report, write_report, write_search_report
    from .index_run import write_index_report

__all__ = ["write_cross_validation_report", "write_index_report", "write_report", "write_search_report"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'cbmir.report' has no attribute '{name}'")
    home = "index_run" if name == "write_index_report" else "evaluation"
    return getattr(import_module(f".{home}", __name__), name)
