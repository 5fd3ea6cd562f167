"""Classification metrics: plain NumPy on a confusion matrix."""

from __future__ import annotations

import numpy as np

from ..types import Int
from .ranked import Float
from .statistics import draw_patients


def confusion_matrix(truth: Int, predicted: Int, n_classes: int, weights: Float | None = None) -> Float:
    """Counts (n_classes, n_classes): labels in rows, predicted in columns. weights: (n,), 1 without them."""
    cells = np.bincount(truth * n_classes + predicted, weights=weights, minlength=n_classes * n_classes)
    return cells.reshape(n_classes, n_classes).astype(np.float64)


def classification(confusion: Float) -> dict[str, float]:
    """top1, macro_precision (eq. 6), macro_recall (eq. 7 mended), accuracy_eq8, F1 (eq. 9) of a confusion.

    Classes that no image has are left out of the means over classes. An empty matrix is all 0.
    """
    total, true_positive = confusion.sum(), np.diag(confusion)
    labelled, called = confusion.sum(axis=1), confusion.sum(axis=0)
    present = labelled > 0
    if total == 0:
        return dict.fromkeys(("top1", "macro_precision", "macro_recall", "F1", "accuracy_eq8"), 0.0)
    precision = np.divide(true_positive, called, out=np.zeros_like(called), where=called > 0)[present].mean()
    recall = (true_positive[present] / labelled[present]).mean()
    wrong = (called + labelled - 2 * true_positive)[present]  # FP + FN
    harmonic = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    return {
        "top1": float(true_positive.sum() / total),
        "macro_precision": float(precision),
        "macro_recall": float(recall),
        "F1": float(harmonic),
        "accuracy_eq8": float((1 - wrong / total).mean()),
    }


def bootstrap_classification(
    truth: Int, predicted: Int, n_classes: int, patients: Int, *, draws: int = 1000, seed: int = 0
) -> dict[str, Float]:
    """The classification metrics in each bootstrap draw of patients: name -> float64 (draws,)."""
    _, codes = np.unique(patients, return_inverse=True)
    rows = [
        classification(confusion_matrix(truth, predicted, n_classes, weights[codes]))
        for block in draw_patients(int(codes.max(initial=-1)) + 1, draws, seed)
        for weights in block
    ]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}
