"""Data sets: patient-wise splits and folds, manifests, and the check for leakage and near-duplicates."""

from .check import CheckReport, check
from .splits import SplitReport, folds, keep_back, make_split, split, with_patients, write_manifest

__all__ = [
    "CheckReport",
    "SplitReport",
    "check",
    "folds",
    "keep_back",
    "make_split",
    "split",
    "with_patients",
    "write_manifest",
]
