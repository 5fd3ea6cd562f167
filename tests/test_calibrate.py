"""tau of the soft gate is the one that ranks the validation queries best."""

from __future__ import annotations

import numpy as np

from cbmir.calibrate import fit_soft_gate_tau

# One feature; the query at 0.5 is an eye, but a brain at 0.4 lies nearer than the eye at 1.
GALLERY = np.array([[0.4], [1.0], [5.0]], np.float32)
LABELS = ["brain", "eye", "knee"]
CLASSES = ("brain", "eye", "knee")
QUERY = np.array([[0.5]], np.float32)


def test_a_right_posterior_turns_the_gate_on() -> None:
    sure = np.array([[0.005, 0.99, 0.005]], np.float32)
    assert fit_soft_gate_tau(GALLERY, LABELS, QUERY, ["eye"], sure, CLASSES) > 0


def test_a_wrong_posterior_leaves_it_off() -> None:
    wrong = np.array([[0.005, 0.99, 0.005]], np.float32)
    assert fit_soft_gate_tau(GALLERY, LABELS, QUERY, ["brain"], wrong, CLASSES) == 0


def test_queries_with_nothing_relevant_decide_nothing() -> None:
    uniform = np.full((1, 3), 1 / 3, np.float32)
    assert fit_soft_gate_tau(GALLERY, LABELS, QUERY, ["hand"], uniform, CLASSES) == 0
