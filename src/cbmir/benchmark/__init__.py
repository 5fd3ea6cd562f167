"""Every method on the same images under the same protocol: the comparison that the paper could not make.

run_benchmark(refs, out, Settings(methods), pseudonyms) -> dict     fits, measures, resumes; writes benchmark.json
write_table(told, out)                                              table.csv; report.benchmark writes the rest
"""

from __future__ import annotations

from ..types import PROTOCOLS, Protocol
from .protocols import Fold, Plan, plan
from .run import Settings, run_benchmark
from .table import write_table

__all__ = ["PROTOCOLS", "Fold", "Plan", "Protocol", "Settings", "plan", "run_benchmark", "write_table"]
