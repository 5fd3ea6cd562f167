"""Many classes out of two-class machines, and a posterior that tells how sure they are."""

from __future__ import annotations

import numpy as np
import pytest

from cbmir.baselines._svm import Plan, Svm, binary_tree, couple, fit_svm, held_out, one_against_one
from cbmir.types import Float32

PLANS: tuple[Plan, Plan] = ("one against one", "tree")
CENTRES = np.array([[0, 0], [0, 4], [9, 0], [9, 4]], np.float32)


def clouds(per_class: int = 20, spread: float = 0.7, seed: int = 0) -> tuple[Float32, list[str], list[str]]:
    """Points around CENTRES, their classes a to d, and patients of two points each."""
    rng = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(4), per_class)
    points = CENTRES[numbers] + rng.normal(0, spread, (len(numbers), 2))
    return points.astype(np.float32), ["abcd"[k] for k in numbers], [f"p{i // 2}" for i in range(len(numbers))]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_points_beside_a_centre_belong_to_its_class(plan: Plan, gamma: float) -> None:
    points, labels, patients = clouds()
    svm = fit_svm(points, labels, patients, plan=plan, gamma=gamma, seed=1)
    posterior = svm.posterior(CENTRES)
    assert svm.classes == ("a", "b", "c", "d")
    assert posterior.argmax(axis=1).tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(posterior.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("plan", PLANS)
def test_the_machines_decide_as_those_of_scikit_learn(plan: Plan) -> None:
    from sklearn.svm import SVC

    points, labels, patients = clouds()
    svm = fit_svm(points, labels, patients, plan=plan, gamma=1.0, seed=1)
    x = (points - svm.mean) * svm.scale
    sides = svm.codes[[("a", "b", "c", "d").index(label) for label in labels], 0]
    theirs = SVC(C=10, gamma=1.0, class_weight="balanced").fit(x[sides != 0], sides[sides != 0])
    kernel = np.exp(-((x[:, None] - svm.supports[None]) ** 2).sum(axis=-1))
    ours = kernel @ svm.weights[:, 0] + svm.bias[0]
    np.testing.assert_allclose(ours, theirs.decision_function(x), atol=1e-2)


@pytest.mark.parametrize("plan", PLANS)
def test_a_posterior_is_as_sure_as_it_is_right(plan: Plan) -> None:
    points, labels, patients = clouds(200, spread=2.5)
    svm = fit_svm(points, labels, patients, plan=plan, gamma=1.0, seed=1)
    points, labels, _ = clouds(200, spread=2.5, seed=7)
    posterior = svm.posterior(points)
    right = np.mean([svm.classes[k] == label for k, label in zip(posterior.argmax(axis=1), labels, strict=True)])
    assert float(posterior.max(axis=1).mean()) == pytest.approx(right, abs=0.1)


def test_one_against_one_has_a_machine_per_pair() -> None:
    assert one_against_one(3).T.tolist() == [[1, -1, 0], [1, 0, -1], [0, 1, -1]]


def test_the_tree_parts_the_farthest_classes_first() -> None:
    codes = binary_tree(CENTRES, np.arange(4), 4)
    assert codes.shape == (4, 3)
    first = codes[:, 0]
    assert first[0] == first[1] == -first[2] == -first[3]
    assert sorted(np.abs(codes).sum(axis=0).tolist()) == [2, 2, 4]


def test_a_tree_of_classes_in_one_place_still_has_a_leaf_for_each() -> None:
    codes = binary_tree(np.zeros((3, 2), np.float32), np.arange(3), 3)
    assert codes.shape == (3, 2)
    assert len({tuple(row) for row in codes.tolist()}) == 3


def test_the_posterior_of_a_tree_is_the_product_along_the_path() -> None:
    codes = np.array([[1, 0], [-1, 1], [-1, -1]], np.int8)
    found = couple(np.array([[np.log(3), 0.0]]), codes, "tree", 1.0)  # sigmoid(log 3) = 3/4
    np.testing.assert_allclose(found, [[3 / 4, 1 / 8, 1 / 8]])


def test_one_against_one_is_a_softmax_of_votes() -> None:
    decisions = np.array([[1.0, 1.0, 0.0]])  # a beats b and c; b and c draw
    found = couple(decisions, one_against_one(3), "one against one", 1.0)
    votes = np.array([2, 0.5, 0.5])
    np.testing.assert_allclose(found[0], np.exp(votes) / np.exp(votes).sum())


def test_held_out_patients_are_whole_and_leave_something_of_each_class() -> None:
    numbers = np.array([0] * 8 + [1] * 2 + [2] * 4)
    patients = np.array(["a", "a", "b", "b", "c", "c", "d", "d", "e", "e", "f", "f", "g", "g"])
    held = held_out(numbers, patients, np.random.default_rng(0))
    assert {patient: held[patients == patient].all() for patient in patients} == {
        patient: held[patients == patient].any() for patient in patients
    }
    assert [int(held[numbers == k].sum()) for k in (0, 1, 2)] == [2, 0, 2]  # e is all there is of class 1


def test_what_is_saved_gives_the_same_posterior() -> None:
    points, labels, patients = clouds()
    svm = fit_svm(points, labels, patients, plan="tree", gamma=1.0, seed=1)
    again = Svm.from_arrays(svm.arrays() | {"classes": np.array(svm.classes)})
    np.testing.assert_array_equal(again.posterior(points), svm.posterior(points))
    assert again.plan == "tree"


def test_many_images_are_drawn_from_but_no_class_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbmir.baselines._svm.MOST_IMAGES", 8)
    points, labels, patients = clouds()
    svm = fit_svm(
        np.vstack([points, [[40, 40]]]).astype(np.float32),
        [*labels, "e"],
        [*patients, "last"],
        plan="tree",
        gamma=1.0,
        seed=1,
    )
    assert svm.classes == ("a", "b", "c", "d", "e")
    assert len(svm.supports) <= 8 + 5
