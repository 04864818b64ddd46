"""How good predictions are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, f1_score, top_k_accuracy_score


@dataclass(frozen=True)
class Evaluation:
    """Predictions for labelled images, and the figures that follow from them."""

    classes: tuple[str, ...]
    labels: NDArray[np.int64]  # (N,)
    probabilities: NDArray[np.float64]  # (N, classes)

    @property
    def predicted(self) -> NDArray[np.int64]:
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def confidence(self) -> NDArray[np.float64]:
        """Probability of the predicted class (N,)."""
        return np.asarray(self.probabilities.max(axis=1))

    @property
    def true_probability(self) -> NDArray[np.float64]:
        """Probability of the true class (N,)."""
        return self.probabilities[np.arange(len(self.labels)), self.labels]

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Counts (classes, classes): rows true, columns predicted."""
        return np.asarray(confusion_matrix(self.labels, self.predicted, labels=range(len(self.classes))))

    @property
    def misclassified(self) -> NDArray[np.int64]:
        """Indices of the wrong predictions, the most confident first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")]

    @property
    def accuracy(self) -> float:
        return float((self.predicted == self.labels).mean())

    def metrics(self, calibration_bins: int) -> dict[str, float | dict[str, float]]:
        """Figures as fractions of 1; `loss` is the mean cross-entropy."""
        classes = range(len(self.classes))
        per_class = self.confusion.diagonal() / np.maximum(self.confusion.sum(axis=1), 1)
        return {
            "accuracy": self.accuracy,
            "loss": float(-np.log(np.maximum(self.true_probability, np.finfo(np.float64).tiny)).mean()),
            "top2_accuracy": float(top_k_accuracy_score(self.labels, self.probabilities, k=2, labels=classes)),
            "macro_f1": float(f1_score(self.labels, self.predicted, labels=classes, average="macro", zero_division=0)),
            "expected_calibration_error": expected_calibration_error(
                self.confidence, self.predicted == self.labels, calibration_bins
            ),
            "per_class_accuracy": dict(zip(self.classes, per_class.tolist(), strict=True)),
        }


@dataclass(frozen=True)
class CalibrationBins:
    """Predictions grouped by confidence, in bins of equal width that hold at least one."""

    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]  # mean in each bin
    accuracy: NDArray[np.float64]  # mean in each bin


def calibration_bins(confidence: NDArray[np.float64], correct: NDArray[np.bool_], num_bins: int) -> CalibrationBins:
    """Group predictions by confidence; a bin holds its upper edge, as in Guo et al. 2017."""
    numbers = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    counts = np.bincount(numbers, minlength=num_bins)
    filled = counts > 0
    means = [
        np.bincount(numbers, weights=x, minlength=num_bins)[filled] / counts[filled] for x in (confidence, correct)
    ]
    return CalibrationBins(counts[filled], *means)


def expected_calibration_error(confidence: NDArray[np.float64], correct: NDArray[np.bool_], num_bins: int) -> float:
    """Mean gap between confidence and accuracy over bins, weighted by size. Guo et al. 2017, arXiv:1706.04599."""
    bins = calibration_bins(confidence, correct, num_bins)
    return float((bins.counts * np.abs(bins.confidence - bins.accuracy)).sum() / bins.counts.sum())
