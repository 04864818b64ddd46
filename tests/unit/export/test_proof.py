"""The proof of an export: what it counts, says and refuses."""

import numpy as np
import pytest
from numpy.typing import NDArray

from image_classifier.evaluation.predictions import Evaluation
from image_classifier.export.proof import Form, Proof
from image_classifier.system.errors import UserError

LABELS = np.arange(1000) % 2


def form(name: str, probabilities: NDArray[np.float64], milliseconds: float = 1, num_bytes: int = 1000) -> Form:
    return Form(name, Evaluation(("even", "odd"), LABELS, probabilities), milliseconds, num_bytes)


def answers(num_wrong: int) -> NDArray[np.float64]:
    """Probabilities for LABELS of which the first ones are wrong."""
    right = np.where(np.arange(1000) < num_wrong, 0.2, 0.9)
    return np.where(np.arange(2) == LABELS[:, np.newaxis], right[:, np.newaxis], 1 - right[:, np.newaxis])


TRAINED = form("PyTorch", answers(50))


def test_a_difference_within_the_tolerance_is_stated_and_a_larger_one_refused() -> None:
    near = form("ONNX float32", answers(50) + np.array([3e-6, -3e-6]))
    proof = Proof(TRAINED, TRAINED, near)
    proof.require(tolerance=1e-5, most_points=0)
    assert "none got another class, and no probability differs by more than 3e-06" in proof.verdict()
    with pytest.raises(UserError, match=r"differs by 3e-06; export.tolerance allows 1e-06, so nothing was written"):
        proof.require(tolerance=1e-6, most_points=100)


def test_the_cost_of_8_bits_is_in_points_with_its_interval_and_refused_above_the_limit() -> None:
    source = form("ONNX float32", answers(50), milliseconds=4.2, num_bytes=3900)
    proof = Proof(TRAINED, source, form("ONNX int8", answers(62), milliseconds=2))
    assert proof.verdict() == (
        "ONNX int8 gets 1.20 points fewer right, 95 % interval -2.03 to -0.48, more than chance (p = 0.00049). Against "
        "ONNX float32, its file is 3.9x smaller, and one image takes 2.1x less time here."
    )
    proof.require(tolerance=0, most_points=1.3)
    with pytest.raises(UserError, match=r"costs 1.20 points of accuracy; export.int8_points allows 1, so nothing"):
        proof.require(tolerance=1, most_points=1)


def test_the_table_has_a_column_for_each_form_and_counts_other_classes() -> None:
    proof = Proof(TRAINED, form("ONNX float32", answers(50)), form("ONNX int8", answers(62)))
    rows = {row[0]: row[1:] for row in proof.rows()}
    assert rows[""] == ("PyTorch", "ONNX float32", "ONNX int8")
    assert rows["right"] == ("950 of 1,000", "950 of 1,000", "938 of 1,000")
    assert rows["images with another class"] == ("", "0", "12")
    assert proof.facts()["only_trained_right"] == 12
