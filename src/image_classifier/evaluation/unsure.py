"""When to say "unsure": at a confidence where too few of the answers would be right.

Source: Geifman and El-Yaniv 2017, arXiv:1705.08500, whose bound of a share is that of Clopper and Pearson 1934. They
search by bisection. Here a fixed number of thresholds is tried, which share the risk equally (Bonferroni), so that the
promise holds for whichever is chosen.
"""

from math import ceil, log

import numpy as np
from numpy.typing import NDArray

from image_classifier.evaluation.predictions import Evaluation
from image_classifier.evaluation.statistics import LEVEL

TRIED = 20  # thresholds: at which 5 %, 10 %, … 100 % of the images get an answer
RISK = (1 - LEVEL) / TRIED  # that one of them promises too much


def images_needed(wanted_accuracy: float) -> int:
    """The fewest held-out images that can show such an accuracy: so many right answers, and no wrong one."""
    return ceil(log(RISK) / log(wanted_accuracy))


def find_threshold(held_out: Evaluation, wanted_accuracy: float) -> float | None:
    """The lowest threshold with the wanted accuracy: a confidence, 0 to 1, that an answer must exceed.

    With a probability of LEVEL over the choice of the held-out images, at least `wanted_accuracy` of all answers above
    it are right, for images drawn as these were. None if no threshold promises that.
    """
    from scipy.stats import beta  # takes 1 s

    best_first, total = np.sort(held_out.confidence)[::-1], len(held_out.labels)
    for number in range(TRIED, 0, -1):
        count = number * total // TRIED
        threshold = 0.0 if count == total else float(best_first[count])
        right = held_out.right[held_out.confidence > threshold]
        lowest_accuracy = beta.ppf(RISK, right.sum(), 1 + (~right).sum())  # no number if no answer is right
        if lowest_accuracy >= wanted_accuracy:
            return threshold
    return None


def at_threshold(evaluation: Evaluation, threshold: float) -> dict[str, float]:
    """The threshold, the share of images that get an answer, and the accuracy of these answers, if there are any."""
    answered = evaluation.confidence > threshold
    accuracy = {"accuracy": float(evaluation.right[answered].mean())} if answered.any() else {}
    return {"threshold": threshold, "answered": float(answered.mean()), **accuracy}


def risk_by_coverage(evaluation: Evaluation) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares of the images (N,), ascending to 1, and of the wrong ones among so many surest images (N,)."""
    surest_first = np.argsort(-evaluation.confidence, kind="stable")
    counts = np.arange(1, len(surest_first) + 1)
    return counts / len(counts), np.cumsum(~evaluation.right[surest_first]) / counts
