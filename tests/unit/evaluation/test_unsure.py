"""The promise of "unsure": at least so many of the answers that are given are right."""

import numpy as np
import pytest
from numpy.random import Generator

from image_classifier.evaluation.predictions import Evaluation
from image_classifier.evaluation.unsure import at_threshold, find_threshold, images_needed, risk_by_coverage

WANTED = 0.95


def drawn(random: Generator, count: int, lowest: float, highest: float) -> Evaluation:
    """Answers with a confidence of 0.5 to 1, whose chance to be right rises from `lowest` to `highest` with it."""
    confidence = random.uniform(0.5, 1, count)
    right = random.random(count) < lowest + (highest - lowest) * (2 * confidence - 1)
    return answers(confidence, right)


def answers(confidence: np.ndarray, right: np.ndarray) -> Evaluation:
    return Evaluation(("a", "b"), np.where(right, 0, 1), np.stack([confidence, 1 - confidence], axis=1))


def test_the_promise_is_kept_in_95_of_100_draws_of_held_out_images() -> None:
    random, broken, found = np.random.default_rng(0), 0, 0
    for _ in range(300):
        threshold = find_threshold(drawn(random, 5000, 0.8, 1.0), WANTED)
        if threshold is not None:
            found += 1
            true_accuracy = 0.8 + 0.2 * max(threshold, 0.5)  # of the answers above it, which lie evenly up to 1
            broken += true_accuracy < WANTED
    assert found > 285
    assert broken / 300 <= 0.05


def test_trying_many_thresholds_is_paid_for() -> None:
    # All confidences are slightly less often right than is wanted, so every threshold breaks the promise.
    random = np.random.default_rng(1)
    found = [find_threshold(drawn(random, 500, WANTED - 0.001, WANTED - 0.001), WANTED) for _ in range(300)]
    assert np.mean([threshold is not None for threshold in found]) <= 0.05


def test_fewer_images_than_are_needed_show_nothing_even_if_all_are_right() -> None:
    needed = images_needed(WANTED)
    for count, threshold in ((needed, 0.0), (needed - 1, None)):
        assert find_threshold(answers(np.linspace(0.6, 0.9, count), np.ones(count, bool)), WANTED) == threshold
    assert images_needed(0.99) == 597  # 0.99^597 is 0.0025, which is 5 % of 1 in 20


def test_equal_confidences_are_all_answered_or_all_unsure() -> None:
    held_out = answers(np.repeat([0.6, 0.9], 400), np.repeat([False, True], 400))
    threshold = find_threshold(held_out, WANTED)
    assert threshold == 0.6
    assert at_threshold(held_out, threshold) == {"threshold": 0.6, "answered": 0.5, "accuracy": 1.0}
    assert at_threshold(held_out, 1.0) == {"threshold": 1.0, "answered": 0.0}


def test_the_curve_of_risk_ends_at_the_share_of_all_mistakes() -> None:
    coverage, risk = risk_by_coverage(answers(np.array([0.6, 0.9, 0.8, 0.7]), np.array([False, True, True, False])))
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert risk.tolist() == pytest.approx([0, 0, 1 / 3, 1 / 2])
